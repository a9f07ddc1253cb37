//! `squall runs`: newest first.

use squall_experiments::api::RunSummary;
use squall_experiments::report::words;

use crate::args::{Global, Output};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::{paint, table};

pub async fn run(global: &Global) -> Result<Exit, Failure> {
    let runs: Vec<RunSummary> = Client::of(global.access.as_deref())?.get("/v1/runs").await?;
    if global.output == Output::Json {
        paint::json(&runs);
    } else if runs.is_empty() {
        paint::say("no runs yet; `squall run FILE` starts one");
    } else {
        let rows = runs.iter().map(|run| {
            [
                // Ids begin with their time: the end tells runs of one day apart, and is enough as a name.
                run.run.chars().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect::<String>(),
                words::printable(&run.name),
                run.verdict.map_or("running", |verdict| words::verdict(verdict).0).to_lowercase(),
                words::wall(run.submitted_wall_ms),
                words::time(run.duration_us),
                words::printable(&run.by),
                run.seed.to_string(),
            ]
        });
        table::show(["RUN", "EXPERIMENT", "VERDICT", "STARTED", "TOOK", "BY", "SEED"], rows);
    }
    Ok(Exit::Held)
}
