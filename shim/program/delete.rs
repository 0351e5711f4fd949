//! `delete`: what containerd calls when a container's shim has gone, and also after each orderly end. Nothing that has
//! gone already is an error.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use containerd_shim_ocirt::api::known::Timestamp;
use containerd_shim_ocirt::api::task::DeleteResponse;
use containerd_shim_ocirt::call::flags::Caller;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use ocirt_sys::process::pidfd_send_signal;
use prost::Message;

use crate::outcome::Outcome;
use crate::runtime::Runtime;
use crate::sys::limit::Descriptors;
use crate::{child, mounts, socket, sys};

/// Milliseconds for the runtime: one that hangs is ended. After five seconds containerd kills this call, and the runtime would
/// stay.
const WITHIN: u16 = 4000;

/// That of SIGKILL.
const KILLED: u32 = 137;

pub fn run(caller: &Caller) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let bundle = if caller.bundle.is_empty() { std::env::current_dir()? } else { PathBuf::from(&caller.bundle) };
    let runtime = Runtime::load(&bundle, &caller.namespace)?;
    if runtime.has(&caller.id) {
        let removed = remove(&runtime, &caller.id);
        if runtime.has(&caller.id) {
            removed.map_err(|error| format!("delete --force: {error}"))?;
        }
    }
    mounts::unmount(&bundle.join("rootfs"))?;
    remove_socket(&bundle);
    let pid = fs::read_to_string(bundle.join("init.pid")).ok().and_then(|text| text.trim().parse().ok());
    let response = DeleteResponse { pid: pid.unwrap_or(0), exit_status: KILLED, exited_at: Some(now()) };
    Ok(response.encode_to_vec())
}

/// Has the runtime end and remove the container.
fn remove(runtime: &Runtime, id: &str) -> Outcome<()> {
    let errors = memfd_create("errors", MFdFlags::MFD_CLOEXEC)?;
    let command = runtime.command(&["delete", "--force", "--", id]);
    let streams = [None, None, Some(errors.try_clone()?)];
    let born = child::execute(&command, &streams, Descriptors::inherited()?)?;
    let mut fds = [PollFd::new(born.pidfd.as_fd(), PollFlags::POLLIN)];
    if poll(&mut fds, PollTimeout::from(WITHIN))? == 0 {
        pidfd_send_signal(born.pidfd.as_fd(), libc::SIGKILL)?;
        return Err(format!("not done within {} seconds", WITHIN / 1000).into());
    }
    if sys::wait(born.pidfd.as_fd()) == Some(0) {
        return Ok(());
    }
    let (mut words, mut errors) = (String::new(), File::from(errors));
    errors.seek(SeekFrom::Start(0))?;
    errors.read_to_string(&mut words)?;
    Err(words.into())
}

/// The socket of a shim that was killed (containerd #11292).
fn remove_socket(bundle: &Path) {
    let Ok(url) = fs::read_to_string(bundle.join("address")) else { return };
    let Some(path) = url.strip_prefix("unix://") else { return };
    // Its directory may have gone, or never been there.
    let _ = socket::remove_if_left(Path::new(path));
}

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() as i32 }
}
