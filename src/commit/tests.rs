//! Scenarios of a node: what it does, and what it costs. The simulator shows its behaviour under
//! faults.

mod cluster;

use cluster::TestCluster;

use super::tx_id::TxId;
use super::*;
use stormglass_node::contract::Input;
use stormglass_node::id::{Incarnation, NodeId};

fn key() -> Key {
    Key::new("k").expect("it is short")
}

fn put(node: u16, value: i64) -> Op {
    Op { node: NodeId(node), key: key(), action: Action::Put(value) }
}

/// An operation that every node refuses.
fn overdraw(node: u16) -> Op {
    Op { node: NodeId(node), key: key(), action: Action::Add { by: -1, at_least: 0 } }
}

fn puts(nodes: impl IntoIterator<Item = u16>) -> Vec<Op> {
    nodes.into_iter().map(|node| put(node, 5)).collect()
}

/// Every participant can commit, so every participant does.
#[test]
fn transaction_that_every_participant_accepts_commits_everywhere() {
    let mut cluster = TestCluster::new(3);
    cluster.submit(1, &puts(0..=3));
    cluster.run_until_idle();
    assert!(cluster.committed());
    assert_eq!(cluster.values(), [Some(5); 4]);
    cluster.assert_quiescent();
}

/// One participant refuses, so none commits; those that voted Yes are informed and release their
/// locks.
#[test]
fn one_no_vote_aborts_at_every_participant() {
    for refusing_node in 0..=3 {
        let mut cluster = TestCluster::new(3);
        let mut ops = puts(0..=3);
        ops[usize::from(refusing_node)] = overdraw(refusing_node);
        cluster.submit(1, &ops);
        cluster.run_until_idle();
        let reason = AbortReason::Refused {
            by: NodeId(refusing_node),
            refusal: Refusal::Bound { key: key() },
        };
        assert_eq!(cluster.outcomes(), [Outcome::Aborted { reason }]);
        assert_eq!(cluster.values(), [None; 4]);
        cluster.assert_quiescent();
    }
}

/// 1. Prepare does not reach node 2.
/// 2. The coordinator resends it without effect, and aborts at the vote timeout.
/// 3. Node 1, which had voted Yes, is informed.
#[test]
fn missing_vote_aborts_at_the_vote_timeout() {
    let mut cluster = TestCluster::new(2);
    let begun = cluster.now;
    cluster.is_lost = |envelope| envelope.to == NodeId(2);
    cluster.submit(1, &puts(0..=2));
    cluster.deliver();
    assert_eq!(cluster.node(1).store.locks().count(), 1);
    while cluster.replies.is_empty() {
        assert!(cluster.advance_to_next_deadline(), "a coordinator without a deadline");
    }
    assert_eq!(cluster.now, begun + cluster.config.vote_timeout);
    assert_eq!(
        cluster.outcomes(),
        [Outcome::Aborted { reason: AbortReason::TimedOut { missing: NodeId(2) } }]
    );
    cluster.run_until_idle();
    assert_eq!(cluster.values(), [None; 3]);
    cluster.assert_quiescent();
}

/// 1. Every participant votes Yes, but no vote reaches the coordinator before its timeout.
/// 2. The votes arrive late and do not complete the tally: each is answered with Abort, and its
///    sender is no longer in doubt.
#[test]
fn late_yes_vote_is_answered_with_abort() {
    let mut cluster = TestCluster::new(2);
    cluster.is_lost = |envelope| envelope.to == NodeId(0);
    let request = cluster.submit(1, &puts(0..=2));
    cluster.deliver();
    while cluster.replies.is_empty() {
        assert!(cluster.advance_to_next_deadline(), "a coordinator without a deadline");
    }
    let tx = cluster.node(1).state().prepared[0].tx;
    cluster.is_lost = |_| false;
    cluster.sent.clear();
    for from in [NodeId(1), NodeId(2)] {
        let vote = Vote::Yes { reads: Reads::default() };
        cluster.step(0, Input::Message { from, message: Message::Vote { tx, request, vote } });
    }
    cluster.deliver();
    assert_eq!(cluster.sent, ["Abort", "Abort"]);
    assert_eq!(cluster.values(), [None; 3]);
    cluster.assert_quiescent();
}

