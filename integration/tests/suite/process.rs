//! `process`: what the container's first process is, owns and may do (config.md, "Process").

use ocirt_integration::bundle::Bundle;
use ocirt_integration::host;
use ocirt_integration::needs::{Need, need, need_root};
use ocirt_integration::runtime::{self, Output};
use ocirt_integration::{probe, tests, user};
use serde_json::{Value, json};

tests![
    args_and_environment_arrive_as_they_are,
    home_comes_from_the_containers_passwd,
    a_program_is_found_in_the_containers_path,
    a_missing_program_is_an_error_of_create,
    cwd_is_created_when_missing,
    cwd_may_be_a_directory_only_the_user_can_enter,
    user_groups_and_umask_are_set,
    rlimits_are_set,
    no_new_privileges_is_set_and_unset,
    oom_score_adj_is_set,
    oom_score_adj_zero_is_a_value,
    the_scheduler_is_set,
    the_io_priority_is_set,
    the_personality_is_set,
    the_memory_policy_is_set,
    only_stdio_is_open,
    a_closed_standard_stream_is_dev_null,
    preserved_descriptors_arrive,
    preserved_descriptors_must_exist,
    signals_are_as_in_a_fresh_process,
    the_process_leads_a_session,
    the_session_keyring_is_new_and_named,
    the_session_keyring_can_be_kept,
    environment_of_the_runtime_stays_outside,
    a_script_runs_by_its_interpreter,
];

fn args_and_environment_arrive_as_they_are() {
    let environment = json!(["PATH=/", "EMPTY=", "TWO=a=b", "SPACE= x ", "DOUBLE=1", "DOUBLE=2", "HOME=/data"]);
    let output = Bundle::new().set("process.env", environment).run(probe!(args; env; print "ä $HOME \" '"));
    let answers = output.ok().answers();
    assert_eq!(answers[0][0], "/probe");
    assert_eq!(answers[1]["EMPTY"], "");
    assert_eq!(answers[1]["TWO"], "a=b");
    assert_eq!(answers[1]["SPACE"], " x ");
    assert_eq!(answers[1]["HOME"], "/data");
    assert_eq!(answers[1].as_object().map(|all| all.len()), Some(6), "{}", answers[1]);
    assert_eq!(answers[2], "ä $HOME \" '");
}

fn home_comes_from_the_containers_passwd() {
    let passwd = "root:x:0:0:root:/root:/bin/sh\nother:x:1000:1000::/home/other:/bin/sh\n";
    let rows = [
        (0, json!([]), "/root"),
        (1000, json!([]), "/home/other"),
        (77, json!([]), "/"),
        (1000, json!(["HOME="]), "/home/other"),
    ];
    for (uid, environment, home) in rows {
        let bundle = Bundle::new().file("etc/passwd", passwd).set("process.user.uid", json!(uid));
        let output = bundle.set("process.env", environment).run(probe!(env)).ok();
        assert_eq!(output.answer()["HOME"], home, "uid {uid}");
    }
}

fn a_program_is_found_in_the_containers_path() {
    let bundle = Bundle::new().set("process.env", json!(["PATH=/nowhere:/"]));
    assert_eq!(bundle.run(vec!["probe".into(), "print".into(), "found".into()]).ok().answer(), "found");
    let bundle = Bundle::new().set("process.cwd", json!("/data"));
    assert_eq!(bundle.run(vec!["../probe".into(), "cwd".into()]).ok().answer(), "/data");
}

/// The words that Docker maps to exit status 126 and 127.
fn a_missing_program_is_an_error_of_create() {
    let rows = [
        ("nope", "executable file not found"),
        ("/nope", "no such file or directory"),
        ("/etc/plain", "permission denied"),
        ("/data", "permission denied (is a directory)"),
    ];
    for (program, words) in rows {
        let bundle = Bundle::new().file("etc/plain", "text").write(vec![program.into()]);
        let output = bundle.call("create").run();
        let output = if program == "/data" { output.fails_as_ocirt(words) } else { output.fails(words) };
        assert!(output.stderr.contains(program), "{program} is not named in {}", output.stderr);
        host::assert_nothing_left();
    }
}

fn cwd_is_created_when_missing() {
    let bundle = Bundle::new().set("process.cwd", json!("/new/deep"));
    assert_eq!(bundle.run(probe!(cwd; stat "/new/deep")).ok().answers()[0], "/new/deep");
}

