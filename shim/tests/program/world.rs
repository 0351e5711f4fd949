//! One shim with a runtime of its own, in a directory that goes with it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use containerd_shim_ocirt::api::bootstrap::{BootstrapParams, BootstrapResult, Extension};
use containerd_shim_ocirt::api::known::Any;
use containerd_shim_ocirt::api::options::Options;
use containerd_shim_ocirt::api::task::{
    ConnectResponse, ContainerRequest, CreateTaskRequest, ExecProcessRequest, KillRequest, ProcessRequest,
    ShutdownRequest, WaitResponse,
};
use containerd_shim_ocirt::wire::client::{Call, Client};
use containerd_shim_ocirt::wire::status::Status;
use prost::Message;

static LAST: AtomicU32 = AtomicU32::new(0);

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct World {
    pub directory: PathBuf,
    options: Options,
    environment: Vec<(String, String)>,
    address: String,
    log: Option<File>,
    /// The shim has a mount namespace of its own.
    is_private: bool,
    path: Option<String>,
    /// What the shell does that becomes the shim.
    before: String,
}

impl World {
    /// A bundle whose init runs this script.
    pub fn new(script: &str) -> Self {
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("shim{}-{number}", std::process::id()));
        fs::create_dir_all(directory.join("bundle")).unwrap();
        let runtime = directory.join("runtime");
        fs::write(&runtime, include_str!("runtime.sh")).unwrap();
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).unwrap();
        let options = Options {
            binary_name: runtime.display().to_string(),
            root: directory.join("state").display().to_string(),
            ..Options::default()
        };
        let world = Self {
            directory,
            options,
            environment: Vec::new(),
            address: String::new(),
            log: None,
            is_private: false,
            path: None,
            before: String::new(),
        };
        world.write("config.json", r#"{"linux":{"namespaces":[{"type":"pid"}]}}"#);
        world.write("program", script);
        world
    }

    pub fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Its mounts are nobody else's; root is needed for that.
    pub fn private(mut self) -> Self {
        self.is_private = true;
        self
    }

    /// The shim finds programs of the directory.
    pub fn own_programs(mut self) -> Self {
        self.path = Some(format!("{}:{}", self.directory.display(), std::env::var("PATH").unwrap()));
        self
    }

    /// The shim's soft limit.
    pub fn descriptors(self, soft: u32) -> Self {
        self.before(&format!("ulimit -Sn {soft}; "))
    }

    /// Has a shell do this, in the bundle, and become the shim then.
    pub fn before(mut self, line: &str) -> Self {
        self.before = line.to_owned();
        self
    }

    pub fn bundle(&self) -> PathBuf {
        self.directory.join("bundle")
    }

    pub fn options(&self) -> Any {
        Any::pack(&self.options)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.bundle().join(name), text).unwrap();
    }

    /// A program in the directory, by its whole path.
    pub fn program(&self, name: &str, script: &str) -> String {
        let path = self.directory.join(name);
        fs::write(&path, format!("#!/bin/sh\ncd {}\n{script}\n", self.directory.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.join(name)).unwrap_or_default()
    }

    /// Runs `start`, which says where the shim listens, or why there is none.
    pub fn start(&mut self) -> Result<(), String> {
        let fifo = self.bundle().join("log");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let options = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&fifo);
        self.log = Some(options.unwrap());
        let params = BootstrapParams {
            instance_id: "c".to_owned(),
            namespace: "n".to_owned(),
            extensions: vec![Extension { value: Some(self.options()) }],
            socket_dir: Some(self.directory.join("s").display().to_string()),
            ..BootstrapParams::default()
        };
        let shim = env!("CARGO_BIN_EXE_containerd-shim-ocirt-v2");
        let mut command = Command::new("sh");
        let before = &self.before;
        let private = if self.is_private { "unshare --mount --propagation private -- " } else { "" };
        command.args(["-c", &format!("{before}exec {private}\"$0\" \"$@\""), shim]);
        command.envs(self.environment.iter().cloned());
        command.envs(self.path.iter().map(|path| ("PATH", path)));
        command.args(["-namespace", "n", "-id", "c", "-address", "/none", "start"]).current_dir(self.bundle());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&params.encode_to_vec()).unwrap();
        let output = child.wait_with_output().unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        self.address = BootstrapResult::decode(output.stdout.as_slice()).unwrap().address;
        Ok(())
    }

    pub fn socket(&self) -> &str {
        self.address.strip_prefix("unix://").unwrap()
    }

    /// The same as `init`, for a client that waits no longer.
    pub fn init_within(&self, method: &str, timeout: Duration) -> Result<(), Status> {
        let request = ProcessRequest { id: "c".to_owned(), exec_id: String::new() };
        let service = "containerd.task.v3.Task";
        let call = Call { service, method, namespace: "n", payload: request.encode_to_vec(), timeout };
        self.exchange(call).map(drop)
    }

    /// One call on a connection of its own.
    pub fn call<M: Message, A: Message + Default>(&self, method: &str, request: &M) -> Result<A, Status> {
        self.call_service("containerd.task.v3.Task", method, request)
    }

    pub fn call_service<M: Message, A: Message + Default>(
        &self,
        service: &str,
        method: &str,
        request: &M,
    ) -> Result<A, Status> {
        let call = Call { service, method, namespace: "n", payload: request.encode_to_vec(), timeout: PATIENCE };
        self.exchange(call).map(|payload| A::decode(payload.as_slice()).unwrap())
    }

    fn exchange(&self, call: Call<'_>) -> Result<Vec<u8>, Status> {
        let method = call.method;
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Client::default();
        stream.write_all(&client.call(call).unwrap()).unwrap();
        loop {
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).unwrap_or_else(|error| panic!("{method}: {error}"));
            assert!(count > 0, "{method}: the shim has gone");
            if let Some(answer) = client.receive(&mut &bytes[..count]) {
                return answer;
            }
        }
    }

    pub fn request(&self) -> CreateTaskRequest {
        CreateTaskRequest {
            id: "c".to_owned(),
            bundle: self.bundle().display().to_string(),
            options: Some(self.options()),
            ..CreateTaskRequest::default()
        }
    }

    /// Creates the container with its output going there.
    pub fn create(&self, stdout: &str) -> Result<(), Status> {
        self.create_as(&CreateTaskRequest { stdout: stdout.to_owned(), stderr: stdout.to_owned(), ..self.request() })
    }

    pub fn create_as(&self, request: &CreateTaskRequest) -> Result<(), Status> {
        self.call::<_, containerd_shim_ocirt::api::task::CreateTaskResponse>("Create", request).map(drop)
    }

    /// `Start`, `Delete` and the like of init.
    pub fn init(&self, method: &str) -> Result<(), Status> {
        let request = ProcessRequest { id: "c".to_owned(), exec_id: String::new() };
        self.call::<_, containerd_shim_ocirt::api::task::DeleteResponse>(method, &request).map(drop)
    }

    pub fn shutdown(&self) {
        let shutdown = ShutdownRequest { id: "c".to_owned(), now: true };
        self.call::<_, containerd_shim_ocirt::api::known::Empty>("Shutdown", &shutdown).unwrap();
    }

    /// Adds a process and starts it.
    pub fn exec(&self, exec_id: &str, spec: &str) -> Result<(), Status> {
        self.exec_within(exec_id, spec, PATIENCE)
    }

    /// The same, for a client that waits no longer.
    pub fn exec_within(&self, exec_id: &str, spec: &str, timeout: Duration) -> Result<(), Status> {
        let (id, exec_id) = ("c".to_owned(), exec_id.to_owned());
        let spec = Some(Any { type_url: "x/Process".to_owned(), value: spec.as_bytes().to_vec() });
        let request = ExecProcessRequest { id: id.clone(), exec_id: exec_id.clone(), spec, ..Default::default() };
        self.call::<_, containerd_shim_ocirt::api::known::Empty>("Exec", &request)?;
        let (service, payload) = ("containerd.task.v3.Task", ProcessRequest { id, exec_id }.encode_to_vec());
        self.exchange(Call { service, method: "Start", namespace: "n", payload, timeout }).map(drop)
    }

    pub fn init_kill(&self) {
        let request = KillRequest { id: "c".to_owned(), signal: 9, ..KillRequest::default() };
        self.call::<_, containerd_shim_ocirt::api::known::Empty>("Kill", &request).unwrap();
    }

    /// The exit status of init.
    pub fn wait(&self) -> u32 {
        let request = ProcessRequest { id: "c".to_owned(), exec_id: String::new() };
        self.call::<_, WaitResponse>("Wait", &request).unwrap().exit_status
    }

    pub fn shim_pid(&self) -> u32 {
        let request = ContainerRequest { id: "c".to_owned() };
        self.call::<_, ConnectResponse>("Connect", &request).unwrap().shim_pid
    }

    /// The children of the shim that have not been waited for.
    pub fn children(&self) -> Vec<u32> {
        let pid = self.shim_pid();
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }

    /// Starts init, waits for its end and deletes it.
    pub fn run(&self) -> u32 {
        self.init("Start").unwrap();
        let status = self.wait();
        self.init("Delete").unwrap();
        status
    }

    /// The mounts below the bundle, each as type and place.
    pub fn mounts(&self) -> Vec<String> {
        let text = fs::read_to_string(format!("/proc/{}/mountinfo", self.shim_pid())).unwrap();
        let bundle = self.bundle().display().to_string();
        let line = |line: &str| {
            let (place, kind) = (line.split(' ').nth(4)?, line.split(" - ").nth(1)?.split(' ').next()?);
            Some(format!("{kind} {}", place.strip_prefix(&bundle)?))
        };
        text.lines().filter_map(line).collect()
    }

    /// What the shim has written to its log.
    pub fn log(&self) -> String {
        let mut text = Vec::new();
        let mut bytes = [0; 65536];
        while let Ok(count) = self.log.as_ref().unwrap().read(&mut bytes) {
            text.extend_from_slice(&bytes[..count]);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Processes whose command lines or environments name the directory, the shim aside.
    pub fn left(&self) -> Vec<String> {
        let shim = self.shim_pid().to_string();
        let name = self.directory.display().to_string();
        let mut left = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let text = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
            let line = String::from_utf8_lossy(&text("cmdline")).replace('\0', " ");
            if line.contains(&name) && entry.file_name() != shim.as_str() {
                left.push(line);
            }
        }
        left
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !self.address.is_empty() && Path::new(self.socket()).exists() {
            let pid = nix::unistd::Pid::from_raw(self.shim_pid() as i32);
            // A test that has failed has left its containers, and a shim that has some does not shut down.
            let kill = KillRequest { id: "c".to_owned(), signal: 9, ..KillRequest::default() };
            let _ = self.call::<_, containerd_shim_ocirt::api::known::Empty>("Kill", &kill);
            if !std::thread::panicking() {
                self.shutdown();
            }
            let end = Instant::now() + Duration::from_secs(1);
            while Path::new(self.socket()).exists() {
                if Instant::now() > end {
                    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Waits until it holds.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
