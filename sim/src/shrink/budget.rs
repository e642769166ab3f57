//! Every budget, limit and list of values to try of the shrinker, with what each of them buys.
//!
//! A shrink has one budget, [`ShrinkControl::runs_max`](super::ShrinkControl::runs_max): all
//! candidates are runs. The limits here keep one pass from using up the runs of the others. The
//! lists are ordered: the first value that still violates the property is adopted.
//!
//! # How the figures were measured
//!
//! With one value changed at a time, the first failing seed of each of the 66 mutants in
//! `tools/mutants` was shrunk. As the values are now, the schedules have 61 faults and 75 requests
//! together, 65 of the 66 are small ([`is_small`] as it is here), and all shrinks take 128,345 runs
//! of 0.1 ms. "No effect" means that none of the four numbers changes: such a limit only bounds the
//! cost of schedules unlike those. What is marked "198 shrinks" is from three failing seeds of each
//! mutant, where the numbers are 197 faults, 258 requests, 191 small and 495,406 runs.
//!
//! What is marked "Raft" was measured later, with the passes `UseSmallCluster`, `UseOtherTiming`
//! and `ReplaceRequestsByDelays`, and so were the values below "Smaller clusters". With them the
//! first shrinks have 60 faults and 74 requests, 66 are small, and they take 104,334 runs. "Raft"
//! is a node around the crate `raft` with six planted bugs, in seeds with 2 to 8 nodes and 40
//! requests: 72 shrinks end with at most 3 faults, 3 requests and 3 nodes, in at most 5.4 s each.

use std::ops::RangeInclusive;
use stormglass_node::Micros;

use super::ScheduleSize;
use crate::disk::{Holes, Tear};
use crate::fault::MessageFault;
use crate::plan::LOG_BYTES;
use crate::ratio::Permille;

// What counts as small.

/// A schedule with at most this many faults and requests is small: it is not rebuilt, its requests
/// are not joined, and its log limit returns to the default.
// At 1 fault: one fault and two requests fewer, but 270,112 runs; at 6: 10 faults more, 117,075.
const SMALL_FAULTS_MAX: usize = 3;
// At 1 request: 1,106,200 runs for 5 requests fewer, and one shrink ends at its limit; at 4: 77,160
// runs, but 11 requests more.
const SMALL_REQUESTS_MAX: usize = 2;

/// Whether no pass that trades simplicity for fewer entries is needed.
pub(super) fn is_small(size: ScheduleSize) -> bool {
    size.faults <= SMALL_FAULTS_MAX && size.requests <= SMALL_REQUESTS_MAX
}

// Removing entries.

/// The numbers of requests of which two are joined. With more of them joining is not tried: the
/// pairs grow with the square.
// Up to 20: 128,763 runs; without joining: 130,665. Both end at the same sizes.
pub(super) const JOINABLE_REQUESTS: RangeInclusive<usize> = 2..=10;

/// The lengths of the fault phase to try.
// Without any: 136,479 runs, 64 small.
pub(super) const FAULT_PHASES: [Micros; 6] = [
    Micros::from_millis(10),
    Micros::from_millis(50),
    Micros::from_millis(100),
    Micros::from_millis(200),
    Micros::from_millis(500),
    Micros::from_secs(1),
];

/// Log limits in bytes that compact the log after every record, every other record, and every other
/// transaction.
// Without changing the limit in the opening: 201,103 runs, 63 small. Without the 400: 128,302 runs
// and the same sizes.
pub(super) const SHORT_LOGS_BYTES: [u64; 3] = [1, 100, 400];

// Simplifying faults and times.

/// Times are rounded down to a multiple of these; the first rounds to zero.
// With zero alone: 151,816 runs, 64 small.
pub(super) const ROUND_STEPS: [Micros; 5] = [
    Micros::MAX,
    Micros::from_millis(100),
    Micros::from_millis(10),
    Micros::from_millis(1),
    Micros(100),
];

/// The durations that every longer one is replaced by.
// Without them: 151,908 runs, 64 small.
pub(super) const COMMON_DURATIONS: [Micros; 6] = [
    Micros::from_millis(1),
    Micros::from_millis(10),
    Micros::from_millis(50),
    Micros::from_millis(100),
    Micros::from_millis(200),
    Micros::from_millis(400),
];

/// The down times that replace "until the end of the fault phase".
// Without them: no effect.
pub(super) const DOWN_TIMES: [Micros; 4] = [
    Micros::from_millis(1),
    Micros::from_millis(10),
    Micros::from_millis(50),
    Micros::from_millis(100),
];

