//! `process.capabilities`: what the container's first process may do, and what is not granted (capabilities(7)).

use ocirt_bundle::CAPABILITIES;
use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::need_root;
use ocirt_integration::runtime::{self};
use ocirt_integration::{probe, tests, user};
use serde_json::{Value, json};

tests![
    a_user_other_than_root_has_no_capability_left,
    each_capability_set_is_set_exactly,
    no_capabilities_means_none,
    ambient_capabilities_reach_a_user,
    an_unknown_capability_is_a_warning,
    only_the_exact_name_of_a_capability_grants_it,
    exec_says_nothing_of_what_the_container_has_not_either,
];

fn a_user_other_than_root_has_no_capability_left() {
    let answer = Bundle::new().set("process.user.uid", json!(1000)).run(probe!(caps)).ok().answer();
    assert_eq!(answer["effective"], json!([]));
    assert_eq!(answer["permitted"], json!([]));
    assert_eq!(answer["bounding"].as_array().map(Vec::len), Some(CAPABILITIES.len()));
}

fn each_capability_set_is_set_exactly() {
    let three = json!(["CAP_CHOWN", "CAP_KILL", "CAP_SETPCAP"]);
    let sets = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETPCAP", "CAP_SYS_ADMIN"],
        "effective": three, "permitted": three,
        "inheritable": ["CAP_KILL", "CAP_CHOWN"], "ambient": ["CAP_CHOWN"],
    });
    let user = json!({ "uid": 1000, "gid": 1000 });
    let bundle = Bundle::new().set("process.capabilities", sets).set("process.user", user);
    let answer = bundle.run(probe!(caps)).ok().answer();
    // After execve by an ordinary user: P' = ambient (capabilities(7)).
    assert_eq!(answer["permitted"], json!(["CAP_CHOWN"]));
    assert_eq!(answer["effective"], json!(["CAP_CHOWN"]));
    assert_eq!(answer["inheritable"], json!(["CAP_CHOWN", "CAP_KILL"]));
    assert_eq!(answer["ambient"], json!(["CAP_CHOWN"]));
    assert_eq!(answer["bounding"], json!(["CAP_CHOWN", "CAP_KILL", "CAP_SETPCAP", "CAP_SYS_ADMIN"]));
}

fn no_capabilities_means_none() {
    let none = json!({ "bounding": [], "effective": [], "permitted": [], "inheritable": [], "ambient": [] });
    for value in [none, json!({}), Value::Null] {
        let answer = Bundle::new().set("process.capabilities", value.clone()).run(probe!(caps)).ok().answer();
        for set in ["effective", "permitted", "inheritable", "ambient", "bounding"] {
            assert_eq!(answer[set], json!([]), "{set} with {value}");
        }
    }
}

fn ambient_capabilities_reach_a_user() {
    let one = json!(["CAP_NET_BIND_SERVICE"]);
    let sets = json!({ "bounding": one, "effective": one, "permitted": one, "inheritable": one, "ambient": one });
    let bundle = Bundle::new().set("process.capabilities", sets).set("process.user.uid", json!(1000));
    assert_eq!(bundle.run(probe!(caps)).ok().answer()["effective"], one);
}

fn an_unknown_capability_is_a_warning() {
    let set = json!(["CAP_CHOWN", "CAP_OF_THE_FUTURE"]);
    let sets = json!({ "bounding": set, "effective": set, "permitted": set });
    let output = Bundle::new().set("process.capabilities", sets).run(probe!(caps)).ok();
    assert_eq!(output.answer()["effective"], json!(["CAP_CHOWN"]));
    assert!(output.stderr.contains("CAP_OF_THE_FUTURE"), "no warning in {:?}", output.stderr);
}

/// What runc and crun know nothing of is not granted: `create`, a process.json, and `--cap`.
fn only_the_exact_name_of_a_capability_grants_it() {
    let set = json!(["CAP_CHOWN", "NET_ADMIN", "net_admin", "CAP_net_raw", "cap_sys_admin", "CAP_SYS_ADMIN "]);
    let sets = json!({ "bounding": set, "effective": set, "permitted": set });
    let output = Bundle::new().set("process.capabilities", sets.clone()).run(probe!(caps)).ok();
    assert_eq!(output.answer()["bounding"], json!(["CAP_CHOWN"]));
    assert!(output.stderr.contains("net_admin"), "no warning in {:?}", output.stderr);
    let container = Bundle::new().start(probe!(sleep 60));
    let file = container.bundle.dir.join("process.json");
    let process = json!({
        "cwd": "/", "user": { "uid": 0, "gid": 0 }, "args": probe!(caps), "env": ["PATH=/"], "capabilities": sets
    });
    std::fs::write(&file, process.to_string()).expect("process.json");
    user::give_in_suite(&file);
    let output = container.call(["exec", "--process", file.to_str().expect("UTF-8"), container.id()]).ok();
    assert_eq!(output.answer()["bounding"], json!(["CAP_CHOWN"]));
    let output = container.call(["exec", "--cap", "net_admin", container.id(), "/probe", "caps"]);
    if output.status == 0 {
        assert!(!output.stdout.contains("CAP_NET_ADMIN"), "{}", output.stdout);
    } else {
        assert!(output.stderr.contains("net_admin"), "{}", output.stderr);
    }
}

/// Engines repeat the container's capabilities in each process.json, and the program's standard error is read by others.
fn exec_says_nothing_of_what_the_container_has_not_either() {
    need_root();
    let drop = || {
        // SAFETY: takes numbers.
        match unsafe { libc::prctl(libc::PR_CAPBSET_DROP, 25, 0, 0, 0) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    let set = json!(["CAP_CHOWN", "CAP_SYS_TIME"]);
    let sets = json!({ "bounding": set, "effective": set, "permitted": set });
    let bundle = Bundle::new().set("process.capabilities", sets.clone()).write(probe!(sleep 60));
    let created = bundle.call("create").inheriting(drop).run().ok();
    assert!(created.stderr.contains("CAP_SYS_TIME left out"), "{}", created.stderr);
    runtime::Call::new(["start", &bundle.id]).run().ok();
    let file = bundle.dir.join("process.json");
    let process = json!({
        "cwd": "/", "user": { "uid": 0, "gid": 0 }, "args": probe!(caps), "env": ["PATH=/"], "capabilities": sets
    });
    std::fs::write(&file, process.to_string()).expect("process.json");
    let words = ["exec", "--process", file.to_str().expect("UTF-8"), &bundle.id];
    let output = runtime::Call::new(words).inheriting(drop).run().ok();
    assert_eq!((output.answer()["bounding"].clone(), output.stderr.as_str()), (json!(["CAP_CHOWN"]), ""));
    let words = ["exec", "--cap", "CAP_SYS_TIME", &bundle.id, "/probe", "caps"];
    runtime::Call::new(words).inheriting(drop).run().ok();
    runtime::Call::new(["delete", "--force", &bundle.id]).run().ok();
}
