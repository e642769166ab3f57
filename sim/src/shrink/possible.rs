//! What can happen to a calm story: the faults of which the short stories are made.

use stormglass::{About, DiskError};

use super::{Shrinker, Witness};
use crate::disk::{AppendName, Holes, Survival, Tear};
use crate::fault::{BarrierFault, Crash, CrashKind, Deed, DeedAt, Fault, MessageFault, Weather};
use crate::play::stage;
use crate::protocol::Scene;
use crate::schedule::Schedule;

/// So many crashes of the long story are tried elsewhere.
const SAME_MAX: usize = 3;

impl<S: Scene> Shrinker<'_, '_, S> {
    /// Whether the long story has a fault of the kind of each: two of them, if they are of one kind.
    pub(super) fn both_are_in_it(&self, one: &Fault, other: &Fault) -> bool {
        let mut kinds: Vec<Kind> = self.best.faults.iter().map(kind).collect();
        [one, other].into_iter().all(|fault| {
            let at = kinds.iter().position(|there| *there == kind(fault));
            at.map(|at| kinds.swap_remove(at)).is_some()
        })
    }

    /// How processes end in the long story, if that names nothing that another story has under another name.
    fn same_elsewhere(&self) -> Vec<Crash> {
        let mut same: Vec<Crash> = Vec::new();
        for fault in &self.best.faults {
            let (Fault::Crash(_, crash) | Fault::At(_, Weather::Crash { crash, .. })) = fault else {
                continue;
            };
            let named = matches!(crash.how, CrashKind::PowerCut(Survival::AllBut(_) | Survival::Torn { .. }));
            if !named && !same.contains(crash) && same.len() < SAME_MAX {
                same.push(crash.clone());
            }
        }
        same
    }

    /// What can happen to a calm story: first what is of a kind with what has happened in the long one.
    pub(super) fn possible(&mut self, story: &Schedule<S::Order>) -> Vec<Fault> {
        self.runs += 1;
        let mut glass = stage(self.player.scene(), story, Witness::default());
        glass.run();
        let witness = &glass.judge().0;
        let mut all = Vec::new();
        for (_, at) in &witness.messages {
            let late = |by_us| MessageFault::Delay { by_us };
            let again = |after_us| MessageFault::Duplicate { after_us };
            let faults = [MessageFault::Lose, late(100_000), late(400_000), again(300_000)];
            all.extend(faults.into_iter().map(|fault| Fault::Message(*at, fault)));
        }
        for at in &witness.barriers {
            if at.deed.subject().is_some() {
                all.push(Fault::Barrier(*at, BarrierFault::Slow { by_us: 200_000 }));
                all.push(Fault::Barrier(*at, BarrierFault::Fail(DiskError::Io)));
            } else {
                // Long enough that clients do not only ask, but ask what has become of it.
                all.push(Fault::Barrier(*at, BarrierFault::Slow { by_us: 1_000_000 }));
            }
        }
        // Boots are alike; what a life does about requests is where stories differ.
        let same = self.same_elsewhere();
        for at in witness.deeds().into_iter().filter(|at| at.deed.subject().is_some()) {
            all.extend(crashes(at));
            all.extend(torn(at));
            all.extend(witness.append_before(at).map(|before| without(at, before)));
            all.extend(same.iter().map(|crash| Fault::Crash(at, crash.clone())));
        }
        let kinds: Vec<Kind> = self.best.faults.iter().map(kind).collect();
        all.sort_by_key(|fault| {
            let other_crash = matches!(fault, Fault::Crash(_, crash) if !same.contains(crash));
            (!kinds.contains(&kind(fault)), other_crash)
        });
        all
    }
}

/// What a power cut may leave of the record just appended.
fn torn(at: DeedAt) -> impl Iterator<Item = Fault> {
    let appended = match at.deed {
        Deed::Append(about) => Some(AppendName::new(about, 0)),
        Deed::Send(..)
        | Deed::Sync(_)
        | Deed::SyncDir(_)
        | Deed::Rename(_)
        | Deed::Remove(_)
        | Deed::Truncate(_)
        | Deed::Reply(_) => None,
    };
    let holes = [None, Some(Holes::Zeros), Some(Holes::Garbage), Some(Holes::OldBlocks)];
    let tears = [Tear::Header, Tear::Half].into_iter().flat_map(move |how| holes.map(|hole| (how, hole)));
    appended.into_iter().flat_map(move |name| {
        let name = name.clone();
        tears.clone().map(move |(how, hole)| {
            let how = CrashKind::PowerCut(Survival::Torn { at: name.clone(), how, hole });
            Fault::Crash(at, Crash { how, down_us: Some(50_000), damage: None })
        })
    })
}

/// The power cut after which the record just appended is there, and the one before it is not.
fn without(at: DeedAt, before: About) -> Fault {
    let how = CrashKind::PowerCut(Survival::AllBut(AppendName::new(before, 0)));
    Fault::Crash(at, Crash { how, down_us: Some(50_000), damage: None })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lost,
    Late,
    Twice,
    SlowBarrier,
    FailedDisk,
    Crash,
    TornWrite,
    Other,
}

/// What a fault would be in a short story: weather by what it does to messages and nodes.
fn kind(fault: &Fault) -> Kind {
    match fault {
        Fault::Message(_, fault) => match fault {
            MessageFault::Lose | MessageFault::Evict { .. } | MessageFault::Flip { .. } => Kind::Lost,
            MessageFault::Delay { .. } => Kind::Late,
            MessageFault::Duplicate { .. } => Kind::Twice,
        },
        Fault::Barrier(_, BarrierFault::Slow { .. }) => Kind::SlowBarrier,
        Fault::Barrier(_, BarrierFault::Fail(_) | BarrierFault::Lie) | Fault::Write(..) => Kind::FailedDisk,
        Fault::Crash(_, crash) | Fault::At(_, Weather::Crash { crash, .. }) => match crash.how {
            CrashKind::PowerCut(Survival::AllBut(_) | Survival::Torn { .. } | Survival::Subset { .. }) => {
                Kind::TornWrite
            }
            CrashKind::PowerCut(_) | CrashKind::Kill { .. } => Kind::Crash,
        },
        Fault::At(_, Weather::Cut { .. }) => Kind::Lost,
        Fault::At(_, Weather::Clog { .. } | Weather::Pause { .. }) => Kind::Late,
        Fault::At(_, Weather::Jump { .. }) | Fault::Skew { .. } => Kind::Other,
    }
}

/// Back soon, when whoever waits for an answer still waits; or only after the others have asked each other.
fn crashes(at: DeedAt) -> impl Iterator<Item = Fault> {
    let kill = CrashKind::Kill { keep_permille: 1000 };
    let hows = [(CrashKind::PowerCut(Survival::None), 50_000), (kill.clone(), 50_000), (kill, 400_000)];
    let crash = |(how, down_us)| Crash { how, down_us: Some(down_us), damage: None };
    hows.into_iter().map(move |how| Fault::Crash(at, crash(how)))
}
