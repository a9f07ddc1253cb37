//! The order of a run: hypothesis, method with the hypothesis beside it, hypothesis, rollbacks.

use std::collections::BTreeSet;
use std::pin::pin;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use squall_experiments::chaos_toolkit::Activity;
use squall_experiments::chaos_toolkit::job::Event;
use squall_experiments::chaos_toolkit::journal::{ActivityStatus, Status};
use tokio_util::sync::CancellationToken;

use super::activity::{List, Player};
use super::rollbacks::Kept;

type Background<'a> = FuturesUnordered<LocalBoxFuture<'a, ()>>;

impl Player {
    /// All but the rollbacks. `stop`: what is under way is cut short, and nothing more begins.
    pub async fn play(&self, kept: &mut Kept, stop: &CancellationToken) {
        let strategy = self.job.strategy;
        let looks = self.experiment.hypothesis.as_ref().is_some_and(|hypothesis| !hypothesis.probes.is_empty());
        if looks && strategy.before() {
            self.phase("Hypothesis, before the method");
            let Some(state) = self.look(stop).await else { return };
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
            if let Some(state) = self.look(stop).await {
                self.journal.borrow_mut().looked_after(state);
            }
        }
    }

    pub fn phase(&self, title: &str) {
        self.say(&Event::Phase { title: title.to_owned() });
    }

    /// The hypothesis again and again, until the method is over.
    async fn watch(&self, over: &CancellationToken, stop: &CancellationToken) {
        while !over.is_cancelled() && !self.journal.borrow().stopped() {
            let Some(state) = self.look(stop).await else { return };
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
        let mut background = Background::new();
        for activity in &self.experiment.method {
            if activity.background {
                background.push(self.perform(activity, stop, Some(List::Method)).map(drop).boxed_local());
                beside(&mut background, tokio::task::yield_now()).await;
            } else {
                let run = beside(&mut background, self.perform(activity, stop, Some(List::Method))).await;
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
        if stop.is_cancelled() {
            self.journal.borrow_mut().status = Some(Status::Interrupted);
        }
    }

    /// All rollbacks but those that are done; each that worked is `noted`. One that fails keeps none of the others from being played.
    pub async fn roll_back(&self, done: &BTreeSet<usize>, noted: impl Fn(usize)) {
        self.phase("Rollbacks");
        // Nothing cuts an undo short.
        let never = CancellationToken::new();
        let mut background = Background::new();
        let one = |index: usize, activity: &'_ Activity| {
            let (never, noted) = (&never, &noted);
            let activity = activity.clone();
            async move {
                match self.perform(&activity, never, Some(List::Rollbacks)).await {
                    Some(run) if run.worked() => noted(index),
                    _ => self.trouble(format!("the rollback `{}` did not work", activity.name)),
                }
            }
        };
        for (index, activity) in self.experiment.rollbacks.iter().enumerate().filter(|(index, _)| !done.contains(index))
        {
            if activity.background {
                background.push(one(index, activity).boxed_local());
                beside(&mut background, tokio::task::yield_now()).await;
            } else {
                beside(&mut background, one(index, activity)).await;
            }
        }
        while background.next().await.is_some() {}
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
