//! `squall schema`: for editors and checkers.

use squall_experiments::schema;

use crate::exit::{Exit, Failure};
use crate::paint;

pub fn run() -> Result<Exit, Failure> {
    paint::json(&schema::experiment());
    Ok(Exit::Held)
}
