use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, symlink};

use super::*;
use crate::sys::mount::FsContext;
use crate::sys::scratch::{Directory, in_mount_namespace};
use crate::sys::stdio;

/// A container's root with a devpts of its own.
fn with_devpts() -> Directory {
    let dir = Directory::new();
    let target = dir.root().target_dir(c"/dev/pts", Links::Refuse).unwrap();
    let devpts = FsContext::open(c"devpts").unwrap();
    devpts.set(c"newinstance", None).unwrap();
    devpts.set(c"ptmxmode", Some(c"0666")).unwrap();
    devpts.create().unwrap();
    attach(devpts.mount(0).unwrap().as_fd(), target.as_fd()).unwrap();
    dir
}

fn console(node: ConsoleNode) -> Console {
    let size: oci_spec::runtime::Box = serde_json::from_str(r#"{ "height": 30, "width": 100 }"#).unwrap();
    Console::compile(Some(&size), node, TerminalOutput::Shown).unwrap()
}

#[test]
fn the_master_arrives_with_its_name_and_the_terminal_is_stdio_and_dev_console() {
    in_mount_namespace(|| {
        let dir = with_devpts();
        let (ours, theirs) = socket::pair().unwrap();
        console(ConsoleNode::Bound).apply(&dir.root(), theirs.as_fd()).unwrap();
        let mut buffer = [0; 64];
        let mut received = socket::receive(ours.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..received.len], b"/dev/ptmx");
        let mut master = fs::File::from(received.fds[0].take().unwrap());
        assert_eq!(tty::size(master.as_fd()).unwrap(), tty::Size { rows: 30, columns: 100 });
        for stream in stdio::copies() {
            check_terminal(stream.unwrap().as_fd()).unwrap();
        }
        assert!(fs::metadata(dir.join("dev/console")).unwrap().file_type().is_char_device());
        fs::OpenOptions::new().write(true).open(dir.join("dev/console")).unwrap().write_all(b"hello").unwrap();
        let mut text = [0; 5];
        master.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hello");
    });
}

#[test]
fn without_a_devpts_there_is_no_terminal() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        fs::create_dir_all(dir.join("dev/pts")).unwrap();
        symlink("/etc/passwd", dir.join("dev/pts/ptmx")).unwrap();
        let (_ours, theirs) = socket::pair().unwrap();
        let fault = console(ConsoleNode::Bound).apply(&dir.root(), theirs.as_fd()).unwrap_err();
        assert_eq!(fault.to_string(), "fstatfs: no such device (/dev/pts is not a devpts: a terminal needs one)");
        assert!(!dir.join("dev/console").exists());
    });
}

#[test]
fn a_console_that_is_a_symlink_is_refused_and_its_target_untouched() {
    in_mount_namespace(|| {
        let dir = with_devpts();
        fs::write(dir.join("victim"), "data").unwrap();
        symlink("/victim", dir.join("dev/console")).unwrap();
        let (_ours, theirs) = socket::pair().unwrap();
        let fault = console(ConsoleNode::Bound).apply(&dir.root(), theirs.as_fd()).unwrap_err();
        assert_eq!(fault.errno, Errno::ELOOP);
        assert_eq!(fs::read(dir.join("victim")).unwrap(), b"data");
        symlink("/nowhere", dir.join("dangling")).unwrap();
        fs::rename(dir.join("dangling"), dir.join("dev/console")).unwrap();
        assert_eq!(console(ConsoleNode::Bound).apply(&dir.root(), theirs.as_fd()).unwrap_err().errno, Errno::ELOOP);
        assert!(!dir.join("nowhere").exists());
    });
}

#[test]
fn a_size_that_no_terminal_has_is_refused() {
    let size: oci_spec::runtime::Box = serde_json::from_str(r#"{ "height": 65536, "width": 1 }"#).unwrap();
    let error = Console::compile(Some(&size), ConsoleNode::Untouched, TerminalOutput::Shown).unwrap_err();
    assert_eq!(error.to_string(), "process.consoleSize.height: 65536: out of range");
    assert_eq!(console(ConsoleNode::Bound).to_string(), "console on /dev/console (100x30)");
}
