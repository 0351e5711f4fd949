//! Attacks on mounts that come, change or go: by a container that moves what is on the way to them and puts links there,
//! while `mounts add` and `mounts remove` are at work or between them, and by a volume that another container writes.

use super::attacks::Racer;
use super::hot_mounts::{mountinfo, mounts, only_where_it_is_there, source};
use super::mount_accidents::needs_strace;
use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::races::{self, Usual};
use ocirt_integration::runtime::{Call, reachable, strace_flags};
use ocirt_integration::{has, host, probe, tests};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

tests![
    removing_a_mount_follows_no_link_to_another,
    undoing_a_failed_mount_removes_no_other,
    undoing_mounts_that_succeeded_removes_no_other,
    a_mount_that_moves_all_the_time_is_removed_or_nothing_is,
    a_mount_that_was_moved_away_is_removed_where_it_is,
    a_mount_deeper_than_any_path_is_removed,
    what_mounts_add_has_not_mounted_is_not_removed,
    of_several_mounts_at_one_place_the_last_goes_first,
    what_covers_a_mount_goes_with_it_and_nothing_else,
    between_look_and_umount_no_path_of_the_container_is_read,
    a_read_only_mount_is_the_one_that_was_made,
    a_remount_is_of_the_mount_that_was_made,
];

pub const ROOT: u32 = 100_000;

/// Each round costs a call or two.
pub const USUAL: Usual = Usual { rounds: 40, time: Duration::from_secs(10) };

/// With a user namespace and without.
fn bundles() -> [Bundle; 2] {
    [false, true].map(bundle)
}

fn bundle(namespaced: bool) -> Bundle {
    let bundle = Bundle::new().directory("mnt/data").directory("mnt/other");
    if namespaced { bundle.user_namespace(ROOT) } else { bundle }
}

/// A container whose processes own what is in its root.
pub fn running(bundle: Bundle) -> Container {
    bundle.start(probe!(sleep 6000))
}

pub fn bind(source: &Path, destination: &str) -> Value {
    json!([{ "destination": destination, "source": source, "type": "bind", "options": ["bind", "ro"] }])
}

/// The mounts of the container's procfs and sysfs, and those that show `source`.
fn protected(container: &Container) -> Vec<String> {
    let points = mountinfo(container);
    let points = points.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| point.starts_with("/proc") || point.starts_with("/sys")).map(str::to_owned).collect()
}

fn shown(container: &Container, source: &Path) -> Vec<String> {
    let name = format!("/{}", source.file_name().and_then(|name| name.to_str()).expect("a name"));
    let info = mountinfo(container);
    let fields = info.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.filter(|fields| fields[3].ends_with(&name)).map(|fields| fields[4].to_owned()).collect()
}

fn removing_a_mount_follows_no_link_to_another() {
    only_where_it_is_there();
    for namespaced in [false, true] {
        for target in ["/proc/sys", "/sys/firmware", "/proc/kcore", "/dev", "/"] {
            let bundle = bundle(namespaced);
            let source = source(&bundle);
            let container = running(bundle);
            let list = bind(&source, "/mnt/data");
            mounts("add", &container, &list).ok();
            let before = protected(&container);
            assert!(before.iter().any(|point| point == "/proc/sys"), "{before:?}");
            fs::rename(container.bundle.inside("mnt"), container.bundle.inside("away")).expect("rename");
            fs::create_dir(container.bundle.inside("mnt")).expect("directory");
            symlink(target, container.bundle.inside("mnt/data")).expect("symlink");
            mounts("remove", &container, &list).ok();
            assert_eq!(protected(&container), before, "{target}");
            assert_eq!(shown(&container, &source), [""; 0], "{target}: the mount itself is gone");
            container.kill("KILL").ok();
        }
    }
}

/// Containers, each with the source of a bind and with a mount point, /mnt/data, that takes turns with a link to /proc/sys.
fn swapped() -> impl Iterator<Item = (Container, PathBuf, Racer)> {
    bundles().into_iter().map(|bundle| {
        let bundle = bundle.symlink("mnt/link", "/proc/sys");
        let source = source(&bundle);
        let container = running(bundle);
        let racer = Racer::new(&container.bundle.inside("mnt/data"), &container.bundle.inside("mnt/link"));
        (container, source, racer)
    })
}

