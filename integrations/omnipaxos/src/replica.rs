//! The node: it connects the library with messages, disk, clock and clients.
//!
//! Each input goes to the library. What follows from it, messages, replies and events, waits until
//! everything that the library has written so far is durable.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::messages::Message;
use omnipaxos::messages::ballot_leader_election::HeartbeatMsg;
use omnipaxos::messages::sequence_paxos::PaxosMsg;
use omnipaxos::util::{LogEntry, LogSync};
use omnipaxos::{ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig};
use serde::{Deserialize, Serialize};
use stormglass_node::wal::recover;
use stormglass_node::{
    Boot, BootError, HaltReason, Input, Label, Links, Micros, Node, NodeId, Outbox, RequestId,
    Ticket, Time, Wal, WalOptions,
};

use crate::store::{Record, State, Store};
use crate::{Bug, Command, Counters, Request};

/// The time between two ticks of the library.
const TICK: Micros = Micros::from_millis(10);
/// An election after so many ticks: 50 ms, more than a round trip with a sync on either side.
const ELECTION_TICKS: u64 = 5;
/// Unanswered messages are sent again after so many ticks.
const RESEND_TICKS: u64 = 10;
/// A node that has promised a ballot of its own and leads nobody stands for election again after so
/// many ticks: 1 s, much longer than an election takes.
const RECLAIM_TICKS: u64 = 100;

/// What a node is configured with.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How many nodes the cluster has: 2 or more, as the library demands.
    pub nodes: u16,
    /// The length of the write-ahead log at which it is compacted, in bytes.
    pub compact_at: u64,
    /// The deliberate bug, if it has one.
    pub bug: Option<Bug>,
}

/// A message of the library.
#[derive(Clone, Debug, Label, Serialize, Deserialize)]
#[label(kind_with = "kind", subjects_with = "requests", detail_with = "detail")]
pub struct Wire(Message<Command>);

fn kind(message: &Message<Command>) -> &'static str {
    match message {
        Message::BLE(message) => match message.msg {
            HeartbeatMsg::Request(_) => "HeartbeatRequest",
            HeartbeatMsg::Reply(_) => "HeartbeatReply",
        },
        Message::SequencePaxos(message) => match message.msg {
            PaxosMsg::PrepareReq(_) => "PrepareReq",
            PaxosMsg::Prepare(_) => "Prepare",
            PaxosMsg::Promise(_) => "Promise",
            PaxosMsg::AcceptSync(_) => "AcceptSync",
            PaxosMsg::AcceptDecide(_) => "AcceptDecide",
            PaxosMsg::Accepted(_) => "Accepted",
            PaxosMsg::NotAccepted(_) => "NotAccepted",
            PaxosMsg::Decide(_) => "Decide",
            PaxosMsg::ProposalForward(_) => "ProposalForward",
            PaxosMsg::Compaction(_) => "Compaction",
            PaxosMsg::AcceptStopSign(_) => "AcceptStopSign",
            PaxosMsg::ForwardStopSign(_) => "ForwardStopSign",
        },
    }
}

/// The requests whose entries a message carries. Those of an `AcceptSync` and a `Promise` depend on
/// what the receiver lacks, so a coordinate with them would lose its meaning easily.
fn requests(message: &Message<Command>) -> Vec<RequestId> {
    let Message::SequencePaxos(message) = message else { return Vec::new() };
    let commands = match &message.msg {
        PaxosMsg::AcceptDecide(accept) => accept.entries.as_slice(),
        PaxosMsg::ProposalForward(commands) => commands.as_slice(),
        PaxosMsg::PrepareReq(_)
        | PaxosMsg::Prepare(_)
        | PaxosMsg::Promise(_)
        | PaxosMsg::AcceptSync(_)
        | PaxosMsg::Accepted(_)
        | PaxosMsg::NotAccepted(_)
        | PaxosMsg::Decide(_)
        | PaxosMsg::Compaction(_)
        | PaxosMsg::AcceptStopSign(_)
        | PaxosMsg::ForwardStopSign(_) => &[],
    };
    commands.iter().map(|command| command.id).collect()
}

/// Ballots and lengths of logs, which decide what the receiver does.
fn detail(message: &Message<Command>, f: &mut dyn fmt::Write) -> fmt::Result {
    match message {
        Message::BLE(message) => match &message.msg {
            HeartbeatMsg::Request(request) => write!(f, "round {}", request.round),
            HeartbeatMsg::Reply(reply) => {
                let mood = if reply.happy { "happy" } else { "unhappy" };
                let (own, leader) = (Short(reply.ballot), Short(reply.leader));
                write!(f, "round {}, own {own}, leader {leader}, {mood}", reply.round)
            }
        },
        Message::SequencePaxos(message) => paxos_detail(&message.msg, f),
    }
}

