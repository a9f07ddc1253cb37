//! An SSH-like session: a server that bears sshd's name, and a client that exchanges a line every so often and notes every gap.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Measured, tcp, word_for};

/// A process named sshd that listens and answers.
pub fn serve(address: SocketAddr) -> anyhow::Result<()> {
    // SAFETY: a pointer to a text with its end; prctl(2) copies it.
    let named = unsafe { libc::prctl(libc::PR_SET_NAME, c"sshd".as_ptr()) };
    nix::errno::Errno::result(named)?;
    tcp::echo(address)
}

/// Exchanges a line each `every` over one connection until standard input ends, then says what it saw.
/// A line that is not answered within `timeout` ends the session: that is a person locked out.
pub fn client(address: SocketAddr, every: Duration, timeout: Duration) -> Measured {
    static END: AtomicBool = AtomicBool::new(false);
    std::thread::spawn(|| {
        let mut text = String::new();
        while std::io::stdin().read_line(&mut text).is_ok_and(|length| length > 0) {}
        END.store(true, Ordering::Relaxed);
    });
    let mut result = Measured::default();
    let talk = |result: &mut Measured| -> std::io::Result<()> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        let mut last = Instant::now();
        println!("connected");
        while !END.load(Ordering::Relaxed) {
            let start = Instant::now();
            result.sent += 1;
            let line = format!("line {}\n", result.sent);
            writer.write_all(line.as_bytes())?;
            let mut back = String::new();
            if reader.read_line(&mut back)? == 0 {
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
            result.corrupt += usize::from(back != line);
            result.round_trips_us.push(start.elapsed().as_micros() as u64);
            result.longest_gap_us = result.longest_gap_us.max(last.elapsed().as_micros() as u64);
            last = Instant::now();
            std::thread::sleep(every.saturating_sub(start.elapsed()));
        }
        Ok(())
    };
    result.error = talk(&mut result).err().map(|error| word_for(&error));
    result
}
