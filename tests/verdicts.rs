//! What a simulation says of tests that test nothing, of nodes that are not deterministic, and of
//! runs that do not end. Each test fails if the simulator does not report it.

mod flawed;
mod programs;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use stormglass_commit_sim::Commit;
use stormglass_sim::fault::{Fault, TimedFault};
use stormglass_sim::hunt::{HuntOptions, HuntReport, Progress, hunt};
use stormglass_sim::limits::RunLimits;
use stormglass_sim::profile::{Profile, Setup};
use stormglass_sim::protocol::{Json, Protocol};
use stormglass_sim::replay::{record, seed_world};
use stormglass_sim::schedule::{Expectation, Schedule};
use stormglass_sim::shrink::{ScheduleSize, ShrinkControl, ShrinkScope, shrink};
use stormglass_sim::trace::{Filter, Trace};

use flawed::{Flaw, FlawedSimulation, Wrong, simulation, without_property};

/// The message with which this panics.
fn panic_message(test: impl FnOnce()) -> String {
    let cause = catch_unwind(AssertUnwindSafe(test)).expect_err("the test fails");
    let text = cause.downcast_ref::<String>().cloned();
    text.or_else(|| cause.downcast_ref::<&str>().map(ToString::to_string)).expect("a text")
}

fn hunt_flawed(protocol: &FlawedSimulation, seeds: u64) -> HuntReport {
    hunt(protocol, &HuntOptions::new(protocol.setup(), 0..=seeds - 1), &Progress::default())
}

/// The ways in which a node depends on more than its inputs.
const HIDDEN_INPUTS: [Flaw; 3] = [Flaw::DrawsRandomNumber, Flaw::IteratesHashMap, Flaw::ReadsClock];

#[test]
fn hidden_nondeterminism_is_named_by_a_test() {
    for flaw in HIDDEN_INPUTS {
        let message = panic_message(|| simulation(flaw, Wrong::Large).check());
        assert!(message.contains("seed 0 is not deterministic"), "{flaw:?}: {message}");
        assert!(message.contains(" ms, after "), "the time of the difference: {message}");
        assert!(message.contains("\n  the other  "), "both lines: {message}");
    }
}

#[test]
fn hidden_nondeterminism_is_named_by_a_hunt() {
    for flaw in HIDDEN_INPUTS {
        let report = hunt_flawed(&simulation(flaw, Wrong::Large), 10);
        let nondeterminism = report.nondeterminism.expect("two runs differ");
        assert!(nondeterminism.first.is_some(), "{flaw:?}: {nondeterminism}");
    }
    let report = hunt_flawed(&simulation(Flaw::None, Wrong::Large), 10);
    assert_eq!((report.nondeterminism, report.compared), (None, 1));
}

/// A violation in one of two runs has no schedule.
#[test]
fn violation_of_a_nondeterministic_node_is_not_shrunk() {
    let test = simulation(Flaw::AnswersAtRandom, Wrong::Large);
    let message = panic_message(|| test.check());
    assert!(message.contains("is not deterministic"), "{message}");
    assert!(!message.contains("shrunk to"), "{message}");
}

#[test]
fn test_in_which_no_request_is_answered_fails() {
    let message = panic_message(|| simulation(Flaw::NeverAnswers, Wrong::Large).check());
    assert!(message.contains("no request was ever answered"), "{message}");
}

#[test]
fn test_without_a_property_fails() {
    let message = panic_message(|| without_property(Flaw::None).check());
    assert!(message.contains("the simulation has no property"), "{message}");
}

/// A schedule with faults of messages, the same without any of them within reach, and with one.
struct Schedules {
    reached: String,
    unreached: String,
    reached_in_part: String,
}

fn schedules() -> Schedules {
    let protocol = simulation(Flaw::None, Wrong::Large).profile(Profile::Lossy);
    let mut schedule = schedule_with_message_faults(&protocol);
    schedule.faults.truncate(2);
    let reached = schedule.write(&protocol);
    move_out_of_reach(&mut schedule.faults[1]);
    let reached_in_part = schedule.write(&protocol);
    move_out_of_reach(&mut schedule.faults[0]);
    Schedules { reached, unreached: schedule.write(&protocol), reached_in_part }
}

/// The schedule of the first seed with two faults of messages, and no others.
fn schedule_with_message_faults(protocol: &FlawedSimulation) -> Schedule<Json<u64>> {
    for seed in 0..100 {
        let (_, mut schedule) = record(protocol, &protocol.setup(), seed);
        schedule.faults.retain(|fault| matches!(fault, Fault::Message(..)));
        if schedule.faults.len() >= 2 {
            return schedule;
        }
    }
    panic!("no seed of this profile has two faults of messages");
}

fn move_out_of_reach(fault: &mut Fault) {
    if let Fault::Message(at, _) = fault {
        at.nth += 1_000_000;
    }
}

