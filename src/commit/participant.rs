//! The participant: locks, votes, and waits for the decision. In doubt, it inquires and never
//! decides alone.

use super::end_mark::{EndMark, EndedTransactions, Position};
use super::event::{DropReason, Event};
use super::message::{InquiryReply, Message, Refusal, Vote};
use super::node::{CommitNode, OutcomeTx, PendingRecord, PreparedTx, Waiter};
use super::op::Reads;
use super::part::Part;
use super::record::Record;
use super::state::{self, Decision};
use super::timers::Timer;
use super::tx_id::TxId;
use crate::store::PrepareResult;
use stormglass_node::contract::Outbox;
use stormglass_node::id::{NodeId, RequestId, Time};
use stormglass_node::wal::Durable;

/// An undecided transaction in which this node takes part.
#[derive(Clone, Debug)]
pub(super) struct Participation {
    pub(super) request: RequestId,
    pub(super) part: Part,
    stage: Stage,
    reads: Reads,
    /// Since when its locks are held, in this incarnation; for operators.
    pub(super) since: Time,
    /// How many inquiries this node has sent.
    inquiries: u32,
    /// When it stops waiting for a lock, or inquires next.
    due_at: Time,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// It waits for locks and has no record.
    Waiting,
    /// PREPARED is appended.
    Preparing,
    /// PREPARED is durable, and Yes was sent: in doubt.
    Prepared(Durable<PreparedTx>),
}

/// The outcome of a transaction at this node.
#[derive(Clone, Debug)]
pub(super) struct KnownOutcome {
    request: RequestId,
    decision: Decision,
    /// The proof that the outcome record is durable.
    proof: Option<Durable<OutcomeTx>>,
}

impl Participation {
    /// Its locks were held throughout: `reads` are the values of the time when it was prepared, and
    /// its vote may be requested again.
    pub(super) fn recovered(
        request: RequestId,
        part: Part,
        reads: Reads,
        since: Time,
    ) -> Participation {
        Participation {
            request,
            part,
            stage: Stage::Preparing,
            reads,
            since,
            inquiries: 0,
            due_at: Time(0),
        }
    }

    pub(super) fn has_voted(&self) -> bool {
        matches!(self.stage, Stage::Prepared(_))
    }

    pub(super) fn inquiries(&self) -> u32 {
        self.inquiries
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting)
    }
}

impl KnownOutcome {
    pub(super) fn recovered(known: state::KnownOutcome) -> KnownOutcome {
        KnownOutcome { request: known.request, decision: known.decision, proof: None }
    }

    /// The coordinator waits for an Ack, which waits for the outcome record.
    pub(super) fn owes_ack(&self) -> bool {
        self.decision == Decision::Committed && self.proof.is_none()
    }

    pub(super) fn state(&self, tx: TxId) -> state::KnownOutcome {
        state::KnownOutcome { tx, request: self.request, decision: self.decision }
    }
}

/// Preparing and voting.
impl CommitNode {
    pub(super) fn on_prepare(
        &mut self,
        tx: TxId,
        request: RequestId,
        part: Part,
        out: &mut Outbox<Self>,
    ) {
        let mine = part.ops().iter().all(|op| op.node == self.id) && !part.ops().is_empty();
        if !mine || part.participants().bit(self.id).is_none() {
            return self.drop_message(tx.coordinator, tx, request, DropReason::WrongPart, out);
        }
        if let Some(known) = self.outcomes.get(tx) {
            match known.decision {
                Decision::Committed => {}
                Decision::Aborted => send_vote_no(tx, request, Refusal::Aborted, out),
            }
            return;
        }
        if self.has_ended(tx) {
            return;
        }
        if let Some(participation) = self.participations.get(tx) {
            if let Stage::Prepared(proof) = participation.stage {
                send_vote_yes(proof, request, participation.reads.clone(), out);
            }
            return;
        }
        let waiter = Waiter { age: part.age(), tx };
        let due_at = self.now + self.config.vote_timeout;
        let (stage, reads, since) = (Stage::Waiting, Reads::default(), self.now);
        let participation =
            Participation { request, part, stage, reads, since, inquiries: 0, due_at };
        self.participations.insert(tx, participation);
        if !self.try_lock_participation(tx, out) {
            self.start_waiting(waiter);
            self.timers.set(due_at, Timer::LockTimeout, tx);
        }
    }

