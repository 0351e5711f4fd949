//! restore: makes a container of a checkpoint and a bundle, from the host's side. What it makes it holds as guards, as
//! `create` does; CRIU does what init does there.

use std::collections::BTreeMap;
use std::iter;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::checkpoint::away::{self, CriuMountNamespace};
use super::checkpoint::criu::{self, CriuPlace, CriuProgram, Worker};
use super::checkpoint::images::ImageFiles;
use super::checkpoint::inspection::{Inspection, Progress};
use super::checkpoint::planned::{may, planned};
use super::checkpoint::{borrowed, loopback_up, open_namespaces};
use super::create::{self, CreateOptions};
use super::delete;
use super::disk::directory::{Directory, Reserved};
use super::disk::identity::Identity;
use super::disk::state::{Phase, State};
use super::floor;
use super::host::Host;
use super::id::Id;
use super::process::launch::run_runtime_hooks;
use super::process::{announce, foreground, poststop::Owed, trace::Trace};
use super::run::RunOptions;
use crate::container::checkpoint::flags::CriuFlags;
use crate::container::checkpoint::image::{self, Point};
use crate::container::checkpoint::leftovers::Leftovers;
use crate::container::checkpoint::outside::HostResources;
use crate::container::checkpoint::paths::Named;
use crate::container::checkpoint::request::{self, RestoreFlags, Restored};
use crate::container::checkpoint::root::{self, CriuRoot};
use crate::container::checkpoint::rpc::{CriuFeatures, CriuReq, Notify};
use crate::container::checkpoint::targets::Source;
use crate::container::checkpoint::{ids, network, numbers, owners, paths, restartable, targets};
use crate::container::verify::Wanted;
use crate::container::verify::copies::Planned;
use crate::container::{bundle, cgroup};
use crate::error::{field, io_error, one_line};
use crate::plan::{Gate, Plan, Saved};
use crate::sys::guard::{Guard, Kept};
use crate::sys::namespace::Kind;
use crate::sys::process::{self, Child};
use crate::sys::{file, ids as user, signal, socket};
use crate::trace::Category;

/// Whether process `pid` has another time namespace than the runtime; not where the kernel has none.
fn has_other_time(pid: i32) -> Result<bool> {
    let of = |process: &str| {
        let path = format!("/proc/{process}/ns/time");
        match std::fs::read_link(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            link => link.map(Some).map_err(|error| io_error("readlink", &error)).context(path),
        }
    };
    Ok(of(&pid.to_string())? != of("self")?)
}

const NO_FREEZER: &str = "a container without a cgroup that freezes cannot be restored: nothing could keep its processes \
                          from running before they are looked at";

/// What restore's flags say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RestoreOptions {
    pub flags: CriuFlags,
    pub restore: RestoreFlags,
    /// Bundle, console socket and pid file.
    pub create: CreateOptions,
    pub run: RunOptions,
}

/// Restores the container and returns its exit status, 128 and the signal for one that was killed; zero when detached.
pub fn restore(host: &Host, id: &Id, options: &RestoreOptions) -> Result<i32> {
    ensure!(user::effective_uid() == 0, "needs root");
    let mut bundle = bundle::load(&options.create.bundle, None)?;
    let program = CriuProgram::find()?;
    let files = ImageFiles::of_restore(&options.flags)?;
    let (points, descriptors) = image::load(files.images())?;
    let (console, relay) =
        announce::consoles(bundle.has_terminal(), options.create.console_socket.as_deref(), options.run.detach)?;
    let announcement = announce::Announcement::prepare(None, options.create.pid_file.as_deref())?;
    program
        .require(CriuFeatures { lazy_pages: options.flags.lazy_pages.then_some(true), ..CriuFeatures::default() })?;
    if !options.run.detach && !options.run.no_subreaper {
        process::set_child_subreaper().context("--no-subreaper")?;
    }
    // From here on no signal ends us before the container is cleaned up.
    let signals = if options.run.detach { None } else { Some(signal::listen()?) };
    let mut made = Restoring::reserve(host, id, options, &mut bundle, &files, &points)?;
    let job = RestoreJob { host, program: &program, options, points: &points, descriptors: &descriptors };
    Trace::of(host, id).timed(Category::Process, "criu restores", || made.restore(&job, console))?;
    let terminal = relay.map(foreground::Terminal::receive).transpose()?;
    let init = made.init.as_deref();
    let pid_file = init.map(|init| announcement.tell(init)).transpose()?;
    let (init, directory, state) = made.keep()?;
    pid_file.into_iter().for_each(|mut file| file.keep());
    let (Some(signals), Some(init)) = (signals, init) else { return Ok(0) };
    let exit = foreground::follow(host, &init, &signals, terminal, None);
    let destroyed = delete::destroy_ended(host, directory, &state);
    let code = exit?.code();
    destroyed.map(|()| code)
}

