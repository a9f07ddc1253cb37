//! `squall schedule`: what starts by itself, and when.

use std::path::{Path, PathBuf};

use squall_experiments::parse;
use squall_experiments::report::words;
use squall_experiments::schedule::firing::{AddSchedule, Calendar, Firing, Outcome, ScheduleInfo};
use squall_experiments::schedule::slots::Slot;
use squall_experiments::schedule::{Schedule as Written, What};

use crate::args::{Global, Output};
use crate::client::{Client, escaped};
use crate::exit::{Exit, Failure};
use crate::{experiment_file, paint, table};

#[derive(clap::Args)]
pub struct Schedule {
    #[command(subcommand)]
    act: Act,
}

#[derive(clap::Subcommand)]
enum Act {
    /// All of them, with their next slots
    List,
    /// Keep the schedule of a file; it starts runs in your name from now on
    Add {
        /// Schedule file, YAML or JSON (- is the standard input)
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Instead of the one of the same name
        #[arg(long)]
        replace: bool,
    },
    /// Forget it; what it started goes on
    Remove(Name),
    /// Let nothing be started by it (everyone may)
    Pause(Name),
    /// Let it start things again, from now on
    Resume(Name),
    /// Start what it runs now, whatever its hours are
    RunNow(Name),
    /// When it is due next; without a name: what is due next of all
    Next {
        #[arg(value_name = "NAME")]
        name: Option<String>,
        /// How many slots, at most 100
        #[arg(long, value_name = "N", default_value_t = 10)]
        count: u32,
    },
    /// What became of its slots, newest first
    History(Name),
}

#[derive(clap::Args)]
struct Name {
    /// Of the schedule
    #[arg(value_name = "NAME")]
    name: String,
}

impl Schedule {
    pub async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let act = match self.act {
            Act::Add { file, replace } => {
                // Its mistakes are found before anybody is asked.
                let body = AddSchedule { schedule: whole(&file)?, replace };
                let info: ScheduleInfo = Client::of(global.access.as_deref())?.post("/v1/schedules", &body).await?;
                return Ok(changed(&info, "added", global.output));
            }
            act => act,
        };
        let client = Client::of(global.access.as_deref())?;
        let output = global.output;
        let nothing = serde_json::json!({});
        let post = |name: String, verb: &'static str| {
            let (client, nothing) = (&client, &nothing);
            async move { client.post::<ScheduleInfo>(&path(&name, verb)?, nothing).await.map_err(lists) }
        };
        match act {
            Act::Add { .. } => {}
            Act::List => list(&client.get::<Vec<ScheduleInfo>>("/v1/schedules").await?, output),
            Act::Remove(Name { name }) => {
                let info: ScheduleInfo = client.delete(&path(&name, "")?).await.map_err(lists)?;
                return Ok(changed(&info, "removed", output));
            }
            Act::Pause(Name { name }) => return Ok(changed(&post(name, "/pause").await?, "paused", output)),
            Act::Resume(Name { name }) => return Ok(changed(&post(name, "/resume").await?, "resumed", output)),
            Act::RunNow(Name { name }) => {
                let firing: Firing = client.post(&path(&name, "/run")?, &nothing).await.map_err(lists)?;
                return Ok(fired(&firing, output));
            }
            Act::Next { name: Some(name), count } => {
                let path = format!("{}?count={count}", path(&name, "/next")?);
                let slots: Vec<Slot> = client.get(&path).await.map_err(lists)?;
                next(slots.iter().map(|slot| (name.as_str(), slot)), output, &slots);
            }
            Act::Next { name: None, count } => {
                let mut calendar: Calendar = client.get("/v1/calendar?days=366").await?;
                calendar.ahead.truncate(usize::try_from(count).unwrap_or(usize::MAX));
                let due = calendar.ahead.iter().map(|due| (due.schedule.as_str(), &due.slot));
                next(due, output, &calendar.ahead);
            }
            Act::History(Name { name }) => {
                history(&client.get::<Vec<Firing>>(&path(&name, "/firings")?).await.map_err(lists)?, output);
            }
        }
        Ok(Exit::Held)
    }
}

fn path(name: &str, verb: &str) -> Result<String, Failure> {
    if name.trim().is_empty() {
        return Err(Failure::usage("a schedule's name is empty", "`squall schedule list` lists them"));
    }
    Ok(format!("/v1/schedules/{}{verb}", escaped(name)))
}

fn lists(failure: Failure) -> Failure {
    match failure.exit {
        Exit::Usage => Failure { hint: "`squall schedule list` lists them".into(), ..failure },
        _ => failure,
    }
}

