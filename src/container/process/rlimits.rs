//! `process.rlimits`: resource limits (getrlimit(2)).

use std::fmt;

use anyhow::{Result, bail};
use oci_spec::runtime::{PosixRlimit, PosixRlimitType};

use crate::error::{Faults, field};
use crate::sys::sched::{self, Limit};
use crate::sys::{Fault, Result as SysResult};

/// One limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rlimit {
    kind: PosixRlimitType,
    limit: Limit,
}

/// The prepared limits in the order of config.json. A type given twice is an error (config.md, "POSIX process"), as
/// is a soft limit over the hard one.
pub fn compile(spec: &[PosixRlimit], faults: &mut Faults) -> Result<Vec<Rlimit>> {
    let mut limits: Vec<Rlimit> = Vec::with_capacity(spec.len());
    for (index, entry) in spec.iter().enumerate() {
        limits.extend(faults.keep(one(index, entry, &limits))?);
    }
    Ok(limits)
}

fn one(index: usize, entry: &PosixRlimit, others: &[Rlimit]) -> Result<Rlimit> {
    let (kind, limit) = (entry.typ(), Limit { soft: entry.soft(), hard: entry.hard() });
    if others.iter().any(|other| other.kind == kind) {
        bail!(field!("process.rlimits[{index}]"; "duplicate {kind}"));
    }
    if limit.soft > limit.hard {
        bail!(
            field!("process.rlimits[{index}]"; "{kind}: soft limit {} is over the hard limit {}", limit.soft, limit.hard)
        );
    }
    Ok(Rlimit { kind, limit })
}

/// The number of asm-generic/resource.h; mips and sparc, which differ, are no targets of this runtime.
pub const fn number(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => 0,
        PosixRlimitType::RlimitFsize => 1,
        PosixRlimitType::RlimitData => 2,
        PosixRlimitType::RlimitStack => 3,
        PosixRlimitType::RlimitCore => 4,
        PosixRlimitType::RlimitRss => 5,
        PosixRlimitType::RlimitNproc => 6,
        PosixRlimitType::RlimitNofile => 7,
        PosixRlimitType::RlimitMemlock => 8,
        PosixRlimitType::RlimitAs => 9,
        PosixRlimitType::RlimitLocks => 10,
        PosixRlimitType::RlimitSigpending => 11,
        PosixRlimitType::RlimitMsgqueue => 12,
        PosixRlimitType::RlimitNice => 13,
        PosixRlimitType::RlimitRtprio => 14,
        PosixRlimitType::RlimitRttime => 15,
    }
}

impl Rlimit {
    /// Limits the caller. To raise a hard limit takes CAP_SYS_RESOURCE in the initial user namespace.
    pub fn apply(&self) -> Result<(), Fault> {
        Ok(sched::set_limit(0, number(self.kind), self.limit)?)
    }

    /// Limits process `pid`: what the runtime does for an init in a user namespace, which could not raise a limit.
    pub fn apply_to(&self, pid: i32) -> SysResult<()> {
        sched::set_limit(pid, number(self.kind), self.limit)
    }
}

impl fmt::Display for Rlimit {
    /// `set rlimit RLIMIT_NOFILE 1024:2048`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set rlimit {} {}:{}", self.kind, Amount(self.limit.soft), Amount(self.limit.hard))
    }
}

struct Amount(u64);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == u64::MAX { f.write_str("unlimited") } else { write!(f, "{}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{heap_free, in_a_child};

    fn compiled(json: &str) -> Result<Vec<Rlimit>> {
        compile(&serde_json::from_str::<Vec<PosixRlimit>>(json).expect("rlimits"), &mut Faults::first())
    }

    #[test]
    fn a_limit_reads_as_one_line() {
        let json = r#"[{"type":"RLIMIT_NOFILE","soft":1024,"hard":2048},{"type":"RLIMIT_CORE","soft":0,"hard":18446744073709551615}]"#;
        let lines: Vec<_> = compiled(json).expect("compiles").iter().map(Rlimit::to_string).collect();
        assert_eq!(lines, ["set rlimit RLIMIT_NOFILE 1024:2048", "set rlimit RLIMIT_CORE 0:unlimited"]);
    }

    #[test]
    fn a_duplicate_type_is_an_error_that_names_the_entry() {
        let json = r#"[{"type":"RLIMIT_NOFILE","soft":1,"hard":1},{"type":"RLIMIT_CORE","soft":1,"hard":1},
            {"type":"RLIMIT_NOFILE","soft":2,"hard":2}]"#;
        let error = compiled(json).expect_err("duplicate").to_string();
        assert_eq!(error, "process.rlimits[2]: duplicate RLIMIT_NOFILE");
    }

    #[test]
    fn a_soft_limit_over_the_hard_one_is_an_error() {
        let error = compiled(r#"[{"type":"RLIMIT_CPU","soft":2,"hard":1}]"#).expect_err("soft > hard").to_string();
        assert_eq!(error, "process.rlimits[0]: RLIMIT_CPU: soft limit 2 is over the hard limit 1");
    }

    #[test]
    fn every_type_can_be_lowered_in_the_kernel() {
        in_a_child(|| {
            for number in 0..16 {
                let kind = every_type().find(|kind| super::number(*kind) == number).expect("a type a number");
                let hard = sched::limit(number)?.hard;
                let limit = Limit { soft: 5.min(hard), hard };
                heap_free(|| Rlimit { kind, limit }.apply())?;
                assert_eq!(sched::limit(number)?, limit, "{kind}");
                // Undone at once, or the next lines would be cut off by the limit.
                sched::set_limit(0, number, Limit { soft: hard, hard })?;
            }
            Ok(())
        });
    }

    fn every_type() -> impl Iterator<Item = PosixRlimitType> {
        let names =
            "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME";
        names.split(' ').map(|name| format!("RLIMIT_{name}").parse().expect("a type"))
    }
}
