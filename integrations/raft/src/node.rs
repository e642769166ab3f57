//! The node: it drives a `RawNode` of the library with asynchronous `Ready`s, so that a step never
//! waits for its disk.
//!
//! 1. A step passes its input to the `RawNode`, then handles each `Ready`.
//! 2. The record of a `Ready` is appended to the write-ahead log. Its *persisted messages* wait
//!    until it is durable; then the library is told so (`on_persist_ready`), too.
//! 3. Committed entries are applied at once, and clients that wait for them are answered.
//!
//! Any node serves clients: the library forwards proposals and reads to the leader.

use std::collections::{BTreeMap, VecDeque};

use raft::eraftpb::{Entry, Message, MessageType};
use raft::{Config as RaftConfig, RawNode, ReadState, Ready, SnapshotStatus};
use slog::{Discard, Logger, o};
use stormglass_node::wal::{self, Progress, Wal, WalOptions};
use stormglass_node::{
    Boot, BootError, Durable, HaltReason, Input, Micros, Node, NodeId, Outbox, RequestId, Ticket,
    Time,
};

use crate::Bug;
use crate::machine::Command;
use crate::store::{DurableState, Hard, Record, Store};
use crate::wire::{Event, Request, Value, Wire, node_of, raft_id};

const TICK: Micros = Micros::from_millis(20);
const HEARTBEAT_TICKS: usize = 2;
/// The least election timeout; the greatest is one tick less than twice as much.
const ELECTION_TICKS: usize = 8;
/// After so many ticks a snapshot counts as lost. The library waits for ever otherwise.
const SNAPSHOT_TICKS: u32 = 8;
/// Applied entries that stay in the log for followers that are a little behind.
const KEPT_ENTRIES: u64 = 2;

/// The configuration of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How many nodes, all of which vote.
    pub nodes: u16,
    /// A longer segment of the write-ahead log is compacted, and the log of entries with it.
    pub compact_at: u64,
    /// A deliberate bug.
    pub bug: Option<Bug>,
}

/// A replica of the counters.
pub struct Replica {
    config: Config,
    raft: RawNode<Store>,
    wal: Wal,
    /// `None` until the boot snapshot is durable: before, the node takes no part.
    tick_at: Option<Time>,
    entropy: u64,
    /// The `Ready`s that are not known to be durable, in order.
    unsynced: VecDeque<Unsynced>,
    /// The request of each client that waits.
    waiting: BTreeMap<u64, Waiting>,
    /// Reads begun in this incarnation.
    reads: u64,
    /// Ticks until the snapshot for this raft id counts as lost.
    snapshots: BTreeMap<u64, u32>,
}

/// A `Ready` that is not known to be durable.
struct Unsynced {
    number: u64,
    /// `None` if it has no record: it waits only for those before it.
    ticket: Option<Ticket<()>>,
    messages: Vec<Message>,
}

/// A request that is not answered.
struct Waiting {
    id: RequestId,
    read: Option<Read>,
}

/// A read through ReadIndex.
struct Read {
    key: u8,
    number: u64,
    /// It may be answered once this entry is applied; `None` until the leader has named one.
    index: Option<u64>,
}

impl Node for Replica {
    type Config = Config;
    type Message = Wire;
    type Request = Request;
    type Response = Value;
    type Event = Event;

    fn boot(config: &Config, boot: Boot<'_>, out: &mut Outbox<Self>) -> Result<Self, BootError> {
        let recovered = wal::recover::<DurableState, Record>(boot.disk)?;
        let mut state = recovered.snapshot.unwrap_or_default();
        for record in recovered.records {
            state.add(record);
        }
        let options = WalOptions {
            compact_at: config.compact_at,
            entropy: boot.entropy,
            ..WalOptions::default()
        };
        let (wal, _) = Wal::begin(recovered.resume_point, options, &state, out);
        out.report(Event::Recovered {
            term: state.hard.term,
            vote: state.hard.vote,
            last_index: state.last_index(),
            applied: state.machine.applied(),
            digest: state.machine.digest(),
        });
        let mut replica = Replica {
            config: *config,
            raft: raw_node(config, boot.id, state),
            wal,
            tick_at: None,
            entropy: boot.entropy,
            unsynced: VecDeque::new(),
            waiting: BTreeMap::new(),
            reads: 0,
            snapshots: BTreeMap::new(),
        };
        replica.tame_election_timeout();
        Ok(replica)
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::DiskDone { op, result } => match self.wal.on_disk_done(op, result, out) {
                // Nodes tick at different times, so that they do not campaign at the same.
                Ok(Progress::Ready) => self.tick_at = Some(now + Micros(self.entropy % TICK.0)),
                Ok(_) => {}
                Err(error) => return out.halt(HaltReason::DiskFailed(error)),
            },
            Input::Message { message, .. } if self.wal.ready() => {
                // The library refuses what it has no use for.
                let _ = self.raft.step(message.0);
            }
            Input::Request { id, request } if self.wal.ready() => self.on_request(id, request, out),
            Input::Wake if self.tick_at.is_some_and(|at| now >= at) => self.on_tick(now),
            Input::Message { .. }
            | Input::Request { .. }
            | Input::Wake
            | Input::Connected { .. }
            | Input::Disconnected { .. } => return,
        }
        self.tame_election_timeout();
        self.handle_readies(out);
        if self.wal.needs_compaction() {
            let state = &mut self.raft.mut_store().state;
            state.compact(KEPT_ENTRIES);
            self.wal.compact(state, out);
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.tick_at
    }
}

