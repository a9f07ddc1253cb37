//! The packet-queue engine: each matching packet waits in the kernel until its verdict is due.
//!
//! *What comes in* is held as it is: only ids cross to user space, large packets stay large, and TCP's sender sees a long road.
//!
//! *What goes out* still belongs to its socket while it is held, and TCP then sends almost nothing more (the small-queue limit,
//! tcp_small_queue_check): a few packets a delay. So TCP is taken over: the packet is copied, the original is dropped at once, which
//! frees the socket, and the copy is sent when due through a raw socket. Everything else that goes out is held; so is TCP with a mark,
//! because the mark may choose its route and the copy cannot carry it.
//!
//! One thread does it all; the holder's other thread keeps the tether. A `packet` is what the stack calls one: with offloads up to 64 KiB.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use squall_experiments::effect::{PacketDelay, Protocol};

use super::model::Model;
use crate::agent::effects::flow_rules::{ENGINE_MARK, Side};
use crate::agent::kernel::nfqueue::{Copy, Packet, PacketQueue};
use crate::agent::kernel::raw::Sender;

/// From a rule's verdict to the queue a packet takes microseconds.
const STRAGGLERS: Duration = Duration::from_millis(3);

/// What the engine did, over its life.
#[derive(Debug, Clone)]
pub struct Done {
    pub packets: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub overtaken: u64,
    pub corrupted: u64,
    /// Copies that the kernel did not take.
    pub unsent: u64,
    /// How late verdicts were, microseconds.
    pub late_us: Histogram<u32>,
}

impl Default for Done {
    fn default() -> Self {
        let late_us = Histogram::new_with_bounds(1, 60_000_000, 2).expect("the bounds are in order");
        Done { packets: 0, lost: 0, duplicated: 0, overtaken: 0, corrupted: 0, unsent: 0, late_us }
    }
}

/// A running engine. Dropped without [`Engine::end`], its waiting packets are lost with it.
pub struct Engine {
    stop: OwnedFd,
    thread: JoinHandle<anyhow::Result<Done>>,
}

impl Engine {
    /// Binds `queue` for what comes in and `queue + 1` for what goes out; rules may be made once this returns.
    pub fn start(effect: &PacketDelay, queue: u16) -> anyhow::Result<Engine> {
        let mut lanes = Vec::new();
        for side in Side::of(effect.flow.direction) {
            lanes.push(Lane::open(effect, *side, number(queue, *side))?);
        }
        let sender = Sender::open(ENGINE_MARK).map_err(|error| anyhow::anyhow!("a raw socket: {error}"))?;
        let (stop, stopped) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map(|(read, write)| (write, read))?;
        let worker = Worker { lanes, sender, stopped, waiting: BinaryHeap::new(), sequence: 0, done: Done::default() };
        let thread = std::thread::Builder::new().name("squall-queue".into()).spawn(move || worker.run())?;
        Ok(Engine { stop, thread })
    }

    /// True once it has failed by itself: packets pass undelayed.
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Lets everything go that still waits. The rules must match nothing any more, but their hooks must still be there.
    pub fn end(self) -> anyhow::Result<Done> {
        drop(self.stop);
        self.thread.join().map_err(|_| anyhow::anyhow!("the packet queue's thread panicked"))?
    }
}

/// The queue of one side.
pub fn number(queue: u16, side: Side) -> u16 {
    match side {
        Side::In => queue,
        Side::Out => queue + 1,
    }
}

struct Lane {
    queue: PacketQueue,
    model: Model,
    take_over_tcp: bool,
    in_order: bool,
}

impl Lane {
    fn open(effect: &PacketDelay, side: Side, number: u16) -> anyhow::Result<Lane> {
        let take_over_tcp = side == Side::Out && !matches!(effect.flow.protocol, Some(Protocol::Udp | Protocol::Icmp));
        let content = effect.duplicate.value() > 0.0 || effect.corrupt.value() > 0.0;
        let copy = if take_over_tcp || content { Copy::Whole } else { Copy::Nothing };
        let queue =
            PacketQueue::bind(number, copy).map_err(|error| anyhow::anyhow!("packet queue {number}: {error}"))?;
        let model = Model::new(effect, u64::from(side == Side::Out));
        Ok(Lane { queue, in_order: model.keeps_order(), model, take_over_tcp })
    }
}

