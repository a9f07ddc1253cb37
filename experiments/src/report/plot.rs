//! One probe over time as SVG: every sample a mark whose shape says how it went, phases and active faults behind it.
//!
//! Horizontal places are percentages and vertical ones pixels, so that a plot fills any width while its text keeps its size.

use std::fmt::Write as _;

use super::junit::escape;
use super::timeline::{self, Lane};
use super::{Point, ProbeReport, Report, words};
use crate::probe::Outcome;

/// Pixels.
const TOP: f64 = 22.0;
const PLOT: f64 = 168.0;
const LANE: f64 = 16.0;
const BOTTOM: f64 = 24.0;
/// More samples that went well than this are thinned: extremes and median of each column are kept.
const DRAWN_OK: usize = 600;
const COLUMNS: u64 = 240;

/// Values to pixels.
struct Scale {
    logarithmic: bool,
    least: f64,
    greatest: f64,
    ticks: Vec<f64>,
}

impl Scale {
    /// Logarithmic where the values span more than a factor of 30 (latencies with time-outs among them).
    fn over(values: impl Iterator<Item = f64>, may_be_logarithmic: bool) -> Scale {
        let (mut least, mut greatest) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            least = least.min(value);
            greatest = greatest.max(value);
        }
        if least > greatest {
            (least, greatest) = (0.0, 1.0);
        }
        if may_be_logarithmic && least > 0.0 && greatest / least > 30.0 {
            let (least, greatest) = (10f64.powf(least.log10().floor()), 10f64.powf((greatest * 1.05).log10().ceil()));
            let decades = (greatest / least).log10().round() as i32;
            let ticks = (0..=decades).map(|power| least * 10f64.powi(power)).collect();
            return Scale { logarithmic: true, least, greatest, ticks };
        }
        let least = least.min(0.0);
        let greatest = if greatest > least { greatest + (greatest - least) * 0.08 } else { least + 1.0 };
        let step = nice_step((greatest - least) / 4.0);
        let (first, last) = ((least / step).floor() as i64, (greatest / step).ceil() as i64);
        let ticks = (first..=last).map(|n| n as f64 * step).collect();
        Scale { logarithmic: false, least: first as f64 * step, greatest: last as f64 * step, ticks }
    }

    /// From 0 at the bottom to 1 at the top.
    fn height(&self, value: f64) -> f64 {
        let fraction = if self.logarithmic {
            (value.max(self.least) / self.least).ln() / (self.greatest / self.least).ln()
        } else {
            (value - self.least) / (self.greatest - self.least)
        };
        fraction.clamp(0.0, 1.0)
    }
}

/// 1, 2 or 5 times a power of ten, not below `at_least`.
pub(super) fn nice_step(at_least: f64) -> f64 {
    let power = 10f64.powf(at_least.max(f64::MIN_POSITIVE).log10().floor());
    [1.0, 2.0, 5.0, 10.0].iter().map(|factor| factor * power).find(|step| *step >= at_least * 0.999).unwrap_or(power)
}

/// A figure with its axis, or nothing if there is no sample. `index` makes ids unique on the page.
pub(super) fn figure(report: &Report, probe: &ProbeReport, index: usize) -> String {
    if probe.points.is_empty() {
        return "<p class=\"quiet\">No sample was taken.</p>".to_owned();
    }
    let valued = probe.has_values();
    let height_of = |point: &Point| if valued { point.value } else { Some(point.latency_us as f64) };
    let shown = probe.points.iter().filter(|point| point.outcome != Outcome::Unknown).filter_map(height_of);
    let scale = Scale::over(shown.chain(probe.limits.iter().map(|(_, limit)| *limit)), !valued);
    let lanes = timeline::lanes(report);
    let depth = lanes.iter().map(|lane| lane.depth + 1).max().unwrap_or(0);
    let top = TOP + depth as f64 * LANE + if depth > 0 { 6.0 } else { 0.0 };
    let bottom = top + PLOT;
    let y = |value: f64| bottom - scale.height(value) * PLOT;

    let mut axis = String::new();
    let mut svg = String::new();
    for tick in &scale.ticks {
        let label = if valued { format!("{tick}") } else { words::time(tick.max(0.0) as u64) };
        let _ = write!(axis, "<text x=\"100%\" y=\"{:.1}\">{label}</text>", y(*tick) + 4.0);
        let _ = write!(svg, "<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{0:.1}\" y2=\"{0:.1}\"/>", y(*tick));
    }
    spans(&mut svg, report, &lanes, bottom);
    for (label, limit) in &probe.limits {
        let at = y(*limit);
        let _ = write!(svg, "<line class=\"limit\" x1=\"0\" x2=\"100%\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>");
        let _ = write!(svg, "<text class=\"limit\" x=\"100%\" y=\"{:.1}\">{}</text>", at - 5.0, escape(label));
    }
    let place = |point: &Point| (timeline::percent(report, point.at_us), height_of(point).map_or(bottom, y));
    let (good, thinned) = thin(report, probe, &height_of);
    svg.push_str("<g class=\"ok\">");
    for point in good {
        let (x, y) = place(point);
        let _ = write!(svg, "<circle cx=\"{x:.2}%\" cy=\"{y:.1}\" r=\"2.2\"/>");
    }
    svg.push_str("</g>");
    for point in probe.points.iter().filter(|point| point.outcome != Outcome::Ok) {
        let (x, y) = place(point);
        let (mark, y) = if point.outcome == Outcome::Bad { ("bad", y) } else { ("unknown", bottom - 5.0) };
        let _ = write!(
            svg,
            "<use href=\"#{mark}\" class=\"{mark}\" x=\"{x:.2}%\" y=\"{y:.1}\"><title>{} {mark}: {}</title></use>",
            words::moment(point.at_us),
            escape(&point.detail)
        );
    }
    timeline::breach_lines(&mut svg, report, TOP, bottom, false);
    timeline::time_axis(&mut svg, report, bottom);

    let what = if valued { "value" } else { "latency" };
    let (ok, bad, unknown) = probe
        .phases
        .iter()
        .fold((0, 0, 0), |(ok, bad, unknown), phase| (ok + phase.ok, bad + phase.bad, unknown + phase.unknown));
    let kind = if scale.logarithmic { ", logarithmic" } else { "" };
    let thinned = if thinned { "; of the ok samples each column shows least, median and greatest" } else { "" };
    let height = bottom + BOTTOM;
    format!(
        "<figure><div class=\"plot\"><svg class=\"scale\" height=\"{height}\" aria-hidden=\"true\">{axis}</svg>\
         <svg class=\"canvas\" height=\"{height}\" role=\"img\" aria-labelledby=\"plot{index}t plot{index}d\">\
         <title id=\"plot{index}t\">{name}: {what} over time</title>\
         <desc id=\"plot{index}d\">{ok} samples ok, {bad} bad, {unknown} unknown. The table below has the numbers of each phase.</desc>\
         {svg}</svg></div>\
         <figcaption>{What}{kind}, over time since the start{thinned}. {legend}</figcaption></figure>",
        name = escape(&probe.name),
        What = if valued { "Value" } else { "Latency" },
        legend = legend(bad > 0, unknown > 0),
    )
}

