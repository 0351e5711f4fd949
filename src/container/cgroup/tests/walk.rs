//! The walk over the cgroups below one, where there are more of them than it remembers.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::kernel::Ground;
use crate::sys::cgroup_tree::{Walk, WalkStep};
use crate::sys::testing::skip;
use crate::sys::{Errno, cgroup, file};

fn walk(directory: &str) -> Walk {
    let path = CString::new(directory).unwrap();
    Walk::start(&path, Instant::now() + Duration::from_secs(20)).unwrap()
}

/// How many cgroups a walk enters, the first one included.
fn count(directory: &str) -> usize {
    let (mut walk, mut entered) = (walk(directory), BTreeSet::new());
    let mut steps = 0;
    while let Some(step) = walk.step().unwrap() {
        if let WalkStep::Enter(cgroup) = step {
            entered.insert(file::stat(cgroup).unwrap().inode);
            steps += 1;
        }
    }
    assert_eq!(entered.len(), steps, "one was entered twice");
    steps
}

/// 700 cgroups side by side; below one of them 40 levels, each with three more.
fn plant(directory: &str) -> usize {
    let make = |path: &str| std::fs::create_dir(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    (0..700).for_each(|number| make(&format!("{directory}/{number}")));
    let mut path = format!("{directory}/350");
    for _ in 0..40 {
        ["a", "b", "c"].iter().for_each(|name| make(&format!("{path}/{name}")));
        path.push_str("/b");
    }
    700 + 40 * 3
}

#[test]
fn every_cgroup_is_entered_once_and_left_behind_those_below_it() {
    let Some(place) = Ground::new("walk") else { return };
    let created = place.create("c", json!({})).unwrap();
    let directory = created.paths().directory_of("devices").unwrap().to_owned();
    let planted = plant(&directory);
    assert_eq!(count(&directory), planted + 1);
    let (mut walk, mut removed) = (walk(&directory), 0);
    while let Some(step) = walk.step().unwrap() {
        if let WalkStep::Leave { parent, name } = step {
            cgroup::remove_directory(parent, name).unwrap();
            removed += 1;
        }
    }
    assert_eq!((removed, count(&directory)), (planted, 1));
}

#[test]
fn a_walk_whose_time_is_over_says_so() {
    let Some(place) = Ground::new("walktime") else { return };
    let created = place.create("c", json!({})).unwrap();
    let directory = created.paths().directory_of("devices").unwrap();
    let mut walk = Walk::start(&CString::new(directory).unwrap(), Instant::now()).unwrap();
    assert!(matches!(walk.step(), Ok(Some(WalkStep::Enter(_)))), "the first one takes no time");
    assert_eq!(walk.step().unwrap_err().errno, Errno::ETIMEDOUT);
}

/// v1 only: v2 renames nothing.
#[test]
fn a_cgroup_that_is_renamed_all_the_time_is_entered() {
    let Some(place) = Ground::new("walkrename") else { return };
    let created = place.create("c", json!({})).unwrap();
    let directory = created.paths().directory_of("devices").unwrap().to_owned();
    let name = |number: usize| format!("{directory}/{number}");
    std::fs::create_dir_all(format!("{}/below", name(0))).unwrap();
    if std::fs::rename(name(0), name(1)).is_err() {
        return skip("cgroup1", "cgroup v2 renames nothing");
    }
    std::fs::create_dir(name(100)).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in (1..).take_while(|_| !done.load(Ordering::Relaxed)) {
                std::fs::rename(name(number % 50), name((number + 1) % 50)).unwrap();
                // A rename takes a few microseconds; some time has to be left for the one who looks.
                std::thread::sleep(Duration::from_micros(20));
            }
        });
        // The list of names itself may pass over one that is renamed while it is read.
        let found = (0..50).filter(|_| count(&directory) == 4).count();
        done.store(true, Ordering::Relaxed);
        assert!(found >= 40, "{found} of 50 walks found everything");
    });
}
