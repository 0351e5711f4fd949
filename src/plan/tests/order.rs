//! What must come before what, whatever else the list has: each test is a reason for a part of the order.

use std::os::fd::{AsFd, AsRawFd};

use serde_json::json;

use super::{assert_order, default_config, in_user_namespace, place, planned, rich_config, steps, tried};
use crate::container::namespaces::Join;
use crate::init::report::{Failure, StepIndex};
use crate::plan::{Birth, Gate, Label, Listening, StepError, create};
use crate::sys::namespace::{self, Kind, Kinds};
use crate::sys::process::{self, Child, Cloned};
use crate::sys::testing::in_a_child;
use crate::sys::{Errno, Fault};

/// It is made while the host's procfs is in sight, and survives the descriptors' end.
#[test]
fn what_a_supervisor_has_is_in_the_plan() {
    let listening = Listening { count: 2, names: Some("a:b".to_owned()) };
    let mut config = rich_config();
    let spec = |config: &serde_json::Value| serde_json::from_value(config.clone()).unwrap();
    let mut request = super::request(Gate::Socket);
    (request.preserve_fds, request.listening, request.notify) = (1, Some(&listening), true);
    let text = create(&spec(&config), &request).unwrap().to_string();
    assert_order(&text, "mount tmpfs on /run/notify (nosuid", "NOTIFY_SOCKET at ");
    assert_order(&text, "NOTIFY_SOCKET at ", "pivot");
    assert_order(&text, "close descriptors from 6 on", "send the runtime NOTIFY_SOCKET");
    assert_order(&text, "wait for start", "send the runtime NOTIFY_SOCKET");
    assert!(!text.contains("LISTEN_PID"), "its pid is 1:\n{text}");
    config["process"]["env"].as_array_mut().unwrap().push(json!("NOTIFY_SOCKET=/own"));
    let list = config["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|namespace| namespace["type"] != "pid");
    let text = create(&spec(&config), &request).unwrap().to_string();
    assert!(!text.contains("NOTIFY_SOCKET") && text.contains("set LISTEN_PID"), "{text}");
}

/// Sysctls of a device can be set only once it is there.
#[test]
fn init_waits_for_network_devices() {
    let mut config = rich_config();
    config["linux"]["netDevices"] = json!({ "eth0": { "name": "lan%d" } });
    if crate::sys::ids::effective_uid() != 0 {
        let error = tried(&config, Gate::Socket).err().unwrap().to_string();
        assert!(error.starts_with("linux.netDevices: a runtime that is not root"), "{error}");
        return;
    }
    assert_order(&steps(&config, Gate::Socket), "wait for the network devices", "enter the cgroup");
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    config["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    // One Go is for both.
    let text = steps(&config, Gate::Socket);
    assert!(text.contains("wait for the id maps") && !text.contains("wait for the network devices"), "{text}");
}

/// A mount namespace that is joined and the runtime's own is the host's, or the caller's.
#[test]
fn the_root_of_the_runtimes_own_mount_namespace_is_not_changed() {
    let mut config = default_config();
    config["root"]["readonly"] = json!(false);
    assert!(steps(&config, Gate::Socket).contains("pivot"));
    for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "mount" {
            namespace["path"] = json!("/proc/self/ns/mnt");
        }
    }
    let text = steps(&config, Gate::Socket);
    assert!(text.contains("chroot") && !text.contains("pivot"), "{text}");
}

/// The agent serves a created container, so its filter is never as late as another one.
#[test]
fn a_filter_that_notifies_is_loaded_by_create() {
    let mut config = rich_config();
    config["process"]["noNewPrivileges"] = json!(true);
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "/run/agent",
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }],
    });
    let text = steps(&config, Gate::Socket);
    assert_order(&text, "set capabilities", "seccomp");
    assert_order(&text, "seccomp 1 syscalls", "report ready");
    assert!(planned(&config, Gate::Socket).seccomp_agent.is_some());
    config["process"]["noNewPrivileges"] = json!(false);
    assert_order(&steps(&config, Gate::Socket), "seccomp 1 syscalls", "become user");
}

#[test]
fn nothing_of_a_joined_namespace_sees_into_init() {
    let mut config = default_config();
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "network" && namespace["type"] != "ipc");
    namespaces.push(json!({ "type": "network", "path": "/proc/self/ns/net" }));
    namespaces.push(json!({ "type": "ipc", "path": "/proc/self/ns/ipc" }));
    let text = steps(&config, Gate::Socket);
    assert_order(&text, "undumpable", "join net namespace");
    assert_order(&text, "undumpable", "join ipc namespace");
    // The id maps and the time offsets are written while init is dumpable.
    let text = steps(&in_user_namespace(), Gate::Socket);
    assert_order(&text, "wait for the id maps", "undumpable");
    assert_order(&text, "unshare time", "undumpable");
    // Which a change of ids makes it not.
    assert_order(&text, "unshare time", "become root");
}

