//! Containers whose processes are killed and do not end, as the kernel waits for a FUSE server; and one that seems to have ended.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::runtime::{Call, call};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use serde_json::json;

tests![
    a_file_system_of_its_own_that_hangs_keeps_no_container,
    a_file_system_of_the_hosts_that_hangs_is_named_and_left_alone,
    a_container_runs_as_long_as_one_of_its_threads,
    a_file_that_a_container_sends_is_never_the_runtimes_to_close,
];

/// A container that may mount FUSE.
fn bundle() -> Bundle {
    need_ocirt();
    need_root();
    need(Need::Fuse, Path::new("/dev/fuse").exists());
    let admin = json!(["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"]);
    Bundle::new()
        .directory("mnt/hung")
        .set("process.capabilities", json!({ "bounding": admin, "effective": admin, "permitted": admin }))
        .push(
            "linux.devices",
            json!({ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666 }),
        )
        .push(
            "linux.resources.devices",
            json!({ "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm" }),
        )
}

fn opened(container: &Container) {
    eventually("a file is open", || container.stdout().contains("open"));
}

/// Its server is another process of the container; the very process that waits; or one in a mount namespace of its own, for
/// which init waits.
fn a_file_system_of_its_own_that_hangs_keeps_no_container() {
    for how in ["child", "itself", "elsewhere"] {
        let container = bundle().start(probe!(fusehang how, "/mnt/hung"));
        opened(&container);
        let init = container.pid();
        call(["delete", "--force", container.id()]).ok();
        assert_eq!(host::reap(init), 137, "{how}");
    }
}

/// A file system that hangs, on the host.
struct Served {
    at: PathBuf,
    server: Child,
}

impl Served {
    fn new() -> Self {
        let at = host::place().join(format!("hung-{}", std::process::id()));
        std::fs::create_dir_all(&at).expect("directory");
        let mut server = Command::new(host::probe());
        let server = server.arg("fuseserve").arg(&at).stdout(Stdio::null()).spawn().expect("server");
        let served = Self { at, server };
        eventually("it is served", || served.at.join("file").exists());
        served
    }

    fn number(&self) -> u64 {
        std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(self.at.join("file")).expect("file"))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

fn a_file_system_of_the_hosts_that_hangs_is_named_and_left_alone() {
    let bundle = bundle();
    let served = Served::new();
    let source = served.at.to_str().expect("UTF-8");
    let container = bundle.mount("bind", source, "/mnt/hung", &["bind"]).start(probe!(fusehold "/mnt/hung"));
    opened(&container);
    let number = served.number();
    call(["delete", "--force", container.id()]).fails(&format!("FUSE file system {number} does not answer"));
    assert!(served.at.join("file").exists(), "the host's file system is cut off");
    // What is left is what the next delete removes.
    assert_ne!(container.status(), "");
    drop(served);
    call(["delete", "--force", container.id()]).ok();
}

/// Its state in procfs is that of its first thread: a zombie.
fn a_container_runs_as_long_as_one_of_its_threads() {
    need_ocirt();
    let container = Bundle::new().start(probe!(endfirst));
    let init = container.pid();
    eventually("the first thread has ended", || container.proc_file("stat").contains(") Z "));
    assert_eq!(container.status(), "running");
    container.delete().fails("running");
    container.kill("KILL").ok();
    assert_eq!(host::reap(init), 137);
    container.delete().ok();
}

/// The container tells that it is ready, with a file of a FUSE file system that nobody could close, not even a process that ends.
fn a_file_that_a_container_sends_is_never_the_runtimes_to_close() {
    let bundle = bundle();
    let path = host::socket();
    let supervisor = UnixDatagram::bind(&path).expect("socket");
    supervisor.set_read_timeout(Some(Duration::from_secs(20))).expect("socket");
    let name = path.to_str().expect("UTF-8");
    let container = bundle.env("NOTIFY_SOCKET", name).create(probe!(fusetell "/mnt/hung"));
    let mut start = Call::new(["start", container.id()]).env("NOTIFY_SOCKET", name).spawn();
    let mut buffer = [0; 100];
    let length = supervisor.recv(&mut buffer).expect("a message");
    assert!(buffer[..length].starts_with(b"READY=1"), "{:?}", buffer.get(..length));
    // The runtime waits until this is read, and the pipe that comes with it is closed.
    assert_eq!(supervisor.recv(&mut buffer).expect("a barrier"), 9);
    eventually("start ends", || start.child.try_wait().expect("wait").is_some());
    start.finish().ok();
    call(["delete", "--force", container.id()]).ok();
}
