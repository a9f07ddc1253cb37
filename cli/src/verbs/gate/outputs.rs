//! All that a gate writes: files, pages, and what CI systems read.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use squall_experiments::gate::Gate;
use squall_experiments::report::Report;

use crate::args::Output;
use crate::exit::Failure;
use crate::{paint, report_files};

/// Where GitLab's template looks for it.
const CODE_QUALITY: &str = "gl-code-quality-report.json";

#[derive(clap::Args, Default)]
pub struct Outputs {
    /// Write JUnit XML: a case for each run and each comparison
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write everything as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a summary as Markdown (on GitHub it is added to the job's summary by itself)
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write GitLab's code quality report [default on GitLab: gl-code-quality-report.json]
    #[arg(long, value_name = "FILE")]
    code_quality: Option<PathBuf>,
    /// Write each run's report as an HTML page into this directory (made if it is not there)
    #[arg(long, value_name = "DIR")]
    reports: Option<PathBuf>,
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "false")
}

impl Outputs {
    fn code_quality(&self) -> Option<PathBuf> {
        self.code_quality.clone().or_else(|| is_set("GITLAB_CI").then(|| CODE_QUALITY.into()))
    }

    /// Before anything is run: a path that cannot be written is a mistake now and not a lost report later.
    pub fn check(&self) -> Result<(), Failure> {
        let code_quality = self.code_quality();
        for path in [&self.junit, &self.json, &self.markdown, &code_quality].into_iter().flatten() {
            writable(path)?;
        }
        if let Some(directory) = &self.reports {
            std::fs::create_dir_all(directory).map_err(|error| cannot(directory, &error))?;
            writable(&directory.join(".squall-gate"))?;
        }
        Ok(())
    }

    /// Writes all of them, whatever happens to one.
    pub fn write(&self, gate: &Gate) -> Result<(), Failure> {
        let json = || serde_json::to_string_pretty(gate).map(|text| text + "\n").map_err(|error| error.to_string());
        let code_quality = self.code_quality();
        let mut failed = Vec::new();
        let mut write = |path: &Option<PathBuf>, text: &dyn Fn() -> Result<String, String>| {
            let Some(path) = path else { return };
            let done = text().map_err(|error| format!("cannot write {}: {error}", path.display()));
            if let Err(error) = done.and_then(|text| put(path, &text).map_err(|failure| failure.message)) {
                failed.push(error);
            }
        };
        write(&self.junit, &|| gate.junit());
        write(&self.json, &json);
        write(&self.markdown, &|| Ok(gate.markdown()));
        write(&code_quality, &|| Ok(gate.code_quality()));
        if failed.is_empty() { Ok(()) } else { Err(Failure::usage(failed.join("\n"), "")) }
    }

    /// The HTML page of one run; None: none is wanted.
    pub fn page(&self, report: &Report, name: &str, round: u32) -> Result<Option<String>, Failure> {
        let Some(directory) = &self.reports else { return Ok(None) };
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' };
        let path = directory.join(format!("{}-{round}.html", name.chars().map(plain).collect::<String>()));
        put(&path, &report.html())?;
        Ok(Some(path.display().to_string()))
    }
}

/// What CI systems read without being told to.
pub fn environment(gate: &Gate, output: Output) {
    if !is_set("GITHUB_ACTIONS") {
        return;
    }
    // Its runner reads workflow commands on both; the standard output is JSON then.
    match output {
        Output::Text => paint::raw(&gate.annotations()),
        Output::Json => drop(std::io::stderr().lock().write_all(gate.annotations().as_bytes())),
    }
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()) else { return };
    let path = PathBuf::from(path);
    let added = OpenOptions::new().append(true).create(true).open(&path);
    if let Err(error) = added.and_then(|mut file| file.write_all(gate.markdown().as_bytes())) {
        paint::warn(format!("cannot add to the job's summary {}: {error}", path.display()));
    }
}

pub fn put(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| cannot(path, &error))
}

pub fn writable(path: &Path) -> Result<(), Failure> {
    report_files::tried(path)
        .map_err(|error| Failure { hint: "nothing was started".to_owned(), ..cannot(path, &error) })
}

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("cannot write {}: {error}", path.display()), "")
}
