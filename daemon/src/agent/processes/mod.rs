//! Which processes a selector means, here and now: pairs of pid and start time, never a bare pid.
//!
//! All conditions must hold. Never matched: kernel threads, zombies, pid 1, the caller, its `own` (agent, guard, holders) and every
//! other process that runs squalld's own program, so that a fault cannot eat what undoes it.
//! `name: nginx` means master and workers alike, and `port` means every process that shares the listening socket (nginx's master
//! and workers, haproxy's master and worker): kill only the master and the port is still served.

mod conditions;
mod containers;
#[cfg(test)]
mod containers_tests;
mod everyone;
mod near_miss;

use std::os::unix::fs::MetadataExt;

use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use squall_experiments::target::{Pick, ProcessSelector};

use super::effects::{ProcessId, Refusal};
use super::kernel::procfs::{self, Stat};
use conditions::Condition;
pub use conditions::matches_pattern;
pub use containers::Containers;
pub use everyone::Everyone;

/// A process that matches, as a person would recognise it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    pub process: ProcessId,
    pub name: String,
    pub command: String,
}

impl std::fmt::Display for Match {
    /// `process 4711 nginx: worker process`, cut where it would fill the screen.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const LONGEST: usize = 80;
        let what = if self.command.is_empty() { &self.name } else { &self.command };
        write!(f, "process {} {}", self.process.pid, what.chars().take(LONGEST).collect::<String>())
    }
}

/// Those chosen among all that match, by pid; never empty. `pick.seed` is always there: the fault's `compile` fills it.
///
/// # Errors
/// Nothing matches (with what comes nearest), fewer match than `pick` asks for, or the selector means nothing on this host.
pub fn select(selector: &ProcessSelector, own: &[ProcessId]) -> Result<Vec<Match>, Refusal> {
    let conditions = Condition::all_of(selector)?;
    let found = look(&conditions, own)?;
    if found.matches.is_empty() {
        return Err(Refusal(near_miss::explain(&conditions, &found)));
    }
    pick(found.matches, selector.pick.as_ref())
}

/// All that match, by pid, whatever `pick` says. None is an answer and not an error.
pub fn matching(selector: &ProcessSelector, own: &[ProcessId]) -> Result<Vec<Match>, Refusal> {
    Ok(look(&Condition::all_of(selector)?, own)?.matches)
}

/// What one walk through /proc saw.
struct Found {
    matches: Vec<Match>,
    /// Match, but must never be hit.
    spared: Vec<Match>,
    others: Vec<Stat>,
}

fn look(conditions: &[Condition], own: &[ProcessId]) -> Result<Found, Refusal> {
    let pids = procfs::pids().map_err(|error| Refusal(format!("cannot read /proc: {error}")))?;
    let mut found = Found { matches: Vec::new(), spared: Vec::new(), others: Vec::new() };
    let ours = program_identity("self");
    for stat in pids.into_iter().filter_map(procfs::stat).filter(|stat| stat.lives() && !stat.kernel_thread) {
        if !conditions.iter().all(|condition| condition.holds(&stat)) {
            found.others.push(stat);
            continue;
        }
        let process = stat.process;
        let matched = Match { process, name: stat.name, command: procfs::arguments(process.pid).join(" ") };
        let never = process.pid == 1
            || process.pid == std::process::id() as i32
            || own.contains(&process)
            || (ours.is_some() && program_identity(&process.pid.to_string()) == ours);
        if never { &mut found.spared } else { &mut found.matches }.push(matched);
    }
    Ok(found)
}

/// Runs this process's own program, or an earlier build of it.
pub(super) fn is_squall(pid: i32) -> bool {
    let ours = program_identity("self");
    (ours.is_some() && program_identity(&pid.to_string()) == ours)
        || conditions::program_name(pid).is_some_and(|name| name == "squalld")
}

/// Device and inode of the program file, which also tell a deleted and replaced one apart.
fn program_identity(pid: &str) -> Option<(u64, u64)> {
    std::fs::metadata(format!("/proc/{pid}/exe")).ok().map(|file| (file.dev(), file.ino()))
}

fn pick(matches: Vec<Match>, pick: Option<&Pick>) -> Result<Vec<Match>, Refusal> {
    let Some(pick) = pick else { return Ok(matches) };
    let there = matches.len();
    let wanted = match (pick.count, pick.percent) {
        (Some(0), _) => return Err(Refusal("pick: a count of 0 hits nothing".into())),
        (Some(count), _) if count as usize > there => {
            return Err(Refusal(format!("pick: {count} processes are asked for, but only {there} match")));
        }
        (Some(count), _) => count as usize,
        (None, Some(percent)) => match percent.of(there as u64) as usize {
            0 => {
                let hint = "shares are rounded down; use a larger share or a count";
                return Err(Refusal(format!("pick: {percent} of {there} processes is less than one ({hint})")));
            }
            count => count,
        },
        (None, None) => return Ok(matches),
    };
    let mut random = ChaCha8Rng::seed_from_u64(pick.seed.unwrap_or(0));
    let mut chosen = sample(&mut random, there, wanted).into_vec();
    chosen.sort_unstable();
    Ok(chosen.into_iter().map(|index| matches[index].clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ten() -> Vec<Match> {
        let of = |pid| Match { process: ProcessId { pid, start: 1 }, name: "worker".into(), command: String::new() };
        (10..20).map(of).collect()
    }

    fn by(count: Option<u32>, percent: Option<&str>, seed: u64) -> Option<Pick> {
        Some(Pick { count, percent: percent.map(|text| text.parse().unwrap()), seed: Some(seed) })
    }

    #[test]
    fn the_same_seed_picks_the_same_processes_and_another_seed_others() {
        let first = pick(ten(), by(Some(3), None, 7).as_ref()).unwrap();
        assert_eq!(first.len(), 3);
        assert_eq!(pick(ten(), by(Some(3), None, 7).as_ref()).unwrap(), first);
        assert!((0..20).any(|seed| pick(ten(), by(Some(3), None, seed).as_ref()).unwrap() != first));
    }

    #[test]
    fn shares_round_down_and_a_share_of_nothing_is_refused() {
        assert_eq!(pick(ten(), by(None, Some("39%"), 1).as_ref()).unwrap().len(), 3);
        let refusal = pick(ten(), by(None, Some("9%"), 1).as_ref()).unwrap_err();
        assert!(refusal.0.contains("9% of 10 processes is less than one"), "{refusal}");
    }

    #[test]
    fn more_than_match_is_refused_with_both_numbers() {
        let refusal = pick(ten(), by(Some(11), None, 1).as_ref()).unwrap_err();
        assert!(refusal.0.contains("11 processes are asked for, but only 10 match"), "{refusal}");
    }
}
