//! What a CRIU that restores sees of the host: programs, and nothing else.

use ocirt_integration::bundle::Bundle;
use ocirt_integration::criu::{
    assert_counts_on, checkpoint, count, counting, images, ocirt, restore, restore_call, save,
};
use ocirt_integration::forge::edit_all;
use ocirt_integration::{host, tests};
use serde_json::json;
use std::fs;
use std::path::Path;

tests![
    criu_sees_no_path_of_the_host,
    no_stray_configuration_of_criu_is_read,
    a_configuration_that_is_asked_for_is_read,
    images_that_are_a_difference_find_the_others,
    a_joined_namespace_that_would_be_lost_is_not_saved,
    what_else_has_the_host_changed_is_refused,
];

/// At a hook, CRIU has made the mounts and waits. It is the only other child of the hook's parent that is called so.
const LOOK: &str = r#"
init=$(sed 's/.*"pid":\([0-9]*\).*/\1/')
for process in /proc/[0-9]*; do
    [ -e $process/comm ] || continue
    grep -q '^criu$' $process/comm && grep -q "^PPid:.$PPID\$" $process/status && criu=$process
done
for root in $criu/root /proc/$init/root; do
    for path in SECRET /etc/passwd /etc/hostname /root/.profile /home /var /mnt /boot /dev/pts/ptmx /dev/kmsg; do
        [ -e $root$path ] && echo "sees $path"
    done
    [ $root/tmp -ef /tmp ] && echo 'sees /tmp'
    [ $root/run -ef /run ] && echo 'sees /run'
    for path in /usr /sys; do
        [ -w $root$path ] && echo "writes $path"
    done
    for path in /usr/bin /proc/self /dev/null; do
        [ -e $root$path ] || echo "lacks $path"
    done
done
echo done
"#;

fn criu_sees_no_path_of_the_host() {
    ocirt();
    let secret = host::place().join("secret");
    let log = host::place().join("seen");
    fs::write(&secret, "42").expect("file");
    let script = LOOK.replace("SECRET", secret.to_str().expect("UTF-8"));
    let look =
        format!("[ -e {0}/mounts.json ] || exit 0; ( {script} ) > {1} 2>/dev/null", images().display(), log.display());
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", look], "env": ["PATH=/usr/bin:/bin"] });
    let container = counting(Bundle::new().hook("createRuntime", hook));
    let before = save(&container, &[]);
    restore(&container.bundle).ok();
    assert_eq!(fs::read_to_string(&log).expect("what the hook saw"), "done\n");
    assert_counts_on(&container.bundle, before);
}

/// One that CRIU cannot make sense of, which would end it.
fn stray(home: &Path) {
    fs::create_dir_all(home.join(".criu")).expect("directory");
    fs::write(home.join(".criu/default.conf"), "no-such-option\n").expect("configuration");
    fs::write(home.join("other.conf"), "no-such-option\n").expect("configuration");
}

fn no_stray_configuration_of_criu_is_read() {
    ocirt();
    let home = host::place().join("home");
    stray(&home);
    let (home, other) = (home.to_str().expect("UTF-8").to_owned(), home.join("other.conf").display().to_string());
    let container = counting(Bundle::new());
    let words = ["checkpoint", "--image-path", images().to_str().expect("UTF-8"), container.id()].map(str::to_owned);
    let call = ocirt_integration::runtime::Call::new(words.iter().map(String::as_str));
    ocirt_integration::criu::with_criu(call).env("HOME", &home).env("CRIU_CONFIG_FILE", &other).run().ok();
    let before = ocirt_integration::criu::count(&container.bundle);
    let call = restore_call(&container.bundle, &["--detach"]);
    call.env("HOME", &home).env("CRIU_CONFIG_FILE", &other).run().ok();
    assert_counts_on(&container.bundle, before);
}

fn a_configuration_that_is_asked_for_is_read() {
    ocirt();
    let path = host::place().join("asked.conf");
    let container = counting(Bundle::new().set("annotations", json!({ "org.criu.config": path })));
    fs::write(&path, "log-file asked.log\n").expect("configuration");
    let before = save(&container, &[]);
    assert!(images().join("asked.log").exists());
    fs::remove_file(images().join("asked.log")).expect("log");
    restore(&container.bundle).ok();
    assert!(images().join("asked.log").exists());
    assert_counts_on(&container.bundle, before);
}

/// Where CRIU can save differences, `checkpoint::a_pre_dump_saves_what_changed` has one restored.
fn images_that_are_a_difference_find_the_others() {
    ocirt();
    let container = counting(Bundle::new());
    let before = save(&container, &[]);
    let first = images().with_file_name("first");
    super::restore_forged::copy(&images(), &first);
    std::os::unix::fs::symlink("../first", images().join("parent")).expect("link");
    // CRIU takes a page from there where the entry says so; what it does before is to open it.
    restore(&container.bundle).ok();
    let log = fs::read_to_string(images().join("restore.log")).expect("log");
    assert!(!log.contains("Can't open parent") && !log.contains("parent snapshot"), "{log}");
    assert_counts_on(&container.bundle, before);
}

/// CRIU makes a new one in its place: saved, it could not be restored.
fn a_joined_namespace_that_would_be_lost_is_not_saved() {
    ocirt();
    let other = counting(Bundle::new());
    for kind in ["uts", "ipc"] {
        let path = format!("/proc/{}/ns/{kind}", other.pid());
        let container = counting(Bundle::new().namespace(kind, Some(&path)).config(|config| {
            config.as_object_mut().expect("config").remove("hostname");
        }));
        checkpoint(container.id(), &[]).fails(&format!("a {kind} namespace that is joined by path cannot be restored"));
        let before = count(&container.bundle);
        assert_counts_on(&container.bundle, before);
    }
}

fn what_else_has_the_host_changed_is_refused() {
    ocirt();
    let container = counting(Bundle::new());
    let before = save(&container, &[]);
    let good = host::place().join("good");
    super::restore_forged::copy(&images(), &good);
    let renew = || {
        fs::remove_dir_all(images()).expect("images");
        super::restore_forged::copy(&good, &images());
    };
    // An entry with a policy: field 1 is a namespace, whose field 1 is its name.
    let image = [&[0; 8][..], &5_u32.to_le_bytes(), &[10, 3, 10, 1, b'x']].concat();
    fs::write(images().join("apparmor.img"), image).expect("image");
    restore(&container.bundle).fails("--image-path: apparmor.img: namespaces of AppArmor cannot be restored");
    renew();
    edit_all(&images(), "mountpoints-", |all| {
        let mount = all.iter_mut().find(|mount| mount.text(7).as_deref() == Some("/dev/shm")).expect("mount");
        mount.set_number(16, 1);
    });
    restore(&container.bundle).fails("mount \"/dev/shm\": what is mounted on was removed");
    renew();
    restore(&container.bundle).ok();
    assert_counts_on(&container.bundle, before);
    checkpoint(container.id(), &[]).ok();
}
