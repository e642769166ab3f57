//! Changes to a commit node that preserve what it does: a driver around it that reports more, wakes it more often, sends
//! in another order, writes longer records. They measure how long a schedule keeps its meaning, and a seed does not.

use std::fmt;
use std::sync::Arc;

use stormglass::commit::{Event, Key, Message, Op, Request, Response};
use stormglass::{Boot, BootError, DiskOp, Effect, FileId, Input, Micros, Node, NodeId, OpId, Outbox, Time};

use crate::oracle::{Broken, Judge};
use crate::plan::Plan;
use crate::play::stage;
use crate::profile::{Draw, Setup};
use crate::protocol::{Scene, drawn_in, world_in};
use crate::schedule::{Cursor, Problem, Schedule};
use crate::workload::{Wish, Workload};

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "`Display` says of each what it is")]
pub enum Edit {
    None,
    MoreReports,
    NoReports,
    MoreWakes,
    EarlyWakes,
    LateWakes,
    OtherEntropy,
    LongerRecords,
    OtherSendOrder,
    RepliesFirst,
    AcksTwice,
    InquiriesTwice,
    OtherBarrierNumbers,
    NeedlessRemovals,
}

impl Edit {
    /// Every change, but for none at all.
    pub const ALL: [Edit; 13] = [
        Edit::MoreReports,
        Edit::NoReports,
        Edit::MoreWakes,
        Edit::EarlyWakes,
        Edit::LateWakes,
        Edit::OtherEntropy,
        Edit::LongerRecords,
        Edit::OtherSendOrder,
        Edit::RepliesFirst,
        Edit::AcksTwice,
        Edit::InquiriesTwice,
        Edit::OtherBarrierNumbers,
        Edit::NeedlessRemovals,
    ];
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Edit::None => "no change",
            Edit::MoreReports => "an additional report in each step",
            Edit::NoReports => "no reports at all",
            Edit::MoreWakes => "an additional timer that does nothing",
            Edit::EarlyWakes => "wakes before the deadline",
            Edit::LateWakes => "wakes a millisecond after the deadline",
            Edit::OtherEntropy => "another random draw at boot",
            Edit::LongerRecords => "longer keys: records of another size",
            Edit::OtherSendOrder => "sends to different nodes in another order",
            Edit::RepliesFirst => "answers before messages",
            Edit::AcksTwice => "each Ack sent twice",
            Edit::InquiriesTwice => "each Inquire sent twice",
            Edit::OtherBarrierNumbers => "barriers numbered otherwise",
            Edit::NeedlessRemovals => "an additional removal of a file that is not there",
        })
    }
}

/// How often the additional timer rings.
const TICK: Micros = Micros::millis(7);

/// A node that is asked and answers like a commit node.
pub trait CommitLike: Node<Message = Message, Request = Request, Response = Response, Event = Event> {}

impl<N: Node<Message = Message, Request = Request, Response = Response, Event = Event>> CommitLike for N {}

/// A node behind one change.
#[derive(Clone, Debug)]
pub struct Edited<N: CommitLike> {
    node: N,
    edit: Edit,
    /// Used again, and empty between steps.
    inner: Outbox<N>,
    tick: Time,
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
        let (now, entropy) = (boot.now, boot.entropy);
        let entropy = if *edit == Edit::OtherEntropy { entropy ^ 0x5bd1_e995 } else { entropy };
        let mut inner = Outbox::default();
        let node = N::boot(config, Boot { entropy, ..boot }, &mut inner)?;
        let mut edited = Edited { node, edit: *edit, inner, tick: now + TICK };
        edited.pass_on(out);
        Ok(edited)
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        let input = match input {
            Input::Message { from, message } => Input::Message { from, message },
            Input::Request { id, request } => Input::Request { id, request: self.longer(request) },
            Input::DiskDone { op, result } => Input::DiskDone { op: self.number_back(op), result },
            Input::Wake => {
                let ticked = self.tick <= now;
                if ticked {
                    self.tick = now + TICK;
                }
                let due = self.node.deadline().is_some_and(|deadline| deadline <= now);
                if ticked && !due && self.edit == Edit::MoreWakes {
                    return;
                }
                Input::Wake
            }
        };
        self.node.step(now, input, &mut self.inner);
        self.pass_on(out);
    }

    fn deadline(&self) -> Option<Time> {
        let deadline = self.node.deadline()?;
        let ticks = matches!(self.edit, Edit::MoreWakes | Edit::EarlyWakes);
        let late = Micros::millis(u64::from(self.edit == Edit::LateWakes));
        Some(if ticks { deadline.min(self.tick) } else { deadline + late })
    }
}

impl<N: CommitLike> Edited<N> {
    fn pass_on(&mut self, out: &mut Outbox<Self>) {
        let mut inner = std::mem::take(&mut self.inner);
        let (effects, bytes) = inner.drain();
        let mut words: Vec<Effect<N>> = Vec::new();
        for effect in effects {
            if let Effect::Send { .. } | Effect::Reply { .. } = effect {
                words.push(effect);
                continue;
            }
            self.say(&mut words, out);
            match effect {
                Effect::Disk(DiskOp::Append { file, bytes: chunk, about }) => {
                    out.append(file, about, chunk.of(bytes));
                }
                Effect::Disk(op) => self.disk(op, out),
                Effect::Report(event) if self.edit != Edit::NoReports => out.report(event),
                Effect::Halt(reason) => out.halt(reason),
                Effect::Report(_) | Effect::Send { .. } | Effect::Reply { .. } => {}
            }
        }
        self.say(&mut words, out);
        if self.edit == Edit::MoreReports {
            out.report(Event::NotReady);
        }
        inner.clear();
        self.inner = inner;
    }

