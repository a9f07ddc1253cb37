//! Packets sent whole, IP header included (raw(7), ipv6(7)).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto, setsockopt, socket,
    sockopt,
};

/// Sends packets as they are, each with the same mark. The kernel fills in the IPv4 header's checksum.
#[derive(Debug)]
pub struct Sender {
    v4: OwnedFd,
    v6: Option<OwnedFd>,
}

impl Sender {
    /// Needs CAP_NET_RAW and, for the mark, CAP_NET_ADMIN.
    pub fn open(mark: u32) -> nix::Result<Self> {
        let open = |family| {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            // IPPROTO_RAW implies IP_HDRINCL, in both families.
            let fd = socket(family, SockType::Raw, flags, SockProtocol::Raw)?;
            setsockopt(&fd, sockopt::Mark, &mark)?;
            setsockopt(&fd, sockopt::SndBufForce, &(32 << 20))?;
            Ok(fd)
        };
        Ok(Sender { v4: open(AddressFamily::Inet)?, v6: open(AddressFamily::Inet6).ok() })
    }

    /// `output`: the interface for a link-local destination.
    pub fn send(&self, packet: &[u8], output: u32) -> io::Result<()> {
        let malformed = || io::Error::from(io::ErrorKind::InvalidInput);
        match packet.first().ok_or_else(malformed)? >> 4 {
            4 => {
                let to: [u8; 4] = packet.get(16..20).ok_or_else(malformed)?.try_into().map_err(|_| malformed())?;
                let to = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::from(to), 0));
                sendto(self.v4.as_raw_fd(), packet, &to, MsgFlags::empty())?;
            }
            _ => {
                let to: [u8; 16] = packet.get(24..40).ok_or_else(malformed)?.try_into().map_err(|_| malformed())?;
                let to = Ipv6Addr::from(to);
                let scope = if to.is_unicast_link_local() || to.is_multicast() { output } else { 0 };
                let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, scope));
                let fd = self.v6.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
                sendto(fd.as_raw_fd(), packet, &to, MsgFlags::empty())?;
            }
        }
        Ok(())
    }
}
