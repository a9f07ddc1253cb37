//! PacketDelay: netem in an inert band where the kernel has it, else the packet-queue engine.
//!
//! Undo: the nft table goes with the holder's socket, and with it nothing is steered or queued any more; a queue without its
//! worker is bypassed. Only netem leaves a qdisc, which is inert then and has a trace of its own.

mod model;
pub mod netem;
mod queue;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use squall_experiments::effect::{Connections, Direction, Engine, PacketDelay};
use squall_experiments::inventory::Ability;
use squall_experiments::run_event::Evidence;

use super::flow_rules::{Action, EARLY, LATE, Rules, Side};
use super::packet_filter::{check_flow, counted, disarm, free_table, in_place, renew, take_back};
use super::reach::{Answers, Reach, life_until, milliseconds};
use super::tether::{Outcome, Tether, Wake};
use super::{Context, Hold, Prepared, Presence, Refusal, SparedFlow, Trace};
use crate::agent::kernel::netlink::Socket;
use crate::agent::kernel::network::Network;
use crate::agent::kernel::nft::{self, Queue, QueueKind};
use crate::agent::kernel::{nfqueue, tc};
use crate::agent::{facts, spared};

/// How often an engine that ended by itself is noticed.
const WATCH: Duration = Duration::from_millis(200);
/// Echo requests per peer while active.
const QUESTIONS: usize = 3;

pub fn prepare(effect: &PacketDelay, context: &Context) -> Result<Prepared, Refusal> {
    facts::network::require(Ability::PacketFilter)?;
    check_flow(&effect.flow)?;
    let table = free_table(context)?;
    let mut traces = vec![Trace::NftTable { name: table.clone(), network: Network::here().ok() }];
    let (queue, kind, interfaces) = match effect.engine {
        Engine::PacketQueue => {
            facts::network::require(Ability::PacketQueue)?;
            (free_queue(&context.tag), facts::network::queue_kind(), Vec::new())
        }
        Engine::Netem => {
            facts::network::require(Ability::Netem)?;
            let (interfaces, more) = netem::prepare(effect)?;
            traces.extend(more);
            (0, None, interfaces)
        }
    };
    let spared = spared::resolve(&effect.flow, context.coordinator);
    let hold = Hold::PacketDelay { table, delay: effect.clone(), spared, queue, kind, interfaces, inside: None };
    Ok(Prepared { hold, traces })
}

/// Two neighbouring queue numbers that nobody has bound, by the tag's hash so that effects at the same time rarely meet.
fn free_queue(tag: &str) -> u16 {
    let taken = nfqueue::taken();
    let start = (crc32fast::hash(tag.as_bytes()) % 0x2000) as u16;
    let candidates = (0..0x2000_u16).map(|step| 0x4000 + 2 * ((start + step) % 0x2000));
    candidates.into_iter().find(|queue| !taken.contains(queue) && !taken.contains(&(queue + 1))).unwrap_or(0x4000)
}

pub fn hold(
    table: &str,
    delay: &PacketDelay,
    spared: &[SparedFlow],
    queue: Option<(QueueKind, u16)>,
    interfaces: &[u32],
    tether: &mut Tether,
) -> anyhow::Result<Outcome> {
    let reach = Reach::before(&delay.flow, Connections::All);
    let mut socket = nft::open()?;
    let rules =
        |action, output_priority, life| Rules { table, flow: &delay.flow, spared, action, output_priority, life };
    let life = life_until(tether.deadline_us());
    let engine = match delay.engine {
        Engine::PacketQueue => {
            let (kind, queue) = queue.ok_or_else(|| anyhow::anyhow!("this kernel has no packet queue"))?;
            let engine = queue::Engine::start(delay, queue)?;
            let to = |side| Queue { kind, number: queue::number(queue, side), bypass: true };
            let action = Action::Queue { input: to(Side::In), output: to(Side::Out) };
            let committed = rules(action, EARLY, life).batch().commit(&mut socket);
            committed.map_err(|refused| anyhow::anyhow!("the kernel refused the rules: {refused}"))?;
            Some(engine)
        }
        Engine::Netem => {
            netem::apply(delay, interfaces)?;
            if let Err(refused) = rules(Action::Class(netem::CLASS), LATE, life).batch().commit(&mut socket) {
                netem::take_back(interfaces);
                anyhow::bail!("the kernel refused the rules: {refused}");
            }
            None
        }
    };
    let there = in_place(&mut socket, table).inspect_err(|_| netem::take_back(interfaces))?;
    tether.active(vec![there]);
    let evidence = watch(table, delay, &reach, engine.as_ref(), &mut socket, tether);
    // The kernel drops every queued packet of this namespace when a hook goes (nf_queue_nf_hook_drop): first nothing new is queued,
    // then everything that waits is let go, and only then the table is deleted.
    disarm(&mut socket, table);
    let done = engine.map(queue::Engine::end).transpose();
    let deleted = take_back(&mut socket, table);
    netem::take_back(interfaces);
    deleted?;
    let mut evidence = evidence?;
    evidence.extend(done?.as_ref().map(engine_did));
    Ok(Outcome { evidence, ..Outcome::default() })
}

