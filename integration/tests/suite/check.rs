//! `ocirt check`: all that create would refuse, and what will surprise, with nothing done.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{need_ocirt, need_root};
use ocirt_integration::runtime::{Call, Output};
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};

tests![
    nothing_is_found_where_nothing_is_wrong,
    all_that_is_refused_is_told_at_once,
    what_is_an_error_is_refused_by_create,
    what_is_a_warning_is_made_by_create,
    a_program_is_looked_for_as_init_does,
    a_process_is_checked_by_itself,
    what_the_floor_of_the_host_does_is_told,
    a_check_changes_nothing,
    what_cannot_be_looked_at_is_no_finding,
];

/// A bundle in which nothing is found.
fn clean() -> Bundle {
    let masked = [
        "/proc/acpi",
        "/proc/asound",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ];
    Bundle::new().set("linux.maskedPaths", json!(masked)).set("linux.resources.pids", json!({ "limit": 100 }))
}

fn check(bundle: &Bundle, more: &[&str]) -> Output {
    let words = ["check", "--format", "json", "--bundle", bundle.dir.to_str().expect("UTF-8")];
    Call::new(words.into_iter().chain(more.iter().copied())).as_user(bundle.as_user()).run()
}

/// Severity, code and field of each finding.
fn findings(output: &Output) -> Vec<(String, String, String)> {
    let word = |finding: &Value, name: &str| finding[name].as_str().expect("a text").to_owned();
    let report = output.json();
    let findings = report["findings"].as_array().expect("a list").clone();
    assert_eq!(output.status, if findings.is_empty() { 0 } else { 3 }, "{output:?}");
    let all = findings.iter().map(|finding| {
        assert!(!word(finding, "why").is_empty() && !word(finding, "remedy").is_empty(), "{finding}");
        (word(finding, "severity"), word(finding, "code"), word(finding, "field"))
    });
    all.collect()
}

fn has(output: &Output, code: &str, field: &str) -> bool {
    findings(output).iter().any(|(_, found, at)| found == code && at == field)
}

fn nothing_is_found_where_nothing_is_wrong() {
    need_ocirt();
    let bundle = clean().write(probe!(exit 0));
    let output = check(&bundle, &[]);
    assert_eq!(findings(&output), [], "{output:?}");
    let text = Call::new(["check", "--bundle", bundle.dir.to_str().expect("UTF-8")]).as_user(bundle.as_user()).run();
    assert_eq!((text.status, text.stdout.as_str(), text.stderr.as_str()), (0, "", ""));
}

/// What each of them says of the whole is what create says of each.
fn all_that_is_refused_is_told_at_once() {
    need_ocirt();
    let namespaces = |bundle: Bundle| bundle.push("linux.namespaces", json!({ "type": "pid" }));
    let changes = [
        ("process.cwd", json!("rel")),
        (
            "process.rlimits",
            json!([{ "type": "RLIMIT_CORE", "soft": 2, "hard": 1 }, { "type": "RLIMIT_NOFILE", "soft": 2, "hard": 1 }]),
        ),
        ("process.oomScoreAdj", json!(5000)),
        ("hooks.prestart", json!([{ "path": "rel" }])),
        ("hooks.poststop", json!([{ "path": "/", "timeout": 0 }])),
        ("linux.sysctl", json!({ "kernel.foo": "1", "kernel.bar": "1" })),
        ("linux.rootfsPropagation", json!("sideways")),
        ("linux.resources.cpu", json!({ "shares": 1 })),
        ("linux.resources.rdma", json!({ "": {} })),
        ("linux.timeOffsets", json!({ "monotonic": { "secs": 1 } })),
        (
            "linux.seccomp",
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            { "names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [{ "index": 9, "value": 1, "op": "SCMP_CMP_EQ" }] },
            { "names": [""], "action": "SCMP_ACT_ERRNO" }] }),
        ),
    ];
    let whole = changes.iter().fold(Bundle::new(), |bundle, (field, value)| bundle.set(field, value.clone()));
    let whole = namespaces(whole).push("mounts", json!({ "destination": "/x" })).write(probe!(exit 0));
    let told = findings(&check(&whole, &[]));
    let other = whole.dir.join("other.json");
    fs::rename(whole.dir.join("config.json"), &other).expect("rename");
    assert_eq!(findings(&check(&whole, &["--config", other.to_str().expect("UTF-8")])), told);
    for field in [
        "process.cwd",
        "process.rlimits[0]",
        "process.rlimits[1]",
        "process.oomScoreAdj",
        "hooks.prestart[0].path",
        "hooks.poststop[0].timeout",
        "linux.sysctl.kernel.foo",
        "linux.sysctl.kernel.bar",
        "linux.rootfsPropagation",
        "linux.timeOffsets",
        "linux.seccomp.syscalls[0].args[0].index",
        "linux.seccomp.syscalls[1].names[0]",
        "mounts[6]",
    ] {
        let refused = |(severity, code, at): &&(String, String, String)| {
            severity == "error" && code == "refused" && at.starts_with(field)
        };
        assert_eq!(told.iter().filter(refused).count(), 1, "{field} in {told:?}");
    }
    assert!(told.iter().any(|(_, code, at)| code == "refused" && at.starts_with("linux.namespaces[")), "{told:?}");
    // Errors first.
    assert!(told.is_sorted_by_key(|(severity, ..)| severity == "warning"), "{told:?}");
}

