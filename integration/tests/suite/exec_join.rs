//! `exec`: where the process is: the container's namespaces, cgroups, root, keyring and filter, and no way out of them.

use super::exec::{exec, exec_json, minimal, refused, running};
use ocirt_integration::agent::{Agent, Answer};
use ocirt_integration::bundle::Bundle;
use ocirt_integration::host;
use ocirt_integration::needs::{Need, need, need_root};
use ocirt_integration::runtime::call;
use ocirt_integration::wait::eventually;
use ocirt_integration::{probe, tests, user};
use serde_json::{Value, json};

tests![
    the_process_is_in_every_namespace_of_the_container,
    the_process_is_in_the_cgroups_of_the_container,
    the_seccomp_profile_holds,
    rlimits_are_set_in_a_user_namespace,
    a_user_namespace_is_joined,
    a_time_namespace_is_joined,
    a_container_without_a_mount_namespace_is_entered,
    a_container_without_a_pid_namespace_is_entered,
    a_container_without_a_proc_is_entered,
    the_keyring_is_the_containers,
    the_working_directory_cannot_leave_the_container,
    the_cpus_are_those_of_exec_cpu_affinity,
    the_agent_answers_what_is_notified,
    a_container_whose_cgroup_is_gone_is_entered_where_init_is,
    a_container_that_is_no_leaf_is_entered_where_init_is,
];

fn the_process_is_in_every_namespace_of_the_container() {
    let container = running(Bundle::new().namespace("cgroup", None));
    let answer = exec(&container, &[], probe!(ns)).run().ok().answer();
    for name in ["pid", "net", "ipc", "uts", "mnt", "cgroup", "user"] {
        let path = format!("/proc/{}/ns/{name}", container.pid());
        let init = std::fs::read_link(path).expect("namespace").display().to_string();
        assert_eq!(answer[name], init.as_str(), "{name}");
    }
    let own = std::fs::read_link("/proc/self/ns/user").expect("namespace").display().to_string();
    assert_eq!(answer["user"] == own.as_str(), !user::has_suite());
}

fn the_process_is_in_the_cgroups_of_the_container() {
    let container = running(Bundle::new());
    let mut running = exec(&container, &[], probe!(print "x"; sleep 5)).spawn();
    eventually("the process runs", || running.stdout().contains('x'));
    let pids: Vec<u32> = call(["ps", "--format", "json", container.id()])
        .ok()
        .json()
        .as_array()
        .expect("a list")
        .iter()
        .map(|pid| pid.as_u64().expect("pid") as u32)
        .collect();
    assert_eq!(pids.len(), 2, "{pids:?}");
    let cgroups: Vec<_> =
        pids.iter().map(|pid| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup")).collect();
    assert_eq!(cgroups[0], cgroups[1]);
    assert!(cgroups[0].contains(container.id()), "{}", cgroups[0]);
    container.kill("KILL").ok();
    assert_eq!(running.finish().status, 137);
}

fn the_seccomp_profile_holds() {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }],
    });
    for no_new_privileges in [false, true] {
        let bundle = Bundle::new().set("linux.seccomp", profile.clone());
        let container = running(bundle.set("process.noNewPrivileges", json!(no_new_privileges)));
        let answers = exec(&container, &[], probe!(status "Seccomp"; sethostname "x")).run().ok().answers();
        assert_eq!(answers[0].to_string().replace('"', ""), "2");
        assert_eq!(answers[1]["error"], "EOPNOTSUPP");
    }
}

fn rlimits_are_set_in_a_user_namespace() {
    let limits = json!([{ "type": "RLIMIT_NOFILE", "soft": 99, "hard": 100 }]);
    let container = running(Bundle::new().user_namespace(100_000).set("process.rlimits", limits));
    assert_eq!(exec(&container, &[], probe!(rlimits)).run().ok().answer()["RLIMIT_NOFILE"], json!([99, 100]));
}

