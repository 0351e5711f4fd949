//! SIGUSR1: the state in the log, for those who look for a fault. Go's shim writes its goroutines there.

use std::time::Instant;

use super::state::Loop;
use crate::log;

impl Loop {
    pub fn dump(&self) {
        self.tasks.get().dump().iter().for_each(|line| log::info(line));
        let now = Instant::now();
        let alarms: Vec<String> = self
            .alarms
            .iter()
            .map(|(alarm, at)| format!("{alarm:?} in {} ms", at.saturating_duration_since(now).as_millis()))
            .collect();
        log::info(&format!(
            "loop: {} connections, {} sources, {} jobs, {} processes, {} loggers, {} events to deliver; alarms: {}",
            self.peers.len(),
            self.sources.len(),
            self.jobs.len(),
            self.processes.len(),
            self.loggers.len(),
            self.queue.waiting(),
            if alarms.is_empty() { "none".to_owned() } else { alarms.join(", ") },
        ));
    }
}
