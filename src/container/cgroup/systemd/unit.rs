//! A unit of systemd: started, stopped, and given processes.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::bus::{Answer, Bus, CallFailed, Connection};
use super::properties::Property;
use super::refused::HadEnded;
use super::wire::{self, Value};
use crate::sys::{process, signal};

/// How long a job of systemd may take; runc's figure.
const JOB_WITHIN: Duration = Duration::from_secs(30);
/// How long to wait before a connection that broke is made anew, and how often, each time twice as long: systemd drops
/// all when it is executed anew. 6.3 s in all.
const RECONNECT_AFTER: Duration = if cfg!(test) { Duration::from_millis(1) } else { Duration::from_millis(100) };
const RECONNECTIONS: usize = 6;

/// A unit that exists or is about to: what state.json keeps, so that later commands need no flag for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Unit {
    pub name: String,
    pub(super) bus: Bus,
}

/// Does `work` on a connection, and on another if it breaks.
pub(super) fn with_connection<T>(
    bus: &Bus,
    mut work: impl FnMut(&mut Connection) -> core::result::Result<T, CallFailed>,
) -> core::result::Result<T, CallFailed> {
    let mut attempt = || Connection::open(bus).and_then(|mut connection| work(&mut connection));
    let mut wait = RECONNECT_AFTER;
    for _ in 0..RECONNECTIONS {
        match attempt() {
            Err(CallFailed::Disconnected(_)) => std::thread::sleep(wait),
            result => return result,
        }
        wait *= 2;
    }
    attempt()
}

impl Unit {
    pub(super) fn start(&self, properties: &[Property], pid: Option<i32>) -> Result<()> {
        let deadline = Instant::now() + JOB_WITHIN;
        let mut version = None;
        let mut reset = false;
        let started = with_connection(&self.bus, |connection| {
            must_share_pids(connection)?;
            let list = argument(known(properties, connection, &mut version)?);
            loop {
                match self.start_once(connection, &list, deadline) {
                    // Of a start that broke off: it may have come through.
                    Err(error) if error.is(".UnitExists") && self.holds(pid) => {
                        return self.wait_active(connection, deadline);
                    }
                    Err(error) if error.is(".UnitExists") && !reset => {
                        // Most likely one that failed once, which systemd keeps for somebody to see.
                        reset = true;
                        let _ = self.manager_call(connection, "ResetFailedUnit", &[]);
                    }
                    result => return result,
                }
            }
        });
        let had_ended = started.is_err() && pid.is_some_and(has_ended);
        if started.is_err() {
            // Whatever there is of it is not wanted; the first error is the one to tell.
            let exists = matches!(&started, Err(error) if error.is(".UnitExists"));
            if !exists {
                if let Some(pid) = pid {
                    // It would only be asked to end, and the first of a pid namespace does not hear that: systemd would
                    // wait for TimeoutStopSec. It may have ended by itself.
                    let _ = process::pidfd_open(pid)
                        .and_then(|pidfd| process::pidfd_send_signal(pidfd.as_fd(), signal::KILL));
                }
                let _ = self.stop();
            }
        }
        let started = started.map_err(anyhow::Error::from);
        if had_ended { started.context(HadEnded) } else { started }
    }

    fn start_once(&self, connection: &mut Connection, properties: &Value, deadline: Instant) -> Answer<()> {
        let arguments = [properties.clone(), Value::Array("(sa(sv))".to_owned(), Vec::new())];
        let answer =
            self.manager_call(connection, "StartTransientUnit", &[&[Value::text("replace")], &arguments[..]].concat())?;
        let job = answer.body().text()?;
        match connection.job_result(&job, deadline)?.as_deref() {
            Some("done") => Ok(()),
            Some(result) => Err(anyhow!("systemd did not start it: {} ended as {result:?}", name_of(&job)).into()),
            None => Err(anyhow!("systemd did not start it: {} has not ended {}", name_of(&job), in_time()).into()),
        }
    }

    pub(super) fn manager_call(
        &self,
        connection: &mut Connection,
        method: &str,
        more: &[Value],
    ) -> Answer<wire::BusMessage> {
        connection.manager(method, &[&[Value::text(self.name.as_str())], more].concat())
    }

