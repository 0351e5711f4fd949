//! Restartable sequences (rseq(2)) in CRIU's images. CRIU registers one for each thread before it gives up its rights, and
//! from then on the kernel reads in the memory that is registered where a thread goes on that it has taken the CPU from:
//! who chooses what is there, has it run a program of the container's with all capabilities and without a filter. The
//! container need not forge an image for that: a mapping that it shares with others is changed by them meanwhile.
//!
//! So what is registered is the thread's own memory, which the images hold, and it points to no sequence. (Linux 6.16 clears
//! the pointer when it is registered, but nobody can clear one that is written later.)
//!
//! CRIU 4.2 counts pages in another field, and says 0 in the old one, by which older releases count. They find nothing in such
//! images: memory of no file is zero then, which is no pointer, but a file's is what is in the file.
//!
//! Field numbers of CRIU 4.2's images/core.proto, rseq.proto, mm.proto, vma.proto and pagemap.proto.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};
use prost::Message;

use super::entries::{messages, of};
use super::wire::Fields;
use crate::sys::{file, proc_self};

/// What the kernel reads and writes of `struct rseq`, how it is aligned, and where its `rseq_cs` is (linux/rseq.h).
const LENGTH: u64 = 32;
const POINTER: u64 = 8;

/// Of the type of a mapping (mmap(2)): MAP_PRIVATE.
const MAP_TYPE: u32 = 0xf;
const MAP_PRIVATE: u32 = 2;

/// CRIU's VMA_AREA_REGULAR, and what else may be said of memory that is only the process's: VMA_AREA_STACK, VMA_AREA_HEAP,
/// VMA_FILE_PRIVATE, VMA_ANON_PRIVATE.
const REGULAR: u32 = 1;
const OWN: u32 = REGULAR | 1 << 1 | 1 << 5 | OF_A_FILE | ANONYMOUS;
const OF_A_FILE: u32 = 1 << 6;
const ANONYMOUS: u32 = 1 << 9;

/// Of a range of pages: it is in the images that these are the difference to, it comes when it is asked for, it is here.
const PARENT: u32 = 1;
const LAZY: u32 = 2;
const PRESENT: u32 = 4;

/// `mm_entry`.
#[derive(Clone, PartialEq, Message)]
struct MmBounds {
    #[prost(message, repeated, tag = "14")]
    all: Vec<VmaBounds>,
}

/// `vma_entry`.
#[derive(Clone, PartialEq, Message)]
struct VmaBounds {
    #[prost(uint64, tag = "1")]
    start: u64,
    #[prost(uint64, tag = "2")]
    end: u64,
    #[prost(uint32, tag = "6")]
    flags: u32,
    #[prost(uint32, tag = "7")]
    status: u32,
}

/// Fails where a thread would be registered with other memory than such. `directories` are those of the images, and of the ones
/// that these are the difference to, in their order; `is_lazy`: pages come when they are asked for.
pub fn check(directories: &[BorrowedFd], is_lazy: bool) -> Result<()> {
    let images = *directories.first().context("--image-path")?;
    for process in messages(images, "pstree.img")? {
        let process = Fields::parse(&process)?;
        for pid in process.numbers(1)? {
            let mut threads = process.numbers(5)?;
            threads.push(pid);
            for thread in threads {
                let registered = registered(images, thread)?;
                let check = |at: &u64| own_memory(directories, pid, *at, is_lazy);
                registered.iter().try_for_each(check).with_context(|| {
                    format!("--image-path: core-{thread}.img: a restartable sequence that cannot be restored")
                })?;
            }
        }
    }
    Ok(())
}

/// Where the thread has it, if it has one.
fn registered(images: BorrowedFd, thread: u32) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    for core in messages(images, &format!("core-{thread}.img"))? {
        for thread in Fields::parse(&core)?.messages(5)? {
            for sequence in thread.messages(15)? {
                found.extend(sequence.wide_numbers(1)?.into_iter().filter(|at| *at != 0));
            }
        }
    }
    Ok(found)
}

/// Fails unless it is in memory that only the process has, and that has no pointer to a sequence.
fn own_memory(directories: &[BorrowedFd], pid: u32, at: u64, is_lazy: bool) -> Result<()> {
    let images = *directories.first().context("--image-path")?;
    ensure!(at.is_multiple_of(LENGTH), "it is not aligned");
    let end = at.checked_add(LENGTH).context("it is not in memory")?;
    let mappings = of::<MmBounds>(images, &format!("mm-{pid}.img"))?;
    let all = mappings.iter().flat_map(|memory| &memory.all);
    let there: Vec<&VmaBounds> = all.filter(|mapping| mapping.start < end && at < mapping.end).collect();
    let [mapping] = there.as_slice() else { bail!("it is not in one mapping") };
    let is_whole = mapping.start <= at && end <= mapping.end;
    let is_own = mapping.flags & MAP_TYPE == MAP_PRIVATE && mapping.status & (OWN | REGULAR) == mapping.status;
    ensure!(is_whole && is_own && mapping.status & REGULAR != 0, "it is not in memory of its own");
    let is_anonymous = mapping.status & (OF_A_FILE | ANONYMOUS) == ANONYMOUS;
    match pointer(directories, pid, at + POINTER, is_lazy, is_anonymous)? {
        Some(0) => Ok(()),
        // What the page server sends is nobody's file.
        None if is_anonymous => Ok(()),
        _ => bail!("the thread is in the middle of one"),
    }
}

