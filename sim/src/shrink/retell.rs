//! A long story told afresh: the same claim, broken by one request or two. Tried before anything else, when it is cheap
//! and saves most, and again when leaving out does not help any more.
//!
//! Seventeen requests that only hold each other's locks up are seventeen because nothing among them is called "a vote
//! comes late". So small stories are tried: the request that the verdict is about, alone or with another, base timing,
//! and none, one or two of the faults that can happen to it. They are set among few nodes first: fewer things can happen
//! there, and each try is cheap.

use std::ops::{Range, RangeInclusive};

use stormglass::{NodeId, RequestId};

use super::frame::SHORT_LOGS_BYTES;
use super::{Shrinker, Size};
use crate::fault::Fault;
use crate::plan::LOG_BYTES;
use crate::protocol::Scene;
use crate::schedule::Schedule;
use crate::workload::Wish;

/// A story of so many faults and requests is short enough.
const FAULTS_ENOUGH: usize = 3;
const REQUESTS_ENOUGH: usize = 2;
/// Stories tried at most, all in all, and no more than a quarter of the runs.
pub(super) const STORIES_MAX: u64 = 30_000;
/// When everybody asks, in microseconds: by then all have booted. Who asks earlier is not heard and asks again much
/// later, when the storm may be over.
const AFTER_BOOT_US: u64 = 10_000;
/// When others ask who shall find the first ones served.
const AFTER_OTHERS_US: u64 = 100_000;
/// Among so many requests, any two may be those that matter.
const FEW_REQUESTS: usize = 6;
/// Casts of two tried at most.
const CASTS_MAX: usize = 60;
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

/// One way of telling it again.
struct Telling<'a, O> {
    casts: &'a [Cast<O>],
    /// With so many faults, none or one or two.
    faults: RangeInclusive<usize>,
    /// In these settings, counted from the smallest.
    settings: Range<usize>,
    /// In so many stories at most.
    stories_max: u64,
}

/// In the smallest setting, and in all others.
const SMALL: Range<usize> = 0..1;
const LARGER: Range<usize> = 1..usize::MAX;

impl<S: Scene> Shrinker<'_, '_, S> {
    /// Tries the shortest stories, of one request in its smallest setting: what they find saves all that follows.
    pub(super) fn retell_in_short(&mut self) {
        if self.is_short() {
            return;
        }
        let about = self.witness().last_request;
        let casts = self.alone(about);
        let _told = self.tell(&Telling {
            casts: &casts,
            faults: 0..=2,
            settings: SMALL,
            stories_max: self.stories_left / 5,
        });
    }

    /// Tries short stories if the present one is long: with a log as long as usual, for what only shows before it is
    /// compacted; and with one that is compacted after every record or two, for what otherwise needs many requests.
    pub(super) fn retell(&mut self) -> bool {
        if self.is_short() {
            return false;
        }
        let about = self.witness().last_request;
        let (alone, pairs) = (self.alone(about), self.pairs(about));
        let telling = |casts, faults, settings, stories_max| Telling { casts, faults, settings, stories_max };
        // In the order of what they cost and find.
        let tellings = [
            telling(&pairs, 0..=1, SMALL, 2_000),
            telling(&pairs, 2..=2, SMALL, 2_500),
            telling(&alone, 0..=2, SMALL, 1_500),
            telling(&pairs, 0..=1, LARGER, 1_000),
            telling(&alone, 0..=2, LARGER, 1_000),
        ];
        let (now, lengths) = (self.best.plan.log_bytes, self.log_lengths());
        for telling in &tellings {
            for log_bytes in &lengths {
                self.best.plan.log_bytes = *log_bytes;
                if self.tell(telling) {
                    return true;
                }
                self.best.plan.log_bytes = now;
            }
        }
        false
    }

    /// The lengths of the log that make a difference to these requests: as usual, as it is, compacted after every other
    /// record, after every one. A protocol may have no log that is compacted.
    fn log_lengths(&mut self) -> Vec<u64> {
        let all = [LOG_BYTES, self.best.plan.log_bytes, SHORT_LOGS_BYTES[1], SHORT_LOGS_BYTES[0]];
        let (mut lengths, mut prints) = (Vec::new(), Vec::new());
        for log_bytes in all {
            let mut calm = Schedule { faults: Vec::new(), ..self.best.clone() };
            calm.plan.log_bytes = log_bytes;
            let print = self.fingerprint(&calm);
            if !prints.contains(&print) {
                prints.push(print);
                lengths.push(log_bytes);
            }
        }
        lengths
    }

    pub(super) fn is_short(&self) -> bool {
        let Size { faults, requests, .. } = Size::of(&self.best);
        faults <= FAULTS_ENOUGH && requests <= REQUESTS_ENOUGH
    }

    /// Tries one way of telling it.
    fn tell(&mut self, telling: &Telling<'_, S::Order>) -> bool {
        let from = self.runs;
        let until = from + telling.stories_max.min(self.stories_left);
        let told = self.tell_until(telling, until);
        self.stories_left = self.stories_left.saturating_sub(self.runs - from);
        told
    }

