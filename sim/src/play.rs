//! Runs a schedule; makes one of a seed.

use stormglass::Node;

use crate::chooser::{Recording, Scripted};
use crate::fault::Fault;
use crate::oracle::Judge;
use crate::plan::Plan;
use crate::profile::Setup;
use crate::protocol::{Scene, WorldOf, drawn_in, world_in};
use crate::schedule::{Claim, Schedule};
use crate::world::{Ending, World};

/// The world that a schedule is played in.
pub type Stage<S, T> = WorldOf<S, (T, <S as Scene>::Judge), Scripted>;

/// A stage with this schedule on it, watched by `watch`; [`World::run`] plays it.
pub fn stage<S: Scene, T: Judge<S::Node>>(scene: &S, schedule: &Schedule<S::Order>, watch: T) -> Stage<S, T> {
    let (config, clients, plan, chooser) = parts(scene, schedule);
    let judge = scene.judge(&plan);
    World::new(config, plan, clients, (watch, judge), chooser)
}

type Parts<S> = (<<S as Scene>::Node as Node>::Config, <S as Scene>::Workload, Plan, Scripted);

fn parts<S: Scene>(scene: &S, schedule: &Schedule<S::Order>) -> Parts<S> {
    let plan = schedule.plan.clone();
    let clients = scene.clients(&plan, schedule.wishes.clone());
    (scene.config(&plan), clients, plan, Scripted::new(&schedule.faults))
}

/// Plays schedule after schedule in the same memory.
pub struct Player<'a, S: Scene> {
    scene: &'a S,
    glass: Option<Stage<S, ()>>,
}

impl<'a, S: Scene> Player<'a, S> {
    /// A player for this scene.
    pub fn new(scene: &'a S) -> Self {
        Player { scene, glass: None }
    }

    /// The scene.
    pub fn scene(&self) -> &'a S {
        self.scene
    }

    /// Plays a schedule; says too which faults never came up.
    pub fn play(&mut self, schedule: &Schedule<S::Order>) -> (Ending, Vec<Fault>) {
        let (ending, reached) = self.play_reaching(schedule);
        let all = schedule.faults.iter().zip(reached);
        (ending, all.filter(|(_, reached)| !reached).map(|(fault, _)| fault.clone()).collect())
    }

    /// Plays a schedule; says of each of its faults whether it came up.
    pub(crate) fn play_reaching(&mut self, schedule: &Schedule<S::Order>) -> (Ending, Vec<bool>) {
        let mut glass = match self.glass.take() {
            None => stage(self.scene, schedule, ()),
            Some(mut glass) => {
                let (config, clients, plan, chooser) = parts(self.scene, schedule);
                let judge_again =
                    |judge: &mut ((), S::Judge), plan: &Plan| self.scene.judge_again(&mut judge.1, plan);
                glass.reset(config, plan, clients, chooser, judge_again);
                glass
            }
        };
        let ending = glass.run();
        let reached = glass.chooser().reached().collect();
        // A node that panicked may have left anything behind.
        if ending.broken.is_none() {
            self.glass = Some(glass);
        }
        (ending, reached)
    }
}

/// Runs a seed and writes it down: its requests, its timing, and every fault by its coordinate. Playing that gives the
/// very fingerprint of the seed.
pub fn record<S: Scene>(scene: &S, setup: &Setup, seed: u64) -> (Ending, Schedule<S::Order>) {
    let drawn = drawn_in(scene, setup, seed);
    let (plan, wishes) = (drawn.plan.clone(), drawn.wishes.clone());
    let mut glass = world_in(scene, drawn, Recording::new, ());
    let ending = glass.run();
    let claim = Claim::Holds(ending.broken.as_ref().map(|broken| broken.claim.to_string()));
    let faults = glass.into_chooser().into_faults();
    (ending, Schedule { why: Vec::new(), claim, plan, wishes, faults })
}
