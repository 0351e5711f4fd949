//! crun's annotations (crun.1, "Extensions to OCI"): `run.oci.*`.

use ocirt_integration::agent::{Agent, Answer};
use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{Need, need, need_ocirt};
use ocirt_integration::runtime::{call, kind};
use ocirt_integration::terminal::Receiver;
use ocirt_integration::{has, host, probe, tests, user};
use serde_json::{Value, json};

use crate::exec::{exec, running};

tests![
    the_groups_of_the_caller_can_be_kept,
    hooks_write_where_they_are_told,
    a_filter_can_come_compiled,
    a_compiled_filter_may_notify,
    unknown_system_calls_can_be_refused,
    a_receiver_is_the_agent_of_a_profile_without_one,
    a_pidfd_receiver_gets_the_pidfd,
    what_is_not_supported_is_refused_or_said,
];

const GETSID: i64 = libc::SYS_getsid;

/// An annotation's name has dots, which `set` would follow.
fn annotated(bundle: Bundle, name: &str, value: &str) -> Bundle {
    bundle.config(|spec| spec["annotations"][name] = json!(value))
}

/// runc has none of them.
fn need_annotations() {
    need(Need::Ocirt, kind() != "runc");
}

fn the_groups_of_the_caller_can_be_kept() {
    need_annotations();
    let group: libc::gid_t = 4242;
    // SAFETY: one id, which outlives the call; the test is a process of its own.
    assert_eq!(unsafe { libc::setgroups(1, &raw const group) }, 0);
    // The user's container does not know it.
    let group = if user::has_suite() { 65534 } else { group };
    let name = "run.oci.keep_original_groups";
    for (value, expected) in [("1", json!([group])), ("0", json!([]))] {
        if value == "0" && kind() != "ocirt" {
            continue;
        }
        let output = annotated(Bundle::new(), name, value).run(probe!(id)).ok();
        assert_eq!(output.answer()["groups"], expected, "{value}");
    }
    if kind() == "ocirt" {
        annotated(Bundle::new(), name, "yes").refused("annotations.run.oci.keep_original_groups");
    }
    let container = running(annotated(Bundle::new(), name, "1"));
    assert_eq!(exec(&container, &[], probe!(id)).run().ok().answer()["groups"], json!([group]));
}

fn hooks_write_where_they_are_told() {
    need_annotations();
    let mut bundle = Bundle::new();
    let directory = bundle.host_dir("output");
    let (out, err) = (directory.join("out"), directory.join("err"));
    std::fs::write(&out, "first\n").expect("a file");
    bundle = annotated(bundle, "run.oci.hooks.stdout", out.to_str().expect("UTF-8"));
    bundle = annotated(bundle, "run.oci.hooks.stderr", err.to_str().expect("UTF-8"));
    let kinds = ["createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    for kind in kinds {
        let path = if kind == "startContainer" { "/probe".into() } else { host::probe() };
        bundle = bundle.hook(kind, json!({ "path": path, "args": ["probe", "print", kind, "+", "eprint", kind] }));
    }
    let container = bundle.create(probe!(print "program"));
    container.start().ok();
    container.wait_for("stopped");
    container.delete().ok();
    let text = |path| std::fs::read_to_string(path).expect("a file of the hooks");
    let printed = text(&out)
        .lines()
        .filter(|line| *line != "true")
        .map(|line| line.trim_matches('"').to_owned())
        .collect::<Vec<_>>();
    assert_eq!(printed[0], "first");
    assert_eq!(printed[1..], kinds);
    assert_eq!(text(&err).lines().collect::<Vec<_>>(), kinds);
    // The program's own output is nobody's but its own.
    assert_eq!(container.stdout(), "\"program\"\n");
    if kind() == "ocirt" {
        let hook = json!({ "path": host::probe() });
        let bundle = annotated(Bundle::new().hook("createRuntime", hook), "run.oci.hooks.stdout", "/nowhere/out");
        bundle.refused("annotations.run.oci.hooks.stdout: /nowhere/out: open: no such file or directory");
    }
}

/// A program that does `action` with getsid, and lets all else through, as base64.
fn program(action: u32) -> String {
    let instruction = |code: u32, jf: u8, k: u32| -> [u8; 8] {
        let ([a, b], [c, d, e, f]) = ((code as u16).to_ne_bytes(), k.to_ne_bytes());
        [a, b, 0, jf, c, d, e, f]
    };
    let bytes = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ, 1, GETSID as u32),
        instruction(libc::BPF_RET, 0, action),
        instruction(libc::BPF_RET, 0, libc::SECCOMP_RET_ALLOW),
    ]
    .concat();
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let bits = part.iter().chain([0, 0].iter()).take(3).fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        for place in 0..=part.len() {
            text.push(char::from(digits[(bits >> (18 - 6 * place) & 63) as usize]));
        }
        text.push_str(&"=="[part.len() - 1..]);
    }
    text
}

