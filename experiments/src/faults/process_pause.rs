//! `process-pause`: every thread of the processes stands still; sockets stay open and buffers fill.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Compiled, Fault, On, Scope};
use crate::effect::{Effect, Freeze};
use crate::inventory::Ability;

pub struct ProcessPause;

/// It has no parameters: `on.processes` says which, `for` how long, `pulse` whether by turns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct With {}

impl Fault for ProcessPause {
    type With = With;
    const NAME: &'static str = "process-pause";
    const SUMMARY: &'static str =
        "Stops processes without ending them; they go on where they were when the fault ends.";
    const ON: On = On::Processes;
    const CAPABILITIES: &'static [&'static str] = &["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"];

    fn compile(_with: &With, scope: &Scope<'_>) -> Result<Compiled, String> {
        scope.require(Ability::ProcessFreeze, "pause processes")?;
        let mut effects = Vec::new();
        for node in &scope.nodes {
            effects.push((node.name.clone(), vec![Effect::Freeze(Freeze { processes: scope.processes(node)? })]));
        }
        Ok(Compiled { effects, ..Compiled::default() })
    }
}
