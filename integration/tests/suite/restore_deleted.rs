//! Files that were deleted while they were open: `checkpoint` and `restore` bring them back where the container could have
//! written itself, and nowhere else. What cannot be brought back is not saved.

use crate::restore_forged::copy;
use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::criu::{checkpoint, images, ocirt, required, restore};
use ocirt_integration::forge::{Entry, edit};
use ocirt_integration::runtime::call;
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

tests![
    a_deleted_file_is_restored_with_what_is_in_it,
    another_name_of_a_deleted_file_is_kept_until_then,
    a_deleted_file_that_cannot_be_restored_is_not_saved,
    no_link_in_the_rootfs_leads_a_deleted_file_astray,
    no_link_in_a_tmpfs_leads_a_deleted_file_astray,
    no_deleted_file_is_made_on_a_read_only_mount,
    no_other_file_is_removed_as_the_name_of_a_deleted_one,
    a_failed_restore_leaves_nothing_of_a_deleted_file,
];

/// A container that has this file open, which is there still.
fn holding(bundle: Bundle, path: &str) -> Container {
    let container = bundle.directory("/held").create(probe!(hold path, "/count"));
    container.start().ok();
    eventually("the container counts", || told(&container.bundle).0 > 3);
    container
}

/// How far the container has counted, and what it reads in the file that it has open.
fn told(bundle: &Bundle) -> (u32, String) {
    let text = fs::read_to_string(bundle.inside("/count")).unwrap_or_default();
    let (number, text) = text.split_once(' ').unwrap_or_default();
    (number.parse().unwrap_or_default(), text.to_owned())
}

/// The path of the container, as long as it runs.
fn inside(container: &Container, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{path}", container.pid()))
}

fn remove(container: &Container, path: &str) {
    fs::remove_file(inside(container, path)).expect("the held file");
}

#[track_caller]
fn save(container: &Container, flags: &[&str]) -> u32 {
    checkpoint(container.id(), flags).ok();
    call(["state", container.id()]).fails("does not exist");
    host::assert_nothing_left();
    told(&container.bundle).0
}

