use serde::{Serialize, de::DeserializeOwned};
use stormglass::{About, Input, Label, Node, NodeId, RequestId, Subject};

use super::{Event, Phase, World};
use crate::chooser::{Chooser, SendPoint};
use crate::fault::{End, MessageFault};
use crate::oracle::{Fact, Judge};
use crate::tally::Rule;
use crate::workload::{ClientEvent, Workload};
use stormglass::wire;

/// The links, and what is under way on them. Ends are numbered densely: nodes first, then clients.
#[derive(Clone, Debug)]
pub(super) struct Network<N: Node> {
    ends: usize,
    nodes: usize,
    links: Vec<Link>,
    /// What is under way, or a free place.
    flights: Vec<Option<Flight<N>>>,
    free: Vec<u32>,
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
    swizzled: bool,
}

#[derive(Clone, Debug)]
struct Flight<N: Node> {
    from: u16,
    to: u16,
    /// The lives of sender and receiver when it was sent: it may outlive both.
    lives: (u32, u32),
    /// Which message of its link it is, from 0: the order of the queue, of which N8 loses one.
    ordinal: u32,
    copy: bool,
    flipped: Option<u32>,
    cargo: Cargo<N>,
}

#[derive(Clone, Debug)]
enum Cargo<N: Node> {
    Peer(N::Message),
    Ask(RequestId, N::Request),
    Answer(RequestId, N::Response),
}

impl<N: Node> Cargo<N> {
    fn about(&self) -> About {
        match self {
            Cargo::Peer(message) => message.about(),
            Cargo::Ask(id, request) => named(request.kind(), *id),
            Cargo::Answer(id, response) => named(response.kind(), *id),
        }
    }
}

/// What goes between client and node is about its request, whatever else its label says: leaving one request out must
/// not rename what happens to another.
fn named(kind: &'static str, id: RequestId) -> About {
    About { kind, subject: Some(Subject::Request(id)) }
}

impl<N: Node> Default for Network<N> {
    fn default() -> Self {
        Network { ends: 0, nodes: 0, links: Vec::new(), flights: Vec::new(), free: Vec::new() }
    }
}

impl<N: Node> Network<N> {
    pub(super) fn reset(&mut self, nodes: usize, clients: usize) {
        (self.ends, self.nodes) = (nodes + clients, nodes);
        self.links.clear();
        self.links.resize(self.ends * self.ends, Link::default());
        self.flights.clear();
        self.free.clear();
    }

    #[inline]
    fn link(&self, from: u16, to: u16) -> usize {
        usize::from(from) * self.ends + usize::from(to)
    }

    #[inline]
    fn end(&self, index: u16) -> End {
        if usize::from(index) < self.nodes {
            End::Node(NodeId(index))
        } else {
            End::Client(u32::from(index) - self.nodes as u32 + 1)
        }
    }

    fn index(&self, end: End) -> u16 {
        match end {
            End::Node(node) => node.0,
            End::Client(client) => (self.nodes as u32 + client - 1) as u16,
        }
    }

    /// Puts a message on its link. Whoever builds it in the argument builds it in its place.
    #[inline(always)]
    fn board(&mut self, flight: Flight<N>) -> u32 {
        let link = self.link(flight.from, flight.to);
        self.links[link].queued += 1;
        let Some(slot) = self.free.pop() else {
            self.flights.push(Some(flight));
            return (self.flights.len() - 1) as u32;
        };
        self.flights[slot as usize] = Some(flight);
        slot
    }

    /// Takes a message off its link; `None` if it was lost from the queue meanwhile.
    #[inline(always)]
    fn land(&mut self, slot: u32) -> Option<Flight<N>> {
        self.free.push(slot);
        let flight = self.flights[slot as usize].take()?;
        let link = self.link(flight.from, flight.to);
        self.links[link].queued -= 1;
        Some(flight)
    }

    /// N8: the `victim`th message under way on a link, the one sent first being number 0, is lost; its slot stays
    /// taken until its time comes.
    fn evict(&mut self, from: u16, to: u16, victim: u32) -> Option<Flight<N>> {
        let place = |(slot, flight): (usize, &Option<Flight<N>>)| {
            let flight = flight.as_ref().filter(|flight| (flight.from, flight.to) == (from, to))?;
            Some((flight.ordinal, flight.copy, slot))
        };
        let mut queue: Vec<_> = self.flights.iter().enumerate().filter_map(place).collect();
        queue.sort_unstable();
        let &(.., slot) = queue.get(victim as usize)?;
        let link = self.link(from, to);
        self.links[link].queued -= 1;
        self.flights[slot].take()
    }

    pub(super) fn cut(&mut self, from: &[End], to: &[End], cuts: impl Fn(u32) -> u32) {
        for &a in from {
            for &b in to {
                let link = self.link(self.index(a), self.index(b));
                self.links[link].cuts = cuts(self.links[link].cuts);
            }
        }
    }

