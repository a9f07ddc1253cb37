//! What happens to the next packet: pure, seeded, the same for both engines' words.
//!
//! *Correlation*: with that probability a packet takes the random number of the one before it, else a fresh one. So delays and losses
//! keep exactly the asked distribution and share, and neighbours are correlated by exactly that much. netem blends the old
//! number into the new instead (get_crandom), which narrows the spread and loses fewer packets than asked.
//!
//! *Jitter reorders*, as in netem: each packet has a delay of its own, so a later one may be due earlier. Correlation softens that.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use squall_experiments::effect::{Distribution, PacketDelay};

/// The longest tail of `normal` and `pareto`, in jitters above the latency.
const LONGEST_TAIL: f64 = 10.0;

/// The fates of one direction's packets.
#[derive(Debug)]
pub struct Model {
    random: ChaCha8Rng,
    latency_ns: f64,
    jitter_ns: f64,
    distribution: Distribution,
    correlation: f64,
    loss: f64,
    duplicate: f64,
    reorder: f64,
    corrupt: f64,
    last_delay: f64,
    last_loss: f64,
}

/// Of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fate {
    pub lost: bool,
    pub delay: Duration,
    /// Overtakes: it has no delay.
    pub early: bool,
    pub twice: bool,
    /// Flip this bit of what follows the IP header, modulo its length.
    pub flip: Option<u64>,
}

impl Model {
    /// `stream` tells the two directions apart.
    pub fn new(effect: &PacketDelay, stream: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(effect.seed);
        random.set_stream(stream);
        Model {
            last_delay: random.random(),
            last_loss: random.random(),
            random,
            latency_ns: effect.latency.0.as_nanos() as f64,
            jitter_ns: effect.jitter.0.as_nanos() as f64,
            distribution: effect.distribution,
            correlation: effect.correlation.fraction(),
            loss: effect.loss.fraction(),
            duplicate: effect.duplicate.fraction(),
            reorder: effect.reorder.fraction(),
            corrupt: effect.corrupt.fraction(),
        }
    }

    /// Packets leave in the order in which they came.
    pub fn keeps_order(&self) -> bool {
        self.jitter_ns == 0.0 && self.reorder == 0.0
    }

    pub fn next(&mut self) -> Fate {
        if self.loss > 0.0 {
            self.last_loss = self.correlated(self.last_loss);
            if self.last_loss < self.loss {
                return Fate { lost: true, ..Fate::default() };
            }
        }
        let early = self.chance(self.reorder);
        let delay = if early { Duration::ZERO } else { self.delay() };
        let twice = self.chance(self.duplicate);
        let flip = self.chance(self.corrupt).then(|| self.random.random());
        Fate { lost: false, delay, early, twice, flip }
    }

    fn chance(&mut self, share: f64) -> bool {
        share > 0.0 && self.random.random::<f64>() < share
    }

    fn correlated(&mut self, last: f64) -> f64 {
        if self.chance(self.correlation) { last } else { self.random.random() }
    }

    fn delay(&mut self) -> Duration {
        if self.jitter_ns == 0.0 {
            return Duration::from_nanos(self.latency_ns as u64);
        }
        self.last_delay = self.correlated(self.last_delay);
        let delay = self.latency_ns + spread(self.distribution, self.last_delay) * self.jitter_ns;
        Duration::from_nanos(delay.max(0.0) as u64)
    }
}

/// A uniform number from 0 to 1 as a deviation from the latency, in jitters.
pub fn spread(distribution: Distribution, uniform: f64) -> f64 {
    let spread = match distribution {
        Distribution::Uniform => 2.0 * uniform - 1.0,
        Distribution::Normal => normal(uniform),
        // Shape 3 and minimum 1 has mean 3/2 and standard deviation sqrt(3)/2: centred, and scaled to one jitter.
        Distribution::Pareto => ((1.0 - uniform).powf(-1.0 / 3.0) - 1.5) / 0.75_f64.sqrt(),
    };
    spread.min(LONGEST_TAIL)
}

