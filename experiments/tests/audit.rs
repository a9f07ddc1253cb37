//! Nothing can be changed in an audit log unseen: whatever is edited, dropped, doubled, moved, cut or put in is found.

use std::collections::BTreeMap;

use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use squall_experiments::audit::{self, Chain, Checked, File, Head, Record, Stamp, Tip, What, Witness};
use squall_experiments::run_event::{InjectionState, RevertCause};

const AGENT: &str = "agent/db1";
const COORDINATOR: &str = "coordinator/00112233aabbccdd";

/// A log in memory, in files of a few records.
struct Written {
    tip: Tip,
    files: Vec<Vec<Vec<u8>>>,
    mono_us: u64,
}

impl Written {
    fn new(log: &str) -> Written {
        let mut written = Written { tip: Tip::new(log), files: vec![Vec::new()], mono_us: 0 };
        written.add(log, What::Begun { log: log.into(), version: audit::VERSION, after: String::new() });
        written
    }

    fn add(&mut self, who: &str, what: What) {
        self.mono_us += 1_733;
        let at = Stamp { wall_ms: 1_790_000_000_000 + self.mono_us / 1000, mono_us: self.mono_us };
        let (line, tip) = self.tip.next(at, who, &what);
        self.tip = tip;
        self.files.last_mut().unwrap().push(line.into_bytes());
    }

    fn rotate(&mut self) {
        self.files.push(Vec::new());
        let file = self.files.len() as u32;
        self.add(AGENT, What::Continued { log: self.tip.head.log.clone(), file });
    }

    fn bytes(&self) -> Vec<Vec<u8>> {
        self.files.iter().map(|lines| lines.concat()).collect()
    }
}

fn check(files: &[Vec<u8>], witnesses: &[Witness]) -> Result<Checked, audit::Fault> {
    let names: Vec<String> = (1..=files.len() as u32).map(audit::file_name).collect();
    let files: Vec<File> = names.iter().zip(files).map(|(name, bytes)| File { name, bytes }).collect();
    let checked = Checked::of(&files, Chain::Whole)?;
    checked.against(witnesses)?;
    Ok(checked)
}

fn state(injection: &str, state: InjectionState, cause: Option<RevertCause>) -> What {
    What::State { injection: injection.into(), state, cause, detail: String::new() }
}

/// A coordinator and an agent do `injections` and tell each other how far they are.
fn a_day(injections: usize, rng: &mut ChaCha8Rng) -> (Written, Written) {
    let (mut agent, mut coordinator) = (Written::new(AGENT), Written::new(COORDINATOR));
    agent.add(
        AGENT,
        What::Started { version: "0.1.0".into(), boot_id: "b00t".into(), pid: rng.random_range(2..30_000) },
    );
    agent.add(AGENT, What::Policy { source: "built-in policy".into(), sha256: audit::sha256(b"policy") });
    for index in 0..injections {
        if rng.random_bool(0.4) {
            agent.rotate();
        }
        let (run, injection) = (format!("run{index}"), format!("run{index}/0.db1"));
        coordinator.add(
            "ada at 127.0.0.1",
            What::Submitted {
                run: run.clone(),
                name: "x".into(),
                seed: rng.random(),
                plan: audit::sha256(run.as_bytes()),
            },
        );
        agent.add(COORDINATOR, What::Seen { head: coordinator.tip.head.clone() });
        let order = |node: &str| What::Order {
            node: node.into(),
            run: run.clone(),
            injection: injection.clone(),
            fault: "cpu-pressure".into(),
            epoch: 3,
            duration_ms: 30_000,
            lease_ms: 10_000,
            effects: Vec::new(),
        };
        coordinator.add(COORDINATOR, order("db1"));
        agent.add(COORDINATOR, order("db1"));
        for (now, cause) in [(InjectionState::Active, None), (InjectionState::Reverted, Some(RevertCause::Deadline))] {
            agent.add(AGENT, state(&injection, now, cause));
            coordinator.add(AGENT, state(&injection, now, cause));
        }
        coordinator.add(AGENT, What::Seen { head: agent.tip.head.clone() });
    }
    (agent, coordinator)
}

