//! AC4: without faults, and with timeouts long enough, only a participant's No keeps a transaction from committing.

use stormglass::commit::{No, Why};
use stormglass::{NodeId, RequestId};

use super::Ledger;
use crate::commit::VOTE_TIMEOUT_US;
use crate::oracle::Broken;
use crate::plan::Plan;

/// Whether a run of this frame is calm until something goes wrong: votes are waited for longer than the longest
/// lock wait + 2D + 4s. A client has one transaction under way, and the lock of each is held for 2D + 4s at most, so
/// nobody waits longer than for those of all other clients, one after the other.
pub(super) fn is_calm(plan: &Plan) -> bool {
    let timing = &plan.timing;
    let each_us = 2 * timing.latency_us.1 + 4 * timing.sync_us.1;
    timing.tail_us == 0 && u64::from(plan.clients) * each_us <= VOTE_TIMEOUT_US
}

impl Ledger {
    /// AC4: as long as all is calm, whoever is told "aborted" has met a No, or has asked for what is no transaction.
    pub(super) fn claim_calm_commits(&self, node: NodeId, id: RequestId, why: &Why) -> Result<(), Broken> {
        let honest = match why {
            Why::Refused { no: No::Bound { .. } | No::Overflow { .. } | No::Conflict { .. }, .. } => true,
            Why::Invalid(_) => true,
            Why::Refused { no: No::Aborted, .. } | Why::TimedOut { .. } | Why::Restarted => false,
        };
        if honest || !self.calm {
            return Ok(());
        }
        let why = format!("nothing has gone wrong, nobody has said No, and {node} aborts {id}: {why}");
        Err(Broken::safety("AC4 CalmCommits", why))
    }
}
