//! The node's floor (docs/floor.md): what every container of the host has at least, whatever its config.json says.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::criu;
use ocirt_integration::needs::{need_ocirt, need_root};
use ocirt_integration::runtime::{Call, Output, call};
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};

use super::exec::exec;

tests![
    what_the_floor_denies_no_process_may_call,
    an_argument_is_compared_as_the_kernel_takes_it,
    the_example_of_the_documentation_holds,
    privileges_paths_and_capabilities_are_cut,
    what_cannot_be_made_stricter_is_refused,
    a_mount_that_is_added_later_is_refused,
    a_floor_that_cannot_be_trusted_lets_nothing_run,
    a_floor_that_would_loosen_anything_is_refused,
    verify_tells_which_containers_lack_it,
    plan_shows_its_filter,
    a_restored_container_cannot_have_its_filter,
];

const GETSID: i64 = libc::SYS_getsid;

/// Root's file, of the test's own directory.
pub fn floor(rules: &Value) -> PathBuf {
    floor_of_text(&rules.to_string())
}

fn floor_of_text(text: &str) -> PathBuf {
    let directory = host::place().join("host");
    fs::create_dir_all(&directory).expect("directory");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("mode");
    let file = directory.join("floor.json");
    fs::remove_file(&file).ok();
    fs::write(&file, text).expect("floor");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("mode");
    file
}

fn flags(file: &Path) -> [&str; 2] {
    ["--floor", file.to_str().expect("UTF-8")]
}

fn under(bundle: Bundle, file: &Path) -> Bundle {
    bundle.global(&flags(file))
}

/// A process of exec under the floor.
fn exec_under(container: &Container, file: &Path, args: Vec<String>) -> Call {
    exec(container, &[], args).global(flags(file)).as_user(container.bundle.as_user())
}

fn required() {
    need_ocirt();
    // It is root's file.
    need_root();
}

fn allows_all() -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW" })
}

/// A profile that lets nobody load another filter.
fn locks_filters() -> Value {
    let rule = json!({ "names": ["seccomp"], "action": "SCMP_ACT_ERRNO" });
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] })
}

fn what_the_floor_denies_no_process_may_call() {
    required();
    let file = floor(&json!({ "seccomp": [{ "names": ["getsid"], "errnoRet": 13 }] }));
    for bundle in [Bundle::new, || Bundle::new().user_namespace(100_000)] {
        is_denied(&file, bundle);
    }
}

/// getsid(2), whatever else a container has.
pub fn is_denied(file: &Path, bundle: fn() -> Bundle) {
    for profile in [Value::Null, allows_all(), locks_filters()] {
        for no_new_privileges in [false, true] {
            let bundle = bundle().set("process.noNewPrivileges", json!(no_new_privileges));
            let bundle = bundle.set("linux.seccomp", profile.clone());
            let container = under(bundle, file).start(probe!(call GETSID, 0; sleep 60));
            assert_eq!(container.answers(1), [json!({ "error": "EACCES" })], "{profile} {no_new_privileges}");
            let output = exec_under(&container, file, probe!(call GETSID, 0)).run().ok();
            assert_eq!(output.answer(), json!({ "error": "EACCES" }), "{profile} {no_new_privileges}");
            container.kill("KILL").ok();
        }
    }
}

/// The kernel takes the lower half of socket(2)'s first argument; a filter sees all of it (CVE-2026-123876).
fn an_argument_is_compared_as_the_kernel_takes_it() {
    required();
    const SOCKET: i64 = libc::SYS_socket;
    let stream = i64::from(libc::SOCK_STREAM);
    let (denied, hidden) = (i64::from(libc::AF_UNIX), i64::from(libc::AF_UNIX) | 1 << 40);
    let other = i64::from(libc::AF_INET);
    let rule = json!({ "names": ["socket"], "args": [{ "index": 0, "value": denied, "op": "SCMP_CMP_EQ" }] });
    let bundle = under(Bundle::new(), &floor(&json!({ "seccomp": [rule] })));
    let output =
        bundle.run(probe!(call SOCKET, denied, stream; call SOCKET, hidden, stream; call SOCKET, other, stream)).ok();
    let answers = output.answers();
    assert_eq!(answers[..2], [json!({ "error": "EPERM" }), json!({ "error": "EPERM" })]);
    assert!(answers[2].is_number(), "{answers:?}");
}

