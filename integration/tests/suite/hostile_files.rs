//! Attacks by files that are not what they should be, of an image, of processes that run already, or in a directory that
//! others can write: refused or harmless; nothing outside is changed, and nothing hangs.

use super::attacks::Racer;
use super::exec::{exec, running};
use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::need_root;
use ocirt_integration::runtime::{Call, Output, kind, path};
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

tests![
    cve_2025_52881_a_proc_that_is_swapped_gets_no_sysctl,
    cve_2025_52881_a_proc_that_is_a_link_gets_no_writes_of_exec,
    cve_2023_28642_no_passwd_makes_the_runtime_wait_or_leave_the_root,
    cve_2022_2989_a_group_that_is_denied_stays_so,
    a_cgroups_path_with_dots_stays_in_the_hierarchy,
    a_pid_file_follows_no_link,
];

/// A file of the host that root alone may change, with the facts about it.
pub struct Loot {
    pub path: PathBuf,
    facts: (u32, u32, u32, String),
}

impl Loot {
    pub fn new() -> Self {
        let path = host::place().join("loot");
        fs::write(&path, "loot").expect("file");
        let facts = facts(&path);
        Loot { path, facts }
    }

    pub fn text(&self) -> &str {
        self.path.to_str().expect("UTF-8")
    }

    #[track_caller]
    pub fn assert_untouched(&self, what: &str) {
        assert_eq!(facts(&self.path), self.facts, "{what}: a file outside was changed");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        assert!(!mounts.contains(self.text()), "{what}: mounted outside");
    }
}

pub fn facts(path: &Path) -> (u32, u32, u32, String) {
    let meta = fs::symlink_metadata(path).expect("file");
    (meta.uid(), meta.gid(), meta.mode(), fs::read_to_string(path).expect("file"))
}

fn c(path: &Path) -> CString {
    CString::new(path.to_str().expect("UTF-8")).expect("no NUL")
}

/// mknod(2); a FIFO for a mode of S_IFIFO.
pub fn node(path: &Path, mode: libc::mode_t, major: u32, minor: u32) {
    // SAFETY: the path is NUL-terminated and outlives the call.
    let ret = unsafe { libc::mknod(c(path).as_ptr(), mode | 0o666, libc::makedev(major, minor)) };
    assert_eq!(ret, 0, "mknod {}: {}", path.display(), std::io::Error::last_os_error());
}

/// The file of a sysctl of the network namespace, below `/proc`.
const SYSCTL: &str = "sys/net/ipv4/ping_group_range";

fn cve_2025_52881_a_proc_that_is_swapped_gets_no_sysctl() {
    let bundle = Bundle::new().file(&format!("data/proc/{SYSCTL}"), "fake").file("data/proc/self/attr/exec", "fake");
    let fake = bundle.inside("data/proc");
    let (real, swapped) = (bundle.inside("proc"), fake.clone());
    let bundle = bundle.set("linux.sysctl", json!({ "net.ipv4.ping_group_range": "7 9" }));
    let racer = Racer::new(&real, &swapped);
    let mut bundle = bundle.write(probe!(read format!("/proc/{SYSCTL}")));
    let mut ran = 0;
    for _ in 0..40 {
        bundle.id = host::new_id();
        let output = bundle.call("run").run();
        if let Some(answer) = output.answers().first().and_then(Value::as_str) {
            // What it sees may be the fake; what is set is set in the true one.
            assert!(["7\t9\n", "fake"].contains(&answer), "the sysctl is neither set nor the fake's: {answer:?}");
            ran += 1;
        }
    }
    drop(racer);
    let fakes: Vec<_> = [real, fake].into_iter().filter(|path| path.join("sys").exists()).collect();
    assert!(!fakes.is_empty(), "the fake is at one of the two names");
    for proc in fakes {
        assert_eq!(fs::read_to_string(proc.join(SYSCTL)).expect("file"), "fake", "the sysctl went into a fake");
        assert_eq!(fs::read_to_string(proc.join("self/attr/exec")).expect("file"), "fake");
    }
    assert!(ran > 0, "none ran");
}

