//! Runs schedules, and records a seed as a schedule.

use stormglass_node::Node;

use crate::chooser::{Recording, Scripted};
use crate::fault::Fault;
use crate::plan::Plan;
use crate::profile::Setup;
use crate::property::Checker;
use crate::protocol::{Scene, WorldOf, draw_run_in, world_in};
use crate::schedule::{Expectation, Schedule};
use crate::world::{RunOutcome, World};

/// The world in which a schedule runs.
pub type ReplayWorld<S, T> = WorldOf<S, (T, <S as Scene>::Checker), Scripted>;

/// A world that is ready to run this schedule, observed by `observer`; [`World::run`] runs it.
pub fn replay_world<S: Scene, T: Checker<S::Node>>(
    scene: &S,
    schedule: &Schedule<S::Request>,
    observer: T,
) -> ReplayWorld<S, T> {
    let (config, clients, plan, chooser) = world_parts(scene, schedule);
    let checker = scene.checker(&plan);
    World::new(config, plan, clients, (observer, checker), chooser)
}

type WorldParts<S> = (<<S as Scene>::Node as Node>::Config, <S as Scene>::Workload, Plan, Scripted);

fn world_parts<S: Scene>(scene: &S, schedule: &Schedule<S::Request>) -> WorldParts<S> {
    let plan = schedule.plan.clone();
    let clients = scene.clients(&plan, schedule.requests.clone());
    (scene.config(&plan), clients, plan, Scripted::new(&schedule.faults))
}

/// Runs schedule after schedule in the same memory.
pub struct Replayer<'a, S: Scene> {
    scene: &'a S,
    world: Option<ReplayWorld<S, ()>>,
}

impl<'a, S: Scene> Replayer<'a, S> {
    /// A replayer of this protocol.
    pub fn new(scene: &'a S) -> Self {
        Replayer { scene, world: None }
    }

    /// The protocol.
    pub fn scene(&self) -> &'a S {
        self.scene
    }

    /// Runs a schedule; returns also the faults that were not reached.
    pub fn replay(&mut self, schedule: &Schedule<S::Request>) -> (RunOutcome, Vec<Fault>) {
        let (outcome, reached) = self.replay_with_coverage(schedule);
        let all = schedule.faults.iter().zip(reached);
        (outcome, all.filter(|(_, reached)| !reached).map(|(fault, _)| fault.clone()).collect())
    }

    /// Runs a schedule; returns for each of its faults whether it was reached.
    pub(crate) fn replay_with_coverage(
        &mut self,
        schedule: &Schedule<S::Request>,
    ) -> (RunOutcome, Vec<bool>) {
        let mut world = match self.world.take() {
            None => replay_world(self.scene, schedule, ()),
            Some(mut world) => {
                let (config, clients, plan, chooser) = world_parts(self.scene, schedule);
                let reset_checker = |checker: &mut ((), S::Checker), plan: &Plan| {
                    self.scene.reset_checker(&mut checker.1, plan)
                };
                world.reset(config, plan, clients, chooser, reset_checker);
                world
            }
        };
        let outcome = world.run();
        let reached = world.chooser().reached().collect();
        // After a panic of a node the memory is not reused.
        if outcome.violation.is_none() {
            self.world = Some(world);
        }
        (outcome, reached)
    }
}

/// Runs a seed and records it: its requests, its timing, and every fault by its coordinate. A run
/// of that schedule has the fingerprint of the seed.
pub fn record<S: Scene>(scene: &S, setup: &Setup, seed: u64) -> (RunOutcome, Schedule<S::Request>) {
    let drawn = draw_run_in(scene, setup, seed);
    let (plan, requests) = (drawn.plan.clone(), drawn.requests.clone());
    let mut world = world_in(scene, drawn, Recording::new, ());
    let outcome = world.run();
    let expectation = Expectation::NoViolation(
        outcome.violation.as_ref().map(|violation| violation.property.to_string()),
    );
    let faults = world.into_chooser().into_faults();
    (outcome, Schedule { note: Vec::new(), expectation, plan, requests, faults })
}
