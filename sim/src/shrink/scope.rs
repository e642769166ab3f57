//! The sizes and faults that a smaller schedule may have.

use crate::fault::{Fault, TimedFault};
use crate::profile::{Profile, Setup};
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

/// The kinds of faults, as profiles choose among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct FaultClasses {
    network: bool,
    crashes: bool,
    disk: bool,
    clocks: bool,
}

impl FaultClasses {
    fn of_profile(profile: Profile) -> FaultClasses {
        let none = FaultClasses::default();
        match profile {
            Profile::Swarm | Profile::Everything => {
                FaultClasses { network: true, crashes: true, disk: true, clocks: true }
            }
            Profile::Calm => none,
            Profile::Lossy | Profile::Garbled => FaultClasses { network: true, ..none },
            Profile::Crashy
            | Profile::BitRot
            | Profile::LyingDisk
            | Profile::ReplacedDisk
            | Profile::UnreadableDisk => FaultClasses { crashes: true, ..none },
            Profile::FaultyDisk => FaultClasses { crashes: true, disk: true, ..none },
            Profile::Skewed => FaultClasses { clocks: true, ..none },
        }
    }

    fn class_of(&mut self, fault: &Fault) -> &mut bool {
        match fault {
            Fault::Message(..) | Fault::At(_, TimedFault::Cut { .. } | TimedFault::Clog { .. }) => {
                &mut self.network
            }
            Fault::Crash(..) | Fault::At(_, TimedFault::Crash { .. }) => &mut self.crashes,
            Fault::Barrier(..) | Fault::Write(..) => &mut self.disk,
            Fault::Skew { .. }
            | Fault::At(_, TimedFault::Pause { .. } | TimedFault::ClockJump { .. }) => {
                &mut self.clocks
            }
        }
    }
}

/// The scope of one shrink: what its settings allow, and what its original schedule has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    nodes_min: u16,
    classes: FaultClasses,
}

impl Bounds {
    pub(super) fn new<O>(scope: ShrinkScope, original: &Schedule<O>) -> Bounds {
        let nodes_min = if scope.keep_nodes { original.plan.nodes } else { 1 };
        let mut classes = FaultClasses::of_profile(scope.profile);
        for fault in &original.faults {
            *classes.class_of(fault) = true;
        }
        Bounds { nodes_min, classes }
    }

    /// Whether a schedule is within the scope.
    pub(super) fn include<O>(self, schedule: &Schedule<O>) -> bool {
        let mut classes = self.classes;
        schedule.plan.nodes >= self.nodes_min
            && schedule.faults.iter().all(|fault| *classes.class_of(fault))
    }
}
