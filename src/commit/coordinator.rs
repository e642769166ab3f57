//! The half that decides: collects votes, forces COMMIT, and repeats it until everybody has acknowledged.
//!
//! Presumed abort (Mohan, Lindsay, Obermarck 1986, "Transaction management in the R* distributed database management
//! system", section 3): an abort leaves no record and is forgotten at once; who asks about a transaction that this
//! node knows nothing of is told "aborted". The coordinator's own part is prepared in memory only, and shares the
//! COMMIT record.

use std::sync::Arc;

use super::event::Nonsense;
use super::message::{Message, Vote};
use super::names::Fate;
use super::node::{CommitNode, CommittedTx, Pending, Waiter, in_order};
use super::op::{Op, Reads};
use super::part::{Age, Invalid, Part, Participants};
use super::record::Record;
use super::request::{Outcome, Why};
use super::state::{Committing, State, apply_ops};
use super::timers::Alarm;
use super::words::{Position, Word};
use crate::contract::Outbox;
use crate::id::{NodeId, RequestId, Time, TxId};
use crate::store::Grant;
use crate::wal::Durable;

/// A transaction that this node coordinates, from its beginning to END (or to the decision to abort).
#[derive(Clone, Debug)]
pub(super) struct Led {
    name: RequestId,
    participants: Participants,
    /// All of them but the coordinator.
    subordinates: u64,
    /// Who has voted Yes, then who has acknowledged: a set, so nobody counts twice.
    heard: u64,
    tries: u32,
    repeat_at: Time,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Prepare is out.
    Collecting(Box<Collecting>),
    /// COMMIT is appended. Nobody may know.
    Deciding(Box<Collecting>),
    /// COMMIT is durable.
    Committing(Durable<CommittedTx>),
    /// COMMIT was read back at boot, and the boot barrier is under way.
    Recovered,
}

#[derive(Clone, Debug)]
struct Collecting {
    whole: Part,
    /// As the client gave them.
    ops: Arc<[Op]>,
    own: Part,
    /// Whether the own part has its locks.
    own_ready: bool,
    reads: Vec<(NodeId, Reads)>,
    overdue_at: Time,
}

/// How far it has come, for who looks on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LedPhase {
    Collecting,
    Deciding,
    Committing,
}

impl Led {
    pub(super) fn phase(&self) -> LedPhase {
        match self.stage {
            Stage::Collecting(_) => LedPhase::Collecting,
            Stage::Deciding(_) => LedPhase::Deciding,
            Stage::Committing(_) | Stage::Recovered => LedPhase::Committing,
        }
    }

    /// Read back at boot by its coordinator, `id`.
    pub(super) fn recovered(id: NodeId, name: RequestId, participants: Participants) -> Led {
        let subordinates = participants.subordinates(id);
        let (heard, tries, repeat_at, stage) = (0, 0, Time(0), Stage::Recovered);
        Led { name, participants, subordinates, heard, tries, repeat_at, stage }
    }
}

/// Beginning, voting, deciding.
impl CommitNode {
    /// A new request: locks the own part and asks the others, both at once.
    pub(super) fn begin(&mut self, name: RequestId, age: Age, ops: Arc<[Op]>, out: &mut Outbox<Self>) {
        let whole = match self.whole(age, &ops) {
            Ok(whole) => whole,
            Err(invalid) => return self.refuse(name, Why::Invalid(invalid), out),
        };
        self.serial += 1;
        let tx = TxId { coordinator: self.id, incarnation: self.life, serial: self.serial };
        self.names.note(name, Fate::Undecided, self.config.names_kept);
        let own = whole.of(self.id);
        let participants = whole.participants().clone();
        let overdue_at = self.now + self.config.vote_timeout;
        let repeat_at = self.now + self.backoff(0);
        let own_ready = own.ops().is_empty();
        let waiter = Waiter { age, tx };
        let collecting = Collecting { whole, ops, own, own_ready, reads: Vec::new(), overdue_at };
        let stage = Stage::Collecting(Box::new(collecting));
        let (subordinates, heard, tries) = (participants.subordinates(self.id), 0, 0);
        self.led.insert(tx, Led { name, participants, subordinates, heard, tries, repeat_at, stage });
        self.timers.set(overdue_at, Alarm::Votes, tx);
        self.timers.set(repeat_at, Alarm::Repeat, tx);
        if !own_ready && !self.try_own_part(tx, out) {
            self.start_waiting(waiter);
        }
        if self.led.get(tx).is_some_and(|led| matches!(led.stage, Stage::Collecting(_))) {
            self.say_again(tx, out);
        }
        self.decide_if_complete(tx, out);
    }

