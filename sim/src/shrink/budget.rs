//! Every budget, limit and list of values to try of the shrinker, with what each of them buys.
//!
//! A shrink has one budget, [`ShrinkControl::runs_max`](super::ShrinkControl::runs_max): all
//! candidates are runs, and a run costs a few tens of microseconds. The limits here keep one pass
//! from using up the runs of the others. The lists are ordered: the first value that still violates
//! the property is adopted.

use std::ops::RangeInclusive;

use super::ScheduleSize;
use crate::disk::{Holes, Tear};
use crate::fault::MessageFault;
use crate::plan::LOG_BYTES;

// What counts as small.

/// A schedule with at most this many faults and requests is small: it is not rebuilt, its requests
/// are not joined, and its log limit returns to the default.
const SMALL_FAULTS_MAX: usize = 3;
const SMALL_REQUESTS_MAX: usize = 2;

/// Whether no pass that trades simplicity for fewer entries is needed.
pub(super) fn is_small(size: ScheduleSize) -> bool {
    size.faults <= SMALL_FAULTS_MAX && size.requests <= SMALL_REQUESTS_MAX
}

// Removing entries.

/// With more requests than this, joining two of them is not tried: the pairs grow with the square.
pub(super) const JOINABLE_REQUESTS: RangeInclusive<usize> = 2..=10;

/// The lengths of the fault phase to try, in microseconds.
pub(super) const FAULT_PHASES_US: [u64; 6] = [10_000, 50_000, 100_000, 200_000, 500_000, 1_000_000];

/// Log limits in bytes that compact the log after every record, every other record, and every other
/// transaction.
pub(super) const SHORT_LOGS_BYTES: [u64; 3] = [1, 100, 400];

// Simplifying faults and times.

/// Times are rounded down to a multiple of these, in microseconds; the first rounds to zero.
pub(super) const ROUND_STEPS_US: [u64; 5] = [u64::MAX, 100_000, 10_000, 1_000, 100];

/// The durations that every longer one is replaced by, in microseconds.
pub(super) const COMMON_DURATIONS_US: [u64; 6] = [1_000, 10_000, 50_000, 100_000, 200_000, 400_000];

/// The down times that replace "until the end of the fault phase", in microseconds.
pub(super) const DOWN_TIMES_US: [u64; 4] = [1_000, 10_000, 50_000, 100_000];

/// A message that was sent this long before a fault of the network began, in microseconds, may
/// still have been in flight.
pub(super) const IN_FLIGHT_US_MAX: u64 = 30_000;

/// How an append that a power cut found unsynced is torn.
pub(super) const SIMPLER_TEARS: [Tear; 3] = [Tear::Header, Tear::Half, Tear::LastSectorMissing];

/// What can be left of a torn append in place of its missing sectors.
pub(super) const TORN_HOLES: [Option<Holes>; 4] =
    [None, Some(Holes::Zeros), Some(Holes::Garbage), Some(Holes::OldBlocks)];

// Base timing.

/// The message delays and barrier times to try, in microseconds. With base timing every message and
/// every barrier takes the least time of its range.
pub(super) const BASE_TIMINGS: [(u64, u64); 6] =
    [(500, 100), (500, 2_000), (5_000, 100), (500, 20_000), (20_000, 100), (5_000, 2_000)];

/// With more entries than this for the deviations from base timing, delta debugging over them is
/// not tried.
pub(super) const DEVIATIONS_MAX: usize = 400;

/// The most faults of a schedule with base timing and entries for the deviations, if the schedule
/// with random timing had `faults`.
pub(super) fn faults_with_deviations_max(faults: usize) -> usize {
    faults.max(1) + 2
}

// Rebuilding from one or two requests.

/// Runs of all searches of one shrink together.
const REBUILD_RUNS_MAX: u64 = 30_000;

/// The runs for rebuilding in a shrink with at most `runs_max` runs.
pub(super) fn rebuild_runs(runs_max: u64) -> u64 {
    REBUILD_RUNS_MAX.min(runs_max / 4)
}

/// The runs of the first search, if rebuilding may use `runs`.
pub(super) fn first_rebuild_runs(runs: u64) -> u64 {
    runs / 5
}

/// The runs of each later search, for each log limit. The searches for pairs of requests come first
/// and get most: they succeed most often.
pub(super) const PAIRS_RUNS: u64 = 2_000;
pub(super) const TWO_FAULTS_RUNS: u64 = 2_500;
pub(super) const SINGLES_RUNS: u64 = 1_500;
pub(super) const LARGER_CLUSTERS_RUNS: u64 = 1_000;

/// The log limits of the searches, of which only those are used that change the run: the default,
/// for failures before a compaction, the present one, and the shortest, for failures that otherwise
/// need many requests.
pub(super) fn rebuild_logs_bytes(present: u64) -> [u64; 4] {
    [LOG_BYTES, present, SHORT_LOGS_BYTES[1], SHORT_LOGS_BYTES[0]]
}

/// The time of a request, in microseconds. All nodes have booted by then: an earlier request would
/// be lost, and its repetition may come after the fault phase.
pub(super) const AFTER_BOOT_US: u64 = 10_000;

/// The time of a second request that is sent after the first one is answered, in microseconds.
pub(super) const AFTER_FIRST_REQUEST_US: u64 = 100_000;

/// The least length of the fault phase of a candidate, in microseconds.
pub(super) const REBUILD_FAULT_PHASE_US_MIN: u64 = 500_000;

/// With at most this many requests, all pairs are tried, not only those with the request that the
/// violation is about.
pub(super) const FEW_REQUESTS: usize = 6;

/// Pairs of requests that are tried.
pub(super) const PAIRS_MAX: usize = 60;

/// Nodes of the smallest cluster beside those that receive the requests: one that is ahead of the
/// others, and one that is behind them.
pub(super) const OTHER_NODES: usize = 2;

/// The crashes of the original that are tried at other coordinates. Each is tried after every
/// effect, so more of them multiply the candidates.
pub(super) const TRANSFERABLE_CRASHES_MAX: usize = 3;

/// The faults of a message that are tried.
pub(super) const MESSAGE_FAULTS: [MessageFault; 4] = [
    MessageFault::Lose,
    MessageFault::Delay { by_us: 100_000 },
    MessageFault::Delay { by_us: 400_000 },
    MessageFault::Duplicate { after_us: 300_000 },
];

/// The time of a slow barrier after an effect about a request, in microseconds.
pub(super) const SLOW_BARRIER_US: u64 = 200_000;

/// The time of a slow barrier that follows no append about a request, in microseconds: long enough
/// that clients not only repeat their request, but query its outcome.
pub(super) const SLOW_OTHER_BARRIER_US: u64 = 1_000_000;

/// A down time after which waiting nodes and clients are still waiting, in microseconds.
pub(super) const SHORT_DOWN_US: u64 = 50_000;

/// A down time after which the other nodes have sent each other `Inquire`, in microseconds.
pub(super) const LONG_DOWN_US: u64 = 400_000;

/// How the record just appended is torn.
pub(super) const CANDIDATE_TEARS: [Tear; 2] = [Tear::Header, Tear::Half];

// The fewest faults.

/// With more sets of faults than this, none is tried.
pub(super) const SETS_MAX: u64 = 20_000;

/// With more faults than this, no set is tried: the number of sets grows too fast.
pub(super) const SET_FAULTS_MAX: usize = 3;
