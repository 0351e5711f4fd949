//! CRIU as a child of the runtime: `criu swrk`, which serves one request on a socket and notifies us on the way.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::container::cgroup;
use crate::container::checkpoint::rpc::{CriuFeatures, CriuReq, CriuReqType as Call, Notify, Response};
use crate::container::keyring::SessionKeyring;
use crate::container::process::cpu_affinity::AllCpus;
use crate::sys::external::ExternalProgram;
use crate::sys::guard::Guard;
use crate::sys::namespace::{self, Kind, Kinds};
use crate::sys::process::{self, Cloned};
use crate::sys::program::{self, Strings};
use crate::sys::{Errno, Fault, Text, Words, socket, stdio};

/// Where programs are looked for without a PATH: the shells' default.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// More than any message that CRIU sends.
const LARGEST: usize = 64 * 1024;

/// What is asked of it is in the request, and nothing of it in a file that somebody has left on the host.
const NO_DEFAULT_CONFIG: &CStr = c"--no-default-config";

/// The oldest release that is known to work.
const NEEDED: (u32, u32) = (4, 1);

/// How long criu may be silent before somebody looks what it does, in milliseconds.
const IDLE: u32 = 2000;

/// Where criu is on this host.
pub struct CriuProgram {
    path: CString,
}

/// A criu that waits for its request. Dropped, it is killed and reaped.
pub struct Worker {
    child: Guard,
    socket: OwnedFd,
}

/// CRIU gave up, or ended; its log has the reasons, and this an errno at best.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CriuFailed(i32);

impl std::fmt::Display for CriuFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => f.write_str("criu failed"),
            errno => write!(f, "criu failed: {}", Words(Errno::from_raw(errno.abs()))),
        }
    }
}

impl std::error::Error for CriuFailed {}

/// There is no criu in $PATH.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CriuMissing;

impl std::fmt::Display for CriuMissing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("criu: executable file not found in $PATH (checkpoint and restore need CRIU 4.1 or newer)")
    }
}

impl std::error::Error for CriuMissing {}

/// A failure of CRIU's own with what its log says, and with the release of one that is too old; any other as it is.
pub fn explain(error: anyhow::Error, program: &CriuProgram, log: impl FnOnce() -> String) -> anyhow::Error {
    if error.is::<CriuFailed>() { anyhow!("{error}: {}{}", log(), program.too_old()) } else { error }
}

/// The release in the output of `criu --version`: `Version: 4.1.1`.
fn release(text: &str) -> Option<(&str, (u32, u32))> {
    let version = text.lines().find_map(|line| line.strip_prefix("Version: "))?.trim();
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    Some((version, (numbers.next()??, numbers.next()??)))
}

impl CriuProgram {
    /// Finds criu in $PATH.
    pub fn find() -> Result<Self> {
        let path = std::env::var_os("PATH").filter(|path| !path.is_empty()).unwrap_or_else(|| DEFAULT_PATH.into());
        let found = path.as_bytes().split(|byte| *byte == b':').filter(|directory| directory.starts_with(b"/"));
        let mut files = found.filter_map(|directory| CString::new([directory, b"/criu"].concat()).ok());
        match files.find(|file| program::check_executable(file).is_ok()) {
            Some(path) => Ok(Self { path }),
            None => bail!(CriuMissing),
        }
    }

    /// The file itself, past all links.
    pub fn file(&self) -> Result<PathBuf> {
        let path = Path::new(OsStr::from_bytes(self.path.to_bytes()));
        std::fs::canonicalize(path).with_context(|| path.display().to_string())
    }

    /// What to add to a failure of a criu that is older than those that are known to work.
    fn too_old(&self) -> String {
        let Some(text) = self.version_text() else { return String::new() };
        match release(&text) {
            Some((version, numbers)) if numbers < NEEDED => {
                let (path, (major, minor)) = (self.path.to_string_lossy(), NEEDED);
                format!(" ({path} is CRIU {version}; checkpoint and restore need {major}.{minor} or newer)")
            }
            _ => String::new(),
        }
    }

    fn version_text(&self) -> Option<String> {
        let said = socket::sealable_file(c"ocirt:criu").ok()?;
        let null = File::options().read(true).write(true).open("/dev/null").ok()?;
        let words = [c"criu", c"--version"].map(CString::from);
        let (arguments, environment) = (Strings::new(words.into()), Strings::new(Vec::new()));
        let program = ExternalProgram {
            path: &self.path,
            arguments: &arguments,
            environment: &environment,
            streams: [null.as_fd(), said.as_fd(), null.as_fd()],
            directory: None,
            umask: None,
            open: process::Open::Any,
        };
        program.start().ok()?.wait(Some(IDLE)).ok()??;
        let mut text = [0; 256];
        let length = socket::read_from_start(said.as_fd(), &mut text).ok()?;
        Some(String::from_utf8_lossy(text.get(..length)?).into_owned())
    }

