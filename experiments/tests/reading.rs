//! Reading: what is wrong is said with its place, what was expected and what would help, all at once; what is right is kept.

use proptest::prelude::*;
use serde_json::{Value, json};
use squall_experiments::experiment::Experiment;
use squall_experiments::parse::{parse, parse_bytes};
use squall_experiments::{catalogue, faults, schema, units};

#[test]
fn every_mistake_of_a_wrong_file_is_told_with_its_place() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wrong");
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .expect("wrong files are kept")
        .map(|entry| entry.expect("it can be read").file_name().into_string().expect("file names are text"))
        .collect();
    names.sort();
    assert!(names.len() >= 9);
    for name in names {
        let bytes = std::fs::read(format!("{directory}/{name}")).expect("it can be read");
        let mistakes = parse_bytes(&name, &bytes).expect_err("a wrong file is not an experiment");
        insta::assert_snapshot!(name.as_str(), mistakes.to_string());
    }
}

#[test]
fn what_is_no_text_is_said_to_be_none() {
    let said = |bytes: &[u8]| parse_bytes("x", bytes).expect_err("this is no experiment").to_string();
    insta::assert_snapshot!(said(b"kind: Experiment\nname: \xff\xfe\n"), @r"
    x:2:7: the byte 0xff is not UTF-8 text
        hint: is this a binary file, or text in another encoding?
    ");
    insta::assert_snapshot!(said(b"\x7fELF\x02\x01\x01\0\0"), @r"
    x:1:1: the character U+007F has no place in a text file
        hint: is this a binary file, or text in another encoding than UTF-8?
    ");
    let long = vec![b'a'; 2 << 20];
    assert!(said(&long).contains("more than the 1048576 that are read"));
}

#[test]
fn documents_that_multiply_or_nest_without_end_are_refused_quickly() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let before = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![before; 10].join(", "));
    }
    let began = std::time::Instant::now();
    for (text, what) in [
        (bomb.as_str(), "more than 10000 values"),
        (&"[".repeat(100_000), "nested too deep"),
        (&"- ".repeat(100_000), "nested too deep"),
        ("a: &a [*a]", "stands inside what it means"),
        (&format!("[{}]", "x, ".repeat(30_000)), "more than 10000 values"),
        (&(0..9_000).map(|n| format!("key{n}: x\n")).collect::<String>(), "unknown field `key8999`"),
        (&format!("method:\n{}", "- {wait: x}\n".repeat(3_000)), "x:3001:10: expected a duration"),
    ] {
        let said = parse("x", text).expect_err("this is no experiment").to_string();
        assert!(said.contains(what), "{what}: {}", &said[..said.len().min(400)]);
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "took {:?}", began.elapsed());
}

#[test]
fn places_are_counted_in_characters_and_aliases_keep_the_place_of_their_use() {
    let text = "
apiVersion: squall/v1
kind: Experiment
metadata: {name: x, labels: {\u{e4}\u{f6}\u{fc}: &n 5, z: *n}}
hypothesis: x
steadyState: []
method: []
";
    let mistakes = parse("x", text).expect_err("labels are texts").mistakes;
    let places: Vec<(usize, usize, &str)> = mistakes.iter().map(|m| (m.line, m.column, m.pointer.as_str())).collect();
    assert_eq!(places, [(4, 35, "/metadata/labels/\u{e4}\u{f6}\u{fc}"), (4, 44, "/metadata/labels/z")]);
}

