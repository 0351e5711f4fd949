//! The steps that a plan is made of. Each is data; `run` hands it to the one module that knows how to apply it, and
//! `Display` says it in a line.

use std::fmt;
use std::os::fd::AsFd;

use super::Inside;
use super::link::{InitEnd, Milestone, Report};
use crate::container::console::Console;
use crate::container::devices::{DevLinks, Device};
use crate::container::hooks::Hook;
use crate::container::keyring::Keyring;
use crate::container::namespaces::{Join, TimeOffsets};
use crate::container::process::{
    Affinity, Capabilities, Chdir, CloseFds, Exec, FindExecutable, IoPriority, MemoryPolicy, OomScore, Personality,
    Rlimit, Scheduler, User,
};
use crate::container::rootfs::{
    CgroupMount, EnterRootfs, LateReadonly, MaskPath, Mount, PivotRoot, Propagation, ReadonlyPath, ReadonlyRoot,
    RootPropagation,
};
use crate::container::seccomp::Filter;
use crate::container::security::{AppArmor, SelinuxLabel};
use crate::container::sysctl::Sysctl;
use crate::container::uts::{Domainname, Hostname};
use crate::sys::namespace::Kinds;
use crate::sys::path::ProcFd;
use crate::sys::{self, Errno, Fault};

/// A step, and the place in config.json that asks for it: `mounts[3]`; empty for what every container gets.
#[derive(Debug)]
pub struct Planned {
    pub field: String,
    pub step: Step,
}

/// Everything that init can do, one kernel object each.
#[derive(Debug)]
pub enum Step {
    /// Shows where a hang is: `ocirt:init` in ps.
    Name,
    OomScore(OomScore),
    /// Waits until the runtime has written the id maps.
    WaitForIdMaps,
    EnterCgroup,
    /// User and group 0 of the new user namespace: its capabilities count from here on.
    BecomeRoot,
    /// No process of a namespace that is joined may ptrace us or look into our /proc directory (CVE-2016-9962). After
    /// the id maps: writing them needs us dumpable.
    Undumpable,
    Join(Join),
    Unshare(Kinds),
    TimeOffsets(TimeOffsets),
    Keyring(Keyring),
    Loopback,
    Propagation(Propagation),
    EnterRootfs(EnterRootfs),
    Mount(Mount),
    CgroupMount(CgroupMount),
    Device(Device),
    DevLinks(DevLinks),
    /// Reports that all is mounted, and waits until the runtime has run its hooks.
    RuntimeHooks,
    /// A createContainer hook.
    CreateHook(Hook),
    Console(Console),
    /// A procfs of our own for sysctls and labels: /proc may be what the image made it (CVE-2019-16884).
    OpenProc,
    PivotRoot(PivotRoot),
    RootPropagation(RootPropagation),
    Sysctl(Sysctl),
    LateReadonly(LateReadonly),
    ReadonlyPath(ReadonlyPath),
    MaskPath(MaskPath),
    ReadonlyRoot(ReadonlyRoot),
    Hostname(Hostname),
    Domainname(Domainname),
    NewSession,
    Rlimit(Rlimit),
    Scheduler(Scheduler),
    IoPriority(IoPriority),
    Personality(Personality),
    MemoryPolicy(MemoryPolicy),
    AppArmor(AppArmor),
    Selinux(SelinuxLabel),
    NoNewPrivileges,
    Seccomp(Filter),
    User(User),
    Capabilities(Capabilities),
    Chdir(Chdir),
    FindExecutable(FindExecutable),
    CloseFds(CloseFds),
    /// All that create does is done.
    ReportReady,
    /// Waits for `start` at the gate.
    WaitAtGate,
    /// Waits for the runtime's Go.
    WaitForGo,
    /// A startContainer hook.
    StartHook(Hook),
    Exec(Exec),
}
