//! Which experiments: files as they are named, directories with all that is an experiment in them, in the order of their names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use squall_experiments::api::Submit;
use squall_experiments::experiment::Experiment;
use squall_experiments::gate::Tried;
use squall_experiments::gate::shard::Shard;
use squall_experiments::parse;

use crate::exit::Failure;
use crate::{experiment_file, paint};

/// One experiment of the gate, and what became of it.
pub struct Item {
    pub tried: Tried,
    pub experiment: Experiment,
    pub submit: Submit,
    /// How long the next run of it takes, as far as that is known.
    pub takes: Duration,
}

pub fn read(paths: &[PathBuf], shard: Option<Shard>, seed: Option<u64>) -> Result<Vec<Item>, Failure> {
    let mut items: Vec<Item> = Vec::new();
    let mut mistakes = 0;
    for path in paths {
        let mut files = Vec::new();
        if path.is_dir() {
            below(path, &mut files)?;
        } else {
            files.push(path.clone());
        }
        for file in files {
            match one(&file, path.is_dir(), seed) {
                Ok(item) => items.extend(item),
                Err(failure) => {
                    mistakes += 1;
                    paint::blame(&failure.to_string());
                }
            }
        }
    }
    if mistakes > 0 {
        let hint = "`squall validate FILE...` finds the same";
        return Err(Failure::usage(format!("nothing was run: {mistakes} files cannot be used"), hint));
    }
    let mut names: Vec<(&str, &str)> = items.iter().map(|item| (&*item.tried.name, &*item.tried.file)).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let hint = "give each a `metadata.name` of its own: baseline and reports know experiments by it";
        return Err(Failure::usage(format!("{} and {} are both named `{}`", pair[0].1, pair[1].1, pair[0].0), hint));
    }
    if items.is_empty() {
        return Err(Failure::usage(
            "there is no experiment in what was named",
            "name experiment files, or directories that have some",
        ));
    }
    if let Some(shard) = shard {
        let mut position = 0;
        items.retain(|_| {
            position += 1;
            shard.has(position - 1)
        });
        if items.is_empty() {
            let hint = "have no more shards than experiments";
            return Err(Failure::usage(
                format!("shard {shard} is empty: there are fewer experiments than shards"),
                hint,
            ));
        }
    }
    Ok(items)
}

/// None: something else that lies in the same directory.
fn one(file: &Path, found: bool, seed: Option<u64>) -> Result<Option<Item>, Failure> {
    let text = experiment_file::text(file)?;
    if found {
        let kind = parse::kind(&text);
        if kind != "Experiment" {
            if !kind.is_empty() {
                paint::warn(format!("{} is passed over: its kind is {kind}", file.display()));
            }
            return Ok(None);
        }
    }
    let name = experiment_file::name(file);
    let experiment = parse::parse(&name, &text).map_err(|mistakes| Failure::usage(mistakes.to_string(), ""))?;
    let value = serde_json::to_value(&experiment)
        .map_err(|error| Failure::usage(format!("{name} cannot be sent: {error}"), ""))?;
    let tried = Tried::new(&in_the_project(file), &text, &experiment);
    let submit = Submit { experiment: value, seed };
    Ok(Some(Item { tried, experiment, submit, takes: Duration::ZERO }))
}

/// As CI names it: from the project's directory.
fn in_the_project(file: &Path) -> String {
    let here = std::env::current_dir().ok();
    let root =
        ["GITHUB_WORKSPACE", "CI_PROJECT_DIR"].into_iter().find_map(std::env::var_os).map(PathBuf::from).or(here);
    let whole = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
    let inside = root.as_ref().and_then(|root| whole.strip_prefix(root).ok());
    inside.unwrap_or(file).components().collect::<PathBuf>().display().to_string()
}

fn below(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |error| Failure::usage(format!("cannot read {}: {error}", directory.display()), "");
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        entries.push(entry.map_err(failed)?);
    }
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        // A link to a directory may lead in a circle; one to a file is as good as the file.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below(&path, files)?;
        } else if path.is_file()
            && path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known))
        {
            files.push(path);
        }
    }
    Ok(())
}
