//! The node's floor: what every container of this host has at least, whoever asks for it. It can only take away: there is no
//! way to write down a permission (docs/floor.md).

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Result, ensure};
use oci_spec::runtime::{
    Capability, Linux, LinuxNamespaceType as Kind, LinuxSeccompAction, LinuxSeccompArg, LinuxSyscall, Mount, Process,
    Spec,
};
use serde::{Deserialize, Serialize};

use crate::error::{Faults, Field};

/// What the file says. A key that it does not know is an error: whoever wrote it relies on it.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rules {
    /// What is denied to every process, in a filter of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub seccomp: Vec<Denied>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_new_privileges: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    masked_paths: Vec<String>,
    /// All that a process may have in any set.
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Vec<String>>,
    /// The kinds that must not be the host's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    private_namespaces: Vec<Kind>,
    /// Keys, or their beginnings followed by `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused_annotations: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused_bind_sources: Vec<PathBuf>,
}

/// A rule of a filter, as `linux.seccomp.syscalls` has it.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Denied {
    names: Vec<String>,
    #[serde(default = "errno")]
    action: LinuxSeccompAction,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno_ret: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    args: Vec<LinuxSeccompArg>,
}

fn errno() -> LinuxSeccompAction {
    LinuxSeccompAction::ScmpActErrno
}

/// The floor, and the file that has it, which every message names.
#[derive(Clone, PartialEq, Debug)]
pub struct Floor {
    pub file: PathBuf,
    pub rules: Rules,
}

impl Floor {
    /// Fails for rules that mean nothing, or would let through what they do not name.
    pub fn check(&self) -> Result<()> {
        let Rules { no_new_privileges, masked_paths, capabilities, refused_annotations, refused_bind_sources, .. } =
            &self.rules;
        ensure!(*no_new_privileges != Some(false), wrong("noNewPrivileges", "false asks for nothing: leave it out"));
        for (i, name) in capabilities.iter().flatten().enumerate() {
            let is_known = caps::Capability::from_str(name).is_ok();
            ensure!(is_known, wrong(format!("capabilities[{i}]"), format!("unknown capability {name:?}")));
        }
        for (i, path) in masked_paths.iter().enumerate() {
            ensure!(
                path.starts_with('/'),
                wrong(format!("maskedPaths[{i}]"), format!("{path:?} is not an absolute path"))
            );
        }
        for (i, path) in refused_bind_sources.iter().enumerate() {
            let place = format!("refusedBindSources[{i}]");
            ensure!(path.is_absolute(), wrong(place, format!("{path:?} is not an absolute path")));
        }
        for (i, key) in refused_annotations.iter().enumerate() {
            ensure!(!key.is_empty(), wrong(format!("refusedAnnotations[{i}]"), "empty"));
        }
        Ok(())
    }

    /// The rules of the filter that stands before the container's own.
    pub fn syscalls(&self) -> Vec<LinuxSyscall> {
        let rule = |rule: &Denied| {
            let mut entry = LinuxSyscall::default();
            entry.set_names(rule.names.clone()).set_action(rule.action).set_errno_ret(rule.errno_ret);
            entry.set_args((!rule.args.is_empty()).then(|| rule.args.clone()));
            entry
        };
        self.rules.seccomp.iter().map(rule).collect()
    }

    /// Makes a configuration as strict as the floor, and refuses what cannot be made so. Returns what has become stricter, a
    /// line each, for the log.
    pub fn tighten(&self, spec: &mut Spec, bundle: &Path, faults: &mut Faults) -> Result<Vec<String>> {
        // In the same order each time.
        let annotations: BTreeSet<&String> = spec.annotations().iter().flatten().map(|(key, _)| key).collect();
        faults.keep_each(annotations.into_iter().map(|key| self.annotation(key)))?;
        let linux = spec.linux().as_ref();
        faults.keep_each(self.rules.private_namespaces.iter().map(|kind| self.namespace(*kind, linux)))?;
        faults.keep(self.root(spec, bundle))?;
        self.mounts(spec.mounts().as_deref().unwrap_or_default(), bundle, faults)?;
        let mut stricter: Vec<String> = self.mask(spec)?.into_iter().collect();
        if let Some(mut process) = spec.process().clone() {
            stricter.extend(self.tighten_process(&mut process));
            spec.set_process(Some(process));
        }
        Ok(stricter)
    }

    /// The same of a process, of a container or of an exec.
    pub fn tighten_process(&self, process: &mut Process) -> Vec<String> {
        let mut stricter = Vec::new();
        if self.rules.no_new_privileges == Some(true) && process.no_new_privileges() != Some(true) {
            process.set_no_new_privileges(Some(true));
            stricter.push(self.says("noNewPrivileges", "process.noNewPrivileges is set"));
        }
        let Some(most) = &self.rules.capabilities else { return stricter };
        let Some(mut sets) = process.capabilities().clone() else { return stricter };
        let is_allowed = |one: &Capability| most.contains(&format!("CAP_{one}"));
        let mut left_out = HashSet::new();
        let mut cut = |set: &Option<HashSet<Capability>>| {
            let (kept, lost) = set.clone()?.into_iter().partition(is_allowed);
            let lost: HashSet<Capability> = lost;
            left_out.extend(lost.iter().map(|one| format!("CAP_{one}")));
            Some(kept)
        };
        let (bounding, permitted, effective) = (cut(sets.bounding()), cut(sets.permitted()), cut(sets.effective()));
        let (inheritable, ambient) = (cut(sets.inheritable()), cut(sets.ambient()));
        sets.set_bounding(bounding).set_permitted(permitted).set_effective(effective);
        sets.set_inheritable(inheritable).set_ambient(ambient);
        if !left_out.is_empty() {
            let mut names: Vec<String> = left_out.into_iter().collect();
            names.sort();
            process.set_capabilities(Some(sets));
            stricter.push(self.says("capabilities", &format!("process.capabilities: {} left out", names.join(", "))));
        }
        stricter
    }

