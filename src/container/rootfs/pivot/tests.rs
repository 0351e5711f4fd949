use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::context::Context;
use super::super::context::{CgroupView, V1Hierarchy};
use super::super::enter::EnterRootfs;
use super::super::mask::{MaskPath, Masks, ReadonlyPath, ReadonlyRoot};
use super::super::mount::Mount;
use super::super::propagation::RootPropagation;
use super::*;
use crate::sys::namespace::{self, Kind, Kinds};
use crate::sys::path::Links;
use crate::sys::scratch::{
    Directory, c_path as scratch_path, in_copied_mount_namespace, in_mount_namespace, mount_line,
};

fn entered(rootfs: &Path, place: RootSetup) -> Result<RootFd, Fault> {
    let enter = EnterRootfs::compile(rootfs, place, &Propagation::compile(None).unwrap().0).unwrap();
    enter.apply(enter.open()?)
}

/// A rootfs that is entered, with `mounts` in it.
fn enter(rootfs: &Path, propagation: Option<&str>, mounts: Value, cgroup: Option<&CgroupView>) -> RootFd {
    Propagation::compile(propagation).unwrap().0.apply().unwrap();
    let root = entered(rootfs, RootSetup::OwnNamespace).unwrap();
    let context = Context {
        bundle: Path::new("/"),
        label: None,
        user_namespace: false,
        network_namespace: true,
        cgroup,
        unseen: true,
        id_mappings: (&[], &[]),
    };
    for mount in mounts.as_array().unwrap() {
        let mount = serde_json::from_value(mount.clone()).unwrap();
        Mount::compile(&mount, &context, 0, &[]).unwrap().mount.apply(&root, None).unwrap();
    }
    root
}

fn pivot_into(rootfs: &Path, mounts: Value) -> RootFd {
    let root = enter(rootfs, None, mounts, None);
    let propagation = Propagation::compile(None).unwrap().0;
    PivotRoot::compile(RootSetup::OwnNamespace, &propagation).apply(&root).unwrap();
    root
}

fn rootfs() -> (Directory, PathBuf) {
    let dir = Directory::new();
    let rootfs = dir.join("rootfs");
    fs::create_dir_all(rootfs.join("dir")).unwrap();
    fs::write(rootfs.join("secret"), "42").unwrap();
    fs::write(rootfs.join("dir/file"), "42").unwrap();
    (dir, rootfs)
}

fn mask(root: &RootFd, paths: &[&str]) -> Result<(), Fault> {
    let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    let mut masks = Masks::default();
    MaskPath::compile(&paths, None).unwrap().iter().try_for_each(|path| path.apply(root, &mut masks))
}

fn make_null(rootfs: &Path) {
    fs::create_dir_all(rootfs.join("dev")).unwrap();
    let dev = file::open_directory(&scratch_path(&rootfs.join("dev"))).unwrap();
    file::mknod_at(dev.as_fd(), c"null", file::kind::CHARACTER | 0o666, (1, 3)).unwrap();
}

fn proc_mount() -> Value {
    json!([{ "destination": "/proc", "type": "proc" }])
}

#[test]
fn after_pivot_root_the_rootfs_is_all_there_is() {
    let (_dir, rootfs) = rootfs();
    let outside = fs::read_to_string("/proc/self/mountinfo").unwrap();
    in_mount_namespace(move || {
        let root = pivot_into(&rootfs, proc_mount());
        let names: Vec<_> = fs::read_dir("/").unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        assert_eq!(std::env::current_dir().unwrap(), Path::new("/"));
        // The host's mounts are gone: the root and /proc are left.
        assert_eq!(fs::read_to_string("/proc/thread-self/mountinfo").unwrap().lines().count(), 2);
        assert!(mount_line(Path::new("/")).unwrap().contains(" rw,relatime - "));
        ReadonlyRoot.apply(&root).unwrap();
        assert_eq!(fs::write("/new", "").unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        RootPropagation::apply(&Propagation::compile(Some("shared")).unwrap().1.unwrap(), &root).unwrap();
        assert!(mount_line(Path::new("/")).unwrap().contains(" shared:"));
    });
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), outside);
}

#[test]
fn a_rootfs_that_is_a_symlink_or_a_file_is_refused() {
    let (dir, rootfs) = rootfs();
    symlink(&rootfs, dir.join("link")).unwrap();
    for path in [dir.join("link/"), rootfs.join("secret"), dir.join("none")] {
        let fault = entered(&path, RootSetup::OwnNamespace).err().unwrap();
        assert!(matches!(fault.errno, Errno::ENOTDIR | Errno::ENOENT), "{fault}");
    }
}

