//! L1-L3, AC5: once the faults have ended, everything is decided, forgotten and answered in time.
//!
//! AC5 is checked as L1.

use stormglass::commit::{Body, EndedTransactions, Message, Position, TxId};
use stormglass_node::{FileId, Micros, NodeId, ReadDisk};

use super::model::{Model, TxState};
use crate::property::Property;
use crate::sorted_map::SortedMap;
use crate::{RETRY, VOTE_TIMEOUT};
use stormglass_sim::disk::Disk;
use stormglass_sim::plan::Timing;
use stormglass_sim::property::Violation;

/// What the liveness properties need besides the model.
#[derive(Clone, Debug)]
pub(super) struct Liveness {
    /// Whether clients probe at the end of the run, over nodes that compact their logs as
    /// [`Commit`](crate::Commit) configures it (L3).
    probes: bool,
    /// Nodes inquire more often than they need to. Stays over a reset.
    ignores_inquiries: bool,
    /// The greatest share of the bound of L1 that was used, in thousandths.
    bound_used_permille: u64,
    /// How often each node inquired about each transaction since the faults ended (L2).
    inquiries: SortedMap<(TxId, NodeId), u32>,
    /// How often Commit was sent to permanently down nodes since the faults ended, less the answers
    /// to their messages (L2).
    commits_to_down_nodes: SortedMap<TxId, i64>,
    /// By node, the end marks that it received from coordinators. A peer need not answer inquiries
    /// about transactions that it knows to have ended (L2).
    received_end_marks: Vec<Vec<EndedTransactions>>,
}

impl Liveness {
    /// For a run of a cluster of that many nodes, with a probe at its end.
    pub(super) fn new(nodes: usize) -> Liveness {
        Liveness {
            probes: true,
            ignores_inquiries: false,
            bound_used_permille: 0,
            commits_to_down_nodes: SortedMap::default(),
            inquiries: SortedMap::default(),
            received_end_marks: vec![Vec::new(); nodes],
        }
    }

    /// Prepares for a run of a cluster of that many nodes; allocated memory is kept, and so is
    /// whether clients probe, which depends on the workload.
    pub(super) fn reset(&mut self, nodes: usize) {
        let Liveness {
            probes: _,
            ignores_inquiries: _,
            bound_used_permille,
            commits_to_down_nodes,
            inquiries,
            received_end_marks,
        } = self;
        *bound_used_permille = 0;
        commits_to_down_nodes.clear();
        inquiries.clear();
        received_end_marks.iter_mut().for_each(Vec::clear);
        received_end_marks.resize_with(nodes, Vec::new);
    }

    /// The clients do not probe.
    pub(super) fn expect_no_probe(&mut self) {
        self.probes = false;
    }

    /// Nodes inquire more often than they need to.
    pub(super) fn ignore_inquiries(&mut self) {
        self.ignores_inquiries = true;
    }

    pub(super) fn expects_probe(&self) -> bool {
        self.probes
    }

    /// The greatest share of the bound of L1 that was used, in thousandths.
    pub(super) fn bound_used_permille(&self) -> u64 {
        self.bound_used_permille
    }

    /// A coordinator sends Commit.
    #[inline]
    pub(super) fn on_commit_sent(&mut self, to: NodeId, tx: TxId, model: &Model) {
        if model.healed_at().is_some() && model.is_never_restarted(to) {
            *self.commits_to_down_nodes.get_or_default(tx) += 1;
        }
    }

    /// A node in doubt sends Inquire.
    #[inline]
    pub(super) fn on_inquiry_sent(&mut self, from: NodeId, tx: TxId, model: &Model) {
        if model.healed_at().is_some() && !self.ignores_inquiries {
            *self.inquiries.get_or_default((tx, from)) += 1;
        }
    }

