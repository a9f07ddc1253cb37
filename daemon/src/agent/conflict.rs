//! Conflicting faults are refused, not merged by luck: one writer for each thing on this host.

use std::os::unix::fs::MetadataExt;

use squall_experiments::effect::{ConflictKey, Effect};

use super::effects::Trace;

/// What one injection occupies.
#[derive(Debug, Clone, Default)]
pub struct Occupied {
    keys: Vec<ConflictKey>,
    /// Device numbers: two paths may be one filesystem.
    devices: Vec<u64>,
    traces: Vec<Trace>,
    /// Numbers of networks that are not ours: two containers may share one.
    networks: Vec<u64>,
}

impl Occupied {
    /// Reads the host (which filesystem a path is on), changes nothing.
    pub fn by<'a>(effects: &[Effect], traces: impl Iterator<Item = &'a Trace>) -> Occupied {
        let device = |effect: &Effect| match effect {
            Effect::HoldSpace(space) => std::fs::metadata(&space.path).ok().map(|metadata| metadata.dev()),
            _ => None,
        };
        let traces: Vec<Trace> = traces.cloned().collect();
        let inside = effects.iter().filter_map(Effect::flow).any(|flow| flow.inside.is_some());
        let network = |trace: &Trace| match trace {
            Trace::NftTable { network: Some(network), .. } if inside => Some(network.inode),
            _ => None,
        };
        Occupied {
            networks: traces.iter().filter_map(network).collect(),
            keys: effects.iter().map(Effect::conflict_key).collect(),
            devices: effects.iter().filter_map(device).collect(),
            traces,
        }
    }

    /// What both want, if they cannot both have it.
    pub fn conflict(&self, other: &Occupied) -> Option<String> {
        let key = self.keys.iter().find(|mine| other.keys.iter().any(|theirs| overlap(mine, theirs)));
        let device = || self.devices.iter().any(|device| other.devices.contains(device));
        let network = || self.networks.iter().any(|network| other.networks.contains(network));
        let trace = || self.traces.iter().find(|trace| other.traces.contains(trace));
        match key {
            Some(key) => Some(key.to_string()),
            None if device() => Some("the same filesystem".to_owned()),
            None if network() => Some("the same container's network".to_owned()),
            None => trace().map(|trace| match trace {
                Trace::Frozen { process } => format!("process {}", process.pid),
                Trace::Service { service, .. } => format!("the service {}", service.name),
                other => format!("{other:?}"),
            }),
        }
    }
}

/// Equal, or one of them means all of its kind (`network:all` and `network:eth0`).
fn overlap(one: &ConflictKey, other: &ConflictKey) -> bool {
    if one == other {
        return true;
    }
    match (one.0.split_once(':'), other.0.split_once(':')) {
        (Some((kind, name)), Some((other_kind, other_name))) => {
            kind == other_kind && (name == "all" || other_name == "all")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_interfaces_overlap_with_each_and_two_interfaces_do_not() {
        let key = |text: &str| ConflictKey(text.to_owned());
        assert!(overlap(&key("network:all"), &key("network:eth0")));
        assert!(overlap(&key("network:eth0"), &key("network:eth0")));
        assert!(!overlap(&key("network:eth0"), &key("network:eth1")));
        assert!(!overlap(&key("network:all"), &key("filesystem:all")));
        assert!(overlap(&key("cpu"), &key("cpu")));
        assert!(!overlap(&key("cpu"), &key("memory")));
    }
}
