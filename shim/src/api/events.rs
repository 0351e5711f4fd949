//! Events, and the call that forwards them to containerd: api/events/task.proto, api/types/event.proto,
//! api/services/ttrpc/events/v1/events.proto.

use prost::Message;

use super::known::{Any, Timestamp, names};
use super::task::Mount;

/// The service of containerd's own socket that takes events, and its method; the answer is empty.
pub const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";
pub const METHOD: &str = "Forward";

#[derive(Clone, PartialEq, Message)]
pub struct ForwardRequest {
    #[prost(message, optional, tag = "1")]
    pub envelope: Option<Envelope>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Envelope {
    #[prost(message, optional, tag = "1")]
    pub timestamp: Option<Timestamp>,
    #[prost(string, tag = "2")]
    pub namespace: String,
    #[prost(string, tag = "3")]
    pub topic: String,
    #[prost(message, optional, tag = "4")]
    pub event: Option<Any>,
}

/// What happened to a task.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    Create(TaskCreate),
    Start(TaskStart),
    ExecAdded(TaskExecAdded),
    ExecStarted(TaskExecStarted),
    Exit(TaskExit),
    Delete(TaskDelete),
    Oom(TaskOom),
    Paused(TaskPaused),
    Resumed(TaskResumed),
    Checkpointed(TaskCheckpointed),
}

impl Event {
    pub fn topic(&self) -> &'static str {
        match self {
            Self::Create(_) => "/tasks/create",
            Self::Start(_) => "/tasks/start",
            Self::ExecAdded(_) => "/tasks/exec-added",
            Self::ExecStarted(_) => "/tasks/exec-started",
            Self::Exit(_) => "/tasks/exit",
            Self::Delete(_) => "/tasks/delete",
            Self::Oom(_) => "/tasks/oom",
            Self::Paused(_) => "/tasks/paused",
            Self::Resumed(_) => "/tasks/resumed",
            Self::Checkpointed(_) => "/tasks/checkpointed",
        }
    }

    pub fn pack(&self) -> Any {
        match self {
            Self::Create(event) => Any::pack(event),
            Self::Start(event) => Any::pack(event),
            Self::ExecAdded(event) => Any::pack(event),
            Self::ExecStarted(event) => Any::pack(event),
            Self::Exit(event) => Any::pack(event),
            Self::Delete(event) => Any::pack(event),
            Self::Oom(event) => Any::pack(event),
            Self::Paused(event) => Any::pack(event),
            Self::Resumed(event) => Any::pack(event),
            Self::Checkpointed(event) => Any::pack(event),
        }
    }

    /// The event as it is forwarded.
    pub fn envelope(&self, namespace: &str, timestamp: Timestamp) -> Envelope {
        Envelope {
            timestamp: Some(timestamp),
            namespace: namespace.to_owned(),
            topic: self.topic().to_owned(),
            event: Some(self.pack()),
        }
    }
}

names!("containerd.events": TaskCreate, TaskStart, TaskExecAdded, TaskExecStarted, TaskExit, TaskDelete, TaskPaused,
    TaskResumed, TaskCheckpointed);

impl prost::Name for TaskOom {
    const NAME: &'static str = "TaskOOM";
    const PACKAGE: &'static str = "containerd.events";
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskCreate {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub bundle: String,
    #[prost(message, repeated, tag = "3")]
    pub rootfs: Vec<Mount>,
    #[prost(message, optional, tag = "4")]
    pub io: Option<TaskIo>,
    #[prost(string, tag = "5")]
    pub checkpoint: String,
    #[prost(uint32, tag = "6")]
    pub pid: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskIo {
    #[prost(string, tag = "1")]
    pub stdin: String,
    #[prost(string, tag = "2")]
    pub stdout: String,
    #[prost(string, tag = "3")]
    pub stderr: String,
    #[prost(bool, tag = "4")]
    pub terminal: bool,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskStart {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(uint32, tag = "2")]
    pub pid: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskExecAdded {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskExecStarted {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub exec_id: String,
    #[prost(uint32, tag = "3")]
    pub pid: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskExit {
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// Of init the container's id, else that of the exec.
    #[prost(string, tag = "2")]
    pub id: String,
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    #[prost(uint32, tag = "4")]
    pub exit_status: u32,
    #[prost(message, optional, tag = "5")]
    pub exited_at: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskDelete {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    #[prost(uint32, tag = "3")]
    pub exit_status: u32,
    #[prost(message, optional, tag = "4")]
    pub exited_at: Option<Timestamp>,
    /// Of an exec; of init it is empty.
    #[prost(string, tag = "5")]
    pub id: String,
}

/// `TaskOOM`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskOom {
    #[prost(string, tag = "1")]
    pub container_id: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskPaused {
    #[prost(string, tag = "1")]
    pub container_id: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskResumed {
    #[prost(string, tag = "1")]
    pub container_id: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskCheckpointed {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub checkpoint: String,
}
