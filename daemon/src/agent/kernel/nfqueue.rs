//! A packet queue (linux/netfilter/nfnetlink_queue.h): the kernel holds the packets, we give verdicts.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::netlink::{self, Family, Message, Refused, Socket, attributes, be32};
use crate::agent::crash;

const SUBSYSTEM: u16 = 3;
const PACKET: u16 = SUBSYSTEM << 8;
const VERDICT: u16 = PACKET | 1;
const CONFIG: u16 = PACKET | 2;
const VERDICT_BATCH: u16 = PACKET | 3;

const DROP: u32 = 0;
const ACCEPT: u32 = 1;

/// Packets read with one system call.
const READ_AT_ONCE: usize = 64;
/// Beyond, packets pass undelayed (NFQA_CFG_F_FAIL_OPEN). 100 ms of 10 Gbit/s are 83,000 packets of 1,500 bytes.
const LONGEST: u32 = 131_072;
/// Of messages that wait to be read; each costs the kernel about 1 KiB here.
const RECEIVE_BUFFER: i32 = 64 << 20;

/// How much of each packet is copied here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// Its id and where it was met. Packets stay as large as the stack made them (segmentation offload): the fast way.
    Nothing,
    /// All of it; large packets are cut into segments first and their checksums are filled in.
    Whole,
}

/// One packet that waits for its verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Grows by one with each packet of the queue.
    pub id: u32,
    pub mark: u32,
    /// Index of the interface by which it leaves; 0 if it comes in.
    pub output: u32,
    /// From the IP header on; empty with [`Copy::Nothing`], and if it was too long to be copied.
    pub bytes: &'a [u8],
}

/// A bound queue. Closed (also by the process's death), its waiting packets are dropped; rules with bypass then let packets through.
pub struct PacketQueue {
    socket: Socket,
    number: u16,
    buffers: Vec<u8>,
    buffer_size: usize,
    verdicts: Vec<u8>,
}