type Change = fn(Bundle) -> Bundle;

/// Code, field, and the change of a clean bundle.
const ERRORS: [(&str, &str, Change); 8] = [
    ("refused", "hostname", |bundle| bundle.set("linux.namespaces", json!([{ "type": "mount" }, { "type": "pid" }]))),
    ("source-missing", "mounts[6].source", |bundle| bundle.mount("bind", "/nope/x", "/data", &["rbind"])),
    ("program-missing", "process.args[0]", |bundle| bundle.set("process.args", json!(["/nope"]))),
    ("program-not-executable", "process.args[0]", |bundle| {
        bundle.file("plain", "x").set("process.args", json!(["/plain"]))
    }),
    ("hook-missing", "hooks.createRuntime[0].path", |bundle| bundle.hook("createRuntime", json!({ "path": "/nope" }))),
    ("hook-not-executable", "hooks.prestart[0].path", |bundle| {
        bundle.hook("prestart", json!({ "path": "/etc/passwd" }))
    }),
    ("memory-too-small", "linux.resources.memory.limit", |bundle| {
        bundle.set("linux.resources.memory", json!({ "limit": 4096 }))
    }),
    ("limit-impossible", "linux.resources.cpu.quota", |bundle| {
        bundle.set("linux.resources.cpu", json!({ "quota": 10 }))
    }),
];

fn what_is_an_error_is_refused_by_create() {
    need_ocirt();
    for (code, field, change) in ERRORS {
        let bundle = change(clean().set("process.args", json!(["/probe", "exit", "0"]))).keep_args();
        let output = check(&bundle, &[]);
        assert!(has(&output, code, field), "{code} {field}: {output:?}");
        assert!(
            findings(&output).iter().any(|(severity, found, _)| severity == "error" && found == code),
            "{output:?}"
        );
        // A user has no cgroups, and so no limits: another error comes first.
        let created = bundle.call("create").run();
        assert_eq!(created.status, 1, "{code}: {created:?}");
        host::assert_nothing_left();
    }
}

const WARNINGS: [(&str, &str, Change); 4] = [
    ("key-misspelt", "linux.maskedPath", |bundle| {
        bundle.set("linux.maskedPaths", Value::Null).set("linux.maskedPath", json!(["/x"]))
    }),
    ("key-unknown", "org.example", |bundle| {
        bundle.config(|config| {
            config["org.example"] = json!(1);
        })
    }),
    ("ignored", "annotations.run.oci.systemd.subgroup", |bundle| {
        bundle.config(|config| {
            config["annotations"] = json!({ "run.oci.systemd.subgroup": "x" });
        })
    }),
    ("user-unknown", "process.user.uid", |bundle| {
        bundle.file("etc/passwd", "root:x:0:0::/:/bin/sh\n").set("process.user", json!({ "uid": 1, "gid": 1 }))
    }),
];

fn what_is_a_warning_is_made_by_create() {
    need_ocirt();
    for (code, field, change) in WARNINGS {
        let bundle = change(clean()).write(probe!(exit 0));
        let output = check(&bundle, &[]);
        assert!(has(&output, code, field), "{code} {field}: {output:?}");
        assert!(findings(&output).iter().all(|(severity, ..)| severity == "warning"), "{output:?}");
        let container = bundle.call("create").run();
        assert_eq!(container.status, 0, "{code}: {container:?}");
        Call::new(["delete", "--force", bundle.id.as_str()]).as_user(bundle.as_user()).run().ok();
    }
}

