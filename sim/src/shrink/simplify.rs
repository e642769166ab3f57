//! The pass that replaces a fault by a simpler one: less severe, with a shorter or rounder
//! duration, or at a coordinate instead of a time.

use stormglass_node::DiskError;

use super::times::rounder_times;
use super::{Pass, RunCoordinates, Search, budget};
use crate::disk::{AppendName, Holes, Survival};
use crate::fault::{
    BarrierFault, Crash, CrashKind, Endpoint, Fault, MessageAt, MessageFault, Skew, TimedFault,
    WriteFault,
};
use crate::protocol::Protocol;

/// Replaces each fault by simpler ones until none of them violates the property.
pub(super) struct SimplifyFaults;

impl<P: Protocol> Pass<P> for SimplifyFaults {
    fn name(&self) -> &'static str {
        "simplify faults"
    }

    fn run(&mut self, search: &mut Search<'_, '_, P>) -> bool {
        let mut any = false;
        let mut at = 0;
        while at < search.best().faults.len() && !search.is_finished() {
            let best = search.best().clone();
            // Of the present schedule: a replaced fault changes what the run reaches.
            let coordinates = search.coordinates(&best);
            let mut candidates = Vec::new();
            for simpler in simpler_faults_in_order(&best.faults[at], &coordinates) {
                let mut candidate = best.clone();
                candidate.faults[at] = simpler;
                candidates.push(candidate);
            }
            if !search.adopt_first_better(candidates) {
                at += 1;
                continue;
            }
            any = true;
            // Some faults are no longer reached and are gone, perhaps those before this one.
            if search.best().faults.len() < best.faults.len() {
                at = 0;
            }
        }
        any
    }
}

/// The faults of less complexity that a fault can be replaced by, the simplest first.
fn simpler_faults_in_order(fault: &Fault, coordinates: &RunCoordinates) -> Vec<Fault> {
    let mut simpler = simpler_faults(fault, coordinates);
    simpler.retain(|simpler| complexity(simpler) < complexity(fault));
    // Stable: faults of equal complexity stay in the order in which they are listed.
    simpler.sort_by_key(complexity);
    simpler
}

/// How severe a fault is, and how hard to read. A fault is replaced only by one of less complexity,
/// so the replacement terminates. Only the order of the values matters.
fn complexity(fault: &Fault) -> u64 {
    match fault {
        Fault::Message(_, fault) => match fault {
            MessageFault::Lose => 10,
            MessageFault::Duplicate { after_us } => 20 + duration_complexity(*after_us),
            MessageFault::Delay { by_us } => 20 + duration_complexity(*by_us),
            MessageFault::Flip { .. } => 500,
            MessageFault::Evict { .. } => 600,
        },
        Fault::Crash(_, crash) => crash_complexity(crash),
        Fault::Barrier(_, fault) => match fault {
            BarrierFault::Fail(DiskError::Io) => 10,
            BarrierFault::Fail(DiskError::NoSpace) => 11,
            BarrierFault::Slow { by_us } => 20 + duration_complexity(*by_us),
            BarrierFault::Lie => 30,
        },
        Fault::Write(_, WriteFault { error, keep_permille, lasts_us }) => {
            100 + u64::from(*error != DiskError::Io)
                + 2 * u64::from(*keep_permille > 0)
                + 4 * u64::from(*lasts_us > 0)
        }
        Fault::Skew { skew, .. } => {
            let drift = u64::from(skew.drift_ppm.unsigned_abs());
            100 + duration_complexity(skew.offset_us)
                + duration_complexity(drift)
                + 50 * u64::from(skew.offset_us > 0 && drift > 0)
        }
        Fault::At(at_us, timed_fault) => {
            1_000 + digits_complexity(*at_us) + timed_fault_complexity(timed_fault)
        }
    }
}

fn timed_fault_complexity(timed_fault: &TimedFault) -> u64 {
    match timed_fault {
        TimedFault::Cut { from, to, for_us } => {
            1_000 + 10 * (from.len() * to.len()) as u64 + duration_complexity(*for_us)
        }
        TimedFault::Clog { for_us, swizzle, .. } => {
            500 + u64::from(*swizzle) + duration_complexity(*for_us)
        }
        TimedFault::Pause { for_us, .. } => 600 + duration_complexity(*for_us),
        TimedFault::ClockJump { by_us, .. } => 400 + duration_complexity(*by_us),
        TimedFault::Crash { crash, .. } => crash_complexity(crash),
    }
}

fn crash_complexity(crash: &Crash) -> u64 {
    let how = match &crash.how {
        CrashKind::Kill { keep_permille: 1000 } => 0,
        CrashKind::Kill { keep_permille: 0 } => 1,
        CrashKind::Kill { .. } => 30,
        CrashKind::PowerCut(survival) => match survival {
            Survival::None => 2,
            Survival::All => 3,
            Survival::AllBut(_) => 4,
            Survival::Torn { hole: None, .. } => 5,
            Survival::Torn { hole: Some(_), .. } => 6,
            Survival::Prefix(_) => 40,
            Survival::Subset { tear, holes, .. } => {
                50 + u64::from(*tear) + 2 * u64::from(*holes != Holes::Zeros)
            }
        },
    };
    let down = match crash.down_us {
        Some(us) => duration_complexity(us),
        None => 90,
    };
    10 * how + down + 1_000 * u64::from(crash.damage.is_some())
}