impl AsFd for PacketQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl PacketQueue {
    /// Fails with EPERM or EBUSY if another process has this number.
    pub fn bind(number: u16, copy: Copy) -> Result<Self, Refused> {
        const BIND: u8 = 1;
        const FAIL_OPEN: u32 = 1;
        const GSO: u32 = 4;
        let mut socket = Socket::open(Family::Netfilter)?;
        socket.option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER)?;
        // An overflow means packets that passed undelayed; there is nothing to repair here.
        socket.option(libc::SOL_NETLINK, libc::NETLINK_NO_ENOBUFS, 1)?;
        let [high, low] = number.to_be_bytes();
        let config = || Message::new(CONFIG, 0, &[libc::AF_UNSPEC as u8, 0, high, low]);
        crash::point("queue-binding");
        socket.request(config().put(1, &[BIND, 0, 0, 0]))?;
        crash::point("queue-bound");
        // struct nfqnl_msg_config_params { be32 copy_range; u8 copy_mode }, packed.
        let (parameters, flags, buffer_size) = match copy {
            Copy::Nothing => ([0, 0, 0, 0, 1], FAIL_OPEN | GSO, 1024),
            Copy::Whole => ([0, 0, 0xff, 0xff, 2], FAIL_OPEN, 66 * 1024),
        };
        socket.request(
            config().put(2, &parameters).put_be32(3, LONGEST).put_be32(4, FAIL_OPEN | GSO).put_be32(5, flags),
        )?;
        crash::point("queue-configured");
        let buffers = vec![0; buffer_size * READ_AT_ONCE];
        Ok(PacketQueue { socket, number, buffers, buffer_size, verdicts: Vec::with_capacity(64 * 1024) })
    }

    /// Hands over the packets that wait now, at most [`READ_AT_ONCE`]; their number.
    pub fn read(&mut self, mut each: impl FnMut(Packet<'_>)) -> io::Result<usize> {
        let mut vectors = [MaybeUninit::<libc::iovec>::zeroed(); READ_AT_ONCE];
        let mut headers = [MaybeUninit::<libc::mmsghdr>::zeroed(); READ_AT_ONCE];
        for ((buffer, vector), header) in
            self.buffers.chunks_exact_mut(self.buffer_size).zip(&mut vectors).zip(&mut headers)
        {
            let vector = vector.write(libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: self.buffer_size });
            // SAFETY: zeroed is a valid mmsghdr: null pointers and zero lengths.
            let header = unsafe { header.assume_init_mut() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: every header points at one live vector over a live buffer of the given length.
        let count = unsafe {
            libc::recvmmsg(
                self.socket.as_fd().as_raw_fd(),
                headers.as_mut_ptr().cast(),
                READ_AT_ONCE as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let count = match Errno::result(count) {
            Ok(count) => count as usize,
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS) => 0,
            Err(errno) => return Err(errno.into()),
        };
        for (header, buffer) in headers.iter().zip(self.buffers.chunks_exact(self.buffer_size)).take(count) {
            // SAFETY: recvmmsg filled in this header.
            let length = unsafe { header.assume_init_ref() }.msg_len as usize;
            for (kind, _, body) in netlink::messages(&buffer[..length.min(self.buffer_size)]) {
                if kind == PACKET
                    && let Some(packet) = read_packet(body)
                {
                    each(packet);
                }
            }
        }
        Ok(count)
    }

    /// Lets it go on its way. Like all verdicts it is sent with the next [`PacketQueue::flush`].
    pub fn accept(&mut self, id: u32) {
        self.verdict(VERDICT, ACCEPT, id, None);
    }

    /// As it was changed here.
    pub fn accept_changed(&mut self, id: u32, bytes: &[u8]) {
        self.verdict(VERDICT, ACCEPT, id, Some(bytes));
    }

    /// This one and all that came before it and still wait.
    pub fn accept_up_to(&mut self, id: u32) {
        self.verdict(VERDICT_BATCH, ACCEPT, id, None);
    }

    pub fn drop(&mut self, id: u32) {
        self.verdict(VERDICT, DROP, id, None);
    }

    fn verdict(&mut self, kind: u16, verdict: u32, id: u32, bytes: Option<&[u8]>) {
        const VERDICT_HEADER: u16 = 2;
        const PAYLOAD: u16 = 10;
        let [high, low] = self.number.to_be_bytes();
        let mut header = [0; 8];
        header[..4].copy_from_slice(&verdict.to_be_bytes());
        header[4..].copy_from_slice(&id.to_be_bytes());
        let mut message = Message::new(kind, 0, &[libc::AF_UNSPEC as u8, 0, high, low]).put(VERDICT_HEADER, &header);
        if let Some(bytes) = bytes {
            message = message.put(PAYLOAD, bytes);
        }
        self.verdicts.extend(message.finish(0, 0));
    }

    pub fn flush(&mut self) -> Result<(), Refused> {
        if self.verdicts.is_empty() {
            return Ok(());
        }
        let sent = self.socket.send(&self.verdicts);
        self.verdicts.clear();
        sent
    }
}

fn read_packet(body: &[u8]) -> Option<Packet<'_>> {
    let mut found = Packet { id: 0, mark: 0, output: 0, bytes: &[] };
    let mut known = false;
    let mut whole = 0;
    for (kind, value) in attributes(body.get(4..)?) {
        match kind {
            // struct nfqnl_msg_packet_hdr { be32 packet_id; be16 hw_protocol; u8 hook }
            1 => {
                found.id = be32(value)?;
                known = true;
            }
            3 => found.mark = be32(value)?,
            6 => found.output = be32(value)?,
            10 => found.bytes = value,
            // NFQA_CAP_LEN: the packet's length, told only if not all of it is here.
            13 => whole = be32(value)? as usize,
            _ => {}
        }
    }
    if whole > found.bytes.len() {
        found.bytes = &[];
    }
    known.then_some(found)
}

/// Queue numbers that some process of this network namespace has bound (/proc/net/netfilter/nfnetlink_queue).
pub fn taken() -> Vec<u16> {
    let text = std::fs::read_to_string("/proc/thread-self/net/netfilter/nfnetlink_queue").unwrap_or_default();
    text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_message_is_read_as_the_kernel_lays_it_out() {
        let message = Message::new(PACKET, 0, &[libc::AF_INET as u8, 0, 0, 7])
            .put(1, &[0, 0, 1, 2, 0x08, 0x00, 3])
            .put_be32(6, 5)
            .put_be32(3, 9)
            .put(10, &[0x45, 0, 0, 20])
            .finish(0, 0);
        let (_, _, body) = netlink::messages(&message).next().unwrap();
        let packet = read_packet(body).unwrap();
        assert_eq!((packet.id, packet.output, packet.mark, packet.bytes), (258, 5, 9, &[0x45, 0, 0, 20][..]));
    }
}
