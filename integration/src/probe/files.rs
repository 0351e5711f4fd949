//! Verbs about paths: what is there, what may be read, written, made or mounted.

use crate::answer::Answer;
use serde_json::{Value, json};
use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::{Duration, Instant};

fn c(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

/// `Ok` for a return value other than -1, else errno.
pub fn check(ret: i64) -> io::Result<i64> {
    if ret == -1 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

/// At most 64 KiB, since some tests read endless devices.
pub fn read(path: &str) -> Answer {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(1 << 16).read_to_end(&mut bytes)?;
    Ok(json!(String::from_utf8_lossy(&bytes)))
}

/// Overwrites without creating: a missing file is an answer, too.
pub fn write(path: &str, text: &str) -> Answer {
    std::fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())?;
    Ok(json!("ok"))
}

pub fn open_for_writing(path: &str) -> Answer {
    std::fs::OpenOptions::new().write(true).open(path).map(|_| json!("ok"))
}

pub fn open(path: &str) -> Answer {
    std::fs::File::open(path).map(|_| json!("ok"))
}

/// Waits, ten seconds at most, until `path` exists.
pub fn wait_for(path: &str) -> Answer {
    let end = Instant::now() + Duration::from_secs(10);
    while std::fs::symlink_metadata(path).is_err() {
        if Instant::now() > end {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(json!("ok"))
}

pub fn list(path: &str) -> Answer {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(json!(names))
}

/// lstat: kind, mode as octal text, owner, device number as `major:minor`.
pub fn stat(path: &str) -> Answer {
    let meta = std::fs::symlink_metadata(path)?;
    let kind = match meta.file_type() {
        t if t.is_dir() => "dir",
        t if t.is_symlink() => "symlink",
        t if t.is_char_device() => "char",
        t if t.is_block_device() => "block",
        t if t.is_fifo() => "fifo",
        t if t.is_socket() => "socket",
        _ => "file",
    };
    let rdev = format!("{}:{}", libc::major(meta.rdev()), libc::minor(meta.rdev()));
    let mode = format!("{:04o}", meta.mode() & 0o7777);
    Ok(json!({ "kind": kind, "mode": mode, "uid": meta.uid(), "gid": meta.gid(), "rdev": rdev, "size": meta.size(),
               "ino": meta.ino(), "dev": meta.dev() }))
}

pub fn mknod(path: &str, kind: &str, major: &str, minor: &str) -> Answer {
    let format = match kind {
        "b" => libc::S_IFBLK,
        "p" => libc::S_IFIFO,
        _ => libc::S_IFCHR,
    };
    let device = libc::makedev(major.parse().unwrap_or(0), minor.parse().unwrap_or(0));
    // SAFETY: the path is NUL-terminated and outlives the call.
    check(unsafe { libc::mknod(c(path).as_ptr(), format | 0o600, device) }.into())?;
    Ok(json!("ok"))
}

/// Whether reading `path` (a file whose atime is in 1970) moved its atime.
pub fn atime_after_read(path: &str) -> Answer {
    let before = std::fs::metadata(path)?.atime();
    read(path)?;
    Ok(json!(std::fs::metadata(path)?.atime() != before))
}

/// /proc/self/mountinfo as objects, or only the topmost entry at `target`.
pub fn mounts(target: Option<&str>) -> Answer {
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    let mut all: Vec<Value> = text.lines().filter_map(mount_entry).collect();
    match target {
        None => Ok(json!(all)),
        Some(path) => {
            all.retain(|entry| entry["target"] == path);
            Ok(all.pop().unwrap_or(Value::Null))
        }
    }
}

/// proc_pid_mountinfo(5): nine fields around a list of tags that ends at `-`.
fn mount_entry(line: &str) -> Option<Value> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    let words = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    // The peer group's number differs at each run: only the word matters.
    let tags: Vec<&str> = left.get(6..)?.iter().map(|tag| tag.split(':').next().unwrap_or("")).collect();
    Some(json!({ "root": left.get(3)?, "target": left.get(4)?, "options": words(left.get(5)?), "propagation": tags,
                 "type": right.first()?, "source": right.get(1)?, "super": words(right.get(2)?) }))
}

/// mount(2) with the named flags (`bind,remount,rw…`).
pub fn mount(source: &str, target: &str, kind: &str, flags: &str) -> Answer {
    let bits = flags.split(',').fold(0, |bits, word| {
        bits | match word {
            "bind" => libc::MS_BIND,
            "remount" => libc::MS_REMOUNT,
            "ro" => libc::MS_RDONLY,
            "private" => libc::MS_PRIVATE,
            "shared" => libc::MS_SHARED,
            _ => 0,
        }
    });
    let (source, target, kind) = (c(source), c(target), c(kind));
    // SAFETY: all strings are NUL-terminated and outlive the call.
    let ret = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), bits, std::ptr::null()) };
    check(ret.into())?;
    Ok(json!("ok"))
}

pub fn umount(path: &str) -> Answer {
    // SAFETY: the path is NUL-terminated and outlives the call.
    check(unsafe { libc::umount2(c(path).as_ptr(), libc::MNT_DETACH) }.into())?;
    Ok(json!("ok"))
}

/// The file system's magic and mount flags (statfs(2)).
pub fn statfs(path: &str) -> Answer {
    // SAFETY: an all-zero statfs is a valid value.
    let mut buffer: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is NUL-terminated; the buffer is ours and of the right type.
    check(unsafe { libc::statfs(c(path).as_ptr(), &mut buffer) }.into())?;
    let size = u128::from(buffer.f_blocks) * u128::try_from(buffer.f_bsize).unwrap_or(0);
    Ok(json!({ "magic": format!("{:x}", buffer.f_type), "size": size as u64 }))
}
