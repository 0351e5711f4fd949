//! containerd's connections to the shim.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use containerd_shim_ocirt::api::service::Request;
use containerd_shim_ocirt::task::{Input, Ticket};
use containerd_shim_ocirt::wire::frame;
use containerd_shim_ocirt::wire::server::{self, Call, Connection, Incoming};
use containerd_shim_ocirt::wire::status::Status;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{getegid, geteuid};

use super::held::Peer;
use super::state::Loop;
use super::words::{Alarm, LISTENER, Source};

/// What is read at once.
const PIECE: usize = 16 << 10;
/// How often from one connection before others have their turn.
const TURNS: usize = 16;
/// The most answers, in bytes, that a client may leave unread before nothing more is read from it: one of the longest.
const UNREAD: usize = frame::LIMIT;
/// The most connections. containerd has one for each container, and some of its own; one that is left open costs a descriptor
/// and, half-way through a message, up to 4 MiB.
const SPARE: usize = 64;
const FOR_EACH: usize = 4;
/// When a connection is tried again for which there was no descriptor.
const AGAIN: Duration = Duration::from_millis(100);

impl Loop {
    pub fn accept(&mut self) {
        for _ in 0..TURNS {
            let Some(accepted) = self.listener.as_ref().map(UnixListener::accept) else { return };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Without a descriptor for it the connection stays where it is, and epoll would tell of it for ever.
                Err(_) => {
                    self.heed(EpollFlags::empty());
                    return self.arm(Alarm::Accept, AGAIN);
                }
            };
            // Only the user as whom this shim runs.
            let is_ours = getsockopt(&stream, sockopt::PeerCredentials)
                .is_ok_and(|peer| peer.uid() == geteuid().as_raw() && peer.gid() == getegid().as_raw());
            let are_many = self.peers.len() >= SPARE + FOR_EACH * self.tasks.get().len();
            if !is_ours || are_many || stream.set_nonblocking(true).is_err() {
                continue;
            }
            let key = self.last_token + 1;
            let Ok(token) = self.watch(&stream, EpollFlags::EPOLLIN, Source::Peer(key)) else { continue };
            let (connection, waits_for) = (Connection::default(), EpollFlags::EPOLLIN);
            let peer = Peer { stream, token, connection, out: Vec::new(), waits_for };
            self.peers.insert(key, peer);
            self.tell(Input::Connected);
        }
    }

    /// What epoll is to tell of the socket.
    pub fn heed(&mut self, flags: EpollFlags) {
        if let Some(listener) = &self.listener {
            // It is watched since the beginning.
            let _ = self.epoll.modify(listener, &mut EpollEvent::new(flags, LISTENER));
        }
    }

    pub fn peer_ready(&mut self, key: u64, flags: EpollFlags) {
        if flags.contains(EpollFlags::EPOLLOUT) {
            self.write_to(key);
        }
        let mut piece = [0; PIECE];
        for _ in 0..TURNS {
            let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.out.len() <= UNREAD) else { return };
            match peer.stream.read(&mut piece) {
                Ok(0) => return self.hang_up(key),
                Ok(length) => self.received(key, piece.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.hang_up(key),
            }
        }
    }

    fn received(&mut self, key: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some(peer) = self.peers.get_mut(&key) else { return };
            match peer.connection.receive(&mut bytes) {
                Some(Incoming::Call(call)) => self.called(key, call),
                Some(Incoming::Refused(answer)) => {
                    peer.out.extend(answer);
                    self.write_to(key);
                }
                None => {}
            }
        }
    }

    fn called(&mut self, key: u64, call: Call) {
        match Request::decode(&call.service, &call.method, &call.payload) {
            Ok(request) => {
                let ticket = Ticket { connection: key, stream: call.stream };
                if let Some(limit) = call.timeout {
                    self.arm(Alarm::Request(ticket), limit);
                }
                self.tell(Input::Request { ticket, request });
            }
            Err(status) => self.send(key, call.stream, Err(status)),
        }
    }

    /// Answers a client, which may have gone meanwhile.
    pub fn send(&mut self, key: u64, stream: u32, answer: Result<Vec<u8>, Status>) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.out.extend(server::answer(stream, answer));
            self.write_to(key);
        }
    }

    fn write_to(&mut self, key: u64) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        while !peer.out.is_empty() {
            match peer.stream.write(&peer.out) {
                Ok(length) => drop(peer.out.drain(..length)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The end of file will be read.
                Err(_) => peer.out.clear(),
            }
        }
        let output = if peer.out.is_empty() { EpollFlags::empty() } else { EpollFlags::EPOLLOUT };
        let input = if peer.out.len() > UNREAD { EpollFlags::empty() } else { EpollFlags::EPOLLIN };
        if std::mem::replace(&mut peer.waits_for, input | output) != input | output {
            // It is watched since it was accepted.
            let _ = self.epoll.modify(&peer.stream, &mut EpollEvent::new(input | output, peer.token));
        }
    }

    fn hang_up(&mut self, key: u64) {
        if let Some(peer) = self.peers.remove(&key) {
            self.unwatch(&peer.stream, peer.token);
            self.tell(Input::Disconnected(key));
        }
    }

    /// The last answers, before the end.
    pub fn flush_peers(&mut self) {
        for peer in self.peers.values_mut() {
            if !peer.out.is_empty() && peer.stream.set_nonblocking(false).is_ok() {
                // Nobody is left to tell.
                let _ = peer.stream.set_write_timeout(Some(Duration::from_secs(1)));
                let _ = peer.stream.write_all(&peer.out);
            }
        }
    }
}
