//! The mounts of a restored container: what config.json says, where they were, and nothing more of the host.

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::criu::{assert_counts_on, checkpoint, count, counting, images, ocirt, required, restore, save};
use ocirt_integration::runtime::call;
use ocirt_integration::{host, tests};
use std::fs;
use std::path::Path;

tests![
    bind_mounts_show_what_config_json_says,
    a_symlink_in_the_rootfs_leads_no_mount_astray,
    a_moved_mount_point_is_told_from_its_neighbour,
    a_mount_point_with_the_separator_is_refused,
    a_forged_image_names_no_path_of_the_host,
    a_missing_mount_point_is_made,
    an_id_mapped_mount_is_refused,
];

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The line of mountinfo for the mount point `at`.
fn mount_at(container: &Container, at: &str) -> String {
    let text = container.proc_file("mountinfo");
    let line = text.lines().find(|line| line.split(' ').nth(4) == Some(at));
    line.unwrap_or_else(|| panic!("no mount on {at} in {text}")).to_owned()
}

/// A bundle with a writable directory, a read-only one, and a read-only file of the host.
fn with_binds() -> Bundle {
    let bundle = Bundle::new().symlink("/run", "tmp");
    let (open, closed) = (bundle.host_dir("open"), bundle.host_dir("closed"));
    let file = closed.join("file");
    fs::write(&file, "of the host").expect("file");
    let bundle = bundle.mount("bind", text(&open), "/data", &["rbind", "rw"]);
    // By way of a symlink in the image, and where nothing is yet.
    let bundle = bundle.mount("bind", text(&closed), "/run/closed", &["rbind", "ro"]);
    bundle.mount("bind", text(&file), "/etc/file", &["bind", "ro"])
}

fn bind_mounts_show_what_config_json_says() {
    required();
    let container = counting(with_binds());
    let flags = |at: &str| mount_at(&container, at).split(' ').nth(5).unwrap_or_default().to_owned();
    let before: Vec<_> = ["/data", "/tmp/closed", "/etc/file"].map(flags).into();
    assert!(before[0].starts_with("rw") && before[1].starts_with("ro") && before[2].starts_with("ro"), "{before:?}");
    let counted = save(&container, &[]);
    restore(&container.bundle).ok();
    assert_counts_on(&container.bundle, counted);
    let after: Vec<_> = ["/data", "/tmp/closed", "/etc/file"].map(flags).into();
    assert_eq!(after, before);
    let inside = format!("/proc/{}/root", container.pid());
    assert_eq!(fs::read_to_string(format!("{inside}/tmp/closed/file")).expect("file"), "of the host");
    assert_eq!(fs::read_to_string(format!("{inside}/etc/file")).expect("file"), "of the host");
    fs::write(format!("{inside}/data/new"), "x").expect("the writable one");
    let refused = fs::write(format!("{inside}/tmp/closed/new"), "x").expect_err("read-only");
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    assert!(container.bundle.dir.join("open/new").exists());
}

/// CVE-2026-119101: between checkpoint and restore, the image's owner puts a symlink where a mount goes.
fn a_symlink_in_the_rootfs_leads_no_mount_astray() {
    ocirt();
    let victim = host::place().join("victim");
    for (at, kind) in [("data", "directory"), ("tmp/closed", "directory"), ("etc/file", "file"), ("etc", "directory")] {
        let container = counting(with_binds());
        let before = save(&container, &[]);
        let place = container.bundle.inside(at);
        fs::create_dir_all(victim.join("closed")).expect("directory");
        fs::write(victim.join("file"), "untouched").expect("file");
        let kept = place.with_extension("kept");
        fs::rename(&place, &kept).expect("rename");
        let target = if kind == "file" { victim.join("file") } else { victim.clone() };
        std::os::unix::fs::symlink(&target, &place).expect("symlink");
        let output = restore(&container.bundle).fails("symlink");
        assert!(output.stderr.contains("mount point /"), "{}", output.stderr);
        host::assert_nothing_left();
        let names = fs::read_dir(&victim).expect("directory").count();
        assert_eq!((names, fs::read_to_string(victim.join("file")).expect("file").as_str()), (2, "untouched"));
        fs::remove_file(&place).expect("symlink");
        fs::rename(&kept, &place).expect("rename");
        restore(&container.bundle).ok();
        assert_counts_on(&container.bundle, before);
        call(["delete", "--force", container.id()]).ok();
        fs::remove_dir_all(images()).expect("images");
    }
}

