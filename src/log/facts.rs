//! What an error says about itself to a program: the additional keys of its line in the JSON log.
//!
//! All of it is derived from the types in the chain of contexts, never from their words, of which a hook, an image or the
//! kernel may have chosen some: a [`Field`] gives `field` and `spec`, a failed system call gives `call` and `errno`, and
//! the command's own error types give `code`. A key is left out where nothing is known.

use anyhow::Error;

use crate::error::{About, Field};
use crate::plan::StepError;
use crate::sys::{Errno, Fault, SysError, Text};

/// The class of an error, stable for programs; messages may be reworded, codes not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    Exists,
    DoesNotExist,
    NotRunning,
    /// The container is in a status in which the command makes no sense.
    WrongStatus,
    Paused,
    InvalidId,
    ExecutableNotFound,
    /// The command line.
    Usage,
    /// A field of config.json.
    Config,
    /// A system call that no field asks for.
    System,
    Error,
}

impl Code {
    fn name(self) -> &'static str {
        match self {
            Self::Exists => "exists",
            Self::DoesNotExist => "does-not-exist",
            Self::NotRunning => "not-running",
            Self::WrongStatus => "wrong-status",
            Self::Paused => "paused",
            Self::InvalidId => "invalid-id",
            Self::ExecutableNotFound => "executable-not-found",
            Self::Usage => "usage",
            Self::Config => "config",
            Self::System => "system",
            Self::Error => "error",
        }
    }
}

/// The keys, in the order of the documentation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    code: Code,
    phase: String,
    field: Option<String>,
    spec: Option<&'static str>,
    errno: Option<String>,
    call: Option<String>,
    path: Option<String>,
    hint: Option<&'static str>,
}

impl Facts {
    /// What is known of an error that ended the command `phase`. `code` is its class, where it has one of its own.
    pub fn of(phase: &str, code: Option<Code>, error: &Error) -> Self {
        let place = place(error);
        let failed = Field::of(error).and_then(|field| FailedCall::of(field.call()?.into()));
        let failed = failed.or_else(|| error.chain().find_map(failed_call)).unwrap_or_default();
        let errno = failed.errno;
        let code = code.unwrap_or_else(|| class(phase, place, errno));
        let about = || About::of(error).map(|path| path.to_string_lossy().into_owned());
        Self {
            code,
            phase: phase.to_owned(),
            field: place.map(pointer),
            spec: place.and_then(section),
            errno: errno.map(|errno| format!("{errno:?}")),
            path: failed.path.or_else(about),
            call: failed.call,
            hint: hint(code, place, errno),
        }
    }

