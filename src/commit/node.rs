//! The node: what is said to it, and to which of its two halves that goes.

use std::collections::VecDeque;

use super::config::Config;
use super::coordinator::Led;
use super::event::{Event, Nonsense};
use super::message::Message;
use super::names::{Lookup, Names};
use super::op::{Op, Reads};
use super::part::Age;
use super::participant::{Known, Member};
use super::record::Record;
use super::request::{Outcome, Request, Response};
use super::state::{self, State};
use super::table::Table;
use super::timers::{Alarm, Timers};
use super::words::{Ended, Word};
use crate::contract::{Boot, BootError, DiskError, HaltReason, Input, Node, OpId, Outbox};
use crate::id::{Incarnation, Micros, NodeId, RequestId, Time, TxId};
use crate::store::Store;
use crate::wal::{self, Progress, Ticket, Wal, WalOptions};

/// A node of two-phase commit: coordinator for the transactions that its clients bring, participant in those that
/// touch its keys. See the [module](super) for the protocol.
#[derive(Clone, Debug)]
pub struct CommitNode {
    pub(super) id: NodeId,
    pub(super) config: Config,
    pub(super) life: Incarnation,
    /// The time of the present step.
    pub(super) now: Time,
    pub(super) wal: Wal,
    pub(super) store: Store,
    pub(super) timers: Timers,
    /// What waits for a record to be durable, in the order of the log.
    pub(super) pending: VecDeque<Pending>,
    /// Who waits for locks here, the oldest first.
    pub(super) waiting: Vec<Waiter>,
    /// Whether locks were released in this step, so that somebody may get them.
    pub(super) released: bool,

    /// The last serial of this life.
    pub(super) serial: u64,
    /// What this node coordinates: everything that is open.
    pub(super) led: Table<Led>,
    pub(super) names: Names,
    pub(super) last_word: Option<Word>,

    /// What this node takes part in: waiting, or prepared and undecided.
    pub(super) members: Table<Member>,
    /// What was decided here and is not known to have ended.
    pub(super) outcomes: Table<Known>,
    // Sorted by coordinator.
    pub(super) ended: Vec<Ended>,
    /// Who is to be told of an abort once that is durable.
    pub(super) to_tell: Vec<(TxId, NodeId)>,
}

/// A record that somebody waits for, by what is to happen then.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pending {
    Yes(Ticket<PreparedTx>),
    Decided(Ticket<CommittedTx>),
    Settled(Ticket<SettledTx>),
}

/// PREPARED was written for this transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PreparedTx(pub(super) TxId);

/// COMMIT was written for this transaction, by its coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CommittedTx(pub(super) TxId);

/// A participant's terminal record was written for this transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SettledTx(pub(super) TxId);

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
        let wal = Wal::begin(recovered.found, options, &state, out);
        Ok(CommitNode::recovered(config, boot.id, boot.now, wal, state))
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        self.now = now;
        match input {
            Input::DiskDone { op, result } => self.on_disk_done(op, result, out),
            Input::Message { .. } | Input::Request { .. } if !self.wal.ready() => out.report(Event::NotReady),
            Input::Message { from, message } => self.on_message(from, message, out),
            Input::Request { id, request } => self.on_request(id, request, out),
            Input::Wake => self.on_wake(out),
        }
        while std::mem::take(&mut self.released) {
            self.grant_waiters(out);
        }
        if self.wal.wants_compaction() {
            let state = self.state();
            self.wal.compact(&state, out);
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.timers.next()
    }
}

impl CommitNode {
    /// Everything that must outlive this life, as of the last record appended.
    pub fn state(&self) -> State {
        let mut state = State {
            incarnation: self.life,
            values: self.store.values().clone(),
            prepared: Vec::new(),
            outcomes: self.outcomes.iter().map(|(tx, known)| known.state(tx)).collect(),
            committing: Vec::new(),
            ended: self.ended.clone(),
            clients: self.names.state(),
        };
        for (tx, member) in self.members.iter().filter(|(_, member)| !member.is_waiting()) {
            state.prepared.push(state::Prepared { tx, name: member.name, part: member.part.clone() });
        }
        self.add_committing(&mut state);
        state
    }

