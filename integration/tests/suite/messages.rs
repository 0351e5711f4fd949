//! Failures whose cause lies outside of the container's configuration: the message names the field that meets them, and
//! the process that failed has the word, not the one that noticed.

use super::exec::{exec, exec_json, minimal, refused, running};
use super::inject::traced;
use super::waits::fifo;
use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::runtime::{Call, call};
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;

tests![
    a_pid_namespace_without_its_init_names_its_field,
    a_filter_that_kills_the_set_up_is_named,
    a_filter_that_kills_the_set_up_of_exec_is_named,
    a_rule_of_the_runtimes_own_that_a_cgroup_above_forbids_is_called_so,
    a_rule_of_the_configuration_that_a_cgroup_above_forbids_is_not,
    a_filter_of_the_runtimes_own_that_a_cgroup_above_forbids_is_called_so,
    an_exec_whose_container_ends_after_the_look_is_told_so,
    what_init_reports_is_the_reason_whatever_the_runtime_noticed_first,
    a_key_that_is_misspelt_is_told_so,
    a_command_line_in_one_word_is_told_so,
    a_script_without_its_interpreter_is_told_so,
    every_errno_is_spelled_alike,
];

/// A key that is not known is ignored, which may be what somebody relies on.
fn a_key_that_is_misspelt_is_told_so() {
    need_ocirt();
    let output = Bundle::new().set("root.readOnly", json!(true)).run(probe!(print "x")).ok();
    let warning = "root.readOnly: unknown, and ignored (did you mean readonly?)";
    assert_eq!(output.stderr, format!("ocirt: warning: {warning}\n"));
    let renamed = |from: &str, to: &str| {
        let bundle = Bundle::new().write(probe!(print "x")).config(|config| {
            let (place, key) = from.rsplit_once('/').expect("a pointer");
            let object = config.pointer_mut(place).and_then(Value::as_object_mut).expect("an object");
            let value = object.remove(key).expect("a value");
            object.insert(to.to_owned(), value);
        });
        bundle.keep_args().call("run").run()
    };
    // Of what is missing, the error or a warning before it says how it may be spelled.
    renamed("/process/args", "agrs").fails("process.agrs: unknown, and ignored (did you mean args?)");
    renamed("/ociVersion", "ociversion").fails("ociVersion: missing (did you mean it by \"ociversion\"?)");
    let container = running(Bundle::new());
    let mut process = minimal(probe!(print "x"));
    process["noNewPrivilegs"] = json!(true);
    let log = host::place().join("log");
    let file = container.bundle.dir.join("process.json");
    std::fs::write(&file, process.to_string()).expect("process.json");
    let words = ["exec", "--process", file.to_str().expect("UTF-8"), container.id()];
    let call = Call::new(words).as_user(container.bundle.as_user());
    call.global(["--log", log.to_str().expect("UTF-8")]).run().ok();
    let text = std::fs::read_to_string(log).expect("the log");
    assert!(text.contains("process.noNewPrivilegs: unknown, and ignored (did you mean noNewPrivileges?)"), "{text}");
}

/// The usual mistake: `"args": ["/bin/sh -c true"]`.
fn a_command_line_in_one_word_is_told_so() {
    need_ocirt();
    for (name, words) in [
        ("/probe print x", "exec \"/probe print x\": exec: no such file or directory (args[0] is the program alone"),
        (
            "probe print x",
            "exec \"probe print x\": exec: no such file or directory (executable file not found in $path; args[0]",
        ),
    ] {
        Bundle::new().run(vec![name.to_owned()]).fails(words);
    }
    // A name may have a space.
    let bundle = Bundle::new();
    std::fs::copy(host::probe(), bundle.inside("/a probe")).expect("the probe");
    assert_eq!(bundle.run(["/a probe", "print", "x"].map(str::to_owned).to_vec()).ok().answer(), "x");
}

