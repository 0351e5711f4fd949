//! `linux.uidMappings` and `linux.gidMappings`: which ids a new user namespace has (user_namespaces(7)).

pub mod existing;
mod tool;

use std::fmt::{self, Write};
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::LinuxIdMapping;

use crate::error::{Field, field};
use crate::sys::namespace::{Kind, Kinds};
use crate::sys::{beneath, credentials, ids, proc_self};
use tool::Tool;

/// The most lines of a map (Linux 4.15).
const MOST: usize = ids::MOST_RANGES;
/// capabilities(7): to map any id of the parent namespace.
const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;

/// The texts for /proc/PID/uid_map and gid_map, and who writes them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdMaps {
    /// Where config.json has them: `linux`, `mounts[1]`.
    field: String,
    uids: Map,
    gids: Map,
    setgroups: Setgroups,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Map {
    text: String,
    /// newuidmap or newgidmap, where the runtime may not write it.
    tool: Option<Tool>,
}

/// Whether processes of the namespace may set their groups. Without CAP_SETGID in the parent namespace, a gid map is
/// only taken once they may not (CVE-2014-8989).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setgroups {
    Allow,
    Deny,
}

/// What the runtime may map by itself: any id of its user namespace with the capability, else its own id alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Caller {
    uid: u32,
    gid: u32,
    maps_uids: bool,
    maps_gids: bool,
}

impl Caller {
    fn look() -> Result<Self> {
        let held = credentials::capabilities()?.effective;
        let has = |capability: u32| held >> capability & 1 == 1;
        let (uid, gid) = (ids::effective_uid(), ids::effective_gid());
        Ok(Self { uid, gid, maps_uids: has(CAP_SETUID), maps_gids: has(CAP_SETGID) })
    }
}

/// The prepared maps if `new` has a user namespace. It needs both, with the container's root in them; without it,
/// mappings are an error.
pub fn compile(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping], new: Kinds) -> Result<Option<IdMaps>> {
    if !new.contains(Kind::User) {
        let fields = [("linux.uidMappings", uids), ("linux.gidMappings", gids)];
        if let Some((field, _)) = fields.into_iter().find(|(_, map)| !map.is_empty()) {
            bail!(field!("{field}"; "needs a new user namespace in linux.namespaces"));
        }
        return Ok(None);
    }
    compile_for(Caller::look()?, uids, gids).map(Some)
}

fn compile_for(caller: Caller, uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<IdMaps> {
    let own = |map: &[LinuxIdMapping], id| matches!(map, [one] if one.size() == 1 && one.host_id() == id);
    let map = |field: &'static str, map: &[LinuxIdMapping], direct: bool, tool| {
        let text = text(field, map)?;
        let tool = if direct { None } else { Some(Tool::look_for(tool).context(Field::new(field))?) };
        anyhow::Ok(Map { text, tool })
    };
    let direct_gids = caller.maps_gids || own(gids, caller.gid);
    Ok(IdMaps {
        field: "linux".to_owned(),
        uids: map("linux.uidMappings", uids, caller.maps_uids || own(uids, caller.uid), "newuidmap")?,
        gids: map("linux.gidMappings", gids, direct_gids, "newgidmap")?,
        setgroups: if direct_gids && !caller.maps_gids { Setgroups::Deny } else { Setgroups::Allow },
    })
}

/// The maps of a user namespace that is made for an id-mapped mount. Its mappings come from the mount's `field`.
pub fn compile_for_mount(field: &str, uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<IdMaps> {
    let map = |name, map| lines(&format!("{field}.{name}"), map).map(|text| Map { text, tool: None });
    let (uids, gids) = (map("uidMappings", uids)?, map("gidMappings", gids)?);
    Ok(IdMaps { field: field.to_owned(), uids, gids, setgroups: Setgroups::Allow })
}

/// The map of a container. Root sets it up, so that must be somebody.
fn text(field: &str, map: &[LinuxIdMapping]) -> Result<String> {
    let text = lines(field, map)?;
    if !map.iter().any(|entry| entry.container_id() == 0) {
        bail!(field!("{field}"; "container id 0 is not mapped"));
    }
    Ok(text)
}

fn lines(field: &str, map: &[LinuxIdMapping]) -> Result<String> {
    if map.is_empty() {
        bail!(field!("{field}"; "a new user namespace needs mappings, but none are given"));
    }
    if map.len() > MOST {
        bail!(field!("{field}"; "{} mappings, the kernel takes at most {MOST}", map.len()));
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
                    bail!(field!("{field}[{index}].{side}"; "overlaps {field}[{other}]"));
                }
            }
        }
        writeln!(text, "{} {} {}", entry.container_id(), entry.host_id(), entry.size())?;
    }
    // The kernel takes the map in one write of less than a page.
    if text.len() >= proc_self::page_size() {
        bail!(field!("{field}"; "too long, the kernel takes less than {} bytes", proc_self::page_size()));
    }
    Ok(text)
}

