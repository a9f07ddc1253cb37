//! The API: paths, codes and words as the original's.

use std::io::Read as _;
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::rig::{Server, connect, echo, listener, round_trip, until};

#[test]
fn a_proxy_is_created_shown_changed_and_deleted() {
    let server = Server::start();
    assert_eq!(server.get("/proxies").good(), json!({}));
    let created = server.post("/proxies", json!({"name": "p", "listen": "localhost:0", "upstream": "localhost:9"}));
    assert_eq!(created.status, 201);
    let proxy = created.json();
    let listen = proxy["listen"].as_str().unwrap().to_owned();
    assert!(listen.starts_with("127.0.0.1:") && !listen.ends_with(":0"), "{listen}");
    assert_eq!(proxy, json!({"name": "p", "listen": listen, "upstream": "localhost:9", "enabled": true, "toxics": []}));
    assert_eq!(server.get("/proxies/p").good(), proxy);
    assert_eq!(server.get("/proxies").good(), json!({"p": proxy}));
    for method in ["POST", "PATCH"] {
        let changed = server.ask(method, "/proxies/p", &json!({"upstream": "localhost:10"})).good();
        assert_eq!((&changed["upstream"], &changed["listen"]), (&json!("localhost:10"), &json!(listen)));
    }
    let deleted = server.delete("/proxies/p");
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    assert_eq!(server.get("/proxies").good(), json!({}));
}

#[test]
fn a_toxic_is_created_shown_changed_and_deleted() {
    let server = Server::start();
    server.proxy(echo());
    let created = server.post("/proxies/p/toxics", json!({"type": "latency", "attributes": {"latency": 100}}));
    let toxic = json!({"attributes": {"latency": 100, "jitter": 0}, "name": "latency_downstream", "type": "latency",
        "stream": "downstream", "toxicity": 1.0});
    assert_eq!((created.status, created.json()), (200, toxic.clone()));
    assert_eq!(server.get("/proxies/p/toxics").good(), json!([toxic]));
    assert_eq!(server.get("/proxies/p").good()["toxics"], json!([toxic]));
    for (method, jitter) in [("POST", 5), ("PATCH", 6)] {
        let change = json!({"attributes": {"jitter": jitter}, "toxicity": 0.5});
        let changed = server.ask(method, "/proxies/p/toxics/latency_downstream", &change).good();
        assert_eq!(changed["attributes"], json!({"latency": 100, "jitter": jitter}));
        assert_eq!(server.get("/proxies/p/toxics/latency_downstream").good(), changed);
    }
    assert_eq!(server.delete("/proxies/p/toxics/latency_downstream").status, 204);
    assert_eq!(server.get("/proxies/p/toxics").good(), json!([]));
}

#[test]
fn each_mistake_has_the_originals_code_and_words() {
    let server = Server::start();
    let taken = listener();
    let port = taken.local_addr().unwrap().to_string();
    server.proxy(echo());
    server.toxic("noop", "upstream", json!({}));
    let in_use = format!("listen tcp {port}: bind: address already in use");
    let cases = [
        ("POST", "/proxies", json!({"upstream": "x:1"}), 400, "missing required field: name"),
        ("POST", "/proxies", json!({"name": "", "upstream": "x:1"}), 400, "missing required field: name"),
        ("POST", "/proxies", json!({"name": "q"}), 400, "missing required field: upstream"),
        ("POST", "/proxies", json!({"name": "p", "upstream": "x:1"}), 409, "proxy already exists"),
        ("POST", "/proxies", json!({"name": "q", "upstream": "x:1", "listen": port}), 500, in_use.as_str()),
        ("GET", "/proxies/q", Value::Null, 404, "proxy not found"),
        ("POST", "/proxies/q", json!({}), 404, "proxy not found"),
        ("DELETE", "/proxies/q", Value::Null, 404, "proxy not found"),
        ("GET", "/proxies/q/toxics", Value::Null, 404, "proxy not found"),
        ("POST", "/proxies/p/toxics", json!({"type": "lightning"}), 400, "invalid toxic type"),
        (
            "POST",
            "/proxies/p/toxics",
            json!({"type": "noop", "stream": "sideways"}),
            400,
            "stream was invalid, can be either upstream or downstream",
        ),
        ("POST", "/proxies/p/toxics", json!({"type": "latency", "name": "noop"}), 409, "toxic already exists"),
        ("GET", "/proxies/p/toxics/t", Value::Null, 404, "toxic not found"),
        ("POST", "/proxies/p/toxics/t", json!({}), 404, "toxic not found"),
        ("DELETE", "/proxies/p/toxics/t", Value::Null, 404, "toxic not found"),
    ];
    for (method, path, body, status, words) in cases {
        let answer = server.ask(method, path, &body);
        assert_eq!(answer.json(), json!({"error": words, "status": status}), "{method} {path} {body}");
        assert_eq!(answer.status, status, "{method} {path} {body}");
        assert!(answer.head.contains("content-type: application/json"));
    }
    for path in ["/proxies", "/populate", "/proxies/p", "/proxies/p/toxics", "/proxies/p/toxics/noop"] {
        let answer = server.ask_with("POST", path, "", "{not json");
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.json()["error"].as_str().unwrap().starts_with("bad request body: "), "{path}");
    }
    assert_eq!(server.get("/proxies").good().as_object().unwrap().len(), 1);
}

