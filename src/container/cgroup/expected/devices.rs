//! Whether the device rules are in force: v1 lists them, v2 has them in a program whose tag, a digest of its instructions,
//! is that of the one that the rules lead to.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use oci_spec::runtime::LinuxDeviceCgroup;

use super::compared::Compared;
use crate::container::cgroup::host::file;
use crate::container::cgroup::host::layout::Layout;
use crate::container::cgroup::paths::Paths;
use crate::container::cgroup::update::DeviceExceptions;
use crate::container::cgroup::wanted::device_filter::{self, DEVICES};
use crate::container::cgroup::wanted::device_rules::Rules;
use crate::error::one_line;
use crate::sys::{bpf, cgroup};

/// None: this host has no controller for it.
pub fn compare(devices: &[LinuxDeviceCgroup], paths: &Paths) -> Option<Compared> {
    let directory = paths.directory_of("devices")?;
    let rules = Rules::compile(devices)
        .and_then(|rules| if paths.layout == Layout::V2 { filter(&rules, directory) } else { list(&rules, directory) });
    Some(rules.unwrap_or_else(|error| Compared {
        field: DEVICES.to_owned(),
        wanted: "the rules".to_owned(),
        found: Err(one_line(&error)),
        holds: false,
    }))
}

fn list(rules: &Rules, directory: &str) -> Result<Compared> {
    let name = CString::new(format!("{directory}/devices.list"))?;
    let text = file::read_to_end(cgroup::here(), &name).context("devices.list")?;
    let (wanted, found) = (DeviceExceptions::of_rules(rules)?, DeviceExceptions::of_lines(text.lines()));
    // What is excepted where all else is allowed, the kernel does not tell.
    let holds = wanted.default_allow == found.default_allow && (wanted.default_allow || wanted.is_same(&found));
    let words =
        if holds { "devices.list: just those".to_owned() } else { format!("devices.list: {}", found.beside(&wanted)) };
    let (field, wanted) = (DEVICES.to_owned(), wanted.to_string());
    Ok(Compared { field, wanted, found: Ok(words), holds })
}

fn filter(rules: &Rules, directory: &str) -> Result<Compared> {
    let program = device_filter::limited(rules)?;
    let directory = cgroup::open_location(cgroup::here(), &CString::new(directory)?)?;
    let attached = bpf::device_filters(directory.as_fd())?;
    let count = attached.ids().len();
    let field = DEVICES.to_owned();
    if program.is_empty() {
        let (wanted, found) = ("all devices".to_owned(), Ok(format!("{count} programs attached")));
        return Ok(Compared { field, wanted, found, holds: true });
    }
    // It is attached nowhere, and gone when it is closed.
    let wanted = tag(&bpf::load_device_filter(&program)?)?;
    let mut holds = false;
    for id in attached.ids() {
        holds = holds || tag(&bpf::filter_by_id(*id)?)? == wanted;
    }
    let found = if holds { "attached".to_owned() } else { format!("{count} others attached") };
    let wanted = format!("a program of {} instructions", program.len());
    Ok(Compared { field, wanted, found: Ok(found), holds })
}

fn tag(program: &OwnedFd) -> Result<[u8; 8]> {
    Ok(bpf::tag(program.as_fd())?)
}
