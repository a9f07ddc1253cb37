//! A host full of other people's rules, queueing disciplines, mounts and cgroups, and a hundred cycles of every reversible effect on it:
//! all of it stays byte for byte what it was, and streams that no fault matches lose nothing.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use squall_experiments::effect::{
    Amount, Connections, Cut, Direction, Distribution, Effect, Engine, Flow, Freeze, Hog, HoldSpace, PacketDelay,
    PacketFilter, Protocol, Spare,
};
use squall_experiments::run_event::InjectionState;
use squall_experiments::target::ProcessSelector;
use squall_experiments::units::{Percent, Size, Span};
use squall_tests::cgroup::Cgroup;
use squall_tests::commander::{Commander, sweep};
use squall_tests::fleet::{Agent, PATIENCE};
use squall_tests::lab::snapshot::Snapshot;
use squall_tests::lab::{Host, Lab, wait_until};
use squall_tests::scene::UNDO;
use squall_tests::skip::{lab_is_possible, skip};
use squall_tests::stream::{Sent, Stream};

const CYCLES: usize = 100;
const RULES: usize = 500;

#[test]
fn a_hundred_cycles_of_every_effect_leave_what_others_made_untouched_and_lose_no_foreign_packet() {
    let test = "a_hundred_cycles_of_every_effect_leave_what_others_made_untouched_and_lose_no_foreign_packet";
    if !lab_is_possible(test) {
        return;
    }
    let lab = Lab::new().hosts(&["a", "b", "ctl"]).start();
    let (a, b) = (lab.host("a"), lab.host("b"));
    let (_, wired) = lab.wire("a", "b");
    b.small_disk("/run/data", "48m");
    let _servers = [7, 8].map(|port| b.start(b.talk("udp-echo").args(["--at", &format!("0.0.0.0:{port}")])));
    let mut echo = None;
    let starts = || {
        echo = b.pids_of("squall-lab").into_iter().find(|pid| *pid != 1);
        echo.is_some()
    };
    assert!(wait_until(PATIENCE, starts), "an echo server");
    let cgroup = Cgroup::make(b, "lab-foreign", "shop/web", echo.expect("it was there"));
    if let Err(why) = &cgroup {
        skip(&format!("{test} (its part with a foreign cgroup)"), why);
    }
    fill_with_foreign_things(b);
    let every = Duration::from_millis(2);
    let streams = [b.ipv4(), wired].map(|to| Stream::start(a, SocketAddr::new(to, 7), every));
    let start = Instant::now();
    let answered = || streams.iter().all(|stream| stream.first_answer(start, Duration::MAX).is_some());
    assert!(wait_until(PATIENCE, answered), "the foreign rules let the streams through");
    // The new interface's carrier and duplicate address detection take a second, and show.
    let settled = || {
        let eth1 = b.run("ip", &["addr", "show", "dev", "eth1"]).stdout;
        eth1.contains("state UP") && eth1.contains("inet6 fe80") && !eth1.contains("tentative")
    };
    assert!(wait_until(PATIENCE, settled));
    // What the streams lose before any agent is there (the first packet waits for ARP) is not its doing.
    let since = Instant::now();
    let (before, foreign) = (Snapshot::of(b, &["/run/data", "/run/foreign/deep"]), Foreign::of(b, &cgroup));

    let commander = Commander::start(lab.host("ctl"));
    let (mut agent, _) = commander.agent(b, &Agent::default());
    for cycle in 0..CYCLES {
        let injection = format!("foreign/{cycle}.b");
        commander.inject(&injection, &every_effect(cycle, lab.host("ctl")));
        if cycle == 0 {
            assert_ne!(
                before.diff(&Snapshot::of(b, &["/run/data"])),
                "",
                "nothing to see while all effects are active"
            );
            let free = nix::sys::statvfs::statvfs(&b.path("/run/data")).expect("it is mounted");
            assert!(free.blocks_free() < free.blocks(), "no space is held");
        }
        commander.revert(&injection);
        commander.state(&injection, InjectionState::Reverted);
        if cycle % 20 == 0 {
            foreign.check(b, &cgroup, &format!("after cycle {cycle}"));
        }
    }
    let took = since.elapsed();
    agent.kill();
    let (code, said) = sweep(b);
    assert_eq!(code, 0, "{said}");
    foreign.check(b, &cgroup, "after all cycles and a sweep");
    if let Err(difference) = before.same_within(UNDO, b, &["/run/data", "/run/foreign/deep"]) {
        panic!("{difference}");
    }
    for (stream, way) in streams.into_iter().zip(["eth0", "eth1"]) {
        let sent: Vec<Sent> = stream.end().into_iter().filter(|sent| sent.at > since).collect();
        let lost = sent.iter().filter(|sent| sent.answered.is_none()).count();
        eprintln!("{way}: {lost} of {} foreign packets lost in {CYCLES} cycles of 6 effects, {took:.1?}", sent.len());
        assert!(sent.len() > CYCLES * 20, "a stream that is hardly one proves nothing: {} packets", sent.len());
        assert_eq!(lost, 0, "{way}: foreign packets were lost");
    }
}

