//! A real agent in a network and mount namespace of its test's thread, and a coordinator that does what the test says.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use squall_experiments::effect::{Amount, Effect, Freeze, Hog, HoldSpace};
use squall_experiments::run_event::{InjectionReport, InjectionState};
use squall_experiments::target::ProcessSelector;
use squall_experiments::units::{Percent, Size};
use squall_experiments::wire::{Checked, Order, Signed, ToAgent, ToCoordinator};
use squalld::agent::effects::ProcessId;
use squalld::agent::journal;
use squalld::agent::kernel::pidfd;
use squalld::coordinator::identity::Authority;
use squalld::coordinator::signer::Signer;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::Message;

use crate::rig::{self, Reaped, eventually};

/// How long a thing that must happen may take before a test fails.
pub const SOON: Duration = Duration::from_secs(10);

pub const NODE: &str = "node1";

enum Control {
    Say(Box<ToAgent>),
    /// As it is, signed by whoever did.
    Forward(Box<Signed>),
    /// Drops the connection, and every further one while `refuse`.
    Cut {
        refuse: bool,
    },
}

/// Speaks the wire, decides nothing.
pub struct Coordinator {
    pub address: SocketAddr,
    control: UnboundedSender<Control>,
    heard: Receiver<ToCoordinator>,
    pub hellos: usize,
    /// For what a test signs itself.
    pub signer: Arc<Signer>,
    /// Of the last `Hello`.
    pub session: String,
}

