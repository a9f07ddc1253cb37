//! Who runs first on a burdened host: what undoes faults before what makes them (sched(7), setpriority(2), proc_pid_oom_score_adj(5)).
//!
//! All of it is best effort: without CAP_SYS_NICE or CAP_SYS_RESOURCE everything works, at the ordinary priority. Children start at the
//! ordinary priority again (SCHED_RESET_ON_FORK), so a hog never inherits its agent's. No memory is locked: the guard gives its clean
//! pages back on purpose and reads them again from the page cache, and a memory hog keeps its reserve free.

/// Never taken. With any other number they are taken right after a hog that is dying and has not yet given its memory back (seen: 15 ms
/// after it, in a cgroup whose limit had been lowered). The hogs are at 1000.
const SPARED: i32 = -1000;
/// Below that of every ordinary process, and takeable: what a holder holds ends with it.
const HOLDER: i32 = -900;
/// That of an ordinary process.
const ORDINARY: i32 = 0;
const OOM_SCORE: &str = "/proc/self/oom_score_adj";
const AGENT: i32 = -10;
/// The lowest that is before every ordinary process.
const FIRST: i32 = 1;

/// The calling thread, which is all that an agent needs. Its children do not inherit it.
pub fn of_an_agent() {
    nice(AGENT);
}

/// It sleeps until somebody is dead or late, and then works for milliseconds: before everything that is ordinary.
pub fn of_a_guard() {
    if !schedule(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, FIRST) {
        nice(AGENT);
    }
}

/// A holder that is no hog: its deadline must ring in time.
pub fn of_a_holder() {
    nice(AGENT);
}

fn nice(level: i32) {
    schedule(libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, 0);
    // SAFETY: plain system call on this thread.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, level) };
}

fn schedule(policy: i32, priority: i32) -> bool {
    // SAFETY: all its fields are plain numbers, for which zero is a value.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = priority;
    // SAFETY: reads one structure of ours.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) == 0 }
}

/// Every child inherits this, the guard by design. So only after what starts services has been started: they would not be themselves.
pub fn spare_from_the_oom_killer() {
    let _ = std::fs::write(OOM_SCORE, SPARED.to_string());
}

/// A holder is taken before its agent and its guard.
pub fn let_the_oom_killer_take_a_holder() {
    raise(HOLDER);
}

/// What starts services hands its own score on to them, also where the agent was started with a lower one (`OOMScoreAdjust=`).
pub fn let_the_oom_killer_take_as_any_other() {
    raise(ORDINARY);
}

/// Never lowers it, which would need CAP_SYS_RESOURCE.
fn raise(least: i32) {
    let now = std::fs::read_to_string(OOM_SCORE).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if now.is_some_and(|now| now < least) {
        let _ = std::fs::write(OOM_SCORE, least.to_string());
    }
}
