//! Many seeds, on all cores, with a result that does not depend on the number of threads.
//!
//! Workers take blocks of consecutive seeds. Once a seed has failed, blocks above it are skipped
//! and those below are finished: the *lowest* failing seed is reported, and the fingerprint is
//! folded block by block in the order of the seeds.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::hash::Fingerprint;
use crate::profile::Setup;
use crate::property::{Checker, Sometimes, Violation};
use crate::protocol::{Protocol, draw_run, world};
use crate::tally::Tally;
use crate::workload::Workload;

/// Seeds in a block.
// Large enough that threads rarely meet at the lock, small enough that little is run beyond the
// first failure.
const BLOCK: u64 = 64;

/// The result of a hunt.
#[derive(Clone, Debug, Default)]
pub struct HuntReport {
    /// Seeds run.
    pub seeds: u64,
    /// Event counters.
    pub tally: Tally,
    /// The `sometimes` counters.
    pub sometimes: Sometimes,
    /// Failing seeds, the lowest first.
    pub failures: Vec<(u64, Violation)>,
    /// Over all seeds, if all were run.
    pub fingerprint: Option<u64>,
}

/// The options of a hunt.
#[derive(Clone, Debug)]
pub struct HuntOptions {
    /// Profile and sizes.
    pub setup: Setup,
    /// Which seeds.
    pub seeds: Range<u64>,
    /// How many threads, at least 1.
    pub jobs: usize,
    /// Whether to continue after a failure.
    pub keep_going: bool,
}

/// The state of a running hunt, for other threads.
#[derive(Debug, Default)]
pub struct Progress {
    /// Seeds run so far.
    pub seeds: AtomicU64,
    /// Events handled so far.
    pub events: AtomicU64,
    /// Set to end the hunt after the current blocks.
    pub stop: AtomicBool,
}

#[derive(Default)]
struct Shared {
    /// By the first seed of the block.
    block_fingerprints: BTreeMap<u64, u64>,
    report: HuntReport,
}

/// Runs the hunt until all seeds are run, one has failed, or `stop` is set.
pub fn hunt<P: Protocol>(protocol: &P, options: &HuntOptions, progress: &Progress) -> HuntReport {
    let next = AtomicU64::new(options.seeds.start);
    let lowest_failure = AtomicU64::new(u64::MAX);
    let shared = Mutex::new(Shared::default());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let end = options.seeds.end;
                    let taken = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |first| {
                        (first < end).then(|| block_end(first, end))
                    });
                    let Ok(first) = taken else { return };
                    let above_lowest_failure =
                        // Blocks below the failure are still run: the lowest failing seed must not
                        // depend on the number of threads.
                        !options.keep_going && first > lowest_failure.load(Ordering::Relaxed);
                    if above_lowest_failure || progress.stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let seeds = first..block_end(first, end);
                    run_block(protocol, options, seeds, &lowest_failure, &shared, progress);
                }
            });
        }
    });
    let Shared { block_fingerprints, mut report } =
        shared.into_inner().expect("no worker has panicked");
    report.failures.sort_by_key(|(seed, _)| *seed);
    // An incomplete hunt has no fingerprint: which blocks it ran depends on the clock.
    if report.seeds == options.seeds.end - options.seeds.start {
        let mut fingerprint = Fingerprint::default();
        for block_fingerprint in block_fingerprints.values() {
            fingerprint.fold(*block_fingerprint);
        }
        report.fingerprint = Some(fingerprint.value());
    }
    report
}

fn block_end(first: u64, end: u64) -> u64 {
    first.saturating_add(BLOCK).min(end)
}

fn run_block<P: Protocol>(
    protocol: &P,
    options: &HuntOptions,
    seeds: Range<u64>,
    lowest_failure: &AtomicU64,
    shared: &Mutex<Shared>,
    progress: &Progress,
) {
    let mut fingerprint = Fingerprint::default();
    let mut block_report = HuntReport::default();
    let first = seeds.start;
    let mut reused_world = None;
    for seed in seeds {
        let drawn = draw_run(protocol, &options.setup, seed);
        let config = protocol.config(&drawn.plan);
        let world = match &mut reused_world {
            None => reused_world.insert(world(protocol, drawn, |chooser| chooser, ())),
            Some(world) => {
                let clients = protocol.clients(&drawn.plan, drawn.requests);
                world.reset(config, drawn.plan, clients, drawn.chooser, |checker, plan| {
                    protocol.reset_checker(&mut checker.1, plan)
                });
                world
            }
        };
        let outcome = world.run();
        fingerprint.fold(outcome.fingerprint);
        block_report.seeds += 1;
        block_report.tally.merge(&outcome.tally);
        world.checker().sometimes(&mut block_report.sometimes);
        world.workload().sometimes(&mut block_report.sometimes);
        protocol.sometimes(&outcome.tally, &mut block_report.sometimes);
        progress.seeds.fetch_add(1, Ordering::Relaxed);
        progress.events.fetch_add(outcome.tally.events, Ordering::Relaxed);
        if let Some(violation) = outcome.violation {
            block_report.failures.push((seed, violation));
            // Relaxed everywhere: a stale value costs a block that was not needed, and no result.
            lowest_failure.fetch_min(seed, Ordering::Relaxed);
            reused_world = None; // A panic may have left it inconsistent.
            if !options.keep_going {
                break;
            }
        }
    }
    let mut shared = shared.lock().expect("no worker has panicked");
    shared.block_fingerprints.insert(first, fingerprint.value());
    shared.report.seeds += block_report.seeds;
    shared.report.tally.merge(&block_report.tally);
    shared.report.sometimes.merge(&block_report.sometimes);
    shared.report.failures.extend(block_report.failures);
}
