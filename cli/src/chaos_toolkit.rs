//! Experiments in Chaos Toolkit's format: `squall plan` here, `squall run` in [`run`].

pub mod flags;
pub mod from_url;
pub mod run;
mod settings;

use serde_json::{Value, json};
use squall_experiments::chaos_toolkit::controls;
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
    let controls = controls::declared(&experiment.raw);
    let controls = controls
        .iter()
        .filter_map(|control| Some((control.get("name")?.as_str()?, control.pointer("/provider/module")?.as_str()?)));
    if output == Output::Json {
        let controls: Vec<Value> = controls.map(|(name, module)| json!({"name": name, "module": module})).collect();
        paint::json(&json!({"title": experiment.title, "phases": phases, "controls": controls}));
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
    let mut controls = controls.map(|(name, module)| format!("  {name}: {module}")).peekable();
    if controls.peek().is_some() {
        lines.push(format!("\n{}", paint::painted(paint::BOLD, "Controls")));
        lines.extend(controls);
    }
    paint::say(squall_experiments::mistake::harmless(lines.join("\n")));
    Ok(Exit::Held)
}
