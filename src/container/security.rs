//! `process.apparmorProfile` and `process.selinuxLabel`: what the Linux security module confines the program by, from
//! its execve on.

use std::ffi::CString;
use std::fmt;

use anyhow::{Context, Result, bail};

use crate::sys::path::ProcFd;
use crate::sys::{Errno, Fault};

/// AppArmor's profile for the next execve.
#[derive(PartialEq, Eq, Debug)]
pub struct AppArmor {
    command: CString,
}

/// SELinux's label for the next execve.
#[derive(PartialEq, Eq, Debug)]
pub struct SelinuxLabel {
    label: CString,
}

/// Prepares the profile; a host without AppArmor cannot give what is asked for. None for an unconfined container of
/// such a host.
pub fn compile_apparmor(profile: &str) -> Result<Option<AppArmor>> {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    if !enabled.is_ok_and(|text| text.starts_with('Y')) {
        if matches!(profile, "" | "unconfined") {
            return Ok(None);
        }
        bail!("process.apparmorProfile: AppArmor is not enabled on this host, so {profile:?} cannot be applied");
    }
    if profile.is_empty() {
        return Ok(None);
    }
    let command = CString::new(format!("exec {profile}")).context("process.apparmorProfile")?;
    Ok(Some(AppArmor { command }))
}

/// Prepares the label; `field` is where config.json has it. None for an empty one.
pub fn compile_selinux(field: &str, label: &str) -> Result<Option<SelinuxLabel>> {
    if label.is_empty() {
        return Ok(None);
    }
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        bail!("{field}: SELinux is not enabled on this host, so {label:?} cannot be applied");
    }
    Ok(Some(SelinuxLabel { label: CString::new(label).with_context(|| field.to_owned())? }))
}

impl AppArmor {
    /// Writes the profile through a procfs of our own (CVE-2019-16884, CVE-2025-52881): to AppArmor's own file, or,
    /// where LSMs are not stacked (before Linux 5.8), to the shared one.
    pub fn apply(&self, proc: &ProcFd) -> core::result::Result<(), Fault> {
        match proc.write_thread(c"attr/apparmor/exec", self.command.to_bytes()) {
            Err(fault) if fault.errno == Errno::ENOENT => proc.write_thread(c"attr/exec", self.command.to_bytes()),
            done => done,
        }
    }
}

impl SelinuxLabel {
    pub fn apply(&self, proc: &ProcFd) -> core::result::Result<(), Fault> {
        proc.write_thread(c"attr/exec", self.label.to_bytes())
    }
}

impl fmt::Display for AppArmor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = self.command.to_string_lossy();
        write!(f, "apparmor profile {}", command.trim_start_matches("exec "))
    }
}

impl fmt::Display for SelinuxLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "selinux label {}", self.label.to_string_lossy())
    }
}
