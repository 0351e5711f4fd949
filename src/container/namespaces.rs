//! `linux.namespaces` and `linux.timeOffsets`: which namespaces init is born in, and which it joins
//! (config-linux.md, "Namespaces"; namespaces(7)).

use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{Linux, LinuxNamespaceType};

use crate::sys::namespace::{self, Kind, Kinds};
use crate::sys::{self, Fault, beneath, path::ProcFd};

/// Every namespace of the container, decided.
#[derive(Debug)]
pub struct Namespaces {
    /// Those that are new, made by clone3(2).
    pub new: Kinds,
    /// Those that exist, in the order in which they are joined; without the pid namespace.
    pub joined: Vec<Join>,
    /// An existing pid namespace: a process is born in it, and cannot enter it later.
    pub pid: Option<PidNamespace>,
    pub time_offsets: Option<TimeOffsets>,
}

/// An existing namespace.
#[derive(Debug)]
pub struct Join {
    /// The place in config.json, e.g. `linux.namespaces[2]`.
    pub field: String,
    kind: Kind,
    path: String,
    fd: OwnedFd,
}

/// An existing pid namespace.
#[derive(Debug)]
pub struct PidNamespace(Join);

/// While this lives, the caller's children are born in another pid namespace.
#[derive(Debug)]
pub struct InPidNamespace(OwnedFd);

/// How far the clocks of a new time namespace are from the host's (time_namespaces(7)).
#[derive(Debug)]
pub struct TimeOffsets {
    /// The lines of /proc/self/timens_offsets.
    lines: CString,
}

/// Prepares the namespaces; opens those that are joined and checks that they are of their kind.
pub fn compile(linux: &Linux) -> Result<Namespaces> {
    let mut namespaces = Namespaces { new: Kinds::NONE, joined: Vec::new(), pid: None, time_offsets: None };
    let mut seen = Kinds::NONE;
    for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
        let field = format!("linux.namespaces[{index}]");
        let kind = kind(namespace.typ());
        if seen.contains(kind) {
            bail!("{field}: duplicate namespace {}", namespace.typ());
        }
        seen = seen.with(kind);
        match namespace.path().as_deref().and_then(|path| path.to_str()).filter(|path| !path.is_empty()) {
            None => namespaces.new = namespaces.new.with(kind),
            Some(path) => {
                let join = open(field, kind, path)?;
                match kind {
                    Kind::Pid => namespaces.pid = Some(PidNamespace(join)),
                    _ => namespaces.joined.push(join),
                }
            }
        }
    }
    // User first: it gives the right to the others.
    namespaces.joined.sort_by_key(|join| Kind::ALL.iter().position(|kind| *kind == join.kind));
    namespaces.time_offsets = time_offsets(linux, namespaces.new)?;
    Ok(namespaces)
}

fn kind(name: LinuxNamespaceType) -> Kind {
    match name {
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

fn open(field: String, kind: Kind, path: &str) -> Result<Join> {
    let place = || format!("{field}.path: {path}");
    let fd: OwnedFd = File::open(path).map_err(|error| sys::SysError::io("open", &error)).with_context(place)?.into();
    match namespace::kind_of(fd.as_fd()) {
        Ok(found) if found == kind => Ok(Join { field, kind, path: path.to_owned(), fd }),
        Ok(found) => bail!("{}: is a {found} namespace, not {kind}", place()),
        Err(_) => bail!("{}: is not a namespace", place()),
    }
}

fn time_offsets(linux: &Linux, new: Kinds) -> Result<Option<TimeOffsets>> {
    let Some(offsets) = linux.time_offsets().as_ref().filter(|offsets| !offsets.is_empty()) else { return Ok(None) };
    if !new.contains(Kind::Time) {
        bail!("linux.timeOffsets: needs a new time namespace in linux.namespaces");
    }
    let mut lines: Vec<String> = Vec::new();
    for (clock, offset) in offsets {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            bail!("linux.timeOffsets.{clock}: unknown clock (monotonic and boottime have offsets)");
        }
        let nanoseconds = offset.nanosecs().unwrap_or(0);
        if nanoseconds >= 1_000_000_000 {
            bail!("linux.timeOffsets.{clock}.nanosecs: {nanoseconds} is a second or more");
        }
        lines.push(format!("{clock} {} {nanoseconds}\n", offset.secs().unwrap_or(0)));
    }
    lines.sort();
    Ok(Some(TimeOffsets { lines: CString::new(lines.concat())? }))
}

impl Namespaces {
    /// Those with which init is cloned: not the cgroup namespace, whose root is the cgroup that init is in when it
    /// makes it; and not a time namespace with offsets, which can only be set before somebody is in it.
    pub fn cloned(&self) -> Kinds {
        match self.time_offsets {
            Some(_) => self.new.without(Kind::Cgroup).without(Kind::Time),
            None => self.new.without(Kind::Cgroup),
        }
    }

    /// Whether the container has a namespace of this kind that is not the runtime's.
    pub fn has(&self, kind: Kind) -> bool {
        self.new.contains(kind)
            || self.joined.iter().any(|join| join.kind == kind)
            || (kind == Kind::Pid && self.pid.is_some())
    }
}

impl Join {
    pub fn apply(&self) -> core::result::Result<(), Fault> {
        Ok(namespace::join(self.fd.as_fd(), self.kind)?)
    }
}

impl PidNamespace {
    /// Has the caller's next children born in this namespace, until the value returned is dropped.
    pub fn enter(&self) -> Result<InPidNamespace> {
        let own = File::open("/proc/self/ns/pid").context("/proc/self/ns/pid")?;
        namespace::join(self.0.fd.as_fd(), Kind::Pid).with_context(|| format!("{}.path: {}", self.0.field, self.0.path))?;
        Ok(InPidNamespace(own.into()))
    }
}

impl Drop for InPidNamespace {
    fn drop(&mut self) {
        // Back to where we came from: the right that let us go is still ours.
        let _ = namespace::join(self.0.as_fd(), Kind::Pid);
    }
}

impl TimeOffsets {
    /// Makes the time namespace, sets its clocks and enters it. Needs the host's procfs, or any with this process in it.
    pub fn apply(&self, proc: &ProcFd) -> core::result::Result<(), Fault> {
        namespace::unshare(Kinds::NONE.with(Kind::Time))?;
        let written = beneath::write_own(proc.as_fd(), c"timens_offsets", self.lines.to_bytes());
        written.map_err(|error| error.about(&self.lines))?;
        let children = beneath::open_own_namespace(proc.as_fd(), c"time_for_children")?;
        Ok(namespace::join(children.as_fd(), Kind::Time)?)
    }
}

impl fmt::Display for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "join {} namespace {}", self.kind, self.path)
    }
}

