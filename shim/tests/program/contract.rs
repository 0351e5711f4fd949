//! What containerd asks besides a container's life: services that there are not, and what the runtime can do.

use std::io::Write;
use std::process::{Command, Stdio};

use containerd_shim_ocirt::api::info::RuntimeInfo;
use containerd_shim_ocirt::api::known::{Any, Empty};
use containerd_shim_ocirt::api::options::{Options, RuntimeOptions};
use containerd_shim_ocirt::api::task::{ConnectResponse, ContainerRequest};
use containerd_shim_ocirt::wire::status::Code;
use prost::Message;

use crate::world::World;

/// containerd 2 takes version 2 of the task service instead of version 3 after this code, and podsandbox instead of the
/// sandbox service, and after no other.
#[test]
fn what_is_not_there_is_unimplemented() {
    let mut world = World::new("true");
    world.start().unwrap();
    let calls = [
        ("containerd.runtime.sandbox.v1.Sandbox", "CreateSandbox"),
        ("containerd.runtime.sandbox.v1.Sandbox", "Platform"),
        ("containerd.runtime.sandbox.v1.Sandbox", "PingSandbox"),
        ("containerd.task.v3.Task", "Fly"),
        ("containerd.task.v4.Task", "State"),
        ("", ""),
    ];
    for (service, method) in calls {
        let error = world.call_service::<_, Empty>(service, method, &Empty {}).unwrap_err();
        assert!(error.is(Code::Unimplemented), "{service} {method}: {error:?}");
    }
    for service in ["containerd.task.v2.Task", "containerd.task.v3.Task"] {
        let request = ContainerRequest { id: "unknown".to_owned() };
        let response: ConnectResponse = world.call_service(service, "Connect", &request).unwrap();
        assert_eq!((response.task_pid, response.shim_pid), (0, world.shim_pid()), "{service}");
    }
}

fn info(world: &World, options: Option<&Any>) -> Result<RuntimeInfo, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_containerd-shim-ocirt-v2"));
    command.arg("-info").env("PATH", format!("{}:/usr/bin:/bin", world.directory.display()));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let bytes = options.map(Message::encode_to_vec).unwrap_or_default();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(RuntimeInfo::decode(output.stdout.as_slice()).unwrap())
}

/// Runc's options, the options of any other runtime type, and none.
#[test]
fn the_runtime_that_the_options_name_is_asked_what_it_can_do() {
    let world = World::new("true");
    world.program("ocirt", "echo '{\"default\":true}'");
    let other = world.program("other", "echo '{\"other\":true}'");
    let features = |options: Option<&Any>| {
        let info = info(&world, options).unwrap();
        assert_eq!(info.options.as_ref(), options);
        String::from_utf8(info.features.unwrap().value).unwrap()
    };
    assert_eq!(
        features(Some(&Any::pack(&Options { binary_name: other.clone(), ..Options::default() }))),
        "{\"other\":true}\n"
    );
    let body = format!("BinaryName = {other:?}\n").into_bytes();
    let toml = RuntimeOptions { config_body: body.clone(), ..RuntimeOptions::default() };
    assert_eq!(features(Some(&Any::pack(&toml))), "{\"other\":true}\n");
    let file = world.directory.join("options.toml");
    std::fs::write(&file, body).unwrap();
    let named = RuntimeOptions { config_path: file.display().to_string(), ..RuntimeOptions::default() };
    assert_eq!(features(Some(&Any::pack(&named))), "{\"other\":true}\n");
    let wrong = RuntimeOptions { config_body: b"Binary = 1".to_vec(), ..RuntimeOptions::default() };
    let error = info(&world, Some(&Any::pack(&wrong))).unwrap_err();
    assert!(error.starts_with("options: line 1: unknown field `Binary`"), "{error}");
}

/// A client's JSON that is no process.
#[test]
fn a_process_that_is_no_object_is_refused_and_the_shim_goes_on() {
    let mut world = World::new("exec sleep 1000.75");
    world.start().unwrap();
    world.create("").unwrap();
    world.init("Start").unwrap();
    for (number, spec) in ["[]", "7", "null", "\"x\"", ""].into_iter().enumerate() {
        let error = world.exec(&format!("e{number}"), spec).unwrap_err();
        assert!(error.is(Code::InvalidArgument), "{spec}: {error:?}");
        assert!(error.message.starts_with("OCI runtime exec failed: process: "), "{spec}: {error:?}");
    }
    world.init_kill();
    assert_eq!(world.wait(), 137);
    world.init("Delete").unwrap();
}

/// Init's own pid file is what `delete` reads; and no word of a client is a flag.
#[test]
fn an_exec_is_not_taken_for_init_and_no_id_for_a_flag() {
    let mut world = World::new("exec sleep 1000.75");
    world.start().unwrap();
    world.create("").unwrap();
    world.init("Start").unwrap();
    let init = world.read("bundle/init.pid");
    world.write("exec", "exec sleep 2");
    world.exec("init", "{}").unwrap();
    assert_eq!(world.read("bundle/init.pid"), init);
    let error = world.exec("--pid-file", "{}").unwrap_err();
    assert!(error.is(Code::InvalidArgument), "{error:?}");
    world.init_kill();
    world.wait();
    world.init("Delete").unwrap();
    let calls = world.read("bundle/calls");
    assert!(calls.lines().all(|call| call.ends_with(" -- c")) && calls.lines().count() == 4, "{calls}");
}
