//! The same fault, gentler, or told by meaning instead of time.

use stormglass::DiskError;

use super::Shrinker;
use super::frame::rounder;
use super::witness::{Ended, Witness};
use crate::disk::{AppendName, Holes, Survival, Tear};
use crate::fault::{
    BarrierFault, Crash, CrashKind, End, Fault, MessageAt, MessageFault, Skew, Weather, WriteFault,
};
use crate::protocol::Scene;

impl<S: Scene> Shrinker<'_, '_, S> {
    /// Replaces each fault by gentler ones, as long as that helps.
    pub(super) fn soften_faults(&mut self) -> bool {
        let mut any = false;
        let mut at = 0;
        while at < self.best.faults.len() && !self.over() {
            let witness = self.witness();
            let fault = self.best.faults[at].clone();
            let mut candidates = gentler(&fault, &witness);
            candidates.retain(|candidate| weight(candidate) < weight(&fault));
            candidates.sort_by_key(weight);
            let before = self.best.faults.len();
            let with = |candidate| {
                let mut next = self.best.clone();
                next.faults[at] = candidate;
                next
            };
            let candidates: Vec<_> = candidates.into_iter().map(with).collect();
            if self.first_better(candidates) {
                any = true;
                if self.best.faults.len() < before {
                    at = 0;
                }
            } else {
                at += 1;
            }
        }
        any
    }
}

/// How hard a fault is, and how hard to read; only what is lighter replaces it.
fn weight(fault: &Fault) -> u64 {
    match fault {
        Fault::Message(_, fault) => match fault {
            MessageFault::Lose => 10,
            MessageFault::Duplicate { after_us } => 20 + length(*after_us),
            MessageFault::Delay { by_us } => 20 + length(*by_us),
            MessageFault::Flip { .. } => 500,
            MessageFault::Evict { .. } => 600,
        },
        Fault::Crash(_, crash) => crash_weight(crash),
        Fault::Barrier(_, fault) => match fault {
            BarrierFault::Fail(DiskError::Io) => 10,
            BarrierFault::Fail(DiskError::NoSpace) => 11,
            BarrierFault::Slow { by_us } => 20 + length(*by_us),
            BarrierFault::Lie => 30,
        },
        Fault::Write(_, WriteFault { error, keep_permille, lasts_us }) => {
            100 + u64::from(*error != DiskError::Io)
                + 2 * u64::from(*keep_permille > 0)
                + 4 * u64::from(*lasts_us > 0)
        }
        Fault::Skew { skew, .. } => {
            let drift = u64::from(skew.drift_ppm.unsigned_abs());
            100 + length(skew.offset_us) + length(drift) + 50 * u64::from(skew.offset_us > 0 && drift > 0)
        }
        Fault::At(at_us, weather) => 1_000 + roundness(*at_us) + weather_weight(weather),
    }
}

fn weather_weight(weather: &Weather) -> u64 {
    match weather {
        Weather::Cut { from, to, for_us } => 1_000 + 10 * (from.len() * to.len()) as u64 + length(*for_us),
        Weather::Clog { for_us, swizzle, .. } => 500 + u64::from(*swizzle) + length(*for_us),
        Weather::Pause { for_us, .. } => 600 + length(*for_us),
        Weather::Jump { by_us, .. } => 400 + length(*by_us),
        Weather::Crash { crash, .. } => crash_weight(crash),
    }
}

fn crash_weight(crash: &Crash) -> u64 {
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
        Some(us) => length(us),
        None => 90,
    };
    10 * how + down + 1_000 * u64::from(crash.damage.is_some())
}

/// A time's size in powers of two, and whether it is round: 0 to 99.
fn length(us: u64) -> u64 {
    4 * u64::from((us / 1_000 + 1).ilog2()).min(20) + roundness(us)
}

fn roundness(us: u64) -> u64 {
    [10_000, 1_000, 100, 1].iter().position(|step| us.is_multiple_of(*step)).unwrap_or(0) as u64
}