/// What is restored, and how.
struct RestoreJob<'a> {
    host: &'a Host<'a>,
    program: &'a CriuProgram,
    options: &'a RestoreOptions,
    points: &'a [Point],
    descriptors: &'a [String],
}

/// A container that comes to be. Dropped before [`Restoring::keep`], it is undone whole.
struct Restoring<'a> {
    // Dropped in this order: init goes first, then its cgroup, then what CRIU left; then the poststop hooks run, and its state
    // goes.
    /// The restored init.
    init: Option<Guard>,
    cgroup: cgroup::CreatedCgroup,
    /// In the container's files: when no process is there any more.
    left: Leftovers,
    poststop: Owed<'a>,
    directory: Reserved,
    state: State,
    plan: Plan,
    outside: HostResources,
    wanted: Wanted,
    named: Named,
    /// Nothing of its own network namespace is in the images, or wanted.
    leaves_network_out: bool,
}

/// A CRIU that waits for its request.
struct RestoreStarted {
    worker: Worker,
    root: root::RootInUse,
    files: ImageFiles,
    request: CriuReq,
    /// The mounts that it is to make.
    planned: Vec<Planned>,
}

/// What CRIU begins with.
struct RestorePrepared {
    root: root::RootInUse,
    files: ImageFiles,
    /// The paths of external mounts' sources, by their names.
    staged: BTreeMap<String, PathBuf>,
}

impl<'a> Restoring<'a> {
    fn reserve(
        host: &'a Host<'a>,
        id: &Id,
        options: &RestoreOptions,
        bundle: &mut bundle::Bundle,
        files: &ImageFiles,
        points: &[Point],
    ) -> Result<Self> {
        let floor = floor::load(host)?;
        ensure!(
            floor.as_ref().is_none_or(|loaded| loaded.filter.is_none()),
            "the floor of this host has a filter (seccomp), and the filters of a restored container are those of its image"
        );
        let plan = create::compile(host, id, &options.create, bundle, Gate::Link, floor.as_ref())?;
        ensure!(plan.intel_rdt.is_none(), field!("linux.intelRdt"; "cannot be restored"));
        let mut wanted = Wanted::of(&bundle.spec, &plan, &bundle.directory)?;
        wanted.relabel(options.restore.lsm_profile.as_deref());
        wanted.own_session = !options.flags.shell_job;
        ensure!(
            wanted.has_new("mnt"),
            field!("linux.namespaces"; "a container without a mount namespace of its own cannot be restored")
        );
        wanted.check_restorable()?;
        let directory = Directory::reserve(&host.root, id)?;
        ids::check(files.images(), |kind| wanted.is_private(kind))?;
        let mut state = create::first_state(id, bundle, &plan)?;
        let is_writable = |external: Option<&str>| match external {
            Some(name) => targets::is_writable(name, points, &state.outside),
            None => !wanted.read_only_root && !targets::is_read_only(&plan.rootfs),
        };
        let named = paths::check(files.images(), points, &is_writable)?;
        let may = may(&wanted);
        numbers::check(files.images(), &may)?;
        owners::check(files.images(), &may)?;
        let parents = files.parents()?;
        let directories: Vec<_> = iter::once(files.images()).chain(parents.iter().map(AsFd::as_fd)).collect();
        restartable::check(&directories, options.flags.lazy_pages)?;
        // Nobody starts it any more.
        state.start_steps.clear();
        request::check(&state.outside)?;
        directory.save(&state)?;
        directory.save_for_exec(&Saved::new(&bundle.spec, &plan, !options.create.no_new_keyring)?)?;
        create::told(bundle, &plan, floor)?.with(&wanted).save(&directory)?;
        let cgroup = plan.cgroup.create()?;
        state.cgroup = cgroup.paths().clone();
        ensure!(state.cgroup.has_freezer(), field!("linux.cgroupsPath"; "{NO_FREEZER}"));
        let outside = state.outside.clone();
        let is_empty = options.flags.empty_namespaces != 0 || network::is_left_out(files.images())?;
        let leaves_network_out = wanted.has_new("net") && is_empty;
        let (left, poststop) = (Leftovers::default(), Owed::nothing(host));
        Ok(Self {
            init: None,
            cgroup,
            left,
            poststop,
            directory,
            state,
            plan,
            outside,
            wanted,
            named,
            leaves_network_out,
        })
    }