#[test]
fn the_host_goes_out_of_sight_after_mounts_and_hooks() {
    for config in [rich_config(), in_user_namespace()] {
        let text = steps(&config, Gate::Socket);
        assert_order(&text, "enter the cgroup", "unshare cgroup");
        assert_order(&text, "reset cpu affinity", "unshare cgroup");
        assert_order(&text, "propagation of the host's mounts", "enter rootfs");
        assert_order(&text, "mount ", "report mounted");
        assert_order(&text, "report mounted", "hook /bin/create-container");
        assert_order(&text, "hook /bin/create-container", "pivot_root");
        assert_order(&text, "private procfs", "pivot_root");
        assert_order(&text, "console on", "pivot_root");
        assert_order(&text, "device ", "pivot_root");
    }
}

#[test]
fn files_are_closed_while_init_is_root() {
    for config in [rich_config(), in_user_namespace()] {
        let text = steps(&config, Gate::Socket);
        for closing in ["sysctl ", "make sure of it: ", "read-only ", "mask ", "read-only root"] {
            assert_order(&text, "pivot_root", closing);
            assert_order(&text, closing, "cut the bounding set");
            assert_order(&text, closing, "become user");
        }
        assert_order(&text, "sysctl ", "read-only /proc/sys");
        assert_order(&text, "become user", "set capabilities");
    }
}

#[test]
fn a_filter_is_last_with_no_new_privs_and_precedes_the_loss_of_rights_without() {
    let mut config = rich_config();
    let text = steps(&config, Gate::Socket);
    assert_order(&text, "set no_new_privs", "seccomp ");
    // As few calls as possible come after it, where no hook does.
    config["hooks"]["startContainer"] = json!([]);
    let text = steps(&config, Gate::Socket);
    assert_eq!(place(&text, "seccomp ") + 2, text.lines().count());

    config["process"]["noNewPrivileges"] = json!(false);
    let text = steps(&config, Gate::Socket);
    assert!(!text.contains("no_new_privs"));
    assert_order(&text, "read-only root", "seccomp ");
    assert_order(&text, "close descriptors", "seccomp ");
    assert_order(&text, "seccomp ", "cut the bounding set");
}

/// startContainer hooks are programs of the image, and what they leave behind lives on in the container: they have all
/// that the container's program has, and no more.
#[test]
fn nothing_of_the_image_runs_before_all_that_confines_it() {
    let notify = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "/run/agent",
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }],
    });
    for config in [rich_config(), in_user_namespace()] {
        for no_new_privileges in [true, false] {
            for notifies in [true, false] {
                let mut config = config.clone();
                config["process"]["noNewPrivileges"] = json!(no_new_privileges);
                config["linux"]["personality"] = json!({ "domain": "LINUX32" });
                if notifies {
                    config["linux"]["seccomp"] = notify.clone();
                }
                for gate in [Gate::Socket, Gate::Link] {
                    let text = steps(&config, gate);
                    let confines = ["seccomp ", "set capabilities", "become user", "cut the bounding set"];
                    for step in confines.iter().chain(&["set personality", "new session", "pivot_root", "mask "]) {
                        assert_order(&text, step, "hook /bin/start-container");
                    }
                    assert_order(&text, "wait for ", "hook /bin/start-container");
                    if no_new_privileges {
                        assert_order(&text, "set no_new_privs", "hook /bin/start-container");
                    }
                }
            }
        }
    }
}

#[test]
fn nothing_of_the_host_lies_open_while_a_created_container_waits() {
    for config in [default_config(), rich_config(), in_user_namespace()] {
        for (gate, waiting) in
            [(Gate::Socket, "wait for start at the gate"), (Gate::Link, "wait for the runtime's word to start")]
        {
            let text = steps(&config, gate);
            assert_order(&text, "close descriptors from 3 on", "report ready");
            assert_eq!(place(&text, "report ready") + 1, place(&text, waiting));
        }
    }
    let plan = planned(&rich_config(), Gate::Socket);
    let after: Vec<_> = plan.start_steps().into_iter().map(|label| label.what).collect();
    assert_eq!(after.len(), 5);
    for (step, start) in
        after.iter().zip(["wait for start at the gate", "seccomp ", "hook /bin/start", "reset signals"])
    {
        assert!(step.starts_with(start), "{after:?}");
    }
}

#[test]
fn the_runtime_has_its_own_hooks_and_the_container_its_own() {
    let plan = planned(&rich_config(), Gate::Socket);
    let fields: Vec<_> = plan.runtime_hooks.iter().map(|hook| hook.field.as_str()).collect();
    assert_eq!(fields, ["hooks.prestart[0]", "hooks.createRuntime[0]"]);
    let text = plan.to_string();
    assert!(!text.contains("prestart") && !text.contains("poststart") && !text.contains("poststop"));
}

#[test]
fn what_only_the_host_may_do_for_a_user_namespace_is_done_from_outside() {
    let plan = planned(&in_user_namespace(), Gate::Socket);
    let outside = plan.outside.as_ref().unwrap();
    assert_eq!((outside.oom_score_adj.is_some(), plan.rlimits.len()), (true, 1));
    let text = plan.to_string();
    assert!(!text.contains("oom score") && !text.contains("rlimit"), "{text}");
    let plain = planned(&rich_config(), Gate::Socket);
    assert!(plain.outside.is_none() && plain.rlimits.is_empty());
}

