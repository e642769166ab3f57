//! One row per transaction: what everybody did about it, as far as anybody can see.

use stormglass::commit::Decision;
use stormglass::{Incarnation, NodeId, RequestId, TxId};

/// How far a record has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    /// Not written in a way that this life could know of.
    #[default]
    Absent,
    /// Appended.
    Appended,
    /// It survives the worst power cut.
    Durable,
}

/// Where everybody stands with one transaction: one bit for each node, since a cluster has at most 64.
#[derive(Clone, Copy, Debug, Default)]
struct Stands {
    /// PREPARED is in its log, as far as this life knows.
    prepared: u64,
    /// And durable. A subset of `prepared`.
    prepared_durable: u64,
    /// A terminal record is in its log, as far as this life knows.
    terminal: u64,
    /// And it says committed. A subset of `terminal`.
    terminal_commit: u64,
    /// And it is durable. A subset of `terminal`.
    terminal_durable: u64,
    /// A terminal record was durable once: it binds for ever.
    decided_commit: u64,
    decided_abort: u64,
}

/// One transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) tx: TxId,
    pub(super) name: Option<RequestId>,
    /// Whether anybody has said who takes part.
    known: bool,
    /// Nodes that take part, but for the coordinator. By node number.
    pub(super) subordinates: u64,
    /// Whose Yes has reached the coordinator.
    pub(super) yes: u64,
    /// Whose acknowledgement has reached the coordinator.
    pub(super) acked: u64,
    pub(super) commit: Mark,
    /// COMMIT was durable once.
    pub(super) committed: bool,
    pub(super) ended: bool,
    /// The coordinator said Commit to a participant.
    pub(super) commit_said: bool,
    /// The coordinator said Abort, to a participant or to the client.
    pub(super) abort_said: bool,
    pub(super) begun_us: u64,
    /// Which decision to commit it was, from 1, by the order of COMMIT records; 0 if there is none.
    pub(super) order: u32,
    /// How often, since the clearing, Commit was said to somebody who is dead for good (L2).
    pub(super) to_the_dead: u32,
    stands: Stands,
}

/// All rows, found by coordinator, life and serial in a few steps.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    rows: Vec<Row>,
    /// By coordinator, then by life: the places of its rows, by serial from 1.
    places: Vec<Vec<(Incarnation, Vec<u32>)>>,
    /// The place of the row that was looked at last: one event asks for the same a few times.
    last: usize,
}

impl Rows {
    /// No rows yet, of a cluster of so many nodes; the memory is kept.
    pub(super) fn reset(&mut self, nodes: usize) {
        assert!(nodes <= 64, "a row has one bit for each node");
        self.last = 0;
        self.rows.clear();
        self.places.iter_mut().for_each(Vec::clear);
        self.places.resize(nodes, Vec::new());
    }

    #[inline(always)]
    pub(super) fn row(&mut self, tx: TxId) -> &mut Row {
        if self.rows.get(self.last).is_none_or(|row| row.tx != tx) {
            self.last = self.find(tx);
        }
        &mut self.rows[self.last]
    }

    #[inline(never)]
    fn find(&mut self, tx: TxId) -> usize {
        let lives = &mut self.places[usize::from(tx.coordinator.0)];
        let at = match lives.iter().rposition(|(life, _)| *life == tx.incarnation) {
            Some(at) => at,
            None => {
                lives.push((tx.incarnation, Vec::new()));
                lives.len() - 1
            }
        };
        let places = &mut lives[at].1;
        let serial = usize::try_from(tx.serial).expect("serials count up from 1");
        while places.len() < serial {
            places.push(u32::try_from(self.rows.len()).expect("a run has fewer than 2^32 transactions"));
            self.rows.push(Row::new(TxId { serial: places.len() as u64, ..tx }));
        }
        places[serial - 1] as usize
    }

    /// All rows, in the order in which they were first heard of.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter()
    }

    /// A crash: what this node had only appended is not to be relied on any more.
    pub(super) fn crash(&mut self, node: NodeId) {
        let others = !bit(node);
        for row in &mut self.rows {
            let stands = &mut row.stands;
            stands.prepared &= others;
            stands.prepared_durable &= others;
            stands.terminal &= others;
            stands.terminal_commit &= others;
            stands.terminal_durable &= others;
            if row.tx.coordinator == node {
                row.commit = Mark::Absent;
            }
        }
    }
}

