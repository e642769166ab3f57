//! AC4: in a run without faults and with long enough timeouts, a transaction aborts only if a
//! participant votes No. L4: it costs what the table of costs says.

use stormglass::commit::{AbortReason, Refusal};
use stormglass_node::{Micros, NodeId, RequestId};

use super::model::{Cost, TxState};
use crate::property::Property;
use crate::{RETRY, VOTE_TIMEOUT};
use stormglass_sim::plan::Plan;
use stormglass_sim::property::Violation;

/// Whether the run was free of faults up to now.
#[derive(Clone, Debug)]
pub(super) struct FaultFree {
    /// No fault has happened yet, and timeouts are long enough.
    so_far: bool,
    /// The node is known to send more messages than it needs.
    ignores_costs: bool,
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
        FaultFree { so_far, ignores_costs: false }
    }

    /// The node sends more messages than it needs.
    pub(super) fn ignore_costs(&mut self) {
        self.ignores_costs = true;
    }

    /// Whether costs are counted: no fault has happened yet, and timeouts are long enough.
    #[inline]
    pub(super) fn counts(&self) -> bool {
        self.so_far && !self.ignores_costs
    }

    /// L4: END follows 4n messages and 2n + 1 records for n subordinates, if there was no time to
    /// send one of the messages again.
    pub(super) fn check_commit_cost(&self, tx_state: &TxState) -> Result<(), Violation> {
        let subordinates = tx_state.subordinates().len();
        let Cost { messages, records, last_at: _ } = tx_state.cost();
        // END itself is counted, too.
        let expected = (4 * subordinates, 2 * subordinates + 2);
        if !self.counts() || !had_no_time_to_resend(tx_state) || (messages, records) == expected {
            return Ok(());
        }
        Err(wrong_cost(tx_state, expected))
    }

    /// L4: at the end of a run, an aborted transaction of which k subordinates have voted Yes has
    /// cost at most 2n + k messages and 2k records. It costs less if a participant that waited for
    /// a lock has not voted.
    pub(super) fn check_abort_cost(&self, tx_state: &TxState) -> Result<(), Violation> {
        let subordinates = tx_state.subordinates().len();
        let yes = tx_state.yes().len();
        let Cost { messages, records, last_at: _ } = tx_state.cost();
        let expected = (2 * subordinates + yes, 2 * yes);
        if !self.counts()
            || tx_state.is_committed()
            || !had_no_time_to_resend(tx_state)
            || (messages <= expected.0 && records <= expected.1)
        {
            return Ok(());
        }
        Err(wrong_cost(tx_state, expected))
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

/// Whether the transaction was over before a node could send a message again, by the fastest clock.
fn had_no_time_to_resend(tx_state: &TxState) -> bool {
    tx_state.cost().last_at - tx_state.begun_at() < RETRY.0 * 9 / 10
}

#[cold]
fn wrong_cost(tx_state: &TxState, expected: (u32, u32)) -> Violation {
    let Cost { messages, records, last_at: _ } = tx_state.cost();
    let explanation = format!(
        "{} has cost {messages} messages and {records} records, expected {} and {}",
        tx_state.tx(),
        expected.0,
        expected.1
    );
    Property::FaultFreeCostsAreExact.violated(explanation)
}
