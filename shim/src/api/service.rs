//! The calls that a shim answers, by their names.

use prost::Message;

use super::known::Empty;
use super::task::{
    CheckpointTaskRequest, CloseIoRequest, ConnectResponse, ContainerRequest, CreateTaskRequest, CreateTaskResponse,
    DeleteResponse, ExecProcessRequest, KillRequest, PidsResponse, ProcessRequest, ResizePtyRequest, ShutdownRequest,
    StartResponse, StateResponse, StatsResponse, UpdateTaskRequest, WaitResponse,
};
use crate::wire::elements;
use crate::wire::status::{Code, Status};

/// The names of the task service. Up to containerd 1.7 only the first is called; on a connection of containerd 2 it may
/// be either.
pub const SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// A request of the task service.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    State(ProcessRequest),
    Create(Box<CreateTaskRequest>),
    Start(ProcessRequest),
    Delete(ProcessRequest),
    Pids(ContainerRequest),
    Pause(ContainerRequest),
    Resume(ContainerRequest),
    Checkpoint(CheckpointTaskRequest),
    Kill(KillRequest),
    Exec(ExecProcessRequest),
    ResizePty(ResizePtyRequest),
    CloseIo(CloseIoRequest),
    Update(UpdateTaskRequest),
    Wait(ProcessRequest),
    Stats(ContainerRequest),
    Connect(ContainerRequest),
    Shutdown(ShutdownRequest),
}

impl Request {
    /// Reads a request. Another service or method has code 12: containerd 2 tries version 2 of the service after that.
    pub fn decode(service: &str, method: &str, payload: &[u8]) -> Result<Self, Status> {
        if !SERVICES.contains(&service) {
            return Err(Status::new(Code::Unimplemented, format!("service {service}")));
        }
        Ok(match method {
            "State" => Self::State(read(payload)?),
            "Create" => Self::Create(Box::new(read_create(payload)?)),
            "Start" => Self::Start(read(payload)?),
            "Delete" => Self::Delete(read(payload)?),
            "Pids" => Self::Pids(read(payload)?),
            "Pause" => Self::Pause(read(payload)?),
            "Resume" => Self::Resume(read(payload)?),
            "Checkpoint" => Self::Checkpoint(read(payload)?),
            "Kill" => Self::Kill(read(payload)?),
            "Exec" => Self::Exec(read(payload)?),
            "ResizePty" => Self::ResizePty(read(payload)?),
            "CloseIO" => Self::CloseIo(read(payload)?),
            "Update" => Self::Update(read(payload)?),
            "Wait" => Self::Wait(read(payload)?),
            "Stats" => Self::Stats(read(payload)?),
            "Connect" => Self::Connect(read(payload)?),
            "Shutdown" => Self::Shutdown(read(payload)?),
            _ => return Err(Status::new(Code::Unimplemented, format!("method {service}/{method}"))),
        })
    }
}

fn read<M: Message + Default>(payload: &[u8]) -> Result<M, Status> {
    few(payload, 0)?;
    M::decode(payload).map_err(invalid)
}

/// The mounts of a root filesystem are a list whose elements have a list.
fn read_create(payload: &[u8]) -> Result<CreateTaskRequest, Status> {
    few(payload, 3)?;
    CreateTaskRequest::decode(payload).map_err(invalid)
}

fn few(payload: &[u8], nested: u32) -> Result<(), Status> {
    if elements::count(payload, nested).map_err(invalid)? <= elements::LIMIT {
        return Ok(());
    }
    Err(Status::new(Code::ResourceExhausted, format!("request: more than {} fields", elements::LIMIT)))
}

fn invalid(error: prost::DecodeError) -> Status {
    Status::new(Code::InvalidArgument, format!("request: {error}"))
}

/// What a request is answered when all went well.
#[derive(Clone, PartialEq, Debug)]
pub enum Response {
    Empty,
    State(StateResponse),
    Create(CreateTaskResponse),
    Start(StartResponse),
    Delete(DeleteResponse),
    Pids(PidsResponse),
    Wait(WaitResponse),
    Stats(StatsResponse),
    Connect(ConnectResponse),
}

impl Response {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Empty => Empty {}.encode_to_vec(),
            Self::State(message) => message.encode_to_vec(),
            Self::Create(message) => message.encode_to_vec(),
            Self::Start(message) => message.encode_to_vec(),
            Self::Delete(message) => message.encode_to_vec(),
            Self::Pids(message) => message.encode_to_vec(),
            Self::Wait(message) => message.encode_to_vec(),
            Self::Stats(message) => message.encode_to_vec(),
            Self::Connect(message) => message.encode_to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_task_services_is_unimplemented() {
        let unknown = [
            ("containerd.runtime.sandbox.v1.Sandbox", "CreateSandbox"),
            ("containerd.task.v2.Task", "Events"),
            ("containerd.task.v3.Task", "state"),
            ("", ""),
        ];
        for (service, method) in unknown {
            let status = Request::decode(service, method, b"").unwrap_err();
            assert_eq!(status.code, 12, "{service}/{method}");
        }
    }

    #[test]
    fn a_request_is_the_same_under_both_names_of_the_service() {
        for service in SERVICES {
            let request = Request::decode(service, "Start", b"\x0a\x01c\x12\x01e").unwrap();
            assert_eq!(request, Request::Start(ProcessRequest { id: "c".to_owned(), exec_id: "e".to_owned() }));
        }
    }

    #[test]
    fn a_broken_request_is_an_invalid_argument() {
        for payload in [b"\x0a\x05c".as_slice(), b"\x08\x01", b"\x0a\x01\xff", b"\xff"] {
            assert_eq!(Request::decode(SERVICES[0], "State", payload).unwrap_err().code, 3, "{payload:?}");
        }
    }

    #[test]
    fn lists_that_are_small_on_the_wire_and_large_in_memory_are_refused() {
        let mounts: Vec<u8> = b"\x1a\0".repeat(elements::LIMIT + 1);
        // One mount with that many options.
        let options = [b"\x1a\x82\x40".as_slice(), &b"\x22\0".repeat(elements::LIMIT + 1)].concat();
        for payload in [mounts, options] {
            assert_eq!(Request::decode(SERVICES[0], "Create", &payload).unwrap_err().code, 8);
        }
        let annotations = b"\x1a\0".repeat(elements::LIMIT + 1);
        assert_eq!(Request::decode(SERVICES[0], "Update", &annotations).unwrap_err().code, 8);
    }
}
