//! The node, told as stories. What storms do to it is shown elsewhere; here it is shown what it does at all, and what
//! that costs.

mod net;

use net::Net;

use super::*;
use crate::contract::Input;
use crate::id::{Incarnation, NodeId, TxId};

fn key() -> Key {
    Key::new("k").expect("it is short")
}

fn put(node: u16, value: i64) -> Op {
    Op { node: NodeId(node), key: key(), action: Action::Put(value) }
}

/// What no node can do.
fn overdraw(node: u16) -> Op {
    Op { node: NodeId(node), key: key(), action: Action::Add { by: -1, at_least: 0 } }
}

fn puts(nodes: impl IntoIterator<Item = u16>) -> Vec<Op> {
    nodes.into_iter().map(|node| put(node, 5)).collect()
}

/// Everybody can, so everybody does.
#[test]
fn what_all_can_do_is_done_everywhere() {
    let mut net = Net::new(3);
    net.ask(1, &puts(0..=3));
    net.settle();
    assert!(net.committed());
    assert_eq!(net.values(), [Some(5); 4]);
    net.assert_clean();
}

/// One cannot, so nobody does; whoever voted Yes is told, and lets its locks go.
#[test]
fn one_no_is_a_no_of_all() {
    for refuser in 0..=3 {
        let mut net = Net::new(3);
        let mut ops = puts(0..=3);
        ops[usize::from(refuser)] = overdraw(refuser);
        net.ask(1, &ops);
        net.settle();
        let why = Why::Refused { by: NodeId(refuser), no: No::Bound { key: key() } };
        assert_eq!(net.outcomes(), [Outcome::Aborted { why }]);
        assert_eq!(net.values(), [None; 4]);
        net.assert_clean();
    }
}

/// 1. Prepare does not reach node 2.
/// 2. The coordinator repeats itself in vain, and gives up when its time has come.
/// 3. Node 1, which had voted Yes, is told.
#[test]
fn a_missing_vote_aborts_in_time() {
    let mut net = Net::new(2);
    let begun = net.now;
    net.lost = |letter| letter.to == NodeId(2);
    net.ask(1, &puts(0..=2));
    net.deliver();
    assert_eq!(net.node(1).store.locks().count(), 1);
    while net.replies.is_empty() {
        assert!(net.wait(), "a coordinator without a deadline");
    }
    assert_eq!(net.now, begun + net.config.vote_timeout);
    assert_eq!(net.outcomes(), [Outcome::Aborted { why: Why::TimedOut { missing: NodeId(2) } }]);
    net.settle();
    assert_eq!(net.values(), [None; 3]);
    net.assert_clean();
}

/// 1. Everybody votes Yes, but nothing reaches the coordinator until it has given up.
/// 2. The votes come late, and do not complete the tally: each is answered with Abort, and ends its sender's
///    doubt.
#[test]
fn a_late_yes_is_answered_with_abort() {
    let mut net = Net::new(2);
    net.lost = |letter| letter.to == NodeId(0);
    let name = net.ask(1, &puts(0..=2));
    net.deliver();
    while net.replies.is_empty() {
        assert!(net.wait(), "a coordinator without a deadline");
    }
    let tx = net.node(1).state().prepared[0].tx;
    net.lost = |_| false;
    net.sent.clear();
    for from in [NodeId(1), NodeId(2)] {
        let vote = Vote::Yes { reads: Reads::default() };
        net.step(0, Input::Message { from, message: Message::Vote { tx, name, vote } });
    }
    net.deliver();
    assert_eq!(net.sent, ["Abort", "Abort"]);
    assert_eq!(net.values(), [None; 3]);
    net.assert_clean();
}

