//! The coordinator: collects votes, forces COMMIT, and resends it until every participant has
//! acknowledged.
//!
//! Presumed abort (Mohan, Lindsay, Obermarck 1986, "Transaction management in the R* distributed
//! database management system", section 3): an abort leaves no record and is forgotten at once; an
//! inquiry about a transaction that this node does not know is answered "aborted". The
//! coordinator's own part is prepared in memory only, and shares the COMMIT record.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::context::{CommittedTx, Context, IncarnationIs, Waiter};
use super::dedup::{Address, Lookup, RequestLog, RequestStatus};
use super::end_mark::{EndMark, Position};
use super::event::DropReason;
use super::message::{Body, Message, RecordIsDurable, Vote};
use super::node::CommitNode;
use super::op::{Op, Reads};
use super::part::{Age, InvalidTransaction, Part, Participants};
use super::record::Record;
use super::request::{AbortReason, Outcome, Request, Response};
use super::state::{ClientHistory, Committing, State, apply_ops};
use super::timers::Timer;
use super::tx_id::TxId;
use super::tx_map::TxMap;
use crate::store::PrepareResult;
use stormglass_node::contract::Outbox;
use stormglass_node::id::{NodeId, RequestId, Time};
use stormglass_node::wal::Durable;

/// The coordinator half of a node.
#[derive(Clone, Debug)]
pub(super) struct Coordinator {
    /// The number of the last request that this incarnation has begun to handle. A transaction has
    /// the number of its request; a request that is no transaction leaves a gap.
    serial: u64,
    /// The open transactions that this node coordinates.
    coordinated: TxMap<Coordinated>,
    request_log: RequestLog,
    last_end_mark: Option<EndMark>,
}

/// A transaction that this node coordinates, from its beginning to END (or to the decision to
/// abort).
#[derive(Clone, Debug)]
struct Coordinated {
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

/// Recovery, and what operators see.
impl Coordinator {
    /// The half of node `id` with these committed transactions and remembered requests.
    pub(super) fn recovered(
        id: NodeId,
        clients: BTreeMap<u64, ClientHistory>,
        forgotten_below: Position,
        committing: Vec<Committing>,
    ) -> Coordinator {
        let mut coordinated = TxMap::default();
        for Committing { tx, request, participants } in committing {
            let recovered = Coordinated {
                request,
                subordinates: participants.subordinates(id),
                participants,
                responded: 0,
                tries: 0,
                retransmit_at: Time(0),
                stage: Stage::Recovered,
            };
            coordinated.insert(tx, recovered);
        }
        let request_log = RequestLog::recovered(clients, forgotten_below);
        // A transaction id contains the incarnation, so serials may begin again.
        Coordinator { serial: 0, coordinated, request_log, last_end_mark: None }
    }

    /// The number of open transactions.
    pub(super) fn count(&self) -> usize {
        self.coordinated.iter().count()
    }

    /// Open transactions that collect votes, whose COMMIT is not durable yet, and that are
    /// committed and not acknowledged by all.
    pub(super) fn count_by_phase(&self) -> (u64, u64, u64) {
        let mut collecting = 0;
        let mut deciding = 0;
        let mut committing = 0;
        for (_, coordinated) in self.coordinated.iter() {
            match coordinated.stage {
                Stage::Collecting(_) => collecting += 1,
                Stage::Deciding(_) => deciding += 1,
                Stage::Committing(_) | Stage::Recovered => committing += 1,
            }
        }
        (collecting, deciding, committing)
    }

    /// Requests begun in this incarnation.
    pub(super) fn begun(&self) -> u64 {
        self.serial
    }

    /// Clients with remembered requests.
    pub(super) fn clients(&self) -> u64 {
        self.request_log.clients() as u64
    }
}

/// Beginning, voting, deciding.
impl Coordinator {
    pub(super) fn on_request(
        &mut self,
        cx: &mut Context,
        id: RequestId,
        request: Request,
        out: &mut Outbox<CommitNode>,
    ) {
        match request {
            Request::Outcome { addressed } => {
                match self.request_log.look_up(id, self.address(cx, addressed)) {
                    Lookup::New | Lookup::Underway => {
                        self.reply(cx, id, Outcome::Unknown, None, out);
                    }
                    Lookup::Answer(outcome, began_at) => {
                        self.reply(cx, id, outcome, began_at, out);
                    }
                }
            }
            Request::Transact { addressed, began_at, seen, ops } => {
                self.request_log.forget_seen(id.client, seen);
                match self.request_log.look_up(id, self.address(cx, addressed)) {
                    Lookup::New => self.begin(cx, id, age(cx, id, began_at), ops, out),
                    // The decision answers both copies of the request.
                    Lookup::Underway => {}
                    Lookup::Answer(outcome, began_at) => {
                        self.reply(cx, id, outcome, began_at, out);
                    }
                }
            }
        }
    }