#[test]
fn init_is_born_in_a_user_namespace_that_is_joined() {
    in_a_child(|| {
        // What was our own is another one then, and has every id.
        let other = std::fs::File::open("/proc/self/ns/user")?;
        namespace::unshare(Kinds::NONE.with(Kind::User))?;
        let mut config = in_user_namespace();
        let path = format!("/proc/self/fd/{}", other.as_raw_fd());
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "user" && namespace["type"] != "ipc");
        namespaces.push(json!({ "type": "user", "path": path }));
        namespaces.push(json!({ "type": "ipc", "path": "/proc/self/ns/ipc" }));
        let plan = planned(&config, Gate::Socket);
        let entrance = plan.entrance.as_ref().unwrap();
        assert_eq!(entrance.user.as_ref().map(Join::kind), Some(Kind::User));
        // Where it is already it does not go: it might have no right to.
        assert_eq!((entrance.others.len(), plan.born_in.len()), (0, 0));
        assert!(entrance.time.is_some() && entrance.oom_score_adj.is_some() && plan.outside.is_none());
        assert_eq!(plan.rlimits.len(), 1);
        assert!(!Kinds::from_flags(u32::try_from(plan.clone_flags).unwrap()).contains(Kind::User));
        let text = plan.to_string();
        for absent in ["wait for the id maps", "oom score", "rlimit", "unshare time", "join ipc"] {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
        assert_order(&text, "become root of the user namespace", "undumpable");
        Ok(())
    });
}

#[test]
fn a_failed_step_reads_from_the_field_to_the_reason() {
    let label = Label { index: StepIndex::of(14), field: "mounts[3]".into(), what: "mount tmpfs on /tmp".into() };
    let fault = Fault::new("fsconfig", Errno::EINVAL, "tmpfs: Unknown parameter 'sice'");
    assert_eq!(
        StepError::new(Some(&label), &Failure::new(StepIndex::of(14), &fault)).to_string(),
        "mounts[3]: mount tmpfs on /tmp: fsconfig: invalid argument (tmpfs: Unknown parameter 'sice')"
    );
    let plan = planned(&default_config(), Gate::Socket);
    let fault = Fault::new("prctl", Errno::EPERM, "");
    assert_eq!(
        plan.word(&Failure::new(StepIndex::FIRST, &fault)).to_string(),
        "name ocirt:init: prctl: operation not permitted"
    );
    // What init says is checked, not trusted.
    assert_eq!(
        plan.word(&Failure::new(StepIndex::of(999), &fault)).to_string(),
        "step 999: prctl: operation not permitted"
    );
}

/// A process with a pid namespace of its own, which lives until the test's child ends.
pub fn other_pid_namespace() -> crate::sys::Result<Child> {
    let kinds = Kinds::NONE.with(Kind::User).with(Kind::Pid);
    match process::clone_process(kinds.flags().into(), None)? {
        Cloned::Runtime(child) => Ok(child),
        Cloned::Child => {
            let _ = process::die_with_parent();
            loop {
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
        }
    }
}

#[test]
fn init_is_born_last_in_a_pid_namespace_that_is_joined() {
    in_a_child(|| {
        let other = other_pid_namespace()?;
        let mut config = rich_config();
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
        namespaces.push(json!({ "type": "pid", "path": format!("/proc/{}/ns/pid", other.pid) }));
        let plan = planned(&config, Gate::Socket);
        assert_eq!((plan.birth, plan.born_in.len()), (Birth::Late, 0));
        let text = plan.to_string();
        let birth = "be born in the pid namespace";
        for before in
            ["enter the cgroup", "undumpable", "join pid", "unshare", "mount ", "pivot_root", "sysctl", "mask"]
        {
            assert_order(&text, before, birth);
        }
        assert_eq!(place(&text, "close descriptors from 3 on") + 1, place(&text, birth));
        for after in ["new session", "become user", "report ready", "hook /bin/start-container", "seccomp"] {
            assert_order(&text, birth, after);
        }
        assert!(text.contains("mount proc on /proc, of the joined pid namespace"), "{text}");
        // From a new user namespace there is no way in: the pid namespace comes first.
        let mut config = in_user_namespace();
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
        namespaces.push(json!({ "type": "pid", "path": format!("/proc/{}/ns/pid", other.pid) }));
        let plan = planned(&config, Gate::Socket);
        let kinds: Vec<_> = plan.entrance.iter().flat_map(|entrance| &entrance.others).map(Join::kind).collect();
        assert_eq!((plan.birth, kinds.as_slice(), plan.born_in.len()), (Birth::Late, &[Kind::Pid][..], 0));
        process::pidfd_send_signal(other.pidfd.as_fd(), crate::sys::signal::KILL)?;
        Ok(())
    });
}
