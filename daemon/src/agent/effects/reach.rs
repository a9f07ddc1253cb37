//! Whether a peer can be reached, before and while a network effect is active: the measured half of its evidence.
//!
//! A question is asked only where the effect's own rules match its packets; an answer that proves nothing is not asked for. Asking is
//! traffic too: on an idle link it is what the rules' counters count.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use squall_experiments::effect::{Connections, Direction, Flow, Protocol};

use super::tether::{Tether, Wake};
use crate::agent::kernel::boottime;
use crate::agent::kernel::echo::Echo;
use crate::agent::kernel::links;

/// More peers tell no more.
const MOST_PEERS: usize = 4;
/// Of the first round: it stands between the order and the effect.
const BEFORE: Duration = Duration::from_millis(20);

/// How a peer is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// ICMP echo.
    Echo,
    /// A TCP connection to this port, closed at once.
    Connect(u16),
}

/// Some of a flow's peers, and what they answered before the effect.
#[derive(Debug)]
pub struct Reach {
    pub question: Question,
    peers: Vec<IpAddr>,
    /// Of those that answered.
    pub before: BTreeMap<IpAddr, Duration>,
}

/// Of one peer while the effect is active.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answers {
    pub asked: usize,
    pub times: Vec<Duration>,
}

impl Reach {
    /// Asks each peer once. None: no question of ours would meet the flow's rules.
    pub fn before(flow: &Flow, connections: Connections) -> Option<Reach> {
        let question = question(flow, connections)?;
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
        let answers = ask(question, &peers, 1, BEFORE);
        let before = answers.into_iter().filter_map(|(peer, times)| Some((peer, *times.first()?))).collect();
        Some(Reach { question, peers, before })
    }

    /// Asks again, `times` times each, and listens for `patience` after the last, on a thread of its own while the tether is kept.
    /// None if the tether released before all was heard.
    pub fn during(
        &self,
        tether: &mut Tether,
        times: usize,
        patience: Duration,
        mut renewed: impl FnMut(u64),
    ) -> Option<BTreeMap<IpAddr, Answers>> {
        let (question, peers) = (self.question, self.peers.clone());
        let (heard, finished) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).ok()?;
        let thread = std::thread::spawn(move || {
            let answers = ask(question, &peers, times, patience);
            drop(finished);
            answers
        });
        loop {
            match tether.wait(None, Some(heard.as_fd())) {
                Wake::Release => return None,
                Wake::Renewed { deadline_us } => renewed(deadline_us),
                Wake::Tick => break,
            }
        }
        let answers = thread.join().ok()?;
        Some(answers.into_iter().map(|(peer, found)| (peer, Answers { asked: times, times: found })).collect())
    }
}

/// The one whose packets the flow's rules match.
fn question(flow: &Flow, connections: Connections) -> Option<Question> {
    if !flow.local_ports.is_empty() || flow.interface.is_some() || connections == Connections::Established {
        return None;
    }
    // An attempt of ours is an outgoing one: rules for new incoming connections do not meet it.
    if connections == Connections::New && flow.direction == Direction::From {
        return None;
    }
    match (flow.protocol, flow.remote_ports.first()) {
        (None | Some(Protocol::Icmp), None) => Some(Question::Echo),
        (None | Some(Protocol::Tcp), Some(port)) => Some(Question::Connect(*port)),
        _ => None,
    }
}

fn ask(question: Question, peers: &[IpAddr], times: usize, patience: Duration) -> BTreeMap<IpAddr, Vec<Duration>> {
    match question {
        Question::Echo => match Echo::open() {
            Ok(mut echo) => echo.round(peers, times, patience),
            Err(_) => BTreeMap::new(),
        },
        Question::Connect(port) => std::thread::scope(|scope| {
            let threads = peers.iter().map(|peer| {
                let connect = move || {
                    let start = Instant::now();
                    let connected = TcpStream::connect_timeout(&SocketAddr::new(*peer, port), patience).is_ok();
                    connected.then(|| start.elapsed())
                };
                (*peer, scope.spawn(move || (0..times).filter_map(|_| connect()).collect()))
            });
            let threads: Vec<_> = threads.collect();
            threads.into_iter().map(|(peer, thread)| (peer, thread.join().unwrap_or_default())).collect()
        }),
    }
}

/// Until a deadline on CLOCK_BOOTTIME.
pub fn life_until(deadline_us: u64) -> Duration {
    Duration::from_micros(deadline_us.saturating_sub(boottime::now_us()))
}

pub fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_questions_that_meet_the_rules_are_asked() {
        let flow = Flow::default();
        assert_eq!(question(&flow, Connections::All), Some(Question::Echo));
        assert_eq!(question(&flow, Connections::Established), None);
        let web = Flow { remote_ports: vec![80, 443], ..Flow::default() };
        assert_eq!(question(&web, Connections::All), Some(Question::Connect(80)));
        let dns = Flow { remote_ports: vec![53], protocol: Some(Protocol::Udp), ..Flow::default() };
        assert_eq!(question(&dns, Connections::All), None);
        let server = Flow { local_ports: vec![80], ..Flow::default() };
        assert_eq!(question(&server, Connections::All), None);
    }
}
