//! Checkpoint and restore: the jobs, and CRIU's log of one that failed.

use containerd_shim_ocirt::api::task::{CheckpointTaskRequest, CreateTaskRequest};
use containerd_shim_ocirt::call::checkpoint;
use containerd_shim_ocirt::task::{ContainerKey, ProcessKey};

use super::job::{Child, Making, Scratch};
use super::state::Loop;
use crate::outcome::Outcome;

impl Loop {
    pub fn checkpoint(&self, key: ContainerKey, request: &CheckpointTaskRequest) -> Outcome<Child> {
        let container = self.container(key)?;
        let bundle = container.runtime.bundle();
        let checkpoint = checkpoint::of_checkpoint(request, &container.runtime.settings, bundle)?;
        let mut command = container.runtime.command(&[]);
        command.args(&checkpoint.arguments).arg("--").arg(&container.id);
        let mut child = Child::program(command, key);
        let (work, is_own) = (checkpoint.work, checkpoint.is_scratch);
        child.scratch = Some(Scratch { work, bundle: bundle.to_owned(), is_own });
        Ok(child)
    }

    pub fn restore(&mut self, key: ContainerKey, request: &CreateTaskRequest) -> Outcome<Child> {
        self.known(key, request)?;
        let runtime = &self.container(key)?.runtime;
        let pid_file = runtime.bundle().join("init.pid");
        let mut command = runtime.command(&[]);
        // containerd has a link in the bundle for that.
        let work = runtime.bundle().join("work");
        command.args(checkpoint::of_restore(request, &runtime.settings, work));
        command.arg("--pid-file").arg(&pid_file);
        let making = Making { command, inputs: Vec::new(), log: runtime.log() };
        self.make_init(ProcessKey::init(key), making, request, pid_file)
    }
}
