//! What a fault hits: nodes first, then processes on them.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Percent;

/// Which nodes. `names`, `zone` and label entries must all hold; an empty selector matches every node.
///
/// Written as `{role: database}` (labels), `{name: db1}`, `{names: [db1, db2]}` or `{zone: a}`, or a mix.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct NodeSelector {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Every other entry is a label that the node must carry with this value.
    #[serde(flatten)]
    pub labels: BTreeMap<String, String>,
}

/// How many of the matching nodes (or processes). At most one field; none means all.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pick {
    /// Exactly this many; fewer matches is a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Rounded down; a share that rounds to zero is a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<Percent>,
    /// Of the choice. Without it the run's seed decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// `on:` of a fault.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Default: every node.
    #[serde(default)]
    pub nodes: NodeSelector,
    /// Default: all that match.
    #[serde(default)]
    pub pick: Pick,
    /// Which processes on each node, for process faults. For network faults: in the network that these have for themselves (those of
    /// one container); default: in the node's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<ProcessSelector>,
    /// Which interface, for network faults. Default: all but loopback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Which directory, for filesystem faults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Which processes. At least one condition; all that are given must hold. Resolved by the agent, to pidfd + start time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ProcessSelector {
    /// The kernel's name of it (`/proc/PID/comm`, cut at 15 bytes) or the file name of its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A pattern over the whole command line, arguments joined by single spaces: `*` any run of characters, `?` one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Name or number of the effective user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A file whose first line is the process id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_file: Option<String>,
    /// Path of its cgroup below the hierarchy's root (this or below it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Its systemd unit, with suffix: `postgresql.service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The container that it is in: the name that Docker, Podman, nerdctl or Kubernetes' containerd has for it (there also
    /// `POD/CONTAINER`), or the first 12 or more digits of its id. Looked up in what the runtime keeps on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The TCP port it listens on (or the UDP port it is bound to).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How many of those that match. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pick: Option<Pick>,
}

impl fmt::Display for ProcessSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let texts = [
            ("name", &self.name),
            ("command", &self.command),
            ("user", &self.user),
            ("pidFile", &self.pid_file),
            ("cgroup", &self.cgroup),
            ("unit", &self.unit),
            ("container", &self.container),
        ];
        parts.extend(texts.iter().filter_map(|(key, value)| value.as_ref().map(|v| format!("{key}={v}"))));
        parts.extend(self.port.map(|port| format!("port={port}")));
        f.write_str(&parts.join(","))
    }
}
