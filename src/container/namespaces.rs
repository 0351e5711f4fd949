//! `linux.namespaces`: which namespaces the container gets new, and which it joins (config-linux.md, "Namespaces").

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};

use crate::error::{Faults, field};
use crate::sys::namespace::{self, Kind, Kinds};
use crate::sys::{Errno, Fault, SysError};

/// The container's namespaces.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// Those to make.
    pub new: Kinds,
    /// Those to join, in the order in which that must happen.
    pub joined: Vec<Join>,
    /// Those that are not the runtime's own: new, or joined by a path to another one.
    pub private: Kinds,
    /// Those that a process must join to be where the container's first one is. Of user namespaces only one that is not
    /// the runtime's: nobody can enter the one that they are in.
    pub shared: Kinds,
}

/// A namespace to join. The descriptor was opened, and its kind verified, on the host.
#[derive(Debug)]
pub struct Join {
    kind: Kind,
    fd: OwnedFd,
    path: PathBuf,
}

/// New namespaces to enter by unshare(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unshare(pub Kinds);

/// The prepared namespaces. A kind given twice, a path that is not absolute, and a path to another kind of namespace
/// are errors.
pub fn compile(spec: &[LinuxNamespace], faults: &mut Faults) -> Result<Namespaces> {
    let mut namespaces = Namespaces::default();
    let mut seen = Kinds::NONE;
    for (index, entry) in spec.iter().enumerate() {
        let kind = kind(entry.typ());
        if seen.contains(kind) {
            faults.keep(Err::<(), _>(field!("linux.namespaces[{index}]"; "duplicate {kind} namespace").into()))?;
            continue;
        }
        seen = seen.with(kind);
        // An empty path is Go's way to leave it out.
        let Some(path) = entry.path().as_deref().filter(|path| !path.as_os_str().is_empty()) else {
            namespaces.new = namespaces.new.with(kind);
            namespaces.private = namespaces.private.with(kind);
            continue;
        };
        let joined = faults.keep(join(kind, path).with_context(|| field!("linux.namespaces[{index}].path")))?;
        // What cannot be joined is meant to be another's.
        if joined.as_ref().is_none_or(|(_, is_own)| !is_own) {
            namespaces.private = namespaces.private.with(kind);
        }
        namespaces.joined.extend(joined.map(|(join, _)| join));
    }
    namespaces.shared = if namespaces.private.contains(Kind::User) { seen } else { seen.without(Kind::User) };
    let order = |join: &Join| Kind::ALL.iter().position(|kind| *kind == join.kind);
    namespaces.joined.sort_by_key(order);
    Ok(namespaces)
}

/// As [`open`], of a namespace that a container may be in.
fn join(kind: Kind, path: &Path) -> Result<(Join, bool)> {
    let (join, is_own) = open(kind, path)?;
    ensure!(kind != Kind::Mount || is_own || !is_of_init(join.fd()), OF_INIT);
    Ok((join, is_own))
}

const fn kind(kind: LinuxNamespaceType) -> Kind {
    match kind {
        LinuxNamespaceType::Mount => Kind::Mount,
        LinuxNamespaceType::Cgroup => Kind::Cgroup,
        LinuxNamespaceType::Uts => Kind::Uts,
        LinuxNamespaceType::Ipc => Kind::Ipc,
        LinuxNamespaceType::User => Kind::User,
        LinuxNamespaceType::Pid => Kind::Pid,
        LinuxNamespaceType::Network => Kind::Net,
        LinuxNamespaceType::Time => Kind::Time,
    }
}

const INIT: &CStr = c"/proc/1/ns/mnt";
const OF_INIT: &str = "the mount namespace of the host's init, which would get the container's root directory";

/// Whether it is the mount namespace of process 1. Who may not look there may not join it either.
fn is_of_init(fd: BorrowedFd<'_>) -> bool {
    namespace::open(INIT).is_ok_and(|init| namespace::is_same(init.as_fd(), fd) == Ok(true))
}

