//! A long story told afresh: the same claim, broken by one request or two. Tried before anything else, when it is cheap
//! and saves most, and again when leaving out does not help any more.
//!
//! Seventeen requests that only hold each other's locks up are seventeen because nothing among them is called "a vote
//! comes late". So small stories are tried: the request that the verdict is about, alone or with another, base timing,
//! and none, one or two of the faults that can happen to it. They are set among few nodes first: fewer things can happen
//! there, and each try is cheap.

use std::ops::{Range, RangeInclusive};

use stormglass::{NodeId, RequestId};

use super::plan::SHORT_LOGS_BYTES;
use super::{ScheduleSize, Shrinker};
use crate::fault::Fault;
use crate::plan::LOG_BYTES;
use crate::protocol::Scene;
use crate::schedule::Schedule;
use crate::workload::PlannedRequest;

/// A story of so many faults and requests is short enough.
const SMALL_FAULTS_MAX: usize = 3;
const SMALL_REQUESTS_MAX: usize = 2;
/// Stories tried at most, all in all, and no more than a quarter of the runs.
pub(super) const REBUILD_RUNS_MAX: u64 = 30_000;
/// When everybody asks, in microseconds: by then all have booted. Who asks earlier is not heard and asks again much
/// later, when the storm may be over.
const AFTER_BOOT_US: u64 = 10_000;
/// When others ask who shall find the first ones served.
const AFTER_FIRST_REQUEST_US: u64 = 100_000;
/// Among so many requests, any two may be those that matter.
const FEW_REQUESTS: usize = 6;
/// Casts of two tried at most.
const PAIRS_MAX: usize = 60;
/// Beside those who are asked, so many nodes make a small setting: one to be ahead, one to be behind.
const OTHER_NODES: usize = 2;

/// Who wants something.
type RequestSet<O> = Vec<PlannedRequest<O>>;

/// A calm story, and what can happen to it.
struct Candidate<O> {
    schedule: Schedule<O>,
    /// The shrinker's pool, in the names of this frame.
    pool: Vec<Fault>,
    candidate_faults: Vec<Fault>,
}

/// One way of telling it again.
struct Search<'a, O> {
    request_sets: &'a [RequestSet<O>],
    /// With so many faults, none or one or two.
    faults: RangeInclusive<usize>,
    /// In these settings, counted from the smallest.
    clusters: Range<usize>,
    /// In so many stories at most.
    runs_max: u64,
}

/// In the smallest setting, and in all others.
const SMALLEST_CLUSTER: Range<usize> = 0..1;
const LARGER_CLUSTERS: Range<usize> = 1..usize::MAX;

impl<S: Scene> Shrinker<'_, '_, S> {
    /// Tries the shortest stories, of one request in its smallest setting: what they find saves all that follows.
    pub(super) fn rebuild_from_one_request(&mut self) {
        if self.is_small() {
            return;
        }
        let about = self.coordinates().last_request;
        let request_sets = self.single_requests(about);
        let _found = self.run_search(&Search {
            request_sets: &request_sets,
            faults: 0..=2,
            clusters: SMALLEST_CLUSTER,
            runs_max: self.rebuild_runs_left / 5,
        });
    }

    /// Tries short stories if the present one is long: with a log as long as usual, for what only shows before it is
    /// compacted; and with one that is compacted after every record or two, for what otherwise needs many requests.
    pub(super) fn rebuild(&mut self) -> bool {
        if self.is_small() {
            return false;
        }
        let about = self.coordinates().last_request;
        let (single_requests, request_pairs) =
            (self.single_requests(about), self.request_pairs(about));
        let search = |request_sets, faults, clusters, runs_max| Search {
            request_sets,
            faults,
            clusters,
            runs_max,
        };
        // In the order of what they cost and find.
        let searches = [
            search(&request_pairs, 0..=1, SMALLEST_CLUSTER, 2_000),
            search(&request_pairs, 2..=2, SMALLEST_CLUSTER, 2_500),
            search(&single_requests, 0..=2, SMALLEST_CLUSTER, 1_500),
            search(&request_pairs, 0..=1, LARGER_CLUSTERS, 1_000),
            search(&single_requests, 0..=2, LARGER_CLUSTERS, 1_000),
        ];
        let (now, limits) = (self.best.plan.log_bytes, self.distinct_log_limits());
        for search in &searches {
            for log_bytes in &limits {
                self.best.plan.log_bytes = *log_bytes;
                if self.run_search(search) {
                    return true;
                }
                self.best.plan.log_bytes = now;
            }
        }
        false
    }

