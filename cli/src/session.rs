//! A coordinator that a test talks to: one of its own, or another's.

use std::future::Future;
use std::path::Path;
use std::sync::mpsc;

use serde_json::{Value, json};
use squall_experiments::api::{Created, Halted, NodeNow, Submit};
use squall_experiments::parse;
use squall_experiments::run_event::RunEvent;
use tokio::runtime::Runtime;

use crate::client::{Client, escaped};
use crate::ephemeral::Ephemeral;
use crate::exit::{Exit, Failure};
use crate::fault::Fault;
use crate::injection::{self, Injection};
use crate::local::{Local, Settings};
use crate::news::{News, Reader, is_last};
use crate::outcome::Outcome;
use crate::probe::{Probe, experiment};

/// How long a steady state is watched.
const WATCHED: &str = "1s";

/// Dropping it ends a daemon of its own, which undoes everything first; if it did not see that all is gone, the drop panics (or, while the
/// test panics already, says so on the standard error). [`Squall::close`] gives the same as an error.
pub struct Squall {
    /// None: closed. Before the daemon in the order of drops.
    runtime: Option<Runtime>,
    client: Client,
    daemon: Option<Local>,
}

impl Squall {
    /// A daemon for this process alone, on this host, under squalld's built-in policy; [`Ephemeral`] says more. Real faults need root.
    ///
    /// # Errors
    /// squalld is not found, or does not start.
    pub fn ephemeral() -> Result<Squall, Failure> {
        Ephemeral::new().start()
    }

    /// A coordinator that serves elsewhere, or for others, too: by its access file or its unix socket. None: as `squall` finds it.
    ///
    /// # Errors
    /// There is none, or the file cannot be read.
    pub fn connect(access: Option<&Path>) -> Result<Squall, Failure> {
        Ok(Squall { runtime: Some(runtime()?), client: Client::of(access)?, daemon: None })
    }

    pub(crate) fn own(settings: Settings) -> Result<Squall, Failure> {
        let runtime = runtime()?;
        let daemon = block_on(&runtime, async move { Local::start(&settings).await })?;
        Ok(Squall { runtime: Some(runtime), client: daemon.client.clone(), daemon: Some(daemon) })
    }

    /// Returns once the fault is active on every node that it means; until then nothing is asserted, after it everything is.
    ///
    /// # Errors
    /// A mistake in it ([`Exit::Usage`]); blast radius, policy or host refuse it ([`Exit::Refused`]): nothing is done. Or it did not become
    /// active, and is undone.
    pub fn inject(&self, fault: Fault) -> Result<Injection<'_>, Failure> {
        let submit = checked(&fault.experiment().to_string())?;
        let client = self.client.clone();
        let begun = self.wait(async move { injection::begin(&client, &submit).await })?;
        Ok(Injection::of(self, fault, begun))
    }

    /// Runs an experiment (YAML or JSON text) to its end.
    ///
    /// # Errors
    /// Mistakes in it, each with its place; a refusal before it is a run; a coordinator that is lost. How a run ended is no error, but
    /// what [`Outcome`] asserts.
    pub fn run(&self, experiment: &str) -> Result<Outcome, Failure> {
        let submit = checked(experiment)?;
        let client = self.client.clone();
        self.wait(async move {
            let created: Created = client.post("/v1/runs", &submit).await?;
            let mut reader = Reader::start(client, created.run.clone(), 0);
            let events = rest(&mut reader).await?;
            Ok(Outcome::of(&created.run, &events))
        })
    }

    /// Watches probes for a second without any fault: is the system whole?
    ///
    /// # Errors
    /// As [`Squall::run`].
    pub fn steady_state(&self, probes: &[Probe]) -> Result<Outcome, Failure> {
        let probes: Vec<Value> = probes.iter().map(Probe::document).collect();
        let wait = json!({ "wait": WATCHED });
        self.run(&experiment("steady-state", "The system is in its steady state.", 1, &probes, &wait).to_string())
    }

    /// Everything that is known of the nodes, by name.
    ///
    /// # Errors
    /// The coordinator cannot be reached.
    pub fn nodes(&self) -> Result<Vec<NodeNow>, Failure> {
        let client = self.client.clone();
        self.wait(async move { client.get("/v1/nodes").await })
    }

    /// Ends every run, whoever started it, and undoes everything.
    ///
    /// # Errors
    /// The coordinator cannot be reached.
    pub fn halt_all(&self) -> Result<Halted, Failure> {
        let client = self.client.clone();
        self.wait(async move { client.post("/v1/halt", &json!({})).await })
    }

    /// Ends a daemon of its own, which undoes everything first; a coordinator of others is left alone.
    ///
    /// # Errors
    /// [`Exit::Dirty`]: it was not seen that all is undone, and what to do about it.
    pub fn close(mut self) -> Result<(), Failure> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Failure> {
        let Some(runtime) = self.runtime.take() else { return Ok(()) };
        let ended = match self.daemon.take() {
            Some(daemon) => block_on(&runtime, daemon.stop(std::future::pending())),
            None => Ok(()),
        };
        // And not by dropping it, which is forbidden in an asynchronous test.
        runtime.shutdown_background();
        ended
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        match &self.runtime {
            Some(runtime) => block_on(runtime, work),
            None => Err(Failure::usage("this Squall is closed", "")),
        }
    }
}

impl Drop for Squall {
    fn drop(&mut self) {
        told(self.end());
    }
}

/// Of something that is dropped: a test that would otherwise pass must not.
pub(crate) fn told(ended: Result<(), Failure>) {
    let Err(failure) = ended else { return };
    if std::thread::panicking() {
        eprintln!("squall: {failure}");
    } else {
        panic!("{failure}");
    }
}

pub(crate) async fn halt(client: &Client, run: &str) -> Result<(), Failure> {
    let path = format!("/v1/runs/{}/halt", escaped(run));
    client.post::<Halted>(&path, &json!({})).await.map(drop)
}

/// To the last one.
pub(crate) async fn rest(reader: &mut Reader) -> Result<Vec<RunEvent>, Failure> {
    let mut events = Vec::new();
    while let Some(news) = reader.next().await {
        match news {
            News::Event(event) => {
                let last = is_last(&event);
                events.push(*event);
                if last {
                    return Ok(events);
                }
            }
            News::GaveUp(failure) => return Err(failure),
            News::Lost(_) | News::Back => {}
        }
    }
    Err(Failure::unreachable("the event stream ended without a verdict", ""))
}

/// Mistakes are found here, with their places, before anybody is asked.
fn checked(text: &str) -> Result<Submit, Failure> {
    let experiment =
        parse::parse("experiment", text).map_err(|mistakes| Failure::new(Exit::Usage, mistakes.to_string(), ""))?;
    Ok(Submit { experiment: json!(experiment), seed: None })
}

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("squall")
        .enable_all()
        .build()
        .map_err(|error| Failure::usage(format!("cannot start a thread: {error}"), ""))
}

/// Not `Runtime::block_on`, which an asynchronous test may not call.
fn block_on<T: Send + 'static>(
    runtime: &Runtime,
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    let (say, heard) = mpsc::channel();
    runtime.spawn(async move {
        // Err: nobody waits any more.
        let _ = say.send(work.await);
    });
    heard.recv().unwrap_or_else(|_| Err(Failure::unreachable("what was asked for ended in a panic", "")))
}
