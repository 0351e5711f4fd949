//! Clients whose open(2) of a FIFO is late: containerd's are goroutines, which on a busy machine may come after a short process.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::world::{World, until};

fn fifo(world: &World) -> PathBuf {
    let path = world.directory.join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    path
}

/// What a client reads that comes after `delay`; none if there is no end.
fn read_after(delay: Duration, path: &Path) -> mpsc::Receiver<String> {
    let (path, (sender, receiver)) = (path.to_owned(), mpsc::channel());
    thread::spawn(move || {
        thread::sleep(delay);
        let mut text = String::new();
        File::open(path).unwrap().read_to_string(&mut text).unwrap();
        sender.send(text)
    });
    receiver
}

const PATIENCE: Duration = Duration::from_secs(10);

/// Go's shim waits for the client as well, before it answers. Without that, the client of containerd's `Delete` gives up the
/// output of a process that has ended before the client's open(2).
#[test]
fn a_process_does_not_begin_before_its_client_is_there() {
    let mut world = World::new("echo heard");
    let path = fifo(&world);
    world.start().unwrap();
    let begun = Instant::now();
    let text = read_after(Duration::from_millis(300), &path);
    world.create(path.to_str().unwrap()).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    assert_eq!(world.run(), 0);
    assert_eq!(text.recv_timeout(PATIENCE).as_deref(), Ok("heard\n"));
}

/// Its open(2) waited for ever, and the output was lost: an ExecSync of Kubernetes did not come to an end.
#[test]
fn a_client_that_comes_after_the_end_gets_the_output_and_its_end() {
    let mut world = World::new("echo late");
    let path = fifo(&world);
    world.start().unwrap();
    world.create(path.to_str().unwrap()).unwrap();
    world.init("Start").unwrap();
    assert_eq!(world.wait(), 0);
    let text = read_after(Duration::from_millis(500), &path);
    assert_eq!(text.recv_timeout(PATIENCE).as_deref(), Ok("late\n"));
    world.init("Delete").unwrap();
}

/// One that never comes holds nobody up, and is forgotten with the process.
#[test]
fn a_client_that_never_comes_is_no_reason_not_to_run() {
    let mut world = World::new("echo to nobody");
    let path = fifo(&world);
    world.start().unwrap();
    let ends = |world: &World| std::fs::read_dir(format!("/proc/{}/fd", world.shim_pid())).unwrap().count();
    let before = ends(&world);
    let begun = Instant::now();
    world.create(path.to_str().unwrap()).unwrap();
    assert_eq!(world.run(), 0);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    until("its ends are closed", || ends(&world) <= before);
}
