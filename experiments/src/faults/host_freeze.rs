//! `host-freeze`: every process of a host stands still at once, as when a hypervisor stalls; its kernel still answers pings and
//! accepts connections.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Compiled, Fault, Scope};
use crate::effect::{Effect, HostWide};
use crate::inventory::Ability;

pub struct HostFreeze;

/// It has no parameters: `for` says how long, `pulse` whether by turns. The node's policy must name `freeze` under `wholeHost`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct With {}

impl Fault for HostFreeze {
    type With = With;
    const NAME: &'static str = "host-freeze";
    const SUMMARY: &'static str = "Stops every process of a host but Squall's own and protected ones; they go on where they were when the fault ends.";
    const CAPABILITIES: &'static [&'static str] = &["CAP_SYS_PTRACE"];

    fn compile(_with: &With, scope: &Scope<'_>) -> Result<Compiled, String> {
        scope.require(Ability::ProcessFreeze, "stop all its processes")?;
        Ok(Compiled { effects: scope.everywhere(|_| Effect::Host(HostWide::Freeze)), ..Compiled::default() })
    }
}
