//! A user namespace that is joined by its path, as in a pod: config-linux.md, "Namespaces"; user_namespaces(7).

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::host::{self, reap};
use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::runtime::kind;
use ocirt_integration::wait::eventually;
use ocirt_integration::{has, probe, tests, user};
use serde_json::{Value, json};

tests![
    a_user_namespace_can_be_joined_by_path,
    without_mappings_those_of_the_namespace_hold,
    mappings_beside_the_path_must_be_those_of_the_namespace,
    new_namespaces_belong_to_the_one_that_is_joined,
    a_pod_shares_user_network_ipc_and_uts,
    a_pid_namespace_of_a_third_user_namespace_is_joined,
    namespaces_of_both_the_host_and_the_user_namespace_are_joined,
    a_mount_namespace_is_joined_beside_it,
    an_exec_enters_it,
    files_of_the_host_are_out_of_reach,
    what_only_the_host_may_set_is_set,
    time_offsets_are_set_in_it,
    sources_are_opened_and_mapped_for_it,
    a_terminal_belongs_to_its_user,
    a_cgroup_that_is_given_to_its_user_is_entered,
    a_container_of_it_cannot_be_checkpointed,
];

pub const ROOT: u32 = 100_000;

/// A running container whose namespaces others join.
pub fn pause(bundle: Bundle) -> Container {
    let container = bundle.create(probe!(print "up"; sleep 60));
    container.start().ok();
    container.answers(1);
    container
}

pub fn donor() -> Container {
    pause(Bundle::new().user_namespace(ROOT).namespace("cgroup", None))
}

pub fn path(container: &Container, file: &str) -> String {
    format!("/proc/{}/ns/{file}", container.pid())
}

pub fn inode(container: &Container, file: &str) -> Value {
    json!(std::fs::read_link(path(container, file)).expect("ns").to_str())
}

/// In the user namespace of `donor`, with the mappings beside the path: so containerd and CRI-O write it.
pub fn member(donor: &Container) -> Bundle {
    Bundle::new().user_namespace(ROOT).namespace("user", Some(&path(donor, "user")))
}

pub fn without_maps(bundle: Bundle) -> Bundle {
    bundle.set("linux.uidMappings", Value::Null).set("linux.gidMappings", Value::Null)
}

/// A user namespace that a process of the test has made.
pub struct Made(Child);

impl Made {
    pub fn new(flags: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        if user::has_suite() {
            command.uid(user::USER).gid(user::USER);
        }
        let child = command.arg("--user").args(flags).args(["sleep", "60"]).spawn().expect("unshare");
        let made = Self(child);
        let own = std::fs::read_link("/proc/self/ns/user").expect("ns");
        eventually("it is in the namespace", || std::fs::read_link(made.path("user")).is_ok_and(|ns| ns != own));
        made
    }

    pub fn write(self, file: &str, text: &str) -> Self {
        std::fs::write(format!("/proc/{}/{file}", self.0.id()), text).expect("map");
        self
    }

