//! When each request of a load is due: an open loop, which no answer slows down. Pure: the rate is integrated, nothing is rounded to ticks.

use crate::effect::Stage;

/// Seconds from the start, in order; without end unless the last rate is zero.
#[derive(Debug, Clone)]
pub struct Arrivals<'a> {
    stages: &'a [Stage],
    /// Of the stage that is under way: its index, its start, and how many were due before it (a fraction of one included).
    stage: usize,
    began: f64,
    before: f64,
    next: f64,
}

impl<'a> Arrivals<'a> {
    pub fn of(stages: &'a [Stage]) -> Self {
        Arrivals { stages, stage: 0, began: 0.0, before: 0.0, next: 1.0 }
    }
}

impl Iterator for Arrivals<'_> {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        while let Some(stage) = self.stages.get(self.stage) {
            let length = stage.over.0.as_secs_f64();
            let all = (stage.from + stage.to) / 2.0 * length;
            if self.before + all >= self.next {
                let slope = (stage.to - stage.from) / length;
                let at = self.began + reached(stage.from, slope, self.next - self.before);
                self.next += 1.0;
                return Some(at);
            }
            self.before += all;
            self.began += length;
            self.stage += 1;
        }
        let rate = self.stages.last()?.to;
        let at = self.began + (self.next - self.before) / rate;
        self.next += 1.0;
        (rate > 0.0).then_some(at)
    }
}

/// The time after which `rate * t + slope * t^2 / 2` is `count`, in the form that loses nothing where the slope is small.
fn reached(rate: f64, slope: f64, count: f64) -> f64 {
    2.0 * count / (rate + (rate * rate + 2.0 * slope * count).max(0.0).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(from: f64, to: f64, over: &str) -> Stage {
        Stage { from, to, over: over.parse().unwrap() }
    }

    fn due_before(stages: &[Stage], second: f64) -> usize {
        Arrivals::of(stages).take_while(|at| *at <= second + 1e-9).count()
    }

    #[test]
    fn a_constant_rate_is_evenly_spaced_for_ever() {
        let due: Vec<f64> = Arrivals::of(&[stage(50.0, 50.0, "0s")]).take(1000).collect();
        assert!(due.iter().enumerate().all(|(index, at)| (at - (index + 1) as f64 / 50.0).abs() < 1e-9));
    }

    #[test]
    fn a_ramp_has_the_triangle_of_its_rates_and_then_holds() {
        let ramp = [stage(0.0, 100.0, "10s")];
        assert_eq!(due_before(&ramp, 5.0), 125);
        assert_eq!(due_before(&ramp, 10.0), 500);
        assert_eq!(due_before(&ramp, 12.0), 700);
    }

    #[test]
    fn a_spike_rises_at_once_and_nothing_is_lost_or_doubled_at_its_edges() {
        let spike = [stage(7.5, 7.5, "3s"), stage(200.0, 200.0, "2s"), stage(7.5, 7.5, "0s")];
        // 22.5 before the spike: the half is carried over.
        assert_eq!(due_before(&spike, 3.0), 22);
        assert_eq!(due_before(&spike, 5.0), 422);
        assert_eq!(due_before(&spike, 9.0), 452);
        let due: Vec<f64> = Arrivals::of(&spike).take(500).collect();
        assert!(due.windows(2).all(|pair| pair[0] < pair[1]), "in order");
    }

    #[test]
    fn a_load_that_ends_in_zero_ends() {
        assert_eq!(Arrivals::of(&[stage(10.0, 0.0, "2s")]).count(), 10);
        assert_eq!(Arrivals::of(&[]).count(), 0);
        assert_eq!(Arrivals::of(&[stage(0.0, 0.0, "1s")]).count(), 0);
    }
}
