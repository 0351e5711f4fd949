//! What goes into a cgroup once its directory is there: controllers, limits, the device filter, and later its owner.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail};

use super::host::file;
use super::host::layout::{Layout, absolute};
use super::host::path::CgroupPath;
use super::maker::Maker;
use super::prepared::Cgroup;
use super::wanted::resources::{Author, Missing, Write, has_word, is_device_rule, refused};
use crate::error::field;
use crate::sys::{self, Errno, SysError, bpf, cgroup};

/// What a v2 container gets to see and to be limited by without asking: engines read its statistics.
const USUAL: [&str; 5] = ["cpuset", "cpu", "io", "memory", "pids"];

impl Maker<'_> {
    /// Everything but the directory itself.
    pub(super) fn limit(&self, prepared: &Cgroup, is_new: bool) -> Result<()> {
        if prepared.layout != Layout::V2 {
            return self.write_all();
        }
        self.enable_controllers()?;
        if let Some(limit) = prepared.check_before_update.filter(|_| !is_new) {
            self.check_usage(limit)?;
        }
        self.write_all()?;
        self.attach(&prepared.device_filter, prepared.device_author, is_new)
    }

    /// Makes sure that the usual and the wanted controllers reach the cgroup: each ancestor has to pass them on. What
    /// cannot be had is not missed here, but by the limit that needs it.
    fn enable_controllers(&self) -> Result<()> {
        let path = &self.group.path;
        let Ok(have) = file::read(self.root, &self.name(path, "cgroup.controllers")?) else { return Ok(()) };
        let wanted = USUAL.into_iter().chain(self.group.writes.iter().map(|write| write.controller.as_str()));
        if wanted.filter(|name| *name != "cgroup").all(|name| has_word(&have, name)) {
            return Ok(());
        }
        let available = file::read(self.root, c"cgroup.controllers").unwrap_or_default();
        let all = available.split_whitespace().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
        for ancestor in std::iter::once(CgroupPath::default()).chain(path.parent().prefixes()) {
            let name = self.name(&ancestor, "cgroup.subtree_control")?;
            if file::write(self.root, &name, &all).is_err() {
                // One that cannot be enabled fails the whole line.
                let _: Vec<_> = all.split(' ').map(|one| file::write(self.root, &name, one)).collect();
            }
        }
        self.check_type()
    }

    /// Below a threaded cgroup, or one with processes and threads of its own, only some controllers work.
    fn check_type(&self) -> Result<()> {
        let name = self.name(&self.group.path, "cgroup.type")?;
        let kind = file::read(self.root, &name).unwrap_or_default();
        let kind = kind.trim();
        if !matches!(kind, "domain invalid" | "threaded" | "domain threaded") {
            return Ok(());
        }
        let domain =
            |write: &&Write| matches!(write.controller.as_str(), "memory" | "io" | "hugetlb" | "rdma" | "misc");
        if let Some(write) = self.group.writes.iter().find(domain) {
            let (field, directory) = (&write.field, absolute(&self.group.directory()));
            bail!(field!("{field}"; "{directory} is {kind}, where controller {} cannot be used", write.controller));
        }
        if kind == "domain invalid" {
            file::write(self.root, &name, "threaded").context("cgroup.type")?;
        }
        Ok(())
    }

    /// `memory.checkBeforeUpdate`: v1 refuses a limit below what is in use by itself, v2 would start to kill.
    fn check_usage(&self, limit: i64) -> Result<()> {
        let name = self.name(&self.group.path, "memory.current")?;
        let Ok(usage) = file::read(self.root, &name) else { return Ok(()) };
        if usage.trim().parse::<i64>().is_ok_and(|usage| limit > 0 && limit <= usage) {
            bail!(field!("linux.resources.memory.limit"; "{limit} is not above the current usage, {}", usage.trim()));
        }
        Ok(())
    }

    /// All values, each file opened once for what is written to it in a row. What is invalid as long as another value
    /// is old (a limit above the old limit of memory and swap, a period that makes the old quota too large) is tried
    /// again at the end; in a new cgroup nothing is.
    fn write_all(&self) -> Result<()> {
        let mut again = Vec::new();
        let mut open: Option<(&str, OwnedFd)> = None;
        for write in &self.group.writes {
            if open.as_ref().is_none_or(|(name, _)| *name != write.file) {
                open = self.open(write)?.map(|file| (write.file.as_str(), file));
            }
            let Some((_, file)) = &open else { continue };
            match cgroup::write(file.as_fd(), write.value.as_bytes()) {
                Err(error) if error.errno == Errno::EINVAL => again.push(write),
                Err(error) if is_device_rule(write) && file::is_forbidden(&error) && (self.rootless)() => {}
                result => result.map_err(|error| refused(write, &write.file, &write.value, &error))?,
            }
        }
        again.into_iter().try_for_each(|write| {
            file::write(self.root, &self.name(&self.group.path, &write.file)?, &write.value)
                .map_err(|error| refused(write, &write.file, &write.value, &error).into())
        })
    }

    /// The file of a write, or nothing where it needs none (any more).
    fn open(&self, write: &Write) -> Result<Option<OwnedFd>> {
        let error = match cgroup::open_write(self.root, &self.name(&self.group.path, &write.file)?) {
            Ok(file) => return Ok(Some(file)),
            Err(error) => error,
        };
        match &write.missing {
            _ if error.errno != Errno::ENOENT => {
                let tolerable = is_device_rule(write) && file::is_forbidden(&error) && (self.rootless)();
                if tolerable { Ok(None) } else { Err(refused(write, &write.file, &write.value, &error).into()) }
            }
            Missing::Ignore => Ok(None),
            Missing::Instead(name, value) => match file::write(self.root, &self.name(&self.group.path, name)?, value) {
                Ok(()) => Ok(None),
                Err(error) => Err(self.unavailable(write, name, value, &error)),
            },
            Missing::Refuse => Err(self.unavailable(write, &write.file, &write.value, &error)),
        }
    }

    /// The error for a missing file: most often the whole controller is missing.
    fn unavailable(&self, write: &Write, name: &str, value: &str, error: &SysError) -> anyhow::Error {
        let list = self.name(&self.group.path, "cgroup.controllers").and_then(|list| file::read(self.root, &list));
        let core = write.controller == "cgroup";
        match list {
            Ok(list) if error.errno == Errno::ENOENT && !core && !has_word(&list, &write.controller) => {
                write.not_available()
            }
            _ => refused(write, name, value, error).into(),
        }
    }

    /// Puts the device filter on a v2 cgroup. One that was there before gets rid of older filters, since all would have
    /// to agree.
    fn attach(&self, program: &[bpf::EbpfInstruction], author: Author, is_new: bool) -> Result<()> {
        match self.attach_filter(program, is_new) {
            Err(error) if file::is_forbidden(&error) && (self.rootless)() => Ok(()),
            Err(error) if author == Author::Runtime => Err(error).context(
                field!("linux.resources.devices"; "the device filter, which is the runtime's own for every container"),
            ),
            result => result.context(field!("linux.resources.devices")),
        }
    }

    fn attach_filter(&self, program: &[bpf::EbpfInstruction], is_new: bool) -> sys::Result<()> {
        if program.is_empty() && is_new {
            return Ok(());
        }
        let directory = cgroup::open_location(self.root, &self.name(&self.group.path, "")?)?;
        let old = if is_new { None } else { Some(bpf::device_filters(directory.as_fd())?) };
        if !program.is_empty() {
            let filter = bpf::load_device_filter(program)?;
            bpf::attach_device_filter(directory.as_fd(), filter.as_fd())?;
        }
        for id in old.iter().flat_map(|old| old.ids()) {
            bpf::detach_device_filter(directory.as_fd(), bpf::filter_by_id(*id)?.as_fd())?;
        }
        Ok(())
    }

    /// Gives the cgroup to the container's user: the directory and the files that the kernel names for it (cgroups(7),
    /// "Delegation"; config-linux.md, "Cgroup ownership").
    pub(super) fn delegate(&self, owner: u32) -> Result<()> {
        let files = file::read_to_end(cgroup::here(), c"/sys/kernel/cgroup/delegate")
            .unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned());
        for name in std::iter::once("").chain(files.lines()) {
            match self.give(name, owner) {
                Err(error) if error.errno == Errno::ENOENT => {}
                result => result.with_context(|| field!("linux.cgroupsPath"; "owner of {name:?}"))?,
            }
        }
        Ok(())
    }

    fn give(&self, name: &str, owner: u32) -> sys::Result<()> {
        let name: &CStr = &self.name(&self.group.path, name)?;
        cgroup::give_to(self.root, name, owner)
    }
}
