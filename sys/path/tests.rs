use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::super::scratch::{Directory, c_path};
use super::*;

#[test]
fn an_absolute_symlink_leads_into_the_root_and_never_out() {
    let dir = Directory::new();
    fs::create_dir(dir.join("etc")).unwrap();
    fs::write(dir.join("etc/passwd"), "inside").unwrap();
    symlink("/etc/passwd", dir.join("link")).unwrap();
    symlink("../../../../../etc/passwd", dir.join("up")).unwrap();
    for name in [c"/link", c"up"] {
        let fd = dir.root().open(name, Links::Follow).unwrap();
        assert_eq!(file::stat(fd.as_fd()).unwrap(), {
            let inside = file::open_path(&c_path(&dir.join("etc/passwd"))).unwrap();
            file::stat(inside.as_fd()).unwrap()
        });
    }
    assert_eq!(dir.root().open(c"/link", Links::Refuse).unwrap_err().errno, Errno::ELOOP);
}

#[test]
fn missing_directories_are_made_and_existing_ones_kept() {
    let dir = Directory::new();
    fs::create_dir(dir.join("a")).unwrap();
    fs::set_permissions(dir.join("a"), fs::Permissions::from_mode(0o700)).unwrap();
    dir.root().target_dir(c"/a/b/../b/c//d/", Links::Follow).unwrap();
    assert!(dir.join("a/b/c/d").is_dir());
    assert_eq!(fs::metadata(dir.join("a/b")).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(fs::metadata(dir.join("a")).unwrap().permissions().mode() & 0o7777, 0o700);
    dir.root().target_dir(c"/", Links::Follow).unwrap();
}

#[test]
fn a_dangling_symlink_gets_its_target_inside_the_root() {
    let dir = Directory::new();
    fs::create_dir(dir.join("etc")).unwrap();
    symlink("../run/systemd/resolve/stub", dir.join("etc/resolv.conf")).unwrap();
    symlink("/../../var/ocirt-nowhere", dir.join("abs")).unwrap();
    dir.root().target_file(c"/etc/resolv.conf").unwrap();
    dir.root().target_dir(c"/abs/deep", Links::Follow).unwrap();
    assert!(dir.join("run/systemd/resolve/stub").is_file());
    assert!(dir.join("var/ocirt-nowhere/deep").is_dir());
    assert!(!std::path::Path::new("/var/ocirt-nowhere").exists());
}

#[test]
fn a_symlink_loop_ends_with_an_error() {
    let dir = Directory::new();
    symlink("b", dir.join("a")).unwrap();
    symlink("a", dir.join("b")).unwrap();
    assert_eq!(dir.root().target_dir(c"/a/x", Links::Follow).unwrap_err().errno, Errno::ELOOP);
}

#[test]
fn where_symlinks_are_refused_none_is_made_to_work() {
    let dir = Directory::new();
    symlink("/elsewhere", dir.join("proc")).unwrap();
    let error = dir.root().target_dir(c"/proc", Links::Refuse).unwrap_err();
    assert_eq!(error.errno, Errno::ELOOP);
    assert!(!dir.join("elsewhere").exists());
    dir.root().target_dir(c"/sys/fs", Links::Refuse).unwrap();
    assert!(dir.join("sys/fs").is_dir());
}

#[test]
fn what_is_opened_exactly_has_no_link_on_the_way_and_any_length() {
    let dir = Directory::new();
    fs::create_dir_all(dir.join("a/b")).unwrap();
    symlink("a", dir.join("link")).unwrap();
    symlink("b", dir.join("a/last")).unwrap();
    let root = dir.root();
    assert_eq!(root.open_exactly(b"/link/b").unwrap_err().errno, Errno::ELOOP);
    assert_eq!(root.open_exactly(b"/a/c").unwrap_err().errno, Errno::ENOENT);
    let last = file::stat(root.open_exactly(b"/a/last").unwrap().as_fd()).unwrap();
    assert_eq!(last.kind(), file::kind::SYMLINK, "the link itself");
    let name = "n".repeat(200);
    let mut at = root.open_exactly(b"/a/b").unwrap();
    let mut path = b"/a/b".to_vec();
    while path.len() < 3 * libc::PATH_MAX as usize {
        let next = StackPath::new(name.as_bytes()).unwrap();
        file::mkdir_at(at.as_fd(), next.as_cstr(), 0o755).unwrap();
        at = open_itself_at(at.as_fd(), next.as_cstr()).unwrap();
        path.extend([b"/", name.as_bytes()].concat());
        let found = root.open_exactly(&path).unwrap();
        assert_eq!(file::stat(found.as_fd()).unwrap(), file::stat(at.as_fd()).unwrap(), "{}", path.len());
    }
}

#[test]
fn the_parent_of_a_path_comes_with_its_last_component() {
    let dir = Directory::new();
    let (parent, name) = dir.root().parent(c"/dev/net/tun", Links::Refuse).unwrap();
    assert_eq!(name, c"tun");
    assert_eq!(
        file::stat(parent.as_fd()).unwrap(),
        file::stat(dir.root().open(c"dev/net", Links::Refuse).unwrap().as_fd()).unwrap()
    );
    assert_eq!(dir.root().parent(c"x", Links::Follow).unwrap().1, c"x");
}
