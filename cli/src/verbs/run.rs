//! `squall run`: submit, follow, judge; the verdict is the exit code.

use std::path::PathBuf;

use squall_experiments::api::{Created, Submit};
use squall_experiments::report::Report;

use crate::args::{Global, Output};
use crate::client::Client;
use crate::coordinator::{Coming, LocalArgs};
use crate::exit::{Exit, Failure};
use crate::follow::{Ended, OnInterrupt, follow};
use crate::interrupts::Interrupts;
use crate::report_files::ReportFiles;
use crate::{paint, progress, summary};

#[derive(clap::Args)]
pub struct Run {
    /// Experiment file, YAML or JSON (- is the standard input)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    local: LocalArgs,
    /// Of everything random [default: the experiment's own, or a new one]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    files: ReportFiles,
}

impl Run {
    pub fn run(self, global: &Global) -> Result<Exit, Failure> {
        super::wait(async {
            // One of our own starts while the file is read. Its mistakes come first all the same.
            let coming = Coming::start(&self.local);
            let read = super::plan::submit(&self.file, self.seed);
            let read = read.and_then(|submit| self.files.check().map(|()| submit));
            let (mut coordinator, submit) = coming.for_the(read, global).await?;
            let client = coordinator.client().clone();
            let ended = tokio::select! {
                ended = submitted(&client, &submit, &self.files, global) => ended,
                failure = coordinator.died() => Err(failure),
            };
            // Whatever happened: ours is told to undo and to exit, and what it left outranks every verdict.
            match (coordinator.stop().await, ended) {
                (Ok(()), ended) => ended,
                (Err(dirty), ended) => {
                    if let Err(failure) = ended {
                        paint::complain(&failure);
                    }
                    Err(dirty)
                }
            }
        })
    }
}

async fn submitted(client: &Client, submit: &Submit, files: &ReportFiles, global: &Global) -> Result<Exit, Failure> {
    // From before the submit: a Ctrl-C that comes too early for the run's id halts it as soon as the id is known.
    let mut interrupts = Interrupts::new()?;
    let created: Created = client.post("/v1/runs", submit).await?;
    to_its_end(client, &created.run, files, global, OnInterrupt::Halt, &mut interrupts).await
}

/// Follows the run and says how it ended.
pub async fn to_its_end(
    client: &Client,
    run: &str,
    files: &ReportFiles,
    global: &Global,
    on: OnInterrupt,
    interrupts: &mut Interrupts,
) -> Result<Exit, Failure> {
    let mut progress = progress::of(global.output);
    let events = match follow(client, run, &mut *progress, on, interrupts).await? {
        Ended::Finished(events) => events,
        // Without us nobody has seen that everything is undone.
        Ended::Left => return Ok(if on == OnInterrupt::Halt { Exit::Dirty } else { Exit::Inconclusive }),
    };
    let report = Report::of(run, &events);
    match global.output {
        Output::Text => summary::text(&report),
        Output::Json => summary::json(&report),
    }
    // A report that cannot be written does not change the verdict.
    match files.write(&report) {
        Ok(written) if global.output == Output::Text => {
            for path in written {
                paint::say(paint::painted(paint::QUIET, &format!("  report {}", path.display())));
            }
        }
        Ok(_) => {}
        Err(failure) => paint::complain(&failure),
    }
    Ok(report.verdict.map_or(Exit::Inconclusive, Exit::Run))
}