fn paxos_detail(message: &PaxosMsg<Command>, f: &mut dyn fmt::Write) -> fmt::Result {
    match message {
        PaxosMsg::PrepareReq(m) => write!(f, "{}", Short(m.n)),
        PaxosMsg::Prepare(m) => {
            let (n, round) = (Short(m.n), Short(m.n_accepted));
            write!(f, "{n}, decided {}, accepted {} in {round}", m.decided_idx, m.accepted_idx)
        }
        PaxosMsg::Promise(m) => {
            let (n, round) = (Short(m.n), Short(m.n_accepted));
            write!(f, "{n}, decided {}, accepted {} in {round}", m.decided_idx, m.accepted_idx)?;
            m.log_sync.as_ref().map_or(Ok(()), |sync| sync_detail(sync, f))
        }
        PaxosMsg::AcceptSync(m) => {
            let (n, session, counter) = (Short(m.n), m.seq_num.session, m.seq_num.counter);
            write!(f, "{n} {session}:{counter}, decided {}", m.decided_idx)?;
            sync_detail(&m.log_sync, f)
        }
        PaxosMsg::AcceptDecide(m) => {
            let (n, session, counter) = (Short(m.n), m.seq_num.session, m.seq_num.counter);
            let (decided, entries) = (m.decided_idx, m.entries.len());
            write!(f, "{n} {session}:{counter}, decided {decided}, {entries} entries")
        }
        PaxosMsg::Accepted(m) => write!(f, "{}, {}", Short(m.n), m.accepted_idx),
        PaxosMsg::NotAccepted(m) => write!(f, "{}", Short(m.n)),
        PaxosMsg::Decide(m) => {
            let (n, session, counter) = (Short(m.n), m.seq_num.session, m.seq_num.counter);
            write!(f, "{n} {session}:{counter}, decided {}", m.decided_idx)
        }
        PaxosMsg::ProposalForward(commands) => write!(f, "{} entries", commands.len()),
        PaxosMsg::Compaction(_) | PaxosMsg::AcceptStopSign(_) | PaxosMsg::ForwardStopSign(_) => {
            write!(f, "{message:?}")
        }
    }
}

fn sync_detail(sync: &LogSync<Command>, f: &mut dyn fmt::Write) -> fmt::Result {
    write!(f, ", {} entries from {}", sync.suffix.len(), sync.sync_idx)
}

/// A ballot, as its number and its node: `6@n2`.
struct Short(Ballot);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.pid {
            0 => f.write_str("none"),
            pid => write!(f, "{}@n{}", self.0.n, pid - 1),
        }
    }
}

/// Whether a message asks for what this node does not use: another configuration of the cluster, or
/// the compaction of the library's log.
fn is_unsupported(message: &Message<Command>) -> bool {
    let Message::SequencePaxos(message) = message else { return false };
    matches!(
        message.msg,
        PaxosMsg::Compaction(_) | PaxosMsg::AcceptStopSign(_) | PaxosMsg::ForwardStopSign(_)
    )
}

/// What an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq, Label)]
#[label(detail)]
pub enum Event {
    /// This node has applied a decided entry.
    Applied {
        /// The index of the entry in the log, from 0.
        index: u64,
        /// Its client and serial.
        #[label(subject)]
        id: RequestId,
        /// What the client requests.
        request: Request,
    },
    /// A message was dropped: it is addressed wrongly, or asks for what this node does not use.
    #[label(warning)]
    Dropped {
        /// The sender.
        from: NodeId,
    },
}

#[derive(Debug)]
enum Output {
    Send(NodeId, Wire),
    Reply(RequestId, u64),
    Report(Event),
}

/// A replica of the counters, over sessions or over datagrams.
pub struct Replica<const SESSIONS: bool> {
    id: NodeId,
    config: Config,
    library: OmniPaxos<Command, Store>,
    store: Store,
    wal: Wal,
    /// The last record of this incarnation.
    last_record: Option<Ticket<()>>,
    /// What follows from earlier inputs, in order, each with the record that must be durable first;
    /// `None` for the boot snapshot.
    outputs: VecDeque<(Option<Ticket<()>>, Output)>,
    counters: Counters,
    /// How many entries are applied.
    applied: u64,
    /// By client and serial, the request that its next response answers.
    waiting: BTreeMap<(u64, u32), RequestId>,
    next_tick: Time,
    /// For how many ticks its promise has been a ballot of its own with which it leads nobody.
    idle_ticks: u64,
}

/// The library numbers nodes from 1.
fn pid(node: NodeId) -> u64 {
    u64::from(node.0) + 1
}

