//! One row per transaction: what everybody did about it, as far as anybody can see.

use std::ops::{Deref, DerefMut};

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

/// What one participant has on its disk about one transaction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stand {
    pub(super) prepared: Mark,
    pub(super) terminal: Option<(Decision, Mark)>,
    /// A terminal record was durable once: it binds for ever.
    pub(super) decided: Option<Decision>,
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
    /// Who has said Yes, durably prepared.
    pub(super) yes: u64,
    /// Whose acknowledgement has reached the coordinator.
    pub(super) acked: u64,
    pub(super) commit: Mark,
    /// COMMIT was durable once.
    pub(super) committed: bool,
    pub(super) ended: bool,
    /// The coordinator said Abort, to a participant or to the client.
    pub(super) abort_said: bool,
    pub(super) begun_us: u64,
    /// Which decision to commit it was, from 1, by the order of COMMIT records; 0 if there is none.
    pub(super) order: u32,
    /// How often, since the clearing, Commit was said to somebody who is dead for good (L2).
    pub(super) to_the_dead: u32,
}

/// All rows, found by coordinator, life and serial in a few steps.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    nodes: usize,
    rows: Vec<Row>,
    /// `nodes` for each row.
    stands: Vec<Stand>,
    /// By coordinator, then by life: the places of its rows, by serial from 1.
    places: Vec<Vec<(Incarnation, Vec<u32>)>>,
    /// The place of the row that was looked at last: one event asks for the same a few times.
    last: usize,
}

/// One row, with where everybody stands.
pub(super) struct RowMut<'a> {
    row: &'a mut Row,
    pub(super) stands: &'a mut [Stand],
}

impl Rows {
    /// No rows yet, of a cluster of so many nodes; the memory is kept.
    pub(super) fn reset(&mut self, nodes: usize) {
        (self.nodes, self.last) = (nodes, 0);
        self.rows.clear();
        self.stands.clear();
        self.places.iter_mut().for_each(Vec::clear);
        self.places.resize(nodes, Vec::new());
    }

    #[inline]
    pub(super) fn row(&mut self, tx: TxId) -> RowMut<'_> {
        if self.rows.get(self.last).is_none_or(|row| row.tx != tx) {
            self.last = self.find(tx);
        }
        let stands = self.last * self.nodes;
        let stands = &mut self.stands[stands..stands + self.nodes];
        RowMut { row: &mut self.rows[self.last], stands }
    }

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
            self.stands.resize(self.rows.len() * self.nodes, Stand::default());
        }
        places[serial - 1] as usize
    }

    /// All rows, in the order in which they were first heard of.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Row, &[Stand])> {
        self.rows.iter().zip(self.stands.chunks(self.nodes.max(1)))
    }

    /// A crash: what this node had only appended is not to be relied on any more.
    pub(super) fn crash(&mut self, node: NodeId) {
        for (row, stands) in self.rows.iter_mut().zip(self.stands.chunks_mut(self.nodes.max(1))) {
            let stand = &mut stands[usize::from(node.0)];
            (stand.prepared, stand.terminal) = (Mark::Absent, None);
            if row.tx.coordinator == node {
                row.commit = Mark::Absent;
            }
        }
    }
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
            abort_said: false,
            begun_us: 0,
            order: 0,
            to_the_dead: 0,
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

impl RowMut<'_> {
    #[inline]
    pub(super) fn stand(&mut self, node: NodeId) -> &mut Stand {
        &mut self.stands[usize::from(node.0)]
    }
}

impl Deref for RowMut<'_> {
    type Target = Row;
    fn deref(&self) -> &Row {
        self.row
    }
}

impl DerefMut for RowMut<'_> {
    fn deref_mut(&mut self) -> &mut Row {
        self.row
    }
}
