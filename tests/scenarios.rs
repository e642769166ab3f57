//! Scenarios with faults: the four that the node's predecessor had tests for, and those in which it
//! failed.

use stormglass::commit::{Action, Key, Op};
use stormglass_commit_sim::workload::ClientRequest;
use stormglass_node::{About, DiskError, Micros, NodeId, RequestId, Subject};
use stormglass_sim::Permille;
use stormglass_sim::disk::Survival;
use stormglass_sim::fault::{
    Crash, CrashKind, EffectAt, EffectName, Endpoint, Fault, MessageAt, MessageFault, WriteFault,
};
use stormglass_sim::plan::Plan;
use stormglass_sim::workload::ClientId;

use crate::rig::{C1_1, client_request, op, plan, refused_op, run_clean};

fn put(node: u16) -> stormglass::commit::Op {
    op(node, Action::Put(7))
}

fn about(kind: &'static str) -> About {
    About { kind, subject: Some(Subject::Request(C1_1)) }
}

fn power_cut(node: u16, effect_name: EffectName, survival: Survival) -> Fault {
    let at = EffectAt { node: NodeId(node), incarnation: 1, effect_name, nth: 1 };
    Fault::Crash(
        at,
        Crash {
            how: CrashKind::PowerCut(survival),
            down_for: Some(Micros::from_millis(20)),
            at_rest: None,
        },
    )
}

fn lose(from: u16, to: u16, kind: &'static str, nth: u32) -> Fault {
    let from = Endpoint::Node(NodeId(from));
    let to = Endpoint::Node(NodeId(to));
    Fault::Message(MessageAt { from, to, about: about(kind), nth }, MessageFault::Lose)
}

fn delay(from: u16, to: u16, kind: &'static str, by: Micros) -> Fault {
    let from = Endpoint::Node(NodeId(from));
    let to = Endpoint::Node(NodeId(to));
    Fault::Message(MessageAt { from, to, about: about(kind), nth: 1 }, MessageFault::Delay { by })
}

#[test]
fn happy_path_commits_everywhere() {
    let counts = run_clean(plan(4), vec![client_request(&[put(0), put(1), put(2), put(3)])], &[]);
    assert_eq!(counts.answered, ["Committed"]);
    // The three subordinates: the coordinator's own part is decided by its COMMIT.
    assert_eq!(counts.written["Committed"], 3);
}

#[test]
fn one_no_vote_aborts_at_every_participant() {
    let counts =
        run_clean(plan(4), vec![client_request(&[put(0), put(1), refused_op(2), put(3)])], &[]);
    assert!(counts.answered.contains(&"Aborted") && !counts.answered.contains(&"Committed"));
    assert_eq!(counts.written.get("Commit"), None);
}

/// 1. All participants vote Yes; n0 forces COMMIT and sends Commit to n1.
/// 2. n1 writes COMMITTED and loses power before it is durable; nothing unsynced survives.
/// 3. n1 boots in doubt, its locks restored, inquires, learns the decision, and acknowledges.
#[test]
fn a_participant_recovers_from_its_disk_and_learns_the_decision() {
    // Before the sync of COMMITTED. PREPARED was synced before the vote, and survives.
    let crash = power_cut(1, EffectName::Append(about("Committed")), Survival::None);
    let counts = run_clean(plan(3), vec![client_request(&[put(0), put(1), put(2)])], &[crash]);
    assert_eq!(counts.answered, ["Committed"]);
    assert_eq!(counts.written["Committed"], 3, "one of them was lost in the power cut");
}

#[test]
fn the_coordinator_times_out_when_a_vote_is_missing() {
    // n2 votes once for each Prepare, and two of them are sent before the timeout of 150 ms.
    let mute: Vec<Fault> = (1..=2).map(|nth| lose(2, 0, "Vote", nth)).collect();
    let counts = run_clean(plan(3), vec![client_request(&[put(0), put(1), put(2)])], &mute);
    assert_eq!(counts.answered, ["Aborted"]);
    assert!(counts.sent["Abort"] >= 1);
}

/// 1. n0 forces COMMIT and loses power before it has sent any Commit.
/// 2. It boots, finds COMMIT without END, and sends Commit to all.
#[test]
fn restarted_coordinator_resends_an_undelivered_commit() {
    let crash = power_cut(0, EffectName::Send(about("Commit"), NodeId(1)), Survival::None);
    // The crash follows the sending, so this Commit itself must be lost.
    let lost = lose(0, 1, "Commit", 1);
    let counts =
        run_clean(plan(3), vec![client_request(&[put(0), put(1), put(2)])], &[crash, lost]);
    assert_eq!(counts.answered, ["Committed"], "the client retried");
    assert_eq!(counts.written["Committed"], 2);
}

