//! restore: makes a container of a checkpoint and a bundle, from the host's side. What it makes it holds as guards, as
//! `create` does; CRIU does what init does there.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::announce;
use super::checkpoint::{borrowed, open_namespaces};
use super::create::{self, CreateOptions};
use super::criu::{self, Place, Program};
use super::directory::{Directory, Reserved};
use super::identity::Identity;
use super::images::Files;
use super::inspection::{Inspection, Progress};
use super::launch::run_runtime_hooks;
use super::run::RunOptions;
use super::state::{Phase, State};
use super::{Host, Id, delete, foreground};
use crate::container::checkpoint::flags::Flags;
use crate::container::checkpoint::image::{self, Point};
use crate::container::checkpoint::outside::Outside;
use crate::container::checkpoint::request::{self, RestoreFlags, Restored};
use crate::container::checkpoint::rpc::{Features, Notify};
use crate::container::checkpoint::targets::Source;
use crate::container::checkpoint::{ids, paths, targets};
use crate::container::verify::Wanted;
use crate::container::{bundle, cgroup};
use crate::error::field;
use crate::plan::{Gate, Plan, Saved};
use crate::sys::mount::{self, Depth, Sharing};
use crate::sys::namespace::{self, Kind, Kinds};
use crate::sys::path::RootFd;
use crate::sys::process::{self, Child};
use crate::sys::{file, ids as user, signal, socket};

const NO_FREEZER: &str = "a container without a cgroup that freezes cannot be restored: nothing could keep its processes \
                          from running before they are looked at";

/// What restore's flags say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RestoreOptions {
    pub flags: Flags,
    pub restore: RestoreFlags,
    /// Bundle, console socket and pid file.
    pub create: CreateOptions,
    pub run: RunOptions,
}

/// Restores the container and returns its exit status, 128 and the signal for one that was killed; zero when detached.
pub fn restore(host: &Host, id: &Id, options: &RestoreOptions) -> Result<i32> {
    ensure!(user::effective_uid() == 0, "needs root");
    let mut bundle = bundle::load(&options.create.bundle, None)?;
    let program = Program::find()?;
    let files = Files::of_restore(&options.flags)?;
    let (points, descriptors) = image::load(files.images())?;
    let (console, relay) =
        announce::consoles(bundle.has_terminal(), options.create.console_socket.as_deref(), options.run.detach)?;
    let announcement = announce::Announcement::prepare(None, options.create.pid_file.as_deref())?;
    program.require(Features { lazy_pages: options.flags.lazy_pages.then_some(true), ..Features::default() })?;
    if !options.run.detach && !options.run.no_subreaper {
        process::set_child_subreaper().context("--no-subreaper")?;
    }
    // From here on no signal ends us before the container is cleaned up.
    let signals = if options.run.detach { None } else { Some(signal::listen()?) };
    let mut made = Made::reserve(host, id, options, &mut bundle, &files, &points)?;
    let job = Job { program: &program, options, points: &points, descriptors: &descriptors };
    made.restore(&job, console)?;
    let terminal = relay.map(foreground::Terminal::receive).transpose()?;
    let init = made.init.as_ref().map(|init| &init.child);
    let pid_file = init.map(|init| announcement.tell(init)).transpose()?;
    let (init, directory, state) = made.keep()?;
    pid_file.into_iter().for_each(|mut file| file.keep());
    let (Some(signals), Some(init)) = (signals, init) else { return Ok(0) };
    let exit = foreground::follow(host, &init.child, &signals, terminal);
    let destroyed = delete::destroy_ended(host, directory, &state);
    let code = exit?.code();
    destroyed.map(|()| code)
}

/// What is restored, and how.
struct Job<'a> {
    program: &'a Program,
    options: &'a RestoreOptions,
    points: &'a [Point],
    descriptors: &'a [String],
}

/// The restored init. Dropped, it is killed and reaped, unless it is kept.
struct Init {
    child: Child,
    kept: bool,
}

impl Drop for Init {
    fn drop(&mut self) {
        if !self.kept {
            // Both fail only if it has ended and is reaped.
            let _ = process::pidfd_send_signal(self.child.pidfd.as_fd(), signal::KILL);
            let _ = process::wait(self.child.pidfd.as_fd());
        }
    }
}

