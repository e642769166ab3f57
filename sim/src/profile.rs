//! Fault profiles, the swarm, and the rates that a seed draws. The rules that the comments name by
//! id are described in `docs/faults.md`.

use std::fmt;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use stormglass_node::{Micros, NodeId};

use crate::fault::{FaultKind, FaultKinds};
use crate::plan::{LOG_BYTES, Plan, Timing};
use crate::ratio::Ppm;

/// A named set of fault kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[non_exhaustive]
pub enum Profile {
    /// Each seed enables a random subset of all kinds and draws its own rates (swarm testing: Groce
    /// et al., ISSTA 2012). A run with every fault hides failures that a run with one kind shows.
    #[default]
    Swarm,
    /// No faults; delays vary.
    Calm,
    /// The network: N1-N3, N5-N8.
    Lossy,
    /// Kills and power cuts: P1-P3, P5, P6, D1-D6, D12.
    Crashy,
    /// Failing, full and slow disks: D7-D9, with crashes.
    FaultyDisk,
    /// Clocks, wakes and pauses: C1-C4, P4.
    Skewed,
    /// Everything at once, apart from the opt-in profiles.
    Everything,
    /// Lossy, and every message travels as bytes, some with a bit flipped (N4).
    Garbled,
    /// Crashy, with damage to bytes at rest (D10): a node must refuse to boot, never go on
    /// silently.
    BitRot,
    /// Crashy, with drives that lie about syncs (D11): outside the guarantees of a node; shows that
    /// checkers detect it.
    LyingDisk,
    /// Crashy, with a node whose disk is replaced (by an older copy, or another node's) or emptied,
    /// whose files are cut short or gone (D13-D15), or under whose id a second process runs (D17):
    /// a node must refuse to serve, never go on silently.
    ReplacedDisk,
    /// Crashy, with a node of which a boot cannot read a file (D16): it must refuse that boot.
    UnreadableDisk,
}

impl Profile {
    /// Every profile, in the order of the help.
    pub const ALL: [Profile; 12] = [
        Profile::Swarm,
        Profile::Calm,
        Profile::Lossy,
        Profile::Crashy,
        Profile::FaultyDisk,
        Profile::Skewed,
        Profile::Everything,
        Profile::Garbled,
        Profile::BitRot,
        Profile::LyingDisk,
        Profile::ReplacedDisk,
        Profile::UnreadableDisk,
    ];

    /// A short description.
    pub fn meaning(self) -> &'static str {
        match self {
            Profile::Swarm => {
                "each seed switches a random subset on and draws its own rates (default)"
            }
            Profile::Calm => "no faults; delays vary",
            Profile::Lossy => {
                "network faults: delay, loss, duplication, clogged links, partitions, full queues"
            }
            Profile::Crashy => {
                "process kills and power cuts, torn writes, crashes during recovery, nodes that never restart"
            }
            Profile::FaultyDisk => "failed syncs, full disks, slow disks, and crashes",
            Profile::Skewed => "clock offset, drift and jumps; early wakes; pauses",
            Profile::Everything => "all faults at once, except the opt-in profiles below",
            Profile::Garbled => "lossy, with flipped bits in encoded messages (opt-in)",
            Profile::BitRot => "crashy, with corruption of data at rest (opt-in)",
            Profile::LyingDisk => {
                "crashy, with drives that report success for a sync they did not do (opt-in; outside the fault model that the protocol tolerates)"
            }
            Profile::ReplacedDisk => {
                "crashy, with a node whose disk is replaced by an older copy or another node's, emptied, or lacks files, or whose id two processes have (opt-in: runs with lost files may be judged in part)"
            }
            Profile::UnreadableDisk => {
                "crashy, with a node of which a boot cannot read a file (opt-in)"
            }
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Profile::Swarm => "swarm",
            Profile::Calm => "calm",
            Profile::Lossy => "lossy",
            Profile::Crashy => "crashy",
            Profile::FaultyDisk => "faulty-disk",
            Profile::Skewed => "skewed",
            Profile::Everything => "everything",
            Profile::Garbled => "garbled",
            Profile::BitRot => "bit-rot",
            Profile::LyingDisk => "lying-disk",
            Profile::ReplacedDisk => "replaced-disk",
            Profile::UnreadableDisk => "unreadable-disk",
        })
    }
}

