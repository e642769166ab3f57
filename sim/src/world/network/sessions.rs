//! Sessions between nodes: messages in order and without duplicates, until the session ends.
//!
//! What travels on a link is in one queue: messages, and before and after them the notices that a
//! session has begun or ended. So a node knows of a session before it receives a message of it.
//! A message belongs to the session that its sender knows of; there is a number for each session of
//! a pair.

use std::collections::VecDeque;

use stormglass_node::{Links, Micros, Node, NodeId};

use super::{Delivery, Envelope, Network, Payload, encode_and_decode_payload, observer};
use crate::chooser::Chooser;
use crate::fault::MessageFault;
use crate::property::{Checker, Fact, FaultFact, LossReason};
use crate::tally::Rule;
use crate::world::host::Host;
use crate::world::run::Run;
use crate::world::timeline::Event;

/// The pause before two nodes try to begin another session.
// Of the order of a few messages, so that some of what a node sends meanwhile is lost.
const RECONNECT_AFTER: Micros = Micros::from_millis(5);

/// The sessions of all pairs of nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    nodes: usize,
    /// By pair: `lower * nodes + upper`.
    pairs: Vec<Pair>,
    /// By link, `from * nodes + to`: what is in flight, in the order of sending.
    queues: Vec<VecDeque<InFlight>>,
    /// For each node its incarnation, while its process runs.
    processes: Vec<Option<u32>>,
    /// D17: processes that are set aside, and the peers with which they had a session.
    set_aside: Vec<(NodeId, u32, Vec<NodeId>)>,
}

/// Two nodes, the lower id first.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    /// The number of the last session, from 1.
    number: u32,
    /// Whether that session lasts.
    joined: bool,
    /// For each side the number of the session that it knows of; 0 for none.
    known: [u32; 2],
    /// Whether an attempt to begin a session is queued.
    dialled: bool,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    /// Not before that of the one ahead of it.
    arrives_at: Micros,
    slot: u32,
}

/// The number of a session that is over, for a process that was set aside while it lasted.
const EARLIER: u32 = u32::MAX;

impl Sessions {
    /// No sessions among so many nodes; 0 if the messages are datagrams.
    pub(super) fn reset(&mut self, nodes: usize) {
        let Sessions { nodes: count, pairs, queues, processes, set_aside } = self;
        *count = nodes;
        pairs.clear();
        pairs.resize(nodes * nodes, Pair::default());
        queues.iter_mut().for_each(VecDeque::clear);
        queues.resize(nodes * nodes, VecDeque::new());
        processes.clear();
        processes.resize(nodes, None);
        set_aside.clear();
    }

    fn link(&self, from: u16, to: u16) -> usize {
        usize::from(from) * self.nodes + usize::from(to)
    }

    fn pair(&mut self, a: u16, b: u16) -> &mut Pair {
        let pair = self.link(a.min(b), a.max(b));
        &mut self.pairs[pair]
    }

    /// The number of the session that this node knows of.
    fn known(&mut self, node: u16, peer: u16) -> &mut u32 {
        &mut self.pair(node, peer).known[usize::from(node > peer)]
    }

    /// Whether what the node sends to this peer is a message of the present session.
    fn may_send(&mut self, node: u16, peer: u16) -> bool {
        let known = *self.known(node, peer);
        let pair = self.pair(node, peer);
        pair.joined && known == pair.number
    }

    fn peers(&self, node: u16) -> impl Iterator<Item = u16> + use<> {
        (0..self.nodes as u16).filter(move |peer| *peer != node)
    }
}

/// Sending and receiving.
impl<N: Node> Network<N> {
    /// Sends a message, unless there is no session; a fault of it may end the session.
    pub(super) fn send_in_session<K, C>(
        &mut self,
        run: &mut Run<K, C>,
        hosts: &[Host<N>],
        mut envelope: Envelope<N>,
        delay: Micros,
        fault: Option<MessageFault>,
        is_partitioned: bool,
    ) where
        K: Checker<N>,
        C: Chooser,
    {
        let (from, to) = (envelope.from, envelope.to);
        if !self.sessions.may_send(from, to) {
            self.lose(run, hosts, &envelope, LossReason::NoSession);
            return;
        }
        if is_partitioned {
            self.lose(run, hosts, &envelope, LossReason::Partition);
            self.end_session(run, hosts, from, to);
            return;
        }
        // No copies: a session has none (N3).
        let fault = fault.filter(|fault| !matches!(fault, MessageFault::Duplicate { .. }));
        if let Some(fault) = fault {
            let (from, to) = (self.endpoint_at(from), self.endpoint_at(to));
            let about = envelope.payload.about();
            let further = &envelope.payload.further_subjects();
            observer(hosts, from, to)
                .observe(run, &Fact::Fault(FaultFact::Message { from, to, about, further, fault }));
        }
        match fault {
            None | Some(MessageFault::Duplicate { .. }) => {
                self.put_in_session(run, envelope, delay);
            }
            Some(MessageFault::Delay { by }) => {
                run.monitor.hit(Rule::MessageDelayed);
                self.put_in_session(run, envelope, delay + by);
            }
            Some(MessageFault::Flip { bit }) => {
                envelope.flipped_bit = Some(bit);
                self.put_in_session(run, envelope, delay);
            }
            Some(MessageFault::Lose) => {
                run.monitor.hit(Rule::MessageLost);
                self.end_session(run, hosts, from, to);
            }
            Some(MessageFault::Evict { .. }) => {
                run.monitor.hit(Rule::QueueOverflow);
                self.lose(run, hosts, &envelope, LossReason::QueueFull);
                self.end_session(run, hosts, from, to);
            }
        }
    }

