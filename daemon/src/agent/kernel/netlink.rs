//! Netlink (netlink(7)): messages with nested attributes, requests, dumps and nfnetlink batches, with the kernel's own words in errors.
//!
//! The kernel answers within `sendmsg` itself (every family used here handles requests synchronously), so after a send all
//! answers already wait in the socket: nothing here can hang.

use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::capability::Capability;

/// Netlink families (linux/netlink.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Family {
    Route = libc::NETLINK_ROUTE,
    Netfilter = libc::NETLINK_NETFILTER,
    SockDiag = libc::NETLINK_SOCK_DIAG,
}

const HEADER: usize = 16;
const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const ACK: u16 = libc::NLM_F_ACK as u16;
pub const CREATE: u16 = libc::NLM_F_CREATE as u16;
pub const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
pub const REPLACE: u16 = libc::NLM_F_REPLACE as u16;
pub const APPEND: u16 = libc::NLM_F_APPEND as u16;
const DUMP: u16 = libc::NLM_F_DUMP as u16;
const NESTED: u16 = libc::NLA_F_NESTED as u16;

/// A request under construction: header, the family's fixed part, attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// `fixed` is the family's own header (`struct nfgenmsg`, `struct tcmsg`, ...).
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        let mut message = Message { bytes };
        message.append(fixed);
        message
    }

    fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// An attribute with a plain value.
    pub fn put(mut self, kind: u16, value: &[u8]) -> Self {
        self.bytes.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.append(value);
        self
    }

    /// A text with its terminating zero.
    pub fn put_text(self, kind: u16, text: &str) -> Self {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.put(kind, &value)
    }

    /// Netfilter's numbers are big-endian.
    pub fn put_be32(self, kind: u16, value: u32) -> Self {
        self.put(kind, &value.to_be_bytes())
    }

    pub fn put_be64(self, kind: u16, value: u64) -> Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// An attribute that holds others. At most 64 KiB (nla_len is 16 bits): callers split long lists.
    pub fn nest(self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        self.nest_raw(kind | NESTED, fill)
    }

    /// As [`Message::nest`] without NLA_F_NESTED, as rtnetlink's TCA_OPTIONS is commonly sent; `fill` may [`Message::plain`] first.
    pub fn nest_raw(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        let mut filled = fill(self);
        let length =
            u16::try_from(filled.bytes.len() - start).expect("callers split lists that do not fit an attribute");
        filled.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled
    }

    /// Raw bytes at this place (a structure that precedes attributes inside one).
    pub fn plain(mut self, bytes: &[u8]) -> Self {
        self.append(bytes);
        self
    }

    /// As it goes on the wire.
    pub fn finish(mut self, extra_flags: u16, seq: u32) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | extra_flags;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&seq.to_ne_bytes());
        self.bytes
    }
}

/// The attributes in `bytes`, type without its flag bits.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
        let value = bytes.get(4..length.max(4))?;
        bytes = bytes.get(length.max(4).next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// The first attribute of this type.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A zero-terminated text.
pub fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or(&[])).into_owned()
}

pub fn be32(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.get(..4)?.try_into().ok()?))
}

pub fn be64(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.get(..8)?.try_into().ok()?))
}

/// One message of an answer: its type and what follows the netlink header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub kind: u16,
    pub body: Vec<u8>,
}

/// The kernel said no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub errno: Errno,
    /// The kernel's extended-acknowledgement text, if it gave one.
    pub words: Option<String>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.words {
            Some(words) => write!(f, "{words} ({})", self.errno),
            None => write!(f, "{}", self.errno.desc()),
        }
    }
}

impl std::error::Error for Refused {}

/// For people: what the kernel said, and which privilege it wanted.
pub fn because(refused: &Refused) -> String {
    match refused.errno {
        Errno::EPERM if !Capability::NetAdmin.is_held() => {
            format!("{refused}: this process has no {} (any more)", Capability::NetAdmin.name())
        }
        _ => refused.to_string(),
    }
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        Refused { errno, words: None }
    }
}