fn undoing_a_failed_mount_removes_no_other() {
    only_where_it_is_there();
    for (container, source, _racer) in swapped() {
        let before = mountinfo(&container);
        for round in races::rounds(&USUAL) {
            // A file goes onto no directory.
            let output = mounts("add", &container, &bind(&source.join("file"), "/mnt/data"));
            assert_eq!(output.status, 1, "{output:?}");
            assert_eq!(mountinfo(&container), before, "{round}: {output:?}");
        }
    }
}

fn undoing_mounts_that_succeeded_removes_no_other() {
    only_where_it_is_there();
    for (container, source, _racer) in swapped() {
        let before = protected(&container);
        let list = json!([
            { "destination": "/mnt/data", "source": source, "options": ["bind"] },
            { "destination": "/probe/none", "type": "tmpfs", "source": "tmpfs" },
        ]);
        for round in races::rounds(&USUAL) {
            mounts("add", &container, &list).fails("mounts[");
            assert_eq!(protected(&container), before, "{round}");
            assert_eq!(shown(&container, &source), [""; 0], "{round}");
        }
    }
}

fn a_mount_that_moves_all_the_time_is_removed_or_nothing_is() {
    only_where_it_is_there();
    for bundle in bundles() {
        let bundle = bundle.directory("other").symlink("other/data", "/proc/sys");
        let source = source(&bundle);
        let container = running(bundle);
        let before = protected(&container);
        let list = bind(&source, "/mnt/data");
        let racer = Racer::new(&container.bundle.inside("mnt"), &container.bundle.inside("other"));
        let (mut removed, mut tried) = (0, 0);
        for round in races::rounds(&USUAL) {
            tried += 1;
            if mounts("add", &container, &list).status == 0 {
                removed += usize::from(mounts("remove", &container, &list).status == 0);
            }
            assert_eq!(protected(&container), before, "{round}");
        }
        drop(racer);
        // Three rounds may all have missed.
        assert!(removed > 0 || tried < 10, "none of {tried} was removed");
        while !shown(&container, &source).is_empty() {
            mounts("remove", &container, &list).ok();
        }
    }
}

fn a_mount_that_was_moved_away_is_removed_where_it_is() {
    only_where_it_is_there();
    let bundle = Bundle::new().directory("mnt/data");
    let source = source(&bundle);
    let container = running(bundle);
    let list = bind(&source, "/mnt/data");
    mounts("add", &container, &list).ok();
    let odd = "a b\tc\nd\\e#f";
    fs::rename(container.bundle.inside("mnt"), container.bundle.inside(odd)).expect("rename");
    mounts("remove", &container, &list).ok();
    assert_eq!(shown(&container, &source), [""; 0]);
    mounts("remove", &container, &list).fails("mounts[0]: unmount /mnt/data: umount2: invalid argument (nothing is");
}

fn a_mount_deeper_than_any_path_is_removed() {
    only_where_it_is_there();
    let bundle = Bundle::new().directory("mnt/data");
    let source = source(&bundle);
    let container = running(bundle);
    let list = bind(&source, "/mnt/data");
    mounts("add", &container, &list).ok();
    let name = "n".repeat(250);
    for _ in 0..40 {
        fs::create_dir(container.bundle.inside("next")).expect("directory");
        fs::rename(container.bundle.inside("mnt"), container.bundle.inside("next").join(&name)).expect("rename");
        fs::rename(container.bundle.inside("next"), container.bundle.inside("mnt")).expect("rename");
    }
    assert!(shown(&container, &source)[0].len() > 8000);
    mounts("remove", &container, &list).ok();
    assert_eq!(shown(&container, &source), [""; 0]);
    container.kill("KILL").ok();
    // Too deep for what cleans up.
    let done = std::process::Command::new("rm").arg("-rf").arg(container.bundle.inside("mnt")).status().expect("rm");
    assert!(done.success());
}

