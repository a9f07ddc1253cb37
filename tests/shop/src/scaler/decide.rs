//! How many replicas, from the load. Pure: out at once, in slowly, and never by what is not known.

use std::time::{Duration, Instant};

/// The share of a replica that is used when all is as it should be.
const COMFORTABLE: f64 = 0.6;
/// What is calm enough.
pub const CALM: Duration = Duration::from_secs(10);

#[derive(Clone, Copy)]
pub struct Limits {
    pub least: u16,
    pub most: u16,
    /// The load must have been lower for so long before a replica is taken away, and before the next.
    pub calm: Duration,
}

pub struct Decider {
    limits: Limits,
    replicas: u16,
    /// Since when fewer would do.
    calm_since: Option<Instant>,
}

impl Decider {
    pub fn new(limits: Limits) -> Decider {
        Decider { limits, replicas: limits.least, calm_since: None }
    }

    /// `load`: replicas' worth of work. None: not known, and nothing changes.
    pub fn decide(&mut self, load: Option<f64>, now: Instant) -> u16 {
        let Some(load) = load else {
            self.calm_since = None;
            return self.replicas;
        };
        let needed = (load / COMFORTABLE).ceil().clamp(self.limits.least.into(), self.limits.most.into());
        // A number between two u16.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to two u16")]
        let needed = needed as u16;
        if needed >= self.replicas {
            self.replicas = needed;
            self.calm_since = None;
        } else if now.duration_since(*self.calm_since.get_or_insert(now)) >= self.limits.calm {
            self.replicas -= 1;
            self.calm_since = Some(now);
        }
        self.replicas
    }
}

/// Evenly over the hosts, each at most `most_each`; the first hosts get the rest.
pub fn spread<'a>(replicas: u16, hosts: &[&'a str], most_each: u16) -> Vec<(&'a str, u16)> {
    let number = u16::try_from(hosts.len()).unwrap_or(u16::MAX);
    let share = |index: u16| replicas / number + u16::from(index < replicas % number);
    (0..number).zip(hosts).map(|(index, host)| (*host, share(index).min(most_each))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decider() -> Decider {
        Decider::new(Limits { least: 3, most: 9, calm: CALM })
    }

    #[test]
    fn more_load_brings_replicas_at_once_and_never_more_than_the_limit() {
        let (mut decider, now) = (decider(), Instant::now());
        assert_eq!(decider.decide(Some(0.1), now), 3);
        assert_eq!(decider.decide(Some(3.0), now), 5);
        assert_eq!(decider.decide(Some(100.0), now), 9);
    }

    #[test]
    fn less_load_takes_one_replica_away_after_each_calm_time() {
        let (mut decider, start) = (decider(), Instant::now());
        assert_eq!(decider.decide(Some(3.0), start), 5);
        assert_eq!(decider.decide(Some(0.0), start), 5);
        assert_eq!(decider.decide(Some(0.0), start + CALM), 4);
        assert_eq!(decider.decide(Some(0.0), start + CALM + Duration::from_secs(1)), 4);
        assert_eq!(decider.decide(Some(0.0), start + CALM * 2), 3);
        assert_eq!(decider.decide(Some(0.0), start + CALM * 9), 3);
    }

    #[test]
    fn an_unknown_load_changes_nothing() {
        let (mut decider, start) = (decider(), Instant::now());
        decider.decide(Some(3.0), start);
        assert_eq!(decider.decide(None, start + CALM * 9), 5);
    }

    #[test]
    fn replicas_go_evenly_to_the_hosts_that_are_there() {
        assert_eq!(spread(4, &["a", "b", "c"], 3), [("a", 2), ("b", 1), ("c", 1)]);
        assert_eq!(spread(5, &["a", "c"], 3), [("a", 3), ("c", 2)]);
        assert_eq!(spread(9, &["a"], 3), [("a", 3)]);
        assert_eq!(spread(3, &[], 3), []);
    }
}