impl Coordinator {
    fn start(directory: &Path) -> Coordinator {
        std::fs::create_dir(directory.join("authority")).unwrap();
        let authority = Authority::open(&directory.join("authority")).unwrap();
        let tls = authority.server_config(&["127.0.0.1".to_owned()]).unwrap();
        let identity = authority.enroll(NODE).unwrap();
        let signer = Arc::new(authority.order_signer());
        let signs = signer.clone();
        let home = directory.join("identity");
        std::fs::create_dir(&home).unwrap();
        for (name, text) in [("ca.pem", identity.ca), ("node.pem", identity.certificate), ("node.key", identity.key)] {
            std::fs::write(home.join(name), text).unwrap();
        }
        let (control, mut controls) = unbounded_channel();
        let (said, heard) = channel();
        let (bound, address) = channel();
        // A thread of this one: it is in the same namespaces.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
                let mut refuse = false;
                loop {
                    let stream = tokio::select! {
                        stream = listener.accept() => stream.unwrap().0,
                        control = controls.recv() => match control {
                            Some(Control::Cut { refuse: now }) => { refuse = now; continue }
                            Some(Control::Say(_) | Control::Forward(_)) => continue,
                            None => return,
                        },
                    };
                    if refuse {
                        continue;
                    }
                    let Ok(stream) = acceptor.accept(stream).await else { continue };
                    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { continue };
                    let (mut session, mut sequence) = (String::new(), 0);
                    let mut text_of = |session: &str, order: &ToAgent| {
                        sequence += 1;
                        let signed = signs.sign(NODE, session, 1, sequence, order);
                        Message::text(serde_json::to_string(&signed).unwrap())
                    };
                    loop {
                        tokio::select! {
                            message = socket.next() => match message {
                                Some(Ok(Message::Text(text))) => {
                                    let frame: ToCoordinator = serde_json::from_str(&text).unwrap();
                                    if let ToCoordinator::Hello { session: said, .. } = &frame {
                                        session.clone_from(said);
                                        let welcome = ToAgent::Welcome { epoch: 1, lease_ms: 10_000 };
                                        let _ = socket.send(text_of(&session, &welcome)).await;
                                    }
                                    let _ = said.send(frame);
                                }
                                Some(Ok(_)) => {}
                                _ => break,
                            },
                            control = controls.recv() => match control {
                                Some(Control::Say(order)) => drop(socket.send(text_of(&session, &order)).await),
                                Some(Control::Forward(signed)) => {
                                    drop(socket.send(Message::text(serde_json::to_string(&signed).unwrap())).await);
                                }
                                Some(Control::Cut { refuse: now }) => { refuse = now; break }
                                None => return,
                            },
                        }
                    }
                }
            });
        });
        Coordinator { address: address.recv().unwrap(), control, heard, hellos: 0, signer, session: String::new() }
    }

    pub fn say(&self, order: ToAgent) {
        self.control.send(Control::Say(Box::new(order))).unwrap();
    }

    pub fn forward(&self, signed: Signed) {
        self.control.send(Control::Forward(Box::new(signed))).unwrap();
    }

    pub fn cut(&self, refuse: bool) {
        self.control.send(Control::Cut { refuse }).unwrap();
    }

    /// The next frame for which `wanted` has an answer; others are passed over.
    pub fn hear<T>(&mut self, what: &str, mut wanted: impl FnMut(&ToCoordinator) -> Option<T>) -> T {
        let until = Instant::now() + SOON;
        loop {
            match self.heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(frame) => {
                    if let ToCoordinator::Hello { session, .. } = &frame {
                        self.hellos += 1;
                        self.session.clone_from(session);
                    }
                    if let Some(found) = wanted(&frame) {
                        return found;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("did not hear {what} within {SOON:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("the coordinator ended before {what}"),
            }
        }
    }

    pub fn hello(&mut self) -> Vec<String> {
        self.hear("Hello", |frame| match frame {
            ToCoordinator::Hello { node, open, .. } => {
                assert_eq!(node, NODE);
                Some(open.iter().map(|open| open.injection.clone()).collect())
            }
            _ => None,
        })
    }

    /// Waits for this state; another terminal one fails the test.
    pub fn state(&mut self, injection: &str, wanted: InjectionState) -> InjectionReport {
        self.hear(&format!("{injection} {wanted:?}"), |frame| match frame {
            ToCoordinator::Changed { injection: name, state, report } if name == injection => {
                assert!(*state == wanted || !state.is_terminal(), "{injection} is {state:?}: {report:?}");
                (*state == wanted).then(|| report.clone())
            }
            _ => None,
        })
    }

    /// False: the agent died before it said Hello.
    pub fn hello_or_death(&mut self, agent: i32) -> bool {
        let until = Instant::now() + SOON;
        while Instant::now() < until {
            match self.heard.recv_timeout(Duration::from_millis(20)) {
                Ok(ToCoordinator::Hello { .. }) => return true,
                Ok(_) => {}
                Err(_) if pidfd::stat(agent).is_none_or(|(state, _)| state == 'Z') => return false,
                Err(_) => {}
            }
        }
        panic!("neither Hello nor death within {SOON:?}");
    }

    /// Says it once the injection is active; an agent that dies before never hears it.
    pub fn say_when_active(&mut self, order: ToAgent, wanted: &str, agent: i32) {
        let until = Instant::now() + SOON;
        while Instant::now() < until {
            match self.heard.recv_timeout(Duration::from_millis(20)) {
                Ok(ToCoordinator::Changed { injection, state: InjectionState::Active, .. }) if injection == wanted => {
                    return self.say(order);
                }
                Err(_) if pidfd::stat(agent).is_none_or(|(state, _)| state == 'Z') => return,
                Ok(_) | Err(_) => {}
            }
        }
        panic!("neither active nor dead within {SOON:?}");
    }

    pub fn checked(&mut self, order: Order) -> Checked {
        self.say(ToAgent::Check(order));
        self.hear("Checked", |frame| match frame {
            ToCoordinator::Checked(checked) => Some(checked.clone()),
            _ => None,
        })
    }

    pub fn inject(&mut self, order: &Order) -> InjectionReport {
        self.say(ToAgent::Inject(order.clone()));
        self.state(&order.injection, InjectionState::Active)
    }

    pub fn refused(&mut self, order: &Order) -> String {
        self.say(ToAgent::Inject(order.clone()));
        self.state(&order.injection, InjectionState::Refused).detail
    }

    pub fn revert(&mut self, injection: &str) {
        self.say(ToAgent::Revert { epoch: 1, injection: injection.to_owned() });
    }
}

impl Drop for World {
    /// A failed test shows what its agent said.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the agent's log:\n{}---", self.log());
        }
    }
}

/// A world of one agent: namespaces, a small tmpfs to fill, a coordinator.
pub struct World {
    pub coordinator: Coordinator,
    /// 64 MiB that may be filled.
    pub disk: tempfile::TempDir,
    pub home: tempfile::TempDir,
    pub environment: BTreeMap<String, String>,
    pub agent: Option<Reaped>,
}

impl World {
    /// None: cannot run here, and that was said.
    pub fn new(test: &str) -> Option<World> {
        if rig::not_root(test) {
            return None;
        }
        let disk = rig::own_tmpfs("64m");
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
        assert!(up.success(), "the namespace's own loopback cannot be set up");
        let home = tempfile::tempdir().unwrap();
        let coordinator = Coordinator::start(home.path());
        let mut world = World { coordinator, disk, home, environment: BTreeMap::new(), agent: None };
        world.policy("");
        Some(world)
    }

    /// With an agent that has said Hello and whose guard watches.
    pub fn with_agent(test: &str) -> Option<World> {
        let mut world = World::new(test)?;
        world.start_agent();
        Some(world)
    }

