//! Every message against bytes that are put together here from field numbers, without prost: both ways.

mod metrics;

use std::collections::BTreeMap;
use std::fmt::Debug;

use prost::Message;

use super::known::{Any, Timestamp};
use super::{bootstrap, events, info, metrics_v1 as v1, metrics_v2 as v2, options, task};

/// A field's content: a number, a text or message, a double.
enum Content {
    N(u64),
    T(&'static str),
    M(Vec<u8>),
    F(f64),
}
use Content::{F, M, N, T};

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The fields as protobuf writes them.
fn bytes(fields: &[(u64, Content)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, content) in fields {
        let kind = match content {
            N(_) => 0,
            F(_) => 1,
            T(_) | M(_) => 2,
        };
        varint(number << 3 | kind, &mut out);
        let body = match content {
            N(value) => {
                varint(*value, &mut out);
                continue;
            }
            F(value) => {
                out.extend(value.to_le_bytes());
                continue;
            }
            T(text) => text.as_bytes(),
            M(message) => message,
        };
        varint(body.len() as u64, &mut out);
        out.extend(body);
    }
    out
}

/// The numbers from 1 to `last`, each with itself.
fn numbers(last: u64) -> Vec<(u64, Content)> {
    (1..=last).map(|number| (number, N(number))).collect()
}

fn same<M: Message + Default + PartialEq + Debug>(message: M, fields: &[(u64, Content)]) {
    let expected = bytes(fields);
    assert_eq!(message.encode_to_vec(), expected, "{message:?}");
    assert_eq!(M::decode(expected.as_slice()).unwrap(), message);
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn any() -> (Option<Any>, Content) {
    (Some(Any { type_url: text("u"), value: b"v".to_vec() }), M(bytes(&[(1, T("u")), (2, T("v"))])))
}

fn time() -> (Option<Timestamp>, Content) {
    (Some(Timestamp { seconds: 300, nanos: 7 }), M(bytes(&[(1, N(300)), (2, N(7))])))
}

fn mount() -> (task::Mount, Content) {
    let mount = task::Mount {
        r#type: text("overlay"),
        source: text("s"),
        target: text("t"),
        options: vec![text("ro"), text("nodev")],
    };
    (mount, M(bytes(&[(1, T("overlay")), (2, T("s")), (3, T("t")), (4, T("ro")), (4, T("nodev"))])))
}

fn map() -> (BTreeMap<String, String>, Content) {
    (BTreeMap::from([(text("k"), text("v"))]), M(bytes(&[(1, T("k")), (2, T("v"))])))
}

#[test]
fn the_helper_writes_what_is_written_here_in_full() {
    assert_eq!(bytes(&[(1, T("c")), (2, N(300)), (17, F(1.0))]), b"\x0a\x01c\x10\xac\x02\x89\x01\0\0\0\0\0\0\xf0\x3f");
}

#[test]
fn create() {
    let ((rootfs, mount), (options, any)) = (mount(), any());
    let request = task::CreateTaskRequest {
        id: text("c"),
        bundle: text("/b"),
        rootfs: vec![rootfs],
        terminal: true,
        stdin: text("i"),
        stdout: text("o"),
        stderr: text("e"),
        checkpoint: text("/k"),
        parent_checkpoint: text("/p"),
        options,
    };
    let fields = [
        (1, T("c")),
        (2, T("/b")),
        (3, mount),
        (4, N(1)),
        (5, T("i")),
        (6, T("o")),
        (7, T("e")),
        (8, T("/k")),
        (9, T("/p")),
        (10, any),
    ];
    same(request, &fields);
    same(task::CreateTaskResponse { pid: 7 }, &[(1, N(7))]);
}

#[test]
fn state_start_delete_and_wait() {
    same(task::ProcessRequest { id: text("c"), exec_id: text("e") }, &[(1, T("c")), (2, T("e"))]);
    let (exited_at, at) = time();
    let state = task::StateResponse {
        id: text("c"),
        bundle: text("/b"),
        pid: 7,
        status: task::Status::Stopped as i32,
        stdin: text("i"),
        stdout: text("o"),
        stderr: text("r"),
        terminal: true,
        exit_status: 137,
        exited_at,
        exec_id: text("e"),
    };
    let fields = [
        (1, T("c")),
        (2, T("/b")),
        (3, N(7)),
        (4, N(3)),
        (5, T("i")),
        (6, T("o")),
        (7, T("r")),
        (8, N(1)),
        (9, N(137)),
        (10, at),
        (11, T("e")),
    ];
    same(state, &fields);
    same(task::StartResponse { pid: 7 }, &[(1, N(7))]);
    let (exited_at, at) = time();
    same(task::DeleteResponse { pid: 7, exit_status: 3, exited_at }, &[(1, N(7)), (2, N(3)), (3, at)]);
    let (exited_at, at) = time();
    same(task::WaitResponse { exit_status: 3, exited_at }, &[(1, N(3)), (2, at)]);
}

#[test]
fn exec_kill_resize_and_close() {
    let (spec, any) = any();
    let exec = task::ExecProcessRequest {
        id: text("c"),
        exec_id: text("e"),
        terminal: true,
        stdin: text("i"),
        stdout: text("o"),
        stderr: text("r"),
        spec,
    };
    same(exec, &[(1, T("c")), (2, T("e")), (3, N(1)), (4, T("i")), (5, T("o")), (6, T("r")), (7, any)]);
    let kill = task::KillRequest { id: text("c"), exec_id: text("e"), signal: 9, all: true };
    same(kill, &[(1, T("c")), (2, T("e")), (3, N(9)), (4, N(1))]);
    let resize = task::ResizePtyRequest { id: text("c"), exec_id: text("e"), width: 80, height: 25 };
    same(resize, &[(1, T("c")), (2, T("e")), (3, N(80)), (4, N(25))]);
    let close = task::CloseIoRequest { id: text("c"), exec_id: text("e"), stdin: true };
    same(close, &[(1, T("c")), (2, T("e")), (3, N(1))]);
}

#[test]
fn pids_stats_connect_and_shutdown() {
    same(task::ContainerRequest { id: text("c") }, &[(1, T("c"))]);
    let info = Some(Any::pack(&options::ProcessDetails { exec_id: text("e") }));
    let details = bytes(&[(1, T("containerd.runc.v1.ProcessDetails")), (2, M(bytes(&[(1, T("e"))])))]);
    let processes = vec![task::ProcessInfo { pid: 7, info }, task::ProcessInfo { pid: 8, info: None }];
    let fields = [(1, M(bytes(&[(1, N(7)), (2, M(details))]))), (1, M(bytes(&[(1, N(8))])))];
    same(task::PidsResponse { processes }, &fields);
    let (stats, field) = any();
    same(task::StatsResponse { stats }, &[(1, field)]);
    let connect = task::ConnectResponse { shim_pid: 6, task_pid: 7, version: text("v") };
    same(connect, &[(1, N(6)), (2, N(7)), (3, T("v"))]);
    same(task::ShutdownRequest { id: text("c"), now: true }, &[(1, T("c")), (2, N(1))]);
}

#[test]
fn checkpoint_and_update() {
    let (options, any_field) = any();
    let request = task::CheckpointTaskRequest { id: text("c"), path: text("/p"), options };
    same(request, &[(1, T("c")), (2, T("/p")), (3, any_field)]);
    let checkpoint = options::CheckpointOptions {
        exit: true,
        open_tcp: true,
        external_unix_sockets: true,
        terminal: true,
        file_locks: true,
        empty_namespaces: vec![text("network"), text("ipc")],
        cgroups_mode: text("soft"),
        image_path: text("/i"),
        work_path: text("/w"),
        parent_path: text("/p"),
    };
    let mut fields: Vec<_> = (1..=5).map(|number| (number, N(1))).collect();
    fields.extend([(6, T("network")), (6, T("ipc")), (7, T("soft")), (8, T("/i")), (9, T("/w")), (10, T("/p"))]);
    same(checkpoint, &fields);
    let ((resources, any), (annotations, entry)) = (any(), map());
    same(task::UpdateTaskRequest { id: text("c"), resources, annotations }, &[(1, T("c")), (2, any), (3, entry)]);
}

/// An event's topic, the name of its type, and its fields.
fn event(event: events::Event, topic: &str, name: &str, fields: &[(u64, Content)]) {
    assert_eq!(event.topic(), topic);
    assert_eq!(event.pack(), Any { type_url: format!("containerd.events.{name}"), value: bytes(fields) });
}

#[test]
fn events_of_a_container() {
    use events::{Event, TaskCreate, TaskIo};
    let (rootfs, mount) = mount();
    let io = Some(TaskIo { stdin: text("i"), stdout: text("o"), stderr: text("e"), terminal: true });
    let create = TaskCreate {
        container_id: text("c"),
        bundle: text("/b"),
        rootfs: vec![rootfs],
        io,
        checkpoint: text("/k"),
        pid: 7,
    };
    let io = M(bytes(&[(1, T("i")), (2, T("o")), (3, T("e")), (4, N(1))]));
    let fields = [(1, T("c")), (2, T("/b")), (3, mount), (4, io), (5, T("/k")), (6, N(7))];
    event(Event::Create(create), "/tasks/create", "TaskCreate", &fields);
    let start = events::TaskStart { container_id: text("c"), pid: 7 };
    event(Event::Start(start), "/tasks/start", "TaskStart", &[(1, T("c")), (2, N(7))]);
    let (exited_at, at) = time();
    let delete = events::TaskDelete { container_id: text("c"), pid: 7, exit_status: 3, exited_at, id: text("e") };
    let fields = [(1, T("c")), (2, N(7)), (3, N(3)), (4, at), (5, T("e"))];
    event(Event::Delete(delete), "/tasks/delete", "TaskDelete", &fields);
    let one = [(1, T("c"))];
    event(Event::Oom(events::TaskOom { container_id: text("c") }), "/tasks/oom", "TaskOOM", &one);
    event(Event::Paused(events::TaskPaused { container_id: text("c") }), "/tasks/paused", "TaskPaused", &one);
    event(Event::Resumed(events::TaskResumed { container_id: text("c") }), "/tasks/resumed", "TaskResumed", &one);
    let saved = events::TaskCheckpointed { container_id: text("c"), checkpoint: text("/k") };
    let fields = [(1, T("c")), (2, T("/k"))];
    event(Event::Checkpointed(saved), "/tasks/checkpointed", "TaskCheckpointed", &fields);
}

#[test]
fn events_of_a_process() {
    use events::{Event, TaskExecAdded, TaskExecStarted, TaskExit};
    let added = TaskExecAdded { container_id: text("c"), exec_id: text("e") };
    event(Event::ExecAdded(added), "/tasks/exec-added", "TaskExecAdded", &[(1, T("c")), (2, T("e"))]);
    let started = TaskExecStarted { container_id: text("c"), exec_id: text("e"), pid: 7 };
    let fields = [(1, T("c")), (2, T("e")), (3, N(7))];
    event(Event::ExecStarted(started), "/tasks/exec-started", "TaskExecStarted", &fields);
    let (exited_at, at) = time();
    let exit = TaskExit { container_id: text("c"), id: text("e"), pid: 7, exit_status: 3, exited_at };
    let fields = [(1, T("c")), (2, T("e")), (3, N(7)), (4, N(3)), (5, at)];
    event(Event::Exit(exit), "/tasks/exit", "TaskExit", &fields);
}

#[test]
fn an_event_is_forwarded_in_an_envelope() {
    let (timestamp, at) = time();
    let oom = events::Event::Oom(events::TaskOom { container_id: text("c") });
    let envelope = oom.envelope("k8s.io", timestamp.unwrap());
    let any = M(bytes(&[(1, T("containerd.events.TaskOOM")), (2, M(bytes(&[(1, T("c"))])))]));
    let expected = M(bytes(&[(1, at), (2, T("k8s.io")), (3, T("/tasks/oom")), (4, any)]));
    same(events::ForwardRequest { envelope: Some(envelope) }, &[(1, expected)]);
}

#[test]
fn runtime_options() {
    let runc = options::Options {
        no_pivot_root: true,
        no_new_keyring: true,
        shim_cgroup: text("/g"),
        io_uid: 4,
        io_gid: 5,
        binary_name: text("b"),
        root: text("/r"),
        systemd_cgroup: true,
        criu_image_path: text("/i"),
        criu_work_path: text("/w"),
    };
    let fields = [
        (1, N(1)),
        (2, N(1)),
        (3, T("/g")),
        (4, N(4)),
        (5, N(5)),
        (6, T("b")),
        (7, T("/r")),
        (9, N(1)),
        (10, T("/i")),
        (11, T("/w")),
    ];
    same(runc, &fields);
    let other = options::RuntimeOptions { type_url: text("u"), config_path: text("/p"), config_body: b"b".to_vec() };
    same(other, &[(1, T("u")), (2, T("/p")), (3, T("b"))]);
}

#[test]
fn bootstrap_both_ways() {
    let (value, any) = any();
    let params = bootstrap::BootstrapParams {
        instance_id: text("c"),
        namespace: text("n"),
        log_level: -4,
        containerd_version: text("2.3.4"),
        containerd_ttrpc_address: text("/t"),
        containerd_grpc_address: text("/g"),
        containerd_binary: text("/b"),
        extensions: vec![bootstrap::Extension { value }],
        socket_dir: Some(text("/s")),
    };
    let fields = [
        (1, T("c")),
        (2, T("n")),
        (3, N(-4_i64 as u64)),
        (4, T("2.3.4")),
        (5, T("/t")),
        (6, T("/g")),
        (7, T("/b")),
        (8, M(bytes(&[(1, any)]))),
        (9, T("/s")),
    ];
    same(params, &fields);
    let (metadata, entry) = map();
    let result = bootstrap::BootstrapResult {
        version: 3,
        address: text("unix:///a"),
        protocol: text("ttrpc"),
        capabilities: vec![1, 2],
        metadata,
    };
    // Lists of numbers are packed.
    same(result, &[(1, N(3)), (2, T("unix:///a")), (3, T("ttrpc")), (4, M(vec![1, 2])), (5, entry)]);
}

#[test]
fn info_is_not_wrapped() {
    let version = info::RuntimeVersion { version: text("0.1.0"), revision: text("r") };
    let (options, any) = any();
    let mut message = info::RuntimeInfo::new("io.containerd.ocirt.v2", version, options, b"{}".to_vec());
    let (annotations, entry) = map();
    message.annotations = annotations;
    let features =
        bytes(&[(1, T("types.containerd.io/opencontainers/runtime-spec/1/features/Features")), (2, T("{}"))]);
    let version = bytes(&[(1, T("0.1.0")), (2, T("r"))]);
    let fields = [(1, T("io.containerd.ocirt.v2")), (2, M(version)), (3, any), (4, M(features)), (5, entry)];
    same(message, &fields);
}
