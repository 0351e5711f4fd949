//! checkpoint: saves a running container through CRIU, from the host's side.

pub mod away;
pub mod criu;
pub mod images;
pub mod inspection;
pub mod planned;

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::delete;
use super::disk::directory::Locked;
use super::disk::found::Found;
use super::host::Host;
use super::id::Id;
use super::process::trace::Trace;
use super::refusal::Refusal;
use super::status::Status;
use crate::container::checkpoint::flags::CriuFlags;
use crate::container::checkpoint::image::{self, Point};
use crate::container::checkpoint::outside::HostResources;
use crate::container::checkpoint::request::{self, DumpFlags, Dumped};
use crate::container::checkpoint::rpc::{CriuFeatures, CriuReq, Notify};
use crate::container::checkpoint::{descriptors, mounts, network, paths, targets};
use crate::error::{field, one_line};
use crate::sys::namespace;
use crate::sys::netlink::Netlink;
use crate::sys::path::RootFd;
use crate::sys::{file, ids, proc_self, process};
use crate::trace::Category;
use criu::CriuProgram;
use images::ImageFiles;

/// How long the processes of a saved container may take to disappear, in milliseconds.
const END_WITHIN: u32 = 10_000;

/// What checkpoint's flags say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CheckpointOptions {
    pub flags: CriuFlags,
    pub dump: DumpFlags,
    /// A descriptor that the caller passed on; it gets a NUL byte when the server of lazy pages is ready.
    pub status_fd: Option<u32>,
}

/// Saves the container, which then ends and is deleted, unless it is left running or only its memory was saved.
pub fn checkpoint(host: &Host, id: &Id, options: &CheckpointOptions) -> Result<()> {
    ensure!(ids::effective_uid() == 0, "needs root");
    let found = Found::open_to_change(host, id, |status| {
        ensure!(matches!(status, Status::Running | Status::Paused), Refusal::CheckpointNotRunning(status));
        Ok(())
    })?;
    ensure!(found.state.intel_rdt.is_none(), field!("linux.intelRdt"; "cannot be restored"));
    request::check(&found.state.outside)?;
    let program = CriuProgram::find()?;
    let status = options
        .status_fd
        .map(|fd| proc_self::take_writable(fd).with_context(|| format!("--status-fd: descriptor {fd}")));
    let mut job =
        DumpJob { host, found: &found, options, status: status.transpose()?, points: Vec::new(), images: None };
    program.require(CriuFeatures {
        mem_track: (options.dump.pre_dump || options.dump.parent_path.is_some()).then_some(true),
        lazy_pages: options.flags.lazy_pages.then_some(true),
    })?;
    let files = ImageFiles::make(&options.flags, options.dump.parent_path.as_deref())?;
    let request = job.request(&files)?;
    let dumped = Trace::of(host, id).timed(Category::Process, "criu dumps", || job.dump(&program, &request));
    if let Err(error) = dumped {
        image::forget(files.images());
        let configuration = request::configuration(&found.state.annotations);
        let words = || files.log_words(request::DUMP_LOG, configuration.as_deref());
        return Err(criu::explain(error, &program, words));
    }
    match options.dump.leave_running || options.dump.pre_dump {
        true => Ok(()),
        false => job.delete(),
    }
}

/// One checkpoint at work.
struct DumpJob<'a> {
    host: &'a Host<'a>,
    found: &'a Found<Locked>,
    options: &'a CheckpointOptions,
    status: Option<OwnedFd>,
    points: Vec<Point>,
    images: Option<OwnedFd>,
}

