//! The pass that replaces a fault by a simpler one: less severe, with a shorter or rounder
//! duration, or at a coordinate instead of a time.

use stormglass_node::{DiskError, Micros};

use super::times::rounder_times;
use super::{Pass, RunCoordinates, Search, budget};
use crate::disk::{AppendName, CutPlace, FileChoice, FileLoss, Holes, Survival};
use crate::fault::{
    AtRestFault, BarrierFault, Crash, CrashKind, Endpoint, Fault, MessageAt, MessageFault, Skew,
    TimedFault, WriteFault,
};
use crate::protocol::Protocol;
use crate::ratio::{Permille, Ppm};

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
            MessageFault::Duplicate { after } => 20 + duration_complexity(*after),
            MessageFault::Delay { by } => 20 + duration_complexity(*by),
            MessageFault::Flip { .. } => 500,
            MessageFault::Evict { .. } => 600,
        },
        Fault::Crash(_, crash) => crash_complexity(crash),
        Fault::Barrier(_, fault) => match fault {
            BarrierFault::Fail(DiskError::Io) => 10,
            BarrierFault::Fail(DiskError::NoSpace) => 11,
            BarrierFault::Slow { by } => 20 + duration_complexity(*by),
            BarrierFault::Lie => 30,
        },
        Fault::Write(_, WriteFault { error, keep, lasts }) => {
            100 + u64::from(*error != DiskError::Io)
                + 2 * u64::from(*keep > Permille::ZERO)
                + 4 * u64::from(*lasts > Micros::ZERO)
        }
        Fault::Skew { skew, .. } => {
            let drift = u64::from(skew.drift.get().unsigned_abs());
            100 + duration_complexity(skew.offset)
                + number_complexity(drift)
                + 50 * u64::from(skew.offset > Micros::ZERO && drift > 0)
        }
        Fault::At(at, timed_fault) => {
            1_000 + digits_complexity(at.0) + timed_fault_complexity(timed_fault)
        }
    }
}

fn timed_fault_complexity(timed_fault: &TimedFault) -> u64 {
    match timed_fault {
        TimedFault::Cut { from, to, duration } => {
            1_000 + 10 * (from.len() * to.len()) as u64 + duration_complexity(*duration)
        }
        TimedFault::Clog { duration, swizzle, .. } => {
            500 + u64::from(*swizzle) + duration_complexity(*duration)
        }
        TimedFault::Pause { duration, .. } => 600 + duration_complexity(*duration),
        TimedFault::ClockJump { by, .. } => 400 + duration_complexity(*by),
        TimedFault::SecondProcess { duration, .. } => 700 + duration_complexity(*duration),
        TimedFault::DiskHang { duration, .. } => 600 + duration_complexity(*duration),
        // Less than any other timed fault: it is within the contract of a driver.
        TimedFault::Wake { .. } => 300,
        TimedFault::Crash { crash, .. } => crash_complexity(crash),
    }
}

