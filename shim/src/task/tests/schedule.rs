//! Orders at random: requests for few ids, ends of jobs, exits, time limits, a containerd that comes and goes. After
//! each step the invariants of `task` are checked (`world`, `history`); now and then everything is brought to its end,
//! and nothing may be left: no request without an answer, no open stdio, mount, timer or event.

use std::collections::BTreeMap;

use super::world::{World, newborn};
use super::*;
use crate::api::task::{CheckpointTaskRequest, CloseIoRequest, ResizePtyRequest, UpdateTaskRequest};
use crate::testing::Random;

/// `OCIRT_STEPS` has another number: `make schedules`.
const STEPS: usize = if cfg!(debug_assertions) { 2_000_000 } else { 5_000_000 };
/// Steps from the beginning of a shim to its end.
const LIFE: usize = 500;

const IDS: [&str; 3] = ["a", "b", "c"];
const EXEC_IDS: [&str; 2] = ["x", "y"];

struct Driver {
    random: Random,
    world: World,
    connections: Vec<u64>,
    next: u32,
}

impl Driver {
    fn new(seed: u64, is_traced: bool) -> Self {
        let mut driver = Self { random: Random(seed), world: World::new(is_traced), connections: Vec::new(), next: 0 };
        driver.connect();
        driver
    }

    fn connect(&mut self) {
        self.next += 1;
        self.connections.push(u64::from(self.next));
        self.world.step(Input::Connected);
    }

    fn disconnect(&mut self) {
        let at = self.random.below(self.connections.len());
        let connection = self.connections.swap_remove(at);
        // Its Waits are forgotten; answers to its other requests the loop throws away.
        let is_wait = |request: &Request| matches!(request, Request::Wait(_));
        self.world.asked.retain(|ticket, request| ticket.connection != connection || !is_wait(request));
        self.world.step(Input::Disconnected(connection));
    }

    fn request(&mut self) -> Request {
        let id = self.random.one_of(&IDS);
        let exec_id = if self.random.below(2) == 0 { "" } else { self.random.one_of(&EXEC_IDS) };
        let (text, exec_text) = (id.to_owned(), exec_id.to_owned());
        match self.random.below(26) {
            0..2 => Request::Create(Box::new(CreateTaskRequest {
                rootfs: vec![Mount::default(); self.random.below(2)],
                stdout: "/fifo".repeat(self.random.below(2)),
                checkpoint: if self.random.below(6) == 0 { "/k".to_owned() } else { String::new() },
                ..create_request(id)
            })),
            2..7 => start(id, exec_id),
            7..10 => exec(id, self.random.one_of(&EXEC_IDS)),
            10 => delete(id, exec_id),
            11..13 => wait(id, exec_id),
            13 => kill(id, exec_id, 9, self.random.below(3) == 0),
            14 => state(id, exec_id),
            15..17 => Request::Pause(of_container(id)),
            17..20 => Request::Resume(of_container(id)),
            20 => Request::Update(UpdateTaskRequest { id: text, ..UpdateTaskRequest::default() }),
            21 => Request::Checkpoint(CheckpointTaskRequest { id: text, path: "/k".to_owned(), options: None }),
            22 => Request::Connect(of_container(id)),
            23 => Request::CloseIo(CloseIoRequest { id: text, exec_id: exec_text, stdin: true }),
            24 => Request::ResizePty(ResizePtyRequest { id: text, exec_id: exec_text, width: 1, height: 1 }),
            _ => Request::Pids(of_container(id)),
        }
    }

    fn ask(&mut self, request: Request) {
        if self.connections.is_empty() {
            self.connect();
        }
        self.next += 1;
        let ticket = Ticket { connection: self.random.one_of(&self.connections), stream: self.next };
        self.world.request(ticket, request);
    }

    fn step(&mut self) {
        match self.random.below(21) {
            0..8 => {
                let request = self.request();
                self.ask(request);
            }
            8..15 => self.end_a_job(),
            15 => match self.random.below(8) {
                0 => self.exit_early(),
                1..4 => self.exit_one(),
                _ => {}
            },
            16 => self.fire(),
            17 => self.containerd(),
            18 if self.connections.len() > 2 => self.disconnect(),
            18 => self.connect(),
            19 => self.expire(),
            _ => {
                let process = self.any_process();
                match self.random.below(3) {
                    0 => self.world.step(Input::Drained(process)),
                    1 => self.world.step(Input::OutOfMemory(process.container)),
                    // An exit that has been said, or of nobody.
                    _ if self.world.exited.contains(&process) => self.exit(process),
                    _ => {}
                }
            }
        }
    }

