//! `squall gameday report`: the scorecard on the terminal or as files, with the evidence behind it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use squall_experiments::game_day::event::{DayEvent, Happened};
use squall_experiments::game_day::status::{DayStatus, DaySummary};
use squall_experiments::report::scorecard::{Recorded, Scorecard};
use squall_experiments::report::words;
use squall_experiments::run_event::RunEvent;

use super::{Day, lists};
use crate::args::Output;
use crate::client::{Client, escaped};
use crate::exit::{Exit, Failure};
use crate::paint;

#[derive(clap::Args)]
pub struct Report {
    #[command(flatten)]
    day: Day,
    /// Write it as one HTML page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write it as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write it as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write the report of each run into this directory, and link it from the page
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
    /// Write all stored events of the day and of its runs, for a later `--since`
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Compare with the game day whose events are in this file, not with the last one of the same name
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
}

impl Report {
    pub async fn run(self, client: &Client, output: Output) -> Result<Exit, Failure> {
        // A file that is no game day is a mistake before anything is asked for.
        let since = self.since.as_deref().map(read).transpose()?;
        let (day, card) = scorecard(client, &self.day, since).await?;
        if let Some(directory) = &self.runs {
            std::fs::create_dir_all(directory).map_err(|error| unwritable(directory, &error))?;
            for (run, report) in card.reports() {
                let file = directory.join(format!("{run}.html"));
                std::fs::write(&file, report.html()).map_err(|error| unwritable(&file, &error))?;
            }
            paint::say(format!("{}: {} reports", directory.display(), card.reports().len()));
        }
        let page = || card.html(self.place_of_runs().as_deref());
        let as_json = || serde_json::to_string_pretty(&card).unwrap_or_default() + "\n";
        let events = || serde_json::to_string(&day).unwrap_or_default() + "\n";
        let files = [
            (&self.html, &page as &dyn Fn() -> String),
            (&self.json, &as_json),
            (&self.markdown, &|| card.markdown()),
            (&self.events, &events),
        ];
        let mut wrote = self.runs.is_some();
        for (file, text) in files {
            let Some(file) = file else { continue };
            std::fs::write(file, text()).map_err(|error| unwritable(file, &error))?;
            paint::say(file.display().to_string());
            wrote = true;
        }
        match output {
            _ if wrote => {}
            Output::Json => paint::json(&card),
            Output::Text => paint::raw(&words::printable(&card.markdown())),
        }
        Ok(Exit::Held)
    }

    /// Address of a run's report, seen from the page; None: they are not written.
    fn place_of_runs(&self) -> Option<String> {
        let directory = self.runs.as_deref()?;
        let beside = self.html.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let seen = directory.strip_prefix(beside).unwrap_or(directory);
        Some(format!("{}/{{run}}.html", seen.display()))
    }
}

fn unwritable(file: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("cannot write {}: {error}", file.display()), "")
}

/// What an earlier `--events` wrote.
fn read(file: &Path) -> Result<Recorded, Failure> {
    let wrong = |error: &dyn std::fmt::Display| {
        let hint = "`squall gameday report DAY --events FILE` writes such a file";
        Failure::usage(format!("{} holds no events of a game day: {error}", file.display()), hint)
    };
    let text =
        std::fs::read(file).map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display()), ""))?;
    let day: Recorded = serde_json::from_slice(&text).map_err(|error| wrong(&error))?;
    match Scorecard::of(&day, None) {
        Some(_) => Ok(day),
        None => Err(wrong(&"it does not begin with its start")),
    }
}

/// From the events, so that an old day is judged by today's rules; beside `since`, or the last one of the same name.
async fn scorecard(client: &Client, day: &Day, since: Option<Recorded>) -> Result<(Recorded, Scorecard), Failure> {
    let status: DayStatus = client.get(&day.path("")?).await.map_err(lists)?;
    let DaySummary { id, name, .. } = &status.summary;
    let last = match since {
        Some(since) => Some(since),
        None => {
            let days: Vec<DaySummary> = client.get("/v1/game-days").await?;
            let before = |other: &&DaySummary| other.id < *id && other.name == *name && other.verdict.is_some();
            match days.iter().find(before) {
                Some(last) => Some(recorded(client, &last.id).await?),
                None => None,
            }
        }
    };
    let day = recorded(client, id).await?;
    let nothing = || Failure::unreachable(format!("of game day {id} nothing is stored"), "");
    let card = Scorecard::of(&day, last.as_ref()).ok_or_else(nothing)?;
    Ok((day, card))
}

async fn recorded(client: &Client, id: &str) -> Result<Recorded, Failure> {
    let day = Day { day: id.to_owned() };
    let events: Vec<DayEvent> = client.get(&day.path("/events?from=0")?).await?;
    let mut runs = BTreeMap::new();
    for event in &events {
        if let Happened::RunStarted { run, .. } = &event.event {
            let of_run: Vec<RunEvent> = client.get(&format!("/v1/runs/{}/events?from=0", escaped(run))).await?;
            runs.insert(run.clone(), of_run);
        }
    }
    Ok(Recorded { id: id.to_owned(), events, runs })
}
