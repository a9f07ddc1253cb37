//! Time that jumps: the wall clock by an hour and by ten years, a suspend, a machine that stood still, and clocks that are days apart.
//! Durations and leases run on CLOCK_BOOTTIME and end when they are due: not early, not late.
//!
//! The wall clock and sleep are a guest's to suffer. A time namespace cannot set the wall clock, but makes CLOCK_BOOTTIME and
//! CLOCK_MONOTONIC as different as they are after a long suspend, on any machine.

use std::time::{Duration, Instant};

use squall_experiments::effect::{Effect, Engine};
use squall_experiments::run_event::{Event, InjectionState, RevertCause};
use squall_experiments::wire::{Order, ToAgent};
use squall_tests::commander::{Commander, order};
use squall_tests::every_effect::{burn, cut_off, delay, fill, freeze, occupy};
use squall_tests::fleet::{Agent, Fleet, PATIENCE, spawn_agent};
use squall_tests::guest::inside;
use squall_tests::guest::pulse::Pulse;
use squall_tests::lab::snapshot::Snapshot;
use squall_tests::lab::{Blueprint, Host, Lab, Running, wait_until};
use squall_tests::scene::UNDO;
use squall_tests::skip::{lab_is_possible, tell};
use squalld::agent::kernel::boottime;

const DATA: &str = "/run/data";
const HOUR: i64 = 3600;
const TEN_YEARS: i64 = 10 * 365 * 24 * HOUR;
/// More than any certificate here lives.
const ELEVEN_YEARS: i64 = 11 * 366 * 24 * HOUR;
/// What ends nothing here.
const LONG: Duration = Duration::from_secs(600);

/// The life of effects that end by themselves. All of them must be active before its end: an emulated processor needs much of it.
fn life() -> Duration {
    Duration::from_secs(if inside::is_guest() { 75 } else { 15 })
}

/// After its time an effect may be there for so long: two seconds are promised; a busy machine acts late, an emulated one later.
fn late() -> Duration {
    Duration::from_secs(if inside::is_guest() { 10 } else { 5 })
}

struct Ground {
    _servers: Vec<Running>,
    lab: Lab,
}

impl Ground {
    fn lay(blueprint: Blueprint) -> Ground {
        let lab = blueprint.hosts(&["b", "ctl", "other"]).start();
        let (b, ctl) = (lab.host("b"), lab.host("ctl"));
        lab.wire("b", "ctl");
        b.small_disk(DATA, "32m");
        let echo =
            |host: &Host, what: &str, port: u16| host.start(host.talk(what).args(["--at", &format!("0.0.0.0:{port}")]));
        let _servers = vec![echo(b, "udp-echo", 7), echo(b, "udp-echo", 8), echo(ctl, "tcp-echo", 7)];
        assert!(wait_until(PATIENCE, || b.pids_of("squall-lab").len() >= 2 && !ctl.pids_of("squall-lab").is_empty()));
        let settled = || !b.run("ip", &["-6", "addr", "show", "tentative"]).stdout.contains("inet6");
        assert!(wait_until(PATIENCE, settled));
        Ground { _servers, lab }
    }

    fn b(&self) -> &Host {
        self.lab.host("b")
    }

    /// Without those who live on while there is no fault.
    fn snapshot(&self) -> Snapshot {
        Snapshot::of(self.b(), &[DATA]).without_processes(&["squalld agent", "/proc/self/exe guard"])
    }

    fn is_as(&self, before: &Snapshot, what: &str) {
        let mut difference = String::new();
        let same = wait_until(UNDO + PATIENCE, || {
            difference = before.diff(&self.snapshot());
            difference.is_empty()
        });
        assert!(same, "{what}: the host is not what it was:\n{difference}");
    }
}

fn effects() -> Vec<Effect> {
    let peer = "10.77.0.99".parse().expect("an address");
    vec![cut_off(peer, "eth0"), delay("eth1", Engine::PacketQueue), freeze(8), fill(DATA), burn(), occupy()]
}

/// Injections that are all active, one for each effect.
struct Injected {
    names: Vec<String>,
    /// Before the first order, on CLOCK_BOOTTIME.
    given: u64,
}

/// `lives`: duration and lease, of the first injection, the second and so on; again from its start where it is shorter.
fn inject_all(commander: &Commander, name: &str, lives: &[(Duration, Duration)]) -> Injected {
    let names: Vec<String> = (0..effects().len()).map(|index| format!("{name}/{index}.b")).collect();
    let given = boottime::now_us();
    for ((injection, effect), (duration, lease)) in names.iter().zip(effects()).zip(lives.iter().cycle()) {
        let [duration_ms, lease_ms] = [duration, lease].map(|time| time.as_millis() as u64);
        commander.say(ToAgent::Inject(Order { duration_ms, lease_ms, ..order(injection, &[effect]) }));
    }
    commander.all(&names, |state| state == InjectionState::Active);
    Injected { names, given }
}

