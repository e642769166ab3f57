//! When leaving out does not help any more and the story is still long: the same claim, broken in a story of one request or
//! two, told afresh.
//!
//! Seventeen requests that only hold each other's locks up are seventeen because nothing among them is called "a vote
//! comes late". So small stories are tried: the request that the verdict is about, alone or with another, base timing,
//! and none, one or two of the faults that can happen to it. They are set among few nodes first: fewer things can happen
//! there, and each try is cheap.

use stormglass::{DiskError, NodeId};

use super::frame::SHORT_LOGS_BYTES;
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
/// Stories tried at most, each time: at first, when they are cheap, and in the end.
const SHORT_STORIES_MAX: u64 = 6_000;
const STORIES_MAX: u64 = 8_000;
/// When everybody asks, in microseconds: by then all have booted. Who asks earlier is not heard and asks again much
/// later, when the storm may be over.
const AFTER_BOOT_US: u64 = 10_000;
/// Beside those who are asked, so many nodes make a small setting: one to be ahead, one to be behind.
const OTHERS: usize = 2;

/// Who wants something.
type Cast<O> = Vec<Wish<O>>;

/// A calm story, and what can happen to it.
struct Story<O> {
    schedule: Schedule<O>,
    /// The shrinker's pool, in the names of this frame.
    pool: Vec<Fault>,
    possible: Vec<Fault>,
}

impl<S: Scene> Shrinker<'_, '_, S> {
    /// Tries the shortest stories, of one request in its smallest setting: what they find saves all that follows.
    pub(super) fn retell_in_short(&mut self) -> bool {
        if self.is_short() {
            return false;
        }
        let alone = self.casts(1);
        self.tell(&alone, 2, 1, SHORT_STORIES_MAX)
    }

    /// Tries short stories if the present one is long.
    pub(super) fn retell(&mut self) -> bool {
        if self.is_short() {
            return false;
        }
        let (alone, pairs) = (self.casts(1), self.casts(2));
        if self.tell(&alone, 2, usize::MAX, STORIES_MAX) || self.tell(&pairs, 1, usize::MAX, STORIES_MAX) {
            return true;
        }
        // What needs a snapshot needs many requests, unless one comes after every record or two.
        let usual = std::mem::replace(&mut self.best.plan.log_bytes, SHORT_LOGS_BYTES[0]);
        let told = usual > SHORT_LOGS_BYTES[0]
            && (self.tell(&alone, 2, 1, STORIES_MAX) || self.tell(&pairs, 1, 1, STORIES_MAX));
        if !told {
            self.best.plan.log_bytes = usual;
        }
        told
    }

    pub(super) fn is_short(&self) -> bool {
        self.best.faults.len() <= FAULTS_ENOUGH && self.best.wishes.len() <= REQUESTS_ENOUGH
    }

    /// Tries these casts in so many settings, with so many faults at most, and no more stories than that.
    fn tell(
        &mut self,
        casts: &[Cast<S::Order>],
        faults_max: usize,
        settings_max: usize,
        stories_max: u64,
    ) -> bool {
        let until = self.runs + stories_max;
        let settings: Vec<_> = casts.iter().map(|cast| self.settings(cast)).collect();
        let most = settings.iter().map(Vec::len).max().unwrap_or(0).min(settings_max);
        (0..most).any(|nth| {
            let calm = settings.iter().filter_map(|settings| settings.get(nth));
            let stories: Vec<_> = calm.filter_map(|(cast, nodes)| self.story(cast, nodes)).collect();
            (0..=faults_max).any(|size| stories.iter().any(|story| self.told(story, size, until)))
        })
    }

    fn told(&mut self, story: &Story<S::Order>, size: usize, until: u64) -> bool {
        let Story { schedule, pool, possible } = story;
        let with = |some: &[&Fault]| {
            let faults = some.iter().map(|fault| (*fault).clone()).collect();
            Schedule { faults, ..schedule.clone() }
        };
        let found = match size {
            0 => self.better(&with(&[])),
            1 => possible.iter().any(|fault| self.runs < until && self.better(&with(&[fault]))),
            _ => possible.iter().enumerate().any(|(at, one)| {
                let others = &possible[at + 1..];
                others.iter().any(|other| self.runs < until && self.better(&with(&[one, other])))
            }),
        };
        if found {
            self.pool.clone_from(pool);
            self.pool.extend(self.best.faults.iter().cloned());
        }
        found
    }

    /// Casts of so many, one or two: the request that the verdict is about, alone or with each other one; if it is about
    /// none, each alone.
    fn casts(&mut self, size: usize) -> Vec<Cast<S::Order>> {
        let about = self.witness().last_request;
        let at_once = |wish: &Wish<S::Order>| Wish { after_us: AFTER_BOOT_US, ..wish.clone() };
        let wishes: Vec<_> = self.best.wishes.iter().map(at_once).collect();
        let is_it = |wish: &&Wish<S::Order>| {
            about.is_some_and(|id| (id.client, id.serial) == (wish.id.client, wish.id.serial))
        };
        let all: Vec<Cast<S::Order>> = match wishes.iter().find(is_it) {
            None => wishes.into_iter().map(|wish| vec![wish]).collect(),
            Some(hero) => {
                let others = wishes.iter().filter(|wish| wish.id != hero.id);
                let pairs = others.map(|other| vec![hero.clone(), other.clone()]);
                std::iter::once(vec![hero.clone()]).chain(pairs).collect()
            }
        };
        all.into_iter().filter(|cast| cast.len() == size).collect()
    }

