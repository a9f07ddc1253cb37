//! The expressions of which our rules are made. Each line of a rule is one instruction of the kernel's small machine: load into a
//! register, change it, compare, decide.

use serde::{Deserialize, Serialize};

use crate::agent::kernel::netlink::Message;

/// Register 1 (16 bytes) is all that a linear rule needs.
const REGISTER: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Load packet metadata.
    Meta(Meta),
    /// Load a constant.
    Load(Vec<u8>),
    /// `skb->priority` = register: a qdisc whose handle is its upper half takes the lower half as the class.
    SetPriority,
    /// Load from the packet.
    Payload(Payload),
    /// Load from the packet's connection. Attaches conntrack to this namespace.
    Ct(Ct),
    /// A random number below `modulus`, in host order.
    Random {
        modulus: u32,
    },
    /// A 4 byte number in host order becomes one that can be compared.
    HostToNetwork,
    /// register = register & mask, byte by byte.
    And(Vec<u8>),
    Compare(Compare, Vec<u8>),
    /// Goes on only if the register is (`inverted`: is not) in the set.
    Lookup {
        set: String,
        inverted: bool,
    },
    Counter,
    Verdict(Verdict),
    /// To a packet queue.
    Queue(Queue),
    /// TCP reset to the packet's sender. Only in rules that match TCP.
    Reset,
    /// ICMP or ICMPv6 "administratively prohibited" to the packet's sender.
    Reject,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Meta {
    Mark = 3,
    InputName = 6,
    OutputName = 7,
    Family = 15,
    Protocol = 16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    Ipv4Source,
    Ipv4Destination,
    Ipv6Source,
    Ipv6Destination,
    SourcePort,
    DestinationPort,
    TcpFlags,
    /// Type and code.
    Icmp,
    IcmpType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ct {
    /// Bits: 1 invalid, 2 established, 4 related, 8 new, 64 untracked (host byte order).
    State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Compare {
    Equal = 0,
    NotEqual = 1,
    GreaterOrEqual = 5,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Ends this base chain; chains of others still see the packet.
    Accept,
    Drop,
    Jump(String),
    Return,
}

/// To which packet queue, and by which expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    pub kind: QueueKind,
    pub number: u16,
    /// Packets pass on while nobody listens there; without, they vanish, and their sender hears of no error.
    pub bypass: bool,
}

/// Kernels lack the one or the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueKind {
    /// nft's own `queue` (CONFIG_NFT_QUEUE).
    Native,
    /// xtables' target NFQUEUE, revision 3, through nft_compat (CONFIG_NFT_COMPAT, CONFIG_NETFILTER_XT_TARGET_NFQUEUE).
    Target,
}

impl QueueKind {
    pub const ALL: [QueueKind; 2] = [QueueKind::Native, QueueKind::Target];
}

