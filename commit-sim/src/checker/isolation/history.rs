//! I4: committed transactions are strictly serialisable.
//!
//! Each node's log, read in order, gives every read its version and every version its writer:
//! PREPARED reads what the last COMMITTED (or COMMIT, of the node's own part) before it has
//! written. One transaction precedes another if it
//!
//! - wrote what the other read (write-read),
//! - wrote what the other wrote over (write-write),
//! - read what the other wrote over (read-write),
//! - was answered before the other was asked for (real time).
//!
//! This relation must have no cycle (Adya 1999, "Weak consistency", section 3; with real time:
//! Papadimitriou 1979). It is checked once, at the end of the run, over the accesses that survived
//! all crashes. Decisions are numbered in the order of their COMMIT records. Correct locking never
//! gives an edge against that order, so the graph is built only if there is such an edge.

use stormglass::commit::TxId;
use stormglass::commit::{Action, Key, Op};
use stormglass_node::{Micros, RequestId};

use crate::sorted_map::SortedMap;

/// The accesses to keys that the log of one node records, over all its incarnations.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    accesses: Vec<Access>,
    /// The index of the first access of the present incarnation.
    incarnation_start: usize,
}

#[derive(Clone, Copy, Debug)]
struct Access {
    key: Key,
    tx: TxId,
    /// The index of the record among the records of its incarnation.
    record: u32,
    writes: bool,
}

/// A transaction and one that it precedes, by their decision numbers.
pub(super) type Edge = (u32, u32);

/// When a committed request was first asked and when its client learnt the outcome, in true time.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestSpan {
    request: RequestId,
    decision_number: u32,
    asked_at: Micros,
    /// `Micros::MAX` if it was never answered.
    answered_at: Micros,
}

impl RequestSpan {
    /// A committed request, perhaps never answered.
    pub(super) fn new(
        request: RequestId,
        decision_number: u32,
        asked_at: Micros,
        answered_at: Option<Micros>,
    ) -> RequestSpan {
        // A request without an answer precedes none in real time.
        let answered_at = answered_at.unwrap_or(Micros::MAX);
        RequestSpan { request, decision_number, asked_at, answered_at }
    }
}

impl History {
    /// Removes all accesses; allocated memory is kept.
    pub(super) fn clear(&mut self) {
        let History { accesses, incarnation_start } = self;
        accesses.clear();
        *incarnation_start = 0;
    }

    /// Adds the reads of `ops` under the locks of that record. An `Add` reads, as it has a bound.
    pub(super) fn read(&mut self, record: usize, tx: TxId, ops: &[Op]) {
        for op in ops.iter().filter(|op| matches!(op.action, Action::Get | Action::Add { .. })) {
            self.accesses.push(Access { key: op.key, tx, record: record as u32, writes: false });
        }
    }

    /// Adds the writes of `ops`, which that record applies.
    pub(super) fn write(&mut self, record: usize, tx: TxId, ops: &[Op]) {
        for op in ops.iter().filter(|op| op.writes()) {
            self.accesses.push(Access { key: op.key, tx, record: record as u32, writes: true });
        }
    }

    /// Begins an incarnation that recovered the first `kept` records of the one before. The
    /// accesses of the other records are dropped.
    pub(super) fn begin_incarnation(&mut self, kept: usize) {
        // Records ascend within an incarnation, so the kept accesses are the first ones.
        let kept_accesses = self.accesses[self.incarnation_start..]
            .partition_point(|access| (access.record as usize) < kept);
        self.accesses.truncate(self.incarnation_start + kept_accesses);
        self.incarnation_start = self.accesses.len();
    }

