//! A chooser that draws its faults from the seed, at the rates of a plan.

use stormglass_node::{DiskError, DiskOp, Effect, FileId, Micros, Node, NodeId};

use super::{Chooser, EffectPoint, FaultClasses, SendPoint};
use crate::disk::{CutPlace, Damage, DamageKind, FileChoice, FileLoss, FileRole, Holes, Survival};
use crate::fault::{
    AtRestFault, BarrierFault, Crash, CrashKind, Endpoint, FaultKind, FaultKinds, MessageFault,
    SecondDisk, Skew, TimedFault, WriteFault,
};
use crate::hash::{below, between, hash};
use crate::plan::Plan;
use crate::profile::{Rates, Rng};
use crate::ratio::{Permille, Ppm};
use crate::workload::ClientId;

/// Decides from one key per kind of decision and a hash of key and coordinate, with the rates that
/// the seed has drawn.
#[derive(Clone, Debug)]
pub struct Seeded {
    /// As the seed has drawn them, those of excluded faults too.
    rates: Rates,
    allowed: FaultKinds,
    key: u64,
    nodes: u16,
    clients: u32,
    fault_phase: Micros,
    crash_countdowns: Vec<CrashCountdown>,
}

/// The countdown to a node's next crash, in effects; effects with disk operations in flight count
/// [`IN_FLIGHT_WEIGHT`] times.
#[derive(Clone, Copy, Debug)]
struct CrashCountdown {
    remaining: u32,
    crashes_left: u32,
    crashes_done: u32,
    incarnation: u32,
}

/// Crashes between an append and its barrier find more bugs, so effects there count this many
/// times.
const IN_FLIGHT_WEIGHT: u32 = 6;
/// The greatest countdown; a node performs some 100 to 300 weighted effects in a default run.
const COUNTDOWN_MAX: u64 = 600;
/// The same for a crash during a boot, which is some ten effects long, nearly all with operations
/// in flight.
const BOOT_COUNTDOWN_MAX: u64 = 70;
/// The same for a crash during a compaction: its snapshot, barriers, rename and removals, and the
/// records and messages in between.
const COMPACTION_COUNTDOWN_MAX: u64 = 90;

/// Coordinates in the key's space.
mod domain {
    pub(super) const MESSAGE: u64 = 1 << 56;
    pub(super) const CRASH: u64 = 2 << 56;
    pub(super) const BARRIER: u64 = 3 << 56;
    pub(super) const WRITE: u64 = 4 << 56;
    pub(super) const SKEW: u64 = 5 << 56;
    pub(super) const BOOT: u64 = 6 << 56;
    pub(super) const CRASH_COUNTDOWN: u64 = 7 << 56;
    pub(super) const TIMED_FAULT: u64 = 8 << 56;
    pub(super) const COMPACTION: u64 = 9 << 56;
}

impl Seeded {
    /// The chooser of a run with this plan and these rates; draws its key from the seed.
    pub fn new(plan: &Plan, rates: Rates, rng: &mut Rng) -> Seeded {
        // The only draw. Everything after it is a hash of this key and a coordinate, so that
        // masking one fault leaves the others.
        let key = rng.key();
        let mut crash_countdowns =
            vec![
                CrashCountdown { remaining: 0, crashes_left: 0, crashes_done: 0, incarnation: 0 };
                plan.nodes.into()
            ];
        for crash in 0..rates.crashes {
            let node =
                // Crashes are given to nodes at random: in some runs one node crashes often, in
                // others each once.
                below(hash(key ^ domain::CRASH_COUNTDOWN, u64::from(crash)), plan.nodes.into());
            crash_countdowns[node as usize].crashes_left += 1;
        }
        for (node, countdown) in crash_countdowns.iter_mut().enumerate() {
            countdown.remaining = draw_countdown(key, node as u64, 0);
        }
        Seeded {
            rates,
            allowed: FaultKinds::ALL,
            key,
            nodes: plan.nodes,
            clients: plan.clients,
            fault_phase: plan.fault_phase,
            crash_countdowns,
        }
    }

