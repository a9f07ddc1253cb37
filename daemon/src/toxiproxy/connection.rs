//! One client's connection: its server is dialled, two links run, and both sockets end as the links say.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::budget::Budget;
use super::chain::{Chain, Direction, Luck};
use super::link::{Counters, Link};
use super::pipe::Pipe;
use super::queue::Ending;

/// What is read and thrown away of a peer whose connection is closed: unread bytes would make the kernel send a reset instead.
const LEFTOVERS: usize = 4 * 1024 * 1024;

/// What a connection needs of its proxy.
pub struct Context {
    pub proxy: String,
    pub upstream: String,
    pub chain: Arc<Chain>,
    pub seed: u64,
    pub budget: Budget,
    /// Upstream, downstream.
    pub counters: [Arc<Counters>; 2],
}

/// Until both directions have ended. If the future is dropped before, both sockets are closed then.
pub async fn serve(context: Arc<Context>, mut client: TcpStream, peer: SocketAddr, number: u64) {
    let (proxy, upstream) = (context.proxy.as_str(), context.upstream.as_str());
    let mut server = match TcpStream::connect(upstream).await {
        Ok(server) => server,
        Err(error) => return tracing::warn!(proxy, upstream, %peer, %error, "cannot connect to the upstream"),
    };
    for socket in [&client, &server] {
        // A delay of its own would be added to the toxics'.
        let _ = socket.set_nodelay(true);
    }
    let ended = relay(&context, &mut client, &mut server, number).await;
    tracing::debug!(proxy, %peer, ?ended, "connection ended");
    match ended {
        Ok(_) => {}
        Err(Ending::Reset) => {
            for socket in [&client, &server] {
                let _ = socket.set_zero_linger();
            }
        }
        Err(Ending::Eof | Ending::Close) => {
            for socket in [&mut client, &mut server] {
                close(socket).await;
            }
        }
    }
}

async fn relay(
    context: &Context,
    client: &mut TcpStream,
    server: &mut TcpStream,
    number: u64,
) -> Result<((), ()), Ending> {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let link = |source, dest, direction: Direction| Link {
        source,
        dest,
        direction,
        pipe: Pipe::new(Luck::new(context.seed, &context.proxy, number, direction)),
        toxics: context.chain.follow(),
        share: context.budget.share(),
        counters: context.counters[direction as usize].clone(),
    };
    let up = link(from_client, to_server, Direction::Upstream);
    let down = link(from_server, to_client, Direction::Downstream);
    tokio::try_join!(up.run(), down.run())
}

/// Ends in order: all that was written arrives.
async fn close(socket: &mut TcpStream) {
    let _ = socket.shutdown().await;
    let mut rest = vec![0; 64 * 1024];
    let mut read = 0;
    while read < LEFTOVERS {
        match socket.try_read(&mut rest) {
            Ok(0) | Err(_) => break,
            Ok(more) => read += more,
        }
    }
}
