use core::ffi::CStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::target::c_path;
use super::super::tests::context;
use super::*;
use crate::sys::file::{self, magic};
use crate::sys::mount::{attach, detach};
use crate::sys::path::Links;
use crate::sys::scratch::{Directory, exchange, in_mount_namespace, mount_line};

fn compile(mount: Value) -> anyhow::Result<Compiled> {
    Mount::compile(&serde_json::from_value(mount).unwrap(), &context(Path::new("/bundle")), 0, &[])
}

fn text(mount: Value) -> String {
    compile(mount).unwrap().mount.to_string()
}

fn error(mount: Value) -> String {
    format!("{:#}", compile(mount).err().expect("an error"))
}

/// Compiles and applies `mount` with the root of a container at `dir`/rootfs.
fn apply(dir: &Directory, mount: Value) -> Result<(), Fault> {
    let compiled = Mount::compile(&serde_json::from_value(mount).unwrap(), &context(dir.path()), 0, &[]).unwrap();
    compiled.mount.apply(&root(dir), None).map(drop)
}

fn root(dir: &Directory) -> RootFd {
    let path = dir.join("rootfs");
    fs::create_dir_all(&path).unwrap();
    RootFd::new(file::open_directory(&c_path(&path).unwrap()).unwrap())
}

#[test]
fn mounts_print_as_what_they_do() {
    assert_eq!(
        text(json!({ "destination": "/tmp/", "type": "tmpfs", "options": ["nosuid", "nodev", "size=64m"] })),
        "mount tmpfs on /tmp (nosuid,nodev,size=64m)"
    );
    assert_eq!(
        text(json!({ "destination": "/dst", "type": "bind", "source": "src", "options": ["rbind", "ro"] })),
        "rbind /bundle/src on /dst (ro)"
    );
    assert_eq!(text(json!({ "destination": "/dst", "type": "bind", "source": "/src" })), "bind /src on /dst");
    assert_eq!(text(json!({ "destination": "/x", "options": ["remount", "ro"] })), "remount on /x (ro)");
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_field() {
    let cases = [
        (json!({ "destination": "/x" }), "type: missing (only bind mounts do without)"),
        (json!({ "destination": "", "type": "tmpfs" }), "destination: missing"),
        (
            json!({ "destination": "/a/..", "type": "tmpfs" }),
            "destination: a mount on / would hide the root filesystem",
        ),
        (json!({ "destination": "/x", "type": "bind" }), "source: missing"),
        (
            json!({ "destination": "/x", "type": "bind", "source": "/y", "options": ["noexce"] }),
            "options: noexce: not an option of bind mounts",
        ),
        (
            json!({ "destination": "/x", "type": "bind", "source": "/y", "options": ["idmap"] }),
            "options: idmap: needs uidMappings and gidMappings, or a user namespace in linux.namespaces",
        ),
        (json!({ "destination": "/c", "type": "cgroup" }), "type: cgroup: the container has no cgroup"),
        (
            json!({ "destination": "/proc/self/attr", "type": "tmpfs" }),
            "destination: /proc/self/attr: nothing may be mounted inside /proc",
        ),
        (
            json!({ "destination": "/proc/net/dev", "type": "bind", "source": "/y" }),
            "destination: /proc/net/dev: the kernel detaches a mount there at the next look at the file",
        ),
        (
            json!({ "destination": "/x", "type": "proc", "options": ["tmpcopyup"] }),
            "options: tmpcopyup: only for a tmpfs",
        ),
        (
            json!({ "destination": "/x\u{0}y", "type": "tmpfs" }),
            "destination: /x\u{0}y: nul byte found in provided data at position: 2",
        ),
    ];
    for (mount, expected) in cases {
        assert_eq!(error(mount), expected);
    }
}

#[test]
fn a_relative_destination_is_taken_below_the_root_with_a_warning() {
    let compiled = compile(json!({ "destination": "tmp/../data", "type": "tmpfs" })).unwrap();
    assert_eq!(compiled.mount.to_string(), "mount tmpfs on /data");
    assert_eq!(compiled.warnings, ["destination: tmp/../data is relative, which is deprecated: taken as /data"]);
}

#[test]
fn a_read_only_tmpfs_stays_writable_until_all_is_made() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        let mount = json!({ "destination": "/t", "type": "tmpfs", "options": ["ro", "nosuid"] });
        let compiled = Mount::compile(&serde_json::from_value(mount).unwrap(), &context(dir.path()), 0, &[]).unwrap();
        let root = root(&dir);
        compiled.held.keep(compiled.mount.apply(&root, None).unwrap());
        fs::create_dir(dir.join("rootfs/t/below")).unwrap();
        let late = compiled.late.unwrap();
        assert_eq!(late.to_string(), "read-only mount /t");
        late.apply().unwrap();
        assert_eq!(
            fs::create_dir(dir.join("rootfs/t/other")).unwrap_err().kind(),
            std::io::ErrorKind::ReadOnlyFilesystem
        );
        assert!(mount_line(&dir.join("rootfs/t")).unwrap().contains(" ro,nosuid,"));
    });
}