/// The user's settings; each seed draws what is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Setup {
    pub profile: Profile,
    /// How many nodes, 1 to 64.
    pub nodes: Option<u16>,
    /// Without `nodes`, each seed draws a number from the first to the second of these: 1 to 64.
    pub nodes_between: Option<(u16, u16)>,
    /// How many transactions (or whatever the workload counts), 1 to 1,000,000.
    pub txns: Option<u32>,
    /// How many clients, 1 to 64.
    pub clients: Option<u32>,
    /// The length of the fault phase.
    pub fault_phase: Option<Micros>,
    /// [`Plan::recovery_timeout`]. A protocol that sets its own ignores it.
    pub recovery_timeout: Option<Micros>,
}

impl Setup {
    /// The settings that differ from those of a protocol, as arguments of a command: ` --profile
    /// crashy --nodes 3`.
    pub fn as_args(&self, of_protocol: &Setup) -> String {
        let mut typed = String::new();
        if self.profile != of_protocol.profile {
            typed += &format!(" --profile {}", self.profile);
        }
        if let Some(nodes) = self.nodes.filter(|_| self.nodes != of_protocol.nodes) {
            typed += &format!(" --nodes {nodes}");
        }
        if let Some(txns) = self.txns.filter(|_| self.txns != of_protocol.txns) {
            typed += &format!(" --txns {txns}");
        }
        typed
    }
}

/// The fault rates that one seed has drawn. Probabilities are in 65,536ths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// N2: probability that a message is lost. 0 to 13,000.
    pub lose: u32,
    /// N3: probability that a message arrives twice. 0 to 13,000.
    pub duplicate: u32,
    /// N1: probability that a message takes very long. 0 to 3,000.
    pub delay: u32,
    /// N1: the longest such delay, up to the length of the fault phase.
    pub delay_max: Micros,
    /// N4: probability that a bit of a message is flipped. 0 to 6,500.
    pub flip: u32,
    /// N8: messages that a link holds; 0 for no limit.
    pub queue_max: u32,
    /// N5: links clogged for a while. 0 to 6.
    pub clogs: u32,
    /// N6: partitions. 0 to 4.
    pub partitions: u32,
    /// N7: swizzles. 0 to 2.
    pub swizzles: u32,
    /// P1, P2: crashes right after an effect. 0 to 6.
    pub crashes: u32,
    /// P1, P2: crashes at a time. 0 to 2; 1 to 2 where there are crashes at all.
    pub timed_crashes: u32,
    /// P3: power cuts of all nodes. 0 to 1.
    pub cluster_power_cuts: u32,
    /// P5: probability that a boot is interrupted by another crash.
    pub crash_in_boot: u32,
    /// P1, P2: probability that the next crash of a node is moved into a compaction. 0 to 40,000.
    pub crash_in_compaction: u32,
    /// P6: whether a node stays down after the fault phase.
    pub never_restarts: bool,
    /// Greatest time that a crashed node is down.
    pub down_max: Micros,
    /// P4: pauses. 0 to 4.
    pub pauses: u32,
    /// C1: greatest offset of a clock.
    pub offset_max: Micros,
    /// C2: greatest drift of a clock, to either side.
    pub drift_max: Ppm,
    /// C3: jumps of a clock. 0 to 4.
    pub jumps: u32,
    /// C4: groups of wakes before the deadline. 0 to 12.
    pub early_wakes: u32,
    /// D7: probability that a barrier fails. 0 to 2,000.
    pub fail_sync: u32,
    /// D8: probability that a write fails. 0 to 1,000.
    pub fail_write: u32,
    /// D9: probability that a barrier takes very long. 0 to 13,000.
    pub slow_sync: u32,
    /// D9: disks that hang. 0 to 3.
    pub disk_hangs: u32,
    /// D11: probability that a barrier lies. 0 to 13,000.
    pub lying_sync: u32,
    /// D10: probability that a crash is followed by damage.
    pub damage: u32,
    /// D13-D17: the only node whose disk has such a history; `None` for no node. With two of them,
    /// a protocol without replicas could lose what only those two knew.
    pub history_node: Option<NodeId>,
    /// D13-D16: crashes of that node at a time, besides all others. 0 to 2.
    pub history_crashes: u32,
    /// D13: probability that a crash is followed by another disk. 0 to 65,536.
    pub replace_disk: u32,
    /// D14: probability that a crash is followed by the loss of all files. 0 to 65,536.
    pub empty_disk: u32,
    /// D15: probability that a crash is followed by the loss of a file or its end. 0 to 65,536.
    pub lose_file: u32,
    /// D16: probability that a file cannot be read at the boot after a crash. 0 to 65,536.
    pub unreadable_file: u32,
    /// D17: second processes with an empty disk. 0 to 2.
    pub second_processes_empty: u32,
    /// D17: second processes with a copy of the disk. 0 to 2.
    pub second_processes_copy: u32,
}

