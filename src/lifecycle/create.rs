//! create: steps 1 to 5 of runtime.md's lifecycle, from the host's side.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Result, bail, ensure};

use super::disk::directory::{Directory, Reserved};
use super::disk::identity::Identity;
use super::disk::state::{OCI_VERSION, PendingAgent, Phase, State};
use super::disk::told::Told;
use super::floor::{self, Loaded};
use super::host::Host;
use super::id::Id;
use super::process::announce::{self, Announcement, PidFile, Receiver};
use super::process::launch::Init;
use super::process::poststop::Owed;
use super::process::supervisor::Supervision;
use super::process::trace::Trace;
use super::process::{protect, user_namespace};
use super::start;
use crate::container::bundle::{self, Bundle};
use crate::container::checkpoint::outside::HostResources;
use crate::container::hooks::HookDefaults;
use crate::container::intel_rdt::{self, IntelRdt};
use crate::container::rootfs::options::is_read_only;
use crate::container::verify::Wanted;
use crate::container::{annotations, cgroup, validate};
use crate::error::{Faults, field};
use crate::init::Inherited;
use crate::log;
use crate::plan::{self, Gate, Plan};
use crate::sys::{self, guard};
use crate::trace::Category;

/// What create's and run's flags say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CreateOptions {
    pub bundle: PathBuf,
    /// Another name for config.json.
    pub config: Option<PathBuf>,
    pub console_socket: Option<PathBuf>,
    pub pidfd_socket: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    /// chroot instead of pivot_root, for a host that runs from an initramfs.
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    /// How many descriptors the container's program gets, from 3 on or behind those of a supervisor.
    pub preserve_fds: u32,
    pub supervision: Supervision,
}

/// A container whose init is ready. Dropped before [`CreatedContainer::keep`], it is undone whole.
pub struct CreatedContainer<'a> {
    // Dropped in this order: init goes first, then its cgroup; then the poststop hooks run, and its state goes.
    pub init: Init,
    cgroup: cgroup::CreatedCgroup,
    intel_rdt: intel_rdt::CreatedGroups,
    poststop: Owed<'a>,
    pub directory: Reserved,
    pub state: State,
    pub plan: Plan,
    pub trace: Trace<'a>,
    pid_file: PidFile,
}

/// A container that is made.
pub struct KeptContainer {
    pub init: guard::Kept,
    pub directory: Directory,
    pub state: State,
}

/// Creates a container and leaves it waiting for `start`.
pub fn create(host: &Host, id: &Id, options: &CreateOptions) -> Result<()> {
    protect::ensure(host)?;
    let bundle = bundle::load(&options.bundle, options.config.as_deref())?;
    if bundle.has_terminal() && options.console_socket.is_none() {
        bail!(field!("process.terminal"; "a container that is only created needs --console-socket"));
    }
    if !bundle.has_terminal() && options.console_socket.is_some() {
        bail!("--console-socket: process.terminal is not set");
    }
    let console = options.console_socket.as_deref().map(announce::console_socket).transpose()?;
    build(host, id, options, bundle, console, Gate::Socket)?.keep().map(drop)
}

