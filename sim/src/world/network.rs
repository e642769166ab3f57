//! The links between nodes and clients: in-flight messages, partitions, message faults (N1 to N8).

use serde::{Serialize, de::DeserializeOwned};
use stormglass_node::{About, Label, Links, Micros, Node, NodeId, RequestId, Subject};

mod sessions;

use self::sessions::Sessions;
use super::host::Host;
use super::run::Run;
use super::timeline::Event;
use crate::chooser::{Chooser, SendPoint};
use crate::fault::{Endpoint, MessageFault};
use crate::property::{Checker, Fact, FaultFact, LossReason, MessageId};
use crate::tally::Rule;
use crate::workload::ClientId;
use stormglass_node::wire;

/// The directed links and the messages in flight on them. Endpoints are numbered densely: nodes
/// first, then clients.
#[derive(Clone)]
pub(super) struct Network<N: Node> {
    endpoint_count: usize,
    nodes: usize,
    links: Vec<Link>,
    /// `None` is a free slot, or the slot of a message that another one displaced from the queue of
    /// its link (N8: the messages in flight on it; the chooser decides when they are too many) and
    /// whose delivery event is still pending.
    in_flight: Vec<Option<Envelope<N>>>,
    free_slots: Vec<u32>,
    /// Empty if the messages are datagrams.
    sessions: Sessions,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// Messages sent so far.
    sent: u32,
    /// Messages in flight.
    queued: u32,
    /// Partitions that cut this link now (N6).
    partitions: u32,
    /// No message is delivered before this time (N5).
    clogged_until: Micros,
    /// Whether the clog is part of a swizzle (N7): several links clogged one by one and released in
    /// another order.
    clogged_by_swizzle: bool,
}

#[derive(Clone)]
struct Envelope<N: Node> {
    from: u16,
    to: u16,
    /// The incarnations of sender and receiver at the time of sending; either may have crashed
    /// before delivery.
    incarnations: (u32, u32),
    /// Its number on the link, from 0: the order of the queue from which N8 evicts a message.
    ordinal: u32,
    is_duplicate: bool,
    flipped_bit: Option<u32>,
    payload: Payload<N>,
}

enum Payload<N: Node> {
    Message(N::Message),
    Request(RequestId, N::Request),
    Response(RequestId, N::Response),
    /// The receiver is connected: the session of this number has begun.
    Connected(u32),
    /// The session of the receiver has ended.
    Disconnected,
}

// A derived one would ask for a node that is `Clone`.
impl<N: Node> Clone for Payload<N> {
    fn clone(&self) -> Self {
        match self {
            Payload::Message(message) => Payload::Message(message.clone()),
            Payload::Request(id, request) => Payload::Request(*id, request.clone()),
            Payload::Response(id, response) => Payload::Response(*id, response.clone()),
            Payload::Connected(number) => Payload::Connected(*number),
            Payload::Disconnected => Payload::Disconnected,
        }
    }
}

/// A message that has arrived.
pub(super) enum Delivery<N: Node> {
    Message { from: NodeId, to: NodeId, message: N::Message },
    Request { to: NodeId, id: RequestId, request: N::Request },
    Response { from: NodeId, id: RequestId, response: N::Response },
    Connected { to: NodeId, peer: NodeId },
    Disconnected { to: NodeId, peer: NodeId },
}

impl<N: Node> Payload<N> {
    /// Whether it is a notice of the link and no message.
    #[inline]
    fn is_notice(&self) -> bool {
        matches!(self, Payload::Connected(_) | Payload::Disconnected)
    }

    fn about(&self) -> About {
        match self {
            Payload::Message(message) => message.about(),
            Payload::Request(id, request) => about_request(request.kind(), *id),
            Payload::Response(id, response) => about_request(response.kind(), *id),
            Payload::Connected(_) => About { kind: "Connected", subject: None },
            Payload::Disconnected => About { kind: "Disconnected", subject: None },
        }
    }

