//! `make guest`: the network suite of the daemon on Debian's kernel, where netem is.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, bail};
use squall_tests::guest::{self, Content};

/// Integration tests of squalld that run in the guest too.
const SUITES: [&str; 1] = ["network"];
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
    let (suites, daemon) = built()?;
    let mut content = Content {
        programs: ["ip", "tc", "nft", "ping", "unshare", "nsenter"].map(String::from).to_vec(),
        modules: MODULES.map(String::from).to_vec(),
        files: vec![daemon],
    };
    content.files.extend(suites.iter().cloned());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let script = suites.iter().fold("failed=0\n".to_owned(), |script, suite| {
        script + &format!("{} --test-threads=1 {} || failed=1\n", suite.display(), arguments.join(" "))
    }) + "exit $failed";
    let ended = guest::run(&cache, &content, &script, Duration::from_secs(900))?;
    if !ended.console.contains("test result: ") {
        bail!("the suite did not run in the guest");
    }
    Ok(if ended.code == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the suites and the daemon as cargo does, and asks it where they are.
fn built() -> anyhow::Result<(Vec<PathBuf>, PathBuf)> {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    cargo.args(["test", "--no-run", "--message-format=json", "-p", "squalld", "--bin", "squalld"]);
    cargo.args(SUITES.iter().flat_map(|suite| ["--test", suite]));
    let output = cargo.stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("the suites do not build");
    }
    let mut suites = Vec::new();
    let mut daemon = None;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let Some(path) = message["executable"].as_str().map(PathBuf::from) else { continue };
        let is_test = message["profile"]["test"].as_bool() == Some(true);
        match message["target"]["kind"][0].as_str() {
            Some("test") => suites.push(path),
            Some("bin") if !is_test && path.file_name() == Some(Path::new("squalld").as_os_str()) => {
                daemon = Some(path)
            }
            _ => {}
        }
    }
    Ok((suites, daemon.context("cargo did not name squalld")?))
}