/// Everything up to the point at which init waits for the word to start; the caller decides who says it.
pub fn build<'a>(
    host: &'a Host,
    id: &Id,
    options: &CreateOptions,
    mut bundle: Bundle,
    console: Option<OwnedFd>,
    gate: Gate,
) -> Result<CreatedContainer<'a>> {
    check_preserved(
        options.supervision.listening.as_ref().map_or(0, |listening| listening.count),
        options.preserve_fds,
    )?;
    let mut trace = Trace::of(host, id);
    let floor = floor::load(host)?;
    let plan = trace.told(Category::Plan, "plan", || compile(host, id, options, &mut bundle, gate, floor.as_ref()))?;
    let directory = trace.timed(Category::State, "reserve the id", || Directory::reserve(&host.root, id))?;
    let mut state = first_state(id, &bundle, &plan)?;
    trace.timed(Category::State, "save the first state", || directory.save(&state))?;
    let mut poststop = Owed::nothing(host);
    let mut cgroup = trace.told(Category::Cgroup, "cgroup", || plan.cgroup.create())?;
    let intel_rdt = plan.intel_rdt.as_ref().map(IntelRdt::create).transpose()?.unwrap_or_default();
    let gate = match gate {
        Gate::Socket => Some(directory.make_gate()?),
        Gate::Link => None,
    };
    let inherited = Inherited {
        join: cgroup.join()?,
        mount_namespaces: Vec::new(),
        opener: plan.opener,
        gate,
        console,
        timeline: trace.begin(plan.steps.len())?,
        hook_output: plan.has_hooks_in_init().then(|| state.hook_output()).transpose()?,
    };
    let mut init = trace.timed(Category::Process, "clone init", || Init::launch(&plan, inherited))?;
    state.init = Some(init.identity()?);
    if let Some(groups) = &state.intel_rdt {
        groups.add(init.child.pid)?;
    }
    if cgroup.paths().directories.is_empty() {
        // Where it has a cgroup, `delete` finds init there, whenever we are killed.
        directory.save(&state)?;
    }
    // While init is at work: it is an exec that will want it.
    trace.timed(Category::State, "save what exec needs", || {
        directory.save_for_exec(&plan::Saved::new(&bundle.spec, &plan, !options.no_new_keyring)?)
    })?;
    trace.timed(Category::State, "save what verify needs", || told(&bundle, &plan, floor)?.save(&directory))?;
    if plan.cgroup.takes_process() {
        trace.timed(Category::Cgroup, "systemd unit", || init.enter_unit(&plan, &mut cgroup))?;
    }
    trace.timed(Category::Cgroup, "hand the cgroup over", || cgroup.hand_over(&plan.cgroup))?;
    let prepared = init.prepare(&plan, &directory, &mut state, &mut poststop, &mut trace);
    trace.steps(&plan.steps);
    prepared?;
    state.phase = Phase::Created;
    state.cgroup = cgroup.paths().clone();
    trace.timed(Category::State, "save the state", || directory.save(&state))?;
    let annotated = annotations::compile(&state.annotations)?.pidfd_receiver;
    let annotated = annotated.map(|path| Receiver { field: "annotations.run.oci.pidfd_receiver:", path });
    let receiver = Receiver::of_flag(options.pidfd_socket.as_deref()).or(annotated);
    let pid_file = trace.timed(Category::Message, "announce the pid", || {
        Announcement::open(receiver, options.pid_file.as_deref())?.tell(&init.child)
    })?;
    Ok(CreatedContainer { init, cgroup, intel_rdt, poststop, directory, state, plan, trace, pid_file })
}

/// Whether the caller has passed on what `--preserve-fds` says, behind what a supervisor has.
pub fn check_preserved(listening: u32, count: u32) -> Result<()> {
    let first = listening.saturating_add(3);
    for fd in first..first.saturating_add(count) {
        ensure!(sys::proc_self::is_passed_on(fd), "--preserve-fds: descriptor {fd} is not open");
    }
    Ok(())
}

/// What both sides would do of a bundle, with nothing done.
pub fn plan(host: &Host, id: &Id, options: &CreateOptions) -> Result<plan::Outline> {
    let mut bundle = bundle::load(&options.bundle, options.config.as_deref())?;
    let floor = floor::load(host)?;
    Ok(compile(host, id, options, &mut bundle, Gate::Socket, floor.as_ref())?.outline())
}

/// The plan of a bundle. Which user namespace its configuration means by a path is settled in the bundle as well, and so is
/// what the floor adds to it.
pub fn compile(
    host: &Host,
    id: &Id,
    options: &CreateOptions,
    bundle: &mut Bundle,
    gate: Gate,
    floor: Option<&Loaded>,
) -> Result<Plan> {
    ensure!(sys::kernel::is_new_enough(), "ocirt needs Linux 5.14 or newer");
    let user_namespace = user_namespace::settle(&mut bundle.spec)?;
    // Before anything is refused: what is missing may be misspelt.
    bundle.warnings.iter().for_each(|warning| host.log.warn(warning));
    let tightened = validate(bundle, floor, &mut Faults::first())?;
    let hook_defaults = host.hook_defaults();
    let request = request(host, id, options, &bundle.directory, gate, &hook_defaults, floor);
    let plan = plan::create(&bundle.spec, &request)?;
    user_namespace.iter().try_for_each(|settled| user_namespace::verify(settled, &plan))?;
    tightened.iter().chain(&plan.warnings).for_each(|warning| host.log.warn(warning));
    Ok(plan)
}