/// 1. Everybody votes Yes, and Commit does not reach node 1.
/// 2. Its power fails.
/// 3. It is in doubt again, with its locks, and asks.
/// 4. It is told, and does what it had promised.
#[test]
fn a_promise_outlives_a_power_cut() {
    let mut net = Net::new(2);
    net.lost = |letter| letter.to == NodeId(1) && matches!(letter.message, Message::Commit { .. });
    net.ask(1, &puts(0..=2));
    net.deliver();
    assert!(net.committed());
    net.power_cut(1);
    net.boot(1);
    assert_eq!(net.values(), [Some(5), None, Some(5)]);
    assert_eq!(net.node(1).store.locks().count(), 1);
    net.lost = |_| false;
    net.settle();
    assert_eq!(net.values(), [Some(5); 3]);
    net.assert_clean();
}

/// 1. Node 1 reads a key for a transaction, is prepared, and its Yes is lost.
/// 2. Its power fails. Its next life holds the locks again, and is asked for its vote again.
/// 3. The client is told what node 1 has read, not what node 2 has in its stead.
#[test]
fn a_vote_that_is_said_again_after_a_power_cut_still_tells_what_was_read() {
    let mut net = Net::new(2);
    net.ask(1, &[put(1, 5), put(2, 6)]);
    net.settle();
    net.replies.clear();
    net.lost = |letter| letter.from == NodeId(1) && matches!(letter.message, Message::Vote { .. });
    let get = |node| Op { node: NodeId(node), key: key(), action: Action::Get };
    net.ask(2, &[get(1), get(2)]);
    net.deliver();
    net.power_cut(1);
    net.lost = |_| false;
    net.boot(1);
    net.settle();
    let reads = Reads::from(&[Some(5), Some(6)][..]);
    assert_eq!(net.outcomes(), [Outcome::Committed { reads: Some(reads) }]);
    net.assert_clean();
}

/// 1. The coordinator has decided, told its client, and loses its power before anybody else hears of it.
/// 2. Its next life says it again, unasked, until all have acknowledged, and still knows the answer.
#[test]
fn a_decision_outlives_a_power_cut() {
    let mut net = Net::new(2);
    net.lost = |letter| matches!(letter.message, Message::Commit { .. });
    let id = net.ask(1, &puts(0..=2));
    net.deliver();
    net.power_cut(0);
    net.lost = |letter| matches!(letter.message, Message::Inquire { .. });
    net.boot(0);
    assert_eq!(net.node(0).state().committing.len(), 1);
    net.settle();
    assert_eq!(net.values(), [Some(5); 3]);
    net.assert_clean();
    net.replies.clear();
    net.step(0, Input::Request { id, request: Request::Outcome { life: Incarnation(1) } });
    assert_eq!(net.outcomes(), [Outcome::Committed { reads: None }]);
}

/// 1. The votes are lost, and the coordinator's power fails before it has decided.
/// 2. Its next life knows nothing of the transaction.
/// 3. Who is in doubt asks, and is told "aborted", by presumption; so is the client.
#[test]
fn what_is_not_recorded_is_presumed_aborted() {
    let mut net = Net::new(2);
    net.lost = |letter| matches!(letter.message, Message::Vote { .. });
    let id = net.ask(1, &puts(0..=2));
    net.deliver();
    net.power_cut(0);
    net.lost = |_| false;
    net.boot(0);
    net.settle();
    net.step(0, Input::Request { id, request: Request::Outcome { life: Incarnation(1) } });
    assert_eq!(net.outcomes(), [Outcome::Aborted { why: Why::Restarted }]);
    assert_eq!(net.values(), [None; 3]);
    net.assert_clean();
}

/// 1. Commit reaches node 1 and not node 2, and the coordinator dies for good.
/// 2. Node 2 asks in vain, then asks its fellow, and is told.
#[test]
fn a_fellow_participant_can_end_the_doubt() {
    let mut net = Net::new(2);
    net.lost = |letter| letter.to == NodeId(2) && matches!(letter.message, Message::Commit { .. });
    net.ask(1, &puts(0..=2));
    net.deliver();
    net.kill(0);
    net.settle();
    assert_eq!(net.values(), [Some(5); 2]);
    net.assert_clean();
}

