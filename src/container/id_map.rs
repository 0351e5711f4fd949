//! `linux.uidMappings` and `linux.gidMappings`: which ids a new user namespace has (user_namespaces(7)).

use std::fmt::{self, Write};
use std::os::fd::BorrowedFd;

use anyhow::{Result, bail};
use oci_spec::runtime::LinuxIdMapping;

use crate::sys::namespace::{Kind, Kinds};
use crate::sys::{Result as SysResult, beneath, proc_self};

/// The most lines of a map (Linux 4.15).
const MOST: usize = 340;

/// The texts for /proc/PID/uid_map and gid_map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdMaps {
    uids: String,
    gids: String,
    setgroups: Setgroups,
}

/// Whether processes of the namespace may set their groups. Without CAP_SETGID in the parent namespace, a gid map is
/// only taken once they may not (CVE-2014-8989).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setgroups {
    Allow,
    Deny,
}

/// The prepared maps if `new` has a user namespace. It needs both, with the container's root in them; without it,
/// mappings are an error.
pub fn compile(
    uids: &[LinuxIdMapping],
    gids: &[LinuxIdMapping],
    new: Kinds,
    setgroups: Setgroups,
) -> Result<Option<IdMaps>> {
    if !new.contains(Kind::User) {
        let fields = [("linux.uidMappings", uids), ("linux.gidMappings", gids)];
        if let Some((field, _)) = fields.into_iter().find(|(_, map)| !map.is_empty()) {
            bail!("{field}: needs a new user namespace in linux.namespaces");
        }
        return Ok(None);
    }
    let (uids, gids) = (text("linux.uidMappings", uids)?, text("linux.gidMappings", gids)?);
    Ok(Some(IdMaps { uids, gids, setgroups }))
}

