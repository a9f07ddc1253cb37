//! `squall rollback`: what runs of files in Chaos Toolkit's format left, because they were killed together with their guard.

use crate::chaos_toolkit;
use crate::exit::{Exit, Failure};

/// Plays what is left of all of them.
pub async fn run() -> Result<Exit, Failure> {
    chaos_toolkit::run::left().await
}
