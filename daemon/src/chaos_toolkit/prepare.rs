//! From a job to a run that can be played: names get their values, and whatever cannot be done is said before anything is.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use serde_json::{Map, Value};
use squall_experiments::chaos_toolkit::job::{Event, Job};
use squall_experiments::chaos_toolkit::journal::{Journal, Outcome};
use squall_experiments::chaos_toolkit::secrets::{Redactor, Values};
use squall_experiments::chaos_toolkit::{configuration, secrets};
use squall_experiments::parse;

use super::activity::Player;
use super::controls::Controls;
use super::python::{MAIN, Python};
use super::{Directory, Surroundings, process};

/// Why nothing is run, and what would help.
pub struct Refusal {
    pub message: String,
    pub hint: String,
}

impl Refusal {
    fn of(lines: &[String], hint: &str) -> Self {
        Refusal { message: lines.join("\n    "), hint: hint.to_owned() }
    }
}

/// Everything but the values that probes give.
pub fn player(mut job: Job, directory: Directory) -> Result<Player, Refusal> {
    let experiment = parse::chaos_toolkit(&job.file, &job.text)
        .map_err(|mistakes| Refusal { message: mistakes.to_string(), hint: String::new() })?;
    let environment = std::mem::take(&mut job.environment);
    let mut around = Surroundings { environment, python: job.python.clone(), directory, ..Surroundings::default() };
    let variable = |name: &str| around.variable(name);
    let configured = configuration::resolve(experiment.raw.get("configuration"), &job.configuration, &variable);
    let secrets = secrets::resolve(experiment.raw.get("secrets"), &job.secrets, &variable);
    let (configured, secrets) = match (configured, secrets) {
        (Ok(configured), Ok(secrets)) => (configured, secrets),
        (configured, secrets) => {
            let wrong = [configured.err(), secrets.err()].into_iter().flatten().flatten().collect::<Vec<_>>();
            return Err(Refusal::of(&wrong, "set them, or give values with --var and --var-file"));
        }
    };
    let redactor = Redactor::new(&secrets);
    around.redactor = redactor.clone();
    Ok(Player {
        values: RefCell::new(Rc::new(Values::new(configured.values, secrets))),
        controls: Controls::of(job.controls.clone()),
        job,
        experiment: RefCell::new(Rc::new(experiment)),
        redactor,
        around,
        python: Python::default(),
        record: RefCell::default(),
        journal: RefCell::new(Journal::default()),
        trouble: RefCell::new(Vec::new()),
        lanes: Cell::new(MAIN),
    })
}

impl Player {
    /// Every program and every function is there. Chaos Toolkit looks for them, too.
    pub async fn look_around(&self) -> Result<(), Refusal> {
        let mut wrong = Vec::new();
        let mut python = true;
        for (who, provider) in self.experiment().providers() {
            let found = match provider.get("type").and_then(Value::as_str) {
                Some("process") => process::program(provider, &self.around).map(drop),
                Some("python") => match &self.around.python {
                    None => {
                        python = false;
                        Err("is a Python function, and no interpreter is configured".to_owned())
                    }
                    Some(named) if !super::python::is_there(Path::new(named), &self.around) => {
                        Err(format!("the Python interpreter `{named}` is not there, or cannot be started"))
                    }
                    Some(_) => self.python.check(provider, &self.around).await,
                },
                _ => Ok(()),
            };
            wrong.extend(found.err().map(|why| format!("{who}: {why}")));
        }
        for (control, global) in self.all_controls() {
            let found = match &self.around.python {
                None => {
                    python = false;
                    Err("is a Python module, and no interpreter is configured".to_owned())
                }
                Some(_) => self.python.check_control(&control, global, &self.around).await,
            };
            let name = control.get("name").and_then(Value::as_str).unwrap_or_default();
            wrong.extend(found.err().map(|why| format!("the control `{name}`: {why}")));
        }
        let hint =
            if python { "" } else { "--python FILE names one, such as that of the environment that has the modules" };
        if wrong.is_empty() { Ok(()) } else { Err(Refusal::of(&wrong, hint)) }
    }

    /// The probes of the configuration, in the order of the text. As in Chaos Toolkit one that fails leaves its name without a value.
    pub async fn configure(&self) {
        let experiment = self.experiment();
        let section = experiment.raw.get("configuration").and_then(Value::as_object).cloned().unwrap_or_default();
        for key in experiment.configuration.clone() {
            let written = self.job.configuration.get(&key).or(section.get(&key));
            let Some(probe) = written.filter(|value| value.get("type").and_then(Value::as_str) == Some("probe")) else {
                continue;
            };
            let provider = probe["provider"].clone();
            let value = match (self.configured(&provider).await, provider.get("type").and_then(Value::as_str)) {
                (Outcome::Done(value), Some("process")) if value["status"] == 0 => {
                    Ok(value["stdout"].as_str().unwrap_or_default().trim().into())
                }
                (Outcome::Done(value), Some("process")) => Err(format!("its exit code is {}", value["status"])),
                (Outcome::Done(value), Some("http")) => Ok(value["body"].clone()),
                (Outcome::Done(value), _) => Ok(value),
                (Outcome::Failed(why) | Outcome::Broken(why), _) => Err(why),
                (Outcome::CutShort, _) => Err("the run was told to stop".to_owned()),
            };
            match value {
                Ok(value) => {
                    let values = self.values();
                    let mut configuration: Map<String, Value> = values.configuration.clone();
                    configuration.insert(key, value);
                    self.set_values(Values::new(configuration, values.secrets.clone()));
                }
                Err(why) => {
                    self.say(&Event::Warning { text: format!("the configuration `{key}` has no value: {why}") })
                }
            }
        }
    }

    /// Arguments that are one text, with their values in them: nothing may be left in them for a shell.
    pub fn look_at_words(&self) -> Result<(), Refusal> {
        let of_process = |provider: &Value| provider.get("type").and_then(Value::as_str) == Some("process");
        let wrong: Vec<String> = self
            .experiment()
            .providers()
            .into_iter()
            .filter(|(_, provider)| of_process(provider))
            .filter_map(|(who, provider)| {
                process::arguments(provider, &self.values()).err().map(|why| format!("{who}: {why}"))
            })
            .collect();
        if wrong.is_empty() { Ok(()) } else { Err(Refusal::of(&wrong, "")) }
    }
}
