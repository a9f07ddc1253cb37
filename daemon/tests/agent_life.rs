//! An agent that lives: orders, ends, refusals.

#![allow(clippy::disallowed_methods, reason = "a test starts what it tests")]

mod agent_rig;
mod rig;

use std::time::{Duration, Instant};

use agent_rig::{World, burn, freeze, is_frozen, order};
use nix::sys::signal::Signal;
use squall_experiments::run_event::{InjectionState, RevertCause};
use squall_experiments::wire::ToAgent;
use squalld::coordinator::signer::Signer;

#[test]
fn an_order_becomes_active_and_is_reverted_when_ordered_and_a_second_revert_is_harmless() {
    let Some(mut world) = World::with_agent("order and revert") else { return };
    let before = world.disk_used();
    let order = order("run/0.node1", vec![world.fill(16)]);
    let active = world.coordinator.inject(&order);
    assert!(world.disk_used() >= before + (16 << 20));
    assert!(active.evidence.iter().any(|evidence| evidence.bites == Some(true)), "{active:?}");
    println!("order to active: {} us on the agent's clock", active.agent_us);
    world.coordinator.revert("run/0.node1");
    world.coordinator.state("run/0.node1", InjectionState::Reverting);
    let reverted = world.coordinator.state("run/0.node1", InjectionState::Reverted);
    assert_eq!(reverted.cause, Some(RevertCause::Ordered));
    assert_eq!(world.disk_used(), before);
    // Asked again, it says again how it ended; and so does the order itself.
    world.coordinator.revert("run/0.node1");
    world.coordinator.state("run/0.node1", InjectionState::Reverted);
    world.coordinator.say(ToAgent::Inject(order));
    world.coordinator.state("run/0.node1", InjectionState::Reverted);
    assert_eq!(world.disk_used(), before);
    assert!(world.open().is_empty());
}

#[test]
fn a_repeated_order_is_not_applied_twice() {
    let Some(mut world) = World::with_agent("repeated order") else { return };
    let order = order("run/0.node1", vec![world.fill(8)]);
    world.coordinator.inject(&order);
    let used = world.disk_used();
    world.coordinator.inject(&order);
    assert_eq!(world.disk_used(), used);
    assert_eq!(world.children("holder").len(), 1);
}

#[test]
fn the_lease_ends_what_is_not_renewed_and_the_duration_ends_what_is() {
    let Some(mut world) = World::with_agent("lease and duration") else { return };
    let mut leased = order("run/0.node1", vec![burn()]);
    leased.lease_ms = 400;
    let started = Instant::now();
    world.coordinator.inject(&leased);
    let report = world.coordinator.state("run/0.node1", InjectionState::Reverted);
    let took = started.elapsed();
    assert_eq!(report.cause, Some(RevertCause::Lease));
    assert!(took >= Duration::from_millis(400) && took < Duration::from_millis(1400), "{took:?}");

    let mut timed = order("run/1.node1", vec![burn()]);
    (timed.lease_ms, timed.duration_ms) = (400, 1200);
    let started = Instant::now();
    world.coordinator.inject(&timed);
    // Renewed every third of the lease, as a coordinator does.
    while started.elapsed() < Duration::from_millis(1150) {
        world.coordinator.say(ToAgent::Renew { epoch: 1, injections: vec!["run/1.node1".into()] });
        std::thread::sleep(Duration::from_millis(130));
    }
    let report = world.coordinator.state("run/1.node1", InjectionState::Reverted);
    let took = started.elapsed();
    assert_eq!(report.cause, Some(RevertCause::Deadline));
    assert!(took >= Duration::from_millis(1200) && took < Duration::from_millis(2200), "{took:?}");
}

#[test]
fn conflicting_orders_are_refused_and_told_who_holds_the_thing() {
    let Some(mut world) = World::with_agent("conflict") else { return };
    let first = order("first/0.node1", vec![world.fill(8)]);
    world.coordinator.inject(&first);
    let used = world.disk_used();
    let below = world.disk.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let mut second = order("second/0.node1", vec![world.fill(8)]);
    if let squall_experiments::effect::Effect::HoldSpace(space) = &mut second.effects[0] {
        space.path = below.display().to_string();
    }
    let refusal = world.coordinator.refused(&second);
    assert!(refusal.contains("the same filesystem is held by first/0.node1"), "{refusal}");
    assert_eq!(world.disk_used(), used);
    // Another thing is free.
    world.coordinator.inject(&order("third/0.node1", vec![burn()]));
}

#[test]
fn an_injection_is_all_or_nothing() {
    let Some(mut world) = World::with_agent("all or nothing") else { return };
    let before = world.disk_used();
    let seconds = rig::unique(81_001);
    let target = rig::sleeper(&seconds);
    // A process has one tracer: whichever holder comes second fails, after the others are active.
    let effects = vec![world.fill(16), freeze(&seconds), freeze(&seconds)];
    world.coordinator.say(ToAgent::Inject(order("run/0.node1", effects)));
    let report = world.coordinator.state("run/0.node1", InjectionState::Failed);
    assert!(!report.detail.is_empty());
    assert!(!is_frozen(target.id()));
    assert_eq!(world.disk_used(), before);
    assert!(world.children("holder").is_empty());
    assert!(world.open().is_empty());
}

