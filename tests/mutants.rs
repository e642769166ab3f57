//! Every property has a mutant that violates it: a bug in the driver around the real node, found
//! within a few seeds. `cargo tools mutants` has others, inside the node.

mod node;

use std::collections::BTreeSet;

use stormglass::commit::{Action, CommitNode, Event, Key, Message, Op, Request, Response};
use stormglass_commit_sim::workload::ClientRequest;
use stormglass_commit_sim::{AtomicCommitChecker, Clients, Commit, Property};
use stormglass_node::{DiskOp, Effect, Micros, Node, NodeId, Subject};
use stormglass_sim::hunt::{HuntOptions, Progress, hunt};
use stormglass_sim::profile::{Profile, Setup};
use stormglass_sim::property::{Checker, ClientFact, Fact, Observation, Violation};
use stormglass_sim::protocol::configs;
use stormglass_sim::world::World;

pub(crate) use node::MutantProtocol;

use crate::rig::{C1_1, client_request, op, plan, run};

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A participant aborts a committed transaction.
    TreatsCommitAsAbort,
    /// A participant votes Yes after an abort.
    YesAfterAbort,
    /// One Yes vote counts for all participants.
    CountsOneVoteForAll,
    /// The vote timeout is too short for a run without faults.
    ShortVoteTimeout,
    /// A No vote names a holder that holds no lock.
    ConflictWithUnknownTx,
    /// Yes is sent before PREPARED is durable.
    EarlyYes,
    /// `Commit` is sent before COMMIT is durable.
    EarlyCommit,
    /// `Ack` is sent before the outcome record is durable.
    EarlyAck,
    /// One `Ack` counts for all participants.
    CountsOneAckForAll,
    /// `Remembered` is sent before MET is durable.
    EarlyRemembered,
    /// `Abort` is sent while votes are collected.
    EarlyAbort,
    /// A participant answers a `Prepare` with `Abort`.
    ParticipantSendsAbort,
    /// A boot from intact files is refused.
    RefusesIntactDisk,
    /// The log is ignored at boot.
    IgnoresLogAtBoot,
    /// A file that cannot be read counts as empty.
    ReadsUnreadableAsEmpty,
    /// A segment after the snapshot is removed.
    RemovesUncoveredLog,
    /// A segment is removed before the name of the snapshot is durable.
    RemovesLogEarly,
    /// A scratch file of an interrupted boot is kept.
    KeepsScratchFile,
    /// Damage is reported for each Commit.
    RaisesFalseAlarm,
    /// Each `Prepare` is sent five times.
    RepeatsPrepare,
    /// Each `Inquire` is sent three times.
    RepeatsInquire,
    /// Each `Ack` is sent twice.
    AcksTwice,
    /// A participant votes No for a bound that holds.
    RefusesUnbrokenBound,
    /// A participant compares request ids where it should compare ages.
    ComparesRequestIds,
    /// The second answer to an aborted request has another reason.
    RepeatsAnotherReason,
    /// An answer names a node that has not voted.
    BlamesAnotherNode,
    /// An answer names an incarnation that does not exist yet.
    AnswersAsNextIncarnation,
    /// A failed barrier counts as completed.
    IgnoresBarrierFailures,
    /// A peer answers "aborted" without a record.
    AnswersUnloggedAbort,
    /// No file is synced.
    SkipsSync,
    /// The directory is not synced.
    SkipsSyncDir,
    /// A client receives "aborted" for its committed transaction.
    ReportsCommitAsAbort,
    /// A client that asks for its committed transaction a second time receives "unknown".
    ForgetsAnswers,
    /// Locks are released without an ABORTED record.
    OmitsAbortedRecord,
    /// A No vote names a holder that is decided.
    ConflictWithDecidedTx,
    /// Yes votes have values that were never written.
    SendsWrongReads,
    /// The second operation of a transfer is dropped.
    DropsSecondOp,
    /// `Commit` is sent late.
    DelaysCommits,
    /// Clients are not answered.
    NeverAnswersClients,
    /// `Ack` is sent late.
    DelaysAcks,
    /// A peer that knows the outcome does not answer.
    NeverAnswersInquiries,
    /// Each `Commit` is sent three times.
    RepeatsCommit,
    /// The log is not compacted.
    NeverCompacts,
    /// The log is compacted at half the length.
    CompactsEarly,
    /// The requests of the probe are ignored.
    IgnoresProbe,
    /// `Ack` is never sent.
    NeverAcks,
    /// The node panics on `Inquire`.
    Panics,
    /// It takes all peers for lost, and serves before any of them remembers it.
    AssumesPeersLost,
    /// Wakes are ignored.
    IgnoresWakes,
    /// A wake before the deadline counts as a deadline, of every timer.
    TakesWakesForDeadlines,
}

