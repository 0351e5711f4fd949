//! The directories of a checkpoint in other hands: links, FIFOs and second names lead CRIU nowhere, which works as root,
//! and what others can write to is not used.

use super::restore_forged::{Saved, copy};
use ocirt_integration::bundle::Bundle;
use ocirt_integration::criu::{assert_counts_on, checkpoint, count, counting, images, ocirt, restore, restore_call};
use ocirt_integration::runtime::call;
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, tests};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::Path;

tests![
    a_log_that_is_a_link_is_not_followed,
    what_is_no_regular_file_is_refused,
    a_directory_of_others_is_refused,
    a_work_directory_may_be_behind_a_link_of_the_callers,
    a_checkpoint_writes_through_no_link,
];

fn a_log_that_is_a_link_is_not_followed() {
    ocirt();
    let saved = Saved::new(Bundle::new());
    let victim = host::place().join("victim");
    fs::write(&victim, "precious").expect("file");
    for name in ["restore.log", "stats-restore"] {
        saved.renew();
        symlink(&victim, images().join(name)).expect("symlink");
        restore(&saved.container.bundle).ok();
        assert_eq!(fs::read_to_string(&victim).expect("file"), "precious", "{name}");
        goes_on(&saved.container.bundle);
        call(["delete", "--force", saved.container.id()]).ok();
    }
    // A FIFO that nobody reads would have CRIU wait, and one in a directory of its own as well.
    saved.renew();
    let work = host::place().join("work");
    fs::create_dir(&work).expect("directory");
    fifo(&work.join("restore.log"));
    let flags = ["--detach", "--work-path", work.to_str().expect("UTF-8")];
    restore_call(&saved.container.bundle, &flags).run().ok();
    goes_on(&saved.container.bundle);
}

/// It counts, from wherever it was saved.
fn goes_on(bundle: &Bundle) {
    let now = count(bundle);
    eventually("it goes on", || count(bundle) != now);
}

fn fifo(path: &Path) {
    let status = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo");
    assert!(status.success());
}

fn what_is_no_regular_file_is_refused() {
    ocirt();
    let saved = Saved::new(Bundle::new());
    let elsewhere = host::place().join("elsewhere");
    for name in ["pages-1.img", "cgroup.img", "mounts.json", "more.img"] {
        saved.refuses(&format!("--image-path: {name}: not a regular file"), |images| {
            let _ = fs::rename(images.join(name), &elsewhere);
            symlink(&elsewhere, images.join(name)).expect("symlink");
        });
        saved.refuses(&format!("--image-path: {name}: not a regular file"), |images| {
            let _ = fs::remove_file(images.join(name));
            fifo(&images.join(name));
        });
    }
    // Nor are the images that these would be the difference to.
    let parent = host::place().join("parent");
    fs::create_dir(&parent).expect("directory");
    symlink(&elsewhere, parent.join("pagemap-1.img")).expect("symlink");
    saved.refuses("parent: pagemap-1.img: not a regular file", |images| {
        symlink("../parent", images.join("parent")).expect("symlink");
    });
    saved.is_sound();
}

fn a_directory_of_others_is_refused() {
    ocirt();
    let saved = Saved::new(Bundle::new());
    saved.refuses("belongs to user 1000", |images| chown(images, Some(1000), None).expect("chown"));
    saved.refuses("can be written by others", |images| {
        fs::set_permissions(images, fs::Permissions::from_mode(0o777)).expect("mode");
    });
    saved.refuses("core-1.img: belongs to user 1000", |images| {
        chown(images.join("core-1.img"), Some(1000), None).expect("chown");
    });
    saved.refuses("is a symlink", |images| {
        let real = images.with_extension("real");
        let _ = fs::remove_dir_all(&real);
        fs::rename(images, &real).expect("rename");
        symlink(&real, images).expect("symlink");
        // What the next one removes is a directory.
    });
    fs::remove_file(images()).expect("symlink");
    copy(&saved.good, &images());
    let work = host::place().join("work");
    fs::create_dir(&work).expect("directory");
    chown(&work, Some(1000), None).expect("chown");
    let flags = ["--detach", "--work-path", work.to_str().expect("UTF-8")];
    let output = restore_call(&saved.container.bundle, &flags).run().fails("belongs to user 1000");
    assert!(output.stderr.contains("--work-path"), "{}", output.stderr);
    saved.is_sound();
}

/// containerd has such a link in each bundle, and its shim says `--work-path BUNDLE/work`.
fn a_work_directory_may_be_behind_a_link_of_the_callers() {
    ocirt();
    let saved = Saved::new(Bundle::new());
    let (work, link) = (host::place().join("work"), host::place().join("link"));
    let flags = ["--detach", "--work-path", link.to_str().expect("UTF-8")];
    fs::create_dir(&work).expect("directory");
    symlink("work", &link).expect("symlink");
    saved.renew();
    restore_call(&saved.container.bundle, &flags).run().ok();
    goes_on(&saved.container.bundle);
    assert!(work.join("restore.log").exists());
    call(["delete", "--force", saved.container.id()]).ok();

    saved.renew();
    lchown(&link, Some(1000), None).expect("lchown");
    restore_call(&saved.container.bundle, &flags).run().fails("the symlink: belongs to user 1000");
    lchown(&link, Some(0), None).expect("lchown");
    chown(&work, Some(1000), None).expect("chown");
    restore_call(&saved.container.bundle, &flags).run().fails("link: belongs to user 1000");
}

fn a_checkpoint_writes_through_no_link() {
    ocirt();
    let container = counting(Bundle::new());
    let victim = host::place().join("victim");
    fs::write(&victim, "precious").expect("file");
    let precious = || assert_eq!(fs::read_to_string(&victim).expect("file"), "precious");
    for name in ["dump.log", "stats-dump", "parent"] {
        fs::create_dir_all(images()).expect("directory");
        symlink(&victim, images().join(name)).expect("symlink");
        checkpoint(container.id(), &["--leave-running"]).ok();
        precious();
        fs::remove_dir_all(images()).expect("directory");
    }
    for name in ["core-1.img", "pages-1.img", "inventory.img"] {
        fs::create_dir_all(images()).expect("directory");
        symlink(&victim, images().join(name)).expect("symlink");
        checkpoint(container.id(), &[]).fails(&format!("{name}: not a regular file"));
        precious();
        fs::remove_file(images().join(name)).expect("symlink");
        fs::hard_link(&victim, images().join(name)).expect("link");
        checkpoint(container.id(), &[]).fails(&format!("{name}: would be overwritten, and has 2 names"));
        precious();
        fs::remove_dir_all(images()).expect("directory");
    }
    fs::create_dir(images()).expect("directory");
    chown(images(), Some(1000), None).expect("chown");
    checkpoint(container.id(), &[]).fails("belongs to user 1000");
    let before = count(&container.bundle);
    assert_counts_on(&container.bundle, before);
}
