//! What is written for `linux.resources`, as data: which file of which controller gets which value, and which field of
//! config.json asked for it. `v1` and `v2` translate; this is what they have in common.

use anyhow::{Result, bail, ensure};
use oci_spec::runtime::{LinuxResources, LinuxThrottleDevice, LinuxWeightDevice};

use crate::container::cgroup::host::file;
use crate::error::{Field, field};
use crate::sys::SysError;

/// One value for one control file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// The field of config.json that asks for it.
    pub field: String,
    pub controller: String,
    pub file: String,
    pub value: String,
    /// What to do where the file does not exist.
    pub missing: Missing,
    pub author: Author,
}

/// Who wants something written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Author {
    /// config.json, by the write's field.
    Config,
    /// The runtime, for every container; the field is the one that could have said otherwise.
    Runtime,
}

impl Write {
    pub fn not_available(&self) -> anyhow::Error {
        let what = format!("cgroup controller {} is not available", self.controller);
        Field::new(self.field.clone()).is(what).into()
    }
}

/// What a missing control file means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Missing {
    /// The limit cannot be set: an error.
    Refuse,
    /// There is nothing to limit.
    Ignore,
    /// Another file has the same purpose: its name and the value it wants.
    Instead(String, String),
}

/// The writes of one configuration, in the order in which they are to be made, and what the user should know.
#[derive(Default, Debug)]
pub struct Writes {
    pub list: Vec<Write>,
    pub warnings: Vec<String>,
}

impl Writes {
    pub fn push(&mut self, field: &str, file: &str, value: impl ToString) -> &mut Self {
        self.push_or(field, file, value, Missing::Refuse)
    }

    pub fn push_or(&mut self, field: &str, file: &str, value: impl ToString, missing: Missing) -> &mut Self {
        self.list.push(Write {
            field: format!("linux.resources.{field}"),
            controller: controller_of(file).to_owned(),
            file: file.to_owned(),
            value: value.to_string(),
            missing,
            author: Author::Config,
        });
        self
    }

    /// Notes that kernel memory limits do nothing: Linux 5.4 deprecated and 5.16 removed them; runc warns as well.
    pub fn warn_of_kernel_memory(&mut self, resources: &LinuxResources) {
        let Some(memory) = resources.memory() else { return };
        #[allow(deprecated)]
        let kernel = memory.kernel().is_some();
        for (field, is_set) in [("kernel", kernel), ("kernelTCP", memory.kernel_tcp().is_some())] {
            if is_set {
                self.warnings
                    .push(format!("linux.resources.memory.{field}: ignored: the kernel has no such limit anymore"));
            }
        }
    }
}

/// The controller whose file it is: the name up to the first dot. `cgroup` is the core, and always there.
pub fn controller_of(file: &str) -> &str {
    file.split('.').next().unwrap_or(file)
}

/// `Some` of what is neither absent nor 0, which stands for "unset" in most fields, as in runc.
pub fn set<T: PartialEq + Default>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

/// `MAJOR:MINOR` of a block device.
pub fn device_number(field: &str, major: i64, minor: i64) -> Result<String> {
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) => Ok(format!("{major}:{minor}")),
        _ => bail!(field!("linux.resources.{field}"; "{major}:{minor} is not a device number")),
    }
}

/// The four lists of throttled devices: field of blockIO, file on v1, key in io.max on v2, devices.
pub fn throttles(
    resources: &LinuxResources,
) -> impl Iterator<Item = (&'static str, &'static str, &'static str, &[LinuxThrottleDevice])> {
    let io = resources.block_io().as_ref();
    [
        (
            "throttleReadBpsDevice",
            "blkio.throttle.read_bps_device",
            "rbps",
            io.and_then(|io| io.throttle_read_bps_device().as_deref()),
        ),
        (
            "throttleWriteBpsDevice",
            "blkio.throttle.write_bps_device",
            "wbps",
            io.and_then(|io| io.throttle_write_bps_device().as_deref()),
        ),
        (
            "throttleReadIOPSDevice",
            "blkio.throttle.read_iops_device",
            "riops",
            io.and_then(|io| io.throttle_read_iops_device().as_deref()),
        ),
        (
            "throttleWriteIOPSDevice",
            "blkio.throttle.write_iops_device",
            "wiops",
            io.and_then(|io| io.throttle_write_iops_device().as_deref()),
        ),
    ]
    .into_iter()
    .filter_map(|(field, file, key, devices)| Some((field, file, key, devices?)))
}

