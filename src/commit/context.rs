//! What the two halves of a node share: identity and time, the log, the store with its locks, the
//! timers. The fields are private: a half reaches the log only through an `append_*` that states
//! which proof the record yields, and locks only through a grant that wakes waiters.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::mem;

use super::config::Config;
use super::dedup::Kept;
use super::event::{DropReason, Event};
use super::introduction::MetPeer;
use super::node::CommitNode;
use super::op::{Key, Op, Reads};
use super::part::{Age, Part};
use super::record::Record;
use super::state::State;
use super::timers::{Timer, Timers};
use super::tx_id::TxId;
use crate::store::{PrepareResult, Store};
use stormglass_node::contract::{DiskError, OpId, Outbox};
use stormglass_node::id::{Incarnation, Micros, NodeId, RequestId, Time};
use stormglass_node::wal::{BootSnapshot, Durable, Progress, Ticket, Wal};

/// See the [module](self).
#[derive(Clone, Debug)]
pub(super) struct Context {
    id: NodeId,
    config: Config,
    incarnation: Incarnation,
    /// If the node began again with an empty disk: the last incarnation whose records are lost.
    lost: Incarnation,
    /// The time of the current step.
    now: Time,
    wal: Wal,
    store: Store,
    timers: Timers,
    /// Records whose effects wait until they are durable, in the order of the log.
    pending: VecDeque<PendingRecord>,
    /// Records that were read back at boot, until the log is ready.
    recovered: RecoveredRecords,
    /// Transactions that wait for locks of this node, the oldest first.
    waiting: Vec<Waiter>,
    /// Whether locks were released in this step, so that waiters may get them.
    locks_released: bool,
}

/// An appended record, by the action that follows once it is durable.
#[derive(Clone, Copy, Debug)]
enum PendingRecord {
    Prepared(Ticket<PreparedTx>),
    Commit(Ticket<CommittedTx>),
    Outcome(Ticket<OutcomeTx>),
    Met(Ticket<MetPeer>),
}

/// A record that has become durable, with the proof.
#[derive(Clone, Copy, Debug)]
pub(super) enum DurableRecord {
    Prepared(Durable<PreparedTx>),
    Commit(Durable<CommittedTx>),
    Outcome(Durable<OutcomeTx>),
    Met(Durable<MetPeer>),
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

/// The records in the boot snapshot, by what their proofs are needed for.
#[derive(Clone, Debug)]
pub(super) struct RecoveredRecords {
    prepared: Vec<Ticket<PreparedTx>>,
    commits: Vec<Ticket<CommittedTx>>,
    outcomes: Vec<Ticket<OutcomeTx>>,
    met: Vec<Ticket<MetPeer>>,
}

impl RecoveredRecords {
    pub(super) fn of(boot_snapshot: &BootSnapshot<'_, State>) -> RecoveredRecords {
        RecoveredRecords {
            prepared: boot_snapshot
                .tickets(|state| &state.prepared, |prepared| PreparedTx(prepared.tx)),
            commits: boot_snapshot
                .tickets(|state| &state.committing, |committing| CommittedTx(committing.tx)),
            outcomes: boot_snapshot.tickets(|state| &state.outcomes, |known| OutcomeTx(known.tx)),
            met: boot_snapshot.tickets(
                |state| &state.peers,
                |known| MetPeer { peer: known.peer, incarnation: known.incarnation },
            ),
        }
    }
}

/// An incarnation of this node, as the present one sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IncarnationIs {
    Present,
    /// Its records are in the log. Or it is another one of a number that this node has had: then
    /// peers have not confirmed it, and it has done nothing.
    Past,
    /// Its records are lost, or it is later than the present one.
    Unknown,
}

/// A transaction that waits for locks of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Waiter {
    pub(super) age: Age,
    pub(super) tx: TxId,
}

/// Identity, configuration, time.
impl Context {
    /// Takes the values out of `state`.
    pub(super) fn new(
        config: &Config,
        id: NodeId,
        now: Time,
        wal: Wal,
        recovered: RecoveredRecords,
        state: &mut State,
    ) -> Context {
        Context {
            id,
            config: config.clone(),
            incarnation: state.incarnation,
            lost: state.lost,
            now,
            wal,
            store: Store::new(mem::take(&mut state.values)),
            timers: Timers::default(),
            pending: VecDeque::new(),
            recovered,
            waiting: Vec::new(),
            locks_released: false,
        }
    }

