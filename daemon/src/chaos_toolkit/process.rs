//! `process`: a program with its arguments, and never a shell.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use squall_experiments::chaos_toolkit::journal::Outcome;
use squall_experiments::chaos_toolkit::secrets::Values;
use squall_experiments::chaos_toolkit::substitution::text_of;
use squall_experiments::chaos_toolkit::words::words;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::Surroundings;
use super::tree::Tree;
use crate::program::{self, Program};

/// Of each stream. More is an activity that went wrong.
const MOST_OUTPUT: u64 = 16 << 20;
/// What a child of the program holds open is not waited for longer.
const REST: Duration = Duration::from_millis(200);

/// As Chaos Toolkit: the exit code (a signal is negative) and what the program wrote.
pub async fn run(provider: &Value, values: &Values, around: &Surroundings) -> Outcome {
    let (program, arguments) = match program(provider, around).and_then(|at| Ok((at, arguments(provider, values)?))) {
        Ok(found) => found,
        Err(why) => return Outcome::Broken(why),
    };
    let timeout = provider.get("timeout").and_then(Value::as_f64).map(super::seconds);
    let running = started(&program, &arguments, around);
    let finished = match timeout {
        Some(timeout) => tokio::time::timeout(timeout, running).await,
        None => Ok(running.await),
    };
    match finished {
        Err(_) => Outcome::Failed("process activity took too long to complete".to_owned()),
        Ok(Err(error)) => Outcome::Broken(format!("{}: {error}", program.display())),
        Ok(Ok((status, stdout, stderr))) => {
            let code = status.code().or(status.signal().map(|signal| -signal)).unwrap_or_default();
            Outcome::Done(json!({"status": code, "stdout": super::decoded(stdout), "stderr": super::decoded(stderr)}))
        }
    }
}

async fn started(
    program: &Path,
    arguments: &[String],
    around: &Surroundings,
) -> std::io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let mut command = program::command(Program::OfTheUser { path: program }, arguments)?;
    command.envs(&around.environment).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tree = Tree::start(command, around.directory.lock()?)?;
    let (stdout, stderr) = (tree.child.stdout.take(), tree.child.stderr.take());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = {
        let mut both = std::pin::pin!(async { tokio::try_join!(read(stdout, &mut out), read(stderr, &mut err)) });
        tokio::select! {
            read = &mut both => {
                read?;
                tree.child.wait().await?
            }
            status = tree.child.wait() => {
                let status = status?;
                if let Ok(read) = tokio::time::timeout(REST, &mut both).await {
                    read?;
                }
                status
            }
        }
    };
    Ok((status, out, err))
}

async fn read(stream: Option<impl AsyncRead + Unpin>, to: &mut Vec<u8>) -> std::io::Result<()> {
    let Some(stream) = stream else { return Ok(()) };
    stream.take(MOST_OUTPUT + 1).read_to_end(to).await?;
    if to.len() as u64 > MOST_OUTPUT { Err(std::io::Error::other("it wrote more than 16 MiB")) } else { Ok(()) }
}

/// Where the program is, looked for as Python's `shutil.which` does.
pub fn program(provider: &Value, around: &Surroundings) -> Result<PathBuf, String> {
    let named = provider.get("path").and_then(Value::as_str).unwrap_or_default();
    let path = match (named.strip_prefix("~/"), around.variable("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(named),
    };
    let is_program =
        |path: &Path| path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    let found = if path.components().count() > 1 || path.is_absolute() {
        std::path::absolute(&path).ok().filter(|path| is_program(path))
    } else {
        let search = around.variable("PATH").unwrap_or_default();
        std::env::split_paths(&search).map(|directory| directory.join(&path)).find(|path| is_program(path))
    };
    let found = found.and_then(|path| std::path::absolute(path).ok());
    found.ok_or_else(|| format!("the program `{named}` is not there, or cannot be started"))
}

/// What the program gets.
pub fn arguments(provider: &Value, values: &Values) -> Result<Vec<String>, String> {
    let filled = values.fill_arguments(provider.get("arguments").unwrap_or(&Value::Null));
    let given = |value: &&Value| !value.is_null() && value.as_str() != Some("");
    match &filled {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => Ok(items.iter().filter(given).map(text_of).collect()),
        Value::Object(entries) => {
            let words = entries.iter().flat_map(|(key, value)| [Value::String(key.clone()), value.clone()]);
            let words: Vec<Value> = words.collect();
            Ok(words.iter().filter(given).map(text_of).collect())
        }
        text => words(&text_of(text), false).map_err(|sign| {
            format!("`{sign}` in `arguments` needs a shell, and Squall starts programs without one: give a list")
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn around() -> Surroundings {
        Surroundings {
            environment: BTreeMap::from([("SAID".to_owned(), "hello".to_owned())]),
            ..Surroundings::default()
        }
    }

    async fn outcome(provider: Value) -> Outcome {
        run(&provider, &Values::default(), &around()).await
    }

    #[tokio::test]
    async fn a_program_is_found_gets_its_environment_and_its_exit_code_and_output_are_the_value() {
        let said = outcome(json!({"path": "printenv", "arguments": {"SAID": null}})).await;
        assert_eq!(said, Outcome::Done(json!({"status": 0, "stdout": "hello\n", "stderr": ""})));
        let Outcome::Done(failed) = outcome(json!({"path": "ls", "arguments": "'/nowhere at all'"})).await else {
            panic!()
        };
        assert_eq!(failed["status"], 2);
        assert!(failed["stderr"].as_str().unwrap().contains("/nowhere at all"));
        let Outcome::Broken(why) = outcome(json!({"path": "no-such-program"})).await else { panic!() };
        assert!(why.contains("`no-such-program` is not there"));
    }

    #[tokio::test]
    async fn one_that_takes_too_long_fails_and_is_killed() {
        let hung = outcome(json!({"path": "sleep", "arguments": [60], "timeout": 0.05})).await;
        assert_eq!(hung, Outcome::Failed("process activity took too long to complete".to_owned()));
    }

    #[test]
    fn a_name_put_into_a_text_is_split_and_a_sign_of_a_shell_in_it_is_refused() {
        let values = |port: &str| {
            let configuration = json!({"port": port}).as_object().unwrap().clone();
            Values::new(configuration, serde_json::Map::new())
        };
        let provider = json!({"arguments": "-p ${port} 'a b'"});
        assert_eq!(arguments(&provider, &values("8 0")).unwrap(), ["-p", "8", "0", "a b"]);
        assert!(arguments(&provider, &values("8; rm")).unwrap_err().contains("`;`"));
        assert!(arguments(&provider, &Values::default()).unwrap_err().contains("`$`"));
    }
}
