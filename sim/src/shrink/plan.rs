//! Passes over the plan: cluster size, times, log limit, encoded messages.

use stormglass_node::{NodeId, RequestId};

use super::renumber::Renumbering;
use super::{Shrinker, budget};
use crate::fault::Fault;
use crate::plan::LOG_BYTES;
use crate::protocol::{Protocol, ScheduledRequest};
use crate::schedule::Schedule;

impl<P: Protocol> Shrinker<'_, '_, P> {
    /// Restarts every node after the fault phase, and delivers messages without encoding them.
    pub(super) fn simplify_plan(&mut self) -> bool {
        let mut any = false;
        if self.best.plan.encode_messages {
            let mut candidate = self.best.clone();
            candidate.plan.encode_messages = false;
            any |= self.adopt_if_better(&candidate);
        }
        for at in (0..self.best.plan.permanently_down.len()).rev() {
            let mut candidate = self.best.clone();
            candidate.plan.permanently_down.remove(at);
            any |= self.adopt_if_better(&candidate);
        }
        any
    }

    /// Compacts the log sooner if the schedule is large, since a failure that needs a snapshot then
    /// needs fewer requests. Restores the default limit if the schedule is small.
    pub(super) fn change_log_limit(&mut self) -> bool {
        let now = self.best.plan.log_bytes;
        let short = self.is_small();
        let lengths: &[u64] = if short { &[LOG_BYTES] } else { &budget::SHORT_LOGS_BYTES };
        let changed =
            lengths.iter().filter(|bytes| if short { **bytes != now } else { **bytes < now });
        let mut candidates: Vec<_> = changed
            .map(|log_bytes| {
                let mut candidate = self.best.clone();
                candidate.plan.log_bytes = *log_bytes;
                candidate
            })
            .collect();
        if !short && !candidates.is_empty() {
            // A limit that changes nothing in the run is no progress: a protocol may not compact.
            let best = self.best.clone();
            let fingerprint = self.fingerprint(&best);
            candidates.retain(|candidate| self.fingerprint(candidate) != fingerprint);
        }
        self.adopt_first_better(candidates)
    }

    /// Removes nodes and clients one by one. Those with higher numbers are renumbered.
    pub(super) fn drop_nodes_and_clients(&mut self) -> bool {
        let mut any = false;
        for removed in (0..self.best.plan.nodes).rev().map(NodeId) {
            if self.best.plan.nodes > 1 {
                any |=
                    self.adopt_renumbered(Some(self.without_node(&self.best, &self.pool, removed)));
            }
        }
        for removed in (1..=self.best.plan.clients).rev() {
            let has_requests =
                self.best.requests.iter().any(|planned| planned.id.client == u64::from(removed));
            if !has_requests && self.best.plan.clients > 1 {
                any |= self.adopt_renumbered(self.without_client(removed));
            }
        }
        any | self.adopt_renumbered(self.with_serials_from_one())
    }

    fn adopt_renumbered(&mut self, candidate: Option<(Schedule<P::Request>, Vec<Fault>)>) -> bool {
        let Some((candidate, pool)) = candidate else { return false };
        let adopted = self.adopt_if_better(&candidate);
        if adopted {
            self.pool = pool;
        }
        adopted
    }

    /// The schedule without one node, its faults and the operations at it, and the pool renumbered
    /// for that cluster.
    pub(super) fn without_node(
        &self,
        schedule: &Schedule<P::Request>,
        pool: &[Fault],
        removed: NodeId,
    ) -> (Schedule<P::Request>, Vec<Fault>) {
        let nodes = schedule.plan.nodes;
        let renumbering = Renumbering {
            // A node outside the cluster (an invalid request) gets a number that is still outside.
            node: &|node| match node.0 {
                n if n == removed.0 => None,
                n if n > removed.0 => Some(NodeId(n - 1)),
                _ => Some(node),
            },
            client: &Some,
            request: &|id| id,
        };
        let mut next = schedule.clone();
        next.plan.nodes = nodes - 1;
        let permanently_down = schedule.plan.permanently_down.iter();
        next.plan.permanently_down =
            permanently_down.filter_map(|down| (renumbering.node)(*down)).collect();
        let requests = schedule.requests.iter().filter_map(|planned| {
            let mut planned = planned.clone();
            // Requests to the removed node go to the first one.
            planned.node = (renumbering.node)(planned.node).unwrap_or(NodeId(0));
            planned.request = planned.request.renumbered(renumbering.node)?;
            Some(planned)
        });
        next.requests = requests.collect();
        next.faults = schedule.faults.iter().filter_map(|fault| renumbering.fault(fault)).collect();
        (next, pool.iter().filter_map(|fault| renumbering.fault(fault)).collect())
    }

