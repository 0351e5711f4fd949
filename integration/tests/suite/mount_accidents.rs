//! Accidents of the processes that open and mount for a container: strace(1) has a call fail, or kills.

use std::os::unix::fs::PermissionsExt;

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{Need, need, need_ocirt};
use ocirt_integration::runtime::{Call, call, reachable, strace_flags};
use ocirt_integration::{host, probe, tests};
use serde_json::json;

tests![create_with_an_accident_at_any_call_leaves_nothing, mounts_with_a_failing_system_call_are_all_or_none];

const ROOT: u32 = 100_000;

/// The runtime under strace, which has the call `name` of each of its processes end in `how`, the `count`th time.
pub fn accident(name: &str, how: &str, count: u32) -> std::path::PathBuf {
    let script = host::place().join("traced");
    let inject = format!("-f -qq -o /dev/null -e inject={name}:{how}:when={count}");
    let (flags, runtime) = (strace_flags(), reachable());
    let text = format!("#!/bin/sh\nexec strace {flags} {inject} {} \"$@\"\n", runtime.display());
    std::fs::write(&script, text).expect("script");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    script
}

pub fn needs_strace() {
    need_ocirt();
    need(Need::Strace, std::process::Command::new("strace").arg("-V").output().is_ok());
}

/// The runtime, init, the opener, or whoever holds a user namespace meets a failing call, or dies: strace(1) sees to it.
fn create_with_an_accident_at_any_call_leaves_nothing() {
    needs_strace();
    let calls = ["clone3", "setns", "sendmsg", "recvmsg", "open_tree", "mount_setattr", "move_mount"];
    let begun = std::time::Instant::now();
    let accidents = (1..9).flat_map(|count| calls.map(|name| (name, count)));
    for (name, count, how) in
        accidents.flat_map(|(name, count)| ["error=ENOSPC", "signal=KILL"].map(|how| (name, count, how)))
    {
        if begun.elapsed().as_secs() > 20 {
            break;
        }
        let bundle = Bundle::new().user_namespace(ROOT);
        let private = bundle.host_dir("private");
        std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o700)).expect("chmod");
        let source = bundle.host_dir("private/source").display().to_string();
        let bundle = bundle.mount("bind", &source, "/mnt", &["bind", "ro"]);
        let map = json!([{ "containerID": 0, "hostID": ROOT, "size": 5 }]);
        let bundle = bundle.push(
            "mounts",
            json!({
                "destination": "/own", "type": "tmpfs", "source": "tmpfs", "options": ["idmap"],
                "uidMappings": map, "gidMappings": map,
            }),
        );
        let script = accident(name, how, count);
        // It follows the container's process too, and ends with the last.
        let bundle = bundle.write(probe!(print "it ran"));
        let output = bundle.call("run").traced(&script).run();
        if how == "error=ENOSPC" && output.status == 1 {
            assert!(output.stderr.starts_with("ocirt: run "), "{name} {count}: {}", output.stderr);
            host::assert_nothing_left();
        }
        call(["delete", "--force", &bundle.id]).ok();
        host::reap_zombies();
        host::assert_nothing_left();
    }
}

/// Any process of `mounts add` may meet a call that fails: strace(1) has one do so.
fn mounts_with_a_failing_system_call_are_all_or_none() {
    needs_strace();
    let bundle = Bundle::new().user_namespace(ROOT);
    let source = bundle.host_dir("source");
    std::fs::write(source.join("file"), "from outside").expect("file");
    let container = bundle.create(probe!(sleep 60));
    container.start().ok();
    let list = json!([
        { "destination": "/new/a", "source": source, "options": ["bind", "ro"] },
        { "destination": "/new/b", "source": source.join("file"), "options": ["bind"] },
        { "destination": "/new/c", "type": "tmpfs", "source": "tmpfs", "options": ["ro"] },
    ]);
    let file = container.bundle.dir.join("mounts.json");
    std::fs::write(&file, list.to_string()).expect("mounts.json");
    let file = file.to_str().expect("UTF-8");
    call(["mounts", "add", container.id(), file]).ok();
    call(["mounts", "remove", container.id(), file]).ok();
    let before = container.proc_file("mountinfo");
    let calls = [
        "clone3",
        "setns",
        "unshare",
        "socketpair",
        "sendmsg",
        "recvmsg",
        "open_tree",
        "mount_setattr",
        "openat2",
        "statx",
        "fstatfs",
        "move_mount",
        "mkdirat",
        "fsopen",
        "fsconfig",
        "fsmount",
        "setuid",
    ];
    let begun = std::time::Instant::now();
    let mut failed = 0;
    for (name, count) in (1..8).flat_map(|count| calls.map(|name| (name, count))) {
        if begun.elapsed().as_secs() > 20 {
            break;
        }
        let script = accident(name, "error=ENOSPC", count);
        let output = Call::new(["mounts", "add", container.id(), file]).traced(&script).run();
        if output.status == 0 {
            call(["mounts", "remove", container.id(), file]).ok();
        } else {
            failed += 1;
            assert!(output.stderr.starts_with("ocirt: "), "{name} {count}: {}", output.stderr);
        }
        assert_eq!(container.proc_file("mountinfo"), before, "{name} {count}");
    }
    assert!(failed > 10, "only {failed} calls were met");
}
