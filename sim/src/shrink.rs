//! Shrinking: minimises a failing run to the same violation with the fewest faults and requests.
//!
//! Every candidate is run, and is adopted only if it violates the *same property*. The passes
//! remove faults (delta debugging), replace the rest by simpler ones, remove requests, operations,
//! clients and nodes, replace random timing by base timing, and shorten times. A schedule that is
//! still large is rebuilt from one or two of its requests (module `rebuild`). All passes repeat
//! until none of them helps.
//!
//! The result is 1-minimal: without any one of its faults, requests or operations, the run violates
//! no property or a different one. If at most three faults are left, all smaller subsets of the
//! original faults are tried as well, unless there are too many: then no smaller subset
//! violates the property in that cluster.

mod budget;
mod candidate_faults;
mod coordinates;
mod ddmin;
mod minimum;
mod plan;
mod rebuild;
mod renumber;
mod simplify;
mod timing;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fault::{Fault, TimedFault};
use crate::property::Violation;
use crate::protocol::{Protocol, ScheduledRequest};
use crate::replay::{Replayer, replay_world};
use crate::schedule::{Expectation, Schedule, plural};
pub(crate) use coordinates::RunCoordinates;

pub use minimum::Minimum;

/// How large a schedule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleSize {
    /// Entries for faults, and nodes that are never restarted.
    pub faults: usize,
    /// Planned requests of all clients.
    pub requests: usize,
    /// 1 to 64.
    pub nodes: u16,
    /// 1 or more.
    pub clients: u32,
    /// The length of the fault phase, in microseconds.
    pub fault_phase_us: u64,
}

impl ScheduleSize {
    /// The size of a schedule.
    pub fn of<O>(schedule: &Schedule<O>) -> ScheduleSize {
        let plan = &schedule.plan;
        ScheduleSize {
            faults: schedule.faults.len() + plan.permanently_down.len(),
            requests: schedule.requests.len(),
            nodes: plan.nodes,
            clients: plan.clients,
            fault_phase_us: plan.fault_phase_us,
        }
    }
}

impl fmt::Display for ScheduleSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ScheduleSize { faults, requests, nodes, clients, fault_phase_us } = *self;
        let faults = plural(faults as u64, "fault");
        let requests = plural(requests as u64, "request");
        let nodes = plural(nodes.into(), "node");
        let clients = plural(clients.into(), "client");
        write!(f, "{faults}, {requests}, {nodes}, {clients}, {} ms", fault_phase_us / 1000)
    }
}

/// The limits of a shrink, and its progress.
pub struct ShrinkControl<'a> {
    /// Once set, the shrink ends with the smallest schedule so far.
    pub stop: &'a AtomicBool,
    /// The shrink ends after this many runs, with the smallest schedule so far.
    pub runs_max: u64,
    /// Called for every candidate that is adopted, with the number of runs so far and its size.
    pub progress: &'a mut dyn FnMut(u64, ScheduleSize),
}

/// The result of a shrink.
#[derive(Clone, Debug)]
pub struct ShrinkReport<O> {
    /// The smallest schedule found. It expects no violation of the property.
    pub schedule: Schedule<O>,
    /// The violation that `schedule` reproduces.
    pub violation: Violation,
    /// The size of the original schedule.
    pub before: ScheduleSize,
    /// The number of runs.
    pub runs: u64,
    /// Whether every entry is needed: false only if the shrink was stopped early.
    pub one_minimal: bool,
    /// Whether fewer faults suffice.
    pub minimum: Minimum,
}