#[test]
fn policy_epoch_and_full_disk_refuse_before_anything_happens() {
    let Some(mut world) = World::new("refusals") else { return };
    world.policy("limits: {duration: 30s}\neffects: {deny: [hog]}\n");
    // The journal on a filesystem of its own, with room for nothing but its first chunk.
    let state = world.state_dir();
    std::fs::create_dir(&state).unwrap();
    let (kind, size) = (Some("tmpfs"), Some("size=320k"));
    nix::mount::mount(Some("squall-test"), &state, kind, nix::mount::MsFlags::empty(), size).unwrap();
    world.start_agent();
    let mut long = order("run/0.node1", vec![burn()]);
    long.duration_ms = 40_000;
    let refusal = world.coordinator.refused(&long);
    assert!(refusal.contains("policy.yaml:4: duration 40s is above"), "{refusal}");
    assert!(refusal.contains("policy.yaml:5: effect hog is denied"), "{refusal}");

    let mut stale = order("run/1.node1", vec![world.fill(1)]);
    (stale.epoch, stale.duration_ms) = (0, 1000);
    assert!(world.coordinator.refused(&stale).contains("epoch 0 is over"));

    let before = world.disk_used();
    let checked = world.coordinator.checked(order("run/2.node1", vec![burn()]));
    assert!(checked.refusals.join(" ").contains("hog is denied"));
    let mut refused = None;
    for index in 0..200 {
        // A long record, so that the journal is soon full.
        let mut fill = world.fill(1);
        if let squall_experiments::effect::Effect::HoldSpace(space) = &mut fill {
            space.path += &"/.".repeat(1_900);
        }
        let mut each = order(&format!("fill/{index}.node1"), vec![fill]);
        each.duration_ms = 20_000;
        world.coordinator.say(ToAgent::Inject(each.clone()));
        let (state, report) = world.coordinator.hear("an answer", |frame| match frame {
            squall_experiments::wire::ToCoordinator::Changed { injection, state, report }
                if *injection == each.injection && (*state == InjectionState::Active || state.is_terminal()) =>
            {
                Some((*state, report.clone()))
            }
            _ => None,
        });
        if state == InjectionState::Refused {
            refused = Some(report.detail);
            break;
        }
        world.coordinator.revert(&each.injection);
        world.coordinator.state(&each.injection, InjectionState::Reverted);
    }
    let refused = refused.expect("two hundred long records do not fit into 320 KiB");
    assert!(refused.contains("No space left on device") && refused.contains("nothing was applied"), "{refused}");
    assert_eq!(world.disk_used(), before);
}

#[test]
fn the_oom_killer_never_takes_agent_or_guard_and_takes_hogs_before_other_holders() {
    let test = "the_oom_killer_never_takes_agent_or_guard_and_takes_hogs_before_other_holders";
    // Number 24 in include/uapi/linux/capability.h; containers often run without it.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    if u64::from_str_radix(capabilities, 16).unwrap() & (1 << 24) == 0 {
        return rig::skip(test, "without CAP_SYS_RESOURCE nobody here may lower an oom_score_adj (make guest has it)");
    }
    let Some(mut world) = World::with_agent(test) else { return };
    let score = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().to_owned();
    let of = |world: &World, role: &str| -> Vec<String> {
        let mut scores: Vec<String> = world.children(role).iter().map(|process| score(process.pid)).collect();
        scores.sort();
        scores
    };
    world.coordinator.inject(&order("run/0.node1", vec![world.fill(1)]));
    assert_eq!((score(world.agent_pid()), of(&world, "guard")), ("-1000".to_owned(), vec!["-1000".to_owned()]));
    assert_eq!(of(&world, "holder"), ["-900"]);
    world.coordinator.inject(&order("run/1.node1", vec![burn()]));
    assert_eq!(of(&world, "holder"), ["-900", "1000"]);
}

#[test]
fn a_second_agent_on_the_same_state_directory_is_told_who_has_it() {
    let Some(world) = World::with_agent("busy state directory") else { return };
    let output = world.command().stderr(std::process::Stdio::piped()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains(&format!("in use by squalld agent, process {}", world.agent_pid())), "{text}");
}

#[test]
fn a_policy_with_a_mistake_stops_the_agent_before_it_dials() {
    let Some(mut world) = World::new("wrong policy") else { return };
    world.policy("limits: {latency: fast}\n");
    let output = world.command().stderr(std::process::Stdio::piped()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("policy.yaml:4:19: `fast`"), "{text}");
}

#[test]
fn halt_ends_everything_of_a_run_and_nothing_else() {
    let Some(mut world) = World::with_agent("halt") else { return };
    world.coordinator.inject(&order("one/0.node1", vec![burn()]));
    let other = order("two/0.node1", vec![world.fill(4)]);
    world.coordinator.inject(&other);
    world.coordinator.say(ToAgent::Halt { run: Some("one".into()) });
    let report = world.coordinator.state("one/0.node1", InjectionState::Reverted);
    assert_eq!(report.cause, Some(RevertCause::Halt));
    assert_eq!(world.open(), ["two/0.node1"]);
    world.coordinator.say(ToAgent::Halt { run: None });
    world.coordinator.state("two/0.node1", InjectionState::Reverted);
}

