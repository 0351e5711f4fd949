//! The steps that a plan is made of. Each is data; `run` hands it to the one module that knows how to apply it, and
//! `Display` says it in a line.

use core::ffi::CStr;
use std::fmt;
use std::os::fd::AsFd;
use std::rc::Rc;

use super::inside::{Inside, Opener};
use super::procfs;
use super::report::{Milestone, Report};
use crate::container::console::{Console, ControllingTerminal};
use crate::container::devices::{DevLinks, Device};
use crate::container::hooks::Hook;
use crate::container::keyring::SessionKeyring;
use crate::container::namespaces::{Join, JoinInit, Loopback, Unshare};
use crate::container::process::capabilities::Capabilities;
use crate::container::process::cpu_affinity::{AllCpus, CpuList};
use crate::container::process::cwd::WorkingDirectory;
use crate::container::process::descriptors::Descriptors;
use crate::container::process::env::Environment;
use crate::container::process::executable::Executable;
use crate::container::process::io_priority::IoPriority;
use crate::container::process::memory_policy::MemoryPolicy;
use crate::container::process::oom::OomScoreAdj;
use crate::container::process::personality::Personality;
use crate::container::process::rlimits::Rlimit;
use crate::container::process::scheduler::Scheduler;
use crate::container::process::user::{BecomeRoot, User};
use crate::container::rootfs::enter::EnterRootfs;
use crate::container::rootfs::held::Held;
use crate::container::rootfs::mask::{LateReadonly, MaskPath, ReadonlyPath, ReadonlyRoot};
use crate::container::rootfs::mount::Mount;
use crate::container::rootfs::notify::NotifySocket;
use crate::container::rootfs::pivot::PivotRoot;
use crate::container::rootfs::propagation::{Propagation, RootPropagation};
use crate::container::seccomp::Filter;
use crate::container::security::{Apparmor, NoNewPrivileges, Selinux};
use crate::container::sysctl::Sysctl;
use crate::container::time_namespace::TimeNamespace;
use crate::container::uts;
use crate::sys::path::RootFd;
use crate::sys::procfs::ProcFd;
use crate::sys::{Fault, beneath, command_line, file, proc_self};

/// A step, and the place in config.json that asks for it: `mounts[3]`; empty for what every container gets.
pub struct Planned {
    pub field: String,
    pub step: Step,
}

