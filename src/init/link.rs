//! The conversation between the runtime and init: one SOCK_SEQPACKET pair, and `start`'s connection to the gate.
//!
//! The runtime only ever says Go; init only says how far it got, what it needs, or what failed (`report.rs`). An end of file
//! means that the peer is gone, or, to the runtime, that exec succeeded. Each side has a type of its own, so that the wrong
//! direction does not compile.
//!
//! ```text
//! go:      'G' step:u32…, with up to MAX_FDS descriptors; the steps are theirs, where init needs them for some
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::report::{Failure, LONGEST, Message, Report, StepIndex};
use crate::sys::socket::{self, MAX_FDS};
use crate::sys::{self, Errno, SysError};

const LONGEST_GO: usize = 1 + StepIndex::BYTES * MAX_FDS;

/// The runtime's end.
#[derive(Debug)]
pub struct RuntimeEnd(OwnedFd);

/// Init's end.
#[derive(Debug)]
pub struct InitEnd(OwnedFd);

/// Makes the two ends.
pub fn pair() -> sys::Result<(RuntimeEnd, InitEnd)> {
    let (runtime, init) = socket::pair()?;
    Ok((RuntimeEnd(runtime), InitEnd(init)))
}

impl RuntimeEnd {
    /// The end of `start`, which speaks to init over the gate.
    pub fn from_gate(connection: OwnedFd) -> Self {
        Self(connection)
    }

    /// Lets init go on, with the descriptors that its next steps need.
    pub fn go(&self, fds: &[BorrowedFd]) -> sys::Result<()> {
        socket::send(self.0.as_fd(), b"G", fds)
    }

    /// Lets init go on with what some of its steps need: a descriptor for each of `steps`, up to MAX_FDS of them.
    pub fn go_with(&self, steps: &[StepIndex], fds: &[BorrowedFd]) -> sys::Result<()> {
        let mut bytes = [0; LONGEST_GO];
        let mut filled = 0;
        for (slot, byte) in
            bytes.iter_mut().zip([b'G'].into_iter().chain(steps.iter().flat_map(|step| step.to_bytes())))
        {
            *slot = byte;
            filled += 1;
        }
        socket::send(self.0.as_fd(), bytes.get(..filled).unwrap_or_default(), fds)
    }

    /// The next report; `None`: init is gone, or has become the container's program.
    pub fn report(&self) -> sys::Result<Option<Report>> {
        Ok(self.report_with_descriptor()?.map(|(report, _)| report))
    }

    /// As [`RuntimeEnd::report`], with the descriptor that came along.
    pub fn report_with_descriptor(&self) -> sys::Result<Option<(Report, Option<OwnedFd>)>> {
        let mut buffer = [0; LONGEST];
        let received = socket::receive(self.0.as_fd(), &mut buffer)?;
        let [descriptor, ..] = received.fds;
        match buffer.get(..received.len) {
            None | Some([]) => Ok(None),
            Some(bytes) => {
                let report = Report::parse(bytes).ok_or(SysError::new("recvmsg", Errno::EBADMSG))?;
                Ok(Some((report, descriptor)))
            }
        }
    }
}

impl AsFd for RuntimeEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for InitEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl InitEnd {
    /// The end that init holds once `start` has connected.
    pub fn from_gate(connection: OwnedFd) -> Self {
        Self(connection)
    }

    pub fn report(&self, report: &Report) -> sys::Result<()> {
        let bytes = Message::of(report);
        socket::send(self.0.as_fd(), bytes.as_bytes(), &[])
    }

    /// As [`InitEnd::report`], by write(2): a container's seccomp profile may forbid sendmsg(2), but not this, with which
    /// runc opens its start gate under the filter. SIGPIPE must be ignored.
    pub fn report_under_a_filter(&self, report: &Report) -> sys::Result<()> {
        let bytes = Message::of(report);
        socket::write(self.0.as_fd(), bytes.as_bytes())
    }