fn crash_complexity(crash: &Crash) -> u64 {
    let how = match &crash.how {
        CrashKind::Kill { keep: Permille::ALL } => 0,
        CrashKind::Kill { keep: Permille::ZERO } => 1,
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
    let down = match crash.down_for {
        Some(down_for) => duration_complexity(down_for),
        None => 90,
    };
    let at_rest = match &crash.at_rest {
        None => 0,
        Some(fault) => 1_000 + at_rest_complexity(fault),
    };
    10 * how + down + at_rest
}

/// Below 1,000, so that a crash without such a fault is simpler than one with any.
fn at_rest_complexity(fault: &AtRestFault) -> u64 {
    match fault {
        AtRestFault::Damaged(_) | AtRestFault::OfNode(_) | AtRestFault::Emptied => 0,
        AtRestFault::Restored { incarnations_back } => u64::from(*incarnations_back).min(900),
        AtRestFault::Unreadable(file) => u64::from(file.nth_newest).min(900),
        AtRestFault::Lost(loss) => match loss {
            FileLoss::File(file) => u64::from(file.nth_newest).min(100),
            FileLoss::Generation { nth_newest } => 200 + u64::from(*nth_newest).min(100),
            FileLoss::Tail { file, from } => {
                let (kind, share) = match from {
                    CutPlace::Byte(share) => (400, share),
                    CutPlace::Frame(share) => (600, share),
                };
                let is_round = budget::SIMPLER_CUTS.contains(share);
                kind + u64::from(file.nth_newest).min(100) + 50 * u64::from(!is_round)
            }
        },
    }
}

/// The magnitude of a duration in powers of two of milliseconds, and how round it is: 0 to 83.
fn duration_complexity(duration: Micros) -> u64 {
    number_complexity(duration.0)
}

/// The same of any number, in its thousands.
fn number_complexity(number: u64) -> u64 {
    4 * u64::from((number / 1_000 + 1).ilog2()).min(20) + digits_complexity(number)
}

fn digits_complexity(number: u64) -> u64 {
    [10_000, 1_000, 100, 1].iter().position(|step| number.is_multiple_of(*step)).unwrap_or(0) as u64
}

/// Shorter or rounder durations than this one.
fn shorter_durations(duration: Micros) -> Vec<Micros> {
    budget::COMMON_DURATIONS
        .into_iter()
        .filter(|common| *common < duration)
        // A duration of zero is no fault: removing it is for another pass.
        .chain(rounder_times(duration).into_iter().filter(|rounder| *rounder > Micros::ZERO))
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
                BarrierFault::Slow { by } => {
                    shorter_durations(*by).into_iter().map(|by| BarrierFault::Slow { by }).collect()
                }
                BarrierFault::Fail(_) => vec![BarrierFault::Fail(DiskError::Io)],
                BarrierFault::Lie => vec![],
            };
            faults.into_iter().map(|fault| Fault::Barrier(*at, fault)).collect()
        }
        Fault::Write(at, fault) => {
            let plain =
                WriteFault { error: DiskError::Io, keep: Permille::ZERO, lasts: Micros::ZERO };
            let faults = [
                plain,
                WriteFault { keep: fault.keep, ..plain },
                WriteFault { lasts: Micros::ZERO, ..*fault },
            ];
            faults.into_iter().map(|fault| Fault::Write(*at, fault)).collect()
        }
        Fault::Skew { node, incarnation, skew } => {
            let mut skews =
                vec![Skew { offset: Micros::ZERO, ..*skew }, Skew { drift: Ppm::ZERO, ..*skew }];
            skews.extend(
                rounder_times(skew.offset).into_iter().map(|offset| Skew { offset, ..*skew }),
            );
            skews.retain(|skew| *skew != Skew::default());
            skews
                .into_iter()
                .map(|skew| Fault::Skew { node: *node, incarnation: *incarnation, skew })
                .collect()
        }
        Fault::At(at, timed_fault) => {
            let mut all: Vec<Fault> = simpler_timed_faults(timed_fault)
                .into_iter()
                .map(|timed_fault| Fault::At(*at, timed_fault))
                .collect();
            all.extend(rounder_times(*at).into_iter().map(|at| Fault::At(at, timed_fault.clone())));
            all.extend(equivalent_coordinate_faults(*at, timed_fault, coordinates));
            all
        }
    }
}

fn simpler_message_faults(fault: &MessageFault) -> Vec<MessageFault> {
    let mut all = vec![MessageFault::Lose];
    match fault {
        MessageFault::Lose => return Vec::new(),
        MessageFault::Duplicate { after } => {
            all.extend(
                shorter_durations(*after)
                    .into_iter()
                    .map(|after| MessageFault::Duplicate { after }),
            );
        }
        MessageFault::Delay { by } => {
            all.extend(shorter_durations(*by).into_iter().map(|by| MessageFault::Delay { by }));
        }
        MessageFault::Flip { .. } => {}
        MessageFault::Evict { .. } => all.push(MessageFault::Flip { bit: 0 }),
    }
    all
}

fn simpler_crashes(crash: &Crash, unsynced: &[AppendName]) -> Vec<Crash> {
    let mut crash_kinds = vec![
        CrashKind::Kill { keep: Permille::ALL },
        CrashKind::Kill { keep: Permille::ZERO },
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
        if let CrashKind::PowerCut(Survival::Subset { key, keep, .. }) = crash.how {
            let holes = Holes::Zeros;
            crash_kinds.push(CrashKind::PowerCut(Survival::Subset {
                key,
                keep,
                tear: false,
                holes,
            }));
        }
    }
    let mut all = Vec::new();
    if let Some(fault) = crash.at_rest {
        all.push(Crash { at_rest: None, ..crash.clone() });
        all.extend(
            simpler_at_rest_faults(fault)
                .into_iter()
                .map(|fault| Crash { at_rest: Some(fault), ..crash.clone() }),
        );
    }
    all.extend(crash_kinds.into_iter().map(|how| Crash { how, ..crash.clone() }));
    let down_times = match crash.down_for {
        Some(down_for) => shorter_durations(down_for),
        None => budget::DOWN_TIMES.to_vec(),
    };
    all.extend(
        down_times.into_iter().map(|down_for| Crash { down_for: Some(down_for), ..crash.clone() }),
    );
    all
}