    /// What is sent and answered between two operations on the disk.
    fn say(&self, words: &mut Vec<Effect<N>>, out: &mut Outbox<Self>) {
        // Stable orders: what goes to one node stays in order.
        if self.edit == Edit::OtherSendOrder {
            words.sort_by_key(|word| if let Effect::Send { to, .. } = word { u16::MAX - to.0 } else { 0 });
        }
        if self.edit == Edit::RepliesFirst {
            words.sort_by_key(|word| matches!(word, Effect::Send { .. }));
        }
        for word in words.drain(..) {
            match word {
                Effect::Send { to, message } => {
                    let is_ack = matches!(message, Message::Ack { .. });
                    let is_inquiry = matches!(message, Message::Inquire { .. });
                    if is_ack && self.edit == Edit::AcksTwice
                        || is_inquiry && self.edit == Edit::InquiriesTwice
                    {
                        out.send(to, message.clone());
                    }
                    out.send(to, message);
                }
                Effect::Reply { id, response } => out.reply(id, response),
                Effect::Disk(_) | Effect::Report(_) | Effect::Halt(_) => {}
            }
        }
    }

    fn disk(&self, op: DiskOp, out: &mut Outbox<Self>) {
        let number = |op: OpId| if self.edit == Edit::OtherBarrierNumbers { OpId(op.0 * 2 + 7) } else { op };
        match op {
            DiskOp::Sync { op, file } => out.disk(DiskOp::Sync { op: number(op), file }),
            DiskOp::SyncDir { op } => {
                if self.edit == Edit::NeedlessRemovals {
                    out.disk(DiskOp::Remove { file: FileId::Snapshot(u32::MAX) });
                }
                out.disk(DiskOp::SyncDir { op: number(op) });
            }
            DiskOp::Append { .. }
            | DiskOp::Truncate { .. }
            | DiskOp::Rename { .. }
            | DiskOp::Remove { .. } => out.disk(op),
        }
    }

    fn number_back(&self, op: OpId) -> OpId {
        if self.edit == Edit::OtherBarrierNumbers { OpId((op.0 - 7) / 2) } else { op }
    }

    fn longer(&self, request: Request) -> Request {
        match request {
            Request::Transact { life, age, seen, ops } if self.edit == Edit::LongerRecords => {
                let longer = |op: &Op| Op {
                    key: Key::new(&format!("{}-a-longer-key", op.key)).unwrap_or(op.key),
                    ..*op
                };
                let ops: Arc<[Op]> = ops.iter().map(longer).collect();
                Request::Transact { life, age, seen, ops }
            }
            Request::Transact { .. } | Request::Outcome { .. } => request,
        }
    }
}

/// A scene whose nodes are changed.
#[derive(Clone, Copy, Debug)]
pub struct EditedScene<S> {
    /// The scene as it was.
    pub scene: S,
    /// What is changed.
    pub edit: Edit,
}

impl<S> Scene for EditedScene<S>
where
    S: Scene,
    S::Node: CommitLike,
    S::Workload: Workload<Edited<S::Node>>,
    S::Judge: Judge<Edited<S::Node>>,
{
    type Node = Edited<S::Node>;
    type Order = S::Order;
    type Workload = S::Workload;
    type Judge = S::Judge;

    fn name(&self) -> &str {
        self.scene.name()
    }
    fn kinds(&self) -> &[&'static str] {
        self.scene.kinds()
    }
    fn config(&self, plan: &Plan) -> (<S::Node as Node>::Config, Edit) {
        (self.scene.config(plan), self.edit)
    }
    fn wishes(&self, setup: &Setup, plan: &mut Plan, draw: &mut Draw) -> Vec<Wish<S::Order>> {
        self.scene.wishes(setup, plan, draw)
    }
    fn clients(&self, plan: &Plan, wishes: Vec<Wish<S::Order>>) -> S::Workload {
        self.scene.clients(plan, wishes)
    }
    fn judge(&self, plan: &Plan) -> S::Judge {
        self.scene.judge(plan)
    }
    fn write_order(&self, order: &S::Order, nodes: u16) -> String {
        self.scene.write_order(order, nodes)
    }
    fn read_order(&self, text: &mut Cursor<'_>) -> Result<S::Order, Problem> {
        self.scene.read_order(text)
    }
    fn simpler(&self, order: &S::Order) -> Vec<S::Order> {
        self.scene.simpler(order)
    }
    fn renumbered(&self, order: &S::Order, number: &dyn Fn(NodeId) -> Option<NodeId>) -> Option<S::Order> {
        self.scene.renumbered(order, number)
    }
}

/// For every change: whether a schedule still breaks this claim, and whether the seed that it came from does.
pub fn outlived<S>(scene: S, schedule: &Schedule<S::Order>, seed: u64, claim: &str) -> Vec<(Edit, bool, bool)>
where
    S: Scene + Copy,
    S::Node: CommitLike,
    S::Workload: Workload<Edited<S::Node>>,
    S::Judge: Judge<Edited<S::Node>>,
{
    let breaks = |broken: Option<Broken>| broken.is_some_and(|broken| broken.claim == claim);
    let tried = |edit| {
        let scene = EditedScene { scene, edit };
        let by_schedule = stage(&scene, schedule, ()).run().broken;
        let drawn = drawn_in(&scene, &Setup::default(), seed);
        let by_seed = world_in(&scene, drawn, |chooser| chooser, ()).run().broken;
        (edit, breaks(by_schedule), breaks(by_seed))
    };
    Edit::ALL.into_iter().map(tried).collect()
}
