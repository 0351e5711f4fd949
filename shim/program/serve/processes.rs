//! Inits and execs: their pidfds and their pumps.

use std::os::fd::AsFd;

use containerd_shim_ocirt::task::{Input, ProcessKey};
use nix::sys::epoll::EpollFlags;

use super::{Loop, Source, Watched};
use crate::io::{Pump, State};
use crate::sys;

#[derive(Default, Debug)]
pub struct Process {
    pub pid: u32,
    watched: Option<Watched>,
    unborn: Vec<Pump>,
    pumps: Vec<Option<(Pump, State, u64)>>,
}

impl Process {
    /// True while it has not been waited for.
    pub fn is_alive(&self) -> bool {
        self.watched.is_some()
    }
}

impl Loop {
    /// Keeps a process's pumps for its birth. What a runtime that fails has to say is in its log, and not the
    /// program's.
    pub fn open(&mut self, key: ProcessKey, pumps: Vec<Pump>) {
        self.processes.entry(key).or_default().unborn = pumps;
    }

    fn begin_to_copy(&mut self, key: ProcessKey) -> std::io::Result<()> {
        let unborn = self.processes.get_mut(&key).map(|process| std::mem::take(&mut process.unborn));
        let mut pumps = Vec::new();
        for (place, pump) in unborn.into_iter().flatten().enumerate() {
            let token = self.watch(pump.waits_on(State::Input), EpollFlags::EPOLLIN, Source::Pump(key, place))?;
            pumps.push(Some((pump, State::Input, token)));
        }
        self.processes.entry(key).or_default().pumps = pumps;
        Ok(())
    }

    /// The runtime has made a process. It is a child of the shim, and stays one until it is waited for.
    pub fn born(&mut self, key: ProcessKey, pid: u32) -> std::io::Result<()> {
        let fd = sys::pidfd_open(pid)?;
        let token = self.watch(&fd, EpollFlags::EPOLLIN, Source::Process(key))?;
        let process = self.processes.entry(key).or_default();
        process.pid = pid;
        process.watched = Some(Watched { fd, token });
        self.begin_to_copy(key)
    }

    pub fn process_ended(&mut self, key: ProcessKey) {
        let watched = self.processes.get(&key).and_then(|process| process.watched.as_ref());
        let Some(status) = watched.and_then(|watched| sys::wait(watched.fd.as_fd())) else { return };
        if let Some(watched) = self.processes.get_mut(&key).and_then(|process| process.watched.take()) {
            self.unwatch(&watched.fd, watched.token);
        }
        let at = crate::delete::now();
        self.tell(Input::Exited { process: key, status, at, out_of_memory: false });
    }

    pub fn signal(&self, key: ProcessKey, signal: u32) -> std::io::Result<()> {
        match self.processes.get(&key).and_then(|process| process.watched.as_ref()) {
            Some(watched) => sys::pidfd_send_signal(watched.fd.as_fd(), signal),
            None => Err(std::io::Error::from_raw_os_error(libc::ESRCH)),
        }
    }

    pub fn pump(&mut self, key: ProcessKey, place: usize) {
        let Some(entry) = self.processes.get_mut(&key).and_then(|process| process.pumps.get_mut(place)) else { return };
        let Some((mut pump, before, token)) = entry.take() else { return };
        let after = match pump.copy() {
            State::Turn => before,
            after => after,
        };
        if after == before {
            *entry = Some((pump, before, token));
            return;
        }
        self.unwatch(pump.waits_on(before), token);
        let flags = if after == State::Room { EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
        let watched = match after {
            State::Ended => None,
            _ => self.watch(pump.waits_on(after), flags, Source::Pump(key, place)).ok(),
        };
        let Some(process) = self.processes.get_mut(&key) else { return };
        match (watched, process.pumps.get_mut(place)) {
            (Some(token), Some(entry)) => *entry = Some((pump, after, token)),
            _ if pump.is_output => {
                drop(pump);
                let is_drained = process.pumps.iter().flatten().all(|(pump, ..)| !pump.is_output);
                if is_drained {
                    self.tell(Input::Drained(key));
                }
            }
            _ => {}
        }
    }

    pub fn close_stdin(&mut self, key: ProcessKey) {
        let pumps = self.processes.get_mut(&key).map(|process| &mut process.pumps);
        pumps.into_iter().flatten().flatten().for_each(|(pump, ..)| pump.close_own_end());
        let unborn = self.processes.get_mut(&key).map(|process| &mut process.unborn);
        unborn.into_iter().flatten().for_each(Pump::close_own_end);
    }

    pub fn close(&mut self, key: ProcessKey) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        process.unborn.clear();
        for (pump, state, token) in std::mem::take(&mut process.pumps).into_iter().flatten() {
            self.unwatch(pump.waits_on(state), token);
        }
    }

    pub fn forget_process(&mut self, key: ProcessKey) {
        self.close(key);
        if let Some(watched) = self.processes.remove(&key).and_then(|process| process.watched) {
            self.unwatch(&watched.fd, watched.token);
        }
    }
}