#[test]
fn mounts_in_the_rootfs_do_not_reach_a_shared_host() {
    let (dir, rootfs) = rootfs();
    in_mount_namespace(move || {
        // What the host's namespace would be: everything shared, with a peer to watch.
        let host = file::open_directory(c"/").unwrap();
        set_sharing(host.as_fd(), Sharing::Shared, Depth::Tree).unwrap();
        in_copied_mount_namespace(|| {
            for propagation in [None, Some("slave"), Some("private"), Some("rshared")] {
                let mounts = json!([{ "destination": "/dir", "type": "tmpfs" }]);
                enter(&rootfs, propagation, mounts, None);
                assert!(mount_line(&rootfs.join("dir")).is_some());
            }
        });
        let watched = mount_line(&rootfs.join("dir")).or_else(|| mount_line(&rootfs));
        assert_eq!(watched, None);
    });
    drop(dir);
}

#[test]
fn masked_files_read_as_empty_and_masked_directories_are_empty() {
    let (_dir, rootfs) = rootfs();
    make_null(&rootfs);
    let host = rootfs.clone();
    in_mount_namespace(move || {
        fs::create_dir(rootfs.join("dir2")).unwrap();
        fs::write(rootfs.join("dir2/file"), "42").unwrap();
        symlink("/secret", rootfs.join("link")).unwrap();
        let root = pivot_into(&rootfs, json!([]));
        mask(&root, &["/secret", "/dir", "/dir2", "/missing", "/secret/below"]).unwrap();
        assert_eq!(fs::read("/secret").unwrap(), b"");
        assert_eq!(fs::read("/link").unwrap(), b"");
        for dir in ["/dir", "/dir2"] {
            assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
            assert_eq!(
                fs::write(Path::new(dir).join("new"), "").unwrap_err().kind(),
                std::io::ErrorKind::ReadOnlyFilesystem
            );
        }
    });
    assert_eq!(fs::read(host.join("secret")).unwrap(), b"42");
    assert_eq!(fs::read(host.join("dir/file")).unwrap(), b"42");
}

#[test]
fn a_dev_null_that_is_something_else_masks_nothing() {
    let (_dir, rootfs) = rootfs();
    fs::create_dir(rootfs.join("dev")).unwrap();
    in_mount_namespace(move || {
        fs::write(rootfs.join("dev/null"), "fake").unwrap();
        let root = enter(&rootfs, None, json!([]), None);
        let fault = mask(&root, &["/secret"]).unwrap_err();
        assert_eq!(fault.to_string(), "statx: no such device (/dev/null is not the character device 1:3)");
        fs::remove_file(rootfs.join("dev/null")).unwrap();
        symlink("/secret", rootfs.join("dev/null")).unwrap();
        assert_eq!(mask(&root, &["/secret"]).unwrap_err().errno, Errno::ELOOP);
    });
}

#[test]
fn read_only_paths_are_read_only_and_keep_their_other_flags() {
    let (_dir, rootfs) = rootfs();
    in_mount_namespace(move || {
        let mounts = json!([
            { "destination": "/dir", "type": "tmpfs", "options": ["nosuid", "noexec"] },
            { "destination": "/proc", "type": "proc" }
        ]);
        let root = pivot_into(&rootfs, mounts);
        fs::create_dir_all("/dir/sub").unwrap();
        let paths = ["/dir/sub", "/secret", "/none"].map(str::to_owned);
        for path in ReadonlyPath::compile(&paths).unwrap() {
            path.apply(&root).unwrap();
        }
        for path in ["/dir/sub/x", "/secret"] {
            assert_eq!(fs::write(path, "").unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{path}");
        }
        fs::write("/dir/x", "").unwrap();
        assert!(mount_line(Path::new("/dir/sub")).unwrap().contains(" ro,nosuid,noexec,"));
        assert_eq!(fs::read("/secret").unwrap(), b"42");
    });
}

#[test]
fn without_pivot_root_the_rootfs_moves_over_the_root_and_the_hosts_proc_is_hidden() {
    let (_dir, rootfs) = rootfs();
    in_mount_namespace(move || {
        let table = fs::read("/proc/thread-self/mountinfo").unwrap();
        let root = enter(&rootfs, None, proc_mount(), None);
        let step = PivotRoot::compile_no_pivot(RootSetup::OwnNamespace, &table, &rootfs).unwrap();
        assert!(step.to_string().starts_with("move the rootfs over /, hiding /"), "{step}");
        step.apply(&root).unwrap();
        assert!(Path::new("/secret").exists() && !Path::new("/etc").exists());
        let own = root.open(c"/proc", Links::Refuse).unwrap();
        assert_eq!(file::fs_type(own.as_fd()).unwrap(), file::magic::PROC);
        let procs = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        assert_eq!(procs.lines().filter(|line| line.contains(" - proc ") || line.contains(" - sysfs ")).count(), 1);
    });
}

#[test]
fn without_a_mount_namespace_the_root_is_changed_and_nothing_mounted() {
    let (_dir, rootfs) = rootfs();
    in_mount_namespace(move || {
        let before = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let root = entered(&rootfs, RootSetup::RuntimeNamespace).unwrap();
        assert_eq!(fs::read_to_string("/proc/thread-self/mountinfo").unwrap(), before);
        let propagation = Propagation::compile(None).unwrap().0;
        PivotRoot::compile(RootSetup::RuntimeNamespace, &propagation).apply(&root).unwrap();
        assert!(Path::new("/secret").exists());
    });
}

#[test]
fn mountinfo_gives_up_whole_procs_with_their_blanks() {
    let table = b"1 2 0:3 / /a\\040b rw - proc proc rw\n2 2 0:3 /sys /c rw - proc proc rw\n\
        3 2 0:4 / /sys rw shared:1 - sysfs sysfs rw\n4 2 0:4 / /c/rootfs/sys rw - sysfs sysfs rw\n\
        5 2 0:5 / /dev rw - devtmpfs d rw\nnonsense\n";
    let step = PivotRoot::compile_no_pivot(RootSetup::OwnNamespace, table, Path::new("/c/rootfs")).unwrap();
    assert_eq!(step, PivotRoot::Move { hide: vec![c"/a b".to_owned(), c"/sys".to_owned()] });
}

/// The view that a container in the test's own cgroups has, of the hierarchies that this machine mounts.
fn view(namespaced: bool) -> Option<CgroupView> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounted = |name: &str| table.contains(&format!(" /sys/fs/cgroup/{name} "));
    let hierarchy = |name: &str, options: &[&str]| V1Hierarchy {
        name: name.to_owned(),
        links: vec![name.to_owned(), format!("{name}-link")],
        directory: Path::new("/sys/fs/cgroup").join(name),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    };
    if !mounted("memory") || !mounted("systemd") {
        crate::sys::testing::skip("cgroup1", "no hierarchies of memory and of systemd");
        return None;
    }
    let hierarchies = vec![hierarchy("memory", &["memory"]), hierarchy("systemd", &["none", "name=systemd"])];
    Some(CgroupView { namespaced, hierarchies, unified: None })
}

