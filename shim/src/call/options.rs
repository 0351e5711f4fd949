//! What the runtime's options mean. Which message they come in depends on how the runtime is named (containerd's
//! client, CRI and dockerd): runc's own for `io.containerd.runc.v2`, TOML for any other name, or none at all.

use std::path::{Path, PathBuf};

use prost::{Message, Name};
use serde::Deserialize;

use super::config::Config;
use super::{Refused, refuse};
use crate::api::known::Any;
use crate::api::options::{Options, RuntimeOptions};

/// Where runc has its state under containerd, and other tools look for it.
const ROOT: &str = "/run/containerd/runc";

/// What the options message says, before a bundle is looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Given {
    /// The options themselves.
    Here(Wanted),
    /// A file of TOML, for [`parse`].
    In(PathBuf),
}

/// Options as they were given. A name of Go is a key of the TOML.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "PascalCase")]
pub struct Wanted {
    binary_name: String,
    root: String,
    /// None: the TOML does not say.
    systemd_cgroup: Option<bool>,
    no_pivot_root: bool,
    no_new_keyring: bool,
    shim_cgroup: String,
    io_uid: u32,
    io_gid: u32,
    criu_image_path: String,
    criu_work_path: String,
}

/// What is done, with a bundle looked at and all defaults in place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// None: ocirt, beside the shim or in PATH.
    pub binary: Option<PathBuf>,
    /// The runtime's `--root`: one directory for each namespace.
    pub root: PathBuf,
    pub systemd_cgroup: bool,
    pub no_pivot_root: bool,
    pub no_new_keyring: bool,
    /// The cgroup that the shim itself joins.
    pub shim_cgroup: Option<PathBuf>,
    /// The owner of the pipes that are a container's stdio: so that a process that is not root can open /dev/stdout
    /// anew.
    pub io_owner: (u32, u32),
    pub criu_image_path: Option<PathBuf>,
    pub criu_work_path: Option<PathBuf>,
}

/// Reads an options message.
pub fn read(any: Option<&Any>) -> Result<Given, Refused> {
    let Some(any) = any.filter(|any| !any.type_url.is_empty() || !any.value.is_empty()) else {
        return Ok(Given::Here(Wanted::default()));
    };
    let name = any.type_name();
    if name == Options::full_name() {
        return match Options::decode(any.value.as_slice()) {
            Ok(options) => Ok(Given::Here(Wanted::from_runc(options))),
            Err(error) => refuse!("options of type {name}: {error}"),
        };
    }
    if name != RuntimeOptions::full_name() {
        refuse!("options of type {name:?}: neither runc's nor runtimeoptions.v1");
    }
    match RuntimeOptions::decode(any.value.as_slice()) {
        Ok(options) if !options.config_path.is_empty() => Ok(Given::In(options.config_path.into())),
        Ok(options) => match std::str::from_utf8(&options.config_body) {
            Ok(text) => Ok(Given::Here(parse(text)?)),
            Err(error) => refuse!("options: {error}"),
        },
        Err(error) => refuse!("options of type {name}: {error}"),
    }
}

/// Reads options as TOML. An unknown key is an error that names it: a misspelt `SystemdCgroup` would else be a
/// container in the wrong cgroup.
pub fn parse(text: &str) -> Result<Wanted, Refused> {
    match toml::from_str(text) {
        Ok(wanted) => Ok(wanted),
        Err(error) => {
            let line =
                error.span().and_then(|span| text.get(..span.start)).unwrap_or_default().matches('\n').count() + 1;
            refuse!("options: line {line}: {}", error.message())
        }
    }
}

impl Wanted {
    fn from_runc(options: Options) -> Self {
        Self {
            binary_name: options.binary_name,
            root: options.root,
            systemd_cgroup: Some(options.systemd_cgroup),
            no_pivot_root: options.no_pivot_root,
            no_new_keyring: options.no_new_keyring,
            shim_cgroup: options.shim_cgroup,
            io_uid: options.io_uid,
            io_gid: options.io_gid,
            criu_image_path: options.criu_image_path,
            criu_work_path: options.criu_work_path,
        }
    }

    /// What is done for a container of `namespace` with this configuration. Where nothing says so, systemd makes the
    /// cgroup if its path has systemd's form, and the pipes belong to the container's root.
    pub fn settle(self, namespace: &str, config: &Config) -> Settings {
        let root = if self.root.is_empty() { ROOT } else { &self.root };
        let (uid, gid) = config.owner().unwrap_or_default();
        let or_else = |given: u32, default| if given == 0 { default } else { given };
        Settings {
            root: Path::new(root).join(namespace),
            binary: path(self.binary_name),
            systemd_cgroup: self.systemd_cgroup.unwrap_or_else(|| config.asks_for_systemd()),
            no_pivot_root: self.no_pivot_root,
            no_new_keyring: self.no_new_keyring,
            shim_cgroup: path(self.shim_cgroup),
            io_owner: (or_else(self.io_uid, uid), or_else(self.io_gid, gid)),
            criu_image_path: path(self.criu_image_path),
            criu_work_path: path(self.criu_work_path),
        }
    }
}

