//! The account of one ledger: what was acknowledged, what was seen, and what that comes to.
//!
//! It judges as Jepsen's set checkers do. Lost: acknowledged, and not there after the system was whole again and had its time to
//! settle. A write without a clear answer is never lost; that it is there all the same is said and is no fault. Duplicated: there
//! more than once although it was sent once. Stale: a read that *began* after the acknowledgement lacked a record that is not lost.
//! Split brain: two nodes both accepted a write in each of two rounds that follow each other. One such round may be a hand-over;
//! two would be three hand-overs back and forth within two rounds.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LedgerProbe, Ranges, Reply, Seen, Write};
use crate::judge::Judged;
use crate::probe::{Allowed, Judgement, Tolerance};
use crate::report::words::time;
use crate::units::Span;

#[derive(Debug, Clone, Default)]
pub struct Account {
    /// Record → when its acknowledgement was heard.
    acknowledged: BTreeMap<u64, u64>,
    rejected: BTreeSet<u64>,
    unknown: BTreeSet<u64>,
    reads: Vec<Read>,
    /// The last round in which two nodes accepted, and which.
    shared: Option<(u64, BTreeSet<String>)>,
    shared_rounds: u64,
    split: Option<SplitBrain>,
    accepting: Vec<(u64, Vec<String>)>,
    reconciled: Option<Reconciled>,
}

#[derive(Debug, Clone)]
struct Read {
    record: u64,
    from: String,
    missing_us: Option<u64>,
    found: bool,
}

#[derive(Debug, Clone)]
struct Reconciled {
    from: String,
    found: Ranges,
    repeated: Option<Vec<(u64, u64)>>,
    unanswered: Ranges,
    unread: Option<String>,
}

/// What an account comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    pub acknowledged: u64,
    pub rejected: u64,
    /// Without a clear answer.
    pub unknown: u64,
    /// Of those, how many are there all the same.
    pub unknown_but_there: u64,
    /// Rejected, and there all the same.
    pub rejected_but_there: u64,
    /// Acknowledged and not there. None: not counted, or not all of it.
    pub lost: Option<Ranges>,
    /// From the last acknowledgement before the first lost one that is kept, to the last lost one; 0 with nothing lost.
    pub lost_span_us: Option<u64>,
    /// When the first and the last lost record was acknowledged.
    pub lost_between_us: Option<(u64, u64)>,
    /// Records that are there more than once.
    pub duplicated: Option<Ranges>,
    /// Where it was counted: `list` or the name of a `read`.
    pub counted_by: Option<String>,
    /// Why it was not counted.
    pub unread: Option<String>,
    pub reads: Vec<Readings>,
    pub split_brain: Option<SplitBrain>,
    /// Rounds in which two nodes accepted a write, whether or not that was a split brain for certain.
    pub shared_rounds: u64,
    /// Which nodes accepted writes, and since when: as it changed.
    pub accepting: Vec<(u64, Vec<String>)>,
}

/// Reads of one replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Readings {
    pub from: String,
    /// Records that were followed.
    pub records: u64,
    /// Of those, how many were missing at first.
    pub stale: u64,
    /// The greatest age at which a record was still missing; lost records are left out.
    pub worst_us: u64,
    /// Records of which no read was answered clearly.
    pub unknown: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SplitBrain {
    /// When it was certain.
    pub at_us: u64,
    pub nodes: Vec<String>,
}

impl Account {
    pub fn wrote(&mut self, at_us: u64, write: Write) {
        match write.reply {
            Reply::Acknowledged => {
                self.acknowledged.entry(write.record).or_insert(at_us);
            }
            Reply::Rejected => {
                self.rejected.insert(write.record);
            }
            Reply::Unknown => {
                self.unknown.insert(write.record);
            }
        }
    }

    pub fn saw(&mut self, at_us: u64, seen: &Seen) {
        match seen {
            Seen::Read { record, from, missing_us, found_us, .. } => self.reads.push(Read {
                record: *record,
                from: from.clone(),
                missing_us: *missing_us,
                found: found_us.is_some(),
            }),
            Seen::Accepted { round, nodes } => self.accepted(at_us, *round, nodes),
            Seen::Reconciled { from, found, repeated, unanswered, unread } => {
                self.reconciled = Some(Reconciled {
                    from: from.clone(),
                    found: found.clone(),
                    repeated: repeated.clone(),
                    unanswered: unanswered.clone(),
                    unread: unread.clone(),
                });
            }
        }
    }

