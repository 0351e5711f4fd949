//! The table itself: a row for each command, and for each flag that makes another command of it.

use Cell::{Follows, No, Same, Skip, To};

/// What a command does in a status.
#[derive(Clone, Copy, Debug)]
pub enum Cell {
    /// Fails with exit status 1 and a message with these words, and changes nothing.
    No(&'static str),
    /// Succeeds, and the status is this one soon after; `absent` where nothing is left of the container.
    To(&'static str),
    /// Succeeds, and changes nothing.
    Same,
    /// Goes on until it is ended, and the status stays.
    Follows,
    /// Not asked: it has nothing to do with containers.
    Skip,
}

/// The columns of the table, in this order.
pub const STATUSES: [&str; 6] = ["absent", "creating", "created", "running", "paused", "stopped"];

/// A command line, and a cell for each of [`STATUSES`]. `ID` is the container, `BUNDLE` a bundle beside it that has all
/// other files, `IMAGES` a directory for a checkpoint.
pub type Row = (&'static str, [Cell; 6]);

const ABSENT: Cell = No("container does not exist");
const EXISTS: Cell = No("already exists");
const NOT_RUNNING: Cell = No("container not running");
const NOT_PAUSED: Cell = No("container not paused");
const NOT_ENDED: Cell = No("the container has not ended");
const STARTED: Cell = No("cannot start an already running container");

/// A new container under an id that is taken.
const fn new(absent: Cell) -> [Cell; 6] {
    [absent, EXISTS, EXISTS, EXISTS, EXISTS, EXISTS]
}

/// What is asked for by everybody, and changes nothing.
const ALWAYS: [Cell; 6] = [Same; 6];

pub const TABLE: &[Row] = &[
    ("create --bundle BUNDLE ID", new(To("created"))),
    ("run --bundle BUNDLE ID", new(To("absent"))),
    ("run --detach --bundle BUNDLE ID", new(To("stopped"))),
    (
        "start ID",
        [
            ABSENT,
            No("cannot start a container in the creating state"),
            To("running"),
            STARTED,
            No("cannot start a container in the paused state"),
            No("cannot start a container that has stopped"),
        ],
    ),
    ("inspect ID", [ABSENT, Same, Same, Same, Same, Same]),
    ("state ID", [ABSENT, Same, Same, Same, Same, Same]),
    (
        "exec ID /probe print x",
        [
            ABSENT,
            No("cannot exec in a container in the creating state"),
            To("created"),
            To("running"),
            No("cannot exec in a paused container (use --ignore-paused to override)"),
            No("cannot exec in a stopped container"),
        ],
    ),
    (
        "exec --ignore-paused ID /probe print x",
        [
            ABSENT,
            No("cannot exec in a container in the creating state"),
            To("created"),
            To("running"),
            // It is frozen with the rest of the container, and so is never ready.
            Follows,
            No("cannot exec in a stopped container"),
        ],
    ),
    ("kill ID 0", [ABSENT, NOT_RUNNING, Same, Same, Same, NOT_RUNNING]),
    ("kill ID KILL", [ABSENT, NOT_RUNNING, To("stopped"), To("stopped"), To("stopped"), NOT_RUNNING]),
    ("kill --all ID KILL", [ABSENT, NOT_RUNNING, To("stopped"), To("stopped"), To("stopped"), Same]),
    // None that matches is no error.
    ("kill --regex ^ID$ KILL", [Same, NOT_RUNNING, To("stopped"), To("stopped"), To("stopped"), NOT_RUNNING]),
    // The exit status of what has ended is its own: wait.rs.
    ("wait --timeout 0s ID", [ABSENT, NOT_ENDED, NOT_ENDED, NOT_ENDED, NOT_ENDED, Skip]),
    ("verify ID", [ABSENT, NOT_RUNNING, Same, Same, Same, NOT_RUNNING]),
    ("pause ID", [ABSENT, NOT_RUNNING, To("paused"), To("paused"), NOT_RUNNING, NOT_RUNNING]),
    ("resume ID", [ABSENT, NOT_PAUSED, NOT_PAUSED, NOT_PAUSED, To("running"), NOT_PAUSED]),
    ("update --pids-limit 77 ID", [ABSENT, NOT_RUNNING, To("created"), To("running"), To("paused"), NOT_RUNNING]),
    ("events --stats ID", [ABSENT, No("not running"), Same, Same, Same, No("not running")]),
    ("events ID", [ABSENT, No("not running"), Follows, Follows, Follows, No("not running")]),
    (
        "delete ID",
        [
            ABSENT,
            No("not stopped: creating"),
            To("absent"),
            No("not stopped: running"),
            No("not stopped: paused"),
            To("absent"),
        ],
    ),
    (
        "delete --regex ^ID$",
        [
            Same,
            No("not stopped: creating"),
            To("absent"),
            No("not stopped: running"),
            No("not stopped: paused"),
            To("absent"),
        ],
    ),
    ("delete --force ID", [Same, To("absent"), To("absent"), To("absent"), To("absent"), To("absent")]),
    ("delete --force --regex ^ID$", [Same, To("absent"), To("absent"), To("absent"), To("absent"), To("absent")]),
    ("gc --grace 0s", [Same, Same, Same, Same, Same, To("absent")]),
    ("list", ALWAYS),
    ("list --quiet", ALWAYS),
    (
        "mounts add ID BUNDLE/mounts.json",
        [ABSENT, NOT_RUNNING, To("created"), To("running"), To("paused"), NOT_RUNNING],
    ),
    ("mounts remove ID BUNDLE/mounts.json", [ABSENT, NOT_RUNNING, No("/new"), No("/new"), No("/new"), NOT_RUNNING]),
    ("ps ID", [ABSENT, Same, Same, Same, Same, Same]),
    (
        "checkpoint --image-path IMAGES ID",
        [
            ABSENT,
            No("Container cannot be checkpointed in creating state"),
            No("Container cannot be checkpointed in created state"),
            To("absent"),
            To("absent"),
            No("Container cannot be checkpointed in stopped state"),
        ],
    ),
    (
        "checkpoint --leave-running --image-path IMAGES ID",
        [
            ABSENT,
            No("Container cannot be checkpointed in creating state"),
            No("Container cannot be checkpointed in created state"),
            Same,
            Same,
            No("Container cannot be checkpointed in stopped state"),
        ],
    ),
    // From a directory that has nothing of CRIU's: checkpoint.rs restores what was saved.
    ("restore --detach --image-path BUNDLE/images --bundle BUNDLE ID", new(No("inventory.img"))),
    ("spec --bundle BUNDLE --file ID.json", ALWAYS),
    ("features", ALWAYS),
    ("info", ALWAYS),
    ("check --bundle BUNDLE --as docker", [Skip; 6]),
    // It reads a file, and knows no containers.
    ("trace FILE", [Skip; 6]),
    ("plan --bundle BUNDLE --id ID", ALWAYS),
    ("help", [Skip; 6]),
];