#[test]
fn cgroup_v1_shows_one_directory_for_each_hierarchy() {
    for namespaced in [false, true] {
        let Some(view) = view(namespaced) else { return };
        let (_dir, rootfs) = rootfs();
        in_mount_namespace(move || {
            let mounts = json!([{
                "destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["nosuid", "relatime", "ro"]
            }]);
            enter(&rootfs, None, mounts, Some(&view));
            let inside = rootfs.join("sys/fs/cgroup");
            let top = mount_line(&inside).unwrap();
            assert!(top.contains(" ro,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,mode=755"), "{top}");
            let line = mount_line(&inside.join("systemd")).unwrap();
            assert!(line.contains(" ro,nosuid,nodev,noexec,relatime ") && line.ends_with("name=systemd"), "{line}");
            assert!(inside.join("memory/memory.limit_in_bytes").exists());
            assert_eq!(fs::read_link(inside.join("memory-link")).unwrap(), Path::new("memory"));
            assert_eq!(
                fs::create_dir(inside.join("memory/ocirt-test")).unwrap_err().kind(),
                std::io::ErrorKind::ReadOnlyFilesystem
            );
        });
    }
}

#[test]
fn cgroup_v2_is_mounted_whole_and_read_only_for_this_mount_alone() {
    let (_dir, rootfs) = rootfs();
    in_mount_namespace(move || {
        // From the first cgroup namespace, the mount's options would become those of the machine's.
        namespace::unshare(Kinds::NONE.with(Kind::Cgroup)).unwrap();
        let view = CgroupView { namespaced: true, hierarchies: Vec::new(), unified: None };
        let mounts = json!([{ "destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro", "nosuid"] }]);
        enter(&rootfs, None, mounts, Some(&view));
        let line = mount_line(&rootfs.join("sys/fs/cgroup")).unwrap();
        assert!(
            line.contains(" ro,nosuid,relatime - cgroup2 cgroup2 rw") || line.contains("- cgroup2 none rw"),
            "{line}"
        );
        assert!(rootfs.join("sys/fs/cgroup/cgroup.procs").exists());
    });
}

#[test]
fn cgroup_v2_without_a_cgroup_namespace_is_the_containers_own_directory() {
    let (dir, rootfs) = rootfs();
    fs::create_dir(dir.join("own")).unwrap();
    fs::write(dir.join("own/cgroup.procs"), "").unwrap();
    in_mount_namespace(move || {
        let view = CgroupView { namespaced: false, hierarchies: Vec::new(), unified: Some(dir.join("own")) };
        let mounts = json!([{ "destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro", "nosuid"] }]);
        enter(&rootfs, None, mounts, Some(&view));
        let names: Vec<_> =
            fs::read_dir(rootfs.join("sys/fs/cgroup")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["cgroup.procs"]);
        assert_eq!(
            fs::write(rootfs.join("sys/fs/cgroup/cgroup.procs"), "0").unwrap_err().kind(),
            std::io::ErrorKind::ReadOnlyFilesystem
        );
    });
}

#[test]
fn null_as_a_mask_is_a_device_and_not_a_copy() {
    let (_dir, rootfs) = rootfs();
    make_null(&rootfs);
    in_mount_namespace(move || {
        let root = enter(&rootfs, None, json!([]), None);
        mask(&root, &["/secret"]).unwrap();
        assert!(fs::metadata(rootfs.join("secret")).unwrap().file_type().is_char_device());
    });
}