/// Shrinks a schedule. `None` if its run violates no property.
pub fn shrink<P: Protocol>(
    protocol: &P,
    schedule: &Schedule<P::Request>,
    control: ShrinkControl<'_>,
) -> Option<ShrinkReport<P::Request>> {
    let mut replayer = Replayer::new(protocol);
    let (outcome, reached) = replayer.replay_with_coverage(schedule);
    let violation = outcome.violation?;
    let mut best = schedule.clone();
    best.expectation = Expectation::NoViolation(Some(violation.property.to_string()));
    let pool = schedule.faults.clone();
    retain_reached_faults(&mut best, &reached);
    let mut shrinker = Shrinker {
        replayer,
        best,
        violation,
        runs: 0,
        pool,
        rebuild_runs_left: budget::rebuild_runs(control.runs_max),
        control,
    };
    let (one_minimal, minimum) = shrinker.run();
    let Shrinker { mut best, violation, runs, .. } = shrinker;
    best.note = vec![end_with_full_stop(&violation.reason)];
    Some(ShrinkReport {
        schedule: best,
        violation,
        before: ScheduleSize::of(schedule),
        runs,
        one_minimal,
        minimum,
    })
}

struct Shrinker<'a, 'w, P: Protocol> {
    replayer: Replayer<'a, P>,
    best: Schedule<P::Request>,
    violation: Violation,
    runs: u64,
    /// Every fault of the original schedule, renumbered for the cluster of `best`.
    pool: Vec<Fault>,
    /// Runs that `rebuild` may still use.
    rebuild_runs_left: u64,
    control: ShrinkControl<'w>,
}

impl<P: Protocol> Shrinker<'_, '_, P> {
    fn run(&mut self) -> (bool, Minimum) {
        // First, since the cost of every later candidate is proportional to the fault phase.
        self.shorten_fault_phase();
        self.change_log_limit();
        self.drop_faults();
        self.drop_requests();
        self.rebuild_from_one_request();
        loop {
            while self.run_round() {}
            if self.is_finished() {
                return (false, Minimum::Unknown);
            }
            if self.rebuild() {
                continue;
            }
            // The last round tried every single removal without success, and nothing has changed
            // since: `best` is 1-minimal.
            match self.try_smaller_fault_sets() {
                Some(minimum) => return (true, minimum),
                None => continue,
            }
        }
    }

    /// Runs every pass once. Whether any of them helped.
    fn run_round(&mut self) -> bool {
        let mut any = self.drop_faults();
        any |= self.drop_incarnations();
        any |= self.drop_requests();
        any |= self.join_requests();
        any |= self.simplify_plan();
        any |= self.change_log_limit();
        any |= self.use_base_timing();
        any |= self.simplify_faults();
        any |= self.simplify_requests();
        any |= self.drop_nodes_and_clients();
        any |= self.shorten_times();
        any && !self.is_finished()
    }

    fn is_finished(&self) -> bool {
        self.control.stop.load(Ordering::Relaxed) || self.runs >= self.control.runs_max
    }

    /// Runs a candidate and adopts it as `best` if it violates the same property.
    fn adopt_if_better(&mut self, candidate: &Schedule<P::Request>) -> bool {
        if self.is_finished() {
            return false;
        }
        self.runs += 1;
        let (outcome, reached) = self.replayer.replay_with_coverage(candidate);
        let Some(violation) = outcome.violation else { return false };
        if violation.property != self.violation.property {
            return false;
        }
        self.violation = violation;
        self.best = candidate.clone();
        retain_reached_faults(&mut self.best, &reached);
        (self.control.progress)(self.runs, ScheduleSize::of(&self.best));
        true
    }

    /// Adopts the first of these that violates the same property.
    fn adopt_first_better(
        &mut self,
        candidates: impl IntoIterator<Item = Schedule<P::Request>>,
    ) -> bool {
        candidates.into_iter().any(|candidate| self.adopt_if_better(&candidate))
    }

    /// The fingerprint of a run of this schedule: equal runs have equal fingerprints.
    fn fingerprint(&mut self, schedule: &Schedule<P::Request>) -> u64 {
        self.runs += 1;
        self.replayer.replay(schedule).0.fingerprint
    }

