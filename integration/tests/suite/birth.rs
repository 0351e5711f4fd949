//! What a container sees of a process that is put beside it: from the first moment on nothing but its own.

use super::exec::{exec, running};
use super::exec_life::snooped;
use super::inject::traced;
use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::races::{self, Usual};
use ocirt_integration::runtime::{Running, call};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

tests![
    an_exec_shows_nothing_of_the_host_to_root,
    an_exec_shows_nothing_of_the_host_to_one_who_may_trace,
    an_exec_shows_nothing_of_the_host_in_a_user_namespace,
    an_init_shows_nothing_of_the_host_in_a_shared_pid_namespace,
    an_init_shows_nothing_of_the_host_to_one_who_may_trace,
    an_init_shows_nothing_of_the_host_in_a_shared_user_namespace,
    an_init_shows_nothing_of_the_host_from_a_user_namespace_of_its_own,
    an_exec_joins_nothing_once_it_is_born,
    nothing_comes_between_new_ids_and_undumpable,
];

const USUAL: Usual = Usual { rounds: 200, time: Duration::from_secs(12) };

/// A mount that only the host has, as long as the test runs.
struct Mark(PathBuf);

impl Mark {
    fn make() -> Self {
        let place = host::place().join("of-the-host");
        std::fs::create_dir_all(&place).expect("directory");
        let status = std::process::Command::new("mount").args(["-t", "tmpfs", "of-the-host"]).arg(&place).status();
        assert!(status.is_ok_and(|status| status.success()), "no mount");
        Mark(place)
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

/// The host's namespaces, but for those that the container has too.
fn of_the_host(container: &Container) -> Vec<String> {
    let link = |pid: &str, kind: &str| {
        std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("namespace").display().to_string()
    };
    let pid = container.pid().to_string();
    let kinds = ["mnt", "net", "ipc", "uts", "user", "cgroup"];
    let pairs = kinds.map(|kind| (link("self", kind), link(&pid, kind)));
    pairs.into_iter().filter(|(own, its)| own != its).map(|(own, _)| own).collect()
}

/// A container that watches, from a process that an exec has put there.
struct Watched {
    container: Container,
    _mark: Mark,
    watcher: Running,
}

impl Watched {
    fn new(bundle: Bundle) -> Self {
        let (count, time) = races::bounds(&USUAL);
        let container = bundle.start(probe!(sleep 6000));
        let (seconds, count) = (time.as_secs().to_string(), count.to_string());
        let mark = Mark::make();
        let mut words = vec!["/probe", "watch", &seconds, &count, mark.0.to_str().expect("UTF-8")];
        let namespaces = of_the_host(&container);
        words.extend(namespaces.iter().map(String::as_str));
        let args = words.into_iter().map(str::to_owned).collect();
        let watcher = exec(&container, &[], args).as_user(container.bundle.as_user()).spawn();
        eventually("the watcher looks", || watcher.stdout().contains("ready"));
        Self { container, _mark: mark, watcher }
    }

    /// Its own cgroup, and what it has seen: a line for each process.
    fn seen(self) -> (String, Vec<Value>) {
        let lines = self.watcher.stdout();
        let values: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let cgroup = values.get(1).and_then(Value::as_str).unwrap_or_default().to_owned();
        (cgroup, values.into_iter().filter(|seen| seen["wrong"].is_array()).collect())
    }
}

/// Execs all the time, while a process of the container watches.
pub fn watch_execs(bundle: Bundle) {
    let watched = Watched::new(bundle);
    let mut made = 0;
    for _ in races::rounds(&USUAL) {
        let flags = ["--env", "TOKEN=of-the-host"];
        let container = &watched.container;
        exec(container, &flags, probe!(print "x")).as_user(container.bundle.as_user()).run().ok();
        made += 1;
    }
    let (cgroup, seen) = watched.seen();
    judge(made, "ocirt:exec", &seen, &[cgroup]);
}

/// Nothing may be wrong about a process, and its cgroup is one of `cgroups`.
fn judge(made: u64, name: &str, seen: &[Value], cgroups: &[String]) {
    let early = seen.iter().filter(|seen| seen["name"] == name).count();
    println!("{made} made, {} seen, {early} before their program", seen.len());
    assert!(early > 0, "no process was seen before its program: {seen:?}");
    for seen in seen {
        assert_eq!(seen["wrong"], json!([]), "{seen}");
        assert!(cgroups.iter().any(|cgroup| seen["cgroup"] == cgroup.as_str()), "{seen} is none of {cgroups:?}");
    }
}

/// Creates all the time in the pid namespace of a container that watches.
fn watch_creates(spy: Bundle, victim: impl Fn(&Container) -> Bundle) {
    let watched = Watched::new(spy);
    let shared = format!("/proc/{}/ns/pid", watched.container.pid());
    let mut cgroups = Vec::new();
    for _ in races::rounds(&USUAL) {
        let victim = victim(&watched.container).namespace("pid", Some(&shared)).create(probe!(print "x"));
        let pid = victim.pid();
        cgroups.push(victim.proc_file("cgroup"));
        call(["delete", "--force", victim.id()]).ok();
        // The pid namespace ends with its last zombie.
        host::reap(pid);
    }
    let (_, seen) = watched.seen();
    judge(cgroups.len() as u64, "ocirt:init", &seen, &cgroups);
}

fn traces() -> Value {
    let traces = json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_KILL"]);
    json!({ "bounding": traces, "effective": traces, "permitted": traces })
}

fn an_init_shows_nothing_of_the_host_in_a_shared_pid_namespace() {
    watch_creates(Bundle::new(), |spy| Bundle::new().beside(spy.pid()));
}

fn an_init_shows_nothing_of_the_host_to_one_who_may_trace() {
    let spy = Bundle::new().set("process.capabilities", traces());
    watch_creates(spy, |spy| Bundle::new().beside(spy.pid()));
}

fn an_init_shows_nothing_of_the_host_in_a_shared_user_namespace() {
    watch_creates(snooped(), |spy| {
        let user = format!("/proc/{}/ns/user", spy.pid());
        let victim = Bundle::new().user_namespace(100_000).namespace("user", Some(&user));
        victim.set("linux.uidMappings", Value::Null).set("linux.gidMappings", Value::Null)
    });
}

fn an_init_shows_nothing_of_the_host_from_a_user_namespace_of_its_own() {
    need_root();
    // It has no right to a procfs of the host's pid namespace, nor of one that the host's user namespace owns.
    let proc = json!({ "source": "/proc", "destination": "/proc", "options": ["rbind"] });
    watch_creates(Bundle::new(), |_| {
        Bundle::new().user_namespace(100_000).config(|spec| spec["mounts"][0] = proc.clone())
    });
}

fn an_exec_shows_nothing_of_the_host_to_root() {
    watch_execs(Bundle::new());
}

/// With CAP_SYS_PTRACE in the host's user namespace it sees whatever there is.
fn an_exec_shows_nothing_of_the_host_to_one_who_may_trace() {
    watch_execs(Bundle::new().namespace("cgroup", None).set("process.capabilities", traces()));
}

fn an_exec_shows_nothing_of_the_host_in_a_user_namespace() {
    watch_execs(snooped().namespace("cgroup", None));
}

/// Nor has it anything to join: what it was cloned with is what it keeps.
fn an_exec_joins_nothing_once_it_is_born() {
    need_ocirt();
    need(Need::Strace, std::process::Command::new("strace").arg("-V").output().is_ok());
    for bundle in [Bundle::new().namespace("cgroup", None), Bundle::new().user_namespace(100_000)] {
        let container = running(bundle);
        let (program, trace) = traced("-f -s 0");
        exec(&container, &[], probe!(print "x")).traced(&program).run().ok();
        let text = std::fs::read_to_string(&trace).expect("trace");
        let born =
            text.lines().find(|line| line.contains("CLONE_PARENT")).unwrap_or_else(|| panic!("nobody is born late"));
        let pid = trace_result(&text, born);
        let own = text.lines().filter(|line| line.split_whitespace().next() == Some(pid.as_str()));
        let own: Vec<_> = own.take_while(|line| !line.contains("execve(")).collect();
        assert!(own.len() > 5, "{own:?}");
        for line in own {
            for name in ["setns(", "unshare(", "chroot(", "pivot_root(", "clone"] {
                assert!(!line.contains(name), "{line}");
            }
        }
        call(["delete", "--force", container.id()]).ok();
    }
}

/// With fs.suid_dumpable at 1, which is the host's to set, each change of ids makes a process dumpable.
fn nothing_comes_between_new_ids_and_undumpable() {
    need_ocirt();
    need(Need::Strace, std::process::Command::new("strace").arg("-V").output().is_ok());
    let user = json!({ "uid": 1000, "gid": 1000, "additionalGids": [27] });
    for in_user_namespace in [false, true] {
        let bundle = || {
            let bundle = Bundle::new().set("process.user", user.clone());
            if in_user_namespace { bundle.user_namespace(100_000) } else { bundle }
        };
        let (program, trace) = traced("-f -s 0");
        bundle().write(probe!(print "x")).call("run").traced(&program).run().ok();
        // Init is dumpable until its id maps are written.
        changes_end_undumpable(&trace, |calls| calls.skip_while(|call| !is_undumpable(call)).collect());
        let container = running(bundle());
        exec(&container, &[], probe!(print "x")).traced(&program).run().ok();
        changes_end_undumpable(&trace, |calls| calls.collect());
        call(["delete", "--force", container.id()]).ok();
    }
}

/// Whether it ends on the line or, after another process's, on a later one.
fn is_undumpable(call: &&str) -> bool {
    call.starts_with("prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE")
}

/// Each change of the user id among those calls of a process that are `chosen`.
fn changes_end_undumpable<'a>(trace: &Path, chosen: impl Fn(&mut dyn Iterator<Item = &'a str>) -> Vec<&'a str>) {
    let text: &'a str = std::fs::read_to_string(trace).expect("trace").leak();
    // A call that another process's interrupts has a second line, `<... name resumed>`, which is no call.
    let begun = text.lines().filter(|line| !line.contains(" <... "));
    let lines: Vec<_> = begun.filter_map(|line| line.split_once(' ')).collect();
    let pids: BTreeSet<_> = lines.iter().map(|(pid, _)| *pid).collect();
    let mut changes = 0;
    for pid in pids {
        let calls = chosen(&mut lines.iter().filter(|(other, _)| *other == pid).map(|(_, call)| call.trim_start()));
        for pair in calls.windows(2).filter(|pair| pair[0].starts_with("setresuid(")) {
            changes += 1;
            assert!(is_undumpable(&pair[1]), "{pid}: {pair:?} in\n{text}");
        }
    }
    assert!(changes > 0, "nobody has changed its ids in\n{text}");
}

/// What the call of this line of a trace returned, which may be on a later one.
fn trace_result(text: &str, line: &str) -> String {
    let caller = line.split_whitespace().next().unwrap_or_default();
    let resumed = |other: &&str| other.starts_with(caller) && other.contains("clone resumed");
    let whole = if line.contains("unfinished") { text.lines().find(resumed).unwrap_or_default() } else { line };
    whole.rsplit_once("= ").map(|(_, pid)| pid.trim().to_owned()).unwrap_or_default()
}