fn path(text: String) -> Option<PathBuf> {
    (!text.is_empty()).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(any: Option<&Any>, config: &str) -> Settings {
        let Given::Here(wanted) = read(any).unwrap() else { panic!("a file") };
        wanted.settle("k8s.io", &Config::parse(config.as_bytes()).unwrap())
    }

    fn toml(body: &str) -> Any {
        Any::pack(&RuntimeOptions { config_body: body.as_bytes().to_vec(), ..RuntimeOptions::default() })
    }

    const SYSTEMD: &str = r#"{"linux":{"cgroupsPath":"a.slice:p:n"}}"#;

    #[test]
    fn without_options_the_bundle_decides() {
        let settings = here(None, "{}");
        assert_eq!(settings.root, Path::new("/run/containerd/runc/k8s.io"));
        assert_eq!((settings.binary, settings.systemd_cgroup, settings.io_owner), (None, false, (0, 0)));
        assert!(here(None, SYSTEMD).systemd_cgroup);
        assert!(here(Some(&Any::default()), SYSTEMD).systemd_cgroup, "an empty message is none");
        let mapped = r#"{"linux":{"uidMappings":[{"containerID":0,"hostID":5,"size":1}],
            "gidMappings":[{"containerID":0,"hostID":6,"size":1}]}}"#;
        assert_eq!(here(None, mapped).io_owner, (5, 6));
    }

    #[test]
    fn runcs_options_say_everything_themselves() {
        let options = Options {
            binary_name: "/usr/bin/crun".to_owned(),
            root: "/var/run/docker/runtime-x".to_owned(),
            io_uid: 7,
            shim_cgroup: "/shims".to_owned(),
            no_new_keyring: true,
            ..Options::default()
        };
        let settings = here(Some(&Any::pack(&options)), SYSTEMD);
        assert_eq!(settings.binary.as_deref(), Some(Path::new("/usr/bin/crun")));
        assert_eq!(settings.root, Path::new("/var/run/docker/runtime-x/k8s.io"));
        assert!(!settings.systemd_cgroup, "runc's options have no way not to say it");
        assert_eq!((settings.io_owner, settings.no_new_keyring), ((7, 0), true));
        assert_eq!(settings.shim_cgroup.as_deref(), Some(Path::new("/shims")));
    }

    #[test]
    fn toml_has_gos_names() {
        let body = "BinaryName = \"/o\"\nRoot = \"/r\"\nSystemdCgroup = true\nNoPivotRoot = true\nNoNewKeyring = true\n\
                    ShimCgroup = \"/s\"\nIoUid = 3\nIoGid = 4\nCriuImagePath = \"/i\"\nCriuWorkPath = \"/w\"\n";
        let expected = Settings {
            binary: Some("/o".into()),
            root: "/r/k8s.io".into(),
            systemd_cgroup: true,
            no_pivot_root: true,
            no_new_keyring: true,
            shim_cgroup: Some("/s".into()),
            io_owner: (3, 4),
            criu_image_path: Some("/i".into()),
            criu_work_path: Some("/w".into()),
        };
        assert_eq!(here(Some(&toml(body)), "{}"), expected);
        assert!(here(Some(&toml("Root = '/r'")), SYSTEMD).systemd_cgroup, "the bundle decides what it leaves open");
        assert!(!here(Some(&toml("SystemdCgroup = false")), SYSTEMD).systemd_cgroup);
    }

    #[test]
    fn the_type_may_have_a_prefix() {
        let mut any = toml("Root = '/r'");
        any.type_url.insert_str(0, "type.googleapis.com/");
        assert_eq!(here(Some(&any), "{}").root, Path::new("/r/k8s.io"));
    }

    #[test]
    fn a_file_of_options_is_named() {
        let options = RuntimeOptions { config_path: "/etc/o.toml".to_owned(), ..RuntimeOptions::default() };
        assert_eq!(read(Some(&Any::pack(&options))), Ok(Given::In("/etc/o.toml".into())));
    }

    #[test]
    fn wrong_options_are_errors_that_name_what_is_wrong() {
        let error = |any: &Any| read(Some(any)).unwrap_err().0;
        let unknown = error(&toml("Root = '/r'\nSystemdCGroup = true"));
        assert!(
            unknown.starts_with("options: line 2: unknown field `SystemdCGroup`, expected one of `BinaryName`"),
            "{unknown}"
        );
        assert!(error(&toml("Root = 7")).starts_with("options: line 1: invalid type: integer `7`, expected a string"));
        assert!(error(&toml("IoUid = -1")).starts_with("options: line 1: "));
        assert!(error(&toml("Root")).starts_with("options: line 1: "));
        let other = Any { type_url: "x.Options".to_owned(), value: Vec::new() };
        assert_eq!(error(&other), "options of type \"x.Options\": neither runc's nor runtimeoptions.v1");
        let broken = Any { type_url: Options::full_name(), value: b"\xff".to_vec() };
        assert!(error(&broken).starts_with("options of type containerd.runc.v1.Options: "), "{}", error(&broken));
    }
}
