//! Webhooks over HTTP: operators keep them, and nobody is shown an address or a secret again.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode};
use squall_experiments::audit::What;
use squall_experiments::notification::{AddWebhook, WebhookInfo, WebhookMade};

use super::auth::Caller;
use super::problem::{ApiError, Body};
use crate::coordinator::Coordinator;
use crate::coordinator::access::new_token;
use crate::coordinator::store::Webhook;

/// Every webhook, by name.
#[utoipa::path(get, path = "/v1/webhooks", responses((status = 200, body = ref("#/components/schemas/WebhookInfos"))))]
pub async fn list(State(coordinator): State<Arc<Coordinator>>) -> Result<Json<Vec<WebhookInfo>>, ApiError> {
    Ok(Json(coordinator.notifier.infos()?))
}

/// Keeps a webhook. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/v1/webhooks", request_body = ref("#/components/schemas/AddWebhook"),
    responses((status = 201, body = ref("#/components/schemas/WebhookMade")), (status = 400, body = ref("#/components/schemas/Problem")),
        (status = 422, body = ref("#/components/schemas/Problem"))))]
pub async fn add(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Body(add): Body<AddWebhook>,
) -> Result<(StatusCode, Json<WebhookMade>), ApiError> {
    let mistakes = add.mistakes();
    if !mistakes.is_empty() {
        return Err(ApiError::invalid(mistakes));
    }
    if reqwest::Url::parse(&add.url).ok().is_none_or(|url| url.host_str().is_none()) {
        return Err(ApiError::invalid(vec!["/url: this is no address".into()]));
    }
    let AddWebhook { name, url, shape, events, secret } = add;
    let secret = secret.unwrap_or_else(new_token);
    let webhook = Webhook {
        name,
        url,
        secret: secret.clone(),
        shape,
        events,
        given_up: 0,
        dropped: 0,
        last_error: String::new(),
    };
    if !coordinator.notifier.add(&webhook)? {
        return Err(ApiError::refused(vec![format!("there is a webhook `{}` already", webhook.name)]));
    }
    record(&coordinator, &caller.by(&headers), &webhook.name, "added");
    let webhook = coordinator.notifier.info(&webhook)?;
    Ok((StatusCode::CREATED, Json(WebhookMade { webhook, secret })))
}

/// Forgets a webhook, and what waits for it.
#[utoipa::path(delete, path = "/v1/webhooks/{webhook}", params(("webhook" = String, Path)),
    responses((status = 200, body = ref("#/components/schemas/WebhookInfos")), (status = 404, body = ref("#/components/schemas/Problem"))))]
pub async fn remove(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Vec<WebhookInfo>>, ApiError> {
    if !coordinator.notifier.remove(&name)? {
        return Err(ApiError::not_found(format!("no webhook `{name}`")));
    }
    record(&coordinator, &caller.by(&headers), &name, "removed");
    Ok(Json(coordinator.notifier.infos()?))
}

fn record(coordinator: &Coordinator, by: &str, webhook: &str, change: &str) {
    tracing::info!(webhook, by, change, "a webhook was changed");
    coordinator.hub.record(by, What::Webhook { webhook: webhook.to_owned(), change: change.to_owned() });
}
