//! The arguments of this program, and what /proc/PID/cmdline shows of them: anybody in its pid namespace may read that,
//! undumpable or not.

use core::ffi::{CStr, c_char};
use std::sync::OnceLock;

/// What `main` was given. The standard library has it only where it is told by the C library itself: with musl,
/// `std::env::args_os` is empty in a program that has a `main` of its own.
struct Arguments {
    count: usize,
    /// The address of the pointers to them.
    pointers: usize,
    /// Where the kernel put them, one after the other: address and length.
    area: (usize, usize),
}

static ARGUMENTS: OnceLock<Arguments> = OnceLock::new();

/// Remembers where the arguments lie, which `main` was given. Called once, before anything else runs.
pub(super) fn remember(count: i32, arguments: *const *const c_char) {
    let Ok(count) = usize::try_from(count) else { return };
    let pointers = arguments.expose_provenance();
    if let Some(area) = area(each(count, pointers)) {
        let _ = ARGUMENTS.set(Arguments { count, pointers, area });
    }
}

/// The arguments of this program, its name first. They are gone once a title is [`set`].
pub fn arguments() -> impl Iterator<Item = &'static CStr> {
    ARGUMENTS.get().into_iter().flat_map(|given| each(given.count, given.pointers))
}

fn each(count: usize, pointers: usize) -> impl Iterator<Item = &'static CStr> {
    let pointers = core::ptr::with_exposed_provenance::<*const c_char>(pointers);
    (0..count).map(move |index| {
        // SAFETY: the C library passed that many pointers to `main`.
        let place = unsafe { pointers.add(index) };
        // SAFETY: as above; they are never written.
        let argument = unsafe { *place };
        // SAFETY: it points to a string that lives as long as the process.
        unsafe { CStr::from_ptr(argument) }
    })
}

fn area(mut arguments: impl Iterator<Item = &'static CStr>) -> Option<(usize, usize)> {
    let place = |argument: &CStr| (argument.as_ptr().expose_provenance(), argument.count_bytes() + 1);
    let (start, mut total) = place(arguments.next()?);
    for (address, length) in arguments.map(place) {
        // The kernel leaves no gap (execve(2)); past one the memory would not be ours to write.
        if address != start + total {
            break;
        }
        total += length;
    }
    Some((start, total))
}

/// Shows `title` instead of the arguments, which are gone from then on: for a process that was cloned, whose memory is
/// its own. PR_SET_MM would take CAP_SYS_RESOURCE.
pub fn set(title: &CStr) {
    let Some(&Arguments { area: (start, length), .. }) = ARGUMENTS.get() else { return };
    let area = core::ptr::with_exposed_provenance_mut::<u8>(start);
    // SAFETY: the area is that of the arguments, which are writable memory of this process; it has one thread, and reads
    // its arguments no more.
    let area = unsafe { core::slice::from_raw_parts_mut(area, length) };
    area.fill(0);
    // With its last byte set, the kernel takes the area for one title, which ends at the first NUL (fs/proc/base.c,
    // get_mm_cmdline): no length of ours is left to count.
    if let Some((last, rest)) = area.split_last_mut() {
        *last = u8::from(rest.len() > title.count_bytes()) * b' ';
        rest.iter_mut().zip(title.to_bytes()).for_each(|(byte, of_title)| *byte = *of_title);
    }
}
