//! What others are told by webhook, and how it is written. Pure: the coordinator signs, keeps and sends.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::check::slug;
use crate::report::words;
use crate::run_event::Verdict;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    RunStarted,
    DayStarted,
    ApprovalNeeded,
    /// A run or a game day ends early.
    Aborted,
    Refuted,
    /// A revert is not confirmed.
    Dirty,
    /// In any other way.
    Finished,
}

impl Occasion {
    pub const ALL: [Occasion; 7] = {
        use Occasion::*;
        [RunStarted, DayStarted, ApprovalNeeded, Aborted, Refuted, Dirty, Finished]
    };

    pub fn of(verdict: Verdict) -> Occasion {
        match verdict {
            Verdict::Aborted => Occasion::Aborted,
            Verdict::Refuted => Occasion::Refuted,
            Verdict::Dirty => Occasion::Dirty,
            Verdict::Held | Verdict::Refused | Verdict::Inconclusive => Occasion::Finished,
        }
    }

    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Occasion::RunStarted => "run-started",
            Occasion::DayStarted => "day-started",
            Occasion::ApprovalNeeded => "approval-needed",
            Occasion::Aborted => "aborted",
            Occasion::Refuted => "refuted",
            Occasion::Dirty => "dirty",
            Occasion::Finished => "finished",
        }
    }
}

/// What is told, once for each webhook that wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    pub event: Occasion,
    /// Of the run, or of the game day.
    pub id: String,
    pub of: Of,
    pub name: String,
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The reason, or what is asked.
    pub detail: String,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Of {
    Run,
    GameDay,
}

/// How a receiver wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// A [`Notification`] with a sentence in `text` and the delivery's id.
    #[default]
    Generic,
    /// `{"text": ...}`, as Slack's incoming webhooks and those of their kin take it.
    Slack,
}

impl Notification {
    /// For people.
    pub fn text(&self) -> String {
        let what = match self.of {
            Of::Run => "run",
            Of::GameDay => "game day",
        };
        let came = match (self.event, self.verdict) {
            (Occasion::RunStarted | Occasion::DayStarted, _) => format!("started, by {}", self.by),
            (Occasion::ApprovalNeeded, _) => "waits for an approval".to_owned(),
            (_, Some(verdict)) => words::verdict(verdict).0.to_lowercase(),
            (event, None) => event.name().to_owned(),
        };
        let detail = if self.detail.is_empty() { String::new() } else { format!(": {}", self.detail) };
        words::printable(&format!("{what} {} {came}{detail} ({})", self.name, self.id))
    }

    /// The body of a delivery.
    pub fn body(&self, shape: Shape, delivery: &str) -> Value {
        match shape {
            Shape::Slack => json!({"text": slack(&format!("Squall: {}", self.text()))}),
            Shape::Generic => {
                let mut body = serde_json::to_value(self).unwrap_or_default();
                (body["delivery"], body["text"]) = (json!(delivery), json!(self.text()));
                body
            }
        }
    }
}

/// What Slack reads as a mention, a link or a channel is text here.
fn slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A webhook to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AddWebhook {
    pub name: String,
    /// `http://` or `https://`. It is a secret of its own: only its host is shown again.
    pub url: String,
    #[serde(default)]
    pub shape: Shape,
    /// Default: all.
    #[serde(default = "all")]
    pub events: Vec<Occasion>,
    /// The key of the signatures. Default: a new one, which the answer tells once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

fn all() -> Vec<Occasion> {
    Occasion::ALL.to_vec()
}

impl AddWebhook {
    /// Mistakes that types cannot show.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if !slug(&self.name) {
            mistakes.push("/name: a name is made of lower-case letters, digits and dashes".to_owned());
        }
        if !self.url.starts_with("http://") && !self.url.starts_with("https://") {
            mistakes.push("/url: an address begins with http:// or https://".to_owned());
        }
        if self.events.is_empty() {
            mistakes.push("/events: a webhook of no events is never called".to_owned());
        }
        if self.secret.as_ref().is_some_and(|secret| secret.len() < 16) {
            mistakes.push("/secret: a key of less than 16 bytes can be guessed".to_owned());
        }
        mistakes
    }
}

/// A webhook as it is shown: neither its secret nor its address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookInfo {
    pub name: String,
    pub host: String,
    pub shape: Shape,
    pub events: Vec<Occasion>,
    /// Deliveries that wait, that were given up, and that found the queue full.
    pub waiting: u64,
    pub given_up: u64,
    pub dropped: u64,
    /// The last failure.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_error: String,
}

/// The one time that a secret is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookMade {
    pub webhook: WebhookInfo,
    pub secret: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuted() -> Notification {
        Notification {
            event: Occasion::of(Verdict::Refuted),
            id: "0199".into(),
            of: Of::Run,
            name: "replica-kill".into(),
            by: "ana".into(),
            verdict: Some(Verdict::Refuted),
            detail: "<!channel> & \u{1b}[31mred".into(),
            wall_ms: 7,
        }
    }

    #[test]
    fn a_text_from_outside_is_no_mention_and_no_escape_sequence() {
        let body = refuted().body(Shape::Slack, "d").to_string();
        assert!(
            body.contains("&lt;!channel&gt; &amp; ") && !body.contains("<!") && !body.contains("\\u001b"),
            "{body}"
        );
    }

    #[test]
    fn a_generic_body_has_the_facts_and_a_sentence() {
        let body = refuted().body(Shape::Generic, "d1");
        assert_eq!((&body["event"], &body["of"], &body["delivery"]), (&json!("refuted"), &json!("run"), &json!("d1")));
        assert!(body["text"].as_str().unwrap().starts_with("run replica-kill refuted: "), "{body}");
    }

    #[test]
    fn an_occasion_is_named_as_it_is_written() {
        for occasion in Occasion::ALL {
            assert_eq!(serde_json::to_value(occasion).unwrap(), json!(occasion.name()));
        }
    }
}
