//! A driver around the real node that changes its inputs, effects, files or configuration, in the
//! way of one [`Mutant`].

use std::fmt;
use std::sync::Arc;

use stormglass::commit::{
    AbortReason, Age, Body, CommitNode, Config, EndMark, Event, InquiryReply, Message, Outcome,
    Part, Position, Reads, RecordIsDurable, Refusal, Request, Response, TxId, Vote,
};
use stormglass_commit_sim::{AtomicCommitChecker, Clients, Commit, Txn, VOTE_TIMEOUT};
use stormglass_node::{
    Boot, BootError, DiskError, DiskOp, Effect, FileId, Input, Micros, Node, NodeId, Outbox,
    ReadDisk, RequestId, Time, codec,
};
use stormglass_sim::plan::Plan;
use stormglass_sim::profile::{Rng, Setup};
use stormglass_sim::protocol::Protocol;
use stormglass_sim::workload::PlannedRequest;

use super::Mutant;

/// The commit protocol with a mutant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MutantProtocol(pub(crate) Mutant);

impl Protocol for MutantProtocol {
    type Node = MutantNode;
    type Request = Txn;
    type Workload = Clients;
    type Checker = AtomicCommitChecker;

    fn name(&self) -> &str {
        Commit.name()
    }

    fn detects_lost_history(&self) -> bool {
        Commit.detects_lost_history()
    }
    fn kinds(&self) -> &[&'static str] {
        Commit.kinds()
    }
    fn properties(&self) -> &[&'static str] {
        Commit.properties()
    }
    fn config(&self, plan: &Plan, node: NodeId) -> (Config, Mutant) {
        (mutant_config(self.0, Commit.config(plan, node)), self.0)
    }
    fn requests(&self, setup: &Setup, plan: &mut Plan, rng: &mut Rng) -> Vec<PlannedRequest<Txn>> {
        Commit.requests(setup, plan, rng)
    }
    fn clients(&self, plan: &Plan, requests: Vec<PlannedRequest<Txn>>) -> Clients {
        Commit.clients(plan, requests)
    }
    fn checker(&self, plan: &Plan) -> AtomicCommitChecker {
        Commit.checker(plan)
    }
}

/// The real node behind a driver that does something wrong.
#[derive(Clone, Debug)]
pub(crate) struct MutantNode {
    mutant: Mutant,
    node: CommitNode,
    /// The last transaction that it has seen committed.
    last_committed: Option<TxId>,
    /// The requests that it has answered with an outcome that it changes at the next time.
    answered: Vec<RequestId>,
    /// Reused, and empty between steps.
    inner: Outbox<CommitNode>,
}

impl MutantNode {
    /// Forwards the node's effects, except those that the mutant drops: such barriers "complete" at
    /// once.
    fn forward_effects(&mut self, now: Time, out: &mut Outbox<Self>) {
        loop {
            let mut done = None;
            let mut inner = std::mem::take(&mut self.inner);
            let (effects, bytes) = inner.drain();
            for effect in effects {
                match effect {
                    Effect::Disk(op) if drops_disk_op(self.mutant, &op) => {}
                    Effect::Disk(DiskOp::Sync { op, .. }) if self.mutant == Mutant::SkipsSync => {
                        done = Some(op)
                    }
                    Effect::Disk(DiskOp::SyncDir { op }) if self.mutant == Mutant::SkipsSyncDir => {
                        done = Some(op)
                    }
                    Effect::Disk(DiskOp::Append { file, bytes: chunk, about }) => {
                        out.append(file, about, chunk.of(bytes));
                    }
                    Effect::Disk(op @ DiskOp::Rename { to: FileId::Snapshot(k), .. })
                        if self.mutant == Mutant::RemovesLogEarly =>
                    {
                        out.disk(op);
                        out.disk(DiskOp::Remove { file: FileId::Wal(k - 1) });
                    }
                    Effect::Disk(DiskOp::Remove { file: FileId::Wal(k) })
                        if self.mutant == Mutant::RemovesUncoveredLog =>
                    {
                        (k..k + 2).for_each(|k| out.disk(DiskOp::Remove { file: FileId::Wal(k) }));
                    }
                    Effect::Disk(op) => out.disk(op),
                    Effect::Send { to, message } if copies(self.mutant, &message.body) > 1 => {
                        for _ in 0..copies(self.mutant, &message.body) {
                            out.send(to, message.clone());
                        }
                    }
                    Effect::Send { to, message } => {
                        send_message(self.mutant, now, to, message, out)
                    }
                    Effect::Reply { id, response } => {
                        let response = self.second_answer(id, response);
                        send_reply(self.mutant, id, response, out);
                    }
                    Effect::Report(event) => out.report(event),
                    Effect::Halt(reason) => out.halt(reason),
                }
            }
            inner.clear();
            self.inner = inner;
            let Some(op) = done else { return };
            self.node.step(now, Input::DiskDone { op, result: Ok(()) }, &mut self.inner);
        }
    }
}

