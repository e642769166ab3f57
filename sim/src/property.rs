//! Judges: claims about what nodes did and what disks hold.
//!
//! A judge is fed every fact of a run as it happens, effects *before* they are performed, so that a rule like "durable
//! before it is sent" is judged at the moment of sending and not only after a lucky crash. It never looks into a node.

use std::fmt;

use stormglass::{BootError, Effect, FileId, HaltReason, Input, Node, NodeId, RequestId};

use crate::disk::{CutReport, DamageRecord, Disk, KillReport};
use crate::fault::{BarrierFault, Endpoint, MessageFault, TimedFault, WriteFault};

/// `Ok`, or in one sentence why the claim does not hold.
pub type PropertyResult = Result<(), String>;

/// A claim with a name. What a user writes for a protocol of their own.
pub trait Property<N: Node>: Clone {
    /// The claim, as a name: `NoForgottenAdd`.
    const NAME: &'static str;
    /// Whether the claim is that something good happens in the end, not that something bad never does.
    const LIVENESS: bool = false;
    /// Looks at one fact.
    ///
    /// # Errors
    /// Why the claim does not hold, in one sentence.
    fn on(&mut self, observation: &Observation<'_, N>) -> PropertyResult;
    /// What the ensemble of all runs must have seen at least once, beside what no run may see.
    fn sometimes(&self, _tally: &mut Sometimes) {}
}

/// One or more oracles, as the world sees them. Every [`Property`] becomes one in [`PropertyChecker`]; pairs judge in order.
pub trait Checker<N: Node>: Clone {
    /// Looks at one fact.
    ///
    /// # Errors
    /// The claim that does not hold.
    fn check(&mut self, observation: &Observation<'_, N>) -> Result<(), Violation>;
    /// Adds what was seen in this run.
    fn sometimes(&self, _tally: &mut Sometimes) {}
}

/// A claim that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name.
    pub property: &'static str,
    /// Why, in one sentence.
    pub reason: String,
    /// Whether it is a claim of liveness.
    pub liveness: bool,
}

impl Violation {
    /// A safety claim does not hold.
    // Cold, so that the wording of what never happens does not lie between what happens all the time.
    #[cold]
    pub fn safety(property: &'static str, reason: impl Into<String>) -> Violation {
        Violation { property, reason: reason.into(), liveness: false }
    }

    /// A liveness claim does not hold.
    #[cold]
    pub fn liveness(property: &'static str, reason: impl Into<String>) -> Violation {
        Violation { property, reason: reason.into(), liveness: true }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.reason)
    }
}

/// One fact, when and where.
pub struct Observation<'a, N: Node> {
    /// True time since the beginning, in microseconds. No node knows it.
    pub at_us: u64,
    /// The node it happened to, or at which it begins. For facts of the whole world, node 0.
    pub node: NodeId,
    /// Which life of that node, counted by the world from 1; 0 before the first.
    pub incarnation: u32,
    /// That node's disk, as it is before the effect is performed.
    pub disk: &'a Disk,
    /// What happened.
    pub fact: &'a Fact<'a, N>,
}

