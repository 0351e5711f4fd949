//! The flags before the command.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;

use crate::container::cgroup::Manager;
use crate::lifecycle::disk::root;
use crate::lifecycle::{Host, Rootless};
use crate::log::{Format, Level, Log};
use crate::trace::Recorder;

/// The `--log` that `--systemd-log` means.
pub const JOURNAL: &str = "journald:ocirt";

#[derive(Args, Debug)]
pub struct Global {
    /// Directory that holds the containers' states; it should be on a tmpfs
    /// [default: /run/ocirt, or $XDG_RUNTIME_DIR/ocirt for users other than root]
    #[arg(short, long, value_name = "DIR", verbatim_doc_comment, allow_hyphen_values = true)]
    pub root: Option<PathBuf>,

    /// Where log lines go: [file:]PATH to append to, journald:ID or syslog:ID [default: stderr]
    #[arg(short, long, value_name = "PLACE", allow_hyphen_values = true)]
    pub log: Option<OsString>,

    /// Log to journald, as youki has it; the same as --log journald:ocirt
    #[arg(long, hide = true)]
    pub systemd_log: bool,

    /// Format of log lines: text or json [default: text]
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_default_value = true, allow_hyphen_values = true)]
    pub log_format: String,

    /// What to log: error, warning, info or debug [default: info]
    #[arg(long, value_name = "LEVEL", default_value = "info", hide_default_value = true, allow_hyphen_values = true)]
    pub log_level: String,

    /// Log everything, the same as --log-level debug
    #[arg(long)]
    pub debug: bool,

    /// File to append the spans of what is done to, for `ocirt trace` and other viewers of Chrome's trace events
    /// [default: $OCIRT_TRACE]
    #[arg(long, value_name = "FILE", verbatim_doc_comment, allow_hyphen_values = true)]
    pub trace: Option<OsString>,

    /// Let systemd make the cgroups; cgroupsPath is slice:prefix:name then
    #[arg(short, long)]
    pub systemd_cgroup: bool,

    /// Who makes the cgroups: cgroupfs, systemd or disabled [default: cgroupfs]
    #[arg(
        long,
        value_name = "MANAGER",
        default_value = "cgroupfs",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub cgroup_manager: String,

    /// Ignore cgroup permission errors: true, false or auto [default: auto]
    #[arg(long, value_name = "BOOL", default_value = "auto", hide_default_value = true, allow_hyphen_values = true)]
    pub rootless: String,

    /// File with what every container of this host has at least, which must be root's
    /// [default: /etc/ocirt/floor.json, if it is there]
    #[arg(long, value_name = "FILE", verbatim_doc_comment, allow_hyphen_values = true)]
    pub floor: Option<PathBuf>,

    /// Accepted for older engines, and ignored
    #[arg(long, value_name = "PATH", hide = true, allow_hyphen_values = true)]
    pub criu: Option<PathBuf>,

    /// Print the version
    #[arg(short = 'v', short_alias = 'V', long)]
    pub version: bool,
}

impl Global {
    pub fn log(&self) -> Result<Log> {
        let format = Format::parse(&self.log_format)?;
        let level = if self.debug { Level::Debug } else { Level::parse(&self.log_level)? };
        let place = match &self.log {
            Some(_) if self.systemd_log => bail!("--systemd-log: lines go to one place, and --log names another"),
            None if self.systemd_log => Some(OsStr::new(JOURNAL)),
            place => place.as_deref(),
        };
        Log::open(place, format, level)
    }

    /// The recorder of a command's spans.
    pub fn recorder(&self) -> Result<Recorder> {
        let place = self.trace.clone().or_else(|| std::env::var_os("OCIRT_TRACE"));
        match place.filter(|place| !place.is_empty()) {
            Some(place) => Recorder::open(&place, std::env::var_os("TRACEPARENT").as_deref()),
            None => Ok(Recorder::off()),
        }
    }

    pub fn host<'a>(&'a self, log: &'a Log, recorder: &'a Recorder) -> Result<Host<'a>> {
        if self.criu.is_some() {
            log.warn("--criu is ignored");
        }
        let root = match &self.root {
            Some(root) => absolute_root(root)?,
            None => root::default_root()?,
        };
        let (cgroup_manager, rootless) = (self.manager()?, rootless(&self.rootless)?);
        Ok(Host {
            root,
            cgroup_manager,
            rootless,
            umask: root::take_umask(),
            floor: self.floor.as_deref(),
            log,
            recorder,
        })
    }

    fn manager(&self) -> Result<Manager> {
        match self.cgroup_manager.as_str() {
            "systemd" => Ok(Manager::Systemd),
            "cgroupfs" if self.systemd_cgroup => Ok(Manager::Systemd),
            "cgroupfs" => Ok(Manager::Cgroupfs),
            "disabled" => Ok(Manager::Disabled),
            other => bail!("invalid cgroup-manager: {other}"),
        }
    }
}

fn rootless(text: &str) -> Result<Rootless> {
    match text {
        "true" => Ok(Rootless::True),
        "false" => Ok(Rootless::False),
        "auto" | "" => Ok(Rootless::Auto),
        other => bail!("invalid rootless: {other}, must be true, false or auto"),
    }
}

/// The root directory from `/` on. `/` itself is refused, as by runc: every directory of the host would be a container
/// to `list` and `delete`.
fn absolute_root(path: &Path) -> Result<PathBuf> {
    let Ok(path) = std::path::absolute(path) else { bail!("--root: empty path") };
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if clean == Path::new("/") {
        bail!("Option --root argument should not be set to /");
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_root_directory_is_no_state_directory() {
        for path in ["/", "//", "/.", "/a/..", "/../"] {
            assert_eq!(
                absolute_root(Path::new(path)).unwrap_err().to_string(),
                "Option --root argument should not be set to /",
                "{path}"
            );
        }
        assert_eq!(absolute_root(Path::new("")).unwrap_err().to_string(), "--root: empty path");
        assert_eq!(absolute_root(Path::new("/run//x/../y/")).unwrap(), Path::new("/run/y"));
        assert!(absolute_root(Path::new("relative")).unwrap().is_absolute());
    }

    #[test]
    fn rootless_is_one_of_three() {
        assert_eq!(rootless("true").unwrap(), Rootless::True);
        assert_eq!(rootless("auto").unwrap(), Rootless::Auto);
        assert_eq!(rootless("foo").unwrap_err().to_string(), "invalid rootless: foo, must be true, false or auto");
    }
}