impl Rates {
    /// Removes the faults that are not among `allowed`. Crashes of a kind that is removed become
    /// crashes of the other kind.
    pub(crate) fn retain(&mut self, allowed: FaultKinds) {
        let had_history = self.has_history_faults();
        for kind in FaultKind::ALL {
            if !allowed.contains(kind) {
                self.clear(kind);
            }
        }
        if !allowed.contains(FaultKind::Kill) && !allowed.contains(FaultKind::PowerCut) {
            self.crashes = 0;
            self.timed_crashes = 0;
            self.history_crashes = 0;
            self.crash_in_boot = 0;
            self.crash_in_compaction = 0;
        }
        // The crashes of that node were drawn for the faults of its disk.
        if had_history && !self.has_history_faults() {
            self.history_node = None;
            self.history_crashes = 0;
        }
    }

    fn has_history_faults(&self) -> bool {
        self.replace_disk
            + self.empty_disk
            + self.lose_file
            + self.unreadable_file
            + self.second_processes_empty
            + self.second_processes_copy
            > 0
    }

    fn clear(&mut self, kind: FaultKind) {
        match kind {
            FaultKind::MessageDelay => self.delay = 0,
            FaultKind::MessageLoss => self.lose = 0,
            FaultKind::MessageDuplication => self.duplicate = 0,
            FaultKind::MessageCorruption => self.flip = 0,
            FaultKind::Clog => self.clogs = 0,
            FaultKind::Partition => self.partitions = 0,
            FaultKind::Swizzle => self.swizzles = 0,
            FaultKind::FullQueue => self.queue_max = 0,
            // `retain` decides what becomes of the other crashes.
            FaultKind::Kill => {}
            FaultKind::PowerCut | FaultKind::ClusterPowerCut => self.cluster_power_cuts = 0,
            FaultKind::Pause => self.pauses = 0,
            FaultKind::PermanentlyDown => self.never_restarts = false,
            FaultKind::ClockOffset => self.offset_max = Micros::ZERO,
            FaultKind::ClockDrift => self.drift_max = Ppm::ZERO,
            FaultKind::ClockJump => self.jumps = 0,
            FaultKind::EarlyWake => self.early_wakes = 0,
            FaultKind::FailedSync => self.fail_sync = 0,
            FaultKind::FailedWrite => self.fail_write = 0,
            FaultKind::SlowDisk => {
                self.slow_sync = 0;
                self.disk_hangs = 0;
            }
            FaultKind::DamageAtRest => self.damage = 0,
            FaultKind::LyingSync => self.lying_sync = 0,
            FaultKind::ReplacedDisk => self.replace_disk = 0,
            FaultKind::EmptiedDisk => self.empty_disk = 0,
            FaultKind::LostFile => self.lose_file = 0,
            FaultKind::UnreadableFile => self.unreadable_file = 0,
            FaultKind::SecondProcess => {
                self.second_processes_empty = 0;
                self.second_processes_copy = 0;
            }
        }
    }

