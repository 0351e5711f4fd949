//! `mounts add` and `mounts remove`: crun's commands for a container that runs. Everything inside is at work meanwhile.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::need_ocirt;
use ocirt_integration::runtime::{Output, call};
use ocirt_integration::{has, probe, tests, user};
use serde_json::{Value, json};

tests![
    a_bind_comes_and_goes,
    other_file_systems_are_mounted,
    in_a_user_namespace_it_is_the_containers,
    all_mounts_are_added_or_none,
    all_mounts_are_removed_or_none,
    a_destination_that_is_a_symlink_stays_inside,
    a_destination_that_is_swapped_all_the_time_stays_inside,
    a_read_only_mount_of_the_host_stays_so,
    the_host_and_the_container_keep_their_mounts_apart,
    a_container_in_any_living_status_takes_mounts,
    a_container_made_without_pivot_root_takes_mounts,
    a_container_that_does_not_live_is_refused,
    nonsense_is_refused_by_field,
];

const ROOT: u32 = 100_000;

/// Older releases of crun, and runc, have no such command.
pub fn only_where_it_is_there() {
    need_ocirt();
}

/// `mounts ACTION` with this list.
#[track_caller]
pub fn mounts(action: &str, container: &Container, list: &Value) -> Output {
    let file = container.bundle.dir.join("mounts.json");
    std::fs::write(&file, list.to_string()).expect("mounts.json");
    call(["mounts", action, container.id(), file.to_str().expect("UTF-8")])
}

/// A directory on the host with the file `file`.
pub fn source(bundle: &Bundle) -> PathBuf {
    let source = bundle.host_dir("source");
    std::fs::write(source.join("file"), "from outside").expect("file");
    source
}

/// A running container, told by files in /data when to go on.
fn running(bundle: Bundle, args: Vec<String>) -> Container {
    let container = bundle.create(args);
    container.start().ok();
    container
}

fn tell(container: &Container, mark: &str) {
    std::fs::write(container.bundle.inside("/data").join(mark), "").expect("mark");
}

pub fn mountinfo(container: &Container) -> String {
    container.proc_file("mountinfo")
}

fn is_mounted(container: &Container, path: &str) -> bool {
    mountinfo(container).lines().any(|line| line.split(' ').nth(4) == Some(path))
}

fn shell(words: &[&str]) {
    let done = std::process::Command::new(words[0]).args(&words[1..]).status().expect("a program");
    assert!(done.success(), "{words:?}");
}

fn a_bind_comes_and_goes() {
    only_where_it_is_there();
    let bundle = Bundle::new().directory("old");
    let source = source(&bundle);
    let verbs = probe!(waitfor "/data/one"; read "/mnt/new/file"; touch "/mnt/new/x"; read "/etc/one"; mountof "/old"; waitfor "/data/two"; stat "/mnt/new/file"; stat "/etc/one"; sleep 60);
    let container = running(bundle, verbs);
    let list = json!([
        { "destination": "/mnt/new", "source": source, "options": ["rbind", "ro"] },
        { "destination": "/etc/one", "source": source.join("file"), "type": "bind", "options": ["bind"] },
        { "destination": "/old", "source": "source", "type": "bind", "options": ["bind", "nosuid"] },
    ]);
    mounts("add", &container, &list).ok();
    tell(&container, "one");
    let answers = container.answers(5);
    assert_eq!((&answers[1], &answers[2]["error"]), (&json!("from outside"), &json!("EROFS")));
    assert_eq!(answers[3], "from outside");
    assert!(has(&answers[4]["options"], "nosuid"), "{}", answers[4]);
    mounts("remove", &container, &list).ok();
    tell(&container, "two");
    let answers = container.answers(8);
    assert_eq!(answers[6]["error"], "ENOENT");
    assert_eq!(answers[7]["size"], 0, "the mount point of a file stays, empty");
    assert!(
        !is_mounted(&container, "/mnt/new") && !is_mounted(&container, "/etc/one") && !is_mounted(&container, "/old")
    );
    assert_eq!(std::fs::read_to_string(source.join("file")).expect("file"), "from outside");
}

