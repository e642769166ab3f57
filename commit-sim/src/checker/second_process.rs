//! W14: a second process under the id of a node (D17) is silent. It knows nothing of what the first
//! one has promised, so whatever it says about a transaction may contradict it.
//!
//! While it runs, its inputs, effects and crashes are kept from the model of the node: its disk is
//! another one, and the first process goes on as if it had been paused.

use stormglass::commit::{Message, Outcome, Request, Response};
use stormglass_node::{Effect, Node, NodeId};

use super::node_set::NodeSet;
use crate::property::Property;
use stormglass_sim::property::{Fact, ProcessFact, Violation};

/// The nodes at which a second process acts.
#[derive(Clone, Debug, Default)]
pub(super) struct SecondProcesses {
    acting: NodeSet,
}

impl SecondProcesses {
    /// Whether there is any: only then [`SecondProcesses::check`] is asked.
    #[inline]
    pub(super) fn exist(&self) -> bool {
        !self.acting.is_empty()
    }

    /// A second process takes the place of the first.
    pub(super) fn begin(&mut self, node: NodeId) {
        self.acting.insert(node);
    }

    /// W14: judges a fact of a second process. `None` if it is not a fact of one.
    #[cold]
    pub(super) fn check<N>(
        &mut self,
        node: NodeId,
        fact: &Fact<'_, N>,
    ) -> Option<Result<(), Violation>>
    where
        N: Node<Message = Message, Request = Request, Response = Response>,
    {
        if !self.acting.contains(node) {
            return None;
        }
        match fact {
            Fact::Effect(Effect::Send { to, message }, _) => Some(check_sent(node, *to, message)),
            Fact::Effect(Effect::Reply { id, response }, _) => Some(match response.outcome {
                Outcome::Unknown => Ok(()),
                Outcome::Committed { .. } | Outcome::Aborted { .. } => {
                    let explanation = format!(
                        "a second process under the id of {node} answers {id} with an outcome"
                    );
                    Err(Property::SecondProcessIsSilent.violated(explanation))
                }
            }),
            Fact::Process(ProcessFact::Resumed) => {
                self.acting.remove(node);
                Some(Ok(()))
            }
            Fact::Effect(Effect::Disk(_) | Effect::Report(_) | Effect::Halt(_), _)
            | Fact::Input(_)
            | Fact::Process(_) => Some(Ok(())),
            // What clients and the network do is not done by a process of the node. Facts of the
            // whole run name a node by convention.
            Fact::Client(_) | Fact::Fault(_) | Fact::Lost { .. } | Fact::Run(_) => None,
        }
    }
}

fn check_sent(node: NodeId, to: NodeId, message: &Message) -> Result<(), Violation> {
    // It may say any other thing, to find out that it is a second one.
    if message.is_introduction() {
        return Ok(());
    }
    let explanation = format!(
        "a second process under the id of {node} sends {to} a message about {}",
        message.tx
    );
    Err(Property::SecondProcessIsSilent.violated(explanation))
}
