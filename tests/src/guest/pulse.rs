//! Tells time in which a whole machine did nothing from time in which one program of it was slow.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two beats.
const BEAT: Duration = Duration::from_millis(20);

/// A thread that beats. Its longest pause is time in which a processor, or the clocks, stood still: an emulator that got none, for instance.
pub struct Pulse {
    longest_us: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pulse {
    /// Returns after its first beat.
    pub fn start() -> Pulse {
        let (longest_us, ends) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (longest, end) = (longest_us.clone(), ends.clone());
        let (beats, first) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut last = Instant::now();
            let _ = beats.send(());
            while !end.load(Ordering::Relaxed) {
                std::thread::sleep(BEAT);
                let now = Instant::now();
                let pause = now.duration_since(last).saturating_sub(BEAT);
                longest.fetch_max(pause.as_micros() as u64, Ordering::Relaxed);
                last = now;
            }
        });
        let _ = first.recv();
        Pulse { longest_us, ends, thread: Some(thread) }
    }

    /// The longest pause until now, on CLOCK_MONOTONIC: a suspend is none.
    pub fn longest_pause(&self) -> Duration {
        Duration::from_micros(self.longest_us.load(Ordering::Relaxed))
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
