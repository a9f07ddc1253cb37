//! `squalld starter`: runs the commands of the services that it was given at its start, and no other. Small, without a runtime, outside the
//! sandbox of its agent. Not started by people.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::pair::{self, Pair};
use super::{Answer, Request, Service, here, id, socket};
use crate::agent::effects::service::mark::Phase;
use crate::agent::kernel::{child, priority};

/// Said on standard output once it listens.
pub const READY: u8 = b'r';
/// A request has some hundred bytes, and is there when its connection is.
const LONGEST: u64 = 4096;
const PATIENCE: Duration = Duration::from_millis(200);
/// Statuses that are asked at the same time.
const MOST: usize = 32;

/// Standard input brings the services. It is also the line to agent and guards, on which comes nothing more until all of them are gone; that
/// of a starter that another one started is the descriptor `line`, which it inherited.
pub fn run(state_dir: &Path, number: usize, line: Option<RawFd>) -> anyhow::Result<()> {
    for ignored in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: ignoring a signal installs no handler; commands get every signal back (`child::is_its_own`).
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    priority::of_a_holder();
    priority::let_the_oom_killer_take_as_any_other();
    // SAFETY: standard input belongs to this process and is used nowhere else in it.
    let mut input = BufReader::new(std::fs::File::from(unsafe { OwnedFd::from_raw_fd(0) }));
    let mut text = String::new();
    input.read_line(&mut text)?;
    let line: OwnedFd = match line {
        None => input.into_inner().into(),
        // SAFETY: whoever started this process gave it the descriptor for this, and nothing else in it uses it.
        Some(line) if line > 2 => unsafe { OwnedFd::from_raw_fd(line) },
        Some(line) => anyhow::bail!("{line} is no line"),
    };
    if pair::is_closed(&line) {
        return Ok(());
    }
    let services: Vec<Service> = serde_json::from_str(&text).context("the list of services")?;
    let path = socket(state_dir, number);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(|| path.display().to_string())?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    std::io::stdout().write_all(&[READY])?;
    std::io::stdout().flush()?;
    let starter = Starter::new(state_dir, services);
    let (other, state) = (Pair::other_of(number), state_dir.to_owned());
    if let Err(error) = (Pair { state_dir: state, number: other, services: text, line: line.try_clone()? }).keep() {
        eprintln!("squalld starter: the other one is not watched: {error}");
    }
    loop {
        let mut fds = [PollFd::new(line.as_fd(), PollFlags::POLLIN), PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if fds[0].any().unwrap_or(true) {
            return Ok(());
        }
        if let Ok((stream, _)) = listener.accept()
            && let Err(error) = starter.serve(stream)
        {
            eprintln!("squalld starter: {error:#}");
        }
    }
}

struct Starter {
    state_dir: PathBuf,
    /// By what they are named.
    services: HashMap<String, Service>,
}

/// Statuses that are being asked.
static ASKED: AtomicUsize = AtomicUsize::new(0);

impl Starter {
    fn new(state_dir: &Path, services: Vec<Service>) -> Starter {
        let services = services.into_iter().map(|service| (id(&service), service)).collect();
        Starter { state_dir: state_dir.to_owned(), services }
    }

    /// Commands are started by this thread, which lives as long as the starter: a stop command ends with the thread that started it.
    fn serve(&self, stream: UnixStream) -> anyhow::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let user = getsockopt(&stream, PeerCredentials)?.uid();
        anyhow::ensure!(user == child::effective_user(), "user {user} is not the agent's and is told nothing");
        let mut text = String::new();
        BufReader::new((&stream).take(LONGEST)).read_line(&mut text)?;
        let request = serde_json::from_str(&text).context("a request")?;
        if let Request::Status { service } = &request
            && let Some(service) = self.services.get(service).cloned()
            && ASKED
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |asked| (asked < MOST).then_some(asked + 1))
                .is_ok()
        {
            // It may take a second, in which others are served.
            let status = move || {
                let _ = said(&stream, &service.control.status().map(Some));
                ASKED.fetch_sub(1, Ordering::Relaxed);
            };
            std::thread::Builder::new().name("status".to_owned()).spawn(status)?;
            return Ok(());
        }
        said(&stream, &self.answer(&request))
    }

    fn answer(&self, request: &Request) -> Answer {
        let (service, mark, phase) = match request {
            Request::Status { service } if self.services.contains_key(service) => {
                return Err("too many ask at the same time".into());
            }
            Request::Status { .. } => return Err(UNKNOWN.into()),
            Request::Stop { service, mark } => (service, mark, Phase::Stopping),
            Request::Start { service, mark } => (service, mark, Phase::Down),
        };
        let service = self.services.get(service).ok_or(UNKNOWN)?;
        let is_ours = mark
            .strip_prefix("service-")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'));
        if !is_ours {
            return Err("this is no name of a mark".into());
        }
        here(service, &self.state_dir.join(mark), phase).map(|()| None).map_err(|error| format!("{error:#}"))
    }
}

