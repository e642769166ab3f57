use stormglass::{Node, NodeId};

use super::{Chooser, EffectPoint, SendPoint};
use crate::fault::{
    BarrierFault, Crash, EffectAt, Fault, MessageFault, Skew, TimedFault, WriteFault,
};

/// Answers from a list of faults; what is not listed is benign. Knows afterwards which coordinates never came up.
#[derive(Clone, Debug, Default)]
pub struct Scripted {
    entries: Vec<Entry>,
    /// The deed whose count is up to date: an effect is asked about up to three times, and counts once.
    counted: Option<(NodeId, u32, u32)>,
}

#[derive(Clone, Debug)]
struct Entry {
    fault: Fault,
    /// How many things of its name have come up.
    occurrences: u32,
    fired: bool,
}

impl Scripted {
    /// Plays these faults.
    pub fn new(faults: &[Fault]) -> Self {
        let entries = faults
            .iter()
            .map(|fault| Entry { fault: fault.clone(), occurrences: 0, fired: false })
            .collect();
        Scripted { entries, counted: None }
    }

    /// The faults whose coordinates have not come up.
    pub fn unused(&self) -> impl Iterator<Item = &Fault> {
        self.entries.iter().filter(|entry| !entry.fired).map(|entry| &entry.fault)
    }

    /// Of each fault, in order, whether its coordinate has come up.
    pub fn reached(&self) -> impl Iterator<Item = bool> + '_ {
        self.entries.iter().map(|entry| entry.fired)
    }

    /// Counts this deed in every entry that bears its name, once however often the world asks about it.
    fn count<N: Node>(&mut self, at: &EffectPoint<'_, N>) {
        let effect_id = Some((at.node, at.incarnation, at.ordinal));
        if self.counted == effect_id {
            return;
        }
        self.counted = effect_id;
        let Some(effect_name) = at.effect_name() else { return };
        for entry in &mut self.entries {
            let Some(coordinate) = entry.fault.effect_name() else { continue };
            if coordinate.node == at.node
                && coordinate.incarnation == at.incarnation
                && coordinate.effect_name == effect_name
            {
                entry.occurrences += 1;
            }
        }
    }

    fn next_match<N: Node, T>(
        &mut self,
        at: &EffectPoint<'_, N>,
        answer: impl Fn(&Fault) -> Option<T>,
    ) -> Option<T> {
        if self.entries.is_empty() {
            return None;
        }
        self.count(at);
        let effect_name = at.effect_name()?;
        let is_due = |entry: &&mut Entry| {
            !entry.fired
                && entry.fault.effect_name().is_some_and(|coordinate| {
                    coordinate.node == at.node
                        && coordinate.incarnation == at.incarnation
                        && coordinate.effect_name == effect_name
                        && entry.occurrences == coordinate.nth
                })
        };
        let mut found = self
            .entries
            .iter_mut()
            .filter(is_due)
            .filter_map(|entry| Some((answer(&entry.fault)?, entry)));
        let (answer, entry) = found.next()?;
        entry.fired = true;
        Some(answer)
    }
}

impl Fault {
    /// The deed that this fault is attached to, if it is attached to one.
    pub fn effect_name(&self) -> Option<&EffectAt> {
        match self {
            Fault::Crash(coordinate, _)
            | Fault::Barrier(coordinate, _)
            | Fault::Write(coordinate, _) => Some(coordinate),
            Fault::Message(..) | Fault::Skew { .. } | Fault::At(..) => None,
        }
    }
}

impl Chooser for Scripted {
    fn timed_faults(&mut self) -> Vec<(u64, TimedFault)> {
        let mut timed_faults = Vec::new();
        for entry in &mut self.entries {
            if let Fault::At(at_us, what) = &entry.fault {
                timed_faults.push((*at_us, what.clone()));
                entry.fired = true;
            }
        }
        timed_faults
    }

    fn message(&mut self, at: &SendPoint) -> Option<MessageFault> {
        let mut answer = None;
        for entry in &mut self.entries {
            let Fault::Message(coordinate, fault) = &entry.fault else { continue };
            if coordinate.from != at.from || coordinate.to != at.to || coordinate.about != at.about
            {
                continue;
            }
            entry.occurrences += 1;
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
            if let Fault::Skew { node: n, incarnation: l, skew } = entry.fault
                && (n, l) == (node, incarnation)
            {
                entry.fired = true;
                return skew;
            }
        }
        Skew::default()
    }
}