    fn recovered(config: &Config, id: NodeId, now: Time, wal: Wal, state: State) -> CommitNode {
        let mut node = CommitNode {
            id,
            config: config.clone(),
            life: state.incarnation,
            now,
            wal,
            store: Store::new(state.values),
            timers: Timers::default(),
            pending: VecDeque::new(),
            waiting: Vec::new(),
            released: false,
            serial: 0,
            led: Table::default(),
            names: Names::recovered(&state.clients),
            last_word: None,
            members: Table::default(),
            outcomes: Table::default(),
            ended: state.ended,
            to_tell: Vec::new(),
        };
        for state::Prepared { tx, name, part } in state.prepared {
            node.store.lock(tx, part.age(), part.ops());
            let reads = node.store.read(part.ops());
            node.members.insert(tx, Member::recovered(name, part, reads, now));
        }
        for known in state.outcomes {
            node.outcomes.insert(known.tx, Known::recovered(known));
        }
        for state::Committing { tx, name, participants } in state.committing {
            node.led.insert(tx, Led::recovered(id, name, participants));
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

    /// The boot snapshot is durable, and with it all that was read back: now the node may speak.
    fn on_ready(&mut self, out: &mut Outbox<Self>) {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (in_doubt, committing) = (count(self.members.keys().len()), count(self.led.keys().len()));
        out.report(Event::Ready { life: self.life, in_doubt, committing });
        self.resume_outcomes();
        self.resume_led(out);
        self.resume_members(out);
        self.on_durable(out);
    }

    fn on_durable(&mut self, out: &mut Outbox<Self>) {
        while let Some(pending) = self.pending.front().copied() {
            match pending {
                Pending::Yes(ticket) => {
                    let Ok(proof) = self.wal.redeem(ticket) else { return };
                    self.pending.pop_front();
                    self.on_prepared(proof, out);
                }
                Pending::Decided(ticket) => {
                    let Ok(proof) = self.wal.redeem(ticket) else { return };
                    self.pending.pop_front();
                    self.on_commit_durable(proof, out);
                }
                Pending::Settled(ticket) => {
                    let Ok(proof) = self.wal.redeem(ticket) else { return };
                    self.pending.pop_front();
                    self.on_settled(proof, out);
                }
            }
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message, out: &mut Outbox<Self>) {
        let (tx, name) = (message.tx(), message.name());
        if from == self.id || !self.is_member(from) {
            return self.drop_message(from, tx, name, Nonsense::Stranger, out);
        }
        let from_coordinator = tx.coordinator == from;
        if let Some(word) = message.word() {
            if !from_coordinator {
                return self.drop_message(from, tx, name, Nonsense::NotItsCoordinator, out);
            }
            self.absorb(from, word);
        }
        match message {
            Message::Prepare { part, .. } => self.on_prepare(tx, name, part, out),
            Message::Vote { vote, .. } => self.on_vote(from, tx, name, vote, out),
            Message::Commit { .. } => self.on_commit(tx, name, out),
            Message::Abort { .. } => self.on_abort(tx, out),
            Message::Ack { .. } => self.on_ack(from, tx, name, out),
            Message::Inquire { .. } if tx.coordinator == self.id => {
                self.on_inquiry_of_mine(from, tx, name, out)
            }
            Message::Inquire { .. } => self.on_inquiry(from, tx, name, out),
            Message::Tell { said, .. } => self.on_tell(from, tx, name, said, out),
        }
    }

    #[inline]
    pub(super) fn is_member(&self, node: NodeId) -> bool {
        let nodes = &self.config.nodes;
        // Nodes are mostly numbered as they are listed.
        nodes.get(usize::from(node.0)) == Some(&node) || nodes.contains(&node)
    }

    #[cold]
    pub(super) fn drop_message(
        &mut self,
        from: NodeId,
        tx: TxId,
        name: RequestId,
        why: Nonsense,
        out: &mut Outbox<Self>,
    ) {
        out.report(Event::Dropped { from, tx, name, why });
    }

    fn on_request(&mut self, id: RequestId, request: Request, out: &mut Outbox<Self>) {
        match request {
            Request::Outcome { life } => match self.names.look_up(id, life, self.life) {
                Lookup::New | Lookup::Underway => self.reply(id, Outcome::Unknown, out),
                Lookup::Answer(outcome) => self.reply(id, outcome, out),
            },
            Request::Transact { life, age, seen, ops } => {
                self.names.seen(id.client, seen);
                match self.names.look_up(id, life, self.life) {
                    Lookup::New => self.begin(id, age, ops, out),
                    Lookup::Underway => {}
                    Lookup::Answer(outcome) => self.reply(id, outcome, out),
                }
            }
        }
    }

    pub(super) fn reply(&mut self, id: RequestId, outcome: Outcome, out: &mut Outbox<Self>) {
        out.reply(id, Response { life: self.life, outcome });
    }

    fn on_wake(&mut self, out: &mut Outbox<Self>) {
        while let Some((alarm, tx)) = self.timers.pop_due(self.now) {
            match alarm {
                Alarm::Votes => self.on_votes_overdue(tx, out),
                Alarm::Repeat => self.repeat(tx, out),
                Alarm::Lock => self.on_lock_overdue(tx),
                Alarm::Ask => self.ask(tx, out),
            }
        }
    }

    /// How long to wait after the `tries`th attempt: doubling, up to a cap.
    pub(super) fn backoff(&self, tries: u32) -> Micros {
        let doubled = self.config.retry_first.0.saturating_mul(1 << tries.min(30));
        Micros(doubled.min(self.config.retry_max.0).max(1))
    }

    /// Locks became free: whoever waits tries again, the *youngest* first. So the holder only ever gets older, nobody
    /// who waits has to die by a grant, and the oldest is served in the end: newcomers younger than the holder
    /// are turned away.
    fn grant_waiters(&mut self, out: &mut Outbox<Self>) {
        let mut at = self.waiting.len();
        while at > 0 {
            at -= 1;
            let Some(waiter) = self.waiting.get(at).copied() else { continue };
            let done = if waiter.tx.coordinator == self.id {
                self.try_own_part(waiter.tx, out)
            } else {
                self.try_member(waiter.tx, out)
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

/// Puts what each node's reads found into the order of the request.
pub(super) fn in_order(ops: &[Op], found: &[(NodeId, Reads)]) -> Reads {
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
