//! What /proc/PID/cmdline shows of this process: anybody in its pid namespace may read it, undumpable or not.

use core::ffi::{CStr, c_char};
use std::sync::OnceLock;

/// Where the kernel put the arguments of this program, one after the other: address and length.
static ARGUMENTS: OnceLock<(usize, usize)> = OnceLock::new();

/// Remembers where the arguments lie, which `main` was given. Called once, before anything else runs.
pub(super) fn remember(count: i32, arguments: *const *const c_char) {
    let Ok(count) = usize::try_from(count) else { return };
    let mut area = None;
    // SAFETY: the C library passes that many pointers.
    for argument in unsafe { core::slice::from_raw_parts(arguments, count) } {
        // SAFETY: each to a string that lives as long as the process.
        let length = unsafe { CStr::from_ptr(*argument) }.count_bytes() + 1;
        match area {
            None => area = Some((argument.addr(), length)),
            // The kernel leaves no gap (execve(2)); past one the memory would not be ours to write.
            Some((start, total)) if argument.addr() == start + total => area = Some((start, total + length)),
            Some(_) => break,
        }
    }
    if let Some(area) = area {
        let _ = ARGUMENTS.set(area);
    }
}

/// Shows `title` instead of the arguments, which are gone from then on: for a process that was cloned, whose memory is
/// its own. PR_SET_MM would take CAP_SYS_RESOURCE.
pub fn set(title: &CStr) {
    let Some(&(start, length)) = ARGUMENTS.get() else { return };
    let area = core::ptr::with_exposed_provenance_mut::<u8>(start);
    // SAFETY: the area is that of the arguments, which are writable memory of this process; it has one thread, and reads
    // its arguments no more.
    let area = unsafe { core::slice::from_raw_parts_mut(area, length) };
    area.fill(0);
    // With its last byte set, the kernel takes the area for one title, which ends at the first NUL (fs/proc/base.c,
    // get_mm_cmdline): no length of ours is left to count.
    if let Some((last, rest)) = area.split_last_mut() {
        *last = u8::from(rest.len() > title.count_bytes()) * b' ';
        rest.iter_mut().zip(title.to_bytes()).for_each(|(byte, of_title)| *byte = *of_title);
    }
}
