//! A made-up fleet: what agents would have said of their hosts.

use squall_experiments::faults;
use squall_experiments::inventory::{Ability, Can, Facts, Interface, Inventory, Node};

/// A connected node that can do everything but netem (like many cloud kernels).
pub fn node(name: &str, role: &str, zone: &str, address: &str) -> Node {
    let address = address.parse().expect("an address");
    let no_netem = Can::No { why: "this kernel has no sch_netem".into(), hint: String::new() };
    let can = |ability| if ability == Ability::Netem { no_netem.clone() } else { Can::Yes };
    Node {
        name: name.into(),
        labels: [("role".to_owned(), role.to_owned())].into(),
        zone: Some(zone.into()),
        connected: true,
        facts: Facts {
            version: "0.1.0".into(),
            kernel: "6.12.0".into(),
            boot_id: format!("boot-of-{name}"),
            cpus: 4,
            memory_bytes: 8 << 30,
            addresses: vec![address],
            interfaces: vec![Interface {
                name: "eth0".into(),
                addresses: vec![address],
                up: true,
                mtu: 1500,
                root_qdisc: "noqueue".into(),
            }],
            abilities: Ability::ALL.into_iter().map(|ability| (ability, can(ability))).collect(),
            trying: false,
            allowed_faults: faults::ALL.iter().map(|fault| fault.name.to_owned()).collect(),
        },
    }
}

pub fn inventory(nodes: impl IntoIterator<Item = Node>) -> Inventory {
    Inventory { nodes: nodes.into_iter().map(|node| (node.name.clone(), node)).collect() }
}

/// A load balancer, three web servers, five database replicas.
pub fn shop() -> Inventory {
    let mut nodes = vec![node("lb", "proxy", "a", "10.0.0.2")];
    for (index, zone) in (1..=3).zip(["a", "b", "c"]) {
        nodes.push(node(&format!("web{index}"), "web", zone, &format!("10.0.1.{index}")));
    }
    for (index, zone) in (1..=5).zip(["a", "b", "c", "a", "b"]) {
        nodes.push(node(&format!("db{index}"), "database", zone, &format!("10.0.2.{index}")));
    }
    inventory(nodes)
}

/// The shop of docs/shop.md.
#[allow(dead_code, reason = "not every test that has a fleet has this one")]
pub fn ha_shop() -> Inventory {
    let hosts = [
        ("lb", "balancer", "a"),
        ("web1", "web", "a"),
        ("web2", "web", "b"),
        ("web3", "web", "c"),
        ("db1", "database", "a"),
        ("db2", "database", "b"),
        ("db3", "database", "c"),
        ("cache", "cache", "a"),
        ("rec", "recommendations", "b"),
        ("mon", "monitoring", "a"),
        ("offsite", "offsite", "d"),
        ("street", "customers", "d"),
    ];
    let mut nodes: Vec<Node> = (1..)
        .zip(hosts)
        .map(|(index, (name, role, zone))| node(name, role, zone, &format!("10.77.0.{index}")))
        .collect();
    for node in &mut nodes {
        node.labels.insert("service".into(), "shop".into());
        if node.name.starts_with("db") {
            let role = if node.name == "db2" { "primary" } else { "replica" };
            node.labels.insert("database".into(), role.into());
        }
    }
    inventory(nodes)
}
