//! When leaving out does not help any more and the story is still long: the same claim, broken in a story of one request or
//! two, told afresh.
//!
//! Seventeen requests that only hold each other's locks up are seventeen because nothing among them is called "a vote
//! comes late". So a few small stories are tried: the request that the verdict is about, alone or with another, base
//! timing, and none, one or two of the faults that can happen to it.

use stormglass::DiskError;

use super::{Shrinker, Witness};
use crate::disk::Survival;
use crate::fault::{BarrierFault, Crash, CrashKind, DeedAt, Fault, MessageFault};
use crate::play::stage;
use crate::protocol::Scene;
use crate::schedule::Schedule;
use crate::workload::Wish;

/// A story of so many faults and requests is short enough.
const FAULTS_ENOUGH: usize = 3;
const REQUESTS_ENOUGH: usize = 2;
/// Stories tried at most.
const STORIES_MAX: u64 = 12_000;

impl<S: Scene> Shrinker<'_, '_, S> {
    /// Tries short stories if the present one is long.
    pub(super) fn retell(&mut self) -> bool {
        if self.best.faults.len() <= FAULTS_ENOUGH && self.best.wishes.len() <= REQUESTS_ENOUGH {
            return false;
        }
        let casts = self.casts();
        let alone = casts.iter().filter(|cast| cast.len() == 1).cloned().collect();
        let pairs = casts.into_iter().filter(|cast| cast.len() > 1).collect();
        self.tell(alone, 2) || self.tell(pairs, 1)
    }

    /// Tries these casts with so many faults at most, and no more than [`STORIES_MAX`] stories.
    fn tell(&mut self, casts: Vec<Vec<Wish<S::Order>>>, faults_max: usize) -> bool {
        let until = self.runs + STORIES_MAX;
        let stories: Vec<_> = casts.into_iter().map(|wishes| self.calm(wishes)).collect();
        let faults: Vec<Vec<Fault>> = stories.iter().map(|story| self.possible(story)).collect();
        (0..=faults_max).any(|size| {
            stories.iter().zip(&faults).any(|(story, faults)| self.told(story, faults, size, until))
        })
    }

    fn told(&mut self, story: &Schedule<S::Order>, faults: &[Fault], size: usize, until: u64) -> bool {
        let with = |some: &[&Fault]| {
            let faults = some.iter().map(|fault| (*fault).clone()).collect();
            Schedule { faults, ..story.clone() }
        };
        let found = match size {
            0 => self.better(&with(&[])),
            1 => faults.iter().any(|fault| self.runs < until && self.better(&with(&[fault]))),
            _ => faults.iter().enumerate().any(|(at, one)| {
                let others = &faults[at + 1..];
                others.iter().any(|other| self.runs < until && self.better(&with(&[one, other])))
            }),
        };
        if found {
            self.pool.extend(self.best.faults.iter().cloned());
        }
        found
    }

    /// The request that the verdict is about, alone and with each other one; if it is about none, each alone.
    fn casts(&mut self) -> Vec<Vec<Wish<S::Order>>> {
        let about = self.witness().last_request;
        let wishes: Vec<_> =
            self.best.wishes.iter().map(|wish| Wish { after_us: 0, ..wish.clone() }).collect();
        let is_it = |wish: &&Wish<S::Order>| {
            about.is_some_and(|id| (id.client, id.serial) == (wish.id.client, wish.id.serial))
        };
        let Some(hero) = wishes.iter().find(is_it) else {
            return wishes.into_iter().map(|wish| vec![wish]).collect();
        };
        let others = wishes.iter().filter(|wish| wish.id != hero.id);
        let pairs = others.map(|other| vec![hero.clone(), other.clone()]);
        std::iter::once(vec![hero.clone()]).chain(pairs).collect()
    }

    fn calm(&self, wishes: Vec<Wish<S::Order>>) -> Schedule<S::Order> {
        let mut story = Schedule { wishes, faults: Vec::new(), ..self.best.clone() };
        story.plan.timing = crate::plan::Timing::default();
        story.plan.storm_us = story.plan.storm_us.max(500_000);
        story
    }

    /// What can happen to a calm story.
    fn possible(&mut self, story: &Schedule<S::Order>) -> Vec<Fault> {
        self.runs += 1;
        let mut glass = stage(self.player.scene(), story, Witness::default());
        glass.run();
        let witness = &glass.judge().0;
        let mut all = Vec::new();
        for (_, at) in &witness.messages {
            let late = |by_us| MessageFault::Delay { by_us };
            let again = |after_us| MessageFault::Duplicate { after_us };
            let faults = [MessageFault::Lose, late(100_000), late(400_000), again(300_000)];
            all.extend(faults.into_iter().map(|fault| Fault::Message(*at, fault)));
        }
        for at in &witness.barriers {
            all.push(Fault::Barrier(*at, BarrierFault::Slow { by_us: 200_000 }));
            all.push(Fault::Barrier(*at, BarrierFault::Fail(DiskError::Io)));
        }
        for at in witness.deeds() {
            // Boots are alike; what a life does about requests is where stories differ.
            if at.deed.subject().is_some() {
                all.extend(crashes(at));
            }
        }
        all
    }
}

fn crashes(at: DeedAt) -> impl Iterator<Item = Fault> {
    let hows = [CrashKind::PowerCut(Survival::None), CrashKind::Kill { keep_permille: 1000 }];
    let crash = |how| Crash { how, down_us: Some(50_000), damage: None };
    hows.into_iter().map(move |how| Fault::Crash(at, crash(how)))
}
