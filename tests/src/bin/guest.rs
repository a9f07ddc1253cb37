//! `make guest`: the network suites on Debian's kernel, where netem is. Arguments go to each suite (a test's name, `--nocapture`).

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, bail};
use squall_tests::guest::{self, Content};
use squall_tests::skip;

/// Suites of this crate that run in the guest too: the lab and the holder are all they need.
const SUITES: [&str; 3] = ["netem", "packet_filter", "packet_delay"];
/// What the effects and the suites stand on.
const MODULES: [&str; 27] = [
    "crc32c_generic",
    "libcrc32c",
    "nf_tables",
    "nft_ct",
    "nft_numgen",
    "nft_reject_inet",
    "nft_queue",
    "nft_compat",
    "xt_NFQUEUE",
    "nfnetlink_queue",
    "nf_conntrack",
    "sch_netem",
    "sch_prio",
    "sch_ingress",
    "cls_fw",
    "cls_basic",
    "em_meta",
    "sch_tbf",
    "veth",
    "bridge",
    "dummy",
    "ifb",
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "loop",
    "fuse",
];

fn main() -> anyhow::Result<ExitCode> {
    if let Some(why) = guest::missing() {
        println!("SKIPPED guest: {why}");
        return Ok(ExitCode::SUCCESS);
    }
    let target = std::env::current_exe()?.ancestors().nth(2).context("not in a target folder")?.to_owned();
    let cache = target.join("guest");
    std::fs::create_dir_all(&cache)?;
    let (suites, programs) = built()?;
    let mut content = Content {
        programs: ["ip", "tc", "nft", "ping", "nstat", "unshare", "nsenter"].map(String::from).to_vec(),
        modules: MODULES.map(String::from).to_vec(),
        files: programs,
    };
    content.files.extend(suites.iter().cloned());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let script = suites.iter().fold(format!("failed=0; export {}=1\n", skip::EMULATED), |script, suite| {
        script + &format!("{} --test-threads=1 {} || failed=1\n", suite.display(), arguments.join(" "))
    }) + "exit $failed";
    let ended = guest::run(&cache, &content, &script, Duration::from_secs(900))?;
    if !ended.console.contains("test result: ") {
        bail!("the suite did not run in the guest");
    }
    Ok(if ended.code == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the suites and the programs they start, and asks cargo where they are: both at the same path in the guest.
fn built() -> anyhow::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let suites = SUITES.iter().flat_map(|suite| ["--test", suite]);
    let suites = executables("test", ["test", "--no-run", "-p", "squall-tests"].into_iter().chain(suites))?;
    let programs = executables("bin", ["build", "-p", "squalld", "-p", "squall-tests", "--bins"].into_iter())?;
    let named = |name: &str| {
        let found = programs.iter().find(|path| path.file_name() == Some(Path::new(name).as_os_str()));
        found.cloned().with_context(|| format!("cargo did not name {name}"))
    };
    // The lab makes both programs' directory visible in its hosts, wherever that is.
    Ok((suites, vec![named("squalld")?, named("squall-lab")?]))
}

/// Those of this kind that cargo builds: `test` or `bin`.
fn executables<'a>(kind: &str, arguments: impl Iterator<Item = &'a str>) -> anyhow::Result<Vec<PathBuf>> {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    cargo.args(arguments).arg("--message-format=json");
    let output = cargo.stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("the suites do not build");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let messages = messages.filter(|message| message["target"]["kind"][0] == kind);
    Ok(messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).collect())
}
