//! `restore` of images that lie: whatever they say, config.json holds, or there is no container.
//!
//! CRIU does not work in a User-Mode Linux guest, so that all of this is skipped there.

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::criu::{assert_counts_on, count, counting, images, ocirt, restore, restore_call, save};
use ocirt_integration::forge::{Entry, Value, edit, edit_all, entries};
use ocirt_integration::runtime::call;
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

tests![
    forged_mounts_are_refused,
    forged_namespaces_are_refused,
    forged_credentials_are_refused,
    a_forged_filter_is_refused,
    a_filter_that_kills_the_restorer_ends_in_an_error,
    no_path_of_cgroup_img_is_written,
    the_saved_processes_are_in_the_new_containers_cgroup,
    a_container_without_a_freezer_is_refused,
    all_processes_of_a_restored_container_run,
];

/// A container that may nothing: each field of config.json that a forged image could drop is set.
pub(super) fn confined() -> Bundle {
    let bundle = Bundle::new();
    let (open, closed) = (bundle.host_dir("open"), bundle.host_dir("closed"));
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }] });
    bundle
        .set("process.capabilities", json!({}))
        .set("linux.seccomp", filter)
        .set("linux.maskedPaths", json!(["/proc/version", "/sys/firmware"]))
        .set("linux.resources.pids.limit", json!(77))
        .mount("bind", &text(&open), "/mnt/open", &["bind", "rw"])
        .mount("bind", &text(&closed), "/mnt/closed", &["bind", "ro", "nosuid"])
}

/// A saved container, and a copy of its images from which each forgery begins.
pub(super) struct Saved {
    pub(super) container: Container,
    pub(super) good: PathBuf,
}

impl Saved {
    pub(super) fn new(bundle: Bundle) -> Self {
        let container = counting(bundle);
        save(&container, &[]);
        let good = host::place().join("good");
        copy(&images(), &good);
        Self { container, good }
    }

    /// The images as they were.
    pub(super) fn renew(&self) {
        fs::remove_dir_all(images()).expect("images");
        copy(&self.good, &images());
    }

    /// Restores what `forge` has made of the images: an error that has these words, after which nothing is left.
    #[track_caller]
    pub(super) fn refuses(&self, words: &str, forge: impl FnOnce(&Path)) {
        self.renew();
        forge(&images());
        let before = count(&self.container.bundle);
        restore(&self.container.bundle).fails(words);
        call(["state", self.container.id()]).fails("does not exist");
        host::assert_nothing_left();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(count(&self.container.bundle), before, "{words}: it ran");
    }

    /// The same, by ocirt: CRIU has not been started, for it has written no log.
    #[track_caller]
    pub(super) fn refuses_before_criu(&self, words: &str, forge: impl FnOnce(&Path)) {
        self.refuses(words, forge);
        assert!(!images().join("restore.log").exists(), "{words}: CRIU ran");
    }

    /// The images as they were are restored.
    #[track_caller]
    pub(super) fn is_sound(&self) {
        self.renew();
        let before = count(&self.container.bundle);
        restore(&self.container.bundle).ok();
        assert_counts_on(&self.container.bundle, before);
    }
}

/// Edits the file that is counted in: field 3 of an entry is the regular file, whose field 6 is its path.
pub(super) fn counter(images: &Path, edit_it: impl Fn(&mut Entry)) {
    let mut count = 0;
    edit(&images.join("files.img"), |all| {
        for file in all {
            file.each(3, |regular| {
                if regular.text(6).as_deref() == Some("/count") {
                    edit_it(regular);
                    count += 1;
                }
            });
        }
    });
    assert_eq!(count, 1, "the file that is counted in");
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("directory");
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).expect("mode");
    for file in fs::read_dir(from).expect("directory").flatten() {
        fs::copy(file.path(), to.join(file.file_name())).expect("copy");
    }
}

/// The mounts of the images; field 7 of an entry is the mount point.
fn mounts(directory: &Path, edit: impl FnMut(&mut Vec<Entry>)) {
    edit_all(directory, "mountpoints-", edit);
}

