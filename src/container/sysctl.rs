//! `linux.sysctl`: kernel parameters that belong to a namespace of the container's (config-linux.md, "Sysctl").

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result, bail};

use crate::error::{Faults, field};
use crate::sys::namespace::{Kind, Kinds};
use crate::sys::{Fault, beneath};

/// What an ipc namespace holds beside fs.mqueue (ipc_namespaces(7)).
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// One parameter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sysctl {
    key: String,
    /// Below the root of a procfs: `sys/net/ipv4/ip_forward`.
    path: CString,
    value: String,
}

/// The prepared parameters in alphabetic order. Each must belong to a namespace that the container does not share with
/// the runtime, which `private` lists.
///
/// `domainname` is the field of that name, which the sysctl may not contradict.
pub fn compile(
    spec: &HashMap<String, String>,
    private: Kinds,
    domainname: Option<&str>,
    faults: &mut Faults,
) -> Result<Vec<Sysctl>> {
    let mut given: Vec<(&String, &String)> = spec.iter().collect();
    // Faults in the same order each time.
    given.sort_unstable();
    let mut sysctls: Vec<Sysctl> =
        faults.keep_each(given.into_iter().map(|(key, value)| one(key, value, private, domainname)))?;
    sysctls.sort_by(|one, other| one.key.cmp(&other.key));
    for pair in sysctls.windows(2) {
        if let [one, other] = pair
            && one.path == other.path
        {
            let key = &other.key;
            faults.keep(Err::<(), _>(field!("linux.sysctl.{key}"; "given twice, in two spellings").into()))?;
        }
    }
    Ok(sysctls)
}

fn one(key: &str, value: &str, private: Kinds, domainname: Option<&str>) -> Result<Sysctl> {
    let dotted = dotted(key);
    check(&dotted, private).with_context(|| field!("linux.sysctl.{key}"))?;
    if dotted == "kernel.domainname" && domainname.is_some_and(|name| name != value) {
        let words = "is not allowed as it conflicts with the OCI \"domainname\" field";
        bail!(field!("linux.sysctl.{key}"; "sysctl {dotted:?} {words}"));
    }
    let path = format!("sys/{}", swapped(&dotted));
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        bail!(field!("linux.sysctl.{key}"; "not the name of a sysctl"));
    }
    let path = CString::new(path).with_context(|| field!("linux.sysctl.{key}"))?;
    Ok(Sysctl { key: dotted, path, value: value.to_owned() })
}

/// The key with dots between its parts. As in sysctl(8), the first separator decides: after a "/", each "/" separates
/// and a "." belongs to a name, as that of eno2.100 in `net/ipv4/conf/eno2.100/forwarding`.
fn dotted(key: &str) -> String {
    match key.find(['.', '/']).map(|at| key[at..].starts_with('/')) {
        Some(true) => swapped(key),
        _ => key.to_owned(),
    }
}

/// Dots for slashes and slashes for dots.
fn swapped(key: &str) -> String {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    key.chars().map(swap).collect()
}

/// runc's rules, in runc's order and words.
fn check(key: &str, private: Kinds) -> Result<()> {
    if IPC.contains(&key) || key.starts_with("fs.mqueue.") {
        if !private.contains(Kind::Ipc) {
            bail!("sysctl {key:?} is not allowed in the hosts ipc namespace");
        }
    } else if key.starts_with("net.") {
        if !private.contains(Kind::Net) {
            bail!("sysctl {key:?} not allowed in host network namespace");
        }
    } else if key.starts_with("user.") {
        if !private.contains(Kind::User) {
            bail!("sysctl {key:?} is not allowed in the hosts user namespace");
        }
    } else if key == "kernel.hostname" && private.contains(Kind::Uts) {
        bail!("sysctl {key:?} is not allowed as it conflicts with the OCI \"hostname\" field");
    } else if key != "kernel.domainname" || !private.contains(Kind::Uts) {
        bail!("sysctl {key:?} is not in a separate kernel namespace");
    }
    Ok(())
}

impl Sysctl {
    /// Below the root of a procfs.
    pub fn path(&self) -> &CStr {
        &self.path
    }

    pub fn value(&self) -> &str {
        &self.value
    }

    /// Sets the parameter through `proc`, the root of a procfs that only the runtime can reach (CVE-2025-52881). The
    /// caller's namespaces decide whose parameter it is. Belongs before /proc/sys turns read-only.
    pub fn apply(&self, proc: BorrowedFd<'_>) -> Result<(), Fault> {
        let written = beneath::write_beneath(proc, &self.path, self.value.as_bytes());
        written.map_err(|error| error.about(&self.path))
    }
}

impl fmt::Display for Sysctl {
    /// `sysctl net.ipv4.ip_forward = 1`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sysctl {} = {}", self.key, self.value.escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::testing::{heap_free, in_a_child};
    use crate::sys::{Errno, namespace};

    const OWN: Kinds = Kinds::NONE.with(Kind::Net).with(Kind::Ipc).with(Kind::Uts).with(Kind::User);

    fn compiled(pairs: &[(&str, &str)], private: Kinds) -> Result<Vec<Sysctl>> {
        let map = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        compile(&map, private, None, &mut Faults::first())
    }

