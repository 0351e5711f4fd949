//! `exec`: which process it makes in a container, from flags, from a process.json, and from what `create` has saved.

use ocirt_bundle::CAPABILITIES;
use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::runtime::{Call, Output, kind};
use ocirt_integration::{fixtures, has, probe, tests, user};
use serde_json::{Value, json};

tests![
    the_process_is_as_config_json_says,
    the_umask_is_set,
    a_flag_has_two_forms,
    flags_change_the_process,
    env_adds_and_replaces,
    home_is_that_of_the_user,
    what_follows_the_container_is_the_command,
    a_user_is_a_number_or_two,
    an_added_capability_is_not_inheritable,
    a_process_without_privileges_gains_none,
    a_process_json_is_the_whole_process,
    a_process_json_can_come_from_standard_input,
    what_a_process_json_leaves_out_is_the_containers,
    a_bad_process_json_is_refused,
    process_jsons_of_engines_run,
    only_stdio_and_what_is_preserved_is_open,
    config_edits_after_create_have_no_effect,
    a_missing_program_is_named,
];

/// A running container.
pub fn running(bundle: Bundle) -> Container {
    let container = bundle.create(probe!(print "up"; sleep 60));
    container.start().ok();
    container.answers(1);
    container
}

/// `exec FLAGS ID ARGS`.
pub fn exec(container: &Container, flags: &[&str], args: Vec<String>) -> Call {
    let words = ["exec"].iter().chain(flags).copied().map(str::to_owned);
    Call::new(words.chain([container.id().to_owned()]).chain(args)).as_user(user::has_suite())
}

/// Refused with the exit status that tells it from the process's own, and one line.
#[track_caller]
pub fn refused(output: Output, words: &str) {
    // crun's own failures are 1, its process's are not told from the program's.
    let is_failure = output.status == 255 || kind() == "crun" && output.status == 1;
    assert!(is_failure, "{}: {:?} {:?}", output.call, output.stdout, output.stderr);
    assert!(
        output.stderr.to_lowercase().contains(&words.to_lowercase()),
        "{}: no {words:?} in {:?}",
        output.call,
        output.stderr
    );
    assert!(!output.stdout.contains("it ran"), "{}", output.call);
    if kind() == "ocirt" {
        assert_eq!(output.stderr.lines().count(), 1, "{:?}", output.stderr);
    }
}

/// Runs `exec --process` of a file with this process.
pub fn exec_json(container: &Container, process: &Value) -> Output {
    let file = container.bundle.dir.join("process.json");
    std::fs::write(&file, process.to_string()).expect("process.json");
    exec(container, &["--process", file.to_str().expect("UTF-8")], vec![]).run()
}

pub fn minimal(args: Vec<String>) -> Value {
    json!({ "cwd": "/", "args": args, "user": { "uid": 0, "gid": 0 }, "env": ["PATH=/"] })
}

