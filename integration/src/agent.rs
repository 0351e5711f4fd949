//! A seccomp agent: takes the listeners that a runtime hands over, and answers what the kernel notifies
//! (seccomp_unotify(2); config-linux.md, "The Container Process State").

use crate::wait::eventually;
use crate::{host, user};
use serde_json::Value;
use std::io::Read;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// What the agent says of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The call returns this, and the kernel does nothing.
    Value(i64),
    /// The call fails with this errno.
    Errno(i32),
    /// The kernel does what was asked.
    Continue,
    /// The agent lets go of the listener.
    Leave,
}

/// An agent that listens at `path`.
pub struct Agent {
    pub path: PathBuf,
    states: Arc<Mutex<Vec<Value>>>,
    calls: Arc<Mutex<Vec<i32>>>,
    closed: Arc<Mutex<usize>>,
}

impl Agent {
    /// Starts an agent that asks `answer` for each number of a call.
    pub fn start(answer: impl Fn(i32) -> Answer + Send + Sync + 'static) -> Self {
        let path = host::socket().with_extension("agent");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("socket of the agent");
        user::give_in_suite(&path);
        let agent = Agent { path, states: Arc::default(), calls: Arc::default(), closed: Arc::default() };
        let (states, calls, closed) = (agent.states.clone(), agent.calls.clone(), agent.closed.clone());
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                let (descriptor, state) = take(&mut connection);
                states.lock().expect("states").push(state);
                let (calls, answer, closed) = (calls.clone(), answer.clone(), closed.clone());
                std::thread::spawn(move || {
                    // Older runtimes keep the connection open: nothing waits for its end.
                    if connection.read_to_end(&mut Vec::new()).is_ok_and(|more| more == 0) {
                        *closed.lock().expect("closed") += 1;
                    }
                });
                // One that comes without a descriptor is seen in its state.
                let Some(descriptor) = descriptor else { continue };
                std::thread::spawn(move || serve(&descriptor, &calls, &*answer));
            }
        });
        agent
    }

    /// The container process states that came, once there are `count`: a runtime does not wait until the agent has read one.
    pub fn states(&self, count: usize) -> Vec<Value> {
        let states = || self.states.lock().expect("states").clone();
        eventually(&format!("the agent has {count} states"), || states().len() >= count);
        states()
    }

    /// How many connections ended after their state, and nothing more.
    pub fn closed(&self) -> usize {
        *self.closed.lock().expect("closed")
    }

    /// The numbers of the calls that were answered.
    pub fn calls(&self) -> Vec<i32> {
        self.calls.lock().expect("calls").clone()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The first message with its descriptor, and the state, which may come in parts.
fn take(connection: &mut UnixStream) -> (Option<OwnedFd>, Value) {
    let mut buffer = [0u8; 4096];
    let mut control = [0u64; 8];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: zeroes are a valid msghdr.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: everything that `message` points at outlives the call.
    let length = unsafe { libc::recvmsg(connection.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    let mut text = buffer.get(..usize::try_from(length).unwrap_or(0)).unwrap_or_default().to_vec();
    // SAFETY: `message` was filled by recvmsg.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message).as_ref() };
    let descriptor = header.filter(|header| header.cmsg_type == libc::SCM_RIGHTS).map(|header| {
        // SAFETY: SCM_RIGHTS holds at least one descriptor, which is ours.
        unsafe { OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<i32>().read_unaligned()) }
    });
    loop {
        if let Ok(state) = serde_json::from_slice(&text) {
            return (descriptor, state);
        }
        match connection.read(&mut buffer) {
            Ok(length @ 1..) => text.extend(buffer.get(..length).unwrap_or_default()),
            _ => return (descriptor, Value::String(String::from_utf8_lossy(&text).into_owned())),
        }
    }
}

fn serve(listener: &OwnedFd, calls: &Mutex<Vec<i32>>, answer: &(dyn Fn(i32) -> Answer + Send + Sync)) {
    loop {
        // SAFETY: zeroes are a valid seccomp_notif, and what the kernel wants to find.
        let mut call: libc::seccomp_notif = unsafe { zeroed() };
        // SAFETY: the structure is the one of this ioctl, and outlives the call.
        let ret = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) };
        match (ret, std::io::Error::last_os_error().raw_os_error()) {
            (0.., _) => {}
            // ENOENT: a signal took the caller out of its call.
            (_, Some(libc::EINTR | libc::ENOENT)) => continue,
            _ => return,
        }
        calls.lock().expect("calls").push(call.data.nr);
        let (val, error, flags) = match answer(call.data.nr) {
            Answer::Value(value) => (value, 0, 0),
            Answer::Errno(errno) => (0, -errno, 0),
            Answer::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
            Answer::Leave => return,
        };
        let reply = libc::seccomp_notif_resp { id: call.id, val, error, flags };
        const { assert!(size_of::<libc::seccomp_notif_resp>() == 24) };
        // SAFETY: the structure is the one of this ioctl, and outlives the call.
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const reply) };
    }
}
