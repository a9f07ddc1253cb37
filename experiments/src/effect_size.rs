//! Two groups of samples → how far they differ, and how sure that is, so that noise is not taken for impact.
//!
//! Shares of success: difference with Newcombe's hybrid score interval (Newcombe 1998, method 10), built from two Wilson intervals.
//! Latencies: Mann and Whitney's rank test, two-sided, normal approximation with correction for ties and continuity; its effect is
//! the probability that a request of the first group is slower than one of the second (ties count half), and the shift is Hodges and
//! Lehmann's (the median of all differences).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Standard normal quantile of a two-sided 95% interval.
const Z95: f64 = 1.959_963_984_540_054;
/// The normal approximation of the rank test is used from so many samples in each group on.
const FEWEST_RANKED: usize = 8;
/// Of the sorted latencies of a group so many, evenly spaced, stand for all in the shift: 250 000 differences at most.
const MOST_PAIRED: usize = 500;

/// First group minus second group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    pub success: Option<ShareDifference>,
    pub latency: Option<Shift>,
}

/// In percentage points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShareDifference {
    pub points: f64,
    /// Ends of the 95% interval.
    pub low: f64,
    pub high: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Shift {
    /// Microseconds by which the first group is slower.
    pub median_us: f64,
    /// That a request of the first group is slower than one of the second: 0.5 is no difference.
    pub slower: f64,
    /// Of the rank test: how likely so great a difference is if there is none.
    pub p: f64,
}

/// One group: (succeeded, failed) and the latencies of those that succeeded, microseconds.
#[derive(Debug, Clone, Default)]
pub struct Group {
    pub succeeded: u64,
    pub failed: u64,
    pub latencies_us: Vec<u64>,
}

