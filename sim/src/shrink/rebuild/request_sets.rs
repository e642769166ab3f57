//! The requests and the clusters from which candidates are rebuilt.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BTreeMap;

use stormglass_node::{Micros, NodeId, RequestId};

use crate::fault::Fault;
use crate::plan::Timing;
use crate::protocol::ScheduledRequest;
use crate::schedule::Schedule;
use crate::shrink::budget;
use crate::shrink::renumber::Renumbering;
use crate::workload::PlannedRequest;

/// The requests of a candidate: one or two.
pub(super) type RequestSet<O> = Vec<PlannedRequest<O>>;

/// The request that the violation is about, or each request if it is about none.
pub(super) fn single_requests<O: Clone>(
    schedule: &Schedule<O>,
    about: Option<RequestId>,
) -> Vec<RequestSet<O>> {
    let requests = sent_at_start(schedule);
    if requests.is_empty() {
        // Faults alone may violate the property.
        return vec![Vec::new()];
    }
    match requests.iter().find(|planned| is_subject(planned, about)) {
        Some(planned) => vec![vec![planned.clone()]],
        None => requests.into_iter().map(|planned| vec![planned]).collect(),
    }
}

/// The request that the violation is about with each other request; all pairs if there are few
/// requests or it is about none. Two requests of different clients are tried at the same time and
/// one after the other.
pub(super) fn request_pairs<O: Clone>(
    schedule: &Schedule<O>,
    about: Option<RequestId>,
) -> Vec<RequestSet<O>> {
    let requests = sent_at_start(schedule);
    let all_pairs = requests.len() <= budget::FEW_REQUESTS
        || !requests.iter().any(|planned| is_subject(planned, about));
    let mut pairs = Vec::new();
    for (at, one) in requests.iter().enumerate() {
        for other in &requests[at + 1..] {
            if !all_pairs && !is_subject(one, about) && !is_subject(other, about) {
                continue;
            }
            pairs.push(vec![one.clone(), other.clone()]);
            // A client sends its second request after its first one is answered anyway.
            if one.id.client != other.id.client {
                let other_later = sent_after(other, budget::AFTER_FIRST_REQUEST);
                pairs.push(vec![one.clone(), other_later]);
                let one_later = sent_after(one, budget::AFTER_FIRST_REQUEST);
                pairs.push(vec![one_later, other.clone()]);
            }
        }
    }
    pairs.sort_by_key(|pair| !pair.iter().any(|planned| is_subject(planned, about)));
    // After sorting: the pairs without the request of the violation are the first to go.
    pairs.truncate(budget::PAIRS_MAX);
    pairs
}

fn sent_at_start<O: Clone>(schedule: &Schedule<O>) -> Vec<PlannedRequest<O>> {
    let requests = schedule.requests.iter();
    requests.map(|planned| sent_after(planned, budget::AFTER_BOOT)).collect()
}

fn sent_after<O: Clone>(planned: &PlannedRequest<O>, after: Micros) -> PlannedRequest<O> {
    PlannedRequest { after, ..planned.clone() }
}

/// Whether `about` is an attempt of this request.
fn is_subject<O>(planned: &PlannedRequest<O>, about: Option<RequestId>) -> bool {
    about.is_some_and(|id| (id.client, id.serial) == (planned.id.client, planned.id.serial))
}

/// Some nodes of the cluster, and a request set restricted to operations at them.
pub(super) struct Cluster<O> {
    requests: RequestSet<O>,
    nodes: Vec<NodeId>,
}

impl<O: ScheduledRequest> Cluster<O> {
    /// The clusters for a request set, the smallest first: the nodes that receive the requests and
    /// a few that the requests name; all named nodes; the whole cluster.
    pub(super) fn for_requests(
        schedule: &Schedule<O>,
        requests: &[PlannedRequest<O>],
    ) -> Vec<Cluster<O>> {
        let whole: Vec<NodeId> = (0..schedule.plan.nodes).map(NodeId).collect();
        let mut addressed = whole.clone();
        addressed.retain(|id| requests.iter().any(|planned| planned.node == *id));
        let mut others = named_nodes(requests, schedule.plan.nodes);
        others.retain(|id| !addressed.contains(id));
        let mut clusters: Vec<Cluster<O>> = Vec::new();
        if others.len() > budget::OTHER_NODES {
            let nodes = [&addressed[..], &others[..budget::OTHER_NODES]].concat();
            clusters.extend(Cluster::restricted(schedule, requests, nodes));
        }
        if others.is_empty() {
            // Requests that name no nodes need others all the same, whichever these are.
            others = whole.clone();
            others.retain(|id| !addressed.contains(id));
            others.truncate(budget::OTHER_NODES);
        }
        let nodes = [addressed, others].concat();
        clusters.extend(Cluster::restricted(schedule, requests, nodes));
        if clusters.last().is_none_or(|cluster| cluster.nodes.len() < whole.len()) {
            clusters.push(Cluster { requests: requests.to_vec(), nodes: whole });
        }
        clusters
    }

    /// How many nodes it has.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// `None` if one of the requests becomes empty.
    fn restricted(
        schedule: &Schedule<O>,
        requests: &[PlannedRequest<O>],
        nodes: Vec<NodeId>,
    ) -> Option<Cluster<O>> {
        let mut restricted = Vec::new();
        for planned in requests {
            // A node outside the cluster (an invalid request) stays in the request.
            let request = planned.request.renumbered(&|id| {
                (id.0 >= schedule.plan.nodes || nodes.contains(&id)).then_some(id)
            })?;
            restricted.push(PlannedRequest { request, ..planned.clone() });
        }
        Some(Cluster { requests: restricted, nodes })
    }

    /// The requests in this cluster with base timing and without faults, except that nodes may be
    /// never restarted; and the pool of `schedule`, renumbered for the cluster. `None` if a request
    /// needs a removed node.
    pub(super) fn fault_free(
        &self,
        schedule: &Schedule<O>,
        pool: &[Fault],
        log_bytes: u64,
    ) -> Option<(Schedule<O>, Vec<Fault>)> {
        let mut next =
            Schedule { requests: self.requests.clone(), faults: Vec::new(), ..schedule.clone() };
        next.plan.timing = Timing::default();
        next.plan.fault_phase = next.plan.fault_phase.max(budget::REBUILD_FAULT_PHASE_MIN);
        next.plan.log_bytes = log_bytes;
        let mut pool = pool.to_vec();
        // From the highest number to the lowest: a removal does not renumber those still to come.
        for removed in (0..schedule.plan.nodes).rev().map(NodeId) {
            if !self.nodes.contains(&removed) {
                let renumbering = Renumbering::without_node(removed);
                next = renumbering.schedule(&next);
                pool = renumbering.faults(&pool);
            }
        }
        (next.requests.len() == self.requests.len()).then_some((next, pool))
    }
}

/// The nodes that these requests name, the most frequently named first.
fn named_nodes<O: ScheduledRequest>(requests: &[PlannedRequest<O>], nodes: u16) -> Vec<NodeId> {
    // In a cell: `renumbered` takes a `Fn`, which cannot change a map.
    let times = RefCell::new(BTreeMap::<NodeId, usize>::new());
    for planned in requests {
        // Only to see which nodes it names: each keeps its number.
        planned.request.renumbered(&|id| {
            *times.borrow_mut().entry(id).or_default() += 1;
            Some(id)
        });
    }
    let mut named: Vec<_> = times.into_inner().into_iter().collect();
    named.retain(|(id, _)| id.0 < nodes);
    named.sort_by_key(|(id, times)| (Reverse(*times), *id));
    named.into_iter().map(|(id, _)| id).collect()
}
