//! AC1-AC3: the nodes decide alike, once, and commit only with every Yes vote.
//!
//! Decisions are records: each is checked when it is appended and when it becomes durable. All that
//! these properties need is in the state of the transaction.

use stormglass::commit::Decision;
use stormglass_node::NodeId;

use super::model::TxState;
use crate::property::Property;
use stormglass_sim::property::Violation;

/// AC3: only its coordinator commits a transaction.
#[inline]
pub(super) fn check_commits_own(node: NodeId, tx_state: &TxState) -> Result<(), Violation> {
    let tx = tx_state.tx();
    if tx.coordinator == node {
        return Ok(());
    }
    let explanation = format!("{node} decided {tx}, but does not coordinate it");
    Err(Property::CommitNeedsEveryYes.violated(explanation))
}

/// AC3: the coordinator commits a transaction with a Yes of every subordinate.
#[inline]
pub(super) fn check_votes(node: NodeId, tx_state: &TxState) -> Result<(), Violation> {
    let Some(missing) = tx_state.missing_votes().first() else { return Ok(()) };
    let tx = tx_state.tx();
    let explanation = format!("{node} commits {tx} without a Yes vote from {missing}");
    Err(Property::CommitNeedsEveryYes.violated(explanation))
}

/// AC2: a node that has aborted a transaction does not vote Yes on it.
#[inline]
pub(super) fn check_yes(node: NodeId, tx_state: &TxState) -> Result<(), Violation> {
    if tx_state.outcome(node).is_none_or(|(decision, _)| decision != Decision::Aborted) {
        return Ok(());
    }
    let explanation = format!("{node} votes Yes on {} after it aborted it", tx_state.tx());
    Err(Property::DecisionsAreFinal.violated(explanation))
}

/// AC2: a participant that appends an outcome record never appended the opposite one.
#[inline]
pub(super) fn check_outcome_record(
    node: NodeId,
    tx_state: &TxState,
    decision: Decision,
) -> Result<(), Violation> {
    match tx_state.outcome(node) {
        Some((before, _)) if before != decision => {
            let tx = tx_state.tx();
            let explanation = format!("{node} wrote {decision:?} for {tx} after {before:?}");
            Err(Property::DecisionsAreFinal.violated(explanation))
        }
        Some(_) | None => Ok(()),
    }
}

/// AC1, AC2: a durable outcome record agrees with every other one, and with COMMIT; W2: which was
/// durable first.
#[inline]
pub(super) fn check_decided(
    node: NodeId,
    tx_state: &TxState,
    decision: Decision,
) -> Result<(), Violation> {
    let tx = tx_state.tx();
    let opposite = match decision {
        Decision::Committed => Decision::Aborted,
        Decision::Aborted => Decision::Committed,
    };
    let others = tx_state.decided(opposite);
    // A node that reverses its own decision violates AC2, whatever the others have decided.
    if others.contains(node) {
        let explanation = format!("{node} had decided {opposite:?} for {tx}, and now {decision:?}");
        return Err(Property::DecisionsAreFinal.violated(explanation));
    }
    if let Some(other) = others.first() {
        let explanation = format!("{node} decided {decision:?} for {tx}, and {other} the opposite");
        return Err(Property::DecisionsAgree.violated(explanation));
    }
    // Agreement is not enough: all participants could commit what the coordinator never decided.
    if decision == Decision::Committed && !tx_state.is_committed() {
        let explanation = format!("{node} committed {tx}, whose COMMIT was never durable");
        return Err(Property::CommitIsDurableFirst.violated(explanation));
    }
    if decision == Decision::Aborted && tx_state.is_committed() {
        let explanation = format!("{node} aborted {tx}, whose COMMIT is durable");
        return Err(Property::DecisionsAgree.violated(explanation));
    }
    Ok(())
}
