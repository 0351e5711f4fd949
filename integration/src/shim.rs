//! This project's shim as containerd drives it: `start`, calls on its socket, `delete`; and a containerd that takes events.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use containerd_shim_ocirt::api::bootstrap::{BootstrapParams, BootstrapResult, Extension};
use containerd_shim_ocirt::api::events::ForwardRequest;
use containerd_shim_ocirt::api::known::{Any, Empty};
use containerd_shim_ocirt::api::options::Options;
use containerd_shim_ocirt::api::service::SERVICES;
use containerd_shim_ocirt::api::task::{
    ConnectResponse, ContainerRequest, CreateTaskRequest, CreateTaskResponse, DeleteResponse, ExecProcessRequest,
    KillRequest, Mount, ProcessRequest, ShutdownRequest, StartResponse, StateResponse, WaitResponse,
};
use containerd_shim_ocirt::wire::client::{self, Client};
use containerd_shim_ocirt::wire::server::{self, Connection, Incoming};
use containerd_shim_ocirt::wire::status::Status;
use prost::Message;
use serde_json::json;

use crate::bundle::Bundle;
use crate::needs::{Need, need, need_ocirt, need_root};
use crate::{host, runtime};

/// No call may take longer, on a loaded machine either.
const DEADLINE: Duration = Duration::from_secs(60);
/// The last part of `host::root()`, below which the shim has the runtime keep its state.
const NAMESPACE: &str = "root";

/// `OCIRT_SHIM`, else the shim beside the runtime under test. A test without one is skipped.
pub fn program() -> PathBuf {
    let given = std::env::var_os("OCIRT_SHIM").filter(|value| !value.is_empty()).map(PathBuf::from);
    let program = given.unwrap_or_else(|| runtime::path().with_file_name("containerd-shim-ocirt-v2"));
    need_ocirt();
    need_root();
    need(Need::Shim, program.is_file());
    program
}

/// A container's shim, and what containerd knows of it.
pub struct Shim {
    pub bundle: Bundle,
    program: PathBuf,
    /// The runtime that it calls.
    binary: PathBuf,
    rootfs: Vec<Mount>,
}

/// A connection to a shim.
pub struct Link {
    stream: UnixStream,
    client: Client,
}

impl Shim {
    /// What a container of `words` will have. Its root filesystem is a bind mount, so that there is something to unmount.
    pub fn new(bundle: Bundle, words: Vec<String>) -> Self {
        let mut bundle = bundle.write(words);
        let lower = bundle.dir.join("lower");
        std::fs::rename(bundle.rootfs(), &lower).expect("rootfs");
        let source = lower.display().to_string();
        let mount = Mount {
            r#type: "bind".to_owned(),
            source,
            options: vec!["rbind".to_owned(), "rw".to_owned()],
            ..Mount::default()
        };
        bundle.dir = std::fs::canonicalize(&bundle.dir).expect("bundle");
        Self { bundle, program: program(), binary: runtime::path(), rootfs: vec![mount] }
    }

    /// The same with another runtime: a script around the one under test.
    pub fn with_runtime(mut self, script: &str) -> Self {
        let path = self.bundle.dir.join("runtime");
        let text = format!("#!/bin/sh\n{script}\nexec {} \"$@\"\n", self.binary.display());
        std::fs::write(&path, text).expect("script");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("script");
        self.binary = path;
        self
    }

    pub fn id(&self) -> &str {
        &self.bundle.id
    }

    fn options(&self) -> Any {
        let root = host::place().display().to_string();
        Any::pack(&Options { binary_name: self.binary.display().to_string(), root, ..Options::default() })
    }

    /// What containerd 2.3 writes to `start`, with a directory for sockets that is the test's.
    fn params(&self) -> Vec<u8> {
        let extensions = vec![Extension { value: Some(self.options()) }];
        let socket_dir = Some(sockets().display().to_string());
        let (instance_id, namespace) = (self.id().to_owned(), NAMESPACE.to_owned());
        BootstrapParams { instance_id, namespace, extensions, socket_dir, ..BootstrapParams::default() }.encode_to_vec()
    }

