//! A fault that is active, and its end.

use std::collections::BTreeMap;
use std::time::Duration;

use squall_experiments::api::{Created, Submit};
use squall_experiments::report::{InjectionRow, Report};
use squall_experiments::run_event::{Event, InjectionState, RevertCause, RunEvent, Verdict};

use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::fault::Fault;
use crate::news::{News, Reader, is_last};
use crate::session::{Squall, halt, rest, told};

/// Active until [`Injection::revert`], or until it is dropped. A drop undoes it, too, and waits until that was observed: if it could not be,
/// it panics (or, while the test panics already, says so on the standard error).
#[must_use = "it ends when it is dropped, which is at once"]
pub struct Injection<'squall> {
    squall: &'squall Squall,
    fault: Fault,
    run: String,
    /// Up to the moment at which it was active. None: it is reverted.
    seen: Option<Vec<RunEvent>>,
}

/// It was observed, on every node, that nothing of the fault is left.
#[derive(Debug, Clone, PartialEq)]
pub struct Reverted {
    /// One for each node.
    pub injections: Vec<InjectionRow>,
}

impl Reverted {
    /// True: it was measured on every node that it took effect. False: on one it did not. None: it could not be told.
    pub fn bites(&self) -> Option<bool> {
        if self.injections.iter().any(|row| row.bites == Some(false)) {
            return Some(false);
        }
        let all = !self.injections.is_empty() && self.injections.iter().all(|row| row.bites == Some(true));
        all.then_some(true)
    }

    /// A fault that did not take effect proves nothing: panics unless it was measured that it did.
    #[track_caller]
    pub fn assert_bites(&self) {
        let measured = || {
            let rows = self.injections.iter();
            rows.flat_map(|row| row.evidence.iter().chain(&row.evidence_at_end).map(move |of| (row, of)))
                .map(|(row, of)| format!("\n    {}: {}: {} before, {} after", row.node, of.what, of.before, of.after))
                .collect::<String>()
        };
        assert!(self.bites() == Some(true), "nothing showed that the fault took effect{}", measured());
    }

    /// How long it was active, where that was longest.
    pub fn active(&self) -> Duration {
        Duration::from_micros(self.injections.iter().filter_map(|row| row.delays.active_us).max().unwrap_or(0))
    }
}

pub(crate) struct Begun {
    run: String,
    seen: Vec<RunEvent>,
}

/// Ok: active everywhere. Err: it is undone, or never was.
pub(crate) async fn begin(client: &Client, submit: &Submit) -> Result<Begun, Failure> {
    let created: Created = client.post("/v1/runs", submit).await?;
    let run = created.run;
    let mut reader = Reader::start(client.clone(), run.clone(), 0);
    let mut seen = Vec::new();
    match until_active(&mut reader, &mut seen).await {
        Ok(true) => Ok(Begun { run, seen }),
        Ok(false) => Err(why_not(&Report::of(&run, &seen))),
        Err(failure) => {
            // Nobody will hold it; what this does not reach, its lease ends.
            let _ = halt(client, &run).await;
            Err(failure)
        }
    }
}

/// False: the run ended before.
async fn until_active(reader: &mut Reader, seen: &mut Vec<RunEvent>) -> Result<bool, Failure> {
    let mut states: BTreeMap<String, InjectionState> = BTreeMap::new();
    while let Some(news) = reader.next().await {
        let event = match news {
            News::Event(event) => *event,
            News::GaveUp(failure) => return Err(failure),
            News::Lost(_) | News::Back => continue,
        };
        match &event.event {
            Event::Ordered { injection, .. } => drop(states.insert(injection.clone(), InjectionState::Ordered)),
            Event::Changed { injection, state, .. } => drop(states.insert(injection.clone(), *state)),
            _ => {}
        }
        let last = is_last(&event);
        seen.push(event);
        // A signal may be over before it is heard of.
        let was_active = |state: &InjectionState| {
            use InjectionState::{Active, GoneWithTarget, Reverted, Reverting};
            matches!(state, Active | Reverting | Reverted | GoneWithTarget)
        };
        if !states.is_empty() && states.values().all(was_active) {
            return Ok(true);
        }
        if last {
            return Ok(false);
        }
    }
    Err(Failure::unreachable("the event stream ended before the fault was active", ""))
}