    /// Tries to get the locks of a waiting transaction; false if it has to keep waiting.
    pub(super) fn try_lock_participation(&mut self, tx: TxId, out: &mut Outbox<Self>) -> bool {
        let Some(participation) =
            self.participations.get_mut(tx).filter(|participation| participation.is_waiting())
        else {
            return true;
        };
        let grant = self.store.prepare(tx, participation.part.age(), participation.part.ops());
        let (request, due_at) = (participation.request, participation.due_at);
        match grant {
            PrepareResult::Wait => return false,
            PrepareResult::Refused(refusal) => {
                self.participations.remove(tx);
                send_vote_no(tx, request, refusal, out);
            }
            PrepareResult::Locked(reads) => {
                participation.reads = reads;
                participation.since = self.now;
                participation.stage = Stage::Preparing;
                let record = Record::Prepared { tx, request, part: participation.part.clone() };
                let ticket = self.wal.append(&record, PreparedTx(tx), out);
                self.pending.push_back(PendingRecord::Prepared(ticket));
                self.wal.force(out);
            }
        }
        self.timers.cancel(due_at, Timer::LockTimeout, tx);
        true
    }

    /// PREPARED is durable: votes Yes, unless the transaction was decided meanwhile.
    pub(super) fn on_prepared_durable(
        &mut self,
        proof: Durable<PreparedTx>,
        out: &mut Outbox<Self>,
    ) {
        let tx = proof.get().0;
        let due_at = self.now + self.config.vote_timeout;
        let Some(participation) = self.participations.get_mut(tx) else { return };
        participation.stage = Stage::Prepared(proof);
        participation.due_at = due_at;
        send_vote_yes(proof, participation.request, participation.reads.clone(), out);
        self.timers.set(due_at, Timer::Inquire, tx);
    }

    pub(super) fn on_lock_timeout(&mut self, tx: TxId) {
        self.discard_waiting(tx);
    }

    fn discard_waiting(&mut self, tx: TxId) {
        if self.participations.get(tx).is_some_and(Participation::is_waiting) {
            let participation = self.participations.remove(tx).expect("checked above");
            self.timers.cancel(participation.due_at, Timer::LockTimeout, tx);
            self.stop_waiting(Waiter { age: participation.part.age(), tx });
        }
    }
}

/// Learning the decision.
impl CommitNode {
    pub(super) fn on_commit(&mut self, tx: TxId, request: RequestId, out: &mut Outbox<Self>) {
        if self.participations.get(tx).is_some_and(|participation| !participation.is_waiting()) {
            return self.apply_decision(tx, Decision::Committed, out);
        }
        match self.outcomes.get(tx) {
            Some(KnownOutcome { decision: Decision::Committed, proof, .. }) => {
                if let Some(proof) = *proof {
                    send_ack(proof, request, out);
                }
            }
            None if self.has_ended(tx) => out.send(tx.coordinator, Message::Ack { tx, request }),
            Some(KnownOutcome { decision: Decision::Aborted, .. }) | None => {
                out.report(Event::Damage { tx, request })
            }
        }
    }

    pub(super) fn on_abort(&mut self, tx: TxId, out: &mut Outbox<Self>) {
        self.discard_waiting(tx);
        if self.participations.get(tx).is_some() {
            self.apply_decision(tx, Decision::Aborted, out);
        }
    }