impl DumpJob<'_> {
    fn pid(&self) -> Result<i32> {
        Ok(self.found.state.init.ok_or(Refusal::NotRunning)?.pid)
    }

    fn look(&self) -> Result<Vec<Point>> {
        mounts::of(self.pid()?, &self.found.state.outside, &self.found.state.cgroup.directories)
    }

    /// The request; what ocirt keeps beside CRIU's images is written by then.
    fn request(&mut self, files: &ImageFiles) -> Result<CriuReq> {
        let state = &self.found.state;
        let mut standard = Default::default();
        if !self.options.dump.pre_dump {
            self.points = self.look()?;
            standard = descriptors::of(self.pid()?)?;
            image::save(files.images(), &self.points, &standard)?;
        }
        self.images = Some(files.images().try_clone_to_owned().context("--image-path")?);
        let dumped = Dumped {
            pid: self.pid()?,
            rootfs: &state.rootfs,
            outside: &state.outside,
            annotations: &state.annotations,
            freezer: state.cgroup.directory_of("freezer"),
            points: &self.points,
            descriptors: &standard,
        };
        request::dump(&self.options.flags, &self.options.dump, files.directories(), &dumped)
    }

    fn dump(&mut self, program: &CriuProgram, request: &CriuReq) -> Result<()> {
        let worker = program.start()?;
        worker.ask(request, |notify, _| self.notified(notify), || Ok(()))?;
        worker.finish()
    }

    fn notified(&mut self, notify: &Notify) -> Result<()> {
        match notify.script.as_deref() {
            // All processes are stopped, as they were when CRIU read their mounts. A container that moved its mount
            // points between our look and that could have exchanged the names of two mounts.
            Some("post-dump") if !self.options.dump.pre_dump => {
                ensure!(self.look()? == self.points, "the container's mounts changed meanwhile");
                self.check_restorable()
            }
            Some("status-ready") => match self.status.take() {
                Some(status) => proc_self::write_whole(status.as_fd(), b"\0").context("--status-fd"),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Refuses what `restore` would refuse, as long as the container is there.
    fn check_restorable(&self) -> Result<()> {
        let Some(images) = &self.images else { return Ok(()) };
        let is_writable = |external: Option<&str>| {
            // Its root is as CRIU says: these images are not forged.
            external.is_none_or(|name| targets::is_writable(name, &self.points, &self.found.state.outside))
        };
        if let Some(reason) = network::leave_out_unfit(images.as_fd())? {
            let reason = one_line(&reason);
            self.host.log.warn(&format!("{reason}: the network is left out of the images, for hooks to be made anew"));
        }
        let named = paths::check(images.as_fd(), &self.points, &is_writable)?;
        let root = CString::new(format!("/proc/{}/root", self.pid()?))?;
        let root = RootFd::new(file::open_path(&root).context("container root")?);
        named.deleted.iter().try_for_each(|file| file.check(&root))
    }

    /// CRIU has ended the processes; the rest goes as in `delete`.
    fn delete(&self) -> Result<()> {
        if let Some(pidfd) = self.found.state.init.map(|init| init.open()).transpose()?.flatten() {
            let is_gone = process::ends_within(pidfd.as_fd(), END_WITHIN).context("poll")?;
            ensure!(is_gone, "the container is saved, but its init did not end within {} s", END_WITHIN / 1000);
        }
        delete::destroy(self.host, &self.found.directory, &self.found.state)
    }
}

/// The namespaces that CRIU is given, in the order of [`request::inherited`].
pub fn open_namespaces(outside: &HostResources) -> Result<Vec<OwnedFd>> {
    let open = |(kind, _, path): (&str, &str, &Path)| {
        let name = CString::new(path.as_os_str().as_bytes())?;
        namespace::open(&name).with_context(|| field!("linux.namespaces"; "{kind}: {}", path.display()))
    };
    request::inherited(outside).map(open).collect()
}

/// Descriptors as they are passed on.
pub fn borrowed(descriptors: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(AsFd::as_fd).collect()
}

/// Brings up the loopback device of the network namespace of process `pid`, as `create` does.
pub fn loopback_up(pid: i32) -> Result<()> {
    const LOOPBACK: u32 = 1;
    let namespace = namespace::open(&CString::new(format!("/proc/{pid}/ns/net"))?)?;
    Ok(Netlink::open_in(namespace.as_fd())?.set_up(LOOPBACK)?)
}
