//! `squall gameday`: a day of experiments with people.

mod report;

use std::path::{Path, PathBuf};
use std::time::Duration;

use squall_experiments::game_day::event::{DayEvent, Happened};
use squall_experiments::game_day::status::{AddNote, Answer, DayCreated, DayPlanned, DayStatus, DaySummary, StartDay};
use squall_experiments::game_day::{DayStep, GameDay, Item, StepKind};
use squall_experiments::parse;
use squall_experiments::report::words;
use squall_experiments::schedule::What;

use crate::args::{Global, Output};
use crate::client::{Client, escaped};
use crate::exit::{Exit, Failure};
use crate::{experiment_file, paint, table};

/// Between two looks at a day that is watched.
const LOOK: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
pub struct Gameday {
    #[command(subcommand)]
    act: Act,
}

#[derive(clap::Subcommand)]
enum Act {
    /// Every mistake of a game day's file and of the files it names
    Validate(File),
    /// Pre-checks, and what each experiment would do to which host; nothing is done
    Plan(File),
    /// Begin a game day and follow it
    Start {
        #[command(flatten)]
        file: File,
        /// Do not follow it
        #[arg(long)]
        no_wait: bool,
    },
    /// All game days, newest first
    List,
    /// Follow a game day; leaving does not stop it
    Watch(Day),
    /// Let a game day that waits go on
    Approve {
        #[command(flatten)]
        day: Day,
        /// Which step, if several wait
        #[arg(long, value_name = "N")]
        step: Option<usize>,
        /// Say no: the day ends here
        #[arg(long)]
        reject: bool,
        /// Goes into the report
        #[arg(long, value_name = "TEXT", default_value = "")]
        comment: String,
    },
    /// Write something down, with its time, for the report
    Note {
        #[command(flatten)]
        day: Day,
        #[arg(value_name = "TEXT")]
        text: String,
    },
    /// The scorecard: Markdown, or files
    Report(report::Report),
    /// End a game day: what it runs is halted, nothing else begins
    Halt(Day),
}

#[derive(clap::Args)]
struct File {
    /// Game day file, YAML or JSON (- is the standard input)
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(clap::Args)]
pub struct Day {
    /// Id of the game day, its beginning or end, or `last`
    #[arg(value_name = "DAY")]
    day: String,
}

impl Day {
    pub fn path(&self, verb: &str) -> Result<String, Failure> {
        if self.day.trim().is_empty() {
            return Err(Failure::usage("a game day's name is empty", "`squall gameday list` lists them"));
        }
        Ok(format!("/v1/game-days/{}{verb}", escaped(&self.day)))
    }
}

impl Gameday {
    pub async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let output = global.output;
        match self.act {
            Act::Validate(File { file }) => {
                let day = whole(&file)?;
                let steps = day.steps().len();
                paint::say(format!("{}: valid: {}, {steps} steps", experiment_file::name(&file), day.metadata.name));
                Ok(Exit::Held)
            }
            Act::Plan(File { file }) => {
                let planned: DayPlanned =
                    Client::of(global.access.as_deref())?.post("/v1/game-days/plan", &body(&file)?).await?;
                Ok(plan(&planned, output))
            }
            Act::Start { file: File { file }, no_wait } => {
                let body = body(&file)?;
                let client = Client::of(global.access.as_deref())?;
                let DayCreated { game_day } = client.post("/v1/game-days", &body).await?;
                if no_wait {
                    match output {
                        Output::Json => paint::json(&DayCreated { game_day }),
                        Output::Text => {
                            paint::say(format!("game day {game_day} began; `squall gameday watch` follows it"))
                        }
                    }
                    return Ok(Exit::Held);
                }
                watch(&client, &Day { day: game_day }, output).await
            }
            Act::List => {
                list(&Client::of(global.access.as_deref())?.get::<Vec<DaySummary>>("/v1/game-days").await?, output);
                Ok(Exit::Held)
            }
            Act::Watch(day) => watch(&Client::of(global.access.as_deref())?, &day, output).await,
            Act::Approve { day, step, reject, comment } => {
                let answer = Answer { step, reject, comment };
                let status = tell(global, &day, "/approve", &answer).await?;
                Ok(told(&status, if reject { "rejected" } else { "approved" }, output))
            }
            Act::Note { day, text } => {
                Ok(told(&tell(global, &day, "/notes", &AddNote { text }).await?, "noted", output))
            }
            Act::Report(wanted) => wanted.run(&Client::of(global.access.as_deref())?, output).await,
            Act::Halt(day) => {
                let nothing = serde_json::json!({});
                Ok(told(&tell(global, &day, "/halt", &nothing).await?, "told to halt", output))
            }
        }
    }
}

