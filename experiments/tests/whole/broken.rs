//! Mechanisms that can be taken out of the made-up world, to see that an invariant notices.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Agent and holders know no lease.
    Lease,
    /// Agents count durations and leases on the wall clock.
    Boottime,
    /// The guard watches and never acts.
    Guard,
    /// Admission looks at no other run.
    Admission,
    /// What a dirty run may have left is not held.
    DirtyHeld,
    /// Agents take two faults on the same thing.
    OneWriter,
    /// "Reverted" is said without looking.
    Observation,
    /// Agents that connect do not say what is open.
    OpenInHello,
    /// The coordinator takes `AgentBack` as it was, not as it is when a run hears of it.
    FreshOpen,
    /// Agents do not hear halts.
    Halt,
    /// The coordinator renews also after an abort.
    StopRenewing,
    /// Runs are not woken.
    Ticks,
    /// An agent forgets the highest epoch when it is killed.
    EpochJournaled,
    /// An agent follows whoever speaks.
    Epoch,
    /// Evidence is claimed, not measured.
    Evidence,
}

pub type Without = &'static [Broken];
