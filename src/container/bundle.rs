//! A bundle: config.json read once and parsed, whatever of runtime-spec 1.x wrote it.
//!
//! The file is parsed straight into its types. Only if that fails, it is parsed as plain JSON, freed of what the
//! specification tells to ignore ([`repair`]) and converted again, now naming the field that is wrong.

pub mod capabilities;
mod document;
pub mod keys;
mod known;
mod place;
mod required;
mod words;

use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail};
use oci_spec::runtime::{LinuxResources, Mount, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{field, io_error};
use crate::sys::{Errno, Fault, SysError, timed_io};
use document::Document;
use keys::UnknownKey;

/// Room for most configurations, in bytes.
const ROOM: usize = 32 * 1024;

/// A parsed config.json, and where it came from.
#[derive(Clone, PartialEq, Debug)]
pub struct Bundle {
    /// The bundle directory, absolute, without symbolic links.
    pub directory: PathBuf,
    pub spec: Spec,
    /// What was ignored, one line each, for the log.
    pub warnings: Vec<String>,
}

impl Bundle {
    /// Whether the container's program gets a terminal: `process.terminal`.
    pub fn has_terminal(&self) -> bool {
        self.spec.process().as_ref().is_some_and(|process| process.terminal() == Some(true))
    }
}

/// A configuration that is not parsed yet.
pub struct Unparsed {
    /// The bundle directory, absolute, without symbolic links.
    pub directory: PathBuf,
    pub text: Vec<u8>,
    /// What messages call the file.
    name: String,
}

/// Loads the bundle in `directory`, from its config.json or from the file `config`.
pub fn load(directory: &Path, config: Option<&Path>) -> Result<Bundle> {
    open(directory, config)?.parse()
}

impl Unparsed {
    pub fn parse(self) -> Result<Bundle> {
        let (spec, warnings) = parse(&self.text).context(self.name)?;
        Ok(Bundle { directory: self.directory, spec, warnings })
    }
}

/// Reads the configuration of the bundle in `directory`.
pub fn open(directory: &Path, config: Option<&Path>) -> Result<Unparsed> {
    // A missing bundle has the wording that engines know of runc, which changes into it.
    let directory = std::fs::canonicalize(directory)
        .map_err(|error| io_error("chdir", &error))
        .with_context(|| format!("bundle {}", directory.display()))?;
    if !directory.is_dir() {
        return Err(SysError::new("chdir", Errno::ENOTDIR)).with_context(|| format!("bundle {}", directory.display()));
    }
    let (path, name) = match config {
        Some(path) => (path.to_owned(), path.display().to_string()),
        None => (directory.join("config.json"), "config.json".to_owned()),
    };
    let text = timed_io::read(&path, ROOM, usize::MAX).map_err(|error| unreadable(&name, error))?;
    Ok(Unparsed { directory, text, name })
}

/// A file that a flag names, at most `limit` bytes of it. One whose writer never comes, or stops, is an error.
pub fn read(path: &Path, limit: usize) -> Result<Vec<u8>> {
    Ok(timed_io::read(path, ROOM, limit)?)
}

fn unreadable(name: &str, error: Fault) -> Error {
    match error.errno {
        Errno::ENOENT => anyhow!("JSON specification file {name} not found"),
        _ => Error::from(error).context(name.to_owned()),
    }
}

/// The configuration that `text` holds, and a warning for everything that was ignored.
///
/// Unknown keys are ignored (config.md, extensibility), with a warning if they are nearly known ones, and so is `null`,
/// which Go writes for an absent list. A wrong type or an unknown value is an error that names the field; broken JSON one
/// that names line and column.
pub fn parse(text: &[u8]) -> Result<(Spec, Vec<String>)> {
    let mut warnings = Vec::new();
    let mut spec = match serde_json::from_slice::<Spec>(text) {
        Ok(spec) if says_it_all(&spec) && capabilities::are_exact(text, spec.process().as_ref()) => spec,
        _ => parse_slowly(text, &mut warnings)?,
    };
    let unknown = keys::unknown(text);
    warnings.extend(unknown.iter().filter_map(UnknownKey::warning));
    check_version(spec.version(), &unknown, &mut warnings)?;
    drop_empty_strings(&mut spec);
    Ok((spec, warnings))
}

/// A `linux.resources` alone, as `update` is given it; the same things are ignored.
pub fn parse_resources(text: &[u8]) -> Result<LinuxResources> {
    let mut resources: Value = serde_json::from_slice(text).map_err(|error| syntax_error(&error))?;
    if !resources.is_object() {
        bail!("not a JSON object");
    }
    repair::drop_nulls(&mut resources);
    required::check(&resources, "", &required::OF_RESOURCES, Document::Part)?;
    repair::resources(&mut resources);
    from_text(&resources.to_string(), Document::Part)
}

/// The process that `text`, a process.json, holds, and a warning for everything that was ignored. It is read as the
/// section of config.json that it looks like; errors name its fields as `process.user.uid`.
pub fn parse_process(text: &[u8]) -> Result<(Process, Vec<String>)> {
    if let Ok(mut process) = serde_json::from_slice::<Process>(text)
        && has_limits(&process)
        && capabilities::are_exact(text, Some(&process))
    {
        drop_empty_labels(&mut process);
        return Ok((process, keys::unknown_of_process(text).iter().filter_map(UnknownKey::warning).collect()));
    }
    let process: Value = serde_json::from_slice(text).map_err(|error| syntax_error(&error))?;
    if !process.is_object() {
        bail!("not a JSON object");
    }
    let config = serde_json::json!({ "ociVersion": "1.0.0", "process": process, "linux": {} });
    let (spec, warnings) = parse(config.to_string().as_bytes())?;
    let process = spec.process().clone().context(field!("process"; "missing"))?;
    Ok((process, warnings))
}

/// A list of mounts alone, as `mounts add` is given it.
pub fn parse_mounts(text: &[u8]) -> Result<Vec<Mount>> {
    let mut mounts: Value = serde_json::from_slice(text).map_err(|error| syntax_error(&error))?;
    if !mounts.is_array() {
        bail!("not a JSON array of mounts");
    }
    repair::drop_nulls(&mut mounts);
    from_text(&mounts.to_string(), Document::Part)
}

/// A document of this runtime's own, in which no key is unknown; an error names the field.
pub fn parse_own<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    let value: Value = serde_json::from_slice(text).map_err(|error| syntax_error(&error))?;
    from_text(&value.to_string(), Document::Part)
}

