//! The state machines by lists: what happens, and as text what is then to be done.
//!
//! `exits` and `faults` have what is known to go wrong in other shims, by the number under which it was reported;
//! `schedule` has orders that nobody thought of.

mod exits;
mod faults;
mod history;
mod lifecycle;
mod limits;
mod schedule;
mod world;

use std::time::Duration;

use super::tasks::Tasks;
use super::{ContainerKey, Input, JobKey, Now, Outcome, Output, ProcessKey, Question, Ticket, Timer, Work};
use crate::api::events::Event;
use crate::api::known::Timestamp;
use crate::api::service::{Request, Response};
use crate::api::task::{
    ContainerRequest, CreateTaskRequest, ExecProcessRequest, KillRequest, Mount, ProcessRequest, ShutdownRequest,
};
use crate::wire::status::{Code, Status};

/// A shim, its clock, and the next request's number.
struct Shim {
    tasks: Tasks,
    seconds: u64,
    next: u32,
}

impl Shim {
    fn new() -> Self {
        let mut tasks = Tasks::new(50);
        assert_eq!(texts(&tasks.begin()), ["arm idle 60s"]);
        let mut shim = Self { tasks, seconds: 1000, next: 1 };
        assert_eq!(shim.see(Input::Connected), ["disarm idle"]);
        shim
    }

    /// With a container "c" that was created, and has its own pid namespace: its key is 1, its pid 100.
    fn with_created() -> Self {
        let mut shim = Self::new();
        shim.ask(create("c"));
        shim.done(1, born(100));
        shim
    }

    /// The same, started. The jobs 1 and 2 are done.
    fn with_running() -> Self {
        let mut shim = Self::with_created();
        shim.ask(start("c", ""));
        shim.done(2, Ok(Outcome::Done));
        shim
    }

    /// The same with an exec "e" that runs: its key is 1.1, its pid 200. The jobs 1 to 3 are done.
    fn with_exec() -> Self {
        let mut shim = Self::with_running();
        shim.ask(exec("c", "e"));
        shim.ask(start("c", "e"));
        shim.done(3, born(200));
        shim
    }

    /// Container `c`, whose root filesystem the shim has mounted, after the end of its init.
    fn with_ended_on_a_mount(status: u32) -> Self {
        let mut shim = Self::new();
        shim.ask(create_with_mount("c"));
        shim.done(1, Ok(Outcome::Done));
        shim.done(2, born(100));
        shim.exited(init(1), status);
        shim.see(Input::Drained(init(1)));
        shim
    }

    fn see(&mut self, input: Input) -> Vec<String> {
        let now = Now { wall: time(self.seconds), monotonic: Duration::from_secs(self.seconds) };
        texts(&self.tasks.step(now, input))
    }

    /// A request; requests are numbered from 1 on.
    fn ask(&mut self, request: Request) -> Vec<String> {
        let ticket = Ticket { connection: 1, stream: self.next };
        self.next += 1;
        self.see(Input::Request { ticket, request })
    }

    /// The time limit of a request by its number.
    fn expired(&mut self, stream: u32) -> Vec<String> {
        self.see(Input::Expired(Ticket { connection: 1, stream }))
    }

    fn done(&mut self, job: u64, outcome: Result<Outcome, Status>) -> Vec<String> {
        self.see(Input::Done { job: JobKey(job), outcome })
    }

    fn exited(&mut self, process: ProcessKey, status: u32) -> Vec<String> {
        let at = time(self.seconds);
        self.see(Input::Exited { process, status, at, out_of_memory: false })
    }
}

fn time(seconds: u64) -> Timestamp {
    Timestamp { seconds: seconds as i64, nanos: 0 }
}

fn init(container: u64) -> ProcessKey {
    ProcessKey::init(ContainerKey(container))
}

fn process(container: u64, number: u64) -> ProcessKey {
    ProcessKey { container: ContainerKey(container), number }
}

/// A process is born in a pid namespace of its own.
fn born(pid: u32) -> Result<Outcome, Status> {
    Ok(Outcome::Born { pid, alone: true })
}

fn failed(words: &str) -> Result<Outcome, Status> {
    Err(Status::new(Code::Unknown, words))
}

fn create_request(id: &str) -> CreateTaskRequest {
    CreateTaskRequest { id: id.to_owned(), stdout: "/fifo".to_owned(), ..CreateTaskRequest::default() }
}

fn create(id: &str) -> Request {
    Request::Create(Box::new(create_request(id)))
}

fn create_with_mount(id: &str) -> Request {
    Request::Create(Box::new(CreateTaskRequest { rootfs: vec![Mount::default()], ..create_request(id) }))
}

fn of_process(id: &str, exec_id: &str) -> ProcessRequest {
    ProcessRequest { id: id.to_owned(), exec_id: exec_id.to_owned() }
}

fn start(id: &str, exec_id: &str) -> Request {
    Request::Start(of_process(id, exec_id))
}

fn delete(id: &str, exec_id: &str) -> Request {
    Request::Delete(of_process(id, exec_id))
}

fn state(id: &str, exec_id: &str) -> Request {
    Request::State(of_process(id, exec_id))
}

fn wait(id: &str, exec_id: &str) -> Request {
    Request::Wait(of_process(id, exec_id))
}

fn exec(id: &str, exec_id: &str) -> Request {
    let (id, exec_id, stdout) = (id.to_owned(), exec_id.to_owned(), "/fifo".to_owned());
    Request::Exec(ExecProcessRequest { id, exec_id, stdout, ..ExecProcessRequest::default() })
}

