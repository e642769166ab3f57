//! Passes over the plan: nodes that are never restarted, encoded messages, the log limit.

use super::{Pass, ScheduleSize, Search, budget};
use crate::plan::LOG_BYTES;
use crate::protocol::Protocol;

/// Restarts every node after the fault phase, and delivers messages without encoding them.
pub(super) struct SimplifyPlan;

impl<P: Protocol> Pass<P> for SimplifyPlan {
    fn name(&self) -> &'static str {
        "simplify plan"
    }

    fn run(&mut self, search: &mut Search<'_, '_, P>) -> bool {
        let mut any = false;
        if search.best().plan.encode_messages {
            let mut candidate = search.best().clone();
            candidate.plan.encode_messages = false;
            any |= search.adopt_if_better(&candidate);
        }
        // From the last to the first: a removal does not move those still to be tried.
        for at in (0..search.best().plan.permanently_down.len()).rev() {
            let mut candidate = search.best().clone();
            candidate.plan.permanently_down.remove(at);
            any |= search.adopt_if_better(&candidate);
        }
        any
    }
}

/// Compacts the log sooner if the schedule is large, since a failure that needs a snapshot then
/// needs fewer requests. Restores the default limit if the schedule is small.
pub(super) struct ChangeLogLimit;

impl<P: Protocol> Pass<P> for ChangeLogLimit {
    fn name(&self) -> &'static str {
        "change log limit"
    }

    fn run(&mut self, search: &mut Search<'_, '_, P>) -> bool {
        let best = search.best().clone();
        let now = best.plan.log_bytes;
        let small = budget::is_small(ScheduleSize::of(&best));
        let mut lengths = if small { vec![LOG_BYTES] } else { budget::SHORT_LOGS_BYTES.to_vec() };
        // Only shorter ones in a large schedule: two limits could replace each other for ever.
        lengths.retain(|bytes| if small { *bytes != now } else { *bytes < now });
        let mut candidates = Vec::new();
        for log_bytes in lengths {
            let mut candidate = best.clone();
            candidate.plan.log_bytes = log_bytes;
            candidates.push(candidate);
        }
        if !small && !candidates.is_empty() {
            // A limit that changes nothing in the run is no progress: a protocol may not compact.
            let fingerprint = search.fingerprint(&best);
            candidates.retain(|candidate| search.fingerprint(candidate) != fingerprint);
        }
        search.adopt_first_better(candidates)
    }
}
