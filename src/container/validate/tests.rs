use super::*;
use serde_json::{Value, json};

/// A directory with a `rootfs`, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ocirt-validate-{name}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("rootfs")).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn valid() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "root": { "path": "rootfs" },
        "process": { "cwd": "/", "user": { "uid": 0, "gid": 0 }, "args": ["sh"] },
        "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
        "hooks": { "prestart": [{ "path": "/bin/hook", "timeout": 1 }] },
        "linux": { "namespaces": [{ "type": "mount" }, { "type": "pid" }] },
    })
}

/// The verdict on the valid configuration with `value` at `pointer`.
fn verdict(changes: &[(&str, Value)]) -> String {
    // One directory per thread: tests run side by side.
    let directory = Directory::new(&format!("{:?}", std::thread::current().id()));
    let mut config = valid();
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = config.pointer_mut(parent).unwrap();
        match parent {
            Value::Array(array) => array.push(value.clone()),
            Value::Object(object) => drop(object.insert(key.to_owned(), value.clone())),
            _ => panic!("{pointer}"),
        }
    }
    let spec: Spec = serde_json::from_value(config).unwrap();
    let result = validate(&spec, &directory.0, &mut Faults::first());
    let path = directory.0.display().to_string();
    result.err().map(|error| format!("{error:#}").replace(&path, "BUNDLE")).unwrap_or_default()
}

fn verdict_of(pointer: &str, value: Value) -> String {
    verdict(&[(pointer, value)])
}

#[test]
fn the_owner_of_a_mount_is_mapped() {
    let map = json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]);
    let mount = |options| json!({ "destination": "/d", "type": "devpts", "source": "devpts", "options": options });
    let with = |options| {
        let user = json!({ "type": "user" });
        let maps = ["/linux/uidMappings", "/linux/gidMappings"].map(|field| (field, map.clone()));
        verdict(&[("/linux/namespaces/-", user), maps[0].clone(), maps[1].clone(), ("/mounts/-", mount(options))])
    };
    let error = "mounts[1].options[1]: gid=5: the id is not in linux.gidMappings";
    assert_eq!(with(json!(["mode=620", "gid=5"])), error);
    assert_eq!(with(json!(["gid=0", "uid=0"])), "");
    assert_eq!(with(json!(["bind", "gid=5"])), "");
    assert_eq!(verdict_of("/mounts/-", mount(json!(["gid=5"]))), "");
}

#[test]
fn who_is_not_root_needs_a_user_namespace() {
    let spec = |config| serde_json::from_value::<Spec>(config).unwrap();
    let mut config = valid();
    let error = format!("{:#}", rootless(&spec(config.clone())).unwrap_err());
    assert!(error.starts_with("linux.namespaces: rootless container requires user namespaces"), "{error}");
    config["linux"]["namespaces"] = json!([{ "type": "user" }]);
    assert!(rootless(&spec(config)).is_ok());
}

#[test]
fn a_valid_configuration_passes() {
    assert_eq!(verdict(&[]), "");
}

#[test]
fn the_root_must_be_a_directory_in_its_own_right() {
    assert_eq!(verdict_of("/root", json!({})), "root.path: missing");
    assert_eq!(
        verdict_of("/root", json!({ "path": "none" })),
        "root.path: \"BUNDLE/none\": stat: no such file or directory"
    );
    assert_eq!(verdict_of("/root", json!({ "path": "/dev/null" })), "root.path: \"/dev/null\" is not a directory");
    assert_eq!(
        verdict_of("/root", json!({ "path": "/proc/self/root" })),
        "root.path: \"/proc/self/root\" is a symbolic link"
    );
    assert_eq!(
        verdict_of("/root", json!({ "path": "/proc/self/root/" })),
        "root.path: \"/proc/self/root\" is a symbolic link"
    );
    assert_eq!(verdict_of("/root", json!({ "path": "/tmp" })), "");
    let spec: Spec = serde_json::from_value(json!({ "ociVersion": "1.0.0" })).unwrap();
    assert_eq!(format!("{:#}", validate(&spec, Path::new("/"), &mut Faults::first()).unwrap_err()), "root: missing");
}

#[test]
fn a_process_needs_arguments_and_an_absolute_directory() {
    let process = |args: Value, cwd: &str| verdict_of("/process", json!({ "args": args, "cwd": cwd, "user": {} }));
    assert_eq!(process(json!([]), "/"), "process.args: must have at least one entry");
    assert_eq!(process(json!(null), "/"), "process.args: must have at least one entry");
    assert_eq!(process(json!(["a"]), "tmp"), "process.cwd: \"tmp\" is not an absolute path");
    assert_eq!(process(json!(["a"]), ""), "process.cwd: missing");
    assert_eq!(verdict_of("/process", json!(null)), "process: missing");
}

#[test]
fn a_console_size_without_a_terminal_is_ignored_not_refused() {
    assert_eq!(verdict_of("/process/consoleSize", json!({ "height": 24, "width": 80 })), "");
}