#[test]
fn dev_needs_no_devices_only_where_another_is_bound() {
    let mounts = |json: Value| serde_json::from_value::<Vec<runtime::Mount>>(json).unwrap();
    assert!(makes_devices(&mounts(json!([{ "destination": "/dev", "type": "tmpfs" }]))));
    assert!(!makes_devices(&mounts(json!([{ "destination": "/dev/", "source": "/dev", "options": ["rbind"] }]))));
}

#[test]
fn a_bind_mount_keeps_its_sources_flags_and_changes_only_what_is_named() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        apply(&dir, json!({ "destination": "/src", "type": "tmpfs", "options": ["nosuid", "nodev", "noatime"] }))
            .unwrap();
        let bind = |to: &str, options: Value| {
            let source = dir.join("rootfs/src");
            let mount = json!({ "destination": to, "type": "bind", "source": source, "options": options });
            apply(&dir, mount).unwrap();
            mount_line(&dir.join(&format!("rootfs{to}"))).unwrap().split(' ').nth(5).unwrap().to_owned()
        };
        assert_eq!(bind("/a", json!(["bind"])), "rw,nosuid,nodev,noatime");
        assert_eq!(bind("/b", json!(["bind", "ro"])), "ro,nosuid,nodev,noatime");
        assert_eq!(bind("/c", json!(["bind", "suid", "dev", "noexec", "strictatime"])), "rw,noexec");
        assert_eq!(bind("/d", json!(["bind", "nosymfollow", "relatime"])), "rw,nosuid,nodev,relatime,nosymfollow");
        assert_eq!(mount_line(&dir.join("rootfs/src")).unwrap().split(' ').nth(5), Some("rw,nosuid,nodev,noatime"));
    });
}

#[test]
fn a_relative_source_is_the_bundles_and_a_file_is_bound_on_a_file_that_is_made() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        fs::write(dir.join("hosts"), "from the host").unwrap();
        apply(&dir, json!({ "destination": "/etc/hosts", "source": "hosts", "options": ["bind", "ro"] })).unwrap();
        assert_eq!(fs::read_to_string(dir.join("rootfs/etc/hosts")).unwrap(), "from the host");
        assert_eq!(
            fs::write(dir.join("rootfs/etc/hosts"), "from inside").unwrap_err().kind(),
            std::io::ErrorKind::ReadOnlyFilesystem
        );
        assert!(fs::write(dir.join("hosts"), "host may").is_ok());
    });
}

#[test]
fn a_missing_source_is_no_such_file() {
    let dir = Directory::new();
    let fault = apply(&dir, json!({ "destination": "/x", "source": "gone", "options": ["bind"] })).unwrap_err();
    let path = dir.join("gone");
    assert_eq!(fault.to_string(), format!("open_tree: no such file or directory ({})", path.display()));
    assert!(!dir.join("rootfs/x").exists());
}

#[test]
fn rro_reaches_submounts_and_ro_does_not() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        apply(&dir, json!({ "destination": "/src", "type": "tmpfs" })).unwrap();
        apply(&dir, json!({ "destination": "/src/sub", "type": "tmpfs" })).unwrap();
        for (name, sub_is_writable) in [("ro", true), ("rro", false)] {
            let mount = json!({
                "destination": format!("/{name}"), "source": dir.join("rootfs/src"), "options": ["rbind", name]
            });
            apply(&dir, mount).unwrap();
            assert_eq!(
                fs::write(dir.join(&format!("rootfs/{name}/file")), "").unwrap_err().kind(),
                std::io::ErrorKind::ReadOnlyFilesystem
            );
            assert_eq!(fs::write(dir.join(&format!("rootfs/{name}/sub/file")), "").is_ok(), sub_is_writable);
        }
    });
}

#[test]
fn propagation_words_apply_to_the_mount_that_has_them() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        apply(&dir, json!({ "destination": "/a", "type": "tmpfs", "options": ["shared"] })).unwrap();
        apply(&dir, json!({ "destination": "/b", "type": "tmpfs", "options": ["unbindable"] })).unwrap();
        let source = dir.join("rootfs/a");
        apply(&dir, json!({ "destination": "/c", "source": source, "options": ["bind", "rslave"] })).unwrap();
        let has = |name: &str, word: &str| mount_line(&dir.join(name)).unwrap().contains(word);
        assert!(has("rootfs/a", " shared:"));
        assert!(has("rootfs/b", " unbindable"));
        assert!(has("rootfs/c", " master:") && !has("rootfs/c", " shared:"));
    });
}

