//! The figures of one run for a scorecard: the worst that any of its probes saw.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::{Report, availability, load, words};

/// None: no probe of the run tells it. Times are microseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Percent of the requests that succeeded: of the probe or the surge with the least.
    pub availability_percent: Option<f64>,
    pub requests: u64,
    pub failed: u64,
    /// From the fault to the first success that lasted (RTO); 0: nothing failed.
    pub rto_us: Option<u64>,
    /// How often a probe did not come back within its run.
    pub not_recovered: u64,
    /// Acknowledged records that were gone afterwards (RPO, in records).
    pub lost_records: Option<u64>,
    /// Over how long acknowledgements were lost (RPO, in time).
    pub lost_span_us: Option<u64>,
    pub duplicated_records: Option<u64>,
    /// From the fault to its alert.
    pub detect_us: Option<u64>,
    pub false_alarms: u64,
    /// From the end of the fault to the first success that lasted; 0: it had come back before, or nothing failed.
    pub recover_us: Option<u64>,
    /// To the last new value of a probe that follows one (failover).
    pub failover_us: Option<u64>,
    /// To the value that a probe's `reaches` waits for (scaling).
    #[serde(default)]
    pub reached_us: Option<u64>,
}

impl Figures {
    pub fn of(report: &Report) -> Figures {
        let mut figures = Figures::default();
        // A surge asks as customers do.
        let (requests, failed) = load::answered(report);
        figures.requests += requests;
        figures.failed += failed;
        figures.availability_percent = availability(requests - failed, failed).map(|seen| seen.percent);
        for probe in &report.probes {
            // What may degrade is judged by its own tolerance; alerts and values answer no requests of users.
            let serves =
                probe.essential && !probe.has_values() && probe.points.iter().all(|point| point.text.is_none());
            if let Some(seen) = probe.availability.filter(|_| serves) {
                figures.requests += seen.requests;
                figures.failed += seen.failed;
                figures.availability_percent = least(figures.availability_percent, Some(seen.percent));
            }
            figures.false_alarms += probe.false_alarms;
            for after in &probe.faults {
                figures.detect_us = figures.detect_us.max(after.detected_after_us);
                figures.reached_us = figures.reached_us.max(after.reached_after_us);
                figures.failover_us = figures.failover_us.max(after.change.as_ref().map(|change| change.after_us));
                if !serves {
                    continue;
                }
                let failed = after.recovery.failed_us.is_some();
                if failed && after.recovered_after_us.is_none() {
                    figures.not_recovered += 1;
                    continue;
                }
                let rto = after.recovered_after_us.unwrap_or(0);
                figures.rto_us = figures.rto_us.max(Some(rto));
                let ended = after.ended_us.map(|ended| (after.active_us + rto).saturating_sub(ended));
                figures.recover_us = figures.recover_us.max(ended.map(|us| if failed { us } else { 0 }));
            }
            if let Some(ledger) = &probe.ledger {
                figures.lost_records = figures.lost_records.max(ledger.lost.as_ref().map(|lost| lost.count()));
                figures.lost_span_us = figures.lost_span_us.max(ledger.lost_span_us);
                let twice = ledger.duplicated.as_ref().map(|twice| twice.count());
                figures.duplicated_records = figures.duplicated_records.max(twice);
            }
        }
        figures
    }

    /// Of several runs: the worst of each, requests summed up.
    pub fn worst<'a>(all: impl Iterator<Item = &'a Figures>) -> Figures {
        all.fold(Figures::default(), |worst, one| Figures {
            availability_percent: least(worst.availability_percent, one.availability_percent),
            requests: worst.requests + one.requests,
            failed: worst.failed + one.failed,
            rto_us: worst.rto_us.max(one.rto_us),
            not_recovered: worst.not_recovered + one.not_recovered,
            lost_records: worst.lost_records.max(one.lost_records),
            lost_span_us: worst.lost_span_us.max(one.lost_span_us),
            duplicated_records: worst.duplicated_records.max(one.duplicated_records),
            detect_us: worst.detect_us.max(one.detect_us),
            false_alarms: worst.false_alarms + one.false_alarms,
            recover_us: worst.recover_us.max(one.recover_us),
            failover_us: worst.failover_us.max(one.failover_us),
            reached_us: worst.reached_us.max(one.reached_us),
        })
    }

    /// `99.95%, 3.3 nines`.
    pub fn availability(&self) -> Option<String> {
        let percent = self.availability_percent?;
        let lacks = 1.0 - percent / 100.0;
        let nines = if lacks > 0.0 { format!(", {:.1} nines", -lacks.log10()) } else { String::new() };
        Some(format!("{}{nines}", words::share(percent)))
    }

    pub fn rto(&self) -> Option<String> {
        match (self.not_recovered, self.rto_us) {
            (0, rto) => rto.map(none_or_time),
            _ => Some("not back".to_owned()),
        }
    }

    pub fn rpo(&self) -> Option<String> {
        let lost = self.lost_records?;
        let span = self.lost_span_us.filter(|span| *span > 0).map(|span| format!(" over {}", words::time(span)));
        Some(match lost {
            0 => "nothing lost".to_owned(),
            1 => format!("1 record lost{}", span.unwrap_or_default()),
            lost => format!("{lost} records lost{}", span.unwrap_or_default()),
        })
    }

    pub fn detect(&self) -> Option<String> {
        self.detect_us.map(words::time)
    }

    pub fn recover(&self) -> Option<String> {
        match (self.not_recovered, self.recover_us) {
            // It was out, and back before the fault was over.
            (0, Some(0)) if self.rto_us > Some(0) => Some("before its end".to_owned()),
            (0, recover) => recover.map(none_or_time),
            _ => Some("not back".to_owned()),
        }
    }

    /// Name and words of those that there are.
    pub fn told(&self) -> Vec<(&'static str, String)> {
        let failover = self.failover_us.map(words::time);
        let alarms = (self.false_alarms > 0).then(|| self.false_alarms.to_string());
        let twice = self.duplicated_records.filter(|twice| *twice > 0).map(|twice| format!("{twice} records"));
        let all = [
            ("Availability", self.availability()),
            ("RTO", self.rto()),
            ("RPO", self.rpo()),
            ("Time to detect", self.detect()),
            ("Time to recover", self.recover()),
            ("Failover", failover),
            ("Capacity reached", self.reached_us.map(words::time)),
            ("Duplicated", twice),
            ("False alarms", alarms),
        ];
        all.into_iter().filter_map(|(name, words)| Some((name, words?))).collect()
    }
}

fn least(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn none_or_time(us: u64) -> String {
    if us == 0 { "no outage".to_owned() } else { words::time(us) }
}
