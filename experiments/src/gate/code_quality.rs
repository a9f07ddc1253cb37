//! GitLab's code quality report (docs.gitlab.com, "Code Quality report format"): shown beside the change.

use serde_json::json;
use sha2::{Digest, Sha256};

use super::Gate;
use crate::run_event::Verdict;

pub(super) fn report(gate: &Gate) -> String {
    let mut issues = Vec::new();
    for tried in &gate.experiments {
        let grave = match tried.verdict {
            Verdict::Dirty => "blocker",
            Verdict::Refuted => "critical",
            _ => "major",
        };
        let troubles = tried.troubles().into_iter().map(|text| (grave, text));
        let remarks = tried.remarks().into_iter().map(|text| ("info", text));
        for (index, (severity, text)) in troubles.chain(remarks).enumerate() {
            issues.push(json!({
                "description": format!("{}: {text}", tried.name),
                "check_name": format!("squall/{}", super::text::word(tried.verdict).replace(' ', "-")),
                // The same trouble in the next pipeline is the same issue: no figure is part of it.
                "fingerprint": fingerprint(&[&tried.name, &tried.file, severity, &index.to_string()]),
                "severity": severity,
                "location": {"path": tried.file, "lines": {"begin": tried.line}},
            }));
        }
    }
    serde_json::to_string_pretty(&issues).unwrap_or_default() + "\n"
}

fn fingerprint(parts: &[&str]) -> String {
    let digest = Sha256::digest(parts.join("\n"));
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
