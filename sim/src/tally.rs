//! Counters: how often each fault rule was applied, and how many events there were.

use std::fmt;
use stormglass_node::Micros;

/// A rule of the fault model, which `docs/faults.md` describes. The text beside each is what
/// `cargo sim profiles` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the table below says of each what it means")]
#[non_exhaustive]
pub enum Rule {
    MessageDelayed,
    MessageLost,
    MessageDuplicated,
    MessageCorrupted,
    LinkClogged,
    Partitioned,
    Swizzled,
    QueueOverflow,
    ProcessKilled,
    PowerCut,
    ClusterPowerCut,
    NodePaused,
    CrashDuringBoot,
    NeverRestarts,
    ClockOffset,
    ClockDrift,
    ClockJump,
    EarlyWake,
    UnsyncedSplit,
    TornSector,
    LengthWithoutData,
    DataWithoutName,
    NameChangeLost,
    RemovalUndone,
    SyncFailed,
    WriteFailed,
    SlowBarrier,
    DamageAtRest,
    LyingSync,
    CrashDuringBarrier,
    DiskReplaced,
    DiskEmptied,
    FileLost,
    FileUnreadable,
    SecondProcess,
}

/// How many rules there are.
pub const RULE_COUNT: usize = 35;

impl Rule {
    /// The id of the rule in the fault model: `N1` to `N8`, `P1` to `P6`, `C1` to `C4`, `D1` to
    /// `D17`. Reports and documents name rules by it; `docs/faults.md` has a section for each.
    pub fn id(self) -> &'static str {
        match self {
            Rule::MessageDelayed => "N1",
            Rule::MessageLost => "N2",
            Rule::MessageDuplicated => "N3",
            Rule::MessageCorrupted => "N4",
            Rule::LinkClogged => "N5",
            Rule::Partitioned => "N6",
            Rule::Swizzled => "N7",
            Rule::QueueOverflow => "N8",
            Rule::ProcessKilled => "P1",
            Rule::PowerCut => "P2",
            Rule::ClusterPowerCut => "P3",
            Rule::NodePaused => "P4",
            Rule::CrashDuringBoot => "P5",
            Rule::NeverRestarts => "P6",
            Rule::ClockOffset => "C1",
            Rule::ClockDrift => "C2",
            Rule::ClockJump => "C3",
            Rule::EarlyWake => "C4",
            Rule::UnsyncedSplit => "D1",
            Rule::TornSector => "D2",
            Rule::LengthWithoutData => "D3",
            Rule::DataWithoutName => "D4",
            Rule::NameChangeLost => "D5",
            Rule::RemovalUndone => "D6",
            Rule::SyncFailed => "D7",
            Rule::WriteFailed => "D8",
            Rule::SlowBarrier => "D9",
            Rule::DamageAtRest => "D10",
            Rule::LyingSync => "D11",
            Rule::CrashDuringBarrier => "D12",
            Rule::DiskReplaced => "D13",
            Rule::DiskEmptied => "D14",
            Rule::FileLost => "D15",
            Rule::FileUnreadable => "D16",
            Rule::SecondProcess => "D17",
        }
    }

    /// Every rule, its meaning, and the range its rate is drawn from.
    pub const TABLE: [(Rule, &'static str, &'static str); RULE_COUNT] = [
        (
            Rule::MessageDelayed,
            "message delayed beyond the usual: an exponential tail, or very long",
            "tail of mean 0.5..=20 ms; very long: chance 0..=4.6 %, 5 ms to the length of the fault phase",
        ),
        (Rule::MessageLost, "message lost", "chance 0..=20 %"),
        (
            Rule::MessageDuplicated,
            "message duplicated, the copy with a delay of its own",
            "chance 0..=20 %",
        ),
        (
            Rule::MessageCorrupted,
            "bit of an encoded message flipped (profile garbled)",
            "chance 0.5..=10 %",
        ),
        (
            Rule::LinkClogged,
            "message held by a clogged link and released later",
            "0..=6 a run, 2 ms to a third of the fault phase",
        ),
        (
            Rule::Partitioned,
            "partition: any sides, one node, a bridge; one-way or not; clients too",
            "0..=4 a run",
        ),
        (
            Rule::Swizzled,
            "message held by a swizzle: half of the nodes are clogged one by one and released in another order",
            "0..=2 a run",
        ),
        (
            Rule::QueueOverflow,
            "queue full: a random queued message lost",
            "limit 2..=8 messages a link, or none",
        ),
        (
            Rule::ProcessKilled,
            "process killed: the page cache keeps a prefix",
            "0..=6 a run after an effect, 0..=2 at a time",
        ),
        (Rule::PowerCut, "power cut: only what was synced is sure to survive", "as P1"),
        (Rule::ClusterPowerCut, "power cut of all nodes at once", "0..=1 a run"),
        (
            Rule::NodePaused,
            "node paused while time advances for all others",
            "0..=4 a run, 2 ms to a third of the fault phase",
        ),
        (
            Rule::CrashDuringBoot,
            "crash before a boot was complete",
            "chance 0..=46 % of boots, up to the 7th",
        ),
        (Rule::NeverRestarts, "node that never restarts", "0..=1 a run, in 1 of 8 with crashes"),
        (Rule::ClockOffset, "incarnation with a clock offset", "0..=10 s"),
        (Rule::ClockDrift, "incarnation with a clock drift", "-10..=10 %"),
        (Rule::ClockJump, "clock jumped forward", "0..=4 a run, 1 ms..=5 s"),
        (Rule::EarlyWake, "wake before the deadline", "0..=12 groups of 1..=6 a run"),
        (
            Rule::UnsyncedSplit,
            "power cut with unsynced writes: sectors and directory entries each survive on their own",
            "every power cut with unsynced work",
        ),
        (Rule::TornSector, "torn sector", "in half of the power cuts"),
        (
            Rule::LengthWithoutData,
            "length survived without its data (zeros, garbage, old blocks)",
            "in half of the power cuts",
        ),
        (
            Rule::DataWithoutName,
            "synced data of a file whose last directory entry was lost",
            "as D5",
        ),
        (Rule::NameChangeLost, "creation or rename lost", "each survives or not on its own"),
        (Rule::RemovalUndone, "removal or truncation undone", "each survives or not on its own"),
        (
            Rule::SyncFailed,
            "sync failed once; the next one succeeds without writing the lost pages",
            "chance 0..=3 %",
        ),
        (
            Rule::WriteFailed,
            "write failed: no space, short or broken; once or for a while",
            "chance 0..=1.5 %, up to 200 ms",
        ),
        (
            Rule::SlowBarrier,
            "slow barrier, or barrier held by a disk that hangs",
            "slow: chance 0..=20 %, 5..=150 ms; hangs: 0..=3 a run, 1..=10 s",
        ),
        (
            Rule::DamageAtRest,
            "corruption of data at rest (profile bit-rot)",
            "chance 15..=100 % of crashes",
        ),
        (
            Rule::LyingSync,
            "sync that reported success without syncing (profile lying-disk)",
            "chance 1.5..=20 %",
        ),
        (Rule::CrashDuringBarrier, "crash during a barrier", "whenever one is under way"),
        (
            Rule::DiskReplaced,
            "disk replaced by an older copy of itself, or another node's",
            "chance 5..=100 % of the crashes of one node, in 1 of 24 runs",
        ),
        (
            Rule::DiskEmptied,
            "disk emptied",
            "chance 5..=100 % of the crashes of one node, in 1 of 16 runs",
        ),
        (
            Rule::FileLost,
            "file cut short or gone at rest (profile replaced-disk)",
            "chance 5..=100 % of the crashes of one node, in 1 of 3 runs",
        ),
        (
            Rule::FileUnreadable,
            "file that one boot cannot read",
            "chance 15..=100 % of the crashes of one node, in 1 of 16 runs",
        ),
        (
            Rule::SecondProcess,
            "second process under a node's id, with an empty disk or a copy",
            "1 or 2 a run, of one node, in 1 of 19 runs",
        ),
    ];
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