    fn address(&self, cx: &Context, position: Position) -> Address {
        let mut incarnation = cx.which_incarnation(position.incarnation);
        if incarnation == IncarnationIs::Present && position.serial > self.serial {
            // No answer of this node contains such a position.
            incarnation = IncarnationIs::Unknown;
        }
        Address::new(position, incarnation)
    }

    fn reply(
        &self,
        cx: &Context,
        id: RequestId,
        outcome: Outcome,
        began_at: Option<Time>,
        out: &mut Outbox<CommitNode>,
    ) {
        out.reply(id, Response { position: self.position(cx), began_at, outcome });
    }

    /// That of the last request that was begun: the address of the next ones.
    fn position(&self, cx: &Context) -> Position {
        Position { incarnation: cx.incarnation(), serial: self.serial }
    }

    /// Begins a new request: locks the own part and sends Prepare to the others.
    fn begin(
        &mut self,
        cx: &mut Context,
        request: RequestId,
        age: Age,
        ops: Arc<[Op]>,
        out: &mut Outbox<CommitNode>,
    ) {
        // First, so that a request that is no transaction has a position, too: the coordinator must
        // be able to forget it without forgetting what comes next.
        self.serial += 1;
        let all_parts = match self.validate(cx, age, &ops) {
            Ok(all_parts) => all_parts,
            Err(invalid) => {
                return self.reply_aborted(cx, request, AbortReason::Invalid(invalid), age, out);
            }
        };
        let tx = TxId { coordinator: cx.id(), incarnation: cx.incarnation(), serial: self.serial };
        // Before the own part is tried: if that is refused, the status becomes `Aborted`.
        let now = self.position(cx);
        self.request_log.set_status(request, RequestStatus::Undecided, now, cx.requests_kept());
        let own = all_parts.of(cx.id());
        let participants = all_parts.participants().clone();
        let vote_deadline = cx.vote_deadline();
        let retransmit_at = cx.now() + cx.backoff(0);
        // Without operations on own keys there is nothing to lock.
        let own_part_locked = own.ops().is_empty();
        let collecting =
            Collecting { all_parts, ops, own, own_part_locked, reads: Vec::new(), vote_deadline };
        let coordinated = Coordinated {
            request,
            subordinates: participants.subordinates(cx.id()),
            participants,
            responded: 0,
            tries: 0,
            retransmit_at,
            stage: Stage::Collecting(Box::new(collecting)),
        };
        self.coordinated.insert(tx, coordinated);
        // Before the own part is tried, which may decide: both decisions cancel the timers.
        cx.set_timer(vote_deadline, Timer::VoteTimeout, tx);
        cx.set_timer(retransmit_at, Timer::Retransmit, tx);
        if !own_part_locked && !self.try_own_part(cx, tx, out) {
            cx.start_waiting(Waiter { age, tx });
        }
        // The own part may have been refused, and the transaction aborted: then nobody needs to
        // hear of it. Or it is the only part, and COMMIT is appended.
        if self
            .coordinated
            .get(tx)
            .is_some_and(|coordinated| matches!(coordinated.stage, Stage::Collecting(_)))
        {
            self.send_unanswered(cx, tx, out);
        }
    }

    fn validate(
        &self,
        cx: &Context,
        age: Age,
        ops: &Arc<[Op]>,
    ) -> Result<Part, InvalidTransaction> {
        let all_parts = Part::of_all(age, ops)?;
        for node in all_parts.participants().iter() {
            if !cx.is_member(*node) {
                return Err(InvalidTransaction::NoSuchNode(*node));
            }
        }
        Ok(all_parts)
    }

