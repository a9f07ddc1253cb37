//! What became of the requests of a load over time: an HDR histogram for each stretch of it, and never too many of them.

use std::time::Duration;

use hdrhistogram::Histogram;
use squall_experiments::load_window::{LoadWindow, Percentiles};

/// At most; then each two become one that is twice as long. So a plot has between half of this and all of it, whatever the load lasts.
const MOST: usize = 120;
/// At first.
const LASTS: Duration = Duration::from_millis(500);

struct Window {
    due: u64,
    not_sent: u64,
    good: u64,
    failed: u64,
    /// Microseconds. Two digits: a hundredth is finer than any plot.
    latency: Histogram<u32>,
}

impl Window {
    fn new() -> anyhow::Result<Window> {
        let latency = Histogram::new_with_bounds(1, 3_600_000_000, 2)?;
        Ok(Window { due: 0, not_sent: 0, good: 0, failed: 0, latency })
    }

    fn add(&mut self, other: &Window) {
        self.due += other.due;
        self.not_sent += other.not_sent;
        self.good += other.good;
        self.failed += other.failed;
        // Of the same bounds: it always fits.
        let _ = self.latency.add(&other.latency);
    }

    fn percentiles(&self) -> Option<Percentiles> {
        let at = |share| self.latency.value_at_quantile(share);
        (!self.latency.is_empty()).then(|| Percentiles {
            p50_us: at(0.5),
            p95_us: at(0.95),
            p99_us: at(0.99),
            max_us: self.latency.max(),
        })
    }
}

/// Every request is booked where it was due, whenever its answer comes.
pub struct Windows {
    lasts: Duration,
    windows: Vec<Window>,
}

impl Windows {
    pub fn new() -> Windows {
        Windows { lasts: LASTS, windows: Vec::new() }
    }

    /// A request was due so long after the start of the load.
    pub fn due(&mut self, at: Duration, sent: bool) {
        let Some(window) = self.at(at) else { return };
        window.due += 1;
        window.not_sent += u64::from(!sent);
    }

    /// The request that was due then has its answer, its error or its time-out.
    pub fn answered(&mut self, due: Duration, took: Duration, good: bool) {
        let Some(window) = self.at(due) else { return };
        window.good += u64::from(good);
        window.failed += u64::from(!good);
        window.latency.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    /// None: no memory could be laid out for it.
    fn at(&mut self, at: Duration) -> Option<&mut Window> {
        let place = |lasts: Duration| (at.as_micros() / lasts.as_micros()) as usize;
        while place(self.lasts) >= MOST {
            self.halve();
        }
        let place = place(self.lasts);
        while self.windows.len() <= place {
            self.windows.push(Window::new().ok()?);
        }
        self.windows.get_mut(place)
    }

    fn halve(&mut self) {
        self.lasts *= 2;
        let mut old = std::mem::take(&mut self.windows).into_iter();
        while let Some(mut first) = old.next() {
            if let Some(second) = old.next() {
                first.add(&second);
            }
            self.windows.push(first);
        }
    }

    /// All of them, of a load that lasted so long.
    pub fn told(&self, whole: Duration) -> Vec<LoadWindow> {
        let (lasts_ms, whole_ms) = (self.lasts.as_millis() as u64, whole.as_millis() as u64);
        let told = self.windows.iter().zip(0_u64..).map(|(window, place)| {
            let from_ms = place * lasts_ms;
            LoadWindow {
                from_ms,
                lasts_ms: lasts_ms.min(whole_ms.saturating_sub(from_ms)),
                due: window.due,
                not_sent: window.not_sent,
                good: window.good,
                failed: window.failed,
                latency: window.percentiles(),
            }
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn an_answer_is_booked_where_its_request_was_due_with_its_whole_wait() {
        let mut windows = Windows::new();
        for at in [100, 200, 700] {
            windows.due(ms(at), at != 200);
        }
        windows.answered(ms(100), ms(2_000), true);
        windows.answered(ms(700), ms(30), false);
        let told = windows.told(ms(900));
        assert_eq!(told.len(), 2);
        assert_eq!((told[0].due, told[0].not_sent, told[0].good, told[0].failed), (2, 1, 1, 0));
        assert_eq!((told[1].due, told[1].good, told[1].failed, told[1].from_ms, told[1].lasts_ms), (1, 0, 1, 500, 400));
        let p99 = told[0].latency.unwrap().p99_us;
        assert!((1_980_000..=2_020_000).contains(&p99), "{p99}");
    }

    #[test]
    fn a_long_load_has_longer_windows_and_loses_no_request() {
        let mut windows = Windows::new();
        for second in 0..3600 {
            windows.due(ms(second * 1000), true);
            windows.answered(ms(second * 1000), ms(second + 1), true);
        }
        let told = windows.told(ms(3_600_000));
        assert!((MOST / 2..=MOST).contains(&told.len()), "{}", told.len());
        assert_eq!(told.iter().map(|window| window.good).sum::<u64>(), 3600);
        assert!(told.windows(2).all(|pair| pair[0].from_ms + pair[0].lasts_ms == pair[1].from_ms), "side by side");
        // The latency rises with time: what was measured at first is not mixed with what was measured last.
        let p50 = |window: &LoadWindow| window.latency.unwrap().p50_us;
        assert!(told.windows(2).all(|pair| p50(&pair[0]) < p50(&pair[1])));
        let last = told.last().unwrap().latency.unwrap().max_us;
        assert!((3_564_000..=3_636_000).contains(&last), "{last}");
    }

    #[test]
    fn a_stretch_in_which_nothing_is_due_has_no_latency() {
        let mut windows = Windows::new();
        windows.due(ms(1_600), true);
        let told = windows.told(ms(2_000));
        assert_eq!((told.len(), told[0].due, told[0].latency, told[3].due), (4, 0, None, 1));
    }
}