fn cwd_may_be_a_directory_only_the_user_can_enter() {
    let bundle = Bundle::new().directory("home").set("process.cwd", json!("/home"));
    let home = bundle.inside("home");
    std::os::unix::fs::chown(&home, Some(user::host_id(1000)), Some(user::host_id(1000))).expect("chown");
    std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("chmod");
    let none = json!({ "bounding": [], "effective": [], "permitted": [] });
    let bundle = bundle.set("process.user", json!({ "uid": 1000, "gid": 1000 })).set("process.capabilities", none);
    assert_eq!(bundle.run(probe!(cwd)).ok().answer(), "/home");
}

fn user_groups_and_umask_are_set() {
    let user = json!({ "uid": 1000, "gid": 2000, "additionalGids": [5, 6], "umask": 0o027 });
    let answer = Bundle::new().set("process.user", user).run(probe!(id)).ok().answer();
    assert_eq!(answer["uid"], json!([1000, 1000, 1000]));
    assert_eq!(answer["gid"], json!([2000, 2000, 2000]));
    assert_eq!(answer["umask"], "0027");
    // runc keeps the primary group in the list or not; both are within the specification.
    let groups: Vec<_> =
        answer["groups"].as_array().expect("groups").iter().filter(|gid| **gid != 2000).cloned().collect();
    assert_eq!(groups, [5, 6]);
    let answer = Bundle::new().run(probe!(id)).ok().answer();
    assert_eq!(answer["umask"], "0022", "the default");
}

fn rlimits_are_set() {
    let rows = [
        ("RLIMIT_NOFILE", 100, 200),
        ("RLIMIT_CORE", 0, 0),
        ("RLIMIT_FSIZE", 1 << 30, 1 << 31),
        ("RLIMIT_CPU", 50, 60),
        ("RLIMIT_STACK", 4 << 20, 8 << 20),
        ("RLIMIT_NPROC", 1000, 2000),
        ("RLIMIT_AS", 8u64 << 30, 8u64 << 30),
        ("RLIMIT_DATA", 4 << 30, 4 << 30),
        ("RLIMIT_LOCKS", 10, 20),
        ("RLIMIT_MEMLOCK", 4096, 8192),
        ("RLIMIT_SIGPENDING", 10, 20),
        ("RLIMIT_MSGQUEUE", 1000, 2000),
        ("RLIMIT_NICE", 0, 0),
        ("RLIMIT_RTPRIO", 0, 0),
        ("RLIMIT_RSS", 1 << 30, 1 << 31),
        ("RLIMIT_RTTIME", 1 << 20, 1 << 21),
    ];
    let list: Vec<_> =
        rows.iter().map(|(kind, soft, hard)| json!({ "type": kind, "soft": soft, "hard": hard })).collect();
    let answer = Bundle::new().set("process.rlimits", json!(list)).run(probe!(rlimits)).ok().answer();
    for (kind, soft, hard) in rows {
        assert_eq!(answer[kind], json!([soft, hard]), "{kind}");
    }
}

fn no_new_privileges_is_set_and_unset() {
    for (value, expected) in [(json!(true), "1"), (json!(false), "0"), (Value::Null, "0")] {
        let bundle = Bundle::new().set("process.noNewPrivileges", value);
        assert_eq!(bundle.run(probe!(status "NoNewPrivs")).ok().answer(), expected);
    }
}

fn oom_score_adj_is_set() {
    let bundle = Bundle::new().set("process.oomScoreAdj", json!(500));
    assert_eq!(bundle.run(probe!(read "/proc/self/oom_score_adj")).ok().answer(), "500\n");
}

/// Zero set differs from not set: the caller's own value is inherited only in the latter case.
fn oom_score_adj_zero_is_a_value() {
    let lower = std::fs::write("/proc/self/oom_score_adj", "100").and_then(|()| {
        std::fs::write("/proc/self/oom_score_adj", "0").and_then(|()| std::fs::write("/proc/self/oom_score_adj", "100"))
    });
    need(Need::CapSysResource, lower.is_ok());
    // Nobody else may go below the caller's own.
    need_root();
    for (value, expected) in [(json!(0), "0\n"), (Value::Null, "100\n")] {
        let bundle = Bundle::new().set("process.oomScoreAdj", value);
        assert_eq!(bundle.run(probe!(read "/proc/self/oom_score_adj")).ok().answer(), expected);
    }
}

