//! The privileged role: executes effects on this host, under the journal.
//!
//! All of it runs on one thread with its own runtime, whose life is the life of every holder (see [`spawn`]).

pub mod audit;
pub mod conflict;
pub mod consider;
pub mod crash;
pub mod doctor;
pub mod effects;
pub mod enrolment;
pub mod executor;
pub mod facts;
pub mod guarding;
mod hinting;
pub mod holder;
pub mod identity;
pub mod injection;
pub mod journal;
pub mod kernel;
pub mod labels;
pub mod lease;
pub mod link;
pub mod mending;
pub mod notes;
pub mod orders;
pub mod outbox;
pub mod policy;
pub mod processes;
pub mod recovery;
mod resting;
pub mod role;
pub mod sandbox;
pub mod spared;
pub mod spawn;
pub mod undo;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use effects::Trace;
use effects::service::Service;
use enrolment::Enrolment;
use executor::Executor;
use identity::Identity;
use journal::{Durability, Journal};
use kernel::boottime;
use kernel::child::Place;
use labels::Labels;
use link::Address;
use policy::Policy;
use spawn::Starters;

/// After the last revert of a shutdown, the coordinator may still hear of it for so long.
const FAREWELL: Duration = Duration::from_millis(500);

/// What an agent is started with.
#[derive(Debug, Clone)]
pub struct Config {
    pub coordinator: Address,
    /// Directory with `ca.pem`, `node.pem` and `node.key`.
    pub identity: PathBuf,
    /// For a node that has no certificate yet.
    pub enrolment: Option<Enrolment>,
    /// Of the journal; one agent each.
    pub state_dir: PathBuf,
    /// None: the built-in policy.
    pub policy: Option<PathBuf>,
    pub labels: Labels,
    pub zone: Option<String>,
    /// Names of all faults that there are; the policy says which of them are allowed here.
    pub known_faults: Vec<String>,
    /// squalld, for holders and the guard; [`own_program`] unless this is not squalld.
    pub program: PathBuf,
    /// For one command, by which it is started and with which it ends: nothing is made ready that may not be needed, and the journal
    /// is for this process and its guard, not for a power cut (the state directory is volatile anyway).
    pub ephemeral: bool,
}

/// The running program, also after its file was replaced by an upgrade.
pub fn own_program() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

/// What the parts of an agent know.
#[derive(Debug)]
pub struct Settings {
    pub node: String,
    pub program: PathBuf,
    pub state_dir: PathBuf,
    pub policy: Policy,
    pub place: Place,
    pub labels: Labels,
    pub zone: Option<String>,
    pub known_faults: Vec<String>,
    pub starters: Starters,
    /// Whether it may enter the networks of containers.
    pub networks: bool,
}