/// The counters of a run, or of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// How often each rule was applied, in the order of [`Rule::TABLE`].
    pub rules: [u64; RULE_COUNT],
    /// Events taken from the queue.
    pub events: u64,
    /// Messages delivered from node to node.
    pub delivered: u64,
    /// Of these, copies (N3).
    pub duplicates: u64,
    /// Of these, messages that arrived after a crash of either end.
    pub arrived_after_crash: u64,
    /// Messages lost to a partition that let the other direction through (N6).
    pub one_way: u64,
    /// Virtual time.
    pub virtual_time: Micros,
    /// Boots.
    pub boots: u64,
    /// Requests sent by clients, repetitions included.
    pub requests: u64,
    /// Responses that reached a client.
    pub answers: u64,
}

// By hand: the standard library has defaults of arrays up to 32.
impl Default for Tally {
    fn default() -> Tally {
        Tally {
            rules: [0; RULE_COUNT],
            events: 0,
            delivered: 0,
            duplicates: 0,
            arrived_after_crash: 0,
            one_way: 0,
            virtual_time: Micros::ZERO,
            boots: 0,
            requests: 0,
            answers: 0,
        }
    }
}

impl Tally {
    /// Counts one application of a rule.
    #[inline]
    pub fn hit(&mut self, rule: Rule) {
        // The discriminants are the positions in `Rule::TABLE`.
        self.rules[rule as usize] += 1;
    }

    /// How often a rule was applied.
    pub fn hits(&self, rule: Rule) -> u64 {
        self.rules[rule as usize]
    }

    /// Adds another tally.
    pub fn merge(&mut self, other: &Tally) {
        for (mine, theirs) in self.rules.iter_mut().zip(other.rules) {
            *mine += theirs;
        }
        self.events += other.events;
        self.delivered += other.delivered;
        self.duplicates += other.duplicates;
        self.arrived_after_crash += other.arrived_after_crash;
        self.one_way += other.one_way;
        self.virtual_time += other.virtual_time;
        self.boots += other.boots;
        self.requests += other.requests;
        self.answers += other.answers;
    }
}
