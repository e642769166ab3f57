//! Shrinking: minimises a failing run to the same violation with the fewest faults and requests.
//!
//! Every candidate is run, and is adopted only if it violates the *same property*. The passes
//! remove faults (delta debugging), replace the rest by simpler ones, remove requests, operations,
//! clients and nodes, replace random timing by base timing, and shorten times. Early and late, the
//! schedule is tried in a cluster of a few nodes, with several timings. A schedule that is still
//! large gets other timing or is rebuilt from one or two of its requests (module `rebuild`). All
//! passes repeat until none of them helps.
//!
//! The result is 1-minimal: without any one of its faults, requests or operations, the run violates
//! no property or a different one. If at most three faults are left, all smaller subsets of the
//! original faults are tried as well, unless there are too many: then no smaller subset
//! violates the property in that cluster.
//!
//! Each pass is a type of its own. It reads the best schedule so far from the `Search` and offers
//! candidates to it; only the search adopts one. What passes may cost is in `shrink/budget.rs`.

mod base_timing;
mod budget;
mod cluster;
mod coordinates;
mod ddmin;
mod deadline;
mod minimum;
mod other_timing;
mod plan;
mod rebuild;
mod removal;
mod renumber;
mod requests;
mod scope;
mod search;
mod simplify;
mod times;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use stormglass_node::Micros;

use crate::property::Violation;
use crate::protocol::Protocol;
use crate::schedule::{Schedule, plural};
use base_timing::UseBaseTiming;
use cluster::{DropNodesAndClients, UseSmallCluster};
pub(crate) use coordinates::RunCoordinates;
use minimum::TrySmallerFaultSets;
use other_timing::UseOtherTiming;
use plan::{ChangeLogLimit, SimplifyPlan};
use rebuild::Rebuild;
use removal::{DropFaults, DropIncarnations, DropRequests, ReplaceRequestsByDelays};
use requests::{JoinRequests, SimplifyRequests};
use search::Search;
use simplify::SimplifyFaults;
use times::{SendEarlier, ShortenFaultPhase};

pub use minimum::Minimum;
pub use scope::ShrinkScope;

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
    /// The length of the fault phase.
    pub fault_phase: Micros,
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
            fault_phase: plan.fault_phase,
        }
    }
}

impl fmt::Display for ScheduleSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ScheduleSize { faults, requests, nodes, clients, fault_phase } = *self;
        let faults = plural(faults as u64, "fault");
        let requests = plural(requests as u64, "request");
        let nodes = plural(nodes.into(), "node");
        let clients = plural(clients.into(), "client");
        write!(f, "{faults}, {requests}, {nodes}, {clients}, {} ms", fault_phase.0 / 1000)
    }
}

/// The limits of a shrink, and its progress.
pub struct ShrinkControl<'a> {
    /// Once set, the shrink ends with the smallest schedule so far.
    pub stop: Arc<AtomicBool>,
    /// The shrink ends after this many runs, with the smallest schedule so far.
    pub runs_max: u64,
    /// The shrink ends after this wall time, with the smallest schedule so far.
    pub time_max: Option<Duration>,
    /// Which schedules it may try.
    pub scope: ShrinkScope,
    /// Called before every run, with the number of runs and the size of the best schedule so far.
    pub progress: Box<dyn FnMut(u64, ScheduleSize) + 'a>,
}

impl ShrinkControl<'_> {
    /// A shrink within this scope, with 20,000 runs and as much time as they take.
    pub fn new(scope: ShrinkScope) -> Self {
        ShrinkControl {
            stop: Arc::default(),
            runs_max: 20_000,
            time_max: None,
            scope,
            progress: Box::new(|_, _| {}),
        }
    }
}

/// The result of a shrink.
#[derive(Clone, Debug)]
pub struct ShrinkReport<O> {
    /// The smallest schedule found. It expects no violation of the property.
    pub schedule: Schedule<O>,
    /// The violation that `schedule` reproduces.
    pub violation: Violation,
    /// The violation of the original schedule.
    pub original: Violation,
    /// Whether both have the same cause, as far as their reasons and the request that the runs end
    /// with tell.
    pub same_cause: bool,
    /// The size of the original schedule.
    pub before: ScheduleSize,
    /// The number of runs.
    pub runs: u64,
    /// Whether every entry is needed: false only if the shrink was stopped early.
    pub one_minimal: bool,
    /// Whether fewer faults suffice.
    pub minimum: Minimum,
}

impl<O> ShrinkReport<O> {
    /// The sizes before and after, and whether the violation is still the original one.
    pub fn summary(&self) -> String {
        let ShrinkReport { schedule, original, same_cause, before, .. } = self;
        let mut text = format!("({before}) shrunk to {}", ScheduleSize::of(schedule));
        if !same_cause {
            text += &format!(
                "; the same property, but perhaps for another cause: before, {}",
                original.reason
            );
        }
        text
    }
}

