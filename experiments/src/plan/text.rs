//! A plan for people: every effect on each host, link matrices, limits, notes. Plain text, the same for the same plan.

use std::fmt::Write as _;
use std::time::Duration;

use super::{LinkMatrix, Plan, PlannedFault, PlannedStep, in_words};
use crate::blast_radius::Quorum;
use crate::probe::{Condition, Probe, Tolerance};
use crate::select;
use crate::units::Span;

impl Plan {
    /// What `squall plan` prints. Ends with a line break.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let experiment = &self.experiment;
        writeln!(out, "Plan of {}, seed {}", experiment.metadata.name, self.seed)?;
        writeln!(out, "  {}", experiment.hypothesis.trim())?;
        writeln!(out)?;
        writeln!(out, "Steady state")?;
        if experiment.steady_state.is_empty() {
            writeln!(out, "  nothing is watched")?;
        }
        for probe in &experiment.steady_state {
            writeln!(out, "  {}", probe_line(probe))?;
        }
        let mut now = Duration::ZERO;
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(out)?;
            match step {
                PlannedStep::Wait { duration } => {
                    writeln!(out, "Step {index}, at {}: wait {duration}", Span(now))?;
                    now += duration.0;
                }
                PlannedStep::Fault(fault) => {
                    write_fault(out, index, now, fault)?;
                    if !fault.background {
                        now += fault.duration.0;
                    }
                }
            }
        }
        writeln!(out)?;
        let radius = &experiment.blast_radius;
        let of = select::written(&radius.of);
        write!(out, "Blast radius: at most {}", select::nodes(radius.nodes as usize))?;
        if let Some(share) = radius.percent {
            write!(out, " and {share} (rounded down)")?;
        }
        write!(out, " of {of} at once")?;
        if radius.quorum == Quorum::Keep {
            write!(out, ", more than half untouched")?;
        }
        if let Some(budget) = radius.error_budget {
            write!(out, ", error budget {} below {}", budget.spend, budget.slo)?;
        }
        writeln!(out, ", {} in all (the method takes {})", radius.max_duration, self.length())?;
        if !self.notes.is_empty() {
            writeln!(out)?;
            writeln!(out, "Notes")?;
            for note in &self.notes {
                writeln!(out, "  {note}")?;
            }
        }
        Ok(())
    }
}

fn write_fault(out: &mut String, index: usize, now: Duration, fault: &PlannedFault) -> std::fmt::Result {
    write!(out, "Step {index}, at {}: {}", Span(now), fault.name)?;
    if fault.name != fault.fault {
        write!(out, " ({})", fault.fault)?;
    }
    write!(out, " for {}", fault.duration)?;
    if let Some(pulse) = fault.pulse {
        write!(out, ", {} active and {} at rest by turns", pulse.active, pulse.rest)?;
    }
    if fault.background {
        write!(out, ", in the background")?;
    }
    writeln!(out)?;
    if let Some(condition) = &fault.when {
        writeln!(out, "  starts when {}", condition_text(condition))?;
    }
    for injection in &fault.injections {
        for effect in &injection.effects {
            writeln!(out, "  {}: {}", injection.node, in_words(effect))?;
        }
    }
    if let Some(links) = &fault.links {
        writeln!(out, "  Links (x: packets from the node of the row do not reach the node of the column)")?;
        let drawing = if links.nodes.len() > WIDEST { links.summary() } else { links.table() };
        for line in drawing.lines() {
            writeln!(out, "    {line}")?;
        }
    }
    Ok(())
}

fn condition_text(condition: &Condition) -> String {
    let mut parts = Vec::new();
    parts.extend(condition.above.map(|limit| format!("above {limit}")));
    parts.extend(condition.below.map(|limit| format!("below {limit}")));
    let patience = condition.timeout.unwrap_or(Span::from_millis(60_000));
    format!("{} is {} (given up after {patience})", condition.probe, parts.join(" and "))
}