    /// Calls `edge` for every edge between committed transactions at this node. `decision_number`
    /// must be 0 for a transaction that never committed.
    pub(super) fn edges(
        &self,
        mut decision_number: impl FnMut(TxId) -> u32,
        mut edge: impl FnMut(Edge),
    ) {
        let mut versions: SortedMap<Key, Version> = SortedMap::default();
        for access in &self.accesses {
            let this = decision_number(access.tx);
            // What never committed has no place in the order.
            if this == 0 {
                continue;
            }
            let version = versions.get_or_default(access.key);
            if version.writer != 0 && version.writer != this {
                edge((version.writer, this));
            }
            if access.writes {
                // A transaction that reads a key and then writes it does not precede itself.
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

/// The current version of a key, by decision numbers.
#[derive(Clone, Debug, Default)]
struct Version {
    /// 0 before the first write.
    writer: u32,
    readers: Vec<u32>,
}

/// Whether a request was answered before another was first asked, but was decided after it. Sorts
/// `spans` by descending decision number.
pub(super) fn contradicts_real_time(spans: &mut [RequestSpan]) -> bool {
    // The last decision first: one pass then compares each request with all that were decided
    // later.
    spans.sort_unstable_by_key(|span| std::cmp::Reverse(span.decision_number));
    // The earliest answer to a request that was decided later.
    let mut first_answer_at = Micros::MAX;
    spans.iter().any(|span| {
        let late = first_answer_at < span.asked_at;
        first_answer_at = first_answer_at.min(span.answered_at);
        late
    })
}

/// A cycle in the order of transactions, if there is one. Real time becomes edges over one vertex
/// per answer, so that their number stays linear: each request precedes the vertex of its answer,
/// each such vertex precedes that of the next answer, and the vertex of the last answer before a
/// request was first asked precedes that request.
pub(super) fn cycle(edges: &[Edge], spans: &[RequestSpan]) -> Option<Vec<u32>> {
    let mut answers: Vec<(Micros, u32)> =
        spans.iter().map(|span| (span.answered_at, span.decision_number)).collect();
    answers.sort_unstable();
    let max_decision = edges
        .iter()
        .map(|(a, b)| *a.max(b))
        .chain(spans.iter().map(|span| span.decision_number))
        .max()?;
    // The vertices of answers are numbered after those of decisions.
    let first_answer = max_decision as usize + 1;
    let mut after = vec![Vec::new(); first_answer + answers.len()];
    edges.iter().for_each(|(a, b)| after[*a as usize].push(*b));
    for (at, (_, decision_number)) in answers.iter().enumerate() {
        let vertex = first_answer + at;
        after[*decision_number as usize].push(vertex as u32);
        if at + 1 < answers.len() {
            after[vertex].push(vertex as u32 + 1);
        }
    }
    for span in spans {
        if let Some(at) =
            answers.partition_point(|(answered_at, _)| *answered_at < span.asked_at).checked_sub(1)
        {
            after[first_answer + at].push(span.decision_number);
        }
    }
    let found = find_cycle(&after)?;
    Some(found.into_iter().filter(|at| *at <= max_decision).collect())
}

/// The requests that were decided in this order, as far as their clients asked for them.
pub(super) fn requests_of(cycle: &[u32], spans: &[RequestSpan]) -> Vec<RequestId> {
    let mut requests = Vec::new();
    for decision_number in cycle {
        let span = spans.iter().find(|span| span.decision_number == *decision_number);
        requests.extend(span.map(|span| span.request));
    }
    requests
}

/// Depth-first search for an edge back to a vertex of the current path. Iterative, as paths are
/// long.
fn find_cycle(after: &[Vec<u32>]) -> Option<Vec<u32>> {
    let mut done = vec![false; after.len()];
    let mut on_path = vec![false; after.len()];
    for start in 0..after.len() {
        let mut path = vec![(start as u32, 0)];
        while let Some((at, next)) = path.last_mut() {
            let at = *at as usize;
            on_path[at] = true;
            match after[at].get(*next) {
                // Only the start can be done already: an earlier search has reached it.
                _ if done[at] => {
                    on_path[at] = false;
                    path.pop();
                }
                None => {
                    done[at] = true;
                    on_path[at] = false;
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
    use stormglass_node::{Incarnation, NodeId};

    use super::*;

    fn tx(serial: u32) -> TxId {
        TxId {
            coordinator: NodeId(0),
            incarnation: Incarnation::numbered(1),
            serial: serial.into(),
        }
    }

    fn op(key: &str, action: Action) -> Op {
        Op { node: NodeId(0), key: Key::new(key).expect("short"), action }
    }

    fn span(decision_number: u32, asked_us: u64, answered_us: u64) -> RequestSpan {
        RequestSpan {
            request: RequestId { client: 1, serial: decision_number, attempt: 0 },
            decision_number,
            asked_at: Micros(asked_us),
            answered_at: Micros(answered_us),
        }
    }

    /// The edges of reads (`r1x`) and writes (`w1x`) of transactions on keys, in the order of one
    /// node's log.
    fn edges_of(steps: &str) -> Vec<Edge> {
        let mut history = History::default();
        for (record, step) in steps.split_whitespace().enumerate() {
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
    fn serial_transactions_have_no_cycle() {
        let edges = edges_of("r1x w1x r2x w2x r2y r3y w3y");
        assert_eq!(edges, [(1, 2), (1, 2), (2, 3)]);
        assert_eq!(cycle(&edges, &[span(1, 1, 5), span(2, 2, 6), span(3, 7, 9)]), None);
    }

    /// Both read x before either writes it.
    #[test]
    fn a_lost_update_is_a_cycle() {
        assert_eq!(cycle(&edges_of("r1x r2x w1x w2x"), &[]), Some(vec![1, 2]));
    }

    /// Each transaction reads what the other writes: no key is written twice, and no order explains
    /// it.
    #[test]
    fn write_skew_is_a_cycle() {
        assert_eq!(cycle(&edges_of("r1x r2y w1y w2x"), &[]), Some(vec![1, 2]));
    }

    /// Serialisable as 2, 1, but 1 was answered before 2 was asked for.
    #[test]
    fn a_stale_read_is_a_cycle_in_real_time() {
        let edges = edges_of("r2x w1x");
        assert_eq!(cycle(&edges, &[]), None);
        let mut apart = [span(1, 1, 5), span(2, 6, 9)];
        let mut overlapping = [span(1, 1, 5), span(2, 4, 9)];
        assert!(cycle(&edges, &apart).is_some());
        assert_eq!(cycle(&edges, &overlapping), None);
        assert!(!contradicts_real_time(&mut apart) && !contradicts_real_time(&mut overlapping));
        assert!(
            contradicts_real_time(&mut [span(2, 1, 5), span(1, 6, 9)]),
            "decided first, asked last"
        );
    }

    #[test]
    fn accesses_lost_in_a_crash_are_discarded() {
        let mut history = History::default();
        history.read(0, tx(1), &[op("x", Action::Get)]);
        history.write(1, tx(1), &[op("y", Action::Put(1))]);
        history.begin_incarnation(1);
        history.write(0, tx(2), &[op("y", Action::Put(1))]);
        history.write(1, tx(2), &[op("x", Action::Put(1))]);
        let mut edges = Vec::new();
        history.edges(|tx| tx.serial as u32, |edge| edges.push(edge));
        assert_eq!(edges, [(1, 2)], "the read of x alone");
    }
}