/// 1. Every participant votes Yes, and Commit does not reach node 1.
/// 2. Node 1 loses power.
/// 3. It is in doubt again, with its locks, and inquires.
/// 4. It learns the decision and commits.
#[test]
fn prepared_transaction_survives_a_power_cut() {
    let mut cluster = TestCluster::new(2);
    cluster.is_lost =
        |envelope| envelope.to == NodeId(1) && matches!(envelope.message, Message::Commit { .. });
    cluster.submit(1, &puts(0..=2));
    cluster.deliver();
    assert!(cluster.committed());
    cluster.power_cut(1);
    cluster.boot(1);
    assert_eq!(cluster.values(), [Some(5), None, Some(5)]);
    assert_eq!(cluster.node(1).store.locks().count(), 1);
    cluster.is_lost = |_| false;
    cluster.run_until_idle();
    assert_eq!(cluster.values(), [Some(5); 3]);
    cluster.assert_quiescent();
}

/// 1. Node 1 reads a key for a transaction, is prepared, and its Yes is lost.
/// 2. Node 1 loses power. Its next incarnation holds the locks again, and its vote is requested
///    again.
/// 3. The client receives the value that node 1 has read, not a value of node 2 in its place.
#[test]
fn yes_vote_resent_after_a_power_cut_carries_the_same_reads() {
    let mut cluster = TestCluster::new(2);
    cluster.submit(1, &[put(1, 5), put(2, 6)]);
    cluster.run_until_idle();
    cluster.replies.clear();
    cluster.is_lost =
        |envelope| envelope.from == NodeId(1) && matches!(envelope.message, Message::Vote { .. });
    let get = |node| Op { node: NodeId(node), key: key(), action: Action::Get };
    cluster.submit(2, &[get(1), get(2)]);
    cluster.deliver();
    cluster.power_cut(1);
    cluster.is_lost = |_| false;
    cluster.boot(1);
    cluster.run_until_idle();
    let reads = Reads::from(&[Some(5), Some(6)][..]);
    assert_eq!(cluster.outcomes(), [Outcome::Committed { reads: Some(reads) }]);
    cluster.assert_quiescent();
}

/// 1. The coordinator has decided and replied to its client, and loses power before a message
///    reaches another node.
/// 2. Its next incarnation resends Commit unasked until all have acknowledged, and still knows the
///    outcome.
#[test]
fn commit_decision_survives_a_power_cut_of_the_coordinator() {
    let mut cluster = TestCluster::new(2);
    cluster.is_lost = |envelope| matches!(envelope.message, Message::Commit { .. });
    let id = cluster.submit(1, &puts(0..=2));
    cluster.deliver();
    cluster.power_cut(0);
    cluster.is_lost = |envelope| matches!(envelope.message, Message::Inquire { .. });
    cluster.boot(0);
    assert_eq!(cluster.node(0).state().committing.len(), 1);
    cluster.run_until_idle();
    assert_eq!(cluster.values(), [Some(5); 3]);
    cluster.assert_quiescent();
    cluster.replies.clear();
    cluster
        .step(0, Input::Request { id, request: Request::Outcome { incarnation: Incarnation(1) } });
    assert_eq!(cluster.outcomes(), [Outcome::Committed { reads: None }]);
}

/// 1. The votes are lost, and the coordinator loses power before it has decided.
/// 2. Its next incarnation does not know the transaction.
/// 3. The participants in doubt inquire and are answered "aborted", by presumption; so is the
///    client.
#[test]
fn transaction_without_a_commit_record_is_presumed_aborted() {
    let mut cluster = TestCluster::new(2);
    cluster.is_lost = |envelope| matches!(envelope.message, Message::Vote { .. });
    let id = cluster.submit(1, &puts(0..=2));
    cluster.deliver();
    cluster.power_cut(0);
    cluster.is_lost = |_| false;
    cluster.boot(0);
    cluster.run_until_idle();
    cluster
        .step(0, Input::Request { id, request: Request::Outcome { incarnation: Incarnation(1) } });
    assert_eq!(cluster.outcomes(), [Outcome::Aborted { reason: AbortReason::Restarted }]);
    assert_eq!(cluster.values(), [None; 3]);
    cluster.assert_quiescent();
}

/// 1. Commit reaches node 1 and not node 2, and the coordinator goes down permanently.
/// 2. Node 2 inquires at the coordinator without an answer, then at node 1, and learns the outcome.
#[test]
fn in_doubt_participant_learns_the_outcome_from_another_participant() {
    let mut cluster = TestCluster::new(2);
    cluster.is_lost =
        |envelope| envelope.to == NodeId(2) && matches!(envelope.message, Message::Commit { .. });
    cluster.submit(1, &puts(0..=2));
    cluster.deliver();
    cluster.kill(0);
    cluster.run_until_idle();
    assert_eq!(cluster.values(), [Some(5); 2]);
    cluster.assert_quiescent();
}

