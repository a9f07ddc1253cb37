//! `command`: a program that the coordinator's configuration allows by name. An experiment chooses the name, nothing else.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, bail};
use saphyr::{LoadableYamlNode as _, Yaml};
use squall_experiments::probe::CommandProbe;
use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStdout;

use super::Measured;
use crate::process_group::Group;
use crate::program::{self, Program};

/// Of the output; more is not read, and the program may block on it until its time-out.
const MAX_OUTPUT: usize = 64 * 1024;

/// Name → program and arguments.
#[derive(Debug, Clone, Default)]
pub struct Commands(BTreeMap<String, Vec<String>>);

impl Commands {
    /// # Errors
    /// See [`super::read_commands`].
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} cannot be used", path.display()))
    }

    /// Why a name cannot be started, or None if it can.
    pub fn missing(&self, name: &str) -> Option<String> {
        (!self.0.contains_key(name)).then(|| format!("the coordinator's --probe-commands allow no `{name}`"))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let documents = Yaml::load_from_str(text)?;
        let Some(document) = documents.first() else { return Ok(Commands::default()) };
        let Some(mapping) = document.as_mapping() else { bail!("expected `name: [program, argument...]`") };
        let mut commands = BTreeMap::new();
        for (name, argv) in mapping {
            let Some(name) = name.as_str() else { bail!("a name is not a text: {name:?}") };
            let argv: Option<Vec<String>> = argv
                .as_sequence()
                .and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect());
            match argv {
                Some(argv) if argv.first().is_some_and(|program| Path::new(program).is_absolute()) => {
                    commands.insert(name.to_owned(), argv);
                }
                _ => bail!("`{name}` must be a list of texts, the first an absolute path (quote numbers)"),
            }
        }
        Ok(Commands(commands))
    }
}

/// Ok: exit code 0 (and a number, if one is wanted). Bad: another exit code, or too slow. Unknown: it cannot be started.
pub async fn measure(probe: &CommandProbe, commands: &Commands) -> Measured {
    let Some((program, arguments)) = commands.0.get(&probe.name).and_then(|argv| argv.split_first()) else {
        return Measured::unknown(commands.missing(&probe.name).unwrap_or_default());
    };
    let mut running = match Running::start(program, arguments) {
        Ok(running) => running,
        Err(error) => return Measured::unknown(format!("cannot start {program}: {error}")),
    };
    let finished = tokio::time::timeout(probe.timeout.0, running.finish()).await;
    match finished {
        Err(_) => Measured::bad(format!("not done within {}", probe.timeout)),
        Ok(Err(error)) => Measured::unknown(format!("{program}: {error}")),
        Ok(Ok((status, output))) => {
            let last_line = output.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
            let said: String = last_line.chars().take(200).collect();
            if !status.success() {
                return Measured::bad(format!("{status}: {said}"));
            }
            match (probe.value, last_line.parse::<f64>()) {
                (false, _) => Measured::ok(said),
                (true, Ok(value)) if value.is_finite() => Measured::ok("").with_value(value),
                (true, _) => Measured::unknown(format!("the last line is not a number: `{said}`")),
            }
        }
    }
}

/// Killed with all that it started unless it has ended.
struct Running {
    group: Group,
    output: ChildStdout,
}

impl Running {
    fn start(program: &str, arguments: &[String]) -> std::io::Result<Self> {
        let mut command = program::command(Program::Configured { path: Path::new(program) }, arguments)?;
        command.stdout(Stdio::piped());
        let mut group = Group::start(command)?;
        let output = group.child.stdout.take().ok_or_else(|| std::io::Error::other("no pipe to its output"))?;
        Ok(Running { group, output })
    }

    async fn finish(&mut self) -> std::io::Result<(std::process::ExitStatus, String)> {
        let mut output = Vec::new();
        let child = &mut self.group.child;
        // Read while it runs; what a left-over grandchild holds open is not waited for.
        let mut bounded = (&mut self.output).take(MAX_OUTPUT as u64);
        let status = tokio::select! {
            biased;
            read = bounded.read_to_end(&mut output) => {
                read?;
                child.wait().await?
            }
            status = child.wait() => {
                let status = status?;
                let rest = std::time::Duration::from_millis(50);
                let _ = tokio::time::timeout(rest, bounded.read_to_end(&mut output)).await;
                status
            }
        };
        Ok((status, String::from_utf8_lossy(&output).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::killpg;
    use nix::unistd::Pid;
    use squall_experiments::probe::Outcome;

    use super::*;
    use squall_experiments::units::Span;

    fn probe(name: &str, value: bool, timeout_ms: u64) -> CommandProbe {
        CommandProbe { name: name.into(), timeout: Span::from_millis(timeout_ms), value }
    }

    #[tokio::test]
    async fn only_listed_programs_are_started_and_their_last_line_is_the_value() {
        let text = "lag: [/usr/bin/printf, 'noise\\n12.5\\n']\nno: [/bin/false]\ngone: [/nowhere/x]";
        let commands = Commands::parse(text).unwrap();
        let lag = measure(&probe("lag", true, 5000), &commands).await;
        assert_eq!((lag.outcome, lag.value), (Outcome::Ok, Some(12.5)));
        assert_eq!(measure(&probe("no", false, 5000), &commands).await.outcome, Outcome::Bad);
        assert_eq!(measure(&probe("gone", false, 5000), &commands).await.outcome, Outcome::Unknown);
        let unlisted = measure(&probe("/bin/true", false, 5000), &commands).await;
        assert_eq!(unlisted.outcome, Outcome::Unknown);
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_its_whole_group() {
        // timeout(1) puts its child into its own group only when asked to: here parent and child share ours.
        let commands =
            Commands::parse("hang: [/usr/bin/env, /usr/bin/timeout, --foreground, '60', /bin/sleep, '60']").unwrap();
        let start = crate::clock::Instant::now();
        let mut group = {
            let argv = &commands.0["hang"];
            Running::start(&argv[0], &argv[1..]).unwrap()
        };
        let pid = Pid::from_raw(i32::try_from(group.group.child.id().unwrap()).unwrap());
        assert!(tokio::time::timeout(std::time::Duration::from_millis(200), group.finish()).await.is_err());
        drop(group);
        // The group is empty once both are dead and reaped.
        while killpg(pid, None).is_ok() {
            assert!(start.elapsed().as_secs() < 10, "the group outlived its probe");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(measure(&probe("hang", false, 50), &commands).await.outcome, Outcome::Bad);
    }

    #[test]
    fn a_relative_program_or_another_shape_is_refused() {
        for text in ["a: [sh]", "a: /bin/true", "a: []", "- a", "a: [/bin/x, 5]"] {
            assert!(Commands::parse(text).is_err(), "{text}");
        }
        assert!(Commands::parse("").unwrap().0.is_empty());
    }
}
