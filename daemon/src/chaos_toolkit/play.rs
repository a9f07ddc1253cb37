//! The order of a run: hypothesis, method with the hypothesis beside it, hypothesis, rollbacks.

use std::collections::BTreeSet;
use std::pin::pin;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::Value;
use squall_experiments::chaos_toolkit::Part;
use squall_experiments::chaos_toolkit::controls::{Level, Scope};
use squall_experiments::chaos_toolkit::job::Event;
use squall_experiments::chaos_toolkit::journal::{ActivityStatus, Status};
use tokio_util::sync::CancellationToken;

use super::activity::{Player, Turn};
use super::python::{Lane, MAIN};
use super::rollbacks::Kept;

type Background<'a> = FuturesUnordered<LocalBoxFuture<'a, ()>>;

impl Player {
    /// All but the rollbacks. `stop`: what is under way is cut short, and nothing more begins.
    pub async fn play(&self, kept: &mut Kept, stop: &CancellationToken) {
        let strategy = self.job.strategy;
        let looks = !self.experiment().activities(Part::Hypothesis).is_empty();
        if looks && strategy.before() {
            self.phase("Hypothesis, before the method");
            let Some(state) = self.look(MAIN, stop).await else { return };
            if !self.journal.borrow_mut().looked_before(state) {
                return;
            }
        }
        if stop.is_cancelled() {
            self.journal.borrow_mut().status = Some(Status::Interrupted);
            return;
        }
        // From here on something may have to be undone: that it will be comes first.
        if let Err(error) = kept.keep(self, stop).await {
            self.trouble(format!("the rollbacks cannot be kept, so nothing was begun: {error:#}"));
            self.journal.borrow_mut().status = Some(Status::Aborted);
            return;
        }
        self.journal.borrow_mut().begun = true;
        let over = CancellationToken::new();
        let watch = async {
            if looks && strategy.during() {
                self.watch(&over, stop).await;
            }
        };
        let method = async {
            self.method(stop).await;
            over.cancel();
        };
        tokio::join!(biased; watch, method);
        let cut_short = matches!(self.journal.borrow().status, Some(Status::Interrupted | Status::Aborted));
        if looks && strategy.after() && !cut_short {
            self.phase("Hypothesis, after the method");
            if let Some(state) = self.look(MAIN, stop).await {
                self.journal.borrow_mut().looked_after(state);
            }
        }
    }

    pub fn phase(&self, title: &str) {
        self.say(&Event::Phase { title: title.to_owned() });
    }

    /// The hypothesis again and again, until the method is over.
    async fn watch(&self, over: &CancellationToken, stop: &CancellationToken) {
        let lane = self.new_lane();
        while !over.is_cancelled() && !self.journal.borrow().stopped() {
            let Some(state) = self.look(lane, stop).await else { return };
            if !self.journal.borrow_mut().looked_during(state, self.job.fail_fast) {
                return;
            }
            tokio::select! {
                () = over.cancelled() => {}
                () = stop.cancelled() => {}
                () = tokio::time::sleep(super::seconds(self.job.frequency)) => {}
            }
        }
    }

    async fn method(&self, stop: &CancellationToken) {
        self.phase("Method");
        let before = (Level::Method, Scope::Before);
        if self.around_part(before, "", MAIN, &mut Value::Null, stop).await.is_err() {
            let _ = self.around_part((Level::Method, Scope::After), "", MAIN, &mut Value::Null, stop).await;
            return self.stopped(stop);
        }
        let mut background = Background::new();
        for index in 0.. {
            let experiment = self.experiment();
            let Some(activity) = experiment.method.get(index) else { break };
            let turn = |lane| Turn { part: Part::Method, index, lane };
            if activity.background {
                background.push(self.perform(turn(self.new_lane()), stop).map(drop).boxed_local());
                beside(&mut background, tokio::task::yield_now()).await;
            } else {
                let run = beside(&mut background, self.perform(turn(MAIN), stop)).await;
                let broken = run.is_some_and(|run| run.status == Some(ActivityStatus::Aborted)) && !stop.is_cancelled();
                if broken {
                    self.trouble(format!("`{}` could not be done: the method ends here", activity.name));
                    self.journal.borrow_mut().status = Some(Status::Aborted);
                }
            }
            if stop.is_cancelled() || self.journal.borrow().stopped() {
                break;
            }
        }
        while background.next().await.is_some() {}
        self.stopped(stop);
        let run = self.journal.borrow().run.clone();
        let run = self.after_part(Level::Method, "", MAIN, run, stop).await;
        self.journal.borrow_mut().run = run;
    }

    /// The user's word is the last.
    fn stopped(&self, stop: &CancellationToken) {
        if stop.is_cancelled() {
            self.journal.borrow_mut().status = Some(Status::Interrupted);
        }
    }

    /// All rollbacks but those that are done; each that worked is `noted`. One that fails keeps none of the others from being played, and
    /// nor does a control.
    pub async fn roll_back(&self, done: &BTreeSet<usize>, noted: impl Fn(usize)) {
        if !self.experiment().rollbacks.is_empty() {
            self.phase("Rollbacks");
        }
        self.controls.undoing.set(true);
        // Nothing cuts an undo short.
        let never = CancellationToken::new();
        let before = (Level::Rollback, Scope::Before);
        let _ = self.around_part(before, "", MAIN, &mut Value::Null, &never).await;
        let mut background = Background::new();
        let one = |index: usize, name: String, lane: Lane| {
            let (never, noted) = (&never, &noted);
            async move {
                match self.perform(Turn { part: Part::Rollbacks, index, lane }, never).await {
                    Some(run) if run.worked() => noted(index),
                    _ => self.trouble(format!("the rollback `{name}` did not work")),
                }
            }
        };
        for index in (0..).filter(|index| !done.contains(index)) {
            let experiment = self.experiment();
            let Some(activity) = experiment.rollbacks.get(index) else { break };
            let name = activity.name.clone();
            if activity.background {
                background.push(one(index, name, self.new_lane()).boxed_local());
                beside(&mut background, tokio::task::yield_now()).await;
            } else {
                beside(&mut background, one(index, name, MAIN)).await;
            }
        }
        while background.next().await.is_some() {}
        let rollbacks = self.journal.borrow().rollbacks.clone();
        let rollbacks = self.after_part(Level::Rollback, "", MAIN, rollbacks, &never).await;
        self.journal.borrow_mut().rollbacks = rollbacks;
    }
}

/// What is in the background goes on while `main` does.
async fn beside<T>(background: &mut Background<'_>, main: impl Future<Output = T>) -> T {
    let mut main = pin!(main);
    loop {
        tokio::select! {
            biased;
            done = &mut main => return done,
            Some(()) = background.next(), if !background.is_empty() => {}
        }
    }
}