fn witnesses(of: &Written) -> Vec<Witness> {
    check(&of.bytes(), &[]).unwrap().seen
}

fn head_file(head: &Head) -> Witness {
    Witness { place: audit::HEAD_FILE.into(), head: head.clone() }
}

/// Changes something, and says what.
fn mutate(files: &mut Vec<Vec<Vec<u8>>>, rng: &mut ChaCha8Rng) -> String {
    let file = rng.random_range(0..files.len());
    let line = rng.random_range(0..files[file].len());
    let other_file = rng.random_range(0..files.len());
    let other = rng.random_range(0..files[other_file].len());
    match rng.random_range(0..8) {
        0 | 1 => {
            let text = &mut files[file][line];
            let at = rng.random_range(0..text.len());
            text[at] ^= 1 << rng.random_range(0..8);
            format!("a bit of byte {at}")
        }
        2 => {
            files[file].remove(line);
            "drop".into()
        }
        3 => {
            let copy = files[file][line].clone();
            files[other_file].insert(other, copy);
            "duplicate".into()
        }
        4 if (file, line) != (other_file, other) => {
            let copy = files[file][line].clone();
            files[file][line] = std::mem::replace(&mut files[other_file][other], copy);
            "swap".into()
        }
        5 => {
            // From a byte on, to the end of the log.
            let keep = rng.random_range(0..files[file][line].len());
            files[file][line].truncate(keep);
            files[file].truncate(line + 1);
            files.truncate(file + 1);
            "truncate".into()
        }
        6 => {
            files.remove(file);
            "drop of a file".into()
        }
        _ => {
            let text = &mut files[file][line];
            let at = rng.random_range(0..=text.len());
            text.insert(at, *b"\n {}\"0a,\r\x00\xff".choose_byte(rng));
            format!("a byte put in at {at}")
        }
    }
}

trait ChooseByte {
    fn choose_byte(&self, rng: &mut ChaCha8Rng) -> &u8;
}
impl ChooseByte for [u8] {
    fn choose_byte(&self, rng: &mut ChaCha8Rng) -> &u8 {
        &self[rng.random_range(0..self.len())]
    }
}

/// `count` mutations of one of the two logs.
fn mutations(count: usize, seed: u64, of: fn((Written, Written)) -> Written) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut day = || {
        let injections = rng.random_range(1..4);
        of(a_day(injections, &mut rng))
    };
    let logs: Vec<Written> = (0..40).map(|_| day()).collect();
    let mut kinds = BTreeMap::<String, usize>::new();
    for index in 0..count {
        let log = &logs[index % logs.len()];
        let mut files = log.files.clone();
        let what = mutate(&mut files, &mut rng);
        assert_ne!(files, log.files, "{what} changed nothing");
        let bytes: Vec<Vec<u8>> = files.iter().map(|lines| lines.concat()).collect();
        let found = check(&bytes, &[head_file(&log.tip.head)]);
        assert!(found.is_err(), "mutation {index} was not found: {what}");
        *kinds.entry(what.chars().take(10).collect()).or_default() += 1;
    }
    // Bits, bytes, drop, duplicate, swap, truncate, files.
    assert!(kinds.len() == 7 && kinds.values().all(|found| *found > count / 20), "{kinds:?}");
}

// Two tests, so that they run side by side: 100,000 mutations in all.

#[test]
fn each_of_50_000_random_mutations_of_an_agents_log_is_found() {
    mutations(50_000, 12, |(agent, _)| agent);
}

#[test]
fn each_of_50_000_random_mutations_of_a_coordinators_log_is_found() {
    mutations(50_000, 13, |(_, coordinator)| coordinator);
}