    /// The probability that a message has a fault other than a full queue: these exclude each
    /// other.
    pub(crate) fn message_faults(&self) -> u32 {
        self.lose + self.duplicate + self.delay + self.flip
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rates: [(&str, u64); 34] = [
            ("lose", self.lose.into()),
            ("duplicate", self.duplicate.into()),
            ("delay", self.delay.into()),
            ("delay_us_max", self.delay_max.0),
            ("flip", self.flip.into()),
            ("queue_max", self.queue_max.into()),
            ("clogs", self.clogs.into()),
            ("partitions", self.partitions.into()),
            ("swizzles", self.swizzles.into()),
            ("crashes", self.crashes.into()),
            ("timed_crashes", self.timed_crashes.into()),
            ("cluster_power_cuts", self.cluster_power_cuts.into()),
            ("crash_in_boot", self.crash_in_boot.into()),
            ("crash_in_compaction", self.crash_in_compaction.into()),
            ("never_restarts", self.never_restarts.into()),
            ("down_us_max", self.down_max.0),
            ("pauses", self.pauses.into()),
            ("offset_us_max", self.offset_max.0),
            ("drift_ppm_max", self.drift_max.get().unsigned_abs().into()),
            ("jumps", self.jumps.into()),
            ("early_wakes", self.early_wakes.into()),
            ("fail_sync", self.fail_sync.into()),
            ("fail_write", self.fail_write.into()),
            ("slow_sync", self.slow_sync.into()),
            ("disk_hangs", self.disk_hangs.into()),
            ("lying_sync", self.lying_sync.into()),
            ("damage", self.damage.into()),
            ("history_crashes", self.history_crashes.into()),
            ("replace_disk", self.replace_disk.into()),
            ("empty_disk", self.empty_disk.into()),
            ("lose_file", self.lose_file.into()),
            ("unreadable_file", self.unreadable_file.into()),
            ("second_processes_empty", self.second_processes_empty.into()),
            ("second_processes_copy", self.second_processes_copy.into()),
        ];
        let mut separator = "";
        if let Some(node) = self.history_node {
            write!(f, "history_node={node}")?;
            separator = " ";
        }
        for (name, rate) in rates.into_iter().filter(|(_, rate)| *rate > 0) {
            write!(f, "{separator}{name}={rate}")?;
            separator = " ";
        }
        if separator.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

/// The random numbers of one seed, in order: sizes, rates, and the workload's choices.
#[derive(Clone, Debug)]
pub struct Rng {
    source: ChaCha8Rng,
    nodes: u16,
}

impl Rng {
    /// The random numbers of `seed`.
    pub fn new(seed: u64) -> Rng {
        Rng { source: ChaCha8Rng::seed_from_u64(seed), nodes: 1 }
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        crate::hash::between(self.source.next_u64(), low, high)
    }

    /// True with probability `numerator` / `denominator`.
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        crate::hash::below(self.source.next_u64(), denominator) < numerator
    }

    /// One node of the cluster.
    pub fn node(&mut self) -> stormglass_node::NodeId {
        let last = u64::from(self.nodes - 1);
        stormglass_node::NodeId(
            u16::try_from(self.between(0, last)).expect("a node's number is small"),
        )
    }

    /// A key for stateless decisions.
    pub fn key(&mut self) -> u64 {
        self.source.next_u64()
    }

    /// One of the elements.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let last = from.len().checked_sub(1).expect("the slice is not empty");
        &from[self.between(0, last as u64) as usize]
    }

    fn size(&mut self, low: u64, high: u64) -> u32 {
        u32::try_from(self.between(low, high)).expect("sizes are small")
    }

    fn size_or_zero(&mut self, one_in: u64, low: u64, high: u64) -> u32 {
        if self.chance(1, one_in) { self.size(low, high) } else { 0 }
    }
}