    /// A node receives a message, perhaps with an end mark.
    #[inline]
    pub(super) fn on_message_received(
        &mut self,
        node: NodeId,
        from: NodeId,
        message: &Message,
        model: &Model,
    ) {
        // A node that is down for good has sent it before. However many of them a link has held,
        // each is answered.
        if model.healed_at().is_some()
            && model.is_never_restarted(from)
            && matches!(message.body, Body::Vote(_) | Body::Inquire)
        {
            *self.commits_to_down_nodes.get_or_default(message.tx) -= 1;
        }
        // Only the coordinator knows which of its transactions have ended.
        let Some(end_mark) = message.end_mark().filter(|_| message.tx.coordinator == from) else {
            return;
        };
        let received = &mut self.received_end_marks[usize::from(node.0)];
        match received.iter_mut().find(|ended| ended.coordinator == from) {
            Some(ended) => {
                ended.merge(end_mark);
            }
            None => {
                let mut ended = EndedTransactions::none(from);
                ended.merge(end_mark);
                received.push(ended);
            }
        }
    }

    /// L1: a participant learns the decision within the bound.
    #[inline]
    pub(super) fn check_decided_in_time(
        &mut self,
        at: Micros,
        node: NodeId,
        tx: TxId,
        model: &Model,
    ) -> Result<(), Violation> {
        let Some(took) = took_since_heal(at, tx, model) else { return Ok(()) };
        let bound = decision_bound(&model.plan().timing);
        self.bound_used_permille = self.bound_used_permille.max(took.0 * 1000 / bound.0);
        if took <= bound {
            return Ok(());
        }
        let explanation = format!(
            "{node} learnt the decision of {tx} {} us after the faults ended; \
             the bound is {} us",
            took.0, bound.0
        );
        Err(Property::DecidedInTime.violated(explanation))
    }

    /// L1, AC5: every transaction is decided; L3: no timer is set; L2: a node is in doubt only if
    /// its coordinator and every peer that knows the outcome are permanently down. Returns how
    /// often a node is in doubt for that reason.
    pub(super) fn check_quiesced(
        &self,
        at: Micros,
        quiet: bool,
        model: &Model,
    ) -> Result<u64, Violation> {
        // A transaction with a permanently down participant is never forgotten, so its timer stays.
        if !quiet && !model.has_permanently_down_nodes() {
            // Not quiet means that a node has a deadline.
            let explanation =
                "the cluster has not quiesced: a timer is still set long after the faults ended";
            return Err(Property::NodesQuiesce.violated(explanation));
        }
        self.check_resend_rate(at, model)?;
        let mut justified = 0;
        for tx_state in model.transactions() {
            let in_doubt = tx_state.in_doubt().iter();
            for node in in_doubt.filter(|node| !model.is_out_of_service(*node)) {
                self.check_blocking_is_justified(node, tx_state, model)?;
                justified += 1;
            }
        }
        Ok(justified)
    }

    fn check_blocking_is_justified(
        &self,
        node: NodeId,
        tx_state: &TxState,
        model: &Model,
    ) -> Result<(), Violation> {
        let tx = tx_state.tx();
        if !model.is_out_of_service(tx.coordinator) {
            let explanation =
                format!("{node} is in doubt about {tx}, although its coordinator is up");
            return Err(Property::DecidedInTime.violated(explanation));
        }
        let Some(peer) = self.peer_with_outcome(tx_state, node, model) else { return Ok(()) };
        let explanation =
            format!("{node} is in doubt about {tx}, although {peer} is up and knows the outcome");
        Err(Property::BlockingIsJustified.violated(explanation))
    }

    /// A peer that must answer an inquiry of `asker` about this transaction: it is not permanently
    /// down, has an outcome record, and has received no end mark of the transaction.
    fn peer_with_outcome(
        &self,
        tx_state: &TxState,
        asker: NodeId,
        model: &Model,
    ) -> Option<NodeId> {
        let tx = tx_state.tx();
        let informed = tx_state.subordinates().and(tx_state.outcome_nodes());
        informed.iter().find(|peer| {
            let mut received_end_marks = self.received_end_marks[usize::from(peer.0)].iter();
            let ended = received_end_marks
                .any(|mark| mark.coordinator == tx.coordinator && mark.contains(Position::of(tx)));
            *peer != asker && !ended && !model.is_out_of_service(*peer)
        })
    }

