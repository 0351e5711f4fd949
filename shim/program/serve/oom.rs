//! OOM kills in a container's cgroup. The counter `oom_kill` decides, never the event that has one look: v1's eventfd
//! also tells of the cgroup's removal, v2's file also changes for other reasons.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use containerd_shim_ocirt::task::{ContainerKey, Input};
use nix::sys::epoll::EpollFlags;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::cgroup::Cgroup;
use super::held::{Bell, Watch};
use super::state::Loop;
use super::words::Source;

fn v1(directory: &Path) -> std::io::Result<(Bell, PathBuf)> {
    let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let counter = directory.join("memory.oom_control");
    let control = File::open(&counter)?;
    let line = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
    fs::write(directory.join("cgroup.event_control"), line)?;
    Ok((Bell::V1(event), counter))
}

fn v2(directory: &Path) -> std::io::Result<(Bell, PathBuf)> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let counter = directory.join("memory.events");
    inotify.add_watch(&counter, AddWatchFlags::IN_MODIFY)?;
    Ok((Bell::V2(inotify), counter))
}

/// How often the kernel has killed for want of memory; nothing once the cgroup has gone.
fn count(counter: &Path) -> Option<u64> {
    let text = fs::read_to_string(counter).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

impl Loop {
    /// From init's birth on: what happens before `start` counts as well. A cgroup that cannot be watched (the root, no
    /// memory controller) has no OOM events.
    pub fn watch_memory(&mut self, key: ContainerKey, cgroup: &Cgroup) {
        let Some((is_v1, directory)) = cgroup.memory() else { return };
        let Ok((bell, counter)) = (if is_v1 { v1(directory) } else { v2(directory) }) else { return };
        let Ok(token) = self.watch(bell.fd(), EpollFlags::EPOLLIN, Source::Memory(key)) else { return };
        let seen = count(&counter).unwrap_or(0);
        self.memory.insert(key, Watch { bell, token, counter, seen });
    }

    /// The bell has rung.
    pub fn memory_changed(&mut self, key: ContainerKey) {
        if let Some(watch) = self.memory.get(&key) {
            watch.bell.listen();
        }
        if self.has_killed(key) {
            self.tell(Input::OutOfMemory(key));
        }
    }

    /// True if the counter has grown since it was last looked at.
    pub fn has_killed(&mut self, key: ContainerKey) -> bool {
        let Some(watch) = self.memory.get_mut(&key) else { return false };
        let Some(now) = count(&watch.counter) else { return false };
        now > std::mem::replace(&mut watch.seen, now)
    }

    pub fn forget_memory(&mut self, key: ContainerKey) {
        if let Some(watch) = self.memory.remove(&key) {
            self.unwatch(watch.bell.fd(), watch.token);
        }
    }
}