/// All six, on things that the streams do not use: `ctl` as a peer on `eth0`, port 9 on `eth1`.
fn every_effect(cycle: usize, peer: &Host) -> Vec<Effect> {
    let cut = [Cut::Drop, Cut::Reject, Cut::Reset][cycle % 3];
    let direction = [Direction::Both, Direction::To, Direction::From][cycle / 3 % 3];
    let flow = |interface: &str| Flow {
        direction,
        interface: Some(interface.to_owned()),
        spare: Spare::ALL.to_vec(),
        ..Flow::default()
    };
    let share = |percent: f64| Percent::new(percent).expect("a share");
    vec![
        Effect::PacketFilter(PacketFilter {
            flow: Flow { peers: vec![peer.ipv4().to_string().parse().expect("an address")], ..flow("eth0") },
            how: cut,
            connections: [Connections::All, Connections::Established, Connections::New][cycle % 3],
            share: share(100.0),
        }),
        Effect::PacketDelay(PacketDelay {
            flow: Flow { protocol: Some(Protocol::Udp), local_ports: vec![9], ..flow("eth1") },
            engine: Engine::PacketQueue,
            latency: Span(Duration::from_millis(50)),
            jitter: Span(Duration::ZERO),
            correlation: Percent::ZERO,
            distribution: Distribution::Uniform,
            loss: Percent::ZERO,
            duplicate: Percent::ZERO,
            reorder: Percent::ZERO,
            corrupt: Percent::ZERO,
            seed: cycle as u64,
        }),
        Effect::Freeze(Freeze { processes: ProcessSelector { port: Some(8), ..ProcessSelector::default() } }),
        Effect::HoldSpace(HoldSpace {
            path: "/run/data".to_owned(),
            amount: Amount::Bytes(Size(8 << 20)),
            reserve: Size(1 << 20),
        }),
        Effect::Hog(Hog::Cpu { workers: 1, load: share(10.0) }),
        Effect::Hog(Hog::Memory { amount: Amount::Bytes(Size(16 << 20)), reserve: Size(64 << 20) }),
    ]
}

