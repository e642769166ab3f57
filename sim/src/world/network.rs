use serde::{Serialize, de::DeserializeOwned};
use stormglass::{About, Input, Label, Node, NodeId, RequestId, Subject};

use super::{Event, Phase, World};
use crate::chooser::{Chooser, SendPoint};
use crate::fault::{Endpoint, MessageFault};
use crate::property::{Checker, Fact};
use crate::tally::Rule;
use crate::workload::{ClientEvent, Workload};
use stormglass::wire;

/// The links, and what is under way on them. Ends are numbered densely: nodes first, then clients.
#[derive(Clone, Debug)]
pub(super) struct Network<N: Node> {
    endpoint_count: usize,
    nodes: usize,
    links: Vec<Link>,
    /// What is under way, or a free place.
    in_flight: Vec<Option<Envelope<N>>>,
    free_slots: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// Messages sent so far.
    sent: u32,
    /// Messages under way.
    queued: u32,
    /// Partitions that cut this link now (N6).
    cuts: u32,
    /// It holds everything until then (N5).
    clogged_until_us: u64,
    /// Whether that is a swizzle's doing (N7).
    clogged_by_swizzle: bool,
}

#[derive(Clone, Debug)]
struct Envelope<N: Node> {
    from: u16,
    to: u16,
    /// The lives of sender and receiver when it was sent: it may outlive both.
    incarnations: (u32, u32),
    /// Which message of its link it is, from 0: the order of the queue, of which N8 loses one.
    ordinal: u32,
    is_duplicate: bool,
    flipped_bit: Option<u32>,
    payload: Payload<N>,
}

#[derive(Clone, Debug)]
enum Payload<N: Node> {
    Peer(N::Message),
    Ask(RequestId, N::Request),
    Answer(RequestId, N::Response),
}

impl<N: Node> Payload<N> {
    fn about(&self) -> About {
        match self {
            Payload::Peer(message) => message.about(),
            Payload::Ask(id, request) => about_request(request.kind(), *id),
            Payload::Answer(id, response) => about_request(response.kind(), *id),
        }
    }
}

/// What goes between client and node is about its request, whatever else its label says: leaving one request out must
/// not rename what happens to another.
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
        (self.endpoint_count, self.nodes) = (nodes + clients, nodes);
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
    fn end(&self, index: u16) -> Endpoint {
        if usize::from(index) < self.nodes {
            Endpoint::Node(NodeId(index))
        } else {
            Endpoint::Client(u32::from(index) - self.nodes as u32 + 1)
        }
    }

    fn index(&self, end: Endpoint) -> u16 {
        match end {
            Endpoint::Node(node) => node.0,
            Endpoint::Client(client) => (self.nodes as u32 + client - 1) as u16,
        }
    }

    /// Puts a message on its link. Whoever builds it in the argument builds it in its place.
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

    /// Takes a message off its link; `None` if it was lost from the queue meanwhile.
    #[inline(always)]
    fn dequeue(&mut self, slot: u32) -> Option<Envelope<N>> {
        self.free_slots.push(slot);
        let envelope = self.in_flight[slot as usize].take()?;
        let link = self.link(envelope.from, envelope.to);
        self.links[link].queued -= 1;
        Some(envelope)
    }

    /// N8: the `victim`th message under way on a link, the one sent first being number 0, is lost; its slot stays
    /// taken until its time comes.
    fn evict(&mut self, from: u16, to: u16, victim: u32) -> Option<Envelope<N>> {
        let place = |(slot, envelope): (usize, &Option<Envelope<N>>)| {
            let envelope =
                envelope.as_ref().filter(|envelope| (envelope.from, envelope.to) == (from, to))?;
            Some((envelope.ordinal, envelope.is_duplicate, slot))
        };
        let mut queue: Vec<_> = self.in_flight.iter().enumerate().filter_map(place).collect();
        queue.sort_unstable();
        let &(.., slot) = queue.get(victim as usize)?;
        let link = self.link(from, to);
        self.links[link].queued -= 1;
        self.in_flight[slot].take()
    }

    pub(super) fn cut(&mut self, from: &[Endpoint], to: &[Endpoint], cuts: impl Fn(u32) -> u32) {
        for &a in from {
            for &b in to {
                let link = self.link(self.index(a), self.index(b));
                self.links[link].cuts = cuts(self.links[link].cuts);
            }
        }
    }

    pub(super) fn clog(&mut self, from: Endpoint, to: Endpoint, until_us: u64, swizzle: bool) {
        let link = self.link(self.index(from), self.index(to));
        let link = &mut self.links[link];
        if until_us > link.clogged_until_us {
            (link.clogged_until_us, link.clogged_by_swizzle) = (until_us, swizzle);
        }
    }

    pub(super) fn heal(&mut self) {
        for link in &mut self.links {
            (link.cuts, link.clogged_until_us) = (0, 0);
        }
    }

    /// The link of a message under way, its place in the timing, and whether a client is at one end.
    pub(super) fn place(&self, slot: u32) -> Option<(u32, u32, bool)> {
        let envelope = self.in_flight[slot as usize].as_ref()?;
        let link = self.link(envelope.from, envelope.to);
        let clients = usize::from(envelope.from.max(envelope.to)) >= self.nodes;
        Some((link as u32, self.links[link].sent + slot, clients))
    }
}

