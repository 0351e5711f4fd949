//! Every command in every status that a container can have: one table of what happens then.

mod table;

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::criu;
use ocirt_integration::needs::need_ocirt;
use ocirt_integration::runtime::{Call, Output, Running, call, kind};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests, user};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;
use table::{Cell, Row, STATUSES, TABLE};

tests![
    every_command_is_a_row,
    no_command_knows_an_absent_container,
    a_container_that_is_being_created_is_left_alone,
    what_a_created_container_may_be_told,
    what_a_running_container_may_be_told,
    what_a_paused_container_may_be_told,
    what_a_stopped_container_may_be_told,
];

use Cell::{Follows, No, Same, Skip, To};

/// What the parser has and the table has are the same, so that no command is forgotten.
fn every_command_is_a_row() {
    need_ocirt();
    let help = call(["--help"]).ok().stdout;
    let (_, list) = help.split_once("Commands:\n").expect("a list of commands");
    let commands =
        list.lines().take_while(|line| !line.trim().is_empty()).filter_map(|line| line.split_whitespace().next());
    let commands: BTreeSet<_> = commands.collect();
    let rows: BTreeSet<_> = TABLE.iter().map(|row| command(row)).collect();
    assert!(commands.len() > 15, "{help}");
    assert_eq!(commands, rows);
}

fn command(row: &Row) -> &'static str {
    row.0.split(' ').next().unwrap_or_default()
}

/// A container in one of the statuses, made anew for each row.
struct Subject {
    id: String,
    /// The `create` that waits for a file, and that file.
    creating: Option<(Running, PathBuf)>,
    container: Option<Container>,
}

impl Subject {
    fn new(status: &str) -> Self {
        let bundle = Bundle::new();
        let mut subject = Subject { id: bundle.id.clone(), creating: None, container: None };
        match status {
            "absent" => {}
            "creating" => subject.creating = Some(creating(bundle)),
            _ => subject.container = Some(in_status(bundle, status)),
        }
        subject
    }

    /// Lets a `create` that waits go on, and proves that it was not disturbed; or was, if the container is gone.
    fn release(mut self, is_gone: bool) {
        if let Some((mut create, gate)) = self.creating.take() {
            std::fs::write(gate, "").expect("gate");
            let output = create.finish();
            assert_eq!((output.status == 0, status(&self.id) == "created"), (!is_gone, !is_gone), "{output:?}");
        }
        call(["delete", "--force", &self.id]).ok();
        host::assert_nothing_left();
    }
}

/// A `create` whose createRuntime hook waits for a file, and that file.
fn creating(bundle: Bundle) -> (Running, PathBuf) {
    let (mark, gate) = (bundle.dir.join("mark"), bundle.dir.join("gate"));
    let script = format!("touch {}; while ! test -e {}; do sleep 0.02; done", mark.display(), gate.display());
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] });
    let bundle = bundle.hook("createRuntime", hook).write(probe!(sleep 60));
    let running = bundle.call("create").spawn();
    eventually("the hook runs", || mark.exists());
    (running, gate)
}

fn in_status(bundle: Bundle, status: &str) -> Container {
    let container = bundle.create(probe!(print "here"; sleep 60));
    if status == "created" {
        return container;
    }
    container.start().ok();
    container.answers(1);
    match status {
        "paused" => drop(call(["pause", container.id()]).ok()),
        "stopped" => {
            container.kill("KILL").ok();
            container.wait_for("stopped");
        }
        _ => {}
    }
    assert_eq!(container.status(), status);
    container
}

/// The status, or `absent`.
fn status(id: &str) -> String {
    let output = call(["state", id]);
    match output.status {
        0 => output.json()["status"].as_str().unwrap_or_default().to_owned(),
        _ => "absent".to_owned(),
    }
}

/// What a refused command may not change: the state, the files it is saved in, the cgroups and their limits.
fn facts(id: &str) -> Vec<String> {
    let mut facts = vec![call(["state", id]).stdout];
    let directory = host::root().join(id);
    let names = std::fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| entry.path());
    // To read runc's exec.fifo would be to start the container.
    let files = names.filter(|path| path.symlink_metadata().is_ok_and(|meta| meta.is_file()));
    facts.extend(files.map(|path| format!("{} {:?}", path.display(), std::fs::read_to_string(&path).ok())));
    for group in host::cgroups(id) {
        for file in ["pids.max", "freezer.state", "cgroup.freeze", "cgroup.procs", "devices.list"] {
            let text = std::fs::read_to_string(group.join(file)).unwrap_or_default();
            facts.push(format!("{} {file} {text:?}", group.display()));
        }
    }
    facts.sort();
    facts
}

fn ask(row: &Row, subject: &Subject) -> Call {
    let (bundle, images) = (host::place().join("other"), host::place().join(format!("images-{}", subject.id)));
    let path = |path: PathBuf| path.display().to_string();
    let (bundle, images) = (path(bundle), path(images));
    let fill = |word: &str| word.replace("BUNDLE", &bundle).replace("IMAGES", &images).replace("ID", &subject.id);
    criu::with_criu(Call::new(row.0.split(' ').map(fill)))
}