    /// Whether the process is in a cgroup of the unit's name.
    fn holds(&self, pid: Option<i32>) -> bool {
        let cgroups = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok());
        cgroups.is_some_and(|text| text.lines().any(|line| line.ends_with(&format!("/{}", self.name))))
    }

    /// Waits for a unit whose job was lost from sight.
    fn wait_active(&self, connection: &mut Connection, deadline: Instant) -> Answer<()> {
        loop {
            let path = self.manager_call(connection, "GetUnit", &[])?.body().text()?;
            match connection.property(&path, "org.freedesktop.systemd1.Unit", "ActiveState")?.as_str() {
                "active" => return Ok(()),
                "activating" if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                state => return Err(anyhow!("systemd did not start it: it is {state}").into()),
            }
        }
    }

    /// Stops the unit, if there is one, and waits until systemd has forgotten it. Its processes should be gone already:
    /// systemd would give them time to end.
    pub fn stop(&self) -> Result<()> {
        let stopped = with_connection(&self.bus, |connection| {
            let deadline = Instant::now() + JOB_WITHIN;
            let (job, result) = match self.manager_call(connection, "StopUnit", &[Value::text("replace")]) {
                Ok(answer) => {
                    let job = answer.body().text()?;
                    let result = connection.job_result(&job, deadline)?;
                    (job, result)
                }
                Err(error) if error.is(".NoSuchUnit") => return Ok(()),
                Err(error) => return Err(error),
            };
            // One that failed stays until this. That there is none any more is what we want.
            let _ = self.manager_call(connection, "ResetFailedUnit", &[]);
            match result {
                Some(_) => Ok(()),
                None => Err(anyhow!("systemd did not stop it: {} has not ended {}", name_of(&job), in_time()).into()),
            }
        });
        stopped.map_err(anyhow::Error::from).with_context(|| format!("systemd unit {}", self.name))
    }

    /// Moves a process into the unit, into its cgroup `below`: nothing, or a path that begins with a slash.
    pub fn attach(&self, below: &str, pid: i32) -> Result<()> {
        let pids = Value::Array("u".to_owned(), vec![Value::Uint32(pid.unsigned_abs())]);
        let attached = with_connection(&self.bus, |connection| {
            must_share_pids(connection)?;
            self.manager_call(connection, "AttachProcessesToUnit", &[Value::text(below), pids.clone()]).map(drop)
        });
        attached.map_err(anyhow::Error::from).with_context(|| format!("systemd unit {}", self.name))
    }
}

/// Whether a child that is not reaped yet has ended.
fn has_ended(pid: i32) -> bool {
    process::pidfd_open(pid).and_then(|pidfd| process::ends_within(pidfd.as_fd(), 0)) == Ok(true)
}

/// systemd would take our process ids for those of others, and move them.
fn must_share_pids(connection: &Connection) -> Answer<()> {
    if connection.shares_pids()? {
        return Ok(());
    }
    Err(anyhow!("systemd is in another pid namespace: it knows no process of this one (--cgroup-manager cgroupfs does not ask it)").into())
}

/// `/org/freedesktop/systemd1/job/77` is what `systemctl list-jobs` lists as 77.
fn name_of(job: &str) -> String {
    format!("job {}", job.rsplit('/').next().unwrap_or_default())
}

fn in_time() -> String {
    format!("within {} s", JOB_WITHIN.as_secs())
}

/// The properties that this systemd knows. Its version is asked for only where it matters.
pub(super) fn known<'a>(
    properties: &'a [Property],
    connection: &mut Connection,
    version: &mut Option<u32>,
) -> Answer<Vec<&'a Property>> {
    if version.is_none() && properties.iter().any(|property| property.since > 0) {
        *version = Some(parse_version(&connection.manager_property("Version")?)?);
    }
    let version = version.unwrap_or_default();
    Ok(properties.iter().filter(|property| property.since <= version).collect())
}

/// Properties as the argument of a method.
pub(super) fn argument<'a>(properties: impl IntoIterator<Item = &'a Property>) -> Value {
    let pair = |property: &Property| {
        Value::Struct(vec![Value::text(property.name.as_str()), Value::Variant(Box::new(property.value.clone()))])
    };
    Value::Array("(sv)".to_owned(), properties.into_iter().map(pair).collect())
}

/// `257.9-1~deb13u1` and `v245` are both names of a release.
fn parse_version(text: &str) -> Result<u32> {
    let digits = text.trim_start_matches(['"', 'v']);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    match digits.get(..end).unwrap_or_default().parse() {
        Ok(version) => Ok(version),
        Err(_) => bail!("systemd says that its version is {text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_numbers() {
        for (text, version) in [("257.9-1~deb13u1", 257), ("v245.4-1.fc32", 245), ("\"v250\"", 250), ("249", 249)] {
            assert_eq!(parse_version(text).unwrap(), version);
        }
        assert!(parse_version("").is_err() && parse_version("x1").is_err());
    }
}
