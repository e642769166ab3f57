//! Runs schedules, and records a seed as a schedule.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use stormglass_node::Node;

use crate::chooser::{Recording, Scripted, Seeded};
use crate::fault::Fault;
use crate::plan::Plan;
use crate::profile::Setup;
use crate::property::Checker;
use crate::protocol::{Protocol, WorldOf, configs, draw_run, with_rules_of, world};
use crate::schedule::{Expectation, Schedule};
use crate::world::{RunOutcome, World, panics};

/// The world in which a schedule runs.
pub type ReplayWorld<P, T> = WorldOf<P, (T, <P as Protocol>::Checker), Scripted>;

/// A world that is ready to run this schedule, observed by `observer`; [`World::run`] runs it.
pub fn replay_world<P: Protocol, T: Checker<P::Node>>(
    protocol: &P,
    schedule: &Schedule<P::Request>,
    observer: T,
) -> ReplayWorld<P, T> {
    let (configs, clients, plan, chooser) = world_parts(protocol, schedule);
    let checker = protocol.checker(&plan);
    let world = World::new(configs, plan, clients, (observer, checker), chooser);
    with_rules_of(protocol, world)
}

/// A world that is ready to run this seed, observed by `observer`.
pub fn seed_world<P: Protocol, T: Checker<P::Node>>(
    protocol: &P,
    setup: &Setup,
    seed: u64,
    observer: T,
) -> WorldOf<P, (T, P::Checker), Seeded> {
    world(protocol, draw_run(protocol, setup, seed), |chooser| chooser, observer)
}

type WorldParts<P> =
    (Vec<<<P as Protocol>::Node as Node>::Config>, <P as Protocol>::Workload, Plan, Scripted);

fn world_parts<P: Protocol>(protocol: &P, schedule: &Schedule<P::Request>) -> WorldParts<P> {
    let plan = schedule.plan.clone();
    let clients = protocol.clients(&plan, schedule.requests.clone());
    (configs(protocol, &plan), clients, plan, Scripted::new(&schedule.faults))
}

/// Runs schedule after schedule in the same memory.
pub struct Replayer<'a, P: Protocol> {
    protocol: &'a P,
    world: Option<ReplayWorld<P, ()>>,
    /// Set by another thread to end a run.
    stop: Arc<AtomicBool>,
}

impl<'a, P: Protocol> Replayer<'a, P> {
    /// A replayer of this protocol.
    pub fn new(protocol: &'a P) -> Self {
        Replayer { protocol, world: None, stop: Arc::default() }
    }

    /// Runs end once `stop` is set, in their middle.
    #[must_use]
    pub fn stop_when(self, stop: &Arc<AtomicBool>) -> Self {
        Replayer { stop: Arc::clone(stop), ..self }
    }

    /// The protocol.
    pub fn protocol(&self) -> &'a P {
        self.protocol
    }

    /// Runs a schedule; returns also the faults that were not reached.
    pub fn replay(&mut self, schedule: &Schedule<P::Request>) -> (RunOutcome, Vec<Fault>) {
        let (outcome, reached) = self.replay_with_coverage(schedule);
        let all = schedule.faults.iter().zip(reached);
        (outcome, all.filter(|(_, reached)| !reached).map(|(fault, _)| fault.clone()).collect())
    }

    /// Runs a schedule; returns for each of its faults whether it was reached.
    pub(crate) fn replay_with_coverage(
        &mut self,
        schedule: &Schedule<P::Request>,
    ) -> (RunOutcome, Vec<bool>) {
        let world = panics::catch(|| self.prepare(schedule));
        let mut world = match world {
            Ok(world) => world,
            // Another number of nodes, which a shrink tries, may be none that a configuration
            // expects.
            Err(panic) => {
                return (RunOutcome::not_begun(&panic), vec![false; schedule.faults.len()]);
            }
        };
        let outcome = world.run();
        let reached = world.chooser().reached().collect();
        // The memory is reused only without a violation, which may be a panic in the middle of a
        // step.
        if outcome.violation.is_none() {
            self.world = Some(world);
        }
        (outcome, reached)
    }

    /// The world of a schedule, in the memory of the run before.
    fn prepare(&mut self, schedule: &Schedule<P::Request>) -> ReplayWorld<P, ()> {
        match self.world.take() {
            None => {
                let mut world = replay_world(self.protocol, schedule, ());
                world.stop_when(&self.stop);
                world
            }
            Some(mut world) => {
                let (configs, clients, plan, chooser) = world_parts(self.protocol, schedule);
                world.reset(configs, plan, clients, chooser, |checker, plan| {
                    self.protocol.reset_checker(&mut checker.1, plan)
                });
                world
            }
        }
    }
}

/// Runs a seed and records it: its requests, its timing, and every fault by its coordinate. A run
/// of that schedule has the fingerprint of the seed.
pub fn record<P: Protocol>(
    protocol: &P,
    setup: &Setup,
    seed: u64,
) -> (RunOutcome, Schedule<P::Request>) {
    let drawn = draw_run(protocol, setup, seed);
    // Copied before the run, which consumes what was drawn.
    let plan = drawn.plan.clone();
    let requests = drawn.requests.clone();
    let mut world = world(protocol, drawn, Recording::new, ());
    let outcome = world.run();
    // A recorded schedule expects that the bug is fixed, whatever this run has violated.
    let expectation = Expectation::NoViolation(
        outcome.violation.as_ref().map(|violation| violation.property.to_string()),
    );
    let faults = world.into_chooser().into_faults();
    (outcome, Schedule { note: Vec::new(), expectation, plan, requests, faults })
}
