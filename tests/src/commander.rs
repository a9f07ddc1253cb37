//! A coordinator that does what a test says, order by order: for suites that care about an agent and not about runs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use squall_experiments::effect::Effect;
use squall_experiments::run_event::{InjectionReport, InjectionState};
use squall_experiments::wire::{OpenInjection, Order, Signed, ToAgent, ToCoordinator};
use squalld::agent::kernel::boottime;
use squalld::coordinator::identity::Authority;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::Message;

use crate::fleet::{Agent, PATIENCE, spawn_agent};
use crate::lab::{Host, Running, programs};
use crate::pair::in_network_of;
use crate::skip::patience;

const PORT: u16 = 7117;

/// A state that was heard of.
pub struct Reached {
    pub state: InjectionState,
    pub report: InjectionReport,
    pub at: Instant,
}

/// Serves one agent at a time, on a host of the lab; its thread is this process's.
pub struct Commander {
    authority: Authority,
    _directory: tempfile::TempDir,
    address: SocketAddr,
    orders: UnboundedSender<ToAgent>,
    heard: Receiver<ToCoordinator>,
    /// A line for each change that was read, for a test that fails.
    story: RefCell<String>,
}

impl Commander {
    pub fn start(at: &Host) -> Commander {
        let directory = tempfile::tempdir().expect("a directory for the authority");
        let authority = Authority::open(directory.path()).expect("an authority");
        let address = SocketAddr::new(at.ipv4(), PORT);
        let signer = authority.order_signer();
        let tls = authority.server_config(&[at.ipv4().to_string()]).expect("a certificate for it");
        let listener = in_network_of(at, || std::net::TcpListener::bind(address)).expect("the port is free");
        let (orders, mut to_send) = unbounded_channel::<ToAgent>();
        let (said, heard) = channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                listener.set_nonblocking(true).expect("a socket can be");
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listening socket");
                let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = stream.set_nodelay(true);
                    let Ok(stream) = acceptor.accept(stream).await else { continue };
                    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { continue };
                    // Of the agent's `Hello`; orders are numbered within it.
                    let (mut node, mut session, mut number) = (String::new(), String::new(), 0);
                    // What was said to an agent that died before it heard it was never meant for this one.
                    while to_send.try_recv().is_ok() {}
                    loop {
                        tokio::select! {
                            message = socket.next() => match message {
                                Some(Ok(Message::Text(text))) => {
                                    let Ok(frame) = serde_json::from_str(&text) else { return };
                                    if let ToCoordinator::Hello { node: name, session: one, .. } = &frame {
                                        (node, session, number) = (name.clone(), one.clone(), 1);
                                        let welcome = ToAgent::Welcome { epoch: 1, lease_ms: 10_000 };
                                        let _ = socket.send(text_of(&signer.sign(&node, &session, 1, number, &welcome))).await;
                                    }
                                    if said.send(frame).is_err() {
                                        return;
                                    }
                                }
                                Some(Ok(_)) => {}
                                _ => break,
                            },
                            order = to_send.recv() => match order {
                                Some(order) => {
                                    number += 1;
                                    drop(socket.send(text_of(&signer.sign(&node, &session, 1, number, &order))).await);
                                }
                                None => return,
                            },
                        }
                    }
                }
            });
        });
        Commander { authority, _directory: directory, address, orders, heard, story: RefCell::default() }
    }

    /// Enrols and starts an agent, and waits until it has said `Hello`: what it says is open.
    pub fn agent(&self, host: &Host, agent: &Agent) -> (Running, Vec<OpenInjection>) {
        let running = self.launch(host, agent);
        let open = self.hear("Hello", |frame| match frame {
            ToCoordinator::Hello { open, .. } => Some(open.clone()),
            _ => None,
        });
        (running, open)
    }

    /// Enrols and starts an agent; waits for nothing.
    pub fn launch(&self, host: &Host, agent: &Agent) -> Running {
        if !host.path("/run/squall/node.key").exists() {
            let identity = self.authority.enroll(host.name()).expect("a host's name is a node's name");
            host.write("/run/squall/ca.pem", identity.ca);
            host.write("/run/squall/node.pem", identity.certificate);
            host.write("/run/squall/node.key", identity.key);
        }
        spawn_agent(host, &self.url(), agent)
    }

    /// The next frame for which `wanted` has an answer. None: `alive` is false, and what was said before is read.
    pub fn hear_while<T>(
        &self,
        mut alive: impl FnMut() -> bool,
        wanted: impl Fn(&ToCoordinator) -> Option<T>,
    ) -> Option<T> {
        let until = Instant::now() + patience(PATIENCE);
        loop {
            let lives = alive();
            match self.heard.recv_timeout(Duration::from_millis(20)) {
                Ok(frame) => match wanted(&frame) {
                    Some(found) => return Some(found),
                    None => continue,
                },
                Err(_) if !lives => return None,
                Err(_) => assert!(Instant::now() < until, "an agent lives and says nothing"),
            }
        }
    }

    /// Where agents find it.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub fn say(&self, order: ToAgent) {
        self.orders.send(order).expect("the commander serves");
    }

    /// The next frame for which `wanted` has an answer; others are passed over.
    pub fn hear<T>(&self, what: &str, wanted: impl Fn(&ToCoordinator) -> Option<T>) -> T {
        self.hear_within(patience(PATIENCE), what, wanted)
    }

    fn hear_within<T>(&self, patience: Duration, what: &str, wanted: impl Fn(&ToCoordinator) -> Option<T>) -> T {
        let until = Instant::now() + patience;
        loop {
            let Ok(frame) = self.heard.recv_timeout(until.saturating_duration_since(Instant::now())) else {
                panic!("{what} was not heard within {patience:?}; what was:\n{}", self.story());
            };
            if let ToCoordinator::Changed { injection, state, report } = &frame {
                let (here, there) = (boottime::now_us() / 1000, report.agent_us / 1000);
                let line =
                    format!("{here} ms: {injection} {state:?} after {there} ms, {:?} {}", report.cause, report.detail);
                *self.story.borrow_mut() += &(line + "\n");
            }
            if let Some(found) = wanted(&frame) {
                return found;
            }
        }
    }

    /// Every change that was read so far, with the moment on CLOCK_BOOTTIME, and what the agent says of its time.
    pub fn story(&self) -> String {
        self.story.borrow().clone()
    }

    /// Waits for this state of an injection; panics at another that is terminal.
    pub fn state(&self, injection: &str, wanted: InjectionState) -> InjectionReport {
        let (state, report) = self.next(injection, |state| state == wanted || state.is_terminal());
        assert_eq!(state, wanted, "{injection}: {report:?}");
        report
    }

    /// Waits for the end of an injection, whatever it is.
    pub fn end(&self, injection: &str) -> (InjectionState, InjectionReport) {
        self.next(injection, InjectionState::is_terminal)
    }

    /// Waits until each of these has been in a state that `is` one, in whatever order they come; with the moment at which each was heard
    /// here. Others are passed over (an agent repeats what it cannot know to be read). Panics at another end.
    pub fn all(&self, injections: &[String], is: impl Fn(InjectionState) -> bool) -> BTreeMap<String, Reached> {
        let mut reached = BTreeMap::new();
        while reached.len() < injections.len() {
            let (injection, state, report) =
                self.hear_within(patience(PATIENCE).max(PATIENCE * 3), "a state of these", |frame| match frame {
                    ToCoordinator::Changed { injection, state, report }
                        if injections.contains(injection) && (is(*state) || state.is_terminal()) =>
                    {
                        Some((injection.clone(), *state, report.clone()))
                    }
                    _ => None,
                });
            assert!(is(state), "{injection} is {state:?}: {report:?}");
            reached.entry(injection).or_insert(Reached { state, report, at: Instant::now() });
        }
        reached
    }

    fn next(&self, wanted: &str, is: impl Fn(InjectionState) -> bool) -> (InjectionState, InjectionReport) {
        self.hear(wanted, |frame| match frame {
            ToCoordinator::Changed { injection, state, report } if injection == wanted && is(*state) => {
                Some((*state, report.clone()))
            }
            _ => None,
        })
    }

    /// Orders effects and waits until they are active.
    pub fn inject(&self, injection: &str, effects: &[Effect]) -> InjectionReport {
        self.say(ToAgent::Inject(order(injection, effects)));
        self.state(injection, InjectionState::Active)
    }

    pub fn revert(&self, injection: &str) {
        self.say(ToAgent::Revert { epoch: 1, injection: injection.to_owned() });
    }
}

/// An order with a minute of life.
pub fn order(injection: &str, effects: &[Effect]) -> Order {
    Order {
        epoch: 1,
        run: injection.split('/').next().unwrap_or_default().to_owned(),
        injection: injection.to_owned(),
        fault: "any-fault".to_owned(),
        effects: effects.to_vec(),
        duration_ms: 60_000,
        lease_ms: 60_000,
    }
}

/// `squalld sweep` on a host whose agent is dead: exit code and what it says.
pub fn sweep(host: &Host) -> (i32, String) {
    let mut command = host.command(programs::program("squalld"));
    let output = command.args(["sweep", "--state-dir", crate::fleet::AGENT_STATE]).stdin(Stdio::null()).output();
    let output = output.expect("squalld starts");
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn text_of(signed: &Signed) -> Message {
    Message::text(serde_json::to_string(signed).expect("plain data"))
}