impl Node for MutantNode {
    type Config = (Config, Mutant);
    type Message = Message;
    type Request = Request;
    type Response = Response;
    type Event = Event;

    fn boot(
        (config, mutant): &(Config, Mutant),
        boot: Boot<'_>,
        out: &mut Outbox<Self>,
    ) -> Result<Self, BootError> {
        check_boot(*mutant, &boot)?;
        let now = boot.now;
        let mut inner = Outbox::default();
        let disk = BootDisk { mutant: *mutant, disk: boot.disk };
        let node = CommitNode::boot(config, Boot { disk: &disk, ..boot }, &mut inner)?;
        let mut mutant_node =
            MutantNode { mutant: *mutant, node, last_committed: None, answered: Vec::new(), inner };
        mutant_node.forward_effects(now, out);
        Ok(mutant_node)
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        let Some(input) = self.filter_input(now, input, out) else { return };
        self.step_node(now, input, out);
    }

    fn deadline(&self) -> Option<Time> {
        self.node.deadline()
    }

    fn write_state(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        self.node.write_state(f)
    }
}

impl MutantNode {
    /// Lets the node handle an input, and forwards its effects.
    fn step_node(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        let takes_for_deadline =
            self.mutant == Mutant::TakesWakesForDeadlines && matches!(input, Input::Wake);
        // Later than every timer that is set.
        let is_early = self.node.deadline().is_some_and(|deadline| deadline > now);
        let now = if takes_for_deadline && is_early { now + VOTE_TIMEOUT } else { now };
        let input = match input {
            Input::Message { from, message } => {
                let Message { tx, request, .. } = message;
                match (&message.body, self.mutant) {
                    (Body::Commit { .. }, Mutant::EarlyAck) => {
                        let body = Body::Ack { proof: RecordIsDurable::forged() };
                        out.send(from, Message { tx, request, body });
                    }
                    (Body::Remember(_), Mutant::EarlyRemembered) if self.node.is_serving() => {
                        let body = Body::Remembered { proof: RecordIsDurable::forged() };
                        out.send(from, Message { tx, request, body });
                    }
                    (Body::Vote(_), Mutant::EarlyAbort) if from.0 == 1 => {
                        let body = Body::Abort { end_mark: empty_end_mark() };
                        out.send(from, Message { tx, request, body });
                    }
                    (Body::Inquire, Mutant::Panics) => panic!("mutant: panic on Inquire"),
                    _ => {}
                }
                Input::Message { from, message }
            }
            Input::Request { id, request } => Input::Request { id, request },
            Input::DiskDone { op, result } => Input::DiskDone { op, result },
            Input::Connected { peer } => Input::Connected { peer },
            Input::Disconnected { peer } => Input::Disconnected { peer },
            Input::Wake => Input::Wake,
        };
        self.node.step(now, input, &mut self.inner);
        self.forward_effects(now, out);
    }
}

