//! How a new incarnation becomes known to its peers, before it answers anybody.
//!
//! An id and a number do not name one history: a directory that was restored, copied or emptied, or
//! started under the id of another node, leads to an incarnation that lacks what its peers have seen
//! of this node. Such an incarnation must do nothing. Therefore:
//!
//! 1. Once its boot snapshot is durable, an incarnation sends `Hello` to every peer, with its
//!    *ancestors*: the incarnations of which its log contains all records.
//! 2. A peer remembers one incarnation of each node. It welcomes an incarnation that is the one it
//!    remembers or has it among its ancestors, and whose log is not shorter than it was. It forces
//!    MET first, so that it remembers the new one from then on. It refuses any other, once it
//!    answers others itself.
//! 3. An incarnation answers clients and other nodes, but for `Hello`, once a majority of its peers
//!    has welcomed it. If one refuses it before, it halts.
//!
//! Every two majorities have a peer in common. So if one incarnation has answered anybody, an
//! incarnation without its records is refused by that peer, or not welcomed by enough of them, as
//! long as the majority keeps its own disks. The node itself does not count, as it is its disk that
//! is in doubt. The majority is of the peers: both of two, two of three, three of four.

use std::sync::Arc;

use super::context::{Context, MetPeer};
use super::event::Event;
use super::message::{Body, Message, RecordIsDurable};
use super::node::CommitNode;
use super::state::{KnownPeer, State};
use super::timers::Timer;
use super::tx_id::TxId;
use stormglass_node::contract::{HaltReason, Outbox};
use stormglass_node::id::{Incarnation, NodeId, Time};
use stormglass_node::wal::Durable;

/// How often an incarnation that answers already repeats Hello to a peer that is silent. A peer that
/// boots says Hello itself, and receives one then.
const REPEATS_MAX: u32 = 10;

/// How many ancestors are remembered. A peer that remembers none of the last so many incarnations
/// refuses the node.
const ANCESTORS_MAX: usize = 64;

/// The introduction of this incarnation to its peers, and theirs to it.
#[derive(Clone, Debug)]
pub(super) struct Introduction {
    ancestors: Arc<[Incarnation]>,
    /// The number of records in the log with which this incarnation began.
    log_position: u64,
    /// The peers that have not welcomed it, in ascending order.
    awaited: Vec<NodeId>,
    /// How many more have to welcome it before it answers anybody.
    missing: usize,
    answers: bool,
    tries: u32,
    hello_at: Time,
    /// Sorted by peer.
    known: Vec<Known>,
}

#[derive(Clone, Debug)]
struct Known {
    peer: KnownPeer,
    /// The proof that it will be remembered.
    proof: Option<Durable<MetPeer>>,
}

/// The ancestors of the incarnation that follows the one in this state.
pub(super) fn ancestors_of_next(state: &State) -> Vec<Incarnation> {
    let mut ancestors = state.ancestors.clone();
    if state.incarnation != Incarnation::default() {
        ancestors.push(state.incarnation);
    }
    let excess = ancestors.len().saturating_sub(ANCESTORS_MAX);
    ancestors.drain(..excess);
    ancestors
}

impl Introduction {
    pub(super) fn new(
        cx: &Context,
        ancestors: Vec<Incarnation>,
        log_position: u64,
        peers: Vec<KnownPeer>,
    ) -> Introduction {
        let config = cx.config();
        let mut awaited = Vec::new();
        let mut lost = 0;
        for peer in config.nodes.iter().filter(|node| **node != cx.id()) {
            awaited.push(*peer);
            lost += usize::from(config.lost.contains(peer));
        }
        awaited.sort_unstable();
        // A majority of the peers, of whom those declared lost count as if they had welcomed it.
        let majority = awaited.len() / 2 + usize::from(!awaited.is_empty());
        let missing = majority.saturating_sub(lost);
        let known = peers.into_iter().map(|peer| Known { peer, proof: None });
        Introduction {
            ancestors: ancestors.into(),
            log_position,
            awaited,
            missing,
            answers: false,
            tries: 0,
            hello_at: Time(0),
            known: known.collect(),
        }
    }