fn the_example_of_the_documentation_holds() {
    required();
    let page = include_str!("../../../docs/floor.md");
    let example = page.split("```json").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    const SOCKET: i64 = libc::SYS_socket;
    let (alg, other, seqpacket) = (i64::from(libc::AF_ALG), i64::from(libc::AF_INET), i64::from(libc::SOCK_SEQPACKET));
    let (setup, stream) = (libc::SYS_io_uring_setup, i64::from(libc::SOCK_STREAM));
    let bundle = under(Bundle::new(), &floor_of_text(example));
    let answers =
        bundle.run(probe!(call SOCKET, alg, seqpacket; call setup, 1, 0; call SOCKET, other, stream)).ok().answers();
    assert_eq!(answers[..2], [json!({ "error": "EAFNOSUPPORT" }), json!({ "error": "ENOSYS" })]);
    assert!(answers[2].is_number(), "{answers:?}");
}

fn privileges_paths_and_capabilities_are_cut() {
    required();
    let rules = json!({ "noNewPrivileges": true, "maskedPaths": ["/proc/version"], "capabilities": ["CAP_KILL"] });
    let file = floor(&rules);
    let all = json!(["CAP_KILL", "CAP_CHOWN"]);
    let sets = json!({ "bounding": all, "effective": all, "permitted": all, "inheritable": all, "ambient": all });
    let bundle = || {
        under(
            Bundle::new().set("process.capabilities", sets.clone()).set("process.noNewPrivileges", json!(false)),
            &file,
        )
    };
    let made = bundle().write(probe!(print "x"));
    let said = made.call("create").run().ok().stderr;
    call(["delete", "--force", &made.id]).ok();
    for words in [
        "noNewPrivileges: process.noNewPrivileges is set",
        "maskedPaths: linux.maskedPaths: /proc/version added",
        "capabilities: process.capabilities: CAP_CHOWN left out",
    ] {
        assert!(said.contains(&format!("{}: {words}", file.display())), "{said}");
    }
    let container = bundle().start(probe!(read "/proc/version"; sleep 60));
    assert_eq!(container.answers(1), [json!("")]);
    let kill = format!("{:016x}", 1 << 5);
    let is_cut = |status: &str| {
        let value =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).expect("a line").trim().to_owned();
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(value(set), kill, "{set}");
        }
        assert_eq!(value("NoNewPrivs:"), "1");
    };
    is_cut(&container.proc_file("status"));
    let output =
        exec(&container, &["--cap", "CAP_NET_ADMIN"], probe!(read "/proc/self/status")).global(flags(&file)).run();
    is_cut(output.ok().answer().as_str().expect("a text"));
}