    /// The same chooser, but of its faults only those of these kinds happen. A crash of a kind that
    /// is excluded becomes one of the other kind.
    #[must_use]
    pub fn allowing(self, allowed: FaultKinds) -> Seeded {
        Seeded { allowed, ..self }
    }

    fn allows_timed(&self, fault: &TimedFault) -> bool {
        self.allowed.contains(FaultKind::of_timed(fault))
    }

    /// The rates of the faults that may happen.
    fn allowed_rates(&self) -> Rates {
        let mut rates = self.rates;
        rates.retain(self.allowed);
        rates
    }

    /// A new incarnation begins: the next crash may fall into its boot (P5).
    fn on_incarnation(&mut self, node: NodeId, incarnation: u32) {
        let random =
            hash(self.key ^ domain::BOOT, (u64::from(node.0) << 32) | u64::from(incarnation));
        let countdown = &mut self.crash_countdowns[usize::from(node.0)];
        countdown.incarnation = incarnation;
        let crash_this_boot = incarnation > 1
            // A probability of up to 46 % a boot would keep some node from ever completing one.
            && incarnation < 8
            && below(random, 65_536) < self.rates.crash_in_boot.into();
        if crash_this_boot {
            countdown.crashes_left += 1;
            countdown.remaining = 1 + below(random.rotate_left(32), BOOT_COUNTDOWN_MAX) as u32;
        }
    }

    fn draw_crash(&self, node: NodeId, nth: u32) -> Crash {
        let key = self.key ^ domain::CRASH;
        // Each decision about a crash has a key of its own: were it the same, the kind would
        // determine the rest.
        let crash_id = (u64::from(node.0) << 32) | u64::from(nth);
        // Two of three crashes are power cuts: they have far more outcomes than kills.
        let kill_allowed = self.allowed.contains(FaultKind::Kill);
        let is_kill = if kill_allowed == self.allowed.contains(FaultKind::PowerCut) {
            below(hash(key ^ 1, crash_id), 3) == 0
        } else {
            kill_allowed
        };
        let how = if is_kill {
            // Both extremes, a half, and "all but the last few".
            let keep = *pick(hash(key ^ 2, crash_id), &[0, 1000, 500, 900]);
            CrashKind::Kill { keep: permille(keep) }
        } else {
            CrashKind::PowerCut(draw_survival(hash(key ^ 3, crash_id), hash(key ^ 4, crash_id)))
        };
        let down_for = Micros(1 + below(hash(key ^ 5, crash_id), self.rates.down_max.0));
        let roll = below(hash(key ^ 6, crash_id), 65_536) as u32;
        let at_rest = self.draw_at_rest(node, roll, hash(key ^ 7, crash_id));
        let at_rest =
            at_rest.filter(|fault| self.allowed.contains(FaultKind::of_disk_at_rest(*fault)));
        Crash { how, down_for: Some(down_for), at_rest }
    }

    /// D10, D13-D16: what happens to the disk after a crash, at most one of these.
    fn draw_at_rest(&self, node: NodeId, roll: u32, random: u64) -> Option<AtRestFault> {
        let rates = &self.rates;
        let mut end = rates.damage;
        if roll < end {
            return Some(AtRestFault::Damaged(draw_damage(random)));
        }
        // The disks of all other nodes are what they have left.
        if rates.history_node != Some(node) {
            return None;
        }
        end += rates.replace_disk;
        if roll < end {
            return Some(self.draw_replacement(node, random));
        }
        end += rates.empty_disk;
        if roll < end {
            return Some(AtRestFault::Emptied);
        }
        end += rates.lose_file;
        if roll < end {
            return Some(AtRestFault::Lost(draw_loss(random)));
        }
        end += rates.unreadable_file;
        (roll < end).then(|| AtRestFault::Unreadable(draw_file(random)))
    }

