//! Which process an exec makes: the one of a process.json or of config.json as `create` saved it, changed by flags.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use oci_spec::runtime::{BoxBuilder, Capability, LinuxCapabilities, Process};

use crate::container::{bundle, validate};
use crate::error::{Faults, field, io_error};
use crate::lifecycle::host::Host;
use crate::sys::tty;

/// What exec's flags and arguments say of the process. What is not given stays as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// The program and its arguments.
    pub args: Vec<String>,
    pub cwd: Option<PathBuf>,
    /// `NAME=VALUE`, added to the environment.
    pub env: Vec<String>,
    pub terminal: bool,
    /// A user id, and a group id if one is given.
    pub user: Option<(u32, Option<u32>)>,
    /// Added to the supplementary groups.
    pub additional_gids: Vec<u32>,
    /// Added to the bounding, effective and permitted set.
    pub capabilities: Vec<String>,
    pub no_new_privileges: bool,
    pub apparmor: Option<String>,
    pub selinux_label: Option<String>,
}

/// The process of the file `path` (`-`: standard input), or without one that of config.json, `saved`; with `changes`.
pub fn compile(host: &Host, path: Option<&Path>, saved: &Process, changes: &Changes) -> Result<Process> {
    let mut process = match path {
        Some(path) => given(host, path, saved)?,
        None => {
            let mut process = saved.clone();
            // The container's own program and terminal are its first process's alone.
            process.set_args(None).set_terminal(None).set_console_size(None);
            process
        }
    };
    changes.apply(&mut process)?;
    validate::check_process(&process, &mut Faults::first())?;
    Ok(process)
}

/// A process.json. What it leaves out of how a process is confined and scheduled is as the container has it, as in runc;
/// no_new_privs it has only if it says so.
fn given(host: &Host, path: &Path, saved: &Process) -> Result<Process> {
    let text = read(path).with_context(|| format!("--process {}", path.display()))?;
    let parsed = bundle::parse_process(&text).with_context(|| format!("--process {}", path.display()))?;
    let (mut process, warnings) = parsed;
    for warning in warnings {
        host.log.warn_beside_a_program(&warning);
    }
    macro_rules! from_the_container {
        ($($get:ident $set:ident),*) => {
            $(if process.$get().is_none() {
                process.$set(saved.$get().clone());
            })*
        };
    }
    from_the_container!(
        capabilities set_capabilities,
        rlimits set_rlimits,
        apparmor_profile set_apparmor_profile,
        selinux_label set_selinux_label,
        oom_score_adj set_oom_score_adj,
        scheduler set_scheduler,
        io_priority set_io_priority,
        exec_cpu_affinity set_exec_cpu_affinity
    );
    Ok(process)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    if path != Path::new("-") {
        return bundle::read(path, usize::MAX);
    }
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text).map_err(|error| io_error("read", &error))?;
    Ok(text)
}

impl Changes {
    fn apply(&self, process: &mut Process) -> Result<()> {
        if !self.args.is_empty() {
            process.set_args(Some(self.args.clone()));
        }
        if let Some(cwd) = &self.cwd {
            process.set_cwd(cwd.clone());
        }
        for entry in &self.env {
            entry
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .with_context(|| format!("--env: {entry:?} is not NAME=VALUE"))?;
            process.env_mut().get_or_insert_default().push(entry.clone());
        }
        if self.terminal {
            process.set_terminal(Some(true));
        }
        if let Some((uid, gid)) = self.user {
            process.user_mut().set_uid(uid);
            if let Some(gid) = gid {
                process.user_mut().set_gid(gid);
            }
        }
        if !self.additional_gids.is_empty() {
            process.user_mut().additional_gids_mut().get_or_insert_default().extend(&self.additional_gids);
        }
        if self.no_new_privileges {
            process.set_no_new_privileges(Some(true));
        }
        if let Some(profile) = self.apparmor.as_ref().filter(|profile| !profile.is_empty()) {
            process.set_apparmor_profile(Some(profile.clone()));
        }
        if let Some(label) = self.selinux_label.as_ref().filter(|label| !label.is_empty()) {
            process.set_selinux_label(Some(label.clone()));
        }
        self.add_capabilities(process)
    }