/// What is to be done with a packet when it is due.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Accept { lane: usize, id: u32 },
    AcceptChanged { lane: usize, id: u32, bytes: Vec<u8> },
    Send { bytes: Vec<u8>, output: u32 },
}

#[derive(Debug, PartialEq, Eq)]
struct Waiting {
    due: Instant,
    /// Of two that are due at once, the first come goes first.
    sequence: u64,
    step: Step,
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.sequence).cmp(&(other.due, other.sequence))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

struct Worker {
    lanes: Vec<Lane>,
    sender: Sender,
    /// Readable once the other end is closed.
    stopped: OwnedFd,
    waiting: BinaryHeap<Reverse<Waiting>>,
    sequence: u64,
    done: Done,
}

impl Worker {
    fn run(mut self) -> anyhow::Result<Done> {
        // Timers of this thread fire when they are due and not up to 50 us later (prctl(2)).
        let _ = nix::sys::prctl::set_timerslack(1);
        // A burdened machine must not make the delay longer. Without the privilege it is as good as it can be.
        // SAFETY: plain system call on this thread.
        let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -15) };
        loop {
            let next = self.waiting.peek().map(|Reverse(next)| next.due);
            let timeout = next.map(|due| TimeSpec::from_duration(due.saturating_duration_since(Instant::now())));
            let mut fds: Vec<PollFd<'_>> = self.lanes.iter().map(|lane| poll_for(lane.queue.as_fd())).collect();
            fds.push(poll_for(self.stopped.as_fd()));
            match ppoll(&mut fds, timeout, None) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            drop(fds);
            let ended = ready[self.lanes.len()];
            for (lane, _) in ready.iter().take(self.lanes.len()).enumerate().filter(|(_, ready)| **ready) {
                self.read(lane)?;
            }
            if ended {
                // A packet that met the rules just before they went may not be in the queue yet.
                std::thread::sleep(STRAGGLERS);
                for lane in 0..self.lanes.len() {
                    while self.read(lane)? > 0 {}
                }
            }
            self.perform(if ended { None } else { Some(Instant::now()) });
            for lane in &mut self.lanes {
                // ENOENT: a packet whose interface went away took its verdict with it.
                let _ = lane.queue.flush();
            }
            if ended {
                return Ok(self.done);
            }
        }
    }

    fn read(&mut self, index: usize) -> anyhow::Result<usize> {
        let now = Instant::now();
        let Worker { lanes, waiting, sequence, done, .. } = self;
        let Lane { queue, model, take_over_tcp, .. } = &mut lanes[index];
        let mut dropped = Vec::new();
        let count = queue.read(|packet| {
            done.packets += 1;
            let fate = model.next();
            if fate.lost {
                done.lost += 1;
                dropped.push(packet.id);
                return;
            }
            done.overtaken += u64::from(fate.early);
            let due = now + fate.delay;
            let mut then = |step| {
                *sequence += 1;
                waiting.push(Reverse(Waiting { due, sequence: *sequence, step }));
            };
            let mut changed = fate.flip.and_then(|flip| flipped(packet.bytes, flip));
            done.corrupted += u64::from(changed.is_some());
            let taken_over = *take_over_tcp && packet.mark == 0 && is_tcp(packet.bytes);
            let copy = |changed: &mut Option<Vec<u8>>| changed.take().unwrap_or_else(|| packet.bytes.to_vec());
            if fate.twice && !packet.bytes.is_empty() {
                done.duplicated += 1;
                then(Step::Send { bytes: copy(&mut changed.clone()), output: packet.output });
            }
            if taken_over {
                dropped.push(packet.id);
                then(Step::Send { bytes: copy(&mut changed), output: packet.output });
            } else {
                then(held(index, packet, changed));
            }
        })?;
        for id in dropped {
            queue.drop(id);
        }
        Ok(count)
    }

    /// Everything that is due at `now`; None: everything.
    fn perform(&mut self, now: Option<Instant>) {
        // In a lane that keeps its order one verdict covers all packets before it.
        let mut newest: Vec<Option<u32>> = vec![None; self.lanes.len()];
        while self.waiting.peek().is_some_and(|Reverse(next)| now.is_none_or(|now| next.due <= now)) {
            let Some(Reverse(next)) = self.waiting.pop() else { break };
            if let Some(now) = now {
                let late = now.duration_since(next.due).as_micros() as u64;
                self.done.late_us.saturating_record(late.max(1));
            }
            match next.step {
                Step::Accept { lane, id } if self.lanes[lane].in_order => newest[lane] = Some(id),
                Step::Accept { lane, id } => self.lanes[lane].queue.accept(id),
                Step::AcceptChanged { lane, id, bytes } => {
                    // What waits before it goes first.
                    if let Some(id) = newest[lane].take() {
                        self.lanes[lane].queue.accept_up_to(id);
                    }
                    self.lanes[lane].queue.accept_changed(id, &bytes);
                }
                Step::Send { bytes, output } => {
                    self.done.unsent += u64::from(self.sender.send(&bytes, output).is_err());
                }
            }
        }
        for (lane, id) in self.lanes.iter_mut().zip(newest) {
            if let Some(id) = id {
                lane.queue.accept_up_to(id);
            }
        }
    }
}

