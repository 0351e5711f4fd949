//! Inits and execs: their pidfds and their pumps.

use std::os::fd::AsFd;
use std::time::Duration;

use containerd_shim_ocirt::call::exit;
use containerd_shim_ocirt::task::{ContainerKey, Input, ProcessKey};
use nix::sys::epoll::EpollFlags;
use ocirt_sys::process::{pidfd_open, pidfd_send_signal};

use super::cgroup::Cgroup;
use super::state::Loop;
use super::words::{Alarm, Source, Watched};
use crate::console::Console;
use crate::io::{Pump, State};
use crate::sys::{self, Ended};
use crate::{file, log};

/// When readers are looked for that have not come: soon, and each time after twice as long, up to 0.6 seconds.
const SOON: Duration = Duration::from_millis(5);

impl Loop {
    /// Keeps a process's pumps for its birth. What a runtime that fails has to say is in its log, and not the
    /// program's.
    pub fn open(&mut self, key: ProcessKey, pumps: Vec<Pump>) {
        self.processes.entry(key).or_default().unborn.extend(pumps);
    }

    /// The same of a process that will have a terminal.
    pub fn open_console(&mut self, key: ProcessKey, console: Console, stdin_closed: bool) {
        let process = self.processes.entry(key).or_default();
        process.console = Some(console);
        process.stdin_closed = stdin_closed;
    }

    /// The runtime has sent the terminal.
    fn take_terminal(&mut self, key: ProcessKey) -> std::io::Result<()> {
        let Some(process) = self.processes.get_mut(&key) else { return Ok(()) };
        if let Some(console) = process.console.take() {
            let (terminal, pumps) = console.receive(process.stdin_closed)?;
            process.terminal = Some(terminal);
            process.unborn.extend(pumps);
        }
        Ok(())
    }

    /// Of what is no terminal there is nothing to resize.
    pub fn resize(&self, key: ProcessKey, width: u32, height: u32) {
        let terminal = self.processes.get(&key).and_then(|process| process.terminal.as_ref());
        if let (Some(terminal), Ok(width), Ok(height)) = (terminal, width.try_into(), height.try_into()) {
            // Its process may have just closed it.
            let _ = sys::resize(terminal.as_fd(), width, height);
        }
    }

    fn begin_to_copy(&mut self, key: ProcessKey) -> std::io::Result<()> {
        self.take_terminal(key)?;
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
        let fd = pidfd_open(pid as i32)?;
        // What is no child of the shim could not be waited for, and its pidfd would be readable for ever.
        sys::look(fd.as_fd())?;
        let token = self.watch(&fd, EpollFlags::EPOLLIN, Source::Process(key))?;
        let process = self.processes.entry(key).or_default();
        process.pid = pid;
        process.watched = Some(Watched { fd, token });
        if key.is_init() {
            let cgroup = Cgroup::of(pid);
            self.watch_memory(key.container, &cgroup);
            self.cgroups.insert(key.container, cgroup);
        }
        self.begin_to_copy(key)
    }

    pub fn process_ended(&mut self, key: ProcessKey) {
        let watched = self.processes.get(&key).and_then(|process| process.watched.as_ref());
        let Some(watched) = watched else { return };
        if key.is_init()
            && let Ok(Some(ended)) = sys::look(watched.fd.as_fd())
        {
            // While it is a zombie, so that whoever finds it gone finds this.
            self.record(key.container, ended);
        }
        let Some(status) = sys::wait(watched.fd.as_fd()) else { return self.leave_to_signal(watched) };
        if let Some(watched) = self.processes.get_mut(&key).and_then(|process| process.watched.take()) {
            self.unwatch(&watched.fd, watched.token);
        }
        let at = crate::delete::now();
        // The event may come later, and with systemd the file may be gone soon.
        let out_of_memory = key.is_init() && self.has_killed(key.container);
        self.tell(Input::Exited { process: key, status, at, out_of_memory });
    }

