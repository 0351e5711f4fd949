//! What an error says about itself to a program: the additional keys of its line in the JSON log.
//!
//! All of it is derived from the chain of contexts, which is the message: a context that is a place in config.json gives
//! `field` and `spec`, a failed system call gives `call` and `errno`. A key is left out where nothing is known.

use std::path::Path;

use anyhow::Error;

use crate::plan::StepError;
use crate::sys::{Errno, Fault, SysError};

/// The keys, in the order of the documentation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    code: &'static str,
    phase: String,
    field: Option<String>,
    spec: Option<&'static str>,
    errno: Option<String>,
    call: Option<String>,
    path: Option<String>,
    hint: Option<&'static str>,
}

impl Facts {
    /// What is known of an error that ended the command `phase`.
    pub fn of(phase: &str, error: &Error) -> Self {
        let place = error.chain().find_map(|cause| place_in_config(&cause.to_string()));
        let failed = error.chain().find_map(failed_call);
        let errno = failed.as_ref().map(|failed| failed.errno);
        let code = code(phase, &format!("{error:#}"), place.as_deref(), errno);
        Self {
            code,
            phase: phase.to_owned(),
            field: place.as_deref().map(pointer),
            spec: place.as_deref().and_then(section),
            errno: errno.map(|errno| format!("{errno:?}")),
            path: failed.as_ref().and_then(|failed| failed.path.clone()).or_else(|| path_of(error)),
            call: failed.map(|failed| failed.call),
            hint: hint(code, place.as_deref(), errno),
        }
    }

    pub fn entries(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("code", Some(self.code)),
            ("phase", Some(self.phase.as_str())),
            ("field", self.field.as_deref()),
            ("spec", self.spec),
            ("errno", self.errno.as_deref()),
            ("call", self.call.as_deref()),
            ("path", self.path.as_deref()),
            ("hint", self.hint),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value?)))
    }
}

struct FailedCall {
    call: String,
    errno: Errno,
    path: Option<String>,
}

fn failed_call(cause: &(dyn std::error::Error + 'static)) -> Option<FailedCall> {
    if let Some(fault) = cause.downcast_ref::<Fault>() {
        let path = fault.detail.to_string();
        let path = Path::new(&path).is_absolute().then_some(path);
        return Some(FailedCall { call: fault.call.to_owned(), errno: fault.errno, path });
    }
    if let Some(step) = cause.downcast_ref::<StepError>() {
        let path = step.detail.to_string();
        let path = Path::new(&path).is_absolute().then_some(path);
        return Some(FailedCall { call: step.call.clone(), errno: step.errno, path });
    }
    let error = cause.downcast_ref::<SysError>()?;
    Some(FailedCall { call: error.call.to_owned(), errno: error.errno, path: None })
}

/// The first absolute path in quotes, as `{:?}` writes one.
fn path_of(error: &Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let text = cause.to_string();
        let (_, quoted) = text.split_once("\"/")?;
        let (path, _) = quoted.split_once('"')?;
        Some(format!("/{path}"))
    })
}

/// The class of an error, stable for programs; messages may be reworded, codes not.
fn code(phase: &str, message: &str, place: Option<&str>, errno: Option<Errno>) -> &'static str {
    const BY_WORDS: [(&str, &str); 8] = [
        ("executable file not found", "executable-not-found"),
        ("container with given id already exists", "exists"),
        ("container does not exist", "does-not-exist"),
        ("container not running", "not-running"),
        ("that is not stopped", "wrong-status"),
        ("cannot start", "wrong-status"),
        ("container is paused", "paused"),
        ("invalid id format", "invalid-id"),
    ];
    let message = message.to_lowercase();
    match BY_WORDS.iter().find(|(words, _)| message.contains(words)) {
        Some((_, code)) => code,
        None if phase == "usage" => "usage",
        None if errno == Some(Errno::ENOENT) && place == Some("process.args[0]") => "executable-not-found",
        None if place.is_some() => "config",
        None if errno.is_some() => "system",
        None => "error",
    }
}

