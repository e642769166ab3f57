//! AC3, W12: what is recorded is what the client asked for, and what it is answered is true.

use stormglass::commit::{
    AbortReason, Age, InvalidTransaction, Op, Part, Participants, Refusal, TxId,
};
use stormglass_node::{Incarnation, Micros, NodeId, RequestId};

use super::model::{AskedTransaction, Model, RequestState, TxState};
use super::node_set::NodeSet;
use crate::property::Property;
use stormglass_sim::property::Violation;

/// The refusals that have reached each coordinator.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    /// By node, the last No vote that it has received: the request, the voter and its reason. A
    /// coordinator aborts in the step in which it receives a No, so the last one is enough.
    last_no: Vec<Option<(RequestId, NodeId, Refusal)>>,
    /// By node, its last transaction that is a first attempt.
    last_first_attempt: Vec<Option<FirstAttempt>>,
    /// The times of the facts are not those of the run.
    ignores_times: bool,
}

/// A transaction that is the first attempt at a request, and so has the time of its coordinator.
#[derive(Clone, Copy, Debug)]
struct FirstAttempt {
    incarnation: Incarnation,
    /// In true time.
    at: Micros,
    /// By the clock of the coordinator.
    age: u64,
}

impl Answers {
    /// For a run of a cluster of that many nodes.
    pub(super) fn new(nodes: usize) -> Answers {
        Answers {
            last_no: vec![None; nodes],
            last_first_attempt: vec![None; nodes],
            ignores_times: false,
        }
    }

    /// Prepares for a run of a cluster of that many nodes; allocated memory is kept.
    pub(super) fn reset(&mut self, nodes: usize) {
        self.last_no.clear();
        self.last_no.resize(nodes, None);
        self.last_first_attempt.clear();
        self.last_first_attempt.resize(nodes, None);
    }

    /// The times of the facts are not those of the run. Stays over a reset.
    pub(super) fn ignore_times(&mut self) {
        self.ignores_times = true;
    }

    /// AC3: the age of a first attempt is the time of its coordinator, whose clock runs at half of
    /// its rate at least. A new incarnation may have another time.
    pub(super) fn check_first_attempt(
        &mut self,
        at: Micros,
        tx: TxId,
        request: RequestId,
        age: Age,
        model: &Model,
    ) -> Result<(), Violation> {
        let asked = model.request(request).and_then(RequestState::asked);
        if self.ignores_times || asked.is_none_or(|asked| asked.began_at.is_some()) {
            return Ok(());
        }
        let last = &mut self.last_first_attempt[usize::from(tx.coordinator.0)];
        let before = last.replace(FirstAttempt { incarnation: tx.incarnation, at, age: age.at });
        let Some(before) = before.filter(|before| before.incarnation == tx.incarnation) else {
            return Ok(());
        };
        let passed = at.0.saturating_sub(before.at.0);
        if age.at >= before.age.saturating_add(passed / 2) {
            return Ok(());
        }
        let explanation = format!(
            "{tx} has the time {} as its age; {passed} us earlier, the time was {}",
            age.at, before.age
        );
        Err(Property::PartsAreAsAsked.violated(explanation))
    }

    pub(super) fn on_crash(&mut self, node: NodeId) {
        self.last_no[usize::from(node.0)] = None;
    }

    /// A No vote reaches the coordinator.
    #[inline]
    pub(super) fn on_no(
        &mut self,
        node: NodeId,
        from: NodeId,
        request: RequestId,
        refusal: Refusal,
    ) {
        self.last_no[usize::from(node.0)] = Some((request, from, refusal));
    }

    /// W12: the incarnation `by` of the node answers that the request is aborted. It is for a true
    /// reason, and for the same one as at the time before.
    pub(super) fn check_abort(
        &self,
        node: NodeId,
        by: Incarnation,
        id: RequestId,
        reason: &AbortReason,
        model: &Model,
    ) -> Result<(), Violation> {
        let Some(request_state) = model.request(id) else { return Ok(()) };
        if let Some((before, reason_before)) = request_state.last_abort()
            && before == by
        {
            if reason_before == *reason {
                return Ok(());
            }
            let explanation =
                format!("{node} answers {id} with \"{reason}\", after \"{reason_before}\"");
            return Err(Property::RepeatedAnswersAgree.violated(explanation));
        }
        let Some(asked) = request_state.asked() else { return Ok(()) };
        let is_true = match reason {
            // The refusal of its own part is checked like a vote.
            AbortReason::Refused { by: voter, .. } if *voter == node => true,
            AbortReason::Refused { by: voter, refusal } => {
                self.last_no[usize::from(node.0)] == Some((id, *voter, *refusal))
            }
            AbortReason::TimedOut { missing } => is_missing(*missing, node, request_state, model),
            // Or to another one of its number, which has answered nobody.
            AbortReason::Restarted => {
                let addressed = asked.addressed.incarnation;
                addressed != by && addressed.number() <= by.number()
            }
            AbortReason::Invalid(invalid) => is_invalid(*invalid, asked, model),
        };
        if is_true {
            return Ok(());
        }
        let explanation = format!("{node} answers {id} with \"{reason}\", which is not true");
        Err(Property::AbortReasonsAreTrue.violated(explanation))
    }
}

