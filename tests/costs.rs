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
        assert_eq!(counts.answered, ["Committed"]);
    }
}

#[test]
fn an_abort_takes_2n_plus_k_messages_and_k_forced_records() {
    for n in 1..=7 {
        let mut ops = put_on_every_node(n);
        ops[usize::from(n)] = refused_op(n);
        let counts = run_clean(plan(n + 1), vec![client_request(&ops)], &[]);
        let (n, yes) = (usize::from(n), usize::from(n) - 1);
        let sent = |kind| counts.sent.get(kind).copied().unwrap_or(0);
        let written = |kind| counts.written.get(kind).copied().unwrap_or(0);
        assert_eq!(
            (sent("Prepare"), sent("Vote"), sent("Abort"), sent("Ack")),
            (n, n, yes, 0),
            "{n} subordinates"
        );
        assert_eq!(
            (written("Prepared"), written("Aborted"), written("Commit")),
            (yes, yes, 0),
            "{n} subordinates"
        );
        assert_eq!(counts.answered, ["Aborted"]);
    }
}
