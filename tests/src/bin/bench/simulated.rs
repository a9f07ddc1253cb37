//! A thousand agents on one coordinator: each a real TLS WebSocket with its own certificate that answers as an agent would,
//! in one process on a host of the lab. Only the kernel's part is missing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use squall_experiments::faults;
use squall_experiments::inventory::{Ability, Can, Facts};
use squall_experiments::run_event::{Event, Evidence, InjectionReport, InjectionState, RevertCause};
use squall_experiments::wire::{self, Checked, ToAgent, ToCoordinator};
use squall_tests::fleet::{COORDINATOR_STATE, Fleet};
use squall_tests::lab::{Lab, programs, wait_until};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;

use super::breach;
use super::table::Table;

const AGENTS: usize = 1000;
const ROUNDS: usize = 3;

pub fn measure(table: &mut Table) -> anyhow::Result<()> {
    let lab = Lab::new().hosts(&["ctl", "crowd", "watched"]).start();
    let fleet = Fleet::start(&lab, "ctl", &[]);
    let squalld = programs::program("squalld");
    let crowd = lab.host("crowd");
    for index in 0..AGENTS {
        let name = format!("sim{index:04}");
        let out = format!("/tmp/{name}");
        let done = lab.host("ctl").run(
            squalld.to_str().context("a plain path")?,
            &["enroll", "--data-dir", COORDINATOR_STATE, "--out", &out, &name],
        );
        anyhow::ensure!(done.ok(), "enroll: {}", done.stderr);
        for file in ["ca.pem", "node.pem", "node.key"] {
            crowd.write(&format!("{out}/{file}"), std::fs::read(lab.host("ctl").path(format!("{out}/{file}")))?);
        }
    }
    let me = std::env::current_exe()?;
    let url = fleet.url().to_owned();
    let mut command = crowd.command(me);
    let _crowd = crowd.start(command.args(["simulate", &url, &AGENTS.to_string()]).stdin(Stdio::null()));
    anyhow::ensure!(
        wait_until(Duration::from_secs(60), || fleet.nodes().iter().filter(|node| node.connected).count() == AGENTS),
        "not all simulated agents are connected"
    );
    let mut reverted = Vec::new();
    for _ in 0..ROUNDS {
        let watched = lab.host("watched");
        let mut echo = watched.start(watched.talk("tcp-echo").args(["--at", "[::]:7"]));
        std::thread::sleep(Duration::from_millis(300));
        let mut run = fleet.submit(&breach::experiment("watched.lab:7", AGENTS));
        let last = format!("sim{:04}", AGENTS - 1);
        run.wait_state(&last, InjectionState::Active);
        std::thread::sleep(Duration::from_secs(1));
        echo.kill();
        let (_, breach) = run.wait_for("a breach", |event| matches!(event, Event::Breach { .. }));
        // Whole again some seconds later, so that the run can end; the reverts are long done then.
        std::thread::sleep(Duration::from_secs(2));
        let _echo = watched.start(watched.talk("tcp-echo").args(["--at", "[::]:7"]));
        reverted.push(breach::all_reverted(&mut run, breach.at_us));
        let count = run
            .seen
            .iter()
            .filter(|(_, event)| matches!(&event.event, Event::Changed { state: InjectionState::Reverted, .. }));
        anyhow::ensure!(count.count() == AGENTS, "not all were reverted");
    }
    table.times("1,000 simulated agents: detected to all reverted", &reverted, "99th: 1 s");
    Ok(())
}

/// `bench simulate URL COUNT`: the agents.
pub fn agents(arguments: &[String]) -> anyhow::Result<()> {
    let [url, count] = arguments else { anyhow::bail!("simulate URL COUNT") };
    let count: usize = count.parse()?;
    // One provider for the process; a second call would only say that it is there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for index in 0..count {
            let name = format!("sim{index:04}");
            let url = format!("{}/v1/agent", url.replacen("https://", "wss://", 1));
            tasks.push(tokio::spawn(async move {
                if let Err(error) = agent(&name, &url).await {
                    eprintln!("{name}: {error:#}");
                }
            }));
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        for task in tasks {
            task.await?;
        }
        Ok(())
    })
}

