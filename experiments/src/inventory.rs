//! What the coordinator knows of its nodes: the live side of planning.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// All nodes that are known, by name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Inventory {
    pub nodes: BTreeMap<String, Node>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Node {
    pub name: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Only connected nodes can be targets.
    pub connected: bool,
    pub facts: Facts,
}

/// What an agent found out about its host.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Facts {
    /// Of squalld.
    pub version: String,
    /// Release, as `uname -r` prints it.
    pub kernel: String,
    pub boot_id: String,
    pub cpus: u32,
    pub memory_bytes: u64,
    /// Addresses by which peers reach this node (loopback and link-local left out).
    #[schemars(with = "Vec<String>")]
    pub addresses: Vec<IpAddr>,
    pub interfaces: Vec<Interface>,
    /// What this host can do, each answer tried and not guessed.
    pub abilities: BTreeMap<Ability, Can>,
    /// Some abilities are not tried yet and missing above; the agent says them in `FactsNow`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trying: bool,
    /// Faults that the node's policy allows, with the policy's name; what a plan is checked against before any order is sent.
    pub allowed_faults: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interface {
    pub name: String,
    #[schemars(with = "Vec<String>")]
    pub addresses: Vec<IpAddr>,
    pub up: bool,
    pub mtu: u32,
    /// Kind of the root queueing discipline, e.g. `fq_codel`, `noqueue`.
    pub root_qdisc: String,
}

/// A thing of the kernel (or a privilege) on which an effect stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ability {
    /// nf_tables with tables owned by a socket.
    PacketFilter,
    /// nft conntrack states: `connections: established | new`.
    ConnectionState,
    /// NFQUEUE with bypass (nft's own `queue` or the xtables target).
    PacketQueue,
    /// sch_netem below a prio qdisc.
    Netem,
    /// pidfd_open and pidfd_send_signal.
    ProcessSignal,
    /// ptrace of foreign processes.
    ProcessFreeze,
    /// fallocate on an O_TMPFILE file.
    HoldSpace,
    /// Burn processors and memory.
    Pressure,
}

impl Ability {
    pub const ALL: [Ability; 8] = [
        Ability::PacketFilter,
        Ability::ConnectionState,
        Ability::PacketQueue,
        Ability::Netem,
        Ability::ProcessSignal,
        Ability::ProcessFreeze,
        Ability::HoldSpace,
        Ability::Pressure,
    ];
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Can {
    Yes,
    /// With what is missing, and what would help.
    No {
        why: String,
        hint: String,
    },
}

impl Facts {
    /// Why this host cannot, or None if it can. An ability never reported counts as missing.
    pub fn cannot(&self, ability: Ability) -> Option<String> {
        match self.abilities.get(&ability) {
            Some(Can::Yes) => None,
            Some(Can::No { why, hint }) if hint.is_empty() => Some(why.clone()),
            Some(Can::No { why, hint }) => Some(format!("{why} ({hint})")),
            None if self.trying => Some("this ability is still being tried".to_owned()),
            None => Some("the agent did not report this ability".to_owned()),
        }
    }
}
