//! Which file a process of a container runs, as the host sees it: the runtime's own must be out of the container's reach
//! (CVE-2019-5736).

use crate::{host, runtime, wait};
use std::io::{PipeReader, PipeWriter, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

/// A standard output that takes nothing, so that a program that writes there stands still until the reader is gone.
pub fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("pipe");
    // SAFETY: no memory is passed.
    let size = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
    writer.write_all(&vec![b'x'; usize::try_from(size).expect("a size")]).expect("full");
    (reader, writer)
}

/// Waits until the process runs the program that was called as `name`; true if it has ended instead.
#[track_caller]
pub fn stands_still(pid: u32, name: &str) -> bool {
    let runs = || std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().contains(name);
    let has_ended = || host::process_state(pid).is_none_or(|letter| letter == 'Z');
    wait::eventually("the container's program runs", || has_ended() || runs());
    has_ended()
}

/// Panics if the process runs the very file that the host's callers run, and may write to it.
#[track_caller]
pub fn assert_out_of_reach(pid: u32) {
    let exe = format!("/proc/{pid}/exe");
    let (inside, own) = (std::fs::metadata(&exe).expect("exe"), std::fs::metadata(runtime::path()).expect("runtime"));
    let same = (inside.ino(), inside.dev()) == (own.ino(), own.dev());
    assert!(!same || on_readonly_mount(&exe), "process {pid} runs the host's own writable file");
}

/// statvfs(3) through the magic link, so of the mount that the file was opened on.
fn on_readonly_mount(path: &str) -> bool {
    let path = std::ffi::CString::new(path).expect("no NUL");
    // SAFETY: an all-zero statvfs is a valid value.
    let mut buffer: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is NUL-terminated; the buffer is ours.
    unsafe { libc::statvfs(path.as_ptr(), &mut buffer) == 0 && buffer.f_flag & libc::ST_RDONLY != 0 }
}
