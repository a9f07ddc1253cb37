//! `squall plan`: each effect on each host, and what each agent says of it; nothing is done.

use std::path::PathBuf;

use squall_experiments::api::{Planned, Submit};
use squall_experiments::chaos_toolkit::strategy::Strategy;
use squall_experiments::experiment::Experiment;
use squall_experiments::parse;

use crate::args::{Global, Output};
use crate::coordinator::{Coordinator, LocalArgs};
use crate::exit::{Exit, Failure};
use crate::{chaos_toolkit, experiment_file, paint};

#[derive(clap::Args)]
pub struct Plan {
    /// Experiment file, YAML or JSON (- is the standard input)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    local: LocalArgs,
    /// Of everything random [default: the experiment's own, or a new one]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// For a file in Chaos Toolkit's format: when its hypothesis would be looked at [default: the file's, else default]
    #[arg(long, value_name = "STRATEGY", value_parser = chaos_toolkit::flags::strategy)]
    hypothesis_strategy: Option<Strategy>,
}

impl Plan {
    pub async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let text = experiment_file::text(&self.file)?;
        if parse::is_chaos_toolkit(&text) {
            if self.seed.is_some() || self.local.local {
                let hint = "they are for Squall's own experiments";
                return Err(Failure::usage(
                    "--seed and --local mean nothing for a file in Chaos Toolkit's format",
                    hint,
                ));
            }
            let name = experiment_file::name(&self.file);
            return chaos_toolkit::show_plan(&name, &text, self.hypothesis_strategy, global.output);
        }
        if self.hypothesis_strategy.is_some() {
            let hint = "Squall's own experiments watch their steady state all the time";
            return Err(Failure::usage("--hypothesis-strategy is for files in Chaos Toolkit's format", hint));
        }
        let submit = submit_of(&self.file, experiment_file::parsed_text(&self.file, &text)?, self.seed)?;
        let coordinator = Coordinator::get(&self.local, global).await?;
        let planned: Result<Planned, Failure> = coordinator.client().post("/v1/plans", &submit).await;
        let stopped = coordinator.stop().await;
        let planned = planned?;
        show(&planned, global.output);
        stopped?;
        let refused = planned.checks.iter().any(|checked| !checked.refusals.is_empty());
        Ok(if refused { Exit::Refused } else { Exit::Held })
    }
}

/// The experiment of `file`, ready to be sent.
pub fn submit_of(file: &std::path::Path, experiment: Experiment, seed: Option<u64>) -> Result<Submit, Failure> {
    let experiment = serde_json::to_value(&experiment)
        .map_err(|error| Failure::usage(format!("{} cannot be sent: {error}", file.display()), ""))?;
    Ok(Submit { experiment, seed })
}

fn show(planned: &Planned, output: Output) {
    if output == Output::Json {
        return paint::json(planned);
    }
    paint::say(planned.plan.text().trim_end());
    if planned.checks.is_empty() {
        return;
    }
    paint::say(format!("\n{}", paint::painted(paint::BOLD, "What the agents say (read only, nothing was done)")));
    for checked in &planned.checks {
        let (style, word) =
            if checked.refusals.is_empty() { (paint::GOOD, "would do it") } else { (paint::WRONG, "would refuse") };
        paint::say(format!("  {} on {}: {}", checked.injection, checked.node, paint::painted(style, word)));
        for line in checked.refusals.iter().chain(&checked.notes) {
            paint::say(format!("    {line}"));
        }
    }
}