/// By PATH of the image, below the root file system, and in what is bound over it.
fn a_program_is_looked_for_as_init_does() {
    need_ocirt();
    let with = |bundle: Bundle, program: &str| {
        let bundle = bundle.set("process.args", json!([program, "exit", "0"])).keep_args();
        check(&bundle, &[])
    };
    let is_found = |output: &Output| !findings(output).iter().any(|(_, code, _)| code.starts_with("program-"));
    assert!(is_found(&with(clean(), "probe")), "in a directory of PATH");
    let without = with(clean().set("process.env", json!([])), "probe");
    assert!(has(&without, "program-missing", "process.args[0]"), "{without:?}");
    let linked = clean().symlink("program", "/probe");
    assert!(is_found(&with(linked, "/program")), "a link is the image's");
    let host = clean().symlink("program", "/../../../../../../bin/sh");
    assert!(has(&with(host, "/program"), "program-missing", "process.args[0]"), "and does not lead out of it");
    let tools = clean();
    let source = tools.host_dir("tools");
    fs::copy(host::probe(), source.join("tool")).expect("copy");
    let source = source.to_str().expect("UTF-8").to_owned();
    assert!(is_found(&with(tools.mount("bind", &source, "/data", &["rbind"]), "/data/tool")), "in what is bound");
    let hidden = clean().file("data/tool", "x").mount("bind", &source, "/data", &["rbind"]);
    assert!(has(&with(hidden, "/data/other"), "program-missing", "process.args[0]"), "not in what is bound");
    let unknown = clean().mount("tmpfs", "tmpfs", "/data", &[]);
    assert!(is_found(&with(unknown, "/data/tool")), "only init can tell");
}

fn a_process_is_checked_by_itself() {
    need_ocirt();
    let file = host::place().join(format!("process-{}.json", host::new_id()));
    let run = |process: Value| {
        fs::write(&file, process.to_string()).expect("write");
        Call::new(["check", "-f", "json", "--process", file.to_str().expect("UTF-8")]).run()
    };
    let good = json!({ "cwd": "/", "user": { "uid": 0, "gid": 0 }, "args": ["x"], "env": ["PATH=/bin"] });
    assert_eq!(findings(&run(good.clone())), []);
    let mut bad = good;
    bad["cwd"] = json!("rel");
    bad["agrs"] = bad["args"].take();
    bad["args"] = json!([]);
    bad["user"] = json!({ "uid": 5, "gid": 0, "umask": 5000 });
    let output = run(bad);
    for (code, field) in [
        ("refused", "process.cwd"),
        ("refused", "process.args"),
        ("refused", "process.user.umask"),
        ("privileges-can-be-gained", "process.noNewPrivileges"),
    ] {
        assert!(has(&output, code, field), "{code} {field}: {output:?}");
    }
    fs::remove_file(&file).expect("remove");
}

/// Every file below `directory`, with what would tell that somebody touched it.
fn listing(directory: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        let found = fs::symlink_metadata(&path).expect("stat");
        let changed = (found.mtime(), found.mtime_nsec(), found.permissions().mode(), found.size());
        all.push(format!("{} {changed:?}", path.display()));
        if found.is_dir() {
            left.extend(fs::read_dir(&path).expect("list").map(|entry| entry.expect("entry").path()));
        }
    }
    all.sort();
    all
}

fn what_the_floor_of_the_host_does_is_told() {
    need_ocirt();
    need_root();
    let file = super::floor::floor(&json!({ "noNewPrivileges": true, "privateNamespaces": ["ipc"] }));
    let bundle = clean().set("process.noNewPrivileges", json!(false)).without_namespace("ipc").write(probe!(print "x"));
    let words = ["check", "--format", "json", "--bundle", bundle.dir.to_str().expect("UTF-8")];
    let output = Call::new(words).global(["--floor", file.to_str().expect("UTF-8")]).run();
    assert!(has(&output, "floor", "") && has(&output, "refused", "linux.namespaces"), "{output:?}");
    let rules = json!({ "noNewPrivileges": false });
    let output = Call::new(words).global(["--floor", super::floor::floor(&rules).to_str().expect("UTF-8")]).run();
    assert!(has(&output, "refused", "noNewPrivileges"), "{output:?}");
}

fn a_check_changes_nothing() {
    need_ocirt();
    let bundle = clean()
        .mount("bind", "/etc", "/not/there", &["rbind"])
        .set("process.cwd", json!("/is/made"))
        .hook("createRuntime", json!({ "path": "/bin/sh", "args": ["sh", "-c", "touch /hooked"] }))
        .write(probe!(exit 0));
    let before = listing(&bundle.dir);
    check(&bundle, &[]);
    assert_eq!(listing(&bundle.dir), before);
    host::assert_nothing_left();
}

fn what_cannot_be_looked_at_is_no_finding() {
    need_ocirt();
    Call::new(["check", "--bundle", "/nope"]).run().fails("check: bundle /nope: ");
    Call::new(["check", "--process", "/nope"]).run().fails("check: --process /nope: ");
    Call::new(["check", "--bundle", "/", "--as", "lxc"])
        .run()
        .fails("check: --as: \"lxc\" is none of docker, cri, podman");
    Call::new(["check", "--bundle", "/", "--format", "xml"]).run().fails("check: invalid format option");
    // What is no JSON was looked at.
    let bundle = Bundle::new().write(probe!(exit 0));
    fs::write(bundle.dir.join("config.json"), "{").expect("write");
    let output = check(&bundle, &[]);
    assert_eq!(findings(&output).len(), 1, "{output:?}");
}
