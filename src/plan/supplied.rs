//! What a supervisor of the runtime has for the program, besides config.json: sd_listen_fds(3), sd_notify(3).

use std::borrow::Cow;

use oci_spec::runtime::Process;

use super::request::{Listening, Request};
use crate::container::rootfs::notify;
use crate::sys::namespace::{Kind, Kinds};

const LISTEN_PID: &str = "LISTEN_PID=";

#[derive(Default)]
pub struct Supplied {
    /// `NAME=VALUE`, in place of what process.env has of that name.
    environment: Vec<String>,
    /// Whether it gets a NOTIFY_SOCKET.
    pub notifies: bool,
    /// How many descriptors from 3 on.
    pub descriptors: u32,
    /// Whether only the process itself can tell its pid, for LISTEN_PID.
    pub needs_own_pid: bool,
}

impl Supplied {
    /// `new` and `private` are the container's namespaces: [`Namespaces`](crate::container::namespaces::Namespaces).
    pub fn of(request: &Request, process: &Process, new: Kinds, private: Kinds) -> Self {
        let mut supplied = Self::default();
        // Its own value is about a socket that is mounted for it, as Podman does.
        let has_own = process.env().iter().flatten().any(|entry| entry.starts_with("NOTIFY_SOCKET="));
        supplied.notifies = request.notify && !has_own && private.contains(Kind::Mount);
        if supplied.notifies {
            supplied.environment.push(notify::VARIABLE.to_owned());
        }
        let is_first = new.contains(Kind::Pid);
        if let Some(Listening { count, names }) = request.listening {
            supplied.descriptors = *count;
            supplied.environment.push(format!("LISTEN_FDS={count}"));
            supplied.environment.extend(names.iter().map(|names| format!("LISTEN_FDNAMES={names}")));
            supplied.environment.extend(is_first.then(|| format!("{LISTEN_PID}1")));
            supplied.needs_own_pid = !is_first;
        }
        supplied
    }

    /// `own`, which is process.env, with this.
    pub fn environment<'a>(&self, own: &'a [String]) -> Cow<'a, [String]> {
        if self.environment.is_empty() {
            return Cow::Borrowed(own);
        }
        // One of config.json would be found first.
        let is_kept = |entry: &&String| !(self.needs_own_pid && entry.starts_with(LISTEN_PID));
        Cow::Owned(own.iter().filter(is_kept).chain(&self.environment).cloned().collect())
    }
}
