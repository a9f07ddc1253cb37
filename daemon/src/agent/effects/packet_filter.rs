//! PacketFilter: an nft table of our own, owned by the holder's netlink socket, whose rules match only while a timed element lives.
//!
//! Undo: the kernel removes the table when the socket closes, so the holder's death is enough. A holder that hangs past its deadline is
//! harmless as well: the timed elements run out and the rules match nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;
use squall_experiments::effect::{Connections, Cut, Flow, PacketFilter};
use squall_experiments::run_event::Evidence;

use super::flow_rules::{ALIVE, Action, LATE, Rules, Side};
use super::reach::{Answers, Question, Reach, life_until, milliseconds};
use super::tether::{Outcome, Tether, Wake};
use super::{Context, Hold, Prepared, Presence, Refusal, SparedFlow, Trace};
use crate::agent::kernel::netlink::{self, Refused, Socket};
use crate::agent::kernel::network::Network;
use crate::agent::kernel::nft::{self, Batch, Counter, QueueKind, Table};
use crate::agent::{facts, spared};

/// How long an echo request may go unanswered before it counts as lost.
const PATIENCE: Duration = Duration::from_millis(150);

pub fn prepare(effect: &PacketFilter, context: &Context) -> Result<Prepared, Refusal> {
    use squall_experiments::inventory::Ability;
    facts::network::require(Ability::PacketFilter)?;
    if effect.connections != Connections::All {
        facts::network::require(Ability::ConnectionState)?;
    }
    check_flow(&effect.flow)?;
    if effect.share.value() <= 0.0 {
        return Err(Refusal("a share of 0% hits no packet".into()));
    }
    let table = free_table(context)?;
    let spared = spared::resolve(&effect.flow, context.coordinator);
    let nowhere = facts::network::queue_kind();
    let hold = Hold::PacketFilter { table: table.clone(), filter: effect.clone(), spared, nowhere, inside: None };
    Ok(Prepared { hold, traces: vec![Trace::NftTable { name: table, network: Network::here().ok() }] })
}

/// What no network effect can do on this host, said before anything is tried.
pub fn check_flow(flow: &Flow) -> Result<(), Refusal> {
    let Some(name) = &flow.interface else { return Ok(()) };
    let links = crate::agent::kernel::links::all().map_err(|error| Refusal(format!("interfaces: {error}")))?;
    if links.iter().any(|link| link.name == *name) {
        return Ok(());
    }
    let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    Err(Refusal(format!("there is no interface `{name}` here (there are: {})", names.join(", "))))
}

/// The name of this effect's table; refused if something has it already.
pub fn free_table(context: &Context) -> Result<String, Refusal> {
    let name = format!("squall-{}", context.tag);
    match find(&name) {
        Ok(None) => Ok(name),
        Ok(Some(_)) => Err(Refusal(format!("an nft table `{name}` exists already"))),
        Err(error) => Err(Refusal(format!("nft tables cannot be listed: {error}"))),
    }
}

pub fn hold(
    table: &str,
    filter: &PacketFilter,
    spared: &[SparedFlow],
    nowhere: Option<QueueKind>,
    tether: &mut Tether,
) -> anyhow::Result<Outcome> {
    let reach = Reach::before(&filter.flow, filter.connections);
    let mut socket = nft::open()?;
    let rules = Rules {
        table,
        flow: &filter.flow,
        spared,
        action: Action::Cut {
            how: filter.how,
            connections: filter.connections,
            fraction: filter.share.fraction(),
            nowhere,
        },
        output_priority: LATE,
        life: life_until(tether.deadline_us()),
    };
    let committed = rules.batch().commit(&mut socket);
    committed.map_err(|refused| anyhow::anyhow!("the kernel refused the rules: {refused}"))?;
    tether.active(vec![in_place(&mut socket, table)?]);

    let mut evidence = Vec::new();
    let mut released = false;
    if let Some(reach) = &reach {
        let fraction = filter.share.fraction();
        let times = if reach.question == Question::Echo { questions(fraction) } else { 1 };
        match reach.during(tether, times, PATIENCE, |deadline| renew(&mut socket, table, deadline)) {
            Some(answers) => evidence.extend(answers.iter().map(|(peer, answers)| {
                let what = match reach.question {
                    Question::Echo => format!("echo to {peer}"),
                    Question::Connect(port) => format!("connection to {}", SocketAddr::new(*peer, port)),
                };
                judge(what, reach.before.get(peer).copied(), answers, fraction)
            })),
            None => released = true,
        }
    }
    while !released {
        match tether.wait(None, None) {
            Wake::Release => released = true,
            Wake::Renewed { deadline_us } => renew(&mut socket, table, deadline_us),
            Wake::Tick => {}
        }
    }
    evidence.insert(0, counted(&mut socket, table, &filter.flow, verb(filter.how)));
    take_back(&mut socket, table)?;
    Ok(Outcome { evidence, ..Outcome::default() })
}

