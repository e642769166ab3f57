//! Mutants around the real node: a driver that changes its inputs, effects, files or configuration.
//! One for each property of the checker that no mutant of [`crate::mutant_effects`] violates.

use std::collections::BTreeSet;
use std::sync::Arc;

use stormglass::commit::TxId;
use stormglass::commit::{
    AbortReason, Action, Config, InquiryReply, Message, Outcome, Reads, Refusal, Request, Response,
    Vote,
};
use stormglass_commit_sim::workload::ClientRequest;
use stormglass_commit_sim::{AtomicCommitChecker, Clients, Commit};
use stormglass_node::{
    Boot, BootError, DiskError, DiskOp, FileId, Input, Micros, Node, NodeId, Outbox, ReadDisk,
    RequestId, Time,
};
use stormglass_sim::hunt::{HuntOptions, Progress, hunt_in};
use stormglass_sim::profile::{Profile, Setup};
use stormglass_sim::property::{Checker, Fact, Observation, Violation};
use stormglass_sim::protocol::Protocol;
use stormglass_sim::world::World;

use crate::mutant_effects::{MutantNode, MutantProtocol, first_violation_in};
use crate::rig::{C1_1, client_request, op, plan, run};

/// Greater than every mutant of `mutant_effects`.
const FIRST_MUTANT: u8 = 100;
const IGNORES_WAKES: u8 = FIRST_MUTANT;
const EARLY_YES: u8 = FIRST_MUTANT + 1;
const EARLY_COMMIT: u8 = FIRST_MUTANT + 2;
const ANSWERS_UNLOGGED_ABORT: u8 = FIRST_MUTANT + 3;
const PARTICIPANT_SENDS_ABORT: u8 = FIRST_MUTANT + 4;
const COUNTS_ONE_VOTE_FOR_ALL: u8 = FIRST_MUTANT + 5;
const COUNTS_ONE_ACK_FOR_ALL: u8 = FIRST_MUTANT + 6;
const TREATS_COMMIT_AS_ABORT: u8 = FIRST_MUTANT + 7;
const YES_AFTER_ABORT: u8 = FIRST_MUTANT + 8;
const CONFLICT_WITH_DECIDED_TX: u8 = FIRST_MUTANT + 9;
const DROPS_SECOND_OP: u8 = FIRST_MUTANT + 10;
const REPORTS_COMMIT_AS_ABORT: u8 = FIRST_MUTANT + 11;
const SENDS_WRONG_READS: u8 = FIRST_MUTANT + 12;
const OMITS_ABORTED_RECORD: u8 = FIRST_MUTANT + 13;
const IGNORES_LOG_AT_BOOT: u8 = FIRST_MUTANT + 14;
const REFUSES_INTACT_DISK: u8 = FIRST_MUTANT + 15;
const KEEPS_SCRATCH_FILE: u8 = FIRST_MUTANT + 16;
const SHORT_VOTE_TIMEOUT: u8 = FIRST_MUTANT + 17;
const DELAYS_COMMITS: u8 = FIRST_MUTANT + 18;
const DELAYS_ACKS: u8 = FIRST_MUTANT + 19;
const NEVER_ANSWERS_INQUIRIES: u8 = FIRST_MUTANT + 20;
const NEVER_ACKS: u8 = FIRST_MUTANT + 21;
const IGNORES_PROBE: u8 = FIRST_MUTANT + 22;
const NEVER_COMPACTS: u8 = FIRST_MUTANT + 23;
const IGNORES_BARRIER_FAILURES: u8 = FIRST_MUTANT + 24;
const NEVER_ANSWERS_CLIENTS: u8 = FIRST_MUTANT + 25;
const CONFLICT_WITH_UNKNOWN_TX: u8 = FIRST_MUTANT + 26;

/// Later than L1 allows after any fault phase, earlier than the recovery timeout.
const DELAY_UNTIL: Time = Time(2_300_000);

