//! Passes that remove entries: faults, incarnations, requests.

use super::ddmin::ddmin;
use super::renumber::shift_to_earlier_incarnation;
use super::{Pass, RunCoordinates, Search};
use crate::fault::{Fault, TimedFault};
use crate::protocol::Protocol;
use crate::schedule::Schedule;

/// Removes faults by delta debugging.
pub(super) struct DropFaults;

impl<P: Protocol> Pass<P> for DropFaults {
    fn name(&self) -> &'static str {
        "drop faults"
    }

    fn run(&mut self, search: &mut Search<'_, '_, P>) -> bool {
        let all = search.best().faults.clone();
        ddmin(&all, |some| {
            let candidate = Schedule { faults: some.to_vec(), ..search.best().clone() };
            search.adopt_if_better(&candidate)
        });
        // Not the length of the result of `ddmin`: faults that are not reached go as well.
        search.best().faults.len() < all.len()
    }
}

/// Removes requests by delta debugging.
pub(super) struct DropRequests;

impl<P: Protocol> Pass<P> for DropRequests {
    fn name(&self) -> &'static str {
        "drop requests"
    }

    fn run(&mut self, search: &mut Search<'_, '_, P>) -> bool {
        let all = search.best().requests.clone();
        ddmin(&all, |some| {
            let candidate = Schedule { requests: some.to_vec(), ..search.best().clone() };
            search.adopt_if_better(&candidate)
        });
        search.best().requests.len() < all.len()
    }
}

/// Removes single requests and delays the next one of the same client, so that it is sent when it
/// was. Without that, a request whose only part is the time that it takes can never be removed.
pub(super) struct ReplaceRequestsByDelays;

impl<P: Protocol> Pass<P> for ReplaceRequestsByDelays {
    fn name(&self) -> &'static str {
        "replace requests by delays"
    }

    fn run(&mut self, search: &mut Search<'_, '_, P>) -> bool {
        let mut any = false;
        let mut at = 0;
        while at < search.best().requests.len() && !search.is_finished() {
            let best = search.best().clone();
            let coordinates = search.coordinates(&best);
            match with_request_replaced_by_delay(&best, at, &coordinates) {
                // The next request now has this index.
                Some(candidate) if search.adopt_if_better(&candidate) => any = true,
                _ => at += 1,
            }
        }
        any
    }
}

/// `None` if this request or the next one of its client was not sent, or there is no next one.
fn with_request_replaced_by_delay<O: Clone>(
    schedule: &Schedule<O>,
    at: usize,
    coordinates: &RunCoordinates,
) -> Option<Schedule<O>> {
    let removed = &schedule.requests[at];
    let mut later = schedule.requests.iter().skip(at + 1);
    let next = at + 1 + later.position(|other| other.id.client == removed.id.client)?;
    let removed_at = coordinates.request_sent_at(removed.id)?;
    let next_at = coordinates.request_sent_at(schedule.requests[next].id)?;
    let mut candidate = schedule.clone();
    // The client waits from the end of the request before the removed one.
    candidate.requests[next].after = removed.after + (next_at - removed_at);
    candidate.requests.remove(at);
    Some(candidate)
}

/// Removes single crashes and moves the faults of later incarnations to the earlier one, which then
/// continues.
pub(super) struct DropIncarnations;

impl<P: Protocol> Pass<P> for DropIncarnations {
    fn name(&self) -> &'static str {
        "drop incarnations"
    }

    fn run(&mut self, search: &mut Search<'_, '_, P>) -> bool {
        let mut any = false;
        let mut at = 0;
        while at < search.best().faults.len() {
            match without_incarnation(search.best(), at) {
                // The next fault now has this index.
                Some(candidate) if search.adopt_if_better(&candidate) => any = true,
                _ => at += 1,
            }
        }
        any
    }
}

/// The schedule without the crash at this index and the incarnation after it; `None` if that fault
/// is no crash.
fn without_incarnation<O: Clone>(schedule: &Schedule<O>, at: usize) -> Option<Schedule<O>> {
    let (node, incarnation) = match &schedule.faults[at] {
        Fault::Crash(at, _) => (at.node, at.incarnation),
        // A crash at a time does not say which incarnation it ends: the first one is tried.
        // A second process has taken a number, too.
        Fault::At(_, TimedFault::Crash { node, .. } | TimedFault::SecondProcess { node, .. }) => {
            (*node, 1)
        }
        Fault::At(..)
        | Fault::Message(..)
        | Fault::Barrier(..)
        | Fault::Write(..)
        | Fault::Skew { .. } => return None,
    };
    let mut next = schedule.clone();
    next.faults.remove(at);
    for fault in &mut next.faults {
        shift_to_earlier_incarnation(fault, node, incarnation);
    }
    Some(next)
}
