//! What people and nodes do to a coordinator stands in its audit log: the lever, users, tokens, certificates, revocations, refusals.

use std::path::Path;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;
use squall_experiments::audit::{self, Enrolment, Record, What};
use squalld::agent::enrolment::{self, enrol};
use squalld::coordinator::credentials::Credentials;
use squalld::coordinator::identity::{self, Authority};
use squalld::coordinator::permission::Role;

use crate::world::World;

const HOUR: Duration = Duration::from_secs(3600);

/// All records, whose chain must hold.
fn records(directory: &Path) -> Vec<Record> {
    let name = audit::file_name(1);
    let bytes = std::fs::read(directory.join(&name)).unwrap();
    audit::Checked::of(&[audit::File { name: &name, bytes: &bytes }], audit::Chain::Whole).unwrap();
    bytes.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n').map(|line| Record::read(line).unwrap()).collect()
}

fn by<'a>(records: &'a [Record], who: &str) -> Vec<&'a What> {
    records.iter().filter(|record| record.who == who).filter_map(|record| record.what.as_ref()).collect()
}

#[tokio::test]
async fn the_lever_and_every_refused_request_stand_in_the_audit_log_with_their_names() {
    let world = World::new().await;
    let viewer = Credentials::of(world.dir.path()).add_user("vera", Role::Viewer, None).unwrap();
    let call = |token: &str, method: Method, path: &str| {
        let url = format!("{}{path}", world.running.access.url);
        world.client.request(method, url).bearer_auth(token).json(&json!({})).send()
    };
    assert_eq!(call(&viewer, Method::POST, "/v1/lever/engage").await.unwrap().status(), StatusCode::OK);
    assert_eq!(call(&viewer, Method::POST, "/v1/lever/release").await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(call("guessed", Method::GET, "/v1/runs").await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let own = world.running.access.token.clone();
    assert_eq!(call(&own, Method::POST, "/v1/lever/release").await.unwrap().status(), StatusCode::OK);
    let dir = world.dir.clone();
    world.running.stop("the test").await;
    let records = records(dir.path());
    let vera = by(&records, "vera at 127.0.0.1");
    assert_eq!(vera[0], &What::Lever { engaged: true });
    let What::RequestRefused { request, status: 403, reasons, unrecorded: 0 } = vera[1] else { panic!("{vera:?}") };
    assert_eq!(request, "POST /v1/lever/release");
    assert!(reasons[0].contains("the role viewer may not"), "{reasons:?}");
    let somebody = by(&records, "somebody at 127.0.0.1");
    assert!(matches!(somebody[0], What::RequestRefused { status: 401, request, .. } if request == "GET /v1/runs"));
    // The shared token says that somebody may, not who it is.
    assert_eq!(somebody[1], &What::Lever { engaged: false });
    let text: Vec<String> = records.iter().map(ToString::to_string).collect();
    assert!(text.iter().any(|line| line.ends_with("vera at 127.0.0.1  safety lever engaged")), "{text:#?}");
}

#[tokio::test]
async fn what_commands_do_is_written_down_by_the_coordinator_that_serves_or_by_the_next() {
    let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
    // Nobody serves yet: the authority and a first user are made by commands.
    let authority = Authority::open(dir.path()).unwrap();
    let credentials = Credentials::of(dir.path());
    credentials.add_user("ada", Role::Operator, Some(HOUR)).unwrap();
    identity::enroll(dir.path(), "lab1", &dir.path().join("lab1")).unwrap();
    let world = World::in_dir(dir.clone(), |_| {}).await;
    let token = credentials.add_enrolment("db1", HOUR).unwrap();
    let ca = authority.fingerprint().unwrap().parse().unwrap();
    let address = world.running.access.url.parse().unwrap();
    enrol(&dir.path().join("db1"), &address, &enrolment::Enrolment { token, ca }).await.unwrap();
    assert_eq!(credentials.revoke("db1").unwrap(), 1);
    assert!(credentials.remove_user("ada").unwrap());
    assert!(!credentials.remove_user("ada").unwrap(), "who is not there is not removed, and no record says so");
    world.running.stop("the test").await;
    assert!(credentials.deeds().unwrap().is_empty(), "what is in the log waits no more");

    let records = records(dir.path());
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let deeds = by(&records, &format!("{user} at this host"));
    assert!(
        matches!(deeds[0], What::UserAdded { user, role, expires_ms: Some(_), .. } if user == "ada" && role == "operator")
    );
    assert!(matches!(deeds[1], What::Enrolled { node, way: Enrolment::Command, .. } if node == "lab1"));
    assert!(matches!(deeds[2], What::TokenMade { node, .. } if node == "db1"));
    assert!(matches!(deeds[3], What::Revoked { node, generation: 1, .. } if node == "db1"));
    assert!(matches!(deeds[4], What::UserRemoved { user, .. } if user == "ada"));
    assert_eq!(deeds.len(), 5, "{deeds:?}");
    let node = by(&records, "agent/db1");
    let What::Enrolled { way: Enrolment::Token, generation: 0, certificate, .. } = node[0] else { panic!("{node:?}") };
    let pem = std::fs::read_to_string(dir.path().join("db1/node.pem")).unwrap();
    let der = <rustls::pki_types::CertificateDer as rustls::pki_types::pem::PemObject>::from_pem_slice(pem.as_bytes());
    assert_eq!(certificate, &audit::sha256(&der.unwrap()));
}
