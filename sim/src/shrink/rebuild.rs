//! The pass that rebuilds a large schedule from one or two of its requests.
//!
//! Removing entries can stop at a local minimum: seventeen requests that delay each other by their
//! locks stay seventeen, although one request and one delayed vote violate the same property. So
//! rebuilding searches small candidates: the request that the violation is about, alone or with one
//! other request, with base timing and with none, one or two candidate faults. It tries small
//! clusters first: they have fewer candidate faults, and their runs are cheaper.

mod candidate_faults;
mod request_sets;

use std::mem;
use std::ops::{Range, RangeInclusive};

use super::{Pass, ScheduleSize, Search, budget};
use crate::fault::Fault;
use crate::protocol::{Protocol, ScheduledRequest};
use crate::schedule::Schedule;
use candidate_faults::{candidate_faults, has_both_kinds};
use request_sets::{Cluster, RequestSet, request_pairs, single_requests};

/// Rebuilds the schedule if it is large. The first run tries only the smallest candidates; each
/// later one tries all, within what is left of the budget.
pub(super) struct Rebuild {
    /// Runs that this pass may still use, weighed as [`Search::work`] does.
    runs_left: u64,
    next: Effort,
}

#[derive(Clone, Copy)]
enum Effort {
    /// One request in its smallest cluster: a success makes all later passes cheap.
    OneRequest,
    /// One or two requests in all clusters, with several log limits.
    Full,
}

impl Rebuild {
    /// The pass for a shrink with at most this many runs.
    pub(super) fn new(runs_max: u64) -> Rebuild {
        Rebuild { runs_left: budget::rebuild_runs(runs_max), next: Effort::OneRequest }
    }
}

impl<P: Protocol> Pass<P> for Rebuild {
    fn name(&self) -> &'static str {
        "rebuild"
    }

    fn run(&mut self, search: &mut Search<'_, '_, P>) -> bool {
        let effort = mem::replace(&mut self.next, Effort::Full);
        let size = ScheduleSize::of(search.best());
        if budget::is_small(size) && budget::has_small_cluster(size) {
            return false;
        }
        match effort {
            Effort::OneRequest => self.rebuild_from_one(search),
            Effort::Full => self.rebuild_from_one_or_two(search),
        }
    }
}

/// Which candidates to try, and how many.
struct Scope<'a, O> {
    request_sets: &'a [RequestSet<O>],
    /// Numbers of candidate faults to add, within 0 to 2.
    faults: RangeInclusive<usize>,
    /// Indices into the clusters of each request set, which are sorted by size.
    clusters: Range<usize>,
    runs_max: u64,
}

impl<'a, O> Scope<'a, O> {
    fn new(
        request_sets: &'a [RequestSet<O>],
        faults: RangeInclusive<usize>,
        clusters: Range<usize>,
        runs_max: u64,
    ) -> Scope<'a, O> {
        Scope { request_sets, faults, clusters, runs_max }
    }
}

/// Indices of the smallest cluster, and of all others.
const SMALLEST_CLUSTER: Range<usize> = 0..1;
const LARGER_CLUSTERS: Range<usize> = 1..usize::MAX;

impl Rebuild {
    fn rebuild_from_one<P: Protocol>(&mut self, search: &mut Search<'_, '_, P>) -> bool {
        let best = search.best().clone();
        let about = search.coordinates(&best).last_request();
        let singles = single_requests(&best, about);
        let runs_max = budget::first_rebuild_runs(self.runs_left);
        let scope = Scope::new(&singles, 0..=2, SMALLEST_CLUSTER, runs_max);
        self.adopt_from(search, &scope, best.plan.log_bytes)
    }

    fn rebuild_from_one_or_two<P: Protocol>(&mut self, search: &mut Search<'_, '_, P>) -> bool {
        let best = search.best().clone();
        let about = search.coordinates(&best).last_request();
        let singles = single_requests(&best, about);
        let pairs = request_pairs(&best, about);
        // Ordered by their cost and by how often they succeed.
        let scopes = [
            Scope::new(&pairs, 0..=1, SMALLEST_CLUSTER, budget::PAIRS_RUNS),
            Scope::new(&pairs, 2..=2, SMALLEST_CLUSTER, budget::TWO_FAULTS_RUNS),
            Scope::new(&singles, 0..=2, SMALLEST_CLUSTER, budget::SINGLES_RUNS),
            Scope::new(&pairs, 0..=1, LARGER_CLUSTERS, budget::LARGER_CLUSTERS_RUNS),
            Scope::new(&singles, 0..=2, LARGER_CLUSTERS, budget::LARGER_CLUSTERS_RUNS),
        ];
        let limits = distinct_log_limits(search);
        for scope in &scopes {
            for log_bytes in &limits {
                if self.adopt_from(search, scope, *log_bytes) {
                    return true;
                }
            }
        }
        false
    }

    /// Tries the candidates of a scope and subtracts the runs from the budget. Whether one was
    /// adopted.
    fn adopt_from<P: Protocol>(
        &mut self,
        search: &mut Search<'_, '_, P>,
        scope: &Scope<'_, P::Request>,
        log_bytes: u64,
    ) -> bool {
        let from = search.work();
        let until = from + scope.runs_max.min(self.runs_left);
        let adopted = adopt_from_until(search, scope, log_bytes, until);
        // Every run asks `has_runs` first, but the last one may count as several.
        self.runs_left = self.runs_left.saturating_sub(search.work() - from);
        adopted
    }
}

