//! What the agent has to say, kept until the coordinator has certainly heard it.
//!
//! The wire has no receipts, but frames arrive in order: a pong to a ping that was sent after a frame proves that the frame was read.
//! After a broken connection everything unproven is said again; receivers take a repeated state as what it is.

use std::cell::RefCell;
use std::collections::VecDeque;

use squall_experiments::wire::ToCoordinator;
use tokio::sync::Notify;

/// States kept while nobody listens. The oldest go first: what is still open is said by `Hello` anyway.
const MOST: usize = 4096;

#[derive(Default)]
pub struct Outbox {
    state: RefCell<State>,
    more: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<ToCoordinator>,
    /// Sent, with the number of the first ping after it (none yet: None).
    sent: VecDeque<(ToCoordinator, Option<u64>)>,
}

impl Outbox {
    pub fn say(&self, frame: ToCoordinator) {
        let mut state = self.state.borrow_mut();
        state.queue.push_back(frame);
        if state.queue.len() > MOST {
            state.queue.pop_front();
        }
        drop(state);
        self.more.notify_one();
    }

    /// The next frame to send; it counts as sent from now on.
    pub async fn next(&self) -> ToCoordinator {
        loop {
            if let Some(frame) = self.take() {
                return frame;
            }
            self.more.notified().await;
        }
    }

    fn take(&self) -> Option<ToCoordinator> {
        let mut state = self.state.borrow_mut();
        let frame = state.queue.pop_front()?;
        if matches!(frame, ToCoordinator::Changed { .. }) {
            state.sent.push_back((frame.clone(), None));
        }
        Some(frame)
    }

    pub fn is_empty(&self) -> bool {
        self.state.borrow().queue.is_empty()
    }

    /// True: a ping now would prove something.
    pub fn unproven(&self) -> bool {
        self.state.borrow().sent.iter().any(|(_, ping)| ping.is_none())
    }

    pub fn pinged(&self, number: u64) {
        for (_, ping) in self.state.borrow_mut().sent.iter_mut() {
            ping.get_or_insert(number);
        }
    }

    /// Injections whose terminal state has been heard by now.
    pub fn ponged(&self, number: u64) -> Vec<String> {
        let mut state = self.state.borrow_mut();
        let mut heard = Vec::new();
        while state.sent.front().is_some_and(|(_, ping)| ping.is_some_and(|ping| ping <= number)) {
            if let Some((ToCoordinator::Changed { injection, state, .. }, _)) = state.sent.pop_front()
                && state.is_terminal()
            {
                heard.push(injection);
            }
        }
        heard
    }

    /// The connection is gone: unproven states are to be said again, answers to its questions are not.
    pub fn broken(&self) {
        let mut state = self.state.borrow_mut();
        state.queue.retain(|frame| matches!(frame, ToCoordinator::Changed { .. }));
        while let Some((frame, _)) = state.sent.pop_back() {
            state.queue.push_front(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_experiments::run_event::{InjectionReport, InjectionState};

    fn changed(injection: &str, state: InjectionState) -> ToCoordinator {
        ToCoordinator::Changed { injection: injection.into(), state, report: InjectionReport::default() }
    }

    #[test]
    fn what_no_pong_has_proven_is_said_again_in_order_after_a_broken_connection() {
        let outbox = Outbox::default();
        let states = [InjectionState::Active, InjectionState::Reverted];
        states.iter().for_each(|state| outbox.say(changed("a", *state)));
        outbox.say(ToCoordinator::Counted { query: 1, count: 0, error: None });
        outbox.take().unwrap();
        outbox.pinged(1);
        outbox.take().unwrap();
        assert!(outbox.ponged(1).is_empty());
        outbox.broken();
        assert_eq!(outbox.take(), Some(changed("a", InjectionState::Reverted)));
        assert_eq!(outbox.take(), None);
        assert!(outbox.unproven());
        outbox.pinged(2);
        assert_eq!(outbox.ponged(2), ["a"]);
        outbox.broken();
        assert_eq!(outbox.take(), None);
    }
}
