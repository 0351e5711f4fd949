//! Jobs: children of the shim that run the runtime, or mount.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use containerd_shim_ocirt::api::task::{CreateTaskRequest, ExecProcessRequest};
use containerd_shim_ocirt::call::config::Config;
use containerd_shim_ocirt::call::stdio::{Output, Stdio};
use containerd_shim_ocirt::call::{Refused, process};
use containerd_shim_ocirt::task::{ContainerKey, Input, JobKey, Outcome as Done, ProcessKey, Work};
use containerd_shim_ocirt::wire::status::{Code, Status};
use nix::sys::epoll::EpollFlags;
use nix::sys::memfd::{MFdFlags, memfd_create};
use ocirt_sys::process::pidfd_send_signal;

use super::job::{Child, Container, Job, Making, Streams};
use super::state::Loop;
use super::words::{Alarm, Source, Watched};
use crate::console::{Console, Sink};
use crate::outcome::Outcome;
use crate::runtime::{self, Runtime};
use crate::sys::Born;
use crate::{io, mounts, sys};

/// The most that is told of a child's error output.
const TOLD: u64 = 4096;

impl Loop {
    pub(super) fn begin_now(&mut self, job: JobKey, work: Work) {
        if matches!(&work, Work::Delete { container, .. } if !self.containers.contains_key(container)) {
            // It was to be restored, and never was: the runtime has not heard of it.
            return self.tell(Input::Done { job, outcome: Ok(Done::Done) });
        }
        if let Err(error) = self.prepare(work).and_then(|child| self.spawn(job, child)) {
            let code = if error.is::<Refused>() { Code::InvalidArgument } else { Code::Unknown };
            let outcome = Err(Status::new(code, error.to_string()));
            self.tell(Input::Done { job, outcome });
        }
    }

    fn prepare(&mut self, work: Work) -> Outcome<Child> {
        match work {
            Work::Mount { container, request } => {
                self.enter(container, &request)?;
                Ok(Child::function(move || mounts::mount_all(&request), container))
            }
            Work::Create { container, request } => self.create(container, &request),
            Work::Exec { process, request, stdin_closed } => self.exec(process, &request, stdin_closed),
            Work::Start(container) => self.plain(container, &["start"]),
            Work::Pause(container) => self.plain(container, &["pause"]),
            Work::Resume(container) => self.plain(container, &["resume"]),
            Work::Kill { container, signal, all } => self.kill(container, signal, all),
            Work::Delete { container, force } => {
                let mut child = self.plain(container, if force { &["delete", "--force"] } else { &["delete"] })?;
                child.may_be_gone = true;
                Ok(child)
            }
            Work::Unmount(container) => {
                let rootfs = self.container(container)?.runtime.bundle().join("rootfs");
                Ok(Child::function(move || mounts::unmount(&rootfs), container))
            }
            Work::Update { container, resources } => {
                let mut child = self.plain(container, &["update", "--resources", "-"])?;
                child.streams[0] = Some(memory(&resources.unwrap_or_default().value)?);
                Ok(child)
            }
            Work::Restore { container, request } => self.restore(container, &request),
            Work::Checkpoint { container, request } => self.checkpoint(container, &request),
        }
    }

    pub fn container(&self, key: ContainerKey) -> Outcome<&Container> {
        self.containers.get(&key).ok_or_else(|| "the container has gone".into())
    }

    /// A command of the runtime whose last argument is the id.
    fn plain(&self, key: ContainerKey, arguments: &[&str]) -> Outcome<Child> {
        let container = self.container(key)?;
        let mut command = container.runtime.command(arguments);
        command.arg("--").arg(&container.id);
        Ok(Child::program(command, key))
    }

    fn kill(&self, key: ContainerKey, signal: u32, all: bool) -> Outcome<Child> {
        let container = self.container(key)?;
        let mut command = container.runtime.command(if all { &["kill", "--all"] } else { &["kill"] });
        command.arg("--").arg(&container.id).arg(signal.to_string());
        Ok(Child::program(command, key))
    }

    /// Reads what the bundle and the options say of a container, and notes for `delete` what that needs.
    fn enter(&mut self, key: ContainerKey, request: &CreateTaskRequest) -> Outcome<()> {
        let bundle = PathBuf::from(&request.bundle);
        let config = fs::read(bundle.join("config.json")).map_err(|error| format!("config.json: {error}"))?;
        let config = Config::parse(&config)?;
        let settings = runtime::settle(request.options.as_ref(), &self.namespace, &config)?;
        let runtime = Runtime::of_bundle(settings, &bundle);
        runtime.save()?;
        let alone = config.has_own_pid_namespace();
        self.containers.insert(key, Container { id: request.id.clone(), runtime, alone });
        Ok(())
    }