    /// Whether enough peers have welcomed this incarnation.
    pub(super) fn answers(&self) -> bool {
        self.answers
    }

    /// The peers that have not welcomed this incarnation.
    pub(super) fn awaited(&self) -> &[NodeId] {
        &self.awaited
    }

    /// Adds what this half knows to the durable state.
    pub(super) fn add_to(&self, state: &mut State) {
        state.ancestors = self.ancestors.to_vec();
        state.peers = self.known.iter().map(|known| known.peer).collect();
    }
}

/// The side of the new incarnation.
impl Introduction {
    /// The boot snapshot is durable: says Hello. Returns whether this incarnation answers now.
    pub(super) fn begin(&mut self, cx: &mut Context, out: &mut Outbox<CommitNode>) -> bool {
        for proof in cx.take_recovered_met() {
            if let Some(known) = self.known_mut(proof.get().peer) {
                known.proof = Some(proof);
            }
        }
        self.say_hello(cx, out);
        self.answers = self.missing == 0;
        self.answers
    }

    /// Says Hello to all peers that have not welcomed this incarnation, again.
    pub(super) fn on_hello_timer(&mut self, cx: &mut Context, out: &mut Outbox<CommitNode>) {
        self.tries += 1;
        // An operator may have to act, so it is reported, and ever more rarely.
        if !self.answers && self.tries.is_power_of_two() && self.tries > 1 {
            let missing = u32::try_from(self.missing).unwrap_or(u32::MAX);
            out.report(Event::Unconfirmed { incarnation: cx.incarnation(), missing });
        }
        if !self.answers || self.tries < REPEATS_MAX {
            self.say_hello(cx, out);
        }
    }

    fn say_hello(&mut self, cx: &mut Context, out: &mut Outbox<CommitNode>) {
        if self.awaited.is_empty() {
            return;
        }
        for peer in &self.awaited {
            self.send_hello(cx, *peer, out);
        }
        self.hello_at = cx.now() + cx.backoff(self.tries);
        cx.set_timer(self.hello_at, Timer::Hello, own(cx));
    }

    fn send_hello(&self, cx: &Context, to: NodeId, out: &mut Outbox<CommitNode>) {
        let body = Body::Hello {
            ancestors: Arc::clone(&self.ancestors),
            log_position: self.log_position.max(cx.wal().durable()),
            lost: cx.lost(),
        };
        out.send(to, Message::about_incarnation(cx.id(), cx.incarnation(), body));
    }

    /// Returns whether this incarnation answers from now on.
    pub(super) fn on_welcome(&mut self, cx: &mut Context, from: NodeId, about: TxId) -> bool {
        // Late, and about an earlier incarnation; or repeated.
        if about != own(cx) {
            return false;
        }
        let Ok(at) = self.awaited.binary_search(&from) else { return false };
        self.awaited.remove(at);
        self.missing = self.missing.saturating_sub(1);
        if self.awaited.is_empty() {
            cx.cancel_timer(self.hello_at, Timer::Hello, own(cx));
        }
        let begins = !self.answers && self.missing == 0;
        self.answers |= begins;
        begins
    }

    pub(super) fn on_refuse(
        &mut self,
        cx: &mut Context,
        from: NodeId,
        about: TxId,
        known: Incarnation,
        log_position: u64,
        out: &mut Outbox<CommitNode>,
    ) {
        if about != own(cx) {
            return;
        }
        out.report(Event::Refused { by: from, known });
        // A majority knows better than the peer: what it remembers has answered nobody.
        if self.answers {
            return;
        }
        cx.cancel_timer(self.hello_at, Timer::Hello, own(cx));
        let id = cx.id();
        let reason = if self.ancestors.contains(&known) {
            format!(
                "{from} has seen {log_position} records of {id}, whose log ends with record {}: \
                 the end of the log is lost, or the data directory is an older copy",
                self.log_position
            )
        } else {
            format!(
                "{from} has met {id} as incarnation {known:#}, of which the data directory knows \
                 nothing: it is an older copy or was emptied, or another process runs as {id}"
            )
        };
        out.halt(HaltReason::OperatorNeeded(reason));
    }
}

