//! Other device rules for a container that runs. On v2 one eBPF program takes the place of another in one step. On v1
//! only the differences are written, so that no device is out of reach in between; where the default itself turns, the
//! container's processes stand still meanwhile.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, anyhow};

use super::prepared::Devices;
use crate::container::cgroup::host::file;
use crate::container::cgroup::paths::Paths;
use crate::container::cgroup::wanted::device_rules::{RuleLine, Rules};
use crate::container::cgroup::wanted::resources::{Author, RUNTIMES};
use crate::error::{Field, field};
use crate::sys::{self, Errno, SysError, bpf, cgroup};

/// The rules that were in force before.
#[derive(Debug)]
pub enum OldDevices {
    V1 {
        directory: String,
        /// File and line of each write that brings them back.
        writes: Vec<(&'static str, String)>,
    },
    V2 {
        cgroup: OwnedFd,
        programs: Vec<OwnedFd>,
        new: Option<OwnedFd>,
    },
}

/// Puts the rules into force; on an error the old ones are back.
pub fn make(devices: &Devices, paths: &Paths) -> Result<OldDevices> {
    let made = match devices {
        Devices::V1(rules) => change_v1(rules, paths),
        Devices::V2 { program, .. } => change_v2(program, paths),
    };
    made.map_err(|error| if error.is::<Field>() { error } else { error.context(field!("linux.resources.devices")) })
}

impl OldDevices {
    /// Brings the old rules back, as far as possible: this is the undoing of something that failed already.
    pub fn restore(self) {
        match self {
            Self::V1 { directory, writes } => {
                for (name, line) in writes {
                    let _ = write_line(&directory, name, &line);
                }
            }
            Self::V2 { cgroup, programs, new } => {
                for program in &programs {
                    let _ = bpf::attach_device_filter(cgroup.as_fd(), program.as_fd());
                }
                if let Some(new) = new {
                    let _ = bpf::detach_device_filter(cgroup.as_fd(), new.as_fd());
                }
            }
        }
    }
}

fn change_v2(program: &[bpf::EbpfInstruction], paths: &Paths) -> Result<OldDevices> {
    let directory = paths.directory_of("devices").context("the container has no cgroup")?;
    let cgroup = cgroup::open_location(cgroup::here(), &CString::new(directory)?)?;
    let filters = bpf::device_filters(cgroup.as_fd())?;
    let programs = filters.ids().iter().map(|id| bpf::filter_by_id(*id)).collect::<sys::Result<Vec<_>>>()?;
    let new = if program.is_empty() { None } else { Some(bpf::load_device_filter(program)?) };
    let old = OldDevices::V2 { cgroup, programs, new };
    if let OldDevices::V2 { cgroup, programs, new } = &old
        && let Err(error) = swap(cgroup, programs, new.as_ref())
    {
        old.restore();
        return Err(error.into());
    }
    Ok(old)
}

/// The new program in place of all others. One that is alone is replaced in one step (BPF_F_REPLACE, Linux 5.6);
/// otherwise the new one comes first, so that at no time there is none.
fn swap(cgroup: &OwnedFd, programs: &[OwnedFd], new: Option<&OwnedFd>) -> sys::Result<()> {
    if let (Some(new), [old]) = (new, programs)
        && bpf::replace_device_filter(cgroup.as_fd(), old.as_fd(), new.as_fd()).is_ok()
    {
        return Ok(());
    }
    if let Some(new) = new {
        bpf::attach_device_filter(cgroup.as_fd(), new.as_fd())?;
    }
    programs.iter().try_for_each(|old| bpf::detach_device_filter(cgroup.as_fd(), old.as_fd()))
}

fn change_v1(rules: &Rules, paths: &Paths) -> Result<OldDevices> {
    let directory = paths.directory_of("devices").context("cgroup controller devices is not available")?;
    let name = CString::new(format!("{directory}/devices.list"))?;
    let text = file::read_to_end(cgroup::here(), &name)
        .map_err(|error| anyhow!("{directory}/devices.list: {}", file::reason(error.errno)))?;
    let (old, new) = (DeviceExceptions::of_lines(text.lines()), DeviceExceptions::of_rules(rules)?);
    let undo = OldDevices::V1 { directory: directory.to_owned(), writes: new.until(&old) };
    paths.standing_still(old.default_allow != new.default_allow, || {
        let written = old.until(&new).iter().try_for_each(|(name, line)| {
            write_line(directory, name, line).map_err(|error| anyhow::Error::from(refused(rules, name, line, error)))
        });
        match written {
            Ok(()) => Ok(undo),
            Err(error) => {
                undo.restore();
                Err(error)
            }
        }
    })
}

/// Why a line is not written, and whose rule it is.
fn refused(rules: &Rules, name: &str, line: &str, error: SysError) -> Field {
    let is_own = |own: &RuleLine| own.author == Author::Runtime && own.text == line;
    let author = if rules.lines().is_ok_and(|lines| lines.iter().any(is_own)) { RUNTIMES } else { "" };
    field!("linux.resources.devices"; "write {line:?} to {name}: {}{author}", file::reason(error.errno)).by(error)
}

fn write_line(directory: &str, name: &str, line: &str) -> sys::Result<()> {
    let path = CString::new(format!("{directory}/{name}")).map_err(|_| SysError::new("openat", Errno::EINVAL))?;
    file::write(cgroup::here(), &path, line)
}

/// What v1 has of the rules: a default, and the devices that are excepted from it.
#[derive(PartialEq, Debug)]
pub struct DeviceExceptions {
    pub default_allow: bool,
    /// `c 1:3`, and letters of `rwm`.
    list: BTreeMap<String, String>,
}

impl DeviceExceptions {
    /// From devices.list: `a *:* rwm` where all is allowed (what is excepted then, the kernel does not tell), else what
    /// is allowed.
    pub fn of_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut exceptions = Self { default_allow: false, list: BTreeMap::new() };
        for line in lines {
            match line.rsplit_once(' ') {
                Some(("a *:*", _)) => exceptions.default_allow = true,
                Some((device, access)) => drop(exceptions.list.insert(device.to_owned(), access.to_owned())),
                None => {}
            }
        }
        exceptions
    }

