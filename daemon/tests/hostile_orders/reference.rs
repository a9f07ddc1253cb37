//! What docs/policy.md says of an order, written from that page alone: whole numbers, no code of the agent's.

use std::net::IpAddr;

use squall_experiments::effect::{Effect, Flow, Hog, HostWide};
use squall_experiments::target::ProcessSelector;
use squall_experiments::wire::Order;

use crate::ground::{Ground, Leads, Place};
use crate::paper::{Lists, MOUNT, NETWORK, PROCESSES, Paper};

/// Words for every rule that the order breaks. None: it is allowed.
pub fn broken(paper: &Paper, order: &Order, ground: &Ground) -> Vec<&'static str> {
    if malformed(order) {
        return vec!["malformed"];
    }
    let mut broken = Vec::new();
    let mut rule = |name, is_broken: bool| broken.extend(is_broken.then_some(name));
    rule("fault", !permits(&paper.faults, &order.fault));
    rule("duration", paper.duration_s.is_some_and(|limit| order.duration_ms > limit * 1000));
    rule("lease", paper.lease_s.is_some_and(|limit| order.lease_ms > limit * 1000));
    // `kept`: of a million million packets, those that come through all of it.
    let mut rates = None::<u64>;
    let (mut nanoseconds, mut workers, mut kept) = (0_u128, 0_u64, 1_000_000_000_000_u128);
    let mut keep = |percent: f64| kept = kept * (100 - percent as u128) / 100;
    for effect in &order.effects {
        rule("effect", !permits(&paper.effects, kind(effect)));
        let on_processes = matches!(effect, Effect::Signal(_) | Effect::Freeze(_) | Effect::Unit(_) | Effect::Host(_))
            || matches!(effect, Effect::PacketFilter(it) if it.flow.inside.is_some())
            || matches!(effect, Effect::PacketDelay(it) if it.flow.inside.is_some());
        rule("pid namespace", on_processes && paper.not_processes.contains(&PROCESSES));
        match effect {
            Effect::PacketFilter(filter) => {
                flow(paper, &filter.flow, &mut rule);
                keep(filter.share.value());
            }
            Effect::PacketDelay(delay) => {
                flow(paper, &delay.flow, &mut rule);
                nanoseconds += delay.latency.0.as_nanos() + delay.jitter.0.as_nanos();
                keep(delay.loss.value());
                keep(delay.corrupt.value());
            }
            Effect::Signal(_) => rule("irreversible", paper.irreversible == Some(false)),
            Effect::Freeze(_) | Effect::Hog(Hog::Memory { .. }) => {}
            Effect::Unit(unit) => rule("service", !paper.services.contains(&unit.service.as_str())),
            Effect::Load(load) => {
                let highest = load.stages.iter().flat_map(|stage| [stage.from as u64, stage.to as u64]).max();
                rates = Some(rates.unwrap_or(0) + highest.unwrap_or(0));
            }
            Effect::Host(HostWide::Freeze) => rule("whole host", !paper.whole_host.contains(&"freeze")),
            Effect::Host(HostWide::Crash { restart }) => {
                rule("irreversible", paper.irreversible == Some(false));
                rule("whole host", !paper.whole_host.contains(&"crash"));
                rule("service", restart.iter().any(|name| !paper.services.contains(&name.as_str())));
            }
            Effect::Hog(Hog::Cpu { workers: more, load }) => {
                workers += u64::from(*more);
                rule("load", paper.load.is_some_and(|limit| load.value() > limit as f64));
            }
            Effect::HoldSpace(space) => {
                rule("mount namespace", paper.not_mount.contains(&MOUNT));
                rule("path", !path_permitted(paper, &space.path, ground));
            }
        }
    }
    rule("load rate", rates.is_some_and(|asked| paper.load_rate.is_none_or(|limit| asked > limit)));
    rule("latency", paper.latency_ms.is_some_and(|limit| nanoseconds > u128::from(limit) * 1_000_000));
    rule("workers", paper.workers.is_some_and(|limit| workers > limit));
    let whole = 1_000_000_000_000_u128;
    rule("loss", paper.loss.is_some_and(|limit| (whole - kept) * 100 > u128::from(limit) * whole));
    broken
}