fn at<'a>(all: &'a mut [Entry], point: &str) -> &'a mut Entry {
    all.iter_mut().find(|entry| entry.text(7).as_deref() == Some(point)).unwrap_or_else(|| panic!("no {point}"))
}

fn without(directory: &Path, point: &str) {
    mounts(directory, |all| {
        at(all, point);
        all.retain(|entry| entry.text(7).as_deref() != Some(point));
    });
}

/// Field 5 has the flags of mount(2): 1 is MS_RDONLY.
fn writable(directory: &Path, point: &str) {
    mounts(directory, |all| {
        let entry = at(all, point);
        let flags = entry.number(5).expect("flags");
        assert!(flags & 1 == 1, "{point} is read-only");
        entry.set_number(5, flags & !1);
    });
}

/// One more mount, on /tmp, made from the one at `like`.
pub(super) fn one_more(directory: &Path, like: &str, change: impl Fn(&mut Entry)) {
    mounts(directory, |all| {
        let id = at(all, "/").number(2).expect("id");
        let mut new = at(all, like).clone();
        new.set_number(2, 99_999);
        new.set_number(4, id);
        new.set_text(7, "/tmp");
        change(&mut new);
        all.insert(0, new);
    });
}

fn forged_mounts_are_refused() {
    ocirt();
    let saved = Saved::new(confined());
    let rootfs = saved.container.bundle.rootfs();
    let up = "/..".repeat(rootfs.components().count() - 1);
    saved.refuses("is not an absolute path without \"..\"", |images| {
        // The root of the host, from the filesystem in which the rootfs is.
        one_more(images, "/", |new| {
            let root = new.text(6).expect("root");
            new.set_text(6, &format!("{root}{up}"));
            // Without a peer group that CRIU could not give it.
            [10, 11].iter().for_each(|field| new.set_number(*field, 0));
        });
    });
    saved.refuses("mounts: wanted no mount on /tmp", |images| one_more(images, "/proc", |_| {}));
    saved.refuses("mounts: wanted no mount on /tmp", |images| one_more(images, "/dev/shm", |_| {}));
    saved.refuses("linux.maskedPaths[0]: wanted /proc/version masked", |images| without(images, "/proc/version"));
    saved.refuses("linux.maskedPaths[1]: wanted /sys/firmware masked", |images| without(images, "/sys/firmware"));
    saved.refuses("linux.readonlyPaths[0]: wanted /proc/sys read-only", |images| without(images, "/proc/sys"));
    saved.refuses("linux.readonlyPaths[0]: wanted /proc/sys read-only", |images| writable(images, "/proc/sys"));
    saved.refuses("mounts[5]: wanted ro on /sys", |images| writable(images, "/sys"));
    saved.refuses("mounts[3]: wanted a mount on /dev/shm", |images| without(images, "/dev/shm"));
    // The sources of two bind mounts exchanged, by the names that ocirt has for them.
    saved.refuses("mounts[7]: wanted", |images| {
        let path = images.join("mounts.json");
        let text = fs::read_to_string(&path).expect("mounts.json");
        let swapped = text
            .replace("\"mount\":\"/mnt/open\"", "\"mount\":\"/\"")
            .replace("\"mount\":\"/mnt/closed\"", "\"mount\":\"/mnt/open\"");
        let swapped = swapped.replace("\"mount\":\"/\"", "\"mount\":\"/mnt/closed\"");
        assert_ne!(swapped, text);
        fs::write(path, swapped).expect("mounts.json");
    });
    saved.is_sound();
}

