//! `--cgroup-manager disabled`: no cgroup is made and none is entered, so nothing can be limited. The container stays
//! in the runtime's own cgroups.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{Linux, LinuxResources};

use super::host::layout::{CgroupHost, Layout};
use super::host::path::CgroupPlace;
use super::prepared::{self, Cgroup};
use super::wanted::v1;
use crate::error::{Faults, Field, field};
use crate::sys::cgroup;

const WHY: &str = "needs a cgroup, and --cgroup-manager disabled makes none";

/// No cgroup, for container `id`. A limit or a place for one is refused; "no limit" is what there is anyway. Device
/// rules, which every engine writes whether asked or not, cannot be in force: a warning says so.
pub fn compile_none(linux: &Linux, id: &str) -> Result<Cgroup> {
    let path = linux.cgroups_path().as_ref().filter(|path| !path.as_os_str().is_empty());
    ensure!(path.is_none(), field!("linux.cgroupsPath"; "{WHY}"));
    let none = LinuxResources::default();
    let resources = linux.resources().as_ref().unwrap_or(&none);
    refuse_limits(resources)?;
    let root = cgroup::open_location(cgroup::here(), c"/").context("/")?;
    let host = CgroupHost { root, layout: Layout::V2, hierarchies: Vec::new() };
    let nothing = serde_json::from_str("{}").context("linux")?;
    let mut cgroup =
        prepared::compile_for(host, &CgroupPlace::compile(None, id)?, &nothing, || false, None, &mut Faults::first())?;
    cgroup.paths.directories = BTreeMap::new();
    if resources.devices().as_ref().is_some_and(|devices| !devices.is_empty()) {
        cgroup.warnings.push("linux.resources.devices: without a cgroup no rule is in force".to_owned());
    }
    Ok(cgroup)
}

fn refuse_limits(resources: &LinuxResources) -> Result<()> {
    ensure!(resources.unified().as_ref().is_none_or(|all| all.is_empty()), field!("linux.resources.unified"; "{WHY}"));
    // v1 has a write for each field that sets anything.
    let writes = v1::compile(resources, &mut Faults::first())?;
    match writes.list.iter().find(|write| !matches!(write.value.as_str(), "-1" | "max")) {
        Some(write) => bail!(Field::new(write.field.clone()).is(WHY)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn compiled(linux: Value) -> Result<Cgroup> {
        compile_none(&serde_json::from_value(linux).unwrap(), "x")
    }

    #[test]
    fn without_limits_there_is_no_cgroup() {
        let devices = json!([{ "allow": false, "access": "rwm" }]);
        let unlimited =
            json!({ "pids": { "limit": -1 }, "memory": { "limit": -1 }, "cpu": { "shares": 0 }, "devices": devices });
        for linux in [json!({}), json!({ "cgroupsPath": "" }), json!({ "resources": unlimited })] {
            let cgroup = compiled(linux).unwrap();
            assert!(cgroup.paths().directories.is_empty() && cgroup.groups.is_empty());
            assert!(!cgroup.paths().exists());
            cgroup.create().unwrap().keep();
        }
    }

    #[test]
    fn each_limit_is_refused_by_field() {
        let refused = |linux: Value| compiled(linux).unwrap_err().to_string();
        for (field, value) in [
            ("memory", json!({ "limit": 4096 })),
            ("cpu", json!({ "shares": 5 })),
            ("pids", json!({ "limit": 5 })),
            ("blockIO", json!({ "weight": 500 })),
            ("unified", json!({ "pids.max": "5" })),
            ("network", json!({ "classID": 5 })),
            ("rdma", json!({ "mlx": { "hcaHandles": 5 } })),
            ("hugepageLimits", json!([{ "pageSize": "2MB", "limit": 5 }])),
        ] {
            let error = refused(json!({ "resources": { field: value } }));
            assert!(error.starts_with(&format!("linux.resources.{field}")) && error.ends_with(WHY), "{error}");
        }
        assert_eq!(refused(json!({ "cgroupsPath": "/a" })), format!("linux.cgroupsPath: {WHY}"));
    }
}
