//! Faults for proptest: flat lists over the coordinates that a run without faults reaches.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError};
use stormglass_node::{DiskError, Micros};

use super::environment;
use super::report::{
    SHRINK_TIME_MAX, failure_message, replay_file, require_properties, test_command,
};
use crate::determinism::compare_schedule;
use crate::disk::Survival;
use crate::fault::{BarrierFault, Crash, CrashKind, EffectAt, Fault, MessageAt, MessageFault};
use crate::profile::Setup;
use crate::protocol::Protocol;
use crate::ratio::Permille;
use crate::replay::{record, replay_world};
use crate::schedule::{Expectation, Schedule};
use crate::shrink::{RunCoordinates, ShrinkControl, ShrinkScope, shrink};

/// The greatest number of runs to shrink one failing case: proptest tries many.
const RUNS_MAX: u64 = 1_500;

/// The greatest number of faults in one case; proptest removes those that do not matter.
const FAULTS_MAX: usize = 8;

/// Lists of faults that can happen to a protocol: each at a coordinate of its run without faults,
/// or one after that, as a crash or a loss may cause. No entry depends on another, so any part of a
/// list is a valid list: proptest shrinks by removing entries, and then to earlier coordinates and
/// simpler faults.
pub fn faults<P: Protocol>(
    protocol: &P,
    setup: &Setup,
) -> impl Strategy<Value = Vec<Fault>> + use<P> {
    let base = base_schedule(protocol, setup);
    require_properties(protocol, &base.plan);
    let mut world = replay_world(protocol, &base, RunCoordinates::default());
    world.run();
    let coordinates = &world.checker().0;
    let messages: Vec<MessageAt> = coordinates.messages().iter().map(|(_, at)| *at).collect();
    let effects = coordinates.effects();
    let barriers: Vec<EffectAt> = coordinates.barriers().to_vec();
    let mut kinds = Vec::new();
    if !messages.is_empty() {
        kinds.push(message(messages).boxed());
    }
    if !effects.is_empty() {
        kinds.push(crash(effects).boxed());
    }
    if !barriers.is_empty() {
        kinds.push(barrier(barriers).boxed());
    }
    // Without any effect there is nothing to disturb: a property over no faults would always hold.
    assert!(
        !kinds.is_empty(),
        "the run without faults has no message, effect or barrier: there is no fault to draw"
    );
    vec(proptest::strategy::Union::new(kinds), 0..=FAULTS_MAX)
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

fn message(at: Vec<MessageAt>) -> impl Strategy<Value = Fault> {
    let fault = prop_oneof![
        Just(MessageFault::Lose),
        (1u64..400).prop_map(|ms| MessageFault::Duplicate { after: Micros::from_millis(ms) }),
        (1u64..400).prop_map(|ms| MessageFault::Delay { by: Micros::from_millis(ms) }),
    ];
    // The next one of its name as well: a fault may cause a message that the run without faults
    // does not have.
    (select(at), 0u32..2, fault).prop_map(|(at, offset, fault)| {
        Fault::Message(MessageAt { nth: at.nth + offset, ..at }, fault)
    })
}

fn crash(at: Vec<EffectAt>) -> impl Strategy<Value = Fault> {
    let how = prop_oneof![
        select([1000, 0, 500].map(|keep| Permille::new(keep).expect("at most 1000")).to_vec())
            .prop_map(|keep| CrashKind::Kill { keep }),
        select(vec![Survival::None, Survival::All]).prop_map(CrashKind::PowerCut),
        (0u32..6).prop_map(|first| CrashKind::PowerCut(Survival::Prefix(first))),
    ];
    // Mostly the incarnation of the run without faults; another one needs a crash before it.
    let incarnation = prop_oneof![4 => Just(0u32), 1 => Just(1)];
    (select(at), incarnation, how, 1u64..100).prop_map(|(at, offset, how, down_ms)| {
        let crash = Crash { how, down_for: Some(Micros::from_millis(down_ms)), at_rest: None };
        Fault::Crash(EffectAt { incarnation: at.incarnation + offset, ..at }, crash)
    })
}

fn barrier(at: Vec<EffectAt>) -> impl Strategy<Value = Fault> {
    let fault = prop_oneof![
        (1u64..200).prop_map(|ms| BarrierFault::Slow { by: Micros::from_millis(ms) }),
        Just(BarrierFault::Fail(DiskError::Io)),
    ];
    (select(at), fault).prop_map(|(at, fault)| Fault::Barrier(at, fault))
}
