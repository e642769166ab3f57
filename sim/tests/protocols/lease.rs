//! Leases: a node holds one while a majority has promised it to no other. Two faults make two
//! holders: a clock that jumps ends a promise too early, and a node that restarts has forgotten it.

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};
use stormglass_node::{
    Boot, BootError, Effect, Input, Label, Micros, Node, NodeId, Outbox, RequestId, Subject, Time,
};
use stormglass_sim::property::{Fact, Observation, Property, PropertyChecker, PropertyResult};
use stormglass_sim::run_end::RunEnd;
use stormglass_sim::simulation::Simulation;

/// How long a promise lasts, by the clock of the node that has made it.
const PROMISED: Micros = Micros::from_millis(200);
/// How long a lease lasts: less, as clocks drift by some percent at most.
const LEASE: Micros = Micros::from_millis(150);
const BEAT_EVERY: Micros = Micros::from_millis(10);

/// A node of the lease protocol.
#[derive(Debug)]
pub(crate) struct LeaseNode {
    id: NodeId,
    nodes: u16,
    next_beat: Time,
    /// To whom this node has promised not to promise another, and until when.
    promise: Option<(NodeId, Time)>,
    /// The request for which this node collects promises, and since when.
    wanted: Option<(RequestId, Time)>,
    promises: Vec<NodeId>,
}

/// No message has a subject: the protocol knows no ids but those of nodes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    Beat,
    BeatAck,
    AskPromise,
    Promise,
    Refuse,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Acquire,
    Ping,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Response {
    Granted,
    Busy,
    Pong,
}

macro_rules! label {
    ($type:ty) => {
        impl Label for $type {
            fn kind(&self) -> &'static str {
                self.name()
            }
            fn subject(&self) -> Option<Subject> {
                None
            }
        }
    };
}

label!(Message);
label!(Request);
label!(Response);

impl Message {
    fn name(self) -> &'static str {
        match self {
            Message::Beat => "Beat",
            Message::BeatAck => "BeatAck",
            Message::AskPromise => "AskPromise",
            Message::Promise => "Promise",
            Message::Refuse => "Refuse",
        }
    }
}

impl Request {
    fn name(self) -> &'static str {
        match self {
            Request::Acquire => "Acquire",
            Request::Ping => "Ping",
        }
    }
}

impl Response {
    fn name(self) -> &'static str {
        match self {
            Response::Granted => "Granted",
            Response::Busy => "Busy",
            Response::Pong => "Pong",
        }
    }
}

impl LeaseNode {
    fn promise(&mut self, to: NodeId, now: Time) -> bool {
        let is_free = self.promise.is_none_or(|(holder, until)| holder == to || until <= now);
        if is_free {
            self.promise = Some((to, now + PROMISED));
        }
        is_free
    }

    fn others(&self) -> impl Iterator<Item = NodeId> + use<> {
        let id = self.id;
        (0..self.nodes).map(NodeId).filter(move |other| *other != id)
    }

    fn on_request(&mut self, now: Time, id: RequestId, request: Request, out: &mut Outbox<Self>) {
        match request {
            Request::Ping => out.reply(id, Response::Pong),
            Request::Acquire if self.promise(self.id, now) => {
                self.wanted = Some((id, now));
                self.promises = vec![self.id];
                self.others().for_each(|other| out.send(other, Message::AskPromise));
            }
            Request::Acquire => out.reply(id, Response::Busy),
        }
    }

    fn on_message(&mut self, now: Time, from: NodeId, message: Message, out: &mut Outbox<Self>) {
        match message {
            Message::Beat => out.send(from, Message::BeatAck),
            Message::BeatAck | Message::Refuse => {}
            Message::AskPromise => {
                let answer =
                    if self.promise(from, now) { Message::Promise } else { Message::Refuse };
                out.send(from, answer);
            }
            Message::Promise => {
                let Some((id, since)) = self.wanted else { return };
                self.promises.push(from);
                if self.promises.len() * 2 > usize::from(self.nodes) && now < since + LEASE {
                    out.reply(id, Response::Granted);
                    self.wanted = None;
                }
            }
        }
    }
}

impl Node for LeaseNode {
    type Config = u16;
    type Message = Message;
    type Request = Request;
    type Response = Response;
    type Event = ();

    fn boot(nodes: &u16, boot: Boot<'_>, _: &mut Outbox<Self>) -> Result<Self, BootError> {
        Ok(LeaseNode {
            id: boot.id,
            nodes: *nodes,
            next_beat: boot.now + BEAT_EVERY,
            promise: None,
            wanted: None,
            promises: Vec::new(),
        })
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Request { id, request } => self.on_request(now, id, request, out),
            Input::Message { from, message } => self.on_message(now, from, message, out),
            Input::Wake if now >= self.next_beat => {
                self.next_beat = now + BEAT_EVERY;
                self.others().for_each(|other| out.send(other, Message::Beat));
            }
            Input::Connected { .. }
            | Input::Disconnected { .. }
            | Input::DiskDone { .. }
            | Input::Wake => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        Some(self.next_beat)
    }

    fn write_state(&self, f: &mut dyn Write) -> fmt::Result {
        write!(f, "{self:#?}")
    }
}

/// No two nodes hold a lease at one time.
#[derive(Clone, Default)]
pub(crate) struct OneHolder(Option<(NodeId, Micros)>);

impl Property<LeaseNode> for OneHolder {
    const NAME: &'static str = "OneHolder";

    fn on(&mut self, observation: &Observation<'_, LeaseNode>) -> PropertyResult {
        let Fact::Effect(Effect::Reply { response: Response::Granted, .. }, _) = observation.fact
        else {
            return Ok(());
        };
        let (node, now) = (observation.node, observation.at);
        if let Some((holder, until)) = self.0
            && holder != node
            && now < until
        {
            // It names no request.
            return Err(format!("{holder} and {node} hold a lease"));
        }
        self.0 = Some((node, now + LEASE / 2));
        Ok(())
    }
}

pub(crate) fn simulation() -> Simulation<LeaseNode, ((), PropertyChecker<OneHolder>)> {
    Simulation::<LeaseNode>::with_config(|plan| plan.nodes)
        .requests(20, |rng| {
            (rng.node(), if rng.between(0, 1) == 0 { Request::Acquire } else { Request::Ping })
        })
        .ends(RunEnd::After(Micros::from_millis(100)))
        .property(OneHolder::default())
}
