//! nf_tables over netlink (linux/netfilter/nf_tables.h): transactions on one table of family inet, and what is read back.
//!
//! A table is made with NFT_TABLE_F_OWNER: nobody but this socket can change it, and the kernel removes it when the socket
//! closes, however the process ends (net/netfilter/nf_tables_api.c, nft_rcv_nl_event).

mod expression;
mod read;

pub use expression::{Compare, Ct, Expression, Meta, Payload, Queue, QueueKind, Verdict};
pub use read::{Counter, Table};

use std::time::Duration;

use crate::agent::crash;

use super::netlink::{self, CREATE, EXCLUSIVE, Family, Message, Refused, Socket};

const SUBSYSTEM: u16 = 10;
/// NFPROTO_INET: IPv4 and IPv6 in one table.
const INET: u8 = 1;
/// Userdata of every table of ours; a table without it is somebody else's, whatever its name.
const MARK: &[u8] = b"squall\0";
/// A list attribute holds at most 64 KiB; the largest element is 60 bytes.
const ELEMENTS_PER_MESSAGE: usize = 500;

fn message(kind: u16, flags: u16) -> Message {
    Message::new((SUBSYSTEM << 8) | kind, flags, &[INET, 0, 0, 0])
}

/// Where a base chain listens (NF_INET_LOCAL_IN and so on).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Hook {
    Input = 1,
    Output = 3,
}

/// What a set's elements are; also tells people's `nft list ruleset` how to print them (the key types of nftables' datatype.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetOf {
    /// NFPROTO_IPV4 and NFPROTO_IPV6; elements time out.
    TimedFamilies,
    Ipv4Ranges,
    Ipv6Ranges,
    Ports,
    Protocols,
    Icmpv6Types,
}

/// One transaction on one table: all of it happens, or nothing.
#[derive(Debug)]
pub struct Batch {
    table: String,
    messages: Vec<Message>,
    sets: u32,
}

impl Batch {
    pub fn on(table: &str) -> Self {
        Batch { table: table.to_owned(), messages: Vec::new(), sets: 0 }
    }

    pub fn add_owned_table(&mut self) {
        const FLAG_OWNER: u32 = 2;
        let new = message(0, CREATE | EXCLUSIVE).put_text(1, &self.table).put_be32(2, FLAG_OWNER).put(6, MARK);
        self.messages.push(new);
    }

    pub fn delete_table(&mut self) {
        self.messages.push(message(2, 0).put_text(1, &self.table));
    }

    /// A chain that nothing reaches but a jump.
    pub fn add_chain(&mut self, name: &str) {
        self.messages.push(message(3, CREATE).put_text(1, &self.table).put_text(3, name));
    }

    /// Of type `filter`, policy accept.
    pub fn add_base_chain(&mut self, name: &str, hook: Hook, priority: i32) {
        const ACCEPT: u32 = 1;
        let new = message(3, CREATE)
            .put_text(1, &self.table)
            .put_text(3, name)
            .nest(4, |m| m.put_be32(1, hook as u32).put_be32(2, priority as u32))
            .put_be32(5, ACCEPT)
            .put_text(7, "filter");
        self.messages.push(new);
    }

    pub fn add_rule(&mut self, chain: &str, expressions: &[Expression]) {
        let new = message(6, CREATE | netlink::APPEND).put_text(1, &self.table).put_text(2, chain).nest(4, |m| {
            expressions.iter().fold(m, |m, expression| {
                const LIST_ELEMENT: u16 = 1;
                m.nest(LIST_ELEMENT, |m| expression.write(m))
            })
        });
        self.messages.push(new);
    }

    pub fn add_set(&mut self, name: &str, of: SetOf) {
        const INTERVAL: u32 = 0x4;
        const TIMEOUT: u32 = 0x10;
        let (flags, kind, length) = match of {
            SetOf::TimedFamilies => (TIMEOUT, 2, 1),
            SetOf::Ipv4Ranges => (INTERVAL, 7, 4),
            SetOf::Ipv6Ranges => (INTERVAL, 8, 16),
            SetOf::Ports => (0, 13, 2),
            SetOf::Protocols => (0, 12, 1),
            SetOf::Icmpv6Types => (0, 29, 1),
        };
        self.sets += 1;
        let new = message(9, CREATE)
            .put_text(1, &self.table)
            .put_text(2, name)
            .put_be32(3, flags)
            .put_be32(4, kind)
            .put_be32(5, length)
            .put_be32(10, self.sets);
        self.messages.push(new);
    }

    /// Keys as they are in packets (network order).
    pub fn add_elements(&mut self, set: &str, keys: &[Vec<u8>]) {
        let elements: Vec<Element> = keys.iter().map(|key| Element { key, flags: 0, timeout: None }).collect();
        self.elements(set, &elements);
    }

    /// Ranges `first..end` (end excluded; None: to the last address), sorted and disjoint.
    pub fn add_ranges(&mut self, set: &str, ranges: &[(Vec<u8>, Option<Vec<u8>>)]) {
        const INTERVAL_END: u32 = 1;
        let mut elements = Vec::with_capacity(ranges.len() * 2);
        for (first, end) in ranges {
            elements.push(Element { key: first, flags: 0, timeout: None });
            elements.extend(end.as_ref().map(|end| Element { key: end, flags: INTERVAL_END, timeout: None }));
        }
        self.elements(set, &elements);
    }

    /// Takes out every element; nothing is wrong if there is none.
    pub fn empty_set(&mut self, set: &str) {
        self.messages.push(message(14, 0).put_text(1, &self.table).put_text(2, set));
    }

    /// Gives both families of a [`SetOf::TimedFamilies`] this long from now.
    ///
    /// A plain re-add does not extend an element, so the set is emptied and filled in the same transaction.
    pub fn renew_families(&mut self, set: &str, life: Duration) {
        self.empty_set(set);
        self.add_families(set, life);
    }

    pub fn add_families(&mut self, set: &str, life: Duration) {
        // Zero would mean "for ever".
        let timeout = Some((life.as_millis() as u64).max(1));
        let families = [[libc::AF_INET as u8], [libc::AF_INET6 as u8]];
        let elements: Vec<Element> = families.iter().map(|key| Element { key, flags: 0, timeout }).collect();
        self.elements(set, &elements);
    }

    fn elements(&mut self, set: &str, elements: &[Element<'_>]) {
        for some in elements.chunks(ELEMENTS_PER_MESSAGE) {
            let new = message(12, CREATE)
                .put_text(1, &self.table)
                .put_text(2, set)
                .nest(3, |m| some.iter().fold(m, |m, element| m.nest(1, |m| element.write(m))));
            self.messages.push(new);
        }
    }

    pub fn commit(self, socket: &mut Socket) -> Result<(), Refused> {
        crash::point("nft-committing");
        let done = socket.batch(SUBSYSTEM, self.messages);
        crash::point("nft-committed");
        done
    }
}

#[derive(Debug)]
struct Element<'a> {
    key: &'a [u8],
    flags: u32,
    timeout: Option<u64>,
}

impl Element<'_> {
    fn write(&self, m: Message) -> Message {
        let mut m = m.nest(1, |m| m.put(1, self.key));
        if self.flags != 0 {
            m = m.put_be32(3, self.flags);
        }
        if let Some(timeout) = self.timeout {
            m = m.put_be64(4, timeout);
        }
        m
    }
}

/// A socket for nf_tables in this thread's network namespace.
pub fn open() -> Result<Socket, Refused> {
    Socket::open(Family::Netfilter)
}