async fn agent(name: &str, url: &str) -> anyhow::Result<()> {
    let directory = Path::new("/tmp").join(name);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(directory.join("ca.pem"))?)?;
    let chain = CertificateDer::pem_file_iter(directory.join("node.pem"))?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(directory.join("node.key"))?;
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key)?;
    let host = url.trim_start_matches("wss://").split('/').next().context("a host and a port")?;
    let address: SocketAddr = host.parse()?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let tls = TlsConnector::from(Arc::new(config)).connect(address.ip().into(), stream).await?;
    let (mut socket, _) = tokio_tungstenite::client_async(url, tls).await?;
    let hello = ToCoordinator::Hello {
        wire: wire::VERSION,
        node: name.to_owned(),
        labels: BTreeMap::from([("role".to_owned(), "server".to_owned())]),
        zone: None,
        session: "simulated".to_owned(),
        facts: Box::new(facts()),
        open: Vec::new(),
    };
    socket.send(text(&hello)?).await?;
    let mut open: BTreeMap<String, String> = BTreeMap::new();
    while let Some(frame) = socket.next().await {
        let Message::Text(order) = frame? else { continue };
        let mut answers = Vec::new();
        let signed: wire::Signed = serde_json::from_str(order.as_str())?;
        match serde_json::from_str(&signed.order)? {
            ToAgent::Check(order) => answers.push(ToCoordinator::Checked(Checked {
                injection: order.injection,
                node: name.to_owned(),
                refusals: Vec::new(),
                notes: Vec::new(),
                undo_ms: None,
            })),
            ToAgent::Inject(order) => {
                answers.push(changed(&order.injection, InjectionState::Journaled));
                answers.push(changed(&order.injection, InjectionState::Applying));
                answers.push(changed(&order.injection, InjectionState::Active));
                open.insert(order.injection, order.run);
            }
            ToAgent::Revert { injection, .. } if open.remove(&injection).is_some() => {
                answers.push(changed(&injection, InjectionState::Reverting));
                answers.push(changed(&injection, InjectionState::Reverted));
            }
            ToAgent::Halt { run } => {
                let hit: Vec<String> = open
                    .iter()
                    .filter(|(_, of)| run.as_ref().is_none_or(|run| run == *of))
                    .map(|(injection, _)| injection.clone())
                    .collect();
                for injection in hit {
                    open.remove(&injection);
                    answers.push(changed(&injection, InjectionState::Reverting));
                    answers.push(changed(&injection, InjectionState::Reverted));
                }
            }
            _ => {}
        }
        for answer in answers {
            socket.send(text(&answer)?).await?;
        }
    }
    Ok(())
}

fn text(message: &ToCoordinator) -> anyhow::Result<Message> {
    Ok(Message::text(serde_json::to_string(message)?))
}

fn changed(injection: &str, state: InjectionState) -> ToCoordinator {
    let evidence = match state {
        InjectionState::Active => vec![Evidence {
            what: "simulated".into(),
            before: "0".into(),
            after: "1".into(),
            bites: Some(true),
            numbers: BTreeMap::new(),
        }],
        _ => Vec::new(),
    };
    let cause = (state == InjectionState::Reverted).then_some(RevertCause::Ordered);
    let report = InjectionReport { evidence, cause, ..InjectionReport::default() };
    ToCoordinator::Changed { injection: injection.to_owned(), state, report }
}

fn facts() -> Facts {
    Facts {
        version: env!("CARGO_PKG_VERSION").into(),
        kernel: "simulated".into(),
        cpus: 1,
        memory_bytes: 1 << 30,
        abilities: Ability::ALL.into_iter().map(|ability| (ability, Can::Yes)).collect(),
        allowed_faults: faults::ALL.iter().map(|fault| fault.name.to_owned()).collect(),
        ..Facts::default()
    }
}
