//! W1-W5 and W10: an effect that depends on a record follows the record.
//!
//! Each message is checked at the moment of sending against the records that are durable then: a
//! record is durable if it would survive the worst power cut at that moment.

use stormglass::commit::{Decision, InquiryReply, TxId};
use stormglass_node::{Incarnation, NodeId, RequestId};

use super::model::{RecordStatus, TxState};
use super::node_set::NodeSet;
use crate::property::Property;
use crate::sorted_map::SortedMap;
use stormglass_sim::property::Violation;

/// What these properties need besides the state of a transaction.
#[derive(Clone, Debug, Default)]
pub(super) struct WriteAhead {
    /// Nodes whose present incarnation was notified of a failed barrier.
    failed: NodeSet,
    /// By node, the incarnations of its peers that it remembers durably.
    met: Vec<SortedMap<NodeId, Incarnation>>,
}

impl WriteAhead {
    /// For a run of a cluster of that many nodes.
    pub(super) fn new(nodes: usize) -> WriteAhead {
        let mut write_ahead = WriteAhead::default();
        write_ahead.reset(nodes);
        write_ahead
    }

    /// Prepares for a run of a cluster of that many nodes; allocated memory is kept.
    pub(super) fn reset(&mut self, nodes: usize) {
        let WriteAhead { failed, met } = self;
        *failed = NodeSet::default();
        met.resize_with(nodes, SortedMap::default);
        met.iter_mut().for_each(SortedMap::clear);
    }

    /// An incarnation of the node begins, and remembers these incarnations.
    pub(super) fn begin_incarnation(
        &mut self,
        node: NodeId,
        remembered: impl Iterator<Item = (NodeId, Incarnation)>,
    ) {
        let met = &mut self.met[usize::from(node.0)];
        met.clear();
        for (peer, incarnation) in remembered {
            met.insert(peer, incarnation);
        }
    }

    /// MET is durable. `about` names the peer and its incarnation.
    pub(super) fn on_met_durable(&mut self, node: NodeId, about: TxId) {
        self.met[usize::from(node.0)].insert(about.coordinator, about.incarnation);
    }

    /// W10: what Remembered says is durable.
    pub(super) fn check_remembered(&self, node: NodeId, about: TxId) -> Result<(), Violation> {
        let TxId { coordinator: peer, incarnation, .. } = about;
        if self.met[usize::from(node.0)].get(peer) == Some(&incarnation) {
            return Ok(());
        }
        let explanation =
            format!("{node} says that it remembers {peer} as {incarnation} before MET is durable");
        Err(Property::MetIsDurableBeforeRemembered.violated(explanation))
    }

    pub(super) fn on_failed_barrier(&mut self, node: NodeId) {
        self.failed.insert(node);
    }

    pub(super) fn on_crash(&mut self, node: NodeId) {
        // The next incarnation has had no failed barrier of its own.
        self.failed.remove(node);
    }

    /// W10: an incarnation has no effect after a failed barrier. What the disk holds of the failed
    /// writes is unknown, and no later barrier tells.
    #[inline]
    pub(super) fn check_effect(&self, node: NodeId) -> Result<(), Violation> {
        if self.failed.contains(node) { Err(effect_after_failure(node)) } else { Ok(()) }
    }
}

#[cold]
fn effect_after_failure(node: NodeId) -> Violation {
    let explanation = format!("{node} produced an effect after a failed barrier");
    Property::NoEffectAfterAFailedSync.violated(explanation)
}

/// W1: the Prepared record is durable before the Yes vote is sent.
#[inline]
pub(super) fn check_yes(node: NodeId, tx_state: &TxState) -> Result<(), Violation> {
    if tx_state.prepared(node) == RecordStatus::Durable {
        return Ok(());
    }
    let tx = tx_state.tx();
    let explanation = format!("{node} votes Yes on {tx} before its Prepared record is durable");
    Err(Property::PreparedIsDurableBeforeYes.violated(explanation))
}

/// W2: COMMIT is durable before its coordinator sends Commit.
#[inline]
pub(super) fn check_commit(node: NodeId, tx_state: &TxState) -> Result<(), Violation> {
    let tx = tx_state.tx();
    if tx.coordinator == node && tx_state.commit() == RecordStatus::Durable {
        return Ok(());
    }
    let explanation = format!("{node} sends Commit of {tx} before its Commit record is durable");
    Err(Property::CommitIsDurableFirst.violated(explanation))
}

