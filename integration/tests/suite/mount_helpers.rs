//! The processes that `mounts add` has work for it: whose memory they use, whose error is told, and what they leave when they
//! are killed.

use super::hostile_mounts::{ROOT, bind, running};
use super::hot_mounts::{mountinfo, mounts, only_where_it_is_there, source};
use super::mount_accidents::{accident, needs_strace};
use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::runtime::{Call, call};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, tests};
use serde_json::json;
use std::fs;

tests![
    a_copy_is_charged_to_the_container,
    the_error_of_a_helper_process_is_its_own,
    a_killed_helper_process_leaves_nothing_that_stays,
];

const MIB: u64 = 1 << 20;

/// The container's memory in use, in MiB.
fn usage(container: &Container) -> u64 {
    let (controller, name) =
        if host::is_cgroup2() { ("", "memory.current") } else { ("memory", "memory.usage_in_bytes") };
    container.cgroup_file(controller, name).parse::<u64>().expect("a number") / MIB
}

fn a_copy_is_charged_to_the_container() {
    only_where_it_is_there();
    ocirt_integration::needs::need_root();
    for namespaced in [false, true] {
        for (limit, fits) in [(200, true), (30, false)] {
            let bundle = Bundle::new().directory("big").set("linux.resources.memory", json!({ "limit": limit * MIB }));
            let bundle = if namespaced { bundle.user_namespace(ROOT) } else { bundle };
            fs::File::create(bundle.inside("big/file")).expect("file").set_len(64 * MIB).expect("size");
            let container = running(bundle);
            let before = usage(&container);
            let mounted = mountinfo(&container);
            let list = json!([{ "destination": "/big", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }]);
            let output = mounts("add", &container, &list);
            if fits {
                output.ok();
                let after = usage(&container);
                assert!(after >= before + 60, "{before} MiB, and {after} MiB with the copy");
                mounts("remove", &container, &list).ok();
            } else {
                output.fails("mounts[0]: mount tmpfs on /big (tmpcopyup): tmpcopyup: cannot allocate memory");
                assert_eq!(mountinfo(&container), mounted);
                assert_eq!(container.status(), "running", "none of its processes was killed");
            }
            container.kill("KILL").ok();
        }
    }
}

fn the_error_of_a_helper_process_is_its_own() {
    only_where_it_is_there();
    needs_strace();
    let bundle = Bundle::new();
    let source = source(&bundle);
    let container = running(bundle);
    let file = container.bundle.dir.join("mounts.json");
    fs::write(&file, bind(&source, "/mnt").to_string()).expect("mounts.json");
    let script = accident("unshare", "error=ENOSPC", 1);
    let call = Call::new(["mounts", "add", container.id(), file.to_str().expect("UTF-8")]).traced(&script);
    call.run().fails("sources: mount namespace: unshare: no space left on device");
}

/// The process that mounts may be killed at any call, or the runtime.
fn a_killed_helper_process_leaves_nothing_that_stays() {
    only_where_it_is_there();
    needs_strace();
    let bundle = Bundle::new();
    let source = source(&bundle);
    let container = running(bundle);
    let before = mountinfo(&container);
    let list = json!([bind(&source, "/new/a")[0], { "destination": "/new/b", "type": "tmpfs", "source": "tmpfs" }]);
    let file = container.bundle.dir.join("mounts.json");
    fs::write(&file, list.to_string()).expect("mounts.json");
    let file = file.to_str().expect("UTF-8");
    let begun = std::time::Instant::now();
    let calls = ["move_mount", "sendmsg", "recvmsg", "statx", "openat2", "setns", "renameat", "exit_group"];
    let mut killed = 0;
    for (count, name) in (1..8).flat_map(|count| calls.map(|name| (count, name))) {
        if begun.elapsed().as_secs() > 20 {
            break;
        }
        let script = accident(name, "signal=KILL", count);
        let output = Call::new(["mounts", "add", container.id(), file]).traced(&script).run();
        killed += usize::from(output.status != 0);
        host::reap_zombies();
        // A helper process that outlives the runtime undoes its work; what is in the state stays until it is removed.
        eventually(&format!("nothing stays of {name} {count}: {output:?}"), || {
            let is_as_before = || mountinfo(&container) == before;
            is_as_before() || call(["mounts", "remove", container.id(), file]).status == 0 && is_as_before()
        });
    }
    assert!(killed > 5, "only {killed} were killed");
}
