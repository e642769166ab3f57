//! Links that are sessions: each rule of `stormglass_node::contract`, section "Sessions", under
//! every fault.

mod real_nodes;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use stormglass_node::{
    Boot, BootError, Input, Label, Links, Micros, Node, NodeId, Outbox, Subject, Time,
};
use stormglass_sim::hunt::{HuntOptions, HuntReport, Progress, hunt};
use stormglass_sim::profile::Profile;
use stormglass_sim::property::{
    Fact, LossReason, Observation, ProcessFact, Property, PropertyResult, RunFact, Sometimes,
};
use stormglass_sim::protocol::Protocol;
use stormglass_sim::run_end::{RecoveryEnd, RunEnd};
use stormglass_sim::simulation::Simulation;

/// Nodes that send each other numbers: 1, 2, 3, ... in each session.
#[derive(Clone, Debug)]
struct Counting<const SESSIONS: bool> {
    id: NodeId,
    nodes: u16,
    entropy: u64,
    sessions: u32,
    /// For each connected peer the number of the session and the last number sent.
    sent: BTreeMap<NodeId, (u32, u32)>,
    next: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Numbered {
    /// The incarnation of the sender and its session: what was sent in another session differs.
    session: (u64, u32),
    number: u32,
}

impl Label for Numbered {
    fn kind(&self) -> &'static str {
        "Numbered"
    }
    fn subject(&self) -> Option<Subject> {
        Some(Subject::Number(self.number.into()))
    }
}

impl<const SESSIONS: bool> Counting<SESSIONS> {
    fn begin(&mut self, peer: NodeId) {
        self.sessions += 1;
        self.sent.insert(peer, (self.sessions, 0));
    }
}

impl<const SESSIONS: bool> Node for Counting<SESSIONS> {
    const LINKS: Links = if SESSIONS { Links::Sessions } else { Links::Datagrams };

    type Config = u16;
    type Message = Numbered;
    type Request = ();
    type Response = ();
    type Event = ();

    fn boot(nodes: &u16, boot: Boot<'_>, out: &mut Outbox<Self>) -> Result<Self, BootError> {
        let mut node = Counting {
            id: boot.id,
            nodes: *nodes,
            entropy: boot.entropy,
            sessions: 0,
            sent: BTreeMap::new(),
            next: boot.now,
        };
        for peer in (0..*nodes).map(NodeId).filter(|peer| *peer != boot.id) {
            if SESSIONS {
                // Lost: a process begins without a session.
                out.send(peer, Numbered { session: (boot.entropy, 0), number: 1 });
            } else {
                node.begin(peer);
            }
        }
        Ok(node)
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Connected { peer } => self.begin(peer),
            Input::Disconnected { peer } => {
                self.sent.remove(&peer);
            }
            Input::Request { id, .. } => out.reply(id, ()),
            Input::Wake if now >= self.next => {
                self.next = now + Micros::from_millis(2);
                for (peer, (session, number)) in &mut self.sent {
                    *number += 1;
                    let session = (self.entropy, *session);
                    out.send(*peer, Numbered { session, number: *number });
                }
            }
            Input::Wake | Input::Message { .. } | Input::DiskDone { .. } => {}
        }
        debug_assert!(self.sent.keys().all(|peer| *peer != self.id && peer.0 < self.nodes));
    }

    fn deadline(&self) -> Option<Time> {
        Some(self.next)
    }
}

/// What one process has received in its session with a peer.
#[derive(Clone, Debug, Default)]
struct Received {
    is_connected: bool,
    session: Option<(u64, u32)>,
    last: u32,
}

/// The rules of sessions, but for the last one.
#[derive(Clone, Debug, Default)]
struct InOrder {
    /// By receiver, its incarnation, and sender.
    received: BTreeMap<(NodeId, u32, NodeId), Received>,
    /// The sessions of senders of which a receiver has seen messages, in sessions that have ended.
    ended: BTreeSet<(NodeId, u32, (u64, u32))>,
    messages: u64,
    ends: u64,
    /// Every reason for which a message was lost.
    lost: BTreeMap<String, u64>,
    /// The nodes that are up, for the last rule.
    up: BTreeMap<NodeId, u32>,
}

impl<const SESSIONS: bool> Property<Counting<SESSIONS>> for InOrder {
    const NAME: &'static str = "InOrder";