    pub fn state_dir(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// No test may touch the machine's own network, whatever goes wrong.
    pub fn policy(&mut self, more: &str) {
        use std::os::unix::fs::MetadataExt;
        // Of the test program's first thread, which never left it.
        let machine = std::fs::metadata(format!("/proc/{}/ns/net", std::process::id())).unwrap().ino();
        let text = format!("apiVersion: squall/v1\nkind: Policy\nnetworkNamespace: {{not: [{machine}]}}\n{more}");
        std::fs::write(self.home.path().join("policy.yaml"), text).unwrap();
    }

    pub fn command(&self) -> Command {
        // A release build can be measured too: SQUALLD_UNDER_TEST=target/release/squalld.
        let program = std::env::var_os("SQUALLD_UNDER_TEST").unwrap_or_else(|| env!("CARGO_BIN_EXE_squalld").into());
        let mut command = Command::new(program);
        command.arg("agent").arg("--coordinator").arg(format!("https://{}", self.coordinator.address));
        command.arg("--identity").arg(self.home.path().join("identity"));
        command.arg("--state-dir").arg(self.state_dir());
        command.arg("--policy").arg(self.home.path().join("policy.yaml"));
        let log = File::options().create(true).append(true).open(self.home.path().join("log")).unwrap();
        command.envs(&self.environment).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        rig::dying_with_us(&mut command);
        command
    }

    pub fn launch_agent(&mut self) {
        self.agent = Some(Reaped(self.command().spawn().unwrap()));
    }

    pub fn start_agent(&mut self) -> Vec<String> {
        self.launch_agent();
        let open = self.coordinator.hello();
        eventually("a guard", SOON, || !self.children("guard").is_empty());
        open
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    pub fn agent_pid(&self) -> i32 {
        self.agent.as_ref().expect("an agent").0.id() as i32
    }

    pub fn signal(&self, process: ProcessId, signal: Signal) {
        assert!(pidfd::runs(process), "the process to be signalled is gone");
        kill(Pid::from_raw(process.pid), signal).unwrap();
    }

    pub fn signal_agent(&self, signal: Signal) {
        kill(Pid::from_raw(self.agent_pid()), signal).unwrap();
    }

    /// True once it has ended by itself.
    pub fn agent_died(&mut self, within: Duration) -> bool {
        let agent = &mut self.agent.as_mut().expect("an agent").0;
        let until = Instant::now() + within;
        while Instant::now() < until {
            if agent.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// SIGKILL, and reaped.
    pub fn kill_agent(&mut self) {
        self.agent = None;
    }

    /// The agent's own children in this role, and nobody else's.
    pub fn children(&self, role: &str) -> Vec<ProcessId> {
        let pid = self.agent_pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let pids = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
        let in_role = |pid: &i32| {
            let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            arguments.split('\0').nth(1) == Some(role)
        };
        pids.filter(in_role).filter_map(pidfd::identify).filter(|process| pidfd::runs(*process)).collect()
    }

    pub fn disk_used(&self) -> u64 {
        let stat = nix::sys::statvfs::statvfs(self.disk.path()).unwrap();
        (stat.blocks() - stat.blocks_free()) * stat.fragment_size()
    }

    pub fn fill(&self, mebibytes: u64) -> Effect {
        Effect::HoldSpace(HoldSpace {
            path: self.disk.path().display().to_string(),
            amount: Amount::Bytes(Size(mebibytes << 20)),
            reserve: Size(1 << 20),
        })
    }

    /// Injections that the journal says are open.
    pub fn open(&self) -> Vec<String> {
        let (book, _) = journal::read(&self.state_dir()).unwrap();
        book.open().map(|intent| intent.injection.clone()).collect()
    }

    pub fn sweep(&self) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_squalld"));
        let output = command.arg("sweep").arg("--state-dir").arg(self.state_dir()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

pub fn burn() -> Effect {
    Effect::Hog(Hog::Cpu { workers: 1, load: Percent::new(5.0).unwrap() })
}

/// Freezes the one process with this command line (see `rig::sleeper`).
pub fn freeze(seconds: &str) -> Effect {
    let processes = ProcessSelector { command: Some(format!("*sleep {seconds}")), ..ProcessSelector::default() };
    Effect::Freeze(Freeze { processes })
}

pub fn is_frozen(process: ProcessId) -> bool {
    pidfd::stat(process.pid).is_some_and(|(state, start)| start == process.start && matches!(state, 't' | 'T'))
}

pub fn order(injection: &str, effects: Vec<Effect>) -> Order {
    Order {
        epoch: 1,
        run: injection.split('/').next().unwrap().to_owned(),
        injection: injection.to_owned(),
        fault: "any-fault".to_owned(),
        effects,
        duration_ms: 60_000,
        lease_ms: 60_000,
    }
}
