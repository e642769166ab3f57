//! W12: which requests a coordinator may have forgotten.

use stormglass::commit::{Request, RequestNumber};
use stormglass_node::{NodeId, RequestId};

use super::model::RequestState;
use crate::property::Property;
use crate::sorted_map::SortedMap;
use stormglass_sim::property::Violation;

/// The requests that each coordinator has received, as far as it must remember them.
#[derive(Clone, Debug, Default)]
pub(super) struct Forgetting {
    /// By request, its coordinator.
    coordinators: SortedMap<RequestId, NodeId>,
    /// By request, whether the coordinator has received more than questions for its outcome.
    received: SortedMap<RequestId, bool>,
    /// By node, the number of requests that it has received.
    of_node: SortedMap<NodeId, usize>,
    /// By client, the number below which it has acknowledged all outcomes.
    seen: SortedMap<u64, RequestNumber>,
    /// The limits of the coordinators: requests of a client, and of all.
    kept_of_client: usize,
    kept_in_total: usize,
}

impl Forgetting {
    /// For nodes that remember so many requests of each client, and of all.
    pub(super) fn new(kept_of_client: usize, kept_in_total: usize) -> Forgetting {
        Forgetting { kept_of_client, kept_in_total, ..Forgetting::default() }
    }

    /// A client sends a request.
    pub(super) fn on_asked(&mut self, id: RequestId, request: &Request) {
        if let Request::Transact { seen, .. } = request {
            let known = self.seen.get_or_default(id.client);
            *known = (*known).max(*seen);
        }
    }

    /// A request arrives at a node.
    pub(super) fn on_received(&mut self, node: NodeId, id: RequestId, request: &Request) {
        self.coordinators.insert(id, node);
        if let Request::Outcome { .. } = request {
            return;
        }
        if std::mem::replace(self.received.get_or_default(id), true) {
            return;
        }
        *self.of_node.get_or_default(node) += 1;
    }

    /// Whether the coordinator of the request may have forgotten it.
    pub(super) fn may_be_forgotten(&self, id: RequestId) -> bool {
        let Some(node) = self.coordinators.get(id).copied() else { return false };
        // Of one client the oldest are forgotten first.
        let newer = self.received.iter().filter(|(other, received)| {
            **received
                && other.client == id.client
                && RequestNumber::of(*other) > RequestNumber::of(id)
                && self.coordinators.get(*other) == Some(&node)
        });
        let of_node = self.of_node.get(node).copied().unwrap_or_default();
        let seen = self.seen.get(id.client).copied().unwrap_or_default();
        RequestNumber::of(id) < seen
            || newer.count() >= self.kept_of_client
            // Not above: a test makes nodes handle one request more, which no client has sent.
            || of_node >= self.kept_in_total
    }

    /// W12: a node answers that the outcome of a request is unknown. It has not answered with an
    /// outcome before, or may have forgotten it.
    pub(super) fn check_unknown(
        &self,
        node: NodeId,
        id: RequestId,
        request_state: Option<&RequestState>,
    ) -> Result<(), Violation> {
        let is_reported = request_state.is_some_and(RequestState::is_reported);
        if !is_reported || self.may_be_forgotten(id) {
            return Ok(());
        }
        let explanation =
            format!("{node} has answered {id} with an outcome, and answers now that it is unknown");
        Err(Property::OnlyForgottenRequestsAreUnknown.violated(explanation))
    }
}
