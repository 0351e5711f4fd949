//! `process.apparmorProfile`, `process.selinuxLabel` and `process.noNewPrivileges`.
//!
//! A label that the host cannot give is an error: a container without its confinement must not start. The kernel files
//! are written through a procfs of the runtime's own, because a container's /proc may be a fake (CVE-2019-16884,
//! CVE-2025-52881).

use core::ffi::CStr;
use std::ffi::CString;
use std::fmt;
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result, bail};

use crate::error::field;
use crate::sys::{Errno, Fault, SysError, beneath, credentials, security};

/// The AppArmor profile that the next exec puts the process under.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Apparmor {
    profile: String,
    command: CString,
}

/// The prepared profile; none, or an empty one, changes nothing.
pub fn compile_apparmor(profile: Option<&str>) -> Result<Option<Apparmor>> {
    // Asked only by those who want one: each question is a look at the file system.
    apparmor(profile, security::apparmor_is_enabled)
}

fn apparmor(profile: Option<&str>, enabled: impl Fn() -> bool) -> Result<Option<Apparmor>> {
    let Some(profile) = profile.filter(|profile| !profile.is_empty()) else { return Ok(None) };
    if !enabled() {
        bail!(field!("process.apparmorProfile"; "{profile:?}: apparmor is disabled or not supported on this host"));
    }
    let command = CString::new(format!("exec {profile}")).context(field!("process.apparmorProfile"))?;
    Ok(Some(Apparmor { profile: profile.to_owned(), command }))
}

impl Apparmor {
    /// Asks for the profile through `proc`, the root of a procfs. The file in attr/apparmor (Linux 5.8) is AppArmor's
    /// alone; before, and without it, attr/exec is that of the one label module.
    pub fn apply(&self, proc: BorrowedFd<'_>) -> Result<(), Fault> {
        let own = beneath::write_own(proc, c"attr/apparmor/exec", self.command.to_bytes());
        match own {
            Err(SysError { call: "openat2", errno: Errno::ENOENT }) => {}
            other => return other.map_err(|error| failed(error, c"`/proc/self/attr/apparmor/exec`")),
        }
        let shared = beneath::write_own(proc, c"attr/exec", self.command.to_bytes());
        shared.map_err(|error| failed(error, c"`/proc/self/attr/exec`"))
    }
}

fn failed(error: SysError, file: &CStr) -> Fault {
    let mut fault = error.about(c"apparmor failed to apply profile: write ");
    fault.detail.push(file.to_bytes());
    fault
}

impl fmt::Display for Apparmor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set apparmor profile {}", self.profile)
    }
}

/// The SELinux label that the next exec gives the process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selinux {
    label: CString,
}

/// The prepared label; none, or an empty one, changes nothing.
pub fn compile_selinux(label: Option<&str>) -> Result<Option<Selinux>> {
    selinux(label, security::selinux_is_enabled)
}

fn selinux(label: Option<&str>, enabled: impl Fn() -> bool) -> Result<Option<Selinux>> {
    let Some(label) = label.filter(|label| !label.is_empty()) else { return Ok(None) };
    if !enabled() {
        bail!(field!("process.selinuxLabel"; "{label:?}: selinux is disabled or not supported on this host"));
    }
    Ok(Some(Selinux { label: CString::new(label).context(field!("process.selinuxLabel"))? }))
}

impl Selinux {
    /// Asks for the label through `proc`, the root of a procfs.
    pub fn apply(&self, proc: BorrowedFd<'_>) -> Result<(), Fault> {
        let written = beneath::write_own(proc, c"attr/exec", self.label.to_bytes());
        written.map_err(|error| error.about(c"`/proc/self/attr/exec`"))
    }
}

impl fmt::Display for Selinux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set selinux label {}", self.label.to_string_lossy())
    }
}

/// No exec gains privileges any more: `process.noNewPrivileges`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoNewPrivileges;

impl NoNewPrivileges {
    pub fn apply(&self) -> Result<(), Fault> {
        Ok(credentials::set_no_new_privs()?)
    }
}

impl fmt::Display for NoNewPrivileges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("set no_new_privs")
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::testing::{heap_free, in_a_child, skip, status_line};

    #[test]
    fn a_label_that_the_host_cannot_give_is_an_error_that_names_it() {
        let error = apparmor(Some("docker-default"), || false).expect_err("disabled").to_string();
        assert!(error.starts_with("process.apparmorProfile: \"docker-default\": "), "{error}");
        let error = selinux(Some("a:b:c:s0"), || false).expect_err("disabled").to_string();
        assert!(error.ends_with("selinux is disabled or not supported on this host"), "{error}");
    }

    #[test]
    fn an_empty_label_changes_nothing() {
        assert_eq!(apparmor(Some(""), || false).expect("nothing"), None);
        assert_eq!(selinux(None, || false).expect("nothing"), None);
    }

    #[test]
    fn a_refused_profile_names_the_kernel_file_in_backquotes() {
        if security::apparmor_is_enabled() {
            return skip("no-apparmor", "the profile might exist");
        }
        in_a_child(|| {
            let proc = std::fs::File::open("/proc")?;
            let profile = apparmor(Some("nope"), || true)?.expect("a profile");
            let fault = heap_free(|| profile.apply(proc.as_fd())).expect_err("no apparmor").to_string();
            assert!(fault.contains("apparmor failed to apply profile: write `/proc/self/attr/"), "{fault}");
            Ok(())
        });
    }

    #[test]
    fn no_new_privs_is_set() {
        in_a_child(|| {
            heap_free(|| NoNewPrivileges.apply())?;
            assert_eq!(status_line("NoNewPrivs")?, "1");
            Ok(())
        });
    }
}