    /// Runs one of the shim's calls, under strace if that has options, and returns what it printed; none if it was killed.
    fn run(&self, strace: &[&str], more: &[&str], input: &[u8]) -> Option<Vec<u8>> {
        let (stdin, stdout) = (self.bundle.dir.join("call.in"), self.bundle.dir.join("call.out"));
        std::fs::write(&stdin, input).expect("input");
        let file = |path: &Path| std::fs::File::create(path).expect("file");
        let mut command = if strace.is_empty() { Command::new(&self.program) } else { Command::new("strace") };
        if !strace.is_empty() {
            command.args(["-qq", "-o", "/dev/null"]).args(strace).arg(&self.program);
        }
        command.args(["-namespace", NAMESPACE, "-address", &address(), "-publish-binary", "none", "-id", self.id()]);
        command.args(more).current_dir(&self.bundle.dir).env("TTRPC_ADDRESS", events());
        command.stdin(std::fs::File::open(&stdin).expect("input")).stdout(file(&stdout)).stderr(file(&self.errors()));
        let status = end(&mut command.spawn().expect("shim"));
        status.success().then(|| std::fs::read(&stdout).expect("output"))
    }

    fn errors(&self) -> PathBuf {
        self.bundle.dir.join("call.err")
    }

    /// Runs `start`, and returns the socket; none if it was killed.
    pub fn try_start(&self, strace: &[&str]) -> Option<PathBuf> {
        let output = self.run(strace, &["start"], &self.params())?;
        let result = BootstrapResult::decode(output.as_slice()).expect("an answer");
        Some(PathBuf::from(result.address.trim_start_matches("unix://")))
    }

    pub fn start(&self) -> Link {
        Link::to(&self.try_start(&[]).expect("start"))
    }

    /// What containerd calls when the shim has gone, and the exit status that it is told; none if it was killed.
    pub fn try_delete(&self, strace: &[&str]) -> Option<u32> {
        let bundle = self.bundle.dir.display().to_string();
        let output = self.run(strace, &["-bundle", &bundle, "delete"], b"")?;
        Some(DeleteResponse::decode(output.as_slice()).expect("an answer").exit_status)
    }

    #[track_caller]
    pub fn delete(&self) -> u32 {
        let status = self.try_delete(&[]);
        status.unwrap_or_else(|| panic!("delete: {}", std::fs::read_to_string(self.errors()).unwrap_or_default()))
    }

    pub fn create_request(&self) -> CreateTaskRequest {
        let (id, bundle) = (self.id().to_owned(), self.bundle.dir.display().to_string());
        let (rootfs, options) = (self.rootfs.clone(), Some(self.options()));
        CreateTaskRequest { id, bundle, rootfs, options, ..CreateTaskRequest::default() }
    }

    pub fn of_process(&self, exec_id: &str) -> ProcessRequest {
        ProcessRequest { id: self.id().to_owned(), exec_id: exec_id.to_owned() }
    }

    pub fn of_container(&self) -> ContainerRequest {
        ContainerRequest { id: self.id().to_owned() }
    }

    /// A process that the probe will be.
    pub fn exec_request(&self, exec_id: &str, words: Vec<String>) -> ExecProcessRequest {
        let process = json!({ "args": words, "cwd": "/", "user": { "uid": 0, "gid": 0 } });
        let value = process.to_string().into_bytes();
        let spec =
            Some(Any { type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(), value });
        let (id, exec_id) = (self.id().to_owned(), exec_id.to_owned());
        ExecProcessRequest { id, exec_id, spec, ..ExecProcessRequest::default() }
    }

    /// Panics if anything is left of the container, its mounts, its shim or its socket.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        host::reap_zombies();
        host::assert_nothing_left();
        let sockets: Vec<_> =
            std::fs::read_dir(sockets()).into_iter().flatten().flatten().map(|it| it.file_name()).collect();
        assert!(sockets.is_empty(), "{sockets:?}");
    }
}