/// 1. All vote Yes; n0 appends COMMIT and loses power before it is durable: there is no decision.
/// 2. n1 and n2 are in doubt and inquire; n0, in its second incarnation, does not know the
///    transaction: aborted, by presumption.
/// 3. The client queries c1.1: aborted, since it was addressed to the first incarnation.
#[test]
fn commit_record_lost_in_a_power_cut_is_presumed_aborted() {
    // Right after the append and before its sync.
    let crash = power_cut(0, EffectName::Append(about("Commit")), Survival::None);
    let counts = run_clean(plan(3), vec![client_request(&[put(0), put(1), put(2)])], &[crash]);
    assert_eq!(counts.answered, ["Aborted"]);
    assert_eq!(counts.written["Aborted"], 2);
}

/// A duplicate of an old Commit finds the outcome, and is acknowledged again; nothing is written
/// twice.
#[test]
fn a_duplicate_commit_changes_nothing() {
    let from = Endpoint::Node(NodeId(0));
    let to = Endpoint::Node(NodeId(1));
    // Long after the Ack, when the coordinator has forgotten the transaction.
    let again = MessageFault::Duplicate { after: Micros::from_millis(100) };
    let fault = Fault::Message(MessageAt { from, to, about: about("Commit"), nth: 1 }, again);
    let counts = run_clean(plan(2), vec![client_request(&[put(0), put(1)])], &[fault]);
    assert_eq!((counts.written["Committed"], counts.sent["Ack"]), (1, 2));
}

/// 1. n1 votes Yes and is killed; n2's vote is delayed, so the transaction is undecided.
/// 2. n1 boots in doubt and inquires. n0, still collecting votes, does not answer, in particular
///    not "aborted".
/// 3. n2's vote arrives, and all commit.
#[test]
fn inquiry_while_votes_are_collected_is_not_answered_with_aborted() {
    let kill = Crash {
        how: CrashKind::Kill { keep: Permille::ALL },
        down_for: Some(Micros::from_millis(5)),
        at_rest: None,
    };
    let voted = EffectAt {
        node: NodeId(1),
        incarnation: 1,
        effect_name: EffectName::Send(about("Vote"), NodeId(0)),
        nth: 1,
    };
    // n1 is down for 5 ms, so it inquires while the vote of n2 is under way. That takes 40 ms, less
    // than the vote timeout of 150 ms.
    let faults = [Fault::Crash(voted, kill), delay(2, 0, "Vote", Micros::from_millis(40))];
    let counts = run_clean(plan(3), vec![client_request(&[put(0), put(1), put(2)])], &faults);
    assert_eq!(counts.answered, ["Committed"]);
    assert!(counts.sent["Inquire"] >= 1 && !counts.sent.contains_key("Abort"));
}

/// 1. n1 loses power in doubt, boots, and loses power again while it writes its snapshot.
/// 2. The third incarnation finds the Yes of the first and learns the decision.
#[test]
fn yes_vote_survives_a_second_crash_during_recovery() {
    // Nothing or everything is left of the half-written snapshot: neither may hide the log before
    // it.
    let twice = [Survival::None, Survival::All].map(|survival| {
        let first = power_cut(1, EffectName::Append(about("Committed")), Survival::None);
        let scratch = EffectName::Append(About { kind: "Snapshot", subject: None });
        let at = EffectAt { node: NodeId(1), incarnation: 2, effect_name: scratch, nth: 1 };
        let how = CrashKind::PowerCut(survival);
        [
            first,
            Fault::Crash(at, Crash { how, down_for: Some(Micros::from_millis(5)), at_rest: None }),
        ]
    });
    for faults in twice {
        let counts = run_clean(plan(3), vec![client_request(&[put(0), put(1), put(2)])], &faults);
        assert_eq!(
            (counts.answered.as_slice(), counts.written["Committed"]),
            (&["Committed"][..], 3)
        );
    }
}

/// 1. n1 is prepared for c1.1, and Commit is delayed; meanwhile n1 commits c2.1, which is its own.
/// 2. It loses power: the last records of its log concern c2.1 only. It is in doubt about c1.1
///    nevertheless.
#[test]
fn prepared_record_followed_by_an_unrelated_record_is_recovered() {
    let other = Op { key: Key::new("other").expect("short"), ..put(1) };
    let second_request = ClientRequest {
        client: ClientId(2),
        coordinator: NodeId(1),
        // 10 ms after c1.1: that is prepared by then, and its Commit is delayed by 60 ms.
        think_time: Micros::from_millis(20),
        ..client_request(&[other])
    };
    let c2_1 = RequestId { client: 2, serial: 1, attempt: 0 };
    let power_loss = power_cut(1, EffectName::Reply(c2_1), Survival::None);
    let faults = [delay(0, 1, "Commit", Micros::from_millis(60)), power_loss];
    let plan = Plan { clients: 2, ..plan(2) };
    let counts = run_clean(plan, vec![client_request(&[put(0), put(1)]), second_request], &faults);
    assert_eq!((counts.answered.as_slice(), counts.written["Committed"]), (&["Committed"][..], 1));
    assert!(counts.sent["Inquire"] >= 1);
}

