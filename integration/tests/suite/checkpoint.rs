//! `checkpoint` and `restore`: a container goes on where it was saved, and shows no more of the host than before.

use super::exec::exec;
use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::criu::{
    assert_counts_on, checkpoint, count, counting, has_feature, images, required, restore, restore_call, save,
    with_criu,
};
use ocirt_integration::needs::{Need, need, need_ocirt};
use ocirt_integration::runtime::{Call, call};
use ocirt_integration::terminal::{Receiver, read_until};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::BufRead;
use std::path::Path;

tests![
    a_restored_container_goes_on,
    an_exec_into_a_restored_container_has_its_time,
    a_container_that_is_left_running_goes_on,
    a_paused_container_is_saved_and_stays_paused,
    a_pre_dump_saves_what_changed,
    a_pre_dump_that_the_kernel_cannot_do_is_refused,
    standard_output_is_the_restoring_runtimes,
    a_terminal_goes_to_the_console_socket,
    a_foreground_restore_follows_the_container,
    a_restored_container_is_in_its_cgroup,
    cgroup_mounts_are_restored,
    a_joined_network_namespace_is_joined_again,
    a_user_namespace_is_refused,
    hooks_run_at_restore,
    a_failing_hook_undoes_the_restore,
];

fn mounts_of(container: &Container) -> String {
    container.proc_file("mountinfo")
}

fn a_restored_container_goes_on() {
    required();
    let container = counting(Bundle::new());
    let pid_file = host::place().join("pid");
    for _ in 0..2 {
        let (old, before) = (container.pid(), save(&container, &[]));
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(count(&container.bundle), before, "a saved container stands still");
        let flags = ["--detach", "-no-subreaper", "--pid-file", pid_file.to_str().expect("UTF-8")];
        restore_call(&container.bundle, &flags).run().ok();
        assert_counts_on(&container.bundle, before);
        let state = container.state();
        assert_eq!(
            (state["status"].as_str(), fs::read_to_string(&pid_file).ok()),
            (Some("running"), Some(container.pid().to_string()))
        );
        assert_ne!(container.pid(), old);
    }
    container.kill("KILL").ok();
    container.wait_for("stopped");
    container.delete().ok();
    host::assert_nothing_left();
}

/// CRIU makes one, so that the clocks of the container go on. Saved once more, it comes back.
fn an_exec_into_a_restored_container_has_its_time() {
    required();
    let container = counting(Bundle::new());
    for _ in 0..2 {
        let before = save(&container, &[]);
        restore(&container.bundle).ok();
        assert_counts_on(&container.bundle, before);
        let of_init = fs::read_link(format!("/proc/{}/ns/time", container.pid())).expect("time namespace");
        let answer = call(["exec", container.id(), "/probe", "ns"]).ok().answer();
        assert_eq!(answer["time"].as_str(), of_init.to_str());
    }
    call(["delete", "--force", container.id()]).ok();
}

fn a_container_that_is_left_running_goes_on() {
    required();
    let container = counting(Bundle::new());
    let pid = container.pid();
    // Podman says it twice.
    checkpoint(container.id(), &["--leave-running", "--leave-running"]).ok();
    assert_eq!((container.status().as_str(), container.pid()), ("running", pid));
    let before = count(&container.bundle);
    assert_counts_on(&container.bundle, before);
    assert!(images().join("pstree.img").exists());
    call(["delete", "--force", container.id()]).ok();
    // The count is in a file, which has gone on; the process has not.
    restore(&container.bundle).ok();
    eventually("it goes on from where it was saved", || count(&container.bundle) > before);
}

fn a_paused_container_is_saved_and_stays_paused() {
    required();
    let container = counting(Bundle::new());
    call(["pause", container.id()]).ok();
    let before = count(&container.bundle);
    checkpoint(container.id(), &["--leave-running"]).ok();
    assert_eq!((container.status().as_str(), count(&container.bundle)), ("paused", before));
    call(["resume", container.id()]).ok();
    assert_counts_on(&container.bundle, before);
    call(["pause", container.id()]).ok();
    let before = save(&container, &[]);
    restore(&container.bundle).ok();
    assert_counts_on(&container.bundle, before);
}

fn a_pre_dump_saves_what_changed() {
    required();
    need(Need::DirtyTracking, has_feature("mem_dirty_track"));
    let container = counting(Bundle::new());
    let (first, second) = (images().join("first"), images().join("second"));
    fs::create_dir_all(images()).expect("directory");
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    with_criu(Call::new(["checkpoint", "--pre-dump", "--image-path", &path(&first), container.id()])).run().ok();
    let before = count(&container.bundle);
    assert_counts_on(&container.bundle, before);
    let words = ["checkpoint", "--parent-path", "../first", "--image-path", &path(&second), container.id()];
    with_criu(Call::new(words)).run().ok();
    let before = count(&container.bundle);
    let bundle = path(&container.bundle.dir);
    let words = ["restore", "--detach", "--image-path", &path(&second), "--bundle", &bundle, container.id()];
    with_criu(Call::new(words)).run().ok();
    assert_counts_on(&container.bundle, before);
}