/// `blockIO.weightDevice`, each with its field's name.
pub fn weight_devices(resources: &LinuxResources) -> impl Iterator<Item = (String, &LinuxWeightDevice)> {
    let devices = resources.block_io().as_ref().and_then(|io| io.weight_device().as_deref()).unwrap_or_default();
    devices.iter().enumerate().map(|(index, device)| (format!("blockIO.weightDevice[{index}]"), device))
}

/// The page sizes of `hugepageLimits` with their field's name and limit: `2MB`, `1GB`, `64KB`.
pub fn hugepage_limits(resources: &LinuxResources) -> Result<Vec<(String, &str, i64)>> {
    let limits = resources.hugepage_limits().as_deref().unwrap_or_default();
    let named = limits.iter().enumerate().map(|(index, limit)| {
        let (field, size) = (format!("hugepageLimits[{index}]"), limit.page_size().as_str());
        let digits = size.strip_suffix("KB").or(size.strip_suffix("MB")).or(size.strip_suffix("GB"));
        if !digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())) {
            bail!(field!("linux.resources.{field}.pageSize"; "{size:?} is not a size such as 2MB, 1GB or 64KB"));
        }
        ensure!(limit.limit() >= 0, field!("linux.resources.{field}.limit"; "{} is negative", limit.limit()));
        Ok((field, size, limit.limit()))
    });
    named.collect()
}

/// `rdma.max` lines, the same on v1 and v2: `mlx4_0 hca_handle=2 hca_object=2000`.
pub fn rdma(writes: &mut Writes, resources: &LinuxResources) -> Result<()> {
    let Some(devices) = resources.rdma() else { return Ok(()) };
    let mut names: Vec<&String> = devices.keys().collect();
    names.sort_unstable();
    for name in names {
        let Some(limits) = devices.get(name) else { continue };
        if name.is_empty() || name.contains([' ', '\n']) {
            bail!(field!("linux.resources.rdma"; "{name:?} is not the name of a device"));
        }
        let handles = limits.hca_handles().map(|count| format!(" hca_handle={count}"));
        let objects = limits.hca_objects().map(|count| format!(" hca_object={count}"));
        let field = format!("rdma[{name:?}]");
        ensure!(
            handles.is_some() || objects.is_some(),
            field!("linux.resources.{field}"; "neither hcaHandles nor hcaObjects")
        );
        writes.push(
            &field,
            "rdma.max",
            format!("{name}{}{}", handles.unwrap_or_default(), objects.unwrap_or_default()),
        );
    }
    Ok(())
}

/// The value of `pids.max`. 0 is written as 1, as runc does: init itself fits, and nothing can be forked. (With 0,
/// CLONE_INTO_CGROUP would refuse init.)
pub fn pids_max(limit: i64) -> String {
    match limit {
        ..=-1 => "max".to_owned(),
        0 => "1".to_owned(),
        limit => limit.to_string(),
    }
}

/// What is said of a rule that config.json does not ask for.
pub const RUNTIMES: &str = " (the rule is the runtime's own, for every container; a cgroup above forbids it)";

pub fn is_device_rule(write: &Write) -> bool {
    write.controller == "devices"
}

pub fn refused(write: &Write, name: &str, value: &str, error: &SysError) -> Field {
    let author = if write.author == Author::Runtime { RUNTIMES } else { "" };
    let what = format!("write {value:?} to {name}: {}{author}", file::reason(error.errno));
    Field::new(write.field.clone()).is(what).by(*error)
}

pub fn has_word(text: &str, word: &str) -> bool {
    text.split_whitespace().any(|found| found == word)
}