fn kill(id: &str, exec_id: &str, signal: u32, all: bool) -> Request {
    Request::Kill(KillRequest { id: id.to_owned(), exec_id: exec_id.to_owned(), signal, all })
}

fn of_container(id: &str) -> ContainerRequest {
    ContainerRequest { id: id.to_owned() }
}

fn shutdown() -> Request {
    Request::Shutdown(ShutdownRequest::default())
}

fn texts(outputs: &[Output]) -> Vec<String> {
    outputs.iter().map(text).collect()
}

/// An output as a line: `#1` is a request, `J1` a job, `1` a container and `1.1` a process of it.
fn text(output: &Output) -> String {
    match output {
        Output::Reply { ticket, answer: Ok(response) } => format!("#{}: {}", ticket.stream, response_text(response)),
        Output::Reply { ticket, answer: Err(status) } => {
            format!("#{}: {} {}", ticket.stream, status.code, status.message)
        }
        Output::Ask { ticket, question } => format!("#{}: ask {}", ticket.stream, question_text(question)),
        Output::Publish(event) => event_text(event),
        Output::Run { job, work } => format!("run J{} {}", job.0, work_text(work)),
        Output::Abort(job) => format!("abort J{}", job.0),
        Output::Signal { process, signal } => format!("signal {} {signal}", process_text(*process)),
        Output::Close(process) => format!("close {}", process_text(*process)),
        Output::Forget(container) => format!("forget {}", container.0),
        Output::Arm { timer, after } => format!("arm {} {}s", timer_text(timer), after.as_secs()),
        Output::Disarm(timer) => format!("disarm {}", timer_text(timer)),
        Output::Unlink => "unlink".to_owned(),
        Output::Exit => "exit".to_owned(),
    }
}

fn process_text(process: ProcessKey) -> String {
    format!("{}.{}", process.container.0, process.number)
}

fn timer_text(timer: &Timer) -> String {
    match timer {
        Timer::Idle => "idle".to_owned(),
        Timer::Flush => "flush".to_owned(),
        Timer::Held(container) => format!("held {}", container.0),
        Timer::Drain(process) => format!("drain {}", process_text(*process)),
        Timer::Job(job) => format!("job J{}", job.0),
    }
}

fn response_text(response: &Response) -> String {
    match response {
        Response::Empty => "ok".to_owned(),
        Response::State(state) => format!("{:?} {} {}", state.status(), state.pid, state.exit_status),
        Response::Create(create) => format!("created {}", create.pid),
        Response::Start(start) => format!("started {}", start.pid),
        Response::Delete(delete) => format!("deleted {} {}", delete.pid, delete.exit_status),
        Response::Wait(wait) => format!("waited {}", wait.exit_status),
        Response::Connect(connect) => format!("connected {} {}", connect.shim_pid, connect.task_pid),
        Response::Pids(_) | Response::Stats(_) => panic!("the kernel answers this"),
    }
}

fn question_text(question: &Question) -> String {
    match question {
        Question::Signal { process, signal } => format!("signal {} {signal}", process_text(*process)),
        Question::Pids { container, execs, .. } => format!("pids {} {execs:?}", container.0),
        Question::Stats(container) => format!("stats {}", container.0),
        Question::Resize { process, width, height } => format!("resize {} {width}x{height}", process_text(*process)),
        Question::CloseStdin(process) => format!("close-stdin {}", process_text(*process)),
    }
}

fn work_text(work: &Work) -> String {
    match work {
        Work::Mount { container, .. } => format!("mount {}", container.0),
        Work::Create { container, .. } => format!("create {}", container.0),
        Work::Start(container) => format!("start {}", container.0),
        Work::Restore { container, .. } => format!("restore {}", container.0),
        Work::Exec { process, stdin_closed: false, .. } => format!("exec {}", process_text(*process)),
        Work::Exec { process, .. } => format!("exec {} without stdin", process_text(*process)),
        Work::Kill { container, signal, all: true } => format!("kill-all {} {signal}", container.0),
        Work::Kill { container, signal, .. } => format!("kill {} {signal}", container.0),
        Work::Pause(container) => format!("pause {}", container.0),
        Work::Resume(container) => format!("resume {}", container.0),
        Work::Update { container, .. } => format!("update {}", container.0),
        Work::Checkpoint { container, .. } => format!("checkpoint {}", container.0),
        Work::Delete { container, force: true } => format!("delete-force {}", container.0),
        Work::Delete { container, .. } => format!("delete {}", container.0),
        Work::Unmount(container) => format!("unmount {}", container.0),
    }
}

fn event_text(event: &Event) -> String {
    let topic = event.topic().trim_start_matches("/tasks/");
    let about = match event {
        Event::Create(event) => format!("{} {}", event.container_id, event.pid),
        Event::Start(event) => format!("{} {}", event.container_id, event.pid),
        Event::ExecAdded(event) => format!("{} {}", event.container_id, event.exec_id),
        Event::ExecStarted(event) => format!("{} {} {}", event.container_id, event.exec_id, event.pid),
        Event::Exit(event) => format!("{} {} {} {}", event.container_id, event.id, event.pid, event.exit_status),
        Event::Delete(event) => format!("{} {} {}", event.container_id, event.pid, event.exit_status),
        Event::Oom(event) => event.container_id.clone(),
        Event::Paused(event) => event.container_id.clone(),
        Event::Resumed(event) => event.container_id.clone(),
        Event::Checkpointed(event) => format!("{} {}", event.container_id, event.checkpoint),
    };
    format!("event {topic} {about}")
}