    pub(super) fn clog(&mut self, from: End, to: End, until_us: u64, swizzle: bool) {
        let link = self.link(self.index(from), self.index(to));
        let link = &mut self.links[link];
        if until_us > link.clogged_until_us {
            (link.clogged_until_us, link.swizzled) = (until_us, swizzle);
        }
    }

    pub(super) fn heal(&mut self) {
        for link in &mut self.links {
            (link.cuts, link.clogged_until_us) = (0, 0);
        }
    }

    /// The link of a message under way, its place in the timing, and whether a client is at one end.
    pub(super) fn place(&self, slot: u32) -> Option<(u32, u32, bool)> {
        let flight = self.flights[slot as usize].as_ref()?;
        let link = self.link(flight.from, flight.to);
        let clients = usize::from(flight.from.max(flight.to)) >= self.nodes;
        Some((link as u32, self.links[link].sent + slot, clients))
    }
}

impl<N, W, J, C> World<N, W, J, C>
where
    N: Node,
    W: Workload<N>,
    J: Judge<N>,
    C: Chooser,
{
    #[inline(always)]
    pub(super) fn send(&mut self, from: NodeId, to: NodeId, message: N::Message) {
        assert!(from != to, "a node never sends to itself");
        assert!(to.0 < self.plan.nodes, "{to} is no node of this cluster");
        self.launch(from.0, to.0, Cargo::Peer(message));
    }

    pub(super) fn ask(&mut self, id: RequestId, node: NodeId, request: N::Request) {
        let from = self.network.index(End::asker(id));
        self.launch(from, node.0, Cargo::Ask(id, request));
    }

    pub(super) fn answer(&mut self, node: NodeId, id: RequestId, response: N::Response) {
        if id.client == 0 || id.client > u64::from(self.plan.clients) {
            return;
        }
        let to = self.network.index(End::asker(id));
        self.launch(node.0, to, Cargo::Answer(id, response));
    }

    #[inline(always)]
    fn launch(&mut self, from: u16, to: u16, cargo: Cargo<N>) {
        let link = self.network.link(from, to);
        let place = &mut self.network.links[link];
        let ordinal = place.sent;
        place.sent += 1;
        let (queued, cut) = (place.queued, place.cuts > 0);
        let clients = usize::from(from.max(to)) >= self.network.nodes;
        let stormy = self.phase == Phase::Storm;
        let delay_us = self.plan.timing.delay_us(link as u32, ordinal, clients, stormy);
        if stormy && delay_us > self.plan.timing.base_us_max(clients) {
            self.tally.bite(Rule::N1);
        }
        let lives = (self.life_at(from), self.life_at(to));
        let fault = if self.asks.messages {
            let (a, b) = (self.network.end(from), self.network.end(to));
            let about = cargo.about();
            self.chooser.message(&SendPoint { from: a, to: b, link: link as u32, ordinal, about, queued })
        } else {
            None
        };
        if cut || fault.is_some() {
            let flight = Flight { from, to, lives, ordinal, copy: false, flipped: None, cargo };
            return self.launch_badly(flight, delay_us, fault.filter(|_| !cut));
        }
        self.fly(Flight { from, to, lives, ordinal, copy: false, flipped: None, cargo }, delay_us);
    }

    /// The link is cut, or else something happens to the message.
    #[cold]
    fn launch_badly(&mut self, flight: Flight<N>, delay_us: u64, fault: Option<MessageFault>) {
        match fault {
            None => self.lose(&flight, "partition"),
            Some(fault) => self.mishap(flight, delay_us, fault),
        }
    }

    #[inline(always)]
    fn fly(&mut self, flight: Flight<N>, delay_us: u64) {
        let slot = self.network.board(flight);
        self.queue.push(self.now_us + delay_us, Event::Deliver { slot });
    }

    /// What the chooser lets happen to one message: N1 it takes very long, N2 it is lost, N3 a copy flies too, with a
    /// delay of its own, N4 a bit of it is flipped, N8 another has to make room for it.
    fn mishap(&mut self, mut flight: Flight<N>, delay_us: u64, fault: MessageFault) {
        let (from, to) = (self.network.end(flight.from), self.network.end(flight.to));
        let about = flight.cargo.about();
        self.see(self.nearest(from, to), &Fact::MessageFault { from, to, about, fault });
        match fault {
            MessageFault::Lose => self.tally.bite(Rule::N2),
            MessageFault::Duplicate { after_us } => {
                self.tally.bite(Rule::N3);
                self.fly(Flight { copy: true, ..flight.clone() }, after_us);
                self.fly(flight, delay_us);
            }
            MessageFault::Delay { by_us } => {
                self.tally.bite(Rule::N1);
                self.fly(flight, delay_us + by_us);
            }
            MessageFault::Flip { bit } => {
                flight.flipped = Some(bit);
                self.fly(flight, delay_us);
            }
            MessageFault::Evict { victim } => {
                if let Some(lost) = self.network.evict(flight.from, flight.to, victim) {
                    self.tally.bite(Rule::N8);
                    self.lose(&lost, "queue full");
                }
                self.fly(flight, delay_us);
            }
        }
    }

    #[cold]
    /// N6: it comes to nobody, since the link is cut; or nobody is there.
    fn lose(&mut self, flight: &Flight<N>, why: &'static str) {
        let (from, to) = (self.network.end(flight.from), self.network.end(flight.to));
        if why == "partition" {
            self.tally.bite(Rule::N6);
            let back = self.network.link(flight.to, flight.from);
            self.tally.one_way += u64::from(self.network.links[back].cuts == 0);
        }
        self.see(self.nearest(from, to), &Fact::Lost { from, to, about: flight.cargo.about(), why });
    }

    /// The node that a fact about a message is told of: the sender, unless that is a client.
    fn nearest(&self, from: End, to: End) -> NodeId {
        match (from, to) {
            (End::Node(node), _) | (End::Client(_), End::Node(node)) => node,
            (End::Client(_), End::Client(_)) => NodeId(0),
        }
    }

    #[inline]
    fn life_at(&self, end: u16) -> u32 {
        self.hosts.get(usize::from(end)).map_or(0, |host| host.life)
    }

    pub(super) fn deliver(&mut self, slot: u32) {
        let Some(flight) = &self.network.flights[slot as usize] else {
            self.network.free.push(slot);
            return;
        };
        let (from, to) = (flight.from, flight.to);
        let link = &self.network.links[self.network.link(from, to)];
        let (clogged_until_us, cut) = (link.clogged_until_us, link.cuts > 0);
        if clogged_until_us > self.now_us {
            self.tally.bite(if link.swizzled { Rule::N7 } else { Rule::N5 });
            self.queue.push(clogged_until_us, Event::Deliver { slot });
            return;
        }
        if usize::from(to) < self.hosts.len() && self.postponed(NodeId(to), Event::Deliver { slot }) {
            return;
        }
        let flight = self.network.land(slot).expect("it was there a moment ago");
        if cut {
            self.lose(&flight, "partition");
            return;
        }
        self.arrive(flight);
    }

    #[inline(always)]
    fn arrive(&mut self, flight: Flight<N>) {
        if self.plan.wire || flight.flipped.is_some() {
            return self.arrive_as_bytes(flight);
        }
        self.hand_over(flight);
    }

    /// N4: the bytes that would be on the wire arrive; a damaged frame is dropped by its receiver.
    #[cold]
    fn arrive_as_bytes(&mut self, flight: Flight<N>) {
        let cargo = match &flight.cargo {
            Cargo::Peer(message) => self.carry(message, flight.flipped).map(Cargo::Peer),
            Cargo::Ask(id, request) => {
                self.carry(request, flight.flipped).map(|request| Cargo::Ask(*id, request))
            }
            Cargo::Answer(id, response) => {
                self.carry(response, flight.flipped).map(|response| Cargo::Answer(*id, response))
            }
        };
        match cargo {
            Some(cargo) => self.hand_over(Flight { cargo, ..flight }),
            None => self.lose(&flight, "damaged"),
        }
    }

    #[inline(always)]
    fn hand_over(&mut self, flight: Flight<N>) {
        let (from, to) = (NodeId(flight.from), NodeId(flight.to));
        if usize::from(flight.to) >= self.hosts.len() {
            let Cargo::Answer(id, response) = &flight.cargo else { return };
            self.see(from, &Fact::Answered { id: *id, response });
            self.clients(ClientEvent::Answer { from, id: *id, response });
            return;
        }
        if self.hosts[usize::from(to.0)].node.is_none() {
            self.lose(&flight, "down");
            return;
        }
        match flight.cargo {
            Cargo::Ask(id, request) => self.step(to, Input::Request { id, request }),
            Cargo::Peer(message) => {
                self.tally.delivered += 1;
                self.tally.duplicates += u64::from(flight.copy);
                self.tally.late += u64::from(flight.lives != (self.life_at(from.0), self.life_at(to.0)));
                self.step(to, Input::Message { from, message });
            }
            Cargo::Answer(..) => {}
        }
    }

    /// Through the wire's encoding and back.
    fn carry<T: Serialize + DeserializeOwned>(&mut self, value: &T, flipped: Option<u32>) -> Option<T> {
        let mut frame = wire::seal(value);
        if let Some(bit) = flipped {
            let bit = bit as usize % (frame.len() * 8);
            frame[bit / 8] ^= 1 << (bit % 8);
            self.tally.bite(Rule::N4);
        }
        wire::open(&frame).ok()
    }
}
