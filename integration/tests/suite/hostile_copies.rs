//! Attacks on the copy that `tmpcopyup` makes: by what is exchanged in the directory while it is copied.

use super::attacks::Racer;
use super::hostile_mounts::{USUAL, watched};
use super::hot_mounts::{mounts, only_where_it_is_there};
use super::mount_accidents::needs_strace;
use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::{need_ocirt, need_root};
use ocirt_integration::races;
use ocirt_integration::runtime::Call;
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

tests![
    what_is_added_has_owner_mode_and_content_of_one_file,
    what_is_created_has_owner_mode_and_content_of_one_file,
    a_copy_reads_each_name_once_and_with_few_rights,
];

/// A user of the container's.
const USER: u32 = 1000;

/// A directory of the user's, with a file and a directory that are the user's, and the same that are root's.
fn contested(bundle: Bundle) -> Bundle {
    let bundle = bundle.file("d/f", "user").file("d/secret", "root").file("d/sub/user", "").file("d/hidden/root", "");
    for (name, owner, mode) in [("f", USER, 0o644), ("secret", 0, 0o4700), ("sub", USER, 0o755), ("hidden", 0, 0o700)] {
        let path = bundle.inside("d").join(name);
        chown(&path, Some(owner), Some(owner)).expect("chown");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
    }
    bundle
}

/// What the user does all the time.
fn exchange(bundle: &Bundle) -> [Racer; 2] {
    let at = |name| bundle.inside("d").join(name);
    [Racer::new(&at("f"), &at("secret")), Racer::new(&at("sub"), &at("hidden"))]
}

fn copy() -> Value {
    json!([{ "destination": "/d", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }])
}

#[track_caller]
fn is_whole(container: &Container, round: u64) {
    let copied = format!("/proc/{}/root/d", container.pid());
    for (name, is_file) in [("f", true), ("secret", true), ("sub", false), ("hidden", false)] {
        let path = Path::new(&copied).join(name);
        let stat = fs::symlink_metadata(&path).expect("a copy");
        let content = if is_file {
            fs::read_to_string(&path).expect("text")
        } else {
            let mut entries = fs::read_dir(&path).expect("directory");
            let first = entries.next().expect("an entry").expect("an entry");
            first.file_name().into_string().expect("UTF-8")
        };
        let mode = match (content.as_str(), is_file) {
            ("root", true) => 0o4700,
            ("root", false) => 0o700,
            (_, true) => 0o644,
            (_, false) => 0o755,
        };
        let owner = if content == "root" { 0 } else { USER };
        assert_eq!((stat.uid(), stat.mode() & 0o7777), (owner, mode), "{name} has what is {content}'s, round {round}");
    }
}

fn what_is_added_has_owner_mode_and_content_of_one_file() {
    only_where_it_is_there();
    need_root();
    let container = contested(Bundle::new()).start(probe!(sleep 6000));
    let _racers = exchange(&container.bundle);
    for round in races::rounds(&USUAL) {
        mounts("add", &container, &copy()).ok();
        is_whole(&container, round);
        mounts("remove", &container, &copy()).ok();
    }
}

/// Another container may have the directory, in a volume.
fn what_is_created_has_owner_mode_and_content_of_one_file() {
    // Others mix them up, or fail: a race, which has no expected result.
    need_ocirt();
    need_root();
    let bundle = contested(Bundle::new()).mount("tmpfs", "tmpfs", "/d", &["tmpcopyup"]);
    let _racers = exchange(&bundle);
    let mut container = bundle.create(probe!(sleep 6000));
    for round in races::rounds(&USUAL) {
        is_whole(&container, round);
        container.call(["delete", "--force", container.id()]).ok();
        host::reap_zombies();
        let Container { mut bundle, .. } = container;
        bundle.id = host::new_id();
        container = bundle.create(probe!(sleep 6000));
    }
}

fn a_copy_reads_each_name_once_and_with_few_rights() {
    only_where_it_is_there();
    needs_strace();
    need_root();
    let bundle = contested(Bundle::new()).symlink("d/link", "f").file("d/sub/below", "");
    let container = bundle.start(probe!(sleep 6000));
    let file = container.bundle.dir.join("mounts.json");
    fs::write(&file, copy().to_string()).expect("mounts.json");
    let (script, calls) = watched();
    Call::new(["mounts", "add", container.id(), file.to_str().expect("UTF-8")]).traced(&script).run().ok();
    let calls = fs::read_to_string(calls).expect("calls");
    // What a call is given is in the line of its beginning; that of its end may be another, with what it returned.
    let begun: Vec<_> = calls.lines().filter(|line| !line.contains(" resumed>")).collect();
    for name in ["f", "secret", "sub", "hidden", "user", "root", "below", "link"] {
        let quoted = format!("\"{name}\"");
        let lines: Vec<_> = begun.iter().filter(|line| line.contains(&quoted)).collect();
        // O_CREAT with O_EXCL opens what is new, in the copy.
        let opened = lines.iter().filter(|line| line.contains("open") && !line.contains("O_CREAT|O_EXCL"));
        let opened: Vec<_> = opened.collect();
        assert!(!opened.is_empty(), "{name}\n{calls}");
        for line in opened {
            assert!(line.contains("O_PATH") && line.contains("O_NOFOLLOW"), "{line}\n{calls}");
        }
        for line in lines {
            let looks = line.contains("stat") || line.contains("readlink") && !line.contains("\"\"");
            assert!(!looks, "{line}\n{calls}");
        }
    }
    let capset = begun.iter().find(|line| line.contains("capset(")).expect("capabilities are given up");
    assert!(capset.contains("CAP_MKNOD") && !capset.contains("CAP_SYS_RAWIO"), "{capset}");
    if !host::is_cgroup2() {
        let entered = begun.iter().filter(|line| line.contains("write(") && line.contains("\"0\", 1")).count();
        assert!(entered >= 2, "the cgroups of memory and of devices\n{calls}");
    }
}
