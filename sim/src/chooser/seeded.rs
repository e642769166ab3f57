use stormglass::{DiskError, DiskOp, Effect, Node, NodeId};

use super::{Asks, Chooser, DeedPoint, SendPoint};
use crate::disk::{Damage, Harm, Holes, Role, Survival};
use crate::fault::{BarrierFault, Crash, CrashKind, End, MessageFault, Skew, Weather, WriteFault};
use crate::mix::{below, between, mix};
use crate::plan::Plan;
use crate::profile::{Draw, Rates};

/// Answers from one key per kind of decision and a counter-based mix of key and coordinate, at the rates that the
/// seed has drawn.
#[derive(Clone, Debug)]
pub struct Seeded {
    rates: Rates,
    key: u64,
    nodes: u16,
    clients: u32,
    storm_us: u64,
    aims: Vec<Aim>,
}

/// When a node's next crash comes: after so many deeds, where deeds with disk work in flight count
/// [`IN_FLIGHT_WEIGHT`] times.
#[derive(Clone, Copy, Debug)]
struct Aim {
    left: u32,
    crashes_to_come: u32,
    crashed: u32,
    life: u32,
}

const IN_FLIGHT_WEIGHT: u32 = 6;
/// The countdown of a crash is drawn up to this; a node does some 100 to 300 weighted deeds in a default run.
const COUNTDOWN_MAX: u64 = 600;
/// The same for a crash meant to fall into a boot, which is some ten deeds long, nearly all with work in flight.
const BOOT_COUNTDOWN_MAX: u64 = 70;

/// Places in the key's space.
mod place {
    pub(super) const MESSAGE: u64 = 1 << 56;
    pub(super) const CRASH: u64 = 2 << 56;
    pub(super) const BARRIER: u64 = 3 << 56;
    pub(super) const WRITE: u64 = 4 << 56;
    pub(super) const SKEW: u64 = 5 << 56;
    pub(super) const BOOT: u64 = 6 << 56;
    pub(super) const AIM: u64 = 7 << 56;
    pub(super) const WEATHER: u64 = 8 << 56;
}

impl Seeded {
    /// The chooser of a run with this frame and these rates; draws its key from the seed.
    pub fn new(plan: &Plan, rates: Rates, draw: &mut Draw) -> Seeded {
        let key = draw.key();
        let mut aims = vec![Aim { left: 0, crashes_to_come: 0, crashed: 0, life: 0 }; plan.nodes.into()];
        for crash in 0..rates.crashes {
            let node = below(mix(key ^ place::AIM, u64::from(crash)), plan.nodes.into());
            aims[node as usize].crashes_to_come += 1;
        }
        for (node, aim) in aims.iter_mut().enumerate() {
            aim.left = countdown(key, node as u64, 0);
        }
        let (nodes, clients, storm_us) = (plan.nodes, plan.clients, plan.storm_us);
        Seeded { rates, key, nodes, clients, storm_us, aims }
    }

    /// A new life begins: perhaps its boot is where the next crash falls (P5).
    fn on_life(&mut self, node: NodeId, life: u32) {
        let random = mix(self.key ^ place::BOOT, (u64::from(node.0) << 32) | u64::from(life));
        let aim = &mut self.aims[usize::from(node.0)];
        aim.life = life;
        let struck = life > 1 && life < 8 && below(random, 65_536) < self.rates.crash_in_boot.into();
        if struck {
            aim.crashes_to_come += 1;
            aim.left = 1 + below(random.rotate_left(32), BOOT_COUNTDOWN_MAX) as u32;
        }
    }

    fn draw_crash(&self, node: NodeId, nth: u32) -> Crash {
        let random =
            |salt: u64| mix(self.key ^ place::CRASH ^ salt, (u64::from(node.0) << 32) | u64::from(nth));
        let how = if below(random(1), 3) == 0 {
            CrashKind::Kill { keep_permille: *pick(random(2), &[0, 1000, 500, 900]) }
        } else {
            CrashKind::PowerCut(draw_survival(random(3), random(4)))
        };
        let down_us = Some(1 + below(random(5), self.rates.down_us_max));
        let damage = (below(random(6), 65_536) < self.rates.damage.into()).then(|| draw_damage(random(7)));
        Crash { how, down_us, damage }
    }

