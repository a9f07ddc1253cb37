//! Signals that reach exactly what was meant, measured.

#![allow(clippy::disallowed_methods, reason = "tests start what they hit")]

mod rig;

use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use rig::{Holder, Reaped, context, dying_with_us, not_root, sleeper, unique};
use squall_experiments::effect::{SendSignal, SignalName};
use squall_experiments::target::{Pick, ProcessSelector};
use squall_experiments::units::Span;
use squalld::agent::effects::{Hold, Presence, ProcessId, signal};
use squalld::agent::processes;

fn by_command(pattern: &str) -> ProcessSelector {
    ProcessSelector { command: Some(pattern.into()), ..Default::default() }
}

fn send(processes: ProcessSelector, signal: SignalName) -> SendSignal {
    SendSignal { processes, signal, repeat: None, back_within: None }
}

fn ended(child: &mut Reaped) -> bool {
    child.0.try_wait().unwrap().is_some()
}

#[test]
fn a_kill_ends_what_matches_and_nothing_else() {
    let (first, second) = (unique(70001), unique(70002));
    let (mut target, mut bystander) = (sleeper(&first), sleeper(&second));
    let effect = send(by_command(&format!("sleep {first}")), SignalName::Kill);
    let prepared = signal::prepare(&effect, &context("000000000001")).unwrap();
    assert!(prepared.traces.is_empty());
    let mut holder = Holder::start();
    let evidence = holder.go(prepared.hold).unwrap();
    assert_eq!(evidence.len(), 1);
    assert_eq!(evidence[0].bites, Some(true), "{evidence:?}");
    assert_eq!(evidence[0].before, "sleeping");
    assert!(evidence[0].numbers["gone_after_ms"] < 1000.0);
    assert!(ended(&mut target));
    assert!(!ended(&mut bystander));
    assert_eq!(holder.release().unmet, None);
}

#[test]
fn a_process_with_another_start_time_is_not_ended() {
    let mut bystander = sleeper(&unique(70003));
    let real = bystander.id();
    let recycled = ProcessId { start: real.start + 1, ..real };
    signal::end_holder(recycled).unwrap();
    assert!(!ended(&mut bystander));
    assert_eq!(signal::observe_process(recycled), Presence::Absent);
    assert!(matches!(signal::observe_process(real), Presence::Present(_)));
    signal::end_holder(real).unwrap();
    // A zombie until this test reaps it, and still absent.
    assert_eq!(signal::observe_process(real), Presence::Absent);
    signal::end_holder(real).unwrap();
    assert!(ended(&mut bystander));
}

#[test]
fn a_signal_that_is_ignored_does_not_bite() {
    let seconds = unique(70004);
    let mut command = Command::new("sleep");
    command.arg(&seconds);
    // SAFETY: signal(2) is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGTERM, libc::SIG_IGN);
            Ok(())
        });
    }
    let mut target = Reaped(dying_with_us(&mut command).spawn().unwrap());
    let effect = send(by_command(&format!("sleep {seconds}")), SignalName::Term);
    let mut holder = Holder::start();
    let evidence = holder.go(signal::prepare(&effect, &context("000000000002")).unwrap().hold).unwrap();
    assert_eq!(evidence[0].bites, Some(false));
    assert!(evidence[0].after.contains("ignores SIGTERM"), "{evidence:?}");
    assert!(!ended(&mut target));
}

#[test]
fn a_process_that_comes_back_in_time_meets_the_check_and_one_that_does_not_fails_it() {
    for comes_back in [true, false] {
        let seconds = unique(if comes_back { 70005 } else { 70006 });
        let mut target = sleeper(&seconds);
        let within = Span::from_millis(if comes_back { 20_000 } else { 60 });
        let mut effect = send(by_command(&format!("sleep {seconds}")), SignalName::Kill);
        effect.back_within = Some(within);
        let mut holder = Holder::start();
        holder.go(signal::prepare(&effect, &context("000000000003")).unwrap().hold).unwrap();
        target.0.wait().unwrap();
        let _successor = comes_back.then(|| sleeper(&seconds));
        // Longer than the holder's slowest look, so that it had its chance.
        std::thread::sleep(Duration::from_millis(150));
        let outcome = holder.release();
        let back = outcome.evidence.last().unwrap();
        if comes_back {
            assert_eq!(outcome.unmet, None);
            assert!(back.after.starts_with("back after"), "{back:?}");
        } else {
            let unmet = outcome.unmet.unwrap();
            assert!(unmet.contains("no new process matched") && unmet.contains("nothing matches any more"), "{unmet}");
        }
    }
}

#[test]
fn a_repeated_signal_hits_the_successor_too() {
    let seconds = unique(70007);
    let mut target = sleeper(&seconds);
    let mut effect = send(by_command(&format!("sleep {seconds}")), SignalName::Kill);
    effect.repeat = Some(Span::from_millis(20));
    let mut holder = Holder::start();
    holder.go(signal::prepare(&effect, &context("000000000004")).unwrap().hold).unwrap();
    target.0.wait().unwrap();
    let mut successor = sleeper(&seconds);
    rig::eventually("the second kill", Duration::from_secs(10), || ended(&mut successor));
    let evidence = holder.release().evidence;
    assert_eq!(evidence.last().unwrap().numbers["hits"], 2.0);
    assert_eq!(evidence.last().unwrap().numbers["gone"], 2.0);
}

