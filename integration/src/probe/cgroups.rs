//! Verbs about cgroups: what a container does with those below its own.

use crate::answer::Answer;
use serde_json::json;
use std::io;
use std::path::Path;

/// Makes `depth` cgroups called `name`, each below the last, and moves `pids` into the deepest. No path is longer than the
/// name.
pub fn nest(directory: &str, name: &str, depth: &str, pids: &[&str]) -> Answer {
    std::env::set_current_dir(directory)?;
    for _ in 0..depth.parse().unwrap_or(0) {
        std::fs::create_dir(name)?;
        std::env::set_current_dir(name)?;
    }
    for pid in pids {
        std::fs::write("cgroup.procs", pid)?;
    }
    Ok(json!("ok"))
}

/// Leaves `workers` children that make, rename and remove cgroups below `directory`, and move about in them, all the time.
pub fn churn(directory: &str, workers: &str) -> Answer {
    let workers = workers.parse().unwrap_or(0);
    for worker in 0..workers {
        // SAFETY: the probe has one thread.
        match unsafe { libc::fork() } {
            0 => loop {
                for round in 0..16 {
                    // What another worker, the runtime or v2 (which renames nothing) gets in the way of is left out.
                    let _ = turn(Path::new(directory), worker, round);
                }
            },
            -1 => return Err(io::Error::last_os_error()),
            _ => {}
        }
    }
    Ok(json!(workers))
}

fn turn(directory: &Path, worker: usize, round: usize) -> io::Result<()> {
    let (first, second) = (directory.join(format!("{worker}-{round}")), directory.join(format!("{worker}+{round}")));
    for made in [first.clone(), first.join("x"), first.join("x/y")] {
        let _ = std::fs::create_dir(made);
    }
    let _ = std::fs::write(first.join("x/y/cgroup.procs"), "0");
    let now = if std::fs::rename(&first, &second).is_ok() { second } else { first };
    let _ = std::fs::rename(now.join("x"), now.join("z"));
    let _ = std::fs::write(directory.join("cgroup.procs"), "0");
    for gone in ["x/y", "z/y", "x", "z", ""] {
        let _ = std::fs::remove_dir(now.join(gone));
    }
    Ok(())
}
