//! Experiments in Chaos Toolkit's format: `squall plan` here, `squall run` in [`run`].

pub mod flags;
pub mod run;

use serde_json::{Value, json};
use squall_experiments::chaos_toolkit::plan::plan;
use squall_experiments::chaos_toolkit::strategy::Strategy;
use squall_experiments::parse;

use crate::args::Output;
use crate::exit::{Exit, Failure};
use crate::paint;

/// Shows each phase and its activities; nothing is done.
pub fn show_plan(file: &str, text: &str, strategy: Option<Strategy>, output: Output) -> Result<Exit, Failure> {
    let experiment = parse::chaos_toolkit(file, text).map_err(|mistakes| Failure::usage(mistakes.to_string(), ""))?;
    let phases = plan(&experiment, strategy.or(experiment.strategy).unwrap_or_default());
    if output == Output::Json {
        paint::json(&json!({"title": experiment.title, "phases": phases}));
        return Ok(Exit::Held);
    }
    let mut lines = vec![paint::painted(paint::BOLD, &experiment.title)];
    for phase in &phases {
        lines.push(format!("\n{}", paint::painted(paint::BOLD, phase.phase.title())));
        for activity in &phase.activities {
            let background = if activity.background { ", in the background" } else { "" };
            lines.push(format!("  {} {}{background}: {}", activity.kind, activity.name, activity.does));
            for (pause, word) in [(&activity.pause_before, "before"), (&activity.pause_after, "after")] {
                match pause {
                    Value::Null => {}
                    Value::String(name) => lines.push(format!("    pause {word}: {name}")),
                    seconds => lines.push(format!("    pause {word}: {seconds} s")),
                }
            }
            if !activity.tolerance.is_null() {
                lines.push(format!("    tolerance: {}", activity.tolerance));
            }
        }
    }
    paint::say(squall_experiments::mistake::harmless(lines.join("\n")));
    Ok(Exit::Held)
}