#[test]
fn a_log_that_nobody_touched_holds_alone_with_its_head_and_against_the_other() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for injections in 1..20 {
        let (agent, coordinator) = a_day(injections, &mut rng);
        let checked = check(&agent.bytes(), &[head_file(&agent.tip.head)]).unwrap();
        assert_eq!(checked.against(&witnesses(&coordinator)), Ok(injections));
        assert_eq!(check(&coordinator.bytes(), &[]).unwrap().against(&witnesses(&agent)), Ok(injections));
        assert_eq!(checked.head, agent.tip.head);
    }
}

#[test]
fn without_its_head_file_a_shortened_log_is_found_against_the_other_log() {
    let (agent, coordinator) = a_day(6, &mut ChaCha8Rng::seed_from_u64(2));
    let seen = witnesses(&coordinator);
    let mut files = agent.files.clone();
    files.last_mut().unwrap().pop();
    if files.last().unwrap().is_empty() {
        files.pop();
    }
    let cut: Vec<Vec<u8>> = files.iter().map(|lines| lines.concat()).collect();
    assert!(check(&cut, &[]).is_ok(), "a chain alone cannot know its end");
    let fault = check(&cut, &seen).unwrap_err();
    assert!(fault.what.contains("its end is missing"), "{fault}");
}

#[test]
fn a_forger_who_makes_the_whole_chain_anew_is_found_against_the_other_log() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let (agent, coordinator) = a_day(4, &mut rng);
    let seen = witnesses(&coordinator);
    let records: Vec<Record> =
        agent.files.concat().iter().map(|line| Record::read(&line[..line.len() - 1]).unwrap()).collect();
    for _ in 0..300 {
        let mut forged = records.clone();
        let at = rng.random_range(1..forged.len());
        match rng.random_range(0..4) {
            0 => drop(forged.remove(at)),
            1 => forged[at].who.push('x'),
            2 => forged[at].wall_ms += 1,
            _ => forged[1..].shuffle(&mut rng),
        }
        let mut tip = Tip::new(AGENT);
        let mut files: Vec<Vec<u8>> = Vec::new();
        for record in &forged {
            let what = record.what.clone().unwrap();
            if files.is_empty() || matches!(what, What::Continued { .. }) {
                files.push(Vec::new());
            }
            let (line, next) = tip.next(Stamp { wall_ms: record.wall_ms, mono_us: record.mono_us }, &record.who, &what);
            files.last_mut().unwrap().extend(line.into_bytes());
            tip = next;
        }
        if forged == records {
            continue;
        }
        assert!(check(&files, &[head_file(&tip.head)]).is_ok(), "whoever makes all hashes anew has a whole chain");
        assert!(check(&files, &seen).is_err());
    }
}

#[test]
fn what_a_log_says_of_its_own_losses_is_told() {
    let mut log = Written::new(AGENT);
    log.add(AGENT, What::Missed { head: Head { log: AGENT.into(), seq: 9, hash: audit::sha256(b"") } });
    let fault = check(&log.bytes(), &[]).unwrap_err();
    assert_eq!((fault.line, fault.what.contains("record 9 of its head file")), (2, true), "{fault}");
}

#[test]
fn older_files_may_be_kept_elsewhere_if_the_reader_says_so() {
    let mut log = Written::new(AGENT);
    log.rotate();
    log.add(AGENT, What::Stopped);
    let late = &log.bytes()[1..];
    assert!(check(late, &[]).unwrap_err().what.contains("its earlier files are missing"));
    let file = [File { name: "late", bytes: &late[0] }];
    let checked = Checked::of(&file, Chain::Later).unwrap();
    assert_eq!((checked.first, checked.records()), (2, 2));
}

#[test]
fn a_record_of_a_later_version_holds_though_it_is_not_understood() {
    let mut log = Written::new(AGENT);
    log.add(AGENT, What::Stopped);
    let line = log.files[0][1].clone();
    let text = String::from_utf8(line).unwrap().replace("stopped", "danced");
    let body = text.split(",\"hash\"").next().unwrap();
    let line = format!("{body},\"hash\":\"{}\"}}\n", audit::sha256(body.as_bytes()));
    log.files[0][1] = line.into_bytes();
    assert_eq!(check(&log.bytes(), &[]).unwrap().records(), 2);
}
