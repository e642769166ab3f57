//! Atomic commitment in the storm: clients, and the claims of two-phase commit. The only part of this crate that
//! knows two-phase commit.

mod bench;
pub mod edits;
pub mod ledger;
pub mod order;
mod row;
pub mod workload;

pub use ledger::Ledger;
pub use order::Txn;
pub use workload::Clients;

use stormglass::commit::{CommitNode, Config};
use stormglass::{Micros, NodeId};

use crate::oracle::Sometimes;
use crate::plan::Plan;
use crate::profile::{Draw, Setup};
use crate::protocol::{BenchRun, Benched, Protocol};
use crate::schedule::{Cursor, Problem};
use crate::tally::{Rule, Tally};
use crate::workload::Wish;

/// Two-phase commit, its clients and its claims.
#[derive(Clone, Copy, Debug)]
pub struct Commit;

/// How long coordinators wait for votes in the simulator.
pub const VOTE_TIMEOUT_US: u64 = 150_000;
/// First and longest time between repetitions.
pub const RETRY_US: (u64, u64) = (50_000, 100_000);

/// How many decided names of a client a coordinator remembers in the simulator: so few that those of a client who does not
/// say what it has seen are evicted in every run.
pub const NAMES_KEPT: usize = 3;

/// The claims of the ledger.
const CLAIMS: [&str; 34] = [
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
    const CLAIMS: &'static [&'static str] = &CLAIMS;
    type Node = CommitNode;
    type Order = Txn;
    type Workload = Clients;
    type Judge = Ledger;

    fn config(plan: &Plan) -> Config {
        Config {
            vote_timeout: Micros(VOTE_TIMEOUT_US),
            retry_first: Micros(RETRY_US.0),
            retry_max: Micros(RETRY_US.1),
            names_kept: NAMES_KEPT,
            compact_at_bytes: plan.log_bytes,
            ..Config::new((0..plan.nodes).map(NodeId))
        }
    }

    fn wishes(setup: &Setup, plan: &mut Plan, draw: &mut Draw) -> Vec<Wish<Txn>> {
        workload::draw_wishes(setup, plan, draw)
    }

    fn clients(plan: &Plan, wishes: Vec<Wish<Txn>>) -> Clients {
        Clients::new(plan.nodes, plan.clients, wishes.into_iter().map(Into::into).collect())
    }

    fn judge(plan: &Plan) -> Ledger {
        Ledger::new(plan)
    }

    fn judge_of_logs(plan: &Plan) -> Ledger {
        Ledger::new(plan).without_probe().in_unknown_weather()
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

    fn write_order(order: &Txn, nodes: u16) -> String {
        order.write(nodes)
    }

    fn read_order(text: &mut Cursor<'_>) -> Result<Txn, Problem> {
        order::read(text)
    }

    fn simpler(order: &Txn) -> Vec<Txn> {
        order.simpler()
    }

    fn joined(one: &Txn, other: &Txn) -> Option<Txn> {
        Some(one.joined(other))
    }

    fn renumbered(order: &Txn, number: &dyn Fn(NodeId) -> Option<NodeId>) -> Option<Txn> {
        order.renumbered(number)
    }

    fn bench(run: BenchRun) -> Option<Box<dyn FnMut(u64) -> Benched>> {
        Some(Box::new(bench::bench(run)))
    }
}
