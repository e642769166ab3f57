//! Messages and replies, checked at the moment of sending: W1, W2, W3, W5, W10, W11, AC4.

use stormglass::commit::TxId;
use stormglass::commit::{
    AbortReason, Body, Decision, EndedTransactions, InquiryReply, Message, Outcome, Reads, Refusal,
    Response, Vote,
};
use stormglass_node::{NodeId, RequestId};

use super::{Aborts, AtomicCommitChecker};
use crate::tx_state::RecordStatus;
use stormglass_sim::property::Violation;

impl AtomicCommitChecker {
    pub(super) fn on_message_sent(
        &mut self,
        at_us: u64,
        node: NodeId,
        message: &Message,
    ) -> Result<(), Violation> {
        let tx = message.tx;
        match &message.body {
            Body::Prepare { part, .. } => {
                let tx_state = self.tx_states.tx_state(tx);
                tx_state.set_participants(part.participants().iter().copied());
                tx_state.request.get_or_insert(message.request);
                if tx_state.begun_us == 0 {
                    tx_state.begun_us = at_us;
                }
                Ok(())
            }
            Body::Vote(Vote::Yes { reads, .. }) => self.on_yes_sent(node, tx, reads),
            Body::Vote(Vote::No(refusal)) => self.on_refusal_sent(node, tx, *refusal),
            Body::Commit { .. } => self.on_commit_sent(node, tx),
            Body::Abort { .. } => self.on_abort_sent(node, tx),
            Body::Ack { .. } => self.on_ack_sent(node, tx),
            Body::Inquire => {
                self.counts.inquiries += 1;
                Ok(())
            }
            Body::InquiryReply(reply) => self.on_inquiry_reply_sent(node, tx, *reply),
        }
    }

