//! What whole sections of config.json come to, before the order is made of it: the cgroup, the filter, the program.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use oci_spec::runtime::{Linux, LinuxSeccomp, Process, Spec};

use super::process::Program;
use super::request::Request;
use super::supplied::Supplied;
use crate::container::annotations::Annotations;
use crate::container::cgroup::{self, Cgroup, Manager};
use crate::container::namespaces::Namespaces;
use crate::container::process::user::Maps;
use crate::container::rootfs::context::{CgroupView, V1Hierarchy};
use crate::container::rootfs::options;
use crate::container::seccomp::{self, Extra, Filter, Unknown};
use crate::error::{Faults, field};
use crate::sys::namespace::Kind;

pub(super) fn cgroup(spec: &Spec, linux: &Linux, request: &Request, faults: &mut Faults) -> Result<Cgroup> {
    let cgroup = match request.cgroup_manager {
        Manager::Systemd => {
            let none = HashMap::new();
            let annotations = spec.annotations().as_ref().unwrap_or(&none);
            cgroup::compile_unit(linux, request.id, annotations, request.rootless, faults)?
        }
        Manager::Cgroupfs => cgroup::compile(linux, request.id, request.rootless, faults)?,
        Manager::Disabled => cgroup::compile_none(linux, request.id)?,
    };
    Ok(cgroup.delegated_to(cgroup::owner(spec, options::is_read_only)))
}

pub(super) fn program<'a>(
    linux: &'a Linux,
    process: &'a Process,
    request: &Request,
    annotations: &Annotations,
    namespaces: &Namespaces,
    filter: Option<Filter>,
) -> Program<'a> {
    let private = namespaces.private;
    let maps = Maps {
        uids: linux.uid_mappings().as_deref().unwrap_or_default(),
        gids: linux.gid_mappings().as_deref().unwrap_or_default(),
    };
    Program {
        process,
        personality: linux.personality().as_ref(),
        memory_policy: linux.memory_policy().as_ref(),
        filter,
        floor: request.floor.cloned(),
        in_user_namespace: private.contains(Kind::User),
        maps: private.contains(Kind::User).then_some(maps),
        supplied: Supplied::of(request, process, namespaces.new, private),
        preserve_fds: request.preserve_fds,
        keep_groups: annotations.keep_original_groups,
    }
}

pub(super) fn filter(
    profile: Option<&LinuxSeccomp>,
    annotations: &Annotations,
    faults: &mut Faults,
) -> Result<Option<Filter>> {
    let receiver = annotations.seccomp_receiver;
    if let Some(data) = annotations.seccomp_bpf_data {
        let filter = seccomp::compile_raw(data, profile, receiver);
        return filter.map(Some).context(field!("annotations.run.oci.seccomp_bpf_data"));
    }
    let unknown = if annotations.seccomp_fail_unknown_syscall { Unknown::Refused } else { Unknown::Skipped };
    profile.map(|profile| seccomp::compile(profile, &Extra { receiver, unknown }, faults)).transpose()
}

/// Whether the container can become its program under the filter.
pub(super) fn starts_programs(filter: Option<&Filter>) -> Result<()> {
    ensure!(
        !filter.is_some_and(Filter::kills_for_execve),
        field!("linux.seccomp"; "the profile kills for execve, so that no program can be started")
    );
    Ok(())
}

/// The container's cgroups as its mounts show them.
pub(super) fn view(cgroup: Option<&Cgroup>, namespaced: bool) -> CgroupView {
    let Some(cgroup) = cgroup else { return CgroupView { namespaced, ..CgroupView::default() } };
    let view = cgroup.mount_view();
    let hierarchies = view.hierarchies.into_iter().map(|hierarchy| V1Hierarchy {
        name: hierarchy.name,
        links: hierarchy.links,
        directory: hierarchy.directory,
        options: hierarchy.options,
    });
    CgroupView { namespaced, hierarchies: hierarchies.collect(), unified: view.unified }
}
