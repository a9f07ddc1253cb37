//! `host-crash`: every process of a host dies in the same moment, as in a crash. The fault's time is how long the host is down;
//! then the services that are named are started. Its kernel lives on, so peers get a reset and not silence: a partition of the
//! same host beside it makes the silence of a power cut.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::service_stop::named;
use super::{Compiled, Fault, Mistake, Scope};
use crate::effect::{Effect, HostWide};
use crate::inventory::Ability;
use crate::target::Target;

pub struct HostCrash;

/// Services of one order; the agent takes no more effects than that either.
const MOST_SERVICES: usize = 16;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct With {
    /// Services to start when the fault ends, in this order, by their names under `services:` in the node's policy. Without it
    /// Squall starts nothing: whatever supervises the host has to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart: Vec<String>,
}

impl Fault for HostCrash {
    type With = With;
    const NAME: &'static str = "host-crash";
    const SUMMARY: &'static str = "Kills every process of a host at once, but Squall's own and protected ones.";
    const REVERSIBLE: bool = false;
    const STARTS_SERVICES: bool = true;
    const CAPABILITIES: &'static [&'static str] = &["CAP_KILL", "CAP_SYS_PTRACE"];

    fn check(with: &With, _on: &Target) -> Vec<Mistake> {
        let each = with.restart.iter().enumerate();
        let mut mistakes: Vec<_> =
            each.flat_map(|(index, service)| named(&format!("/with/restart/{index}"), service)).collect();
        if with.restart.len() > MOST_SERVICES {
            let message = format!("{} services to start, more than {MOST_SERVICES}", with.restart.len());
            mistakes.push(Mistake::new("/with/restart", message, "name those that do not start each other"));
        }
        mistakes
    }

    fn compile(with: &With, scope: &Scope<'_>) -> Result<Compiled, String> {
        scope.require(Ability::ProcessFreeze, "stop all its processes before they are killed")?;
        scope.require(Ability::ProcessSignal, "signal processes")?;
        let effects = scope.everywhere(|_| Effect::Host(HostWide::Crash { restart: with.restart.clone() }));
        let notes = vec!["host-crash cannot be undone: what the processes hold in memory is lost".to_owned()];
        Ok(Compiled { effects, links: None, notes })
    }
}
