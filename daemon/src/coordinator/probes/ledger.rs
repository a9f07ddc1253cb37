//! `ledger`: unique records written through the front door, read back from each replica, offered to each node, and counted in the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use squall_experiments::ledger::{
    LedgerList, LedgerProbe, LedgerRead, MOST_RECORDS, Ranges, Reply, Seen, Write, id, prefix,
};
use squall_experiments::probe::{HttpExpect, HttpProbe, Outcome, Probe, Sample};
use squall_experiments::run_state::Input;
use squall_experiments::units::Span;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::http::{self, Asked};
use super::{Measured, Tools};
use crate::clock::{self, Instant};

/// Records followed at a time; others are written and counted, and not read meanwhile.
const MOST_FOLLOWED: usize = 32;
/// Between two reads of a record that is missing.
const READ_AGAIN: Duration = Duration::from_millis(50);
/// A record that is not there by then is not followed any longer.
const LONGEST_FOLLOWED: Duration = Duration::from_secs(30);
/// Between two rounds of writes to all nodes.
const SHORTEST_ROUND: Duration = Duration::from_millis(200);
/// Between two looks for records that are missing in the end, and reads at a time.
const COUNT_AGAIN: Duration = Duration::from_millis(500);
const COUNTED_AT_ONCE: usize = 16;
/// Of a list of all records.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// One ledger of one run.
pub struct Ledger {
    run: String,
    name: String,
    every: Duration,
    ledger: LedgerProbe,
    /// Greatest age that `stale` allows.
    stale: Option<Duration>,
    tools: Arc<Tools>,
    inbox: mpsc::Sender<Input>,
    next_record: AtomicU64,
    next_round: AtomicU64,
    followed: Arc<AtomicUsize>,
}

impl Ledger {
    /// None: the probe is none.
    pub fn new(run: &str, probe: &Probe, tools: Arc<Tools>, inbox: mpsc::Sender<Input>) -> Option<Self> {
        Some(Ledger {
            run: run.to_owned(),
            name: probe.name.clone(),
            every: probe.every.0,
            ledger: probe.ledger.clone()?,
            stale: probe.tolerance.stale.map(|bound| bound.limit.0),
            tools,
            inbox,
            next_record: AtomicU64::new(0),
            next_round: AtomicU64::new(0),
            followed: Arc::default(),
        })
    }

    pub fn has_nodes(&self) -> bool {
        !self.ledger.nodes.is_empty()
    }

    /// Writes the next record.
    pub async fn write(&self) -> Sample {
        let record = self.next_record.fetch_add(1, Ordering::Relaxed);
        let start = Instant::now();
        if record >= MOST_RECORDS {
            return Measured::unknown(format!("the ledger is full: {MOST_RECORDS} records")).lasting(start);
        }
        let request = self.filled(&self.ledger.write, &id(&self.run, &self.name, record));
        let (measured, reply) = self.offered(&request).await;
        Sample { write: Some(Write { record, reply }), ..measured.lasting(start) }
    }

    async fn offered(&self, request: &HttpProbe) -> (Measured, Reply) {
        match http::ask(request, &self.tools.http, http::MAX_BODY).await {
            Asked::Impossible(why) => (Measured::unknown(why), Reply::Rejected),
            Asked::NotSent(why) => (Measured::bad(why), Reply::Rejected),
            Asked::NoAnswer(why) => (Measured::bad(why), Reply::Unknown),
            Asked::Answered { status, body } => {
                let measured = http::judged(request, status, body);
                let reply = match (measured.outcome, status) {
                    (Outcome::Ok, _) => Reply::Acknowledged,
                    // 408: the server gave up waiting, and says nothing of what it had begun.
                    (_, 400..=407 | 409..=499) => Reply::Rejected,
                    _ => Reply::Unknown,
                };
                (measured, reply)
            }
        }
    }

    fn filled(&self, http: &HttpProbe, id: &str) -> HttpProbe {
        let fill = |text: &String| self.fill(text, id);
        HttpProbe {
            url: fill(&http.url),
            headers: http.headers.iter().map(|(name, value)| (name.clone(), fill(value))).collect(),
            body: http.body.as_ref().map(fill),
            ..http.clone()
        }
    }

    fn fill(&self, text: &str, id: &str) -> String {
        text.replace("{id}", id).replace("{run}", &prefix(&self.run, &self.name))
    }

