//! Against a directory that stands in for a resctrl filesystem. What the kernel makes in a new group, and removes with it,
//! the tests make and remove.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;

/// A directory as resctrl has it, on a machine with two caches; removed at the end.
struct Resctrl(PathBuf);

impl Resctrl {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("ocirt-resctrl-{name}-{}", std::process::id()));
        let resctrl = Self(root);
        let _ = fs::remove_dir_all(&resctrl.0);
        fs::create_dir_all(resctrl.0.join("info")).unwrap();
        fs::write(resctrl.0.join("info/last_cmd_status"), "ok\n").unwrap();
        resctrl.fill("");
        resctrl
    }

    /// What the kernel puts into a group.
    fn fill(&self, group: &str) {
        fs::create_dir_all(self.0.join(group).join("mon_groups")).unwrap();
        fs::write(self.0.join(group).join("tasks"), "").unwrap();
        fs::write(self.0.join(group).join("schemata"), "    L3:0=7ff;1=7ff\n    MB:0=100;1= 70\n").unwrap();
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap_or_else(|error| format!("{file}: {error}"))
    }

    fn mountinfo(&self) -> Vec<u8> {
        format!(
            "24 1 0:22 / / rw shared:1 - ext4 /dev/sda1 rw\n36 24 0:31 / {} rw,nosuid - resctrl resctrl rw\n",
            self.0.display()
        )
        .into_bytes()
    }

    fn compile(&self, spec: Value) -> Result<IntelRdt> {
        compile(&serde_json::from_value(spec).unwrap(), "container1", &self.mountinfo())
    }

    fn create(&self, spec: Value) -> Result<(IntelRdt, CreatedGroups)> {
        let intel_rdt = self.compile(spec)?;
        let created = intel_rdt.create()?;
        Ok((intel_rdt, created))
    }

    fn refused(&self, spec: Value) -> String {
        let before = self.list();
        let error = format!("{:#}", self.create(spec).map(|_| ()).unwrap_err())
            .replace(&format!("{}", self.0.display()), "ROOT");
        assert_eq!(self.list(), before, "{error}");
        error
    }

    fn list(&self) -> Vec<PathBuf> {
        let mut all = vec![self.0.clone()];
        let mut at = 0;
        while let Some(directory) = all.get(at).cloned() {
            let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
            all.extend(entries.filter(|path| path.is_dir()));
            at += 1;
        }
        all.sort();
        all
    }
}

