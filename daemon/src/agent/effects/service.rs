//! Unit: a service is stopped in its own orderly way, and started again by whoever takes the effect back.
//!
//! Nothing of the kernel's holds a stopped service down, so no death of ours brings it up by itself. What is held is a *mark*, a file in
//! the agent's state directory, made before the service is told to stop and removed once it was seen to run again. While the mark
//! is there the effect is there, and [`advance`] goes one step towards running: the holder, the agent, its guard and the next agent
//! all call the same. A stop that was begun is brought to its end before the start, because a service that still runs may be about to end.
//!
//! How a service is stopped and started stands in the node's policy and in the journal; an order brings its name only.

pub mod control;
mod mark;
pub mod starter;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_experiments::effect::{Unit, UnitAction};
use squall_experiments::run_event::Evidence;
use squall_experiments::units::Span;

use super::tether::{Outcome, Tether, Wake};
use super::{Context, Hold, Prepared, Presence, Refusal, Trace};
use crate::agent::kernel::boottime;
use control::{Control, Status};
use mark::Phase;

/// Between two looks at a service that is on its way up or down.
const LOOK: Duration = Duration::from_millis(20);
/// Between two looks at one that should stay down.
const WATCH: Duration = Duration::from_millis(500);

/// A service as the node's policy defines it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub name: String,
    pub control: Control,
    /// Longest time to stop, and longest to start again.
    pub within_ms: u64,
}

impl Service {
    fn within(&self) -> Duration {
        Duration::from_millis(self.within_ms)
    }

    /// How long an undo may take: the rest of a stop, and a start.
    pub fn patience(&self) -> Duration {
        self.within() * 2
    }
}

/// The mark of the service number `index` of an effect.
pub fn mark_of(context: &Context, index: usize) -> PathBuf {
    context.state_dir.join(format!("service-{}-{index}", context.tag))
}

pub fn prepare(effect: &Unit, context: &Context) -> Result<Prepared, Refusal> {
    let service = find(&effect.service, context)?;
    match starter::status(&service, &context.state_dir) {
        Ok(Status::Up) => {}
        Ok(Status::Down) => {
            let hint = "a fault stops what runs";
            return Err(Refusal(format!(
                "the service {} does not run: there is nothing to stop ({hint})",
                service.name
            )));
        }
        Ok(Status::Between(state)) => return Err(Refusal(format!("the service {} is {state}", service.name))),
        Err(why) => return Err(Refusal(format!("whether the service {} runs cannot be told: {why}", service.name))),
    }
    let mark = mark_of(context, 0);
    let traces = vec![Trace::Service { service: service.clone(), mark: mark.clone(), stale: false }];
    let hold = Hold::Unit { service, action: effect.action, back_within: effect.back_within, mark };
    Ok(Prepared { hold, traces })
}

/// As the node's policy defines it, and as this host can control it.
pub fn find(name: &str, context: &Context) -> Result<Service, Refusal> {
    let Some(service) = context.services.iter().find(|service| service.name == name) else {
        return Err(Refusal(format!("no service `{name}` is defined in this node's policy")));
    };
    service.control.possible().map_err(|why| Refusal(format!("the service {name}: {why}")))?;
    Ok(service.clone())
}

pub fn hold(
    service: &Service,
    action: UnitAction,
    back_within: Option<Span>,
    mark: &Path,
    tether: &mut Tether,
) -> anyhow::Result<Outcome> {
    let began_us = boottime::now_us();
    mark::make(mark, Phase::Stopping)?;
    while status(service, mark).map_err(anyhow::Error::msg)? != Status::Down {
        if since(began_us) > service.within() {
            mark::turn(mark, Phase::Down)?;
            anyhow::bail!("the service {} did not stop within {} ms", service.name, service.within_ms);
        }
        if mark::read(mark)? != Some(Phase::Stopping) {
            anyhow::bail!("the service {} could not be stopped: its stop command failed", service.name);
        }
        starter::work(service, mark, Phase::Stopping)?;
        if tether.wait(Some(LOOK), None) == Wake::Release {
            // Whoever undoes goes on from the mark.
            return Ok(Outcome::default());
        }
    }
    mark::turn(mark, Phase::Down)?;
    let (down_us, stopping) = (boottime::now_us(), since(began_us));
    match action {
        UnitAction::Stop => Ok(stay_down(service, mark, stopping, down_us, tether)),
        UnitAction::Restart => come_back(service, mark, stopping, down_us, back_within, tether),
    }
}

