//! Files of a state directory that are broken, or somebody else's: one error of every command, and `delete --force`
//! removes what is left.

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::criu;
use ocirt_integration::needs::need_ocirt;
use ocirt_integration::runtime::{Call, Output, call};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests, user};
use serde_json::{Value, json};
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

tests![
    a_broken_state_is_one_error_of_every_command,
    what_exec_reads_is_looked_at_as_well,
    one_broken_container_does_not_hide_the_others,
    a_state_directory_of_somebody_else_is_left_alone,
    what_could_not_be_read_again_is_not_written,
    a_hostile_image_directory_is_one_error_of_restore,
    a_checkpoint_follows_no_link,
];

fn running() -> Container {
    Bundle::new().start(probe!(sleep 600))
}

fn state_file(container: &Container, name: &str) -> PathBuf {
    host::root().join(container.id()).join(name)
}

/// What can become of a file.
type Damage = (&'static str, fn(&Path), &'static str);

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("file");
}

/// The file with one member of its object replaced; null removes it.
fn edit(path: &Path, member: &str, value: Value) {
    let mut state: Value = serde_json::from_slice(&fs::read(path).expect("file")).expect("JSON");
    let object = state.as_object_mut().expect("an object");
    match value {
        Value::Null => drop(object.remove(member)),
        value => drop(object.insert(member.to_owned(), value)),
    }
    write(path, &state.to_string());
}

/// In place of the file, something else.
fn replace(path: &Path, with: impl FnOnce(&Path)) {
    fs::rename(path, host::place().join("good.json")).expect("rename");
    with(path);
}

/// What it is called, what is done, and a word of the message.
const DAMAGES: &[Damage] = &[
    ("empty", |path| write(path, ""), "EOF"),
    ("one brace", |path| write(path, "{"), "EOF"),
    ("null", |path| write(path, "null"), "invalid type"),
    ("a list", |path| write(path, "[1, 2]"), "invalid"),
    ("no text", |path| fs::write(path, [0xff, 0, 0xfe]).expect("file"), "expected value"),
    (
        "cut in half",
        |path| {
            let text = fs::read(path).expect("file");
            fs::write(path, &text[..text.len() / 2]).expect("file");
        },
        "EOF",
    ),
    (
        "a symlink",
        |path| replace(path, |path| symlink(host::place().join("good.json"), path).expect("symlink")),
        "regular",
    ),
    ("a directory", |path| replace(path, |path| fs::create_dir(path).expect("directory")), "regular"),
    ("a socket", |path| replace(path, |path| node(path, libc::S_IFSOCK)), "regular"),
    ("a fifo", |path| replace(path, |path| node(path, libc::S_IFIFO)), "regular"),
    (
        "huge",
        |path| fs::OpenOptions::new().write(true).open(path).expect("file").set_len(1 << 40).expect("size"),
        "larger",
    ),
    ("another user's", |path| give(path, 1000), "belongs to user 1000"),
];

fn node(path: &Path, kind: libc::mode_t) {
    let name = CString::new(path.to_str().expect("UTF-8")).expect("no NUL");
    // SAFETY: the path is NUL-terminated and outlives the call.
    assert_eq!(unsafe { libc::mknod(name.as_ptr(), kind | 0o644, 0) }, 0);
}

fn give(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).expect("chown");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// Those of the state file alone.
const STATE_DAMAGES: &[Damage] = &[
    ("a wrong type", |path| edit(path, "init", json!("1")), "invalid type"),
    ("a pid out of range", |path| edit(path, "init", json!({ "pid": 1u64 << 40, "startTime": 1 })), "invalid value"),
    ("a phase of the future", |path| edit(path, "phase", json!("hibernating")), "unknown variant"),
    ("a member missing", |path| edit(path, "cgroup", Value::Null), "missing field `cgroup`"),
    ("a version that is no text", |path| edit(path, "ociVersion", json!(7)), "invalid type"),
];

/// Each command that reads the state, `ID` being the container.
const COMMANDS: [&[&str]; 15] = [
    &["state", "ID"],
    &["start", "ID"],
    &["kill", "ID", "KILL"],
    &["kill", "--all", "ID", "KILL"],
    &["kill", "--regex", "^ID$", "KILL"],
    &["exec", "ID", "/probe", "print", "it ran"],
    &["pause", "ID"],
    &["resume", "ID"],
    &["update", "--pids-limit", "77", "ID"],
    &["events", "--stats", "ID"],
    &["ps", "ID"],
    &["checkpoint", "ID"],
    &["mounts", "add", "ID", "/dev/null"],
    &["mounts", "remove", "ID", "/dev/null"],
    &["delete", "ID"],
];