fn other_file_systems_are_mounted() {
    only_where_it_is_there();
    let bundle = Bundle::new();
    for name in ["lower", "upper", "work"] {
        bundle.host_dir(name);
    }
    std::fs::write(bundle.dir.join("lower/low"), "down").expect("file");
    let at = |name: &str| bundle.dir.join(name).display().to_string();
    let layers = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
    let verbs =
        probe!(waitfor "/data/one"; mountof "/a"; touch "/a/x"; read "/over/low"; ls "/q"; ls "/s/class/net"; sleep 60);
    let mut list = json!([
        { "destination": "/a", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k", "ro", "mode=711"] },
        { "destination": "/q", "type": "mqueue", "source": "mqueue" },
        { "destination": "/s", "type": "sysfs", "source": "sysfs", "options": ["ro"] },
    ]);
    let overlays = std::fs::read_to_string("/proc/filesystems").expect("filesystems").contains("overlay");
    if overlays {
        list.as_array_mut().expect("a list").push(json!({
            "destination": "/over", "type": "overlay", "source": "overlay", "options": [layers],
        }));
    }
    let container = running(bundle, verbs);
    mounts("add", &container, &list).ok();
    tell(&container, "one");
    let answers = container.answers(6);
    assert!(has(&answers[1]["super"], "size=64k") && has(&answers[1]["options"], "ro"), "{}", answers[1]);
    assert_eq!(answers[2]["error"], "EROFS");
    assert!(!overlays || answers[3] == "down", "{}", answers[3]);
    assert_eq!(answers[4], json!([]), "the container's own queues");
    assert!(!has(&answers[5], "eth0"), "the container's own network: {}", answers[5]);
    mounts("remove", &container, &list).ok();
    assert!(!is_mounted(&container, "/a") && !is_mounted(&container, "/over"));
}

fn in_a_user_namespace_it_is_the_containers() {
    only_where_it_is_there();
    let bundle = Bundle::new().user_namespace(ROOT);
    std::fs::set_permissions(bundle.host_dir("private"), std::fs::Permissions::from_mode(0o700)).expect("chmod");
    let source = bundle.host_dir("private/source");
    std::fs::write(source.join("file"), "from outside").expect("file");
    let tmpfs = bundle.host_dir("mapped");
    shell(&["mount", "-t", "tmpfs", "mapped", tmpfs.to_str().expect("UTF-8")]);
    let verbs = probe!(waitfor "/data/one"; read "/mnt/file"; stat "/t"; touch "/t/x"; stat "/mapped"; touch "/mapped/x"; sleep 60);
    let container = running(bundle, verbs);
    // Only root may map the ids of a filesystem of the host.
    let mapped = if user::has_suite() {
        json!({ "destination": "/mapped", "type": "tmpfs", "source": "tmpfs" })
    } else {
        json!({ "destination": "/mapped", "source": tmpfs, "options": ["rbind", "idmap"] })
    };
    let list = json!([
        { "destination": "/mnt", "source": source, "options": ["rbind"] },
        { "destination": "/t", "type": "tmpfs", "source": "tmpfs" },
        mapped,
    ]);
    mounts("add", &container, &list).ok();
    tell(&container, "one");
    let answers = container.answers(6);
    assert_eq!(answers[1], "from outside", "below a directory that only the host's root may enter");
    assert_eq!((&answers[2]["uid"], &answers[3]), (&json!(0), &json!("ok")));
    assert_eq!((&answers[4]["uid"], &answers[5]), (&json!(0), &json!("ok")));
    let made = std::fs::metadata(container.bundle.inside("/mnt")).expect("mount point");
    assert_eq!(made.uid(), ROOT, "what is made inside is the container's");
    assert!(user::has_suite() || std::fs::metadata(tmpfs.join("x")).expect("file").uid() == 0);
    mounts("remove", &container, &list).ok();
    shell(&["umount", "-l", tmpfs.to_str().expect("UTF-8")]);
}

fn all_mounts_are_added_or_none() {
    only_where_it_is_there();
    let bundle = Bundle::new();
    let source = source(&bundle);
    let container = running(bundle, probe!(sleep 60));
    let before = mountinfo(&container);
    for (bad, words) in [
        (json!({ "destination": "/b", "source": source.join("nope"), "options": ["bind"] }), "mounts[1]: bind "),
        (json!({ "destination": "/probe/b", "source": source, "options": ["bind"] }), "mounts[1]: bind "),
        (
            json!({ "destination": "/b", "type": "tmpfs", "options": ["sice=1"] }),
            "mounts[1]: mount tmpfs on /b (sice=1): fsconfig",
        ),
        (json!({ "destination": "/proc/self/attr", "type": "tmpfs" }), "mounts[1]: destination: /proc/self/attr"),
    ] {
        let list = json!([{ "destination": "/a", "source": source, "options": ["bind"] }, bad]);
        let output = mounts("add", &container, &list).fails(words);
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
        assert_eq!(mountinfo(&container), before, "{bad}");
    }
}

fn all_mounts_are_removed_or_none() {
    only_where_it_is_there();
    let bundle = Bundle::new();
    let container = running(bundle, probe!(sleep 60));
    let nested = json!([
        { "destination": "/a", "type": "tmpfs", "source": "tmpfs" },
        { "destination": "/a/b", "type": "tmpfs", "source": "tmpfs" },
    ]);
    mounts("add", &container, &nested).ok();
    let before = mountinfo(&container);
    for (bad, words) in
        [("/tmp", "nothing is mounted there"), ("/nope", "nothing is mounted there"), ("/", "destination")]
    {
        let list = json!([{ "destination": "/a/b" }, { "destination": bad }]);
        mounts("remove", &container, &list).fails(words);
        assert_eq!(mountinfo(&container), before, "{bad}");
    }
    mounts("remove", &container, &nested).ok();
    assert!(!is_mounted(&container, "/a") && !is_mounted(&container, "/a/b"));
    mounts("remove", &container, &nested).fails("nothing is mounted there");
}

fn a_destination_that_is_a_symlink_stays_inside() {
    only_where_it_is_there();
    let bundle = Bundle::new().symlink("link", "/../../../../../../tmp").symlink("etc/file", "/etc/passwd");
    let source = source(&bundle);
    let container = running(bundle, probe!(sleep 60));
    let list = json!([
        { "destination": "/link", "source": source, "options": ["bind"] },
        { "destination": "/etc/file", "source": source.join("file"), "options": ["bind"] },
    ]);
    let host = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    mounts("add", &container, &list).ok();
    assert!(is_mounted(&container, "/tmp") && is_mounted(&container, "/etc/passwd"));
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo"), host);
    mounts("remove", &container, &list).ok();
    assert!(!is_mounted(&container, "/tmp") && !is_mounted(&container, "/etc/passwd"));
}

/// CVE-2021-30465 with a container that runs: /swap is a directory and a symlink to the host's / by turns.
fn a_destination_that_is_swapped_all_the_time_stays_inside() {
    only_where_it_is_there();
    let bundle = Bundle::new().directory("swap/a").symlink("other", "/../../../..");
    let source = source(&bundle);
    let (one, other) = (bundle.inside("/swap"), bundle.inside("/other"));
    let container = running(bundle, probe!(sleep 60));
    let host = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let swapping = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while swapping.load(std::sync::atomic::Ordering::Relaxed) {
                exchange(&one, &other);
            }
        });
        for _ in 0..20 {
            let list = json!([{ "destination": "/swap/a", "source": source, "options": ["bind"] }]);
            if mounts("add", &container, &list).status == 0 {
                mounts("remove", &container, &list);
            }
            assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo"), host);
        }
        swapping.store(false, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(!Path::new("/a").exists());
}

