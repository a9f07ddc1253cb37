//! One try of one delivery. Addresses are those that probes may ask too; redirects are not followed.

use std::sync::LazyLock;
use std::time::Duration;

use ring::hmac;

use crate::clock;
use crate::coordinator::probes::http::Clients;
use crate::coordinator::store::{Delivery, Webhook};

/// Of one try.
const PATIENCE: Duration = Duration::from_secs(10);

static CLIENTS: LazyLock<Clients> = LazyLock::new(Clients::default);

/// # Errors
/// Why it was not taken, without the address: an answer other than 200 to 299, or none.
pub async fn send(webhook: &Webhook, delivery: &Delivery) -> Result<(), String> {
    let url = reqwest::Url::parse(&webhook.url).map_err(|_| "its address cannot be read".to_owned())?;
    let client = CLIENTS.for_url(&url)?;
    let body = delivery.notification.body(webhook.shape, &delivery.id).to_string();
    let request = client
        .post(url)
        .header("content-type", "application/json")
        .header("squall-event", delivery.notification.event.name())
        .header("squall-delivery", &delivery.id)
        .header("squall-signature", signature(&webhook.secret, clock::wall_ms() / 1000, &body))
        .timeout(PATIENCE)
        .body(body);
    let answer = request.send().await.map_err(|error| {
        let error = error.without_url();
        if error.is_timeout() { "no answer in time".to_owned() } else { format!("not reached: {error}") }
    })?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("it answered {status}")),
    }
}

/// `t=SECONDS,v1=HEX`: HMAC-SHA256 over `SECONDS.BODY`, so that an old body cannot be sent again as a new one.
pub fn signature(secret: &str, seconds: u64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{seconds}.{body}").as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_another_implementation_makes_of_it() {
        // printf '%s' '1700000000.{"text":"hi"}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let expected = "f3fbef9e6dd9321e73dc29c58e566ffc6b7f9a39c12eabc86e4133ab42f3513d";
        assert_eq!(
            signature("0123456789abcdef", 1_700_000_000, "{\"text\":\"hi\"}"),
            format!("t=1700000000,v1={expected}")
        );
    }
}
