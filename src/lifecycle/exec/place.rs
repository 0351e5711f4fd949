//! What the process of an exec is born with: a cgroup, and the score of the runtime that makes it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};

use crate::container::cgroup::{CgroupJoin, Paths};
use crate::container::process::oom::OomScoreAdj;
use crate::error::field;
use crate::lifecycle::disk::found::Found;
use crate::lifecycle::disk::identity::Identity;
use crate::lifecycle::refusal::Refusal;
use crate::sys::ids;

/// The cgroup of the process.
pub struct CgroupTarget {
    pub paths: Paths,
    /// The container's.
    pub own: Paths,
    /// Whose cgroup does as well, where nobody can enter the container's own any more.
    pub instead: Option<Identity>,
}

impl CgroupTarget {
    /// By `--cgroup`, each of which is below the container's own.
    pub fn find(found: &Found, cgroups: &[String]) -> Result<Self> {
        let own = found.state.cgroup.clone();
        if cgroups.is_empty() {
            return Ok(Self { paths: own.clone(), own, instead: found.state.init });
        }
        found.needs_cgroup().context("--cgroup")?;
        Ok(Self { paths: own.below(cgroups).context("--cgroup")?, own, instead: None })
    }

    pub fn join(&self) -> Result<CgroupJoin> {
        let joined = self.paths.join();
        match self.instead {
            None => joined.context("--cgroup"),
            // Somebody has moved init elsewhere, and removed the cgroup; as in runc.
            Some(init) if joined.is_err() && !self.paths.exists() => {
                let elsewhere = self.paths.join_wherever(init.pid);
                // Or systemd has removed it with its last process.
                ensure!(elsewhere.is_ok() || init.is_alive()?, Refusal::EndedMeanwhile);
                elsewhere
            }
            Some(_) => joined,
        }
    }
}

/// The runtime's own OOM score adjustment. An ordinary user can open its file only as long as he is dumpable, and so
/// could his process: it is born with its score instead.
pub struct OwnScore {
    file: File,
    before: String,
}

impl OwnScore {
    /// None for root, whose process adjusts itself.
    pub fn open() -> Result<Option<Self>> {
        const PATH: &str = "/proc/self/oom_score_adj";
        if ids::effective_uid() == 0 {
            return Ok(None);
        }
        let mut file = File::options().read(true).write(true).open(PATH).context(PATH)?;
        let mut before = String::new();
        file.read_to_string(&mut before).context(PATH)?;
        Ok(Some(Self { file, before }))
    }

    /// Adjusts the runtime, and so its children, until this is dropped.
    pub fn adjust(&mut self, score: &OomScoreAdj) -> Result<()> {
        score.write_to(self.file.as_fd()).with_context(|| field!("process.oomScoreAdj"; "{score}"))
    }
}

impl Drop for OwnScore {
    fn drop(&mut self) {
        // No lower than it was, so it is allowed.
        let _ = self.file.write_all(self.before.as_bytes());
    }
}
