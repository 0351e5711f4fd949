//! Containers of an ordinary user: his user namespace, what he may map, no right to cgroups, nothing of the host's
//! writable. The user is [`ocirt_integration::user`].

use super::userns_path::{self, inode, pause, sharing};
use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{Need, need, need_ocirt};
use ocirt_integration::runtime::{Call, Output, kind};
use ocirt_integration::user::{self, RANGE, USER};
use ocirt_integration::{host, probe, runtime, tests};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

tests![
    a_container_of_an_ordinary_user_lives_and_ends,
    states_are_kept_in_the_runtime_directory,
    one_id_is_mapped_and_groups_are_denied,
    several_ranges_are_mapped_by_the_tools,
    ids_that_the_user_does_not_have_are_refused,
    a_user_namespace_of_his_is_joined_by_path,
    the_tools_are_the_hosts_and_have_an_end,
    additional_groups_need_several_ids,
    without_a_user_namespace_it_is_refused,
    the_configuration_of_spec_rootless_runs,
    spec_rootless_is_as_runcs,
    limits_without_a_right_to_cgroups_are_refused,
    without_a_right_to_cgroups_there_is_none,
    the_hosts_cgroups_are_not_writable,
    the_hosts_sys_is_shown_read_only,
    devices_are_the_hosts_and_usable,
    what_only_root_may_raise_is_refused,
    hooks_run_as_the_user,
    masked_and_readonly_paths_hold,
    root_of_a_user_namespace_runs_containers,
];

fn one() -> Bundle {
    Bundle::new().rootless(user::one_id())
}

fn several() -> Bundle {
    Bundle::new().rootless(user::range())
}

fn call<const N: usize>(words: [&str; N]) -> Call {
    Call::new(words).as_user(true)
}

