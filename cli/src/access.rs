//! Finding the coordinator: a file with its address, its authority and a token.

use std::path::{Path, PathBuf};

use squall_experiments::api::Access;

use crate::args::Global;
use crate::exit::Failure;

/// The file that was named, else the first that exists of the usual ones.
pub fn find(global: &Global) -> Result<(PathBuf, Access), Failure> {
    if let Some(path) = &global.access {
        return Ok((path.clone(), read(path)?));
    }
    let usual = usual_places();
    match usual.iter().find(|path| path.exists()) {
        Some(path) => Ok((path.clone(), read(path)?)),
        None => {
            let tried: Vec<String> = usual.iter().map(|path| path.display().to_string()).collect();
            Err(Failure::unreachable(
                format!("no coordinator is known: there is no {}", tried.join(", no ")),
                "start `squalld coordinator` or `squalld dev` and give its access file with --access FILE or SQUALL_ACCESS; \
                 `squall run --local FILE` needs none",
            ))
        }
    }
}

fn usual_places() -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from("/run/squall/access.json")];
    if let Some(directory) = std::env::var_os("XDG_RUNTIME_DIR").filter(|value| !value.is_empty()) {
        places.push(Path::new(&directory).join("squall/access.json"));
    }
    places.push(PathBuf::from(".squall/access.json"));
    places
}

pub fn read(path: &Path) -> Result<Access, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                "the file belongs to the user who runs squalld: use that user, or sudo"
            }
            _ => "squalld writes it when it starts, and prints its path",
        };
        Failure::usage(format!("cannot read the access file {shown}: {error}"), hint)
    })?;
    let access: Access = serde_json::from_str(&text).map_err(|error| {
        Failure::usage(
            format!("{shown} is no access file: {error}"),
            "expected JSON with url, ca and token, as squalld writes it",
        )
    })?;
    if !access.url.starts_with("https://") {
        return Err(Failure::usage(
            format!("{shown} says url `{}`, expected https://HOST:PORT", access.url),
            "a token is never sent over a connection that others can read",
        ));
    }
    Ok(access)
}
