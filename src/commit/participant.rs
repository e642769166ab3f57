//! The participant: locks, votes, and waits for the decision. In doubt, it inquires and never
//! decides alone.

use super::context::{Context, OutcomeTx, PreparedTx, Waiter};
use super::end_mark::{EndMark, EndedTransactions, Position};
use super::event::{DropReason, Event};
use super::message::{Body, InquiryReply, Message, RecordIsDurable, Refusal, Vote};
use super::node::CommitNode;
use super::op::Reads;
use super::part::Part;
use super::record::Record;
use super::state::{self, Decision, State};
use super::timers::Timer;
use super::tx_id::TxId;
use super::tx_map::TxMap;
use super::view::InDoubt;
use crate::store::PrepareResult;
use stormglass_node::contract::Outbox;
use stormglass_node::id::{NodeId, RequestId, Time};
use stormglass_node::wal::Durable;

/// The participant half of a node.
#[derive(Clone, Debug)]
pub(super) struct Participant {
    /// The transactions that this node takes part in: waiting, or prepared and undecided.
    participations: TxMap<Participation>,
    /// The outcomes known here of transactions that are not known to have ended.
    outcomes: TxMap<KnownOutcome>,
    // Sorted by coordinator.
    ended: Vec<EndedTransactions>,
    /// The participants that receive an `Aborted` reply once that record is durable.
    inquirers: Vec<(TxId, NodeId)>,
}

/// An undecided transaction in which this node takes part.
#[derive(Clone, Debug)]
struct Participation {
    request: RequestId,
    part: Part,
    stage: Stage,
    reads: Reads,
    /// Since when its locks are held, in this incarnation; for operators.
    since: Time,
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
struct KnownOutcome {
    request: RequestId,
    decision: Decision,
    /// The proof that the outcome record is durable.
    proof: Option<Durable<OutcomeTx>>,
}

impl Participation {
    fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting)
    }
}

/// Recovery, and what operators see.
impl Participant {
    /// The half with these transactions, whose locks it takes again. They were held throughout: the
    /// reads are the values of the time when it was prepared, and its vote may be requested again.
    pub(super) fn recovered(
        cx: &mut Context,
        prepared: Vec<state::Prepared>,
        known: Vec<state::KnownOutcome>,
        ended: Vec<EndedTransactions>,
    ) -> Participant {
        let mut participations = TxMap::default();
        for state::Prepared { tx, request, part } in prepared {
            let reads = cx.relock_part(tx, part.age(), part.ops());
            let participation = Participation {
                request,
                part,
                // The boot snapshot, which contains PREPARED, is not durable yet.
                stage: Stage::Preparing,
                reads,
                since: cx.now(),
                inquiries: 0,
                // No timer is set before the log is ready.
                due_at: Time(0),
            };
            participations.insert(tx, participation);
        }
        let mut outcomes = TxMap::default();
        for state::KnownOutcome { tx, request, decision } in known {
            outcomes.insert(tx, KnownOutcome { request, decision, proof: None });
        }
        Participant { participations, outcomes, ended, inquirers: Vec::new() }
    }

    /// Adds this half's part of the durable state.
    pub(super) fn add_to(&self, state: &mut State) {
        state.outcomes = self
            .outcomes
            .iter()
            .map(|(tx, KnownOutcome { request, decision, .. })| state::KnownOutcome {
                tx,
                request: *request,
                decision: *decision,
            })
            .collect();
        state.ended = self.ended.clone();
        for (tx, participation) in
            self.participations.iter().filter(|(_, participation)| !participation.is_waiting())
        {
            state.prepared.push(state::Prepared {
                tx,
                request: participation.request,
                part: participation.part.clone(),
            });
        }
    }

    /// The number of undecided transactions.
    pub(super) fn count(&self) -> usize {
        self.participations.iter().count()
    }

    /// Whether this node has a part in the transaction, or knows its outcome.
    pub(super) fn knows(&self, tx: TxId) -> bool {
        self.participations.get(tx).is_some() || self.outcomes.get(tx).is_some()
    }

    /// Whether no transaction is undecided, and no coordinator waits for an Ack, which waits for
    /// the outcome record.
    pub(super) fn is_idle(&self) -> bool {
        self.participations.is_empty()
            && self
                .outcomes
                .iter()
                .all(|(_, known)| known.decision == Decision::Aborted || known.proof.is_some())
    }