async fn tell(global: &Global, day: &Day, verb: &str, body: &impl serde::Serialize) -> Result<DayStatus, Failure> {
    Client::of(global.access.as_deref())?.post(&day.path(verb)?, body).await.map_err(lists)
}

fn lists(failure: Failure) -> Failure {
    match failure.exit {
        Exit::Usage => Failure { hint: "`squall gameday list` lists them".into(), ..failure },
        _ => failure,
    }
}

/// The file's game day with every experiment that it names by file in it.
pub fn whole(file: &Path) -> Result<GameDay, Failure> {
    let text = experiment_file::text(file)?;
    let mut day = parse::game_day(&experiment_file::name(file), &text)
        .map_err(|mistakes| Failure::usage(mistakes.to_string(), ""))?;
    let from = file.parent().unwrap_or(Path::new(""));
    for item in &mut day.agenda {
        read_in(item, from)?;
        for item in item.lanes.iter_mut().flatten().flat_map(|lane| &mut lane.agenda) {
            read_in(item, from)?;
        }
    }
    Ok(day)
}

fn read_in(item: &mut Item, from: &Path) -> Result<(), Failure> {
    if let Some(named) = item.run.as_mut().and_then(|run| run.file.take()) {
        let experiment = experiment_file::parsed(&from.join(named))?;
        item.run = Some(What { experiment: Some(Box::new(experiment)), ..What::default() });
    }
    Ok(())
}

fn body(file: &Path) -> Result<StartDay, Failure> {
    let game_day = serde_json::to_value(whole(file)?)
        .map_err(|error| Failure::usage(format!("{} cannot be sent: {error}", file.display()), ""))?;
    Ok(StartDay { game_day })
}

fn plan(planned: &DayPlanned, output: Output) -> Exit {
    let failed =
        planned.checks.iter().any(|check| !check.ok) || planned.steps.iter().any(|step| !step.reasons.is_empty());
    let exit = if failed { Exit::Refused } else { Exit::Held };
    if output == Output::Json {
        paint::json(planned);
        return exit;
    }
    for check in &planned.checks {
        let (style, word) = if check.ok { (paint::GOOD, "ok") } else { (paint::WRONG, "failed") };
        let (what, detail) = (words::printable(&check.what), words::printable(&check.detail));
        paint::say(format!("{}: {what}: {detail}", paint::painted(style, word)));
    }
    let planned_steps = planned.steps.len();
    for planned in &planned.steps {
        paint::say(format!("\n{}", paint::painted(paint::BOLD, &title(&planned.step, planned_steps))));
        if let Some(plan) = &planned.plan {
            paint::say(plan.text().trim_end());
        }
        for reason in &planned.reasons {
            paint::say(format!("  {}: {}", paint::painted(paint::WRONG, "cannot"), words::printable(reason)));
        }
    }
    exit
}

/// `of`: how many there are.
fn title(step: &DayStep, of: usize) -> String {
    let lane = step.lane.as_ref().map(|lane| format!(" [{lane}]")).unwrap_or_default();
    let kind = match step.kind {
        StepKind::Experiment => "experiment",
        StepKind::Approval => "approval",
        StepKind::Wait => "pause",
    };
    words::printable(&format!("{}/{of}{lane} {kind}: {}", step.step + 1, step.name))
}