    fn reply_aborted(
        &mut self,
        cx: &mut Context,
        request: RequestId,
        reason: AbortReason,
        age: Age,
        out: &mut Outbox<CommitNode>,
    ) {
        let began_at = Some(Time(age.at));
        self.request_log.set_status(
            request,
            RequestStatus::Aborted { reason, began_at },
            self.position(cx),
            cx.requests_kept(),
        );
        self.reply(cx, request, Outcome::Aborted { reason }, began_at, out);
    }

    /// Tries to lock the own part; false if it has to wait.
    pub(super) fn try_own_part(
        &mut self,
        cx: &mut Context,
        tx: TxId,
        out: &mut Outbox<CommitNode>,
    ) -> bool {
        let Some(Coordinated { stage: Stage::Collecting(collecting), .. }) =
            self.coordinated.get_mut(tx)
        else {
            return true;
        };
        match cx.prepare_part(tx, collecting.own.age(), collecting.own.ops()) {
            PrepareResult::Wait => return false,
            PrepareResult::Refused(refusal) => {
                self.abort(cx, tx, AbortReason::Refused { by: cx.id(), refusal }, out)
            }
            PrepareResult::Locked(reads) => {
                collecting.own_part_locked = true;
                if !reads.is_empty() {
                    collecting.reads.push((cx.id(), reads));
                }
                self.decide_if_complete(cx, tx, out);
            }
        }
        true
    }

    pub(super) fn on_vote(
        &mut self,
        cx: &mut Context,
        from: NodeId,
        tx: TxId,
        request: RequestId,
        vote: Vote,
        out: &mut Outbox<CommitNode>,
    ) {
        if tx.coordinator != cx.id() {
            return cx.drop_message(from, tx, request, DropReason::ReceiverNotCoordinator, out);
        }
        let Some(coordinated) = self.coordinated.get_mut(tx) else {
            return self.on_vote_for_forgotten(cx, from, tx, request, &vote, out);
        };
        if request != coordinated.request {
            return cx.drop_message(from, tx, request, DropReason::OtherRequest, out);
        }
        let Some(bit) =
            coordinated.participants.bit(from).filter(|bit| bit & coordinated.subordinates != 0)
        else {
            return cx.drop_message(from, tx, request, DropReason::SenderNotParticipant, out);
        };
        // After the decision this is a duplicate, or a No that was overtaken: a participant that
        // refuses keeps no state, and may vote Yes on the resent Prepare.
        let Stage::Collecting(collecting) = &mut coordinated.stage else { return };
        match vote {
            Vote::No(refusal) => {
                self.abort(cx, tx, AbortReason::Refused { by: from, refusal }, out)
            }
            Vote::Yes { reads, .. } => {
                // A duplicated Yes must not add its reads again.
                if coordinated.responded & bit == 0 && !reads.is_empty() {
                    collecting.reads.push((from, reads));
                }
                coordinated.responded |= bit;
                self.decide_if_complete(cx, tx, out);
            }
        }
    }

    /// A vote for a transaction that was aborted, or committed and forgotten. A Yes is answered
    /// with Abort: a participant that has committed had acknowledged before this node forgot, and
    /// ignores it.
    fn on_vote_for_forgotten(
        &mut self,
        cx: &mut Context,
        to: NodeId,
        tx: TxId,
        request: RequestId,
        vote: &Vote,
        out: &mut Outbox<CommitNode>,
    ) {
        if !self.has_begun(cx, tx) {
            return cx.drop_message(to, tx, request, DropReason::NotBegun, out);
        }
        match vote {
            Vote::Yes { .. } => self.send_abort(cx, to, tx, request, out),
            // It holds no locks and waits for nothing.
            Vote::No(_) => {}
        }
    }

    /// Whether this node has begun the transaction, and knows it unless it is over.
    fn has_begun(&self, cx: &Context, tx: TxId) -> bool {
        match cx.which_incarnation(tx.incarnation) {
            IncarnationIs::Present => tx.serial <= self.serial,
            IncarnationIs::Past => true,
            IncarnationIs::Unknown => false,
        }
    }

    fn next_position(&self, cx: &Context) -> Position {
        Position { incarnation: cx.incarnation(), serial: self.serial + 1 }
    }

