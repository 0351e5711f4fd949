//! What a test may need of the machine or of the runtime, and what this machine is declared to have.
//!
//! A test that lacks something ends as skipped, with the need's word. Where `OCIRT_HAS` lists that word, the skip is a
//! failure instead: a machine that is known to have strace cannot lose the tests that use it in silence. The words are
//! those of `needs.txt`, which the unit tests share.

use crate::{corner, runtime, user};

/// What a test may need. Each has one word in `needs.txt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    CgroupV1,
    CgroupV2,
    Cgroupfs,
    Systemd,
    CapSysResource,
    Ocirt,
    NetDevices,
    Strace,
    Shim,
    Criu,
    DirtyTracking,
    NoDirtyTracking,
    NoDelegation,
    Apparmor,
    UserManager,
    Root,
    NumaMaps,
    Keys,
    SpareDevice,
    DeviceNodes,
    SwapAccounting,
    NoResctrl,
    TimeNamespaces,
    BlockDevice,
    BlockWeight,
    NoLeafWeight,
    NoInfiniband,
    Rdma,
    OomScore,
    Fuse,
    MemfdNoexec,
    ExitInfo,
    Busybox,
}

impl Need {
    /// Its word in `OCIRT_HAS`.
    pub fn word(self) -> &'static str {
        match self {
            Need::CgroupV1 => "cgroup1",
            Need::CgroupV2 => "cgroup2",
            Need::Cgroupfs => "cgroupfs",
            Need::Systemd => "systemd",
            Need::CapSysResource => "sys-resource",
            Need::Ocirt => "ocirt",
            Need::NetDevices => "net-devices",
            Need::Strace => "strace",
            Need::Shim => "shim",
            Need::Criu => "criu",
            Need::DirtyTracking => "dirty-tracking",
            Need::NoDirtyTracking => "no-dirty-tracking",
            Need::NoDelegation => "no-delegation",
            Need::Apparmor => "apparmor",
            Need::UserManager => "user-manager",
            Need::Root => "root",
            Need::NumaMaps => "numa-maps",
            Need::Keys => "keys",
            Need::SpareDevice => "spare-device",
            Need::DeviceNodes => "device-nodes",
            Need::SwapAccounting => "swap-accounting",
            Need::NoResctrl => "no-resctrl",
            Need::TimeNamespaces => "time-namespaces",
            Need::BlockDevice => "block-device",
            Need::BlockWeight => "block-weight",
            Need::NoLeafWeight => "no-leaf-weight",
            Need::NoInfiniband => "no-infiniband",
            Need::Rdma => "rdma",
            Need::OomScore => "oom-score",
            Need::Fuse => "fuse",
            Need::MemfdNoexec => "memfd-noexec",
            Need::ExitInfo => "exit-info",
            Need::Busybox => "busybox",
        }
    }
}

/// The exit status of a test that is skipped.
pub const SKIPPED: i32 = 77;

/// Ends this test as skipped unless `met`.
pub fn need(what: Need, met: bool) {
    if !met {
        eprintln!("skipped: {}", what.word());
        corner::finish();
        std::process::exit(SKIPPED);
    }
}

/// Ends this test as skipped unless the runtime is ocirt: for what only ocirt promises.
pub fn need_ocirt() {
    need(Need::Ocirt, runtime::kind() == "ocirt");
}

/// Ends this test as skipped if the suite is the ordinary user's: for what the kernel gives to root alone.
pub fn need_root() {
    need(Need::Root, !user::has_suite());
}

/// The words of a list like that of `OCIRT_HAS`; an error names the first one that `needs.txt` does not have.
pub fn words(list: &str) -> Result<Vec<String>, String> {
    let words: Vec<String> = list.split_whitespace().map(str::to_owned).collect();
    match words.iter().find(|word| !is_known(word)) {
        Some(word) => Err(format!("OCIRT_HAS: {word:?} is none of the words of integration/needs.txt")),
        None => Ok(words),
    }
}

/// What this machine is declared to have: `OCIRT_HAS`.
pub fn declared() -> Result<Vec<String>, String> {
    words(&std::env::var("OCIRT_HAS").unwrap_or_default())
}

/// Whether `needs.txt` has this word.
pub fn is_known(word: &str) -> bool {
    table().any(|(known, _)| known == word)
}

/// The words, and what each means.
fn table() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = include_str!("../needs.txt").lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_means_one_thing() {
        let mut all: Vec<_> = table().map(|(word, _)| word).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), table().count());
        assert!(table().all(|(_, meaning)| !meaning.trim().is_empty()));
        assert!(is_known(Need::Fuse.word()) && is_known(Need::CgroupV1.word()));
    }

    #[test]
    fn a_word_that_nothing_has_is_refused() {
        assert_eq!(words("cgroup1  strace"), Ok(vec!["cgroup1".to_owned(), "strace".to_owned()]));
        assert!(words("cgroup1 starce").is_err_and(|error| error.contains("starce")));
    }
}
