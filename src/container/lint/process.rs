//! The rules about `process`: who the program runs as, and what it may become.

use std::collections::HashSet;

use oci_spec::runtime::{Capability, Process};

use super::code::Code;
use super::finding::{Finding, Surroundings};

pub(super) fn rules(process: &Process, around: &Surroundings, found: &mut Vec<Finding>) {
    if process.user().username().as_ref().is_some_and(|name| !name.is_empty()) {
        found.push(Finding::new(Code::UserNameIgnored, "process.user.username", "is for containers of Windows"));
    }
    let uid = process.user().uid();
    if uid == 0 {
        return;
    }
    not_ambient(process, around, found);
    // Every engine leaves it to its user.
    if process.no_new_privileges() != Some(true) && around.author.is_none() {
        let why = format!("user {uid} can become another one by programs that are setuid or have file capabilities");
        found.push(Finding::new(Code::PrivilegesCanBeGained, "process.noNewPrivileges", why));
    }
}

/// execve(2) of an ordinary user keeps the ambient set alone (capabilities(7)). The bounding set means nothing by itself,
/// and every engine leaves its default there; what is permitted was asked for.
fn not_ambient(process: &Process, around: &Surroundings, found: &mut Vec<Finding>) {
    let Some(sets) = process.capabilities() else { return };
    let ambient = sets.ambient().clone().unwrap_or_default();
    let bounding = sets.bounding().as_ref().filter(|_| around.author.is_none());
    let wanted = [sets.permitted().as_ref(), sets.effective().as_ref(), bounding];
    let lost: HashSet<Capability> = wanted.into_iter().flatten().flatten().copied().collect();
    let mut lost: Vec<String> = lost.difference(&ambient).map(ToString::to_string).collect();
    if lost.is_empty() {
        return;
    }
    lost.sort();
    let why = format!("the program of user {} loses {} when it is executed", process.user().uid(), lost.join(" "));
    found.push(Finding::new(Code::CapabilitiesNotAmbient, "process.capabilities.ambient", why));
}
