//! A `--root` in which another user of the host can rename and replace what is there: he can hide containers from the
//! runtime and exchange them, but what it reads is what it wrote, and nothing outside is touched. And a state that an
//! older ocirt wrote.

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::runtime::{Call, Output, call};
use ocirt_integration::{corner, host, probe, tests};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::inject::traced;
use super::state_files::{assert_refused, commands_for_one};

tests![
    links_in_place_of_the_state_lead_nowhere,
    a_container_that_was_exchanged_for_another_is_refused,
    a_root_behind_the_link_of_another_user_is_refused,
    a_root_behind_links_of_ones_own_works,
    a_state_directory_that_others_may_write_is_refused,
    a_directory_that_took_the_name_meanwhile_is_left_alone,
    a_state_of_the_first_release_still_works,
];

/// Nobody's, whose root it is.
const THEIRS: u32 = 65534;

/// Every name in a state directory, and those that older releases wrote.
const NAMES: [&str; 5] = ["state.json", "state.json.new", "state.json.tmp", "exec.json", "gate"];

fn theirs(name: &str) -> PathBuf {
    let path = host::place().join(name);
    fs::create_dir(&path).expect("directory");
    chown(&path, Some(THEIRS), Some(THEIRS)).expect("chown");
    path
}

fn in_root(root: &Path, command: &[&str], id: &str) -> Output {
    Call::new(command.iter().map(|word| word.replace("ID", id))).root(Some(root.to_owned())).run()
}

/// A running container in another root.
fn running(root: &Path) -> Bundle {
    let bundle = Bundle::new().flags(&["--detach"]).write(probe!(sleep 600));
    bundle.call("run").root(Some(root.to_owned())).run().ok();
    bundle
}

/// He waits for the directory of the new container, and puts one in its place whose files are links.
fn links_in_place_of_the_state_lead_nowhere() {
    need_ocirt();
    need_root();
    let root = theirs("theirs");
    let loot = host::place().join("loot");
    fs::write(&loot, "loot").expect("loot");
    let id = host::new_id();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                let [trap, away] = ["trap", "away"].map(|name| root.join(format!("{name}{number}")));
                fs::create_dir(&trap).expect("trap");
                NAMES.iter().for_each(|name| symlink(&loot, trap.join(name)).expect("link"));
                // Every other one is the runtime's own by its looks.
                if number % 2 == 0 {
                    chown(&trap, Some(THEIRS), Some(THEIRS)).expect("chown");
                }
                while fs::rename(root.join(&id), &away).is_err() {
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                }
                let _ = fs::rename(&trap, root.join(&id));
                std::thread::sleep(Duration::from_millis(30));
                let _ = fs::rename(root.join(&id), root.join(format!("used{number}")));
            }
        });
        for _ in 0..15 {
            let mut bundle = Bundle::new().flags(&["--detach"]).write(probe!(sleep 1));
            bundle.id.clone_from(&id);
            let output = bundle.call("run").root(Some(root.clone())).run();
            assert!(output.status <= 1 && !output.stderr.contains("panicked"), "{output:?}");
            for command in [&["state", "ID"][..], &["start", "ID"], &["delete", "--force", "ID"]] {
                in_root(&root, command, &id);
            }
            assert_eq!(fs::read_to_string(&loot).expect("loot"), "loot");
            for pid in host::descendants(std::process::id()) {
                host::kill(pid);
            }
            host::reap_zombies();
        }
        ended.store(true, Ordering::Relaxed);
    });
    assert!(loot.metadata().expect("loot").is_file());
    corner::sweep();
}

fn a_container_that_was_exchanged_for_another_is_refused() {
    need_ocirt();
    need_root();
    let root = theirs("theirs");
    let [one, other] = [running(&root), running(&root)];
    let exchange = || {
        fs::rename(root.join(&one.id), root.join("third")).expect("rename");
        fs::rename(root.join(&other.id), root.join(&one.id)).expect("rename");
        fs::rename(root.join("third"), root.join(&other.id)).expect("rename");
    };
    let pids = [&one, &other].map(|it| in_root(&root, &["state", "ID"], &it.id).ok().json()["pid"].clone());
    exchange();
    for command in commands_for_one() {
        let output = in_root(&root, command, &one.id);
        assert_refused(&output, &[&format!("it is the state of container \"{}\"", other.id)], "exchanged");
    }
    exchange();
    for (bundle, pid) in [&one, &other].into_iter().zip(pids) {
        let state = in_root(&root, &["state", "ID"], &bundle.id).ok().json();
        assert_eq!((&state["status"], &state["pid"]), (&json!("running"), &pid));
        in_root(&root, &["delete", "--force", "ID"], &bundle.id).ok();
    }
    host::reap_zombies();
    host::assert_nothing_left();
}

