//! The order of an exec, as text, and what `create` saves for it.

use std::path::Path;

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::{LAST, assert_lines, assert_order, default_config, in_user_namespace, planned, rich_config};
use crate::plan::{ExecPlan, ExecRequest, Gate, Saved, exec};

/// The steps of an exec of the container's own process, from what is saved of the container.
fn exec_steps(config: &Value) -> String {
    let text = exec_plan(config, false).to_string();
    let lines = text.lines().map(|line| line.split_once(" bounding=").map_or(line, |(step, _)| step));
    lines.map(|line| format!("{line}\n")).collect()
}

pub fn exec_plan(config: &Value, is_scored_by_runtime: bool) -> ExecPlan {
    let spec: Spec = serde_json::from_value(config.clone()).unwrap();
    let plan = planned(config, Gate::Socket);
    let text = serde_json::to_string(&Saved::new(&spec, &plan, true).unwrap()).unwrap();
    let saved: Saved = serde_json::from_str(&text).unwrap();
    let request = ExecRequest {
        id: "test",
        rootfs: Path::new("/bundle/rootfs"),
        init: std::fs::File::open("/dev/null").unwrap().into(),
        is_scored_by_runtime,
        preserve_fds: 0,
        relays_terminal: false,
        is_placed_when_ready: false,
        floor: None,
    };
    exec(&saved.process, &saved, request).unwrap()
}

#[test]
fn the_score_is_the_processs_own_step_or_the_runtimes_part() {
    let text = |plan: &ExecPlan| plan.to_string().contains("oom score adjustment 100");
    let (own, born) = (exec_plan(&rich_config(), false), exec_plan(&rich_config(), true));
    assert!(text(&own) && own.born_with.is_none());
    assert!(!text(&born) && born.born_with.is_some());
}

#[test]
fn an_exec_with_everything() {
    let mut config = rich_config();
    config["process"]["execCPUAffinity"] = json!({ "initial": "0", "final": "0-1" });
    config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH" });
    config["linux"]["personality"] = json!({ "domain": "LINUX" });
    let expected = [
        "\
name ocirt:exec
set oom score adjustment 100    # process.oomScoreAdj
enter the cgroup    # linux.cgroupsPath
set cpu affinity 0-1    # process.execCPUAffinity.final
undumpable
join init's namespaces ipc, uts, net, pid, mnt, cgroup    # linux.namespaces
join session keyring _ses.test
open the root
console    # process.terminal
close descriptors from 3 on
be born in the pid namespace    # linux.namespaces
new session
controlling terminal    # process.terminal
set scheduler SCHED_BATCH    # process.scheduler
set personality LINUX    # linux.personality
set no_new_privs    # process.noNewPrivileges
as root: enter /srv    # process.cwd
set HOME of user 1000 from /etc/passwd    # process.env
set rlimit RLIMIT_NOFILE 1024:1024    # process.rlimits
",
        LAST,
        "\
reset signals
seccomp 2 syscalls, 9 instructions    # linux.seccomp
exec sh    # process.args[0]
",
    ];
    assert_lines(&exec_steps(&config), &expected);
}

#[test]
fn an_exec_in_a_user_namespace() {
    let expected = [
        "\
name ocirt:exec
set oom score adjustment 100    # process.oomScoreAdj
enter the cgroup    # linux.cgroupsPath
reset cpu affinity
undumpable
join init's namespaces user, ipc, uts, net, pid, mnt, cgroup, time    # linux.namespaces
become root of the user namespace    # linux.uidMappings
still undumpable
join session keyring _ses.test
open the root
console    # process.terminal
close descriptors from 3 on
be born in the pid namespace    # linux.namespaces
new session
controlling terminal    # process.terminal
as root: enter /srv    # process.cwd
set HOME of user 1000 from /etc/passwd    # process.env
seccomp 2 syscalls, 9 instructions    # linux.seccomp
",
        LAST,
        "\
wait for the runtime's word to start    # process.rlimits
reset signals
exec sh    # process.args[0]
",
    ];
    assert_lines(&exec_steps(&in_user_namespace()), &expected);
}

#[test]
fn an_exec_without_a_mount_namespace_changes_its_root() {
    let mut config = default_config();
    config["process"]["terminal"] = json!(false);
    config["root"]["readonly"] = json!(false);
    for list in ["maskedPaths", "readonlyPaths"] {
        config["linux"][list] = json!([]);
    }
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "mount");
    let text = exec_steps(&config);
    assert_order(&text, "join init's namespaces", "enter rootfs /bundle/rootfs");
    assert_order(&text, "enter rootfs", "chroot");
    assert_order(&text, "chroot", "close descriptors");
    assert_order(&text, "close descriptors", "be born in the pid namespace");
}

#[test]
fn what_is_saved_for_exec_is_small() {
    let spec: Spec = serde_json::from_value(rich_config()).unwrap();
    let plan = planned(&rich_config(), Gate::Socket);
    let text = serde_json::to_string(&Saved::new(&spec, &plan, false).unwrap()).unwrap();
    assert!(text.len() < 2000, "{text}");
    assert!(!text.contains("mounts") && !text.contains("hooks"), "{text}");
}
