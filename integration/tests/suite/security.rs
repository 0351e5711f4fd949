//! Attacks on `create` and `run`, named after the CVE each comes from: inside refused, outside unchanged.

use ocirt_integration::bundle::Bundle;
use ocirt_integration::runtime::{Call, call, kind, path};
use ocirt_integration::{host, probe, program, tests, user};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

tests![
    cve_2019_19921_proc_as_a_symlink_is_refused,
    cve_2019_19921_sys_as_a_symlink_is_refused,
    cve_2026_41579_dev_as_a_symlink_stays_inside,
    cve_2019_5736_the_runtimes_program_cannot_be_written,
    cve_2019_5736_proc_self_exe_as_program_is_not_the_runtime,
    cve_2024_21626_cwd_is_never_a_leaked_descriptor,
    cve_2024_21626_a_cwd_outside_the_root_is_refused,
    cve_2025_31133_a_mask_is_never_a_symlinks_target,
    cve_2025_31133_stdio_is_never_a_symlinks_target,
    cve_2025_52565_the_console_is_never_a_symlinks_target,
    cve_2021_30465_a_renamed_destination_stays_inside,
    cve_2024_45310_nothing_is_created_outside,
    a_destination_that_is_a_symlink_stays_inside,
    a_device_path_through_a_symlink_stays_inside,
    a_masked_path_through_a_symlink_stays_inside,
    cve_2019_16884_a_volume_over_proc_is_refused,
    cve_2016_9962_the_container_cannot_trace_the_runtime,
    cve_2023_25809_the_cgroup_mount_is_not_writable,
    cve_2022_29162_capabilities_are_not_inheritable,
    a_nul_byte_is_refused,
    dev_null_of_the_host_keeps_its_owner,
];

fn target() -> (String, std::path::PathBuf) {
    let path = host::place().join("outside");
    std::fs::create_dir_all(&path).expect("directory");
    (path.to_str().expect("UTF-8").to_owned(), path)
}

fn is_empty(path: &Path) -> bool {
    std::fs::read_dir(path).expect("directory").next().is_none()
}

fn cve_2019_19921_proc_as_a_symlink_is_refused() {
    for link in ["/tmp", "../../../../../..", "tmp"] {
        Bundle::new().symlink("proc", link).refused("proc");
    }
}

fn cve_2019_19921_sys_as_a_symlink_is_refused() {
    for link in ["/tmp", "tmp"] {
        Bundle::new().symlink("sys", link).refused("sys");
    }
}

/// Refused or inside; never outside.
fn cve_2026_41579_dev_as_a_symlink_stays_inside() {
    let (outside, path) = target();
    for with_mount in [true, false] {
        let bundle = Bundle::new().symlink("dev", &outside).config(|spec| {
            let mounts = spec["mounts"].as_array_mut().expect("mounts");
            mounts.retain(|mount| with_mount || !mount["destination"].as_str().unwrap_or("").starts_with("/dev"));
        });
        bundle
            .set("linux.devices", json!([{ "path": "/dev/odd", "type": "c", "major": 1, "minor": 3 }]))
            .run(probe!(print "x"));
        assert!(is_empty(&path), "files appeared outside");
    }
}

fn hash(path: &Path) -> (Vec<u8>, u64) {
    (std::fs::read(path).expect("runtime"), std::fs::metadata(path).expect("runtime").ino())
}

/// The entry point is `#!/proc/self/exe`, so init executes itself; then it tries to write what it is.
fn cve_2019_5736_the_runtimes_program_cannot_be_written() {
    let before = hash(&path());
    let bundle = Bundle::new().own_probe().file("entry", "#!/proc/self/exe\n");
    std::fs::set_permissions(bundle.inside("entry"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("chmod");
    bundle.run(vec!["/entry".into(), "openw".into(), "/proc/self/exe".into()]);
    // While the container exists, each process of it that is the runtime's program must refuse writers.
    let container = Bundle::new().create(probe!(sleep 60));
    let exe = format!("/proc/{}/exe", container.pid());
    let all = json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]);
    let spy = Bundle::new().without_namespace("pid");
    let spy = spy.set("process.capabilities", json!({ "bounding": all, "effective": all, "permitted": all }));
    let answer = spy.run(probe!(openw exe)).ok().answer();
    assert!(["ETXTBSY", "EROFS", "EACCES", "EPERM"].contains(&answer["error"].as_str().unwrap_or("")), "{answer}");
    // ETXTBSY alone is no protection, since the process can end: it must be another file, or a mount without writers.
    program::assert_out_of_reach(container.pid());
    assert!(before == hash(&path()), "the runtime's program changed");
}

