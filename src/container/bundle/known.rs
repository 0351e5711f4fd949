//! Every key that runtime-spec 1.3.0 has in a config.json, but those of other platforms (config.md, config-linux.md).

/// The keys of an object, and what is in each. At most 64.
pub struct Keys(pub &'static [(&'static str, Contents)]);

#[derive(Clone, Copy)]
pub enum Contents {
    /// No object of the specification's: a text, a number, names that are the user's.
    Anything,
    Object(&'static Keys),
    /// A list of objects.
    List(&'static Keys),
}

use Contents::{Anything, List, Object};

/// Keys with nothing in them to be looked at.
macro_rules! plain {
    ($($key:literal),* $(,)?) => { &[$(($key, Anything)),*] };
}

pub static CONFIG: Keys = Keys(&[
    ("ociVersion", Anything),
    ("hooks", Object(&HOOKS)),
    ("annotations", Anything),
    ("hostname", Anything),
    ("domainname", Anything),
    ("mounts", List(&MOUNT)),
    ("root", Object(&Keys(plain!["path", "readonly"]))),
    ("process", Object(&PROCESS)),
    ("linux", Object(&LINUX)),
    ("solaris", Anything),
    ("windows", Anything),
    ("vm", Anything),
    ("zos", Anything),
    ("freebsd", Anything),
]);

static HOOK: Keys = Keys(plain!["path", "args", "env", "timeout"]);

static HOOKS: Keys = Keys(&[
    ("prestart", List(&HOOK)),
    ("createRuntime", List(&HOOK)),
    ("createContainer", List(&HOOK)),
    ("startContainer", List(&HOOK)),
    ("poststart", List(&HOOK)),
    ("poststop", List(&HOOK)),
]);

static ID_MAPPING: Keys = Keys(plain!["containerID", "hostID", "size"]);

static MOUNT: Keys = Keys(&[
    ("source", Anything),
    ("destination", Anything),
    ("options", Anything),
    ("type", Anything),
    ("uidMappings", List(&ID_MAPPING)),
    ("gidMappings", List(&ID_MAPPING)),
]);

pub static PROCESS: Keys = Keys(&[
    ("args", Anything),
    ("commandLine", Anything),
    ("consoleSize", Object(&Keys(plain!["height", "width"]))),
    ("cwd", Anything),
    ("env", Anything),
    ("terminal", Anything),
    ("user", Object(&Keys(plain!["uid", "gid", "umask", "additionalGids", "username"]))),
    ("capabilities", Object(&Keys(plain!["bounding", "permitted", "effective", "inheritable", "ambient"]))),
    ("apparmorProfile", Anything),
    ("oomScoreAdj", Anything),
    ("selinuxLabel", Anything),
    ("ioPriority", Object(&Keys(plain!["class", "priority"]))),
    ("noNewPrivileges", Anything),
    ("scheduler", Object(&Keys(plain!["policy", "nice", "priority", "flags", "runtime", "deadline", "period"]))),
    ("rlimits", List(&Keys(plain!["hard", "soft", "type"]))),
    ("execCPUAffinity", Object(&Keys(plain!["initial", "final"]))),
]);

static LINUX: Keys = Keys(&[
    ("devices", List(&Keys(plain!["type", "path", "fileMode", "major", "minor", "uid", "gid"]))),
    ("netDevices", Anything),
    ("uidMappings", List(&ID_MAPPING)),
    ("gidMappings", List(&ID_MAPPING)),
    ("namespaces", List(&Keys(plain!["type", "path"]))),
    ("resources", Object(&RESOURCES)),
    ("cgroupsPath", Anything),
    ("rootfsPropagation", Anything),
    ("seccomp", Object(&SECCOMP)),
    ("sysctl", Anything),
    ("maskedPaths", Anything),
    ("readonlyPaths", Anything),
    ("mountLabel", Anything),
    ("intelRdt", Object(&Keys(plain!["closID", "schemata", "l3CacheSchema", "memBwSchema", "enableMonitoring"]))),
    ("memoryPolicy", Object(&Keys(plain!["mode", "nodes", "flags"]))),
    ("personality", Object(&Keys(plain!["domain", "flags"]))),
    ("timeOffsets", Object(&Keys(&[("boottime", Object(&OFFSET)), ("monotonic", Object(&OFFSET))]))),
]);

static OFFSET: Keys = Keys(plain!["secs", "nanosecs"]);

static RESOURCES: Keys = Keys(&[
    ("unified", Anything),
    ("devices", List(&Keys(plain!["allow", "type", "major", "minor", "access"]))),
    ("pids", Object(&Keys(plain!["limit"]))),
    ("blockIO", Object(&BLOCK_IO)),
    ("cpu", Object(&CPU)),
    ("hugepageLimits", List(&Keys(plain!["pageSize", "limit"]))),
    ("memory", Object(&MEMORY)),
    ("network", Object(&Keys(&[("classID", Anything), ("priorities", List(&Keys(plain!["name", "priority"])))]))),
    ("rdma", Anything),
]);

static CPU: Keys =
    Keys(plain!["cpus", "mems", "period", "quota", "burst", "realtimePeriod", "realtimeRuntime", "shares", "idle"]);

static MEMORY: Keys = Keys(plain![
    "kernel",
    "kernelTCP",
    "limit",
    "reservation",
    "swap",
    "swappiness",
    "disableOOMKiller",
    "useHierarchy",
    "checkBeforeUpdate"
]);

static THROTTLE: Keys = Keys(plain!["major", "minor", "rate"]);

static BLOCK_IO: Keys = Keys(&[
    ("weight", Anything),
    ("leafWeight", Anything),
    ("throttleReadBpsDevice", List(&THROTTLE)),
    ("throttleWriteBpsDevice", List(&THROTTLE)),
    ("throttleReadIOPSDevice", List(&THROTTLE)),
    ("throttleWriteIOPSDevice", List(&THROTTLE)),
    ("weightDevice", List(&Keys(plain!["major", "minor", "weight", "leafWeight"]))),
]);

static SECCOMP: Keys = Keys(&[
    ("defaultAction", Anything),
    ("defaultErrnoRet", Anything),
    ("flags", Anything),
    ("listenerPath", Anything),
    ("listenerMetadata", Anything),
    ("architectures", Anything),
    ("syscalls", List(&SYSCALLS)),
]);

static SYSCALLS: Keys = Keys(&[
    ("names", Anything),
    ("action", Anything),
    ("errnoRet", Anything),
    ("args", List(&Keys(plain!["index", "value", "valueTwo", "op"]))),
]);
