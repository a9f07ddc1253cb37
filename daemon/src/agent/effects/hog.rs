//! Hog: the holder itself burns processors or occupies memory, so its death ends it.
//!
//! It works at the ordinary priority, in a cgroup of its own where the agent was given one for that ([`group`]), else in the agent's: a
//! limit on the agent's unit (CPUQuota, MemoryMax) bounds the hog either way. The kernel's OOM killer takes a hog before anything else.

mod burn;
pub mod group;
mod occupy;

use std::path::Path;
use std::time::Duration;

use squall_experiments::effect::{Amount, Hog};
use squall_experiments::units::{Percent, Size};

use super::amounts::roughly;
use super::tether::{Outcome, Tether};
use super::{Context, Hold, Prepared, Refusal, Trace};
use crate::agent::kernel::memory::{self, Memory};

/// Threads beyond this are a fault of another kind (scheduler, pids).
const MOST_WORKERS: u32 = 4096;

pub fn prepare(effect: &Hog, context: &Context) -> Result<Prepared, Refusal> {
    let group = group::of(context);
    let bytes = match effect {
        Hog::Cpu { workers: 0, .. } => return Err(Refusal("cpu: 0 workers burn nothing".into())),
        Hog::Cpu { workers, .. } if *workers > MOST_WORKERS => {
            return Err(Refusal(format!("cpu: {workers} workers are more than {MOST_WORKERS}")));
        }
        Hog::Cpu { load, .. } if *load == Percent::ZERO => {
            return Err(Refusal("cpu: a load of 0% burns nothing".into()));
        }
        Hog::Cpu { .. } => 0,
        Hog::Memory { amount, reserve } => {
            let memory = look()?;
            resolve(*amount, Size(group::reserve(reserve.0, group.as_deref(), memory.limited)), &memory)?
        }
    };
    let traces = group.iter().map(|path| Trace::Cgroup { path: path.clone() }).collect();
    Ok(Prepared { hold: Hold::Hog { hog: effect.clone(), bytes, group }, traces })
}

fn look() -> Result<Memory, Refusal> {
    memory::look().ok_or_else(|| Refusal("memory: /proc/meminfo cannot be read".into()))
}

/// How many bytes `amount` means here and now. A share or a rest is bounded by the reserve; a number of bytes is taken at its word.
fn resolve(amount: Amount, reserve: Size, memory: &Memory) -> Result<u64, Refusal> {
    let allowed = memory.available.saturating_sub(reserve.0);
    let (available, whole) = (roughly(memory.available), roughly(memory.whole));
    let bytes = match amount {
        Amount::Bytes(Size(bytes)) if bytes > allowed => {
            return Err(Refusal(format!(
                "memory: {} asked for, but only {available} of {whole} are available and {reserve} must stay available",
                roughly(bytes)
            )));
        }
        Amount::Bytes(Size(bytes)) => bytes,
        Amount::Percent(share) => share.of(memory.whole).min(allowed),
        Amount::LeaveFree(Size(rest)) => memory.available.saturating_sub(rest).min(allowed),
    };
    if bytes == 0 {
        return Err(Refusal(format!(
            "memory: nothing to occupy: {available} of {whole} are available and {reserve} must stay available"
        )));
    }
    Ok(bytes)
}

pub fn hold(hog: &Hog, bytes: u64, group: Option<&Path>, tether: &mut Tether) -> anyhow::Result<Outcome> {
    die_first();
    match hog {
        Hog::Cpu { workers, load } => burn::hold(*workers, *load, tether),
        Hog::Memory { reserve, .. } => {
            let limited = memory::look().is_some_and(|memory| memory.limited);
            occupy::hold(bytes, group::reserve(reserve.0, group, limited), tether)
        }
    }
}

/// Whatever runs out, the OOM killer takes this process first (proc_pid_oom_score_adj(5)); raising needs no privilege.
fn die_first() {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "1000") {
        eprintln!("squalld holder: oom_score_adj: {error}");
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn memory_is_resolved_within_what_is_available_less_the_reserve() {
        let memory = Memory { whole: 1000 * MIB, available: 400 * MIB, limited: false };
        let reserve = Size(100 * MIB);
        let share = |text: &str| Amount::Percent(text.parse().unwrap());
        assert_eq!(resolve(share("10%"), reserve, &memory).unwrap(), 100 * MIB);
        assert_eq!(resolve(share("90%"), reserve, &memory).unwrap(), 300 * MIB);
        assert_eq!(resolve(Amount::LeaveFree(Size(150 * MIB)), reserve, &memory).unwrap(), 250 * MIB);
        assert_eq!(resolve(Amount::LeaveFree(Size(0)), reserve, &memory).unwrap(), 300 * MIB);
        let refusal = resolve(Amount::Bytes(Size(301 * MIB)), reserve, &memory).unwrap_err();
        assert!(refusal.0.contains("301 MiB asked for, but only 400 MiB of 1000 MiB are available"), "{refusal}");
        assert!(resolve(Amount::LeaveFree(Size(500 * MIB)), reserve, &memory).is_err());
    }
}