    /// One deed nearer to the next crash of this node.
    fn count_down<N: Node>(&mut self, at: &DeedPoint<'_, N>) -> Option<Crash> {
        let aim = &mut self.aims[usize::from(at.node.0)];
        let weight = if at.in_flight() { IN_FLIGHT_WEIGHT } else { 1 };
        if aim.left > weight {
            aim.left -= weight;
            return None;
        }
        aim.crashes_to_come -= 1;
        aim.crashed += 1;
        let nth = aim.crashed;
        aim.left = countdown(self.key, at.node.0.into(), nth.into());
        Some(self.draw_crash(at.node, nth))
    }

    fn draw_write<N: Node>(&self, at: &DeedPoint<'_, N>) -> Option<WriteFault> {
        if matches!(at.effect, Effect::Disk(DiskOp::Sync { .. } | DiskOp::SyncDir { .. })) {
            return None; // A barrier fails by D7.
        }
        let random = self.deed_random(place::WRITE, at);
        if (random & 0xffff) as u32 >= self.rates.fail_write {
            return None;
        }
        let full = below(random, 2) == 0;
        let error = if full { DiskError::NoSpace } else { DiskError::Io };
        let lasts_us = if full { below(random.rotate_left(24), 200_000) } else { 0 };
        let keep_permille = *pick(random.rotate_left(40), &[0, 300, 900]);
        Some(WriteFault { error, keep_permille, lasts_us })
    }

    fn deed_random<N: Node>(&self, place: u64, at: &DeedPoint<'_, N>) -> u64 {
        let who = (u64::from(at.node.0) << 48) | (u64::from(at.life) << 32) | u64::from(at.ordinal);
        mix(self.key ^ place, who)
    }
}

fn countdown(key: u64, node: u64, nth: u64) -> u32 {
    1 + below(mix(key ^ place::AIM ^ 1, (node << 32) | nth), COUNTDOWN_MAX) as u32
}

fn pick<T>(random: u64, from: &[T]) -> &T {
    &from[below(random, from.len() as u64) as usize]
}

/// D2: one of the profiles of survival.
fn draw_survival(random: u64, key: u64) -> Survival {
    match below(random, 8) {
        0 => Survival::None,
        1 => Survival::All,
        2 => Survival::Prefix(below(random.rotate_left(20), 12) as u32),
        3 => Survival::Subset { key, keep_permille: 500, tear: false, holes: Holes::Zeros },
        _ => Survival::Subset {
            key,
            keep_permille: *pick(random.rotate_left(20), &[200, 500, 800, 950]),
            tear: true,
            holes: *pick(random.rotate_left(40), &[Holes::Zeros, Holes::Garbage, Holes::OldBlocks]),
        },
    }
}

/// D10: somewhere in a log or a snapshot, one kind of harm.
fn draw_damage(random: u64) -> Damage {
    let harm = match below(random, 4) {
        0 => Harm::FlippedBit((random & 7) as u8),
        1 => Harm::ZeroedSector,
        2 => Harm::WrongPlace { meant_permille: below(random.rotate_left(11), 1000) as u16 },
        _ => Harm::NeverWritten,
    };
    let role = *pick(random.rotate_left(23), &[Role::Wal, Role::Snapshot]);
    Damage { role, back: 0, at_permille: below(random.rotate_left(37), 1000) as u16, harm }
}

impl Chooser for Seeded {
    fn asks(&self) -> Asks {
        let rates = &self.rates;
        Asks {
            messages: rates.lose + rates.duplicate + rates.delay + rates.flip + rates.queue_max > 0,
            crashes: rates.crash_in_boot > 0 || self.aims.iter().any(|aim| aim.crashes_to_come > 0),
            barriers: rates.fail_sync + rates.slow_sync + rates.lie > 0,
            writes: rates.fail_write > 0,
        }
    }

