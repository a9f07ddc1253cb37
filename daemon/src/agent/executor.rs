//! Carries out orders: policy, prepare, journal, holders. What is refused is refused before anything has changed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use squall_experiments::run_event::{InjectionReport, InjectionState, RevertCause};
use squall_experiments::wire::{OpenInjection, Order, ToAgent, ToCoordinator};
use tokio::sync::{Notify, mpsc};

use super::audit::Trail;
use super::conflict::Occupied;
use super::effects::tether::ToHolder;
use super::guarding::Guarding;
use super::injection::{Event, Life};
use super::journal::Journal;
use super::journal::record::{Change, Held, Intent, Record, Writer};
use super::kernel::boottime::{self, Alarm};
use super::lease::Lease;
use super::outbox::Outbox;
use super::policy::{self, Policy};
use super::spawn::Holder;
use super::{Settings, crash, processes, undo};

pub struct Executor {
    pub(super) settings: Settings,
    boot_id: String,
    pub(super) journal: RefCell<Journal>,
    pub outbox: Outbox,
    pub audit: Trail,
    pub guarding: Guarding,
    /// The other end of the live connection, spared by network effects.
    pub coordinator: Cell<Option<SocketAddr>>,
    pub(super) live: RefCell<BTreeMap<String, Live>>,
    stopping: Cell<bool>,
    pub(super) idle: Notify,
    /// One more injection is over; perhaps not confirmed.
    pub(super) unconfirmed_more: Notify,
}

/// An injection that is not over.
pub(super) struct Live {
    run: String,
    lease: Rc<Cell<Lease>>,
    events: mpsc::UnboundedSender<Event>,
    pub(super) occupied: Occupied,
    /// Last.
    said: (InjectionState, InjectionReport),
}

impl Executor {
    /// `journal` after recovery.
    pub fn new(settings: Settings, boot_id: String, journal: Journal, audit: Trail) -> Rc<Executor> {
        let guarding = Guarding::new(settings.program.clone(), settings.state_dir.clone());
        let executor = Executor {
            settings,
            boot_id,
            journal: RefCell::new(journal),
            outbox: Outbox::default(),
            audit,
            guarding,
            coordinator: Cell::new(None),
            live: RefCell::default(),
            stopping: Cell::new(false),
            idle: Notify::new(),
            unconfirmed_more: Notify::new(),
        };
        executor.say_untold();
        Rc::new(executor)
    }

    /// The highest that this agent has followed.
    pub fn epoch(&self) -> u64 {
        self.journal.borrow().book().epoch
    }

    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn policy(&self) -> &Policy {
        &self.settings.policy
    }

    /// What recovery or the guard ended while nobody could be told.
    fn say_untold(&self) {
        for (injection, entry) in &self.journal.borrow().book().entries {
            if entry.last.state.is_terminal() && !entry.told {
                let Change { cause, detail, by, .. } = entry.last.clone();
                let report = InjectionReport { cause, detail, ..InjectionReport::default() };
                self.audit.state_by(by, injection, entry.last.state, &report);
                self.outbox.say(ToCoordinator::Changed {
                    injection: injection.clone(),
                    state: entry.last.state,
                    report,
                });
            }
        }
    }

