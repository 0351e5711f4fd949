//! The commands, as clap is told of them.

use anyhow::Result;
use clap::{Parser, Subcommand};

use super::global::Global;
use super::{
    check, checkpoint, create, delete, events, exec, features, gc, info, inspect, kill, list, mounts, pause, plan, ps,
    restore, resume, run, spec, start, state, trace, update, verify, wait,
};
use crate::lifecycle::Host;

/// The usage of the program as a whole.
pub const ALL_COMMANDS: &str = "ocirt [GLOBAL OPTIONS] COMMAND [OPTIONS] [ARGUMENTS]";

#[derive(Parser)]
#[command(
    name = "ocirt",
    disable_version_flag = true,
    args_override_self = true,
    subcommand_required = false,
    about = "A command line client for running containers as the Open Container Initiative specifies them",
    long_about = DESCRIPTION,
    override_usage = ALL_COMMANDS
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,

    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What `--help` says before the commands.
const DESCRIPTION: &str = "\
A command line client for running containers as the Open Container Initiative specifies them.

ocirt takes a bundle, which is a directory that holds a config.json and a root filesystem, and makes a container of
it. It is a drop-in replacement for runc: container engines such as Docker, containerd, Podman and CRI-O call it the
same way.

To try it by hand, as root, with a static busybox (Debian's package busybox-static):

    mkdir -p bundle/rootfs/bin && cd bundle
    cp /bin/busybox rootfs/bin/sh
    ocirt spec                  # writes config.json
    ocirt run web1              # a shell: creates, starts, waits and deletes

or in steps, as engines do, with \"terminal\": false in config.json: `ocirt create web1`, `ocirt start web1`,
`ocirt state web1`, `ocirt kill web1 KILL`, `ocirt delete web1`.

An error is one line on stderr, and one line in the file that --log names. The exit status is 0, or 1 after an error,
or 3 for an unknown command; `run` and `wait` exit as the container does.";

#[derive(Subcommand)]
#[command(defer = true)] // a third of the work of `ocirt state`: only the command that is called gets its flags
pub enum Command {
    Create(create::Create),
    Run(run::Run),
    Start(start::Start),
    State(state::State),
    Exec(exec::Exec),
    Kill(kill::Kill),
    Wait(wait::Wait),
    Pause(pause::Pause),
    Resume(resume::Resume),
    Update(Box<update::Update>),
    Events(events::Events),
    Delete(delete::Delete),
    Gc(gc::Gc),
    List(list::List),
    Inspect(inspect::Inspect),
    Mounts(mounts::Mounts),
    Verify(verify::Verify),
    Ps(ps::Ps),
    Check(check::Check),
    Checkpoint(checkpoint::Checkpoint),
    Restore(restore::Restore),
    Spec(spec::Spec),
    Features(features::Features),
    Info(info::Info),
    Plan(plan::Plan),
    Trace(trace::Trace),
}

impl Command {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Run(_) => "run",
            Self::Start(_) => "start",
            Self::State(_) => "state",
            Self::Exec(_) => "exec",
            Self::Kill(_) => "kill",
            Self::Wait(_) => "wait",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Update(_) => "update",
            Self::Events(_) => "events",
            Self::Delete(_) => "delete",
            Self::Gc(_) => "gc",
            Self::List(_) => "list",
            Self::Inspect(_) => "inspect",
            Self::Mounts(_) => "mounts",
            Self::Verify(_) => "verify",
            Self::Ps(_) => "ps",
            Self::Check(_) => "check",
            Self::Checkpoint(_) => "checkpoint",
            Self::Restore(_) => "restore",
            Self::Spec(_) => "spec",
            Self::Features(_) => "features",
            Self::Info(_) => "info",
            Self::Plan(_) => "plan",
            Self::Trace(_) => "trace",
        }
    }

    /// The container that it is about.
    pub fn container(&self) -> Option<&str> {
        match self {
            Self::Create(create::Create { id, .. })
            | Self::Run(run::Run { id, .. })
            | Self::Start(start::Start { id, .. })
            | Self::State(state::State { id, .. })
            | Self::Exec(exec::Exec { id, .. })
            | Self::Kill(kill::Kill { id, .. })
            | Self::Wait(wait::Wait { id, .. })
            | Self::Pause(pause::Pause { id, .. })
            | Self::Resume(resume::Resume { id, .. })
            | Self::Events(events::Events { id, .. })
            | Self::Delete(delete::Delete { id, .. })
            | Self::Verify(verify::Verify { id, .. })
            | Self::Ps(ps::Ps { id, .. })
            | Self::Checkpoint(checkpoint::Checkpoint { id, .. })
            | Self::Restore(restore::Restore { id, .. })
            | Self::Inspect(inspect::Inspect { id, .. })
            | Self::Plan(plan::Plan { id, .. }) => Some(id),
            Self::Update(update) => Some(&update.id),
            Self::Mounts(mounts) => Some(&mounts.id),
            Self::Check(_)
            | Self::Gc(_)
            | Self::List(_)
            | Self::Spec(_)
            | Self::Features(_)
            | Self::Info(_)
            | Self::Trace(_) => None,
        }
    }

    pub fn execute(self, host: &Host) -> Result<i32> {
        match self {
            Self::Create(command) => command.execute(host).map(|()| 0),
            Self::Run(command) => command.execute(host),
            Self::Start(command) => command.execute(host).map(|()| 0),
            Self::State(command) => command.execute(host).map(|()| 0),
            Self::Exec(command) => command.execute(host),
            Self::Kill(command) => command.execute(host).map(|()| 0),
            Self::Wait(command) => command.execute(host),
            Self::Pause(command) => command.execute(host).map(|()| 0),
            Self::Resume(command) => command.execute(host).map(|()| 0),
            Self::Update(command) => command.execute(host).map(|()| 0),
            Self::Events(command) => command.execute(host).map(|()| 0),
            Self::Delete(command) => command.execute(host).map(|()| 0),
            Self::Gc(command) => command.execute(host),
            Self::List(command) => command.execute(host).map(|()| 0),
            Self::Inspect(command) => command.execute(host).map(|()| 0),
            Self::Mounts(command) => command.execute(host).map(|()| 0),
            Self::Verify(command) => command.execute(host),
            Self::Ps(command) => command.execute(host).map(|()| 0),
            Self::Plan(command) => command.execute(host),
            Self::Check(command) => command.execute(host),
            Self::Checkpoint(command) => command.execute(host).map(|()| 0),
            Self::Restore(command) => command.execute(host),
            Self::Spec(command) => command.execute().map(|()| 0),
            Self::Features(command) => command.execute().map(|()| 0),
            Self::Info(command) => command.execute().map(|()| 0),
            Self::Trace(command) => command.execute().map(|()| 0),
        }
    }
}