#[inline]
fn bit(node: NodeId) -> u64 {
    1 << node.0
}

impl Row {
    fn new(tx: TxId) -> Row {
        Row {
            tx,
            name: None,
            known: false,
            subordinates: 0,
            yes: 0,
            acked: 0,
            commit: Mark::Absent,
            committed: false,
            ended: false,
            commit_said: false,
            abort_said: false,
            begun_us: 0,
            order: 0,
            to_the_dead: 0,
            stands: Stands::default(),
        }
    }

    /// Somebody says who takes part.
    pub(super) fn know(&mut self, participants: impl Iterator<Item = NodeId>) {
        if self.known {
            return;
        }
        self.known = true;
        let coordinator = self.tx.coordinator;
        self.subordinates =
            participants.filter(|node| *node != coordinator).fold(0, |bits, node| bits | 1 << node.0);
    }
}

/// Where a node stands.
impl Row {
    /// How far its PREPARED has come.
    #[inline]
    pub(super) fn prepared(&self, node: NodeId) -> Mark {
        match bit(node) {
            bit if self.stands.prepared_durable & bit != 0 => Mark::Durable,
            bit if self.stands.prepared & bit != 0 => Mark::Appended,
            _ => Mark::Absent,
        }
    }

    /// PREPARED is appended, or durable.
    #[inline]
    pub(super) fn prepare(&mut self, node: NodeId, mark: Mark) {
        let stands = &mut self.stands;
        put(&mut stands.prepared, node, mark != Mark::Absent);
        put(&mut stands.prepared_durable, node, mark == Mark::Durable);
    }

    /// What its terminal record says, and how far that has come.
    #[inline]
    pub(super) fn terminal(&self, node: NodeId) -> Option<(Decision, Mark)> {
        let (stands, bit) = (&self.stands, bit(node));
        if stands.terminal & bit == 0 {
            return None;
        }
        let commit = stands.terminal_commit & bit != 0;
        let durable = stands.terminal_durable & bit != 0;
        Some((
            if commit { Decision::Committed } else { Decision::Aborted },
            if durable { Mark::Durable } else { Mark::Appended },
        ))
    }

    /// A terminal record is appended, or durable.
    #[inline]
    pub(super) fn settle(&mut self, node: NodeId, decision: Decision, mark: Mark) {
        let stands = &mut self.stands;
        stands.terminal |= bit(node);
        put(&mut stands.terminal_commit, node, decision == Decision::Committed);
        put(&mut stands.terminal_durable, node, mark == Mark::Durable);
    }

    /// Who was ever bound by a durable decision of this kind.
    #[inline]
    pub(super) fn decided(&self, decision: Decision) -> u64 {
        match decision {
            Decision::Committed => self.stands.decided_commit,
            Decision::Aborted => self.stands.decided_abort,
        }
    }

    /// A node is bound for ever.
    #[inline]
    pub(super) fn bind(&mut self, node: NodeId, decision: Decision) {
        match decision {
            Decision::Committed => self.stands.decided_commit |= bit(node),
            Decision::Aborted => self.stands.decided_abort |= bit(node),
        }
    }

    /// Who is prepared and has no terminal record.
    pub(super) fn in_doubt(&self) -> u64 {
        self.stands.prepared & !self.stands.terminal
    }

    /// Who has a terminal record.
    pub(super) fn settled(&self) -> u64 {
        self.stands.terminal
    }
}

#[inline]
fn put(bits: &mut u64, node: NodeId, set: bool) {
    let bit = bit(node);
    *bits = if set { *bits | bit } else { *bits & !bit };
}

/// The nodes of a set, in ascending order.
pub(super) fn nodes(bits: u64) -> impl Iterator<Item = NodeId> {
    let rest = std::iter::successors(Some(bits), |bits| Some(bits & bits.wrapping_sub(1)));
    rest.take_while(|bits| *bits != 0).map(|bits| NodeId(bits.trailing_zeros() as u16))
}