/// The bundle of the rows that name one, so that only the id can be wrong.
fn other_bundle() {
    let other = Bundle::new().write(probe!(print "it ran"));
    let mounts = json!([{ "destination": "/new", "type": "tmpfs", "source": "tmpfs" }]);
    std::fs::write(other.dir.join("mounts.json"), mounts.to_string()).expect("mounts.json");
    let images = other.host_dir("images");
    std::fs::write(images.join("mounts.json"), "[]").expect("mounts.json");
    std::fs::write(images.join("descriptors.json"), r#"["", "", ""]"#).expect("descriptors.json");
    std::fs::rename(&other.dir, host::place().join("other")).expect("bundle");
}

/// Goes down the column of `status`; all that is wrong in it is one failure.
fn column(name: &str) {
    other_bundle();
    let index = STATUSES.iter().position(|status| *status == name).expect("a status");
    let mut wrong = Vec::new();
    for row in TABLE {
        let expected = here(row, name, row.1[index]);
        if matches!(expected, Skip) || lacks(&kind(), row) {
            continue;
        }
        let subject = Subject::new(name);
        wrong.extend(cell(row, expected, &subject).err().map(|error| format!("{} {name}: {error}", row.0)));
        subject.release(matches!(expected, To("absent")));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Commands and flags that the runtimes of distributions do not have yet, or never will.
fn lacks(kind: &str, row: &Row) -> bool {
    // CRIU cannot save standard output to a file of the host without help, which only ocirt gives.
    let only_ocirt =
        ["mounts", "info", "plan", "features", "spec", "checkpoint", "restore", "gc", "wait", "inspect", "verify"];
    kind != "ocirt" && only_ocirt.contains(&command(row))
        // Its halves of a frozen exec are nobody's to reap.
        || kind == "runc" && ["--regex", "--ignore-paused"].iter().any(|flag| row.0.contains(flag))
        || kind == "crun" && command(row) == "events"
}

/// What a machine without CRIU, or an ordinary user, gets instead of a checkpoint; and the user of a container that he
/// cannot look into yet.
fn here(row: &Row, status: &str, cell: Cell) -> Cell {
    if user::has_suite() && command(row) == "verify" && matches!(cell, Same | To(_)) {
        // What a user may not see is unknown (verify_rootless).
        return Skip;
    }
    let enters = row.0.starts_with("mounts") || command(row) == "exec" && matches!(cell, To(_) | Same);
    if user::has_suite() && status == "created" && enters {
        return No("only root can enter a container that is not started");
    }
    let is_saved = command(row) == "checkpoint" && matches!(cell, To(_) | Same) || command(row) == "restore";
    match is_saved {
        _ if user::has_suite() && ["checkpoint", "restore"].contains(&command(row)) => No("needs root"),
        true if criu::directory().is_none() => No("criu: executable file not found in $PATH"),
        _ => cell,
    }
}

/// One cell: what is asked, and what is then.
fn cell(row: &Row, expected: Cell, subject: &Subject) -> Result<(), String> {
    let (before, old) = (facts(&subject.id), status(&subject.id));
    let mut running = ask(row, subject).spawn();
    if matches!(expected, Follows) {
        std::thread::sleep(Duration::from_millis(200));
        let is_at_work = running.child.try_wait().expect("wait").is_none();
        host::kill(running.child.id());
        let output = running.finish();
        let now = status(&subject.id);
        end_execs(&subject.id);
        return if is_at_work && now == old { Ok(()) } else { Err(format!("is {now} and not {old}: {output:?}")) };
    }
    let output = running.finish();
    let said = format!("status {} {:?} {:?}", output.status, output.stdout, output.stderr);
    match expected {
        To(_) | Same if output.status != 0 => Err(format!("refused: {said}")),
        To(next) => {
            for _ in 0..200 {
                if status(&subject.id) == next {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(format!("is {} and not {next}", status(&subject.id)))
        }
        No(words) if !is_refusal(row, &output, words) => Err(format!("wants {words:?}: {said}")),
        _ => {
            let after = facts(&subject.id);
            if before == after { Ok(()) } else { Err(format!("changed\n{before:#?}\n{after:#?}")) }
        }
    }
}

/// Lets the processes of an exec that waits frozen go on to their end, and reaps them, as its runtime would have: the
/// container's pid namespace does not end before.
fn end_execs(id: &str) {
    call(["resume", id]);
    host::reap_all_but_init();
}

/// One line with `words`; of ours it begins with the command, and nothing else was printed.
fn is_refusal(row: &Row, output: &Output, words: &str) -> bool {
    // The exit status of a failure of their own, to tell it from the process's.
    let failure = if ["exec", "wait"].contains(&command(row)) { 255 } else { 1 };
    let is_ours = output.stdout.is_empty() && output.stderr.starts_with(&format!("ocirt: {} ", command(row)));
    output.status == failure
        && output.stderr.contains(words)
        && output.stderr.trim_end().lines().count() == 1
        && !output.stdout.contains("it ran")
        && (is_ours || kind() != "ocirt")
}

fn no_command_knows_an_absent_container() {
    column("absent");
}

fn a_container_that_is_being_created_is_left_alone() {
    column("creating");
}

fn what_a_created_container_may_be_told() {
    column("created");
}

fn what_a_running_container_may_be_told() {
    column("running");
}

fn what_a_paused_container_may_be_told() {
    column("paused");
}

fn what_a_stopped_container_may_be_told() {
    column("stopped");
}
