//! The sizes and faults that a smaller schedule may have.

use stormglass_node::{Micros, NodeId};

use crate::fault::{
    AtRestFault, BarrierFault, Fault, FaultKind, FaultKinds, MessageFault, TimedFault,
};
use crate::profile::{FaultClass, Profile, Setup};
use crate::schedule::Schedule;

/// What candidates of a shrink may differ in. A test of two nodes and of clocks that are wrong asks
/// about two nodes and clocks: a schedule with one node, or with duplicated messages, would show
/// another bug than the one that was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShrinkScope {
    /// Whether the number of nodes stays as it is.
    keep_nodes: bool,
    /// The kinds of faults besides those of the original schedule.
    profile: Profile,
}

impl ShrinkScope {
    /// The sizes and faults that these settings allow.
    pub fn of(setup: &Setup) -> ShrinkScope {
        ShrinkScope { keep_nodes: setup.nodes.is_some(), profile: setup.profile }
    }

    /// Any number of nodes, and every fault but those of the opt-in profiles.
    pub fn any() -> ShrinkScope {
        ShrinkScope::default()
    }
}

/// The scope of one shrink: what its settings allow, and what its original schedule has.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    nodes_min: u16,
    /// How many nodes have faults D13 to D17.
    history_nodes_max: usize,
    kinds: FaultKinds,
}

impl Bounds {
    /// The bounds for a protocol that is tested with `allowed` faults.
    pub(super) fn new<O>(
        scope: ShrinkScope,
        allowed: FaultKinds,
        original: &Schedule<O>,
    ) -> Bounds {
        let mut nodes_min = if scope.keep_nodes { original.plan.nodes } else { 1 };
        // What a node has forgotten, only others can know: a node that is alone cannot help it.
        if !history_nodes(&original.faults).is_empty() {
            nodes_min = nodes_min.max(original.plan.nodes.min(2));
        }
        let history_nodes_max = history_nodes(&original.faults).len();
        // Also the classes of the original, for a schedule that another profile has drawn.
        let classes = original.faults.iter().flat_map(FaultKind::of).map(FaultClass::of);
        let classes: Vec<FaultClass> = classes.collect();
        let profile_or_original = FaultKinds::ALL.iter().filter(|kind| {
            let class = FaultClass::of(*kind);
            scope.profile.fault_classes().contains(&class) || classes.contains(&class)
        });
        // An excluded kind that the original has is part of what it shows.
        let kinds = profile_or_original.filter(|kind| allowed.contains(*kind));
        let kinds = kinds.chain(original.faults.iter().flat_map(FaultKind::of)).collect();
        Bounds { nodes_min, history_nodes_max, kinds }
    }

    /// The least number of nodes.
    pub(super) fn nodes_min(&self) -> u16 {
        self.nodes_min
    }

    /// Whether a cluster of this size and these faults are within the scope.
    pub(super) fn include<'f>(
        &self,
        nodes: u16,
        faults: impl IntoIterator<Item = &'f Fault> + Clone,
    ) -> bool {
        nodes >= self.nodes_min
            && faults.clone().into_iter().all(|fault| self.allow(fault))
            && history_nodes(faults).len() <= self.history_nodes_max
    }

    fn allow(&self, fault: &Fault) -> bool {
        // An entry for a delay that random timing could have drawn replaces this timing, and is no
        // fault.
        if let Fault::Message(_, MessageFault::Delay { by })
        | Fault::Barrier(_, BarrierFault::Slow { by }) = fault
            && *by < TIMING_MAX
        {
            return true;
        }
        FaultKind::of(fault).all(|kind| self.kinds.contains(kind))
    }
}

/// The nodes whose disks have a history (D13-D17), in order.
fn history_nodes<'f>(faults: impl IntoIterator<Item = &'f Fault>) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = Vec::new();
    for fault in faults {
        let (node, crash) = match fault {
            Fault::At(_, TimedFault::SecondProcess { node, .. }) => (*node, None),
            Fault::Crash(at, crash) => (at.node, Some(crash)),
            Fault::At(_, TimedFault::Crash { node, crash }) => (*node, Some(crash)),
            Fault::At(..)
            | Fault::Message(..)
            | Fault::Barrier(..)
            | Fault::Write(..)
            | Fault::Skew { .. } => continue,
        };
        let has_history = crash.is_none_or(|crash| {
            crash.at_rest.is_some_and(|at_rest| !matches!(at_rest, AtRestFault::Damaged(_)))
        });
        if has_history && !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    nodes
}

/// Random timing draws delays up to this.
// The greatest mean of a tail is 20 ms, and a delay is at most five means. The faults of the
// network that rebuilding adds begin here.
const TIMING_MAX: Micros = Micros::from_millis(100);
