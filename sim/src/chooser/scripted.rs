use stormglass::{Node, NodeId};

use super::{Chooser, DeedPoint, SendPoint};
use crate::fault::{BarrierFault, Crash, DeedAt, Fault, MessageFault, Skew, Weather, WriteFault};

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
    seen: u32,
    fired: bool,
}

impl Scripted {
    /// Plays these faults.
    pub fn new(faults: &[Fault]) -> Self {
        let entries =
            faults.iter().map(|fault| Entry { fault: fault.clone(), seen: 0, fired: false }).collect();
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
    fn count<N: Node>(&mut self, at: &DeedPoint<'_, N>) {
        let this = Some((at.node, at.life, at.ordinal));
        if self.counted == this {
            return;
        }
        self.counted = this;
        let Some(deed) = at.deed() else { return };
        for entry in &mut self.entries {
            let Some(place) = entry.fault.deed() else { continue };
            if place.node == at.node && place.life == at.life && place.deed == deed {
                entry.seen += 1;
            }
        }
    }

    fn take<N: Node, T>(&mut self, at: &DeedPoint<'_, N>, answer: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        if self.entries.is_empty() {
            return None;
        }
        self.count(at);
        let deed = at.deed()?;
        let due = |entry: &&mut Entry| {
            !entry.fired
                && entry.fault.deed().is_some_and(|place| {
                    place.node == at.node
                        && place.life == at.life
                        && place.deed == deed
                        && entry.seen == place.nth
                })
        };
        let mut found =
            self.entries.iter_mut().filter(due).filter_map(|entry| Some((answer(&entry.fault)?, entry)));
        let (answer, entry) = found.next()?;
        entry.fired = true;
        Some(answer)
    }
}

impl Fault {
    /// The deed that this fault is attached to, if it is attached to one.
    pub fn deed(&self) -> Option<&DeedAt> {
        match self {
            Fault::Crash(place, _) | Fault::Barrier(place, _) | Fault::Write(place, _) => Some(place),
            Fault::Message(..) | Fault::Skew { .. } | Fault::At(..) => None,
        }
    }
}

impl Chooser for Scripted {
    fn weather(&mut self) -> Vec<(u64, Weather)> {
        let mut weather = Vec::new();
        for entry in &mut self.entries {
            if let Fault::At(at_us, what) = &entry.fault {
                weather.push((*at_us, what.clone()));
                entry.fired = true;
            }
        }
        weather
    }

    fn message(&mut self, at: &SendPoint) -> Option<MessageFault> {
        let mut answer = None;
        for entry in &mut self.entries {
            let Fault::Message(place, fault) = &entry.fault else { continue };
            if place.from != at.from || place.to != at.to || place.about != at.about {
                continue;
            }
            entry.seen += 1;
            if entry.seen == place.nth && answer.is_none() {
                answer = Some(*fault);
                entry.fired = true;
            }
        }
        answer
    }

    fn crash<N: Node>(&mut self, at: &DeedPoint<'_, N>) -> Option<Crash> {
        self.take(at, |fault| if let Fault::Crash(_, crash) = fault { Some(crash.clone()) } else { None })
    }

    fn barrier<N: Node>(&mut self, at: &DeedPoint<'_, N>) -> Option<BarrierFault> {
        self.take(at, |fault| if let Fault::Barrier(_, fault) = fault { Some(*fault) } else { None })
    }

    fn write<N: Node>(&mut self, at: &DeedPoint<'_, N>) -> Option<WriteFault> {
        self.take(at, |fault| if let Fault::Write(_, fault) = fault { Some(*fault) } else { None })
    }

    fn skew(&mut self, node: NodeId, life: u32) -> Skew {
        for entry in &mut self.entries {
            if let Fault::Skew { node: n, life: l, skew } = entry.fault
                && (n, l) == (node, life)
            {
                entry.fired = true;
                return skew;
            }
        }
        Skew::default()
    }
}
