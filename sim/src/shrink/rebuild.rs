//! Rebuilds a large schedule from one or two of its requests. Runs early, when it saves the most
//! runs, and again when removing entries no longer helps.
//!
//! Removing entries can stop at a local minimum: seventeen requests that delay each other by their
//! locks stay seventeen, although one request and one delayed vote violate the same property. So
//! rebuilding searches small candidates: the request that the violation is about, alone or with one
//! other request, with base timing and with none, one or two candidate
//! faults. It tries small clusters first: they have fewer candidate faults,
//! and their runs are cheaper.

use std::ops::{Range, RangeInclusive};

use stormglass_node::{NodeId, RequestId};

use super::{ScheduleSize, Shrinker, budget};
use crate::fault::Fault;
use crate::protocol::{Protocol, ScheduledRequest};
use crate::schedule::Schedule;
use crate::workload::PlannedRequest;

/// The requests of a candidate: one or two.
type RequestSet<O> = Vec<PlannedRequest<O>>;

/// A fault-free schedule, and the faults that can be added to it.
struct Candidate<O> {
    schedule: Schedule<O>,
    /// The shrinker's pool, renumbered for this cluster.
    pool: Vec<Fault>,
    candidate_faults: Vec<Fault>,
}

impl<O: Clone> Candidate<O> {
    fn with_faults(&self, faults: &[&Fault]) -> Schedule<O> {
        let faults = faults.iter().map(|fault| (*fault).clone()).collect();
        Schedule { faults, ..self.schedule.clone() }
    }
}

/// The bounds of one search.
struct Search<'a, O> {
    request_sets: &'a [RequestSet<O>],
    /// Numbers of candidate faults to add, within 0 to 2.
    faults: RangeInclusive<usize>,
    /// Indices into the clusters of each request set, which are sorted by size.
    clusters: Range<usize>,
    runs_max: u64,
}

impl<'a, O> Search<'a, O> {
    fn new(
        request_sets: &'a [RequestSet<O>],
        faults: RangeInclusive<usize>,
        clusters: Range<usize>,
        runs_max: u64,
    ) -> Search<'a, O> {
        Search { request_sets, faults, clusters, runs_max }
    }
}

/// Indices of the smallest cluster, and of all others.
const SMALLEST_CLUSTER: Range<usize> = 0..1;
const LARGER_CLUSTERS: Range<usize> = 1..usize::MAX;

impl<P: Protocol> Shrinker<'_, '_, P> {
    /// Searches the smallest candidates, with one request in its smallest cluster. A success makes
    /// all later passes cheap.
    pub(super) fn rebuild_from_one_request(&mut self) {
        if self.is_small() {
            return;
        }
        let about = self.coordinates().last_request();
        let request_sets = self.single_requests(about);
        let _found = self.run_search(&Search {
            request_sets: &request_sets,
            faults: 0..=2,
            clusters: SMALLEST_CLUSTER,
            runs_max: budget::first_rebuild_runs(self.rebuild_runs_left),
        });
    }

