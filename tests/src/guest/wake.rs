//! Wakes a machine that sleeps, as a person at its power button does: by QEMU's monitor (`system_wakeup`).
//!
//! Not by the emulated clock's alarm, which may ring before the machine has fallen asleep: this asks until it is.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// The longest that a machine may take to fall asleep.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(250);

/// Returns once it is awake. `monitor` is the socket of QEMU's human monitor.
pub(super) fn after(time: Duration, monitor: &Path) -> anyhow::Result<()> {
    std::thread::sleep(time);
    let mut line = UnixStream::connect(monitor).context("QEMU's monitor")?;
    line.set_read_timeout(Some(PATIENCE))?;
    answer(&mut line)?;
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        line.write_all(b"system_wakeup\n")?;
        // The name of the command comes back, too.
        if !answer(&mut line)?.contains("Error") {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    bail!("it never fell asleep")
}

/// All up to the next prompt.
fn answer(line: &mut impl Read) -> anyhow::Result<String> {
    let mut said = Vec::new();
    let mut chunk = [0; 512];
    while !said.ends_with(b"(qemu) ") {
        match line.read(&mut chunk)? {
            0 => bail!("QEMU's monitor is gone"),
            count => said.extend_from_slice(&chunk[..count]),
        }
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_with_the_prompt_and_a_monitor_that_is_gone_is_an_error() {
        let mut said: &[u8] = b"system_wakeup\r\nError: Unable to wake up\r\n(qemu) ";
        assert!(answer(&mut said).unwrap().contains("Error"));
        assert!(answer(&mut said).is_err());
    }
}