fn what_cannot_be_made_stricter_is_refused() {
    required();
    let outside = host::place().join("outside");
    fs::create_dir_all(outside.join("below")).expect("directory");
    let link = host::place().join("link");
    symlink(&outside, &link).expect("symlink");
    let path = outside.to_str().expect("UTF-8");
    let rules = json!({
        "refusedAnnotations": ["run.oci.keep_original_groups", "org.example.*"],
        "refusedBindSources": [path],
        "privateNamespaces": ["pid", "network"],
    });
    let file = floor(&rules);
    let refused = |bundle: Bundle, words: &str| {
        under(bundle, &file).refused(words);
        host::assert_nothing_left();
    };
    refused(Bundle::new().without_namespace("pid"), "linux.namespaces: the pid namespace is the host's");
    refused(Bundle::new().namespace("network", Some("/proc/self/ns/net")), "the net namespace is the host's");
    let annotated = |key: &str| Bundle::new().config(|spec| spec["annotations"] = json!({ key: "1" }));
    refused(
        annotated("run.oci.keep_original_groups"),
        "annotations.run.oci.keep_original_groups: it is not to be used",
    );
    refused(annotated("org.example.x"), "annotations.org.example.x: ");
    let parent = host::place().to_str().expect("UTF-8");
    let below = outside.join("below");
    for source in [path, below.to_str().expect("UTF-8"), link.to_str().expect("UTF-8"), parent, "/"] {
        let bundle = Bundle::new().mount("bind", source, "/mnt", &["rbind"]);
        refused(bundle, &format!("source: {path} is not to be shown (the floor of this host: {}", file.display()));
    }
    refused(Bundle::new().set("root.path", json!("/")), &format!("root.path: {path} is not to be shown"));
    // What it adds is validated, too: without a mount namespace the host's own paths would be covered.
    let masks = floor(&json!({ "maskedPaths": ["/proc/version"] }));
    let words = "linux.maskedPaths: needs a mount namespace in linux.namespaces";
    let own = Bundle::new().set("linux.maskedPaths", Value::Null).set("linux.readonlyPaths", Value::Null);
    under(own.without_namespace("mount"), &masks).refused(words);
    let file = floor(&rules);
    // What is of the container's own, or of another's, is allowed.
    let pod = under(Bundle::new(), &file).start(probe!(sleep 60));
    let net = format!("/proc/{}/ns/net", pod.pid());
    let bundle = under(annotated("org.example").namespace("network", Some(&net)), &file);
    assert_eq!(bundle.run(probe!(print "x")).ok().stdout, "\"x\"\n");
}

fn a_mount_that_is_added_later_is_refused() {
    required();
    let source = host::place().join("source");
    fs::create_dir_all(&source).expect("directory");
    let file = floor(&json!({ "refusedBindSources": [source] }));
    let container = under(Bundle::new(), &file).start(probe!(sleep 60));
    let list = host::place().join("mounts.json");
    let entry = json!([{ "destination": "/mnt", "type": "bind", "source": source, "options": ["bind"] }]);
    fs::write(&list, entry.to_string()).expect("mounts.json");
    let words = ["mounts", "add", container.id(), list.to_str().expect("UTF-8")];
    let before = container.proc_file("mountinfo");
    Call::new(words).global(flags(&file)).run().fails("mounts[0].source: ");
    assert_eq!(container.proc_file("mountinfo"), before);
}

/// Neither create nor exec goes on without knowing the floor.
fn lets_nothing_run(container: &Container, file: &Path, words: &str) {
    // An exec's failures of its own are 255.
    let fails = |output: Output| {
        assert!([1, 255].contains(&output.status) && output.stderr.contains(words), "{output:?}");
        assert!(output.stderr.contains(&format!("the floor of this host: {}: ", file.display())), "{output:?}");
    };
    fails(under(Bundle::new(), file).write(probe!(print "x")).call("create").run());
    fails(exec_under(container, file, probe!(print "x")).run());
}

fn a_floor_that_cannot_be_trusted_lets_nothing_run() {
    required();
    let container = Bundle::new().start(probe!(sleep 60));
    let empty = json!({});
    let file = floor(&empty);
    let set = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("mode");
    set(0o664);
    lets_nothing_run(&container, &file, "others may write it (mode 664)");
    set(0o644);
    chown(&file, Some(1000), None).expect("chown");
    lets_nothing_run(&container, &file, "belongs to user 1000, not to root");
    let file = floor(&empty);
    let directory = file.parent().expect("a directory");
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).expect("mode");
    lets_nothing_run(&container, &file, "its directory: others may write it (mode 777)");
    let file = floor(&empty);
    let other = file.with_file_name("other");
    fs::rename(&file, &other).expect("rename");
    lets_nothing_run(&container, &file, "no such file or directory");
    symlink(&other, &file).expect("symlink");
    lets_nothing_run(&container, &file, "not a regular file");
    let file = floor_of_text(&" ".repeat(2 << 20));
    lets_nothing_run(&container, &file, "larger than 1 MiB");
    let file = floor_of_text("{");
    lets_nothing_run(&container, &file, "line 1 column 1: EOF while parsing an object");
}

