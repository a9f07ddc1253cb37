//! Queueing disciplines by rtnetlink(7), as tc(8) makes them; layouts of linux/pkt_sched.h.

use nix::errno::Errno;

use super::netlink::{CREATE, EXCLUSIVE, Family, Message, Refused, Socket, attribute, text};

/// TC_H_ROOT.
pub const ROOT: u32 = 0xffff_ffff;

/// One qdisc that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qdisc {
    pub interface: u32,
    pub kind: String,
    /// 0: made by the kernel as a default.
    pub handle: u32,
    pub parent: u32,
}

/// `struct tc_netem_qopt` and the attributes that follow it, in the units of people.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Netem {
    pub latency_ns: u64,
    pub jitter_ns: u64,
    /// Shares from 0 to 1.
    pub loss: f64,
    pub duplicate: f64,
    pub reorder: f64,
    pub corrupt: f64,
    pub correlation: f64,
    /// Deviations in jitters, each equally likely; empty: uniform.
    pub distribution: Vec<f64>,
    pub seed: u64,
}

pub fn open() -> Result<Socket, Refused> {
    Socket::open(Family::Route)
}

/// `struct tcmsg`.
fn tcmsg(interface: u32, handle: u32, parent: u32) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[4..8].copy_from_slice(&interface.to_ne_bytes());
    bytes[8..12].copy_from_slice(&handle.to_ne_bytes());
    bytes[12..16].copy_from_slice(&parent.to_ne_bytes());
    bytes
}

const KIND: u16 = 1;
const OPTIONS: u16 = 2;

fn add(interface: u32, handle: u32, parent: u32) -> Message {
    // Exclusive: a root that is not a kernel default (handle 0) makes it fail with EEXIST and is not replaced.
    Message::new(libc::RTM_NEWQDISC, CREATE | EXCLUSIVE, &tcmsg(interface, handle, parent))
}

/// A prio root with four bands: the first three as the kernel's default map fills them, the fourth (`handle:4`) reached only by packets
/// whose `skb->priority` names it.
pub fn prio_root(interface: u32, handle: u32) -> Message {
    const BANDS: i32 = 4;
    const MAP: [u8; 16] = [1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];
    let options = [&BANDS.to_ne_bytes()[..], &MAP].concat();
    add(interface, handle, ROOT).put_text(KIND, "prio").put(OPTIONS, &options)
}

pub fn netem(interface: u32, handle: u32, parent: u32, netem: &Netem) -> Message {
    add(interface, handle, parent).put_text(KIND, "netem").nest_raw(OPTIONS, |m| netem.write(m))
}

pub fn delete_root(interface: u32, handle: u32) -> Message {
    Message::new(libc::RTM_DELQDISC, 0, &tcmsg(interface, handle, ROOT))
}

impl Netem {
    fn write(&self, m: Message) -> Message {
        // The old 32-bit fields count in PSCHED ticks of 64 ns; the 64-bit ones that follow override them (Linux 4.15).
        let ticks = |ns: u64| u32::try_from(ns >> 6).unwrap_or(u32::MAX);
        let share = |share: f64| (share.clamp(0.0, 1.0) * f64::from(u32::MAX)).round() as u32;
        let words = |list: &[u32]| list.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        const LIMIT: u32 = 131_072;
        // With a gap of 1 every packet has the chance to overtake, as tc does for `reorder`.
        let gap = u32::from(self.reorder > 0.0);
        let fixed =
            [ticks(self.latency_ns), LIMIT, share(self.loss), gap, share(self.duplicate), ticks(self.jitter_ns)];
        let correlation = share(self.correlation);
        let mut m = m
            .plain(&words(&fixed))
            .put(1, &words(&[correlation, correlation, 0]))
            .put(3, &words(&[share(self.reorder), 0]))
            .put(4, &words(&[share(self.corrupt), 0]))
            .put(10, &(self.latency_ns as i64).to_ne_bytes())
            .put(11, &(self.jitter_ns as i64).to_ne_bytes())
            // TCA_NETEM_PRNG_SEED, Linux 6.7; older kernels pass over it.
            .put(14, &self.seed.to_ne_bytes());
        if !self.distribution.is_empty() {
            // NETEM_DIST_SCALE
            const SCALE: f64 = 8192.0;
            let table = self.distribution.iter().flat_map(|deviation| {
                let limited = (deviation * SCALE).round().clamp(f64::from(i16::MIN), f64::from(i16::MAX));
                (limited as i16).to_ne_bytes()
            });
            m = m.put(2, &table.collect::<Vec<u8>>());
        }
        m
    }
}