/// Everything that init can do.
pub enum Step {
    /// Shows where a hang is: `ocirt:init` or `ocirt:exec` in ps; and hides what the runtime was called with.
    Title(&'static CStr),
    OomScoreAdj(OomScoreAdj),
    /// Waits until the runtime has written the id maps.
    WaitForIdMaps,
    /// Waits until the runtime has moved network devices here: sysctls may be about them.
    WaitForNetDevices,
    /// Waits until systemd has moved init into the container's unit.
    WaitForUnit,
    EnterCgroup,
    /// Only the container's cpuset limits it, and not what the engine was pinned to (runc#4041).
    AllCpus(AllCpus),
    CpuAffinity(CpuList),
    /// User and group 0 of the user namespace: what init makes is theirs from here on.
    BecomeRoot(BecomeRoot),
    /// No process of a namespace that is joined may ptrace us or look into our /proc directory (CVE-2016-9962). After
    /// the id maps: writing them needs us dumpable.
    Undumpable,
    /// A change of ids undoes it where the host has fs.suid_dumpable at 1 (prctl(2), PR_SET_DUMPABLE).
    UndumpableAgain,
    Join(Rc<Join>),
    /// Everything of the container's; of a pid namespace, the children are to be born in it.
    JoinInit(JoinInit),
    /// Init itself is born, in the pid namespace that is joined, and takes the rest of the steps. Whoever took those
    /// before ends: from inside nobody has seen it. See docs/decisions/0011-born-last.md.
    Birth,
    Unshare(Unshare),
    TimeNamespace(TimeNamespace),
    Keyring(SessionKeyring),
    Loopback(Loopback),
    Propagation(Propagation),
    EnterRootfs(EnterRootfs),
    Mount(Mount, Rc<Held>),
    /// A mount of a procfs, for an init that is born later, in another pid namespace, which is joined after it.
    Procfs(Mount, Rc<Held>, Rc<Join>),
    Device(Device),
    DevLinks(DevLinks),
    /// Makes the socket on which the container tells that it is ready.
    NotifySocket(NotifySocket),
    /// Reports that all is mounted, and waits until the runtime has run its hooks.
    RuntimeHooks,
    /// A createContainer or startContainer hook, and which of the two states it reads.
    Hook(Hook, HookState),
    Console(Console),
    /// The root that the process has by now, for what is looked up below it.
    OpenRoot,
    /// The host's procfs, for an exec process: held before it goes out of sight, it is as trustworthy as one of our own.
    OpenHostProc,
    /// A procfs of our own for sysctls and labels: the container's may have anything mounted over it (CVE-2019-16884).
    OpenProc,
    PivotRoot(PivotRoot),
    RootPropagation(RootPropagation),
    Sysctl(Sysctl),
    LateReadonly(LateReadonly),
    ReadonlyPath(ReadonlyPath),
    MaskPath(MaskPath),
    ReadonlyRoot(ReadonlyRoot),
    Name(uts::Name),
    NewSession,
    ControllingTerminal(ControllingTerminal),
    Rlimit(Rlimit),
    Scheduler(Scheduler),
    IoPriority(IoPriority),
    Personality(Personality),
    MemoryPolicy(MemoryPolicy),
    Apparmor(Apparmor),
    Selinux(Selinux),
    NoNewPrivileges(NoNewPrivileges),
    Seccomp(Filter),
    /// The filter of the node's floor, which has no listener.
    Floor(Filter),
    /// What must be dropped while init may still do so: the bounding set.
    BoundingSet(Capabilities),
    User(User),
    Capabilities(Capabilities),
    MakeDirectory(Rc<WorkingDirectory>),
    /// As the runtime's user, for a directory that only root can reach.
    EnterDirectoryEarly(Rc<WorkingDirectory>),
    EnterDirectory(Rc<WorkingDirectory>),
    FindHome(Rc<Environment>),
    /// The pid for LISTEN_PID, where only the process itself knows it.
    OwnPid(Rc<Environment>),
    FindExecutable(Rc<Executable>),
    Descriptors(Descriptors),
    /// Default actions and an empty mask: what this program ignores, its successor must not.
    ResetSignals,
    /// All that create does is done.
    ReportReady,
    /// Waits for `start` at the gate, and talks to it from then on.
    WaitAtGate,
    /// Waits for the runtime's Go.
    WaitForGo,
    /// Gives that socket to whoever has started the container, and listens to it from then on.
    SendNotifySocket,
    Exec(Rc<Executable>, Rc<Environment>),
}

/// Which of the states that came with the runtime's Go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HookState {
    Creating,
    Created,
}

impl Step {
    /// Whether init stands still here until somebody starts the container.
    pub fn waits_for_start(&self) -> bool {
        matches!(self, Step::WaitAtGate | Step::WaitForGo)
    }

