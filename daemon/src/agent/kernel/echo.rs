//! ICMP echo (RFC 792, RFC 4443): the cheapest honest question whether packets get to a peer and back.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recvfrom, sendto, socket,
};

/// Sends echo requests and matches the answers. Times are taken in user space, so a packet queue's delay is in them.
#[derive(Debug)]
pub struct Echo {
    v4: OwnedFd,
    v6: Option<OwnedFd>,
    /// Readable when either is.
    ready: Epoll,
    id: u16,
    next: u16,
    waiting: BTreeMap<u16, (IpAddr, Instant)>,
}

impl Echo {
    /// Needs CAP_NET_RAW.
    pub fn open() -> nix::Result<Self> {
        let open = |family, protocol| {
            socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, protocol)
        };
        let v4 = open(AddressFamily::Inet, SockProtocol::Icmp)?;
        let v6 = open(AddressFamily::Inet6, SockProtocol::IcmpV6).ok();
        let ready = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        for fd in [Some(&v4), v6.as_ref()].into_iter().flatten() {
            ready.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        }
        Ok(Echo { v4, v6, ready, id: rand::random(), next: 0, waiting: BTreeMap::new() })
    }

    /// One request. False: it could not even leave (no route, refused at once).
    pub fn ask(&mut self, peer: IpAddr) -> bool {
        self.next = self.next.wrapping_add(1);
        let mut packet = vec![if peer.is_ipv6() { 128 } else { 8 }, 0, 0, 0];
        packet.extend(self.id.to_be_bytes());
        packet.extend(self.next.to_be_bytes());
        packet.extend(b"squall asks whether you are there");
        if peer.is_ipv4() {
            let sum = checksum(&packet);
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        let to: SockaddrStorage = match peer {
            IpAddr::V4(ip) => SocketAddr::V4(SocketAddrV4::new(ip, 0)).into(),
            IpAddr::V6(ip) => SocketAddr::V6(SocketAddrV6::new(ip, 0, 0, 0)).into(),
        };
        let Some(fd) = (if peer.is_ipv4() { Some(&self.v4) } else { self.v6.as_ref() }) else { return false };
        self.waiting.insert(self.next, (peer, Instant::now()));
        sendto(fd.as_raw_fd(), &packet, &to, MsgFlags::empty()).is_ok()
    }

    /// The answers that have come: from whom, after how long.
    pub fn answers(&mut self) -> Vec<(IpAddr, Duration)> {
        let mut all = Vec::new();
        let mut buffer = [0_u8; 2048];
        for (fd, v6) in [Some((self.v4.as_raw_fd(), false)), self.v6.as_ref().map(|fd| (fd.as_raw_fd(), true))]
            .into_iter()
            .flatten()
        {
            loop {
                match recvfrom::<SockaddrStorage>(fd, &mut buffer) {
                    Ok((count, from)) => {
                        let Some(seq) = answer(&buffer[..count], v6, self.id) else { continue };
                        let Some((peer, sent)) = self.waiting.get(&seq).copied() else { continue };
                        if from.as_ref().and_then(address) == Some(peer) {
                            self.waiting.remove(&seq);
                            all.push((peer, sent.elapsed()));
                        }
                    }
                    Err(Errno::EINTR) => {}
                    // EAGAIN; or an error that the network sent back, which is then read away.
                    Err(Errno::EAGAIN) => break,
                    Err(_) => break,
                }
            }
        }
        all
    }

    /// Asks every peer `times` times, a millisecond apart, and waits for all answers, at most `patience`.
    pub fn round(&mut self, peers: &[IpAddr], times: usize, patience: Duration) -> BTreeMap<IpAddr, Vec<Duration>> {
        let mut found: BTreeMap<IpAddr, Vec<Duration>> = peers.iter().map(|peer| (*peer, Vec::new())).collect();
        for round in 0..times {
            if round > 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            for peer in peers {
                self.ask(*peer);
            }
        }
        let until = Instant::now() + patience;
        loop {
            for (peer, time) in self.answers() {
                found.entry(peer).or_default().push(time);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || found.values().map(Vec::len).sum::<usize>() >= times * peers.len() {
                self.waiting.clear();
                return found;
            }
            self.wait(left);
        }
    }

    fn wait(&self, timeout: Duration) {
        let milliseconds = timeout.as_micros().div_ceil(1000) as u64;
        // Woken early or not: the caller looks at the clock.
        let _ = poll(
            &mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)],
            PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX),
        );
    }
}

/// Readable when an answer may have come.
impl AsFd for Echo {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.0.as_fd()
    }
}

/// The sequence number of an echo reply to us. A raw IPv4 socket gives the IP header too (raw(7)), an IPv6 one does not.
fn answer(packet: &[u8], v6: bool, id: u16) -> Option<u16> {
    let skip = if v6 { 0 } else { usize::from(packet.first()? & 0x0f) * 4 };
    let icmp = packet.get(skip..)?;
    let reply = if v6 { 129 } else { 0 };
    let field = |at: usize| Some(u16::from_be_bytes([*icmp.get(at)?, *icmp.get(at + 1)?]));
    (*icmp.first()? == reply && field(4)? == id).then(|| field(6))?
}

fn address(storage: &SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(IpAddr::V4(v4.ip()));
    }
    storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()))
}

/// RFC 1071.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_with_its_checksum_sums_to_zero() {
        let mut packet = vec![8, 0, 0, 0, 1, 2, 3, 4, 5];
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(&packet), 0);
    }

    #[test]
    fn only_replies_to_this_asker_are_answers() {
        let mut packet = vec![0x45; 1];
        packet.extend([0; 19]);
        packet.extend([0, 0, 0, 0, 0x12, 0x34, 0, 7]);
        assert_eq!(answer(&packet, false, 0x1234), Some(7));
        assert_eq!(answer(&packet, false, 0x1235), None);
        assert_eq!(answer(&packet[..22], false, 0x1234), None);
    }
}
