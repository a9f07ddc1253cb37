//! Tolerances that count from the fault: how soon the service is back, a value changes, a value is reached, an alert fires.
//!
//! The fault begins when its agent is last known not to have finished applying it: a time that counts from there is at most too
//! long, by the time it took to apply, and never too short.

use crate::probe::{Bound, Outcome, Sample, Tolerance};
use crate::recovery::{DEFAULT_SUSTAINED, Timeline};
use crate::report::words::time;
use crate::units::Span;

/// A value as it is compared.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Number(f64),
    Text(String),
}

impl Value {
    pub fn of(sample: &Sample) -> Option<Value> {
        if sample.outcome != Outcome::Ok {
            return None;
        }
        sample.text.clone().map(Value::Text).or(sample.value.filter(|value| !value.is_nan()).map(Value::Number))
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Number(number) => write!(f, "{number}"),
            Value::Text(text) => write!(f, "`{}`", crate::check::shown(text)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Holds,
    Broken,
    /// Not yet known; at the end of the phase it stays so.
    Open,
}

/// What one probe saw since the latest fault.
#[derive(Debug, Clone)]
pub struct SinceFault {
    tolerance: Tolerance,
    /// None: a fault is ordered, and not yet known to be active.
    origin_us: Option<u64>,
    timeline: Timeline,
    /// The latest value before the fault.
    before: Option<Value>,
    /// (began, ended, value) in the order in which they were heard.
    values: Vec<(u64, u64, Value)>,
}

impl SinceFault {
    pub fn new(tolerance: &Tolerance, before: Option<Value>) -> Self {
        let tolerance = tolerance.clone();
        SinceFault { tolerance, origin_us: None, timeline: Timeline::default(), before, values: Vec::new() }
    }

    /// Another fault is ordered: what counts from a fault counts from it now.
    pub fn ordered(&mut self) {
        self.before = self.values.last().map(|(.., value)| value.clone()).or(self.before.take());
        self.origin_us = None;
        self.values.clear();
    }

    pub fn active(&mut self, since_us: u64) {
        self.origin_us.get_or_insert(since_us);
    }

    /// Measured something.
    pub fn push(&mut self, began_us: u64, ended_us: u64, sample: &Sample) {
        if self.tolerance.recovers.is_some() {
            self.timeline.push(began_us, ended_us, sample.outcome == Outcome::Ok);
        }
        let wanted = self.tolerance.changes.is_some() || self.tolerance.reaches.is_some();
        if (wanted || self.tolerance.fires_within.is_some())
            && let Some(value) = Value::of(sample)
        {
            self.values.push((began_us, ended_us, value));
        }
    }

    /// A sample that began then is part of the time in which the system may recover.
    pub fn forgives(&self, began_us: u64) -> bool {
        let Some(bound) = self.tolerance.recovers else { return false };
        self.origin_us.is_none_or(|origin| began_us < origin.saturating_add(micros(bound.limit)))
    }

    /// Each tolerance that is given, with its sentence.
    pub fn judge(&self, now_us: u64) -> Vec<(Standing, String)> {
        let tolerance = &self.tolerance;
        let given = [
            tolerance.recovers.map(|bound| self.recovers(bound, now_us)),
            tolerance.changes.map(|bound| self.changes(bound, now_us)),
            tolerance.reaches.map(|reach| {
                let holds =
                    |value: &Value| matches!(value, Value::Number(n) if reach.bound.holds(&crate::probe::Number(*n)));
                self.becomes(&format!("value {}", reach.bound), reach.within, holds)
            }),
            tolerance.fires_within.map(|within| {
                let fires = |value: &Value| matches!(value, Value::Number(n) if *n > 0.0);
                if self.before.as_ref().is_some_and(fires) {
                    return (Standing::Open, "the alert was firing before the fault".to_owned());
                }
                self.becomes("the alert", within, fires)
            }),
        ];
        given.into_iter().flatten().collect()
    }

    fn sustained(&self) -> u32 {
        self.tolerance.sustained.unwrap_or(DEFAULT_SUSTAINED).max(1)
    }

    fn recovers(&self, bound: Bound<Span>, now_us: u64) -> (Standing, String) {
        let Some(origin) = self.origin_us else { return (Standing::Open, not_active()) };
        let recovery = self.timeline.recovery(origin, u64::MAX, self.sustained());
        let holds = |at_us: u64| bound.holds(&span(at_us.saturating_sub(origin)));
        let deadline = origin.saturating_add(micros(bound.limit));
        match (recovery.failed_us, recovery.recovered_us) {
            (None, _) => (Standing::Holds, "it did not fail under the fault".to_owned()),
            // What begins to fail later is no part of the recovery: the other tolerances judge it.
            (Some(failed), _) if failed >= deadline => {
                (Standing::Holds, "it did not fail in time to recover".to_owned())
            }
            (Some(failed), Some(at)) => {
                let (after, down) = (time(at.saturating_sub(origin)), time(at.saturating_sub(failed)));
                let standing = if holds(at) { Standing::Holds } else { Standing::Broken };
                (
                    standing,
                    format!("recovered {after} after the fault (must be {bound}), {down} after its first failure"),
                )
            }
            (Some(_), None) if recovery.rising_us.is_some_and(holds) || now_us < deadline => {
                (Standing::Open, format!("not recovered yet (must be {bound})"))
            }
            (Some(failed), None) => {
                let down = time(now_us.saturating_sub(failed));
                (Standing::Broken, format!("not recovered (must be {bound}), down for {down}"))
            }
        }
    }

    fn changes(&self, bound: Bound<Span>, now_us: u64) -> (Standing, String) {
        let Some(origin) = self.origin_us else { return (Standing::Open, not_active()) };
        let Some(before) = &self.before else { return (Standing::Open, "no value from before the fault".to_owned()) };
        let (changed, lasts) = change(before, &self.values, origin, self.sustained());
        let late = now_us >= origin.saturating_add(micros(bound.limit));
        match changed {
            Some((at, value)) if lasts || bound.holds(&span(at.saturating_sub(origin))) => {
                let after = time(at.saturating_sub(origin));
                let standing = match (lasts, bound.holds(&span(at.saturating_sub(origin)))) {
                    (false, _) => Standing::Open,
                    (true, true) => Standing::Holds,
                    (true, false) => Standing::Broken,
                };
                (standing, format!("changed from {before} to {value} {after} after the fault (must be {bound})"))
            }
            _ if late => (Standing::Broken, format!("still {before} (it must change {bound} after the fault)")),
            _ => (Standing::Open, format!("still {before}")),
        }
    }

    /// Some value is seen in time.
    fn becomes(&self, what: &str, within: Span, holds: impl Fn(&Value) -> bool) -> (Standing, String) {
        let Some(origin) = self.origin_us else { return (Standing::Open, not_active()) };
        let deadline = origin.saturating_add(micros(within));
        let first =
            self.values.iter().filter(|(began, _, value)| *began >= origin && holds(value)).map(|(_, at, _)| *at).min();
        // A look after the deadline is needed to say that nothing came.
        let looked = self.values.iter().any(|(began, ..)| *began >= deadline);
        match first {
            Some(at) => {
                let standing = if at <= deadline { Standing::Holds } else { Standing::Broken };
                (standing, format!("{what} seen {} after the fault (within {within})", time(at.saturating_sub(origin))))
            }
            None if looked => (Standing::Broken, format!("{what} not seen within {within} of the fault")),
            None => (Standing::Open, format!("{what} not seen yet (within {within} of the fault)")),
        }
    }
}

/// The first value that is another than `before`, and whether it lasted for `sustained` samples.
pub fn change<'a>(
    before: &Value,
    values: &'a [(u64, u64, Value)],
    origin_us: u64,
    sustained: u32,
) -> (Option<(u64, &'a Value)>, bool) {
    let mut candidate: Option<(u64, &Value, u32)> = None;
    for (_, ended, value) in values.iter().filter(|(began, ..)| *began >= origin_us) {
        candidate = match candidate {
            _ if value == before => None,
            Some((at, same, count)) if same == value => Some((at, same, count + 1)),
            _ => Some((*ended, value, 1)),
        };
        if let Some((at, value, count)) = candidate
            && count >= sustained
        {
            return (Some((at, value)), true);
        }
    }
    (candidate.map(|(at, value, _)| (at, value)), false)
}

fn not_active() -> String {
    "the fault is not active yet".to_owned()
}

fn span(us: u64) -> Span {
    Span(std::time::Duration::from_micros(us))
}

fn micros(span: Span) -> u64 {
    u64::try_from(span.0.as_micros()).unwrap_or(u64::MAX)
}