    /// What it concerns besides the subject of [`Payload::about`].
    fn further_subjects(&self) -> Vec<Subject> {
        match self {
            Payload::Message(message) => message.further_subjects(),
            Payload::Request(_, request) => subjects_of(request),
            Payload::Response(_, response) => subjects_of(response),
            Payload::Connected(_) | Payload::Disconnected => Vec::new(),
        }
    }
}

/// Everything that a request or response names besides its id.
fn subjects_of(of: &impl Label) -> Vec<Subject> {
    of.subject().into_iter().chain(of.further_subjects()).collect()
}

/// The subject of a request or response is its request id, whatever its label returns: removing a
/// request from a schedule must not change the coordinates of faults on another.
fn about_request(kind: &'static str, id: RequestId) -> About {
    About { kind, subject: Some(Subject::Request(id)) }
}

impl<N: Node> Default for Network<N> {
    fn default() -> Self {
        Network {
            endpoint_count: 0,
            nodes: 0,
            links: Vec::new(),
            in_flight: Vec::new(),
            free_slots: Vec::new(),
            sessions: Sessions::default(),
        }
    }
}

impl<N: Node> Network<N> {
    pub(super) fn reset(&mut self, nodes: usize, clients: usize) {
        self.endpoint_count = nodes + clients;
        self.nodes = nodes;
        self.links.clear();
        // A table of all pairs: with at most 64 nodes and 64 clients it is small, and a link is
        // found without a search.
        self.links.resize(self.endpoint_count * self.endpoint_count, Link::default());
        self.in_flight.clear();
        self.free_slots.clear();
        self.sessions.reset(if N::LINKS == Links::Sessions { nodes } else { 0 });
    }

    #[inline]
    fn link(&self, from: u16, to: u16) -> usize {
        usize::from(from) * self.endpoint_count + usize::from(to)
    }

    #[inline]
    fn endpoint_at(&self, number: u16) -> Endpoint {
        if usize::from(number) < self.nodes {
            Endpoint::Node(NodeId(number))
        } else {
            Endpoint::Client(ClientId(u32::from(number) - self.nodes as u32 + 1))
        }
    }

    fn endpoint_index(&self, endpoint: Endpoint) -> u16 {
        match endpoint {
            Endpoint::Node(node) => node.0,
            Endpoint::Client(client) => (self.nodes + client.index()) as u16,
        }
    }

    // Unused, and nothing at run time, unless the checker relates messages.
    #[inline(always)]
    fn message_id(&self, from: u16, to: u16, ordinal: u32) -> MessageId {
        MessageId { from: self.endpoint_at(from), to: self.endpoint_at(to), ordinal }
    }

    /// Puts a message on its link and returns its slot.
    // Always inlined: an envelope built in the argument is then built in its slot, without a copy.
    #[inline(always)]
    fn enqueue(&mut self, envelope: Envelope<N>) -> u32 {
        let link = self.link(envelope.from, envelope.to);
        self.links[link].queued += 1;
        let Some(slot) = self.free_slots.pop() else {
            self.in_flight.push(Some(envelope));
            return (self.in_flight.len() - 1) as u32;
        };
        self.in_flight[slot as usize] = Some(envelope);
        slot
    }

    /// Takes a message off its link; `None` if it was displaced (N8).
    #[inline(always)]
    fn dequeue(&mut self, slot: u32) -> Option<Envelope<N>> {
        self.free_slots.push(slot);
        let envelope = self.in_flight[slot as usize].take()?;
        let link = self.link(envelope.from, envelope.to);
        self.links[link].queued -= 1;
        Some(envelope)
    }