#[test]
fn sigterm_reverts_everything_and_tells_the_coordinator() {
    let Some(mut world) = World::with_agent("shutdown") else { return };
    let seconds = rig::unique(81_002);
    let target = rig::sleeper(&seconds);
    world.coordinator.inject(&order("run/0.node1", vec![freeze(&seconds)]));
    assert!(is_frozen(target.id()));
    world.signal_agent(Signal::SIGTERM);
    let report = world.coordinator.state("run/0.node1", InjectionState::Reverted);
    assert_eq!(report.cause, Some(RevertCause::Shutdown));
    assert!(!is_frozen(target.id()));
    let agent = &mut world.agent.as_mut().unwrap().0;
    assert!(agent.wait().unwrap().success());
}

#[test]
fn what_happened_while_the_coordinator_was_away_is_told_when_it_is_back() {
    let Some(mut world) = World::with_agent("coordinator away") else { return };
    let mut leased = order("run/0.node1", vec![world.fill(4)]);
    leased.lease_ms = 500;
    let before = world.disk_used();
    world.coordinator.inject(&leased);
    world.coordinator.cut(true);
    rig::eventually("the lease's end without a coordinator", Duration::from_secs(2), || world.disk_used() == before);
    world.coordinator.cut(false);
    assert!(world.coordinator.hello().is_empty());
    let report = world.coordinator.state("run/0.node1", InjectionState::Reverted);
    assert_eq!(report.cause, Some(RevertCause::Lease));
}

#[test]
fn a_check_says_what_would_be_hit_and_changes_nothing() {
    let Some(mut world) = World::with_agent("check") else { return };
    let seconds = rig::unique(81_003);
    let target = rig::sleeper(&seconds);
    let before = world.disk_used();
    let checked = world.coordinator.checked(order("run/0.node1", vec![freeze(&seconds), world.fill(4)]));
    assert!(checked.refusals.is_empty(), "{checked:?}");
    assert!(checked.notes[0].contains(&format!("process {} ", target.0.id())), "{checked:?}");
    assert!(checked.notes[1].starts_with("fills 4MiB of 64MiB"), "{checked:?}");
    assert_eq!(world.disk_used(), before);
    assert!(world.open().is_empty() && world.children("holder").is_empty());
}

#[test]
fn only_what_its_coordinator_signed_for_it_now_is_obeyed_and_a_halt_always() {
    let Some(mut world) = World::with_agent("signed orders") else { return };
    let before = world.disk_used();
    let first = order("run/0.node1", vec![world.fill(16)]);
    world.coordinator.inject(&first);
    let revert = ToAgent::Revert { epoch: 1, injection: "run/0.node1".into() };
    let (signer, session) = (world.coordinator.signer.clone(), world.coordinator.session.clone());
    let mut tampered =
        signer.sign("node1", &session, 1, 1000, &ToAgent::Revert { epoch: 1, injection: "run/9".into() });
    tampered.order = tampered.order.replace("run/9", "run/0.node1");
    let stranger = Signer::derived_from(b"another authority");
    for (what, signed) in [
        ("tampered", tampered),
        ("forged", stranger.sign("node1", &session, 1, 1000, &revert)),
        ("relayed", signer.sign("node2", &session, 1, 1000, &revert)),
        ("of an earlier connection", signer.sign("node1", "earlier", 1, 1000, &revert)),
        ("stale", signer.sign("node1", &session, 0, 1000, &revert)),
        ("replayed", signer.sign("node1", &session, 1, 1, &revert)),
    ] {
        world.coordinator.forward(signed);
        // Frames are taken in their order: with this answer the one before was judged.
        world.coordinator.checked(order("run/1.node1", vec![burn()]));
        assert!(world.disk_used() > before && world.open() == ["run/0.node1"], "{what}");
    }
    assert_eq!(world.log().matches("an order was refused").count(), 6, "{}", world.log());
    // And each stands in the audit log, with its reason.
    let audit = || std::fs::read_to_string(world.state_dir().join(squall_experiments::audit::file_name(1))).unwrap();
    rig::eventually("refusals in the audit log", agent_rig::SOON, || {
        audit().matches(r#""event":"order-refused""#).count() == 6
    });
    assert!(audit().contains("it was signed for the node node2"), "{}", audit());

    // A forged halt is no halt; one of an earlier epoch and connection is.
    let halt = ToAgent::Halt { run: None };
    world.coordinator.forward(stranger.sign("node1", &session, 1, 2000, &halt));
    world.coordinator.checked(order("run/1.node1", vec![burn()]));
    assert!(world.disk_used() > before);
    world.coordinator.forward(signer.sign("node1", "earlier", 0, 1, &halt));
    let report = world.coordinator.state("run/0.node1", InjectionState::Reverted);
    assert_eq!(report.cause, Some(RevertCause::Halt));
    assert_eq!(world.disk_used(), before);
}
