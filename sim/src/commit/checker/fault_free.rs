//! AC4: without faults, and with timeouts long enough, only a participant's No keeps a transaction from committing.

use stormglass::commit::{AbortReason, Refusal};
use stormglass::{NodeId, RequestId};

use super::AtomicCommitChecker;
use crate::commit::VOTE_TIMEOUT_US;
use crate::plan::Plan;
use crate::property::Violation;

/// Whether a run of this frame is calm until something goes wrong: votes are waited for longer than the longest
/// lock wait + 2D + 4s. A client has one transaction under way, and the lock of each is held for 2D + 4s at most, so
/// nobody waits longer than for those of all other clients, one after the other.
pub(super) fn is_fault_free(plan: &Plan) -> bool {
    let timing = &plan.timing;
    let each_us = 2 * timing.latency_us.1 + 4 * timing.sync_us.1;
    timing.tail_us == 0 && u64::from(plan.clients) * each_us <= VOTE_TIMEOUT_US
}

impl AtomicCommitChecker {
    /// AC4: as long as all is calm, whoever is told "aborted" has met a No, or has asked for what is no transaction.
    pub(super) fn check_fault_free_commits(
        &self,
        node: NodeId,
        id: RequestId,
        explanation: &AbortReason,
    ) -> Result<(), Violation> {
        let is_legitimate = match explanation {
            AbortReason::Refused {
                refusal: Refusal::Bound { .. } | Refusal::Overflow { .. } | Refusal::Conflict { .. },
                ..
            } => true,
            AbortReason::Invalid(_) => true,
            AbortReason::Refused { refusal: Refusal::Aborted, .. }
            | AbortReason::TimedOut { .. }
            | AbortReason::Restarted => false,
        };
        if is_legitimate || !self.fault_free {
            return Ok(());
        }
        let explanation = format!(
            "nothing has gone wrong, nobody has said No, and {node} aborts {id}: {explanation}"
        );
        Err(Violation::safety("AC4 CalmCommits", explanation))
    }
}
