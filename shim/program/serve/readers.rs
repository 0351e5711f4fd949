//! A process's client has its ends of the FIFOs before the process begins, as with Go's shim, whose open(2) waits for it. Else a short
//! process may have ended before its client has come, which then waits for somebody who writes, or gives up what it has not read:
//! containerd's client ends an open(2) that is still under way when it deletes.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use containerd_shim_ocirt::call::stdio::{Output, Stdio};
use containerd_shim_ocirt::task::{Input, JobKey, Work};
use containerd_shim_ocirt::wire::status::{Code, Status};

use super::held::Waiting;
use super::state::Loop;
use super::words::Alarm;

/// How long a client may take. One that does not come is no reason not to run, and may come later (`io::Rest`).
const WITHIN: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(2);

impl Waiting {
    /// An end for writing can be opened as soon as somebody opens the other one (fifo(7)). What cannot be for another reason is
    /// told when the streams are opened.
    fn look(&mut self) {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(libc::O_NONBLOCK);
        let held = &mut self.held;
        self.missing.retain(|path| match options.open(path) {
            Ok(end) => {
                held.push(end.into());
                false
            }
            Err(error) => error.raw_os_error() == Some(libc::ENXIO),
        });
    }
}

/// The FIFOs for the output of the process that this makes. A terminal's is opened when the terminal is there.
fn fifos(work: &Work) -> Vec<PathBuf> {
    let stdio = match work {
        Work::Create { request, .. } | Work::Restore { request, .. } if !request.terminal => {
            Stdio::parse(&request.stdin, &request.stdout, &request.stderr)
        }
        Work::Exec { request, .. } if !request.terminal => {
            Stdio::parse(&request.stdin, &request.stdout, &request.stderr)
        }
        _ => return Vec::new(),
    };
    match stdio.map(|stdio| stdio.output) {
        Ok(Output::Fifos { stdout, stderr }) => stdout.into_iter().chain(stderr).collect(),
        _ => Vec::new(),
    }
}

impl Loop {
    /// Begins a job, as soon as there is somebody to read what comes of it.
    pub fn begin(&mut self, job: JobKey, work: Work) {
        let waiting = Waiting { missing: fifos(&work), work, held: Vec::new(), until: Instant::now() + WITHIN };
        self.begin_with(job, waiting);
    }

    pub fn look_for_client(&mut self, job: JobKey) {
        if let Some(waiting) = self.waiting.remove(&job) {
            self.begin_with(job, waiting);
        }
    }

    fn begin_with(&mut self, job: JobKey, mut waiting: Waiting) {
        waiting.look();
        if !waiting.missing.is_empty() && Instant::now() < waiting.until {
            self.waiting.insert(job, waiting);
            return self.arm(Alarm::Client(job), AGAIN);
        }
        // What is held stays open until the streams are.
        let Waiting { work, held, .. } = waiting;
        self.begin_now(job, work);
        drop(held);
    }

    /// True if the job had not begun, and does not any more.
    pub fn call_off(&mut self, job: JobKey) -> bool {
        let has_waited = self.waiting.remove(&job).is_some();
        if has_waited {
            self.alarms.remove(&Alarm::Client(job));
            let outcome = Err(Status::new(Code::Canceled, "nobody has come for the output"));
            self.tell(Input::Done { job, outcome });
        }
        has_waited
    }
}

#[cfg(test)]
mod tests {
    use containerd_shim_ocirt::api::task::{CreateTaskRequest, ExecProcessRequest};
    use containerd_shim_ocirt::task::{ContainerKey, ProcessKey};

    use super::*;

    #[test]
    fn nobody_waits_for_the_client_of_a_terminal() {
        let container = ContainerKey(1);
        let works = |terminal: bool| {
            let (stdout, stderr) = ("/out".to_owned(), "/err".to_owned());
            let create = CreateTaskRequest { terminal, stdout, stderr, ..CreateTaskRequest::default() };
            let exec = ExecProcessRequest { terminal, stdout: "/x".to_owned(), ..ExecProcessRequest::default() };
            let process = ProcessKey { container, number: 1 };
            [
                Work::Create { container, request: Box::new(create.clone()) },
                Work::Restore { container, request: Box::new(create) },
                Work::Exec { process, request: Box::new(exec), stdin_closed: false },
                Work::Start(container),
            ]
        };
        assert_eq!(works(true).each_ref().map(|work| fifos(work).len()), [0; 4]);
        assert_eq!(works(false).each_ref().map(|work| fifos(work).len()), [2, 2, 1, 0]);
    }
}
