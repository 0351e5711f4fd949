//! A bundle in the test's directory, and the container made from it.

mod files;

use crate::needs::{Need, need};
use crate::runtime::{Call, Output, Running};
use crate::wait::eventually;
use crate::{host, user};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The probe in a rootfs, and a config.json that any test may bend.
pub struct Bundle {
    pub dir: PathBuf,
    pub id: String,
    spec: Value,
    flags: Vec<String>,
    global: Vec<String>,
    env: Vec<(String, String)>,
    /// Whether the ordinary user runs it, and owns it.
    as_user: bool,
}

impl Bundle {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let id = host::new_id();
        let dir = host::place().join(format!("bundle-{id}"));
        let rootfs = dir.join("rootfs");
        for name in ["proc", "sys", "dev", "tmp", "etc", "data"] {
            std::fs::create_dir_all(rootfs.join(name)).expect("rootfs");
        }
        std::fs::hard_link(host::probe(), rootfs.join("probe")).expect("probe in the rootfs");
        let (flags, global, env) = (Vec::new(), Vec::new(), Vec::new());
        let bundle = Bundle { dir, id, spec: default_spec(), flags, global, env, as_user: false };
        if user::has_suite() { bundle.rootless(user::range()) } else { bundle }
    }

    /// The ordinary user's, with these id mappings: [`user::one_id`] or [`user::range`].
    pub fn rootless(mut self, map: Value) -> Self {
        self.as_user = true;
        let one = map.as_array().is_some_and(|ranges| ranges.len() == 1);
        if let Some(options) = self.spec["mounts"][2]["options"].as_array_mut().filter(|_| one) {
            options.retain(|option| option != "gid=5");
        }
        self.namespace("user", None).set("linux.uidMappings", map.clone()).set("linux.gidMappings", map)
    }

    /// Sets the field at a dotted path: `set("linux.maskedPaths", json!(["/secret"]))`; null removes it.
    pub fn set(mut self, field: &str, value: Value) -> Self {
        if field == "linux.cgroupsPath" {
            let is_of_systemd = value.as_str().is_none_or(|path| path.split(':').count() == 3);
            need(Need::Cgroupfs, is_of_systemd || !host::all_with_systemd());
        }
        let mut place = &mut self.spec;
        let (parents, last) = field.rsplit_once('.').unwrap_or(("", field));
        for name in parents.split('.').filter(|name| !name.is_empty()) {
            place = match name.parse::<usize>() {
                Ok(index) => &mut place[index],
                Err(_) => &mut place[name],
            };
        }
        match (value, place.as_object_mut()) {
            (Value::Null, Some(object)) => drop(object.remove(last)),
            (value, _) => place[last] = value,
        }
        self
    }

    /// Appends to the list at a dotted path.
    pub fn push(self, field: &str, value: Value) -> Self {
        let pointer = format!("/{}", field.replace('.', "/"));
        let mut list = self.spec.pointer(&pointer).cloned().unwrap_or_else(|| json!([]));
        list.as_array_mut().expect("a list").push(value);
        self.set(field, list)
    }

    /// `push("mounts", …)`.
    pub fn mount(self, kind: &str, source: &str, destination: &str, options: &[&str]) -> Self {
        self.push("mounts", json!({ "type": kind, "source": source, "destination": destination, "options": options }))
    }

    /// Adds a namespace, or replaces the one of that type.
    pub fn namespace(mut self, kind: &str, path: Option<&str>) -> Self {
        self.forget_namespace(kind);
        let list = self.spec["linux"]["namespaces"].as_array_mut().expect("a list");
        list.push(path.map_or_else(|| json!({ "type": kind }), |path| json!({ "type": kind, "path": path })));
        self
    }

    /// In the user's suite, in the user namespace of process `pid`: without it he may join no other namespace of it.
    pub fn beside(self, pid: u32) -> Self {
        if !user::has_suite() {
            return self;
        }
        let bundle = self.namespace("user", Some(&format!("/proc/{pid}/ns/user")));
        bundle.set("linux.uidMappings", Value::Null).set("linux.gidMappings", Value::Null)
    }

    /// In the user's suite with the host's mount in place of one that takes a namespace of one's own: what engines do.
    pub fn without_namespace(mut self, kind: &str) -> Self {
        let destination = match kind {
            "pid" => "/proc",
            "ipc" => "/dev/mqueue",
            _ => "",
        };
        let mounts = self.spec["mounts"].as_array_mut().expect("a list");
        if let Some(index) = mounts.iter().position(|mount| user::has_suite() && mount["destination"] == destination) {
            mounts.remove(index);
            if Path::new(destination).exists() {
                let options = json!(["rbind"]);
                let bind = json!({ "source": destination, "destination": destination, "options": options });
                mounts.insert(index, bind);
            }
        }
        self.forget_namespace(kind);
        self
    }

    fn forget_namespace(&mut self, kind: &str) {
        let list = self.spec["linux"]["namespaces"].as_array_mut().expect("a list");
        list.retain(|namespace| namespace["type"] != kind);
    }

    /// A user namespace whose root is `host_id`, and a rootfs that belongs to it.
    pub fn user_namespace(self, host_id: u32) -> Self {
        let map = json!([{ "containerID": 0, "hostID": host_id, "size": 65536 }]);
        for name in ["", "proc", "sys", "dev", "tmp", "etc", "data"] {
            std::os::unix::fs::chown(self.inside(name), Some(host_id), Some(host_id)).expect("chown");
        }
        self.namespace("user", None).set("linux.uidMappings", map.clone()).set("linux.gidMappings", map)
    }

    pub fn hook(self, kind: &str, hook: Value) -> Self {
        self.push(&format!("hooks.{kind}"), hook)
    }

    /// Whether the ordinary user makes its container.
    pub fn as_user(&self) -> bool {
        self.as_user || user::has_suite()
    }

    pub fn config(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.spec);
        self
    }

    /// Flags of `create` and `run`.
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Flags before the command.
    pub fn global(mut self, flags: &[&str]) -> Self {
        self.global.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// An environment variable of `create` and `run`.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes config.json with these args.
    pub fn write(self, args: Vec<String>) -> Self {
        self.set("process.args", json!(args)).keep_args()
    }

    /// Writes config.json as it is.
    pub fn keep_args(self) -> Self {
        let text = serde_json::to_string_pretty(&self.spec).expect("JSON");
        std::fs::write(self.dir.join("config.json"), text).expect("config.json");
        if self.as_user {
            user::give(&self.dir);
        }
        self
    }

    /// The call of `create` or `run`, ready to be changed.
    pub fn call(&self, command: &str) -> Call {
        let mut words = vec![command.to_owned(), "--bundle".to_owned(), self.dir.display().to_string()];
        words.extend(self.flags.iter().cloned());
        words.push(self.id.clone());
        let as_user = self.as_user();
        let driver = if host::all_with_systemd() && !as_user { Some("--systemd-cgroup") } else { None };
        let call = Call::new(words).global(driver).global(self.global.iter().map(String::as_str)).as_user(as_user);
        self.env.iter().fold(call, |call, (name, value)| call.env(name, value))
    }

    /// `run` in the foreground.
    #[track_caller]
    pub fn run(self, args: Vec<String>) -> Output {
        self.write(args).call("run").run()
    }

    /// `run`, expected to be refused with exit status 1 and `words`, leaving nothing.
    #[track_caller]
    pub fn refused(self, words: &str) -> Output {
        Self::nothing_ran(self.run(crate::probe!(print "it ran")).fails(words))
    }

    /// The same where other runtimes have words of their own.
    #[track_caller]
    pub fn refused_as_ocirt(self, words: &str) -> Output {
        Self::nothing_ran(self.run(crate::probe!(print "it ran")).fails_as_ocirt(words))
    }

    #[track_caller]
    fn nothing_ran(output: Output) -> Output {
        assert!(!output.stdout.contains("it ran"), "refused, but it ran");
        host::assert_nothing_left();
        output
    }

    /// `create`, expected to succeed.
    #[track_caller]
    pub fn create(self, args: Vec<String>) -> Container {
        let bundle = self.write(args);
        let mut running = bundle.call("create").spawn();
        running.finish().ok();
        Container { bundle, running }
    }

    /// The same, and `start`.
    #[track_caller]
    pub fn start(self, args: Vec<String>) -> Container {
        let container = self.create(args);
        container.start().ok();
        container
    }
}

