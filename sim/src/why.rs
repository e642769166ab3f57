//! Why a claim broke: the causal past of the last fact (Lamport 1978, "Time, clocks, and the ordering of events in a
//! distributed system").

use std::collections::BTreeMap;

use stormglass::{About, Effect, Input, Label, Node, NodeId, RequestId};

use crate::fault::End;
use crate::oracle::{Broken, Fact, Judge, Seen};
use crate::trace::{Filter, Trace, concerns};

/// A judge that never breaks a claim and remembers what came of what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Why {
    facts: Vec<Known>,
    /// The last fact of each process.
    last: BTreeMap<End, usize>,
    /// The last sending of each kind and subject on each link.
    sent: BTreeMap<(NodeId, NodeId, About), usize>,
    asked: BTreeMap<RequestId, usize>,
    replied: BTreeMap<RequestId, usize>,
}

#[derive(Clone, Debug)]
struct Known {
    line: String,
    about: Option<RequestId>,
    /// Whether the storm did it: that belongs to every story.
    fault: bool,
    causes: Vec<usize>,
}

impl Why {
    /// How many facts there were.
    pub(crate) fn count(&self) -> usize {
        self.facts.len()
    }

    /// The request that the last fact with one is about. A run that breaks a claim ends there.
    pub(crate) fn about(&self) -> Option<RequestId> {
        self.facts.iter().rev().find_map(|fact| fact.about)
    }

    /// The lines of the causal past of the last fact that concern the same request, or what the storm did.
    pub(crate) fn told(&self) -> Vec<&str> {
        let Some(last) = self.facts.len().checked_sub(1) else { return Vec::new() };
        let mut past = vec![false; self.facts.len()];
        past[last] = true;
        let mut open = vec![last];
        while let Some(at) = open.pop() {
            for &cause in &self.facts[at].causes {
                if !past[cause] {
                    past[cause] = true;
                    open.push(cause);
                }
            }
        }
        let wish = |id: RequestId| (id.client, id.serial);
        let about = self.about().map(wish);
        let told = |(at, fact): &(usize, &Known)| {
            let ours = about.is_none() || fact.about.map(wish) == about;
            *at == last || past[*at] && (ours || fact.fault) || fact.fault && ours
        };
        self.facts.iter().enumerate().filter(told).map(|(_, fact)| fact.line.as_str()).collect()
    }

    /// Who it happened to, and what it came of beside what that process did before.
    fn origin<N: Node>(&self, seen: &Seen<'_, N>) -> (End, Option<usize>) {
        let here = End::Node(seen.node);
        match seen.fact {
            Fact::Input(Input::Message { from, message }) => {
                (here, self.sent.get(&(*from, seen.node, message.about())).copied())
            }
            Fact::Input(Input::Request { id, .. }) => (here, self.asked.get(id).copied()),
            Fact::Asked { id, .. } => (End::asker(*id), None),
            Fact::Answered { id, .. } => (End::asker(*id), self.replied.get(id).copied()),
            Fact::Input(Input::DiskDone { .. } | Input::Wake)
            | Fact::Boot
            | Fact::Refused(_)
            | Fact::Effect(..)
            | Fact::Killed(_)
            | Fact::PowerCut(_)
            | Fact::Halted(_)
            | Fact::Damaged(_)
            | Fact::MessageFault { .. }
            | Fact::Lost { .. }
            | Fact::BarrierFault(_)
            | Fact::WriteFault(_)
            | Fact::Weather(_)
            | Fact::Cleared { .. }
            | Fact::Settled { .. }
            | Fact::Ended => (here, None),
        }
    }

    fn remember<N: Node>(&mut self, seen: &Seen<'_, N>, at: usize) {
        if let Fact::Effect(Effect::Send { to, message }, _) = seen.fact {
            self.sent.insert((seen.node, *to, message.about()), at);
        }
        if let Fact::Effect(Effect::Reply { id, .. }, _) = seen.fact {
            self.replied.insert(*id, at);
        }
        if let Fact::Asked { id, .. } = seen.fact {
            self.asked.insert(*id, at);
        }
    }
}

impl<N: Node> Judge<N> for Why {
    fn judge(&mut self, seen: &Seen<'_, N>) -> Result<(), Broken> {
        let mut trace = Trace::new(Filter::default(), false);
        trace.judge(seen)?;
        let line = trace.text().trim_end().to_string();
        let fault = matches!(
            seen.fact,
            Fact::Killed(_)
                | Fact::PowerCut(_)
                | Fact::Halted(_)
                | Fact::Damaged(_)
                | Fact::MessageFault { .. }
                | Fact::BarrierFault(_)
                | Fact::WriteFault(_)
                | Fact::Weather(_)
        );
        let (process, cause) = self.origin(seen);
        let at = self.facts.len();
        let before = self.last.insert(process, at);
        let causes = before.into_iter().chain(cause).collect();
        self.facts.push(Known { line, about: concerns(seen.fact), fault, causes });
        self.remember(seen, at);
        Ok(())
    }
}
