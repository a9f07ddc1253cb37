//! Where a proxy listens, read as Toxiproxy reads it: `host:port`, `:port` and nothing for all addresses, port 0 for a free one.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, lookup_host};

use super::problem::Problem;

/// How long a name may take to become an address.
const LOOKUP: Duration = Duration::from_secs(10);

/// The address of `text`. A name's IPv4 address is preferred to its IPv6 one.
///
/// # Errors
/// There is no port, or no such name.
pub async fn resolve(text: &str) -> Result<SocketAddr, Problem> {
    if text.is_empty() {
        return Ok(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(Problem::host(format!("address {text}: missing port in address")));
    };
    let Ok(port) = port.parse::<u16>() else {
        return Err(Problem::host(format!("address {text}: invalid port (expected 0 to 65535)")));
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        return Ok(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port));
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    match tokio::time::timeout(LOOKUP, lookup_host((host, port))).await {
        Ok(Ok(found)) => {
            let mut found: Vec<SocketAddr> = found.collect();
            found.sort_by_key(|address| !address.is_ipv4());
            found.first().copied().ok_or_else(|| Problem::host(format!("lookup {host}: no such host")))
        }
        Ok(Err(_)) => Err(Problem::host(format!("lookup {host}: no such host"))),
        Err(_) => Err(Problem::host(format!("lookup {host}: no answer within {} s", LOOKUP.as_secs()))),
    }
}

/// # Errors
/// The port is taken, or the address is not this host's.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Problem> {
    let mut bound = TcpListener::bind(address).await;
    if bound.is_err() && address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // A host without IPv6.
        let old: SocketAddr = (std::net::Ipv4Addr::UNSPECIFIED, address.port()).into();
        bound = TcpListener::bind(old).await.or(bound);
    }
    bound.map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::AddrInUse => "address already in use".to_owned(),
            std::io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        Problem::host(format!("listen tcp {address}: bind: {why}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_are_read_as_toxiproxy_reads_them() {
        for (text, address) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("localhost:0", "127.0.0.1:0"),
            ("[::1]:80", "[::1]:80"),
            (":80", "[::]:80"),
            ("", "[::]:0"),
            ("0.0.0.0:80", "0.0.0.0:80"),
        ] {
            assert_eq!(resolve(text).await.unwrap().to_string(), address, "{text}");
        }
        for (text, why) in [("8080", "missing port"), ("localhost:http2x", "invalid port"), ("::1", "lookup")] {
            if let Err(problem) = resolve(text).await {
                assert!(problem.message.contains(why), "{text}: {}", problem.message);
            }
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_told_with_the_originals_words() {
        let first = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = first.local_addr().unwrap();
        let problem = listen(address).await.unwrap_err();
        assert_eq!(problem.message, format!("listen tcp {address}: bind: address already in use"));
    }
}
