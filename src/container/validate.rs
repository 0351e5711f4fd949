//! The rules of runtime-spec that span sections of config.json. What concerns one section alone is checked by the
//! module that compiles it. Every error names its field, as `linux.namespaces[2]: duplicate namespace network`.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, ensure};
use oci_spec::runtime::{
    Hook, Hooks, Linux, LinuxIdMapping, LinuxNamespaceType, LinuxTimeOffset, Mount, Process, Spec, User,
};

use crate::error::{About, Faults, Field, field};
use crate::sys::{SysError, ids};

/// Checks a whole configuration whose bundle is in `directory`, each rule for itself.
pub fn validate(spec: &Spec, directory: &Path, faults: &mut Faults) -> Result<()> {
    faults.keep(root(spec, directory))?;
    let process = spec.process().as_ref();
    faults.keep(process.map(drop).ok_or_else(|| wrong("process", "missing")))?;
    process.map_or(Ok(()), |process| check_process(process, faults))?;
    faults.keep_each(spec.mounts().iter().flatten().enumerate().map(|(index, mount)| check_mount(index, mount)))?;
    spec.hooks().iter().try_for_each(|hooks| check_hooks(hooks, faults))?;

    let namespaces = NamespaceList::of(spec.linux().as_ref(), faults)?;
    names(spec, &namespaces, faults)?;
    let Some(linux) = spec.linux() else { return Ok(()) };
    id_maps(linux, process.map(Process::user), &namespaces, faults)?;
    mount_owners(spec.mounts().as_deref().unwrap_or_default(), linux, faults)?;
    paths(linux, &namespaces, faults)?;
    time_offsets(linux, &namespaces, faults)
}

/// What holds besides for a runtime that is not root: all that it may do, it may in a user namespace of its own.
pub fn rootless(spec: &Spec) -> Result<()> {
    // What is wrong with the list itself is told by then.
    let namespaces = NamespaceList::of(spec.linux().as_ref(), &mut Faults::all())?;
    check(
        namespaces.has(LinuxNamespaceType::User),
        "linux.namespaces",
        "rootless container requires user namespaces (`ocirt spec --rootless` writes a config.json that has one)",
    )
}

fn wrong(field: impl Display, what: impl Display) -> Error {
    anyhow!("{what}").context(Field::new(field.to_string()))
}

fn check(rule: bool, field: impl Display, what: impl Display) -> Result<()> {
    if rule { Ok(()) } else { Err(wrong(field, what)) }
}

fn absolute(path: &Path, field: impl Display) -> Result<()> {
    check(path.is_absolute(), field, format_args!("{path:?} is not an absolute path"))
}

/// config.md, "Root": a directory that exists, relative to the bundle or not. A symbolic link is refused, as by runc:
/// whoever owns the bundle's directory could turn it.
fn root(spec: &Spec, directory: &Path) -> Result<()> {
    let root = spec.root().as_ref().ok_or_else(|| wrong("root", "missing"))?;
    check(!root.path().as_os_str().is_empty(), "root.path", "missing")?;
    // Without a trailing slash, that would resolve the link.
    let path: PathBuf = directory.join(root.path()).components().collect();
    let metadata = std::fs::symlink_metadata(&path)
        .map_err(|error| SysError::io("stat", &error))
        .with_context(|| About::file(&path))
        .context(field!("root.path"))?;
    let is = |what| field!("root.path"; "{path:?} is {what}").about(&path);
    ensure!(!metadata.is_symlink(), is("a symbolic link"));
    ensure!(metadata.is_dir(), is("not a directory"));
    Ok(())
}

/// What every process needs, of a config.json or of a process.json.
pub fn check_process(process: &Process, faults: &mut Faults) -> Result<()> {
    let args = process.args().as_deref().unwrap_or_default();
    faults.keep(check(!args.is_empty(), "process.args", "must have at least one entry"))?;
    let is_there = check(process.cwd() != Path::new(""), "process.cwd", "missing");
    faults.keep(is_there.and_then(|()| absolute(process.cwd(), "process.cwd"))).map(drop)
}

fn check_mount(index: usize, mount: &Mount) -> Result<()> {
    let at = |field| format!("mounts[{index}].{field}");
    check(!mount.destination().as_os_str().is_empty(), at("destination"), "missing")
}