    /// Refuses what of `mounts` shows a file or directory of the host that is not to be shown: by itself, as a part of a
    /// directory, or what is below it. By the names that lead there now; config.json is trusted not to race with this.
    pub fn mounts(&self, mounts: &[Mount], bundle: &Path, faults: &mut Faults) -> Result<()> {
        if self.rules.refused_bind_sources.is_empty() {
            return Ok(());
        }
        faults.keep_each(mounts.iter().enumerate().map(|(i, mount)| self.source(i, mount, bundle))).map(drop)
    }

    /// A root filesystem may lie below a path that is refused: that is where engines keep them.
    fn root(&self, spec: &Spec, bundle: &Path) -> Result<()> {
        let Some(root) = spec.root() else { return Ok(()) };
        let root = resolved(&bundle.join(root.path()));
        for (i, refused) in self.rules.refused_bind_sources.iter().enumerate() {
            ensure!(!resolved(refused).starts_with(&root), self.not_to_be_shown("root.path".to_owned(), i, refused));
        }
        Ok(())
    }

    fn not_to_be_shown(&self, place: String, rule: usize, path: &Path) -> Field {
        let what = format!("{} is not to be shown", path.display());
        self.refuses(place, &format!("refusedBindSources[{rule}]"), &what)
    }

    fn source(&self, index: usize, mount: &Mount, bundle: &Path) -> Result<()> {
        let options = mount.options().as_deref().unwrap_or_default();
        let is_bind =
            mount.typ().as_deref() == Some("bind") || options.iter().any(|one| one == "bind" || one == "rbind");
        let Some(source) = mount.source().as_deref().filter(|_| is_bind) else { return Ok(()) };
        let source = resolved(&bundle.join(source));
        for (i, path) in self.rules.refused_bind_sources.iter().enumerate() {
            let refused = resolved(path);
            let shows = source.starts_with(&refused) || refused.starts_with(&source) || is_same(&source, &refused);
            ensure!(!shows, self.not_to_be_shown(format!("mounts[{index}].source"), i, path));
        }
        Ok(())
    }

    fn annotation(&self, key: &str) -> Result<()> {
        let matches = |pattern: &&String| match pattern.strip_suffix('*') {
            Some(beginning) => key.starts_with(beginning),
            None => key == pattern.as_str(),
        };
        let Some(at) = self.rules.refused_annotations.iter().position(|pattern| matches(&pattern)) else {
            return Ok(());
        };
        Err(self
            .refuses(format!("annotations.{key}"), &format!("refusedAnnotations[{at}]"), "it is not to be used")
            .into())
    }

    /// One of its own, or of a pod; not the runtime's.
    fn namespace(&self, kind: Kind, linux: Option<&Linux>) -> Result<()> {
        let entries = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        let entry = entries.iter().find(|entry| entry.typ() == kind);
        let is_private = entry.is_some_and(|entry| match entry.path() {
            Some(path) if !path.as_os_str().is_empty() => {
                !is_same(path, Path::new(&format!("/proc/thread-self/ns/{kind}")))
            }
            _ => true,
        });
        let what = format!("the {kind} namespace is the host's");
        ensure!(is_private, self.refuses("linux.namespaces".to_owned(), "privateNamespaces", &what));
        Ok(())
    }

    fn mask(&self, spec: &mut Spec) -> Result<Option<String>> {
        let known = spec.linux().as_ref().and_then(|linux| linux.masked_paths().as_deref()).unwrap_or_default();
        let new: Vec<String> = self.rules.masked_paths.iter().filter(|path| !known.contains(path)).cloned().collect();
        if new.is_empty() {
            return Ok(None);
        }
        let words = self.says("maskedPaths", &format!("linux.maskedPaths: {} added", new.join(", ")));
        let all = known.iter().cloned().chain(new).collect();
        let mut linux = spec.linux().clone().map_or_else(|| serde_json::from_str("{}"), Ok)?;
        linux.set_masked_paths(Some(all));
        spec.set_linux(Some(linux));
        Ok(Some(words))
    }

    fn says(&self, rule: &str, what: &str) -> String {
        format!("{}: {rule}: {what}", self.file.display())
    }

    fn refuses(&self, place: String, rule: &str, what: &str) -> Field {
        Field::new(place).is(format!("{what} (the floor of this host: {}: {rule})", self.file.display()))
    }
}

fn wrong(place: impl Into<String>, what: impl Into<String>) -> Field {
    Field::new(place.into()).is(what)
}

/// Without links, as far as it is there.
fn resolved(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.components().collect())
}

/// Whether both lead to the same file, directory or namespace. What is not there is the same as nothing.
fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    identity(one).is_some_and(|one| Some(one) == identity(other))
}
