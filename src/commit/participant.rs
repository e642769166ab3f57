//! The half that obeys: locks, votes, and waits for the decision; in doubt, it asks and never decides alone.

use super::event::{Event, Nonsense};
use super::message::{Message, No, Said, Vote};
use super::node::{CommitNode, Pending, PreparedTx, SettledTx, Waiter};
use super::op::Reads;
use super::part::Part;
use super::record::Record;
use super::state::{self, Decision};
use super::timers::Alarm;
use super::words::{Ended, Position, Word};
use crate::contract::Outbox;
use crate::id::{NodeId, RequestId, Time, TxId};
use crate::store::Grant;
use crate::wal::Durable;

/// A transaction that this node takes part in and that is undecided.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: RequestId,
    pub(super) part: Part,
    stage: Stage,
    reads: Reads,
    /// Since when its locks are held, in this life; for who looks on.
    pub(super) since: Time,
    /// How often this node has asked what became of it.
    asked: u32,
    /// When it gives up waiting for a lock, or asks (again).
    due_at: Time,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// For locks; leaves no trace.
    Waiting,
    /// PREPARED is appended.
    Preparing,
    /// PREPARED is durable, and Yes was said: in doubt.
    Prepared(Durable<PreparedTx>),
}

/// What was decided here.
#[derive(Clone, Debug)]
pub(super) struct Known {
    name: RequestId,
    decision: Decision,
    /// That the terminal record is durable.
    proof: Option<Durable<SettledTx>>,
}

impl Member {
    /// Its locks have been held all the time: `reads` are what they were when it was prepared, and its vote may still
    /// be asked for.
    pub(super) fn recovered(name: RequestId, part: Part, reads: Reads, since: Time) -> Member {
        Member { name, part, stage: Stage::Preparing, reads, since, asked: 0, due_at: Time(0) }
    }

    pub(super) fn has_voted(&self) -> bool {
        matches!(self.stage, Stage::Prepared(_))
    }

    pub(super) fn asked(&self) -> u32 {
        self.asked
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting)
    }
}

impl Known {
    pub(super) fn recovered(known: state::Known) -> Known {
        Known { name: known.name, decision: known.decision, proof: None }
    }

    /// The coordinator waits for an Ack, which waits for the disk.
    pub(super) fn owes_ack(&self) -> bool {
        self.decision == Decision::Committed && self.proof.is_none()
    }

    pub(super) fn state(&self, tx: TxId) -> state::Known {
        state::Known { tx, name: self.name, decision: self.decision }
    }
}

/// Preparing and voting.
impl CommitNode {
    pub(super) fn on_prepare(&mut self, tx: TxId, name: RequestId, part: Part, out: &mut Outbox<Self>) {
        let mine = part.ops().iter().all(|op| op.node == self.id) && !part.ops().is_empty();
        if !mine || part.participants().bit(self.id).is_none() {
            return self.drop_message(tx.coordinator, tx, name, Nonsense::NotOurPart, out);
        }
        if let Some(known) = self.outcomes.get(tx) {
            match known.decision {
                Decision::Committed => {}
                Decision::Aborted => send_no(tx, name, No::Aborted, out),
            }
            return;
        }
        if self.has_ended(tx) {
            return;
        }
        if let Some(member) = self.members.get(tx) {
            if let Stage::Prepared(proof) = member.stage {
                send_yes(proof, name, member.reads.clone(), out);
            }
            return;
        }
        let waiter = Waiter { age: part.age(), tx };
        let due_at = self.now + self.config.vote_timeout;
        let (stage, reads, since) = (Stage::Waiting, Reads::default(), self.now);
        let member = Member { name, part, stage, reads, since, asked: 0, due_at };
        self.members.insert(tx, member);
        if !self.try_member(tx, out) {
            self.start_waiting(waiter);
            self.timers.set(due_at, Alarm::Lock, tx);
        }
    }

    /// Tries to lock for one who waits; false if it has to wait on.
    pub(super) fn try_member(&mut self, tx: TxId, out: &mut Outbox<Self>) -> bool {
        let Some(member) = self.members.get_mut(tx).filter(|member| member.is_waiting()) else { return true };
        let grant = self.store.prepare(tx, member.part.age(), member.part.ops());
        let (name, due_at) = (member.name, member.due_at);
        match grant {
            Grant::Wait => return false,
            Grant::No(no) => {
                self.members.remove(tx);
                send_no(tx, name, no, out);
            }
            Grant::Locked(reads) => {
                member.reads = reads;
                member.since = self.now;
                member.stage = Stage::Preparing;
                let record = Record::Prepared { tx, name, part: member.part.clone() };
                let ticket = self.wal.append(&record, PreparedTx(tx), out);
                self.pending.push_back(Pending::Yes(ticket));
                self.wal.force(out);
            }
        }
        self.timers.cancel(due_at, Alarm::Lock, tx);
        true
    }

