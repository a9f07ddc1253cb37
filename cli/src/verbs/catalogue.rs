//! `squall catalogue`: experiments and game days to run, to copy and to change.

use serde_json::json;
use squall_experiments::{catalogue, parse, suggest};

use crate::args::{Global, Output};
use crate::exit::{Exit, Failure};
use crate::paint::{self, painted};

#[derive(clap::Args)]
pub struct Catalogue {
    /// Print this one
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

impl Catalogue {
    pub fn run(self, global: &Global) -> Result<Exit, Failure> {
        let json_wanted = global.output == Output::Json;
        let parsed = |name: &str, text| parse::parse(name, text).ok();
        if let Some(name) = self.name {
            if let Some(text) = catalogue::find_game_day(&name) {
                match parse::game_day(&name, text) {
                    Ok(day) if json_wanted => paint::json(&day),
                    _ => paint::raw(text),
                }
                return Ok(Exit::Held);
            }
            let text = catalogue::find(&name).ok_or_else(|| {
                let names = catalogue::everything().chain(catalogue::GAME_DAYS.iter().copied()).map(|(name, _)| name);
                let near = suggest::closest(&name, names);
                let hint = near.map_or_else(
                    || "`squall catalogue` lists them".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                );
                Failure::usage(format!("there is no experiment and no game day `{name}` in the catalogue"), hint)
            })?;
            match parsed(&name, text) {
                Some(experiment) if json_wanted => paint::json(&experiment),
                _ => paint::raw(text),
            }
            return Ok(Exit::Held);
        }
        let list = |of: &'static [(&'static str, &'static str)]| {
            of.iter().filter_map(move |(name, text)| Some((*name, parsed(name, text)?)))
        };
        let game_days = || {
            let of = catalogue::GAME_DAYS.iter();
            of.filter_map(|(name, text)| Some((*name, parse::game_day(name, text).ok()?)))
        };
        let suites = catalogue::SUITES.iter().map(|suite| (Some(suite), suite.experiments));
        let groups = std::iter::once((None, catalogue::ALL)).chain(suites);
        if json_wanted {
            let experiments = groups.flat_map(|(suite, of)| {
                list(of).map(move |(name, experiment)| {
                    let suite = suite.map(|suite| suite.name);
                    json!({"name": name, "suite": suite, "description": experiment.metadata.description, "hypothesis": experiment.hypothesis})
                })
            });
            let days = game_days().map(|(name, day)| {
                json!({"name": name, "gameDay": true, "description": day.metadata.description, "hypothesis": day.hypothesis})
            });
            paint::json(&experiments.chain(days).collect::<Vec<_>>());
        } else {
            let width = catalogue::everything().map(|(name, _)| name.len()).max().unwrap_or(0);
            for (suite, of) in groups {
                if let Some(suite) = suite {
                    paint::say(format!("\n{}: {}", painted(paint::BOLD, suite.name), suite.question));
                }
                for (name, experiment) in list(of) {
                    let name = painted(paint::BOLD, &format!("{name:<width$}"));
                    paint::say(format!("{name}  {}", experiment.hypothesis));
                }
            }
            paint::say(format!("\n{}: several suites in a row", painted(paint::BOLD, "game days")));
            for (name, day) in game_days() {
                let name = painted(paint::BOLD, &format!("{name:<width$}"));
                paint::say(format!("{name}  {}", day.metadata.description));
            }
            paint::say("\n`squall catalogue NAME > FILE` writes one to a file");
        }
        Ok(Exit::Held)
    }
}