    fn accepted(&mut self, at_us: u64, round: u64, nodes: &[String]) {
        if self.accepting.last().is_none_or(|(_, before)| before != nodes) {
            self.accepting.push((at_us, nodes.to_vec()));
        }
        if nodes.len() < 2 {
            return;
        }
        self.shared_rounds += 1;
        let now: BTreeSet<String> = nodes.iter().cloned().collect();
        if let Some((before, then)) = &self.shared
            && before.checked_add(1) == Some(round)
        {
            let both: Vec<String> = now.intersection(then).cloned().collect();
            if both.len() >= 2 && self.split.is_none() {
                self.split = Some(SplitBrain { at_us, nodes: both });
            }
        }
        self.shared = Some((round, now));
    }

    pub fn acknowledged(&self) -> Ranges {
        self.acknowledged.keys().copied().collect()
    }

    pub fn is_reconciled(&self) -> bool {
        self.reconciled.is_some()
    }

    pub fn split_brain(&self) -> Option<&SplitBrain> {
        self.split.as_ref()
    }

    pub fn findings(&self) -> Findings {
        let counted = self.reconciled.as_ref().filter(|reconciled| reconciled.unread.is_none());
        let lost: Option<Ranges> = counted.map(|counted| {
            let missing = self.acknowledged.keys().copied();
            missing.filter(|record| !counted.found.contains(*record) && !counted.unanswered.contains(*record)).collect()
        });
        // What could not be read may be lost as well: then nobody knows how many are.
        let partly = counted.is_some_and(|c| c.unanswered.iter().any(|record| self.acknowledged.contains_key(&record)));
        let there = |records: &BTreeSet<u64>| {
            counted.map_or(0, |counted| records.iter().filter(|record| counted.found.contains(**record)).count() as u64)
        };
        let acked_us = |record: u64| self.acknowledged.get(&record).copied();
        let lost_times: Vec<u64> = lost.iter().flat_map(Ranges::iter).filter_map(acked_us).collect();
        let between = lost_times.iter().min().copied().zip(lost_times.iter().max().copied());
        let kept_before = |first: u64| {
            let kept = self
                .acknowledged
                .iter()
                .filter(|(record, at)| **at <= first && lost.as_ref().is_some_and(|lost| !lost.contains(**record)));
            kept.map(|(_, at)| *at).max().unwrap_or(first)
        };
        Findings {
            acknowledged: self.acknowledged.len() as u64,
            rejected: self.rejected.len() as u64,
            unknown: self.unknown.len() as u64,
            unknown_but_there: there(&self.unknown),
            rejected_but_there: there(&self.rejected),
            lost_span_us: counted
                .filter(|_| !partly || between.is_some())
                .map(|_| between.map_or(0, |(first, last)| last.saturating_sub(kept_before(first)))),
            lost_between_us: between,
            duplicated: counted
                .and_then(|counted| counted.repeated.as_ref())
                .map(|repeated| repeated.iter().filter(|(_, times)| *times > 1).map(|(record, _)| *record).collect()),
            counted_by: counted.map(|counted| counted.from.clone()),
            unread: match (&self.reconciled, partly) {
                (Some(reconciled), false) => reconciled.unread.clone(),
                (Some(reconciled), true) => {
                    Some(format!("{} records could not be read", reconciled.unanswered.count()))
                }
                (None, _) => Some("it was not counted".to_owned()),
            },
            reads: self.readings(lost.as_ref()),
            lost: lost.filter(|lost| !partly || !lost.is_empty()),
            split_brain: self.split.clone(),
            shared_rounds: self.shared_rounds,
            accepting: self.accepting.clone(),
        }
    }

    fn readings(&self, lost: Option<&Ranges>) -> Vec<Readings> {
        let mut by_replica: BTreeMap<&str, Readings> = BTreeMap::new();
        for read in self.reads.iter().filter(|read| lost.is_none_or(|lost| !lost.contains(read.record))) {
            let readings = by_replica.entry(&read.from).or_insert_with(|| Readings {
                from: read.from.clone(),
                records: 0,
                stale: 0,
                worst_us: 0,
                unknown: 0,
            });
            readings.records += 1;
            readings.stale += u64::from(read.missing_us.is_some());
            readings.unknown += u64::from(read.missing_us.is_none() && !read.found);
            readings.worst_us = readings.worst_us.max(read.missing_us.unwrap_or(0));
        }
        by_replica.into_values().collect()
    }