fn kind(effect: &Effect) -> &'static str {
    match effect {
        Effect::PacketFilter(_) => "packet-filter",
        Effect::PacketDelay(_) => "packet-delay",
        Effect::Signal(_) => "signal",
        Effect::Freeze(_) => "freeze",
        Effect::HoldSpace(_) => "hold-space",
        Effect::Hog(_) => "hog",
        Effect::Load(_) => "load",
        Effect::Unit(_) => "unit",
        Effect::Host(HostWide::Freeze) => "host-freeze",
        Effect::Host(HostWide::Crash { .. }) => "host-crash",
    }
}

fn permits(lists: &Lists, name: &str) -> bool {
    !lists.deny.contains(&name) && lists.allow.as_ref().is_none_or(|allow| allow.contains(&name))
}

fn flow(paper: &Paper, flow: &Flow, rule: &mut impl FnMut(&'static str, bool)) {
    match flow.inside {
        Some(_) => rule("container network", paper.container_networks == Some(false)),
        None => rule("network namespace", paper.not_network.contains(&NETWORK)),
    }
    match &flow.interface {
        Some(name) => rule("interface", !permits(&paper.interfaces, name)),
        None => rule("no interface", paper.interfaces.allow.is_some()),
    }
    // An order that names a protected peer is refused; one that means it among others leaves it alone.
    let named = flow.peers.iter().any(|peer| {
        let asked = range(&peer.to_string());
        paper
            .peers
            .iter()
            .map(|rule| range(rule))
            .any(|rule| rule.0 == asked.0 && rule.1 <= asked.1 && asked.2 <= rule.2)
    });
    rule("peer", named);
}

/// IPv6 or not, first and last address of a network, from its text.
fn range(text: &str) -> (bool, u128, u128) {
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let (six, bits, width) = match address.parse().unwrap() {
        IpAddr::V4(address) => (false, u128::from(address.to_bits()), 32_u32),
        IpAddr::V6(address) => (true, address.to_bits(), 128),
    };
    let free = width - length.map_or(width, |length| length.parse().unwrap());
    let mask = if free == 128 { u128::MAX } else { (1_u128 << free) - 1 };
    (six, bits & !mask, bits | mask)
}

pub fn path_permitted(paper: &Paper, asked: &str, ground: &Ground) -> bool {
    if paper.protected_paths.is_empty() && paper.allowed_paths.is_none() {
        return true;
    }
    let protected = |disk: usize| paper.protected_paths.iter().any(|place| place.disk == disk);
    match ground.leads(asked) {
        Some(Leads::Here(place)) => {
            let below = |top: &Place| top.disk == place.disk && place.parts.starts_with(top.parts);
            !protected(place.disk) && paper.allowed_paths.as_ref().is_none_or(|allowed| allowed.iter().any(below))
        }
        Some(Leads::Elsewhere(disk)) => !disk.is_some_and(protected) && paper.allowed_paths.is_none(),
        Some(Leads::Unclear) | None => false,
    }
}

fn malformed(order: &Order) -> bool {
    const YEAR_MS: u64 = 366 * 24 * 60 * 60 * 1000;
    let name = |text: &str| plain(text, 512) && text.as_bytes()[0] != b'-';
    let times = [order.duration_ms, order.lease_ms];
    !(name(&order.run) && name(&order.injection) && name(&order.fault))
        || times.iter().any(|ms| *ms == 0 || *ms > YEAR_MS)
        || order.effects.len() > 16
        || order.effects.iter().any(|effect| match effect {
            Effect::PacketFilter(filter) => bad_flow(&filter.flow),
            Effect::PacketDelay(delay) => bad_flow(&delay.flow),
            Effect::Signal(signal) => bad_selector(&signal.processes),
            Effect::Freeze(freeze) => bad_selector(&freeze.processes),
            Effect::HoldSpace(space) => bad_path(&space.path),
            Effect::Hog(Hog::Cpu { workers, .. }) => *workers == 0,
            Effect::Hog(Hog::Memory { .. }) => false,
            Effect::Unit(unit) => !name(&unit.service),
            Effect::Load(load) => {
                let text = |text: &str| plain(text, 4095);
                !(1..=16).contains(&load.requests.len())
                    || load.requests.iter().any(|request| !text(&request.url) || request.weight == 0)
                    || !name(&load.method)
                    || load.headers.iter().any(|(key, value)| !name(key) || !text(value))
                    || load.stages.iter().any(|stage| {
                        stage.from < 0.0 || stage.to > 1e6 || stage.over.0.as_millis() > u128::from(YEAR_MS)
                    })
                    || !(1..=10_000).contains(&load.in_flight)
                    || load.timeout.0.is_zero()
                    || load.timeout.0.as_millis() > u128::from(YEAR_MS)
            }
            Effect::Host(HostWide::Freeze) => false,
            Effect::Host(HostWide::Crash { restart }) => {
                let twice = restart.iter().any(|one| restart.iter().filter(|other| *other == one).count() > 1);
                twice || restart.len() > 16 || restart.iter().any(|one| !name(one))
            }
        })
}

fn plain(text: &str, longest: usize) -> bool {
    // C0, DEL and C1.
    let control = |c: char| matches!(u32::from(c), 0..=0x1f | 0x7f..=0x9f);
    (1..=longest).contains(&text.len()) && !text.chars().any(control)
}

fn bad_path(text: &str) -> bool {
    !plain(text, 4095) || text.as_bytes()[0] != b'/'
}

fn bad_flow(flow: &Flow) -> bool {
    let bad_name = |name: &String| {
        let odd = name.chars().any(|c| c.is_whitespace() || "/:\"*+".find(c).is_some());
        !plain(name, 15) || odd || name.as_bytes()[0] == b'-' || [".", ".."].contains(&name.as_str())
    };
    flow.peers.len() > 4096
        || flow.local_ports.len() > 1024
        || flow.remote_ports.len() > 1024
        || flow.interface.as_ref().is_some_and(bad_name)
        || flow.inside.as_ref().is_some_and(bad_selector)
}

fn bad_selector(selector: &ProcessSelector) -> bool {
    let bad = |text: &Option<String>, longest| text.as_ref().is_some_and(|text| !plain(text, longest));
    bad(&selector.name, 512)
        || bad(&selector.user, 512)
        || bad(&selector.unit, 512)
        || bad(&selector.container, 512)
        || bad(&selector.command, 4095)
        || bad(&selector.cgroup, 4095)
        || selector.cgroup.as_ref().is_some_and(|path| path.split('/').any(|part| part == ".."))
        || selector.pid_file.as_ref().is_some_and(|path| bad_path(path))
}

/// Broken by what an order came to on the host: bytes held on each disk, and in memory.
pub fn too_much(paper: &Paper, space: &[(Place, u64)], memory: u64, ground: &Ground) -> bool {
    let total: u128 = space.iter().map(|(_, bytes)| u128::from(*bytes)).sum();
    let whole = space.iter().map(|(place, _)| ground.sizes[place.disk]).min();
    let over = |bytes: u128, mib: Option<u64>, share: Option<u64>, whole: u64| {
        mib.is_some_and(|limit| bytes > u128::from(limit) << 20)
            || share.is_some_and(|share| bytes * 100 > u128::from(share) * u128::from(whole))
    };
    whole.is_some_and(|whole| over(total, paper.space_mib, paper.space_share, whole))
        || (memory > 0 && over(u128::from(memory), paper.memory_mib, paper.memory_share, ground.memory))
        || space.iter().any(|(place, _)| !path_permitted(paper, &ground.path(*place), ground))
}