/// An end mark that ends nothing.
fn empty_end_mark() -> EndMark {
    EndMark::new(Position::default(), std::iter::empty(), None)
}

/// Later than L1 allows after any fault phase, earlier than the recovery timeout.
const DELAY_UNTIL: Time = Time(2_300_000);

/// The configuration of a mutant.
fn mutant_config(mutant: Mutant, config: Config) -> Config {
    if mutant == Mutant::ShortVoteTimeout {
        Config { vote_timeout: Micros(2_000), ..config }
    } else if mutant == Mutant::NeverCompacts {
        Config { compact_at_bytes: 1 << 20, ..config }
    } else if mutant == Mutant::CompactsEarly {
        Config { compact_at_bytes: config.compact_at_bytes / 2, ..config }
    } else if mutant == Mutant::AssumesPeersLost {
        Config { lost: config.nodes.clone(), ..config }
    } else {
        config
    }
}

/// The disk that the node reads at boot.
struct BootDisk<'a> {
    mutant: Mutant,
    disk: &'a dyn ReadDisk,
}

impl ReadDisk for BootDisk<'_> {
    fn files(&self) -> Vec<FileId> {
        self.disk.files()
    }

    fn read(&self, file: FileId) -> Result<Option<&[u8]>, DiskError> {
        let hidden = self.mutant == Mutant::IgnoresLogAtBoot && matches!(file, FileId::Wal(_));
        let read = self.disk.read(file);
        if read.is_err() && self.mutant == Mutant::ReadsUnreadableAsEmpty {
            return Ok(Some(&[]));
        }
        read.map(|bytes| bytes.map(|bytes| if hidden { &[] } else { bytes }))
    }
}

