//! Mounts of an ordinary user's container: sources that he may reach and its root may not, and mounts that come and go
//! while it runs.

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::need_ocirt;
use ocirt_integration::user::{self, RANGE, USER};
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

tests![
    a_source_that_only_the_user_may_reach_is_bound,
    a_source_that_is_not_the_users_is_refused,
    mounts_come_and_go_in_his_container,
    ids_of_the_hosts_files_are_not_mapped,
];

/// Container root is the first of his range, and not he himself.
fn other() -> Bundle {
    let map = json!([{ "containerID": 0, "hostID": RANGE, "size": 65536 }]);
    let bundle = Bundle::new().rootless(map);
    std::os::unix::fs::chown(bundle.rootfs(), Some(RANGE), Some(RANGE)).expect("chown");
    for name in ["proc", "sys", "dev", "data"] {
        std::os::unix::fs::chown(bundle.inside(name), Some(RANGE), Some(RANGE)).expect("chown");
    }
    bundle
}

/// A directory that only `owner` may enter, and in it one with the file `file`.
fn private(bundle: &Bundle, owner: u32) -> PathBuf {
    let private = bundle.host_dir("private");
    let source = bundle.host_dir("private/source");
    std::fs::write(source.join("file"), "from outside").expect("file");
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o700)).expect("chmod");
    std::os::unix::fs::chown(private, Some(owner), Some(owner)).expect("chown");
    source
}

fn a_source_that_only_the_user_may_reach_is_bound() {
    need_ocirt();
    let bundle = other();
    let source = private(&bundle, USER).display().to_string();
    let answers = bundle
        .mount("bind", &source, "/mnt", &["bind", "ro"])
        .run(probe!(read "/mnt/file"; touch "/mnt/new"; read "/proc/self/uid_map"))
        .ok()
        .answers();
    assert_eq!((&answers[0], &answers[1]["error"]), (&json!("from outside"), &json!("EROFS")));
    assert!(answers[2].to_string().contains(&RANGE.to_string()), "{}", answers[2]);
    host::assert_nothing_left();
}

fn a_source_that_is_not_the_users_is_refused() {
    for bundle in [other(), Bundle::new().rootless(user::one_id())] {
        // Nobody's whom he could be.
        let source = private(&bundle, USER + 1).display().to_string();
        bundle.mount("bind", &source, "/mnt", &["bind"]).refused("permission denied");
    }
}

fn mounts_of(container: &Container, command: &str, list: &Value) -> ocirt_integration::runtime::Output {
    let file = container.bundle.dir.join("mounts.json");
    std::fs::write(&file, list.to_string()).expect("mounts.json");
    container.call(["mounts", command, container.id(), file.to_str().expect("UTF-8")])
}

fn mounts_come_and_go_in_his_container() {
    need_ocirt();
    for bundle in [other(), Bundle::new().rootless(user::one_id())] {
        let source = private(&bundle, USER);
        let list = json!([
            { "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k"] },
            { "destination": "/mnt", "source": source, "options": ["rbind", "ro"] },
        ]);
        let container = bundle.create(probe!(waitfor "/mnt/file"; read "/mnt/file"; mountof "/data"; sleep 60));
        mounts_of(&container, "add", &list).fails("only root can enter a container that is not started");
        container.start().ok();
        let before = container.proc_file("mountinfo");
        mounts_of(&container, "add", &list).ok();
        let answers = container.answers(3);
        assert_eq!((&answers[1], &answers[2]["type"]), (&json!("from outside"), &json!("tmpfs")));
        mounts_of(&container, "remove", &list).ok();
        assert_eq!(container.proc_file("mountinfo"), before);
        let bad = json!([list[1], { "destination": "/data", "source": "/nope", "options": ["bind"] }]);
        mounts_of(&container, "add", &bad).fails("mounts[1]");
        assert_eq!(container.proc_file("mountinfo"), before, "all or none");
    }
}

/// That takes rights over the filesystem, which only root has.
fn ids_of_the_hosts_files_are_not_mapped() {
    need_ocirt();
    let bundle = other();
    let source = private(&bundle, USER).display().to_string();
    bundle.mount("bind", &source, "/mnt", &["bind", "idmap"]).refused("mount_setattr: operation not permitted");
}
