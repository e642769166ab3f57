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
    Stormy,
    /// Lossy, and every message travels as bytes, some with a bit flipped (N4).
    Garbled,
    /// Crashy, and bytes at rest are damaged (D10): a node may refuse to start, never go on silently.
    Rotten,
    /// Crashy, and drives lie about syncs (D11): outside the promise; shows that the oracles notice.
    Lying,
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
        Profile::Stormy,
        Profile::Garbled,
        Profile::Rotten,
        Profile::Lying,
    ];

    /// What it does, in a few words.
    pub fn meaning(self) -> &'static str {
        match self {
            Profile::Swarm => "each seed switches a random subset on and draws its own rates (default)",
            Profile::Calm => "no faults; delays vary",
            Profile::Lossy => "the network: delay, loss, duplication, clogs, partitions, full queues",
            Profile::Crashy => "kills and power cuts, torn writes, crashes in recovery, dead nodes",
            Profile::FaultyDisk => "failed syncs, full disks, slow disks, and crashes",
            Profile::Skewed => "clock offset, drift and jumps; pauses",
            Profile::Stormy => "everything at once, but for the three below",
            Profile::Garbled => "lossy, with flipped bits in encoded messages (opt-in)",
            Profile::Rotten => "crashy, with damage to bytes at rest (opt-in)",
            Profile::Lying => "crashy, with drives that lie about syncs (opt-in, outside the promise)",
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
            Profile::Stormy => "stormy",
            Profile::Garbled => "garbled",
            Profile::Rotten => "rotten",
            Profile::Lying => "lying",
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
    pub blackouts: u32,
    /// P5: chance that a boot is cut short by another crash.
    pub crash_in_boot: u32,
    /// P6: whether a node stays dead after the clearing.
    pub bury: bool,
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
    pub lie: u32,
    /// D10: chance that a crash is followed by damage.
    pub damage: u32,
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        let mut row = |name: &str, value: u64| {
            if value == 0 {
                return Ok(());
            }
            let gap = if std::mem::take(&mut first) { "" } else { " " };
            write!(f, "{gap}{name}={value}")
        };
        row("lose", self.lose.into())?;
        row("duplicate", self.duplicate.into())?;
        row("delay", self.delay.into())?;
        row("delay_us_max", self.delay_us_max)?;
        row("flip", self.flip.into())?;
        row("queue_max", self.queue_max.into())?;
        row("clogs", self.clogs.into())?;
        row("partitions", self.partitions.into())?;
        row("swizzles", self.swizzles.into())?;
        row("crashes", self.crashes.into())?;
        row("timed_crashes", self.timed_crashes.into())?;
        row("blackouts", self.blackouts.into())?;
        row("crash_in_boot", self.crash_in_boot.into())?;
        row("bury", self.bury.into())?;
        row("down_us_max", self.down_us_max)?;
        row("pauses", self.pauses.into())?;
        row("offset_us_max", self.offset_us_max)?;
        row("drift_ppm_max", self.drift_ppm_max.into())?;
        row("jumps", self.jumps.into())?;
        row("fail_sync", self.fail_sync.into())?;
        row("fail_write", self.fail_write.into())?;
        row("slow_sync", self.slow_sync.into())?;
        row("lie", self.lie.into())?;
        row("damage", self.damage.into())?;
        if first { f.write_str("none") } else { Ok(()) }
    }
}

/// Draws from one seed, in order: sizes, rates, and whatever a workload wants.
#[derive(Clone, Debug)]
pub struct Draw {
    rng: ChaCha8Rng,
    nodes: u16,
}

impl Draw {
    /// The draws of `seed`.
    pub fn new(seed: u64) -> Draw {
        Draw { rng: ChaCha8Rng::seed_from_u64(seed), nodes: 1 }
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        crate::mix::between(self.rng.next_u64(), low, high)
    }

