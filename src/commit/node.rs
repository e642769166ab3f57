//! The node: dispatches inputs to its coordinator and participant halves.

use std::collections::VecDeque;

use super::config::Config;
use super::coordinator::Coordinated;
use super::dedup::{Lookup, RequestLog};
use super::end_mark::{EndMark, EndedTransactions};
use super::event::{DropReason, Event};
use super::message::Message;
use super::op::{Op, Reads};
use super::part::Age;
use super::participant::{KnownOutcome, Participation};
use super::record::Record;
use super::request::{Outcome, Request, Response};
use super::state::{self, State};
use super::timers::{Timer, Timers};
use super::tx_id::TxId;
use super::tx_map::TxMap;
use crate::store::Store;
use stormglass_node::contract::{
    Boot, BootError, DiskError, HaltReason, Input, Node, OpId, Outbox,
};
use stormglass_node::id::{Incarnation, Micros, NodeId, RequestId, Time};
use stormglass_node::wal::{self, Progress, Ticket, Wal, WalOptions};

/// A node of two-phase commit: coordinator for the transactions that its clients request,
/// participant in those that touch its keys. See the [module](super) for the protocol.
#[derive(Clone, Debug)]
pub struct CommitNode {
    pub(super) id: NodeId,
    pub(super) config: Config,
    pub(super) incarnation: Incarnation,
    /// The time of the current step.
    pub(super) now: Time,
    pub(super) wal: Wal,
    pub(super) store: Store,
    pub(super) timers: Timers,
    /// Actions that wait for a record to be durable, in the order of the log.
    pub(super) pending: VecDeque<PendingRecord>,
    /// Transactions that wait for locks of this node, the oldest first.
    pub(super) waiting: Vec<Waiter>,
    /// Whether locks were released in this step, so that waiters may get them.
    pub(super) locks_released: bool,

    /// The number of the last transaction that this incarnation has begun to coordinate.
    pub(super) serial: u64,
    /// The open transactions that this node coordinates.
    pub(super) coordinated: TxMap<Coordinated>,
    pub(super) request_log: RequestLog,
    pub(super) last_end_mark: Option<EndMark>,

    /// The transactions that this node takes part in: waiting, or prepared and undecided.
    pub(super) participations: TxMap<Participation>,
    /// The outcomes known here of transactions that are not known to have ended.
    pub(super) outcomes: TxMap<KnownOutcome>,
    // Sorted by coordinator.
    pub(super) ended: Vec<EndedTransactions>,
    /// The participants that receive an `Aborted` reply once that record is durable.
    pub(super) inquirers: Vec<(TxId, NodeId)>,
}

/// An appended record, by the action that follows once it is durable.
#[derive(Clone, Copy, Debug)]
pub(super) enum PendingRecord {
    Prepared(Ticket<PreparedTx>),
    Commit(Ticket<CommittedTx>),
    Outcome(Ticket<OutcomeTx>),
}

/// The PREPARED record of this transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PreparedTx(pub(super) TxId);

/// The COMMIT record of this transaction, at its coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CommittedTx(pub(super) TxId);

/// A participant's record of the outcome, COMMITTED or ABORTED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutcomeTx(pub(super) TxId);

/// A transaction that waits for locks of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Waiter {
    pub(super) age: Age,
    pub(super) tx: TxId,
}

impl Node for CommitNode {
    type Config = Config;
    type Message = Message;
    type Request = Request;
    type Response = Response;
    type Event = Event;

