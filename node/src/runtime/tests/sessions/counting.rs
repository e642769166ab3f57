//! A node that sends each peer numbers: 1, 2, 3, ... in each session.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::super::ServedNode;
use crate::contract::{Boot, BootError, Input, Label, Links, Node, Outbox, Subject};
use crate::id::{Incarnation, Micros, NodeId, Time};

#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) incarnation: u32,
    /// How often a burst of messages is sent.
    pub(super) every: Micros,
    pub(super) burst: u32,
    /// The length of every tenth message; the others are short.
    pub(super) bytes: usize,
    pub(super) is_idle: bool,
}

/// A session, as one of its sides names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct SessionName {
    pub(super) node: NodeId,
    pub(super) incarnation: u32,
    /// Counts the sessions of the incarnation with all peers, from 1.
    pub(super) session: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Numbered {
    pub(super) session: SessionName,
    pub(super) number: u32,
    padding: String,
}

impl Numbered {
    pub(super) fn new(session: SessionName, number: u32, bytes: usize) -> Numbered {
        Numbered { session, number, padding: "x".repeat(bytes) }
    }
}

impl Label for Numbered {
    fn kind(&self) -> &'static str {
        "Numbered"
    }
    fn subject(&self) -> Option<Subject> {
        Some(Subject::Number(self.number.into()))
    }
}

#[derive(Debug)]
pub(super) struct CountingNode {
    id: NodeId,
    config: Config,
    sessions: u32,
    /// For each connected peer the session and the last number sent.
    sent: BTreeMap<NodeId, (SessionName, u32)>,
    next: Time,
}

impl CountingNode {
    fn name(&self) -> SessionName {
        SessionName { node: self.id, incarnation: self.config.incarnation, session: self.sessions }
    }
}

impl Node for CountingNode {
    const LINKS: Links = Links::Sessions;

    type Config = Config;
    type Message = Numbered;
    type Request = ();
    type Response = ();
    type Event = ();

    fn boot(config: &Config, boot: Boot<'_>, out: &mut Outbox<Self>) -> Result<Self, BootError> {
        let config = config.clone();
        let sent = BTreeMap::new();
        let node = CountingNode { id: boot.id, config, sessions: 0, sent, next: boot.now };
        // Lost: a process begins without a session.
        for peer in (0..10).map(NodeId).filter(|peer| *peer != boot.id) {
            out.send(peer, Numbered::new(node.name(), 1, 0));
        }
        Ok(node)
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Connected { peer } => {
                self.sessions += 1;
                // The first one is sent at once.
                out.send(peer, Numbered::new(self.name(), 1, 0));
                self.sent.insert(peer, (self.name(), 1));
            }
            Input::Disconnected { peer } => {
                // Lost: the session has ended.
                if let Some((session, _)) = self.sent.remove(&peer) {
                    out.send(peer, Numbered::new(session, u32::MAX, 0));
                }
            }
            Input::Wake if now >= self.next => {
                self.next = now + self.config.every;
                for (peer, (session, number)) in &mut self.sent {
                    for _ in 0..self.config.burst {
                        *number += 1;
                        let bytes = if *number % 10 == 0 { self.config.bytes } else { 10 };
                        out.send(*peer, Numbered::new(*session, *number, bytes));
                    }
                }
            }
            Input::Request { id, .. } => out.reply(id, ()),
            Input::Wake | Input::Message { .. } | Input::DiskDone { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        Some(self.next)
    }
}

impl ServedNode for CountingNode {
    type View = u32;
    fn incarnation(&self) -> Option<Incarnation> {
        Some(Incarnation::numbered(self.config.incarnation))
    }
    fn is_idle(&self) -> bool {
        self.config.is_idle
    }
    /// Not asked.
    fn starts_new_work(&self, _: &Numbered) -> bool {
        true
    }
    fn view(&self, _: Time) -> u32 {
        self.sessions
    }
}
