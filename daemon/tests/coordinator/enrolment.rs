//! How nodes get, keep and lose their certificates: the agent's own code against a coordinator that serves.

use std::cell::RefCell;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use squall_experiments::wire::{CertifyMe, ToAgent};
use squalld::agent::enrolment::{Enrolment, enrol, keep_fresh};
use squalld::agent::identity::Identity;
use squalld::agent::link::Address;
use squalld::coordinator::credentials::Credentials;
use squalld::coordinator::enrolment::GRACE;
use squalld::coordinator::identity::{Authority, NodeIdentity};
use squalld::sim_agent::{self, Dial, SimAgent};

use crate::world::{World, within};

const HOUR: Duration = Duration::from_secs(3600);

impl World {
    fn credentials(&self) -> Credentials {
        Credentials::of(self.dir.path())
    }

    fn authority(&self) -> Authority {
        Authority::open(self.dir.path()).unwrap()
    }

    async fn enrol(&self, directory: &Path, token: &str) -> anyhow::Result<()> {
        let ca = self.authority().fingerprint()?.parse().map_err(anyhow::Error::msg)?;
        enrol(directory, &self.address(), &Enrolment { token: token.to_owned(), ca }).await
    }

    fn address(&self) -> Address {
        self.running.access.url.parse().unwrap()
    }

    fn dial_as(&self, identity: NodeIdentity) -> Dial {
        Dial { address: self.running.address, ca: self.running.access.ca.clone(), identity: Some(identity) }
    }

    /// A certificate that ended so long ago.
    fn ended(&self, node: &str, ago: Duration) -> NodeIdentity {
        let key = rcgen::KeyPair::generate().unwrap();
        let to = Duration::from_millis(squalld::clock::wall_ms()) - ago;
        let certificate = self.authority().certify_key(node, 0, &key, to - HOUR, to).unwrap();
        NodeIdentity { ca: self.running.access.ca.clone(), certificate, key: key.serialize_pem() }
    }

    /// `POST /v1/renew` with this certificate: the status, or None if it does not even get in.
    async fn renew(&self, identity: &NodeIdentity) -> Option<u16> {
        let key = rcgen::KeyPair::from_pem(&identity.key).unwrap();
        let csr = rcgen::CertificateParams::new(Vec::new()).unwrap().serialize_request(&key).unwrap().pem().unwrap();
        let pem = format!("{}{}", identity.certificate, identity.key);
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(identity.ca.as_bytes()).unwrap()])
            .identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap())
            .no_proxy()
            .build()
            .unwrap();
        let url = format!("{}/v1/renew", self.running.access.url);
        Some(client.post(url).json(&CertifyMe { csr }).send().await.ok()?.status().as_u16())
    }
}

fn identity_in(directory: &Path) -> NodeIdentity {
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    NodeIdentity { ca: read("ca.pem"), certificate: read("node.pem"), key: read("node.key") }
}