#[test]
fn schedule_whose_faults_do_not_come_up_fails() {
    let Schedules { reached, unreached, reached_in_part } = schedules();
    let test = simulation(Flaw::None, Wrong::Large);
    test.replay(&reached);
    let message = panic_message(|| test.replay(&unreached));
    assert!(message.contains("did not reach 2 entries of the schedule:\n  "), "{message}");
    // A kept schedule has to come up completely.
    let message = panic_message(|| test.replay(&reached_in_part));
    assert!(message.contains("did not reach one entry of the schedule:\n  "), "{message}");
}

/// The message tells what the run of its own trace showed.
#[test]
fn report_shows_what_its_own_run_showed() {
    let test = simulation(Flaw::AnswersAtRandom, Wrong::Large);
    let (_, mut schedule) = record(&test, &test.setup(), 3);
    schedule.expectation = Expectation::NoViolation(None);
    schedule.faults.clear();
    schedule.requests.truncate(1);
    let text = schedule.write(&test);
    let mut shown = [0, 0];
    for _ in 0..40 {
        // With one request, half of the runs violate nothing.
        let Err(cause) = catch_unwind(AssertUnwindSafe(|| test.replay(&text))) else { continue };
        let message = cause.downcast_ref::<String>().expect("a message");
        let has_violation = message.contains("VIOLATED  ");
        assert_eq!(has_violation, !message.contains("and now no property"), "{message}");
        shown[usize::from(has_violation)] += 1;
    }
    assert!(shown[0] > 0 && shown[1] > 0, "{shown:?}");
}

#[test]
fn the_last_seed_of_all_is_run() {
    let protocol = simulation(Flaw::None, Wrong::Large);
    let options = HuntOptions::new(protocol.setup(), u64::MAX..=u64::MAX);
    let report = hunt(&protocol, &options, &Progress::default());
    assert_eq!((report.seeds, report.fingerprint.is_some()), (1, true));
}

#[test]
fn empty_range_of_seeds_is_rejected() {
    #[allow(clippy::reversed_empty_ranges, reason = "an empty range is what is tested")]
    let message = panic_message(|| drop(HuntOptions::new(Setup::default(), 1..=0)));
    assert_eq!(message, "a hunt needs at least one seed");
}

/// Damage that looks like a torn tail excuses the loss of acknowledged commits.
#[test]
fn run_that_is_judged_in_part_is_not_clean() {
    let setup = Setup { profile: Profile::BitRot, ..Setup::default() };
    let report = hunt(&Commit, &HuntOptions::new(setup, 0..=299), &Progress::default());
    assert!(report.failures.is_empty() && report.judged_in_part > 0, "{report:?}");
    let (seed, until) = report.first_judged_in_part.expect("the lowest of them");
    let (outcome, _) = record(&Commit, &setup, seed);
    assert_eq!(outcome.judged_until, Some(until));
    // Other profiles damage nothing at rest.
    let swarm = hunt(&Commit, &HuntOptions::new(Setup::default(), 0..=299), &Progress::default());
    assert_eq!(swarm.judged_in_part, 0);
}

/// A node that rightly refuses to start is clean, and nobody waits for it.
#[test]
fn node_that_refuses_to_boot_is_down_for_good() {
    let setup = Setup { profile: Profile::BitRot, ..Setup::default() };
    let mut refusals = 0;
    for seed in 0..60 {
        let trace = Trace::new(Filter::default(), false);
        let mut world = seed_world(&Commit, &setup, seed, trace);
        assert_eq!(world.run().violation, None, "seed {seed}");
        let text = world.checker().0.text();
        let healed = text.find("HEALED").expect("the fault phase ends");
        let line = text[healed..].lines().next().expect("a line");
        for refused in text[..healed].lines().filter(|line| line.contains("REFUSED")) {
            let node = refused.split_whitespace().nth(1).expect("a node");
            assert!(line.contains("permanently down: ") && line.contains(node), "{line}");
            refusals += 1;
        }
    }
    assert!(refusals > 10, "{refusals} refusals");
}

/// The shrunk schedule of the first failing seed.
fn shrunk_failure(protocol: &FlawedSimulation) -> Schedule<Json<u64>> {
    let report = hunt_flawed(protocol, 200);
    let (seed, violation) = report.failures.first().expect("a seed fails");
    assert_eq!(violation.property, "AnswersAreRight", "{violation}");
    let (_, schedule) = record(protocol, &protocol.setup(), *seed);
    let control = ShrinkControl::new(ShrinkScope::of(&protocol.setup()));
    shrink(protocol, &schedule, control).expect("a violation").schedule
}

