use serde_json::json;

use super::*;

const S: u64 = 1_000_000;

fn ledger() -> LedgerProbe {
    serde_json::from_value(json!({
        "write": {"method": "POST", "url": "http://shop/orders/{id}"}, "list": {"url": "http://shop/orders"},
    }))
    .unwrap()
}

fn tolerance(json: serde_json::Value) -> Tolerance {
    serde_json::from_value(json).unwrap()
}

/// One record each second from 1 s on.
fn written(replies: &[Reply]) -> Account {
    let mut account = Account::default();
    for (record, reply) in (0..).zip(replies) {
        account.wrote((record + 1) * S, Write { record, reply: *reply });
    }
    account
}

fn counted(account: &mut Account, found: &[u64], repeated: &[(u64, u64)]) {
    account.saw(
        100 * S,
        &Seen::Reconciled {
            from: "list".into(),
            found: found.iter().copied().collect(),
            repeated: Some(repeated.to_vec()),
            unanswered: Ranges::default(),
            unread: None,
        },
    );
}

use Reply::{Acknowledged as Yes, Rejected as No, Unknown as Maybe};

#[test]
fn a_record_that_was_acknowledged_and_is_not_there_is_lost() {
    let mut account = written(&[Yes, Yes, Yes, Yes, Yes]);
    counted(&mut account, &[0, 1, 4], &[]);
    let found = account.findings();
    assert_eq!(found.lost.as_ref().map(Ranges::count), Some(2));
    // Kept at 2 s, lost at 3 s and 4 s.
    assert_eq!((found.lost_span_us, found.lost_between_us), (Some(2 * S), Some((3 * S, 4 * S))));
    let judged = account.judge(&ledger(), &tolerance(json!({})));
    assert_eq!(judged.judgement, Judgement::Fail);
    assert_eq!(judged.detail, "2 of 5 acknowledged records are lost (at most 0 may be): 2 to 3, written within 2 s");
    assert_eq!(account.judge(&ledger(), &tolerance(json!({"lost": 2}))).judgement, Judgement::Pass);
}

#[test]
fn one_lost_record_is_an_rpo_above_zero() {
    let mut account = written(&[Yes, Yes, Yes]);
    counted(&mut account, &[0, 1], &[]);
    assert_eq!(account.findings().lost_span_us, Some(S));
    let at_most = |text: &str| account.judge(&ledger(), &tolerance(json!({"rpo": text}))).judgement;
    assert_eq!(at_most("<= 0s"), Judgement::Fail);
    assert_eq!(at_most("<= 1s"), Judgement::Pass);
}

#[test]
fn a_write_without_an_answer_is_never_lost_and_may_be_there() {
    let mut account = written(&[Yes, Maybe, Maybe, No]);
    counted(&mut account, &[0, 2], &[]);
    let found = account.findings();
    assert_eq!((found.unknown, found.unknown_but_there, found.rejected_but_there), (2, 1, 0));
    assert_eq!(account.judge(&ledger(), &tolerance(json!({}))).judgement, Judgement::Pass);
}

#[test]
fn what_was_sent_once_and_is_there_twice_is_duplicated() {
    let mut account = written(&[Yes, Maybe]);
    counted(&mut account, &[0, 1], &[(1, 2)]);
    let judged = account.judge(&ledger(), &tolerance(json!({})));
    assert_eq!((judged.judgement, judged.detail.contains("there more than once")), (Judgement::Fail, true));
    assert_eq!(account.judge(&ledger(), &tolerance(json!({"duplicated": 1}))).judgement, Judgement::Pass);
}

