//! `squall rerun`: the same experiment with the same seed; with `--same-targets` the very same plan.

use squall_experiments::api::{Created, Rerun as Body};

use crate::args::Global;
use crate::client::{Client, escaped};
use crate::exit::{Exit, Failure};
use crate::follow::OnInterrupt;
use crate::interrupts::Interrupts;
use crate::report_files::ReportFiles;

#[derive(clap::Args)]
pub struct Rerun {
    /// Id of the old run, its beginning or end, or `last`
    #[arg(value_name = "RUN")]
    run: String,
    /// Repeat the old plan exactly; else the targets are chosen anew from today's nodes, with the old seed
    #[arg(long)]
    same_targets: bool,
    #[command(flatten)]
    files: ReportFiles,
}

impl Rerun {
    pub async fn run(self, global: &Global) -> Result<Exit, Failure> {
        self.files.check()?;
        let client = Client::of(global.access.as_deref())?;
        let mut interrupts = Interrupts::new()?;
        let path = format!("/v1/runs/{}/rerun", escaped(&self.run));
        let created: Created = client.post(&path, &Body { same_targets: self.same_targets }).await?;
        super::run::to_its_end(&client, &created.run, &self.files, global, OnInterrupt::Halt, &mut interrupts).await
    }
}
