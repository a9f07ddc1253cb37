//! The lock-out guard: management flows that a network fault leaves alone, resolved on this host, now.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use cidr::IpCidr;
use squall_experiments::effect::{Flow, Protocol, Spare};

use super::effects::SparedFlow;
use super::kernel::listeners::{self, Listener};

const SSH: u16 = 22;
const DNS: u16 = 53;
/// Router and neighbour solicitation and advertisement, redirect (RFC 4861).
const NEIGHBOUR_DISCOVERY: [u8; 5] = [133, 134, 135, 136, 137];

/// Both directions of each flow are spared.
pub fn resolve(flow: &Flow, coordinator: Option<SocketAddr>) -> Vec<SparedFlow> {
    let wanted: BTreeSet<Spare> = flow.spare.iter().copied().collect();
    wanted.into_iter().flat_map(|spare| flows(spare, coordinator)).collect()
}

fn flows(spare: Spare, coordinator: Option<SocketAddr>) -> Vec<SparedFlow> {
    match spare {
        Spare::Coordinator => coordinator
            .map(|address| SparedFlow {
                // An IPv4 peer of a dual-stack socket is IPv4 on the wire.
                peer: Some(IpCidr::new_host(address.ip().to_canonical())),
                protocol: Some(Protocol::Tcp),
                remote_port: Some(address.port()),
                ..named(format!("channel to the coordinator at {address}"))
            })
            .into_iter()
            .collect(),
        Spare::Ssh => ssh_ports(Path::new("/proc"), listeners::tcp)
            .into_iter()
            .map(|port| SparedFlow {
                protocol: Some(Protocol::Tcp),
                local_port: Some(port),
                ..named(format!("SSH sessions on port {port}"))
            })
            .collect(),
        Spare::Dns => [Protocol::Udp, Protocol::Tcp]
            .into_iter()
            .flat_map(|protocol| {
                [(Some(DNS), None), (None, Some(DNS))].map(|(local, remote)| (protocol, local, remote))
            })
            .map(|(protocol, local_port, remote_port)| SparedFlow {
                protocol: Some(protocol),
                local_port,
                remote_port,
                ..named("DNS".to_owned())
            })
            .collect(),
        Spare::Neighbours => {
            vec![SparedFlow {
                icmpv6_types: NEIGHBOUR_DISCOVERY.to_vec(),
                ..named("IPv6 neighbour and router discovery".to_owned())
            }]
        }
        Spare::Loopback => vec![SparedFlow { interface: Some("lo".to_owned()), ..named("loopback".to_owned()) }],
    }
}

fn named(why: String) -> SparedFlow {
    SparedFlow {
        why,
        peer: None,
        protocol: None,
        local_port: None,
        remote_port: None,
        interface: None,
        icmpv6_types: Vec::new(),
    }
}

/// Every port on which a process named sshd listens in this network namespace; 22 if there is none.
fn ssh_ports(proc: &Path, listeners: impl FnOnce() -> Vec<Listener>) -> BTreeSet<u16> {
    let mut sockets = HashSet::new();
    for process in fs::read_dir(proc).into_iter().flatten().flatten() {
        let path = process.path();
        if fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim_end() == "sshd") {
            let descriptors = fs::read_dir(path.join("fd")).into_iter().flatten().flatten();
            sockets.extend(descriptors.filter_map(|fd| socket_inode(fs::read_link(fd.path()).ok()?.to_str()?)));
        }
    }
    let listeners = if sockets.is_empty() { Vec::new() } else { listeners() };
    let mut ports: BTreeSet<u16> =
        listeners.into_iter().filter(|found| sockets.contains(&found.inode)).map(|found| found.port).collect();
    if ports.is_empty() {
        ports.insert(SSH);
    }
    ports
}

/// `socket:[12345]` (proc_pid_fd(5)).
fn socket_inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_port_of_every_sshd_is_spared_and_no_other() {
        let proc = tempfile::tempdir().unwrap();
        let at = |path: &str| proc.path().join(path);
        for (pid, name, inode) in [(10, "sshd", 100), (11, "nginx", 200), (12, "sshd", 300)] {
            fs::create_dir_all(at(&format!("{pid}/fd"))).unwrap();
            fs::write(at(&format!("{pid}/comm")), format!("{name}\n")).unwrap();
            symlink(format!("socket:[{inode}]"), at(&format!("{pid}/fd/3"))).unwrap();
        }
        let listeners = [(2222, 100), (80, 200), (2022, 300)].map(|(port, inode)| Listener { port, inode });
        let ports = ssh_ports(proc.path(), || listeners.to_vec());
        assert_eq!(ports, BTreeSet::from([2022, 2222]));
    }

    #[test]
    fn without_an_ssh_server_its_usual_port_is_spared() {
        let proc = tempfile::tempdir().unwrap();
        assert_eq!(ssh_ports(proc.path(), Vec::new), BTreeSet::from([22]));
    }

    #[test]
    fn only_what_the_flow_asks_for_is_spared() {
        let coordinator = Some("10.0.0.9:7400".parse().unwrap());
        let flow = Flow { spare: vec![Spare::Coordinator, Spare::Neighbours], ..Flow::default() };
        let spared = resolve(&flow, coordinator);
        assert_eq!(spared.len(), 2);
        assert_eq!(spared[0].remote_port, Some(7400));
        assert!(resolve(&Flow::default(), coordinator).is_empty());
    }
}
