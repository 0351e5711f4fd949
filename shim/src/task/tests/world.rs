//! What a shim's loop, the kernel, the runtime and containerd do with the outputs, as far as the state machines can
//! tell.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::history::History;
use super::*;
use crate::api::events::Envelope;
use crate::task::queue::{Queue, Step};

/// Everything outside, and what must hold of it.
pub struct World {
    pub tasks: Tasks,
    queue: Queue,
    clock: u64,
    pub asked: BTreeMap<Ticket, Request>,
    pub jobs: BTreeMap<JobKey, Work>,
    pub aborted: BTreeSet<JobKey>,
    pub timers: BTreeSet<Timer>,
    /// Processes whose exit has not been said.
    pub alive: BTreeSet<ProcessKey>,
    /// Processes whose exit was said before their birth.
    pub early: BTreeSet<ProcessKey>,
    pub exited: BTreeSet<ProcessKey>,
    open: BTreeSet<ProcessKey>,
    mounted: BTreeSet<ContainerKey>,
    given_up: BTreeSet<ContainerKey>,
    ids: BTreeMap<ContainerKey, String>,
    pub history: History,
    published: VecDeque<String>,
    pub is_sending: bool,
    pub is_delayed: bool,
    is_unlinked: bool,
    pub has_exited: bool,
    /// What has happened, in words, if somebody is to read it: that costs more than all the rest.
    trace: Option<Vec<String>>,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let trace = self.trace.as_deref().unwrap_or_default();
            eprintln!("{}", trace[trace.len().saturating_sub(60)..].join("\n"));
        }
    }
}

impl World {
    pub fn new(is_traced: bool) -> Self {
        let mut world = Self {
            tasks: Tasks::new(50),
            queue: Queue::default(),
            clock: 0,
            asked: BTreeMap::new(),
            jobs: BTreeMap::new(),
            aborted: BTreeSet::new(),
            timers: BTreeSet::new(),
            alive: BTreeSet::new(),
            early: BTreeSet::new(),
            exited: BTreeSet::new(),
            open: BTreeSet::new(),
            mounted: BTreeSet::new(),
            given_up: BTreeSet::new(),
            ids: BTreeMap::new(),
            history: History::default(),
            published: VecDeque::new(),
            is_sending: false,
            is_delayed: false,
            is_unlinked: false,
            has_exited: false,
            trace: is_traced.then(Vec::new),
        };
        let outputs = world.tasks.begin();
        world.apply(outputs);
        world
    }

