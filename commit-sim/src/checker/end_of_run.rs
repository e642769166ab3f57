//! Properties of the end of a run: L1, L2, L3, AC5, W11, I5.

use stormglass::commit::TxId;
use stormglass::commit::{Body, Decision, Message, Position};
use stormglass_node::{FileId, NodeId};

use super::AtomicCommitChecker;
use super::history::{self, RequestSpan};
use crate::tx_state::{TxState, nodes};
use crate::workload::accounts;
use crate::{RETRY_US, VOTE_TIMEOUT_US};
use stormglass_sim::property::Violation;

impl AtomicCommitChecker {
    /// L1: the bound is R + (T+r)/(1-rho) + 2D + 6s, counted from the end of the faults or from the
    /// beginning of the transaction, whichever is later. R is the time to reboot, T the vote
    /// timeout, r the longest retry period, rho = 1/10 the greatest clock drift, D the latency and
    /// s the time of a sync.
    fn bound_us(&self) -> u64 {
        let timing = &self.plan.timing;
        let timers_us = (VOTE_TIMEOUT_US + RETRY_US.1) * 10 / 9;
        timing.reboot_us + timers_us + 2 * timing.latency_us.1 + 6 * timing.sync_us.1
    }

    /// L1: a participant learns the decision within the bound.
    pub(super) fn check_decided_in_time(
        &mut self,
        at_us: u64,
        node: NodeId,
        tx: TxId,
    ) -> Result<(), Violation> {
        let Some(healed_us) = self.healed_us.filter(|_| !self.has_permanently_down_nodes()) else {
            return Ok(());
        };
        let bound = self.bound_us();
        let begun_us = self.tx_states.tx_state(tx).begun_us.max(healed_us);
        let took = at_us.saturating_sub(begun_us);
        self.liveness_bound_used_permille =
            self.liveness_bound_used_permille.max(took * 1000 / bound);
        if took > bound {
            let explanation = format!(
                "{node} learnt the decision of {tx} {took} us after the faults ended; \
                 the bound is {bound} us"
            );
            return Err(Violation::liveness("L1 DecidedInTime", explanation));
        }
        Ok(())
    }

    /// L1: the coordinator forgets a transaction a further r/(1-rho) + 2D + 4s later, at most.
    pub(super) fn check_forgotten_in_time(
        &mut self,
        at_us: u64,
        tx: TxId,
    ) -> Result<(), Violation> {
        let Some(healed_us) = self.healed_us.filter(|_| !self.has_permanently_down_nodes()) else {
            return Ok(());
        };
        let timing = &self.plan.timing;
        let further_us = RETRY_US.1 * 10 / 9 + 2 * timing.latency_us.1 + 4 * timing.sync_us.1;
        let bound = self.bound_us() + further_us;
        let took = at_us.saturating_sub(self.tx_states.tx_state(tx).begun_us.max(healed_us));
        if took > bound {
            let explanation = format!(
                "{tx} was forgotten {took} us after the faults ended; the bound is {bound} us"
            );
            return Err(Violation::liveness("L1 ForgottenInTime", explanation));
        }
        Ok(())
    }

    pub(super) fn count_commit_to_down_node(&mut self, to: NodeId, message: &Message) {
        if self.healed_us.is_some()
            && matches!(message.body, Body::Commit { .. })
            && self.plan.permanently_down.contains(&to)
        {
            self.tx_states.tx_state(message.tx).commits_to_down_nodes += 1;
        }
    }

    /// L2: a transaction that cannot be forgotten, as a participant is permanently down, costs at
    /// most one Commit per retry period and such participant.
    fn check_resend_rate(&self, at_us: u64) -> Result<(), Violation> {
        let Some(healed_us) = self.healed_us else { return Ok(()) };
        // Clocks run up to a tenth too fast. The first periods are shorter than the longest one,
        // hence the 4.
        let periods = (at_us - healed_us) * 11 / 10 / RETRY_US.1;
        let most = (periods + 4) * self.plan.permanently_down.len() as u64;
        match self
            .tx_states
            .iter()
            .find(|tx_state| u64::from(tx_state.commits_to_down_nodes) > most)
        {
            Some(tx_state) => {
                let tx = tx_state.tx;
                let sent = tx_state.commits_to_down_nodes;
                let explanation = format!(
                    "Commit of {tx} was sent {sent} times to permanently down nodes; \
                     at most {most} are allowed"
                );
                Err(Violation::liveness("L2 OneCommitPerRetryPeriod", explanation))
            }
            None => Ok(()),
        }
    }