    /// When all votes are Yes and the own part is locked, appends COMMIT with the own operations.
    fn decide_if_complete(&mut self, cx: &mut Context, tx: TxId, out: &mut Outbox<CommitNode>) {
        let Some(coordinated) = self.coordinated.get_mut(tx) else { return };
        let Stage::Collecting(collecting) = &coordinated.stage else { return };
        if !collecting.own_part_locked || coordinated.responded != coordinated.subordinates {
            return;
        }
        let vote_deadline = collecting.vote_deadline;
        let retransmit_at = coordinated.retransmit_at;
        let record =
            Record::Commit { tx, request: coordinated.request, part: collecting.own.clone() };
        // `Recovered` is a placeholder until the box has moved from the one stage to the other.
        let Stage::Collecting(collecting) =
            std::mem::replace(&mut coordinated.stage, Stage::Recovered)
        else {
            return;
        };
        coordinated.stage = Stage::Deciding(collecting);
        // From here on only the barrier is awaited: no Prepare is resent, and no timeout aborts.
        cx.cancel_timer(vote_deadline, Timer::VoteTimeout, tx);
        cx.cancel_timer(retransmit_at, Timer::Retransmit, tx);
        cx.append_commit(tx, &record, out);
        cx.force(out);
    }

    pub(super) fn on_vote_timeout(
        &mut self,
        cx: &mut Context,
        tx: TxId,
        out: &mut Outbox<CommitNode>,
    ) {
        let Some(coordinated) = self.coordinated.get(tx) else { return };
        let unresponsive = coordinated.subordinates & !coordinated.responded;
        // If all have voted, it is the own part that waits for locks.
        let missing = coordinated.participants.among(unresponsive).next().unwrap_or(cx.id());
        self.abort(cx, tx, AbortReason::TimedOut { missing }, out);
    }

    /// Aborts: informs the participants that have voted Yes and the client, and forgets. A later
    /// Yes is answered when it arrives.
    fn abort(
        &mut self,
        cx: &mut Context,
        tx: TxId,
        reason: AbortReason,
        out: &mut Outbox<CommitNode>,
    ) {
        let Some(Coordinated { stage: Stage::Collecting(_), .. }) = self.coordinated.get(tx) else {
            return;
        };
        // Removed before Abort is sent, so that the end mark in it ends this transaction as well.
        let coordinated = self.coordinated.remove(tx).expect("checked above");
        let Stage::Collecting(collecting) = coordinated.stage else { return };
        cx.cancel_timer(collecting.vote_deadline, Timer::VoteTimeout, tx);
        cx.cancel_timer(coordinated.retransmit_at, Timer::Retransmit, tx);
        if collecting.own_part_locked {
            cx.abort_part(tx, &collecting.own);
        } else {
            cx.stop_waiting(Waiter { age: collecting.own.age(), tx });
        }
        // Before the decision, `responded` are those that voted Yes and hold locks. The others
        // learn of the abort when they vote or inquire.
        for to in coordinated.participants.among(coordinated.responded) {
            self.send_abort(cx, to, tx, coordinated.request, out);
        }
        self.reply_aborted(cx, coordinated.request, reason, collecting.own.age(), out);
    }

    fn send_abort(
        &mut self,
        cx: &mut Context,
        to: NodeId,
        tx: TxId,
        request: RequestId,
        out: &mut Outbox<CommitNode>,
    ) {
        let end_mark = self.end_mark(cx);
        out.send(to, Message { tx, request, body: Body::Abort { end_mark } });
    }
}

/// Committing, resending, forgetting.
impl Coordinator {
    /// COMMIT is durable: applies the own part, sends Commit to the others, and replies to the
    /// client.
    pub(super) fn on_commit_durable(
        &mut self,
        cx: &mut Context,
        proof: Durable<CommittedTx>,
        out: &mut Outbox<CommitNode>,
    ) {
        let tx = proof.get().0;
        let coordinated =
            self.coordinated.get_mut(tx).expect("a decided transaction is remembered until END");
        let stage = std::mem::replace(&mut coordinated.stage, Stage::Committing(proof));
        let Stage::Deciding(decided) = stage else {
            panic!("COMMIT became durable in stage {stage:?}")
        };
        // So far votes were counted, and resends of Prepare; now Acks, and resends of Commit.
        coordinated.responded = 0;
        coordinated.tries = 0;
        let request = coordinated.request;
        let alone = coordinated.subordinates == 0;
        cx.commit_part(tx, &decided.own);
        if alone {
            // There is nobody to acknowledge.
            self.end(cx, tx, request, out);
        } else {
            self.retransmit(cx, tx, out);
        }
        let reads = reads_in_request_order(&decided.ops, &decided.reads);
        // Not before COMMIT is durable: from here on queries are answered "committed".
        self.request_log.set_status(
            request,
            RequestStatus::Committed(tx, Some(reads.clone())),
            self.position(cx),
            cx.requests_kept(),
        );
        self.reply_committed(cx, request, proof, reads, out);
    }