/// A netlink socket with extended acknowledgements. Lives in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    seq: u32,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Socket {
    pub fn open(family: Family) -> Result<Self, Refused> {
        // SAFETY: plain system call; the result is checked before it becomes an owned descriptor.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, family as i32) };
        Errno::result(fd)?;
        // SAFETY: `fd` is a fresh descriptor that nothing else owns.
        let socket = Socket { fd: unsafe { OwnedFd::from_raw_fd(fd) }, seq: 0 };
        socket.option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1)?;
        socket.option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1)?;
        // Answers to a long dump must fit at once; without CAP_NET_ADMIN the default has to do.
        let _ = socket.option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 4 << 20);
        let _ = socket.option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, 4 << 20);
        Ok(socket)
    }

    pub fn option(&self, level: i32, name: i32, value: i32) -> Result<(), Refused> {
        // SAFETY: `value` is a live i32 and its size is given.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                (&raw const value).cast(),
                size_of::<i32>() as libc::socklen_t,
            )
        };
        Errno::result(result).map(drop).map_err(Refused::from)
    }

    fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1).max(1);
        self.seq
    }

    /// Sends bytes as they are (complete messages).
    pub fn send(&self, bytes: &[u8]) -> Result<(), Refused> {
        loop {
            // SAFETY: pointer and length are of one live slice. Unconnected netlink sends go to the kernel (port 0).
            let sent = unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
            match Errno::result(sent) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// One request; answered by an acknowledgement and perhaps messages before it.
    pub fn request(&mut self, message: Message) -> Result<Vec<Reply>, Refused> {
        let seq = self.next_seq();
        self.send(&message.finish(ACK, seq))?;
        self.collect(seq, seq)
    }

    /// A request for a list.
    pub fn dump(&mut self, message: Message) -> Result<Vec<Reply>, Refused> {
        let seq = self.next_seq();
        self.send(&message.finish(DUMP, seq))?;
        self.collect(seq, seq)
    }

    /// An nfnetlink transaction: all of it happens or nothing. `subsystem` as in NFNL_SUBSYS_NFTABLES.
    pub fn batch(&mut self, subsystem: u16, messages: Vec<Message>) -> Result<(), Refused> {
        const BATCH_BEGIN: u16 = 0x10;
        const BATCH_END: u16 = 0x11;
        // struct nfgenmsg { family, version, res_id (big-endian) }
        let [high, low] = subsystem.to_be_bytes();
        let edge = |kind| Message::new(kind, 0, &[libc::AF_UNSPEC as u8, 0, high, low]);
        let first = self.next_seq();
        let mut bytes = edge(BATCH_BEGIN).finish(0, first);
        let count = messages.len();
        for (index, message) in messages.into_iter().enumerate() {
            let seq = self.next_seq();
            // Errors are always told; one acknowledgement, of the last message, says that all is done.
            bytes.extend(message.finish(if index + 1 == count { ACK } else { 0 }, seq));
        }
        let last = self.seq;
        let end = self.next_seq();
        bytes.extend(edge(BATCH_END).finish(0, end));
        self.send(&bytes)?;
        self.collect(first, last).map(drop)
    }

    /// Reads answers until the one that ends request `last`; errors of any request since `first` count.
    fn collect(&self, first: u32, last: u32) -> Result<Vec<Reply>, Refused> {
        let mut replies = Vec::new();
        let mut buffer = vec![0_u8; 64 * 1024];
        let mut error = None;
        let mut ended = false;
        loop {
            // SAFETY: pointer and length are of one live buffer.
            let count = unsafe {
                libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
            };
            let count = match Errno::result(count) {
                Ok(count) => count as usize,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) if ended || error.is_some() => break,
                Err(Errno::EAGAIN) => return Err(Errno::EPROTO.into()),
                Err(errno) => return Err(errno.into()),
            };
            for (kind, seq, body) in messages(&buffer[..count]) {
                if seq.wrapping_sub(first) > last.wrapping_sub(first) {
                    continue;
                }
                match i32::from(kind) {
                    libc::NLMSG_ERROR => match acknowledgement(body) {
                        None => ended |= seq == last,
                        Some(refused) => error = error.or(Some(refused)),
                    },
                    libc::NLMSG_DONE => match body.get(..4).map(|code| i32::from_ne_bytes(code.try_into().unwrap())) {
                        Some(code) if code < 0 => error = error.or(Some(Errno::from_raw(-code).into())),
                        _ => ended |= seq == last,
                    },
                    libc::NLMSG_NOOP => {}
                    _ => replies.push(Reply { kind, body: body.to_vec() }),
                }
            }
            if ended && error.is_none() {
                break;
            }
        }
        match error {
            Some(refused) => Err(refused),
            None => Ok(replies),
        }
    }
}

