//! The toxics of one direction of one connection in a row, with queues between them. Pure: data and time are handed in.
//!
//! Toxics come, change and go while data is in the queues. Nothing waits for that: a toxic that goes hands what waits before it
//! to the next, in order.

use std::sync::Arc;
use std::time::Instant;

use super::chain::{Luck, Toxic};
use super::queue::{Chunk, Ending, Queue, SMALL};
use super::toxics::Stage;

struct Place {
    toxic: Arc<Toxic>,
    stage: Box<dyn Stage>,
    inlet: Queue,
}

/// See the module.
pub struct Pipe {
    places: Vec<Place>,
    outlet: Queue,
    luck: Luck,
}

impl Pipe {
    pub fn new(luck: Luck) -> Self {
        Pipe { places: Vec::new(), outlet: Queue::new(SMALL), luck }
    }

    /// These toxics from `now` on, in this order. Each hits the connection or does not, by its toxicity and this connection's
    /// luck with it; one that does not hit is not there at all.
    pub fn set_toxics(&mut self, toxics: &[Arc<Toxic>], now: Instant) {
        let hits = |toxic: &Toxic| self.luck.with(toxic) < toxic.toxicity;
        let wanted: Vec<&Arc<Toxic>> = toxics.iter().filter(|toxic| hits(toxic)).collect();
        for index in (0..self.places.len()).rev() {
            if !wanted.iter().any(|toxic| toxic.id == self.places[index].toxic.id) {
                let gone = self.places.remove(index);
                let next = self.places.get_mut(index).map_or(&mut self.outlet, |place| &mut place.inlet);
                if let Some(end) = gone.stage.on_removal() {
                    next.finish(end);
                }
                gone.inlet.empty_into(next);
            }
        }
        for (index, toxic) in wanted.into_iter().enumerate() {
            match self.places.get_mut(index) {
                Some(place) if place.toxic.id == toxic.id => {
                    if !Arc::ptr_eq(&place.toxic, toxic) {
                        place.stage.set(&toxic.attributes, now);
                        place.toxic = toxic.clone();
                    }
                }
                _ => {
                    let stage = toxic.attributes.stage(self.luck.dice(toxic), now);
                    let inlet = Queue::new(stage.room());
                    self.places.insert(index, Place { toxic: toxic.clone(), stage, inlet });
                }
            }
        }
    }

    fn inlet(&mut self) -> &mut Queue {
        self.places.first_mut().map_or(&mut self.outlet, |place| &mut place.inlet)
    }

    /// True if no toxic is at work and nothing waits: data may go past it.
    pub fn is_clear(&self) -> bool {
        self.places.is_empty() && self.outlet.is_empty()
    }

    pub fn push(&mut self, chunk: Chunk) {
        self.inlet().push(chunk);
    }

    /// The sender's end, behind all that was pushed.
    pub fn finish(&mut self, end: Ending) {
        self.inlet().finish(end);
    }

    /// Whether more of the sender is wanted now.
    pub fn wants_more(&mut self) -> bool {
        let inlet = self.inlet();
        inlet.has_room() && !inlet.is_finished()
    }

    /// Bytes that wait anywhere in it.
    pub fn held(&self) -> usize {
        self.outlet.bytes() + self.places.iter().map(|place| place.inlet.bytes()).sum::<usize>()
    }

    /// What is to be written next.
    pub fn outlet(&mut self) -> &mut Queue {
        &mut self.outlet
    }

    /// Moves everything that may move by `now`. Returns when there will be more, if time is all that is waited for.
    pub fn advance(&mut self, now: Instant) -> Option<Instant> {
        loop {
            let before = self.turns();
            let mut next: Option<Instant> = None;
            for index in 0..self.places.len() {
                let (places, rest) = self.places.split_at_mut(index + 1);
                let to = rest.first_mut().map_or(&mut self.outlet, |place| &mut place.inlet);
                let Some(Place { stage, inlet, .. }) = places.last_mut() else { break };
                let again = stage.pass(inlet, to, now);
                next = match (next, again) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
            // Room that a later toxic made lets an earlier one go on.
            if self.turns() == before {
                return next;
            }
        }
    }

    fn turns(&self) -> u64 {
        self.places.iter().fold(self.outlet.turns(), |sum, place| sum.wrapping_add(place.inlet.turns()))
    }
}

#[cfg(test)]
#[path = "pipe_tests.rs"]
mod tests;
