use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};

use super::super::context::{Context, MountLabel};
use super::super::mount::Mount;
use super::super::tests::context;
use crate::sys::Fault;
use crate::sys::mount::detach;
use crate::sys::scratch::{Directory, c_path, in_mount_namespace, mount_line};

fn apply(dir: &Directory, mount: Value) -> Result<(), Fault> {
    Mount::compile(&serde_json::from_value(mount).unwrap(), &context(dir.path()), 0, &[])
        .unwrap()
        .mount
        .apply(&dir.root(), None)
        .map(drop)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_kernels_own_words_are_the_error() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        let fault = apply(&dir, json!({ "destination": "/t", "type": "tmpfs", "options": ["sice=1"] })).unwrap_err();
        assert_eq!(fault.to_string(), "fsconfig: invalid argument (tmpfs: Unknown parameter 'sice')");
        let fault = apply(&dir, json!({ "destination": "/t", "type": "nosuchfs" })).unwrap_err();
        assert_eq!(fault.to_string(), "fsopen: no such device (nosuchfs)");
    });
}

#[test]
fn a_tmpfs_takes_over_the_permissions_that_it_hides_unless_told_others() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        for name in ["a", "b"] {
            fs::create_dir(dir.join(name)).unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o1751)).unwrap();
        }
        apply(&dir, json!({ "destination": "/a", "type": "tmpfs" })).unwrap();
        apply(&dir, json!({ "destination": "/b", "type": "tmpfs", "options": ["mode=700,uid=5"] })).unwrap();
        apply(&dir, json!({ "destination": "/new", "type": "tmpfs" })).unwrap();
        assert_eq!([mode(&dir.join("a")), mode(&dir.join("b")), mode(&dir.join("new"))], [0o1751, 0o700, 0o1777]);
    });
}

#[test]
fn the_usual_filesystems_mount_with_the_flags_that_engines_ask_for() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        let mounts = json!([
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
              "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] }
        ]);
        for mount in mounts.as_array().unwrap() {
            apply(&dir, mount.clone()).unwrap();
        }
        let line = |name: &str| mount_line(&dir.join(name)).unwrap();
        assert!(line("proc").contains(" rw,nosuid,nodev,noexec,relatime "));
        assert!(line("dev").contains(" rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755"), "{}", line("dev"));
        assert!(line("dev/pts").ends_with("devpts devpts rw,gid=5,mode=620,ptmxmode=666"), "{}", line("dev/pts"));
        assert!(line("dev/shm").contains("- tmpfs shm rw,size=65536k"), "{}", line("dev/shm"));
        assert!(line("dev/mqueue").contains("- mqueue mqueue"));
        // Read-only is this mount of sysfs, not the sysfs that others share.
        assert!(line("sys").contains(" ro,nosuid,nodev,noexec,relatime - sysfs sysfs rw"), "{}", line("sys"));
    });
}

#[test]
fn flags_of_the_filesystem_reach_it() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        let options = json!(["sync", "dirsync", "lazytime", "noatime", "nodiratime", "mand", "loud"]);
        apply(&dir, json!({ "destination": "/t", "type": "tmpfs", "options": options })).unwrap();
        let line = mount_line(&dir.join("t")).unwrap();
        for word in ["rw,noatime,nodiratime - ", "rw,sync,dirsync", "lazytime"] {
            assert!(line.contains(word), "{line}");
        }
    });
}

#[test]
fn what_only_the_old_call_can_do_is_done_by_it() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        let options = json!(["iversion", "silent", "nosuid", "noatime", "mode=711", "sync"]);
        apply(&dir, json!({ "destination": "/t", "type": "tmpfs", "source": "t", "options": options })).unwrap();
        let line = mount_line(&dir.join("t")).unwrap();
        assert!(line.contains(" rw,nosuid,noatime - tmpfs t rw,sync"), "{line}");
        assert_eq!(mode(&dir.join("t")), 0o711);
    });
}