    /// The lengths of the log that make a difference to these requests: as usual, as it is, compacted after every other
    /// record, after every one. A protocol may have no log that is compacted.
    fn distinct_log_limits(&mut self) -> Vec<u64> {
        let all = [LOG_BYTES, self.best.plan.log_bytes, SHORT_LOGS_BYTES[1], SHORT_LOGS_BYTES[0]];
        let (mut limits, mut fingerprints) = (Vec::new(), Vec::new());
        for log_bytes in all {
            let mut fault_free = Schedule { faults: Vec::new(), ..self.best.clone() };
            fault_free.plan.log_bytes = log_bytes;
            let fingerprint = self.fingerprint(&fault_free);
            if !fingerprints.contains(&fingerprint) {
                fingerprints.push(fingerprint);
                limits.push(log_bytes);
            }
        }
        limits
    }

    pub(super) fn is_small(&self) -> bool {
        let ScheduleSize { faults, requests, .. } = ScheduleSize::of(&self.best);
        faults <= SMALL_FAULTS_MAX && requests <= SMALL_REQUESTS_MAX
    }

    /// Tries one way of telling it.
    fn run_search(&mut self, search: &Search<'_, S::Request>) -> bool {
        let from = self.runs;
        let until = from + search.runs_max.min(self.rebuild_runs_left);
        let reproduces = self.run_search_until(search, until);
        self.rebuild_runs_left = self.rebuild_runs_left.saturating_sub(self.runs - from);
        reproduces
    }

    fn run_search_until(&mut self, search: &Search<'_, S::Request>, until: u64) -> bool {
        let clusters: Vec<_> =
            search.request_sets.iter().map(|request_set| self.clusters(request_set)).collect();
        let most = clusters.iter().map(Vec::len).max().unwrap_or(0).min(search.clusters.end);
        (search.clusters.start..most).any(|nth| {
            let fault_free = clusters.iter().filter_map(|clusters| clusters.get(nth));
            let candidates: Vec<_> = fault_free
                .filter_map(|(request_set, nodes)| {
                    self.has_budget(until).then(|| self.candidate(request_set, nodes))?
                })
                .collect();
            search.faults.clone().any(|size| {
                // None takes the time of those with as many faults that come behind it.
                candidates.iter().zip((1..=candidates.len() as u64).rev()).any(
                    |(candidate, left)| {
                        let share = until.saturating_sub(self.runs) / left;
                        self.reproduces(candidate, size, self.runs + share)
                    },
                )
            })
        })
    }

    fn has_budget(&self, until: u64) -> bool {
        self.runs < until && !self.is_finished()
    }