#[tokio::test]
async fn a_token_enrols_its_node_once_and_the_key_is_made_and_kept_there() {
    let world = World::new().await;
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("identity");
    let token = world.credentials().add_enrolment("db1", HOUR).unwrap();
    world.enrol(&directory, &token).await.unwrap();
    for name in ["ca.pem", "node.pem", "node.key"] {
        let mode = std::fs::metadata(directory.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let agent = SimAgent::start("db1", 1, &[]);
    agent.dial(Some(world.dial_as(identity_in(&directory))));
    within(world.running.wait_connected("db1")).await;

    let again = world.enrol(&home.path().join("other"), &token).await.unwrap_err();
    assert!(format!("{again:#}").contains("401"), "{again:#}");
    // With its certificate a node needs no token: the same arguments serve at every start.
    world.enrol(&directory, &token).await.unwrap();
}

#[tokio::test]
async fn a_token_that_is_expired_or_none_enrols_nobody_and_a_bad_request_does_not_use_it_up() {
    let world = World::new().await;
    let home = tempfile::tempdir().unwrap();
    let expired = world.credentials().add_enrolment("db1", Duration::ZERO).unwrap();
    let user = world.running.access.token.clone();
    for (index, token) in [expired, user, "x".repeat(43)].into_iter().enumerate() {
        let error = world.enrol(&home.path().join(index.to_string()), &token).await.unwrap_err();
        assert!(format!("{error:#}").contains("401"), "{error:#}");
    }
    let token = world.credentials().add_enrolment("db1", HOUR).unwrap();
    let request = world.client.post(format!("{}/v1/enrol", world.running.access.url)).bearer_auth(&token);
    let answer = request.json(&CertifyMe { csr: "none".into() }).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    world.enrol(&home.path().join("good"), &token).await.unwrap();
}

#[tokio::test]
async fn a_coordinator_of_another_fingerprint_never_hears_the_token() {
    let world = World::new().await;
    let home = tempfile::tempdir().unwrap();
    let token = world.credentials().add_enrolment("db1", HOUR).unwrap();
    let other = Enrolment { token: token.clone(), ca: "ab".repeat(32).parse().unwrap() };
    assert!(enrol(&home.path().join("a"), &world.address(), &other).await.is_err());
    assert!(!home.path().join("a/node.pem").exists());
    assert!(world.credentials().is_enrolment(&token).unwrap());
}

#[tokio::test]
async fn a_certificate_is_renewed_before_it_ends_with_the_same_key() {
    let world = World::with(|config| config.certificate_life = Duration::from_secs(3)).await;
    let home = tempfile::tempdir().unwrap();
    let token = world.credentials().add_enrolment("db1", HOUR).unwrap();
    world.enrol(home.path(), &token).await.unwrap();
    let first = identity_in(home.path());
    let identity = Rc::new(RefCell::new(Identity::load(home.path()).unwrap()));
    tokio::task::LocalSet::new()
        .run_until(async {
            let keeping = tokio::task::spawn_local(keep_fresh(identity.clone(), world.address()));
            within(async {
                while identity_in(home.path()).certificate == first.certificate {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
            keeping.abort();
        })
        .await;
    let second = identity_in(home.path());
    assert_eq!(second.key, first.key);
    let agent = SimAgent::start("db1", 1, &[]);
    agent.dial(Some(world.dial_as(second)));
    within(world.running.wait_connected("db1")).await;
}

#[tokio::test]
async fn an_expired_certificate_is_good_for_a_renewal_within_its_grace_and_for_nothing_else() {
    let world = World::new().await;
    let late = world.ended("db1", HOUR);
    let error = sim_agent::open(&world.dial_as(late.clone())).await.err().unwrap();
    assert!(error.to_string().contains("401"), "{error}");
    assert_eq!(world.renew(&late).await, Some(200));
    assert_eq!(world.renew(&world.ended("db1", GRACE + HOUR)).await, None);
    // Within its grace, but revoked.
    world.credentials().revoke("db1").unwrap();
    assert!(matches!(world.renew(&late).await, Some(401) | None));
}

#[tokio::test]
async fn a_revoked_node_is_halted_and_loses_its_connection_its_certificate_and_its_tokens() {
    let world = World::new().await;
    let agent = world.agent("db1", 1).await;
    let old = world.running.enroll("db1").unwrap();
    let other = world.agent("db2", 2).await;
    let unused = world.credentials().add_enrolment("db1", HOUR).unwrap();
    world.credentials().revoke("db1").unwrap();
    within(agent.until(|seen| !seen.connected)).await;
    assert!(agent.seen().orders.contains(&ToAgent::Halt { run: None }), "{:?}", agent.seen().orders);
    assert!(other.seen().connected);
    assert!(within(sim_agent::open(&world.dial_as(old.clone()))).await.is_err());
    assert_eq!(world.renew(&old).await, None);
    let home = tempfile::tempdir().unwrap();
    assert!(world.enrol(&home.path().join("a"), &unused).await.is_err());
    // An operator lets it in again, with a new token.
    let token = world.credentials().add_enrolment("db1", HOUR).unwrap();
    world.enrol(&home.path().join("b"), &token).await.unwrap();
    agent.dial(Some(world.dial_as(identity_in(&home.path().join("b")))));
    within(agent.until(|seen| seen.connected)).await;
}