/// n1 has no space for its PREPARED: it halts and does not vote, the client receives "aborted", and
/// n1 starts again once there is space.
#[test]
fn full_disk_aborts_the_transaction_and_the_node_restarts() {
    let at = EffectAt {
        node: NodeId(1),
        incarnation: 1,
        effect_name: EffectName::Append(about("Prepared")),
        nth: 1,
    };
    // For 60 ms, so that the disk is still full when the node boots after its halt.
    let full = WriteFault {
        error: DiskError::NoSpace,
        keep: Permille::new(300).expect("at most 1000"),
        lasts: Micros::from_millis(60),
    };
    let counts = run_clean(
        plan(3),
        vec![client_request(&[put(0), put(1), put(2)])],
        &[Fault::Write(at, full)],
    );
    assert_eq!(counts.answered, ["Aborted"]);
    assert_eq!(counts.sent["Vote"], 1, "n2's");
}

/// A Prepare that arrives long after the abort finds that its transaction has ended: no vote, no
/// lock.
#[test]
fn prepare_after_the_abort_takes_no_locks() {
    // The first Prepare arrives long after the timeout of 150 ms, and the repeated one is lost: n1
    // learns of the transaction when it is over.
    let faults = [delay(0, 1, "Prepare", Micros::from_millis(400)), lose(0, 1, "Prepare", 2)];
    let counts = run_clean(plan(3), vec![client_request(&[put(0), put(1), put(2)])], &faults);
    assert_eq!(counts.answered, ["Aborted"]);
    assert_eq!(counts.written["Prepared"], 1, "n2's");
}

/// 1. c1.1 puts 7, c1.2 puts 8. A duplicate of the Commit for c1.1 arrives after that.
/// 2. n1 loses power and boots: it finds 8. (The checker verifies that an incarnation begins with
///    what was written.)
#[test]
fn duplicate_of_an_old_commit_does_not_overwrite_a_newer_value() {
    let from = Endpoint::Node(NodeId(0));
    let to = Endpoint::Node(NodeId(1));
    // The client sends c1.2 10 ms after the answer to c1.1, so it is long committed by then.
    let again = MessageFault::Duplicate { after: Micros::from_millis(150) };
    let copy = Fault::Message(MessageAt { from, to, about: about("Commit"), nth: 1 }, again);
    // The second Ack of c1.1 is the one for the copy.
    let acked = EffectName::Send(about("Ack"), NodeId(0));
    let at = EffectAt { node: NodeId(1), incarnation: 1, effect_name: acked, nth: 2 };
    let how = CrashKind::PowerCut(Survival::None);
    let power_loss =
        Fault::Crash(at, Crash { how, down_for: Some(Micros::from_millis(5)), at_rest: None });
    let eight = [0, 1].map(|node| op(node, Action::Put(8)));
    let second = ClientRequest { serial: 2, ..client_request(&eight) };
    let counts =
        run_clean(plan(2), vec![client_request(&[put(0), put(1)]), second], &[copy, power_loss]);
    assert_eq!((counts.written["Committed"], counts.sent["Ack"]), (1, 2));
}

/// 1. Every participant votes Yes, but the votes arrive after the coordinator's timeout.
/// 2. They do not complete the tally: each is answered with Abort, and its sender is no longer in
///    doubt.
#[test]
fn late_yes_vote_is_answered_with_abort() {
    // Twice the vote timeout of 150 ms.
    let late = [1, 2].map(|node| delay(node, 0, "Vote", Micros::from_millis(300)));
    // The votes for the repeated Prepare would arrive in time.
    let resent = [1, 2].map(|node| lose(node, 0, "Vote", 2));
    let faults = [late, resent].concat();
    let counts = run_clean(plan(3), vec![client_request(&[put(0), put(1), put(2)])], &faults);
    assert_eq!(counts.answered, ["Aborted"]);
    assert_eq!(counts.written["Aborted"], 2);
    // One for each Inquire, and one for each late vote.
    assert_eq!((counts.sent["Inquire"], counts.sent["Abort"]), (2, 4));
}