/// W2: COMMIT is durable before the request is reported as committed. `tx_state` is that of the
/// transaction that committed the request, if there is one. Returns that transaction.
#[inline]
pub(super) fn check_reported_committed(
    node: NodeId,
    id: RequestId,
    tx_state: Option<&TxState>,
) -> Result<TxId, Violation> {
    if let Some(tx_state) = tx_state {
        // A coordinator that recovered from a snapshot remembers the request without COMMIT, which
        // was durable once.
        if tx_state.commit() == RecordStatus::Durable || tx_state.is_committed() {
            return Ok(tx_state.tx());
        }
    }
    let explanation = format!(
        "{node} reports {id} as committed to the client before its Commit record is durable"
    );
    Err(Property::CommitIsDurableFirst.violated(explanation))
}

/// W3: the outcome record is durable before Ack.
#[inline]
pub(super) fn check_ack(node: NodeId, tx_state: &TxState) -> Result<(), Violation> {
    let durable = tx_state.outcome(node) == Some((Decision::Committed, RecordStatus::Durable));
    // A node without a record may acknowledge a transaction that every subordinate has
    // acknowledged: it committed the transaction and then forgot it.
    let all_acked =
        tx_state.decided(Decision::Committed).contains(node) && tx_state.missing_acks().is_empty();
    if durable || all_acked {
        return Ok(());
    }
    let tx = tx_state.tx();
    let explanation = format!("{node} acknowledges {tx} before its outcome is durable");
    Err(Property::OutcomeIsDurableBeforeAck.violated(explanation))
}

/// W4: the coordinator forgets a commit only after the Acks of all distinct participants.
#[inline]
pub(super) fn check_end(tx_state: &TxState) -> Result<(), Violation> {
    let Some(missing) = tx_state.missing_acks().first() else { return Ok(()) };
    let tx = tx_state.tx();
    let explanation = format!("{} forgets {tx} before {missing} has acknowledged", tx.coordinator);
    Err(Property::ForgetAfterAllAcks.violated(explanation))
}

/// W5: only the transaction's coordinator sends Abort, and never with a COMMIT in its log unless W4
/// has allowed END.
#[inline]
pub(super) fn check_abort(node: NodeId, tx_state: &TxState) -> Result<(), Violation> {
    let tx = tx_state.tx();
    if tx.coordinator != node {
        let explanation = format!("{node} sends Abort of {tx}, but does not coordinate it");
        return Err(Property::OnlyTheCoordinatorPresumesAbort.violated(explanation));
    }
    let has_commit_record = tx_state.is_committed() || tx_state.commit() != RecordStatus::Absent;
    if has_commit_record && !tx_state.missing_acks().is_empty() {
        let explanation =
            format!("{node} sends Abort of {tx}, which has a Commit record in its log");
        return Err(Property::NoAbortAfterCommitRecord.violated(explanation));
    }
    Ok(())
}

/// W5: the coordinator does not commit a transaction of which it has sent Abort.
#[inline]
pub(super) fn check_not_aborted(node: NodeId, tx_state: &TxState) -> Result<(), Violation> {
    if !tx_state.is_abort_sent() {
        return Ok(());
    }
    let explanation = format!("{node} commits {} after it sent Abort of it", tx_state.tx());
    Err(Property::NoAbortAfterCommitRecord.violated(explanation))
}

/// W10: the outcome in an inquiry reply is the one that the sender has a durable record of.
#[inline]
pub(super) fn check_inquiry_reply(
    node: NodeId,
    tx_state: &TxState,
    reply: InquiryReply,
) -> Result<(), Violation> {
    let decision = match reply {
        // This reply asserts nothing, so it depends on no record.
        InquiryReply::Uncertain => return Ok(()),
        InquiryReply::Committed(_) => Decision::Committed,
        InquiryReply::Aborted(_) => Decision::Aborted,
    };
    if tx_state.outcome(node) == Some((decision, RecordStatus::Durable)) {
        return Ok(());
    }
    let tx = tx_state.tx();
    let explanation = format!(
        "{node} answers an inquiry that {tx} is {decision:?} without a durable record of it"
    );
    Err(Property::InquiryRepliesAreDurable.violated(explanation))
}
