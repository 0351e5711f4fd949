//! Failures whose cause lies outside of the container's configuration: the message names the field that meets them, and
//! the process that failed has the word, not the one that noticed.

use super::exec::{exec_json, minimal};
use super::inject::traced;
use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::runtime::call;
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

tests![
    a_pid_namespace_without_its_init_names_its_field,
    a_filter_that_kills_the_set_up_is_named,
    a_filter_that_kills_the_set_up_of_exec_is_named,
    a_rule_of_the_runtimes_own_that_a_cgroup_above_forbids_is_called_so,
    a_rule_of_the_configuration_that_a_cgroup_above_forbids_is_not,
    what_init_reports_is_the_reason_whatever_the_runtime_noticed_first,
];

/// A namespace of a container that has ended, kept by its descriptor, and a path to it.
fn kept(container: &ocirt_integration::bundle::Container, kind: &str) -> (File, String) {
    let file = File::open(format!("/proc/{}/ns/{kind}", container.pid())).expect("namespace");
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    (file, path)
}

fn a_pid_namespace_without_its_init_names_its_field() {
    need_ocirt();
    need_root();
    for in_user_namespace in [false, true] {
        let new = || if in_user_namespace { Bundle::new().user_namespace(70_000) } else { Bundle::new() };
        let pod = new().start(probe!(sleep 20000));
        let (pids, pid_path) = kept(&pod, "pid");
        let (users, user_path) = kept(&pod, "user");
        let mut bundle = new().namespace("pid", Some(&pid_path));
        if in_user_namespace {
            bundle = bundle.namespace("user", Some(&user_path));
        }
        call(["delete", "--force", pod.id()]).ok();
        let output = bundle.run(probe!(print "it ran")).fails("linux.namespaces");
        // The maps of a user namespace are read through a process in it, which needs no pid namespace.
        let words = format!(
            "linux.namespaces: join pid namespace {pid_path}: its init has ended, or there is no memory: init: "
        );
        assert!(output.stderr.contains(&words), "{}", output.stderr);
        assert!(output.stderr.trim_end().ends_with("cannot allocate memory"), "{}", output.stderr);
        drop((pids, users));
    }
}

fn killing(name: &str) -> Value {
    let rule = json!({ "names": [name], "action": "SCMP_ACT_KILL_PROCESS" });
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [rule] })
}

const FILTER: &str = "linux.seccomp: the filter ended ";

fn a_filter_that_kills_the_set_up_is_named() {
    need_ocirt();
    need_root();
    let bundle = Bundle::new().set("linux.seccomp", killing("capset")).set("process.noNewPrivileges", json!(false));
    let output = bundle.run(probe!(print "it ran")).fails("linux.seccomp: ");
    assert!(
        output.stderr.contains(&format!("{FILTER}init (SIGSYS) while it set the container up: ")),
        "{}",
        output.stderr
    );
    host::assert_nothing_left();
}

fn a_filter_that_kills_the_set_up_of_exec_is_named() {
    need_ocirt();
    need_root();
    let bundle = Bundle::new().set("linux.seccomp", killing("capset")).set("process.noNewPrivileges", json!(true));
    let container = bundle.start(probe!(sleep 20000));
    let mut process = minimal(probe!(print "it ran"));
    process["noNewPrivileges"] = json!(false);
    let output = exec_json(&container, &process);
    assert_eq!(output.status, 255, "{}", output.stdout);
    assert!(
        output.stderr.contains(&format!("{FILTER}the process (SIGSYS) while it was set up: ")),
        "{}",
        output.stderr
    );
    call(["delete", "--force", container.id()]).ok();
}

/// What `run` says in a cgroup above which the device `line` is forbidden.
fn below_a_cgroup_without(line: &str, bundle: Bundle) -> String {
    need_ocirt();
    need_root();
    let hierarchy = Path::new("/sys/fs/cgroup/devices");
    need(Need::CgroupV1, hierarchy.join("devices.deny").exists() || hierarchy.join("devices.list").exists());
    let above = format!("above-{}", bundle.id);
    let directory = hierarchy.join(&above);
    std::fs::create_dir(&directory).expect("a cgroup");
    std::fs::write(directory.join("devices.deny"), line).expect("devices.deny");
    let output = bundle.set("linux.cgroupsPath", json!(format!("/{above}/c"))).run(probe!(print "it ran"));
    let removed = std::fs::remove_dir(&directory);
    assert_ne!(output.status, 0, "{}", output.stdout);
    removed.expect("nothing is left in it");
    output.stderr
}

fn a_rule_of_the_runtimes_own_that_a_cgroup_above_forbids_is_called_so() {
    let said = below_a_cgroup_without("c 10:200 rw", Bundle::new());
    let words = "linux.resources.devices: write \"c 10:200 rwm\" to devices.allow: operation not permitted (the rule is the \
                 runtime's own, for every container; a cgroup above forbids it)";
    assert!(said.contains(words), "{said}");
}

fn a_rule_of_the_configuration_that_a_cgroup_above_forbids_is_not() {
    let rule = json!([{ "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm" }]);
    let said = below_a_cgroup_without("c 10:229 rwm", Bundle::new().set("linux.resources.devices", rule));
    assert!(
        said.contains("linux.resources.devices: write \"c 10:229 rwm\" to devices.allow: operation not permitted"),
        "{said}"
    );
    assert!(!said.contains("the runtime's own"), "{said}");
}

/// Init reports that its first step failed, and ends, before the runtime has written the maps of its ids: by a strace that
/// refuses it its name, and holds the runtime up where it opens the maps.
fn what_init_reports_is_the_reason_whatever_the_runtime_noticed_first() {
    need_ocirt();
    need_root();
    need(Need::Strace, std::process::Command::new("strace").arg("-V").output().is_ok());
    let (script, _) = traced("-f -e inject=prctl:error=EPERM -e inject=openat2:delay_enter=50000");
    for _ in 0..3 {
        let bundle = Bundle::new().user_namespace(70_000).write(probe!(print "it ran"));
        let said = bundle.call("create").traced(&script).run();
        let reason =
            format!("ocirt: create {}: name ocirt:init: prctl(PR_SET_NAME): operation not permitted\n", bundle.id);
        assert!(said.stderr.ends_with(&reason), "{}", said.stderr);
    }
}