    fn reply_committed(
        &mut self,
        cx: &mut Context,
        request: RequestId,
        _: Durable<CommittedTx>,
        reads: Reads,
        out: &mut Outbox<CommitNode>,
    ) {
        self.reply(cx, request, Outcome::Committed { reads: Some(reads) }, None, out);
    }

    /// Resends every message that was not answered, and schedules the next resend.
    pub(super) fn retransmit(&mut self, cx: &mut Context, tx: TxId, out: &mut Outbox<CommitNode>) {
        let Some(coordinated) = self.coordinated.get_mut(tx) else { return };
        coordinated.tries += 1;
        // The first Commit is sent by this function and is followed by the shortest interval. The
        // first Prepare is sent by `begin`, and the shortest interval has passed already.
        let tries =
            coordinated.tries - u32::from(matches!(coordinated.stage, Stage::Committing(_)));
        let at = cx.now() + cx.backoff(tries);
        coordinated.retransmit_at = at;
        cx.set_timer(at, Timer::Retransmit, tx);
        self.send_unanswered(cx, tx, out);
    }

    fn send_unanswered(&mut self, cx: &mut Context, tx: TxId, out: &mut Outbox<CommitNode>) {
        let end_mark = self.end_mark(cx);
        let Some(coordinated) = self.coordinated.get(tx) else { return };
        let unresponsive = coordinated.subordinates & !coordinated.responded;
        let request = coordinated.request;
        for to in coordinated.participants.among(unresponsive) {
            let end_mark = end_mark.clone();
            match &coordinated.stage {
                Stage::Collecting(collecting) => {
                    let part = collecting.all_parts.of(to);
                    let body = Body::Prepare { part, end_mark };
                    out.send(to, Message { tx, request, body });
                }
                Stage::Committing(proof) => send_commit(to, request, *proof, end_mark, out),
                // No timer runs in these stages. COMMIT is not durable, so nothing may be sent.
                Stage::Deciding(_) | Stage::Recovered => {}
            }
        }
    }

    pub(super) fn on_ack(
        &mut self,
        cx: &mut Context,
        from: NodeId,
        tx: TxId,
        request: RequestId,
        out: &mut Outbox<CommitNode>,
    ) {
        if tx.coordinator != cx.id() {
            return cx.drop_message(from, tx, request, DropReason::ReceiverNotCoordinator, out);
        }
        // A duplicate, after the Ack of the last participant.
        let Some(coordinated) = self.coordinated.get_mut(tx) else { return };
        if request != coordinated.request {
            return cx.drop_message(from, tx, request, DropReason::OtherRequest, out);
        }
        let Some(bit) = coordinated.participants.bit(from) else {
            return cx.drop_message(from, tx, request, DropReason::SenderNotParticipant, out);
        };
        let Stage::Committing(_) = coordinated.stage else {
            return cx.drop_message(from, tx, request, DropReason::NotDecided, out);
        };
        coordinated.responded |= bit;
        if coordinated.responded & coordinated.subordinates == coordinated.subordinates {
            self.end(cx, tx, request, out);
        }
    }

    /// All participants have acknowledged: appends END, unforced, and forgets the transaction.
    fn end(
        &mut self,
        cx: &mut Context,
        tx: TxId,
        request: RequestId,
        out: &mut Outbox<CommitNode>,
    ) {
        let coordinated = self.coordinated.remove(tx).expect("only a coordinated transaction ends");
        cx.cancel_timer(coordinated.retransmit_at, Timer::Retransmit, tx);
        cx.append_end(tx, request, out);
    }