    fn on(&mut self, observation: &Observation<'_, Counting<SESSIONS>>) -> PropertyResult {
        let (node, incarnation) = (observation.node, observation.incarnation);
        match observation.fact {
            Fact::Input(Input::Connected { peer }) => {
                let received = self.received.entry((node, incarnation, *peer)).or_default();
                if received.is_connected {
                    return Err(format!("{node} is connected with {peer} twice"));
                }
                *received = Received { is_connected: true, ..Received::default() };
            }
            Fact::Input(Input::Disconnected { peer }) => {
                let received = self.received.entry((node, incarnation, *peer)).or_default();
                if !received.is_connected {
                    return Err(format!("{node} is disconnected from {peer} without a session"));
                }
                received.is_connected = false;
                self.ends += 1;
                self.ended.extend(received.session.map(|it| (node, incarnation, it)));
            }
            Fact::Input(Input::Message { from, message }) => {
                self.messages += 1;
                let received = self.received.entry((node, incarnation, *from)).or_default();
                if SESSIONS && !received.is_connected {
                    return Err(format!("{node} receives from {from} without a session"));
                }
                if *received.session.get_or_insert(message.session) != message.session {
                    return Err(format!("{node} receives two sessions of {from} in one"));
                }
                if self.ended.contains(&(node, incarnation, message.session)) {
                    return Err(format!("{node} receives of a session of {from} that has ended"));
                }
                received.last += 1;
                if message.number != received.last {
                    return Err(format!(
                        "{node} receives {} of {from} instead of {}",
                        message.number, received.last
                    ));
                }
            }
            Fact::Lost { reason, .. } => *self.lost.entry(reason.to_string()).or_default() += 1,
            Fact::Process(ProcessFact::Boot) => {
                self.up.insert(node, incarnation);
            }
            Fact::Process(ProcessFact::Resumed) => {
                self.up.insert(node, incarnation);
            }
            Fact::Process(
                ProcessFact::Refused(_)
                | ProcessFact::Killed(_)
                | ProcessFact::PowerCut(_)
                | ProcessFact::Halted(_),
            ) => {
                self.up.remove(&node);
            }
            Fact::Input(_)
            | Fact::Effect(..)
            | Fact::Process(_)
            | Fact::Fault(_)
            | Fact::Client(_)
            | Fact::Run(_) => {}
        }
        Ok(())
    }

    /// All that are up have a session with each other.
    fn has_settled(&self) -> bool {
        self.up.iter().all(|(node, incarnation)| {
            self.up.keys().filter(|peer| *peer != node).all(|peer| {
                let received = self.received.get(&(*node, *incarnation, *peer));
                received.is_some_and(|received| received.is_connected && received.last > 0)
            })
        })
    }

    fn sometimes(&self, tally: &mut Sometimes) {
        tally.add("message", self.messages);
        tally.add("session ended", self.ends);
        let reasons = [
            LossReason::Partition,
            LossReason::QueueFull,
            LossReason::Corrupted,
            LossReason::NoSession,
        ];
        for (reason, row) in reasons.into_iter().zip([
            "lost: partition",
            "lost: queue full",
            "lost: damaged",
            "lost: no session",
        ]) {
            tally.add(row, self.lost.get(&reason.to_string()).copied().unwrap_or(0));
        }
    }
}

/// The recovery never times out: new sessions begin.
#[derive(Clone, Debug, Default)]
struct SessionsBegin;

impl<const SESSIONS: bool> Property<Counting<SESSIONS>> for SessionsBegin {
    const NAME: &'static str = "SessionsBegin";
    const LIVENESS: bool = true;

    fn on(&mut self, observation: &Observation<'_, Counting<SESSIONS>>) -> PropertyResult {
        let Fact::Run(RunFact::Recovered { how: RecoveryEnd::TimedOut, .. }) = observation.fact
        else {
            return Ok(());
        };
        Err("nodes that are up have no session in the end".to_string())
    }
}

fn hunt_with<const SESSIONS: bool>(profile: Profile, seeds: u64) -> HuntReport {
    let simulation = Simulation::<Counting<SESSIONS>>::with_config(|plan| plan.nodes)
        .profile(profile)
        .requests(20, |rng| (rng.node(), ()))
        .fault_phase(Micros::from_millis(500))
        .recovery_timeout(Micros::from_secs(1))
        .ends(RunEnd::Settled)
        .property(InOrder::default())
        .property(SessionsBegin);
    let options = HuntOptions::new(simulation.setup(), 0..=seeds - 1);
    hunt(&simulation, &options, &Progress::default())
}

#[test]
fn sessions_keep_their_rules_under_every_fault() {
    let mut all = Sometimes::default();
    for profile in Profile::ALL {
        let report = hunt_with::<true>(profile, 150);
        assert_eq!(report.failures, [], "{profile}");
        assert!(report.nondeterminism.is_none());
        all.merge(&report.sometimes);
    }
    assert_eq!(all.never().collect::<Vec<_>>(), [""; 0], "{:?}", all.rows());
}

/// Without sessions the same property is violated: it can fail.
#[test]
fn datagrams_break_the_rules_of_sessions() {
    let report = hunt_with::<false>(Profile::Lossy, 5);
    assert_eq!(report.failures.first().expect("a violation").1.property, "InOrder");
}
