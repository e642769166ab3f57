//! Two-phase commit under simulation: its clients, the properties of atomic commitment with their
//! checker, and its benchmark. The program of this package is `cargo sim`.

mod bench;
pub mod checker;
mod sorted_map;
mod tx_state;
pub mod txn;
pub mod workload;

pub use checker::AtomicCommitChecker;
pub use txn::Txn;
pub use workload::Clients;

use stormglass::commit::{CommitNode, Config};
use stormglass_node::{Micros, NodeId};

use stormglass_sim::plan::Plan;
use stormglass_sim::profile::{Rng, Setup};
use stormglass_sim::property::Sometimes;
use stormglass_sim::protocol::{BenchResult, BenchRun, Protocol};
use stormglass_sim::tally::{Rule, Tally};
use stormglass_sim::workload::PlannedRequest;

/// Two-phase commit as a [`Protocol`]: nodes, clients and properties.
#[derive(Clone, Copy, Debug)]
pub struct Commit;

/// How long a coordinator waits for votes in the simulator, in microseconds.
// Many round trips of the base timing: without a fault, all votes arrive in time.
pub const VOTE_TIMEOUT_US: u64 = 150_000;
/// First and longest period between repetitions of a message, in microseconds.
pub const RETRY_US: (u64, u64) = (50_000, 100_000);

/// How many decided requests of a client a coordinator remembers in the simulator: so few that
/// every run evicts requests of a client that does not acknowledge outcomes.
pub const DEDUP_ENTRIES_KEPT: usize = 3;

/// The properties that [`AtomicCommitChecker`] checks.
pub const PROPERTIES: [&str; 34] = [
    "AC1 DecisionsAgree",
    "AC2 DecisionsAreFinal",
    "AC3 CommitNeedsEveryYes",
    "AC4 FaultFreeRunsCommit",
    "AC4 ConflictNamesALockHolder",
    "W1 PreparedIsDurableBeforeYes",
    "W2 CommitIsDurableFirst",
    "W3 OutcomeIsDurableBeforeAck",
    "W4 ForgetAfterAllAcks",
    "W5 NoAbortAfterCommitRecord",
    "W5 OnlyTheCoordinatorPresumesAbort",
    "W6 OnlyDamagePreventsBoot",
    "W6 RecoveredStateIsALogPrefix",
    "W8 OnlyFilesBeforeTheSnapshotAreRemoved",
    "W8 SnapshotIsDurableBeforeRemoval",
    "W9 RecoveryIsIdempotent",
    "W10 NoEffectAfterAFailedSync",
    "W10 InquiryRepliesAreDurable",
    "W10 NoEffectBeforeTheBootIsDurable",
    "W11 CommittedIsPermanent",
    "W11 ExactlyOnce",
    "I2 UndecidedTransactionsDoNotConflict",
    "I3 LocksEndWithTheirTransaction",
    "I4 ReadsReturnTheLastWrite",
    "I4 StrictlySerialisable",
    "I5 TransfersPreserveTheTotal",
    "L1 DecidedInTime",
    "L1 EveryClientIsAnswered",
    "L1 ForgottenInTime",
    "L2 BlockingIsJustified",
    "L2 OneCommitPerRetryPeriod",
    "L3 LogsAreBounded",
    "L3 NoLockRemains",
    "L3 NodesQuiesce",
];

/// The kinds of messages, requests, responses, records and reports, as schedules and traces name
/// them.
const KINDS: [&str; 19] = [
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

    fn kinds(&self) -> &[&'static str] {
        &KINDS
    }

    fn properties(&self) -> &[&'static str] {
        &PROPERTIES
    }

    fn config(&self, plan: &Plan) -> Config {
        Config {
            vote_timeout: Micros(VOTE_TIMEOUT_US),
            retry_first: Micros(RETRY_US.0),
            retry_max: Micros(RETRY_US.1),
            requests_kept: DEDUP_ENTRIES_KEPT,
            compact_at_bytes: plan.log_bytes,
            ..Config::new((0..plan.nodes).map(NodeId))
        }
    }

    fn requests(&self, setup: &Setup, plan: &mut Plan, rng: &mut Rng) -> Vec<PlannedRequest<Txn>> {
        workload::draw_requests(setup, plan, rng)
    }

    fn clients(&self, plan: &Plan, requests: Vec<PlannedRequest<Txn>>) -> Clients {
        Clients::new(plan.nodes, plan.clients, requests.into_iter().map(Into::into).collect())
    }

    fn checker(&self, plan: &Plan) -> AtomicCommitChecker {
        AtomicCommitChecker::new(plan)
    }

    fn log_checker(&self, plan: &Plan) -> AtomicCommitChecker {
        // A log of real nodes has no fault events and no final transaction of the simulator.
        AtomicCommitChecker::new(plan).without_probe().with_unknown_faults()
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