/// W12: an answer names the present incarnation, to which the client addresses its next request.
#[inline]
pub(super) fn check_incarnation(
    node: NodeId,
    id: RequestId,
    present: Incarnation,
    named: Incarnation,
) -> Result<(), Violation> {
    if named == present {
        return Ok(());
    }
    let explanation = format!("{node} answers {id} as {named}, but it is {present}");
    Err(Property::AnswersNameTheIncarnation.violated(explanation))
}

/// Whether this participant is the first whose vote is missing. If all have voted, it is the
/// coordinator, whose own part waits for locks.
fn is_missing(
    missing: NodeId,
    coordinator: NodeId,
    request_state: &RequestState,
    model: &Model,
) -> bool {
    let tx_state = request_state.begun().and_then(|tx| model.known_transaction(tx));
    let first_missing = tx_state.and_then(|tx_state| tx_state.missing_votes().first());
    first_missing.unwrap_or(coordinator) == missing
}

/// Whether these operations are no transaction, for this reason.
fn is_invalid(invalid: InvalidTransaction, asked: &AskedTransaction, model: &Model) -> bool {
    let ops = &asked.ops;
    match invalid {
        InvalidTransaction::NoOps => ops.is_empty(),
        InvalidTransaction::TooManyOps => ops.len() > Part::OPS_MAX,
        InvalidTransaction::NoSuchNode(node) => {
            node.0 >= model.plan().nodes && asked.ops_at(node).next().is_some()
        }
        InvalidTransaction::TooManyNodes => {
            let mut nodes: Vec<NodeId> = ops.iter().map(|op| op.node).collect();
            nodes.sort_unstable();
            nodes.dedup();
            nodes.len() > Participants::MAX
        }
        // No other reason is known.
        _ => false,
    }
}

/// AC3: these are the operations that the client asked of this node, and the age is that of its
/// request.
#[inline]
pub(super) fn check_part(
    node: NodeId,
    tx: TxId,
    request: RequestId,
    ops: &[Op],
    age: Option<Age>,
    model: &Model,
) -> Result<(), Violation> {
    let Some(asked) = model.request(request).and_then(RequestState::asked) else { return Ok(()) };
    if !asked.ops_at(node).eq(ops) {
        let explanation = format!("{tx} has other operations for {node} than {request} asked for");
        return Err(Property::PartsAreAsAsked.violated(explanation));
    }
    match age {
        Some(age) if !is_age_of(age, tx, request, asked, model) => {
            let explanation = format!("{tx} has the age {age:?} for {node}, not that of {request}");
            Err(Property::PartsAreAsAsked.violated(explanation))
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether this may be the age of a transaction of the request: the same for all participants, and
/// that of the first attempt.
#[inline]
fn is_age_of(
    age: Age,
    tx: TxId,
    request: RequestId,
    asked: &AskedTransaction,
    model: &Model,
) -> bool {
    let of_others = model.known_transaction(tx).and_then(TxState::age);
    age.by == first_attempt(request)
        && of_others.is_none_or(|other| other == age)
        && match asked.began_at {
            None => true,
            Some(began_at) if age.at == began_at.0 => true,
            // After a restart the clock of the coordinator may be behind, and no age is later than
            // the present time.
            Some(began_at) => age.at < began_at.0 && tx.incarnation.number() > 1,
        }
}

/// The id of the first attempt at a request, which its age has.
pub(super) fn first_attempt(request: RequestId) -> RequestId {
    RequestId { attempt: 0, ..request }
}

/// AC3: these are the subordinates of the request.
#[inline]
pub(super) fn check_subordinates(
    tx: TxId,
    request: RequestId,
    subordinates: NodeSet,
    model: &Model,
) -> Result<(), Violation> {
    let Some(asked) = model.request(request).and_then(RequestState::asked) else { return Ok(()) };
    let nodes = asked.ops.iter().map(|op| op.node);
    let expected: NodeSet = nodes.filter(|node| *node != tx.coordinator).collect();
    if expected == subordinates {
        return Ok(());
    }
    let explanation = format!("{tx} has other participants than {request} asked for");
    Err(Property::PartsAreAsAsked.violated(explanation))
}