/// The eight bytes at an address; None, where they are not in the images yet.
fn pointer(directories: &[BorrowedFd], pid: u32, at: u64, is_lazy: bool, is_anonymous: bool) -> Result<Option<u64>> {
    for directory in directories {
        let pages = Pages::of(*directory, pid)?;
        ensure!(is_anonymous || !pages.is_new, "it is in a file's memory, of which CRIU before 4.2 finds no page here");
        match pages.find(at)? {
            PagePlace::Here(offset) => {
                let mut bytes = [0; 8];
                pages.read(*directory, offset, &mut bytes)?;
                return Ok(Some(u64::from_ne_bytes(bytes)));
            }
            PagePlace::Later if is_lazy => return Ok(None),
            PagePlace::Later => bail!("its memory is not in the images"),
            PagePlace::Before => {}
        }
    }
    bail!("its memory is in none of the images")
}

/// Where a page of memory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PagePlace {
    /// So many bytes into the image of pages.
    Here(u64),
    Later,
    /// In the images that these are the difference to.
    Before,
}

/// Pages of a process, in the order of their addresses.
struct Pages {
    image: String,
    ranges: Vec<AddressRange>,
    /// CRIU before 4.2 finds none of them.
    is_new: bool,
}

struct AddressRange {
    start: u64,
    length: u64,
    flags: u32,
    /// CRIU before 4.2 counts no pages here.
    is_new: bool,
}

impl Pages {
    fn of(directory: BorrowedFd, pid: u32) -> Result<Self> {
        let name = format!("pagemap-{pid}.img");
        let mut entries = messages(directory, &name)?.into_iter();
        let head = entries.next().with_context(|| format!("{name}: no entry"))?;
        let id = one(&Fields::parse(&head)?.numbers(1)?).with_context(|| name.clone())?;
        let ranges = entries.map(|entry| AddressRange::of(&Fields::parse(&entry)?)).collect::<Result<Vec<_>>>()?;
        let is_sorted = ranges.windows(2).all(|pair| match pair {
            [one, next] => one.start.checked_add(one.length).is_some_and(|end| end <= next.start),
            _ => true,
        });
        ensure!(is_sorted, "{name}: pages in another order than that of their addresses");
        let is_new = ranges.iter().any(|range| range.is_new);
        // Or it would find others at the same place.
        ensure!(ranges.iter().all(|range| range.is_new == is_new), "{name}: pages that are counted in two ways");
        Ok(Self { image: format!("pages-{id}.img"), ranges, is_new })
    }

    fn find(&self, at: u64) -> Result<PagePlace> {
        let mut offset = 0;
        for range in &self.ranges {
            let is_here = range.flags & PRESENT != 0;
            if let Some(inside) = at.checked_sub(range.start).filter(|inside| *inside < range.length) {
                return match range.flags & (PARENT | PRESENT) {
                    PARENT => Ok(PagePlace::Before),
                    PRESENT => Ok(PagePlace::Here(offset + inside)),
                    0 if range.flags & LAZY != 0 => Ok(PagePlace::Later),
                    flags => bail!("pages with flags {flags:#x}"),
                };
            }
            offset += if is_here { range.length } else { 0 };
        }
        bail!("its memory is not in the images")
    }

    fn read(&self, directory: BorrowedFd, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let pages = File::from(file::read_at(directory, &CString::new(self.image.as_str())?)?);
        pages.read_exact_at(bytes, offset).with_context(|| self.image.clone())
    }
}

impl AddressRange {
    /// Older images have a number of pages of 32 bits, and no flags where the pages are here.
    fn of(entry: &Fields) -> Result<Self> {
        let start = one(&entry.wide_numbers(1)?)?;
        let (old, new) = (entry.wide_numbers(2)?, entry.wide_numbers(5)?);
        let is_new = !new.is_empty() && one(&old)? == 0;
        let count = one(&if is_new { new } else { [old, new].concat() })?;
        let flags = entry.numbers(4)?;
        let is_before = entry.numbers(3)?.iter().any(|flag| *flag != 0);
        let flags = match flags.as_slice() {
            _ if is_before => PARENT,
            [] => PRESENT,
            flags => one(flags)?,
        };
        let length = count.checked_mul(u64::try_from(proc_self::page_size())?).context("too many pages")?;
        Ok(Self { start, length, flags, is_new })
    }
}

/// The only value of a field: of more, which one counts is up to the reader.
fn one<T: Copy + PartialEq>(values: &[T]) -> Result<T> {
    let [first, rest @ ..] = values else { bail!("a field is missing") };
    ensure!(rest.iter().all(|value| value == first), "a field with two values");
    Ok(*first)
}

#[cfg(test)]
mod tests;
