//! Numbers of CRIU's images that it gives to system calls as root: what an open file, a socket or a watch of an image would
//! be that its process could not make by config.json is refused before CRIU starts.
//!
//! Field numbers of CRIU 4.1's images/fdinfo.proto and of what that imports.

use std::os::fd::BorrowedFd;

use anyhow::{Context, Result, bail, ensure};
use caps::Capability::{self, *};
use prost::Message;

use super::entries::{messages, names, with_data};
use super::wire::Fields;
use crate::error::field;

/// Fields of `file_entry`: the kinds of open files.
const INET: u32 = 4;
const PACKET: u32 = 6;
const NETLINK: u32 = 7;
const TUN: u32 = 11;
const TIMERFD: u32 = 12;
const INOTIFY: u32 = 13;
const FANOTIFY: u32 = 14;
const UNIX: u32 = 16;
const BPF_MAP: u32 = 21;
/// Besides: regular files, namespaces, eventfd, epoll, signalfd, timerfd, external files, FIFOs, pipes, terminals, memfd and
/// pidfd, which need nothing.
const LAST: u32 = 22;

/// The only flags of a mark that tell how it behaves (FAN_MARK_IGNORED_SURV_MODIFY, FAN_MARK_EVICTABLE), not what it is on.
const OF_A_MARK: u32 = 0x40 | 0x200;

/// SOCK_STREAM and SOCK_DGRAM, which anybody may have.
const PLAIN_SOCKETS: [u32; 2] = [1, 2];

/// NETLINK_ROUTE, NETLINK_KOBJECT_UEVENT, NETLINK_GENERIC: everybody may listen (linux/netlink.h).
const FOR_ALL: [u32; 3] = [0, 15, 16];
const NETLINK_AUDIT: u32 = 9;

/// SECBIT_KEEP_CAPS, which everybody may set (capabilities(7)).
const KEEP_CAPS: u32 = 1 << 4;

/// The most that a buffer of a socket can be asked to be, and a pipe. The kernel doubles the first (socket(7)).
const BUFFERS: [&str; 2] = ["/proc/sys/net/core/wmem_max", "/proc/sys/net/core/rmem_max"];
const PIPE: &str = "/proc/sys/fs/pipe-max-size";

/// The highest SO_PRIORITY that takes no capability, socket(7).
const PRIORITY: u32 = 6;

/// SECCOMP_FILTER_FLAG_TSYNC, which CRIU saves where all threads have the filter, and LOG; then SPEC_ALLOW (linux/seccomp.h).
const OF_A_FILTER: u32 = 1 | 2;
const SPEC_ALLOW: u32 = 4;

/// CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM (linux/time.h).
const ALARMS: [u32; 2] = [8, 9];

/// Images that CRIU has put into files.img and core-*.img for long, and still reads: of each kind of open files one, and of
/// parts of a process.
const OLD: [&str; 28] = [
    "reg-files.img",
    "ext-files.img",
    "ns-files.img",
    "eventfd.img",
    "eventpoll.img",
    "eventpoll-tfd.img",
    "signalfd.img",
    "inotify.img",
    "inotify-wd.img",
    "fanotify.img",
    "fanotify-mark.img",
    "pipes.img",
    "fifo.img",
    "unixsk.img",
    "inetsk.img",
    "packetsk.img",
    "netlinksk.img",
    "tty.img",
    "tunfile.img",
    "timerfd.img",
    "bpfmap-file.img",
    "creds-",
    "itimers-",
    "posix-timers-",
    "sigacts-",
    "rlimit-",
    "signal-",
    "vmas-",
];

/// What the container may by config.json.
pub struct May {
    /// All that a process of it can come to have, one bit each.
    pub capabilities: u64,
    /// Whether it has the runtime's namespace of the kind.
    pub hosts_users: bool,
    pub hosts_network: bool,
    /// Whether it has a pid namespace, or one of host names, of its own.
    pub own_processes: bool,
    pub own_names: bool,
    pub user: u32,
    /// Whether no process of it can come to be of another user.
    pub keeps_user: bool,
    /// SECCOMP_FILTER_FLAG_* of config.json.
    pub filter_flags: u32,
    /// Where config.json has them.
    pub hostname: Option<String>,
    pub domainname: Option<String>,
}

/// Fails where an image has an open file that the container's processes could not have made.
pub fn check(images: BorrowedFd, may: &May) -> Result<()> {
    let names = names(images)?;
    for name in &names {
        let is_old = OLD.iter().any(|old| name == old || old.ends_with('-') && name.starts_with(old));
        ensure!(!is_old, "--image-path: {name}: an image of an old version of CRIU");
    }
    for file in messages(images, "files.img")? {
        may.open(&file).context("--image-path: files.img")?;
    }
    for name in names.iter().filter(|name| ["pipes-data.img", "fifo-data.img"].contains(&name.as_str())) {
        let pipes = with_data::<PipeData>(images, name, |pipe| pipe.bytes as usize)?;
        pipes.iter().try_for_each(|pipe| may.pipe(pipe)).with_context(|| format!("--image-path: {name}"))?;
    }
    for name in &names {
        let check: fn(&May, &Fields) -> Result<()> = match name.split('-').next() {
            Some("core") => May::core,
            Some("seccomp.img") => May::filters,
            Some("utsns") => May::names,
            _ => continue,
        };
        for entry in messages(images, name)? {
            Fields::parse(&entry)
                .and_then(|entry| check(may, &entry))
                .with_context(|| format!("--image-path: {name}"))?;
        }
    }
    Ok(())
}

