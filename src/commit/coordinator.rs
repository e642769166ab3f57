//! The coordinator: collects votes, forces COMMIT, and resends it until every participant has
//! acknowledged.
//!
//! Presumed abort (Mohan, Lindsay, Obermarck 1986, "Transaction management in the R* distributed
//! database management system", section 3): an abort leaves no record and is forgotten at once; an
//! inquiry about a transaction that this node does not know is answered "aborted". The
//! coordinator's own part is prepared in memory only, and shares the COMMIT record.

use std::sync::Arc;

use super::dedup::RequestStatus;
use super::end_mark::{EndMark, Position};
use super::event::DropReason;
use super::message::{Message, Vote};
use super::node::{CommitNode, CommittedTx, PendingRecord, Waiter, reads_in_request_order};
use super::op::{Op, Reads};
use super::part::{Age, InvalidTransaction, Part, Participants};
use super::record::Record;
use super::request::{AbortReason, Outcome};
use super::state::{Committing, State, apply_ops};
use super::timers::Timer;
use super::tx_id::TxId;
use crate::store::PrepareResult;
use stormglass_node::contract::Outbox;
use stormglass_node::id::{NodeId, RequestId, Time};
use stormglass_node::wal::Durable;

/// A transaction that this node coordinates, from its beginning to END (or to the decision to
/// abort).
#[derive(Clone, Debug)]
pub(super) struct Coordinated {
    request: RequestId,
    participants: Participants,
    /// All participants but the coordinator, as a bit set.
    subordinates: u64,
    /// The participants that have voted Yes, then those that have acknowledged. A set, so that
    /// duplicates do not count.
    responded: u64,
    tries: u32,
    retransmit_at: Time,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Prepare was sent; votes are awaited.
    Collecting(Box<Collecting>),
    /// COMMIT is appended. No effect may depend on it yet.
    Deciding(Box<Collecting>),
    /// COMMIT is durable.
    Committing(Durable<CommittedTx>),
    /// COMMIT was read back at boot, and the boot snapshot is not durable yet.
    Recovered,
}

#[derive(Clone, Debug)]
struct Collecting {
    all_parts: Part,
    /// In the client's order.
    ops: Arc<[Op]>,
    own: Part,
    /// Whether the locks of the own part are held.
    own_part_locked: bool,
    reads: Vec<(NodeId, Reads)>,
    vote_deadline: Time,
}

/// The stage of a transaction, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CoordinatedPhase {
    Collecting,
    Deciding,
    Committing,
}

impl Coordinated {
    pub(super) fn phase(&self) -> CoordinatedPhase {
        match self.stage {
            Stage::Collecting(_) => CoordinatedPhase::Collecting,
            Stage::Deciding(_) => CoordinatedPhase::Deciding,
            Stage::Committing(_) | Stage::Recovered => CoordinatedPhase::Committing,
        }
    }

    /// A committed transaction, read back at boot by its coordinator, `id`.
    pub(super) fn recovered(
        id: NodeId,
        request: RequestId,
        participants: Participants,
    ) -> Coordinated {
        let subordinates = participants.subordinates(id);
        let (responded, tries, retransmit_at, stage) = (0, 0, Time(0), Stage::Recovered);
        Coordinated { request, participants, subordinates, responded, tries, retransmit_at, stage }
    }
}

/// Beginning, voting, deciding.
impl CommitNode {
    /// Begins a new request: locks the own part and sends Prepare to the others.
    pub(super) fn begin(
        &mut self,
        request: RequestId,
        age: Age,
        ops: Arc<[Op]>,
        out: &mut Outbox<Self>,
    ) {
        let all_parts = match self.validate(age, &ops) {
            Ok(all_parts) => all_parts,
            Err(invalid) => return self.reply_aborted(request, AbortReason::Invalid(invalid), out),
        };
        self.serial += 1;
        let tx = TxId { coordinator: self.id, incarnation: self.incarnation, serial: self.serial };
        self.request_log.set_status(request, RequestStatus::Undecided, self.config.requests_kept);
        let own = all_parts.of(self.id);
        let participants = all_parts.participants().clone();
        let vote_deadline = self.now + self.config.vote_timeout;
        let retransmit_at = self.now + self.backoff(0);
        let own_part_locked = own.ops().is_empty();
        let waiter = Waiter { age, tx };
        let collecting =
            Collecting { all_parts, ops, own, own_part_locked, reads: Vec::new(), vote_deadline };
        let stage = Stage::Collecting(Box::new(collecting));
        let (subordinates, responded, tries) = (participants.subordinates(self.id), 0, 0);
        self.coordinated.insert(
            tx,
            Coordinated {
                request,
                participants,
                subordinates,
                responded,
                tries,
                retransmit_at,
                stage,
            },
        );
        self.timers.set(vote_deadline, Timer::VoteTimeout, tx);
        self.timers.set(retransmit_at, Timer::Retransmit, tx);
        if !own_part_locked && !self.try_own_part(tx, out) {
            self.start_waiting(waiter);
        }
        if self
            .coordinated
            .get(tx)
            .is_some_and(|coordinated| matches!(coordinated.stage, Stage::Collecting(_)))
        {
            self.send_unanswered(tx, out);
        }
        self.decide_if_complete(tx, out);
    }

