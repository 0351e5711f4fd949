//! `ocirt features`.

use anyhow::Result;
use clap::Args;

use super::{json, version};
use crate::container::features::{self, Names};

/// Print what this runtime implements, as JSON
///
/// The object is that of runtime-spec's features.md; it does not depend on this host.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Features {}

impl Features {
    pub fn execute(self) -> Result<()> {
        let names = Names { mount_options: &MOUNT_OPTIONS, version: version::VERSION, commit: version::COMMIT };
        super::print(&(json::indented(&features::of(&names), "    ")? + "\n"))
    }
}

/// config.md, "Linux mount options": those that are not handed to the filesystem.
const MOUNT_OPTIONS: [&str; 60] = [
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];