/// W7: an incarnation recovers the state of the one before it, at any point of the protocol.
#[test]
fn recovered_state_equals_the_state_before_the_crash() {
    let mut cluster = TestCluster::new(2);
    cluster.submit(1, &puts(0..=2));
    cluster.run_until_idle();
    cluster.is_lost =
        |envelope| envelope.to == NodeId(2) && matches!(envelope.message, Message::Commit { .. });
    cluster.submit(2, &[put(0, 6), put(1, 6), put(2, 6)]);
    cluster.deliver();
    cluster.is_lost = |_| true;
    for id in 0..=2 {
        let before = cluster.node(id).clone();
        cluster.kill(id);
        cluster.boot(id);
        let (state_before, state_after) = (before.state(), cluster.node(id).state());
        assert!(cluster.node(id).store.locks().eq(before.store.locks()), "{}", before.id);
        // End marks are received without a record: outcomes that they allowed to forget may come
        // back, no other part of the state may be missing.
        assert!(state_before.outcomes.iter().all(|known| state_after.outcomes.contains(known)));
        let State { ended, outcomes, .. } = state_before.clone();
        let incarnation = state_before.incarnation;
        assert_eq!(State { ended, outcomes, incarnation, ..state_after }, state_before);
    }
    cluster.is_lost = |_| false;
    cluster.run_until_idle();
    assert_eq!(cluster.values(), [Some(6); 3]);
    cluster.assert_quiescent();
}

/// Presumed abort, with the counts of Mohan, Lindsay and Obermarck: 4n messages, 2n + 1 forced
/// records, and an END. The coordinator's own part costs nothing.
#[test]
fn commit_costs_4n_messages_and_2n_plus_1_forced_records() {
    for n in 1..=7 {
        for first in [0, 1] {
            let mut cluster = TestCluster::new(n);
            cluster.submit(1, &puts(first..=n));
            cluster.run_until_idle();
            let n = usize::from(n);
            assert!(cluster.committed());
            assert_eq!(cluster.sent.len(), 4 * n, "{n} subordinates");
            assert_eq!(cluster.forced(), 2 * n + 1, "{n} subordinates");
            assert_eq!(cluster.unforced(), ["End"], "{n} subordinates");
            cluster.assert_quiescent();
        }
    }
}

/// With k Yes votes an abort costs 2n + k messages and k forced records, whether the No arrives
/// first or last; at most 1 + n records are unforced.
#[test]
fn abort_costs_2n_plus_k_messages_and_k_forced_records() {
    for (n, k) in (1..=7).flat_map(|n| (0..n).map(move |k| (n, k))) {
        for yes in [1..=k, n - k + 1..=n] {
            let mut cluster = TestCluster::new(n);
            let ops =
                (1..=n).map(|node| if yes.contains(&node) { put(node, 5) } else { overdraw(node) });
            cluster.submit(1, &ops.collect::<Vec<_>>());
            cluster.run_until_idle();
            let (n, k) = (usize::from(n), usize::from(k));
            assert!(matches!(
                cluster.outcomes()[..],
                [Outcome::Aborted { reason: AbortReason::Refused { .. } }]
            ));
            assert_eq!(cluster.sent.len(), 2 * n + k, "{k} of {n} vote Yes");
            assert_eq!(cluster.forced(), k, "{k} of {n} vote Yes");
            assert!(cluster.unforced().len() <= 1 + n, "{:?}", cluster.unforced());
            cluster.assert_quiescent();
        }
    }
}

/// 1. Node 1 has voted Yes and is shutting down: it must still receive the decision.
/// 2. It ignores messages of other transactions.
#[test]
fn only_a_prepare_of_an_unknown_transaction_begins_participation() {
    let mut cluster = TestCluster::new(1);
    cluster.is_lost = |envelope| matches!(envelope.message, Message::Commit { .. });
    let request = cluster.submit(1, &puts(0..=1));
    cluster.deliver();
    let tx = TxId { coordinator: NodeId(0), incarnation: Incarnation(1), serial: 1 };
    let participation = cluster.node(1).participations.get(tx).expect("it is in doubt");
    let end_mark = EndMark::new(Position::of(tx), std::iter::empty(), None);
    let prepare = |tx| Message::Prepare {
        tx,
        request,
        part: participation.part.clone(),
        end_mark: end_mark.clone(),
    };
    assert!(!cluster.node(1).starts_new_work(&prepare(tx)));
    assert!(!cluster.node(1).starts_new_work(&Message::Commit {
        tx,
        request,
        end_mark: end_mark.clone()
    }));
    let other = TxId { serial: 2, ..tx };
    assert!(cluster.node(1).starts_new_work(&prepare(other)));
    assert!(!cluster.node(1).starts_new_work(&Message::Abort {
        tx: other,
        request,
        end_mark: end_mark.clone()
    }));
}