    /// Reports a failure, with the file of what was said about it, if there is one and a seccomp filter lets it through.
    pub fn report_failure(&self, failure: Failure, said: Option<BorrowedFd>) -> sys::Result<()> {
        let report = Report::Failed(failure);
        let bytes = Message::of(&report);
        let sent = socket::send(self.0.as_fd(), bytes.as_bytes(), said.as_slice());
        sent.or_else(|_| self.report_under_a_filter(&report))
    }

    /// Reports a seccomp listener: [`Report::Listener`].
    pub fn report_listener(&self, listener: BorrowedFd) -> sys::Result<()> {
        socket::send(self.0.as_fd(), b"L", &[listener])
    }

    /// Reports what was made in a pid namespace: [`Report::Made`].
    pub fn report_made(&self, made: BorrowedFd) -> sys::Result<()> {
        socket::send(self.0.as_fd(), b"P", &[made])
    }

    /// Reports the socket on which the container tells that it is ready: [`Report::NotifySocket`].
    pub fn report_notify_socket(&self, socket: BorrowedFd) -> sys::Result<()> {
        socket::send(self.0.as_fd(), b"S", &[socket])
    }

    /// Reports that the process `pid` was made: [`Report::Born`].
    pub fn report_born(&self, pid: u32, pidfd: BorrowedFd) -> sys::Result<()> {
        let bytes = Message::of(&Report::Born(pid));
        socket::send(self.0.as_fd(), bytes.as_bytes(), &[pidfd])
    }

    /// Waits for the runtime's Go and returns what came with it. EPIPE: the runtime is gone.
    pub fn wait_for_go(&self) -> sys::Result<[Option<OwnedFd>; MAX_FDS]> {
        let mut buffer = [0; 1];
        let received = socket::receive(self.0.as_fd(), &mut buffer)?;
        match (received.len, buffer) {
            (1, [b'G']) => Ok(received.fds),
            _ => Err(SysError::new("recvmsg", Errno::EPIPE)),
        }
    }

    /// Waits for the runtime's Go and returns which steps it brings something for. EPIPE: the runtime is gone.
    pub fn wait_for_opened(&self) -> sys::Result<Opened> {
        let mut buffer = [0; LONGEST_GO];
        let received = socket::receive(self.0.as_fd(), &mut buffer)?;
        match buffer.get(..received.len) {
            Some([b'G', steps @ ..]) => Ok(Opened::new(steps, received.fds)),
            _ => Err(SysError::new("recvmsg", Errno::EPIPE)),
        }
    }
}

/// What the runtime opened for steps to come.
pub struct Opened([Option<(StepIndex, OwnedFd)>; MAX_FDS]);

impl Default for Opened {
    fn default() -> Self {
        Self([const { None }; MAX_FDS])
    }
}

impl Opened {
    fn new(steps: &[u8], fds: [Option<OwnedFd>; MAX_FDS]) -> Self {
        let mut opened = Self::default();
        for ((slot, step), fd) in opened.0.iter_mut().zip(steps.as_chunks().0).zip(fds) {
            *slot = fd.map(|fd| (StepIndex::from_bytes(*step), fd));
        }
        opened
    }

