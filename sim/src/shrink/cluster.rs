//! The pass that makes the cluster smaller: fewer nodes, fewer clients, low numbers.

use stormglass_node::NodeId;

use super::renumber::Renumbering;
use super::{Pass, Search};
use crate::protocol::Protocol;
use crate::workload::ClientId;

/// Removes nodes and clients one by one, and numbers the requests of each client from 1. Those with
/// higher numbers are renumbered.
pub(super) struct DropNodesAndClients;

impl<P: Protocol> Pass<P> for DropNodesAndClients {
    fn name(&self) -> &'static str {
        "drop nodes and clients"
    }

    fn run(&mut self, search: &mut Search<'_, '_, P>) -> bool {
        let mut any = false;
        // From the highest number to the lowest: a removal does not renumber those still to be
        // tried.
        for removed in (0..search.best().plan.nodes).rev().map(NodeId) {
            if search.best().plan.nodes > 1 {
                any |= search.adopt_renumbered(&Renumbering::without_node(removed));
            }
        }
        for removed in ClientId::all(search.best().plan.clients).rev() {
            let mut requests = search.best().requests.iter();
            let has_requests = requests.any(|planned| planned.id.client == u64::from(removed));
            if !has_requests && search.best().plan.clients > 1 {
                any |= search.adopt_renumbered(&Renumbering::without_client(removed));
            }
        }
        if let Some(renumbering) = Renumbering::serials_from_one(search.best()) {
            any |= search.adopt_renumbered(&renumbering);
        }
        any
    }
}