    pub(super) fn id(&self) -> NodeId {
        self.id
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    pub(super) fn lost(&self) -> Incarnation {
        self.lost
    }

    /// What this node knows of one of its own incarnations.
    pub(super) fn which_incarnation(&self, other: Incarnation) -> IncarnationIs {
        let is_lost = other.number() > 0 && other.number() <= self.lost.number();
        if other == self.incarnation {
            IncarnationIs::Present
        } else if is_lost
            || other.number() > self.incarnation.number()
            // A person may have left the bits out.
            || (other.number() == self.incarnation.number() && !other.has_bits())
        {
            IncarnationIs::Unknown
        } else {
            IncarnationIs::Past
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn now(&self) -> Time {
        self.now
    }

    pub(super) fn set_now(&mut self, now: Time) {
        self.now = now;
    }

    /// When a transaction that begins or prepares now has waited too long for votes or a decision.
    pub(super) fn vote_deadline(&self) -> Time {
        self.now + self.config.vote_timeout
    }

    pub(super) fn requests_kept(&self) -> Kept {
        Kept::new(self.config.requests_kept, self.config.requests_kept_in_total)
    }

    /// The interval after the `tries`th attempt: doubling, up to a maximum.
    pub(super) fn backoff(&self, tries: u32) -> Micros {
        // A shift by 64 would overflow; 30 doublings are beyond any useful maximum.
        let doubled = self.config.retry_first.0.saturating_mul(1 << tries.min(30));
        // Never 0: such a timer would be due again in the step that sets it, without end.
        Micros(doubled.min(self.config.retry_max.0).max(1))
    }

    #[inline]
    pub(super) fn is_member(&self, node: NodeId) -> bool {
        let nodes = &self.config.nodes;
        // Nodes are mostly numbered in the order of the list.
        nodes.get(usize::from(node.0)) == Some(&node) || nodes.contains(&node)
    }
}

/// The log.
impl Context {
    /// Whether the boot snapshot is durable, and with it all that was read back.
    pub(super) fn is_boot_durable(&self) -> bool {
        self.wal.ready()
    }

    pub(super) fn append_prepared(
        &mut self,
        tx: TxId,
        record: &Record,
        out: &mut Outbox<CommitNode>,
    ) {
        let ticket = self.wal.append(record, PreparedTx(tx), out);
        self.pending.push_back(PendingRecord::Prepared(ticket));
    }

    pub(super) fn append_commit(
        &mut self,
        tx: TxId,
        record: &Record,
        out: &mut Outbox<CommitNode>,
    ) {
        let ticket = self.wal.append(record, CommittedTx(tx), out);
        self.pending.push_back(PendingRecord::Commit(ticket));
    }

    pub(super) fn append_outcome(
        &mut self,
        tx: TxId,
        record: &Record,
        out: &mut Outbox<CommitNode>,
    ) {
        let ticket = self.wal.append(record, OutcomeTx(tx), out);
        self.pending.push_back(PendingRecord::Outcome(ticket));
    }

    /// Nothing waits for END: if a crash loses it, Commit is sent and acknowledged once more.
    pub(super) fn append_end(
        &mut self,
        tx: TxId,
        request: RequestId,
        out: &mut Outbox<CommitNode>,
    ) {
        let _unforced = self.wal.append(&Record::End { tx, request }, (), out);
    }

    pub(super) fn append_met(
        &mut self,
        met: MetPeer,
        log_position: u64,
        out: &mut Outbox<CommitNode>,
    ) {
        let MetPeer { peer, incarnation } = met;
        let record = Record::Met { peer, incarnation, log_position };
        let ticket = self.wal.append(&record, met, out);
        self.pending.push_back(PendingRecord::Met(ticket));
        self.wal.force(out);
    }

    pub(super) fn force(&mut self, out: &mut Outbox<CommitNode>) {
        self.wal.force(out);
    }

    pub(super) fn on_disk_done(
        &mut self,
        op: OpId,
        result: Result<(), DiskError>,
        out: &mut Outbox<CommitNode>,
    ) -> Result<Progress, DiskError> {
        let progress = self.wal.on_disk_done(op, result, out);
        if progress.is_err() {
            // The node halts, and does nothing more.
            self.timers = Timers::default();
        }
        progress
    }

    /// The next record that has become durable, in the order of the log.
    pub(super) fn next_durable(&mut self) -> Option<DurableRecord> {
        // The log becomes durable in order: if the first ticket cannot be redeemed, none can.
        let durable = match self.pending.front().copied()? {
            PendingRecord::Prepared(ticket) => {
                DurableRecord::Prepared(self.wal.redeem(ticket).ok()?)
            }
            PendingRecord::Commit(ticket) => DurableRecord::Commit(self.wal.redeem(ticket).ok()?),
            PendingRecord::Outcome(ticket) => DurableRecord::Outcome(self.wal.redeem(ticket).ok()?),
            PendingRecord::Met(ticket) => DurableRecord::Met(self.wal.redeem(ticket).ok()?),
        };
        self.pending.pop_front();
        Some(durable)
    }

    /// The proofs for the PREPARED records that were read back, by transaction. The log must be
    /// ready, as for the next two; each returns its proofs once.
    pub(super) fn take_recovered_prepared(&mut self) -> Vec<Durable<PreparedTx>> {
        let tickets = mem::take(&mut self.recovered.prepared);
        self.redeem_recovered(tickets)
    }

    /// The proofs for the COMMIT records without END that were read back, by transaction.
    pub(super) fn take_recovered_commits(&mut self) -> Vec<Durable<CommittedTx>> {
        let tickets = mem::take(&mut self.recovered.commits);
        self.redeem_recovered(tickets)
    }

    /// The proofs for the outcomes that were read back, by transaction.
    pub(super) fn take_recovered_outcomes(&mut self) -> Vec<Durable<OutcomeTx>> {
        let tickets = mem::take(&mut self.recovered.outcomes);
        self.redeem_recovered(tickets)
    }

    /// The proofs for the incarnations of peers that were read back, by peer.
    pub(super) fn take_recovered_met(&mut self) -> Vec<Durable<MetPeer>> {
        let tickets = mem::take(&mut self.recovered.met);
        self.redeem_recovered(tickets)
    }

    fn redeem_recovered<T: Debug>(&self, tickets: Vec<Ticket<T>>) -> Vec<Durable<T>> {
        tickets
            .into_iter()
            .map(|ticket| self.wal.redeem(ticket).expect("the boot snapshot is durable"))
            .collect()
    }

    pub(super) fn needs_compaction(&self) -> bool {
        self.wal.needs_compaction()
    }

    pub(super) fn compact(&mut self, state: &State, out: &mut Outbox<CommitNode>) {
        self.wal.compact(state, out);
    }

    pub(super) fn wal(&self) -> &Wal {
        &self.wal
    }
}

/// The store and its locks.
impl Context {
    /// Locks all keys of a part and reads, or none.
    pub(super) fn prepare_part(&mut self, tx: TxId, age: Age, ops: &[Op]) -> PrepareResult {
        self.store.prepare(tx, age, ops)
    }

    /// Locks a part that was prepared in an earlier incarnation, and reads.
    pub(super) fn relock_part(&mut self, tx: TxId, age: Age, ops: &[Op]) -> Reads {
        // Not `prepare`: these locks were granted once, so they conflict with nothing here, and the
        // Yes was or may be sent, so there is nothing to refuse.
        self.store.lock(tx, age, ops);
        self.store.read(ops)
    }

    pub(super) fn commit_part(&mut self, tx: TxId, part: &Part) {
        self.store.commit(tx, part.age(), part.ops());
        // Waiters try again at the end of the step, when neither half is in the middle of a change.
        self.locks_released = true;
    }

    pub(super) fn abort_part(&mut self, tx: TxId, part: &Part) {
        self.store.abort(tx, part.age(), part.ops());
        self.locks_released = true;
    }

    pub(super) fn take_locks_released(&mut self) -> bool {
        mem::take(&mut self.locks_released)
    }

    pub(super) fn values(&self) -> &std::collections::BTreeMap<Key, i64> {
        self.store.values()
    }

    pub(super) fn locks(&self) -> impl Iterator<Item = (Key, TxId, bool)> {
        self.store.locks()
    }

    pub(super) fn start_waiting(&mut self, waiter: Waiter) {
        // Sorted by age, as `waiting` promises.
        let at = self.waiting.partition_point(|other| *other < waiter);
        self.waiting.insert(at, waiter);
    }

    pub(super) fn stop_waiting(&mut self, waiter: Waiter) {
        // Absent if the transaction never had to wait.
        if let Ok(at) = self.waiting.binary_search(&waiter) {
            self.waiting.remove(at);
        }
    }

    /// The waiting transactions, the oldest first.
    pub(super) fn waiting(&self) -> &[Waiter] {
        &self.waiting
    }
}

/// Timers.
impl Context {
    pub(super) fn deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    pub(super) fn set_timer(&mut self, at: Time, timer: Timer, tx: TxId) {
        self.timers.set(at, timer, tx);
    }

    /// Removes a timer set for exactly this time, if it has not fired.
    pub(super) fn cancel_timer(&mut self, at: Time, timer: Timer, tx: TxId) {
        self.timers.cancel(at, timer, tx);
    }

    pub(super) fn pop_due_timer(&mut self) -> Option<(Timer, TxId)> {
        self.timers.pop_due(self.now)
    }
}

/// Reports.
impl Context {
    #[cold]
    pub(super) fn drop_message(
        &self,
        from: NodeId,
        tx: TxId,
        request: RequestId,
        reason: DropReason,
        out: &mut Outbox<CommitNode>,
    ) {
        out.report(Event::Dropped { from, tx, request, reason });
    }
}
