//! Searches the causes of the last fact.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::{CausalTrace, CommonCause, Explanation, Role, SHOWN_MAX, SubjectKey};
use crate::fault::Endpoint;
use crate::named::Named;

/// The length of an edge.
const DIRECT: u32 = 1;
/// To an earlier fact with the same subject.
const SAME_SUBJECT: u32 = 3;
/// Of any other memory. So that the whole way of a message counts before what its sender remembers.
const MEMORY: u32 = 6;
/// Of memory over a boot: the incarnation has forgotten everything else.
const OVER_A_BOOT: u32 = 2;
/// The greatest distance. A request of two-phase commit has fifteen edges from its answer.
const DISTANCE_MAX: u32 = 16;

impl CausalTrace {
    /// Explains the violation with this reason, in which the run has ended.
    pub(crate) fn explain(&self, reason: &str) -> Explanation<'_> {
        let facts = self.facts.len();
        let starts = self.starts(&Named::of(reason));
        let shown = self.nearest(&starts);
        let past: BTreeSet<usize> = starts.iter().flat_map(|start| self.past(*start)).collect();
        let faults = self.faults_of(&shown, &past);
        let all: BTreeSet<usize> = shown.into_iter().chain(faults).collect();
        let lines = all.into_iter().map(|at| self.facts[at].line.as_str()).collect();
        let common_causes = self.common_causes(&starts);
        Explanation { lines, facts, past: past.len(), common_causes }
    }

    /// The violating fact, and what the reason of the violation names besides:
    /// - of each request, id or number the last output that mentions it;
    /// - of each other node its last output of the kind of the violating fact, or, if there is
    ///   none, its last output.
    fn starts(&self, named: &Named) -> Vec<usize> {
        let Some(last) = self.facts.len().checked_sub(1) else { return Vec::new() };
        let mut starts = vec![last];
        for thing in named.things() {
            starts.extend(self.last_output(|at| {
                let fact = &self.facts[at];
                Named::is_thing_in(thing, &fact.line, fact.shows_contents)
            }));
        }
        let violating = &self.facts[last];
        for node in named.nodes() {
            if *node == violating.node && violating.role != Role::Run {
                continue;
            }
            let of_kind = self.last_output(|at| {
                self.facts[at].node == *node && self.facts[at].kind == violating.kind
            });
            starts.extend(of_kind.or_else(|| self.last_output(|at| self.facts[at].node == *node)));
        }
        starts.dedup();
        let mut known = BTreeSet::new();
        starts.retain(|start| known.insert(*start));
        starts
    }

    fn last_output(&self, is_wanted: impl Fn(usize) -> bool) -> Option<usize> {
        let before_last = 0..self.facts.len() - 1;
        before_last.rev().find(|at| self.facts[*at].role == Role::Output && is_wanted(*at))
    }

    /// The facts that are nearest to the starts, themselves included.
    fn nearest(&self, starts: &[usize]) -> BTreeSet<usize> {
        let subjects: BTreeSet<SubjectKey> =
            starts.iter().flat_map(|at| &self.facts[*at].subjects).copied().collect();
        let mut distance: BTreeMap<usize, u32> = BTreeMap::new();
        // Of equal distance the later first.
        let mut queue: BinaryHeap<(Reverse<u32>, usize)> =
            starts.iter().map(|start| (Reverse(0), *start)).collect();
        let mut nearest = BTreeSet::new();
        while let Some((Reverse(length), at)) = queue.pop() {
            if length > DISTANCE_MAX || nearest.len() >= SHOWN_MAX {
                break;
            }
            if !nearest.insert(at) {
                continue;
            }
            let fact = &self.facts[at];
            let direct = fact.direct.iter().map(|cause| (*cause, DIRECT));
            let same_subject = fact.same_subject.iter().map(|cause| (*cause, SAME_SUBJECT));
            let memory = fact.memory.iter().map(|cause| (*cause, MEMORY));
            let kept = self.kept_over_boot(at, &subjects);
            let over_boot = kept.into_iter().map(|cause| (cause, OVER_A_BOOT));
            for (cause, edge) in direct.chain(same_subject).chain(memory).chain(over_boot) {
                let length = length + edge;
                if distance.get(&cause).is_none_or(|known| *known > length) {
                    distance.insert(cause, length);
                    queue.push((Reverse(length), cause));
                }
            }
        }
        nearest
    }

    /// For a boot: the last outputs of earlier incarnations about these subjects, or about anything
    /// if there are none, of each kind. The node has promised them, or written them to its disk.
    fn kept_over_boot(&self, at: usize, subjects: &BTreeSet<SubjectKey>) -> Vec<usize> {
        let boot = &self.facts[at];
        if boot.kind != "boot" {
            return Vec::new();
        }
        let mut kinds = BTreeSet::new();
        let mut kept = Vec::new();
        for earlier in (0..at).rev() {
            let fact = &self.facts[earlier];
            let is_about = subjects.is_empty()
                || fact.subjects.iter().any(|subject| subjects.contains(subject));
            let is_kept = fact.node == boot.node && fact.role == Role::Output && is_about;
            if is_kept && kinds.insert(fact.kind) {
                kept.push(earlier);
            }
        }
        kept
    }

    /// Faults that belong to these facts: of their messages, of a subject that they have, of a node
    /// at which one of them is, in its past, and of a link that one of them used.
    fn faults_of(&self, shown: &BTreeSet<usize>, past: &BTreeSet<usize>) -> Vec<usize> {
        let nodes: BTreeSet<_> = shown.iter().map(|at| self.facts[*at].node).collect();
        let subjects: BTreeSet<_> =
            shown.iter().flat_map(|at| &self.facts[*at].subjects).copied().collect();
        let Some(&last) = shown.last() else { return Vec::new() };
        let mut faults = Vec::new();
        for (at, fact) in self.facts[..last].iter().enumerate() {
            let Role::Fault { nodes: of_nodes, ends, is_of_message } = &fact.role else { continue };
            let concerns = if *is_of_message {
                fact.direct.iter().any(|cause| shown.contains(cause))
                    || fact.subjects.iter().any(|subject| subjects.contains(subject))
            } else {
                // A fault at a time is in no process; one of a process is in the past or not.
                let is_timed = fact.before.is_none() && fact.direct.is_empty();
                let has_node = of_nodes.iter().any(|node| nodes.contains(node));
                let has_link = ends.iter().any(|end| match end {
                    Endpoint::Node(node) => nodes.contains(node),
                    Endpoint::Client(_) => false,
                });
                has_link || has_node && (is_timed || past.contains(&at))
            };
            if concerns {
                faults.push(at);
            }
        }
        self.without_repetitions(faults)
    }

    /// The first and the last of equal losses and faults: a message that is sent again and again to
    /// a node that is down is lost each time.
    fn without_repetitions(&self, faults: Vec<usize>) -> Vec<usize> {
        let mut ends: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for at in &faults {
            let line = self.facts[*at].line.as_str();
            // The first column is the time.
            let text = line.trim_start().split_once(' ').map_or(line, |(_, text)| text);
            ends.entry(text).and_modify(|(_, last)| *last = *at).or_insert((*at, *at));
        }
        ends.into_values().flat_map(|(first, last)| [first, last]).collect()
    }

    /// Everything that happens before this fact, and the fact.
    fn past(&self, start: usize) -> BTreeSet<usize> {
        let mut past = BTreeSet::from([start]);
        // No recursion, as the past of a fact may be nearly the whole run.
        let mut worklist = vec![start];
        while let Some(at) = worklist.pop() {
            let fact = &self.facts[at];
            for cause in fact
                .direct
                .iter()
                .chain(&fact.same_subject)
                .chain(&fact.memory)
                .copied()
                .chain(fact.before)
            {
                if past.insert(cause) {
                    worklist.push(cause);
                }
            }
        }
        past
    }

    /// For each start that is not in the past of the violating fact, where their histories part.
    fn common_causes(&self, starts: &[usize]) -> Vec<CommonCause<'_>> {
        let Some((&violating, others)) = starts.split_first() else { return Vec::new() };
        let past = self.past(violating);
        let mut common = Vec::new();
        // What ends a phase of the run follows from no fact.
        if self.facts[violating].role == Role::Run {
            return common;
        }
        for other in others.iter().filter(|other| !past.contains(other)) {
            let cause = self.past(*other).intersection(&past).last().copied();
            common.push(CommonCause {
                other: &self.facts[*other].line,
                cause: cause.map(|at| self.facts[at].line.as_str()),
            });
        }
        common
    }
}
