//! Addresses to which neither a probe, a notification nor a load may lead: link-local ones, and metadata services of clouds, which hand out credentials
//! to whoever asks from the right host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
}
