//! The counters of `sometimes`: what a hunt must have reached for its result to mean anything.

use stormglass::commit::{AbortReason, Position, Refusal, RequestNumber, State};
use stormglass_node::{DiskError, NodeId};

use super::node_set::NodeSet;
use crate::workload::acknowledges_outcomes;
use stormglass_sim::disk::{CutReport, NameLoss};
use stormglass_sim::property::Sometimes;

/// The greatest share of the bound of L1 that a run used: 1000 is the bound itself.
const LIVENESS_BOUND_USED: &str = "liveness bound used, in thousandths (L1)";

/// The counters of one run.
#[derive(Clone, Debug, Default)]
pub(super) struct Coverage {
    commits: u64,
    aborts: Aborts,
    resolved_by_coordinator: u64,
    resolved_by_peer: u64,
    boots_in_doubt: u64,
    /// Nodes of whose log power cuts since the last boot tore a record. Counted once an incarnation
    /// accepts that log.
    log_torn: NodeSet,
    torn_tails: u64,
    /// Nodes in whose log power cuts since the last boot left an intact record after a lost one.
    log_torn_before_intact: NodeSet,
    torn_before_intact: u64,
    lost_renames: u64,
    failed_syncs: u64,
    full_disks: u64,
    prepared_in_snapshot: u64,
    evicted: u64,
    clients_forgotten: u64,
    justified: u64,
    unknown: u64,
    probes: u64,
    inquiries: u64,
    refusals: u64,
    refusals_unreadable: u64,
    refusals_by_peers: u64,
}

/// Requests that were reported as aborted to a client, by the reason of the first such report.
#[derive(Clone, Debug, Default)]
struct Aborts {
    bound: u64,
    overflow: u64,
    conflict: u64,
    aborted_earlier: u64,
    timed_out: u64,
    restarted: u64,
    invalid: u64,
}

impl Coverage {
    /// COMMIT is durable.
    #[inline]
    pub(super) fn on_commit(&mut self) {
        self.commits += 1;
    }

    /// A request is reported as aborted to its client for the first time.
    pub(super) fn on_abort(&mut self, reason: &AbortReason) {
        let Aborts { bound, overflow, conflict, aborted_earlier, timed_out, restarted, invalid } =
            &mut self.aborts;
        let count = match reason {
            AbortReason::Refused { refusal: Refusal::Bound { .. }, .. } => bound,
            AbortReason::Refused { refusal: Refusal::Overflow { .. }, .. } => overflow,
            AbortReason::Refused { refusal: Refusal::Conflict { .. }, .. } => conflict,
            AbortReason::Refused { refusal: Refusal::Aborted, .. } => aborted_earlier,
            AbortReason::TimedOut { .. } => timed_out,
            AbortReason::Restarted => restarted,
            AbortReason::Invalid(_) => invalid,
        };
        *count += 1;
    }

    pub(super) fn on_inquiry(&mut self) {
        self.inquiries += 1;
    }

    /// A transaction in doubt since a boot is resolved by its coordinator.
    pub(super) fn on_resolved_by_coordinator(&mut self) {
        self.resolved_by_coordinator += 1;
    }

    /// A transaction in doubt since a boot is resolved by a peer.
    pub(super) fn on_resolved_by_peer(&mut self) {
        self.resolved_by_peer += 1;
    }

    pub(super) fn on_power_cut(&mut self, node: NodeId, report: &CutReport) {
        let renames = report.names.iter().filter(|loss| matches!(loss, NameLoss::Rename { .. }));
        self.lost_renames += renames.count() as u64;
        // A cut during a boot adds to what the cut before it left.
        if report.has_torn_record() {
            self.log_torn.insert(node);
        }
        if report.has_record_after_a_lost_one() {
            self.log_torn_before_intact.insert(node);
        }
    }

    /// A barrier failed, for this error of the disk; `None` if the disk gave none.
    pub(super) fn on_failed_barrier(&mut self, error: Option<DiskError>) {
        match error {
            Some(DiskError::NoSpace) => self.full_disks += 1,
            // D8: a write has failed, and every later barrier with it. That is no failed sync (D7).
            Some(DiskError::Io) => {}
            None => self.failed_syncs += 1,
        }
    }

