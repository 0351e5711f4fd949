//! The connection on which events go to containerd.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use containerd_shim_ocirt::api::events::{Envelope, ForwardRequest, METHOD, SERVICE};
use containerd_shim_ocirt::task::Input;
use containerd_shim_ocirt::task::queue::Step;
use containerd_shim_ocirt::wire::client::{Call, Client};
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use prost::Message;

use super::held::Link;
use super::state::Loop;
use super::words::{Alarm, Source};
use crate::log;

/// How long containerd may take for an event.
const ANSWER: Duration = Duration::from_secs(5);

impl Loop {
    pub fn follow(&mut self, step: Option<Step>) {
        match step {
            Some(Step::Send(envelope)) => self.forward(envelope),
            Some(Step::RetryAfter(delay)) => self.arm(Alarm::Retry, delay),
            Some(Step::Empty) => self.tell(Input::Flushed),
            None => {}
        }
    }

    fn forward(&mut self, envelope: Envelope) {
        let payload = ForwardRequest { envelope: Some(envelope) }.encode_to_vec();
        if self.call(payload).is_none() {
            self.containerd_failed();
        }
    }

    /// Sends one call. An event is far smaller than what a socket takes at once.
    fn call(&mut self, payload: Vec<u8>) -> Option<()> {
        if self.containerd.link.is_none() {
            self.dial()?;
        }
        let link = self.containerd.link.as_mut()?;
        let call = Call { service: SERVICE, method: METHOD, namespace: &self.namespace, payload, timeout: ANSWER };
        let bytes = link.client.call(call)?;
        (&link.stream).write_all(&bytes).ok()?;
        self.arm(Alarm::Answer, ANSWER);
        Some(())
    }

    /// Connects, which must not wait: a full backlog is a failure.
    fn dial(&mut self) -> Option<()> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None).ok()?;
        connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &UnixAddr::new(self.containerd.path.as_str()).ok()?).ok()?;
        let token = self.watch(&fd, EpollFlags::EPOLLIN, Source::Containerd).ok()?;
        self.containerd.link = Some(Link { stream: fd.into(), token, client: Client::default() });
        Some(())
    }

    pub fn containerd_ready(&mut self) {
        let Some(link) = self.containerd.link.as_mut() else { return };
        let mut bytes = [0; 4096];
        match (&link.stream).read(&mut bytes) {
            Ok(length) if length > 0 => {
                let answer = link.client.receive(&mut bytes.get(..length).unwrap_or_default());
                if let Some(answer) = answer {
                    self.alarms.remove(&Alarm::Answer);
                    let (step, refused) = self.queue.answered(answer.map(|_| ()));
                    if let Some(event) = refused {
                        log::warn(&format!("containerd refuses the event {}", event.topic));
                    }
                    self.follow(step);
                }
            }
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) => {}
            _ => self.containerd_failed(),
        }
    }

    /// A new connection for the next try.
    pub fn containerd_failed(&mut self) {
        if let Some(link) = self.containerd.link.take() {
            self.unwatch(&link.stream, link.token);
        }
        self.alarms.remove(&Alarm::Answer);
        let step = self.queue.failed();
        self.follow(step);
    }
}
