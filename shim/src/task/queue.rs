//! The way of events to containerd: one after the other, each until it has been taken. Go's shim gives an event up
//! after five tries, and tries later ones meanwhile: so exits were lost for ever while containerd was away, and came
//! before their starts (containerd #6771).

use std::collections::VecDeque;
use std::time::Duration;

use crate::api::events::Envelope;
use crate::wire::status::{Code, Status};

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

const OOM: &str = "/tasks/oom";
const CREATE: &str = "/tasks/create";

/// Events that have not been delivered. Its length is bounded by what happens to containers while containerd, who asks
/// for all of it, is away.
#[derive(Default, Debug)]
pub struct Queue {
    waiting: VecDeque<Envelope>,
    state: State,
    failures: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum State {
    #[default]
    Empty,
    /// The first one is on its way.
    Sent,
    /// Until a timer fires.
    Delayed,
}

/// What is to be done next.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// Send this, and say what came of it within five seconds.
    Send(Envelope),
    /// Connect anew and [`Queue::retry`] after this.
    RetryAfter(Duration),
    /// All is delivered.
    Empty,
}

impl Queue {
    /// Of OOM kills that nobody has been told of, one is as good as many: a container can have them for as long as containerd
    /// is away.
    pub fn push(&mut self, event: Envelope) -> Option<Step> {
        if event.topic == OOM && self.has(&event) {
            return None;
        }
        self.waiting.push_back(event);
        if self.state == State::Empty { self.send() } else { None }
    }

    /// Whether the same is still to be sent, about the same container: another one of its id begins with its creation.
    fn has(&self, event: &Envelope) -> bool {
        let unsent = self.waiting.iter().skip(1).rev().take_while(|other| other.topic != CREATE);
        unsent.filter(|other| other.topic == event.topic).any(|other| other.event == event.event)
    }

    /// containerd has answered. That an event is malformed, or the method unknown, it would say for ever, and no other
    /// event would come by; such an event is returned for the log.
    pub fn answered(&mut self, answer: Result<(), Status>) -> (Option<Step>, Option<Envelope>) {
        if self.state != State::Sent {
            return (None, None);
        }
        let is_refused = |status: &Status| status.is(Code::InvalidArgument) || status.is(Code::Unimplemented);
        match answer {
            Err(status) if !is_refused(&status) => (self.failed(), None),
            answer => {
                self.failures = 0;
                let done = self.waiting.pop_front();
                (self.send(), done.filter(|_| answer.is_err()))
            }
        }
    }

    /// There is no connection, it broke, or the time was up. Whether containerd has the event is unknown: it may come
    /// twice, which its clients bear.
    pub fn failed(&mut self) -> Option<Step> {
        if self.state != State::Sent {
            return None;
        }
        let delay = FIRST_DELAY.saturating_mul(1 << self.failures.min(10)).min(LONGEST_DELAY);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Delayed;
        Some(Step::RetryAfter(delay))
    }

    /// How many have not been delivered.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub fn retry(&mut self) -> Option<Step> {
        if self.state == State::Delayed { self.send() } else { None }
    }

    fn send(&mut self) -> Option<Step> {
        let next = self.waiting.front().cloned();
        self.state = if next.is_some() { State::Sent } else { State::Empty };
        Some(next.map_or(Step::Empty, Step::Send))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::known::Any;

    fn event(topic: &str) -> Envelope {
        Envelope { topic: topic.to_owned(), ..Envelope::default() }
    }

    fn send(topic: &str) -> Option<Step> {
        Some(Step::Send(event(topic)))
    }

    #[test]
    fn events_go_one_after_the_other() {
        let mut queue = Queue::default();
        assert_eq!(queue.push(event("a")), send("a"));
        assert_eq!(queue.push(event("b")), None);
        assert_eq!(queue.answered(Ok(())), (send("b"), None));
        assert_eq!(queue.answered(Ok(())), (Some(Step::Empty), None));
        assert_eq!(queue.answered(Ok(())), (None, None), "an answer to nothing");
        assert_eq!(queue.push(event("c")), send("c"));
    }

    /// docker/for-linux#779, containerd #6771: fifteen seconds without containerd, and the exit was lost.
    #[test]
    fn an_event_outlasts_an_hour_without_containerd_and_keeps_its_place() {
        let mut queue = Queue::default();
        queue.push(event("start"));
        queue.push(event("exit"));
        let mut away = Duration::ZERO;
        let mut delays = Vec::new();
        while away < Duration::from_secs(3600) {
            let Some(Step::RetryAfter(delay)) = queue.failed() else { panic!("{queue:?}") };
            away += delay;
            delays.push(delay.as_millis());
            assert_eq!(queue.retry(), send("start"));
        }
        assert_eq!(delays[..8], [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(queue.answered(Ok(())), (send("exit"), None));
        let unavailable = Status::new(Code::Unavailable, "shutting down");
        assert_eq!(queue.answered(Err(unavailable)).0, Some(Step::RetryAfter(FIRST_DELAY)), "an answer began anew");
        assert_eq!(queue.retry(), send("exit"));
        assert_eq!(queue.answered(Ok(())).0, Some(Step::Empty));
    }

    #[test]
    fn oom_kills_that_wait_for_containerd_are_one() {
        let mut queue = Queue::default();
        let of = |topic: &str, id: &str| {
            let event = Some(Any { value: id.as_bytes().to_vec(), ..Any::default() });
            Envelope { topic: topic.to_owned(), event, ..Envelope::default() }
        };
        let pushed = [
            (OOM, "a"),
            // The first one may have been delivered.
            (OOM, "a"),
            (OOM, "a"),
            (OOM, "b"),
            (OOM, "a"),
            ("/tasks/exit", "a"),
            (CREATE, "a"),
            (OOM, "a"),
            (OOM, "a"),
        ];
        pushed.iter().for_each(|(topic, id)| drop(queue.push(of(topic, id))));
        let told: Vec<Envelope> = queue.waiting.iter().cloned().collect();
        assert_eq!(told, [0, 1, 3, 5, 6, 7].map(|number: usize| of(pushed[number].0, pushed[number].1)));
    }

    #[test]
    fn what_containerd_will_never_take_does_not_block_the_rest() {
        let mut queue = Queue::default();
        queue.push(event("bad"));
        queue.push(event("good"));
        let refused = Status::new(Code::InvalidArgument, "topic");
        assert_eq!(queue.answered(Err(refused)), (send("good"), Some(event("bad"))));
    }
}
