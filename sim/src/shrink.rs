//! Shrinking: the same broken claim, told with as little as possible.
//!
//! Every candidate is really run, and counts only if the *same claim* breaks. Faults go (delta debugging), what
//! remains is softened, requests, operations, clients and nodes go, timing becomes base, time is cut; a story that is
//! still long is told afresh in a short one; again and again until nothing helps. The result is 1-minimal: without any
//! one of its faults, requests or operations the claim holds, or another one breaks. Where three faults or fewer are
//! left, all smaller sets of the faults that there once were are tried too, if they are not too many: then it is the
//! true minimum of that frame.

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
use crate::protocol::Scene;
use crate::replay::{Replayer, replay_world};
use crate::schedule::{Expectation, Schedule};
pub(crate) use coordinates::RunCoordinates;

pub use minimum::Minimum;

/// How large a schedule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleSize {
    /// Entries of what goes wrong, nodes that stay dead included.
    pub faults: usize,
    /// What clients want.
    pub requests: usize,
    /// Nodes of the cluster.
    pub nodes: u16,
    /// Clients.
    pub clients: u32,
    /// When the sky clears, in microseconds.
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
        let ScheduleSize { faults, requests, nodes, clients, fault_phase_us } = self;
        let some =
            |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let (faults, requests) = (some(*faults as u64, "fault"), some(*requests as u64, "request"));
        let (nodes, clients) = (some((*nodes).into(), "node"), some((*clients).into(), "client"));
        write!(f, "{faults}, {requests}, {nodes}, {clients}, {} ms", fault_phase_us / 1000)
    }
}

/// What others see of a shrink, and how they end it.
pub struct ShrinkControl<'a> {
    /// Once set, the best so far is the result.
    pub stop: &'a AtomicBool,
    /// Runs at most.
    pub runs_max: u64,
    /// Told of every success: how many runs so far, and the size now.
    pub progress: &'a mut dyn FnMut(u64, ScheduleSize),
}

/// What has become of a schedule.
#[derive(Clone, Debug)]
pub struct ShrinkReport<O> {
    /// The smallest that was found.
    pub schedule: Schedule<O>,
    /// What it breaks.
    pub violation: Violation,
    /// How large it was before.
    pub before: ScheduleSize,
    /// How many candidates were run.
    pub runs: u64,
    /// Whether no one entry can be left out: false only if the shrink was ended before its time.
    pub one_minimal: bool,
    /// Whether fewer faults would do.
    pub minimum: Minimum,
}