fn raw_node(config: &Config, id: NodeId, state: DurableState) -> RawNode<Store> {
    let applied = match config.bug {
        Some(Bug::AppliedIndexLost) => state.compacted_index(),
        _ => state.machine.applied(),
    };
    let raft_config = RaftConfig {
        id: raft_id(id),
        election_tick: ELECTION_TICKS,
        heartbeat_tick: HEARTBEAT_TICKS,
        applied,
        max_size_per_msg: 4096,
        max_inflight_msgs: 16,
        check_quorum: true,
        pre_vote: true,
        ..RaftConfig::default()
    };
    let logger = Logger::root(Discard, o!());
    RawNode::new(&raft_config, Store::new(state, config.nodes), &logger)
        .expect("a valid configuration, and a store without errors")
}

/// Inputs.
impl Replica {
    fn on_request(&mut self, id: RequestId, request: Request, out: &mut Outbox<Self>) {
        // A copy of an earlier request.
        if self.waiting.get(&id.client).is_some_and(|waiting| waiting.id > id) {
            return;
        }
        match request {
            Request::Add(key) => self.add(id, key, out),
            Request::Get(key) => self.read(id, key, out),
        }
    }

    fn add(&mut self, id: RequestId, key: u8, out: &mut Outbox<Self>) {
        let machine = &self.raft.store().state.machine;
        if let Some(value) = machine.answer(id)
            && self.has_sessions()
        {
            return out.reply(id, Value(value));
        }
        if self.config.bug == Some(Bug::AnswersBeforeCommit) {
            out.reply(id, Value(machine.value(key) + 1));
        }
        self.waiting.insert(id.client, Waiting { id, read: None });
        // Without a leader the library drops it, and the client repeats it.
        let _ = self.raft.propose(Vec::new(), Command { request: id, key }.encode());
    }

    fn read(&mut self, id: RequestId, key: u8, out: &mut Outbox<Self>) {
        if self.config.bug == Some(Bug::LocalReads) {
            return out.reply(id, Value(self.raft.store().state.machine.value(key)));
        }
        self.reads += 1;
        let read = Read { key, number: self.reads, index: None };
        self.waiting.insert(id.client, Waiting { id, read: Some(read) });
        self.raft.read_index(read_context(self.entropy, self.reads));
    }

    fn on_tick(&mut self, now: Time) {
        self.tick_at = Some(now + TICK);
        // The library panics if an election begins between the `Ready` of a snapshot and the
        // barrier after it:
        // 1. The follower passes the `Ready` to `advance_append_async`. By then the store has to
        //    show the snapshot, so earlier entries are gone.
        // 2. An applied index above the persisted one is refused, so the old one stays.
        // 3. The election reads all entries from the applied index, which the store has not.
        if !self.is_installing() || self.config.bug == Some(Bug::TicksWhileInstalling) {
            self.raft.tick();
        }
        let mut lost = Vec::new();
        self.snapshots.retain(|peer, ticks| {
            *ticks -= 1;
            if *ticks == 0 {
                lost.push(*peer);
            }
            *ticks > 0
        });
        for peer in lost {
            self.raft.report_snapshot(peer, SnapshotStatus::Failure);
        }
    }
}

/// Readies.
impl Replica {
    fn handle_readies(&mut self, out: &mut Outbox<Self>) {
        loop {
            self.release_durable(out);
            if !self.raft.has_ready() {
                return;
            }
            let ready = self.raft.ready();
            self.handle_ready(ready, out);
        }
    }

    fn handle_ready(&mut self, mut ready: Ready, out: &mut Outbox<Self>) {
        for message in ready.take_messages() {
            self.send(message, out);
        }
        for entry in ready.take_committed_entries() {
            self.apply(&entry, out);
        }
        for state in ready.take_read_states() {
            self.on_read_state(&state);
        }
        let hard = self.update_hard_state(&ready);
        let ticket = Record::of(&ready, hard).map(|record| self.append(record, out));
        self.answer_reads(out);
        let mut messages = ready.take_persisted_messages();
        if self.config.bug == Some(Bug::SendsBeforeDurable) {
            for message in messages.drain(..) {
                self.send(message, out);
            }
        }
        self.unsynced.push_back(Unsynced { number: ready.number(), ticket, messages });
        self.raft.advance_append_async(ready);
        self.report_applied();
    }

