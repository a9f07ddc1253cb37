//! `squall watch`: another's run as it happens; leaving does not stop it.

use squall_experiments::api::RunSummary;

use crate::args::Global;
use crate::client::{Client, escaped};
use crate::exit::{Exit, Failure};
use crate::follow::OnInterrupt;
use crate::interrupts::Interrupts;
use crate::report_files::ReportFiles;

#[derive(clap::Args)]
pub struct Watch {
    /// Id of the run, its beginning or end, or `last`
    #[arg(value_name = "RUN")]
    run: String,
    #[command(flatten)]
    files: ReportFiles,
}

impl Watch {
    pub async fn run(self, global: &Global) -> Result<Exit, Failure> {
        self.files.check()?;
        let client = Client::of(global.access.as_deref())?;
        let mut interrupts = Interrupts::new()?;
        let run = find(&client, &self.run).await?.run;
        super::run::to_its_end(&client, &run, &self.files, global, OnInterrupt::Leave, &mut interrupts).await
    }
}

/// The run that a person means, with its whole id.
pub async fn find(client: &Client, run: &str) -> Result<RunSummary, Failure> {
    if run.trim().is_empty() {
        return Err(Failure::usage("a run's name is empty", "`squall runs` lists the runs; `last` is the newest"));
    }
    client.get(&format!("/v1/runs/{}", escaped(run))).await
}