    /// Reads a record that was just acknowledged from every replica, in the background.
    pub fn follow(self: &Arc<Self>, sample: &Sample, following: &mut JoinSet<()>) {
        let Some(Write { record, reply: Reply::Acknowledged }) = sample.write else { return };
        let acknowledged = Instant::now();
        for index in 0..self.ledger.read.len() {
            if self.followed.fetch_add(1, Ordering::Relaxed) >= MOST_FOLLOWED * self.ledger.read.len() {
                self.followed.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (ledger, slot) = (self.clone(), Slot(self.followed.clone()));
            following.spawn(async move {
                let seen = ledger.read_until_there(record, &ledger.ledger.read[index], acknowledged).await;
                drop(slot);
                let _ = ledger.tell(seen).await;
            });
        }
    }

    async fn read_until_there(&self, record: u64, read: &LedgerRead, acknowledged: Instant) -> Seen {
        let longest =
            self.stale.map_or(LONGEST_FOLLOWED, |stale| (stale * 2).clamp(Duration::from_secs(2), LONGEST_FOLLOWED));
        let (mut missing_us, mut found_us, mut unanswered) = (None, None, 0_u32);
        while found_us.is_none() && acknowledged.elapsed() < longest {
            let began_us = clock::micros_since(acknowledged);
            match self.has(read, record).await {
                Some(true) => found_us = Some(clock::micros_since(acknowledged)),
                Some(false) => missing_us = Some(began_us),
                None => unanswered += 1,
            }
            if found_us.is_none() {
                tokio::time::sleep(READ_AGAIN).await;
            }
        }
        Seen::Read { record, from: read.name.clone(), missing_us, found_us, unanswered }
    }

    /// None: no clear answer.
    async fn has(&self, read: &LedgerRead, record: u64) -> Option<bool> {
        let id = id(&self.run, &self.name, record);
        let request = get(self.fill(&read.url, &id), &read.headers, read.timeout);
        match http::ask(&request, &self.tools.http, http::MAX_BODY).await {
            Asked::Answered { status: 404 | 410, .. } => Some(false),
            Asked::Answered { status: 200..=299, body: Ok(body) } => {
                let text = String::from_utf8_lossy(&body);
                let there = records_in(&text, &prefix(&self.run, &self.name)).any(|found| found == record);
                // What was cut off may have held it.
                (there || body.len() < http::MAX_BODY).then_some(there)
            }
            _ => None,
        }
    }

    /// Offers a write to every node, round after round.
    pub async fn watch_nodes(&self) {
        let mut interval = tokio::time::interval(self.every.max(SHORTEST_ROUND));
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut before: Option<Vec<String>> = None;
        loop {
            interval.tick().await;
            let round = self.next_round.fetch_add(1, Ordering::Relaxed);
            let offers = self.ledger.nodes.iter().map(|node| async move {
                // A record of the node's own: it is no part of what is counted.
                let id = format!("{}node-{}-{round}", prefix(&self.run, &self.name), node.name);
                let (_, reply) = self.offered(&self.filled(&node.write, &id)).await;
                (reply == Reply::Acknowledged).then(|| node.name.clone())
            });
            let nodes: Vec<String> = join_all(offers).await.into_iter().flatten().collect();
            if nodes.len() < 2 && before.as_ref() == Some(&nodes) {
                continue;
            }
            before = Some(nodes.clone());
            if self.tell(Seen::Accepted { round, nodes }).await.is_err() {
                return;
            }
        }
    }

    /// Looks for the acknowledged records until all are there, or the time to settle is over.
    pub async fn count(&self, acknowledged: &Ranges) {
        let until = Instant::now() + self.ledger.settle.0;
        let seen = match &self.ledger.list {
            Some(list) => self.count_list(list, acknowledged, until).await,
            None => self.count_reads(acknowledged, until).await,
        };
        let _ = self.tell(seen).await;
    }

    async fn count_list(&self, list: &LedgerList, acknowledged: &Ranges, until: Instant) -> Seen {
        // The last answer counts: an earlier list says nothing of what is there in the end.
        let read = loop {
            let read = self.listed(list).await;
            let whole = |found: &BTreeMap<u64, u64>| acknowledged.iter().all(|record| found.contains_key(&record));
            if Instant::now() >= until || read.as_ref().is_ok_and(whole) {
                break read;
            }
            tokio::time::sleep(COUNT_AGAIN).await;
        };
        let (found, unread) = match read {
            Ok(found) => (found, None),
            Err(why) => (BTreeMap::new(), Some(why)),
        };
        Seen::Reconciled {
            from: "list".to_owned(),
            repeated: Some(
                found.iter().filter(|(_, times)| **times > 1).map(|(record, times)| (*record, *times)).collect(),
            ),
            found: found.into_keys().collect(),
            unanswered: Ranges::default(),
            unread,
        }
    }

    /// Record → how often it is there.
    async fn listed(&self, list: &LedgerList) -> Result<BTreeMap<u64, u64>, String> {
        let prefix = prefix(&self.run, &self.name);
        let request = get(self.fill(&list.url, ""), &list.headers, list.timeout);
        let body = match http::ask(&request, &self.tools.http, MOST_BYTES).await {
            Asked::Answered { status: 200..=299, body } => body?,
            Asked::Answered { status, .. } => return Err(format!("the list answers status {status}")),
            Asked::Impossible(why) | Asked::NotSent(why) | Asked::NoAnswer(why) => return Err(why),
        };
        if body.len() >= MOST_BYTES {
            return Err(format!("the list is longer than {MOST_BYTES} bytes"));
        }
        let mut times = BTreeMap::new();
        let mut count = |record| *times.entry(record).or_insert(0) += 1;
        match &list.ids {
            None => records_in(&String::from_utf8_lossy(&body), &prefix).for_each(&mut count),
            Some(pointer) => {
                let json: serde_json::Value =
                    serde_json::from_slice(&body).map_err(|error| format!("the list is not JSON: {error}"))?;
                let found = at(&json, pointer).ok_or_else(|| format!("the list has nothing at `{pointer}`"))?;
                let texts = found.into_iter().filter_map(serde_json::Value::as_str);
                let records = texts.filter_map(|text| text.strip_prefix(&prefix)?.parse::<u64>().ok());
                records.for_each(&mut count);
            }
        }
        Ok(times)
    }

    async fn count_reads(&self, acknowledged: &Ranges, until: Instant) -> Seen {
        let Some(read) = self.ledger.read.first() else {
            let unread = Some("the ledger has neither `list` nor `read`".to_owned());
            let (found, unanswered) = Default::default();
            return Seen::Reconciled { from: String::new(), found, repeated: None, unanswered, unread };
        };
        let (mut found, mut open) = (Vec::new(), acknowledged.iter().collect::<Vec<u64>>());
        let mut silent = Vec::new();
        loop {
            let mut missing = Vec::new();
            silent.clear();
            for some in open.chunks(COUNTED_AT_ONCE) {
                let answers = join_all(some.iter().map(|record| self.has(read, *record))).await;
                for (record, there) in some.iter().zip(answers) {
                    match there {
                        Some(true) => found.push(*record),
                        Some(false) => missing.push(*record),
                        None => silent.push(*record),
                    }
                }
            }
            open = [missing, silent.clone()].concat();
            if open.is_empty() || Instant::now() >= until {
                break;
            }
            tokio::time::sleep(COUNT_AGAIN).await;
        }
        Seen::Reconciled {
            from: read.name.clone(),
            found: found.into_iter().collect(),
            repeated: None,
            unanswered: silent.into_iter().collect(),
            unread: None,
        }
    }

    async fn tell(&self, seen: Seen) -> Result<(), mpsc::error::SendError<Input>> {
        self.inbox.send(Input::Ledger { probe: self.name.clone(), seen }).await
    }
}

/// One of those that may be followed at a time.
struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn get(url: String, headers: &BTreeMap<String, String>, timeout: Span) -> HttpProbe {
    let (method, headers) = ("GET".to_owned(), headers.clone());
    HttpProbe { method, url, headers, body: None, timeout, expect: HttpExpect::default(), value: None }
}

/// The numbers of the records whose ids stand in a text, as often as they do.
fn records_in<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = u64> + 'a {
    text.split(prefix).skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok()
    })
}