const UNKNOWN: &str = "no such service was named by the policy when the agent started";

fn said(mut stream: &UnixStream, answer: &Answer) -> anyhow::Result<()> {
    Ok(stream.write_all(&serde_json::to_vec(answer)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::effects::service::control::{Control, Status};
    use crate::agent::effects::service::mark;

    fn service(name: &str, status: &str, start: &[&str]) -> Service {
        let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let control = Control::Programs { start: argv(start), stop: argv(&["/bin/true"]), status: argv(&[status]) };
        Service { name: name.into(), control, within_ms: 1000 }
    }

    /// What it answers to these bytes.
    fn asked(starter: &Starter, text: &str) -> Option<Answer> {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(text.as_bytes()).unwrap();
        let _ = starter.serve(theirs);
        let mut answer = Vec::new();
        // One that is closed with bytes unread is reset: no answer either.
        let _ = ours.read_to_end(&mut answer);
        serde_json::from_slice(&answer).ok()
    }

    #[test]
    fn only_what_was_named_at_the_start_is_run_and_only_for_a_mark_of_ours() {
        let dir = tempfile::tempdir().unwrap();
        let proof = dir.path().join("started");
        let known = service("web", "/bin/true", &["/usr/bin/touch", proof.to_str().unwrap()]);
        let other = service("web", "/bin/true", &["/usr/bin/touch", dir.path().join("other").to_str().unwrap()]);
        let starter = Starter::new(dir.path(), vec![known.clone(), service("db", "/bin/false", &["/bin/true"])]);
        let say = |request: &Request| asked(&starter, &(serde_json::to_string(request).unwrap() + "\n")).unwrap();
        assert_eq!(say(&Request::Status { service: id(&known) }), Ok(Some(Status::Up)));
        assert_eq!(
            say(&Request::Status { service: id(&starter.services.values().find(|s| s.name == "db").unwrap().clone()) }),
            Ok(Some(Status::Down))
        );
        assert_eq!(say(&Request::Status { service: id(&other) }), Err(UNKNOWN.into()));
        mark::make(&dir.path().join("service-0abc-0"), Phase::Down).unwrap();
        let start = |service: &Service, mark: &str| say(&Request::Start { service: id(service), mark: mark.into() });
        assert_eq!(start(&other, "service-0abc-0"), Err(UNKNOWN.into()));
        for mark in ["../service-0abc-0", "service-../x", "service-", "journal", ""] {
            assert_eq!(start(&known, mark), Err("this is no name of a mark".into()), "{mark}");
        }
        for text in ["{\"verb\":\"run\",\"argv\":[\"/bin/true\"]}\n", "start\n", "", &"x".repeat(10_000)] {
            assert_eq!(asked(&starter, text), None, "{text}");
        }
        assert!(!proof.exists() && !dir.path().join("other").exists());
        assert_eq!(start(&known, "service-0abc-0"), Ok(None));
        for _ in 0..500 {
            if proof.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the known service was not started");
    }

    #[test]
    fn with_one_starter_dead_the_other_is_asked_and_with_both_the_next_start_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let web = service("web", "/bin/true", &["/bin/true"]);
        // Bound and nobody there: a socket that a dead starter left.
        drop(UnixListener::bind(socket(dir.path(), 0)).unwrap());
        let listener = UnixListener::bind(socket(dir.path(), 1)).unwrap();
        let starter = Starter::new(dir.path(), vec![web.clone()]);
        let living = std::thread::spawn(move || starter.serve(listener.accept().unwrap().0).unwrap());
        super::super::rely_on(dir.path());
        assert_eq!(super::super::status(&web, dir.path()), Ok(Status::Up));
        living.join().unwrap();
        let why = super::super::status(&web, dir.path()).unwrap_err();
        assert!(why.contains("a restart of the agent or `squalld sweep`"), "{why}");
    }
}