/// Each mutant, the profile in which it is hunted, and the property that it violates first.
const MUTANTS: [(Mutant, Profile, &str); 51] = [
    (Mutant::TreatsCommitAsAbort, Profile::Swarm, "AC1 DecisionsAgree"),
    (Mutant::YesAfterAbort, Profile::Swarm, "AC2 DecisionsAreFinal"),
    (Mutant::CountsOneVoteForAll, Profile::Swarm, "AC3 CommitNeedsEveryYes"),
    (Mutant::ShortVoteTimeout, Profile::Calm, "AC4 FaultFreeRunsCommit"),
    (Mutant::ConflictWithUnknownTx, Profile::Swarm, "AC4 ConflictNamesALockHolder"),
    (Mutant::EarlyYes, Profile::Swarm, "W1 PreparedIsDurableBeforeYes"),
    (Mutant::EarlyCommit, Profile::Swarm, "W2 CommitIsDurableFirst"),
    (Mutant::EarlyAck, Profile::Swarm, "W3 OutcomeIsDurableBeforeAck"),
    (Mutant::CountsOneAckForAll, Profile::Swarm, "W4 ForgetAfterAllAcks"),
    (Mutant::EarlyRemembered, Profile::Swarm, "W10 MetIsDurableBeforeRemembered"),
    (Mutant::EarlyAbort, Profile::Swarm, "W5 NoAbortAfterCommitRecord"),
    (Mutant::ParticipantSendsAbort, Profile::Swarm, "W5 OnlyTheCoordinatorPresumesAbort"),
    (Mutant::RefusesIntactDisk, Profile::Swarm, "W6 OnlyDamagePreventsBoot"),
    (Mutant::IgnoresLogAtBoot, Profile::Crashy, "W6 RecoveredStateIsALogPrefix"),
    (Mutant::ReadsUnreadableAsEmpty, Profile::UnreadableDisk, "W6 RecoveredStateIsALogPrefix"),
    (Mutant::RemovesUncoveredLog, Profile::Swarm, "W8 OnlyFilesBeforeTheSnapshotAreRemoved"),
    (Mutant::RemovesLogEarly, Profile::Swarm, "W8 SnapshotIsDurableBeforeRemoval"),
    (Mutant::KeepsScratchFile, Profile::Crashy, "W9 RecoveryIsIdempotent"),
    (Mutant::IgnoresBarrierFailures, Profile::FaultyDisk, "W10 NoEffectAfterAFailedSync"),
    (Mutant::AnswersUnloggedAbort, Profile::Swarm, "W10 InquiryRepliesAreDurable"),
    (Mutant::SkipsSync, Profile::Swarm, "W10 NoEffectBeforeTheBootIsDurable"),
    (Mutant::SkipsSyncDir, Profile::Swarm, "W10 NoEffectBeforeTheBootIsDurable"),
    (Mutant::ReportsCommitAsAbort, Profile::Lossy, "W11 CommittedIsPermanent"),
    (Mutant::ForgetsAnswers, Profile::Lossy, "W12 OnlyForgottenRequestsAreUnknown"),
    (Mutant::AssumesPeersLost, Profile::ReplacedDisk, "W14 SecondProcessIsSilent"),
    (Mutant::OmitsAbortedRecord, Profile::Swarm, "I2 UndecidedTransactionsDoNotConflict"),
    (Mutant::ConflictWithDecidedTx, Profile::Swarm, "I3 LocksEndWithTheirTransaction"),
    (Mutant::SendsWrongReads, Profile::Swarm, "I4 ReadsReturnTheLastWrite"),
    (Mutant::DropsSecondOp, Profile::Swarm, "AC3 PartsAreAsAsked"),
    (Mutant::RaisesFalseAlarm, Profile::Swarm, "W13 DamageAlarmIsTrue"),
    (Mutant::RepeatsPrepare, Profile::Swarm, "L2 OnePreparePerRetryPeriod"),
    (Mutant::RepeatsInquire, Profile::Swarm, "L2 OneInquiryPerRetryPeriod"),
    (Mutant::AcksTwice, Profile::Calm, "L4 FaultFreeCostsAreExact"),
    (Mutant::RefusesUnbrokenBound, Profile::Swarm, "AC4 RefusalsAreTrue"),
    (Mutant::ComparesRequestIds, Profile::Swarm, "AC4 OnlyYoungerTransactionsAreRefused"),
    (Mutant::ComparesRequestIds, Profile::Swarm, "AC4 OnlyOlderTransactionsWait"),
    (Mutant::RepeatsAnotherReason, Profile::Swarm, "W12 RepeatedAnswersAgree"),
    (Mutant::BlamesAnotherNode, Profile::Swarm, "W12 AbortReasonsAreTrue"),
    (Mutant::AnswersAsNextIncarnation, Profile::Swarm, "W12 AnswersNameTheIncarnation"),
    (Mutant::DelaysCommits, Profile::Calm, "L1 DecidedInTime"),
    (Mutant::NeverAnswersClients, Profile::Swarm, "L1 EveryClientIsAnswered"),
    (Mutant::DelaysAcks, Profile::Calm, "L1 ForgottenInTime"),
    (Mutant::NeverAnswersInquiries, Profile::Swarm, "L2 BlockingIsJustified"),
    (Mutant::RepeatsCommit, Profile::Swarm, "L2 OneCommitPerRetryPeriod"),
    (Mutant::NeverCompacts, Profile::Swarm, "L3 LogsAreBounded"),
    (Mutant::CompactsEarly, Profile::Swarm, "L3 OnlyLongLogsAreCompacted"),
    (Mutant::IgnoresProbe, Profile::Swarm, "L3 NoLockRemains"),
    (Mutant::NeverAcks, Profile::Swarm, "L3 NodesQuiesce"),
    (Mutant::Panics, Profile::Swarm, "NodeNeverPanics"),
    (Mutant::TakesWakesForDeadlines, Profile::Swarm, "L4 FaultFreeCostsAreExact"),
    (Mutant::IgnoresWakes, Profile::Swarm, "WakeMovesTheDeadline"),
];

