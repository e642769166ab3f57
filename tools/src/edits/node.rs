//! An edited node: a wrapper that forwards inputs and effects of the inner node, apart from one
//! edit.

use std::fmt;
use std::sync::Arc;

use stormglass::commit::TxId;
use stormglass::commit::{
    Action, Body, Event, Key, Message, Op, Position, Refusal, Request, RequestNumber, Response,
    Vote,
};
use stormglass_commit_sim::checker::CommitLike;
use stormglass_node::{
    Boot, BootError, DiskError, DiskOp, Effect, FileId, Incarnation, Input, Micros, Node, NodeId,
    OpId, Outbox, RequestId, Time,
};

use super::Edit;

/// The period of the additional timer.
// Not a divisor of the node's own intervals, so the ticks fall between its deadlines.
const TICK_INTERVAL: Micros = Micros::from_millis(7);

/// The number of a client that does not exist. The wrapper uses it for its own requests and
/// messages.
const NO_CLIENT: u64 = 0xFFFF_FFFF;

/// A node with one edit.
#[derive(Clone, Debug)]
pub struct Edited<N: CommitLike> {
    node: N,
    edit: Edit,
    id: NodeId,
    /// The outbox of the inner node. Empty between steps; kept for its capacity.
    inner: Outbox<N>,
    /// When the additional timer rings next.
    tick: Time,
    /// Barriers to be repeated before the node learns of their completion, if each is issued twice.
    awaiting_repeat: Vec<(OpId, Option<FileId>)>,
    /// The present incarnation, once the node is ready.
    incarnation: Option<Incarnation>,
    /// How many requests of its own the wrapper has made to consume serials.
    serials_consumed: u32,
}

impl<N: CommitLike> Node for Edited<N> {
    type Config = (N::Config, Edit);
    type Message = Message;
    type Request = Request;
    type Response = Response;
    type Event = Event;

    fn boot(
        (config, edit): &Self::Config,
        boot: Boot<'_>,
        out: &mut Outbox<Self>,
    ) -> Result<Self, BootError> {
        let id = boot.id;
        let now = boot.now;
        let other_entropy = *edit == Edit::OtherEntropy;
        // Any number but 0 changes it.
        // The same in both halves: clients know the first incarnations, whose bits are their
        // difference.
        let entropy =
            if other_entropy { boot.entropy ^ 0x5bd1_e995_5bd1_e995 } else { boot.entropy };
        let mut inner = Outbox::default();
        let node = N::boot(config, Boot { entropy, ..boot }, &mut inner)?;
        let mut edited = Edited {
            node,
            edit: *edit,
            id,
            inner,
            tick: now + TICK_INTERVAL,
            awaiting_repeat: Vec::new(),
            incarnation: None,
            serials_consumed: 0,
        };
        edited.forward_effects(out);
        Ok(edited)
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        let input = match input {
            Input::Message { from, message } => Input::Message { from, message },
            Input::Request { id, request } => {
                self.consume_serial(now);
                Input::Request { id, request: self.with_longer_keys(request) }
            }
            Input::DiskDone { op, result } => {
                if self.repeat_barrier(op, &result, out) {
                    return;
                }
                Input::DiskDone { op: self.original_op(op), result }
            }
            Input::Connected { peer } => Input::Connected { peer },
            Input::Disconnected { peer } => Input::Disconnected { peer },
            Input::Wake => {
                let ticked = self.tick <= now;
                if ticked {
                    self.tick = now + TICK_INTERVAL;
                }
                let due = self.node.deadline().is_some_and(|deadline| deadline <= now);
                // The inner node did not ask for this wake. With `EarlyWakes` it gets it
                // nevertheless.
                if ticked && !due && self.edit == Edit::MoreWakes {
                    return;
                }
                Input::Wake
            }
        };
        self.node.step(now, input, &mut self.inner);
        self.forward_effects(out);
    }

