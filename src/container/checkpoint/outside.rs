//! What a container has of the outside by config.json: bind mounts and namespaces that others made. `create` saves it
//! in the state, so that a checkpoint needs no config.json.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};
use serde::{Deserialize, Serialize};

/// Bind mounts, and namespaces.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "camelCase")]
pub struct HostResources {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub binds: Vec<HostBind>,
    /// Those joined by path, by the names of /proc/PID/ns.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub namespaces: BTreeMap<String, PathBuf>,
    /// Whether the container has a user namespace of its own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub new_user_namespace: bool,
}

/// A bind mount of config.json.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "camelCase")]
pub struct HostBind {
    /// As config.json writes it.
    pub destination: PathBuf,
    /// With the bundle before a relative one.
    pub source: PathBuf,
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
}

impl HostResources {
    /// `is_read_only` tells whether a mount with these options is.
    pub fn of(spec: &Spec, bundle: &Path, is_read_only: fn(&[String]) -> bool) -> Self {
        let mounts = spec.mounts().as_deref().unwrap_or_default().iter().filter(|mount| is_bind(mount));
        let bind = |mount: &Mount| {
            let (destination, source) = (mount.destination().clone(), bundle.join(mount.source().as_ref()?));
            Some(HostBind { destination, source, read_only: is_read_only(options(mount)) })
        };
        let linux = spec.linux().as_ref();
        let namespaces = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        let mut outside = Self { binds: mounts.filter_map(bind).collect(), ..Self::default() };
        for namespace in namespaces {
            match namespace.path() {
                Some(path) => drop(outside.namespaces.insert(namespace.typ().to_string(), path.clone())),
                None => outside.new_user_namespace |= namespace.typ() == LinuxNamespaceType::User,
            }
        }
        outside
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn options(mount: &Mount) -> &[String] {
    mount.options().as_deref().unwrap_or_default()
}

fn is_bind(mount: &Mount) -> bool {
    let has = |name: &str| options(mount).iter().any(|option| option == name);
    (has("bind") || has("rbind") || mount.typ().as_deref() == Some("bind")) && !has("remount")
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn binds_and_namespaces_are_outside() {
        let spec: Spec = serde_json::from_value(json!({
            "ociVersion": "1.0.0",
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/a", "type": "bind", "source": "rel" },
                { "destination": "/b", "source": "/host/b", "options": ["rbind", "rw", "ro"] },
                { "destination": "/b", "type": "bind", "source": "none", "options": ["remount", "ro"] }
            ],
            "linux": { "namespaces": [{ "type": "network", "path": "/run/netns/x" }, { "type": "pid" }, { "type": "user" }] }
        }))
        .unwrap();
        let outside =
            HostResources::of(&spec, Path::new("/bundle"), |options| options.iter().any(|option| option == "ro"));
        assert_eq!(
            serde_json::to_value(&outside).unwrap(),
            json!({
                "binds": [
                    { "destination": "/a", "source": "/bundle/rel" },
                    { "destination": "/b", "source": "/host/b", "readOnly": true }
                ],
                "namespaces": { "net": "/run/netns/x" },
                "newUserNamespace": true
            })
        );
        assert_eq!(serde_json::to_string(&HostResources::default()).unwrap(), "{}");
    }
}
