//! I4: committed transactions are strictly serialisable.
//!
//! What each node's log says about its keys, in the order of the log, gives every read its version, and every version
//! its writer: PREPARED reads what the last COMMITTED (or COMMIT, of the node's own part) before it has written. One
//! transaction comes before another if it
//!
//! - wrote what the other read (write-read),
//! - wrote what the other wrote over (write-write),
//! - read what the other wrote over (read-write),
//! - was answered before the other was asked (real time).
//!
//! No cycle may come of this (Adya 1999, "Weak consistency", section 3; with real time: Papadimitriou 1979). It is
//! judged once, at the end, over what survived. Decisions are numbered in the order of their COMMIT records, and a node
//! that locks properly never has an edge against that order: only if there is one is a graph built.

use stormglass::commit::{Action, Key, Op};
use stormglass::{RequestId, TxId};

use crate::sorted::Sorted;

/// What the log of one node says about its keys, over all its lives.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    touches: Vec<Touch>,
    /// Where those of the present life begin.
    life: usize,
}

#[derive(Clone, Copy, Debug)]
struct Touch {
    key: Key,
    tx: TxId,
    /// The record's place in the log of this life.
    record: u32,
    writes: bool,
}

/// One transaction comes before another, by the numbers of their decisions.
pub(super) type Edge = (u32, u32);

/// When a request was asked and its client answered, in true time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) name: RequestId,
    pub(super) order: u32,
    pub(super) asked_us: u64,
    /// `u64::MAX` if it never was.
    pub(super) answered_us: u64,
}

impl History {
    pub(super) fn clear(&mut self) {
        self.touches.clear();
        self.life = 0;
    }

    /// These operations read under the locks of that record. (An `Add` reads: it has a bound.)
    pub(super) fn read(&mut self, record: usize, tx: TxId, ops: &[Op]) {
        let reads = |op: &&Op| matches!(op.action, Action::Get | Action::Add { .. });
        let touch = |op: &Op| Touch { key: op.key, tx, record: record as u32, writes: false };
        self.touches.extend(ops.iter().filter(reads).map(touch));
    }

    /// These operations write by that record.
    pub(super) fn write(&mut self, record: usize, tx: TxId, ops: &[Op]) {
        let touch = |op: &Op| Touch { key: op.key, tx, record: record as u32, writes: true };
        self.touches.extend(ops.iter().filter(|op| op.writes()).map(touch));
    }

    /// A life begins, over the first `kept` records of the one before: what the others said never happened.
    pub(super) fn begin_life(&mut self, kept: usize) {
        let touched = self.touches[self.life..].partition_point(|touch| (touch.record as usize) < kept);
        self.touches.truncate(self.life + touched);
        self.life = self.touches.len();
    }

    /// Every edge between decided transactions that this node has seen; `order` is 0 for what was never decided.
    pub(super) fn edges(&self, mut order: impl FnMut(TxId) -> u32, mut edge: impl FnMut(Edge)) {
        let mut versions: Sorted<Key, Version> = Sorted::default();
        for touch in &self.touches {
            let this = order(touch.tx);
            if this == 0 {
                continue;
            }
            let version = versions.or_default(touch.key);
            if version.writer != 0 && version.writer != this {
                edge((version.writer, this));
            }
            if touch.writes {
                version
                    .readers
                    .drain(..)
                    .filter(|reader| *reader != this)
                    .for_each(|reader| edge((reader, this)));
                version.writer = this;
            } else {
                version.readers.push(this);
            }
        }
    }
}

/// The present version of a key: who wrote it, and who has read it.
#[derive(Clone, Debug, Default)]
struct Version {
    writer: u32,
    readers: Vec<u32>,
}

/// Whether some answer came before some question, and yet was decided later.
pub(super) fn against_time(spans: &mut [Span]) -> bool {
    spans.sort_unstable_by_key(|span| std::cmp::Reverse(span.order));
    let mut first_answer_us = u64::MAX;
    spans.iter().any(|span| {
        let late = first_answer_us < span.asked_us;
        first_answer_us = first_answer_us.min(span.answered_us);
        late
    })
}

/// A cycle in the order of transactions, if there is one. Real time becomes edges over the moments of answers: whoever
/// is answered comes before that moment, that before the next one, and the last before a question before its asker.
pub(super) fn cycle(edges: &[Edge], spans: &[Span]) -> Option<Vec<u32>> {
    let mut answers: Vec<(u64, u32)> = spans.iter().map(|span| (span.answered_us, span.order)).collect();
    answers.sort_unstable();
    let greatest = edges.iter().map(|(a, b)| *a.max(b)).chain(spans.iter().map(|span| span.order)).max()?;
    let mut after = vec![Vec::new(); greatest as usize + 1 + answers.len()];
    let moment = |at: usize| greatest + 1 + at as u32;
    edges.iter().for_each(|(a, b)| after[*a as usize].push(*b));
    for (at, (_, order)) in answers.iter().enumerate() {
        after[*order as usize].push(moment(at));
        if at + 1 < answers.len() {
            after[moment(at) as usize].push(moment(at + 1));
        }
    }
    for span in spans {
        if let Some(at) =
            answers.partition_point(|(answered_us, _)| *answered_us < span.asked_us).checked_sub(1)
        {
            after[moment(at) as usize].push(span.order);
        }
    }
    let found = find_cycle(&after)?;
    Some(found.into_iter().filter(|at| *at <= greatest).collect())
}

