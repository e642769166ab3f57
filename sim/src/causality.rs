//! The causes of a violation: the causal past of the last fact (Lamport 1978, "Time, clocks, and
//! the ordering of events in a distributed system").

use std::collections::BTreeMap;

use stormglass_node::{About, Effect, Input, Label, Node, NodeId, RequestId};

use crate::fault::Endpoint;
use crate::property::{Checker, ClientFact, Fact, Observation, ProcessFact, Violation};
use crate::trace::{Filter, Trace};

/// A checker that is never violated and records the causes of each fact.
#[derive(Clone, Debug, Default)]
pub(crate) struct CausalTrace {
    facts: Vec<RecordedFact>,
    /// The last fact of each process.
    last: BTreeMap<Endpoint, usize>,
    /// The last sending of each kind and subject on each link.
    sent: BTreeMap<(NodeId, NodeId, About), usize>,
    asked: BTreeMap<RequestId, usize>,
    replied: BTreeMap<RequestId, usize>,
}

#[derive(Clone, Debug)]
struct RecordedFact {
    line: String,
    /// The requests that it concerns.
    requests: Vec<RequestId>,
    /// Whether it is a fault: those are always shown.
    fault: bool,
    causes: Vec<usize>,
}

impl CausalTrace {
    /// The number of facts.
    pub(crate) fn count(&self) -> usize {
        self.facts.len()
    }

    /// The request of the last fact that has one. A run ends at its violation.
    pub(crate) fn about(&self) -> Option<RequestId> {
        self.facts.iter().rev().find_map(|fact| fact.requests.first().copied())
    }

    /// The lines of the causal past of the last fact that concern the same request, or are faults.
    pub(crate) fn causal_past(&self) -> Vec<&str> {
        let Some(last) = self.facts.len().checked_sub(1) else { return Vec::new() };
        let mut in_past = vec![false; self.facts.len()];
        in_past[last] = true;
        // No recursion, as the past of a fact may be nearly the whole run.
        let mut worklist = vec![last];
        while let Some(at) = worklist.pop() {
            for &cause in &self.facts[at].causes {
                if !in_past[cause] {
                    in_past[cause] = true;
                    worklist.push(cause);
                }
            }
        }
        // A violation without a request, a lock that remains for example, is explained by its whole
        // past.
        let about = self.about().map(request_key);
        let mut lines = Vec::new();
        for (at, fact) in self.facts.iter().enumerate() {
            let same_request =
                about.is_none() || fact.requests.iter().any(|id| Some(request_key(*id)) == about);
            // The violating fact is always shown. A fault of the same request is, too, even if no
            // message connects it: a lost message has no effect that could.
            if at == last
                || in_past[at] && (same_request || fact.fault)
                || fact.fault && same_request
            {
                lines.push(fact.line.as_str());
            }
        }
        lines
    }

    /// The process of a fact, and its cause in another process.
    fn process_and_cause<N: Node>(
        &self,
        observation: &Observation<'_, N>,
    ) -> (Endpoint, Option<usize>) {
        let here = Endpoint::Node(observation.node);
        match observation.fact {
            Fact::Input(Input::Message { from, message }) => {
                (here, self.sent.get(&(*from, observation.node, message.about())).copied())
            }
            Fact::Input(Input::Request { id, .. }) => (here, self.asked.get(id).copied()),
            // Clients are processes of their own: what one asks follows from what it was answered.
            Fact::Client(ClientFact::Asked { id, .. }) => (Endpoint::client_of(*id), None),
            Fact::Client(ClientFact::Answered { id, .. }) => {
                (Endpoint::client_of(*id), self.replied.get(id).copied())
            }
            Fact::Input(
                Input::Connected { .. }
                | Input::Disconnected { .. }
                | Input::DiskDone { .. }
                | Input::Wake,
            )
            | Fact::Effect(..)
            | Fact::Process(_)
            | Fact::Fault(_)
            | Fact::Lost { .. }
            | Fact::Run(_) => (here, None),
        }
    }

    fn index_fact<N: Node>(&mut self, observation: &Observation<'_, N>, at: usize) {
        // A later message of the same kind and subject replaces the earlier: a received one is
        // explained by the last that was sent.
        if let Fact::Effect(Effect::Send { to, message }, _) = observation.fact {
            self.sent.insert((observation.node, *to, message.about()), at);
        }
        if let Fact::Effect(Effect::Reply { id, .. }, _) = observation.fact {
            self.replied.insert(*id, at);
        }
        if let Fact::Client(ClientFact::Asked { id, .. }) = observation.fact {
            self.asked.insert(*id, at);
        }
    }
}

// Without the attempt: a retry is the same request.
fn request_key(id: RequestId) -> (u64, u32) {
    (id.client, id.serial)
}

impl<N: Node> Checker<N> for CausalTrace {
    fn check(&mut self, observation: &Observation<'_, N>) -> Result<(), Violation> {
        // A trace of one fact gives exactly the line that `replay` prints.
        let mut trace = Trace::new(Filter::default(), false);
        trace.check(observation)?;
        let line = trace.text().trim_end().to_string();
        let fault = matches!(
            observation.fact,
            Fact::Fault(_)
                | Fact::Process(
                    ProcessFact::Killed(_)
                        | ProcessFact::PowerCut(_)
                        | ProcessFact::Halted(_)
                        | ProcessFact::Damaged(_)
                        | ProcessFact::DiskChanged(_)
                        | ProcessFact::Unreadable(_)
                        | ProcessFact::SecondProcess(_)
                        | ProcessFact::Resumed
                )
        );
        let (process, cause) = self.process_and_cause(observation);
        let at = self.facts.len();
        // The fact before it in the same process is a cause of each fact, by definition of the
        // causal order.
        let before = self.last.insert(process, at);
        let causes = before.into_iter().chain(cause).collect();
        self.facts.push(RecordedFact {
            line,
            requests: observation.fact.requests(),
            fault,
            causes,
        });
        self.index_fact(observation, at);
        Ok(())
    }
}
