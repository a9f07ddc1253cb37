//! TCP echo, a client that keeps one connection, and one that only tries to connect.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::{Measured, word_for};

/// Answers every connection for ever, byte for byte.
pub fn echo(address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)?;
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        std::thread::spawn(move || answer(stream));
    }
    Ok(())
}

fn answer(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut buffer = vec![0_u8; 64 * 1024];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// `count` round trips of `size` bytes, one each `every`, over one connection. Ends at the first that fails.
pub fn ping(address: SocketAddr, count: usize, every: Duration, size: usize, timeout: Duration) -> Measured {
    let mut result = Measured { sent: count, ..Measured::default() };
    let talk = |result: &mut Measured| -> std::io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        let (message, mut back) = (vec![0x61_u8; size], vec![0_u8; size]);
        for _ in 0..count {
            let start = Instant::now();
            stream.write_all(&message)?;
            stream.read_exact(&mut back)?;
            result.round_trips_us.push(start.elapsed().as_micros() as u64);
            std::thread::sleep(every.saturating_sub(start.elapsed()));
        }
        Ok(())
    };
    result.error = talk(&mut result).err().map(|error| word_for(&error));
    result.longest_gap_us = result.round_trips_us.iter().copied().max().unwrap_or(0);
    result
}

/// Tries once to connect: the time it took, or why not.
pub fn connect(address: SocketAddr, timeout: Duration) -> Measured {
    let start = Instant::now();
    let tried = TcpStream::connect_timeout(&address, timeout);
    let us = start.elapsed().as_micros() as u64;
    match tried {
        Ok(_) => Measured { sent: 1, round_trips_us: vec![us], ..Measured::default() },
        Err(error) => Measured { sent: 1, error: Some(word_for(&error)), ..Measured::default() },
    }
}

/// Forwards every connection to `to`, each byte held back for `delay` in each direction: what a plain relay does instead of a packet queue.
pub fn relay(address: SocketAddr, to: SocketAddr, delay: Duration) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)?;
    for client in listener.incoming() {
        let (Ok(client), Ok(server)) = (client, TcpStream::connect(to)) else { continue };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (Ok(client2), Ok(server2)) = (client.try_clone(), server.try_clone()) else { continue };
        std::thread::spawn(move || pump(client, server, delay));
        std::thread::spawn(move || pump(server2, client2, delay));
    }
    Ok(())
}

fn pump(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    // Bounded: a relay that took everything in would hide the receiver's window.
    let (send, receive) = std::sync::mpsc::sync_channel::<(Instant, Vec<u8>)>(1024);
    let writer = std::thread::spawn(move || {
        for (due, bytes) in receive {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    let mut buffer = vec![0_u8; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if send.send((Instant::now() + delay, buffer[..length].to_vec())).is_err() {
            break;
        }
    }
    drop(send);
    let _ = writer.join();
}
