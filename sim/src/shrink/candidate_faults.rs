//! The faults that `rebuild` adds to a fault-free candidate.

use stormglass_node::{About, DiskError};

use super::{RunCoordinates, Shrinker, budget};
use crate::disk::{AppendName, Survival};
use crate::fault::{
    BarrierFault, Crash, CrashKind, EffectAt, EffectName, Fault, MessageFault, TimedFault,
};
use crate::protocol::Protocol;
use crate::replay::replay_world;
use crate::schedule::Schedule;

impl<P: Protocol> Shrinker<'_, '_, P> {
    /// Whether the original has two different faults of the kinds of `one` and `other`.
    pub(super) fn original_has_both_kinds(&self, one: &Fault, other: &Fault) -> bool {
        let mut kinds: Vec<FaultKind> = self.best.faults.iter().map(fault_kind).collect();
        [one, other].into_iter().all(|fault| {
            let at = kinds.iter().position(|kind| *kind == fault_kind(fault));
            at.map(|at| kinds.swap_remove(at)).is_some()
        })
    }

    /// The crashes of the original that do not name an append: the names of appends differ between
    /// schedules.
    fn transferable_crashes(&self) -> Vec<Crash> {
        let mut transferable: Vec<Crash> = Vec::new();
        for fault in &self.best.faults {
            let (Fault::Crash(_, crash) | Fault::At(_, TimedFault::Crash { crash, .. })) = fault
            else {
                continue;
            };
            let named = matches!(
                crash.how,
                CrashKind::PowerCut(Survival::AllBut(_) | Survival::Torn { .. })
            );
            if !named
                && !transferable.contains(crash)
                && transferable.len() < budget::TRANSFERABLE_CRASHES_MAX
            {
                transferable.push(crash.clone());
            }
        }
        transferable
    }

    /// The faults that can be added to a fault-free schedule, those of a kind that the original has
    /// first.
    pub(super) fn candidate_faults(&mut self, base: &Schedule<P::Request>) -> Vec<Fault> {
        self.runs += 1;
        let mut world = replay_world(self.replayer.protocol(), base, RunCoordinates::default());
        world.run();
        let coordinates = &world.checker().0;
        let mut all = Vec::new();
        for (_, at) in coordinates.messages() {
            all.extend(budget::MESSAGE_FAULTS.into_iter().map(|fault| Fault::Message(*at, fault)));
        }
        for at in coordinates.barriers() {
            if at.effect_name.subject().is_some() {
                all.push(Fault::Barrier(
                    *at,
                    BarrierFault::Slow { by_us: budget::SLOW_BARRIER_US },
                ));
                all.push(Fault::Barrier(*at, BarrierFault::Fail(DiskError::Io)));
            } else {
                all.push(Fault::Barrier(
                    *at,
                    BarrierFault::Slow { by_us: budget::SLOW_OTHER_BARRIER_US },
                ));
            }
        }
        // Only effects about a request: the effects of a boot are the same in every candidate.
        let transferable = self.transferable_crashes();
        for at in coordinates.effects().into_iter().filter(|at| at.effect_name.subject().is_some())
        {
            all.extend(crash_faults(at));
            all.extend(torn_append_faults(at));
            all.extend(
                coordinates.previous_append(at).map(|previous| previous_append_lost(at, previous)),
            );
            all.extend(transferable.iter().map(|crash| Fault::Crash(at, crash.clone())));
        }
        let kinds: Vec<FaultKind> = self.best.faults.iter().map(fault_kind).collect();
        all.sort_by_key(|fault| {
            let other_crash =
                matches!(fault, Fault::Crash(_, crash) if !transferable.contains(crash));
            (!kinds.contains(&fault_kind(fault)), other_crash)
        });
        all
    }
}

/// Power cuts after which a part of the record just appended is left.
fn torn_append_faults(at: EffectAt) -> impl Iterator<Item = Fault> {
    let appended = match at.effect_name {
        EffectName::Append(about) => Some(AppendName::new(about, 0)),
        EffectName::Send(..)
        | EffectName::Sync(_)
        | EffectName::SyncDir(_)
        | EffectName::Rename(_)
        | EffectName::Remove(_)
        | EffectName::Truncate(_)
        | EffectName::Reply(_) => None,
    };
    let tears = budget::CANDIDATE_TEARS
        .into_iter()
        .flat_map(move |how| budget::TORN_HOLES.map(|hole| (how, hole)));
    appended.into_iter().flat_map(move |name| {
        let name = name.clone();
        tears.clone().map(move |(how, hole)| {
            let how = CrashKind::PowerCut(Survival::Torn { at: name.clone(), how, hole });
            Fault::Crash(at, Crash { how, down_us: Some(budget::SHORT_DOWN_US), damage: None })
        })
    })
}

/// The power cut after which the record just appended is on disk and the previous one is not.
fn previous_append_lost(at: EffectAt, previous: About) -> Fault {
    let how = CrashKind::PowerCut(Survival::AllBut(AppendName::new(previous, 0)));
    Fault::Crash(at, Crash { how, down_us: Some(budget::SHORT_DOWN_US), damage: None })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FaultKind {
    Lost,
    Delayed,
    Duplicated,
    SlowBarrier,
    FailedDisk,
    Crash,
    TornWrite,
    Other,
}

/// The kind of the fault that has the same effect in a small schedule: a timed fault counts by its
/// effect on messages and nodes.
fn fault_kind(fault: &Fault) -> FaultKind {
    match fault {
        Fault::Message(_, fault) => match fault {
            MessageFault::Lose | MessageFault::Evict { .. } | MessageFault::Flip { .. } => {
                FaultKind::Lost
            }
            MessageFault::Delay { .. } => FaultKind::Delayed,
            MessageFault::Duplicate { .. } => FaultKind::Duplicated,
        },
        Fault::Barrier(_, BarrierFault::Slow { .. }) => FaultKind::SlowBarrier,
        Fault::Barrier(_, BarrierFault::Fail(_) | BarrierFault::Lie) | Fault::Write(..) => {
            FaultKind::FailedDisk
        }
        Fault::Crash(_, crash) | Fault::At(_, TimedFault::Crash { crash, .. }) => match crash.how {
            CrashKind::PowerCut(
                Survival::AllBut(_) | Survival::Torn { .. } | Survival::Subset { .. },
            ) => FaultKind::TornWrite,
            CrashKind::PowerCut(_) | CrashKind::Kill { .. } => FaultKind::Crash,
        },
        Fault::At(_, TimedFault::Cut { .. }) => FaultKind::Lost,
        Fault::At(_, TimedFault::Clog { .. } | TimedFault::Pause { .. }) => FaultKind::Delayed,
        Fault::At(_, TimedFault::ClockJump { .. }) | Fault::Skew { .. } => FaultKind::Other,
    }
}

/// A power cut and a kill with a short down time, and a kill with a long one.
fn crash_faults(at: EffectAt) -> impl Iterator<Item = Fault> {
    let kill = CrashKind::Kill { keep_permille: 1000 };
    let kinds_and_down_times = [
        (CrashKind::PowerCut(Survival::None), budget::SHORT_DOWN_US),
        (kill.clone(), budget::SHORT_DOWN_US),
        (kill, budget::LONG_DOWN_US),
    ];
    kinds_and_down_times.into_iter().map(move |(how, down_us)| {
        Fault::Crash(at, Crash { how, down_us: Some(down_us), damage: None })
    })
}
