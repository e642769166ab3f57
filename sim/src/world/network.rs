//! The links between nodes and clients: in-flight messages, partitions, message faults (N1 to N8).

use serde::{Serialize, de::DeserializeOwned};
use stormglass_node::{About, Input, Label, Node, NodeId, RequestId, Subject};

use super::{Event, Phase, World};
use crate::chooser::{Chooser, SendPoint};
use crate::fault::{Endpoint, MessageFault};
use crate::property::{Checker, Fact, LossReason};
use crate::tally::Rule;
use crate::workload::{ClientEvent, Workload};
use stormglass_node::wire;

/// The directed links and the messages in flight on them. Endpoints are numbered densely: nodes
/// first, then clients.
#[derive(Clone, Debug)]
pub(super) struct Network<N: Node> {
    endpoint_count: usize,
    nodes: usize,
    links: Vec<Link>,
    /// `None` is a free slot, or the slot of a message that another one displaced from the queue of
    /// its link (N8: the messages in flight on it; the chooser decides when they are too many) and
    /// whose delivery event is still pending.
    in_flight: Vec<Option<Envelope<N>>>,
    free_slots: Vec<u32>,
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
    clogged_until_us: u64,
    /// Whether the clog is part of a swizzle (N7): several links clogged one by one and released in
    /// another order.
    clogged_by_swizzle: bool,
}

#[derive(Clone, Debug)]
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

#[derive(Clone, Debug)]
enum Payload<N: Node> {
    Message(N::Message),
    Request(RequestId, N::Request),
    Response(RequestId, N::Response),
}

impl<N: Node> Payload<N> {
    fn about(&self) -> About {
        match self {
            Payload::Message(message) => message.about(),
            Payload::Request(id, request) => about_request(request.kind(), *id),
            Payload::Response(id, response) => about_request(response.kind(), *id),
        }
    }
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
        }
    }
}

