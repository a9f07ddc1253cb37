//! `squall validate`: all mistakes of all files, without a coordinator.

use std::path::PathBuf;

use serde_json::json;
use squall_experiments::mistake::Mistakes;
use squall_experiments::parse;

use crate::args::{Global, Output};
use crate::exit::{Exit, Failure};
use crate::{experiment_file, paint};

#[derive(clap::Args)]
pub struct Validate {
    /// Experiment, schedule or game day files, YAML or JSON (- is the standard input)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Validate {
    pub fn run(self, global: &Global) -> Result<Exit, Failure> {
        let json_wanted = global.output == Output::Json;
        let mut answers = Vec::new();
        let mut exit = Exit::Held;
        for path in &self.files {
            let file = experiment_file::name(path);
            let text = match experiment_file::text(path) {
                Ok(text) => text,
                Err(failure) => {
                    exit = Exit::Usage;
                    if json_wanted {
                        let mistake = json!({"line": 0, "column": 0, "pointer": "", "message": failure.message, "hint": failure.hint});
                        answers.push(json!({"file": file, "valid": false, "mistakes": [mistake]}));
                    } else {
                        paint::complain(&failure);
                    }
                    continue;
                }
            };
            match read(&file, &text) {
                Ok((name, _)) if json_wanted => {
                    answers.push(json!({"file": file, "valid": true, "name": name, "mistakes": []}));
                }
                Ok((name, what)) => {
                    paint::say(format!("{file}: {}: {name}, {what}", paint::painted(paint::GOOD, "valid")));
                }
                Err(mistakes) => {
                    exit = Exit::Usage;
                    if json_wanted {
                        let listed = mistakes.mistakes.iter().map(|m| {
                            json!({"line": m.line, "column": m.column, "pointer": m.pointer, "message": m.message, "hint": m.hint})
                        });
                        answers.push(json!({"file": file, "valid": false, "mistakes": listed.collect::<Vec<_>>()}));
                    } else {
                        paint::blame(&mistakes.to_string());
                    }
                }
            }
        }
        if json_wanted {
            paint::json(&answers);
        }
        Ok(exit)
    }
}

/// Its name, and what is in it, by the kind that it says it is.
fn read(file: &str, text: &str) -> Result<(String, String), Mistakes> {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    Ok(match parse::kind(text).as_str() {
        "Schedule" => {
            let schedule = parse::schedule(file, text)?;
            let what = format!("{} on the clocks of {}", schedule.cron, schedule.time_zone);
            (schedule.metadata.name, what)
        }
        "GameDay" => {
            let day = parse::game_day(file, text)?;
            let steps = day.steps().len();
            (day.metadata.name, count(steps, "step"))
        }
        _ if parse::is_chaos_toolkit(text) => {
            let experiment = parse::chaos_toolkit(file, text)?;
            let (probes, steps) = (experiment.hypothesis.map_or(0, |h| h.probes.len()), experiment.method.len());
            let what = format!("Chaos Toolkit format, {}, {}", count(probes, "probe"), count(steps, "step"));
            (experiment.title, what)
        }
        _ => {
            let experiment = parse::parse(file, text)?;
            let (probes, steps) = (experiment.steady_state.len(), experiment.method.len());
            (experiment.metadata.name, format!("{}, {}", count(probes, "probe"), count(steps, "step")))
        }
    })
}
