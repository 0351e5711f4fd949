//! SCMP_ACT_NOTIFY: calls that the kernel suspends until an agent has answered them, and how the agent's listener leaves
//! a process that is already under its filter (config-linux.md, "Seccomp"; seccomp_unotify(2)).
//!
//! Between loading the filter and the moment the agent has the listener, nobody answers: a notified call there would
//! hang for ever. The process makes at most one, `sendmsg`, by which the listener travels to the runtime; where the
//! profile notifies `sendmsg` itself it makes none, and the runtime takes the listener out of it. Its next call is the
//! wait for the runtime's word that the agent has it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction as Action};
use serde::{Deserialize, Serialize};

use super::arch::Abi;
use super::rules::{Chain, SystemCall, Verdict, Verdicts};
use super::verdict::RET_USER_NOTIF;

use crate::error::field;

/// Who answers.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Agent {
    /// The unix socket at which the agent takes listeners: `listenerPath`, absolute.
    pub path: PathBuf,
    /// `listenerMetadata`: passed on as it is.
    pub metadata: Option<String>,
}

/// How the listener comes to the runtime.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handover {
    /// By SCM_RIGHTS: one sendmsg(2).
    Sent,
    /// By pidfd_getfd(2), without a system call of the process that is under the filter.
    Taken,
}

/// The agent of a profile; None where nothing is notified. A listenerPath is ignored then, as the specification says.
///
/// Refused, in runc's words: the action for all calls, and for `write`.
pub(super) fn agent(spec: &LinuxSeccomp, receiver: Option<&Path>) -> Result<Option<Agent>> {
    let is_notify = |action: Action| action == Action::ScmpActNotify;
    let named = named(spec, receiver)?;
    ensure!(
        !is_notify(spec.default_action()),
        field!("linux.seccomp.defaultAction"; "SCMP_ACT_NOTIFY cannot be used as default action")
    );
    let rules = || spec.syscalls().iter().flatten().enumerate().filter(|(_, rule)| is_notify(rule.action()));
    if let Some((i, _)) = rules().find(|(_, rule)| rule.names().iter().any(|name| name == "write")) {
        anyhow::bail!(
            field!("linux.seccomp.syscalls[{i}].action"; "SCMP_ACT_NOTIFY cannot be used for the write syscall")
        );
    }
    let Some((i, _)) = rules().next() else { return Ok(None) };
    let Some(agent) = named else {
        anyhow::bail!(
            field!("linux.seccomp.listenerPath"; "missing, but linux.seccomp.syscalls[{i}] has SCMP_ACT_NOTIFY")
        )
    };
    ensure!(agent.path.is_absolute(), field!("linux.seccomp.listenerPath"; "{:?} is not an absolute path", agent.path));
    Ok(Some(agent))
}

/// The agent of a filter that was compiled elsewhere and notifies.
pub(super) fn of_raw(spec: Option<&LinuxSeccomp>, receiver: Option<&Path>) -> Result<Agent> {
    let named = match spec {
        Some(spec) => named(spec, receiver)?,
        None => receiver.map(|path| Agent { path: path.to_owned(), metadata: None }),
    };
    named.context("the program notifies, but there is neither listenerPath nor run.oci.seccomp.receiver")
}

/// Whom the profile names, or `receiver`.
fn named(spec: &LinuxSeccomp, receiver: Option<&Path>) -> Result<Option<Agent>> {
    let path = spec.listener_path().as_deref().filter(|path| *path != Path::new("")).or(receiver);
    let metadata = spec.listener_metadata().as_ref().filter(|metadata| !metadata.is_empty());
    ensure!(
        metadata.is_none() || path.is_some(),
        field!("linux.seccomp.listenerMetadata"; "must not be set without listenerPath")
    );
    Ok(path.map(|path| Agent { path: path.to_owned(), metadata: metadata.cloned() }))
}

/// How a listener leaves a process under these verdicts.
pub(super) fn handover(abi: &Abi, verdicts: &Verdicts, chains: &[Chain]) -> Handover {
    let sendmsg = SystemCall::all(&["sendmsg".to_owned()]).first().and_then(|call| call.number(abi));
    let verdict = verdicts.calls.iter().find(|(number, _)| Some(*number) == sendmsg).map(|(_, verdict)| verdict);
    let notifies = match verdict {
        None => false,
        Some(Verdict::Return(verdict)) => *verdict == RET_USER_NOTIF,
        // Whatever the conditions: they may hold for ours.
        Some(Verdict::Chain(index)) => {
            chains.get(*index).is_some_and(|chain| chain.arms.iter().any(|(_, verdict)| *verdict == RET_USER_NOTIF))
        }
    };
    if notifies { Handover::Taken } else { Handover::Sent }
}
