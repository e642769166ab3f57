//! Passes over single requests: join two of them, simplify each.

use super::{Pass, ScheduleSize, Search, budget};
use crate::protocol::{Protocol, ScheduledRequest};
use crate::schedule::Schedule;

/// Joins two requests into one, if there are few enough to try all pairs.
pub(super) struct JoinRequests;

impl<P: Protocol> Pass<P> for JoinRequests {
    fn name(&self) -> &'static str {
        "join requests"
    }

    fn run(&mut self, search: &mut Search<'_, '_, P>) -> bool {
        let mut any = false;
        // Joining makes one request longer: no gain once the schedule is small.
        while !budget::is_small(ScheduleSize::of(search.best()))
            && budget::JOINABLE_REQUESTS.contains(&search.best().requests.len())
            && search.adopt_first_better(with_two_requests_joined(search.best()))
        {
            any = true;
        }
        any
    }
}

fn with_two_requests_joined<O: ScheduledRequest>(schedule: &Schedule<O>) -> Vec<Schedule<O>> {
    let requests = &schedule.requests;
    let mut candidates = Vec::new();
    for at in 0..requests.len() {
        // Both orders: the joined request is sent when and where the kept one was.
        for removed in 0..requests.len() {
            if removed == at {
                continue;
            }
            let Some(joined) = requests[at].request.merged(&requests[removed].request) else {
                continue;
            };
            let mut candidate = schedule.clone();
            candidate.requests[at].request = joined;
            candidate.requests.remove(removed);
            candidates.push(candidate);
        }
    }
    candidates
}

/// Replaces each request by simpler ones until none of them violates the property.
pub(super) struct SimplifyRequests;

impl<P: Protocol> Pass<P> for SimplifyRequests {
    fn name(&self) -> &'static str {
        "simplify requests"
    }

    fn run(&mut self, search: &mut Search<'_, '_, P>) -> bool {
        let mut any = false;
        for at in 0..search.best().requests.len() {
            while search.adopt_first_better(with_request_simplified(search.best(), at)) {
                any = true;
            }
        }
        any
    }
}

fn with_request_simplified<O: ScheduledRequest>(
    schedule: &Schedule<O>,
    at: usize,
) -> Vec<Schedule<O>> {
    let mut candidates = Vec::new();
    for request in schedule.requests[at].request.simplifications() {
        let mut candidate = schedule.clone();
        candidate.requests[at].request = request;
        candidates.push(candidate);
    }
    candidates
}
