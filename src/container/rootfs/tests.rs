//! What is different in a user namespace of the container's own.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::context::Context;
use super::enter::{EnterRootfs, RootSetup};
use super::mask::{MaskPath, Masks, ReadonlyPath, ReadonlyRoot};
use super::mount::Mount;
use super::pivot::PivotRoot;
use super::propagation::Propagation;
use crate::sys::path::RootFd;
use crate::sys::scratch::{Directory, ROOT_INSIDE, in_mount_namespace, in_user_namespace, mount_line};
use crate::sys::{Errno, Fault};

/// What most mounts of these tests are made with.
pub fn context(bundle: &Path) -> Context<'_> {
    Context {
        bundle,
        label: None,
        user_namespace: false,
        network_namespace: true,
        cgroup: None,
        unseen: true,
        id_mappings: (&[], &[]),
    }
}

fn rootfs() -> Directory {
    let dir = Directory::new();
    for path in ["rootfs", "rootfs/dir", "data"] {
        fs::create_dir(dir.join(path)).unwrap();
        std::os::unix::fs::chown(dir.join(path), Some(ROOT_INSIDE), Some(ROOT_INSIDE)).unwrap();
    }
    fs::write(dir.join("rootfs/secret"), "42").unwrap();
    dir
}

fn enter(dir: &Directory) -> RootFd {
    Propagation::compile(None).unwrap().0.apply().unwrap();
    let propagation = Propagation::compile(None).unwrap().0;
    let enter = EnterRootfs::compile(&dir.join("rootfs"), RootSetup::OwnNamespace, &propagation).unwrap();
    enter.apply(enter.open().unwrap()).unwrap()
}

fn apply(dir: &Directory, root: &RootFd, mount: Value) -> Result<(), Fault> {
    let context = Context { user_namespace: true, network_namespace: false, ..context(dir.path()) };
    Mount::compile(&serde_json::from_value(mount).unwrap(), &context, 0, &[]).unwrap().mount.apply(root, None).map(drop)
}

#[test]
fn the_hosts_sys_stands_in_where_a_user_namespace_shares_the_network() {
    let explicit =
        json!({ "destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "ro"] });
    let new = json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "ro"] });
    for mount in [new, explicit] {
        let dir = rootfs();
        in_user_namespace(|| {
            let root = enter(&dir);
            apply(&dir, &root, mount).unwrap();
            let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
            let below = dir.join("rootfs/sys").display().to_string();
            let lines: Vec<_> =
                text.lines().filter(|line| line.split(' ').nth(4).unwrap().starts_with(&below)).collect();
            let read_only = |line: &&str| line.split(' ').nth(5).unwrap().starts_with("ro");
            // /sys itself and what is mounted below it: the host's cgroups (CVE-2023-25809).
            assert!(!lines.is_empty() && lines.iter().all(read_only), "{lines:#?}");
        });
    }
}

#[test]
fn a_whole_rootfs_is_set_up_without_privileges_on_the_host() {
    let dir = rootfs();
    in_user_namespace(|| {
        let root = enter(&dir);
        let mounts = json!([
            { "destination": "/dev", "type": "tmpfs", "options": ["nosuid", "strictatime", "mode=755"] },
            { "destination": "/dev/pts", "type": "devpts", "options": ["newinstance", "ptmxmode=0666", "mode=0620"] },
            { "destination": "/dev/null", "source": "/dev/null", "options": ["bind"] },
            { "destination": "/sys", "type": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
            { "destination": "/data", "source": "data", "options": ["rbind", "ro", "rprivate"] }
        ]);
        for mount in mounts.as_array().unwrap() {
            apply(&dir, &root, mount.clone()).unwrap();
        }
        let sys = mount_line(&dir.join("rootfs/sys")).unwrap();
        assert!(sys.contains(" ro,nosuid,nodev,noexec,"), "{sys}");
        let cgroups = mount_line(&dir.join("rootfs/sys/fs/cgroup"));
        assert!(cgroups.is_none_or(|line| line.contains(" ro")), "submounts are read-only too");
        PivotRoot::compile(RootSetup::OwnNamespace, &Propagation::compile(None).unwrap().0).apply(&root).unwrap();
        ReadonlyPath::compile(&["/dir".to_owned()]).unwrap()[0].apply(&root).unwrap();
        let mut masks = Masks::default();
        for path in MaskPath::compile(&["/secret".to_owned(), "/sys/kernel".to_owned()], None).unwrap() {
            path.apply(&root, &mut masks).unwrap();
        }
        ReadonlyRoot.apply(&root).unwrap();
        assert_eq!(fs::read("/secret").unwrap(), b"");
        assert_eq!(fs::read_dir("/sys/kernel").unwrap().count(), 0);
        for path in ["/dir/x", "/x", "/data/x", "/sys/kernel/x"] {
            assert_eq!(fs::write(path, "").unwrap_err().raw_os_error(), Some(Errno::EROFS as i32), "{path}");
        }
    });
    assert_eq!(fs::read(dir.join("rootfs/secret")).unwrap(), b"42");
}

#[test]
fn locked_flags_of_a_source_stay_and_asking_for_less_says_so() {
    let dir = rootfs();
    in_mount_namespace(move || {
        let host = dir.root();
        let tmpfs =
            json!({ "destination": "/data", "type": "tmpfs", "options": ["nosuid", "nodev", "ro", "mode=777"] });
        let compiled = Mount::compile(&serde_json::from_value(tmpfs).unwrap(), &context(dir.path()), 0, &[]).unwrap();
        compiled.held.keep(compiled.mount.apply(&host, None).unwrap());
        compiled.late.unwrap().apply().unwrap();
        in_user_namespace(|| {
            let root = enter(&dir);
            apply(&dir, &root, json!({ "destination": "/a", "source": "data", "options": ["rbind", "noexec"] }))
                .unwrap();
            let line = mount_line(&dir.join("rootfs/a")).unwrap();
            assert!(line.contains(" ro,nosuid,nodev,noexec,"), "{line}");
            let options = json!(["rbind", "rw", "dev"]);
            let fault = apply(&dir, &root, json!({ "destination": "/b", "source": "data", "options": options }));
            assert_eq!(
                fault.unwrap_err().to_string(),
                "mount_setattr: operation not permitted \
                 (the source has flags that its user namespace has locked: rw,dev)"
            );
        });
    });
}