    /// One frame from the coordinator.
    pub fn hear(self: &Rc<Self>, order: ToAgent) {
        self.audit.heard(&order);
        match order {
            ToAgent::Audit { .. } => {}
            ToAgent::Welcome { epoch, .. } => drop(self.follow(epoch)),
            // The link's own.
            ToAgent::Try => {}
            ToAgent::Check(order) => {
                let checked = self.check(&order);
                self.outbox.say(ToCoordinator::Checked(checked));
            }
            ToAgent::Inject(order) => self.inject(order),
            ToAgent::Renew { epoch, injections } => match self.follow(epoch) {
                Ok(()) => self.renew(injections),
                Err(why) => tracing::warn!("a renewal was not heard: {why}"),
            },
            ToAgent::Revert { epoch, injection } => match self.follow(epoch) {
                Ok(()) => self.revert(&injection),
                Err(why) => tracing::warn!("a revert was not heard: {why}"),
            },
            // From any epoch: stopping is always right.
            ToAgent::Halt { run } => self.halt(run.as_deref()),
            ToAgent::Count { query, processes } => {
                let malformed = policy::selector_reasons(&processes);
                let (count, error) = if malformed.is_empty() {
                    match processes::matching(&processes, &[]) {
                        Ok(found) => (found.len() as u32, None),
                        Err(refusal) => (0, Some(refusal.0)),
                    }
                } else {
                    (0, Some(malformed.join("; ")))
                };
                self.outbox.say(ToCoordinator::Counted { query, count, error });
            }
        }
    }

    /// Two leaders must never both drive an agent: who is behind the highest epoch seen is not followed.
    pub(super) fn follow(&self, epoch: u64) -> Result<(), String> {
        let mut journal = self.journal.borrow_mut();
        let highest = journal.book().epoch;
        if epoch < highest {
            return Err(format!("epoch {epoch} is over: this agent follows epoch {highest}"));
        }
        if epoch > highest {
            log_trouble("epoch", journal.note(&Record::Epoch { epoch }));
        }
        Ok(())
    }

    fn inject(self: &Rc<Self>, order: Order) {
        let received_us = boottime::now_us();
        if self.answer_again(&order.injection) {
            return;
        }
        let injection = order.injection.clone();
        let recorded = self.audit.order(&order).map_err(|error| {
            let place = self.settings.state_dir.display();
            vec![format!("the audit log in {place} cannot be written ({error}): nothing was applied")]
        });
        if let Err(reasons) = recorded.and_then(|()| self.begin(order, received_us)) {
            let agent_us = boottime::now_us().saturating_sub(received_us);
            let report = InjectionReport { agent_us, detail: reasons.join("; "), ..InjectionReport::default() };
            let state = InjectionState::Refused;
            let (detail, at_us) = (report.detail.clone(), boottime::now_us());
            self.changed(Change { injection, state, cause: None, detail, by: Writer::Agent, at_us }, report);
        }
    }

    /// An injection's name is unique for ever: a repeated order is answered with what became of the first.
    fn answer_again(&self, injection: &str) -> bool {
        let live = self.live.borrow().get(injection).map(|live| live.said.clone());
        let (state, report) = match live {
            Some(said) => said,
            None => match self.journal.borrow().book().entries.get(injection) {
                Some(entry) => {
                    let Change { state, cause, detail, .. } = entry.last.clone();
                    (state, InjectionReport { cause, detail, ..InjectionReport::default() })
                }
                None => return false,
            },
        };
        self.outbox.say(ToCoordinator::Changed { injection: injection.to_owned(), state, report });
        true
    }