/// The rules for the bundle's configuration, for whoever runs this. What the floor adds is validated like the rest; returned
/// is what it makes stricter, a line each.
pub fn validate(bundle: &mut Bundle, floor: Option<&Loaded>, faults: &mut Faults) -> Result<Vec<String>> {
    let tightened = match floor {
        Some(loaded) => loaded.floor.tighten(&mut bundle.spec, &bundle.directory, faults)?,
        None => Vec::new(),
    };
    validate::validate(&bundle.spec, &bundle.directory, faults)?;
    if sys::ids::effective_uid() != 0 {
        faults.keep(validate::rootless(&bundle.spec))?;
    }
    Ok(tightened)
}

/// What the caller decides of a container, besides config.json.
pub fn request<'a>(
    host: &Host,
    id: &'a Id,
    options: &'a CreateOptions,
    bundle: &'a Path,
    gate: Gate,
    hook_defaults: &'a HookDefaults,
    floor: Option<&'a Loaded>,
) -> plan::Request<'a> {
    plan::Request {
        id: id.as_str(),
        cgroup_manager: host.cgroup_manager,
        bundle,
        no_pivot: options.no_pivot,
        no_new_keyring: options.no_new_keyring,
        preserve_fds: options.preserve_fds,
        listening: options.supervision.listening.as_ref(),
        notify: options.supervision.notify,
        relays_terminal: options.console_socket.is_none(),
        gate,
        rootless: host.rootless.for_cgroups(),
        hook_defaults,
        floor: floor.and_then(|loaded| loaded.filter.as_ref()),
    }
}

/// What `verify` is to compare the container with.
pub fn told(bundle: &Bundle, plan: &Plan, floor: Option<Loaded>) -> Result<Told> {
    let wanted = Wanted::of(&bundle.spec, plan, &bundle.directory)?;
    let linux = bundle.spec.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let floor = floor.map(|loaded| loaded.floor.rules);
    Ok(Told { floor, ..Told::new(wanted, cgroup::Expected::of(&plan.cgroup, resources)) })
}

pub fn first_state(id: &Id, bundle: &Bundle, plan: &Plan) -> Result<State> {
    let spec = &bundle.spec;
    let hooks = spec.hooks().clone().unwrap_or_default();
    Ok(State {
        oci_version: OCI_VERSION.to_owned(),
        id: id.to_string(),
        phase: Phase::Creating,
        creator: Identity::own()?,
        init: None,
        bundle: bundle.directory.clone(),
        rootfs: plan.rootfs.clone(),
        created: log::rfc3339_nanos(SystemTime::now()),
        annotations: spec.annotations().clone().unwrap_or_default(),
        owner: sys::ids::effective_uid(),
        own_pid_namespace: plan.own_pid_namespace,
        cgroup: plan.cgroup.paths().clone(),
        intel_rdt: plan.intel_rdt.as_ref().map(|intel_rdt| intel_rdt.groups().clone()),
        limits: plan.cgroup.applied(),
        exit: None,
        added_mounts: Vec::new(),
        outside: HostResources::of(spec, &bundle.directory, is_read_only),
        poststart: hooks.poststart().clone().unwrap_or_default(),
        poststop: hooks.poststop().clone().unwrap_or_default(),
        start_steps: plan.start_steps(),
        depends_on: plan.seccomp_agent.as_ref().map(|agent| {
            let hooks = hooks.start_container().as_deref().unwrap_or_default();
            PendingAgent::new(agent, hooks)
        }),
    })
}

impl CreatedContainer<'_> {
    /// Runs the poststart hooks, which may call the runtime for this container.
    pub fn run_poststart(&mut self, host: &Host) -> Result<()> {
        if self.state.poststart.is_empty() {
            return Ok(());
        }
        self.directory.unlock()?;
        // What is made is undone, with init first.
        let result = start::run_poststart(host, &self.state).map_err(Into::into);
        if result.is_err() && !self.directory.is_ours_again() {
            // Somebody deletes it, or has: what is left but init is theirs.
            self.cgroup.keep();
            self.intel_rdt.keep();
            self.poststop.hand_over();
            self.directory.give_up();
        }
        result
    }

    /// The container stays, and others may change it; init is still the caller's to follow.
    pub fn keep(self) -> Result<KeptContainer> {
        let Self { init, mut cgroup, mut intel_rdt, mut poststop, directory, state, mut pid_file, plan: _, trace: _ } =
            self;
        let directory = directory.keep()?;
        let init = init.keep();
        cgroup.keep();
        intel_rdt.keep();
        poststop.hand_over();
        pid_file.keep();
        Ok(KeptContainer { init, directory, state })
    }
}
