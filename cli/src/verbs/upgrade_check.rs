//! `squall upgrade-check`: do coordinator, agents and this program fit each other, now or after an upgrade?

use squall_experiments::api::{Health, NodeNow};
use squall_experiments::report::words;
use squall_experiments::version::Version;

use crate::args::{Global, Output};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::{paint, table};

#[derive(clap::Args)]
pub struct UpgradeCheck {
    /// The version that the coordinator is to have [default: the one that it has]
    #[arg(long, value_name = "VERSION")]
    to: Option<Version>,
}

#[derive(serde::Serialize)]
struct Part {
    name: String,
    version: String,
    /// A node that is away cannot be asked: this is what it had.
    connected: bool,
    fits: bool,
}

impl UpgradeCheck {
    pub async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let client = Client::of(global.access.as_deref())?;
        let health: Health = client.get("/v1/health").await?;
        let nodes: Vec<NodeNow> = client.get("/v1/nodes").await?;
        let serving: Version =
            health.version.parse().map_err(|error| Failure::usage(error, "what does this serve?"))?;
        let wanted = self.to.unwrap_or(serving);
        let fits = |version: &str| version.parse().is_ok_and(|version| wanted.fits(version));
        let own = env!("CARGO_PKG_VERSION");
        let first = [
            Part {
                name: "coordinator".into(),
                version: serving.to_string(),
                connected: true,
                fits: wanted.fits(serving),
            },
            Part { name: "squall".into(), version: own.into(), connected: true, fits: fits(own) },
        ];
        let agents = nodes.into_iter().map(|NodeNow { node, .. }| {
            let fits = fits(&node.facts.version);
            Part {
                name: format!("agent on {}", node.name),
                version: node.facts.version,
                connected: node.connected,
                fits,
            }
        });
        let parts: Vec<Part> = first.into_iter().chain(agents).collect();
        let unfit = parts.iter().filter(|part| !part.fits).count();
        if global.output == Output::Json {
            paint::json(&parts);
        } else {
            let rows = parts.iter().map(|part| {
                let state = match (part.fits, part.connected) {
                    (true, true) => "fits",
                    (true, false) => "fits (away; this is what it had)",
                    (false, _) => "does NOT fit: bring it within one minor version first",
                };
                [words::printable(&part.name), words::printable(&part.version), state.to_owned()]
            });
            table::show(["PART", "VERSION", &format!("WITH COORDINATOR {wanted}")], rows);
        }
        Ok(if unfit == 0 { Exit::Held } else { Exit::Usage })
    }
}
