//! `--settings` and `--control-file`: what Chaos Toolkit would read beside the experiment.

use std::path::{Path, PathBuf};

use serde_json::Value;
use squall_experiments::chaos_toolkit::settings::{self, Settings};
use squall_experiments::check::Problem;
use squall_experiments::parse;

use crate::exit::Failure;
use crate::experiment_file;

/// The settings, and all controls in the order in which `chaos run` calls them: those of the settings, those of each file.
pub fn read(named: Option<&Path>, control_files: &[PathBuf]) -> Result<(Settings, Vec<Value>), Failure> {
    let settings = match named.map(Path::to_owned).or_else(usual) {
        Some(path) => Settings::read(&data(&path)?).map_err(|problems| failure(&path, &problems))?,
        None => Settings::default(),
    };
    let mut controls = settings.controls.clone();
    for path in control_files {
        controls.extend(settings::control_file(&data(path)?).map_err(|problems| failure(path, &problems))?);
    }
    Ok((settings, controls))
}

/// Where `chaos` looks; None if it is not there.
fn usual() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
    Some(Path::new(&home).join(".chaostoolkit/settings.yaml")).filter(|path| path.exists())
}

fn data(path: &Path) -> Result<Value, Failure> {
    let (name, text) = (experiment_file::name(path), experiment_file::text(path)?);
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    parse::value(&name, &text).map_err(|mistakes| Failure::usage(mistakes.to_string(), ""))
}

fn failure(path: &Path, problems: &[Problem]) -> Failure {
    let name = experiment_file::name(path);
    let line = |problem: &Problem| match problem.pointer.as_str() {
        "" => format!("{name}: {}", problem.message),
        at => format!("{name}: {} ({})", problem.message, at.replace('/', ".")),
    };
    let hint = problems.iter().map(|problem| problem.hint.clone()).find(|hint| !hint.is_empty());
    Failure::usage(problems.iter().map(line).collect::<Vec<_>>().join("\n    "), hint.unwrap_or_default())
}
