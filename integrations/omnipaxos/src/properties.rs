//! What must hold: one log, linearizable counters, and replicas that converge.

use std::collections::{BTreeMap, BTreeSet};

use stormglass_node::{Effect, NodeId, RequestId};
use stormglass_sim::property::{
    ClientFact, Fact, Observation, ProcessFact, Property, PropertyResult, RunFact, Sometimes,
    halt_is_final,
};
use stormglass_sim::run_end::Availability;

use crate::{Event, Replica, Request};

/// No two nodes apply different entries at an index, in any incarnation.
#[derive(Clone, Debug, Default)]
pub struct OneLog {
    /// What was first applied at each index, and by whom.
    log: Vec<(RequestId, Request, NodeId)>,
}

impl<const SESSIONS: bool> Property<Replica<SESSIONS>> for OneLog {
    const NAME: &'static str = "OneLog";

    fn on(&mut self, observation: &Observation<'_, Replica<SESSIONS>>) -> PropertyResult {
        let Fact::Effect(Effect::Report(Event::Applied { index, id, request }), _) =
            observation.fact
        else {
            return Ok(());
        };
        let node = observation.node;
        let Some((first_id, first_request, first)) = self.log.get(crate::store::index(*index))
        else {
            // Each node applies the entries in order, from the first one on.
            self.log.push((*id, *request, node));
            return Ok(());
        };
        if (first_id, first_request) == (id, request) {
            return Ok(());
        }
        Err(format!(
            "{node} applies {id} {request:?} at index {index}, \
             where {first} has applied {first_id} {first_request:?}"
        ))
    }

    fn sometimes(&self, tally: &mut Sometimes) {
        tally.add("entries applied", u64::try_from(self.log.len()).expect("at most 64 bits"));
        let requests: BTreeSet<RequestId> = self.log.iter().map(|(id, ..)| *id).collect();
        let repeated = self.log.len() - requests.len();
        tally.add("entries repeated", u64::try_from(repeated).expect("at most 64 bits"));
    }
}

/// One counter, as its clients see it.
#[derive(Clone, Debug, Default)]
struct Counter {
    /// The greatest value in any response.
    max: u64,
    /// The values in the responses to additions.
    added: BTreeSet<u64>,
    /// Additions without a response.
    open_additions: u64,
}

/// A request that was sent.
#[derive(Clone, Copy, Debug)]
struct Asked {
    request: Request,
    /// The greatest value in any response before it was sent.
    max_before: u64,
    response: Option<u64>,
}

/// The responses are those of one counter for each key, to which every request was applied once, at
/// a moment between its first attempt and its first response.
///
/// Additions return 1, 2, 3, ... in the order of these moments. So a history of additions and reads
/// of one key has such an order if and only if: no two additions return the same value; a value is
/// greater (for a read: not less) than any that was returned before the request was sent; and each
/// value up to the greatest one returned belongs to an addition, either as its response or because
/// that addition has none yet.
#[derive(Clone, Debug, Default)]
pub struct CountersAreLinearizable {
    counters: BTreeMap<u8, Counter>,
    asked: BTreeMap<(u64, u32), Asked>,
}

impl CountersAreLinearizable {
    fn on_asked(&mut self, id: RequestId, request: Request) {
        let counter = self.counters.entry(key(request)).or_default();
        let max_before = counter.max;
        self.asked.entry((id.client, id.serial)).or_insert_with(|| {
            counter.open_additions += u64::from(matches!(request, Request::Add(_)));
            Asked { request, max_before, response: None }
        });
    }

    fn on_answered(&mut self, id: RequestId, value: u64) -> PropertyResult {
        let Some(asked) = self.asked.get_mut(&(id.client, id.serial)) else {
            return Err(format!("{id} is answered, and was never sent"));
        };
        if let Some(first) = asked.response {
            let same = first == value || matches!(asked.request, Request::Get(_));
            return if same { Ok(()) } else { Err(format!("{id} returns {first}, then {value}")) };
        }
        asked.response = Some(value);
        let counter = self.counters.entry(key(asked.request)).or_default();
        let least = match asked.request {
            Request::Add(_) => asked.max_before + 1,
            Request::Get(_) => asked.max_before,
        };
        if value < least {
            let before = asked.max_before;
            return Err(format!("{id} returns {value}; {before} was returned before it was sent"));
        }
        if matches!(asked.request, Request::Add(_)) {
            counter.open_additions -= 1;
            if !counter.added.insert(value) {
                return Err(format!("{id} returns {value}, as an addition before it has done"));
            }
        }
        counter.max = counter.max.max(value);
        let unexplained = counter.max - u64::try_from(counter.added.len()).expect("a small number");
        if unexplained > counter.open_additions {
            let (max, open) = (counter.max, counter.open_additions);
            return Err(format!(
                "{id} returns {value}: of the values up to {max}, {unexplained} belong to no \
                 answered addition, and only {open} additions have no answer"
            ));
        }
        Ok(())
    }
}