    /// Refuses a criu, or a kernel, that lacks what is asked for.
    pub fn require(&self, wanted: CriuFeatures) -> Result<()> {
        if wanted == CriuFeatures::default() {
            return Ok(());
        }
        let request = CriuReq { features: Some(wanted), ..CriuReq::new(Call::FeatureCheck) };
        let answer = self.start()?.ask(&request, |_, _| Ok(()), || Ok(()));
        let told = answer.map_err(|error| match error.is::<CriuFailed>() {
            true => anyhow!("{error}{}", self.too_old()),
            false => error,
        });
        let response = told.context("feature check")?;
        let have = response.features.unwrap_or_default();
        let lacks = |wanted: Option<bool>, have: Option<bool>| wanted == Some(true) && have != Some(true);
        ensure!(
            !lacks(wanted.mem_track, have.mem_track),
            "criu is missing features: MemTrack (the kernel's CONFIG_MEM_SOFT_DIRTY)"
        );
        ensure!(
            !lacks(wanted.lazy_pages, have.lazy_pages),
            "criu is missing features: LazyPages (the kernel's CONFIG_USERFAULTFD)"
        );
        Ok(())
    }

    /// Starts criu with our standard input. At a dump it ends by itself, and lets the container go first.
    pub fn start(&self) -> Result<Worker> {
        self.launch(&self.path, None, &[], |_| Ok(()))
    }

    /// Starts a criu that restores, in `place` and with what `passed` holds; its program is `file` where we are now. `begin`
    /// does with its pid what must be done before it is in its last namespace. It ends with us: what it had made so far cannot
    /// be ended as long as criu traces it.
    pub fn start_in(
        &self,
        file: &Path,
        place: &CriuPlace,
        passed: &[BorrowedFd],
        begin: impl FnOnce(i32) -> Result<()>,
    ) -> Result<Worker> {
        self.launch(&CString::new(file.as_os_str().as_bytes())?, Some(place), passed, begin)
    }

    fn launch(
        &self,
        program: &CStr,
        place: Option<&CriuPlace>,
        passed: &[BorrowedFd],
        begin: impl FnOnce(i32) -> Result<()>,
    ) -> Result<Worker> {
        let (ours, theirs) = socket::pair()?;
        let (started, starting) = socket::pair()?;
        let (arguments, environment) = strings();
        // What criu prints is for nobody, and in old releases bytes of its memory. The container's streams are among what
        // is passed.
        let nowhere = File::options().write(true).open("/dev/null").context("/dev/null")?;
        let mut descriptors = vec![theirs.as_fd()];
        descriptors.extend(passed);
        match process::clone_process(0, place.and_then(|place| place.join.clone_into())).context("criu")? {
            Cloned::Child => {
                let prepare = |place: Option<&CriuPlace>| {
                    stdio::become_output(nowhere.as_fd())?;
                    place.map_or(Ok(()), |place| place.enter(starting.as_fd()))
                };
                let fault = match prepare(place) {
                    Err(fault) => fault,
                    Ok(()) => Fault::from(process::exec_with(program, &arguments, &environment, &descriptors)),
                };
                let mut text = Text::default();
                let _ = core::fmt::write(&mut text, format_args!("{fault}"));
                // The runtime may be gone; then there is nobody left to tell.
                let _ = socket::send(starting.as_fd(), text.as_bytes(), &[]);
                process::exit_now(127)
            }
            Cloned::Runtime(child) => {
                drop(starting);
                let worker = Worker { child: Guard::new(child), socket: ours };
                begin(worker.pid())?;
                if place.is_some() {
                    socket::send(started.as_fd(), b"g", &[]).context("criu")?;
                }
                let mut fault = [0; Text::CAPACITY];
                // An end of file: it has become criu.
                match socket::receive(started.as_fd(), &mut fault)?.len {
                    0 => Ok(worker),
                    len => Err(anyhow!("{}", String::from_utf8_lossy(fault.get(..len).unwrap_or_default())))
                        .with_context(|| self.path.to_string_lossy().into_owned()),
                }
            }
        }
    }
}

