use super::*;
use crate::sys::scratch::Directory;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

fn number(tag: u8, mut value: u64) -> Vec<u8> {
    let mut bytes = vec![tag << 3];
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn message(tag: u8, inside: &[u8]) -> Vec<u8> {
    [&[tag << 3 | 2, u8::try_from(inside.len()).unwrap()], inside].concat()
}

fn write(directory: &Path, name: &str, entries: &[Vec<u8>]) {
    let entries = entries.iter().flat_map(|entry| [&(entry.len() as u32).to_le_bytes()[..], entry].concat());
    fs::write(directory.join(name), [0; 8].into_iter().chain(entries).collect::<Vec<u8>>()).unwrap();
}

fn range(start: u64, pages: u64, flags: u64) -> Vec<u8> {
    [number(1, start), number(2, pages), number(4, flags)].concat()
}

const AT: u64 = 0x5000_0040;

/// Images of process 7, whose thread 9 has a sequence at `AT`.
fn images() -> Directory {
    let scratch = Directory::new();
    let path = scratch.path();
    write(path, "pstree.img", &[[number(1, 7), number(5, 7), number(5, 9)].concat()]);
    write(path, "core-7.img", &[number(1, 1)]);
    write(path, "core-9.img", &[message(5, &message(15, &[number(1, AT), number(2, 32), number(3, 5)].concat()))]);
    memory(path, 2, 513);
    write(path, "pagemap-7.img", &[number(1, 3), range(0x1000, 1, 4), range(0x5000_0000, 2, 6)]);
    let size = proc_self::page_size();
    let mut pages = vec![1; 3 * size];
    pages[size + 0x48..size + 0x50].fill(0);
    fs::write(path.join("pages-3.img"), pages).unwrap();
    scratch
}

fn memory(directory: &Path, flags: u64, status: u64) {
    let mapping = |start, end, flags, status| {
        message(14, &[number(1, start), number(2, end), number(6, flags), number(7, status)].concat())
    };
    let all = [mapping(0x1000, 0x2000, 1, 129), mapping(0x5000_0000, 0x5000_2000, flags, status)];
    write(directory, "mm-7.img", &[all.concat()]);
}

fn words(all: &[&Directory], is_lazy: bool) -> Option<String> {
    let open: Vec<_> = all.iter().map(|one| fs::File::open(one.path()).unwrap()).collect();
    let directories: Vec<_> = open.iter().map(AsFd::as_fd).collect();
    check(&directories, is_lazy).err().map(|error| format!("{error:#}"))
}

#[track_caller]
fn refused(images: &Directory, expected: &str) {
    let words = words(&[images], false).expect("refused");
    let all = format!("--image-path: core-9.img: a restartable sequence that cannot be restored: {expected}");
    assert!(words.starts_with(&all), "{words}");
}

#[test]
fn memory_of_its_own_without_a_pointer_is_let_pass() {
    let images = images();
    assert_eq!(words(&[&images], false), None);
    for status in [513, 1 | 1 << 5 | 1 << 9, 1 | 1 << 6] {
        memory(images.path(), 0x22, status);
        assert_eq!(words(&[&images], false), None, "{status:#x}");
    }
}

#[test]
fn memory_that_others_change_is_refused() {
    let images = images();
    // MAP_SHARED, MAP_SHARED_VALIDATE; a shared file, System V, a ring of AIO, not regular.
    for (flags, status) in
        [(1, 513), (3, 513), (2, 129), (2, 1 | 1 << 8), (2, 1 | 1 << 10), (2, 513 | 1 << 13), (2, 512)]
    {
        memory(images.path(), flags, status);
        refused(&images, "it is not in memory of its own");
    }
    memory(images.path(), 2, 513);
    for at in [0x5000_0020 - 0x30, 0x6000_0000, u64::MAX - 31, AT + 8] {
        let sequence = [number(1, at), number(2, 32), number(3, 5)].concat();
        write(images.path(), "core-9.img", &[message(5, &message(15, &sequence))]);
        refused(&images, "it is not");
    }
}

#[test]
fn a_pointer_and_memory_that_is_not_there_are_refused() {
    let images = images();
    let pages = |entries: &[Vec<u8>]| write(images.path(), "pagemap-7.img", &[&[number(1, 3)], entries].concat());
    // One page later in the image, where nothing is 0.
    pages(&[range(0x1000, 2, 4), range(0x5000_0000, 1, 4)]);
    refused(&images, "the thread is in the middle of one");
    pages(&[range(0x1000, 1, 4)]);
    refused(&images, "its memory is not in the images");
    pages(&[range(0x5000_0000, 1, 2)]);
    refused(&images, "its memory is not in the images");
    assert_eq!(words(&[&images], true), None);
    memory(images.path(), 2, 1 | 1 << 6);
    assert!(words(&[&images], true).unwrap().ends_with("the thread is in the middle of one"));
    memory(images.path(), 2, 513);
    pages(&[range(0x5000_0000, 1, 5)]);
    refused(&images, "pages with flags 0x5");
    pages(&[range(0x5000_0000, 1, 4), range(0x5000_0000, 1, 4)]);
    refused(&images, "pagemap-7.img: pages in another order");
}

#[test]
fn pages_of_an_earlier_checkpoint_are_looked_for_there() {
    let (images, before) = (images(), images());
    write(images.path(), "pagemap-7.img", &[number(1, 3), range(0x5000_0000, 1, 1)]);
    assert_eq!(words(&[&images, &before], false), None);
    refused(&images, "its memory is in none of the images");
    write(before.path(), "pagemap-7.img", &[number(1, 3), range(0x5000_0000, 1, 4), range(0x6000_0000, 1, 4)]);
    assert!(words(&[&images, &before], false).unwrap().ends_with("the thread is in the middle of one"));
}

/// As CRIU 4.2 writes it.
fn new_range(start: u64, pages: u64, flags: u64) -> Vec<u8> {
    [number(1, start), number(2, 0), number(4, flags), number(5, pages)].concat()
}

#[test]
fn pages_are_counted_as_each_release_of_criu_does() {
    let images = images();
    let pages = |entries: &[Vec<u8>]| write(images.path(), "pagemap-7.img", &[&[number(1, 3)], entries].concat());
    pages(&[new_range(0x1000, 1, 4), new_range(0x5000_0000, 2, 6)]);
    assert_eq!(words(&[&images], false), None);
    // An older one takes what is in the file.
    for status in [1 | 1 << 6, 1 | 1 << 6 | 1 << 9] {
        memory(images.path(), 2, status);
        refused(&images, "it is in a file's memory");
    }
    memory(images.path(), 2, 513);
    // An older one finds another page there.
    pages(&[new_range(0x1000, 1, 4), range(0x5000_0000, 2, 6)]);
    refused(&images, "pagemap-7.img: pages that are counted in two ways");
    let both = [number(1, 0x5000_0000), number(2, 1), number(4, 6), number(5, 2)].concat();
    pages(&[range(0x1000, 1, 4), both]);
    refused(&images, "a field with two values");
}
