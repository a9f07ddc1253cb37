//! `squall schema`: for editors and checkers.

use squall_experiments::schema;

use crate::exit::{Exit, Failure};
use crate::paint;

#[derive(clap::Args)]
pub struct Schema {
    /// Of which files
    #[arg(value_enum, default_value_t = Kind::Experiment, value_name = "KIND")]
    kind: Kind,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Kind {
    Experiment,
    Schedule,
    GameDay,
}

impl Schema {
    pub fn run(self) -> Result<Exit, Failure> {
        match self.kind {
            Kind::Experiment => paint::json(&schema::experiment()),
            Kind::GameDay => paint::json(schema::game_day()),
            Kind::Schedule => paint::json(schema::schedule()),
        }
        Ok(Exit::Held)
    }
}