    fn restore(&mut self, job: &RestoreJob, console: Option<OwnedFd>) -> Result<()> {
        let RestoreStarted { worker, root, files, request, planned } = &self.start(job)?;
        let mut inspection = Inspection::new(self.wanted.clone(), self.state.cgroup.clone(), worker.pid())?;
        let (mut progress, paths) = (Progress::default(), self.state.cgroup.clone());
        let mut first = None;
        let answer = worker.ask(
            request,
            |notify, fds| {
                match notify.script.as_deref() {
                    Some("setup-namespaces") => first = notify.pid,
                    // All mounts are there, and nothing has been made in them.
                    Some("post-setup-namespaces") => {
                        let init = first.context("criu tells no pid")?;
                        inspection.copies(init, planned)?;
                        away::follow_no_links(*root, worker.pid(), init).context("criu's mounts")?;
                    }
                    Some("post-restore") => away::follow_links(*root, worker.pid()).context("criu's /proc")?,
                    _ => {}
                }
                self.notified(notify, fds, console.as_ref(), &mut inspection, worker.pid())
            },
            || progress.look(worker, &paths),
        );
        let answer = answer.and_then(|_| worker.finish());
        if let Err(error) = files.hand_back() {
            job.host.log.warn(&one_line(&error));
        }
        if let Err(error) = answer {
            return Err(criu::explain(error, job.program, || files.log_words(request::RESTORE_LOG, None)));
        }
        let init = self.init.as_ref().context("criu restored no process")?;
        inspection.release(init.pid)
    }

