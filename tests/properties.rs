//! Crash schedules from proptest: flat lists of faults at the coordinates of a run without faults.
//! A failure reads like a schedule.

use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use stormglass_commit_sim::Commit;
use stormglass_sim::profile::Setup;
use stormglass_sim::replay::replay_world;
use stormglass_sim::schedule::Schedule;
use stormglass_sim::shrink::ScheduleSize;
use stormglass_sim::simulation::{check_faults, faults, proptest_config};

use crate::mutants::{Mutant, MutantProtocol};

// Few nodes and requests: the lists of faults are to be read by people.
fn small() -> Setup {
    Setup { nodes: Some(3), txns: Some(4), ..Setup::default() }
}

proptest! {
    #![proptest_config(proptest_config(300, "regressions/proptest/commit.txt"))]

    #[test]
    fn no_property_is_violated_under_a_few_faults(fault_list in faults(&Commit, &small())) {
        check_faults(&Commit, &small(), &fault_list)?;
    }
}

/// The message of a failing property: proptest's own shrinker leaves few faults, and the message
/// has everything that is needed next.
#[test]
fn proptest_failure_message_contains_a_minimal_schedule() {
    let protocol = MutantProtocol(Mutant::Panics);
    // Nothing is saved, since this failure is intended.
    let mut runner =
        TestRunner::new(ProptestConfig { failure_persistence: None, ..proptest_config(2_000, "") });
    let outcome = runner.run(&faults(&protocol, &small()), |fault_list| {
        check_faults(&protocol, &small(), &fault_list)
    });
    let Err(TestError::Fail(reason, minimal)) = outcome else { panic!("the mutant is not found") };
    let message = reason.message();
    println!("{message}");
    assert!(minimal.len() <= 3, "{minimal:?}");
    assert!(message.contains("violates NodeNeverPanics"), "{message}");
    assert!(message.contains("run it again with\n  cargo test"), "{message}");
    assert!(message.contains("VIOLATED  NodeNeverPanics"), "{message}");
    // The schedule is indented in the message, and ends before the causes.
    let text = message.lines().skip_while(|line| *line != "    stormglass 2");
    let text = text.take_while(|line| !line.starts_with("causes: "));
    let schedule: String = text.map(|line| line.trim_start().to_owned() + "\n").collect();
    let read = Schedule::read(&protocol, &schedule)
        .unwrap_or_else(|problem| panic!("{problem}\n{schedule}"));
    let size = ScheduleSize::of(&read);
    assert!((1..=3).contains(&size.faults) && (1..=2).contains(&size.requests), "{size}");
    let violation = replay_world(&protocol, &read, ())
        .run()
        .violation
        .expect("the schedule in the message violates the property");
    assert_eq!(violation.property, "NodeNeverPanics");
}
