//! Atomic commitment in the storm: clients, and the claims of two-phase commit. The only part of this crate that
//! knows two-phase commit.

mod bench;
pub mod ledger;
mod row;
pub mod workload;

pub use ledger::Ledger;
pub use workload::Clients;

use stormglass::commit::{CommitNode, Config};
use stormglass::{Micros, NodeId};

use crate::oracle::Sometimes;
use crate::plan::Plan;
use crate::profile::{Draw, Setup};
use crate::protocol::{BenchRun, Benched, Protocol};
use crate::tally::{Rule, Tally};

/// Two-phase commit, its clients and its claims.
#[derive(Clone, Copy, Debug)]
pub struct Commit;

/// How long coordinators wait for votes in the simulator.
pub const VOTE_TIMEOUT_US: u64 = 150_000;
/// First and longest time between repetitions.
pub const RETRY_US: (u64, u64) = (50_000, 100_000);

impl Protocol for Commit {
    const NAME: &'static str = "two-phase commit";
    const COMMAND: Option<&'static str> = Some("cargo sim");
    type Node = CommitNode;
    type Workload = Clients;
    type Judge = Ledger;

    fn config(plan: &Plan) -> Config {
        Config {
            vote_timeout: Micros(VOTE_TIMEOUT_US),
            retry_first: Micros(RETRY_US.0),
            retry_max: Micros(RETRY_US.1),
            names_kept: 64,
            compact_at_bytes: 1_500,
            ..Config::new((0..plan.nodes).map(NodeId))
        }
    }

    fn workload(setup: &Setup, plan: &mut Plan, draw: &mut Draw) -> Clients {
        Clients::draw(setup, plan, draw)
    }

    fn judge(plan: &Plan) -> Ledger {
        Ledger::new(plan)
    }

    fn judge_again(judge: &mut Ledger, plan: &Plan) {
        judge.reset(plan);
    }

    fn sometimes(tally: &Tally, rows: &mut Sometimes) {
        rows.add("duplicate message delivered", tally.duplicates);
        rows.add("late message delivered", tally.late);
        rows.add("message lost to a one-way partition", tally.one_way);
        rows.add("crash in recovery", tally.of(Rule::P5));
        rows.add("clock jump", tally.of(Rule::C3));
    }

    fn bench(run: BenchRun) -> Option<Box<dyn FnMut(u64) -> Benched>> {
        Some(Box::new(bench::bench(run)))
    }
}
