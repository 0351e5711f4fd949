//! `ocirt update`.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use serde_json::{Map, Value};

use super::bytes;
use super::select;
use crate::container::bundle;
use crate::error::io_error;
use crate::lifecycle::{self, Host};

/// Change the limits of a container
///
/// What is not given stays as it is. BYTES may have a suffix: 512k, 1.5g, 2GiB. FILE holds an object as linux.resources
/// in config.json, {"memory": {"limit": 67108864}, "pids": {"limit": 100}}; with it, the other flags are ignored.
#[derive(Args, Debug, Default)]
#[command(verbatim_doc_comment)]
pub struct Update {
    /// File with the limits as JSON, or - for standard input
    #[arg(short, long, value_name = "FILE", allow_hyphen_values = true)]
    resources: Option<PathBuf>,

    /// Weight of block IO, from 10 to 1000
    #[arg(long, value_name = "WEIGHT", allow_hyphen_values = true)]
    blkio_weight: Option<String>,

    /// Length of the period that --cpu-quota is about, in microseconds
    #[arg(long, value_name = "USECS", allow_hyphen_values = true)]
    cpu_period: Option<String>,

    /// CPU time in each period, in microseconds; -1 for no limit
    #[arg(long, value_name = "USECS", allow_hyphen_values = true)]
    cpu_quota: Option<String>,

    /// CPU time that may be saved up beyond the quota, in microseconds
    #[arg(long, value_name = "USECS", allow_hyphen_values = true)]
    cpu_burst: Option<String>,

    /// CPU time relative to other containers, from 2 to 262144
    #[arg(long, value_name = "SHARES", allow_hyphen_values = true)]
    cpu_share: Option<String>,

    /// Length of the period for real-time processes, in microseconds
    #[arg(long, value_name = "USECS", allow_hyphen_values = true)]
    cpu_rt_period: Option<String>,

    /// CPU time of real-time processes in each period, in microseconds
    #[arg(long, value_name = "USECS", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<String>,

    /// 1: run only when nobody else wants to (SCHED_IDLE)
    #[arg(long, value_name = "0|1", allow_hyphen_values = true)]
    cpu_idle: Option<String>,

    /// CPUs to run on, as 0-3,5
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    cpuset_cpus: Option<String>,

    /// Memory nodes to use, as 0,1
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    cpuset_mems: Option<String>,

    /// Limit of memory; -1 for no limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory: Option<String>,

    /// Memory that is kept for the container when it is scarce; -1 for no limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_reservation: Option<String>,

    /// Limit of memory and swap together; -1 for no limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<String>,

    /// Limit of processes; -1 for no limit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<String>,

    /// Intel RDT: schema of the L3 cache
    #[arg(long, value_name = "SCHEMA", allow_hyphen_values = true)]
    l3_cache_schema: Option<String>,

    /// Intel RDT: schema of the memory bandwidth
    #[arg(long, value_name = "SCHEMA", allow_hyphen_values = true)]
    mem_bw_schema: Option<String>,

    /// Accepted for older engines, and ignored
    #[arg(long, value_name = "BYTES", hide = true, allow_hyphen_values = true)]
    kernel_memory: Option<String>,

    /// Accepted for older engines, and ignored
    #[arg(long, value_name = "BYTES", hide = true, allow_hyphen_values = true)]
    kernel_memory_tcp: Option<String>,

    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,
}

/// More than any list of limits takes.
const MOST: u64 = 16 << 20;

impl Update {
    pub fn execute(self, host: &Host) -> Result<()> {
        let id = select::id("update", &self.id)?;
        self.update(host, &id).with_context(|| format!("update {id}"))
    }

    fn update(&self, host: &Host, id: &lifecycle::Id) -> Result<()> {
        for (flag, value) in
            [("--kernel-memory", &self.kernel_memory), ("--kernel-memory-tcp", &self.kernel_memory_tcp)]
        {
            if given(value).is_some() {
                host.log.warn(&format!("{flag} is ignored: the kernel has no such limit anymore"));
            }
        }
        let resources = match &self.resources {
            Some(path) if !path.as_os_str().is_empty() => {
                read(path).with_context(|| format!("--resources {}", path.display()))?
            }
            _ => self.flags()?.to_string().into_bytes(),
        };
        let schemata = lifecycle::Schemata {
            l3_cache: given(&self.l3_cache_schema),
            memory_bandwidth: given(&self.mem_bw_schema),
        };
        lifecycle::update(host, id, &resources, schemata)
    }