/// Draws the plan and the rates of one seed.
pub fn draw_plan(setup: &Setup, rng: &mut Rng) -> (Plan, Rates) {
    // Drawn even if the user gives a number: the draws after it must not shift.
    let small = rng.size(2, 8);
    // Up to as many as a set in one word holds. Rare, as a run costs several times as much.
    let large = rng.size_or_zero(50, 33, 64);
    let usual = if large > 0 { large } else { small };
    let nodes = match setup.nodes_between {
        Some((low, high)) => rng.size(low.into(), high.into()),
        None => usual,
    };
    rng.nodes = setup.nodes.unwrap_or(u16::try_from(nodes).expect("a small number"));
    let clients = rng.size(1, 4);
    let clients = setup.clients.unwrap_or(clients);
    let fault_phase = Micros(rng.between(300_000, 1_500_000));
    let fault_phase = setup.fault_phase.unwrap_or(fault_phase);
    let timing = Timing {
        key: Some(rng.key()),
        latency_tail: Micros::ZERO,
        // From faster than any message of the base timing to slower than all of them.
        sync_time: (Micros(100), Micros(*rng.pick(&[500, 2_000, 8_000]))),
        ..Timing::default()
    };
    let mut plan = Plan {
        nodes: rng.nodes,
        clients,
        timing,
        fault_phase,
        // The default for protocols that do not set their own.
        recovery_timeout: setup.recovery_timeout.unwrap_or(Micros::from_secs(30)),
        // A snapshot after every record or two; every other transaction; the default; large enough
        // for long logs when they tear.
        log_bytes: *rng.pick(&[100, 400, LOG_BYTES, 5_000]),
        permanently_down: Vec::new(),
        encode_messages: false,
    };
    let mut rates = Rates { down_max: Micros(1), ..Rates::default() };
    // The kinds after the sizes: two profiles with one seed have the same cluster.
    let kinds = EnabledClasses::of(setup.profile, rng);
    if kinds.network {
        draw_network_rates(rng, &mut rates, &mut plan);
    }
    if kinds.crashes {
        draw_crash_rates(rng, &mut rates, &mut plan);
    }
    if kinds.disk {
        draw_disk_rates(rng, &mut rates, &mut plan);
        // A length that is set is also that of a run with disks that hang.
        plan.fault_phase = setup.fault_phase.unwrap_or(plan.fault_phase);
    }
    if kinds.clocks {
        draw_clock_rates(rng, &mut rates);
    }
    draw_opt_in_rates(setup.profile, rng, &mut rates, &mut plan);
    if setup.profile == Profile::Swarm {
        draw_history_rates(rng, &mut rates, &plan, kinds.crashes);
    }
    (plan, rates)
}

/// The faults among which profiles choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultClass {
    Network,
    Crashes,
    Disk,
    Clocks,
    /// The opt-in faults, each of one profile.
    FlippedBits,
    LyingDisk,
    Damage,
    /// The histories of a disk: rare by default, and frequent in a profile of their own. D13, D14,
    /// D15 and D17.
    ReplacedDisk,
    /// D16.
    UnreadableDisk,
}

impl FaultClass {
    pub(crate) fn of(kind: FaultKind) -> FaultClass {
        match kind {
            FaultKind::MessageCorruption => FaultClass::FlippedBits,
            FaultKind::LyingSync => FaultClass::LyingDisk,
            FaultKind::DamageAtRest => FaultClass::Damage,
            FaultKind::UnreadableFile => FaultClass::UnreadableDisk,
            FaultKind::ReplacedDisk
            | FaultKind::EmptiedDisk
            | FaultKind::LostFile
            | FaultKind::SecondProcess => FaultClass::ReplacedDisk,
            FaultKind::MessageDelay
            | FaultKind::MessageLoss
            | FaultKind::MessageDuplication
            | FaultKind::Clog
            | FaultKind::Partition
            | FaultKind::Swizzle
            | FaultKind::FullQueue => FaultClass::Network,
            FaultKind::Kill
            | FaultKind::PowerCut
            | FaultKind::ClusterPowerCut
            | FaultKind::PermanentlyDown => FaultClass::Crashes,
            FaultKind::FailedSync | FaultKind::FailedWrite | FaultKind::SlowDisk => {
                FaultClass::Disk
            }
            FaultKind::Pause
            | FaultKind::ClockOffset
            | FaultKind::ClockDrift
            | FaultKind::ClockJump
            | FaultKind::EarlyWake => FaultClass::Clocks,
        }
    }
}

impl Profile {
    /// The kinds of faults that a run of this profile may have.
    pub fn fault_kinds(self) -> FaultKinds {
        let classes = self.fault_classes();
        FaultKinds::ALL.iter().filter(|kind| classes.contains(&FaultClass::of(*kind))).collect()
    }

