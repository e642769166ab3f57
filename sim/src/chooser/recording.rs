//! A chooser that records the faults of another one, for replay and shrinking.

use std::collections::BTreeMap;

use stormglass_node::{About, Micros, Node, NodeId};

use super::{Chooser, EffectPoint, FaultClasses, SendPoint};
use crate::fault::{
    BarrierFault, Crash, EffectAt, EffectName, Endpoint, Fault, MessageAt, MessageFault, Skew,
    TimedFault, WriteFault,
};

/// Wraps another chooser and records the faults it returns, with their coordinates. Replaying them
/// with [`Scripted`](super::Scripted) gives the same fingerprint as the recorded run.
#[derive(Clone, Debug)]
pub struct Recording<C> {
    inner: C,
    faults: Vec<Fault>,
    message_counts: BTreeMap<(Endpoint, Endpoint, About), u32>,
    effect_counts: BTreeMap<(NodeId, u32, EffectName), u32>,
    /// The effect (node, incarnation, ordinal) that was counted last: the world calls the chooser
    /// up to three times for one effect, and it counts once.
    counted: Option<(NodeId, u32, u32)>,
}

impl<C: Chooser> Recording<C> {
    /// Records the faults that `inner` returns.
    pub fn new(inner: C) -> Self {
        Recording {
            inner,
            faults: Vec::new(),
            message_counts: BTreeMap::new(),
            effect_counts: BTreeMap::new(),
            counted: None,
        }
    }

    /// The faults so far, in the order in which they were injected.
    pub fn into_faults(self) -> Vec<Fault> {
        self.faults
    }

    fn effect_coordinate<N: Node>(&mut self, at: &EffectPoint<'_, N>) -> Option<EffectAt> {
        let effect_name = at.effect_name()?;
        let count = self.effect_counts.entry((at.node, at.incarnation, effect_name)).or_insert(0);
        let effect_id = Some((at.node, at.incarnation, at.ordinal));
        // Counted even if no fault is returned: the count is what makes the coordinate of a later
        // fault.
        if self.counted != effect_id {
            *count += 1;
            self.counted = effect_id;
        }
        Some(EffectAt { node: at.node, incarnation: at.incarnation, effect_name, nth: *count })
    }
}

impl<C: Chooser> Chooser for Recording<C> {
    fn fault_classes(&self) -> FaultClasses {
        // Every effect and message is counted, with a fault or without, so every method is called.
        FaultClasses { backups: self.inner.fault_classes().backups, ..FaultClasses::ALL }
    }

    fn timed_faults(&mut self) -> Vec<(Micros, TimedFault)> {
        let timed_faults = self.inner.timed_faults();
        self.faults.extend(
            timed_faults.iter().map(|(at, timed_fault)| Fault::At(*at, timed_fault.clone())),
        );
        timed_faults
    }

    fn message(&mut self, at: &SendPoint) -> Option<MessageFault> {
        // Before the inner chooser answers, for the same reason as above.
        let count = self.message_counts.entry((at.from, at.to, at.about)).or_insert(0);
        *count += 1;
        let nth = *count;
        // Only faults become entries; a message without one needs no line in a schedule.
        let fault = self.inner.message(at)?;
        let coordinate = MessageAt { from: at.from, to: at.to, about: at.about, nth };
        self.faults.push(Fault::Message(coordinate, fault));
        Some(fault)
    }

    fn crash<N: Node>(&mut self, at: &EffectPoint<'_, N>) -> Option<Crash> {
        let coordinate = self.effect_coordinate(at);
        let crash = self.inner.crash(at)?;
        self.faults.push(Fault::Crash(
            coordinate.expect("a crash follows a counted effect"),
            crash.clone(),
        ));
        Some(crash)
    }

    fn barrier<N: Node>(&mut self, at: &EffectPoint<'_, N>) -> Option<BarrierFault> {
        let coordinate = self.effect_coordinate(at);
        let fault = self.inner.barrier(at)?;
        self.faults.push(Fault::Barrier(coordinate.expect("a barrier is a counted effect"), fault));
        Some(fault)
    }

    fn write<N: Node>(&mut self, at: &EffectPoint<'_, N>) -> Option<WriteFault> {
        let coordinate = self.effect_coordinate(at);
        let fault = self.inner.write(at)?;
        self.faults.push(Fault::Write(coordinate.expect("a write is a counted effect"), fault));
        Some(fault)
    }

    fn skew(&mut self, node: NodeId, incarnation: u32) -> Skew {
        let skew = self.inner.skew(node, incarnation);
        // A clock without deviation is no fault.
        if skew != Skew::default() {
            self.faults.push(Fault::Skew { node, incarnation, skew });
        }
        skew
    }
}