/// Lengths worth trying instead of this one.
fn shorter(us: u64) -> Vec<u64> {
    let usual = [1_000, 10_000, 50_000, 100_000, 200_000, 400_000];
    usual.into_iter().filter(|usual| *usual < us).chain(rounder(us).filter(|us| *us > 0)).collect()
}

fn gentler(fault: &Fault, witness: &Witness) -> Vec<Fault> {
    match fault {
        Fault::Message(at, fault) => {
            gentler_message(fault).into_iter().map(|fault| Fault::Message(*at, fault)).collect()
        }
        Fault::Crash(at, crash) => {
            let here = |ended: &&Ended| ended.after.as_ref() == Some(at);
            let unsynced = witness.crashes.iter().find(here).map(|ended| &ended.unsynced[..]);
            let crashes = gentler_crash(crash, unsynced.unwrap_or_default());
            crashes.into_iter().map(|crash| Fault::Crash(*at, crash)).collect()
        }
        Fault::Barrier(at, fault) => {
            let faults = match fault {
                BarrierFault::Slow { by_us } => {
                    shorter(*by_us).into_iter().map(|by_us| BarrierFault::Slow { by_us }).collect()
                }
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
        Fault::Skew { node, life, skew } => {
            let mut skews = vec![Skew { offset_us: 0, ..*skew }, Skew { drift_ppm: 0, ..*skew }];
            skews.extend(rounder(skew.offset_us).map(|offset_us| Skew { offset_us, ..*skew }));
            skews.retain(|skew| *skew != Skew::default());
            skews.into_iter().map(|skew| Fault::Skew { node: *node, life: *life, skew }).collect()
        }
        Fault::At(at_us, weather) => {
            let mut all: Vec<Fault> =
                gentler_weather(weather).into_iter().map(|weather| Fault::At(*at_us, weather)).collect();
            all.extend(rounder(*at_us).map(|at_us| Fault::At(at_us, weather.clone())));
            all.extend(told_by_meaning(*at_us, weather, witness));
            all
        }
    }
}

fn gentler_message(fault: &MessageFault) -> Vec<MessageFault> {
    let mut all = vec![MessageFault::Lose];
    match fault {
        MessageFault::Lose => return Vec::new(),
        MessageFault::Duplicate { after_us } => {
            all.extend(shorter(*after_us).into_iter().map(|after_us| MessageFault::Duplicate { after_us }));
        }
        MessageFault::Delay { by_us } => {
            all.extend(shorter(*by_us).into_iter().map(|by_us| MessageFault::Delay { by_us }));
        }
        MessageFault::Flip { .. } => {}
        MessageFault::Evict { .. } => all.push(MessageFault::Flip { bit: 0 }),
    }
    all
}

fn gentler_crash(crash: &Crash, unsynced: &[AppendName]) -> Vec<Crash> {
    let mut hows = vec![
        CrashKind::Kill { keep_permille: 1000 },
        CrashKind::Kill { keep_permille: 0 },
        CrashKind::PowerCut(Survival::None),
        CrashKind::PowerCut(Survival::All),
    ];
    if matches!(crash.how, CrashKind::PowerCut(_)) {
        for at in unsynced {
            hows.push(CrashKind::PowerCut(Survival::AllBut(at.clone())));
            for how in [Tear::Header, Tear::Half, Tear::LastSectorMissing] {
                for hole in [None, Some(Holes::Zeros), Some(Holes::Garbage), Some(Holes::OldBlocks)] {
                    hows.push(CrashKind::PowerCut(Survival::Torn { at: at.clone(), how, hole }));
                }
            }
        }
        if let CrashKind::PowerCut(Survival::Subset { key, keep_permille, .. }) = crash.how {
            let holes = Holes::Zeros;
            hows.push(CrashKind::PowerCut(Survival::Subset { key, keep_permille, tear: false, holes }));
        }
    }
    let mut all = Vec::new();
    if crash.damage.is_some() {
        all.push(Crash { damage: None, ..crash.clone() });
    }
    all.extend(hows.into_iter().map(|how| Crash { how, ..crash.clone() }));
    let downs = match crash.down_us {
        Some(us) => shorter(us),
        None => vec![1_000, 10_000, 50_000, 100_000],
    };
    all.extend(downs.into_iter().map(|us| Crash { down_us: Some(us), ..crash.clone() }));
    all
}

fn gentler_weather(weather: &Weather) -> Vec<Weather> {
    match weather {
        Weather::Cut { from, to, for_us } => {
            let without = |ends: &[End], gone: usize| {
                let kept = ends.iter().enumerate().filter(|(at, _)| *at != gone);
                kept.map(|(_, end)| *end).collect::<Vec<_>>()
            };
            let cut = |from: &[End], to: &[End], for_us| {
                let (from, to) = (from.to_vec(), to.to_vec());
                Weather::Cut { from, to, for_us }
            };
            let mut all = Vec::new();
            if from.len() > 1 {
                all.extend((0..from.len()).map(|gone| cut(&without(from, gone), to, *for_us)));
            }
            if to.len() > 1 {
                all.extend((0..to.len()).map(|gone| cut(from, &without(to, gone), *for_us)));
            }
            all.extend(shorter(*for_us).into_iter().map(|for_us| cut(from, to, for_us)));
            all
        }
        Weather::Clog { from, to, for_us, .. } => {
            let clog = |for_us| Weather::Clog { from: *from, to: *to, for_us, swizzle: false };
            shorter(*for_us).into_iter().chain([*for_us]).map(clog).collect()
        }
        Weather::Pause { node, for_us } => {
            shorter(*for_us).into_iter().map(|for_us| Weather::Pause { node: *node, for_us }).collect()
        }
        Weather::Jump { node, by_us } => {
            shorter(*by_us).into_iter().map(|by_us| Weather::Jump { node: *node, by_us }).collect()
        }
        Weather::Crash { node, crash } => {
            let crashes = gentler_crash(crash, &[]);
            crashes.into_iter().map(|crash| Weather::Crash { node: *node, crash }).collect()
        }
    }
}

/// What happens at a time, told by what it happens to: a crash after a deed, one message lost or late.
fn told_by_meaning(at_us: u64, weather: &Weather, witness: &Witness) -> Vec<Fault> {
    let sent = |from_us: u64, until_us: u64, on: &dyn Fn(&MessageAt) -> bool| -> Vec<MessageAt> {
        let all = witness.messages.iter().filter(|(sent_us, _)| (from_us..=until_us).contains(sent_us));
        all.map(|(_, at)| *at).filter(|at| on(at)).collect()
    };
    let late = |at: MessageAt, by_us: u64| Fault::Message(at, MessageFault::Delay { by_us });
    // A message may have been under way for a while when the weather reached it.
    let before_us = at_us.saturating_sub(30_000);
    match weather {
        Weather::Crash { node, crash } => {
            let here = witness.crashes.iter().filter(|ended| (ended.at_us, ended.node) == (at_us, *node));
            here.filter_map(|ended| Some(Fault::Crash(ended.after?, crash.clone()))).collect()
        }
        Weather::Cut { from, to, for_us } => {
            let on = |at: &MessageAt| from.contains(&at.from) && to.contains(&at.to);
            let lost = sent(before_us, at_us + for_us, &on);
            lost.into_iter().map(|at| Fault::Message(at, MessageFault::Lose)).collect()
        }
        Weather::Clog { from, to, for_us, .. } => {
            let on = |at: &MessageAt| (at.from, at.to) == (*from, *to);
            sent(before_us, at_us + for_us, &on).into_iter().map(|at| late(at, *for_us)).collect()
        }
        Weather::Pause { node, for_us } => {
            let on = |at: &MessageAt| at.to == End::Node(*node);
            sent(before_us, at_us + for_us, &on).into_iter().map(|at| late(at, *for_us)).collect()
        }
        Weather::Jump { .. } => Vec::new(),
    }
}
