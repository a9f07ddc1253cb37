//! `make mutants`: takes one mechanism after the other out of a copy of the sources, and expects the test that guards its promise to turn red.
//!
//! `mutants [WORD...]`: only those whose promise's number, words or test contain one of the words. The copy and what is built of it are below
//! `target/mutants`; nothing else is touched. Each test runs in process and mount namespaces of its own, with which everything that a mutant leaves ends.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use squall_tests::lab::programs;
use squall_tests::mutants::{ALL, Mutant, Test};

/// A test that takes longer than this hangs.
const LONGEST: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |mutant: &&Mutant| {
        let promise = format!("promise {}", mutant.promise);
        let matches = |word: &String| {
            promise == format!("promise {word}") || mutant.what.contains(&**word) || mutant.test.name.contains(&**word)
        };
        words.is_empty() || words.iter().any(matches)
    };
    let mutants: Vec<&Mutant> = ALL.iter().filter(wanted).collect();
    match run(&mutants) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mutants: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// What became of a test.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Green,
    Red,
    Hangs,
    /// It did not run here, and says why.
    Skipped,
}

fn run(mutants: &[&Mutant]) -> anyhow::Result<bool> {
    ensure!(!mutants.is_empty(), "no mutant has these words");
    let home = programs::root().join("target/mutants");
    let place = Place { tree: home.join("tree"), target: home.join("target") };
    place.copy_sources()?;
    let mut known = Vec::new();
    let (mut killed, mut survived, mut not_judged, mut errors) = (0, 0, 0, 0);
    println!("{:>7}  {:<62} {:<10} {:>5}  guarded by", "promise", "taken out", "test", "s");
    for mutant in mutants {
        let Test { package, file, name } = mutant.test;
        let from = Instant::now();
        let judged = place.judged(mutant, &mut known);
        let said = match &judged {
            Ok(Outcome::Red) => "red",
            Ok(Outcome::Hangs) => "red (hangs)",
            Ok(Outcome::Green) => "GREEN",
            Ok(Outcome::Skipped) => "SKIPPED",
            Err(_) => "ERROR",
        };
        match judged {
            Ok(Outcome::Red | Outcome::Hangs) => killed += 1,
            Ok(Outcome::Green) => survived += 1,
            Ok(Outcome::Skipped) => not_judged += 1,
            Err(_) => errors += 1,
        }
        println!("{:>7}  {:<62} {said:<10} {:>5}  {name}", mutant.promise, mutant.what, from.elapsed().as_secs());
        if let Err(error) = judged {
            // The others are judged all the same.
            println!("         {package} {}: {error:#}", file.unwrap_or("unit tests"));
        }
    }
    println!(
        "{} mutants: {killed} killed, {survived} survived, {not_judged} not judged here, {errors} errors",
        mutants.len()
    );
    Ok(survived == 0 && errors == 0)
}

struct Place {
    tree: PathBuf,
    target: PathBuf,
}

impl Place {
    /// What git knows, as it is now. Files that did not change keep their times, so that nothing is built again for them.
    fn copy_sources(&self) -> anyhow::Result<()> {
        let root = programs::root();
        let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(&root).output().context("git")?;
        ensure!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
        let names = String::from_utf8(listed.stdout).context("a file's name is no text")?;
        for name in names.split_terminator('\0') {
            let (from, to) = (root.join(name), self.tree.join(name));
            let Ok(bytes) = fs::read(&from) else { continue };
            if fs::read(&to).is_ok_and(|there| there == bytes) {
                continue;
            }
            fs::create_dir_all(to.parent().context("a file is in a directory")?)?;
            fs::write(&to, bytes).with_context(|| to.display().to_string())?;
        }
        Ok(())
    }