/// W7: what a life reads back is what the one before it knew, whatever it was in the middle of.
#[test]
fn a_life_knows_what_the_last_one_knew() {
    let mut net = Net::new(2);
    net.ask(1, &puts(0..=2));
    net.settle();
    net.lost = |letter| letter.to == NodeId(2) && matches!(letter.message, Message::Commit { .. });
    net.ask(2, &[put(0, 6), put(1, 6), put(2, 6)]);
    net.deliver();
    net.lost = |_| true;
    for id in 0..=2 {
        let before = net.node(id).clone();
        net.kill(id);
        net.boot(id);
        let (before_state, after_state) = (before.state(), net.node(id).state());
        assert!(net.node(id).store.locks().eq(before.store.locks()), "{}", before.id);
        // Words are heard without a record: what they allowed to forget may come back, nothing else may be missing.
        assert!(before_state.outcomes.iter().all(|known| after_state.outcomes.contains(known)));
        let State { ended, outcomes, .. } = before_state.clone();
        let incarnation = before_state.incarnation;
        assert_eq!(State { ended, outcomes, incarnation, ..after_state }, before_state);
    }
    net.lost = |_| false;
    net.settle();
    assert_eq!(net.values(), [Some(6); 3]);
    net.assert_clean();
}

/// Presumed abort, as Mohan, Lindsay and Obermarck counted it: 4n messages, 2n + 1 forced records, and an END. The
/// coordinator's own part costs nothing.
#[test]
fn a_commit_costs_what_the_table_says() {
    for n in 1..=7 {
        for first in [0, 1] {
            let mut net = Net::new(n);
            net.ask(1, &puts(first..=n));
            net.settle();
            let n = usize::from(n);
            assert!(net.committed());
            assert_eq!(net.sent.len(), 4 * n, "{n} subordinates");
            assert_eq!(net.forced(), 2 * n + 1, "{n} subordinates");
            assert_eq!(net.unforced(), ["End"], "{n} subordinates");
            net.assert_clean();
        }
    }
}

/// With k Yes-voters an abort costs 2n + k messages and k forced records, whether the No comes first or last; what
/// is not forced is at most 1 + n.
#[test]
fn an_abort_costs_what_the_table_says() {
    for (n, k) in (1..=7).flat_map(|n| (0..n).map(move |k| (n, k))) {
        for yes in [1..=k, n - k + 1..=n] {
            let mut net = Net::new(n);
            let ops = (1..=n).map(|node| if yes.contains(&node) { put(node, 5) } else { overdraw(node) });
            net.ask(1, &ops.collect::<Vec<_>>());
            net.settle();
            let (n, k) = (usize::from(n), usize::from(k));
            assert!(matches!(net.outcomes()[..], [Outcome::Aborted { why: Why::Refused { .. } }]));
            assert_eq!(net.sent.len(), 2 * n + k, "{k} of {n} vote Yes");
            assert_eq!(net.forced(), k, "{k} of {n} vote Yes");
            assert!(net.unforced().len() <= 1 + n, "{:?}", net.unforced());
            net.assert_clean();
        }
    }
}

/// 1. Node 1 has voted Yes, and is told to stop: it must still hear how that ends.
/// 2. Other transactions, it lets lie.
#[test]
fn only_a_prepare_of_an_unknown_transaction_begins_something() {
    let mut net = Net::new(1);
    net.lost = |letter| matches!(letter.message, Message::Commit { .. });
    let name = net.ask(1, &puts(0..=1));
    net.deliver();
    let tx = TxId { coordinator: NodeId(0), incarnation: Incarnation(1), serial: 1 };
    let member = net.node(1).members.get(tx).expect("it is in doubt");
    let word = Word::new(Position::of(tx), std::iter::empty(), None);
    let prepare = |tx| Message::Prepare { tx, name, part: member.part.clone(), word: word.clone() };
    assert!(!net.node(1).begins(&prepare(tx)));
    assert!(!net.node(1).begins(&Message::Commit { tx, name, word: word.clone() }));
    let other = TxId { serial: 2, ..tx };
    assert!(net.node(1).begins(&prepare(other)));
    assert!(!net.node(1).begins(&Message::Abort { tx: other, name, word: word.clone() }));
}