fn probe_line(probe: &Probe) -> String {
    let mut kinds = Vec::new();
    kinds.extend(probe.http.as_ref().map(|http| format!("{} {}", http.method, http.url)));
    kinds.extend(probe.tcp.as_ref().map(|tcp| format!("connects to {}", tcp.address)));
    kinds.extend(
        probe.process.as_ref().map(|p| format!("counts processes {} on {}", p.processes, select::written(&p.nodes))),
    );
    kinds.extend(probe.command.as_ref().map(|command| format!("runs the command {}", command.name)));
    kinds.extend(probe.prometheus.as_ref().map(|p| format!("asks {} for {}", p.url, p.query)));
    kinds.extend(probe.alert.as_ref().map(|alert| {
        let server = alert.alertmanager.as_ref().or(alert.prometheus.as_ref());
        format!("asks {} whether {} fires", server.map_or("nobody", String::as_str), alert.name)
    }));
    kinds.extend(
        probe.ledger.as_ref().map(|ledger| format!("writes records, {} {}", ledger.write.method, ledger.write.url)),
    );
    let mut line =
        format!("{}: {} every {}; {}", probe.name, kinds.join(", "), probe.every, tolerance_text(&probe.tolerance));
    if !probe.essential {
        line += "; not essential";
    }
    if let Some(fallback) = &probe.fallback {
        line += &format!(", at least {}", tolerance_text(fallback));
    }
    if let Some(control) = &probe.control {
        line += &format!("; compared with {control}");
    }
    line
}

fn tolerance_text(tolerance: &Tolerance) -> String {
    let mut parts = Vec::new();
    parts.extend(tolerance.success.map(|bound| format!("success {bound}")));
    parts.extend(tolerance.p50.map(|bound| format!("p50 {bound}")));
    parts.extend(tolerance.p95.map(|bound| format!("p95 {bound}")));
    parts.extend(tolerance.p99.map(|bound| format!("p99 {bound}")));
    parts.extend(tolerance.value.map(|bound| format!("value {bound}")));
    parts.extend(tolerance.high_availability());
    if parts.is_empty() {
        parts.push("every sample succeeds".to_owned());
    }
    parts.extend(tolerance.breach.map(|n_of_m| format!("broken by {n_of_m}")));
    parts.join(", ")
}

/// Wider matrices are summed up in a line for each node.
const WIDEST: usize = 32;

impl LinkMatrix {
    /// For each node that lost a link, how many of the others it still reaches and hears. Ends with a line break.
    fn summary(&self) -> String {
        let others = self.nodes.len().saturating_sub(1);
        let mut out = String::new();
        for (i, name) in self.nodes.iter().enumerate() {
            let unheard = self.cut.get(i).map_or(0, |row| row.iter().filter(|cut| **cut).count());
            let deaf = self.cut.iter().filter(|row| row.get(i).copied().unwrap_or(false)).count();
            if unheard + deaf > 0 {
                out +=
                    &format!("{name}: reaches {} and hears {} of {others} others\n", others - unheard, others - deaf);
            }
        }
        out
    }

    /// One row a node, one column a node: `x` cut, `.` open, `-` itself. Ends with a line break.
    pub fn table(&self) -> String {
        let width = |name: &str| name.chars().count();
        let first = self.nodes.iter().map(|name| width(name)).max().unwrap_or(0);
        let mut out = " ".repeat(first);
        for name in &self.nodes {
            out += "  ";
            out += name;
        }
        out.push('\n');
        for (i, name) in self.nodes.iter().enumerate() {
            let mut row = format!("{name}{}", " ".repeat(first - width(name)));
            for (j, column) in self.nodes.iter().enumerate() {
                let cut = self.cut.get(i).and_then(|row| row.get(j)).copied().unwrap_or(false);
                let sign = if i == j {
                    '-'
                } else if cut {
                    'x'
                } else {
                    '.'
                };
                row += &format!("  {sign:<0$}", width(column));
            }
            out += row.trim_end();
            out.push('\n');
        }
        out
    }
}
