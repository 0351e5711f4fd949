//! `ocirt create`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::select;
use crate::lifecycle::{self, CreateOptions, Host, Supervision};

/// Create a container
///
/// Makes a container from a bundle, up to the point where its process would be executed; `ocirt start` lets it. The
/// bundle is a directory with a config.json, which says what to run and how, and a root filesystem.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Create {
    #[command(flatten)]
    pub options: CreateFlags,

    /// Accepted as crun does; only `run` has a subreaper
    #[arg(long, hide = true)]
    no_subreaper: bool,

    /// Name of the new container, unique on this host
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,
}

/// What `create`, `run` and `plan` are told about the new container.
#[derive(Args, Debug)]
pub struct CreateFlags {
    /// Path of the bundle directory [default: the current one]
    #[arg(short, long, value_name = "DIR", default_value = ".", hide_default_value = true, allow_hyphen_values = true)]
    pub bundle: PathBuf,

    /// Configuration to use in place of the bundle's config.json
    #[arg(short = 'f', long, value_name = "FILE", allow_hyphen_values = true)]
    pub config: Option<PathBuf>,

    /// Unix socket that receives the master of the console's pseudoterminal
    #[arg(short, long, value_name = "SOCKET", allow_hyphen_values = true)]
    pub console_socket: Option<PathBuf>,

    /// Unix socket that receives a pidfd of the container's process
    #[arg(long, value_name = "SOCKET", allow_hyphen_values = true)]
    pub pidfd_socket: Option<PathBuf>,

    /// File to write the pid of the container's process to
    #[arg(short, long, value_name = "FILE", allow_hyphen_values = true)]
    pub pid_file: Option<PathBuf>,

    /// Do not use pivot_root; for a root filesystem on a ramdisk
    #[arg(long)]
    pub no_pivot: bool,

    /// Do not make a new session keyring; the container inherits the caller's
    #[arg(long)]
    pub no_new_keyring: bool,

    /// Pass N descriptors above stdio to the container [default: 0]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, allow_hyphen_values = true)]
    pub preserve_fds: u32,
}

impl Create {
    pub fn execute(self, host: &Host) -> Result<()> {
        let id = select::id("create", &self.id)?;
        let options = self.options.supervised().with_context(|| format!("create {id}"))?;
        lifecycle::create(host, &id, &options).with_context(|| format!("create {id}"))
    }
}

impl CreateFlags {
    /// The flags, and what a supervisor of the runtime has for the container.
    pub fn supervised(self) -> Result<CreateOptions> {
        Ok(CreateOptions {
            bundle: self.bundle,
            config: self.config,
            console_socket: self.console_socket,
            pidfd_socket: self.pidfd_socket,
            pid_file: self.pid_file,
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: self.preserve_fds,
            supervision: Supervision::of_environment()?,
        })
    }
}
