//! Faults never eat the safety system: with every hog at work, and the filesystem of the journal full, deadlines ring and a halt halts.

use std::time::{Duration, Instant};

use squall_experiments::effect::{Amount, Effect, Freeze, Hog, HoldSpace};
use squall_experiments::run_event::{InjectionState, RevertCause};
use squall_experiments::target::ProcessSelector;
use squall_experiments::units::Size;
use squall_experiments::wire::{Order, ToAgent};
use squall_tests::commander::{Commander, order};
use squall_tests::fleet::{Agent, PATIENCE};
use squall_tests::lab::{Host, Lab, wait_until};
use squall_tests::scene::{UNDO, pids_of_role};
use squall_tests::skip::lab_keeps_time;

/// On the agent's filesystem, so that its journal has nowhere to grow.
const STATE: &str = "/var/lib/squall";
const LIFE: Duration = Duration::from_millis(400);
/// Others work on this machine, too.
const ALLOWANCE: Duration = Duration::from_secs(1);

fn hogs() -> Vec<Effect> {
    let workers = 4 * std::thread::available_parallelism().map_or(2, |count| count.get() as u32);
    vec![
        Effect::Hog(Hog::Cpu { workers, load: "100%".parse().expect("a share") }),
        Effect::Hog(Hog::Memory { amount: Amount::Bytes(Size(128 << 20)), reserve: Size(1 << 30) }),
    ]
}

fn fill() -> Effect {
    Effect::HoldSpace(HoldSpace { path: STATE.into(), amount: Amount::LeaveFree(Size(0)), reserve: Size(0) })
}

fn freeze(name: &str) -> Order {
    let processes = ProcessSelector { port: Some(8), ..ProcessSelector::default() };
    let duration_ms = LIFE.as_millis() as u64;
    Order { duration_ms, ..order(name, &[Effect::Freeze(Freeze { processes })]) }
}

/// Who traces the echo server, by the host's numbers; None while it runs.
fn tracer(b: &Host) -> Option<String> {
    b.pids_of("squall-lab").into_iter().find_map(|pid| {
        let status = std::fs::read_to_string(b.path(format!("/proc/{pid}/status"))).ok()?;
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?.trim().to_owned();
        (tracer != "0").then_some(tracer)
    })
}

#[test]
fn deadlines_ring_and_a_halt_halts_beside_every_hog_with_a_full_disk_below_the_journal() {
    let test = "deadlines_ring_and_a_halt_halts_beside_every_hog_with_a_full_disk_below_the_journal";
    if !lab_keeps_time(test) {
        return;
    }
    let lab = Lab::new().hosts(&["b", "ctl"]).start();
    let b = lab.host("b");
    b.small_disk(STATE, "8m");
    let _echo = b.start(b.talk("udp-echo").args(["--at", "0.0.0.0:8"]));
    assert!(wait_until(PATIENCE, || b.pids_of("squall-lab").len() > 1));
    let commander = Commander::start(lab.host("ctl"));
    let _agent = commander.agent(b, &Agent::default());
    commander.inject("hungry/0.b", &hogs());
    let mut latest = Duration::ZERO;
    for number in 1..=5 {
        let name = format!("hungry/{number}.b");
        commander.say(ToAgent::Inject(freeze(&name)));
        let report = commander.state(&name, InjectionState::Reverting);
        assert_eq!(report.cause, Some(RevertCause::Deadline), "{report:?}");
        let late = Duration::from_micros(report.agent_us).saturating_sub(LIFE);
        latest = latest.max(late);
        assert_eq!(commander.end(&name).0, InjectionState::Reverted);
    }
    eprintln!("beside every hog an agent's deadline rings late by {latest:?} at most, of 5");
    assert!(latest < Duration::from_secs(1) + ALLOWANCE, "{latest:?}");

    // Agent and holder stand still, and nothing can be written: what rings now is the guard's clock.
    let life = 4 * LIFE;
    commander.say(ToAgent::Inject(Order { duration_ms: life.as_millis() as u64, ..freeze("hungry/6.b") }));
    commander.state("hungry/6.b", InjectionState::Active);
    let start = Instant::now();
    commander.inject("hungry/7.b", &[fill()]);
    let free = nix::sys::statvfs::statvfs(&b.path(STATE)).expect("it is mounted").blocks_available();
    assert_eq!(free, 0, "the journal's filesystem is full");
    let holder = tracer(b).expect("it bites");
    let agent = &pids_of_role(b, "agent")[0];
    assert!(b.run("kill", &["-STOP", agent, &holder]).ok());
    assert!(wait_until(PATIENCE, || tracer(b).is_none()), "the guard ends what nobody else can");
    let by_guard = start.elapsed();
    eprintln!("beside every hog, on a full disk, the guard ended a fault of {life:?} after {by_guard:?}");
    assert!(by_guard < life + UNDO + ALLOWANCE, "{by_guard:?}");
    assert!(b.run("kill", &["-CONT", agent]).ok());
    assert_eq!(commander.end("hungry/6.b").0, InjectionState::Reverted);
    commander.say(ToAgent::Inject(order("hungry/8.b", &hogs())));
    let (state, report) = commander.end("hungry/8.b");
    assert_eq!(state, InjectionState::Refused, "what cannot be written down is not begun: {report:?}");

    let start = Instant::now();
    commander.say(ToAgent::Halt { run: None });
    let (state, report) = commander.end("hungry/0.b");
    let halted = start.elapsed();
    assert_eq!((state, report.cause), (InjectionState::Reverted, Some(RevertCause::Halt)), "{report:?}");
    eprintln!("beside every hog a halt was done after {halted:?}");
    assert!(halted < UNDO + ALLOWANCE, "{halted:?}");
}