    /// Puts a message or a notice behind what is in flight on its link.
    fn put_in_session<K, C>(&mut self, run: &mut Run<K, C>, envelope: Envelope<N>, delay: Micros) {
        let link = self.sessions.link(envelope.from, envelope.to);
        let earliest = self.sessions.queues[link].back().map_or(Micros::ZERO, |it| it.arrives_at);
        let arrives_at = earliest.max(run.timeline.now() + delay);
        let slot = self.enqueue(envelope);
        self.sessions.queues[link].push_back(InFlight { arrives_at, slot });
        run.timeline.push_at(arrives_at, Event::DeliverNext { link: link as u32 });
    }

    /// The node that receives what is next on a link; `None` if nothing arrives now.
    pub(in crate::world) fn session_receiver<K, C>(
        &mut self,
        run: &mut Run<K, C>,
        link: u32,
    ) -> Option<usize> {
        let now = run.timeline.now();
        // The event of a message that was lost with its session.
        let next = self.sessions.queues[link as usize].front()?;
        if next.arrives_at > now {
            return None;
        }
        let envelope = self.in_flight[next.slot as usize].as_ref()?;
        let state = &self.links[self.link(envelope.from, envelope.to)];
        if state.clogged_until > now {
            run.monitor.hit(if state.clogged_by_swizzle {
                Rule::Swizzled
            } else {
                Rule::LinkClogged
            });
            run.timeline.push_at(state.clogged_until, Event::DeliverNext { link });
            return None;
        }
        Some(envelope.to.into())
    }

    /// Takes the next message or notice off a link; `None` if it is lost, which ends the session,
    /// or if its receiver knows already.
    pub(in crate::world) fn receive_next<K, C>(
        &mut self,
        run: &mut Run<K, C>,
        hosts: &[Host<N>],
        link: u32,
    ) -> Option<Delivery<N>>
    where
        K: Checker<N>,
        C: Chooser,
    {
        let queue = &mut self.sessions.queues[link as usize];
        let next = queue.pop_front()?;
        // What was held by a clog or a pause arrives with it.
        if queue.front().is_some_and(|after| after.arrives_at <= run.timeline.now()) {
            run.timeline.push_after(Micros::ZERO, Event::DeliverNext { link });
        }
        let mut envelope = self.dequeue(next.slot)?;
        let (from, to) = (envelope.from, envelope.to);
        match envelope.payload {
            Payload::Connected(number) => *self.sessions.known(to, from) = number,
            Payload::Disconnected => {
                let known = std::mem::take(self.sessions.known(to, from));
                // It does not know of the session that has ended, or has ended itself.
                if known == 0 {
                    return None;
                }
            }
            Payload::Message(_) | Payload::Request(..) | Payload::Response(..) => {
                if self.links[self.link(from, to)].partitions > 0 {
                    self.lose(run, hosts, &envelope, LossReason::Partition);
                    self.end_session(run, hosts, from, to);
                    return None;
                }
                if run.plan().encode_messages || envelope.flipped_bit.is_some() {
                    let Some(payload) = encode_and_decode_payload(run, &envelope) else {
                        self.lose(run, hosts, &envelope, LossReason::Corrupted);
                        self.end_session(run, hosts, from, to);
                        return None;
                    };
                    envelope.payload = payload;
                }
            }
        }
        self.deliver(run, hosts, envelope)
    }

    /// Gives everything that is in flight in sessions the times of a run without faults.
    pub(in crate::world) fn retime_sessions<K, C: Chooser>(&mut self, run: &mut Run<K, C>) {
        let now = run.timeline.now();
        let timing = run.plan().timing;
        for (link, queue) in self.sessions.queues.iter_mut().enumerate() {
            let mut earliest = now;
            for (nth, in_flight) in (0..).zip(queue.iter_mut()) {
                let latest = now + timing.delay(link as u32, nth, false, false);
                earliest = in_flight.arrives_at.min(latest).max(earliest);
                in_flight.arrives_at = earliest;
                run.timeline.push_at(earliest, Event::DeliverNext { link: link as u32 });
            }
        }
    }
}

