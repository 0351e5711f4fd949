//! The codes of findings, which are stable: how bad each is, and what mends it.

use serde::{Serialize, Serializer};

/// How bad a finding is.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// `create` fails.
    Error,
    /// The container is made, and is not what its author may have meant.
    Warning,
}

/// One line a code: variant, code, severity, remedy.
macro_rules! codes {
    ($($name:ident $text:literal $severity:ident $remedy:literal)*) => {
        /// What kind of finding it is.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Code { $($name),* }

        impl Code {
            #[cfg(test)]
            pub const ALL: &[Self] = &[$(Self::$name),*];

            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity),* }
            }

            pub fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy),* }
            }
        }
    };
}

codes! {
    Refused "refused" Error "correct the field: create refuses it in these words"
    Ignored "ignored" Warning "take it out, or correct it: create goes on without it"
    Floor "floor" Warning "say the same in config.json: the floor of this host has it so whatever it says"
    KeyMisspelt "key-misspelt" Warning "spell the key as the specification does: it has no effect as it is"
    KeyUnknown "key-unknown" Warning "take the key out, unless another program reads it: it has no effect here"
    SourceMissing "source-missing" Error "make the file or directory, or correct the path"
    ProgramMissing "program-missing" Error "correct process.args[0] or PATH in process.env, or put the program into the image"
    ProgramNotExecutable "program-not-executable" Error "name a regular file that the user may execute (chmod +x in the image)"
    HookMissing "hook-missing" Error "install the hook's program, or take the hook out"
    HookNotExecutable "hook-not-executable" Error "name a regular file that may be executed (chmod +x)"
    LimitImpossible "limit-impossible" Error "choose a value that the kernel takes"
    MemoryTooSmall "memory-too-small" Error "give it more memory: init itself is killed for want of it"
    UserUnknown "user-unknown" Warning "add the user to /etc/passwd of the image, or run as one that it has"
    UserNameIgnored "user-name-ignored" Warning "say it by uid and gid: a name has no effect on Linux"
    CapabilitiesNotAmbient "capabilities-not-ambient" Warning "add those that the program needs to inheritable and ambient, too, or take them out"
    PrivilegesCanBeGained "privileges-can-be-gained" Warning "set process.noNewPrivileges"
    CgroupWritable "cgroup-writable" Warning "add a cgroup namespace, or mount it with ro"
    BindHostWritable "bind-host-writable" Warning "bind only what is needed of it, with ro"
    BindCgroupV1Writable "bind-cgroup-v1-writable" Warning "do not bind it, or with ro: release_agent runs a program as root of the host"
    BindRuntimeSocket "bind-runtime-socket" Warning "take the socket out: ro does not keep anybody from connecting to it"
    MaskedPathsMissing "masked-paths-missing" Warning "add them to linux.maskedPaths"
    RootShared "root-shared" Warning "use rslave or rprivate, unless mounts of the container are meant to appear on the host"
    DevicesAllAllowed "devices-all-allowed" Warning "allow the devices that are needed by their numbers"
    NamespaceShared "namespace-shared" Warning "add the namespace to linux.namespaces, unless the host's is meant"
    MemoryWithoutSwap "memory-without-swap" Warning "set linux.resources.memory.swap, to the same value for no swap"
    PidsUnlimited "pids-unlimited" Warning "set linux.resources.pids.limit"
    SeccompIntAs64Bits "seccomp-int-as-64-bits" Warning "compare with SCMP_CMP_MASKED_EQ and the mask 4294967295"
    SeccompTwoNotEqual "seccomp-two-not-equal" Warning "allow the call, and deny each value by a rule of its own with SCMP_CMP_EQ"
    SeccompSocketcallOpen "seccomp-socketcall-open" Warning "deny socketcall, with ENOSYS: programs go on to the calls that it stands for"
    SeccompX32Open "seccomp-x32-open" Warning "take SCMP_ARCH_X32 out of linux.seccomp.architectures: its calls are refused then"
    SeccompClone3Open "seccomp-clone3-open" Warning "let clone3 return ENOSYS (errnoRet 38): programs go on to clone then"
    SeccompClone3Eperm "seccomp-clone3-eperm" Warning "let clone3 return ENOSYS (errnoRet 38): programs go on to clone then"
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}