#[test]
fn a_namespace_comes_once_and_by_absolute_path() {
    assert_eq!(
        verdict(&[
            ("/linux/namespaces/-", json!({ "type": "network" })),
            ("/linux/namespaces/-", json!({ "type": "network" }))
        ]),
        "linux.namespaces[3]: duplicate namespace network"
    );
    assert_eq!(
        verdict_of("/linux/namespaces/-", json!({ "type": "ipc", "path": "ns/ipc" })),
        "linux.namespaces[2].path: \"ns/ipc\" is not an absolute path"
    );
    assert_eq!(verdict_of("/linux/namespaces/-", json!({ "type": "ipc", "path": "/proc/1/ns/ipc" })), "");
}

#[test]
fn names_need_a_uts_namespace() {
    assert_eq!(verdict_of("/hostname", json!("a")), "hostname: needs a uts namespace in linux.namespaces");
    assert_eq!(verdict_of("/domainname", json!("a")), "domainname: needs a uts namespace in linux.namespaces");
    assert_eq!(verdict(&[("/hostname", json!("a")), ("/linux/namespaces/-", json!({ "type": "uts" }))]), "");
}

#[test]
fn id_maps_and_user_namespaces_need_each_other() {
    let map = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
    let user = ("/linux/namespaces/-", json!({ "type": "user" }));
    assert_eq!(
        verdict_of("/linux/uidMappings", map.clone()),
        "linux.uidMappings: needs a user namespace in linux.namespaces"
    );
    assert_eq!(
        verdict(&[user.clone(), ("/linux/uidMappings", map.clone())]),
        "linux.gidMappings: missing, but linux.namespaces has a new user namespace"
    );
    let both = [user, ("/linux/uidMappings", map.clone()), ("/linux/gidMappings", map)];
    assert_eq!(verdict(&both), "");
    let change = |pointer, value| verdict(&[both.as_slice(), &[(pointer, value)]].concat());
    assert_eq!(change("/process/user/uid", json!(10)), "process.user.uid: 10 is not in linux.uidMappings");
    assert_eq!(
        change("/process/user/gid", json!(4294967295u32)),
        "process.user.gid: 4294967295 is not in linux.gidMappings"
    );
    assert_eq!(
        change("/process/user/additionalGids", json!([9, 11])),
        "process.user.additionalGids[1]: 11 is not in linux.gidMappings"
    );
    assert_eq!(
        change("/linux/uidMappings", json!([{ "containerID": 0, "hostID": 0, "size": 0 }])),
        "linux.uidMappings[0].size: must be greater than zero"
    );
}

#[test]
fn hidden_paths_need_a_mount_namespace() {
    let no_mount = ("/linux/namespaces", json!([{ "type": "pid" }]));
    for key in ["maskedPaths", "readonlyPaths"] {
        let pointer = format!("/linux/{key}");
        assert_eq!(
            verdict(&[no_mount.clone(), (&pointer, json!(["/proc/kcore"]))]),
            format!("linux.{key}: needs a mount namespace in linux.namespaces")
        );
        assert_eq!(verdict(&[no_mount.clone(), (&pointer, json!([]))]), "");
        assert_eq!(verdict_of(&pointer, json!(["proc"])), format!("linux.{key}[0]: \"proc\" is not an absolute path"));
    }
}

#[test]
fn time_offsets_need_a_new_time_namespace() {
    let offsets = |offsets: Value, namespace: Value| {
        verdict(&[("/linux/timeOffsets", offsets), ("/linux/namespaces/-", namespace)])
    };
    let new = json!({ "type": "time" });
    assert_eq!(
        verdict_of("/linux/timeOffsets", json!({ "boottime": { "secs": 1 } })),
        "linux.timeOffsets: needs a time namespace in linux.namespaces"
    );
    assert_eq!(
        offsets(json!({ "boottime": { "secs": 1 } }), json!({ "type": "time", "path": "/proc/1/ns/time" })),
        "linux.timeOffsets: cannot be set for a time namespace that is joined"
    );
    assert_eq!(offsets(json!({ "boottime": { "secs": -7, "nanosecs": 5 } }), new.clone()), "");
    assert_eq!(
        offsets(json!({ "realtime": { "secs": 1 } }), new.clone()),
        "linux.timeOffsets.realtime: unknown clock, must be monotonic or boottime"
    );
    assert_eq!(
        offsets(json!({ "monotonic": { "nanosecs": 1000000000 } }), new),
        "linux.timeOffsets.monotonic.nanosecs: must be less than a second"
    );
}

#[test]
fn a_hook_has_an_absolute_path_and_a_positive_timeout() {
    for list in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        let hook = |hook: Value| verdict_of("/hooks", json!({ list: [{ "path": "/a" }, hook] }));
        assert_eq!(hook(json!({ "path": "b" })), format!("hooks.{list}[1].path: \"b\" is not an absolute path"));
        for seconds in [0, -1] {
            assert_eq!(
                hook(json!({ "path": "/b", "timeout": seconds })),
                format!("hooks.{list}[1].timeout: must be greater than zero")
            );
        }
    }
}

#[test]
fn a_mount_has_a_destination() {
    assert_eq!(verdict_of("/mounts/-", json!({ "destination": "" })), "mounts[1].destination: missing");
}

#[test]
fn an_empty_section_of_those_is_no_reason_to_refuse() {
    assert_eq!(verdict_of("/linux/netDevices", json!({})), "");
    assert_eq!(verdict_of("/mounts/-", json!({ "destination": "/a", "uidMappings": [] })), "");
}