fn key(request: Request) -> u8 {
    match request {
        Request::Add(key) | Request::Get(key) => key,
    }
}

impl<const SESSIONS: bool> Property<Replica<SESSIONS>> for CountersAreLinearizable {
    const NAME: &'static str = "CountersAreLinearizable";

    fn on(&mut self, observation: &Observation<'_, Replica<SESSIONS>>) -> PropertyResult {
        match observation.fact {
            Fact::Client(ClientFact::Asked { id, request }) => {
                self.on_asked(*id, **request);
                Ok(())
            }
            Fact::Client(ClientFact::Answered { id, response }) => {
                self.on_answered(*id, **response)
            }
            Fact::Input(_)
            | Fact::Effect(..)
            | Fact::Process(_)
            | Fact::Fault(_)
            | Fact::Lost { .. }
            | Fact::Run(_) => Ok(()),
        }
    }
}

/// In the end every node that runs has applied the whole log.
#[derive(Clone, Debug, Default)]
pub struct ReplicasConverge {
    /// How many entries the present incarnation of each node has applied; none if it is down.
    applied: BTreeMap<NodeId, u64>,
    /// How many entries any incarnation has applied.
    max: u64,
    /// How often an incarnation has applied entries that others had applied before it began.
    caught_up: u64,
    permanently_down: BTreeSet<NodeId>,
    nodes: usize,
}

impl ReplicasConverge {
    /// A node that lacks entries, and how many it has. `None` as well if no majority is left: the
    /// entries that only the others had are lost.
    fn behind(&self) -> Option<(NodeId, u64)> {
        let up = self.nodes - self.permanently_down.len();
        if !Availability::Majority.is_given(up, self.nodes) {
            return None;
        }
        let mut running = self.applied.iter();
        let behind = running
            .find(|(node, applied)| **applied < self.max && !self.permanently_down.contains(node));
        behind.map(|(node, applied)| (*node, *applied))
    }

    fn on_process(&mut self, node: NodeId, fact: &ProcessFact<'_>) {
        match fact {
            ProcessFact::Boot => {
                self.applied.insert(node, 0);
                self.caught_up += u64::from(self.max > 0);
            }
            ProcessFact::Halted(reason) if halt_is_final(reason) => {
                self.permanently_down.insert(node);
            }
            ProcessFact::Halted(_)
            | ProcessFact::Refused(_)
            | ProcessFact::Killed(_)
            | ProcessFact::PowerCut(_)
            | ProcessFact::Damaged(_)
            | ProcessFact::DiskChanged(_)
            | ProcessFact::Unreadable(_)
            | ProcessFact::SecondProcess(_)
            | ProcessFact::Resumed => {}
        }
    }
}

impl<const SESSIONS: bool> Property<Replica<SESSIONS>> for ReplicasConverge {
    const NAME: &'static str = "ReplicasConverge";
    const LIVENESS: bool = true;

    fn on(&mut self, observation: &Observation<'_, Replica<SESSIONS>>) -> PropertyResult {
        self.nodes = observation.disks.len();
        match observation.fact {
            Fact::Effect(Effect::Report(Event::Applied { index, .. }), _) => {
                let applied = index + 1;
                self.applied.insert(observation.node, applied);
                self.max = self.max.max(applied);
            }
            Fact::Process(fact) => self.on_process(observation.node, fact),
            Fact::Run(RunFact::Healed { permanently_down }) => {
                self.permanently_down.extend(permanently_down.iter());
            }
            Fact::Run(RunFact::Ended) => {
                if let Some((node, applied)) = self.behind() {
                    let max = self.max;
                    return Err(format!("{node} has applied {applied} of {max} entries"));
                }
            }
            Fact::Run(RunFact::Recovered { .. })
            | Fact::Effect(..)
            | Fact::Input(_)
            | Fact::Fault(_)
            | Fact::Lost { .. }
            | Fact::Client(_) => {}
        }
        Ok(())
    }

    fn has_settled(&self) -> bool {
        self.behind().is_none()
    }

    fn sometimes(&self, tally: &mut Sometimes) {
        tally.add("restarts with a log to recover", self.caught_up);
    }
}
