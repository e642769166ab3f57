//! When a run ends, and which requests must have been answered by then.

use stormglass_node::Micros;

/// When the recovery of a run is over: the probe follows, and then the run ends.
///
/// Whatever is chosen, recovery and probe together last at most
/// [`Plan::recovery_timeout`](crate::plan::Plan::recovery_timeout).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunEnd {
    /// Once no event is pending: for protocols that do nothing without requests.
    #[default]
    Quiet,
    /// Once every node that is not permanently down runs, every request that was sent is answered,
    /// and every property [has settled](crate::property::Property::has_settled): for protocols that
    /// are never quiet, since their nodes send heartbeats.
    Settled,
    /// So long after the fault phase, or once no event is pending. Its probe ends like that of
    /// [`RunEnd::Settled`].
    After(Micros),
}

/// How the recovery of a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryEnd {
    /// No event is pending. Then no node has a deadline either: that would be a wake in the queue.
    Quiet,
    /// As [`RunEnd::Settled`] says.
    Settled,
    /// The time of [`RunEnd::After`] is over.
    Elapsed,
    /// The recovery timeout is over, and what the [`RunEnd`] waits for has not happened.
    TimedOut,
}

/// The nodes without which a cluster need not answer. Nodes that are permanently down do not count
/// as up: those that the plan keeps down (P6), and those that have refused to boot or have halted
/// for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Requests are answered while all nodes are up.
    AllNodes,
    /// Requests are answered while more than half of all nodes are up.
    Majority,
}

impl Availability {
    /// Whether a cluster of which so many nodes are up must answer.
    pub fn is_given(self, up: usize, nodes: usize) -> bool {
        match self {
            Availability::AllNodes => up == nodes,
            Availability::Majority => 2 * up > nodes,
        }
    }
}
