//! What `squall run` takes for a file in Chaos Toolkit's format: the flags of `chaos run`, and an interpreter.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use squall_experiments::chaos_toolkit::Experiment;
use squall_experiments::chaos_toolkit::configuration::variable;
use squall_experiments::chaos_toolkit::job::Job;
use squall_experiments::chaos_toolkit::settings::Settings;
use squall_experiments::chaos_toolkit::strategy::{Dry, Rollbacks, Strategy};
use squall_experiments::parse;

use crate::exit::Failure;
use crate::experiment_file;
use crate::report_files::tried;

const HEADING: &str = "Files in Chaos Toolkit's format";

#[derive(clap::Args)]
#[command(next_help_heading = HEADING)]
pub struct Flags {
    /// When the hypothesis is looked at [default: the file's, else default]
    #[arg(long, value_name = "STRATEGY", value_parser = strategy)]
    hypothesis_strategy: Option<Strategy>,
    /// Time between two looks during the method [default: 1]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    hypothesis_frequency: Option<f64>,
    /// End the method when the hypothesis does not hold during it
    #[arg(long)]
    fail_fast: bool,
    /// When rollbacks are played: default, always, never, deviated [default: the file's, else default]
    #[arg(long, value_name = "STRATEGY", value_parser = rollbacks)]
    rollback_strategy: Option<Rollbacks>,
    /// A value of the configuration: NAME=VALUE or NAME:TYPE=VALUE (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    var: Vec<(String, Value)>,
    /// Values of configuration and secrets (JSON, YAML), or environment variables (any other name) (repeatable)
    #[arg(long, value_name = "FILE")]
    var_file: Vec<PathBuf>,
    /// What is listed and not done: probes, actions, activities, pause
    #[arg(long, value_name = "WHAT", value_parser = dry)]
    dry: Option<Dry>,
    /// Where the journal goes [default: journal.json]
    #[arg(long, value_name = "FILE")]
    journal_path: Option<PathBuf>,
    /// Settings of Chaos Toolkit: controls, strategies [default: ~/.chaostoolkit/settings.yaml, if it is there]
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Controls for whatever is run: a mapping of names to controls (JSON, YAML) (repeatable)
    #[arg(long, value_name = "FILE")]
    control_file: Vec<PathBuf>,
    /// The interpreter that has the modules of `python` activities and of controls [default: $SQUALL_PYTHON, else none]
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
}

/// For clap.
pub fn strategy(name: &str) -> Result<Strategy, String> {
    Strategy::named(name).ok_or_else(|| format!("expected: {}", Strategy::NAMES))
}

fn rollbacks(name: &str) -> Result<Rollbacks, String> {
    Rollbacks::named(name).ok_or_else(|| format!("expected: {}", Rollbacks::NAMES))
}

fn dry(name: &str) -> Result<Dry, String> {
    Dry::named(name).ok_or_else(|| format!("expected: {}", Dry::NAMES))
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    seconds.ok_or_else(|| "expected: seconds, 0 or more".to_owned())
}

impl Flags {
    pub fn is_given(&self) -> bool {
        let Flags { hypothesis_strategy, hypothesis_frequency, rollback_strategy, dry, journal_path, python, .. } =
            self;
        self.fail_fast
            || !self.var.is_empty()
            || !self.var_file.is_empty()
            || hypothesis_strategy.is_some()
            || hypothesis_frequency.is_some()
            || rollback_strategy.is_some()
            || dry.is_some()
            || journal_path.is_some()
            || python.is_some()
            || self.settings.is_some()
            || !self.control_file.is_empty()
    }

    /// What a server that has the experiment may ask for is in them.
    pub fn settings(&self) -> Result<Settings, Failure> {
        super::settings::read(self.settings.as_deref(), &[]).map(|(settings, _)| settings)
    }