fn a_container_of_an_ordinary_user_lives_and_ends() {
    let container = one().create(probe!(id; sleep 60));
    assert_eq!(container.status(), "created");
    assert!(container.stdout().is_empty(), "it ran before start");
    container.start().ok();
    assert_eq!(container.answers(1)[0]["uid"], json!([0, 0, 0]));
    let list = call(["list", "--quiet"]).run().ok();
    assert_eq!(list.stdout.trim(), container.id());
    let status = container.proc_file("status");
    assert!(status.contains(&format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}")), "{status}");
    let pid = container.pid();
    container.kill("KILL").ok();
    assert_eq!(host::reap(pid), 128 + 9);
    container.wait_for("stopped");
    container.delete().ok();
    call(["state", container.id()]).run().fails("does not exist");
    host::assert_nothing_left();
}

fn states_are_kept_in_the_runtime_directory() {
    let bundle = one().write(probe!(sleep 60));
    bundle.call("create").root(None).run().ok();
    let below = user::runtime_directory(host::place()).join(kind());
    let state = below.join(&bundle.id);
    assert!(state.exists(), "{} is not there", state.display());
    let mode = below.metadata().expect("directory").permissions().mode();
    assert_eq!(mode & 0o7777, 0o1700, "sticky, and nobody else's");
    call(["delete", "--force", &bundle.id]).root(None).run().ok();
    assert!(!state.exists());
}

fn one_id_is_mapped_and_groups_are_denied() {
    let reads = probe!(read "/proc/self/uid_map"; read "/proc/self/gid_map"; read "/proc/self/setgroups"; stat "/data");
    let answers = one().run(reads).ok().answers();
    for map in &answers[..2] {
        let words: Vec<_> = map.as_str().expect("map").split_whitespace().collect();
        assert_eq!(words, ["0", &USER.to_string(), "1"]);
    }
    assert_eq!((&answers[2], &answers[3]["uid"]), (&json!("deny\n"), &json!(0)));
}

fn several_ranges_are_mapped_by_the_tools() {
    let user = json!({ "uid": 1000, "gid": 1001 });
    let container = several().set("process.user", user).create(probe!(id; sleep 60));
    container.start().ok();
    let answer = &container.answers(1)[0];
    assert_eq!((&answer["uid"][0], &answer["gid"][0]), (&json!(1000), &json!(1001)));
    let status = container.proc_file("status");
    let (uid, gid) = (RANGE + 999, RANGE + 1000);
    assert!(status.contains(&format!("Uid:\t{uid}")) && status.contains(&format!("Gid:\t{gid}")), "{status}");
    // The user may end what his container's users run.
    let pid = container.pid();
    container.kill("KILL").ok();
    assert_eq!(host::reap(pid), 128 + 9);
    container.delete().ok();
}

fn ids_that_the_user_does_not_have_are_refused() {
    need_ocirt();
    let foreign = json!([{ "containerID": 0, "hostID": 0, "size": 65536 }]);
    several().set("linux.uidMappings", foreign.clone()).refused("linux.uidMappings");
    let output = several().set("linux.gidMappings", foreign).refused("linux.gidMappings");
    assert!(output.stderr.contains("newgidmap"), "the tool's own words: {}", output.stderr);
    let another = json!([{ "containerID": 0, "hostID": USER + 1, "size": 1 }]);
    one().set("linux.uidMappings", another).refused("newuidmap");
}

/// A pod of his; [`super::userns_path`] has what root's are.
fn a_user_namespace_of_his_is_joined_by_path() {
    one().namespace("user", Some("/proc/1/ns/user")).refused("/proc/1/ns/user");
    for map in [user::one_id(), user::range()] {
        let infra = pause(Bundle::new().rootless(map.clone()));
        let bundle = Bundle::new().rootless(map).namespace("user", Some(&userns_path::path(&infra, "user")));
        let container = pause(sharing(bundle, &infra, &[("network", "net"), ("ipc", "ipc"), ("uts", "uts")]));
        for kind in ["user", "net", "ipc", "uts"] {
            assert_eq!(inode(&container, kind), inode(&infra, kind), "{kind}");
        }
        assert_eq!(json!(userns_path::owner(&userns_path::path(&container, "pid"))), inode(&infra, "user"));
        let exec = super::exec::exec(&container, &[], probe!(id; ns)).as_user(true);
        let answers = exec.run().ok().answers();
        assert_eq!((&answers[0]["uid"], &answers[1]["user"]), (&json!([0, 0, 0]), &inode(&infra, "user")));
    }
}

/// A program of the rootfs, or one that a relative PATH leads to, is none of the host's.
fn the_tools_are_the_hosts_and_have_an_end() {
    need_ocirt();
    let script = |bundle: &Bundle, path: &Path, text: &str| {
        std::fs::create_dir_all(path).expect("directory");
        std::fs::write(path.join("newuidmap"), format!("#!/bin/sh\n{text}\n")).expect("script");
        std::fs::set_permissions(path.join("newuidmap"), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        user::give(&bundle.dir);
    };
    let bundle = several().write(probe!(print "it ran"));
    let mark = bundle.dir.join("mark");
    script(&bundle, &bundle.inside("/bin"), &format!("touch {}", mark.display()));
    let path = "rootfs/bin:.:bin:";
    let output = bundle.call("run").cwd(&bundle.dir).env("PATH", path).run();
    output.fails("linux.uidMappings: newuidmap is not in $PATH");
    assert!(!mark.exists(), "a program of the rootfs ran on the host");
    host::assert_nothing_left();

    let tools = bundle.host_dir("tools");
    std::os::unix::fs::symlink("/bin/true", tools.join("newgidmap")).expect("link");
    script(&bundle, &tools, "echo these words >&2; exit 3");
    let path = tools.to_str().expect("UTF-8");
    let output = bundle.call("run").env("PATH", path).run().fails("these words");
    assert!(output.stderr.contains("linux.uidMappings") && output.stderr.contains("newuidmap: exit status: 3"));
    host::assert_nothing_left();

    script(&bundle, &tools, "exec sleep 60");
    let path = format!("{path}:/usr/bin:/bin");
    bundle.call("run").env("PATH", &path).run().fails("newuidmap: did not end within 10 s");
    host::assert_nothing_left();
}

fn additional_groups_need_several_ids() {
    let user = json!({ "uid": 0, "gid": 0, "additionalGids": [0] });
    one().set("process.user", user).refused("cannot set any additional groups in a rootless container");
    if kind() != "runc" {
        let user = json!({ "uid": 0, "gid": 0, "additionalGids": [5, 100] });
        let container = several().set("process.user", user).create(probe!(sleep 60));
        container.start().ok();
        let status = container.proc_file("status");
        let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).expect("groups");
        let (first, second) = ((RANGE + 4).to_string(), (RANGE + 99).to_string());
        assert!(groups.contains(&first) && groups.contains(&second), "{groups}");
    }
}

fn without_a_user_namespace_it_is_refused() {
    let bundle = one().without_namespace("user").set("linux.uidMappings", Value::Null);
    bundle.set("linux.gidMappings", Value::Null).refused("rootless container requires user namespaces");
}

fn spec(words: &[&str]) -> Value {
    let directory = host::place().join("spec");
    std::fs::create_dir_all(&directory).expect("directory");
    user::give(&directory);
    let words: Vec<&str> = ["spec"].iter().chain(words).copied().collect();
    Call::new(words).as_user(true).cwd(&directory).run().ok();
    let text = std::fs::read_to_string(directory.join("config.json")).expect("config.json");
    serde_json::from_str(&text).expect("JSON")
}

/// As it is written, but for a terminal.
fn the_configuration_of_spec_rootless_runs() {
    let written = spec(&["--rootless"]);
    let bundle = one().config(|spec| *spec = written).set("process.terminal", json!(false));
    let answers = bundle.run(probe!(id; mkdir "/sys/fs/cgroup/new"; touch "/new"; ls "/sys/class/net")).ok().answers();
    assert_eq!(answers[0]["uid"], json!([0, 0, 0]));
    assert_eq!((&answers[1]["error"], &answers[2]["error"]), (&json!("EROFS"), &json!("EROFS")));
}

/// What of `runc spec --rootless` engines and users rely on, field by field.
fn spec_rootless_is_as_runcs() {
    need(Need::Ocirt, kind() != "crun");
    let written = spec(&["--rootless"]);
    let linux = &written["linux"];
    assert_eq!((&linux["uidMappings"], &linux["gidMappings"]), (&user::one_id(), &user::one_id()));
    assert!(linux.get("resources").is_none(), "{linux}");
    let has = |kind: &str| linux["namespaces"].as_array().expect("a list").iter().any(|entry| entry["type"] == kind);
    assert!(["pid", "ipc", "uts", "mount", "user"].into_iter().all(has) && !has("network"), "{linux}");
    let mounts = written["mounts"].as_array().expect("a list");
    let at = |path: &str| mounts.iter().rfind(|mount| mount["destination"] == path).expect(path);
    let options = json!(["rbind", "nosuid", "noexec", "nodev", "ro"]);
    assert_eq!(
        (&at("/sys")["type"], &at("/sys")["source"], &at("/sys")["options"]),
        (&json!("none"), &json!("/sys"), &options)
    );
    assert!(at("/sys/fs/cgroup")["options"].as_array().expect("a list").contains(&json!("ro")));
    let owners = mounts.iter().flat_map(|mount| mount["options"].as_array().into_iter().flatten());
    assert!(owners.filter_map(Value::as_str).all(|option| !option.starts_with("gid=")), "{mounts:?}");
}

/// Where the user has no cgroup of his own to make others in.
fn has_no_right_to_cgroups() {
    user::undelegate();
    need(Need::NoDelegation, !user::has_cgroup());
}

fn limits_without_a_right_to_cgroups_are_refused() {
    has_no_right_to_cgroups();
    one().set("linux.resources", json!({ "pids": { "limit": 20 } })).refused_as_ocirt("linux.resources");
    one().set("linux.cgroupsPath", json!(format!("/{}", host::tag()))).refused("permission denied");
    if kind() == "ocirt" {
        let output =
            one().set("linux.resources", json!({ "memory": { "limit": 20_000_000 } })).refused("permission denied");
        assert!(output.stderr.contains("linux.resources.memory.limit"), "{}", output.stderr);
        one().global(&["--rootless=false"]).refused("linux.cgroupsPath");
        one().global(&["--rootless", "true"]).run(probe!(print "it ran")).ok();
    }
}

fn without_a_right_to_cgroups_there_is_none() {
    has_no_right_to_cgroups();
    let container = one().create(probe!(spawn 60; sleep 60));
    container.start().ok();
    container.answers(1);
    let own = std::fs::read_to_string("/proc/self/cgroup").expect("cgroup");
    assert_eq!(container.proc_file("cgroup"), own, "it is where the runtime is");
    if kind() == "ocirt" {
        let processes = container.call(["ps", "--format=json", container.id()]).ok().json();
        let pids = processes.as_array().expect("pids");
        assert!(pids.len() == 2 && pids.contains(&json!(container.pid())), "{processes}");
        container.call(["pause", container.id()]).fails("cgroup");
        let pid = container.pid();
        container.call(["kill", "--all", container.id(), "KILL"]).ok();
        assert_eq!(host::reap(pid), 128 + 9);
        container.call(["kill", "--all", container.id(), "KILL"]).ok();
    }
}

/// CVE-2023-25809: with and without a cgroup namespace, by a mount of its own and by one of all of /sys.
fn the_hosts_cgroups_are_not_writable() {
    let tries =
        || probe!(mkdir "/sys/fs/cgroup/new"; mkdir "/sys/fs/cgroup/pids/new"; mkdir "/sys/fs/cgroup/unified/new");
    for namespaced in [true, false] {
        let bundle = if namespaced { one().namespace("cgroup", None) } else { one() };
        let bundle =
            bundle.mount("cgroup", "cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]);
        refuses(&bundle.run(tries()));
    }
    refuses(&shares_network(one()).run(tries()));
    if kind() == "ocirt" {
        let bind = shares_network(one()).config(|spec| {
            spec["mounts"].as_array_mut().expect("a list").retain(|mount| mount["destination"] != "/sys");
        });
        refuses(&bind.mount("none", "/sys", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]).run(tries()));
    }
}

#[track_caller]
fn refuses(output: &Output) {
    let answers = output.clone().ok().answers();
    assert!(!answers.is_empty(), "something was tried");
    for answer in answers {
        assert!(["EROFS", "ENOENT"].iter().any(|errno| answer["error"] == *errno), "{answer} {}", output.call);
    }
}

fn shares_network(bundle: Bundle) -> Bundle {
    bundle.without_namespace("network")
}

fn the_hosts_sys_is_shown_read_only() {
    let answers = shares_network(one())
        .run(probe!(mountof "/sys"; write "/sys/kernel/mm/new", "x"; ls "/sys/class/net"))
        .ok()
        .answers();
    assert_eq!(answers[0]["type"], "sysfs");
    let options = answers[0]["options"].to_string();
    assert!(["ro", "nosuid", "nodev", "noexec"].iter().all(|option| options.contains(option)), "{options}");
    assert!(answers[1]["error"].is_string(), "{}", answers[1]);
    let own: Vec<_> =
        std::fs::read_dir("/sys/class/net").expect("net").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(answers[2].as_array().expect("names").len(), own.len());
}

fn devices_are_the_hosts_and_usable() {
    let actions = probe!(write "/dev/null", "x"; stat "/dev/null"; read "/dev/zero"; mknod "/data/null", "c", "1", "3"; chown "/dev/null", "0", "0");
    let answers = one().run(actions).ok().answers();
    assert_eq!((&answers[0], &answers[1]["rdev"]), (&json!("ok"), &json!("1:3")));
    assert!(answers[2].is_string());
    assert_eq!((&answers[3]["error"], &answers[4]["error"]), (&json!("EPERM"), &json!("EPERM")));
}

fn what_only_root_may_raise_is_refused() {
    let own: i32 = std::fs::read_to_string("/proc/self/oom_score_adj").expect("score").trim().parse().expect("number");
    need(Need::OomScore, own > -1000);
    one().set("process.oomScoreAdj", json!(own - 1)).refused_as_ocirt("process.oomScoreAdj");
    let container = one().set("process.oomScoreAdj", json!(own + 1)).create(probe!(sleep 60));
    assert_eq!(container.proc_file("oom_score_adj").trim(), (own + 1).to_string());
    container.delete().ok();
    let limit = |hard: u64| json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": hard }]);
    one().set("process.rlimits", limit(1 << 40)).refused_as_ocirt("process.rlimits");
    let answer = one().set("process.rlimits", limit(200)).run(probe!(rlimits)).ok().answer();
    assert_eq!(answer["RLIMIT_NOFILE"], json!([100, 200]));
}

fn hooks_run_as_the_user() {
    let bundle = one();
    let mark = bundle.host_dir("marks").join("mark");
    let probe = host::probe().display().to_string();
    let hook = json!({ "path": probe, "args": ["probe", "touch", mark] });
    let bundle = bundle.hook("createRuntime", hook.clone());
    bundle.run(probe!(print "it ran")).ok();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&mark.metadata().expect("the hook's file")), USER);
}

