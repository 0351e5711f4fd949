//! `process.user`: ids, supplementary groups and umask (config.md, "User").

use std::fmt;

use anyhow::{Result, bail};
use oci_spec::runtime::{LinuxIdMapping, User as Spec};

use crate::error::field;
use crate::sys::{Errno, Fault, SysError, credentials, proc_self};

/// The umask of a container whose config.json names none, as in runc.
const DEFAULT_UMASK: u32 = 0o022;

/// Who the container's process is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    uid: u32,
    gid: u32,
    groups: AdditionalGroups,
    umask: u32,
}

/// The supplementary groups.
#[derive(Clone, PartialEq, Eq, Debug)]
enum AdditionalGroups {
    /// Exactly these.
    Listed(Vec<u32>),
    /// Those that the process has anyway, its maker's.
    Original,
}

/// The id maps of the user namespace the process will be in.
#[derive(Clone, Copy)]
pub struct Maps<'a> {
    pub uids: &'a [LinuxIdMapping],
    pub gids: &'a [LinuxIdMapping],
}

/// The prepared user. With `maps`, every id must be mapped. 2^32-1 is nobody's id: to the kernel it means "unchanged",
/// so the process would stay root.
pub fn compile(spec: &Spec, maps: Option<Maps<'_>>) -> Result<User> {
    let groups = spec.additional_gids().clone().unwrap_or_default();
    check("process.user.uid", spec.uid(), maps.map(|maps| maps.uids))?;
    check("process.user.gid", spec.gid(), maps.map(|maps| maps.gids))?;
    for (index, gid) in groups.iter().enumerate() {
        check(&format!("process.user.additionalGids[{index}]"), *gid, maps.map(|maps| maps.gids))?;
    }
    let umask = spec.umask().unwrap_or(DEFAULT_UMASK);
    if umask > 0o777 {
        bail!(field!("process.user.umask"; "{umask} is over 511 (octal 777)"));
    }
    Ok(User { uid: spec.uid(), gid: spec.gid(), groups: AdditionalGroups::Listed(groups), umask })
}

fn check(field: &str, id: u32, map: Option<&[LinuxIdMapping]>) -> Result<()> {
    if id == u32::MAX {
        bail!(field!("{field}"; "{id} is not an id"));
    }
    let within = |map: &LinuxIdMapping| id >= map.container_id() && id - map.container_id() < map.size();
    if map.is_some_and(|map| !map.iter().any(within)) {
        bail!(field!("{field}"; "{id} is not mapped in the user namespace"));
    }
    Ok(())
}

impl User {
    /// The same user in the supplementary groups of whoever makes the process.
    pub fn with_original_groups(self) -> Self {
        Self { groups: AdditionalGroups::Original, ..self }
    }

    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Becomes the user: streams, umask, groups, group id, and at last the user id, which ends the right to the
    /// others.
    pub fn apply(&self) -> Result<(), Fault> {
        proc_self::own_stdio(self.uid)?;
        credentials::set_umask(self.umask);
        self.set_groups()?;
        credentials::set_gid(self.gid)?;
        credentials::set_uid(self.uid)?;
        Ok(())
    }