    pub fn step(&mut self, input: Input) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("<- {input:?}"));
        }
        self.clock += 1;
        let now = Now { wall: time(self.clock), monotonic: Duration::from_secs(self.clock) };
        if let Input::Exited { process, .. } = input {
            self.exited.insert(process);
        }
        let outputs = self.tasks.step(now, input);
        self.apply(outputs);
        self.check();
    }

    pub fn request(&mut self, ticket: Ticket, request: Request) {
        assert!(self.asked.insert(ticket, request.clone()).is_none());
        let is_quick = matches!(
            request,
            Request::State(_)
                | Request::Connect(_)
                | Request::Pids(_)
                | Request::Stats(_)
                | Request::Exec(_)
                | Request::ResizePty(_)
                | Request::CloseIo(_)
                | Request::Shutdown(_)
        );
        self.step(Input::Request { ticket, request });
        assert!(!is_quick || !self.asked.contains_key(&ticket), "this has to wait for nothing");
    }

    /// What is done for this request and for no other is ended, and those who waited are let go.
    pub fn expire(&mut self, ticket: Ticket) {
        let waited = self.asked.get(&ticket).is_some_and(|it| matches!(it, Request::Wait(_) | Request::Delete(_)));
        self.step(Input::Expired(ticket));
        assert!(!waited || !self.asked.contains_key(&ticket), "an end of a wait is its answer");
        let is_ending = self.aborted.iter().any(|job| self.jobs.contains_key(job));
        let is_undone = self.jobs.values().any(|it| matches!(it, Work::Delete { force: true, .. } | Work::Unmount(_)));
        assert!(!self.asked.contains_key(&ticket) || is_ending || is_undone, "it waits on, and nothing ends that");
    }

    /// containerd takes the event that is on its way, or does not.
    pub fn answer_event(&mut self, is_taken: bool) {
        let step = if is_taken {
            self.is_sending = false;
            self.published.pop_front();
            self.queue.answered(Ok(())).0
        } else {
            self.is_sending = false;
            self.queue.failed()
        };
        self.follow(step);
    }

    pub fn retry_event(&mut self) {
        self.is_delayed = false;
        let step = self.queue.retry();
        self.follow(step);
    }

    fn follow(&mut self, step: Option<Step>) {
        match step {
            Some(Step::Send(envelope)) => {
                assert_eq!(Some(&envelope.topic), self.published.front(), "the oldest, and nothing is lost");
                assert!(!self.is_sending, "one at a time");
                self.is_sending = true;
            }
            Some(Step::RetryAfter(_)) => self.is_delayed = true,
            Some(Step::Empty) => {
                assert!(self.published.is_empty());
                self.step(Input::Flushed);
            }
            None => {}
        }
    }

    fn apply(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            if let Some(trace) = &mut self.trace {
                let words = if let Output::Ask { .. } = output { "ask".to_owned() } else { text(&output) };
                trace.push(format!("   {words}"));
            }
            assert!(!self.has_exited || matches!(output, Output::Reply { .. } | Output::Disarm(_)), "after the end");
            match output {
                Output::Reply { ticket, answer } => self.replied(ticket, &answer),
                Output::Ask { ticket, question } => {
                    assert!(self.asked.remove(&ticket).is_some(), "answered twice");
                    if let Question::Signal { process, .. } = question {
                        assert!(!self.exited.contains(&process), "a signal to nobody");
                    }
                }
                Output::Publish(event) => self.publish(&event),
                Output::Run { job, work } => self.run(job, work),
                Output::Abort(job) => {
                    assert!(self.jobs.contains_key(&job), "not under way");
                    self.aborted.insert(job);
                }
                Output::Signal { process, .. } => assert!(self.alive.contains(&process), "a signal to nobody"),
                Output::Close(process) => assert!(self.open.remove(&process), "closed twice"),
                Output::Forget(container) => self.forget(container),
                Output::Arm { timer, .. } => {
                    assert!(timer != Timer::Idle || self.published.is_empty(), "events are not delivered");
                    self.timers.insert(timer);
                }
                Output::Disarm(timer) => drop(self.timers.remove(&timer)),
                Output::Unlink => assert!(!std::mem::replace(&mut self.is_unlinked, true)),
                Output::Exit => {
                    assert!(self.is_unlinked && self.tasks.is_empty() && self.jobs.values().all(is_late));
                    assert!(self.published.is_empty(), "events are not delivered");
                    self.has_exited = true;
                }
            }
        }
    }

    fn replied(&mut self, ticket: Ticket, answer: &Result<Response, Status>) {
        let request = self.asked.remove(&ticket).expect("answered twice, or never asked");
        match (request, answer) {
            (Request::Wait(request), Ok(_)) => {
                assert!(self.history.is_over(&request.id, &request.exec_id), "waited no longer than the exit's event");
            }
            (Request::Start(request), Ok(_)) => {
                assert!(self.history.is_started(&request.id, &request.exec_id), "started before its event");
            }
            _ => {}
        }
    }

    fn publish(&mut self, event: &Event) {
        self.history.publish(event);
        let envelope = Envelope { topic: event_text(event), ..Envelope::default() };
        self.published.push_back(envelope.topic.clone());
        let step = self.queue.push(envelope);
        self.follow(step);
    }

    fn run(&mut self, job: JobKey, work: Work) {
        match &work {
            Work::Mount { container, request } => {
                self.ids.insert(*container, request.id.clone());
                assert!(self.mounted.insert(*container));
            }
            Work::Create { container, request } | Work::Restore { container, request } => {
                self.ids.insert(*container, request.id.clone());
                assert!(self.open.insert(init(container.0)));
            }
            Work::Exec { process, .. } => {
                assert!(!self.exited.contains(&init(process.container.0)), "an exec after init");
                assert!(self.open.insert(*process));
            }
            Work::Delete { container, .. } => assert!(!self.open.contains(&init(container.0)), "open while deleted"),
            Work::Unmount(container) => assert!(self.mounted.contains(container), "not mounted"),
            _ => {}
        }
        assert!(self.jobs.insert(job, work).is_none());
    }

    /// A job ends; `is_good`, or with an error.
    pub fn end_job(&mut self, job: JobKey, is_good: bool, alone: bool) {
        let Some(work) = self.jobs.remove(&job) else { return };
        self.aborted.remove(&job);
        let newborn = newborn(&work);
        let is_early = newborn.is_some_and(|process| self.early.contains(&process));
        let outcome = match newborn {
            _ if !is_good => failed("so"),
            Some(process) => {
                if !is_early {
                    self.alive.insert(process);
                }
                Ok(Outcome::Born { pid: 100 + job.0 as u32, alone })
            }
            None => Ok(Outcome::Done),
        };
        match work {
            Work::Unmount(container) if is_good => drop(self.mounted.remove(&container)),
            Work::Unmount(container) => drop(self.given_up.insert(container)),
            // The runtime has ended all processes.
            Work::Delete { container, force: true } => self.alive.retain(|process| process.container != container),
            _ => {}
        }
        self.step(Input::Done { job, outcome });
    }

    fn forget(&mut self, key: ContainerKey) {
        // An unmount that failed after a failed create has been tried; containerd's `delete` is next.
        let is_mounted = self.mounted.contains(&key) && !self.given_up.contains(&key);
        assert!(!is_mounted, "still mounted");
        assert!(self.open.iter().all(|process| process.container != key), "still open");
        let is_about = |timer: &Timer| match timer {
            Timer::Held(container) => *container == key,
            Timer::Drain(process) => process.container == key,
            Timer::Job(job) => self.jobs.get(job).is_none_or(|work| container_of(work) == key && !is_late(work)),
            Timer::Idle | Timer::Flush => false,
        };
        assert!(!self.timers.iter().any(is_about), "still armed");
        let is_left = |work: &Work| container_of(work) == key && !is_late(work);
        assert!(!self.jobs.values().any(is_left), "still at work");
        self.mounted.remove(&key);
    }

    /// A request that is not answered yet waits for something of its own container.
    fn check(&self) {
        for request in self.asked.values() {
            let id = match request {
                Request::Create(request) => &request.id,
                Request::Start(request) | Request::Delete(request) => &request.id,
                Request::Pause(request) | Request::Resume(request) => &request.id,
                Request::Kill(request) => &request.id,
                Request::Update(request) => &request.id,
                Request::Checkpoint(request) => &request.id,
                _ => continue,
            };
            let is_own = |container: ContainerKey| self.ids.get(&container).is_none_or(|own| own == id);
            let works = self.jobs.values().any(|work| is_own(container_of(work)));
            let drains = self.timers.iter().any(|timer| matches!(timer, Timer::Drain(it) if is_own(it.container)));
            assert!(works || drains, "{request:?} waits for nothing of its own");
        }
    }

    /// When nobody is left, nothing is.
    pub fn assert_nothing_is_left(&self) {
        assert!(self.asked.is_empty(), "{:?}", self.asked);
        assert!(self.tasks.is_empty() && self.jobs.is_empty() && self.alive.is_empty());
        assert!(self.open.is_empty() && self.mounted.is_empty(), "{:?} {:?}", self.open, self.mounted);
        assert!(self.timers.iter().all(|timer| *timer == Timer::Idle), "{:?}", self.timers);
        assert!(self.published.is_empty());
    }
}

/// The process that a job makes.
pub fn newborn(work: &Work) -> Option<ProcessKey> {
    match work {
        Work::Create { container, .. } | Work::Restore { container, .. } => Some(init(container.0)),
        Work::Exec { process, .. } => Some(*process),
        _ => None,
    }
}

fn container_of(work: &Work) -> ContainerKey {
    match work {
        Work::Mount { container, .. }
        | Work::Create { container, .. }
        | Work::Restore { container, .. }
        | Work::Kill { container, .. }
        | Work::Update { container, .. }
        | Work::Checkpoint { container, .. }
        | Work::Delete { container, .. } => *container,
        Work::Exec { process, .. } => process.container,
        Work::Start(container) | Work::Pause(container) | Work::Resume(container) | Work::Unmount(container) => {
            *container
        }
    }
}

/// Work that may outlast its container: nothing is lost with it.
fn is_late(work: &Work) -> bool {
    let is_kill = matches!(work, Work::Kill { .. });
    is_kill || matches!(work, Work::Pause(_) | Work::Resume(_) | Work::Update { .. } | Work::Checkpoint { .. })
}
