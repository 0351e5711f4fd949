//! The seccomp agent's protocol: the listener of a process under SCMP_ACT_NOTIFY goes to the agent, with the container
//! process state (config-linux.md, "The Container Process State").

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::container::seccomp::Agent;
use crate::init::link::{Report, RuntimeEnd};
use crate::sys::process::{self, Child};
use crate::sys::{Errno, SysError, socket};

/// How long the agent may take to accept the connection and each part of the state, in seconds.
const CONNECT_PATIENCE: u32 = 10;
/// How long it may take to answer the calls that the process makes before it reports again, in milliseconds.
const ANSWER_PATIENCE: u32 = 60_000;
/// How long a process may take from announcing its listener to having it, in milliseconds.
const LISTENER_PATIENCE: u32 = 10_000;

/// The runtime beside a process that may come to need an agent.
pub struct Attendance<'a> {
    agent: Option<&'a Agent>,
    child: &'a Child,
    link: &'a RuntimeEnd,
    /// What came with the last report.
    descriptor: Option<OwnedFd>,
    served: bool,
}

impl<'a> Attendance<'a> {
    pub fn new(agent: Option<&'a Agent>, child: &'a Child, link: &'a RuntimeEnd) -> Self {
        Self { agent, child, link, descriptor: None, served: false }
    }

    /// Whether the process depends on the agent's answers by now.
    pub fn has_served(&self) -> bool {
        self.served
    }

    /// The next report of the process. Once it depends on the agent's answers, the wait has an end.
    pub fn report(&mut self) -> Result<Option<Report>> {
        if let (true, Some(agent)) = (self.served, self.agent) {
            let [spoke] = process::poll([self.link.as_fd()], Some(ANSWER_PATIENCE))?;
            ensure!(
                spoke,
                "{}: the agent has not answered for {} s, and init cannot go on",
                place(agent),
                ANSWER_PATIENCE / 1000
            );
        }
        let received = self.link.report_with_descriptor().context("report of init")?;
        Ok(received.map(|(report, descriptor)| {
            self.descriptor = descriptor;
            report
        }))
    }

    /// Hands the listener over that `report` is about. `state` is the container's, as JSON.
    pub fn serve(&mut self, report: Report, state: &[u8]) -> Result<()> {
        let agent = self.agent.context("init has a seccomp listener that nobody asked for")?;
        let listener = match report {
            Report::ListenerAt(number) => self.take(number).with_context(|| place(agent))?,
            _ => Some(self.descriptor.take().context("init sent no seccomp listener")?),
        };
        // If there is none, the process has more to say.
        let Some(listener) = listener else { return Ok(()) };
        hand_over(agent, self.child.pid, state, listener.as_fd()).with_context(|| place(agent))?;
        self.link.go(&[]).context("init")?;
        self.served = true;
        Ok(())
    }

    /// The listener that the process is about to have as descriptor `number`; None: the process reports, or has ended.
    fn take(&self, number: u32) -> Result<Option<OwnedFd>> {
        for _ in 0..LISTENER_PATIENCE {
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
        bail!("init has no seccomp listener after {} s", LISTENER_PATIENCE / 1000)
    }
}

fn place(agent: &Agent) -> String {
    format!("linux.seccomp.listenerPath: {}", agent.path.display())
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
        oci_version: super::OCI_VERSION,
        fds: ["seccompFd"],
        pid,
        metadata: agent.metadata.as_deref(),
        state: serde_json::from_slice(state)?,
    };
    let connection = socket::connect_stream_within(&agent.path, CONNECT_PATIENCE)?;
    Ok(socket::send_all(connection.as_fd(), &serde_json::to_vec(&state)?, &[listener])?)
}