/// Shrinks a schedule. `None` if its run violates no property.
pub fn shrink<P: Protocol>(
    protocol: &P,
    schedule: &Schedule<P::Request>,
    control: ShrinkControl<'_>,
) -> Option<ShrinkReport<P::Request>> {
    let rebuild = Rebuild::new(control.runs_max);
    let mut search = Search::new(protocol, schedule, control)?;
    let minimum = minimise(&mut search, rebuild);
    let same_cause = search.has_original_cause();
    let (mut best, violation, original, runs) = search.into_best();
    // A note of the original described the original run.
    best.note = vec![end_with_full_stop(&violation.reason)];
    if !same_cause {
        let reason = end_with_full_stop(&original.reason);
        best.note.push(format!("Before shrinking, perhaps for another cause: {reason}"));
    }
    Some(ShrinkReport {
        schedule: best,
        violation,
        original,
        same_cause,
        before: ScheduleSize::of(schedule),
        runs,
        one_minimal: minimum.is_some(),
        minimum: minimum.unwrap_or(Minimum::Unknown),
    })
}

/// The reason of a violation, as the first line of a note.
fn end_with_full_stop(reason: &str) -> String {
    if reason.ends_with(['.', '?', '!']) { reason.to_string() } else { format!("{reason}.") }
}

/// One way to make a schedule smaller or simpler.
trait Pass<P: Protocol> {
    /// Two or three words, for messages.
    fn name(&self) -> &'static str;
    /// Offers candidates to the search. Whether it made progress: the search adopted one of them.
    fn run(&mut self, search: &mut Search<'_, '_, P>) -> bool;
}

/// Runs all passes until none of them helps. `None` if the search ended early.
fn minimise<P: Protocol>(search: &mut Search<'_, '_, P>, mut rebuild: Rebuild) -> Option<Minimum> {
    let opening: [&mut dyn Pass<P>; 7] = [
        // First, since the cost of every later candidate is proportional to the fault phase.
        // Without it here the mutants take 137,360 runs instead of 128,345 (`budget` says how that
        // was measured).
        &mut ShortenFaultPhase,
        // A failure that needs a snapshot needs fewer requests with a shorter log, so before these
        // are removed: without it here, 201,103 runs.
        &mut ChangeLogLimit,
        // While there are many faults and requests: the more there are, the more likely some of
        // them violate the property in another cluster as well. With clusters that lack some of the
        // requests, the mutants end with 5 faults and 4 requests more.
        &mut UseSmallCluster::for_all_requests(),
        // Before the requests: the other way round takes 123,916 runs, but ends with 3 faults and 8
        // requests more.
        &mut DropFaults,
        &mut DropRequests,
        &mut UseSmallCluster::for_some_requests(),
        // Before the rounds, which are expensive in a large schedule. `Rebuild` tries only its
        // smallest candidates here.
        &mut rebuild,
    ];
    for pass in opening {
        run_pass(pass, search);
    }
    let mut smaller_sets = TrySmallerFaultSets::default();
    loop {
        while run_round(search) {}
        if search.is_finished() {
            return None;
        }
        // Again, with faults that are fewer and simpler now.
        if run_pass(&mut UseSmallCluster::for_some_requests(), search) {
            continue;
        }
        // A few hundred runs, so before the next one. The mutants do not need it; of 12 shrinks of
        // a Raft node that serves stale reads, three keep 5 to 9 requests without it and without
        // `ReplaceRequestsByDelays`.
        if run_pass(&mut UseOtherTiming, search) {
            continue;
        }
        // Up to 30,000 runs, and up to 20,000 for the sets below: only on what the others left.
        if run_pass(&mut rebuild, search) {
            continue;
        }
        // The last round tried every single removal without success, and nothing has changed
        // since: the schedule is 1-minimal.
        if !run_pass(&mut smaller_sets, search) {
            return Some(smaller_sets.minimum());
        }
    }
}

/// Runs every pass of a round once. Whether any of them helped.
fn run_round<P: Protocol>(search: &mut Search<'_, '_, P>) -> bool {
    // In the opposite order the mutants end with 4 faults more and 2 requests fewer, in 131,523
    // runs: within a round the order decides little.
    let round: [&mut dyn Pass<P>; 13] = [
        // What removes entries comes first: every later pass tries candidates for each entry.
        &mut DropFaults,
        &mut DropIncarnations,
        &mut DropRequests,
        // Without it: 129,630 runs instead of 104,334, 65 small, 2 requests more.
        &mut ReplaceRequestsByDelays,
        &mut JoinRequests,
        // What changes the whole run comes before what adapts single entries to it.
        &mut SimplifyPlan,
        &mut ChangeLogLimit,
        &mut UseBaseTiming,
        &mut SimplifyFaults,
        &mut SimplifyRequests,
        // A request that was simplified may no longer need some of the nodes.
        &mut DropNodesAndClients,
        // Last: how much time is needed depends on what is left. In front: 128,531 runs.
        &mut ShortenFaultPhase,
        &mut SendEarlier,
    ];
    let mut any = false;
    for pass in round {
        any |= run_pass(pass, search);
    }
    any && !search.is_finished()
}

fn run_pass<P: Protocol>(pass: &mut dyn Pass<P>, search: &mut Search<'_, '_, P>) -> bool {
    let adopted = search.adopted();
    let helped = pass.run(search);
    // A pass that claims progress and makes none would run for ever; one that hides its progress
    // would end the rounds too early.
    assert_eq!(helped, search.adopted() > adopted, "the pass `{}`", pass.name());
    helped
}
