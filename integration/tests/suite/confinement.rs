//! What confines the container's program confines everything that the image brings: startContainer hooks, what they leave
//! behind, and the processes of `exec`. And hooks run wherever a profile lets them.

use super::exec::{exec, exec_json, minimal, running};
use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::runtime::{self, call};
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};
use std::path::Path;

tests![
    a_start_container_hook_is_confined_as_the_program_is,
    a_process_of_exec_is_confined_as_the_program_is,
    a_start_container_hook_runs_under_the_profiles_of_engines,
    engines_profiles_let_through_all_that_init_calls_under_them,
    a_profile_that_lets_no_hook_run_is_named,
    a_profile_that_kills_for_hooks_is_named,
    a_hook_that_its_profile_kills_is_named,
    cve_2026_97029_a_kill_of_the_own_group_reaches_nobody_outside,
];

/// Lines of /proc/PID/status.
const FIELDS: [&str; 12] = [
    "Seccomp",
    "Seccomp_filters",
    "NoNewPrivs",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "Uid",
    "Gid",
    "Groups",
    "Umask",
];

fn rules(rules: Value) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules })
}

/// A container with something of everything that confines a process; and a log of its hooks that its user may write.
fn confined(no_new_privileges: bool) -> (Bundle, String) {
    use std::os::unix::fs::PermissionsExt;
    let bundle = Bundle::new();
    let directory = bundle.host_dir("hooks");
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777)).expect("chmod");
    let directory = directory.to_str().expect("UTF-8").to_owned();
    let few = json!(["CAP_CHOWN", "CAP_KILL"]);
    let bundle = bundle
        .mount("bind", &directory, &directory, &["bind"])
        .set("process.user", json!({ "uid": 1000, "gid": 1001, "additionalGids": [27], "umask": 0o027 }))
        .set("process.capabilities", json!({ "bounding": few, "effective": few, "permitted": few }))
        .set("process.rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 99, "hard": 100 }]))
        .set("process.noNewPrivileges", json!(no_new_privileges))
        .set("linux.seccomp", rules(json!([{ "names": ["acct"], "action": "SCMP_ACT_ERRNO" }])));
    (bundle, format!("{directory}/log"))
}

/// A startContainer hook that writes a line to `log`.
fn logging(log: &str) -> Value {
    json!({ "path": "/probe", "args": ["probe", "hook", log, "startContainer", "0", "0"] })
}

fn logged(log: &str) -> Value {
    let text = std::fs::read_to_string(Path::new(log)).expect("the hook's log");
    serde_json::from_str(&text).expect("one line of the hook")
}

/// What a process has, and the words that ask the probe for it.
fn asked() -> Vec<String> {
    let mut words = probe!(rlimits);
    for field in FIELDS {
        words.extend(["+", "status", field].map(str::to_owned));
    }
    words
}

fn a_start_container_hook_is_confined_as_the_program_is() {
    need_root();
    for no_new_privileges in [true, false] {
        let (bundle, log) = confined(no_new_privileges);
        let answers = bundle.hook("startContainer", logging(&log)).run(asked()).ok().answers();
        let line = logged(&log);
        assert_eq!(line["rlimits"], answers[0]);
        assert_eq!(answers[0]["RLIMIT_NOFILE"], json!([99, 100]));
        assert_eq!(answers.len(), 1 + FIELDS.len());
        for (field, answer) in FIELDS.iter().zip(&answers[1..]) {
            assert_eq!(
                line["status"][field].to_string().replace('"', ""),
                answer.to_string().replace('"', ""),
                "{field}"
            );
        }
        assert_eq!(line["status"]["Seccomp"], "2", "noNewPrivileges {no_new_privileges}");
        assert_eq!(line["status"]["NoNewPrivs"], if no_new_privileges { "1" } else { "0" });
    }
}