/// The side of the peer.
impl Introduction {
    pub(super) fn on_hello(
        &mut self,
        cx: &mut Context,
        from: NodeId,
        incarnation: Incarnation,
        ancestors: &[Incarnation],
        log_position: u64,
        lost: Incarnation,
        out: &mut Outbox<CommitNode>,
    ) {
        let met = MetPeer { peer: from, incarnation };
        if let Some(known) = self.known_mut(from) {
            if known.peer.incarnation == incarnation {
                // Repeated: Welcome was lost, or follows once MET is durable.
                if let Some(proof) = known.proof {
                    send_welcome(proof, out);
                }
                return;
            }
            let KnownPeer { incarnation: last, log_position: length, .. } = known.peer;
            // The records of an incarnation that an operator has declared lost may be missing.
            let is_shorter = log_position < length && last.number() > lost.number();
            if !ancestors.contains(&last) || is_shorter {
                // What a node remembers that answers nobody may itself be an older copy. The peer
                // says Hello again.
                if !self.answers {
                    return;
                }
                if last.number() <= incarnation.number() {
                    out.report(Event::PeerRefused { peer: from, incarnation, known: last });
                }
                let body = Body::Refuse { known: last, log_position: length };
                return out.send(from, Message::about_incarnation(from, incarnation, body));
            }
        }
        self.remember(KnownPeer { peer: from, incarnation, log_position });
        cx.append_met(met, log_position, out);
        // It has just begun, so a Hello that was sent to it before is lost.
        if self.awaited.binary_search(&from).is_ok() {
            self.send_hello(cx, from, out);
        }
    }

    /// The log of a peer is so long at least. Only messages about transactions show it: those that
    /// introduce an incarnation may overtake its Hello, and a Hello that is older than what the
    /// receiver knows would be refused.
    #[inline]
    pub(super) fn on_log_position(&mut self, from: NodeId, log_position: u64) {
        if let Some(known) = self.known_mut(from) {
            let length = &mut known.peer.log_position;
            *length = log_position.max(*length);
        }
    }

    fn remember(&mut self, peer: KnownPeer) {
        let known = Known { peer, proof: None };
        match self.known.binary_search_by_key(&peer.peer, |known| known.peer.peer) {
            Ok(at) => self.known[at] = known,
            Err(at) => self.known.insert(at, known),
        }
    }

    fn known_mut(&mut self, peer: NodeId) -> Option<&mut Known> {
        let at = self.known.binary_search_by_key(&peer, |known| known.peer.peer).ok()?;
        Some(&mut self.known[at])
    }

    /// MET is durable: Welcome.
    pub(super) fn on_met_durable(&mut self, proof: Durable<MetPeer>, out: &mut Outbox<CommitNode>) {
        let MetPeer { peer, incarnation } = *proof.get();
        // The peer may have come back since, as its next incarnation.
        if let Some(known) =
            self.known_mut(peer).filter(|known| known.peer.incarnation == incarnation)
        {
            known.proof = Some(proof);
            send_welcome(proof, out);
        }
    }
}

fn send_welcome(proof: Durable<MetPeer>, out: &mut Outbox<CommitNode>) {
    let MetPeer { peer, incarnation } = *proof.get();
    let body = Body::Welcome { proof: RecordIsDurable::by(&proof) };
    out.send(peer, Message::about_incarnation(peer, incarnation, body));
}

/// The transaction 0 of this incarnation.
fn own(cx: &Context) -> TxId {
    TxId::of_incarnation(cx.id(), cx.incarnation())
}