    /// N8: removes the `victim`th message in flight on a link, counted from 0 in the order of
    /// sending. Its slot is freed by its delivery event, which is still in the queue.
    fn evict(&mut self, from: u16, to: u16, victim: u32) -> Option<Envelope<N>> {
        // A scan of everything in flight: evictions are rare, and a queue for each link would cost
        // every message.
        let mut queue = Vec::new();
        for (slot, envelope) in self.in_flight.iter().enumerate() {
            if let Some(envelope) = envelope
                && (envelope.from, envelope.to) == (from, to)
            {
                queue.push((envelope.ordinal, envelope.is_duplicate, slot));
            }
        }
        // Slots are reused, so their order is not that of sending. A copy has the ordinal of its
        // original, and counts as sent after it.
        queue.sort_unstable();
        let &(.., slot) = queue.get(victim as usize)?;
        let link = self.link(from, to);
        self.links[link].queued -= 1;
        self.in_flight[slot].take()
    }

    /// Applies `update` to the number of partitions that cut each link from one of `from` to one of
    /// `to`.
    pub(super) fn update_partitions(
        &mut self,
        from: &[Endpoint],
        to: &[Endpoint],
        update: impl Fn(u32) -> u32,
    ) {
        for &a in from {
            for &b in to {
                let link = self.link(self.endpoint_index(a), self.endpoint_index(b));
                self.links[link].partitions = update(self.links[link].partitions);
            }
        }
    }

    pub(super) fn clog(&mut self, from: Endpoint, to: Endpoint, until: Micros, swizzle: bool) {
        let link = self.link(self.endpoint_index(from), self.endpoint_index(to));
        let link = &mut self.links[link];
        // Of overlapping clogs the one that ends last counts.
        if until > link.clogged_until {
            link.clogged_until = until;
            link.clogged_by_swizzle = swizzle;
        }
    }

    pub(super) fn heal(&mut self) {
        for link in &mut self.links {
            link.partitions = 0;
            link.clogged_until = Micros::ZERO;
        }
    }

    /// The arguments of [`Timing::delay`](crate::plan::Timing::delay) for a message in flight
    /// that gets a new delay: its link, an ordinal, and whether a client is at one end. The ordinal
    /// is greater than those of all messages sent on the link so far, so the delay differs from
    /// theirs; a message that is sent later may have the same.
    pub(super) fn timing_key(&self, slot: u32) -> Option<(u32, u32, bool)> {
        let envelope = self.in_flight[slot as usize].as_ref()?;
        let link = self.link(envelope.from, envelope.to);
        let is_client_link = usize::from(envelope.from.max(envelope.to)) >= self.nodes;
        Some((link as u32, self.links[link].sent + slot, is_client_link))
    }
}

/// The way of a message: `send_*`, a fault perhaps, `receiver`, `receive`.
impl<N: Node> Network<N> {
    /// Sends a message from node to node; one that can have no link breaks the contract.
    #[inline(always)]
    pub(super) fn send_message<K, C>(
        &mut self,
        run: &mut Run<K, C>,
        hosts: &[Host<N>],
        (from, to): (NodeId, NodeId),
        message: N::Message,
    ) where
        K: Checker<N>,
        C: Chooser,
    {
        if from == to {
            let kind = message.kind();
            run.monitor.breaks_contract(format!("{from} sends {kind} to itself"));
            return;
        }
        if usize::from(to.0) >= self.nodes {
            let kind = message.kind();
            let nodes = self.nodes;
            run.monitor.breaks_contract(format!(
                "{from} sends {kind} to {to}, but this cluster has {nodes} nodes"
            ));
            return;
        }
        self.transmit(run, hosts, (from.0, to.0), Payload::Message(message));
    }

    /// Sends a request from the client of its id to a node.
    pub(super) fn send_request<K, C>(
        &mut self,
        run: &mut Run<K, C>,
        hosts: &[Host<N>],
        to: NodeId,
        id: RequestId,
        request: N::Request,
    ) where
        K: Checker<N>,
        C: Chooser,
    {
        let from = self.endpoint_index(Endpoint::client_of(id));
        self.transmit(run, hosts, (from, to.0), Payload::Request(id, request));
    }