/// The namespace at `path`, and whether it is the one the runtime is in.
pub fn open(kind: Kind, path: &Path) -> Result<(Join, bool)> {
    use std::os::unix::ffi::OsStrExt;
    if !path.is_absolute() {
        bail!("{} is not absolute", path.display());
    }
    let name = CString::new(path.as_os_str().as_bytes())?;
    let fd = namespace::open(&name).with_context(|| path.display().to_string())?;
    match namespace::kind_of(fd.as_fd()) {
        Ok(found) if found == kind => {}
        Ok(found) => bail!("{} is a {found} namespace, not {kind}", path.display()),
        Err(SysError { errno: Errno::ENOTTY, .. }) => bail!("{} is not a namespace", path.display()),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    }
    let is_own = namespace::is_own(fd.as_fd(), kind)?;
    Ok((Join { kind, fd, path: path.to_owned() }, is_own))
}

impl Namespaces {
    /// The namespace of `kind` to join, if there is one.
    pub fn join(&self, kind: Kind) -> Option<&Join> {
        self.joined.iter().find(|join| join.kind == kind)
    }
}

impl Join {
    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the caller there; of a pid namespace, only the processes that it makes afterwards.
    pub fn apply(&self) -> Result<(), Fault> {
        Ok(namespace::join(self.fd.as_fd(), self.kind)?)
    }
}

impl fmt::Display for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "join {} namespace {}", self.kind, self.path.display())
    }
}

/// The namespaces of the container's first process, to join all at once.
#[derive(Debug)]
pub struct JoinInit {
    pidfd: OwnedFd,
    kinds: Kinds,
}

impl JoinInit {
    pub fn new(pidfd: OwnedFd, kinds: Kinds) -> Self {
        Self { pidfd, kinds }
    }

    /// Moves the caller there.
    pub fn apply(&self) -> Result<(), Fault> {
        Ok(namespace::join_process(self.pidfd.as_fd(), self.kinds)?)
    }
}

impl fmt::Display for JoinInit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "join init's namespaces {}", self.kinds)
    }
}

impl Unshare {
    pub fn apply(&self) -> Result<(), Fault> {
        Ok(namespace::unshare(self.0)?)
    }
}

impl fmt::Display for Unshare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unshare {}", self.0)
    }
}

/// Brings up the loopback device of a new network namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loopback;

impl Loopback {
    pub fn apply(&self) -> Result<(), Fault> {
        Ok(crate::sys::net::loopback_up()?)
    }
}

