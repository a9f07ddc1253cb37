//! The life of one injection, from `Go` to the observed end. One task; everything it hears comes through one channel.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use squall_experiments::run_event::{Evidence, InjectionReport, InjectionState, RevertCause};
use tokio::sync::mpsc;

use super::effects::ProcessId;
use super::effects::tether::{FromHolder, Outcome, ToHolder};
use super::executor::Executor;
use super::journal::record::Intent;
use super::kernel::boottime::{self, Alarm};
use super::lease::Lease;
use super::spawn::{Holder, Orders, Says, Spawned};
use super::undo::{self, Undo};
use super::{crash, journal::record::Change, journal::record::Writer};

/// A released holder has this long, then it is killed.
const RELEASE: Duration = Duration::from_millis(500);
/// A killed process is gone after this, or the kernel is in trouble.
const KILLED: Duration = Duration::from_millis(500);
/// What a holder said before its end is read out of its pipe.
const LAST_WORDS: Duration = Duration::from_millis(20);

pub enum Event {
    /// The lease was extended (see the shared [`Lease`]).
    Renewed,
    End(RevertCause),
    Said(usize, FromHolder),
    /// This holder has ended and was reaped.
    Gone(usize),
}

/// Why the active life is over.
struct End {
    cause: Option<RevertCause>,
    /// It could not be applied.
    failed: Option<String>,
}

struct Held {
    process: ProcessId,
    orders: Option<Orders>,
    active: bool,
    gone: bool,
    outcome: Option<Outcome>,
}

pub struct Life {
    executor: Rc<Executor>,
    injection: String,
    lease: Rc<Cell<Lease>>,
    undo: Undo,
    held: Vec<Held>,
    events: mpsc::UnboundedReceiver<Event>,
    alarm: Alarm,
    evidence: Vec<Evidence>,
}

impl Life {
    /// Takes over holders that have already heard `Go`. `sender` is the other end of `events`.
    pub fn new(
        executor: Rc<Executor>,
        intent: &Intent,
        lease: Rc<Cell<Lease>>,
        holders: Vec<Holder>,
        sender: &mpsc::UnboundedSender<Event>,
        events: mpsc::UnboundedReceiver<Event>,
        alarm: Alarm,
    ) -> Life {
        let undo = Undo::of(intent, executor.boot_id());
        let mut held = Vec::new();
        for (index, holder) in holders.into_iter().enumerate() {
            let Holder { spawned, orders, says } = holder;
            let process = spawned.process;
            held.push(Held { process, orders: Some(orders), active: false, gone: false, outcome: None });
            tokio::task::spawn_local(listen(index, spawned, says, sender.clone()));
        }
        Life { executor, injection: intent.injection.clone(), lease, undo, held, events, alarm, evidence: Vec::new() }
    }

    /// Ends when nothing more can be done; its last act is to say the terminal state.
    pub async fn live(mut self) {
        let end = match self.become_active().await {
            Ok(()) => self.stay_active().await,
            Err(end) => end,
        };
        self.take_back(end).await;
    }

    /// All holders active, or the end: all or nothing.
    async fn become_active(&mut self) -> Result<(), End> {
        while !self.held.iter().all(|held| held.active) {
            if let Some(end) = self.next().await {
                return Err(end);
            }
        }
        let evidence = std::mem::take(&mut self.evidence);
        self.say(InjectionState::Active, InjectionReport { evidence, ..InjectionReport::default() });
        Ok(())
    }

    async fn stay_active(&mut self) -> End {
        loop {
            if let Some(end) = self.next().await {
                return end;
            }
        }
    }

    /// Hears one thing. Some: it is over.
    async fn next(&mut self) -> Option<End> {
        let over = |cause| Some(End { cause: Some(cause), failed: None });
        let deadline = self.lease.get().deadline_us();
        let event = tokio::select! {
            biased;
            event = self.events.recv() => event,
            rung = self.alarm.at(deadline) => match rung {
                // Renewed in the same instant: then it is not over.
                Ok(()) => return self.lease.get().over(boottime::now_us()).and_then(over),
                // Without a clock nothing may stay.
                Err(error) => {
                    tracing::error!(injection = self.injection, "no timer: {error}");
                    return over(RevertCause::Shutdown);
                }
            },
        };
        let ended_by_itself = || self.lease.get().over(boottime::now_us()).unwrap_or(RevertCause::HolderEnded);
        match event {
            None => over(RevertCause::Shutdown),
            Some(Event::End(cause)) => over(cause),
            Some(Event::Renewed) => {
                let order = ToHolder::Renew { deadline_us: self.lease.get().deadline_us() };
                for orders in self.held.iter().filter_map(|held| held.orders.as_ref()) {
                    if let Err(error) = orders.say(&order) {
                        tracing::warn!(injection = self.injection, "a holder did not take its renewal: {error}");
                    }
                }
                None
            }
            Some(Event::Said(index, FromHolder::Active { evidence })) => {
                self.held[index].active = true;
                self.evidence.extend(evidence);
                None
            }
            Some(Event::Said(_, FromHolder::Ready)) => None,
            Some(Event::Said(_, FromHolder::Failed { why })) => {
                // Refused by the kernel while it was applied, or lost later: the first counts as failed, the second as its end.
                let active = self.held.iter().all(|held| held.active);
                tracing::warn!(injection = self.injection, "a holder failed: {why}");
                if active { over(RevertCause::HolderEnded) } else { Some(End { cause: None, failed: Some(why) }) }
            }
            Some(Event::Said(index, FromHolder::Released { outcome })) => {
                let cause = ended_by_itself();
                self.held[index].outcome = Some(outcome);
                over(cause)
            }
            Some(Event::Gone(index)) => {
                let cause = ended_by_itself();
                self.held[index].gone = true;
                if self.held[index].active || cause != RevertCause::HolderEnded {
                    return over(cause);
                }
                Some(End { cause: None, failed: Some("its holder ended before it was active".to_owned()) })
            }
        }
    }