/// Beginnings and ends.
impl<N: Node> Network<N> {
    /// The process of a node has perhaps begun, ended, or taken the place of another.
    pub(in crate::world) fn on_process_change<K, C>(
        &mut self,
        run: &mut Run<K, C>,
        hosts: &[Host<N>],
        id: NodeId,
    ) where
        K: Checker<N>,
        C: Chooser,
    {
        if N::LINKS == Links::Datagrams {
            return;
        }
        let host = &hosts[usize::from(id.0)];
        let process = host.is_up().then(|| host.incarnation());
        let before = std::mem::replace(&mut self.sessions.processes[usize::from(id.0)], process);
        if before == process {
            return;
        }
        let mut connected = Vec::new();
        for peer in self.sessions.peers(id.0) {
            if std::mem::take(self.sessions.known(id.0, peer)) > 0 {
                connected.push(NodeId(peer));
            }
            self.end_session(run, hosts, id.0, peer);
        }
        if let Some(incarnation) = before.filter(|_| host.is_second_process()) {
            self.sessions.set_aside.push((id, incarnation, connected));
        }
        let Some(incarnation) = process else { return };
        let resumed =
            self.sessions.set_aside.iter().position(|it| (it.0, it.1) == (id, incarnation));
        if let Some(at) = resumed {
            // Its sessions have ended meanwhile.
            for peer in self.sessions.set_aside.swap_remove(at).2 {
                *self.sessions.known(id.0, peer.0) = EARLIER;
                self.notify(run, hosts, peer.0, id.0, Payload::Disconnected);
            }
        }
        self.dial_all(run);
    }

    /// Ends the session of two nodes, if there is one: what is in flight is lost, and both get a
    /// notice.
    fn end_session<K, C>(&mut self, run: &mut Run<K, C>, hosts: &[Host<N>], a: u16, b: u16)
    where
        K: Checker<N>,
        C: Chooser,
    {
        if !std::mem::take(&mut self.sessions.pair(a, b).joined) {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            let link = self.sessions.link(from, to);
            for in_flight in std::mem::take(&mut self.sessions.queues[link]) {
                let envelope = self.dequeue(in_flight.slot).expect("it is in flight");
                match envelope.payload {
                    Payload::Message(_) => {
                        self.lose(run, hosts, &envelope, LossReason::NoSession);
                    }
                    // The notice below replaces them.
                    Payload::Connected(_) | Payload::Disconnected => {}
                    Payload::Request(..) | Payload::Response(..) => {}
                }
            }
            self.notify(run, hosts, from, to, Payload::Disconnected);
        }
        self.dial(run, a, b);
    }

    /// Sends `to` a notice of its session with `from`.
    fn notify<K, C: Chooser>(
        &mut self,
        run: &mut Run<K, C>,
        hosts: &[Host<N>],
        from: u16,
        to: u16,
        payload: Payload<N>,
    ) {
        let link = self.link(from, to);
        let ordinal = self.links[link].sent;
        let faults_active = run.timeline.in_fault_phase();
        let timing = &run.plan().timing;
        let delay = timing.delay(link as u32, ordinal, false, faults_active);
        let incarnations = (super::incarnation_at(hosts, from), super::incarnation_at(hosts, to));
        let envelope = Envelope {
            from,
            to,
            incarnations,
            ordinal,
            is_duplicate: false,
            flipped_bit: None,
            payload,
        };
        self.put_in_session(run, envelope, delay);
    }

    /// Lets every two nodes that have no session try to begin one.
    pub(in crate::world) fn dial_all<K, C: Chooser>(&mut self, run: &mut Run<K, C>) {
        for lower in 0..self.sessions.nodes as u16 {
            for upper in lower + 1..self.sessions.nodes as u16 {
                self.dial(run, lower, upper);
            }
        }
    }

    fn dial<K, C: Chooser>(&mut self, run: &mut Run<K, C>, a: u16, b: u16) {
        let (lower, upper) = (a.min(b), a.max(b));
        let link = self.link(lower, upper);
        let pair = self.sessions.pair(lower, upper);
        if pair.joined || pair.dialled {
            return;
        }
        pair.dialled = true;
        let delay = run.plan().timing.delay(link as u32, pair.number, false, false);
        run.timeline.push_after(RECONNECT_AFTER + delay, Event::Connect { lower, upper });
    }

    /// Begins a session, if both processes run and messages pass in both directions. Otherwise the
    /// nodes dial again when a process begins or a partition ends.
    pub(in crate::world) fn connect<K, C>(
        &mut self,
        run: &mut Run<K, C>,
        hosts: &[Host<N>],
        lower: u16,
        upper: u16,
    ) where
        K: Checker<N>,
        C: Chooser,
    {
        let links = [self.link(lower, upper), self.link(upper, lower)];
        let is_partitioned = links.iter().any(|link| self.links[*link].partitions > 0);
        let are_up = [lower, upper].iter().all(|id| hosts[usize::from(*id)].is_up());
        let pair = self.sessions.pair(lower, upper);
        pair.dialled = false;
        if pair.joined || is_partitioned || !are_up {
            return;
        }
        pair.joined = true;
        pair.number += 1;
        let number = pair.number;
        self.notify(run, hosts, lower, upper, Payload::Connected(number));
        self.notify(run, hosts, upper, lower, Payload::Connected(number));
    }

    /// The queue has dropped the attempts to connect: they are made again.
    pub(in crate::world) fn redial<K, C: Chooser>(&mut self, run: &mut Run<K, C>) {
        self.sessions.pairs.iter_mut().for_each(|pair| pair.dialled = false);
        self.dial_all(run);
    }
}
