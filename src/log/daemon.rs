//! Lines for journald and syslog, which are crun's `--log journald:ID` and `--log syslog:ID`: one datagram a line, to
//! sockets whose formats are documented, so that no library is linked for them.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::level::Level;
use crate::error::io_error;

/// Where journald takes datagrams, systemd's "Native Journal Protocol".
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Where a syslog daemon takes them, syslog(3).
const SYSLOG: &str = "/dev/log";

/// A daemon that does not read holds a line up for so long, and no container for ever.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A daemon that takes lines, and the name that they are under.
pub struct Daemon {
    socket: UnixDatagram,
    protocol: Protocol,
    id: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    Journald,
    Syslog,
}

impl Daemon {
    /// Connects to the daemon; one that is not there is an error that names its socket.
    pub fn connect(protocol: Protocol, id: &str) -> Result<Self> {
        let (flag, path) = match protocol {
            Protocol::Journald => ("--log journald", JOURNAL),
            Protocol::Syslog => ("--log syslog", SYSLOG),
        };
        ensure!(!id.is_empty() && !id.contains(char::is_control), "{flag}: {id:?} is no name for log lines");
        let socket = connect(Path::new(path)).with_context(|| format!("{flag}: {path}"))?;
        Ok(Self { socket, protocol, id: id.to_owned() })
    }

    /// Sends a line. One that is lost is lost silently: a container does not fail because its log is full.
    pub fn send(&self, level: Level, message: &str) {
        let datagram = match self.protocol {
            Protocol::Journald => journal_entry(&self.id, level, message),
            Protocol::Syslog => syslog_line(&self.id, level, message),
        };
        let _ = self.socket.send(&datagram);
    }
}

fn connect(path: &Path) -> Result<UnixDatagram> {
    let socket = UnixDatagram::unbound().map_err(|error| io_error("socket", &error))?;
    socket.connect(path).map_err(|error| io_error("connect", &error))?;
    socket.set_write_timeout(Some(TIMEOUT)).map_err(|error| io_error("setsockopt", &error))?;
    Ok(socket)
}

/// Fields, one a line; one that holds a newline is its name, its length in 64 bits little endian, and its bytes.
/// `ID` is crun's field, `SYSLOG_IDENTIFIER` what `journalctl -t` looks for.
fn journal_entry(id: &str, level: Level, message: &str) -> Vec<u8> {
    let mut entry = format!("PRIORITY={}\nSYSLOG_IDENTIFIER={id}\nID={id}\n", severity(level)).into_bytes();
    if message.contains('\n') {
        entry.extend(b"MESSAGE\n");
        entry.extend((message.len() as u64).to_le_bytes());
    } else {
        entry.extend(b"MESSAGE=");
    }
    entry.extend(message.as_bytes());
    entry.push(b'\n');
    entry
}

/// As syslog(3) writes it, of the facility "user", and without the time: the daemon has a clock and knows the time zone.
fn syslog_line(id: &str, level: Level, message: &str) -> Vec<u8> {
    const USER: u8 = 1 << 3;
    let message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("<{}>{id}[{}]: {message}", USER | severity(level), std::process::id()).into_bytes()
}

/// syslog(3)'s numbers.
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warning => 4,
        Level::Info => 6,
        Level::Debug => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_entry_is_fields_one_a_line() {
        assert_eq!(
            journal_entry("web1", Level::Error, "no such file"),
            b"PRIORITY=3\nSYSLOG_IDENTIFIER=web1\nID=web1\nMESSAGE=no such file\n"
        );
        // What an attacker may have chosen makes no field of its own.
        assert_eq!(
            journal_entry("web1", Level::Debug, "a\nPRIORITY=0"),
            b"PRIORITY=7\nSYSLOG_IDENTIFIER=web1\nID=web1\nMESSAGE\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\n"
        );
    }

    #[test]
    fn a_syslog_line_is_one_line_with_its_priority() {
        let line = String::from_utf8(syslog_line("web1", Level::Warning, "a\nb")).unwrap();
        assert_eq!(line, format!("<12>web1[{}]: a b", std::process::id()));
    }

    #[test]
    fn a_name_is_one_word_of_the_line() {
        for id in ["", "a\nPRIORITY=0"] {
            let error = Daemon::connect(Protocol::Journald, id).err().unwrap().to_string();
            assert!(error.starts_with("--log journald: ") && error.ends_with("is no name for log lines"), "{error}");
        }
    }
}
