//! `--report`, `--json`, `--junit`: the report as files.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use squall_experiments::report::Report;

use crate::exit::Failure;

#[derive(clap::Args, Default)]
pub struct ReportFiles {
    /// Write the report as one HTML page
    #[arg(long = "report", visible_alias = "html", value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the report as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

impl ReportFiles {
    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.html, &self.json, &self.junit].into_iter().flatten()
    }

    pub fn is_empty(&self) -> bool {
        self.paths().next().is_none()
    }

    /// Before a run: a path that cannot be written is a mistake now and not a lost report later.
    pub fn check(&self) -> Result<(), Failure> {
        for path in self.paths() {
            tried(path).map_err(|error| {
                Failure::usage(format!("cannot write {}: {error}", path.display()), "nothing was started")
            })?;
        }
        Ok(())
    }

    /// Writes all of them, whatever happens to one; gives what was written.
    pub fn write(&self, report: &Report) -> Result<Vec<PathBuf>, Failure> {
        let json = || serde_json::to_string_pretty(report).map(|text| text + "\n").map_err(|error| error.to_string());
        let mut written = Vec::new();
        let mut failed = Vec::new();
        let mut put = |path: &Option<PathBuf>, text: &dyn Fn() -> Result<String, String>| {
            let Some(path) = path else { return };
            match text().and_then(|text| std::fs::write(path, text).map_err(|error| error.to_string())) {
                Ok(()) => written.push(path.clone()),
                Err(error) => failed.push(format!("cannot write {}: {error}", path.display())),
            }
        };
        put(&self.html, &|| Ok(report.html()));
        put(&self.json, &json);
        put(&self.junit, &|| Ok(report.junit()));
        if failed.is_empty() {
            return Ok(written);
        }
        Err(Failure::usage(failed.join("\n"), format!("`squall report {} --html FILE` writes it again", report.run)))
    }
}

/// Opens it as it will be opened, changes nothing that is there, and leaves nothing that was not.
pub fn tried(path: &Path) -> std::io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(_) => std::fs::remove_file(path),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            OpenOptions::new().append(true).open(path).map(drop)
        }
        Err(error) => Err(error),
    }
}