/// An empty string is Go's way to leave a value out: nobody below has to ask again.
fn drop_empty_strings(spec: &mut Spec) {
    spec.set_hostname(spec.hostname().clone().filter(|name| !name.is_empty()));
    spec.set_domainname(spec.domainname().clone().filter(|name| !name.is_empty()));
    if let Some(process) = spec.process_mut() {
        drop_empty_labels(process);
    }
    let Some(linux) = spec.linux_mut() else { return };
    linux.set_cgroups_path(linux.cgroups_path().clone().filter(|path| !path.as_os_str().is_empty()));
    linux.set_rootfs_propagation(linux.rootfs_propagation().clone().filter(|mode| !mode.is_empty()));
    linux.set_mount_label(linux.mount_label().clone().filter(|label| !label.is_empty()));
    for namespace in linux.namespaces_mut().iter_mut().flatten() {
        namespace.set_path(namespace.path().clone().filter(|path| !path.as_os_str().is_empty()));
    }
}

fn drop_empty_labels(process: &mut Process) {
    process.set_apparmor_profile(process.apparmor_profile().clone().filter(|profile| !profile.is_empty()));
    process.set_selinux_label(process.selinux_label().clone().filter(|label| !label.is_empty()));
}

/// False where the types cannot tell two configurations apart: without `linux` this may be another platform's container,
/// of which the types know only some, and a number of 0 is written as 0 or is missing.
fn says_it_all(spec: &Spec) -> bool {
    let Some(linux) = spec.linux() else { return false };
    let Some(resources) = linux.resources() else { return true };
    let pages = resources.hugepage_limits().as_deref().unwrap_or_default();
    resources.pids().as_ref().is_none_or(|pids| pids.limit() != 0)
        && pages.iter().all(|limit| limit.limit() != 0)
        // Hardly anybody has one, and minor numbers are 0 more often than not.
        && resources.block_io().is_none()
        && spec.process().as_ref().is_none_or(has_limits)
}

fn has_limits(process: &Process) -> bool {
    process.rlimits().iter().flatten().all(|limit| limit.soft() != 0 && limit.hard() != 0)
}

fn parse_slowly(text: &[u8], warnings: &mut Vec<String>) -> Result<Spec> {
    let mut config: Value = serde_json::from_slice(text).map_err(|error| syntax_error(&error))?;
    if !config.is_object() {
        bail!("not a JSON object");
    }
    repair::drop_nulls(&mut config);
    refuse_other_platforms(&config)?;
    for (section, place, lists) in required::SECTIONS {
        config.pointer(section).map_or(Ok(()), |section| required::check(section, place, lists, Document::Config))?;
    }
    repair::all(&mut config, warnings);
    // As text again, since the types know the byte of an error, and a value has no bytes.
    from_text(&config.to_string(), Document::Config)
}

/// Text of one line as its type; an error names the field.
fn from_text<T: DeserializeOwned>(text: &str, document: Document) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let what = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
        // The text is JSON: what serde_json misses is one of an enumeration's names.
        let what = if what == "expected value" { "expected a name" } else { what };
        field_error(&place::of(text, error.column()), &words::plain(what), text, document)
    })
}

/// An error of the types, as `linux.resources.pids.limit: invalid type: …`.
fn field_error(place: &str, what: &str, text: &str, document: Document) -> Error {
    let missing = what.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    let missing = missing.map(|field| if place == "." { field.to_owned() } else { format!("{place}.{field}") });
    match (place, missing) {
        (_, Some(field)) => {
            let what = keys::missing(&keys::unknown(text.as_bytes()), &field);
            document.error(field, &what)
        }
        (".", None) => anyhow!("{what}"),
        _ => document.error(place.to_owned(), what),
    }
}