#[test]
fn an_overlay_with_long_paths_mounts() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        apply(&dir, json!({ "destination": "/o", "type": "tmpfs" })).unwrap();
        let long = "l".repeat(200);
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| {
            let path = dir.join("o").join(&long).join(name);
            fs::create_dir_all(&path).unwrap();
            path.to_str().unwrap().to_owned()
        });
        fs::write(Path::new(&lower).join("file"), "lower").unwrap();
        let options = [format!("lowerdir={lower}:{lower}x"), format!("upperdir={upper}"), format!("workdir={work}")];
        fs::create_dir(format!("{lower}x")).unwrap();
        apply(&dir, json!({ "destination": "/merged", "type": "overlay", "options": options })).unwrap();
        assert_eq!(fs::read_to_string(dir.join("merged/file")).unwrap(), "lower");
        fs::write(dir.join("merged/file"), "upper").unwrap();
        assert_eq!(fs::read_to_string(Path::new(&lower).join("file")).unwrap(), "lower");
    });
}

#[test]
fn tmpcopyup_starts_with_what_it_hides() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        fs::create_dir_all(dir.join("etc/deep/er")).unwrap();
        fs::write(dir.join("etc/file"), "x".repeat(10_000)).unwrap();
        fs::set_permissions(dir.join("etc/file"), fs::Permissions::from_mode(0o4711)).unwrap();
        std::os::unix::fs::chown(dir.join("etc/file"), Some(7), Some(8)).unwrap();
        fs::set_permissions(dir.join("etc/file"), fs::Permissions::from_mode(0o4711)).unwrap();
        fs::set_permissions(dir.join("etc/deep"), fs::Permissions::from_mode(0o700)).unwrap();
        for index in 0..100 {
            fs::write(dir.join(&format!("etc/deep/er/{index}-{}", "n".repeat(40))), index.to_string()).unwrap();
        }
        symlink("/etc/passwd", dir.join("etc/link")).unwrap();
        apply(&dir, json!({ "destination": "/etc", "type": "tmpfs", "options": ["tmpcopyup", "nosuid"] })).unwrap();
        assert!(mount_line(&dir.join("etc")).unwrap().contains("- tmpfs"));
        assert_eq!(fs::read_to_string(dir.join("etc/file")).unwrap().len(), 10_000);
        let meta = fs::metadata(dir.join("etc/file")).unwrap();
        assert_eq!((mode(&dir.join("etc/file")), std::os::unix::fs::MetadataExt::uid(&meta)), (0o4711, 7));
        assert_eq!(mode(&dir.join("etc/deep")), 0o700);
        assert_eq!(fs::read_dir(dir.join("etc/deep/er")).unwrap().count(), 100);
        assert_eq!(fs::read_link(dir.join("etc/link")).unwrap(), Path::new("/etc/passwd"));
        fs::write(dir.join("etc/new"), "").unwrap();
        detach(&c_path(&dir.join("etc"))).unwrap();
        assert!(!dir.join("etc/new").exists());
    });
}

/// Without SELinux the kernel refuses the option, and says which it was.
#[test]
fn a_label_has_the_option_that_is_asked_for() {
    if crate::sys::security::selinux_is_enabled() {
        crate::sys::testing::skip("no-selinux", "the kernel takes the option");
        return;
    }
    in_mount_namespace(|| {
        let dir = Directory::new();
        for option in ["context", "rootcontext"] {
            let label = Some(MountLabel { option, text: "system_u:object_r:svirt_sandbox_file_t:s0" });
            let context = Context { label, ..context(dir.path()) };
            let mount = serde_json::from_value(json!({ "destination": "/t", "type": "tmpfs" })).unwrap();
            let fault = Mount::compile(&mount, &context, 0, &[]).unwrap().mount.apply(&dir.root(), None).unwrap_err();
            assert!(fault.to_string().contains(&format!("Unknown parameter '{option}'")), "{fault}");
        }
    });
}
