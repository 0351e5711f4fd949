//! `ocirt checkpoint`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::select;
use crate::container::checkpoint::flags::{self, CgroupsMode, CriuFlags, NetworkLock};
use crate::container::checkpoint::request::DumpFlags;
use crate::lifecycle::{self, CheckpointOptions, Host};

/// Save the state of a running container
///
/// Has CRIU write the processes of a container to image files, from which `ocirt restore` makes them anew. Unless told
/// otherwise, the container ends thereby and is deleted.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Checkpoint {
    #[command(flatten)]
    common: Common,

    /// Directory of an earlier pre-dump, relative to the image directory
    #[arg(long, value_name = "DIR", allow_hyphen_values = true)]
    parent_path: Option<PathBuf>,

    /// Let the container run on
    #[arg(long)]
    leave_running: bool,

    /// Leave out TCP connections that are being made
    #[arg(long)]
    tcp_skip_in_flight: bool,

    /// Give open files that were unlinked a name
    #[arg(long)]
    link_remap: bool,

    /// Descriptor that gets a NUL byte when the server of lazy pages is ready
    #[arg(long, value_name = "FD", allow_hyphen_values = true)]
    status_fd: Option<i32>,

    /// ADDRESS:PORT of the server that takes the memory
    #[arg(long, value_name = "ADDRESS", allow_hyphen_values = true)]
    page_server: Option<String>,

    /// Save only the memory, and let the container run on
    #[arg(long)]
    pre_dump: bool,

    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,
}

/// What `checkpoint` and `restore` are told alike.
#[derive(Args, Debug)]
pub struct Common {
    /// Directory of the image files [default: checkpoint]
    #[arg(long, value_name = "DIR", allow_hyphen_values = true)]
    image_path: Option<PathBuf>,

    /// Directory of CRIU's log and working files [default: that of the images]
    #[arg(long, value_name = "DIR", allow_hyphen_values = true)]
    work_path: Option<PathBuf>,

    /// Allow open TCP connections
    #[arg(long)]
    tcp_established: bool,

    /// Allow unix sockets that are connected to outside
    #[arg(long)]
    ext_unix_sk: bool,

    /// Allow a shell's job: a session or terminal from outside
    #[arg(long)]
    shell_job: bool,

    /// Leave the memory where it is, and fetch it when it is needed
    #[arg(long)]
    lazy_pages: bool,

    /// Allow file locks
    #[arg(long)]
    file_locks: bool,

    /// Keep each page of memory in one image only
    #[arg(long)]
    auto_dedup: bool,

    /// What is done with cgroups: soft, full, strict or ignore [default: soft]
    #[arg(long, value_name = "MODE", allow_hyphen_values = true)]
    manage_cgroups_mode: Option<String>,

    /// Namespace of which the contents are not saved: network
    #[arg(long, value_name = "NAMESPACE", allow_hyphen_values = true)]
    empty_ns: Vec<String>,

    /// How packets are kept away meanwhile: iptables, nftables or skip
    #[arg(long, value_name = "METHOD", allow_hyphen_values = true)]
    network_lock: Option<String>,
}

impl Checkpoint {
    pub fn execute(self, host: &Host) -> Result<()> {
        let id = select::id("checkpoint", &self.id)?;
        let options = self.options().context("checkpoint")?;
        lifecycle::checkpoint(host, &id, &options).with_context(|| format!("checkpoint {id}"))
    }

    fn options(self) -> Result<CheckpointOptions> {
        // -1 is runc's way to say none.
        let status_fd = self.status_fd.filter(|fd| *fd != -1);
        let status_fd = status_fd.map(|fd| u32::try_from(fd).with_context(|| format!("--status-fd: {fd}")));
        if let Some(parent) = &self.parent_path {
            ensure!(parent.is_relative(), "--parent-path: {} is not relative to --image-path", parent.display());
        }
        let dump = DumpFlags {
            parent_path: self.parent_path,
            leave_running: self.leave_running,
            tcp_skip_in_flight: self.tcp_skip_in_flight,
            link_remap: self.link_remap,
            page_server: self.page_server.as_deref().map(flags::page_server).transpose()?,
            pre_dump: self.pre_dump,
        };
        Ok(CheckpointOptions { flags: self.common.flags()?, dump, status_fd: status_fd.transpose()? })
    }
}

impl Common {
    pub fn flags(self) -> Result<CriuFlags> {
        Ok(CriuFlags {
            image_path: self.image_path,
            work_path: self.work_path,
            tcp_established: self.tcp_established,
            ext_unix_sk: self.ext_unix_sk,
            shell_job: self.shell_job,
            lazy_pages: self.lazy_pages,
            file_locks: self.file_locks,
            auto_dedup: self.auto_dedup,
            cgroups: CgroupsMode::parse(self.manage_cgroups_mode.as_deref().unwrap_or_default())?,
            empty_namespaces: flags::empty_namespaces(&self.empty_ns)?,
            network_lock: self.network_lock.as_deref().map(NetworkLock::parse).transpose()?,
        })
    }
}