    /// Whether the ledger is right, once it is counted.
    pub fn judge(&self, ledger: &LedgerProbe, tolerance: &Tolerance) -> Judged {
        let found = self.findings();
        let judged = |judgement, detail: String| Judged { judgement, detail, blind: false };
        if let Some(split) = &found.split_brain
            && tolerance.split_brain != Some(Allowed::Counted)
        {
            return judged(Judgement::Fail, split.in_words());
        }
        let lost = found.lost.as_ref();
        let allowed = tolerance.lost.unwrap_or(if tolerance.rpo.is_some() { u64::MAX } else { 0 });
        if let Some(lost) = lost.filter(|lost| lost.count() > allowed) {
            let span = time(found.lost_span_us.unwrap_or(0));
            let detail = format!(
                "{} of {} acknowledged records are lost (at most {allowed} may be): {}, written within {span}",
                lost.count(),
                found.acknowledged,
                lost.in_words(5)
            );
            return judged(Judgement::Fail, detail);
        }
        let span = |us: u64| Span(std::time::Duration::from_micros(us));
        if let Some((bound, us)) = tolerance.rpo.zip(found.lost_span_us).filter(|(bound, us)| !bound.holds(&span(*us)))
        {
            let count = lost.map_or(0, Ranges::count);
            return judged(Judgement::Fail, format!("{count} records are lost, RPO {} (must be {bound})", time(us)));
        }
        let allowed = tolerance.duplicated.unwrap_or(0);
        if let Some(duplicated) = found.duplicated.as_ref().filter(|duplicated| duplicated.count() > allowed) {
            let (count, which) = (duplicated.count(), duplicated.in_words(5));
            let detail = format!("{count} records are there more than once (at most {allowed} may be): {which}");
            return judged(Judgement::Fail, detail);
        }
        let unknown = |detail: String| judged(Judgement::Unknown, detail);
        if let Some(bound) = tolerance.stale {
            for reading in &found.reads {
                if !bound.holds(&span(reading.worst_us)) {
                    let worst = time(reading.worst_us);
                    let detail = format!("{} lacked a record {worst} old (must be {bound})", reading.from);
                    return judged(Judgement::Fail, detail);
                }
            }
            let read = |name: &str| found.reads.iter().find(|reading| reading.from == name);
            for replica in &ledger.read {
                if read(&replica.name).is_none_or(|reading| reading.unknown == reading.records) {
                    return unknown(format!("{} answered no read of a record", replica.name));
                }
            }
        }
        if let Some(why) = &found.unread {
            return unknown(format!("the records cannot be counted: {why}"));
        }
        if found.acknowledged == 0 {
            return unknown("no record was ever acknowledged".to_owned());
        }
        if !ledger.nodes.is_empty() && found.accepting.is_empty() {
            return unknown("no node was ever asked for a write of its own".to_owned());
        }
        judged(Judgement::Pass, found.in_words())
    }
}

impl SplitBrain {
    pub fn in_words(&self) -> String {
        format!("split brain: {} accepted writes at the same time", self.nodes.join(" and "))
    }
}

impl Findings {
    /// `412 acknowledged, none lost, none duplicated`.
    pub fn in_words(&self) -> String {
        let count = |set: Option<&Ranges>, what: &str| match set.map(Ranges::count) {
            None => format!("{what} unknown"),
            Some(0) => format!("none {what}"),
            Some(count) => format!("{count} {what}"),
        };
        let mut said = vec![format!("{} acknowledged", self.acknowledged), count(self.lost.as_ref(), "lost")];
        if self.lost.as_ref().is_some_and(|lost| !lost.is_empty()) {
            said.push(format!("RPO {}", time(self.lost_span_us.unwrap_or(0))));
        }
        said.push(count(self.duplicated.as_ref(), "duplicated"));
        if self.unknown > 0 {
            said.push(format!("{} without an answer ({} of them there)", self.unknown, self.unknown_but_there));
        }
        if self.rejected > 0 {
            said.push(format!("{} rejected ({} of them there)", self.rejected, self.rejected_but_there));
        }
        for reading in &self.reads {
            said.push(match reading.worst_us {
                0 if reading.stale == 0 => format!("{} never stale", reading.from),
                worst => format!("{} stale up to {}", reading.from, time(worst)),
            });
        }
        said.join(", ")
    }
}

#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
