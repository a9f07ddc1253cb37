//! What this process lacks for the faults of an experiment, by the names of capabilities(7).

use serde::Deserialize;
use squall_experiments::experiment::Experiment;
use squall_experiments::faults;

use crate::squalld;

/// Of what `squalld doctor` says.
#[derive(Deserialize)]
struct Diagnosis {
    missing_privileges: Vec<Missing>,
}

#[derive(Deserialize)]
struct Missing {
    capability: String,
}

/// Those that squalld would lack if it were started by this process; empty as well if that cannot be told.
pub fn missing() -> Vec<String> {
    let asked = squalld::find().ok().and_then(|program| {
        squalld::command(&program).args(["doctor", "--output", "json"]).stdin(std::process::Stdio::null()).output().ok()
    });
    let diagnosis = asked.and_then(|said| serde_json::from_slice::<Diagnosis>(&said.stdout).ok());
    diagnosis.map(|said| said.missing_privileges.into_iter().map(|one| one.capability).collect()).unwrap_or_default()
}

/// Of `missing`, what the faults of this experiment need, in one sentence.
pub fn needed(experiment: &Experiment, missing: &[String]) -> Option<String> {
    let mut needs: Vec<&str> = Vec::new();
    let mut faults_of: Vec<&str> = Vec::new();
    for entry in experiment.method.iter().filter_map(|step| faults::find(step.fault.as_deref()?)) {
        let lacks = entry.capabilities.iter().copied().filter(|wanted| missing.iter().any(|one| one == wanted));
        let before = needs.len();
        needs.extend(lacks);
        if needs.len() > before {
            faults_of.push(entry.name);
        }
    }
    needs.sort_unstable();
    needs.dedup();
    faults_of.sort_unstable();
    faults_of.dedup();
    (!needs.is_empty()).then(|| format!("this process lacks {} for {}", needs.join(", "), faults_of.join(", ")))
}