fn cve_2019_5736_proc_self_exe_as_program_is_not_the_runtime() {
    let before = hash(&path());
    let bundle = Bundle::new().symlink("entry", "/proc/self/exe").write(vec!["/entry".into(), "--version".into()]);
    let (reader, writer) = program::full_pipe();
    let created = bundle.call("create").stdout(writer).spawn().finish();
    let started = created.status == 0 && call(["start", &bundle.id]).status == 0;
    let state = if started { call(["state", &bundle.id]).ok().json() } else { Value::Null };
    let pid = state["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
    let has_ended = program::stands_still(pid, "/entry");
    // Those of others need libraries that the container does not have.
    assert!(!has_ended || kind() != "ocirt", "{created:?}");
    if !has_ended {
        program::assert_out_of_reach(pid);
    }
    drop(reader);
    assert!(before == hash(&path()), "the runtime's program changed");
}

/// With a descriptor of the host's that the caller left open, as Docker did.
fn cve_2024_21626_cwd_is_never_a_leaked_descriptor() {
    for number in 3..20 {
        let bundle = Bundle::new()
            .set("process.cwd", json!(format!("/proc/self/fd/{number}")))
            .write(probe!(cwd; stat "../../../../etc/debian_version"));
        let leak = || std::os::fd::OwnedFd::from(std::fs::File::open("/sys/fs/cgroup").expect("directory"));
        let output = bundle.call("run").descriptors(vec![leak(), leak()]).run();
        let answers = output.answers();
        let escaped = output.status == 0 && answers.get(1).is_some_and(|answer| answer["kind"] == "file");
        assert!(!escaped, "fd {number}: {answers:?}");
        if let Some(cwd) = answers.first().and_then(Value::as_str) {
            assert!(cwd.starts_with('/') && !cwd.contains("unreachable"), "fd {number}: {cwd}");
        }
    }
    host::assert_nothing_left();
}

fn cve_2024_21626_a_cwd_outside_the_root_is_refused() {
    for cwd in ["/proc/self/fd/7/../../..", "/proc/1/cwd", "/link"] {
        let bundle = Bundle::new().symlink("link", "/proc/self/fd/5").set("process.cwd", json!(cwd));
        let output = bundle.run(probe!(cwd; ls "."));
        let listing = output.answers().get(1).cloned().unwrap_or(Value::Null);
        assert!(
            !listing.to_string().contains("debian_version") && !listing.to_string().contains("\"usr\""),
            "{cwd}: {listing}"
        );
    }
}

fn without_dev_mount(bundle: Bundle) -> Bundle {
    bundle.config(|spec| {
        let mounts = spec["mounts"].as_array_mut().expect("mounts");
        mounts.retain(|mount| !mount["destination"].as_str().unwrap_or("").starts_with("/dev"));
    })
}

fn cve_2025_31133_a_mask_is_never_a_symlinks_target() {
    let bundle = without_dev_mount(
        Bundle::new().file("data/loot", "loot").file("secret", "42").symlink("dev/null", "/data/loot"),
    );
    let output = bundle.set("linux.maskedPaths", json!(["/secret"])).run(probe!(read "/secret"));
    assert!(output.status == 1 || output.answers() == [""], "{output:?}");
}

fn cve_2025_31133_stdio_is_never_a_symlinks_target() {
    let (_, outside) = target();
    let file = outside.join("file");
    std::fs::write(&file, "outside").expect("file");
    let bundle = without_dev_mount(Bundle::new().symlink("dev/null", file.to_str().expect("UTF-8")));
    let bundle = bundle.set("process.user.uid", json!(1000)).write(probe!(print "x"));
    bundle.call("run").run();
    let meta = std::fs::metadata(&file).expect("file");
    assert_eq!((meta.uid(), std::fs::read_to_string(&file).expect("file").as_str()), (0, "outside"));
}

fn cve_2025_52565_the_console_is_never_a_symlinks_target() {
    let (_, outside) = target();
    let file = outside.join("file");
    std::fs::write(&file, "outside").expect("file");
    let (owner, mode) = (std::fs::metadata(&file).expect("file").uid(), std::fs::metadata(&file).expect("file").mode());
    let bundle = without_dev_mount(Bundle::new().symlink("dev/console", file.to_str().expect("UTF-8")));
    let bundle = bundle.set("process.terminal", json!(true)).set("process.user.uid", json!(1000)).write(probe!(tty));
    let (_master, slave) = ocirt_integration::terminal::pty(24, 80);
    bundle.call("run").terminal(&slave).run();
    let meta = std::fs::metadata(&file).expect("file");
    assert_eq!((meta.uid(), meta.mode()), (owner, mode));
    assert_eq!(std::fs::read_to_string(&file).expect("file"), "outside");
}

/// A second container, or an earlier process of a shared volume, swaps a directory of the destination for a symlink.
fn cve_2021_30465_a_renamed_destination_stays_inside() {
    let (outside, path) = target();
    let stop = Arc::new(AtomicBool::new(false));
    let bundle = Bundle::new().directory("data/here").symlink("data/swap", &outside).mount(
        "tmpfs",
        "raced",
        "/data/here/deep/er",
        &[],
    );
    let (one, two) = (bundle.inside("data/here"), bundle.inside("data/swap"));
    let racer = {
        let (stop, to_c) =
            (stop.clone(), |path: &Path| std::ffi::CString::new(path.to_str().expect("UTF-8")).expect("no NUL"));
        let (one, two) = (to_c(&one), to_c(&two));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                // SAFETY: both paths are NUL-terminated and outlive the call.
                unsafe {
                    libc::renameat2(libc::AT_FDCWD, one.as_ptr(), libc::AT_FDCWD, two.as_ptr(), libc::RENAME_EXCHANGE)
                };
            }
        })
    };
    let mut bundle = bundle.write(probe!(print "x"));
    for _ in 0..40 {
        bundle.id = host::new_id();
        bundle.call("run").run();
        let outside_now = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        assert!(!outside_now.contains("raced"), "mounted outside");
        if !is_empty(&path) {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    racer.join().expect("racer");
    assert!(is_empty(&path), "a directory was created outside");
}

fn cve_2024_45310_nothing_is_created_outside() {
    let (outside, path) = target();
    let bundle = Bundle::new().symlink("data/out", &outside).symlink("data/up", "../../../../../../../../../..");
    let bundle =
        bundle.mount("tmpfs", "tmpfs", "/data/out/new/dir", &[]).mount("tmpfs", "tmpfs", "/data/up/upper", &[]);
    bundle.set("process.cwd", json!("/data/out/cwd/deep")).run(probe!(print "x"));
    assert!(is_empty(&path), "a directory was created outside");
    assert!(!Path::new("/upper").exists());
}

fn a_destination_that_is_a_symlink_stays_inside() {
    let (outside, path) = target();
    let bundle = Bundle::new().symlink("data/out", &outside);
    let source = bundle.dir.join("file");
    std::fs::write(&source, "text").expect("file");
    let bundle = bundle.mount("bind", source.to_str().expect("UTF-8"), "/data/out", &["bind"]);
    bundle.run(probe!(print "x"));
    assert!(is_empty(&path));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(!mounts.contains(&outside), "mounted outside");
}

fn a_device_path_through_a_symlink_stays_inside() {
    let (outside, path) = target();
    let bundle = Bundle::new().symlink("data/out", &outside);
    bundle
        .set("linux.devices", json!([{ "path": "/data/out/odd", "type": "c", "major": 1, "minor": 3 }]))
        .run(probe!(print "x"));
    assert!(is_empty(&path), "a device was made outside");
}

fn a_masked_path_through_a_symlink_stays_inside() {
    let (outside, path) = target();
    std::fs::write(path.join("file"), "outside").expect("file");
    let bundle = Bundle::new().file("tmp/real", "42").symlink("link", "/tmp/real").symlink("out", &outside);
    let bundle =
        bundle.set("linux.maskedPaths", json!(["/link", "/out/file"])).set("linux.readonlyPaths", json!(["/out"]));
    let output = bundle.run(probe!(read "/tmp/real"));
    assert!(output.status == 1 || output.answer() == "", "{output:?}");
    assert_eq!(std::fs::read_to_string(path.join("file")).expect("file"), "outside");
    std::fs::write(path.join("file"), "still writable").expect("file");
}

/// What is mounted over /proc receives the runtime's own writes of labels and sysctls.
fn cve_2019_16884_a_volume_over_proc_is_refused() {
    let bundle = Bundle::new();
    let source = bundle.host_dir("fake").to_str().expect("UTF-8").to_owned();
    bundle.mount("bind", &source, "/proc", &["bind"]).refused("proc");
    for below in ["/proc/self/attr", "/proc/1", "/proc/sys"] {
        let bundle = Bundle::new();
        let source = bundle.host_dir("fake").to_str().expect("UTF-8").to_owned();
        bundle.mount("bind", &source, below, &["bind"]).refused("proc");
    }
}

fn cve_2016_9962_the_container_cannot_trace_the_runtime() {
    let victim = Bundle::new().create(probe!(sleep 60));
    // The init that waits for start holds the runtime's descriptors: they must be out of reach, and harmless.
    let pid = victim.pid();
    let mut leaks = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).expect("fd").flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        if target.is_dir() && target.starts_with("/") {
            leaks.push(target);
        }
    }
    assert!(leaks.is_empty(), "directories are open in init: {leaks:?}");
}

