//! AC4: in a run without faults and with long enough timeouts, a transaction aborts only if a
//! participant votes No.

use stormglass::commit::{AbortReason, Refusal};
use stormglass_node::{Micros, NodeId, RequestId};

use crate::VOTE_TIMEOUT;
use crate::property::Property;
use stormglass_sim::plan::Plan;
use stormglass_sim::property::Violation;

/// Whether the run was free of faults up to now.
#[derive(Clone, Debug)]
pub(super) struct FaultFree {
    /// No fault has happened yet, and timeouts are long enough.
    so_far: bool,
}

impl FaultFree {
    /// A run of this plan cannot time out before its first fault if the vote timeout is at least
    /// the longest wait for locks + 2D + 4s, with the latency D and the time of a sync s. A client
    /// has one transaction under way, and each transaction holds its locks for at most 2D + 4s. So
    /// the longest wait is for the transactions of all other clients, one after the other.
    pub(super) fn new(plan: &Plan) -> FaultFree {
        let timing = &plan.timing;
        let each = timing.latency.1 * 2 + timing.sync_time.1 * 4;
        // A tail of the latency (N1) has no greatest delay.
        let so_far =
            timing.latency_tail == Micros::ZERO && each * u64::from(plan.clients) <= VOTE_TIMEOUT;
        FaultFree { so_far }
    }

    /// A fault has happened, or faults may happen that no fact reports.
    pub(super) fn on_fault(&mut self) {
        self.so_far = false;
    }

    /// AC4: before the first fault, a request is reported as aborted only after a No vote, or if it
    /// is not a valid transaction.
    pub(super) fn check_reported_aborted(
        &self,
        node: NodeId,
        id: RequestId,
        reason: &AbortReason,
    ) -> Result<(), Violation> {
        let is_legitimate = match reason {
            AbortReason::Refused { refusal: Refusal::Bound { .. }, .. }
            | AbortReason::Refused { refusal: Refusal::Overflow { .. }, .. }
            | AbortReason::Refused { refusal: Refusal::Conflict { .. }, .. }
            | AbortReason::Invalid(_) => true,
            AbortReason::Refused { refusal: Refusal::Aborted, .. }
            | AbortReason::TimedOut { .. }
            | AbortReason::Restarted => false,
        };
        if is_legitimate || !self.so_far {
            return Ok(());
        }
        let explanation =
            format!("{node} aborts {id} without a fault and without a refusal: {reason}");
        Err(Property::FaultFreeRunsCommit.violated(explanation))
    }
}