    fn boot(config: &Config, boot: Boot<'_>, out: &mut Outbox<Self>) -> Result<Self, BootError> {
        let recovered = wal::recover::<State, Record>(boot.disk)?;
        let mut state = recovered.snapshot.unwrap_or_default();
        for record in recovered.records {
            state.apply(boot.id, record);
        }
        state.incarnation = Incarnation(state.incarnation.0 + 1);
        let options = WalOptions {
            compact_at: config.compact_at_bytes,
            entropy: boot.entropy,
            ..WalOptions::default()
        };
        let wal = Wal::begin(recovered.resume_point, options, &state, out);
        Ok(CommitNode::recovered(config, boot.id, boot.now, wal, state))
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        self.now = now;
        match input {
            Input::DiskDone { op, result } => self.on_disk_done(op, result, out),
            Input::Message { .. } | Input::Request { .. } if !self.wal.ready() => {
                out.report(Event::NotReady)
            }
            Input::Message { from, message } => self.on_message(from, message, out),
            Input::Request { id, request } => self.on_request(id, request, out),
            Input::Wake => self.on_wake(out),
        }
        while std::mem::take(&mut self.locks_released) {
            self.grant_waiters(out);
        }
        if self.wal.needs_compaction() {
            let state = self.state();
            self.wal.compact(&state, out);
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.timers.next()
    }
}

impl CommitNode {
    /// The durable state, as of the last record appended.
    pub fn state(&self) -> State {
        let mut state = State {
            incarnation: self.incarnation,
            values: self.store.values().clone(),
            prepared: Vec::new(),
            outcomes: self.outcomes.iter().map(|(tx, known)| known.state(tx)).collect(),
            committing: Vec::new(),
            ended: self.ended.clone(),
            clients: self.request_log.state(),
        };
        for (tx, participation) in
            self.participations.iter().filter(|(_, participation)| !participation.is_waiting())
        {
            state.prepared.push(state::Prepared {
                tx,
                request: participation.request,
                part: participation.part.clone(),
            });
        }
        self.add_committing(&mut state);
        state
    }

    fn recovered(config: &Config, id: NodeId, now: Time, wal: Wal, state: State) -> CommitNode {
        let mut node = CommitNode {
            id,
            config: config.clone(),
            incarnation: state.incarnation,
            now,
            wal,
            store: Store::new(state.values),
            timers: Timers::default(),
            pending: VecDeque::new(),
            waiting: Vec::new(),
            locks_released: false,
            serial: 0,
            coordinated: TxMap::default(),
            request_log: RequestLog::recovered(&state.clients),
            last_end_mark: None,
            participations: TxMap::default(),
            outcomes: TxMap::default(),
            ended: state.ended,
            inquirers: Vec::new(),
        };
        for state::Prepared { tx, request, part } in state.prepared {
            node.store.lock(tx, part.age(), part.ops());
            let reads = node.store.read(part.ops());
            node.participations.insert(tx, Participation::recovered(request, part, reads, now));
        }
        for known in state.outcomes {
            node.outcomes.insert(known.tx, KnownOutcome::recovered(known));
        }
        for state::Committing { tx, request, participants } in state.committing {
            node.coordinated.insert(tx, Coordinated::recovered(id, request, participants));
        }
        node
    }

    fn on_disk_done(&mut self, op: OpId, result: Result<(), DiskError>, out: &mut Outbox<Self>) {
        match self.wal.on_disk_done(op, result, out) {
            Err(error) => {
                self.timers = Timers::default();
                out.halt(HaltReason::DiskFailed(error));
            }
            Ok(Progress::Ready) => self.on_ready(out),
            Ok(Progress::Advanced) => self.on_durable(out),
            Ok(Progress::Compacted | Progress::Nothing) => {}
        }
    }

    /// The boot snapshot is durable, and with it all that was read back: the node may send from now
    /// on.
    fn on_ready(&mut self, out: &mut Outbox<Self>) {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (in_doubt, committing) =
            (count(self.participations.keys().len()), count(self.coordinated.keys().len()));
        out.report(Event::Ready { incarnation: self.incarnation, in_doubt, committing });
        self.resume_outcomes();
        self.resume_coordinated(out);
        self.resume_participations(out);
        self.on_durable(out);
    }