    /// D13: an older copy of the disk, or in one of four cases the disk of another node.
    fn draw_replacement(&self, node: NodeId, random: u64) -> AtRestFault {
        if self.nodes > 1 && below(random.rotate_left(20), 4) == 0 {
            let distance = 1 + below(random.rotate_left(40), u64::from(self.nodes) - 1);
            let other = (u64::from(node.0) + distance) % u64::from(self.nodes);
            return AtRestFault::OfNode(NodeId(other as u16));
        }
        // Mostly the newest copy: it differs least from what it replaces.
        let incarnations_back = *pick(random, &[1, 1, 2, 3]);
        AtRestFault::Restored { incarnations_back }
    }

    /// A snapshot begins or goes on: the next crash may fall into its compaction.
    #[cold]
    fn on_snapshot<N: Node>(&mut self, at: &EffectPoint<'_, N>) {
        let random = self.effect_random(domain::COMPACTION, at);
        if (random & 0xffff) as u32 >= self.rates.crash_in_compaction {
            return;
        }
        let countdown = &mut self.crash_countdowns[usize::from(at.node.0)];
        let within = 1 + below(random.rotate_left(32), COMPACTION_COUNTDOWN_MAX) as u32;
        countdown.remaining = countdown.remaining.min(within);
    }

    /// The fault of a message that has one.
    fn draw_message_fault(&self, roll: u32, random: u64) -> MessageFault {
        let rates = &self.rates;
        if roll < rates.lose {
            return MessageFault::Lose;
        }
        if roll < rates.lose + rates.duplicate {
            // A copy that arrives soon meets the same state; one that arrives late meets a
            // transaction that is forgotten.
            let is_long = below(random.rotate_left(16), 4) == 0;
            let after_max = if is_long { self.fault_phase / 2 } else { Micros::from_millis(20) };
            let after = Micros(between(random, 100, after_max.0));
            return MessageFault::Duplicate { after };
        }
        if roll < rates.lose + rates.duplicate + rates.delay {
            return MessageFault::Delay {
                // From the greatest usual delay on: a shorter one would be no fault.
                by: Micros(between(random, 5_000, rates.delay_max.0.max(5_000))),
            };
        }
        MessageFault::Flip { bit: (random >> 32) as u32 }
    }

    /// Counts one effect towards the next crash of this node.
    fn count_effect<N: Node>(&mut self, at: &EffectPoint<'_, N>) -> Option<Crash> {
        if let Effect::Disk(DiskOp::Append { file: FileId::Scratch, .. }) = at.effect {
            self.on_snapshot(at);
        }
        let countdown = &mut self.crash_countdowns[usize::from(at.node.0)];
        let weight = if at.in_flight() { IN_FLIGHT_WEIGHT } else { 1 };
        // A countdown per node, not a chance per effect: an effect costs a subtraction and no hash.
        if countdown.remaining > weight {
            countdown.remaining -= weight;
            return None;
        }
        countdown.crashes_left -= 1;
        countdown.crashes_done += 1;
        let nth = countdown.crashes_done;
        countdown.remaining = draw_countdown(self.key, at.node.0.into(), nth.into());
        Some(self.draw_crash(at.node, nth))
    }

    fn draw_write<N: Node>(&self, at: &EffectPoint<'_, N>) -> Option<WriteFault> {
        if matches!(at.effect, Effect::Disk(DiskOp::Sync { .. } | DiskOp::SyncDir { .. })) {
            // A failed write of a barrier would be a failed barrier.
            return None; // A barrier fails by D7.
        }
        let random = self.effect_random(domain::WRITE, at);
        if (random & 0xffff) as u32 >= self.rates.fail_write {
            return None;
        }
        // A full disk may stay full for a while; a failing device reports one error and is not
        // asked again.
        let no_space = below(random, 2) == 0;
        let error = if no_space { DiskError::NoSpace } else { DiskError::Io };
        let lasts =
            if no_space { Micros(below(random.rotate_left(24), 200_000)) } else { Micros::ZERO };
        let keep = permille(*pick(random.rotate_left(40), &[0, 300, 900]));
        Some(WriteFault { error, keep, lasts })
    }

