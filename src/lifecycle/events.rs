//! events: what a container uses, once or again and again, and when it runs out of memory.

mod interfaces;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::disk::found::Found;
use super::disk::state::State;
use super::host::Host;
use super::id::Id;
use super::refusal::Refusal;
use super::status::Status;
use crate::container::cgroup::stats::Stats;
use crate::container::intel_rdt;
use crate::sys::process;
use interfaces::Interface;

/// One line of output, as runc's types/events.go has it.
#[derive(Serialize, Debug)]
pub struct Event<'a> {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
}

#[derive(Serialize, Debug)]
pub struct Data {
    #[serde(flatten)]
    cgroup: Stats,
    /// Empty without a resctrl group.
    intel_rdt: intel_rdt::stats::RdtStats,
    network_interfaces: Option<Vec<Interface>>,
}

/// Tells `print` what the container uses, every `interval`, and each time it has run out of memory; returns when the
/// container has ended. Without an interval, tells what it uses now, and returns.
pub fn events(
    host: &Host,
    id: &Id,
    interval: Option<Duration>,
    mut print: impl FnMut(&Event) -> Result<()>,
) -> Result<()> {
    let found = Found::open(host, id)?;
    if matches!(found.status, Status::Stopped | Status::Creating) {
        bail!(Refusal::NotRunning);
    }
    found.needs_cgroup()?;
    let state = &found.state;
    let Some(interval) = interval else { return print(&stats(state)?) };
    let init = state.init.ok_or(Refusal::NotRunning)?;
    let pidfd = init.open()?.ok_or(Refusal::NotRunning)?;
    let mut watch = state.cgroup.watch_oom()?;
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        // Rounded up, or the last part of a millisecond would be spent turning round.
        let milliseconds = u32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u32::MAX);
        let wanted = watch.as_ref().map(|watch| (watch.as_fd(), process::Ready::Read));
        let [ended, _] = process::poll_for([Some((pidfd.as_fd(), process::Ready::Read)), wanted], Some(milliseconds))
            .context("poll")?;
        // First, since it may be why the container has ended.
        if let Some(watch) = &mut watch
            && watch.take()?
        {
            print(&Event { kind: "oom", id: &state.id, data: None })?;
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            print(&stats(state)?)?;
            next = Instant::now() + interval;
        }
    }
}

fn stats(state: &State) -> Result<Event<'_>> {
    let cgroup = Stats::read(&state.cgroup)?;
    let intel_rdt = state.intel_rdt.as_ref().map(intel_rdt::Groups::stats).unwrap_or_default();
    let network_interfaces = state.init.and_then(|init| interfaces::of(init.pid));
    Ok(Event { kind: "stats", id: &state.id, data: Some(Data { cgroup, intel_rdt, network_interfaces }) })
}
