//! Two-phase commit under simulation: its clients, the properties of atomic commitment with their
//! checker, and its benchmark. The program of this package is `cargo sim`.

mod bench;
pub mod checker;
mod property;
mod sorted_map;
pub mod txn;
pub mod workload;

pub use checker::AtomicCommitChecker;
pub use property::Property;
pub use txn::Txn;
pub use workload::Clients;

use stormglass::commit::{CommitNode, Config};
use stormglass_node::{Micros, NodeId};

use stormglass_sim::log_check::{LogCheck, check_logs};
use stormglass_sim::plan::Plan;
use stormglass_sim::profile::{Rng, Setup};
use stormglass_sim::property::Sometimes;
use stormglass_sim::protocol::{BenchResult, BenchRun, Protocol};
use stormglass_sim::tally::{Rule, Tally};
use stormglass_sim::workload::PlannedRequest;

/// Two-phase commit as a [`Protocol`]: nodes, clients and properties.
#[derive(Clone, Copy, Debug)]
pub struct Commit;

/// How long a coordinator waits for votes in the simulator.
// Many round trips of the base timing: without a fault, all votes arrive in time.
pub const VOTE_TIMEOUT: Micros = Micros::from_millis(150);
/// First and longest period between repetitions of a message.
pub const RETRY: (Micros, Micros) = (Micros::from_millis(50), Micros::from_millis(100));

/// How many decided requests of a client a coordinator remembers in the simulator: so few that
/// every run evicts requests of a client that does not acknowledge outcomes.
pub const DEDUP_ENTRIES_KEPT: usize = 3;

/// How many decided requests of all clients a coordinator remembers if its log is compacted after
/// at most [`SHORTEST_LOG_BYTES`]: so few that it forgets clients.
const FEW_REQUESTS_KEPT: usize = 4;
/// One of four random plans has so short a log. The two limits go together, so that a schedule has
/// to mention only one.
const SHORTEST_LOG_BYTES: u64 = 100;

fn requests_kept_in_total(plan: &Plan) -> usize {
    if plan.log_bytes <= SHORTEST_LOG_BYTES { FEW_REQUESTS_KEPT } else { 1_000 }
}

/// The kinds of messages, requests, responses, records and reports, as schedules and traces name
/// them.
const KINDS: [&str; 29] = [
    "Prepare",
    "Vote",
    "Commit",
    "Abort",
    "Ack",
    "Inquire",
    "Tell",
    "Transact",
    "Outcome",
    "Committed",
    "Aborted",
    "Unknown",
    "Prepared",
    "End",
    "Header",
    "Snapshot",
    "Ready",
    "Dropped",
    "NotReady",
    "Hello",
    "Welcome",
    "Remember",
    "Remembered",
    "Refuse",
    "Met",
    "TornTail",
    "Unconfirmed",
    "PeerRefused",
    "Refused",
];

impl Protocol for Commit {
    type Node = CommitNode;
    type Request = Txn;
    type Workload = Clients;
    type Checker = AtomicCommitChecker;

    fn name(&self) -> &str {
        "two-phase commit"
    }

    fn command(&self) -> Option<&str> {
        Some("cargo sim")
    }

    fn detects_lost_history(&self) -> bool {
        true
    }

    fn kinds(&self) -> &[&'static str] {
        &KINDS
    }

    fn properties(&self) -> &[&'static str] {
        Property::NAMES
    }

    fn config(&self, plan: &Plan, _: NodeId) -> Config {
        Config {
            vote_timeout: VOTE_TIMEOUT,
            retry_first: RETRY.0,
            retry_max: RETRY.1,
            requests_kept: DEDUP_ENTRIES_KEPT,
            requests_kept_in_total: requests_kept_in_total(plan),
            compact_at_bytes: plan.log_bytes,
            // An operator knows of a node that never restarts.
            lost: plan.permanently_down.clone(),
            ..Config::new((0..plan.nodes).map(NodeId))
        }
    }

    fn requests(&self, setup: &Setup, plan: &mut Plan, rng: &mut Rng) -> Vec<PlannedRequest<Txn>> {
        workload::draw_requests(setup, plan, rng)
    }

    fn clients(&self, plan: &Plan, requests: Vec<PlannedRequest<Txn>>) -> Clients {
        Clients::new(plan, requests.into_iter().map(Into::into).collect())
    }

    fn checker(&self, plan: &Plan) -> AtomicCommitChecker {
        AtomicCommitChecker::new(plan)
    }

    fn log_checker(&self, plan: &Plan) -> AtomicCommitChecker {
        // A log of real nodes has no fault events and no final transaction of the simulator.
        AtomicCommitChecker::new(plan).without_probe().with_unknown_faults()
    }

    fn log_check(&self) -> Option<LogCheck<Self>> {
        Some(check_logs)
    }

    fn reset_checker(&self, checker: &mut AtomicCommitChecker, plan: &Plan) {
        checker.reset(plan);
    }

    fn sometimes(&self, tally: &Tally, counters: &mut Sometimes) {
        counters.add("duplicate message delivered", tally.duplicates);
        counters.add("message delivered after a crash of either end", tally.arrived_after_crash);
        counters.add("message lost to a one-way partition", tally.one_way);
        counters.add("crash in recovery", tally.hits(Rule::CrashDuringBoot));
        counters.add("clock jump", tally.hits(Rule::ClockJump));
    }

    fn bench(&self, run: BenchRun) -> Option<Box<dyn FnMut(u64) -> BenchResult>> {
        Some(Box::new(bench::bench(run)))
    }
}