/// The magnitude of a duration in powers of two of milliseconds, and how round it is: 0 to 83.
fn duration_complexity(us: u64) -> u64 {
    4 * u64::from((us / 1_000 + 1).ilog2()).min(20) + digits_complexity(us)
}

fn digits_complexity(us: u64) -> u64 {
    [10_000, 1_000, 100, 1].iter().position(|step| us.is_multiple_of(*step)).unwrap_or(0) as u64
}

/// Shorter or rounder durations than this one.
fn shorter_durations(us: u64) -> Vec<u64> {
    budget::COMMON_DURATIONS_US
        .into_iter()
        .filter(|duration| *duration < us)
        // A duration of zero is no fault: removing it is for another pass.
        .chain(rounder_times(us).into_iter().filter(|us| *us > 0))
        .collect()
}

fn simpler_faults(fault: &Fault, coordinates: &RunCoordinates) -> Vec<Fault> {
    match fault {
        Fault::Message(at, fault) => simpler_message_faults(fault)
            .into_iter()
            .map(|fault| Fault::Message(*at, fault))
            .collect(),
        Fault::Crash(at, crash) => {
            let crashes = simpler_crashes(crash, coordinates.unsynced_at_crash(*at));
            crashes.into_iter().map(|crash| Fault::Crash(*at, crash)).collect()
        }
        Fault::Barrier(at, fault) => {
            let faults = match fault {
                BarrierFault::Slow { by_us } => shorter_durations(*by_us)
                    .into_iter()
                    .map(|by_us| BarrierFault::Slow { by_us })
                    .collect(),
                BarrierFault::Fail(_) => vec![BarrierFault::Fail(DiskError::Io)],
                BarrierFault::Lie => vec![],
            };
            faults.into_iter().map(|fault| Fault::Barrier(*at, fault)).collect()
        }
        Fault::Write(at, fault) => {
            let plain = WriteFault { error: DiskError::Io, keep_permille: 0, lasts_us: 0 };
            let faults = [
                plain,
                WriteFault { keep_permille: fault.keep_permille, ..plain },
                WriteFault { lasts_us: 0, ..*fault },
            ];
            faults.into_iter().map(|fault| Fault::Write(*at, fault)).collect()
        }
        Fault::Skew { node, incarnation, skew } => {
            let mut skews = vec![Skew { offset_us: 0, ..*skew }, Skew { drift_ppm: 0, ..*skew }];
            skews.extend(
                rounder_times(skew.offset_us)
                    .into_iter()
                    .map(|offset_us| Skew { offset_us, ..*skew }),
            );
            skews.retain(|skew| *skew != Skew::default());
            skews
                .into_iter()
                .map(|skew| Fault::Skew { node: *node, incarnation: *incarnation, skew })
                .collect()
        }
        Fault::At(at_us, timed_fault) => {
            let mut all: Vec<Fault> = simpler_timed_faults(timed_fault)
                .into_iter()
                .map(|timed_fault| Fault::At(*at_us, timed_fault))
                .collect();
            all.extend(
                rounder_times(*at_us)
                    .into_iter()
                    .map(|at_us| Fault::At(at_us, timed_fault.clone())),
            );
            all.extend(equivalent_coordinate_faults(*at_us, timed_fault, coordinates));
            all
        }
    }
}

fn simpler_message_faults(fault: &MessageFault) -> Vec<MessageFault> {
    let mut all = vec![MessageFault::Lose];
    match fault {
        MessageFault::Lose => return Vec::new(),
        MessageFault::Duplicate { after_us } => {
            all.extend(
                shorter_durations(*after_us)
                    .into_iter()
                    .map(|after_us| MessageFault::Duplicate { after_us }),
            );
        }
        MessageFault::Delay { by_us } => {
            all.extend(
                shorter_durations(*by_us).into_iter().map(|by_us| MessageFault::Delay { by_us }),
            );
        }
        MessageFault::Flip { .. } => {}
        MessageFault::Evict { .. } => all.push(MessageFault::Flip { bit: 0 }),
    }
    all
}

