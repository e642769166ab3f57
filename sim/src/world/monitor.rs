//! What is seen of a run: the checker, the fingerprint, the counters and the first violation.

use std::any::Any;

use stormglass_node::{Micros, Node, NodeId};

use super::{HARNESS_NEVER_PANICS, RunOutcome};
use crate::hash::Fingerprint;
use crate::property::{Checker, Observation, Violation};
use crate::tally::{Rule, Tally};

/// Sees every fact, in order, until the first violation.
#[derive(Clone, Debug)]
pub(super) struct Monitor<K> {
    checker: K,
    fingerprint: Fingerprint,
    tally: Tally,
    violation: Option<Violation>,
    /// The node that is being booted or stepped: a panic now is attributed to it.
    stepping: Option<NodeId>,
}

impl<K> Monitor<K> {
    pub(super) fn new(checker: K) -> Monitor<K> {
        Monitor {
            checker,
            fingerprint: Fingerprint::default(),
            tally: Tally::default(),
            violation: None,
            stepping: None,
        }
    }

    /// Prepares for another run with the same checker, which `reset_checker` prepares.
    pub(super) fn reset(&mut self, reset_checker: impl FnOnce(&mut K)) {
        let Monitor { checker, fingerprint, tally, violation, stepping } = self;
        reset_checker(checker);
        *fingerprint = Fingerprint::default();
        *tally = Tally::default();
        *violation = None;
        *stepping = None;
    }

    pub(super) fn checker(&self) -> &K {
        &self.checker
    }

    /// Whether a property is violated: the run ends.
    #[inline]
    pub(super) fn is_violated(&self) -> bool {
        self.violation.is_some()
    }

    /// Notes a violation; only the first one counts.
    pub(super) fn violate(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    /// Counts an application of a fault rule.
    #[inline]
    pub(super) fn hit(&mut self, rule: Rule) {
        self.tally.hit(rule);
    }

    #[inline]
    pub(super) fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// Folds a fact into the fingerprint and passes it to the checker.
    #[inline(always)]
    pub(super) fn observe<N>(&mut self, observation: &Observation<'_, N>)
    where
        N: Node,
        K: Checker<N>,
    {
        let Observation { at, node, fact, .. } = *observation;
        // Before the check, so that the violating fact is part of the fingerprint.
        crate::fact_hash::fold_fact(&mut self.fingerprint, at, node, fact);
        if self.violation.is_some() {
            return;
        }
        if let Err(violation) = self.checker.check(observation) {
            self.violation = Some(violation);
        }
    }

    /// A panic until [`Monitor::end_step`] is a panic of this node.
    #[inline]
    pub(super) fn begin_step(&mut self, node: NodeId) {
        self.stepping = Some(node);
    }

    #[inline]
    pub(super) fn end_step(&mut self) {
        self.stepping = None;
    }

    /// Attributes a panic to the node that was running, or to the harness. It replaces a violation
    /// that was found before: after a panic nothing else of the run is reliable.
    pub(super) fn on_panic(&mut self, cause: &(dyn Any + Send)) {
        // A panic with a literal carries a `&str`, one with arguments a `String`.
        let text = cause.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| cause.downcast_ref::<String>().cloned()).unwrap_or_default();
        self.violation = Some(match self.stepping {
            Some(node) => Violation::safety("NodeNeverPanics", format!("{node} panicked: {text}")),
            None => Violation::safety(
                HARNESS_NEVER_PANICS,
                format!("a property, the workload or the simulator panicked: {text}"),
            ),
        });
    }

    /// The outcome of a run that ended at this time.
    pub(super) fn outcome(&mut self, now: Micros) -> RunOutcome {
        self.tally.virtual_time = now;
        RunOutcome {
            violation: self.violation.clone(),
            fingerprint: self.fingerprint.value(),
            tally: self.tally.clone(),
        }
    }
}