    /// What was opened for `step`, once.
    pub fn take(&mut self, step: StepIndex) -> Option<OwnedFd> {
        let slot = self.0.iter_mut().find(|slot| slot.as_ref().is_some_and(|(owner, _)| *owner == step))?;
        slot.take().map(|(_, fd)| fd)
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Milestone;
    use super::*;
    use crate::sys::Fault;
    use crate::sys::file::MountId;

    #[test]
    fn a_failure_arrives_as_it_was_sent() {
        let (runtime, init) = pair().unwrap();
        let words = Fault::new("fsconfig", Errno::EINVAL, "/x: Unknown parameter 'sice'");
        let path = SysError::new("openat2", Errno::EINVAL).about(c"/x");
        for (fault, is_path) in [(words, false), (path, true)] {
            let sent = Report::Failed(Failure::new(StepIndex::of(70_001), &fault));
            init.report(&sent).unwrap();
            assert_eq!(runtime.report().unwrap(), Some(sent));
            assert_eq!(fault.detail.is_path(), is_path);
        }
    }

    #[test]
    fn a_mount_arrives_with_its_identity() {
        let (runtime, init) = pair().unwrap();
        for unique in [None, Some(u64::MAX)] {
            let sent = Report::Mounted(StepIndex::of(7), MountId { number: 300, unique, file: (8, 1, u64::MAX - 1) });
            init.report(&sent).unwrap();
            assert_eq!(runtime.report().unwrap(), Some(sent));
        }
    }

    #[test]
    fn every_milestone_arrives() {
        let (runtime, init) = pair().unwrap();
        for milestone in [Milestone::Mounted, Milestone::Ready, Milestone::Starting, Milestone::Hooked] {
            for report in [InitEnd::report, InitEnd::report_under_a_filter] {
                report(&init, &Report::Reached(milestone)).unwrap();
                assert_eq!(runtime.report().unwrap(), Some(Report::Reached(milestone)));
            }
        }
    }

    #[test]
    fn a_listener_travels_with_its_report_or_is_announced() {
        let (runtime, init) = pair().unwrap();
        let file = socket::sealed_file(c"test", b"listener").unwrap();
        init.report_listener(file.as_fd()).unwrap();
        let (report, descriptor) = runtime.report_with_descriptor().unwrap().unwrap();
        let text = std::io::read_to_string(std::fs::File::from(descriptor.unwrap())).unwrap();
        assert_eq!((report, text.as_str()), (Report::Listener, "listener"));
        init.report(&Report::ListenerAt(4711)).unwrap();
        let (report, descriptor) = runtime.report_with_descriptor().unwrap().unwrap();
        assert_eq!((report, descriptor.is_none()), (Report::ListenerAt(4711), true));
    }

    #[test]
    fn a_closed_end_reads_as_gone() {
        let (runtime, init) = pair().unwrap();
        drop(init);
        assert_eq!(runtime.report().unwrap(), None);
        let (runtime, init) = pair().unwrap();
        drop(runtime);
        assert_eq!(init.wait_for_go().unwrap_err().errno, Errno::EPIPE);
    }

    #[test]
    fn descriptors_ride_on_go() {
        let (runtime, init) = pair().unwrap();
        let file = socket::sealed_file(c"test", b"hello").unwrap();
        runtime.go(&[file.as_fd()]).unwrap();
        let [first, second, ..] = init.wait_for_go().unwrap();
        let text = std::io::read_to_string(std::fs::File::from(first.unwrap())).unwrap();
        assert_eq!((text.as_str(), second.is_none()), ("hello", true));
    }

    #[test]
    fn what_a_step_needs_arrives_for_that_step_once() {
        let (runtime, init) = pair().unwrap();
        let [early, late] = [7, 65_536 + 7].map(StepIndex::of);
        init.report(&Report::Needs(late)).unwrap();
        assert_eq!(runtime.report().unwrap(), Some(Report::Needs(late)));
        let file = |text: &str| socket::sealed_file(c"test", text.as_bytes()).unwrap();
        runtime.go_with(&[late, early], &[file("one").as_fd(), file("other").as_fd()]).unwrap();
        let mut opened = init.wait_for_opened().unwrap();
        let text = std::io::read_to_string(std::fs::File::from(opened.take(early).unwrap())).unwrap();
        assert_eq!((text.as_str(), opened.take(early).is_none(), opened.take(late).is_some()), ("other", true, true));
        drop(runtime);
        assert_eq!(init.wait_for_opened().err().unwrap().errno, Errno::EPIPE);
    }
}
