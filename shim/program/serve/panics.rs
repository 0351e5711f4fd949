//! The last words of a shim with a fault: where it was, and what it knew of its containers. With it goes all that it knew, and
//! containerd's `delete` ends what it has left.

use std::panic;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use containerd_shim_ocirt::task::tasks::Tasks;

use crate::log;

/// The state machines, which a panic looks at as well. There is one thread, so nobody ever waits for them.
#[derive(Clone)]
pub(super) struct Known(Arc<Mutex<Tasks>>);

impl Known {
    /// From here on a panic is told in the log.
    pub(super) fn new(tasks: Tasks) -> Self {
        let this = Self(Arc::new(Mutex::new(tasks)));
        let watched = this.clone();
        panic::set_hook(Box::new(move |words| watched.tell(&words.to_string())));
        this
    }

    pub(super) fn get(&self) -> MutexGuard<'_, Tasks> {
        // Nobody goes on after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, words: &str) {
        log::error(words);
        match self.0.try_lock() {
            Ok(tasks) => tasks.dump().iter().for_each(|line| log::error(line)),
            Err(_) => log::error("what is known of containers is being changed, and is not told"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use containerd_shim_ocirt::api::known::Timestamp;
    use containerd_shim_ocirt::api::service::Request;
    use containerd_shim_ocirt::api::task::CreateTaskRequest;
    use containerd_shim_ocirt::task::{Input, Now, Ticket};

    use super::*;
    use crate::sys;

    /// What is in the log after `fault`, in a process of its own.
    fn log_of(fault: fn(&Known)) -> String {
        let (mut log, end) = std::io::pipe().unwrap();
        let child = sys::fork(|| {
            nix::unistd::dup2_stderr(&end).unwrap();
            let mut tasks = Tasks::new(1);
            let create = CreateTaskRequest { id: "c1".to_owned(), ..CreateTaskRequest::default() };
            let (ticket, request) = (Ticket { connection: 1, stream: 1 }, Request::Create(Box::new(create)));
            let now = Now { wall: Timestamp::default(), monotonic: Duration::ZERO };
            tasks.step(now, Input::Request { ticket, request });
            let watched = Known::new(tasks);
            // The program ends here; tests are built so that they go on.
            let _ = panic::catch_unwind(panic::AssertUnwindSafe(|| fault(&watched)));
            0
        });
        drop(end);
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        let pidfd = child.unwrap().pidfd;
        while sys::wait(std::os::fd::AsFd::as_fd(&pidfd)).is_none() {
            std::thread::yield_now();
        }
        text
    }

    #[test]
    fn a_panic_tells_where_it_was_and_what_is_known() {
        let text = log_of(|_| panic!("for the \"test\""));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines.iter().all(|line| line.contains("level=error msg=\"")), "{text}");
        assert!(lines[0].contains("panics.rs:") && lines[0].contains("for the \\\"test\\\""), "{text}");
        assert!(lines[1].contains("1 containers, ") && lines[2].contains("container c1: "), "{text}");
    }

    #[test]
    fn a_panic_in_the_midst_of_a_step_waits_for_nothing() {
        let text = log_of(|watched| {
            let _step = watched.get();
            panic!("in a step")
        });
        assert!(text.contains("in a step") && text.contains("is being changed"), "{text}");
    }
}