#[test]
fn browsers_are_refused_and_every_answer_has_an_id() {
    let server = Server::start();
    let answer = server.ask_with("GET", "/proxies", "User-Agent: Mozilla/5.0 (X11; Linux)\r\n", "");
    assert_eq!((answer.status, answer.text.as_str()), (403, "User agent not allowed\n"));
    let answer = server.ask_with("GET", "/proxies", "User-Agent: curl/8\r\n", "");
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("x-toxiproxy-request-id: "));
    let answer = server.get("/not_found");
    assert_eq!((answer.status, answer.text.as_str()), (404, "404 page not found\n"));
    assert_eq!(server.ask("PUT", "/proxies", &Value::Null).status, 405);
    assert_eq!(server.get("/version").good(), json!({"version": "2.12.0"}));
}

#[test]
fn populating_twice_leaves_alone_what_is_right_and_replaces_what_is_not() {
    let server = Server::start();
    let upstream = echo().to_string();
    let port = listener().local_addr().unwrap().to_string();
    let wanted = |upstream: &str| json!([{"name": "a", "listen": port, "upstream": upstream}]);
    let first = server.post("/populate", wanted(&upstream));
    assert_eq!(first.status, 201);
    assert_eq!(first.json()["proxies"][0]["listen"], json!(port));
    let mut stream = connect(port.parse().unwrap());
    assert_eq!(round_trip(&mut stream, b"before"), b"before");
    server.post("/proxies/a/toxics", json!({"type": "noop"})).good();
    let again = server.post("/populate", wanted(&upstream)).good();
    assert_eq!(again["proxies"][0]["toxics"].as_array().unwrap().len(), 1);
    assert_eq!(round_trip(&mut stream, b"still there"), b"still there");
    let other = server.post("/populate", wanted(&echo().to_string())).good();
    assert_eq!(other["proxies"][0]["toxics"], json!([]));
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "the old connections are gone");
    assert_eq!(round_trip(&mut connect(port.parse().unwrap()), b"after"), b"after");
}

#[test]
fn a_mistake_in_a_list_is_placed_and_nothing_of_the_list_is_made() {
    let server = Server::start();
    let answer = server.post("/populate", json!([{"name": "a", "upstream": "x:1"}, {"upstream": "x:1"}]));
    let expected = json!({"error": "missing required field: name at proxy 2", "status": 400, "proxies": []});
    assert_eq!((answer.status, answer.json()), (400, expected));
    assert_eq!(server.get("/proxies").good(), json!({}));
    let taken = listener();
    let port = taken.local_addr().unwrap().to_string();
    let list = json!([{"name": "a", "listen": "127.0.0.1:0", "upstream": "x:1"}, {"name": "b", "listen": port, "upstream": "x:1"}]);
    let answer = server.post("/populate", list);
    assert_eq!(answer.status, 500);
    assert_eq!(answer.json()["proxies"].as_array().unwrap().len(), 1, "what came before is made");
}

#[test]
fn down_closes_the_port_and_every_connection_and_up_takes_the_same_port() {
    let server = Server::start();
    let at = server.proxy(echo());
    let mut stream = connect(at);
    round_trip(&mut stream, b"x");
    assert_eq!(server.post("/proxies/p", json!({"enabled": false})).good()["enabled"], json!(false));
    assert!(TcpStream::connect(at).is_err());
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    let up = server.post("/proxies/p", json!({"enabled": true})).good();
    assert_eq!((&up["enabled"], &up["listen"]), (&json!(true), &json!(at.to_string())));
    assert_eq!(round_trip(&mut connect(at), b"y"), b"y");
}

#[test]
fn reset_brings_everything_up_and_takes_every_toxic_away() {
    let server = Server::start();
    let at = server.proxy(echo());
    server.toxic("timeout", "upstream", json!({}));
    server.toxic("latency", "downstream", json!({"latency": 3_600_000}));
    server.post("/proxies/p", json!({"enabled": false})).good();
    assert_eq!(server.post("/reset", Value::Null).status, 204);
    let proxy = server.get("/proxies/p").good();
    assert_eq!((&proxy["enabled"], &proxy["toxics"]), (&json!(true), &json!([])));
    assert_eq!(round_trip(&mut connect(at), b"x"), b"x");
}

#[test]
fn metrics_count_the_bytes_while_the_connection_is_open() {
    let server = Server::start();
    let at = server.proxy(echo());
    let mut stream = connect(at);
    round_trip(&mut stream, &[7; 1000]);
    for (what, direction) in
        [("received", "upstream"), ("sent", "upstream"), ("received", "downstream"), ("sent", "downstream")]
    {
        let name =
            format!("toxiproxy_proxy_{what}_bytes_total{{direction=\"{direction}\",listener=\"{at}\",proxy=\"p\",");
        // The client has its bytes a moment before they are counted.
        let counted =
            || server.get("/metrics").text.lines().any(|line| line.starts_with(&name) && line.ends_with(" 1000"));
        assert!(until(counted), "{name}: {}", server.get("/metrics").text);
    }
}
