//! Checkpoint and restore: what the runtime is called with is in `call::checkpoint`; here is what comes of it.

use std::fs;

use containerd_shim_ocirt::api::known::{Any, Empty};
use containerd_shim_ocirt::api::options::CheckpointOptions;
use containerd_shim_ocirt::api::task::{CheckpointTaskRequest, CreateTaskRequest};
use containerd_shim_ocirt::wire::status::Status;

use crate::world::World;

fn checkpoint(world: &World, options: &CheckpointOptions) -> Result<(), Status> {
    let path = world.directory.join("images").display().to_string();
    let request = CheckpointTaskRequest { id: "c".to_owned(), path, options: Some(Any::pack(options)) };
    world.call::<_, Empty>("Checkpoint", &request).map(drop)
}

#[test]
fn a_checkpoint_leaves_no_working_files_and_of_a_failure_the_log() {
    let mut world = World::new("exec sleep 1000.5");
    world.start().unwrap();
    world.create("").unwrap();
    world.init("Start").unwrap();
    let work = world.bundle().join("criu-work");
    fs::create_dir(&work).unwrap();
    checkpoint(&world, &CheckpointOptions::default()).unwrap();
    assert!(!work.exists());
    let directory = world.directory.display();
    let expected = format!(
        "checkpoint --image-path {directory}/images --work-path {directory}/bundle/criu-work --leave-running -- c"
    );
    assert!(world.read("bundle/calls").lines().any(|line| line == expected), "{}", world.read("bundle/calls"));

    world.write("refuse", "");
    fs::create_dir(&work).unwrap();
    fs::write(work.join("dump.log"), "why").unwrap();
    let error = checkpoint(&world, &CheckpointOptions::default()).unwrap_err();
    let log = world.bundle().join("criu-dump.log");
    assert_eq!(error.message, format!("criu failed; CRIU's log is {}", log.display()));
    assert_eq!((fs::read_to_string(log).unwrap().as_str(), work.exists()), ("why", false));

    // The client's own directory is not touched.
    let own = world.directory.join("own");
    fs::create_dir(&own).unwrap();
    fs::write(own.join("dump.log"), "why").unwrap();
    let work_path = own.display().to_string();
    let error = checkpoint(&world, &CheckpointOptions { work_path, ..CheckpointOptions::default() }).unwrap_err();
    assert_eq!(error.message, format!("criu failed; CRIU's log is {}", own.join("dump.log").display()));
    assert!(own.join("dump.log").exists());
    world.init_kill();
    world.wait();
    world.init("Delete").unwrap();
}

#[test]
fn a_container_that_begins_as_a_checkpoint_is_restored_at_start() {
    let mut world = World::new("sleep 0.2; echo restored; exit 6");
    world.start().unwrap();
    let log = world.directory.join("log");
    let request = CreateTaskRequest {
        checkpoint: "/images".to_owned(),
        stdout: format!("file://{}", log.display()),
        ..world.request()
    };
    world.create_as(&request).unwrap();
    assert!(!world.bundle().join("calls").exists(), "nothing before Start");
    assert_eq!(world.run(), 6);
    assert_eq!(world.read("log"), "restored\n");
    let calls = world.read("bundle/calls");
    assert!(calls.starts_with("restore --image-path /images --work-path "), "{calls}");
}

#[test]
fn one_that_is_never_started_can_be_deleted() {
    let mut world = World::new("true");
    world.start().unwrap();
    world.create_as(&CreateTaskRequest { checkpoint: "/images".to_owned(), ..world.request() }).unwrap();
    world.init("Delete").unwrap();
    assert!(world.init("State").is_err());
}
