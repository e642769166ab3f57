//! The passes that make the cluster smaller: fewer nodes, fewer clients, low numbers.

use std::cmp::Reverse;

use stormglass_node::NodeId;

use super::other_timing::with_other_timings;
use super::renumber::Renumbering;
use super::{Pass, Search, budget};
use crate::fault::Fault;
use crate::protocol::{Protocol, ScheduledRequest};
use crate::schedule::Schedule;
use crate::workload::ClientId;

/// Moves the schedule to a cluster of a few nodes at once, with other timing.
///
/// Where nodes elect a leader, a cluster without one of them has another majority and other random
/// delays on every link. It elects another leader at another time, and the events that the faults
/// name do not happen. Then no single node can be removed, although a cluster of two or three
/// violates the same property with many timings.
pub(super) struct UseSmallCluster {
    /// Whether clusters are left out that lack a node which a request needs.
    keeps_requests: bool,
}

impl UseSmallCluster {
    /// Only clusters in which all requests are possible.
    pub(super) fn for_all_requests() -> UseSmallCluster {
        UseSmallCluster { keeps_requests: true }
    }

    /// Also clusters without some of the requests.
    pub(super) fn for_some_requests() -> UseSmallCluster {
        UseSmallCluster { keeps_requests: false }
    }
}

impl<P: Protocol> Pass<P> for UseSmallCluster {
    fn name(&self) -> &'static str {
        "use a small cluster"
    }

    fn run(&mut self, search: &mut Search<'_, '_, P>) -> bool {
        let best = search.best().clone();
        let pool = search.pool().to_vec();
        let by_mentions = nodes_by_mentions(&best);
        let nodes_max = (by_mentions.len() - 1).min(budget::SMALL_CLUSTER_NODES_MAX);
        for nodes in usize::from(search.nodes_min())..=nodes_max {
            let (smaller, pool) = restricted_to(&best, &pool, &by_mentions[..nodes]);
            if self.keeps_requests && smaller.requests.len() < best.requests.len() {
                continue;
            }
            let with_faults = with_other_timings(&smaller);
            let mut fault_free = with_faults.clone();
            for candidate in &mut fault_free {
                candidate.faults.clear();
            }
            // Without faults first: if that is enough, no other pass has to remove them.
            if search.adopt_shortest_with_pool(fault_free, &pool)
                || !smaller.faults.is_empty() && search.adopt_shortest_with_pool(with_faults, &pool)
            {
                return true;
            }
        }
        false
    }
}

/// The nodes of the cluster, those that most faults and requests need first.
fn nodes_by_mentions<O: ScheduledRequest>(schedule: &Schedule<O>) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = (0..schedule.plan.nodes).map(NodeId).collect();
    // Cached: renumbering a schedule for each comparison would cost more than the runs.
    nodes.sort_by_cached_key(|node| {
        let without = Renumbering::without_node(*node).schedule(schedule);
        let faults = schedule.faults.len() - without.faults.len();
        let requests = schedule.requests.len() - without.requests.len();
        let received = schedule.requests.iter().filter(|planned| planned.node == *node).count();
        Reverse(faults + requests + received)
    });
    nodes
}

/// The schedule and the pool in a cluster of these nodes alone.
fn restricted_to<O: ScheduledRequest>(
    schedule: &Schedule<O>,
    pool: &[Fault],
    nodes: &[NodeId],
) -> (Schedule<O>, Vec<Fault>) {
    let mut next = schedule.clone();
    let mut pool = pool.to_vec();
    // From the highest number to the lowest: a removal does not renumber those still to come.
    for removed in (0..schedule.plan.nodes).rev().map(NodeId) {
        if !nodes.contains(&removed) {
            let renumbering = Renumbering::without_node(removed);
            next = renumbering.schedule(&next);
            pool = renumbering.faults(&pool);
        }
    }
    (next, pool)
}

/// Removes nodes and clients one by one, and numbers the requests of each client from 1. Those with
/// higher numbers are renumbered.
pub(super) struct DropNodesAndClients;

impl<P: Protocol> Pass<P> for DropNodesAndClients {
    fn name(&self) -> &'static str {
        "drop nodes and clients"
    }

    fn run(&mut self, search: &mut Search<'_, '_, P>) -> bool {
        let mut any = false;
        // From the highest number to the lowest: a removal does not renumber those still to be
        // tried.
        for removed in (0..search.best().plan.nodes).rev().map(NodeId) {
            if search.best().plan.nodes > 1 {
                any |= search.adopt_renumbered(&Renumbering::without_node(removed));
            }
        }
        for removed in ClientId::all(search.best().plan.clients).rev() {
            let mut requests = search.best().requests.iter();
            let has_requests = requests.any(|planned| planned.id.client == u64::from(removed));
            if !has_requests && search.best().plan.clients > 1 {
                any |= search.adopt_renumbered(&Renumbering::without_client(removed));
            }
        }
        if let Some(renumbering) = Renumbering::serials_from_one(search.best()) {
            any |= search.adopt_renumbered(&renumbering);
        }
        any
    }
}
