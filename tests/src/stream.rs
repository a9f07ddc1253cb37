//! A continuous stream of datagrams to an echo server, from a host of the lab, watched while something happens to it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::lab::Host;
use crate::pair::in_network_of;

/// One datagram: when it was sent, and when its answer came.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    pub at: Instant,
    pub answered: Option<Instant>,
}

/// Goes on until it is ended or dropped.
pub struct Stream {
    log: Arc<Mutex<Vec<Sent>>>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Stream {
    /// From `host` to an echo server, a datagram each `every`. The socket is the host's, the threads are this process's.
    pub fn start(host: &Host, to: SocketAddr, every: Duration) -> Stream {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = in_network_of(host, || {
            let socket = UdpSocket::bind(any)?;
            socket.connect(to)?;
            Ok::<_, std::io::Error>(socket)
        });
        let socket = Arc::new(socket.expect("a socket in the host's network"));
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a time-out can be set");
        let (log, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let sender = {
            let (socket, log, over) = (socket.clone(), log.clone(), over.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let number = {
                        let mut log = locked(&log);
                        log.push(Sent { at: Instant::now(), answered: None });
                        log.len() as u64 - 1
                    };
                    // What a filter refuses has no answer.
                    let _ = socket.send(&number.to_be_bytes());
                    std::thread::sleep(every);
                }
            })
        };
        let receiver = {
            let (log, over) = (log.clone(), over.clone());
            std::thread::spawn(move || {
                let mut number = [0_u8; 8];
                while !over.load(Ordering::Relaxed) {
                    if socket.recv(&mut number).is_ok_and(|length| length == 8) {
                        let now = Instant::now();
                        if let Some(sent) = locked(&log).get_mut(u64::from_be_bytes(number) as usize) {
                            sent.answered.get_or_insert(now);
                        }
                    }
                }
            })
        };
        Stream { log, over, threads: vec![sender, receiver] }
    }

    /// When the first answer came to a datagram that was sent after `since`, if it took no longer than `within`.
    pub fn first_answer(&self, since: Instant, within: Duration) -> Option<Instant> {
        let log = locked(&self.log);
        let answers = log.iter().filter(|sent| sent.at > since).filter_map(|sent| Some((sent.at, sent.answered?)));
        answers.filter(|(at, answered)| *answered - *at <= within).map(|(_, answered)| answered).min()
    }

    /// Stops sending, gives the last answers their time, and says what there was.
    pub fn end(mut self) -> Vec<Sent> {
        // The last ones are not waited for one by one: a datagram that is still under way now is left out.
        let last = Instant::now();
        std::thread::sleep(Duration::from_millis(500));
        self.stop();
        locked(&self.log).iter().filter(|sent| sent.at < last).copied().collect()
    }

    fn stop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop();
    }
}

fn locked(log: &Mutex<Vec<Sent>>) -> MutexGuard<'_, Vec<Sent>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}
