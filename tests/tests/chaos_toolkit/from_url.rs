//! An experiment from a server: read from the address that was given, and from nowhere else.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use serde_json::json;
use squall_tests::lab::programs;

/// Serves `answer` once to a `squall run`: what that said, and the request.
fn run(answer: &[u8], settings: &str, environment: &[(&str, &str)]) -> (Output, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let work = tempfile::tempdir().expect("a directory");
    let file = work.path().join("settings.yaml");
    std::fs::write(&file, settings.replace("ADDRESS", &address.to_string())).expect("it is written");
    let answer = answer.to_vec();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("it comes");
        let mut request = [0; 4096];
        let length = stream.read(&mut request).expect("a request");
        // Who has read enough hangs up.
        let _ = stream.write_all(&answer);
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let output = squall(&[&format!("http://{address}/e.json"), "--settings", file.to_str().expect("UTF-8")], &work)
        .envs(environment.iter().copied())
        .output()
        .expect("it starts");
    (output, served.join().expect("it served"))
}

fn squall(arguments: &[&str], work: &tempfile::TempDir) -> Command {
    let mut command = Command::new(programs::program("squall"));
    command.arg("run").args(arguments).current_dir(work.path()).env("HOME", work.path()).stdin(Stdio::null());
    command.env_remove("XDG_STATE_HOME").env_remove("CHAOSTOOLKIT_LOADER_AUTH_BEARER_TOKEN");
    command
}

fn answer(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn an_experiment_is_run_from_a_server_with_the_token_that_it_asks_for() {
    let action = json!({"type": "action", "name": "a", "provider": {"type": "process", "path": "true"}});
    let served = answer("200 OK", &json!({"title": "t", "description": "d", "method": [action]}).to_string());
    let auths = "auths: {'ADDRESS': {type: basic, value: of-the-settings}}";
    let (output, request) = run(&served, auths, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(request.contains("authorization: basic of-the-settings\r\n"), "{request}");
    let (output, request) = run(&served, auths, &[("CHAOSTOOLKIT_LOADER_AUTH_BEARER_TOKEN", "of-the-environment")]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(request.contains("authorization: bearer of-the-environment\r\n"), "{request}");
}

#[test]
fn whatever_else_a_server_answers_is_refused_and_so_is_an_address_that_is_not_safe() {
    let large = "x".repeat((4 << 20) + 1);
    for (served, why) in [
        (answer("302 Found\r\nlocation: http://elsewhere/e.json", ""), "it is at http://elsewhere/e.json now"),
        (answer("404 Not Found", "{}"), "the answer is 404 Not Found"),
        (answer("200 OK", &large), "it is larger than 4 MiB"),
        (answer("200 OK", "kind: Experiment"), "is no experiment in Chaos Toolkit's format"),
        (b"no HTTP".to_vec(), "e.json: "),
    ] {
        let (output, _) = run(&served, "", &[]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(why), "{why} is not in {}", said(&output));
    }
    for (url, why) in [
        ("http://192.0.2.1/e.json", "over http anybody on the way decides"),
        ("http://localhost.example/e.json", "over http anybody on the way decides"),
        ("https://me:word@localhost/e.json", "a URL with a password in it"),
        ("https:///", "this is no URL"),
    ] {
        let output = squall(&[url], &tempfile::tempdir().expect("a directory")).output().expect("it starts");
        assert!(output.status.code() == Some(2) && said(&output).contains(why), "{url}: {}", said(&output));
    }
}
