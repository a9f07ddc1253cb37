//! docs/tutorial.md as a new user goes through it: each of its commands in one shell, in order, and what it prints against the page.

use std::fmt::Write as _;
use std::process::Stdio;

use squall_tests::gate_example::runner;
use squall_tests::lab::programs;

/// The one command that is not run on the host of the lab, where sources cannot be written: the programs under test are built by it.
const BUILD: &str = "cargo build --quiet -p squall -p squalld";
/// After each command's output.
const END: &str = "@@ end of a command @@";

#[derive(Debug, PartialEq)]
enum Part {
    /// What is typed, and the lines that the page shows after it.
    Command { typed: String, shown: Vec<String> },
    /// A file that the reader writes: where, and what is in it.
    File { path: String, text: String },
}

/// In the page's order: `console` blocks with `$ ` before what is typed; another block is a file if the text before it ends with its path
/// in backticks and a colon.
fn parts(page: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut before = "";
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else {
            before = if line.is_empty() { before } else { line };
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let path = before.strip_suffix("`:").and_then(|text| text.rsplit('`').next());
        match (kind, path) {
            ("console", _) => {
                for line in block {
                    match (line.strip_prefix("$ "), parts.last_mut()) {
                        (Some(typed), _) => parts.push(Part::Command { typed: typed.into(), shown: Vec::new() }),
                        (None, Some(Part::Command { shown, .. })) => shown.push(line.into()),
                        (None, _) => panic!("output before any command: {line}"),
                    }
                }
            }
            (_, Some(path)) => parts.push(Part::File { path: path.into(), text: block.join("\n") + "\n" }),
            (kind, None) => panic!("a block `{kind}` that is neither a console nor a file"),
        }
    }
    parts
}

/// `...` in a line is any text, and as a line any lines; other lines follow each other as they are shown. Err: the line that did not come.
fn compare<'page>(shown: &'page [String], printed: &[&str]) -> Result<(), &'page str> {
    let mut next = 0;
    let mut skipping = false;
    for line in shown {
        if line == "..." {
            skipping = true;
            continue;
        }
        let fits = |printed: &&str| fits(line, printed);
        let found = match skipping || line.starts_with("...") {
            true => printed[next..].iter().position(fits).map(|more| next + more),
            false => printed.get(next).filter(|printed| fits(printed)).map(|_| next),
        };
        next = found.ok_or(line.as_str())? + 1;
        skipping = false;
    }
    Ok(())
}

fn fits(shown: &str, printed: &str) -> bool {
    let mut parts = shown.split("...");
    let Some(mut rest) = printed.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.trim_end().is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.trim_end().ends_with(last)
}

#[test]
fn every_command_of_the_tutorial_prints_what_the_page_shows() {
    let Some(lab) = runner("every_command_of_the_tutorial_prints_what_the_page_shows") else { return };
    let host = lab.host("ci");
    let page = std::fs::read_to_string(programs::root().join("docs/tutorial.md")).expect("the tutorial");
    let parts = parts(&page);
    let built = programs::program("squall").parent().expect("a directory").display().to_string();
    let mut script = String::new();
    for part in &parts {
        match part {
            Part::Command { typed, .. } if typed == BUILD => writeln!(script, "true"),
            // Wherever they are built.
            Part::Command { typed, .. } => writeln!(script, "{}", typed.replace("$SQUALL/target/debug", &built)),
            Part::File { path, text } => writeln!(script, "mkdir -p $(dirname {path})\ncat >{path} <<'@@'\n{text}@@"),
        }
        .expect("into a text");
        if let Part::Command { .. } = part {
            // The exit code is what the reader would ask for next.
            writeln!(script, "code=$?; printf '\\n{END}\\n'; (exit $code)").expect("into a text");
        }
    }
    host.write("/tmp/tutorial.bash", &script);
    let said = std::fs::File::create(host.path("/tmp/said")).expect("a file in its /tmp");
    let mut command = host.command("env");
    command.args(["-i", "-C"]).arg(programs::root()).arg("PATH=/usr/sbin:/usr/bin:/sbin:/bin").arg("bash");
    command.arg("/tmp/tutorial.bash").stdin(Stdio::null());
    command.stderr(said.try_clone().expect("the same file")).stdout(said);
    host.start(&mut command).wait();

    let said = std::fs::read_to_string(host.path("/tmp/said")).expect("what it said");
    let end = format!("\n{END}\n");
    let mut outputs = said.split(&end);
    let mut compared = 0;
    for part in &parts {
        let Part::Command { typed, shown } = part else { continue };
        let output = outputs.next().unwrap_or_default();
        let printed: Vec<&str> = output.lines().filter(|line| !line.is_empty()).collect();
        if let Err(line) = compare(shown, &printed) {
            panic!("after `{typed}` the page shows `{line}`, and this was printed:\n{output}");
        }
        assert!(!shown.is_empty() || printed.is_empty(), "`{typed}` prints what the page does not show:\n{output}");
        compared += shown.len();
    }
    assert!(compared > 30, "only {compared} lines of the page were compared");
}

#[test]
fn a_line_that_the_page_shows_and_nobody_prints_is_found() {
    let page = "x `a/b.yaml`:\n\n```yaml\nk: 1\n```\n\n```console\n$ one\nfirst ... 1\n...\nlast\n$ two\n```\n";
    let parts = parts(page);
    assert_eq!(parts[0], Part::File { path: "a/b.yaml".into(), text: "k: 1\n".into() });
    let Part::Command { typed, shown } = &parts[1] else { panic!("{parts:?}") };
    assert_eq!((typed.as_str(), parts.len()), ("one", 3));
    assert_eq!(compare(shown, &["first of 1", "x", "y", "last"]), Ok(()));
    assert_eq!(compare(shown, &["first of 1", "last"]), Ok(()));
    assert_eq!(compare(shown, &["first of 2", "last"]), Err("first ... 1"));
    assert_eq!(compare(shown, &["before", "first of 1", "last"]), Err("first ... 1"));
    assert_eq!(compare(shown, &["first of 1", "x"]), Err("last"));
}