    fn validate(&self, age: Age, ops: &Arc<[Op]>) -> Result<Part, InvalidTransaction> {
        let all_parts = Part::of_all(age, ops)?;
        let unknown_node = all_parts.participants().iter().find(|node| !self.is_member(**node));
        let unknown_node = unknown_node.map(|node| InvalidTransaction::NoSuchNode(*node));
        unknown_node.map_or(Ok(all_parts), Err)
    }

    fn reply_aborted(&mut self, request: RequestId, reason: AbortReason, out: &mut Outbox<Self>) {
        self.request_log.set_status(
            request,
            RequestStatus::Aborted(reason),
            self.config.requests_kept,
        );
        self.reply(request, Outcome::Aborted { reason }, out);
    }

    /// Tries to lock the own part; false if it has to wait.
    pub(super) fn try_own_part(&mut self, tx: TxId, out: &mut Outbox<Self>) -> bool {
        let Some(Coordinated { stage: Stage::Collecting(collecting), .. }) =
            self.coordinated.get_mut(tx)
        else {
            return true;
        };
        match self.store.prepare(tx, collecting.own.age(), collecting.own.ops()) {
            PrepareResult::Wait => return false,
            PrepareResult::Refused(refusal) => {
                self.abort(tx, AbortReason::Refused { by: self.id, refusal }, out)
            }
            PrepareResult::Locked(reads) => {
                collecting.own_part_locked = true;
                if !reads.is_empty() {
                    collecting.reads.push((self.id, reads));
                }
                self.decide_if_complete(tx, out);
            }
        }
        true
    }

    pub(super) fn on_vote(
        &mut self,
        from: NodeId,
        tx: TxId,
        request: RequestId,
        vote: Vote,
        out: &mut Outbox<Self>,
    ) {
        if tx.coordinator != self.id {
            return self.drop_message(from, tx, request, DropReason::ReceiverNotCoordinator, out);
        }
        let Some(coordinated) = self.coordinated.get_mut(tx) else {
            return self.on_vote_for_forgotten(from, tx, request, &vote, out);
        };
        let Some(bit) =
            coordinated.participants.bit(from).filter(|bit| bit & coordinated.subordinates != 0)
        else {
            return self.drop_message(from, tx, request, DropReason::SenderNotParticipant, out);
        };
        let Stage::Collecting(collecting) = &mut coordinated.stage else { return };
        match vote {
            Vote::No(refusal) => self.abort(tx, AbortReason::Refused { by: from, refusal }, out),
            Vote::Yes { reads } => {
                if coordinated.responded & bit == 0 && !reads.is_empty() {
                    collecting.reads.push((from, reads));
                }
                coordinated.responded |= bit;
                self.decide_if_complete(tx, out);
            }
        }
    }

    /// A vote for a transaction that was aborted, or committed and forgotten. A Yes is answered
    /// with Abort: a participant that has committed had acknowledged before this node forgot, and
    /// ignores it.
    fn on_vote_for_forgotten(
        &mut self,
        to: NodeId,
        tx: TxId,
        request: RequestId,
        vote: &Vote,
        out: &mut Outbox<Self>,
    ) {
        if !self.has_begun(tx) {
            return self.drop_message(to, tx, request, DropReason::NotBegun, out);
        }
        match vote {
            Vote::Yes { .. } => self.send_abort(to, tx, request, out),
            Vote::No(_) => {}
        }
    }

    fn has_begun(&self, tx: TxId) -> bool {
        Position::of(tx) < self.next_position()
    }

    fn next_position(&self) -> Position {
        Position { incarnation: self.incarnation, serial: self.serial + 1 }
    }

