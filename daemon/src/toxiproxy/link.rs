//! One direction of one connection: reads from one side, writes to the other, and lets the pipe say what and when.
//!
//! It waits for everything at once (data, room, time, other toxics, the end of the proxy) and for nothing alone, so a toxic can
//! come or go whatever the peers do.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::body::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::alarm::Alarm;
use super::budget::Share;
use super::chain::{Direction, Toxic};
use super::pipe::Pipe;
use super::queue::{Chunk, Ending};

/// Bytes read at once: large, as without a toxic a read and a write are all that a byte costs.
const READ: usize = 256 * 1024;
/// Reads and writes in a row before others have their turn.
const TURNS: usize = 16;

/// Bytes that a proxy's connections moved in one direction.
#[derive(Debug, Default)]
pub struct Counters {
    pub received: AtomicU64,
    pub sent: AtomicU64,
}

/// See the module.
pub struct Link<'a> {
    pub source: ReadHalf<'a>,
    pub dest: WriteHalf<'a>,
    pub pipe: Pipe,
    pub direction: Direction,
    pub toxics: watch::Receiver<Arc<Vec<Arc<Toxic>>>>,
    pub share: Share,
    pub counters: Arc<Counters>,
}

impl Link<'_> {
    /// Until the sender's end has arrived at the other side (then that side is told, and may go on to send).
    ///
    /// # Errors
    /// How the whole connection is to end now.
    pub async fn run(mut self) -> Result<(), Ending> {
        // Zeroed by the kernel when touched: a quiet connection costs next to nothing.
        let mut buffer = vec![0_u8; READ];
        let mut alarm = Alarm::default();
        self.take_toxics();
        loop {
            let deadline = self.pipe.advance(Instant::now());
            self.share.set(self.pipe.held());
            let writes = !self.pipe.outlet().is_empty();
            if !writes && let Some(end) = self.pipe.outlet().end() {
                return match end {
                    Ending::Eof => self.dest.shutdown().await.map_err(|_| Ending::Close),
                    Ending::Close | Ending::Reset => Err(end),
                };
            }
            let reads = self.pipe.wants_more() && self.share.has_room();
            tokio::select! {
                changed = self.toxics.changed() => match changed {
                    Ok(()) => self.take_toxics(),
                    // The proxy is gone.
                    Err(_) => return Err(Ending::Close),
                },
                ready = self.dest.writable(), if writes => {
                    ready.map_err(|_| Ending::Close)?;
                    self.write()?;
                }
                ready = self.source.readable(), if reads => {
                    if ready.is_ok() {
                        self.read(&mut buffer)?;
                    } else {
                        self.pipe.finish(Ending::Close);
                    }
                }
                () = alarm.wait(deadline) => {}
            }
        }
    }

    fn take_toxics(&mut self) {
        let all = self.toxics.borrow_and_update().clone();
        let ours: Vec<_> = all.iter().filter(|toxic| toxic.direction == self.direction).cloned().collect();
        self.pipe.set_toxics(&ours, Instant::now());
    }

    fn read(&mut self, buffer: &mut Vec<u8>) -> Result<(), Ending> {
        for _ in 0..TURNS {
            let read = match self.source.try_read(buffer) {
                Ok(0) => {
                    self.pipe.finish(Ending::Eof);
                    return Ok(());
                }
                Ok(read) => read,
                Err(error) if is_no_error(&error) => return Ok(()),
                Err(_) => {
                    // What came before still arrives.
                    self.pipe.finish(Ending::Close);
                    return Ok(());
                }
            };
            self.counters.received.fetch_add(read as u64, Ordering::Relaxed);
            // What was published before these bytes came holds for them.
            if self.toxics.has_changed().unwrap_or(false) {
                self.take_toxics();
            }
            let mut passed = 0;
            if self.pipe.is_clear() {
                passed = self.write_bytes(&buffer[..read])?;
            }
            if passed == read {
                continue;
            }
            let data = if passed == 0 && read > READ / 2 {
                // Mostly full: handed on as it is.
                let mut full = std::mem::replace(buffer, vec![0_u8; READ]);
                full.truncate(read);
                Bytes::from(full)
            } else {
                Bytes::copy_from_slice(&buffer[passed..read])
            };
            let now = Instant::now();
            self.pipe.push(Chunk { data, at: now });
            if !self.pipe.wants_more() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Ending> {
        for _ in 0..TURNS {
            // Each chunk by itself: a slicer's pieces are to arrive as pieces.
            let Some(chunk) = self.pipe.outlet().front() else { return Ok(()) };
            let data = chunk.data.clone();
            let written = self.write_bytes(&data)?;
            if written > 0 {
                self.pipe.outlet().pop_part(written);
            }
            if written < data.len() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// How many could be written now.
    fn write_bytes(&mut self, data: &[u8]) -> Result<usize, Ending> {
        match self.dest.try_write(data) {
            Ok(written) => {
                self.counters.sent.fetch_add(written as u64, Ordering::Relaxed);
                Ok(written)
            }
            Err(error) if is_no_error(&error) => Ok(0),
            Err(_) => Err(Ending::Close),
        }
    }
}

fn is_no_error(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
