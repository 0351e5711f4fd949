//! What Intel RDT knows of a container, in the form of `runc events`: the names of runc's types/events.go.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::Groups;

/// Empty for a container without groups.
#[derive(Serialize, Default, PartialEq, Debug)]
pub struct RdtStats {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<L3CacheInfo>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema_root: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<MemBwInfo>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema_root: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbm_stats: Option<Vec<Bandwidth>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmt_stats: Option<Vec<Occupancy>>,
}

/// resctrl's `info/L3`.
#[derive(Serialize, Default, PartialEq, Debug)]
pub struct L3CacheInfo {
    pub cbm_mask: String,
    pub min_cbm_bits: u64,
    pub num_closids: u64,
}

/// resctrl's `info/MB`.
#[derive(Serialize, Default, PartialEq, Debug)]
pub struct MemBwInfo {
    pub bandwidth_gran: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub delay_linear: u64,
    pub min_bandwidth: u64,
    pub num_closids: u64,
}

/// Bytes that went over one cache domain.
#[derive(Serialize, Default, PartialEq, Debug)]
pub struct Bandwidth {
    pub mbm_total_bytes: u64,
    pub mbm_local_bytes: u64,
}

/// Bytes in one cache.
#[derive(Serialize, Default, PartialEq, Debug)]
pub struct Occupancy {
    pub llc_occupancy: u64,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Groups {
    /// What the kernel says now; what it does not have is left out.
    pub fn stats(&self) -> RdtStats {
        let root = if self.group.join("info").is_dir() { Some(self.group.as_path()) } else { self.group.parent() };
        let root = root.unwrap_or(&self.group);
        let (all, own) = (text(&root.join("schemata")), text(&self.group.join("schemata")));
        let (l3, mb) = (root.join("info/L3"), root.join("info/MB"));
        let mut stats = RdtStats::default();
        if l3.is_dir() {
            stats.l3_cache_info = Some(L3CacheInfo {
                cbm_mask: text(&l3.join("cbm_mask")).trim().to_owned(),
                min_cbm_bits: number(&l3.join("min_cbm_bits")),
                num_closids: number(&l3.join("num_closids")),
            });
            stats.l3_cache_schema_root = schema(&all, "L3");
            stats.l3_cache_schema = schema(&own, "L3");
        }
        if mb.is_dir() {
            stats.mem_bw_info = Some(MemBwInfo {
                bandwidth_gran: number(&mb.join("bandwidth_gran")),
                delay_linear: number(&mb.join("delay_linear")),
                min_bandwidth: number(&mb.join("min_bandwidth")),
                num_closids: number(&mb.join("num_closids")),
            });
            stats.mem_bw_schema_root = schema(&all, "MB");
            stats.mem_bw_schema = schema(&own, "MB");
        }
        self.monitor(root, &mut stats);
        stats
    }

    /// The counters of the monitoring group, or of the whole group without one.
    fn monitor(&self, root: &Path, stats: &mut RdtStats) {
        let features = text(&root.join("info/L3_MON/mon_features"));
        let has = |feature: &str| features.lines().any(|line| line == feature);
        let data = self.monitoring.as_ref().unwrap_or(&self.group).join("mon_data");
        let mut domains: Vec<_> =
            fs::read_dir(data).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        domains.sort();
        if has("mbm_total_bytes") || has("mbm_local_bytes") {
            let bandwidth = |domain: &std::path::PathBuf| Bandwidth {
                mbm_total_bytes: number(&domain.join("mbm_total_bytes")),
                mbm_local_bytes: number(&domain.join("mbm_local_bytes")),
            };
            stats.mbm_stats = Some(domains.iter().map(bandwidth).collect());
        }
        if has("llc_occupancy") {
            let occupancy =
                |domain: &std::path::PathBuf| Occupancy { llc_occupancy: number(&domain.join("llc_occupancy")) };
            stats.cmt_stats = Some(domains.iter().map(occupancy).collect());
        }
    }
}

/// The line of `schemata` for a resource.
fn schema(schemata: &str, resource: &str) -> String {
    let line = schemata.lines().map(str::trim).find(|line| line.starts_with(resource));
    line.unwrap_or_default().to_owned()
}

/// Empty if it cannot be read.
fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Zero for what is no number: the kernel says `Unavailable` at times.
fn number(path: &Path) -> u64 {
    text(path).trim().parse().unwrap_or(0)
}