impl fmt::Display for PidNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TimeOffsets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "new time namespace: {}", self.lines.to_string_lossy().trim_end().replace('\n', ", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linux(json: serde_json::Value) -> Linux {
        serde_json::from_value(json).unwrap()
    }

    fn error_of(json: serde_json::Value) -> String {
        format!("{:#}", compile(&linux(json)).unwrap_err())
    }

    #[test]
    fn a_namespace_named_twice_is_refused() {
        let json = serde_json::json!({"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "pid"}]});
        assert_eq!(error_of(json), "linux.namespaces[2]: duplicate namespace pid");
    }

    #[test]
    fn a_path_of_another_kind_is_refused() {
        let json = serde_json::json!({"namespaces": [{"type": "ipc", "path": "/proc/self/ns/net"}]});
        assert_eq!(error_of(json), "linux.namespaces[0].path: /proc/self/ns/net: is a net namespace, not ipc");
        let json = serde_json::json!({"namespaces": [{"type": "ipc", "path": "/proc/self/stat"}]});
        assert_eq!(error_of(json), "linux.namespaces[0].path: /proc/self/stat: is not a namespace");
        let json = serde_json::json!({"namespaces": [{"type": "ipc", "path": "/nowhere"}]});
        assert_eq!(error_of(json), "linux.namespaces[0].path: /nowhere: open: no such file or directory");
    }

    #[test]
    fn user_is_joined_first_and_the_cgroup_namespace_is_not_cloned() {
        let json = serde_json::json!({"namespaces": [
            {"type": "network", "path": "/proc/self/ns/net"}, {"type": "user", "path": "/proc/self/ns/user"},
            {"type": "cgroup"}, {"type": "mount"}, {"type": "time"}]});
        let namespaces = compile(&linux(json)).unwrap();
        assert_eq!(namespaces.joined[0].to_string(), "join user namespace /proc/self/ns/user");
        assert_eq!(namespaces.cloned(), Kinds::NONE.with(Kind::Mount).with(Kind::Time));
        assert!(namespaces.has(Kind::Net) && namespaces.has(Kind::Cgroup) && !namespaces.has(Kind::Uts));
    }

    #[test]
    fn time_offsets_need_a_new_time_namespace_and_a_known_clock() {
        let json = serde_json::json!({"timeOffsets": {"monotonic": {"secs": 1}}});
        assert_eq!(error_of(json), "linux.timeOffsets: needs a new time namespace in linux.namespaces");
        let json = serde_json::json!({"namespaces": [{"type": "time"}], "timeOffsets": {"realtime": {"secs": 1}}});
        assert!(error_of(json).starts_with("linux.timeOffsets.realtime: unknown clock"));
        let json = serde_json::json!({"namespaces": [{"type": "time"}],
            "timeOffsets": {"monotonic": {"secs": -1, "nanosecs": 5}, "boottime": {"secs": 2}}});
        let namespaces = compile(&linux(json)).unwrap();
        assert_eq!(namespaces.time_offsets.as_ref().unwrap().to_string(), "new time namespace: boottime 2 0, monotonic -1 5");
        assert!(namespaces.cloned().is_empty());
    }
}
