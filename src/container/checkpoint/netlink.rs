//! Netlink messages in CRIU's images, which ip(8) and CRIU send as they are, as root, in the container's network namespace: those of
//! another type change what is not the container's, and a message of any type may name another network namespace.
//!
//! Types, headers and attributes of linux/netlink.h, rtnetlink.h, if_addr.h, fib_rules.h and netfilter/nfnetlink.h.

use anyhow::{Context, Result, bail, ensure};

/// `struct nlmsghdr`, and what everything is aligned to.
const HEADER: usize = 16;
const ALIGNED: usize = 4;

/// `struct nlattr`, and the bits of a type that are none of its number.
const ATTRIBUTE: usize = 4;
const NUMBER: u16 = 0x3fff;

/// NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE and NLM_F_APPEND are set by those that send; what is dumped has NLM_F_MULTI,
/// NLM_F_DUMP_INTR and NLM_F_DUMP_FILTERED.
const OF_A_DUMP: u16 = 0x2 | 0x10 | 0x20;

/// CRIU's CR_NLMSG_SEQ: it waits for an answer of this number, without an end.
const SEQUENCE: u32 = 24_680;

/// `struct nfgenmsg`.
const NETFILTER: usize = 4;

/// NFNL_SUBSYS_CTNETLINK and NFNL_SUBSYS_CTNETLINK_EXP, with IPCTNL_MSG_CT_NEW and IPCTNL_MSG_EXP_NEW.
const CONNECTION: u16 = 1 << 8;
const EXPECTATION: u16 = 2 << 8;

/// What ip(8) has saved.
struct Stream {
    /// The first four bytes, by iproute2.
    magic: u32,
    kind: u16,
    /// The length of the structure behind the header.
    body: usize,
    /// An attribute that is the number of another network namespace.
    of_another: Option<u16>,
}

/// RTM_NEWROUTE, RTM_NEWADDR with IFA_TARGET_NETNSID, RTM_NEWRULE.
const ROUTE: Stream = Stream { magic: 0x4531_1224, kind: 24, body: 12, of_another: None };
const ADDRESS: Stream = Stream { magic: 0x4736_1222, kind: 20, body: 8, of_another: Some(10) };
const RULE: Stream = Stream { magic: 0x7170_6986, kind: 32, body: 12, of_another: None };

/// A message: its header, and what is behind it.
struct NetlinkMessage<'b> {
    kind: u16,
    flags: u16,
    sequence: u32,
    rest: &'b [u8],
}

pub fn routes(bytes: &[u8]) -> Result<()> {
    ROUTE.check(bytes)
}

pub fn addresses(bytes: &[u8]) -> Result<()> {
    ADDRESS.check(bytes)
}

pub fn rules(bytes: &[u8]) -> Result<()> {
    RULE.check(bytes)
}

/// Connections that the kernel tracks. CRIU has the same in the image of expectations.
pub fn tracked(bytes: &[u8]) -> Result<()> {
    for message in messages(bytes)? {
        let is_known = [CONNECTION, EXPECTATION].contains(&message.kind);
        ensure!(is_known, "a message of type {:#x}, which is no connection", message.kind);
        ensure!(message.sequence == SEQUENCE, "a message that CRIU would wait for without an end");
        attributes(&message, NETFILTER)?;
    }
    Ok(())
}

impl Stream {
    fn check(&self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (magic, rest) = bytes.split_first_chunk::<4>().context("ends within its first number")?;
        ensure!(u32::from_ne_bytes(*magic) == self.magic, "is none of ip(8)");
        for message in messages(rest)? {
            ensure!(message.kind == self.kind, "a message of type {}, not {}", message.kind, self.kind);
            ensure!(message.flags & !OF_A_DUMP == 0, "a message with flags {:#x}", message.flags);
            let of_another = attributes(&message, self.body)?.into_iter().find(|kind| Some(*kind) == self.of_another);
            ensure!(of_another.is_none(), "a message for another network namespace");
        }
        Ok(())
    }
}

/// All messages, each of which ends where it may.
fn messages(mut bytes: &[u8]) -> Result<Vec<NetlinkMessage<'_>>> {
    let mut messages = Vec::new();
    while let Some((header, _)) = bytes.split_first_chunk::<HEADER>() {
        let [a, b, c, d, kind, of_kind, flags, of_flags, e, f, g, h, ..] = *header;
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        ensure!(length.is_multiple_of(ALIGNED) && length >= HEADER, "a message of {length} bytes");
        let (message, rest) = bytes.split_at_checked(length).context("ends within a message")?;
        messages.push(NetlinkMessage {
            kind: u16::from_ne_bytes([kind, of_kind]),
            flags: u16::from_ne_bytes([flags, of_flags]),
            sequence: u32::from_ne_bytes([e, f, g, h]),
            rest: message.get(HEADER..).unwrap_or_default(),
        });
        bytes = rest;
    }
    ensure!(bytes.is_empty(), "{} bytes behind the last message", bytes.len());
    Ok(messages)
}