/// Mutants that may violate another property first.
const NOT_FIRST: [Mutant; 7] = [
    // Without faults no transaction should be aborted, which is a property, too.
    Mutant::ReportsCommitAsAbort,
    Mutant::IgnoresLogAtBoot,
    // A lock is held for long, and without faults no transaction should time out.
    Mutant::DelaysCommits,
    // It serves from disks that were replaced, too.
    Mutant::AssumesPeersLost,
    // An empty snapshot looks damaged: the node refuses to boot, for a wrong reason.
    Mutant::ReadsUnreadableAsEmpty,
    // Before the first fault, it costs more than the table of costs says.
    Mutant::RepeatsCommit,
    // It violates two properties, each in other runs.
    Mutant::ComparesRequestIds,
];

/// Violated by tests below, and not by a mutant of the table.
const VIOLATED_BELOW: [&str; 4] = [
    "W11 ExactlyOnce",
    "I4 StrictlySerialisable",
    "I5 TransfersPreserveTheTotal",
    "I6 AddsKeepTheirBounds",
];

/// The violations of the first seeds; all of them, or the first.
fn violations(
    mutant: Mutant,
    profile: Profile,
    seeds: u64,
    keep_going: bool,
) -> Vec<(u64, &'static str)> {
    let setup = Setup { profile, ..Setup::default() };
    let options = HuntOptions { jobs: 2, keep_going, ..HuntOptions::new(setup, 0..=seeds - 1) };
    let report = hunt(&MutantProtocol(mutant), &options, &Progress::default());
    report.failures.iter().map(|(seed, violation)| (*seed, violation.property)).collect()
}