    /// W1: the Prepared record is durable before the Yes vote is sent; AC2: the transaction was not
    /// aborted here before; I4: the reads return the last writes.
    fn on_yes_sent(&mut self, node: NodeId, tx: TxId, reads: &Reads) -> Result<(), Violation> {
        let tx_state = self.tx_states.tx_state(tx);
        if tx_state.prepared(node) != RecordStatus::Durable {
            let explanation =
                format!("{node} votes Yes on {tx} before its Prepared record is durable");
            return Err(Violation::safety("W1 PreparedIsDurableBeforeYes", explanation));
        }
        if tx_state.outcome(node).is_some_and(|(decision, _)| decision == Decision::Aborted) {
            let explanation = format!("{node} votes Yes on {tx} after it aborted it");
            return Err(Violation::safety("AC2 DecisionsAreFinal", explanation));
        }
        match self.node_model(node).expected.get(tx) {
            Some(expected) if expected != reads => {
                let explanation =
                    format!("{node} read {:?} for {tx}, expected {:?}", &reads[..], &expected[..]);
                Err(Violation::safety("I4 ReadsReturnTheLastWrite", explanation))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// AC4, I3: a refusal for a conflict names a transaction that is undecided here and holds a
    /// lock.
    fn on_refusal_sent(
        &mut self,
        node: NodeId,
        tx: TxId,
        refusal: Refusal,
    ) -> Result<(), Violation> {
        let Refusal::Conflict { holder } = refusal else { return Ok(()) };
        let tx_state = self.tx_states.tx_state(holder);
        if let Some((decision, _)) = tx_state.outcome(node) {
            let explanation = format!(
                "{node} refuses {tx} because of a lock of {holder}, \
                 which is already {decision:?} there"
            );
            return Err(Violation::safety("I3 LocksEndWithTheirTransaction", explanation));
        }
        // A coordinator holds the locks of its own part from the first Prepare until it sends its
        // decision. It has no Prepared record, so `prepared` cannot show these locks.
        let holds_as_coordinator = holder.coordinator == node
            && tx_state.begun_us > 0
            && !tx_state.commit_sent
            && !tx_state.abort_sent;
        if holds_as_coordinator || tx_state.prepared(node) != RecordStatus::Absent {
            return Ok(());
        }
        let explanation =
            format!("{node} refuses {tx} because of a lock of {holder}, which holds no lock there");
        Err(Violation::safety("AC4 ConflictNamesALockHolder", explanation))
    }

    /// W2: COMMIT is durable before its coordinator sends Commit.
    fn on_commit_sent(&mut self, node: NodeId, tx: TxId) -> Result<(), Violation> {
        let tx_state = self.tx_states.tx_state(tx);
        if tx.coordinator != node || tx_state.commit != RecordStatus::Durable {
            let explanation =
                format!("{node} sends Commit of {tx} before its Commit record is durable");
            return Err(Violation::safety("W2 CommitIsDurableFirst", explanation));
        }
        tx_state.commit_sent = true;
        Ok(())
    }

    /// W5: only the transaction's coordinator sends Abort, and never with a COMMIT in its log
    /// unless W4 has allowed END.
    fn on_abort_sent(&mut self, node: NodeId, tx: TxId) -> Result<(), Violation> {
        let tx_state = self.tx_states.tx_state(tx);
        if tx.coordinator != node {
            let explanation = format!("{node} sends Abort of {tx}, but does not coordinate it");
            return Err(Violation::safety("W5 OnlyTheCoordinatorPresumesAbort", explanation));
        }
        if (tx_state.committed || tx_state.commit != RecordStatus::Absent)
            && tx_state.subordinates & !tx_state.acked != 0
        {
            let explanation =
                format!("{node} sends Abort of {tx}, which has a Commit record in its log");
            return Err(Violation::safety("W5 NoAbortAfterCommitRecord", explanation));
        }
        if tx_state.commit == RecordStatus::Absent && !tx_state.committed {
            tx_state.abort_sent = true;
        }
        Ok(())
    }

    /// W3: the outcome record is durable before Ack. A node without one may acknowledge a
    /// transaction that every subordinate has acknowledged: it committed the transaction and then
    /// forgot it.
    fn on_ack_sent(&mut self, node: NodeId, tx: TxId) -> Result<(), Violation> {
        let tx_state = self.tx_states.tx_state(tx);
        let durable = tx_state.outcome(node) == Some((Decision::Committed, RecordStatus::Durable));
        let all_acked = tx_state.decided(Decision::Committed) >> node.0 & 1 == 1
            && tx_state.subordinates & !tx_state.acked == 0;
        if durable || all_acked {
            return Ok(());
        }
        let explanation = format!("{node} acknowledges {tx} before its outcome is durable");
        Err(Violation::safety("W3 OutcomeIsDurableBeforeAck", explanation))
    }

    /// W10: the outcome in an inquiry reply is the one that the sender has a durable record of.
    fn on_inquiry_reply_sent(
        &mut self,
        node: NodeId,
        tx: TxId,
        reply: InquiryReply,
    ) -> Result<(), Violation> {
        let decision = match reply {
            InquiryReply::Uncertain => return Ok(()),
            InquiryReply::Committed(_) => Decision::Committed,
            InquiryReply::Aborted(_) => Decision::Aborted,
        };
        if self.tx_states.tx_state(tx).outcome(node) == Some((decision, RecordStatus::Durable)) {
            return Ok(());
        }
        let explanation = format!(
            "{node} answers an inquiry that {tx} is {decision:?} without a durable record of it"
        );
        Err(Violation::safety("W10 InquiryRepliesAreDurable", explanation))
    }

    pub(super) fn on_message_received(&mut self, node: NodeId, from: NodeId, message: &Message) {
        let tx = message.tx;
        if let Some(end_mark) = message.end_mark().filter(|_| tx.coordinator == from) {
            let received_end_marks = &mut self.node_model(node).received_end_marks;
            match received_end_marks.iter_mut().find(|ended| ended.coordinator == from) {
                Some(ended) => {
                    ended.merge(end_mark);
                }
                None => {
                    let mut ended = EndedTransactions::none(from);
                    ended.merge(end_mark);
                    received_end_marks.push(ended);
                }
            }
        }
        match &message.body {
            Body::Ack { .. } if tx.coordinator == node => {
                self.tx_states.tx_state(tx).acked |= 1 << from.0
            }
            Body::Vote(Vote::Yes { .. }) if tx.coordinator == node => {
                self.tx_states.tx_state(tx).yes |= 1 << from.0;
            }
            Body::InquiryReply(InquiryReply::Committed(_) | InquiryReply::Aborted(_)) => {
                let in_doubt = self.node_model(node).recovered_in_doubt(tx);
                self.counts.resolved_by_peer += u64::from(in_doubt);
            }
            Body::Commit { .. } | Body::Abort { .. } => {
                let in_doubt = self.node_model(node).recovered_in_doubt(tx);
                self.counts.resolved_by_coordinator += u64::from(in_doubt);
            }
            Body::Prepare { .. }
            | Body::Vote(_)
            | Body::Ack { .. }
            | Body::Inquire
            | Body::InquiryReply(_) => {}
        }
    }

    /// W2, W11: an outcome is durable before it is reported to a client, and every later report
    /// agrees.
    pub(super) fn on_reply_sent(
        &mut self,
        node: NodeId,
        id: RequestId,
        response: &Response,
    ) -> Result<(), Violation> {
        let request_state = self.requests.get_or_default(id);
        match &response.outcome {
            Outcome::Unknown => Ok(()),
            Outcome::Committed { reads } => {
                request_state.replied_committed = true;
                let durable = request_state.committed.filter(|tx| {
                    let tx_state = self.tx_states.tx_state(*tx);
                    tx_state.commit == RecordStatus::Durable || tx_state.committed
                });
                let Some(tx) = durable else {
                    let explanation = format!(
                        "{node} reports {id} as committed to the client \
                         before its Commit record is durable"
                    );
                    return Err(Violation::safety("W2 CommitIsDurableFirst", explanation));
                };
                match reads {
                    Some(reads) if !reads.is_empty() => self.check_reads(id, tx, reads),
                    Some(_) | None => Ok(()),
                }
            }
            Outcome::Aborted { reason } => {
                if !std::mem::replace(&mut request_state.replied_aborted, true) {
                    self.counts.aborts.count(reason);
                }
                let committed = request_state.committed;
                self.check_fault_free_commits(node, id, reason)?;
                match committed {
                    Some(tx) => {
                        let explanation = format!(
                            "{node} reports {id} as aborted to the client, but {tx} committed it"
                        );
                        Err(Violation::safety("W11 CommittedIsPermanent", explanation))
                    }
                    None => Ok(()),
                }
            }
        }
    }

    /// I4: the reads that are reported to a client are the last writes at each node, as of the
    /// locks there.
    fn check_reads(&self, id: RequestId, tx: TxId, reads: &Reads) -> Result<(), Violation> {
        let ops = self
            .requests
            .get(id)
            .and_then(|request_state| request_state.reads.as_deref())
            .unwrap_or_default();
        let gets = ops.iter().filter(|op| !op.writes());
        for (at, op) in gets.clone().enumerate() {
            let nth = gets.clone().take(at).filter(|other| other.node == op.node).count();
            // No expectation is left of a node that has crashed since: its reads were checked when
            // it voted.
            let expected =
                self.nodes[usize::from(op.node.0)].expected.get(tx).and_then(|all| all.get(nth));
            let read = reads.get(at);
            if expected.is_some() && read != expected {
                let explanation = format!("{id} read {read:?} at {op}, expected {expected:?}");
                return Err(Violation::safety("I4 ReadsReturnTheLastWrite", explanation));
            }
        }
        Ok(())
    }

    /// W11: a request commits at most once, and never after it was reported as aborted to its
    /// client.
    pub(super) fn on_request_committed(
        &mut self,
        node: NodeId,
        tx: TxId,
        request: Option<RequestId>,
    ) -> Result<(), Violation> {
        let Some(request) = request else { return Ok(()) };
        let request_state = self.requests.get_or_default(request);
        if let Some(other) = request_state.committed.filter(|other| *other != tx) {
            let explanation = format!("{node} commits {request} twice: as {tx} after {other}");
            return Err(Violation::safety("W11 ExactlyOnce", explanation));
        }
        if request_state.replied_aborted {
            let explanation = format!(
                "{node} commits {request} as {tx} after it was reported as aborted to the client"
            );
            return Err(Violation::safety("W11 CommittedIsPermanent", explanation));
        }
        request_state.committed = Some(tx);
        Ok(())
    }
}

impl Aborts {
    fn count(&mut self, reason: &AbortReason) {
        *match reason {
            AbortReason::Refused { refusal: Refusal::Bound { .. }, .. } => &mut self.bound,
            AbortReason::Refused { refusal: Refusal::Overflow { .. }, .. } => &mut self.overflow,
            AbortReason::Refused { refusal: Refusal::Conflict { .. }, .. } => &mut self.conflict,
            AbortReason::Refused { refusal: Refusal::Aborted, .. } => &mut self.aborted_earlier,
            AbortReason::TimedOut { .. } => &mut self.timed_out,
            AbortReason::Restarted => &mut self.restarted,
            AbortReason::Invalid(_) => &mut self.invalid,
        } += 1;
    }
}
