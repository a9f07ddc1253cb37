//! UDP echo and a client that sends at a fixed pace, whatever comes back.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::Measured;

/// Bytes of one datagram: its number and a pattern that shows corruption.
const SIZE: usize = 64;

/// Answers for ever.
pub fn echo(address: SocketAddr) -> anyhow::Result<()> {
    answer(&UdpSocket::bind(address)?)
}

fn answer(socket: &UdpSocket) -> anyhow::Result<()> {
    let mut buffer = [0_u8; 2048];
    loop {
        // A peer's ICMP error (its client has ended) is reported here and concerns nobody.
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], peer);
        }
    }
}

/// Sends `count` datagrams, one each `every`, and waits up to `patience` for the last answers.
pub fn ping(address: SocketAddr, count: usize, every: Duration, patience: Duration) -> anyhow::Result<Measured> {
    let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(address)?;
    let receiver = socket.try_clone()?;
    let start = Instant::now();
    let mut sent_at = Vec::with_capacity(count);
    let mut answers: Vec<Option<u64>> = vec![None; count];
    let mut result = Measured { sent: count, ..Measured::default() };
    let (mut newest, mut last_answer) = (None, start);
    while sent_at.len() < count || start.elapsed() < every * count as u32 + patience {
        let due = start + every * sent_at.len() as u32;
        let now = Instant::now();
        if sent_at.len() < count && now >= due {
            let datagram = datagram(sent_at.len());
            sent_at.push(Instant::now());
            // A local filter may refuse (EPERM): it counts as lost.
            let _ = socket.send(&datagram);
            continue;
        }
        let wait = if sent_at.len() < count { due - now } else { Duration::from_millis(5) };
        receiver.set_read_timeout(Some(wait.max(Duration::from_micros(50))))?;
        let mut buffer = [0_u8; SIZE];
        let Ok(length) = receiver.recv(&mut buffer) else { continue };
        let at = Instant::now();
        result.longest_gap_us = result.longest_gap_us.max((at - last_answer).as_micros() as u64);
        last_answer = at;
        let number = u64::from_be_bytes(buffer[..8].try_into()?) as usize;
        if length != SIZE || number >= sent_at.len() || buffer != datagram(number) {
            result.corrupt += 1;
            continue;
        }
        if answers[number].is_some() {
            result.duplicates += 1;
            continue;
        }
        result.overtaken += usize::from(newest.is_some_and(|newest| number < newest));
        newest = newest.max(Some(number));
        answers[number] = Some((at - sent_at[number]).as_micros() as u64);
        if answers.iter().all(Option::is_some) {
            // Duplicates may still be on their way.
            std::thread::sleep(every.min(Duration::from_millis(5)));
            receiver.set_nonblocking(true)?;
            while receiver.recv(&mut buffer).is_ok() {
                result.duplicates += 1;
            }
            break;
        }
    }
    result.longest_gap_us = result.longest_gap_us.max(last_answer.elapsed().as_micros() as u64);
    result.round_trips_us = answers.into_iter().flatten().collect();
    Ok(result)
}

fn datagram(number: usize) -> [u8; SIZE] {
    let mut datagram = [number as u8 ^ 0x5a; SIZE];
    datagram[..8].copy_from_slice(&(number as u64).to_be_bytes());
    datagram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_datagram_comes_back_once_when_nothing_is_wrong() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        std::thread::spawn(move || answer(&server));
        let result = ping(address, 20, Duration::from_millis(1), Duration::from_millis(500)).unwrap();
        assert_eq!((result.answered(), result.lost(), result.duplicates, result.corrupt), (20, 0, 0, 0));
    }
}