/// Rules of nft and iptables, qdiscs with classes and filters, mounts and files: everything accepts, nothing is ours.
fn fill_with_foreign_things(b: &Host) {
    let mut rules = String::new();
    for (family, table) in
        [("inet", "shop"), ("inet", "squallish"), ("ip", "four"), ("ip6", "six"), ("netdev", "early")]
    {
        let hook = match family {
            "netdev" => "type filter hook ingress device \"eth0\" priority 0; policy accept;",
            _ => "type filter hook input priority -5; policy accept;",
        };
        let _ = writeln!(
            rules,
            "table {family} {table} {{\n set ports {{ type inet_service; elements = {{ 1000, 2000, 3000 }} }}"
        );
        let _ = writeln!(rules, " set soon {{ type inet_service; flags timeout; elements = {{ 4000 timeout 12h }} }}");
        let _ = writeln!(
            rules,
            " map marks {{ type inet_service : mark; elements = {{ 81 : 0x1, 82 : 0x2 }} }}\n chain first {{ {hook}"
        );
        for number in 0..RULES / 5 {
            let _ = writeln!(rules, "  tcp dport {} counter accept comment \"rule {number}\"", 10_000 + number);
        }
        rules += "  tcp dport @ports accept\n  tcp dport @soon accept\n  meta mark set tcp dport map @marks\n }\n}\n";
    }
    b.write("/tmp/foreign.nft", rules);
    must(b, "nft", &["-f", "/tmp/foreign.nft"]);
    let mut iptables =
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:SHOP - [0:0]\n".to_owned();
    for number in 0..50 {
        let _ = writeln!(
            iptables,
            "-A SHOP -p tcp -m tcp --dport {} -m comment --comment foreign-{number} -j ACCEPT",
            20_000 + number
        );
    }
    iptables += "-A INPUT -j SHOP\nCOMMIT\n*mangle\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p udp --dport 5353 -j MARK --set-mark 9\nCOMMIT\n";
    b.write("/tmp/foreign.ipt", iptables);
    for restore in ["iptables-restore", "ip6tables-restore"] {
        must(b, restore, &["/tmp/foreign.ipt"]);
    }
    must(b, "tc", &["qdisc", "add", "dev", "eth1", "root", "handle", "5:", "htb", "default", "10"]);
    must(b, "tc", &["class", "add", "dev", "eth1", "parent", "5:", "classid", "5:10", "htb", "rate", "1gbit"]);
    must(b, "tc", &["class", "add", "dev", "eth1", "parent", "5:", "classid", "5:20", "htb", "rate", "1gbit"]);
    must(
        b,
        "tc",
        &[
            "qdisc", "add", "dev", "eth1", "parent", "5:20", "handle", "6:", "tbf", "rate", "1gbit", "burst", "1mb",
            "latency", "50ms",
        ],
    );
    must(
        b,
        "tc",
        &[
            "qdisc", "add", "dev", "eth0", "root", "handle", "7:", "tbf", "rate", "10gbit", "burst", "1mb", "latency",
            "50ms",
        ],
    );
    b.write("/run/foreign/.squall-notes", "a name like one of ours, and not ours");
    b.write("/run/foreign/deep/file", "text");
    must(b, "mount", &["-t", "tmpfs", "foreign", "/run/foreign/deep"]);
    must(b, "mkdir", &["/run/foreign-too"]);
    must(b, "mount", &["--bind", "/run/foreign", "/run/foreign-too"]);
}

fn must(host: &Host, program: &str, arguments: &[&str]) {
    let done = host.run(program, arguments);
    assert!(done.ok(), "{program} {arguments:?}: {}{}", done.stdout, done.stderr);
}

/// The text of everything that others made, with handles.
#[derive(PartialEq)]
struct Foreign(String);

impl Foreign {
    fn of(b: &Host, cgroup: &Result<Cgroup<'_>, String>) -> Foreign {
        let mut text = String::new();
        let questions: [&[&str]; 9] = [
            &["nft", "--stateless", "--handle", "list", "ruleset"],
            &["iptables-save"],
            &["ip6tables-save"],
            &["tc", "-details", "qdisc", "show"],
            &["tc", "-details", "class", "show", "dev", "eth1"],
            &["tc", "-details", "class", "show", "dev", "eth0"],
            &["tc", "filter", "show", "dev", "eth1"],
            &["tc", "filter", "show", "dev", "eth0"],
            &["cat", "/proc/1/mountinfo", "/run/foreign/.squall-notes"],
        ];
        for question in questions {
            let answer = b.run(question[0], &question[1..]);
            assert!(answer.ok(), "{question:?}: {}", answer.stderr);
            // iptables-save writes the time and how much passed; the elements of a timed set grow older.
            let lines = answer.stdout.lines().filter(|line| !line.starts_with('#'));
            let ageless =
                lines.map(|line| line.split(" expires ").next().unwrap_or(line).split(" [").next().unwrap_or(line));
            let _ = writeln!(text, "== {question:?}\n{}", ageless.collect::<Vec<_>>().join("\n"));
        }
        if let Ok(cgroup) = cgroup {
            text += &cgroup.text();
        }
        Foreign(text)
    }

    fn check(&self, b: &Host, cgroup: &Result<Cgroup<'_>, String>, when: &str) {
        let now = Foreign::of(b, cgroup);
        let only = |these: &str, others: &str| -> Vec<String> {
            these.lines().filter(|line| !others.lines().any(|other| other == *line)).map(str::to_owned).collect()
        };
        assert!(*self == now, "{when}: gone {:?}, new {:?}", only(&self.0, &now.0), only(&now.0, &self.0));
    }
}
