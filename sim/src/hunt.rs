//! Many seeds, on all cores, with a result that does not depend on the number of threads.
//!
//! Workers take blocks of consecutive seeds. Once a seed has failed, blocks above it are skipped
//! and those below are finished: the *lowest* failing seed is reported, and the fingerprint is
//! folded block by block in the order of the seeds.
//!
//! A share of the seeds is run twice, to find nodes that are not deterministic. The calling thread
//! watches the workers: it ends the hunt when its time is over, and names the seed of a run that
//! does not end (module `watchdog`).

pub(crate) mod in_progress;
mod small_cluster;
pub(crate) mod watchdog;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::chooser::Seeded;
use crate::coverage::Coverage;
use crate::determinism::{Nondeterminism, are_different, explain_seed};
use crate::hash::Fingerprint;
use crate::limits::RunLimits;
use crate::profile::Setup;
use crate::property::{Checker, JudgedUntil, Sometimes, Violation};
use crate::protocol::{Protocol, WorldOf, configs, draw_run, world};
use crate::tally::Tally;
use crate::workload::Workload;
use crate::world::{PANICS, RunOutcome, panics};
use watchdog::{Watch, Watchdog};

pub use small_cluster::failing_seed_with_small_cluster;

/// Seeds in a block.
// Large enough that threads rarely meet at the lock, small enough that little is run beyond the
// first failure.
const BLOCK: u64 = 64;

/// One seed in this many is run twice, the first of the hunt among them.
// With 1 in 32, and the contents of messages hashed in both runs, a hunt takes 4 % longer.
const RUN_TWICE_EACH: u64 = 32;

/// The facts of so many seeds at the beginning of a hunt are counted by kind, and later on those of
/// every seed that is run twice.
// Counting takes a tenth of a run: this is enough to see most kinds, and costs a hunt of 10,000
// seeds 0.4 %.
const COUNTED: u64 = 64;

/// Of these, the properties of so many are offered altered facts.
const ALTERED: u64 = 8;

/// The result of a hunt.
#[derive(Clone, Debug, Default)]
pub struct HuntReport {
    /// Seeds run.
    pub seeds: u64,
    /// Event counters.
    pub tally: Tally,
    /// The `sometimes` counters.
    pub sometimes: Sometimes,
    /// What the properties were shown, in some of the seeds.
    pub coverage: Coverage,
    /// Failing seeds, the lowest first.
    pub failures: Vec<(u64, Violation)>,
    /// The seeds in which no property was violated, but whose runs were judged only in part.
    pub judged_in_part: u64,
    /// The lowest of these.
    pub first_judged_in_part: Option<(u64, JudgedUntil)>,
    /// How many seeds were run twice and compared to the end.
    pub compared: u64,
    /// The lowest of them whose runs differed. Then the other results mean little.
    pub nondeterminism: Option<Nondeterminism>,
    /// Over all seeds, if all were run.
    pub fingerprint: Option<u64>,
}

impl HuntReport {
    /// Whether clients sent requests, and none of them was ever answered: no property can have
    /// looked at an answer.
    pub fn has_no_answers(&self) -> bool {
        self.tally.requests > 0 && self.tally.answers == 0
    }
}

/// The options of a hunt.
#[derive(Clone, Debug)]
pub struct HuntOptions {
    /// Profile and sizes.
    pub setup: Setup,
    /// Which seeds. Never empty.
    pub seeds: RangeInclusive<u64>,
    /// How many threads, at least 1.
    pub jobs: usize,
    /// Whether to continue after a failure.
    pub keep_going: bool,
    /// What a run may cost in wall time and memory. The limit of events is that of the protocol,
    /// with which a replay of the seed ends as the hunt did.
    pub limits: RunLimits,
    /// After this wall time the hunt ends, with the seeds run until then.
    pub wall_max: Option<Duration>,
    /// The command that runs a seed again, with `{seed}` for its number: for messages about runs
    /// that do not end.
    pub seed_command: String,
}

impl HuntOptions {
    /// A hunt on one thread, to the first failure.
    ///
    /// # Panics
    /// If the range is empty: a hunt that runs nothing finds nothing.
    pub fn new(setup: Setup, seeds: RangeInclusive<u64>) -> HuntOptions {
        assert!(!seeds.is_empty(), "a hunt needs at least one seed");
        HuntOptions {
            setup,
            seeds,
            jobs: 1,
            keep_going: false,
            limits: RunLimits::default(),
            wall_max: None,
            seed_command: "STORMGLASS_SEED={seed} cargo test".to_string(),
        }
    }

    fn last_block(&self) -> u64 {
        (self.seeds.end() - self.seeds.start()) / BLOCK
    }

