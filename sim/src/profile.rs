//! Which storms there are: named profiles, the swarm, and the rates that a seed draws for itself.

use std::fmt;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::plan::{LOG_BYTES, Plan, Timing};

/// A named kind of storm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Each seed switches a random subset of all kinds on and draws its own rates. A run with everything on hides
    /// what a run with one thing on would show.
    #[default]
    Swarm,
    /// No faults at all; delays vary.
    Calm,
    /// The network: N1-N3, N5-N8.
    Lossy,
    /// Kills and power cuts: P1-P3, P5, P6, D1-D6, D12.
    Crashy,
    /// Disks that fail, fill up and dawdle: D7-D9, with crashes.
    FaultyDisk,
    /// Clocks and pauses: C1-C3, P4.
    Skewed,
    /// Everything at once, but for what has to be asked for.
    Everything,
    /// Lossy, and every message travels as bytes, some with a bit flipped (N4).
    Garbled,
    /// Crashy, and bytes at rest are damaged (D10): a node may refuse to start, never go on silently.
    BitRot,
    /// Crashy, and drives lie about syncs (D11): outside the promise; shows that the oracles notice.
    LyingDisk,
}

impl Profile {
    /// Every profile, in the order of the help.
    pub const ALL: [Profile; 10] = [
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
    ];

    /// What it does, in a few words.
    pub fn meaning(self) -> &'static str {
        match self {
            Profile::Swarm => {
                "each seed switches a random subset on and draws its own rates (default)"
            }
            Profile::Calm => "no faults; delays vary",
            Profile::Lossy => {
                "the network: delay, loss, duplication, clogs, partitions, full queues"
            }
            Profile::Crashy => "kills and power cuts, torn writes, crashes in recovery, dead nodes",
            Profile::FaultyDisk => "failed syncs, full disks, slow disks, and crashes",
            Profile::Skewed => "clock offset, drift and jumps; pauses",
            Profile::Everything => "everything at once, but for the three below",
            Profile::Garbled => "lossy, with flipped bits in encoded messages (opt-in)",
            Profile::BitRot => "crashy, with damage to bytes at rest (opt-in)",
            Profile::LyingDisk => {
                "crashy, with drives that lie about syncs (opt-in, outside the promise)"
            }
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Profile::Swarm => "swarm",
            Profile::Calm => "calm",
            Profile::Lossy => "lossy",
            Profile::Crashy => "crashy",
            Profile::FaultyDisk => "faulty-disk",
            Profile::Skewed => "skewed",
            Profile::Everything => "stormy",
            Profile::Garbled => "garbled",
            Profile::BitRot => "rotten",
            Profile::LyingDisk => "lying",
        })
    }
}

/// What the user asked for; what is `None` each seed draws for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// The kind of storm.
    pub profile: Profile,
    /// How many nodes, 1 to 64.
    pub nodes: Option<u16>,
    /// How many transactions (or whatever the workload counts), 1 to 1,000,000.
    pub txns: Option<u32>,
}

impl Setup {
    /// What is not default, as one would type it behind a command: ` --profile crashy --nodes 3`.
    pub fn typed(&self) -> String {
        let mut typed = String::new();
        if self.profile != Profile::Swarm {
            typed += &format!(" --profile {}", self.profile);
        }
        if let Some(nodes) = self.nodes {
            typed += &format!(" --nodes {nodes}");
        }
        if let Some(txns) = self.txns {
            typed += &format!(" --txns {txns}");
        }
        typed
    }
}

