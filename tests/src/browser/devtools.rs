//! Calls and answers of the DevTools protocol on one WebSocket.

use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// For an answer; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct DevTools {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    last: u64,
    /// Of the page, once there is one.
    pub session: Option<String>,
    pub complaints: Vec<String>,
}

impl DevTools {
    pub async fn connect(address: &str) -> anyhow::Result<DevTools> {
        let (socket, _) = connect_async(address).await?;
        Ok(DevTools { socket, last: 0, session: None, complaints: Vec::new() })
    }

    pub async fn call(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.last += 1;
        let mut call = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = &self.session {
            call["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(call.to_string())).await?;
        tokio::time::timeout(PATIENCE, self.answer(self.last)).await.with_context(|| format!("{method}: no answer"))?
    }

    async fn answer(&mut self, id: u64) -> anyhow::Result<Value> {
        loop {
            let message = self.socket.next().await.context("the browser is gone")??;
            let Message::Text(text) = message else { continue };
            let mut said: Value = serde_json::from_str(&text)?;
            if said["id"] == json!(id) {
                if let Some(error) = said.get("error") {
                    bail!("{error}");
                }
                return Ok(said["result"].take());
            }
            self.note(&said);
        }
    }

    fn note(&mut self, said: &Value) {
        match said["method"].as_str() {
            Some("Log.entryAdded") if said["params"]["entry"]["level"] == "error" => {
                let entry = &said["params"]["entry"];
                self.complaints.push(format!("{} {} {}", entry["source"], entry["text"], entry["url"]));
            }
            Some("Runtime.exceptionThrown") => self.complaints.push(said["params"].to_string()),
            _ => {}
        }
    }
}