impl Link {
    pub fn to(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()));
        stream.set_read_timeout(Some(DEADLINE)).expect("a limit");
        Self { stream, client: Client::default() }
    }

    /// Sends a call, whose answer is for [`Self::answer`]. False if nobody is there.
    pub fn send(&mut self, method: &str, request: &impl Message) -> bool {
        let (payload, timeout) = (request.encode_to_vec(), DEADLINE);
        let call = client::Call { service: SERVICES[0], method, namespace: NAMESPACE, payload, timeout };
        let bytes = self.client.call(call).expect("a call");
        self.stream.write_all(&bytes).is_ok()
    }

    /// The answer to the last call; none if the shim has gone.
    pub fn answer<R: Message + Default>(&mut self) -> Option<Result<R, Status>> {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(length) => {
                    if let Some(answer) = self.client.receive(&mut &bytes[..length]) {
                        return Some(answer.map(|payload| R::decode(payload.as_slice()).expect("an answer")));
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no answer: {error}"),
            }
        }
    }

    pub fn try_call<R: Message + Default>(
        &mut self,
        method: &str,
        request: &impl Message,
    ) -> Option<Result<R, Status>> {
        self.send(method, request).then(|| self.answer()).flatten()
    }

    #[track_caller]
    pub fn call<R: Message + Default>(&mut self, method: &str, request: &impl Message) -> R {
        let answer = self.try_call(method, request).unwrap_or_else(|| panic!("{method}: the shim has gone"));
        answer.unwrap_or_else(|status| panic!("{method}: {status:?}"))
    }

    /// The words of an error.
    #[track_caller]
    pub fn refused(&mut self, method: &str, request: &impl Message) -> Status {
        self.try_call::<Empty>(method, request).expect("the shim").expect_err(method)
    }

    pub fn pid(&mut self, shim: &Shim) -> u32 {
        self.call::<ConnectResponse>("Connect", &shim.of_container()).shim_pid
    }

    pub fn create(&mut self, shim: &Shim) -> u32 {
        self.call::<CreateTaskResponse>("Create", &shim.create_request()).pid
    }

    pub fn run(&mut self, shim: &Shim) -> u32 {
        self.create(shim);
        self.call::<StartResponse>("Start", &shim.of_process("")).pid
    }

    pub fn status(&mut self, shim: &Shim) -> i32 {
        self.call::<StateResponse>("State", &shim.of_process("")).status
    }

    pub fn exec(&mut self, request: &ExecProcessRequest) -> u32 {
        self.call::<Empty>("Exec", request);
        let process = ProcessRequest { id: request.id.clone(), exec_id: request.exec_id.clone() };
        self.call::<StartResponse>("Start", &process).pid
    }

    pub fn wait(&mut self, shim: &Shim, exec_id: &str) -> u32 {
        self.call::<WaitResponse>("Wait", &shim.of_process(exec_id)).exit_status
    }

    pub fn kill(&mut self, shim: &Shim) {
        self.call::<Empty>("Kill", &KillRequest { id: shim.id().to_owned(), signal: 9, ..KillRequest::default() });
    }

    /// The end of a container that runs, and of its shim.
    pub fn finish(mut self, shim: &Shim) {
        self.kill(shim);
        assert_eq!(self.wait(shim, ""), 137);
        self.call::<DeleteResponse>("Delete", &shim.of_process(""));
        self.call::<Empty>("Shutdown", &ShutdownRequest { id: shim.id().to_owned(), now: false });
        assert!(self.answer::<Empty>().is_none(), "the shim ends");
        shim.delete();
    }
}

/// Waits for a child. Containers whose shim has gone are this process's, as elsewhere pid 1's, and are waited for too.
fn end(child: &mut Child) -> ExitStatus {
    let end = Instant::now() + DEADLINE;
    loop {
        // SAFETY: an all-zero siginfo_t is a valid value.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is ours.
        let found = unsafe { libc::waitid(libc::P_ALL, 0, &mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) };
        // SAFETY: waitid has filled it in.
        match unsafe { info.si_pid() } as u32 {
            pid if found == 0 && pid == child.id() => return child.wait().expect("wait"),
            pid if found == 0 && pid != 0 => drop(host::reap(pid)),
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
        assert!(Instant::now() < end, "the shim's call hangs");
    }
}

fn sockets() -> PathBuf {
    // A path of a socket has 108 bytes (unix(7)), and its name 64.
    host::suite().join(format!("s{}", std::process::id()))
}

fn address() -> String {
    host::place().join("containerd.sock").display().to_string()
}

fn events() -> PathBuf {
    host::suite().join(format!("{}.ttrpc", host::tag()))
}

/// A containerd that takes events: what it was told, in this order, as `topic id`.
#[derive(Clone, Default)]
pub struct Events(Arc<Mutex<Vec<String>>>);

impl Events {
    pub fn listen() -> Self {
        let listener = UnixListener::bind(events()).expect("socket");
        let told = Self::default();
        let keeps = told.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let told = keeps.clone();
                std::thread::spawn(move || told.serve(stream));
            }
        });
        told
    }

    pub fn told(&self) -> Vec<String> {
        self.0.lock().expect("events").clone()
    }

    fn serve(&self, mut stream: UnixStream) {
        let (mut connection, mut bytes) = (Connection::default(), [0; 4096]);
        while let Ok(length @ 1..) = stream.read(&mut bytes) {
            let mut rest = &bytes[..length];
            while !rest.is_empty() {
                let Some(Incoming::Call(call)) = connection.receive(&mut rest) else { continue };
                let request = ForwardRequest::decode(call.payload.as_slice()).expect("an event");
                let topic = request.envelope.map(|envelope| envelope.topic).unwrap_or_default();
                self.0.lock().expect("events").push(topic);
                if stream.write_all(&server::answer(call.stream, Ok(Vec::new()))).is_err() {
                    return;
                }
            }
        }
    }
}