    pub fn path(&self, kind: &str) -> String {
        format!("/proc/{}/ns/{kind}", self.0.id())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Joins these namespaces of `donor` as well.
pub fn sharing(mut bundle: Bundle, donor: &Container, kinds: &[(&str, &str)]) -> Bundle {
    for (word, file) in kinds {
        bundle = bundle.namespace(word, Some(&path(donor, file)));
        if *word == "uts" {
            bundle = bundle.set("hostname", Value::Null);
        }
    }
    bundle
}

fn a_user_namespace_can_be_joined_by_path() {
    let donor = donor();
    let output = member(&donor).run(probe!(ns; id; read "/proc/self/uid_map"; caps)).ok();
    let answers = output.answers();
    assert_eq!(answers[0]["user"], inode(&donor, "user"));
    for other in ["pid", "net", "ipc", "uts", "mnt"] {
        assert_ne!(answers[0][other], inode(&donor, other), "{other}");
    }
    assert_eq!((&answers[1]["uid"], &answers[1]["gid"]), (&json!([0, 0, 0]), &json!([0, 0, 0])));
    let map: Vec<_> = answers[2].as_str().expect("map").split_whitespace().map(str::to_owned).collect();
    assert_eq!(map, ["0", "100000", "65536"]);
    assert!(has(&answers[3]["effective"], "CAP_CHOWN") && !has(&answers[3]["bounding"], "CAP_SYS_ADMIN"));
}

/// As the specification has it: mappings and a path exclude each other.
fn without_mappings_those_of_the_namespace_hold() {
    let donor = donor();
    let user = json!({ "uid": 1000, "gid": 1001, "additionalGids": [7] });
    let container = without_maps(member(&donor)).set("process.user", user).create(probe!(id; sleep 60));
    container.start().ok();
    let answer = &container.answers(1)[0];
    assert_eq!((&answer["uid"][0], &answer["gid"][0], &answer["groups"]), (&json!(1000), &json!(1001), &json!([7])));
    let status = container.proc_file("status");
    assert!(status.contains("Uid:\t101000\t101000") && status.contains("Gid:\t101001\t101001"), "{status}");
    // Whoever made it is gone, and it is the engine's child as any other.
    end(container);
    let user = json!({ "uid": 65_536, "gid": 0 });
    let refused = without_maps(member(&donor)).set("process.user", user).run(probe!(print "it ran"));
    refused.fails("process.user.uid");
}

fn mappings_beside_the_path_must_be_those_of_the_namespace() {
    let donor = donor();
    let other = json!([{ "containerID": 0, "hostID": 200_000, "size": 65_536 }]);
    for field in ["uidMappings", "gidMappings"] {
        let bundle = member(&donor).set(&format!("linux.{field}"), other.clone());
        let output = bundle.run(probe!(print "it ran"));
        output.fails(&format!("linux.{field}: not those of the user namespace"));
    }
    member(&donor).set("linux.gidMappings", Value::Null).run(probe!(print "it ran")).ok();
    // Podman's, for the runtimes that want any: no mapping of the namespace's.
    let none = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
    let bundle = member(&donor).set("linux.uidMappings", none.clone()).set("linux.gidMappings", none);
    let map = bundle.run(probe!(read "/proc/self/uid_map")).ok().answer();
    assert!(map.to_string().contains("100000"), "{map}");
}

/// The user namespace that owns the namespace at `path`: ioctl_ns(2).
pub fn owner(path: &str) -> String {
    let file = File::open(path).expect("ns");
    // SAFETY: NS_GET_USERNS takes no argument.
    let fd = unsafe { libc::ioctl(file.as_raw_fd(), libc::NS_GET_USERNS) };
    assert!(fd >= 0, "{path}: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just made it for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    link(fd.as_fd())
}

fn link(fd: BorrowedFd) -> String {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("link").display().to_string()
}

fn new_namespaces_belong_to_the_one_that_is_joined() {
    let donor = donor();
    let mut bundle = member(&donor).namespace("cgroup", None);
    let mut kinds = vec!["pid", "net", "ipc", "uts", "mnt", "cgroup"];
    if kind() == "ocirt" && Path::new("/proc/self/ns/time").exists() {
        bundle = bundle.namespace("time", None);
        kinds.push("time");
    }
    let container = pause(bundle);
    for kind in kinds {
        assert_eq!(json!(owner(&path(&container, kind))), inode(&donor, "user"), "{kind}");
        assert_ne!(inode(&container, kind), inode(&donor, kind), "{kind}");
    }
}

fn a_pod_shares_user_network_ipc_and_uts() {
    let infra = pause(Bundle::new().user_namespace(ROOT).set("hostname", json!("pod")));
    let shared = [("network", "net"), ("ipc", "ipc"), ("uts", "uts")];
    let member = || sharing(member(&infra), &infra, &shared).namespace("cgroup", None);
    let answers = member().run(probe!(ns; uname; read "/sys/class/net/lo/flags"; mountof "/sys"; ls "/proc"));
    let answers = answers.ok().answers();
    for kind in ["user", "net", "ipc", "uts"] {
        assert_eq!(answers[0][kind], inode(&infra, kind), "{kind}");
    }
    for kind in ["pid", "mnt", "cgroup"] {
        assert_ne!(answers[0][kind], inode(&infra, kind), "{kind}");
    }
    assert_eq!((&answers[1]["hostname"], &answers[2]), (&json!("pod"), &json!("0x9\n")));
    assert_eq!(answers[3]["type"], "sysfs");
    assert!(has(&answers[4], "1") && !has(&answers[4], &infra.pid().to_string()));
    // With shareProcessNamespace, the pid namespace as well.
    let container = pause(sharing(member(), &infra, &[("pid", "pid")]));
    assert_eq!(inode(&container, "pid"), inode(&infra, "pid"));
    end(container);
    assert_eq!(infra.status(), "running");
}

/// Nobody in the one user namespace has a right to the other's, so it is joined before, and no procfs can be made of it.
fn a_pid_namespace_of_a_third_user_namespace_is_joined() {
    // A range that no user has.
    need_root();
    let (donor, third) = (donor(), pause(Bundle::new().user_namespace(300_000)));
    let proc = json!({ "source": "/proc", "destination": "/proc", "options": ["rbind"] });
    let bundle = || member(&donor).namespace("pid", Some(&path(&third, "pid")));
    let answers = bundle().config(|spec| spec["mounts"][0] = proc).run(probe!(ns; print "it ran")).ok().answers();
    assert_eq!((&answers[0]["user"], &answers[1]), (&inode(&donor, "user"), &json!("it ran")));
    bundle()
        .run(probe!(print "it ran"))
        .fails("mounts[0]: mount proc on /proc (nosuid,noexec,nodev): fsconfig: operation not permitted");
}

/// The ones take the runtime's rights, and to the others the user namespace gives the right.
fn namespaces_of_both_the_host_and_the_user_namespace_are_joined() {
    need_root();
    let (inside, outside) = (donor(), pause(Bundle::new()));
    let bundle = sharing(member(&inside), &inside, &[("pid", "pid"), ("cgroup", "cgroup"), ("ipc", "ipc")]);
    let container = pause(sharing(bundle, &outside, &[("network", "net"), ("uts", "uts")]));
    for kind in ["user", "pid", "cgroup", "ipc"] {
        assert_eq!(inode(&container, kind), inode(&inside, kind), "{kind}");
    }
    for kind in ["net", "uts"] {
        assert_eq!(inode(&container, kind), inode(&outside, kind), "{kind}");
    }
    end(container);
    // Of a pid namespace of the host's, nobody mounts a procfs inside.
    let without_proc = |spec: &mut Value| {
        spec["mounts"].as_array_mut().expect("mounts").remove(0);
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
    };
    let bundle = sharing(member(&inside), &inside, &[("network", "net"), ("ipc", "ipc")]).config(without_proc);
    let container = pause(sharing(bundle, &outside, &[("pid", "pid")]));
    assert_eq!((inode(&container, "pid"), inode(&container, "user")), (inode(&outside, "pid"), inode(&inside, "user")));
    end(container);
}

fn a_mount_namespace_is_joined_beside_it() {
    let map = format!("0 {ROOT} 65536");
    let made = Made::new(&["--mount"]).write("uid_map", &map).write("gid_map", &map);
    let bundle = Bundle::new().user_namespace(ROOT).namespace("user", Some(&made.path("user")));
    let container = pause(bundle.namespace("mount", Some(&made.path("mnt"))));
    for kind in ["user", "mnt"] {
        let donors = std::fs::read_link(made.path(kind)).expect("ns");
        assert_eq!(inode(&container, kind), json!(donors), "{kind}");
    }
    end(container);
}

/// Kills and deletes it. A zombie would keep the first process of its pid namespace from ending.
fn end(container: Container) {
    let pid = container.pid();
    container.kill("KILL").ok();
    assert_eq!(reap(pid), 128 + 9);
    container.delete().ok();
}

fn an_exec_enters_it() {
    let infra = donor();
    let shared = [("network", "net"), ("ipc", "ipc"), ("uts", "uts")];
    let container = pause(sharing(member(&infra), &infra, &shared));
    let flags = ["--user", "1000:1000"];
    let args = probe!(id; ns; read "/proc/self/gid_map");
    let answers = super::exec::exec(&container, &flags, args.clone()).run().ok().answers();
    assert_eq!((&answers[0]["uid"][0], &answers[0]["gid"][0]), (&json!(1000), &json!(1000)));
    for kind in ["user", "pid", "net", "ipc", "uts", "mnt"] {
        assert_eq!(answers[1][kind], inode(&container, kind), "{kind}");
    }
    assert!(answers[2].to_string().contains("100000"), "{}", answers[2]);
    let caps = super::exec::exec(&container, &[], probe!(caps)).run().ok().answer();
    assert!(has(&caps["effective"], "CAP_CHOWN") && !has(&caps["bounding"], "CAP_SYS_ADMIN"));
    let output = super::exec::exec(&container, &["--user", "65536"], args).run();
    assert_ne!(output.status, 0);
}

fn files_of_the_host_are_out_of_reach() {
    let all = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_CHOWN", "CAP_MKNOD", "CAP_SYS_CHROOT"]);
    let donor = donor();
    let bundle =
        member(&donor).set("process.capabilities", json!({ "bounding": all, "effective": all, "permitted": all }));
    let file = bundle.dir.join("file");
    std::fs::write(&file, "the host's").expect("file");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let source = file.to_str().expect("UTF-8").to_owned();
    let bundle = bundle.mount("bind", &source, "/etc/file", &["bind", "rw"]);
    let answers = bundle.run(probe!(
        read "/etc/file"; write "/etc/file", "mine"; chown "/etc/file", 0, 0; stat "/etc/file"; mknod "/data/kmsg", "c", "1:11", "666";
        write "/proc/sys/kernel/core_pattern", "mine"
    ));
    let answers = answers.ok().answers();
    assert_eq!((&answers[0], &answers[1]["error"]), (&json!("the host's"), &json!("EACCES")));
    assert_eq!((&answers[2]["error"], &answers[3]["uid"]), (&json!("EPERM"), &json!(65_534)));
    assert!(answers[4]["error"].is_string() && answers[5]["error"].is_string(), "{answers:?}");
    assert_eq!(std::fs::read_to_string(&file).expect("file"), "the host's");
}

fn what_only_the_host_may_set_is_set() {
    let donor = donor();
    let bundle = member(&donor)
        .set("process.rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]))
        .set("process.oomScoreAdj", json!(500))
        .set("linux.sysctl", json!({ "net.ipv4.ping_group_range": "0 100" }))
        .hook("createRuntime", json!({ "path": "/bin/true" }));
    let answers =
        bundle.run(probe!(rlimits; read "/proc/self/oom_score_adj"; read "/proc/sys/net/ipv4/ping_group_range"));
    let answers = answers.ok().answers();
    assert_eq!(answers[0]["RLIMIT_NOFILE"], json!([100, 200]), "{}", answers[0]);
    assert_eq!((&answers[1], &answers[2]), (&json!("500\n"), &json!("0\t100\n")));
}

fn time_offsets_are_set_in_it() {
    need(Need::TimeNamespaces, Path::new("/proc/self/ns/time").exists());
    let donor = donor();
    let offsets = json!({ "boottime": { "secs": 200_000 } });
    let bundle = member(&donor).namespace("time", None).set("linux.timeOffsets", offsets);
    let inside = bundle.run(probe!(clocks)).ok().answer();
    let outside = Command::new(host::probe()).arg("clocks").output().expect("probe").stdout;
    let outside: Value = serde_json::from_slice(&outside).expect("JSON");
    let difference = inside["boottime"].as_i64().expect("a number") - outside["boottime"].as_i64().expect("a number");
    assert!((200_000 - 20..=200_000).contains(&difference), "an offset of {difference} s");
}

/// The opener's part: the mappings that it works with are the namespace's.
fn sources_are_opened_and_mapped_for_it() {
    need_ocirt();
    let donor = donor();
    let bundle = without_maps(member(&donor));
    let private = bundle.host_dir("private");
    let source = bundle.host_dir("private/source");
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o700)).expect("chmod");
    std::fs::write(source.join("file"), "from outside").expect("file");
    let path = source.to_str().expect("UTF-8").to_owned();
    if user::has_suite() {
        // An ordinary user cannot look into an init that has joined it, and opens nothing for it.
        return drop(bundle.mount("bind", &path, "/mnt", &["bind"]).run(probe!(print "x")).fails("permission denied"));
    }
    let bundle = bundle.mount("bind", &path, "/mnt", &["bind"]).mount("bind", &path, "/mapped", &["bind", "idmap"]);
    let answers = bundle.run(probe!(read "/mnt/file"; stat "/mnt/file"; stat "/mapped/file"; stat "/dev/null"));
    let answers = answers.ok().answers();
    assert_eq!((&answers[0], &answers[1]["uid"]), (&json!("from outside"), &json!(65_534)));
    assert_eq!((&answers[2]["uid"], &answers[3]["rdev"]), (&json!(0), &json!("1:3")));
}

fn a_terminal_belongs_to_its_user() {
    let donor = donor();
    let user = json!({ "uid": 1000, "gid": 1000 });
    let bundle = member(&donor).set("process.terminal", json!(true)).set("process.user", user);
    let (answer, _) = super::console::on_console(bundle, probe!(stat "/dev/console"; sleep 60));
    assert_eq!((&answer["uid"], &answer["kind"]), (&json!(1000), &json!("char")));
}

/// As Docker has it for a container that joins another one's namespaces, with --userns-remap: a cgroup namespace of its
/// own and a writable mount give the cgroup to a user who could not have put init there (cgroups(7), "Delegation").
fn a_cgroup_that_is_given_to_its_user_is_entered() {
    need(Need::CgroupV2, host::is_cgroup2());
    need_root();
    let donor = donor();
    let bundle = sharing(member(&donor), &donor, &[("pid", "pid"), ("network", "net")]).namespace("cgroup", None);
    let bundle = bundle.mount("cgroup", "cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev"]);
    // Init is not the only process of the cgroup while it is made (docs/runc-behavior.md).
    let container = pause(bundle.set("linux.resources.pids", json!({ "limit": 4 })));
    let cgroup = container.cgroup("");
    let owner = |name: &str| std::fs::metadata(cgroup.join(name)).expect("cgroup").uid();
    assert_eq!(["", "cgroup.procs", "pids.max"].map(owner), [ROOT, ROOT, 0]);
    assert!(cgroup.to_string_lossy().contains(container.id()), "{}", cgroup.display());
    end(container);
}

fn a_container_of_it_cannot_be_checkpointed() {
    need_ocirt();
    need_root();
    let donor = donor();
    let container = pause(member(&donor));
    let image = container.bundle.host_dir("image");
    let words = "linux.namespaces: a user namespace that is joined by path cannot be restored";
    container.call(["checkpoint", "--image-path", image.to_str().expect("UTF-8"), container.id()]).fails(words);
    assert_eq!(container.status(), "running");
}
