//! `ocirt exec`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::select;
use crate::lifecycle::{self, Changes, ExecOptions, Host};

/// Run another process in a container
///
/// The process is that of a process.json (--process), or COMMAND with what config.json said of the container's own
/// process when the container was created; flags change it. Exits with the status of the process, with 128 and the
/// number of the signal that ended it, or with 255 if there was none.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment, override_usage = "ocirt exec [OPTIONS] CONTAINER_ID [COMMAND [ARGUMENTS]]")]
pub struct Exec {
    /// File with the process to run, or - for standard input
    #[arg(short, long, value_name = "FILE", allow_hyphen_values = true)]
    process: Option<PathBuf>,

    /// Working directory in the container
    #[arg(long, value_name = "DIR", allow_hyphen_values = true)]
    cwd: Option<PathBuf>,

    /// Add NAME=VALUE to the environment; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE", allow_hyphen_values = true)]
    env: Vec<String>,

    /// Give the process a terminal
    #[arg(short, long)]
    tty: bool,

    /// Run as this user, and group if one is given
    #[arg(short, long, value_name = "UID[:GID]", value_parser = user, allow_hyphen_values = true)]
    user: Option<(u32, Option<u32>)>,

    /// Add a supplementary group; may be repeated
    #[arg(short = 'g', long, value_name = "GID", value_parser = id, allow_hyphen_values = true)]
    additional_gids: Vec<u32>,

    /// Add a capability; may be repeated
    #[arg(short, long, value_name = "CAPABILITY", allow_hyphen_values = true)]
    cap: Vec<String>,

    /// Do not let the process gain privileges
    #[arg(long)]
    no_new_privs: bool,

    /// AppArmor profile of the process
    #[arg(long, value_name = "PROFILE", allow_hyphen_values = true)]
    apparmor: Option<String>,

    /// SELinux label of the process
    #[arg(long, value_name = "LABEL", allow_hyphen_values = true)]
    process_label: Option<String>,

    /// Do not wait for the process
    #[arg(short, long)]
    detach: bool,

    /// File to write the pid of the process to
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    pid_file: Option<PathBuf>,

    /// Unix socket that receives the master of the terminal
    #[arg(long, value_name = "SOCKET", allow_hyphen_values = true)]
    console_socket: Option<PathBuf>,

    /// Unix socket that receives a pidfd of the process
    #[arg(long, value_name = "SOCKET", allow_hyphen_values = true)]
    pidfd_socket: Option<PathBuf>,

    /// Pass N descriptors above stdio to the process [default: 0]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, allow_hyphen_values = true)]
    preserve_fds: u32,

    /// Cgroup below the container's to run in; may be repeated, once for each controller of cgroup v1
    #[arg(long, value_name = "[CONTROLLER:]PATH", allow_hyphen_values = true)]
    cgroup: Vec<String>,

    /// Also in a paused container: the process waits until it is resumed
    #[arg(long)]
    ignore_paused: bool,

    /// Accepted as runc does; an exec is no subreaper
    #[arg(long, hide = true)]
    no_subreaper: bool,

    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,

    /// Program to run and its arguments
    #[arg(value_name = "COMMAND", num_args = 0.., allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Exec {
    pub fn execute(self, host: &Host) -> Result<i32> {
        let id = select::id("exec", &self.id)?;
        let options = self.options().with_context(|| format!("exec {id}"))?;
        lifecycle::exec(host, &id, &options).with_context(|| format!("exec {id}"))
    }

    fn options(self) -> Result<ExecOptions> {
        ensure!(self.process.is_some() || !self.command.is_empty(), "process args cannot be empty");
        let changes = Changes {
            args: self.command,
            cwd: self.cwd,
            env: self.env,
            terminal: self.tty,
            user: self.user,
            additional_gids: self.additional_gids,
            capabilities: self.cap,
            no_new_privileges: self.no_new_privs,
            apparmor: self.apparmor,
            selinux_label: self.process_label,
        };
        Ok(ExecOptions {
            process: self.process,
            changes,
            detach: self.detach,
            console_socket: self.console_socket,
            pidfd_socket: self.pidfd_socket,
            pid_file: self.pid_file,
            preserve_fds: self.preserve_fds,
            cgroups: self.cgroup,
            ignore_paused: self.ignore_paused,
        })
    }
}

/// `UID` or `UID:GID`. Nothing else is a user: what does not parse must not become root (CVE-2026-30892).
fn user(text: &str) -> Result<(u32, Option<u32>), String> {
    match text.split_once(':') {
        None => Ok((id(text)?, None)),
        Some((uid, gid)) => Ok((id(uid)?, Some(id(gid)?))),
    }
}

/// A decimal number below 2^32-1, which would be no id but "unchanged" to the kernel.
fn id(text: &str) -> Result<u32, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number.filter(|number| *number != u32::MAX).ok_or_else(|| format!("{text:?} is not a numeric id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CVE-2026-30892: crun took `-u 1` for uid 0.
    #[test]
    fn a_user_is_a_number_or_two() {
        assert_eq!(user("0"), Ok((0, None)));
        assert_eq!(user("1"), Ok((1, None)));
        assert_eq!(user("1000:27"), Ok((1000, Some(27))));
        assert_eq!(user("4294967294:0"), Ok((u32::MAX - 1, Some(0))));
        let junk =
            ["", ":", ":5", "5:", "-1", "1:-1", "+1", "4294967295", "4294967296", "1:4294967296", "0x10", "root"];
        for text in
            junk.into_iter().chain(["root:root", " 1", "1 ", "1:2:3", "1.0", "1e3", "18446744073709551616", "１"])
        {
            assert!(user(text).is_err_and(|error| error.ends_with("is not a numeric id")), "{text:?}");
        }
    }
}
