//! Frames as released versions wrote them are read by today's code: coordinator and agents may be one minor version apart.
//!
//! `wire/VERSION-*.jsonl` are never edited once that version is out; a new version adds files of its own.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use squall_experiments::wire::{ToAgent, ToCoordinator};

const TO_AGENT: &str = include_str!("wire/0.1-to-agent.jsonl");
const TO_COORDINATOR: &str = include_str!("wire/0.1-to-coordinator.jsonl");

/// Each frame is read, and written again with nothing lost of what it said.
fn assert_understood<T: DeserializeOwned + Serialize>(frames: &str, tag: &str) -> Vec<String> {
    let mut kinds = Vec::new();
    for line in frames.lines() {
        let said: Value = serde_json::from_str(line).unwrap();
        let read: T = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let again = serde_json::to_value(read).unwrap();
        for (key, value) in said.as_object().unwrap() {
            assert_eq!(&again[key], value, "`{key}` of {line}");
        }
        kinds.push(said[tag].as_str().unwrap().to_owned());
    }
    kinds
}

#[test]
fn an_agent_understands_every_order_of_the_version_before() {
    let kinds = assert_understood::<ToAgent>(TO_AGENT, "order");
    for kind in ["welcome", "check", "inject", "renew", "revert", "halt", "try", "count", "audit"] {
        assert!(kinds.iter().any(|found| found == kind), "no frame `{kind}` is kept");
    }
}

#[test]
fn a_coordinator_understands_everything_that_an_agent_of_the_version_before_says() {
    let kinds = assert_understood::<ToCoordinator>(TO_COORDINATOR, "says");
    for kind in ["hello", "changed", "checked", "counted", "labels-now", "audit"] {
        assert!(kinds.iter().any(|found| found == kind), "no frame `{kind}` is kept");
    }
}

/// What a newer coordinator adds to a frame, an older agent passes over; an *order* is different: what it does not know it must not half do.
#[test]
fn an_unknown_field_is_passed_over_but_not_in_an_order() {
    let welcome = r#"{"order":"welcome","epoch":3,"leaseMs":10000,"news":true}"#;
    assert!(serde_json::from_str::<ToAgent>(welcome).is_ok());
    let inject = r#"{"order":"inject","epoch":3,"run":"r","injection":"i","fault":"f","effects":[],"durationMs":1,"leaseMs":1,"news":true}"#;
    assert!(serde_json::from_str::<ToAgent>(inject).unwrap_err().to_string().contains("news"));
}

/// How long an undo may take is new in the answer to a check: whoever does not know it reads the rest, whoever does not hear it waits as before.
#[test]
fn an_answer_to_a_check_is_read_with_and_without_the_time_that_its_undo_may_take() {
    let without = r#"{"says":"checked","injection":"r1/0.db1","node":"db1","refusals":[],"notes":[]}"#;
    let with = r#"{"says":"checked","injection":"r1/0.db1","node":"db1","refusals":[],"notes":[],"undoMs":240000}"#;
    for (line, told) in [(without, None), (with, Some(240_000))] {
        let ToCoordinator::Checked(checked) = serde_json::from_str(line).unwrap() else { panic!("{line}") };
        assert_eq!(checked.undo_ms, told);
        assert_eq!(serde_json::to_string(&ToCoordinator::Checked(checked)).unwrap(), line);
    }
    let newer = with.replace("undoMs", "whatComesNext");
    assert!(
        serde_json::from_str::<ToCoordinator>(&newer).is_ok(),
        "an older coordinator passes over what it does not know"
    );
}