/// `pipe_data_entry` of images/pipe-data.proto; its data follows.
#[derive(Clone, PartialEq, Message)]
struct PipeData {
    #[prost(uint32, tag = "2")]
    bytes: u32,
    #[prost(uint32, optional, tag = "3")]
    size: Option<u32>,
}

/// The number in a file of sysctls.
fn sysctl(path: &str) -> Result<u64> {
    Ok(std::fs::read_to_string(path).context(path.to_owned())?.trim().parse()?)
}

/// The first port that everybody may bind.
fn first_port() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    // 1024 before Linux 4.11, which has no such file: ip(7).
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

impl May {
    fn has(&self, capability: Capability) -> bool {
        self.capabilities & capability.bitmask() != 0
    }

    /// An entry of files.img.
    fn open(&self, file: &[u8]) -> Result<()> {
        let file = Fields::parse(file)?;
        let unknown = file.tags().find(|tag| *tag > LAST);
        ensure!(unknown.is_none(), "an open file of an unknown kind ({})", unknown.unwrap_or_default());
        for (kind, name, all) in [
            (FANOTIFY, "fanotify", &[CAP_SYS_ADMIN, CAP_DAC_READ_SEARCH][..]),
            (PACKET, "a packet socket", &[CAP_NET_RAW]),
            (TUN, "a tun device", &[CAP_NET_ADMIN]),
        ] {
            let may = all.iter().all(|capability| self.has(*capability));
            ensure!(may || file.bytes(kind).next().is_none(), "{name} is not for a container without the capability");
        }
        let may = self.has(CAP_BPF) || self.has(CAP_SYS_ADMIN);
        ensure!(may || file.bytes(BPF_MAP).next().is_none(), "a BPF map is not for a container without the capability");
        file.messages(FANOTIFY)?.iter().try_for_each(|group| self.fanotify(group))?;
        file.messages(INOTIFY)?.iter().try_for_each(|group| self.inotify(group))?;
        file.messages(TIMERFD)?.iter().try_for_each(|timer| self.clock(timer, 4))?;
        file.messages(INET)?.iter().try_for_each(|socket| self.inet(socket))?;
        file.messages(NETLINK)?.iter().try_for_each(|socket| self.netlink(socket))?;
        for (kind, options) in [(INET, 14), (UNIX, 10), (PACKET, 7), (NETLINK, 12)] {
            for socket in file.messages(kind)? {
                // The type of an internet socket; SOCK_STREAM.
                let is_stream = kind == INET && socket.numbers(4)?.contains(&1);
                socket.messages(options)?.iter().try_for_each(|options| self.options(options, is_stream))?;
            }
        }
        Ok(())
    }

    /// What of a file system a mark is on is up to its flags: all of it, with some. It has CRIU's rights, not the container's.
    fn fanotify(&self, group: &Fields) -> Result<()> {
        ensure!(self.hosts_users, "fanotify is not for a container in a user namespace");
        for mark in group.messages(6)? {
            for flags in mark.numbers(3)? {
                ensure!(flags & !OF_A_MARK == 0, "fanotify: a mark with flags that CRIU never saves ({flags:#x})");
            }
        }
        Ok(())
    }

    /// A handle names any file of a file system, one outside of the container's mounts, too; a path in a mount of the
    /// container does not.
    fn inotify(&self, group: &Fields) -> Result<()> {
        if self.has(CAP_DAC_READ_SEARCH) {
            return Ok(());
        }
        for watch in group.messages(5)? {
            let handles = watch.messages(7)?;
            ensure!(!handles.is_empty(), "inotify: a watch of nothing");
            for handle in handles {
                let has_path = handle.bytes(4).next().is_some() && handle.bytes(4).all(|path| path.starts_with(b"/"));
                let mounts = handle.numbers(5)?;
                let has_mount = !mounts.is_empty() && !mounts.contains(&u32::MAX);
                ensure!(
                    has_path && has_mount,
                    "inotify: a watch that is told by a handle, not by a path of the container"
                );
            }
        }
        Ok(())
    }

    fn inet(&self, socket: &Fields) -> Result<()> {
        let is_plain = socket.numbers(4)?.iter().all(|kind| PLAIN_SOCKETS.contains(kind));
        ensure!(is_plain || self.has(CAP_NET_RAW), "a raw socket is not for a container without the capability");
        // A network namespace of its own has a first port of its own, too.
        let first = if self.hosts_network && !self.has(CAP_NET_BIND_SERVICE) { first_port() } else { 0 };
        for port in socket.numbers(7)? {
            ensure!(port == 0 || port >= first, "port {port} is not for a container without the capability");
        }
        Ok(())
    }