fn a_floor_that_would_loosen_anything_is_refused() {
    required();
    let container = Bundle::new().start(probe!(sleep 60));
    let denied = |rule: Value| json!({ "seccomp": [rule] });
    let below = json!({ "names": ["socket"], "args": [{ "index": 0, "value": 3, "op": "SCMP_CMP_LT" }] });
    for (rules, words) in [
        (json!({ "noNewPrivilege": true }), "unknown field `noNewPrivilege`"),
        (json!({ "noNewPrivileges": false }), "noNewPrivileges: false asks for nothing: leave it out"),
        (json!({ "capabilities": ["CAP_KILL", "KILL"] }), "capabilities[1]: unknown capability \"KILL\""),
        (json!({ "maskedPaths": ["proc"] }), "maskedPaths[0]: \"proc\" is not an absolute path"),
        (json!({ "refusedBindSources": ["/x", "y"] }), "refusedBindSources[1]: \"y\" is not an absolute path"),
        (json!({ "refusedAnnotations": [""] }), "refusedAnnotations[0]: empty"),
        (json!({ "privateNamespaces": ["pids"] }), "privateNamespaces[0]: unknown variant `pids`"),
        (
            denied(json!({ "names": ["getsid"], "action": "SCMP_ACT_ALLOW" })),
            "seccomp[0].action: SCMP_ACT_ALLOW denies nothing",
        ),
        (
            denied(json!({ "names": ["getsid"], "action": "SCMP_ACT_LOG" })),
            "seccomp[0].action: SCMP_ACT_LOG denies nothing",
        ),
        (denied(json!({ "names": [] })), "seccomp[0].names: empty"),
        (denied(json!({ "names": ["getsit"] })), "seccomp[0].names[0]: no architecture has a system call \"getsit\""),
        (denied(json!({ "names": ["getsid"], "errnoRet": 5000 })), "seccomp[0].errnoRet: 5000 is not an errno"),
        (denied(json!({ "names": ["execve"] })), "seccomp: without execve and exit_group no program can be started"),
        (denied(below), "seccomp[0].args[0].op: "),
    ] {
        lets_nothing_run(&container, &floor(&rules), words);
    }
}

fn verify_tells_which_containers_lack_it() {
    required();
    let old = Bundle::new().start(probe!(sleep 60));
    let file = floor(&json!({ "noNewPrivileges": true }));
    let new = under(Bundle::new(), &file).start(probe!(sleep 60));
    let verified = |container: &Container, file: &Path| {
        let words = ["verify", "--format", "json", container.id()];
        let output = Call::new(words).global(flags(file)).run();
        let rows = output.json()["rows"].as_array().expect("rows").clone();
        let row = rows.iter().find(|row| row["field"] == "floor").expect("a row").clone();
        (
            output.status,
            row["verdict"].as_str().expect("a word").to_owned(),
            row["found"].as_str().expect("words").to_owned(),
        )
    };
    assert_eq!(verified(&new, &file), (0, "same".into(), "the same".into()));
    assert_eq!(verified(&old, &file), (3, "differs".into(), "none, when the container was created".into()));
    let file = floor(&json!({ "noNewPrivileges": true, "maskedPaths": ["/proc/version"] }));
    assert_eq!(verified(&new, &file), (3, "differs".into(), "what it was when the container was created".into()));
}

fn plan_shows_its_filter() {
    required();
    let file = floor(&json!({ "seccomp": [{ "names": ["getsid"] }] }));
    let bundle = Bundle::new().write(probe!(print "x"));
    let words = ["plan", "--bundle", bundle.dir.to_str().expect("UTF-8")];
    let output = Call::new(words).global(flags(&file)).run().ok();
    assert!(output.stdout.contains("seccomp of the host's floor: 1 syscalls"), "{}", output.stdout);
}

fn a_restored_container_cannot_have_its_filter() {
    required();
    criu::required();
    let container = criu::counting(Bundle::new());
    criu::save(&container, &[]);
    let file = floor(&json!({ "seccomp": [{ "names": ["getsid"] }] }));
    let words =
        "the floor of this host has a filter (seccomp), and the filters of a restored container are those of its image";
    criu::restore_call(&container.bundle, &[]).global(flags(&file)).run().fails(words);
    criu::restore(&container.bundle).ok();
}