    /// L2: a transaction that cannot be forgotten, as a participant is permanently down, costs at
    /// most one Commit per retry period and such participant.
    fn check_resend_rate(&self, at: Micros, model: &Model) -> Result<(), Violation> {
        let Some(healed_at) = model.healed_at() else { return Ok(()) };
        // Clocks run up to a tenth too fast. The first periods are shorter than the longest one,
        // hence the 4.
        let periods = ((at - healed_at) * 11 / 10).0 / RETRY.1.0;
        self.check_inquiry_rate(periods, model)?;
        let most = ((periods + 4) * model.plan().permanently_down.len() as u64) as i64;
        let mut sent_per_tx = self.commits_to_down_nodes.iter();
        let Some((tx, sent)) = sent_per_tx.find(|(_, sent)| **sent > most) else {
            return Ok(());
        };
        let explanation = format!(
            "Commit of {tx} was sent {sent} times to permanently down nodes, answers not counted; \
             at most {most} are allowed"
        );
        Err(Property::OneCommitPerRetryPeriod.violated(explanation))
    }

    /// L2: a node in doubt sends at most one Inquire per retry period to each other participant.
    fn check_inquiry_rate(&self, periods: u64, model: &Model) -> Result<(), Violation> {
        for ((tx, node), sent) in self.inquiries.iter() {
            let others = model.known_transaction(tx).map_or(0, |known| known.subordinates().len());
            let most = (periods + 4) * u64::from(others);
            if u64::from(*sent) > most {
                let explanation =
                    format!("{node} sent {sent} inquiries about {tx}; at most {most} are allowed");
                return Err(Property::OneInquiryPerRetryPeriod.violated(explanation));
            }
        }
        Ok(())
    }
}

/// L2: until the vote timeout, Prepare is sent once and again after each retry period, the first of
/// which is the shortest.
#[inline]
pub(super) fn check_prepare_rate(tx_state: &TxState) -> Result<(), Violation> {
    let most = (VOTE_TIMEOUT.0 / RETRY.0.0 + 1) as u32 * tx_state.subordinates().len();
    let sent = tx_state.prepares();
    if sent <= most {
        return Ok(());
    }
    let explanation =
        format!("Prepare of {} was sent {sent} times; at most {most} are allowed", tx_state.tx());
    Err(Property::OnePreparePerRetryPeriod.violated(explanation))
}

/// L1: the bound is R + (T+r)/(1-rho) + 2D + 6s, counted from the end of the faults or from the
/// beginning of the transaction, whichever is later. R is the time to reboot, T the vote timeout, r
/// the longest retry period, rho = 1/10 the greatest clock drift, D the latency and s the time of a
/// sync.
fn decision_bound(timing: &Timing) -> Micros {
    // 1/(1-rho) = 10/9.
    let timers = (VOTE_TIMEOUT + RETRY.1) * 10 / 9;
    // Only the timers are stretched: they run by the clocks of nodes, all else by true time.
    timing.reboot_time + timers + timing.latency.1 * 2 + timing.sync_time.1 * 6
}

/// The time since the faults ended or the transaction began, whichever is later. `None` if no bound
/// of L1 holds: the faults have not ended, or a permanently down node may be waited for.
#[inline]
fn took_since_heal(at: Micros, tx: TxId, model: &Model) -> Option<Micros> {
    let healed_at = model.healed_at()?;
    if model.has_permanently_down_nodes() {
        return None;
    }
    let begun_at = model.known_transaction(tx).map_or(Micros::ZERO, TxState::begun_at);
    Some(at - begun_at.max(healed_at))
}

