//! Kernel parameters and names of a container's namespaces: proc_sys(5), uts_namespaces(7). Whose they are is decided by who
//! looks, so the caller is in the namespace meanwhile.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};

use super::id_maps::outside;
use super::row::Row;
use super::{Namespace, Wanted};
use crate::sys::Errno;
use crate::sys::file;
use crate::sys::namespace::{self, Kind};

/// More than any parameter has.
const LONGEST: usize = 4096;

/// A parameter: the field of config.json, its path below the root of a procfs, its value.
struct Parameter {
    field: String,
    path: String,
    value: String,
}

/// A range of groups, which whoever looks at it has by other numbers than those in the container's user namespace.
const GROUPS: &str = "sys/net/ipv4/ping_group_range";

/// Of the container whose first process `init` is. The calling process, which may have no other thread, is in its
/// namespaces meanwhile.
pub fn compare(wanted: &Wanted, init: i32) -> Result<Vec<Row>> {
    let proc = file::open_directory(c"/proc")?;
    let mut rows = Vec::new();
    for kind in [Kind::Ipc, Kind::Uts, Kind::Net] {
        let parameters = of_kind(wanted, kind);
        if parameters.is_empty() {
            continue;
        }
        let Some(inside) = Inside::join(init, kind)? else {
            let why = "only root may join the namespace";
            rows.extend(parameters.into_iter().map(|one| Row::unknown(one.field, words(&one.value), why)));
            continue;
        };
        let found: Vec<_> = parameters.iter().map(|parameter| read(proc.as_fd(), &parameter.path)).collect();
        inside.leave()?;
        for (Parameter { field, value, .. }, found) in parameters.iter().zip(found) {
            rows.push(match found {
                Ok(found) => Row::new(field, words(value), words(&found), words(value) == words(&found)),
                Err(error) => Row::unknown(field, words(value), format!("{error:#}")),
            });
        }
    }
    Ok(rows)
}

fn of_kind(wanted: &Wanted, kind: Kind) -> Vec<Parameter> {
    if matches!(wanted.namespaces.get(kind.name()), None | Some(Namespace::Runtime)) {
        return Vec::new();
    }
    let names = [("hostname", &wanted.hostname), ("domainname", &wanted.domainname)];
    let names = names.into_iter().filter(|_| kind == Kind::Uts).filter_map(|(name, value)| {
        Some(Parameter { field: name.to_owned(), path: format!("sys/kernel/{name}"), value: value.clone()? })
    });
    let own = wanted.sysctls.iter().filter(|(path, _)| kind_of(path) == Some(kind)).filter_map(|(path, value)| {
        let field = format!("linux.sysctl.{}", path.trim_start_matches("sys/").replace('/', "."));
        let value = if path == GROUPS { groups(wanted, value)? } else { value.clone() };
        Some(Parameter { field, path: path.clone(), value })
    });
    names.chain(own).collect()
}

/// The groups as they are called here. None: only the user namespace that the container joins knows.
fn groups(wanted: &Wanted, value: &str) -> Option<String> {
    let ranges = &wanted.id_maps.gids;
    if ranges.is_empty() && !matches!(wanted.namespaces.get("user"), None | Some(Namespace::Runtime)) {
        return None;
    }
    let group = |gid: &str| gid.parse().ok().and_then(|gid| outside(ranges, gid)).map(|gid| gid.to_string());
    value.split_whitespace().map(group).collect::<Option<Vec<_>>>().map(|groups| groups.join(" "))
}

/// Whose namespace a parameter belongs to. Those of a user namespace (`user.`) cannot be looked at from outside.
fn kind_of(path: &str) -> Option<Kind> {
    let below = |directory: &str| path.starts_with(directory);
    match path {
        "sys/kernel/domainname" => Some(Kind::Uts),
        _ if below("sys/net/") => Some(Kind::Net),
        _ if below("sys/kernel/") || below("sys/fs/mqueue/") => Some(Kind::Ipc),
        _ => None,
    }
}

fn read(proc: BorrowedFd, path: &str) -> Result<String> {
    let file = file::read_at(proc, &CString::new(path)?)?;
    let mut buffer = [0; LONGEST];
    let length = file::read(file.as_fd(), &mut buffer)?;
    Ok(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned())
}

/// The kernel separates numbers by tabs.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// In a namespace of the container's. Dropped, the caller is back in its own.
struct Inside {
    own: OwnedFd,
    kind: Kind,
}

impl Inside {
    /// None: the caller may not.
    fn join(pid: i32, kind: Kind) -> Result<Option<Self>> {
        let open = |process: &str| -> Result<OwnedFd> {
            let path = format!("/proc/{process}/ns/{kind}");
            namespace::open(&CString::new(path.as_str())?).context(path)
        };
        let (own, there) = (open("thread-self")?, open(&pid.to_string())?);
        match namespace::join(there.as_fd(), kind) {
            Err(error) if error.errno == Errno::EPERM => return Ok(None),
            joined => joined.with_context(|| format!("{kind} namespace of the container"))?,
        }
        Ok(Some(Self { own, kind }))
    }

    fn leave(self) -> Result<()> {
        // The guard does it; only here somebody can be told.
        namespace::join(self.own.as_fd(), self.kind).with_context(|| format!("{} namespace of the runtime", self.kind))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // The right that let us leave is still ours.
        let _ = namespace::join(self.own.as_fd(), self.kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_of_a_namespace() {
        assert_eq!(kind_of("sys/net/ipv4/ip_forward"), Some(Kind::Net));
        assert_eq!((kind_of("sys/kernel/sem"), kind_of("sys/fs/mqueue/msg_max")), (Some(Kind::Ipc), Some(Kind::Ipc)));
        assert_eq!((kind_of("sys/kernel/domainname"), kind_of("sys/user/max_x")), (Some(Kind::Uts), None));
    }

    #[test]
    fn a_parameter_is_read_and_its_blanks_do_not_count() {
        let proc = file::open_directory(c"/proc").unwrap();
        let own = std::fs::read_to_string("/proc/sys/kernel/sem").unwrap();
        let found = read(proc.as_fd(), "sys/kernel/sem").unwrap();
        assert_eq!(words(&found), words(&own));
        assert_eq!(words(" 1\t2\n"), "1 2");
        assert!(read(proc.as_fd(), "sys/kernel/nothing").is_err());
    }
}
