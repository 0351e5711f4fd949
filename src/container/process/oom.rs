//! `process.oomScoreAdj`: how soon the kernel picks the process when memory runs out (proc_pid_oom_score_adj(5)).

use std::fmt;
use std::os::fd::BorrowedFd;

use anyhow::{Result, bail};

use crate::error::field;
use crate::sys::{Fault, Result as SysResult, beneath, proc_self};

/// The adjustment, as the kernel file takes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OomScoreAdj(String);

/// The prepared adjustment; none leaves the one that the runtime was started with. 0 is a value like any other.
pub fn compile(spec: Option<i32>) -> Result<Option<OomScoreAdj>> {
    let Some(value) = spec else { return Ok(None) };
    if !(-1000..=1000).contains(&value) {
        bail!(field!("process.oomScoreAdj"; "{value} is not between -1000 and 1000"));
    }
    Ok(Some(OomScoreAdj(value.to_string())))
}

impl OomScoreAdj {
    /// Adjusts the caller through `proc`, the root of a procfs. Belongs before the join of the memory cgroup, where
    /// the killer may already be at work. To go below the inherited value takes CAP_SYS_RESOURCE in the initial user
    /// namespace: `EACCES`.
    pub fn apply(&self, proc: BorrowedFd<'_>) -> Result<(), Fault> {
        beneath::write_own(proc, c"oom_score_adj", self.0.as_bytes()).map_err(|error| error.about(FILE))
    }

    /// Adjusts the process whose procfs directory is `process`: what the runtime does for an init in a user namespace,
    /// which has no right to go below the inherited value.
    pub fn apply_to(&self, process: BorrowedFd<'_>) -> SysResult<()> {
        beneath::write_beneath(process, c"oom_score_adj", self.0.as_bytes())
    }

    /// Writes it to an open file of that kind.
    pub fn write_to(&self, file: BorrowedFd<'_>) -> SysResult<()> {
        proc_self::write_whole(file, self.0.as_bytes())
    }
}

const FILE: &core::ffi::CStr = c"/proc/self/oom_score_adj";

impl fmt::Display for OomScoreAdj {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set oom score adjustment {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::testing::{heap_free, in_a_child};

    #[test]
    fn only_what_the_kernel_takes_compiles() {
        assert_eq!(compile(None).expect("none"), None);
        assert_eq!(
            compile(Some(0)).expect("zero").map(|adj| adj.to_string()).as_deref(),
            Some("set oom score adjustment 0")
        );
        for value in [1001, -1001] {
            let error = compile(Some(value)).unwrap_err().to_string();
            assert_eq!(error, format!("process.oomScoreAdj: {value} is not between -1000 and 1000"));
        }
        assert!(compile(Some(1000)).is_ok() && compile(Some(-1000)).is_ok());
    }

    #[test]
    fn the_kernel_has_the_adjustment() {
        in_a_child(|| {
            let proc = std::fs::File::open("/proc")?;
            let adjustment = compile(Some(777))?.ok_or("none")?;
            heap_free(|| adjustment.apply(proc.as_fd()))?;
            assert_eq!(std::fs::read_to_string("/proc/self/oom_score_adj")?, "777\n");
            Ok(())
        });
    }
}