impl Expression {
    pub(super) fn write(&self, m: Message) -> Message {
        let (name, data): (&str, Box<dyn FnOnce(Message) -> Message + '_>) = match self {
            Expression::Meta(key) => ("meta", Box::new(|m| m.put_be32(1, REGISTER).put_be32(2, *key as u32))),
            Expression::Load(value) => {
                ("immediate", Box::new(|m| m.put_be32(1, REGISTER).nest(2, |m| m.put(1, value))))
            }
            Expression::SetPriority => ("meta", Box::new(|m| m.put_be32(2, 2).put_be32(3, REGISTER))),
            Expression::Payload(field) => ("payload", Box::new(|m| payload(m, *field))),
            Expression::Ct(Ct::State) => ("ct", Box::new(|m| m.put_be32(1, REGISTER).put_be32(2, 0))),
            Expression::Random { modulus } => (
                "numgen",
                Box::new(|m| {
                    const RANDOM: u32 = 1;
                    m.put_be32(1, REGISTER).put_be32(2, *modulus).put_be32(3, RANDOM).put_be32(4, 0)
                }),
            ),
            Expression::HostToNetwork => (
                "byteorder",
                Box::new(|m| {
                    const HTON: u32 = 1;
                    m.put_be32(1, REGISTER).put_be32(2, REGISTER).put_be32(3, HTON).put_be32(4, 4).put_be32(5, 4)
                }),
            ),
            Expression::And(mask) => (
                "bitwise",
                Box::new(|m| {
                    m.put_be32(1, REGISTER)
                        .put_be32(2, REGISTER)
                        .put_be32(3, mask.len() as u32)
                        .nest(4, |m| m.put(1, mask))
                        .nest(5, |m| m.put(1, &vec![0; mask.len()]))
                }),
            ),
            Expression::Compare(how, value) => {
                ("cmp", Box::new(|m| m.put_be32(1, REGISTER).put_be32(2, *how as u32).nest(3, |m| m.put(1, value))))
            }
            Expression::Lookup { set, inverted } => {
                ("lookup", Box::new(|m| m.put_text(1, set).put_be32(2, REGISTER).put_be32(5, u32::from(*inverted))))
            }
            Expression::Counter => ("counter", Box::new(|m| m)),
            Expression::Verdict(verdict) => ("immediate", Box::new(|m| write_verdict(m, verdict))),
            Expression::Queue(queue) => match queue.kind {
                QueueKind::Native => (
                    "queue",
                    Box::new(|m| {
                        m.put(1, &queue.number.to_be_bytes())
                            .put(2, &1_u16.to_be_bytes())
                            .put(3, &u16::from(queue.bypass).to_be_bytes())
                    }),
                ),
                QueueKind::Target => {
                    ("target", Box::new(|m| m.put_text(1, "NFQUEUE").put_be32(2, 3).put(3, &nfqueue_info(queue))))
                }
            },
            Expression::Reset => ("reject", Box::new(|m| m.put_be32(1, 1).put(2, &[0]))),
            Expression::Reject => {
                const ICMPX_UNREACH: u32 = 2;
                const ADMIN_PROHIBITED: u8 = 3;
                ("reject", Box::new(|m| m.put_be32(1, ICMPX_UNREACH).put(2, &[ADMIN_PROHIBITED])))
            }
        };
        m.put_text(1, name).nest(2, data)
    }
}

fn payload(m: Message, field: Payload) -> Message {
    const NETWORK: u32 = 1;
    const TRANSPORT: u32 = 2;
    let (base, offset, length) = match field {
        Payload::Ipv4Source => (NETWORK, 12, 4),
        Payload::Ipv4Destination => (NETWORK, 16, 4),
        Payload::Ipv6Source => (NETWORK, 8, 16),
        Payload::Ipv6Destination => (NETWORK, 24, 16),
        Payload::SourcePort => (TRANSPORT, 0, 2),
        Payload::DestinationPort => (TRANSPORT, 2, 2),
        Payload::TcpFlags => (TRANSPORT, 13, 1),
        Payload::Icmp => (TRANSPORT, 0, 2),
        Payload::IcmpType => (TRANSPORT, 0, 1),
    };
    m.put_be32(1, REGISTER).put_be32(2, base).put_be32(3, offset).put_be32(4, length)
}

fn write_verdict(m: Message, verdict: &Verdict) -> Message {
    const VERDICT_REGISTER: u32 = 0;
    const JUMP: i32 = -3;
    const RETURN: i32 = -5;
    let (code, chain) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (JUMP, Some(chain)),
        Verdict::Return => (RETURN, None),
    };
    m.put_be32(1, VERDICT_REGISTER).nest(2, |m| {
        m.nest(2, |m| {
            let m = m.put_be32(1, code as u32);
            chain.into_iter().fold(m, |m, chain| m.put_text(2, chain))
        })
    })
}

/// `struct xt_NFQ_info_v3 { u16 queuenum, queues_total, flags }` in host order, padded to XT_ALIGN's 8 bytes.
fn nfqueue_info(queue: &Queue) -> [u8; 8] {
    let mut info = [0; 8];
    info[..2].copy_from_slice(&queue.number.to_ne_bytes());
    info[2..4].copy_from_slice(&1_u16.to_ne_bytes());
    info[4..6].copy_from_slice(&u16::from(queue.bypass).to_ne_bytes());
    info
}