fn cve_2023_25809_the_cgroup_mount_is_not_writable() {
    let all = json!({ "bounding": ["CAP_DAC_OVERRIDE"], "effective": ["CAP_DAC_OVERRIDE"], "permitted": ["CAP_DAC_OVERRIDE"] });
    let bundle = Bundle::new().mount("cgroup", "cgroup", "/sys/fs/cgroup", &["ro", "nosuid", "nodev", "noexec"]);
    let place = if host::is_cgroup2() { "/sys/fs/cgroup/x" } else { "/sys/fs/cgroup/pids/x" };
    let answer = bundle.set("process.capabilities", all).run(probe!(mkdir place)).ok().answer();
    assert_eq!(answer["error"], "EROFS");
}

fn cve_2022_29162_capabilities_are_not_inheritable() {
    let directory = host::place().join("spec");
    std::fs::create_dir_all(&directory).expect("directory");
    user::give_in_suite(&directory);
    Call::new(["spec"]).cwd(&directory).run().ok();
    let spec: Value =
        serde_json::from_str(&std::fs::read_to_string(directory.join("config.json")).expect("config.json"))
            .expect("JSON");
    let set = spec["process"]["capabilities"]["inheritable"].as_array().map_or(0, Vec::len);
    assert_eq!(set, 0);
}

fn a_nul_byte_is_refused() {
    for field in ["process.cwd", "root.path"] {
        Bundle::new().set(field, json!("/a\u{0}b")).refused_as_ocirt(field);
    }
    Bundle::new().mount("tmpfs", "tmpfs", "/mnt\u{0}", &[]).refused_as_ocirt("mounts[");
    let output = Bundle::new().set("process.env", json!(["A=1\u{0}B=2"])).run(probe!(env));
    assert!(output.status == 1 || output.answer()["B"].is_null());
}

/// crun under Podman gave it away when descriptor 0 was /dev/null and the user another one.
fn dev_null_of_the_host_keeps_its_owner() {
    let before = std::fs::metadata("/dev/null").expect("/dev/null");
    let user = json!({ "uid": 1000, "gid": 1000 });
    Bundle::new().user_namespace(100_000).set("process.user", user.clone()).run(probe!(write "/dev/null", "x")).ok();
    Bundle::new().set("process.user", user).run(probe!(print "x")).ok();
    let after = std::fs::metadata("/dev/null").expect("/dev/null");
    assert_eq!((before.uid(), before.gid(), before.mode()), (after.uid(), after.gid(), after.mode()));
    call(["delete", "--force", "absent"]).ok();
}