/// Runs an agent on this thread until `stop` is ready; then everything is reverted. Recovery comes before anything else;
/// `ready` is called after it.
///
/// # Errors
/// Nothing was started: the policy or the identity cannot be used, or the state directory is another agent's.
pub fn run(config: Config, ready: impl FnOnce(), stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    kernel::priority::of_an_agent();
    let state_dir = std::path::absolute(&config.state_dir)?;
    let boot_id = boottime::boot_id().context("the kernel's boot id")?;
    let durability = if config.ephemeral { Durability::Process } else { Durability::Disk };
    let (journal, found) = recovery::open(&state_dir, &boot_id, durability)?;
    for found in &found {
        match found.is_clean() {
            true => tracing::warn!("{} was left by an agent before this one: undone, and seen to be gone", found.what),
            false => tracing::error!("{} is left and could NOT be undone: {}", found.what, found.ended.detail),
        }
    }
    // After recovery: whatever is wrong with a policy or a certificate, what an agent before this one left is undone.
    let policy = config.policy.as_deref().map_or_else(|| Ok(Policy::built_in()), Policy::load)?;
    // One that is for a single command keeps its rights anyway.
    let networks = policy.container_networks.as_ref().map_or(config.ephemeral, |rule| rule.value);
    let mut starters = Starters::default();
    if !config.ephemeral {
        // On a thread that is not in the sandbox and ends at once; the answers are kept.
        facts::network::begin_to_try();
        // What starts a service hands its own rights on to it: from here on that is not this process.
        let services = services_of(&policy, &journal);
        if !services.is_empty() {
            starters = spawn::starters(&config.program, &state_dir, &services)
                .context("the policy names services, which nobody could start again")?;
        }
        kernel::priority::spare_from_the_oom_killer();
        sandbox::enter_agent(networks);
        match kernel::cgroup::given() {
            Ok(group) => tracing::info!("hogs have cgroups of their own in {}", group.display()),
            Err(why) => tracing::debug!("hogs are in the agent's own cgroup: {why}"),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(enrolment) = &config.enrolment {
        runtime.block_on(enrolment::enrol(&config.identity, &config.coordinator, enrolment))?;
    }
    let identity = Identity::load(&config.identity).context("the agent's identity")?;
    let audit = audit::Trail::open(&state_dir, &identity, &policy, &boot_id)?;
    let settings = Settings {
        node: identity.node.clone(),
        program: config.program,
        state_dir,
        policy,
        place: Place::here()?,
        labels: config.labels,
        zone: config.zone,
        known_faults: config.known_faults,
        starters,
        networks,
    };
    let identity = Rc::new(RefCell::new(identity));
    LocalSet::new().block_on(&runtime, async {
        let executor = Executor::new(settings, boot_id, journal, audit);
        let guard = tokio::task::spawn_local(guarding::keep(executor.clone()));
        if !config.ephemeral {
            // An agent that has said Hello can take orders. Without a guard it says Hello all the same, and why it takes none.
            executor.guarding.started().await;
        }
        tokio::task::spawn_local(mending::keep_trying(executor.clone()));
        tokio::task::spawn_local(resting::keep(executor.clone()));
        tokio::task::spawn_local(enrolment::keep_fresh(identity.clone(), config.coordinator.clone()));
        let link = link::keep(executor.clone(), config.coordinator, identity, !config.ephemeral);
        let link = tokio::task::spawn_local(link);
        ready();
        stop.await;
        executor.stop().await;
        executor.audit.stopped();
        let _ = tokio::time::timeout(FAREWELL, said_everything(&executor)).await;
        link.abort();
        executor.guarding.dismiss();
        let _ = tokio::time::timeout(FAREWELL, guard).await;
    });
    // Whatever is still being tried in the background leaves nothing, and is not waited for.
    runtime.shutdown_background();
    Ok(())
}

/// Those that the policy names, and those that are still to be started for an agent before this one.
fn services_of(policy: &Policy, journal: &Journal) -> Vec<Service> {
    let mut services: Vec<Service> = policy.services.iter().map(|rule| rule.value.clone()).collect();
    for trace in journal.book().open().flat_map(|intent| &intent.held).flat_map(|held| &held.traces) {
        if let Trace::Service { service, .. } = trace
            && !services.contains(service)
        {
            services.push(service.clone());
        }
    }
    services
}

async fn said_everything(executor: &Rc<Executor>) {
    while executor.coordinator.get().is_some() && !executor.outbox.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An agent on a thread of its own.
pub struct Handle {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<anyhow::Result<()>>>,
}

/// Starts an agent; returns after its recovery. For `squalld dev` and tests.
pub fn start(config: Config) -> anyhow::Result<Handle> {
    let (stop, stopped) = oneshot::channel();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let work = move || {
        let stopped = async move { drop(stopped.await) };
        let ready = move || {
            // Nobody waits any more: then nobody is told.
            let _ = ready.send(());
        };
        run(config, ready, stopped)
    };
    let thread = thread::Builder::new().name("agent".to_owned()).spawn(work)?;
    match is_ready.recv() {
        Ok(()) => Ok(Handle { stop: Some(stop), thread: Some(thread) }),
        // It dropped its end without a word: it failed.
        Err(_) => match thread.join() {
            Ok(Err(error)) => Err(error),
            _ => Err(anyhow!("the agent ended before it was ready")),
        },
    }
}

impl Handle {
    /// Reverts everything and waits for it. Blocks: from async code, call it in `spawn_blocking`.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.end()
    }

    fn end(&mut self) -> anyhow::Result<()> {
        drop(self.stop.take());
        match self.thread.take().map(thread::JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(anyhow!("the agent's thread panicked: its guard undoes")),
            None => Ok(()),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
