//! `process-kill`: a signal through a pidfd, once or again and again. Nobody can bring back what a killed process lost.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Compiled, Fault, Mistake, On, Scope};
use crate::effect::{Effect, SendSignal, SignalName};
use crate::inventory::Ability;
use crate::target::Target;
use crate::units::Span;

pub struct ProcessKill;

/// Shortest time between two signals of `repeat`.
const SHORTEST_REPEAT: Span = Span::from_millis(100);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct With {
    /// What is sent to each process.
    #[serde(default)]
    pub signal: SignalName,
    /// Send it again this often while the fault is active, to whatever matches then (a service that is restarted dies again).
    /// At least 100ms. Without it the signal is sent once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Span>,
    /// A new process must match this soon after each signal, else the hypothesis is refuted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_within: Option<Span>,
}

impl Fault for ProcessKill {
    type With = With;
    const NAME: &'static str = "process-kill";
    const SUMMARY: &'static str = "Sends a signal (KILL by default) to processes, once or repeatedly.";
    const REVERSIBLE: bool = false;
    const ON: On = On::Processes;
    const CAPABILITIES: &'static [&'static str] = &["CAP_KILL", "CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"];

    fn check(with: &With, _on: &Target) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if with.repeat.is_some_and(|repeat| repeat < SHORTEST_REPEAT) {
            mistakes.push(Mistake::new(
                "/with/repeat",
                format!("`repeat` must be at least {SHORTEST_REPEAT}"),
                "a shorter time kills a service before it can be started again",
            ));
        }
        if with.back_within.is_some_and(|span| span == Span::default()) {
            mistakes.push(Mistake::new("/with/backWithin", "`backWithin` must be longer than zero", ""));
        }
        if let (Some(repeat), Some(back)) = (with.repeat, with.back_within)
            && back > repeat
        {
            mistakes.push(Mistake::new(
                "/with/backWithin",
                format!("`backWithin` ({back}) is longer than `repeat` ({repeat})"),
                "the next signal would come before the check of the last one is over",
            ));
        }
        mistakes
    }

    fn compile(with: &With, scope: &Scope<'_>) -> Result<Compiled, String> {
        scope.require(Ability::ProcessSignal, "signal processes")?;
        let mut effects = Vec::new();
        for node in &scope.nodes {
            let effect = Effect::Signal(SendSignal {
                processes: scope.processes(node)?,
                signal: with.signal,
                repeat: with.repeat,
                back_within: with.back_within,
            });
            effects.push((node.name.clone(), vec![effect]));
        }
        let notes = vec!["process-kill cannot be undone: what the processes hold in memory is lost".to_owned()];
        Ok(Compiled { effects, links: None, notes })
    }
}
