//! How a new incarnation becomes known to its peers, before it answers anybody.
//!
//! An id and a number do not name one history: a directory that was restored, copied or emptied, or
//! started under the id of another node, leads to an incarnation that lacks what its peers have
//! seen of this node. Such an incarnation must do nothing. Therefore:
//!
//! 1. Once its boot snapshot is durable, an incarnation sends `Hello` to every peer, with its
//!    *ancestors*: the incarnations of which its log contains all records.
//! 2. A peer remembers one incarnation of each node. An incarnation *follows* it that is the same
//!    or has it among its ancestors, and whose log is not shorter than it was. The peer answers
//!    `Welcome`, or `Refuse` to one that does not follow. A peer that answers nobody itself does
//!    not refuse, as its own memory may be that of an older copy.
//! 3. An incarnation that is welcome to a majority of its peers sends `Remember` to all. A peer
//!    that remembers none, or one that it follows, forces MET, remembers it from then on, and
//!    answers `Remembered`.
//! 4. An incarnation answers clients and transactions once a majority of its peers remembers it. If
//!    one refuses it before, it halts.
//!
//! Every two majorities have a peer in common. So if one incarnation has answered anybody, an
//! incarnation without its records is refused by that peer, or is not welcome to enough of them, as
//! long as the majority keeps its own disks. The node itself does not count, as it is its disk that
//! is in doubt. The majority is of the peers: both of two, two of three, three of four.
//!
//! Nothing is remembered of an incarnation that is refused at its Hello. Otherwise the right
//! directory, once it is put back, would not follow that one.

use std::sync::Arc;

use super::context::Context;
use super::event::Event;
use super::message::{Body, Introducing, Message, RecordIsDurable};
use super::node::CommitNode;
use super::state::{KnownPeer, State};
use super::timers::Timer;
use super::tx_id::TxId;
use stormglass_node::contract::{HaltReason, Outbox};
use stormglass_node::id::{Incarnation, NodeId, Time};
use stormglass_node::wal::Durable;

/// How often an incarnation that answers already repeats itself to a peer that is silent. A peer
/// that boots says Hello, and is answered in the same way.
const REPEATS_MAX: u32 = 10;

/// How many ancestors are kept once all peers have confirmed this incarnation. Then none of them is
/// needed; the last ones serve a peer that has forgotten what it confirmed.
const CONFIRMED_ANCESTORS_MAX: usize = 64;

/// How many ancestors are kept as long as a peer has not confirmed this incarnation. A peer that is
/// away during more starts refuses the node, until an operator names what it remembers.
const ANCESTORS_MAX: usize = 4_096;

/// The record that a peer has said Hello as this incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MetPeer {
    pub(super) peer: NodeId,
    pub(super) incarnation: Incarnation,
}

/// The introduction of this incarnation to its peers, and theirs to it.
#[derive(Clone, Debug)]
pub(super) struct Introduction {
    ancestors: Arc<[Incarnation]>,
    /// The number of records in the log with which this incarnation began, for a refusal.
    log_position: u64,
    stage: Stage,
    /// The peers that have not answered `Welcome` or, later, `Remembered`; in ascending order.
    awaited: Vec<NodeId>,
    /// How many more have to before the next stage.
    missing: usize,
    tries: u32,
    repeat_at: Time,
    /// Sorted by peer.
    known: Vec<Known>,
    /// The incarnations that have introduced themselves last to this one, sorted by peer.
    heard: Vec<(NodeId, Incarnation)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It asks whether it is welcome.
    Hello,
    /// It is welcome to a majority.
    Remember,
    /// A majority remembers it.
    Answers,
}

#[derive(Clone, Debug)]
struct Known {
    peer: KnownPeer,
    /// The proof that it will be remembered.
    proof: Option<Durable<MetPeer>>,
}

/// The state with which a node begins again whose disk is lost.
pub(super) fn state_after_loss(replaces: &[Incarnation]) -> State {
    // Numbers ascend, so it is the last of them.
    let last = replaces.iter().copied().max().unwrap_or_default();
    State { incarnation: last, lost: last, ..State::default() }
}