/// The configuration of a mutant.
pub(crate) fn mutant_config(mutant: u8, config: Config) -> Config {
    match mutant {
        SHORT_VOTE_TIMEOUT => Config { vote_timeout: Micros(2_000), ..config },
        NEVER_COMPACTS => Config { compact_at_bytes: 1 << 20, ..config },
        _ => config,
    }
}

/// The disk that the node reads at boot.
pub(crate) struct BootDisk<'a> {
    pub(crate) mutant: u8,
    pub(crate) disk: &'a dyn ReadDisk,
}

impl ReadDisk for BootDisk<'_> {
    fn files(&self) -> Vec<FileId> {
        self.disk.files()
    }

    fn read(&self, file: FileId) -> Result<Option<&[u8]>, DiskError> {
        let hidden = self.mutant == IGNORES_LOG_AT_BOOT && matches!(file, FileId::Wal(_));
        self.disk.read(file).map(|bytes| bytes.map(|bytes| if hidden { &[] } else { bytes }))
    }
}

/// Whether the mutant boots.
pub(crate) fn check_boot(mutant: u8, boot: &Boot<'_>) -> Result<(), BootError> {
    match boot.disk.files().first() {
        Some(file) if mutant == REFUSES_INTACT_DISK => {
            Err(BootError::Damaged { file: *file, at: 0, reason: "it looks strange".to_owned() })
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether this operation is dropped.
pub(crate) fn drops_disk_op(mutant: u8, op: &DiskOp) -> bool {
    match op {
        DiskOp::Remove { file: FileId::Scratch } => mutant == KEEPS_SCRATCH_FILE,
        DiskOp::Append { about, .. } => mutant == OMITS_ABORTED_RECORD && about.kind == "Aborted",
        DiskOp::Truncate { .. } | DiskOp::Rename { .. } | DiskOp::Remove { .. } => false,
        DiskOp::Sync { .. } | DiskOp::SyncDir { .. } => false,
    }
}

/// Sends a message, perhaps changed.
pub(crate) fn send_message(
    mutant: u8,
    now: Time,
    to: NodeId,
    message: Message,
    out: &mut Outbox<MutantNode>,
) {
    let sent = match (mutant, message) {
        (NEVER_ACKS, Message::Ack { .. }) => return,
        (DELAYS_ACKS, Message::Ack { .. }) | (DELAYS_COMMITS, Message::Commit { .. })
            if now < DELAY_UNTIL =>
        {
            return;
        }
        (
            NEVER_ANSWERS_INQUIRIES,
            Message::InquiryReply {
                reply: InquiryReply::Aborted | InquiryReply::Committed, ..
            },
        ) => return,
        (SENDS_WRONG_READS, Message::Vote { tx, request, vote: Vote::Yes { reads } }) => {
            let others: Vec<_> = reads.iter().map(|read| Some(read.unwrap_or(0) + 1)).collect();
            Message::Vote { tx, request, vote: Vote::Yes { reads: Reads::from(&others[..]) } }
        }
        (_, message) => message,
    };
    out.send(to, sent);
}

/// Sends a reply, perhaps changed.
pub(crate) fn send_reply(
    mutant: u8,
    id: RequestId,
    response: Response,
    out: &mut Outbox<MutantNode>,
) {
    if mutant == NEVER_ANSWERS_CLIENTS && id.serial < 1_000 {
        return;
    }
    let denied =
        mutant == REPORTS_COMMIT_AS_ABORT && matches!(response.outcome, Outcome::Committed { .. });
    let denial = Response {
        incarnation: response.incarnation,
        outcome: Outcome::Aborted { reason: AbortReason::Restarted },
    };
    out.reply(id, if denied { denial } else { response });
}

impl MutantNode {
    /// Handles an input before the node does. Returns the input for the node, if any.
    pub(crate) fn filter_input(
        &mut self,
        now: Time,
        input: Input<MutantNode>,
        out: &mut Outbox<Self>,
    ) -> Option<Input<MutantNode>> {
        match input {
            Input::Wake if self.mutant == IGNORES_WAKES => None,
            Input::DiskDone { op, .. } if self.mutant == IGNORES_BARRIER_FAILURES => {
                Some(Input::DiskDone { op, result: Ok(()) })
            }
            Input::Request { id, .. } if self.mutant == IGNORES_PROBE && id.serial >= 1_000 => None,
            Input::Request { id, request: Request::Transact { incarnation, age, seen, ops } }
                if self.mutant == DROPS_SECOND_OP && ops.len() == 2 =>
            {
                let ops = Arc::from(&ops[..1]);
                Some(Input::Request {
                    id,
                    request: Request::Transact { incarnation, age, seen, ops },
                })
            }
            Input::Message { from, message } => {
                self.misbehave_on_message(now, from, &message, out);
                let message = if self.mutant == TREATS_COMMIT_AS_ABORT
                    && let Message::Commit { tx, request, end_mark } = message
                {
                    Message::Abort { tx, request, end_mark }
                } else {
                    message
                };
                Some(Input::Message { from, message })
            }
            input @ (Input::Request { .. } | Input::DiskDone { .. } | Input::Wake) => Some(input),
        }
    }

    fn misbehave_on_message(
        &mut self,
        now: Time,
        from: NodeId,
        message: &Message,
        out: &mut Outbox<Self>,
    ) {
        let (mutant, tx, request) = (self.mutant, message.tx(), message.request());
        let yes = Message::Vote { tx, request, vote: Vote::Yes { reads: Reads::default() } };
        match message {
            Message::Prepare { .. } if mutant == EARLY_YES => out.send(from, yes),
            Message::Prepare { end_mark, .. } if mutant == PARTICIPANT_SENDS_ABORT => {
                out.send(from, Message::Abort { tx, request, end_mark: end_mark.clone() });
            }
            Message::Prepare { .. } if mutant == CONFLICT_WITH_UNKNOWN_TX => {
                let vote =
                    Vote::No(Refusal::Conflict { holder: TxId { serial: tx.serial + 1, ..tx } });
                out.send(from, Message::Vote { tx, request, vote });
            }
            Message::Prepare { .. } if mutant == CONFLICT_WITH_DECIDED_TX => {
                if let Some(holder) = self.last_committed {
                    let vote = Vote::No(Refusal::Conflict { holder });
                    out.send(from, Message::Vote { tx, request, vote });
                }
            }
            Message::Commit { .. } => self.last_committed = Some(tx),
            Message::Vote { .. } if mutant == EARLY_COMMIT => {
                out.send(
                    from,
                    Message::Commit {
                        tx,
                        request,
                        end_mark: crate::mutant_effects::empty_end_mark(),
                    },
                );
            }
            Message::Vote { vote: Vote::Yes { .. }, .. } if mutant == COUNTS_ONE_VOTE_FOR_ALL => {
                self.deliver_from_all(now, tx, message, out);
            }
            Message::Ack { .. } if mutant == COUNTS_ONE_ACK_FOR_ALL => {
                self.deliver_from_all(now, tx, message, out)
            }
            Message::Inquire { .. }
                if mutant == ANSWERS_UNLOGGED_ABORT && tx.coordinator != from =>
            {
                out.send(from, Message::InquiryReply { tx, request, reply: InquiryReply::Aborted });
            }
            Message::Abort { .. } if mutant == YES_AFTER_ABORT => {
                let message = message.clone();
                self.step_node(now, Input::Message { from, message }, out);
                out.send(from, yes);
            }
            Message::Prepare { .. } | Message::Vote { .. } | Message::Abort { .. } => {}
            Message::Ack { .. } | Message::Inquire { .. } | Message::InquiryReply { .. } => {}
        }
    }

    /// Delivers one participant's message as if all had sent it.
    fn deliver_from_all(&mut self, now: Time, tx: TxId, message: &Message, out: &mut Outbox<Self>) {
        for from in (0..8).map(NodeId).filter(|from| *from != tx.coordinator) {
            self.step_node(now, Input::Message { from, message: message.clone() }, out);
        }
    }
}

fn violation(mutant: u8) -> &'static str {
    first_violation_in(Profile::Swarm, mutant).1
}

/// Every property that one of a hundred seeds violates.
fn all_violated_properties(profile: Profile, mutant: u8) -> BTreeSet<&'static str> {
    let setup = Setup { profile, ..Setup::default() };
    let options = HuntOptions { setup, seeds: 0..100, jobs: 2, keep_going: true };
    let report = hunt_in(&MutantProtocol(mutant), &options, &Progress::default());
    report.failures.iter().map(|(_, violation)| violation.property).collect()
}

#[test]
fn ac1_abort_at_one_participant_of_a_committed_transaction_is_detected() {
    assert_eq!(violation(TREATS_COMMIT_AS_ABORT), "AC1 DecisionsAgree");
}

#[test]
fn ac2_yes_vote_after_an_abort_is_detected() {
    assert_eq!(violation(YES_AFTER_ABORT), "AC2 DecisionsAreFinal");
}

#[test]
fn ac3_one_yes_vote_counted_for_all_participants_is_detected() {
    assert_eq!(violation(COUNTS_ONE_VOTE_FOR_ALL), "AC3 CommitNeedsEveryYes");
}

#[test]
fn ac4_too_short_vote_timeout_is_detected_without_faults() {
    assert_eq!(first_violation_in(Profile::Calm, SHORT_VOTE_TIMEOUT).1, "AC4 FaultFreeRunsCommit");
}

#[test]
fn ac4_conflict_with_an_unknown_holder_is_detected() {
    assert_eq!(violation(CONFLICT_WITH_UNKNOWN_TX), "AC4 ConflictNamesALockHolder");
}

#[test]
fn w1_yes_before_prepared_is_durable_is_detected() {
    assert_eq!(violation(EARLY_YES), "W1 PreparedIsDurableBeforeYes");
}

#[test]
fn w2_commit_message_before_its_record_is_detected() {
    assert_eq!(violation(EARLY_COMMIT), "W2 CommitIsDurableFirst");
}

#[test]
fn w4_one_ack_counted_for_all_participants_is_detected() {
    assert_eq!(violation(COUNTS_ONE_ACK_FOR_ALL), "W4 ForgetAfterAllAcks");
}

#[test]
fn w5_abort_sent_by_a_participant_is_detected() {
    assert_eq!(violation(PARTICIPANT_SENDS_ABORT), "W5 OnlyTheCoordinatorPresumesAbort");
}

#[test]
fn w6_log_ignored_at_boot_is_detected() {
    let properties = all_violated_properties(Profile::Crashy, IGNORES_LOG_AT_BOOT);
    let both = ["W6 RecoveredStateIsALogPrefix", "W9 RecoveryIsIdempotent"];
    assert!(
        BTreeSet::from(both).is_subset(&properties),
        "both properties are violated: {properties:?}"
    );
}

#[test]
fn w6_boot_refused_without_damage_is_detected() {
    assert_eq!(violation(REFUSES_INTACT_DISK), "W6 OnlyDamagePreventsBoot");
}

#[test]
fn w9_scratch_file_left_by_an_interrupted_boot_is_detected() {
    assert_eq!(
        first_violation_in(Profile::Crashy, KEEPS_SCRATCH_FILE).1,
        "W9 RecoveryIsIdempotent"
    );
}

#[test]
fn w10_abort_reply_without_a_durable_record_is_detected() {
    assert_eq!(violation(ANSWERS_UNLOGGED_ABORT), "W10 InquiryRepliesAreDurable");
}

#[test]
fn w10_progress_after_a_failed_barrier_is_detected() {
    assert_eq!(
        first_violation_in(Profile::FaultyDisk, IGNORES_BARRIER_FAILURES).1,
        "W10 NoEffectAfterAFailedSync"
    );
}

#[test]
fn w11_committed_transaction_reported_as_aborted_is_detected() {
    // Without faults another property is violated first: no transaction should be aborted there.
    assert!(
        all_violated_properties(Profile::Lossy, REPORTS_COMMIT_AS_ABORT)
            .contains("W11 CommittedIsPermanent")
    );
}

#[test]
fn w11_request_id_committed_by_two_coordinators_is_detected() {
    let client_request = |coordinator| ClientRequest {
        coordinator: NodeId(coordinator),
        ..client_request(&[op(2, Action::Put(7))])
    };
    let (outcome, _) = run(plan(3), vec![client_request(0), client_request(1)], &[]);
    assert_eq!(outcome.violation.map(|violation| violation.property), Some("W11 ExactlyOnce"));
}

#[test]
fn i2_locks_released_without_an_aborted_record_are_detected() {
    assert_eq!(violation(OMITS_ABORTED_RECORD), "I2 UndecidedTransactionsDoNotConflict");
}

#[test]
fn i3_conflict_with_a_decided_transaction_is_detected() {
    assert_eq!(violation(CONFLICT_WITH_DECIDED_TX), "I3 LocksEndWithTheirTransaction");
}

#[test]
fn i4_read_of_a_value_never_written_is_detected() {
    assert_eq!(violation(SENDS_WRONG_READS), "I4 ReadsReturnTheLastWrite");
}

#[test]
fn i5_half_applied_transfer_is_detected() {
    assert_eq!(violation(DROPS_SECOND_OP), "I5 TransfersPreserveTheTotal");
}

#[test]
fn l1_late_commits_are_detected() {
    assert_eq!(first_violation_in(Profile::Calm, DELAYS_COMMITS).1, "L1 DecidedInTime");
}

#[test]
fn l1_late_acks_are_detected() {
    assert_eq!(first_violation_in(Profile::Calm, DELAYS_ACKS).1, "L1 ForgottenInTime");
}

#[test]
fn l1_unanswered_client_is_detected() {
    assert_eq!(violation(NEVER_ANSWERS_CLIENTS), "L1 EveryClientIsAnswered");
}

#[test]
fn l2_unanswered_inquiry_to_a_peer_with_the_outcome_is_detected() {
    assert_eq!(violation(NEVER_ANSWERS_INQUIRIES), "L2 BlockingIsJustified");
}

#[test]
fn l3_commit_resent_for_ever_is_detected() {
    assert_eq!(violation(NEVER_ACKS), "L3 NodesQuiesce");
}

#[test]
fn l3_uncommitted_probe_is_detected() {
    assert_eq!(violation(IGNORES_PROBE), "L3 NoLockRemains");
}

#[test]
fn l3_log_never_compacted_is_detected() {
    assert_eq!(violation(NEVER_COMPACTS), "L3 LogsAreBounded");
}

#[test]
fn ignored_wake_is_detected() {
    assert_eq!(violation(IGNORES_WAKES), "WakeMovesTheDeadline");
}

/// The clients' clock is wrong by ten seconds, for one request.
#[derive(Clone, Debug)]
struct ShiftedRequestTime(AtomicCommitChecker);

impl<N> Checker<N> for ShiftedRequestTime
where
    N: Node<Message = Message, Request = Request, Response = Response>,
{
    fn check(&mut self, seen: &Observation<'_, N>) -> Result<(), Violation> {
        let shift_us =
            if matches!(seen.fact, Fact::Asked { id: C1_1, .. }) { 10_000_000 } else { 0 };
        self.0.check(&Observation { at_us: seen.at_us + shift_us, ..*seen })
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
            2,
            1,
            vec![client_request(first, Action::Put(7)), client_request(first + 1, Action::Get)],
        );
        let checker = ShiftedRequestTime(AtomicCommitChecker::new(&plan));
        let chooser = stormglass_sim::chooser::Scripted::new(&[]);
        let mut world: World<stormglass::commit::CommitNode, _, _, _> =
            World::new(Commit::config(&plan), plan, clients, checker, chooser);
        world.run().violation.map_or("nothing", |violation| violation.property)
    };
    assert_eq!(property(1), "I4 StrictlySerialisable");
    assert_eq!(property(2), "nothing", "the time of c1.2 is not shifted");
}
