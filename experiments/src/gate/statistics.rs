//! Two small groups of figures, one a run → is the second greater, and how sure is that.
//!
//! Welch's t-test, one-sided, on a scale on which the noise is even: logarithms of times, the arcsine of the root of shares. What a
//! measurement alone scatters is the least variance, so that five equal figures are not taken for certainty.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// `difference` is on the scale of the groups.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    pub difference: f64,
    /// Ends of its two-sided 95% interval.
    pub low: f64,
    pub high: f64,
    /// How likely so great a difference upwards is if there is none.
    pub p: f64,
    /// That a figure of the second group is greater than one of the first, ties half: 0.5 is no difference.
    pub greater: f64,
}

/// `least`: the variance that a figure has by its measurement alone. None: fewer than two figures in a group.
pub fn test(first: &[f64], second: &[f64], least: f64) -> Option<Test> {
    if first.len() < 2 || second.len() < 2 {
        return None;
    }
    let (mean1, error1) = moments(first, least);
    let (mean2, error2) = moments(second, least);
    let difference = mean2 - mean1;
    let error = (error1 + error2).sqrt();
    let freedom = |error: f64, n: usize| error * error / (n as f64 - 1.0);
    let freedom = (error1 + error2).powi(2) / (freedom(error1, first.len()) + freedom(error2, second.len()));
    let student = StudentsT::new(0.0, 1.0, freedom.max(1.0)).ok()?;
    let half = student.inverse_cdf(0.975) * error;
    Some(Test {
        difference,
        low: difference - half,
        high: difference + half,
        p: student.sf(difference / error),
        greater: greater(first, second),
    })
}

/// Mean, and the square of its standard error.
fn moments(group: &[f64], least: f64) -> (f64, f64) {
    let n = group.len() as f64;
    let mean = group.iter().sum::<f64>() / n;
    let variance = group.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, variance.max(least).max(f64::MIN_POSITIVE) / n)
}

fn greater(first: &[f64], second: &[f64]) -> f64 {
    let pairs = second.iter().flat_map(|b| first.iter().map(move |a| (a, b)));
    let wins: f64 = pairs.map(|(a, b)| if b > a { 1.0 } else { f64::from(u8::from(a == b)) / 2.0 }).sum();
    wins / (first.len() * second.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_is_welchs() {
        // Worked by hand: means 21 and 24, variances 2.5 and 10, so t = 3 / sqrt(12.5 / 5) = 1.8974 with 5.882 degrees of freedom.
        let test = test(&[19.0, 20.0, 21.0, 22.0, 23.0], &[20.0, 22.0, 24.0, 26.0, 28.0], 0.0).unwrap();
        assert!((test.difference - 3.0).abs() < 1e-12);
        // One-sided p of t(5.882) at 1.8974: between the table's 0.10 (1.44) and 0.05 (1.95), near the latter.
        assert!(test.p > 0.05 && test.p < 0.06, "{test:?}");
        assert!(test.low < 0.0 && test.high > 6.0 && (test.low + test.high - 6.0).abs() < 1e-9, "{test:?}");
        assert_eq!(test.greater, 20.0 / 25.0);
    }

    #[test]
    fn equal_figures_are_no_certainty_where_the_measurement_is_coarse() {
        let (a, b) = ([1.0; 5], [1.1; 5]);
        assert!(test(&a, &b, 0.0).unwrap().p < 1e-9);
        assert!(test(&a, &b, 0.04).unwrap().p > 0.2);
    }

    #[test]
    fn a_lone_run_tells_nothing() {
        assert_eq!(test(&[1.0], &[2.0, 2.0], 0.1), None);
        assert_eq!(test(&[1.0, 1.0], &[], 0.1), None);
    }
}
