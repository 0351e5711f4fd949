//! The seccomp agent's protocol: the listener of a process under SCMP_ACT_NOTIFY goes to the agent, with the container
//! process state (config-linux.md, "The Container Process State").

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime;
use serde::Serialize;

use crate::container::seccomp::Agent;
use crate::error::{Field, field};
use crate::init::link::RuntimeEnd;
use crate::init::report::Report;
use crate::lifecycle::disk::state::{OCI_VERSION, PendingAgent};
use crate::sys::process::{self, Child};
use crate::sys::{Errno, SysError, socket};

/// How long it may take to answer the calls that the process makes before it reports again, in milliseconds.
pub const ANSWER_TIMEOUT: u32 = 30_000;
/// How long a process may take from announcing its listener to having it, in milliseconds.
const LISTENER_TIMEOUT: u32 = 10_000;

/// The runtime beside a process that may come to need an agent.
pub struct AgentSession<'a> {
    agent: Option<&'a Agent>,
    child: &'a Child,
    link: &'a RuntimeEnd,
    /// What came with the last report.
    descriptor: Option<OwnedFd>,
    served: bool,
}

impl<'a> AgentSession<'a> {
    pub fn new(agent: Option<&'a Agent>, child: &'a Child, link: &'a RuntimeEnd) -> Self {
        Self { agent, child, link, descriptor: None, served: false }
    }

    /// The agent, if the process depends on its answers by now.
    pub fn awaited(&self) -> Option<&'a Agent> {
        self.agent.filter(|_| self.served)
    }

    /// The next report of the process. Once it depends on the agent's answers, the wait has an end.
    pub fn report(&mut self) -> Result<Option<Report>> {
        if let Some(agent) = self.awaited() {
            let [spoke] = process::poll([self.link.as_fd()], Some(ANSWER_TIMEOUT))?;
            ensure!(spoke, no_answer(&agent.path));
        }
        let received = self.link.report_with_descriptor().context("report of init")?;
        Ok(received.map(|(report, descriptor)| {
            self.descriptor = descriptor;
            report
        }))
    }

    /// What came with the last report, once.
    pub fn descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptor.take()
    }

    /// Hands the listener over that `report` is about. `state` is the container's, as JSON.
    pub fn serve(&mut self, report: Report, state: &[u8]) -> Result<()> {
        let agent = self.agent.context("init has a seccomp listener that nobody asked for")?;
        let listener = match report {
            Report::ListenerAt(number) => self.take(number).with_context(|| place(&agent.path))?,
            _ => Some(self.descriptor.take().context("init sent no seccomp listener")?),
        };
        // If there is none, the process has more to say.
        let Some(listener) = listener else { return Ok(()) };
        hand_over(agent, self.child.pid, state, listener.as_fd()).with_context(|| place(&agent.path))?;
        self.link.go(&[]).context("init")?;
        self.served = true;
        Ok(())
    }

    /// The listener that the process is about to have as descriptor `number`; None: the process reports, or has ended.
    fn take(&self, number: u32) -> Result<Option<OwnedFd>> {
        for _ in 0..LISTENER_TIMEOUT {
            match process::pidfd_getfd(self.child.pidfd.as_fd(), number) {
                Err(SysError { errno: Errno::EBADF, .. }) => {}
                result => return Ok(Some(result?)),
            }
            // Nothing tells when it is there: the process makes no call after the one that makes it.
            let spoke = process::poll([self.link.as_fd(), self.child.pidfd.as_fd()], Some(1))?;
            if spoke.contains(&true) {
                return Ok(None);
            }
        }
        bail!("init has no seccomp listener after {} s", LISTENER_TIMEOUT / 1000)
    }
}

impl PendingAgent {
    pub fn new(agent: &Agent, hooks: &[runtime::Hook]) -> Self {
        let seconds: Option<i64> = hooks.iter().map(runtime::Hook::timeout).sum();
        Self { agent: agent.path.clone(), hooks: seconds.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX)) }
    }

    /// Waits until init, whose process is `pid`, speaks or is gone. While it has a child, a hook without a timeout is
    /// what it waits for.
    pub fn wait(&self, link: &RuntimeEnd, pid: i32) -> Result<()> {
        let mut left = self.hooks.unwrap_or_default().saturating_add(ANSWER_TIMEOUT / 1000);
        while left > 0 {
            let [spoke] = process::poll([link.as_fd()], Some(1000))?;
            if spoke {
                return Ok(());
            }
            if self.hooks.is_some() || !has_child(pid) {
                left -= 1;
            }
        }
        bail!(no_answer(&self.agent))
    }
}

/// Whether the process has a child; so it is taken for a kernel that does not tell (CONFIG_PROC_CHILDREN).
fn has_child(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).map_or(true, |pids| !pids.trim().is_empty())
}

pub fn no_answer(path: &Path) -> Field {
    let seconds = ANSWER_TIMEOUT / 1000;
    place(path).and(format_args!(": the agent has not answered for {seconds} s, and init cannot go on"))
}

fn place(path: &Path) -> Field {
    field!("linux.seccomp.listenerPath"; "{}", path.display())
}

/// Sends the agent one container process state and the listener, over a connection of its own.
fn hand_over(agent: &Agent, pid: i32, state: &[u8], listener: BorrowedFd) -> Result<()> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ContainerProcessState<'a> {
        oci_version: &'a str,
        fds: [&'a str; 1],
        pid: i32,
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<&'a str>,
        state: serde_json::Value,
    }
    let state = ContainerProcessState {
        oci_version: OCI_VERSION,
        fds: ["seccompFd"],
        pid,
        metadata: agent.metadata.as_deref(),
        state: serde_json::from_slice(state)?,
    };
    let connection = socket::connect_stream(&agent.path)?;
    Ok(socket::send_all(connection.as_fd(), &serde_json::to_vec(&state)?, &[listener])?)
}
