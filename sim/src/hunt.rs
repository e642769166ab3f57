//! Many seeds, on all cores, with a result that does not depend on how many there are.
//!
//! Workers take blocks of consecutive seeds. Once a seed has failed, blocks above it are of no interest, those
//! below are finished: the *lowest* failing seed is reported, and the fingerprint is folded block by block in the
//! order of the seeds.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::mix::Fingerprint;
use crate::oracle::{Broken, Judge, Sometimes};
use crate::plan::Plan;
use crate::profile::Setup;
use crate::protocol::{Of, Protocol, Scene, drawn_in, world_in};
use crate::tally::Tally;
use crate::workload::Workload;

/// Seeds in a block.
const BLOCK: u64 = 64;

/// What a hunt has seen.
#[derive(Clone, Debug, Default)]
pub struct Catch {
    /// Seeds run.
    pub seeds: u64,
    /// What happened, counted.
    pub tally: Tally,
    /// What should sometimes happen, counted.
    pub sometimes: Sometimes,
    /// Failing seeds, the lowest first.
    pub failures: Vec<(u64, Broken)>,
    /// Over all seeds, if all were run.
    pub fingerprint: Option<u64>,
}

/// What is to be hunted.
#[derive(Clone, Debug)]
pub struct Quarry {
    /// Profile and sizes.
    pub setup: Setup,
    /// Which seeds.
    pub seeds: Range<u64>,
    /// How many threads, at least 1.
    pub jobs: usize,
    /// Whether to go on after a failure.
    pub keep_going: bool,
}

/// What others may look at, or ask for, while a hunt goes on.
#[derive(Debug, Default)]
pub struct Progress {
    /// Seeds run so far.
    pub seeds: AtomicU64,
    /// Events handled so far.
    pub events: AtomicU64,
    /// Set to end the hunt after the blocks under way.
    pub stop: AtomicBool,
}

#[derive(Default)]
struct Shared {
    blocks: BTreeMap<u64, u64>,
    catch: Catch,
}

/// Hunts; returns when all seeds are run, one has failed, or somebody has said stop.
pub fn hunt<P: Protocol>(quarry: &Quarry, progress: &Progress) -> Catch {
    hunt_in(&Of::<P>::new(), quarry, progress)
}

/// The same in a scene.
pub fn hunt_in<S: Scene>(scene: &S, quarry: &Quarry, progress: &Progress) -> Catch {
    let next = AtomicU64::new(quarry.seeds.start);
    let lowest = AtomicU64::new(u64::MAX);
    let shared = Mutex::new(Shared::default());
    std::thread::scope(|scope| {
        for _ in 0..quarry.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let end = quarry.seeds.end;
                    let block_end = |first: u64| first.saturating_add(BLOCK).min(end);
                    let take = |first: u64| (first < end).then(|| block_end(first));
                    let Ok(first) = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) else {
                        return;
                    };
                    let beaten = !quarry.keep_going && first > lowest.load(Ordering::Relaxed);
                    if beaten || progress.stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let last = block_end(first);
                    block(scene, quarry, first..last, &lowest, &shared, progress);
                }
            });
        }
    });
    let Shared { blocks, mut catch } = shared.into_inner().expect("no worker has panicked");
    catch.failures.sort_by_key(|(seed, _)| *seed);
    if catch.seeds == quarry.seeds.end - quarry.seeds.start {
        let mut print = Fingerprint::default();
        blocks.values().for_each(|block| print.fold(*block));
        catch.fingerprint = Some(print.value());
    }
    catch
}

fn block<S: Scene>(
    scene: &S,
    quarry: &Quarry,
    seeds: Range<u64>,
    lowest: &AtomicU64,
    shared: &Mutex<Shared>,
    progress: &Progress,
) {
    let (mut print, mut mine) = (Fingerprint::default(), Catch::default());
    let first = seeds.start;
    let mut glass = None;
    for seed in seeds {
        let drawn = drawn_in(scene, &quarry.setup, seed);
        let config = scene.config(&drawn.plan);
        let world = match &mut glass {
            None => glass.insert(world_in(scene, drawn, |chooser| chooser, ())),
            Some(world) => {
                let clients = scene.clients(&drawn.plan, drawn.wishes);
                let judge_again =
                    |judge: &mut ((), S::Judge), plan: &Plan| scene.judge_again(&mut judge.1, plan);
                world.reset(config, drawn.plan, clients, drawn.chooser, judge_again);
                world
            }
        };
        let ending = world.run();
        print.fold(ending.fingerprint);
        mine.seeds += 1;
        mine.tally.merge(&ending.tally);
        world.judge().sometimes(&mut mine.sometimes);
        world.workload().sometimes(&mut mine.sometimes);
        scene.sometimes(&ending.tally, &mut mine.sometimes);
        progress.seeds.fetch_add(1, Ordering::Relaxed);
        progress.events.fetch_add(ending.tally.events, Ordering::Relaxed);
        if let Some(broken) = ending.broken {
            mine.failures.push((seed, broken));
            lowest.fetch_min(seed, Ordering::Relaxed);
            glass = None; // A node that panicked may have left anything behind.
            if !quarry.keep_going {
                break;
            }
        }
    }
    let mut shared = shared.lock().expect("no worker has panicked");
    shared.blocks.insert(first, print.value());
    shared.catch.seeds += mine.seeds;
    shared.catch.tally.merge(&mine.tally);
    shared.catch.sometimes.merge(&mine.sometimes);
    shared.catch.failures.extend(mine.failures);
}
