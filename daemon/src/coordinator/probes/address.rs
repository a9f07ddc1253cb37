//! Addresses that a probe may not talk to: an experiment must not read a cloud's instance metadata through the coordinator.

use std::net::{IpAddr, SocketAddr};

/// Why not, or None if it may.
pub fn denied(address: IpAddr) -> Option<&'static str> {
    let address = address.to_canonical();
    let link_local = match address {
        // RFC 3927; 169.254.169.254 is the metadata service of most clouds.
        IpAddr::V4(v4) => v4.is_link_local(),
        // RFC 4291 section 2.5.6; fd00:ec2::254 is a metadata service too.
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254],
    };
    link_local.then_some("link-local and metadata addresses are not probed")
}

/// Resolves `host:port` and leaves out what is denied.
///
/// # Errors
/// A sentence: the name cannot be resolved, or every address of it is denied.
pub async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found =
        tokio::net::lookup_host((host, port)).await.map_err(|error| format!("cannot resolve {host}: {error}"))?;
    let (mut allowed, mut why) = (Vec::new(), None);
    for address in found {
        match denied(address.ip()) {
            None => allowed.push(address),
            Some(reason) => why = Some(reason),
        }
    }
    match why {
        Some(why) if allowed.is_empty() => Err(format!("{host}: {why}")),
        None if allowed.is_empty() => Err(format!("cannot resolve {host}: it has no address")),
        _ => Ok(allowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_denied_in_every_spelling() {
        for address in ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fd00:ec2::254"] {
            assert!(denied(address.parse().unwrap()).is_some(), "{address}");
        }
        for address in ["127.0.0.1", "10.0.0.1", "::1", "fd00::1"] {
            assert!(denied(address.parse().unwrap()).is_none(), "{address}");
        }
    }

    #[tokio::test]
    async fn a_literal_address_is_checked_like_a_name() {
        assert!(resolve("169.254.169.254", 80).await.unwrap_err().contains("metadata"));
        assert_eq!(resolve("127.0.0.1", 80).await.unwrap().len(), 1);
    }
}
