//! One row per transaction: what everybody did about it, as far as anybody can see.

use stormglass::commit::{Decision, Part};
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
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) name: Option<RequestId>,
    /// Each participant's part, by node; nothing for those who take no part.
    pub(super) parts: Vec<Option<Part>>,
    pub(super) stands: Vec<Stand>,
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
}

/// All rows, found by coordinator, life and serial in a few steps.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    nodes: usize,
    by_coordinator: Vec<Vec<(Incarnation, Vec<Row>)>>,
}

impl Rows {
    pub(super) fn new(nodes: usize) -> Rows {
        Rows { nodes, by_coordinator: vec![Vec::new(); nodes] }
    }

    pub(super) fn row(&mut self, tx: TxId) -> &mut Row {
        let lives = &mut self.by_coordinator[usize::from(tx.coordinator.0)];
        let at = match lives.iter().rposition(|(life, _)| *life == tx.incarnation) {
            Some(at) => at,
            None => {
                lives.push((tx.incarnation, Vec::new()));
                lives.len() - 1
            }
        };
        let rows = &mut lives[at].1;
        let serial = usize::try_from(tx.serial).expect("serials count up from 1");
        while rows.len() < serial {
            rows.push(Row { stands: vec![Stand::default(); self.nodes], ..Row::default() });
        }
        &mut rows[serial - 1]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TxId, &Row)> {
        self.by_coordinator.iter().enumerate().flat_map(|(coordinator, lives)| {
            let coordinator = NodeId(coordinator as u16);
            lives.iter().flat_map(move |(incarnation, rows)| {
                let tx =
                    move |at: usize| TxId { coordinator, incarnation: *incarnation, serial: at as u64 + 1 };
                rows.iter().enumerate().map(move |(at, row)| (tx(at), row))
            })
        })
    }

    /// A crash: what this node had only appended is not to be relied on any more.
    pub(super) fn crash(&mut self, node: NodeId) {
        for (coordinator, lives) in self.by_coordinator.iter_mut().enumerate() {
            for row in lives.iter_mut().flat_map(|(_, rows)| rows) {
                let stand = &mut row.stands[usize::from(node.0)];
                (stand.prepared, stand.terminal) = (Mark::Absent, None);
                if coordinator == usize::from(node.0) {
                    row.commit = Mark::Absent;
                }
            }
        }
    }
}

impl Row {
    pub(super) fn stand(&mut self, node: NodeId) -> &mut Stand {
        &mut self.stands[usize::from(node.0)]
    }

    pub(super) fn know_part(&mut self, node: NodeId, part: &Part, coordinator: NodeId) {
        if self.parts.is_empty() {
            self.parts = vec![None; self.stands.len()];
            for other in part.participants().iter().filter(|other| **other != coordinator) {
                self.subordinates |= 1 << other.0;
            }
        }
        let slot = &mut self.parts[usize::from(node.0)];
        if slot.is_none() {
            *slot = Some(part.clone());
        }
    }
}