    /// Where setgroups(2) is denied for good (user_namespaces(7), /proc/PID/setgroups), the groups cannot be dropped
    /// either; to ask for some is an error then, to ask for none is not, as in runc.
    fn set_groups(&self) -> Result<(), Fault> {
        let AdditionalGroups::Listed(groups) = &self.groups else { return Ok(()) };
        match credentials::set_groups(groups) {
            Ok(()) => Ok(()),
            Err(SysError { errno: Errno::EPERM, .. }) if groups.is_empty() => Ok(()),
            Err(SysError { call, errno: Errno::EPERM }) => {
                let words = "process.user.additionalGids: the user namespace denies setgroups";
                Err(Fault::new(call, Errno::EPERM, words))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl fmt::Display for User {
    /// `become user 1000:1000, groups 10 20, umask 0022`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "become user {}:{}", self.uid, self.gid)?;
        match &self.groups {
            AdditionalGroups::Original => f.write_str(", its maker's groups")?,
            AdditionalGroups::Listed(groups) => {
                f.write_str(if groups.is_empty() { "" } else { ", groups" })?;
                groups.iter().try_for_each(|gid| write!(f, " {gid}"))?;
            }
        }
        write!(f, ", umask {:04o}", self.umask)
    }
}

/// Becomes root of the user namespace that the caller has just been put or moved into.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BecomeRoot {
    /// Whether the supplementary groups stay.
    pub keep_groups: bool,
}

impl BecomeRoot {
    /// The supplementary groups, which are the caller's of the runtime, go where that is allowed.
    pub fn apply(&self) -> Result<(), Fault> {
        match if self.keep_groups { Ok(()) } else { credentials::set_groups(&[]) } {
            Ok(()) | Err(SysError { errno: Errno::EPERM, .. }) => {}
            Err(error) => return Err(error.into()),
        }
        credentials::set_gid(0)?;
        Ok(credentials::set_uid(0)?)
    }
}

impl fmt::Display for BecomeRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("become root of the user namespace")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{heap_free, in_a_child, status_line};

    fn spec(json: &str) -> Spec {
        serde_json::from_str(json).expect("user")
    }

    fn map(json: &str) -> Vec<LinuxIdMapping> {
        serde_json::from_str(json).expect("map")
    }

    #[test]
    fn a_user_reads_as_one_line() {
        let user = compile(&spec(r#"{"uid":1000,"gid":100,"additionalGids":[10,20]}"#), None).expect("compiles");
        assert_eq!(user.to_string(), "become user 1000:100, groups 10 20, umask 0022");
    }

    #[test]
    fn the_id_that_means_unchanged_is_refused() {
        for field in ["uid", "gid"] {
            let error = compile(&spec(&format!("{{\"{field}\":4294967295}}")), None).expect_err("no id").to_string();
            assert_eq!(error, format!("process.user.{field}: 4294967295 is not an id"));
        }
    }

    #[test]
    fn an_unmapped_id_is_an_error_that_names_it() {
        let ten = map(r#"[{"containerID":0,"hostID":1000,"size":10}]"#);
        let maps = Some(Maps { uids: &ten, gids: &ten });
        let error = |json| compile(&spec(json), maps).expect_err("unmapped").to_string();
        assert_eq!(error(r#"{"uid":10}"#), "process.user.uid: 10 is not mapped in the user namespace");
        let groups = error(r#"{"uid":9,"additionalGids":[1,44]}"#);
        assert_eq!(groups, "process.user.additionalGids[1]: 44 is not mapped in the user namespace");
        assert!(compile(&spec(r#"{"uid":9}"#), maps).is_ok());
    }

    #[test]
    fn an_umask_beyond_the_permission_bits_is_refused() {
        let error = compile(&spec(r#"{"umask":512}"#), None).unwrap_err().to_string();
        assert_eq!(error, "process.user.umask: 512 is over 511 (octal 777)");
        assert!(compile(&spec(r#"{"umask":511}"#), None).is_ok());
    }

    #[test]
    fn the_kernel_has_the_ids_groups_and_umask() {
        let user = compile(&spec(r#"{"uid":1000,"gid":100,"additionalGids":[20,10],"umask":63}"#), None);
        let user = user.expect("compiles");
        in_a_child(move || {
            heap_free(|| user.apply())?;
            assert_eq!(status_line("Uid")?, "1000\t1000\t1000\t1000");
            assert_eq!(status_line("Gid")?, "100\t100\t100\t100");
            assert_eq!(status_line("Groups")?, "10 20");
            assert_eq!(status_line("Umask")?, "0077");
            Ok(())
        });
    }
}
