//! Where fs.suid_dumpable is 1, each change of ids makes a process dumpable again (prctl(2), PR_SET_DUMPABLE): for its new
//! user, who may be one of the container's, it could be traced. The sysctl is the whole host's, so it is left alone: what the
//! kernel would do is done here by hand.

use std::os::fd::AsFd;

use serde_json::{Value, json};

use super::exec_order::exec_plan;
use super::order::other_pid_namespace;
use super::{default_config, in_user_namespace, planned, rich_config};
use crate::init::inside::{Inherited, Inside};
use crate::init::link;
use crate::init::step::{Planned, Step};
use crate::plan::Gate;
use crate::sys::proc_self::testing::{is_dumpable, make_dumpable};
use crate::sys::testing::{in_a_child, skip};
use crate::sys::{ids, process, signal};

fn changes_ids(planned: &Planned) -> bool {
    matches!(planned.step, Step::User(_) | Step::BecomeRoot(_))
}

/// Before it joins anything it is undumpable, and right behind every change of ids it is so again.
#[track_caller]
fn assert_undumpable(steps: &[Planned]) {
    let mut is_undumpable = false;
    for (at, planned) in steps.iter().enumerate() {
        if is_undumpable && changes_ids(planned) {
            let next = steps.get(at + 1).map(|next| &next.step);
            let words = next.map(ToString::to_string);
            assert!(matches!(next, Some(Step::UndumpableAgain)), "{} is followed by {words:?}", planned.step);
        }
        match planned.step {
            Step::Undumpable => is_undumpable = true,
            Step::Join(_) | Step::JoinInit(_) | Step::Birth | Step::EnterRootfs(_) | Step::User(_) => {
                assert!(is_undumpable, "{} while dumpable", planned.step);
            }
            _ => {}
        }
    }
    assert!(steps.iter().any(changes_ids));
}

/// Whatever changes the order of the last steps, besides the namespaces.
fn each_variant(config: &Value, check: impl Fn(&Value)) {
    for bits in 0..16 {
        let is = |bit: u32| bits >> bit & 1 == 1;
        let mut config = config.clone();
        config["process"]["noNewPrivileges"] = json!(is(0));
        config["process"]["terminal"] = json!(is(1));
        if is(2) {
            config["linux"]["seccomp"] = Value::Null;
        }
        if is(3) {
            config["process"]["capabilities"] = Value::Null;
            config["process"]["rlimits"] = Value::Null;
        }
        check(&config);
    }
}

fn check_lists(config: &Value) {
    each_variant(config, |config| {
        for gate in [Gate::Socket, Gate::Link] {
            assert_undumpable(&planned(config, gate).steps);
        }
        for is_scored_by_runtime in [true, false] {
            assert_undumpable(&exec_plan(config, is_scored_by_runtime).steps);
        }
    });
}

/// Without the namespace of this kind, or with another's.
fn with(config: &Value, kind: &str, path: Option<&str>) -> Value {
    let mut config = config.clone();
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != kind);
    namespaces.extend(path.map(|path| json!({ "type": kind, "path": path })));
    config
}

#[test]
fn nobody_stays_dumpable_behind_a_change_of_ids() {
    for config in [default_config(), rich_config(), in_user_namespace()] {
        check_lists(&config);
        check_lists(&with(&config, "pid", None));
        check_lists(&with(&config, "ipc", Some("/proc/self/ns/ipc")));
    }
}

#[test]
fn nor_in_a_pid_or_user_namespace_that_is_joined() {
    in_a_child(|| {
        let other = other_pid_namespace()?;
        let path = |kind: &str| format!("/proc/{}/ns/{kind}", other.pid);
        for config in [default_config(), rich_config(), in_user_namespace()] {
            check_lists(&with(&config, "pid", Some(&path("pid"))));
        }
        let joined = with(&in_user_namespace(), "user", Some(&path("user")));
        check_lists(&with(&joined, "pid", Some(&path("pid"))));
        process::pidfd_send_signal(other.pidfd.as_fd(), signal::KILL)?;
        Ok(())
    });
}

/// And the step does it, whatever the kernel has done: from the ids to the last of the capabilities it is undumpable.
#[test]
fn the_step_undoes_what_a_change_of_ids_does() {
    if ids::effective_uid() != 0 {
        return skip("root", "only root may change to any id");
    }
    for steps in [planned(&default_config(), Gate::Socket).steps, exec_plan(&default_config(), false).steps] {
        in_a_child(|| {
            let (_runtime, link) = link::pair()?;
            let mut inside = Inside::new(link, Inherited::default());
            let mut changes = 0;
            let first = steps.iter().position(|planned| matches!(planned.step, Step::BoundingSet(_)));
            for planned in steps.iter().skip(first.unwrap_or(steps.len())) {
                planned.step.run(&mut inside)?;
                if changes_ids(planned) {
                    changes += 1;
                    make_dumpable()?;
                    assert!(is_dumpable()?);
                    continue;
                }
                assert!(changes == 0 || !is_dumpable()?, "dumpable behind: {}", planned.step);
                if matches!(planned.step, Step::Capabilities(_)) {
                    break;
                }
            }
            assert_eq!(changes, 1);
            Ok(())
        });
    }
}
