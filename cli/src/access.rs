//! Finding the coordinator: its unix socket on this machine, or a file with its address, its authority and a token.

use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use squall_experiments::api::{Access, SOCKET};

use crate::exit::Failure;

pub enum Way {
    Network(PathBuf, Access),
    Socket(PathBuf),
}

/// What was named, else the first of the usual directories with a socket that answers or with an access file.
pub fn find(named: Option<&Path>) -> Result<Way, Failure> {
    if let Some(path) = named {
        let is_socket = path.metadata().is_ok_and(|there| there.file_type().is_socket());
        return if is_socket {
            Ok(Way::Socket(path.to_owned()))
        } else {
            Ok(Way::Network(path.to_owned(), read(path)?))
        };
    }
    let usual = usual_places();
    for directory in &usual {
        let (socket, file) = (directory.join(SOCKET), directory.join("access.json"));
        // A socket that was left behind answers nobody, and one that is not for this user cannot be opened.
        if UnixStream::connect(&socket).is_ok() {
            return Ok(Way::Socket(socket));
        }
        if file.exists() {
            let access = read(&file)?;
            return Ok(Way::Network(file, access));
        }
    }
    let tried: Vec<String> =
        usual.iter().map(|directory| directory.join("access.json").display().to_string()).collect();
    Err(Failure::unreachable(
        format!("no coordinator is known: none answers on a socket here, and there is no {}", tried.join(", no ")),
        "start `squalld coordinator` or `squalld dev` and give its access file with --access FILE or SQUALL_ACCESS; \
         `squall run --local FILE` needs none",
    ))
}

/// Directories in which a coordinator of this machine keeps its socket and its access file.
fn usual_places() -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from("/run/squall")];
    if let Some(directory) = std::env::var_os("XDG_RUNTIME_DIR").filter(|value| !value.is_empty()) {
        places.push(Path::new(&directory).join("squall"));
    }
    places.push(PathBuf::from(".squall"));
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