    /// Searches small candidates if `best` is large. Whether one was adopted. Tries the default log
    /// limit, for failures before a compaction, and limits that compact the log after every record
    /// or two, for failures that otherwise need many requests.
    pub(super) fn rebuild(&mut self) -> bool {
        if self.is_small() {
            return false;
        }
        let about = self.coordinates().last_request();
        let single_requests = self.single_requests(about);
        let request_pairs = self.request_pairs(about);
        // Ordered by their cost and by how often they succeed.
        let searches = [
            Search::new(&request_pairs, 0..=1, SMALLEST_CLUSTER, budget::PAIRS_RUNS),
            Search::new(&request_pairs, 2..=2, SMALLEST_CLUSTER, budget::TWO_FAULTS_RUNS),
            Search::new(&single_requests, 0..=2, SMALLEST_CLUSTER, budget::SINGLES_RUNS),
            Search::new(&request_pairs, 0..=1, LARGER_CLUSTERS, budget::LARGER_CLUSTERS_RUNS),
            Search::new(&single_requests, 0..=2, LARGER_CLUSTERS, budget::LARGER_CLUSTERS_RUNS),
        ];
        let now = self.best.plan.log_bytes;
        let limits = self.distinct_log_limits();
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

    /// The log limits whose fault-free runs differ, out of: the default, the present one,
    /// compaction after every other record, and after every record. A protocol that does not
    /// compact has only one.
    fn distinct_log_limits(&mut self) -> Vec<u64> {
        let all = budget::rebuild_logs_bytes(self.best.plan.log_bytes);
        let mut limits = Vec::new();
        let mut fingerprints = Vec::new();
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
        budget::is_small(ScheduleSize::of(&self.best))
    }

    /// Runs one search and subtracts its runs from the budget. Whether a candidate was adopted.
    fn run_search(&mut self, search: &Search<'_, P::Request>) -> bool {
        let from = self.runs;
        let until = from + search.runs_max.min(self.rebuild_runs_left);
        let reproduces = self.run_search_until(search, until);
        self.rebuild_runs_left = self.rebuild_runs_left.saturating_sub(self.runs - from);
        reproduces
    }

    fn run_search_until(&mut self, search: &Search<'_, P::Request>, until: u64) -> bool {
        let clusters: Vec<_> =
            search.request_sets.iter().map(|request_set| self.clusters(request_set)).collect();
        let end = clusters.iter().map(Vec::len).max().unwrap_or(0).min(search.clusters.end);
        (search.clusters.start..end).any(|nth| {
            let fault_free = clusters.iter().filter_map(|clusters| clusters.get(nth));
            let candidates: Vec<_> = fault_free
                .filter_map(|(request_set, nodes)| {
                    self.has_budget(until).then(|| self.candidate(request_set, nodes))?
                })
                .collect();
            search.faults.clone().any(|size| {
                // Each candidate gets an equal share of the remaining runs, so that no candidate
                // uses up the runs of those after it.
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

    /// Whether the candidate violates the property with `size` of its candidate faults; then it is
    /// adopted.
    fn reproduces(&mut self, candidate: &Candidate<P::Request>, size: usize, until: u64) -> bool {
        let Candidate { pool, candidate_faults, .. } = candidate;
        let found = match size {
            0 => self.has_budget(until) && self.adopt_if_better(&candidate.with_faults(&[])),
            1 => candidate_faults.iter().any(|fault| {
                self.has_budget(until) && self.adopt_if_better(&candidate.with_faults(&[fault]))
            }),
            // First the pairs of the same kinds as in the original.
            _ => [true, false].into_iter().any(|same| {
                candidate_faults.iter().enumerate().any(|(at, one)| {
                    let mut others: Vec<_> = candidate_faults[..at].iter().collect();
                    others.retain(|other| {
                        self.has_budget(until) && self.original_has_both_kinds(one, other) == same
                    });
                    others.into_iter().any(|other| {
                        self.has_budget(until)
                            && self.adopt_if_better(&candidate.with_faults(&[other, one]))
                    })
                })
            }),
        };
        if found {
            self.pool.clone_from(pool);
            self.pool.extend(self.best.faults.iter().cloned());
        }
        found
    }

    /// The request that the violation is about, or each request if it is about none.
    fn single_requests(&self, about: Option<RequestId>) -> Vec<RequestSet<P::Request>> {
        let requests = self.sent_at_start();
        match requests.iter().find(|planned| is_subject(planned, about)) {
            Some(planned) => vec![vec![planned.clone()]],
            None => requests.into_iter().map(|planned| vec![planned]).collect(),
        }
    }

    /// The request that the violation is about with each other request; all pairs if there are few
    /// requests or it is about none. Two requests of different clients are tried at the same time
    /// and one after the other.
    fn request_pairs(&self, about: Option<RequestId>) -> Vec<RequestSet<P::Request>> {
        let requests = self.sent_at_start();
        let few = requests.len() <= budget::FEW_REQUESTS
            || !requests.iter().any(|planned| is_subject(planned, about));
        let mut request_pairs = Vec::new();
        for (at, one) in requests.iter().enumerate() {
            for other in requests[at + 1..]
                .iter()
                .filter(|other| few || is_subject(one, about) || is_subject(other, about))
            {
                request_pairs.push(vec![one.clone(), other.clone()]);
                if one.id.client != other.id.client {
                    let other_later = sent_after(other, budget::AFTER_FIRST_REQUEST_US);
                    request_pairs.push(vec![one.clone(), other_later]);
                    let one_later = sent_after(one, budget::AFTER_FIRST_REQUEST_US);
                    request_pairs.push(vec![one_later, other.clone()]);
                }
            }
        }
        request_pairs.sort_by_key(|pair| !pair.iter().any(|planned| is_subject(planned, about)));
        request_pairs.truncate(budget::PAIRS_MAX);
        request_pairs
    }

    fn sent_at_start(&self) -> Vec<PlannedRequest<P::Request>> {
        self.best
            .requests
            .iter()
            .map(|planned| sent_after(planned, budget::AFTER_BOOT_US))
            .collect()
    }

    /// The clusters for a request set, the smallest first, with the requests restricted to them:
    /// the nodes that receive the requests and a few that the requests name; all named nodes; the
    /// whole cluster.
    fn clusters(
        &self,
        request_set: &[PlannedRequest<P::Request>],
    ) -> Vec<(RequestSet<P::Request>, Vec<NodeId>)> {
        let whole: Vec<NodeId> = (0..self.best.plan.nodes).map(NodeId).collect();
        let addressed: Vec<NodeId> =
            whole.iter().copied().filter(|id| request_set.iter().any(|w| w.node == *id)).collect();
        let mut others = self.named_nodes(request_set);
        others.retain(|id| !addressed.contains(id));
        let mut clusters: Vec<(RequestSet<P::Request>, Vec<NodeId>)> = Vec::new();
        if others.len() > budget::OTHER_NODES {
            let nodes = [&addressed[..], &others[..budget::OTHER_NODES]].concat();
            clusters.extend(self.restricted_to(request_set, nodes));
        }
        // Requests that name no nodes may still need all nodes: then only the whole cluster is
        // left.
        if !others.is_empty() {
            clusters.extend(self.restricted_to(request_set, [addressed, others].concat()));
        }
        if clusters.last().is_none_or(|(_, nodes)| nodes.len() < whole.len()) {
            clusters.push((request_set.to_vec(), whole));
        }
        clusters
    }

    /// The nodes that these requests name, the most frequently named first.
    fn named_nodes(&self, request_set: &[PlannedRequest<P::Request>]) -> Vec<NodeId> {
        let named = std::cell::RefCell::new(std::collections::BTreeMap::<NodeId, usize>::new());
        for planned in request_set {
            planned.request.renumbered(&|id| {
                *named.borrow_mut().entry(id).or_default() += 1;
                Some(id)
            });
        }
        let mut named: Vec<_> = named.into_inner().into_iter().collect();
        named.retain(|(id, _)| id.0 < self.best.plan.nodes);
        named.sort_by_key(|(id, times)| (std::cmp::Reverse(*times), *id));
        named.into_iter().map(|(id, _)| id).collect()
    }

    /// The requests restricted to operations at these nodes, and the nodes; `None` if one of the
    /// requests becomes empty.
    fn restricted_to(
        &self,
        request_set: &[PlannedRequest<P::Request>],
        nodes: Vec<NodeId>,
    ) -> Option<(RequestSet<P::Request>, Vec<NodeId>)> {
        let mut restricted = Vec::new();
        for planned in request_set {
            // A node outside the cluster (an invalid request) stays in the request.
            let request = planned.request.renumbered(&|id| {
                (id.0 >= self.best.plan.nodes || nodes.contains(&id)).then_some(id)
            })?;
            restricted.push(PlannedRequest { request, ..planned.clone() });
        }
        Some((restricted, nodes))
    }

    /// A candidate of these requests and nodes with base timing and without faults, except that
    /// nodes may be never restarted; `None` if a request needs a removed node.
    fn candidate(
        &mut self,
        request_set: &[PlannedRequest<P::Request>],
        nodes: &[NodeId],
    ) -> Option<Candidate<P::Request>> {
        let mut schedule =
            Schedule { requests: request_set.to_vec(), faults: Vec::new(), ..self.best.clone() };
        schedule.plan.timing = crate::plan::Timing::default();
        schedule.plan.fault_phase_us =
            schedule.plan.fault_phase_us.max(budget::REBUILD_FAULT_PHASE_US_MIN);
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

/// Whether `about` is an attempt of this request.
fn is_subject<O>(planned: &PlannedRequest<O>, about: Option<RequestId>) -> bool {
    about.is_some_and(|id| (id.client, id.serial) == (planned.id.client, planned.id.serial))
}

fn sent_after<O: Clone>(planned: &PlannedRequest<O>, after_us: u64) -> PlannedRequest<O> {
    PlannedRequest { after_us, ..planned.clone() }
}