    /// PREPARED is durable: vote Yes, unless something was decided meanwhile.
    pub(super) fn on_prepared(&mut self, proof: Durable<PreparedTx>, out: &mut Outbox<Self>) {
        let tx = proof.get().0;
        let due_at = self.now + self.config.vote_timeout;
        let Some(member) = self.members.get_mut(tx) else { return };
        member.stage = Stage::Prepared(proof);
        member.due_at = due_at;
        send_yes(proof, member.name, member.reads.clone(), out);
        self.timers.set(due_at, Alarm::Ask, tx);
    }

    pub(super) fn on_lock_overdue(&mut self, tx: TxId) {
        self.discard_waiting(tx);
    }

    fn discard_waiting(&mut self, tx: TxId) {
        if self.members.get(tx).is_some_and(Member::is_waiting) {
            let member = self.members.remove(tx).expect("just seen");
            self.timers.cancel(member.due_at, Alarm::Lock, tx);
            self.stop_waiting(Waiter { age: member.part.age(), tx });
        }
    }
}

/// Learning what was decided.
impl CommitNode {
    pub(super) fn on_commit(&mut self, tx: TxId, name: RequestId, out: &mut Outbox<Self>) {
        if self.members.get(tx).is_some_and(|member| !member.is_waiting()) {
            return self.settle(tx, Decision::Committed, out);
        }
        match self.outcomes.get(tx) {
            Some(Known { decision: Decision::Committed, proof, .. }) => {
                if let Some(proof) = *proof {
                    send_ack(proof, name, out);
                }
            }
            None if self.has_ended(tx) => out.send(tx.coordinator, Message::Ack { tx, name }),
            Some(Known { decision: Decision::Aborted, .. }) | None => out.report(Event::Damage { tx, name }),
        }
    }

    pub(super) fn on_abort(&mut self, tx: TxId, out: &mut Outbox<Self>) {
        self.discard_waiting(tx);
        if self.members.get(tx).is_some() {
            self.settle(tx, Decision::Aborted, out);
        }
    }

    /// Writes the terminal record, performs the decision and lets the locks go. An abort is not forced: whoever loses
    /// it is in doubt again, and will be told again.
    fn settle(&mut self, tx: TxId, decision: Decision, out: &mut Outbox<Self>) {
        let member = self.members.remove(tx).expect("only members are settled");
        self.timers.cancel(member.due_at, Alarm::Ask, tx);
        let name = member.name;
        let record = match decision {
            Decision::Committed => Record::Committed { tx, name },
            Decision::Aborted => Record::Aborted { tx, name },
        };
        self.record_outcome(tx, name, decision, &record, out);
        match decision {
            Decision::Committed => {
                self.wal.force(out);
                self.store.commit(tx, member.part.ops());
            }
            Decision::Aborted => self.store.abort(tx, member.part.ops()),
        }
        self.released = true;
    }

    fn record_outcome(
        &mut self,
        tx: TxId,
        name: RequestId,
        decision: Decision,
        record: &Record,
        out: &mut Outbox<Self>,
    ) {
        let ticket = self.wal.append(record, SettledTx(tx), out);
        self.pending.push_back(Pending::Settled(ticket));
        self.outcomes.insert(tx, Known { name, decision, proof: None });
    }

    /// A terminal record is durable: acknowledge, or tell those who asked.
    pub(super) fn on_settled(&mut self, proof: Durable<SettledTx>, out: &mut Outbox<Self>) {
        let tx = proof.get().0;
        if let Some(known) = self.outcomes.get_mut(tx) {
            known.proof = Some(proof);
            let name = known.name;
            match known.decision {
                Decision::Committed => send_ack(proof, name, out),
                Decision::Aborted => {
                    for (_, to) in self.to_tell.iter().filter(|(asked, _)| *asked == tx) {
                        send_told(*to, proof, name, Said::Aborted, out);
                    }
                }
            }
        }
        self.to_tell.retain(|(asked, _)| *asked != tx);
    }
}

/// In doubt.
impl CommitNode {
    /// Asks the coordinator; from the second time on, all other participants too.
    pub(super) fn ask(&mut self, tx: TxId, out: &mut Outbox<Self>) {
        let Some(member) = self.members.get_mut(tx) else { return };
        member.asked += 1;
        let (name, asked) = (member.name, member.asked);
        out.send(tx.coordinator, Message::Inquire { tx, name });
        if asked > 1 {
            let me = self.id;
            for &to in member.part.participants().iter().filter(|to| **to != me && **to != tx.coordinator) {
                out.send(to, Message::Inquire { tx, name });
            }
        }
        let at = self.now + self.backoff(asked - 1);
        self.members.get_mut(tx).expect("just seen").due_at = at;
        self.timers.set(at, Alarm::Ask, tx);
    }

