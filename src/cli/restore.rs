//! `ocirt restore`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::checkpoint::Common;
use super::select;
use crate::container::checkpoint::flags::CgroupsMode;
use crate::container::checkpoint::request::RestoreFlags;
use crate::lifecycle::{self, CreateOptions, Host, RestoreOptions, RunOptions};

/// Make a container of a saved one
///
/// Has CRIU make the processes anew that `ocirt checkpoint` saved, in a container with the configuration and the root
/// filesystem of a bundle. Unless detached, waits for the container's process, as `run` does.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Restore {
    #[command(flatten)]
    common: Common,

    /// Path of the bundle directory [default: the current one]
    #[arg(short, long, value_name = "DIR", default_value = ".", hide_default_value = true, allow_hyphen_values = true)]
    bundle: PathBuf,

    /// Unix socket that receives the master of the console's pseudoterminal
    #[arg(long, value_name = "SOCKET", allow_hyphen_values = true)]
    console_socket: Option<PathBuf>,

    /// File to write the pid of the container's process to
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    pid_file: Option<PathBuf>,

    /// Do not wait for the container's process
    #[arg(short, long)]
    detach: bool,

    /// Do not become the parent of processes that lost theirs
    #[arg(long)]
    no_subreaper: bool,

    /// Accepted as runc does; CRIU changes the root
    #[arg(long, hide = true)]
    no_pivot: bool,

    /// Close the TCP connections of the saved container
    #[arg(long)]
    tcp_close: bool,

    /// LSM profile of the restored processes: selinux:LABEL or apparmor:PROFILE
    #[arg(long, value_name = "PROFILE", allow_hyphen_values = true)]
    lsm_profile: Option<String>,

    /// SELinux label of the restored mounts, in place of the saved one
    #[arg(long, value_name = "LABEL", allow_hyphen_values = true)]
    lsm_mount_context: Option<String>,

    /// Name of the new container, unique on this host
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,
}

impl Restore {
    pub fn execute(self, host: &Host) -> Result<i32> {
        let id = select::id("restore", &self.id)?;
        let flags = self.common.flags().context("restore")?;
        if !matches!(flags.cgroups, CgroupsMode::Ignore | CgroupsMode::Default) {
            host.log.warn("--manage-cgroups-mode: has no effect at a restore: cgroups and limits are config.json's");
        }
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let options = RestoreOptions {
            flags,
            restore: RestoreFlags {
                tcp_close: self.tcp_close,
                lsm_profile: given(self.lsm_profile),
                lsm_mount_context: given(self.lsm_mount_context),
            },
            create: CreateOptions {
                bundle: self.bundle,
                console_socket: self.console_socket,
                pid_file: self.pid_file,
                ..CreateOptions::default()
            },
            run: RunOptions { detach: self.detach, no_subreaper: self.no_subreaper, ..RunOptions::default() },
        };
        lifecycle::restore(host, &id, &options).with_context(|| format!("restore {id}"))
    }
}
