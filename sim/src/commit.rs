//! Atomic commitment in the storm: clients, and the claims of two-phase commit. The only part of this crate that
//! knows two-phase commit.

mod bench;
pub mod checker;
pub mod edits;
mod tx_state;
pub mod txn;
pub mod workload;

pub use checker::AtomicCommitChecker;
pub use txn::Txn;
pub use workload::Clients;

use stormglass::commit::{CommitNode, Config};
use stormglass::{Micros, NodeId};

use crate::plan::Plan;
use crate::profile::{Rng, Setup};
use crate::property::Sometimes;
use crate::protocol::{BenchResult, BenchRun, Protocol};
use crate::schedule::{Cursor, ParseError};
use crate::tally::{Rule, Tally};
use crate::workload::PlannedRequest;

/// Two-phase commit, its clients and its claims.
#[derive(Clone, Copy, Debug)]
pub struct Commit;

/// How long coordinators wait for votes in the simulator.
pub const VOTE_TIMEOUT_US: u64 = 150_000;
/// First and longest time between repetitions.
pub const RETRY_US: (u64, u64) = (50_000, 100_000);

/// How many decided names of a client a coordinator remembers in the simulator: so few that those of a client who does not
/// say what it has seen are evicted in every run.
pub const DEDUP_ENTRIES_KEPT: usize = 3;

/// The claims of the ledger.
const PROPERTIES: [&str; 34] = [
    "AC1 NoTwoDecideDifferently",
    "AC2 NoDecisionIsReversed",
    "AC3 CommitNeedsEveryYes",
    "AC4 CalmCommits",
    "AC4 ConflictsHaveAHolder",
    "W1 PreparedIsDurableBeforeYes",
    "W2 CommitIsDurableFirst",
    "W3 OutcomeIsDurableBeforeAck",
    "W4 ForgetAfterAllAcks",
    "W5 NoAbortWhileUndecided",
    "W5 PresumptionIsTheCoordinators",
    "W6 OnlyDamageRefuses",
    "W6 RecoveredIsAPrefix",
    "W8 OnlyWhatIsCoveredIsDropped",
    "W8 SnapshotIsDurableBeforeDrop",
    "W9 RecoveringTwiceIsRecoveringOnce",
    "W10 NothingAfterAFailure",
    "W10 NothingUndurableIsTold",
    "W10 SilentUntilTheBootIsDurable",
    "W11 CommittedIsForEver",
    "W11 ExactlyOnce",
    "I2 NoTwoUndecidedConflict",
    "I3 NoLockOutlivesItsTransaction",
    "I4 ReadsAreOfTheLastWrites",
    "I4 StrictlySerialisable",
    "I5 TransfersKeepTheTotal",
    "L1 DecidedInTime",
    "L1 EveryClientIsAnswered",
    "L1 ForgottenInTime",
    "L2 BlockingIsJustified",
    "L2 OneMessagePerRetry",
    "L3 LogsAreBounded",
    "L3 NoLockIsLeft",
    "L3 QuietInTheEnd",
];

/// What messages, requests, responses and records are called.
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
    const NAME: &'static str = "two-phase commit";
    const COMMAND: Option<&'static str> = Some("cargo sim");
    const KINDS: &'static [&'static str] = &KINDS;
    const PROPERTIES: &'static [&'static str] = &PROPERTIES;
    type Node = CommitNode;
    type Request = Txn;
    type Workload = Clients;
    type Checker = AtomicCommitChecker;

    fn config(plan: &Plan) -> Config {
        Config {
            vote_timeout: Micros(VOTE_TIMEOUT_US),
            retry_first: Micros(RETRY_US.0),
            retry_max: Micros(RETRY_US.1),
            names_kept: DEDUP_ENTRIES_KEPT,
            compact_at_bytes: plan.log_bytes,
            ..Config::new((0..plan.nodes).map(NodeId))
        }
    }

    fn requests(setup: &Setup, plan: &mut Plan, rng: &mut Rng) -> Vec<PlannedRequest<Txn>> {
        workload::draw_requests(setup, plan, rng)
    }

    fn clients(plan: &Plan, requests: Vec<PlannedRequest<Txn>>) -> Clients {
        Clients::new(plan.nodes, plan.clients, requests.into_iter().map(Into::into).collect())
    }

    fn checker(plan: &Plan) -> AtomicCommitChecker {
        AtomicCommitChecker::new(plan)
    }

    fn log_checker(plan: &Plan) -> AtomicCommitChecker {
        AtomicCommitChecker::new(plan).without_probe().with_unknown_faults()
    }

    fn reset_checker(checker: &mut AtomicCommitChecker, plan: &Plan) {
        checker.reset(plan);
    }

    fn sometimes(tally: &Tally, counters: &mut Sometimes) {
        counters.add("duplicate message delivered", tally.duplicates);
        counters.add("late message delivered", tally.late);
        counters.add("message lost to a one-way partition", tally.one_way);
        counters.add("crash in recovery", tally.of(Rule::CrashDuringBoot));
        counters.add("clock jump", tally.of(Rule::ClockJump));
    }

    fn write_request(order: &Txn, nodes: u16) -> String {
        order.write(nodes)
    }

    fn read_request(text: &mut Cursor<'_>) -> Result<Txn, ParseError> {
        txn::read(text)
    }

    fn simplifications(order: &Txn) -> Vec<Txn> {
        order.simplifications()
    }

    fn merged(one: &Txn, other: &Txn) -> Option<Txn> {
        Some(one.merged(other))
    }

    fn renumbered(order: &Txn, number: &dyn Fn(NodeId) -> Option<NodeId>) -> Option<Txn> {
        order.renumbered(number)
    }

    fn bench(run: BenchRun) -> Option<Box<dyn FnMut(u64) -> BenchResult>> {
        Some(Box::new(bench::bench(run)))
    }
}
