//! `squall forget`: a node that is gone for good counts no more for shares and quorums.

use squall_experiments::inventory::Node;
use squall_experiments::report::words;

use crate::args::{Global, Output};
use crate::client::{Client, escaped};
use crate::exit::{Exit, Failure};
use crate::paint;

#[derive(clap::Args)]
pub struct Forget {
    /// Name of a node that is not connected
    #[arg(value_name = "NODE")]
    node: String,
}

impl Forget {
    pub async fn run(self, global: &Global) -> Result<Exit, Failure> {
        if self.node.trim().is_empty() {
            return Err(Failure::usage("a node's name is empty", "`squall nodes` lists the nodes"));
        }
        let path = format!("/v1/nodes/{}", escaped(&self.node));
        let gone: Node =
            Client::of(global.access.as_deref())?.delete(&path).await.map_err(|failure| match failure.exit {
                Exit::Usage => Failure { hint: "`squall nodes` lists the nodes".into(), ..failure },
                _ => failure,
            })?;
        if global.output == Output::Json {
            paint::json(&gone);
        } else {
            let name = words::printable(&gone.name);
            paint::say(format!("{name} is forgotten; it is known again when its agent connects"));
        }
        Ok(Exit::Held)
    }
}