    /// The seeds of a block.
    fn block(&self, block: u64) -> RangeInclusive<u64> {
        // Neither overflows: the first seed of a block is at most the last of the hunt.
        let first = self.seeds.start() + block * BLOCK;
        first..=first.saturating_add(BLOCK - 1).min(*self.seeds.end())
    }

    fn is_run_twice(&self, seed: u64) -> bool {
        self.offset(seed).is_multiple_of(RUN_TWICE_EACH)
    }

    fn is_counted(&self, seed: u64) -> bool {
        self.offset(seed) < COUNTED || self.is_run_twice(seed)
    }

    fn is_altered(&self, seed: u64) -> bool {
        self.offset(seed) < ALTERED
    }

    fn offset(&self, seed: u64) -> u64 {
        seed - self.seeds.start()
    }
}

/// The state of a running hunt, for other threads.
#[derive(Debug, Default)]
pub struct Progress {
    /// Seeds run so far.
    pub seeds: AtomicU64,
    /// Events handled so far.
    pub events: AtomicU64,
    /// Set to end the hunt, in the middle of its runs.
    pub stop: Arc<AtomicBool>,
}

#[derive(Default)]
struct Shared {
    /// By the number of the block.
    block_fingerprints: BTreeMap<u64, u64>,
    report: HuntReport,
    /// Of the seeds that were run twice with different results.
    lowest_nondeterministic: Option<u64>,
}

/// The world of one seed.
type SeedWorld<P> = WorldOf<P, ((), <P as Protocol>::Checker), Seeded>;

/// What the workers of a hunt share.
struct Hunt<'a, P> {
    protocol: &'a P,
    options: &'a HuntOptions,
    progress: &'a Progress,
    next_block: AtomicU64,
    /// The first block with a seed that failed or whose runs differ: later ones are skipped.
    first_failed_block: AtomicU64,
    shared: Mutex<Shared>,
}

/// Runs the hunt until all seeds are run, one has failed, its time is over, or `stop` is set.
///
/// A run that does not end ends the process, with exit code 11 and a message on standard error that
/// names the seed ([`RunLimits`]).
pub fn hunt<P: Protocol>(protocol: &P, options: &HuntOptions, progress: &Progress) -> HuntReport {
    in_progress::report_earlier_deaths();
    let hunt = Hunt {
        protocol,
        options,
        progress,
        next_block: AtomicU64::new(0),
        first_failed_block: AtomicU64::new(u64::MAX),
        shared: Mutex::default(),
    };
    let jobs = options.jobs.max(1);
    std::thread::scope(|scope| {
        let mut watchdog = Watchdog::new(jobs, &options.seed_command);
        for mut handle in watchdog.take_handles() {
            let hunt = &hunt;
            scope.spawn(move || {
                while let Some(block) = hunt.take_block() {
                    hunt.run_block(block, |seed| handle.begin(seed));
                }
            });
        }
        watchdog.watch(&Watch::new(options.limits, &options.seed_command).hunt(
            options.wall_max,
            &progress.stop,
            &|| hunt.failures_so_far(),
        ));
    });
    let Shared { block_fingerprints, mut report, lowest_nondeterministic } =
        hunt.shared.into_inner().expect("no worker has panicked");
    report.failures.sort_by_key(|(seed, _)| *seed);
    report.nondeterminism =
        lowest_nondeterministic.map(|seed| explain_seed(protocol, &options.setup, seed, || {}));
    // An incomplete hunt has no fingerprint: which blocks it ran depends on the clock.
    if report.seeds > 0 && report.seeds - 1 == options.seeds.end() - options.seeds.start() {
        let mut fingerprint = Fingerprint::default();
        for block_fingerprint in block_fingerprints.values() {
            fingerprint.fold(*block_fingerprint);
        }
        report.fingerprint = Some(fingerprint.value());
    }
    report
}