    /// Another participant is in doubt. Who has no record and will not vote Yes any more decides: it forces ABORT, and
    /// tells when that is durable.
    pub(super) fn on_inquiry(&mut self, from: NodeId, tx: TxId, name: RequestId, out: &mut Outbox<Self>) {
        if let Some(known) = self.outcomes.get(tx) {
            match (known.proof, known.decision) {
                (Some(proof), Decision::Committed) => send_told(from, proof, name, Said::Committed, out),
                (Some(proof), Decision::Aborted) => send_told(from, proof, name, Said::Aborted, out),
                (None, Decision::Committed) => {}
                (None, Decision::Aborted) => self.tell_when_durable(tx, from, out),
            }
            return;
        }
        if self.has_ended(tx) {
            return;
        }
        self.discard_waiting(tx);
        if self.members.get(tx).is_some() {
            out.send(from, Message::Tell { tx, name, said: Said::Uncertain });
            return;
        }
        self.record_outcome(tx, name, Decision::Aborted, &Record::Aborted { tx, name }, out);
        self.tell_when_durable(tx, from, out);
    }

    fn tell_when_durable(&mut self, tx: TxId, to: NodeId, out: &mut Outbox<Self>) {
        if !self.to_tell.contains(&(tx, to)) {
            self.to_tell.push((tx, to));
        }
        self.wal.force(out);
    }

    pub(super) fn on_tell(
        &mut self,
        from: NodeId,
        tx: TxId,
        name: RequestId,
        said: Said,
        out: &mut Outbox<Self>,
    ) {
        let Some(member) = self.members.get(tx).filter(|member| !member.is_waiting()) else { return };
        if member.part.participants().bit(from).is_none() {
            return self.drop_message(from, tx, name, Nonsense::NotAParticipant, out);
        }
        match said {
            Said::Committed => self.settle(tx, Decision::Committed, out),
            Said::Aborted => self.settle(tx, Decision::Aborted, out),
            Said::Uncertain => {}
        }
    }

    /// After boot: what is in doubt is asked about at once.
    pub(super) fn resume_members(&mut self, out: &mut Outbox<Self>) {
        for tx in self.members.keys() {
            let proof =
                self.wal.redeem(self.wal.recovered(PreparedTx(tx))).expect("the boot barrier has completed");
            self.members.get_mut(tx).expect("a key of this table").stage = Stage::Prepared(proof);
            self.ask(tx, out);
        }
    }

    pub(super) fn resume_outcomes(&mut self) {
        for (tx, known) in self.outcomes.iter_mut() {
            let proof = self.wal.redeem(self.wal.recovered(SettledTx(tx)));
            known.proof = Some(proof.expect("the boot barrier has completed"));
        }
    }
}

/// Forgetting.
impl CommitNode {
    pub(super) fn has_ended(&self, tx: TxId) -> bool {
        let at = self.ended.binary_search_by_key(&tx.coordinator, |ended| ended.coordinator);
        at.is_ok_and(|at| self.ended[at].contains(Position::of(tx)))
    }

    /// A coordinator's word: what has ended needs no outcome any more, and is not worth waiting for.
    pub(super) fn absorb(&mut self, coordinator: NodeId, word: &Word) {
        let at = match self.ended.binary_search_by_key(&coordinator, |ended| ended.coordinator) {
            Ok(at) => at,
            Err(at) => {
                self.ended.insert(at, Ended::nothing(coordinator));
                at
            }
        };
        if !self.ended[at].absorb(word) {
            return;
        }
        let ended = &self.ended[at];
        self.outcomes.retain(|tx, _| tx.coordinator != coordinator || !ended.contains(Position::of(tx)));
        let over = |waiter: &&Waiter| {
            waiter.tx.coordinator == coordinator && ended.contains(Position::of(waiter.tx))
        };
        let over: Vec<TxId> = self.waiting.iter().filter(over).map(|waiter| waiter.tx).collect();
        for tx in over {
            self.discard_waiting(tx);
        }
    }
}

fn send_yes(proof: Durable<PreparedTx>, name: RequestId, reads: Reads, out: &mut Outbox<CommitNode>) {
    let tx = proof.get().0;
    out.send(tx.coordinator, Message::Vote { tx, name, vote: Vote::Yes { reads } });
}

fn send_no(tx: TxId, name: RequestId, why: No, out: &mut Outbox<CommitNode>) {
    out.send(tx.coordinator, Message::Vote { tx, name, vote: Vote::No(why) });
}

fn send_ack(proof: Durable<SettledTx>, name: RequestId, out: &mut Outbox<CommitNode>) {
    let tx = proof.get().0;
    out.send(tx.coordinator, Message::Ack { tx, name });
}

fn send_told(
    to: NodeId,
    proof: Durable<SettledTx>,
    name: RequestId,
    said: Said,
    out: &mut Outbox<CommitNode>,
) {
    out.send(to, Message::Tell { tx: proof.get().0, name, said });
}