/// L1: the coordinator forgets a transaction a further r/(1-rho) + 2D + 4s later, at most.
#[inline]
pub(super) fn check_forgotten_in_time(
    at: Micros,
    tx: TxId,
    model: &Model,
) -> Result<(), Violation> {
    let Some(took) = took_since_heal(at, tx, model) else { return Ok(()) };
    let timing = &model.plan().timing;
    let further = RETRY.1 * 10 / 9 + timing.latency.1 * 2 + timing.sync_time.1 * 4;
    let bound = decision_bound(timing) + further;
    if took <= bound {
        return Ok(());
    }
    let explanation = format!(
        "{tx} was forgotten {} us after the faults ended; the bound is {} us",
        took.0, bound.0
    );
    Err(Property::ForgottenInTime.violated(explanation))
}

/// L1, AC5: at the end of a run, the coordinator has forgotten a committed transaction.
pub(super) fn check_forgotten(tx_state: &TxState) -> Result<(), Violation> {
    // Without subordinates no Ack is awaited, so nothing is left to forget.
    if tx_state.has_ended() || tx_state.subordinates().is_empty() {
        return Ok(());
    }
    let tx = tx_state.tx();
    let explanation =
        format!("{tx} is committed and acknowledged, but its coordinator has not forgotten it");
    Err(Property::ForgottenInTime.violated(explanation))
}

/// L1, AC5: every request that was asked for after the faults ended has been answered with an
/// outcome.
pub(super) fn check_clients_answered(model: &Model) -> Result<(), Violation> {
    let Some((id, _)) = model.requests().find(|(_, request_state)| request_state.is_waiting())
    else {
        return Ok(());
    };
    let explanation = format!("the client of {id} retries and never receives an outcome");
    Err(Property::EveryClientIsAnswered.violated(explanation))
}

/// L3: logs are bounded. A quiescent node has no compaction under way, so it keeps at most one
/// snapshot and one segment, no longer than the size that starts a compaction.
pub(super) fn check_logs_bounded(
    files: &[(NodeId, FileId, u64)],
    model: &Model,
) -> Result<(), Violation> {
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
        // The number of files includes the scratch file, which a quiescent node does not have.
        if log_bytes > model.plan().log_bytes || snapshots > 1 || node_files.len() > 2 {
            let file_names: Vec<String> =
                node_files.iter().map(|(_, file, _)| file.to_string()).collect();
            let explanation = format!(
                "{node} is quiescent and keeps {}, {log_bytes} B of log",
                file_names.join(", ")
            );
            return Err(Property::LogsAreBounded.violated(explanation));
        }
    }
    Ok(())
}

/// L3: a running node begins to write a snapshot only after its segment has become longer than the
/// length at which it is compacted. So a byte of the log is written once more at most, however many
/// records there are.
pub(super) fn check_compaction(node: NodeId, disk: &Disk, model: &Model) -> Result<(), Violation> {
    let files = disk.files().into_iter();
    let newest = files.filter(|file| matches!(file, FileId::Wal(_))).max();
    let log_bytes = newest.and_then(|segment| disk.len(segment)).unwrap_or(0);
    // After a failed write the file is shorter than the node can know.
    if log_bytes > model.plan().log_bytes || disk.first_failure().is_some() {
        return Ok(());
    }
    let explanation = format!(
        "{node} compacts a segment of {log_bytes} B; it may keep up to {} B",
        model.plan().log_bytes
    );
    Err(Property::OnlyLongLogsAreCompacted.violated(explanation))
}

/// L3: the probe, a transaction over every key, commits, so no lock remains.
pub(super) fn check_probe_committed(model: &Model) -> Result<(), Violation> {
    // The serial of the probe is 1,000 above the greatest one of the workload.
    let mut probe = model.requests().filter(|(id, _)| id.serial >= 1_000);
    if probe.any(|(_, request_state)| request_state.answered_at().is_some()) {
        return Ok(());
    }
    Err(Property::NoLockRemains.violated("the probe over every key has not committed"))
}
