//! Several things over the time of one run, one row below the other, with the faults as bands behind.

use std::fmt::Write as _;

use super::junit::escape;
use super::{Report, timeline};

/// Pixels.
pub(super) const ROW: f64 = 84.0;
const GAP: f64 = 22.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 24.0;

pub(super) struct Row {
    pub title: String,
    /// On a canvas of 1000 x [`ROW`].
    pub paths: String,
    /// From 0 at the bottom to 1 at the top.
    pub ticks: Vec<(f64, String)>,
}

/// `id` makes ids unique on the page; `key` is what stands below.
pub(super) fn figure(report: &Report, id: &str, rows: &[Row], key: &str) -> String {
    let bottom = TOP + rows.len() as f64 * (ROW + GAP) - GAP;
    let mut svg = String::new();
    for lane in timeline::lanes(report) {
        let (x, width) = timeline::extent(report, lane.from_us, lane.to_us);
        let label = escape(&lane.label);
        let y = 18.0;
        let _ = write!(
            svg,
            "<rect class=\"fault\" x=\"{x:.2}%\" width=\"{width:.2}%\" y=\"{y}\" height=\"{:.1}\"><title>{label}</title></rect>\
             <rect class=\"bar\" x=\"{x:.2}%\" width=\"{width:.2}%\" y=\"{y}\" height=\"3\"/>\
             <svg x=\"{x:.2}%\" width=\"{width:.2}%\" y=\"{y}\" height=\"16\"><text class=\"fault\" x=\"4\" y=\"14\">{label}</text></svg>",
            bottom - y
        );
    }
    timeline::phases(&mut svg, report, bottom);
    let mut axis = String::new();
    for (number, row) in rows.iter().enumerate() {
        let top = TOP + number as f64 * (ROW + GAP);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{0:.1}\" y2=\"{0:.1}\"/><g transform=\"translate(0 {top:.1})\">\
             <svg class=\"trace\" width=\"100%\" height=\"{ROW}\" viewBox=\"0 0 1000 {ROW}\" preserveAspectRatio=\"none\">{1}</svg></g>\
             <text class=\"row\" x=\"2\" y=\"{2:.1}\">{3}</text>",
            top + ROW,
            row.paths,
            top + 12.0,
            escape(&row.title)
        );
        for (share, label) in &row.ticks {
            let _ =
                write!(axis, "<text x=\"100%\" y=\"{:.1}\">{}</text>", top + ROW - share * ROW + 4.0, escape(label));
        }
    }
    timeline::time_axis(&mut svg, report, bottom);
    let height = bottom + BOTTOM;
    let key = if key.is_empty() { String::new() } else { format!("<figcaption>{}</figcaption>", escape(key)) };
    let titles: Vec<&str> = rows.iter().map(|row| row.title.as_str()).collect();
    format!(
        "<figure><div class=\"plot\"><svg class=\"scale\" height=\"{height}\" aria-hidden=\"true\">{axis}</svg>\
         <svg class=\"canvas\" height=\"{height}\" role=\"img\" aria-labelledby=\"s{id}t\"><title id=\"s{id}t\">{}: {} over time</title>{svg}</svg></div>{key}</figure>",
        escape(&report.name),
        escape(&titles.join(", "))
    )
}

/// Pixels from the top of a row: of a value as a share of the greatest.
fn y(share: f64) -> f64 {
    ROW - 2.0 - share.clamp(0.0, 1.0) * (ROW - 22.0)
}

/// Zero and the greatest value, where [`line`] draws them.
pub(super) fn ticks(zero: &str, greatest: String) -> Vec<(f64, String)> {
    let height = |share: f64| (ROW - y(share)) / ROW;
    vec![(height(0.0), zero.to_owned()), (height(1.0), greatest)]
}

pub(super) fn greatest(values: &[Option<f64>]) -> f64 {
    values.iter().flatten().copied().fold(1.0, f64::max)
}

/// Broken where there is nothing to tell.
pub(super) fn line(class: &str, values: &[Option<f64>], top: f64) -> String {
    let width = 1000.0 / values.len().max(1) as f64;
    let mut path = String::new();
    let mut down = false;
    for (place, value) in values.iter().enumerate() {
        let Some(value) = value else {
            down = false;
            continue;
        };
        let (x, y) = ((place as f64 + 0.5) * width, y(value / top));
        let _ = write!(path, "{}{x:.1} {y:.1}", if down { "L" } else { "M" });
        if !down {
            // So that a lone column is seen.
            let _ = write!(path, "h.1");
        }
        down = true;
    }
    format!("<path class=\"{class}\" d=\"{path}\"/>")
}
