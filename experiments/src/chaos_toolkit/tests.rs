#![cfg(test)]

use serde_json::{Value, json};

use crate::parse;

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
    assert_eq!(read.method[0].at, "/steady-state-hypothesis/probes/0");
    assert!(parse::is_chaos_toolkit(&experiment(|_| {})));
    assert!(!parse::is_chaos_toolkit("apiVersion: squall/v1\ntitle: t\nmethod: []\n"));
}

#[test]
fn arguments_of_a_process_keep_the_order_of_the_text_and_so_does_the_configuration() {
    let text = experiment(|_| {}).replacen(
        "\"path\": \"true\"",
        "\"path\": \"true\", \"arguments\": {\"--z\": 1, \"--a\": null, \"--m\": \"x\"}",
        1,
    );
    let text = text.replacen('{', "{\"configuration\": {\"z\": 1, \"a\": 2},", 1);
    let read = parse::chaos_toolkit("e.json", &text).unwrap();
    assert_eq!(read.rollbacks[0].raw["provider"]["arguments"], json!(["--z", 1, "--a", null, "--m", "x"]));
    assert_eq!(read.configuration, ["z", "a"]);
    assert_eq!(read.providers().len(), 3);
}

fn control(scope: &str) -> Value {
    json!({"name": "c", "scope": scope, "provider": {"type": "python", "module": "m"}})
}

#[test]
fn what_is_not_honoured_is_refused_by_name_and_place() {
    for (pointer, put, said) in [
        ("/controls", json!([{"name": "gate", "provider": {"type": "python"}}]), "`module` is missing"),
        ("/controls", json!([{"name": "gate", "provider": {"type": "go", "module": "m"}}]), "the provider `go`"),
        ("/method/0/controls", json!([{"provider": {"type": "python", "module": "m"}}]), "`name` is missing"),
        ("/rollbacks/0/controls", json!([control("before method")]), "this `scope` is unknown"),
        ("/controls", json!([{"name": "a", "ref": "b", "provider": {"type": "python", "module": "m"}}]), "named `b`"),
        ("/secrets", json!({"k8s": {"token": {"type": "vault", "path": "a"}}}), "secrets from `vault`"),
        ("/configuration", json!({"port": {"type": "env"}}), "`key` is missing"),
        ("/rollbacks/0/provider/type", json!("grpc"), "the provider `grpc`"),
        ("/rollbacks/0/provider/arguments", json!("-rf x; ls"), "`;` in `arguments` needs a shell"),
        ("/method/0/ref", json!("down"), "no activity is named `down`"),
        ("/steady-state-hypothesis/probes/0/tolerance", json!({"type": "regex", "pattern": "("}), "the pattern `(`"),
        ("/steady-state-hypothesis/probes/0/tolerance", json!(0.5), "is no integer"),
        ("/rollbacks/0/pauses", json!({"after": "long"}), "the pause `after`"),
        ("/rollbacks/0/provider/timeout", json!("long"), "`timeout` must be"),
        ("/runtime", json!({"rollbacks": {"strategy": "maybe"}}), "this strategy is unknown"),
    ] {
        let text = experiment(|value| {
            let (above, key) = pointer.rsplit_once('/').unwrap();
            value.pointer_mut(above).unwrap()[key] = put;
        });
        let mistakes = parse::chaos_toolkit("e.json", &text).unwrap_err();
        assert!(mistakes.mistakes.iter().any(|m| m.message.contains(said) && m.line > 1), "{said}: {mistakes}");
    }
}
