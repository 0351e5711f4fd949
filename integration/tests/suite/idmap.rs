//! `idmap`, `ridmap`, `uidMappings` and `gidMappings` of mounts (config.md, "Mounts"): whose a file is, seen from inside,
//! and whose a file that is made inside is, seen from outside.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::need_root;
use ocirt_integration::{probe, tests, user};
use serde_json::{Value, json};

tests![
    a_bind_shows_ids_as_mapped,
    a_bind_is_mapped_by_the_containers_user_namespace,
    a_source_on_an_earlier_mount_is_what_that_shows,
    mappings_of_a_mount_differ_from_the_containers,
    only_ridmap_reaches_submounts,
    cruns_syntax_is_understood,
    a_tmpfs_is_mapped,
    a_file_system_that_cannot_be_mapped_is_named,
    bad_mappings_are_refused,
];

/// Root of the container on the host.
const ROOT: u32 = 100_000;

/// `source` of the bundle, a tmpfs with the files `root` and `user`, of root and of user 1000.
fn source(bundle: &Bundle) -> PathBuf {
    let source = bundle.host_dir("source");
    let done =
        std::process::Command::new("mount").args(["-t", "tmpfs", "source"]).arg(&source).status().expect("mount");
    assert!(done.success());
    for (name, id) in [("root", 0), ("user", 1000)] {
        std::fs::write(source.join(name), "").expect("file");
        std::os::unix::fs::chown(source.join(name), Some(id), Some(id)).expect("chown");
    }
    std::fs::set_permissions(&source, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("chmod");
    source
}

fn umount(path: &Path) {
    let done = std::process::Command::new("umount").args(["-R", "-l"]).arg(path).status().expect("umount");
    assert!(done.success(), "umount {path:?}");
}

fn owner(path: &Path) -> (u32, u32) {
    let stat = std::fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (stat.uid(), stat.gid())
}

fn map(stored: u32, shown: u32, size: u32) -> Value {
    json!([{ "containerID": stored, "hostID": shown, "size": size }])
}

fn with_map(bundle: Bundle, source: &Path, options: &[&str], map: &Value) -> Bundle {
    bundle.push(
        "mounts",
        json!({
            "type": "bind", "source": source, "destination": "/mnt", "options": options,
            "uidMappings": map, "gidMappings": map,
        }),
    )
}

fn a_bind_shows_ids_as_mapped() {
    need_root();
    for options in [&["bind", "idmap"][..], &["rbind", "ridmap"], &["bind"], &["idmap", "rbind", "nosuid"]] {
        let bundle = Bundle::new();
        let source = source(&bundle);
        let bundle = with_map(bundle, &source, options, &map(0, 5000, 2000));
        let output = bundle.run(probe!(stat "/mnt/root"; stat "/mnt/user"; write "/mnt/user", "x"));
        let answers = output.ok().answers();
        assert_eq!((&answers[0]["uid"], &answers[0]["gid"]), (&json!(5000), &json!(5000)), "{options:?}");
        assert_eq!((&answers[1]["uid"], &answers[1]["gid"]), (&json!(6000), &json!(6000)), "{options:?}");
        assert_eq!(answers[2], "ok", "CAP_DAC_OVERRIDE holds for mapped ids");
        assert_eq!((owner(&source.join("root")), owner(&source.join("user"))), ((0, 0), (1000, 1000)));
        umount(&source);
    }
}

fn a_bind_is_mapped_by_the_containers_user_namespace() {
    need_root();
    for options in [&["bind", "idmap"][..], &["rbind", "ridmap"]] {
        let bundle = Bundle::new().user_namespace(ROOT);
        let source = source(&bundle);
        let bundle = bundle.mount("bind", source.to_str().expect("UTF-8"), "/mnt", options);
        let bundle = bundle.mount("bind", source.to_str().expect("UTF-8"), "/unmapped", &["bind"]);
        let output = bundle.run(probe!(stat "/mnt/root"; stat "/mnt/user"; touch "/mnt/new"; stat "/unmapped/root"));
        let answers = output.ok().answers();
        assert_eq!((&answers[0]["uid"], &answers[1]["uid"]), (&json!(0), &json!(1000)), "{options:?}");
        assert_eq!((&answers[0]["gid"], &answers[1]["gid"]), (&json!(0), &json!(1000)), "{options:?}");
        assert_eq!(answers[2], "ok");
        assert_eq!(answers[3]["uid"], 65534, "another mount of the same files is not mapped");
        assert_eq!(owner(&source.join("new")), (0, 0), "a file of the container's root is root's on the host");
        umount(&source);
    }
}

/// Not what that mount hides, although others are opened before it is there.
fn a_source_on_an_earlier_mount_is_what_that_shows() {
    need_root();
    let bundle = Bundle::new().user_namespace(ROOT);
    let (source, covered) = (source(&bundle), bundle.inside("/data"));
    let (from, on) = (source.to_str().expect("UTF-8"), covered.to_str().expect("UTF-8"));
    let bundle = bundle.mount("bind", from, "/first", &["bind", "idmap"]).mount("bind", from, "/data", &["bind"]);
    let bundle = bundle.mount("bind", on, "/mnt", &["bind", "idmap"]);
    let answers = bundle.run(probe!(stat "/first/user"; stat "/data/user"; stat "/mnt/user")).ok().answers();
    assert_eq!([0, 1, 2].map(|index| answers[index]["uid"].clone()), [1000, 65534, 1000].map(|uid| json!(uid)));
    umount(&source);
}

fn mappings_of_a_mount_differ_from_the_containers() {
    need_root();
    let bundle = Bundle::new().user_namespace(ROOT);
    let source = source(&bundle);
    // User 1000 of the files is root of the container; root's are nobody's.
    std::os::unix::fs::chown(&source, Some(1000), Some(1000)).expect("chown");
    let bundle = with_map(bundle, &source, &["bind", "idmap"], &map(1000, ROOT, 1));
    let answers = bundle.run(probe!(stat "/mnt/root"; stat "/mnt/user"; touch "/mnt/new")).ok().answers();
    assert_eq!((&answers[0]["uid"], &answers[1]["uid"], &answers[2]), (&json!(65534), &json!(0), &json!("ok")));
    assert_eq!(owner(&source.join("new")), (1000, 1000));
    umount(&source);
}

fn only_ridmap_reaches_submounts() {
    need_root();
    for (option, below) in [("idmap", 65534), ("ridmap", 0)] {
        let bundle = Bundle::new().user_namespace(ROOT);
        let source = source(&bundle);
        let sub = source.join("sub");
        std::fs::create_dir(&sub).expect("directory");
        let done = std::process::Command::new("mount").args(["-t", "tmpfs", "sub"]).arg(&sub).status().expect("mount");
        assert!(done.success());
        let bundle = bundle.mount("bind", source.to_str().expect("UTF-8"), "/mnt", &["rbind", option]);
        let answers = bundle.run(probe!(stat "/mnt/root"; stat "/mnt/sub")).ok().answers();
        assert_eq!((&answers[0]["uid"], &answers[1]["uid"]), (&json!(0), &json!(below)), "{option}");
        umount(&source);
    }
}

fn cruns_syntax_is_understood() {
    need_root();
    let bundle = Bundle::new();
    let source = source(&bundle);
    let path = source.to_str().expect("UTF-8").to_owned();
    let option = "idmap=uids=0-7-1#1000-8-1;gids=0-9-1#1000-10-1";
    let answers = bundle.mount("bind", &path, "/mnt", &["bind", option]);
    let answers = answers.run(probe!(stat "/mnt/root"; stat "/mnt/user")).ok().answers();
    assert_eq!((&answers[0]["uid"], &answers[0]["gid"]), (&json!(7), &json!(9)));
    assert_eq!((&answers[1]["uid"], &answers[1]["gid"]), (&json!(8), &json!(10)));
    // Relative: to what id 3 of the container is.
    let option = "idmap=uids=@0-3-1;gids=@0-4-1";
    let bundle = Bundle::new().user_namespace(ROOT).mount("bind", &path, "/mnt", &["bind", option]);
    let answer = bundle.run(probe!(stat "/mnt/root")).ok().answer();
    assert_eq!((&answer["uid"], &answer["gid"]), (&json!(3), &json!(4)));
    umount(&source);
}

fn a_tmpfs_is_mapped() {
    need_root();
    // Not its own: to whom its files belong is seen by the number alone.
    let mount = |bundle: Bundle, options: &[&str]| {
        let map = map(0, ROOT, 10);
        bundle.push(
            "mounts",
            json!({
                "type": "tmpfs", "source": "tmpfs", "destination": "/data", "options": options,
                "uidMappings": map, "gidMappings": map,
            }),
        )
    };
    let answer = mount(Bundle::new(), &["idmap", "mode=751"]).run(probe!(stat "/data"; mountof "/data")).ok().answers();
    assert_eq!((&answer[0]["uid"], &answer[0]["mode"]), (&json!(ROOT), &json!("0751")));
    assert_eq!(answer[1]["type"], "tmpfs");
    let bundle = mount(Bundle::new().user_namespace(ROOT), &["idmap", "nosuid"]);
    std::fs::set_permissions(bundle.inside("/data"), std::os::unix::fs::PermissionsExt::from_mode(0o710))
        .expect("mode");
    let answers = bundle.run(probe!(stat "/data"; touch "/data/new"; stat "/data/new"; mountof "/data")).ok().answers();
    assert_eq!((&answers[0]["uid"], &answers[0]["mode"]), (&json!(0), &json!("0710")), "the mode of what it hides");
    assert_eq!((&answers[1], &answers[2]["uid"]), (&json!("ok"), &json!(0)));
    assert_eq!(answers[3]["type"], "tmpfs");
}

fn a_file_system_that_cannot_be_mapped_is_named() {
    // Others may map none of the host's.
    need_root();
    for bundle in [Bundle::new(), Bundle::new().user_namespace(ROOT)] {
        let output = with_map(bundle, Path::new("/proc/tty"), &["bind", "idmap"], &map(0, 7, 1)).refused("mounts[6]");
        assert!(output.stderr.contains("/proc/tty: its filesystem (proc) cannot be id-mapped"), "{}", output.stderr);
    }
}

fn bad_mappings_are_refused() {
    let bind = |options: &[&str]| Bundle::new().mount("bind", "/", "/mnt", options);
    if user::has_suite() {
        bind(&["rbind", "idmap"]).refused("mounts[6]: rbind / on /mnt (idmap): mount_setattr: operation not permitted");
    } else {
        bind(&["bind", "idmap"])
            .refused("mounts[6]: options: idmap: needs uidMappings and gidMappings, or a user namespace");
    }
    bind(&["bind", "idmap=uids=0-1-1"]).refused("mounts[6]: options: idmap=uids=0-1-1: needs both uids= and gids=");
    let bundle = bind(&["bind", "idmap"]).set("mounts.6.uidMappings", map(0, 1, 1));
    bundle.refused("mounts[6]: uidMappings: need gidMappings as well");
    let bundle = with_map(Bundle::new(), Path::new("/"), &["bind"], &map(0, 7, 0));
    bundle.refused("mounts[6].uidMappings[0].size: must not be 0");
}