    /// Leaves in the bundle how init has ended.
    fn record(&self, key: ContainerKey, ended: Ended) {
        let Some(container) = self.containers.get(&key) else { return };
        let stat = std::fs::read(format!("/proc/{}/stat", ended.pid)).unwrap_or_default();
        let record = exit::record(ended.pid, &String::from_utf8_lossy(&stat), ended.status, ended.signal);
        let Some(record) = record else { return };
        if let Err(error) = file::replace(container.runtime.bundle(), exit::FILE, &record) {
            log::warn(&format!("exit of container {}: {}: {error}", container.id, exit::FILE));
        }
    }

    pub fn signal(&self, key: ProcessKey, signal: u32) -> std::io::Result<()> {
        match self.processes.get(&key).and_then(|process| process.watched.as_ref()) {
            Some(watched) => Ok(pidfd_send_signal(watched.fd.as_fd(), signal as i32)?),
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
                process.rests.extend(pump.rest());
                let has_rests = !process.rests.is_empty();
                if process.logger.is_none() && process.pumps.iter().flatten().all(|(pump, ..)| !pump.is_output) {
                    self.tell(Input::Drained(key));
                }
                if has_rests {
                    self.arm(Alarm::Rest(key), SOON);
                }
            }
            _ => {}
        }
    }

    /// Closes the rests that somebody has come for; the others are looked at again, until the process is deleted.
    pub fn look_for_readers(&mut self, key: ProcessKey) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        process.rests.retain(|rest| !rest.has_reader());
        if !process.rests.is_empty() {
            process.looks = process.looks.saturating_add(1);
            let after = SOON.saturating_mul(1 << process.looks.min(7));
            self.arm(Alarm::Rest(key), after);
        }
    }

    /// Copies more of a process's output, whether it is born or not.
    pub fn add_output(&mut self, key: ProcessKey, pump: Pump) -> std::io::Result<()> {
        let Some(process) = self.processes.get(&key) else { return Ok(()) };
        let place = process.pumps.len();
        if process.pid == 0 {
            self.open(key, vec![pump]);
            return Ok(());
        }
        let token = self.watch(pump.waits_on(State::Input), EpollFlags::EPOLLIN, Source::Pump(key, place))?;
        if let Some(process) = self.processes.get_mut(&key) {
            process.pumps.push(Some((pump, State::Input, token)));
        }
        Ok(())
    }

    pub fn close_stdin(&mut self, key: ProcessKey) {
        let pumps = self.processes.get_mut(&key).map(|process| &mut process.pumps);
        pumps.into_iter().flatten().flatten().for_each(|(pump, ..)| pump.close_own_end());
        let process = self.processes.get_mut(&key);
        let unborn = process.map(|process| {
            process.stdin_closed = true;
            &mut process.unborn
        });
        unborn.into_iter().flatten().for_each(Pump::close_own_end);
    }

    pub fn close(&mut self, key: ProcessKey) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        process.unborn.clear();
        process.rests.clear();
        process.console = None;
        process.terminal = None;
        let logger = process.logger.take();
        self.alarms.remove(&Alarm::Rest(key));
        let Some(process) = self.processes.get_mut(&key) else { return };
        for (pump, state, token) in std::mem::take(&mut process.pumps).into_iter().flatten() {
            self.unwatch(pump.waits_on(state), token);
        }
        logger.into_iter().for_each(|logger| self.end_logger(logger));
        // An exec is closed when it is forgotten.
        if self.processes.get(&key).is_some_and(|process| !process.is_alive()) {
            self.processes.remove(&key);
        }
    }

    pub fn forget_process(&mut self, key: ProcessKey) {
        self.close(key);
        if let Some(watched) = self.processes.remove(&key).and_then(|process| process.watched) {
            self.unwatch(&watched.fd, watched.token);
        }
    }
}