/// [`COMMANDS`], without those that an ordinary user has not.
fn commands() -> impl Iterator<Item = &'static [&'static str]> {
    COMMANDS.into_iter().filter(|command| command[0] != "checkpoint" || !user::has_suite())
}

/// Those of [`COMMANDS`] that are told which container is meant, which an expression is not, and `delete --force`.
pub fn commands_for_one() -> impl Iterator<Item = &'static [&'static str]> {
    commands().filter(|command| !command.contains(&"--regex")).chain([&["delete", "--force", "ID"][..]])
}

fn ask(words: &[&str], id: &str) -> Output {
    Call::new(words.iter().map(|word| word.replace("ID", id))).run()
}

#[track_caller]
pub fn assert_refused(output: &Output, words: &[&str], what: &str) {
    let status = if output.call.starts_with("exec") { 255 } else { 1 };
    let is_one = output.stderr.lines().count() == 1 && output.stdout.is_empty() && !output.stderr.contains("panicked");
    let said = words.iter().all(|word| output.stderr.contains(word));
    assert!(output.status == status && is_one && said, "{what}: {words:?}: {output:?}");
}

/// Whatever the file was, nothing of the container is left.
fn remove(container: &Container, pid: u32) {
    let output = call(["delete", "--force", container.id()]).ok();
    assert!(output.stderr.lines().count() < 2, "{output:?}");
    call(["state", container.id()]).fails("does not exist");
    // Without a cgroup there is nothing by which it could be found.
    host::kill(pid);
    eventually("nothing is left", || host::cgroups(container.id()).is_empty());
    host::assert_nothing_left();
}

fn a_broken_state_is_one_error_of_every_command() {
    need_ocirt();
    for (what, damage, words) in DAMAGES.iter().chain(STATE_DAMAGES) {
        let container = running();
        let (pid, file) = (container.pid(), state_file(&container, "state.json"));
        damage(&file);
        for command in commands() {
            let output = ask(command, container.id());
            assert_refused(&output, &[command[0], container.id(), "state.json", words], what);
        }
        for command in ["create", "run"] {
            let words = [command, "--bundle", container.bundle.dir.to_str().expect("UTF-8"), container.id()];
            call(words).fails("already exists");
        }
        assert!(host::is_alive(pid), "{what}: it was killed");
        remove(&container, pid);
        let _ = fs::remove_file(host::place().join("good.json"));
    }
}

fn what_exec_reads_is_looked_at_as_well() {
    need_ocirt();
    for (what, damage, words) in DAMAGES {
        let container = running();
        let pid = container.pid();
        damage(&state_file(&container, "exec.json"));
        let output = ask(&["exec", "ID", "/probe", "print", "it ran"], container.id());
        assert_refused(&output, &["exec", container.id(), "exec.json", words], what);
        // The rest does not need it.
        assert_eq!(container.status(), "running", "{what}");
        container.kill("KILL").ok();
        container.wait_for("stopped");
        host::reap(pid);
        container.delete().ok();
        host::assert_nothing_left();
        let _ = fs::remove_file(host::place().join("good.json"));
    }
    let container = running();
    fs::remove_file(state_file(&container, "exec.json")).expect("file");
    let output = ask(&["exec", "ID", "/probe", "print", "it ran"], container.id());
    assert_refused(&output, &["exec.json", "missing"], "missing");
}

fn one_broken_container_does_not_hide_the_others() {
    need_ocirt();
    let (good, bad) = (running(), running());
    let (good_pid, pid) = (good.pid(), bad.pid());
    write(&state_file(&bad, "state.json"), "{");
    let output = call(["list", "--quiet"]).ok();
    assert_eq!(output.stdout, format!("{}\n", good.id()));
    assert!(output.stderr.contains("warning") && output.stderr.contains(bad.id()), "{}", output.stderr);
    let states = call(["list", "--format", "json"]).ok().json();
    assert_eq!((states.as_array().map(Vec::len), &states[0]["id"]), (Some(1), &json!(good.id())));
    good.kill("KILL").ok();
    good.wait_for("stopped");
    host::reap(good_pid);
    good.delete().ok();
    remove(&bad, pid);
}