impl Injected {
    /// All are reverted, whatever ended them.
    fn are_reverted(&self, commander: &Commander, what: &str) {
        for (injection, end) in commander.all(&self.names, InjectionState::is_terminal) {
            assert_eq!(end.state, InjectionState::Reverted, "{what}: {injection}: {:?}", end.report);
        }
    }

    /// All end by one of these causes, not before `life` and soon after `due`, both since they began. How long each lived its agent says,
    /// by CLOCK_BOOTTIME; that it is no more than what passed here is seen here.
    fn end_when_due(
        &self,
        commander: &Commander,
        (life, due): (Duration, Duration),
        causes: &[RevertCause],
        what: &str,
    ) {
        for (injection, end) in commander.all(&self.names, InjectionState::is_terminal) {
            let passed = since(self.given);
            let lived = Duration::from_micros(end.report.agent_us);
            assert_eq!(end.state, InjectionState::Reverted, "{what}: {injection}: {:?}", end.report);
            assert!(
                end.report.cause.is_some_and(|cause| causes.contains(&cause)),
                "{what}: {injection}: {:?}",
                end.report
            );
            is_due(&format!("{what}: {injection}"), lived, (life, due), &|| {
                format!("{}\n{}", inside::clocks(), commander.story())
            });
            assert!(lived <= passed, "{what}: {injection} says {lived:.2?}, and {passed:.2?} have passed");
        }
    }
}

fn is_due(what: &str, lived: Duration, (life, due): (Duration, Duration), story: &dyn Fn() -> String) {
    assert!(lived >= life, "{what} ended early, after {lived:.2?} of {life:?}\n{}", story());
    assert!(lived <= due + late(), "{what} ended late, after {lived:.2?}, due after {due:.2?}\n{}", story());
    tell(&format!("{what} gone {:.3} s after its order, due after {:.3} s", lived.as_secs_f64(), due.as_secs_f64()));
}

/// By CLOCK_BOOTTIME.
fn since(moment: u64) -> Duration {
    Duration::from_micros(boottime::now_us() - moment)
}

#[test]
fn where_boottime_is_days_ahead_of_monotonic_time_everything_ends_when_it_is_due() {
    if !lab_is_possible("where_boottime_is_days_ahead_of_monotonic_time_everything_ends_when_it_is_due") {
        return;
    }
    let ground = Ground::lay(Lab::new().boottime_ahead(Duration::from_secs(10 * 24 * 3600)));
    let uptime = ground.b().run("cat", &["/proc/uptime"]).stdout;
    assert!(uptime.split('.').next().is_some_and(|s| s.parse::<u64>().is_ok_and(|s| s > 864_000)), "{uptime}");
    let before = ground.snapshot();
    let commander = Commander::start(ground.lab.host("ctl"));
    let (agent, _) = commander.agent(ground.b(), &Agent::default());
    let life = life();
    let given = inject_all(&commander, "both", &[(life, LONG), (LONG, life)]);
    given.end_when_due(&commander, (life, life), &[RevertCause::Deadline, RevertCause::Lease], "ten days ahead");
    ground.is_as(&before, "after duration and lease");
    // With nobody but holders and guard to end it.
    let frozen = inject_all(&commander, "frozen", &[(life, LONG)]);
    agent.signal(nix::sys::signal::Signal::SIGSTOP);
    assert!(since(frozen.given) < life, "the agent was stopped too late to prove anything");
    let tables = || ground.b().run("nft", &["list", "tables"]).stdout;
    assert!(wait_until(life + late(), || tables().is_empty()), "what a frozen agent holds ends, too: {}", tables());
    assert!(since(frozen.given) >= life, "it ended early");
    agent.signal(nix::sys::signal::Signal::SIGCONT);
    frozen.are_reverted(&commander, "after a frozen agent");
    ground.is_as(&before, "after a frozen agent");
}