impl ShareDifference {
    /// The interval does not contain zero.
    pub fn is_certain(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

impl Shift {
    /// On the level of 5%.
    pub fn is_certain(&self) -> bool {
        self.p < 0.05
    }
}

pub fn compare(first: &Group, second: &Group) -> Comparison {
    Comparison { success: shares(first, second), latency: shift(&first.latencies_us, &second.latencies_us) }
}

fn shares(first: &Group, second: &Group) -> Option<ShareDifference> {
    let (n1, n2) = (first.succeeded + first.failed, second.succeeded + second.failed);
    if n1 == 0 || n2 == 0 {
        return None;
    }
    let (p1, p2) = (first.succeeded as f64 / n1 as f64, second.succeeded as f64 / n2 as f64);
    let ((l1, u1), (l2, u2)) = (wilson(p1, n1), wilson(p2, n2));
    let difference = p1 - p2;
    let low = difference - (p1 - l1).hypot(u2 - p2);
    let high = difference + (u1 - p1).hypot(p2 - l2);
    Some(ShareDifference { points: 100.0 * difference, low: 100.0 * low, high: 100.0 * high })
}

/// Wilson's score interval of a share `p` of `n`, 95%.
pub fn wilson(p: f64, n: u64) -> (f64, f64) {
    let (n, z2) = (n as f64, Z95 * Z95);
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

fn shift(first: &[u64], second: &[u64]) -> Option<Shift> {
    if first.len() < FEWEST_RANKED || second.len() < FEWEST_RANKED {
        return None;
    }
    let (n1, n2) = (first.len() as f64, second.len() as f64);
    let mut all: Vec<(u64, bool)> =
        first.iter().map(|us| (*us, true)).chain(second.iter().map(|us| (*us, false))).collect();
    all.sort_unstable();
    let (mut rank_sum, mut ties, mut ranked) = (0.0, 0.0, 0.0);
    for equal in all.chunk_by(|a, b| a.0 == b.0) {
        let size = equal.len() as f64;
        let rank = ranked + (size + 1.0) / 2.0;
        rank_sum += rank * equal.iter().filter(|(_, of_first)| *of_first).count() as f64;
        ties += size * size * size - size;
        ranked += size;
    }
    let u = rank_sum - n1 * (n1 + 1.0) / 2.0;
    let n = n1 + n2;
    let variance = n1 * n2 / 12.0 * ((n + 1.0) - ties / (n * (n - 1.0)));
    let p = if variance > 0.0 {
        let z = ((u - n1 * n2 / 2.0).abs() - 0.5).max(0.0) / variance.sqrt();
        (2.0 * (1.0 - normal(z))).clamp(0.0, 1.0)
    } else {
        1.0
    };
    Some(Shift { median_us: median_difference(first, second), slower: u / (n1 * n2), p })
}

/// Hodges and Lehmann's estimate.
fn median_difference(first: &[u64], second: &[u64]) -> f64 {
    let (first, second) = (spaced(first), spaced(second));
    let mut differences: Vec<f64> =
        first.iter().flat_map(|a| second.iter().map(move |b| *a as f64 - *b as f64)).collect();
    differences.sort_unstable_by(f64::total_cmp);
    let middle = differences.len() / 2;
    if differences.len() % 2 == 1 {
        differences[middle]
    } else {
        f64::midpoint(differences[middle - 1], differences[middle])
    }
}

fn spaced(latencies: &[u64]) -> Vec<u64> {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    if sorted.len() <= MOST_PAIRED {
        return sorted;
    }
    (0..MOST_PAIRED).map(|index| sorted[(2 * index + 1) * sorted.len() / (2 * MOST_PAIRED)]).collect()
}

/// Standard normal distribution at `z` of at least 0, by Abramowitz and Stegun 26.2.17 (error below 7.5e-8).
fn normal(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let series =
        t * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    1.0 - (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * series
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(succeeded: u64, failed: u64) -> Group {
        Group { succeeded, failed, latencies_us: Vec::new() }
    }

    fn near(a: f64, b: f64, by: f64) {
        assert!((a - b).abs() <= by, "{a} is not {b}");
    }

    #[test]
    fn the_interval_of_a_difference_is_that_of_newcombes_first_example() {
        // Newcombe 1998, table II, 56/70 and 48/80, method 10: 0.0524 to 0.3339.
        let difference = shares(&group(56, 14), &group(48, 32)).unwrap();
        near(difference.points, 20.0, 1e-9);
        near(difference.low, 5.24, 0.005);
        near(difference.high, 33.39, 0.005);
        assert!(difference.is_certain());
    }

    #[test]
    fn a_lone_failure_is_no_effect_and_many_are() {
        assert!(!shares(&group(199, 1), &group(200, 0)).unwrap().is_certain());
        let difference = shares(&group(150, 50), &group(200, 0)).unwrap();
        assert!(difference.is_certain() && difference.high < -15.0, "{difference:?}");
        assert_eq!(shares(&group(0, 0), &group(5, 0)), None);
    }

    #[test]
    fn the_rank_test_agrees_with_a_table_and_the_shift_is_found() {
        // U = 2 of 8 and 8: the two-sided 5% point of the exact table is 13.
        let slow: Vec<u64> = (0..8).map(|i| 1_000 + 10 * i).collect();
        let fast: Vec<u64> = (0..8).map(|i| 500 + 10 * i).collect();
        let shift = shift(&slow, &fast).unwrap();
        near(shift.slower, 1.0, 1e-9);
        near(shift.median_us, 500.0, 1e-9);
        assert!(shift.p < 0.001, "{}", shift.p);
    }

    #[test]
    fn the_same_latencies_are_no_difference() {
        let same: Vec<u64> = (0..100).map(|i| 1_000 + i % 7).collect();
        let shift = shift(&same, &same).unwrap();
        near(shift.slower, 0.5, 1e-9);
        assert!(!shift.is_certain() && shift.median_us == 0.0, "{shift:?}");
        assert!(!super::shift(&[5; 20], &[5; 20]).unwrap().is_certain());
    }

    #[test]
    fn too_few_latencies_are_not_compared() {
        assert_eq!(shift(&[1; 7], &[1; 100]), None);
    }

    #[test]
    fn the_normal_distribution_is_right_where_it_matters() {
        near(normal(0.0), 0.5, 1e-7);
        near(normal(Z95), 0.975, 1e-6);
        near(normal(3.0), 0.998_650_1, 1e-6);
    }
}