/// It reads the file still, or again.
#[track_caller]
fn assert_reads_on(container: &Container, before: u32) {
    eventually("it counts on", || told(&container.bundle).0 > before + 3);
    assert_eq!(told(&container.bundle).1, "held");
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("directory").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A directory of the host, and when something was made or removed there last.
struct Victim(PathBuf, (i64, i64));

impl Victim {
    fn new(path: PathBuf) -> Self {
        fs::create_dir_all(&path).expect("directory");
        let changed = changed(&path);
        Self(path, changed)
    }

    #[track_caller]
    fn is_untouched(&self) {
        assert_eq!(changed(&self.0), self.1, "something was made in {}: {:?}", self.0.display(), names(&self.0));
    }
}

fn changed(path: &Path) -> (i64, i64) {
    let metadata = fs::metadata(path).expect("directory");
    (metadata.mtime(), metadata.mtime_nsec())
}

/// A container that has this file open, which is deleted, and what it has at /mnt/volume. Of a file below `gone`, the directory
/// is deleted as well.
fn with_deleted(path: &str) -> (Container, PathBuf) {
    let bundle = Bundle::new().directory("/held/gone");
    let volume = bundle.host_dir("volume");
    let bundle = bundle.mount("bind", volume.to_str().expect("UTF-8"), "/mnt/volume", &["bind", "rw"]);
    let container = holding(bundle, path);
    remove(&container, path);
    if path.contains("gone") {
        fs::remove_dir(container.bundle.inside("/held/gone")).expect("its directory");
    }
    (container, volume)
}

fn a_deleted_file_is_restored_with_what_is_in_it() {
    required();
    for path in ["/held/file", "/dev/shm/file", "/mnt/volume/file", "/held/gone/file"] {
        let (container, _) = with_deleted(path);
        for _ in 0..2 {
            let before = save(&container, &[]);
            restore(&container.bundle).ok();
            assert_reads_on(&container, before);
            // Neither the file nor what CRIU made for it is there.
            for directory in ["/held", "/dev/shm", "/mnt/volume"] {
                assert_eq!(names(&inside(&container, directory)).iter().filter(|name| *name != "gone").count(), 0);
            }
        }
        call(["delete", "--force", container.id()]).ok();
        fs::remove_dir_all(images()).expect("images");
    }
}

fn another_name_of_a_deleted_file_is_kept_until_then() {
    required();
    let container = holding(Bundle::new(), "/held/file");
    fs::hard_link(inside(&container, "/held/file"), inside(&container, "/held/other")).expect("link");
    remove(&container, "/held/file");
    let before = save(&container, &["--link-remap"]);
    assert!(names(&container.bundle.inside("/held")).iter().any(|name| name.starts_with("link_remap.")));
    restore(&container.bundle).ok();
    assert_reads_on(&container, before);
    fs::write(container.bundle.inside("/held/other"), "HELD").expect("the other name");
    eventually("it is the same file", || told(&container.bundle).1 == "HELD");
    assert_eq!(names(&container.bundle.inside("/held")), ["other"]);
}

/// The container goes on, and nothing is saved.
#[track_caller]
fn is_not_saved(container: &Container, words: &str) {
    let before = told(&container.bundle).0;
    let output = checkpoint(container.id(), &[]).fails(words);
    assert_eq!((output.stderr.lines().count(), container.status().as_str()), (1, "running"), "{}", output.stderr);
    assert_reads_on(container, before);
    assert!(!images().join("mounts.json").exists());
    call(["delete", "--force", container.id()]).ok();
    fs::remove_dir_all(images()).expect("images");
}

fn a_deleted_file_that_cannot_be_restored_is_not_saved() {
    ocirt();
    // The host deletes what the container cannot.
    let bundle = Bundle::new();
    let closed = bundle.host_dir("closed");
    fs::write(closed.join("file"), "held").expect("file");
    let bundle = bundle.mount("bind", closed.to_str().expect("UTF-8"), "/mnt/closed", &["bind", "ro"]);
    let container = holding(bundle, "/mnt/closed/file");
    fs::remove_file(closed.join("file")).expect("file");
    is_not_saved(&container, "deleted file \"/mnt/closed/file\": cannot be restored on a read-only mount");

    // A program that is set-user-ID would be there for a moment, where others of the host may see it.
    let container = holding(Bundle::new(), "/held/file");
    fs::set_permissions(container.bundle.inside("/held/file"), fs::Permissions::from_mode(0o4755)).expect("mode");
    remove(&container, "/held/file");
    is_not_saved(&container, "a deleted set-user-ID or set-group-ID file cannot be restored");

    let container = holding(Bundle::new().directory("/held/below"), "/held/below/file");
    remove(&container, "/held/below/file");
    fs::remove_dir(container.bundle.inside("/held/below")).expect("directory");
    symlink("/held", container.bundle.inside("/held/below")).expect("link");
    is_not_saved(&container, "deleted file \"/held/below/file\": cannot be restored: something else");
}

#[track_caller]
fn refuses(container: &Container, words: &str) {
    let before = told(&container.bundle).0;
    restore(&container.bundle).fails(words);
    call(["state", container.id()]).fails("does not exist");
    host::assert_nothing_left();
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(told(&container.bundle).0, before, "{words}: it ran");
}

fn no_link_in_the_rootfs_leads_a_deleted_file_astray() {
    ocirt();
    let victim = Victim::new(host::place().join("victim"));
    let container = holding(Bundle::new().directory("/held/below"), "/held/below/file");
    remove(&container, "/held/below/file");
    let before = save(&container, &[]);
    let below = container.bundle.inside("/held/below");
    fs::remove_dir(&below).expect("directory");
    let path = victim.0.display();
    for target in [
        format!("{path}"),
        format!("../../../{path}"),
        format!("/proc/{}/root{path}", std::process::id()),
        "/nowhere".to_owned(),
    ] {
        symlink(&target, &below).expect("link");
        refuses(&container, "deleted file \"/held/below/file\": cannot be restored: something else");
        victim.is_untouched();
        fs::remove_file(&below).expect("link");
    }
    fs::create_dir(&below).expect("directory");
    restore(&container.bundle).ok();
    assert_reads_on(&container, before);
}

/// Its files are in an image, and there only when CRIU has extracted them.
fn no_link_in_a_tmpfs_leads_a_deleted_file_astray() {
    ocirt();
    let victim = Victim::new(host::place().join("victim"));
    let path = victim.0.display();
    for target in [
        format!("/proc/{}/root{path}", std::process::id()),
        format!("{path}"),
        format!("../../../../../../../..{path}"),
    ] {
        let container = holding(Bundle::new(), "/dev/shm/file");
        symlink(&target, inside(&container, "/dev/shm/link")).expect("link");
        remove(&container, "/dev/shm/file");
        save(&container, &[]);
        rename(&images(), "/dev/shm/file", "/dev/shm/link/file");
        let output = restore(&container.bundle);
        victim.is_untouched();
        assert!(output.stderr.contains("Can't create ghost"), "{}", output.stderr);
        refuses(&container, "Can't create ghost");
        fs::remove_dir_all(images()).expect("images");
    }
}

/// Field 3 of an entry is the regular file, whose field 6 is its path.
fn rename(images: &Path, from: &str, to: &str) {
    edit(&images.join("files.img"), |all| {
        let is_it = |file: &&mut Entry| file.0.iter().any(|(field, _)| *field == 3);
        for file in all.iter_mut().filter(is_it) {
            file.each(3, |regular| {
                if regular.text(6).as_deref() == Some(from) {
                    regular.set_text(6, to);
                }
            });
        }
    });
}

fn no_deleted_file_is_made_on_a_read_only_mount() {
    ocirt();
    let bundle = Bundle::new();
    let volume = bundle.host_dir("volume");
    let bundle = bundle.mount("bind", volume.to_str().expect("UTF-8"), "/mnt/volume", &["bind", "rw"]);
    let container = holding(bundle, "/mnt/volume/file");
    remove(&container, "/mnt/volume/file");
    let before = save(&container, &[]);
    let victim = Victim::new(volume);
    let config = container.bundle.dir.join("config.json");
    let text = fs::read_to_string(&config).expect("config.json");
    let words = "deleted file \"/mnt/volume/file\": cannot be restored on a read-only mount";
    // The image says that it is writable, and config.json that it is not.
    fs::write(&config, text.replace("\"rw\"", "\"ro\"")).expect("config.json");
    refuses(&container, words);
    victim.is_untouched();
    fs::write(&config, &text).expect("config.json");
    // CRIU takes it for writable as long as it makes the file. Field 5 has the flags, field 7 the mount point.
    copy(&images(), &host::place().join("good"));
    ocirt_integration::forge::edit_all(&images(), "mountpoints-", |all| {
        for mount in all.iter_mut().filter(|mount| mount.text(7).as_deref() == Some("/mnt/volume")) {
            let flags = mount.number(5).expect("flags");
            mount.set_number(5, flags | 1);
        }
    });
    refuses(&container, words);
    victim.is_untouched();
    // The same file system once more, as one of the container's own.
    fs::remove_dir_all(images()).expect("images");
    copy(&host::place().join("good"), &images());
    ocirt_integration::forge::edit_all(&images(), "mountpoints-", |all| {
        // One without a device, as new ones are.
        for at in ["/mnt/volume", "/dev/shm"] {
            let mount = all.iter_mut().find(|mount| mount.text(7).as_deref() == Some(at)).expect("mount");
            mount.set_number(3, 88_888);
        }
    });
    rename_to_mount(&images(), "/mnt/volume/file", "/dev/shm/file");
    refuses(&container, "can be restored on the rootfs, a bind mount of config.json or a tmpfs only");
    victim.is_untouched();
    fs::remove_dir_all(images()).expect("images");
    copy(&host::place().join("good"), &images());
    restore(&container.bundle).ok();
    assert_reads_on(&container, before);
}

/// The file, which is then on the mount of /dev/shm: its field 7 is the number of the mount, field 2 of that.
fn rename_to_mount(images: &Path, from: &str, to: &str) {
    let mut mount = 0;
    ocirt_integration::forge::edit_all(images, "mountpoints-", |all| {
        let at = all.iter().find(|mount| mount.text(7).as_deref() == Some("/dev/shm"));
        mount = at.and_then(|mount| mount.number(2)).expect("mount");
    });
    rename(images, from, to);
    edit(&images.join("files.img"), |all| {
        for file in all.iter_mut() {
            file.each(3, |regular| {
                if regular.text(6).as_deref() == Some(to) {
                    // A signed number: zigzag.
                    regular.set_number(7, mount * 2);
                }
            });
        }
    });
}

fn no_other_file_is_removed_as_the_name_of_a_deleted_one() {
    ocirt();
    let container = holding(Bundle::new(), "/held/file");
    fs::hard_link(inside(&container, "/held/file"), inside(&container, "/held/other")).expect("link");
    remove(&container, "/held/file");
    let before = save(&container, &["--link-remap"]);
    let held = container.bundle.inside("/held");
    let name = names(&held).into_iter().find(|name| name.starts_with("link_remap.")).expect("a name of CRIU's");
    copy(&images(), &host::place().join("good"));
    rename(&images(), &format!("/held/{name}"), "/held/other");
    refuses(&container, "\"/held/other\": not a name of criu's");
    assert!(held.join("other").exists());
    fs::remove_dir_all(images()).expect("images");
    copy(&host::place().join("good"), &images());
    // CRIU would leave a process in the place of one that is gone: kind 2 of field 3.
    edit(&images().join("remap-fpath.img"), |all| all[0].set_number(3, 2));
    refuses(&container, "a file that is gone (kind 2) cannot be restored");
    fs::remove_dir_all(images()).expect("images");
    copy(&host::place().join("good"), &images());
    restore(&container.bundle).ok();
    assert_reads_on(&container, before);
}

/// CRIU makes the deleted file, then misses another one: it can be tried again when that is there.
fn a_failed_restore_leaves_nothing_of_a_deleted_file() {
    required();
    for path in ["/held/file", "/mnt/volume/file", "/held/gone/file"] {
        let (container, volume) = with_deleted(path);
        let before = save(&container, &[]);
        let (count, kept) = (container.bundle.inside("/count"), container.bundle.inside("/kept"));
        fs::rename(&count, &kept).expect("rename");
        // What a runtime that was killed has left.
        let left = if path.contains("volume") { volume.clone() } else { container.bundle.inside("/held") };
        fs::write(left.join("file.cr.1.ghost"), "left").expect("file");
        for _ in 0..2 {
            restore(&container.bundle).fails("Can't open file count");
            host::assert_nothing_left();
            let found = [names(&volume), names(&container.bundle.inside("/held"))].concat();
            let expected = if path.contains("gone") { vec![] } else { vec!["gone".to_owned()] };
            assert_eq!(found, expected, "{path}");
        }
        fs::rename(&kept, &count).expect("rename");
        restore(&container.bundle).ok();
        assert_reads_on(&container, before);
        call(["delete", "--force", container.id()]).ok();
        fs::remove_dir_all(images()).expect("images");
    }
}
