//! The state of each request, as far as effects, records and answers show it.

use std::sync::Arc;

use stormglass::commit::{AbortReason, Op, Position, TxId};
use stormglass_node::{Incarnation, Micros, NodeId, Time};

/// The state of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestState {
    /// The transaction that committed it.
    committed: Option<TxId>,
    /// The last answer "aborted" of a coordinator, and the incarnation that gave it.
    replied_aborted: Option<(Incarnation, AbortReason)>,
    /// Its coordinator has answered that it is committed.
    replied_committed: bool,
    /// Its client has received an outcome, or knows that nobody remembers it.
    knows_outcome: bool,
    /// Its client asked for it, or for its outcome, after the faults ended.
    asked_after_heal: bool,
    /// When it was first asked, in true time; 0 for never.
    asked_at: Micros,
    /// When its client first learnt that it is committed, in true time; 0 for never.
    answered_at: Micros,
    /// What its client asked for, if it did.
    asked: Option<AskedTransaction>,
    /// A client has asked for something else with the same id.
    is_ambiguous: bool,
    /// The last transaction that sent Prepare for it.
    begun: Option<TxId>,
}

/// A transaction as its client asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AskedTransaction {
    /// In the client's order.
    pub(crate) ops: Arc<[Op]>,
    /// When the first attempt began, as the coordinator has answered before.
    pub(crate) began_at: Option<Time>,
    /// The position of the coordinator that is addressed.
    pub(crate) addressed: Position,
}

impl AskedTransaction {
    /// The operations of one participant.
    pub(crate) fn ops_at(&self, node: NodeId) -> impl Iterator<Item = &Op> + Clone {
        self.ops.iter().filter(move |op| op.node == node)
    }
}

impl RequestState {
    #[inline]
    pub(crate) fn committed(&self) -> Option<TxId> {
        self.committed
    }

    #[inline]
    pub(crate) fn is_reported_aborted(&self) -> bool {
        self.replied_aborted.is_some()
    }

    /// Whether its coordinator has answered it with an outcome.
    pub(crate) fn is_reported(&self) -> bool {
        self.replied_committed || self.replied_aborted.is_some()
    }

    /// The last answer "aborted", and the incarnation that gave it.
    pub(crate) fn last_abort(&self) -> Option<(Incarnation, AbortReason)> {
        self.replied_aborted
    }

    /// Whether its client asked after the faults ended, and has received no outcome, then or
    /// earlier. An answer that was sent and lost is none.
    pub(crate) fn is_waiting(&self) -> bool {
        self.asked_after_heal && !self.knows_outcome
    }

    /// When it was first asked, in true time; 0 for never.
    pub(crate) fn asked_at(&self) -> Micros {
        self.asked_at
    }

    /// When its client first learnt that it is committed, in true time.
    pub(crate) fn answered_at(&self) -> Option<Micros> {
        (self.answered_at != Micros::ZERO).then_some(self.answered_at)
    }

    /// What its client asked for; `None` if it only asked for the outcome, or used the id twice.
    #[inline]
    pub(crate) fn asked(&self) -> Option<&AskedTransaction> {
        self.asked.as_ref().filter(|_| !self.is_ambiguous)
    }

    /// The last transaction that sent Prepare for it.
    pub(crate) fn begun(&self) -> Option<TxId> {
        self.begun
    }

    pub(super) fn on_asked(&mut self, after_heal: bool) {
        self.asked_after_heal |= after_heal;
    }

    pub(super) fn on_transaction_asked(&mut self, at: Micros, asked: AskedTransaction) {
        // Repetitions are equal. The first one counts for the order in real time.
        match &self.asked {
            Some(first) => self.is_ambiguous |= *first != asked,
            None => {
                self.asked_at = at;
                self.asked = Some(asked);
            }
        }
    }

    /// Nothing is compared with the operations.
    pub(super) fn ignore_operations(&mut self) {
        self.is_ambiguous = true;
    }

    #[inline]
    pub(super) fn begin(&mut self, tx: TxId) {
        self.begun = Some(tx);
    }

    pub(super) fn on_forgotten_answer(&mut self) {
        self.knows_outcome = true;
    }

    pub(super) fn on_aborted_answer(&mut self) {
        self.knows_outcome = true;
    }

    pub(super) fn on_committed_answer(&mut self, at: Micros) {
        self.knows_outcome = true;
        if self.answered_at == Micros::ZERO {
            self.answered_at = at;
        }
    }

    pub(super) fn report_committed(&mut self) {
        self.replied_committed = true;
    }

    /// Returns whether it is the first such report.
    pub(super) fn report_aborted(&mut self, by: Incarnation, reason: AbortReason) -> bool {
        self.replied_aborted.replace((by, reason)).is_none()
    }

    #[inline]
    pub(super) fn commit(&mut self, tx: TxId) {
        self.committed = Some(tx);
    }
}