fn exchange(one: &Path, other: &Path) {
    let c = |path: &Path| std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).expect("no NUL");
    // SAFETY: both paths are NUL-terminated and outlive the call.
    let ret = unsafe {
        libc::renameat2(libc::AT_FDCWD, c(one).as_ptr(), libc::AT_FDCWD, c(other).as_ptr(), libc::RENAME_EXCHANGE)
    };
    assert_eq!(ret, 0, "renameat2");
}

fn a_read_only_mount_of_the_host_stays_so() {
    only_where_it_is_there();
    let all = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"];
    let sets = json!({ "bounding": all, "effective": all, "permitted": all });
    let bundle = Bundle::new().user_namespace(ROOT).set("process.capabilities", sets);
    let source = bundle.host_dir("source");
    shell(&["mount", "-t", "tmpfs", "-o", "ro,mode=777", "top", source.to_str().expect("UTF-8")]);
    for (number, options) in [json!(["rbind"]), json!(["bind", "idmap"])].iter().enumerate() {
        if user::has_suite() && number == 1 {
            continue;
        }
        let bundle = Bundle::new().user_namespace(ROOT);
        let bundle = bundle.set("process.capabilities", json!({ "bounding": all, "effective": all, "permitted": all }));
        let verbs = probe!(waitfor "/data/go"; mount "none", "/mnt", "", "remount,bind,rw"; touch "/mnt/x"; sleep 60);
        let container = running(bundle, verbs);
        let list = json!([{ "destination": "/mnt", "source": source, "options": options }]);
        mounts("add", &container, &list).ok();
        tell(&container, "go");
        let answers = container.answers(3);
        assert_eq!((&answers[1]["error"], &answers[2]["error"]), (&json!("EPERM"), &json!("EROFS")), "{number}");
        container.kill("KILL").ok();
    }
    shell(&["umount", "-l", source.to_str().expect("UTF-8")]);
}