    /// The faults that a run of this profile may have.
    pub(crate) fn fault_classes(self) -> &'static [FaultClass] {
        use FaultClass::{Clocks, Crashes, Disk, Network};
        match self {
            Profile::Swarm => &[
                Network,
                Crashes,
                Disk,
                Clocks,
                FaultClass::ReplacedDisk,
                FaultClass::UnreadableDisk,
            ],
            Profile::Everything => &[Network, Crashes, Disk, Clocks],
            Profile::Calm => &[],
            Profile::Lossy => &[Network],
            Profile::Crashy => &[Crashes],
            Profile::FaultyDisk => &[Crashes, Disk],
            Profile::Skewed => &[Clocks],
            Profile::Garbled => &[Network, FaultClass::FlippedBits],
            Profile::BitRot => &[Crashes, FaultClass::Damage],
            Profile::LyingDisk => &[Crashes, FaultClass::LyingDisk],
            Profile::ReplacedDisk => &[Crashes, FaultClass::ReplacedDisk],
            Profile::UnreadableDisk => &[Crashes, FaultClass::UnreadableDisk],
        }
    }
}

/// The classes of faults that a seed has enabled.
struct EnabledClasses {
    network: bool,
    crashes: bool,
    disk: bool,
    clocks: bool,
}

impl EnabledClasses {
    fn of(profile: Profile, rng: &mut Rng) -> EnabledClasses {
        let classes = profile.fault_classes();
        let mut kinds = EnabledClasses {
            network: classes.contains(&FaultClass::Network),
            crashes: classes.contains(&FaultClass::Crashes),
            disk: classes.contains(&FaultClass::Disk),
            clocks: classes.contains(&FaultClass::Clocks),
        };
        // The order of these draws is part of the meaning of a seed.
        if profile == Profile::Swarm {
            kinds.network = rng.chance(2, 3);
            kinds.crashes = rng.chance(2, 3);
            kinds.disk = rng.chance(1, 3);
            kinds.clocks = rng.chance(1, 3);
        }
        if profile == Profile::FaultyDisk {
            kinds.crashes = rng.chance(1, 2);
        }
        kinds
    }
}

fn draw_network_rates(rng: &mut Rng, rates: &mut Rates, plan: &mut Plan) {
    plan.timing.latency_tail = Micros(rng.size_or_zero(2, 500, 20_000).into());
    rates.lose = rng.size_or_zero(2, 200, 13_000);
    rates.duplicate = rng.size_or_zero(2, 200, 13_000);
    rates.delay = rng.size_or_zero(2, 100, 3_000);
    // Up to the whole fault phase: a message may arrive when its transaction is long forgotten.
    if rates.delay > 0 {
        rates.delay_max = Micros(rng.between(10_000, plan.fault_phase.0));
    }
    rates.queue_max = rng.size_or_zero(5, 2, 8);
    rates.clogs = rng.size_or_zero(3, 1, 6);
    rates.partitions = rng.size_or_zero(3, 1, 4);
    rates.swizzles = rng.size_or_zero(6, 1, 2);
}

fn draw_crash_rates(rng: &mut Rng, rates: &mut Rates, plan: &mut Plan) {
    rates.crashes = rng.size(0, 6);
    // At least one timed crash: a fault phase may end before the effect count of an effect crash is
    // reached.
    rates.timed_crashes = rng.size(1, 2);
    rates.cluster_power_cuts = u32::from(rng.chance(1, 4));
    // Up to 46 % of boots, so that two crashes in a row are common.
    rates.crash_in_boot = rng.size_or_zero(2, 1_000, 30_000);
    // A compaction takes a few of the effects of a run, and has most of its rules about order.
    rates.crash_in_compaction = rng.size_or_zero(2, 2_000, 40_000);
    rates.down_max = Micros(*rng.pick(&[5_000, 50_000, 400_000]));
    // Rare: with a node down the probe and most liveness properties do not apply.
    rates.never_restarts = rng.chance(1, 8);
    if rates.never_restarts {
        plan.permanently_down.push(rng.node());
    }
}

/// The greatest number of nodes in a run that is made longer for disks that hang.
const LONG_RUN_NODES_MAX: u16 = 32;