/// From active to release. An error: the engine ended by itself, and packets pass undelayed.
fn watch(
    table: &str,
    delay: &PacketDelay,
    reach: &Option<Reach>,
    engine: Option<&queue::Engine>,
    socket: &mut Socket,
    tether: &mut Tether,
) -> anyhow::Result<Vec<Evidence>> {
    let mut evidence = Vec::new();
    let mut released = false;
    if let Some(reach) = reach {
        let slowest = reach.before.values().max().copied().unwrap_or_default();
        let patience = longest(delay) + slowest + Duration::from_millis(100);
        match reach.during(tether, QUESTIONS, patience, |deadline| renew(socket, table, deadline)) {
            Some(answers) => evidence.extend(
                answers
                    .iter()
                    .filter_map(|(peer, answers)| Some(judge(*peer, *reach.before.get(peer)?, answers, delay))),
            ),
            None => released = true,
        }
    }
    while !released {
        match tether.wait(engine.map(|_| WATCH), None) {
            Wake::Release => released = true,
            Wake::Renewed { deadline_us } => renew(socket, table, deadline_us),
            Wake::Tick => {
                anyhow::ensure!(!engine.is_some_and(queue::Engine::is_over), "the packet queue ended by itself")
            }
        }
    }
    evidence.insert(0, counted(socket, table, &delay.flow, "delayed or disturbed"));
    Ok(evidence)
}

/// What a round trip grows by, on average.
fn added(delay: &PacketDelay) -> Duration {
    let ways = if delay.flow.direction == Direction::Both { 2 } else { 1 };
    delay.latency.0 * ways
}

fn longest(delay: &PacketDelay) -> Duration {
    (added(delay) + delay.jitter.0 * 6).min(Duration::from_secs(10))
}

/// The median of the round trips against the one before; half of what should be added is enough, so that jitter does not decide.
fn judge(peer: IpAddr, before: Duration, answers: &Answers, delay: &PacketDelay) -> Evidence {
    let mut times = answers.times.clone();
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied();
    let lost = answers.asked.saturating_sub(times.len());
    let grown = median.map(|median| median.saturating_sub(before));
    let bites = match grown {
        Some(grown) if !delay.latency.0.is_zero() && delay.jitter.0 <= delay.latency.0 => {
            Some(grown * 2 >= added(delay))
        }
        // Without a latency to see, only a loss that was seen proves something.
        _ => (delay.loss.value() > 0.0 && lost > 0).then_some(true),
    };
    let mut numbers = BTreeMap::from([
        ("beforeMs".to_owned(), before.as_secs_f64() * 1000.0),
        ("asked".to_owned(), answers.asked as f64),
        ("lost".to_owned(), lost as f64),
    ]);
    numbers.extend(median.map(|median| ("afterMs".to_owned(), median.as_secs_f64() * 1000.0)));
    Evidence {
        what: format!("round trip to {peer}"),
        before: milliseconds(before),
        after: match median {
            Some(median) => format!("{} ({lost} of {} lost)", milliseconds(median), answers.asked),
            None => format!("no answer ({lost} of {} lost)", answers.asked),
        },
        bites,
        numbers,
    }
}

fn engine_did(done: &queue::Done) -> Evidence {
    let late = |quantile| queue::late(done, quantile).as_secs_f64() * 1000.0;
    Evidence {
        what: "packet queue: verdicts given late by".into(),
        before: "0 packets".into(),
        after: format!(
            "{:.2} ms (median), {:.2} ms (99th percentile) over {} packets",
            late(0.5),
            late(0.99),
            done.packets
        ),
        bites: (done.packets > 0).then_some(true),
        numbers: [
            ("packets", done.packets as f64),
            ("lost", done.lost as f64),
            ("duplicated", done.duplicated as f64),
            ("overtaken", done.overtaken as f64),
            ("corrupted", done.corrupted as f64),
            ("unsent", done.unsent as f64),
            ("lateP50Ms", late(0.5)),
            ("lateP99Ms", late(0.99)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
    }
}

pub fn remove_netem(interface: u32, handle: u32) -> anyhow::Result<()> {
    netem::remove(interface, handle)
}

pub fn observe_netem(interface: u32, handle: u32) -> Presence {
    netem::observe(interface, handle)
}

/// For the ability: the very qdiscs on an interface of a namespace made for it.
pub fn try_netem(interface: u32) -> Result<(), crate::agent::kernel::netlink::Refused> {
    let mut socket = tc::open()?;
    socket.request(tc::prio_root(interface, netem::ROOT_HANDLE))?;
    socket.request(tc::netem(interface, netem::ROOT_HANDLE + 0x1_0000, netem::CLASS, &tc::Netem::default()))?;
    Ok(())
}
