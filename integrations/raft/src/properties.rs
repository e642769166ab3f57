//! The properties. Those of Raft have the names of figure 3 of the paper (Ongaro and Ousterhout, "In
//! Search of an Understandable Consensus Algorithm", 2014); they look at messages and at what nodes
//! report of their machines.

use std::collections::{BTreeMap, BTreeSet};

use raft::eraftpb::{Message, MessageType};
use stormglass_node::{Effect, NodeId, RequestId};
use stormglass_sim::property::{
    ClientFact, Fact, Observation, ProcessFact, Property, PropertyResult, RunFact, Sometimes,
};
use stormglass_sim::run_end::RecoveryEnd;

use crate::node::Replica;
use crate::wire::{Event, Request, Value, Wire, node_of};

type Seen<'a> = Observation<'a, Replica>;

fn sent<'a>(seen: &Seen<'a>) -> Option<&'a Message> {
    let Fact::Effect(Effect::Send { message: Wire(message), .. }, _) = seen.fact else {
        return None;
    };
    Some(message)
}

fn reported<'a>(seen: &Seen<'a>) -> Option<&'a Event> {
    let Fact::Effect(Effect::Report(event), _) = seen.fact else { return None };
    Some(event)
}

/// At most one leader in a term. A leader is who sends the messages of one.
#[derive(Clone, Debug, Default)]
pub struct ElectionSafety(BTreeMap<u64, NodeId>);

impl Property<Replica> for ElectionSafety {
    const NAME: &'static str = "ElectionSafety";

    fn on(&mut self, seen: &Seen<'_>) -> PropertyResult {
        let Some(message) = sent(seen) else { return Ok(()) };
        let kind = message.get_msg_type();
        let is_of_leader = kind == MessageType::MsgAppend
            || kind == MessageType::MsgHeartbeat
            || kind == MessageType::MsgSnapshot;
        if !is_of_leader {
            return Ok(());
        }
        let leader = *self.0.entry(message.term).or_insert(seen.node);
        if leader == seen.node {
            return Ok(());
        }
        Err(format!("{leader} and {} both lead in term {}", seen.node, message.term))
    }

    fn sometimes(&self, tally: &mut Sometimes) {
        tally.add("terms with a leader", self.0.len() as u64);
    }
}

/// A node votes for at most one candidate in a term, whatever crashes are in between. A candidate
/// votes for itself.
#[derive(Clone, Debug, Default)]
pub struct OneVotePerTerm(BTreeMap<(NodeId, u64), NodeId>);

impl Property<Replica> for OneVotePerTerm {
    const NAME: &'static str = "OneVotePerTerm";

    fn on(&mut self, seen: &Seen<'_>) -> PropertyResult {
        let Some(vote) = sent(seen).and_then(|message| vote_in(message, seen.node)) else {
            return Ok(());
        };
        let (term, candidate) = vote;
        let first = *self.0.entry((seen.node, term)).or_insert(candidate);
        if first == candidate {
            return Ok(());
        }
        Err(format!("{} votes for {first} and for {candidate} in term {term}", seen.node))
    }
}

/// The vote, as term and candidate, that a message of this node shows.
fn vote_in(message: &Message, node: NodeId) -> Option<(u64, NodeId)> {
    let kind = message.get_msg_type();
    if kind == MessageType::MsgRequestVote {
        return Some((message.term, node));
    }
    let is_vote = kind == MessageType::MsgRequestVoteResponse && !message.reject;
    is_vote.then(|| (message.term, node_of(message.to)))
}

/// If two logs have an entry with the same index and term, they are the same up to it: such entries
/// have the same data, and the entries before them the same term.
#[derive(Clone, Debug, Default)]
pub struct LogMatching(BTreeMap<(u64, u64), (u64, Vec<u8>)>);

impl Property<Replica> for LogMatching {
    const NAME: &'static str = "LogMatching";

    fn on(&mut self, seen: &Seen<'_>) -> PropertyResult {
        let Some(message) = sent(seen) else { return Ok(()) };
        if message.get_msg_type() != MessageType::MsgAppend {
            return Ok(());
        }
        let mut previous_term = message.log_term;
        for entry in message.get_entries() {
            let place = (entry.index, entry.term);
            let (term, data) =
                self.0.entry(place).or_insert_with(|| (previous_term, entry.data.to_vec()));
            if *term != previous_term || data[..] != entry.data[..] {
                return Err(format!("entry {} of term {} has two contents", place.0, place.1));
            }
            previous_term = entry.term;
        }
        Ok(())
    }
}