fn what_mounts_add_has_not_mounted_is_not_removed() {
    only_where_it_is_there();
    let bundle = Bundle::new();
    let source = source(&bundle).display().to_string();
    let container = running(bundle.mount("bind", &source, "/vol", &["bind", "ro"]));
    let before = mountinfo(&container);
    let all = ["/vol", "/proc/sys", "/proc/kcore", "/sys/firmware", "/proc", "/sys", "/dev", "/dev/shm"];
    let is_mounted = |path: &&str| before.contains(&format!(" {path} "));
    assert!(all.iter().filter(|path| is_mounted(path)).count() > 5);
    for path in all.into_iter().filter(is_mounted) {
        let output = mounts("remove", &container, &json!([{ "destination": path }]));
        output.fails(&format!("mounts[0]: unmount {path}: umount2: operation not permitted (only what `mounts add`"));
        assert_eq!(mountinfo(&container), before, "{path}");
    }
    mounts("remove", &container, &json!([{ "destination": "/tmp" }])).fails("nothing is mounted there");
}

fn of_several_mounts_at_one_place_the_last_goes_first() {
    only_where_it_is_there();
    let bundle = Bundle::new();
    let (one, other) = (bundle.host_dir("one"), bundle.host_dir("other"));
    let container = running(bundle);
    let both = json!([bind(&one, "/mnt")[0], bind(&other, "/mnt/")[0]]);
    mounts("add", &container, &both).ok();
    mounts("remove", &container, &json!([{ "destination": "/mnt" }])).ok();
    assert_eq!((shown(&container, &one).len(), shown(&container, &other).len()), (1, 0));
    mounts("add", &container, &bind(&other, "/mnt")).ok();
    mounts("remove", &container, &both).ok();
    assert_eq!((shown(&container, &one).len(), shown(&container, &other).len()), (0, 0));
}

fn what_covers_a_mount_goes_with_it_and_nothing_else() {
    only_where_it_is_there();
    let admin = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    let sets = json!({ "bounding": admin, "effective": admin, "permitted": admin });
    let bundle = Bundle::new().directory("mnt/data").set("process.capabilities", sets);
    let source = source(&bundle);
    let verbs = probe!(waitfor "/data/go"; mount "tmpfs", "/mnt/data/below", "tmpfs", ""; print "up"; sleep 600);
    fs::create_dir(source.join("below")).expect("directory");
    let container = bundle.start(verbs);
    let list = bind(&source, "/mnt/data");
    mounts("add", &container, &list).ok();
    let before = protected(&container);
    fs::write(container.bundle.inside("data/go"), "").expect("mark");
    container.answers(3);
    mounts("remove", &container, &list).ok();
    assert_eq!((protected(&container), shown(&container, &source)), (before, Vec::new()));
    assert!(!mountinfo(&container).contains("/mnt/data"));
}

