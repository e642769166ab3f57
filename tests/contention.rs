//! Contention must not livelock: with four coordinators on one key and no faults, the cluster
//! commits at least half as much as one coordinator does alone.

use std::sync::Arc;

use stormglass::commit::{Action, CommitNode, Op, Outcome, Response};
use stormglass_commit_sim::workload::ClientRequest;
use stormglass_commit_sim::{AtomicCommitChecker, Clients, Commit};
use stormglass_node::{Micros, Node, NodeId};
use stormglass_sim::chooser::NoFaults;
use stormglass_sim::plan::{Plan, Timing};
use stormglass_sim::property::{Checker, ClientFact, Fact, Observation, RunFact, Violation};
use stormglass_sim::protocol::configs;
use stormglass_sim::workload::ClientId;
use stormglass_sim::world::World;

use crate::rig::{op, plan};

const COORDINATORS: u16 = 4;
/// One more node has the key: a coordinator with its own key would need no message.
const NODES: u16 = 5;
const SECONDS: u64 = 10;

/// Commits answered to each client before the probe.
#[derive(Clone, Debug, Default)]
struct Commits {
    by_client: [u64; COORDINATORS as usize],
    healed: bool,
}

impl<N: Node<Response = Response>> Checker<N> for Commits {
    fn check(&mut self, observation: &Observation<'_, N>) -> Result<(), Violation> {
        // Afterwards the clients only finish what they have begun, which is not measured.
        self.healed |= matches!(observation.fact, Fact::Run(RunFact::Healed { .. }));
        if let Fact::Client(ClientFact::Answered { id, response }) = observation.fact
            && !self.healed
        {
            let committed = matches!(response.outcome, Outcome::Committed { .. });
            self.by_client[id.client as usize - 1] += u64::from(committed);
        }
        Ok(())
    }
}

/// Each client sends to a coordinator of its own, all of them the same operations, one transaction
/// after another.
fn hammer(coordinators: u16, ops: &[Op], key: u64) -> [u64; COORDINATORS as usize] {
    let requests = (0..coordinators).flat_map(|coordinator| {
        let ops: Arc<[Op]> = ops.into();
        let client = ClientId(u32::from(coordinator) + 1);
        // More than a client completes in the time, so that it never pauses.
        (1..=5_000).map(move |serial| ClientRequest {
            client,
            serial,
            coordinator: NodeId(coordinator),
            ops: ops.clone(),
            // The nodes have to boot first.
            think_time: if serial == 1 { Micros::from_millis(10) } else { Micros::ZERO },
            stubborn: false,
        })
    });
    let timing = Timing { key: Some(key), ..Timing::default() };
    let fault_phase = Micros::from_secs(SECONDS);
    let plan = Plan { clients: u32::from(coordinators), timing, fault_phase, ..plan(NODES) };
    let clients = Clients::new(&plan, requests.collect());
    let checker = (AtomicCommitChecker::new(&plan).without_probe(), Commits::default());
    let mut world: World<CommitNode, _, _, _> =
        World::new(configs(&Commit, &plan), plan, clients, checker, NoFaults);
    assert_eq!(world.run().violation, None);
    world.checker().1.by_client
}

fn assert_half_throughput(ops: &[Op]) {
    // Three draws of the latencies, so that the result is not an accident of one.
    for key in 1..=3 {
        let alone: u64 = hammer(1, ops, key).iter().sum();
        let each = hammer(COORDINATORS, ops, key);
        let together: u64 = each.iter().sum();
        println!("alone {alone}, together {together}: {each:?}");
        assert!(together * 2 >= alone, "alone {alone}, together {together}: {each:?}");
        // A fifth of the fair share, which is a quarter.
        assert!(each.iter().all(|commits| commits * 20 >= together), "a client starves: {each:?}");
    }
}

#[test]
fn four_coordinators_with_one_key_commit_half_as_much_as_one_alone() {
    assert_half_throughput(&[op(4, Action::Add { by: 1, at_least: i64::MIN })]);
}

/// The same key of every node, so that each transaction needs its locks everywhere.
#[test]
fn four_coordinators_with_one_key_everywhere_commit_half_as_much_as_one_alone() {
    let add = |node| op(node, Action::Add { by: 1, at_least: i64::MIN });
    assert_half_throughput(&(0..COORDINATORS).map(add).collect::<Vec<_>>());
}
