//! Orders as a hostile coordinator may write them: honest in most parts, so that one bad part has to be found.

use std::time::Duration;

use rand::Rng;
use rand::seq::IndexedRandom as _;
use squall_experiments::effect::{
    Amount, Connections, Cut, Direction, Distribution, Effect, Engine, Flow, Freeze, Hog, HoldSpace, HostWide, Load,
    PacketDelay, PacketFilter, Request, SendSignal, SignalName, Spare, Stage, Unit, UnitAction,
};
use squall_experiments::target::{Pick, ProcessSelector};
use squall_experiments::units::{Percent, Size, Span};
use squall_experiments::wire::Order;

use crate::ground::{ELSEWHERE, Ground};
use crate::paper::{FAULTS, INTERFACES, PEERS, SERVICES};

/// What has no place in a field, or leads elsewhere if somebody is careless with it.
const POISON: [&str; 22] = [
    "",
    "-f",
    "--help",
    "a\0b",
    "a\nb",
    "\u{1b}[2J",
    "\u{7f}",
    "\u{85}",
    "..",
    ".",
    "../../etc",
    "/etc/passwd\0",
    "$(reboot)",
    "`reboot`",
    "; reboot",
    "| reboot",
    "%s%n",
    "eth0 ",
    "eth+",
    "*",
    "a\"b",
    "\u{202e}txt",
];

pub fn order(random: &mut impl Rng, ground: &Ground, number: u64) -> Order {
    let effects = match random.random_range(0..100) {
        0 => Vec::new(),
        1 => (0..random.random_range(15..40)).map(|_| Effect::Hog(cpu(random))).collect(),
        2..20 => (0..random.random_range(2..6)).map(|_| effect(random, ground)).collect(),
        _ => vec![effect(random, ground)],
    };
    let fault = *FAULTS.choose(random).unwrap();
    Order {
        epoch: *[0, 1, u64::MAX].choose(random).unwrap(),
        run: text(random, format!("run-{number}")),
        // Some twice.
        injection: text(random, format!("run-{}/0.web1", number / 2)),
        fault: text(random, fault.to_owned()),
        effects,
        duration_ms: milliseconds(random),
        lease_ms: milliseconds(random),
    }
}

fn text(random: &mut impl Rng, honest: String) -> String {
    match random.random_range(0..60) {
        0 => (*POISON.choose(random).unwrap()).to_owned(),
        1 => format!("{honest}{}", POISON.choose(random).unwrap()),
        2 => "x".repeat(*[15, 16, 512, 513, 4095, 4096, 70_000].choose(random).unwrap()),
        _ => honest,
    }
}

fn milliseconds(random: &mut impl Rng) -> u64 {
    const YEAR: u64 = 366 * 86_400_000;
    match random.random_range(0..40) {
        0 => *[0, YEAR + 1, u64::MAX].choose(random).unwrap(),
        1 => *[1, YEAR].choose(random).unwrap(),
        _ => *[999, 1000, 1000, 1001, 5_000, 10_000, 10_001, 60_000, 3_600_000, 3_600_001].choose(random).unwrap(),
    }
}

fn effect(random: &mut impl Rng, ground: &Ground) -> Effect {
    match random.random_range(0..11) {
        0 => Effect::PacketFilter(PacketFilter {
            flow: flow(random),
            how: *[Cut::Drop, Cut::Reject, Cut::Reset].choose(random).unwrap(),
            connections: *[Connections::All, Connections::Established, Connections::New].choose(random).unwrap(),
            share: share(random),
        }),
        1 | 2 => Effect::PacketDelay(PacketDelay {
            flow: flow(random),
            engine: *[Engine::Netem, Engine::PacketQueue].choose(random).unwrap(),
            latency: span(random),
            jitter: span(random),
            correlation: share(random),
            distribution: *[Distribution::Uniform, Distribution::Pareto].choose(random).unwrap(),
            loss: share(random),
            duplicate: share(random),
            reorder: share(random),
            corrupt: share(random),
            seed: random.random(),
        }),
        3 => Effect::Signal(SendSignal {
            processes: selector(random),
            signal: *[SignalName::Kill, SignalName::Usr1].choose(random).unwrap(),
            repeat: random.random_ratio(1, 3).then(|| span(random)),
            back_within: None,
        }),
        4 => Effect::Freeze(Freeze { processes: selector(random) }),
        5 => {
            let (disk, index) = (random.random_range(0..ground.disks()), random.random_range(0..17));
            let honest = ground.asked(disk, index);
            let path = match random.random_range(0..20) {
                0 => (*ELSEWHERE.choose(random).unwrap()).to_owned(),
                _ => text(random, honest.clone()),
            };
            // A name of which the ground does not know where it leads proves nothing.
            let known = !path.starts_with('/') || path.contains(char::is_control) || ground.leads(&path).is_some();
            let path = if known { path } else { honest };
            let amount = *[Amount::Bytes(Size(u64::MAX)), Amount::Percent(Percent::FULL), Amount::LeaveFree(Size(0))]
                .choose(random)
                .unwrap();
            Effect::HoldSpace(HoldSpace { path, amount, reserve: Size(*[0, 1, u64::MAX].choose(random).unwrap()) })
        }
        6 => Effect::Unit(Unit {
            service: service(random),
            action: *[UnitAction::Stop, UnitAction::Restart].choose(random).unwrap(),
            back_within: random.random_ratio(1, 3).then(|| span(random)),
        }),
        7 => Effect::Host(HostWide::Freeze),
        8 => {
            let most = *[0, 0, 1, 1, 2, 17].choose(random).unwrap();
            Effect::Host(HostWide::Crash { restart: (0..most).map(|_| service(random)).collect() })
        }
        9 => Effect::Load(load(random)),
        _ => Effect::Hog(match random.random_ratio(1, 2) {
            true => cpu(random),
            false => Hog::Memory { amount: Amount::Bytes(Size(u64::MAX)), reserve: Size(0) },
        }),
    }
}