    /// L1, AC5: every transaction is decided; L3: no timer is set; L2: a node is in doubt only if
    /// its coordinator and every peer that knows the outcome are permanently down.
    pub(super) fn on_quiesced(&mut self, at_us: u64, quiet: bool) -> Result<(), Violation> {
        if !quiet && !self.has_permanently_down_nodes() {
            // Not quiet means that a node has a deadline.
            let explanation =
                "the cluster has not quiesced: a timer is still set long after the faults ended";
            return Err(Violation::liveness("L3 NodesQuiesce", explanation));
        }
        self.check_resend_rate(at_us)?;
        let mut justified = 0;
        for tx_state in self.tx_states.iter() {
            let tx = tx_state.tx;
            for node in nodes(tx_state.in_doubt()).filter(|node| !self.is_permanently_down(*node)) {
                if !self.is_permanently_down(tx.coordinator) {
                    let explanation =
                        format!("{node} is in doubt about {tx}, although its coordinator is up");
                    return Err(Violation::liveness("L1 DecidedInTime", explanation));
                }
                if let Some(peer) = self.peer_with_outcome(tx_state, node) {
                    let explanation = format!(
                        "{node} is in doubt about {tx}, although {peer} is up and knows the outcome"
                    );
                    return Err(Violation::liveness("L2 BlockingIsJustified", explanation));
                }
                justified += 1;
            }
        }
        self.counts.justified += justified;
        self.check_clients_answered(quiet)?;
        self.check_account_total(quiet)
    }

    /// L1, AC5: every request that was asked for after the faults ended has been answered with an
    /// outcome.
    fn check_clients_answered(&self, quiet: bool) -> Result<(), Violation> {
        if !quiet || self.has_permanently_down_nodes() {
            return Ok(());
        }
        let waiting = self.requests.iter().find(|(_, request_state)| {
            request_state.asked_after_heal
                && !request_state.replied_committed
                && !request_state.replied_aborted
        });
        match waiting {
            None => Ok(()),
            Some((id, _)) => {
                let explanation =
                    format!("the client of {id} retries and never receives an outcome");
                Err(Violation::liveness("L1 EveryClientIsAnswered", explanation))
            }
        }
    }

    /// I5: transfers preserve the total: once every transaction is decided, the accounts add up to
    /// 0.
    fn check_account_total(&self, quiet: bool) -> Result<(), Violation> {
        if !quiet || self.has_permanently_down_nodes() {
            return Ok(());
        }
        let mut total = 0;
        for node_model in &self.nodes {
            total += accounts().filter_map(|key| node_model.values.get(key)).sum::<i64>();
        }
        match total {
            0 => Ok(()),
            _ => Err(Violation::safety(
                "I5 TransfersPreserveTheTotal",
                format!("the accounts add up to {total}, not 0"),
            )),
        }
    }

    /// L3: logs are bounded. A quiescent node has no compaction under way, so it keeps at most one
    /// snapshot and one segment, no longer than the size that starts a compaction.
    pub(super) fn check_logs_bounded(
        &self,
        files: &[(NodeId, FileId, u64)],
    ) -> Result<(), Violation> {
        if !self.probes || self.undetectable_loss {
            return Ok(());
        }
        for node_files in files.chunk_by(|a, b| a.0 == b.0) {
            let node = node_files[0].0;
            let mut log_bytes = 0;
            let mut snapshots = 0;
            for (_, file, bytes) in node_files {
                match file {
                    FileId::Wal(_) => log_bytes += *bytes,
                    FileId::Snapshot(_) => snapshots += 1,
                    FileId::Scratch => {}
                }
            }
            if log_bytes > self.plan.log_bytes || snapshots > 1 || node_files.len() > 2 {
                let file_names: Vec<String> =
                    node_files.iter().map(|(_, file, _)| file.to_string()).collect();
                let explanation = format!(
                    "{node} is quiescent and keeps {}, {log_bytes} B of log",
                    file_names.join(", ")
                );
                return Err(Violation::liveness("L3 LogsAreBounded", explanation));
            }
        }
        Ok(())
    }