    fn message(&mut self, at: &SendPoint) -> Option<MessageFault> {
        let rates = &self.rates;
        if rates.queue_max > 0 && at.queued >= rates.queue_max {
            let random =
                mix(self.key ^ place::MESSAGE ^ 1, (u64::from(at.link) << 32) | u64::from(at.ordinal));
            return Some(MessageFault::Evict { victim: below(random, at.queued.into()) as u32 });
        }
        let any = rates.lose + rates.duplicate + rates.delay + rates.flip;
        if any == 0 {
            return None;
        }
        let random = mix(self.key ^ place::MESSAGE, (u64::from(at.link) << 32) | u64::from(at.ordinal));
        let chance = (random & 0xffff) as u32;
        if chance >= any {
            return None;
        }
        if chance < rates.lose {
            return Some(MessageFault::Lose);
        }
        if chance < rates.lose + rates.duplicate {
            let long = below(random.rotate_left(16), 4) == 0;
            let after_us = between(random, 100, if long { self.storm_us / 2 } else { 20_000 });
            return Some(MessageFault::Duplicate { after_us });
        }
        if chance < rates.lose + rates.duplicate + rates.delay {
            return Some(MessageFault::Delay {
                by_us: between(random, 5_000, rates.delay_us_max.max(5_000)),
            });
        }
        Some(MessageFault::Flip { bit: (random >> 32) as u32 })
    }

    #[inline]
    fn crash<N: Node>(&mut self, at: &DeedPoint<'_, N>) -> Option<Crash> {
        if self.aims[usize::from(at.node.0)].crashes_to_come == 0 { None } else { self.count_down(at) }
    }

    #[inline]
    fn barrier<N: Node>(&mut self, at: &DeedPoint<'_, N>) -> Option<BarrierFault> {
        let rates = &self.rates;
        let any = rates.fail_sync + rates.slow_sync + rates.lie;
        if any == 0 {
            return None;
        }
        let random = self.deed_random(place::BARRIER, at);
        let chance = (random & 0xffff) as u32;
        if chance < rates.fail_sync {
            return Some(BarrierFault::Fail(DiskError::Io));
        }
        if chance < rates.fail_sync + rates.slow_sync {
            return Some(BarrierFault::Slow { by_us: between(random, 5_000, 150_000) });
        }
        (chance < any).then_some(BarrierFault::Lie)
    }

    #[inline]
    fn write<N: Node>(&mut self, at: &DeedPoint<'_, N>) -> Option<WriteFault> {
        if self.rates.fail_write == 0 { None } else { self.draw_write(at) }
    }
    fn skew(&mut self, node: NodeId, life: u32) -> Skew {
        self.on_life(node, life);
        let random = mix(self.key ^ place::SKEW, (u64::from(node.0) << 32) | u64::from(life));
        let offset_us = below(random, self.rates.offset_us_max);
        let drift = mix(self.key ^ place::SKEW ^ 1, node.0.into());
        let size = below(drift, u64::from(self.rates.drift_ppm_max) + 1) as i32;
        Skew { offset_us, drift_ppm: if drift & 1 == 0 { size } else { -size } }
    }

    fn weather(&mut self) -> Vec<(u64, Weather)> {
        let mut sky = Sky { chooser: self, counter: 0, weather: Vec::new() };
        sky.partitions();
        sky.clogs();
        sky.swizzles();
        sky.pauses_and_jumps();
        sky.crashes();
        sky.weather
    }
}

/// Draws what happens at given times.
struct Sky<'a> {
    chooser: &'a Seeded,
    counter: u64,
    weather: Vec<(u64, Weather)>,
}