impl<N: Node> Network<N> {
    pub(super) fn reset(&mut self, nodes: usize, clients: usize) {
        self.endpoint_count = nodes + clients;
        self.nodes = nodes;
        self.links.clear();
        self.links.resize(self.endpoint_count * self.endpoint_count, Link::default());
        self.in_flight.clear();
        self.free_slots.clear();
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
            Endpoint::Client(u32::from(number) - self.nodes as u32 + 1)
        }
    }

    fn endpoint_index(&self, endpoint: Endpoint) -> u16 {
        match endpoint {
            Endpoint::Node(node) => node.0,
            Endpoint::Client(client) => (self.nodes as u32 + client - 1) as u16,
        }
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
        let mut queue = Vec::new();
        for (slot, envelope) in self.in_flight.iter().enumerate() {
            if let Some(envelope) = envelope
                && (envelope.from, envelope.to) == (from, to)
            {
                queue.push((envelope.ordinal, envelope.is_duplicate, slot));
            }
        }
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

    pub(super) fn clog(&mut self, from: Endpoint, to: Endpoint, until_us: u64, swizzle: bool) {
        let link = self.link(self.endpoint_index(from), self.endpoint_index(to));
        let link = &mut self.links[link];
        if until_us > link.clogged_until_us {
            link.clogged_until_us = until_us;
            link.clogged_by_swizzle = swizzle;
        }
    }

    pub(super) fn heal(&mut self) {
        for link in &mut self.links {
            link.partitions = 0;
            link.clogged_until_us = 0;
        }
    }

    /// The arguments of [`Timing::delay_us`](crate::plan::Timing::delay_us) for a message in flight
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

impl<N, W, K, C> World<N, W, K, C>
where
    N: Node,
    W: Workload<N>,
    K: Checker<N>,
    C: Chooser,
{
    #[inline(always)]
    pub(super) fn send(&mut self, from: NodeId, to: NodeId, message: N::Message) {
        assert!(from != to, "a node never sends to itself");
        assert!(to.0 < self.plan.nodes, "{to} is not a node of this cluster");
        self.transmit(from.0, to.0, Payload::Message(message));
    }

    pub(super) fn send_request(&mut self, id: RequestId, node: NodeId, request: N::Request) {
        let from = self.network.endpoint_index(Endpoint::client_of(id));
        self.transmit(from, node.0, Payload::Request(id, request));
    }

    pub(super) fn send_response(&mut self, node: NodeId, id: RequestId, response: N::Response) {
        // A node may reply to an id that no client of this cluster has sent: a forged or
        // corrupted one. Clients are numbered from 1.
        if id.client == 0 || id.client > u64::from(self.plan.clients) {
            return;
        }
        let to = self.network.endpoint_index(Endpoint::client_of(id));
        self.transmit(node.0, to, Payload::Response(id, response));
    }

    #[inline(always)]
    fn transmit(&mut self, from: u16, to: u16, payload: Payload<N>) {
        let link = self.network.link(from, to);
        let link_state = &mut self.network.links[link];
        let ordinal = link_state.sent;
        link_state.sent += 1;
        let queued = link_state.queued;
        let is_partitioned = link_state.partitions > 0;
        let is_client_link = usize::from(from.max(to)) >= self.network.nodes;
        let faults_active = self.phase == Phase::Faults;
        let delay_us =
            self.plan.timing.delay_us(link as u32, ordinal, is_client_link, faults_active);
        if faults_active && delay_us > self.plan.timing.usual_us_max(is_client_link) {
            self.tally.hit(Rule::MessageDelayed);
        }
        let incarnations = (self.incarnation_at(from), self.incarnation_at(to));
        let fault = if self.fault_classes.messages {
            self.chooser.message(&SendPoint {
                from: self.network.endpoint_at(from),
                to: self.network.endpoint_at(to),
                link: link as u32,
                ordinal,
                about: payload.about(),
                queued,
            })
        } else {
            None
        };
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
            return self.transmit_with_fault(envelope, delay_us, fault.filter(|_| !is_partitioned));
        }
        self.schedule_delivery(
            Envelope {
                from,
                to,
                incarnations,
                ordinal,
                is_duplicate: false,
                flipped_bit: None,
                payload,
            },
            delay_us,
        );
    }

    /// Drops a message on a partitioned link (`fault` is `None`), or applies the fault.
    #[cold]
    fn transmit_with_fault(
        &mut self,
        envelope: Envelope<N>,
        delay_us: u64,
        fault: Option<MessageFault>,
    ) {
        match fault {
            None => self.drop_message(&envelope, LossReason::Partition),
            Some(fault) => self.apply_message_fault(envelope, delay_us, fault),
        }
    }

    #[inline(always)]
    fn schedule_delivery(&mut self, envelope: Envelope<N>, delay_us: u64) {
        let slot = self.network.enqueue(envelope);
        self.queue.push(self.now_us + delay_us, Event::Deliver { slot });
    }

    /// Applies the chooser's fault to one message: N1 it takes very long, N2 it is lost, N3 a copy
    /// is delivered as well, with a delay of its own, N4 a bit of it is flipped, N8 another message
    /// of the full queue is evicted.
    fn apply_message_fault(
        &mut self,
        mut envelope: Envelope<N>,
        delay_us: u64,
        fault: MessageFault,
    ) {
        let from = self.network.endpoint_at(envelope.from);
        let to = self.network.endpoint_at(envelope.to);
        let about = envelope.payload.about();
        self.observe(self.observer_node(from, to), &Fact::MessageFault { from, to, about, fault });
        match fault {
            MessageFault::Lose => self.tally.hit(Rule::MessageLost),
            MessageFault::Duplicate { after_us } => {
                self.tally.hit(Rule::MessageDuplicated);
                self.schedule_delivery(
                    Envelope { is_duplicate: true, ..envelope.clone() },
                    after_us,
                );
                self.schedule_delivery(envelope, delay_us);
            }
            MessageFault::Delay { by_us } => {
                self.tally.hit(Rule::MessageDelayed);
                self.schedule_delivery(envelope, delay_us + by_us);
            }
            MessageFault::Flip { bit } => {
                envelope.flipped_bit = Some(bit);
                self.schedule_delivery(envelope, delay_us);
            }
            MessageFault::Evict { victim } => {
                if let Some(lost) = self.network.evict(envelope.from, envelope.to, victim) {
                    self.tally.hit(Rule::QueueOverflow);
                    self.drop_message(&lost, LossReason::QueueFull);
                }
                self.schedule_delivery(envelope, delay_us);
            }
        }
    }

    /// Reports a lost message: N6, the link is partitioned; or another [`LossReason`].
    #[cold]
    fn drop_message(&mut self, envelope: &Envelope<N>, reason: LossReason) {
        let from = self.network.endpoint_at(envelope.from);
        let to = self.network.endpoint_at(envelope.to);
        if reason == LossReason::Partition {
            self.tally.hit(Rule::Partitioned);
            let reverse_link = self.network.link(envelope.to, envelope.from);
            self.tally.one_way += u64::from(self.network.links[reverse_link].partitions == 0);
        }
        self.observe(
            self.observer_node(from, to),
            &Fact::Lost { from, to, about: envelope.payload.about(), reason },
        );
    }

    /// The node at which a fact about a message is observed: the sender, or the receiver if the
    /// sender is a client.
    fn observer_node(&self, from: Endpoint, to: Endpoint) -> NodeId {
        match (from, to) {
            (Endpoint::Node(node), _) | (Endpoint::Client(_), Endpoint::Node(node)) => node,
            (Endpoint::Client(_), Endpoint::Client(_)) => NodeId(0),
        }
    }

    #[inline]
    fn incarnation_at(&self, endpoint: u16) -> u32 {
        self.hosts.get(usize::from(endpoint)).map_or(0, |host| host.incarnation)
    }

    pub(super) fn deliver(&mut self, slot: u32) {
        let Some(envelope) = &self.network.in_flight[slot as usize] else {
            self.network.free_slots.push(slot);
            return;
        };
        let from = envelope.from;
        let to = envelope.to;
        let link = &self.network.links[self.network.link(from, to)];
        let clogged_until_us = link.clogged_until_us;
        let is_partitioned = link.partitions > 0;
        if clogged_until_us > self.now_us {
            self.tally.hit(if link.clogged_by_swizzle {
                Rule::Swizzled
            } else {
                Rule::LinkClogged
            });
            self.queue.push(clogged_until_us, Event::Deliver { slot });
            return;
        }
        if usize::from(to) < self.hosts.len()
            && self.postpone_if_paused(NodeId(to), Event::Deliver { slot })
        {
            return;
        }
        let envelope = self.network.dequeue(slot).expect("the slot was checked above");
        if is_partitioned {
            self.drop_message(&envelope, LossReason::Partition);
            return;
        }
        self.receive(envelope);
    }

    #[inline(always)]
    fn receive(&mut self, envelope: Envelope<N>) {
        if self.plan.encode_messages || envelope.flipped_bit.is_some() {
            return self.receive_encoded(envelope);
        }
        self.dispatch(envelope);
    }

    /// N4: encodes the payload as on the wire, flips the bit, and decodes it. A frame that does not
    /// decode is dropped.
    #[cold]
    fn receive_encoded(&mut self, envelope: Envelope<N>) {
        let payload = match &envelope.payload {
            Payload::Message(message) => {
                self.encode_and_decode(message, envelope.flipped_bit).map(Payload::Message)
            }
            Payload::Request(id, request) => self
                .encode_and_decode(request, envelope.flipped_bit)
                .map(|request| Payload::Request(*id, request)),
            Payload::Response(id, response) => self
                .encode_and_decode(response, envelope.flipped_bit)
                .map(|response| Payload::Response(*id, response)),
        };
        match payload {
            Some(payload) => self.dispatch(Envelope { payload, ..envelope }),
            None => self.drop_message(&envelope, LossReason::Corrupted),
        }
    }

    #[inline(always)]
    fn dispatch(&mut self, envelope: Envelope<N>) {
        let from = NodeId(envelope.from);
        let to = NodeId(envelope.to);
        if usize::from(envelope.to) >= self.hosts.len() {
            let Payload::Response(id, response) = &envelope.payload else { return };
            self.observe(from, &Fact::Answered { id: *id, response });
            self.notify_clients(ClientEvent::Answer { from, id: *id, response });
            return;
        }
        if self.hosts[usize::from(to.0)].node.is_none() {
            self.drop_message(&envelope, LossReason::ReceiverDown);
            return;
        }
        match envelope.payload {
            Payload::Request(id, request) => self.step(to, Input::Request { id, request }),
            Payload::Message(message) => {
                self.tally.delivered += 1;
                self.tally.duplicates += u64::from(envelope.is_duplicate);
                self.tally.arrived_after_crash += u64::from(
                    envelope.incarnations
                        != (self.incarnation_at(from.0), self.incarnation_at(to.0)),
                );
                self.step(to, Input::Message { from, message });
            }
            Payload::Response(..) => {}
        }
    }

    /// Encodes a value as a frame, flips a bit of it (N4; the index is taken modulo the length of
    /// the frame), and decodes it; `None` if the frame is rejected.
    fn encode_and_decode<T: Serialize + DeserializeOwned>(
        &mut self,
        value: &T,
        flipped_bit: Option<u32>,
    ) -> Option<T> {
        let mut frame = wire::encode_frame(value);
        if let Some(bit) = flipped_bit {
            let bit = bit as usize % (frame.len() * 8);
            frame[bit / 8] ^= 1 << (bit % 8);
            self.tally.hit(Rule::MessageCorrupted);
        }
        wire::decode_frame(&frame).ok()
    }
}