fn hint(code: &str, place: Option<&str>, errno: Option<Errno>) -> Option<&'static str> {
    let place = place.unwrap_or_default();
    let forbidden = matches!(errno, Some(Errno::EPERM | Errno::EACCES));
    match code {
        "exists" => Some("delete the container first, or choose another id"),
        "does-not-exist" => Some("`ocirt list` shows the ids; --root must be the one given to create"),
        "executable-not-found" => {
            Some("process.args[0] is looked up inside the root filesystem, along process.env's PATH")
        }
        _ if errno == Some(Errno::ENOSYS) => Some("ocirt needs Linux 5.14 or newer"),
        _ if forbidden && place.starts_with("process.oomScoreAdj") => Some("a lower value needs CAP_SYS_RESOURCE"),
        _ if forbidden && place.starts_with("process.rlimits") => Some("a higher limit needs CAP_SYS_RESOURCE"),
        _ if errno == Some(Errno::EROFS) && place.starts_with("linux.resources") => {
            Some("the cgroup filesystem must be mounted read-write")
        }
        _ => None,
    }
}

/// The keys that config.json has at its top.
const TOP: [&str; 9] =
    ["ociVersion", "root", "mounts", "process", "hostname", "domainname", "hooks", "annotations", "linux"];

/// Objects whose keys are the user's, and may hold dots.
const MAPS: [&str; 5] =
    ["annotations", "linux.sysctl", "linux.netDevices", "linux.resources.unified", "linux.resources.rdma"];

/// The place in config.json that a context begins with, as `linux.namespaces[2]`.
pub fn place_in_config(context: &str) -> Option<String> {
    let place = context.split(": ").next().unwrap_or(context);
    let top = place.split(['.', '[']).next()?;
    let is_place = TOP.contains(&top) && !place.contains([' ', '"']);
    is_place.then(|| place.to_owned())
}

/// A place as a JSON pointer (RFC 6901): `linux.namespaces[2]` is `/linux/namespaces/2`.
fn pointer(place: &str) -> String {
    let (path, key) = match MAPS.iter().find_map(|map| Some((*map, place.strip_prefix(map)?.strip_prefix('.')?))) {
        Some((map, key)) => (map, Some(key)),
        None => (place, None),
    };
    let segments = path.split(['.', '[']).map(|segment| segment.trim_end_matches(']'));
    segments.chain(key).map(|segment| format!("/{}", segment.replace('~', "~0").replace('/', "~1"))).collect()
}

/// The section of runtime-spec that a place belongs to: the longest prefix counts.
fn section(place: &str) -> Option<&'static str> {
    let matching = SECTIONS.iter().filter(|(prefix, _)| {
        place.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    });
    matching.max_by_key(|(prefix, _)| prefix.len()).map(|(_, section)| *section)
}

