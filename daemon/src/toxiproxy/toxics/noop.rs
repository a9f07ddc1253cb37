//! `noop`: nothing.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Attributes, Stage};
use crate::toxiproxy::queue::Queue;

/// No settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noop {}

pub struct Nothing;

impl Stage for Nothing {
    fn pass(&mut self, from: &mut Queue, to: &mut Queue, _: Instant) -> Option<Instant> {
        from.pass_into(to);
        None
    }

    fn set(&mut self, _: &Attributes, _: Instant) {}
}