/// Of a container whose root has taken its procfs away and put a link there, to a directory that looks like one.
fn cve_2025_52881_a_proc_that_is_a_link_gets_no_writes_of_exec() {
    let loot = Loot::new();
    let admin = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    let sets = json!({ "bounding": admin, "effective": admin, "permitted": admin });
    let names = ["data/proc/self/attr/exec", "data/proc/thread-self/attr/exec", "data/proc/self/oom_score_adj"];
    let bundle = names.iter().fold(Bundle::new().set("process.capabilities", sets), |all, name| all.file(name, "fake"));
    let bundle = bundle.set("process.oomScoreAdj", json!(500)).set("linux.maskedPaths", json!([]));
    let container = bundle.set("linux.readonlyPaths", json!([])).create(probe!(umount "/proc"; print "up"; sleep 60));
    container.start().ok();
    assert_eq!(container.answers(2)[0], "ok");
    let root = Path::new("/proc").join(container.pid().to_string()).join("root");
    for target in ["/data/proc", loot.text(), "/", "self"] {
        let _ = fs::remove_dir(root.join("proc")).or_else(|_| fs::remove_file(root.join("proc")));
        symlink(target, root.join("proc")).expect("symlink");
        for flags in [&[][..], &["-u", "1000"], &["--apparmor", "unconfined-nosuch"]] {
            let output = exec(&container, flags, probe!(print "ran")).run();
            let labelled = flags.contains(&"--apparmor");
            assert!(!labelled || output.status != 0 && output.stdout.is_empty(), "{target}: {output:?}");
            if kind() == "ocirt" && !labelled {
                assert_eq!(output.ok().answer(), "ran", "{target}");
            }
        }
        for name in names {
            assert_eq!(fs::read_to_string(container.bundle.inside(name)).expect("file"), "fake", "{target}: {name}");
        }
        loot.assert_untouched(target);
    }
}