fn node(pid: u64) -> NodeId {
    NodeId(u16::try_from(pid - 1).expect("a node of this cluster"))
}

fn library_config(id: NodeId, nodes: u16) -> OmniPaxosConfig {
    OmniPaxosConfig {
        cluster_config: ClusterConfig {
            configuration_id: 1,
            nodes: (0..nodes).map(NodeId).map(pid).collect(),
            flexible_quorum: None,
        },
        server_config: ServerConfig {
            pid: pid(id),
            election_tick_timeout: ELECTION_TICKS,
            resend_message_tick_timeout: RESEND_TICKS,
            // The capacity that is reserved for outgoing messages; each step takes them out.
            buffer_size: 16,
            ..ServerConfig::default()
        },
    }
}

/// What the library must find again, as a bug may change it.
fn recovered_state(
    snapshot: Option<State>,
    records: &[Record],
    bug: Option<Bug>,
) -> Result<State, BootError> {
    let mut state = snapshot.unwrap_or_default();
    for record in records {
        state.apply(record).map_err(|reason| BootError::Rejected { reason })?;
    }
    if bug == Some(Bug::ForgetsPromise) {
        state.promise = None;
    }
    if bug == Some(Bug::ForgetsAcceptedRound) {
        state.accepted_round = None;
    }
    if bug == Some(Bug::TakesLogAsDecided) {
        state.decided = u64::try_from(state.log.len()).expect("at most 64 bits");
    }
    Ok(state)
}

impl<const SESSIONS: bool> Node for Replica<SESSIONS> {
    const LINKS: Links = if SESSIONS { Links::Sessions } else { Links::Datagrams };

    type Config = Config;
    type Message = Wire;
    type Request = Request;
    type Response = u64;
    type Event = Event;

    fn boot(config: &Config, boot: Boot<'_>, out: &mut Outbox<Self>) -> Result<Self, BootError> {
        let recovered = recover::<State, Record>(boot.disk)?;
        let state = recovered_state(recovered.snapshot, &recovered.records, config.bug)?;
        let store = Store::new(state, config.bug);
        let library = library_config(boot.id, config.nodes)
            .build(store.clone())
            .map_err(|error| BootError::Rejected { reason: error.to_string() })?;
        // The boot snapshot has what the library has written so far.
        store.take_unwritten().map_err(|reason| BootError::Rejected { reason })?;
        let options = WalOptions {
            compact_at: config.compact_at,
            entropy: boot.entropy,
            ..WalOptions::default()
        };
        let (wal, _) = Wal::begin(recovered.resume_point, options, &*store.state(), out);
        let mut replica = Replica {
            id: boot.id,
            config: *config,
            library,
            store,
            wal,
            last_record: None,
            outputs: VecDeque::new(),
            counters: Counters::default(),
            applied: 0,
            waiting: BTreeMap::new(),
            next_tick: boot.now + TICK,
            idle_ticks: 0,
        };
        replica.end_step(out);
        Ok(replica)
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Message { from, message } => self.on_message(from, message.0),
            Input::Request { id, request } => self.on_request(id, request),
            Input::Connected { peer } => self.on_connected(peer),
            // The library learns of it when the session begins again.
            Input::Disconnected { .. } => {}
            Input::DiskDone { op, result } => {
                if let Err(error) = self.wal.on_disk_done(op, result, out) {
                    out.halt(HaltReason::DiskFailed(error));
                    return;
                }
            }
            Input::Wake if now >= self.next_tick => {
                self.tick();
                self.next_tick = now + TICK;
            }
            Input::Wake => {}
        }
        self.end_step(out);
    }

    fn deadline(&self) -> Option<Time> {
        Some(self.next_tick)
    }

    fn write_state(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        let state = self.store.state();
        let promise = Short(state.promise.unwrap_or_default());
        let round = Short(state.accepted_round.unwrap_or_default());
        writeln!(f, "promise {promise}, accepted {} in {round}", state.log.len())?;
        writeln!(f, "decided {}, applied {}", state.decided, self.applied)?;
        write!(f, "{} outputs wait for the disk", self.outputs.len())
    }
}

/// Inputs.
impl<const SESSIONS: bool> Replica<SESSIONS> {
    fn on_message(&mut self, from: NodeId, message: Message<Command>) {
        let addressed_rightly =
            message.get_sender() == pid(from) && message.get_receiver() == pid(self.id);
        if addressed_rightly && !is_unsupported(&message) {
            self.library.handle_incoming(message);
        } else {
            self.output(Output::Report(Event::Dropped { from }));
        }
    }