    pub fn run(&self, inside: &mut Inside) -> Result<(), Fault> {
        match self {
            Step::Title(name) => {
                command_line::set(name);
                Ok(proc_self::set_name(name)?)
            }
            Step::OomScoreAdj(score) => score.apply(file::open_directory(c"/proc")?.as_fd()),
            Step::WaitForIdMaps | Step::WaitForUnit | Step::WaitForNetDevices | Step::WaitForGo => {
                Ok(inside.link.wait_for_go().map(drop)?)
            }
            Step::EnterCgroup => inside.enter_cgroup(),
            Step::AllCpus(cpus) => cpus.apply(),
            Step::CpuAffinity(cpus) => cpus.apply(),
            Step::BecomeRoot(root) => root.apply(),
            Step::Undumpable | Step::UndumpableAgain => Ok(proc_self::set_undumpable()?),
            Step::Join(join) => join.apply(),
            Step::JoinInit(join) => join.apply(),
            // Taken by `init::run_from`, which has the steps that are left.
            Step::Birth => Ok(()),
            Step::Unshare(unshare) => unshare.apply(),
            Step::TimeNamespace(time) => time.apply(file::open_directory(c"/proc")?.as_fd()),
            Step::Keyring(keyring) => inside.join_keyring(keyring),
            Step::Loopback(loopback) => loopback.apply(),
            Step::Propagation(propagation) => propagation.apply(),
            Step::EnterRootfs(enter) => {
                let directory = inside.open(Opener::IfNeeded, |_| enter.open().map(Some))?;
                inside.root = directory.map(|directory| enter.apply(directory)).transpose()?;
                Ok(())
            }
            Step::Mount(mount, held) => {
                held.keep(inside.mount(mount)?);
                Ok(())
            }
            Step::Procfs(mount, held, pid) => {
                let made = procfs::make(mount, inside.root()?, pid, inside.step)?;
                held.keep(mount.apply(inside.root()?, Some(made))?);
                Ok(())
            }
            Step::Device(device) if device.is_bound() => inside.bind_device(device),
            Step::Device(device) => device.apply(inside.root()?),
            Step::DevLinks(links) => links.apply(inside.root()?),
            Step::NotifySocket(socket) => {
                inside.notify_socket = Some(socket.apply()?);
                Ok(())
            }
            Step::RuntimeHooks => inside.wait_for_hooks(),
            Step::Hook(hook, state) => inside.run_hook(hook, *state),
            Step::Console(console) => inside.make_console(console),
            Step::OpenRoot => {
                inside.root = Some(RootFd::new(beneath::root()?));
                Ok(())
            }
            Step::OpenHostProc => {
                inside.proc = Some(ProcFd::from_fd(file::open_directory(c"/proc")?)?);
                Ok(())
            }
            Step::OpenProc => {
                inside.proc = Some(ProcFd::open()?);
                Ok(())
            }
            Step::PivotRoot(pivot) => pivot.apply(inside.root()?),
            Step::RootPropagation(propagation) => propagation.apply(inside.root()?),
            Step::Sysctl(sysctl) => sysctl.apply(inside.proc()?.as_fd()),
            Step::LateReadonly(late) => late.apply(),
            Step::ReadonlyPath(path) => path.apply(inside.root()?),
            Step::MaskPath(path) => inside.mask(path),
            Step::ReadonlyRoot(root) => root.apply(inside.root()?),
            Step::Name(name) => name.apply(),
            Step::NewSession => Ok(proc_self::new_session()?),
            Step::ControllingTerminal(terminal) => terminal.apply(),
            Step::Rlimit(limit) => limit.apply(),
            Step::Scheduler(scheduler) => scheduler.apply(),
            Step::IoPriority(priority) => priority.apply(),
            Step::Personality(personality) => personality.apply(),
            Step::MemoryPolicy(policy) => policy.apply(),
            Step::Apparmor(profile) => profile.apply(inside.proc()?.as_fd()),
            Step::Selinux(label) => label.apply(inside.proc()?.as_fd()),
            Step::NoNewPrivileges(no_new_privileges) => no_new_privileges.apply(),
            Step::Seccomp(filter) => inside.load(filter),
            Step::Floor(filter) => filter.apply(),
            Step::BoundingSet(capabilities) => capabilities.apply_before_ids(),
            Step::User(user) => user.apply(),
            Step::Capabilities(capabilities) => capabilities.apply(),
            Step::MakeDirectory(directory) => directory.create(),
            Step::EnterDirectoryEarly(directory) => directory.enter_early(),
            Step::EnterDirectory(directory) => directory.enter(),
            Step::FindHome(environment) => environment.find_home(),
            Step::OwnPid(environment) => environment.set_listen_pid(proc_self::own_pid()),
            Step::FindExecutable(executable) => executable.find(),
            Step::Descriptors(descriptors) => descriptors.apply(inside.still_needed()),
            Step::ResetSignals => Ok(proc_self::reset_signals()?),
            Step::ReportReady => Ok(inside.link.report(&Report::Reached(Milestone::Ready))?),
            Step::WaitAtGate => inside.wait_at_gate(),
            Step::SendNotifySocket => inside.send_notify_socket(),
            Step::Exec(executable, environment) => Err(executable.exec(environment.strings())),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Title(name) => write!(f, "name {}", name.to_string_lossy()),
            Step::OomScoreAdj(it) => it.fmt(f),
            Step::WaitForIdMaps => f.write_str("wait for the id maps"),
            Step::WaitForNetDevices => f.write_str("wait for the network devices"),
            Step::WaitForUnit => f.write_str("wait until systemd has started the unit"),
            Step::EnterCgroup => f.write_str("enter the cgroup"),
            Step::AllCpus(it) => it.fmt(f),
            Step::CpuAffinity(it) => it.fmt(f),
            Step::BecomeRoot(it) => it.fmt(f),
            Step::Undumpable => f.write_str("undumpable"),
            Step::UndumpableAgain => f.write_str("still undumpable"),
            Step::Join(it) => it.fmt(f),
            Step::JoinInit(it) => it.fmt(f),
            Step::Birth => f.write_str("be born in the pid namespace"),
            Step::Unshare(it) => it.fmt(f),
            Step::TimeNamespace(it) => it.fmt(f),
            Step::Keyring(it) => it.fmt(f),
            Step::Loopback(it) => it.fmt(f),
            Step::Propagation(it) => it.fmt(f),
            Step::EnterRootfs(it) => it.fmt(f),
            Step::Mount(it, _) => it.fmt(f),
            Step::Procfs(it, ..) => write!(f, "{it}, of the joined pid namespace"),
            Step::Device(it) => it.fmt(f),
            Step::DevLinks(it) => it.fmt(f),
            Step::NotifySocket(it) => it.fmt(f),
            Step::RuntimeHooks => f.write_str("report mounted, wait for the runtime's hooks"),
            Step::Hook(it, _) => it.fmt(f),
            Step::Console(it) => it.fmt(f),
            Step::OpenRoot => f.write_str("open the root"),
            Step::OpenHostProc => f.write_str("host's procfs"),
            Step::OpenProc => f.write_str("private procfs"),
            Step::PivotRoot(it) => it.fmt(f),
            Step::RootPropagation(it) => it.fmt(f),
            Step::Sysctl(it) => it.fmt(f),
            Step::LateReadonly(it) => it.fmt(f),
            Step::ReadonlyPath(it) => it.fmt(f),
            Step::MaskPath(it) => it.fmt(f),
            Step::ReadonlyRoot(it) => it.fmt(f),
            Step::Name(it) => it.fmt(f),
            Step::NewSession => f.write_str("new session"),
            Step::ControllingTerminal(it) => it.fmt(f),
            Step::Rlimit(it) => it.fmt(f),
            Step::Scheduler(it) => it.fmt(f),
            Step::IoPriority(it) => it.fmt(f),
            Step::Personality(it) => it.fmt(f),
            Step::MemoryPolicy(it) => it.fmt(f),
            Step::Apparmor(it) => it.fmt(f),
            Step::Selinux(it) => it.fmt(f),
            Step::NoNewPrivileges(it) => it.fmt(f),
            Step::Seccomp(it) => write!(f, "seccomp {it}"),
            Step::Floor(it) => write!(f, "seccomp of the host's floor: {it}"),
            Step::BoundingSet(_) => f.write_str("cut the bounding set, keep capabilities"),
            Step::User(it) => it.fmt(f),
            Step::Capabilities(it) => it.fmt(f),
            Step::MakeDirectory(it) => write!(f, "make sure of it: {it}"),
            Step::EnterDirectoryEarly(it) => write!(f, "as root: {it}"),
            Step::EnterDirectory(it) => it.fmt(f),
            Step::FindHome(it) => it.fmt(f),
            Step::OwnPid(_) => f.write_str("set LISTEN_PID"),
            Step::FindExecutable(it) => it.fmt(f),
            Step::Descriptors(it) => it.fmt(f),
            Step::ResetSignals => f.write_str("reset signals"),
            Step::ReportReady => f.write_str("report ready"),
            Step::WaitAtGate => f.write_str("wait for start at the gate"),
            Step::WaitForGo => f.write_str("wait for the runtime's word to start"),
            Step::SendNotifySocket => f.write_str("send the runtime NOTIFY_SOCKET"),
            Step::Exec(it, _) => it.fmt(f),
        }
    }
}
