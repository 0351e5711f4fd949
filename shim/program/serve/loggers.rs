//! Programs that read a process's output themselves. The shim has the pipes too, so that one that dies breaks none: what
//! it would have read is then read by nobody. With its end the output has been taken.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use containerd_shim_ocirt::call::stdio;
use containerd_shim_ocirt::task::ProcessKey;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::EpollFlags;
use ocirt_sys::process::pidfd_send_signal;

use super::held::Logger;
use super::job::Making;
use super::state::Loop;
use super::words::{Alarm, Source, Watched};
use crate::outcome::Outcome;
use crate::{io, log, logger, sys};

/// How long a logger may take after SIGTERM: that of Go's shim.
const LAST_WORDS: Duration = Duration::from_secs(12);

impl Loop {
    /// Begins a logger that reads these streams, and puts the wait for it before the command. A terminal has no
    /// standard error.
    pub fn begin_logger(
        &mut self,
        making: &mut Making,
        process: ProcessKey,
        id: &str,
        logger: &stdio::Logger,
        streams: Vec<OwnedFd>,
    ) -> Outcome<()> {
        let stream = |place: usize| match streams.get(place) {
            Some(stream) => stream.try_clone(),
            None => std::fs::File::open("/dev/null").map(OwnedFd::from),
        };
        let begun = logger::begin(logger, id, &self.namespace, [stream(0)?, stream(1)?], self.descriptors)?;
        making.command = logger::behind(&making.command, logger, &begun, &making.log);
        self.last_logger += 1;
        let number = self.last_logger;
        let token = self.watch(&begun.pidfd, EpollFlags::EPOLLIN, Source::Logger(number))?;
        let watched = Watched { fd: begun.pidfd, token };
        let name = format!("logger {} of {id}", logger.program.display());
        self.loggers.insert(number, Logger { process, name, watched, streams, until: None });
        self.processes.entry(process).or_default().logger = Some(number);
        making.inputs.push(begun.ready);
        Ok(())
    }

    /// The logger has ended: as it should, at the end of the output, or before.
    pub fn logger_ended(&mut self, number: u64) {
        let Some(logger) = self.loggers.remove(&number) else { return };
        self.unwatch(&logger.watched.fd, logger.watched.token);
        self.alarms.remove(&Alarm::Logger(number));
        // Nothing, if it was taken for an orphan.
        let status = sys::wait(logger.watched.fd.as_fd());
        let Some(process) = self.processes.get_mut(&logger.process).filter(|it| it.logger == Some(number)) else {
            return;
        };
        process.logger = None;
        if process.is_alive() {
            let status = status.map_or_else(String::new, |status| format!(" with status {status}"));
            log::warn(&format!("{} has ended{status}; output is lost", logger.name));
        }
        for stream in logger.streams {
            let copied = io::nothing_from(stream).and_then(|pump| self.add_output(logger.process, pump));
            if let Err(error) = copied {
                log::warn(&format!("{}: {error}", logger.name));
            }
        }
    }

    /// Its process is being deleted, or never began.
    pub fn end_logger(&mut self, number: u64) {
        let Some(logger) = self.loggers.get_mut(&number) else { return };
        logger.streams.clear();
        logger.until = Some(Instant::now() + LAST_WORDS);
        // If it has ended meanwhile, that is as good.
        let _ = pidfd_send_signal(logger.watched.fd.as_fd(), libc::SIGTERM);
        self.arm(Alarm::Logger(number), LAST_WORDS);
    }

    pub fn kill_logger(&mut self, number: u64) {
        if let Some(logger) = self.loggers.get(&number) {
            log::warn(&format!("{} is killed: it has not ended", logger.name));
            // As above.
            let _ = pidfd_send_signal(logger.watched.fd.as_fd(), libc::SIGKILL);
        }
    }

    /// The shim ends: nobody else would end those that are left of deleted containers.
    pub fn wait_for_loggers(&mut self) {
        let numbers: Vec<u64> = self.loggers.keys().copied().collect();
        for number in numbers {
            let Some(Logger { watched, until: Some(until), .. }) = self.loggers.get(&number) else { continue };
            let left = until.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(watched.fd.as_fd(), PollFlags::POLLIN)];
            let ended = poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO));
            if ended != Ok(1) {
                self.kill_logger(number);
            }
        }
    }
}