/// The messages in one datagram: type, sequence number, body.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.get(..HEADER)?;
        let length = u32::from_ne_bytes(header[..4].try_into().unwrap()) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let seq = u32::from_ne_bytes(header[8..12].try_into().unwrap());
        let body = bytes.get(HEADER..length.max(HEADER))?;
        bytes = bytes.get(length.max(HEADER).next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, seq, body))
    })
}

/// None for success. `struct nlmsgerr`: errno, the request's header (NETLINK_CAP_ACK), then attributes.
fn acknowledgement(body: &[u8]) -> Option<Refused> {
    const NLMSGERR_ATTR_MSG: u16 = 1;
    let code = body.get(..4).map_or(-libc::EPROTO, |code| i32::from_ne_bytes(code.try_into().unwrap()));
    if code == 0 {
        return None;
    }
    let words = body.get(4 + HEADER..).and_then(|rest| attribute(rest, NLMSGERR_ATTR_MSG)).map(text);
    Some(Refused { errno: Errno::from_raw(-code), words })
}

/// A plain C structure as its bytes.
///
/// # Safety
/// `T` must have no padding and be valid for every bit pattern that is read from it.
pub unsafe fn bytes_of<T: Copy>(value: &T) -> &[u8] {
    // SAFETY: the caller promises a padding-free plain structure; the slice lives as long as the value.
    unsafe { std::slice::from_raw_parts((&raw const *value).cast(), size_of::<T>()) }
}

/// A plain C structure from the front of `bytes`.
///
/// # Safety
/// `T` must be valid for every bit pattern.
pub unsafe fn from_bytes<T: Copy>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the source is long enough and the destination is exactly one T; the caller promises any bits are valid.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), value.as_mut_ptr().cast(), size_of::<T>());
        Some(value.assume_init())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested_lengths_are_filled_in() {
        let bytes = Message::new(7, CREATE, &[2, 0, 0, 0])
            .put_text(1, "abc")
            .nest(2, |m| m.put_be32(1, 5).put(2, &[9]))
            .finish(ACK, 42);
        assert_eq!(bytes.len() as u32, u32::from_ne_bytes(bytes[..4].try_into().unwrap()));
        let (kind, seq, body) = messages(&bytes).next().unwrap();
        assert_eq!((kind, seq), (7, 42));
        let body = &body[4..];
        assert_eq!(text(attribute(body, 1).unwrap()), "abc");
        let inner = attribute(body, 2).unwrap();
        assert_eq!(be32(attribute(inner, 1).unwrap()), Some(5));
        assert_eq!(attribute(inner, 2), Some(&[9_u8][..]));
        assert_eq!(attributes(body).count(), 2);
    }

    #[test]
    fn torn_attributes_end_the_list_and_never_panic() {
        let whole = Message::new(1, 0, &[]).put(3, &[1, 2, 3, 4, 5]).finish(0, 1);
        for end in 0..whole.len() {
            assert!(messages(&whole[..end]).count() <= 1);
            assert!(attributes(&whole[HEADER.min(end)..end]).count() <= 1);
        }
    }

    #[test]
    fn the_kernel_s_own_words_are_kept() {
        let mut body = (-libc::ENOENT).to_ne_bytes().to_vec();
        body.extend([0; HEADER]);
        body.extend(&Message::new(0, 0, &[]).put_text(1, "Specified qdisc kind is unknown").finish(0, 0)[HEADER..]);
        let refused = acknowledgement(&body).unwrap();
        assert_eq!(refused.errno, Errno::ENOENT);
        assert!(refused.to_string().starts_with("Specified qdisc kind is unknown"));
        assert_eq!(acknowledgement(&0_i32.to_ne_bytes()), None);
    }
}