fn poll_for(fd: std::os::fd::BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLIN)
}

fn held(lane: usize, packet: Packet<'_>, changed: Option<Vec<u8>>) -> Step {
    match changed {
        Some(bytes) => Step::AcceptChanged { lane, id: packet.id, bytes },
        None => Step::Accept { lane, id: packet.id },
    }
}

/// Where the IP header ends and which protocol follows; extension headers of IPv6 count as another protocol.
fn header(packet: &[u8]) -> Option<(usize, u8)> {
    match packet.first()? >> 4 {
        4 => Some((usize::from(packet[0] & 0x0f) * 4, *packet.get(9)?)),
        6 => Some((40, *packet.get(6)?)),
        _ => None,
    }
}

fn is_tcp(packet: &[u8]) -> bool {
    header(packet).is_some_and(|(_, protocol)| protocol == libc::IPPROTO_TCP as u8)
}

/// One bit behind the IP header turned over, and no checksum mended: as on a wire whose errors pass the link's check. Receivers that
/// verify a checksum drop it.
fn flipped(packet: &[u8], random: u64) -> Option<Vec<u8>> {
    let (start, _) = header(packet)?;
    let bits = (packet.len().checked_sub(start)? as u64) * 8;
    let bit = random.checked_rem(bits)?;
    let mut bytes = packet.to_vec();
    bytes[start + (bit / 8) as usize] ^= 1 << (bit % 8);
    Some(bytes)
}

/// The share of packets that were at most so late.
pub fn late(done: &Done, quantile: f64) -> Duration {
    Duration::from_micros(done.late_us.value_at_quantile(quantile))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_bit_behind_the_header_is_turned_over() {
        let mut packet = vec![0_u8; 28];
        packet[0] = 0x45;
        for random in 0..200 {
            let bytes = flipped(&packet, random).unwrap();
            let changed: u32 = packet.iter().zip(&bytes).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert_eq!(changed, 1);
            assert_eq!(packet[..20], bytes[..20]);
        }
        assert_eq!(flipped(&packet[..20], 1), None);
        assert_eq!(flipped(&[], 1), None);
    }

    #[test]
    fn of_packets_due_at_once_the_first_come_goes_first() {
        let due = Instant::now();
        let at = |sequence, due| Reverse(Waiting { due, sequence, step: Step::Accept { lane: 0, id: 1 } });
        let mut heap = BinaryHeap::from([at(2, due), at(1, due), at(0, due + Duration::from_millis(1))]);
        let order: Vec<u64> = std::iter::from_fn(|| heap.pop().map(|Reverse(next)| next.sequence)).collect();
        assert_eq!(order, [1, 2, 0]);
    }
}
