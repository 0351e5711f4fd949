//! A user namespace that is joined by its path: those that are none, or lack something.

use super::userns_path::{Made, ROOT, without_maps};

use ocirt_integration::bundle::Bundle;
use ocirt_integration::host;
use ocirt_integration::{probe, tests, user};
use serde_json::{Value, json};

tests![
    what_is_no_user_namespace_is_refused,
    one_without_a_root_is_refused,
    the_runtimes_own_user_namespace_is_none,
    groups_stay_denied_where_they_are,
];

fn what_is_no_user_namespace_is_refused() {
    for (path, words) in [
        ("/proc/self/ns/net", "/proc/self/ns/net is a net namespace, not user"),
        ("/etc/passwd", "/etc/passwd is not a namespace"),
        ("/proc/self/ns/nothing", "/proc/self/ns/nothing: open: no such file or directory"),
        ("proc/1/ns/user", "proc/1/ns/user is not absolute"),
    ] {
        for bundle in [Bundle::new().user_namespace(ROOT), Bundle::new()] {
            bundle.namespace("user", Some(path)).refused(&format!("linux.namespaces[5].path: {words}"));
        }
    }
}

fn one_without_a_root_is_refused() {
    let made = Made::new(&[]);
    let refused = |made: Made, words: &str| {
        let bundle = without_maps(Bundle::new().user_namespace(ROOT)).namespace("user", Some(&made.path("user")));
        bundle.run(probe!(print "it ran")).fails(&format!("linux.namespaces[5].path: {}: {words}", made.path("user")));
        drop(made);
        host::assert_nothing_left();
    };
    refused(made, "uid 0 is not mapped in it");
    let made = Made::new(&[]).write("uid_map", "0 100000 10").write("gid_map", "1 100001 10");
    refused(made, "gid 0 is not mapped in it");
}

/// setns(2) refuses the one that the caller is in.
fn the_runtimes_own_user_namespace_is_none() {
    let own = || Bundle::new().namespace("user", Some("/proc/self/ns/user"));
    if user::has_suite() {
        return drop(without_maps(own()).refused("rootless container requires user namespaces"));
    }
    let answers = own().run(probe!(ns; id; mountof "/dev/null"; stat "/dev/null")).ok().answers();
    let user = std::fs::read_link("/proc/self/ns/user").expect("ns");
    assert_eq!((&answers[0]["user"], &answers[1]["uid"]), (&json!(user), &json!([0, 0, 0])));
    // Its devices are made, not bound.
    assert_eq!((&answers[2], &answers[3]["rdev"]), (&Value::Null, &json!("1:3")));
    let map = json!([{ "containerID": 0, "hostID": ROOT, "size": 10 }]);
    own().set("linux.uidMappings", map).refused("linux.uidMappings: not those of the user namespace");
}

fn groups_stay_denied_where_they_are() {
    let map = format!("0 {ROOT} 65536");
    let made = Made::new(&[]).write("setgroups", "deny").write("uid_map", &map).write("gid_map", &map);
    let bundle = || Bundle::new().user_namespace(ROOT).namespace("user", Some(&made.path("user")));
    assert_eq!(bundle().run(probe!(id)).ok().answer()["uid"], json!([0, 0, 0]));
    let user = json!({ "uid": 0, "gid": 0, "additionalGids": [7] });
    let words = "process.user.additionalGids: the user namespace denies setgroups";
    bundle().set("process.user", user).run(probe!(print "it ran")).fails(words);
    drop(made);
    host::assert_nothing_left();
}