fn a_user_namespace_is_joined() {
    let container = running(Bundle::new().user_namespace(100_000).namespace("cgroup", None));
    let answers = exec(&container, &["-u", "5:6"], probe!(id; ns; read "/proc/self/uid_map")).run().ok().answers();
    assert_eq!((&answers[0]["uid"], &answers[0]["gid"]), (&json!([5, 5, 5]), &json!([6, 6, 6])));
    let init =
        std::fs::read_link(format!("/proc/{}/ns/user", container.pid())).expect("namespace").display().to_string();
    assert_eq!(answers[1]["user"], init.as_str());
    assert!(answers[2].to_string().contains("100000"), "{}", answers[2]);
    // A user without an id map is nobody that the process could become.
    refused(exec(&container, &["-u", "70000"], probe!(print "it ran")).run(), "");
}

fn a_time_namespace_is_joined() {
    let offsets = json!({ "monotonic": { "secs": 864_000 } });
    let container = running(Bundle::new().namespace("time", None).set("linux.timeOffsets", offsets));
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    let inside = exec(&container, &[], probe!(clocks)).run().ok().answer()["monotonic"].as_i64().expect("seconds");
    assert!((inside - now.tv_sec - 864_000).abs() < 30, "{inside} {}", now.tv_sec);
}

fn a_container_without_a_mount_namespace_is_entered() {
    let bundle = Bundle::new().without_namespace("mount").file("/data/own", "42");
    let bundle =
        bundle.set("mounts", Value::Null).set("linux.maskedPaths", Value::Null).set("linux.readonlyPaths", Value::Null);
    let container = running(bundle);
    assert_eq!(
        exec(&container, &["--cwd", "/data"], probe!(read "/data/own"; cwd)).run().ok().answers(),
        ["42", "/data"]
    );
}

fn a_container_without_a_pid_namespace_is_entered() {
    let container = running(Bundle::new().without_namespace("pid"));
    let pid = exec(&container, &[], probe!(session)).run().ok().answer()["pid"].as_u64().expect("pid");
    assert!(pid > 20, "{pid}");
}

fn a_container_without_a_proc_is_entered() {
    let bundle = Bundle::new()
        .set("mounts", json!([]))
        .set("linux.maskedPaths", json!([]))
        .set("linux.readonlyPaths", json!([]));
    std::fs::remove_dir(bundle.inside("proc")).expect("proc");
    let container = running(bundle);
    assert_eq!(exec(&container, &[], probe!(cwd)).run().ok().answer(), "/");
}

fn the_keyring_is_the_containers() {
    let container = running(Bundle::new());
    let answer = exec(&container, &[], probe!(keyring)).run().ok().answer();
    if answer["error"] != "ENOSYS" {
        assert!(answer.as_str().is_some_and(|text| text.ends_with(&format!("_ses.{}", container.id()))), "{answer}");
    }
}

/// CVE-2024-21626: by a descriptor that the runtime has open.
fn the_working_directory_cannot_leave_the_container() {
    let container = running(Bundle::new());
    for fd in 3..20 {
        for directory in [format!("/proc/self/fd/{fd}"), format!("/proc/self/fd/{fd}/../../..")] {
            refused(exec(&container, &["--cwd", &directory], probe!(print "it ran"; ls ".")).run(), "");
        }
    }
}

fn the_cpus_are_those_of_exec_cpu_affinity() {
    let allowed = exec(&running(Bundle::new()), &[], probe!(status "Cpus_allowed_list")).run().ok().stdout;
    let affinity = json!({ "initial": "0", "final": "0" });
    let container = running(Bundle::new().set("process.execCPUAffinity", affinity));
    assert_eq!(
        exec(&container, &[], probe!(status "Cpus_allowed_list")).run().ok().stdout.trim().replace('"', ""),
        "0"
    );
    assert_eq!(
        container.proc_file("status").lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")),
        Some(allowed.trim().trim_matches('"')),
        "init is not restricted"
    );
    let container = running(Bundle::new().set("process.execCPUAffinity", json!({ "initial": "0" })));
    assert_eq!(
        exec(&container, &[], probe!(status "Cpus_allowed_list")).run().ok().stdout,
        allowed,
        "the first ones are for the start alone"
    );
    let mut process = minimal(probe!(print "it ran"));
    process["execCPUAffinity"] = json!({ "final": "8000" });
    refused(exec_json(&container, &process), "");
}