    fn tell_until(&mut self, telling: &Telling<'_, S::Order>, until: u64) -> bool {
        let settings: Vec<_> = telling.casts.iter().map(|cast| self.settings(cast)).collect();
        let most = settings.iter().map(Vec::len).max().unwrap_or(0).min(telling.settings.end);
        (telling.settings.start..most).any(|nth| {
            let calm = settings.iter().filter_map(|settings| settings.get(nth));
            let stories: Vec<_> = calm
                .filter_map(|(cast, nodes)| self.may_tell(until).then(|| self.story(cast, nodes))?)
                .collect();
            telling.faults.clone().any(|size| {
                // None takes the time of those with as many faults that come behind it.
                stories.iter().zip((1..=stories.len() as u64).rev()).any(|(story, left)| {
                    let share = until.saturating_sub(self.runs) / left;
                    self.told(story, size, self.runs + share)
                })
            })
        })
    }

    fn may_tell(&self, until: u64) -> bool {
        self.runs < until && !self.over()
    }

    /// Whether it breaks the claim with so many of the faults that can happen to it.
    fn told(&mut self, story: &Story<S::Order>, size: usize, until: u64) -> bool {
        let Story { schedule, pool, possible } = story;
        let with = |some: &[&Fault]| {
            let faults = some.iter().map(|fault| (*fault).clone()).collect();
            Schedule { faults, ..schedule.clone() }
        };
        let found = match size {
            0 => self.may_tell(until) && self.better(&with(&[])),
            1 => possible.iter().any(|fault| self.may_tell(until) && self.better(&with(&[fault]))),
            // First those of the same kinds as in the long story.
            _ => [true, false].into_iter().any(|same| {
                possible.iter().enumerate().any(|(at, one)| {
                    let mut others: Vec<_> = possible[..at].iter().collect();
                    others.retain(|other| self.may_tell(until) && self.both_are_in_it(one, other) == same);
                    others.into_iter().any(|other| self.may_tell(until) && self.better(&with(&[other, one])))
                })
            }),
        };
        if found {
            self.pool.clone_from(pool);
            self.pool.extend(self.best.faults.iter().cloned());
        }
        found
    }

    /// The request that the verdict is about; if it is about none, each of them.
    fn alone(&self, about: Option<RequestId>) -> Vec<Cast<S::Order>> {
        let wishes = self.at_once();
        let is_it = |wish: &&Wish<S::Order>| about.is_some_and(|id| is_of(wish, id));
        match wishes.iter().find(is_it) {
            Some(hero) => vec![vec![hero.clone()]],
            None => wishes.into_iter().map(|wish| vec![wish]).collect(),
        }
    }

    /// The request that the verdict is about with each other one; if there are few, or it is about none, any two. Of two
    /// clients', both at once, or one after the other.
    fn pairs(&self, about: Option<RequestId>) -> Vec<Cast<S::Order>> {
        let wishes = self.at_once();
        let is_it = |wish: &Wish<S::Order>| about.is_some_and(|id| is_of(wish, id));
        let few = wishes.len() <= FEW_REQUESTS || !wishes.iter().any(is_it);
        let mut pairs = Vec::new();
        for (at, one) in wishes.iter().enumerate() {
            for other in wishes[at + 1..].iter().filter(|other| few || is_it(one) || is_it(other)) {
                pairs.push(vec![one.clone(), other.clone()]);
                if one.id.client != other.id.client {
                    let later = |wish: &Wish<S::Order>| Wish { after_us: AFTER_OTHERS_US, ..wish.clone() };
                    pairs.push(vec![one.clone(), later(other)]);
                    pairs.push(vec![later(one), other.clone()]);
                }
            }
        }
        pairs.sort_by_key(|pair| !pair.iter().any(is_it));
        pairs.truncate(CASTS_MAX);
        pairs
    }

    fn at_once(&self) -> Vec<Wish<S::Order>> {
        let at_once = |wish: &Wish<S::Order>| Wish { after_us: AFTER_BOOT_US, ..wish.clone() };
        self.best.wishes.iter().map(at_once).collect()
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
        // Who is not part of the cluster stays so.
        let stays = |id: NodeId| (id.0 >= self.best.plan.nodes || nodes.contains(&id)).then_some(id);
        let wishes = cast.iter().map(|wish| {
            let what = self.player.scene().renumbered(&wish.what, &stays)?;
            Some(Wish { what, ..wish.clone() })
        });
        wishes.collect()
    }

    /// This cast among these nodes, base timing, nothing wrong but that nodes may stay dead; `None` if it cannot do
    /// without the others.
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
}

/// What a request is, in whichever of its attempts.
fn is_of<O>(wish: &Wish<O>, id: RequestId) -> bool {
    (id.client, id.serial) == (wish.id.client, wish.id.serial)
}
