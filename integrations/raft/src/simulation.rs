//! The simulation.

use stormglass_node::Micros;
use stormglass_sim::property::Checker;
use stormglass_sim::run_end::{Availability, RunEnd};
use stormglass_sim::simulation::Simulation;

use crate::Bug;
use crate::node::{Config, Replica};
use crate::properties::{
    ElectionSafety, Linearizable, LogMatching, NodesConverge, OneVotePerTerm, RecoversWhatItSent,
    StateMachineSafety,
};
use crate::wire::Request;

const REQUESTS: u32 = 40;
const KEYS: u64 = 2;

/// Three to seven replicas with or without a bug, and clients that add to two counters and read
/// them; every property.
pub fn simulation(bug: Option<Bug>) -> Simulation<Replica, impl Checker<Replica> + Sync> {
    without_properties(bug)
        .every_request_is_answered(Availability::Majority)
        .property(ElectionSafety::default())
        .property(OneVotePerTerm::default())
        .property(LogMatching::default())
        .property(StateMachineSafety::default())
        .property(RecoversWhatItSent::default())
        .property(Linearizable::default())
        .property(NodesConverge::default())
}

/// The same cluster and clients, for tests of one property.
pub fn without_properties(bug: Option<Bug>) -> Simulation<Replica> {
    Simulation::with_config(move |plan| Config {
        nodes: plan.nodes,
        compact_at: plan.log_bytes,
        bug,
    })
    .nodes_between(3, 7)
    .requests(REQUESTS, |rng| {
        let node = rng.node();
        let key = key(rng.between(0, KEYS - 1));
        let request = if rng.chance(1, 2) { Request::Add(key) } else { Request::Get(key) };
        (node, request)
    })
    // Longer than an answer takes while there is a leader, shorter than an election.
    .retry_after(Micros::from_millis(100))
    .fail_over()
    .probe(|node| Request::Get(key(u64::from(node.0) % KEYS)))
    .ends(RunEnd::Settled)
}

fn key(number: u64) -> u8 {
    u8::try_from(number).expect("few keys")
}
