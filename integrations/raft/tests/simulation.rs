//! The node satisfies its properties, and each property finds a deliberate bug.

use std::panic::{AssertUnwindSafe, catch_unwind};

use stormglass_raft::Bug;
use stormglass_raft::node::Replica;
use stormglass_raft::properties::{
    ElectionSafety, Linearizable, LogMatching, NodesConverge, OneVotePerTerm, RecoversWhatItSent,
    StateMachineSafety,
};
use stormglass_raft::simulation::{simulation, without_properties};
use stormglass_raft::wire::Wire;
use stormglass_sim::hunt::{HuntOptions, Progress, hunt};
use stormglass_sim::property::{Checker, Property};
use stormglass_sim::protocol::Protocol;
use stormglass_sim::simulation::Simulation;

const TICK_WHILE_INSTALLING: &str = include_str!("../regressions/tick-while-installing.schedule");

/// The property that the first failing of these seeds violates, if one fails.
fn violated(
    simulation: &Simulation<Replica, impl Checker<Replica> + Sync>,
    seeds: u64,
) -> Option<&'static str> {
    let options = HuntOptions::new(simulation.setup(), 0..=seeds - 1);
    let report = hunt(simulation, &options, &Progress::default());
    let (seed, violation) = report.failures.first()?;
    println!("seed {seed}: {violation}");
    Some(violation.property)
}

fn finds<P: Property<Replica> + Default + Sync>(bug: Bug, seeds: u64) {
    let with_bug = without_properties(Some(bug)).property(P::default());
    assert_eq!(violated(&with_bug, seeds), Some(P::NAME), "{bug:?}");
}

fn panic_message(check: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(check)).expect_err("the check fails");
    panic.downcast_ref::<String>().expect("a text").clone()
}

#[test]
fn no_property_is_violated() {
    simulation(None).check();
}

#[test]
fn each_planted_bug_is_found_within_1000_seeds() {
    let expected = [
        (Bug::SendsBeforeDurable, RecoversWhatItSent::NAME),
        (Bug::VoteNotPersisted, RecoversWhatItSent::NAME),
        (Bug::AppliedIndexLost, StateMachineSafety::NAME),
        (Bug::LocalReads, Linearizable::NAME),
        (Bug::AnswersBeforeCommit, Linearizable::NAME),
        (Bug::NoSessions, Linearizable::NAME),
    ];
    for (bug, property) in expected {
        assert_eq!(violated(&simulation(Some(bug)), 1_000), Some(property), "{bug:?}");
    }
}

#[test]
fn lost_snapshot_that_is_not_reported_keeps_nodes_apart() {
    finds::<NodesConverge>(Bug::LostSnapshotNotReported, 20_000);
}

#[test]
fn forgotten_votes_are_votes_for_two_candidates() {
    finds::<OneVotePerTerm>(Bug::VoteNotPersisted, 20_000);
}

#[test]
fn forgotten_votes_elect_two_leaders() {
    finds::<ElectionSafety>(Bug::VoteNotPersisted, 20_000);
}

#[test]
fn two_leaders_of_a_term_write_two_logs() {
    finds::<LogMatching>(Bug::TermNotPersisted, 20_000);
}

#[test]
fn timeouts_that_the_machine_draws_are_reported() {
    let message = panic_message(|| simulation(Some(Bug::UntamedTimeouts)).check());
    assert!(message.contains("not deterministic"), "{message}");
}

#[test]
fn node_does_not_tick_while_it_installs_a_snapshot() {
    simulation(None).replay(TICK_WHILE_INSTALLING);
    let with_ticks = simulation(Some(Bug::TicksWhileInstalling));
    let message = panic_message(|| with_ticks.replay(TICK_WHILE_INSTALLING));
    assert!(message.contains("NodeNeverPanics"), "{message}");
    assert!(message.contains("unexpected error getting unapplied entries"), "{message}");
}

#[test]
fn message_is_the_same_after_a_connection() {
    let mut message = raft::eraftpb::Message::default();
    message.set_msg_type(raft::eraftpb::MessageType::MsgSnapshot);
    message.set_index(300);
    message.mut_snapshot().set_data(vec![1, 2, 255].into());
    let bytes = stormglass_node::codec::encode(&Wire(message.clone()));
    let read: Wire = stormglass_node::codec::decode(&bytes).expect("a message");
    assert_eq!(read.0, message);
}