/// A message that was sent this long before a fault of the network began may still have been in
/// flight.
// At 0: no effect.
pub(super) const IN_FLIGHT_MAX: Micros = Micros::from_millis(30);

/// How an append that a power cut found unsynced is torn.
// With the first alone: 128,337 runs and the same sizes.
pub(super) const SIMPLER_TEARS: [Tear; 3] = [Tear::Header, Tear::Half, Tear::LastSectorMissing];

/// What can be left of a torn append in place of its missing sectors.
// With the first alone: 136,858 runs, 64 small.
pub(super) const TORN_HOLES: [Option<Holes>; 4] =
    [None, Some(Holes::Zeros), Some(Holes::Garbage), Some(Holes::OldBlocks)];

/// Where a file is cut instead: in front, in the middle, in its last record.
// No effect: only the opt-in profiles cut files.
pub(super) const SIMPLER_CUTS: [Permille; 3] = [Permille::ZERO, Permille::HALF, Permille::ALL];

/// How many incarnations old a disk is instead.
// No effect, for the same reason.
pub(super) const INCARNATIONS_BACK: [u32; 2] = [1, 2];

// Base timing.

/// The message delays and barrier times to try. With base timing every message and every barrier
/// takes the least time of its range.
// With the first alone: 141,600 runs, 64 small.
pub(super) const BASE_TIMINGS: [(Micros, Micros); 6] = [
    (Micros(500), Micros(100)),
    (Micros(500), Micros(2_000)),
    (Micros(5_000), Micros(100)),
    (Micros(500), Micros(20_000)),
    (Micros(20_000), Micros(100)),
    (Micros(5_000), Micros(2_000)),
];

/// With more entries than this for the deviations from base timing, delta debugging over them is
/// not tried.
// At 0: 128,113 runs and the same sizes.
pub(super) const DEVIATIONS_MAX: usize = 400;

/// The most faults of a schedule with base timing and entries for the deviations, if the schedule
/// with random timing had `faults`.
// With none more: no effect.
pub(super) fn faults_with_deviations_max(faults: usize) -> usize {
    faults.max(1) + 2
}

// Smaller clusters.

/// The greatest number of nodes of a cluster that is tried at once, and of one for which a small
/// schedule is not rebuilt.
// At 2: 118,164 runs, 2 faults more and 3 requests fewer; without any: 122,600 runs, 2 faults more
// and 5 requests fewer. Raft: without any, 9 of 24 shrinks keep 5 to 8 nodes.
pub(super) const SMALL_CLUSTER_NODES_MAX: usize = 4;

/// Whether the cluster is so small that the schedule is not rebuilt for it.
pub(super) fn has_small_cluster(size: ScheduleSize) -> bool {
    size.nodes as usize <= SMALL_CLUSTER_NODES_MAX
}

/// Random timings that are tried in each of these clusters, and in the whole one.
// Without any: 113,203 runs, 2 faults more and one request fewer.
pub(super) const OTHER_KEYS: u64 = 8;

// Rebuilding from one or two requests.

/// Events of a run that counts once.
// Nearly every candidate of two-phase commit has fewer. Where nodes send heartbeats, five of them
// have 2,500 up to the recovery timeout. Raft with five nodes: without weighing, rebuilding in vain
// took 6 to 8 s; at 500 events, two of 24 shrinks are not small.
const EVENTS_OF_A_RUN: u64 = 1_000;

/// As how many runs one with this many events counts.
pub(super) fn work_of_run(events: u64) -> u64 {
    events.div_ceil(EVENTS_OF_A_RUN).max(1)
}

/// Runs of all searches of one shrink together.
// 198 shrinks. At 15,000: 311,169 runs, 190 small; at 60,000: 663,301 runs, 191 small; without
// rebuilding: 61,437 runs, but 135 small and 211 requests more.
const REBUILD_RUNS_MAX: u64 = 30_000;

/// The runs for rebuilding in a shrink with at most `runs_max` runs.
pub(super) fn rebuild_runs(runs_max: u64) -> u64 {
    // The other passes keep three quarters of a short budget, such as the 1,500 runs for a case of
    // proptest; the budgets of the command line are never short.
    REBUILD_RUNS_MAX.min(runs_max / 4)
}

/// The runs of the first search, if rebuilding may use `runs`.
pub(super) fn first_rebuild_runs(runs: u64) -> u64 {
    // 198 shrinks. With a half: 722,262 runs, 192 small; without the first search: 380,106 runs,
    // 187 small and 44 requests more.
    runs / 5
}

