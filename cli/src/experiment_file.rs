//! Reading experiment files; mistakes are found here, before anybody is asked.

use std::io::Read;
use std::path::Path;

use squall_experiments::experiment::Experiment;
use squall_experiments::mistake::Mistakes;
use squall_experiments::parse;

use crate::exit::Failure;

/// Larger is no experiment but a mistake.
pub const LARGEST: u64 = 4 << 20;

/// `-` is the standard input.
pub fn text(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let failed = |error: std::io::Error| {
        let hint = match error.kind() {
            _ if crate::chaos_toolkit::from_url::url(path).is_some() => {
                "only `squall run` reads from a server, and only Chaos Toolkit's format: download it first"
            }
            std::io::ErrorKind::NotFound => "give the path of an experiment file, or - for the standard input",
            std::io::ErrorKind::IsADirectory => "this is a directory: name the files in it",
            std::io::ErrorKind::InvalidData => "an experiment is text in UTF-8",
            _ => "",
        };
        Failure::usage(format!("cannot read {shown}: {error}"), hint)
    };
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(LARGEST + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text))
    };
    read.map_err(failed)?;
    if text.len() as u64 > LARGEST {
        return Err(Failure::usage(format!("{shown} is larger than 4 MiB"), "is this an experiment file?"));
    }
    Ok(text)
}

pub fn parsed(path: &Path) -> Result<Experiment, Failure> {
    parsed_text(path, &text(path)?)
}

/// What was read from `path` already.
pub fn parsed_text(path: &Path, text: &str) -> Result<Experiment, Failure> {
    if parse::is_chaos_toolkit(text) {
        return Err(Failure::usage(
            format!(
                "{} is an experiment in Chaos Toolkit's format, which `squall run` takes and this does not",
                name(path)
            ),
            "`squall run` runs it on this host; `squall validate` says what is wrong with it",
        ));
    }
    parse::parse(&name(path), text).map_err(|mistakes: Mistakes| Failure::usage(mistakes.to_string(), ""))
}

/// For messages.
pub fn name(path: &Path) -> String {
    if path == Path::new("-") { "<stdin>".to_owned() } else { path.display().to_string() }
}
