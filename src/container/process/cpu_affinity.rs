//! `process.execCPUAffinity`: the CPUs on which an exec process may run, before and after it joins the container's
//! cgroup (config.md, "Linux Process"). In config.json it says nothing about the container's first process, and is
//! only checked.

use std::fmt;

use anyhow::{Context, Result};
use oci_spec::runtime::ExecCPUAffinity;

use super::number_list;
use crate::error::Field;
use crate::sys::{Errno, Fault, SysError, sched};

/// Linux has no more CPUs: the largest NR_CPUS that its configuration takes.
const MOST: usize = 8192;

/// Some CPUs, in the list format of cpuset(7).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CpuList {
    text: String,
    mask: Vec<u64>,
}

/// The CPUs for before and after the join.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExecAffinity {
    pub initial: Option<CpuList>,
    pub last: Option<CpuList>,
}

/// Both prepared lists; an empty string counts as absent, as in runc.
pub fn compile(spec: &ExecCPUAffinity) -> Result<ExecAffinity> {
    let list = |text: &Option<String>, field: &'static str| {
        let given = text.as_deref().filter(|text| !text.is_empty());
        given.map(CpuList::parse).transpose().context(Field::new(field))
    };
    Ok(ExecAffinity {
        initial: list(spec.initial(), "process.execCPUAffinity.initial")?,
        last: list(spec.cpu_affinity_final(), "process.execCPUAffinity.final")?,
    })
}

impl CpuList {
    /// The CPUs of a list as `0-3,7`.
    pub fn parse(text: &str) -> Result<Self> {
        let mask = number_list::bits(text, "CPU", MOST)?;
        Ok(Self { text: text.to_owned(), mask })
    }

    /// Restricts the caller to these CPUs; `EINVAL` if it may use none of them.
    pub fn apply(&self) -> Result<(), Fault> {
        Ok(sched::set_affinity(&self.mask)?)
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set cpu affinity {}", self.text)
    }
}

/// Frees the caller from the affinity that the runtime was started with, so that only the container's cpuset limits
/// it: what a service manager pinned the engine to is not meant for containers. Belongs after the join of the cgroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AllCpus;

impl AllCpus {
    pub fn apply(&self) -> Result<(), Fault> {
        match sched::set_affinity(&[u64::MAX; MOST / 64]) {
            // A filter around the runtime forbids it: the inherited affinity is no reason to have no container.
            Err(SysError { errno: Errno::EPERM | Errno::ENOSYS, .. }) => Ok(()),
            other => Ok(other?),
        }
    }
}

impl fmt::Display for AllCpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reset cpu affinity")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{heap_free, in_a_child};

    #[test]
    fn the_kernel_has_the_cpus() {
        in_a_child(|| {
            let mut allowed = [0; 128];
            AllCpus.apply()?;
            sched::affinity(&mut allowed)?;
            let before = allowed;
            let first = (0..MOST).find(|cpu| allowed[cpu / 64] >> (cpu % 64) & 1 == 1).context("no cpu")?;
            let list = CpuList::parse(&first.to_string())?;
            heap_free(|| list.apply())?;
            allowed = [0; 128];
            sched::affinity(&mut allowed)?;
            assert_eq!(allowed.iter().map(|word| word.count_ones()).sum::<u32>(), 1);
            heap_free(|| AllCpus.apply())?;
            let mut again = [0; 128];
            sched::affinity(&mut again)?;
            assert_eq!(again, before);
            Ok(())
        });
    }
}
