//! Addresses that a probe may not talk to: an experiment must not read a cloud's instance metadata through the coordinator.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

/// Metadata services outside of 169.254.0.0/16.
const METADATA_V4: [Ipv4Addr; 2] = [
    // Alibaba Cloud.
    Ipv4Addr::new(100, 100, 100, 200),
    // Azure's WireServer, which hands out certificates and extensions' settings.
    Ipv4Addr::new(168, 63, 129, 16),
];
/// Metadata services outside of fe80::/10.
const METADATA_V6: [Ipv6Addr; 2] = [
    // AWS.
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    // Google Cloud.
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// Why not, or None if it may.
pub fn denied(address: IpAddr) -> Option<&'static str> {
    let no = match address {
        IpAddr::V4(v4) => denied_v4(v4),
        IpAddr::V6(v6) => {
            // RFC 4291 section 2.5.6.
            v6.is_unicast_link_local() || METADATA_V6.contains(&v6) || embedded(v6).into_iter().flatten().any(denied_v4)
        }
    };
    no.then_some("link-local and metadata addresses are not probed")
}

fn denied_v4(v4: Ipv4Addr) -> bool {
    // RFC 3927; 169.254.169.254 is the metadata service of most clouds.
    v4.is_link_local() || METADATA_V4.contains(&v4)
}

/// Addresses of version 4 to which a host or a gateway may take this one.
fn embedded(v6: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let octets = v6.octets();
    let at = |places: [usize; 4]| Ipv4Addr::from(places.map(|place| octets[place]));
    let last = at([12, 13, 14, 15]);
    match v6.segments() {
        // Compatible and mapped (RFC 4291 section 2.5.5), translated (RFC 2765), NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] | [0, 0, 0, 0, 0xffff, 0, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => {
            [Some(last), None]
        }
        // A network's own NAT64 (RFC 8215): with a prefix of 96 bits, or of 48, which jumps over the ninth octet.
        [0x64, 0xff9b, 1, ..] => [Some(last), Some(at([6, 7, 9, 10]))],
        // 6to4 (RFC 3056).
        [0x2002, ..] => [Some(at([2, 3, 4, 5])), None],
        // Teredo (RFC 4380): the client's address has its bits inverted.
        [0x2001, 0, ..] => [Some(Ipv4Addr::from(!u32::from(last))), None],
        // ISATAP (RFC 5214), in whatever prefix.
        [_, _, _, _, 0 | 0x200, 0x5efe, _, _] => [Some(last), None],
        _ => [None, None],
    }
}

type Looking = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// How names become addresses. Each request looks once, and connects to what was judged here and to nothing else: a name whose answer
/// changes in between wins nothing.
#[derive(Clone)]
pub struct Names(Arc<dyn Fn(String, u16) -> Looking + Send + Sync>);

impl Default for Names {
    /// The system's.
    fn default() -> Self {
        Names(Arc::new(|host, port| {
            Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
        }))
    }
}

impl Names {
    /// Resolves `host:port` and leaves out what is denied.
    ///
    /// # Errors
    /// A sentence: the name cannot be resolved, or every address of it is denied.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let found = (self.0)(host.to_owned(), port).await.map_err(|error| format!("cannot resolve {host}: {error}"))?;
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

    /// One list of addresses for each look, the last one for all looks after it; and how many looks there were.
    #[cfg(test)]
    pub fn told(looks: &[&[&str]]) -> (Names, Arc<std::sync::atomic::AtomicUsize>) {
        let looks: Vec<Vec<IpAddr>> =
            looks.iter().map(|look| look.iter().map(|address| address.parse().unwrap()).collect()).collect();
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = count.clone();
        let answer = move |_, port| -> Looking {
            let look = counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed).min(looks.len() - 1);
            let found = looks[look].iter().map(|address| SocketAddr::new(*address, port)).collect();
            Box::pin(std::future::ready(Ok(found)))
        };
        (Names(Arc::new(answer)), count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_denied_in_every_spelling() {
        for address in [
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "fe80::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "::100.100.100.200",
            "::ffff:0:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b::168.63.129.16",
            "64:ff9b:1::169.254.169.254",
            "64:ff9b:1:a9fe:a9:fe00::",
            "2002:a9fe:a9fe::1",
            "2002:6464:64c8::",
            "2001:0:1:2:3:4:5601:5601",
            "fd00::5efe:169.254.169.254",
            "2001:db8::200:5efe:169.254.169.254",
        ] {
            assert!(denied(address.parse().unwrap()).is_some(), "{address}");
        }
        for address in [
            "127.0.0.1",
            "10.0.0.1",
            "100.100.100.201",
            "168.63.129.17",
            "::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:a00:1::1",
            "2001:db8::a9fe:a9fe",
            "fd00::a9fe:a9fe",
        ] {
            assert!(denied(address.parse().unwrap()).is_none(), "{address}");
        }
    }

    #[tokio::test]
    async fn a_literal_address_is_checked_like_a_name() {
        let names = Names::default();
        // Decimal, octal and hexadecimal as inet_aton(3) reads them.
        for host in ["169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376"] {
            let error = names.resolve(host, 80).await.unwrap_err();
            assert!(error.contains("metadata") || error.contains("cannot resolve"), "{host}: {error}");
        }
        assert_eq!(names.resolve("127.0.0.1", 80).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn of_a_names_addresses_the_denied_ones_are_left_out() {
        let (names, _) =
            Names::told(&[&["169.254.169.254", "10.0.0.1", "64:ff9b::a9fe:a9fe"], &["fd00:ec2::254"], &[]]);
        let allowed = names.resolve("shop", 80).await.unwrap();
        assert_eq!(allowed, ["10.0.0.1:80".parse().unwrap()]);
        assert!(names.resolve("shop", 80).await.unwrap_err().contains("shop: link-local and metadata"));
        assert!(names.resolve("shop", 80).await.unwrap_err().contains("it has no address"));
    }
}