    /// Sends a response from a node to the client of its id.
    pub(super) fn send_response<K, C>(
        &mut self,
        run: &mut Run<K, C>,
        hosts: &[Host<N>],
        from: NodeId,
        id: RequestId,
        response: N::Response,
    ) where
        K: Checker<N>,
        C: Chooser,
    {
        // A node may reply to an id that no client of this cluster has sent: a forged or
        // corrupted one.
        let client = ClientId::try_from(id.client).ok();
        let Some(client) = client.filter(|client| client.is_among(run.plan().clients)) else {
            return;
        };
        let to = self.endpoint_index(Endpoint::Client(client));
        self.transmit(run, hosts, (from.0, to), Payload::Response(id, response));
    }

    #[inline(always)]
    fn transmit<K, C>(
        &mut self,
        run: &mut Run<K, C>,
        hosts: &[Host<N>],
        (from, to): (u16, u16),
        payload: Payload<N>,
    ) where
        K: Checker<N>,
        C: Chooser,
    {
        let link = self.link(from, to);
        let link_state = &mut self.links[link];
        let ordinal = link_state.sent;
        link_state.sent += 1;
        let queued = link_state.queued;
        run.monitor.note_sent::<N>(self.message_id(from, to, ordinal));
        let is_partitioned = self.links[link].partitions > 0;
        let is_client_link = usize::from(from.max(to)) >= self.nodes;
        let faults_active = run.timeline.in_fault_phase();
        let timing = &run.plan().timing;
        let delay = timing.delay(link as u32, ordinal, is_client_link, faults_active);
        if faults_active && delay > timing.usual_delay_max(is_client_link) {
            run.monitor.hit(Rule::MessageDelayed);
        }
        let incarnations = (incarnation_at(hosts, from), incarnation_at(hosts, to));
        // A partitioned link still asks the chooser: a partition must not shift the random numbers
        // of the faults after it.
        let fault = if run.faults.concern_messages() {
            run.faults.of_message(&SendPoint {
                from: self.endpoint_at(from),
                to: self.endpoint_at(to),
                link: link as u32,
                ordinal,
                about: payload.about(),
                queued,
            })
        } else {
            None
        };
        if N::LINKS == Links::Sessions && !is_client_link {
            let envelope = Envelope {
                from,
                to,
                incarnations,
                ordinal,
                is_duplicate: false,
                flipped_bit: None,
                payload,
            };
            self.send_in_session(run, hosts, envelope, delay, fault, is_partitioned);
            return;
        }
        // The envelope is built in both branches: in the common one below directly in its slot,
        // without a copy.
        if is_partitioned || fault.is_some() {
            let envelope = Envelope {
                from,
                to,
                incarnations,
                ordinal,
                is_duplicate: false,
                flipped_bit: None,
                payload,
            };
            match fault.filter(|_| !is_partitioned) {
                None => self.lose(run, hosts, &envelope, LossReason::Partition),
                Some(fault) => self.apply_fault(run, hosts, envelope, delay, fault),
            }
            return;
        }
        self.schedule_delivery(
            run,
            Envelope {
                from,
                to,
                incarnations,
                ordinal,
                is_duplicate: false,
                flipped_bit: None,
                payload,
            },
            delay,
        );
    }

    #[inline(always)]
    fn schedule_delivery<K, C>(
        &mut self,
        run: &mut Run<K, C>,
        envelope: Envelope<N>,
        delay: Micros,
    ) {
        let slot = self.enqueue(envelope);
        run.timeline.push_after(delay, Event::Deliver { slot });
    }

