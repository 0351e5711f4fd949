//! THE ORDER of a container's creation: what init does from its first instruction to the container's program. Each
//! block says why it stands where it does; docs/architecture.md has the runtime's side.

use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use oci_spec::runtime::{Linux, Process, Spec};

use super::birth::{self, Split};
use super::decided::{Entrance, ParentWork, Plan};
use super::process::{Birth, Draft, Examined, Program};
use super::request::{Gate, Request};
use super::sections;
use crate::container::annotations::{self, Annotations};
use crate::container::cgroup::{Cgroup, Manager};
use crate::container::hooks::{self, Hook};
use crate::container::id_map;
use crate::container::intel_rdt::{self, IntelRdt};
use crate::container::namespaces::{self, Join, Loopback, Namespaces, Unshare};
use crate::container::net_devices::{self, NetDevices};
use crate::container::process::user::BecomeRoot;
use crate::container::process::{cpu_affinity, oom};
use crate::container::rootfs::context::CgroupView;
use crate::container::rootfs::enter::RootSetup;
use crate::container::{keyring, seccomp, time_namespace, uts};
use crate::error::{Faults, field};
use crate::init::step::{HookState, Step};
use crate::sys::ids;
use crate::sys::mountinfo;
use crate::sys::namespace::{Kind, Kinds};

/// Plans the creation of a container from a validated configuration.
pub fn create(spec: &Spec, request: &Request) -> Result<Plan> {
    compile(spec, request, &mut Draft::new(Faults::first()))?.context("nothing is planned")
}

/// All that is wrong with a configuration, and what the log would say of it.
pub fn examine(spec: &Spec, request: &Request) -> Examined {
    let mut draft = Draft::new(Faults::all());
    let plan = compile(spec, request, &mut draft);
    draft.examined(plan)
}

/// The plan; nothing where faults are kept that leave none.
fn compile(spec: &Spec, request: &Request, draft: &mut Draft) -> Result<Option<Plan>> {
    let nothing: Linux = serde_json::from_str("{}").context("linux")?;
    let linux = spec.linux().as_ref().unwrap_or(&nothing);
    let process = spec.process().as_ref().context(field!("process"; "missing"))?;
    let annotations = spec.annotations().as_ref().map(annotations::compile).transpose();
    let annotations = draft.faults.keep(annotations)?.flatten().unwrap_or_default();
    let cgroup = sections::cgroup(spec, linux, request, &mut draft.faults);
    let cgroup = draft.faults.keep(cgroup)?;
    let namespaces = namespaces::compile(linux.namespaces().as_deref().unwrap_or_default(), &mut draft.faults)?;
    let (new, private, shared) = (namespaces.new, namespaces.private, namespaces.shared);
    let filter = sections::filter(linux.seccomp().as_ref(), &annotations, &mut draft.faults);
    let filter = draft.faults.keep(filter)?.flatten();
    let container = Container {
        spec,
        linux,
        process,
        program: sections::program(linux, process, request, &annotations, &namespaces, filter),
        annotations,
        request,
        new,
        private,
        birth: if private.contains(Kind::Pid) && !new.contains(Kind::Pid) { Birth::Late } else { Birth::First },
        // One that is joined and the runtime's own is not the container's to change the root of.
        place: if private.contains(Kind::Mount) { RootSetup::OwnNamespace } else { RootSetup::RuntimeNamespace },
        rootfs: request.bundle.join(spec.root().as_ref().context(field!("root"; "missing"))?.path()),
        // In a namespace made in the runtime's own cgroup, a mount would hand that over.
        cgroup: sections::view(
            cgroup.as_ref(),
            new.contains(Kind::Cgroup) && request.cgroup_manager != Manager::Disabled,
        ),
    };
    let net_devices = draft.faults.keep(container.net_devices(&namespaces))?.unwrap_or_default();
    let Split { user, born_in, joined, late } = birth::split(namespaces)?;
    let outside = draft.faults.keep(container.outside())?.flatten();
    let (entrance, born_in) = match user {
        Some(user) => (draft.faults.keep(container.entrance(user, born_in))?, Vec::new()),
        None if container.birth == Birth::Late && new.contains(Kind::User) => {
            (Some(Entrance { oom_score_adj: None, user: None, others: born_in, time: None }), Vec::new())
        }
        None => (None, born_in),
    };

    container.warnings(cgroup.as_ref(), draft)?;
    let intel_rdt = draft.faults.keep(container.intel_rdt())?.flatten();
    let waits = Waits {
        id_maps: outside.is_some(),
        net_devices: !net_devices.is_empty(),
        unit: cgroup.as_ref().is_some_and(Cgroup::takes_process),
    };
    container.birth(draft, waits)?;
    container.namespaces(draft, joined)?;
    container.files(draft, late.as_ref())?;
    if let Some(pid) = late {
        // Hooks of the container are born in it, and what is made for the mounts must not be.
        draft.add("linux.namespaces", Step::Join(pid));
    }
    let runtime_hooks = container.hooks(draft)?;
    container.new_root(draft)?;
    container.settings(draft)?;
    container.identity(draft)?;
    let rlimits = if container.in_user_namespace() { container.program.rlimits(draft)? } else { Vec::new() };
    let Some(cgroup) = cgroup else { return Ok(None) };

    Ok(Some(Plan {
        steps: std::mem::take(&mut draft.steps),
        clone_flags: u64::from(birth::cloned(new).flags()),
        born_in,
        entrance,
        birth: container.birth,
        outside,
        rlimits,
        mount_maps: std::mem::take(&mut draft.mount_maps),
        opener: private.contains(Kind::User)
            && (ids::effective_uid() == 0 || new.contains(Kind::User) && new.contains(Kind::Mount)),
        net_devices,
        intel_rdt,
        cgroup,
        runtime_hooks,
        seccomp_agent: container.program.seccomp_agent().cloned(),
        rootfs: container.rootfs,
        keep_groups: container.program.keep_groups,
        own_pid_namespace: private.contains(Kind::Pid),
        shared,
        warnings: draft.warnings.clone(),
    }))
}