/// What can happen.
#[derive(Debug)]
pub enum Fact<'a, N: Node> {
    /// A process starts; its boot effects follow.
    Boot,
    /// A process refused to start.
    Refused(&'a BootError),
    /// A node is about to handle this.
    Input(&'a Input<N>),
    /// A node does this; it is performed right after. The bytes are those of an append.
    Effect(&'a Effect<N>, &'a [u8]),
    /// The process was killed.
    Killed(&'a KillReport),
    /// The machine lost power.
    PowerCut(&'a CutReport),
    /// The node halted itself.
    Halted(HaltReason),
    /// Bytes at rest were damaged while the node was down (D10).
    Damaged(&'a DamageRecord),
    /// Something happened to a message.
    MessageFault {
        /// Who sent it.
        from: Endpoint,
        /// To whom.
        to: Endpoint,
        /// What it was about.
        about: stormglass::About,
        /// What happened.
        fault: MessageFault,
    },
    /// A message came to nobody: the node is down, or the link is cut.
    Lost {
        /// Who sent it.
        from: Endpoint,
        /// To whom.
        to: Endpoint,
        /// What it was about.
        about: stormglass::About,
        /// Why.
        reason: &'static str,
    },
    /// A barrier of this node will fail, take long or lie.
    BarrierFault(BarrierFault),
    /// A write of this node fails.
    WriteFault(WriteFault),
    /// The weather changed.
    TimedFault(&'a TimedFault),
    /// A client asks this node.
    Asked {
        /// The name of the request.
        id: RequestId,
        /// What it asks.
        request: &'a N::Request,
    },
    /// A client learns this node's answer.
    Answered {
        /// The name of the request.
        id: RequestId,
        /// What it learns.
        response: &'a N::Response,
    },
    /// The storm is over: no new faults, everybody boots but those who are dead for good.
    Healed {
        /// Dead for good.
        permanently_down: &'a [NodeId],
    },
    /// Nothing more will happen by itself (`quiet`), or the time for that is over.
    Quiesced {
        /// Whether the queue ran empty. Then no node has a deadline either: that would be a wake in the queue.
        quiet: bool,
        /// Once all is quiet, every file that a living node keeps: whose, which, and how long it is, in bytes.
        files: &'a [(NodeId, FileId, u64)],
    },
    /// The run is over, the probe included.
    Ended,
}

/// How often each thing that should sometimes happen did, and how far some things went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sometimes {
    rows: Vec<(&'static str, u64)>,
    peaks: Vec<(&'static str, u64)>,
}

impl Sometimes {
    /// Names a thing, and adds how often it was seen (0 is worth saying: it makes a hunt that never saw it fail).
    pub fn add(&mut self, what: &'static str, times: u64) {
        match self.rows.iter_mut().find(|(name, _)| *name == what) {
            Some((_, count)) => *count += times,
            None => self.rows.push((what, times)),
        }
    }

    /// Names a thing that has a measure, and keeps the greatest that was seen.
    pub fn peak(&mut self, what: &'static str, measure: u64) {
        match self.peaks.iter_mut().find(|(name, _)| *name == what) {
            Some((_, greatest)) => *greatest = measure.max(*greatest),
            None => self.peaks.push((what, measure)),
        }
    }

    /// Adds all of another tally.
    pub fn merge(&mut self, other: &Sometimes) {
        for &(what, times) in &other.rows {
            self.add(what, times);
        }
        for &(what, measure) in &other.peaks {
            self.peak(what, measure);
        }
    }

    /// The greatest measures, in the order in which they were first named.
    pub fn peaks(&self) -> &[(&'static str, u64)] {
        &self.peaks
    }

    /// What was never seen.
    pub fn never(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.rows.iter().filter(|(_, times)| *times == 0).map(|(what, _)| *what)
    }

    /// Every row, in the order in which it was first named.
    pub fn rows(&self) -> &[(&'static str, u64)] {
        &self.rows
    }
}

/// One [`Property`] as a [`Checker`].
#[derive(Clone, Debug, Default)]
pub struct PropertyChecker<O>(pub O);

impl<N: Node, O: Property<N>> Checker<N> for PropertyChecker<O> {
    fn check(&mut self, observation: &Observation<'_, N>) -> Result<(), Violation> {
        self.0.on(observation).map_err(|reason| Violation {
            property: O::NAME,
            reason,
            liveness: O::LIVENESS,
        })
    }

    fn sometimes(&self, tally: &mut Sometimes) {
        self.0.sometimes(tally);
    }
}

impl<N: Node> Checker<N> for () {
    fn check(&mut self, _seen: &Observation<'_, N>) -> Result<(), Violation> {
        Ok(())
    }
}

impl<N: Node, A: Checker<N>, B: Checker<N>> Checker<N> for (A, B) {
    fn check(&mut self, observation: &Observation<'_, N>) -> Result<(), Violation> {
        self.0.check(observation)?;
        self.1.check(observation)
    }

    fn sometimes(&self, tally: &mut Sometimes) {
        self.0.sometimes(tally);
        self.1.sometimes(tally);
    }
}