    /// Outcomes kept for other participants.
    pub(super) fn outcomes_kept(&self) -> u64 {
        self.outcomes.iter().count() as u64
    }

    /// The transactions in doubt at node `id`.
    pub(super) fn in_doubt(&self, id: NodeId, now: Time) -> impl Iterator<Item = InDoubt> {
        let prepared =
            self.participations.iter().filter(|(_, participation)| !participation.is_waiting());
        prepared.map(move |(tx, participation)| {
            let others = participation.part.participants().iter().copied();
            InDoubt {
                tx,
                request: participation.request,
                age: now.since(participation.since),
                coordinator: tx.coordinator,
                peers: others.filter(|peer| *peer != id && *peer != tx.coordinator).collect(),
                voted: matches!(participation.stage, Stage::Prepared(_)),
                inquiries: participation.inquiries,
            }
        })
    }
}

/// Preparing and voting.
impl Participant {
    pub(super) fn on_prepare(
        &mut self,
        cx: &mut Context,
        tx: TxId,
        request: RequestId,
        part: Part,
        out: &mut Outbox<CommitNode>,
    ) {
        let mine = part.ops().iter().all(|op| op.node == cx.id()) && !part.ops().is_empty();
        if !mine || part.participants().bit(cx.id()).is_none() {
            return cx.drop_message(tx.coordinator, tx, request, DropReason::WrongPart, out);
        }
        if self.is_other_request(tx, request) {
            return cx.drop_message(tx.coordinator, tx, request, DropReason::OtherRequest, out);
        }
        if let Some(known) = self.outcomes.get(tx) {
            match known.decision {
                // A late copy: it was prepared and voted on before it was committed.
                Decision::Committed => {}
                Decision::Aborted => send_vote_no(tx, request, Refusal::Aborted, out),
            }
            return;
        }
        // A late copy. This node may have committed and forgotten the transaction: to prepare it
        // again would be to vote Yes on what is over.
        if self.has_ended(tx) {
            return;
        }
        if let Some(participation) = self.participations.get(tx) {
            // Yes may have been lost. Before PREPARED is durable, it is still to come.
            if let Stage::Prepared(proof) = participation.stage {
                send_vote_yes(proof, request, participation.reads.clone(), out);
            }
            return;
        }
        let waiter = Waiter { age: part.age(), tx };
        let due_at = cx.vote_deadline();
        let participation = Participation {
            request,
            part,
            stage: Stage::Waiting,
            reads: Reads::default(),
            since: cx.now(),
            inquiries: 0,
            due_at,
        };
        self.participations.insert(tx, participation);
        if !self.try_lock_participation(cx, tx, out) {
            cx.start_waiting(waiter);
            cx.set_timer(due_at, Timer::LockTimeout, tx);
        }
    }

    /// Whether this node knows the transaction, and that it executes another request: then two
    /// coordinators have given it the same id.
    fn is_other_request(&self, tx: TxId, request: RequestId) -> bool {
        let participation = self.participations.get(tx).map(|participation| participation.request);
        let known = participation.or_else(|| self.outcomes.get(tx).map(|known| known.request));
        known.is_some_and(|known| known != request)
    }

    /// Tries to get the locks of a waiting transaction; false if it has to keep waiting.
    pub(super) fn try_lock_participation(
        &mut self,
        cx: &mut Context,
        tx: TxId,
        out: &mut Outbox<CommitNode>,
    ) -> bool {
        let Some(participation) =
            self.participations.get_mut(tx).filter(|participation| participation.is_waiting())
        else {
            return true;
        };
        let grant = cx.prepare_part(tx, participation.part.age(), participation.part.ops());
        let request = participation.request;
        let due_at = participation.due_at;
        match grant {
            PrepareResult::Wait => return false,
            // A No leaves no record: it promises nothing that a crash could break.
            PrepareResult::Refused(refusal) => {
                self.participations.remove(tx);
                send_vote_no(tx, request, refusal, out);
            }
            PrepareResult::Locked(reads) => {
                // The locks keep these values until the decision, so a repeated Yes has the same.
                participation.reads = reads;
                participation.since = cx.now();
                participation.stage = Stage::Preparing;
                let record = Record::Prepared { tx, request, part: participation.part.clone() };
                cx.append_prepared(tx, &record, out);
                cx.force(out);
            }
        }
        // It was set only if the transaction had to wait.
        cx.cancel_timer(due_at, Timer::LockTimeout, tx);
        true
    }