    fn begin(self: &Rc<Self>, order: Order, received_us: u64) -> Result<(), Vec<String>> {
        self.follow(order.epoch).map_err(|why| vec![why])?;
        if self.stopping.get() {
            return Err(vec!["this agent is shutting down".to_owned()]);
        }
        if !self.guarding.watches() {
            return Err(vec!["this agent has no guard at the moment: it is starting one".to_owned()]);
        }
        let permitted = self.permit(&order)?;
        // Inert until they hear `Go`, and dropped on any refusal below, which ends them. They start up while this prepares.
        let holders: Result<Vec<Holder>, _> =
            order.effects.iter().map(|_| Holder::spawn(&self.settings.program, &self.settings.state_dir)).collect();
        let holders = holders.map_err(|error| vec![format!("its holder could not be started: {error}")])?;
        let (prepared, occupied) = self.prepare(permitted)?;
        let lease = Lease::new(&order, received_us);
        let alarm = Alarm::new().map_err(|error| vec![format!("no timer for it: {error}")])?;
        let holds = prepared.iter().map(|(_, prepared)| prepared.hold.clone()).collect::<Vec<_>>();
        let held = prepared.into_iter().zip(&holders).map(|((tag, prepared), holder)| Held {
            holder: holder.spawned.process,
            tag,
            hold: prepared.hold,
            traces: prepared.traces,
        });
        let intent = Intent {
            injection: order.injection.clone(),
            run: order.run.clone(),
            fault: order.fault,
            epoch: order.epoch,
            effects: order.effects,
            boot_id: self.boot_id.clone(),
            received_us,
            duration_end_us: lease.duration_end_us,
            lease_end_us: lease.lease_end_us,
            held: held.collect(),
        };
        if let Err(error) = self.journal.borrow_mut().intend(intent.clone()) {
            return Err(vec![format!(
                "the journal in {} cannot be written ({error}): nothing was applied",
                self.settings.state_dir.display()
            )]);
        }
        let (sender, events) = mpsc::unbounded_channel();
        let shared = Rc::new(Cell::new(lease));
        let said = (InjectionState::Journaled, InjectionReport::default());
        let live = Live { run: order.run, lease: shared.clone(), events: sender.clone(), occupied, said };
        self.live.borrow_mut().insert(order.injection.clone(), live);
        self.ring();
        for (holder, hold) in holders.iter().zip(holds) {
            crash::point("go-sending");
            let go = ToHolder::Go { hold: Box::new(hold), deadline_us: lease.deadline_us() };
            if let Err(error) = holder.orders.say(&go) {
                // It ends without ever being active, which its life will hear.
                tracing::warn!(injection = order.injection, "a holder did not take its order: {error}");
            }
            crash::point("go-sent");
        }
        let agent_us = boottime::now_us().saturating_sub(received_us);
        let report = InjectionReport { agent_us, ..InjectionReport::default() };
        self.say(&order.injection, InjectionState::Journaled, report);
        let life = Life::new(self.clone(), &intent, shared, holders, &sender, events, alarm);
        tokio::task::spawn_local(self.clone().watch_over(intent, life));
        Ok(())
    }

    /// An error of ours in a life must not leave its effects without anybody who ends them.
    async fn watch_over(self: Rc<Self>, intent: Intent, life: Life) {
        if tokio::task::spawn_local(life.live()).await.is_ok() {
            return;
        }
        let injection = intent.injection.clone();
        tracing::error!(injection, "an error in the agent: undone from the journal");
        let boot_id = self.boot_id.clone();
        // Beside this thread: a service may take long, and others must not wait for it.
        let undone = tokio::task::spawn_blocking(move || undo::undo_all(std::iter::once(&intent), &boot_id)).await;
        for (_, ended) in undone.into_iter().flatten() {
            let cause = Some(RevertCause::Recovery);
            let report = InjectionReport { cause, detail: ended.detail.clone(), ..InjectionReport::default() };
            let (at_us, by) = (boottime::now_us(), Writer::Agent);
            let change =
                Change { injection: injection.clone(), state: ended.state, cause, detail: ended.detail, by, at_us };
            self.changed(change, report);
        }
        self.over(&injection);
    }

    fn renew(&self, injections: Vec<String>) {
        let now = boottime::now_us();
        let mut renewed: Vec<(u64, String)> = Vec::new();
        for injection in injections {
            let live = self.live.borrow();
            let Some(live) = live.get(&injection) else {
                // The coordinator believes in an injection that is not live: it is told what became of it.
                let known = self.answer_again_or_absent(&injection);
                tracing::debug!(injection, known, "renewed, but not live here");
                continue;
            };
            let mut lease = live.lease.get();
            // A dead lease is not revived: its holder may be gone already.
            if lease.over(now).is_none() && lease.renew(now) {
                live.lease.set(lease);
                let _ = live.events.send(Event::Renewed);
                renewed.push((lease.lease_end_us, injection));
            }
        }
        renewed.sort();
        let mut journal = self.journal.borrow_mut();
        for group in renewed.chunk_by(|one, other| one.0 == other.0) {
            let injections = group.iter().map(|(_, injection)| injection.clone()).collect();
            log_trouble("renewal", journal.note(&Record::Renewed { injections, lease_end_us: group[0].0 }));
        }
        log_trouble("compaction", journal.tidy());
        drop(journal);
        self.ring();
    }