    fn drop_faults(&mut self) -> bool {
        let before = self.best.faults.len();
        let all = self.best.faults.clone();
        ddmin::ddmin(&all, |some| {
            let candidate = Schedule { faults: some.to_vec(), ..self.best.clone() };
            self.adopt_if_better(&candidate)
        });
        self.best.faults.len() < before
    }

    /// Removes single crashes and moves the faults of later incarnations to the earlier one, which
    /// then continues.
    fn drop_incarnations(&mut self) -> bool {
        let mut any = false;
        let mut at = 0;
        while at < self.best.faults.len() {
            let candidate = match &self.best.faults[at] {
                Fault::Crash(at, _) => Some((at.node, at.incarnation)),
                Fault::At(_, TimedFault::Crash { node, .. }) => Some((*node, 1)),
                Fault::At(..)
                | Fault::Message(..)
                | Fault::Barrier(..)
                | Fault::Write(..)
                | Fault::Skew { .. } => None,
            };
            let dropped = candidate.is_some_and(|(node, incarnation)| {
                let mut next = self.best.clone();
                next.faults.remove(at);
                next.faults.iter_mut().for_each(|fault| {
                    renumber::shift_to_earlier_incarnation(fault, node, incarnation)
                });
                self.adopt_if_better(&next)
            });
            any |= dropped;
            at += usize::from(!dropped);
        }
        any
    }

    fn drop_requests(&mut self) -> bool {
        let before = self.best.requests.len();
        let all = self.best.requests.clone();
        ddmin::ddmin(&all, |some| {
            let candidate = Schedule { requests: some.to_vec(), ..self.best.clone() };
            self.adopt_if_better(&candidate)
        });
        self.best.requests.len() < before
    }

    /// Joins two requests into one, if there are few enough to try all pairs.
    fn join_requests(&mut self) -> bool {
        let mut any = false;
        while !self.is_small() && budget::JOINABLE_REQUESTS.contains(&self.best.requests.len()) {
            let requests = &self.best.requests;
            let pairs = (0..requests.len())
                .flat_map(|at| (0..requests.len()).map(move |removed| (at, removed)));
            let candidates: Vec<_> = pairs
                .filter(|(at, removed)| at != removed)
                .filter_map(|(at, removed)| {
                    let request = requests[at].request.merged(&requests[removed].request)?;
                    let mut candidate = self.best.clone();
                    candidate.requests[at].request = request;
                    candidate.requests.remove(removed);
                    Some(candidate)
                })
                .collect();
            if !self.adopt_first_better(candidates) {
                break;
            }
            any = true;
        }
        any
    }

    fn simplify_requests(&mut self) -> bool {
        let mut any = false;
        for at in 0..self.best.requests.len() {
            while at < self.best.requests.len() && self.simplify_request(at) {
                any = true;
            }
        }
        any
    }

    fn simplify_request(&mut self, at: usize) -> bool {
        let simpler = self.best.requests[at].request.simplifications();
        let candidates: Vec<_> = simpler
            .into_iter()
            .map(|request| {
                let mut candidate = self.best.clone();
                candidate.requests[at].request = request;
                candidate
            })
            .collect();
        self.adopt_first_better(candidates)
    }

    /// The coordinates of a run of `best`.
    fn coordinates(&mut self) -> RunCoordinates {
        self.runs += 1;
        let mut world =
            replay_world(self.replayer.protocol(), &self.best, RunCoordinates::default());
        world.run();
        world.checker().0.clone()
    }
}

/// The reason of a violation, as the first line of a note.
fn end_with_full_stop(reason: &str) -> String {
    if reason.ends_with(['.', '?', '!']) { reason.to_string() } else { format!("{reason}.") }
}

/// Removes the faults that the run did not reach: they change nothing.
fn retain_reached_faults<O>(schedule: &mut Schedule<O>, reached: &[bool]) {
    let mut reached = reached.iter();
    schedule.faults.retain(|_| *reached.next().expect("one entry for each fault"));
}