    /// Applies the chooser's fault to one message: N1 it takes very long, N2 it is lost, N3 a copy
    /// is delivered as well, with a delay of its own, N4 a bit of it is flipped, N8 another message
    /// of the full queue is evicted.
    #[cold]
    fn apply_fault<K: Checker<N>, C>(
        &mut self,
        run: &mut Run<K, C>,
        hosts: &[Host<N>],
        mut envelope: Envelope<N>,
        delay: Micros,
        fault: MessageFault,
    ) {
        let from = self.endpoint_at(envelope.from);
        let to = self.endpoint_at(envelope.to);
        let about = envelope.payload.about();
        let further = &envelope.payload.further_subjects();
        observer(hosts, from, to)
            .observe(run, &Fact::Fault(FaultFact::Message { from, to, about, further, fault }));
        match fault {
            MessageFault::Lose => run.monitor.hit(Rule::MessageLost),
            MessageFault::Duplicate { after } => {
                run.monitor.hit(Rule::MessageDuplicated);
                let payload = envelope.payload.clone();
                let copy = Envelope { is_duplicate: true, payload, ..envelope };
                self.schedule_delivery(run, copy, after);
                self.schedule_delivery(run, envelope, delay);
            }
            MessageFault::Delay { by } => {
                run.monitor.hit(Rule::MessageDelayed);
                self.schedule_delivery(run, envelope, delay + by);
            }
            MessageFault::Flip { bit } => {
                envelope.flipped_bit = Some(bit);
                self.schedule_delivery(run, envelope, delay);
            }
            MessageFault::Evict { victim } => {
                if let Some(lost) = self.evict(envelope.from, envelope.to, victim) {
                    run.monitor.hit(Rule::QueueOverflow);
                    self.lose(run, hosts, &lost, LossReason::QueueFull);
                }
                self.schedule_delivery(run, envelope, delay);
            }
        }
    }

    /// Reports a lost message: N6, the link is partitioned; or another [`LossReason`].
    #[cold]
    fn lose<K: Checker<N>, C>(
        &self,
        run: &mut Run<K, C>,
        hosts: &[Host<N>],
        envelope: &Envelope<N>,
        reason: LossReason,
    ) {
        let from = self.endpoint_at(envelope.from);
        let to = self.endpoint_at(envelope.to);
        if reason == LossReason::Partition {
            run.monitor.hit(Rule::Partitioned);
            let reverse_link = self.link(envelope.to, envelope.from);
            run.monitor.tally().one_way += u64::from(self.links[reverse_link].partitions == 0);
        }
        let about = envelope.payload.about();
        let further = &envelope.payload.further_subjects();
        let (sender, receiver, ordinal) = (envelope.from, envelope.to, envelope.ordinal);
        run.monitor.note_arrival::<N>(self.message_id(sender, receiver, ordinal));
        observer(hosts, from, to).observe(run, &Fact::Lost { from, to, about, further, reason });
    }

    /// Handles a delivery event: the index of the receiving endpoint, nodes first. `None` if the
    /// message was displaced (N8), or if its link is clogged (N5): then it is delivered later.
    #[inline(always)]
    pub(super) fn receiver<K, C>(&mut self, run: &mut Run<K, C>, slot: u32) -> Option<usize> {
        let Some(envelope) = &self.in_flight[slot as usize] else {
            self.free_slots.push(slot);
            return None;
        };
        let link = &self.links[self.link(envelope.from, envelope.to)];
        if link.clogged_until > run.timeline.now() {
            run.monitor.hit(if link.clogged_by_swizzle {
                Rule::Swizzled
            } else {
                Rule::LinkClogged
            });
            run.timeline.push_at(link.clogged_until, Event::Deliver { slot });
            return None;
        }
        Some(envelope.to.into())
    }

    /// Takes a message off its link; `None` if it is lost: the link is partitioned, the receiver is
    /// down, or the message does not decode.
    #[inline(always)]
    pub(super) fn receive<K: Checker<N>, C: Chooser>(
        &mut self,
        run: &mut Run<K, C>,
        hosts: &[Host<N>],
        slot: u32,
    ) -> Option<Delivery<N>> {
        let mut envelope = self.dequeue(slot).expect("its receiver was found");
        // A partition that began after the message was sent loses it, too.
        if self.links[self.link(envelope.from, envelope.to)].partitions > 0 {
            self.lose(run, hosts, &envelope, LossReason::Partition);
            return None;
        }
        // Otherwise a message travels as a value: to encode all of them takes time and changes
        // nothing.
        if run.plan().encode_messages || envelope.flipped_bit.is_some() {
            let Some(payload) = encode_and_decode_payload(run, &envelope) else {
                self.lose(run, hosts, &envelope, LossReason::Corrupted);
                return None;
            };
            envelope.payload = payload;
        }
        self.deliver(run, hosts, envelope)
    }

