//! A chooser that injects a given list of faults.

use std::collections::BTreeMap;

use stormglass_node::{Micros, Node, NodeId};

use super::{Chooser, EffectPoint, FaultClasses, SendPoint};
use crate::fault::{
    AtRestFault, BarrierFault, Crash, EffectAt, Endpoint, Fault, MessageFault, SecondDisk, Skew,
    TimedFault, WriteFault,
};

/// Injects the faults of a list, each at its coordinate, and no others. After the run it reports
/// which coordinates were reached.
#[derive(Clone, Debug, Default)]
pub struct Scripted {
    entries: Vec<Entry>,
    /// The entries at the effects of an incarnation, and those at the messages of a link, in order:
    /// a recorded run of a large cluster has ten thousand entries.
    of_incarnation: BTreeMap<(NodeId, u32), Vec<usize>>,
    of_link: BTreeMap<(Endpoint, Endpoint), Vec<usize>>,
    /// The effect (node, incarnation, ordinal) that was counted last: the world calls the chooser
    /// up to three times for one effect, and it counts once.
    counted: Option<(NodeId, u32, u32)>,
}

#[derive(Clone, Debug)]
struct Entry {
    fault: Fault,
    /// How many effects or messages of its coordinate's name have been counted.
    occurrences: u32,
    fired: bool,
}

impl Scripted {
    /// A chooser that injects these faults.
    pub fn new(faults: &[Fault]) -> Self {
        let entries = faults
            .iter()
            .map(|fault| Entry { fault: fault.clone(), occurrences: 0, fired: false })
            .collect();
        let mut scripted = Scripted { entries, ..Scripted::default() };
        for (index, fault) in faults.iter().enumerate() {
            if let Some(EffectAt { node, incarnation, .. }) = fault.effect_name() {
                let of_incarnation = &mut scripted.of_incarnation;
                of_incarnation.entry((*node, *incarnation)).or_default().push(index);
            }
            if let Fault::Message(at, _) = fault {
                scripted.of_link.entry((at.from, at.to)).or_default().push(index);
            }
        }
        scripted
    }

    /// The faults whose coordinates were not reached.
    pub fn unused(&self) -> impl Iterator<Item = &Fault> {
        self.entries.iter().filter(|entry| !entry.fired).map(|entry| &entry.fault)
    }

    /// For each fault, in order, whether its coordinate was reached.
    pub fn reached(&self) -> impl Iterator<Item = bool> + '_ {
        self.entries.iter().map(|entry| entry.fired)
    }

    /// Counts this effect in every entry of its name, once for all calls about it.
    fn count<N: Node>(&mut self, at: &EffectPoint<'_, N>) {
        let effect_id = Some((at.node, at.incarnation, at.ordinal));
        if self.counted == effect_id {
            return;
        }
        self.counted = effect_id;
        let Some(indices) = self.of_incarnation.get(&(at.node, at.incarnation)) else { return };
        let Some(effect_name) = at.effect_name() else { return };
        for index in indices {
            let entry = &mut self.entries[*index];
            if entry.fault.effect_name().is_some_and(|at| at.effect_name == effect_name) {
                entry.occurrences += 1;
            }
        }
    }

    fn next_match<N: Node, T>(
        &mut self,
        at: &EffectPoint<'_, N>,
        answer: impl Fn(&Fault) -> Option<T>,
    ) -> Option<T> {
        self.count(at);
        // An incarnation without faults does not even compute the name of the effect.
        let indices = self.of_incarnation.get(&(at.node, at.incarnation))?;
        let effect_name = at.effect_name()?;
        for index in indices {
            let entry = &mut self.entries[*index];
            let is_due = !entry.fired
                && entry.fault.effect_name().is_some_and(|coordinate| {
                    // Exactly the nth: an entry that found nothing to do there must not fire at a
                    // later one.
                    coordinate.effect_name == effect_name && entry.occurrences == coordinate.nth
                });
            if is_due && let Some(answer) = answer(&entry.fault) {
                entry.fired = true;
                return Some(answer);
            }
        }
        None
    }
}

impl Fault {
    /// The coordinate of the effect that this fault is attached to; `None` if it is attached to
    /// none.
    pub fn effect_name(&self) -> Option<&EffectAt> {
        match self {
            Fault::Crash(coordinate, _)
            | Fault::Barrier(coordinate, _)
            | Fault::Write(coordinate, _) => Some(coordinate),
            Fault::Message(..) | Fault::Skew { .. } | Fault::At(..) => None,
        }
    }
}

/// D13, D17: whether this fault needs a copy of the disk.
fn needs_backup(fault: &Fault) -> bool {
    match fault {
        Fault::Crash(_, crash) | Fault::At(_, TimedFault::Crash { crash, .. }) => {
            matches!(crash.at_rest, Some(AtRestFault::Restored { .. }))
        }
        Fault::At(_, TimedFault::SecondProcess { disk, .. }) => *disk == SecondDisk::Copy,
        Fault::At(..)
        | Fault::Message(..)
        | Fault::Barrier(..)
        | Fault::Write(..)
        | Fault::Skew { .. } => false,
    }
}

impl Chooser for Scripted {
    fn fault_classes(&self) -> FaultClasses {
        let backups = self.entries.iter().any(|entry| needs_backup(&entry.fault));
        FaultClasses { backups, ..FaultClasses::ALL }
    }

    fn timed_faults(&mut self) -> Vec<(Micros, TimedFault)> {
        let mut timed_faults = Vec::new();
        for entry in &mut self.entries {
            if let Fault::At(at, timed_fault) = &entry.fault {
                timed_faults.push((*at, timed_fault.clone()));
                entry.fired = true;
            }
        }
        timed_faults
    }

    fn message(&mut self, at: &SendPoint) -> Option<MessageFault> {
        let mut answer = None;
        for index in self.of_link.get(&(at.from, at.to))? {
            let entry = &mut self.entries[*index];
            let Fault::Message(coordinate, fault) = &entry.fault else { continue };
            if coordinate.about != at.about {
                continue;
            }
            entry.occurrences += 1;
            // Two entries may have one coordinate; the first one wins, and the other is reported as
            // not reached.
            if entry.occurrences == coordinate.nth && answer.is_none() {
                answer = Some(*fault);
                entry.fired = true;
            }
        }
        answer
    }

    fn crash<N: Node>(&mut self, at: &EffectPoint<'_, N>) -> Option<Crash> {
        self.next_match(at, |fault| {
            if let Fault::Crash(_, crash) = fault { Some(crash.clone()) } else { None }
        })
    }

    fn barrier<N: Node>(&mut self, at: &EffectPoint<'_, N>) -> Option<BarrierFault> {
        self.next_match(
            at,
            |fault| if let Fault::Barrier(_, fault) = fault { Some(*fault) } else { None },
        )
    }

    fn write<N: Node>(&mut self, at: &EffectPoint<'_, N>) -> Option<WriteFault> {
        self.next_match(
            at,
            |fault| if let Fault::Write(_, fault) = fault { Some(*fault) } else { None },
        )
    }

    fn skew(&mut self, node: NodeId, incarnation: u32) -> Skew {
        for entry in &mut self.entries {
            if let Fault::Skew { node: n, incarnation: i, skew } = entry.fault
                && (n, i) == (node, incarnation)
            {
                entry.fired = true;
                return skew;
            }
        }
        Skew::default()
    }
}