#[test]
fn proc_and_sys_are_mounted_on_real_directories_only() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        let root = root(&dir);
        fs::create_dir(dir.join("rootfs/elsewhere")).unwrap();
        symlink("/elsewhere", dir.join("rootfs/proc")).unwrap();
        let proc = json!({ "destination": "/proc", "type": "proc" });
        let fault = apply(&dir, proc.clone()).unwrap_err();
        assert_eq!(fault.errno, Errno::ELOOP);
        assert!(fault.to_string().ends_with("(/proc must be a directory, and no symlink may lead there)"), "{fault}");
        fs::remove_file(dir.join("rootfs/proc")).unwrap();
        apply(&dir, proc).unwrap();
        assert_eq!(file::fs_type(root.open(c"/proc", Links::Refuse).unwrap().as_fd()).unwrap(), magic::PROC);
    });
}

#[test]
fn a_symlink_into_proc_does_not_get_a_mount_there() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        apply(&dir, json!({ "destination": "/proc", "type": "proc" })).unwrap();
        symlink("/proc/tty", dir.join("rootfs/data")).unwrap();
        let fault = apply(&dir, json!({ "destination": "/data", "type": "tmpfs" })).unwrap_err();
        assert_eq!(fault.to_string(), "move_mount: operation not permitted (/data lies inside a procfs)");
        // What lxcfs emulates may be covered.
        fs::write(dir.join("uptime"), "1 1").unwrap();
        apply(&dir, json!({ "destination": "/proc/uptime", "source": "uptime", "options": ["bind"] })).unwrap();
        assert_eq!(fs::read_to_string(dir.join("rootfs/proc/uptime")).unwrap(), "1 1");
        // On /proc itself only a procfs.
        let fault = apply(&dir, json!({ "destination": "/proc", "source": ".", "options": ["bind"] })).unwrap_err();
        assert_eq!(fault.errno, Errno::EPERM);
        apply(&dir, json!({ "destination": "/proc", "source": "/proc", "options": ["rbind"] })).unwrap();
    });
}

#[test]
fn a_destination_whose_leaf_is_a_symlink_is_mounted_inside_the_root() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        root(&dir);
        let victim = dir.join("victim");
        fs::create_dir(&victim).unwrap();
        symlink(&victim, dir.join("rootfs/link")).unwrap();
        apply(&dir, json!({ "destination": "/link", "type": "tmpfs", "options": ["mode=0700"] })).unwrap();
        assert!(mount_line(&victim).is_none());
        let inside = dir.path().join("rootfs").join(victim.strip_prefix("/").unwrap());
        assert!(mount_line(&inside).is_some());
    });
}

#[test]
fn a_remount_changes_flags_and_options_of_what_is_there() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        apply(&dir, json!({ "destination": "/t", "type": "tmpfs", "options": ["size=1m"] })).unwrap();
        apply(&dir, json!({ "destination": "/t", "options": ["remount", "nosuid", "noexec", "size=2m"] })).unwrap();
        let line = mount_line(&dir.join("rootfs/t")).unwrap();
        assert!(line.contains(" rw,nosuid,noexec,") && line.contains("size=2048k"), "{line}");
        apply(&dir, json!({ "destination": "/t", "options": ["remount", "bind", "ro", "exec"] })).unwrap();
        let line = mount_line(&dir.join("rootfs/t")).unwrap();
        assert!(line.contains(" ro,nosuid,relatime") && line.contains(" rw,size=2048k"), "{line}");
    });
}

