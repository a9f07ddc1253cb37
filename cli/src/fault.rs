//! A fault to inject: a step, and the smallest experiment around it.

use std::time::Duration;

use serde_json::Value;
use squall_experiments::experiment::Step;
use squall_experiments::target::{NodeSelector, Pick, ProcessSelector};
use squall_experiments::units::Span;

use crate::probe::{agents_answer, experiment};

/// If a test does not say how long at most.
const LASTING: Duration = Duration::from_secs(300);

/// A kind of failure with its parameters and its target, in the words of an experiment's step.
///
/// ```
/// use std::time::Duration;
/// use squall::Fault;
///
/// let hang = Fault::new("process-pause").port(8081).lasting(Duration::from_secs(30));
/// let slow = Fault::new("network-latency")
///     .with("latency", "150ms")
///     .with("peerNodes", serde_json::json!({"role": "proxy"}))
///     .nodes("role", "web")
///     .pick(1);
/// let full = Fault::new("disk-fill").path("/var/lib/shop").with("leaveFree", "6MiB");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    step: Step,
    most_nodes: u32,
}

impl Fault {
    /// By its name, as `squall faults` lists them. On every node; an ephemeral Squall has one.
    pub fn new(name: impl Into<String>) -> Fault {
        let step = Step { fault: Some(name.into()), duration: Some(Span(LASTING)), ..Step::default() };
        Fault { step, most_nodes: 1 }
    }

    /// A parameter, as `squall faults NAME` lists them: durations, sizes and shares are texts (`150ms`, `6MiB`, `5%`).
    pub fn with(mut self, parameter: impl Into<String>, value: impl Into<Value>) -> Fault {
        self.step.with.insert(parameter.into(), value.into());
        self
    }

    /// The longest that it stays, if nothing ends it sooner: a test that hangs does not keep it. 5 minutes if this is not called, at
    /// least 10 ms; the node's policy has a limit of its own.
    pub fn lasting(mut self, duration: Duration) -> Fault {
        self.step.duration = Some(Span(duration));
        self
    }

    /// Only processes that listen on this TCP port (or are bound to this UDP port). Conditions on processes must all hold.
    pub fn port(self, port: u16) -> Fault {
        self.processes(|selector| selector.port = Some(port))
    }

    /// Only processes whose whole command line fits this pattern: `*` any run of characters, `?` one.
    pub fn command(self, pattern: impl Into<String>) -> Fault {
        self.processes(|selector| selector.command = Some(pattern.into()))
    }

    /// Only processes with this name.
    pub fn process(self, name: impl Into<String>) -> Fault {
        self.processes(|selector| selector.name = Some(name.into()))
    }

    /// Only processes that `choose` selects, by any condition that an experiment has.
    pub fn processes(mut self, choose: impl FnOnce(&mut ProcessSelector)) -> Fault {
        choose(self.step.on.processes.get_or_insert_default());
        self
    }

    /// Only nodes with this label (or `name`, or `zone`). May be called again: all must hold.
    pub fn nodes(mut self, label: impl Into<String>, value: impl Into<String>) -> Fault {
        let nodes: &mut NodeSelector = &mut self.step.on.nodes;
        match label.into().as_str() {
            "name" => nodes.name = Some(value.into()),
            "zone" => nodes.zone = Some(value.into()),
            label => drop(nodes.labels.insert(label.to_owned(), value.into())),
        }
        self
    }

    /// So many of the nodes that match; also raises the limit of nodes that may be hit at once.
    pub fn pick(mut self, count: u32) -> Fault {
        self.step.on.pick = Pick { count: Some(count), ..Pick::default() };
        self.most_nodes = self.most_nodes.max(count);
        self
    }

    /// Nodes that may be hit at once, if it is more than one.
    pub fn most_nodes(mut self, count: u32) -> Fault {
        self.most_nodes = count;
        self
    }

    /// For network faults; else all interfaces but loopback.
    pub fn interface(mut self, name: impl Into<String>) -> Fault {
        self.step.on.interface = Some(name.into());
        self
    }

    /// For faults of a filesystem: a directory on it.
    pub fn path(mut self, directory: impl Into<String>) -> Fault {
        self.step.on.path = Some(directory.into());
        self
    }

    pub(crate) fn name(&self) -> &str {
        self.step.fault.as_deref().unwrap_or_default()
    }

    /// One step. Its steady state is that every agent answers, because the test itself says what must hold.
    pub(crate) fn experiment(&self) -> Value {
        let hypothesis = format!("A test says what must hold while {} is active.", self.name());
        let probes = [agents_answer(&self.step.on.nodes)];
        experiment("injected-by-a-test", &hypothesis, self.most_nodes, &probes, &serde_json::json!(self.step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_an_experiment_that_the_language_accepts() {
        let faults = [
            Fault::new("process-pause").port(8081).command("*nginx*").lasting(Duration::from_secs(30)),
            Fault::new("disk-fill")
                .path("/data")
                .with("leaveFree", "6MiB")
                .nodes("role", "web")
                .nodes("zone", "a")
                .pick(3),
            Fault::new("network-loss").with("percent", "5%").interface("eth0"),
        ];
        for fault in faults {
            let text = fault.experiment().to_string();
            let read = squall_experiments::parse::parse("fault", &text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
            assert_eq!(read.method, [fault.step]);
        }
    }

    #[test]
    fn picking_nodes_widens_the_blast_radius_that_far_and_no_further() {
        let nodes = |fault: Fault| fault.experiment()["blastRadius"]["nodes"].clone();
        assert_eq!(nodes(Fault::new("cpu-pressure")), 1);
        assert_eq!(nodes(Fault::new("cpu-pressure").pick(3)), 3);
    }
}