/// How hard it blows: the rates that one seed has drawn. Chances are in 65,536ths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// N2: chance that a message is lost. 0 to 13,000.
    pub lose: u32,
    /// N3: chance that a message arrives twice. 0 to 13,000.
    pub duplicate: u32,
    /// N1: chance that a message takes very long. 0 to 3,000.
    pub delay: u32,
    /// N1: how long at most, in microseconds. Up to the length of the storm.
    pub delay_us_max: u64,
    /// N4: chance that a bit of a message is flipped. 0 to 6,500.
    pub flip: u32,
    /// N8: messages that a link holds; 0 for as many as there are.
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
    /// P5: chance that a boot is cut short by another crash.
    pub crash_in_boot: u32,
    /// P6: whether a node stays dead after the clearing.
    pub never_restarts: bool,
    /// Greatest time that a crashed node is down, in microseconds.
    pub down_us_max: u64,
    /// P4: pauses. 0 to 4.
    pub pauses: u32,
    /// C1: greatest offset of a clock, in microseconds.
    pub offset_us_max: u64,
    /// C2: greatest drift of a clock, in parts per million. 0 to 100,000.
    pub drift_ppm_max: u32,
    /// C3: jumps of a clock. 0 to 4.
    pub jumps: u32,
    /// D7: chance that a barrier fails. 0 to 2,000.
    pub fail_sync: u32,
    /// D8: chance that a write fails. 0 to 1,000.
    pub fail_write: u32,
    /// D9: chance that a barrier takes very long. 0 to 13,000.
    pub slow_sync: u32,
    /// D11: chance that a barrier lies. 0 to 13,000.
    pub lying_sync: u32,
    /// D10: chance that a crash is followed by damage.
    pub damage: u32,
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        let mut write_rate = |name: &str, value: u64| {
            if value == 0 {
                return Ok(());
            }
            let separator = if std::mem::take(&mut first) { "" } else { " " };
            write!(f, "{separator}{name}={value}")
        };
        write_rate("lose", self.lose.into())?;
        write_rate("duplicate", self.duplicate.into())?;
        write_rate("delay", self.delay.into())?;
        write_rate("delay_us_max", self.delay_us_max)?;
        write_rate("flip", self.flip.into())?;
        write_rate("queue_max", self.queue_max.into())?;
        write_rate("clogs", self.clogs.into())?;
        write_rate("partitions", self.partitions.into())?;
        write_rate("swizzles", self.swizzles.into())?;
        write_rate("crashes", self.crashes.into())?;
        write_rate("timed_crashes", self.timed_crashes.into())?;
        write_rate("blackouts", self.cluster_power_cuts.into())?;
        write_rate("crash_in_boot", self.crash_in_boot.into())?;
        write_rate("bury", self.never_restarts.into())?;
        write_rate("down_us_max", self.down_us_max)?;
        write_rate("pauses", self.pauses.into())?;
        write_rate("offset_us_max", self.offset_us_max)?;
        write_rate("drift_ppm_max", self.drift_ppm_max.into())?;
        write_rate("jumps", self.jumps.into())?;
        write_rate("fail_sync", self.fail_sync.into())?;
        write_rate("fail_write", self.fail_write.into())?;
        write_rate("slow_sync", self.slow_sync.into())?;
        write_rate("lie", self.lying_sync.into())?;
        write_rate("damage", self.damage.into())?;
        if first { f.write_str("none") } else { Ok(()) }
    }
}

/// Draws from one seed, in order: sizes, rates, and whatever a workload wants.
#[derive(Clone, Debug)]
pub struct Rng {
    rng: ChaCha8Rng,
    nodes: u16,
}

impl Rng {
    /// The draws of `seed`.
    pub fn new(seed: u64) -> Rng {
        Rng { rng: ChaCha8Rng::seed_from_u64(seed), nodes: 1 }
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        crate::hash::between(self.rng.next_u64(), low, high)
    }

    /// True `numerator` times out of `denominator`.
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        crate::hash::below(self.rng.next_u64(), denominator) < numerator
    }

    /// One node of the cluster.
    pub fn node(&mut self) -> stormglass::NodeId {
        let last = u64::from(self.nodes - 1);
        stormglass::NodeId(u16::try_from(self.between(0, last)).expect("a node's number is small"))
    }

    /// A key for the stateless half of chance.
    pub fn key(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// One of these.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let last = from.len().checked_sub(1).expect("something to pick from");
        &from[self.between(0, last as u64) as usize]
    }

    fn size(&mut self, low: u64, high: u64) -> u32 {
        u32::try_from(self.between(low, high)).expect("sizes are small")
    }
}

/// Draws the frame and the rates of one seed.
pub fn rng(setup: &Setup, rng: &mut Rng) -> (Plan, Rates) {
    let nodes = rng.size(2, 8);
    rng.nodes = setup.nodes.unwrap_or(u16::try_from(nodes).expect("a small number"));
    let clients = rng.size(1, 4);
    let fault_phase_us = rng.between(300_000, 1_500_000);
    let timing = Timing {
        key: Some(rng.key()),
        tail_us: 0,
        sync_us: (100, *rng.pick(&[500, 2_000, 8_000])),
        ..Timing::default()
    };
    let mut plan = Plan {
        nodes: rng.nodes,
        clients,
        timing,
        fault_phase_us,
        recovery_timeout_us: 30_000_000,
        // Few enough for a snapshot every other transaction; as usual; so many that logs are long when they tear.
        log_bytes: *rng.pick(&[400, LOG_BYTES, 5_000]),
        permanently_down: Vec::new(),
        wire: false,
    };
    let mut rates = Rates { down_us_max: 1, ..Rates::default() };
    let on = FaultKinds::of(setup.profile, rng);
    if on.network {
        network(rng, &mut rates, &mut plan);
    }
    if on.crashes {
        crashes(rng, &mut rates, &mut plan);
    }
    if on.disk {
        disk(rng, &mut rates);
    }
    if on.clocks {
        clocks(rng, &mut rates);
    }
    opt_in(setup.profile, rng, &mut rates, &mut plan);
    (plan, rates)
}