fn a_pre_dump_that_the_kernel_cannot_do_is_refused() {
    required();
    need(Need::NoDirtyTracking, !has_feature("mem_dirty_track"));
    let container = counting(Bundle::new());
    checkpoint(container.id(), &["--pre-dump"]).fails("criu is missing features");
    assert!(container.status() == "running");
    let before = count(&container.bundle);
    assert_counts_on(&container.bundle, before);
}

/// Numbers from a pipe, until there are `count`.
fn numbers(pipe: &mut std::io::PipeReader, count: usize) -> Vec<u32> {
    let mut lines = std::io::BufReader::new(pipe).lines();
    (0..count).map(|_| lines.next().expect("a line").expect("text").parse().expect("a number")).collect()
}

fn standard_output_is_the_restoring_runtimes() {
    required();
    need_ocirt();
    let bundle = Bundle::new().flags(&["--detach"]).write(probe!(tick 100000));
    let (mut reader, writer) = std::io::pipe().expect("pipe");
    bundle.call("run").stdout(writer).run().ok();
    let first = numbers(&mut reader, 5);
    assert_eq!(first, [1, 2, 3, 4, 5]);
    checkpoint(&bundle.id, &[]).ok();
    let rest = std::io::read_to_string(&mut reader).expect("the rest");
    let last: u32 = rest.lines().last().map_or(5, |line| line.parse().expect("a number"));
    let (mut reader, writer) = std::io::pipe().expect("pipe");
    restore_call(&bundle, &["--detach"]).stdout(writer).run().ok();
    let next = numbers(&mut reader, 3);
    assert!(next[0] == last + 1 && next[2] == last + 3, "{next:?} after {last}");
}

fn a_terminal_goes_to_the_console_socket() {
    required();
    let receiver = |name: &str| Receiver::new(&host::socket().with_extension(name));
    let (first, second) = (receiver("1"), receiver("2"));
    let flags = |receiver: &Receiver| ["--console-socket".to_owned(), receiver.path.display().to_string()];
    let create: Vec<String> = flags(&first).into();
    let bundle = Bundle::new().set("process.terminal", json!(true));
    let bundle = bundle.flags(&create.iter().map(String::as_str).collect::<Vec<_>>());
    let container = bundle.create(probe!(tick 100000));
    let mut master = File::from(first.receive().0);
    container.start().ok();
    read_until(&mut master, |text| text.lines().count() > 3);
    save(&container, &[]);
    drop(master);
    restore_call(&container.bundle, &["--detach"]).run().fails("console");
    let [flag, path] = flags(&second);
    restore_call(&container.bundle, &["--detach", &flag, &path]).run().ok();
    let mut master = File::from(second.receive().0);
    let text = read_until(&mut master, |text| text.lines().count() > 5);
    let numbers: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(numbers.len() > 3 && numbers.first() > Some(&3), "{text}");
    for receiver in [first, second] {
        let _ = fs::remove_file(receiver.path);
    }
}

fn a_foreground_restore_follows_the_container() {
    required();
    let container = counting(Bundle::new());
    let before = save(&container, &[]);
    let mut running = restore_call(&container.bundle, &[]).spawn();
    eventually("it is restored", || call(["state", container.id()]).status == 0 && container.status() == "running");
    assert_counts_on(&container.bundle, before);
    container.kill("KILL").ok();
    assert_eq!(running.finish().status, 128 + 9);
    call(["state", container.id()]).fails("does not exist");
    host::assert_nothing_left();
}

fn a_restored_container_is_in_its_cgroup() {
    required();
    let container = counting(Bundle::new().set("linux.resources.pids.limit", json!(77)));
    let limit = |container: &Container| match host::is_cgroup2() {
        true => container.cgroup_file("", "pids.max"),
        false => container.cgroup_file("pids", "pids.max"),
    };
    assert_eq!(limit(&container), "77");
    let cgroups = container.proc_file("cgroup");
    save(&container, &[]);
    restore(&container.bundle).ok();
    assert_eq!((limit(&container), container.proc_file("cgroup")), ("77".to_owned(), cgroups));
    // Nobody is left outside: it can be paused, and its processes are those of its cgroup.
    call(["pause", container.id()]).ok();
    let before = count(&container.bundle);
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(count(&container.bundle), before);
    call(["resume", container.id()]).ok();
    // And so are those that are put into it now.
    let inside = exec(&container, &[], probe!(read "/proc/self/cgroup")).run().ok().answer();
    assert_eq!(inside.as_str().map(str::trim), Some(container.proc_file("cgroup").trim()));
}

