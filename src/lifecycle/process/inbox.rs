//! The socket at which a container tells things. A message may bring descriptors, and how long it takes to close one is for its
//! sender to choose: a socket lingers (SO_LINGER, socket(7)), and a file asks its file system, whose server (FUSE) may never answer,
//! and not even a process that ends is spared that. So none is ever received. The message is read where it lies, and taken away
//! by a process that is given up if that takes long: then the kernel has to close what comes with it, such as the pipe with which
//! sd_notify_barrier(3) waits until that is done.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use anyhow::{Context, Result, bail};

use crate::error::io_error;
use crate::sys::guard::{self, Guard};
use crate::sys::process::{self, Cloned};
use crate::sys::socket::{self, Peeked};

/// How long the kernel may take to close the descriptors of a message, in milliseconds.
const CLOSED_WITHIN: u32 = 1000;

/// Closed by the end of the runtime, when what is left in it does not linger.
pub struct Inbox(ManuallyDrop<UnixDatagram>);

impl Inbox {
    pub fn new(socket: OwnedFd) -> Result<Self> {
        let socket = UnixDatagram::from(socket);
        socket.set_nonblocking(true).map_err(|error| io_error("fcntl", &error))?;
        Ok(Self(ManuallyDrop::new(socket)))
    }

    /// The next message, which stays. `None`: there is none.
    pub fn peek(&self, buffer: &mut [u8]) -> Option<Peeked> {
        socket::peek(self.as_fd(), buffer).ok()
    }

    /// Takes away the message that was peeked at.
    pub fn take(&self, message: &Peeked) -> Result<()> {
        if !message.has_descriptors {
            return Ok(socket::discard(self.as_fd())?);
        }
        match guard::clone_helper(0, None).context("helper process")? {
            Cloned::Child => {
                let _ = socket::discard(self.as_fd());
                process::exit_now(0)
            }
            Cloned::Runtime(child) => {
                let helper = Guard::with_grace(child, 0);
                if !process::ends_within(helper.pidfd.as_fd(), CLOSED_WITHIN)? {
                    bail!("the container sends descriptors that are not closed within {CLOSED_WITHIN} ms");
                }
                helper.wait()?;
                Ok(())
            }
        }
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A stream is as any other that lingers: its other end is told of a close.
    #[test]
    fn what_comes_with_a_message_is_closed_by_another_process() {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        let inbox = Inbox::new(receiver.into()).unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (mut mine, theirs) = UnixStream::pair().unwrap();
        let mut buffer = [0; 8];
        assert!(inbox.peek(&mut buffer).is_none());
        socket::send(sender.as_fd(), b"x", &[writer.as_fd(), theirs.as_fd()]).unwrap();
        socket::send(sender.as_fd(), b"yz", &[]).unwrap();
        drop((writer, theirs));
        for (text, has_descriptors) in [(&b"x"[..], true), (b"yz", false)] {
            let message = inbox.peek(&mut buffer).unwrap();
            assert_eq!((&buffer[..message.len], message.has_descriptors), (text, has_descriptors));
            inbox.take(&message).unwrap();
        }
        assert!(inbox.peek(&mut buffer).is_none());
        assert_eq!((reader.read(&mut [0]).unwrap(), mine.read(&mut [0]).unwrap()), (0, 0), "both are closed");
    }
}