fn stay_down(service: &Service, mark: &Path, stopping: Duration, down_us: u64, tether: &mut Tether) -> Outcome {
    let mut numbers = BTreeMap::from([("stop_ms".to_owned(), milliseconds(stopping))]);
    let after = format!("stopped, {:.0} ms after it was told to", milliseconds(stopping));
    let evidence = |after: String, bites, numbers: &BTreeMap<String, f64>| {
        vec![said(service, after, Some(bites), numbers.clone())]
    };
    tether.active(evidence(after, true, &numbers));
    // Somebody else may bring it back: then the fault ended before its time, and must not be taken for more than it was.
    let mut back = None;
    while tether.wait(Some(WATCH), None) != Wake::Release {
        if back.is_none() && status(service, mark) == Ok(Status::Up) {
            back = Some(since(down_us));
        }
    }
    let down = back.unwrap_or_else(|| since(down_us));
    numbers.insert("down_ms".to_owned(), milliseconds(down));
    let after = match back {
        Some(_) => format!("came back by other hands after {:.0} ms", milliseconds(down)),
        None => format!("was down for {:.0} ms", milliseconds(down)),
    };
    Outcome { evidence: evidence(after, true, &numbers), ..Outcome::default() }
}

fn come_back(
    service: &Service,
    mark: &Path,
    stopping: Duration,
    down_us: u64,
    back_within: Option<Span>,
    tether: &mut Tether,
) -> anyhow::Result<Outcome> {
    let mut numbers = BTreeMap::from([("stop_ms".to_owned(), milliseconds(stopping))]);
    while phase(service, mark)?.is_some() {
        if tether.wait(Some(LOOK), None) == Wake::Release {
            let unmet = Some(format!("the service {} was not back when its time was over", service.name));
            return Ok(Outcome { unmet: back_within.and(unmet), ..Outcome::default() });
        }
        anyhow::ensure!(since(down_us) < service.within(), "the service {} did not start again in time", service.name);
    }
    let down = since(down_us);
    numbers.insert("down_ms".to_owned(), milliseconds(down));
    let after = format!("stopped, and runs again after {:.0} ms", milliseconds(down));
    tether.active(vec![said(service, after, Some(true), numbers)]);
    while tether.wait(None, None) != Wake::Release {}
    let late = back_within.filter(|within| down > within.0);
    let unmet = late.map(|within| {
        format!("the service {} was back after {:.0} ms and not within {within}", service.name, milliseconds(down))
    });
    Ok(Outcome { unmet, ..Outcome::default() })
}

fn said(service: &Service, after: String, bites: Option<bool>, numbers: BTreeMap<String, f64>) -> Evidence {
    Evidence { what: format!("service {}", service.name), before: "runs".to_owned(), after, bites, numbers }
}

fn since(us: u64) -> Duration {
    Duration::from_micros(boottime::now_us().saturating_sub(us))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Asked by whoever may run its command: marks are in the agent's state directory.
fn status(service: &Service, mark: &Path) -> Result<Status, String> {
    starter::status(service, mark.parent().unwrap_or(mark))
}

/// One step towards a service that runs, if its mark is there; never waits longer than a status may take.
///
/// # Errors
/// The mark cannot be read or written, or the status cannot be told.
pub fn advance(service: &Service, mark: &Path) -> anyhow::Result<()> {
    phase(service, mark).map(drop)
}

/// [`advance`], and where the service is now. None: it runs again.
fn phase(service: &Service, mark: &Path) -> anyhow::Result<Option<Phase>> {
    let Some(now) = mark::read(mark)? else { return Ok(None) };
    let status = status(service, mark).map_err(anyhow::Error::msg)?;
    match (now, status) {
        (Phase::Stopping, Status::Down) => mark::turn(mark, Phase::Down)?,
        (Phase::Stopping, _) => starter::work(service, mark, Phase::Stopping)?,
        (Phase::Down, Status::Up) => mark::remove(mark)?,
        (Phase::Down, _) => starter::work(service, mark, Phase::Down)?,
    }
    mark::read(mark)
}

/// `stale`: the boot that the mark is of is over, and with it what it speaks of.
pub fn remove(service: &Service, mark: &Path, stale: bool) -> anyhow::Result<()> {
    if stale { mark::remove(mark) } else { advance(service, mark) }
}

pub fn observe(service: &Service, mark: &Path) -> Presence {
    match mark::read(mark) {
        Ok(None) => Presence::Absent,
        Ok(Some(Phase::Stopping)) => Presence::Present(format!("the service {} is being stopped", service.name)),
        Ok(Some(Phase::Down)) => Presence::Present(format!("the service {} does not run yet", service.name)),
        Err(error) => Presence::Unknown(format!("{}: {error:#}", mark.display())),
    }
}

/// Marks services as to be started, in this order; [`advance`] does it.
pub fn to_be_started(marks: &[(Service, PathBuf)]) -> anyhow::Result<()> {
    marks.iter().try_for_each(|(_, mark)| mark::make(mark, Phase::Down))
}