/// Deletes the table that this socket owns.
pub fn take_back(socket: &mut Socket, table: &str) -> anyhow::Result<()> {
    let mut batch = Batch::on(table);
    batch.delete_table();
    match batch.commit(socket) {
        Ok(()) => Ok(()),
        Err(refused) if refused.errno == Errno::ENOENT => Ok(()),
        // The kernel takes it with the socket when this process ends; the agent observes that.
        Err(refused) => Err(anyhow::anyhow!("the table {table} could not be deleted: {refused}")),
    }
}

/// Moves the kernel's own deadline. If that fails the rules end at the old one: the safe side.
pub fn renew(socket: &mut Socket, table: &str, deadline_us: u64) {
    let mut batch = Batch::on(table);
    batch.renew_families(ALIVE, life_until(deadline_us));
    let _ = batch.commit(socket);
}

/// Rules match nothing any more; the table and its hooks stay.
pub fn disarm(socket: &mut Socket, table: &str) {
    let mut batch = Batch::on(table);
    batch.empty_set(ALIVE);
    // If that fails, deleting the table is what ends it.
    let _ = batch.commit(socket);
}

/// Read back from the kernel: the rules are there and ours.
pub fn in_place(socket: &mut Socket, table: &str) -> anyhow::Result<Evidence> {
    let found = Table::find(socket, table)?;
    let owned = found.is_some_and(|table| table.ours && table.owner.is_some());
    anyhow::ensure!(owned, "the table {table} is not there after the kernel took it");
    Ok(Evidence {
        what: format!("nft table {table}"),
        before: "absent".into(),
        after: "in place, owned by the holder".into(),
        bites: None,
        numbers: BTreeMap::new(),
    })
}

/// What the rules counted over their life.
pub fn counted(socket: &mut Socket, table: &str, flow: &Flow, verb: &str) -> Evidence {
    let mut sum = Counter::default();
    for side in Side::of(flow.direction) {
        let counter = Counter::of_chain(socket, table, side.hits()).unwrap_or_default();
        sum.packets += counter.packets;
        sum.bytes += counter.bytes;
    }
    Evidence {
        what: format!("packets {verb}"),
        before: "0".into(),
        after: sum.packets.to_string(),
        bites: (sum.packets > 0).then_some(true),
        numbers: BTreeMap::from([("packets".into(), sum.packets as f64), ("bytes".into(), sum.bytes as f64)]),
    }
}

fn verb(how: Cut) -> &'static str {
    match how {
        Cut::Drop => "dropped",
        Cut::Reject => "rejected",
        Cut::Reset => "reset or rejected",
    }
}

/// So many that at least one is hit with a probability of 99.9 %, within reason.
fn questions(fraction: f64) -> usize {
    if fraction >= 1.0 {
        return 2;
    }
    ((0.001_f64.ln() / (1.0 - fraction).ln()).ceil() as usize).clamp(2, 100)
}

