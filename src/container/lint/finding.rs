//! What a rule says, and what it is told.

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use serde::Serialize;

use super::code::{Code, Severity};

/// One thing to look at.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub code: Code,
    pub severity: Severity,
    /// A place in config.json, `mounts[3].source`; empty for the whole.
    pub field: String,
    pub why: String,
    pub remedy: &'static str,
}

impl Finding {
    pub fn new(code: Code, field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { code, severity: code.severity(), field: field.into(), why: why.into(), remedy: code.remedy() }
    }
}

/// Who wrote the configuration: what that engine always does is no finding.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Author {
    Docker,
    Cri,
    Podman,
}

impl Author {
    /// By its name on the command line.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "docker" => Some(Self::Docker),
            "cri" => Some(Self::Cri),
            "podman" => Some(Self::Podman),
            _ => None,
        }
    }
}

/// What the rules are told of the host.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Surroundings {
    pub author: Option<Author>,
    /// Whether the controllers are those of cgroup v2.
    pub cgroup_v2: bool,
    /// The processors that are online, as the kernel lists them: `0-3,8`; nothing where it is not known.
    pub processors: Option<String>,
}

/// Whether the container has a namespace of its own of this kind, or joins one by its path.
pub fn has_namespace(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    let list = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    list.into_iter().flatten().any(|namespace| namespace.typ() == kind)
}