/// What a shared volume or an image can do between two entries: a link where an earlier entry is mounted.
#[test]
fn what_changes_a_mount_later_changes_that_of_its_entry_and_none_that_a_link_leads_to() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        let root = root(&dir);
        let mut earlier = Vec::new();
        let mut compile = |mount: Value| {
            let mount = serde_json::from_value(mount).unwrap();
            let mut compiled = Mount::compile(&mount, &context(dir.path()), 0, &earlier).unwrap();
            earlier.extend(compiled.earlier.take());
            compiled
        };
        let all = [
            compile(json!({ "destination": "/kept", "type": "tmpfs", "options": ["nosuid"] })),
            compile(json!({ "destination": "/v/t", "type": "tmpfs", "options": ["ro"] })),
            compile(json!({ "destination": "/v/u", "type": "tmpfs" })),
            compile(json!({ "destination": "/v/u", "options": ["remount", "noexec"] })),
            compile(json!({ "destination": "/v/w", "options": ["remount", "suid"] })),
            compile(json!({ "destination": "/kept/../v/nothing", "options": ["remount", "suid"] })),
        ];
        for entry in &all[..3] {
            entry.held.keep(entry.mount.apply(&root, None).unwrap());
        }
        let flags = |fd: &OwnedFd| {
            let number = file::stat(fd.as_fd()).unwrap().mount.to_string();
            let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            let line = table.lines().find(|line| line.split(' ').next() == Some(&number)).unwrap();
            line.split(' ').nth(5).unwrap().to_owned()
        };
        let [kept, late, made] = [c"/kept", c"/v/t", c"/v/u"].map(|path| root.open(path, Links::Refuse).unwrap());
        // Over both, a directory with links in their places.
        apply(&dir, json!({ "destination": "/v", "type": "tmpfs" })).unwrap();
        for name in ["t", "u", "w"] {
            symlink("/kept", dir.join("rootfs/v").join(name)).unwrap();
        }
        fs::create_dir(dir.join("rootfs/v/nothing")).unwrap();
        all[1].late.as_ref().unwrap().apply().unwrap();
        all[3].mount.apply(&root, None).unwrap();
        assert_eq!(all[4].mount.apply(&root, None).unwrap_err().errno, Errno::ELOOP);
        assert_eq!(all[5].mount.apply(&root, None).unwrap_err().errno, Errno::EINVAL);
        assert_eq!(
            [flags(&kept), flags(&late), flags(&made)],
            ["rw,nosuid,relatime", "ro,relatime", "rw,noexec,relatime"]
        );
        // And without a link, by a directory that was moved.
        fs::remove_file(dir.join("rootfs/v/w")).unwrap();
        fs::create_dir(dir.join("rootfs/v/w")).unwrap();
        move_mount_to(&kept, &root, c"/v/w");
        let error = all[4].mount.apply(&root, None).unwrap_err();
        assert_eq!(
            (error.errno, error.detail.to_string().as_str()),
            (Errno::ESTALE, "/v/w leads to the mount of another entry")
        );
        assert_eq!(flags(&kept), "rw,nosuid,relatime");
    });
}

fn move_mount_to(mount: &OwnedFd, root: &RootFd, to: &CStr) {
    attach(mount.as_fd(), root.open(to, Links::Refuse).unwrap().as_fd()).unwrap();
}

/// Mounts on /a/b while another thread exchanges /a for `other` all the time: every mount is inside the root, or there
/// was an error. How often each happens is up to the scheduler; that all could, is tried when all is quiet again.
fn race(other: impl FnOnce(&Directory) -> PathBuf) {
    use std::sync::atomic::{AtomicBool, Ordering};
    let dir = Directory::new();
    root(&dir);
    fs::create_dir_all(dir.join("rootfs/a")).unwrap();
    fs::create_dir_all(dir.join("victim/b")).unwrap();
    let (inside, other) = (dir.join("rootfs/a"), other(&dir));
    in_mount_namespace(move || {
        let stop = AtomicBool::new(false);
        let tmpfs = json!({ "destination": "/a/b", "type": "tmpfs" });
        std::thread::scope(|scope| {
            let swapper = scope.spawn(|| {
                let mut is_away = false;
                while !stop.load(Ordering::Relaxed) {
                    exchange(&inside, &other);
                    is_away = !is_away;
                }
                is_away
            });
            let sources = [json!({ "type": "tmpfs" }), json!({ "type": "bind", "source": dir.path() })];
            for mut mount in sources.into_iter().cycle().take(300) {
                mount["destination"] = json!("/a/b");
                // Refused, if it was noticed.
                let _ = apply(&dir, mount);
                detach_all(dir.path());
            }
            stop.store(true, Ordering::Relaxed);
            if swapper.join().unwrap() {
                exchange(&inside, &other);
            }
        });
        // One that moved while it was to be detached.
        detach_all(dir.path());
        assert_eq!(fs::read_dir(dir.join("victim/b")).map_or(0, Iterator::count), 0, "nothing was made outside");
        assert!(!dir.path().join("victim/b/b").exists());
        apply(&dir, tmpfs).unwrap();
        assert!(mount_line(&inside.join("b")).is_some());
    });
}

/// Detaches what is mounted below `place`, the newest first.
fn detach_all(place: &Path) {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let points: Vec<_> = table.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    for point in points.into_iter().rev().filter(|point| Path::new(point).starts_with(place)) {
        // It may be moved meanwhile.
        let _ = detach(&c_path(Path::new(point)).unwrap());
    }
}

#[test]
fn a_destination_that_is_swapped_for_a_symlink_all_the_time_leads_nowhere_else() {
    race(|dir| {
        symlink(dir.join("victim"), dir.join("rootfs/link")).unwrap();
        dir.join("rootfs/link")
    });
}

#[test]
fn a_destination_that_is_moved_out_of_the_root_all_the_time_is_noticed() {
    race(|dir| dir.join("victim"));
}