    fn effect_random<N: Node>(&self, domain: u64, at: &EffectPoint<'_, N>) -> u64 {
        let coordinate = (u64::from(at.node.0) << 48)
            | (u64::from(at.incarnation) << 32)
            | u64::from(at.ordinal);
        hash(self.key ^ domain, coordinate)
    }
}

fn draw_countdown(key: u64, node: u64, nth: u64) -> u32 {
    1 + below(hash(key ^ domain::CRASH_COUNTDOWN ^ 1, (node << 32) | nth), COUNTDOWN_MAX) as u32
}

/// A share that is written as a number or drawn below 1000.
fn permille(n: u16) -> Permille {
    Permille::new(n).expect("at most 1000")
}

fn pick<T>(random: u64, from: &[T]) -> &T {
    &from[below(random, from.len() as u64) as usize]
}

/// D2: one of the kinds of survival.
fn draw_survival(random: u64, key: u64) -> Survival {
    // Half of the power cuts are subsets with torn sectors, which no other kind reaches.
    match below(random, 8) {
        0 => Survival::None,
        1 => Survival::All,
        2 => Survival::Prefix(below(random.rotate_left(20), 12) as u32),
        3 => Survival::Subset { key, keep: permille(500), tear: false, holes: Holes::Zeros },
        _ => Survival::Subset {
            key,
            // High values lose a few sectors of many.
            keep: permille(*pick(random.rotate_left(20), &[200, 500, 800, 950])),
            tear: true,
            holes: *pick(random.rotate_left(40), &[Holes::Zeros, Holes::Garbage, Holes::OldBlocks]),
        },
    }
}

/// D10: one kind of damage, somewhere in a log or a snapshot.
fn draw_damage(random: u64) -> Damage {
    let kind = match below(random, 4) {
        0 => DamageKind::FlippedBit((random & 7) as u8),
        1 => DamageKind::ZeroedSector,
        2 => {
            let meant = permille(below(random.rotate_left(11), 1000) as u16);
            DamageKind::WrongPlace { meant }
        }
        _ => DamageKind::NeverWritten,
    };
    let role = *pick(random.rotate_left(23), &[FileRole::Wal, FileRole::Snapshot]);
    let at = permille(below(random.rotate_left(37), 1000) as u16);
    Damage { role, nth_newest: 0, at, kind }
}

/// D15: one kind of loss, of a log or a snapshot.
fn draw_loss(random: u64) -> FileLoss {
    let file = draw_file(random);
    let share = permille(below(random.rotate_left(37), 1000) as u16);
    // Half are cuts: they look most like something else, a torn tail or a complete log.
    match below(random, 4) {
        0 => FileLoss::Tail { file, from: CutPlace::Byte(share) },
        1 => FileLoss::Tail { file, from: CutPlace::Frame(share) },
        2 => FileLoss::File(file),
        _ => FileLoss::Generation { nth_newest: file.nth_newest },
    }
}

/// D15, D16: a log or a snapshot, mostly the newest. A node has two of a kind only until it has
/// removed the older one.
fn draw_file(random: u64) -> FileChoice {
    let role = *pick(random.rotate_left(23), &[FileRole::Wal, FileRole::Snapshot]);
    FileChoice { role, nth_newest: *pick(random.rotate_left(51), &[0, 0, 0, 1]) }
}

impl Chooser for Seeded {
    fn fault_classes(&self) -> FaultClasses {
        let rates = self.allowed_rates();
        FaultClasses {
            messages: rates.message_faults() + rates.queue_max > 0,
            crashes: rates.crash_in_boot + rates.crashes > 0,
            barriers: rates.fail_sync + rates.slow_sync + rates.lying_sync > 0,
            writes: rates.fail_write > 0,
            backups: rates.replace_disk + rates.second_processes_copy > 0,
        }
    }