#[test]
fn mistakes_come_in_the_order_of_their_places() {
    for name in ["fields.yaml", "meaning.yaml"] {
        let path = format!("{}/tests/wrong/{name}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).expect("it can be read");
        let mistakes = parse(name, &text).expect_err("it is wrong").mistakes;
        assert!(mistakes.windows(2).all(|pair| (pair[0].line, pair[0].column) <= (pair[1].line, pair[1].column)));
    }
}

#[test]
fn json_is_read_as_yaml_is() {
    for (name, text) in catalogue::ALL {
        let experiment = parse(name, text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let json = serde_json::to_string_pretty(&experiment).expect("it can be written");
        assert_eq!(parse(name, &json).unwrap_or_else(|mistakes| panic!("{mistakes}")), experiment);
    }
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_do_no_harm() {
    let (name, text) = catalogue::ALL[0];
    let expected = parse(name, text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    assert_eq!(parse(name, &windows).unwrap_or_else(|mistakes| panic!("{mistakes}")), expected);
}

/// The schema in the hands of somebody else's validator.
fn other_validator() -> jsonschema::Validator {
    let mut options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).should_validate_formats(true);
    let formats =
        ["duration", "size", "rate", "percent", "bound-percent", "bound-duration", "bound-number", "n-of-m", "cidr"];
    for format in formats {
        options =
            options.with_format(format, move |text: &str| matches!(units::check_format(format, text), Some(Ok(()))));
    }
    options.build(&schema::experiment()).expect("the schema is a valid schema")
}

#[test]
fn the_schema_is_valid_and_agrees_with_the_parser() {
    jsonschema::meta::validate(&schema::experiment()).expect("draft 2020-12");
    let validator = other_validator();
    for (name, text) in catalogue::ALL {
        let experiment = parse(name, text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let document = serde_json::to_value(&experiment).expect("it can be written");
        assert!(validator.is_valid(&document), "{name}");
        // One thing is broken at a time: both must see it.
        let breaks: [(&str, Value); 12] = [
            ("/hypothesis", json!(5)),
            ("/apiVersion", json!("squall/v9")),
            ("/metadata/nmae", json!("x")),
            ("/metadata/labels", json!({"a": 1})),
            ("/seed", json!(-1)),
            ("/seed", json!(1.5)),
            ("/blastRadius/nodes", json!(4_294_967_296_u64)),
            ("/blastRadius/maxDuration", json!("ten")),
            ("/blastRadius/quorum", json!("maybe")),
            ("/steadyState/0/tolerance", json!({"p99": "300ms"})),
            ("/method/0", json!({"fault": "network-latency", "for": "5s", "with": {"latency": "5ms", "peers": ["x"]}})),
            ("/method/0", json!({"fault": "network-latency", "for": "5s"})),
        ];
        for (pointer, value) in breaks {
            let mut broken = document.clone();
            let (parent, key) = pointer.rsplit_once('/').expect("a pointer has a slash");
            match broken.pointer_mut(parent) {
                Some(Value::Object(object)) => drop(object.insert(key.to_owned(), value)),
                Some(Value::Array(items)) => items[0] = value,
                other => panic!("{pointer}: {other:?}"),
            }
            assert!(!validator.is_valid(&broken), "{name}: the schema does not mind {pointer}");
            let said = parse(name, &broken.to_string()).expect_err("the parser minds it too");
            assert!(said.mistakes.iter().any(|mistake| mistake.pointer.starts_with(parent)), "{pointer}: {said}");
        }
    }
}

#[test]
fn the_schema_uses_only_what_the_parser_understands() {
    const KNOWN: [&str; 23] = [
        "$schema",
        "$ref",
        "$defs",
        "title",
        "description",
        "default",
        "type",
        "properties",
        "required",
        "format",
        "additionalProperties",
        "items",
        "enum",
        "const",
        "oneOf",
        "anyOf",
        "allOf",
        "if",
        "then",
        "not",
        "minimum",
        "maximum",
        "examples",
    ];
    fn walk(schema: &Value, at: &str) {
        let Some(object) = schema.as_object() else { return };
        for (keyword, value) in object {
            assert!(KNOWN.contains(&keyword.as_str()), "{at}: `{keyword}`");
            match (keyword.as_str(), value) {
                ("properties" | "$defs", Value::Object(named)) => {
                    named.iter().for_each(|(name, schema)| walk(schema, &format!("{at}/{name}")));
                }
                ("anyOf", Value::Array(variants)) => {
                    let some = variants.iter().filter(|variant| variant["type"] != "null").count();
                    assert!(some == 1, "{at}: anyOf is only used for what may be null");
                    variants.iter().for_each(|schema| walk(schema, at));
                }
                ("oneOf" | "allOf", Value::Array(variants)) => variants.iter().for_each(|schema| walk(schema, at)),
                ("items" | "additionalProperties" | "if" | "then", schema) => walk(schema, at),
                _ => {}
            }
        }
    }
    walk(&schema::experiment(), "");
}

#[test]
fn every_parameter_of_every_fault_is_explained() {
    for fault in faults::ALL {
        for parameter in fault.parameters() {
            assert!(!parameter.meaning.is_empty(), "{}: {}", fault.name, parameter.name);
            assert_ne!(parameter.kind, "anything", "{}: {}", fault.name, parameter.name);
        }
    }
    let latency = faults::find("network-latency").expect("it is in the registry");
    let lines: Vec<String> = latency
        .parameters()
        .iter()
        .map(|p| format!("{} ({}) required={} default={:?}: {}", p.name, p.kind, p.required, p.default, p.meaning))
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

/// Experiments as JSON, right in every detail.
fn right() -> impl Strategy<Value = Value> {
    let span = (1u64..5_000).prop_map(|ms| json!(format!("{ms}ms")));
    let name = "[a-z]([a-z0-9-]{0,10}[a-z0-9])?";
    let probe = (name, span.clone(), 20u64..9_000, prop::option::of(0.0..100.0f64)).prop_map(
        |(name, timeout, every, share)| {
            let mut probe =
                json!({"name": name, "tcp": {"address": "h:1", "timeout": timeout}, "every": format!("{every}ms")});
            if let Some(share) = share {
                probe["tolerance"] = json!({"success": format!(">= {share}%"), "breach": "2 of 3"});
            }
            probe
        },
    );
    let wait = span.clone().prop_map(|wait| json!({"wait": wait}));
    let selector = prop::collection::btree_map("[a-z]{5,8}", "\\PC{0,12}", 0..3);
    let fault = (selector, 10u64..5_000, any::<bool>(), prop::option::of(any::<u64>())).prop_map(
        |(nodes, ms, background, seed)| {
            json!({
                "fault": "network-latency", "for": format!("{ms}ms"), "background": background,
                "on": {"nodes": nodes, "pick": {"count": 2, "seed": seed}},
                "with": {"latency": format!("{ms}ms"), "peers": ["10.0.0.0/8"], "spare": ["coordinator", "dns"]},
            })
        },
    );
    let method = prop::collection::vec(prop_oneof![wait, fault], 0..6);
    (name, "\\PC{0,30}[a-z]", prop::collection::btree_map(name, probe, 1..4), method, prop::option::of(any::<u64>()))
        .prop_map(|(name, hypothesis, probes, method, seed)| {
            let probes: Vec<Value> = probes
                .into_iter()
                .map(|(name, mut probe)| {
                    probe["name"] = json!(name);
                    probe
                })
                .collect();
            json!({
                "apiVersion": "squall/v1", "kind": "Experiment", "metadata": {"name": name}, "hypothesis": hypothesis,
                "steadyState": probes, "method": method, "seed": seed,
            })
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused_but_never_a_panic(text in "\\PC{0,200}") {
        let _ = parse("x", &text);
    }

    #[test]
    fn text_that_looks_like_yaml_is_read_or_refused_but_never_a_panic(
        text in "([a-c]|[-:?&*!|>%@`'\"{}\\[\\],#~]|[ \n\t]|<<|- |: |\r\n|---|\\.\\.\\.|0x|!!|&a|\\*a){0,60}"
    ) {
        let _ = parse("x", &text);
    }

    #[test]
    fn a_damaged_experiment_is_read_or_refused_but_never_a_panic(
        which in 0usize..9, at in any::<prop::sample::Index>(), length in 0usize..12, put in "[ -~\n\t\u{e4}]{0,6}"
    ) {
        let text: Vec<char> = catalogue::ALL[which].1.chars().collect();
        let start = at.index(text.len());
        let end = (start + length).min(text.len());
        let damaged: String = text[..start].iter().copied().chain(put.chars()).chain(text[end..].iter().copied()).collect();
        if let Err(mistakes) = parse("x", &damaged) {
            prop_assert!(!mistakes.mistakes.is_empty());
            let lines = damaged.split('\n').count();
            for mistake in &mistakes.mistakes {
                prop_assert!(mistake.line >= 1 && mistake.line <= lines + 1 && mistake.column >= 1, "{}", mistakes);
                prop_assert!(!mistake.message.is_empty());
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused_but_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = parse_bytes("x", &bytes);
    }

    #[test]
    fn what_is_written_is_read_back_the_same(document in right()) {
        let first = parse("x", &document.to_string()).map_err(|mistakes| TestCaseError::fail(format!("{document}\n{mistakes}")))?;
        let written = serde_json::to_string(&first).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let again: Experiment = parse("x", &written).map_err(|mistakes| TestCaseError::fail(mistakes.to_string()))?;
        prop_assert_eq!(again, first);
    }
}
