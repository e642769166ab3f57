//! A storm that would show nothing, or is built wrong, says so instead of passing.

use std::sync::Arc;

use stormglass::commit::{Age, CommitNode, Request, RequestNumber};
use stormglass::{Incarnation, NodeId, RequestId};
use stormglass_sim::commit::Commit;
use stormglass_sim::profile::{Profile, Rng};
use stormglass_sim::property::{Observation, Property, PropertyResult, Sometimes};
use stormglass_sim::protocol::Protocol;
use stormglass_sim::simulation::Simulation;

/// Never broken, and wants to have seen what does not exist.
#[derive(Clone, Debug, Default)]
struct UnicornsExist;

impl Property<CommitNode> for UnicornsExist {
    const NAME: &'static str = "UnicornsExist";

    fn on(&mut self, _observation: &Observation<'_, CommitNode>) -> PropertyResult {
        Ok(())
    }

    fn sometimes(&self, tally: &mut Sometimes) {
        tally.add("unicorn", 0);
    }
}

fn simulation() -> Simulation<CommitNode> {
    Simulation::with(Commit::config).seeds(20).profile(Profile::Calm)
}

/// Nothing, of this node.
fn empty_transaction(node: NodeId) -> (NodeId, Request) {
    let by = RequestId { client: 1, serial: 1, attempt: 0 };
    let age = Age { at: 0, by };
    (
        node,
        Request::Transact {
            incarnation: Incarnation(1),
            age,
            seen: RequestNumber::default(),
            ops: Arc::from([]),
        },
    )
}

#[test]
fn simulation_with_requests_passes() {
    simulation().requests(3, |rng: &mut Rng| empty_transaction(rng.node())).check();
}

#[test]
#[should_panic(expected = "1 to 64 nodes, not 0")]
fn simulation_without_nodes_is_rejected() {
    let _simulation = simulation().nodes(0);
}

#[test]
#[should_panic(expected = "1 to 64 nodes, not 65")]
fn simulation_with_more_than_64_nodes_is_rejected() {
    let _simulation = simulation().nodes(65);
}

#[test]
#[should_panic(expected = "a storm of no seeds shows nothing")]
fn simulation_without_seeds_is_rejected() {
    let _simulation = simulation().seeds(0);
}

#[test]
#[should_panic(expected = "1,000 us or more")]
fn too_short_client_retry_interval_is_rejected() {
    let _simulation = simulation().retry_after(0);
}

#[test]
#[should_panic(expected = "nobody asks for anything")]
fn simulation_without_requests_fails() {
    simulation().property(UnicornsExist).check();
}

#[test]
#[should_panic(expected = "never seen in 20 seeds: unicorn")]
fn sometimes_counter_never_counted_fails_the_test() {
    simulation()
        .requests(3, |rng: &mut Rng| empty_transaction(rng.node()))
        .property(UnicornsExist)
        .check();
}

#[test]
#[should_panic(expected = "asks n99, and this cluster has 2 nodes")]
fn request_to_an_unknown_node_is_named_in_the_error() {
    simulation().nodes(2).requests(3, |_: &mut Rng| empty_transaction(NodeId(99))).check();
}
