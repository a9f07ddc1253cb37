//! Made-up but realistic runs, for the tests of the report.

use serde_json::json;

use super::*;
use crate::effect::{Connections, Cut, Direction, Effect, Flow, PacketFilter, SendSignal, SignalName, Spare};
use crate::experiment::Experiment;
use crate::plan::{Injection, Plan, PlannedFault};
use crate::probe::{Outcome, Sample};
use crate::run_event::{Evidence, InjectionReport, InjectionState, RevertCause};
use crate::target::ProcessSelector;
use crate::units::{Percent, Span};

pub const RUN: &str = "0199c1d2-7a40-7c11-9e55-3f1f6b1d2a77";

/// Gives each event its number and times.
pub struct Tape {
    pub events: Vec<RunEvent>,
}

impl Tape {
    pub fn say(&mut self, at_us: u64, event: Event) {
        let (seq, wall_ms) = (self.events.len() as u64, 1_772_366_400_000 + at_us / 1000);
        self.events.push(RunEvent { seq, at_us, wall_ms, event });
    }

    pub fn changed(&mut self, at_us: u64, node: &str, key: &str, state: InjectionState, report: InjectionReport) {
        let injection = format!("{RUN}/{key}");
        self.say(at_us, Event::Changed { injection, node: node.to_owned(), state, report });
    }
}

fn experiment() -> Experiment {
    serde_json::from_value(json!({
        "apiVersion": "squall/v1", "kind": "Experiment",
        "metadata": {"name": "replica-partition", "description": "One replica of the shop's database is cut off."},
        "hypothesis": "Checkout keeps working while one database replica is cut off.",
        "steadyState": [
            {"name": "checkout", "http": {"method": "POST", "url": "http://shop.lab/checkout"}, "every": "200ms",
             "tolerance": {"success": ">= 99.5%", "p99": "<= 300ms"}},
            {"name": "replicas", "process": {"processes": {"name": "postgres"}}, "every": "1s",
             "tolerance": {"value": ">= 2"}},
        ],
        "method": [{"fault": "process-kill", "for": "5s"}, {"fault": "network-partition", "for": "30s"}],
    }))
    .expect("the experiment of the tests")
}

fn planned(name: &str, node: &str, index: usize, seconds: u64, effect: Effect) -> PlannedStep {
    let key = format!("{index}.{node}");
    let links = (index == 1).then(|| LinkMatrix {
        nodes: vec!["db1".into(), "db2".into(), "db3".into()],
        cut: vec![vec![false, true, true], vec![true, false, false], vec![true, false, false]],
    });
    PlannedStep::Fault(Box::new(PlannedFault {
        name: name.to_owned(),
        fault: name.to_owned(),
        duration: Span::from_millis(seconds * 1000),
        pulse: None,
        when: None,
        background: false,
        injections: vec![Injection { key, node: node.to_owned(), effects: vec![effect] }],
        links,
    }))
}

pub fn plan() -> Plan {
    let processes = ProcessSelector { name: Some("postgres".into()), ..Default::default() };
    let kill =
        SendSignal { processes, signal: SignalName::Kill, repeat: None, back_within: Some(Span::from_millis(3000)) };
    let flow = Flow {
        peers: vec!["10.0.0.12".parse().expect("address"), "10.0.0.13".parse().expect("address")],
        direction: Direction::Both,
        spare: Spare::ALL.to_vec(),
        ..Default::default()
    };
    let cut = PacketFilter { flow, how: Cut::Drop, connections: Connections::All, share: Percent::FULL };
    Plan {
        experiment: experiment(),
        seed: 7,
        steps: vec![
            planned("process-kill", "db3", 0, 5, Effect::Signal(kill)),
            planned("network-partition", "db1", 1, 30, Effect::PacketFilter(cut)),
        ],
        notes: vec!["network-partition isolates db1 (drawn from db1, db2, db3 with seed 7)".into()],
    }
}

/// Numbers that look measured, and are the same each time.
struct Noise(u64);