/// The ancestors of the incarnation that follows the one in this state.
pub(super) fn ancestors_of_next(state: &State, replaces: &[Incarnation]) -> Vec<Incarnation> {
    let mut ancestors = state.ancestors.clone();
    ancestors.push(state.incarnation);
    // Before the first incarnation there is none.
    ancestors.retain(|ancestor| *ancestor != Incarnation::default());
    let mut ancestors = last_of(&ancestors, ANCESTORS_MAX);
    // Whatever their numbers are: an operator has named them.
    ancestors.extend_from_slice(replaces);
    ancestors.sort_unstable();
    ancestors.dedup();
    ancestors
}

/// The last so many of them, in ascending order.
fn last_of(ancestors: &[Incarnation], max: usize) -> Vec<Incarnation> {
    let mut ancestors = ancestors.to_vec();
    ancestors.sort_unstable();
    let excess = ancestors.len().saturating_sub(max);
    ancestors.split_off(excess)
}

impl Introduction {
    pub(super) fn new(
        cx: &Context,
        ancestors: Vec<Incarnation>,
        log_position: u64,
        peers: Vec<KnownPeer>,
    ) -> Introduction {
        let mut introduction = Introduction {
            ancestors: ancestors.into(),
            log_position,
            stage: Stage::Hello,
            awaited: Vec::new(),
            missing: 0,
            tries: 0,
            repeat_at: Time(0),
            known: peers.into_iter().map(|peer| Known { peer, proof: None }).collect(),
            heard: Vec::new(),
        };
        introduction.await_majority(cx);
        introduction
    }

    /// From now on all peers are awaited, and a majority is missing.
    fn await_majority(&mut self, cx: &Context) {
        let config = cx.config();
        self.awaited = config.nodes.iter().copied().filter(|node| *node != cx.id()).collect();
        self.awaited.sort_unstable();
        // Of the peers, those that are declared lost count as if they had answered.
        let lost = self.awaited.iter().filter(|peer| config.lost.contains(peer)).count();
        let majority = self.awaited.len() / 2 + usize::from(!self.awaited.is_empty());
        self.missing = majority.saturating_sub(lost);
        self.tries = 0;
    }

    /// Whether enough peers remember this incarnation.
    pub(super) fn answers(&self) -> bool {
        self.stage == Stage::Answers
    }

    /// The peers that have not confirmed this incarnation.
    pub(super) fn awaited(&self) -> &[NodeId] {
        &self.awaited
    }

    /// Adds what this half knows to the durable state.
    pub(super) fn add_to(&self, state: &mut State) {
        let all_confirmed = self.answers() && self.awaited.is_empty();
        let max = if all_confirmed { CONFIRMED_ANCESTORS_MAX } else { usize::MAX };
        state.ancestors = last_of(&self.ancestors, max);
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
        if self.missing == 0 {
            self.stage = Stage::Answers;
        }
        self.send_to_awaited(cx, out);
        self.answers()
    }

    /// Repeats what it has sent to all peers that have not answered.
    pub(super) fn on_timer(&mut self, cx: &mut Context, out: &mut Outbox<CommitNode>) {
        self.tries += 1;
        // An operator may have to act, so it is reported, and ever more rarely.
        if !self.answers() && self.tries.is_power_of_two() && self.tries > 1 {
            let missing = u32::try_from(self.missing).unwrap_or(u32::MAX);
            out.report(Event::Unconfirmed { incarnation: cx.incarnation(), missing });
        }
        if !self.answers() || self.tries < REPEATS_MAX {
            self.send_to_awaited(cx, out);
        }
    }

    fn send_to_awaited(&mut self, cx: &mut Context, out: &mut Outbox<CommitNode>) {
        if self.awaited.is_empty() {
            return;
        }
        for peer in &self.awaited {
            self.send_introduction(cx, *peer, out);
        }
        self.repeat_at = cx.now() + cx.backoff(self.tries);
        cx.set_timer(self.repeat_at, Timer::Introduce, own(cx));
    }