impl fmt::Display for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bring up loopback")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{heap_free, in_a_child};

    fn compiled(json: &str) -> Result<Namespaces> {
        compile(&serde_json::from_str::<Vec<LinuxNamespace>>(json).expect("namespaces"), &mut Faults::first())
    }

    #[test]
    fn every_type_can_be_new() {
        let types = ["mount", "cgroup", "uts", "ipc", "user", "pid", "network", "time"];
        let json = format!("[{}]", types.map(|name| format!(r#"{{"type":"{name}"}}"#)).join(","));
        let namespaces = compiled(&json).expect("compiles");
        assert_eq!(namespaces.new.to_string(), "user, ipc, uts, net, pid, mnt, cgroup, time");
        assert_eq!(namespaces.private, namespaces.new);
    }

    #[test]
    fn a_duplicate_is_an_error_that_names_it() {
        let error = compiled(r#"[{"type":"pid"},{"type":"uts"},{"type":"pid","path":"/proc/self/ns/pid"}]"#);
        assert_eq!(error.expect_err("duplicate").to_string(), "linux.namespaces[2]: duplicate pid namespace");
    }

    #[test]
    fn a_path_to_another_type_is_an_error_that_says_which() {
        let error = compiled(r#"[{"type":"ipc","path":"/proc/self/ns/net"}]"#).expect_err("mismatch");
        let words = "linux.namespaces[0].path: /proc/self/ns/net is a net namespace, not ipc";
        assert_eq!(format!("{error:#}"), words);
    }

    #[test]
    fn what_is_no_namespace_is_an_error() {
        for (path, words) in [
            ("/etc/passwd", "/etc/passwd is not a namespace"),
            ("/dev/null", "/dev/null is not a namespace"),
            ("proc/self/ns/ipc", "proc/self/ns/ipc is not absolute"),
            ("/nope", "/nope: open: no such file or directory"),
        ] {
            let error = compiled(&format!(r#"[{{"type":"ipc","path":"{path}"}}]"#)).expect_err(path);
            assert_eq!(format!("{error:#}"), format!("linux.namespaces[0].path: {words}"));
        }
    }

    #[test]
    fn the_runtimes_own_namespace_is_not_private() {
        let namespaces = compiled(r#"[{"type":"network","path":"/proc/self/ns/net"},{"type":"uts","path":""}]"#);
        let namespaces = namespaces.expect("compiles");
        assert_eq!((namespaces.private.to_string(), namespaces.new.to_string()), ("uts".into(), "uts".into()));
        assert_eq!(
            namespaces.join(Kind::Net).map(Join::to_string).as_deref(),
            Some("join net namespace /proc/self/ns/net")
        );
    }

    #[test]
    fn a_joined_namespace_is_the_one_of_the_path() {
        in_a_child(|| {
            let first = std::fs::read_link("/proc/self/ns/uts")?;
            let join = compiled(r#"[{"type":"uts","path":"/proc/self/ns/uts"}]"#)?;
            Unshare(Kinds::NONE.with(Kind::Uts)).apply()?;
            assert_ne!(std::fs::read_link("/proc/self/ns/uts")?, first);
            for join in &join.joined {
                heap_free(|| join.apply())?;
            }
            assert_eq!(std::fs::read_link("/proc/self/ns/uts")?, first);
            let other = std::fs::File::open("/proc/self/ns/uts")?;
            Unshare(Kinds::NONE.with(Kind::Uts)).apply()?;
            assert!(!namespace::is_own(other.as_fd(), Kind::Uts)?);
            Ok(())
        });
    }

    /// Where process 1 may not be looked at, joining its namespace is refused before.
    #[test]
    fn the_mount_namespace_of_process_1_is_refused() {
        in_a_child(|| {
            Unshare(Kinds::NONE.with(Kind::Mount)).apply()?;
            let error = compiled(r#"[{"type":"mount","path":"/proc/1/ns/mnt"}]"#).expect_err("an error");
            let words = if namespace::open(INIT).is_ok() { OF_INIT } else { "/proc/1/ns/mnt: open: permission denied" };
            assert_eq!(format!("{error:#}"), format!("linux.namespaces[0].path: {words}"));
            let own = namespace::open(c"/proc/self/ns/mnt")?;
            assert!(!is_of_init(own.as_fd()) && compiled(r#"[{"type":"mount","path":"/proc/self/ns/mnt"}]"#).is_ok());
            Ok(())
        });
    }

    #[test]
    fn namespaces_are_joined_with_the_user_namespace_first() {
        let json = r#"[{"type":"mount","path":"/proc/self/ns/mnt"},{"type":"user","path":"/proc/self/ns/user"}]"#;
        let kinds: Vec<_> = compiled(json).expect("compiles").joined.iter().map(Join::kind).collect();
        assert_eq!(kinds, [Kind::User, Kind::Mount]);
    }

    #[test]
    fn loopback_comes_up_in_a_new_network_namespace() {
        in_a_child(|| {
            Unshare(Kinds::NONE.with(Kind::Net)).apply()?;
            assert!(!crate::sys::net::loopback_is_up()?);
            heap_free(|| Loopback.apply())?;
            assert!(crate::sys::net::loopback_is_up()?);
            Ok(())
        });
    }
}