fn why_not(report: &Report) -> Failure {
    let exit = match report.verdict {
        Some(Verdict::Refused) => Exit::Refused,
        Some(verdict) => Exit::Run(verdict),
        None => Exit::Inconclusive,
    };
    Failure::new(exit, format!("the fault did not become active: {}", report.sentences().join("\n")), "")
}

impl<'squall> Injection<'squall> {
    pub(crate) fn of(squall: &'squall Squall, fault: Fault, begun: Begun) -> Self {
        Injection { squall, fault, run: begun.run, seen: Some(begun.seen) }
    }

    /// Of the run behind it, as `squall report` takes it.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Ends it; returns once its absence was observed on every node.
    ///
    /// # Errors
    /// [`Exit::Dirty`]: that could not be observed, and something may be left. [`Exit::Inconclusive`]: it is undone, but had ended before (its
    /// time was over, its agent was lost), so that what was asserted since then was asserted without it.
    pub fn revert(mut self) -> Result<Reverted, Failure> {
        self.end()
    }

    fn end(&mut self) -> Result<Reverted, Failure> {
        let Some(mut events) = self.seen.take() else { return Ok(Reverted { injections: Vec::new() }) };
        let (client, run) = (self.squall.client().clone(), self.run.clone());
        let events = self.squall.wait(async move {
            if events.last().is_some_and(is_last) {
                return Ok(events);
            }
            halt(&client, &run).await?;
            let next = events.last().map_or(0, |last| last.seq + 1);
            events.extend(rest(&mut Reader::start(client, run, next)).await?);
            Ok(events)
        });
        // Whether it is undone nobody has seen.
        let events = events.map_err(|failure| Failure::new(Exit::Dirty, failure.message, failure.hint))?;
        let report = Report::of(&self.run, &events);
        judged(self.fault.name(), &report)
    }
}

fn judged(fault: &str, report: &Report) -> Result<Reverted, Failure> {
    let is_left = |row: &&InjectionRow| row.state.is_some_and(|state| !state.is_clean());
    let left: Vec<String> = report
        .injections
        .iter()
        .filter(is_left)
        .map(|row| format!("{fault} on {} is not seen to be undone: {}", row.node, row.detail))
        .collect();
    if !left.is_empty() || report.verdict == Some(Verdict::Dirty) {
        let hint = "`squall sweep` on that host undoes what is left, and says what it found";
        return Err(Failure::new(Exit::Dirty, left.join("\n"), hint));
    }
    let early = report.injections.iter().find(|row| {
        use RevertCause::{Deadline, Lease, Recovery, Shutdown};
        matches!(row.cause, Some(Deadline | Lease | Recovery | Shutdown))
    });
    if let Some(row) = early {
        let cause = match row.cause {
            Some(RevertCause::Deadline) => "its time was over",
            Some(RevertCause::Lease) => "its lease was not renewed",
            _ => "its agent ended",
        };
        let what = format!("{fault} on {} had ended before it was reverted: {cause}", row.node);
        return Err(Failure::new(Exit::Inconclusive, what, "what was asserted since then was asserted without it"));
    }
    Ok(Reverted { injections: report.injections.clone() })
}

impl Drop for Injection<'_> {
    fn drop(&mut self) {
        match self.end() {
            // It is undone, and nobody asked for more.
            Err(failure) if failure.exit == Exit::Inconclusive => eprintln!("squall: {failure}"),
            ended => told(ended.map(drop)),
        }
    }
}