    /// PREPARED is durable: votes Yes, unless the transaction was decided meanwhile.
    pub(super) fn on_prepared_durable(
        &mut self,
        cx: &mut Context,
        proof: Durable<PreparedTx>,
        out: &mut Outbox<CommitNode>,
    ) {
        let tx = proof.get().0;
        let due_at = cx.vote_deadline();
        // Aborted between append and barrier: the locks are gone, so a Yes would be wrong.
        let Some(participation) = self.participations.get_mut(tx) else { return };
        participation.stage = Stage::Prepared(proof);
        participation.due_at = due_at;
        send_vote_yes(proof, participation.request, participation.reads.clone(), out);
        cx.set_timer(due_at, Timer::Inquire, tx);
    }

    pub(super) fn on_lock_timeout(&mut self, cx: &mut Context, tx: TxId) {
        // Without a vote: the coordinator's timeout is as long and began before Prepare arrived.
        self.discard_waiting(cx, tx);
    }

    fn discard_waiting(&mut self, cx: &mut Context, tx: TxId) {
        if self.participations.get(tx).is_some_and(Participation::is_waiting) {
            let participation = self.participations.remove(tx).expect("checked above");
            cx.cancel_timer(participation.due_at, Timer::LockTimeout, tx);
            cx.stop_waiting(Waiter { age: participation.part.age(), tx });
        }
    }
}

/// Learning the decision.
impl Participant {
    pub(super) fn on_commit(
        &mut self,
        cx: &mut Context,
        tx: TxId,
        request: RequestId,
        out: &mut Outbox<CommitNode>,
    ) {
        if self.is_other_request(tx, request) {
            return cx.drop_message(tx.coordinator, tx, request, DropReason::OtherRequest, out);
        }
        if self.participations.get(tx).is_some_and(|participation| !participation.is_waiting()) {
            return self.apply_decision(cx, tx, Decision::Committed, out);
        }
        match self.outcomes.get(tx) {
            Some(KnownOutcome { decision: Decision::Committed, proof, .. }) => {
                // Without a proof, Ack follows once the record is durable.
                if let Some(proof) = *proof {
                    send_ack(proof, request, out);
                }
            }
            Some(KnownOutcome { decision: Decision::Aborted, .. }) => {
                out.report(Event::Damage { tx, request })
            }
            None => match self.proof_of_end(tx) {
                // END is not forced. A coordinator that lost it resends Commit until this node
                // acknowledges once more.
                Some(proof) => {
                    let body = Body::Ack { proof };
                    out.send(tx.coordinator, Message { tx, request, body });
                }
                // It was committed without this node's Yes, or this node has lost its PREPARED.
                None => out.report(Event::Damage { tx, request }),
            },
        }
    }

    pub(super) fn on_abort(&mut self, cx: &mut Context, tx: TxId, out: &mut Outbox<CommitNode>) {
        self.discard_waiting(cx, tx);
        // Otherwise it is ignored and leaves no record. It may be a late presumption about a
        // transaction that this node has committed.
        if self.participations.get(tx).is_some() {
            self.apply_decision(cx, tx, Decision::Aborted, out);
        }
    }

    /// Appends the outcome record, applies the decision and releases the locks. An abort is not
    /// forced: a participant that loses the record is in doubt again and inquires again.
    fn apply_decision(
        &mut self,
        cx: &mut Context,
        tx: TxId,
        decision: Decision,
        out: &mut Outbox<CommitNode>,
    ) {
        let participation =
            self.participations.remove(tx).expect("a decision applies to a participation");
        cx.cancel_timer(participation.due_at, Timer::Inquire, tx);
        let request = participation.request;
        let record = match decision {
            Decision::Committed => Record::Committed { tx, request },
            Decision::Aborted => Record::Aborted { tx, request },
        };
        // Appended before the locks are released: the records of the next holder follow it in the
        // log, so no crash keeps those and loses this one.
        self.record_outcome(cx, tx, request, decision, &record, out);
        match decision {
            // Ack waits for the barrier; the values need not. COMMIT is durable at the coordinator,
            // which resends Commit if a crash loses this record.
            Decision::Committed => {
                cx.force(out);
                cx.commit_part(tx, &participation.part);
            }
            Decision::Aborted => cx.abort_part(tx, &participation.part),
        }
    }