fn a_filter_can_come_compiled() {
    need_annotations();
    for no_new_privileges in [true, false] {
        // The profile would allow everything.
        let bundle = Bundle::new().set("linux.seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW" }));
        let bundle = bundle.set("process.noNewPrivileges", json!(no_new_privileges));
        let bundle = annotated(bundle, "run.oci.seccomp_bpf_data", &program(libc::SECCOMP_RET_ERRNO | 95));
        let answers = bundle.run(probe!(call GETSID, 0; status "Seccomp")).ok().answers();
        assert_eq!(answers, [json!({ "error": "EOPNOTSUPP" }), json!("2")]);
    }
    if kind() == "ocirt" {
        let name = "annotations.run.oci.seccomp_bpf_data: ";
        for (data, words) in [("?", "not base64"), ("Zm9v", "3 bytes"), ("AAAAAAAAAAA=", "seccomp: invalid argument")] {
            let words = if data.len() > 4 { words.to_owned() } else { format!("{name}{words}") };
            annotated(Bundle::new(), "run.oci.seccomp_bpf_data", data).refused(&words);
        }
    }
}

fn a_compiled_filter_may_notify() {
    need_ocirt();
    let data = program(libc::SECCOMP_RET_USER_NOTIF);
    annotated(Bundle::new(), "run.oci.seccomp_bpf_data", &data)
        .refused("neither listenerPath nor run.oci.seccomp.receiver");
    let agent = Agent::start(|_| Answer::Value(31));
    let bundle = annotated(Bundle::new(), "run.oci.seccomp_bpf_data", &data);
    let bundle = annotated(bundle, "run.oci.seccomp.receiver", agent.path.to_str().expect("UTF-8"));
    if user::has_suite() {
        // What may be notified is not known, so no call may be made to hand the listener over (decision 0004).
        return drop(bundle.refused("pidfd_getfd: operation not permitted"));
    }
    assert_eq!(bundle.run(probe!(call GETSID, 0)).ok().answer(), json!(31));
}

fn unknown_system_calls_can_be_refused() {
    need_annotations();
    let rule = |name: &str| json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["getsid", name], "action": "SCMP_ACT_ERRNO" }] });
    let bundle = |name: &str| {
        let bundle = Bundle::new().set("linux.seccomp", rule(name));
        annotated(bundle, "run.oci.seccomp_fail_unknown_syscall", "1")
    };
    bundle("call_of_the_future").refused("call_of_the_future");
    assert_eq!(bundle("getpgid").run(probe!(call GETSID, 0)).ok().answer()["error"], "EPERM");
}

fn a_receiver_is_the_agent_of_a_profile_without_one() {
    need_annotations();
    let agent = Agent::start(|_| Answer::Value(77));
    let rule = json!({ "names": ["getsid"], "action": "SCMP_ACT_NOTIFY" });
    let bundle = Bundle::new().set("linux.seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }));
    let bundle = annotated(bundle, "run.oci.seccomp.receiver", agent.path.to_str().expect("UTF-8"));
    assert_eq!(bundle.run(probe!(call GETSID, 0)).ok().answer(), json!(77));
    assert_eq!(agent.states(1)[0]["fds"], json!(["seccompFd"]));
}

fn a_pidfd_receiver_gets_the_pidfd() {
    use std::os::fd::AsRawFd;
    need_annotations();
    let path = host::socket().with_extension("pidfd");
    let receiver = Receiver::new(&path);
    let bundle = annotated(Bundle::new(), "run.oci.pidfd_receiver", path.to_str().expect("UTF-8"));
    let container = bundle.create(probe!(sleep 60));
    let (fd, _) = receiver.receive();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).expect("fdinfo");
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).map(|text| text.trim().to_owned());
    assert_eq!(pid, Some(container.pid().to_string()), "{info}");
    let _ = std::fs::remove_file(path);
}

fn what_is_not_supported_is_refused_or_said() {
    need_ocirt();
    annotated(Bundle::new(), "run.oci.handler", "krun").refused("annotations.run.oci.handler");
    annotated(Bundle::new(), "run.oci.seccomp.plugins", "/x.so").refused("annotations.run.oci.seccomp.plugins");
    annotated(Bundle::new(), "run.oci.mount_context_type", "no").refused("annotations.run.oci.mount_context_type");
    let output = annotated(Bundle::new(), "run.oci.systemd.subgroup", "x").run(probe!(print "it ran")).ok();
    assert!(output.stderr.contains("warning: annotations.run.oci.systemd.subgroup"), "{}", output.stderr);
    let features = call(["features"]).ok().json();
    let unsafe_ones: &Value = &features["potentiallyUnsafeConfigAnnotations"];
    for name in ["run.oci.", "org.systemd.property.", "org.criu.config"] {
        assert!(has(unsafe_ones, name), "{name} in {unsafe_ones}");
    }
}
