//! bpf(2), as far as a device filter on a cgroup needs it: load, attach, and take off what an earlier run left.

use core::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::error::{Result, check};

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const PROG_QUERY: libc::c_long = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 2;
const F_REPLACE: u32 = 4;

/// Only helper functions that are GPL-only look at it, and a device filter calls none.
const LICENSE: &CStr = c"Apache-2.0";

/// One eBPF instruction, `struct bpf_insn` of linux/bpf.h. `registers`: destination in the low half, source in the high.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EbpfInstruction {
    pub code: u8,
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

/// The ids of the device filters on a cgroup; the kernel allows 64.
pub struct Filters {
    ids: [u32; Self::CAPACITY],
    count: usize,
}

impl Filters {
    const CAPACITY: usize = 64;

    pub fn ids(&self) -> &[u32] {
        self.ids.get(..self.count).unwrap_or_default()
    }
}

/// `union bpf_attr`: zeroed, and longer than any kernel's (which wants the rest to be zero). Linux 6.17 to 7.1 write
/// past the end of a shorter one in BPF_PROG_QUERY.
#[repr(C, align(8))]
struct Attr([u8; Self::SIZE]);

impl Attr {
    const SIZE: usize = 256;

    fn new() -> Self {
        Self([0; Self::SIZE])
    }

    fn u32(mut self, offset: usize, value: u32) -> Self {
        self.put(offset, &value.to_ne_bytes());
        self
    }

    fn pointer<T>(mut self, offset: usize, value: *const T) -> Self {
        self.put(offset, &(value as u64).to_ne_bytes());
        self
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        for (slot, byte) in self.0.iter_mut().skip(offset).zip(bytes) {
            *slot = *byte;
        }
    }

    fn read_u32(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        for (byte, slot) in bytes.iter_mut().zip(self.0.iter().skip(offset)) {
            *byte = *slot;
        }
        u32::from_ne_bytes(bytes)
    }
}

/// Loads `program` as a BPF_PROG_TYPE_CGROUP_DEVICE (Linux 4.15) and returns it; EPERM without CAP_BPF (or
/// CAP_SYS_ADMIN) in the first user namespace.
pub fn load_device_filter(program: &[EbpfInstruction]) -> Result<OwnedFd> {
    let count = u32::try_from(program.len()).unwrap_or(u32::MAX);
    let mut attr = Attr::new()
        .u32(0, PROG_TYPE_CGROUP_DEVICE)
        .u32(4, count)
        .pointer(8, program.as_ptr())
        .pointer(16, LICENSE.as_ptr())
        .u32(68, CGROUP_DEVICE);
    let fd = bpf("bpf BPF_PROG_LOAD", PROG_LOAD, &mut attr)?;
    // SAFETY: the call succeeded, so `fd` is a new descriptor (close-on-exec, as all of bpf's) that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches a loaded filter to a cgroup v2 directory, beside those that are there already: each of them can refuse.
pub fn attach_device_filter(cgroup: BorrowedFd<'_>, filter: BorrowedFd<'_>) -> Result<()> {
    let mut attr = Attr::new()
        .u32(0, cgroup.as_raw_fd() as u32)
        .u32(4, filter.as_raw_fd() as u32)
        .u32(8, CGROUP_DEVICE)
        .u32(12, F_ALLOW_MULTI);
    bpf("bpf BPF_PROG_ATTACH", PROG_ATTACH, &mut attr).map(drop)
}

/// Puts a loaded filter in the place of one that is attached, in one step (Linux 5.6).
pub fn replace_device_filter(cgroup: BorrowedFd<'_>, old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> Result<()> {
    let mut attr = Attr::new()
        .u32(0, cgroup.as_raw_fd() as u32)
        .u32(4, new.as_raw_fd() as u32)
        .u32(8, CGROUP_DEVICE)
        .u32(12, F_ALLOW_MULTI | F_REPLACE)
        .u32(16, old.as_raw_fd() as u32);
    bpf("bpf BPF_PROG_ATTACH", PROG_ATTACH, &mut attr).map(drop)
}

/// Takes a filter off a cgroup.
pub fn detach_device_filter(cgroup: BorrowedFd<'_>, filter: BorrowedFd<'_>) -> Result<()> {
    let mut attr =
        Attr::new().u32(0, cgroup.as_raw_fd() as u32).u32(4, filter.as_raw_fd() as u32).u32(8, CGROUP_DEVICE);
    bpf("bpf BPF_PROG_DETACH", PROG_DETACH, &mut attr).map(drop)
}

/// The device filters attached to this very cgroup, not those of its ancestors.
pub fn device_filters(cgroup: BorrowedFd<'_>) -> Result<Filters> {
    let mut filters = Filters { ids: [0; Filters::CAPACITY], count: 0 };
    let mut attr = Attr::new()
        .u32(0, cgroup.as_raw_fd() as u32)
        .u32(4, CGROUP_DEVICE)
        .pointer(16, filters.ids.as_mut_ptr())
        .u32(24, Filters::CAPACITY as u32);
    bpf("bpf BPF_PROG_QUERY", PROG_QUERY, &mut attr)?;
    filters.count = attr.read_u32(24) as usize;
    Ok(filters)
}

/// The program with this id.
pub fn filter_by_id(id: u32) -> Result<OwnedFd> {
    let mut attr = Attr::new().u32(0, id);
    let fd = bpf("bpf BPF_PROG_GET_FD_BY_ID", PROG_GET_FD_BY_ID, &mut attr)?;
    // SAFETY: the call succeeded, so `fd` is a new descriptor (close-on-exec, as all of bpf's) that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The tag of a program: a digest of its instructions as they were loaded (`struct bpf_prog_info`, Linux 4.13).
pub fn tag(program: BorrowedFd<'_>) -> Result<[u8; 8]> {
    /// Type and id come before it.
    const TAG: usize = 8;
    let mut info = [0u8; 16];
    let mut attr =
        Attr::new().u32(0, program.as_raw_fd() as u32).u32(4, info.len() as u32).pointer(8, info.as_mut_ptr());
    bpf("bpf BPF_OBJ_GET_INFO_BY_FD", OBJ_GET_INFO_BY_FD, &mut attr)?;
    let mut tag = [0; 8];
    tag.iter_mut().zip(info.iter().skip(TAG)).for_each(|(slot, byte)| *slot = *byte);
    Ok(tag)
}

fn bpf(call: &'static str, command: libc::c_long, attr: &mut Attr) -> Result<libc::c_long> {
    // SAFETY: `attr` is SIZE bytes long and lives for the whole call; the pointers that callers put into it are to
    // memory of the length given beside them, which outlives the call too.
    let ret = unsafe { libc::syscall(libc::SYS_bpf, command, attr.0.as_mut_ptr(), Attr::SIZE) };
    check(call, ret)
}
