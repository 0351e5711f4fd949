//! The process that serves a group: one thread, one loop. What has happened is told to the state machines of `task`,
//! and what they say is done here.

mod cgroup;
mod checkpoint;
mod connections;
mod dump;
mod events;
mod held;
mod job;
mod jobs;
mod kernel;
mod loggers;
mod oom;
mod panics;
mod processes;
mod readers;
mod state;
mod words;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use containerd_shim_ocirt::api::service::Response;
use containerd_shim_ocirt::task::queue::Queue;
use containerd_shim_ocirt::task::tasks::Tasks;
use containerd_shim_ocirt::task::{ContainerKey, Input, Now, Output, ProcessKey, Ticket};
use containerd_shim_ocirt::wire::status::Status;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ocirt_sys::process::set_child_subreaper;

use self::held::Containerd;
use self::job::Job;
use self::panics::Known;
use self::state::Loop;
use self::words::{Alarm, LISTENER, SIGNALS, Source, Watched};
use crate::outcome::Outcome;
use crate::sys;
use crate::sys::limit::Descriptors;

/// Orphans that are reaped before others have their turn.
const ORPHANS: usize = 256;

/// What `start` hands on to the process that serves.
#[derive(Debug)]
pub struct Service {
    pub namespace: String,
    pub socket: PathBuf,
    pub listener: UnixListener,
    /// containerd's oom_score_adj.
    pub score: Option<i32>,
    /// Where the shim says what it does.
    pub log: Option<OwnedFd>,
}

/// Serves until nobody needs it.
pub fn run(service: Service) -> Outcome<()> {
    // containerd reads the output of `start` to its end.
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    match &service.log {
        Some(log) => nix::unistd::dup2_stderr(log)?,
        None => nix::unistd::dup2_stderr(&null)?,
    }
    sys::close_on_exec_from(3);
    // The name that tools look for, whatever the file is called.
    nix::sys::prctl::set_name(c"containerd-shim")?;
    nix::unistd::setsid()?;
    nix::unistd::chdir("/")?;
    set_child_subreaper()?;
    // The kernel ends a container before its shim, and its shim before containerd.
    if let Some(score) = service.score {
        std::fs::write("/proc/self/oom_score_adj", score.saturating_add(1).min(1000).to_string())?;
    }
    let mut this = Loop::new(service)?;
    let outputs = this.tasks.get().begin();
    this.carry_out(outputs);
    this.run()
}

impl Loop {
    fn new(service: Service) -> Outcome<Self> {
        let Service { namespace, socket, listener, .. } = service;
        let descriptors = Descriptors::inherited()?;
        descriptors.raise()?;
        let mut mask = SigSet::empty();
        let taken = [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1];
        taken.into_iter().for_each(|signal| mask.add(signal));
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        listener.set_nonblocking(true)?;
        let mut this = Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            sources: BTreeMap::new(),
            last_token: 0,
            listener: None,
            socket,
            signals,
            namespace,
            descriptors,
            begun: Instant::now(),
            tasks: Known::new(Tasks::new(std::process::id())),
            queue: Queue::default(),
            containerd: Containerd::from_environment(),
            peers: BTreeMap::new(),
            containers: BTreeMap::new(),
            cgroups: BTreeMap::new(),
            memory: BTreeMap::new(),
            jobs: BTreeMap::new(),
            waiting: BTreeMap::new(),
            processes: BTreeMap::new(),
            loggers: BTreeMap::new(),
            last_logger: 0,
            alarms: BTreeMap::new(),
            inbox: VecDeque::new(),
            is_telling: false,
            is_over: false,
        };
        this.last_token = SIGNALS;
        this.sources.insert(LISTENER, Source::Listener);
        this.sources.insert(SIGNALS, Source::Signals);
        this.epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        this.epoll.add(&this.signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
        this.listener = Some(listener);
        Ok(this)
    }

    fn run(&mut self) -> Outcome<()> {
        while !self.is_over {
            let mut events = [EpollEvent::empty(); 64];
            let count = match self.epoll.wait(&mut events, self.timeout()) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            // Exits by their own descriptors come before whatever SIGCHLD would find.
            let mut ready: Vec<(Source, EpollFlags)> = events
                .iter()
                .take(count)
                .filter_map(|it| Some((*self.sources.get(&it.data())?, it.events())))
                .collect();
            ready.sort_by_key(|(source, _)| *source == Source::Signals);
            for (source, flags) in ready {
                self.serve(source, flags);
            }
            self.ring();
        }
        self.flush_peers();
        self.wait_for_loggers();
        Ok(())
    }

    fn serve(&mut self, source: Source, flags: EpollFlags) {
        match source {
            Source::Listener => self.accept(),
            Source::Signals => self.signalled(),
            Source::Peer(peer) => self.peer_ready(peer, flags),
            Source::Containerd => self.containerd_ready(),
            Source::Memory(container) => self.memory_changed(container),
            Source::Job(job) => self.job_ended(job),
            Source::Process(process) => self.process_ended(process),
            Source::Logger(logger) => self.logger_ended(logger),
            Source::Pump(process, place) => self.pump(process, place),
        }
    }

    /// Watches a descriptor. The token is for `forget_source`.
    fn watch(&mut self, fd: impl AsFd, flags: EpollFlags, source: Source) -> nix::Result<u64> {
        self.last_token += 1;
        self.epoll.add(fd, EpollEvent::new(flags, self.last_token))?;
        self.sources.insert(self.last_token, source);
        Ok(self.last_token)
    }