    fn without_client(&self, removed: u32) -> Option<(Schedule<P::Request>, Vec<Fault>)> {
        let mut next = self.renumbered_schedule(
            &|client| (client != removed).then(|| client - u32::from(client > removed)),
            &|id| RequestId { client: id.client - u64::from(id.client > u64::from(removed)), ..id },
        );
        next.0.plan.clients -= 1;
        Some(next)
    }

    /// Numbers the requests of each client 1, 2, 3, ... `None` if they have these numbers already.
    fn with_serials_from_one(&self) -> Option<(Schedule<P::Request>, Vec<Fault>)> {
        let mut ids = self.best.requests.iter().map(|planned| planned.id);
        let in_order = ids.all(|id| self.new_serial(id) == Some(id.serial));
        (!in_order).then(|| {
            self.renumbered_schedule(&Some, &|id| match self.new_serial(id) {
                Some(serial) => RequestId { serial, ..id },
                // The request is no longer in the schedule: a number that no other request gets.
                None => RequestId { serial: id.serial.saturating_add(1_000_000), ..id },
            })
        })
    }

    fn new_serial(&self, id: RequestId) -> Option<u32> {
        let ids = self.best.requests.iter().map(|planned| planned.id);
        let serials = ids.filter(|other| other.client == id.client).map(|other| other.serial);
        let known = serials.clone().any(|serial| serial == id.serial);
        known.then(|| serials.filter(|serial| *serial <= id.serial).count() as u32)
    }

    fn renumbered_schedule(
        &self,
        client: &dyn Fn(u32) -> Option<u32>,
        request: &dyn Fn(RequestId) -> RequestId,
    ) -> (Schedule<P::Request>, Vec<Fault>) {
        let renumbering = Renumbering { node: &Some, client, request };
        let mut next = self.best.clone();
        next.requests.iter_mut().for_each(|planned| planned.id = request(planned.id));
        next.faults =
            self.best.faults.iter().filter_map(|fault| renumbering.fault(fault)).collect();
        let pool = self.pool.iter().filter_map(|fault| renumbering.fault(fault)).collect();
        (next, pool)
    }

    /// Shortens the fault phase to the first of a few lengths that still violates the property.
    pub(super) fn shorten_fault_phase(&mut self) -> bool {
        for fault_phase_us in budget::FAULT_PHASES_US {
            let mut candidate = self.best.clone();
            candidate.plan.fault_phase_us = fault_phase_us;
            if fault_phase_us < self.best.plan.fault_phase_us && self.adopt_if_better(&candidate) {
                return true;
            }
        }
        false
    }

    /// Shortens the fault phase, and sends requests at earlier or round times.
    pub(super) fn shorten_times(&mut self) -> bool {
        let mut any = self.shorten_fault_phase();
        for at in 0..self.best.requests.len() {
            let candidates: Vec<_> = rounder_times(self.best.requests[at].after_us)
                .map(|after_us| {
                    let mut candidate = self.best.clone();
                    candidate.requests[at].after_us = after_us;
                    candidate
                })
                .collect();
            any |= self.adopt_first_better(candidates);
        }
        any
    }
}

/// Shorter times that are easier to read, the easiest first.
pub(super) fn rounder_times(us: u64) -> impl Iterator<Item = u64> {
    let rounded = budget::ROUND_STEPS_US.into_iter().map(move |step| us / step * step);
    let mut last = None;
    rounded.filter(move |rounded| *rounded < us && last.replace(*rounded) != Some(*rounded))
}