    fn deadline(&self) -> Option<Time> {
        let deadline = self.node.deadline()?;
        let ticks = matches!(self.edit, Edit::MoreWakes | Edit::EarlyWakes);
        let late = Micros::from_millis(u64::from(self.edit == Edit::LateWakes));
        Some(if ticks { deadline.min(self.tick) } else { deadline + late })
    }

    fn write_state(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        self.node.write_state(f)
    }
}

impl<N: CommitLike> Edited<N> {
    fn forward_effects(&mut self, out: &mut Outbox<Self>) {
        let mut inner = std::mem::take(&mut self.inner);
        let (effects, bytes) = inner.drain();
        let mut outgoing: Vec<Effect<N>> = Vec::new();
        for effect in effects {
            if let Effect::Send { .. } | Effect::Reply { .. } = effect {
                outgoing.push(effect);
                continue;
            }
            self.flush_outgoing(&mut outgoing, out);
            match effect {
                Effect::Disk(DiskOp::Append { file, bytes: chunk, about }) => {
                    out.append(file, about, chunk.of(bytes));
                }
                Effect::Disk(op) => self.forward_disk_op(op, out),
                Effect::Report(event) => {
                    if let Event::Ready { incarnation, .. } = event {
                        self.incarnation = Some(incarnation);
                    }
                    if self.edit != Edit::NoReports {
                        out.report(event);
                    }
                }
                Effect::Halt(reason) => out.halt(reason),
                // Collected above, before this match.
                Effect::Send { .. } | Effect::Reply { .. } => {}
            }
        }
        // What follows the last disk operation.
        self.flush_outgoing(&mut outgoing, out);
        // A report that no property uses.
        if self.edit == Edit::MoreReports {
            out.report(Event::NotReady);
        }
        inner.clear();
        self.inner = inner;
    }

    /// Forwards the sends and replies between two disk operations.
    fn flush_outgoing(&self, outgoing: &mut Vec<Effect<N>>, out: &mut Outbox<Self>) {
        // Both sorts are stable: messages to one node stay in order.
        if self.edit == Edit::OtherSendOrder {
            outgoing.sort_by_key(|effect| {
                if let Effect::Send { to, .. } = effect { u16::MAX - to.0 } else { 0 }
            });
        }
        if self.edit == Edit::RepliesFirst {
            outgoing.sort_by_key(|effect| matches!(effect, Effect::Send { .. }));
        }
        for effect in outgoing.drain(..) {
            match effect {
                Effect::Send { to, message } => {
                    // A node that serves nobody sends no message about a transaction.
                    if self.edit == Edit::MoreMessages && !message.is_introduction() {
                        out.send(to, self.ignored_message());
                    }
                    if self.is_sent_twice(&message) {
                        out.send(to, message.clone());
                    }
                    out.send(to, message);
                }
                Effect::Reply { id, response } => {
                    if self.edit == Edit::AnswersTwice {
                        out.reply(id, response.clone());
                    }
                    out.reply(id, response);
                }
                // Never collected.
                Effect::Disk(_) | Effect::Report(_) | Effect::Halt(_) => {}
            }
        }
    }

    fn is_sent_twice(&self, message: &Message) -> bool {
        let is_ack = matches!(message.body, Body::Ack { .. });
        let is_inquiry = matches!(message.body, Body::Inquire);
        is_ack && self.edit == Edit::AcksTwice || is_inquiry && self.edit == Edit::InquiriesTwice
    }

    /// A No vote on a transaction that never began, of an incarnation that never existed, with the
    /// sender as its coordinator. Every receiver drops it.
    fn ignored_message(&self) -> Message {
        let tx = TxId { coordinator: self.id, incarnation: Incarnation::default(), serial: 1 };
        let request = RequestId { client: NO_CLIENT, serial: 1, attempt: 0 };
        Message { tx, request, body: Body::Vote(Vote::No(Refusal::Aborted)) }
    }