    fn send_introduction(&self, cx: &Context, to: NodeId, out: &mut Outbox<CommitNode>) {
        let introducing = Introducing {
            ancestors: Arc::clone(&self.ancestors),
            log_position: cx.wal().durable(),
            lost: cx.lost(),
        };
        let body = match self.stage {
            Stage::Hello => Body::Hello(introducing),
            Stage::Remember | Stage::Answers => Body::Remember(introducing),
        };
        out.send(to, Message::about_incarnation(cx.id(), cx.incarnation(), body));
    }

    pub(super) fn on_welcome(
        &mut self,
        cx: &mut Context,
        from: NodeId,
        about: TxId,
        out: &mut Outbox<CommitNode>,
    ) {
        if about == own(cx)
            && self.stage == Stage::Hello
            && self.stop_awaiting(cx, from)
            && self.missing == 0
        {
            cx.cancel_timer(self.repeat_at, Timer::Introduce, own(cx));
            self.stage = Stage::Remember;
            self.await_majority(cx);
            self.send_to_awaited(cx, out);
        }
    }

    /// Returns whether this incarnation answers from now on.
    pub(super) fn on_remembered(&mut self, cx: &mut Context, from: NodeId, about: TxId) -> bool {
        // Late, and about an earlier incarnation; or repeated.
        if about != own(cx) || self.stage == Stage::Hello || !self.stop_awaiting(cx, from) {
            return false;
        }
        let begins = self.stage == Stage::Remember && self.missing == 0;
        if begins {
            self.stage = Stage::Answers;
        }
        begins
    }

    /// A peer has answered. Returns whether it was awaited.
    fn stop_awaiting(&mut self, cx: &mut Context, peer: NodeId) -> bool {
        let Ok(at) = self.awaited.binary_search(&peer) else { return false };
        self.awaited.remove(at);
        self.missing = self.missing.saturating_sub(1);
        if self.awaited.is_empty() {
            cx.cancel_timer(self.repeat_at, Timer::Introduce, own(cx));
        }
        true
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
        if self.answers() {
            return;
        }
        cx.cancel_timer(self.repeat_at, Timer::Introduce, own(cx));
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
        about: TxId,
        introducing: &Introducing,
        out: &mut Outbox<CommitNode>,
    ) {
        let TxId { coordinator: peer, incarnation, .. } = about;
        if self.follows(about, introducing, out) {
            out.send(peer, Message::about_incarnation(peer, incarnation, Body::Welcome));
        }
        self.on_first_heard(cx, about, out);
    }

    /// The first time that this incarnation of a peer introduces itself: it may have just begun,
    /// and what was sent to it before is lost.
    fn on_first_heard(&mut self, cx: &Context, about: TxId, out: &mut Outbox<CommitNode>) {
        let TxId { coordinator: peer, incarnation, .. } = about;
        let is_first = match self.heard.binary_search_by_key(&peer, |heard| heard.0) {
            Ok(at) => std::mem::replace(&mut self.heard[at].1, incarnation) != incarnation,
            Err(at) => {
                self.heard.insert(at, (peer, incarnation));
                true
            }
        };
        if is_first && self.awaited.binary_search(&peer).is_ok() {
            self.send_introduction(cx, peer, out);
        }
    }

    pub(super) fn on_remember(
        &mut self,
        cx: &mut Context,
        about: TxId,
        introducing: &Introducing,
        out: &mut Outbox<CommitNode>,
    ) {
        let TxId { coordinator: peer, incarnation, .. } = about;
        if let Some(known) = self.known_mut(peer)
            && known.peer.incarnation == incarnation
        {
            // Repeated: Remembered was lost, or follows once MET is durable.
            if let Some(proof) = known.proof {
                send_remembered(proof, out);
            }
        } else if self.follows(about, introducing, out) {
            let log_position = introducing.log_position;
            self.remember(KnownPeer { peer, incarnation, log_position });
            cx.append_met(MetPeer { peer, incarnation }, log_position, out);
        }
        self.on_first_heard(cx, about, out);
    }