    fn netlink(&self, socket: &Fields) -> Result<()> {
        let listens = socket.numbers(8)?.iter().any(|groups| *groups != 0);
        for protocol in socket.numbers(3)? {
            let may = match protocol {
                protocol if FOR_ALL.contains(&protocol) => true,
                NETLINK_AUDIT => self.has(CAP_AUDIT_READ),
                _ => self.has(CAP_NET_ADMIN),
            };
            ensure!(may || !listens, "a group of netlink {protocol} is not for a container without the capability");
        }
        Ok(())
    }

    /// A process's timers, and what its threads are.
    fn core(&self, entry: &Fields) -> Result<()> {
        entry.messages(5)?.iter().try_for_each(|thread| self.secure_bits(thread))?;
        for process in entry.messages(3)? {
            for timers in process.messages(7)? {
                timers.messages(4)?.iter().try_for_each(|timer| self.clock(timer, 2))?;
            }
        }
        Ok(())
    }

    fn pipe(&self, pipe: &PipeData) -> Result<()> {
        if let Some(size) = pipe.size.filter(|_| !self.has(CAP_SYS_RESOURCE)) {
            let most = sysctl(PIPE)?;
            ensure!(u64::from(size) <= most, "a pipe of {size} bytes is not for a container without the capability");
        }
        Ok(())
    }

    /// Bits of a thread by which ids and capabilities have less to do with each other.
    fn secure_bits(&self, thread: &Fields) -> Result<()> {
        for credentials in thread.messages(10)? {
            let bits = credentials.numbers(13)?.into_iter().find(|bits| bits & !KEEP_CAPS != 0);
            let may = bits.is_none() || self.has(CAP_SETPCAP);
            ensure!(may, "secure bits {:#x} are not for a container without the capability", bits.unwrap_or_default());
        }
        Ok(())
    }

    fn filters(&self, entry: &Fields) -> Result<()> {
        entry.messages(1)?.iter().try_for_each(|filter| self.filter(filter))
    }

    /// SECCOMP_FILTER_FLAG_NEW_LISTENER is a descriptor by which the container answers its own calls.
    fn filter(&self, filter: &Fields) -> Result<()> {
        let known = OF_A_FILTER | self.filter_flags & SPEC_ALLOW;
        for flags in filter.numbers(3)? {
            ensure!(flags & !known == 0, "a filter with flags that config.json does not have ({flags:#x})");
        }
        Ok(())
    }

    /// Who has CAP_SYS_ADMIN may have changed them.
    fn names(&self, names: &Fields) -> Result<()> {
        if !self.own_names || self.has(CAP_SYS_ADMIN) {
            return Ok(());
        }
        for (tag, field, wanted) in [(1, "hostname", &self.hostname), (2, "domainname", &self.domainname)] {
            let Some(wanted) = wanted else { continue };
            let other = names.bytes(tag).find(|name| *name != wanted.as_bytes());
            let found = other.map(|name| String::from_utf8_lossy(name).into_owned());
            ensure!(found.is_none(), field!("{field}"; "{wanted:?}, and {:?} in the image", found.unwrap_or_default()));
        }
        Ok(())
    }

    /// A clock that wakes the machine.
    fn clock(&self, timer: &Fields, tag: u32) -> Result<()> {
        let wakes = timer.numbers(tag)?.iter().any(|clock| ALARMS.contains(clock));
        ensure!(
            !wakes || self.has(CAP_WAKE_ALARM),
            "a timer that wakes the machine is not for a container without the capability"
        );
        Ok(())
    }

    /// `sk_opts_entry`.
    fn options(&self, options: &Fields, is_stream: bool) -> Result<()> {
        if self.has(CAP_NET_ADMIN) {
            return Ok(());
        }
        // Of a connection, it grows by itself up to what the sysctls of the container's network let it.
        if !is_stream {
            let most = BUFFERS
                .iter()
                .map(|path| sysctl(path))
                .collect::<Result<Vec<_>>>()?
                .into_iter()
                .max()
                .unwrap_or_default();
            let sizes = [options.numbers(1)?, options.numbers(2)?].concat();
            if let Some(size) = sizes.into_iter().find(|size| u64::from(*size) > 2 * most) {
                bail!("a buffer of a socket of {size} bytes is not for a container without the capability");
            }
        }
        if let Some(priority) = options.numbers(8)?.iter().find(|priority| **priority > PRIORITY) {
            bail!("a socket of priority {priority} is not for a container without the capability");
        }
        let is_marked = options.numbers(10)?.iter().any(|mark| *mark != 0);
        ensure!(
            !is_marked || self.has(CAP_NET_RAW),
            "a socket with a mark is not for a container without the capability"
        );
        Ok(())
    }
}