/// An id range must hold something, and end before 2^32-1, which is nobody's id.
fn check_range(field: &str, first: u32, size: u32) -> Result<()> {
    if size == 0 {
        let map = field.rsplit_once('.').map_or(field, |(map, _)| map);
        bail!(field!("{map}.size"; "must not be 0"));
    }
    if first.checked_add(size).is_none() {
        bail!(field!("{field}"; "{first} and {size} more go beyond the last id"));
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
    /// Maps the ids of process `pid`, whose procfs directory is `process`. The runtime does this from outside, before
    /// init takes its first step: each map can be written once.
    pub fn write(&self, pid: i32, process: BorrowedFd<'_>) -> Result<()> {
        let write = |map: &Map, file| match &map.tool {
            None => Ok(beneath::write_beneath(process, file, map.text.as_bytes())?),
            Some(tool) => tool.run(pid, &map.text),
        };
        let field = |name| move || Field::new(format!("{}.{name}", self.field)).is(self.to_string());
        write(&self.uids, c"uid_map").with_context(field("uidMappings"))?;
        if self.setgroups == Setgroups::Deny {
            beneath::write_beneath(process, c"setgroups", b"deny").with_context(field("gidMappings"))?;
        }
        write(&self.gids, c"gid_map").with_context(field("gidMappings"))
    }

    /// Whether no process of the namespace may ever set its groups: user_namespaces(7).
    pub fn deny_groups(&self) -> bool {
        self.setgroups == Setgroups::Deny
    }
}

impl fmt::Display for IdMaps {
    /// `map uids 0 1000 10, gids 0 1000 10`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lead = "map uids ";
        for line in self.uids.text.lines() {
            write!(f, "{lead}{line}")?;
            lead = " + ";
        }
        lead = ", gids ";
        for line in self.gids.text.lines() {
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

    const ROOT: Caller = Caller { uid: 0, gid: 0, maps_uids: true, maps_gids: true };

    fn error(lines: &[(u32, u32, u32)]) -> String {
        let (bad, good) = (map(lines), map(&[(0, 0, 1)]));
        compile_for(ROOT, &bad, &good).expect_err("bad").to_string()
    }

    #[test]
    fn an_ordinary_user_maps_himself_and_groups_are_denied_then() {
        let user = Caller { uid: 1000, gid: 100, maps_uids: false, maps_gids: false };
        let (uid, gid, other) = (map(&[(0, 1000, 1)]), map(&[(5, 100, 1), (0, 7, 1)]), map(&[(0, 100, 1)]));
        let maps = compile_for(user, &uid, &other).expect("his own ids");
        assert!(maps.deny_groups() && maps.uids.tool.is_none() && maps.gids.tool.is_none());
        assert!(!compile_for(ROOT, &uid, &other).expect("any ids").deny_groups());
        // Anything else takes the tools, whose absence is told by the field.
        match compile_for(user, &uid, &gid) {
            Ok(maps) => assert!(!maps.deny_groups() && maps.uids.tool.is_none() && maps.gids.tool.is_some()),
            Err(error) => assert!(format!("{error:#}").starts_with("linux.gidMappings: newgidmap is not in $PATH")),
        }
    }

    #[test]
    fn mappings_and_a_new_user_namespace_need_each_other() {
        let (some, none) = (map(&[(0, 1000, 1)]), map(&[]));
        let without = compile(&none, &some, Kinds::NONE).expect_err("no namespace").to_string();
        assert_eq!(without, "linux.gidMappings: needs a new user namespace in linux.namespaces");
        let unmapped = compile(&some, &none, USER).expect_err("no gids").to_string();
        assert!(unmapped.starts_with("linux.gidMappings: a new user namespace needs mappings"), "{unmapped}");
        assert_eq!(compile(&none, &none, Kinds::NONE).expect("nothing to do"), None);
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
        let maps = IdMaps { setgroups: Setgroups::Deny, ..compile_for(ROOT, &ids, &ids).expect("compiles") };
        assert_eq!(
            maps.to_string(),
            "map uids 0 100000 10 + 10 200000 5, gids 0 100000 10 + 10 200000 5, setgroups denied"
        );
        // The child of the child writes the maps of its parent.
        in_a_child(|| {
            let (mut ready, mut mapped) = (std::io::pipe()?, std::io::pipe()?);
            let pid = std::process::id() as i32;
            let process = std::fs::File::open(format!("/proc/{pid}"))?;
            let writer = crate::sys::testing::spawn(|| {
                let told = ready.0.read_exact(&mut [0]).is_ok();
                told && maps.write(pid, process.as_fd()).is_ok() && mapped.1.write_all(b"x").is_ok()
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