    /// Appends the outcome record, applies the decision and releases the locks. An abort is not
    /// forced: a participant that loses the record is in doubt again and inquires again.
    fn apply_decision(&mut self, tx: TxId, decision: Decision, out: &mut Outbox<Self>) {
        let participation =
            self.participations.remove(tx).expect("a decision applies to a participation");
        self.timers.cancel(participation.due_at, Timer::Inquire, tx);
        let request = participation.request;
        let record = match decision {
            Decision::Committed => Record::Committed { tx, request },
            Decision::Aborted => Record::Aborted { tx, request },
        };
        self.record_outcome(tx, request, decision, &record, out);
        match decision {
            Decision::Committed => {
                self.wal.force(out);
                self.store.commit(tx, participation.part.ops());
            }
            Decision::Aborted => self.store.abort(tx, participation.part.ops()),
        }
        self.locks_released = true;
    }

    fn record_outcome(
        &mut self,
        tx: TxId,
        request: RequestId,
        decision: Decision,
        record: &Record,
        out: &mut Outbox<Self>,
    ) {
        let ticket = self.wal.append(record, OutcomeTx(tx), out);
        self.pending.push_back(PendingRecord::Outcome(ticket));
        self.outcomes.insert(tx, KnownOutcome { request, decision, proof: None });
    }

    /// An outcome record is durable: acknowledges it, or replies to the participants that inquired.
    pub(super) fn on_outcome_durable(&mut self, proof: Durable<OutcomeTx>, out: &mut Outbox<Self>) {
        let tx = proof.get().0;
        if let Some(known) = self.outcomes.get_mut(tx) {
            known.proof = Some(proof);
            let request = known.request;
            match known.decision {
                Decision::Committed => send_ack(proof, request, out),
                Decision::Aborted => {
                    for (_, to) in self.inquirers.iter().filter(|(inquired, _)| *inquired == tx) {
                        send_inquiry_reply(*to, proof, request, InquiryReply::Aborted, out);
                    }
                }
            }
        }
        self.inquirers.retain(|(inquired, _)| *inquired != tx);
    }
}

/// In doubt.
impl CommitNode {
    /// Sends an inquiry to the coordinator, and from the second time on to all other participants.
    pub(super) fn inquire(&mut self, tx: TxId, out: &mut Outbox<Self>) {
        let Some(participation) = self.participations.get_mut(tx) else { return };
        participation.inquiries += 1;
        let (request, inquiries) = (participation.request, participation.inquiries);
        out.send(tx.coordinator, Message::Inquire { tx, request });
        if inquiries > 1 {
            let me = self.id;
            for &to in participation
                .part
                .participants()
                .iter()
                .filter(|to| **to != me && **to != tx.coordinator)
            {
                out.send(to, Message::Inquire { tx, request });
            }
        }
        let at = self.now + self.backoff(inquiries - 1);
        self.participations.get_mut(tx).expect("checked above").due_at = at;
        self.timers.set(at, Timer::Inquire, tx);
    }

    /// Another participant is in doubt. If this node has no record, it decides: it forces ABORTED,
    /// so that it cannot vote Yes later, and replies when that record is durable.
    pub(super) fn on_inquiry_as_participant(
        &mut self,
        from: NodeId,
        tx: TxId,
        request: RequestId,
        out: &mut Outbox<Self>,
    ) {
        if let Some(known) = self.outcomes.get(tx) {
            match (known.proof, known.decision) {
                (Some(proof), Decision::Committed) => {
                    send_inquiry_reply(from, proof, request, InquiryReply::Committed, out)
                }
                (Some(proof), Decision::Aborted) => {
                    send_inquiry_reply(from, proof, request, InquiryReply::Aborted, out)
                }
                (None, Decision::Committed) => {}
                (None, Decision::Aborted) => self.reply_when_durable(tx, from, out),
            }
            return;
        }
        if self.has_ended(tx) {
            return;
        }
        self.discard_waiting(tx);
        if self.participations.get(tx).is_some() {
            out.send(from, Message::InquiryReply { tx, request, reply: InquiryReply::Uncertain });
            return;
        }
        self.record_outcome(tx, request, Decision::Aborted, &Record::Aborted { tx, request }, out);
        self.reply_when_durable(tx, from, out);
    }

    fn reply_when_durable(&mut self, tx: TxId, to: NodeId, out: &mut Outbox<Self>) {
        if !self.inquirers.contains(&(tx, to)) {
            self.inquirers.push((tx, to));
        }
        self.wal.force(out);
    }