    fn create(&mut self, key: ContainerKey, request: &CreateTaskRequest) -> Outcome<Child> {
        self.known(key, request)?;
        let runtime = &self.container(key)?.runtime;
        let pid_file = runtime.bundle().join("init.pid");
        let mut command = runtime.command(&["create", "--bundle", &request.bundle]);
        command.arg("--pid-file").arg(&pid_file);
        if runtime.settings.no_pivot_root {
            command.arg("--no-pivot");
        }
        if runtime.settings.no_new_keyring {
            command.arg("--no-new-keyring");
        }
        let making = Making { command, inputs: Vec::new(), log: runtime.log() };
        self.make_init(ProcessKey::init(key), making, request, pid_file)
    }

    /// Enters a container that has had nothing to mount.
    pub fn known(&mut self, key: ContainerKey, request: &CreateTaskRequest) -> Outcome<()> {
        if self.containers.contains_key(&key) { Ok(()) } else { self.enter(key, request) }
    }

    /// Init by `create` or `restore`.
    pub fn make_init(
        &mut self,
        process: ProcessKey,
        making: Making,
        request: &CreateTaskRequest,
        pid_file: PathBuf,
    ) -> Outcome<Child> {
        let owner = self.container(process.container)?.runtime.settings.io_owner;
        let stdio = Stdio::parse(&request.stdin, &request.stdout, &request.stderr)?;
        let terminal = request.terminal;
        let streams = Streams { process, id: &request.id, stdio, terminal, stdin_closed: false, owner };
        self.connect(making, &request.id, streams, pid_file)
    }