    fn unwatch(&mut self, fd: impl AsFd, token: u64) {
        // It is being closed, which would take it out as well.
        let _ = self.epoll.delete(fd);
        self.sources.remove(&token);
    }

    /// Of a process that has ended, and has no status yet: another one traces it, and is told first (ptrace(2)). Its descriptor is
    /// readable meanwhile; when it can be waited for, there is a SIGCHLD.
    fn leave_to_signal(&self, watched: &Watched) {
        // It is watched since its birth.
        let _ = self.epoll.modify(&watched.fd, &mut EpollEvent::new(EpollFlags::empty(), watched.token));
    }

    /// Tells the state machines what has happened, and does what they say. What happens while that is done (a job whose
    /// child cannot be born) is told afterwards, so that outputs keep their order.
    fn tell(&mut self, input: Input) {
        self.inbox.push_back(input);
        if std::mem::replace(&mut self.is_telling, true) {
            return;
        }
        while let Some(input) = self.inbox.pop_front() {
            let now = Now { wall: crate::delete::now(), monotonic: self.begun.elapsed() };
            let outputs = self.tasks.get().step(now, input);
            self.carry_out(outputs);
        }
        self.is_telling = false;
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Reply { ticket, answer } => self.reply(ticket, answer),
                Output::Ask { ticket, question } => {
                    let answer = self.look(&question);
                    self.reply(ticket, answer);
                }
                Output::Publish(event) => {
                    let step = self.queue.push(event.envelope(&self.namespace, crate::delete::now()));
                    self.follow(step);
                }
                Output::Run { job, work } => self.begin(job, work),
                Output::Abort(job) => self.abort(job),
                // That it has gone is what it is for.
                Output::Signal { process, signal } => drop(self.signal(process, signal)),
                Output::Close(process) => self.close(process),
                Output::Forget(container) => self.forget(container),
                Output::Arm { timer, after } => self.arm(Alarm::Task(timer), after),
                Output::Disarm(timer) => drop(self.alarms.remove(&Alarm::Task(timer))),
                Output::Unlink => self.unlink(),
                Output::Exit => self.is_over = true,
            }
        }
    }

    fn reply(&mut self, ticket: Ticket, answer: Result<Response, Status>) {
        self.alarms.remove(&Alarm::Request(ticket));
        self.send(ticket.connection, ticket.stream, answer.map(|response| response.encode()));
    }

    fn forget(&mut self, key: ContainerKey) {
        self.containers.remove(&key);
        self.cgroups.remove(&key);
        self.forget_memory(key);
        let gone: Vec<ProcessKey> = self.processes.keys().copied().filter(|process| process.container == key).collect();
        for process in gone {
            self.forget_process(process);
        }
    }

    fn unlink(&mut self) {
        // Another `start` may have removed it.
        let _ = std::fs::remove_file(&self.socket);
        if let Some(listener) = self.listener.take() {
            self.unwatch(&listener, LISTENER);
        }
    }

    fn arm(&mut self, alarm: Alarm, after: Duration) {
        // A limit beyond all time is none.
        if let Some(at) = Instant::now().checked_add(after) {
            self.alarms.insert(alarm, at);
        }
    }

    fn timeout(&self) -> EpollTimeout {
        let Some(next) = self.alarms.values().min() else { return EpollTimeout::NONE };
        let left = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
    }

    /// Serves the alarms whose time has come.
    fn ring(&mut self) {
        let now = Instant::now();
        let due: Vec<Alarm> = self.alarms.iter().filter(|(_, at)| **at <= now).map(|(alarm, _)| *alarm).collect();
        for alarm in due {
            if self.alarms.remove(&alarm).is_none() {
                continue;
            }
            match alarm {
                Alarm::Task(timer) => self.tell(Input::Timer(timer)),
                Alarm::Request(ticket) => self.tell(Input::Expired(ticket)),
                Alarm::Answer => self.containerd_failed(),
                Alarm::Accept => self.heed(EpollFlags::EPOLLIN),
                Alarm::Logger(logger) => self.kill_logger(logger),
                Alarm::Client(job) => self.look_for_client(job),
                Alarm::Rest(process) => self.look_for_readers(process),
                Alarm::Orphans => self.reap(),
                Alarm::Retry => {
                    let step = self.queue.retry();
                    self.follow(step);
                }
            }
        }
    }

    fn signalled(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match signal.ssi_signo as i32 {
                libc::SIGCHLD => {}
                libc::SIGUSR1 => self.dump(),
                _ => {
                    self.unlink();
                    self.is_over = true;
                }
            }
        }
        self.reap();
    }

    /// Waits for children that nobody knows: orphans of containers. One that is known is served on the way; and while a
    /// runtime is making a process whose pid is not known yet, none is reaped, since it might be that: then it is with the
    /// runtime's end.
    fn reap(&mut self) {
        for _ in 0..ORPHANS {
            let Some(pid) = sys::ended_child() else { return };
            let job = self.jobs.iter().find(|(_, job)| job.pid == pid).map(|(key, _)| *key);
            let process = self.processes.iter().find(|(_, it)| it.pid == pid && it.is_alive()).map(|(key, _)| *key);
            match (job, process) {
                (Some(job), _) => self.job_ended(job),
                (None, Some(process)) => self.process_ended(process),
                (None, None) if self.jobs.values().any(Job::makes_a_process) => return,
                (None, None) => sys::reap(pid),
            }
        }
        // One SIGCHLD may have been for all of them.
        self.arm(Alarm::Orphans, Duration::ZERO);
    }
}
