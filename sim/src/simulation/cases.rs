//! Faults for proptest: flat lists over the coordinates that a run without faults reaches.

mod families;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::Union;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError};

use self::families::families;
use super::environment;
use super::report::{
    SHRINK_TIME_MAX, failure_message, replay_file, require_properties, test_command,
};
use crate::determinism::compare_schedule;
use crate::fault::Fault;
use crate::profile::Setup;
use crate::protocol::{Protocol, injected_faults};
use crate::replay::{record, replay_world};
use crate::schedule::{Expectation, Schedule};
use crate::shrink::{RunCoordinates, ShrinkControl, ShrinkScope, shrink};

/// The greatest number of runs to shrink one failing case: proptest tries many.
const RUNS_MAX: u64 = 1_500;

/// The greatest number of faults in one case, where a partition counts as one; proptest removes
/// those that do not matter.
const FAULTS_MAX: usize = 8;

/// Lists of faults that can happen to a protocol: those kinds that the profile draws by default and
/// the protocol [allows](Protocol::allowed_faults), but none of the history of a disk (D13 to D17)
/// and no node that never restarts (P6).
///
/// Each fault is at a coordinate or a time of the run without faults, or one after that, as a crash
/// or a loss may cause. No entry depends on another, so any part of a list is a valid list:
/// proptest shrinks by removing entries, and then to earlier coordinates and shorter, simpler
/// faults.
///
/// # Panics
/// If the simulation has no property, or the run without faults nothing that a fault could disturb.
pub fn faults<P: Protocol>(
    protocol: &P,
    setup: &Setup,
) -> impl Strategy<Value = Vec<Fault>> + use<P> {
    let base = base_schedule(protocol, setup);
    require_properties(protocol, &base.plan);
    let mut world = replay_world(protocol, &base, RunCoordinates::default());
    world.run();
    let coordinates = &world.checker().0;
    let of_profile = setup.profile.fault_kinds();
    let excluded = of_profile.without(injected_faults(protocol));
    let families = families(coordinates, &base.plan, of_profile.without(excluded));
    // Without any effect there is nothing to disturb: a property over no faults would always hold.
    assert!(
        !families.is_empty(),
        "there is no fault to draw: the run without faults has no message, effect or barrier, or \
         profile {} and the simulation exclude every fault of these",
        setup.profile
    );
    // Groups, since a partition is two faults, one each way.
    vec(Union::new_weighted(families), 0..=FAULTS_MAX).prop_map(|groups| groups.concat())
}

/// The first seed (or `STORMGLASS_SEED`) without its faults, with base timing.
fn base_schedule<P: Protocol>(protocol: &P, setup: &Setup) -> Schedule<P::Request> {
    let (_, mut schedule) = record(protocol, setup, environment::seed().unwrap_or(0));
    schedule.faults.clear();
    schedule.plan.permanently_down.clear();
    // Base timing: proptest's faults are the only deviation, and a shrunk case is easy to read.
    schedule.plan.timing.key = None;
    schedule.expectation = Expectation::NoViolation(None);
    schedule
}

/// Runs the first seed with these faults and no others; if the environment names a schedule, that
/// one instead.
///
/// # Errors
/// If a property is violated: with the message of [`Simulation::check`](super::Simulation::check).
/// It is no panic, since proptest tries many smaller lists after the first that fails, and their
/// messages would hide the last.
pub fn check_faults<P: Protocol>(
    protocol: &P,
    setup: &Setup,
    faults: &[Fault],
) -> Result<(), TestCaseError> {
    if let Some(path) = environment::replay() {
        return replay_file(protocol, &path)
            .map_err(|error| TestCaseError::fail(error.to_string()));
    }
    let schedule = Schedule { faults: faults.to_vec(), ..base_schedule(protocol, setup) };
    // Proptest removes faults; it cannot shrink requests, nodes and times.
    let control = ShrinkControl {
        runs_max: RUNS_MAX,
        time_max: Some(SHRINK_TIME_MAX),
        ..ShrinkControl::new(ShrinkScope::of(setup))
    };
    let Some(mut shrunk) = shrink(protocol, &schedule, control) else { return Ok(()) };
    if let Some(nondeterminism) = compare_schedule(protocol, &schedule, "the case") {
        return Err(TestCaseError::fail(format!(
            "the case violated {}\nbut {nondeterminism}",
            shrunk.original
        )));
    }
    shrunk.schedule.note.push("Found by proptest.".to_string());
    let sizes = format!("the case {}", shrunk.summary());
    Err(TestCaseError::fail(failure_message(
        protocol,
        &shrunk.schedule,
        &shrunk.violation,
        &sizes,
        &test_command(),
    )))
}

/// The configuration of a property over faults: the number of cases, and the file in which failed
/// cases are kept, best one of `regressions/proptest/`.
///
/// # Panics
/// If there are no cases: a property that is never tried would hold.
pub fn proptest_config(cases: u32, file: &'static str) -> Config {
    assert!(cases > 0, "a property needs at least one case");
    let failure_persistence = Some(Box::new(FileFailurePersistence::Direct(file)) as Box<_>);
    Config { failure_persistence, ..Config::with_cases(cases) }
}
