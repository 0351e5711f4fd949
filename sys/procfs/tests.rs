use std::fs;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::beneath;
use crate::scratch::{Directory, c_path, in_mount_namespace, in_user_namespace};

#[test]
fn a_private_procfs_writes_past_what_is_mounted_over_proc() {
    in_mount_namespace(|| {
        let proc = ProcFd::open().unwrap();
        let fake = Directory::new();
        fs::create_dir_all(fake.join("sys/kernel")).unwrap();
        fs::write(fake.join("sys/kernel/domainname"), "fake").unwrap();
        let copy = mount::copy_path(&c_path(fake.path()), Depth::One).unwrap();
        mount::attach(copy.as_fd(), file::open_path(c"/proc").unwrap().as_fd()).unwrap();
        assert_eq!(fs::read_to_string("/proc/sys/kernel/domainname").unwrap(), "fake");
        beneath::write_beneath(proc.as_fd(), c"sys/kernel/domainname", b"renamed").unwrap();
        assert_eq!(fs::read_to_string("/proc/sys/kernel/domainname").unwrap(), "fake");
        beneath::write_own(proc.as_fd(), c"comm", b"renamed").unwrap();
        mount::detach(c"/proc").unwrap();
        assert_eq!(fs::read_to_string("/proc/sys/kernel/domainname").unwrap(), "renamed\n");
        assert_eq!(fs::read_to_string("/proc/self/comm").unwrap(), "renamed\n");
    });
}

#[test]
fn procfs_symlinks_and_fakes_are_refused() {
    let proc = ProcFd::open().unwrap();
    let write = |path| beneath::write_beneath(proc.as_fd(), path, b"x").unwrap_err().errno;
    assert_eq!((write(c"self/comm"), write(c"../etc/hostname")), (Errno::ELOOP, Errno::EXDEV));
    let dir = Directory::new();
    let fake = file::open_directory(&c_path(dir.path())).unwrap();
    assert_eq!(ProcFd::from_fd(fake).err().unwrap().errno, Errno::ENOTSUP);
}

#[test]
fn where_no_procfs_may_be_mounted_a_copy_of_the_hosts_serves() {
    // A new user namespace may not mount the procfs of a pid namespace that is not its own.
    in_user_namespace(|| {
        assert_eq!(ProcFd::mounted().unwrap_err().errno, Errno::EPERM);
        let proc = ProcFd::open().unwrap();
        let own = fs::File::from(beneath::open_own_namespace(proc.as_fd(), c"mnt").unwrap());
        assert_eq!(own.metadata().unwrap().ino(), fs::metadata("/proc/self/ns/mnt").unwrap().ino());
        let error = beneath::write_beneath(proc.as_fd(), c"sys/kernel/hostname", b"x").unwrap_err();
        assert!(matches!(error.errno, Errno::EACCES | Errno::EPERM), "{error}");
    });
}
