//! What this host is and can do; each answer tried, not guessed, and leaving nothing behind.

pub mod host;
pub mod network;

use std::collections::BTreeMap;
use std::net::IpAddr;

use squall_experiments::inventory::{Facts, Interface};

use super::kernel::procfs;

/// Everything. Takes some 10 ms the first time (the network's abilities are tried in a throw-away namespace), then a few.
pub fn gather(allowed_faults: &[String]) -> Facts {
    let abilities = network::abilities().into_iter().chain(host::abilities()).collect();
    Facts { abilities, trying: false, ..quick(allowed_faults) }
}

/// What is found by reading alone, in less than a millisecond: no ability is tried yet.
pub fn quick(allowed_faults: &[String]) -> Facts {
    let interfaces = network::interfaces().unwrap_or_default();
    Facts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: line("/proc/sys/kernel/osrelease"),
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        cpus: host::cpus(),
        memory_bytes: procfs::memory("MemTotal").unwrap_or(0),
        addresses: reachable(&interfaces),
        interfaces,
        abilities: BTreeMap::new(),
        trying: true,
        allowed_faults: allowed_faults.to_vec(),
    }
}

fn line(file: &str) -> String {
    std::fs::read_to_string(file).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Those by which a peer can mean this node and no other.
fn reachable(interfaces: &[Interface]) -> Vec<IpAddr> {
    let of_one_node = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local() && !v6.is_unspecified(),
    };
    let mut found: Vec<IpAddr> =
        interfaces.iter().flat_map(|interface| &interface.addresses).copied().filter(of_one_node).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_mean_one_node_are_told() {
        let interface = |addresses: &[&str]| Interface {
            name: "any".into(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            up: true,
            mtu: 1500,
            root_qdisc: "noqueue".into(),
        };
        let interfaces =
            [interface(&["127.0.0.1", "::1"]), interface(&["10.0.0.2", "fe80::1", "fd00::2", "169.254.1.1"])];
        let expected: Vec<IpAddr> = vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        assert_eq!(reachable(&interfaces), expected);
    }
}
