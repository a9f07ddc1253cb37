//! `/v1/agent`: the WebSocket of one agent, from its `Hello` to its loss.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use squall_experiments::audit::Head;
use squall_experiments::wire::{self, ToAgent, ToCoordinator};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, timeout};

use super::Coordinator;
use super::api::problem::ApiError;
use super::enrolment::Node;
use super::hub::{Arrival, Attached, Hub};
use super::listener::Peer;
use super::trail::Trail;
use crate::clock::Instant;

/// From the upgrade to `Hello`.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// WebSocket close code "policy violation" (RFC 6455, section 7.4.1).
const REFUSED: u16 = 1008;

pub async fn upgrade(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(peer): Extension<Peer>,
    socket: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    let Some(node) = peer.node.filter(|node| !node.expired) else {
        return ApiError::unauthenticated(
            "an agent shows the client certificate of its node, and one that is not out of date",
        )
        .into_response();
    };
    let socket = match socket {
        Ok(socket) => socket,
        Err(error) => return ApiError::invalid(vec![error.to_string()]).into_response(),
    };
    socket.max_frame_size(wire::MAX_FRAME).max_message_size(wire::MAX_FRAME).on_upgrade(move |socket| async move {
        talk(socket, &node, &coordinator).await;
        drop(peer.seat);
    })
}

async fn talk(mut socket: WebSocket, certified: &Node, coordinator: &Coordinator) {
    let (node, hub): (&str, &Hub) = (&certified.name, &coordinator.hub);
    let mut revocations = coordinator.revocations.subscribe();
    let arrival = match timeout(HELLO_TIMEOUT, hello(&mut socket, node)).await {
        Ok(Ok(arrival)) => arrival,
        Ok(Err(why)) => {
            tracing::warn!(node, why, "agent refused");
            let frame = CloseFrame { code: REFUSED, reason: why.into() };
            let _ = timeout(HELLO_TIMEOUT, socket.send(Message::Close(Some(frame)))).await;
            return;
        }
        Err(_) => return tracing::warn!(node, "agent said no hello in time"),
    };
    let mut attached = hub.attach(arrival).await;
    // Lost before its lease is over, so that a run ends in the right order while it can still be told.
    let patience = hub.lease / 2;
    let mut ping = tokio::time::interval(hub.lease / 6);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_sign = Instant::now();
    let mut audit = hub.trail.as_ref().map(Trail::told);
    loop {
        if coordinator.revocations.are_against(certified) {
            revoked(&mut socket, &mut attached, node, hub).await;
            break;
        }
        let outgoing = tokio::select! {
            biased;
            () = attached.close.cancelled() => {
                let frame = CloseFrame { code: REFUSED, reason: "replaced by another connection of this node".into() };
                let _ = timeout(Duration::from_secs(1), socket.send(Message::Close(Some(frame)))).await;
                break;
            }
            frame = attached.frames.recv() => match frame {
                Some(frame) => Message::Text(frame),
                None => break,
            },
            received = socket.recv() => {
                last_sign = Instant::now();
                match received {
                    Some(Ok(Message::Text(text))) => match serde_json::from_str::<ToCoordinator>(&text) {
                        Ok(message) => hub.heard(node, attached.number, message).await,
                        Err(error) => tracing::warn!(node, %error, "an agent's message cannot be read"),
                    },
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                    Some(Ok(_)) => {}
                }
                continue;
            }
            Ok(()) = revocations.changed() => continue,
            // Through the outbox like everything else: frames are numbered in the order in which they go.
            head = told(&mut audit) => {
                hub.send(node, &ToAgent::Audit { head });
                continue;
            }
            _ = ping.tick() => Message::Ping(Default::default()),
            () = tokio::time::sleep_until(last_sign + patience) => {
                tracing::warn!(node, "no sign of this agent for half a lease");
                break;
            }
        };
        if !matches!(timeout(patience, socket.send(outgoing)).await, Ok(Ok(()))) {
            break;
        }
    }
    hub.detach(node, attached.number).await;
}

/// Its faults are ended before its connection is; if it does not listen, their leases end them.
async fn revoked(socket: &mut WebSocket, attached: &mut Attached, node: &str, hub: &Hub) {
    tracing::warn!(node, "this node is revoked: halting it and closing its connection");
    hub.send(node, &ToAgent::Halt { run: None });
    let _ = timeout(Duration::from_secs(1), async {
        while let Ok(frame) = attached.frames.try_recv() {
            socket.send(Message::Text(frame)).await?;
        }
        let frame = CloseFrame { code: REFUSED, reason: "this node is revoked".into() };
        socket.send(Message::Close(Some(frame))).await
    })
    .await;
}

/// The next head of the coordinator's audit log of which agents are to hear.
async fn told(audit: &mut Option<watch::Receiver<Option<Head>>>) -> Head {
    while let Some(told) = audit {
        if told.changed().await.is_err() {
            *audit = None;
        } else if let Some(head) = told.borrow_and_update().clone() {
            return head;
        }
    }
    std::future::pending().await
}

async fn hello(socket: &mut WebSocket, certified: &str) -> Result<Arrival, String> {
    let text = match socket.recv().await {
        Some(Ok(Message::Text(text))) => text,
        _ => return Err("the first frame must be hello".into()),
    };
    match serde_json::from_str::<ToCoordinator>(&text) {
        Ok(ToCoordinator::Hello { wire: version, .. }) if version != wire::VERSION => {
            Err(format!("this coordinator speaks version {} of the wire, the agent {version}", wire::VERSION))
        }
        Ok(ToCoordinator::Hello { node, .. }) if node != certified => {
            // A close reason has room for 123 bytes.
            Err(format!("the certificate is for another node than the agent's name ({:.40})", node))
        }
        Ok(ToCoordinator::Hello { session, .. }) if session.len() > 64 => Err("its session is too long".into()),
        Ok(ToCoordinator::Hello { node, session, labels, zone, facts, open, .. }) => {
            Ok(Arrival { node, session, labels, zone, facts: *facts, open })
        }
        _ => Err("the first frame must be hello".into()),
    }
}
