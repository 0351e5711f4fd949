//! What a container sees of a process that is put beside it: from the first moment on nothing but its own.

use super::exec::{exec, running};
use super::exec_life::snooped;
use super::inject::traced;
use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::runtime::{Running, call};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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
    a_stopped_exec_is_given_up_for_a_signal,
    a_stopped_maker_of_a_procfs_is_given_up,
    an_exec_that_is_limited_ends_and_hears_signals,
    an_exec_whose_end_is_kept_by_a_tracer_ends,
    an_early_signal_is_the_programs,
];

/// How often, and for how long at most; `OCIRT_BIRTHS` asks for more, within the life of the container.
fn rounds() -> (u64, Duration) {
    match std::env::var("OCIRT_BIRTHS").ok().and_then(|count| count.parse().ok()) {
        Some(count) => (count, Duration::from_secs(50)),
        None => (200, Duration::from_secs(12)),
    }
}

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
        let (count, time) = rounds();
        let container = running(bundle);
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
    let (count, time) = rounds();
    let begun = Instant::now();
    let watched = Watched::new(bundle);
    let mut made = 0;
    while made < count && begun.elapsed() < time {
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
    let (count, time) = rounds();
    let begun = Instant::now();
    let watched = Watched::new(spy);
    let shared = format!("/proc/{}/ns/pid", watched.container.pid());
    let mut cgroups = Vec::new();
    while (cgroups.len() as u64) < count && begun.elapsed() < time {
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

/// A process of the container stops the new one before its program runs.
fn a_stopped_exec_is_given_up_for_a_signal() {
    need_ocirt();
    let container = running(Bundle::new());
    let stopper = exec(&container, &[], probe!(stopearly 30)).spawn();
    eventually("the stopper waits", || stopper.stdout().contains("ready"));
    let mut stopped = loop {
        let mut one = exec(&container, &[], probe!(print "it ran")).spawn();
        let has_ended = |one: &mut Running| one.child.try_wait().expect("wait").is_some();
        eventually("it runs, or is stopped", || has_ended(&mut one) || stopper.stdout().contains("ocirt:exec"));
        if !has_ended(&mut one) {
            break one;
        }
    };
    let begun = Instant::now();
    // SAFETY: no memory is passed; the runtime is our child.
    unsafe { libc::kill(stopped.child.id() as i32, libc::SIGTERM) };
    let output = stopped.finish();
    assert!(output.status == 255 && begun.elapsed() < Duration::from_secs(8), "{output:?} {:?}", begun.elapsed());
    assert!(output.stderr.contains("signal 15 came while the process was set up"), "{output:?}");
    call(["delete", "--force", container.id()]).ok();
    host::assert_nothing_left();
}

/// A process of the joined pid namespace stops the one that makes the procfs there, and never lets it go on.
fn a_stopped_maker_of_a_procfs_is_given_up() {
    need_ocirt();
    need_root();
    let pod = running(Bundle::new());
    let shared = format!("/proc/{}/ns/pid", pod.pid());
    let begun = Instant::now();
    let refused = loop {
        // It may be stopped when it is done already, which the container survives.
        assert!(begun.elapsed() < Duration::from_secs(100), "no maker was stopped before it was done");
        let stopper = exec(&pod, &[], probe!(stopearly 60, "ocirt:procfs")).spawn();
        eventually("the stopper waits", || stopper.stdout().contains("ready"));
        let begun = Instant::now();
        let bundle = Bundle::new().namespace("pid", Some(&shared)).write(probe!(print "it ran"));
        let output = bundle.call("run").run();
        let is_stopped = stopper.stdout().contains("ocirt:procfs");
        host::kill_tree(stopper.child.id());
        if output.status != 0 {
            assert!(is_stopped, "{output:?}");
            assert!((9..16).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
            break output;
        }
    };
    let words = "poll: connection timed out (did a process of the joined pid namespace stop its maker?)";
    assert!(refused.stderr.contains(words), "{refused:?}");
    host::reap_all_but_init();
    call(["delete", "--force", pod.id()]).ok();
    host::assert_nothing_left();
}

/// A process without capabilities traces the program, which is its user's too, and does not let the runtime reap it.
fn an_exec_whose_end_is_kept_by_a_tracer_ends() {
    need_ocirt();
    let container = running(Bundle::new().set("process.capabilities", json!({})));
    let tracer = exec(&container, &[], probe!(seize 60)).spawn();
    eventually("the tracer waits", || tracer.stdout().contains("ready"));
    for is_asked in [false, true] {
        let seized = tracer.stdout().lines().count();
        let mut one = exec(&container, &[], probe!(sleep 2)).spawn();
        eventually("it is traced", || tracer.stdout().lines().count() > seized);
        let begun = Instant::now();
        if is_asked {
            eventually("it has ended", || host::descendants(one.child.id()).is_empty());
            // SAFETY: no memory is passed; the runtime is our child.
            unsafe { libc::kill(one.child.id() as i32, libc::SIGTERM) };
        }
        let output = one.finish();
        let most = if is_asked { 8 } else { 18 };
        assert!(begun.elapsed() < Duration::from_secs(most), "{:?} {output:?}", begun.elapsed());
        assert!(output.status == 255 && output.stderr.contains("another one traces it"), "{output:?}");
    }
    host::kill_tree(tracer.child.id());
    host::reap_all_but_init();
    call(["delete", "--force", container.id()]).ok();
    host::assert_nothing_left();
}

/// A process of the container takes the new one's limits away before its program runs: it becomes its program or fails.
fn an_exec_that_is_limited_ends_and_hears_signals() {
    need_ocirt();
    let limits = [
        libc::RLIMIT_CPU,
        libc::RLIMIT_NOFILE,
        libc::RLIMIT_AS,
        libc::RLIMIT_DATA,
        libc::RLIMIT_STACK,
        libc::RLIMIT_FSIZE,
        libc::RLIMIT_NPROC,
        libc::RLIMIT_SIGPENDING,
    ];
    for limit in limits {
        let limit = limit.to_string();
        let container = running(Bundle::new().set("process.rlimits", json!([])));
        let limiter = exec(&container, &[], probe!(limitearly 30, limit)).spawn();
        eventually("the limiter waits", || limiter.stdout().contains("ready"));
        let limited = || limiter.stdout().matches("\"ocirt:exec\"").count();
        for (program, is_ended) in [(probe!(print "it ran"), false), (probe!(print "it ran"; sleep 15), true)] {
            let before = limited();
            while limited() == before {
                let begun = Instant::now();
                let mut one = exec(&container, &[], program.clone()).spawn();
                if is_ended {
                    let has_ended = |one: &mut Running| one.child.try_wait().expect("wait").is_some();
                    let has_run = |one: &mut Running| has_ended(one) || one.stdout().contains("it ran");
                    eventually("it is limited, or runs", || has_run(&mut one) || limited() > before);
                    // SAFETY: no memory is passed; the runtime is our child.
                    unsafe { libc::kill(one.child.id() as i32, libc::SIGTERM) };
                }
                let output = one.finish();
                assert!(begun.elapsed() < Duration::from_secs(8), "limit {limit}: {output:?} {:?}", begun.elapsed());
                let words = output.stderr.lines().count();
                assert!(words <= 1 && !output.stderr.contains("panicked"), "limit {limit}: {output:?}");
            }
        }
        call(["delete", "--force", container.id()]).ok();
    }
    host::assert_nothing_left();
}

/// It ends the program, not its making.
fn an_early_signal_is_the_programs() {
    let container = running(Bundle::new());
    let mut statuses = Vec::new();
    for delay in [0, 300, 600, 1_000, 2_000, 4_000] {
        let mut process = exec(&container, &[], probe!(sleep 5)).spawn();
        std::thread::sleep(Duration::from_micros(delay));
        // SAFETY: no memory is passed; the runtime is our child.
        unsafe { libc::kill(process.child.id() as i32, libc::SIGTERM) };
        statuses.push(process.finish().status);
    }
    assert!(statuses.iter().all(|status| *status == 128 + libc::SIGTERM), "{statuses:?}");
}