fn a_script_without_its_interpreter_is_told_so() {
    need_ocirt();
    let bundle = Bundle::new().file("/script", "#!/bin/nosuch\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bundle.inside("/script"), mode).expect("script");
    let words = "no such file or directory (the interpreter that the file names is not in the container)";
    bundle.run(vec!["/script".to_owned()]).fails(words);
}

/// As strerror(3), in lower case, with the call; std's own has a number behind it.
fn every_errno_is_spelled_alike() {
    need_ocirt();
    let hook = json!({ "path": "/nosuch/hook" });
    let output = Bundle::new().hook("createRuntime", hook).run(probe!(print "x"));
    assert!(output.status == 1 && !output.stderr.contains("os error"), "{}", output.stderr);
    for words in [["--root", "/proc/nosuch", "state", "x"], ["--root", "/dev/null", "state", "x"]] {
        let output = ocirt_integration::runtime::Call::new(words).root(None).run();
        assert!(output.status == 1 && !output.stderr.contains("os error"), "{}", output.stderr);
    }
    let bundle = Bundle::new().flags(&["--console-socket", "/nosuch/socket"]).set("process.terminal", json!(true));
    let output = bundle.write(probe!(print "x")).call("create").run();
    assert!(output.status == 1 && !output.stderr.contains("os error"), "{}", output.stderr);
}

/// A namespace of a container that has ended, kept by its descriptor, and a path to it.
fn kept(container: &ocirt_integration::bundle::Container, kind: &str) -> (File, String) {
    let file = File::open(format!("/proc/{}/ns/{kind}", container.pid())).expect("namespace");
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    (file, path)
}

/// As one of the host's, of the user namespace that is joined, and of another one than that: each is joined by another process.
fn a_pid_namespace_without_its_init_names_its_field() {
    need_ocirt();
    need_root();
    let in_user_namespace = || Bundle::new().user_namespace(70_000);
    let third = in_user_namespace().start(probe!(sleep 20000));
    for (own_users, joins_users) in [(false, false), (true, true), (false, true)] {
        let pod = if own_users { in_user_namespace() } else { Bundle::new() }.start(probe!(sleep 20000));
        let (pids, pid_path) = kept(&pod, "pid");
        let (users, user_path) = kept(if own_users { &pod } else { &third }, "user");
        let bundle = match joins_users {
            true => in_user_namespace().namespace("user", Some(&user_path)),
            false => Bundle::new(),
        };
        call(["delete", "--force", pod.id()]).ok();
        let bundle = bundle.namespace("pid", Some(&pid_path)).config(|spec| {
            // A procfs of a namespace to which it has no right would be refused before.
            if own_users != joins_users {
                spec["mounts"][0] = json!({ "source": "/proc", "destination": "/proc", "options": ["rbind"] });
            }
        });
        let output = bundle.run(probe!(print "it ran")).fails("linux.namespaces");
        // The maps of a user namespace are read through a process in it, which needs no pid namespace.
        let words = format!(
            "linux.namespaces: join pid namespace {pid_path}: its init has ended, or there is no memory: init: "
        );
        assert!(output.stderr.contains(&words), "{}", output.stderr);
        assert!(output.stderr.trim_end().ends_with("cannot allocate memory"), "{}", output.stderr);
        drop((pids, users));
    }
}

fn killing(name: &str) -> Value {
    let rule = json!({ "names": [name], "action": "SCMP_ACT_KILL_PROCESS" });
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [rule] })
}

const FILTER: &str = "linux.seccomp: the filter ended ";

fn a_filter_that_kills_the_set_up_is_named() {
    need_ocirt();
    need_root();
    let bundle = Bundle::new().set("linux.seccomp", killing("capset")).set("process.noNewPrivileges", json!(false));
    let output = bundle.run(probe!(print "it ran")).fails("linux.seccomp: ");
    assert!(
        output.stderr.contains(&format!("{FILTER}init (SIGSYS) while it set the container up: ")),
        "{}",
        output.stderr
    );
    host::assert_nothing_left();
}

fn a_filter_that_kills_the_set_up_of_exec_is_named() {
    need_ocirt();
    need_root();
    let bundle = Bundle::new().set("linux.seccomp", killing("capset")).set("process.noNewPrivileges", json!(true));
    let container = bundle.start(probe!(sleep 20000));
    let mut process = minimal(probe!(print "it ran"));
    process["noNewPrivileges"] = json!(false);
    let output = exec_json(&container, &process);
    assert_eq!(output.status, 255, "{}", output.stdout);
    assert!(
        output.stderr.contains(&format!("{FILTER}the process (SIGSYS) while it was set up: ")),
        "{}",
        output.stderr
    );
    call(["delete", "--force", container.id()]).ok();
}

/// What `run` says in a cgroup above which the device `line` is forbidden.
fn below_a_cgroup_without(line: &str, bundle: Bundle) -> String {
    need_ocirt();
    need_root();
    let hierarchy = Path::new("/sys/fs/cgroup/devices");
    need(Need::CgroupV1, hierarchy.join("devices.deny").exists() || hierarchy.join("devices.list").exists());
    let above = format!("above-{}", bundle.id);
    let directory = hierarchy.join(&above);
    std::fs::create_dir(&directory).expect("a cgroup");
    std::fs::write(directory.join("devices.deny"), line).expect("devices.deny");
    let output = bundle.set("linux.cgroupsPath", json!(format!("/{above}/c"))).run(probe!(print "it ran"));
    let removed = std::fs::remove_dir(&directory);
    assert_ne!(output.status, 0, "{}", output.stdout);
    removed.expect("nothing is left in it");
    output.stderr
}

fn a_rule_of_the_runtimes_own_that_a_cgroup_above_forbids_is_called_so() {
    let said = below_a_cgroup_without("c 10:200 rw", Bundle::new());
    let words = "linux.resources.devices: write \"c 10:200 rwm\" to devices.allow: operation not permitted (the rule is the \
                 runtime's own, for every container; a cgroup above forbids it)";
    assert!(said.contains(words), "{said}");
}