fn list(days: &[DaySummary], output: Output) {
    if output == Output::Json {
        return paint::json(&days);
    }
    if days.is_empty() {
        return paint::say("no game days yet; `squall gameday start FILE` begins one");
    }
    let rows = days.iter().map(|day| {
        [
            day.id.chars().skip(day.id.chars().count().saturating_sub(12)).collect(),
            words::printable(&day.name),
            day.verdict.map_or("under way", |verdict| words::verdict(verdict).0).to_lowercase(),
            words::wall(day.started_wall_ms),
            words::time(day.duration_us),
            words::printable(&day.by),
        ]
    });
    table::show(["DAY", "NAME", "VERDICT", "STARTED", "TOOK", "BY"], rows);
}

fn told(status: &DayStatus, word: &str, output: Output) -> Exit {
    match output {
        Output::Json => paint::json(status),
        Output::Text => paint::say(format!("game day {}: {word}", words::printable(&status.summary.name))),
    }
    Exit::Held
}

/// Line by line, until it ends; the verdict is the exit code.
async fn watch(client: &Client, day: &Day, output: Output) -> Result<Exit, Failure> {
    let status: DayStatus = client.get(&day.path("")?).await.map_err(lists)?;
    let steps: Vec<DayStep> = status.steps.into_iter().map(|step| step.step).collect();
    let day = Day { day: status.summary.id };
    let mut next = 0;
    loop {
        let events: Vec<DayEvent> = client.get(&day.path(&format!("/events?from={next}"))?).await?;
        for event in &events {
            next = event.seq + 1;
            match output {
                Output::Json => paint::say(serde_json::to_string(event).unwrap_or_default()),
                Output::Text => line(event, &steps),
            }
            if let Happened::Finished { verdict, .. } = event.event {
                return Ok(Exit::Run(verdict));
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn line(event: &DayEvent, steps: &[DayStep]) {
    let title = |step: &usize| steps.get(*step).map(|step| title(step, steps.len())).unwrap_or_default();
    let said = match &event.event {
        Happened::Started { by, day } => format!("game day {} began, by {by}: {}", day.metadata.name, day.hypothesis),
        Happened::Checked { what, ok, detail } => format!("{}: {what}: {detail}", if *ok { "ok" } else { "FAILED" }),
        Happened::SteadyStateTold { holds: true, .. } => "the steady state holds".to_owned(),
        Happened::SteadyStateTold { detail, .. } => format!("the steady state does not hold: {detail}"),
        Happened::StepStarted { step } if steps.get(*step).is_some_and(|step| step.kind == StepKind::Approval) => {
            format!("{} (`squall gameday approve last` goes on)", title(step))
        }
        Happened::StepStarted { step } => title(step),
        Happened::RunStarted { run, .. } => format!("   run {run}"),
        Happened::StepEnded { verdict: Some(verdict), detail, .. } => {
            format!("   {}: {detail}", words::verdict(*verdict).0.to_lowercase())
        }
        Happened::Approved { by, comment, .. } => format!("   approved by {by} {comment}"),
        Happened::Rejected { by, comment, .. } => format!("   rejected by {by} {comment}"),
        Happened::Note { by, text } => format!("note by {by}: {text}"),
        Happened::HaltRequested { by } => format!("halt, by {by}"),
        Happened::Resumed => "another coordinator goes on with it".to_owned(),
        Happened::Aborted { reason } => format!("ends early: {reason}"),
        Happened::Finished { verdict, why } => format!("{}: {why}", words::verdict(*verdict).0),
        Happened::SteadyStateAsked | Happened::SteadyStateMeasuring { .. } | Happened::StepEnded { .. } => return,
    };
    paint::say(format!("{:>10}  {}", words::time(event.at_us), words::printable(said.trim_end())));
}
