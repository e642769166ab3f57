//! What is no fault and no request: cluster, time, and what the plan lets happen.

use stormglass::{NodeId, RequestId};

use super::Shrinker;
use super::rename::Names;
use crate::fault::Fault;
use crate::plan::LOG_BYTES;
use crate::protocol::Scene;
use crate::schedule::Schedule;

/// After every record; every other; every other transaction.
pub(super) const SHORT_LOGS_BYTES: [u64; 3] = [1, 100, 400];

impl<S: Scene> Shrinker<'_, '_, S> {
    /// Nobody stays dead, and messages are no bytes.
    pub(super) fn calm_frame(&mut self) -> bool {
        let mut any = false;
        if self.best.plan.wire {
            let mut candidate = self.best.clone();
            candidate.plan.wire = false;
            any |= self.better(&candidate);
        }
        for at in (0..self.best.plan.dead.len()).rev() {
            let mut candidate = self.best.clone();
            candidate.plan.dead.remove(at);
            any |= self.better(&candidate);
        }
        any
    }

    /// A log that is compacted sooner, if the story is long: snapshots then need fewer requests. As usual, if it is short.
    pub(super) fn shorter_log(&mut self) -> bool {
        let (now, short) = (self.best.plan.log_bytes, self.is_short());
        let lengths: &[u64] = if short { &[LOG_BYTES] } else { &SHORT_LOGS_BYTES };
        let better = lengths.iter().filter(|bytes| if short { **bytes != now } else { **bytes < now });
        let with = |log_bytes: &u64| {
            let mut candidate = self.best.clone();
            candidate.plan.log_bytes = *log_bytes;
            candidate
        };
        let mut candidates: Vec<_> = better.map(with).collect();
        if !short && !candidates.is_empty() {
            // A protocol may have no log that is compacted.
            let best = self.best.clone();
            let print = self.fingerprint(&best);
            candidates.retain(|candidate| self.fingerprint(candidate) != print);
        }
        self.first_better(candidates)
    }

    /// Leaves out nodes and clients, one by one; whoever comes behind moves up.
    pub(super) fn fewer_nodes_and_clients(&mut self) -> bool {
        let mut any = false;
        for gone in (0..self.best.plan.nodes).rev().map(NodeId) {
            if self.best.plan.nodes > 1 {
                any |= self.renamed(Some(self.without_node(&self.best, &self.pool, gone)));
            }
        }
        for gone in (1..=self.best.plan.clients).rev() {
            let busy = self.best.wishes.iter().any(|wish| wish.id.client == u64::from(gone));
            if !busy && self.best.plan.clients > 1 {
                any |= self.renamed(self.without_client(gone));
            }
        }
        any | self.renamed(self.counted_from_one())
    }

    fn renamed(&mut self, candidate: Option<(Schedule<S::Order>, Vec<Fault>)>) -> bool {
        let Some((candidate, pool)) = candidate else { return false };
        let better = self.better(&candidate);
        if better {
            self.pool = pool;
        }
        better
    }

    /// A schedule without one of its nodes and whatever it was to do, and a pool in the names of that frame.
    pub(super) fn without_node(
        &self,
        schedule: &Schedule<S::Order>,
        pool: &[Fault],
        gone: NodeId,
    ) -> (Schedule<S::Order>, Vec<Fault>) {
        let nodes = schedule.plan.nodes;
        // Who is not part of the cluster stays so.
        let node = |node: NodeId| match node.0 {
            n if n == gone.0 => None,
            n if n > gone.0 => Some(NodeId(n - 1)),
            _ => Some(node),
        };
        let names = Names { node: &node, client: &Some, request: &|id| id };
        let mut next = schedule.clone();
        next.plan.nodes = nodes - 1;
        next.plan.dead = schedule.plan.dead.iter().filter_map(|dead| node(*dead)).collect();
        let scene = self.player.scene();
        let wishes = schedule.wishes.iter().filter_map(|wish| {
            let mut wish = wish.clone();
            // Whoever asked the one that is gone asks the first.
            wish.node = node(wish.node).unwrap_or(NodeId(0));
            wish.what = scene.renumbered(&wish.what, &node)?;
            Some(wish)
        });
        next.wishes = wishes.collect();
        next.faults = schedule.faults.iter().filter_map(|fault| names.fault(fault)).collect();
        (next, pool.iter().filter_map(|fault| names.fault(fault)).collect())
    }