    fn error(key: &str, private: Kinds) -> String {
        format!("{:#}", compiled(&[(key, "1")], private).expect_err(key))
    }

    #[test]
    fn a_sysctl_reads_as_one_line_and_dots_in_names_are_kept() {
        for (key, line, path) in [
            ("net.ipv4.ip_forward", "sysctl net.ipv4.ip_forward = 1", c"sys/net/ipv4/ip_forward"),
            ("kernel/msgmax", "sysctl kernel.msgmax = 1", c"sys/kernel/msgmax"),
            (
                "net/ipv4/conf/eno2.100/forwarding",
                "sysctl net.ipv4.conf.eno2/100.forwarding = 1",
                c"sys/net/ipv4/conf/eno2.100/forwarding",
            ),
            (
                "net.ipv4.conf.eno2/100.forwarding",
                "sysctl net.ipv4.conf.eno2/100.forwarding = 1",
                c"sys/net/ipv4/conf/eno2.100/forwarding",
            ),
        ] {
            let sysctls = compiled(&[(key, "1")], OWN).expect(key);
            let [sysctl] = sysctls.as_slice() else { panic!("{key}: {sysctls:?}") };
            assert_eq!((sysctl.to_string().as_str(), sysctl.path.as_c_str()), (line, path));
        }
    }

    #[test]
    fn a_sysctl_needs_its_own_namespace() {
        let without = |kind| OWN.without(kind);
        for (key, kind, words) in [
            ("net.ipv4.ip_forward", Kind::Net, "sysctl \"net.ipv4.ip_forward\" not allowed in host network namespace"),
            ("kernel.shmmax", Kind::Ipc, "sysctl \"kernel.shmmax\" is not allowed in the hosts ipc namespace"),
            ("fs.mqueue.msg_max", Kind::Ipc, "sysctl \"fs.mqueue.msg_max\" is not allowed in the hosts ipc namespace"),
            ("user.max_ipc_namespaces", Kind::User, "is not allowed in the hosts user namespace"),
            ("kernel.domainname", Kind::Uts, "sysctl \"kernel.domainname\" is not in a separate kernel namespace"),
        ] {
            assert!(compiled(&[(key, "1")], OWN).is_ok(), "{key}");
            let error = error(key, without(kind));
            assert!(error.starts_with(&format!("linux.sysctl.{key}: ")) && error.ends_with(words), "{error}");
        }
    }

    #[test]
    fn a_global_sysctl_and_the_hostname_are_refused() {
        for key in ["kernel.panic", "vm.swappiness", "kernel/panic", "net", "fs.file-max", "kernel.core_pattern"] {
            assert!(error(key, OWN).ends_with("is not in a separate kernel namespace"), "{key}");
        }
        assert!(error("kernel/hostname", OWN).ends_with("conflicts with the OCI \"hostname\" field"));
    }

    #[test]
    fn no_name_leads_out_of_the_sysctls() {
        for key in ["net/../kernel/panic", "net..ipv4", "net//ipv4", "net.", "net/./x", "/net/ipv4", "net.ipv4.a\0b"] {
            let error = format!("{:#}", compiled(&[(key, "1")], OWN).unwrap_err());
            assert!(error.starts_with("linux.sysctl."), "{key:?}: {error}");
            assert!(
                ["not the name of a sysctl", "nul byte", "not in a separate kernel namespace"]
                    .iter()
                    .any(|words| error.contains(words)),
                "{key:?}: {error}"
            );
        }
    }

    #[test]
    fn two_spellings_of_one_sysctl_are_an_error() {
        let both = [("net.ipv4.ip_forward", "1"), ("net/ipv4/ip_forward", "0")];
        assert!(compiled(&both, OWN).expect_err("twice").to_string().ends_with("given twice, in two spellings"));
    }

    #[test]
    fn the_containers_namespace_changes_and_not_the_hosts() {
        let host = || std::fs::read_to_string("/proc/sys/kernel/msgmax").expect("a value");
        let before = host();
        in_a_child(|| {
            namespace::unshare(Kinds::NONE.with(Kind::Ipc).with(Kind::Net))?;
            let proc = std::fs::File::open("/proc")?;
            for sysctl in compiled(&[("kernel.msgmax", "4711"), ("net.ipv4.ip_forward", "1")], OWN)? {
                heap_free(|| sysctl.apply(proc.as_fd()))?;
            }
            assert_eq!(std::fs::read_to_string("/proc/sys/kernel/msgmax")?, "4711\n");
            let absent = compiled(&[("net.ipv4.nope", "1")], OWN)?.remove(0).apply(proc.as_fd());
            let fault = absent.expect_err("no such sysctl");
            assert_eq!(fault.to_string(), "openat2: no such file or directory (sys/net/ipv4/nope)");
            let invalid = compiled(&[("kernel.msgmax", "x")], OWN)?.remove(0).apply(proc.as_fd());
            assert_eq!(invalid.expect_err("no number").errno, Errno::EINVAL);
            Ok(())
        });
        assert_eq!(host(), before);
    }
}