    pub fn job(self, file: &Path, text: String, experiment: &Experiment) -> Result<Job, Failure> {
        let (settings, controls) = super::settings::read(self.settings.as_deref(), &self.control_file)?;
        // As in `chaos run`: an experiment with a `runtime` goes before the settings as a whole.
        let (strategy, rollbacks) = experiment
            .runtime()
            .unwrap_or((settings.strategy.unwrap_or_default(), settings.rollback_strategy.unwrap_or_default()));
        let mut given = Given::default();
        for path in &self.var_file {
            given.read(path)?;
        }
        let known = experiment.raw.get("configuration").and_then(Value::as_object);
        for (name, value) in self.var {
            if !known.is_some_and(|known| known.contains_key(&name)) {
                let hint = "--var gives another value to a name of `configuration`";
                return Err(Failure::usage(format!("the experiment's configuration has no `{name}`"), hint));
            }
            given.configuration.insert(name, value);
        }
        let journal = absolute(&self.journal_path.unwrap_or_else(|| "journal.json".into()))?;
        tried(Path::new(&journal))
            .map_err(|error| Failure::usage(format!("cannot write {journal}: {error}"), "nothing was started"))?;
        let configured = std::env::var_os("SQUALL_PYTHON").filter(|value| !value.is_empty()).map(PathBuf::from);
        Ok(Job {
            file: experiment_file::name(file),
            text,
            strategy: self.hypothesis_strategy.unwrap_or(strategy),
            rollbacks: self.rollback_strategy.unwrap_or(rollbacks),
            frequency: self.hypothesis_frequency.unwrap_or(1.0),
            fail_fast: self.fail_fast,
            dry: self.dry,
            configuration: given.configuration,
            secrets: given.secrets,
            environment: given.environment,
            controls,
            settings: settings.raw,
            python: self.python.or(configured).map(|path| path.display().to_string()),
            journal,
            state_dir: state_dir()?,
        })
    }
}

/// Of the user: `$XDG_STATE_HOME/squall`, else `~/.local/state/squall`.
pub fn state_dir() -> Result<String, Failure> {
    let named = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let above = named("XDG_STATE_HOME").or_else(|| Some(named("HOME")?.join(".local/state")));
    absolute(&above.unwrap_or_else(|| "/var/lib".into()).join("squall"))
}

fn absolute(path: &Path) -> Result<String, Failure> {
    let path = std::path::absolute(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display()), ""))?;
    path.to_str().map(str::to_owned).ok_or_else(|| Failure::usage(format!("{} is not UTF-8", path.display()), ""))
}

/// Of `--var-file` and `--var`; the later goes before the earlier.
#[derive(Default)]
struct Given {
    configuration: Map<String, Value>,
    secrets: Map<String, Value>,
    environment: BTreeMap<String, String>,
}

impl Given {
    fn read(&mut self, path: &Path) -> Result<(), Failure> {
        let text = experiment_file::text(path)?;
        let is_data = path.extension().is_some_and(|kind| ["json", "yaml", "yml"].iter().any(|known| kind == *known));
        let name = experiment_file::name(path);
        if !is_data {
            for (number, line) in (1..).zip(text.lines().map(str::trim)) {
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let Some((variable, value)) = line.split_once('=') else {
                    return Err(Failure::usage(format!("{name}:{number}: expected NAME=VALUE"), ""));
                };
                self.environment.insert(variable.to_owned(), value.to_owned());
            }
            return Ok(());
        }
        let data = parse::value(&name, &text).map_err(|mistakes| Failure::usage(mistakes.to_string(), ""))?;
        for (part, into) in [("configuration", &mut self.configuration), ("secrets", &mut self.secrets)] {
            match data.get(part) {
                None | Some(Value::Null) => {}
                Some(Value::Object(entries)) => into.extend(entries.clone()),
                Some(_) => return Err(Failure::usage(format!("{name}: `{part}` must be a mapping"), "")),
            }
        }
        Ok(())
    }
}
