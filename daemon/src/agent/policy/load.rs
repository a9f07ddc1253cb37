//! Load: only where the node's owner has said to whom, and how much.

use std::net::{IpAddr, SocketAddr};

use squall_experiments::effect::Effect;
use squall_experiments::metadata_address;

use super::Policy;

impl Policy {
    /// Of all effects of an order together.
    pub(super) fn load_refusals(&self, effects: &[Effect]) -> Option<String> {
        let loads: Vec<f64> = effects
            .iter()
            .filter_map(|effect| if let Effect::Load(load) = effect { Some(load.peak()) } else { None })
            .collect();
        if loads.is_empty() {
            return None;
        }
        let Some(limit) = &self.load_rate else {
            let hint = "a node that may send load has `load: {targets: [10.0.0.0/8], rate: 500}` in its policy";
            return Some(format!("policy {}: it allows no load ({hint})", self.source));
        };
        let asked: f64 = loads.iter().sum();
        (asked > limit.value).then(|| {
            let at = self.at(limit.line);
            format!("{at}: a load of {asked} requests per second is above this node's limit of {}", limit.value)
        })
    }

    /// By the addresses that names came to mean. Those of metadata services and those of nobody are never spoken to.
    pub(super) fn load_target_refusals(&self, hosts: &[(String, Vec<SocketAddr>)]) -> Vec<String> {
        let mut reasons = Vec::new();
        for (host, address) in
            hosts.iter().flat_map(|(host, addresses)| addresses.iter().map(move |it| (host, it.ip())))
        {
            let address = address.to_canonical();
            let never = match address {
                IpAddr::V4(v4) => v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast(),
                IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
            };
            if never || metadata_address::denied(address).is_some() {
                reasons.push(format!("{host} is {address}, to which no load is sent"));
            } else if !self.load_targets.iter().any(|rule| rule.value.contains(&address)) {
                let at = self.load_rate.as_ref().map_or_else(|| self.source.clone(), |rule| self.at(rule.line));
                reasons.push(format!("{at}: {host} is {address}, which is not among the targets of load on this node"));
            }
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        let text = "apiVersion: squall/v1\nkind: Policy\nload: {targets: [10.77.0.0/24, 0.0.0.0/0, 64:ff9b::/96], rate: 100}\n";
        Policy::parse("node.yaml", text).unwrap()
    }

    fn refused(policy: &Policy, address: &str) -> String {
        policy.load_target_refusals(&[("shop".to_owned(), vec![address.parse().unwrap()])]).join("; ")
    }

    #[test]
    fn load_goes_to_listed_networks_only_and_never_to_a_metadata_service() {
        assert_eq!(refused(&policy(), "10.77.0.9:80"), "");
        for never in [
            "169.254.169.254:80",
            "[::ffff:169.254.169.254]:80",
            "[64:ff9b::169.254.169.254]:80",
            "168.63.129.16:80",
            "[fe80::1]:80",
            "0.0.0.0:80",
            "224.0.0.1:80",
        ] {
            assert!(refused(&policy(), never).contains("no load is sent"), "{never}");
        }
        assert!(
            refused(&policy(), "[fd00::1]:80").starts_with("policy node.yaml:3: shop is fd00::1, which is not among")
        );
    }

    #[test]
    fn half_a_permission_is_a_mistake() {
        for half in
            ["load: {rate: 5}", "load: {targets: [10.0.0.0/8]}", "load: {targets: [10.0.0.0/8], rate: 0}", "load: {}"]
        {
            let error =
                Policy::parse("node.yaml", &format!("apiVersion: squall/v1\nkind: Policy\n{half}\n")).unwrap_err();
            assert!(error.to_string().contains("node.yaml:3:"), "{error}");
        }
    }
}