impl Sky<'_> {
    fn random(&mut self) -> u64 {
        self.counter += 1;
        mix(self.chooser.key ^ place::WEATHER, self.counter)
    }

    fn time(&mut self) -> u64 {
        below(self.random(), self.chooser.storm_us * 9 / 10)
    }

    fn length(&mut self) -> u64 {
        between(self.random(), 2_000, self.chooser.storm_us / 3)
    }

    fn node(&mut self) -> NodeId {
        NodeId(below(self.random(), self.chooser.nodes.into()) as u16)
    }

    fn ends(&self) -> Vec<End> {
        let nodes = (0..self.chooser.nodes).map(|node| End::Node(NodeId(node)));
        nodes.chain((1..=self.chooser.clients).map(End::Client)).collect()
    }

    /// N6: two sides of any size, one node alone, or a bridge; one-way or both ways; clients on either side.
    fn partitions(&mut self) {
        for _ in 0..self.chooser.rates.partitions {
            let (at_us, for_us) = (self.time(), self.length());
            let shape = below(self.random(), 3);
            let alone = End::Node(self.node());
            let sides = self.random();
            let side = |end: &End, index: usize| match shape {
                0 => *end == alone,
                // Clients come behind the nodes, so there can be more ends than a number has bits.
                _ if index < 64 => sides >> index & 1 == 1,
                _ => mix(sides, index as u64) & 1 == 1,
            };
            let ends = self.ends();
            let bridge = (shape == 2).then_some(alone);
            let on = |wanted: bool| {
                let all = ends.iter().enumerate().filter(|(_, end)| Some(**end) != bridge);
                all.filter(|(index, end)| side(end, *index) == wanted)
                    .map(|(_, end)| *end)
                    .collect::<Vec<_>>()
            };
            let (here, there) = (on(true), on(false));
            let one_way = below(self.random(), 3) == 0;
            if !one_way {
                self.weather.push((at_us, Weather::Cut { from: there.clone(), to: here.clone(), for_us }));
            }
            self.weather.push((at_us, Weather::Cut { from: here, to: there, for_us }));
        }
    }

    /// N5.
    fn clogs(&mut self) {
        for _ in 0..self.chooser.rates.clogs {
            let (at_us, for_us) = (self.time(), self.length());
            let ends = self.ends();
            let from = *pick(self.random(), &ends);
            let to = End::Node(self.node());
            self.weather.push((at_us, Weather::Clog { from, to, for_us, swizzle: false }));
        }
    }

    /// N7: a random half of the nodes, one by one, and let go one by one in another order.
    fn swizzles(&mut self) {
        for _ in 0..self.chooser.rates.swizzles {
            let (start, chosen) = (self.time(), self.random());
            for node in (0..self.chooser.nodes).filter(|node| chosen >> node & 1 == 1) {
                let from = start + between(self.random(), 0, 30_000);
                let until = start + between(self.random(), 30_000, 200_000);
                for other in (0..self.chooser.nodes).filter(|other| *other != node) {
                    let ends = [End::Node(NodeId(node)), End::Node(NodeId(other))];
                    let for_us = until - from;
                    self.weather
                        .push((from, Weather::Clog { from: ends[0], to: ends[1], for_us, swizzle: true }));
                    self.weather
                        .push((from, Weather::Clog { from: ends[1], to: ends[0], for_us, swizzle: true }));
                }
            }
        }
    }

    /// P4, C3.
    fn pauses_and_jumps(&mut self) {
        for _ in 0..self.chooser.rates.pauses {
            let (at_us, node, for_us) = (self.time(), self.node(), self.length());
            self.weather.push((at_us, Weather::Pause { node, for_us }));
        }
        for _ in 0..self.chooser.rates.jumps {
            let (at_us, node) = (self.time(), self.node());
            let by_us = between(self.random(), 1_000, 5_000_000);
            self.weather.push((at_us, Weather::Jump { node, by_us }));
        }
    }

    /// P1, P2, P3 between two steps.
    fn crashes(&mut self) {
        for nth in 0..self.chooser.rates.timed_crashes {
            let (at_us, node) = (self.time(), self.node());
            let crash = self.chooser.draw_crash(node, 1000 + nth);
            self.weather.push((at_us, Weather::Crash { node, crash }));
        }
        for nth in 0..self.chooser.rates.blackouts {
            let at_us = self.time();
            for node in (0..self.chooser.nodes).map(NodeId) {
                let mut crash = self.chooser.draw_crash(node, 2000 + nth);
                if matches!(crash.how, CrashKind::Kill { .. }) {
                    crash.how = CrashKind::PowerCut(Survival::None);
                }
                self.weather.push((at_us, Weather::Crash { node, crash }));
            }
        }
    }
}
