//! One effect held in a host of the lab, by the real holder, without an agent: for tests that measure one effect where it bites.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdout, Stdio};
use std::time::Duration;

use squall_experiments::effect::Effect;
use squall_experiments::run_event::Evidence;
use squalld::agent::effects::Hold;
use squalld::agent::effects::tether::{FromHolder, Outcome, ToHolder};
use squalld::agent::facts::network;
use squalld::agent::kernel::boottime;

use crate::lab::{Host, Running, programs};

/// A holder whose effect is active. Dropped: killed, as by SIGKILL.
pub struct Holding {
    pub running: Running,
    /// What it said with `Active`.
    pub evidence: Vec<Evidence>,
    output: BufReader<ChildStdout>,
}

/// The name of the table of every effect held here: one host holds one at a time.
pub const TABLE: &str = "squall-0123456789ab";

impl Holding {
    /// Panics with the holder's words if the effect cannot be applied.
    pub fn start(host: &Host, hold: Hold, life: Duration) -> Holding {
        Holding::try_start(host, hold, life).unwrap_or_else(|why| panic!("{}: {why}", host.name()))
    }

    pub fn try_start(host: &Host, hold: Hold, life: Duration) -> Result<Holding, String> {
        let mut command = host.command(programs::program("squalld"));
        let mut running = host.start(command.arg("holder").stdin(Stdio::piped()).stdout(Stdio::piped()));
        let output = BufReader::new(running.child().stdout.take().expect("piped"));
        let mut holding = Holding { running, evidence: Vec::new(), output };
        let FromHolder::Ready = holding.hear() else { return Err("not ready".into()) };
        holding.say(&ToHolder::Go { hold: Box::new(hold), deadline_us: deadline(life) });
        match holding.hear() {
            FromHolder::Active { evidence } => {
                holding.evidence = evidence;
                Ok(holding)
            }
            FromHolder::Failed { why } => Err(why),
            other => Err(format!("{other:?}")),
        }
    }

    pub fn renew(&mut self, life: Duration) {
        self.say(&ToHolder::Renew { deadline_us: deadline(life) });
    }

    /// Ends it as an agent does.
    pub fn release(mut self) -> Outcome {
        self.say(&ToHolder::Release);
        self.outcome()
    }

    /// Waits for its own end.
    pub fn outcome(&mut self) -> Outcome {
        match self.hear() {
            FromHolder::Released { outcome } => outcome,
            other => panic!("instead of an outcome: {other:?}"),
        }
    }

    fn say(&mut self, order: &ToHolder) {
        let mut line = serde_json::to_vec(order).expect("plain data");
        line.push(b'\n');
        let input = self.running.child().stdin.as_mut().expect("piped");
        input.write_all(&line).expect("the holder reads its orders");
    }

    fn hear(&mut self) -> FromHolder {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the holder's output is readable");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the holder ended without a word ({line:?})"))
    }
}

fn deadline(life: Duration) -> u64 {
    boottime::now_us() + life.as_micros() as u64
}

/// The hold of a network effect as an agent's `prepare` resolves it, on a host that has no coordinator.
pub fn resolved(effect: &Effect, coordinator: Option<std::net::SocketAddr>) -> Hold {
    let table = TABLE.to_owned();
    match effect.clone() {
        Effect::PacketFilter(filter) => {
            let spared = squalld::agent::spared::resolve(&filter.flow, coordinator);
            Hold::PacketFilter { table, filter, spared, nowhere: network::queue_kind(), inside: None }
        }
        Effect::PacketDelay(delay) => {
            let spared = squalld::agent::spared::resolve(&delay.flow, coordinator);
            let kind = network::queue_kind();
            Hold::PacketDelay { table, delay, spared, queue: 2000, kind, interfaces: Vec::new(), inside: None }
        }
        other => panic!("{} is no network effect", other.name()),
    }
}