fn the_scheduler_is_set() {
    let rows = [
        (json!({ "policy": "SCHED_BATCH", "nice": 5 }), json!([3, 5, 0])),
        (json!({ "policy": "SCHED_IDLE" }), json!([5, 0, 0])),
        (json!({ "policy": "SCHED_OTHER", "nice": 7 }), json!([0, 7, 0])),
        (json!({ "policy": "SCHED_FIFO", "priority": 3 }), json!([1, 0, 3])),
        (json!({ "policy": "SCHED_RR", "priority": 4, "flags": ["SCHED_FLAG_RESET_ON_FORK"] }), json!([2, 0, 4])),
    ];
    for (scheduler, expected) in rows {
        let mut bundle = Bundle::new();
        // With CONFIG_RT_GROUP_SCHED a cgroup v1 without a budget refuses the real-time policies.
        let real_time = expected[0] == 1 || expected[0] == 2;
        if real_time && user::has_suite() {
            bundle.set("process.scheduler", scheduler.clone()).refused("process.scheduler");
            continue;
        }
        if real_time && std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
            let budget = json!({ "realtimeRuntime": 1000, "realtimePeriod": 1_000_000 });
            bundle = bundle.set("linux.resources.cpu", budget);
        }
        let answer = bundle.set("process.scheduler", scheduler.clone()).run(probe!(scheduler)).ok().answer();
        assert_eq!(json!([answer["policy"], answer["nice"], answer["priority"]]), expected, "{scheduler}");
    }
}

fn the_io_priority_is_set() {
    for (class, level, expected) in
        [("IOPRIO_CLASS_BE", 6, [2, 6]), ("IOPRIO_CLASS_RT", 1, [1, 1]), ("IOPRIO_CLASS_IDLE", 0, [3, 0])]
    {
        let bundle = Bundle::new().set("process.ioPriority", json!({ "class": class, "priority": level }));
        if class == "IOPRIO_CLASS_RT" && user::has_suite() {
            bundle.refused("process.ioPriority");
            continue;
        }
        assert_eq!(bundle.run(probe!(ioprio)).ok().answer(), json!(expected), "{class}");
    }
}

fn the_personality_is_set() {
    for (domain, number) in [("LINUX32", 8), ("LINUX", 0)] {
        let bundle = Bundle::new().set("linux.personality", json!({ "domain": domain }));
        assert_eq!(bundle.run(probe!(personality)).ok().answer(), number, "{domain}");
    }
}

fn the_memory_policy_is_set() {
    need(Need::NumaMaps, std::path::Path::new("/proc/self/numa_maps").exists());
    // MPOL_BIND is 2, MPOL_INTERLEAVE 3, MPOL_LOCAL 4, MPOL_F_STATIC_NODES 1 << 15 (set_mempolicy(2)).
    let rows = [
        (json!({ "mode": "MPOL_BIND", "nodes": "0" }), json!([2, 1])),
        (json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] }), json!([3 | 1 << 15, 1])),
        (json!({ "mode": "MPOL_LOCAL", "nodes": "" }), json!([4, 0])),
        (json!({ "mode": "MPOL_DEFAULT", "nodes": "" }), json!([0, 0])),
    ];
    for (policy, expected) in rows {
        let bundle = Bundle::new().set("linux.memoryPolicy", policy.clone());
        assert_eq!(bundle.run(probe!(mempolicy)).ok().answer(), expected, "{policy}");
    }
}

fn open(output: &Output) -> Vec<String> {
    let answer = output.answer();
    let mut numbers: Vec<_> = answer.as_object().expect("descriptors").keys().cloned().collect();
    numbers.sort();
    numbers
}

fn null() -> std::os::fd::OwnedFd {
    std::fs::File::open("/dev/null").expect("/dev/null").into()
}

/// CVE-2024-21626: a descriptor of the host's must not pass, not even one the caller left open.
fn only_stdio_is_open() {
    let bundle = Bundle::new().write(probe!(fds));
    let host: std::os::fd::OwnedFd = std::fs::File::open("/").expect("/").into();
    let output = bundle.call("run").descriptors(vec![null(), host, null()]).run().ok();
    assert_eq!(open(&output), ["0", "1", "2"]);
}

