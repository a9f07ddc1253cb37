//! The run's timeline as SVG: phases, each injection's life, breaches. And what all plots share: the time axis and bands.

use std::fmt::Write as _;

use super::junit::escape;
use super::plot::nice_step;
use super::{InjectionRow, Report, words};

const ROW: f64 = 44.0;
const HEAD: f64 = 26.0;

/// A stretch of time in which a step's fault was active somewhere; stretches that overlap get different depths.
pub(super) struct Lane {
    pub label: String,
    pub from_us: u64,
    pub to_us: u64,
    pub depth: usize,
}

/// Active on the host, as far as anyone knows: from `active` until its end was observed.
fn active(report: &Report, row: &InjectionRow) -> Option<(u64, u64)> {
    let from = row.at.active_us?;
    let to = if row.is_dirty() { None } else { row.at.ended_us };
    Some((from, to.unwrap_or(report.duration_us).max(from)))
}

pub(super) fn lanes(report: &Report) -> Vec<Lane> {
    let mut lanes: Vec<(Lane, Vec<&str>)> = Vec::new();
    for row in &report.injections {
        let Some((from_us, to_us)) = active(report, row) else { continue };
        let same =
            lanes.iter_mut().find(|(lane, _)| lane.label == row.step && lane.from_us <= to_us && from_us <= lane.to_us);
        match same {
            Some((lane, nodes)) => {
                lane.from_us = lane.from_us.min(from_us);
                lane.to_us = lane.to_us.max(to_us);
                nodes.push(&row.node);
            }
            None => lanes.push((Lane { label: row.step.clone(), from_us, to_us, depth: 0 }, vec![&row.node])),
        }
    }
    let mut placed: Vec<Lane> = Vec::new();
    for (mut lane, nodes) in lanes {
        let taken = |depth| placed.iter().any(|p| p.depth == depth && p.from_us < lane.to_us && lane.from_us < p.to_us);
        lane.depth = (0..).find(|depth| !taken(*depth)).unwrap_or(0);
        lane.label = match nodes.as_slice() {
            [node] => format!("{} on {node}", lane.label),
            nodes => format!("{} on {} nodes", lane.label, nodes.len()),
        };
        placed.push(lane);
    }
    placed
}

/// Place on the horizontal axis.
pub(super) fn percent(report: &Report, at_us: u64) -> f64 {
    (at_us as f64 * 100.0 / report.duration_us.max(1) as f64).min(100.0)
}

/// Start and width; never too thin to be seen.
pub(super) fn extent(report: &Report, from_us: u64, to_us: u64) -> (f64, f64) {
    let x = percent(report, from_us);
    (x, (percent(report, to_us) - x).max(0.3).min(100.0 - x))
}

/// Names above, hairlines between.
/// Percent of a plot's width.
const LEAST_FOR_A_WORD: f64 = 6.0;

pub(super) fn phases(svg: &mut String, report: &Report, bottom: f64) {
    for span in &report.phases {
        let (x, width) = extent(report, span.from_us, span.to_us);
        let name = words::phase(span.phase);
        let _ = write!(svg, "<line class=\"phase\" x1=\"{x:.2}%\" x2=\"{x:.2}%\" y1=\"0\" y2=\"{bottom:.1}\"/>");
        // A word of which half could be seen says nothing.
        if width < LEAST_FOR_A_WORD {
            continue;
        }
        let _ = write!(
            svg,
            "<svg x=\"{x:.2}%\" width=\"{width:.2}%\" y=\"0\" height=\"18\"><text class=\"phase\" x=\"5\" y=\"12\">{name}</text></svg>"
        );
    }
}

pub(super) fn time_axis(svg: &mut String, report: &Report, y: f64) {
    let total = report.duration_us.max(1) as f64;
    let step = nice_seconds(total / 1e6 / 6.0) * 1e6;
    let _ = write!(svg, "<line class=\"axis\" x1=\"0\" x2=\"100%\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
    let mut n = 0;
    while n as f64 * step <= total * 1.0001 {
        let at = n as f64 * step;
        let x = at * 100.0 / total;
        let anchor = if n == 0 {
            "start"
        } else if x > 96.0 {
            "end"
        } else {
            "middle"
        };
        // On a narrow screen the odd ones make room.
        let odd = if n % 2 == 1 { " odd" } else { "" };
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{x:.2}%\" x2=\"{x:.2}%\" y1=\"{y:.1}\" y2=\"{:.1}\"/>\
             <text class=\"tick{odd}\" x=\"{x:.2}%\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            y + 4.0,
            y + 18.0,
            if n == 0 { "0".to_owned() } else { words::time(at as u64) }
        );
        n += 1;
    }
}

