//! `alert`: which alerts of one name fire, as an Alertmanager or a Prometheus says.

use std::collections::BTreeMap;

use reqwest::Url;
use serde::Deserialize;
use squall_experiments::probe::AlertProbe;

use super::Measured;
use super::http::{self, Clients};

type Labels = BTreeMap<String, String>;

/// One of the list that `GET /api/v2/alerts` of Alertmanager answers: what has ended is not in it.
#[derive(Deserialize)]
struct Managed {
    labels: Labels,
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    /// `unprocessed`, `active` or `suppressed` (silenced or inhibited: nobody is told).
    state: String,
}

/// What `GET /api/v1/alerts` of Prometheus answers.
#[derive(Deserialize)]
struct Answer {
    status: String,
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Data {
    alerts: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    labels: Labels,
    /// `pending` or `firing`.
    state: String,
}

/// Never bad: the value is the number of alerts that fire; a server that cannot be asked is unknown.
pub async fn measure(probe: &AlertProbe, clients: &Clients) -> Measured {
    let exchange = async {
        let url = address(probe)?;
        let request = clients.for_url(&url)?.get(url);
        let mut response = request.send().await.map_err(|error| http::failed(&error).detail)?;
        let status = response.status();
        let body = http::bounded_body(&mut response, MOST_BYTES)
            .await
            .map_err(|error| format!("the answer breaks off: {error}"))?;
        if !status.is_success() {
            return Err(format!("status {}", status.as_u16()));
        }
        let states = if probe.alertmanager.is_some() { managed(&body) } else { rules(&body) };
        states.map(|states| of_interest(probe, states))
    };
    match tokio::time::timeout(probe.timeout.0, exchange).await {
        Err(_) => Measured::unknown(http::too_slow(probe.timeout.0).detail),
        Ok(Err(why)) => Measured::unknown(why),
        Ok(Ok(found)) => said(&probe.name, &found),
    }
}

/// Of an answer: some systems have thousands of alerts.
const MOST_BYTES: usize = 4 * 1024 * 1024;

fn address(probe: &AlertProbe) -> Result<Url, String> {
    let (base, path) = match (&probe.alertmanager, &probe.prometheus) {
        (Some(base), _) => (base, "/api/v2/alerts"),
        (None, Some(base)) => (base, "/api/v1/alerts"),
        (None, None) => return Err("the probe says not whom to ask".into()),
    };
    let text = format!("{}{path}", base.trim_end_matches('/'));
    let mut url: Url = text.parse().map_err(|error| format!("`{base}` is no URL: {error}"))?;
    if probe.alertmanager.is_some() {
        // Only to keep the answer small: labels are compared here, by the same rule for both servers.
        let name = probe.name.replace('\\', "\\\\").replace('"', "\\\"");
        url.query_pairs_mut().append_pair("filter", &format!("alertname=\"{name}\""));
    }
    Ok(url)
}

/// (labels, whether it fires, its state) of each alert.
type States = Vec<(Labels, bool, String)>;

fn managed(body: &[u8]) -> Result<States, String> {
    let alerts: Vec<Managed> =
        serde_json::from_slice(body).map_err(|error| format!("no answer of Alertmanager's API: {error}"))?;
    Ok(alerts.into_iter().map(|alert| (alert.labels, alert.status.state != "suppressed", alert.status.state)).collect())
}

fn rules(body: &[u8]) -> Result<States, String> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|error| format!("no answer of Prometheus' API: {error}"))?;
    match answer.data {
        Some(data) if answer.status == "success" => {
            Ok(data.alerts.into_iter().map(|rule| (rule.labels, rule.state == "firing", rule.state)).collect())
        }
        _ => Err(answer.error.unwrap_or_else(|| format!("the answer's status is {}", answer.status))),
    }
}

fn of_interest(probe: &AlertProbe, states: States) -> States {
    let wanted = |labels: &Labels| {
        labels.get("alertname") == Some(&probe.name)
            && probe.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    };
    states.into_iter().filter(|(labels, ..)| wanted(labels)).collect()
}

fn said(name: &str, found: &States) -> Measured {
    let firing = found.iter().filter(|(_, fires, _)| *fires).count();
    let detail = match found.first() {
        None => format!("{name} does not fire"),
        Some((labels, _, state)) => {
            let labels: Vec<String> =
                labels.iter().filter(|(label, _)| *label != "alertname").map(|(l, v)| format!("{l}={v}")).collect();
            let more = if found.len() > 1 { format!(" and {} more", found.len() - 1) } else { String::new() };
            format!("{name} {state} ({}){more}", labels.join(", ")).chars().take(200).collect()
        }
    };
    // Exact: no server has 2^52 alerts.
    Measured::ok(detail).with_value(firing as f64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn probe(labels: serde_json::Value) -> AlertProbe {
        serde_json::from_value(json!({"alertmanager": "http://am:9093", "name": "Down", "labels": labels})).unwrap()
    }

    #[test]
    fn alertmanager_counts_what_has_the_name_and_the_labels_and_is_not_suppressed() {
        let body = json!([
            {"labels": {"alertname": "Down", "job": "shop"}, "status": {"state": "active", "silencedBy": []}},
            {"labels": {"alertname": "Down", "job": "db"}, "status": {"state": "suppressed"}},
            {"labels": {"alertname": "Slow", "job": "shop"}, "status": {"state": "active"}},
        ])
        .to_string();
        let count = |labels| said("Down", &of_interest(&probe(labels), managed(body.as_bytes()).unwrap())).value;
        assert_eq!(count(json!({})), Some(1.0));
        assert_eq!(count(json!({"job": "shop"})), Some(1.0));
        assert_eq!(count(json!({"job": "db"})), Some(0.0), "a silenced alert tells nobody");
        assert_eq!(count(json!({"job": "cache"})), Some(0.0));
        assert!(managed(b"{}").is_err());
    }

    #[test]
    fn prometheus_counts_what_fires_and_not_what_is_pending() {
        let body = json!({"status": "success", "data": {"alerts": [
            {"labels": {"alertname": "Down"}, "annotations": {}, "state": "pending", "activeAt": "x", "value": "1"},
        ]}});
        let states = rules(body.to_string().as_bytes()).unwrap();
        assert_eq!(said("Down", &of_interest(&probe(json!({})), states)).value, Some(0.0));
        let firing = body.to_string().replace("pending", "firing");
        let measured = said("Down", &of_interest(&probe(json!({})), rules(firing.as_bytes()).unwrap()));
        assert_eq!((measured.value, measured.detail.as_str()), (Some(1.0), "Down firing ()"));
        assert_eq!(rules(br#"{"status":"error","error":"busy"}"#).err().as_deref(), Some("busy"));
    }

    #[test]
    fn the_name_in_the_filter_cannot_break_out_of_its_quotes() {
        let probe = AlertProbe { name: "a\"b\\".into(), ..probe(json!({})) };
        let url = address(&probe).unwrap();
        assert_eq!(url.query_pairs().next().unwrap().1, r#"alertname="a\"b\\""#);
    }
}