/// A container with two mounts exchanges the directories above them: config.json's mounts are no longer where it says,
/// so that nothing is saved that could not be restored; moved back, each is restored for what it shows.
fn a_moved_mount_point_is_told_from_its_neighbour() {
    ocirt();
    let bundle = Bundle::new().directory("/a/mp").directory("/b/mp");
    let (open, closed) = (bundle.host_dir("open"), bundle.host_dir("closed"));
    fs::write(closed.join("secret"), "42").expect("file");
    let bundle = bundle.mount("bind", text(&open), "/a/mp", &["bind", "rw"]);
    let container = counting(bundle.mount("bind", text(&closed), "/b/mp", &["bind", "ro"]));
    // As the container's root could by itself.
    let inside = format!("/proc/{}/root", container.pid());
    let exchange = || {
        for (from, to) in [("a", "c"), ("b", "a"), ("c", "b")] {
            fs::rename(format!("{inside}/{from}"), format!("{inside}/{to}")).expect("rename");
        }
    };
    let flags = |at: &str| mount_at(&container, at).split(' ').nth(5).unwrap_or_default().to_owned();
    exchange();
    assert!(flags("/a/mp").starts_with("ro") && flags("/b/mp").starts_with("rw"));
    let output = checkpoint(container.id(), &[]).fails("was moved there");
    assert!(output.stderr.contains("mount point /"), "{}", output.stderr);
    let before = count(&container.bundle);
    assert_counts_on(&container.bundle, before);
    exchange();
    save(&container, &[]);
    restore(&container.bundle).ok();
    assert!(flags("/a/mp").starts_with("rw") && flags("/b/mp").starts_with("ro"));
    let inside = format!("/proc/{}/root", container.pid());
    assert!(!Path::new(&inside).join("a/mp/secret").exists() && Path::new(&inside).join("b/mp/secret").exists());
}

/// CVE-2026-115520: CRIU's list of external mounts is text.
fn a_mount_point_with_the_separator_is_refused() {
    ocirt();
    let bundle = Bundle::new();
    let source = bundle.host_dir("open");
    let bundle = bundle.mount("bind", text(&source), "/data]:x", &["bind"]);
    let container = counting(bundle);
    let output = checkpoint(container.id(), &[]).fails("/data]:x");
    assert!(output.stderr.contains("/data]:x"), "{}", output.stderr);
    assert_eq!(container.status(), "running");
    let before = count(&container.bundle);
    assert_counts_on(&container.bundle, before);
    assert!(!images().join("mounts.json").exists());
}

/// Whoever made the images does not decide what of the host is shown.
fn a_forged_image_names_no_path_of_the_host() {
    ocirt();
    let container = counting(with_binds());
    save(&container, &[]);
    let path = images().join("mounts.json");
    let text = fs::read_to_string(&path).expect("mounts.json");
    assert!(!text.contains(container.bundle.dir.to_str().expect("UTF-8")), "{text}");
    for (from, to, words) in [
        (r#"{"mount":"/data"}"#, r#"{"mount":"/etc/shadow"}"#, "no bind mount on /etc/shadow"),
        (r#"{"mount":"/data"}"#, r#"{"device":"/etc"}"#, "no /etc"),
        (r#""at":"/data""#, r#""at":"/../data""#, "is not a mount point"),
    ] {
        let forged = text.replace(from, to);
        assert_ne!(forged, text, "{from}");
        fs::write(&path, forged).expect("mounts.json");
        restore(&container.bundle).fails(words);
        host::assert_nothing_left();
    }
}

/// As with a rootfs that is unpacked anew for the restore.
fn a_missing_mount_point_is_made() {
    required();
    let container = counting(with_binds());
    let before = save(&container, &[]);
    for at in ["data", "tmp/closed"] {
        fs::remove_dir(container.bundle.inside(at)).expect("mount point");
    }
    fs::remove_file(container.bundle.inside("etc/file")).expect("mount point");
    restore(&container.bundle).ok();
    assert_counts_on(&container.bundle, before);
    let inside = format!("/proc/{}/root/etc/file", container.pid());
    assert_eq!(fs::read_to_string(inside).expect("file"), "of the host");
}

/// CRIU would restore it without its id map.
fn an_id_mapped_mount_is_refused() {
    ocirt();
    let bundle = Bundle::new();
    let source = bundle.host_dir("open");
    let bundle = bundle.mount("bind", text(&source), "/data", &["bind", "idmap=uids=0-1000-10;gids=0-1000-10"]);
    let container = counting(bundle);
    checkpoint(container.id(), &[]).fails("mount point /data: an id-mapped mount cannot be restored");
    let before = count(&container.bundle);
    assert_counts_on(&container.bundle, before);
}
