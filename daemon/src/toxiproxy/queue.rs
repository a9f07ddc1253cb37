//! What waits between two toxics of a link.

use std::collections::VecDeque;
use std::time::Instant;

use axum::body::Bytes;

/// Bytes that wait before a toxic which does not need more to do its work.
pub const SMALL: usize = 256 * 1024;
/// Pieces that wait in one queue, however small: each costs memory of its own.
const PIECES: usize = 4096;

/// Bytes that came in together.
#[derive(Debug, Clone)]
pub struct Chunk {
    pub data: Bytes,
    /// When they came in, plus every delay that toxics gave them on their way: a delay never adds what a timer or a full
    /// queue took.
    pub at: Instant,
}

/// How a direction of a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Its sender is done; the other direction goes on.
    Eof,
    /// Both directions end, in order.
    Close,
    /// Both directions end with a reset.
    Reset,
}

/// A bounded queue of chunks, and the end behind them. The bound is asked, not enforced: [`Queue::has_room`].
#[derive(Debug)]
pub struct Queue {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    most: usize,
    end: Option<Ending>,
    /// Changes whenever the queue does.
    turns: u64,
}

impl Queue {
    pub fn new(most: usize) -> Self {
        Queue { chunks: VecDeque::new(), bytes: 0, most, end: None, turns: 0 }
    }

    pub fn has_room(&self) -> bool {
        self.bytes < self.most && self.chunks.len() < PIECES
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// Behind an end nothing comes any more.
    pub fn push(&mut self, chunk: Chunk) {
        if !chunk.data.is_empty() && self.end.is_none() {
            self.turns += 1;
            self.bytes += chunk.data.len();
            self.chunks.push_back(chunk);
        }
    }

    pub fn front(&self) -> Option<&Chunk> {
        self.chunks.front()
    }

    pub fn pop(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        self.turns += 1;
        self.bytes -= chunk.data.len();
        Some(chunk)
    }

    /// The first `most` bytes of the first chunk; the rest stays in front.
    pub fn pop_part(&mut self, most: usize) -> Option<Chunk> {
        let front = self.chunks.front_mut()?;
        if front.data.len() <= most {
            return self.pop();
        }
        self.turns += 1;
        self.bytes -= most;
        Some(Chunk { data: front.data.split_to(most), at: front.at })
    }

    /// The end behind the last chunk. The first one that is told holds.
    pub fn finish(&mut self, end: Ending) {
        if self.end.is_none() {
            self.turns += 1;
            self.end = Some(end);
        }
    }

    /// The end, once nothing is before it.
    pub fn end(&self) -> Option<Ending> {
        self.end.filter(|_| self.chunks.is_empty())
    }

    /// Whether an end was told, whatever is before it.
    pub fn is_finished(&self) -> bool {
        self.end.is_some()
    }

    /// Forgets what waits, but not the end.
    pub fn drop_chunks(&mut self) {
        if !self.chunks.is_empty() {
            self.turns += 1;
            self.bytes = 0;
            self.chunks.clear();
        }
    }

    /// Everything of this queue behind everything of `to`, whether there is room or not.
    pub fn empty_into(mut self, to: &mut Queue) {
        while let Some(chunk) = self.pop() {
            to.push(chunk);
        }
        if let Some(end) = self.end {
            to.finish(end);
        }
    }

    /// Everything that may pass at once: as far as there is room, and the end.
    pub fn pass_into(&mut self, to: &mut Queue) {
        while to.has_room() {
            let Some(chunk) = self.pop() else { break };
            to.push(chunk);
        }
        if let Some(end) = self.end() {
            to.finish(end);
        }
    }
}