    fn record_outcome(
        &mut self,
        cx: &mut Context,
        tx: TxId,
        request: RequestId,
        decision: Decision,
        record: &Record,
        out: &mut Outbox<CommitNode>,
    ) {
        cx.append_outcome(tx, record, out);
        self.outcomes.insert(tx, KnownOutcome { request, decision, proof: None });
    }

    /// An outcome record is durable: acknowledges it, or replies to the participants that inquired.
    pub(super) fn on_outcome_durable(
        &mut self,
        proof: Durable<OutcomeTx>,
        out: &mut Outbox<CommitNode>,
    ) {
        let tx = proof.get().0;
        // An end mark may have removed it since: then no node needs the outcome any more.
        if let Some(known) = self.outcomes.get_mut(tx) {
            known.proof = Some(proof);
            let request = known.request;
            match known.decision {
                Decision::Committed => send_ack(proof, request, out),
                Decision::Aborted => {
                    for (_, to) in self.inquirers.iter().filter(|(inquired, _)| *inquired == tx) {
                        send_outcome(*to, proof, request, Decision::Aborted, out);
                    }
                }
            }
        }
        self.inquirers.retain(|(inquired, _)| *inquired != tx);
    }
}

/// In doubt.
impl Participant {
    /// Sends an inquiry to the coordinator, and from the second time on to all other participants.
    pub(super) fn inquire(&mut self, cx: &mut Context, tx: TxId, out: &mut Outbox<CommitNode>) {
        let Some(participation) = self.participations.get_mut(tx) else { return };
        participation.inquiries += 1;
        let request = participation.request;
        let inquiries = participation.inquiries;
        out.send(tx.coordinator, Message { tx, request, body: Body::Inquire });
        // At first the coordinator alone: a peer that has not received its Prepare yet aborts the
        // transaction when it is asked.
        if inquiries > 1 {
            let me = cx.id();
            for &to in participation
                .part
                .participants()
                .iter()
                .filter(|to| **to != me && **to != tx.coordinator)
            {
                out.send(to, Message { tx, request, body: Body::Inquire });
            }
        }
        let at = cx.now() + cx.backoff(inquiries - 1);
        participation.due_at = at;
        cx.set_timer(at, Timer::Inquire, tx);
    }

    /// Another participant is in doubt. If this node has no record, it decides: it forces ABORTED,
    /// so that it cannot vote Yes later, and replies when that record is durable.
    pub(super) fn on_inquiry_as_participant(
        &mut self,
        cx: &mut Context,
        from: NodeId,
        tx: TxId,
        request: RequestId,
        out: &mut Outbox<CommitNode>,
    ) {
        if let Some(known) = self.outcomes.get(tx) {
            match (known.proof, known.decision) {
                (Some(proof), decision) => send_outcome(from, proof, request, decision, out),
                // The participant will ask again, or hear from its coordinator.
                (None, Decision::Committed) => {}
                (None, Decision::Aborted) => self.reply_when_durable(cx, tx, from, out),
            }
            return;
        }
        // The outcome is forgotten here, so its absence says nothing. A participant that is still
        // in doubt is answered by its coordinator.
        if self.has_ended(tx) {
            return;
        }
        // A Prepare that waits for locks has no record, and counts as not received.
        self.discard_waiting(cx, tx);
        // Also while PREPARED is not durable: Yes will follow.
        if self.participations.get(tx).is_some() {
            let body = Body::InquiryReply(InquiryReply::Uncertain);
            out.send(from, Message { tx, request, body });
            return;
        }
        self.record_outcome(
            cx,
            tx,
            request,
            Decision::Aborted,
            &Record::Aborted { tx, request },
            out,
        );
        self.reply_when_durable(cx, tx, from, out);
    }

    fn reply_when_durable(
        &mut self,
        cx: &mut Context,
        tx: TxId,
        to: NodeId,
        out: &mut Outbox<CommitNode>,
    ) {
        if !self.inquirers.contains(&(tx, to)) {
            self.inquirers.push((tx, to));
        }
        // ABORTED is not forced otherwise.
        cx.force(out);
    }