/// The file's schedule with what it runs in it, ready to be sent.
fn whole(file: &Path) -> Result<serde_json::Value, Failure> {
    let text = experiment_file::text(file)?;
    let mut schedule: Written = parse::schedule(&experiment_file::name(file), &text)
        .map_err(|mistakes| Failure::usage(mistakes.to_string(), ""))?;
    if let Some(named) = schedule.run.file.take() {
        // From where the schedule is, wherever the caller is.
        let path = file.parent().unwrap_or(Path::new("")).join(named);
        schedule.run = match parse::kind(&experiment_file::text(&path)?).as_str() {
            "GameDay" => What { game_day: Some(Box::new(super::gameday::whole(&path)?)), ..What::default() },
            _ => What { experiment: Some(Box::new(experiment_file::parsed(&path)?)), ..What::default() },
        };
    }
    serde_json::to_value(&schedule)
        .map_err(|error| Failure::usage(format!("{} cannot be sent: {error}", file.display()), ""))
}

fn changed(info: &ScheduleInfo, change: &str, output: Output) -> Exit {
    if output == Output::Json {
        paint::json(info);
        return Exit::Held;
    }
    let next = match &info.next {
        Some(slot) if change != "removed" => format!(", next at {}", words::printable(&slot.local)),
        _ => String::new(),
    };
    paint::say(format!("{}: {change}{next}", words::printable(&info.schedule.metadata.name)));
    Exit::Held
}

fn fired(firing: &Firing, output: Output) -> Exit {
    if output == Output::Json {
        paint::json(firing);
    } else {
        match &firing.run {
            Some(run) => paint::say(format!("run {run} started; `squall watch {run}` follows it")),
            None => paint::warn(format!("nothing was started: {}", firing.detail)),
        }
    }
    if firing.outcome == Outcome::Started { Exit::Held } else { Exit::Refused }
}

fn list(infos: &[ScheduleInfo], output: Output) {
    if output == Output::Json {
        return paint::json(&infos);
    }
    if infos.is_empty() {
        return paint::say("no schedules yet; `squall schedule add FILE` adds one");
    }
    let rows = infos.iter().map(|info| {
        let state = match (&info.next, info.paused, info.schedule.enabled) {
            (_, true, _) => "paused".to_owned(),
            (_, _, false) => "not enabled".to_owned(),
            (Some(slot), ..) => words::printable(&slot.local),
            (None, ..) => "never again".to_owned(),
        };
        let last = info.last.as_ref().map_or_else(String::new, |firing| word(firing.outcome).to_owned());
        let what = match &info.schedule.run {
            What { catalogue: Some(name), .. } => name.clone(),
            What { experiment: Some(experiment), .. } => experiment.metadata.name.clone(),
            What { game_day: Some(day), .. } => day.metadata.name.clone(),
            What { file, .. } => file.clone().unwrap_or_default(),
        };
        [
            words::printable(&info.schedule.metadata.name),
            info.schedule.cron.to_string(),
            info.schedule.time_zone.to_string(),
            words::printable(&what),
            state,
            last,
            words::printable(&info.owner),
        ]
    });
    table::show(["SCHEDULE", "CRON", "ZONE", "RUNS", "NEXT", "LAST", "OWNER"], rows);
}

fn next<'a>(slots: impl Iterator<Item = (&'a str, &'a Slot)>, output: Output, whole: &impl serde::Serialize) {
    if output == Output::Json {
        return paint::json(whole);
    }
    let mut slots = slots.peekable();
    if slots.peek().is_none() {
        return paint::say("nothing is due");
    }
    let rows = slots.map(|(name, slot)| {
        let moved = if slot.moved { "moved to where the clocks jump" } else { "" };
        [words::printable(&slot.local), words::printable(name), moved.to_owned()]
    });
    table::show(["AT", "SCHEDULE", ""], rows);
}

fn history(firings: &[Firing], output: Output) {
    if output == Output::Json {
        return paint::json(&firings);
    }
    if firings.is_empty() {
        return paint::say("it has not fired yet");
    }
    let rows = firings.iter().map(|firing| {
        [
            words::wall(firing.slot_ms.unsigned_abs()),
            word(firing.outcome).to_owned(),
            firing.run.clone().unwrap_or_default(),
            words::printable(&firing.detail),
        ]
    });
    table::show(["SLOT", "OUTCOME", "RUN", "DETAIL"], rows);
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Starting => "starting",
        Outcome::Started => "started",
        Outcome::Refused => "refused",
        Outcome::Missed => "missed",
        Outcome::Busy => "busy",
        Outcome::Lost => "lost",
    }
}
