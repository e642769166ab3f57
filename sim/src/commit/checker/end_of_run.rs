//! What must have happened in the end: L1, L2, L3, AC5, W11, I5.

use stormglass::commit::{Decision, Message, Position};
use stormglass::{FileId, NodeId, TxId};

use super::history::{self, RequestSpan};
use super::{AtomicCommitChecker, RequestState};
use crate::commit::tx_state::{TxState, nodes};
use crate::commit::workload::accounts;
use crate::commit::{RETRY_US, VOTE_TIMEOUT_US};
use crate::property::Violation;

impl AtomicCommitChecker {
    /// L1: R + (T+r)/(1-rho) + 2D + 6s, counted from the clearing or from the beginning of the transaction, whichever
    /// is later. A tenth is the greatest drift there is.
    fn bound_us(&self) -> u64 {
        let timing = &self.plan.timing;
        let is_waiting = (VOTE_TIMEOUT_US + RETRY_US.1) * 10 / 9;
        timing.reboot_us + is_waiting + 2 * timing.latency_us.1 + 6 * timing.sync_us.1
    }

    /// A participant learns the decision: in time?
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
                "{node} learnt what became of {tx} {took} us after the clearing; the bound is {bound} us"
            );
            return Err(Violation::liveness("L1 DecidedInTime", explanation));
        }
        Ok(())
    }

    /// L1: forgotten by its coordinator a further r/(1-rho) + 2D + 4s later.
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
            let explanation =
                format!("{tx} was forgotten {took} us after the clearing; the bound is {bound} us");
            return Err(Violation::liveness("L1 ForgottenInTime", explanation));
        }
        Ok(())
    }

    pub(super) fn count_commit_to_down_node(&mut self, to: NodeId, message: &Message) {
        if self.healed_us.is_some()
            && matches!(message, Message::Commit { .. })
            && self.plan.permanently_down.contains(&to)
        {
            self.tx_states.tx_state(message.tx()).commits_to_down_nodes += 1;
        }
    }

    /// L2: what cannot be forgotten because somebody is dead costs no more than one message per r. (A few more at first,
    /// when the time between repetitions still grows; and clocks may run a tenth too fast.)
    fn check_resend_rate(&self, at_us: u64) -> Result<(), Violation> {
        let Some(healed_us) = self.healed_us else { return Ok(()) };
        let periods = (at_us - healed_us) * 11 / 10 / RETRY_US.1;
        let most = (periods + 4) * self.plan.permanently_down.len() as u64;
        match self
            .tx_states
            .iter()
            .find(|tx_state| u64::from(tx_state.commits_to_down_nodes) > most)
        {
            Some(tx_state) => {
                let (tx, request_state) = (tx_state.tx, tx_state.commits_to_down_nodes);
                let explanation = format!(
                    "the dead were told of {tx} {request_state} times, at most {most} are due"
                );
                Err(Violation::liveness("L2 OneMessagePerRetry", explanation))
            }
            None => Ok(()),
        }
    }

    /// L1, AC5: everything is decided; L3: nothing happens any more by itself; L2: who is still in doubt has a reason.
    pub(super) fn on_quiesced(&mut self, at_us: u64, quiet: bool) -> Result<(), Violation> {
        if !quiet && !self.has_permanently_down_nodes() {
            // A node that has a deadline is one for whom something will happen.
            let explanation = "something still happens, long after the clearing";
            return Err(Violation::liveness("L3 QuietInTheEnd", explanation));
        }
        self.check_resend_rate(at_us)?;
        let mut justified = 0;
        for tx_state in self.tx_states.iter() {
            let tx = tx_state.tx;
            for node in nodes(tx_state.in_doubt()).filter(|node| !self.is_permanently_down(*node)) {
                if !self.is_permanently_down(tx.coordinator) {
                    let explanation =
                        format!("{node} is in doubt about {tx}, and its coordinator is alive");
                    return Err(Violation::liveness("L1 DecidedInTime", explanation));
                }
                if let Some(peer) = self.peer_with_outcome(tx_state, node) {
                    let explanation =
                        format!("{node} is in doubt about {tx}, and {peer} is alive and knows");
                    return Err(Violation::liveness("L2 BlockingIsJustified", explanation));
                }
                justified += 1;
            }
        }
        self.counts.justified += justified;
        self.check_clients_answered(quiet)?;
        self.check_account_total(quiet)
    }

    /// L1, AC5: whoever still asked after the clearing has been told what became of it.
    fn check_clients_answered(&self, quiet: bool) -> Result<(), Violation> {
        if !quiet || self.has_permanently_down_nodes() {
            return Ok(());
        }
        let is_waiting = |request_state: &RequestState| {
            request_state.asked_after_heal
                && !request_state.replied_committed
                && !request_state.replied_aborted
        };
        match self.requests.iter().find(|(_, request_state)| is_waiting(request_state)) {
            None => Ok(()),
            Some((id, _)) => {
                let explanation =
                    format!("the client of {id} asks again and again, and is never told");
                Err(Violation::liveness("L1 EveryClientIsAnswered", explanation))
            }
        }
    }

    /// I5: money is moved, never made: once all is decided, the accounts add up to nothing.
    fn check_account_total(&self, quiet: bool) -> Result<(), Violation> {
        if !quiet || self.has_permanently_down_nodes() {
            return Ok(());
        }
        let of = |node_model: &super::NodeModel| -> i64 {
            accounts().filter_map(|key| node_model.values.get(key)).sum()
        };
        match self.nodes.iter().map(of).sum::<i64>() {
            0 => Ok(()),
            total => Err(Violation::safety(
                "I5 TransfersKeepTheTotal",
                format!("the accounts add up to {total}"),
            )),
        }
    }

    /// L3: logs are bounded. Whoever is quiet has no compaction under way, so one snapshot and one segment are left, no
    /// longer than what makes a node compact.
    pub(super) fn check_logs_bounded(
        &self,
        files: &[(NodeId, FileId, u64)],
    ) -> Result<(), Violation> {
        if !self.probes || self.undetectable_loss {
            return Ok(());
        }
        for node_files in files.chunk_by(|a, b| a.0 == b.0) {
            let node = node_files[0].0;
            let kept = |wanted: fn(&FileId) -> bool| {
                node_files.iter().filter(move |(_, file, _)| wanted(file))
            };
            let log_bytes: u64 =
                kept(|file| matches!(file, FileId::Wal(_))).map(|(_, _, bytes)| bytes).sum();
            let snapshots = kept(|file| matches!(file, FileId::Snapshot(_))).count();
            if log_bytes > self.plan.log_bytes || snapshots > 1 || node_files.len() > 2 {
                let names: Vec<String> =
                    node_files.iter().map(|(_, file, _)| file.to_string()).collect();
                let explanation =
                    format!("{node} is quiet and keeps {}, {log_bytes} B of log", names.join(", "));
                return Err(Violation::liveness("L3 LogsAreBounded", explanation));
            }
        }
        Ok(())
    }

    fn peer_with_outcome(&self, tx_state: &TxState, client_of: NodeId) -> Option<NodeId> {
        let tx = tx_state.tx;
        nodes(tx_state.subordinates & tx_state.terminal_nodes()).find(|peer| {
            let mut received_end_marks = self.nodes[usize::from(peer.0)].received_end_marks.iter();
            let over = received_end_marks.any(|ended| {
                ended.coordinator == tx.coordinator && ended.contains(Position::of(tx))
            });
            *peer != client_of && !over && !self.is_permanently_down(*peer)
        })
    }

    /// W11: what was promised to a client is there, everywhere; L1, AC5: and forgotten by its coordinator; L3: the probe has
    /// committed.
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
                return Err(Violation::safety("W11 CommittedIsForEver", explanation));
            }
            if !tx_state.ended && tx_state.subordinates != 0 {
                let explanation = format!(
                    "{tx} is committed and acknowledged, and its coordinator does not forget it"
                );
                return Err(Violation::liveness("L1 ForgottenInTime", explanation));
            }
        }
        self.check_probe()
    }

    /// I4: the committed transactions have an order that explains every read and write, and agrees with time.
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
        let tx_states = &mut self.tx_states;
        let mut decision_number = |tx| {
            Some(tx_states.tx_state(tx))
                .filter(|tx_state| tx_state.committed)
                .map_or(0, |tx_state| tx_state.decision_number)
        };
        for node_model in &self.nodes {
            node_model.history.edges(&mut decision_number, |(a, b)| out_of_order |= a > b);
        }
        let result = if out_of_order { self.check_no_cycle(&request_spans) } else { Ok(()) };
        self.request_spans = request_spans;
        result
    }

    #[cold]
    fn check_no_cycle(&mut self, request_spans: &[RequestSpan]) -> Result<(), Violation> {
        let mut edges = Vec::new();
        let tx_states = &mut self.tx_states;
        let mut decision_number = |tx| {
            Some(tx_states.tx_state(tx))
                .filter(|tx_state| tx_state.committed)
                .map_or(0, |tx_state| tx_state.decision_number)
        };
        for node_model in &self.nodes {
            node_model.history.edges(&mut decision_number, |edge| edges.push(edge));
        }
        let Some(cycle) = history::cycle(&edges, request_spans) else { return Ok(()) };
        let request_of = |decision_number: &u32| {
            request_spans
                .iter()
                .find(|span| span.decision_number == *decision_number)
                .map(|span| span.request.to_string())
        };
        let names: Vec<String> = cycle.iter().filter_map(request_of).collect();
        let explanation = format!(
            "each of these comes before the next, and the last before the first: {}",
            names.join(", ")
        );
        Err(Violation::safety("I4 StrictlySerialisable", explanation))
    }

    /// L3: a transaction over every key commits, so no lock is left.
    fn check_probe(&mut self) -> Result<(), Violation> {
        let probe = self.requests.iter().filter(|(id, _)| id.serial >= 1_000);
        if self.probes && !probe.clone().any(|(_, request_state)| request_state.replied_committed) {
            return Err(Violation::liveness(
                "L3 NoLockIsLeft",
                "the probe over every key has not committed",
            ));
        }
        self.counts.probes += u64::from(self.probes);
        Ok(())
    }
}