    /// A peer that must answer an inquiry of `asker` about this transaction: it is not permanently
    /// down, has an outcome record, and has received no end mark of the transaction.
    fn peer_with_outcome(&self, tx_state: &TxState, asker: NodeId) -> Option<NodeId> {
        let tx = tx_state.tx;
        nodes(tx_state.subordinates & tx_state.outcome_nodes()).find(|peer| {
            let mut received_end_marks = self.nodes[usize::from(peer.0)].received_end_marks.iter();
            let ended = received_end_marks
                .any(|mark| mark.coordinator == tx.coordinator && mark.contains(Position::of(tx)));
            *peer != asker && !ended && !self.is_permanently_down(*peer)
        })
    }

    /// W11: every committed transaction is committed at all participants; L1, AC5: its coordinator
    /// has forgotten it; L3: the probe has committed.
    pub(super) fn on_ended(&mut self) -> Result<(), Violation> {
        self.check_serialisable()?;
        if self.has_permanently_down_nodes() {
            return Ok(());
        }
        for tx_state in self.tx_states.iter().filter(|tx_state| tx_state.committed) {
            let tx = tx_state.tx;
            if let Some(node) =
                nodes(tx_state.subordinates & !tx_state.decided(Decision::Committed)).next()
            {
                let explanation = format!("{tx} is committed, but not at {node}");
                return Err(Violation::safety("W11 CommittedIsPermanent", explanation));
            }
            if !tx_state.ended && tx_state.subordinates != 0 {
                let explanation = format!(
                    "{tx} is committed and acknowledged, but its coordinator has not forgotten it"
                );
                return Err(Violation::liveness("L1 ForgottenInTime", explanation));
            }
        }
        self.check_probe()
    }

    /// I4: the committed transactions have a serial order that explains every read and agrees with
    /// real time.
    fn check_serialisable(&mut self) -> Result<(), Violation> {
        let mut request_spans = std::mem::take(&mut self.request_spans);
        request_spans.clear();
        for (request, request_state) in self.requests.iter() {
            let Some(tx) = request_state.committed else { continue };
            let answered_us =
                if request_state.answered_us == 0 { u64::MAX } else { request_state.answered_us };
            let decision_number = self.tx_states.tx_state(tx).decision_number;
            request_spans.push(RequestSpan {
                request,
                decision_number,
                asked_us: request_state.asked_us,
                answered_us,
            });
        }
        let mut out_of_order = history::contradicts_real_time(&mut request_spans);
        for node_model in &self.nodes {
            node_model.history.edges(
                |tx| self.tx_states.decision_number_if_committed(tx),
                |(a, b)| out_of_order |= a > b,
            );
        }
        let result = if out_of_order { self.check_no_cycle(&request_spans) } else { Ok(()) };
        self.request_spans = request_spans;
        result
    }

    #[cold]
    fn check_no_cycle(&mut self, request_spans: &[RequestSpan]) -> Result<(), Violation> {
        let mut edges = Vec::new();
        for node_model in &self.nodes {
            node_model.history.edges(
                |tx| self.tx_states.decision_number_if_committed(tx),
                |edge| edges.push(edge),
            );
        }
        let Some(cycle) = history::cycle(&edges, request_spans) else { return Ok(()) };
        let spans = cycle.iter().filter_map(|decision_number| {
            request_spans.iter().find(|span| span.decision_number == *decision_number)
        });
        let request_ids: Vec<String> = spans.map(|span| span.request.to_string()).collect();
        let explanation = format!(
            "cycle of committed requests (each must precede the next, and the last the first): {}",
            request_ids.join(", ")
        );
        Err(Violation::safety("I4 StrictlySerialisable", explanation))
    }

    /// L3: the probe, a transaction over every key, commits, so no lock remains.
    fn check_probe(&mut self) -> Result<(), Violation> {
        // The serial of the probe is 1,000 above the greatest one of the workload.
        let probe = self.requests.iter().filter(|(id, _)| id.serial >= 1_000);
        if self.probes && !probe.clone().any(|(_, request_state)| request_state.replied_committed) {
            return Err(Violation::liveness(
                "L3 NoLockRemains",
                "the probe over every key has not committed",
            ));
        }
        self.counts.probes += u64::from(self.probes);
        Ok(())
    }
}
