//! What this project's shim leaves in a bundle of how a container's init has ended. The shim, as its parent, is the only one who
//! is told, and it writes this before it reaps.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::identity::Identity;
use super::state::Ended;
use super::trusted;
use crate::sys::{Errno, file};

const FILE: &CStr = c"ocirt-exit.json";

#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
struct Record {
    pid: i32,
    start_time: u64,
    exit_status: i32,
    signal: Option<i32>,
}

/// How `init` has ended. `None`: nobody has left that, or it is about an earlier container of this bundle.
pub fn read(bundle: &Path, init: &Identity) -> Result<Option<Ended>> {
    let directory = match file::open_directory(&CString::new(bundle.as_os_str().as_bytes())?) {
        Err(error) if [Errno::ENOENT, Errno::ENOTDIR, Errno::ELOOP].contains(&error.errno) => return Ok(None),
        result => result.with_context(|| bundle.display().to_string())?,
    };
    let words = || bundle.join(OsStr::from_bytes(FILE.to_bytes())).display().to_string();
    let Some(text) = trusted::read(directory.as_fd(), FILE).with_context(words)? else { return Ok(None) };
    parse(&text, init).with_context(words)
}

fn parse(text: &[u8], init: &Identity) -> Result<Option<Ended>> {
    let Record { pid, start_time, exit_status, signal } = serde_json::from_slice(text)?;
    if (pid, start_time) != (init.pid, init.start_time) {
        return Ok(None);
    }
    let is_one = signal
        .map_or((0..=255).contains(&exit_status), |signal| (1..=64).contains(&signal) && exit_status == 128 + signal);
    ensure!(is_one, "no exit status: {exit_status}");
    Ok(Some(Ended { exit_status, signal }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INIT: Identity = Identity { pid: 7, start_time: 42, pidfd_inode: 0 };

    #[test]
    fn an_end_is_that_of_the_very_process() {
        let parsed = |text: &str| parse(text.as_bytes(), &INIT).unwrap();
        let end = |exit_status, signal| Some(Ended { exit_status, signal });
        assert_eq!(parsed(r#"{"pid":7,"startTime":42,"exitStatus":3}"#), end(3, None));
        assert_eq!(parsed(r#"{"pid":7,"startTime":42,"exitStatus":192,"signal":64,"more":1}"#), end(192, Some(64)));
        assert_eq!(parsed(r#"{"pid":7,"startTime":43,"exitStatus":3}"#), None, "a later one");
        assert_eq!(parsed(r#"{"pid":8,"startTime":42,"exitStatus":3}"#), None);
    }

    #[test]
    fn what_no_process_ends_with_is_an_error() {
        let error = |end: &str| parse(format!(r#"{{"pid":7,"startTime":42,{end}}}"#).as_bytes(), &INIT).unwrap_err();
        for end in ["256", "-1", "137,\"signal\":8", "128,\"signal\":0", "193,\"signal\":65", "3,\"signal\":9"] {
            assert!(error(&format!("\"exitStatus\":{end}")).to_string().starts_with("no exit status: "), "{end}");
        }
        assert!(parse(b"{", &INIT).is_err() && parse(b"[]", &INIT).is_err() && parse(b"", &INIT).is_err());
    }
}