    /// Where a cast may play, the smallest setting first: among those who are asked and a few whom that concerns, with no
    /// more to do than concerns them; among all whom it concerns; in the whole cluster.
    fn settings(&self, cast: &[Wish<S::Order>]) -> Vec<(Cast<S::Order>, Vec<NodeId>)> {
        let whole: Vec<NodeId> = (0..self.best.plan.nodes).map(NodeId).collect();
        let asked: Vec<NodeId> =
            whole.iter().copied().filter(|id| cast.iter().any(|w| w.node == *id)).collect();
        let mut others = self.concerned(cast);
        others.retain(|id| !asked.contains(id));
        let with = |others: &[NodeId]| {
            let nodes: Vec<NodeId> = [&asked[..], others].concat();
            self.among(cast, &nodes).map(|cast| (cast, nodes))
        };
        let few = (others.len() > OTHERS).then(|| with(&others[..OTHERS])).flatten();
        // A protocol that names no nodes may need them all.
        let all = (!others.is_empty()).then(|| with(&others)).flatten();
        let mut settings: Vec<_> = few.into_iter().chain(all).collect();
        if settings.last().is_none_or(|(_, nodes)| nodes.len() < whole.len()) {
            settings.push((cast.to_vec(), whole));
        }
        settings
    }

    /// Whom these orders name, whoever is named most often first.
    fn concerned(&self, cast: &[Wish<S::Order>]) -> Vec<NodeId> {
        let named = std::cell::RefCell::new(std::collections::BTreeMap::<NodeId, usize>::new());
        let count = |id: NodeId| {
            *named.borrow_mut().entry(id).or_default() += 1;
            Some(id)
        };
        for wish in cast {
            self.player.scene().renumbered(&wish.what, &count);
        }
        let mut named: Vec<_> = named.into_inner().into_iter().collect();
        named.retain(|(id, _)| id.0 < self.best.plan.nodes);
        named.sort_by_key(|(id, times)| (std::cmp::Reverse(*times), *id));
        named.into_iter().map(|(id, _)| id).collect()
    }

    /// The same requests, as far as they concern these nodes; `None` if one then wants nothing.
    fn among(&self, cast: &[Wish<S::Order>], nodes: &[NodeId]) -> Option<Cast<S::Order>> {
        let stays = |id: NodeId| nodes.contains(&id).then_some(id);
        let wishes = cast.iter().map(|wish| {
            let what = self.player.scene().renumbered(&wish.what, &stays)?;
            Some(Wish { what, ..wish.clone() })
        });
        wishes.collect()
    }

    /// This cast among these nodes, base timing, nothing wrong; `None` if it cannot do without the others.
    fn story(&mut self, cast: &[Wish<S::Order>], nodes: &[NodeId]) -> Option<Story<S::Order>> {
        let mut schedule = Schedule { wishes: cast.to_vec(), faults: Vec::new(), ..self.best.clone() };
        schedule.plan.timing = crate::plan::Timing::default();
        schedule.plan.storm_us = schedule.plan.storm_us.max(500_000);
        let mut pool = self.pool.clone();
        for gone in (0..schedule.plan.nodes).rev().map(NodeId).filter(|id| !nodes.contains(id)) {
            (schedule, pool) = self.without_node(&schedule, &pool, gone);
        }
        if schedule.wishes.len() < cast.len() {
            return None;
        }
        let possible = self.possible(&schedule);
        Some(Story { schedule, pool, possible })
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
        // Boots are alike; what a life does about requests is where stories differ.
        for at in witness.barriers.iter().filter(|at| at.deed.subject().is_some()) {
            all.push(Fault::Barrier(*at, BarrierFault::Slow { by_us: 200_000 }));
            all.push(Fault::Barrier(*at, BarrierFault::Fail(DiskError::Io)));
        }
        for at in witness.deeds().into_iter().filter(|at| at.deed.subject().is_some()) {
            all.extend(crashes(at));
        }
        all
    }
}

/// Back soon, when whoever waits for an answer still waits; or only after the others have asked each other.
fn crashes(at: DeedAt) -> impl Iterator<Item = Fault> {
    let kill = CrashKind::Kill { keep_permille: 1000 };
    let hows = [(CrashKind::PowerCut(Survival::None), 50_000), (kill.clone(), 50_000), (kill, 400_000)];
    let crash = |(how, down_us)| Crash { how, down_us: Some(down_us), damage: None };
    hows.into_iter().map(move |how| Fault::Crash(at, crash(how)))
}
