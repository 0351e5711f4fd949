//! Attacks by processes that run already, on a runtime that enters their container or shares something with them: inside
//! refused, outside unchanged. `security` has those of an image on `create`.

use super::exec::{exec, running};
use super::exec_life::snooped;
use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::need_ocirt;
use ocirt_integration::runtime::{Call, call, kind, path};
use ocirt_integration::{host, probe, program, tests};
use serde_json::{Value, json};
use std::ffi::CString;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

tests![
    cve_2016_9962_init_in_a_shared_pid_namespace_cannot_be_looked_into,
    cve_2019_5736_exec_of_proc_self_exe_is_not_the_runtime,
    cve_2024_21626_the_cwd_of_exec_is_never_a_leaked_descriptor,
    cve_2025_31133_a_masked_path_that_is_swapped_masks_nothing_outside,
    cve_2025_52881_what_is_over_proc_does_not_get_the_writes_of_exec,
    cve_2019_16884_no_mount_is_added_over_proc,
    cve_2023_25809_no_cgroup_is_made_from_a_user_namespace,
    crun_2026_84042_no_program_of_the_container_runs_outside,
];

/// A process that may trace all of its own, with whom each new init shares the pid namespace.
fn cve_2016_9962_init_in_a_shared_pid_namespace_cannot_be_looked_into() {
    for spy in [Bundle::new(), snooped()] {
        let spy = spy.create(probe!(snoop 60));
        spy.start().ok();
        spy.answers(1);
        let shared = format!("/proc/{}/ns/pid", spy.pid());
        for _ in 0..20 {
            let victim = Bundle::new().beside(spy.pid()).namespace("pid", Some(&shared)).create(probe!(print "x"));
            let pid = victim.pid();
            call(["delete", "--force", victim.id()]).ok();
            // The spy's pid namespace ends with its last zombie.
            host::reap(pid);
        }
        assert_eq!(spy.stdout().lines().count(), 1, "{}", spy.stdout());
        call(["delete", "--force", spy.id()]).ok();
    }
}

fn cve_2019_5736_exec_of_proc_self_exe_is_not_the_runtime() {
    let before = std::fs::read(path()).expect("runtime");
    let bundle = Bundle::new().own_probe().file("entry", "#!/proc/self/exe\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bundle.inside("entry"), mode).expect("chmod");
    let container = running(bundle);
    for words in [["/proc/self/exe", "--version"], ["/entry", "--version"], ["/proc/self/exe", "features"]] {
        let (reader, writer) = program::full_pipe();
        let file = container.bundle.dir.join("pid");
        let flags = ["--detach", "--pid-file", file.to_str().expect("UTF-8")];
        let output = exec(&container, &flags, words.map(str::to_owned).to_vec()).stdout(writer).run();
        // Others need libraries that the container does not have.
        assert!(output.status == 0 || kind() != "ocirt", "{output:?}");
        if output.status == 0 {
            let pid = std::fs::read_to_string(&file).expect("pid file").parse().expect("a pid");
            let has_ended = program::stands_still(pid, words[0]);
            // As an interpreter, ocirt is given the script's name for a command, and ends.
            assert!(!has_ended || kind() != "ocirt" || words[0] == "/entry", "{words:?} has ended");
            if !has_ended {
                program::assert_out_of_reach(pid);
            }
            drop(reader);
            host::reap(pid);
        }
        assert!(before == std::fs::read(path()).expect("runtime"), "{words:?}");
    }
    let answer = exec(&container, &[], probe!(openw "/proc/self/exe")).run().ok().answer();
    assert_eq!(answer["error"], "ETXTBSY", "the probe is itself by then");
}

fn cve_2024_21626_the_cwd_of_exec_is_never_a_leaked_descriptor() {
    let container = running(Bundle::new());
    let leak = || std::os::fd::OwnedFd::from(std::fs::File::open("/sys/fs/cgroup").expect("directory"));
    for number in 3..20 {
        let cwd = format!("/proc/self/fd/{number}");
        let arguments = probe!(cwd; stat "../../../../etc/debian_version");
        let output = exec(&container, &["--cwd", &cwd], arguments).descriptors(vec![leak(), leak()]).run();
        let answers = output.answers();
        assert!(answers.get(1).is_none_or(|answer| answer["kind"] != "file"), "fd {number}: {answers:?}");
        if let Some(cwd) = answers.first().and_then(Value::as_str) {
            assert!(cwd.starts_with('/') && !cwd.contains("unreachable"), "fd {number}: {cwd}");
        }
    }
}

/// Exchanges two paths all the time, until it is dropped.
pub struct Racer(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Racer {
    pub fn new(one: &Path, two: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let [one, two] = [one, two].map(|path| CString::new(path.to_str().expect("UTF-8")).expect("no NUL"));
        let seen = stop.clone();
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                let at = libc::AT_FDCWD;
                // SAFETY: both paths are NUL-terminated and outlive the call.
                unsafe { libc::renameat2(at, one.as_ptr(), at, two.as_ptr(), libc::RENAME_EXCHANGE) };
            }
        });
        Racer(stop, Some(thread))
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.take().map(std::thread::JoinHandle::join);
    }
}