fn the_host_and_the_container_keep_their_mounts_apart() {
    only_where_it_is_there();
    let all = json!({ "bounding": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"] });
    let bundle = Bundle::new().set("process.capabilities", all);
    let source = source(&bundle);
    let path = source.to_str().expect("UTF-8").to_owned();
    let container = running(bundle, probe!(waitfor "/data/go"; mount "tmpfs", "/mnt", "tmpfs", ""; sleep 60));
    let list = json!([{ "destination": "/mnt", "source": source, "options": ["rbind"] }]);
    mounts("add", &container, &list).ok();
    tell(&container, "go");
    assert_eq!(container.answers(2)[1], "ok");
    let outside = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(!outside.contains(&path), "a mount made inside appeared outside");
}

fn a_container_in_any_living_status_takes_mounts() {
    only_where_it_is_there();
    let bundle = Bundle::new();
    let source = source(&bundle);
    let list = json!([{ "destination": "/mnt", "source": source, "options": ["bind"] }]);
    let container = bundle.create(probe!(waitfor "/data/start"; read "/mnt/file"; waitfor "/data/go"; sleep 60));
    if user::has_suite() {
        mounts("add", &container, &list).fails("only root can enter a container that is not started");
        container.start().ok();
        mounts("add", &container, &list).ok();
    } else {
        mounts("add", &container, &list).ok();
        container.start().ok();
    }
    tell(&container, "start");
    assert_eq!(container.answers(2)[1], "from outside", "created");
    call(["pause", container.id()]).ok();
    mounts("remove", &container, &list).ok();
    assert!(!is_mounted(&container, "/mnt"), "paused");
    mounts("add", &container, &list).ok();
    assert!(is_mounted(&container, "/mnt"), "paused");
    call(["resume", container.id()]).ok();
}

fn a_container_made_without_pivot_root_takes_mounts() {
    only_where_it_is_there();
    let bundle = Bundle::new().flags(&["--no-pivot"]);
    let source = source(&bundle);
    let list = json!([{ "destination": "/mnt", "source": source, "options": ["bind"] }]);
    let container = running(bundle, probe!(waitfor "/data/go"; read "/mnt/file"; sleep 60));
    mounts("add", &container, &list).ok();
    tell(&container, "go");
    assert_eq!(container.answers(2)[1], "from outside");
    mounts("remove", &container, &list).ok();
    assert!(!is_mounted(&container, "/mnt"));
}

fn a_container_that_does_not_live_is_refused() {
    only_where_it_is_there();
    let bundle = Bundle::new();
    let source = source(&bundle);
    let list = json!([{ "destination": "/mnt", "source": source, "options": ["bind"] }]);
    let container = running(bundle, probe!(print "done"));
    container.wait_for("stopped");
    for action in ["add", "remove"] {
        mounts(action, &container, &list).fails("container not running");
        call(["mounts", action, "no-such-container", "/dev/null"]).fails("container does not exist");
    }
    let bundle = Bundle::new().without_namespace("mount").set("linux.maskedPaths", Value::Null);
    let bundle = bundle.set("linux.readonlyPaths", Value::Null).set("mounts", Value::Null);
    let container = running(bundle, probe!(sleep 60));
    mounts("add", &container, &list).fails("the container has no mount namespace of its own");
}

fn nonsense_is_refused_by_field() {
    only_where_it_is_there();
    let container = running(Bundle::new(), probe!(sleep 60));
    let before = mountinfo(&container);
    for (list, words) in [
        (json!({ "destination": "/mnt" }), "not a JSON array"),
        (json!([{ "destination": 7 }]), "destination"),
        (json!([{ "destination": "/mnt", "type": "proc" }]), "mounts[0]: type: proc: can only be mounted when"),
        (json!([{ "destination": "/mnt", "options": ["remount", "ro"] }]), "mounts[0]: options: remount: not for a"),
        (json!([{ "destination": "/mnt", "type": "bind" }]), "mounts[0]: source: missing"),
        (json!([{ "destination": "/", "type": "tmpfs" }]), "mounts[0]: destination: "),
    ] {
        mounts("add", &container, &list).fails(words);
    }
    std::fs::write(container.bundle.dir.join("broken"), "[{").expect("file");
    let broken = container.bundle.dir.join("broken");
    call(["mounts", "add", container.id(), broken.to_str().expect("UTF-8")]).fails("line 1");
    call(["mounts", "add", container.id(), "/nope"]).fails("no such file or directory");
    call(["mounts", "move", container.id(), "/nope"]).fails("invalid value 'move'");
    call(["mounts", "add", container.id()]).fails("required arguments");
    assert_eq!(mountinfo(&container), before);
}
