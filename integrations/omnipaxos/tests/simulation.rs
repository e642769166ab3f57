//! Over sessions every property holds; every deliberate bug is found; the schedules of
//! `regressions` still do what they say.

use stormglass_omnipaxos::Bug;
use stormglass_omnipaxos::simulation::simulation;
use stormglass_sim::hunt::{HuntOptions, Progress, hunt};
use stormglass_sim::protocol::Protocol;

#[test]
fn counters_are_replicated_over_sessions() {
    simulation::<true>(None).check();
}

/// The first seed below 1,000, over sessions, with which the bug violates the property.
fn seed_that_finds(bug: Bug, property: &str) -> Option<u64> {
    let simulation = simulation::<true>(Some(bug));
    let options =
        HuntOptions { keep_going: true, jobs: 2, ..HuntOptions::new(simulation.setup(), 0..=999) };
    let report = hunt(&simulation, &options, &Progress::default());
    let mut failures = report.failures.iter();
    failures.find(|(_, violation)| violation.property == property).map(|(seed, _)| *seed)
}

fn property_that_finds(bug: Bug) -> &'static str {
    match bug {
        Bug::SendsBeforeDurable
        | Bug::ForgetsPromise
        | Bug::ForgetsAcceptedRound
        | Bug::TakesLogAsDecided
        | Bug::SplitsAtomicWrites
        | Bug::KeepsReplacedEntries => "OneLog",
        Bug::ExecutesRepeatedly | Bug::ReadsLocally => "CountersAreLinearizable",
        Bug::ForgetsReconnect | Bug::NeverReclaims => "ReplicasConverge",
    }
}

#[test]
fn every_bug_is_found_within_1000_seeds() {
    for (bug, name, _) in Bug::ALL {
        let property = property_that_finds(bug);
        let Some(seed) = seed_that_finds(bug, property) else {
            panic!("{name} violates {property} in none of 1,000 seeds");
        };
        println!("{name:24}{property:26}seed {seed}");
    }
}

#[test]
fn a_late_accept_sync_cuts_a_decided_log_over_datagrams() {
    let text = include_str!("../regressions/datagrams/late-accept-sync-cuts-decided-log.schedule");
    simulation::<false>(None).replay(text);
}

#[test]
fn a_late_prepare_req_stops_the_cluster_over_datagrams() {
    let text = include_str!("../regressions/datagrams/late-prepare-req-stops-the-cluster.schedule");
    simulation::<false>(None).replay(text);
}

/// With debug assertions in the library, a node panics in this run instead.
#[test]
fn the_last_decision_is_not_resent_over_sessions() {
    let text = include_str!("../regressions/sessions/last-decision-is-not-resent.schedule");
    simulation::<true>(None).replay(text);
}

#[test]
fn a_restarted_candidate_stays_behind_without_the_remedy() {
    let text =
        include_str!("../regressions/never-reclaims/restarted-candidate-stays-behind.schedule");
    simulation::<true>(Some(Bug::NeverReclaims)).replay(text);
}

#[test]
fn a_restarted_candidate_catches_up_with_the_remedy() {
    let text =
        include_str!("../regressions/never-reclaims/restarted-candidate-stays-behind.schedule");
    let expectation = "expect           violation of ReplicasConverge";
    assert!(text.contains(expectation));
    simulation::<true>(None).replay(&text.replace(expectation, "expect no violation"));
}
