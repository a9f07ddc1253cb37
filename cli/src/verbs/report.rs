//! `squall report`: of any run, now or later, for people and machines.

use squall_experiments::api::RunSummary;
use squall_experiments::report::Report as Computed;
use squall_experiments::run_event::RunEvent;

use crate::args::{Global, Output};
use crate::client::{Client, escaped};
use crate::exit::{Exit, Failure};
use crate::paint;
use crate::report_files::ReportFiles;

#[derive(clap::Args)]
pub struct Report {
    /// Id of the run, its beginning or end, or `last`
    #[arg(value_name = "RUN")]
    run: String,
    #[command(flatten)]
    files: ReportFiles,
}

impl Report {
    pub fn run(self, global: &Global) -> Result<Exit, Failure> {
        self.files.check()?;
        super::wait(async {
            let client = Client::of(global.access.as_deref())?;
            let summary: RunSummary = super::watch::find(&client, &self.run).await?;
            // From the events, so that an old run is judged by today's rules.
            let events: Vec<RunEvent> =
                client.get(&format!("/v1/runs/{}/events?from=0", escaped(&summary.run))).await?;
            let report = Computed::of(&summary.run, &events);
            if !self.files.is_empty() {
                for path in self.files.write(&report)? {
                    paint::say(path.display().to_string());
                }
            } else if global.output == Output::Json {
                paint::json(&report);
            } else {
                paint::raw(&report.text());
            }
            Ok(Exit::Held)
        })
    }
}
