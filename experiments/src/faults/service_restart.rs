//! `service-restart`: a service is stopped in its own orderly way and started again at once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::service_stop::named;
use super::{Compiled, Fault, Mistake, Scope};
use crate::effect::{Effect, Unit, UnitAction};
use crate::target::Target;
use crate::units::Span;

pub struct ServiceRestart;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct With {
    /// Which service, by its name under `services:` in the policy of each node.
    pub service: String,
    /// It must be running again this soon after it was down, else the hypothesis is refuted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_within: Option<Span>,
}

impl Fault for ServiceRestart {
    type With = With;
    const NAME: &'static str = "service-restart";
    const SUMMARY: &'static str = "Stops a service as its operator would, and starts it again at once.";

    fn check(with: &With, _on: &Target) -> Vec<Mistake> {
        let mut mistakes = named("/with/service", &with.service);
        if with.back_within == Some(Span::default()) {
            mistakes.push(Mistake::new("/with/backWithin", "`backWithin` must be longer than zero", ""));
        }
        mistakes
    }

    fn compile(with: &With, scope: &Scope<'_>) -> Result<Compiled, String> {
        let effects = scope.everywhere(|_| {
            Effect::Unit(Unit {
                service: with.service.clone(),
                action: UnitAction::Restart,
                back_within: with.back_within,
            })
        });
        Ok(Compiled { effects, ..Compiled::default() })
    }
}