    pub(super) fn on_inquiry_reply(
        &mut self,
        cx: &mut Context,
        from: NodeId,
        tx: TxId,
        request: RequestId,
        reply: InquiryReply,
        out: &mut Outbox<CommitNode>,
    ) {
        let Some(participation) =
            self.participations.get(tx).filter(|participation| !participation.is_waiting())
        else {
            return;
        };
        if participation.part.participants().bit(from).is_none() {
            return cx.drop_message(from, tx, request, DropReason::SenderNotParticipant, out);
        }
        match reply {
            InquiryReply::Committed(_) => self.apply_decision(cx, tx, Decision::Committed, out),
            InquiryReply::Aborted(_) => self.apply_decision(cx, tx, Decision::Aborted, out),
            InquiryReply::Uncertain => {}
        }
    }

    /// After boot: inquires at once about every transaction in doubt.
    pub(super) fn resume_participations(&mut self, cx: &mut Context, out: &mut Outbox<CommitNode>) {
        for proof in cx.take_recovered_prepared() {
            let tx = proof.get().0;
            // It is there: no message is handled before the log is ready.
            let Some(participation) = self.participations.get_mut(tx) else { continue };
            participation.stage = Stage::Prepared(proof);
            self.inquire(cx, tx, out);
        }
    }

    /// After boot: the outcomes that were read back may be sent.
    pub(super) fn resume_outcomes(&mut self, cx: &mut Context) {
        for proof in cx.take_recovered_outcomes() {
            let Some(known) = self.outcomes.get_mut(proof.get().0) else { continue };
            known.proof = Some(proof);
        }
    }
}

/// Forgetting.
impl Participant {
    fn has_ended(&self, tx: TxId) -> bool {
        self.proof_of_end(tx).is_some()
    }

    /// The evidence that the transaction has ended, and with it that its records were durable.
    fn proof_of_end(&self, tx: TxId) -> Option<RecordIsDurable> {
        let at = self.ended.binary_search_by_key(&tx.coordinator, |ended| ended.coordinator);
        RecordIsDurable::by_end(&self.ended[at.ok()?], tx)
    }

    /// Merges a coordinator's end mark: ended transactions need no outcome, and waiting for their
    /// locks is pointless.
    pub(super) fn on_end_mark(
        &mut self,
        cx: &mut Context,
        coordinator: NodeId,
        end_mark: &EndMark,
    ) {
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
        // What is prepared stays: that a transaction has ended does not say how. If it is in doubt
        // here, it was aborted, and the coordinator's answer to an inquiry will say so.
        let ended = &self.ended[at];
        self.outcomes
            .retain(|tx, _| tx.coordinator != coordinator || !ended.contains(Position::of(tx)));
        let ended_waiting: Vec<TxId> = cx
            .waiting()
            .iter()
            .map(|waiter| waiter.tx)
            .filter(|tx| tx.coordinator == coordinator && ended.contains(Position::of(*tx)))
            .collect();
        for tx in ended_waiting {
            self.discard_waiting(cx, tx);
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
    let body = Body::Vote(Vote::Yes { reads, proof: RecordIsDurable::by(&proof) });
    out.send(tx.coordinator, Message { tx, request, body });
}

fn send_vote_no(tx: TxId, request: RequestId, refusal: Refusal, out: &mut Outbox<CommitNode>) {
    let body = Body::Vote(Vote::No(refusal));
    out.send(tx.coordinator, Message { tx, request, body });
}

fn send_ack(proof: Durable<OutcomeTx>, request: RequestId, out: &mut Outbox<CommitNode>) {
    let tx = proof.get().0;
    let body = Body::Ack { proof: RecordIsDurable::by(&proof) };
    out.send(tx.coordinator, Message { tx, request, body });
}

fn send_outcome(
    to: NodeId,
    proof: Durable<OutcomeTx>,
    request: RequestId,
    decision: Decision,
    out: &mut Outbox<CommitNode>,
) {
    let tx = proof.get().0;
    let record = RecordIsDurable::by(&proof);
    let reply = match decision {
        Decision::Committed => InquiryReply::Committed(record),
        Decision::Aborted => InquiryReply::Aborted(record),
    };
    out.send(to, Message { tx, request, body: Body::InquiryReply(reply) });
}