/// Else the runtime's next file would be taken for the container's standard input.
fn a_closed_standard_stream_is_dev_null() {
    let bundle = Bundle::new().write(probe!(fds));
    let program = bundle.dir.join("closed");
    let text = format!("#!/bin/sh\nexec '{}' \"$@\" <&- 2>&-\n", runtime::path().display());
    std::fs::write(&program, text).expect("script");
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("script");
    let output = bundle.call("run").program(&program).run().ok();
    let answer = output.answer();
    assert_eq!(open(&output), ["0", "1", "2"]);
    assert_eq!((&answer["0"], &answer["2"]), (&json!("/dev/null"), &json!("/dev/null")));
}

fn preserved_descriptors_arrive() {
    let bundle = Bundle::new().flags(&["--preserve-fds", "2"]).write(probe!(fds; read "/proc/self/fd/3"));
    let file = bundle.dir.join("passed");
    std::fs::write(&file, "passed on").expect("file");
    let file: std::os::fd::OwnedFd = std::fs::File::open(file).expect("file").into();
    let output = bundle.call("run").descriptors(vec![file, null(), null(), null()]).run().ok();
    let mut names: Vec<_> = output.answers()[0].as_object().expect("descriptors").keys().cloned().collect();
    names.sort();
    assert_eq!(names, ["0", "1", "2", "3", "4"], "{}", output.answers()[0]);
}

/// Else the runtime's own descriptors, which have those numbers by then, would reach the container.
fn preserved_descriptors_must_exist() {
    let bundle = Bundle::new().flags(&["--preserve-fds", "9"]).write(probe!(fds));
    let output = bundle.call("run").descriptors(vec![null()]).run();
    assert!(output.status == 1 && output.stdout.is_empty(), "leaked: {}", output.stdout);
    assert!(output.stderr.contains("preserve"), "{}", output.stderr);
    host::assert_nothing_left();
}

fn signals_are_as_in_a_fresh_process() {
    let text = std::fs::read_to_string("/proc/self/status").expect("status");
    let own = text.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).expect("SigIgn");
    let own = u64::from_str_radix(own, 16).expect("a mask");
    let answers = Bundle::new().run(probe!(status "SigBlk"; status "SigIgn")).ok().answers();
    assert_eq!(answers[0], "0000000000000000");
    // None but ours, which runc passes on, and SIGPIPE, which a Rust program ignores by itself; those above 31 belong to
    // the C library.
    let inside = u64::from_str_radix(answers[1].as_str().expect("a mask"), 16).expect("a mask");
    assert_eq!(inside & 0x7fff_ffff & !(own | 1 << 12), 0);
}

fn the_process_leads_a_session() {
    let answer = Bundle::new().run(probe!(session)).ok().answer();
    assert_eq!(answer, json!({ "pid": 1, "parent": 0, "session": 1, "group": 1 }));
}

fn the_session_keyring_is_new_and_named() {
    let bundle = Bundle::new();
    let id = bundle.id.clone();
    let answer = bundle.run(probe!(keyring)).ok().answer();
    need(Need::Keys, answer["error"] != "ENOSYS");
    assert!(answer.as_str().is_some_and(|text| text.contains(&format!("_ses.{id}"))), "{answer}");
}

fn the_session_keyring_can_be_kept() {
    let bundle = Bundle::new().flags(&["--no-new-keyring"]);
    let id = bundle.id.clone();
    let answer = bundle.run(probe!(keyring)).ok().answer();
    assert!(!answer.to_string().contains(&id), "{answer}");
}

fn environment_of_the_runtime_stays_outside() {
    let bundle = Bundle::new().write(probe!(env));
    let output = bundle.call("run").env("LEAKED", "1").env("NOTIFY_SOCKET", "").run().ok();
    let names: Vec<_> = output.answer().as_object().expect("environment").keys().cloned().collect();
    let is_the_containers = names.iter().all(|name| name == "PATH" || name == "HOME");
    assert!(is_the_containers && names.iter().any(|name| name == "PATH"), "{names:?}");
}

fn a_script_runs_by_its_interpreter() {
    let bundle = Bundle::new().file("script", "#!/probe args\n");
    std::fs::set_permissions(bundle.inside("script"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("chmod");
    assert_eq!(bundle.run(vec!["/script".into()]).ok().answer()[2], "/script");
}
