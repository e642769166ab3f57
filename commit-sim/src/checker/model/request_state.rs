//! The state of each request, as far as effects, records and answers show it.

use std::sync::Arc;
use stormglass_node::Micros;

use stormglass::commit::{Op, TxId};

/// The state of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestState {
    /// The transaction that committed it.
    committed: Option<TxId>,
    /// A coordinator has reported it as committed.
    replied_committed: bool,
    replied_aborted: bool,
    /// Its client asked for it, or for its outcome, after the faults ended.
    asked_after_heal: bool,
    /// When it was first asked, in true time; 0 for never.
    asked_at: Micros,
    /// When its client first learnt that it is committed, in true time; 0 for never.
    answered_at: Micros,
    /// Its operations in the client's order, if one of them reads.
    reads: Option<Arc<[Op]>>,
}

impl RequestState {
    #[inline]
    pub(crate) fn committed(&self) -> Option<TxId> {
        self.committed
    }

    #[inline]
    pub(crate) fn is_reported_committed(&self) -> bool {
        self.replied_committed
    }

    #[inline]
    pub(crate) fn is_reported_aborted(&self) -> bool {
        self.replied_aborted
    }

    /// Whether its client asked after the faults ended, and no coordinator has replied with an
    /// outcome, then or earlier.
    pub(crate) fn is_waiting(&self) -> bool {
        self.asked_after_heal && !self.replied_committed && !self.replied_aborted
    }

    /// When it was first asked, in true time; 0 for never.
    pub(crate) fn asked_at(&self) -> Micros {
        self.asked_at
    }

    /// When its client first learnt that it is committed, in true time.
    pub(crate) fn answered_at(&self) -> Option<Micros> {
        (self.answered_at != Micros::ZERO).then_some(self.answered_at)
    }

    /// Its operations in the client's order; none if it does not read.
    pub(crate) fn reading_ops(&self) -> &[Op] {
        self.reads.as_deref().unwrap_or_default()
    }

    pub(super) fn on_asked(&mut self, after_heal: bool) {
        self.asked_after_heal |= after_heal;
    }

    pub(super) fn on_transaction_asked(&mut self, at: Micros, ops: &Arc<[Op]>) {
        // Repetitions have the same operations. The first one counts for the order in real time.
        if self.asked_at == Micros::ZERO {
            self.asked_at = at;
            self.reads = (!ops.iter().all(Op::writes)).then(|| ops.clone());
        }
    }

    pub(super) fn on_committed_answer(&mut self, at: Micros) {
        if self.answered_at == Micros::ZERO {
            self.answered_at = at;
        }
    }

    #[inline]
    pub(super) fn report_committed(&mut self) {
        self.replied_committed = true;
    }

    /// Returns whether it is the first such report.
    pub(super) fn report_aborted(&mut self) -> bool {
        !std::mem::replace(&mut self.replied_aborted, true)
    }

    #[inline]
    pub(super) fn commit(&mut self, tx: TxId) {
        self.committed = Some(tx);
    }
}