    pub fn of_rules(rules: &Rules) -> Result<Self> {
        let lines = rules.lines()?;
        let list = Self::of_lines(lines.iter().map(|line| line.text.as_str())).list;
        Ok(Self { default_allow: rules.default_allow, list })
    }

    pub fn is_same(&self, other: &Self) -> bool {
        self.default_allow == other.default_allow
            && self.beyond(other).next().is_none()
            && other.beyond(self).next().is_none()
    }

    /// What these allow and `other` does not, and the other way round.
    pub fn beside(&self, other: &Self) -> String {
        if self.default_allow != other.default_allow {
            return if self.default_allow { "all devices" } else { "no device but some" }.to_owned();
        }
        let (more, less) = (self.beyond(other).map(|line| format!("{line} too")), other.beyond(self));
        more.chain(less.map(|line| format!("not {line}"))).collect::<Vec<_>>().join(", ")
    }

    /// The writes that lead from these to `new`: only the differences, where both allow nothing but exceptions.
    fn until(&self, new: &Self) -> Vec<(&'static str, String)> {
        let file = |allow| if allow { "devices.allow" } else { "devices.deny" };
        if self.default_allow || new.default_allow {
            let default = (file(new.default_allow), "a".to_owned());
            let exceptions =
                new.list.iter().map(|(device, access)| (file(!new.default_allow), format!("{device} {access}")));
            return std::iter::once(default).chain(exceptions).collect();
        }
        let allowed = new.beyond(self).map(|line| (file(true), line));
        let denied = self.beyond(new).map(|line| (file(false), line));
        allowed.chain(denied).collect()
    }

    /// What these except and `other` does not.
    fn beyond<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = String> + 'a {
        self.list.iter().filter_map(|(device, access)| {
            let known = other.list.get(device).map_or("", String::as_str);
            let rest: String = access.chars().filter(|letter| !known.contains(*letter)).collect();
            (!rest.is_empty()).then(|| format!("{device} {rest}"))
        })
    }
}

impl fmt::Display for DeviceExceptions {
    /// `c 1:3 rwm, c *:* m`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.default_allow {
            return f.write_str("all devices");
        }
        let lines: Vec<String> = self.list.iter().map(|(device, access)| format!("{device} {access}")).collect();
        f.write_str(&lines.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> DeviceExceptions {
        DeviceExceptions::of_lines(text.split(", ").filter(|line| !line.is_empty()))
    }

    fn writes(old: &str, new: &str) -> String {
        let writes = of(old).until(&of(new));
        writes.iter().map(|(file, line)| format!("{} {line}", &file[8..])).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn only_differences_are_written_and_what_is_allowed_comes_first() {
        assert_eq!(writes("c 1:3 rwm, c *:* m", "c *:* m, c 1:3 rwm"), "");
        assert_eq!(writes("c 1:3 rwm, c 5:0 rw", "c 1:3 rwm, c 10:229 rw"), "allow c 10:229 rw, deny c 5:0 rw");
        assert_eq!(writes("c 10:229 rw", "c 10:229 r"), "deny c 10:229 w");
        assert_eq!(writes("c 10:229 r", "c 10:229 rwm"), "allow c 10:229 wm");
    }

    #[test]
    fn another_default_is_written_whole() {
        assert_eq!(writes("a *:* rwm", "c 1:3 rwm"), "deny a, allow c 1:3 rwm");
        assert_eq!(writes("c 1:3 rwm", "a *:* rwm"), "allow a");
        assert_eq!(writes("a *:* rwm", "a *:* rwm, c 1:3 rwm"), "allow a, deny c 1:3 rwm");
    }
}