/// The normal distribution's quantile (Acklam's rational approximation, relative error below 1.2e-9): one uniform number gives one
/// normal one, so that a kept number is a kept delay.
fn normal(uniform: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.38357751867269e2,
        -3.066479806614716e1,
        2.506628277459239,
    ];
    const B: [f64; 5] =
        [-5.447609879822406e1, 1.615858368580409e2, -1.556989798598866e2, 6.680131188771972e1, -1.328068155288572e1];
    const C: [f64; 6] = [
        -7.784894002430293e-3,
        -3.223964580411365e-1,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 4] = [7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416];
    const LOW: f64 = 0.02425;
    let p = uniform.clamp(1e-12, 1.0 - 1e-12);
    let poly = |coefficients: &[f64], x: f64| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    if p < LOW {
        let q = (-2.0 * p.ln()).sqrt();
        poly(&C, q) / (poly(&D, q) * q + 1.0)
    } else if p > 1.0 - LOW {
        -normal(1.0 - p)
    } else {
        let q = p - 0.5;
        let r = q * q;
        poly(&A, r) * q / (poly(&B, r) * r + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_experiments::effect::{Engine, Flow};
    use squall_experiments::units::{Percent, Span};

    fn effect() -> PacketDelay {
        PacketDelay {
            flow: Flow::default(),
            engine: Engine::PacketQueue,
            latency: Span::from_millis(100),
            jitter: Span::from_millis(10),
            correlation: Percent::ZERO,
            distribution: Distribution::Uniform,
            loss: Percent::ZERO,
            duplicate: Percent::ZERO,
            reorder: Percent::ZERO,
            corrupt: Percent::ZERO,
            seed: 7,
        }
    }

    fn fates(effect: &PacketDelay) -> Vec<Fate> {
        let mut model = Model::new(effect, 0);
        (0..50_000).map(|_| model.next()).collect()
    }

    /// Mean, standard deviation and lag-one correlation, in milliseconds.
    fn moments(effect: &PacketDelay) -> (f64, f64, f64) {
        let delays: Vec<f64> = fates(effect).iter().map(|fate| fate.delay.as_secs_f64() * 1000.0).collect();
        let mean = delays.iter().sum::<f64>() / delays.len() as f64;
        let variance = delays.iter().map(|delay| (delay - mean).powi(2)).sum::<f64>() / delays.len() as f64;
        let together = delays.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum::<f64>();
        (mean, variance.sqrt(), together / delays.len() as f64 / variance)
    }

    #[test]
    fn each_distribution_has_the_asked_mean_and_spread() {
        for (distribution, deviation, slack) in [
            (Distribution::Uniform, 10.0 / 3.0_f64.sqrt(), 0.1),
            (Distribution::Normal, 10.0, 0.2),
            // The tail beyond ten jitters is cut, which takes about a tenth of the spread.
            (Distribution::Pareto, 9.2, 0.9),
        ] {
            let (mean, found, _) = moments(&PacketDelay { distribution, ..effect() });
            assert!((mean - 100.0).abs() < 0.4, "{distribution:?}: mean {mean}");
            assert!((found - deviation).abs() < slack, "{distribution:?}: deviation {found}");
        }
    }

    #[test]
    fn uniform_stays_within_its_bounds_and_pareto_has_only_an_upper_tail() {
        let ms = |fate: &Fate| fate.delay.as_secs_f64() * 1000.0;
        assert!(fates(&effect()).iter().all(|fate| (90.0..=110.0).contains(&ms(fate))));
        let pareto = fates(&PacketDelay { distribution: Distribution::Pareto, ..effect() });
        assert!(pareto.iter().all(|fate| (94.0..=200.0).contains(&ms(fate))));
        assert!(pareto.iter().any(|fate| ms(fate) > 150.0));
    }

    #[test]
    fn correlation_keeps_the_spread_and_ties_neighbours_by_that_much() {
        let correlated = PacketDelay { correlation: Percent::new(50.0).unwrap(), ..effect() };
        let (mean, deviation, together) = moments(&correlated);
        assert!((mean - 100.0).abs() < 0.3 && (deviation - 5.77).abs() < 0.2, "{mean} {deviation}");
        assert!((together - 0.5).abs() < 0.03, "{together}");
    }

    #[test]
    fn correlated_loss_still_loses_the_asked_share_in_longer_bursts() {
        let share = Percent::new(10.0).unwrap();
        let bursts = |correlation: f64| {
            let effect = PacketDelay { loss: share, correlation: Percent::new(correlation).unwrap(), ..effect() };
            let fates = fates(&effect);
            let lost = fates.iter().filter(|fate| fate.lost).count();
            let starts = fates.windows(2).filter(|pair| !pair[0].lost && pair[1].lost).count();
            (lost as f64 / fates.len() as f64, lost as f64 / starts as f64)
        };
        let (plain, short) = bursts(0.0);
        let (correlated, long) = bursts(75.0);
        assert!((plain - 0.1).abs() < 0.01 && (correlated - 0.1).abs() < 0.02, "{plain} {correlated}");
        assert!(long > 2.0 * short, "{short} {long}");
    }

    #[test]
    fn the_same_seed_is_the_same_fate_and_the_two_directions_differ() {
        let effect = PacketDelay { loss: Percent::new(5.0).unwrap(), ..effect() };
        assert_eq!(fates(&effect), fates(&effect));
        let mut other = Model::new(&effect, 1);
        assert!(fates(&effect).iter().any(|fate| *fate != other.next()));
    }

    #[test]
    fn a_wide_normal_never_goes_below_zero() {
        let wide = PacketDelay { latency: Span::from_millis(1), distribution: Distribution::Normal, ..effect() };
        assert!(fates(&wide).iter().any(|fate| fate.delay.is_zero()));
    }
}