    /// Never to the inheritable set: programs with inheritable file capabilities would gain them (CVE-2022-29162). To the
    /// ambient set where it is inheritable already, as in runc: a program of an ordinary user has it then.
    fn add_capabilities(&self, process: &mut Process) -> Result<()> {
        if self.capabilities.is_empty() {
            return Ok(());
        }
        let none = || serde_json::from_str::<LinuxCapabilities>("{}").context(field!("process.capabilities"));
        let mut sets = process.capabilities().clone().map_or_else(none, Ok)?;
        for name in &self.capabilities {
            let known = Some(name.as_str()).filter(|name| bundle::capabilities::is_exact(name));
            let capability = known.and_then(|name| serde_json::from_value::<Capability>(name.into()).ok());
            let capability = capability.with_context(|| format!("--cap: unknown capability {name:?}"))?;
            let with = |set: &Option<std::collections::HashSet<Capability>>| {
                let mut set = set.clone().unwrap_or_default();
                set.insert(capability);
                Some(set)
            };
            let (bounding, effective, permitted) =
                (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
            if sets.inheritable().as_ref().is_some_and(|set| set.contains(&capability)) {
                let ambient = with(sets.ambient());
                sets.set_ambient(ambient);
            }
            sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
        }
        process.set_capabilities(Some(sets));
        Ok(())
    }
}

/// Gives a process with a terminal the size of ours, if it has none: its program may ask before we have joined the two.
pub fn take_our_size(process: &mut Process) {
    use std::os::fd::AsFd;
    let unset = process.console_size().is_none_or(|size| size.width() == 0 && size.height() == 0);
    // Without a terminal of ours there is no size to take.
    if unset && let Ok(size) = tty::size(std::io::stdin().as_fd()) {
        let size = BoxBuilder::default().width(u64::from(size.columns)).height(u64::from(size.rows)).build();
        process.set_console_size(size.ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn process(value: serde_json::Value) -> Process {
        let mut all =
            json!({ "cwd": "/", "user": { "uid": 1, "gid": 2, "additionalGids": [3] }, "args": ["x"], "env": ["A=1"] });
        all.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn changed(changes: &Changes) -> Process {
        let mut process = process(json!({}));
        changes.apply(&mut process).unwrap();
        process
    }

    #[test]
    fn what_is_not_given_stays() {
        assert_eq!(changed(&Changes::default()), process(json!({})));
    }

    #[test]
    fn a_user_without_a_group_keeps_the_group() {
        let user = changed(&Changes { user: Some((7, None)), ..Changes::default() }).user().clone();
        assert_eq!((user.uid(), user.gid()), (7, 2));
        let user = changed(&Changes { user: Some((7, Some(0))), additional_gids: vec![9], ..Changes::default() })
            .user()
            .clone();
        assert_eq!((user.uid(), user.gid(), user.additional_gids().clone()), (7, 0, Some(vec![3, 9])));
    }

    /// CVE-2022-29162.
    #[test]
    fn an_added_capability_is_never_inheritable() {
        let changes = Changes { capabilities: vec!["CAP_NET_ADMIN".into()], ..Changes::default() };
        let sets = changed(&changes).capabilities().clone().unwrap();
        let has = |set: &Option<std::collections::HashSet<Capability>>| set.iter().flatten().count();
        assert_eq!((has(sets.bounding()), has(sets.effective()), has(sets.permitted())), (1, 1, 1));
        assert_eq!((has(sets.inheritable()), has(sets.ambient())), (0, 0));
    }

    #[test]
    fn a_value_that_means_nothing_is_refused() {
        for (changes, words) in [
            (Changes { env: vec!["A".into()], ..Changes::default() }, "--env: \"A\" is not NAME=VALUE"),
            (Changes { env: vec!["=A".into()], ..Changes::default() }, "--env: \"=A\" is not NAME=VALUE"),
            (
                Changes { capabilities: vec!["CAP_X".into()], ..Changes::default() },
                "--cap: unknown capability \"CAP_X\"",
            ),
        ] {
            assert_eq!(changes.apply(&mut process(json!({}))).unwrap_err().to_string(), words);
        }
    }
}
