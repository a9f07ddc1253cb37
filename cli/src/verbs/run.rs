//! `squall run`: submit, follow, judge; the verdict is the exit code.

use std::path::PathBuf;

use squall_experiments::api::{Created, Submit};
use squall_experiments::parse;
use squall_experiments::report::Report;

use crate::args::{Global, Output};
use crate::chaos_toolkit::flags::Flags;
use crate::chaos_toolkit::from_url;
use crate::client::Client;
use crate::coordinator::{Coming, LocalArgs};
use crate::exit::{Exit, Failure};
use crate::follow::{Ended, OnInterrupt, follow};
use crate::interrupts::Interrupts;
use crate::report_files::ReportFiles;
use crate::{chaos_toolkit, experiment_file, paint, progress, summary};

#[derive(clap::Args)]
pub struct Run {
    /// Experiment file, YAML or JSON (- is the standard input; an https address for Chaos Toolkit's format)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    local: LocalArgs,
    /// Of everything random [default: the experiment's own, or a new one]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    files: ReportFiles,
    #[command(flatten)]
    chaos_toolkit: Flags,
}

impl Run {
    pub fn run(self, global: &Global) -> Result<Exit, Failure> {
        super::wait(async {
            // One of our own starts while the file is read. Its mistakes come first all the same.
            let coming = Coming::start(&self.local);
            let submit = match self.read().await {
                // Not with --local, so none is on its way.
                Ok(Read::ChaosToolkit(text)) => {
                    return chaos_toolkit::run::run(&self.file, text, self.chaos_toolkit, global.output).await;
                }
                Ok(Read::Own(submit)) => Ok(submit),
                Err(mistake) => Err(mistake),
            };
            let (mut coordinator, submit) = coming.for_the(submit, global).await?;
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

    /// What is in the file, and that it and the flags are of one kind.
    async fn read(&self) -> Result<Read, Failure> {
        let url = from_url::url(&self.file);
        let text = match url {
            Some(url) => from_url::text(url, &self.chaos_toolkit.settings()?).await?,
            None => experiment_file::text(&self.file)?,
        };
        if let Some(url) = url.filter(|_| !parse::is_chaos_toolkit(&text)) {
            let hint = "an experiment of Squall's own is read from a file: download it first";
            return Err(Failure::usage(format!("{url} is no experiment in Chaos Toolkit's format"), hint));
        }
        if parse::is_chaos_toolkit(&text) {
            if self.seed.is_some() || self.local.local || !self.files.is_empty() {
                let message = "--local, --seed and reports are for Squall's own experiments";
                let hint = "a file in Chaos Toolkit's format runs here, and writes a journal";
                return Err(Failure::usage(message, hint));
            }
            return Ok(Read::ChaosToolkit(text));
        }
        if self.chaos_toolkit.is_given() {
            let message = "the flags of Chaos Toolkit are for files in its format";
            return Err(Failure::usage(message, "this is an experiment of Squall's own"));
        }
        let experiment = experiment_file::parsed_text(&self.file, &text)?;
        self.files.check()?;
        super::plan::submit_of(&self.file, experiment, self.seed).map(|submit| Read::Own(Box::new(submit)))
    }
}

enum Read {
    Own(Box<Submit>),
    ChaosToolkit(String),
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