fn forged_namespaces_are_refused() {
    ocirt();
    let saved = Saved::new(confined());
    // Field 3 of the inventory has CRIU's own: those of the host. Fields of the ids: 5 to 9 are pid, net, ipc, uts, mnt.
    let hosts = |images: &Path| {
        let mut inventory = entries(&images.join("inventory.img"));
        let mut ids = Entry::default();
        inventory[0].each(3, |found| ids = found.clone());
        ids
    };
    for (field, kind) in [(6, "net"), (7, "ipc"), (8, "uts"), (9, "mnt")] {
        saved.refuses(&format!("linux.namespaces: {kind}"), |images| {
            let host = hosts(images).number(field).expect("id");
            edit_all(images, "ids-", |all| all[0].set_number(field, host));
        });
    }
    // Nor does a file that CRIU takes in its place help.
    saved.refuses("linux.namespaces: net", |images| {
        let host = hosts(images).number(6).expect("id");
        let mut ids = Entry::default();
        edit_all(images, "ids-", |all| ids = all[0].clone());
        ids.set_number(6, host);
        edit_all(images, "core-", |all| all[0].set(4, Value::Bytes(ids.encode())));
    });
    saved.refuses("inventory.img: not of version", |images| {
        edit(&images.join("inventory.img"), |all| all[0].set_number(1, 1));
    });
    saved.is_sound();
}

/// Field 5 of core is of the thread, and has the credentials in its field 10.
fn credentials(images: &Path, change: impl Fn(&mut Entry)) {
    edit_all(images, "core-", |all| all[0].each(5, |thread| thread.each(10, &change)));
}

fn forged_credentials_are_refused() {
    ocirt();
    let saved = Saved::new(confined());
    // CAP_KILL, and no more: what root of the test machine may lack is none of the forgery's.
    for (set, fields) in [("bounding", &[12][..]), ("permitted", &[10]), ("effective", &[10, 11])] {
        // Without the permitted set there is no effective one; of the two, either is told.
        let words = if set == "effective" { "process.capabilities." } else { set };
        saved.refuses(words, |images| {
            credentials(images, |creds| fields.iter().for_each(|field| set_mask(creds, *field, 1 << 5)));
        });
    }
    saved.refuses("process.user.uid: wanted [0], found [1000, 1000, 1000, 1000]", |images| {
        credentials(images, |creds| [1, 3, 5, 7].iter().for_each(|field| creds.set_number(*field, 1000)));
    });
    saved.refuses("process.user.gid: wanted [0], found [1000, 1000, 1000, 1000]", |images| {
        credentials(images, |creds| [2, 4, 6, 8].iter().for_each(|field| creds.set_number(*field, 1000)));
    });
    saved.refuses("process.user.additionalGids", |images| credentials(images, |creds| creds.set_number(14, 6)));
    saved.refuses("process.noNewPrivileges: wanted true, found false", |images| {
        credentials(images, |creds| creds.set_number(18, 0));
    });
    saved.is_sound();
}

/// A set of capabilities is two numbers.
fn set_mask(creds: &mut Entry, field: u64, mask: u64) {
    creds.set_number(field, mask);
    creds.0.push((field, Value::Number(0)));
}

/// Puts this program in the place of every filter: field 1 of the entry, field 1 of each.
fn set_filter(images: &Path, program: &[u8]) {
    edit_all(images, "seccomp", |all| {
        all[0].each(1, |filter| filter.set(1, Value::Bytes(program.to_vec())));
    });
}

fn a_forged_filter_is_refused() {
    ocirt();
    let saved = Saved::new(confined());
    // Field 11 of the thread is the mode.
    saved.refuses("linux.seccomp: wanted a filter, found mode 0", |images| {
        edit_all(images, "core-", |all| all[0].each(5, |thread| thread.set_number(11, 0)));
    });
    // BPF_RET | BPF_K, SECCOMP_RET_ALLOW.
    saved.refuses("found another one first (1)", |images| set_filter(images, &[6, 0, 0, 0, 0, 0, 0xff, 0x7f]));
    saved.is_sound();
}

/// CRIU would wait for a process that dies under its hands: such a filter is refused before the process has it.
fn a_filter_that_kills_the_restorer_ends_in_an_error() {
    ocirt();
    let saved = Saved::new(confined());
    let start = Instant::now();
    // SECCOMP_RET_KILL_PROCESS.
    saved.refuses("found another one first (1)", |images| set_filter(images, &[6, 0, 0, 0, 0, 0, 0, 0x80]));
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    saved.is_sound();
}