/// The maps of a user namespace that is made for an id-mapped mount. Its mappings come from the mount's `field`.
pub fn compile_for_mount(field: &str, uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<IdMaps> {
    let uids = lines(&format!("{field}.uidMappings"), uids)?;
    Ok(IdMaps { uids, gids: lines(&format!("{field}.gidMappings"), gids)?, setgroups: Setgroups::Allow })
}

/// The map of a container. Root sets it up, so that must be somebody.
fn text(field: &str, map: &[LinuxIdMapping]) -> Result<String> {
    let text = lines(field, map)?;
    if !map.iter().any(|entry| entry.container_id() == 0) {
        bail!("{field}: container id 0 is not mapped");
    }
    Ok(text)
}

fn lines(field: &str, map: &[LinuxIdMapping]) -> Result<String> {
    if map.is_empty() {
        bail!("{field}: a new user namespace needs mappings, but none are given");
    }
    if map.len() > MOST {
        bail!("{field}: {} mappings, the kernel takes at most {MOST}", map.len());
    }
    let mut text = String::new();
    for (index, entry) in map.iter().enumerate() {
        check_range(&format!("{field}[{index}].containerID"), entry.container_id(), entry.size())?;
        check_range(&format!("{field}[{index}].hostID"), entry.host_id(), entry.size())?;
        for (other, earlier) in map.iter().take(index).enumerate() {
            for (side, first, second) in [
                ("containerID", entry.container_id(), earlier.container_id()),
                ("hostID", entry.host_id(), earlier.host_id()),
            ] {
                if overlaps((first, entry.size()), (second, earlier.size())) {
                    bail!("{field}[{index}].{side}: overlaps {field}[{other}]");
                }
            }
        }
        writeln!(text, "{} {} {}", entry.container_id(), entry.host_id(), entry.size())?;
    }
    // The kernel takes the map in one write of less than a page.
    if text.len() >= proc_self::page_size() {
        bail!("{field}: too long, the kernel takes less than {} bytes", proc_self::page_size());
    }
    Ok(text)
}

/// An id range must hold something, and end before 2^32-1, which is nobody's id.
fn check_range(field: &str, first: u32, size: u32) -> Result<()> {
    if size == 0 {
        let map = field.rsplit_once('.').map_or(field, |(map, _)| map);
        bail!("{map}.size: must not be 0");
    }
    if first.checked_add(size).is_none() {
        bail!("{field}: {first} and {size} more go beyond the last id");
    }
    Ok(())
}

fn overlaps((first, size): (u32, u32), (other, other_size): (u32, u32)) -> bool {
    let end = |start: u32, size: u32| u64::from(start) + u64::from(size);
    u64::from(first) < end(other, other_size) && u64::from(other) < end(first, size)
}

/// The host's id of the container's `id`.
pub fn host_id(map: &[LinuxIdMapping], id: u32) -> Option<u32> {
    map.iter().find_map(|entry| {
        let offset = id.checked_sub(entry.container_id()).filter(|offset| *offset < entry.size())?;
        entry.host_id().checked_add(offset)
    })
}

impl IdMaps {
    /// Maps the ids of the process whose procfs directory is `process`. The runtime does this from outside, before
    /// init takes its first step: each map can be written once.
    pub fn apply_to(&self, process: BorrowedFd<'_>) -> SysResult<()> {
        beneath::write_beneath(process, c"uid_map", self.uids.as_bytes())?;
        if self.setgroups == Setgroups::Deny {
            beneath::write_beneath(process, c"setgroups", b"deny")?;
        }
        beneath::write_beneath(process, c"gid_map", self.gids.as_bytes())
    }
}

impl fmt::Display for IdMaps {
    /// `map uids 0 1000 10, gids 0 1000 10`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lead = "map uids ";
        for line in self.uids.lines() {
            write!(f, "{lead}{line}")?;
            lead = " + ";
        }
        lead = ", gids ";
        for line in self.gids.lines() {
            write!(f, "{lead}{line}")?;
            lead = " + ";
        }
        if self.setgroups == Setgroups::Deny { f.write_str(", setgroups denied") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write as _};
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::namespace;
    use crate::sys::testing::{in_a_child, status_line};

    const USER: Kinds = Kinds::NONE.with(Kind::User);

    fn map(lines: &[(u32, u32, u32)]) -> Vec<LinuxIdMapping> {
        let entry = |(container, host, size): &(u32, u32, u32)| {
            format!(r#"{{"containerID":{container},"hostID":{host},"size":{size}}}"#)
        };
        let json = format!("[{}]", lines.iter().map(entry).collect::<Vec<_>>().join(","));
        serde_json::from_str(&json).expect("map")
    }

    fn error(lines: &[(u32, u32, u32)]) -> String {
        let (bad, good) = (map(lines), map(&[(0, 0, 1)]));
        compile(&bad, &good, USER, Setgroups::Allow).expect_err("bad").to_string()
    }

    #[test]
    fn mappings_and_a_new_user_namespace_need_each_other() {
        let (some, none) = (map(&[(0, 1000, 1)]), map(&[]));
        let without = compile(&none, &some, Kinds::NONE, Setgroups::Allow).expect_err("no namespace").to_string();
        assert_eq!(without, "linux.gidMappings: needs a new user namespace in linux.namespaces");
        let unmapped = compile(&some, &none, USER, Setgroups::Allow).expect_err("no gids").to_string();
        assert!(unmapped.starts_with("linux.gidMappings: a new user namespace needs mappings"), "{unmapped}");
        assert_eq!(compile(&none, &none, Kinds::NONE, Setgroups::Allow).expect("nothing to do"), None);
    }

    #[test]
    fn a_bad_range_is_an_error_that_names_it() {
        assert_eq!(error(&[(0, 0, 5), (7, 7, 0)]), "linux.uidMappings[1].size: must not be 0");
        assert_eq!(
            error(&[(0, 0, 10), (5, 100, 1)]),
            "linux.uidMappings[1].containerID: overlaps linux.uidMappings[0]"
        );
        assert_eq!(error(&[(0, 0, 10), (50, 9, 2)]), "linux.uidMappings[1].hostID: overlaps linux.uidMappings[0]");
        assert!(error(&[(0, u32::MAX, 2)]).starts_with("linux.uidMappings[0].hostID: "));
        assert_eq!(error(&[(1, 1000, 10)]), "linux.uidMappings: container id 0 is not mapped");
        let many: Vec<_> = (0..341).map(|n| (n, n, 1)).collect();
        assert!(error(&many).contains("at most 340"));
        let long: Vec<_> = (0..340).map(|n| (n * 2, 4_000_000_000 + n * 2, 1)).collect();
        assert!(error(&long).contains("too long"));
    }

    #[test]
    fn the_hosts_id_is_found_through_the_map() {
        let map = map(&[(0, 1000, 1), (1, 100_000, 65536)]);
        assert_eq!([0, 1, 65536, 65537].map(|id| host_id(&map, id)), [Some(1000), Some(100_000), Some(165_535), None]);
    }

    #[test]
    fn the_kernel_has_the_maps() {
        let ids = map(&[(0, 100_000, 10), (10, 200_000, 5)]);
        let maps = compile(&ids, &ids, USER, Setgroups::Deny).expect("compiles").expect("a namespace");
        assert_eq!(
            maps.to_string(),
            "map uids 0 100000 10 + 10 200000 5, gids 0 100000 10 + 10 200000 5, setgroups denied"
        );
        // The child of the child writes the maps of its parent.
        in_a_child(|| {
            let (mut ready, mut mapped) = (std::io::pipe()?, std::io::pipe()?);
            let process = std::fs::File::open(format!("/proc/{}", std::process::id()))?;
            let writer = crate::sys::testing::spawn(|| {
                let told = ready.0.read_exact(&mut [0]).is_ok();
                told && maps.apply_to(process.as_fd()).is_ok() && mapped.1.write_all(b"x").is_ok()
            });
            namespace::unshare(USER)?;
            ready.1.write_all(b"x")?;
            mapped.0.read_exact(&mut [0])?;
            assert!(crate::sys::testing::wait(writer));
            crate::container::process::user::BecomeRoot::default().apply()?;
            assert_eq!(status_line("Uid")?, "0\t0\t0\t0");
            assert_eq!(std::fs::read_to_string("/proc/self/setgroups")?, "deny\n");
            let map = std::fs::read_to_string("/proc/self/gid_map")?;
            let numbers: Vec<_> = map.split_whitespace().collect();
            assert_eq!(numbers, ["0", "100000", "10", "10", "200000", "5"]);
            Ok(())
        });
    }
}
