//! The search for a smaller schedule: what is best so far, and the only way to replace it.

use std::sync::atomic::Ordering;

use stormglass_node::RequestId;

use super::deadline::Deadline;
use super::renumber::Renumbering;
use super::scope::Bounds;
use super::{RunCoordinates, ScheduleSize, ShrinkControl, budget};
use crate::fault::Fault;
use crate::property::Violation;
use crate::protocol::{Protocol, injected_faults};
use crate::replay::{Replayer, replay_world};
use crate::schedule::{Expectation, Schedule};
use crate::world::{PANICS, RunOutcome, panics};

/// The smallest schedule so far. A pass reads [`best`](Self::best), makes candidates from it, and
/// offers them; the search runs each and adopts it only if it violates the same property. Every run
/// counts against the limit of the shrink.
pub(super) struct Search<'a, 'w, P: Protocol> {
    replayer: Replayer<'a, P>,
    /// Violates `violation.property`, and its run reaches all its faults.
    best: Schedule<P::Request>,
    /// The violation in the run of `best`.
    violation: Violation,
    /// The violation in the run of the original.
    original: Violation,
    /// The request that the reason of the original violation names, renumbered for the cluster of
    /// `best`; `None` if it names none.
    original_request: Option<RequestId>,
    bounds: Bounds,
    deadline: Deadline,
    runs: u64,
    /// The runs, each weighed by its events.
    work: u64,
    /// The candidates adopted and not undone.
    adopted: u64,
    /// Every fault of the original schedule, renumbered for the cluster of `best`.
    pool: Vec<Fault>,
    control: ShrinkControl<'w>,
}

impl<'a, 'w, P: Protocol> Search<'a, 'w, P> {
    /// A search that begins at this schedule. `None` if its run violates no property.
    pub(super) fn new(
        protocol: &'a P,
        schedule: &Schedule<P::Request>,
        control: ShrinkControl<'w>,
    ) -> Option<Self> {
        let bounds = Bounds::new(control.scope, injected_faults(protocol), schedule);
        let deadline = Deadline::after(control.time_max);
        let mut replayer = Replayer::new(protocol);
        // Whether or not it is stopped, the result is about a schedule that was run to its end.
        let (outcome, reached) = replayer.replay_with_coverage(schedule);
        let violation = outcome.violation?;
        let mut best = schedule.clone();
        best.expectation = Expectation::NoViolation(Some(violation.property.to_string()));
        retain_reached_faults(&mut best, &reached);
        // The pool keeps the faults that were not reached: in a smaller schedule they may be.
        let pool = schedule.faults.clone();
        let mut search = Search {
            replayer: replayer.stop_when(&control.stop),
            best,
            original: violation.clone(),
            violation,
            original_request: None,
            bounds,
            deadline,
            runs: 0,
            work: 0,
            adopted: 0,
            pool,
            control,
        };
        let last_request = search.coordinates(schedule).last_request();
        search.original_request =
            last_request.filter(|id| search.original.reason.contains(&without_attempt(*id)));
        Some(search)
    }

    /// The smallest schedule so far.
    pub(super) fn best(&self) -> &Schedule<P::Request> {
        &self.best
    }

    /// The smallest schedule, the violation that it reproduces, that of the original, and the
    /// number of runs.
    pub(super) fn into_best(self) -> (Schedule<P::Request>, Violation, Violation, u64) {
        (self.best, self.violation, self.original, self.runs)
    }

    /// Whether the violation of the smallest schedule has the cause of the original: the same
    /// reason, but for numbers, about the same request if it names one.
    pub(super) fn has_original_cause(&self) -> bool {
        // Where it panicked tells two panics apart, and its line is a number.
        let same_reason = if PANICS.contains(&self.original.property) {
            self.violation.reason == self.original.reason
        } else {
            without_numbers(&self.violation.reason) == without_numbers(&self.original.reason)
        };
        let request = self.original_request.map(without_attempt);
        same_reason && request.is_none_or(|request| self.violation.reason.contains(&request))
    }