/// The runtime under strace, which writes what it calls to the file that is returned.
pub fn watched() -> (PathBuf, PathBuf) {
    let (script, output) = (host::place().join("watched"), host::place().join("calls"));
    let (flags, runtime) = (strace_flags(), reachable());
    let to = output.display();
    let text = format!("#!/bin/sh\nexec strace {flags} -f -qq -s 300 -o {to} {} \"$@\"\n", runtime.display());
    fs::write(&script, text).expect("script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("chmod");
    (script, output)
}

/// The path arguments of a line of strace that are not empty.
fn paths(line: &str) -> Vec<&str> {
    let takes_paths =
        ["open", "stat", "umount", "mount", "link", "mkdir", "chdir", "access", "rename", "unlink", "exec"];
    let call = line.split_once(' ').map_or("", |(_, call)| call.trim_start());
    let name = call.split('(').next().unwrap_or_default();
    if name == "fchdir" || !takes_paths.iter().any(|part| name.contains(part)) {
        return Vec::new();
    }
    call.split('"').skip(1).step_by(2).filter(|path| !path.is_empty()).collect()
}

fn between_look_and_umount_no_path_of_the_container_is_read() {
    only_where_it_is_there();
    needs_strace();
    for bundle in bundles() {
        let source = source(&bundle);
        let container = running(bundle);
        let list = json!([bind(&source, "/mnt/data")[0], bind(&source, "/mnt/other")[0]]);
        let file = container.bundle.dir.join("mounts.json");
        fs::write(&file, list.to_string()).expect("mounts.json");
        let (script, calls) = watched();
        let file = file.to_str().expect("UTF-8");
        Call::new(["mounts", "add", container.id(), file]).run().ok();
        Call::new(["mounts", "remove", container.id(), file]).traced(&script).run().ok();
        let calls = fs::read_to_string(calls).expect("calls");
        let lines: Vec<_> = calls.lines().collect();
        let umounts: Vec<_> = (0..lines.len()).filter(|at| lines[*at].contains("umount2(")).collect();
        assert_eq!(umounts.len(), 2, "{calls}");
        let look = lines[..umounts[0]].iter().rposition(|line| line.contains("\"mnt/")).expect("the look");
        let verified = look + lines[look..].iter().position(|line| line.contains("statx(")).expect("statx");
        for line in &lines[verified..=umounts[1]] {
            for path in paths(line) {
                // Both below the process's own directory of the host's procfs.
                let is_own =
                    path == "mountinfo" || path.strip_prefix("fd/").is_some_and(|fd| fd.parse::<u32>().is_ok());
                assert!(is_own, "{path} in {line}\n{calls}");
            }
        }
    }
}

/// A hook comes between the mount and its becoming read-only: it does what another container can do in a volume.
fn a_read_only_mount_is_the_one_that_was_made() {
    let bundle = Bundle::new();
    let volume = bundle.host_dir("volume");
    let script = bundle.dir.join("hook");
    let at = volume.display();
    fs::write(&script, format!("#!/bin/sh\nmv {at}/t {at}/away && ln -s /other {at}/t\n")).expect("hook");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("chmod");
    let bundle = bundle
        .mount("bind", volume.to_str().expect("UTF-8"), "/vol", &["bind"])
        .mount("tmpfs", "tmpfs", "/other", &[])
        .mount("tmpfs", "tmpfs", "/vol/t", &["ro"])
        .hook("createRuntime", json!({ "path": script }));
    let output = bundle.run(probe!(mountof "/vol/away"; mountof "/other"; touch "/vol/away/x"));
    let answers = output.ok().answers();
    assert!(has(&answers[0]["options"], "ro"), "the tmpfs is read-only wherever it is: {}", answers[0]);
    assert!(has(&answers[1]["options"], "rw"), "what the link leads to is not: {}", answers[1]);
    assert_eq!(answers[2]["error"], "EROFS");
}

/// A volume over the mount has a link in its place.
fn a_remount_is_of_the_mount_that_was_made() {
    let bundle = Bundle::new();
    let (volume, secret) = (bundle.host_dir("volume"), bundle.host_dir("secret"));
    symlink("/secret", volume.join("p")).expect("symlink");
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let remount = |path: &str| json!({ "destination": path, "options": ["remount", "bind", "rw"] });
    let bundle = bundle
        .mount("bind", &text(&secret), "/secret", &["bind", "ro"])
        .mount("tmpfs", "tmpfs", "/mnt/p", &["nosuid"])
        .mount("bind", &text(&volume), "/mnt", &["bind"])
        .push("mounts", remount("/mnt/p"));
    let answers = bundle.run(probe!(mountof "/secret"; touch "/secret/x")).ok().answers();
    assert!(has(&answers[0]["options"], "ro"), "{}", answers[0]);
    assert_eq!(answers[1]["error"], "EROFS");
    // Where no entry has mounted, no link is followed.
    let bundle = Bundle::new().mount("bind", &text(&secret), "/secret", &["bind", "ro"]);
    let bundle = bundle.mount("bind", &text(&volume), "/mnt", &["bind"]).push("mounts", remount("/mnt/p"));
    bundle.run(probe!(touch "/secret/x")).fails_as_ocirt("mounts[");
    assert!(!secret.join("x").exists());
}
