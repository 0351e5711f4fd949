//! Loop devices (loop(4)): a file as a block device, for as long as it is mounted.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::sys;

/// How often another process may be quicker.
const TRIES: usize = 100;

/// A device, which is free again when neither this nor a mount holds it.
#[derive(Debug)]
pub struct Device {
    pub path: PathBuf,
    _file: File,
}

/// Finds a free device for a file.
pub fn attach(path: &Path, is_read_only: bool) -> Result<Device, Box<dyn std::error::Error>> {
    let named = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let file = OpenOptions::new().read(true).write(!is_read_only).open(path);
    let file = file.map_err(|error| named(path, error))?;
    let control = Path::new("/dev/loop-control");
    let free = OpenOptions::new().read(true).write(true).open(control).map_err(|error| named(control, error))?;
    for _ in 0..TRIES {
        let device = PathBuf::from(format!("/dev/loop{}", sys::mount::free_loop(&free)?));
        let opened = OpenOptions::new().read(true).write(!is_read_only).open(&device);
        let opened = opened.map_err(|error| named(&device, error))?;
        match sys::mount::configure_loop(&opened, &file, is_read_only) {
            Ok(()) => return Ok(Device { path: device, _file: opened }),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(named(&device, error).into()),
        }
    }
    Err("no loop device stays free".into())
}