/// A property of this name is a file that CRIU writes to, as root.
fn no_path_of_cgroup_img_is_written() {
    ocirt();
    let saved = Saved::new(confined());
    let victim = host::place().join("victim");
    fs::write(&victim, "precious").expect("file");
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).expect("mode");
    saved.renew();
    let up = "../".repeat(16);
    edit(&images().join("cgroup.img"), |all| {
        all[0].each(2, |controller| {
            controller.each(2, |directory| {
                let mut perms = Entry::default();
                [(1, 0o100_666), (2, 65_534), (3, 65_534)]
                    .iter()
                    .for_each(|(field, value)| perms.set_number(*field, *value));
                let mut property = Entry::default();
                property.set_text(1, &format!("{up}{}", victim.display()));
                property.set_text(2, "forged");
                property.set(3, Value::Bytes(perms.encode()));
                let mut below = Entry::default();
                below.set_text(1, "sub");
                below.set(3, Value::Bytes(property.encode()));
                directory.set(2, Value::Bytes(below.encode()));
            });
        });
    });
    let before = count(&saved.container.bundle);
    restore(&saved.container.bundle).ok();
    let found = fs::metadata(&victim).expect("file");
    assert_eq!((fs::read_to_string(&victim).expect("file").as_str(), found.mode() & 0o777), ("precious", 0o600));
    assert_eq!(found.uid(), 0);
    assert_counts_on(&saved.container.bundle, before);
    let cgroups = host::cgroups(saved.container.id());
    assert!(!cgroups.is_empty(), "it has a cgroup");
    for cgroup in cgroups {
        assert!(!Path::new(&cgroup).join("sub").exists(), "{cgroup:?}");
    }
}

fn the_saved_processes_are_in_the_new_containers_cgroup() {
    ocirt();
    for namespaced in [false, true] {
        let bundle = if namespaced { confined().namespace("cgroup", None) } else { confined() };
        let saved = Saved::new(bundle);
        saved.renew();
        edit(&images().join("cgroup.img"), |all| {
            // Field 1: the sets, whose field 2 has the members, whose field 2 is the path.
            all[0].each(1, |set| set.each(2, |member| member.set_text(2, "/")));
        });
        let before = count(&saved.container.bundle);
        restore(&saved.container.bundle).ok();
        let text = saved.container.proc_file("cgroup");
        let own: Vec<&str> = text.lines().filter(|line| line.contains(saved.container.id())).collect();
        assert!(own.len() == text.lines().count() || !host::is_cgroup2() && own.len() > 3, "{text}");
        assert_counts_on(&saved.container.bundle, before);
        call(["delete", "--force", saved.container.id()]).ok();
        fs::remove_dir_all(images()).expect("images");
        fs::remove_dir_all(&saved.good).expect("images");
    }
}

fn a_container_without_a_freezer_is_refused() {
    ocirt();
    let container = counting(Bundle::new());
    save(&container, &[]);
    let mut call = restore_call(&container.bundle, &["--detach"]);
    call = call.global(["--cgroup-manager", "disabled"]);
    call.run().fails("without a cgroup that freezes");
    host::assert_nothing_left();
    restore(&container.bundle).ok();
}

fn all_processes_of_a_restored_container_run() {
    ocirt();
    let container = confined().create(probe!(spawn "1000"; count "/count"));
    container.start().ok();
    eventually("the container counts", || count(&container.bundle) > 3);
    let before = save(&container, &[]);
    restore(&container.bundle).ok();
    assert_counts_on(&container.bundle, before);
    let pids: Vec<u32> = call(["ps", "--format", "json", container.id()])
        .ok()
        .json()
        .as_array()
        .expect("pids")
        .iter()
        .map(|pid| pid.as_u64().expect("pid") as u32)
        .collect();
    assert_eq!(pids.len(), 2, "{pids:?}");
    for pid in pids {
        let read = || fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        // It runs at times, and is not stopped.
        eventually("it sleeps", || read().contains("State:\tS"));
        let status = read();
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapBnd:\t0000000000000000", "TracerPid:\t0"] {
            assert!(status.contains(line), "{line} of {status}");
        }
    }
}
