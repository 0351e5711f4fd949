//! What init tells the runtime, and its form as bytes: parsed, never trusted, since at the end init runs what the container
//! brought.
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
//! ```

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::sys::file::MountId;
use crate::sys::{Errno, Fault, Text};

/// The number of a step in its plan: wide enough that no list of config.json wraps it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepIndex(u32);

impl StepIndex {
    pub const FIRST: Self = Self(0);
    pub(super) const BYTES: usize = size_of::<u32>();

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

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0.to_le_bytes()
    }

    pub(super) fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
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

impl Report {
    /// The report of these bytes; none if they are none.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
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
                let file = (
                    u32::from_le_bytes(*major),
                    u32::from_le_bytes(*minor),
                    u64::from_le_bytes(inode.try_into().ok()?),
                );
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

/// The longest report, in bytes.
pub(super) const LONGEST: usize = 11 + 2 * Text::CAPACITY;

/// A message being put together, without the heap.
pub(super) struct Message {
    len: usize,
    bytes: [u8; LONGEST],
}

impl Default for Message {
    fn default() -> Self {
        Self { len: 0, bytes: [0; LONGEST] }
    }
}

impl Message {
    /// The bytes of a report; what comes with it as a descriptor is not in them.
    pub(super) fn of(report: &Report) -> Self {
        let mut message = Self::default();
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
        message
    }

    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let Some(slot) = self.bytes.get_mut(self.len) else { return };
            *slot = *byte;
            self.len += 1;
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(Report::parse(junk), None, "{junk:?}");
        }
    }
}
