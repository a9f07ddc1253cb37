//! The injection corpus in every text of every order that the wire can carry: the agent refuses by itself, whatever its coordinator let pass.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use squall_experiments::effect::{
    Amount, Connections, Cut, Direction, Distribution, Effect, Engine, Flow, Freeze, Hog, HoldSpace, HostWide, Load,
    PacketDelay, PacketFilter, Protocol, Request, SendSignal, SignalName, Spare, Stage, Unit, UnitAction,
};
use squall_experiments::target::{Pick, ProcessSelector};
use squall_experiments::units::{Percent, Size, Span};
use squall_experiments::wire::{Order, ToAgent};
use squalld::agent::policy::{Policy, selector_reasons};

use crate::HERE;
use crate::corpus::{POISON, texts};
use crate::paper::EFFECTS;

/// Nothing is left out and no `..Default::default()`: a new field stands here or this does not compile.
fn effects() -> Vec<Effect> {
    let processes = || ProcessSelector {
        name: Some("nginx".into()),
        command: Some("*nginx: worker*".into()),
        user: Some("www-data".into()),
        pid_file: Some("/run/nginx.pid".into()),
        cgroup: Some("system.slice/nginx".into()),
        unit: Some("nginx.service".into()),
        container: Some("shop-web-1".into()),
        port: Some(80),
        pick: Some(Pick { count: Some(1), percent: None, seed: Some(1) }),
    };
    let flow = || Flow {
        peers: vec!["10.0.0.0/24".parse().unwrap()],
        direction: Direction::Both,
        protocol: Some(Protocol::Tcp),
        local_ports: vec![80],
        remote_ports: vec![5432],
        interface: Some("eth0".into()),
        inside: Some(processes()),
        spare: Spare::ALL.to_vec(),
    };
    let (span, share) = (Span(Duration::from_millis(10)), Percent::new(10.0).unwrap());
    vec![
        Effect::PacketFilter(PacketFilter { flow: flow(), how: Cut::Drop, connections: Connections::All, share }),
        Effect::PacketDelay(PacketDelay {
            flow: flow(),
            engine: Engine::Netem,
            latency: span,
            jitter: span,
            correlation: share,
            distribution: Distribution::Normal,
            loss: share,
            duplicate: share,
            reorder: share,
            corrupt: share,
            seed: 1,
        }),
        Effect::Signal(SendSignal {
            processes: processes(),
            signal: SignalName::Term,
            repeat: Some(span),
            back_within: Some(span),
        }),
        Effect::Freeze(Freeze { processes: processes() }),
        Effect::HoldSpace(HoldSpace {
            path: "/srv/data".into(),
            amount: Amount::Bytes(Size(1 << 20)),
            reserve: Size(1 << 20),
        }),
        Effect::Hog(Hog::Cpu { workers: 1, load: share }),
        Effect::Hog(Hog::Memory { amount: Amount::Percent(share), reserve: Size(1 << 20) }),
        Effect::Unit(Unit { service: "web".into(), action: UnitAction::Stop, back_within: Some(span) }),
        Effect::Host(HostWide::Freeze),
        Effect::Host(HostWide::Crash { restart: vec!["web".into()] }),
        Effect::Load(load()),
    ]
}

fn load() -> Load {
    Load {
        requests: vec![Request { url: "http://shop.lab/".into(), weight: 1 }],
        method: "POST".into(),
        headers: [("x-of".to_owned(), "squall".to_owned())].into(),
        body: Some("goods".into()),
        timeout: Span(Duration::from_secs(1)),
        in_flight: 1,
        stages: vec![Stage { from: 1.0, to: 1.0, over: Span(Duration::from_secs(1)) }],
        seed: 1,
        min_success: Some(Percent::FULL),
        max_p99: Some(Span(Duration::from_secs(1))),
    }
}

fn order(effect: Effect) -> Order {
    Order {
        epoch: 1,
        run: "r1".into(),
        injection: "r1/0.web1".into(),
        fault: effect.name().into(),
        effects: vec![effect],
        duration_ms: 1000,
        lease_ms: 1000,
    }
}

/// `/order` is the wire's tag; what stands below an effect's place is named from there on.
fn field(pointer: &str) -> &str {
    pointer.strip_prefix("/effects/0/").or_else(|| pointer.strip_prefix('/')).unwrap_or(pointer)
}

/// Given to no program. Compared with what the kernel says of processes (`-bash` is a login shell and `-.mount` a unit), or sent in a request.
const NO_ARGUMENT: [&str; 8] = [
    "processes/name",
    "processes/command",
    "processes/user",
    "processes/cgroup",
    "processes/unit",
    "processes/container",
    "requests/0/url",
    "headers/x-of",
];

