//! `delete`: what containerd calls when a container's shim has gone, and also after each orderly end. Nothing that has
//! gone already is an error.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use containerd_shim_ocirt::api::known::Timestamp;
use containerd_shim_ocirt::api::task::DeleteResponse;
use containerd_shim_ocirt::call::flags::Caller;
use prost::Message;

use crate::runtime::Runtime;
use crate::{mounts, socket};

/// That of SIGKILL.
const KILLED: u32 = 137;

pub fn run(caller: &Caller) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let bundle = if caller.bundle.is_empty() { std::env::current_dir()? } else { PathBuf::from(&caller.bundle) };
    let runtime = Runtime::load(&bundle, &caller.namespace)?;
    if runtime.has(&caller.id) {
        let output = runtime.command(&["delete", "--force", "--", &caller.id]).stdin(Stdio::null()).output()?;
        if !output.status.success() && runtime.has(&caller.id) {
            return Err(format!("delete --force: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
    }
    mounts::unmount(&bundle.join("rootfs"))?;
    remove_socket(&bundle);
    let pid = fs::read_to_string(bundle.join("init.pid")).ok().and_then(|text| text.trim().parse().ok());
    let response = DeleteResponse { pid: pid.unwrap_or(0), exit_status: KILLED, exited_at: Some(now()) };
    Ok(response.encode_to_vec())
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