    /// True `numerator` times out of `denominator`.
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        crate::mix::below(self.rng.next_u64(), denominator) < numerator
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
pub fn draw(setup: &Setup, draw: &mut Draw) -> (Plan, Rates) {
    let nodes = draw.size(2, 8);
    draw.nodes = setup.nodes.unwrap_or(u16::try_from(nodes).expect("a small number"));
    let clients = draw.size(1, 4);
    let storm_us = draw.between(300_000, 1_500_000);
    let timing = Timing {
        key: Some(draw.key()),
        tail_us: 0,
        sync_us: (100, *draw.pick(&[500, 2_000, 8_000])),
        ..Timing::default()
    };
    let mut plan = Plan {
        nodes: draw.nodes,
        clients,
        timing,
        storm_us,
        patience_us: 30_000_000,
        // Few enough for a snapshot every other transaction; as usual; so many that logs are long when they tear.
        log_bytes: *draw.pick(&[400, LOG_BYTES, 5_000]),
        dead: Vec::new(),
        wire: false,
    };
    let mut rates = Rates { down_us_max: 1, ..Rates::default() };
    let on = Kinds::of(setup.profile, draw);
    if on.network {
        network(draw, &mut rates, &mut plan);
    }
    if on.crashes {
        crashes(draw, &mut rates, &mut plan);
    }
    if on.disk {
        disk(draw, &mut rates);
    }
    if on.clocks {
        clocks(draw, &mut rates);
    }
    opt_in(setup.profile, draw, &mut rates, &mut plan);
    (plan, rates)
}

/// Which kinds of fault are on.
struct Kinds {
    network: bool,
    crashes: bool,
    disk: bool,
    clocks: bool,
}

impl Kinds {
    fn of(profile: Profile, draw: &mut Draw) -> Kinds {
        let (network, crashes, disk, clocks) = match profile {
            Profile::Swarm => (draw.chance(2, 3), draw.chance(2, 3), draw.chance(1, 3), draw.chance(1, 3)),
            Profile::Calm => (false, false, false, false),
            Profile::Lossy | Profile::Garbled => (true, false, false, false),
            Profile::Crashy | Profile::Rotten | Profile::Lying => (false, true, false, false),
            Profile::FaultyDisk => (false, draw.chance(1, 2), true, false),
            Profile::Skewed => (false, false, false, true),
            Profile::Stormy => (true, true, true, true),
        };
        Kinds { network, crashes, disk, clocks }
    }
}

fn network(draw: &mut Draw, rates: &mut Rates, plan: &mut Plan) {
    let some =
        |draw: &mut Draw, out: u64, low, high| if draw.chance(1, out) { draw.size(low, high) } else { 0 };
    plan.timing.tail_us = u64::from(some(draw, 2, 500, 20_000));
    rates.lose = some(draw, 2, 200, 13_000);
    rates.duplicate = some(draw, 2, 200, 13_000);
    rates.delay = some(draw, 2, 100, 3_000);
    rates.delay_us_max = if rates.delay > 0 { draw.between(10_000, plan.storm_us) } else { 0 };
    rates.queue_max = some(draw, 5, 2, 8);
    rates.clogs = some(draw, 3, 1, 6);
    rates.partitions = some(draw, 3, 1, 4);
    rates.swizzles = some(draw, 6, 1, 2);
}

fn crashes(draw: &mut Draw, rates: &mut Rates, plan: &mut Plan) {
    rates.crashes = draw.size(0, 6);
    // One at a time in any case: a storm may end before as many deeds are done as a crash after a deed waits for.
    rates.timed_crashes = draw.size(1, 2);
    rates.blackouts = u32::from(draw.chance(1, 4));
    rates.crash_in_boot = if draw.chance(1, 2) { draw.size(1_000, 30_000) } else { 0 };
    rates.down_us_max = *draw.pick(&[5_000, 50_000, 400_000]);
    rates.bury = draw.chance(1, 8);
    if rates.bury {
        plan.dead.push(draw.node());
    }
}

fn disk(draw: &mut Draw, rates: &mut Rates) {
    rates.fail_sync = if draw.chance(1, 2) { draw.size(50, 2_000) } else { 0 };
    rates.fail_write = if draw.chance(1, 2) { draw.size(50, 1_000) } else { 0 };
    rates.slow_sync = if draw.chance(1, 2) { draw.size(200, 13_000) } else { 0 };
    rates.down_us_max = rates.down_us_max.max(20_000);
}

fn clocks(draw: &mut Draw, rates: &mut Rates) {
    rates.pauses = draw.size(0, 4);
    rates.offset_us_max = if draw.chance(1, 2) { draw.between(1, 10_000_000) } else { 0 };
    rates.drift_ppm_max = if draw.chance(1, 2) { draw.size(1, 100_000) } else { 0 };
    rates.jumps = draw.size(0, 4);
}

fn opt_in(profile: Profile, draw: &mut Draw, rates: &mut Rates, plan: &mut Plan) {
    if profile == Profile::Garbled {
        plan.wire = true;
        rates.flip = draw.size(300, 6_500);
    }
    if profile == Profile::Rotten {
        rates.damage = draw.size(10_000, 65_535);
    }
    if profile == Profile::Lying {
        rates.lie = draw.size(1_000, 13_000);
    }
}