    /// Whether the incarnation follows the one that is remembered. It is refused if it does not.
    fn follows(
        &mut self,
        about: TxId,
        introducing: &Introducing,
        out: &mut Outbox<CommitNode>,
    ) -> bool {
        let TxId { coordinator: peer, incarnation, .. } = about;
        let Some(known) = self.known_mut(peer) else { return true };
        let KnownPeer { incarnation: last, log_position: length, .. } = known.peer;
        // The records of an incarnation that an operator has declared lost may be missing.
        let is_shorter =
            introducing.log_position < length && last.number() > introducing.lost.number();
        if last == incarnation || (introducing.ancestors.contains(&last) && !is_shorter) {
            return true;
        }
        // What a node remembers that answers nobody may itself be an older copy. The peer asks
        // again.
        if self.answers() {
            if last.number() <= incarnation.number() {
                out.report(Event::PeerRefused { peer, incarnation, known: last });
            }
            let body = Body::Refuse { known: last, log_position: length };
            out.send(peer, Message::about_incarnation(peer, incarnation, body));
        }
        false
    }

    /// The log of a peer is so long at least. Only messages about transactions show it: those that
    /// introduce an incarnation may overtake its Hello, which would then be refused.
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

    /// MET is durable: Remembered.
    pub(super) fn on_met_durable(&mut self, proof: Durable<MetPeer>, out: &mut Outbox<CommitNode>) {
        let MetPeer { peer, incarnation } = *proof.get();
        // The peer may have come back since, as its next incarnation.
        if let Some(known) =
            self.known_mut(peer).filter(|known| known.peer.incarnation == incarnation)
        {
            known.proof = Some(proof);
            send_remembered(proof, out);
        }
    }
}

fn send_remembered(proof: Durable<MetPeer>, out: &mut Outbox<CommitNode>) {
    let MetPeer { peer, incarnation } = *proof.get();
    let body = Body::Remembered { proof: RecordIsDurable::by(&proof) };
    out.send(peer, Message::about_incarnation(peer, incarnation, body));
}

/// The transaction 0 of this incarnation.
fn own(cx: &Context) -> TxId {
    TxId::of_incarnation(cx.id(), cx.incarnation())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state that follows this many incarnations.
    fn state_of(incarnation: u32) -> State {
        let ancestors = (1..incarnation).map(Incarnation::numbered).collect();
        State { incarnation: Incarnation::numbered(incarnation), ancestors, ..State::default() }
    }

    #[test]
    fn incarnation_that_the_operator_names_is_an_ancestor_however_old() {
        let old = Incarnation::numbered(3);
        let ancestors = ancestors_of_next(&state_of(5_000), &[old]);
        assert_eq!(ancestors.len(), ANCESTORS_MAX + 1);
        assert_eq!(ancestors.first(), Some(&old));
        assert_eq!(ancestors.last(), Some(&Incarnation::numbered(5_000)));
        assert!(!ancestors_of_next(&state_of(5_000), &[]).contains(&old));
    }

    #[test]
    fn ancestors_are_kept_until_all_peers_have_confirmed_the_incarnation() {
        let mut introduction = Introduction {
            ancestors: ancestors_of_next(&state_of(100), &[]).into(),
            log_position: 0,
            stage: Stage::Answers,
            awaited: vec![NodeId(1)],
            missing: 0,
            tries: 0,
            repeat_at: Time(0),
            known: Vec::new(),
            heard: Vec::new(),
        };
        let mut state = State::default();
        introduction.add_to(&mut state);
        assert_eq!(state.ancestors.len(), 100, "n1 may remember any of them");
        introduction.awaited.clear();
        introduction.add_to(&mut state);
        let last = (37..=100).map(Incarnation::numbered).collect::<Vec<_>>();
        assert_eq!(state.ancestors, last);
    }
}
