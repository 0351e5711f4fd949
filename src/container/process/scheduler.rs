//! `process.scheduler`: policy and attributes (sched(7), sched_setattr(2)).

use std::fmt;

use anyhow::{Result, bail};
use oci_spec::runtime::{LinuxSchedulerFlag, LinuxSchedulerPolicy, Scheduler as Spec};

use crate::error::field;
use crate::sys::sched::{self, SchedAttr};
use crate::sys::{Errno, Fault, SysError};

/// What sched_setattr(2) takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scheduler {
    policy: LinuxSchedulerPolicy,
    attr: SchedAttr,
}

/// The prepared scheduler. A priority, runtime, deadline or period that the policy does not have is an error, as in
/// runc; so is a nice value out of range, which the kernel would clamp.
pub fn compile(spec: &Spec) -> Result<Scheduler> {
    use LinuxSchedulerPolicy::{SchedDeadline, SchedFifo, SchedIso, SchedRr};
    let policy = *spec.policy();
    let (nice, priority) = (spec.nice().unwrap_or(0), spec.priority().unwrap_or(0));
    if policy == SchedIso {
        bail!(field!("process.scheduler.policy"; "SCHED_ISO is reserved, Linux does not have it"));
    }
    if !(-20..=19).contains(&nice) {
        bail!(field!("process.scheduler.nice"; "{nice} is not between -20 and 19"));
    }
    match u32::try_from(priority) {
        Ok(1..=99) if matches!(policy, SchedFifo | SchedRr) => {}
        Ok(0) if !matches!(policy, SchedFifo | SchedRr) => {}
        _ if matches!(policy, SchedFifo | SchedRr) => {
            bail!(field!("process.scheduler.priority"; "{priority} is not between 1 and 99, as {policy} needs it"))
        }
        _ => bail!(field!("process.scheduler.priority"; "{policy} has no priority, only SCHED_FIFO and SCHED_RR have")),
    }
    let attr = SchedAttr {
        size: 0,
        policy: number(policy),
        flags: spec.flags().iter().flatten().fold(0, |flags, flag| flags | bit(*flag)),
        nice,
        priority: priority.unsigned_abs(),
        runtime: spec.runtime().unwrap_or(0),
        deadline: spec.deadline().unwrap_or(0),
        period: spec.period().unwrap_or(0),
        util_min: 0,
        util_max: 0,
    };
    for (field, value) in [("runtime", attr.runtime), ("deadline", attr.deadline), ("period", attr.period)] {
        if value != 0 && policy != SchedDeadline {
            bail!(field!("process.scheduler.{field}"; "only SCHED_DEADLINE has one, not {policy}"));
        }
    }
    Ok(Scheduler { policy, attr })
}

const fn number(policy: LinuxSchedulerPolicy) -> u32 {
    match policy {
        LinuxSchedulerPolicy::SchedOther => sched::SCHED_OTHER,
        LinuxSchedulerPolicy::SchedFifo => sched::SCHED_FIFO,
        LinuxSchedulerPolicy::SchedRr => sched::SCHED_RR,
        LinuxSchedulerPolicy::SchedBatch => sched::SCHED_BATCH,
        LinuxSchedulerPolicy::SchedIso => sched::SCHED_ISO,
        LinuxSchedulerPolicy::SchedIdle => sched::SCHED_IDLE,
        LinuxSchedulerPolicy::SchedDeadline => sched::SCHED_DEADLINE,
    }
}