#[test]
fn shrinking_keeps_the_number_of_nodes_that_a_test_sets() {
    let test = simulation(Flaw::None, Wrong::Any).nodes(2);
    let schedule = shrunk_failure(&test);
    assert_eq!(ScheduleSize::of(&schedule).nodes, 2);
    // Otherwise one is enough.
    let test = simulation(Flaw::None, Wrong::Any);
    assert_eq!(ScheduleSize::of(&shrunk_failure(&test)).nodes, 1);
}

/// The node breaks when a message arrives twice, and when a clock jumps.
#[test]
fn shrinking_keeps_to_the_kinds_of_faults_that_a_test_allows() {
    let test = simulation(Flaw::TrustsClocks, Wrong::Large).profile(Profile::Skewed);
    let schedule = shrunk_failure(&test);
    let is_of_clocks = |fault: &Fault| {
        matches!(
            fault,
            Fault::Skew { .. }
                | Fault::At(
                    _,
                    TimedFault::ClockJump { .. }
                        | TimedFault::Pause { .. }
                        | TimedFault::Wake { .. },
                )
        )
    };
    assert!(!schedule.faults.is_empty(), "a fault is needed");
    assert!(schedule.faults.iter().all(is_of_clocks), "{:?}", schedule.faults);
}

#[test]
fn node_that_breaks_its_contract_is_blamed() {
    for (flaw, reason) in [
        (Flaw::SendsToItself, "n0 sends Ping to itself"),
        (Flaw::SendsToNobody, "n0 sends Ping to n99, but this cluster has "),
    ] {
        let test = simulation(flaw, Wrong::Large);
        let message = panic_message(|| test.check());
        assert!(message.contains("violates NodeKeepsItsContract"), "{message}");
        assert!(message.contains(reason), "{message}");
        assert!(message.contains("1 request, 1 node"), "it is shrunk: {message}");
    }
}

/// A sum of the node's values overflows in the property.
#[test]
fn panic_of_a_property_is_a_finding() {
    let message = panic_message(|| simulation(Flaw::AnswersTooMuch, Wrong::Sum).check());
    assert!(message.contains("violates PropertyNeverPanics"), "{message}");
    assert!(message.contains("attempt to add with overflow"), "{message}");
    assert!(message.contains("2 requests"), "it is shrunk: {message}");
}

#[test]
fn run_with_too_many_events_is_a_finding() {
    let limits = RunLimits::default().events_max(5_000);
    let test = simulation(Flaw::WakesForEver, Wrong::Large).limits(limits);
    let report = hunt_flawed(&test, 1);
    let (seed, violation) = report.failures.first().expect("the run is a finding");
    assert_eq!((*seed, violation.property), (0, "RunEndsWithinLimits"));
    assert!(violation.liveness);
    assert_eq!(report.tally.events, 5_001, "the first event too many");
}

#[test]
fn stopped_hunt_ends_in_the_middle_of_a_run() {
    let limits = RunLimits::default().events_max(u64::MAX);
    let test = simulation(Flaw::WakesForEver, Wrong::Large).limits(limits);
    let options = HuntOptions {
        wall_max: Some(Duration::from_millis(200)),
        ..HuntOptions::new(test.setup(), 0..=0)
    };
    let report = hunt(&test, &options, &Progress::default());
    assert_eq!((report.seeds, report.failures.len()), (0, 0));
}

#[test]
fn shrink_ends_with_its_time() {
    let test = simulation(Flaw::None, Wrong::Any);
    let (_, schedule) = record(&test, &test.setup(), 3);
    let control =
        ShrinkControl { time_max: Some(Duration::ZERO), ..ShrinkControl::new(ShrinkScope::any()) };
    let shrunk = shrink(&test, &schedule, control).expect("a violation");
    assert!(!shrunk.one_minimal);
}

/// The answer of the seed comes later than that of the smallest schedule: another reason of the
/// same property, which may be another bug.
#[test]
fn shrink_says_when_the_cause_is_another_one() {
    let test = simulation(Flaw::None, Wrong::Any).nodes(2);
    let (_, schedule) = record(&test, &test.setup(), late_seed(&test));
    let control = ShrinkControl::new(ShrinkScope::any());
    let shrunk = shrink(&test, &schedule, control).expect("a violation");
    assert!(shrunk.violation.reason.ends_with("at once"), "{}", shrunk.violation);
    assert!(!shrunk.same_cause && shrunk.summary().contains("perhaps for another cause"));
    assert!(shrunk.schedule.note.iter().any(|line| line.contains("perhaps for another cause")));
    assert_eq!(shrunk.schedule.plan.nodes, 1, "asked for, a cluster may become smaller");
}

/// A seed whose first answer comes late.
fn late_seed(test: &FlawedSimulation) -> u64 {
    let is_late = |seed: &u64| {
        let (outcome, _) = record(test, &test.setup(), *seed);
        outcome.violation.is_some_and(|violation| violation.reason.ends_with("later"))
    };
    (0..1_000).find(is_late).expect("some first request is sent late")
}
