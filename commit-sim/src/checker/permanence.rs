//! W11: what is committed stays committed, and a request is committed at most once.
//!
//! All that these properties need is in the states of the request and the transaction.

use stormglass::commit::{Decision, TxId};
use stormglass_node::{NodeId, RequestId};

use super::model::{RequestState, TxState};
use crate::property::Property;
use stormglass_sim::property::Violation;

/// W11: a request that is reported as aborted to its client was not committed.
pub(super) fn check_reported_aborted(
    node: NodeId,
    id: RequestId,
    request_state: &RequestState,
) -> Result<(), Violation> {
    let Some(tx) = request_state.committed() else { return Ok(()) };
    let explanation =
        format!("{node} reports {id} as aborted to the client, but {tx} committed it");
    Err(Property::CommittedIsPermanent.violated(explanation))
}

/// W11: a request commits at most once, and never after it was reported as aborted to its client.
#[inline]
pub(super) fn check_request_committed(
    node: NodeId,
    tx: TxId,
    request: RequestId,
    request_state: &RequestState,
) -> Result<(), Violation> {
    // A recovery finds the same commit again.
    if let Some(other) = request_state.committed().filter(|other| *other != tx) {
        let explanation = format!("{node} commits {request} twice: as {tx} after {other}");
        return Err(Property::ExactlyOnce.violated(explanation));
    }
    if request_state.is_reported_aborted() {
        let explanation = format!(
            "{node} commits {request} as {tx} after it was reported as aborted to the client"
        );
        return Err(Property::CommittedIsPermanent.violated(explanation));
    }
    Ok(())
}

/// W11: at the end of a run, a committed transaction is committed at all participants.
pub(super) fn check_committed_everywhere(tx_state: &TxState) -> Result<(), Violation> {
    let missing = tx_state.subordinates().without(tx_state.decided(Decision::Committed));
    let Some(node) = missing.first() else { return Ok(()) };
    let explanation = format!("{} is committed, but not at {node}", tx_state.tx());
    Err(Property::CommittedIsPermanent.violated(explanation))
}
