//! Stories told in faults: the four that the node's predecessor had tests for, and those that broke it.

use stormglass::commit::Action;
use stormglass::{About, NodeId, Subject};
use stormglass_sim::disk::Survival;
use stormglass_sim::fault::{Crash, CrashKind, Deed, DeedAt, End, Fault, MessageAt, MessageFault};

use crate::rig::{C1_1, impossible, op, plan, run_clean, wish};

fn put(node: u16) -> stormglass::commit::Op {
    op(node, Action::Put(7))
}

fn about(kind: &'static str) -> About {
    About { kind, subject: Some(Subject::Request(C1_1)) }
}

fn power_cut(node: u16, deed: Deed, survival: Survival) -> Fault {
    let at = DeedAt { node: NodeId(node), life: 1, deed, nth: 1 };
    Fault::Crash(at, Crash { how: CrashKind::PowerCut(survival), down_us: Some(20_000), damage: None })
}

fn lose(from: u16, to: u16, kind: &'static str, nth: u32) -> Fault {
    let (from, to) = (End::Node(NodeId(from)), End::Node(NodeId(to)));
    Fault::Message(MessageAt { from, to, about: about(kind), nth }, MessageFault::Lose)
}

#[test]
fn happy_path_commits_everywhere() {
    let counts = run_clean(plan(4), vec![wish(&[put(0), put(1), put(2), put(3)])], &[]);
    assert_eq!(counts.answered, ["Committed"]);
    assert_eq!(counts.written["Committed"], 3);
}

#[test]
fn one_no_aborts_everywhere() {
    let counts = run_clean(plan(4), vec![wish(&[put(0), put(1), impossible(2), put(3)])], &[]);
    assert!(counts.answered.contains(&"Aborted") && !counts.answered.contains(&"Committed"));
    assert_eq!(counts.written.get("Commit"), None);
}

/// 1. All vote Yes; n0 forces COMMIT and tells n1.
/// 2. n1 writes COMMITTED and loses power before it is durable; nothing unsynced survives.
/// 3. n1 boots in doubt, its locks restored, asks, is told, and acknowledges.
#[test]
fn a_participant_recovers_from_its_disk_and_learns_the_decision() {
    let crash = power_cut(1, Deed::Append(about("Committed")), Survival::None);
    let counts = run_clean(plan(3), vec![wish(&[put(0), put(1), put(2)])], &[crash]);
    assert_eq!(counts.answered, ["Committed"]);
    assert_eq!(counts.written["Committed"], 3, "once in vain");
}

#[test]
fn the_coordinator_times_out_when_a_vote_is_missing() {
    let mute: Vec<Fault> = (1..=3).map(|nth| lose(2, 0, "Vote", nth)).collect();
    let counts = run_clean(plan(3), vec![wish(&[put(0), put(1), put(2)])], &mute[..2]);
    assert_eq!(counts.answered, ["Aborted"]);
    assert!(counts.sent["Abort"] >= 1);
}

/// 1. n0 forces COMMIT and loses power before it has told anybody.
/// 2. It boots, finds COMMIT without END, and says Commit to all.
#[test]
fn a_commit_that_nobody_heard_of_is_said_again_after_a_restart() {
    let crash = power_cut(0, Deed::Send(about("Commit"), NodeId(1)), Survival::None);
    let lost = lose(0, 1, "Commit", 1);
    let counts = run_clean(plan(3), vec![wish(&[put(0), put(1), put(2)])], &[crash, lost]);
    assert_eq!(counts.answered, ["Committed"], "the client asked again");
    assert_eq!(counts.written["Committed"], 2);
}

/// 1. All vote Yes; n0 appends COMMIT and loses power before it is durable: it was never decided.
/// 2. n1 and n2 are in doubt and ask; n0, in its second life, knows nothing of it: aborted, by presumption.
/// 3. The client asks what became of c1.1: aborted, for it was addressed to the first life.
#[test]
fn a_commit_that_was_not_durable_never_happened() {
    let crash = power_cut(0, Deed::Append(about("Commit")), Survival::None);
    let counts = run_clean(plan(3), vec![wish(&[put(0), put(1), put(2)])], &[crash]);
    assert_eq!(counts.answered, ["Aborted"]);
    assert_eq!(counts.written["Aborted"], 2);
}

/// A duplicate of an old Commit finds the outcome, and is acknowledged again; nothing is written twice.
#[test]
fn a_duplicate_commit_changes_nothing() {
    let (from, to) = (End::Node(NodeId(0)), End::Node(NodeId(1)));
    let again = MessageFault::Duplicate { after_us: 100_000 };
    let fault = Fault::Message(MessageAt { from, to, about: about("Commit"), nth: 1 }, again);
    let counts = run_clean(plan(2), vec![wish(&[put(0), put(1)])], &[fault]);
    assert_eq!((counts.written["Committed"], counts.sent["Ack"]), (1, 2));
}