/// A container that comes to be. Dropped before [`Made::keep`], it is undone whole.
struct Made {
    // Dropped in this order: init goes first, then its cgroup, then its state.
    init: Option<Init>,
    cgroup: cgroup::Created,
    directory: Reserved,
    state: State,
    plan: Plan,
    outside: Outside,
    wanted: Wanted,
}

impl Made {
    fn reserve(
        host: &Host,
        id: &Id,
        options: &RestoreOptions,
        bundle: &mut bundle::Bundle,
        files: &Files,
        points: &[Point],
    ) -> Result<Self> {
        let plan = create::compile(host, id, &options.create, bundle, Gate::Link)?;
        ensure!(plan.intel_rdt.is_none(), field!("linux.intelRdt"; "cannot be restored"));
        let mut wanted = Wanted::of(&bundle.spec, &plan, &bundle.directory)?;
        wanted.relabel(options.restore.lsm_profile.as_deref());
        ensure!(
            wanted.has_new("mnt"),
            field!("linux.namespaces"; "a container without a mount namespace of its own cannot be restored")
        );
        wanted.check_restorable()?;
        let directory = Directory::reserve(&host.root, id)?;
        ids::check(files.images(), |kind| wanted.is_private(kind))?;
        paths::check(files.images(), points)?;
        let mut state = create::first_state(id, bundle, &plan)?;
        // Nobody starts it any more.
        state.start_steps.clear();
        request::check(&state.outside)?;
        directory.save(&state)?;
        directory.save_for_exec(&Saved::new(&bundle.spec, &plan, !options.create.no_new_keyring)?)?;
        let cgroup = plan.cgroup.create()?;
        state.cgroup = cgroup.paths().clone();
        ensure!(state.cgroup.has_freezer(), field!("linux.cgroupsPath"; "{NO_FREEZER}"));
        let outside = state.outside.clone();
        Ok(Self { init: None, cgroup, directory, state, plan, outside, wanted })
    }

    fn restore(&mut self, job: &Job, console: Option<OwnedFd>) -> Result<()> {
        let sources = self.sources(job.points)?;
        let namespaces = open_namespaces(&self.outside)?;
        let root = std::fs::canonicalize(&self.plan.rootfs).context(field!("root.path"))?;
        let place = Place { join: self.cgroup.join()?, cgroup_namespace: self.wanted.has_new("cgroup") };
        // CRIU's namespace, not ours: hooks and files are the host's.
        let away = Away::go(&root)?;
        away.prepare(&root, job.points, &sources)?;
        let staged = targets::stage(&self.directory.path(), job.points, &sources).context(field!("mounts"))?;
        // CRIU mounts things below its working directory: that must be one of its namespace's.
        let files = Files::open(&job.options.flags)?;
        targets::hide_cgroups(&self.directory.path(), files.images()).context("--image-path: cgroup.img")?;
        let worker = job.program.start_in(&place, &borrowed(&namespaces), |pid| {
            away.back()?;
            // A unit of systemd begins with CRIU, as the other cgroups do.
            self.cgroup.start(&self.plan.cgroup, Some(pid))
        })?;
        self.cgroup.hand_over(&self.plan.cgroup)?;
        let mut inspection = Inspection::new(self.wanted.clone(), self.state.cgroup.clone(), worker.pid())?;
        let restored = Restored {
            root: &root,
            outside: &self.outside,
            annotations: &self.state.annotations,
            sources: &staged,
            descriptors: job.descriptors,
        };
        let request = request::restore(&job.options.flags, &job.options.restore, files.directories(), &restored)?;
        let (mut progress, paths) = (Progress::default(), self.state.cgroup.clone());
        let answer = worker.ask(
            &request,
            |notify, fds| self.notified(notify, fds, console.as_ref(), &mut inspection, worker.pid()),
            || progress.look(&worker, &paths),
        );
        if let Err(error) = answer.and_then(|_| worker.finish()) {
            return Err(criu::explain(error, || files.log_words(request::RESTORE_LOG)));
        }
        let init = self.init.as_ref().context("criu restored no process")?;
        inspection.release(init.child.pid)
    }

    /// What of the host all external mounts show, by their names.
    fn sources(&self, points: &[Point]) -> Result<BTreeMap<String, Source>> {
        let external = points.iter().filter_map(|point| point.external.as_ref());
        let source = |origin| targets::source(origin, &self.outside, &self.state.cgroup.directories);
        external.map(|external| Ok((external.name.clone(), source(&external.origin)?))).collect()
    }