impl<P: Protocol> Hunt<'_, P> {
    /// The failures of all finished blocks.
    fn failures_so_far(&self) -> Vec<(u64, Violation)> {
        // Without waiting: a worker that does not end may hold the lock.
        match self.shared.try_lock() {
            Ok(shared) => shared.report.failures.clone(),
            Err(_) => Vec::new(),
        }
    }

    /// The next block, unless the hunt is over.
    fn take_block(&self) -> Option<u64> {
        let block = self.next_block.fetch_add(1, Ordering::Relaxed);
        // Blocks below a failure are still run: the lowest failing seed must not depend on the
        // number of threads.
        let is_useful = block <= self.options.last_block()
            && block <= self.first_failed_block.load(Ordering::Relaxed);
        (is_useful && !self.progress.stop.load(Ordering::Relaxed)).then_some(block)
    }

    fn run_block(&self, block: u64, mut begin: impl FnMut(u64)) {
        let mut fingerprint = Fingerprint::default();
        let mut report = HuntReport::default();
        let mut lowest_nondeterministic = None;
        // One world for all seeds of the block, since a world in used memory allocates little.
        let mut reused_world = None;
        for seed in self.options.block(block) {
            begin(seed);
            let twice = self.options.is_run_twice(seed);
            let prepared = panics::catch(|| self.prepare(&mut reused_world, seed, twice));
            let (outcome, world) = match prepared {
                Ok(world) => {
                    if self.options.is_counted(seed) {
                        world.count_facts(self.options.is_altered(seed));
                    }
                    (world.run(), Some(world))
                }
                Err(panic) => (RunOutcome::not_begun(&panic), None),
            };
            if outcome.interrupted {
                break;
            }
            fingerprint.fold(outcome.fingerprint);
            report.seeds += 1;
            report.tally.merge(&outcome.tally);
            // After a panic, nothing of the world is asked any more.
            if let Some(world) = world.filter(|_| !is_panic(&outcome)) {
                if let Some(coverage) = world.take_coverage() {
                    report.coverage.merge(&coverage);
                }
                world.checker().sometimes(&mut report.sometimes);
                world.workload().sometimes(&mut report.sometimes);
            }
            self.protocol.sometimes(&outcome.tally, &mut report.sometimes);
            self.progress.seeds.fetch_add(1, Ordering::Relaxed);
            self.progress.events.fetch_add(outcome.tally.events, Ordering::Relaxed);
            if outcome.violation.is_some() {
                reused_world = None; // A panic may have left it inconsistent.
            }
            note_verdict(seed, &outcome, &mut report);
            if twice && outcome.contents.is_some() {
                let again = panics::catch(|| self.prepare(&mut reused_world, seed, twice).run());
                let again = again.unwrap_or_else(|panic| RunOutcome::not_begun(&panic));
                if again.interrupted {
                    break;
                }
                report.compared += 1;
                if are_different(&outcome, &again) {
                    lowest_nondeterministic.get_or_insert(seed);
                }
            }
            let failed = !report.failures.is_empty() || lowest_nondeterministic.is_some();
            if failed && !self.options.keep_going {
                // Relaxed everywhere: a stale value costs a block that was not needed, and no
                // result.
                self.first_failed_block.fetch_min(block, Ordering::Relaxed);
                break;
            }
        }
        // Once for each block and not for each seed, so that threads seldom wait for each other.
        let mut shared = self.shared.lock().expect("no worker has panicked");
        shared.block_fingerprints.insert(block, fingerprint.value());
        shared.lowest_nondeterministic =
            [shared.lowest_nondeterministic, lowest_nondeterministic].into_iter().flatten().min();
        shared.report.merge(report);
    }

    /// The world of a seed, in the memory of the seed before it.
    fn prepare<'w>(
        &self,
        reused: &'w mut Option<SeedWorld<P>>,
        seed: u64,
        hash_contents: bool,
    ) -> &'w mut SeedWorld<P> {
        let drawn = draw_run(self.protocol, &self.options.setup, seed);
        let world = match reused {
            None => {
                let world = world(self.protocol, drawn, |chooser| chooser, ());
                let world = reused.insert(world);
                world.stop_when(&self.progress.stop);
                world
            }
            Some(world) => {
                let configs = configs(self.protocol, &drawn.plan);
                let clients = self.protocol.clients(&drawn.plan, drawn.requests);
                world.reset(configs, drawn.plan, clients, drawn.chooser, |checker, plan| {
                    self.protocol.reset_checker(&mut checker.1, plan)
                });
                world
            }
        };
        if hash_contents {
            world.hash_contents();
        }
        world
    }
}

fn is_panic(outcome: &RunOutcome) -> bool {
    outcome.violation.as_ref().is_some_and(|violation| PANICS.contains(&violation.property))
}

fn note_verdict(seed: u64, outcome: &RunOutcome, report: &mut HuntReport) {
    match (&outcome.violation, &outcome.judged_until) {
        (Some(violation), _) => report.failures.push((seed, violation.clone())),
        (None, Some(until)) => {
            report.judged_in_part += 1;
            report.first_judged_in_part.get_or_insert((seed, until.clone()));
        }
        (None, None) => {}
    }
}

impl HuntReport {
    /// Adds the seeds of a block.
    fn merge(&mut self, block: HuntReport) {
        self.seeds += block.seeds;
        self.tally.merge(&block.tally);
        self.sometimes.merge(&block.sometimes);
        self.coverage.merge(&block.coverage);
        self.failures.extend(block.failures);
        self.judged_in_part += block.judged_in_part;
        self.compared += block.compared;
        let first = [self.first_judged_in_part.take(), block.first_judged_in_part];
        self.first_judged_in_part = first.into_iter().flatten().min_by_key(|(seed, _)| *seed);
    }
}