/// The `SCHED_FLAG_*` bits of linux/sched.h.
const fn bit(flag: LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

impl Scheduler {
    /// Schedules the caller so. Takes CAP_SYS_NICE for most policies, so this comes before the capabilities go.
    pub fn apply(&self) -> Result<(), Fault> {
        sched::set_scheduler(&self.attr).map_err(|error| self.explain(error))
    }

    pub fn attr(&self) -> &SchedAttr {
        &self.attr
    }

    fn explain(&self, error: SysError) -> Fault {
        let words = match (self.policy, error.errno) {
            (LinuxSchedulerPolicy::SchedDeadline, Errno::EPERM) => {
                "SCHED_DEADLINE needs CAP_SYS_NICE and an affinity to all CPUs of its root domain, so no cpuset"
            }
            (LinuxSchedulerPolicy::SchedDeadline, Errno::EINVAL) => {
                "SCHED_DEADLINE needs 1024 ns <= runtime <= deadline <= period"
            }
            (LinuxSchedulerPolicy::SchedDeadline, Errno::EBUSY) => "the CPUs have no such bandwidth left",
            (LinuxSchedulerPolicy::SchedFifo | LinuxSchedulerPolicy::SchedRr, Errno::EPERM) => {
                "needs CAP_SYS_NICE, and real-time bandwidth in the cpu cgroup"
            }
            _ => return error.into(),
        };
        Fault::new(error.call, error.errno, words)
    }
}

impl fmt::Display for Scheduler {
    /// `set scheduler SCHED_FIFO priority 10`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SchedAttr { flags, nice, priority, runtime, deadline, period, .. } = self.attr;
        write!(f, "set scheduler {}", self.policy)?;
        let words = [("priority", u64::from(priority)), ("runtime", runtime), ("deadline", deadline)];
        for (word, value) in words.into_iter().chain([("period", period)]).filter(|(_, value)| *value != 0) {
            write!(f, " {word} {value}")?;
        }
        if nice != 0 {
            write!(f, " nice {nice}")?;
        }
        if flags != 0 { write!(f, " flags {flags:#x}") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{heap_free, in_a_child, skip};

    fn compiled(json: &str) -> Result<Scheduler> {
        compile(&serde_json::from_str(json).expect("scheduler"))
    }

    #[test]
    fn an_attribute_of_another_policy_is_an_error_that_names_it() {
        for (json, field) in [
            (r#"{"policy":"SCHED_OTHER","priority":1}"#, "priority"),
            (r#"{"policy":"SCHED_FIFO"}"#, "priority"),
            (r#"{"policy":"SCHED_FIFO","priority":100}"#, "priority"),
            (r#"{"policy":"SCHED_RR","priority":-1}"#, "priority"),
            (r#"{"policy":"SCHED_OTHER","nice":20}"#, "nice"),
            (r#"{"policy":"SCHED_BATCH","runtime":1}"#, "runtime"),
            (r#"{"policy":"SCHED_ISO"}"#, "policy"),
        ] {
            let error = compiled(json).expect_err(json).to_string();
            assert!(error.starts_with(&format!("process.scheduler.{field}: ")), "{error}");
        }
    }

    #[test]
    fn every_flag_has_its_bit() {
        for (name, bit) in [
            ("SCHED_RESET_ON_FORK", 0x01),
            ("SCHED_FLAG_RECLAIM", 0x02),
            // oci-spec 0.10 has its own spelling of SCHED_FLAG_DL_OVERRUN; the loader of config.json translates.
            ("SCHED_FLAG_D_L_OVERRUN", 0x04),
            ("SCHED_FLAG_KEEP_POLICY", 0x08),
            ("SCHED_FLAG_KEEP_PARAMS", 0x10),
            ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
            ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
        ] {
            let json = format!(r#"{{"policy":"SCHED_OTHER","flags":["{name}"]}}"#);
            assert_eq!(compiled(&json).expect(name).attr.flags, bit, "{name}");
        }
    }

    #[test]
    fn the_kernel_has_every_policy() {
        for (json, line) in [
            (r#"{"policy":"SCHED_OTHER","nice":5}"#, "SCHED_OTHER nice 5"),
            (r#"{"policy":"SCHED_BATCH","nice":-5}"#, "SCHED_BATCH nice -5"),
            (r#"{"policy":"SCHED_IDLE"}"#, "SCHED_IDLE"),
            (
                r#"{"policy":"SCHED_FIFO","priority":10,"flags":["SCHED_RESET_ON_FORK"]}"#,
                "SCHED_FIFO priority 10 flags 0x1",
            ),
            (r#"{"policy":"SCHED_RR","priority":20}"#, "SCHED_RR priority 20"),
            (
                r#"{"policy":"SCHED_DEADLINE","runtime":1000000,"deadline":10000000,"period":20000000}"#,
                "SCHED_DEADLINE runtime 1000000 deadline 10000000 period 20000000",
            ),
        ] {
            in_a_child(|| {
                let scheduler = compiled(json)?;
                assert_eq!(scheduler.to_string(), format!("set scheduler {line}"));
                match heap_free(|| scheduler.apply()) {
                    Err(Fault { errno: Errno::EPERM, .. }) => skip("real-time", line),
                    other => {
                        other?;
                        let kernel = sched::scheduler()?;
                        assert_eq!(kernel.policy, scheduler.attr.policy);
                        // An idle process keeps the nice value that the tests were started with.
                        if kernel.policy != sched::SCHED_IDLE {
                            assert_eq!(kernel.nice, scheduler.attr.nice);
                        }
                        assert_eq!(kernel.priority, scheduler.attr.priority);
                        // Others have a time slice there (Linux 6.12).
                        if kernel.policy == sched::SCHED_DEADLINE {
                            assert_eq!(kernel.runtime, scheduler.attr.runtime);
                        }
                        assert_eq!(kernel.flags, scheduler.attr.flags);
                    }
                }
                Ok(())
            });
        }
    }
}
