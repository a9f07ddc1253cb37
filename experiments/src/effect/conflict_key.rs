//! What an effect occupies, and whether two of them could touch the same thing.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an effect occupies, so that two faults never share it. The second is refused and told who holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ConflictKey(pub String);

impl fmt::Display for ConflictKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ConflictKey {
    /// May two effects with these keys touch the same thing? When that cannot be known here, the answer is yes: all interfaces
    /// and each one, a directory and what is below it, two process selectors that no condition tells apart.
    pub fn overlaps(&self, other: &ConflictKey) -> bool {
        let split = |key: &'_ str| key.split_once(':').map(|(kind, what)| (kind.to_owned(), what.to_owned()));
        let (Some((kind, a)), Some((other_kind, b))) = (split(&self.0), split(&other.0)) else { return self == other };
        if kind != other_kind {
            return false;
        }
        match kind.as_str() {
            "network" => a == "all" || b == "all" || a == b,
            "filesystem" => {
                let parts = |path: &str| path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
                let (a, b): (Vec<String>, Vec<String>) = (parts(&a), parts(&b));
                a.starts_with(&b) || b.starts_with(&a)
            }
            // Two selectors that no condition tells apart may mean the same processes, or processes that share a network.
            "process" | "network-of" => {
                let condition = |text: &str, field: &str| {
                    text.split(',').find_map(|part| part.strip_prefix(field)?.strip_prefix('=').map(str::to_owned))
                };
                // A container has one plain name, and besides an id and a name within its pod.
                let container = |text: &str| condition(text, "container").filter(|name| is_plain_name(name));
                let differ = |a: Option<String>, b: Option<String>| matches!((a, b), (Some(a), Some(b)) if a != b);
                // Of these a process has one each, so another value is another process.
                !(["name", "user", "pidFile", "unit", "port"]
                    .iter()
                    .any(|field| differ(condition(&a, field), condition(&b, field)))
                    || differ(container(&a), container(&b)))
            }
            _ => a == b,
        }
    }
}

/// Neither `POD/CONTAINER` nor what may be the beginning of an id.
fn is_plain_name(container: &str) -> bool {
    let may_be_an_id = container.len() >= 12 && container.bytes().all(|byte| byte.is_ascii_hexdigit());
    !container.contains('/') && !may_be_an_id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlap(a: &str, b: &str) -> bool {
        let (a, b) = (ConflictKey(a.into()), ConflictKey(b.into()));
        assert_eq!(a.overlaps(&b), b.overlaps(&a), "the order does not matter");
        a.overlaps(&b)
    }

    #[test]
    fn keys_overlap_where_two_effects_could_touch_the_same_thing() {
        assert!(overlap("network:all", "network:eth0"));
        assert!(!overlap("network:all", "network-of:container=web-1"));
        assert!(overlap("network-of:name=nginx", "network-of:container=web-1"));
        assert!(!overlap("network-of:container=web-1", "network-of:container=web-2"));
        assert!(!overlap("network:eth1", "network:eth0"));
        assert!(overlap("filesystem:/var", "filesystem:/var/lib/"));
        assert!(!overlap("filesystem:/var/lib", "filesystem:/var/library"));
        assert!(overlap("process:name=nginx", "process:user=www-data"));
        assert!(!overlap("process:name=nginx,port=80", "process:name=haproxy"));
        assert!(!overlap("process:container=web-1", "process:container=web-2"));
        assert!(overlap("process:container=web-1", "process:container=0123456789ab"));
        assert!(overlap("process:container=app", "process:container=checkout-1/app"));
        assert!(overlap("process:all", "process:name=nginx,port=80"));
        assert!(!overlap("service:web", "service:database"));
        assert!(overlap("cpu", "cpu"));
        assert!(!overlap("cpu", "memory"));
        assert!(!overlap("network:all", "process:name=nginx"));
    }
}
