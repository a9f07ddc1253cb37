//! The one registry of faults. One fault is one file here and one line in [`ALL`]; nothing else matches on a fault's kind.

use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::effect::Effect;
use crate::inventory::{Inventory, Node};
use crate::plan::LinkMatrix;
use crate::target::Target;

/// A kind of failure. Pure: it says what would be done, and to which node.
pub trait Fault {
    /// Its parameters, with units in their types and their meaning in the doc comments (CLI help, docs and schema read them).
    type With: DeserializeOwned + JsonSchema;
    const NAME: &'static str;
    /// One sentence: what happens to the target.
    const SUMMARY: &'static str;
    /// False: nobody can bring back what was lost (a killed process).
    const REVERSIBLE: bool = true;

    /// Mistakes that the types alone cannot show.
    fn check(_with: &Self::With, _on: &Target) -> Vec<Mistake> {
        Vec::new()
    }

    /// Effects for each targeted node.
    fn compile(with: &Self::With, scope: &Scope<'_>) -> Result<Compiled, String>;
}

/// A mistake in a step, with the place in it: `/with/latency`, `/on/processes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub pointer: String,
    pub message: String,
    pub hint: String,
}

/// What a fault compiles against.
pub struct Scope<'a> {
    pub on: &'a Target,
    /// The nodes chosen by `on`, in name order; never empty.
    pub nodes: Vec<&'a Node>,
    pub inventory: &'a Inventory,
    /// Drawn from the run's seed for this step.
    pub seed: u64,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Compiled {
    /// (node, its effects). A node may be left out (a topology that does not touch it).
    pub effects: Vec<(String, Vec<Effect>)>,
    pub links: Option<LinkMatrix>,
    pub notes: Vec<String>,
}

/// A fault of the registry, its parameter type erased.
pub struct Entry {
    pub name: &'static str,
    pub summary: &'static str,
    pub reversible: bool,
    pub schema: fn() -> Schema,
    pub check: fn(&Map<String, Value>, &Target) -> Vec<Mistake>,
    pub compile: fn(&Map<String, Value>, &Scope<'_>) -> Result<Compiled, String>,
}

impl Entry {
    const fn of<F: Fault>() -> Entry {
        Entry {
            name: F::NAME,
            summary: F::SUMMARY,
            reversible: F::REVERSIBLE,
            schema: || schemars::schema_for!(F::With),
            check: |with, on| match serde_json::from_value::<F::With>(Value::Object(with.clone())) {
                Ok(with) => F::check(&with, on),
                Err(error) => {
                    vec![Mistake { pointer: "/with".into(), message: error.to_string(), hint: String::new() }]
                }
            },
            compile: |with, scope| {
                let with = serde_json::from_value(Value::Object(with.clone())).map_err(|e| e.to_string())?;
                F::compile(&with, scope)
            },
        }
    }
}

/// Every fault that there is.
pub static ALL: &[Entry] = &[];

pub fn find(name: &str) -> Option<&'static Entry> {
    ALL.iter().find(|entry| entry.name == name)
}
