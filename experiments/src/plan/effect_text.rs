//! Effects in plain words: what is done to the host, with every amount.

use cidr::IpCidr;

use crate::effect::{
    Amount, Connections, Cut, Direction, Distribution, Effect, Engine, Flow, Hog, HostWide, Load, PacketDelay,
    Protocol, Stage, UnitAction,
};
use crate::target::{Pick, ProcessSelector};
use crate::units::{Percent, Size, Span};

/// One sentence for one effect.
pub fn in_words(effect: &Effect) -> String {
    match effect {
        Effect::PacketFilter(filter) => {
            let verb = match filter.how {
                Cut::Drop => "drops",
                Cut::Reject => "rejects (with ICMP)",
                Cut::Reset => "resets (TCP) or rejects (others)",
            };
            let share = if filter.share == Percent::FULL { "all".to_owned() } else { filter.share.to_string() };
            let connections = match filter.connections {
                Connections::All => "",
                Connections::Established => ", established connections only",
                Connections::New => ", new connections only",
            };
            format!("{verb} {share} {}{connections}", flow(&filter.flow))
        }
        Effect::PacketDelay(delay) => packet_delay(delay),
        Effect::Signal(signal) => {
            let name = format!("{:?}", signal.signal).to_uppercase();
            let mut text = format!("sends SIG{name} to {}", processes(&signal.processes));
            if let Some(repeat) = signal.repeat {
                text += &format!(", again every {repeat}");
            }
            if let Some(back) = signal.back_within {
                text += &format!("; must be back within {back}");
            }
            text
        }
        Effect::Freeze(freeze) => format!("stops {}", processes(&freeze.processes)),
        Effect::HoldSpace(space) => {
            let amount_text = amount(space.amount, "of the filesystem", "free");
            format!("occupies {amount_text} at {}{}", space.path, reserve(space.amount, space.reserve, "free"))
        }
        Effect::Hog(Hog::Cpu { workers, load }) => {
            let threads = if *workers == 1 { "1 thread".to_owned() } else { format!("{workers} threads") };
            format!("burns processor time with {threads} at {load} load each")
        }
        Effect::Hog(Hog::Memory { amount: wanted, reserve }) => {
            let amount_text = amount(*wanted, "of the memory", "available");
            format!("occupies {amount_text}{}", self::reserve(*wanted, *reserve, "available"))
        }
        Effect::Unit(unit) => {
            let done = match unit.action {
                UnitAction::Stop => "stops the service",
                UnitAction::Restart => "restarts the service",
            };
            let back = unit.back_within.map(|back| format!("; must be back within {back}")).unwrap_or_default();
            format!("{done} {}{back}", unit.service)
        }
        Effect::Load(load) => self::load(load),
        Effect::Host(HostWide::Freeze) => {
            "stops every process of the host but Squall's own and protected ones".to_owned()
        }
        Effect::Host(HostWide::Crash { restart }) => {
            let done = "kills every process of the host but Squall's own and protected ones";
            match restart.is_empty() {
                true => done.to_owned(),
                false => format!("{done}; then starts {}", restart.join(", ")),
            }
        }
    }
}

fn load(load: &Load) -> String {
    let urls: Vec<&str> = load.requests.iter().map(|request| request.url.as_str()).collect();
    let stage = |stage: &Stage| match (stage.from == stage.to, stage.over == Span::default()) {
        (true, true) => format!("{}/s", stage.to),
        (true, false) => format!("{}/s for {}", stage.to, stage.over),
        (false, _) => format!("{}/s to {}/s within {}", stage.from, stage.to, stage.over),
    };
    let stages: Vec<String> = load.stages.iter().map(stage).collect();
    let mut text = format!("sends {} {}: {}", load.method, urls.join(", "), stages.join(", then "));
    text += &format!("; at most {} unanswered, each for {}", load.in_flight, load.timeout);
    if let Some(share) = load.min_success {
        text += &format!("; success must be >= {share}");
    }
    if let Some(p99) = load.max_p99 {
        text += &format!("; p99 must be <= {p99}");
    }
    text
}

fn packet_delay(delay: &PacketDelay) -> String {
    let mut done = Vec::new();
    if delay.latency != Span::default() || delay.jitter != Span::default() {
        let mut text = format!("delays by {}", delay.latency);
        if delay.jitter != Span::default() {
            let distribution = match delay.distribution {
                Distribution::Uniform => "uniform",
                Distribution::Normal => "normal",
                Distribution::Pareto => "pareto",
            };
            text += &format!(" +- {} ({distribution})", delay.jitter);
        }
        done.push(text);
    }
    let shares = [
        ("loses", delay.loss),
        ("duplicates", delay.duplicate),
        ("reorders", delay.reorder),
        ("corrupts", delay.corrupt),
    ];
    done.extend(
        shares.iter().filter(|(_, share)| *share != Percent::ZERO).map(|(verb, share)| format!("{verb} {share}")),
    );
    if delay.correlation != Percent::ZERO {
        done.push(format!("each {} correlated with the one before", delay.correlation));
    }
    let engine = match delay.engine {
        Engine::Netem => "netem",
        Engine::PacketQueue => "packet-queue",
    };
    format!("{} of {}; engine {engine}", done.join(", "), flow(&delay.flow))
}

fn flow(flow: &Flow) -> String {
    let protocol = match flow.protocol {
        None => "",
        Some(Protocol::Tcp) => "TCP ",
        Some(Protocol::Udp) => "UDP ",
        Some(Protocol::Icmp) => "ICMP ",
    };
    let direction = match flow.direction {
        Direction::To => "to",
        Direction::From => "from",
        Direction::Both => "to and from",
    };
    let mut text = format!("{protocol}packets {direction} {}", peers(&flow.peers));
    if !flow.local_ports.is_empty() {
        text += &format!(", own port {}", numbers(&flow.local_ports));
    }
    if !flow.remote_ports.is_empty() {
        text += &format!(", peer's port {}", numbers(&flow.remote_ports));
    }
    if let Some(interface) = &flow.interface {
        text += &format!(", on {interface}");
    }
    if let Some(inside) = &flow.inside {
        text += &format!(", in the network of {}", processes(inside));
    }
    text
}

fn peers(peers: &[IpCidr]) -> String {
    if peers.is_empty() {
        return "everyone".to_owned();
    }
    peers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn numbers(ports: &[u16]) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

fn amount(amount: Amount, whole: &str, left: &str) -> String {
    match amount {
        Amount::Bytes(size) => size.to_string(),
        Amount::Percent(share) => format!("{share} {whole}"),
        Amount::LeaveFree(size) => format!("as much as leaves {size} {left}"),
    }
}

/// Said unless the amount says it already.
fn reserve(amount: Amount, reserve: Size, left: &str) -> String {
    if amount == Amount::LeaveFree(reserve) { String::new() } else { format!(", always leaves {reserve} {left}") }
}

fn processes(selector: &ProcessSelector) -> String {
    let many = match &selector.pick {
        Some(Pick { count: Some(1), .. }) => "one process".to_owned(),
        Some(Pick { count: Some(count), .. }) => format!("{count} processes"),
        Some(Pick { percent: Some(share), .. }) => format!("{share} (rounded down) of the processes"),
        _ => "every process".to_owned(),
    };
    format!("{many} with {}", selector.to_string().replace(',', " and "))
}