    /// Of a container that there is, was, or never was.
    fn any_process(&mut self) -> ProcessKey {
        match self.world.alive.iter().next_back() {
            Some(last) => process(last.container.0, self.random.below(3) as u64),
            None => process(1 + self.random.below(20) as u64, 0),
        }
    }

    /// The time limit of a request, answered or not, has passed.
    fn expire(&mut self) {
        let asked: Vec<Ticket> = self.world.asked.keys().copied().collect();
        if asked.is_empty() || self.random.below(4) > 0 {
            return;
        }
        let ticket = self.random.one_of(&asked);
        self.world.expire(ticket);
    }

    fn end_a_job(&mut self) {
        let jobs: Vec<JobKey> = self.world.jobs.keys().copied().collect();
        if jobs.is_empty() {
            return;
        }
        let job = self.random.one_of(&jobs);
        let is_good =
            if self.world.aborted.contains(&job) { self.random.below(8) == 0 } else { self.random.below(16) > 0 };
        self.world.end_job(job, is_good, self.random.below(3) > 0);
    }

    fn exit_early(&mut self) {
        let born: Vec<ProcessKey> = self.world.jobs.values().filter_map(newborn).collect();
        if let Some(process) = born.into_iter().find(|process| !self.world.early.contains(process)) {
            self.world.early.insert(process);
            self.exit(process);
        }
    }

    fn exit_one(&mut self) {
        let alive: Vec<ProcessKey> = self.world.alive.iter().copied().collect();
        if !alive.is_empty() {
            let process = self.random.one_of(&alive);
            self.exit(process);
        }
    }

    fn exit(&mut self, process: ProcessKey) {
        self.world.alive.remove(&process);
        let out_of_memory = self.random.below(5) == 0;
        self.world.step(Input::Exited { process, status: 7, at: time(5), out_of_memory });
    }

    fn fire(&mut self) {
        let timers: Vec<Timer> = self.world.timers.iter().copied().collect();
        if timers.is_empty() {
            return;
        }
        let timer = self.random.one_of(&timers);
        if timer != Timer::Idle {
            self.world.timers.remove(&timer);
            self.world.step(Input::Timer(timer));
        }
    }

    fn containerd(&mut self) {
        if self.world.is_sending {
            let is_taken = self.random.below(3) > 0;
            self.world.answer_event(is_taken);
        } else if self.world.is_delayed {
            self.world.retry_event();
        }
    }

    /// Ends what is under way, until nothing is.
    fn calm(&mut self) {
        for _ in 0..10_000 {
            if let Some(job) = self.world.jobs.keys().next().copied() {
                let is_good = !self.world.aborted.contains(&job);
                self.world.end_job(job, is_good, true);
            } else if let Some(process) = self.world.alive.iter().next().copied() {
                self.exit(process);
            } else if self.world.is_sending {
                self.world.answer_event(true);
            } else if self.world.is_delayed {
                self.world.retry_event();
            } else if let Some(timer) = self.world.timers.iter().find(|timer| **timer != Timer::Idle).copied() {
                self.world.timers.remove(&timer);
                self.world.step(Input::Timer(timer));
            } else {
                return;
            }
        }
        panic!("it does not come to an end");
    }

    fn end(&mut self) {
        self.calm();
        for id in IDS {
            self.ask(delete(id, ""));
            self.calm();
        }
        self.world.assert_nothing_is_left();
        if self.random.below(2) == 0 {
            self.ask(shutdown());
        } else {
            while !self.connections.is_empty() {
                self.disconnect();
            }
            assert!(self.world.timers.remove(&Timer::Idle), "nobody is there");
            self.world.step(Input::Timer(Timer::Idle));
        }
        self.calm();
        assert!(self.world.has_exited);
    }
}

/// One shim from its beginning to its end, and how many events of each topic there were.
fn life(seed: u64, is_traced: bool) -> BTreeMap<&'static str, usize> {
    let mut driver = Driver::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), is_traced);
    for _ in 0..LIFE {
        driver.step();
    }
    driver.end();
    std::mem::take(&mut driver.world.history.counts)
}

#[test]
fn any_order_keeps_the_invariants_and_leaves_nothing() {
    let steps = std::env::var("OCIRT_STEPS").map_or(STEPS, |steps| steps.parse().expect("a number of steps"));
    let mut counts = BTreeMap::new();
    for seed in 1..=(steps / LIFE) as u64 {
        // What fails is done once more, for somebody to read.
        let told = std::panic::catch_unwind(|| life(seed, false)).unwrap_or_else(|_| life(seed, true));
        told.iter().for_each(|(topic, count)| *counts.entry(*topic).or_insert(0) += count);
    }
    // They have been somewhere.
    assert!(counts.len() == 10 && counts.values().all(|count| *count > steps / 2000), "{counts:?}");
}