    pub fn entries(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("code", Some(self.code.name())),
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

/// The place in config.json that an error is about.
fn place(error: &Error) -> Option<&str> {
    let of_step = || error.downcast_ref().map(|step: &StepError| step.field.as_str()).filter(|field| !field.is_empty());
    Field::of(error).map(Field::place).or_else(of_step)
}

#[derive(Default)]
struct FailedCall {
    call: Option<String>,
    errno: Option<Errno>,
    path: Option<String>,
}

impl FailedCall {
    fn of(fault: Fault) -> Option<Self> {
        Self::new(fault.call, fault.errno, &fault.detail)
    }

    /// None: no call failed, but a program of others.
    fn new(call: &str, errno: Errno, detail: &Text) -> Option<Self> {
        if call.is_empty() {
            return None;
        }
        let path = detail.is_path().then(|| detail.to_string());
        Some(Self { call: Some(call.to_owned()), errno: Some(errno), path })
    }
}

fn failed_call(cause: &(dyn std::error::Error + 'static)) -> Option<FailedCall> {
    if let Some(step) = cause.downcast_ref::<StepError>() {
        return FailedCall::new(&step.call, step.errno, &step.detail);
    }
    if let Some(error) = cause.downcast_ref::<std::io::Error>() {
        let errno = error.raw_os_error().map(Errno::from_raw);
        return errno.map(|errno| FailedCall { errno: Some(errno), ..FailedCall::default() });
    }
    let error = cause.downcast_ref::<SysError>().copied().map(Fault::from);
    FailedCall::of(cause.downcast_ref::<Fault>().copied().or(error)?)
}

/// The class of an error that has none of its own.
fn class(phase: &str, place: Option<&str>, errno: Option<Errno>) -> Code {
    match (place, errno) {
        _ if phase == "usage" => Code::Usage,
        (Some("process.args[0]"), Some(Errno::ENOENT)) => Code::ExecutableNotFound,
        (Some(_), _) => Code::Config,
        (None, Some(_)) => Code::System,
        (None, None) => Code::Error,
    }
}

fn hint(code: Code, place: Option<&str>, errno: Option<Errno>) -> Option<&'static str> {
    let place = place.unwrap_or_default();
    let forbidden = matches!(errno, Some(Errno::EPERM | Errno::EACCES));
    match code {
        Code::Exists => Some("delete the container first, or choose another id"),
        Code::DoesNotExist => Some("`ocirt list` shows the ids; --root must be the one given to create"),
        Code::ExecutableNotFound if place == "process.args[0]" => {
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

/// Objects whose keys are the user's, and may hold dots.
const MAPS: [&str; 5] =
    ["annotations", "linux.sysctl", "linux.netDevices", "linux.resources.unified", "linux.resources.rdma"];

/// A place as a JSON pointer (RFC 6901): `linux.namespaces[2]` is `/linux/namespaces/2`, and so is a key of the user's that
/// comes behind a dot or quoted, `linux.resources.rdma["mlx4_0"]`.
fn pointer(place: &str) -> String {
    let (path, key) = match MAPS.iter().find_map(|map| Some((*map, place.strip_prefix(map)?))) {
        Some((map, rest)) => (map, rest.strip_prefix('.').map(str::to_owned).or_else(|| quoted(rest))),
        None => (place, None),
    };
    let segments = path.split(['.', '[']).map(|segment| segment.trim_end_matches(']'));
    let escaped = |segment: &str| format!("/{}", segment.replace('~', "~0").replace('/', "~1"));
    segments.map(escaped).chain(key.as_deref().map(escaped)).collect()
}

/// The key of `["key"]`.
fn quoted(text: &str) -> Option<String> {
    serde_json::from_str(text.strip_prefix('[')?.strip_suffix(']')?).ok()
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
    use std::path::Path;

    use super::*;

    #[test]
    fn the_page_has_every_key_and_code() {
        let page = include_str!("../../docs/log.md");
        let row = |name: &str| page.contains(&format!("\n| `{name}` | "));
        let facts = Facts {
            code: Code::Error,
            phase: String::new(),
            field: Some(String::new()),
            spec: Some(""),
            errno: Some(String::new()),
            call: Some(String::new()),
            path: Some(String::new()),
            hint: Some(""),
        };
        let keys: Vec<&str> = facts.entries().map(|(key, _)| key).collect();
        assert_eq!(keys, ["code", "phase", "field", "spec", "errno", "call", "path", "hint"]);
        let codes = [
            Code::Exists,
            Code::DoesNotExist,
            Code::NotRunning,
            Code::WrongStatus,
            Code::Paused,
            Code::InvalidId,
            Code::ExecutableNotFound,
            Code::Usage,
            Code::Config,
            Code::System,
            Code::Error,
        ];
        for name in keys.into_iter().chain(codes.map(Code::name)) {
            assert!(row(name), "{name}");
        }
    }
    use crate::error::field;
    use anyhow::anyhow;

    #[test]
    fn a_place_becomes_a_json_pointer() {
        assert_eq!(pointer("mounts[3]"), "/mounts/3");
        assert_eq!(pointer("linux.resources.memory.limit"), "/linux/resources/memory/limit");
        assert_eq!(pointer("linux.sysctl.net.ipv4.ip_forward"), "/linux/sysctl/net.ipv4.ip_forward");
        assert_eq!(pointer("annotations.a/b~c.d"), "/annotations/a~1b~0c.d");
        assert_eq!(pointer("linux.sysctl"), "/linux/sysctl");
        assert_eq!(pointer("linux.resources.rdma[\"mlx4_0\"]"), "/linux/resources/rdma/mlx4_0");
        assert_eq!(pointer("linux.resources.unified[\"cpu.\\\"x\"]"), "/linux/resources/unified/cpu.\"x");
        assert_eq!(pointer("linux.sysctl.a: b.c d"), "/linux/sysctl/a: b.c d");
    }

    #[test]
    fn the_longest_prefix_names_the_section() {
        assert_eq!(section("process.user.uid"), Some("config.md#user"));
        assert_eq!(section("process.args[0]"), Some("config.md#process"));
        assert_eq!(section("linux.resources.unified.a"), Some("config-linux.md#control-groups"));
        assert_eq!(section("processes"), None);
    }

    #[test]
    fn words_choose_neither_class_nor_field() {
        let said = "container does not exist: mounts[3]: \"/etc/shadow\": executable file not found in $PATH";
        let facts = Facts::of("start", None, &anyhow!("{said}").context(said.to_owned()));
        assert_eq!(facts.entries().collect::<Vec<_>>(), [("code", "error"), ("phase", "start")]);
    }

    #[test]
    fn the_class_follows_from_field_and_errno() {
        let failed = |errno| Error::from(SysError::new("exec", errno));
        let of = |error: Error| Facts::of("start", None, &error).code;
        assert_eq!(of(failed(Errno::ENOENT).context(field!("process.args[0]"))), Code::ExecutableNotFound);
        assert_eq!(of(failed(Errno::EACCES).context(field!("process.args[0]"))), Code::Config);
        assert_eq!(of(failed(Errno::ENOENT).context("process.args[0]")), Code::System);
        assert_eq!(of(field!("linux.sysctl.a"; "no").into()), Code::Config);
        assert_eq!(of(anyhow!("linux.sysctl.a: no")), Code::Error);
        assert_eq!(of(std::io::Error::from_raw_os_error(2).into()), Code::System);
        assert_eq!(Facts::of("start", Some(Code::Paused), &anyhow!("x")).code, Code::Paused);
        assert_eq!(Facts::of("usage", None, &anyhow!("x")).code, Code::Usage);
    }

    #[test]
    fn a_fault_tells_call_errno_and_path() {
        let fault = SysError::new("openat2", Errno::ELOOP).about(c"/proc/sys");
        let facts = Facts::of("create", None, &Error::from(fault).context(field!("linux.readonlyPaths[0]")));
        let entries: Vec<_> = facts.entries().collect();
        assert!(entries.contains(&("call", "openat2")));
        assert!(entries.contains(&("errno", "ELOOP")));
        assert!(entries.contains(&("path", "/proc/sys")));
        assert!(entries.contains(&("field", "/linux/readonlyPaths/0")));
        assert!(!entries.iter().any(|(key, _)| *key == "hint"));
        let words = Fault::new("fsconfig", Errno::EINVAL, "/dev/sda1: Can't open blockdev");
        assert_eq!(Facts::of("create", None, &words.into()).path, None);
    }

    #[test]
    fn a_call_whose_reason_is_in_the_words_is_told() {
        let limit = field!("linux.resources.pids.limit"; "write \"1\" to pids.max: read-only file system");
        let facts = Facts::of("create", None, &limit.by(SysError::new("write", Errno::EROFS)).into());
        assert_eq!((facts.call.as_deref(), facts.errno.as_deref()), (Some("write"), Some("EROFS")));
        assert_eq!(facts.hint, Some("the cgroup filesystem must be mounted read-write"));
    }

    #[test]
    fn a_known_remedy_is_told() {
        let error = Error::from(SysError::new("write", Errno::EACCES)).context(field!("process.oomScoreAdj"; "-1000"));
        assert_eq!(Facts::of("create", None, &error).hint, Some("a lower value needs CAP_SYS_RESOURCE"));
        let error = anyhow!("connect: refused").context(About::new("console socket", Path::new("/run/s")));
        assert_eq!(Facts::of("create", None, &error).path.as_deref(), Some("/run/s"));
    }
}
