//! `squall lever`: nothing new may start, until an operator says so.

use squall_experiments::api::Lever as State;
use squall_experiments::report::words;

use crate::args::{Global, Output};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::paint;

#[derive(clap::Args)]
pub struct Lever {
    #[command(subcommand)]
    act: Act,
}

#[derive(clap::Subcommand)]
enum Act {
    /// From now on no run is admitted; what runs, runs on (`squall halt --all` ends it)
    Engage,
    /// Runs are admitted again (operators only)
    Release,
    /// Whether it is engaged, and who moved it last
    Status,
}

impl Lever {
    pub async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let client = Client::of(global.access.as_deref())?;
        let nothing = serde_json::json!({});
        let state: State = match self.act {
            Act::Engage => client.post("/v1/lever/engage", &nothing).await?,
            Act::Release => client.post("/v1/lever/release", &nothing).await?,
            Act::Status => client.get("/v1/lever").await?,
        };
        if global.output == Output::Json {
            paint::json(&state);
            return Ok(Exit::Held);
        }
        let what = if state.engaged { "engaged: no run is admitted" } else { "released: runs are admitted" };
        let by = if state.by.is_empty() { String::new() } else { format!(" (by {})", words::printable(&state.by)) };
        paint::say(format!("the safety lever is {what}{by}"));
        Ok(Exit::Held)
    }
}
