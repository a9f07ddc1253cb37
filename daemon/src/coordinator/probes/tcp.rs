//! `tcp`: can a connection be made?

use squall_experiments::probe::TcpProbe;
use tokio::net::TcpStream;

use super::Measured;
use super::address::Names;

/// Bad: refused, reset, no answer in time. Unknown: the address is none, or its name cannot be resolved.
pub async fn measure(probe: &TcpProbe, names: &Names) -> Measured {
    let Some((host, port)) = split(&probe.address) else {
        return Measured::unknown(format!("`{}` is not host:port", probe.address));
    };
    let connect = async {
        let mut last = None;
        for address in names.resolve(host, port).await.map_err(Measured::unknown)? {
            match TcpStream::connect(address).await {
                Ok(_) => return Ok(Measured::ok(format!("connected to {address}"))),
                Err(error) => last = Some(Measured::bad(format!("{address}: {error}"))),
            }
        }
        Err(last.unwrap_or_else(|| Measured::unknown("no address to connect to")))
    };
    match tokio::time::timeout(probe.timeout.0, connect).await {
        Ok(Ok(measured) | Err(measured)) => measured,
        Err(_) => Measured::bad(format!("no connection within {}", probe.timeout)),
    }
}

/// `[::1]:80`, `db1:5432`.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_experiments::probe::Outcome;
    use squall_experiments::units::Span;

    fn probe(address: String) -> TcpProbe {
        TcpProbe { address, timeout: Span::from_millis(1000) }
    }

    #[tokio::test]
    async fn a_listener_is_ok_a_closed_port_is_bad_and_nonsense_is_unknown() {
        let names = Names::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_eq!(measure(&probe(address.clone()), &names).await.outcome, Outcome::Ok);
        drop(listener);
        assert_eq!(measure(&probe(address), &names).await.outcome, Outcome::Bad);
        assert_eq!(measure(&probe("no port".into()), &names).await.outcome, Outcome::Unknown);
        assert_eq!(measure(&probe("169.254.169.254:80".into()), &names).await.outcome, Outcome::Unknown);
    }

    #[tokio::test]
    async fn a_name_is_connected_to_where_it_was_judged_and_not_where_it_leads_a_moment_later() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let probe = probe(format!("shop.lab:{}", listener.local_addr().unwrap().port()));
        let (names, looks) = Names::told(&[&["127.0.0.1"], &["169.254.169.254"]]);
        assert_eq!(measure(&probe, &names).await.outcome, Outcome::Ok);
        assert_eq!(looks.load(std::sync::atomic::Ordering::Relaxed), 1);
        let measured = measure(&probe, &names).await;
        assert!(measured.outcome == Outcome::Unknown && measured.detail.contains("metadata"), "{}", measured.detail);
    }

    #[test]
    fn an_address_of_version_6_stands_in_brackets() {
        assert_eq!(split("[::1]:80"), Some(("::1", 80)));
        assert_eq!(split("db1:5432"), Some(("db1", 5432)));
        assert_eq!(split(":80"), None);
    }
}
