//! What a run may cost before it counts as one that never ends.

use std::time::Duration;

/// The limits of each run. A run that exceeds one is a finding, since a node that works on for ever
/// is as useless as one that crashes.
///
/// The number of events is the same on every machine, so a run that exceeds it violates
/// `RunEndsWithinLimits` and can be replayed. Time and memory depend on the machine:
/// [`hunt`](crate::hunt::hunt) watches them from another thread, names the seeds that are running,
/// and ends the process, since nothing else ends an endless loop within a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunLimits {
    /// Events in one run.
    pub events_max: u64,
    /// Wall time of one run.
    pub wall_max: Duration,
    /// Memory of the whole process, in MiB; watched on Linux only.
    pub memory_max_mib: u64,
}

impl Default for RunLimits {
    fn default() -> Self {
        RunLimits {
            // A thousand times the events of a run of two-phase commit; some seconds of wall time.
            events_max: 2_000_000,
            // A run takes milliseconds. A minute leaves room for a machine that is busy otherwise.
            wall_max: Duration::from_secs(60),
            // Thousands of times the memory of a run; below what makes a small machine swap.
            memory_max_mib: 2_048,
        }
    }
}

impl RunLimits {
    /// These limits with another number of events.
    ///
    /// # Panics
    /// If it is 0: every run would be a finding.
    #[must_use]
    #[track_caller]
    pub fn events_max(self, events_max: u64) -> Self {
        assert!(events_max > 0, "a run needs at least one event");
        RunLimits { events_max, ..self }
    }

    /// These limits with another wall time.
    ///
    /// # Panics
    /// If it is 0: every run would be a finding.
    #[must_use]
    #[track_caller]
    pub fn wall_max(self, wall_max: Duration) -> Self {
        assert!(!wall_max.is_zero(), "a run needs some wall time");
        RunLimits { wall_max, ..self }
    }

    /// These limits with another size of the process, in MiB.
    ///
    /// # Panics
    /// If it is 0: every run would be a finding.
    #[must_use]
    #[track_caller]
    pub fn memory_max_mib(self, memory_max_mib: u64) -> Self {
        assert!(memory_max_mib > 0, "a process needs some memory");
        RunLimits { memory_max_mib, ..self }
    }
}
