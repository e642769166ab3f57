//! `replay --state`: the state of a node.

use stormglass_node::{Micros, Node, NodeId};

use super::Exit;
use super::args::Replay;
use super::replay::check_node;
use super::say;
use super::source::{self, Source};
use crate::chooser::Chooser;
use crate::property::{Checker, Observation, Violation};
use crate::protocol::{Protocol, WorldOf, draw_run, world};
use crate::replay::replay_world;

/// Prints the state of a node at the violation, at the end of the run, or at a virtual time.
pub(super) fn run<P: Protocol>(protocol: &P, args: &Replay, node: NodeId) -> Result<Exit, Exit> {
    let stop = StopAfter(args.at_ms.unwrap_or(Micros::MAX));
    let text = match source::of(protocol, &args.target)? {
        Source::Seed(seed) => {
            let drawn = draw_run(protocol, &args.run_args.setup(protocol), seed);
            check_node(node, &format!("seed {seed}"), &drawn.plan)?;
            state::<P, _>(world(protocol, drawn, |chooser| chooser, stop), node)
        }
        Source::File(schedule) => {
            check_node(node, &args.target, &schedule.plan)?;
            state::<P, _>(replay_world(protocol, &schedule, stop), node)
        }
    };
    say::text(format_args!("{text}"));
    Ok(Exit::Clean)
}

fn state<P, C>(mut world: WorldOf<P, (StopAfter, P::Checker), C>, node: NodeId) -> String
where
    P: Protocol,
    C: Chooser,
{
    let stop = world.checker().0;
    let outcome = world.run();
    let (at, place) = match &outcome.violation {
        Some(violation) if violation.property == StopAfter::NAME => (stop.0, String::new()),
        Some(violation) => (outcome.tally.virtual_time, format!(", where {violation}")),
        None => (outcome.tally.virtual_time, ", the end of the run".to_string()),
    };
    match world.state_of_running(node) {
        None => format!("{node} is down at {at} ms{place}\n"),
        Some(state) if state.is_empty() => {
            format!("{node} writes no state: `Node::write_state` is not implemented\n")
        }
        Some(state) => format!("{node} at {at} ms{place}\n{}\n", state.trim_end()),
    }
}

/// A checker that ends a run at the first fact after this time, as if it were a violation: the
/// state of the world is then that of this time.
#[derive(Clone, Copy, Debug)]
struct StopAfter(Micros);

impl StopAfter {
    const NAME: &'static str = "StopAfter";
}

impl<N: Node> Checker<N> for StopAfter {
    fn check(&mut self, observation: &Observation<'_, N>) -> Result<(), Violation> {
        if observation.at > self.0 { Err(Violation::safety(Self::NAME, "")) } else { Ok(()) }
    }

    fn properties(&self) -> usize {
        0
    }
}
