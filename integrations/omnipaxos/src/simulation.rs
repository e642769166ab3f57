//! The simulation that tests and command line share.

use stormglass_node::Micros;
use stormglass_sim::Simulation;
use stormglass_sim::property::Checker;
use stormglass_sim::run_end::{Availability, RunEnd};

use crate::properties::{CountersAreLinearizable, OneLog, ReplicasConverge};
use crate::{Bug, Config, Replica, Request};

/// How many keys the requests use: few, so that many requests concern the same counter.
const KEYS: u64 = 2;
/// Longer than a request takes that goes through a follower and the leader: four messages between
/// nodes and two syncs.
const RETRY_AFTER: Micros = Micros::from_millis(60);

/// Three replicas with this bug, or without one.
pub fn simulation<const SESSIONS: bool>(
    bug: Option<Bug>,
) -> Simulation<Replica<SESSIONS>, impl Checker<Replica<SESSIONS>> + Sync> {
    Simulation::with_config(move |plan| Config {
        nodes: plan.nodes,
        compact_at: plan.log_bytes,
        bug,
    })
    .nodes(3)
    .requests(40, |rng| {
        let key = u8::try_from(rng.between(0, KEYS - 1)).expect("a small number");
        let request = if rng.chance(2, 3) { Request::Add(key) } else { Request::Get(key) };
        (rng.node(), request)
    })
    .retry_after(RETRY_AFTER)
    .fail_over()
    .probe(|_| Request::Get(0))
    .every_request_is_answered(Availability::Majority)
    .ends(RunEnd::Settled)
    .property(OneLog::default())
    .property(CountersAreLinearizable::default())
    .property(ReplicasConverge::default())
}