fn load(random: &mut impl Rng) -> Load {
    let urls = *[0, 1, 1, 1, 2, 16, 17].choose(random).unwrap();
    let mut rate = || *[0.0, 1.0, 10.0, 100.0, 101.0, 1000.0, 1001.0, 1e6, 2e6].choose(random).unwrap();
    let stages = vec![Stage { from: rate(), to: rate(), over: Span(Duration::from_secs(1)) }];
    Load {
        requests: (0..urls)
            .map(|_| Request {
                url: text(random, "http://10.0.0.1/".to_owned()),
                weight: u32::from(!random.random_ratio(1, 20)),
            })
            .collect(),
        method: text(random, "GET".to_owned()),
        headers: [(text(random, "x-of".to_owned()), text(random, "squall".to_owned()))].into(),
        body: None,
        timeout: span(random),
        in_flight: *[0, 1, 256, 256, 256, 10_000, 10_001].choose(random).unwrap(),
        stages,
        seed: random.random(),
        min_success: None,
        max_p99: None,
    }
}

fn service(random: &mut impl Rng) -> String {
    let honest = *SERVICES.choose(random).unwrap();
    let name = if random.random_ratio(1, 6) { "nginx.service" } else { honest };
    text(random, name.to_owned())
}

fn cpu(random: &mut impl Rng) -> Hog {
    let workers = *[0, 1, 1, 1, 2, 4, 5, 64, 65, u32::MAX].choose(random).unwrap();
    Hog::Cpu { workers, load: share(random) }
}

fn share(random: &mut impl Rng) -> Percent {
    Percent::new(*[0.0, 0.0, 0.0, 5.0, 10.0, 30.0, 50.0, 100.0].choose(random).unwrap()).unwrap()
}

fn span(random: &mut impl Rng) -> Span {
    let micros = [0, 0, 1, 50_000, 100_000, 100_001, 2_000_000, 2_000_001];
    match random.random_range(0..20) {
        0 => Span(Duration::MAX),
        _ => Span(Duration::from_micros(*micros.choose(random).unwrap())),
    }
}

fn flow(random: &mut impl Rng) -> Flow {
    const OTHERS: [&str; 8] = [
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.9.0.0/25",
        "10.9.1.0/24",
        "192.168.4.4",
        "::/0",
        "fd00:9::/32",
        "::ffff:10.9.0.7",
    ];
    let mut peers: Vec<cidr::IpCidr> = Vec::new();
    for _ in 0..*[0, 0, 1, 1, 2, 5].choose(random).unwrap() {
        let text = if random.random_ratio(1, 4) { PEERS.choose(random) } else { OTHERS.choose(random) };
        peers.push(text.unwrap().parse().unwrap());
    }
    if random.random_ratio(1, 2000) {
        peers = vec!["10.0.0.1".parse().unwrap(); *[4096, 4097].choose(random).unwrap()];
    }
    let ports = match random.random_range(0..200) {
        0 => vec![0; *[1024, 1025].choose(random).unwrap()],
        1..50 => vec![0, 22, 53, u16::MAX],
        _ => Vec::new(),
    };
    let interface = random.random_ratio(1, 2).then(|| (*INTERFACES.choose(random).unwrap()).to_owned());
    Flow {
        peers,
        direction: *[Direction::To, Direction::From, Direction::Both].choose(random).unwrap(),
        protocol: None,
        local_ports: ports.clone(),
        remote_ports: ports,
        interface: interface.map(|name| text(random, name)),
        inside: random.random_ratio(1, 4).then(|| selector(random)),
        // The hostile part: nothing is spared, or one thing, or one many times.
        spare: match random.random_range(0..4) {
            0 => Spare::ALL.to_vec(),
            1 => vec![Spare::Dns; 40],
            2 => vec![*Spare::ALL.choose(random).unwrap()],
            _ => Vec::new(),
        },
    }
}

fn selector(random: &mut impl Rng) -> ProcessSelector {
    let upwards = if random.random_ratio(1, 10) { "/../other" } else { "" };
    let mut field = |honest: &str| random.random_ratio(1, 3).then(|| text(random, honest.to_owned()));
    ProcessSelector {
        name: field("nginx"),
        command: field("*nginx: worker*"),
        user: field("www-data"),
        pid_file: field("/run/nginx.pid"),
        cgroup: field("system.slice/nginx").map(|path| format!("{path}{upwards}")),
        unit: field("-.mount"),
        container: field("shop-web-1"),
        port: None,
        pick: Some(Pick { count: Some(u32::MAX), percent: Some(Percent::ZERO), seed: None }),
    }
}