impl<N, W, J, C> World<N, W, J, C>
where
    N: Node,
    W: Workload<N>,
    J: Checker<N>,
    C: Chooser,
{
    #[inline(always)]
    pub(super) fn send(&mut self, from: NodeId, to: NodeId, message: N::Message) {
        assert!(from != to, "a node never sends to itself");
        assert!(to.0 < self.plan.nodes, "{to} is no node of this cluster");
        self.transmit(from.0, to.0, Payload::Peer(message));
    }

    pub(super) fn send_request(&mut self, id: RequestId, node: NodeId, request: N::Request) {
        let from = self.network.index(Endpoint::client_of(id));
        self.transmit(from, node.0, Payload::Ask(id, request));
    }

    pub(super) fn send_response(&mut self, node: NodeId, id: RequestId, response: N::Response) {
        if id.client == 0 || id.client > u64::from(self.plan.clients) {
            return;
        }
        let to = self.network.index(Endpoint::client_of(id));
        self.transmit(node.0, to, Payload::Answer(id, response));
    }

    #[inline(always)]
    fn transmit(&mut self, from: u16, to: u16, payload: Payload<N>) {
        let link = self.network.link(from, to);
        let place = &mut self.network.links[link];
        let ordinal = place.sent;
        place.sent += 1;
        let (queued, cut) = (place.queued, place.cuts > 0);
        let clients = usize::from(from.max(to)) >= self.network.nodes;
        let faults_active = self.phase == Phase::Simulation;
        let delay_us = self.plan.timing.delay_us(link as u32, ordinal, clients, faults_active);
        if faults_active && delay_us > self.plan.timing.base_us_max(clients) {
            self.tally.hit(Rule::MessageDelayed);
        }
        let incarnations = (self.incarnation_at(from), self.incarnation_at(to));
        let fault = if self.fault_classes.messages {
            let (a, b) = (self.network.end(from), self.network.end(to));
            let about = payload.about();
            self.chooser.message(&SendPoint {
                from: a,
                to: b,
                link: link as u32,
                ordinal,
                about,
                queued,
            })
        } else {
            None
        };
        if cut || fault.is_some() {
            let envelope = Envelope {
                from,
                to,
                incarnations,
                ordinal,
                is_duplicate: false,
                flipped_bit: None,
                payload,
            };
            return self.transmit_with_fault(envelope, delay_us, fault.filter(|_| !cut));
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

    /// The link is cut, or else something happens to the message.
    #[cold]
    fn transmit_with_fault(
        &mut self,
        envelope: Envelope<N>,
        delay_us: u64,
        fault: Option<MessageFault>,
    ) {
        match fault {
            None => self.drop_message(&envelope, "partition"),
            Some(fault) => self.apply_message_fault(envelope, delay_us, fault),
        }
    }

    #[inline(always)]
    fn schedule_delivery(&mut self, envelope: Envelope<N>, delay_us: u64) {
        let slot = self.network.enqueue(envelope);
        self.queue.push(self.now_us + delay_us, Event::Deliver { slot });
    }

    /// What the chooser lets happen to one message: N1 it takes very long, N2 it is lost, N3 a copy flies too, with a
    /// delay of its own, N4 a bit of it is flipped, N8 another has to make room for it.
    fn apply_message_fault(
        &mut self,
        mut envelope: Envelope<N>,
        delay_us: u64,
        fault: MessageFault,
    ) {
        let (from, to) = (self.network.end(envelope.from), self.network.end(envelope.to));
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
                    self.drop_message(&lost, "queue full");
                }
                self.schedule_delivery(envelope, delay_us);
            }
        }
    }

    #[cold]
    /// N6: it comes to nobody, since the link is cut; or nobody is there.
    fn drop_message(&mut self, envelope: &Envelope<N>, reason: &'static str) {
        let (from, to) = (self.network.end(envelope.from), self.network.end(envelope.to));
        if reason == "partition" {
            self.tally.hit(Rule::Partitioned);
            let reverse_link = self.network.link(envelope.to, envelope.from);
            self.tally.one_way += u64::from(self.network.links[reverse_link].cuts == 0);
        }
        self.observe(
            self.observer_node(from, to),
            &Fact::Lost { from, to, about: envelope.payload.about(), reason },
        );
    }

    /// The node that a fact about a message is told of: the sender, unless that is a client.
    fn observer_node(&self, from: Endpoint, to: Endpoint) -> NodeId {
        match (from, to) {
            (Endpoint::Node(node), _) | (Endpoint::Client(_), Endpoint::Node(node)) => node,
            (Endpoint::Client(_), Endpoint::Client(_)) => NodeId(0),
        }
    }

    #[inline]
    fn incarnation_at(&self, end: u16) -> u32 {
        self.hosts.get(usize::from(end)).map_or(0, |host| host.incarnation)
    }

    pub(super) fn deliver(&mut self, slot: u32) {
        let Some(envelope) = &self.network.in_flight[slot as usize] else {
            self.network.free_slots.push(slot);
            return;
        };
        let (from, to) = (envelope.from, envelope.to);
        let link = &self.network.links[self.network.link(from, to)];
        let (clogged_until_us, cut) = (link.clogged_until_us, link.cuts > 0);
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
        let envelope = self.network.dequeue(slot).expect("it was there a moment ago");
        if cut {
            self.drop_message(&envelope, "partition");
            return;
        }
        self.receive(envelope);
    }

    #[inline(always)]
    fn receive(&mut self, envelope: Envelope<N>) {
        if self.plan.wire || envelope.flipped_bit.is_some() {
            return self.receive_encoded(envelope);
        }
        self.dispatch(envelope);
    }

    /// N4: the bytes that would be on the wire arrive; a damaged frame is dropped by its receiver.
    #[cold]
    fn receive_encoded(&mut self, envelope: Envelope<N>) {
        let payload = match &envelope.payload {
            Payload::Peer(message) => {
                self.encode_and_decode(message, envelope.flipped_bit).map(Payload::Peer)
            }
            Payload::Ask(id, request) => self
                .encode_and_decode(request, envelope.flipped_bit)
                .map(|request| Payload::Ask(*id, request)),
            Payload::Answer(id, response) => self
                .encode_and_decode(response, envelope.flipped_bit)
                .map(|response| Payload::Answer(*id, response)),
        };
        match payload {
            Some(payload) => self.dispatch(Envelope { payload, ..envelope }),
            None => self.drop_message(&envelope, "damaged"),
        }
    }

    #[inline(always)]
    fn dispatch(&mut self, envelope: Envelope<N>) {
        let (from, to) = (NodeId(envelope.from), NodeId(envelope.to));
        if usize::from(envelope.to) >= self.hosts.len() {
            let Payload::Answer(id, response) = &envelope.payload else { return };
            self.observe(from, &Fact::Answered { id: *id, response });
            self.clients(ClientEvent::Answer { from, id: *id, response });
            return;
        }
        if self.hosts[usize::from(to.0)].node.is_none() {
            self.drop_message(&envelope, "down");
            return;
        }
        match envelope.payload {
            Payload::Ask(id, request) => self.step(to, Input::Request { id, request }),
            Payload::Peer(message) => {
                self.tally.delivered += 1;
                self.tally.duplicates += u64::from(envelope.is_duplicate);
                self.tally.late += u64::from(
                    envelope.incarnations
                        != (self.incarnation_at(from.0), self.incarnation_at(to.0)),
                );
                self.step(to, Input::Message { from, message });
            }
            Payload::Answer(..) => {}
        }
    }

    /// Through the wire's encoding and back.
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