    /// What the flags say as a `linux.resources`.
    fn flags(&self) -> Result<Value> {
        let mut all = Map::new();
        let numbers = [
            ("--blkio-weight", "blockIO", "weight", &self.blkio_weight),
            ("--cpu-period", "cpu", "period", &self.cpu_period),
            ("--cpu-quota", "cpu", "quota", &self.cpu_quota),
            ("--cpu-burst", "cpu", "burst", &self.cpu_burst),
            ("--cpu-share", "cpu", "shares", &self.cpu_share),
            ("--cpu-rt-period", "cpu", "realtimePeriod", &self.cpu_rt_period),
            ("--cpu-rt-runtime", "cpu", "realtimeRuntime", &self.cpu_rt_runtime),
            ("--cpu-idle", "cpu", "idle", &self.cpu_idle),
            ("--pids-limit", "pids", "limit", &self.pids_limit),
        ];
        for (flag, section, field, value) in numbers {
            let Some(text) = given(value) else { continue };
            put(&mut all, section, field, number(text).with_context(|| flag.to_owned())?);
        }
        let sizes = [
            ("--memory", "limit", &self.memory),
            ("--memory-reservation", "reservation", &self.memory_reservation),
            ("--memory-swap", "swap", &self.memory_swap),
        ];
        for (flag, field, value) in sizes {
            let Some(text) = given(value) else { continue };
            let size = if text == "-1" { -1 } else { bytes::parse(text).with_context(|| flag.to_owned())? };
            put(&mut all, "memory", field, size.into());
        }
        for (field, value) in [("cpus", &self.cpuset_cpus), ("mems", &self.cpuset_mems)] {
            let Some(text) = given(value) else { continue };
            put(&mut all, "cpu", field, text.into());
        }
        Ok(Value::Object(all))
    }
}

/// A flag's value; an empty one is none, as with runc.
fn given(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|text| !text.is_empty())
}

fn put(all: &mut Map<String, Value>, section: &str, field: &str, value: Value) {
    let section = all.entry(section).or_insert_with(|| Value::Object(Map::new()));
    if let Some(section) = section.as_object_mut() {
        section.insert(field.to_owned(), value);
    }
}

fn number(text: &str) -> Result<Value> {
    let unsigned = text.parse::<u64>().map(Value::from);
    unsigned.or_else(|_| text.parse::<i64>().map(Value::from)).map_err(|_| anyhow!("{text:?} is not a number"))
}

pub fn read(path: &Path) -> Result<Vec<u8>> {
    let words = |call: &'static str| move |error: std::io::Error| io_error(call, &error);
    let mut text = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().take(MOST).read_to_end(&mut text).map_err(words("read"))?;
    } else {
        text = bundle::read(path, MOST as usize)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn flags_are_the_resources_of_the_specification() {
        let text = |text: &str| Some(text.to_owned());
        let update = Update {
            memory: text("64m"),
            memory_swap: text("-1"),
            cpu_quota: text("-1"),
            cpu_period: text("100000"),
            cpuset_cpus: text("0-1"),
            pids_limit: text("7"),
            blkio_weight: text(""),
            ..Update::default()
        };
        let expected = json!({
            "memory": { "limit": 64 << 20, "swap": -1 },
            "cpu": { "quota": -1, "period": 100_000, "cpus": "0-1" },
            "pids": { "limit": 7 },
        });
        assert_eq!(update.flags().unwrap(), expected);
        assert_eq!(Update::default().flags().unwrap(), json!({}));
    }

    #[test]
    fn an_error_names_the_flag() {
        let refused = |update: Update| format!("{:#}", update.flags().unwrap_err());
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            refused(Update { cpu_share: text("many"), ..Update::default() }),
            "--cpu-share: \"many\" is not a number"
        );
        assert_eq!(refused(Update { memory: text("12x"), ..Update::default() }), "--memory: invalid suffix: 'x'");
    }
}