    fn whole(&self, age: Age, ops: &Arc<[Op]>) -> Result<Part, Invalid> {
        let whole = Part::whole(age, ops)?;
        let stranger = whole.participants().iter().find(|node| !self.is_member(**node));
        let stranger = stranger.map(|node| Invalid::NoSuchNode(*node));
        stranger.map_or(Ok(whole), Err)
    }

    fn refuse(&mut self, name: RequestId, why: Why, out: &mut Outbox<Self>) {
        self.names.note(name, Fate::Aborted(why), self.config.names_kept);
        self.reply(name, Outcome::Aborted { why }, out);
    }

    /// Tries to lock the own part; false if it has to wait.
    pub(super) fn try_own_part(&mut self, tx: TxId, out: &mut Outbox<Self>) -> bool {
        let Some(Led { stage: Stage::Collecting(collecting), .. }) = self.led.get_mut(tx) else {
            return true;
        };
        match self.store.prepare(tx, collecting.own.age(), collecting.own.ops()) {
            Grant::Wait => return false,
            Grant::No(no) => self.abort(tx, Why::Refused { by: self.id, no }, out),
            Grant::Locked(reads) => {
                collecting.own_ready = true;
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
        name: RequestId,
        vote: Vote,
        out: &mut Outbox<Self>,
    ) {
        if tx.coordinator != self.id {
            return self.drop_message(from, tx, name, Nonsense::NotForUs, out);
        }
        let Some(led) = self.led.get_mut(tx) else {
            return self.on_vote_for_forgotten(from, tx, name, &vote, out);
        };
        let Some(bit) = led.participants.bit(from).filter(|bit| bit & led.subordinates != 0) else {
            return self.drop_message(from, tx, name, Nonsense::NotAParticipant, out);
        };
        let Stage::Collecting(collecting) = &mut led.stage else { return };
        match vote {
            Vote::No(no) => self.abort(tx, Why::Refused { by: from, no }, out),
            Vote::Yes { reads } => {
                if led.heard & bit == 0 && !reads.is_empty() {
                    collecting.reads.push((from, reads));
                }
                led.heard |= bit;
                self.decide_if_complete(tx, out);
            }
        }
    }

    /// A vote for what was aborted, or committed and forgotten. A Yes is answered with Abort: whoever has committed
    /// has acknowledged before this node forgot, and ignores it.
    fn on_vote_for_forgotten(
        &mut self,
        to: NodeId,
        tx: TxId,
        name: RequestId,
        vote: &Vote,
        out: &mut Outbox<Self>,
    ) {
        if !self.has_begun(tx) {
            return self.drop_message(to, tx, name, Nonsense::NotBegun, out);
        }
        match vote {
            Vote::Yes { .. } => self.send_abort(to, tx, name, out),
            Vote::No(_) => {}
        }
    }

    fn has_begun(&self, tx: TxId) -> bool {
        Position::of(tx) < self.next_position()
    }

    fn next_position(&self) -> Position {
        Position { life: self.life, serial: self.serial + 1 }
    }

    /// All votes are Yes and the own part is locked: COMMIT goes into the log, with the own operations.
    fn decide_if_complete(&mut self, tx: TxId, out: &mut Outbox<Self>) {
        let Some(led) = self.led.get_mut(tx) else { return };
        let Stage::Collecting(collecting) = &led.stage else { return };
        if !collecting.own_ready || led.heard != led.subordinates {
            return;
        }
        let (overdue_at, repeat_at) = (collecting.overdue_at, led.repeat_at);
        let record = Record::Commit { tx, name: led.name, part: collecting.own.clone() };
        let Stage::Collecting(collecting) = std::mem::replace(&mut led.stage, Stage::Recovered) else {
            return;
        };
        led.stage = Stage::Deciding(collecting);
        self.timers.cancel(overdue_at, Alarm::Votes, tx);
        self.timers.cancel(repeat_at, Alarm::Repeat, tx);
        let ticket = self.wal.append(&record, CommittedTx(tx), out);
        self.pending.push_back(Pending::Decided(ticket));
        self.wal.force(out);
    }

    pub(super) fn on_votes_overdue(&mut self, tx: TxId, out: &mut Outbox<Self>) {
        let id = self.id;
        let Some(led) = self.led.get(tx) else { return };
        let silent = led.subordinates & !led.heard;
        let missing = led.participants.among(silent).next().unwrap_or(id);
        self.abort(tx, Why::TimedOut { missing }, out);
    }

    /// Aborts: tells the Yes-voters so far and the client, and forgets. A later Yes is answered when it comes.
    fn abort(&mut self, tx: TxId, why: Why, out: &mut Outbox<Self>) {
        let Some(Led { stage: Stage::Collecting(_), .. }) = self.led.get(tx) else { return };
        let led = self.led.remove(tx).expect("just seen");
        let Stage::Collecting(collecting) = led.stage else { return };
        self.timers.cancel(collecting.overdue_at, Alarm::Votes, tx);
        self.timers.cancel(led.repeat_at, Alarm::Repeat, tx);
        if collecting.own_ready {
            self.store.abort(tx, collecting.own.ops());
            self.released = true;
        } else {
            self.stop_waiting(Waiter { age: collecting.own.age(), tx });
        }
        for to in led.participants.among(led.heard) {
            self.send_abort(to, tx, led.name, out);
        }
        self.refuse(led.name, why, out);
    }

    fn send_abort(&mut self, to: NodeId, tx: TxId, name: RequestId, out: &mut Outbox<Self>) {
        let word = self.word();
        out.send(to, Message::Abort { tx, name, word });
    }
}

/// Committing, repeating, forgetting.
impl CommitNode {
    /// COMMIT is durable: now the own part may be applied, the others told, and the client answered.
    pub(super) fn on_commit_durable(&mut self, proof: Durable<CommittedTx>, out: &mut Outbox<Self>) {
        let tx = proof.get().0;
        let led = self.led.get_mut(tx).expect("a decided transaction is remembered until END");
        let stage = std::mem::replace(&mut led.stage, Stage::Committing(proof));
        let Stage::Deciding(decided) = stage else { panic!("COMMIT became durable in no {stage:?}") };
        led.heard = 0;
        led.tries = 0;
        let name = led.name;
        let alone = led.subordinates == 0;
        self.store.commit(tx, decided.own.ops());
        self.released = true;
        if alone {
            self.end(tx, name, out);
        } else {
            self.repeat(tx, out);
        }
        let reads = in_order(&decided.ops, &decided.reads);
        self.names.note(name, Fate::Committed(tx, Some(reads.clone())), self.config.names_kept);
        self.reply_committed(name, proof, reads, out);
    }

    fn reply_committed(
        &mut self,
        name: RequestId,
        _: Durable<CommittedTx>,
        reads: Reads,
        out: &mut Outbox<Self>,
    ) {
        self.reply(name, Outcome::Committed { reads: Some(reads) }, out);
    }

    /// Says what was not answered, and will say it again.
    pub(super) fn repeat(&mut self, tx: TxId, out: &mut Outbox<Self>) {
        let Some(led) = self.led.get_mut(tx) else { return };
        led.tries += 1;
        let tries = led.tries - u32::from(matches!(led.stage, Stage::Committing(_)));
        let at = self.now + self.backoff(tries);
        self.led.get_mut(tx).expect("just seen").repeat_at = at;
        self.timers.set(at, Alarm::Repeat, tx);
        self.say_again(tx, out);
    }

    fn say_again(&mut self, tx: TxId, out: &mut Outbox<Self>) {
        let word = self.word();
        let Some(led) = self.led.get(tx) else { return };
        let silent = led.subordinates & !led.heard;
        let name = led.name;
        for to in led.participants.among(silent) {
            let word = word.clone();
            match &led.stage {
                Stage::Collecting(collecting) => {
                    let part = collecting.whole.of(to);
                    out.send(to, Message::Prepare { tx, name, part, word });
                }
                Stage::Committing(proof) => send_commit(to, name, *proof, word, out),
                Stage::Deciding(_) | Stage::Recovered => {}
            }
        }
    }

    pub(super) fn on_ack(&mut self, from: NodeId, tx: TxId, name: RequestId, out: &mut Outbox<Self>) {
        if tx.coordinator != self.id {
            return self.drop_message(from, tx, name, Nonsense::NotForUs, out);
        }
        let Some(led) = self.led.get_mut(tx) else { return };
        let Some(bit) = led.participants.bit(from) else {
            return self.drop_message(from, tx, name, Nonsense::NotAParticipant, out);
        };
        let Stage::Committing(_) = led.stage else {
            return self.drop_message(from, tx, name, Nonsense::NotDecided, out);
        };
        led.heard |= bit;
        if led.heard & led.subordinates == led.subordinates {
            self.end(tx, name, out);
        }
    }

    /// All have acknowledged: END, not forced, and it is forgotten.
    fn end(&mut self, tx: TxId, name: RequestId, out: &mut Outbox<Self>) {
        let led = self.led.remove(tx).expect("only what is led ends");
        self.timers.cancel(led.repeat_at, Alarm::Repeat, tx);
        let _unforced = self.wal.append(&Record::End { tx, name }, (), out);
    }

    /// Somebody is in doubt. Silence while it is undecided; Abort, by presumption, if nothing is known of it.
    pub(super) fn on_inquiry_of_mine(
        &mut self,
        from: NodeId,
        tx: TxId,
        name: RequestId,
        out: &mut Outbox<Self>,
    ) {
        let word = self.word();
        match self.led.get(tx).map(|led| &led.stage) {
            Some(Stage::Committing(proof)) => send_commit(from, name, *proof, word, out),
            Some(Stage::Collecting(_) | Stage::Deciding(_) | Stage::Recovered) => {}
            None if self.has_begun(tx) => self.send_abort(from, tx, name, out),
            None => self.drop_message(from, tx, name, Nonsense::NotBegun, out),
        }
    }

    /// After boot: what was committed and not acknowledged by all is said again at once.
    pub(super) fn resume_led(&mut self, out: &mut Outbox<Self>) {
        for tx in self.led.keys() {
            let proof =
                self.wal.redeem(self.wal.recovered(CommittedTx(tx))).expect("the boot barrier has completed");
            self.led.get_mut(tx).expect("a key of this table").stage = Stage::Committing(proof);
            self.repeat(tx, out);
        }
    }

    /// What has ended, in this node's own words.
    fn word(&mut self) -> Word {
        let open = self.led.iter().map(|(tx, _)| Position::of(tx));
        let word = Word::new(self.next_position(), open, self.last_word.as_ref());
        self.last_word = Some(word.clone());
        word
    }

    /// Adds what is committed and not ended to a snapshot, and applies what is committed and not yet applied.
    pub(super) fn add_committing(&self, state: &mut State) {
        for (tx, led) in self.led.iter() {
            let (name, participants) = (led.name, led.participants.clone());
            match &led.stage {
                Stage::Collecting(_) => continue,
                Stage::Deciding(decided) => {
                    apply_ops(&mut state.values, decided.own.ops());
                    state.remember(tx, name);
                }
                Stage::Committing(_) | Stage::Recovered => {}
            }
            if participants.subordinates(self.id) != 0 {
                state.committing.push(Committing { tx, name, participants });
            }
        }
    }
}

fn send_commit(
    to: NodeId,
    name: RequestId,
    proof: Durable<CommittedTx>,
    word: Word,
    out: &mut Outbox<CommitNode>,
) {
    out.send(to, Message::Commit { tx: proof.get().0, name, word });
}