fn a_rule_of_the_configuration_that_a_cgroup_above_forbids_is_not() {
    let rule = json!([{ "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm" }]);
    let said = below_a_cgroup_without("c 10:229 rwm", Bundle::new().set("linux.resources.devices", rule));
    assert!(
        said.contains("linux.resources.devices: write \"c 10:229 rwm\" to devices.allow: operation not permitted"),
        "{said}"
    );
    assert!(!said.contains("the runtime's own"), "{said}");
}

/// Attaches a device filter that allows everything to a cgroup of v2, in the way that forbids all below it to have one: with
/// no flag (bpf(2), `BPF_F_ALLOW_MULTI` in linux/bpf.h).
fn attach_alone(directory: &Path) {
    const PROG_LOAD: u64 = 5;
    const PROG_ATTACH: u64 = 8;
    const CGROUP_DEVICE: [u32; 2] = [15, 6];
    let bpf = |command: u64, attr: &[u32; 32]| {
        // SAFETY: the attributes have the length that is said, and what they point to outlives the call.
        unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_ptr(), size_of_val(attr)) }
    };
    let halves = |pointer: *const u8| [pointer as u64 as u32, (pointer as u64 >> 32) as u32];
    // r0 = 1; exit
    let program: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];
    let [mut load, mut attach] = [[0; 32]; 2];
    load[..2].copy_from_slice(&[CGROUP_DEVICE[0], 2]);
    load[2..4].copy_from_slice(&halves(program.as_ptr().cast()));
    load[4..6].copy_from_slice(&halves(c"Apache-2.0".as_ptr().cast()));
    load[17] = CGROUP_DEVICE[1];
    let filter = bpf(PROG_LOAD, &load);
    assert!(filter >= 0, "{}", std::io::Error::last_os_error());
    let directory = File::open(directory).expect("a cgroup");
    attach[..3].copy_from_slice(&[directory.as_raw_fd() as u32, filter as u32, CGROUP_DEVICE[1]]);
    assert_eq!(bpf(PROG_ATTACH, &attach), 0, "{}", std::io::Error::last_os_error());
}

fn a_filter_of_the_runtimes_own_that_a_cgroup_above_forbids_is_called_so() {
    need_ocirt();
    need_root();
    need(Need::CgroupV2, host::is_cgroup2());
    need(Need::Cgroupfs, !host::all_with_systemd());
    let rules = json!([{ "allow": false, "access": "rwm" }]);
    let own = Bundle::new().set("linux.resources.devices", json!([]));
    let configured = Bundle::new().set("linux.resources.devices", rules);
    for (bundle, is_own) in [(own, true), (configured, false)] {
        let above = format!("above-{}", bundle.id);
        let directory = Path::new("/sys/fs/cgroup").join(&above);
        std::fs::create_dir(&directory).expect("a cgroup");
        attach_alone(&directory);
        let output = bundle.set("linux.cgroupsPath", json!(format!("/{above}/c"))).run(probe!(print "it ran"));
        std::fs::remove_dir(&directory).expect("nothing is left in it");
        let author = if is_own { ": the device filter, which is the runtime's own for every container" } else { "" };
        let words = format!("linux.resources.devices{author}: bpf BPF_PROG_ATTACH: operation not permitted");
        output.fails(&words);
    }
}

/// Its process.json is written once the container has ended.
fn an_exec_whose_container_ends_after_the_look_is_told_so() {
    need_ocirt();
    let container = running(Bundle::new());
    let path = fifo("process");
    let mut process = exec(&container, &["--process", path.to_str().expect("UTF-8")], vec![]).spawn();
    let mut file = File::options().write(true).open(&path).expect("FIFO");
    let pid = container.pid();
    container.kill("KILL").ok();
    host::reap(pid);
    file.write_all(minimal(probe!(print "it ran")).to_string().as_bytes()).expect("FIFO");
    drop(file);
    let output = process.finish();
    refused(output.clone(), "");
    // Whichever of the two is noticed first: that it has ended, or that its namespaces are gone.
    let words = ["container not running: it ended while the process was set up", "cannot exec in a stopped container"];
    assert!(words.iter().any(|words| output.stderr.contains(words)), "{output:?}");
    call(["delete", container.id()]).ok();
    host::assert_nothing_left();
}

/// Init reports that its first step failed, and ends, before the runtime has written the maps of its ids: by a strace that
/// refuses it its name, and holds the runtime up where it opens the maps.
fn what_init_reports_is_the_reason_whatever_the_runtime_noticed_first() {
    need_ocirt();
    need_root();
    need(Need::Strace, std::process::Command::new("strace").arg("-V").output().is_ok());
    let (script, _) = traced("-f -e inject=prctl:error=EPERM -e inject=openat2:delay_enter=50000");
    for _ in 0..3 {
        let bundle = Bundle::new().user_namespace(70_000).write(probe!(print "it ran"));
        let said = bundle.call("create").traced(&script).run();
        let reason =
            format!("ocirt: create {}: name ocirt:init: prctl(PR_SET_NAME): operation not permitted\n", bundle.id);
        assert!(said.stderr.ends_with(&reason), "{}", said.stderr);
    }
}