/// All lists of hooks by their names, in the order in which they run.
pub fn hook_lists(hooks: &Hooks) -> [(&'static str, &Option<Vec<Hook>>); 6] {
    #[allow(deprecated)] // by the specification, not by its users: Docker and NVIDIA have prestart hooks
    [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ]
}

fn check_hooks(hooks: &Hooks, faults: &mut Faults) -> Result<()> {
    for (name, list) in hook_lists(hooks) {
        for (index, hook) in list.iter().flatten().enumerate() {
            check_hook(&format!("hooks.{name}[{index}]"), hook, faults)?;
        }
    }
    Ok(())
}

fn check_hook(place: &str, hook: &Hook, faults: &mut Faults) -> Result<()> {
    faults.keep(absolute(hook.path(), format_args!("{place}.path")))?;
    let is_positive = hook.timeout().is_none_or(|seconds| seconds > 0);
    faults.keep(check(is_positive, format_args!("{place}.timeout"), "must be greater than zero")).map(drop)
}

/// Which namespaces the container gets, and by which path it joins them.
struct NamespaceList<'a>(Vec<(LinuxNamespaceType, Option<&'a Path>)>);

impl<'a> NamespaceList<'a> {
    /// config-linux.md, "Namespaces": each at most once, by absolute path if by any.
    fn of(linux: Option<&'a Linux>, faults: &mut Faults) -> Result<Self> {
        let mut all = Self(Vec::new());
        let list = linux.and_then(|linux| linux.namespaces().as_ref());
        for (index, namespace) in list.into_iter().flatten().enumerate() {
            let (typ, path) = (namespace.typ(), namespace.path().as_deref());
            let place = format!("linux.namespaces[{index}]");
            faults.keep(check(!all.has(typ), &place, format_args!("duplicate namespace {}", spec_name(typ))))?;
            if let Some(path) = path {
                faults.keep(absolute(path, format_args!("{place}.path")))?;
            }
            all.0.push((typ, path));
        }
        Ok(all)
    }

    fn has(&self, typ: LinuxNamespaceType) -> bool {
        self.0.iter().any(|(other, _)| *other == typ)
    }

    fn joins(&self, typ: LinuxNamespaceType) -> bool {
        self.0.iter().any(|(other, path)| *other == typ && path.is_some())
    }
}

fn spec_name(typ: LinuxNamespaceType) -> &'static str {
    match typ {
        LinuxNamespaceType::Mount => "mount",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "network",
        LinuxNamespaceType::Time => "time",
    }
}

/// Without a UTS namespace of the container's, the host would be renamed.
fn names(spec: &Spec, namespaces: &NamespaceList, faults: &mut Faults) -> Result<()> {
    for (field, name) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
        let allowed = name.is_none() || namespaces.has(LinuxNamespaceType::Uts);
        faults.keep(check(allowed, field, "needs a uts namespace in linux.namespaces"))?;
    }
    Ok(())
}

fn id_maps(linux: &Linux, user: Option<&User>, namespaces: &NamespaceList, faults: &mut Faults) -> Result<()> {
    let has_one = namespaces.has(LinuxNamespaceType::User);
    let is_new = has_one && !namespaces.joins(LinuxNamespaceType::User);
    let maps = [("linux.uidMappings", linux.uid_mappings()), ("linux.gidMappings", linux.gid_mappings())];
    for (field, map) in maps {
        let map = map.as_deref().unwrap_or_default();
        faults.keep(check(has_one || map.is_empty(), field, "needs a user namespace in linux.namespaces"))?;
        let is_given = !is_new || !map.is_empty();
        faults.keep(check(is_given, field, "missing, but linux.namespaces has a new user namespace"))?;
        // Before each id of the rest is looked up in all of them.
        let most = ids::MOST_RANGES;
        let fits =
            check(map.len() <= most, field, format_args!("{} mappings, the kernel takes at most {most}", map.len()));
        if faults.keep(fits)?.is_none() {
            return Ok(());
        }
        for (index, mapping) in map.iter().enumerate() {
            let is_some = mapping.size() > 0;
            faults.keep(check(is_some, format_args!("{field}[{index}].size"), "must be greater than zero"))?;
        }
    }
    match user.filter(|_| has_one) {
        Some(user) => user_is_mapped(linux, user, faults),
        None => Ok(()),
    }
}

