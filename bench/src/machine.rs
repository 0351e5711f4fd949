//! The machine that measures: what it is, and whether others kept it busy meanwhile.

use std::fmt;
use std::fs;

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{SysconfVar, sysconf};
use serde_json::{Value, json};

use crate::host::Host;
use crate::peer::Peer;

/// Of the processors' time, what others may use before figures are doubtful.
const TOLERABLE: f64 = 0.03;

pub struct Machine {
    pub kernel: String,
    pub processor: String,
    pub processors: usize,
    /// `v1` or `v2`.
    pub cgroups: &'static str,
    /// Each runtime's name and the first line of its `--version`.
    pub versions: Vec<(String, String)>,
    begin: Use,
    /// The share of the processors' time that others used, 0 to 1.
    others: f64,
}

impl Machine {
    /// At the beginning.
    pub fn look(host: &Host, peers: &[Peer]) -> Result<Self> {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
        let processor = fs::read_to_string("/proc/cpuinfo")?;
        let processor = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let version = |peer: &Peer| -> Result<(String, String)> {
            let said = peer.measure_line(&[peer.path.display().to_string(), "--version".to_owned()], 0)?.output;
            Ok((peer.name.clone(), said.lines().next().unwrap_or_default().to_owned()))
        };
        Ok(Self {
            kernel,
            processor: processor.map_or("unknown", |(_, name)| name).to_owned(),
            processors: std::thread::available_parallelism()?.get(),
            cgroups: if host.unified { "v2" } else { "v1" },
            versions: peers.iter().map(version).collect::<Result<_>>()?,
            begin: Use::now()?,
            others: 0.0,
        })
    }

    /// At the end, when everything measured has ended and was waited for.
    pub fn look_again(&mut self) -> Result<()> {
        self.others = Use::now()?.others_since(&self.begin);
        Ok(())
    }

    /// Whether to believe the figures, in a sentence.
    pub fn verdict(&self) -> String {
        let share = self.others * 100.0;
        if self.others > TOLERABLE {
            format!("Others used {share:.1} % of the processors meanwhile: measure again on a quiet machine.")
        } else {
            format!("Others used {share:.1} % of the processors meanwhile.")
        }
    }

    pub fn to_json(&self) -> Value {
        let versions: serde_json::Map<String, Value> =
            self.versions.iter().map(|(name, version)| (name.clone(), version.clone().into())).collect();
        json!({"kernel": self.kernel, "processor": self.processor, "processors": self.processors, "cgroups": self.cgroups,
            "versions": versions, "used_by_others": self.others})
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { kernel, processor, processors, cgroups, .. } = self;
        writeln!(f, "kernel {kernel}, cgroup {cgroups}, {processors} × {processor}")?;
        self.versions.iter().try_for_each(|(name, version)| writeln!(f, "{name:<10} {version}"))
    }
}

/// Processor time in user space since boot, in seconds. That of the kernel is left out: freeing namespaces and cgroups
/// is its own threads' work, but ours.
struct Use {
    /// Of all processes; time that a hypervisor gave to others included.
    all: f64,
    /// Of this one and of those that it waited for.
    own: f64,
    /// All that there was.
    total: f64,
}

impl Use {
    fn now() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().context("/proc/stat is empty")?;
        let ticks: Vec<f64> = line.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>()?;
        let a_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock ticks")? as f64;
        // user nice system idle iowait irq softirq steal, and guest times that are part of user's: proc_stat(5)
        let &[user, nice, _, _, _, _, _, steal, ..] = ticks.as_slice() else {
            anyhow::bail!("/proc/stat: {line:?}");
        };
        let seconds = |who| -> Result<f64> {
            let time = getrusage(who)?.user_time();
            Ok(time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
        };
        Ok(Self {
            all: (user + nice + steal) / a_second,
            own: seconds(UsageWho::RUSAGE_SELF)? + seconds(UsageWho::RUSAGE_CHILDREN)?,
            total: ticks.iter().take(8).sum::<f64>() / a_second,
        })
    }

    fn others_since(&self, begin: &Self) -> f64 {
        let others = (self.all - begin.all) - (self.own - begin.own);
        (others / (self.total - begin.total)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_used_is_neither_our_own_nor_idle_time() {
        let begin = Use { all: 100.0, own: 5.0, total: 1000.0 };
        let end = Use { all: 140.0, own: 25.0, total: 1200.0 };
        assert_eq!(end.others_since(&begin), 0.1);
        // Ticks are coarse.
        assert_eq!(Use { all: 100.0, own: 6.0, total: 1001.0 }.others_since(&begin), 0.0);
    }
}