/// Also of a process.json that says nothing of it, but for no_new_privs, which it has to ask for, as with runc.
fn a_process_of_exec_is_confined_as_the_program_is() {
    need_root();
    for no_new_privileges in [true, false] {
        let (bundle, log) = confined(no_new_privileges);
        let container = running(bundle.hook("startContainer", logging(&log)));
        let line = logged(&log);
        let mut process = minimal(asked());
        process["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [27], "umask": 0o027 });
        let given = exec_json(&container, &process).ok().answers();
        let own = exec(&container, &[], asked()).run().ok().answers();
        for (what, answers) in [("process.json", given), ("config.json", own)] {
            assert_eq!(line["rlimits"], answers[0], "{what}");
            assert_eq!(answers.len(), 1 + FIELDS.len());
            for (field, answer) in FIELDS.iter().zip(&answers[1..]) {
                let expected = match (*field, what) {
                    ("NoNewPrivs", "process.json") => "0".to_owned(),
                    _ => line["status"][field].to_string().replace('"', ""),
                };
                assert_eq!(answer.to_string().replace('"', ""), expected, "{what}: {field}");
            }
        }
    }
}

/// A profile cannot look into the arguments of clone3, so Docker's says that it does not exist; older ones know nothing
/// of pidfds and close_range, and a container without network has no use for sendmsg.
fn a_start_container_hook_runs_under_the_profiles_of_engines() {
    let docker = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [
            { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
            { "names": ["clone"], "action": "SCMP_ACT_ERRNO",
              "args": [{ "index": 0, "value": 0x0200_0000, "valueTwo": 0x0200_0000, "op": "SCMP_CMP_MASKED_EQ" }] },
        ],
    });
    let unknown = [
        "clone3",
        "vfork",
        "close_range",
        "pidfd_open",
        "pidfd_send_signal",
        "sendmsg",
        "faccessat2",
        "waitid",
        "dup2",
    ];
    let old = rules(json!([{ "names": unknown, "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }]));
    for no_new_privileges in [true, false] {
        for (name, profile) in [("docker", docker.clone()), ("old", old.clone())] {
            if name == "old" && !no_new_privileges {
                // Loaded before the runtime has said that it is ready, it keeps it from saying so.
                continue;
            }
            let (bundle, log) = confined(no_new_privileges);
            let bundle = bundle.set("linux.seccomp", profile).hook("startContainer", logging(&log));
            bundle.run(probe!(print "it ran")).ok();
            assert_eq!(logged(&log)["status"]["Seccomp"], "2", "{name} {no_new_privileges}");
        }
    }
    // One that must be killed is.
    let (bundle, _) = confined(true);
    let slow = json!({ "path": "/probe", "args": ["probe", "sleep", "60"], "timeout": 1 });
    let output = bundle.set("linux.seccomp", old).hook("startContainer", slow).run(probe!(print "it ran"));
    assert!(output.status != 0 && output.stdout.is_empty(), "{output:?}");
    if runtime::kind() == "ocirt" {
        output.fails("hooks.startContainer[0]: hook /probe: timed out after 1 s");
    }
    // And where they kill instead: what runc does without to run a hook.
    let names = ["clone3", "vfork", "close_range", "sendmsg", "ftruncate", "lseek", "dup2"];
    let deadly = rules(json!([{ "names": names, "action": "SCMP_ACT_KILL_PROCESS" }]));
    let bundle = Bundle::new().set("process.noNewPrivileges", json!(true)).set("linux.seccomp", deadly);
    let before = json!({ "path": host::probe(), "args": ["probe", "print", "x"] });
    let bundle = bundle.hook("createContainer", before).hook("startContainer", nothing());
    assert_eq!(bundle.run(probe!(print "it ran")).ok().answer(), "it ran");
    host::assert_nothing_left();
}

/// The names of all calls that the compiler knows, as its table has them.
fn all_calls() -> Vec<&'static str> {
    let table = include_str!("../../../src/container/seccomp/table.rs").lines();
    let names = table.filter_map(|line| line.trim().strip_prefix("(\"")?.split_once("\",").map(|(name, _)| name));
    names.collect()
}

/// The default profiles of engines; see the unit tests of the compiler.
fn defaults() -> Vec<(String, Value)> {
    let fixtures: Value = serde_json::from_str(include_str!("../../../tests/fixtures/seccomp.json")).expect("JSON");
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let expand = |(name, fixture): (&String, &Value)| {
        let rules = list(&fixture["rules"]);
        let named: Vec<_> =
            rules.iter().flat_map(|rule| list(&rule["names"])).chain(list(&fixture["denied"])).collect();
        let allowed: Vec<_> = all_calls().into_iter().filter(|name| !named.iter().any(|other| other == name)).collect();
        let mut syscalls = vec![json!({ "names": allowed, "action": "SCMP_ACT_ALLOW" })];
        syscalls.extend(rules);
        let errno = &fixture["defaultErrnoRet"];
        let value = json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": errno, "syscalls": syscalls,
                            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"] });
        (name.clone(), value)
    };
    fixtures.as_object().expect("an object").iter().map(expand).collect()
}

/// The calls that the table of the fixtures allows: name, and whether one that is refused is none the worse.
fn calls_under_a_filter() -> Vec<(&'static str, bool)> {
    let lines = include_str!("../../../tests/fixtures/calls-under-a-filter.txt").lines();
    let lines = lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.split(' ').next());
    lines.map(|name| (name.trim_matches(['(', ')']), name.starts_with('('))).collect()
}

/// The calls of a process between the load of its filter and its execve, by the file that strace wrote of it; with what was
/// answered. A child of such a process is under the filter from its birth.
fn under_the_filter(trace: &str, is_child: bool) -> Vec<(String, String)> {
    let behind = match trace.split_once("seccomp(SECCOMP_SET_MODE_FILTER") {
        Some((_, behind)) => behind.split_once('\n').map_or("", |(_, behind)| behind),
        None if is_child => trace,
        None => return Vec::new(),
    };
    let calls = behind.lines().filter_map(|line| {
        let (name, rest) = line.split_once('(')?;
        let answer = rest.rsplit_once(" = ").map_or("", |(_, answer)| answer);
        Some((name.to_owned(), answer.to_owned()))
    });
    let mut calls: Vec<_> = calls.filter(|(name, _)| !name.starts_with(['-', '+', ' '])).collect();
    let end = calls.iter().position(|(name, answer)| name == "execve" && answer == "0").unwrap_or(calls.len());
    calls.truncate(end);
    calls
}

/// What `no_profile_of_an_engine_refuses_what_init_calls_under_it` says of its table, of what is really called: nothing is
/// missing there, and no profile is in the way of a container with hooks, of `start`, or of `exec`.
fn engines_profiles_let_through_all_that_init_calls_under_them() {
    need(Need::Strace, std::process::Command::new("strace").arg("-V").output().is_ok());
    need_root();
    need_ocirt();
    let table = calls_under_a_filter();
    for (engine, profile) in defaults() {
        for no_new_privileges in [true, false] {
            let directory = host::place().join(format!("{engine}-{no_new_privileges}"));
            std::fs::create_dir_all(&directory).expect("directory");
            let script = directory.join("traced");
            let runtime = runtime::path();
            let text =
                format!("#!/bin/sh\nexec strace -ff -qq -o {}/t {} \"$@\"\n", directory.display(), runtime.display());
            std::fs::write(&script, text).expect("script");
            std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
            let (bundle, _) = confined(no_new_privileges);
            let bundle = bundle
                .file("etc/passwd", "u:x:1000:1000::/data:/x\n")
                .set("linux.seccomp", profile.clone())
                .hook("startContainer", nothing())
                .hook("startContainer", nothing())
                .write(probe!(env));
            let output = bundle.call("run").traced(&script).run().ok();
            assert_eq!(output.answer()["HOME"], "/data", "{engine} {no_new_privileges}");
            let (mut seen, mut loads) = (0, 0);
            for entry in std::fs::read_dir(&directory).expect("traces").map(|entry| entry.expect("entry").path()) {
                let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let trace = String::from_utf8_lossy(&std::fs::read(&entry).expect("trace")).into_owned();
                // The children of init that become hooks begin with what prepares that.
                let is_child = name.starts_with("t.") && trace.starts_with("dup3(");
                loads += usize::from(trace.contains("seccomp(SECCOMP_SET_MODE_FILTER"));
                for (call, answer) in under_the_filter(&trace, is_child) {
                    let row = table.iter().find(|(name, _)| *name == call);
                    let row = row.unwrap_or_else(|| panic!("{engine} {no_new_privileges}: {call} is not in the table"));
                    let is_refused = ["EPERM", "ENOSYS"].iter().any(|errno| answer.contains(errno));
                    assert!(!is_refused || row.1, "{engine} {no_new_privileges}: {call} = {answer}");
                    seen += 1;
                }
            }
            assert!(loads == 1 && seen > 200, "{engine}: {loads} filters, {seen} calls");
        }
    }
}

/// `names` with `action`, for a container with two startContainer hooks, of which the second is the one that counts.
fn with_hook(names: &[&str], action: &str, second: Value) -> Bundle {
    let profile = rules(json!([{ "names": names, "action": action }]));
    let first = json!({ "path": "/probe", "args": ["probe", "print", "x"] });
    Bundle::new()
        .set("process.noNewPrivileges", json!(true))
        .set("linux.seccomp", profile)
        .hook("startContainer", first)
        .hook("startContainer", second)
}

/// That neither `run` nor `start` goes on, and that the words are in the error of both.
#[track_caller]
fn refused(names: &[&str], action: &str, hook: Value, words: &str) {
    // runc needs no lseek and no ftruncate to run a second hook.
    let is_ours = runtime::kind() == "ocirt";
    if !is_ours && (names.contains(&"lseek") || names.contains(&"ftruncate")) {
        return;
    }
    let output = with_hook(names, action, hook.clone()).run(probe!(print "it ran"));
    assert!(output.status != 0 && !output.stdout.contains("it ran"), "{names:?}: {output:?}");
    if !is_ours {
        return;
    }
    output.fails(words);
    let container = with_hook(names, action, hook).create(probe!(print "it ran"));
    container.start().fails(words);
    call(["state", container.id()]).fails("does not exist");
    assert_eq!(container.stdout(), "");
    host::assert_nothing_left();
}

/// A hook that does no more than end well.
fn nothing() -> Value {
    json!({ "path": "/probe", "args": ["probe", "print", "y"] })
}

fn a_profile_that_lets_no_hook_run_is_named() {
    for (call, why) in [
        ("clone", "clone: operation not permitted (does linux.seccomp allow it to run hooks?)"),
        ("lseek", "lseek: operation not permitted (does linux.seccomp allow it to run hooks?)"),
        ("execve", "execve: operation not permitted (does linux.seccomp allow it to run hooks?)"),
        ("rt_sigaction", "rt_sigaction: operation not permitted (does linux.seccomp allow it to run hooks?)"),
    ] {
        let index = usize::from(call == "lseek");
        let words = format!("hooks.startContainer[{index}]: hook /probe: {why}");
        refused(&[call], "SCMP_ACT_ERRNO", nothing(), &words);
    }
}

/// Init can say nothing then.
fn a_profile_that_kills_for_hooks_is_named() {
    const WHY: &str = "init ended before the hook did (was it killed, or does linux.seccomp forbid what it takes to run \
                       hooks?)";
    for (call, index) in [("clone", 0), ("waitid", 0), ("ftruncate", 1)] {
        let words = format!("hooks.startContainer[{index}]: hook /probe: {WHY}");
        refused(&[call], "SCMP_ACT_KILL_PROCESS", nothing(), &words);
    }
    // It cannot tell that the second one failed.
    let fails = json!({ "path": "/probe", "args": ["probe", "exit", "3"] });
    refused(&["sendmsg"], "SCMP_ACT_KILL_PROCESS", fails, &format!("hooks.startContainer[1]: hook /probe: {WHY}"));
}

fn a_hook_that_its_profile_kills_is_named() {
    let calls = json!({ "path": "/probe", "args": ["probe", "call", libc::SYS_acct.to_string(), "0"] });
    let words = "hooks.startContainer[1]: hook /probe: killed by signal 31, linux.seccomp forbids what it did";
    refused(&["acct"], "SCMP_ACT_KILL_PROCESS", calls, words);
}

/// CVE-2026-97029 of Flatpak: kill(0, …) reaches every process of the caller's group, and a group may reach over pid namespaces.
fn cve_2026_97029_a_kill_of_the_own_group_reaches_nobody_outside() {
    let group = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
        let fields: Vec<_> = stat.rsplit_once(')').expect("comm").1.split_whitespace().map(str::to_owned).collect();
        (fields[2].clone(), fields[3].clone())
    };
    let container = running(Bundle::new());
    let pid = container.pid().to_string();
    assert_eq!(group(container.pid()), (pid.clone(), pid), "a group and a session of its own");
    // The runtime, its caller and the container's first process are still there afterwards.
    let (term, nr) = (libc::SIGTERM, libc::SYS_kill);
    let killed = exec(&container, &[], probe!(call nr, 0, term; sleep 60)).run();
    assert_eq!(killed.status, 128 + term, "{killed:?}");
    assert_eq!(container.status(), "running");
    let killed = Bundle::new().run(probe!(call nr, 0, libc::SIGKILL; print "alive"));
    // To pid 1 of a pid namespace the kernel sends none of its own.
    assert_eq!((killed.status, killed.stdout.contains("alive")), (0, true), "{killed:?}");
    container.kill("KILL").ok();
    container.wait_for("stopped");
    container.delete().ok();
    host::assert_nothing_left();
}
