//! newuidmap(1) and newgidmap(1): what writes the map of a user namespace where the runtime has no right to more than
//! its own id. They are set-user-ID programs of the host (package uidmap), and go by /etc/subuid and /etc/subgid.

use std::fmt;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::sys::{process, signal, socket};

/// How long a tool may take, in milliseconds: it reads two files, but they may come from a directory service.
const PATIENCE: u32 = 10_000;
/// Where programs are when the environment does not say; engines call the runtime without one.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program of the host that writes a map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tool(PathBuf);

impl Tool {
    /// Looks for the program `name` in the directories of the runtime's own `PATH`. Relative ones are passed over: the
    /// working directory is the bundle, which is not the host's.
    pub fn look_for(name: &str) -> Result<Self> {
        Self::search(name, &std::env::var("PATH").unwrap_or_else(|_| PATH.to_owned()))
    }

    fn search(name: &str, path: &str) -> Result<Self> {
        let runs = |file: &PathBuf| {
            file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
        };
        let directories = path.split(':').map(Path::new).filter(|directory| directory.is_absolute());
        match directories.map(|directory| directory.join(name)).find(runs) {
            Some(file) => Ok(Self(file)),
            None => bail!("{name} is not in $PATH, and without it a user can map his own id alone (package uidmap)"),
        }
    }

    /// Has the program map the ids of process `pid`; `map` is as the kernel takes it. An error has its words.
    pub fn run(&self, pid: i32, map: &str) -> Result<()> {
        let mut errors = socket::sealable_file(c"ocirt:stderr").map(std::fs::File::from)?;
        let mut command = Command::new(&self.0);
        command.arg(pid.to_string()).args(map.split_whitespace()).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(errors.try_clone()?));
        process::start_as_stranger(&mut command);
        let mut child = command.spawn().with_context(|| self.to_string())?;
        let pidfd = process::pidfd_open(child.id() as i32)?;
        if !process::ends_within(pidfd.as_fd(), PATIENCE)? {
            // EPERM: it has become root, and does not end for us; then it is left to itself.
            if process::pidfd_send_signal(pidfd.as_fd(), signal::KILL).is_ok() {
                child.wait()?;
            }
            bail!("{self}: did not end within {} s", PATIENCE / 1000);
        }
        let status = child.wait()?;
        if status.success() {
            return Ok(());
        }
        let mut said = Vec::new();
        errors.rewind()?;
        errors.take(1024).read_to_end(&mut said)?;
        bail!("{self}: {status}: {}", String::from_utf8_lossy(&said).trim());
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An executable script, in a directory of its own.
    fn script(name: &str, text: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("ocirt-tool-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    #[test]
    fn a_tool_is_an_executable_file_of_an_absolute_directory() {
        let file = script("newtestmap", "");
        let directory = file.parent().unwrap().to_str().unwrap();
        assert_eq!(Tool::search("newtestmap", &format!(".::/nope:{directory}")).unwrap(), Tool(file.clone()));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = Tool::search("newtestmap", directory).unwrap_err().to_string();
        assert!(error.starts_with("newtestmap is not in $PATH"), "{error}");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_tool_gets_pid_and_map_and_its_words_are_the_error() {
        let file = script("newwordmap", "echo \"no: $*\" >&2; [ \"$*\" = '7 0 1000 1 1 100000 5' ] && exit 3; exit 0");
        let tool = Tool(file.clone());
        let error = tool.run(7, "0 1000 1\n1 100000 5\n").unwrap_err().to_string();
        assert_eq!(error, format!("{tool}: exit status: 3: no: 7 0 1000 1 1 100000 5"));
        tool.run(8, "0 1000 1\n").unwrap();
        std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    }
}
