//! A FUSE file system whose server answers everything but what comes when a file is read or closed.

use crate::answer::Answer;
use crate::files::check;
use serde_json::json;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

/// Requests of linux/fuse.h.
const LOOKUP: u32 = 1;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const INIT: u32 = 26;
/// FORGET, READ, FLUSH, INTERRUPT and BATCH_FORGET: the first and the last want no answer, the others get none.
const UNANSWERED: [u32; 5] = [2, 15, 25, 36, 42];

const HEADER: usize = 40;
const DIRECTORY: u32 = 0o40_755;
const REGULAR: u32 = 0o100_644;

/// Serves such a file system at `at`, for ever.
pub fn serve(at: &str) -> Answer {
    let mut device = mount(at)?;
    println!("\"served\"");
    serve_all(&mut device);
    Ok(json!("ended"))
}

/// Has a file of one open that a child serves, or with `thread` this very process: then its descriptor comes before that of
/// the server, and is closed first. With `elsewhere`, a child has it so, in a mount namespace of its own.
pub fn hang(how: &str, at: &str) -> Answer {
    match how {
        "child" => {
            let mut device = mount(at)?;
            // SAFETY: the probe has one thread.
            if unsafe { libc::fork() } == 0 {
                serve_all(&mut device);
            }
        }
        // SAFETY: the same.
        "elsewhere" if unsafe { libc::fork() } != 0 => sleep(),
        _ => {
            if how == "elsewhere" {
                // SAFETY: takes an integer only.
                check(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into())?;
            }
            let first = File::open("/")?.into_raw_fd();
            let mut device = mount(at)?;
            std::thread::spawn(move || serve_all(&mut device));
            let file = File::open(format!("{at}/file"))?;
            // SAFETY: both are this process's own descriptors.
            check(unsafe { libc::dup2(file.as_raw_fd(), first) }.into())?;
            println!("\"open\"");
            sleep();
        }
    }
    hold(at)
}

/// Has a file of it open that somebody else serves.
pub fn hold(at: &str) -> Answer {
    let _file = File::open(format!("{at}/file"))?;
    println!("\"open\"");
    sleep()
}

/// Tells the service manager that it is ready, with a file of it, which a child serves.
pub fn tell(at: &str) -> Answer {
    let mut device = mount(at)?;
    // SAFETY: the probe has one thread.
    if unsafe { libc::fork() } == 0 {
        serve_all(&mut device);
    }
    let file = File::open(format!("{at}/file"))?;
    let name = std::env::var("NOTIFY_SOCKET").unwrap_or_default();
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    socket.connect(name)?;
    ocirt_sys::socket::send(socket.as_fd(), b"READY=1", &[file.as_fd()])
        .map_err(|error| std::io::Error::from_raw_os_error(error.errno as i32))?;
    println!("\"told\"");
    sleep()
}

fn sleep() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

fn mount(at: &str) -> std::io::Result<File> {
    let device = std::fs::OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open("/dev/fuse")?;
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    let (at, options) = (CString::new(at)?, CString::new(options)?);
    // SAFETY: all are NUL-terminated and outlive the call.
    let ret = unsafe { libc::mount(c"hung".as_ptr(), at.as_ptr(), c"fuse".as_ptr(), 0, options.as_ptr().cast()) };
    check(ret.into())?;
    Ok(device)
}

/// Answers until the connection is aborted.
fn serve_all(device: &mut File) {
    let mut request = vec![0; 1 << 17];
    while let Ok(length) = device.read(&mut request) {
        let Some(header) = request.get(..HEADER).filter(|_| length >= HEADER) else { return };
        let number = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let (opcode, unique, node) = (number(4), &header[8..16], number(16));
        if UNANSWERED.contains(&opcode) {
            continue;
        }
        let answer = answer(opcode, node);
        let error = if answer.is_some() { 0 } else { -libc::ENOSYS };
        let body = answer.unwrap_or_default();
        let whole = [&(16 + body.len() as u32).to_ne_bytes()[..], &error.to_ne_bytes(), unique, &body].concat();
        if device.write(&whole).is_err() {
            return;
        }
    }
}

/// The answer to a request about a node: 1 is the root directory, 2 the file.
fn answer(opcode: u32, node: u32) -> Option<Vec<u8>> {
    let zeros = |count: usize| vec![0; count];
    Some(match opcode {
        // Version 7.31, no readahead and no flags; 16 requests in the background, writes of 4096 bytes, a granularity of 1 ns.
        INIT => {
            let numbers = [7u32, 31, 0, 0, 16, 4096, 1];
            [numbers.map(u32::to_ne_bytes).concat(), zeros(36)].concat()
        }
        // Node and generation, how long name and attributes are valid, the attributes.
        LOOKUP => [&2u64.to_ne_bytes()[..], &zeros(8), &valid(), &valid(), &zeros(8), &attributes(2)].concat(),
        GETATTR => [&valid()[..], &zeros(8), &attributes(node)].concat(),
        OPEN => zeros(16),
        _ => return None,
    })
}

fn valid() -> [u8; 8] {
    100u64.to_ne_bytes()
}

/// Number, size and blocks; three times, in seconds and in the nanoseconds of each; mode, links, owner, and no more.
fn attributes(node: u32) -> Vec<u8> {
    let long = [u64::from(node), 4096, 8, 0, 0, 0].map(u64::to_ne_bytes).concat();
    let mode = if node == 1 { DIRECTORY } else { REGULAR };
    let short = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0].map(u32::to_ne_bytes).concat();
    [long, short].concat()
}