    fn answer_again_or_absent(&self, injection: &str) -> bool {
        let entry = self.journal.borrow().book().entries.get(injection).map(|entry| entry.last.clone());
        let Some(Change { state, cause, detail, .. }) = entry else { return false };
        let report = InjectionReport { cause, detail, ..InjectionReport::default() };
        self.outbox.say(ToCoordinator::Changed { injection: injection.to_owned(), state, report });
        true
    }

    fn revert(&self, injection: &str) {
        match self.live.borrow().get(injection) {
            Some(live) => drop(live.events.send(Event::End(RevertCause::Ordered))),
            // Harmless, and answered: whoever asks twice hears the end again.
            None => drop(self.answer_again_or_absent(injection)),
        }
    }

    fn halt(&self, run: Option<&str>) {
        for live in self.live.borrow().values().filter(|live| run.is_none_or(|run| live.run == run)) {
            let _ = live.events.send(Event::End(RevertCause::Halt));
        }
    }

    /// Told by an injection's life: to the journal first, then to the coordinator.
    pub fn changed(&self, change: Change, report: InjectionReport) {
        let (injection, state) = (change.injection.clone(), change.state);
        log_trouble("state", self.journal.borrow_mut().change(change));
        self.say(&injection, state, report);
    }

    fn say(&self, injection: &str, state: InjectionState, report: InjectionReport) {
        if let Some(live) = self.live.borrow_mut().get_mut(injection) {
            live.said = (state, report.clone());
        }
        self.audit.state(injection, state, &report);
        self.outbox.say(ToCoordinator::Changed { injection: injection.to_owned(), state, report });
    }

    /// The last act of an injection's life.
    pub fn over(&self, injection: &str) {
        self.live.borrow_mut().remove(injection);
        self.unconfirmed_more.notify_one();
        log_trouble("compaction", self.journal.borrow_mut().tidy());
        self.ring();
        if self.live.borrow().is_empty() {
            self.idle.notify_waiters();
        }
    }

    /// Tells the guard the earliest deadline.
    pub fn ring(&self) {
        let live = self.live.borrow();
        let earliest = live.values().map(|live| live.lease.get().deadline_us()).min();
        self.guarding.ring(earliest.unwrap_or(u64::MAX));
    }

    /// The coordinator has heard these ends.
    pub fn told(&self, injections: Vec<String>) {
        for injection in injections {
            log_trouble("receipt", self.journal.borrow_mut().note(&Record::Told { injection }));
        }
    }

    /// Injections of which something may be on this host.
    pub fn open(&self) -> Vec<OpenInjection> {
        let journal = self.journal.borrow();
        let open = journal.book().entries.iter().filter(|(_, entry)| entry.is_open());
        open.map(|(name, entry)| OpenInjection { injection: name.clone(), state: entry.last.state }).collect()
    }

    /// What is open and has nobody who still works on it: its end was not confirmed.
    pub(super) fn unconfirmed(&self) -> Vec<Intent> {
        let (live, journal) = (self.live.borrow(), self.journal.borrow());
        journal.book().open().filter(|intent| !live.contains_key(&intent.injection)).cloned().collect()
    }

    /// Accepts nothing more and reverts everything; returns when nothing is live.
    pub async fn stop(&self) {
        self.stopping.set(true);
        for live in self.live.borrow().values() {
            let _ = live.events.send(Event::End(RevertCause::Shutdown));
        }
        while !self.live.borrow().is_empty() {
            self.idle.notified().await;
        }
    }
}

/// Undo must never depend on the journal: what cannot be written is said, and the work goes on.
fn log_trouble(what: &str, result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::error!("the journal did not take a {what}: {error}");
    }
}
