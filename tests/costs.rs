//! The exact costs of presumed abort (Mohan, Lindsay, Obermarck 1986, table 1): messages, forced
//! and unforced records.

use stormglass::commit::{Action, Op};

use crate::rig::{client_request, op, plan, refused_op, run_clean};

fn put_on_every_node(subordinates: u16) -> Vec<Op> {
    (0..=subordinates).map(|node| op(node, Action::Put(1))).collect()
}

#[test]
fn a_commit_takes_4n_messages_2n_plus_1_forced_records_and_one_end() {
    for n in 1..=7 {
        let counts = run_clean(plan(n + 1), vec![client_request(&put_on_every_node(n))], &[]);
        let n = usize::from(n);
        let each = [("Ack", n), ("Commit", n), ("Prepare", n), ("Vote", n)];
        assert_eq!(counts.sent.into_iter().collect::<Vec<_>>(), each, "{n} subordinates");
        let records = [("Commit", 1), ("Committed", n), ("End", 1), ("Prepared", n)];
        assert_eq!(counts.written.into_iter().collect::<Vec<_>>(), records, "{n} subordinates");
        let forced = [("Commit", 1), ("Committed", n), ("Prepared", n)];
        assert_eq!(counts.forced.into_iter().collect::<Vec<_>>(), forced, "{n} subordinates");
        // Exactly once.
        assert_eq!(counts.answered, ["Committed"]);
    }
}

/// k of n subordinates vote Yes, whether the No arrives first or last.
#[test]
fn an_abort_takes_2n_plus_k_messages_and_k_forced_records() {
    for (n, k) in (1..=7).flat_map(|n| (0..n).map(move |k| (n, k))) {
        // The first k of them, and the last k.
        for yes in [1..=k, n - k + 1..=n] {
            let mut ops = put_on_every_node(n);
            for node in (1..=n).filter(|node| !yes.contains(node)) {
                ops[usize::from(node)] = refused_op(node);
            }
            let counts = run_clean(plan(n + 1), vec![client_request(&ops)], &[]);
            let n = usize::from(n);
            let k = usize::from(k);
            let sent = ["Prepare", "Vote", "Abort", "Ack"]
                .map(|kind| counts.sent.get(kind).copied().unwrap_or(0));
            assert_eq!(sent, [n, n, k, 0], "{k} of {n} vote Yes");
            let written = ["Prepared", "Aborted", "Commit"]
                .map(|kind| counts.written.get(kind).copied().unwrap_or(0));
            assert_eq!(written, [k, k, 0], "{k} of {n} vote Yes");
            assert_eq!(counts.forced.values().sum::<usize>(), k, "{k} of {n} vote Yes");
            assert_eq!(counts.answered, ["Aborted"]);
        }
    }
}