impl Noise {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

fn evidence(what: &str, before: &str, after: &str) -> Vec<Evidence> {
    vec![Evidence {
        what: what.to_owned(),
        before: before.to_owned(),
        after: after.to_owned(),
        bites: Some(true),
        numbers: Default::default(),
    }]
}

/// A kill that is survived, then a partition that is not: the checkout waits for the lost replica.
pub fn refuted() -> Vec<RunEvent> {
    let mut events: Vec<(u64, Event)> = Vec::new();
    let mut noise = Noise(7);
    let phase_at = |at: u64| match at {
        0..5_000_000 => Phase::Before,
        5_000_000..27_412_000 => Phase::During,
        _ => Phase::After,
    };
    for tick in 0..180_u64 {
        let at = 120_000 + tick * 200_000 + noise.next(4_000);
        let slow = (20_400_000..27_480_000).contains(&at);
        let killed = (10_020_000..10_500_000).contains(&at);
        let latency_us = match (slow, killed) {
            (true, _) => 310_000 + noise.next(640_000),
            (_, true) => 64_000 + noise.next(80_000),
            _ => 9_000 + noise.next(6_000) + if noise.next(20) == 0 { noise.next(40_000) } else { 0 },
        };
        let bad = slow && noise.next(3) == 0;
        let (outcome, detail) = if bad { (Outcome::Bad, "status 503, expected 200") } else { (Outcome::Ok, "") };
        let sample = Sample { outcome, latency_us, detail: detail.into(), ..Sample::default() };
        events.push((at, Event::Sampled { probe: "checkout".into(), phase: phase_at(at), sample }));
    }
    for tick in 0..36_u64 {
        let at = 300_000 + tick * 1_000_000 + noise.next(3_000);
        let lost = (10_000_000..12_000_000).contains(&at);
        let blind = tick == 24;
        let sample = Sample {
            outcome: if blind { Outcome::Unknown } else { Outcome::Ok },
            latency_us: 1_800 + noise.next(900),
            value: (!blind).then_some(if lost { 2.0 } else { 3.0 }),
            detail: if blind { "db1 did not answer in 500ms".into() } else { String::new() },
            ..Sample::default()
        };
        events.push((at, Event::Sampled { probe: "replicas".into(), phase: phase_at(at), sample }));
    }
    let judged = |probe: &str, phase, judgement, detail: &str| Event::Judged {
        probe: probe.into(),
        phase,
        judgement,
        detail: detail.into(),
    };
    use Judgement::{Fail, Pass};
    use Phase::{After, Before, During};
    let slow = "p99 930 ms of 110 samples, tolerance p99 <= 300ms";
    events.extend([
        (0, Event::Submitted { by: "ana".into(), plan: Box::new(plan()) }),
        (900, Event::Admitted),
        (
            4_100,
            Event::Checked(Checked {
                injection: "0.db3".into(),
                node: "db3".into(),
                refusals: vec![],
                notes: vec!["process 4711 postgres: checkpointer".into()],
                undo_ms: None,
            }),
        ),
        (4_600, Event::Phase { phase: Before }),
        (4_999_000, judged("checkout", Before, Pass, "")),
        (4_999_000, judged("replicas", Before, Pass, "")),
        (5_000_000, Event::Phase { phase: During }),
        (10_000_000, Event::StepStarted { step: 0, name: "process-kill".into() }),
        (15_060_000, Event::StepEnded { step: 0 }),
        (20_300_000, Event::StepStarted { step: 1, name: "network-partition".into() }),
        (27_310_000, judged("checkout", During, Fail, slow)),
        (27_310_400, Event::Breach { what: "probe checkout".into(), detail: slow.into() }),
        (27_311_900, Event::HaltSent { node: "db1".into() }),
        (27_312_000, Event::Aborted { reason: "checkout is outside its tolerance".into() }),
        (27_411_000, judged("replicas", During, Pass, "")),
        (27_412_000, Event::Phase { phase: After }),
        (36_400_000, judged("checkout", After, Pass, "")),
        (36_400_000, judged("replicas", After, Pass, "")),
        (36_401_000, Event::Finished { verdict: Verdict::Refuted, why: format!("checkout, during: {slow}") }),
    ]);
    let mut tape = Tape { events: Vec::new() };
    // Changes of state, with what the agents said.
    use InjectionState::{Active, Applying, GoneWithTarget, Journaled, Reverted, Reverting};
    let none = InjectionReport::default;
    let kill =
        |r| InjectionReport { evidence: evidence("process 4711", "running", "gone, back as 4822 after 1.9 s"), ..r };
    let cut =
        |r| InjectionReport { evidence: evidence("round trip to 10.0.0.12", "0.31 ms", "no answer in 500 ms"), ..r };
    let by = |cause| InjectionReport { cause: Some(cause), ..none() };
    let changes = vec![
        (10_000_300, "db3", "0.db3", InjectionState::Ordered, none()),
        (10_001_900, "db3", "0.db3", Journaled, none()),
        (10_002_200, "db3", "0.db3", Applying, none()),
        (10_004_400, "db3", "0.db3", Active, kill(none())),
        (15_055_000, "db3", "0.db3", GoneWithTarget, kill(by(RevertCause::Deadline))),
        (20_300_200, "db1", "1.db1", InjectionState::Ordered, none()),
        (20_302_000, "db1", "1.db1", Journaled, none()),
        (20_302_300, "db1", "1.db1", Applying, none()),
        (20_306_900, "db1", "1.db1", Active, cut(none())),
        (27_340_000, "db1", "1.db1", Reverting, by(RevertCause::Ordered)),
        (27_398_000, "db1", "1.db1", Reverted, cut(by(RevertCause::Ordered))),
    ];
    let mut merged: Vec<(u64, Result<Event, usize>)> = events.into_iter().map(|(at, event)| (at, Ok(event))).collect();
    merged.extend(changes.iter().enumerate().map(|(index, change)| (change.0, Err(index))));
    merged.sort_by_key(|(at, _)| *at);
    for (at, event) in merged {
        match event {
            Ok(event) => tape.say(at, event),
            Err(index) if changes[index].3 == InjectionState::Ordered => {
                let (_, node, key, ..) = &changes[index];
                tape.say(at, Event::Ordered { injection: format!("{RUN}/{key}"), node: (*node).into() });
            }
            Err(index) => {
                let (_, node, key, state, report) = &changes[index];
                tape.changed(at, node, key, *state, report.clone());
            }
        }
    }
    tape.events
}

/// Admission said no.
pub fn refused() -> Vec<RunEvent> {
    let mut tape = Tape { events: Vec::new() };
    let reasons = vec!["2 of 3 nodes of role=database would be hit, the blast radius allows 1".to_owned()];
    tape.say(0, Event::Submitted { by: "ana".into(), plan: Box::new(plan()) });
    tape.say(700, Event::Refused { reasons: reasons.clone() });
    tape.say(800, Event::Finished { verdict: Verdict::Refused, why: reasons.join("; ") });
    tape.events
}

/// Texts from outside that try to be markup.
pub fn hostile() -> Vec<RunEvent> {
    let evil = "</title></details><script>alert(1)</script>\u{1b}[31m\"'&";
    let mut plan = plan();
    plan.experiment.hypothesis = evil.into();
    plan.experiment.metadata.name = evil.into();
    plan.experiment.steady_state[0].name = evil.into();
    plan.notes.push(evil.into());
    let mut tape = Tape { events: Vec::new() };
    tape.say(0, Event::Submitted { by: evil.into(), plan: Box::new(plan) });
    let sample = Sample { outcome: Outcome::Bad, latency_us: 1, detail: evil.into(), ..Sample::default() };
    tape.say(1_000, Event::Phase { phase: Phase::Before });
    tape.say(2_000, Event::Sampled { probe: evil.into(), phase: Phase::Before, sample });
    tape.say(3_000, Event::Ordered { injection: evil.into(), node: evil.into() });
    let report = InjectionReport {
        detail: evil.into(),
        evidence: evidence(evil, evil, evil),
        unmet: Some(evil.into()),
        ..Default::default()
    };
    tape.changed(4_000, evil, evil, InjectionState::Failed, report);
    tape.say(5_000, Event::Breach { what: evil.into(), detail: evil.into() });
    tape.say(6_000, Event::Finished { verdict: Verdict::Dirty, why: evil.into() });
    tape.events
}
