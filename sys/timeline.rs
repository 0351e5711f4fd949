//! When each of a list of things was done, in memory that a child shares with its maker; and the clock that says so.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use super::error::{Errno, Result, SysError};

/// CLOCK_MONOTONIC: since some moment before the host was up, the same for all its processes.
pub fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec, which outlives the call; the clock is there on every kernel.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A time for each thing, 0 for what is not done.
#[derive(Debug)]
pub struct Timeline {
    times: NonNull<AtomicU64>,
    len: usize,
}

impl Timeline {
    /// Room for the times of so many things, and for that of the begin.
    pub fn new(things: usize) -> Result<Self> {
        let len = things.saturating_add(1);
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, of no file, wherever the kernel likes.
        let start = unsafe { libc::mmap(core::ptr::null_mut(), Self::bytes(len), protection, flags, -1, 0) };
        match NonNull::new(start.cast()).filter(|_| start != libc::MAP_FAILED) {
            Some(times) => Ok(Self { times, len }),
            None => Err(SysError::new("mmap", Errno::last())),
        }
    }

    fn bytes(len: usize) -> usize {
        len.saturating_mul(size_of::<AtomicU64>())
    }

    fn times(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has room for `len` of them, is zero at first, and stays until `self` is dropped.
        unsafe { core::slice::from_raw_parts(self.times.as_ptr(), self.len) }
    }

    /// Somebody is about to do the first thing.
    pub fn begin(&self) {
        self.stamp(self.len - 1);
    }

    /// When that was.
    pub fn begun(&self) -> Option<Duration> {
        self.at(self.len - 1)
    }

    /// The thing at this place is done. Uses no heap.
    pub fn stamp(&self, place: usize) {
        if let Some(time) = self.times().get(place) {
            time.store(u64::try_from(monotonic().as_nanos()).unwrap_or(u64::MAX), Ordering::Release);
        }
    }

    /// When it was done; None: it is not.
    pub fn at(&self, place: usize) -> Option<Duration> {
        let time = self.times().get(place)?.load(Ordering::Acquire);
        (time != 0).then(|| Duration::from_nanos(time))
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing borrows from it any more.
        unsafe { libc::munmap(self.times.as_ptr().cast(), Self::bytes(self.len)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Cloned, clone_process, exit_now};

    #[test]
    fn what_a_child_has_done_is_seen_by_its_maker() {
        let timeline = Timeline::new(3).unwrap();
        let before = monotonic();
        match clone_process(0, None).unwrap() {
            Cloned::Child => {
                timeline.begin();
                timeline.stamp(1);
                timeline.stamp(7);
                exit_now(0)
            }
            Cloned::Runtime(child) => drop(crate::process::wait(std::os::fd::AsFd::as_fd(&child.pidfd)).unwrap()),
        }
        assert_eq!([timeline.at(0), timeline.at(2), timeline.at(4)], [None; 3]);
        let [begun, done] = [timeline.begun(), timeline.at(1)].map(Option::unwrap);
        assert!(before <= begun && begun <= done && done <= monotonic());
    }
}