/// Depth first; a path that comes back to itself is a cycle.
fn find_cycle(after: &[Vec<u32>]) -> Option<Vec<u32>> {
    let mut done = vec![false; after.len()];
    let mut on_path = vec![false; after.len()];
    for start in 0..after.len() {
        let mut path = vec![(start as u32, 0)];
        while let Some((at, next)) = path.last_mut() {
            let at = *at as usize;
            on_path[at] = true;
            match after[at].get(*next) {
                _ if done[at] => {
                    on_path[at] = false;
                    path.pop();
                }
                None => {
                    (done[at], on_path[at]) = (true, false);
                    path.pop();
                }
                Some(&to) => {
                    *next += 1;
                    if on_path[to as usize] {
                        let from = path.iter().position(|(at, _)| *at == to)?;
                        return Some(path[from..].iter().map(|(at, _)| *at).collect());
                    }
                    if !done[to as usize] {
                        path.push((to, 0));
                    }
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use stormglass::{Incarnation, NodeId};

    use super::*;

    fn tx(serial: u32) -> TxId {
        TxId { coordinator: NodeId(0), incarnation: Incarnation(1), serial: serial.into() }
    }

    fn op(key: &str, action: Action) -> Op {
        Op { node: NodeId(0), key: Key::new(key).expect("short"), action }
    }

    fn span(order: u32, asked_us: u64, answered_us: u64) -> Span {
        Span { name: RequestId { client: 1, serial: order, attempt: 0 }, order, asked_us, answered_us }
    }

    /// Reads (`r1x`) and writes (`w1x`) of transactions on keys, in the order of one node's log.
    fn edges_of(story: &str) -> Vec<Edge> {
        let mut history = History::default();
        for (record, step) in story.split_whitespace().enumerate() {
            let tx = tx(step[1..2].parse().expect("a number"));
            match &step[..1] {
                "r" => history.read(record, tx, &[op(&step[2..], Action::Get)]),
                _ => history.write(record, tx, &[op(&step[2..], Action::Put(1))]),
            }
        }
        let mut edges = Vec::new();
        history.edges(|tx| tx.serial as u32, |edge| edges.push(edge));
        edges
    }

    #[test]
    fn what_runs_one_after_another_has_no_cycle() {
        let edges = edges_of("r1x w1x r2x w2x r2y r3y w3y");
        assert_eq!(edges, [(1, 2), (1, 2), (2, 3)]);
        assert_eq!(cycle(&edges, &[span(1, 1, 5), span(2, 2, 6), span(3, 7, 9)]), None);
    }

    /// Both read x before either writes it.
    #[test]
    fn a_lost_update_is_a_cycle() {
        assert_eq!(cycle(&edges_of("r1x r2x w1x w2x"), &[]), Some(vec![1, 2]));
    }

    /// Each reads what the other writes: no key is written twice, and no order explains it.
    #[test]
    fn write_skew_is_a_cycle() {
        assert_eq!(cycle(&edges_of("r1x r2y w1y w2x"), &[]), Some(vec![1, 2]));
    }

    /// Serialisable as 2, 1; but 1 was answered before anybody asked for 2.
    #[test]
    fn a_read_of_the_past_is_a_cycle_in_real_time() {
        let edges = edges_of("r2x w1x");
        assert_eq!(cycle(&edges, &[]), None);
        let (mut apart, mut overlapping) = ([span(1, 1, 5), span(2, 6, 9)], [span(1, 1, 5), span(2, 4, 9)]);
        assert!(cycle(&edges, &apart).is_some());
        assert_eq!(cycle(&edges, &overlapping), None);
        assert!(!against_time(&mut apart) && !against_time(&mut overlapping));
        assert!(against_time(&mut [span(2, 1, 5), span(1, 6, 9)]), "decided first, asked last");
    }

    #[test]
    fn what_a_crash_has_taken_back_never_happened() {
        let mut history = History::default();
        history.read(0, tx(1), &[op("x", Action::Get)]);
        history.write(1, tx(1), &[op("y", Action::Put(1))]);
        history.begin_life(1);
        history.write(0, tx(2), &[op("y", Action::Put(1))]);
        history.write(1, tx(2), &[op("x", Action::Put(1))]);
        let mut edges = Vec::new();
        history.edges(|tx| tx.serial as u32, |edge| edges.push(edge));
        assert_eq!(edges, [(1, 2)], "the read of x alone");
    }
}
