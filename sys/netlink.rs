//! rtnetlink(7), as far as moving a network device takes: find it, list its addresses, move it, give it its addresses and
//! set it up. One request, one answer; the kernel has answered before the request's call returns.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::error::{Errno, Result, SysError, check};
use super::namespace::{self, Kind};

/// A socket in one network namespace, which it keeps alive.
#[derive(Debug)]
pub struct Netlink(OwnedFd);

/// A network device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    pub index: u32,
    pub is_up: bool,
}

/// An address of a device: everything of it that is not bound to the device or to the moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceAddress {
    family: u8,
    prefix: u8,
    scope: u8,
    flags: u32,
    /// The attributes to give it, as they came.
    attributes: Vec<(u16, Vec<u8>)>,
}

// linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE_EXCL: u16 = 0x600;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
/// Linux 5.13.
const IFLA_NEW_IFINDEX: u16 = 49;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;
const IFA_F_PERMANENT: u32 = 0x80;
/// NODAD, HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN: what somebody asked for. The others say how it fares.
const IFA_F_CHOSEN: u32 = 0x02 | 0x10 | 0x100 | 0x200 | 0x400;
const RT_SCOPE_UNIVERSE: u8 = 0;
const IFF_UP: u32 = 1;

const HEADER: usize = 16;
const LINK: usize = 16;
const ADDRESS: usize = 8;

impl Netlink {
    /// A socket in the caller's network namespace.
    pub fn open() -> Result<Self> {
        // SAFETY: no pointers.
        let ret = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) };
        let fd = check("socket", ret.into())?;
        // SAFETY: the kernel just made it for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// A socket in another network namespace. The caller is back in its own afterwards.
    pub fn open_in(namespace: BorrowedFd) -> Result<Self> {
        let own = File::open("/proc/self/ns/net").map_err(|error| SysError::io("open", &error))?;
        namespace::join(namespace, Kind::Net)?;
        let socket = Self::open();
        namespace::join(own.as_fd(), Kind::Net)?;
        socket
    }

    /// The device of this name; `None`: there is none.
    pub fn link_by_name(&self, name: &str) -> Result<Option<Link>> {
        let mut request = NetlinkRequest::link(RTM_GETLINK, 0, 0, 0);
        request.text(IFLA_IFNAME, name);
        self.link(request)
    }

    /// Whether some device has this index.
    pub fn has_index(&self, index: u32) -> Result<bool> {
        self.link(NetlinkRequest::link(RTM_GETLINK, index, 0, 0)).map(|link| link.is_some())
    }

    fn link(&self, request: NetlinkRequest) -> Result<Option<Link>> {
        let mut found = None;
        let answered = self.ask("RTM_GETLINK", request, |kind, body| {
            if let (RTM_NEWLINK, Some(index), Some(flags)) = (kind, u32_at(body, 4), u32_at(body, 8)) {
                found = Some(Link { index, is_up: flags & IFF_UP != 0 });
            }
        });
        match answered {
            Err(error) if error.errno == Errno::ENODEV => Ok(None),
            result => result.map(|()| found),
        }
    }

    /// The permanent addresses of global scope that the device has.
    pub fn global_addresses(&self, index: u32) -> Result<Vec<DeviceAddress>> {
        let mut addresses = Vec::new();
        let request = NetlinkRequest::new(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, &[0; ADDRESS]);
        self.ask("RTM_GETADDR", request, |kind, body| {
            if kind == RTM_NEWADDR && u32_at(body, 4) == Some(index) {
                addresses.extend(DeviceAddress::parse(body));
            }
        })?;
        Ok(addresses)
    }

    /// Moves a device of this socket's namespace to `namespace`, where it is called `name` and has index `new_index`. All
    /// its addresses are gone, and it is down. ENODEV: no such device; EINVAL: it belongs to its namespace, as `lo` does;
    /// EEXIST, EBUSY: name or index is taken.
    pub fn move_link(&self, index: u32, namespace: BorrowedFd, name: &str, new_index: u32) -> Result<()> {
        let mut request = NetlinkRequest::link(RTM_SETLINK, index, 0, 0);
        request.number(IFLA_NET_NS_FD, namespace.as_raw_fd() as u32);
        request.text(IFLA_IFNAME, name);
        request.number(IFLA_NEW_IFINDEX, new_index);
        self.ask("RTM_SETLINK", request, |_, _| {})
    }

    pub fn set_up(&self, index: u32) -> Result<()> {
        self.ask("RTM_SETLINK", NetlinkRequest::link(RTM_SETLINK, index, IFF_UP, IFF_UP), |_, _| {})
    }

    pub fn add_address(&self, index: u32, address: &DeviceAddress) -> Result<()> {
        let [a, b, c, d] = index.to_ne_bytes();
        let body = [address.family, address.prefix, 0, address.scope, a, b, c, d];
        let mut request = NetlinkRequest::new(RTM_NEWADDR, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE_EXCL, &body);
        request.number(IFA_FLAGS, address.flags);
        for (kind, value) in &address.attributes {
            request.attribute(*kind, value);
        }
        self.ask("RTM_NEWADDR", request, |_, _| {})
    }

    /// Sends a request and reads to the end of its answer: an acknowledgement, or the last part.
    fn ask(&self, call: &'static str, request: NetlinkRequest, mut each: impl FnMut(u16, &[u8])) -> Result<()> {
        let bytes = request.finish();
        // SAFETY: `bytes` outlives the call.
        let ret = unsafe { libc::send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        check(call, ret as libc::c_long)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            // SAFETY: the buffer has room for as many bytes as we say, and outlives the call.
            let ret = unsafe { libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            let length = match check(call, ret as libc::c_long) {
                Err(error) if error.errno == Errno::EINTR => continue,
                result => result? as usize,
            };
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some((kind, flags, body, next)) = message(rest) {
                match kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => match u32_at(body, 0).unwrap_or_default() as i32 {
                        0 => return Ok(()),
                        errno => return Err(SysError::new(call, Errno::from_raw(-errno))),
                    },
                    _ => each(kind, body),
                }
                // The one message that a question for one device is answered with; parts have NLM_F_MULTI.
                if flags & 2 == 0 && kind == RTM_NEWLINK {
                    return Ok(());
                }
                rest = next;
            }
        }
    }
}