    /// What becomes of a mutant's test. `known`: tests that were seen to be green with the sources as they are; else their red would say nothing.
    fn judged(&self, mutant: &Mutant, known: &mut Vec<&'static str>) -> anyhow::Result<Outcome> {
        let name = mutant.test.name;
        if !known.contains(&name) {
            match self.test(&mutant.test).context("with the sources as they are")? {
                Outcome::Green => known.push(name),
                Outcome::Skipped => return Ok(Outcome::Skipped),
                other => bail!("it is not green with the sources as they are: {other:?}"),
            }
        }
        self.mutated(mutant, || self.test(&mutant.test))
    }

    /// `then` with the mutant in the copy, which is afterwards as it was.
    fn mutated<T>(&self, mutant: &Mutant, then: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let mut before = Vec::new();
        for edit in mutant.edits {
            let path = self.tree.join(edit.file);
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            ensure!(text.matches(edit.find).count() == 1, "`{}` does not stand once in {}", edit.find, edit.file);
            fs::write(&path, text.replace(edit.find, edit.replace))?;
            before.push((path, text));
        }
        let result = then();
        for (path, text) in before {
            fs::write(path, text)?;
        }
        result.with_context(|| mutant.what.to_owned())
    }

    fn test(&self, test: &Test) -> anyhow::Result<Outcome> {
        let program = self.built(test)?;
        let log = self.target.join("output.txt");
        // Appended to: a test that says SKIPPED opens its standard error anew, and neither may write over the other.
        fs::write(&log, "")?;
        let output = fs::File::options().append(true).open(&log)?;
        let mut command = match nix::unistd::geteuid().is_root() {
            // unshare(1): the first process of the namespace dies with it, and everything in the namespace with that.
            true => {
                let mut command = Command::new("unshare");
                command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]).arg(&program);
                command
            }
            false => Command::new(&program),
        };
        let package = match test.package {
            "squall-experiments" => "experiments",
            "squalld" => "daemon",
            _ => "tests",
        };
        let mut child = self
            .surroundings(&mut command)
            .current_dir(self.tree.join(package))
            .args([test.name, "--test-threads=1"])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let from = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if from.elapsed() > LONGEST {
                child.kill()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut said = Vec::new();
        fs::File::open(&log)?.read_to_end(&mut said)?;
        let said = String::from_utf8_lossy(&said);
        ensure!(said.contains("\nrunning 1 test\n"), "there is not one test {}:\n{said}", test.name);
        Ok(match status {
            None => Outcome::Hangs,
            Some(status) if !status.success() => Outcome::Red,
            Some(_) if said.contains("SKIPPED") => Outcome::Skipped,
            Some(_) => Outcome::Green,
        })
    }

    /// The test program; what does not compile is an error, and no red test.
    fn built(&self, test: &Test) -> anyhow::Result<PathBuf> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["test", "--quiet", "--no-run", "--message-format=json", "-p", test.package]);
        match test.file {
            Some(file) => cargo.args(["--test", file]),
            None => cargo.arg("--lib"),
        };
        let output = self.surroundings(&mut cargo).current_dir(&self.tree).stderr(Stdio::piped()).output()?;
        ensure!(output.status.success(), "it does not build:\n{}", String::from_utf8_lossy(&output.stderr));
        let wanted = test.file.unwrap_or(match test.package {
            "squall-experiments" => "squall_experiments",
            "squall-tests" => "squall_tests",
            other => other,
        });
        let lines = String::from_utf8_lossy(&output.stdout);
        let messages = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let of_test = |message: &serde_json::Value| {
            let path = message["executable"].as_str().filter(|_| message["profile"]["test"] == true)?;
            (message["target"]["name"] == wanted).then(|| Path::new(path).to_owned())
        };
        messages.filter_map(|message| of_test(&message)).next_back().context("cargo names no test program")
    }

    fn surroundings<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.envs([("CARGO_INCREMENTAL", "0"), ("RUST_BACKTRACE", "0")]).env("CARGO_TARGET_DIR", &self.target)
    }
}