/// Faults of the same kind: a disk that is empty is another cause than one that is old, and a
/// file that is cut another than one that is gone.
fn simpler_at_rest_faults(fault: AtRestFault) -> Vec<AtRestFault> {
    match fault {
        // Its kind and its place decide whether a node can notice it, so neither is simpler.
        AtRestFault::Damaged(_) | AtRestFault::OfNode(_) | AtRestFault::Emptied => Vec::new(),
        AtRestFault::Restored { .. } => {
            let nearer = budget::INCARNATIONS_BACK;
            nearer.map(|incarnations_back| AtRestFault::Restored { incarnations_back }).to_vec()
        }
        AtRestFault::Unreadable(file) => {
            vec![AtRestFault::Unreadable(FileChoice { nth_newest: 0, ..file })]
        }
        AtRestFault::Lost(FileLoss::File(file)) => {
            vec![AtRestFault::Lost(FileLoss::File(FileChoice { nth_newest: 0, ..file }))]
        }
        AtRestFault::Lost(FileLoss::Generation { .. }) => {
            vec![AtRestFault::Lost(FileLoss::Generation { nth_newest: 0 })]
        }
        AtRestFault::Lost(FileLoss::Tail { file, from }) => {
            let newest = FileChoice { nth_newest: 0, ..file };
            let mut all = vec![FileLoss::Tail { file: newest, from }];
            for share in budget::SIMPLER_CUTS {
                all.push(FileLoss::Tail { file, from: CutPlace::Byte(share) });
                all.push(FileLoss::Tail { file, from: CutPlace::Frame(share) });
            }
            all.into_iter().map(AtRestFault::Lost).collect()
        }
    }
}

fn simpler_timed_faults(timed_fault: &TimedFault) -> Vec<TimedFault> {
    match timed_fault {
        TimedFault::Cut { from, to, duration } => {
            let mut all = Vec::new();
            if from.len() > 1 {
                all.extend((0..from.len()).map(|at| TimedFault::Cut {
                    from: without(from, at),
                    to: to.clone(),
                    duration: *duration,
                }));
            }
            if to.len() > 1 {
                all.extend((0..to.len()).map(|at| TimedFault::Cut {
                    from: from.clone(),
                    to: without(to, at),
                    duration: *duration,
                }));
            }
            all.extend(shorter_durations(*duration).into_iter().map(|duration| TimedFault::Cut {
                from: from.clone(),
                to: to.clone(),
                duration,
            }));
            all
        }
        TimedFault::Clog { from, to, duration, .. } => {
            let durations = shorter_durations(*duration).into_iter().chain([*duration]);
            durations
                .map(|duration| TimedFault::Clog { from: *from, to: *to, duration, swizzle: false })
                .collect()
        }
        TimedFault::Pause { node, duration } => shorter_durations(*duration)
            .into_iter()
            .map(|duration| TimedFault::Pause { node: *node, duration })
            .collect(),
        TimedFault::ClockJump { node, by } => shorter_durations(*by)
            .into_iter()
            .map(|by| TimedFault::ClockJump { node: *node, by })
            .collect(),
        TimedFault::SecondProcess { node, disk, duration } => {
            // The disk stays: what a copy shows is seldom what an empty one does.
            let durations = shorter_durations(*duration).into_iter();
            durations
                .map(|duration| TimedFault::SecondProcess { node: *node, disk: *disk, duration })
                .collect()
        }
        TimedFault::DiskHang { node, duration } => shorter_durations(*duration)
            .into_iter()
            .map(|duration| TimedFault::DiskHang { node: *node, duration })
            .collect(),
        TimedFault::Wake { .. } => Vec::new(),
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
    at: Micros,
    timed_fault: &TimedFault,
    coordinates: &RunCoordinates,
) -> Vec<Fault> {
    match timed_fault {
        TimedFault::Crash { node, crash } => {
            let effects = coordinates.effects_before_crash(*node, at);
            effects.map(|at| Fault::Crash(at, crash.clone())).collect()
        }
        TimedFault::Cut { from, to, duration } => messages_during(at, *duration, coordinates)
            .filter(|at| from.contains(&at.from) && to.contains(&at.to))
            .map(|at| Fault::Message(at, MessageFault::Lose))
            .collect(),
        TimedFault::Clog { from, to, duration, .. } => messages_during(at, *duration, coordinates)
            .filter(|at| (at.from, at.to) == (*from, *to))
            .map(|at| Fault::Message(at, MessageFault::Delay { by: *duration }))
            .collect(),
        TimedFault::Pause { node, duration } => messages_during(at, *duration, coordinates)
            .filter(|at| at.to == Endpoint::Node(*node))
            .map(|at| Fault::Message(at, MessageFault::Delay { by: *duration }))
            .collect(),
        TimedFault::DiskHang { node, duration } => {
            let barriers = coordinates.barriers().iter().filter(|at| at.node == *node);
            barriers.map(|at| Fault::Barrier(*at, BarrierFault::Slow { by: *duration })).collect()
        }
        // No coordinate fault runs a second process.
        TimedFault::ClockJump { .. }
        | TimedFault::SecondProcess { .. }
        | TimedFault::Wake { .. } => Vec::new(),
    }
}

fn messages_during(
    at: Micros,
    duration: Micros,
    coordinates: &RunCoordinates,
) -> impl Iterator<Item = MessageAt> {
    let span = at - budget::IN_FLIGHT_MAX..=at + duration;
    let sent = coordinates.messages().iter().filter(move |(sent_at, _)| span.contains(sent_at));
    sent.map(|(_, at)| *at)
}