    /// When all votes are Yes and the own part is locked, appends COMMIT with the own operations.
    fn decide_if_complete(&mut self, tx: TxId, out: &mut Outbox<Self>) {
        let Some(coordinated) = self.coordinated.get_mut(tx) else { return };
        let Stage::Collecting(collecting) = &coordinated.stage else { return };
        if !collecting.own_part_locked || coordinated.responded != coordinated.subordinates {
            return;
        }
        let (vote_deadline, retransmit_at) = (collecting.vote_deadline, coordinated.retransmit_at);
        let record =
            Record::Commit { tx, request: coordinated.request, part: collecting.own.clone() };
        let Stage::Collecting(collecting) =
            std::mem::replace(&mut coordinated.stage, Stage::Recovered)
        else {
            return;
        };
        coordinated.stage = Stage::Deciding(collecting);
        self.timers.cancel(vote_deadline, Timer::VoteTimeout, tx);
        self.timers.cancel(retransmit_at, Timer::Retransmit, tx);
        let ticket = self.wal.append(&record, CommittedTx(tx), out);
        self.pending.push_back(PendingRecord::Commit(ticket));
        self.wal.force(out);
    }

    pub(super) fn on_vote_timeout(&mut self, tx: TxId, out: &mut Outbox<Self>) {
        let id = self.id;
        let Some(coordinated) = self.coordinated.get(tx) else { return };
        let unresponsive = coordinated.subordinates & !coordinated.responded;
        let missing = coordinated.participants.among(unresponsive).next().unwrap_or(id);
        self.abort(tx, AbortReason::TimedOut { missing }, out);
    }

    /// Aborts: informs the participants that have voted Yes and the client, and forgets. A later
    /// Yes is answered when it arrives.
    fn abort(&mut self, tx: TxId, reason: AbortReason, out: &mut Outbox<Self>) {
        let Some(Coordinated { stage: Stage::Collecting(_), .. }) = self.coordinated.get(tx) else {
            return;
        };
        let coordinated = self.coordinated.remove(tx).expect("checked above");
        let Stage::Collecting(collecting) = coordinated.stage else { return };
        self.timers.cancel(collecting.vote_deadline, Timer::VoteTimeout, tx);
        self.timers.cancel(coordinated.retransmit_at, Timer::Retransmit, tx);
        if collecting.own_part_locked {
            self.store.abort(tx, collecting.own.ops());
            self.locks_released = true;
        } else {
            self.stop_waiting(Waiter { age: collecting.own.age(), tx });
        }
        for to in coordinated.participants.among(coordinated.responded) {
            self.send_abort(to, tx, coordinated.request, out);
        }
        self.reply_aborted(coordinated.request, reason, out);
    }

    fn send_abort(&mut self, to: NodeId, tx: TxId, request: RequestId, out: &mut Outbox<Self>) {
        let end_mark = self.end_mark();
        out.send(to, Message::Abort { tx, request, end_mark });
    }
}

/// Committing, resending, forgetting.
impl CommitNode {
    /// COMMIT is durable: applies the own part, sends Commit to the others, and replies to the
    /// client.
    pub(super) fn on_commit_durable(
        &mut self,
        proof: Durable<CommittedTx>,
        out: &mut Outbox<Self>,
    ) {
        let tx = proof.get().0;
        let coordinated =
            self.coordinated.get_mut(tx).expect("a decided transaction is remembered until END");
        let stage = std::mem::replace(&mut coordinated.stage, Stage::Committing(proof));
        let Stage::Deciding(decided) = stage else {
            panic!("COMMIT became durable in stage {stage:?}")
        };
        coordinated.responded = 0;
        coordinated.tries = 0;
        let request = coordinated.request;
        let alone = coordinated.subordinates == 0;
        self.store.commit(tx, decided.own.ops());
        self.locks_released = true;
        if alone {
            self.end(tx, request, out);
        } else {
            self.retransmit(tx, out);
        }
        let reads = reads_in_request_order(&decided.ops, &decided.reads);
        self.request_log.set_status(
            request,
            RequestStatus::Committed(tx, Some(reads.clone())),
            self.config.requests_kept,
        );
        self.reply_committed(request, proof, reads, out);
    }

    fn reply_committed(
        &mut self,
        request: RequestId,
        _: Durable<CommittedTx>,
        reads: Reads,
        out: &mut Outbox<Self>,
    ) {
        self.reply(request, Outcome::Committed { reads: Some(reads) }, out);
    }

    /// Resends every message that was not answered, and schedules the next resend.
    pub(super) fn retransmit(&mut self, tx: TxId, out: &mut Outbox<Self>) {
        let Some(coordinated) = self.coordinated.get_mut(tx) else { return };
        coordinated.tries += 1;
        let tries =
            coordinated.tries - u32::from(matches!(coordinated.stage, Stage::Committing(_)));
        let at = self.now + self.backoff(tries);
        self.coordinated.get_mut(tx).expect("checked above").retransmit_at = at;
        self.timers.set(at, Timer::Retransmit, tx);
        self.send_unanswered(tx, out);
    }