/// An id outside the map cannot be set: setuid(2) and setgroups(2) would say no more than EINVAL.
fn user_is_mapped(linux: &Linux, user: &User, faults: &mut Faults) -> Result<()> {
    let mut check_id =
        |map, name, field: String, id| faults.keep(check(is_in(map, id), field, format_args!("{id} is not in {name}")));
    check_id(linux.uid_mappings(), "linux.uidMappings", "process.user.uid".into(), user.uid())?;
    check_id(linux.gid_mappings(), "linux.gidMappings", "process.user.gid".into(), user.gid())?;
    for (index, gid) in user.additional_gids().iter().flatten().enumerate() {
        let field = format!("process.user.additionalGids[{index}]");
        check_id(linux.gid_mappings(), "linux.gidMappings", field, *gid)?;
    }
    Ok(())
}

/// `uid=` and `gid=` of a filesystem are ids of the container: of one that is not mapped the kernel says EINVAL.
fn mount_owners(mounts: &[Mount], linux: &Linux, faults: &mut Faults) -> Result<()> {
    let maps =
        [("uid=", "linux.uidMappings", linux.uid_mappings()), ("gid=", "linux.gidMappings", linux.gid_mappings())];
    for (mount, entry) in mounts.iter().enumerate() {
        let options = entry.options().as_deref().unwrap_or_default();
        if options.iter().any(|option| option == "bind" || option == "rbind") {
            continue;
        }
        for (index, option) in options.iter().enumerate() {
            for (key, name, map) in maps {
                let id = option.strip_prefix(key).and_then(|id| id.parse().ok());
                let allowed = id.is_none_or(|id| map.iter().flatten().next().is_none() || is_in(map, id));
                let field = format_args!("mounts[{mount}].options[{index}]");
                faults.keep(check(allowed, field, format_args!("{option}: the id is not in {name}")))?;
            }
        }
    }
    Ok(())
}

fn is_in(map: &Option<Vec<LinuxIdMapping>>, id: u32) -> bool {
    map.iter().flatten().any(|range| id.checked_sub(range.container_id()).is_some_and(|above| above < range.size()))
}

/// Without a mount namespace of the container's, the host's own files would be hidden.
fn paths(linux: &Linux, namespaces: &NamespaceList, faults: &mut Faults) -> Result<()> {
    for (field, paths) in [("linux.maskedPaths", linux.masked_paths()), ("linux.readonlyPaths", linux.readonly_paths())]
    {
        let paths = paths.as_deref().unwrap_or_default();
        let allowed = paths.is_empty() || namespaces.has(LinuxNamespaceType::Mount);
        faults.keep(check(allowed, field, "needs a mount namespace in linux.namespaces"))?;
        for (index, path) in paths.iter().enumerate() {
            faults.keep(absolute(Path::new(path), format_args!("{field}[{index}]")))?;
        }
    }
    Ok(())
}

/// time_namespaces(7): offsets can be written only before the first process enters.
fn time_offsets(linux: &Linux, namespaces: &NamespaceList, faults: &mut Faults) -> Result<()> {
    let Some(offsets) = linux.time_offsets().as_ref().filter(|offsets| !offsets.is_empty()) else { return Ok(()) };
    let field = "linux.timeOffsets";
    let (has, joins) = (namespaces.has(LinuxNamespaceType::Time), namespaces.joins(LinuxNamespaceType::Time));
    faults.keep(check(has, field, "needs a time namespace in linux.namespaces"))?;
    faults.keep(check(!joins, field, "cannot be set for a time namespace that is joined"))?;
    // In the same order each time.
    let mut clocks: Vec<(&String, &LinuxTimeOffset)> = offsets.iter().collect();
    clocks.sort_by_key(|(clock, _)| *clock);
    for (clock, offset) in clocks {
        let known = matches!(clock.as_str(), "monotonic" | "boottime");
        faults.keep(check(known, format_args!("{field}.{clock}"), "unknown clock, must be monotonic or boottime"))?;
        let is_less = offset.nanosecs().unwrap_or_default() < 1_000_000_000;
        faults.keep(check(is_less, format_args!("{field}.{clock}.nanosecs"), "must be less than a second"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