/// Shrinks a schedule, if it breaks a claim.
pub fn shrink<S: Scene>(
    scene: &S,
    schedule: &Schedule<S::Request>,
    control: ShrinkControl<'_>,
) -> Option<ShrinkReport<S::Request>> {
    let mut replayer = Replayer::new(scene);
    let (outcome, reached) = replayer.replay_with_coverage(schedule);
    let violation = outcome.violation?;
    let mut best = schedule.clone();
    best.property = Expectation::MustHold(Some(violation.property.to_string()));
    let pool = schedule.faults.clone();
    retain_reached_faults(&mut best, &reached);
    let mut shrinker = Shrinker {
        replayer,
        best,
        violation,
        runs: 0,
        pool,
        rebuild_runs_left: rebuild::REBUILD_RUNS_MAX.min(control.runs_max / 4),
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

/// Among more requests than that, joining two of them is not tried.
const JOINABLE_REQUESTS_MAX: usize = 10;

struct Shrinker<'a, 'w, S: Scene> {
    replayer: Replayer<'a, S>,
    best: Schedule<S::Request>,
    violation: Violation,
    runs: u64,
    /// Every fault that there was, in the names of the present frame.
    pool: Vec<Fault>,
    /// How many stories may yet be tried to tell it afresh.
    rebuild_runs_left: u64,
    control: ShrinkControl<'w>,
}

impl<S: Scene> Shrinker<'_, '_, S> {
    fn run(&mut self) -> (bool, Minimum) {
        // Every candidate from here on costs as much as the storm is long.
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
            // A round without success has tried every single removal, and nothing has changed since.
            match self.try_smaller_fault_sets() {
                Some(minimum) => return (true, minimum),
                None => continue,
            }
        }
    }

    /// Everything once; whether anything helped.
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

    /// Runs a candidate; if the same claim breaks, it is the best now.
    fn better(&mut self, candidate: &Schedule<S::Request>) -> bool {
        if self.is_finished() {
            return false;
        }
        self.runs += 1;
        let (outcome, reached) = self.replayer.replay_with_coverage(candidate);
        let same = |violation: &Violation| violation.property == self.violation.property;
        let Some(violation) = outcome.violation.filter(same) else { return false };
        self.violation = violation;
        self.best = candidate.clone();
        retain_reached_faults(&mut self.best, &reached);
        (self.control.progress)(self.runs, ScheduleSize::of(&self.best));
        true
    }

    /// The first of these that is better.
    fn adopt_first_better(
        &mut self,
        candidates: impl IntoIterator<Item = Schedule<S::Request>>,
    ) -> bool {
        candidates.into_iter().any(|candidate| self.better(&candidate))
    }

    /// What a run of this is.
    fn fingerprint(&mut self, schedule: &Schedule<S::Request>) -> u64 {
        self.runs += 1;
        self.replayer.replay(schedule).0.fingerprint
    }

    fn drop_faults(&mut self) -> bool {
        let before = self.best.faults.len();
        let all = self.best.faults.clone();
        ddmin::ddmin(&all, |some| {
            let candidate = Schedule { faults: some.to_vec(), ..self.best.clone() };
            self.better(&candidate)
        });
        self.best.faults.len() < before
    }

    /// Without a crash, what happened in the life after it happens in the one before.
    fn drop_incarnations(&mut self) -> bool {
        let mut any = false;
        let mut at = 0;
        while at < self.best.faults.len() {
            let candidate = match &self.best.faults[at] {
                Fault::Crash(place, _) => Some((place.node, place.incarnation)),
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
                self.better(&next)
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
            self.better(&candidate)
        });
        self.best.requests.len() < before
    }

    /// One request for two, if there are few and yet too many.
    fn join_requests(&mut self) -> bool {
        let mut any = false;
        while !self.is_small() && (2..=JOINABLE_REQUESTS_MAX).contains(&self.best.requests.len()) {
            let (requests, scene) = (&self.best.requests, self.replayer.scene());
            let pairs = (0..requests.len())
                .flat_map(|at| (0..requests.len()).map(move |removed| (at, removed)));
            let candidates: Vec<_> = pairs
                .filter(|(at, removed)| at != removed)
                .filter_map(|(at, removed)| {
                    let what = scene.merged(&requests[at].what, &requests[removed].what)?;
                    let mut candidate = self.best.clone();
                    candidate.requests[at].what = what;
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
            let scene = self.replayer.scene();
            while at < self.best.requests.len() && {
                let with = |what| {
                    let mut candidate = self.best.clone();
                    candidate.requests[at].what = what;
                    candidate
                };
                let candidates: Vec<_> = scene
                    .simplifications(&self.best.requests[at].what)
                    .into_iter()
                    .map(with)
                    .collect();
                self.adopt_first_better(candidates)
            } {
                any = true;
            }
        }
        any
    }

    /// What happens in the best so far.
    fn coordinates(&mut self) -> RunCoordinates {
        self.runs += 1;
        let mut world = replay_world(self.replayer.scene(), &self.best, RunCoordinates::default());
        world.run();
        world.checker().0.clone()
    }
}

/// What broke, as the first line of a story.
fn end_with_full_stop(reason: &str) -> String {
    if reason.ends_with(['.', '?', '!']) { reason.to_string() } else { format!("{reason}.") }
}

/// A fault that never comes up changes nothing.
fn retain_reached_faults<O>(schedule: &mut Schedule<O>, reached: &[bool]) {
    let mut reached = reached.iter();
    schedule.faults.retain(|_| *reached.next().expect("one for each fault"));
}
