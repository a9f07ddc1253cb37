//! The live display: what happened scrolls above, what is stands below.

use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use squall_experiments::probe::Phase;
use squall_experiments::report::words;
use squall_experiments::run_event::{Event, InjectionState, RunEvent};

use super::Progress;
use super::board::Board;
use super::quiet_keys::QuietKeys;
use crate::paint;

pub struct Live {
    board: Board,
    /// When the latest event was heard, so that time goes on between events.
    heard: Instant,
    display: MultiProgress,
    head: ProgressBar,
    probes: Vec<ProgressBar>,
    injections: Vec<ProgressBar>,
    keys: Option<QuietKeys>,
}

impl Live {
    pub fn new() -> Self {
        let display = MultiProgress::new();
        let style =
            ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        let head = display.add(ProgressBar::new_spinner().with_style(style.tick_strings(&["|", "/", "-", "\\", " "])));
        Live {
            board: Board::default(),
            heard: Instant::now(),
            display,
            head,
            probes: vec![],
            injections: vec![],
            keys: QuietKeys::new(),
        }
    }

    fn draw(&mut self) {
        let now_us = self.board.at_us + self.heard.elapsed().as_micros() as u64;
        let seconds = now_us / 1_000_000;
        let phase = match self.board.phase {
            None => "preparing",
            Some(Phase::Before) => "before: is the steady state there?",
            Some(Phase::During) => "during",
            Some(Phase::After) => "after: is the system whole again?",
        };
        let mut head = format!("{:>2}:{:02}  {phase}", seconds / 60, seconds % 60);
        if let Some((step, name, start_us, length_us)) = &self.board.step {
            head += &format!("  step {} of {}, {name}", step + 1, self.board.steps);
            let left = (start_us + length_us).saturating_sub(now_us).div_ceil(1_000_000);
            if *length_us > 0 {
                head += &format!(", {} left", words::time(left * 1_000_000));
            }
        }
        self.head.set_message(paint::painted(paint::BOLD, &words::printable(&head)));
        self.head.tick();

        let width = self.board.probes.iter().map(|tally| tally.name.chars().count()).max().unwrap_or(0);
        let probes = self.board.probes.iter().map(|tally| {
            let style = if tally.bad > 0 { paint::WRONG } else { paint::GOOD };
            let sign = if tally.bad > 0 {
                "x"
            } else if tally.total() > 0 {
                "."
            } else {
                " "
            };
            let counts = words::printable(&tally.counts());
            format!("  {} {:<width$}  {counts}", paint::painted(style, sign), words::printable(&tally.name))
        });
        show(&self.display, &mut self.probes, probes.collect());
        let open = self.board.injections.iter().filter(|(.., state)| !state.is_clean());
        let injections = open.map(|(name, node, state)| {
            let style = if *state == InjectionState::RevertUnconfirmed { paint::WRONG } else { paint::WARN };
            let state = paint::painted(style, words::state(Some(*state)));
            format!("  ! {} on {}  {state}", words::printable(name), words::printable(node))
        });
        show(&self.display, &mut self.injections, injections.collect());
    }
}

/// As many lines as there are, each with its text.
fn show(display: &MultiProgress, bars: &mut Vec<ProgressBar>, lines: Vec<String>) {
    while bars.len() > lines.len() {
        if let Some(bar) = bars.pop() {
            bar.finish_and_clear();
            display.remove(&bar);
        }
    }
    while bars.len() < lines.len() {
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        bars.push(display.add(ProgressBar::new_spinner().with_style(style)));
    }
    for (bar, line) in bars.iter().zip(lines) {
        bar.set_message(line);
        bar.tick();
    }
}

impl Progress for Live {
    fn event(&mut self, event: &RunEvent) {
        let news = self.board.is_news(&event.event);
        self.board.take(event);
        self.heard = Instant::now();
        if news {
            let style = match &event.event {
                Event::Alert { .. } | Event::Breach { .. } | Event::Aborted { .. } => paint::WRONG,
                Event::AgentLost { .. } => paint::WRONG,
                Event::Changed { state: InjectionState::Active, .. } => paint::WARN,
                Event::Changed { state, .. } if state.is_clean() => paint::GOOD,
                Event::Phase { .. } => paint::BOLD,
                _ => paint::QUIET,
            };
            self.say(&format!(
                "{:>10}  {}",
                words::moment(event.at_us),
                paint::painted(style, &words::printable(&words::event(&event.event)).replace('\n', " "))
            ));
        }
    }

    fn say(&mut self, text: &str) {
        let _ = self.display.println(text);
    }

    fn tick(&mut self) {
        self.draw();
    }

    fn close(&mut self) {
        self.keys = None;
        let _ = self.display.clear();
        self.head.disable_steady_tick();
        // A last redraw of a display that is gone would leave half a line.
        self.display.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.close();
    }
}
