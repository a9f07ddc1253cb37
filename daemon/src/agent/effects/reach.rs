//! Whether a peer can be reached, before and while a network effect is active: the measured half of its evidence.
//!
//! The questions are asked only where the effect's own rules would match them; an answer that proves nothing is not asked for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use squall_experiments::effect::{Connections, Flow, Protocol};

use super::tether::{Tether, Wake};
use crate::agent::kernel::boottime;
use crate::agent::kernel::echo::Echo;
use crate::agent::kernel::links;

/// More peers tell no more.
const MOST_PEERS: usize = 4;
/// Of the first round: it stands between the order and the effect.
const BEFORE: Duration = Duration::from_millis(20);

/// Echo requests to some of a flow's peers.
#[derive(Debug)]
pub struct Reach {
    echo: Echo,
    /// Those that answered before, with their round trip.
    pub before: BTreeMap<IpAddr, Duration>,
}

/// Of one peer while the effect is active.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answers {
    pub asked: usize,
    pub times: Vec<Duration>,
}

impl Reach {
    /// Asks once. None: no echo request can tell (no single peers, a flow of other packets, nobody answers).
    pub fn before(flow: &Flow, connections: Connections) -> Option<Reach> {
        let echo_matches = matches!(flow.protocol, None | Some(Protocol::Icmp))
            && flow.local_ports.is_empty()
            && flow.remote_ports.is_empty()
            && flow.interface.is_none()
            && connections != Connections::Established;
        if !echo_matches {
            return None;
        }
        let own: Vec<IpAddr> = links::all().ok()?.into_iter().flat_map(|link| link.addresses).collect();
        let peers: Vec<IpAddr> = flow
            .peers
            .iter()
            .filter(|peer| peer.is_host_address())
            .map(|peer| peer.first_address())
            .filter(|peer| !peer.is_loopback() && !own.contains(peer))
            .take(MOST_PEERS)
            .collect();
        if peers.is_empty() {
            return None;
        }
        let mut echo = Echo::open().ok()?;
        let before: BTreeMap<IpAddr, Duration> = echo
            .round(&peers, 1, BEFORE)
            .into_iter()
            .filter_map(|(peer, times)| Some((peer, *times.first()?)))
            .collect();
        (!before.is_empty()).then_some(Reach { echo, before })
    }

    /// Asks again, `times` times each, and listens for `patience` after the last; ends early on what the tether says.
    /// The tether's word, if it was not just time that passed, comes back too.
    pub fn during(
        &mut self,
        tether: &mut Tether,
        times: usize,
        patience: Duration,
        mut renewed: impl FnMut(u64),
    ) -> (BTreeMap<IpAddr, Answers>, bool) {
        let mut found: BTreeMap<IpAddr, Answers> = self.before.keys().map(|peer| (*peer, Answers::default())).collect();
        let mut until = Instant::now() + patience;
        let mut released = false;
        loop {
            let asked_all = found.values().all(|answers| answers.asked >= times);
            if !asked_all {
                for (peer, answers) in &mut found {
                    self.echo.ask(*peer);
                    answers.asked += 1;
                }
                until = Instant::now() + patience;
            }
            for (peer, time) in self.echo.answers() {
                found.entry(peer).or_default().times.push(time);
            }
            let complete = asked_all && found.values().all(|answers| answers.times.len() >= answers.asked);
            if complete || released || Instant::now() >= until {
                return (found, released);
            }
            let pause =
                if asked_all { until.saturating_duration_since(Instant::now()) } else { Duration::from_millis(1) };
            match tether.wait(Some(pause), asked_all.then(|| self.echo.as_fd())) {
                Wake::Release => released = true,
                Wake::Renewed { deadline_us } => renewed(deadline_us),
                Wake::Tick => {}
            }
        }
    }
}

/// Until a deadline on CLOCK_BOOTTIME.
pub fn life_until(deadline_us: u64) -> Duration {
    Duration::from_micros(deadline_us.saturating_sub(boottime::now_us()))
}

pub fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}