/// GHSA-3q8j-pf29-vwv8 as well: the same for read-only paths.
fn cve_2025_31133_a_masked_path_that_is_swapped_masks_nothing_outside() {
    let outside = host::place().join("outside");
    std::fs::create_dir_all(&outside).expect("directory");
    std::fs::write(outside.join("secret"), "outside").expect("file");
    let bundle = Bundle::new().file("data/here/secret", "42").symlink("data/swap", outside.to_str().expect("UTF-8"));
    let bundle = bundle.set("linux.maskedPaths", json!(["/data/here/secret"]));
    let bundle = bundle.set("linux.readonlyPaths", json!(["/data/here"]));
    let racer = Racer::new(&bundle.inside("data/here"), &bundle.inside("data/swap"));
    let mut bundle = bundle.write(probe!(read "/data/here/secret"; read "/data/swap/secret"));
    for _ in 0..40 {
        bundle.id = host::new_id();
        let output = bundle.call("run").run();
        assert!(!output.stdout.contains("outside"), "read outside: {output:?}");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        assert!(!mounts.contains("outside/secret"), "mounted outside");
        assert_eq!(std::fs::read_to_string(outside.join("secret")).expect("file"), "outside");
        std::fs::write(outside.join("probe"), "writable").expect("still writable");
    }
    drop(racer);
}

/// What the container has mounted over its procfs since, sees nothing of what exec writes there.
fn cve_2025_52881_what_is_over_proc_does_not_get_the_writes_of_exec() {
    let admin = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    let sets = json!({ "bounding": admin, "effective": admin, "permitted": admin });
    let bundle = Bundle::new().file("data/attr/exec", "").file("data/sysrq", "").set("process.capabilities", sets);
    let bundle = bundle.file("data/oom", "untouched").set("process.oomScoreAdj", json!(500));
    let container = bundle.create(probe!(mount "/data", "/proc", "none", "bind"; print "up"; sleep 60));
    container.start().ok();
    assert_eq!(container.answers(2)[0], "ok");
    let output = exec(&container, &[], probe!(ls "/proc")).run();
    // Others need a true /proc to enter, and say so.
    if output.status == 0 || kind() == "ocirt" {
        assert_eq!(output.ok().answer(), json!(["attr", "oom", "sysrq"]), "its /proc is the fake one");
    }
    for name in ["data/attr/exec", "data/sysrq"] {
        assert_eq!(std::fs::read_to_string(container.bundle.inside(name)).expect("file"), "", "{name} was written");
    }
    let flags = ["--apparmor", "unconfined-nosuch"];
    let output = exec(&container, &flags, probe!(print "it ran")).run();
    assert!(output.status != 0 && !output.stdout.contains("it ran"), "{output:?}");
    assert_eq!(std::fs::read_to_string(container.bundle.inside("data/attr/exec")).expect("file"), "");
}

fn cve_2019_16884_no_mount_is_added_over_proc() {
    need_ocirt();
    let container = running(Bundle::new().symlink("data/link", "/proc").symlink("data/attr", "/proc/self/attr"));
    let file = container.bundle.dir.join("mounts.json");
    for destination in ["/proc", "/proc/self/attr", "/proc/sys", "/data/link/sys", "/data/attr", "/data/../proc/1"] {
        let mounts = json!([{ "destination": destination, "type": "tmpfs", "source": "tmpfs" }]);
        std::fs::write(&file, mounts.to_string()).expect("file");
        let before = container.proc_file("mountinfo");
        let output = Call::new(["mounts", "add", container.id(), file.to_str().expect("UTF-8")]).run();
        assert_eq!(output.status, 1, "{destination}: {output:?}");
        assert_eq!(before, container.proc_file("mountinfo"), "{destination}");
    }
}

/// In each way that shows cgroups to root of a user namespace.
fn cve_2023_25809_no_cgroup_is_made_from_a_user_namespace() {
    let place = if host::is_cgroup2() { "/sys/fs/cgroup/x" } else { "/sys/fs/cgroup/pids/x" };
    for with_namespace in [false, true] {
        for options in [&["ro"][..], &["rw"]] {
            let bundle = Bundle::new().user_namespace(100_000).mount("cgroup", "cgroup", "/sys/fs/cgroup", options);
            let bundle = if with_namespace { bundle.namespace("cgroup", None) } else { bundle };
            let output = bundle.run(probe!(mkdir place));
            // A cgroup of its own, made writable on purpose, may be written; none outside.
            let may = with_namespace && options == ["rw"];
            let made = output.answers().iter().any(|answer| answer == "ok");
            assert!(!made || may, "{with_namespace} {options:?}: {output:?}");
        }
    }
    assert!(!Path::new("/sys/fs/cgroup/x").exists() && !Path::new("/sys/fs/cgroup/pids/x").exists());
}

/// Programs in the rootfs with the names that a runtime looks for, for each command that could.
fn crun_2026_84042_no_program_of_the_container_runs_outside() {
    let mark = host::place().join("mark");
    let script = format!("#!/bin/sh\ntouch {}\n", mark.display());
    let mut bundle = Bundle::new();
    for name in ["ps", "criu", "ocirt", "runc", "newuidmap", "newgidmap", "passt", "krun", "sh"] {
        for directory in ["bin", "usr/bin", "usr/sbin"] {
            bundle = bundle.file(&format!("{directory}/{name}"), &script);
            let file = bundle.inside(&format!("{directory}/{name}"));
            std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
        }
    }
    let container = running(bundle);
    for words in [&["ps"][..], &["state"], &["pause"], &["resume"], &["kill", "0"]] {
        let id = [container.id()];
        let call = Call::new(words[..1].iter().copied().chain(id).chain(words[1..].iter().copied()));
        call.cwd(&container.bundle.inside("bin")).run().ok();
    }
    assert!(!mark.exists(), "a program of the container ran outside");
}