    fn on_request(&mut self, id: RequestId, request: Request) {
        if let Some(response) = self.counters.response(id) {
            self.output(Output::Reply(id, response));
            return;
        }
        if let (Some(Bug::ReadsLocally), Request::Get(_)) = (self.config.bug, request) {
            let value = self.counters.perform(request);
            self.output(Output::Reply(id, value));
            return;
        }
        self.waiting.insert((id.client, id.serial), id);
        let command = Command { id: RequestId { attempt: 0, ..id }, request };
        // Refused only after a reconfiguration, which this cluster does not have. If the entry gets
        // lost, the client asks again.
        let _ = self.library.append(command);
    }

    /// The library alone can leave a node behind forever:
    ///
    /// 1. A node stands for election with ballot 3. Its promise is durable; then it crashes, before
    ///    any peer receives its `Prepare`.
    /// 2. A peer of a lower id becomes leader with ballot 3, which is less, since ids break ties.
    /// 3. The node recovers its promise and ignores the `Prepare` of that leader, which ignores its
    ///    `PrepareReq`. It does not stand for election, since its peers are content.
    ///
    /// So a node in this state stands for election itself. Its peers then promise it a greater
    /// ballot.
    fn tick(&mut self) {
        self.library.tick();
        let is_idle = self.library.get_current_leader() == Some((pid(self.id), false));
        self.idle_ticks = if is_idle { self.idle_ticks + 1 } else { 0 };
        if self.idle_ticks >= RECLAIM_TICKS && self.config.bug != Some(Bug::NeverReclaims) {
            self.library.try_become_leader();
            self.idle_ticks = 0;
        }
    }

    fn on_connected(&mut self, peer: NodeId) {
        if self.config.bug != Some(Bug::ForgetsReconnect) {
            self.library.reconnected(pid(peer));
        }
    }
}

/// What follows from an input.
impl<const SESSIONS: bool> Replica<SESSIONS> {
    fn end_step(&mut self, out: &mut Outbox<Self>) {
        // First what the library has written: everything else of this step depends on it.
        let records = match self.store.take_unwritten() {
            Ok(records) => records,
            Err(reason) => {
                out.halt(HaltReason::ProtocolFailed(reason));
                return;
            }
        };
        let wrote = !records.is_empty();
        for record in records {
            self.last_record = Some(self.wal.append(&record, (), out));
        }
        if wrote {
            self.wal.force(out);
        }
        self.apply_decided();
        self.collect_messages();
        self.release_outputs(out);
        if self.wal.needs_compaction() {
            self.wal.compact(&*self.store.state(), out);
        }
    }

    fn output(&mut self, output: Output) {
        self.outputs.push_back((self.last_record, output));
    }

    fn apply_decided(&mut self) {
        let applied = crate::store::index(self.applied);
        for entry in self.library.read_decided_suffix(applied).unwrap_or_default() {
            let LogEntry::Decided(command) = entry else { return };
            self.apply(command);
        }
    }

    fn apply(&mut self, command: Command) {
        let Command { id, request } = command;
        self.output(Output::Report(Event::Applied { index: self.applied, id, request }));
        self.applied += 1;
        let performed = if self.config.bug == Some(Bug::ExecutesRepeatedly) {
            Some(self.counters.perform(request))
        } else {
            self.counters.execute(command);
            self.counters.response(id)
        };
        if let (Some(response), Some(id)) =
            (performed, self.waiting.remove(&(id.client, id.serial)))
        {
            self.output(Output::Reply(id, response));
        }
    }

    fn collect_messages(&mut self) {
        let mut messages = Vec::new();
        self.library.take_outgoing_messages(&mut messages);
        for message in messages {
            self.output(Output::Send(node(message.get_receiver()), Wire(message)));
        }
    }

    /// Emits the outputs that depend on nothing but durable records, in order.
    fn release_outputs(&mut self, out: &mut Outbox<Self>) {
        if !self.wal.ready() {
            return;
        }
        if self.config.bug == Some(Bug::SendsBeforeDurable) {
            self.send_early(out);
        }
        while let Some((record, _)) = self.outputs.front() {
            if record.is_some_and(|record| !self.wal.is_durable(&record)) {
                return;
            }
            let (_, output) = self.outputs.pop_front().expect("the output at the front");
            emit(output, out);
        }
    }

    /// The bug: messages do not wait.
    fn send_early(&mut self, out: &mut Outbox<Self>) {
        for (record, output) in std::mem::take(&mut self.outputs) {
            if matches!(output, Output::Send(..)) {
                emit(output, out);
            } else {
                self.outputs.push_back((record, output));
            }
        }
    }
}

fn emit<const SESSIONS: bool>(output: Output, out: &mut Outbox<Replica<SESSIONS>>) {
    match output {
        Output::Send(to, message) => out.send(to, message),
        Output::Reply(id, response) => out.reply(id, response),
        Output::Report(event) => out.report(event),
    }
}
