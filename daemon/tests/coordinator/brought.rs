//! A certificate, key and authorities of an operator's own, beside the coordinator's authority.

use std::path::Path;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use squall_experiments::wire::AUTHORITY_NAME;
use squalld::agent::enrolment::{Enrolment, enrol};
use squalld::agent::identity::Identity;
use squalld::coordinator::brought::Files;
use squalld::coordinator::credentials::Credentials;
use squalld::coordinator::identity::{Authority, NodeIdentity, write_node};
use squalld::coordinator::{Config, start};
use squalld::sim_agent::{self, Dial, SimAgent};

use crate::world::{World, within};

/// An operator's authority.
struct Pki {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// Days from now; negative: ago.
struct Life(i32, i32);
const NOW: Life = Life(-1, 30);

impl Pki {
    fn new(name: &str) -> Pki {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Pki { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key, PEM.
    fn leaf(&self, common_name: &str, names: &[&str], usage: ExtendedKeyUsagePurpose, life: Life) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        // What it writes there says nothing of the coordinator's generations.
        params.distinguished_name.push(DnType::OrganizationalUnitName, "generation 99");
        params.extended_key_usages = vec![usage];
        let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(squalld::clock::wall_ms());
        let days = |days: i32| Duration::from_secs(86_400) * days.unsigned_abs();
        let at = |day: i32| if day < 0 { now - days(day) } else { now + days(day) };
        (params.not_before, params.not_after) = (at(life.0), at(life.1));
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn server(&self, life: Life) -> (String, String) {
        self.leaf("a server", &["localhost", "127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth, life)
    }

    fn node(&self, name: &str) -> NodeIdentity {
        let (certificate, key) = self.leaf(name, &[], ExtendedKeyUsagePurpose::ClientAuth, NOW);
        NodeIdentity { ca: self.pem.clone(), certificate, key }
    }
}

fn write(dir: &Path, (certificate, key): &(String, String), authorities: &str) -> Files {
    let files =
        Files { certificate: dir.join("tls.pem"), key: dir.join("tls.key"), authorities: dir.join("authorities.pem") };
    std::fs::write(&files.certificate, certificate).unwrap();
    std::fs::write(&files.key, key).unwrap();
    std::fs::write(&files.authorities, authorities).unwrap();
    files
}

async fn world(pki: &Pki, home: &Path) -> World {
    let files = write(home, &pki.server(NOW), &pki.pem);
    World::with(|config| {
        config.names = vec!["localhost".into()];
        config.brought = Some(files);
    })
    .await
}

impl World {
    fn dial_with(&self, identity: NodeIdentity) -> Dial {
        Dial { address: self.running.address, ca: self.running.access.ca.clone(), identity: Some(identity) }
    }
}

/// The certificate that somebody with this configuration is shown, if it trusts it.
async fn shown(world: &World, tls: std::sync::Arc<rustls::ClientConfig>) -> std::io::Result<CertificateDer<'static>> {
    let stream = tokio::net::TcpStream::connect(world.running.address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let stream = tokio_rustls::TlsConnector::from(tls).connect(name, stream).await?;
    Ok(stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned())
}

fn trusting(pki: &Pki) -> std::sync::Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.pem.as_bytes()).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    std::sync::Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

#[tokio::test]
async fn people_are_shown_the_brought_certificate_and_enrolled_nodes_the_coordinators_own() {
    let (home, pki) = (tempfile::tempdir().unwrap(), Pki::new("Example Authority"));
    let world = world(&pki, home.path()).await;
    // A client that trusts only what was brought, by the name that it is for.
    assert!(world.running.access.url.starts_with("https://localhost:"), "{}", world.running.access.url);
    let _: serde_json::Value = world.get("/v1/health").await;

    let token = Credentials::of(world.dir.path()).add_enrolment("db1", Duration::from_secs(60)).unwrap();
    let ca = Authority::open(world.dir.path()).unwrap().fingerprint().unwrap().parse().unwrap();
    let address = world.running.access.url.parse().unwrap();
    let node = home.path().join("db1");
    enrol(&node, &address, &Enrolment { token, ca }).await.unwrap();
    let enrolled = Identity::load(&node).unwrap();
    let own = shown(&world, enrolled.tls.clone()).await.unwrap();
    let other = shown(&world, trusting(&pki)).await.unwrap();
    assert_ne!(own, other);
    assert!(enrolled.renew_in(0).is_some());
}

#[tokio::test]
async fn nodes_of_the_brought_authority_come_in_until_they_are_revoked_and_strangers_never() {
    let (home, pki) = (tempfile::tempdir().unwrap(), Pki::new("Example Authority"));
    let world = world(&pki, home.path()).await;
    let agent = SimAgent::start("db9", 1, &[]);
    agent.dial(Some(world.dial_with(pki.node("db9"))));
    within(world.running.wait_connected("db9")).await;

    // Its files hold the key for orders too; it trusts and is renewed by its own authority.
    let mut files = pki.node("db9");
    files.ca += &Authority::open(world.dir.path()).unwrap().order_signer().public_pem();
    write_node(&home.path().join("db9"), &files).unwrap();
    let identity = Identity::load(&home.path().join("db9")).unwrap();
    assert_eq!(identity.renew_in(0), None);
    assert_eq!(shown(&world, identity.tls.clone()).await.unwrap(), shown(&world, trusting(&pki)).await.unwrap());

    let strangers = [Pki::new("Another Authority"), Pki::new("Example Authority"), Pki::new(AUTHORITY_NAME)];
    for stranger in strangers {
        assert!(within(sim_agent::open(&world.dial_with(stranger.node("db8")))).await.is_err());
    }
    // A server's certificate is no node's, and a name that is none is nobody's.
    let (certificate, key) = pki.server(NOW);
    let server = NodeIdentity { ca: pki.pem.clone(), certificate, key };
    for wrong in [server, pki.node("../db8")] {
        assert!(within(sim_agent::open(&world.dial_with(wrong))).await.is_err());
    }

    Credentials::of(world.dir.path()).revoke("db9").unwrap();
    within(agent.until(|seen| !seen.connected)).await;
    assert!(within(sim_agent::open(&world.dial_with(pki.node("db9")))).await.is_err());
}

#[tokio::test]
async fn replaced_files_are_taken_up_without_a_restart_once_they_are_right() {
    let (home, pki) = (tempfile::tempdir().unwrap(), Pki::new("Example Authority"));
    let world = world(&pki, home.path()).await;
    let first = shown(&world, trusting(&pki)).await.unwrap();
    let expired = pki.server(Life(-9, -1));
    write(home.path(), &expired, &pki.pem);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(shown(&world, trusting(&pki)).await.unwrap(), first, "one that is out of date is not taken up");
    let next = pki.server(NOW);
    write(home.path(), &next, &pki.pem);
    let wanted = CertificateDer::from_pem_slice(next.0.as_bytes()).unwrap();
    within(async {
        while shown(&world, trusting(&pki)).await.unwrap() != wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn wrong_and_expired_files_are_a_clear_error_at_the_start() {
    let (pki, other) = (Pki::new("Example Authority"), Pki::new("Another Authority"));
    let good = pki.server(NOW);
    let elsewhere = pki.leaf("s", &["chaos.example"], ExtendedKeyUsagePurpose::ServerAuth, NOW);
    let node = pki.leaf("s", &["localhost"], ExtendedKeyUsagePurpose::ClientAuth, NOW);
    let mixed = (good.0.clone(), elsewhere.1.clone());
    let cases = [
        ("out of date since", pki.server(Life(-9, -1)), pki.pem.as_str()),
        ("is not valid before", pki.server(Life(1, 9)), &pki.pem),
        ("is not the key of the certificate", mixed, &pki.pem),
        ("is for chaos.example, not for localhost: say with --name", elsewhere, &pki.pem),
        ("is not one of a server, by", node, &pki.pem),
        ("is not one of a server, by", good.clone(), &other.pem),
        ("tls.pem holds no certificate", (String::new(), good.1.clone()), &pki.pem),
        ("tls.key holds no private key", (good.0.clone(), "none".into()), &pki.pem),
        ("authorities.pem holds no certificate", good.clone(), ""),
    ];
    for (wanted, pair, authorities) in cases {
        let home = tempfile::tempdir().unwrap();
        let mut config = Config::new(home.path().join("data"), "127.0.0.1:0".parse().unwrap());
        config.names = vec!["localhost".into()];
        config.brought = Some(write(home.path(), &pair, authorities));
        let error = start(config).await.err().unwrap_or_else(|| panic!("it started although: {wanted}"));
        assert!(format!("{error:#}").contains(wanted), "{error:#}, wanted: {wanted}");
    }
    let home = tempfile::tempdir().unwrap();
    let mut config = Config::new(home.path().join("data"), "127.0.0.1:0".parse().unwrap());
    let mut files = write(home.path(), &good, &pki.pem);
    files.key = home.path().join("nowhere");
    config.brought = Some(files);
    let error = format!("{:#}", start(config).await.err().unwrap());
    assert!(error.contains("nowhere"), "{error}");
}
