//! `make guest`: suites on Debian's kernel, where netem and cgroup v2 are, and what only a machine of our own may suffer: power cuts,
//! reboots, a wall clock that jumps. Arguments: names of suites (none: all), `--all` (also what takes long), after `--` the suites' own.

mod built;
mod suites;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use squall_tests::guest::{self, Content, How, Machine};
use squall_tests::skip;
use suites::{Place, Suite};

/// Of one boot, for each suite in it.
const LIMIT: Duration = Duration::from_secs(1500);
/// More than any sequence of cuts has.
const MOST_BOOTS: usize = 24;
/// An emulated machine takes two. With fewer for all they spoil each other's times, so they run one after the other.
const PROCESSORS_FOR_TWO: usize = 4;
const PROGRAMS: [&str; 22] = [
    "ip",
    "tc",
    "nft",
    "iptables-save",
    "ip6tables-save",
    "iptables-restore",
    "ip6tables-restore",
    "ping",
    "nstat",
    "ss",
    "unshare",
    "nsenter",
    "curl",
    "chattr",
    "mke2fs",
    "mount",
    "umount",
    "kill",
    // busybox has these too, and not where policies and units name them.
    "true",
    "test",
    "rm",
    "sleep",
];
/// Without these a suite says what it skips, or fails by their name: the services that are stopped and started, and what asks for them.
const WELCOME: [&str; 5] = ["iperf3", "redis-server", "redis-cli", "nginx", "pgrep"];
/// Without them no HTTP client is made (Debian's ca-certificates).
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// What the effects and the suites stand on.
const MODULES: [&str; 36] = [
    "virtio_pci",
    "virtio_blk",
    "ext4",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "crc32c_generic",
    "libcrc32c",
    "nf_tables",
    "nft_ct",
    "nft_numgen",
    "nft_reject_inet",
    "nft_queue",
    "nft_compat",
    "xt_NFQUEUE",
    "xt_comment",
    "xt_tcpudp",
    "xt_mark",
    "nfnetlink_queue",
    "nf_conntrack",
    "sch_netem",
    "sch_prio",
    "sch_htb",
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
    "fuse",
];