/// He makes his root a link to the host's own: a container of the same id there is not his to name.
fn a_root_behind_the_link_of_another_user_is_refused() {
    need_ocirt();
    need_root();
    let container = Bundle::new().start(probe!(sleep 600));
    let link = host::place().join("link");
    symlink(host::root(), &link).expect("link");
    lchown(&link, Some(THEIRS), Some(THEIRS)).expect("chown");
    for command in commands_for_one().chain([&["list"][..]]) {
        let output = in_root(&link, command, container.id());
        assert_refused(&output, &["symlink link: belongs to user 65534, not to user 0"], "behind a link");
    }
    // Nothing is made behind it, either.
    let bundle = Bundle::new().write(probe!(sleep 1));
    bundle.call("create").root(Some(link.join("below"))).run().fails("symlink link: belongs to user 65534");
    assert!(!host::root().join("below").exists());
    assert_eq!(container.status(), "running");
}

/// /var/run is one.
fn a_root_behind_links_of_ones_own_works() {
    need_ocirt();
    need_root();
    let place = host::place();
    fs::create_dir_all(place.join("real/deep")).expect("directory");
    symlink("real/../real", place.join("one")).expect("link");
    symlink(place.join("one/deep"), place.join("two")).expect("link");
    let bundle = running(&place.join("two/made"));
    for root in ["two/made", "one/deep/made", "real/deep/made"] {
        let state = in_root(&place.join(root), &["state", "ID"], &bundle.id).ok().json();
        assert_eq!(state["status"], "running", "{root}");
    }
    in_root(&place.join("one/deep/made"), &["delete", "--force", "ID"], &bundle.id).ok();
    assert_eq!(fs::read_dir(place.join("real/deep/made")).expect("root").count(), 0);
    host::reap_zombies();
    host::assert_nothing_left();
}

fn a_state_directory_that_others_may_write_is_refused() {
    need_ocirt();
    need_root();
    let container = Bundle::new().start(probe!(sleep 600));
    let directory = host::root().join(container.id());
    for mode in [0o777, 0o720, 0o1702] {
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).expect("mode");
        for command in commands_for_one() {
            let output = in_root(&host::root(), command, container.id());
            assert_refused(&output, &[&format!("others may write it (mode {mode:o})")], "open to others");
        }
    }
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("mode");
    assert_eq!(container.status(), "running");
}

/// While `delete` is held at its last step.
fn a_directory_that_took_the_name_meanwhile_is_left_alone() {
    need_ocirt();
    need_root();
    need(Need::Strace, std::process::Command::new("strace").arg("-V").output().is_ok());
    let root = theirs("theirs");
    let bundle = running(&root);
    // The removal of exec.json: the gate comes first.
    let (program, _) = traced("-e inject=unlinkat:delay_enter=1000000:when=2");
    let delete = Call::new(["delete", "--force", &bundle.id]).root(Some(root.clone()));
    let mut delete = delete.traced(&program).spawn();
    std::thread::sleep(Duration::from_millis(600));
    fs::rename(root.join(&bundle.id), root.join("away")).expect("rename");
    fs::create_dir(root.join(&bundle.id)).expect("directory");
    delete.finish().ok();
    assert!(root.join(&bundle.id).is_dir(), "another directory was removed");
    assert_eq!(fs::read_dir(root.join("away")).expect("directory").count(), 0, "something of it is left");
    host::reap_zombies();
    host::assert_nothing_left();
}

/// A container that was made before an upgrade of ocirt: what the files said then is all that is there.
fn a_state_of_the_first_release_still_works() {
    need_ocirt();
    // It is that of a container without a user namespace.
    need_root();
    let files: Value = serde_json::from_str(include_str!("states/saved-0.1.0.json")).expect("JSON");
    for command in ["start", "delete"] {
        let container: Container = Bundle::new().namespace("cgroup", None).create(probe!(sleep 600));
        let directory = host::root().join(container.id());
        let now: Value = serde_json::from_slice(&fs::read(directory.join("state.json")).expect("state")).expect("JSON");
        let mut state = files["state.json"].clone();
        for member in ["id", "creator", "init", "bundle", "rootfs", "cgroup"] {
            // The same members as then, with today's values.
            assert!(state[member].is_object() == now[member].is_object() && !now[member].is_null(), "{member}");
            state[member] = now[member].clone();
        }
        fs::write(directory.join("state.json"), state.to_string()).expect("state");
        fs::write(directory.join("exec.json"), files["exec.json"].to_string()).expect("exec");
        assert_eq!(container.status(), "created");
        if command == "delete" {
            container.delete().ok();
            continue;
        }
        container.start().ok();
        call(["exec", container.id(), "/probe", "print", "it ran"]).ok();
        call(["pause", container.id()]).ok();
        assert_eq!(container.status(), "paused");
        call(["resume", container.id()]).ok();
        call(["update", "--pids-limit", "60", container.id()]).ok();
        assert_eq!(call(["ps", "--format", "json", container.id()]).ok().json(), json!([container.pid()]));
        let pid = container.pid();
        container.kill("KILL").ok();
        host::reap(pid);
        container.delete().ok();
    }
    host::assert_nothing_left();
}
