//! The faults that `rebuild` adds to a fault-free candidate.

use stormglass_node::{About, DiskError, Micros};

use crate::disk::{AppendName, Survival};
use crate::fault::{
    AtRestFault, BarrierFault, Crash, CrashKind, EffectAt, EffectName, Fault, MessageFault,
    TimedFault,
};
use crate::ratio::Permille;
use crate::shrink::{RunCoordinates, budget};

/// The faults that can be added to a fault-free schedule whose run has these coordinates, those of
/// a kind that the original has first.
pub(super) fn candidate_faults(original: &[Fault], coordinates: &RunCoordinates) -> Vec<Fault> {
    let mut all = Vec::new();
    for (_, at) in coordinates.messages() {
        if at.nth > budget::OCCURRENCES_MAX {
            continue;
        }
        all.extend(budget::MESSAGE_FAULTS.map(|fault| Fault::Message(*at, fault)));
    }
    for at in coordinates.barriers() {
        if at.nth > budget::OCCURRENCES_MAX {
            continue;
        }
        if at.effect_name.subject().is_some() {
            let by = budget::SLOW_BARRIER;
            all.push(Fault::Barrier(*at, BarrierFault::Slow { by }));
            all.push(Fault::Barrier(*at, BarrierFault::Fail(DiskError::Io)));
        } else {
            let by = budget::SLOW_OTHER_BARRIER;
            all.push(Fault::Barrier(*at, BarrierFault::Slow { by }));
        }
    }
    let transferable = transferable_crashes(original);
    for at in coordinates.effects() {
        // Only effects about a request: the effects of a boot are the same in every candidate.
        if at.effect_name.subject().is_none() || at.nth > budget::OCCURRENCES_MAX {
            continue;
        }
        all.extend(crash_faults(at));
        all.extend(torn_append_faults(at));
        if let Some(previous) = coordinates.previous_append(at) {
            all.push(previous_append_lost(at, previous));
        }
        all.extend(transferable.iter().map(|crash| Fault::Crash(at, crash.clone())));
    }
    let kinds: Vec<CandidateKind> = original.iter().map(candidate_kind).collect();
    // Stable: within a kind, the faults stay in the order of the run.
    all.sort_by_key(|fault| {
        let other_crash = matches!(fault, Fault::Crash(_, crash) if !transferable.contains(crash));
        (!kinds.contains(&candidate_kind(fault)), other_crash)
    });
    all
}

/// Whether the original has two different faults of the kinds of `one` and `other`.
pub(super) fn has_both_kinds(original: &[Fault], one: &Fault, other: &Fault) -> bool {
    let kind = candidate_kind(one);
    let other_kind = candidate_kind(other);
    if kind == other_kind {
        count(original, kind) >= 2
    } else {
        count(original, kind) >= 1 && count(original, other_kind) >= 1
    }
}

fn count(faults: &[Fault], kind: CandidateKind) -> usize {
    faults.iter().filter(|fault| candidate_kind(fault) == kind).count()
}

/// The crashes of the original that can be moved to other coordinates.
fn transferable_crashes(original: &[Fault]) -> Vec<Crash> {
    let mut transferable: Vec<Crash> = Vec::new();
    for fault in original {
        let (Fault::Crash(_, crash) | Fault::At(_, TimedFault::Crash { crash, .. })) = fault else {
            continue;
        };
        // The names of appends and the numbers of nodes differ between schedules.
        let names_append =
            matches!(crash.how, CrashKind::PowerCut(Survival::AllBut(_) | Survival::Torn { .. }));
        let names_node = matches!(crash.at_rest, Some(AtRestFault::OfNode(_)));
        if !names_append && !names_node && !transferable.contains(crash) {
            transferable.push(crash.clone());
        }
    }
    transferable.truncate(budget::TRANSFERABLE_CRASHES_MAX);
    transferable
}

/// Power cuts after which a part of the record just appended is left.
fn torn_append_faults(at: EffectAt) -> Vec<Fault> {
    let about = match at.effect_name {
        EffectName::Append(about) => about,
        EffectName::Send(..)
        | EffectName::Sync(_)
        | EffectName::SyncDir(_)
        | EffectName::Rename(_)
        | EffectName::Remove(_)
        | EffectName::Truncate(_)
        | EffectName::Reply(_) => return Vec::new(),
    };
    let mut all = Vec::new();
    for how in budget::CANDIDATE_TEARS {
        for hole in budget::TORN_HOLES {
            let torn = Survival::Torn { at: AppendName::new(about, 0), how, hole };
            all.push(short_power_cut(at, torn));
        }
    }
    all
}

/// The power cut after which the record just appended is on disk and the previous one is not.
fn previous_append_lost(at: EffectAt, previous: About) -> Fault {
    short_power_cut(at, Survival::AllBut(AppendName::new(previous, 0)))
}

fn short_power_cut(at: EffectAt, survival: Survival) -> Fault {
    let how = CrashKind::PowerCut(survival);
    Fault::Crash(at, Crash { how, down_for: Some(budget::SHORT_DOWN), at_rest: None })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CandidateKind {
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
fn candidate_kind(fault: &Fault) -> CandidateKind {
    match fault {
        Fault::Message(_, fault) => match fault {
            MessageFault::Lose | MessageFault::Evict { .. } | MessageFault::Flip { .. } => {
                CandidateKind::Lost
            }
            MessageFault::Delay { .. } => CandidateKind::Delayed,
            MessageFault::Duplicate { .. } => CandidateKind::Duplicated,
        },
        Fault::Barrier(_, BarrierFault::Slow { .. })
        | Fault::At(_, TimedFault::DiskHang { .. }) => CandidateKind::SlowBarrier,
        Fault::Barrier(_, BarrierFault::Fail(_) | BarrierFault::Lie) | Fault::Write(..) => {
            CandidateKind::FailedDisk
        }
        Fault::Crash(_, crash) | Fault::At(_, TimedFault::Crash { crash, .. }) => match crash.how {
            CrashKind::PowerCut(
                Survival::AllBut(_) | Survival::Torn { .. } | Survival::Subset { .. },
            ) => CandidateKind::TornWrite,
            CrashKind::PowerCut(_) | CrashKind::Kill { .. } => CandidateKind::Crash,
        },
        Fault::At(_, TimedFault::Cut { .. }) => CandidateKind::Lost,
        Fault::At(_, TimedFault::Clog { .. } | TimedFault::Pause { .. }) => CandidateKind::Delayed,
        Fault::At(
            _,
            TimedFault::ClockJump { .. }
            | TimedFault::SecondProcess { .. }
            | TimedFault::Wake { .. },
        )
        | Fault::Skew { .. } => CandidateKind::Other,
    }
}

/// A power cut and a kill with a short down time, and a kill with a long one.
fn crash_faults(at: EffectAt) -> [Fault; 3] {
    [short_power_cut(at, Survival::None), kill(at, budget::SHORT_DOWN), kill(at, budget::LONG_DOWN)]
}

fn kill(at: EffectAt, down_for: Micros) -> Fault {
    let how = CrashKind::Kill { keep: Permille::ALL };
    Fault::Crash(at, Crash { how, down_for: Some(down_for), at_rest: None })
}
