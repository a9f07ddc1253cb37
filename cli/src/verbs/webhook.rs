//! `squall webhook`: who is told what happens.

use squall_experiments::notification::{AddWebhook, Occasion, Shape, WebhookInfo, WebhookMade};
use squall_experiments::report::words;

use crate::args::{Global, Output};
use crate::client::{Client, escaped};
use crate::exit::{Exit, Failure};
use crate::{paint, table};

#[derive(clap::Args)]
pub struct Webhook {
    #[command(subcommand)]
    act: Act,
}

#[derive(clap::Subcommand)]
enum Act {
    /// All of them, with what waits and what failed
    List,
    /// Keep one; the key of its signatures is shown this once
    Add {
        #[arg(value_name = "NAME")]
        name: String,
        /// Read from the standard input if it is -, for it is a secret with many services
        #[arg(value_name = "URL")]
        url: String,
        /// The body is {"text": ...}, as Slack's incoming webhooks take it
        #[arg(long)]
        slack: bool,
        /// Only this (repeatable): run-started, day-started, approval-needed, aborted, refuted, dirty, finished
        #[arg(long = "event", value_name = "EVENT")]
        events: Vec<String>,
    },
    /// Forget one, and what waits for it
    Remove {
        #[arg(value_name = "NAME")]
        name: String,
    },
}

impl Webhook {
    pub async fn run(self, global: &Global) -> Result<Exit, Failure> {
        match self.act {
            Act::List => list(
                &Client::of(global.access.as_deref())?.get::<Vec<WebhookInfo>>("/v1/webhooks").await?,
                global.output,
            ),
            Act::Add { name, url, slack, events } => {
                let url = if url == "-" { line()? } else { url };
                let events = if events.is_empty() {
                    Occasion::ALL.to_vec()
                } else {
                    events.iter().map(|event| occasion(event)).collect::<Result<_, _>>()?
                };
                let shape = if slack { Shape::Slack } else { Shape::Generic };
                let add = AddWebhook { name, url, shape, events, secret: None };
                let made: WebhookMade = Client::of(global.access.as_deref())?.post("/v1/webhooks", &add).await?;
                match global.output {
                    Output::Json => paint::json(&made),
                    Output::Text => {
                        paint::say(format!("{}: added; its deliveries are signed with the key", made.webhook.name));
                        paint::say(&made.secret);
                        paint::say("which is not shown again");
                    }
                }
            }
            Act::Remove { name } => {
                if name.trim().is_empty() {
                    return Err(Failure::usage("a webhook's name is empty", "`squall webhook list` lists them"));
                }
                let left: Vec<WebhookInfo> =
                    Client::of(global.access.as_deref())?.delete(&format!("/v1/webhooks/{}", escaped(&name))).await?;
                match global.output {
                    Output::Json => paint::json(&left),
                    Output::Text => paint::say(format!("{}: removed", words::printable(&name))),
                }
            }
        }
        Ok(Exit::Held)
    }
}

fn line() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|error| Failure::usage(format!("cannot read the address: {error}"), ""))?;
    Ok(line.trim().to_owned())
}

fn occasion(text: &str) -> Result<Occasion, Failure> {
    let all = Occasion::ALL.into_iter();
    all.clone().find(|occasion| occasion.name() == text).ok_or_else(|| {
        let names: Vec<&str> = all.map(Occasion::name).collect();
        Failure::usage(
            format!("there is no event `{}`", words::printable(text)),
            format!("there are {}", names.join(", ")),
        )
    })
}

fn list(all: &[WebhookInfo], output: Output) {
    if output == Output::Json {
        return paint::json(&all);
    }
    if all.is_empty() {
        return paint::say("no webhooks yet; `squall webhook add NAME URL` adds one");
    }
    let rows = all.iter().map(|hook| {
        let events = if hook.events.len() == Occasion::ALL.len() {
            "all".to_owned()
        } else {
            hook.events.iter().map(|event| event.name()).collect::<Vec<_>>().join(",")
        };
        let counts = [hook.waiting, hook.given_up, hook.dropped].map(|count| count.to_string());
        let [waiting, given_up, dropped] = counts;
        let (name, host) = (words::printable(&hook.name), words::printable(&hook.host));
        [name, host, events, waiting, given_up, dropped, words::printable(&hook.last_error)]
    });
    table::show(["WEBHOOK", "HOST", "EVENTS", "WAITING", "GIVEN UP", "DROPPED", "LAST FAILURE"], rows);
}
