//! All processes of a host, for effects on the host as a whole, and who is never among them.
//!
//! Spared: process 1, Squall's own with what they have just started (a packet filter's front end), the ancestors of the one that asks, and
//! what the node's policy protects with all that those have started, so that a protected sshd means its sessions, too.

use std::collections::BTreeMap;

use squall_experiments::target::ProcessSelector;

use super::conditions::Condition;
use super::is_squall;
use crate::agent::effects::{ProcessId, Refusal};
use crate::agent::kernel::procfs::{self, Stat};

pub struct Everyone {
    own: Vec<ProcessId>,
    protected: Vec<Vec<Condition>>,
}

impl Everyone {
    /// `own` as in [`super::select`]. A selector that means nothing on this host protects nothing.
    pub fn but(own: &[ProcessId], protected: &[ProcessSelector]) -> Everyone {
        let protected = protected.iter().filter_map(|selector| Condition::all_of(selector).ok()).collect();
        Everyone { own: own.to_vec(), protected }
    }

    /// Those that are to be hit now, by number; `known` are passed over unseen.
    pub fn now(&self, known: impl Fn(i32) -> bool) -> Result<Vec<Stat>, Refusal> {
        let pids = procfs::pids().map_err(|error| Refusal(format!("cannot read /proc: {error}")))?;
        if pids.iter().all(|pid| known(*pid) || self.own.iter().any(|own| own.pid == *pid)) {
            return Ok(Vec::new());
        }
        let all: BTreeMap<i32, Stat> =
            pids.into_iter().filter_map(procfs::stat).map(|stat| (stat.process.pid, stat)).collect();
        let ours = self.squall(&all);
        let hit = |stat: &&Stat| {
            !known(stat.process.pid) && stat.lives() && !stat.kernel_thread && !self.spares(stat, &all, &ours)
        };
        Ok(all.values().filter(hit).cloned().collect())
    }

    /// Squall's own processes, and who has started the one that asks.
    fn squall(&self, all: &BTreeMap<i32, Stat>) -> Vec<i32> {
        let me = std::process::id() as i32;
        let own = |stat: &&Stat| self.own.contains(&stat.process) || is_squall(stat.process.pid);
        let mut ours: Vec<i32> = all.values().filter(own).map(|stat| stat.process.pid).collect();
        ours.extend([1, me]);
        ours.extend(line(me, all).map(|stat| stat.process.pid));
        ours
    }

    fn spares(&self, stat: &Stat, all: &BTreeMap<i32, Stat>, ours: &[i32]) -> bool {
        let pid = stat.process.pid;
        // What Squall starts for others (a service) has a session of its own; what it starts for itself has not.
        let helper =
            || stat.session != pid && all.get(&stat.parent).is_some_and(|parent| is_squall(parent.process.pid));
        let protects = |stat: &Stat| {
            stat.process.pid != 1
                && self.protected.iter().any(|conditions| conditions.iter().all(|condition| condition.holds(stat)))
        };
        ours.contains(&pid) || helper() || protects(stat) || line(pid, all).any(protects)
    }
}

/// The ancestors of a process, nearest first.
fn line(pid: i32, all: &BTreeMap<i32, Stat>) -> impl Iterator<Item = &Stat> {
    let parent = move |pid: i32| all.get(&all.get(&pid)?.parent);
    // A number that is used again while we read could lead in a circle.
    std::iter::successors(parent(pid), move |stat| parent(stat.process.pid)).take(all.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (pid, parent, session)
    fn family(members: &[(i32, i32, i32)]) -> BTreeMap<i32, Stat> {
        let stat = |&(pid, parent, session): &(i32, i32, i32)| Stat {
            process: ProcessId { pid, start: 1 },
            name: format!("p{pid}"),
            state: 'S',
            kernel_thread: false,
            parent,
            session,
            cpu_ticks: 0,
        };
        members.iter().map(|member| (member.0, stat(member))).collect()
    }

    #[test]
    fn a_line_of_ancestors_ends_where_it_is_not_known_and_in_a_circle() {
        let all = family(&[(1, 0, 1), (50, 1, 50), (60, 50, 50), (70, 71, 70), (71, 70, 70)]);
        let pids = |pid| line(pid, &all).map(|stat| stat.process.pid).collect::<Vec<_>>();
        assert_eq!(pids(60), [50, 1]);
        assert!(pids(1).is_empty());
        assert_eq!(pids(70).len(), all.len());
    }

    #[test]
    fn what_a_protected_process_has_started_is_spared_and_other_children_of_its_parents_are_not() {
        let all = family(&[(1, 0, 1), (500_000_050, 1, 50), (500_000_060, 500_000_050, 50), (500_000_070, 1, 70)]);
        let selector = ProcessSelector { name: Some("p500000050".into()), ..Default::default() };
        let everyone = Everyone::but(&[], &[selector]);
        let spares = |pid: i32| everyone.spares(&all[&pid], &all, &[1]);
        assert!(spares(500_000_050) && spares(500_000_060) && spares(1));
        assert!(!spares(500_000_070));
    }

    #[test]
    fn whoever_asks_and_its_ancestors_are_never_among_them() {
        let found = Everyone::but(&[], &[]).now(|_| false).unwrap();
        let me = std::process::id() as i32;
        let parent = procfs::stat(me).unwrap().parent;
        assert!(found.iter().all(|stat| ![1, me, parent].contains(&stat.process.pid)));
    }
}
