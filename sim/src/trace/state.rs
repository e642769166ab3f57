//! The states of nodes at the end of a run.

use std::fmt::Write as _;

use stormglass_node::{Node, NodeId};

use super::Trace;
use crate::chooser::Chooser;
use crate::named::Named;
use crate::property::{Checker, Violation};
use crate::workload::Workload;
use crate::world::World;

/// The greatest number of lines of a state in a report. The state of a node may be that of a whole
/// database; `--state` prints all of it.
const LINES_MAX: usize = 60;
/// The greatest number of nodes whose states are in a report: two that disagree.
const NODES_MAX: usize = 2;

impl Trace {
    /// The state of the node of the last fact, and of a node that the reason of the violation
    /// names, as text; empty for nodes that write none.
    pub(crate) fn states_at<N, W, K, C>(
        &self,
        world: &World<N, W, (Trace, K), C>,
        violation: &Violation,
    ) -> String
    where
        N: Node,
        W: Workload<N>,
        K: Checker<N>,
        C: Chooser,
    {
        let mut nodes: Vec<NodeId> = self.last_node.into_iter().collect();
        for node in Named::of(&violation.reason).nodes() {
            if !nodes.contains(node) {
                nodes.push(*node);
            }
        }
        nodes.truncate(NODES_MAX);
        let mut text = String::new();
        for node in nodes {
            let Some(state) = world.state_of_running(node).filter(|state| !state.is_empty()) else {
                continue;
            };
            writeln!(text, "\nstate of {node} at the violation:").expect("writing to a string");
            for line in state.lines().take(LINES_MAX) {
                writeln!(text, "    {line}").expect("writing to a string");
            }
            let more = state.lines().count().saturating_sub(LINES_MAX);
            if more > 0 {
                writeln!(text, "    ... {more} more lines; `replay --state {node}` prints all ...")
                    .expect("writing to a string");
            }
        }
        text
    }
}