/// Without an answer before, silence now proves nothing; the counters may.
fn judge(what: String, before: Option<Duration>, answers: &Answers, fraction: f64) -> Evidence {
    let lost = answers.asked.saturating_sub(answers.times.len());
    let by_chance = (1.0 - fraction).powi(answers.asked as i32);
    let bites = match lost {
        _ if before.is_none() => None,
        0 if answers.asked == 0 || by_chance > 0.001 => None,
        0 => Some(false),
        _ => Some(true),
    };
    Evidence {
        what,
        before: before.map_or("no answer".into(), |time| format!("answers in {}", milliseconds(time))),
        after: format!("{lost} of {} lost", answers.asked),
        bites,
        numbers: BTreeMap::from([("asked".into(), answers.asked as f64), ("lost".into(), lost as f64)]),
    }
}

fn find(table: &str) -> Result<Option<Table>, Refused> {
    Table::find(&mut nft::open()?, table)
}

/// A kernel without nf_tables holds no table of ours.
fn no_nf_tables(refused: &Refused) -> bool {
    matches!(refused.errno, Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT)
}

/// The nft table, if it is ours. One that a live socket owns cannot be deleted by anybody else: its holder must end first.
pub fn remove(table: &str) -> anyhow::Result<()> {
    let found = match find(table) {
        Ok(found) => found,
        Err(refused) if no_nf_tables(&refused) => return Ok(()),
        Err(refused) => anyhow::bail!("nft table {table}: {}", netlink::because(&refused)),
    };
    let Some(found) = found else { return Ok(()) };
    anyhow::ensure!(found.ours, "the nft table {table} does not carry our mark: it is left alone");
    let mut batch = Batch::on(table);
    batch.delete_table();
    match batch.commit(&mut nft::open()?) {
        Ok(()) => Ok(()),
        Err(refused) if refused.errno == Errno::ENOENT => Ok(()),
        Err(refused) if refused.errno == Errno::EPERM && found.owner.is_some() => {
            anyhow::bail!("the nft table {table} is owned by a live socket: it goes when its holder ends")
        }
        Err(refused) => anyhow::bail!("nft table {table}: {}", netlink::because(&refused)),
    }
}

pub fn observe(table: &str) -> Presence {
    match find(table) {
        Ok(None) => Presence::Absent,
        Ok(Some(found)) if found.ours => Presence::Present(format!("nft table {table}")),
        Ok(Some(_)) => Presence::Unknown(format!("an nft table {table} is there and does not carry our mark")),
        Err(refused) if no_nf_tables(&refused) => Presence::Absent,
        Err(refused) => Presence::Unknown(format!("nft table {table}: {}", netlink::because(&refused))),
    }
}

/// Tables with our mark that no socket owns. One with a living owner goes with it, and may be another agent's.
pub fn leftovers() -> anyhow::Result<Vec<String>> {
    match nft::open().and_then(|mut socket| Table::all(&mut socket)) {
        Ok(tables) => Ok(tables.into_iter().filter(|t| t.ours && t.owner.is_none()).map(|table| table.name).collect()),
        Err(refused) if no_nf_tables(&refused) => Ok(Vec::new()),
        Err(refused) => anyhow::bail!("nft tables cannot be listed: {}", netlink::because(&refused)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_asks_until_a_miss_would_be_a_surprise() {
        assert_eq!(questions(1.0), 2);
        assert_eq!(questions(0.5), 10);
        assert_eq!(questions(0.001), 100);
    }

    #[test]
    fn all_answers_to_a_full_cut_say_that_it_does_not_bite_and_to_a_small_share_say_nothing() {
        let answers = Answers { asked: 2, times: vec![Duration::from_millis(1); 2] };
        assert_eq!(judge("x".into(), Some(Duration::ZERO), &answers, 1.0).bites, Some(false));
        assert_eq!(judge("x".into(), Some(Duration::ZERO), &answers, 0.1).bites, None);
        let lost = Answers { asked: 2, times: vec![] };
        assert_eq!(judge("x".into(), Some(Duration::ZERO), &lost, 0.1).bites, Some(true));
        assert_eq!(judge("x".into(), None, &lost, 1.0).bites, None);
    }
}