/// Whether the mutant boots.
fn check_boot(mutant: Mutant, boot: &Boot<'_>) -> Result<(), BootError> {
    match boot.disk.files().first() {
        Some(file) if mutant == Mutant::RefusesIntactDisk => {
            Err(BootError::Damaged { file: *file, at: 0, reason: "it looks strange".to_owned() })
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether this operation is dropped.
fn drops_disk_op(mutant: Mutant, op: &DiskOp) -> bool {
    match op {
        DiskOp::Remove { file: FileId::Scratch } => mutant == Mutant::KeepsScratchFile,
        DiskOp::Append { about, .. } => {
            mutant == Mutant::OmitsAbortedRecord && about.kind == "Aborted"
        }
        DiskOp::Truncate { .. } | DiskOp::Rename { .. } | DiskOp::Remove { .. } => false,
        DiskOp::Sync { .. } | DiskOp::SyncDir { .. } => false,
    }
}

/// How often a message is sent.
fn copies(mutant: Mutant, body: &Body) -> usize {
    match (mutant, body) {
        (Mutant::RepeatsCommit, Body::Commit { .. }) | (Mutant::RepeatsInquire, Body::Inquire) => 3,
        (Mutant::RepeatsPrepare, Body::Prepare { .. }) => 5,
        (Mutant::AcksTwice, Body::Ack { .. }) => 2,
        _ => 1,
    }
}

/// Sends a message, perhaps changed.
fn send_message(
    mutant: Mutant,
    now: Time,
    to: NodeId,
    message: Message,
    out: &mut Outbox<MutantNode>,
) {
    let Message { tx, request, body } = message;
    let body = match (mutant, body) {
        (Mutant::NeverAcks, Body::Ack { .. }) => return,
        (Mutant::DelaysAcks, Body::Ack { .. }) | (Mutant::DelaysCommits, Body::Commit { .. })
            if now < DELAY_UNTIL =>
        {
            return;
        }
        (
            Mutant::NeverAnswersInquiries,
            Body::InquiryReply(InquiryReply::Aborted(_) | InquiryReply::Committed(_)),
        ) => return,
        (Mutant::SendsWrongReads, Body::Vote(Vote::Yes { reads, proof })) => {
            let others: Vec<_> = reads.iter().map(|read| Some(read.unwrap_or(0) + 1)).collect();
            Body::Vote(Vote::Yes { reads: Reads::from(&others[..]), proof })
        }
        (_, body) => body,
    };
    out.send(to, Message { tx, request, body });
}

/// Sends a reply, perhaps changed.
fn send_reply(mutant: Mutant, id: RequestId, response: Response, out: &mut Outbox<MutantNode>) {
    if mutant == Mutant::NeverAnswersClients && id.serial < 1_000 {
        return;
    }
    let denied = mutant == Mutant::ReportsCommitAsAbort
        && matches!(response.outcome, Outcome::Committed { .. });
    let denial = Response {
        outcome: Outcome::Aborted { reason: AbortReason::Restarted },
        ..response.clone()
    };
    let response = match (mutant, response) {
        _ if denied => denial,
        (Mutant::AnswersAsNextIncarnation, response) => {
            let incarnation = response.position.incarnation.next(1);
            Response { position: Position { incarnation, ..response.position }, ..response }
        }
        (
            Mutant::BlamesAnotherNode,
            Response {
                position,
                began_at,
                outcome: Outcome::Aborted { reason: AbortReason::Refused { refusal, by: _ } },
            },
        ) => {
            // No cluster of a hunt has that many nodes.
            let reason = AbortReason::Refused { by: NodeId(999), refusal };
            Response { position, began_at, outcome: Outcome::Aborted { reason } }
        }
        (_, response) => response,
    };
    out.reply(id, response);
}

/// The same part with the age that a transaction would have if only request ids counted.
fn with_age_of_request(part: &Part) -> Part {
    let age = part.age();
    let without_time = Age { at: 0, ..age };
    // The age is at the front of the encoding, and nothing else makes a part of one node.
    let rest = &codec::encode(part)[codec::encode(&age).len()..];
    let bytes = [&codec::encode(&without_time)[..], rest].concat();
    codec::decode(&bytes).expect("only the age differs")
}

impl MutantNode {
    /// The response, perhaps changed if the request was answered before.
    fn second_answer(&mut self, id: RequestId, response: Response) -> Response {
        let outcome = match (self.mutant, &response.outcome) {
            (Mutant::RepeatsAnotherReason, Outcome::Aborted { .. }) => {
                let reason = AbortReason::TimedOut { missing: NodeId(999) };
                Outcome::Aborted { reason }
            }
            (Mutant::ForgetsAnswers, Outcome::Committed { .. }) => Outcome::Unknown,
            _ => return response,
        };
        if self.answered.contains(&id) {
            return Response { outcome, ..response };
        }
        self.answered.push(id);
        response
    }

    /// Handles an input before the node does. Returns the input for the node, if any.
    fn filter_input(
        &mut self,
        now: Time,
        input: Input<MutantNode>,
        out: &mut Outbox<Self>,
    ) -> Option<Input<MutantNode>> {
        match input {
            Input::Wake if self.mutant == Mutant::IgnoresWakes => None,
            Input::DiskDone { op, .. } if self.mutant == Mutant::IgnoresBarrierFailures => {
                Some(Input::DiskDone { op, result: Ok(()) })
            }
            Input::Request { id, .. }
                if self.mutant == Mutant::IgnoresProbe && id.serial >= 1_000 =>
            {
                None
            }
            Input::Request {
                id,
                request: Request::Transact { addressed, began_at, seen, ops },
            } if self.mutant == Mutant::DropsSecondOp && ops.len() == 2 => {
                let ops = Arc::from(&ops[..1]);
                Some(Input::Request {
                    id,
                    request: Request::Transact { addressed, began_at, seen, ops },
                })
            }
            Input::Message { from, message } => {
                self.misbehave_on_message(now, from, &message, out);
                let Message { tx, request, body } = message;
                let body = match (self.mutant, body) {
                    (Mutant::TreatsCommitAsAbort, Body::Commit { end_mark, .. }) => {
                        Body::Abort { end_mark }
                    }
                    (Mutant::ComparesRequestIds, Body::Prepare { part, end_mark }) => {
                        Body::Prepare { part: with_age_of_request(&part), end_mark }
                    }
                    (_, body) => body,
                };
                let message = Message { tx, request, body };
                Some(Input::Message { from, message })
            }
            input @ (Input::Request { .. }
            | Input::Connected { .. }
            | Input::Disconnected { .. }
            | Input::DiskDone { .. }
            | Input::Wake) => Some(input),
        }
    }

    fn misbehave_on_message(
        &mut self,
        now: Time,
        from: NodeId,
        message: &Message,
        out: &mut Outbox<Self>,
    ) {
        let mutant = self.mutant;
        let Message { tx, request, .. } = *message;
        let proof = RecordIsDurable::forged();
        let yes = Body::Vote(Vote::Yes { reads: Reads::default(), proof });
        match &message.body {
            Body::Prepare { .. } if mutant == Mutant::EarlyYes => {
                out.send(from, Message { tx, request, body: yes })
            }
            Body::Prepare { end_mark, .. } if mutant == Mutant::ParticipantSendsAbort => {
                let body = Body::Abort { end_mark: end_mark.clone() };
                out.send(from, Message { tx, request, body });
            }
            Body::Prepare { .. } if mutant == Mutant::ConflictWithUnknownTx => {
                let vote =
                    Vote::No(Refusal::Conflict { holder: TxId { serial: tx.serial + 1, ..tx } });
                out.send(from, Message { tx, request, body: Body::Vote(vote) });
            }
            Body::Prepare { part, .. } if mutant == Mutant::RefusesUnbrokenBound => {
                let vote = Vote::No(Refusal::Bound { key: part.ops()[0].key });
                out.send(from, Message { tx, request, body: Body::Vote(vote) });
            }
            Body::Prepare { .. } if mutant == Mutant::ConflictWithDecidedTx => {
                if let Some(holder) = self.last_committed {
                    let vote = Vote::No(Refusal::Conflict { holder });
                    out.send(from, Message { tx, request, body: Body::Vote(vote) });
                }
            }
            Body::Commit { .. } => {
                self.last_committed = Some(tx);
                if mutant == Mutant::RaisesFalseAlarm {
                    out.report(Event::Damage { tx, request });
                }
            }
            Body::Vote(_) if mutant == Mutant::EarlyCommit => {
                let body = Body::Commit { end_mark: empty_end_mark(), proof };
                out.send(from, Message { tx, request, body });
            }
            Body::Vote(Vote::Yes { .. }) if mutant == Mutant::CountsOneVoteForAll => {
                self.deliver_from_all(now, tx, message, out);
            }
            Body::Ack { .. } if mutant == Mutant::CountsOneAckForAll => {
                self.deliver_from_all(now, tx, message, out)
            }
            Body::Inquire if mutant == Mutant::AnswersUnloggedAbort && tx.coordinator != from => {
                let body = Body::InquiryReply(InquiryReply::Aborted(proof));
                out.send(from, Message { tx, request, body });
            }
            Body::Abort { .. } if mutant == Mutant::YesAfterAbort => {
                let message = message.clone();
                self.step_node(now, Input::Message { from, message }, out);
                out.send(from, Message { tx, request, body: yes });
            }
            Body::Prepare { .. } | Body::Vote(_) | Body::Abort { .. } => {}
            Body::Ack { .. } | Body::Inquire | Body::InquiryReply(_) => {}
            Body::Hello(_) | Body::Welcome | Body::Refuse { .. } => {}
            Body::Remember(_) | Body::Remembered { .. } => {}
        }
    }

    /// Delivers one participant's message as if all had sent it.
    fn deliver_from_all(&mut self, now: Time, tx: TxId, message: &Message, out: &mut Outbox<Self>) {
        for from in (0..8).map(NodeId).filter(|from| *from != tx.coordinator) {
            self.step_node(now, Input::Message { from, message: message.clone() }, out);
        }
    }
}
