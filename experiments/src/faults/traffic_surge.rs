//! `traffic-surge`: more requests than usual, sent by the chosen nodes at a rate that does not wait for answers, and measured by them: a
//! fault that is a probe as well.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Compiled, Fault, Mistake, Scope};
use crate::effect::{Effect, Load, Request, Stage};
use crate::target::Target;
use crate::units::{Percent, Span};

pub struct TrafficSurge;

const MOST_REQUESTS: usize = 16;
const HIGHEST_RATE: f64 = 100_000.0;
const MOST_IN_FLIGHT: u32 = 10_000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct With {
    /// What is asked for: `url` (http or https; `{id}` in it is another text for each request) and `weight`, 1 unless given.
    pub requests: Vec<Request>,
    /// Of every request.
    #[serde(default = "With::get")]
    pub method: String,
    /// Of every request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Of every request; `{id}` in it is the same text as in the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Highest rate, in requests per second of each node.
    pub rate: f64,
    /// How the rate goes with time.
    #[serde(default)]
    pub profile: Profile,
    /// Rate in requests per second from which a ramp starts, and before and after a spike or a sale.
    #[serde(default)]
    pub base: f64,
    /// How long a spike or a sale waits at `base`.
    #[serde(default = "With::five_seconds")]
    pub after: Span,
    /// How long a ramp rises, a spike stays, a sale takes to come down.
    #[serde(default = "With::ten_seconds")]
    pub over: Span,
    /// A request without an answer fails after this.
    #[serde(default = "With::five_seconds")]
    pub timeout: Span,
    /// Most requests of a node without an answer at a time. What is due beyond is not sent, and more than 1% of that makes the run
    /// inconclusive: the generator could not keep the rate.
    #[serde(default = "With::in_flight")]
    pub in_flight: u32,
    /// The hypothesis is refuted if a smaller share of the requests is answered with a status below 400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_success: Option<Percent>,
    /// The hypothesis is refuted if the 99th percentile of the time from when a request was due to its answer is longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_p99: Option<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// `rate` from the start.
    #[default]
    Constant,
    /// From `base` to `rate` within `over`, then `rate`.
    Ramp,
    /// `base`; after `after` at once `rate` for `over`; `base` again.
    Spike,
    /// `base`; after `after` at once `rate`, which goes down to `base` within `over`.
    FlashSale,
}

impl With {
    fn get() -> String {
        "GET".to_owned()
    }

    fn five_seconds() -> Span {
        Span::from_millis(5_000)
    }

    fn ten_seconds() -> Span {
        Span::from_millis(10_000)
    }

    fn in_flight() -> u32 {
        256
    }

    fn stages(&self) -> Vec<Stage> {
        let (rate, base, at_once) = (self.rate, self.base, Span::default());
        let wait = Stage { from: base, to: base, over: self.after };
        match self.profile {
            Profile::Constant => vec![Stage { from: rate, to: rate, over: at_once }],
            Profile::Ramp => vec![Stage { from: base, to: rate, over: self.over }],
            Profile::Spike => vec![
                wait,
                Stage { from: rate, to: rate, over: self.over },
                Stage { from: base, to: base, over: at_once },
            ],
            Profile::FlashSale => vec![wait, Stage { from: rate, to: base, over: self.over }],
        }
    }
}

impl Fault for TrafficSurge {
    type With = With;
    const NAME: &'static str = "traffic-surge";
    const SUMMARY: &'static str = "Sends requests at a rate that does not wait for answers, and measures the answers.";

    fn check(with: &With, _on: &Target) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let mut mistake = |field: &str, message: String, hint: &str| {
            mistakes.push(Mistake::new(format!("/with/{field}"), message, hint));
        };
        if with.requests.is_empty() || with.requests.len() > MOST_REQUESTS {
            let hint = "for example `requests: [{url: \"http://shop.lab/\"}]`";
            mistake(
                "requests",
                format!("1 to {MOST_REQUESTS} requests are expected, not {}", with.requests.len()),
                hint,
            );
        }
        for (index, request) in with.requests.iter().enumerate() {
            if !request.url.starts_with("http://") && !request.url.starts_with("https://") {
                let hint = "begin it with http:// or https://";
                mistake(&format!("requests/{index}/url"), format!("`{}` is no address of a page", request.url), hint);
            }
            if request.weight == 0 {
                mistake(
                    &format!("requests/{index}/weight"),
                    "a weight of 0 is never chosen".to_owned(),
                    "leave it out",
                );
            }
        }
        if !(with.rate > 0.0 && with.rate <= HIGHEST_RATE) {
            mistake("rate", format!("`rate` must be above 0 and at most {HIGHEST_RATE} requests per second"), "");
        }
        if !(with.base >= 0.0 && with.base <= with.rate) {
            mistake("base", "`base` must be from 0 to `rate`".to_owned(), "a surge goes up");
        }
        if with.in_flight == 0 || with.in_flight > MOST_IN_FLIGHT {
            mistake("inFlight", format!("`inFlight` must be from 1 to {MOST_IN_FLIGHT}"), "");
        }
        for (field, span) in [("timeout", with.timeout), ("over", with.over)] {
            if span == Span::default() {
                mistake(field, format!("`{field}` must be longer than zero"), "");
            }
        }
        mistakes
    }

    fn compile(with: &With, scope: &Scope<'_>) -> Result<Compiled, String> {
        let effects = scope.everywhere(|node| {
            Effect::Load(Load {
                requests: with.requests.clone(),
                method: with.method.clone(),
                headers: with.headers.clone(),
                body: with.body.clone(),
                timeout: with.timeout,
                in_flight: with.in_flight,
                stages: with.stages(),
                seed: scope.seed_of(node),
                min_success: with.min_success,
                max_p99: with.max_p99,
            })
        });
        Ok(Compiled { effects, ..Compiled::default() })
    }
}