/// Seconds as people count them: minutes and hours have steps of their own.
fn nice_seconds(at_least: f64) -> f64 {
    let steps = [15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0];
    if at_least <= 10.0 { nice_step(at_least) } else { steps.into_iter().find(|s| *s >= at_least).unwrap_or(at_least) }
}

pub(super) fn breach_lines(svg: &mut String, report: &Report, top: f64, bottom: f64, named: bool) {
    for breach in &report.breaches {
        let x = percent(report, breach.at_us);
        let title = escape(&format!("{} breach: {}: {}", words::moment(breach.at_us), breach.what, breach.detail));
        let _ = write!(
            svg,
            "<g class=\"breach\"><title>{title}</title><line x1=\"{x:.2}%\" x2=\"{x:.2}%\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"/>\
             <use href=\"#flag\" x=\"{x:.2}%\" y=\"{top:.1}\"/>"
        );
        if named {
            let (anchor, dx) = if x > 80.0 { ("end", -9) } else { ("start", 9) };
            let _ = write!(
                svg,
                "<text x=\"{x:.2}%\" dx=\"{dx}\" y=\"{:.1}\" text-anchor=\"{anchor}\">breach</text>",
                top + 4.0
            );
        }
        svg.push_str("</g>");
    }
}

/// Rows of one plan key are drawn on one line (pulses follow each other).
pub(super) fn figure(report: &Report) -> String {
    let mut keys: Vec<&str> = Vec::new();
    for row in &report.injections {
        if !keys.contains(&row.key.as_str()) {
            keys.push(&row.key);
        }
    }
    let flags = if report.breaches.is_empty() { 0.0 } else { 18.0 };
    let bottom = HEAD + flags + keys.len() as f64 * ROW;
    let mut svg = String::new();
    phases(&mut svg, report, bottom);
    for (index, key) in keys.iter().enumerate() {
        let top = HEAD + flags + index as f64 * ROW;
        let rows: Vec<&InjectionRow> = report.injections.iter().filter(|row| row.key == *key).collect();
        line(&mut svg, report, &rows, top);
    }
    breach_lines(&mut svg, report, HEAD + 2.0, bottom, true);
    time_axis(&mut svg, report, bottom);
    let height = bottom + 24.0;
    format!(
        "<figure><svg class=\"canvas\" height=\"{height}\" role=\"img\" aria-labelledby=\"gantt-t gantt-d\">\
         <title id=\"gantt-t\">Timeline of the run</title>\
         <desc id=\"gantt-d\">{} injections over {}; each one's times are listed under Injections.</desc>{svg}</svg></figure>",
        report.injections.len(),
        words::time(report.duration_us)
    )
}

fn line(svg: &mut String, report: &Report, rows: &[&InjectionRow], top: f64) {
    let Some(first) = rows.first() else { return };
    let bar = top + 22.0;
    let state = if rows.len() > 1 { format!("{} pulses", rows.len()) } else { words::state(first.state).to_owned() };
    let _ = write!(
        svg,
        "<text class=\"row\" x=\"5\" y=\"{:.1}\">{} <tspan class=\"node\">on {} \u{b7} {state}</tspan></text>\
         <rect class=\"track\" x=\"0\" width=\"100%\" y=\"{bar:.1}\" height=\"12\" rx=\"3\"/>",
        top + 15.0,
        escape(&first.step),
        escape(&first.node)
    );
    for row in rows {
        let Some(ordered) = row.at.ordered_us else { continue };
        let end = row.at.ended_us.unwrap_or(report.duration_us);
        let (x, width) = extent(report, ordered, end);
        let _ = write!(
            svg,
            "<rect class=\"open\" x=\"{x:.2}%\" width=\"{width:.2}%\" y=\"{bar:.1}\" height=\"12\" rx=\"2\"/>"
        );
        let Some((from, to)) = active(report, row) else { continue };
        let (x, width) = extent(report, from, to);
        let class = if row.is_dirty() { "dirty" } else { "bar" };
        let took = words::time(to.saturating_sub(from));
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{x:.2}%\" width=\"{width:.2}%\" y=\"{bar:.1}\" height=\"12\" rx=\"2\"><title>{} on {}: active {took}</title></rect>",
            escape(&row.step),
            escape(&row.node)
        );
        if rows.len() == 1 {
            let (at, dx, anchor) = if x + width > 82.0 { (x, -7, "end") } else { (x + width, 7, "start") };
            let _ = write!(
                svg,
                "<text class=\"took\" x=\"{at:.2}%\" dx=\"{dx}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{took}</text>",
                bar + 10.0
            );
        }
    }
}
