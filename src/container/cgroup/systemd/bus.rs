//! A connection to systemd: as root its private socket, where nobody stands between (or the system bus, where that
//! socket is hidden); as a user the session bus, or the user manager's private socket. Every wait has an end.
//!
//! Authentication is EXTERNAL without a name: the other end takes the uid from the socket, which is right in a user
//! namespace too, where our own number is another.

use std::ffi::OsString;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::refused::{Refused, SYSTEMD};
use super::wire::{self, BusMessage, MessageKind, Method, Reader, Value};
use crate::sys::{Errno, Fault, peer, socket};

/// How long one call may take.
const CALL_WITHIN: Duration = Duration::from_secs(25);
/// How often a listener that has no time is tried, with waits from 100 ms that double: 6.3 s in all.
const TRIES: u32 = 7;

const MANAGER: &str = "/org/freedesktop/systemd1";
const DBUS: &str = "org.freedesktop.DBus";

/// Which systemd, and how it is reached. What state.json keeps, so that later commands need no environment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bus {
    System,
    /// The user manager's sockets, the preferred one first.
    User(Vec<BusAddress>),
}

/// Where somebody listens.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BusAddress {
    pub path: PathBuf,
    /// Whether `path` is a name in the abstract namespace of unix(7).
    #[serde(rename = "abstract", default)]
    pub is_abstract: bool,
    /// Whether a bus is there, which must be greeted, or systemd itself.
    pub is_bus: bool,
}

impl BusAddress {
    fn direct(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), is_abstract: false, is_bus: false }
    }

    fn bus(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), is_abstract: false, is_bus: true }
    }
}

impl BusAddress {
    fn connect(&self) -> Result<UnixStream, Fault> {
        let socket = match self.is_abstract {
            true => socket::connect_abstract(self.path.as_os_str().as_encoded_bytes()),
            false => socket::connect_stream(&self.path),
        };
        socket.map(UnixStream::from)
    }
}

impl fmt::Display for BusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_abstract {
            write!(f, "@")?
        }
        self.path.display().fmt(f)
    }
}

impl Bus {
    /// The user manager of this environment: what `DBUS_SESSION_BUS_ADDRESS` says, else what is in `XDG_RUNTIME_DIR`.
    pub fn user() -> Result<Self> {
        let variable = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
        if let Some(address) = variable("DBUS_SESSION_BUS_ADDRESS") {
            let address = address.to_string_lossy();
            let addresses = addresses(&address);
            if addresses.is_empty() {
                bail!("DBUS_SESSION_BUS_ADDRESS: {address:?} names no unix socket");
            }
            return Ok(Self::User(addresses));
        }
        let Some(directory) = variable("XDG_RUNTIME_DIR") else {
            bail!(
                "neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR says where the user's systemd is \
                 (is there a login session, or `loginctl enable-linger`?)"
            );
        };
        let directory = Path::new(&directory);
        let private = BusAddress::direct(directory.join("systemd/private"));
        Ok(Self::User(vec![private, BusAddress::bus(directory.join("bus"))]))
    }

    fn addresses(&self) -> Vec<BusAddress> {
        match self {
            Self::System => {
                vec![BusAddress::direct("/run/systemd/private"), BusAddress::bus("/run/dbus/system_bus_socket")]
            }
            Self::User(addresses) => addresses.clone(),
        }
    }
}

/// The unix sockets of a D-Bus address (D-Bus Specification, "Server Addresses"), in its order.
fn addresses(text: &str) -> Vec<BusAddress> {
    let entries = text.split(';').filter_map(|entry| entry.strip_prefix("unix:"));
    let keys = entries.filter_map(|entry| entry.split(',').find_map(|pair| pair.split_once('=')));
    keys.filter(|(key, _)| matches!(*key, "path" | "abstract"))
        .map(|(key, value)| BusAddress {
            path: OsString::from_vec(unescape(value)).into(),
            is_abstract: key == "abstract",
            is_bus: true,
        })
        .collect()
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

/// What came of a call.
#[derive(Debug)]
pub enum CallFailed {
    /// systemd said no.
    Refused(Refused),
    /// The connection is gone; a new one may do.
    Disconnected(anyhow::Error),
    Other(anyhow::Error),
}

impl CallFailed {
    pub fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused(refused) if refused.is(wanted))
    }
}