    fn notified(
        &mut self,
        notify: &Notify,
        fds: &mut [Option<OwnedFd>],
        console: Option<&OwnedFd>,
        inspection: &mut Inspection,
        criu: i32,
    ) -> Result<()> {
        let pid = || notify.pid.context("criu tells no pid");
        match notify.script.as_deref() {
            Some("setup-namespaces") => {
                inspection.namespaces(pid()?)?;
                run_runtime_hooks(&self.plan, &self.state, pid()?)
            }
            Some("orphan-pts-master") => {
                let master = fds.first_mut().and_then(Option::take).context("criu sent no terminal")?;
                let socket =
                    console.context(field!("process.terminal"; "not set, but the checkpoint has a terminal"))?;
                socket::send(socket.as_fd(), b"/dev/ptmx", &[master.as_fd()]).context("the console socket")
            }
            Some("post-restore") => {
                inspection.places(pid()?)?;
                self.save(pid()?)
            }
            Some("pre-resume") => inspection.hold(criu).inspect_err(|_| self.end()),
            _ => Ok(()),
        }
    }

    /// CRIU lets the processes go, whatever we answer.
    fn end(&mut self) {
        // The error that led here is the one to tell.
        let _ = self.state.cgroup.kill_all(signal::KILL);
        self.init = None;
    }

    /// All processes are there, and not yet let go.
    fn save(&mut self, pid: i32) -> Result<()> {
        let child = Child { pid, pidfd: process::pidfd_open(pid).context("the restored init")? };
        let init = self.init.insert(Init { child, kept: false });
        self.state.init = Some(Identity::of(pid, init.child.pidfd.as_fd())?);
        self.state.phase = Phase::Created;
        self.directory.save(&self.state)
    }

    /// The container stays, and others may change it.
    fn keep(self) -> Result<(Option<Init>, Directory, State)> {
        let Self { mut init, mut cgroup, directory, state, .. } = self;
        let directory = directory.keep()?;
        if let Some(init) = &mut init {
            init.kept = true;
        }
        cgroup.keep();
        Ok((init, directory, state))
    }
}

/// While this lives, the runtime is in a mount namespace that nobody else sees, in which the rootfs is a mount point and
/// everything that CRIU mounts on is there. Whatever happens to the runtime, nothing of it stays.
struct Away {
    own: OwnedFd,
    directory: OwnedFd,
}

impl Away {
    fn go(root: &Path) -> Result<Self> {
        let away = Self { own: namespace::open(c"/proc/self/ns/mnt")?, directory: file::open_path(c".")? };
        namespace::unshare(Kinds::NONE.with(Kind::Mount)).context("mount namespace of criu")?;
        let top = file::open_directory(c"/")?;
        mount::set_sharing(top.as_fd(), Sharing::Slave, Depth::Tree)?;
        bind_to_itself(root)?;
        Ok(away)
    }

    /// The mounts that show whether all mount points are there go again before CRIU comes.
    fn prepare(&self, root: &Path, points: &[Point], sources: &BTreeMap<String, Source>) -> Result<()> {
        let path = CString::new(root.as_os_str().as_bytes())?;
        targets::prepare(&RootFd::new(file::open_directory(&path)?), points, sources)?;
        mount::detach(&path)?;
        bind_to_itself(root)
    }

    fn back(self) -> Result<()> {
        // The guard does it; only here somebody can be told.
        namespace::join(self.own.as_fd(), Kind::Mount).context("mount namespace of the runtime")
    }
}

fn bind_to_itself(root: &Path) -> Result<()> {
    let path = CString::new(root.as_os_str().as_bytes())?;
    let (tree, target) = (mount::copy_path(&path, Depth::Tree)?, file::open_directory(&path)?);
    mount::attach(tree.as_fd(), target.as_fd()).context(field!("root.path"))
}

impl Drop for Away {
    fn drop(&mut self) {
        // The right that let us leave is still ours. setns(2) moves the working directory, to where all relative paths of
        // the command line would be looked for.
        let _ = namespace::join(self.own.as_fd(), Kind::Mount);
        let _ = file::enter(self.directory.as_fd());
    }
}