/// Nodes apply the same entries: after each index, counters and sessions are the same on every node
/// and in every incarnation. Each incarnation applies one index after the other.
#[derive(Clone, Debug, Default)]
pub struct StateMachineSafety {
    digests: BTreeMap<u64, u64>,
    applied: BTreeMap<NodeId, u64>,
    installed: u64,
}

impl Property<Replica> for StateMachineSafety {
    const NAME: &'static str = "StateMachineSafety";

    fn on(&mut self, seen: &Seen<'_>) -> PropertyResult {
        let Some(event) = reported(seen) else { return Ok(()) };
        let before = self.applied.get(&seen.node).copied().unwrap_or(0);
        let (index, digest, is_next) = match *event {
            Event::Recovered { applied, digest, .. } => (applied, digest, true),
            Event::Applied { index, digest } => (index, digest, index == before + 1),
            Event::Installed { index, digest } => {
                self.installed += 1;
                (index, digest, index > before)
            }
        };
        self.applied.insert(seen.node, index);
        if !is_next {
            return Err(format!("{} applies {index} after {before}", seen.node));
        }
        if *self.digests.entry(index).or_insert(digest) == digest {
            return Ok(());
        }
        Err(format!("{} has another state after {index} than a node before", seen.node))
    }

    fn sometimes(&self, tally: &mut Sometimes) {
        tally.add("snapshots installed", self.installed);
    }
}

/// What a node has sent, it still knows after a crash: its term, its vote, and the entries that it
/// has acknowledged in its last term. (In a later term it may have replaced them.)
#[derive(Clone, Debug, Default)]
pub struct RecoversWhatItSent(BTreeMap<NodeId, SentState>);

#[derive(Clone, Copy, Debug, Default)]
struct SentState {
    term: u64,
    /// In this term.
    candidate: Option<NodeId>,
    /// In this term: the last entry.
    acknowledged: u64,
}

impl Property<Replica> for RecoversWhatItSent {
    const NAME: &'static str = "RecoversWhatItSent";

    fn on(&mut self, seen: &Seen<'_>) -> PropertyResult {
        let sent_state = self.0.entry(seen.node).or_default();
        if let Some(message) = sent(seen) {
            sent_state.add(message, seen.node);
        }
        match reported(seen) {
            Some(&Event::Recovered { term, vote, last_index, .. }) => {
                let voted = (vote != 0).then(|| node_of(vote));
                sent_state.check(term, voted, last_index, seen.node)
            }
            _ => Ok(()),
        }
    }
}

impl SentState {
    fn add(&mut self, message: &Message, node: NodeId) {
        // Requests and grants of a pre-vote have the term of an election that may never be.
        // Forwarded proposals and reads have none.
        let kind = message.get_msg_type();
        if kind == MessageType::MsgRequestPreVote || kind == MessageType::MsgRequestPreVoteResponse
        {
            return;
        }
        if message.term > self.term {
            *self = SentState { term: message.term, ..SentState::default() };
        }
        if message.term < self.term {
            return;
        }
        if let Some((_, candidate)) = vote_in(message, node) {
            self.candidate = Some(candidate);
        }
        if kind == MessageType::MsgAppendResponse && !message.reject {
            self.acknowledged = self.acknowledged.max(message.index);
        }
    }

    fn check(
        &self,
        term: u64,
        voted: Option<NodeId>,
        last_index: u64,
        node: NodeId,
    ) -> PropertyResult {
        if term < self.term {
            return Err(format!("{node} has sent term {} and recovers term {term}", self.term));
        }
        if term > self.term {
            return Ok(());
        }
        if let Some(candidate) = self.candidate
            && voted != Some(candidate)
        {
            return Err(format!("{node} has voted for {candidate} in term {term} and forgets it"));
        }
        if last_index < self.acknowledged {
            let acknowledged = self.acknowledged;
            return Err(format!(
                "{node} has acknowledged entry {acknowledged} in term {term} and recovers {last_index}"
            ));
        }
        Ok(())
    }
}

/// The counters are linearizable, and each `Add` takes effect at most once.
///
/// Values only grow, and each `Add` of a counter returns another one. So a history is linearizable
/// if real time agrees with the values: an operation that begins after another has returned v
/// returns more, or as much if it is a `Get`; and nothing returns more than the number of `Add`s
/// that have begun.
#[derive(Clone, Debug, Default)]
pub struct Linearizable {
    counters: BTreeMap<u8, Counter>,
    open: BTreeMap<(u64, u32), Open>,
    added: BTreeMap<(u64, u32), u64>,
    answers: u64,
}