impl From<anyhow::Error> for CallFailed {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<CallFailed> for anyhow::Error {
    fn from(failed: CallFailed) -> Self {
        match failed {
            CallFailed::Refused(refused) => refused.into(),
            CallFailed::Disconnected(error) | CallFailed::Other(error) => error,
        }
    }
}

pub(super) type Answer<T> = core::result::Result<T, CallFailed>;

/// A job's end: its object path, and `done` or another result (org.freedesktop.systemd1(5), "JobRemoved").
type JobEnd = (String, String);

/// A connection that is authenticated and hears of jobs.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    serial: u32,
    /// What came and is not looked at yet.
    buffer: Vec<u8>,
    ended: Vec<JobEnd>,
}

impl Connection {
    pub fn open(bus: &Bus) -> Answer<Self> {
        let (mut errors, mut broke) = (Vec::new(), false);
        for address in bus.addresses() {
            match Self::connect(&address) {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    broke |= matches!(error, CallFailed::Disconnected(_));
                    errors.push(format!("{address}: {:#}", anyhow::Error::from(error)));
                }
            }
        }
        let error = anyhow!("connect to systemd: {}", errors.join("; "));
        Err(if broke { CallFailed::Disconnected(error) } else { CallFailed::Other(error) })
    }

    fn connect(address: &BusAddress) -> Answer<Self> {
        let stream = retry(|| address.connect())?;
        let mut connection = Self { stream, serial: 0, buffer: Vec::new(), ended: Vec::new() };
        let deadline = Instant::now() + CALL_WITHIN;
        connection.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        connection.authenticated(deadline)?;
        if address.is_bus {
            let bus = |name| Method { destination: DBUS, path: "/org/freedesktop/DBus", interface: DBUS, name };
            connection.call(&bus("Hello"), &[])?;
            let rule = format!("type='signal',sender='{SYSTEMD}',member='JobRemoved'");
            connection.call(&bus("AddMatch"), &[Value::text(rule)])?;
            connection.manager("Subscribe", &[])?;
        }
        Ok(connection)
    }

    /// Whether our process ids are the same processes' for the other end.
    pub fn shares_pids(&self) -> Answer<bool> {
        let peer = peer::pid(self.stream.as_fd()).map_err(anyhow::Error::from)?;
        Ok(peer != 0)
    }

    /// Reads the server's part of the authentication (D-Bus Specification, "Authentication Protocol").
    fn authenticated(&mut self, deadline: Instant) -> Answer<()> {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
                match line.as_slice() {
                    b"DATA" => {}
                    line if line.starts_with(b"OK") => return Ok(()),
                    line => {
                        let line = String::from_utf8_lossy(line).into_owned();
                        return Err(CallFailed::Other(anyhow!("authentication: {line}")));
                    }
                }
            }
            self.read_more(deadline)?;
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Answer<()> {
        self.stream.set_write_timeout(Some(CALL_WITHIN)).context("D-Bus socket")?;
        self.stream.write_all(bytes).map_err(|error| lost(error, "send"))
    }

    fn read_more(&mut self, deadline: Instant) -> Answer<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(CallFailed::Other(anyhow!("no answer within {} s", CALL_WITHIN.as_secs())));
        }
        self.stream.set_read_timeout(Some(left)).context("D-Bus socket")?;
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(CallFailed::Disconnected(anyhow!("systemd closed the connection"))),
            Ok(length) => {
                self.buffer.extend_from_slice(piece.get(..length).unwrap_or_default());
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => Ok(()),
            Err(error) => Err(lost(error, "receive")),
        }
    }

    /// The next message; ends of jobs are noted on the way.
    fn message(&mut self, deadline: Instant) -> Answer<BusMessage> {
        loop {
            if let Some((message, length)) = BusMessage::parse(&self.buffer)? {
                self.buffer.drain(..length);
                if message.kind == MessageKind::Signal && message.member == "JobRemoved" && message.signature == "uoss"
                {
                    self.ended.push(job_end(&mut message.body())?);
                }
                return Ok(message);
            }
            self.read_more(deadline)?;
        }
    }

    /// Calls a method and waits for its answer.
    fn call(&mut self, method: &Method, arguments: &[Value]) -> Answer<BusMessage> {
        self.serial += 1;
        let serial = self.serial;
        self.send(&wire::call(method, serial, arguments))?;
        let deadline = Instant::now() + CALL_WITHIN;
        loop {
            let message = self.message(deadline)?;
            match message.kind {
                _ if message.reply_to != Some(serial) => {}
                MessageKind::Reply => return Ok(message),
                MessageKind::Error => {
                    let words = if message.signature.starts_with('s') { message.body().text()? } else { String::new() };
                    if message.error == format!("{DBUS}.Error.NoReply") {
                        return Err(CallFailed::Disconnected(anyhow!("{words}")));
                    }
                    let words = if words.is_empty() { message.error.clone() } else { words };
                    return Err(CallFailed::Refused(Refused { name: message.error, words }));
                }
                MessageKind::Call | MessageKind::Signal => {}
            }
        }
    }

    /// Calls a method of systemd's manager.
    pub fn manager(&mut self, name: &str, arguments: &[Value]) -> Answer<BusMessage> {
        let interface = "org.freedesktop.systemd1.Manager";
        self.call(&Method { destination: SYSTEMD, path: MANAGER, interface, name }, arguments)
    }

    /// A property of the manager that is a string: `Version`, `ControlGroup`.
    pub fn manager_property(&mut self, name: &str) -> Answer<String> {
        self.property(MANAGER, "org.freedesktop.systemd1.Manager", name)
    }

    /// A property that is a string, of any object.
    pub fn property(&mut self, path: &str, interface: &str, name: &str) -> Answer<String> {
        let answer = self.get(path, interface, name)?;
        let mut body = answer.body();
        match body.signature()?.as_str() {
            "s" => Ok(body.text()?),
            other => Err(unexpected(name, other)),
        }
    }

    /// A property that is a limit, of any object: a number, a set as a bit mask, or what DevicePolicy and DeviceAllow are.
    pub fn limit(&mut self, path: &str, interface: &str, name: &str) -> Answer<Value> {
        let answer = self.get(path, interface, name)?;
        let mut body = answer.body();
        match body.signature()?.as_str() {
            "t" => Ok(Value::Uint64(body.u64()?)),
            "s" => Ok(Value::text(body.text()?)),
            "a(ss)" => Ok(Value::pairs(body.pairs()?)),
            "ay" => Ok(Value::Array("y".to_owned(), body.bytes()?.iter().copied().map(Value::Byte).collect())),
            other => Err(unexpected(name, other)),
        }
    }

    /// The answer's body is a property's value, as a variant.
    fn get(&mut self, path: &str, interface: &str, name: &str) -> Answer<BusMessage> {
        let get = Method { destination: SYSTEMD, path, interface: "org.freedesktop.DBus.Properties", name: "Get" };
        self.call(&get, &[Value::text(interface), Value::text(name)])
    }

    /// Waits for the end of `job` and returns its result, or `None` once `deadline` is over.
    pub fn job_result(&mut self, job: &str, deadline: Instant) -> Answer<Option<String>> {
        loop {
            if let Some(index) = self.ended.iter().position(|(path, _)| path == job) {
                return Ok(Some(self.ended.swap_remove(index).1));
            }
            match self.message(deadline) {
                Err(CallFailed::Other(_)) if Instant::now() >= deadline => return Ok(None),
                message => drop(message?),
            }
        }
    }
}

fn unexpected(name: &str, signature: &str) -> CallFailed {
    CallFailed::Other(anyhow!("property {name} of systemd is of type {signature:?}"))
}

fn job_end(body: &mut Reader) -> Result<JobEnd> {
    let (_id, path, _unit, result) = (body.u32()?, body.text()?, body.text()?, body.text()?);
    Ok((path, result))
}

fn lost(error: std::io::Error, what: &'static str) -> CallFailed {
    let gone =
        matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted);
    let error = anyhow::Error::from(error).context(what);
    if gone { CallFailed::Disconnected(error) } else { CallFailed::Other(error) }
}

/// Tries again while the socket is about to be listened at: systemd is executed anew. For room in the queue of one that
/// listens, the kernel has waited.
fn retry<T>(mut connect: impl FnMut() -> Result<T, Fault>) -> Answer<T> {
    let mut wait = Duration::from_millis(100);
    for _ in 1..TRIES {
        match connect() {
            Err(error) if error.errno == Errno::ECONNREFUSED => std::thread::sleep(wait),
            result => return result.map_err(|error| CallFailed::Other(error.into())),
        }
        wait *= 2;
    }
    connect().map_err(|error| CallFailed::Other(error.into()))
}

#[cfg(test)]
mod tests;