    fn message(&mut self, at: &SendPoint) -> Option<MessageFault> {
        let rates = &self.rates;
        // Before the other faults: a full queue is a state of the link, not a chance.
        let is_full = rates.queue_max > 0 && at.queued >= rates.queue_max;
        if is_full && self.allowed.contains(FaultKind::FullQueue) {
            let random = hash(
                self.key ^ domain::MESSAGE ^ 1,
                (u64::from(at.link) << 32) | u64::from(at.ordinal),
            );
            return Some(MessageFault::Evict { victim: below(random, at.queued.into()) as u32 });
        }
        let total_rate = rates.message_faults();
        if total_rate == 0 {
            return None;
        }
        let random =
            hash(self.key ^ domain::MESSAGE, (u64::from(at.link) << 32) | u64::from(at.ordinal));
        // Rates are in 65,536ths, so 16 bits decide whether there is a fault; the upper ones are
        // left for what it is.
        let roll = (random & 0xffff) as u32;
        if roll >= total_rate {
            return None;
        }
        let fault = self.draw_message_fault(roll, random);
        self.allowed.contains(FaultKind::of_message(fault)).then_some(fault)
    }

    #[inline]
    fn crash<N: Node>(&mut self, at: &EffectPoint<'_, N>) -> Option<Crash> {
        if self.crash_countdowns[usize::from(at.node.0)].crashes_left == 0 {
            None
        } else {
            let crash = self.count_effect(at)?;
            self.allowed.contains(FaultKind::of_crash(&crash.how)).then_some(crash)
        }
    }

    #[inline]
    fn barrier<N: Node>(&mut self, at: &EffectPoint<'_, N>) -> Option<BarrierFault> {
        let rates = &self.rates;
        let total_rate = rates.fail_sync + rates.slow_sync + rates.lying_sync;
        if total_rate == 0 {
            return None;
        }
        let random = self.effect_random(domain::BARRIER, at);
        let roll = (random & 0xffff) as u32;
        if roll >= total_rate {
            return None;
        }
        let fault = if roll < rates.fail_sync {
            BarrierFault::Fail(DiskError::Io)
        } else if roll < rates.fail_sync + rates.slow_sync {
            BarrierFault::Slow { by: Micros(between(random, 5_000, 150_000)) }
        } else {
            BarrierFault::Lie
        };
        self.allowed.contains(FaultKind::of_barrier(fault)).then_some(fault)
    }

    #[inline]
    fn write<N: Node>(&mut self, at: &EffectPoint<'_, N>) -> Option<WriteFault> {
        let has_faults = self.rates.fail_write > 0 && self.allowed.contains(FaultKind::FailedWrite);
        if has_faults { self.draw_write(at) } else { None }
    }

    fn skew(&mut self, node: NodeId, incarnation: u32) -> Skew {
        self.on_incarnation(node, incarnation);
        let random =
            hash(self.key ^ domain::SKEW, (u64::from(node.0) << 32) | u64::from(incarnation));
        let offset = Micros(below(random, self.rates.offset_max.0));
        // By node and not by incarnation: a crystal keeps its drift when the process restarts.
        let random = hash(self.key ^ domain::SKEW ^ 1, node.0.into());
        let drift_max = self.rates.drift_max.get().unsigned_abs();
        let magnitude = below(random, u64::from(drift_max) + 1) as i32;
        let drift = Ppm::new(if random & 1 == 0 { magnitude } else { -magnitude })
            .expect("at most the maximum to either side");
        Skew {
            offset: if self.allowed.contains(FaultKind::ClockOffset) {
                offset
            } else {
                Micros::ZERO
            },
            drift: if self.allowed.contains(FaultKind::ClockDrift) { drift } else { Ppm::ZERO },
        }
    }

    fn timed_faults(&mut self) -> Vec<(Micros, TimedFault)> {
        let mut generator =
            TimedFaultGenerator { chooser: self, counter: 0, timed_faults: Vec::new() };
        generator.partitions();
        generator.clogs();
        generator.swizzles();
        generator.pauses_and_jumps();
        generator.crashes();
        generator.history();
        generator.early_wakes();
        generator.disk_hangs();
        let mut timed_faults = generator.timed_faults;
        timed_faults.retain(|(_, fault)| self.allows_timed(fault));
        timed_faults
    }
}

