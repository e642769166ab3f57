//! The causes of a violation in the message of a failing test: of mutants of two-phase commit.

use std::panic::catch_unwind;

use stormglass_sim::profile::{Profile, Setup};
use stormglass_sim::simulation::check;

use crate::mutants::{Mutant, MutantProtocol};

/// The lines of the causes, and the message of which they are a part.
fn causes_of(mutant: Mutant, profile: Profile) -> (Vec<String>, String) {
    let setup = Setup { profile, ..Setup::default() };
    let panic = catch_unwind(|| check(&MutantProtocol(mutant), &setup, 300));
    let panic = panic.expect_err("the mutant is found");
    let message = panic.downcast_ref::<String>().expect("a text").clone();
    let mut lines = message.lines().skip_while(|line| !line.starts_with("causes: "));
    lines.next().unwrap_or_else(|| panic!("no causes in\n{message}"));
    let causes = lines.take_while(|line| !line.is_empty()).map(str::to_string).collect();
    println!("{message}");
    (causes, message)
}

/// For each pair, in this order, a line of the causes has both texts.
#[track_caller]
fn assert_in_order(causes: &[String], expected: &[[&str; 2]]) {
    let mut rest = causes.iter();
    for [one, other] in expected {
        let is_there = rest.any(|line| line.contains(one) && line.contains(other));
        assert!(is_there, "no `{one}` `{other}` in its place in\n{}", causes.join("\n"));
    }
}

/// The record that the next incarnation has not read, the crash, and the boot.
#[test]
fn causes_of_a_forgotten_record_are_the_record_and_the_crash() {
    let (causes, message) = causes_of(Mutant::IgnoresLogAtBoot, Profile::Crashy);
    assert!(message.contains("W9 RecoveryIsIdempotent"), "{message}");
    assert_in_order(
        &causes,
        &[["append ", "Met"], ["KILLED", ""], ["  boot", ""], ["-> ", "Hello as incarnation 2"]],
    );
    assert!(causes.len() <= 36, "{}", causes.join("\n"));
}

/// The write that failed, the barrier after it, and the vote that did not mind.
#[test]
fn causes_of_an_ignored_failure_are_the_failed_write_and_its_barrier() {
    let (causes, _) = causes_of(Mutant::IgnoresBarrierFailures, Profile::FaultyDisk);
    assert_in_order(
        &causes,
        &[
            ["<- ", "Prepare c1.1"],
            ["FAULT", ""],
            ["FAILED", "input/output error"],
            ["-> ", "Vote"],
        ],
    );
    assert!(causes.len() <= 20, "{}", causes.join("\n"));
}

/// The votes, the decision, and where it was turned round.
#[test]
fn causes_of_a_reversed_decision_are_the_votes_and_the_decision() {
    let (causes, _) = causes_of(Mutant::TreatsCommitAsAbort, Profile::Swarm);
    let expected = [
        ["request ", "Transact"],
        ["-> ", "Prepare"],
        ["append ", "Prepared"],
        ["-> ", "Vote"],
        ["append ", "Commit"],
        ["-> ", "Commit"],
        ["<- ", "Commit"],
    ];
    assert_in_order(&causes, &expected);
    assert!(causes.len() <= 25, "{}", causes.join("\n"));
}

/// A node in doubt asks one that is down every 100 ms.
#[test]
fn losses_that_repeat_are_shown_once() {
    let (causes, message) = causes_of(Mutant::NeverAnswersInquiries, Profile::Swarm);
    assert_in_order(&causes, &[["-> ", "Vote"], ["LOST", "Inquire"], ["-> ", "Inquire"]]);
    let lost = message.lines().filter(|line| line.contains("LOST      Inquire")).count();
    assert!(lost > 20 && causes.len() <= 60, "{lost} {}", causes.join("\n"));
}