const SECTIONS: [(&str, &str); 38] = [
    ("ociVersion", "config.md#specification-version"),
    ("root", "config.md#root"),
    ("mounts", "config.md#mounts"),
    ("process", "config.md#process"),
    ("process.user", "config.md#user"),
    ("process.rlimits", "config.md#posix-process"),
    ("process.apparmorProfile", "config.md#linux-process"),
    ("process.capabilities", "config.md#linux-process"),
    ("process.ioPriority", "config.md#linux-process"),
    ("process.oomScoreAdj", "config.md#linux-process"),
    ("process.scheduler", "config.md#linux-process"),
    ("process.selinuxLabel", "config.md#linux-process"),
    ("hostname", "config.md#hostname"),
    ("domainname", "config.md#domainname"),
    ("hooks", "config.md#posix-platform-hooks"),
    ("annotations", "config.md#annotations"),
    ("linux", "config-linux.md"),
    ("linux.namespaces", "config-linux.md#namespaces"),
    ("linux.uidMappings", "config-linux.md#user-namespace-mappings"),
    ("linux.gidMappings", "config-linux.md#user-namespace-mappings"),
    ("linux.timeOffsets", "config-linux.md#offset-for-time-namespace"),
    ("linux.devices", "config-linux.md#devices"),
    ("linux.netDevices", "config-linux.md#network-devices"),
    ("linux.cgroupsPath", "config-linux.md#cgroups-path"),
    ("linux.resources", "config-linux.md#control-groups"),
    ("linux.resources.devices", "config-linux.md#allowed-device-list"),
    ("linux.resources.memory", "config-linux.md#memory"),
    ("linux.resources.cpu", "config-linux.md#cpu"),
    ("linux.resources.pids", "config-linux.md#pids"),
    ("linux.intelRdt", "config-linux.md#intelrdt"),
    ("linux.sysctl", "config-linux.md#sysctl"),
    ("linux.seccomp", "config-linux.md#seccomp"),
    ("linux.rootfsPropagation", "config-linux.md#rootfs-mount-propagation"),
    ("linux.maskedPaths", "config-linux.md#masked-paths"),
    ("linux.readonlyPaths", "config-linux.md#readonly-paths"),
    ("linux.mountLabel", "config-linux.md#mount-label"),
    ("linux.personality", "config-linux.md#personality"),
    ("linux.memoryPolicy", "config-linux.md#memory-policy"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_place_is_told_from_prose() {
        assert_eq!(place_in_config("mounts[3]").as_deref(), Some("mounts[3]"));
        assert_eq!(
            place_in_config("linux.namespaces[2]: duplicate namespace network").as_deref(),
            Some("linux.namespaces[2]")
        );
        assert_eq!(place_in_config("root.path: not a directory").as_deref(), Some("root.path"));
        for prose in ["process 12 is gone", "create web1", "linuxulator", "--root: /x", ""] {
            assert_eq!(place_in_config(prose), None, "{prose}");
        }
    }

    #[test]
    fn a_place_becomes_a_json_pointer() {
        assert_eq!(pointer("mounts[3]"), "/mounts/3");
        assert_eq!(pointer("linux.resources.memory.limit"), "/linux/resources/memory/limit");
        assert_eq!(pointer("linux.sysctl.net.ipv4.ip_forward"), "/linux/sysctl/net.ipv4.ip_forward");
        assert_eq!(pointer("annotations.a/b~c.d"), "/annotations/a~1b~0c.d");
        assert_eq!(pointer("linux.sysctl"), "/linux/sysctl");
    }

    #[test]
    fn the_longest_prefix_names_the_section() {
        assert_eq!(section("process.user.uid"), Some("config.md#user"));
        assert_eq!(section("process.args[0]"), Some("config.md#process"));
        assert_eq!(section("linux.resources.unified.a"), Some("config-linux.md#control-groups"));
        assert_eq!(section("processes"), None);
    }

    #[test]
    fn every_known_key_has_a_section() {
        assert!(TOP.iter().all(|key| section(key).is_some()));
    }

    #[test]
    fn codes_follow_the_words_that_engines_match() {
        let of = |text: &str| Facts::of("start", &anyhow!("{text}")).code;
        assert_eq!(of("start web1: container does not exist"), "does-not-exist");
        assert_eq!(of("container with given ID already exists"), "exists");
        assert_eq!(of("kill web1: container not running"), "not-running");
        assert_eq!(of("exec /x: no such file: executable file not found in $PATH"), "executable-not-found");
        assert_eq!(of("linux.sysctl.a: no"), "config");
        assert_eq!(of("else"), "error");
    }

    #[test]
    fn a_fault_tells_call_errno_and_path() {
        let fault = Fault::new("openat2", Errno::ELOOP, "/proc/sys");
        let facts = Facts::of("create", &Error::from(fault).context("linux.readonlyPaths[0]"));
        let entries: Vec<_> = facts.entries().collect();
        assert!(entries.contains(&("call", "openat2")));
        assert!(entries.contains(&("errno", "ELOOP")));
        assert!(entries.contains(&("path", "/proc/sys")));
        assert!(entries.contains(&("field", "/linux/readonlyPaths/0")));
        assert!(!entries.iter().any(|(key, _)| *key == "hint"));
    }

    #[test]
    fn a_known_remedy_is_told() {
        let error = Error::from(SysError::new("write", Errno::EACCES)).context("process.oomScoreAdj");
        assert_eq!(Facts::of("create", &error).hint, Some("a lower value needs CAP_SYS_RESOURCE"));
        let error = Error::from(SysError::new("exec", Errno::ENOENT)).context("process.args[0]");
        assert_eq!(Facts::of("start", &error).code, "executable-not-found");
        let error = anyhow!("console socket \"/run/s\": connect: refused");
        assert_eq!(Facts::of("create", &error).path.as_deref(), Some("/run/s"));
    }
}