    /// Whether the scope of the shrink includes a schedule of this cluster with these faults.
    pub(super) fn includes<'f>(
        &self,
        nodes: u16,
        faults: impl IntoIterator<Item = &'f Fault> + Clone,
    ) -> bool {
        self.bounds.include(nodes, faults)
    }

    fn begin_run(&mut self) {
        self.runs += 1;
        (self.control.progress)(self.runs, ScheduleSize::of(&self.best));
    }

    /// The fewest nodes that a candidate may have. One with fewer is not even run, so a pass that
    /// is limited by its runs has to leave it out itself.
    pub(super) fn nodes_min(&self) -> u16 {
        self.bounds.nodes_min()
    }

    /// The runs so far, where a long one counts as several: what a budget of one pass is counted
    /// in.
    pub(super) fn work(&self) -> u64 {
        self.work
    }

    /// The number of candidates adopted so far, apart from those undone.
    pub(super) fn adopted(&self) -> u64 {
        self.adopted
    }

    /// Whether the shrink was stopped or has used all its runs. No candidate is adopted any more.
    pub(super) fn is_finished(&self) -> bool {
        self.control.stop.load(Ordering::Relaxed)
            || self.runs >= self.control.runs_max
            || self.deadline.is_over()
    }

    /// Runs a candidate and adopts it if it violates the same property.
    pub(super) fn adopt_if_better(&mut self, candidate: &Schedule<P::Request>) -> bool {
        let Some(failure) = self.run_candidate(candidate) else { return false };
        self.adopt(candidate, failure);
        true
    }

    /// Runs a candidate. `None` if it does not violate the same property.
    fn run_candidate(&mut self, candidate: &Schedule<P::Request>) -> Option<Failure> {
        if self.is_finished() || !self.includes(candidate.plan.nodes, &candidate.faults) {
            return None;
        }
        self.begin_run();
        let (outcome, reached) = self.replayer.replay_with_coverage(candidate);
        self.count_work(&outcome);
        let violation = outcome.violation?;
        // A candidate that violates another property has lost the failure that was found.
        let same_property = violation.property == self.violation.property;
        same_property.then_some(Failure { violation, reached, events: outcome.tally.events })
    }

    fn adopt(&mut self, candidate: &Schedule<P::Request>, failure: Failure) {
        self.violation = failure.violation;
        self.best = candidate.clone();
        retain_reached_faults(&mut self.best, &failure.reached);
        self.adopted += 1;
    }

    /// Runs all of these, whose cluster has the faults `pool`, and adopts the one that violates the
    /// same property after the fewest events: the less has happened, the less can be needed.
    pub(super) fn adopt_shortest_with_pool(
        &mut self,
        candidates: Vec<Schedule<P::Request>>,
        pool: &[Fault],
    ) -> bool {
        let mut shortest: Option<(Schedule<P::Request>, Failure)> = None;
        for candidate in candidates {
            let Some(failure) = self.run_candidate(&candidate) else { continue };
            let events_max = shortest.as_ref().map_or(u64::MAX, |(_, failure)| failure.events);
            if failure.events < events_max {
                shortest = Some((candidate, failure));
            }
        }
        let Some((candidate, failure)) = shortest else { return false };
        self.adopt(&candidate, failure);
        self.pool = pool.to_vec();
        true
    }

    /// Adopts the first of these that violates the same property.
    pub(super) fn adopt_first_better(
        &mut self,
        candidates: impl IntoIterator<Item = Schedule<P::Request>>,
    ) -> bool {
        candidates.into_iter().any(|candidate| self.adopt_if_better(&candidate))
    }

    /// The same as [`adopt_if_better`](Self::adopt_if_better) for a candidate with another cluster:
    /// the pool is replaced as well, since its faults name nodes, clients and requests by number.
    pub(super) fn adopt_with_pool(
        &mut self,
        candidate: &Schedule<P::Request>,
        pool: &[Fault],
    ) -> bool {
        let adopted = self.adopt_if_better(candidate);
        if adopted {
            self.pool = pool.to_vec();
        }
        adopted
    }

    /// The same as [`adopt_if_better`](Self::adopt_if_better) for the best schedule with other
    /// numbers.
    pub(super) fn adopt_renumbered(&mut self, renumbering: &Renumbering) -> bool {
        let candidate = renumbering.schedule(&self.best);
        let pool = renumbering.faults(&self.pool);
        let adopted = self.adopt_with_pool(&candidate, &pool);
        if adopted {
            self.original_request = self.original_request.map(|id| renumbering.request(id));
        }
        adopted
    }

    /// Does `attempt`, and undoes what it adopted if it returns false: for a step that makes the
    /// schedule larger first.
    pub(super) fn undo_unless(&mut self, attempt: impl FnOnce(&mut Self) -> bool) -> bool {
        let best = self.best.clone();
        let violation = self.violation.clone();
        let original_request = self.original_request;
        let adopted = self.adopted;
        let kept = attempt(self);
        if !kept {
            self.best = best;
            self.violation = violation;
            self.original_request = original_request;
            self.adopted = adopted;
        }
        kept
    }

    /// Every fault of the original schedule and every fault that a pass has added, numbered for the
    /// cluster of the best schedule.
    pub(super) fn pool(&self) -> &[Fault] {
        &self.pool
    }

    /// Adds faults that are not from the original schedule to the pool.
    pub(super) fn extend_pool(&mut self, faults: impl IntoIterator<Item = Fault>) {
        self.pool.extend(faults);
    }

    /// The coordinates of a run of this schedule.
    pub(super) fn coordinates(&mut self, schedule: &Schedule<P::Request>) -> RunCoordinates {
        self.begin_run();
        // Not in the memory of the replayer: its worlds have no observer.
        let protocol = self.replayer.protocol();
        let run = panics::catch(|| {
            let mut world = replay_world(protocol, schedule, RunCoordinates::default());
            let outcome = world.run();
            (outcome, world.checker().0.clone())
        });
        // A cluster for which there is no configuration has no coordinates.
        let Ok((outcome, coordinates)) = run else { return RunCoordinates::default() };
        self.count_work(&outcome);
        coordinates
    }

    /// The fingerprint of a run of this schedule: equal runs have equal fingerprints.
    pub(super) fn fingerprint(&mut self, schedule: &Schedule<P::Request>) -> u64 {
        self.begin_run();
        let (outcome, _) = self.replayer.replay(schedule);
        self.count_work(&outcome);
        outcome.fingerprint
    }

    fn count_work(&mut self, outcome: &RunOutcome) {
        self.work += budget::work_of_run(outcome.tally.events);
    }
}

/// The run of a candidate that violates the property.
struct Failure {
    violation: Violation,
    /// For each fault of the candidate, whether the run reached it.
    reached: Vec<bool>,
    /// Up to the violation.
    events: u64,
}

/// Removes the faults that the run did not reach: they change nothing.
fn retain_reached_faults<O>(schedule: &mut Schedule<O>, reached: &[bool]) {
    let mut reached = reached.iter();
    schedule.faults.retain(|_| *reached.next().expect("one entry for each fault"));
}

/// A reason without the numbers of nodes, requests and bytes, which differ from run to run.
fn without_numbers(reason: &str) -> String {
    reason.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// A request as reasons name it; a repetition is the same request.
fn without_attempt(id: RequestId) -> String {
    RequestId { attempt: 0, ..id }.to_string()
}