fn masked_and_readonly_paths_hold() {
    let bundle = one().file("/secret", "42").set("linux.maskedPaths", json!(["/secret", "/proc/kcore"]));
    let bundle = bundle.set("linux.readonlyPaths", json!(["/data", "/proc/sys"]));
    let answers = bundle
        .run(probe!(read "/secret"; touch "/data/new"; write "/proc/sys/kernel/hostname", "x"; umount "/secret"))
        .ok()
        .answers();
    assert_eq!((answers.len(), &answers[0]), (4, &json!("")));
    assert!(answers[1..].iter().all(|answer| answer["error"].is_string()), "{answers:?}");
}

/// As rootless Podman calls the runtime: uid 0 in a user namespace with several ids, no other one in config.json.
fn root_of_a_user_namespace_runs_containers() {
    let script = host::place().join("inside");
    let program = runtime::program_of_user();
    let text =
        format!("#!/bin/sh\nexec unshare --user --mount --map-root-user --map-auto {} \"$@\"\n", program.display());
    std::fs::write(&script, text).expect("script");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let no_user = |bundle: Bundle| {
        let bundle = bundle.without_namespace("user").set("linux.uidMappings", Value::Null);
        bundle.set("linux.gidMappings", Value::Null)
    };
    let run = |bundle: Bundle, actions| {
        let bundle = no_user(bundle).write(actions);
        bundle.call("run").program(&script).run()
    };
    let actions = || probe!(id; read "/proc/self/uid_map"; write "/dev/null", "x"; mkdir "/sys/fs/cgroup/new");
    for bundle in [several(), several().set("process.user", json!({ "uid": 1000, "gid": 5 }))] {
        let answers = run(bundle, actions()).ok().answers();
        let words: Vec<_> = answers[1].as_str().expect("map").split_whitespace().collect();
        assert_eq!(words[..3], ["0", &USER.to_string(), "1"]);
        assert_eq!(answers[2], "ok");
        assert!(answers[3]["error"].is_string(), "{}", answers[3]);
    }
    if kind() == "ocirt" {
        // The host's network is another user namespace's: its sysfs cannot be mounted anew.
        let answers = run(shares_network(several()), actions()).ok().answers();
        assert_eq!(answers[3]["error"], "EROFS");
    }
    host::assert_nothing_left();
}
