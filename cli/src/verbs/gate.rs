//! `squall gate`: experiments in order with a coordinator of their own, compared with the last accepted runs; one exit code for CI.

mod files;
mod outputs;
mod privileges;
mod session;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use squall_experiments::gate::Gate as Judged;
use squall_experiments::gate::baseline::Baseline;
use squall_experiments::gate::shard::Shard;
use squall_experiments::run_event::Verdict;
use squall_experiments::units::{Percent, Span};

use crate::args::{Global, Output};
use crate::coordinator::{Coordinator, LocalArgs};
use crate::exit::{Exit, Failure};
use crate::interrupts::Interrupts;
use crate::paint;
use outputs::Outputs;
use session::Session;

/// Runs of each experiment where something is to be compared.
const REPEATS: u32 = 5;

#[derive(clap::Args)]
#[command(
    after_help = "The exit code is that of the gravest verdict: 5 left dirty, 1 refuted (or worse than the baseline), 4 aborted, \
                        3 refused, 7 inconclusive or not run, 0 all held. docs/gate.md tells more."
)]
pub struct Gate {
    /// Experiment files, or directories of them (with what is below; other kinds of files there are passed over)
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Compare with the last accepted runs: what got worse beyond chance refutes
    #[arg(long, value_name = "BASELINE.json")]
    against: Option<PathBuf>,
    /// Accept these runs: write those of each experiment that held into the baseline (made if it is not there)
    #[arg(long, requires = "against")]
    update_baseline: bool,
    /// By how much a figure must be worse to refute
    #[arg(long, value_name = "SHARE", default_value = "25%", requires = "against")]
    margin: Percent,
    /// Runs of each experiment [default: 1, or 5 with --against]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: Option<u32>,
    /// No run begins that would not end in this time, and one that has not ended is undone
    #[arg(long, value_name = "TIME")]
    budget: Option<Span>,
    /// Only the i-th of n parts of the experiments, for jobs side by side
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// How long the system may take to be in its steady state before a run
    #[arg(long, value_name = "TIME", default_value = "60s")]
    settle: Span,
    /// Of everything random, for every run [default: the experiment's own, or a new one a run]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// A label of this host that selectors can name (repeatable)
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// This host's own limits [default: squalld's built-in policy]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Programs that `command` probes may start
    #[arg(long, value_name = "FILE")]
    probe_commands: Option<PathBuf>,
    #[command(flatten)]
    outputs: Outputs,
}

impl Gate {
    pub fn run(self, global: &Global) -> Result<Exit, Failure> {
        // All that can be wrong is found before anything is started.
        let mut items = files::read(&self.paths, self.shard, self.seed)?;
        let mut baseline = self.baseline()?;
        self.outputs.check()?;
        let repeat = self.repeat.unwrap_or(if self.against.is_some() { REPEATS } else { 1 });
        let margin = self.margin.fraction();
        let local = LocalArgs::own(self.labels.clone(), self.policy.clone(), self.probe_commands.clone());
        super::wait(async {
            let began = Instant::now();
            let mut interrupts = Interrupts::new()?;
            if let Some(budget) = self.budget {
                interrupts.until(tokio::time::Instant::now() + budget.0);
            }
            let mut coordinator = Coordinator::get(&local, global).await?;
            let client = coordinator.client().clone();
            let mut session = Session {
                client,
                interrupts,
                settle: self.settle.0,
                repeat,
                global,
                outputs: &self.outputs,
                left: false,
            };
            let ended = tokio::select! {
                ended = session.all(&mut items) => ended,
                failure = coordinator.died() => Err(failure),
            };
            let left = session.left;
            drop(session);
            let stopped = coordinator.stop().await;
            let experiments = items.into_iter().map(|item| item.tried).collect();
            let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            let mut judged = Judged::judge(experiments, baseline.as_ref(), self.update_baseline, margin, took);
            // What may be left on this host outranks every verdict, and the files say so, too.
            for failure in [ended.err(), stopped.err()].into_iter().flatten() {
                paint::complain(&failure);
                judged.outranked(failure.exit == Exit::Dirty, &failure.message);
            }
            if left {
                judged.outranked(true, "stopped waiting before everything was seen to be undone");
            }
            self.told(&judged, global);
            let written = self.outputs.write(&judged);
            let updated = self.update(&mut baseline, &judged);
            for failure in [written.err(), updated.err()].into_iter().flatten() {
                paint::complain(&failure);
                if judged.verdict == Verdict::Held {
                    return Ok(failure.exit);
                }
            }
            Ok(Exit::Run(judged.verdict))
        })
    }

    fn baseline(&self) -> Result<Option<Baseline>, Failure> {
        let Some(path) = &self.against else { return Ok(None) };
        let shown = path.display();
        match std::fs::read_to_string(path) {
            Ok(text) => Baseline::read(&text).map(Some).map_err(|error| {
                Failure::usage(
                    format!("{shown} is no baseline: {error}"),
                    "`squall gate ... --against FILE --update-baseline` writes one",
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.update_baseline => {
                outputs::writable(path)?;
                Ok(Some(Baseline::default()))
            }
            Err(error) => Err(Failure::usage(
                format!("cannot read the baseline {shown}: {error}"),
                "the first time add --update-baseline: it writes the file",
            )),
        }
    }

    fn told(&self, judged: &Judged, global: &Global) {
        match global.output {
            Output::Json => paint::say(serde_json::json!({ "gate": judged }).to_string()),
            Output::Text => {
                paint::say("");
                paint::raw(&judged.text());
            }
        }
        outputs::environment(judged, global.output);
    }

    fn update(&self, baseline: &mut Option<Baseline>, judged: &Judged) -> Result<(), Failure> {
        let (true, Some(path), Some(baseline)) = (self.update_baseline, &self.against, baseline) else { return Ok(()) };
        let accepted = baseline.accept(judged);
        if accepted.is_empty() {
            paint::warn(format!("{}: nothing is accepted, because nothing held", path.display()));
            return Ok(());
        }
        outputs::put(path, &baseline.text())?;
        paint::warn(format!("{}: accepted {}", path.display(), accepted.join(", ")));
        Ok(())
    }
}

/// As a span of the clock that sleeps.
fn spoken(time: Duration) -> String {
    squall_experiments::report::words::time(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}
