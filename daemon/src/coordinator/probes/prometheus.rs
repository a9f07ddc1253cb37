//! `prometheus`: an instant query whose answer is exactly one number.

use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;
use serde::de::IgnoredAny;
use squall_experiments::probe::PrometheusProbe;

use super::Measured;
use super::http::{self, Clients};

#[derive(Deserialize)]
struct Answer {
    status: String,
    data: Option<Data>,
    error: Option<String>,
}

/// As in the HTTP API of Prometheus, "Expression query result formats".
#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Scalar((f64, String)),
    Vector(Vec<Series>),
    Matrix(IgnoredAny),
    String(IgnoredAny),
}

#[derive(Deserialize)]
struct Series {
    value: (f64, String),
}

/// Never bad: a server that cannot be asked, no data, old data or several series are unknown.
pub async fn measure(probe: &PrometheusProbe, clients: &Clients) -> Measured {
    let exchange = async {
        let url = query_url(probe)?;
        let request = clients.for_url(&url)?.get(url);
        let mut response = request.send().await.map_err(|error| http::failed(&error).detail)?;
        let date = response.headers().get("date").and_then(|date| date.to_str().ok()).and_then(seconds_of);
        let body = http::bounded_body(&mut response, http::MAX_BODY)
            .await
            .map_err(|error| format!("the answer breaks off: {error}"))?;
        let answer = serde_json::from_slice::<Answer>(&body)
            .map_err(|error| format!("status {}, no answer of the query API: {error}", response.status().as_u16()))?;
        one_number(answer, date, probe.stale_after.0)
    };
    let answered = match tokio::time::timeout(probe.timeout.0, exchange).await {
        Ok(answered) => answered,
        Err(_) => Err(http::too_slow(probe.timeout.0).detail),
    };
    match answered {
        Ok(value) => Measured::ok("").with_value(value),
        Err(why) => Measured::unknown(why),
    }
}

fn query_url(probe: &PrometheusProbe) -> Result<Url, String> {
    let base = format!("{}/api/v1/query", probe.url.trim_end_matches('/'));
    let mut url: Url = base.parse().map_err(|error| format!("`{}` is no URL: {error}", probe.url))?;
    // The time of an instant vector is that of the query, not of its samples: only the server's look-back finds old ones.
    let lookback = format!("{}s", probe.stale_after.0.as_secs().max(1));
    url.query_pairs_mut().append_pair("query", &probe.query).append_pair("lookback_delta", &lookback);
    Ok(url)
}

/// `server_time`: the server's own clock at its answer, seconds since 1970, so that no clock of ours is compared with another's.
fn one_number(answer: Answer, server_time: Option<f64>, stale_after: Duration) -> Result<f64, String> {
    if answer.status != "success" {
        return Err(answer.error.unwrap_or_else(|| format!("the query's status is {}", answer.status)));
    }
    let (time, text) = match answer.data {
        Some(Data::Scalar(value)) => value,
        Some(Data::Vector(mut series)) => match (series.len(), series.pop()) {
            (1, Some(one)) => one.value,
            (0, _) => return Err("no data".into()),
            (count, _) => return Err(format!("{count} series where one number was expected: aggregate them")),
        },
        _ => return Err("the answer is neither a scalar nor a vector".into()),
    };
    // A Date header has whole seconds.
    if server_time.is_some_and(|now| now - time > stale_after.as_secs_f64() + 1.0) {
        return Err("the value is older than staleAfter".into());
    }
    text.parse::<f64>()
        .ok()
        .filter(|value| value.is_finite())
        .ok_or_else(|| format!("`{text}` is no number to compare"))
}

fn seconds_of(date: &str) -> Option<f64> {
    let zoned = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_zoned(date).ok()?;
    Some(zoned.timestamp().as_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(json: &str, server_time: Option<f64>) -> Result<f64, String> {
        one_number(serde_json::from_str(json).unwrap(), server_time, Duration::from_secs(60))
    }

    #[test]
    fn exactly_one_number_is_an_answer() {
        let one = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1700000000.1,"4.5"]}]}}"#;
        assert_eq!(number(one, None), Ok(4.5));
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1700000000,"7"]}}"#;
        assert_eq!(number(scalar, Some(1_700_000_030.0)), Ok(7.0));
        assert!(number(scalar, Some(1_700_000_090.0)).unwrap_err().contains("older"));
        let none = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
        assert_eq!(number(none, None), Err("no data".into()));
        let nan = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"NaN"]}}"#;
        assert!(number(nan, None).unwrap_err().contains("NaN"));
        let two =
            r#"{"status":"success","data":{"resultType":"vector","result":[{"value":[1,"1"]},{"value":[1,"2"]}]}}"#;
        assert!(number(two, None).unwrap_err().contains("2 series"));
        assert_eq!(number(r#"{"status":"error","error":"parse error"}"#, None), Err("parse error".into()));
        let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
        assert!(number(matrix, None).is_err());
    }

    #[test]
    fn a_servers_date_is_read() {
        assert_eq!(seconds_of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777.0));
    }
}
