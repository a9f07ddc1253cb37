//! Text → experiment, or every mistake in it.

use crate::experiment::Experiment;
use crate::mistake::{Mistake, Mistakes};

/// YAML or JSON (JSON is YAML). `file` is only for messages.
pub fn parse(file: &str, _text: &str) -> Result<Experiment, Mistakes> {
    let mistake =
        Mistake { line: 1, column: 1, pointer: String::new(), message: "not built yet".into(), hint: String::new() };
    Err(Mistakes { file: file.to_owned(), mistakes: vec![mistake] })
}
