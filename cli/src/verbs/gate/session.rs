//! The runs of a gate, one after the other: each experiment once, then again as often as it is to be repeated.

use std::time::{Duration, Instant};

use squall_experiments::api::{Created, Planned};
use squall_experiments::gate::Ran;
use squall_experiments::probe::Phase;
use squall_experiments::report::Report;
use squall_experiments::run_event::Verdict;

use super::files::Item;
use super::outputs::Outputs;
use super::{privileges, spoken};
use crate::args::{Global, Output};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::follow::{Ended, OnInterrupt, follow};
use crate::interrupts::{Interrupts, Why};
use crate::{paint, progress};

/// Before the steady state is looked for again.
const AGAIN: Duration = Duration::from_secs(1);

pub struct Session<'a> {
    pub client: Client,
    pub interrupts: Interrupts,
    pub settle: Duration,
    pub repeat: u32,
    pub global: &'a Global,
    pub outputs: &'a Outputs,
    /// Nobody saw the end of the last run.
    pub left: bool,
}

enum One {
    Ran(Box<Report>, u32),
    /// The coordinator refused it.
    Refused(String),
    Stopped,
}

impl Session<'_> {
    /// # Errors
    /// The coordinator cannot be asked, or died. What was found until then is in `items`.
    pub async fn all(&mut self, items: &mut [Item]) -> Result<(), Failure> {
        if !self.permitted(items).await? {
            return Ok(());
        }
        let count = items.len();
        for round in 1..=self.repeat {
            for (index, item) in items.iter_mut().enumerate() {
                self.interrupts.look().await;
                if let Some(why) = self.stops(item) {
                    self.not_run(item, round, &why);
                    continue;
                }
                let title = format!("{} ({} of {count}), run {round} of {}", item.tried.name, index + 1, self.repeat);
                self.say(&title);
                let began = Instant::now();
                match self.one(item).await? {
                    One::Ran(report, starts) => self.ran(item, &report, starts, began.elapsed(), round),
                    One::Refused(why) => {
                        item.tried.verdict = Verdict::Refused;
                        item.tried.not_run = Some(why);
                    }
                    One::Stopped => {}
                }
                if let Some(why) = self.interrupts.heard() {
                    self.cut_short(item, round, why);
                }
            }
        }
        Ok(())
    }

    /// Asks for the plan of each, before anything is done. False: one is refused, and nothing is run.
    async fn permitted(&mut self, items: &mut [Item]) -> Result<bool, Failure> {
        let mut refused = false;
        let mut missing = None;
        for item in items.iter_mut() {
            let planned: Result<Planned, Failure> = self.client.post("/v1/plans", &item.submit).await;
            let reasons = match planned {
                Ok(planned) => {
                    item.takes = planned.plan.length().0;
                    let refusals = planned.checks.iter().flat_map(|checked| {
                        checked.refusals.iter().map(|why| format!("{} refuses: {why}", checked.node))
                    });
                    refusals.collect::<Vec<_>>().join("; ")
                }
                Err(failure) if failure.exit == Exit::Refused => failure.message,
                Err(failure) => return Err(failure),
            };
            if reasons.is_empty() {
                continue;
            }
            refused = true;
            item.tried.verdict = Verdict::Refused;
            item.tried.not_run = Some(reasons);
            let missing = missing.get_or_insert_with(privileges::missing);
            item.tried.notes.extend(privileges::needed(&item.experiment, missing));
        }
        if refused {
            for item in items.iter_mut().filter(|item| item.tried.not_run.is_none()) {
                item.tried.not_run = Some("nothing was run, because another experiment is refused".to_owned());
            }
        }
        Ok(!refused)
    }

    /// Why no run of it begins any more.
    fn stops(&self, item: &Item) -> Option<String> {
        if item.tried.verdict == Verdict::Refused {
            return item.tried.not_run.clone();
        }
        match self.interrupts.heard() {
            Some(Why::Signal) => Some("the gate was interrupted".to_owned()),
            Some(Why::Time) => Some("the budget was spent".to_owned()),
            None => {
                let left = self.interrupts.remaining()?;
                let takes = spoken(item.takes);
                (left < item.takes).then(|| format!("of the budget {} are left, and a run takes {takes}", spoken(left)))
            }
        }
    }

    /// One run at least there must be of each; that there are fewer repeats than wished for is a remark.
    fn not_run(&self, item: &mut Item, round: u32, why: &str) {
        let tried = &mut item.tried;
        if tried.runs.is_empty() {
            tried.not_run.get_or_insert_with(|| format!("not run: {why}"));
        } else if !tried.notes.iter().any(|note| note.starts_with("fewer runs")) {
            tried.notes.push(format!("fewer runs than {}, {}: {why}", self.repeat, round - 1));
        }
    }

    /// What the end of the budget ended is no run; what a signal ended is one that was aborted.
    fn cut_short(&self, item: &mut Item, round: u32, why: Why) {
        let last = item.tried.runs.last().is_some_and(|ran| ran.verdict == Verdict::Aborted);
        if why == Why::Time && last && item.tried.runs.len() == round as usize {
            item.tried.runs.pop();
            self.not_run(item, round, "the budget was spent in the middle of it, and it was undone");
        }
    }

    fn ran(&self, item: &mut Item, report: &Report, starts: u32, took: Duration, round: u32) {
        let mut ran = Ran::of(report, starts);
        match self.outputs.page(report, &item.tried.name, round) {
            Ok(page) => ran.page = page,
            Err(failure) => paint::complain(&failure),
        }
        if self.global.output == Output::Text {
            let (word, _) = squall_experiments::report::words::verdict(ran.verdict);
            let style = paint::of_verdict(Some(ran.verdict));
            paint::say(format!("{}  {}", paint::painted(style, &word.to_uppercase()), ran.why.trim()));
        }
        item.takes = took;
        item.tried.runs.push(ran);
    }

    fn say(&self, title: &str) {
        if self.global.output == Output::Text {
            paint::say(format!("\n{}", paint::painted(paint::BOLD, title)));
        }
    }

    /// A run that found no steady state to start from has done nothing: it is started again until it finds one, or time is up.
    async fn one(&mut self, item: &Item) -> Result<One, Failure> {
        let began = Instant::now();
        let mut starts = 0;
        loop {
            starts += 1;
            let created: Created = match self.client.post("/v1/runs", &item.submit).await {
                Ok(created) => created,
                Err(failure) if failure.exit == Exit::Refused => return Ok(One::Refused(failure.message)),
                Err(failure) => return Err(failure),
            };
            let mut progress = progress::of(self.global.output);
            let followed =
                follow(&self.client, &created.run, &mut *progress, OnInterrupt::Halt, &mut self.interrupts).await?;
            let events = match followed {
                Ended::Finished(events) => events,
                Ended::Left => {
                    self.left = true;
                    return Ok(One::Stopped);
                }
            };
            let report = Report::of(&created.run, &events);
            let again = unsettled(&report) && began.elapsed() < self.settle && self.interrupts.heard().is_none();
            if !again {
                return Ok(One::Ran(Box::new(report), starts));
            }
            progress.say("the steady state is not there yet, trying again");
            tokio::select! {
                () = self.interrupts.next() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
            if self.interrupts.heard().is_some() {
                return Ok(One::Ran(Box::new(report), starts));
            }
        }
    }
}

/// It ended before its method, because its steady state was not there, and nothing was ordered.
fn unsettled(report: &Report) -> bool {
    let phase = |wanted: Phase| report.phases.iter().any(|span| span.phase == wanted);
    report.verdict == Some(Verdict::Inconclusive)
        && phase(Phase::Before)
        && !phase(Phase::During)
        && report.injections.iter().all(|row| row.state.is_none())
}