    fn on_durable(&mut self, out: &mut Outbox<Self>) {
        while let Some(pending) = self.pending.front().copied() {
            match pending {
                PendingRecord::Prepared(ticket) => {
                    let Ok(proof) = self.wal.redeem(ticket) else { return };
                    self.pending.pop_front();
                    self.on_prepared_durable(proof, out);
                }
                PendingRecord::Commit(ticket) => {
                    let Ok(proof) = self.wal.redeem(ticket) else { return };
                    self.pending.pop_front();
                    self.on_commit_durable(proof, out);
                }
                PendingRecord::Outcome(ticket) => {
                    let Ok(proof) = self.wal.redeem(ticket) else { return };
                    self.pending.pop_front();
                    self.on_outcome_durable(proof, out);
                }
            }
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message, out: &mut Outbox<Self>) {
        let (tx, request) = (message.tx(), message.request());
        if from == self.id || !self.is_member(from) {
            return self.drop_message(from, tx, request, DropReason::UnknownSender, out);
        }
        let from_coordinator = tx.coordinator == from;
        if let Some(end_mark) = message.end_mark() {
            if !from_coordinator {
                return self.drop_message(from, tx, request, DropReason::SenderNotCoordinator, out);
            }
            self.on_end_mark(from, end_mark);
        }
        match message {
            Message::Prepare { part, .. } => self.on_prepare(tx, request, part, out),
            Message::Vote { vote, .. } => self.on_vote(from, tx, request, vote, out),
            Message::Commit { .. } => self.on_commit(tx, request, out),
            Message::Abort { .. } => self.on_abort(tx, out),
            Message::Ack { .. } => self.on_ack(from, tx, request, out),
            Message::Inquire { .. } if tx.coordinator == self.id => {
                self.on_inquiry_as_coordinator(from, tx, request, out)
            }
            Message::Inquire { .. } => self.on_inquiry_as_participant(from, tx, request, out),
            Message::InquiryReply { reply, .. } => {
                self.on_inquiry_reply(from, tx, request, reply, out)
            }
        }
    }

    #[inline]
    pub(super) fn is_member(&self, node: NodeId) -> bool {
        let nodes = &self.config.nodes;
        // Nodes are mostly numbered in the order of the list.
        nodes.get(usize::from(node.0)) == Some(&node) || nodes.contains(&node)
    }

    #[cold]
    pub(super) fn drop_message(
        &mut self,
        from: NodeId,
        tx: TxId,
        request: RequestId,
        reason: DropReason,
        out: &mut Outbox<Self>,
    ) {
        out.report(Event::Dropped { from, tx, request, reason });
    }

    fn on_request(&mut self, id: RequestId, request: Request, out: &mut Outbox<Self>) {
        match request {
            Request::Outcome { incarnation } => {
                match self.request_log.look_up(id, incarnation, self.incarnation) {
                    Lookup::New | Lookup::Underway => self.reply(id, Outcome::Unknown, out),
                    Lookup::Answer(outcome) => self.reply(id, outcome, out),
                }
            }
            Request::Transact { incarnation, age, seen, ops } => {
                self.request_log.forget_seen(id.client, seen);
                match self.request_log.look_up(id, incarnation, self.incarnation) {
                    Lookup::New => self.begin(id, age, ops, out),
                    Lookup::Underway => {}
                    Lookup::Answer(outcome) => self.reply(id, outcome, out),
                }
            }
        }
    }

    pub(super) fn reply(&mut self, id: RequestId, outcome: Outcome, out: &mut Outbox<Self>) {
        out.reply(id, Response { incarnation: self.incarnation, outcome });
    }

    fn on_wake(&mut self, out: &mut Outbox<Self>) {
        while let Some((timer, tx)) = self.timers.pop_due(self.now) {
            match timer {
                Timer::VoteTimeout => self.on_vote_timeout(tx, out),
                Timer::Retransmit => self.retransmit(tx, out),
                Timer::LockTimeout => self.on_lock_timeout(tx),
                Timer::Inquire => self.inquire(tx, out),
            }
        }
    }

    /// The interval after the `tries`th attempt: doubling, up to a maximum.
    pub(super) fn backoff(&self, tries: u32) -> Micros {
        let doubled = self.config.retry_first.0.saturating_mul(1 << tries.min(30));
        Micros(doubled.min(self.config.retry_max.0).max(1))
    }

    /// Locks were released: every waiter tries again, the *youngest* first. So the holder of a lock
    /// only gets older from grant to grant, no waiter is refused by a grant, and the oldest is
    /// served in the end: newcomers younger than the holder are refused.
    fn grant_waiters(&mut self, out: &mut Outbox<Self>) {
        let mut at = self.waiting.len();
        while at > 0 {
            at -= 1;
            let Some(waiter) = self.waiting.get(at).copied() else { continue };
            let done = if waiter.tx.coordinator == self.id {
                self.try_own_part(waiter.tx, out)
            } else {
                self.try_lock_participation(waiter.tx, out)
            };
            if done {
                self.stop_waiting(waiter);
            }
        }
    }

    pub(super) fn start_waiting(&mut self, waiter: Waiter) {
        let at = self.waiting.partition_point(|other| *other < waiter);
        self.waiting.insert(at, waiter);
    }

    pub(super) fn stop_waiting(&mut self, waiter: Waiter) {
        if let Ok(at) = self.waiting.binary_search(&waiter) {
            self.waiting.remove(at);
        }
    }
}

/// Sorts the values that each node's reads found into the order of the request.
pub(super) fn reads_in_request_order(ops: &[Op], found: &[(NodeId, Reads)]) -> Reads {
    if found.is_empty() {
        return Reads::default();
    }
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