/// The first seed of the default profile that finds the mutant, and the property that it violates.
pub(crate) fn first_violation(mutant: Mutant) -> (u64, &'static str) {
    *violations(mutant, Profile::Swarm, 1_000, false).first().expect("the mutant is found")
}

/// The same for the first `count` of 1,000 seeds that find it.
pub(crate) fn first_violations(mutant: Mutant, count: usize) -> Vec<(u64, &'static str)> {
    let mut all = violations(mutant, Profile::Swarm, 1_000, true);
    all.truncate(count);
    all
}

#[test]
fn every_mutant_violates_its_property() {
    for (mutant, profile, property) in MUTANTS {
        if NOT_FIRST.contains(&mutant) {
            // All violations of these seeds, as the first may be of the other property.
            let found = violations(mutant, profile, 100, true);
            let found: BTreeSet<_> = found.into_iter().map(|(_, property)| property).collect();
            assert!(found.contains(property), "{mutant:?} violates {found:?}");
        } else {
            let found = violations(mutant, profile, 1_000, false);
            assert_eq!(found.first().map(|(_, found)| *found), Some(property), "{mutant:?}");
        }
    }
}

#[test]
fn every_property_of_the_checker_is_violated_by_a_mutant() {
    let of_mutants = MUTANTS.into_iter().map(|(_, _, property)| property);
    let violated: BTreeSet<_> = of_mutants.chain(VIOLATED_BELOW).collect();
    let missing: Vec<_> =
        Property::NAMES.iter().filter(|property| !violated.contains(*property)).collect();
    assert!(missing.is_empty(), "no mutant violates {missing:?}");
}

#[test]
fn w11_request_id_committed_by_two_coordinators_is_detected() {
    // Both receive c1.1, which no client of the simulator does.
    let client_request = |coordinator| ClientRequest {
        coordinator: NodeId(coordinator),
        ..client_request(&[op(2, Action::Put(7))])
    };
    let (outcome, _) = run(plan(3), vec![client_request(0), client_request(1)], &[]);
    assert_eq!(outcome.violation.map(|violation| violation.property), Some("W11 ExactlyOnce"));
}

/// I5: what sets an account is no transfer.
#[test]
fn i5_request_that_sets_an_account_is_no_transfer() {
    let key = Key::new("a0").expect("short");
    let put = client_request(&[Op { node: NodeId(1), key, action: Action::Put(7) }]);
    let (outcome, _) = run(plan(3), vec![put], &[]);
    assert_eq!(outcome.violation, None);
}

/// I5: a node that loses one side of a transfer does not record what was asked (AC3), so only a
/// client reaches a wrong total: it adds to one account, and takes from none.
#[test]
fn i5_one_sided_transfer_is_detected() {
    let key = Key::new("a0").expect("short");
    let add = Action::Add { by: 1, at_least: i64::MIN };
    let credit = client_request(&[Op { node: NodeId(1), key, action: add }]);
    let (outcome, _) = run(plan(3), vec![credit], &[]);
    let property = outcome.violation.map(|violation| violation.property);
    assert_eq!(property, Some("I5 TransfersPreserveTheTotal"));
}