#[test]
fn a_wall_clock_that_is_set_changes_no_end() {
    if !inside::in_guest("a_wall_clock_that_is_set_changes_no_end") {
        return;
    }
    let ground = Ground::lay(Lab::new());
    let before = ground.snapshot();
    let fleet = Fleet::start(&ground.lab, "ctl", &[("b", Agent::default())]);
    // Much longer than a lease: it must be renewed whatever the wall clock says.
    let life = life();
    let given = boottime::now_us();
    let mut run = fleet.submit(&experiment(life));
    for step in 0..6 {
        run.wait_for("all are active", |event| is(event, step, InjectionState::Active));
    }
    for (step, seconds) in [HOUR, -2 * HOUR, HOUR, TEN_YEARS, -2 * TEN_YEARS, TEN_YEARS].into_iter().enumerate() {
        inside::step_wall_clock(seconds);
        std::thread::sleep(Duration::from_millis(1500));
        let tables = ground.b().run("nft", &["list", "tables"]).stdout;
        let passed = since(given);
        assert!(
            tables.contains("squall-") && passed < life,
            "step {step}, {passed:.2?} after the order for {life:?}: an effect ended with the wall clock\n{tables}\n{}",
            run.story()
        );
    }
    assert!(since(given) > Duration::from_secs(10), "no lease was renewed");
    std::thread::sleep(life.saturating_sub(since(given)));
    for step in 0..6 {
        let (_, event) = run.wait_for("its end", |event| is(event, step, InjectionState::Reverted));
        let Event::Changed { report, .. } = event.event else { unreachable!("that is what was waited for") };
        assert_eq!(report.cause, Some(RevertCause::Deadline), "step {step}: {report:?}\n{}", run.story());
        let lived = Duration::from_micros(report.agent_us);
        is_due(&format!("wall clock set six times: step {step}"), lived, (life, life), &|| run.story());
        assert!(lived <= since(given), "step {step}: {report:?}");
    }
    drop(run);
    drop(fleet);
    ground.is_as(&before, "after steps of the wall clock");
}

#[test]
fn an_expired_certificate_blocks_no_undo() {
    if !inside::in_guest("an_expired_certificate_blocks_no_undo") {
        return;
    }
    let ground = Ground::lay(Lab::new());
    let before = ground.snapshot();
    {
        let commander = Commander::start(ground.lab.host("ctl"));
        let (mut agent, _) = commander.agent(ground.b(), &Agent::default());
        for seconds in [ELEVEN_YEARS, -ELEVEN_YEARS] {
            let name = if seconds > 0 { "expired" } else { "not yet valid" };
            // An order to revert, over the connection that there is.
            let ordered = inject_all(&commander, &format!("ordered{seconds}"), &[(LONG, LONG)]);
            inside::step_wall_clock(seconds);
            ordered.names.iter().for_each(|injection| commander.revert(injection));
            ordered.are_reverted(&commander, name);
            // The agent dies, and its next one finds nobody whose certificate it takes.
            let killed = inject_all(&commander, &format!("killed{seconds}"), &[(LONG, LONG)]);
            agent.kill();
            let next = spawn_agent(ground.b(), &commander.url(), &Agent::default());
            ground.is_as(&before, name);
            let log = || std::fs::read_to_string(ground.b().path("/run/squall/agent.log")).unwrap_or_default();
            assert!(wait_until(PATIENCE, || log().contains("no connection to the coordinator")), "{}", log());
            inside::step_wall_clock(-seconds);
            // It dials again, and says what became of them.
            killed.are_reverted(&commander, name);
            agent = next;
        }
    }
    // A coordinator that is lost while no certificate is valid: the lease ends it.
    // On another host: the commander's thread serves at its port as long as this process lives. Its agent's identity is of no use there.
    let lab = &ground.lab;
    for file in ["ca.pem", "node.pem", "node.key"] {
        std::fs::remove_file(ground.b().path(format!("/run/squall/{file}"))).expect("it was enrolled");
    }
    let mut fleet = Fleet::start(lab, "other", &[("b", Agent::default())]);
    let mut run = fleet.submit(&experiment(LONG));
    for step in 0..6 {
        run.wait_for("all are active", |event| is(event, step, InjectionState::Active));
    }
    drop(run);
    inside::step_wall_clock(ELEVEN_YEARS);
    fleet.kill_coordinator();
    let lost = boottime::now_us();
    let tables = || ground.b().run("nft", &["list", "tables"]).stdout;
    // A lease of ten seconds.
    assert!(wait_until(Duration::from_secs(10) + late(), || tables().is_empty()), "{}", tables());
    tell(&format!("coordinator lost under expired certificates: gone after {:.3} s", since(lost).as_secs_f64()));
    fleet.kill_agent("b");
    inside::step_wall_clock(-ELEVEN_YEARS);
    ground.is_as(&before, "after a lease under expired certificates");
}

