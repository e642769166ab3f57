//! Choosers decide every fault of a run. The world calls the [`Chooser`] at each point where a
//! fault may happen, and draws no random number itself. At every point the benign answer is `None`.

mod recording;
mod scripted;
mod seeded;

pub use recording::Recording;
pub use scripted::Scripted;
pub use seeded::Seeded;

use std::fmt;

use stormglass_node::{About, DiskOp, Effect, Label, Micros, Node, NodeId};

use crate::disk::Disk;
#[cfg(doc)]
use crate::fault::AtRestFault;
use crate::fault::{
    BarrierFault, Crash, EffectName, Endpoint, MessageFault, Skew, TimedFault, WriteFault,
};

/// The methods of a [`Chooser`] that the world calls in one run, and what it keeps for their
/// answers. For the other methods it does not even build the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultClasses {
    /// [`Chooser::message`].
    pub messages: bool,
    /// [`Chooser::crash`].
    pub crashes: bool,
    /// [`Chooser::barrier`].
    pub barriers: bool,
    /// [`Chooser::write`].
    pub writes: bool,
    /// No method: whether a crash may be followed by [`AtRestFault::Restored`] (D13), or a second
    /// process may find a [copy of the disk](crate::fault::SecondDisk::Copy) (D17). Only then does
    /// the world copy every disk at every boot.
    pub backups: bool,
}

impl FaultClasses {
    /// Every method is called.
    pub const ALL: FaultClasses =
        // The default of a chooser, so that a new one is asked about everything until it says
        // otherwise.
        FaultClasses {
            messages: true,
            crashes: true,
            barriers: true,
            writes: true,
            backups: true,
        };
    /// No method is called: a run or a phase without faults.
    pub const NOTHING: FaultClasses = FaultClasses {
        messages: false,
        crashes: false,
        barriers: false,
        writes: false,
        backups: false,
    };
}

/// Decides which faults happen, and where.
pub trait Chooser {
    /// The methods that may return a fault. Called once per run, before any other; a class that is
    /// left out is benign.
    fn fault_classes(&self) -> FaultClasses {
        FaultClasses::ALL
    }
    /// The faults that happen at given times from the beginning of the run. Called once, before the
    /// first event.
    fn timed_faults(&mut self) -> Vec<(Micros, TimedFault)>;
    /// The fault of a message, when it is sent.
    fn message(&mut self, at: &SendPoint) -> Option<MessageFault>;
    /// The crash right after an effect, if the process ends there.
    fn crash<N: Node>(&mut self, at: &EffectPoint<'_, N>) -> Option<Crash>;
    /// The fault of a barrier, when it is issued.
    fn barrier<N: Node>(&mut self, at: &EffectPoint<'_, N>) -> Option<BarrierFault>;
    /// The fault of a write, before it is issued.
    fn write<N: Node>(&mut self, at: &EffectPoint<'_, N>) -> Option<WriteFault>;
    /// The offset and drift of a clock, at the boot of an incarnation. Called even if no class is
    /// on.
    fn skew(&mut self, node: NodeId, incarnation: u32) -> Skew;
}

/// The point at which a message is sent.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct SendPoint {
    pub from: Endpoint,
    pub to: Endpoint,
    /// A dense number of this directed link.
    pub link: u32,
    /// The number of the message on this link, from 0.
    pub ordinal: u32,
    /// What it is about.
    pub about: About,
    /// Messages in flight on this link, this one excluded.
    pub queued: u32,
}

/// The point at which an effect is performed. [`EffectPoint::effect_name`] is computed only for
/// choosers that call it.
#[allow(missing_docs, reason = "the names say it")]
pub struct EffectPoint<'a, N: Node> {
    pub node: NodeId,
    /// The number of the boot, from 1.
    pub incarnation: u32,
    /// The number of the effect in this incarnation, from 0. Reports and halts are not counted.
    pub ordinal: u32,
    /// The disks of all nodes: after the effect for a crash, before it for a fault of the effect
    /// itself.
    // All, so that the disk of the node is looked up only where it is used: that is seldom.
    pub disks: &'a [Disk],
    pub effect: &'a Effect<N>,
    /// The last append of this incarnation so far.
    pub after: Option<About>,
}

// By hand, since derived ones ask for a node that is `Copy` or `Debug`.
impl<N: Node> Clone for EffectPoint<'_, N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<N: Node> Copy for EffectPoint<'_, N> {}

impl<N: Node> fmt::Debug for EffectPoint<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EffectPoint { node, incarnation, ordinal, disks: _, effect, after } = self;
        f.debug_struct("EffectPoint")
            .field("node", node)
            .field("incarnation", incarnation)
            .field("ordinal", ordinal)
            .field("effect", effect)
            .field("after", after)
            .finish_non_exhaustive()
    }
}

impl<N: Node> EffectPoint<'_, N> {
    /// Whether the disk has unsynced work: a crash there finds more bugs.
    pub fn in_flight(&self) -> bool {
        self.disks[usize::from(self.node.0)].in_flight()
    }

    /// The name of the effect; `None` for reports and halts, which are never counted.
    pub fn effect_name(&self) -> Option<EffectName> {
        Some(match self.effect {
            Effect::Send { to, message } => EffectName::Send(message.about(), *to),
            Effect::Reply { id, .. } => EffectName::Reply(*id),
            Effect::Disk(op) => match op {
                DiskOp::Append { about, .. } => EffectName::Append(*about),
                DiskOp::Sync { .. } => EffectName::Sync(self.after),
                DiskOp::SyncDir { .. } => EffectName::SyncDir(self.after),
                DiskOp::Rename { .. } => EffectName::Rename(self.after),
                DiskOp::Remove { .. } => EffectName::Remove(self.after),
                DiskOp::Truncate { .. } => EffectName::Truncate(self.after),
            },
            // Coordinates must survive an added log line (see `fault`).
            Effect::Report(_) | Effect::Halt(_) => return None,
        })
    }
}

/// The chooser of a run without faults.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFaults;

impl Chooser for NoFaults {
    fn fault_classes(&self) -> FaultClasses {
        FaultClasses::NOTHING
    }
    fn timed_faults(&mut self) -> Vec<(Micros, TimedFault)> {
        Vec::new()
    }
    fn message(&mut self, _at: &SendPoint) -> Option<MessageFault> {
        None
    }
    fn crash<N: Node>(&mut self, _at: &EffectPoint<'_, N>) -> Option<Crash> {
        None
    }
    fn barrier<N: Node>(&mut self, _at: &EffectPoint<'_, N>) -> Option<BarrierFault> {
        None
    }
    fn write<N: Node>(&mut self, _at: &EffectPoint<'_, N>) -> Option<WriteFault> {
        None
    }
    fn skew(&mut self, _node: NodeId, _incarnation: u32) -> Skew {
        Skew::default()
    }
}