/// Both places of the filter; each process has a listener of its own.
fn the_agent_answers_what_is_notified() {
    let agent = Agent::start(|_| Answer::Value(4711));
    for no_new_privileges in [true, false] {
        let bundle = Bundle::new().set("process.noNewPrivileges", json!(no_new_privileges)).set(
            "linux.seccomp",
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "listenerPath": agent.path,
                "syscalls": [{ "names": ["getsid"], "action": "SCMP_ACT_NOTIFY" }],
            }),
        );
        let container = running(bundle);
        let inits = agent.states(if no_new_privileges { 1 } else { 3 });
        assert_eq!(inits.last().map(|state| &state["state"]["status"]), Some(&json!("creating")));
        assert_eq!(exec(&container, &[], probe!(call libc::SYS_getsid, 0)).run().ok().answer(), 4711);
        let states = agent.states(inits.len() + 1);
        let of_exec = states.last().expect("a state");
        assert_eq!(of_exec["state"]["status"], "running");
        assert_ne!(of_exec["pid"], of_exec["state"]["pid"]);
    }
}

/// Who has the right to may move a container's processes elsewhere, and remove the cgroup that they were in.
fn a_container_whose_cgroup_is_gone_is_entered_where_init_is() {
    need(Need::CgroupV2, host::is_cgroup2());
    need(Need::Cgroupfs, !host::all_with_systemd());
    need_root();
    let container = running(Bundle::new());
    let own = container.cgroup("");
    let other = own.with_file_name(format!("{}-elsewhere", container.id()));
    std::fs::create_dir(&other).expect("cgroup");
    std::fs::write(other.join("cgroup.procs"), container.pid().to_string()).expect("init moves");
    std::fs::remove_dir(&own).expect("the container's own cgroup");
    let text = exec(&container, &[], probe!(read "/proc/1/cgroup"; read "/proc/self/cgroup")).run().ok();
    let [init, process] = [0, 1].map(|index| text.answers()[index].clone());
    assert_eq!(init, process);
    refused(exec(&container, &["--cgroup", "/"], probe!(print "it ran")).run(), "");
    let pid = container.pid();
    call(["delete", "--force", container.id()]).ok();
    host::reap(pid);
    ocirt_integration::wait::eventually("the cgroup is empty", || std::fs::remove_dir(&other).is_ok());
}

/// A container that manages cgroups of its own: no process can enter the one that has controllers for those below it
/// (cgroups(7), "No internal processes").
fn a_container_that_is_no_leaf_is_entered_where_init_is() {
    need(Need::CgroupV2, host::is_cgroup2());
    let container = running(Bundle::new());
    let own = container.cgroup("");
    user::make_cgroup(&own.join("init"));
    std::fs::write(own.join("init/cgroup.procs"), container.pid().to_string()).expect("init moves");
    std::fs::write(own.join("cgroup.subtree_control"), "+pids").expect("controllers");
    let text = exec(&container, &[], probe!(read "/proc/self/cgroup")).run().ok().answer();
    assert!(text.as_str().is_some_and(|text| text.trim().ends_with("/init")), "{text}");
    // What was asked for by name is not replaced.
    refused(exec(&container, &["--cgroup", "/"], probe!(print "it ran")).run(), "");
    user::make_cgroup(&own.join("other"));
    let text = exec(&container, &["--cgroup", "other"], probe!(read "/proc/self/cgroup")).run().ok().answer();
    assert!(text.as_str().is_some_and(|text| text.trim().ends_with("/other")), "{text}");
}
