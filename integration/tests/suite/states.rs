//! Every command that takes an id, in every status a container can have: one table of what happens then.

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::runtime::{Call, Output, Running, call, eventually, kind};
use ocirt_integration::{host, probe, tests};
use serde_json::json;
use std::path::PathBuf;

tests![
    no_command_knows_an_absent_container,
    a_container_that_is_being_created_is_left_alone,
    what_a_created_container_may_be_told,
    what_a_running_container_may_be_told,
    what_a_paused_container_may_be_told,
    what_a_stopped_container_may_be_told,
];

/// The columns of the table, in this order.
const STATUSES: [&str; 6] = ["absent", "creating", "created", "running", "paused", "stopped"];

/// What a command does in a status.
#[derive(Clone, Copy, Debug)]
enum Cell {
    /// Fails with exit status 1 and a message with these words, and changes nothing.
    No(&'static str),
    /// Succeeds, and the status is this one soon after; `absent` where nothing is left of the container.
    To(&'static str),
    /// Not asked: another test is about it.
    Skip,
}

use Cell::{No, Skip, To};

/// A command without the id, what follows the id, and a cell for each of [`STATUSES`].
type Row = (&'static [&'static str], &'static [&'static str], [Cell; 6]);

const ABSENT: Cell = No("container does not exist");

/// The rows.
fn table() -> Vec<Row> {
    vec![
        (&["state"], &[], [ABSENT, To("creating"), To("created"), To("running"), To("paused"), To("stopped")]),
        (&["start"], &[], [ABSENT, No("creating"), To("running"), No("running"), No("paused"), No("stopped")]),
        (
            &["kill"],
            &["0"],
            [ABSENT, No("not running"), To("created"), To("running"), To("paused"), No("container not running")],
        ),
        (
            &["kill"],
            &["KILL"],
            [ABSENT, No("not running"), To("stopped"), To("stopped"), To("stopped"), No("container not running")],
        ),
        (
            &["kill", "--all"],
            &["KILL"],
            [ABSENT, No("not running"), To("stopped"), To("stopped"), To("stopped"), To("stopped")],
        ),
        (&["delete"], &[], [ABSENT, No("creating"), To("absent"), No("not stopped"), No("not stopped"), To("absent")]),
        (&["delete", "--force"], &[], [To("absent"), Skip, To("absent"), To("absent"), To("absent"), To("absent")]),
        (
            &["pause"],
            &[],
            [ABSENT, No("not running"), To("paused"), To("paused"), No("not running"), No("not running")],
        ),
        (
            &["resume"],
            &[],
            [ABSENT, No("not paused"), No("not paused"), No("not paused"), To("running"), No("not paused")],
        ),
        (
            &["update", "--pids-limit", "77"],
            &[],
            [ABSENT, No("not running"), To("created"), To("running"), To("paused"), No("not running")],
        ),
        (
            &["events", "--stats"],
            &[],
            [ABSENT, No("not running"), To("created"), To("running"), To("paused"), No("not running")],
        ),
        (&["ps"], &[], [ABSENT, To("creating"), To("created"), To("running"), To("paused"), To("stopped")]),
        (
            &["exec"],
            &["/probe", "print", "x"],
            [ABSENT, No("creating"), To("created"), To("running"), No("paused"), No("stopped")],
        ),
        (
            &["mounts", "add"],
            &["FILE"],
            [ABSENT, No("not running"), To("created"), To("running"), To("paused"), No("not running")],
        ),
        (
            &["mounts", "remove"],
            &["FILE"],
            [ABSENT, No("not running"), No("/new"), No("/new"), No("/new"), No("not running")],
        ),
        (
            &["create", "--bundle", "BUNDLE"],
            &[],
            [
                Skip,
                No("already exists"),
                No("already exists"),
                No("already exists"),
                No("already exists"),
                No("already exists"),
            ],
        ),
        (
            &["run", "--bundle", "BUNDLE"],
            &[],
            [
                Skip,
                No("already exists"),
                No("already exists"),
                No("already exists"),
                No("already exists"),
                No("already exists"),
            ],
        ),
    ]
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

    /// Lets a `create` that waits go on, and proves that it was not disturbed.
    fn release(mut self) {
        if let Some((mut create, gate)) = self.creating.take() {
            std::fs::write(gate, "").expect("gate");
            create.finish().ok();
            assert_eq!(status(&self.id), "created");
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

fn ask(row: &Row, subject: &Subject) -> Output {
    let bundle = host::place().join("other");
    let file = bundle.join("mounts.json").display().to_string();
    let words = row.0.iter().copied().chain([subject.id.as_str()]).chain(row.1.iter().copied());
    let fill = |word: &str| word.replace("BUNDLE", &bundle.display().to_string()).replace("FILE", &file);
    Call::new(words.map(fill)).run()
}

/// The bundle of the rows that name one, so that only the id can be wrong.
fn other_bundle() {
    let other = Bundle::new().write(probe!(print "it ran"));
    let mounts = json!([{ "destination": "/new", "type": "tmpfs", "source": "tmpfs" }]);
    std::fs::write(other.dir.join("mounts.json"), mounts.to_string()).expect("mounts.json");
    std::fs::rename(&other.dir, host::place().join("other")).expect("bundle");
}

/// Goes down the column of `status`; all that is wrong in it is one failure.
fn column(name: &str) {
    other_bundle();
    let index = STATUSES.iter().position(|status| *status == name).expect("a status");
    let mut wrong = Vec::new();
    for row in table() {
        if matches!(row.2[index], Skip) || lacks(&kind(), row.0[0]) {
            continue;
        }
        let subject = Subject::new(name);
        wrong.extend(
            cell(&row, row.2[index], &subject).err().map(|error| format!("{} {}: {error}", row.0.join(" "), name)),
        );
        subject.release();
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Commands that the runtimes of distributions do not have yet, or never will.
fn lacks(kind: &str, command: &str) -> bool {
    command == "mounts" && kind != "ocirt" || command == "events" && kind == "crun"
}

/// One cell: what is asked, and what is then.
fn cell(row: &Row, expected: Cell, subject: &Subject) -> Result<(), String> {
    let before = facts(&subject.id);
    let output = ask(row, subject);
    let said = format!("status {} {:?} {:?}", output.status, output.stdout, output.stderr);
    match expected {
        Skip => Ok(()),
        To(next) => {
            if output.status != 0 {
                return Err(format!("refused: {said}"));
            }
            for _ in 0..200 {
                if status(&subject.id) == next {
                    return Ok(());
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            Err(format!("is {} and not {next}", status(&subject.id)))
        }
        No(words) => {
            let lines = output.stderr.trim_end().lines().count();
            // The exit status of exec's own failures, to tell them from those of its process.
            let failure = if row.0[0] == "exec" { 255 } else { 1 };
            if output.status != failure
                || !output.stderr.contains(words)
                || lines != 1
                || output.stdout.contains("it ran")
            {
                return Err(format!("wants {words:?}: {said}"));
            }
            let after = facts(&subject.id);
            if before == after { Ok(()) } else { Err(format!("changed\n{before:#?}\n{after:#?}")) }
        }
    }
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
