//! The commands that only look: state, list, ps.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::disk::found::Found;
use super::disk::root::Root;
use super::disk::roots;
use super::host::Host;
use super::id::Id;
use super::process::members;
use super::refusal::Refusal;
use super::status::Status;
use crate::error::one_line;

/// What `state` and `list` show of a container: runc's fields in runc's order.
#[derive(Serialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct StateView {
    pub oci_version: String,
    pub id: String,
    /// Zero when the container is stopped.
    pub pid: i32,
    pub status: Status,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The name of the user who created it; `state` leaves it empty as runc does.
    pub owner: String,
    /// The root directory that it is below; only where several were looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
}

pub fn view(found: Found) -> StateView {
    let pid = match (found.status, found.state.init) {
        (Status::Stopped, _) | (_, None) => 0,
        (_, Some(init)) => init.pid,
    };
    StateView {
        oci_version: found.state.oci_version,
        id: found.state.id,
        pid,
        status: found.status,
        bundle: found.state.bundle,
        rootfs: found.state.rootfs,
        created: found.state.created,
        annotations: found.state.annotations.into_iter().collect(),
        owner: String::new(),
        root: None,
    }
}

/// The state of one container.
pub fn state(host: &Host, id: &Id) -> Result<StateView> {
    Found::open(host, id).map(view)
}

/// The state of every container, sorted by id. One that goes away meanwhile is left out, and one whose state is broken
/// with a warning: it may not hide the others.
pub fn list(host: &Host) -> Result<Vec<StateView>> {
    below(host, |id, error| host.log.warn(&format!("list: {id}: {}", one_line(error))))
}

/// The same below every root directory that engines are known to use, and [`Host::root`]. Another one that cannot be looked at
/// is a warning: it may not hide the others either.
pub fn list_everywhere(host: &Host) -> Result<Vec<StateView>> {
    let mut views = Vec::new();
    for root in roots::everywhere(&host.root) {
        let there = Host { root: root.clone(), ..*host };
        // Other runtimes keep their containers there, too, with a state of their own.
        let found =
            below(&there, |id, error| host.log.debug(&format!("list: {}/{id}: {}", root.display(), one_line(error))));
        let found = match found {
            Err(error) if root != host.root => {
                host.log.warn(&format!("list: {}", one_line(&error)));
                continue;
            }
            found => found?,
        };
        views.extend(found.into_iter().map(|view| StateView { root: Some(root.clone()), ..view }));
    }
    Ok(views)
}

fn below(host: &Host, skipped: impl Fn(&Id, &anyhow::Error)) -> Result<Vec<StateView>> {
    let mut views = Vec::new();
    let mut passwd = None;
    for id in ids(host)? {
        match Found::open(host, &id) {
            Ok(found) => {
                let passwd = passwd.get_or_insert_with(|| std::fs::read_to_string("/etc/passwd").unwrap_or_default());
                let owner = user_name(passwd, found.state.owner);
                views.push(StateView { owner, ..view(found) });
            }
            Err(error) if error.downcast_ref() == Some(&Refusal::DoesNotExist) => {}
            Err(error) => skipped(&id, &error),
        }
    }
    Ok(views)
}

/// The ids of all containers, sorted.
pub fn ids(host: &Host) -> Result<Vec<Id>> {
    Root::open(&host.root)?.map_or(Ok(Vec::new()), |root| root.ids())
}

/// The processes of a container, as the host numbers them: also those that outlive init. None, if all have ended.
pub fn ps(host: &Host, id: &Id) -> Result<Vec<i32>> {
    let found = Found::open(host, id)?;
    let pids = members::pids(&found.state)?;
    // A cgroup of its path may be a later container's.
    ensure!(found.directory.is_there()?, Refusal::DoesNotExist);
    Ok(pids)
}

/// The name of user `uid` in the host's `passwd`, or its number as text.
pub fn user_name(passwd: &str, uid: u32) -> String {
    name_of(passwd, uid).map_or_else(|| uid.to_string(), str::to_owned)
}

fn name_of(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_named_by_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n";
        assert_eq!(name_of(passwd, 1000), Some("web"));
        assert_eq!(name_of(passwd, 7), None);
    }
}
