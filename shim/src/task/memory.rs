//! Answers to `Delete` that have been given, those of execs if they had to be waited for, for a client that did not get
//! them: one whose time limit passed asks again, and would take "not found" for a shim that can be left alone (containerd
//! #7496, #8931).

use std::collections::VecDeque;
use std::time::Duration;

use crate::api::task::DeleteResponse;

/// How long an answer is remembered.
const LONG: Duration = Duration::from_secs(60);

#[derive(Default, Debug)]
pub struct Memory {
    /// The oldest first.
    answers: VecDeque<Answer>,
}

#[derive(Debug)]
struct Answer {
    id: String,
    exec_id: String,
    response: DeleteResponse,
    until: Duration,
}

impl Memory {
    pub fn remember(&mut self, id: &str, exec_id: &str, response: DeleteResponse, now: Duration) {
        self.forget_old(now);
        let (id, exec_id) = (id.to_owned(), exec_id.to_owned());
        self.answers.push_back(Answer { id, exec_id, response, until: now + LONG });
    }

    pub fn recall(&mut self, id: &str, exec_id: &str, now: Duration) -> Option<DeleteResponse> {
        self.forget_old(now);
        let answer = self.answers.iter().rev().find(|answer| answer.id == id && answer.exec_id == exec_id)?;
        Some(answer.response.clone())
    }

    /// There is another container with the id, or with `exec_id` another process.
    pub fn forget(&mut self, id: &str, exec_id: Option<&str>) {
        self.answers.retain(|answer| answer.id != id || exec_id.is_some_and(|exec_id| answer.exec_id != exec_id));
    }

    fn forget_old(&mut self, now: Duration) {
        while self.answers.front().is_some_and(|answer| answer.until <= now) {
            self.answers.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_answer_is_remembered_for_a_minute() {
        let mut memory = Memory::default();
        let response = DeleteResponse { pid: 7, ..DeleteResponse::default() };
        memory.remember("c", "", response.clone(), second(5));
        assert_eq!(memory.recall("c", "", second(64)), Some(response));
        assert_eq!(memory.recall("c", "e", second(64)), None);
        assert_eq!(memory.recall("c", "", second(65)), None);
    }

    #[test]
    fn another_of_the_name_ends_the_memory() {
        let mut memory = Memory::default();
        for exec_id in ["", "x", "y"] {
            memory.remember("c", exec_id, DeleteResponse::default(), second(0));
        }
        memory.forget("c", Some("x"));
        assert!(memory.recall("c", "x", second(1)).is_none() && memory.recall("c", "y", second(1)).is_some());
        memory.forget("c", None);
        assert!(memory.recall("c", "", second(1)).is_none() && memory.recall("c", "y", second(1)).is_none());
    }
}