fn legend(bad: bool, unknown: bool) -> String {
    let mut out = String::new();
    for (shown, mark) in [(true, "ok"), (bad, "bad"), (unknown, "unknown")] {
        if shown {
            let shape = if mark == "ok" {
                "<circle cx=\"6\" cy=\"6\" r=\"3\"/>".to_owned()
            } else {
                format!("<use href=\"#{mark}\" x=\"6\" y=\"6\"/>")
            };
            let _ = write!(
                out,
                "<span class=\"key\"><svg width=\"12\" height=\"12\" class=\"{mark}\" aria-hidden=\"true\">{shape}</svg>{mark}</span>"
            );
        }
    }
    out
}

/// Phases and active faults behind the samples.
fn spans(svg: &mut String, report: &Report, lanes: &[Lane], bottom: f64) {
    for lane in lanes {
        let (x, width) = timeline::extent(report, lane.from_us, lane.to_us);
        let y = TOP + lane.depth as f64 * LANE;
        let label = escape(&lane.label);
        let _ = write!(
            svg,
            "<rect class=\"fault\" x=\"{x:.2}%\" width=\"{width:.2}%\" y=\"{y:.1}\" height=\"{:.1}\"><title>{label}, active {}</title></rect>\
             <rect class=\"bar\" x=\"{x:.2}%\" width=\"{width:.2}%\" y=\"{y:.1}\" height=\"3\"/>\
             <svg x=\"{x:.2}%\" width=\"{width:.2}%\" y=\"{y:.1}\" height=\"{LANE}\"><text class=\"fault\" x=\"4\" y=\"14\">{label}</text></svg>",
            bottom - y,
            words::time(lane.to_us.saturating_sub(lane.from_us)),
        );
    }
    timeline::phases(svg, report, bottom);
}

/// The ok samples to draw, and whether some were left out.
fn thin<'a>(
    report: &Report,
    probe: &'a ProbeReport,
    height_of: &impl Fn(&Point) -> Option<f64>,
) -> (Vec<&'a Point>, bool) {
    let good: Vec<&Point> = probe.points.iter().filter(|point| point.outcome == Outcome::Ok).collect();
    if good.len() <= DRAWN_OK {
        return (good, false);
    }
    let column = |point: &Point| point.at_us.saturating_mul(COLUMNS) / report.duration_us.max(1);
    let mut kept = Vec::new();
    for chunk in good.chunk_by(|a, b| column(a) == column(b)) {
        let mut chunk = chunk.to_vec();
        chunk.sort_by(|a, b| height_of(a).unwrap_or(0.0).total_cmp(&height_of(b).unwrap_or(0.0)));
        let mut ranks = vec![0, chunk.len() / 2, chunk.len() - 1];
        ranks.dedup();
        kept.extend(ranks.iter().map(|rank| chunk[*rank]));
    }
    (kept, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_have_round_ticks_and_contain_every_value() {
        let linear = Scale::over([9.0, 15.0].into_iter(), true);
        assert_eq!((linear.logarithmic, linear.least, linear.greatest), (false, 0.0, 20.0));
        let logarithmic = Scale::over([900.0, 930_000.0].into_iter(), true);
        assert_eq!(logarithmic.ticks.len(), 5);
        assert!(logarithmic.logarithmic && logarithmic.least <= 900.0 && logarithmic.greatest >= 930_000.0);
        for strange in [vec![], vec![0.0], vec![-3.0, -3.0], vec![f64::NAN, 1.0]] {
            let scale = Scale::over(strange.into_iter(), true);
            assert!(scale.greatest > scale.least && (0.0..=1.0).contains(&scale.height(0.5)));
        }
    }
}
