//! One call of Kubernetes' CRI for each command, as a kubelet would make it, on containerd's socket.
//!
//! ```text
//! cri pod NAME [FLAG…]                       → the sandbox's id
//! cri create POD NAME [FLAG…] -- COMMAND…    → the container's id
//! cri start|stop|rm|status|stats ID          cri stopp|rmp|pstatus POD      cri ps|pods
//! cri execsync ID [SECONDS] -- COMMAND…      its output, and its exit status
//! cri exec ID -- COMMAND…                    with a terminal, streamed
//! cri update ID FLAG…
//! ```
//!
//! The flags are in `config.rs`.

mod config;
mod error;
mod stream;

use std::process::ExitCode;

use hyper_util::rt::TokioIo;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::*;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use config::Flags;
use error::Error;

const SOCKET: &str = "/run/containerd/containerd.sock";

type Client = RuntimeServiceClient<Channel>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match call(&arguments).await {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            let status = error.downcast_ref::<tonic::Status>();
            eprintln!("cri: {}", status.map_or_else(|| error.to_string(), |status| status.message().to_owned()));
            ExitCode::FAILURE
        }
    }
}

async fn connect() -> Result<Client, Error> {
    let connector =
        tower::service_fn(|_: Uri| async { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(SOCKET).await?)) });
    Ok(Client::new(Endpoint::try_from("http://[::]")?.connect_with_connector(connector).await?))
}

async fn call(arguments: &[String]) -> Result<u8, Error> {
    let mut client = connect().await?;
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["pod", name, flags @ ..] => {
            let flags = Flags::parse(flags)?;
            let request = RunPodSandboxRequest { config: Some(flags.pod(name)), runtime_handler: flags.handler() };
            println!("{}", client.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id);
        }
        ["create", pod, name, flags @ ..] => println!("{}", create(&mut client, pod, name, flags).await?),
        ["execsync", id, rest @ ..] => return execsync(&mut client, id, rest).await,
        ["exec", id, "--", command @ ..] => return exec(&mut client, id, command).await,
        ["update", id, flags @ ..] => {
            let linux = Some(Flags::parse(flags)?.resources());
            let request = UpdateContainerResourcesRequest { container_id: id.to_string(), linux, ..Default::default() };
            client.update_container_resources(request).await?;
        }
        [verb, id] => one(&mut client, verb, id.to_string()).await?,
        ["ps"] => {
            for container in client.list_containers(ListContainersRequest::default()).await?.into_inner().containers {
                println!("{} {:?}", container.metadata.clone().unwrap_or_default().name, container.state());
            }
        }
        ["pods"] => {
            for pod in client.list_pod_sandbox(ListPodSandboxRequest::default()).await?.into_inner().items {
                println!("{} {:?}", pod.metadata.clone().unwrap_or_default().name, pod.state());
            }
        }
        _ => return Err(format!("usage: {}", arguments.join(" ")).into()),
    }
    Ok(0)
}

async fn create(client: &mut Client, pod: &str, name: &str, flags: &[&str]) -> Result<String, Error> {
    let flags = Flags::parse(flags)?;
    let request = CreateContainerRequest {
        pod_sandbox_id: pod.to_owned(),
        config: Some(flags.container(name)),
        sandbox_config: Some(flags.pod(name)),
    };
    Ok(client.create_container(request).await?.into_inner().container_id)
}

/// The calls that take an id and nothing else.
async fn one(client: &mut Client, verb: &str, id: String) -> Result<(), Error> {
    match verb {
        "start" => drop(client.start_container(StartContainerRequest { container_id: id }).await?),
        "stop" => drop(client.stop_container(StopContainerRequest { container_id: id, timeout: 1 }).await?),
        "rm" => drop(client.remove_container(RemoveContainerRequest { container_id: id }).await?),
        "stopp" => drop(client.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id }).await?),
        "rmp" => drop(client.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id }).await?),
        "pstatus" => {
            let request = PodSandboxStatusRequest { pod_sandbox_id: id, verbose: false };
            let status = client.pod_sandbox_status(request).await?.into_inner().status.unwrap_or_default();
            let ip = status.network.clone().unwrap_or_default().ip;
            println!("{:?} {ip} {}", status.state(), status.runtime_handler);
        }
        "status" => {
            let request = ContainerStatusRequest { container_id: id, verbose: false };
            let status = client.container_status(request).await?.into_inner().status.unwrap_or_default();
            println!("{:?} {} {}", status.state(), status.exit_code, status.reason);
        }
        "stats" => {
            let stats = client.container_stats(ContainerStatsRequest { container_id: id }).await?.into_inner().stats;
            let stats = stats.unwrap_or_default();
            let memory = stats.memory.unwrap_or_default().working_set_bytes.unwrap_or_default().value;
            let cpu = stats.cpu.unwrap_or_default().usage_core_nano_seconds.unwrap_or_default().value;
            println!("memory {} cpu {}", memory > 0, cpu > 0);
        }
        _ => return Err(format!("{verb}: no such command").into()),
    }
    Ok(())
}

async fn execsync(client: &mut Client, id: &str, rest: &[&str]) -> Result<u8, Error> {
    let (timeout, command) = match rest {
        ["--", command @ ..] => (10, command),
        [seconds, "--", command @ ..] => (seconds.parse()?, command),
        _ => return Err("execsync ID [SECONDS] -- COMMAND".into()),
    };
    let cmd = command.iter().map(ToString::to_string).collect();
    let answer = client.exec_sync(ExecSyncRequest { container_id: id.to_owned(), cmd, timeout }).await?.into_inner();
    print!("{}", String::from_utf8_lossy(&answer.stdout));
    eprint!("{}", String::from_utf8_lossy(&answer.stderr));
    Ok(answer.exit_code as u8)
}

async fn exec(client: &mut Client, id: &str, command: &[&str]) -> Result<u8, Error> {
    let request = ExecRequest {
        container_id: id.to_owned(),
        cmd: command.iter().map(ToString::to_string).collect(),
        tty: true,
        stdin: true,
        stdout: true,
        stderr: false,
    };
    stream::follow(&client.exec(request).await?.into_inner().url)
}
