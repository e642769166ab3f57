//! What is seen of a run: the checker, the fingerprint, the counters and the first violation.

use stormglass_node::{Micros, Node, NodeId};

use super::panics::CaughtPanic;
use super::{
    HARNESS_NEVER_PANICS, NODE_KEEPS_ITS_CONTRACT, NODE_NEVER_PANICS, PROPERTY_NEVER_PANICS,
    RunOutcome,
};
use crate::coverage::{Coverage, CoverageRecorder};
use crate::fact_hash::ContentHash;
use crate::hash::Fingerprint;
use crate::property::{Checker, JudgedUntil, MessageId, Observation, Violation};
use crate::tally::{Rule, Tally};

/// Sees every fact, in order, until the first violation.
#[derive(Clone, Debug)]
pub(super) struct Monitor<K> {
    checker: K,
    fingerprint: Fingerprint,
    /// Of what is said and written, where it is compared.
    contents: Option<ContentHash>,
    tally: Tally,
    violation: Option<Violation>,
    /// Of the kinds of facts, where they are counted.
    coverage: Option<Box<CoverageRecorder>>,
    /// Whether facts are not just checked: `violation`, `contents` or `coverage` is some.
    looks_closer: bool,
    interrupted: bool,
    /// Whose code runs, apart from checkers: a panic now is attributed to it.
    actor: Actor,
    /// The node whose fact the checkers are looking at.
    checking: Option<NodeId>,
}

/// Whose code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Actor {
    /// The simulator or the workload.
    Harness,
    /// This node boots or handles an input.
    Node(NodeId),
    /// The simulator performs what this node has asked for.
    EffectsOf(NodeId),
}

impl<K> Monitor<K> {
    pub(super) fn new(checker: K) -> Monitor<K> {
        Monitor {
            checker,
            fingerprint: Fingerprint::default(),
            contents: None,
            coverage: None,
            tally: Tally::default(),
            violation: None,
            looks_closer: false,
            interrupted: false,
            actor: Actor::Harness,
            checking: None,
        }
    }