/// The sections of platforms that are not Linux, config.md, "Platform-specific configuration".
const OTHER_PLATFORMS: [&str; 5] = ["freebsd", "solaris", "vm", "windows", "zos"];

/// A configuration for another platform is refused; beside `linux`, its section is merely ignored.
fn refuse_other_platforms(config: &Value) -> Result<()> {
    match OTHER_PLATFORMS.iter().find(|platform| config.get(platform).is_some()) {
        Some(platform) if config.get("linux").is_none() => {
            Err(anyhow!("a container of another platform, not of Linux").context(*platform))
        }
        _ => Ok(()),
    }
}

/// serde_json ends its message with the position; people read it first.
fn syntax_error(error: &serde_json::Error) -> Error {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let what = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
    anyhow!("line {line} column {column}: {what}")
}

/// config.md, "Specification version": within a major version everything is compatible, so every 1.x is taken. What
/// came before 1.0.0 is read as if it were 1.0.0, as the other runtimes do.
fn check_version(version: &str, unknown: &[UnknownKey], warnings: &mut Vec<String>) -> Result<()> {
    let refuse = |what: &str| Err(anyhow!("{what}").context(field!("ociVersion")));
    if version.is_empty() {
        return refuse(&keys::missing(unknown, "ociVersion"));
    }
    match major(version) {
        Some(1) => Ok(()),
        Some(0) => {
            warnings.push(format!("ociVersion {version} is older than 1.0.0, and is read as 1.0.0"));
            Ok(())
        }
        Some(_) => refuse(&format!("unsupported version {version}, must be 1.x")),
        None => refuse(&format!("{version:?} is not a semantic version")),
    }
}

/// The first number of a version of the form semver.org 2.0.0 describes.
fn major(version: &str) -> Option<u64> {
    let identifiers = |text: &str| {
        text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
    };
    let (version, build) = version.split_once('+').map_or((version, None), |(v, build)| (v, Some(build)));
    let (version, pre) = version.split_once('-').map_or((version, None), |(v, pre)| (v, Some(pre)));
    if !build.into_iter().chain(pre).all(identifiers) {
        return None;
    }
    let number = |text: &str| (text == "0" || !text.starts_with(['0', '+'])).then(|| text.parse::<u64>().ok())?;
    let mut numbers = version.split('.').map(number);
    let (major, minor, patch) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let _ = (minor, patch);
    numbers.next().is_none().then_some(major)
}

/// Makes what runtime-spec 1.3.0 allows acceptable to the types.
mod repair {
    use super::{OTHER_PLATFORMS, Value, capabilities};

    pub fn all(config: &mut Value, warnings: &mut Vec<String>) {
        if let Some(config) = config.as_object_mut() {
            config.retain(|key, _| !OTHER_PLATFORMS.contains(&key.as_str()));
        }
        if let Some(process) = config.get_mut("process").and_then(Value::as_object_mut) {
            process.entry("user").or_insert_with(|| Value::Object(serde_json::Map::new()));
        }
        capabilities::drop_unknown(config, warnings);
        scheduler_flags(config);
        if let Some(all) = config.pointer_mut("/linux/resources") {
            resources(all);
        }
    }

    /// `null` is how Go writes an absent list or object.
    pub fn drop_nulls(value: &mut Value) {
        match value {
            Value::Object(object) => {
                object.retain(|_, member| !member.is_null());
                object.values_mut().for_each(drop_nulls);
            }
            Value::Array(array) => array.iter_mut().for_each(drop_nulls),
            _ => {}
        }
    }

    /// Two of the types' names for scheduler flags are not those of config.md.
    fn scheduler_flags(config: &mut Value) {
        let Some(flags) = config.pointer_mut("/process/scheduler/flags").and_then(Value::as_array_mut) else { return };
        for flag in flags {
            match flag.as_str() {
                Some("SCHED_FLAG_RESET_ON_FORK") => *flag = "SCHED_RESET_ON_FORK".into(),
                Some("SCHED_FLAG_DL_OVERRUN") => *flag = "SCHED_FLAG_D_L_OVERRUN".into(),
                _ => {}
            }
        }
    }

    pub fn resources(resources: &mut Value) {
        let Some(resources) = resources.as_object_mut() else { return };
        let unlimited = |pids: &Value| pids.as_object().is_some_and(|pids| !pids.contains_key("limit"));
        if resources.get("pids").is_some_and(unlimited) {
            resources.remove("pids");
        }
        for rule in resources.get_mut("devices").and_then(Value::as_array_mut).into_iter().flatten() {
            // Go writes an empty string for an absent type, and it means every type.
            if let Some(rule) = rule.as_object_mut().filter(|rule| rule.get("type").is_some_and(|typ| typ == "")) {
                rule.remove("type");
            }
        }
        for limit in resources.get_mut("hugepageLimits").and_then(Value::as_array_mut).into_iter().flatten() {
            // An uint64 in the specification; the kernel's counter ends long before the type does.
            if let Some(limit) = limit.get_mut("limit").filter(|limit| limit.as_u64() > Some(i64::MAX as u64)) {
                *limit = i64::MAX.into();
            }
        }
    }
}

#[cfg(test)]
mod tests;
