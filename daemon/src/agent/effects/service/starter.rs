//! Who runs the commands of services for an agent that is in its sandbox. A service inherits the rights of what starts it, so one that the
//! agent, its guard or a holder started would not be itself.
//!
//! Before it enters its sandbox the agent starts two *starters* ([`serve`]), outside of it, and gives them the services that its policy
//! names, and those that its journal still owes. From then on they take a verb and which of these it is for, and nothing else: never a
//! command. One is enough; the other is there for when that one is dead or hangs, and starts one that died anew ([`pair`]). They end with
//! the last of agent and guard, because these hold their lines. With both dead a service that is down is told as not confirmed, and the next agent or `squalld sweep`
//! starts it: neither is in a sandbox when it recovers.

pub mod pair;
pub mod serve;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::Service;
use super::control::{STATUS, Status};
use super::mark::{self, Phase};

/// How many an agent has.
pub const STARTERS: usize = 2;
/// Tells a guard or a holder the state directory in which its agent's starters are.
pub const VARIABLE: &str = "SQUALLD_STARTERS_IN";
/// An answer comes within this time, or the other starter is asked: a status, and a little more.
const PATIENCE: Duration = STATUS.saturating_add(Duration::from_millis(500));

/// What a starter hears: a line of JSON. `service` is of [`id`], `mark` a file's name in the state directory.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
enum Request {
    Status { service: String },
    Stop { service: String, mark: String },
    Start { service: String, mark: String },
}

/// And what it says.
type Answer = Result<Option<Status>, String>;

/// By which a service is named: whoever knows all of it knows this, and nobody can make another with the same.
fn id(service: &Service) -> String {
    let text = serde_json::to_vec(service).unwrap_or_default();
    sha2::Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn socket(state_dir: &Path, number: usize) -> PathBuf {
    state_dir.join(format!("starter-{number}.sock"))
}

/// Of agents in this process: an agent runs in a thread, and tests have several.
static RELIED_ON: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// From now on this process asks the starters in this directory.
pub fn rely_on(state_dir: &Path) {
    RELIED_ON.lock().unwrap_or_else(PoisonError::into_inner).push(state_dir.to_owned());
}

pub fn is_relied_on(state_dir: &Path) -> bool {
    std::env::var_os(VARIABLE).is_some_and(|inherited| inherited == state_dir)
        || RELIED_ON.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|own| own == state_dir)
}

/// As [`Control::status`](super::control::Control::status).
///
/// # Errors
/// It cannot be told.
pub(super) fn status(service: &Service, state_dir: &Path) -> Result<Status, String> {
    if !is_relied_on(state_dir) {
        return service.control.status();
    }
    ask(state_dir, &Request::Status { service: id(service) })?.ok_or_else(|| "a starter told no status".to_owned())
}

/// Has the command of this phase run, as [`mark::work`] says, by whoever may.
pub(super) fn work(service: &Service, mark: &Path, phase: Phase) -> anyhow::Result<()> {
    let (Some(state_dir), Some(name)) = (mark.parent(), mark.file_name().and_then(|name| name.to_str())) else {
        anyhow::bail!("{} is no mark", mark.display());
    };
    if !is_relied_on(state_dir) {
        return here(service, mark, phase);
    }
    let (service, mark) = (id(service), name.to_owned());
    let request = match phase {
        Phase::Stopping => Request::Stop { service, mark },
        Phase::Down => Request::Start { service, mark },
    };
    ask(state_dir, &request).map(drop).map_err(anyhow::Error::msg)
}

/// By this process itself.
fn here(service: &Service, mark: &Path, phase: Phase) -> anyhow::Result<()> {
    mark::work(mark, phase, || match phase {
        Phase::Stopping => service.control.stop(),
        Phase::Down => service.control.start(),
    })
}

/// Of the first starter that answers. What it was asked may have been done all the same where none does: every verb may be said again.
fn ask(state_dir: &Path, request: &Request) -> Answer {
    let mut why = String::new();
    for number in 0..STARTERS {
        match ask_one(&socket(state_dir, number), request) {
            Ok(answer) => return answer,
            Err(error) => why = error.to_string(),
        }
    }
    let hint = "a restart of the agent or `squalld sweep` starts what is down";
    Err(format!("none of the {STARTERS} processes that start services answers ({why}): {hint}"))
}

fn ask_one(socket: &Path, request: &Request) -> std::io::Result<Answer> {
    let mut line = UnixStream::connect(socket)?;
    line.set_read_timeout(Some(PATIENCE))?;
    line.set_write_timeout(Some(PATIENCE))?;
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    line.write_all(&text)?;
    let mut answer = Vec::new();
    line.read_to_end(&mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}