    /// A compaction writes a snapshot with prepared transactions.
    pub(super) fn on_prepared_in_snapshot(&mut self) {
        self.prepared_in_snapshot += 1;
    }

    /// An incarnation that recovered this state has its first visible effect.
    pub(super) fn on_incarnation(&mut self, node: NodeId, state: &State) {
        self.boots_in_doubt += u64::from(!state.prepared.is_empty());
        // The floor of such a client rises only by eviction.
        let evicted = state.clients.iter().any(|(client, history)| {
            history.floor > RequestNumber::default() && !acknowledges_outcomes(*client)
        });
        self.evicted += u64::from(evicted);
        self.clients_forgotten += u64::from(state.forgotten_below > Position::default());
        self.torn_tails += u64::from(self.log_torn.remove(node));
        self.torn_before_intact += u64::from(self.log_torn_before_intact.remove(node));
    }

    /// A node refuses to boot from a damaged disk.
    pub(super) fn on_refused(&mut self) {
        self.refusals += 1;
    }

    /// A node refuses to boot, since it cannot read a file.
    pub(super) fn on_refused_unreadable(&mut self) {
        self.refusals_unreadable += 1;
    }

    /// A node halts, since a peer refuses its incarnation.
    pub(super) fn on_refused_by_peers(&mut self) {
        self.refusals_by_peers += 1;
    }

    /// So many nodes are in doubt for a good reason at the end.
    pub(super) fn on_justified_blocking(&mut self, times: u64) {
        self.justified += times;
    }

    /// A client is answered that the outcome is unknown.
    pub(super) fn on_unknown(&mut self) {
        self.unknown += 1;
    }

    pub(super) fn on_probe_committed(&mut self) {
        self.probes += 1;
    }

    /// Adds everything to the counters of a hunt.
    pub(super) fn report(
        &self,
        counters: &mut Sometimes,
        undetectable_loss: bool,
        liveness_bound_used_permille: u64,
    ) {
        let aborts = &self.aborts;
        // All of them, also those at 0: a hunt reports those that no run has raised.
        counters.add("commit", self.commits);
        counters.add("abort: bound violated", aborts.bound);
        counters.add("abort: overflow", aborts.overflow);
        counters.add("abort: conflict", aborts.conflict);
        counters.add("abort: aborted earlier by a participant", aborts.aborted_earlier);
        counters.add("abort: timeout", aborts.timed_out);
        counters.add("abort: coordinator restarted", aborts.restarted);
        counters.add("abort: invalid transaction", aborts.invalid);
        counters.add("boot with transactions in doubt", self.boots_in_doubt);
        counters.add(
            "in doubt after a boot, resolved by the coordinator",
            self.resolved_by_coordinator,
        );
        counters.add("in doubt after a boot, resolved by a peer", self.resolved_by_peer);
        counters.add("inquiry", self.inquiries);
        counters.add("torn tail", self.torn_tails);
        counters.add("torn tail with intact records after it", self.torn_before_intact);
        counters.add("lost rename", self.lost_renames);
        counters.add("failed sync", self.failed_syncs);
        counters.add("disk full", self.full_disks);
        counters.add("snapshot with prepared transactions", self.prepared_in_snapshot);
        counters.add("boot with request log entries evicted by capacity", self.evicted);
        counters.add("boot with forgotten clients", self.clients_forgotten);
        counters.add("justified blocking (coordinator and informed peers down)", self.justified);
        counters.add("outcome unknown", self.unknown);
        counters.add("probe committed", self.probes);
        // Only opt-in profiles change disks at rest. Other profiles must not list these counters: a
        // counter that stays at 0 is reported as never hit.
        if self.refusals > 0 {
            counters.add("boot refused: damaged disk", self.refusals);
        }
        if self.refusals_unreadable > 0 {
            counters.add("boot refused: unreadable file", self.refusals_unreadable);
        }
        if self.refusals_by_peers > 0 {
            counters.add("incarnation refused by its peers", self.refusals_by_peers);
        }
        if undetectable_loss {
            counters.add("damage indistinguishable from a torn tail, checks stopped", 1);
        }
        counters.peak(LIVENESS_BOUND_USED, liveness_bound_used_permille);
    }
}
