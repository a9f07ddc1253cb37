//! `squall halt`: stop, undo, and see that it is undone.

use squall_experiments::run_event::Verdict;

use crate::args::{Global, Output};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::follow::{Ended, OnInterrupt, follow, halt};
use crate::interrupts::Interrupts;
use crate::paint;
use crate::progress::Progress;
use squall_experiments::report::{Report, words};
use squall_experiments::run_event::RunEvent;

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// Id of the run, its beginning or end, or `last`
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// Every run of this coordinator
    #[arg(long)]
    all: bool,
}

#[derive(clap::Args)]
pub struct Halt {
    #[command(flatten)]
    which: Which,
    /// Do not wait until everything is seen to be undone
    #[arg(long)]
    no_wait: bool,
}

/// Waits in silence.
struct Silent;

impl Progress for Silent {
    fn event(&mut self, _: &RunEvent) {}
    fn say(&mut self, text: &str) {
        paint::warn(text);
    }
}

impl Halt {
    pub async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let client = Client::of(global.access.as_deref())?;
        let mut interrupts = Interrupts::new()?;
        let runs = halt(&client, self.which.run.as_deref().filter(|_| !self.which.all)).await?.runs;
        let text = global.output == Output::Text;
        if text && runs.is_empty() {
            paint::say("nothing to halt: no run is active");
        }
        let mut exit = Exit::Held;
        let mut ends = Vec::new();
        for run in &runs {
            if self.no_wait {
                if text {
                    paint::say(format!("{run}: told to halt"));
                }
                continue;
            }
            match follow(&client, run, &mut Silent, OnInterrupt::Leave, &mut interrupts).await? {
                Ended::Finished(events) => {
                    let report = Report::of(run, &events);
                    if report.verdict.is_none_or(|verdict| verdict == Verdict::Dirty) {
                        exit = Exit::Dirty;
                    }
                    if text {
                        let word = report.verdict.map_or("not ended", |verdict| words::verdict(verdict).0);
                        let style = paint::of_verdict(report.verdict);
                        paint::say(format!(
                            "{run}: {}. {}",
                            paint::painted(style, word),
                            words::printable(&report.why)
                        ));
                    }
                    ends.push(serde_json::json!({"run": run, "verdict": report.verdict, "why": report.why}));
                }
                Ended::Left => return Ok(Exit::Dirty),
            }
        }
        if !text {
            paint::json(&serde_json::json!({"runs": runs, "ended": ends}));
        }
        Ok(exit)
    }
}