/// CVE-2023-27561 as well: what is read of the rootfs is a regular file inside, and read to an end.
fn cve_2023_28642_no_passwd_makes_the_runtime_wait_or_leave_the_root() {
    let outside = host::place().join("passwd");
    fs::write(&outside, "root:x:0:0::/outside:/bin/sh\n").expect("file");
    type Plant = (&'static str, fn(&Path, &str));
    let plants: [Plant; 10] = [
        ("an endless device", |passwd, _| node(passwd, libc::S_IFCHR, 1, 5)),
        ("a directory", |passwd, _| fs::create_dir(passwd).expect("directory")),
        ("a symlink to the outside", |passwd, outside| symlink(outside, passwd).expect("symlink")),
        ("a long way up", |passwd, outside| {
            symlink(format!("../../../../../../../../../..{outside}"), passwd).expect("symlink");
        }),
        ("a loop", |passwd, _| symlink("passwd", passwd).expect("symlink")),
        ("huge", |passwd, _| fs::File::create(passwd).expect("file").set_len(1 << 40).expect("size")),
        ("a line behind 1 MiB", |passwd, _| {
            let filling = "#".repeat(1 << 20);
            fs::write(passwd, format!("{filling}\nroot:x:0:0::/wrong:/bin/sh\n")).expect("file");
        }),
        ("an id beyond all", |passwd, _| fs::write(passwd, "x:x:4294967296:0::/wrong:/x\n").expect("file")),
        ("a negative id", |passwd, _| fs::write(passwd, "x:x:-0:0::/wrong:/x\n").expect("file")),
        ("a fifo", |passwd, _| node(passwd, libc::S_IFIFO, 0, 0)),
    ];
    let without_home = json!(["PATH=/"]);
    for (what, plant) in plants {
        let bundle = Bundle::new().set("process.env", without_home.clone());
        plant(&bundle.inside("etc/passwd"), outside.to_str().expect("UTF-8"));
        let bundle = bundle.write(probe!(env));
        let output = bundle.call("run").run();
        let home = |answer: &Value, how: &str| {
            assert_ne!(answer["HOME"], "/outside", "{what}: {how}");
            assert!(kind() != "ocirt" || answer["HOME"] == "/", "{what}: {how}: {answer}");
        };
        assert!(output.status == 0 || kind() != "ocirt", "{what}: {output:?}");
        output.answers().iter().for_each(|answer| home(answer, "run"));
        // The file comes when the container runs.
        let container = running(Bundle::new().set("process.env", without_home.clone()));
        plant(&container.bundle.inside("etc/passwd"), outside.to_str().expect("UTF-8"));
        let output = exec(&container, &["-u", "0"], probe!(env)).run();
        assert!(output.status == 0 || kind() != "ocirt", "{what}: {output:?}");
        output.answers().iter().for_each(|answer| home(answer, "exec"));
    }
}

/// A group by whose right less is allowed (mode 0604): neither its member nor an exec as another user gets rid of it, nor
/// does the caller's group come in.
fn cve_2022_2989_a_group_that_is_denied_stays_so() {
    need_root();
    let bundle = Bundle::new()
        .file("data/denied", "secret")
        .set("process.user", json!({ "uid": 1000, "gid": 1000, "additionalGids": [4242] }));
    let file = bundle.inside("data/denied");
    chown(&file, Some(0), Some(4242)).expect("chown");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).expect("chmod");
    let container = bundle.create(probe!(read "/data/denied"; print "up"; sleep 60));
    container.start().ok();
    assert_eq!(container.answers(2)[0]["error"], "EACCES");
    for flags in [&[][..], &["--user", "1000:1000"], &["--user", "1001"], &["--cap", "CAP_NET_RAW"]] {
        let output = exec(&container, flags, probe!(read "/data/denied"; id)).run().ok();
        assert_eq!(output.answers()[0]["error"], "EACCES", "{flags:?}: {output:?}");
    }
    let bundle = Bundle::new().set("process.user", json!({ "uid": 1000, "gid": 1000 })).write(probe!(id));
    let mut command = std::process::Command::new(path());
    command.arg("--root").arg(host::root()).args(["run", "--bundle"]).arg(&bundle.dir).arg(&bundle.id);
    // SAFETY: after the fork, one system call on an array that lives in the closure.
    unsafe {
        command.pre_exec(|| match libc::setgroups(2, [4242, 4243].as_ptr()) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let output = command.output().expect("run");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert!(!answer.to_string().contains("424"), "the caller's groups: {answer}");
}

/// Below the root of the hierarchies, and never that root; nor anywhere else.
fn a_cgroups_path_with_dots_stays_in_the_hierarchy() {
    need_root();
    for base in ["/../../../../{}", "../../../../../../../{}", "/a/../../{}", "/./{}/../{}", "//{}//.", "/../{}"] {
        let bundle = Bundle::new();
        let id = bundle.id.clone();
        let cgroups_path = base.replace("{}", &id);
        let bundle = bundle.set("linux.cgroupsPath", json!(cgroups_path)).write(probe!(read "/proc/self/cgroup"));
        let output = bundle.call("run").run();
        // What a runtime has made of it elsewhere is taken away again, whatever comes of this.
        let outside = ["/", "/sys", "/sys/fs", "/sys/fs/cgroup"].map(|directory| Path::new(directory).join(&id));
        let found = outside.iter().filter(|path| path.exists() && !host::is_cgroup(path)).collect::<Vec<_>>();
        found.iter().for_each(|path| fs::remove_dir_all(path).expect("directory"));
        assert!(found.is_empty(), "{cgroups_path}: made {found:?}");
        let own = output.answers().first().and_then(Value::as_str).unwrap_or_default().to_owned();
        let inside = own.lines().filter(|line| line.contains(&id)).collect::<Vec<_>>();
        assert!(!inside.is_empty() && !own.contains(".."), "{cgroups_path}: {output:?}");
        host::assert_nothing_left();
    }
    for path in ["/", "/..", "/a/..", "."] {
        let output = Bundle::new().set("linux.cgroupsPath", json!(path)).run(probe!(print "it ran"));
        let is_named = output.status == 1 && output.stderr.contains("linux.cgroupsPath");
        assert!(kind() != "ocirt" || is_named, "{path}: {output:?}");
        host::assert_nothing_left();
    }
}

/// In a directory that others can write, they may have foreseen both names that the file has in its life.
fn a_pid_file_follows_no_link() {
    need_root();
    let loot = Loot::new();
    let directory = host::place().join("pids");
    fs::create_dir(&directory).expect("directory");
    let file = directory.join("pid");
    let plant = || {
        for name in ["pid", ".pid"] {
            let _ = fs::remove_file(directory.join(name));
            symlink(&loot.path, directory.join(name)).expect("symlink");
        }
    };
    plant();
    let words = ["--pid-file", file.to_str().expect("UTF-8")];
    let bundle = Bundle::new().flags(&words).write(probe!(print "up"; sleep 60));
    let check = |output: Output| {
        loot.assert_untouched(&output.call);
        let pid = fs::read_to_string(&file).expect("pid file");
        assert!(output.status != 0 || pid.parse::<u32>().is_ok(), "{pid}");
        assert!(output.status == 0 || kind() != "ocirt", "{output:?}");
    };
    check(bundle.call("create").run());
    let container = running(Bundle::new());
    plant();
    check(exec(&container, &words, probe!(print "x")).run());
    Call::new(["delete", "--force", &bundle.id]).run();
}
