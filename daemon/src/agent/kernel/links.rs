//! Network interfaces and their addresses, by rtnetlink(7).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::netlink::{Family, Message, Refused, Socket, attribute, text};

/// An interface of this thread's network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub addresses: Vec<IpAddr>,
    pub up: bool,
    pub loopback: bool,
    pub mtu: u32,
    /// Kind of the root queueing discipline; empty if the kernel tells none.
    pub root_qdisc: String,
}

/// All of them, by index.
pub fn all() -> Result<Vec<Link>, Refused> {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    let mut socket = Socket::open(Family::Route)?;
    // struct ifinfomsg and struct ifaddrmsg; family unspecified means all.
    let links = socket.dump(Message::new(libc::RTM_GETLINK, 0, &[0; 16]))?;
    let addresses = socket.dump(Message::new(libc::RTM_GETADDR, 0, &[0; 8]))?;
    let mut found: BTreeMap<u32, Link> =
        links.iter().filter_map(|reply| read_link(&reply.body)).map(|link| (link.index, link)).collect();
    for reply in &addresses {
        let (Some(index), Some(rest)) = (number(&reply.body, 4), reply.body.get(8..)) else { continue };
        // On a point-to-point link IFA_ADDRESS is the other end.
        let address = attribute(rest, IFA_LOCAL).or_else(|| attribute(rest, IFA_ADDRESS)).and_then(address);
        if let (Some(link), Some(address)) = (found.get_mut(&index), address) {
            link.addresses.push(address);
        }
    }
    Ok(found.into_values().collect())
}

fn read_link(body: &[u8]) -> Option<Link> {
    const IFLA_IFNAME: u16 = 3;
    const IFLA_MTU: u16 = 4;
    const IFLA_QDISC: u16 = 6;
    let flags = number(body, 8)?;
    let rest = body.get(16..)?;
    Some(Link {
        index: number(body, 4)?,
        name: text(attribute(rest, IFLA_IFNAME)?),
        addresses: Vec::new(),
        up: flags & libc::IFF_UP as u32 != 0,
        loopback: flags & libc::IFF_LOOPBACK as u32 != 0,
        mtu: attribute(rest, IFLA_MTU).and_then(|value| number(value, 0)).unwrap_or(0),
        root_qdisc: attribute(rest, IFLA_QDISC).map(text).unwrap_or_default(),
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
        _ => None,
    }
}
