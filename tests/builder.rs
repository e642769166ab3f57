//! A simulation that would test nothing, or is built wrongly, fails with a message.

use std::sync::Arc;

use stormglass::commit::{CommitNode, Outcome, Position, Request, RequestNumber, Response};
use stormglass_commit_sim::Commit;
use stormglass_node::{Incarnation, Micros, NodeId, RequestId};
use stormglass_sim::profile::{Profile, Rng};
use stormglass_sim::property::{Observation, Property, PropertyResult, Sometimes};
use stormglass_sim::protocol::Protocol;
use stormglass_sim::simulation::Simulation;
use stormglass_sim::workload::{ClientActions, ClientEvent, RetryingClients, Workload};

/// Never violated, with a `sometimes` counter that is always the same.
#[derive(Clone, Debug, Default)]
struct UnicornsExist {
    unicorns: u64,
}

impl Property<CommitNode> for UnicornsExist {
    const NAME: &'static str = "UnicornsExist";

    fn on(&mut self, _observation: &Observation<'_, CommitNode>) -> PropertyResult {
        Ok(())
    }

    fn sometimes(&self, tally: &mut Sometimes) {
        tally.add("unicorn", self.unicorns);
    }
}

const FIRST_POSITION: Position = Position { incarnation: Incarnation::numbered(1), serial: 0 };

fn simulation() -> Simulation<CommitNode> {
    // Few seeds and no faults, as these tests are about the builder.
    Simulation::with_node_config(|plan, node| Commit.config(plan, node))
        .seeds(20)
        .profile(Profile::Calm)
}

/// A faulty node may reply to a client that has asked nothing: that is the node's fault, and no
/// reason for the harness to panic.
#[test]
fn a_response_to_a_client_without_requests_is_ignored() {
    let mut clients = RetryingClients::<CommitNode>::new(Vec::new(), Micros::from_millis(1));
    let mut actions = ClientActions::default();
    let response = Response { position: FIRST_POSITION, began_at: None, outcome: Outcome::Unknown };
    let id = RequestId { client: 2, serial: 1, attempt: 0 };
    clients.on(
        Micros::ZERO,
        ClientEvent::Answer { from: NodeId(0), id, response: &response },
        &mut actions,
    );
    clients.on(Micros::ZERO, ClientEvent::Start, &mut actions);
    let nothing = ClientActions::<CommitNode>::default();
    assert_eq!(format!("{actions:?}"), format!("{nothing:?}"));
}

/// A transaction without operations.
fn empty_transaction(node: NodeId) -> (NodeId, Request) {
    (
        node,
        Request::Transact {
            addressed: FIRST_POSITION,
            began_at: None,
            seen: RequestNumber::default(),
            ops: Arc::from([]),
        },
    )
}

#[test]
fn simulation_with_requests_passes() {
    simulation()
        .requests(3, |rng: &mut Rng| empty_transaction(rng.node()))
        .property(UnicornsExist { unicorns: 1 })
        .check();
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
#[should_panic(expected = "a check needs at least one seed")]
fn simulation_without_seeds_is_rejected() {
    let _simulation = simulation().seeds(0);
}

#[test]
#[should_panic(expected = "at least 1,000 us, not 0")]
fn too_short_client_retry_interval_is_rejected() {
    let _simulation = simulation().retry_after(Micros::ZERO);
}

#[test]
#[should_panic(expected = "the simulation has no requests")]
fn simulation_without_requests_fails() {
    simulation().property(UnicornsExist { unicorns: 0 }).check();
}

#[test]
#[should_panic(expected = "never observed in 20 seeds: unicorn")]
fn sometimes_counter_never_counted_fails_the_test() {
    simulation()
        .requests(3, |rng: &mut Rng| empty_transaction(rng.node()))
        .property(UnicornsExist { unicorns: 0 })
        .check();
}

#[test]
#[should_panic(expected = "is addressed to n99, but this cluster has 2 nodes")]
fn request_to_an_unknown_node_is_named_in_the_error() {
    simulation()
        .nodes(2)
        .requests(3, |_: &mut Rng| empty_transaction(NodeId(99)))
        .property(UnicornsExist { unicorns: 1 })
        .check();
}