/// The checker does not see that c1.1 is committed and answered.
#[derive(Clone, Debug)]
struct FirstRequestHidden(AtomicCommitChecker);

impl<N> Checker<N> for FirstRequestHidden
where
    N: Node<Message = Message, Request = Request, Response = Response, Event = Event>,
{
    fn check(&mut self, seen: &Observation<'_, N>) -> Result<(), Violation> {
        let is_hidden = match seen.fact {
            Fact::Effect(Effect::Disk(DiskOp::Append { about, .. }), _) => {
                about.subject == Some(Subject::Request(C1_1))
            }
            Fact::Effect(Effect::Reply { id, .. }, _) => *id == C1_1,
            Fact::Client(ClientFact::Answered { id, .. }) => *id == C1_1,
            Fact::Input(_) | Fact::Effect(..) | Fact::Process(_) | Fact::Fault(_) => false,
            Fact::Lost { .. } | Fact::Client(_) | Fact::Run(_) => false,
        };
        if is_hidden { Ok(()) } else { self.0.check(seen) }
    }
}

/// I6: c1.1 puts 7, and c1.2 takes 7 and leaves at least 0. To a checker that has not seen the Put,
/// the second breaks its bound.
#[test]
fn i6_add_below_its_bound_is_detected() {
    let client_request =
        |serial, action| ClientRequest { serial, ..client_request(&[op(0, action)]) };
    let plan = plan(2);
    let take = Action::Add { by: -7, at_least: 0 };
    let requests = vec![client_request(1, Action::Put(7)), client_request(2, take)];
    let clients = Clients::new(&plan, requests);
    let checker = FirstRequestHidden(AtomicCommitChecker::new(&plan));
    let chooser = stormglass_sim::chooser::Scripted::new(&[]);
    let mut world: World<CommitNode, _, _, _> =
        World::new(configs(&Commit, &plan), plan, clients, checker, chooser);
    let property = world.run().violation.map(|violation| violation.property);
    assert_eq!(property, Some("I6 AddsKeepTheirBounds"));
}

/// The clients' clock is wrong by ten seconds, for one request.
#[derive(Clone, Debug)]
struct ShiftedRequestTime(AtomicCommitChecker);

impl<N> Checker<N> for ShiftedRequestTime
where
    N: Node<Message = Message, Request = Request, Response = Response, Event = Event>,
{
    fn check(&mut self, seen: &Observation<'_, N>) -> Result<(), Violation> {
        // Longer than the run, so that c1.1 seems to be requested after everything else.
        let is_first_request =
            matches!(seen.fact, Fact::Client(ClientFact::Asked { id: C1_1, .. }));
        let shift = if is_first_request { Micros::from_secs(10) } else { Micros::ZERO };
        self.0.check(&Observation { at: seen.at + shift, ..*seen })
    }
}

/// I4: the other properties detect a wrong lock or a wrong read when it happens, so no mutant of a
/// node reaches a cycle. A false observation does: a read that was answered before the write that
/// it has read was requested.
#[test]
fn i4_read_of_a_write_requested_later_is_detected() {
    let client_request =
        |serial, action| ClientRequest { serial, ..client_request(&[op(1, action)]) };
    let property = |first| {
        let plan = plan(2);
        let clients = Clients::new(
            &plan,
            vec![client_request(first, Action::Put(7)), client_request(first + 1, Action::Get)],
        );
        // Only the checker sees the wrong time: the node and its clients work as always.
        let checker = ShiftedRequestTime(AtomicCommitChecker::new(&plan));
        let chooser = stormglass_sim::chooser::Scripted::new(&[]);
        let mut world: World<CommitNode, _, _, _> =
            World::new(configs(&Commit, &plan), plan, clients, checker, chooser);
        world.run().violation.map_or("nothing", |violation| violation.property)
    };
    assert_eq!(property(1), "I4 StrictlySerialisable");
    assert_eq!(property(2), "nothing", "the time of c1.2 is not shifted");
}