/// A container that was created; deleted by force at the end of the test.
pub struct Container {
    pub bundle: Bundle,
    running: Running,
}

impl Container {
    pub fn id(&self) -> &str {
        &self.bundle.id
    }

    /// A call by whoever made the container.
    #[track_caller]
    pub fn call<const N: usize>(&self, words: [&str; N]) -> Output {
        Call::new(words).as_user(self.bundle.as_user()).run()
    }

    #[track_caller]
    pub fn start(&self) -> Output {
        self.call(["start", self.id()])
    }

    #[track_caller]
    pub fn state(&self) -> Value {
        self.call(["state", self.id()]).ok().json()
    }

    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.state()["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid")
    }

    #[track_caller]
    pub fn kill(&self, signal: &str) -> Output {
        self.call(["kill", self.id(), signal])
    }

    #[track_caller]
    pub fn delete(&self) -> Output {
        self.call(["delete", self.id()])
    }

    #[track_caller]
    pub fn wait_for(&self, status: &str) {
        eventually(&format!("{} is {status}, is {}", self.id(), self.status()), || self.status() == status);
    }

    /// What the container's process has printed.
    pub fn stdout(&self) -> String {
        self.running.stdout()
    }

    /// Waits until `count` answers are there.
    #[track_caller]
    pub fn answers(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} answers: {:?} {:?}", self.stdout(), self.running.stderr()), || {
            self.stdout().lines().count() >= count
        });
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| json!(line));
        self.stdout().lines().map(parse).collect()
    }

    /// A file of /proc/PID of the container's first process.
    #[track_caller]
    pub fn proc_file(&self, name: &str) -> String {
        let path = format!("/proc/{}/{name}", self.pid());
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// A control file of its cgroup as the host sees it, below `/sys/fs/cgroup/CONTROLLER` on v1.
    #[track_caller]
    pub fn cgroup_file(&self, controller: &str, name: &str) -> String {
        let path = self.cgroup(controller).join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
    }

    /// The directory of its cgroup of that controller.
    #[track_caller]
    pub fn cgroup(&self, controller: &str) -> PathBuf {
        let text = self.proc_file("cgroup");
        let path = text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let found = controllers.split(',').any(|name| name == controller);
            found.then(|| (controllers, path.trim_start_matches('/')))
        });
        let (controllers, path) = path.unwrap_or_else(|| panic!("no {controller} in {text}"));
        let base = Path::new("/sys/fs/cgroup");
        // Controllers that are mounted together may have no links of their own.
        let name = if base.join(controller).exists() { controller } else { controllers };
        base.join(name).join(path)
    }
}

fn default_spec() -> Value {
    let mounts = ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"].map(ocirt_bundle::file_system);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "cwd": "/",
            "user": { "uid": 0, "gid": 0 },
            "env": ["PATH=/usr/bin:/bin:/"],
            "capabilities": ocirt_bundle::capabilities(),
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs" },
        "hostname": "guest",
        "mounts": mounts,
        "linux": {
            "resources": { "devices": [ocirt_bundle::no_device()] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
            ],
            "maskedPaths": ["/proc/kcore", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