    fn start(&mut self, job: &RestoreJob) -> Result<RestoreStarted> {
        let sources = self.sources(job.points)?;
        let planned = planned(&self.named.mounts, job.points, &sources, &self.plan.rootfs).context("--image-path")?;
        let namespaces = open_namespaces(&self.outside)?;
        let place = CriuPlace {
            join: self.cgroup.join()?,
            cgroup_namespace: self.wanted.has_new("cgroup"),
            keyring: self.plan.keyring().cloned(),
            proc: file::open_directory(c"/proc")?,
        };
        let configuration = request::configuration(&self.state.annotations);
        let program = job.program.file()?;
        // CRIU's namespace, not ours: hooks and files are the host's.
        let away = CriuMountNamespace::go()?;
        let (prepared, left) = self.prepare(job, &away, &sources, &program, configuration.as_deref())?;
        self.left = left;
        let RestorePrepared { root, files, staged } = prepared;
        let output = our_output()?;
        let passed = [output.each_ref().map(AsFd::as_fd).as_slice(), &borrowed(&namespaces)].concat();
        let worker = job.program.start_in(&program, &place, &passed, |pid| {
            away.back()?;
            // A unit of systemd begins with CRIU, as the other cgroups do.
            self.cgroup.start(&self.plan.cgroup, Some(pid))
        })?;
        self.cgroup.hand_over(&self.plan.cgroup)?;
        let restored = Restored {
            root: Path::new(CriuRoot::ROOTFS),
            outside: &self.outside,
            configuration: configuration.as_ref().map(|_| Path::new(CriuRoot::CONFIGURATION)),
            sources: &staged,
            descriptors: job.descriptors,
        };
        let mut flags = job.options.flags.clone();
        if self.leaves_network_out {
            flags.leave_network_out();
        }
        let request = request::restore(&flags, &job.options.restore, files.directories(), &restored)?;
        Ok(RestoreStarted { worker, root, files, request, planned })
    }

    /// Makes the root directory that CRIU has, and is in it then.
    fn prepare(
        &self,
        job: &RestoreJob,
        away: &CriuMountNamespace,
        sources: &BTreeMap<String, Source>,
        program: &Path,
        configuration: Option<&Path>,
    ) -> Result<(RestorePrepared, Leftovers)> {
        let rootfs = std::fs::canonicalize(&self.plan.rootfs).context(field!("root.path"))?;
        let left = away.prepare(&rootfs, job.points, sources, &self.named.deleted)?;
        let root = CriuRoot::begin(&self.directory.path(), program).context("criu's root directory")?;
        let files = ImageFiles::show(&job.options.flags, &root)?;
        root.rootfs(&rootfs, self.wanted.read_only_root).context(field!("root.path"))?;
        if let Some(path) = configuration {
            root.configuration(path).with_context(|| format!("configuration of criu {}", path.display()))?;
        }
        let (place, path) = root.sources()?;
        let staged = targets::stage(place.as_fd(), &path, job.points, sources).context(field!("mounts"))?;
        targets::hide_cgroups(root.own()?.as_fd(), files.images()).context("--image-path: cgroup.img")?;
        if !self.wanted.has_new("net") {
            targets::hide_connections(root.own()?.as_fd(), files.images()).context("--image-path: netns-ct")?;
        }
        let root = root.finish().context("criu's root directory")?;
        Ok((RestorePrepared { root, files, staged }, left))
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
                if self.leaves_network_out {
                    loopback_up(pid()?).context("loopback device")?;
                }
                self.poststop.incur(&self.state);
                run_runtime_hooks(&self.plan, &self.state, pid()?, &Trace::of(self.poststop.host(), &self.state.id))
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
        let init = self.init.insert(Guard::new(child));
        self.state.init = Some(Identity::of(pid, init.pidfd.as_fd())?);
        self.state.phase = Phase::Created;
        if has_other_time(pid)? {
            // CRIU makes one for every container that it restores, so that its clocks go on.
            self.directory.save_for_exec(&self.directory.load_for_exec()?.with_namespace(Kind::Time))?;
        }
        self.directory.save(&self.state)
    }

    /// The container stays, and others may change it.
    fn keep(self) -> Result<(Option<Kept>, Directory, State)> {
        let Self { init, mut cgroup, mut left, mut poststop, directory, state, .. } = self;
        left.keep();
        let directory = directory.keep()?;
        poststop.hand_over();
        cgroup.keep();
        Ok((init.map(Guard::keep), directory, state))
    }
}

/// Standard output and standard error, which are the container's.
fn our_output() -> Result<[OwnedFd; 2]> {
    let (output, error) = (std::io::stdout(), std::io::stderr());
    Ok([output.as_fd().try_clone_to_owned()?, error.as_fd().try_clone_to_owned()?])
}
