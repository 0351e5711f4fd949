//! The conversation between the runtime and init: one SOCK_SEQPACKET pair, and `start`'s connection to the gate.
//!
//! The runtime only ever says Go; init only says how far it got, what it needs, or what failed. An end of file means
//! that the peer is gone, or, to the runtime, that exec succeeded. Each side has a type of its own, so that the wrong
//! direction does not compile. Bytes from init are parsed, never trusted: at the end it runs what the container brought.
//!
//! ```text
//! report:  'R' milestone
//!          'L', with the descriptor of a seccomp listener; the sender waits for Go
//!          'L' number:u32     the same, but the listener will be that descriptor of the sender
//!          'N' step:u32                                          (little endian)
//!          'B' pid:u32, with a pidfd: of init, by whoever made it in place of the runtime
//!          'M' item:u32 number:u64 unique:u64 major:u32 minor:u32 inode:u64, unique being 0 where there is none
//!          'S', with the socket on which the container tells that it is ready
//!          'P', with what was made in the pid namespace that is joined, to init
//!          'F' step:u32 errno:i32 is_path:u8 call_len:u8 call… detail…      (little endian)
//!             of a hook with a file of what it said, as a descriptor
//! go:      'G' step:u32…, with up to MAX_FDS descriptors; the steps are theirs, where init needs them for some
//! ```

use core::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::sys::file::MountId;
use crate::sys::socket::{self, MAX_FDS};
use crate::sys::{self, Errno, Fault, SysError, Text};

/// The number of a step in its plan: wide enough that no list of config.json wraps it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepIndex(u32);

impl StepIndex {
    pub const FIRST: Self = Self(0);
    const BYTES: usize = size_of::<u32>();

    /// The step at this place of a list. A list is in memory, where 2^32 steps do not fit: the last number is no step's.
    pub fn of(place: usize) -> Self {
        Self(u32::try_from(place).unwrap_or(u32::MAX))
    }

    /// The place in the list.
    pub const fn place(self) -> usize {
        self.0 as usize
    }

    /// The items of a list, each with its number.
    pub fn number<T>(items: impl IntoIterator<Item = T>) -> impl Iterator<Item = (Self, T)> {
        items.into_iter().enumerate().map(|(place, item)| (Self::of(place), item))
    }

    fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0.to_le_bytes()
    }

    fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(u32::from_le_bytes(bytes))
    }
}

impl fmt::Display for StepIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far init has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Milestone {
    /// Everything is mounted; the host's root is still there. The runtime runs prestart and createRuntime hooks.
    Mounted,
    /// All that `create` does is done; only the word to start is missing.
    Ready,
    /// `start` has connected, and is the one to tell from here on.
    Starting,
    /// A startContainer hook has ended well.
    Hooked,
}

/// What init tells.
#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack: init has no heap")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report {
    Reached(Milestone),
    /// A seccomp listener, which came with the report.
    Listener,
    /// The number that a seccomp listener is about to have as descriptor of the sender.
    ListenerAt(u32),
    /// Only the runtime may open what this step needs.
    Needs(StepIndex),
    /// Init's pid, which came with its pidfd.
    Born(u32),
    /// What an item of `mounts add` has mounted.
    Mounted(StepIndex, MountId),
    /// What was made in the pid namespace that init is to be born in, which came with the report.
    Made,
    /// The container's NOTIFY_SOCKET, which came with the report.
    NotifySocket,
    Failed(Failure),
}

/// Which step of the plan failed, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failure {
    pub step: StepIndex,
    pub errno: Errno,
    pub call: Text,
    pub detail: Text,
}

impl Failure {
    pub fn new(step: StepIndex, fault: &Fault) -> Self {
        Self { step, errno: fault.errno, call: Text::from_bytes(fault.call.as_bytes()), detail: fault.detail }
    }
}