/// Where a criu that restores is: what it makes is born there.
pub struct CriuPlace {
    /// The container's cgroup.
    pub join: cgroup::CgroupJoin,
    /// Whether that becomes the root of a new cgroup namespace.
    pub cgroup_namespace: bool,
    /// The container's own session keyring, and the root of a procfs for its label. CRIU restores none.
    pub keyring: Option<SessionKeyring>,
    pub proc: OwnedFd,
}

impl CriuPlace {
    /// What the child does before it becomes criu; no heap.
    fn enter(&self, runtime: BorrowedFd) -> Result<(), Fault> {
        process::die_with_parent()?;
        self.join.apply()?;
        // As every process of `create` and `exec` has it: CRIU restores no affinity.
        AllCpus.apply()?;
        if let Some(keyring) = &self.keyring {
            keyring.apply(Some(self.proc.as_fd()))?;
        }
        // systemd moves it.
        socket::receive(runtime, &mut [0])?;
        if self.cgroup_namespace {
            namespace::unshare(Kinds::NONE.with(Kind::Cgroup))?;
        }
        Ok(())
    }
}

/// Its command line and environment.
fn strings() -> (Strings, Strings) {
    let arguments = [c"criu", NO_DEFAULT_CONFIG, c"swrk", c"3"].map(CString::from);
    let environment = std::env::vars_os().filter_map(|(name, value)| variable(&name, value.into_vec()));
    (Strings::new(arguments.into()), Strings::new(environment.collect()))
}

fn variable(name: &OsStr, value: Vec<u8>) -> Option<CString> {
    // The first is the service manager's: a program that reports to it would report the wrong thing. The second has CRIU
    // read another configuration than that of the request.
    (name != "NOTIFY_SOCKET" && name != "CRIU_CONFIG_FILE")
        .then(|| CString::new([name.as_bytes(), b"=", &value].concat()).ok())?
}

impl Worker {
    pub fn pid(&self) -> i32 {
        self.child.pid
    }

    /// Has criu serve `request`; `notified` is called wherever it waits for us, with the descriptors that came along. An
    /// error there makes criu give up, and is the one that is returned. `idle` is called once in a while as long as
    /// nothing comes, and ends the conversation by an error.
    pub fn ask(
        &self,
        request: &CriuReq,
        mut notified: impl FnMut(&Notify, &mut [Option<OwnedFd>]) -> Result<()>,
        mut idle: impl FnMut() -> Result<()>,
    ) -> Result<Response> {
        let mut ours = None;
        self.send(request)?;
        let response = loop {
            while !process::poll([self.socket.as_fd()], Some(IDLE)).context("answer of criu")?.contains(&true) {
                idle().map_err(|error| ours.take().unwrap_or(error))?;
            }
            let (response, mut fds) = match self.receive() {
                Err(error) => return Err(ours.unwrap_or(error)),
                Ok(received) => received,
            };
            let Some(notify) = response.notify.as_ref().filter(|_| response.kind == Call::Notify as i32) else {
                break response;
            };
            if ours.is_none() {
                ours = notified(notify, &mut fds).err();
            }
            if let Err(error) = self.send(&CriuReq::answer(ours.is_none())) {
                return Err(ours.unwrap_or(error));
            }
        };
        if let Some(error) = ours {
            return Err(error);
        }
        ensure!(response.success, CriuFailed(response.errno.unwrap_or_default()));
        Ok(response)
    }

    fn send(&self, request: &CriuReq) -> Result<()> {
        match socket::send(self.socket.as_fd(), &request.to_bytes(), &[]) {
            // It has ended, and its log says why.
            Err(error) if error.errno == Errno::EPIPE => bail!(CriuFailed(0)),
            sent => sent.context("request to criu"),
        }
    }

    /// The next message. It comes, or criu ends: nothing else holds the other end of the socket.
    fn receive(&self) -> Result<(Response, [Option<OwnedFd>; socket::MAX_FDS])> {
        let mut packet = vec![0; LARGEST];
        let received = socket::receive(self.socket.as_fd(), &mut packet).context("answer of criu")?;
        ensure!(received.len > 0, CriuFailed(0));
        ensure!(received.len < LARGEST, "criu's answer is too long");
        let response = Response::parse(packet.get(..received.len).unwrap_or_default())?;
        Ok((response, received.fds))
    }

    /// Waits until criu has ended, once it has answered; with lazy pages, that is when all pages have been fetched.
    pub fn finish(&self) -> Result<()> {
        process::poll([self.child.pidfd.as_fd()], None).context("end of criu")?;
        Ok(())
    }
}