    /// Keeps the hard state of a `Ready`, whose commit index may be new although it has no record.
    fn update_hard_state(&mut self, ready: &Ready) -> Option<Hard> {
        let mut hard = Hard::from(ready.hs()?);
        if matches!(self.config.bug, Some(Bug::VoteNotPersisted | Bug::TermNotPersisted)) {
            hard.vote = 0;
        }
        if self.config.bug == Some(Bug::TermNotPersisted) {
            hard.term = 0;
        }
        self.raft.mut_store().state.hard = hard;
        Some(hard)
    }

    /// Appends a record and begins to make it durable.
    fn append(&mut self, record: Record, out: &mut Outbox<Self>) -> Ticket<()> {
        let ticket = self.wal.append(&record, (), out);
        self.wal.force(out);
        if let Some(machine) = record.installed() {
            let (index, digest) = (machine.applied(), machine.digest());
            out.report(Event::Installed { index, digest });
        }
        self.raft.mut_store().state.add(record);
        ticket
    }

    /// Releases every `Ready` that is durable, and all before it.
    fn release_durable(&mut self, out: &mut Outbox<Self>) {
        while let Some(unsynced) = self.unsynced.pop_front() {
            let durable = unsynced.ticket.map(|ticket| self.wal.redeem(ticket)).transpose();
            match durable {
                Ok(durable) => self.on_durable(unsynced.number, unsynced.messages, durable, out),
                Err(ticket) => {
                    self.unsynced.push_front(Unsynced { ticket: Some(ticket), ..unsynced });
                    return;
                }
            }
        }
    }

    fn on_durable(
        &mut self,
        number: u64,
        messages: Vec<Message>,
        _: Option<Durable<()>>,
        out: &mut Outbox<Self>,
    ) {
        self.raft.on_persist_ready(number);
        self.report_applied();
        for message in messages {
            self.send(message, out);
        }
    }

    /// Tells the library what is applied. It accepts no index that is not durable yet, which the
    /// one of an installed snapshot may be.
    fn report_applied(&mut self) {
        let applied = self.raft.store().state.machine.applied();
        let log = &self.raft.raft.raft_log;
        if applied > log.applied && applied <= log.persisted {
            self.raft.advance_apply_to(applied);
        }
    }

    fn apply(&mut self, entry: &Entry, out: &mut Outbox<Self>) {
        let sessions = self.has_sessions();
        let command = Command::decode(&entry.data);
        let machine = &mut self.raft.mut_store().state.machine;
        let answer = machine.apply(entry.index, command, sessions);
        out.report(Event::Applied { index: entry.index, digest: machine.digest() });
        let (Some(value), Some(Command { request, .. })) = (answer, command) else { return };
        if let Some(Waiting { id, read: None }) = self.waiting.get(&request.client)
            && id.serial == request.serial
        {
            out.reply(*id, Value(value));
            self.waiting.remove(&request.client);
        }
    }

    fn on_read_state(&mut self, state: &ReadState) {
        for waiting in self.waiting.values_mut() {
            if let Some(read) = &mut waiting.read
                && state.request_ctx == read_context(self.entropy, read.number)
            {
                read.index = Some(state.index);
            }
        }
    }

    /// Answers the reads whose index is applied.
    fn answer_reads(&mut self, out: &mut Outbox<Self>) {
        let machine = &self.raft.store().state.machine;
        self.waiting.retain(|_, waiting| {
            let Some(Read { key, index: Some(index), .. }) = waiting.read else { return true };
            let is_applied = machine.applied() >= index;
            if is_applied {
                out.reply(waiting.id, Value(machine.value(key)));
            }
            !is_applied
        });
    }

    fn send(&mut self, message: Message, out: &mut Outbox<Self>) {
        if message.get_msg_type() == MessageType::MsgSnapshot
            && self.config.bug != Some(Bug::LostSnapshotNotReported)
        {
            self.snapshots.insert(message.to, SNAPSHOT_TICKS);
        }
        out.send(node_of(message.to), Wire(message));
    }
}

/// Settings.
impl Replica {
    /// The library draws a new election timeout from the randomness of the machine whenever it
    /// changes its role or its term. This replaces it by a function of the boot and the term.
    fn tame_election_timeout(&mut self) {
        if self.config.bug == Some(Bug::UntamedTimeouts) {
            return;
        }
        let raft = &mut self.raft.raft;
        // The finalizer of splitmix64: each term and each boot gives another number.
        let mut bits = self.entropy ^ raft.term.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let above = (bits ^ (bits >> 31)) % ELECTION_TICKS as u64;
        raft.set_randomized_election_timeout(ELECTION_TICKS + above as usize);
    }

    /// Whether a snapshot is installed that is not durable yet.
    fn is_installing(&self) -> bool {
        self.raft.raft.raft_log.applied < self.raft.store().state.compacted_index()
    }

    fn has_sessions(&self) -> bool {
        self.config.bug != Some(Bug::NoSessions)
    }
}

/// The context of a read, which no other read of any node or incarnation has: a leader takes equal
/// contexts for one read.
fn read_context(entropy: u64, number: u64) -> Vec<u8> {
    [entropy.to_le_bytes(), number.to_le_bytes()].concat()
}