/// Which kinds of fault are on.
struct FaultKinds {
    network: bool,
    crashes: bool,
    disk: bool,
    clocks: bool,
}

impl FaultKinds {
    fn of(profile: Profile, rng: &mut Rng) -> FaultKinds {
        let (network, crashes, disk, clocks) = match profile {
            Profile::Swarm => {
                (rng.chance(2, 3), rng.chance(2, 3), rng.chance(1, 3), rng.chance(1, 3))
            }
            Profile::Calm => (false, false, false, false),
            Profile::Lossy | Profile::Garbled => (true, false, false, false),
            Profile::Crashy | Profile::BitRot | Profile::LyingDisk => (false, true, false, false),
            Profile::FaultyDisk => (false, rng.chance(1, 2), true, false),
            Profile::Skewed => (false, false, false, true),
            Profile::Everything => (true, true, true, true),
        };
        FaultKinds { network, crashes, disk, clocks }
    }
}

fn network(rng: &mut Rng, rates: &mut Rates, plan: &mut Plan) {
    let some = |rng: &mut Rng, out: u64, low, high| {
        if rng.chance(1, out) { rng.size(low, high) } else { 0 }
    };
    plan.timing.tail_us = u64::from(some(rng, 2, 500, 20_000));
    rates.lose = some(rng, 2, 200, 13_000);
    rates.duplicate = some(rng, 2, 200, 13_000);
    rates.delay = some(rng, 2, 100, 3_000);
    rates.delay_us_max = if rates.delay > 0 { rng.between(10_000, plan.fault_phase_us) } else { 0 };
    rates.queue_max = some(rng, 5, 2, 8);
    rates.clogs = some(rng, 3, 1, 6);
    rates.partitions = some(rng, 3, 1, 4);
    rates.swizzles = some(rng, 6, 1, 2);
}

fn crashes(rng: &mut Rng, rates: &mut Rates, plan: &mut Plan) {
    rates.crashes = rng.size(0, 6);
    // One at a time in any case: a storm may end before as many deeds are done as a crash after a deed waits for.
    rates.timed_crashes = rng.size(1, 2);
    rates.cluster_power_cuts = u32::from(rng.chance(1, 4));
    rates.crash_in_boot = if rng.chance(1, 2) { rng.size(1_000, 30_000) } else { 0 };
    rates.down_us_max = *rng.pick(&[5_000, 50_000, 400_000]);
    rates.never_restarts = rng.chance(1, 8);
    if rates.never_restarts {
        plan.permanently_down.push(rng.node());
    }
}

fn disk(rng: &mut Rng, rates: &mut Rates) {
    rates.fail_sync = if rng.chance(1, 2) { rng.size(50, 2_000) } else { 0 };
    rates.fail_write = if rng.chance(1, 2) { rng.size(50, 1_000) } else { 0 };
    rates.slow_sync = if rng.chance(1, 2) { rng.size(200, 13_000) } else { 0 };
    rates.down_us_max = rates.down_us_max.max(20_000);
}

fn clocks(rng: &mut Rng, rates: &mut Rates) {
    rates.pauses = rng.size(0, 4);
    rates.offset_us_max = if rng.chance(1, 2) { rng.between(1, 10_000_000) } else { 0 };
    rates.drift_ppm_max = if rng.chance(1, 2) { rng.size(1, 100_000) } else { 0 };
    rates.jumps = rng.size(0, 4);
}

fn opt_in(profile: Profile, rng: &mut Rng, rates: &mut Rates, plan: &mut Plan) {
    if profile == Profile::Garbled {
        plan.wire = true;
        rates.flip = rng.size(300, 6_500);
    }
    if profile == Profile::BitRot {
        rates.damage = rng.size(10_000, 65_535);
    }
    if profile == Profile::LyingDisk {
        rates.lying_sync = rng.size(1_000, 13_000);
    }
}
