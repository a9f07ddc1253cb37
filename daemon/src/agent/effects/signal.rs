//! Signal: sent through a pidfd whose start time was checked. Nothing holds it and nothing undoes it; the return is observed.
//!
//! So it leaves no trace of ours, and its holder only sends, watches and measures until it is released.

mod aftermath;
mod back;

use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use squall_experiments::effect::{SendSignal, SignalName};
use squall_experiments::target::ProcessSelector;

use super::tether::{Outcome, Tether, Wake};
use super::{Context, Hold, Prepared, Presence, ProcessId, Refusal};
use crate::agent::crash;
use crate::agent::kernel::boottime;
use crate::agent::kernel::pidfd::PidFd;
use crate::agent::processes::{self, Match};
use aftermath::{Hit, Hits};
use back::Back;

/// How long a holder may take to vanish after its kill.
const END_BOUND: Duration = Duration::from_millis(500);

pub fn prepare(effect: &SendSignal, context: &Context) -> Result<Prepared, Refusal> {
    if effect.repeat.is_some_and(|every| every.0 < Duration::from_millis(10)) {
        return Err(Refusal("repeat: not more often than every 10ms".into()));
    }
    for target in processes::select(&effect.processes, &context.own_processes)? {
        may_signal(&target)?;
    }
    Ok(Prepared {
        hold: Hold::Signal { signal: effect.clone(), own: context.own_processes.clone(), protected: Vec::new() },
        traces: Vec::new(),
    })
}

/// Signal 0 asks the kernel for permission and sends nothing (kill(2)).
fn may_signal(target: &Match) -> Result<(), Refusal> {
    match nix::sys::signal::kill(Pid::from_raw(target.process.pid), None) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => {
            let hint = "the agent must run as root, as the target's user, or with CAP_KILL";
            Err(Refusal(format!("{target} may not be signalled: {error} ({hint})")))
        }
    }
}

/// Never hit, whatever matches: `own`, and what `protected` means at the time of each round.
pub fn hold(
    signal: &SendSignal,
    own: &[ProcessId],
    protected: &[ProcessSelector],
    tether: &mut Tether,
) -> anyhow::Result<Outcome> {
    let mut watch = Watch { signal, own, protected, hits: Hits::default(), back: Back::new(signal.back_within) };
    let first = watch.round()?;
    if first == 0 {
        anyhow::bail!("every process that matched was gone before the signal could be sent");
    }
    watch.hits.settle(aftermath::patience(signal.signal));
    tether.active(watch.hits.evidence(signal.signal, false));

    let every = signal.repeat.map(|span| span.0.as_micros() as u64);
    let mut next_round = every.map(|every| boottime::now_us() + every);
    loop {
        let now = boottime::now_us();
        let until_round = next_round.map(|at| Duration::from_micros(at.saturating_sub(now)));
        let until_look = watch.back.next_look(now);
        let timeout = [until_round, until_look].into_iter().flatten().min();
        if tether.wait(timeout, None) == Wake::Release {
            break;
        }
        let now = boottime::now_us();
        watch.back.look(now, &signal.processes, own);
        if let (Some(at), Some(every)) = (next_round, every)
            && now >= at
        {
            // A round with nobody there is no failure: they are still dead from the last.
            watch.round()?;
            next_round = Some(now + every);
        }
    }
    watch.hits.settle(Duration::ZERO);
    watch.back.look(boottime::now_us(), &signal.processes, own);
    let mut evidence = watch.hits.evidence(signal.signal, true);
    evidence.extend(watch.back.evidence(boottime::now_us()));
    Ok(Outcome { evidence, unmet: watch.back.unmet(), ..Outcome::default() })
}

/// The life of one signal effect.
struct Watch<'a> {
    signal: &'a SendSignal,
    own: &'a [ProcessId],
    protected: &'a [ProcessSelector],
    hits: Hits,
    back: Back,
}

impl Watch<'_> {
    /// Sends to what matches now. How many were hit.
    fn round(&mut self) -> anyhow::Result<usize> {
        let never = self.never();
        let everyone = processes::matching(&self.signal.processes, &never)?;
        let targets = match processes::select(&self.round_selector(), &never) {
            Ok(targets) => targets,
            Err(refusal) if self.hits.rounds == 0 => return Err(refusal.into()),
            Err(_) => return Ok(0),
        };
        self.hits.retire();
        let mut hit = 0;
        for target in targets {
            let Some(fd) = PidFd::open(target.process)? else { continue };
            let mut of = Hit::before(target, fd);
            crash::point("signalling");
            let sent = of.send(signal_of(self.signal.signal))?;
            crash::point("signalled");
            let Some(at_us) = sent else { continue };
            hit += 1;
            self.back.sent(at_us, of.process(), &everyone);
            self.hits.add(of);
        }
        self.hits.rounds += 1;
        Ok(hit)
    }

    /// A process may have started since the last round that the node's policy protects.
    fn never(&self) -> Vec<ProcessId> {
        let protected = self.protected.iter().flat_map(|it| processes::matching(it, &[]).unwrap_or_default());
        self.own.iter().copied().chain(protected.map(|found| found.process)).collect()
    }

    /// Each round draws anew, from the same recorded seed.
    fn round_selector(&self) -> ProcessSelector {
        let mut selector = self.signal.processes.clone();
        if let Some(pick) = &mut selector.pick {
            pick.seed = Some(pick.seed.unwrap_or(0).wrapping_add(self.hits.rounds));
        }
        selector
    }
}

fn signal_of(name: SignalName) -> Signal {
    match name {
        SignalName::Kill => Signal::SIGKILL,
        SignalName::Term => Signal::SIGTERM,
        SignalName::Int => Signal::SIGINT,
        SignalName::Hup => Signal::SIGHUP,
        SignalName::Quit => Signal::SIGQUIT,
        SignalName::Abrt => Signal::SIGABRT,
        SignalName::Segv => Signal::SIGSEGV,
        SignalName::Usr1 => Signal::SIGUSR1,
        SignalName::Usr2 => Signal::SIGUSR2,
    }
}

/// Kills a holder through a pidfd, only if it is still that process. Returns once it is gone, at most half a second later.
pub fn end_holder(process: ProcessId) -> anyhow::Result<()> {
    let Some(fd) = PidFd::open(process)? else { return Ok(()) };
    if fd.signal(Signal::SIGKILL)? && !fd.wait_gone(END_BOUND) {
        anyhow::bail!("process {} was killed and is still there (in an uninterruptible wait?)", process.pid);
    }
    Ok(())
}

/// A zombie is absent: the kernel has closed its descriptors and let go of its tracees before it is one.
pub fn observe_process(process: ProcessId) -> Presence {
    match PidFd::open(process) {
        Ok(None) => Presence::Absent,
        // Readable once every thread has ended; the state letter alone speaks only of the first.
        Ok(Some(fd)) if fd.wait_gone(Duration::ZERO) => Presence::Absent,
        Ok(Some(_)) => Presence::Present(format!("process {} runs", process.pid)),
        Err(error) => Presence::Unknown(format!("pidfd_open of process {}: {error}", process.pid)),
    }
}