#[test]
fn a_suspended_machine_s_time_counts() {
    if !inside::in_guest("a_suspended_machine_s_time_counts") {
        return;
    }
    let ground = Ground::lay(Lab::new());
    let before = ground.snapshot();
    let commander = Commander::start(ground.lab.host("ctl"));
    let _agent = commander.agent(ground.b(), &Agent::default());
    let life = life();
    let asleep = Duration::from_secs(8);
    let given = inject_all(&commander, "duration", &[(life, LONG)]);
    let (boot, awake) = (boottime::now_us(), Instant::now());
    inside::suspend(asleep);
    let passed = since(boot);
    // Rust's Instant is CLOCK_MONOTONIC.
    assert!(passed >= awake.elapsed() + asleep / 2, "no suspend: {passed:?} and {:?}", awake.elapsed());
    tell(&format!("a suspend: CLOCK_BOOTTIME went on by {passed:.2?}, CLOCK_MONOTONIC by {:.2?}", awake.elapsed()));
    given.end_when_due(&commander, (life, life), &[RevertCause::Deadline], "a suspend within a duration");
    ground.is_as(&before, "after a suspend");
}

#[test]
fn a_lease_that_runs_out_asleep_ends_everything_on_waking() {
    if !inside::in_guest("a_lease_that_runs_out_asleep_ends_everything_on_waking") {
        return;
    }
    let ground = Ground::lay(Lab::new());
    let before = ground.snapshot();
    let commander = Commander::start(ground.lab.host("ctl"));
    let _agent = commander.agent(ground.b(), &Agent::default());
    let life = life();
    let pulse = Pulse::start();
    let given = inject_all(&commander, "lease", &[(LONG, life)]);
    let asleep = inside::clocks();
    inside::suspend(life.saturating_sub(since(given.given)) + Duration::from_secs(5));
    let woken = since(given.given);
    tell(&format!("a suspend over a lease: {asleep}; awake: {}", inside::clocks()));
    assert!(woken > life, "it slept too short");
    given.end_when_due(&commander, (life, woken), &[RevertCause::Lease], "a suspend over a lease");
    tell(&format!("a suspend over a lease: the longest that the machine did nothing is {:.2?}", pulse.longest_pause()));
    ground.is_as(&before, "after a lease that ended asleep");
}

#[test]
fn a_machine_that_stood_still_ends_what_is_over_when_it_goes_on() {
    if !inside::in_guest("a_machine_that_stood_still_ends_what_is_over_when_it_goes_on") {
        return;
    }
    let ground = Ground::lay(Lab::new());
    let before = ground.snapshot();
    let commander = Commander::start(ground.lab.host("ctl"));
    let _agent = commander.agent(ground.b(), &Agent::default());
    let life = life();
    let given = inject_all(&commander, "stalled", &[(life, LONG)]);
    std::thread::sleep(life.saturating_sub(since(given.given) + Duration::from_secs(4)));
    inside::stall(Duration::from_secs(12));
    let woken = since(given.given);
    assert!(woken > life, "it went on too early to prove anything");
    given.end_when_due(&commander, (life, woken), &[RevertCause::Deadline], "a machine that stood still");
    ground.is_as(&before, "after it stood still");
}

fn experiment(life: Duration) -> String {
    let steps = [
        ("network-loss", ", interface: eth0", "{percent: 100%, peers: [10.77.0.99/32]}"),
        ("network-latency", ", interface: eth1", "{latency: 200ms}"),
        ("process-pause", ", processes: {port: 8}", "{}"),
        ("disk-fill", ", path: /run/data", "{bytes: 8MiB, reserve: 1MiB}"),
        ("cpu-pressure", "", "{workers: 1, load: 10%}"),
        ("memory-pressure", "", "{bytes: 16MiB}"),
    ];
    let step = |(index, (fault, on, with)): (usize, &(&str, &str, &str))| {
        let background = index + 1 < steps.len();
        format!(
            "  - fault: {fault}\n    on: {{nodes: {{name: b}}{on}}}\n    with: {with}\n    for: {}s\n    background: {background}\n",
            life.as_secs()
        )
    };
    format!(
        "apiVersion: squall/v1
kind: Experiment
metadata: {{name: clock}}
hypothesis: Everything ends when it is due.
steadyState:
  - {{name: control, tcp: {{address: \"ctl.lab:7\"}}, every: 500ms, tolerance: {{success: \">= 50%\", minSamples: 1}}}}
blastRadius: {{nodes: 1, maxDuration: 10m}}
method:
{}",
        steps.iter().enumerate().map(step).collect::<String>()
    )
}

fn is(event: &Event, step: usize, wanted: InjectionState) -> bool {
    matches!(event, Event::Changed { injection, state, .. }
        if *state == wanted && injection.rsplit_once('/').is_some_and(|(_, rest)| rest.starts_with(&format!("{step}."))))
}
