//! A node's own limits, which no coordinator can widen. Every refusal says which line of the policy it stands on.

mod check;
mod load;
mod malformed;
mod read;
mod whole;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cidr::IpCidr;
use squall_experiments::effect::{Effect, Spare};
use squall_experiments::units::{Percent, Size, Span};

use crate::agent::effects::service::Service;

pub use check::{Protected, hits_processes};
pub use malformed::selector_reasons;

const DEFAULT: &str = include_str!("default.yaml");

/// A value and the line on which it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule<T> {
    pub value: T,
    pub line: usize,
}

/// Without `allow`, everything that is not denied is allowed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Names {
    pub allow: Option<(usize, Vec<Rule<String>>)>,
    pub deny: Vec<Rule<String>>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Limits {
    pub duration: Option<Rule<Span>>,
    pub lease: Option<Rule<Span>>,
    /// Of latency and jitter together.
    pub latency: Option<Rule<Span>>,
    /// Of random loss and of cuts (a cut is 100 %).
    pub loss: Option<Rule<Percent>>,
    pub space: Option<Rule<Size>>,
    /// Of the filesystem.
    pub space_share: Option<Rule<Percent>>,
    pub memory: Option<Rule<Size>>,
    /// Of the host's memory.
    pub memory_share: Option<Rule<Percent>>,
    pub workers: Option<Rule<u32>>,
    /// Of each worker's duty cycle.
    pub load: Option<Rule<Percent>>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Policy {
    /// The file's path, or `built-in policy`.
    pub source: String,
    /// SHA-256 of its text, for the audit log.
    pub sha256: String,
    pub faults: Names,
    pub effects: Names,
    pub limits: Limits,
    /// False: effects that nobody can take back are refused.
    pub irreversible: Option<Rule<bool>>,
    pub process_names: Vec<Rule<String>>,
    pub process_users: Vec<Rule<String>>,
    pub process_pids: Vec<Rule<i32>>,
    pub paths: Vec<Rule<PathBuf>>,
    pub allowed_paths: Option<(usize, Vec<Rule<PathBuf>>)>,
    pub interfaces: Names,
    /// Addresses whose traffic stays as it is.
    pub peers: Vec<Rule<IpCidr>>,
    /// Management flows that every network effect leaves alone, whatever the order says.
    pub flows: Vec<Rule<Spare>>,
    /// Inodes of namespaces in which no network effect is allowed.
    pub network_namespaces: Vec<Rule<u64>>,
    /// The same for effects on filesystems.
    pub mount_namespaces: Vec<Rule<u64>>,
    /// The same for effects on processes, services and the whole host.
    pub pid_namespaces: Vec<Rule<u64>>,
    /// Whether the networks of containers may be entered, for which an agent keeps CAP_SYS_ADMIN. None: by one that has not given it up.
    pub container_networks: Option<Rule<bool>>,
    /// That may be stopped and started, and how; without any, none may.
    pub services: Vec<Rule<Service>>,
    /// What may be done to all processes at once: `freeze`, `crash`; without it, nothing.
    pub whole_host: Vec<Rule<String>>,
    /// Networks to which load may be sent, and how many requests a second; without it, none.
    pub load_targets: Vec<Rule<IpCidr>>,
    pub load_rate: Option<Rule<f64>>,
}

impl Policy {
    /// # Errors
    /// Every mistake with `file:line:column`. There is no policy with a mistake in it: the agent must not start.
    pub fn load(path: &Path) -> anyhow::Result<Policy> {
        let text = std::fs::read_to_string(path).with_context(|| format!("policy {}", path.display()))?;
        let policy = Policy::parse(&path.display().to_string(), &text)?;
        policy.is_its_owners(path)?;
        Ok(policy)
    }

    pub fn built_in() -> Policy {
        Policy::parse("built-in policy", DEFAULT).expect("the built-in policy is tested")
    }

    pub fn parse(source: &str, text: &str) -> anyhow::Result<Policy> {
        match read::policy(source, text) {
            Ok(policy) => Ok(Policy { sha256: squall_experiments::audit::sha256(text.as_bytes()), ..policy }),
            Err(mistakes) => bail!("the policy cannot be used:\n{}", mistakes.join("\n")),
        }
    }

    /// Of these faults, those that the policy allows by name.
    pub fn allowed_faults(&self, known: &[String]) -> Vec<String> {
        known.iter().filter(|fault| self.faults.refusal(self, "fault", fault).is_none()).cloned().collect()
    }

    /// `policy FILE:LINE`.
    fn at(&self, line: usize) -> String {
        format!("policy {}:{line}", self.source)
    }
}

/// A word for an effect in refusals: `packet-delay`.
fn name(effect: &Effect) -> &'static str {
    effect.name()
}
