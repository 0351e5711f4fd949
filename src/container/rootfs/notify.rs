//! The socket on which a container tells that it is ready, where its supervisor waits for that: sd_notify(3). It is the
//! container's own, so that nothing inside reaches the supervisor but what the runtime passes on.

use core::ffi::CStr;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Context as _;
use oci_spec::runtime;

use super::context::Context;
use super::held::Held;
use super::mount::{Compiled, Mount};
use crate::sys::{Fault, socket};

/// Where it is inside: runc's place.
pub const DIRECTORY: &str = "/run/notify";
pub const VARIABLE: &str = "NOTIFY_SOCKET=/run/notify/notify.sock";
const NAME: &CStr = c"notify.sock";

/// Makes the socket in the tmpfs that is mounted for it.
pub struct NotifySocket {
    mount: Rc<Held>,
}

impl NotifySocket {
    /// The tmpfs, and the socket in it.
    pub fn compile(context: &Context) -> anyhow::Result<(Compiled, Self)> {
        let mut tmpfs = runtime::Mount::default();
        tmpfs.set_destination(PathBuf::from(DIRECTORY)).set_typ(Some("tmpfs".to_owned()));
        tmpfs.set_source(Some(PathBuf::from("tmpfs")));
        let options = ["nosuid", "nodev", "noexec", "mode=755", "size=64k"];
        tmpfs.set_options(Some(options.map(str::to_owned).to_vec()));
        let compiled = Mount::compile(&tmpfs, context, 0, &[]).context("NOTIFY_SOCKET")?;
        compiled.held.want();
        let mount = compiled.held.clone();
        Ok((compiled, Self { mount }))
    }

    /// The runtime's end. While the host's procfs is in sight, by which the directory is named.
    pub fn apply(&self) -> Result<OwnedFd, Fault> {
        Ok(socket::bind_datagram_in(self.mount.mount()?, NAME)?)
    }
}

impl fmt::Display for NotifySocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NOTIFY_SOCKET at /run/notify/notify.sock")
    }
}