/// Draws the timed faults.
struct TimedFaultGenerator<'a> {
    chooser: &'a Seeded,
    counter: u64,
    timed_faults: Vec<(Micros, TimedFault)>,
}

impl TimedFaultGenerator<'_> {
    fn random(&mut self) -> u64 {
        self.counter += 1;
        hash(self.chooser.key ^ domain::TIMED_FAULT, self.counter)
    }

    fn random_start(&mut self) -> Micros {
        // Not in the last tenth, so that a fault has time to have an effect before everything
        // heals.
        Micros(below(self.random(), (self.chooser.fault_phase * 9 / 10).0))
    }

    fn random_duration(&mut self) -> Micros {
        // From about one message to a third of the phase, so that the cluster also works between
        // faults.
        Micros(between(self.random(), 2_000, (self.chooser.fault_phase / 3).0))
    }

    fn random_node(&mut self) -> NodeId {
        NodeId(below(self.random(), self.chooser.nodes.into()) as u16)
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        let nodes = (0..self.chooser.nodes).map(|node| Endpoint::Node(NodeId(node)));
        nodes.chain(ClientId::all(self.chooser.clients).map(Endpoint::Client)).collect()
    }

    /// N6: two sides of any size, one node alone, or a bridge; one-way or both ways; clients on
    /// either side.
    fn partitions(&mut self) {
        for _ in 0..self.chooser.rates.partitions {
            let at = self.random_start();
            let duration = self.random_duration();
            // One node alone, two random halves, or a bridge: a node that both halves still reach.
            let shape = below(self.random(), 3);
            let isolated = Endpoint::Node(self.random_node());
            let sides = self.random();
            let mut here = Vec::new();
            let mut there = Vec::new();
            for (index, end) in self.endpoints().into_iter().enumerate() {
                if shape == 2 && end == isolated {
                    continue; // The bridge is on neither side.
                }
                let is_here = match shape {
                    0 => end == isolated,
                    // Clients come after the nodes, so there can be more endpoints than a number
                    // has bits.
                    _ if index < 64 => sides >> index & 1 == 1,
                    _ => hash(sides, index as u64) & 1 == 1,
                };
                if is_here { here.push(end) } else { there.push(end) }
            }
            // The cut from `here` to `there` is always made; in two of three cases also the one
            // back.
            let one_way = below(self.random(), 3) == 0;
            if !one_way {
                self.timed_faults.push((
                    at,
                    TimedFault::Cut { from: there.clone(), to: here.clone(), duration },
                ));
            }
            self.timed_faults.push((at, TimedFault::Cut { from: here, to: there, duration }));
        }
    }

    /// N5.
    fn clogs(&mut self) {
        for _ in 0..self.chooser.rates.clogs {
            let at = self.random_start();
            let duration = self.random_duration();
            let endpoints = self.endpoints();
            let from = *pick(self.random(), &endpoints);
            // Clients only receive answers, which are delayed by other faults as well.
            let to = Endpoint::Node(self.random_node());
            self.timed_faults.push((at, TimedFault::Clog { from, to, duration, swizzle: false }));
        }
    }

    /// N7: a random half of the nodes, clogged one by one, and released one by one in another
    /// order.
    fn swizzles(&mut self) {
        for _ in 0..self.chooser.rates.swizzles {
            let start = self.random_start();
            let chosen = self.random();
            for node in (0..self.chooser.nodes).filter(|node| chosen >> node & 1 == 1) {
                // Each node begins and ends at times of its own: that is what makes a swizzle of
                // clogs.
                let from = start + Micros(between(self.random(), 0, 30_000));
                let until = start + Micros(between(self.random(), 30_000, 200_000));
                for other in (0..self.chooser.nodes).filter(|other| *other != node) {
                    let endpoints = [Endpoint::Node(NodeId(node)), Endpoint::Node(NodeId(other))];
                    let duration = until - from;
                    self.timed_faults.push((
                        from,
                        TimedFault::Clog {
                            from: endpoints[0],
                            to: endpoints[1],
                            duration,
                            swizzle: true,
                        },
                    ));
                    self.timed_faults.push((
                        from,
                        TimedFault::Clog {
                            from: endpoints[1],
                            to: endpoints[0],
                            duration,
                            swizzle: true,
                        },
                    ));
                }
            }
        }
    }

    /// P4, C3.
    fn pauses_and_jumps(&mut self) {
        for _ in 0..self.chooser.rates.pauses {
            let at = self.random_start();
            let node = self.random_node();
            let duration = self.random_duration();
            self.timed_faults.push((at, TimedFault::Pause { node, duration }));
        }
        for _ in 0..self.chooser.rates.jumps {
            let at = self.random_start();
            let node = self.random_node();
            // From much less than a timeout to many of them.
            let by = Micros(between(self.random(), 1_000, 5_000_000));
            self.timed_faults.push((at, TimedFault::ClockJump { node, by }));
        }
    }

    /// C4.
    fn early_wakes(&mut self) {
        for _ in 0..self.chooser.rates.early_wakes {
            let mut at = self.random_start();
            let node = self.random_node();
            // Several within one transaction: a node may have timers before the one that matters.
            for _ in 0..between(self.random(), 1, 6) {
                self.timed_faults.push((at, TimedFault::Wake { node }));
                at += Micros(between(self.random(), 1, 1_000));
            }
        }
    }

    /// D9.
    fn disk_hangs(&mut self) {
        for _ in 0..self.chooser.rates.disk_hangs {
            let at = self.random_start();
            let node = self.random_node();
            // From several vote timeouts on: what waits for this node has timed out and is retried.
            let duration = Micros(between(self.random(), 1_000_000, 10_000_000));
            self.timed_faults.push((at, TimedFault::DiskHang { node, duration }));
        }
    }

    /// P1, P2, P3 between two steps.
    fn crashes(&mut self) {
        for nth in 0..self.chooser.rates.timed_crashes {
            let at = self.random_start();
            let node = self.random_node();
            // Numbers of their own, far above those of effect crashes, give these crashes other
            // hashes.
            let crash = self.chooser.draw_crash(node, 1000 + nth);
            self.timed_faults.push((at, TimedFault::Crash { node, crash }));
        }
        let is_allowed = self.chooser.allowed_rates().cluster_power_cuts > 0;
        for nth in 0..self.chooser.rates.cluster_power_cuts {
            // Drawn in any case, as every later draw depends on the number of draws.
            let at = self.random_start();
            if !is_allowed {
                continue;
            }
            for node in (0..self.chooser.nodes).map(NodeId) {
                let mut crash = self.chooser.draw_crash(node, 2000 + nth);
                // A power cut of the whole cluster spares no node.
                if matches!(crash.how, CrashKind::Kill { .. }) {
                    crash.how = CrashKind::PowerCut(Survival::None);
                }
                self.timed_faults.push((at, TimedFault::Crash { node, crash }));
            }
        }
    }

    /// D13-D17: crashes of the node whose disk may change while it is down, and second processes
    /// under its id.
    fn history(&mut self) {
        let rates = self.chooser.rates;
        let Some(node) = rates.history_node else { return };
        let is_allowed = self.chooser.allowed_rates().history_crashes > 0;
        for nth in 0..rates.history_crashes {
            let at = self.random_start();
            if !is_allowed {
                continue;
            }
            let crash = self.chooser.draw_crash(node, 3000 + nth);
            self.timed_faults.push((at, TimedFault::Crash { node, crash }));
        }
        for (disk, count) in [
            (SecondDisk::Empty, rates.second_processes_empty),
            (SecondDisk::Copy, rates.second_processes_copy),
        ] {
            for _ in 0..count {
                let at = self.random_start();
                let duration = self.random_duration();
                self.timed_faults.push((at, TimedFault::SecondProcess { node, disk, duration }));
            }
        }
    }
}
