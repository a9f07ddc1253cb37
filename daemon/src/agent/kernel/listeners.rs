//! TCP sockets that listen in this thread's network namespace, by sock_diag(7).
//!
//! Not from /proc/net/tcp where it can be helped: each read of that file walks the kernel's whole table of connections, which takes
//! milliseconds even when it is empty; a sock_diag dump of listeners walks the table of listeners alone (net/ipv4/inet_diag.c,
//! inet_diag_dump_icsk).

use std::fs;

use super::netlink::{Family, Message, Refused, Socket};

/// A socket that waits for connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    pub port: u16,
    pub inode: u64,
}

/// TCP_LISTEN (include/net/tcp_states.h).
const LISTEN: u8 = 10;

/// IPv4 and IPv6. A kernel without CONFIG_INET_DIAG is asked through /proc.
pub fn tcp() -> Vec<Listener> {
    dump().unwrap_or_else(|_| {
        let tables = ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")));
        tables.into_iter().flatten().flat_map(|text| in_table(&text).collect::<Vec<_>>()).collect()
    })
}

fn dump() -> Result<Vec<Listener>, Refused> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    let mut socket = Socket::open(Family::SockDiag)?;
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        // struct inet_diag_req_v2: family, protocol, extensions, padding, states, and 48 bytes of a socket's name that is not given.
        let mut request = vec![family as u8, libc::IPPROTO_TCP as u8, 0, 0];
        request.extend_from_slice(&(1_u32 << LISTEN).to_ne_bytes());
        request.resize(56, 0);
        let replies = socket.dump(Message::new(SOCK_DIAG_BY_FAMILY, 0, &request))?;
        found.extend(replies.iter().filter_map(|reply| read(&reply.body)));
    }
    Ok(found)
}

/// struct inet_diag_msg: state at 1, the local port (big-endian) at 4, the inode at 68.
fn read(body: &[u8]) -> Option<Listener> {
    let port = u16::from_be_bytes(body.get(4..6)?.try_into().ok()?);
    let inode = u32::from_ne_bytes(body.get(68..72)?.try_into().ok()?);
    (*body.get(1)? == LISTEN).then_some(Listener { port, inode: inode.into() })
}

/// Those in a text like /proc/net/tcp (proc_net(5)). They come first (net/ipv4/tcp_ipv4.c, tcp_seq_start).
fn in_table(table: &str) -> impl Iterator<Item = Listener> {
    table.lines().skip(1).map_while(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        if u8::from_str_radix(fields.get(3)?, 16).ok()? != LISTEN {
            return None;
        }
        let port = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
        Some(Listener { port, inode: fields.get(9)?.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_listener_of_ours_is_found_by_port_and_inode_and_a_connection_is_not() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let link = fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
            let found: Vec<Listener> = tcp().into_iter().filter(|found| found.port == port).collect();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(format!("socket:[{}]", found[0].inode), link.to_str().unwrap());
        }
    }

    #[test]
    fn a_text_table_gives_the_listeners_before_the_first_connection() {
        let row = |port: u16, state: &str, inode: u32| {
            format!(
                "   0: 00000000:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 x 100 0 0 10 0\n"
            )
        };
        let text = ["head\n", &row(8080, "0A", 1678), &row(5000, "01", 3), &row(1, "0A", 4)].concat();
        assert_eq!(in_table(&text).collect::<Vec<_>>(), [Listener { port: 8080, inode: 1678 }]);
    }
}
