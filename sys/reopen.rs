//! A file that is only named by a descriptor (O_PATH), opened to be read: that file, whatever has its name by then.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::error::Result;
use super::procfs::ProcFd;
use super::stack_path::StackPath;
use super::{Text, beneath, file};

/// The caller's own descriptors, as a procfs has them. Their links lead to what is open, and read no name of it.
pub struct OwnDescriptors(OwnedFd);

impl OwnDescriptors {
    /// Those in `/proc`, if that is a procfs which knows the caller, with nothing mounted on the way; else those in a
    /// procfs of our own.
    pub fn open() -> Result<Self> {
        let there = file::open_directory(c"/proc").and_then(ProcFd::from_fd);
        let there = there.and_then(|proc| beneath::own_descriptors(proc.as_fd()));
        there.or_else(|_| beneath::own_descriptors(ProcFd::open()?.as_fd())).map(Self)
    }

    /// The file that `named` is open on, to be read. The caller has looked at it and knows that it is regular: to open a
    /// device has effects.
    pub fn read(&self, named: BorrowedFd) -> Result<OwnedFd> {
        let mut number = Text::default();
        // Room for any number.
        let _ = core::fmt::write(&mut number, format_args!("{}", named.as_raw_fd()));
        file::reopen_to_read(self.0.as_fd(), StackPath::new(number.as_bytes())?.as_cstr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::open_itself_at;
    use crate::scratch::{Directory, in_mount_namespace};
    use crate::{mount, testing};
    use std::fs;
    use std::io::Read;

    fn text(own: &OwnDescriptors, named: BorrowedFd) -> String {
        let mut text = String::new();
        fs::File::from(own.read(named).unwrap()).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn what_was_named_is_read_whatever_has_its_name_now() {
        let dir = Directory::new();
        fs::write(dir.join("name"), "one").unwrap();
        let place = file::open_directory(&crate::scratch::c_path(dir.path())).unwrap();
        let named = open_itself_at(place.as_fd(), c"name").unwrap();
        fs::rename(dir.join("name"), dir.join("other")).unwrap();
        fs::write(dir.join("name"), "two").unwrap();
        let own = OwnDescriptors::open().unwrap();
        assert_eq!(text(&own, named.as_fd()), "one");
        drop(testing::heap_free(|| OwnDescriptors::open().and_then(|own| own.read(named.as_fd()))).unwrap());
    }

    #[test]
    fn what_is_mounted_over_proc_is_not_asked() {
        in_mount_namespace(|| {
            let dir = Directory::new();
            fs::write(dir.join("name"), "one").unwrap();
            let named = file::open_itself(&crate::scratch::c_path(&dir.join("name"))).unwrap();
            fs::create_dir_all(dir.join("self/fd")).unwrap();
            for number in 0..100 {
                fs::write(dir.join(&format!("self/fd/{number}")), "fake").unwrap();
            }
            let fake = mount::copy_path(&crate::scratch::c_path(dir.path()), mount::Depth::One).unwrap();
            mount::attach(fake.as_fd(), file::open_path(c"/proc").unwrap().as_fd()).unwrap();
            assert_eq!(fs::read_to_string("/proc/self/fd/9").unwrap(), "fake");
            assert_eq!(text(&OwnDescriptors::open().unwrap(), named.as_fd()), "one");
        });
    }
}
