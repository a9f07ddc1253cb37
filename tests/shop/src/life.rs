//! How each verb serves and ends: on SIGTERM or SIGINT it takes no new connection and finishes what it has, for a second at most.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

/// Serves until told to end.
pub async fn serve(at: SocketAddr, router: axum::Router) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(at).await.with_context(|| format!("listen on {at}"))?;
    tracing::info!(%at, "serves");
    let serving = axum::serve(listener, router).with_graceful_shutdown(told_to_end());
    let overdue = async {
        told_to_end().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    tokio::select! {
        done = serving => done.context("serve"),
        () = overdue => Ok(()),
    }
}

/// Returns at SIGTERM or SIGINT.
pub async fn told_to_end() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