/// All qdiscs of one interface.
pub fn of_interface(socket: &mut Socket, interface: u32) -> Result<Vec<Qdisc>, Refused> {
    let replies = socket.dump(Message::new(libc::RTM_GETQDISC, 0, &tcmsg(interface, 0, 0)))?;
    Ok(replies.iter().filter_map(|reply| read(&reply.body)).filter(|qdisc| qdisc.interface == interface).collect())
}

fn read(body: &[u8]) -> Option<Qdisc> {
    let word = |at: usize| Some(u32::from_ne_bytes(body.get(at..at + 4)?.try_into().ok()?));
    Some(Qdisc {
        interface: word(4)?,
        handle: word(8)?,
        parent: word(12)?,
        kind: text(attribute(body.get(20..)?, KIND)?),
    })
}

/// The interface is gone, or has no such qdisc.
pub fn is_gone(refused: &Refused) -> bool {
    matches!(refused.errno, Errno::ENODEV | Errno::ENOENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::kernel::netlink::{attributes, messages};

    fn body(message: Message) -> Vec<u8> {
        let bytes = message.finish(0, 1);
        let (_, _, body) = messages(&bytes).next().unwrap();
        body.to_vec()
    }

    fn words(bytes: &[u8]) -> Vec<u32> {
        bytes.chunks(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect()
    }

    #[test]
    fn a_prio_root_is_laid_out_as_struct_tc_prio_qopt() {
        let body = body(prio_root(5, 0x5a11_0000));
        assert_eq!(words(&body[..20]), [0, 5, 0x5a11_0000, ROOT, 0]);
        assert_eq!(attribute(&body[20..], KIND), Some(&b"prio\0"[..]));
        let options = attribute(&body[20..], OPTIONS).unwrap();
        assert_eq!(options.len(), 20);
        assert_eq!(i32::from_ne_bytes(options[..4].try_into().unwrap()), 4);
        assert!(options[4..].iter().all(|band| *band < 3), "the fourth band must be reached by nothing");
    }

    #[test]
    fn netem_is_laid_out_as_struct_tc_netem_qopt_with_its_attributes_behind() {
        let netem_options = Netem {
            latency_ns: 100_000_000,
            jitter_ns: 10_000_000,
            loss: 0.5,
            reorder: 0.25,
            corrupt: 1.0,
            correlation: 0.25,
            distribution: vec![-1.0, 0.0, 9.0],
            seed: 7,
            ..Netem::default()
        };
        let body = body(netem(5, 0x5a12_0000, 0x5a11_0004, &netem_options));
        assert_eq!(words(&body[..20]), [0, 5, 0x5a12_0000, 0x5a11_0004, 0]);
        let options = attribute(&body[20..], OPTIONS).unwrap();
        // latency, limit, loss, gap, duplicate, jitter; times in ticks of 64 ns.
        assert_eq!(words(&options[..24]), [1_562_500, 131_072, 0x8000_0000, 1, 0, 156_250]);
        let inner = &options[24..];
        assert_eq!(words(attribute(inner, 1).unwrap()), [0x4000_0000, 0x4000_0000, 0]);
        assert_eq!(words(attribute(inner, 3).unwrap()), [0x4000_0000, 0]);
        assert_eq!(words(attribute(inner, 4).unwrap()), [u32::MAX, 0]);
        assert_eq!(attribute(inner, 10).unwrap(), 100_000_000_i64.to_ne_bytes());
        assert_eq!(attribute(inner, 11).unwrap(), 10_000_000_i64.to_ne_bytes());
        assert_eq!(attribute(inner, 14).unwrap(), 7_u64.to_ne_bytes());
        let table: Vec<i16> =
            attribute(inner, 2).unwrap().chunks(2).map(|pair| i16::from_ne_bytes([pair[0], pair[1]])).collect();
        assert_eq!(table, [-8192, 0, i16::MAX]);
        assert_eq!(attributes(inner).count(), 7);
    }
}
