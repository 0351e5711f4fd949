//! `pause --reclaim`: the memory of a container that stands still is given back.

use std::path::PathBuf;

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::runtime::{Call, Output, call};
use ocirt_integration::{host, probe, tests};

tests![
    the_memory_of_a_paused_container_is_given_back,
    as_much_is_reclaimed_as_was_asked_for,
    the_time_ends_it,
    without_cgroup_v2_nothing_is_paused,
    wrong_values_are_refused,
];

const MEBIBYTE: u64 = 1 << 20;

fn pause(container: &Container, words: &[&str]) -> Output {
    Call::new(["pause"].into_iter().chain(words.iter().copied()).chain([container.id()])).run()
}

/// A directory on a disk: a tmpfs, as /tmp is on many machines, has no page cache that can be dropped.
struct Disk(PathBuf);

impl Disk {
    fn new() -> Self {
        let directory = PathBuf::from("/var/tmp").join(host::new_id());
        std::fs::create_dir(&directory).expect("a directory on the disk");
        Self(directory)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("the directory on the disk");
    }
}

/// A container with 64 MiB of page cache, nothing of which is still to be written to the disk.
fn full() -> (Container, Disk) {
    // The disk is root's.
    need_root();
    need_ocirt();
    need(Need::CgroupV2, host::is_cgroup2());
    let disk = Disk::new();
    let bundle = Bundle::new().mount("bind", disk.0.to_str().expect("a path"), "/disk", &["rbind"]);
    let container = bundle.create(probe!(cache "/disk/file", 64; tick 100000));
    container.start().ok();
    container.answers(3);
    assert!(usage(&container) > 64 * MEBIBYTE);
    (container, disk)
}

fn usage(container: &Container) -> u64 {
    container.cgroup_file("", "memory.current").parse().expect("a number")
}

fn the_memory_of_a_paused_container_is_given_back() {
    let (container, _disk) = full();
    let before = usage(&container);
    let output = pause(&container, &["--reclaim"]).ok();
    assert!(usage(&container) < before - 60 * MEBIBYTE, "{before} {}", usage(&container));
    let words: Vec<&str> = output.stdout.split(' ').collect();
    assert!(output.stdout.ends_with(" bytes; the kernel found no more\n"), "{}", output.stdout);
    assert_eq!((words[0], words[2]), ("reclaimed", "of"));
    assert!(words[1].parse::<u64>().expect("bytes") > 60 * MEBIBYTE, "{}", output.stdout);
    assert_eq!(container.status(), "paused");
    let printed = container.stdout();
    call(["resume", container.id()]).ok();
    ocirt_integration::wait::eventually("it goes on", || container.stdout() != printed);
}

fn as_much_is_reclaimed_as_was_asked_for() {
    let (container, _disk) = full();
    let output = pause(&container, &["--reclaim=16m", "--format=json"]).ok().json();
    let number = |name: &str| output[name].as_u64().expect("a number");
    let taken = number("before") - number("after");
    // The kernel takes pages in batches, and may take some more than it was asked for.
    assert!((15 * MEBIBYTE..32 * MEBIBYTE).contains(&taken), "{output}");
    assert_eq!((&output["id"], &output["end"]), (&container.id().into(), &"done".into()));
    assert_eq!(number("after"), usage(&container));
    // One that is paused already can give more.
    pause(&container, &["--reclaim=16m"]).ok();
    assert!(usage(&container) < number("after") - 15 * MEBIBYTE);
}

fn the_time_ends_it() {
    let (container, _disk) = full();
    let output = pause(&container, &["--reclaim", "--reclaim-timeout", "0"]).ok();
    assert!(output.stdout.ends_with(" bytes; the time is over\n"), "{}", output.stdout);
    assert_eq!(container.status(), "paused");
    assert!(usage(&container) > 64 * MEBIBYTE);
}

fn without_cgroup_v2_nothing_is_paused() {
    need_ocirt();
    need(Need::CgroupV1, !host::is_cgroup2());
    let container = Bundle::new().start(probe!(sleep 60));
    pause(&container, &["--reclaim"]).fails("memory.reclaim: only cgroup v2 has it");
    assert_eq!(container.status(), "running");
}

fn wrong_values_are_refused() {
    need_ocirt();
    let container = Bundle::new().start(probe!(sleep 60));
    for (words, message) in [
        (&["--reclaim=lots"][..], "--reclaim: invalid size: 'lots'"),
        (&["--reclaim=0"], "--reclaim: 0 bytes is nothing to reclaim"),
        (&["--reclaim="], "--reclaim: invalid size: ''"),
        (&["--reclaim", "--reclaim-timeout", "5"], "--reclaim-timeout: missing unit in duration \"5\""),
        (&["--reclaim-timeout", "5s"], "--reclaim"),
        (&["--format", "json"], "--reclaim"),
        (&["--reclaim", "--format", "xml"], "invalid format option"),
    ] {
        pause(&container, words).fails(message);
        assert_eq!(container.status(), "running", "{words:?}");
    }
}
