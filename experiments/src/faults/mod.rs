//! The one registry of faults. One fault is one file here and one line in [`ALL`]; nothing else matches on a fault's kind.

pub mod cpu_pressure;
mod describe;
pub mod disk_fill;
pub mod host_crash;
pub mod host_freeze;
pub mod memory_pressure;
mod network;
pub mod network_latency;
pub mod network_loss;
pub mod network_partition;
pub mod process_kill;
pub mod process_pause;
pub mod service_restart;
pub mod service_stop;
mod topology;
pub mod traffic_surge;

use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::effect::Effect;
use crate::inventory::{Ability, Inventory, Node};
use crate::plan::LinkMatrix;
use crate::target::{ProcessSelector, Target};

pub use describe::Parameter;

/// A kind of failure. Pure: it says what would be done, and to which node.
pub trait Fault {
    /// Its parameters, with units in their types and their meaning in the doc comments (CLI help, docs and schema read them).
    type With: DeserializeOwned + JsonSchema;
    const NAME: &'static str;
    /// One sentence: what happens to the target.
    const SUMMARY: &'static str;
    /// False: nobody can bring back what was lost (a killed process).
    const REVERSIBLE: bool = true;
    /// Its undo starts services. How long that takes stands in the policies of the nodes, so nobody can say beforehand how long it lasts.
    const STARTS_SERVICES: bool = false;
    /// What of `on:` it uses besides the nodes.
    const ON: On = On::Nodes;
    /// What a node's agent needs for it that is not root, as capabilities(7) names them; for one's own processes and files less may do.
    const CAPABILITIES: &'static [&'static str] = &[];

    /// Mistakes that the types alone cannot show.
    fn check(_with: &Self::With, _on: &Target) -> Vec<Mistake> {
        Vec::new()
    }

    /// Effects for each targeted node.
    fn compile(with: &Self::With, scope: &Scope<'_>) -> Result<Compiled, String>;
}

/// What a fault hits on each node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// The node as a whole.
    Nodes,
    /// `on.processes`, which is required.
    Processes,
    /// `on.interface`, which may be left out: all but loopback; of the network of `on.processes`, where they are given.
    Interface,
    /// `on.path`, which is required.
    Path,
}

/// A mistake in a step, with the place in it: `/with/latency`, `/on/processes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub pointer: String,
    pub message: String,
    pub hint: String,
}

impl Mistake {
    pub fn new(pointer: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Mistake { pointer: pointer.into(), message: message.into(), hint: hint.into() }
    }
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

impl Scope<'_> {
    /// Another seed for each node, the same for the same run and step.
    fn seed_of(&self, node: &Node) -> u64 {
        node.name.bytes().fold(self.seed, |seed, byte| crate::select::mix(seed ^ u64::from(byte)))
    }

    /// All nodes must have it; the refusal names each that has not.
    fn require(&self, ability: Ability, what_for: &str) -> Result<(), String> {
        let missing: Vec<String> = self
            .nodes
            .iter()
            .filter_map(|node| node.facts.cannot(ability).map(|why| format!("{} cannot {what_for}: {why}", node.name)))
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(missing.join("\n")) }
    }

    /// The same effect on every chosen node.
    fn everywhere(&self, mut effect: impl FnMut(&Node) -> Effect) -> Vec<(String, Vec<Effect>)> {
        self.nodes.iter().map(|node| (node.name.clone(), vec![effect(node)])).collect()
    }

    /// `on.processes`, with the run's seed where the author gave none, so that the agent's choice can be repeated.
    fn processes(&self, node: &Node) -> Result<ProcessSelector, String> {
        let mut processes = self.on.processes.clone().ok_or("`on.processes` says which processes; it is missing")?;
        if let Some(pick) = &mut processes.pick {
            pick.seed.get_or_insert_with(|| self.seed_of(node));
        }
        Ok(processes)
    }
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
    pub starts_services: bool,
    pub on: On,
    pub capabilities: &'static [&'static str],
    pub schema: fn() -> Schema,
    pub check: fn(&Map<String, Value>, &Target) -> Vec<Mistake>,
    /// Several reasons of a refusal are separated by line breaks.
    pub compile: fn(&Map<String, Value>, &Scope<'_>) -> Result<Compiled, String>,
}

impl Entry {
    const fn of<F: Fault>() -> Entry {
        Entry {
            name: F::NAME,
            summary: F::SUMMARY,
            reversible: F::REVERSIBLE,
            starts_services: F::STARTS_SERVICES,
            on: F::ON,
            capabilities: F::CAPABILITIES,
            schema: || schemars::schema_for!(F::With),
            check: |with, on| {
                let mut mistakes = F::ON.check(F::NAME, on);
                match serde_json::from_value::<F::With>(Value::Object(with.clone())) {
                    Ok(with) => mistakes.extend(F::check(&with, on)),
                    Err(error) => mistakes.push(Mistake::new("/with", error.to_string(), "")),
                }
                mistakes
            },
            compile: |with, scope| {
                let with = serde_json::from_value(Value::Object(with.clone())).map_err(|e| e.to_string())?;
                F::compile(&with, scope)
            },
        }
    }
}

impl On {
    fn check(self, fault: &str, on: &Target) -> Vec<Mistake> {
        let parts = [
            // A network fault takes them for the network that they are in.
            ("processes", On::Processes, on.processes.is_some() && self != On::Interface),
            ("interface", On::Interface, on.interface.is_some()),
            ("path", On::Path, on.path.is_some()),
        ];
        let mut mistakes = Vec::new();
        for (field, of, given) in parts {
            if given && of != self {
                let message = format!("{fault} does not use `on.{field}`");
                mistakes.push(Mistake::new(format!("/on/{field}"), message, "remove it, or take a fault that uses it"));
            }
        }
        match self {
            On::Processes if on.processes.is_none() => mistakes.push(Mistake::new(
                "/on",
                format!("{fault} needs `on.processes`"),
                "for example `processes: {name: nginx}`, `{port: 5432}` or `{unit: postgresql.service}`",
            )),
            On::Path if on.path.is_none() => mistakes.push(Mistake::new(
                "/on",
                format!("{fault} needs `on.path`"),
                "a directory on the filesystem that is meant, for example `path: /var/lib/postgresql`",
            )),
            _ => {}
        }
        if let Some(path) = on.path.as_ref().filter(|path| !path.starts_with('/')) {
            mistakes.push(Mistake::new("/on/path", format!("`{path}` is not an absolute path"), "begin it with `/`"));
        }
        mistakes
    }
}

/// Every fault that there is.
pub static ALL: &[Entry] = &[
    Entry::of::<process_kill::ProcessKill>(),
    Entry::of::<process_pause::ProcessPause>(),
    Entry::of::<network_latency::NetworkLatency>(),
    Entry::of::<network_loss::NetworkLoss>(),
    Entry::of::<network_partition::NetworkPartition>(),
    Entry::of::<disk_fill::DiskFill>(),
    Entry::of::<cpu_pressure::CpuPressure>(),
    Entry::of::<memory_pressure::MemoryPressure>(),
    Entry::of::<service_stop::ServiceStop>(),
    Entry::of::<service_restart::ServiceRestart>(),
    Entry::of::<host_freeze::HostFreeze>(),
    Entry::of::<host_crash::HostCrash>(),
    Entry::of::<traffic_surge::TrafficSurge>(),
];

pub fn find(name: &str) -> Option<&'static Entry> {
    ALL.iter().find(|entry| entry.name == name)
}