    fn send_unanswered(&mut self, tx: TxId, out: &mut Outbox<Self>) {
        let end_mark = self.end_mark();
        let Some(coordinated) = self.coordinated.get(tx) else { return };
        let unresponsive = coordinated.subordinates & !coordinated.responded;
        let request = coordinated.request;
        for to in coordinated.participants.among(unresponsive) {
            let end_mark = end_mark.clone();
            match &coordinated.stage {
                Stage::Collecting(collecting) => {
                    let part = collecting.all_parts.of(to);
                    out.send(to, Message::Prepare { tx, request, part, end_mark });
                }
                Stage::Committing(proof) => send_commit(to, request, *proof, end_mark, out),
                Stage::Deciding(_) | Stage::Recovered => {}
            }
        }
    }

    pub(super) fn on_ack(
        &mut self,
        from: NodeId,
        tx: TxId,
        request: RequestId,
        out: &mut Outbox<Self>,
    ) {
        if tx.coordinator != self.id {
            return self.drop_message(from, tx, request, DropReason::ReceiverNotCoordinator, out);
        }
        let Some(coordinated) = self.coordinated.get_mut(tx) else { return };
        let Some(bit) = coordinated.participants.bit(from) else {
            return self.drop_message(from, tx, request, DropReason::SenderNotParticipant, out);
        };
        let Stage::Committing(_) = coordinated.stage else {
            return self.drop_message(from, tx, request, DropReason::NotDecided, out);
        };
        coordinated.responded |= bit;
        if coordinated.responded & coordinated.subordinates == coordinated.subordinates {
            self.end(tx, request, out);
        }
    }

    /// All participants have acknowledged: appends END, unforced, and forgets the transaction.
    fn end(&mut self, tx: TxId, request: RequestId, out: &mut Outbox<Self>) {
        let coordinated = self.coordinated.remove(tx).expect("only a coordinated transaction ends");
        self.timers.cancel(coordinated.retransmit_at, Timer::Retransmit, tx);
        let _unforced = self.wal.append(&Record::End { tx, request }, (), out);
    }

    /// A participant is in doubt. No answer while the transaction is undecided; Abort, by
    /// presumption, if it is unknown.
    pub(super) fn on_inquiry_as_coordinator(
        &mut self,
        from: NodeId,
        tx: TxId,
        request: RequestId,
        out: &mut Outbox<Self>,
    ) {
        let end_mark = self.end_mark();
        match self.coordinated.get(tx).map(|coordinated| &coordinated.stage) {
            Some(Stage::Committing(proof)) => send_commit(from, request, *proof, end_mark, out),
            Some(Stage::Collecting(_) | Stage::Deciding(_) | Stage::Recovered) => {}
            None if self.has_begun(tx) => self.send_abort(from, tx, request, out),
            None => self.drop_message(from, tx, request, DropReason::NotBegun, out),
        }
    }

    /// After boot: sends Commit again for every committed transaction that is not acknowledged by
    /// all.
    pub(super) fn resume_coordinated(&mut self, out: &mut Outbox<Self>) {
        for tx in self.coordinated.keys() {
            let proof = self
                .wal
                .redeem(self.wal.recovered_ticket(CommittedTx(tx)))
                .expect("the boot snapshot is durable");
            self.coordinated.get_mut(tx).expect("a key of this map").stage =
                Stage::Committing(proof);
            self.retransmit(tx, out);
        }
    }

    /// The end mark of this node's own transactions.
    fn end_mark(&mut self) -> EndMark {
        let open = self.coordinated.iter().map(|(tx, _)| Position::of(tx));
        let end_mark = EndMark::new(self.next_position(), open, self.last_end_mark.as_ref());
        self.last_end_mark = Some(end_mark.clone());
        end_mark
    }

    /// Adds committed transactions without END to a snapshot, and applies those that are not yet
    /// applied.
    pub(super) fn add_committing(&self, state: &mut State) {
        for (tx, coordinated) in self.coordinated.iter() {
            let (request, participants) = (coordinated.request, coordinated.participants.clone());
            match &coordinated.stage {
                Stage::Collecting(_) => continue,
                Stage::Deciding(decided) => {
                    apply_ops(&mut state.values, decided.own.ops());
                    state.insert_committed(tx, request);
                }
                Stage::Committing(_) | Stage::Recovered => {}
            }
            if participants.subordinates(self.id) != 0 {
                state.committing.push(Committing { tx, request, participants });
            }
        }
    }
}

fn send_commit(
    to: NodeId,
    request: RequestId,
    proof: Durable<CommittedTx>,
    end_mark: EndMark,
    out: &mut Outbox<CommitNode>,
) {
    out.send(to, Message::Commit { tx: proof.get().0, request, end_mark });
}
