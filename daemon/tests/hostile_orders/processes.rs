//! Selectors that mean protected processes, on processes of the test's own.

use std::path::PathBuf;
use std::process::Child;

use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use squall_experiments::effect::{Effect, Freeze, SendSignal, SignalName};
use squall_experiments::target::{Pick, ProcessSelector};
use squalld::agent::effects::ProcessId;
use squalld::agent::kernel::child::effective_user;
use squalld::agent::kernel::pidfd;
use squalld::agent::policy::{Policy, Protected};
use squalld::program::{Program, command};

/// Copies of sleep(1) under names of their own: `name`, seconds, how many.
struct Crowd {
    directory: tempfile::TempDir,
    members: Vec<(String, String, Child)>,
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for (_, _, child) in &mut self.members {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Crowd {
    fn gather() -> Crowd {
        let directory = tempfile::tempdir().unwrap();
        let mark = std::process::id();
        let mut members = Vec::new();
        for (index, stem) in ["alpha", "alpha", "beta", "gamma"].into_iter().enumerate() {
            let name = format!("{stem}{mark}");
            let path = directory.path().join(&name);
            if !path.exists() {
                std::fs::copy("/usr/bin/sleep", &path).unwrap();
            }
            let seconds = format!("6{index}.{mark}");
            let child = command(Program::Configured { path: &path }, [&seconds]).unwrap().spawn().unwrap();
            std::fs::write(directory.path().join(format!("{index}.pid")), format!("{}\n", child.id())).unwrap();
            members.push((name, seconds, child));
        }
        Crowd { directory, members }
    }

    fn id(&self, index: usize) -> ProcessId {
        pidfd::identify(self.members[index].2.id() as i32).unwrap()
    }

    fn pid_file(&self, index: usize) -> PathBuf {
        self.directory.path().join(format!("{index}.pid"))
    }
}

#[test]
fn a_selector_is_refused_exactly_if_one_that_it_means_is_protected() {
    let crowd = Crowd::gather();
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let everyone: Vec<usize> = (0..crowd.members.len()).collect();
    let (mut refused, mut allowed) = (0, 0);
    for round in 0..150 {
        // By name or by pid; of a pid that was another process before, nobody is meant.
        let named: Vec<usize> =
            if random.random_ratio(1, 2) { vec![*everyone.choose(&mut random).unwrap()] } else { vec![] };
        let numbered: Vec<usize> = everyone.iter().copied().filter(|_| random.random_ratio(1, 4)).collect();
        let names: Vec<&str> = named.iter().map(|index| crowd.members[*index].0.as_str()).collect();
        let pids: Vec<String> = numbered.iter().map(|index| crowd.members[*index].2.id().to_string()).collect();
        let text = format!(
            "apiVersion: squall/v1\nkind: Policy\nprotect: {{processes: {{names: [{}], pids: [{}]}}}}\n",
            names.join(", "),
            pids.join(", ")
        );
        let policy = Policy::parse("node.yaml", &text).unwrap();
        let mut protected = policy.protected_processes();
        let stranger = *everyone.choose(&mut random).unwrap();
        let reused = ProcessId { start: crowd.id(stranger).start.wrapping_sub(1), ..crowd.id(stranger) };
        protected.push(Protected { process: reused, line: 3 });

        let one = *everyone.choose(&mut random).unwrap();
        let (name, seconds, _) = &crowd.members[one];
        let mut selector = ProcessSelector::default();
        let meant: Vec<usize> = match random.random_range(0..4) {
            0 => {
                selector.name = Some(name.clone());
                everyone.iter().copied().filter(|other| crowd.members[*other].0 == *name).collect()
            }
            1 => {
                selector.command = Some(format!("*{name} *"));
                everyone.iter().copied().filter(|other| crowd.members[*other].0 == *name).collect()
            }
            2 => {
                selector.command = Some(format!("*{seconds}"));
                selector.user = Some(effective_user().to_string());
                vec![one]
            }
            _ => {
                selector.pid_file = Some(crowd.pid_file(one).display().to_string());
                vec![one]
            }
        };
        // A choice of one among many does not make the many harmless.
        selector.pick = random.random_ratio(1, 2).then_some(Pick { count: Some(1), percent: None, seed: Some(round) });
        let effect = match random.random_ratio(1, 2) {
            true => Effect::Freeze(Freeze { processes: selector }),
            false => {
                let signal = SignalName::Kill;
                Effect::Signal(SendSignal { processes: selector, signal, repeat: None, back_within: None })
            }
        };
        let is_protected =
            |index: &usize| names.contains(&crowd.members[*index].0.as_str()) || numbered.contains(index);
        let expected = meant.iter().any(is_protected);
        let refusals = policy.process_refusals(&effect, &[], &protected);
        assert_eq!(!refusals.is_empty(), expected, "{text}{effect:?}\n{refusals:?}");
        assert!(refusals.iter().all(|refusal| refusal.starts_with("policy node.yaml:3: ")), "{refusals:?}");
        if expected { refused += 1 } else { allowed += 1 }
    }
    assert!(refused > 30 && allowed > 30, "{refused} refused, {allowed} allowed");
}
