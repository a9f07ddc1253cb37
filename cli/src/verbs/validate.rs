//! `squall validate`: all mistakes of all files, without a coordinator.

use std::path::PathBuf;

use serde_json::json;
use squall_experiments::parse;

use crate::args::{Global, Output};
use crate::exit::{Exit, Failure};
use crate::{experiment_file, paint};

#[derive(clap::Args)]
pub struct Validate {
    /// Experiment files, YAML or JSON (- is the standard input)
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
            match parse::parse(&file, &text) {
                Ok(experiment) if json_wanted => {
                    answers
                        .push(json!({"file": file, "valid": true, "name": experiment.metadata.name, "mistakes": []}));
                }
                Ok(experiment) => {
                    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
                    paint::say(format!(
                        "{file}: {}: {}, {}, {}",
                        paint::painted(paint::GOOD, "valid"),
                        experiment.metadata.name,
                        count(experiment.steady_state.len(), "probe"),
                        count(experiment.method.len(), "step"),
                    ));
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