fn the_process_is_as_config_json_says() {
    let user = json!({ "uid": 7, "gid": 8, "additionalGids": [9] });
    let bundle = Bundle::new()
        .set("process.user", user)
        .set("process.cwd", json!("/data"))
        .set("process.oomScoreAdj", json!(777))
        .set("process.rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 99, "hard": 100 }]))
        .push("process.env", json!("FROM=config"));
    let container = running(bundle);
    let args = probe!(id; cwd; env; rlimits; read "/proc/self/oom_score_adj"; status "NoNewPrivs"; caps; session);
    let answers = exec(&container, &[], args).run().ok().answers();
    assert_eq!(
        (&answers[0]["uid"], &answers[0]["gid"], &answers[0]["groups"]),
        (&json!([7, 7, 7]), &json!([8, 8, 8]), &json!([9]))
    );
    assert_eq!(answers[1], "/data");
    assert_eq!((&answers[2]["FROM"], &answers[3]["RLIMIT_NOFILE"]), (&json!("config"), &json!([99, 100])));
    assert_eq!(answers[4].as_str().map(str::trim), Some("777"));
    assert_eq!(answers[5].to_string().replace('"', ""), "1");
    assert_eq!(answers[6]["effective"], json!([]));
    assert!(CAPABILITIES.iter().all(|name| has(&answers[6]["bounding"], name)));
    assert_eq!(answers[7]["session"], answers[7]["pid"]);
}

fn the_umask_is_set() {
    let container = running(Bundle::new().set("process.user.umask", json!(0o27)));
    assert_eq!(exec(&container, &[], probe!(id)).run().ok().answer()["umask"], "0027");
    let mut process = minimal(probe!(id));
    process["user"]["umask"] = json!(0o77);
    assert_eq!(exec_json(&container, &process).ok().answer()["umask"], "0077");
}

/// Each in its other form.
fn a_flag_has_two_forms() {
    let container = running(Bundle::new());
    let flags = ["--env", "A=1", "--user", "5:6", "--additional-gids", "7", "--cap=CAP_SYS_PTRACE", "-cwd", "/data"];
    let answers = exec(&container, &flags, probe!(env; id; caps; cwd)).run().ok().answers();
    assert_eq!((&answers[0]["A"], &answers[1]["groups"], &answers[3]), (&json!("1"), &json!([7]), &json!("/data")));
    assert!(has(&answers[2]["bounding"], "CAP_SYS_PTRACE"));
    let answer = exec(&container, &["-c", "CAP_SYS_PTRACE"], probe!(caps)).run().ok().answer();
    assert!(has(&answer["effective"], "CAP_SYS_PTRACE"));
    let file = container.bundle.dir.join("process.json");
    std::fs::write(&file, minimal(probe!(print "x")).to_string()).expect("process.json");
    let file = file.to_str().expect("UTF-8");
    for flags in [&["-p", file][..], &["-process", file], &[&format!("--process={file}")]] {
        assert_eq!(exec(&container, flags, vec![]).run().ok().answer(), "x");
    }
}

fn flags_change_the_process() {
    let container = running(Bundle::new().set("process.noNewPrivileges", json!(false)));
    let flags = ["--cwd", "/data", "-e", "A=1", "-e", "B=2=3", "-u", "5:6", "-g", "7", "-g", "8", "--no-new-privs"];
    let answers = exec(&container, &flags, probe!(cwd; env; id; status "NoNewPrivs")).run().ok().answers();
    assert_eq!((&answers[0], &answers[1]["A"], &answers[1]["B"]), (&json!("/data"), &json!("1"), &json!("2=3")));
    assert_eq!(
        (&answers[2]["uid"], &answers[2]["gid"], &answers[2]["groups"]),
        (&json!([5, 5, 5]), &json!([6, 6, 6]), &json!([7, 8]))
    );
    assert_eq!(answers[3].to_string().replace('"', ""), "1");
    refused(exec(&container, &["--cwd", "data"], probe!(print "it ran")).run(), "absolute path");
    refused(exec(&container, &["--cwd", "/nope"], probe!(print "it ran")).run(), "no such file or directory");
    refused(exec(&container, &["-e", "A"], probe!(print "it ran")).run(), "A");
}

fn env_adds_and_replaces() {
    let container = running(Bundle::new().push("process.env", json!("KEEP=1")).push("process.env", json!("CHANGE=1")));
    let answer = exec(&container, &["-e", "CHANGE=2", "-e", "EMPTY="], probe!(env)).run().ok().answer();
    assert_eq!((&answer["KEEP"], &answer["CHANGE"], &answer["EMPTY"]), (&json!("1"), &json!("2"), &json!("")));
}

fn home_is_that_of_the_user() {
    let passwd = "root:x:0:0:root:/root:/bin/sh\nother:x:1000:1000::/home/other:/bin/sh\n";
    let container = running(Bundle::new().file("/etc/passwd", passwd));
    for (user, home) in [("0", "/root"), ("1000", "/home/other"), ("77", "/")] {
        assert_eq!(exec(&container, &["--user", user], probe!(env)).run().ok().answer()["HOME"], home);
    }
}

fn what_follows_the_container_is_the_command() {
    let container = running(Bundle::new());
    let args = probe!(args).into_iter().chain(["-t", "--cwd", "/nope", "--detach", "--"].map(str::to_owned)).collect();
    let answer = exec(&container, &[], args).run().ok().answer();
    assert_eq!(answer, json!(["/probe", "args", "-t", "--cwd", "/nope", "--detach", "--"]));
}

/// CVE-2026-30892: crun took some of these for uid 0.
fn a_user_is_a_number_or_two() {
    let container = running(Bundle::new());
    let most = if user::has_suite() { "65535" } else { "2147483647" };
    for user in ["1", "1:2", "0:5", most] {
        let answer = exec(&container, &["-u", user], probe!(id)).run().ok().answer();
        let (uid, gid) = user.split_once(':').unwrap_or((user, "0"));
        assert_eq!((answer["uid"][0].to_string(), answer["gid"][0].to_string()), (uid.to_owned(), gid.to_owned()));
    }
    for user in [
        "",
        ":",
        ":5",
        "5:",
        "-1",
        "1:-1",
        "4294967295",
        "4294967296",
        "1:4294967296",
        "root",
        "1:2:3",
        " 1",
        "0x1",
        "18446744073709551616",
    ] {
        let flag = format!("--user={user}");
        refused(exec(&container, &[&flag], probe!(print "it ran")).run(), "");
    }
}

/// CVE-2022-29162.
fn an_added_capability_is_not_inheritable() {
    let container = running(Bundle::new());
    let before = exec(&container, &[], probe!(caps)).run().ok().answer();
    let after =
        exec(&container, &["--cap", "CAP_SYS_PTRACE", "--cap", "CAP_NET_ADMIN"], probe!(caps)).run().ok().answer();
    for name in ["CAP_SYS_PTRACE", "CAP_NET_ADMIN"] {
        for set in ["bounding", "effective", "permitted"] {
            assert!(!has(&before[set], name) && has(&after[set], name), "{set}: {after}");
        }
        for set in ["inheritable", "ambient"] {
            assert!(!has(&after[set], name), "{set}: {after}");
        }
    }
}

fn a_process_without_privileges_gains_none() {
    let container = running(Bundle::new().set("process.capabilities", Value::Null));
    let answer = exec(&container, &["-c", "CAP_KILL"], probe!(caps)).run().ok().answer();
    assert_eq!((&answer["bounding"], &answer["effective"]), (&json!(["CAP_KILL"]), &json!(["CAP_KILL"])));
    let answer = exec(&container, &[], probe!(caps)).run().ok().answer();
    assert_eq!(
        (&answer["bounding"], &answer["effective"], &answer["inheritable"]),
        (&json!([]), &json!([]), &json!([]))
    );
}

fn a_process_json_is_the_whole_process() {
    let container = running(Bundle::new().push("process.env", json!("FROM=config")).set("process.cwd", json!("/data")));
    let process = json!({
        "args": probe!(id; env; cwd; caps; rlimits; status "NoNewPrivs"; read "/proc/self/oom_score_adj"; scheduler; ioprio),
        "cwd": "/tmp",
        "env": ["PATH=/", "ONLY=this"],
        "user": { "uid": 3, "gid": 4, "additionalGids": [5] },
        "capabilities": { "bounding": ["CAP_KILL"] },
        "rlimits": [{ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }],
        "noNewPrivileges": false,
        "oomScoreAdj": 900,
        "scheduler": { "policy": "SCHED_BATCH", "nice": 5 },
        "ioPriority": { "class": "IOPRIO_CLASS_IDLE", "priority": 0 },
    });
    let answers = exec_json(&container, &process).ok().answers();
    assert_eq!((&answers[0]["uid"], &answers[0]["groups"]), (&json!([3, 3, 3]), &json!([5])));
    assert_eq!((&answers[1]["ONLY"], &answers[1]["FROM"], &answers[2]), (&json!("this"), &Value::Null, &json!("/tmp")));
    assert_eq!((&answers[3]["bounding"], &answers[4]["RLIMIT_CORE"]), (&json!(["CAP_KILL"]), &json!([0, 0])));
    assert_eq!(answers[5].to_string().replace('"', ""), "0");
    assert_eq!(answers[6].as_str().map(str::trim), Some("900"));
    assert_eq!((&answers[7]["policy"], &answers[7]["nice"], &answers[8][0]), (&json!(3), &json!(5), &json!(3)));
}

fn a_process_json_can_come_from_standard_input() {
    let container = running(Bundle::new());
    let file = container.bundle.dir.join("process.json");
    std::fs::write(&file, minimal(probe!(print "x")).to_string()).expect("process.json");
    let stdin = std::fs::File::open(file).expect("process.json");
    assert_eq!(exec(&container, &["--process", "-"], vec![]).stdin(stdin).run().ok().answer(), "x");
}

fn what_a_process_json_leaves_out_is_the_containers() {
    let limits = json!([{ "type": "RLIMIT_NOFILE", "soft": 99, "hard": 100 }]);
    let bundle = Bundle::new().set("process.rlimits", limits).set("process.oomScoreAdj", json!(777));
    let container = running(bundle);
    let answers =
        exec_json(&container, &minimal(probe!(caps; rlimits; read "/proc/self/oom_score_adj"; status "NoNewPrivs")))
            .ok()
            .answers();
    assert!(CAPABILITIES.iter().all(|name| has(&answers[0]["effective"], name)), "{}", answers[0]);
    assert_eq!((&answers[1]["RLIMIT_NOFILE"], answers[2].as_str().map(str::trim)), (&json!([99, 100]), Some("777")));
    assert_eq!(answers[3].to_string().replace('"', ""), "0", "no_new_privs is the process's own");
}

fn a_bad_process_json_is_refused() {
    let container = running(Bundle::new());
    let with = |field: &str, value: Value| {
        let mut process = minimal(probe!(print "it ran"));
        process[field] = value;
        process
    };
    for (process, words) in [
        (with("args", json!([])), "args"),
        (with("args", json!("x")), "args"),
        (with("cwd", json!("")), "cwd"),
        (with("cwd", json!("tmp")), "cwd"),
        (with("env", json!(["A"])), ""),
        (with("user", json!({ "uid": -1, "gid": 0 })), "uid"),
        (json!([]), ""),
    ] {
        refused(exec_json(&container, &process), words);
    }
    let file = container.bundle.dir.join("process.json");
    std::fs::write(&file, "{ \"cwd\": ").expect("process.json");
    refused(exec(&container, &["--process", file.to_str().expect("UTF-8")], vec![]).run(), "");
    refused(exec(&container, &["--process", "/nope"], vec![]).run(), "no such file or directory");
    refused(exec(&container, &[], vec![]).run(), "");
    assert_eq!(container.status(), "running");
}

/// What Docker and Podman write for `docker exec` and `podman exec`, around our probe.
fn process_jsons_of_engines_run() {
    let passwd = "root:x:0:0:root:/root:/bin/sh\n";
    let container = running(Bundle::new().file("/etc/passwd", passwd));
    for (name, mut process) in fixtures::processes() {
        super::engines::restrict_process(&mut process);
        process["args"] = json!(probe!(id; env));
        let answers = exec_json(&container, &process).ok().answers();
        assert_eq!(answers[0]["uid"][0], process["user"]["uid"], "{name}");
        let home =
            process["env"].as_array().into_iter().flatten().find_map(|entry| entry.as_str()?.strip_prefix("HOME="));
        assert_eq!(answers[1]["HOME"], home.unwrap_or("/root"), "{name}");
    }
}

fn only_stdio_and_what_is_preserved_is_open() {
    let container = running(Bundle::new());
    let file = || std::fs::File::open("/etc/passwd").expect("file").into();
    let open = |flags: &[&str]| {
        let answer = exec(&container, flags, probe!(fds)).descriptors(vec![file(), file()]).run().ok().answer();
        answer.as_object().expect("descriptors").keys().cloned().collect::<Vec<_>>().join(" ")
    };
    assert_eq!((open(&[]), open(&["--preserve-fds", "2"])), ("0 1 2".to_owned(), "0 1 2 3 4".to_owned()));
    refused(exec(&container, &["--preserve-fds", "3"], probe!(print "it ran")).run(), "");
}

fn config_edits_after_create_have_no_effect() {
    let container = running(Bundle::new().push("process.env", json!("FROM=create")));
    let config = container.bundle.dir.join("config.json");
    let text = std::fs::read_to_string(&config).expect("config.json");
    std::fs::write(&config, text.replace("FROM=create", "FROM=edit")).expect("config.json");
    assert_eq!(exec(&container, &[], probe!(env)).run().ok().answer()["FROM"], "create");
    std::fs::remove_file(&config).expect("config.json");
    assert_eq!(exec(&container, &[], probe!(env)).run().ok().answer()["FROM"], "create");
}

fn a_missing_program_is_named() {
    let container = running(Bundle::new());
    for (program, words) in [
        ("nope", "executable file not found in $PATH"),
        ("/nope", "no such file or directory"),
        ("/data", "permission denied"),
        ("/etc/passwd", "permission denied"),
    ] {
        std::fs::write(container.bundle.inside("/etc/passwd"), "x").expect("file");
        refused(exec(&container, &[], vec![program.to_owned()]).run(), words);
    }
}