#[test]
fn what_was_not_counted_is_unknown_and_never_a_pass() {
    let mut account = written(&[Yes]);
    assert_eq!(account.judge(&ledger(), &tolerance(json!({}))).judgement, Judgement::Unknown);
    let unread = |unanswered: Ranges, unread: Option<&str>, found: Ranges| Seen::Reconciled {
        from: "list".into(),
        found,
        repeated: None,
        unanswered,
        unread: unread.map(str::to_owned),
    };
    account.saw(S, &unread(Ranges::default(), Some("status 503"), Ranges::default()));
    let judged = account.judge(&ledger(), &tolerance(json!({})));
    assert_eq!((judged.judgement, judged.detail.contains("status 503")), (Judgement::Unknown, true));
    assert_eq!(account.findings().lost, None, "nothing is lost that nobody looked for");
    account.saw(S, &unread(Ranges(vec![(0, 0)]), None, Ranges::default()));
    assert_eq!(account.judge(&ledger(), &tolerance(json!({}))).judgement, Judgement::Unknown);
}

#[test]
fn a_ledger_in_which_nothing_was_acknowledged_proves_nothing() {
    let mut account = written(&[No, Maybe]);
    counted(&mut account, &[], &[]);
    assert_eq!(account.judge(&ledger(), &tolerance(json!({}))).judgement, Judgement::Unknown);
}

#[test]
fn a_record_is_stale_by_the_age_at_which_a_read_that_lacked_it_began() {
    let mut account = written(&[Yes, Yes]);
    let read = |record, missing_us, found_us| Seen::Read {
        record,
        from: "replica".into(),
        missing_us,
        found_us,
        unanswered: 0,
    };
    account.saw(2 * S, &read(0, Some(3 * S), Some(3_200_000)));
    account.saw(2 * S, &read(1, None, Some(2_000)));
    counted(&mut account, &[0, 1], &[]);
    let mut ledger = ledger();
    ledger.read = serde_json::from_value(json!([{"name": "replica", "url": "http://r/{id}"}])).unwrap();
    let at_most = |text: &str| account.judge(&ledger, &tolerance(json!({"stale": text})));
    assert_eq!(at_most("<= 5s").judgement, Judgement::Pass);
    let judged = at_most("<= 2s");
    assert_eq!(
        (judged.judgement, judged.detail.as_str()),
        (Judgement::Fail, "replica lacked a record 3 s old (must be <= 2s)")
    );
    let second = serde_json::from_value(json!({"name": "silent", "url": "http://s/{id}"})).unwrap();
    let more = LedgerProbe { read: vec![ledger.read[0].clone(), second], ..ledger.clone() };
    assert_eq!(account.judge(&more, &tolerance(json!({"stale": "<= 5s"}))).judgement, Judgement::Unknown);
}

#[test]
fn a_lost_record_is_lost_and_not_stale() {
    let mut account = written(&[Yes, Yes]);
    let seen = Seen::Read { record: 1, from: "r".into(), missing_us: Some(9 * S), found_us: None, unanswered: 0 };
    account.saw(2 * S, &seen);
    counted(&mut account, &[0], &[]);
    assert!(account.findings().reads.is_empty());
}

#[test]
fn two_nodes_that_accept_in_two_rounds_running_are_a_split_brain_and_one_round_is_a_hand_over() {
    let both = vec!["db1".to_owned(), "db2".to_owned()];
    let mut account = written(&[Yes]);
    counted(&mut account, &[0], &[]);
    let accepted = |round, nodes: &[String]| Seen::Accepted { round, nodes: nodes.to_vec() };
    account.saw(S, &accepted(0, &both[..1]));
    account.saw(2 * S, &accepted(4, &both));
    account.saw(3 * S, &accepted(5, &both[1..]));
    account.saw(4 * S, &accepted(9, &both));
    assert_eq!(account.split_brain(), None);
    assert_eq!(account.findings().shared_rounds, 2);
    account.saw(5 * S, &accepted(10, &both));
    assert_eq!(account.split_brain().map(|split| split.at_us), Some(5 * S));
    let judged = account.judge(&ledger(), &tolerance(json!({})));
    assert_eq!(
        (judged.judgement, judged.detail.as_str()),
        (Judgement::Fail, "split brain: db1 and db2 accepted writes at the same time")
    );
    assert_eq!(account.judge(&ledger(), &tolerance(json!({"splitBrain": "counted"}))).judgement, Judgement::Pass);
}
