//! The cgroups of an ordinary user with the cgroupfs driver: what is delegated to him is made use of, and what is not
//! cannot be had. The other half, a user without any cgroup, is in `rootless`.

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::host::{self, CGROUPS};
use ocirt_integration::needs::{Need, need, need_root};
use ocirt_integration::runtime::{Call, kind};
use ocirt_integration::user::{self, USER};
use ocirt_integration::{probe, tests};
use serde_json::json;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

tests![
    limits_hold_in_a_delegated_cgroup,
    an_own_path_is_below_what_is_delegated,
    a_controller_that_is_not_delegated_is_named,
    of_v1_the_hierarchies_that_are_not_delegated_are_done_without,
    outside_of_what_is_delegated_nothing_is_made,
];

fn delegated() -> PathBuf {
    need(Need::CgroupV2, host::is_cgroup2());
    need(Need::Cgroupfs, !host::all_with_systemd());
    if !user::has_suite() {
        user::delegate();
    }
    Path::new(CGROUPS).join(user::cgroup_prefix().trim_start_matches('/'))
}

fn one() -> Bundle {
    Bundle::new().rootless(user::one_id())
}

fn running(bundle: Bundle) -> Container {
    let container = bundle.create(probe!(print "up"; sleep 60));
    container.start().ok();
    container.answers(1);
    container
}

fn limits_hold_in_a_delegated_cgroup() {
    let base = delegated();
    let limits = json!({
        "memory": { "limit": 64 << 20 }, "pids": { "limit": 33 }, "cpu": { "quota": 50_000, "period": 100_000 },
    });
    let container = running(one().set("linux.resources", limits));
    let cgroup = container.cgroup("");
    assert_eq!(cgroup.parent(), Some(base.as_path()), "beside the runtime");
    assert_eq!(cgroup.metadata().expect("cgroup").uid(), USER);
    for (file, value) in [("memory.max", "67108864"), ("pids.max", "33"), ("cpu.max", "50000 100000")] {
        assert_eq!(container.cgroup_file("", file), value, "{file}");
    }
    let inside = super::exec::exec(&container, &[], probe!(read "/proc/self/cgroup")).as_user(true).run().ok().answer();
    assert_eq!(inside.as_str().map(str::trim), Some(container.proc_file("cgroup").trim()));
    container.call(["update", "--pids-limit", "21", container.id()]).ok();
    assert_eq!(container.cgroup_file("", "pids.max"), "21");
    container.call(["pause", container.id()]).ok();
    assert_eq!(container.status(), "paused");
    container.call(["delete", "--force", container.id()]).ok();
    assert!(!cgroup.exists());
    host::assert_nothing_left();
}

fn an_own_path_is_below_what_is_delegated() {
    let base = delegated();
    let path = format!("{}/{}/one", user::cgroup_prefix(), host::tag());
    let container = running(one().set("linux.cgroupsPath", json!(path)));
    assert_eq!(container.cgroup(""), base.join(host::tag()).join("one"));
    container.call(["delete", "--force", container.id()]).ok();
    assert!(!base.join(host::tag()).join("one").exists());
    // Parents of an own path are the caller's to remove.
    std::fs::remove_dir(base.join(host::tag())).expect("cgroup");
}

fn a_controller_that_is_not_delegated_is_named() {
    let base = delegated();
    // The user cannot take what the one above, which is root's, does not give.
    for directory in base.ancestors().take(2) {
        std::fs::write(directory.join("cgroup.subtree_control"), "-memory").expect("controllers");
    }
    let output = one()
        .set("linux.resources", json!({ "memory": { "limit": 64 << 20 } }))
        .refused_as_ocirt("linux.resources.memory");
    if kind() == "ocirt" {
        let words = "linux.resources.memory.limit: cgroup controller memory is not available";
        assert!(output.stderr.contains(words), "{}", output.stderr);
    }
    // What is there can be had.
    let container = running(one().set("linux.resources", json!({ "pids": { "limit": 33 } })));
    assert_eq!(container.cgroup_file("", "pids.max"), "33");
}

/// Somebody may have given the user his place in one hierarchy of v1 and in no other, as pam_cgfs does.
fn of_v1_the_hierarchies_that_are_not_delegated_are_done_without() {
    need(Need::CgroupV1, !host::is_cgroup2() && Path::new("/sys/fs/cgroup/pids/tasks").exists());
    need_root();
    let name = format!("{}-delegated", host::tag());
    let own = Path::new("/sys/fs/cgroup/pids").join(&name);
    std::fs::create_dir(&own).expect("cgroup");
    for file in ["", "tasks", "cgroup.procs"] {
        std::os::unix::fs::chown(own.join(file), Some(USER), Some(USER)).expect("chown");
    }
    let tasks = std::fs::File::options().write(true).open(own.join("tasks")).expect("tasks");
    let bundle = one().set("linux.resources", json!({ "pids": { "limit": 20 } })).write(probe!(sleep 60));
    let enter = move || std::io::Write::write_all(&mut (&tasks), b"0");
    bundle.call("create").inheriting(enter).run().ok();
    assert_eq!(std::fs::read_to_string(own.join(&bundle.id).join("pids.max")).expect("limit").trim(), "20");
    let pids = std::fs::read_to_string(own.join(&bundle.id).join("cgroup.procs")).expect("processes");
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", pids.trim())).expect("cgroups of init");
    let below: Vec<_> = groups.lines().filter(|line| line.ends_with(&format!("/{}", bundle.id))).collect();
    assert!(below.len() == 1 && below[0].contains(&format!(":pids:/{name}/")), "{groups}");
    Call::new(["delete", "--force", &bundle.id]).as_user(true).run().ok();
    std::fs::remove_dir(&own).expect("it is empty");
}

fn outside_of_what_is_delegated_nothing_is_made() {
    delegated();
    let path = format!("/{}", host::tag());
    let output = one().set("linux.cgroupsPath", json!(path)).refused("permission denied");
    if kind() == "ocirt" {
        assert!(output.stderr.contains("linux.cgroupsPath: make cgroup "), "{}", output.stderr);
    }
}