/// The runs of each later search, for each log limit.
// 198 shrinks. All at half: 432,392 runs, 189 small; all at double: 516,817 runs, 191 small.
pub(super) const PAIRS_RUNS: u64 = 2_000;
pub(super) const TWO_FAULTS_RUNS: u64 = 2_500;
pub(super) const SINGLES_RUNS: u64 = 1_500;
pub(super) const LARGER_CLUSTERS_RUNS: u64 = 1_000;

/// The log limits of the searches, of which only those are used that change the run: the default,
/// for failures before a compaction, the present one, and the shortest, for failures that otherwise
/// need many requests.
// With the default and the present one alone: 118,502 runs and the same sizes. The short ones
// cost 8% of all runs and gain nothing in those seeds.
pub(super) fn rebuild_logs_bytes(present: u64) -> [u64; 4] {
    [LOG_BYTES, present, SHORT_LOGS_BYTES[1], SHORT_LOGS_BYTES[0]]
}

/// The time of a request. All nodes have booted by then: an earlier request would
/// be lost, and its repetition may come after the fault phase.
// At 0: 59 small, 19 requests more.
pub(super) const AFTER_BOOT: Micros = Micros::from_millis(10);

/// The time of a second request that is sent after the first one is answered.
// At 10 ms, the time of the first one: 152,068 runs, 64 small.
pub(super) const AFTER_FIRST_REQUEST: Micros = Micros::from_millis(100);

/// The least length of the fault phase of a candidate. An earlier pass may have
/// made it too short for two requests, one after the other.
// Without it: 151,818 runs, 64 small.
pub(super) const REBUILD_FAULT_PHASE_MIN: Micros = Micros::from_millis(500);

/// With at most this many requests, all pairs are tried, not only those with the request that the
/// violation is about.
// At 3: 124,436 runs and the same sizes.
pub(super) const FEW_REQUESTS: usize = 6;

/// Pairs of requests that are tried.
// At 30 and at 120: no effect.
pub(super) const PAIRS_MAX: usize = 60;

/// Nodes of the smallest cluster beside those that receive the requests: one that is ahead of the
/// others, and one that is behind them.
// At 1: 193,919 runs, 63 small; at 4: 133,131 runs, one fault more.
pub(super) const OTHER_NODES: usize = 2;

/// The crashes of the original that are tried at other coordinates. Each is tried after every
/// effect, so more of them multiply the candidates.
// At 0: 164,520 runs, 63 small; at 6: 148,506 runs, 64 small.
pub(super) const TRANSFERABLE_CRASHES_MAX: usize = 3;

/// Faults are tried at coordinates that name at most this occurrence of an effect or message:
/// where nodes send heartbeats, the 40th is like the 39th.
// Without it: no effect. Raft: heartbeats use up the runs, and 2 of 24 shrinks stay large.
pub(super) const OCCURRENCES_MAX: u32 = 6;

/// The faults of a message that are tried.
// With the loss alone: 183,182 runs, 63 small.
pub(super) const MESSAGE_FAULTS: [MessageFault; 4] = [
    MessageFault::Lose,
    MessageFault::Delay { by: Micros::from_millis(100) },
    MessageFault::Delay { by: Micros::from_millis(400) },
    MessageFault::Duplicate { after: Micros::from_millis(300) },
];

/// The time of a slow barrier after an effect about a request.
// At 1 s: 127,187 runs and the same sizes.
pub(super) const SLOW_BARRIER: Micros = Micros::from_millis(200);

/// The time of a slow barrier that follows no append about a request: long enough
/// that clients not only repeat their request, but query its outcome.
// At 200 ms: 158,461 runs, 64 small.
pub(super) const SLOW_OTHER_BARRIER: Micros = Micros::from_secs(1);

/// A down time after which waiting nodes and clients are still waiting.
// At 400 ms: 133,274 runs and the same sizes.
pub(super) const SHORT_DOWN: Micros = Micros::from_millis(50);

/// A down time after which the other nodes have sent each other `Inquire`.
// At 50 ms: 156,032 runs, 64 small.
pub(super) const LONG_DOWN: Micros = Micros::from_millis(400);

/// How the record just appended is torn.
// With the first alone: 137,791 runs, 64 small.
pub(super) const CANDIDATE_TEARS: [Tear; 2] = [Tear::Header, Tear::Half];

// The fewest faults.

/// With more sets of faults than this, none is tried.
// At 200 and at 200,000: no effect. A set is a run, so this is at most a tenth of the 200,000 runs
// of the command line.
pub(super) const SETS_MAX: u64 = 20_000;

/// With more faults than this, no set is tried: the number of sets grows too fast.
// At 1: 128,130 runs and the same sizes, but nothing is shown for two or three; at 5: no effect.
pub(super) const SET_FAULTS_MAX: usize = 3;