    /// A participant is in doubt. No answer while the transaction is undecided; Abort, by
    /// presumption, if it is unknown.
    pub(super) fn on_inquiry_as_coordinator(
        &mut self,
        cx: &mut Context,
        from: NodeId,
        tx: TxId,
        request: RequestId,
        out: &mut Outbox<CommitNode>,
    ) {
        let end_mark = self.end_mark(cx);
        match self.coordinated.get(tx).map(|coordinated| &coordinated.stage) {
            Some(Stage::Committing(proof)) => send_commit(from, request, *proof, end_mark, out),
            // "Aborted" would be wrong if the votes are completed later. The decision will be sent.
            Some(Stage::Collecting(_) | Stage::Deciding(_) | Stage::Recovered) => {}
            // If it had been committed, the sender's Ack would be missing, and the transaction
            // known. A late inquiry of a participant that did acknowledge is answered so too; it
            // ignores the Abort.
            None if self.has_begun(cx, tx) => self.send_abort(cx, from, tx, request, out),
            None => cx.drop_message(from, tx, request, DropReason::NotBegun, out),
        }
    }

    /// After boot: sends Commit again for every committed transaction that is not acknowledged by
    /// all.
    pub(super) fn resume_coordinated(&mut self, cx: &mut Context, out: &mut Outbox<CommitNode>) {
        for proof in cx.take_recovered_commits() {
            let tx = proof.get().0;
            let Some(coordinated) = self.coordinated.get_mut(tx) else { continue };
            coordinated.stage = Stage::Committing(proof);
            // Acks are not recorded, so all participants are asked again.
            self.retransmit(cx, tx, out);
        }
    }

    /// The end mark of this node's own transactions.
    fn end_mark(&mut self, cx: &mut Context) -> EndMark {
        // Sorted, as the mark requires: the map is, and the coordinator of all is this node.
        let open = self.coordinated.iter().map(|(tx, _)| Position::of(tx));
        let end_mark = EndMark::new(self.next_position(cx), open, self.last_end_mark.as_ref());
        self.last_end_mark = Some(end_mark.clone());
        end_mark
    }

    /// Adds the request log and the committed transactions without END to a snapshot, and applies
    /// those that are not yet applied.
    pub(super) fn add_to(&self, id: NodeId, state: &mut State) {
        state.clients = self.request_log.state();
        state.forgotten_below = self.request_log.forgotten_below();
        for (tx, coordinated) in self.coordinated.iter() {
            let request = coordinated.request;
            match &coordinated.stage {
                // It has no record: after a crash it is presumed aborted.
                Stage::Collecting(_) => continue,
                // A snapshot covers every record appended, COMMIT included, while the store and the
                // request log change only when COMMIT is durable.
                Stage::Deciding(decided) => {
                    apply_ops(&mut state.values, decided.own.ops());
                    state.insert_committed(tx, request);
                }
                Stage::Committing(_) | Stage::Recovered => {}
            }
            let participants = coordinated.participants.clone();
            // Alone, the transaction has ended with its COMMIT.
            if participants.subordinates(id) != 0 {
                state.committing.push(Committing { tx, request, participants });
            }
        }
    }
}

/// The age of a request: the present time, or that of its first attempt, which is not later. A
/// client cannot make its request older by a wrong clock.
fn age(cx: &Context, id: RequestId, began_at: Option<Time>) -> Age {
    let at = began_at.unwrap_or(cx.now()).min(cx.now());
    Age { at: at.0, by: RequestId { attempt: 0, ..id } }
}

/// Sorts the values that each node's reads found into the order of the request.
fn reads_in_request_order(ops: &[Op], found: &[(NodeId, Reads)]) -> Reads {
    if found.is_empty() {
        return Reads::default();
    }
    // A node returns its reads in the client's order, so each `Get` takes the next one of its node.
    let mut taken = vec![0; found.len()];
    let mut all = Vec::new();
    for op in ops.iter().filter(|op| !op.writes()) {
        let at = found.iter().position(|(node, _)| *node == op.node);
        all.push(at.and_then(|at| found[at].1.get(taken[at]).copied().flatten()));
        if let Some(at) = at {
            taken[at] += 1;
        }
    }
    Reads::from(&all[..])
}

fn send_commit(
    to: NodeId,
    request: RequestId,
    proof: Durable<CommittedTx>,
    end_mark: EndMark,
    out: &mut Outbox<CommitNode>,
) {
    let tx = proof.get().0;
    let body = Body::Commit { end_mark, proof: RecordIsDurable::by(&proof) };
    out.send(to, Message { tx, request, body });
}