    /// What an envelope brings; `None` if its receiver is down.
    #[inline(always)]
    fn deliver<K: Checker<N>, C: Chooser>(
        &self,
        run: &mut Run<K, C>,
        hosts: &[Host<N>],
        envelope: Envelope<N>,
    ) -> Option<Delivery<N>> {
        let from = NodeId(envelope.from);
        let to = NodeId(envelope.to);
        if hosts.get(usize::from(to.0)).is_some_and(|host| !host.is_up()) {
            self.lose(run, hosts, &envelope, LossReason::ReceiverDown);
            return None;
        }
        if !envelope.payload.is_notice() {
            let Envelope { from, to, ordinal, .. } = envelope;
            run.monitor.note_arrival::<N>(self.message_id(from, to, ordinal));
        }
        Some(match envelope.payload {
            Payload::Request(id, request) => Delivery::Request { to, id, request },
            Payload::Message(message) => {
                let incarnations = (incarnation_at(hosts, from.0), incarnation_at(hosts, to.0));
                let tally = run.monitor.tally();
                tally.delivered += 1;
                tally.duplicates += u64::from(envelope.is_duplicate);
                tally.arrived_after_crash += u64::from(envelope.incarnations != incarnations);
                Delivery::Message { from, to, message }
            }
            Payload::Response(id, response) => Delivery::Response { from, id, response },
            Payload::Connected(_) => Delivery::Connected { to, peer: from },
            Payload::Disconnected => Delivery::Disconnected { to, peer: from },
        })
    }
}

/// The node at which a fact about a message is observed: the sender, or the receiver if the sender
/// is a client.
fn observer<N>(hosts: &[Host<N>], from: Endpoint, to: Endpoint) -> &Host<N> {
    let id = match (from, to) {
        (Endpoint::Node(node), _) | (Endpoint::Client(_), Endpoint::Node(node)) => node,
        // Clients have no links with each other, so any node will do.
        (Endpoint::Client(_), Endpoint::Client(_)) => NodeId(0),
    };
    &hosts[usize::from(id.0)]
}

/// 0 for a client.
#[inline]
fn incarnation_at<N: Node>(hosts: &[Host<N>], endpoint: u16) -> u32 {
    hosts.get(usize::from(endpoint)).map_or(0, Host::incarnation)
}

/// N4: encodes the payload as on the wire, flips the bit, and decodes it; `None` if the frame does
/// not decode.
#[cold]
fn encode_and_decode_payload<N: Node, K, C>(
    run: &mut Run<K, C>,
    envelope: &Envelope<N>,
) -> Option<Payload<N>> {
    if envelope.flipped_bit.is_some() {
        run.monitor.hit(Rule::MessageCorrupted);
    }
    let flipped_bit = envelope.flipped_bit;
    Some(match &envelope.payload {
        Payload::Message(message) => Payload::Message(encode_and_decode(message, flipped_bit)?),
        Payload::Request(id, request) => {
            Payload::Request(*id, encode_and_decode(request, flipped_bit)?)
        }
        Payload::Response(id, response) => {
            Payload::Response(*id, encode_and_decode(response, flipped_bit)?)
        }
        // These are no frames.
        Payload::Connected(_) | Payload::Disconnected => envelope.payload.clone(),
    })
}

/// Encodes a value as a frame, flips a bit of it (N4; the index is taken modulo the length of the
/// frame), and decodes it; `None` if the frame is rejected.
fn encode_and_decode<T: Serialize + DeserializeOwned>(
    value: &T,
    flipped_bit: Option<u32>,
) -> Option<T> {
    let mut frame = wire::encode_frame(value);
    if let Some(bit) = flipped_bit {
        let bit = bit as usize % (frame.len() * 8);
        frame[bit / 8] ^= 1 << (bit % 8);
    }
    wire::decode_frame(&frame).ok()
}
