//! A process that is put beside a container, and that the container hinders on its way to its program: it is stopped, traced,
//! limited or signalled.

use super::exec::{exec, running};
use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{need_ocirt, need_root};
use ocirt_integration::runtime::{Running, call};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use serde_json::json;
use std::time::{Duration, Instant};

tests![
    a_stopped_exec_is_given_up_for_a_signal,
    a_stopped_maker_of_a_procfs_is_given_up,
    an_exec_that_is_limited_ends_and_hears_signals,
    an_exec_whose_end_is_kept_by_a_tracer_ends,
    an_early_signal_is_the_programs,
];

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
