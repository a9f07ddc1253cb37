//! What nf_tables says of a table: whose it is, and what its counters count.

use nix::errno::Errno;

use super::{MARK, message};
use crate::agent::kernel::netlink::{Refused, Socket, attribute, attributes, be32, be64, text};

/// A table that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    /// It carries our mark.
    pub ours: bool,
    /// Port id of the netlink socket that owns it.
    pub owner: Option<u32>,
}

impl Table {
    /// None: no table of family inet has this name here.
    pub fn find(socket: &mut Socket, name: &str) -> Result<Option<Table>, Refused> {
        match socket.request(message(1, 0).put_text(1, name)) {
            Ok(replies) => Ok(replies.iter().find_map(|reply| Table::read(&reply.body))),
            Err(refused) if refused.errno == Errno::ENOENT => Ok(None),
            Err(refused) => Err(refused),
        }
    }

    /// All tables of family inet.
    pub fn all(socket: &mut Socket) -> Result<Vec<Table>, Refused> {
        Ok(socket.dump(message(1, 0))?.iter().filter_map(|reply| Table::read(&reply.body)).collect())
    }

    fn read(body: &[u8]) -> Option<Table> {
        let body = body.get(4..)?;
        Some(Table {
            name: text(attribute(body, 1)?),
            ours: attribute(body, 6).is_some_and(|mark| mark == MARK),
            owner: attribute(body, 7).and_then(be32),
        })
    }
}

/// Of one rule, or the sum of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counter {
    pub packets: u64,
    pub bytes: u64,
}

impl Counter {
    /// The sum of all counters in the rules of one chain.
    pub fn of_chain(socket: &mut Socket, table: &str, chain: &str) -> Result<Counter, Refused> {
        let mut sum = Counter::default();
        for reply in socket.dump(message(7, 0).put_text(1, table).put_text(2, chain))? {
            let Some(body) = reply.body.get(4..) else { continue };
            // The kernel filters dumps by table and chain, old ones not by both.
            let is = |kind, name| attribute(body, kind).map(text).is_some_and(|found| found == name);
            let Some(expressions) = attribute(body, 4).filter(|_| is(1, table) && is(2, chain)) else { continue };
            for (_, expression) in attributes(expressions) {
                let (Some(name), Some(data)) = (attribute(expression, 1), attribute(expression, 2)) else { continue };
                if text(name) == "counter" {
                    sum.bytes += attribute(data, 1).and_then(be64).unwrap_or(0);
                    sum.packets += attribute(data, 2).and_then(be64).unwrap_or(0);
                }
            }
        }
        Ok(sum)
    }
}