    /// Whether it breaks the claim with so many of the faults that can happen to it.
    fn reproduces(&mut self, candidate: &Candidate<S::Request>, size: usize, until: u64) -> bool {
        let Candidate { schedule, pool, candidate_faults } = candidate;
        let with = |some: &[&Fault]| {
            let faults = some.iter().map(|fault| (*fault).clone()).collect();
            Schedule { faults, ..schedule.clone() }
        };
        let found = match size {
            0 => self.has_budget(until) && self.better(&with(&[])),
            1 => candidate_faults
                .iter()
                .any(|fault| self.has_budget(until) && self.better(&with(&[fault]))),
            // First those of the same kinds as in the long story.
            _ => [true, false].into_iter().any(|same| {
                candidate_faults.iter().enumerate().any(|(at, one)| {
                    let mut others: Vec<_> = candidate_faults[..at].iter().collect();
                    others.retain(|other| {
                        self.has_budget(until) && self.original_has_both_kinds(one, other) == same
                    });
                    others
                        .into_iter()
                        .any(|other| self.has_budget(until) && self.better(&with(&[other, one])))
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
    fn single_requests(&self, about: Option<RequestId>) -> Vec<RequestSet<S::Request>> {
        let requests = self.sent_at_start();
        let is_subject = |planned: &&PlannedRequest<S::Request>| {
            about.is_some_and(|id| is_attempt_of(planned, id))
        };
        match requests.iter().find(is_subject) {
            Some(planned) => vec![vec![planned.clone()]],
            None => requests.into_iter().map(|planned| vec![planned]).collect(),
        }
    }

    /// The request that the verdict is about with each other one; if there are few, or it is about none, any two. Of two
    /// clients', both at once, or one after the other.
    fn request_pairs(&self, about: Option<RequestId>) -> Vec<RequestSet<S::Request>> {
        let requests = self.sent_at_start();
        let is_subject = |planned: &PlannedRequest<S::Request>| {
            about.is_some_and(|id| is_attempt_of(planned, id))
        };
        let few = requests.len() <= FEW_REQUESTS || !requests.iter().any(is_subject);
        let mut request_pairs = Vec::new();
        for (at, one) in requests.iter().enumerate() {
            for other in requests[at + 1..]
                .iter()
                .filter(|other| few || is_subject(one) || is_subject(other))
            {
                request_pairs.push(vec![one.clone(), other.clone()]);
                if one.id.client != other.id.client {
                    let sent_later = |planned: &PlannedRequest<S::Request>| PlannedRequest {
                        after_us: AFTER_FIRST_REQUEST_US,
                        ..planned.clone()
                    };
                    request_pairs.push(vec![one.clone(), sent_later(other)]);
                    request_pairs.push(vec![sent_later(one), other.clone()]);
                }
            }
        }
        request_pairs.sort_by_key(|pair| !pair.iter().any(is_subject));
        request_pairs.truncate(PAIRS_MAX);
        request_pairs
    }

    fn sent_at_start(&self) -> Vec<PlannedRequest<S::Request>> {
        let sent_at_start = |planned: &PlannedRequest<S::Request>| PlannedRequest {
            after_us: AFTER_BOOT_US,
            ..planned.clone()
        };
        self.best.requests.iter().map(sent_at_start).collect()
    }

    /// Where a cast may play, the smallest setting first: among those who are asked and a few whom that concerns, with no
    /// more to do than concerns them; among all whom it concerns; in the whole cluster.
    fn clusters(
        &self,
        request_set: &[PlannedRequest<S::Request>],
    ) -> Vec<(RequestSet<S::Request>, Vec<NodeId>)> {
        let whole: Vec<NodeId> = (0..self.best.plan.nodes).map(NodeId).collect();
        let addressed: Vec<NodeId> =
            whole.iter().copied().filter(|id| request_set.iter().any(|w| w.node == *id)).collect();
        let mut others = self.named_nodes(request_set);
        others.retain(|id| !addressed.contains(id));
        let with = |others: &[NodeId]| {
            let nodes: Vec<NodeId> = [&addressed[..], others].concat();
            self.restricted_to(request_set, &nodes).map(|request_set| (request_set, nodes))
        };
        let few = (others.len() > OTHER_NODES).then(|| with(&others[..OTHER_NODES])).flatten();
        // A protocol that names no nodes may need them all.
        let all = (!others.is_empty()).then(|| with(&others)).flatten();
        let mut clusters: Vec<_> = few.into_iter().chain(all).collect();
        if clusters.last().is_none_or(|(_, nodes)| nodes.len() < whole.len()) {
            clusters.push((request_set.to_vec(), whole));
        }
        clusters
    }

    /// Whom these orders name, whoever is named most often first.
    fn named_nodes(&self, request_set: &[PlannedRequest<S::Request>]) -> Vec<NodeId> {
        let named = std::cell::RefCell::new(std::collections::BTreeMap::<NodeId, usize>::new());
        let count = |id: NodeId| {
            *named.borrow_mut().entry(id).or_default() += 1;
            Some(id)
        };
        for planned in request_set {
            self.replayer.scene().renumbered(&planned.what, &count);
        }
        let mut named: Vec<_> = named.into_inner().into_iter().collect();
        named.retain(|(id, _)| id.0 < self.best.plan.nodes);
        named.sort_by_key(|(id, times)| (std::cmp::Reverse(*times), *id));
        named.into_iter().map(|(id, _)| id).collect()
    }

    /// The same requests, as far as they concern these nodes; `None` if one then wants nothing.
    fn restricted_to(
        &self,
        request_set: &[PlannedRequest<S::Request>],
        nodes: &[NodeId],
    ) -> Option<RequestSet<S::Request>> {
        // Who is not part of the cluster stays so.
        let kept = |id: NodeId| (id.0 >= self.best.plan.nodes || nodes.contains(&id)).then_some(id);
        let requests = request_set.iter().map(|planned| {
            let what = self.replayer.scene().renumbered(&planned.what, &kept)?;
            Some(PlannedRequest { what, ..planned.clone() })
        });
        requests.collect()
    }

    /// This cast among these nodes, base timing, nothing wrong but that nodes may stay dead; `None` if it cannot do
    /// without the others.
    fn candidate(
        &mut self,
        request_set: &[PlannedRequest<S::Request>],
        nodes: &[NodeId],
    ) -> Option<Candidate<S::Request>> {
        let mut schedule =
            Schedule { requests: request_set.to_vec(), faults: Vec::new(), ..self.best.clone() };
        schedule.plan.timing = crate::plan::Timing::default();
        schedule.plan.fault_phase_us = schedule.plan.fault_phase_us.max(500_000);
        let mut pool = self.pool.clone();
        for removed in (0..schedule.plan.nodes).rev().map(NodeId).filter(|id| !nodes.contains(id)) {
            (schedule, pool) = self.without_node(&schedule, &pool, removed);
        }
        if schedule.requests.len() < request_set.len() {
            return None;
        }
        let candidate_faults = self.candidate_faults(&schedule);
        Some(Candidate { schedule, pool, candidate_faults })
    }
}

/// What a request is, in whichever of its attempts.
fn is_attempt_of<O>(planned: &PlannedRequest<O>, id: RequestId) -> bool {
    (id.client, id.serial) == (planned.id.client, planned.id.serial)
}
