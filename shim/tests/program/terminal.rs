//! Terminals. The test takes the runtime's part: it sends the master to the socket that the shim gives the runtime.

use std::fs;
use std::io::IoSlice;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use containerd_shim_ocirt::api::known::Empty;
use containerd_shim_ocirt::api::task::{CreateTaskRequest, ResizePtyRequest};
use containerd_shim_ocirt::wire::status::Status;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{OpenptyResult, openpty};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::world::{World, until};

/// A container whose init runs this script on a terminal.
struct Terminal {
    world: World,
    pty: OpenptyResult,
}

impl Terminal {
    fn new(script: &str) -> Self {
        let pty = openpty(None, None).unwrap();
        for fd in [&pty.master, &pty.slave] {
            // The shim would have the terminal, and it no end.
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        let slave = nix::unistd::ttyname(&pty.slave).unwrap();
        let mut world = World::new(&format!("exec <{0} >{0} 2>&1; : >\"$0.opened\"; {script}", slave.display()));
        world.start().unwrap();
        Self { world, pty }
    }

    /// It is sent for as the runtime is told to: by the shim's descriptor of the bundle, whose own path may be too long.
    fn console_socket(&self) -> Option<PathBuf> {
        let calls = self.world.read("bundle/calls");
        let mut words = calls.split_whitespace();
        words.find(|word| *word == "--console-socket").and_then(|_| words.next()).map(PathBuf::from)
    }

    fn send_master(&self) {
        let mut stream = None;
        until("the shim waits for a terminal", || {
            stream = self.console_socket().and_then(|path| UnixStream::connect(path).ok());
            stream.is_some()
        });
        let stream = stream.unwrap();
        let fds = [self.pty.master.as_raw_fd()];
        let (words, rights) = ([IoSlice::new(b"/dev/ptmx")], [ControlMessage::ScmRights(&fds)]);
        sendmsg::<()>(stream.as_raw_fd(), &words, &rights, MsgFlags::empty(), None).unwrap();
        self.world.write("sent", "");
    }

    fn create(&self, stdout: &str) -> Result<(), Status> {
        let request = CreateTaskRequest { terminal: true, stdout: stdout.to_owned(), ..self.world.request() };
        std::thread::scope(|scope| {
            let create = scope.spawn(|| self.world.create_as(&request));
            self.send_master();
            create.join().unwrap()
        })
    }

    /// Runs to the end, of which the terminal learns when nobody has it.
    fn run(self) -> (u32, World) {
        let Self { world, pty } = self;
        world.init("Start").unwrap();
        until("init has the terminal", || world.bundle().join("program.opened").exists());
        drop(pty);
        let status = world.wait();
        world.init("Delete").unwrap();
        let is_left = |name: &str| name.starts_with(".console");
        let mut names = fs::read_dir(world.bundle()).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(!names.any(|name| is_left(&name.to_string_lossy())), "its socket");
        (status, world)
    }
}

#[test]
fn a_logger_reads_the_output_of_a_terminal() {
    let terminal = Terminal::new("test -t 1 && echo terminal; exit 7");
    let logger = terminal.world.program("logger", "exec 5>&-; cat <&4 >err; cat <&3 >out; sleep 0.2; echo end >>out");
    terminal.create(&format!("binary://{logger}")).unwrap();
    let (status, world) = terminal.run();
    assert_eq!((status, world.read("out").as_str(), world.read("err").as_str()), (7, "terminal\r\nend\n", ""));
}

#[test]
fn a_file_gets_the_output_of_a_terminal() {
    let terminal = Terminal::new("echo terminal");
    let path = terminal.world.directory.join("log");
    terminal.create(&format!("file://{}", path.display())).unwrap();
    assert_eq!(terminal.run().1.read("log"), "terminal\r\n");
}

#[test]
fn a_terminal_that_nobody_reads_holds_nobody_up() {
    let terminal = Terminal::new("i=0; while [ $i -lt 200 ]; do printf '%01000d' $i; i=$((i + 1)); done; exit 5");
    terminal.create("").unwrap();
    assert_eq!(terminal.run().0, 5);
}

/// A client opens its end when it gets round to it, and for a terminal nobody waits: what is written before stays in the FIFO,
/// and what comes after the end has that and the end.
#[test]
fn a_terminal_begins_before_its_client_has_come() {
    let terminal = Terminal::new("echo early; exit 6");
    let path = terminal.world.directory.join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    terminal.create(path.to_str().unwrap()).unwrap();
    terminal.world.init("Start").unwrap();
    until("init has the terminal", || terminal.world.bundle().join("program.opened").exists());
    drop(terminal.pty);
    assert_eq!(terminal.world.wait(), 6);
    assert_eq!(fs::read_to_string(&path).unwrap(), "early\r\n");
    terminal.world.init("Delete").unwrap();
}

/// A shim that is killed leaves its sockets: where that of a terminal is, containerd removes the whole directory.
#[test]
fn a_killed_shim_leaves_no_socket_of_a_terminal_beside_its_own() {
    let terminal = Terminal::new("true");
    let pid = nix::unistd::Pid::from_raw(terminal.world.shim_pid() as i32);
    let request = CreateTaskRequest { terminal: true, ..terminal.world.request() };
    std::thread::scope(|scope| {
        scope.spawn(|| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| terminal.world.create_as(&request))));
        until("the shim waits for a terminal", || terminal.console_socket().is_some());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    });
    let left: Vec<_> = fs::read_dir(terminal.world.directory.join("s")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    fs::remove_file(left[0].path()).unwrap();
}

#[test]
fn a_terminal_is_resized() {
    let terminal = Terminal::new("while [ \"$(stty size)\" != '33 99' ]; do sleep 0.02; done; exit 8");
    terminal.create("").unwrap();
    terminal.world.init("Start").unwrap();
    let request = ResizePtyRequest { id: "c".to_owned(), width: 99, height: 33, ..ResizePtyRequest::default() };
    terminal.world.call::<_, Empty>("ResizePty", &request).unwrap();
    assert_eq!(terminal.world.wait(), 8);
}