/// The numbers of its attributes, which are behind a structure of `body` bytes.
fn attributes(message: &NetlinkMessage, body: usize) -> Result<Vec<u16>> {
    let mut rest = message.rest.get(body..).context("a message without its structure")?;
    let mut kinds = Vec::new();
    while let [a, b, kind, of_kind, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        ensure!(length >= ATTRIBUTE, "an attribute of {length} bytes");
        kinds.push(u16::from_ne_bytes([kind, of_kind]) & NUMBER);
        let Some(after) = rest.get(length.next_multiple_of(ALIGNED)..) else { bail!("ends within an attribute") };
        rest = after;
    }
    ensure!(rest.is_empty(), "{} bytes behind the last attribute", rest.len());
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, data: &[u8]) -> Vec<u8> {
        let mut bytes = [&(ATTRIBUTE as u16 + data.len() as u16).to_ne_bytes()[..], &kind.to_ne_bytes(), data].concat();
        bytes.resize(bytes.len().next_multiple_of(ALIGNED), 0);
        bytes
    }

    fn message(kind: u16, flags: u16, sequence: u32, body: usize, attributes: &[u8]) -> Vec<u8> {
        let length = (HEADER + body + attributes.len()) as u32;
        let body = vec![0; body];
        [
            &length.to_ne_bytes()[..],
            &kind.to_ne_bytes(),
            &flags.to_ne_bytes(),
            &sequence.to_ne_bytes(),
            &[0; 4],
            &body,
            attributes,
        ]
        .concat()
    }

    fn stream(kind: &Stream, messages: &[u8]) -> Vec<u8> {
        [&kind.magic.to_ne_bytes()[..], messages].concat()
    }

    /// `ip route save` and `ip addr save`, of a real one.
    #[test]
    fn what_ip_has_saved_is_let_pass() {
        let route = [
            0x24, 0x12, 0x31, 0x45, 0x3c, 0, 0, 0, 0x18, 0, 0x22, 0, 0xe3, 0xbd, 0x0d, 0x6b, 0xb4, 0x56, 0, 0, 2, 0x18,
            0, 0, 0xfe, 2, 0xfd, 1, 0x10, 0, 0, 0, 8, 0, 0x0f, 0, 0xfe, 0, 0, 0, 8, 0, 1, 0, 10, 3, 3, 0, 8, 0, 7, 0,
            10, 3, 3, 1, 8, 0, 4, 0, 3, 0, 0, 0,
        ];
        routes(&route).unwrap();
        addresses(&route).expect_err("of routes");
        let label = [attribute(1, &[127, 0, 0, 1]), attribute(3, b"lo\0"), attribute(8, &[0; 4])].concat();
        let one = message(20, 2, 7, 8, &label);
        addresses(&stream(&ADDRESS, &[one.clone(), one].concat())).unwrap();
        rules(&stream(&RULE, &message(32, 2, 7, 12, &attribute(15, &[255, 0, 0, 0])))).unwrap();
        for check in [routes, addresses, rules, tracked] {
            check(b"").unwrap();
        }
    }

    #[test]
    fn messages_of_another_type_and_for_others_are_refused() {
        let good = message(24, 2, 7, 12, &attribute(4, &[3, 0, 0, 0]));
        routes(&stream(&ROUTE, &good)).unwrap();
        // RTM_DELLINK, RTM_NEWNSID, and RTM_NEWLINK behind a good one.
        for kind in [17, 88, 16, 25] {
            routes(&stream(&ROUTE, &[good.clone(), message(kind, 0, 1, 16, &[])].concat())).expect_err("type");
        }
        // NLM_F_REPLACE
        routes(&stream(&ROUTE, &message(24, 0x100, 7, 12, &[]))).expect_err("flags");
        addresses(&stream(&ADDRESS, &message(20, 2, 7, 8, &attribute(10, &[7, 0, 0, 0])))).expect_err("namespace");
        addresses(&stream(&ADDRESS, &message(20, 2, 7, 8, &attribute(0x800a, &[7, 0, 0, 0]))))
            .expect_err("namespace, nested");
        for bytes in [&b"x"[..], b"xxxx", &stream(&ROUTE, &good[..30]), &stream(&ROUTE, b"12"), &stream(&RULE, &good)] {
            routes(bytes).expect_err("shape");
        }
        for bytes in [&[0, 0, 0, 0][..], &[3, 0, 4, 0], &[9, 0, 4, 0, 0, 0, 0, 0], b"1234"] {
            routes(&stream(&ROUTE, &message(24, 2, 7, 12, bytes))).expect_err("attribute");
        }
        routes(&stream(&ROUTE, &message(24, 2, 7, 8, &[]))).expect_err("structure");
    }

    #[test]
    fn only_connections_are_sent_to_netfilter() {
        for kind in [CONNECTION, EXPECTATION] {
            tracked(&message(kind, 2, SEQUENCE, NETFILTER, &attribute(1, &[0; 8]))).unwrap();
            tracked(&message(kind, 2, 1, NETFILTER, &[])).expect_err("a sequence without an answer");
            tracked(&message(kind, 2, SEQUENCE, 0, &[])).expect_err("structure");
            tracked(&message(kind, 2, SEQUENCE, NETFILTER, &[])[..18]).expect_err("shape");
        }
        // Accounting, a deletion, nftables, and a batch of any.
        for kind in [7 << 8, 1 << 8 | 2, 10 << 8, 16] {
            tracked(&message(kind, 2, SEQUENCE, NETFILTER, &[])).expect_err("type");
        }
    }
}