const LONGEST_GO: usize = 1 + StepIndex::BYTES * MAX_FDS;
const LONGEST: usize = 11 + 2 * Text::CAPACITY;

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
                let report = parse(bytes).ok_or(SysError::new("recvmsg", Errno::EBADMSG))?;
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
        let mut bytes = Message::default();
        encode(report, &mut bytes);
        socket::send(self.0.as_fd(), bytes.as_bytes(), &[])
    }

    /// As [`InitEnd::report`], by write(2): a container's seccomp profile may forbid sendmsg(2), but not this, with which
    /// runc opens its start gate under the filter. SIGPIPE must be ignored.
    pub fn report_under_a_filter(&self, report: &Report) -> sys::Result<()> {
        let mut bytes = Message::default();
        encode(report, &mut bytes);
        socket::write(self.0.as_fd(), bytes.as_bytes())
    }

    /// Reports a failure, with the file of what was said about it, if there is one and a seccomp filter lets it through.
    pub fn report_failure(&self, failure: Failure, said: Option<BorrowedFd>) -> sys::Result<()> {
        let report = Report::Failed(failure);
        let mut bytes = Message::default();
        encode(&report, &mut bytes);
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
        let mut bytes = Message::default();
        encode(&Report::Born(pid), &mut bytes);
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

/// A message being put together, without the heap.
struct Message {
    len: usize,
    bytes: [u8; LONGEST],
}

impl Default for Message {
    fn default() -> Self {
        Self { len: 0, bytes: [0; LONGEST] }
    }
}

impl Message {
    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let Some(slot) = self.bytes.get_mut(self.len) else { return };
            *slot = *byte;
            self.len += 1;
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

fn encode(report: &Report, message: &mut Message) {
    match report {
        Report::Reached(milestone) => message.push(&[b'R', *milestone as u8]),
        Report::Listener => message.push(b"L"),
        Report::Made => message.push(b"P"),
        Report::NotifySocket => message.push(b"S"),
        Report::ListenerAt(number) => {
            message.push(b"L");
            message.push(&number.to_le_bytes());
        }
        Report::Needs(step) => {
            message.push(b"N");
            message.push(&step.to_bytes());
        }
        Report::Born(pid) => {
            message.push(b"B");
            message.push(&pid.to_le_bytes());
        }
        Report::Mounted(item, mount) => {
            let (major, minor, inode) = mount.file;
            message.push(b"M");
            message.push(&item.to_bytes());
            message.push(&mount.number.to_le_bytes());
            message.push(&mount.unique.unwrap_or(0).to_le_bytes());
            message.push(&major.to_le_bytes());
            message.push(&minor.to_le_bytes());
            message.push(&inode.to_le_bytes());
        }
        Report::Failed(failure) => {
            let call = failure.call.as_bytes();
            message.push(b"F");
            message.push(&failure.step.to_bytes());
            message.push(&(failure.errno as i32).to_le_bytes());
            message.push(&[failure.detail.is_path().into(), failure.call.len()]);
            message.push(call);
            message.push(failure.detail.as_bytes());
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Report> {
    match bytes {
        [b'R', milestone] => {
            let known = [Milestone::Mounted, Milestone::Ready, Milestone::Starting, Milestone::Hooked];
            known.into_iter().find(|known| *known as u8 == *milestone).map(Report::Reached)
        }
        [b'L'] => Some(Report::Listener),
        [b'P'] => Some(Report::Made),
        [b'S'] => Some(Report::NotifySocket),
        [b'L', number @ ..] => Some(Report::ListenerAt(u32::from_le_bytes(number.try_into().ok()?))),
        [b'N', step @ ..] => Some(Report::Needs(StepIndex::from_bytes(step.try_into().ok()?))),
        [b'B', pid @ ..] => Some(Report::Born(u32::from_le_bytes(pid.try_into().ok()?))),
        [b'M', rest @ ..] => {
            let (item, rest) = rest.split_first_chunk()?;
            let (number, rest) = rest.split_first_chunk()?;
            let (unique, rest) = rest.split_first_chunk()?;
            let (major, rest) = rest.split_first_chunk()?;
            let (minor, inode) = rest.split_first_chunk()?;
            let unique = Some(u64::from_le_bytes(*unique)).filter(|unique| *unique != 0);
            let file =
                (u32::from_le_bytes(*major), u32::from_le_bytes(*minor), u64::from_le_bytes(inode.try_into().ok()?));
            let mount = MountId { number: u64::from_le_bytes(*number), unique, file };
            Some(Report::Mounted(StepIndex::from_bytes(*item), mount))
        }
        [b'F', rest @ ..] => {
            let (step, rest) = rest.split_first_chunk()?;
            let (errno, rest) = rest.split_first_chunk()?;
            let (is_path, rest) = rest.split_first()?;
            let (call_len, rest) = rest.split_first()?;
            let (call, detail) = rest.split_at_checked(usize::from(*call_len))?;
            Some(Report::Failed(Failure {
                step: StepIndex::from_bytes(*step),
                errno: Errno::from_raw(i32::from_le_bytes(*errno)),
                call: Text::from_bytes(call),
                detail: Text::from_bytes(detail).as_path(*is_path != 0),
            }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn no_two_steps_of_a_list_share_a_number() {
        for places in [[0, 1 << 16], [1, (1 << 16) + 1], [0, 1 << 32], [5, (1 << 32) + 5]] {
            let [one, other] = places.map(StepIndex::of);
            assert!(one < other, "{places:?}");
            assert_eq!(one.place(), places[0]);
        }
        assert_eq!(StepIndex::number(["a", "b"]).last(), Some((StepIndex(1), "b")));
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

    #[test]
    fn junk_is_an_error_and_never_a_panic() {
        for junk in [
            &b"R"[..],
            b"Rx",
            b"F",
            b"F\0\0",
            b"F\0\0\0\0\0\0\0\0\0\xffabc",
            b"X",
            b"R\0\0",
            b"L\0",
            b"N",
            b"M",
            b"M0123456789",
            b"Nx",
            b"Bxyz",
        ] {
            assert_eq!(parse(junk), None, "{junk:?}");
        }
    }
}
