//! `start`: find the shim of the container's group, or begin one. And `-info`.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::parent_id;
use std::path::Path;
use std::process::{Command, Stdio};

use containerd_shim_ocirt::api::info::{RuntimeInfo, RuntimeVersion};
use containerd_shim_ocirt::call::answer::Form;
use containerd_shim_ocirt::call::config::Config;
use containerd_shim_ocirt::call::flags::Caller;
use containerd_shim_ocirt::call::{address, stdin};
use prost::Message;

use crate::outcome::Outcome;
use crate::runtime::{self, Runtime};
use crate::serve::{self, Service};
use crate::{cgroup, file, log, socket, sys};

pub fn run(program: &str, caller: &Caller) -> Outcome<Vec<u8>> {
    let input = stdin::of_start(&read_stdin()?, caller)?;
    let config = Config::parse(&fs::read("config.json").map_err(|error| format!("config.json: {error}"))?)?;
    let settings = runtime::settle(input.options(), &caller.namespace, &config)?;
    // What the process that serves inherits; an error must leave no socket.
    if let Some(cgroup) = &settings.shim_cgroup {
        cgroup::join(cgroup)?;
    }
    if std::env::var_os("SCHED_CORE").is_some_and(|value| !value.is_empty()) {
        sys::schedule_as_group().map_err(|error| format!("core scheduling: {error}"))?;
    }
    let path = address::socket(input.socket_dir(), &caller.address, &caller.namespace, config.group(&caller.id))?;
    let listening = socket::listen(Path::new(&path)).map_err(|error| format!("socket {path}: {error}"))?;
    if let Some(listener) = listening {
        daemon(caller, &path, listener)?;
    }
    let url = address::url(&path);
    file::replace(Path::new(""), "address", url.as_bytes())?;
    let variable = std::env::var("MAX_SHIM_VERSION").ok();
    Ok(Form::choose(variable.as_deref(), &input, program).encode(&url))
}

/// What the runtime can do, as it says itself.
pub fn info() -> Outcome<Vec<u8>> {
    let options = stdin::of_info(&read_stdin()?)?;
    let settings = runtime::settle(options.as_ref(), "default", &Config::default())?;
    let output = Command::new(Runtime::new(settings).binary()).arg("features").stdin(Stdio::null()).output()?;
    if !output.status.success() {
        return Err(format!("features: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let version = RuntimeVersion { version: env!("CARGO_PKG_VERSION").to_owned(), revision: String::new() };
    Ok(RuntimeInfo::new("io.containerd.ocirt.v2", version, options, output.stdout).encode_to_vec())
}

fn read_stdin() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().take(stdin::LIMIT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Begins the process that serves: a copy of this one, which costs a tenth of what executing the program again would,
/// and has containerd's arguments, by which tools find a shim.
fn daemon(caller: &Caller, socket: &str, listener: UnixListener) -> Outcome<()> {
    let log = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open("log");
    let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", parent_id())).unwrap_or_default();
    let service = Service {
        namespace: caller.namespace.clone(),
        socket: socket.into(),
        listener,
        score: score.trim().parse().ok(),
        log: log.ok().map(OwnedFd::from),
    };
    sys::fork(|| match serve::run(service) {
        Ok(()) => 0,
        Err(error) => {
            log::error(&error.to_string());
            1
        }
    })?;
    Ok(())
}
