//! The part of the order that is about files: the root file system and its mounts while the host's are in sight, the way
//! from one root to the other, and what is closed afterwards.

use std::rc::Rc;

use anyhow::{Context as _, Result};

use super::create::Container;
use super::process::Draft;
use crate::container::console::{Console, ConsoleNode, TerminalOutput};
use crate::container::devices::{DevLinks, Device, Nodes};
use crate::container::namespaces::Join;
use crate::container::process::cwd;
use crate::container::rootfs::context::{Context, MountLabel};
use crate::container::rootfs::enter::{EnterRootfs, RootSetup};
use crate::container::rootfs::mask::{MaskPath, ReadonlyPath, ReadonlyRoot};
use crate::container::rootfs::mount::{self, Mount};
use crate::container::rootfs::notify::NotifySocket;
use crate::container::rootfs::pivot::PivotRoot;
use crate::container::rootfs::propagation::{Propagation, RootPropagation};
use crate::container::{id_map, sysctl};
use crate::error::{Field, field};
use crate::init::step::Step;
use crate::sys::mountinfo;
use crate::sys::namespace::Kind;

impl Container<'_> {
    /// The root file system and what is mounted in it, with the host's still in sight: it has the sources.
    pub(super) fn files(&self, draft: &mut Draft, late: Option<&Rc<Join>>) -> Result<()> {
        let first = self.propagation(draft)?.0;
        let enter = EnterRootfs::compile(&self.rootfs, self.place, &first)?;
        if self.place == RootSetup::OwnNamespace {
            // Before anything is opened or mounted: nothing may appear on the host.
            draft.add("linux.rootfsPropagation", Step::Propagation(first));
        }
        draft.add("root.path", Step::EnterRootfs(enter));
        if self.place == RootSetup::RuntimeNamespace {
            return self.leave_host_alone(draft);
        }
        let mounts = self.spec.mounts().as_deref().unwrap_or_default();
        let label = self.mount_label(draft);
        let context = Context {
            bundle: self.request.bundle,
            label,
            user_namespace: self.private.contains(Kind::User),
            network_namespace: self.new.contains(Kind::Net),
            cgroup: Some(&self.cgroup),
            unseen: self.new.contains(Kind::Mount) && !first.leaves_peers(),
            id_mappings: (
                self.linux.uid_mappings().as_deref().unwrap_or_default(),
                self.linux.gid_mappings().as_deref().unwrap_or_default(),
            ),
        };
        let mut earlier = Vec::new();
        for (index, mount) in mounts.iter().enumerate() {
            let field = format!("mounts[{index}]");
            let compiled = Mount::compile(mount, &context, draft.mount_maps.len(), &earlier);
            let compiled = draft.faults.keep(compiled.with_context(|| Field::new(field.clone())))?;
            let Some(compiled) = compiled else { continue };
            earlier.extend(compiled.earlier);
            if let Some(mappings) = &compiled.mappings {
                let maps = id_map::compile_for_mount(&field, &mappings.uids, &mappings.gids);
                draft.mount_maps.extend(draft.faults.keep(maps)?.map(|maps| (field.clone(), maps)));
            }
            draft.warnings.extend(compiled.warnings.into_iter().map(|warning| format!("{field}.{warning}")));
            draft.late.extend(compiled.late.map(|late| (field.clone(), late)));
            // A procfs is that of the pid namespace whose process makes it, where nobody of us is before init is born.
            let foreign = late.filter(|_| compiled.mount.is_procfs());
            draft.add(
                field,
                match foreign {
                    Some(pid) => Step::Procfs(compiled.mount, compiled.held, pid.clone()),
                    None => Step::Mount(compiled.mount, compiled.held),
                },
            );
        }
        if self.program.supplied.notifies {
            let (compiled, socket) = NotifySocket::compile(&context)?;
            draft.push(Step::Mount(compiled.mount, compiled.held));
            draft.push(Step::NotifySocket(socket));
        }
        if mount::makes_devices(mounts) {
            let nodes = if self.private.contains(Kind::User) { Nodes::Bound } else { Nodes::Made };
            let [uids, gids] = [self.linux.uid_mappings(), self.linux.gid_mappings()];
            let outside = |map: &Option<Vec<_>>, id| id_map::host_id(map.as_deref().unwrap_or_default(), id);
            let devices = self.linux.devices().as_deref().unwrap_or_default();
            for device in Device::compile(devices, nodes, &mut draft.faults)? {
                let device = device.mapped(|uid| outside(uids, uid), |gid| outside(gids, gid));
                draft.add("linux.devices", Step::Device(device));
            }
            draft.push(Step::DevLinks(DevLinks::compile()));
        }
        Ok(())
    }

    /// linux.mountLabel, where there is an SELinux to know it.
    fn mount_label(&self, draft: &mut Draft) -> Option<MountLabel<'_>> {
        let label = self.linux.mount_label().as_deref()?;
        if !crate::sys::security::selinux_is_enabled() {
            draft
                .warnings
                .push(format!("linux.mountLabel: SELinux is not enabled on this host, {label:?} has no effect"));
            return None;
        }
        Some(MountLabel { option: self.annotations.mount_context_type.unwrap_or("context"), text: label })
    }

    /// Without a mount namespace every mount would be the host's, and stay: as in runc, none is made. What would
    /// protect the host is refused, what would only be missed is a warning.
    fn leave_host_alone(&self, draft: &mut Draft) -> Result<()> {
        const NEEDS: &str = "needs a mount namespace in linux.namespaces";
        let asks = [
            ("linux.rootfsPropagation", self.linux.rootfs_propagation().is_some()),
            ("root.readonly", self.is_readonly()),
        ];
        for (field, asks) in asks {
            draft.faults.keep(if asks { Err(field!("{field}"; "{NEEDS}").into()) } else { Ok(()) })?;
        }
        if self.request.notify {
            draft.warnings.push(format!("NOTIFY_SOCKET: {NEEDS}, the container gets none"));
        }
        let lists = [
            ("mounts", self.spec.mounts().as_deref().unwrap_or_default().is_empty()),
            ("linux.devices", self.linux.devices().as_deref().unwrap_or_default().is_empty()),
        ];
        for (field, _) in lists.iter().filter(|(_, is_empty)| !is_empty) {
            draft.warnings.push(format!("{field}: {NEEDS}, none is made"));
        }
        Ok(())
    }

    fn is_readonly(&self) -> bool {
        self.spec.root().as_ref().is_some_and(|root| root.readonly() == Some(true))
    }

    /// From the host's root to the container's, and what closes it.
    pub(super) fn new_root(&self, draft: &mut Draft) -> Result<()> {
        if self.program.has_terminal() {
            // Its devpts is mounted, and the console's place can still be bound.
            let node = if self.place == RootSetup::OwnNamespace { ConsoleNode::Bound } else { ConsoleNode::Untouched };
            let console = Console::compile(
                self.process.console_size().as_ref(),
                node,
                TerminalOutput::of(self.request.relays_terminal),
            )?;
            draft.add("process.terminal", Step::Console(console));
        }
        let domain = self.spec.domainname().as_deref().filter(|name| !name.is_empty());
        let sysctls = self.linux.sysctl().as_ref();
        let sysctls = sysctls.map(|list| sysctl::compile(list, self.private, domain, &mut draft.faults)).transpose()?;
        let sysctls = sysctls.unwrap_or_default();
        if self.program.has_labels() || !sysctls.is_empty() {
            // While the host's procfs is there: a user namespace is given a new one only beside a whole one.
            draft.push(Step::OpenProc);
        }
        let (first, last) = self.propagation(draft)?;
        draft.push(Step::PivotRoot(self.pivot(&first)?));
        if let Some(last) = last {
            draft.add("linux.rootfsPropagation", Step::RootPropagation(last));
        }
        let directory = cwd::compile(self.process.cwd()).map(|directory| Some(Rc::new(directory)));
        draft.add_some("process.cwd", directory, Step::MakeDirectory)?;
        for sysctl in sysctls {
            draft.add("linux.sysctl", Step::Sysctl(sysctl));
        }
        self.close_files(draft)
    }

    /// How the mounts are cut off from the host's, and what the root has at last.
    fn propagation(&self, draft: &mut Draft) -> Result<(Propagation, Option<RootPropagation>)> {
        match draft.faults.keep(Propagation::compile(self.linux.rootfs_propagation().as_deref()))? {
            Some(both) => Ok(both),
            None => Propagation::compile(None),
        }
    }

    fn pivot(&self, first: &Propagation) -> Result<PivotRoot> {
        if self.request.no_pivot {
            let table = mountinfo::of_self().context("/proc/self/mountinfo")?;
            return PivotRoot::compile_no_pivot(self.place, &table, &self.rootfs);
        }
        Ok(PivotRoot::compile(self.place, first))
    }

    /// Read-only mounts, masks and the read-only root: when everything is made that they would forbid.
    fn close_files(&self, draft: &mut Draft) -> Result<()> {
        if self.place == RootSetup::RuntimeNamespace {
            return Ok(());
        }
        let label = self.linux.mount_label().as_deref().filter(|_| crate::sys::security::selinux_is_enabled());
        for (field, path) in std::mem::take(&mut draft.late) {
            draft.add(field, Step::LateReadonly(path));
        }
        let paths = ReadonlyPath::compile(self.linux.readonly_paths().as_deref().unwrap_or_default());
        for path in draft.faults.keep(paths)?.unwrap_or_default() {
            draft.add("linux.readonlyPaths", Step::ReadonlyPath(path));
        }
        let paths = MaskPath::compile(self.linux.masked_paths().as_deref().unwrap_or_default(), label);
        for path in draft.faults.keep(paths)?.unwrap_or_default() {
            draft.add("linux.maskedPaths", Step::MaskPath(path));
        }
        if self.is_readonly() {
            draft.add("root.readonly", Step::ReadonlyRoot(ReadonlyRoot));
        }
        Ok(())
    }
}