fn draw_disk_rates(rng: &mut Rng, rates: &mut Rates, plan: &mut Plan) {
    rates.fail_sync = rng.size_or_zero(2, 50, 2_000);
    rates.fail_write = rng.size_or_zero(2, 50, 1_000);
    rates.slow_sync = rng.size_or_zero(2, 200, 13_000);
    rates.disk_hangs = rng.size_or_zero(8, 1, 3);
    // In a large cluster whose nodes halt and boot again, so many seconds are millions of events.
    if plan.nodes > LONG_RUN_NODES_MAX {
        rates.disk_hangs = 0;
    }
    if rates.disk_hangs > 0 {
        // So long that a disk can hang for seconds and work again before everything heals.
        plan.fault_phase = Micros(rng.between(3_000_000, 12_000_000));
    }
    // A node that halts for a failed disk boots again, also in a profile without crashes.
    rates.down_max = rates.down_max.max(Micros::from_millis(20));
}

fn draw_clock_rates(rng: &mut Rng, rates: &mut Rates) {
    rates.pauses = rng.size(0, 4);
    // Many times every timeout: a node that compared the times of two clocks would be noticed.
    if rng.chance(1, 2) {
        rates.offset_max = Micros(rng.between(1, 10_000_000));
    }
    // A tenth: properties with a bound on time may assume that no clock drifts more.
    let drift_max = rng.size_or_zero(2, 1, 100_000);
    rates.drift_max = Ppm::new(drift_max as i32).expect("a drift of at most a tenth");
    rates.jumps = rng.size(0, 4);
    rates.early_wakes = rng.size(0, 12);
}

fn draw_opt_in_rates(profile: Profile, rng: &mut Rng, rates: &mut Rates, plan: &mut Plan) {
    if profile == Profile::Garbled {
        // All messages, since those without a flipped bit must decode as well.
        plan.encode_messages = true;
        rates.flip = rng.size(300, 6_500);
    }
    if profile == Profile::BitRot {
        // Never rarely: damage after a crash is what this profile is for.
        rates.damage = rng.size(10_000, 65_535);
    }
    if profile == Profile::LyingDisk {
        rates.lying_sync = rng.size(1_000, 13_000);
    }
    if profile == Profile::ReplacedDisk {
        // The others have to confirm the node.
        rates.never_restarts = false;
        plan.permanently_down.clear();
        rates.history_node = Some(rng.node());
        draw_replaced_disk_rates(rng, rates);
    }
    if profile == Profile::UnreadableDisk {
        rates.history_node = Some(rng.node());
        draw_unreadable_file_rates(rng, rates);
    }
}

/// D13-D17 in runs that are not about them.
fn draw_history_rates(rng: &mut Rng, rates: &mut Rates, plan: &Plan, crashes: bool) {
    let node = rng.node();
    let replaced_disk = rng.chance(1, 8);
    let unreadable_disk = rng.chance(1, 16);
    // A node whose disk has lost its end needs all of the others to learn of it.
    if plan.nodes == 1 || !plan.permanently_down.is_empty() {
        return;
    }
    if replaced_disk {
        rates.history_node = Some(node);
        draw_replaced_disk_rates(rng, rates);
        // D15 may look like a torn tail, which no node can detect: then a run is judged only until
        // there. It is for runs that are about it.
        rates.empty_disk += std::mem::take(&mut rates.lose_file);
    }
    if unreadable_disk {
        rates.history_node = Some(node);
        draw_unreadable_file_rates(rng, rates);
    }
    if !crashes {
        // The kinds of a seed stay as they were drawn. A second process needs no crash.
        rates.history_crashes = 0;
    }
}

fn draw_replaced_disk_rates(rng: &mut Rng, rates: &mut Rates) {
    let rate = rng.size(10_000, 65_535);
    let second_processes = rng.size(1, 2);
    rates.history_crashes = rng.size(1, 2);
    // One rule alone in most seeds: a run ends at its first violation.
    match rng.between(0, 5) {
        0 => rates.replace_disk = rate,
        1 => rates.empty_disk = rate,
        2 => rates.lose_file = rate,
        3 => rates.second_processes_empty = second_processes,
        4 => rates.second_processes_copy = second_processes,
        _ => {
            rates.replace_disk = rate / 3;
            rates.empty_disk = rate / 3;
            rates.lose_file = rate / 3;
            rates.second_processes_empty = second_processes / 2;
            rates.second_processes_copy = second_processes / 2;
        }
    }
}

fn draw_unreadable_file_rates(rng: &mut Rng, rates: &mut Rates) {
    rates.unreadable_file = rng.size(10_000, 65_535);
    rates.history_crashes = rates.history_crashes.max(1);
}
