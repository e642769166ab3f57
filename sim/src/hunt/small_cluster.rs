//! A failing seed with a small cluster, to be shrunk in place of one with a large cluster.
//!
//! A run of 50 nodes takes a hundred times as long as one of three, and a violation in it may
//! depend on the timing of all of them: to shrink it takes minutes and leaves hundreds of faults.
//! Nearly every mistake that a large cluster shows is also made by a small one, in another seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::profile::Setup;
use crate::property::Violation;
use crate::protocol::{Protocol, draw_run, world};
use crate::world::{HARNESS_NEVER_PANICS, panics};

/// A cluster of more nodes is large.
// Seeds draw 2 to 8 nodes, and one in 50 draws 33 to 64.
const SMALL_NODES_MAX: u16 = 16;

/// So many seeds after the failing one are tried.
const SEEDS: u64 = 1_000;

/// With this many events in their runs together, no further seed is tried: about three seconds.
const EVENTS_MAX: u64 = 5_000_000;

/// If the run of this failing seed has more than 16 nodes: the first of the 1,000 seeds after it
/// that has at most 16 and violates a property. `begin` is called before each run, and none begins
/// once `stop` is set.
pub fn failing_seed_with_small_cluster<P: Protocol>(
    protocol: &P,
    setup: &Setup,
    failing: u64,
    stop: &Arc<AtomicBool>,
    mut begin: impl FnMut(u64),
) -> Option<(u64, Violation)> {
    if draw_run(protocol, setup, failing).plan.nodes <= SMALL_NODES_MAX {
        return None;
    }
    let mut events = 0;
    for seed in (failing..=failing.saturating_add(SEEDS)).skip(1) {
        if stop.load(Ordering::Relaxed) || events > EVENTS_MAX {
            return None;
        }
        begin(seed);
        let run = panics::catch(|| {
            let drawn = draw_run(protocol, setup, seed);
            (drawn.plan.nodes <= SMALL_NODES_MAX).then(|| {
                let mut world = world(protocol, drawn, |chooser| chooser, ());
                world.stop_when(stop);
                world.run()
            })
        });
        // A panic of the workload says nothing about the node.
        let Ok(Some(outcome)) = run else { continue };
        events += outcome.tally.events;
        match outcome.violation {
            Some(violation) if violation.property != HARNESS_NEVER_PANICS => {
                return Some((seed, violation));
            }
            _ => {}
        }
    }
    None
}