fn simpler_crashes(crash: &Crash, unsynced: &[AppendName]) -> Vec<Crash> {
    let mut crash_kinds = vec![
        CrashKind::Kill { keep_permille: 1000 },
        CrashKind::Kill { keep_permille: 0 },
        CrashKind::PowerCut(Survival::None),
        CrashKind::PowerCut(Survival::All),
    ];
    if matches!(crash.how, CrashKind::PowerCut(_)) {
        for at in unsynced {
            crash_kinds.push(CrashKind::PowerCut(Survival::AllBut(at.clone())));
            for how in budget::SIMPLER_TEARS {
                for hole in budget::TORN_HOLES {
                    crash_kinds.push(CrashKind::PowerCut(Survival::Torn {
                        at: at.clone(),
                        how,
                        hole,
                    }));
                }
            }
        }
        if let CrashKind::PowerCut(Survival::Subset { key, keep_permille, .. }) = crash.how {
            let holes = Holes::Zeros;
            crash_kinds.push(CrashKind::PowerCut(Survival::Subset {
                key,
                keep_permille,
                tear: false,
                holes,
            }));
        }
    }
    let mut all = Vec::new();
    if crash.damage.is_some() {
        all.push(Crash { damage: None, ..crash.clone() });
    }
    all.extend(crash_kinds.into_iter().map(|how| Crash { how, ..crash.clone() }));
    let down_times = match crash.down_us {
        Some(us) => shorter_durations(us),
        None => budget::DOWN_TIMES_US.to_vec(),
    };
    all.extend(down_times.into_iter().map(|us| Crash { down_us: Some(us), ..crash.clone() }));
    all
}

fn simpler_timed_faults(timed_fault: &TimedFault) -> Vec<TimedFault> {
    match timed_fault {
        TimedFault::Cut { from, to, for_us } => {
            let mut all = Vec::new();
            if from.len() > 1 {
                all.extend((0..from.len()).map(|at| TimedFault::Cut {
                    from: without(from, at),
                    to: to.clone(),
                    for_us: *for_us,
                }));
            }
            if to.len() > 1 {
                all.extend((0..to.len()).map(|at| TimedFault::Cut {
                    from: from.clone(),
                    to: without(to, at),
                    for_us: *for_us,
                }));
            }
            all.extend(shorter_durations(*for_us).into_iter().map(|for_us| TimedFault::Cut {
                from: from.clone(),
                to: to.clone(),
                for_us,
            }));
            all
        }
        TimedFault::Clog { from, to, for_us, .. } => {
            let durations = shorter_durations(*for_us).into_iter().chain([*for_us]);
            durations
                .map(|for_us| TimedFault::Clog { from: *from, to: *to, for_us, swizzle: false })
                .collect()
        }
        TimedFault::Pause { node, for_us } => shorter_durations(*for_us)
            .into_iter()
            .map(|for_us| TimedFault::Pause { node: *node, for_us })
            .collect(),
        TimedFault::ClockJump { node, by_us } => shorter_durations(*by_us)
            .into_iter()
            .map(|by_us| TimedFault::ClockJump { node: *node, by_us })
            .collect(),
        TimedFault::Crash { node, crash } => {
            let crashes = simpler_crashes(crash, &[]);
            crashes.into_iter().map(|crash| TimedFault::Crash { node: *node, crash }).collect()
        }
    }
}

fn without(ends: &[Endpoint], removed: usize) -> Vec<Endpoint> {
    let kept = ends.iter().enumerate().filter(|(at, _)| *at != removed);
    kept.map(|(_, end)| *end).collect()
}

/// Faults at coordinates with the effect of a fault at a time: a crash after an effect, one message
/// lost or delayed.
fn equivalent_coordinate_faults(
    at_us: u64,
    timed_fault: &TimedFault,
    coordinates: &RunCoordinates,
) -> Vec<Fault> {
    match timed_fault {
        TimedFault::Crash { node, crash } => {
            let effects = coordinates.effects_before_crash(*node, at_us);
            effects.map(|at| Fault::Crash(at, crash.clone())).collect()
        }
        TimedFault::Cut { from, to, for_us } => messages_during(at_us, *for_us, coordinates)
            .filter(|at| from.contains(&at.from) && to.contains(&at.to))
            .map(|at| Fault::Message(at, MessageFault::Lose))
            .collect(),
        TimedFault::Clog { from, to, for_us, .. } => messages_during(at_us, *for_us, coordinates)
            .filter(|at| (at.from, at.to) == (*from, *to))
            .map(|at| Fault::Message(at, MessageFault::Delay { by_us: *for_us }))
            .collect(),
        TimedFault::Pause { node, for_us } => messages_during(at_us, *for_us, coordinates)
            .filter(|at| at.to == Endpoint::Node(*node))
            .map(|at| Fault::Message(at, MessageFault::Delay { by_us: *for_us }))
            .collect(),
        TimedFault::ClockJump { .. } => Vec::new(),
    }
}

fn messages_during(
    at_us: u64,
    for_us: u64,
    coordinates: &RunCoordinates,
) -> impl Iterator<Item = MessageAt> {
    let span_us = at_us.saturating_sub(budget::IN_FLIGHT_US_MAX)..=at_us + for_us;
    let sent = coordinates.messages().iter().filter(move |(sent_us, _)| span_us.contains(sent_us));
    sent.map(|(_, at)| *at)
}
