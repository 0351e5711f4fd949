//! Who gets the signals of an open file (F_SETOWN_EX), by CRIU's images: CRIU sets that as root, for any process that it sees,
//! and with the ids of the image, by which the kernel decides later whether the signal may be sent.
//!
//! Field numbers of CRIU 4.1's images/fdinfo.proto, fown.proto, pstree.proto, core.proto and creds.proto.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result, ensure};

use super::entries::{messages, names};
use super::numbers::May;
use super::wire::Fields;

/// The kinds of open files in `file_entry`, and where each has its `fown_entry`.
const OWNERS: [(u32, u32); 17] = [
    (3, 5),
    (4, 13),
    (6, 6),
    (7, 11),
    (8, 3),
    (9, 3),
    (10, 3),
    (12, 3),
    (13, 4),
    (14, 3),
    (15, 5),
    (16, 9),
    (18, 4),
    (19, 4),
    (20, 4),
    (21, 4),
    (22, 5),
];

/// Fails where an open file has an owner that is no process of the images, or one by the ids of another user.
pub fn check(images: BorrowedFd, may: &May) -> Result<()> {
    let (mut processes, mut users) = (BTreeSet::new(), BTreeSet::from([may.user]));
    for process in messages(images, "pstree.img")? {
        let process = Fields::parse(&process)?;
        // Threads are made after files are opened: until then, another process may have the number. So may a group without
        // a leader. In a pid namespace of the container's there are no others.
        let fields = if may.own_processes { &[1, 3, 4, 5][..] } else { &[1] };
        for field in fields {
            processes.extend(process.numbers(*field)?);
        }
    }
    if !may.keeps_user {
        for name in names(images)?.iter().filter(|name| name.starts_with("core-")) {
            users.extend(ids(images, name).with_context(|| format!("--image-path: {name}"))?);
        }
    }
    for file in messages(images, "files.img")? {
        owner(&file, &processes, &users).context("--image-path: files.img")?;
    }
    Ok(())
}

/// The user ids of a thread: real, effective, saved and of the file system.
fn ids(images: BorrowedFd, name: &str) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for core in messages(images, name)? {
        for thread in Fields::parse(&core)?.messages(5)? {
            for credentials in thread.messages(10)? {
                for field in [1, 3, 5, 7] {
                    ids.extend(credentials.numbers(field)?);
                }
            }
        }
    }
    Ok(ids)
}

/// A message that is there twice is one for CRIU, of the fields of both.
fn owner(file: &[u8], processes: &BTreeSet<u32>, users: &BTreeSet<u32>) -> Result<()> {
    let file = Fields::parse(file)?;
    let mut owners = Vec::new();
    for (kind, owner) in OWNERS {
        for file in file.messages(kind)? {
            owners.extend(file.messages(owner)?);
        }
    }
    let all = |fields: &[u32]| -> Result<Vec<u32>> {
        let numbers = fields.iter().flat_map(|field| owners.iter().map(|owner| owner.numbers(*field)));
        Ok(numbers.collect::<Result<Vec<_>>>()?.concat())
    };
    let pids = all(&[5])?;
    // Without a process, nothing is set.
    if pids.iter().all(|pid| *pid == 0) {
        return Ok(());
    }
    let strange = pids.iter().find(|pid| **pid != 0 && !processes.contains(pid));
    ensure!(
        strange.is_none(),
        "an open file whose signals go to process {}, which is none of the images",
        strange.unwrap_or(&0)
    );
    let strange = all(&[1, 2])?.into_iter().find(|user| !users.contains(user));
    ensure!(
        strange.is_none(),
        "an open file whose signals are sent as user {}, which no process is",
        strange.unwrap_or(0)
    );
    Ok(())
}