#[test]
fn a_repeated_signal_passes_over_a_protected_process_that_started_later() {
    let (seconds, other) = (unique(710017), unique(710018));
    let mut target = sleeper(&seconds);
    let mut effect = send(by_command(&format!("sleep 71001?.{}", std::process::id())), SignalName::Kill);
    effect.repeat = Some(Span::from_millis(20));
    let mut prepared = signal::prepare(&effect, &context("000000000014")).unwrap().hold;
    let Hold::Signal { protected, .. } = &mut prepared else { unreachable!() };
    protected.push(by_command(&format!("sleep {other}")));
    let mut holder = Holder::start();
    holder.go(prepared).unwrap();
    target.0.wait().unwrap();
    let mut spared = sleeper(&other);
    let mut successor = sleeper(&seconds);
    rig::eventually("the second kill", Duration::from_secs(10), || ended(&mut successor));
    assert!(!ended(&mut spared));
    holder.release();
}

#[test]
fn nothing_that_matches_is_a_refusal_that_names_what_comes_nearest() {
    let target = sleeper(&unique(70008));
    let refusal = |selector: ProcessSelector| processes::select(&selector, &[]).unwrap_err().0;
    let text = refusal(ProcessSelector { name: Some("SLEEP".into()), ..Default::default() });
    assert!(
        text.contains("no process matches name SLEEP") && text.contains("`sleep`, which differs in case"),
        "{text}"
    );
    let text = refusal(by_command(&unique(70008)));
    assert!(text.contains("whole command line") && text.contains("matches 1"), "{text}");
    let selector =
        ProcessSelector { name: Some("sleep".into()), unit: Some("none.service".into()), ..Default::default() };
    let text = refusal(selector);
    assert!(text.contains("unit none.service alone matches 0"), "{text}");
    assert!(refusal(ProcessSelector { user: Some("no-such-user".into()), ..Default::default() }).contains("no user"));
    let mut picky = by_command(&format!("sleep {}", unique(70008)));
    picky.pick = Some(Pick { count: Some(2), percent: None, seed: Some(1) });
    assert!(refusal(picky).contains("only 1 match"));
    drop(target);
}

#[test]
fn a_pid_file_that_outlived_its_process_hits_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("daemon.pid");
    let selector = ProcessSelector { pid_file: Some(path.to_str().unwrap().into()), ..Default::default() };
    assert_eq!(processes::matching(&selector, &[]).unwrap(), []);
    let target = sleeper(&unique(70009));
    std::fs::write(&path, format!("{}\n", target.0.id())).unwrap();
    assert_eq!(processes::select(&selector, &[]).unwrap()[0].process, target.id());
    // Written an hour before the process started: its number was used again.
    let earlier = std::fs::metadata(&path).unwrap().modified().unwrap() - Duration::from_secs(3600);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(earlier).unwrap();
    let text = processes::select(&selector, &[]).unwrap_err().0;
    assert!(text.contains("means an earlier process"), "{text}");
    let gone = target.0.id();
    drop(target);
    std::fs::write(&path, format!("{gone}\n")).unwrap();
    let text = processes::select(&selector, &[]).unwrap_err().0;
    assert!(text.contains("is gone, the file is stale"), "{text}");
    std::fs::write(&path, "not a number").unwrap();
    assert!(processes::select(&selector, &[]).unwrap_err().0.contains("not a process id"));
}

#[test]
fn a_port_means_every_process_that_shares_its_socket() {
    if not_root("a_port_means_every_process_that_shares_its_socket") {
        return;
    }
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let fd = listener.as_raw_fd();
    let heirs: Vec<Reaped> = (0..2)
        .map(|_| {
            let mut command = Command::new("sleep");
            command.arg(unique(70010));
            // SAFETY: fcntl is async-signal-safe; the descriptor is open in the parent.
            unsafe {
                command.pre_exec(move || {
                    libc::fcntl(fd, libc::F_SETFD, 0);
                    Ok(())
                });
            }
            Reaped(dying_with_us(&mut command).spawn().unwrap())
        })
        .collect();
    let selector = ProcessSelector { port: Some(port), ..Default::default() };
    let found: Vec<ProcessId> = processes::select(&selector, &[]).unwrap().into_iter().map(|m| m.process).collect();
    let mut expected: Vec<ProcessId> = heirs.iter().map(Reaped::id).collect();
    expected.sort_by_key(|process| process.pid);
    assert_eq!(found, expected);
    drop((listener, heirs));
    let text = processes::select(&selector, &[]).unwrap_err().0;
    assert!(text.contains(&format!("nothing listens on TCP port {port}")), "{text}");
}

#[test]
fn squall_itself_is_never_hit() {
    let holder = Holder::start();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), holder.child.0.id().to_string()).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let selector = ProcessSelector { name: Some("squalld".into()), pid_file: Some(path), ..Default::default() };
    // In a test the caller's program is the test: the holder is named as the agent would name it.
    assert_eq!(processes::matching(&selector, &[]).unwrap().len(), 1);
    let text = processes::select(&selector, &[holder.child.id()]).unwrap_err().0;
    assert!(text.contains("never hit"), "{text}");
}