impl DeviceAddress {
    /// None: not global, or of limited life.
    fn parse(body: &[u8]) -> Option<Self> {
        let &[family, prefix, flags, scope, ..] = body else { return None };
        let (mut flags, mut attributes) = (u32::from(flags), Vec::new());
        let mut rest = body.get(ADDRESS..)?;
        while let Some((kind, value, next)) = attribute(rest) {
            match kind {
                IFA_FLAGS => flags = u32_at(value, 0)?,
                IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST | IFA_RT_PRIORITY => attributes.push((kind, value.to_vec())),
                _ => {}
            }
            rest = next;
        }
        let keep = flags & IFA_F_PERMANENT != 0 && scope == RT_SCOPE_UNIVERSE;
        keep.then_some(Self { family, prefix, scope, flags: flags & IFA_F_CHOSEN, attributes })
    }
}

/// A request being put together.
struct NetlinkRequest(Vec<u8>);

impl NetlinkRequest {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        Self(bytes)
    }

    /// About a device: `struct ifinfomsg`.
    fn link(kind: u16, index: u32, flags: u32, change: u32) -> Self {
        let ack = if kind == RTM_GETLINK { 0 } else { NLM_F_ACK };
        let mut body = [0; LINK];
        for (slot, byte) in body.iter_mut().skip(4).zip([index, flags, change].iter().flat_map(|n| n.to_ne_bytes())) {
            *slot = byte;
        }
        Self::new(kind, NLM_F_REQUEST | ack, &body)
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = 4 + value.len();
        self.0.extend((length as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, &[value.as_bytes(), b"\0"].concat());
    }

    fn finish(mut self) -> Vec<u8> {
        let length = (self.0.len() as u32).to_ne_bytes();
        for (slot, byte) in self.0.iter_mut().zip(length) {
            *slot = byte;
        }
        self.0
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|bytes| u16::from_ne_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|bytes| u32::from_ne_bytes(*bytes))
}

/// The first message: its type, its flags, what is in it, and what comes behind it.
fn message(bytes: &[u8]) -> Option<(u16, u16, &[u8], &[u8])> {
    let length = u32_at(bytes, 0)? as usize;
    let body = bytes.get(HEADER..length)?;
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((u16_at(bytes, 4)?, u16_at(bytes, 6)?, body, next))
}

/// The first attribute: its type, its value, and what comes behind it.
fn attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::from(u16_at(bytes, 0)?);
    let value = bytes.get(4..length)?;
    Some((u16_at(bytes, 2)?, value, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::{Kinds, unshare};
    use crate::testing::in_a_child;

    #[test]
    fn a_truncated_message_is_no_message() {
        assert!(message(&[0; 15]).is_none());
        assert!(message(&NetlinkRequest::new(RTM_GETLINK, 0, &[]).0).is_none());
        let whole = NetlinkRequest::link(RTM_GETLINK, 7, 0, 0).finish();
        assert!(message(&whole).is_some());
        assert!(message(whole.get(..31).unwrap()).is_none());
        assert!(attribute(&[3, 0, 1, 0]).is_none());
        assert!(attribute(&[8, 0, 1, 0, 9]).is_none());
        assert_eq!(attribute(&[5, 0, 1, 0, 9, 0, 0, 0]), Some((1, &[9][..], &[][..])));
    }

    #[test]
    fn a_device_is_found_set_up_and_given_an_address() {
        in_a_child(|| {
            if unshare(Kinds::NONE.with(Kind::User).with(Kind::Net)).is_err() {
                crate::testing::skip("user-namespaces", "unshare is refused");
                return Ok(());
            }
            let netlink = Netlink::open()?;
            let lo = netlink.link_by_name("lo")?.ok_or("no lo")?;
            assert_eq!(lo, Link { index: 1, is_up: false });
            assert_eq!((netlink.has_index(1)?, netlink.has_index(4711)?), (true, false));
            assert_eq!(netlink.link_by_name("nosuchdevice")?, None);
            netlink.set_up(1)?;
            assert!(netlink.link_by_name("lo")?.ok_or("no lo")?.is_up);
            // 127.0.0.1 has the scope of a host.
            assert_eq!(netlink.global_addresses(1)?, []);
            let flags = IFA_F_CHOSEN & 0x200;
            let attributes = vec![(IFA_ADDRESS, vec![192, 0, 2, 1]), (IFA_LOCAL, vec![192, 0, 2, 1])];
            let address = DeviceAddress { family: libc::AF_INET as u8, prefix: 24, scope: 0, flags, attributes };
            netlink.add_address(1, &address)?;
            assert_eq!(netlink.global_addresses(1)?, std::slice::from_ref(&address));
            assert_eq!(netlink.add_address(1, &address).unwrap_err().errno, Errno::EEXIST);
            Ok(())
        });
    }
}
