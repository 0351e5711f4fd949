//! A runtime that hangs: what it was asked for has an end, and so has it.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::{World, until};

/// A client's time limit.
const LIMIT: Duration = Duration::from_millis(300);

/// Processes of the runtime.
fn hanging(world: &World) -> usize {
    let name = world.bundle().display().to_string();
    let children = Command::new("pgrep").args(["-P", &world.shim_pid().to_string(), "-f", "sleep 1000.75"]).output();
    assert!(fs::exists(name).unwrap());
    String::from_utf8(children.unwrap().stdout).unwrap().lines().count()
}

#[test]
fn a_runtime_that_hangs_is_ended_with_its_clients_time() {
    let mut world = World::new("exec sleep 1000.625");
    world.start().unwrap();
    world.create("").unwrap();
    for method in ["Start", "Delete"] {
        world.write("hangs", &method.to_lowercase());
        let begun = Instant::now();
        assert!(world.init_within(method, LIMIT).is_err());
        assert!(begun.elapsed() < Duration::from_secs(10), "{method}: {:?}", begun.elapsed());
        until("the runtime is gone", || hanging(&world) == 0);
        fs::remove_file(world.bundle().join("hangs")).unwrap();
        world.init(method).unwrap();
        if method == "Start" {
            world.init_kill();
            assert_eq!(world.wait(), 137);
        }
    }
}

/// A runtime that is ended when its process is there: the exec would go on, with nobody to wait for it, or to end it.
#[test]
fn an_exec_whose_runtime_is_ended_too_late_is_ended_as_well() {
    let mut world = World::new("exec sleep 1000.625");
    world.write("exec", "exec sleep 1000.375");
    world.write("lingers", "");
    world.start().unwrap();
    world.create("").unwrap();
    world.init("Start").unwrap();
    let init: u32 = world.read("bundle/init.pid").parse().unwrap();
    let error = world.exec_within("e", "{}", Duration::from_secs(2)).unwrap_err();
    assert!(error.message.starts_with("OCI runtime exec failed: "), "{error:?}");
    assert!(world.bundle().join("lingers.now").exists(), "it had made its process");
    until("init is alone", || world.children() == [init]);
    assert!(!world.bundle().join("exec-e.pid").exists());
    world.init_kill();
    world.wait();
    world.init("Delete").unwrap();
}

/// After five seconds containerd kills `delete`, and the runtime went on without it.
#[test]
fn a_delete_of_containerds_is_not_held_up_by_a_runtime_that_hangs() {
    let world = World::new("true");
    let bundle = world.bundle();
    let program = world.directory.join("runtime");
    let note = format!(r#"{{"binary":{program:?},"root":{:?},"systemd":false}}"#, world.directory.join("state"));
    world.write("ocirt-shim.json", &note);
    fs::create_dir_all(world.directory.join("state/c")).unwrap();
    world.write("hangs", "delete");
    let delete = || {
        let mut delete = Command::new(env!("CARGO_BIN_EXE_containerd-shim-ocirt-v2"));
        delete.args(["-namespace", "n", "-id", "c", "-address", "/none", "-bundle"]).arg(&bundle).arg("delete");
        delete.stdin(Stdio::null()).current_dir(&bundle).output().unwrap()
    };
    let begun = Instant::now();
    let output = delete();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "delete --force: not done within 4 seconds\n");
    fs::remove_file(bundle.join("hangs")).unwrap();
    assert!(delete().status.success());
    assert!(!fs::exists(world.directory.join("state/c")).unwrap());
}
