//! `squall clear`: a person has seen that the hosts of a dirty run are clean.

use squall_experiments::api::RunSummary;
use squall_experiments::report::words;

use crate::args::{Global, Output};
use crate::client::{Client, escaped};
use crate::exit::{Exit, Failure};
use crate::paint;

#[derive(clap::Args)]
pub struct Clear {
    /// Id of the run, its beginning or end, or `last`
    #[arg(value_name = "RUN")]
    run: String,
}

impl Clear {
    pub async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let client = Client::of(global.access.as_deref())?;
        let run = super::watch::find(&client, &self.run).await?.run;
        let path = format!("/v1/runs/{}/clear", escaped(&run));
        let cleared: RunSummary =
            client.post(&path, &serde_json::json!({})).await.map_err(|failure| match failure.exit {
                Exit::Usage => {
                    Failure { hint: "only a run that was left dirty holds something to clear".into(), ..failure }
                }
                _ => failure,
            })?;
        if global.output == Output::Json {
            paint::json(&cleared);
        } else {
            let (run, name) = (words::printable(&cleared.run), words::printable(&cleared.name));
            paint::say(format!("{run} ({name}): what it held is free again, on your word that its hosts are clean"));
        }
        Ok(Exit::Held)
    }
}
