//! `squall faults`: read from the registry, so that every fault is here.

use serde_json::json;
use squall_experiments::faults::{self, Entry, On};
use squall_experiments::suggest;

use crate::args::{Global, Output};
use crate::exit::{Exit, Failure};
use crate::paint::{self, painted};

#[derive(clap::Args)]
pub struct Faults {
    /// Show this one with its parameters
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

impl Faults {
    pub fn run(self, global: &Global) -> Result<Exit, Failure> {
        let json_wanted = global.output == Output::Json;
        match self.name {
            None if json_wanted => paint::json(&faults::ALL.iter().map(brief).collect::<Vec<_>>()),
            None => {
                let width = faults::ALL.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
                for entry in faults::ALL {
                    paint::say(format!(
                        "{}  {}",
                        painted(paint::BOLD, &format!("{:<width$}", entry.name)),
                        entry.summary
                    ));
                }
            }
            Some(name) => {
                let entry = faults::find(&name).ok_or_else(|| {
                    let hint = suggest::closest(&name, faults::ALL.iter().map(|entry| entry.name));
                    Failure::usage(
                        format!("there is no fault `{name}`"),
                        hint.map_or_else(
                            || "`squall faults` lists them".to_owned(),
                            |near| format!("did you mean `{near}`?"),
                        ),
                    )
                })?;
                if json_wanted {
                    let mut value = brief(entry);
                    value["with"] = (entry.schema)().to_value();
                    paint::json(&value);
                } else {
                    show(entry);
                }
            }
        }
        Ok(Exit::Held)
    }
}

fn brief(entry: &Entry) -> serde_json::Value {
    json!({"name": entry.name, "capabilities": entry.capabilities, "summary": entry.summary, "reversible": entry.reversible})
}

fn show(entry: &Entry) {
    paint::say(format!("{}: {}", painted(paint::BOLD, entry.name), entry.summary));
    let needs = match entry.on {
        On::Nodes => "on: nodes",
        On::Processes => "on: nodes and processes (required)",
        On::Interface => {
            "on: nodes, and an interface (without it: all but loopback); with processes in the network that these have for themselves (a container's)"
        }
        On::Path => "on: nodes and a path (required)",
    };
    paint::say(needs);
    if !entry.capabilities.is_empty() {
        paint::say(format!("An agent that is not root needs: {}", entry.capabilities.join(", ")));
    }
    if !entry.reversible {
        paint::say("Nobody can bring back what is lost: the node's policy must allow it.");
    }
    let parameters = entry.parameters();
    if !parameters.is_empty() {
        paint::say("\nwith:");
    }
    for parameter in parameters {
        let state = match (parameter.required, &parameter.default) {
            (true, _) => "required".to_owned(),
            (false, Some(default)) => format!("default {default}"),
            (false, None) => "optional".to_owned(),
        };
        paint::say(format!(
            "  {}: {} {}",
            painted(paint::BOLD, &parameter.name),
            parameter.kind,
            painted(paint::QUIET, &format!("({state})"))
        ));
        if !parameter.meaning.is_empty() {
            paint::say(format!("      {}", parameter.meaning));
        }
    }
}