    fn forward_disk_op(&mut self, op: DiskOp, out: &mut Outbox<Self>) {
        match op {
            DiskOp::Sync { op, file } => self.barrier(op, Some(file), out),
            DiskOp::SyncDir { op } => {
                if self.edit == Edit::NeedlessRemovals {
                    // No log of a run gets as far as that number.
                    out.disk(DiskOp::Remove { file: FileId::Snapshot(u32::MAX) });
                }
                self.barrier(op, None, out);
            }
            DiskOp::Append { .. }
            | DiskOp::Truncate { .. }
            | DiskOp::Rename { .. }
            | DiskOp::Remove { .. } => out.disk(op),
        }
    }

    /// Issues a barrier of a file, or of the directory if `file` is `None`.
    fn barrier(&mut self, op: OpId, file: Option<FileId>, out: &mut Outbox<Self>) {
        let op = OpId(op.0 * self.stride());
        if self.edit == Edit::MoreBarriers {
            self.awaiting_repeat.push((op, file));
        }
        out.disk(barrier(op, file));
    }

    /// Repeats a barrier that has completed for the first time. Returns whether it did: then the
    /// node does not learn of this completion.
    fn repeat_barrier(
        &mut self,
        op: OpId,
        result: &Result<(), DiskError>,
        out: &mut Outbox<Self>,
    ) -> bool {
        let Some(at) =
            self.awaiting_repeat.iter().position(|(awaiting_repeat, _)| *awaiting_repeat == op)
        else {
            return false;
        };
        // The order of the rest does not matter: barriers are found by number.
        let (_, file) = self.awaiting_repeat.swap_remove(at);
        if result.is_ok() {
            // The odd number after it, which no barrier of the node has, as those are even.
            out.disk(barrier(OpId(op.0 + 1), file));
        }
        result.is_ok()
    }

    fn original_op(&self, op: OpId) -> OpId {
        OpId(op.0 / self.stride())
    }

    /// The distance between the numbers of barriers. It leaves room for those of the repeated ones.
    fn stride(&self) -> u64 {
        if matches!(self.edit, Edit::OtherBarrierNumbers | Edit::MoreBarriers) { 2 } else { 1 }
    }

    /// Makes a request that the node itself refuses: it consumes a serial, so later transactions
    /// have other ones.
    fn consume_serial(&mut self, now: Time) {
        let Some(incarnation) = self.incarnation.filter(|_| self.edit == Edit::OtherSerials) else {
            return;
        };
        self.serials_consumed += 1;
        let id = RequestId { client: NO_CLIENT, serial: self.serials_consumed, attempt: 0 };
        // Refused at a key that has no value: 0 is below the bound.
        let action = Action::Add { by: 0, at_least: 1 };
        let key = Key::new("no-client").expect("short");
        let request = Request::Transact {
            addressed: Position { incarnation, serial: 0 },
            began_at: None,
            // The node remembers one of them.
            seen: RequestNumber { serial: self.serials_consumed, attempt: 0 },
            ops: Arc::from([Op { node: self.id, key, action }]),
        };
        self.node.step(now, Input::Request { id, request }, &mut self.inner);
        // The only effect is an answer to the nonexistent client.
        self.inner.clear();
    }

    fn with_longer_keys(&self, request: Request) -> Request {
        match request {
            Request::Transact { addressed, began_at, seen, ops }
                if self.edit == Edit::LongerRecords =>
            {
                let ops = ops.iter().map(|op| Op {
                    key: Key::new(&format!("{}-a-longer-key", op.key)).unwrap_or(op.key),
                    ..*op
                });
                Request::Transact { addressed, began_at, seen, ops: ops.collect() }
            }
            Request::Transact { .. } | Request::Outcome { .. } => request,
        }
    }
}

fn barrier(op: OpId, file: Option<FileId>) -> DiskOp {
    match file {
        Some(file) => DiskOp::Sync { op, file },
        None => DiskOp::SyncDir { op },
    }
}
