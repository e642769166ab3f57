//! Runs a schedule; makes one of a seed.

use stormglass::Node;

use crate::chooser::{Recording, Scripted};
use crate::fault::Fault;
use crate::plan::Plan;
use crate::profile::Setup;
use crate::property::Checker;
use crate::protocol::{Scene, WorldOf, draw_run_in, world_in};
use crate::schedule::{Expectation, Schedule};
use crate::world::{RunOutcome, World};

/// The world that a schedule is played in.
pub type ReplayWorld<S, T> = WorldOf<S, (T, <S as Scene>::Checker), Scripted>;

/// A stage with this schedule on it, watched by `observer`; [`World::run`] plays it.
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

/// Plays schedule after schedule in the same memory.
pub struct Replayer<'a, S: Scene> {
    scene: &'a S,
    world: Option<ReplayWorld<S, ()>>,
}

impl<'a, S: Scene> Replayer<'a, S> {
    /// A player for this scene.
    pub fn new(scene: &'a S) -> Self {
        Replayer { scene, world: None }
    }

    /// The scene.
    pub fn scene(&self) -> &'a S {
        self.scene
    }

    /// Plays a schedule; says too which faults never came up.
    pub fn replay(&mut self, schedule: &Schedule<S::Request>) -> (RunOutcome, Vec<Fault>) {
        let (outcome, reached) = self.replay_with_coverage(schedule);
        let all = schedule.faults.iter().zip(reached);
        (outcome, all.filter(|(_, reached)| !reached).map(|(fault, _)| fault.clone()).collect())
    }

    /// Plays a schedule; says of each of its faults whether it came up.
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
        // A node that panicked may have left anything behind.
        if outcome.violation.is_none() {
            self.world = Some(world);
        }
        (outcome, reached)
    }
}

/// Runs a seed and writes it down: its requests, its timing, and every fault by its coordinate. Playing that gives the
/// very fingerprint of the seed.
pub fn record<S: Scene>(scene: &S, setup: &Setup, seed: u64) -> (RunOutcome, Schedule<S::Request>) {
    let drawn = draw_run_in(scene, setup, seed);
    let (plan, requests) = (drawn.plan.clone(), drawn.requests.clone());
    let mut world = world_in(scene, drawn, Recording::new, ());
    let outcome = world.run();
    let property = Expectation::MustHold(
        outcome.violation.as_ref().map(|violation| violation.property.to_string()),
    );
    let faults = world.into_chooser().into_faults();
    (outcome, Schedule { note: Vec::new(), property, plan, requests, faults })
}
