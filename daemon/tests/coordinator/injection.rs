//! The API in the hands of somebody who means harm and has the token: clear answers, nothing executed.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::corpus::{POISON, everything, texts};
use crate::world::World;

/// A text of an answer that a terminal or a page would take for more than text.
fn control(answer: &Value) -> Option<String> {
    match answer {
        Value::String(text) => text.contains(|c: char| c.is_control() && c != '\n').then(|| format!("{text:?}")),
        Value::Array(items) => items.iter().find_map(control),
        Value::Object(entries) => entries.values().find_map(control),
        _ => None,
    }
}

#[tokio::test]
async fn every_text_of_an_experiment_is_answered_with_a_plan_or_with_a_reason() {
    let world = World::new().await;
    let _agent = world.agent("web1", 1).await;
    let document = everything();
    let mut pointers = Vec::new();
    texts(&document, String::new(), &mut pointers);
    let mut answers = std::collections::BTreeMap::<u16, usize>::new();
    for pointer in &pointers {
        for poison in POISON {
            let mut changed = document.clone();
            *changed.pointer_mut(pointer).unwrap() = json!(poison);
            let (status, answer) = world.post("/v1/plans", &json!({"experiment": changed})).await;
            *answers.entry(status).or_default() += 1;
            assert!([200, 400, 422].contains(&status), "{pointer} = {poison:?}: {status} {answer}");
            if status != 200 {
                let reasons = answer["reasons"].as_array().unwrap();
                assert!(!reasons.is_empty(), "{pointer} = {poison:?}: {answer}");
                assert_eq!(control(&answer), None, "{pointer} = {poison:?}");
            }
        }
    }
    assert!(answers[&400] > 500, "{answers:?}");
    assert!(!Path::new("squall-was-here").exists() && !Path::new("/tmp/squall-was-here").exists());
}

#[tokio::test]
async fn names_in_paths_and_headers_are_names() {
    let world = World::new().await;
    for poison in POISON.iter().filter(|poison| !poison.trim().is_empty()) {
        let name: String = poison.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for (method, path) in [
            (Method::GET, format!("/v1/runs/{name}")),
            (Method::GET, format!("/v1/runs/{name}/events")),
            (Method::GET, format!("/v1/runs/{name}/report.html")),
            (Method::POST, format!("/v1/runs/{name}/halt")),
            (Method::DELETE, format!("/v1/nodes/{name}")),
        ] {
            let answer = world.request(method, &path).send().await.unwrap();
            let status = answer.status().as_u16();
            assert!([400, 404].contains(&status), "{path}: {status}");
            let answer: Value = answer.json().await.unwrap();
            assert_eq!(control(&answer), None, "{path}");
        }
    }
}

#[tokio::test]
async fn a_body_that_nests_or_repeats_without_end_or_is_no_document_is_refused() {
    let world = World::new().await;
    let deep = format!("{{\"experiment\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let wide = format!("{{\"experiment\": {{\"method\": [{}1]}}}}", "1,".repeat(200_000));
    let long = json!({"experiment": {"hypothesis": "x".repeat(900_000)}}).to_string();
    for body in [
        &deep,
        &wide,
        &long,
        "",
        "null",
        "[]",
        "{}",
        "{\"experiment\": 5}",
        "\u{feff}{}",
        "{\"experiment\": {}, \"seed\": -1}",
    ] {
        let request = world.request(Method::POST, "/v1/plans").header("content-type", "application/json");
        let answer = request.body(body.to_owned()).send().await.unwrap();
        let (status, start) = (answer.status().as_u16(), &body[..body.len().min(40)]);
        assert!([400, 413, 422].contains(&status), "{start}: {status}");
        let told = answer.text().await.unwrap();
        assert!(told.contains("reasons") && told.len() < 20_000, "{start}: {} bytes", told.len());
    }
}
