//! haproxy's runtime API: a line to a unix socket, an answer until the end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

pub struct Haproxy {
    socket: PathBuf,
}

impl Haproxy {
    pub fn new(socket: PathBuf) -> Haproxy {
        Haproxy { socket }
    }

    /// Brings each server of the backend `shop` into rotation or out of it, where it is not so yet. Others are left as they are.
    pub async fn set(&self, wanted: &BTreeMap<String, bool>) -> anyhow::Result<()> {
        let now = states(&self.ask("show servers state shop").await?);
        for (server, ready) in wanted {
            let Some(is_ready) = now.get(server) else { continue };
            if is_ready != ready {
                let state = if *ready { "ready" } else { "maint" };
                let answer = self.ask(&format!("set server shop/{server} state {state}")).await?;
                tracing::info!("{server}: {state} {}", answer.trim());
            }
        }
        Ok(())
    }

    async fn ask(&self, line: &str) -> anyhow::Result<String> {
        let asked = async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            stream.write_all(format!("{line}\n").as_bytes()).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            anyhow::Ok(text)
        };
        tokio::time::timeout(Duration::from_secs(1), asked).await.context("haproxy does not answer")?
    }
}

/// Of the administrator's will (the seventh column of `show servers state`): that the server was disabled at the start. It stays when it is made ready.
const DISABLED_AT_THE_START: u32 = 4;

/// Of `show servers state`: which servers are in rotation.
fn states(text: &str) -> BTreeMap<String, bool> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let columns: Vec<&str> = line.split(' ').collect();
            Some(((*columns.get(3)?).to_owned(), columns.get(6)?.parse::<u32>().ok()? & !DISABLED_AT_THE_START == 0))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_in_rotation_if_the_administrator_holds_it_by_nothing_but_its_start() {
        let text = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight\n\
            3 shop 1 web1-1 10.77.0.2 2 0 1 1 5 6 3 4 6 0 0 0 - 8001 - 0 0 - - 0\n\
            3 shop 2 web1-2 10.77.0.2 0 5 1 1 5 1 0 2 6 0 0 0 - 8002 - 0 0 - - 0\n\
            3 shop 3 web1-3 10.77.0.2 2 4 1 1 5 6 3 4 6 0 0 0 - 8003 - 0 0 - - 0\n\n";
        assert_eq!(states(text), [("web1-1".into(), true), ("web1-2".into(), false), ("web1-3".into(), true)].into());
    }
}
