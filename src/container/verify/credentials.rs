//! Who a thread is and what it may do: capabilities(7), credentials(7), PR_SET_NO_NEW_PRIVS, seccomp(2).

use anyhow::Result;
use caps::Capability;

use super::id_maps::outside;
use super::row::Row;
use super::status::Status;
use super::{Namespace, Wanted};

/// No set has more than config.json gives, or than a program could get by execve(2).
pub fn capabilities(wanted: &Wanted, status: &Status) -> Result<Vec<Row>> {
    let own = wanted.capabilities;
    let reachable = wanted.reachable();
    let sets = [
        ("bounding", "CapBnd", own.bounding),
        ("effective", "CapEff", reachable),
        ("permitted", "CapPrm", reachable),
        ("inheritable", "CapInh", own.bounding | own.permitted | own.inheritable),
        ("ambient", "CapAmb", reachable),
    ];
    let mut rows = Vec::new();
    for (set, line, limit) in sets {
        let found = status.mask(line)?;
        let beyond = found & !limit;
        let names = if beyond == 0 { String::new() } else { format!(" ({} besides)", names(beyond)) };
        let field = format!("process.capabilities.{set}");
        rows.push(Row::new(field, format!("at most {limit:#x}"), format!("{found:#x}{names}"), beyond == 0));
    }
    Ok(rows)
}

fn names(mask: u64) -> String {
    let mut all: Vec<_> = caps::all().into_iter().filter(|capability| mask & capability.bitmask() != 0).collect();
    all.sort_by_key(Capability::index);
    all.iter().map(Capability::to_string).collect::<Vec<_>>().join(", ")
}

/// Where nothing lets a process change its ids, they are still those of config.json.
pub fn user(wanted: &Wanted, status: &Status) -> Result<Vec<Row>> {
    let Wanted { user, id_maps, .. } = wanted;
    if id_maps.uids.is_empty() && !matches!(wanted.namespaces.get("user"), None | Some(Namespace::Runtime)) {
        // How its ids are called here, only the namespace that it joins knows.
        return Ok(Vec::new());
    }
    let mut rows = Vec::new();
    let mut compare = |field: &str, allowed: &[Option<u32>], found: Vec<u32>| {
        let holds = found.iter().all(|id| allowed.contains(&Some(*id)));
        let allowed: Vec<u32> = allowed.iter().copied().flatten().collect();
        rows.push(Row::new(field, format!("{allowed:?}"), format!("{found:?}"), holds));
    };
    let group = |gid: u32| outside(&id_maps.gids, gid);
    if wanted.keeps_user() {
        compare("process.user.uid", &[outside(&id_maps.uids, user.uid)], status.ids("Uid")?);
    }
    if wanted.no_new_privileges && !wanted.can_have(Capability::CAP_SETGID) {
        compare("process.user.gid", &[group(user.gid)], status.ids("Gid")?);
        if let Some(groups) = &user.groups {
            let groups: Vec<_> = [user.gid].iter().chain(groups).map(|gid| group(*gid)).collect();
            compare("process.user.additionalGids", &groups, status.ids("Groups")?);
        }
    }
    Ok(rows)
}

pub fn restrictions(wanted: &Wanted, status: &Status) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if wanted.no_new_privileges {
        let found = status.number("NoNewPrivs")? == 1;
        rows.push(Row::new("process.noNewPrivileges", "true", found.to_string(), found));
    }
    // 2: a filter, prctl(2).
    if wanted.seccomp.is_some() {
        let mode = status.number("Seccomp")?;
        // Linux 5.9 counts them.
        let count = status.number("Seccomp_filters").map(|count| format!(", {count} filters")).unwrap_or_default();
        rows.push(Row::new("linux.seccomp", "a filter", format!("mode {mode}{count}"), mode == 2));
    }
    Ok(rows)
}