fn main() -> anyhow::Result<ExitCode> {
    if let Some(why) = guest::missing() {
        println!("SKIPPED guest: {why}");
        return Ok(ExitCode::SUCCESS);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (ours, theirs) = match arguments.iter().position(|argument| argument == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (&arguments[..], &arguments[..0]),
    };
    let all = ours.iter().any(|argument| argument == "--all");
    let wanted: Vec<&str> = ours.iter().map(String::as_str).filter(|argument| *argument != "--all").collect();
    // A suite that is named does all it can.
    let long = all || !wanted.is_empty();
    let chosen = suites::chosen(&wanted, all)?;
    let target = std::env::current_exe()?.ancestors().nth(2).context("not in a target folder")?.to_owned();
    let cache = target.join("guest");
    std::fs::create_dir_all(&cache)?;
    guest::prepare(&cache)?;
    let names: Vec<&str> = chosen.iter().map(|suite| suite.name).collect();
    let built = built::build(&names)?;
    let start = Instant::now();
    // Tests with a boot of their own, unless the suites' own arguments choose others.
    let alone: Vec<(&Suite, &str)> = chosen.iter().flat_map(|suite| suite.parts()).collect();
    let alone: Vec<_> =
        alone.into_iter().filter(|(_, test)| theirs.is_empty() || theirs.iter().any(|one| one == test)).collect();
    let only_alone = !theirs.is_empty() && !alone.is_empty();
    let machines = Place::ALL.map(|place| {
        let suites: Vec<&Suite> = chosen.iter().copied().filter(|suite| suite.on == place).collect();
        let (built, cache) = (&built, &cache);
        move || {
            if suites.is_empty() || only_alone {
                return Ok(Tally::default());
            }
            run(cache, place.name(), &suites, None, built, long, theirs)
        }
    });
    let tallies = if std::thread::available_parallelism()?.get() < PROCESSORS_FOR_TWO {
        machines.map(|machine| machine())
    } else {
        // Side by side: much of their time is waiting.
        std::thread::scope(|scope| {
            machines
                .map(|machine| scope.spawn(machine))
                .map(|machine| machine.join().unwrap_or_else(|_| anyhow::bail!("a machine's keeper ended in a panic")))
        })
    };
    let mut sum = Tally::default();
    for tally in tallies {
        sum = sum + tally?;
    }
    for (suite, test) in alone {
        sum = sum + run(&cache, "alone", &[suite], Some(test), &built, long, &[])?;
    }
    let Tally { passed, failed, skipped, boots } = sum;
    println!(
        "guest: {passed} passed, {failed} failed, {skipped} skipped in {boots} boots, {} s",
        start.elapsed().as_secs()
    );
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
    boots: usize,
}

impl std::ops::Add for Tally {
    type Output = Tally;
    fn add(self, other: Tally) -> Tally {
        Tally {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
            boots: self.boots + other.boots,
        }
    }
}

/// Boots a machine until its suites are through: a suite that cuts its power goes on at the next start, from what it wrote on its disk.
/// `only`: this test of them.
fn run(
    cache: &Path,
    name: &str,
    suites: &[&Suite],
    only: Option<&str>,
    built: &built::Built,
    long: bool,
    arguments: &[String],
) -> anyhow::Result<Tally> {
    let mut content = Content {
        programs: PROGRAMS.map(String::from).to_vec(),
        modules: MODULES.map(String::from).to_vec(),
        files: built.programs.clone(),
        systemd: None,
    };
    if suites.iter().any(|suite| suite.on == Place::Systemd) {
        match guest::systemd::find(cache) {
            Ok(systemd) => content.systemd = Some(systemd),
            Err(why) => {
                suites.iter().for_each(|suite| println!("SKIPPED {}: {why}", suite.name));
                return Ok(Tally { skipped: suites.len(), ..Tally::default() });
            }
        }
    }
    content.files.extend([CERTIFICATES].map(PathBuf::from).into_iter().filter(|file| file.exists()));
    content.programs.extend(WELCOME.iter().filter(|program| guest::has(program)).map(|program| (*program).to_owned()));
    let mut tally = Tally::default();
    // Of the crash matrix, what only this kernel has: the rest is the same on any.
    let mut script = format!("failed=0; export {}=1; export SQUALL_MATRIX=netem\n", skip::EMULATED);
    if long {
        script += &format!("export {}=1\n", guest::inside::ALL);
    }
    for suite in suites {
        let program = built.suite(suite.name)?;
        content.files.push(program.clone());
        let mut chosen = only.map(|test| format!(" --exact {test}")).unwrap_or_default();
        if only.is_none() {
            for (test, why) in suite.left_out {
                println!("{name}| SKIPPED {} {test}: {why}", suite.name);
                tally.skipped += 1;
                chosen += &format!(" --skip {test}");
            }
            chosen.extend(suite.alone.iter().map(|test| format!(" --skip {test}")));
            chosen.extend(suite.only.iter().map(|test| format!(" {test}")));
        }
        script += &format!("{} --test-threads=1{chosen} {} || failed=1\n", program.display(), arguments.join(" "));
    }
    let machine = Machine::build(cache, name, &content, &(script + "exit $failed"))?
        .with_disk(128)?
        .with_disk(64)?
        .with_disk(64)?;
    loop {
        let ended = machine.boot(LIMIT * suites.len() as u32)?;
        tally.boots += 1;
        tally = count(tally, &ended.console);
        match ended.how {
            How::Exit(code) => {
                if code != 0 || !ended.console.contains("test result: ") {
                    tally.failed = tally.failed.max(1);
                }
                return Ok(tally);
            }
            How::Cut | How::Reset if tally.boots < MOST_BOOTS => println!("{name}| {:?}; it starts again", ended.how),
            how => {
                println!("{name}| FAILED: {how:?} at boot {}", tally.boots);
                tally.failed += 1;
                return Ok(tally);
            }
        }
    }
}

/// `test result: ok. 7 passed; 0 failed; ...` and `SKIPPED ...`, as far as this console has them.
fn count(mut tally: Tally, console: &str) -> Tally {
    let mut said_to_pass = 0;
    for line in console.lines() {
        if let Some((_, result)) = line.split_once("test result: ") {
            let number = |what: &str| -> usize {
                let mut words = result.split([' ', ';']).collect::<Vec<_>>().into_iter().rev();
                words
                    .find(|word| *word == what)
                    .and_then(|_| words.next())
                    .and_then(|word| word.parse().ok())
                    .unwrap_or(0)
            };
            tally.passed += number("passed");
            tally.failed += number("failed");
        }
        // The harness counts a skipped test as passed.
        if line.contains("SKIPPED ") {
            tally.skipped += 1;
            said_to_pass += usize::from(!line.contains("(its part"));
        }
    }
    tally.passed = tally.passed.saturating_sub(said_to_pass);
    tally
}