/// Everything at a pointer in which `*` is every item.
fn at<'a>(json: &'a serde_json::Value, pointer: &str) -> Option<Vec<&'a serde_json::Value>> {
    let Some((before, after)) = pointer.split_once("/*") else { return json.pointer(pointer).map(|one| vec![one]) };
    let items = json.pointer(before)?.as_array()?;
    Some(items.iter().filter_map(|item| at(item, after)).flatten().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_are_found_in_any_text_and_one_is_no_part_of_another() {
        let text =
            r#"[{"id": "squall-r-orders-1"}, "squall-r-orders-12", squall-r-orders-12, squall-r-orders-node-db1-1]"#;
        assert_eq!(records_in(text, "squall-r-orders-").collect::<Vec<_>>(), [1, 12, 12]);
        assert_eq!(records_in(text, "squall-other-orders-").count(), 0);
    }

    #[test]
    fn a_pointer_with_a_star_is_every_item() {
        let json = json!({"orders": [{"id": "a", "of": ["b"]}, {"id": "c"}], "plain": ["d", "e"]});
        let texts =
            |pointer| -> Option<Vec<&str>> { Some(at(&json, pointer)?.iter().filter_map(|v| v.as_str()).collect()) };
        assert_eq!(texts("/orders/*/id"), Some(vec!["a", "c"]));
        assert_eq!(texts("/orders/*/of/*"), Some(vec!["b"]));
        assert_eq!(texts("/plain/*"), Some(vec!["d", "e"]));
        assert_eq!(texts("/nothing/*"), None);
    }
}