    fn exec(&mut self, process: ProcessKey, request: &ExecProcessRequest, stdin_closed: bool) -> Outcome<Child> {
        let container = self.container(process.container)?.clone();
        let spec = request.spec.as_ref().map(|spec| spec.value.as_slice()).unwrap_or_default();
        let file = memory(&process::with_terminal(spec, request.terminal)?)?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&file));
        let owner = container.runtime.settings.io_owner;
        let pid_file = container.runtime.bundle().join(format!("exec-{}.pid", request.exec_id));
        let mut command = container.runtime.command(&["exec", "--process", &path, "--detach"]);
        command.arg("--pid-file").arg(&pid_file);
        let making = Making { command, inputs: vec![file], log: container.runtime.log() };
        let stdio = Stdio::parse(&request.stdin, &request.stdout, &request.stderr)?;
        let (id, terminal) = (request.exec_id.as_str(), request.terminal);
        let streams = Streams { process, id, stdio, terminal, stdin_closed, owner };
        self.connect(making, &container.id, streams, pid_file)
    }

    /// Gives a child its streams, or a socket for its terminal. What they bring is copied from the process's birth on.
    fn connect(&mut self, mut making: Making, id: &str, wanted: Streams<'_>, pid_file: PathBuf) -> Outcome<Child> {
        let process = wanted.process;
        let mut logged = Vec::new();
        let mut own = [None, None, None];
        if wanted.terminal {
            let sink = match &wanted.stdio.output {
                Output::Fifos { stdout: Some(path), .. } => Sink::Fifo(path.clone()),
                Output::Fifos { stdout: None, .. } => Sink::Nobody,
                Output::File(path) => Sink::File(io::appended(path)?),
                Output::Logger(_) => {
                    let (ours, theirs) = std::io::pipe()?;
                    logged.push(ours.into());
                    Sink::Logger(theirs.into())
                }
            };
            let bundle = self.container(process.container)?.runtime.bundle();
            let console = Console::listen(bundle, process.number, wanted.stdio.stdin.clone(), sink)?;
            making.command.arg("--console-socket").arg(console.path());
            self.open_console(process, console, wanted.stdin_closed);
        } else {
            let streams = io::open(&wanted.stdio, wanted.stdin_closed, wanted.owner)?;
            (own, logged) = (streams.own, streams.logged);
            self.open(process, streams.pumps);
        }
        making.command.arg("--").arg(id);
        if let Output::Logger(logger) = &wanted.stdio.output {
            self.begin_logger(&mut making, process, wanted.id, logger, logged)?;
        }
        let mut child = Child::program(making.command, process.container);
        (child.streams, child.inputs, child.makes) = (own, making.inputs, Some((process, pid_file)));
        Ok(child)
    }

    fn spawn(&mut self, job: JobKey, mut child: Child) -> Outcome<()> {
        let errors = memory(b"")?;
        if child.makes.is_none() {
            child.streams[2] = Some(errors.try_clone()?);
        }
        let log_length = self.containers.get(&child.container).map_or(0, |it| it.runtime.log_length());
        let Child { container, may_be_gone, .. } = child;
        let (makes, inputs, scratch) = (child.makes.take(), std::mem::take(&mut child.inputs), child.scratch.take());
        let Born { pid, pidfd: fd } = child.born(&errors, self.descriptors)?;
        let errors = File::from(errors);
        let token = self.watch(&fd, EpollFlags::EPOLLIN, Source::Job(job))?;
        let watched = Watched { fd, token };
        self.jobs.insert(
            job,
            Job { pid, watched, container, makes, errors, log_length, may_be_gone, _inputs: inputs, scratch },
        );
        Ok(())
    }

    pub fn abort(&mut self, job: JobKey) {
        if self.call_off(job) {
            return;
        }
        if let Some(job) = self.jobs.get(&job) {
            // If it has ended by itself meanwhile, that is as good.
            let _ = pidfd_send_signal(job.watched.fd.as_fd(), libc::SIGKILL);
        }
    }

    pub fn job_ended(&mut self, key: JobKey) {
        let Some(watched) = self.jobs.get(&key).map(|job| &job.watched) else { return };
        let Some(status) = sys::wait(watched.fd.as_fd()) else { return self.leave_to_signal(watched) };
        let Some(mut job) = self.jobs.remove(&key) else { return };
        self.unwatch(&job.watched.fd, job.watched.token);
        if job.makes.is_some() {
            // Those that might have been what it was to make.
            self.arm(Alarm::Orphans, Duration::ZERO);
        }
        let mut outcome = if status == 0 { self.outcome(&job) } else { self.failure(&mut job, status) };
        let log = job.scratch.take().and_then(|scratch| scratch.end(outcome.is_err()));
        if let (Err(error), Some(log)) = (&mut outcome, log) {
            error.message += &log;
        }
        self.tell(Input::Done { job: key, outcome });
    }

    fn outcome(&mut self, job: &Job) -> Result<Done, Status> {
        let Some((process, file)) = &job.makes else { return Ok(Done::Done) };
        let alone = self.containers.get(&job.container).is_some_and(|container| container.alone);
        let pid = take_pid(*process, file);
        match pid.map(|pid| (pid, self.born(*process, pid))) {
            Some((pid, Ok(()))) => Ok(Done::Born { pid, alone }),
            Some((pid, Err(error))) => {
                self.end_unknown(*process, pid);
                Err(Status::new(Code::Unknown, format!("process {pid}: {error}")))
            }
            None => Err(Status::new(Code::Unknown, format!("{}: no pid", file.display()))),
        }
    }

    /// An exec that is nobody's nobody else would end. What is left of a `create` is undone.
    fn end_unknown(&self, process: ProcessKey, pid: u32) {
        // A file of before may name another one.
        let is_known = self.processes.values().any(|other| other.pid == pid && other.is_alive());
        if !process.is_init() && !is_known {
            sys::end_child(pid);
        }
    }

    fn failure(&mut self, job: &mut Job, status: u32) -> Result<Done, Status> {
        if let Some((process, file)) = &job.makes {
            // A runtime that was ended may have made its process by then.
            take_pid(*process, file).into_iter().for_each(|pid| self.end_unknown(*process, pid));
        }
        let container = self.containers.get(&job.container);
        if job.may_be_gone && container.is_some_and(|it| !it.runtime.has(&it.id)) {
            return Ok(Done::Done);
        }
        let logged = container.and_then(|it| it.runtime.last_error(job.log_length));
        let mut printed = String::new();
        // What cannot be read is not told.
        let _ = job.errors.seek(SeekFrom::Start(0)).and_then(|_| (&job.errors).take(TOLD).read_to_string(&mut printed));
        let words = logged.or_else(|| Some(printed.trim().to_owned()).filter(|text| !text.is_empty()));
        Err(Status::new(Code::Unknown, words.unwrap_or_else(|| format!("exit status {status}"))))
    }
}

/// The pid that a runtime has written. Of an exec nobody else reads it.
fn take_pid(process: ProcessKey, file: &Path) -> Option<u32> {
    let pid = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
    if !process.is_init() {
        // There may be none.
        let _ = fs::remove_file(file);
    }
    pid
}

/// A file without a name that has these bytes, to be read from its beginning.
fn memory(bytes: &[u8]) -> Outcome<OwnedFd> {
    let mut file = File::from(memfd_create("shim", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file.into())
}
