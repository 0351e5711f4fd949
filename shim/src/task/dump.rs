//! The state in words, for those who look for a fault: of each container one line.

use std::fmt::Write;

use super::container::{Container, Process};
use super::tasks::Tasks;

impl Tasks {
    /// Ids, pids, and how far everything is; nothing of what containers say or are given.
    pub fn dump(&self) -> Vec<String> {
        let mut lines = vec![self.summary()];
        lines.extend(self.containers.values().map(container));
        lines
    }
}

fn container(container: &Container) -> String {
    let mut line = format!(
        "container {}: {:?}, {:?}, init {}",
        container.id(),
        container.status(),
        container.freezer,
        process(&container.init)
    );
    // A String takes whatever is written to it.
    if container.sweep.is_some() {
        let _ = write!(line, ", what it has left behind is being ended");
    }
    if !container.deleters.is_empty() {
        let _ = write!(line, ", {} wait for its deletion", container.deleters.len());
    }
    for exec in container.execs.values() {
        let _ = write!(line, "; exec {}: {:?}, {}", exec.request.exec_id, exec.phase, process(&exec.process));
    }
    line
}

fn process(process: &Process) -> String {
    let mut words = process.pid.to_string();
    if let Some(exit) = process.exit {
        let told = if process.is_told { "" } else { " (not told)" };
        let _ = write!(words, " exited {}{told}", exit.status);
    }
    if process.is_open {
        words += if process.is_drained { ", output drained" } else { ", output open" };
    }
    if !process.waiters.is_empty() {
        let _ = write!(words, ", {} wait", process.waiters.len());
    }
    words
}
