//! How it starts and ends.

use std::io::Read as _;
use std::net::TcpStream;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::rig::{Server, connect, echo, round_trip, squalld};

#[test]
fn a_configuration_file_is_populated_before_it_says_that_it_serves() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let list = json!([{"name": "a", "listen": "127.0.0.1:0", "upstream": echo().to_string()}]);
    std::fs::write(file.path(), list.to_string()).unwrap();
    let server = Server::with(&["--config", file.path().to_str().unwrap()]);
    let at = server.get("/proxies/a").good()["listen"].as_str().unwrap().parse().unwrap();
    assert_eq!(round_trip(&mut connect(at), b"x"), b"x");
}

#[test]
fn a_configuration_file_with_a_mistake_is_refused_with_its_place() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    for (text, why) in [
        (r#"[{"name": "a", "upstream": "x:1"}, {"name": "b"}]"#, "missing required field: upstream at proxy 2"),
        ("{", "bad request body"),
    ] {
        std::fs::write(file.path(), text).unwrap();
        let output = squalld(&["--port", "0", "--config", path]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(path) && stderr.contains(why), "{stderr}");
    }
}

#[test]
fn asked_to_end_it_ends_in_order_and_closes_what_it_opened() {
    let mut server = Server::start();
    let at = server.proxy(echo());
    server.toxic("latency", "upstream", json!({"latency": 3_600_000}));
    let mut stream = connect(at);
    kill(Pid::from_raw(i32::try_from(server.pid()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(server.ended().and_then(|status| status.code()), Some(0));
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    assert!(TcpStream::connect(at).is_err());
}