/// Below a `--root` that others can write: a link to another place, a file, and a directory with hooks of their own.
fn a_state_directory_of_somebody_else_is_left_alone() {
    need_ocirt();
    let container = running();
    let id = container.id().to_owned();
    let root = host::place().join("shared");
    fs::create_dir(&root).expect("directory");
    let mark = host::place().join("mark");
    let copy = |directory: &Path| {
        fs::create_dir(directory).expect("directory");
        for name in ["state.json", "exec.json"] {
            fs::copy(state_file(&container, name), directory.join(name)).expect("copy");
        }
        let hook = json!([{ "path": "/usr/bin/touch", "args": ["touch", mark.to_str().expect("UTF-8")] }]);
        edit(&directory.join("state.json"), "poststop", hook);
    };
    let elsewhere = host::place().join("elsewhere");
    copy(&elsewhere);
    symlink(&elsewhere, root.join(&id)).expect("symlink");
    let every = |words: &[&str]| {
        for command in commands_for_one() {
            let command = command.iter().map(|word| word.replace("ID", &id));
            let output = Call::new(command).root(Some(root.clone())).run();
            assert_refused(&output, words, "a foreign directory");
        }
        assert!(!mark.exists(), "a hook ran");
        assert_eq!(container.status(), "running");
    };
    every(&["state directory", "not a directory"]);
    assert!(elsewhere.join("state.json").exists() && elsewhere.join("exec.json").exists());
    fs::remove_file(root.join(&id)).expect("symlink");
    fs::write(root.join(&id), "").expect("file");
    every(&["state directory", "not a directory"]);
    fs::remove_file(root.join(&id)).expect("file");
    copy(&root.join(&id));
    give(&root.join(&id), 1000);
    every(&["state directory", "belongs to user 1000"]);
    // The directory may be ours, and what is in it not.
    let owner = if user::has_suite() { user::USER } else { 0 };
    give(&root, owner);
    give(&root.join(&id), owner);
    give(&root.join(&id).join("state.json"), 1000);
    Call::new(["delete", "--force", &id]).root(Some(root.clone())).run().ok();
    assert!(!mark.exists() && !root.join(&id).exists(), "a hook ran, or something is left");
}

/// A configuration so large that no later command would read the state.
fn what_could_not_be_read_again_is_not_written() {
    need_ocirt();
    let huge = "x".repeat(17 << 20);
    Bundle::new().set("annotations", json!({ "note": huge })).refused("larger than 16 MiB");
}

/// What ocirt keeps beside CRIU's images, damaged; CRIU is not even asked.
fn a_hostile_image_directory_is_one_error_of_restore() {
    need_ocirt();
    criu::required();
    let forged = |at: &str, name: &str| {
        let origin = json!({ "mount": "/" });
        json!([{ "at": at, "directory": true, "external": { "name": name, "origin": origin } }]).to_string()
    };
    let bundle = Bundle::new().write(probe!(sleep 60));
    let images = criu::images();
    let good = || {
        let _ = fs::remove_dir_all(&images);
        let _ = fs::remove_file(host::place().join("good.json"));
        fs::create_dir_all(&images).expect("directory");
        write(&images.join("mounts.json"), "[]");
        write(&images.join("descriptors.json"), r#"["", "", ""]"#);
    };
    let refused = |what: &str, words: &[&str]| {
        let output = criu::restore(&bundle);
        assert_refused(&output, &[&["restore", &bundle.id, "--image-path"][..], words].concat(), what);
        call(["state", &bundle.id]).fails("does not exist");
        host::assert_nothing_left();
    };
    for name in ["mounts.json", "descriptors.json"] {
        // Images come from other machines: their owner says nothing. An empty list of mounts is one.
        for (what, damage, words) in DAMAGES.iter().filter(|(what, ..)| !["another user's", "a list"].contains(what)) {
            good();
            damage(&images.join(name));
            // What is no list is no list in other words.
            let words = if ["regular", "larger"].contains(words) { words } else { "line 1" };
            refused(what, &[name, words]);
        }
    }
    for (at, name) in [("/a/../b", "0"), ("a", "0"), ("/", "0"), ("/a", "x"), ("/a", ""), ("/a", "1]:/")] {
        good();
        write(&images.join("mounts.json"), &forged(at, name));
        refused(at, &["mounts.json"]);
    }
    for text in [r#"["a"]"#, r#"["a", "b", 7]"#, r#"["a", "b", "c", "d"]"#] {
        good();
        write(&images.join("descriptors.json"), text);
        refused(text, &["descriptors.json"]);
    }
}

/// The directory may be one that others can write.
fn a_checkpoint_follows_no_link() {
    need_ocirt();
    criu::required();
    let container = criu::counting(Bundle::new());
    let loot = host::place().join("loot");
    write(&loot, "loot");
    fs::create_dir_all(criu::images()).expect("directory");
    for name in ["mounts.json", "descriptors.json"] {
        symlink(&loot, criu::images().join(name)).expect("symlink");
    }
    let before = criu::save(&container, &[]);
    assert_eq!(fs::read_to_string(&loot).expect("file"), "loot");
    criu::restore(&container.bundle).ok();
    criu::assert_counts_on(&container.bundle, before);
}
