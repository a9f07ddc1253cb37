//! Starts what schedules say. When a slot is due and what becomes of it is decided purely ([`squall_experiments::schedule`]);
//! tokio-cron-scheduler only wakes this every second. Its own cron jobs keep the offset that a zone had when they were made,
//! and so run an hour off after the clocks change.

use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context as _;
use axum::http::Method;
use squall_experiments::schedule::due::Decision;
use squall_experiments::schedule::firing::{Firing, Outcome};
use tokio_cron_scheduler::{Job, JobScheduler};
use tokio_util::sync::CancellationToken;

use super::Coordinator;
use super::api::{game_days, submit};
use super::permission::{self, Role};
use super::store::{Kept, Owner};
use crate::clock::Wall;

const LOOK: Duration = Duration::from_secs(1);

pub struct Scheduler {
    wall: Wall,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
    stop: CancellationToken,
}

impl Scheduler {
    pub fn new(wall: Wall) -> Self {
        Scheduler { wall, looking: tokio::sync::Mutex::new(()), stop: CancellationToken::new() }
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        i64::try_from(self.wall.now_ms()).unwrap_or(i64::MAX)
    }

    /// Nothing is started by itself from now on.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

/// Looks every second until the coordinator is gone or stops its scheduler.
pub async fn drive(coordinator: Weak<Coordinator>) {
    let Some(stop) = coordinator.upgrade().map(|coordinator| coordinator.scheduler.stop.clone()) else { return };
    let driven = async {
        let mut library = JobScheduler::new().await?;
        let job = Job::new_repeated_async(LOOK, move |_, _| {
            let coordinator = coordinator.clone();
            Box::pin(async move {
                if let Some(coordinator) = coordinator.upgrade() {
                    look(&coordinator).await;
                }
            })
        })?;
        library.add(job).await?;
        library.start().await?;
        stop.cancelled().await;
        library.shutdown().await
    };
    if let Err(error) = driven.await {
        tracing::error!(%error, "schedules are not served");
    }
}

/// Decides about every slot that is due by now.
pub async fn look(coordinator: &Arc<Coordinator>) {
    let scheduler = &coordinator.scheduler;
    let _one = scheduler.looking.lock().await;
    if scheduler.stop.is_cancelled() {
        return;
    }
    let kept = match coordinator.store.schedules() {
        Ok(kept) => kept,
        Err(error) => return tracing::error!(error = format!("{error:#}"), "schedules cannot be read"),
    };
    for kept in kept.iter().filter(|kept| !kept.paused && kept.schedule.enabled) {
        if let Err(error) = look_at(coordinator, kept).await {
            let schedule = kept.schedule.metadata.name.as_str();
            tracing::error!(schedule, error = format!("{error:#}"), "a schedule could not be served");
        }
    }
}

async fn look_at(coordinator: &Arc<Coordinator>, kept: &Kept) -> anyhow::Result<()> {
    let (schedule, now_ms) = (&kept.schedule, coordinator.scheduler.now_ms());
    let Some(decision) = schedule.due(kept.seen_ms, now_ms, is_busy(coordinator, kept)?) else { return Ok(()) };
    let (outcome, detail) = match &decision {
        Decision::Start { missed: 0, .. } => (Outcome::Starting, String::new()),
        Decision::Start { missed, .. } => (Outcome::Starting, format!("{missed} before it were missed")),
        Decision::Missed { slot, missed } => {
            let late = Duration::from_millis((now_ms - slot.at_ms).unsigned_abs()).as_secs();
            (Outcome::Missed, format!("{missed} missed, this one {late} s ago when the coordinator looked"))
        }
        Decision::Busy { .. } => (Outcome::Busy, "what the last firing started is still under way".to_owned()),
    };
    let firing = Firing {
        schedule: schedule.metadata.name.clone(),
        slot_ms: decision.slot().at_ms,
        decided_ms: now_ms,
        outcome,
        run: None,
        detail,
    };
    fire(coordinator, kept, firing).await?;
    Ok(())
}

/// Starts it now, whatever its hours are. The firing's slot is this moment.
pub async fn run_now(coordinator: &Arc<Coordinator>, kept: &Kept, by: &str) -> anyhow::Result<Firing> {
    let now_ms = coordinator.scheduler.now_ms();
    let mut slot_ms = now_ms;
    loop {
        let firing = Firing {
            schedule: kept.schedule.metadata.name.clone(),
            slot_ms,
            decided_ms: now_ms,
            outcome: Outcome::Starting,
            run: None,
            detail: format!("by hand: {by}"),
        };
        match fire(coordinator, kept, firing).await? {
            Some(firing) => return Ok(firing),
            // A slot of that very millisecond.
            None => slot_ms += 1,
        }
    }
}

/// Claims the slot, and starts what it says. None: the slot was taken.
async fn fire(coordinator: &Arc<Coordinator>, kept: &Kept, mut firing: Firing) -> anyhow::Result<Option<Firing>> {
    if !coordinator.store.claim(&firing, coordinator.hub.epoch)? {
        return Ok(None);
    }
    if firing.outcome != Outcome::Starting {
        return Ok(Some(firing));
    }
    match start(coordinator, kept).await {
        Ok(run) => (firing.outcome, firing.run) = (Outcome::Started, Some(run)),
        Err(why) => (firing.outcome, firing.detail) = (Outcome::Refused, why),
    }
    let Firing { schedule, run, detail, .. } = &firing;
    tracing::info!(schedule, outcome = ?firing.outcome, run, detail, "a schedule fired");
    coordinator.store.settle(&firing).context("and what it came to could not be stored")?;
    Ok(Some(firing))
}

async fn start(coordinator: &Arc<Coordinator>, kept: &Kept) -> Result<String, String> {
    may_run(coordinator, &kept.owner)?;
    let by = format!("{} by schedule {}", kept.owner.name(), kept.schedule.metadata.name);
    let what = &kept.schedule.run;
    let started = match (&what.game_day, what.experiment()) {
        (Some(day), _) => game_days::begin(coordinator, day.as_ref().clone(), by).await,
        (None, Some(experiment)) => submit::start(coordinator, &experiment, None, by).await,
        (None, None) => return Err("what it runs is not in the catalogue (any more)".to_owned()),
    };
    started.map_err(|error| error.reasons().join("; "))
}

/// What the owner's role says today.
fn may_run(coordinator: &Coordinator, owner: &Owner) -> Result<(), String> {
    let role: Role = match owner {
        Owner::ThisHost { role, .. } => role.parse()?,
        Owner::User { name } => {
            let users = coordinator.credentials.users().map_err(|error| format!("{error:#}"))?;
            let now_ms = coordinator.scheduler.wall.now_ms();
            let user = users.into_iter().find(|user| user.name == *name && !user.is_expired(now_ms));
            user.ok_or_else(|| format!("its owner {name} is no user of this coordinator any more"))?.role
        }
    };
    match permission::may(role, &Method::POST, "/v1/runs") {
        true => Ok(()),
        false => Err(format!("its owner {} has the role {role}, which may not run experiments", owner.name())),
    }
}

/// Whether what the last firing started is under way.
fn is_busy(coordinator: &Coordinator, kept: &Kept) -> anyhow::Result<bool> {
    let firings = coordinator.store.firings(Some(&kept.schedule.metadata.name), 0, 20)?;
    let run = firings.into_iter().find_map(|firing| firing.run);
    Ok(run.is_some_and(|run| coordinator.runs.log(&run).is_some() || coordinator.game_days.log(&run).is_some()))
}