fn cgroup_mounts_are_restored() {
    required();
    for namespaced in [true, false] {
        let mut bundle =
            Bundle::new().mount("cgroup", "cgroup", "/sys/fs/cgroup", &["ro", "nosuid", "noexec", "nodev"]);
        if namespaced {
            bundle = bundle.namespace("cgroup", None);
        }
        let container = counting(bundle);
        let points = |container: &Container| {
            let text = mounts_of(container);
            // Mount point, flags, type: what does not depend on when it was mounted.
            let field = |line: &str, at| line.split(' ').nth(at).unwrap_or_default().to_owned();
            let mut all: Vec<_> = text.lines().map(|line| (field(line, 4), field(line, 5))).collect();
            all.sort();
            all
        };
        let before = points(&container);
        let counted = save(&container, &[]);
        restore(&container.bundle).ok();
        assert_counts_on(&container.bundle, counted);
        assert_eq!(points(&container), before, "namespaced: {namespaced}");
        call(["delete", "--force", container.id()]).ok();
        fs::remove_dir_all(images()).expect("images");
    }
}

fn a_joined_network_namespace_is_joined_again() {
    required();
    let other = counting(Bundle::new());
    let path = format!("/proc/{}/ns/net", other.pid());
    let namespace = |container: &Container| fs::read_link(format!("/proc/{}/ns/net", container.pid())).expect("ns");
    let bundle = Bundle::new().without_namespace("network").namespace("network", Some(&path));
    let container = counting(bundle);
    assert_eq!(namespace(&container), namespace(&other));
    checkpoint(container.id(), &[]).ok();
    let before = count(&container.bundle);
    restore(&container.bundle).ok();
    assert_counts_on(&container.bundle, before);
    assert_eq!(namespace(&container), namespace(&other));
}

/// CRIU, as the root of that namespace, may not read its own images: what could not be restored is not ended.
fn a_user_namespace_is_refused() {
    required();
    need_ocirt();
    let container = counting(Bundle::new().user_namespace(100_000));
    checkpoint(container.id(), &[]).fails("a container with a user namespace cannot be restored");
    let before = count(&container.bundle);
    assert_counts_on(&container.bundle, before);
}

fn hooks_run_at_restore() {
    required();
    let log = host::place().join("hooks");
    let hook = |name: &str| {
        let script = format!("echo {name} >> {}; cat >> {}.{name}", log.display(), log.display());
        json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] })
    };
    let bundle = Bundle::new().hook("prestart", hook("prestart")).hook("createRuntime", hook("createRuntime"));
    let container = counting(bundle.hook("poststop", hook("poststop")));
    let ran = || fs::read_to_string(&log).unwrap_or_default();
    assert_eq!(ran(), "prestart\ncreateRuntime\n");
    save(&container, &[]);
    assert_eq!(ran(), "prestart\ncreateRuntime\npoststop\n");
    for name in ["prestart", "createRuntime"] {
        fs::remove_file(log.with_extension(name)).expect("state of the hook");
    }
    restore(&container.bundle).ok();
    assert_eq!(ran(), "prestart\ncreateRuntime\npoststop\nprestart\ncreateRuntime\n");
    let state = fs::read(log.with_extension("prestart")).expect("state of the hook");
    let state: Value = serde_json::from_slice(&state).expect("JSON");
    assert_eq!((state["id"].as_str(), state["pid"].as_u64()), (Some(container.id()), Some(container.pid().into())));
}

fn a_failing_hook_undoes_the_restore() {
    required();
    let stop = host::place().join("stop");
    let script = format!("if [ -e {} ]; then echo no more >&2; exit 7; fi", stop.display());
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] });
    let after = host::place().join("after");
    let after = json!({ "path": "/bin/sh", "args": ["sh", "-c", format!("cat >> {}", after.display())] });
    let container = counting(Bundle::new().hook("createRuntime", hook).hook("poststop", after));
    let before = save(&container, &[]);
    // What the container's end was owed, which the checkpoint was.
    fs::remove_file(host::place().join("after")).expect("the poststop hook of the checkpoint");
    File::create(&stop).expect("file");
    let output = restore(&container.bundle).fails("hook");
    assert!(output.stderr.contains("no more"), "{}", output.stderr);
    // What engines' hooks took before this one is given back (runtime.md, "Lifecycle", step 12).
    let state = fs::read_to_string(host::place().join("after")).expect("the poststop hook of the restore");
    assert!(state.contains("\"stopped\""), "{state}");
    call(["state", container.id()]).fails("does not exist");
    host::assert_nothing_left();
    assert_eq!(count(&container.bundle), before);
    fs::remove_file(&stop).expect("file");
    restore(&container.bundle).ok();
    assert_counts_on(&container.bundle, before);
}