/// What init waits for, since the runtime does it from outside.
#[derive(Clone, Copy, Debug)]
struct Waits {
    id_maps: bool,
    net_devices: bool,
    unit: bool,
}

/// What the steps are made from.
pub(super) struct Container<'a> {
    pub(super) spec: &'a Spec,
    pub(super) linux: &'a Linux,
    pub(super) process: &'a Process,
    pub(super) program: Program<'a>,
    pub(super) annotations: Annotations<'a>,
    pub(super) request: &'a Request<'a>,
    pub(super) new: Kinds,
    pub(super) private: Kinds,
    pub(super) birth: Birth,
    pub(super) place: RootSetup,
    pub(super) rootfs: PathBuf,
    pub(super) cgroup: CgroupView,
}

impl Container<'_> {
    /// What the log should say of the whole, before its parts are looked at.
    fn warnings(&self, cgroup: Option<&Cgroup>, draft: &mut Draft) -> Result<()> {
        draft.warnings.extend(self.spec.annotations().iter().flat_map(annotations::warnings));
        let mut groups = self.process.user().additional_gids().iter().flatten();
        if self.annotations.keep_original_groups && groups.next().is_some() {
            draft.warnings.push("process.user.additionalGids: no effect with run.oci.keep_original_groups".to_owned());
        }
        draft.warnings.extend(cgroup.iter().flat_map(|cgroup| cgroup.warnings()).cloned());
        draft.warnings.extend(self.linux.seccomp().iter().flat_map(seccomp::warnings));
        let filter = self.program.filter.as_ref();
        draft.faults.keep(sections::starts_programs(filter))?;
        draft.warnings.extend(filter.iter().flat_map(|filter| filter.warnings().iter().cloned()));
        Ok(())
    }

    fn in_user_namespace(&self) -> bool {
        self.private.contains(Kind::User)
    }

    fn joins_user_namespace(&self) -> bool {
        self.in_user_namespace() && !self.new.contains(Kind::User)
    }

    /// The way into a user namespace that is there already.
    fn entrance(&self, user: Join, others: Vec<Join>) -> Result<Entrance> {
        let oom_score_adj = oom::compile(self.process.oom_score_adj())?;
        let time = time_namespace::compile(self.linux.time_offsets().as_ref(), self.new)?;
        Ok(Entrance { oom_score_adj, user: Some(user), others, time })
    }

    /// What the runtime does from outside while init waits: only a new user namespace asks for it.
    fn outside(&self) -> Result<Option<ParentWork>> {
        if self.joins_user_namespace() {
            return Ok(None);
        }
        let uids = self.linux.uid_mappings().as_deref().unwrap_or_default();
        let gids = self.linux.gid_mappings().as_deref().unwrap_or_default();
        let Some(maps) = id_map::compile(uids, gids, self.new)? else { return Ok(None) };
        let wants_groups = self.process.user().additional_gids().iter().flatten().next().is_some();
        // Found out late, it would be EPERM of setgroups(2).
        ensure!(
            !(wants_groups && maps.deny_groups()),
            field!("process.user.additionalGids"; "cannot set any additional groups in a rootless container whose \
             linux.gidMappings are one id (the kernel denies setgroups then; newgidmap maps more)")
        );
        let oom_score_adj = oom::compile(self.process.oom_score_adj())?;
        Ok(Some(ParentWork { maps, oom_score_adj }))
    }

    /// The groups of resctrl, which is looked for only if somebody asks.
    fn intel_rdt(&self) -> Result<Option<IntelRdt>> {
        let Some(spec) = self.linux.intel_rdt() else { return Ok(None) };
        let table = mountinfo::of_self().context("/proc/self/mountinfo")?;
        intel_rdt::compile(spec, self.request.id, &table).map(Some)
    }

    /// The devices that the runtime moves while init waits.
    fn net_devices(&self, namespaces: &Namespaces) -> Result<NetDevices> {
        let joined = namespaces.join(Kind::Net).map(Join::fd);
        let is_private = self.private.contains(Kind::Net);
        let devices = net_devices::compile(self.linux.net_devices().as_ref(), joined, is_private)?;
        let is_root = crate::sys::ids::effective_uid() == 0;
        ensure!(
            devices.is_empty() || is_root,
            field!("linux.netDevices"; "a runtime that is not root cannot move network devices")
        );
        Ok(devices)
    }

    /// The first instructions.
    fn birth(&self, draft: &mut Draft, waits: Waits) -> Result<()> {
        draft.push(Step::Title(c"ocirt:init"));
        // One Go is for both.
        match (waits.id_maps, waits.net_devices) {
            (true, _) => draft.push(Step::WaitForIdMaps),
            (false, true) => draft.add("linux.netDevices", Step::WaitForNetDevices),
            (false, false) => {}
        }
        if !self.in_user_namespace() {
            // Before the memory cgroup is joined, where the OOM killer may be at work already.
            let score = oom::compile(self.process.oom_score_adj());
            draft.add_some("process.oomScoreAdj", score, Step::OomScoreAdj)?;
        }
        if waits.unit {
            draft.add("linux.cgroupsPath", Step::WaitForUnit);
        }
        if self.request.cgroup_manager != Manager::Disabled {
            draft.add("linux.cgroupsPath", Step::EnterCgroup);
        }
        draft.push(Step::AllCpus(cpu_affinity::AllCpus));
        if self.in_user_namespace() {
            // A change of ids makes a process undumpable, and the file of the offsets root's (proc_pid_timens_offsets(5)).
            self.time_namespace(draft)?;
            draft.add("linux.uidMappings", Step::BecomeRoot(BecomeRoot { keep_groups: self.program.keep_groups }));
        }
        Ok(())
    }

    fn time_namespace(&self, draft: &mut Draft) -> Result<()> {
        if self.joins_user_namespace() {
            return Ok(());
        }
        let time = time_namespace::compile(self.linux.time_offsets().as_ref(), self.new);
        draft.add_some("linux.timeOffsets", time, Step::TimeNamespace)
    }

    /// Namespaces that clone3 did not make: joined ones, the cgroup namespace now that its root is ours, and time.
    fn namespaces(&self, draft: &mut Draft, joined: Vec<Join>) -> Result<()> {
        if !self.in_user_namespace() {
            // While dumpable: the file of the offsets is ours only then.
            self.time_namespace(draft)?;
        }
        // Before joining anything: its processes could ptrace us otherwise.
        draft.push(Step::Undumpable);
        for join in joined {
            draft.add("linux.namespaces", Step::Join(Rc::new(join)));
        }
        if self.new.contains(Kind::Cgroup) {
            draft.add("linux.namespaces", Step::Unshare(Unshare(Kinds::NONE.with(Kind::Cgroup))));
        }
        if !self.request.no_new_keyring {
            let label = self.process.selinux_label().as_deref();
            let keyring = keyring::compile(self.request.id, label, self.private);
            draft.add_some("", keyring.map(Some), Step::Keyring)?;
        }
        if self.new.contains(Kind::Net) {
            draft.add("linux.namespaces", Step::Loopback(Loopback));
        }
        Ok(())
    }

    /// Hooks that may see the mounts before the host's root goes away (config.md, "Hooks"); returns the runtime's.
    fn hooks(&self, draft: &mut Draft) -> Result<Vec<Hook>> {
        let Some(lists) = self.spec.hooks() else { return Ok(Vec::new()) };
        // Their paths are the host's: so is the environment, also of createContainer hooks.
        let mut compile = |name, list: &Option<Vec<_>>| {
            let hooks = hooks::compile(name, list.as_deref().unwrap_or_default(), self.request.hook_defaults);
            draft.faults.keep_each(hooks)
        };
        let mut runtime = compile("prestart", lists.prestart())?;
        runtime.extend(compile("createRuntime", lists.create_runtime())?);
        let container = compile("createContainer", lists.create_container())?;
        // Compiled now so that a mistake in them is create's error.
        compile("poststart", lists.poststart())?;
        compile("poststop", lists.poststop())?;
        let is_there = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|list: &Vec<_>| !list.is_empty());
        // With poststop hooks alone, too: they are called once a container has come this far.
        let others = [lists.start_container(), lists.poststop()];
        if !runtime.is_empty() || !container.is_empty() || others.into_iter().any(is_there) {
            draft.push(Step::RuntimeHooks);
        }
        for hook in container {
            draft.add(hook.field.clone(), Step::Hook(hook, HookState::Creating));
        }
        Ok(runtime)
    }

    /// What the process is given while it is still root.
    fn settings(&self, draft: &mut Draft) -> Result<()> {
        let name = uts::compile_hostname(self.spec.hostname().as_deref(), self.private);
        draft.add_some("hostname", name, Step::Name)?;
        let name = uts::compile_domainname(self.spec.domainname().as_deref(), self.private);
        draft.add_some("domainname", name, Step::Name)?;
        if let Some(affinity) = self.process.exec_cpu_affinity() {
            // For exec alone; a mistake in it is create's error all the same.
            draft.faults.keep(cpu_affinity::compile(affinity))?;
        }
        self.program.labels(draft)?;
        self.program.appear(draft, self.birth);
        self.program.settings(draft)
    }

    /// From root to the container's user, and on to its program.
    fn identity(&self, draft: &mut Draft) -> Result<()> {
        let Some(last) = self.program.identity(draft)? else { return Ok(()) };
        draft.push(Step::ReportReady);
        draft.push(match self.request.gate {
            Gate::Socket => Step::WaitAtGate,
            Gate::Link => Step::WaitForGo,
        });
        if self.program.supplied.notifies {
            draft.push(Step::SendNotifySocket);
        }
        let start = self.spec.hooks().as_ref().and_then(|lists| lists.start_container().as_deref());
        // With the mask and the environment that its process has by now: the container's, as in runc and crun.
        let inherited = hooks::HookDefaults::OfProgram(last.environment().clone());
        let hooks = hooks::compile("startContainer", start.unwrap_or_default(), &inherited);
        let hooks = draft.faults.keep_each(hooks)?;
        last.steps(draft, hooks);
        Ok(())
    }
}
