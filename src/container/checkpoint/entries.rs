//! The entries of CRIU's images: one or two numbers that tell the image's type, then a length of four bytes and a
//! protobuf message each (criu.org, "Images").

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};

use anyhow::{Context, Result, ensure};
use prost::Message;

use crate::sys::regular;

/// What a file may hold, in bytes: an entry takes some hundred, and there is one for each open file.
const LIMIT: u64 = 64 << 20;

/// The names of all images.
pub fn names(images: BorrowedFd) -> Result<Vec<String>> {
    let directory = format!("/proc/self/fd/{}", images.as_raw_fd());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&directory).context(directory)? {
        let name = entry?.file_name().into_string().ok();
        names.extend(name.filter(|name| name.ends_with(".img")));
    }
    Ok(names)
}

/// All entries of an image.
pub fn of<T: Message + Default>(images: BorrowedFd, name: &str) -> Result<Vec<T>> {
    with_data(images, name, |_| 0)
}

/// The first entry of an image; what comes behind it may be something else.
pub fn first<T: Message + Default>(images: BorrowedFd, name: &str) -> Result<T> {
    let read = || -> Result<T> {
        let (bytes, _) = regular::read(images, &CString::new(name)?, LIMIT)?;
        Ok(T::decode(split(body(name, &bytes))?.0)?)
    };
    read().with_context(|| format!("--image-path: {name}"))
}

/// All entries of an image in which each is followed by as many bytes as `length` says of it.
pub fn with_data<T: Message + Default>(images: BorrowedFd, name: &str, length: impl Fn(&T) -> usize) -> Result<Vec<T>> {
    let read = || -> Result<Vec<T>> {
        let (bytes, _) = regular::read(images, &CString::new(name)?, LIMIT)?;
        let (mut rest, mut entries) = (body(name, &bytes), Vec::new());
        while !rest.is_empty() {
            let (entry, after) = split(rest)?;
            let entry = T::decode(entry)?;
            rest = after.get(length(&entry)..).context("ends within an entry's data")?;
            entries.push(entry);
        }
        Ok(entries)
    };
    read().with_context(|| format!("--image-path: {name}"))
}

/// All entries of an image, each as it is written.
pub fn messages(images: BorrowedFd, name: &str) -> Result<Vec<Vec<u8>>> {
    let read = || -> Result<Vec<Vec<u8>>> {
        let (bytes, _) = regular::read(images, &CString::new(name)?, LIMIT)?;
        let (mut rest, mut entries) = (body(name, &bytes), Vec::new());
        while !rest.is_empty() {
            let (entry, after) = split(rest)?;
            entries.push(entry.to_owned());
            rest = after;
        }
        Ok(entries)
    };
    read().with_context(|| format!("--image-path: {name}"))
}

/// An image that is a text of another program.
pub fn raw(images: BorrowedFd, name: &str) -> Result<Vec<u8>> {
    Ok(regular::read(images, &CString::new(name)?, LIMIT)?.0)
}

fn body<'b>(name: &str, bytes: &'b [u8]) -> &'b [u8] {
    // That one has only the second number.
    let head = if name == "inventory.img" { 4 } else { 8 };
    bytes.get(head..).unwrap_or_default()
}

/// An entry, and the rest.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    ensure!(!bytes.is_empty(), "no entry");
    let (length, rest) = bytes.split_first_chunk::<4>().context("ends within an entry")?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize).context("ends within an entry")
}