    /// Release, kill, remove, observe: whatever the cause, the same way.
    async fn take_back(mut self, end: End) {
        let report = InjectionReport { cause: end.cause, ..InjectionReport::default() };
        self.say(InjectionState::Reverting, report.clone());
        crash::point("release-sending");
        for orders in self.held.iter_mut().filter_map(|held| held.orders.take()) {
            // Dropped after it: end of file says the same to a holder whose pipe is full.
            let _ = orders.say(&ToHolder::Release);
        }
        crash::point("release-sent");
        self.wait_gone(RELEASE).await;
        if self.held.iter().any(|held| !held.gone) {
            for held in self.held.iter().filter(|held| !held.gone) {
                tracing::warn!(injection = self.injection, pid = held.process.pid, "a holder did not release: killed");
                undo::end_holder(held.process, Duration::ZERO);
            }
            self.wait_gone(KILLED).await;
        }
        let until = boottime::now_us() + self.undo.patience().as_micros() as u64;
        let mut pass = 0;
        while !self.pass().await && boottime::now_us() < until {
            tokio::time::sleep(undo::pause(pass)).await;
            pass += 1;
        }
        let ended = self.undo.ended();
        let (state, detail) = match (ended.state, end.failed) {
            (InjectionState::RevertUnconfirmed, why) => {
                (ended.state, [why.unwrap_or_default(), ended.detail].join(" ").trim().to_owned())
            }
            (_, Some(why)) => (InjectionState::Failed, why),
            (state, None) => (state, ended.detail),
        };
        let outcomes = || self.held.iter().filter_map(|held| held.outcome.as_ref());
        let evidence = outcomes().flat_map(|outcome| outcome.evidence.clone()).collect();
        let unmet = outcomes().find_map(|outcome| outcome.unmet.clone());
        let load = outcomes().map(|outcome| &outcome.load).find(|load| !load.is_empty()).cloned().unwrap_or_default();
        self.say(state, InjectionReport { detail, evidence, unmet, load, ..report });
        self.executor.over(&self.injection);
    }

    async fn pass(&mut self) -> bool {
        self.undo = std::mem::take(&mut self.undo).pass_beside().await;
        self.undo.is_over()
    }

    async fn wait_gone(&mut self, patience: Duration) {
        let until = boottime::now_us() + patience.as_micros() as u64;
        while self.held.iter().any(|held| !held.gone) {
            let event = tokio::select! {
                biased;
                event = self.events.recv() => event,
                _ = self.alarm.at(until) => return,
            };
            match event {
                Some(Event::Gone(index)) => self.held[index].gone = true,
                Some(Event::Said(index, FromHolder::Released { outcome })) => self.held[index].outcome = Some(outcome),
                // Said before the end was known. A second end changes nothing.
                Some(_) => {}
                None => return,
            }
        }
    }

    fn say(&self, state: InjectionState, mut report: InjectionReport) {
        report.agent_us = boottime::now_us().saturating_sub(self.lease.get().received_us);
        let change = Change {
            injection: self.injection.clone(),
            state,
            cause: report.cause,
            detail: report.detail.clone(),
            by: Writer::Agent,
            at_us: boottime::now_us(),
        };
        self.executor.changed(change, report);
    }
}

/// Passes on what a holder says until it has ended.
async fn listen(index: usize, mut spawned: Spawned, mut says: Says, events: mpsc::UnboundedSender<Event>) {
    loop {
        tokio::select! {
            biased;
            said = says.next() => match said {
                Some(said) => drop(events.send(Event::Said(index, said))),
                None => break,
            },
            () = spawned.ended() => break,
        }
    }
    spawned.ended().await;
    // Not to end of file: a child of the holder may still have the other end.
    while let Ok(Some(said)) = tokio::time::timeout(LAST_WORDS, says.next()).await {
        let _ = events.send(Event::Said(index, said));
    }
    let _ = events.send(Event::Gone(index));
}
