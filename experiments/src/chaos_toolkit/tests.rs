#![cfg(test)]

use serde_json::{Value, json};

use super::substitution::substitute;
use super::tolerance::within;
use crate::parse;

#[test]
fn a_value_is_held_against_every_kind_of_tolerance() {
    let http = json!({"status": 200, "body": {"items": [1, 2]}});
    let process = json!({"status": 0, "stdout": "load 12\n"});
    for (tolerance, value, held) in [
        (json!(200), &http, true),
        (json!(503), &http, false),
        (json!([200, 204, 301]), &http, true),
        (json!([1, 3]), &json!(2), true),
        (json!([1, 3]), &json!(4), false),
        (json!([1, 3, 5]), &json!(4), false),
        (json!(true), &json!(true), true),
        (json!("up"), &json!("down"), false),
        (json!({"type": "regex", "pattern": "load (?=1)\\d+", "target": "stdout"}), &process, true),
        (json!({"type": "regex", "pattern": "^12", "target": "stdout"}), &process, false),
        (json!({"type": "jsonpath", "path": "$.items[*]", "target": "body", "count": 2}), &http, true),
        (json!({"type": "jsonpath", "path": "$.items[*]", "target": "body", "expect": [1, 3]}), &http, false),
        (json!({"type": "jsonpath", "path": "$.a", "expect": 7}), &json!("{\"a\": 7}"), true),
        (json!({"type": "jsonpath", "path": "$.b"}), &json!({"a": 7}), false),
        (json!({"type": "range", "range": [1, 2.5]}), &json!("2.5"), true),
        (json!({"type": "range", "range": [1, 2.5]}), &json!("many"), false),
    ] {
        assert_eq!(within(&tolerance, value), Ok(held), "{tolerance} and {value}");
    }
    assert!(within(&json!([1, 3]), &json!("a text")).is_err(), "a text is in no range of numbers");
}

#[test]
fn a_name_alone_keeps_its_type_and_an_unknown_one_stays() {
    let values = json!({"port": 8080, "host": "db", "on": true});
    let values = values.as_object().unwrap();
    for (written, made) in [
        (json!("${port}"), json!(8080)),
        (json!("http://${host}:$port/"), json!("http://db:8080/")),
        (json!(["$$port", "${who}", "${on}!", "$"]), json!(["$port", "${who}", "True!", "$"])),
        (json!({"a": {"b": "${port}"}}), json!({"a": {"b": 8080}})),
        (json!("${port} ${host}"), json!("8080 db")),
        (json!("${port"), json!("${port")),
    ] {
        assert_eq!(substitute(&written, values), made, "{written}");
    }
}

fn experiment(change: impl FnOnce(&mut Value)) -> String {
    let mut value = json!({
        "title": "t", "description": "d",
        "steady-state-hypothesis": {"title": "s", "probes": [
            {"type": "probe", "name": "up", "tolerance": 200, "provider": {"type": "http", "url": "http://localhost/"}}]},
        "method": [{"ref": "up", "background": true}],
        "rollbacks": [{"type": "action", "name": "back", "provider": {"type": "process", "path": "true"}}],
    });
    change(&mut value);
    serde_json::to_string_pretty(&value).unwrap()
}

#[test]
fn an_experiment_is_read_and_its_references_are_resolved() {
    let read = parse::chaos_toolkit("e.json", &experiment(|_| {})).unwrap();
    assert_eq!((read.title.as_str(), read.method[0].name.as_str()), ("t", "up"));
    assert!(read.method[0].background && read.method[0].tolerance.is_none());
    assert!(parse::is_chaos_toolkit(&experiment(|_| {})));
    assert!(!parse::is_chaos_toolkit("apiVersion: squall/v1\ntitle: t\nmethod: []\n"));
}

#[test]
fn what_is_not_honoured_is_refused_by_name_and_place() {
    for (pointer, put, said) in [
        ("/controls", json!([{"name": "gate", "provider": {"type": "python"}}]), "the control `gate`"),
        ("/secrets", json!({"k8s": {"token": {"type": "vault", "path": "a"}}}), "secrets from `vault`"),
        ("/configuration", json!({"port": {"type": "env"}}), "`key` is missing"),
        ("/rollbacks/0/provider/type", json!("grpc"), "the provider `grpc`"),
        ("/rollbacks/0/provider/arguments", json!("-rf x; ls"), "`;` in `arguments` needs a shell"),
        ("/method/0/ref", json!("down"), "no activity is named `down`"),
        ("/steady-state-hypothesis/probes/0/tolerance", json!({"type": "regex", "pattern": "("}), "the pattern `(`"),
        ("/steady-state-hypothesis/probes/0/tolerance", json!(0.5), "is no integer"),
        ("/rollbacks/0/pauses", json!({"after": "long"}), "the pause `after`"),
    ] {
        let text = experiment(|value| {
            let (above, key) = pointer.rsplit_once('/').unwrap();
            value.pointer_mut(above).unwrap()[key] = put;
        });
        let mistakes = parse::chaos_toolkit("e.json", &text).unwrap_err();
        assert!(mistakes.mistakes.iter().any(|m| m.message.contains(said) && m.line > 1), "{said}: {mistakes}");
    }
}