    pub(super) fn on_inquiry_reply(
        &mut self,
        from: NodeId,
        tx: TxId,
        request: RequestId,
        reply: InquiryReply,
        out: &mut Outbox<Self>,
    ) {
        let Some(participation) =
            self.participations.get(tx).filter(|participation| !participation.is_waiting())
        else {
            return;
        };
        if participation.part.participants().bit(from).is_none() {
            return self.drop_message(from, tx, request, DropReason::SenderNotParticipant, out);
        }
        match reply {
            InquiryReply::Committed => self.apply_decision(tx, Decision::Committed, out),
            InquiryReply::Aborted => self.apply_decision(tx, Decision::Aborted, out),
            InquiryReply::Uncertain => {}
        }
    }

    /// After boot: inquires at once about every transaction in doubt.
    pub(super) fn resume_participations(&mut self, out: &mut Outbox<Self>) {
        for tx in self.participations.keys() {
            let proof = self
                .wal
                .redeem(self.wal.recovered_ticket(PreparedTx(tx)))
                .expect("the boot snapshot is durable");
            self.participations.get_mut(tx).expect("a key of this map").stage =
                Stage::Prepared(proof);
            self.inquire(tx, out);
        }
    }

    pub(super) fn resume_outcomes(&mut self) {
        for (tx, known) in self.outcomes.iter_mut() {
            let proof = self.wal.redeem(self.wal.recovered_ticket(OutcomeTx(tx)));
            known.proof = Some(proof.expect("the boot snapshot is durable"));
        }
    }
}

/// Forgetting.
impl CommitNode {
    pub(super) fn has_ended(&self, tx: TxId) -> bool {
        let at = self.ended.binary_search_by_key(&tx.coordinator, |ended| ended.coordinator);
        at.is_ok_and(|at| self.ended[at].contains(Position::of(tx)))
    }

    /// Merges a coordinator's end mark: ended transactions need no outcome, and waiting for their
    /// locks is pointless.
    pub(super) fn on_end_mark(&mut self, coordinator: NodeId, end_mark: &EndMark) {
        let at = match self.ended.binary_search_by_key(&coordinator, |ended| ended.coordinator) {
            Ok(at) => at,
            Err(at) => {
                self.ended.insert(at, EndedTransactions::none(coordinator));
                at
            }
        };
        if !self.ended[at].merge(end_mark) {
            return;
        }
        let ended = &self.ended[at];
        self.outcomes
            .retain(|tx, _| tx.coordinator != coordinator || !ended.contains(Position::of(tx)));
        let has_ended = |waiter: &&Waiter| {
            waiter.tx.coordinator == coordinator && ended.contains(Position::of(waiter.tx))
        };
        let ended_waiting: Vec<TxId> =
            self.waiting.iter().filter(has_ended).map(|waiter| waiter.tx).collect();
        for tx in ended_waiting {
            self.discard_waiting(tx);
        }
    }
}

fn send_vote_yes(
    proof: Durable<PreparedTx>,
    request: RequestId,
    reads: Reads,
    out: &mut Outbox<CommitNode>,
) {
    let tx = proof.get().0;
    out.send(tx.coordinator, Message::Vote { tx, request, vote: Vote::Yes { reads } });
}

fn send_vote_no(tx: TxId, request: RequestId, refusal: Refusal, out: &mut Outbox<CommitNode>) {
    out.send(tx.coordinator, Message::Vote { tx, request, vote: Vote::No(refusal) });
}

fn send_ack(proof: Durable<OutcomeTx>, request: RequestId, out: &mut Outbox<CommitNode>) {
    let tx = proof.get().0;
    out.send(tx.coordinator, Message::Ack { tx, request });
}

fn send_inquiry_reply(
    to: NodeId,
    proof: Durable<OutcomeTx>,
    request: RequestId,
    reply: InquiryReply,
    out: &mut Outbox<CommitNode>,
) {
    out.send(to, Message::InquiryReply { tx: proof.get().0, request, reply });
}
