//! `service-stop`: a service is stopped in its own orderly way, stays down, and is started again at the end.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Compiled, Fault, Mistake, Scope};
use crate::effect::{Effect, Unit, UnitAction};
use crate::target::Target;

pub struct ServiceStop;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct With {
    /// Which service, by its name under `services:` in the policy of each node. The policy says how it is stopped and started
    /// (a systemd unit, or programs with their arguments); an experiment cannot.
    pub service: String,
}

impl Fault for ServiceStop {
    type With = With;
    const NAME: &'static str = "service-stop";
    const SUMMARY: &'static str = "Stops a service as its operator would, and starts it again when the fault ends.";
    const STARTS_SERVICES: bool = true;

    fn check(with: &With, _on: &Target) -> Vec<Mistake> {
        named("/with/service", &with.service)
    }

    fn compile(with: &With, scope: &Scope<'_>) -> Result<Compiled, String> {
        let effects = scope.everywhere(|_| {
            Effect::Unit(Unit { service: with.service.clone(), action: UnitAction::Stop, back_within: None })
        });
        Ok(Compiled { effects, ..Compiled::default() })
    }
}

/// A name as a policy can have it.
pub(super) fn named(pointer: &str, service: &str) -> Vec<Mistake> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    if !service.is_empty() && !service.starts_with('-') && service.chars().all(plain) {
        return Vec::new();
    }
    let hint = "the name under `services:` in the node's policy: letters, digits and - _ . @, for example `postgresql`";
    vec![Mistake::new(pointer, format!("`{service}` cannot be a service's name"), hint)]
}