    /// Prepares for another run with the same checker, which `reset_checker` prepares.
    pub(super) fn reset(&mut self, reset_checker: impl FnOnce(&mut K)) {
        let Monitor {
            checker,
            fingerprint,
            contents,
            coverage,
            tally,
            violation,
            looks_closer,
            interrupted,
            actor,
            checking,
        } = self;
        reset_checker(checker);
        *fingerprint = Fingerprint::default();
        *contents = None;
        *coverage = None;
        *interrupted = false;
        *tally = Tally::default();
        *violation = None;
        *looks_closer = false;
        *actor = Actor::Harness;
        *checking = None;
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
    #[cold]
    pub(super) fn violate(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
        self.looks_closer = true;
    }

    /// Notes that the run was stopped before its end.
    pub(super) fn interrupt(&mut self) {
        self.interrupted = true;
    }

    pub(super) fn hash_contents(&mut self) {
        self.contents = Some(ContentHash::default());
        self.looks_closer = true;
    }

    /// Counts the facts of this run, and offers altered ones to the checker if `alters` says so.
    pub(super) fn count_facts(&mut self, nodes: u16, alters: bool) {
        self.coverage = Some(Box::new(CoverageRecorder::new(nodes, alters)));
        self.looks_closer = true;
    }

    /// What was counted.
    pub(super) fn take_coverage(&mut self) -> Option<Coverage> {
        self.coverage.take().map(|recorder| recorder.into_coverage())
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
        // False in most runs: nothing is hashed or counted, and nothing is violated.
        if self.looks_closer {
            self.look_closer(observation);
            if self.violation.is_some() {
                return;
            }
        }
        self.checking = Some(node);
        let verdict = self.checker.check(observation);
        self.checking = None;
        if let Err(violation) = verdict {
            self.violate(violation);
        }
    }

    /// Tells the checker which message the last fact has sent.
    #[inline(always)]
    pub(super) fn note_sent<N: Node>(&mut self, message: MessageId)
    where
        K: Checker<N>,
    {
        self.checker.on_sent(message);
    }

    /// Tells the checker of which message the next fact is.
    #[inline(always)]
    pub(super) fn note_arrival<N: Node>(&mut self, message: MessageId)
    where
        K: Checker<N>,
    {
        self.checker.on_arrival(message);
    }

    /// Hashes the contents of a fact and counts its kind, if this is wanted.
    #[cold]
    fn look_closer<N: Node>(&mut self, observation: &Observation<'_, N>)
    where
        K: Checker<N>,
    {
        if let Some(contents) = &mut self.contents {
            contents.fold(observation.fact);
        }
        if let Some(recorder) = &mut self.coverage
            && self.violation.is_none()
        {
            recorder.record(&self.checker, observation);
        }
    }

    /// A panic until [`Monitor::begin_effects`] or [`Monitor::end_step`] is a panic of this node.
    #[inline]
    pub(super) fn begin_step(&mut self, node: NodeId) {
        self.actor = Actor::Node(node);
    }

    /// Calls other code of this node, a panic of which is a panic of the node.
    #[inline]
    pub(super) fn attribute<T>(&mut self, node: NodeId, call: impl FnOnce() -> T) -> T {
        let actor = std::mem::replace(&mut self.actor, Actor::Node(node));
        let result = call();
        self.actor = actor;
        result
    }

    /// What the simulator refuses until [`Monitor::end_step`], this node must not have asked for.
    #[inline]
    pub(super) fn begin_effects(&mut self, node: NodeId) {
        self.actor = Actor::EffectsOf(node);
    }

    #[inline]
    pub(super) fn end_step(&mut self) {
        self.actor = Actor::Harness;
    }

    /// The node has asked for what its contract excludes.
    #[cold]
    pub(super) fn breaks_contract(&mut self, reason: String) {
        self.violate(Violation::safety(NODE_KEEPS_ITS_CONTRACT, reason));
    }

    /// Attributes a panic to the code that was running. It replaces a violation that was found
    /// before: after a panic nothing else of the run is reliable.
    pub(super) fn on_panic(&mut self, panic: &CaughtPanic) {
        let message = &panic.message;
        let at = at_place(panic);
        // Checkers run while a node's effects are performed, so they come first.
        self.violation = Some(match (self.checking, self.actor) {
            (Some(node), _) => Violation::safety(
                PROPERTY_NEVER_PANICS,
                format!("a property panicked{at} at a fact of {node}: {message}"),
            ),
            (None, Actor::Node(node)) => {
                Violation::safety(NODE_NEVER_PANICS, format!("{node} panicked{at}: {message}"))
            }
            (None, Actor::EffectsOf(node)) => Violation::safety(
                NODE_KEEPS_ITS_CONTRACT,
                format!("the simulator cannot perform an effect of {node}{at}: {message}"),
            ),
            (None, Actor::Harness) => harness_violation(panic),
        });
    }

    /// The outcome of a run that ended at this time.
    pub(super) fn outcome(&mut self, now: Micros, judged_until: Option<JudgedUntil>) -> RunOutcome {
        self.tally.virtual_time = now;
        RunOutcome {
            violation: self.violation.clone(),
            fingerprint: self.fingerprint.value(),
            contents: self.contents.as_ref().map(ContentHash::value),
            judged_until,
            interrupted: self.interrupted,
            tally: self.tally.clone(),
        }
    }
}

/// Nobody but the harness was running.
pub(super) fn harness_violation(panic: &CaughtPanic) -> Violation {
    let at = at_place(panic);
    let reason = format!("the workload or the simulator panicked{at}: {}", panic.message);
    Violation::safety(HARNESS_NEVER_PANICS, reason)
}

fn at_place(panic: &CaughtPanic) -> String {
    if panic.place.is_empty() { String::new() } else { format!(" at {}", panic.place) }
}