    fn without_client(&self, gone: u32) -> Option<(Schedule<S::Order>, Vec<Fault>)> {
        let client = |client: u32| match client {
            c if c == gone => None,
            c if c > gone => Some(c - 1),
            c => Some(c),
        };
        let request =
            |id: RequestId| RequestId { client: id.client - u64::from(id.client > u64::from(gone)), ..id };
        let mut next = self.renaming(&client, &request);
        next.0.plan.clients -= 1;
        Some(next)
    }

    /// Each client's requests bear the numbers 1, 2, 3, ...
    fn counted_from_one(&self) -> Option<(Schedule<S::Order>, Vec<Fault>)> {
        let place = |id: RequestId| {
            let before = |other: &RequestId| other.client == id.client && other.serial <= id.serial;
            let ids = self.best.wishes.iter().map(|wish| wish.id);
            let known = self
                .best
                .wishes
                .iter()
                .any(|wish| (wish.id.client, wish.id.serial) == (id.client, id.serial));
            known.then(|| ids.filter(before).count() as u32)
        };
        let request = |id: RequestId| match place(id) {
            Some(serial) => RequestId { serial, ..id },
            // Somebody's whom nobody asks for any more: out of the way.
            None => RequestId { serial: id.serial.saturating_add(1_000_000), ..id },
        };
        let in_order = self.best.wishes.iter().all(|wish| place(wish.id) == Some(wish.id.serial));
        (!in_order).then(|| self.renaming(&Some, &request))
    }

    fn renaming(
        &self,
        client: &dyn Fn(u32) -> Option<u32>,
        request: &dyn Fn(RequestId) -> RequestId,
    ) -> (Schedule<S::Order>, Vec<Fault>) {
        let names = Names { node: &Some, client, request };
        let mut next = self.best.clone();
        next.wishes.iter_mut().for_each(|wish| wish.id = request(wish.id));
        next.faults = self.best.faults.iter().filter_map(|fault| names.fault(fault)).collect();
        let pool = self.pool.iter().filter_map(|fault| names.fault(fault)).collect();
        (next, pool)
    }

    /// A shorter storm.
    pub(super) fn shorter_storm(&mut self) -> bool {
        for storm_us in [10_000, 50_000, 100_000, 200_000, 500_000, 1_000_000] {
            let mut candidate = self.best.clone();
            candidate.plan.storm_us = storm_us;
            if storm_us < self.best.plan.storm_us && self.better(&candidate) {
                return true;
            }
        }
        false
    }

    /// A shorter storm, clients that do not wait, round numbers.
    pub(super) fn less_time(&mut self) -> bool {
        let mut any = self.shorter_storm();
        for at in 0..self.best.wishes.len() {
            let candidates: Vec<_> = rounder(self.best.wishes[at].after_us)
                .map(|after_us| {
                    let mut candidate = self.best.clone();
                    candidate.wishes[at].after_us = after_us;
                    candidate
                })
                .collect();
            any |= self.first_better(candidates);
        }
        any
    }
}

/// Shorter times that are easier to read, the easiest first.
pub(super) fn rounder(us: u64) -> impl Iterator<Item = u64> {
    let steps = [u64::MAX, 100_000, 10_000, 1_000, 100];
    let rounded = steps.into_iter().map(move |step| us / step * step);
    let mut last = None;
    rounded.filter(move |rounded| *rounded < us && last.replace(*rounded) != Some(*rounded))
}
