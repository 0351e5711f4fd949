//! What a shim needs of a bundle's config.json. Everything else is skipped as it is read, and is the runtime's to
//! judge.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Refused, refuse};

/// Annotations that name the group, in this order; without one a container is its own group.
const GROUPS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];

#[derive(Clone, PartialEq, Default, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    annotations: Option<BTreeMap<String, String>>,
    linux: Option<Linux>,
}

#[derive(Clone, PartialEq, Default, Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Linux {
    cgroups_path: Option<String>,
    namespaces: Option<Vec<Namespace>>,
    uid_mappings: Option<Vec<IdMap>>,
    gid_mappings: Option<Vec<IdMap>>,
}

#[derive(Clone, PartialEq, Default, Debug, Deserialize)]
#[serde(default)]
struct Namespace {
    r#type: String,
    path: Option<String>,
}

#[derive(Clone, PartialEq, Default, Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct IdMap {
    #[serde(rename = "containerID")]
    container_id: u32,
    #[serde(rename = "hostID")]
    host_id: u32,
    size: u32,
}

impl Config {
    /// Reads the text of config.json.
    pub fn parse(text: &[u8]) -> Result<Self, Refused> {
        match serde_json::from_slice(text) {
            Ok(config) => Ok(config),
            Err(error) => refuse!("config.json: {error}"),
        }
    }

    /// The containers that one shim serves have the same group; it is the id of the pod's sandbox, or the container's
    /// own.
    pub fn group<'a>(&'a self, id: &'a str) -> &'a str {
        let annotations = self.annotations.as_ref();
        GROUPS
            .iter()
            .find_map(|key| annotations?.get(*key).filter(|value| !value.is_empty()))
            .map_or(id, String::as_str)
    }

    /// True if the kernel ends every process of the container with its init.
    pub fn has_own_pid_namespace(&self) -> bool {
        let namespaces = self.linux.as_ref().and_then(|linux| linux.namespaces.as_ref());
        let is_new = |namespace: &Namespace| {
            namespace.r#type == "pid" && namespace.path.as_ref().is_none_or(|path| path.is_empty())
        };
        namespaces.is_some_and(|namespaces| namespaces.iter().any(is_new))
    }

    /// True if `cgroupsPath` has systemd's form, `slice:prefix:name`.
    pub fn asks_for_systemd(&self) -> bool {
        let path = self.linux.as_ref().and_then(|linux| linux.cgroups_path.as_deref()).unwrap_or_default();
        path.split(':').count() == 3 && !path.contains('/')
    }

    /// The host's ids of the container's root, where it has a user namespace with a map of its own.
    pub fn owner(&self) -> Option<(u32, u32)> {
        let linux = self.linux.as_ref()?;
        Some((root_of(linux.uid_mappings.as_ref()?)?, root_of(linux.gid_mappings.as_ref()?)?))
    }
}

fn root_of(maps: &[IdMap]) -> Option<u32> {
    maps.iter().find(|map| map.container_id == 0 && map.size > 0).map(|map| map.host_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Config {
        Config::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_group_is_that_of_the_annotations_or_the_container() {
        let both = r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod","io.containerd.runc.v2.group":"own"}}"#;
        assert_eq!(parse(both).group("c"), "own");
        assert_eq!(parse(r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod"}}"#).group("c"), "pod");
        for text in ["{}", r#"{"annotations":null}"#, r#"{"annotations":{"io.kubernetes.cri.sandbox-id":""}}"#] {
            assert_eq!(parse(text).group("c"), "c", "{text}");
        }
    }

    #[test]
    fn what_is_not_needed_is_not_judged() {
        let text = r#"{"process":{"args":7},"mounts":{},"linux":{"resources":[],"namespaces":[{"type":"pid"}]}}"#;
        assert!(parse(text).has_own_pid_namespace());
    }

    #[test]
    fn a_pid_namespace_is_the_containers_own_if_it_is_new() {
        let own = |namespaces| parse(&format!(r#"{{"linux":{{"namespaces":{namespaces}}}}}"#)).has_own_pid_namespace();
        assert!(own(r#"[{"type":"mount"},{"type":"pid"}]"#));
        assert!(own(r#"[{"type":"pid","path":""}]"#));
        assert!(!own(r#"[{"type":"pid","path":"/proc/7/ns/pid"}]"#), "shared");
        assert!(!own(r#"[{"type":"mount"}]"#), "the host's");
        assert!(!own("null"));
        assert!(!parse("{}").has_own_pid_namespace());
    }

    #[test]
    fn systemds_form_of_a_cgroup_is_known() {
        let systemd = |path| parse(&format!(r#"{{"linux":{{"cgroupsPath":"{path}"}}}}"#)).asks_for_systemd();
        assert!(systemd("system.slice:cri-containerd:c1"));
        assert!(systemd(":docker:c1"), "the default slice");
        assert!(!systemd("/default/c1"));
        assert!(!systemd("/a:b:c"), "a path with colons");
        assert!(!systemd(""));
    }

    #[test]
    fn the_owner_is_the_containers_root_on_the_host() {
        let text = r#"{"linux":{
            "uidMappings":[{"containerID":5,"hostID":1,"size":1},{"containerID":0,"hostID":1000,"size":9}],
            "gidMappings":[{"containerID":0,"hostID":2000,"size":9}]}}"#;
        assert_eq!(parse(text).owner(), Some((1000, 2000)));
        assert_eq!(parse("{}").owner(), None);
        assert_eq!(parse(r#"{"linux":{"uidMappings":[],"gidMappings":[]}}"#).owner(), None);
    }

    #[test]
    fn what_is_no_json_is_an_error_with_its_place() {
        assert_eq!(Config::parse(b"{").unwrap_err().0, "config.json: EOF while parsing an object at line 1 column 1");
    }
}
