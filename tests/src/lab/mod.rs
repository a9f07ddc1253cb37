//! Throw-away hosts: each a first process with network, pid, mount, UTS and IPC namespaces of its own, joined by a bridge in a
//! namespace of its own. Their files are the machine's, read-only; what they may write is theirs and goes with them.
//! No traffic leaves the lab: it has no way out.
//!
//! ```no_run
//! let lab = squall_tests::lab::Lab::new().host("lb").host("web1").start();
//! assert!(lab.host("lb").run("ping", &["-c1", "web1"]).ok());
//! ```

mod host;
pub mod init;
pub mod programs;
pub mod snapshot;

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

pub use host::{Finished, Host, Running, wait_until};
use init::Birth;

/// A lab that is not started yet.
#[derive(Default)]
pub struct Blueprint {
    hosts: Vec<String>,
    aliases: Vec<(String, String)>,
    boottime_ahead: Duration,
}

/// Running hosts. Dropped, nothing of it is left; the same if this process is killed.
pub struct Lab {
    hosts: Vec<Host>,
    _switch: Host,
}

impl Lab {
    #[allow(clippy::new_ret_no_self, reason = "a lab exists only once it is started")]
    pub fn new() -> Blueprint {
        Blueprint::default()
    }

    /// Host of that name. Panics if the lab has none.
    pub fn host(&self, name: &str) -> &Host {
        self.hosts.iter().find(|host| host.name() == name).unwrap_or_else(|| panic!("the lab has no host {name}"))
    }

    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// A second way between two hosts, past the switch: the interface `eth1` of both, 10.78.0.1 and 10.78.0.2.
    pub fn wire(&self, one: &str, other: &str) -> (IpAddr, IpAddr) {
        let (one, other) = (self.host(one), self.host(other));
        one.ip_batch_from_outside(&format!("link add eth1 type veth peer name eth1 netns {}\n", other.init_pid()));
        let addresses = [1, 2].map(|last| Ipv4Addr::new(10, 78, 0, last));
        for (host, address) in [one, other].into_iter().zip(addresses) {
            host.ip_batch_from_outside(&format!("addr add {address}/24 dev eth1\nlink set eth1 up\n"));
        }
        (addresses[0].into(), addresses[1].into())
    }
}

impl Blueprint {
    pub fn host(mut self, name: &str) -> Self {
        assert!(name.len() <= 12, "{name}: host names in the lab are at most 12 bytes");
        self.hosts.push(name.to_owned());
        self
    }

    /// Another name for a host.
    pub fn alias(mut self, alias: &str, host: &str) -> Self {
        self.aliases.push((alias.to_owned(), host.to_owned()));
        self
    }

    /// CLOCK_BOOTTIME of its hosts is ahead of CLOCK_MONOTONIC, as after so long a suspend.
    pub fn boottime_ahead(self, by: Duration) -> Self {
        Blueprint { boottime_ahead: by, ..self }
    }

    pub fn hosts(self, names: &[&str]) -> Self {
        names.iter().fold(self, |blueprint, name| blueprint.host(name))
    }

    /// Panics if a host does not come up: there is no test without it.
    pub fn start(self) -> Lab {
        let mut hosts_file = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
        for (index, name) in self.hosts.iter().enumerate() {
            let _ = writeln!(hosts_file, "{} {name} {name}.lab\n{} {name} {name}.lab", ipv4(index), ipv6(index));
            for (alias, _) in self.aliases.iter().filter(|(_, host)| host == name) {
                let _ = writeln!(hosts_file, "{} {alias}", ipv4(index));
            }
        }
        let born = |name: &str| {
            let keep = vec![programs::root(), programs::built()];
            let boottime_ahead = self.boottime_ahead.as_secs();
            Birth { name: name.to_owned(), hosts: hosts_file.clone(), keep, boottime_ahead }
        };
        // All are started before the first is waited for.
        let switch = Host::conceive(&born("switch"), Vec::new());
        let hosts: Vec<_> = self
            .hosts
            .iter()
            .enumerate()
            .map(|(index, name)| Host::conceive(&born(name), vec![ipv4(index), ipv6(index)]))
            .collect();
        let switch = switch.born();
        let hosts: Vec<Host> = hosts.into_iter().map(host::Unborn::born).collect();
        let mut wires =
            "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set br0 up\n".to_owned();
        for (index, host) in hosts.iter().enumerate() {
            let _ = writeln!(wires, "link add p{index} type veth peer name eth0 netns {}", host.init_pid());
            let _ = writeln!(wires, "link set p{index} master br0 up");
        }
        // `netns PID` means a pid of the caller's own pid namespace: the switch is entered by its network alone.
        switch.ip_batch_from_outside(&wires);
        for (index, host) in hosts.iter().enumerate() {
            host.ip_batch_from_outside(&format!(
                "link set lo up\naddr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\nlink set eth0 up\n",
                ipv4(index),
                ipv6(index)
            ));
        }
        Lab { hosts, _switch: switch }
    }
}

fn ipv4(index: usize) -> IpAddr {
    Ipv4Addr::new(10, 77, 0, u8::try_from(index + 1).expect("at most 254 hosts")).into()
}

fn ipv6(index: usize) -> IpAddr {
    let index = u16::try_from(index + 1).expect("at most 254 hosts");
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, index).into()
}

/// Inode of a namespace (`net`, `mnt`) of this process: the machine's own, in which no agent of a lab may act.
pub fn machine_namespace(kind: &str) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(format!("/proc/self/ns/{kind}")).expect("/proc is mounted").ino()
}

fn helper() -> PathBuf {
    let path = programs::built().join("squall-lab");
    assert!(path.is_file(), "{} is not built: run `cargo build -p squall-tests`", path.display());
    path
}