impl Drop for Resctrl {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// As rmdir of resctrl does: the kernel's files go with a group.
fn rmdir_takes_files(group: &Path) {
    for name in ["tasks", "schemata"] {
        let _ = fs::remove_file(group.join(name));
    }
}

#[test]
fn without_a_resctrl_filesystem_it_is_an_error() {
    let spec = serde_json::from_value(json!({ "closID": "a" })).unwrap();
    let error = compile(&spec, "c", b"24 1 0:22 / /resctrl rw - tmpfs resctrl rw\n").unwrap_err().to_string();
    assert_eq!(error, "linux.intelRdt: no resctrl filesystem is mounted");
    let spaces = b"36 24 0:31 / /a\\040b rw shared:5 master:1 - resctrl none rw\n";
    assert_eq!(mount_point(spaces), Some(PathBuf::from("/a b")));
}

#[test]
fn without_a_clos_id_the_group_is_the_containers_and_ends_with_it() {
    let resctrl = Resctrl::new("own");
    let (intel_rdt, mut created) =
        resctrl.create(json!({ "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20" })).unwrap();
    created.keep();
    drop(created);
    // Each line is a write of its own, the bandwidth last; a plain file keeps the last one.
    assert_eq!(resctrl.read("container1/schemata"), "MB:0=20\n");
    let saved = serde_json::to_string(intel_rdt.groups()).unwrap();
    let groups: Groups = serde_json::from_str(&saved).unwrap();
    groups.add(4711).unwrap();
    assert_eq!(resctrl.read("container1/tasks"), "4711");
    rmdir_takes_files(&resctrl.0.join("container1"));
    groups.remove().unwrap();
    assert!(!resctrl.0.join("container1").exists());
    groups.remove().unwrap();
}

#[test]
fn a_failed_create_removes_what_it_made() {
    let resctrl = Resctrl::new("undo");
    let before = resctrl.list();
    drop(resctrl.create(json!({})).unwrap());
    assert_eq!(resctrl.list(), before);
    // Nobody fills the new group here, so there is no mon_groups in it.
    let error = resctrl.refused(json!({ "closID": "new", "enableMonitoring": true, "schemata": [] }));
    assert_eq!(error, "linux.intelRdt.closID: ROOT/new is no group that is there");
    let error = resctrl.refused(json!({ "enableMonitoring": true }));
    assert!(
        error.starts_with("linux.intelRdt.enableMonitoring: ROOT/container1/mon_groups/container1: mkdir"),
        "{error}"
    );
    assert_eq!(resctrl.list(), before);
}

#[test]
fn a_group_of_the_containers_id_that_was_there_stays() {
    let resctrl = Resctrl::new("there");
    resctrl.fill("container1");
    let (intel_rdt, mut created) = resctrl.create(json!({})).unwrap();
    created.keep();
    intel_rdt.groups().remove().unwrap();
    assert!(resctrl.0.join("container1").exists());
}

#[test]
fn a_named_group_is_made_or_compared_and_stays() {
    let resctrl = Resctrl::new("named");
    let (intel_rdt, mut created) = resctrl.create(json!({ "closID": "gold", "schemata": ["L3:0=f;1=f"] })).unwrap();
    created.keep();
    assert_eq!(resctrl.read("gold/schemata"), "L3:0=f;1=f\n");
    intel_rdt.groups().remove().unwrap();
    assert!(resctrl.0.join("gold").exists());

    resctrl.fill("silver");
    for same in [
        json!({ "closID": "silver", "l3CacheSchema": "L3:1=7FF;0=07ff" }),
        json!({ "closID": "silver", "l3CacheSchema": "L3:0=7ff", "memBwSchema": "MB:0=100;1=70" }),
    ] {
        let before = resctrl.read("silver/schemata");
        drop(resctrl.create(same).unwrap());
        assert_eq!(resctrl.read("silver/schemata"), before);
    }
    let other = "linux.intelRdt.memBwSchema: ROOT/silver/schemata has another schema than \"MB:0=100;1=7\"";
    assert_eq!(resctrl.refused(json!({ "closID": "silver", "memBwSchema": "MB:0=100;1=7" })), other);
    let none = "linux.intelRdt.l3CacheSchema: ROOT/silver/schemata has no line for L3CODE";
    assert_eq!(resctrl.refused(json!({ "closID": "silver", "l3CacheSchema": "L3CODE:0=f" })), none);
    // `schemata` is written, also to a group that is there.
    drop(resctrl.create(json!({ "closID": "silver", "l3CacheSchema": "L3:0=7ff", "schemata": ["L2:0=f"] })).unwrap());
    assert_eq!(resctrl.read("silver/schemata"), "L2:0=f\n");
}

#[test]
fn a_group_without_schemata_must_be_there_and_nothing_is_written_to_it() {
    let resctrl = Resctrl::new("existing");
    let absent = "linux.intelRdt.closID: ROOT/bronze is no group that is there";
    assert_eq!(resctrl.refused(json!({ "closID": "bronze" })), absent);
    resctrl.fill("bronze");
    let before = resctrl.read("bronze/schemata");
    let (intel_rdt, _created) = resctrl.create(json!({ "closID": "bronze" })).unwrap();
    intel_rdt.groups().add(7).unwrap();
    assert_eq!((resctrl.read("bronze/tasks").as_str(), resctrl.read("bronze/schemata")), ("7", before));
}

#[test]
fn a_slash_is_the_default_group() {
    let resctrl = Resctrl::new("default");
    let (intel_rdt, mut created) = resctrl.create(json!({ "closID": "/", "enableMonitoring": true })).unwrap();
    created.keep();
    intel_rdt.groups().add(8).unwrap();
    assert_eq!((resctrl.read("tasks").as_str(), resctrl.read("mon_groups/container1/tasks").as_str()), ("8", "8"));
    rmdir_takes_files(&resctrl.0.join("mon_groups/container1"));
    intel_rdt.groups().remove().unwrap();
    assert!(resctrl.0.exists() && !resctrl.0.join("mon_groups/container1").exists());
}

#[test]
fn a_monitoring_group_is_the_containers_alone() {
    let resctrl = Resctrl::new("monitoring");
    resctrl.fill("gold");
    fs::create_dir(resctrl.0.join("gold/mon_groups/container1")).unwrap();
    let there = "linux.intelRdt.enableMonitoring: ROOT/gold/mon_groups/container1: mkdir: file exists";
    assert_eq!(resctrl.refused(json!({ "closID": "gold", "enableMonitoring": true })), there);
}

#[test]
fn an_update_writes_to_the_group() {
    let resctrl = Resctrl::new("update");
    resctrl.fill("gold");
    let groups = resctrl.compile(json!({ "closID": "gold" })).unwrap().groups().clone();
    groups.update(Some("L3:0=3"), None).unwrap().keep();
    assert_eq!(resctrl.read("gold/schemata"), "L3:0=3\n");
    let error = groups.update(Some("L3:0=1"), Some("nonsense")).unwrap_err().to_string();
    assert_eq!(error, "linux.intelRdt.memBwSchema: \"nonsense\" is not a line that begins with MB:");
    assert_eq!(resctrl.read("gold/schemata"), "L3:0=3\n");
}

#[test]
fn an_update_that_is_not_kept_brings_the_old_schemata_back() {
    let resctrl = Resctrl::new("undo");
    resctrl.fill("gold");
    let groups = resctrl.compile(json!({ "closID": "gold" })).unwrap().groups().clone();
    let changed = groups.update(None, Some("MB:0=10")).unwrap();
    assert_eq!(resctrl.read("gold/schemata"), "MB:0=10\n");
    drop(changed);
    // The kernel's file would have the other line as well.
    assert_eq!(resctrl.read("gold/schemata"), "MB:0=100;1= 70\n");
}

#[test]
fn errors_name_the_field() {
    let resctrl = Resctrl::new("errors");
    for (spec, expected) in [
        (json!({ "closID": "../x" }), "linux.intelRdt.closID: \"../x\" cannot be the name of a group"),
        (json!({ "closID": "mon_groups" }), "linux.intelRdt.closID: \"mon_groups\" cannot be the name of a group"),
        (
            json!({ "memBwSchema": "L3:0=f" }),
            "linux.intelRdt.memBwSchema: \"L3:0=f\" is not a line that begins with MB:",
        ),
        (
            json!({ "l3CacheSchema": "L3:0=f\nMB:0=1" }),
            "linux.intelRdt.l3CacheSchema: \"L3:0=f\\nMB:0=1\" is more than one line",
        ),
        (json!({ "schemata": ["a\nb"] }), "linux.intelRdt.schemata: \"a\\nb\" is more than one line"),
    ] {
        assert_eq!(resctrl.refused(spec), expected);
    }
}

#[test]
fn statistics_have_the_names_of_runc() {
    let resctrl = Resctrl::new("stats");
    let file = |name: &str, text: &str| {
        let path = resctrl.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let groups =
        Groups { group: resctrl.0.join("one"), owned: true, monitoring: Some(resctrl.0.join("one/mon_groups/c")) };
    resctrl.fill("one");
    assert_eq!(serde_json::to_value(groups.stats()).unwrap(), json!({}), "a machine that has none of it");
    for (name, text) in [("cbm_mask", "7ff\n"), ("min_cbm_bits", "1\n"), ("num_closids", "16\n")] {
        file(&format!("info/L3/{name}"), text);
    }
    for (name, text) in
        [("bandwidth_gran", "10\n"), ("delay_linear", "1\n"), ("min_bandwidth", "10\n"), ("num_closids", "8\n")]
    {
        file(&format!("info/MB/{name}"), text);
    }
    file("info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes\n");
    file("one/schemata", "    L3:0=3;1=7ff\n    MB:0=20;1= 70\n");
    for (domain, text) in [("mon_L3_00", "5\n"), ("mon_L3_01", "Unavailable\n")] {
        file(&format!("one/mon_groups/c/mon_data/{domain}/llc_occupancy"), text);
        file(&format!("one/mon_groups/c/mon_data/{domain}/mbm_total_bytes"), "9\n");
        file(&format!("one/mon_groups/c/mon_data/{domain}/mbm_local_bytes"), "7\n");
    }
    let bandwidth = json!({ "mbm_total_bytes": 9, "mbm_local_bytes": 7 });
    let expected = json!({
        "l3_cache_info": { "cbm_mask": "7ff", "min_cbm_bits": 1, "num_closids": 16 },
        "l3_cache_schema_root": "L3:0=7ff;1=7ff",
        "l3_cache_schema": "L3:0=3;1=7ff",
        "mem_bw_info": { "bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8 },
        "mem_bw_schema_root": "MB:0=100;1= 70",
        "mem_bw_schema": "MB:0=20;1= 70",
        "mbm_stats": [bandwidth, bandwidth],
        "cmt_stats": [{ "llc_occupancy": 5 }, { "llc_occupancy": 0 }],
    });
    assert_eq!(serde_json::to_value(groups.stats()).unwrap(), expected);
}