/// A network effect chooses its network by processes, too.
fn is_no_argument(pointer: &str) -> bool {
    let field = field(pointer).replace("flow/inside/", "processes/");
    NO_ARGUMENT.contains(&field.as_str())
}

#[test]
fn every_text_of_every_order_is_refused_with_a_control_character_or_as_an_option() {
    let mut kinds: Vec<&str> = effects().iter().map(Effect::name).collect();
    kinds.dedup();
    assert_eq!(kinds, EFFECTS, "one of each");
    let policy = Policy::built_in();
    // By field: what could not even be read, and what was refused.
    let (mut unread, mut malformed) = (BTreeMap::<String, usize>::new(), BTreeMap::<String, usize>::new());
    for effect in effects() {
        let honest = order(effect);
        let reasons = policy.refusals(&honest, &HERE);
        assert!(!reasons.iter().any(|reason| reason.starts_with("malformed")), "{honest:?}: {reasons:?}");
        let document = serde_json::to_value(ToAgent::Inject(honest)).unwrap();
        let mut pointers = Vec::new();
        texts(&document, String::new(), &mut pointers);
        for pointer in &pointers {
            let was = document.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
            let inside = POISON.iter().map(|poison| format!("{was}{poison}")).collect::<Vec<_>>();
            for poison in POISON.iter().map(|poison| (*poison).to_owned()).chain(inside) {
                let mut changed = document.clone();
                *changed.pointer_mut(pointer).unwrap() = json!(poison);
                let Ok(heard) = serde_json::from_value::<ToAgent>(changed) else {
                    *unread.entry(field(pointer).to_owned()).or_default() += 1;
                    continue;
                };
                let ToAgent::Inject(heard) = heard else { continue };
                let refusals = policy.refusals(&heard, &HERE);
                let told = || format!("{pointer} = {poison:?}: {refusals:?}");
                assert!(!refusals.iter().any(|refusal| refusal.contains(char::is_control)), "{}", told());
                let refused = refusals.iter().any(|refusal| refusal.starts_with("malformed order: "));
                // What a request carries may be any text, lines included.
                if field(pointer) == "body" {
                    assert!(!refused, "{}", told());
                    continue;
                }
                let option = poison.starts_with('-') && !is_no_argument(pointer);
                // What was read as a number or as a network is one, and carries nothing of the text any more.
                let kept = serde_json::to_value(ToAgent::Inject(heard.clone())).unwrap();
                let kept = kept.pointer(pointer).and_then(Value::as_str) == Some(poison.as_str());
                if kept && (poison.is_empty() || poison.contains(char::is_control) || option) {
                    assert!(refused, "{}", told());
                }
                *malformed.entry(field(pointer).to_owned()).or_default() += usize::from(refused);
            }
        }
    }
    for name in
        ["run", "injection", "fault", "flow/interface", "path", "service", "restart/0", "processes/pidFile", "method"]
    {
        assert!(malformed.get(name).is_some_and(|count| *count >= 10), "{name}: {malformed:?}");
    }
    assert!(malformed.get("flow/inside/container").is_some_and(|count| *count >= 10), "{malformed:?}");
    for name in NO_ARGUMENT {
        assert!(malformed.get(name).is_some_and(|count| *count >= 10), "{name}: {malformed:?}");
    }
    assert!(unread.get("flow/peers/0").is_some_and(|count| *count > 20), "{unread:?}");
    println!("unread: {unread:?}\nmalformed: {malformed:?}");
}

#[test]
fn a_headers_name_is_judged_like_its_value() {
    for poison in POISON.iter().filter(|it| it.is_empty() || it.starts_with('-') || it.contains(char::is_control)) {
        let hostile = Load { headers: [((*poison).to_owned(), "squall".to_owned())].into(), ..load() };
        let refusals = Policy::built_in().refusals(&order(Effect::Load(hostile)), &HERE);
        assert!(
            refusals.iter().any(|refusal| refusal.starts_with("malformed order: header")),
            "{poison:?}: {refusals:?}"
        );
    }
}

#[test]
fn a_selector_of_a_count_is_judged_like_one_of_an_order() {
    for poison in POISON.iter().filter(|poison| poison.is_empty() || poison.contains(char::is_control)) {
        let names = |field: &str| serde_json::from_value::<ProcessSelector>(json!({ field: poison })).unwrap();
        for name in ["name", "command", "user", "pidFile", "cgroup", "unit", "container"] {
            let refusal = selector_reasons(&names(name)).concat();
            assert!(refusal.starts_with("malformed order: ") && !refusal.contains(char::is_control), "{refusal:?}");
        }
    }
    let upwards = ProcessSelector { cgroup: Some("a/../..".into()), ..ProcessSelector::default() };
    assert!(selector_reasons(&upwards).concat().contains("leads upwards"));
}