/// The log limits whose fault-free runs differ. A protocol that does not compact has only one.
fn distinct_log_limits<P: Protocol>(search: &mut Search<'_, '_, P>) -> Vec<u64> {
    let mut fault_free = Schedule { faults: Vec::new(), ..search.best().clone() };
    let mut limits = Vec::new();
    let mut fingerprints = Vec::new();
    for log_bytes in budget::rebuild_logs_bytes(fault_free.plan.log_bytes) {
        fault_free.plan.log_bytes = log_bytes;
        let fingerprint = search.fingerprint(&fault_free);
        if !fingerprints.contains(&fingerprint) {
            fingerprints.push(fingerprint);
            limits.push(log_bytes);
        }
    }
    limits
}

fn adopt_from_until<P: Protocol>(
    search: &mut Search<'_, '_, P>,
    scope: &Scope<'_, P::Request>,
    log_bytes: u64,
    until: u64,
) -> bool {
    let mut clusters = Vec::new();
    for requests in scope.request_sets {
        clusters.push(Cluster::for_requests(search.best(), requests));
    }
    // In a small schedule only the cluster is too large: a candidate with as many nodes would be no
    // progress.
    let nodes_max = if budget::is_small(ScheduleSize::of(search.best())) {
        budget::SMALL_CLUSTER_NODES_MAX
    } else {
        usize::MAX
    };
    for clusters in &mut clusters {
        clusters.retain(|cluster| {
            (usize::from(search.nodes_min())..=nodes_max).contains(&cluster.len())
        });
    }
    let most = clusters.iter().map(Vec::len).max().unwrap_or(0);
    for nth in scope.clusters.start..most.min(scope.clusters.end) {
        let mut candidates = Vec::new();
        for cluster in clusters.iter().filter_map(|clusters| clusters.get(nth)) {
            if has_runs(search, until) {
                candidates.extend(Candidate::new(search, cluster, log_bytes));
            }
        }
        // Fewer faults first, in all candidates: a fault more multiplies the runs.
        for size in scope.faults.clone() {
            // Each candidate gets an equal share of the remaining runs, so that no candidate uses
            // up the runs of those after it.
            for (candidate, left) in candidates.iter().zip((1..=candidates.len() as u64).rev()) {
                let share = until.saturating_sub(search.work()) / left;
                if candidate.adopt_with_faults(search, size, search.work() + share) {
                    return true;
                }
            }
        }
    }
    false
}

fn has_runs<P: Protocol>(search: &Search<'_, '_, P>, until: u64) -> bool {
    search.work() < until && !search.is_finished()
}

/// A fault-free schedule, and the faults that can be added to it.
struct Candidate<O> {
    schedule: Schedule<O>,
    /// The pool of the search, renumbered for this cluster.
    pool: Vec<Fault>,
    faults: Vec<Fault>,
}

impl<O: ScheduledRequest> Candidate<O> {
    fn new<P: Protocol<Request = O>>(
        search: &mut Search<'_, '_, P>,
        cluster: &Cluster<O>,
        log_bytes: u64,
    ) -> Option<Candidate<O>> {
        let (schedule, pool) = cluster.fault_free(search.best(), search.pool(), log_bytes)?;
        if !search.includes(schedule.plan.nodes, &schedule.faults) {
            return None;
        }
        let coordinates = search.coordinates(&schedule);
        let mut faults = candidate_faults(&search.best().faults, &coordinates);
        faults.retain(|fault| search.includes(schedule.plan.nodes, [fault]));
        Some(Candidate { schedule, pool, faults })
    }

    /// Adopts the schedule with the first `size` of the faults that violate the property.
    fn adopt_with_faults<P: Protocol<Request = O>>(
        &self,
        search: &mut Search<'_, '_, P>,
        size: usize,
        until: u64,
    ) -> bool {
        match size {
            0 => self.adopt_with(search, &[], until),
            1 => self.faults.iter().any(|fault| self.adopt_with(search, &[fault], until)),
            // First the pairs of the same kinds as in the original.
            _ => [true, false].into_iter().any(|same| self.adopt_with_two(search, same, until)),
        }
    }

    /// Whether the original has faults of both kinds must be `same` for each pair that is tried.
    fn adopt_with_two<P: Protocol<Request = O>>(
        &self,
        search: &mut Search<'_, '_, P>,
        same: bool,
        until: u64,
    ) -> bool {
        for (at, one) in self.faults.iter().enumerate() {
            for other in &self.faults[..at] {
                // The pairs are many, and comparing their kinds takes time as well.
                if !has_runs(search, until) {
                    return false;
                }
                if has_both_kinds(&search.best().faults, one, other) == same
                    && self.adopt_with(search, &[other, one], until)
                {
                    return true;
                }
            }
        }
        false
    }

    fn adopt_with<P: Protocol<Request = O>>(
        &self,
        search: &mut Search<'_, '_, P>,
        faults: &[&Fault],
        until: u64,
    ) -> bool {
        if !has_runs(search, until) {
            return false;
        }
        let faults = faults.iter().map(|fault| (*fault).clone()).collect();
        let schedule = Schedule { faults, ..self.schedule.clone() };
        let adopted = search.adopt_with_pool(&schedule, &self.pool);
        if adopted {
            // They are not of the original, but belong to the sets that may suffice.
            search.extend_pool(search.best().faults.clone());
        }
        adopted
    }
}