#[derive(Clone, Debug, Default)]
struct Counter {
    adds_begun: u64,
    returned: BTreeSet<u64>,
    /// The greatest value that any operation has returned.
    greatest: u64,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    request: Request,
    /// The greatest value that had been returned when it began.
    greatest_before: u64,
}

fn key_of(request: Request) -> u8 {
    match request {
        Request::Add(key) | Request::Get(key) => key,
    }
}

impl Linearizable {
    fn begin(&mut self, id: RequestId, request: Request) {
        if self.open.contains_key(&(id.client, id.serial)) {
            return;
        }
        let counter = self.counters.entry(key_of(request)).or_default();
        if matches!(request, Request::Add(_)) {
            counter.adds_begun += 1;
        }
        let open = Open { request, greatest_before: counter.greatest };
        self.open.insert((id.client, id.serial), open);
    }

    fn end(&mut self, id: RequestId, value: u64) -> PropertyResult {
        let Some(&Open { request, greatest_before }) = self.open.get(&(id.client, id.serial))
        else {
            return Err(format!("{id} is answered before it is sent"));
        };
        let is_add = matches!(request, Request::Add(_));
        if let Some(first) = self.added.get(&(id.client, id.serial)) {
            // A later answer to the same request: a copy, or that of a repetition.
            return match !is_add || *first == value {
                true => Ok(()),
                false => Err(format!("{id} returned {first}, and now {value}")),
            };
        }
        self.added.insert((id.client, id.serial), value);
        self.answers += 1;
        let counter = self.counters.get_mut(&key_of(request)).expect("an open request");
        counter.greatest = counter.greatest.max(value);
        if value > counter.adds_begun {
            return Err(format!("{id} returns {value} after {} Adds", counter.adds_begun));
        }
        if value < greatest_before || (is_add && value == greatest_before) {
            return Err(format!("{id} returns {value}, which is older than {greatest_before}"));
        }
        if is_add && !counter.returned.insert(value) {
            return Err(format!("{id} returns {value}, which another Add has returned"));
        }
        Ok(())
    }
}

impl Property<Replica> for Linearizable {
    const NAME: &'static str = "Linearizable";

    fn on(&mut self, seen: &Seen<'_>) -> PropertyResult {
        let Fact::Client(client) = seen.fact else { return Ok(()) };
        match client {
            ClientFact::Asked { id, request } => {
                self.begin(*id, **request);
                Ok(())
            }
            ClientFact::Answered { id, response: Value(value) } => self.end(*id, *value),
        }
    }

    fn sometimes(&self, tally: &mut Sometimes) {
        tally.add("requests answered", self.answers);
    }
}

/// In the end every node has applied the same, as long as a majority is up.
#[derive(Clone, Debug, Default)]
pub struct NodesConverge {
    applied: BTreeMap<NodeId, u64>,
    permanently_down: Vec<NodeId>,
}

impl Property<Replica> for NodesConverge {
    const NAME: &'static str = "NodesConverge";
    const LIVENESS: bool = true;

    fn on(&mut self, seen: &Seen<'_>) -> PropertyResult {
        if let Fact::Process(ProcessFact::Boot) = seen.fact {
            self.applied.entry(seen.node).or_default();
        }
        if let Fact::Run(RunFact::Healed { permanently_down }) = seen.fact {
            self.permanently_down = permanently_down.to_vec();
        }
        if let Fact::Run(RunFact::Recovered { how: RecoveryEnd::TimedOut, .. }) = seen.fact
            && !self.has_settled()
        {
            return Err(self.behind());
        }
        if let Some(
            Event::Recovered { applied: index, .. }
            | Event::Applied { index, .. }
            | Event::Installed { index, .. },
        ) = reported(seen)
        {
            self.applied.insert(seen.node, *index);
        }
        Ok(())
    }

    fn has_settled(&self) -> bool {
        let last = self.applied.values().max();
        let up = self.applied.iter().filter(|(node, _)| !self.permanently_down.contains(node));
        let has_majority = 2 * up.clone().count() > self.applied.len();
        !has_majority || up.clone().all(|(_, applied)| Some(applied) == last)
    }
}

impl NodesConverge {
    /// The first node that has not applied everything.
    fn behind(&self) -> String {
        let last = self.applied.values().max().copied().unwrap_or(0);
        let behind = self
            .applied
            .iter()
            .find(|(node, applied)| **applied < last && !self.permanently_down.contains(node));
        let (node, applied) = behind.expect("a node that is behind");
        format!("{node} has applied {applied}, and others {last}")
    }
}
