//! newuidmap(1) and newgidmap(1): what writes the map of a user namespace where the runtime has no right to more than
//! its own id. They are set-user-ID programs of the host (package uidmap), and go by /etc/subuid and /etc/subgid.

use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::sys::exit::Exit;
use crate::sys::external::ExternalProgram;
use crate::sys::process::Open;
use crate::sys::program::Strings;
use crate::sys::socket;

/// How long a tool may take, in milliseconds: it reads two files, but they may come from a directory service.
const TIMEOUT: u32 = 10_000;
/// It makes no files; if it ever does, they are nobody else's to write.
const UMASK: u32 = 0o022;
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
        let errors = socket::sealable_file(c"ocirt:stderr")?;
        let null = File::options().read(true).write(true).open("/dev/null").context("/dev/null")?;
        let path = CString::new(self.0.as_os_str().as_bytes())?;
        let words = std::iter::once(path.clone().into_bytes());
        let words = words.chain([pid.to_string().into_bytes()]).chain(map.split_whitespace().map(Into::into));
        let words = words.map(|word| Ok(CString::new(word)?)).collect::<Result<_>>()?;
        let (arguments, environment) = (Strings::new(words), Strings::new(Vec::new()));
        let streams = [null.as_fd(), null.as_fd(), errors.as_fd()];
        let tool = ExternalProgram {
            path: &path,
            arguments: &arguments,
            environment: &environment,
            streams,
            directory: None,
            umask: Some(UMASK),
            open: Open::Any,
        };
        match tool.start()?.wait(Some(TIMEOUT)).with_context(|| self.to_string())? {
            Some(Exit::Status(0)) => Ok(()),
            Some(exit) => {
                let mut said = [0; 1024];
                let length = socket::read_from_start(errors.as_fd(), &mut said)?;
                let said = String::from_utf8_lossy(said.get(..length).unwrap_or_default());
                // As std has it, which the errors of this program had from it.
                let exit = exit.to_string().replacen("exit status ", "exit status: ", 1);
                bail!("{self}: {exit}: {}", said.trim())
            }
            None => bail!("{self}: did not end within {} s", TIMEOUT / 1000),
        }
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
