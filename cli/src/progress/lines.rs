//! Plain lines with the time since the start: for pipes and logs.

use squall_experiments::report::words;
use squall_experiments::run_event::{Event, RunEvent};

use super::Progress;
use super::board::Board;
use crate::paint;

/// Samples are summed up at most this often.
const SUM_UP_US: u64 = 1_000_000;

#[derive(Default)]
pub struct Lines {
    board: Board,
    summed_up_us: u64,
}

impl Lines {
    fn line(&self, at_us: u64, text: &str) {
        paint::say(format!("{:>10}  {}", words::moment(at_us), words::printable(text).replace('\n', " ")));
    }

    fn is_counted(&self) -> bool {
        self.board.probes.iter().any(|tally| tally.total() > 0)
    }

    fn sum_up(&mut self, at_us: u64) {
        let sampled = self.board.probes.iter().filter(|tally| tally.total() > 0);
        let sums: Vec<String> = sampled.map(|tally| format!("{}: {}", tally.name, tally.counts())).collect();
        if !sums.is_empty() {
            self.line(at_us, &sums.join("; "));
        }
        self.summed_up_us = at_us;
        self.board.clear();
    }
}

impl Progress for Lines {
    fn event(&mut self, event: &RunEvent) {
        let news = self.board.is_news(&event.event);
        if !news {
            self.board.take(event);
        }
        // Counts are of one phase: what is left of them is said before the next.
        let boundary = matches!(event.event, Event::Phase { .. } | Event::Finished { .. });
        if boundary || (self.is_counted() && event.at_us >= self.summed_up_us + SUM_UP_US) {
            self.sum_up(event.at_us);
        }
        if news {
            self.board.take(event);
            self.line(event.at_us, &words::event(&event.event));
        }
    }

    fn say(&mut self, text: &str) {
        self.line(self.board.at_us, text);
    }
}
