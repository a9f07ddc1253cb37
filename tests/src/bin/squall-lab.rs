//! The lab's helper: makes a host, enters it, and is the small servers and clients in it. Not shipped.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, bail};
use squall_tests::lab::{Lab, init};
use squall_tests::talk::{Measured, session, tcp, udp};

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("squall-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<u8> {
    let mut arguments = std::env::args_os().skip(1);
    let verb = arguments.next().and_then(|verb| verb.into_string().ok()).unwrap_or_default();
    let rest: Vec<OsString> = arguments.collect();
    if verb == "exec" {
        let [flag, host, dashes, program @ ..] = rest.as_slice() else { bail!("exec --host PID -- PROGRAM ...") };
        anyhow::ensure!(flag == "--host" && dashes == "--", "exec --host PID -- PROGRAM ...");
        return init::exec(host.to_str().context("a pid")?.parse()?, program);
    }
    if verb == "keep" {
        let [flag, after, dashes, program, arguments @ ..] = rest.as_slice() else {
            bail!("keep --after MS -- PROGRAM ...")
        };
        anyhow::ensure!(flag == "--after" && dashes == "--", "keep --after MS -- PROGRAM ...");
        let after = Duration::from_millis(after.to_str().context("milliseconds")?.parse()?);
        return keep(after, program, arguments);
    }
    let options = Options(rest.into_iter().map(|text| text.to_string_lossy().into_owned()).collect());
    let timeout = options.ms("--timeout", 2_000)?;
    match verb.as_str() {
        "init" => init::init(&init::Birth {
            name: options.text("--name")?,
            hosts: options.text("--hosts")?,
            keep: options.all("--keep").map(Into::into).collect(),
            boottime_ahead: options.number("--boottime-ahead", 0)? as u64,
        })?,
        "hold-lab" => hold_lab()?,
        "udp-echo" => udp::echo(options.address("--at")?)?,
        "udp-ping" => {
            let (count, every) = (options.number("--count", 10)?, options.ms("--every", 10)?);
            say(&udp::ping(options.address("--to")?, count, every, timeout)?)?;
        }
        "tcp-echo" => tcp::echo(options.address("--at")?)?,
        "tcp-ping" => {
            let (count, every) = (options.number("--count", 10)?, options.ms("--every", 10)?);
            let size = options.number("--size", 64)?;
            say(&tcp::ping(options.address("--to")?, count, every, size, timeout))?;
        }
        "tcp-connect" => say(&tcp::connect(options.address("--to")?, timeout))?,
        "tcp-relay" => tcp::relay(options.address("--at")?, options.address("--to")?, options.ms("--delay", 0)?)?,
        "sshd" => session::serve(options.address("--at")?)?,
        "ssh-client" => say(&session::client(options.address("--to")?, options.ms("--every", 50)?, timeout))?,
        _ => bail!("a helper of the test suites, with the verb as its first argument; see tests/src/bin/squall-lab.rs"),
    }
    Ok(0)
}

/// A lab with a long-lived program in it, until this process is ended: what the test of the lab's own end kills.
fn hold_lab() -> anyhow::Result<()> {
    let lab = Lab::new().host("a").host("b").start();
    let sleeper = lab.host("a").start(lab.host("a").command("sleep").arg("1000"));
    // `exec` forks before the program: its pid is there a moment later.
    let mut pid = None;
    squall_tests::lab::wait_until(Duration::from_secs(2), || {
        pid = sleeper.pid();
        pid.is_some()
    });
    println!("{} {} {}", lab.host("a").init_pid(), lab.host("b").init_pid(), pid.context("the sleeper runs")?);
    std::thread::park();
    Ok(())
}

/// Runs a program, and again whenever it ends: the restarter that every real service has.
fn keep(after: Duration, program: &OsString, arguments: &[OsString]) -> anyhow::Result<u8> {
    loop {
        Command::new(program)
            .args(arguments)
            .status()
            .with_context(|| format!("start {}", program.to_string_lossy()))?;
        std::thread::sleep(after);
    }
}

fn say(measured: &Measured) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(measured)?);
    Ok(())
}

/// `--name value` pairs.
struct Options(Vec<String>);

impl Options {
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a String> {
        self.0.chunks(2).filter(move |pair| pair[0] == name).filter_map(|pair| pair.get(1))
    }
    fn text(&self, name: &str) -> anyhow::Result<String> {
        self.all(name).next().cloned().with_context(|| format!("{name} is missing"))
    }
    fn address(&self, name: &str) -> anyhow::Result<SocketAddr> {
        self.text(name)?.parse().with_context(|| format!("{name}: ADDRESS:PORT"))
    }
    fn number(&self, name: &str, default: usize) -> anyhow::Result<usize> {
        self.all(name).next().map_or(Ok(default), |text| text.parse()).with_context(|| format!("{name}: a number"))
    }
    fn ms(&self, name: &str, default: u64) -> anyhow::Result<Duration> {
        let ms = self.all(name).next().map_or(Ok(default), |text| text.parse());
        Ok(Duration::from_millis(ms.with_context(|| format!("{name}: milliseconds"))?))
    }
}
