//! Lies told around the real node: what its driver says, hears or shows that is not so, or with what it is configured.
//! One for each claim of the ledger that no bug of [`crate::planted`] breaks.

use std::collections::BTreeSet;
use std::sync::Arc;

use stormglass::commit::{Action, Config, Message, No, Outcome, Reads, Request, Response, Said, Vote, Why};
use stormglass::{
    Boot, BootError, DiskError, DiskOp, FileId, Input, Micros, Node, NodeId, Outbox, ReadDisk, RequestId,
    Time, TxId,
};
use stormglass_sim::commit::workload::Wish;
use stormglass_sim::commit::{Clients, Commit, Ledger};
use stormglass_sim::hunt::{Progress, Quarry, hunt_in};
use stormglass_sim::oracle::{Broken, Fact, Judge, Seen};
use stormglass_sim::profile::{Profile, Setup};
use stormglass_sim::protocol::Protocol;
use stormglass_sim::world::World;

use crate::planted::{Bugged, Planted, caught_in};
use crate::rig::{C1_1, op, plan, run, wish};

/// Greater than every bug of `planted`.
const FIRST: u8 = 100;
const DEAF_TO_WAKES: u8 = FIRST;
const EAGER_YES: u8 = FIRST + 1;
const EAGER_COMMIT: u8 = FIRST + 2;
const TELLS_ABORTED: u8 = FIRST + 3;
const SPEAKS_FOR_OTHERS: u8 = FIRST + 4;
const VOTES_FOR_ALL: u8 = FIRST + 5;
const ACKS_FOR_ALL: u8 = FIRST + 6;
const HEARS_ABORT_FOR_COMMIT: u8 = FIRST + 7;
const YES_AFTER_ABORT: u8 = FIRST + 8;
const BLAMES_THE_DECIDED: u8 = FIRST + 9;
const TAKES_AND_DOES_NOT_GIVE: u8 = FIRST + 10;
const DENIES_COMMITS: u8 = FIRST + 11;
const MISREADS: u8 = FIRST + 12;
const HIDES_ABORTS: u8 = FIRST + 13;
const BLIND_TO_LOGS: u8 = FIRST + 14;
const AFRAID_TO_START: u8 = FIRST + 15;
const KEEPS_SCRATCH: u8 = FIRST + 16;
const IMPATIENT: u8 = FIRST + 17;
const LATE_COMMITS: u8 = FIRST + 18;
const LATE_ACKS: u8 = FIRST + 19;
const TELLS_NOBODY: u8 = FIRST + 20;
const NEVER_ACKS: u8 = FIRST + 21;
const DEAF_TO_THE_PROBE: u8 = FIRST + 22;
const NEVER_COMPACTS: u8 = FIRST + 23;
const DENIES_FAILURES: u8 = FIRST + 24;
const ANSWERS_NOBODY: u8 = FIRST + 25;
const BLAMES_A_STRANGER: u8 = FIRST + 26;

/// Later than L1 allows after any storm, sooner than patience ends.
const LATE: Time = Time(2_300_000);

/// What it is configured with.
pub(crate) fn configure(bug: u8, config: Config) -> Config {
    match bug {
        IMPATIENT => Config { vote_timeout: Micros(2_000), ..config },
        NEVER_COMPACTS => Config { compact_at_bytes: 1 << 20, ..config },
        _ => config,
    }
}

/// What the node finds when it boots.
pub(crate) struct Shown<'a> {
    pub(crate) bug: u8,
    pub(crate) disk: &'a dyn ReadDisk,
}

impl ReadDisk for Shown<'_> {
    fn files(&self) -> Vec<FileId> {
        self.disk.files()
    }

    fn read(&self, file: FileId) -> Result<Option<&[u8]>, DiskError> {
        let hidden = self.bug == BLIND_TO_LOGS && matches!(file, FileId::Wal(_));
        self.disk.read(file).map(|bytes| bytes.map(|bytes| if hidden { &[] } else { bytes }))
    }
}

/// Whether it dares to start.
pub(crate) fn dares(bug: u8, boot: &Boot<'_>) -> Result<(), BootError> {
    match boot.disk.files().first() {
        Some(file) if bug == AFRAID_TO_START => {
            Err(BootError::Damaged { file: *file, at: 0, what: "it looks strange".to_owned() })
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether this never reaches the disk.
pub(crate) fn forgets(bug: u8, op: &DiskOp) -> bool {
    match op {
        DiskOp::Remove { file: FileId::Scratch } => bug == KEEPS_SCRATCH,
        DiskOp::Append { about, .. } => bug == HIDES_ABORTS && about.kind == "Aborted",
        DiskOp::Truncate { .. } | DiskOp::Rename { .. } | DiskOp::Remove { .. } => false,
        DiskOp::Sync { .. } | DiskOp::SyncDir { .. } => false,
    }
}

/// A message on its way out.
pub(crate) fn say(bug: u8, now: Time, to: NodeId, message: Message, out: &mut Outbox<Bugged>) {
    let said = match (bug, message) {
        (NEVER_ACKS, Message::Ack { .. }) => return,
        (LATE_ACKS, Message::Ack { .. }) | (LATE_COMMITS, Message::Commit { .. }) if now < LATE => return,
        (TELLS_NOBODY, Message::Tell { said: Said::Aborted | Said::Committed, .. }) => return,
        (MISREADS, Message::Vote { tx, name, vote: Vote::Yes { reads } }) => {
            let others: Vec<_> = reads.iter().map(|read| Some(read.unwrap_or(0) + 1)).collect();
            Message::Vote { tx, name, vote: Vote::Yes { reads: Reads::from(&others[..]) } }
        }
        (_, message) => message,
    };
    out.send(to, said);
}

/// An answer on its way out.
pub(crate) fn answer(bug: u8, id: RequestId, response: Response, out: &mut Outbox<Bugged>) {
    if bug == ANSWERS_NOBODY && id.serial < 1_000 {
        return;
    }
    let denied = bug == DENIES_COMMITS && matches!(response.outcome, Outcome::Committed { .. });
    let denial = Response { life: response.life, outcome: Outcome::Aborted { why: Why::Restarted } };
    out.reply(id, if denied { denial } else { response });
}

impl Bugged {
    /// What it does about an input before the node hears of it. Gives back what the node is to hear, if anything.
    pub(crate) fn hear(
        &mut self,
        now: Time,
        input: Input<Bugged>,
        out: &mut Outbox<Self>,
    ) -> Option<Input<Bugged>> {
        match input {
            Input::Wake if self.bug == DEAF_TO_WAKES => None,
            Input::DiskDone { op, .. } if self.bug == DENIES_FAILURES => {
                Some(Input::DiskDone { op, result: Ok(()) })
            }
            Input::Request { id, .. } if self.bug == DEAF_TO_THE_PROBE && id.serial >= 1_000 => None,
            Input::Request { id, request: Request::Transact { life, age, seen, ops } }
                if self.bug == TAKES_AND_DOES_NOT_GIVE && ops.len() == 2 =>
            {
                let ops = Arc::from(&ops[..1]);
                Some(Input::Request { id, request: Request::Transact { life, age, seen, ops } })
            }
            Input::Message { from, message } => {
                self.chat(now, from, &message, out);
                let message = if self.bug == HEARS_ABORT_FOR_COMMIT
                    && let Message::Commit { tx, name, word } = message
                {
                    Message::Abort { tx, name, word }
                } else {
                    message
                };
                Some(Input::Message { from, message })
            }
            input @ (Input::Request { .. } | Input::DiskDone { .. } | Input::Wake) => Some(input),
        }
    }

    fn chat(&mut self, now: Time, from: NodeId, message: &Message, out: &mut Outbox<Self>) {
        let (bug, tx, name) = (self.bug, message.tx(), message.name());
        let yes = Message::Vote { tx, name, vote: Vote::Yes { reads: Reads::default() } };
        match message {
            Message::Prepare { .. } if bug == EAGER_YES => out.send(from, yes),
            Message::Prepare { word, .. } if bug == SPEAKS_FOR_OTHERS => {
                out.send(from, Message::Abort { tx, name, word: word.clone() });
            }
            Message::Prepare { .. } if bug == BLAMES_A_STRANGER => {
                let vote = Vote::No(No::Conflict { holder: TxId { serial: tx.serial + 1, ..tx } });
                out.send(from, Message::Vote { tx, name, vote });
            }
            Message::Prepare { .. } if bug == BLAMES_THE_DECIDED => {
                if let Some(holder) = self.decided {
                    let vote = Vote::No(No::Conflict { holder });
                    out.send(from, Message::Vote { tx, name, vote });
                }
            }
            Message::Commit { .. } => self.decided = Some(tx),
            Message::Vote { .. } if bug == EAGER_COMMIT => {
                out.send(from, Message::Commit { tx, name, word: crate::planted::no_word() });
            }
            Message::Vote { vote: Vote::Yes { .. }, .. } if bug == VOTES_FOR_ALL => {
                self.hear_of_all(now, tx, message, out);
            }
            Message::Ack { .. } if bug == ACKS_FOR_ALL => self.hear_of_all(now, tx, message, out),
            Message::Inquire { .. } if bug == TELLS_ABORTED && tx.coordinator != from => {
                out.send(from, Message::Tell { tx, name, said: Said::Aborted });
            }
            Message::Abort { .. } if bug == YES_AFTER_ABORT => {
                let message = message.clone();
                self.pass_in(now, Input::Message { from, message }, out);
                out.send(from, yes);
            }
            Message::Prepare { .. } | Message::Vote { .. } | Message::Abort { .. } => {}
            Message::Ack { .. } | Message::Inquire { .. } | Message::Tell { .. } => {}
        }
    }

    /// What one has said counts for everybody.
    fn hear_of_all(&mut self, now: Time, tx: TxId, message: &Message, out: &mut Outbox<Self>) {
        for from in (0..8).map(NodeId).filter(|from| *from != tx.coordinator) {
            self.pass_in(now, Input::Message { from, message: message.clone() }, out);
        }
    }
}

fn broken(bug: u8) -> &'static str {
    caught_in(Profile::Swarm, bug).1
}

/// Every claim that some seed of a hundred breaks.
fn all_broken(profile: Profile, bug: u8) -> BTreeSet<&'static str> {
    let setup = Setup { profile, ..Setup::default() };
    let quarry = Quarry { setup, seeds: 0..100, jobs: 2, keep_going: true };
    let catch = hunt_in(&Planted(bug), &quarry, &Progress::default());
    catch.failures.iter().map(|(_, broken)| broken.claim).collect()
}

#[test]
fn ac1_who_aborts_what_the_others_commit_is_noticed() {
    assert_eq!(broken(HEARS_ABORT_FOR_COMMIT), "AC1 NoTwoDecideDifferently");
}

#[test]
fn ac2_a_yes_after_an_abort_is_noticed() {
    assert_eq!(broken(YES_AFTER_ABORT), "AC2 NoDecisionIsReversed");
}

#[test]
fn ac3_one_vote_counted_for_all_is_noticed() {
    assert_eq!(broken(VOTES_FOR_ALL), "AC3 CommitNeedsEveryYes");
}

#[test]
fn ac4_an_impatient_coordinator_is_noticed_in_calm_weather() {
    assert_eq!(caught_in(Profile::Calm, IMPATIENT).1, "AC4 CalmCommits");
}

#[test]
fn ac4_a_conflict_with_nobody_is_noticed() {
    assert_eq!(broken(BLAMES_A_STRANGER), "AC4 ConflictsHaveAHolder");
}

#[test]
fn w1_a_yes_before_prepared_is_noticed() {
    assert_eq!(broken(EAGER_YES), "W1 PreparedIsDurableBeforeYes");
}

#[test]
fn w2_a_commit_before_its_record_is_noticed() {
    assert_eq!(broken(EAGER_COMMIT), "W2 CommitIsDurableFirst");
}

#[test]
fn w4_one_ack_counted_for_all_is_noticed() {
    assert_eq!(broken(ACKS_FOR_ALL), "W4 ForgetAfterAllAcks");
}

#[test]
fn w5_an_abort_by_somebody_else_than_the_coordinator_is_noticed() {
    assert_eq!(broken(SPEAKS_FOR_OTHERS), "W5 PresumptionIsTheCoordinators");
}

#[test]
fn w6_a_log_that_is_not_read_is_noticed() {
    let claims = all_broken(Profile::Crashy, BLIND_TO_LOGS);
    let both = ["W6 RecoveredIsAPrefix", "W9 RecoveringTwiceIsRecoveringOnce"];
    assert!(BTreeSet::from(both).is_subset(&claims), "durable or only there, it is missed: {claims:?}");
}

#[test]
fn w6_a_refusal_to_start_without_damage_is_noticed() {
    assert_eq!(broken(AFRAID_TO_START), "W6 OnlyDamageRefuses");
}

#[test]
fn w9_a_leftover_of_a_boot_that_was_cut_short_is_noticed() {
    assert_eq!(caught_in(Profile::Crashy, KEEPS_SCRATCH).1, "W9 RecoveringTwiceIsRecoveringOnce");
}

#[test]
fn w10_an_abort_that_is_told_and_not_durable_is_noticed() {
    assert_eq!(broken(TELLS_ABORTED), "W10 NothingUndurableIsTold");
}

#[test]
fn w10_who_goes_on_after_a_failed_barrier_is_noticed() {
    assert_eq!(caught_in(Profile::FaultyDisk, DENIES_FAILURES).1, "W10 NothingAfterAFailure");
}

#[test]
fn w11_a_commit_that_is_denied_is_noticed() {
    // In calm weather another claim speaks first: nobody there should hear "aborted".
    assert!(all_broken(Profile::Lossy, DENIES_COMMITS).contains("W11 CommittedIsForEver"));
}

#[test]
fn w11_one_name_that_is_addressed_to_two_nodes_and_commits_twice_is_noticed() {
    let wish = |coordinator| Wish { coordinator: NodeId(coordinator), ..wish(&[op(2, Action::Put(7))]) };
    let (ending, _) = run(plan(3), vec![wish(0), wish(1)], &[]);
    assert_eq!(ending.broken.map(|broken| broken.claim), Some("W11 ExactlyOnce"));
}

#[test]
fn i2_locks_that_go_without_a_record_are_noticed() {
    assert_eq!(broken(HIDES_ABORTS), "I2 NoTwoUndecidedConflict");
}

#[test]
fn i3_a_no_for_a_lock_of_somebody_decided_is_noticed() {
    assert_eq!(broken(BLAMES_THE_DECIDED), "I3 NoLockOutlivesItsTransaction");
}

#[test]
fn i4_a_read_of_what_was_never_written_is_noticed() {
    assert_eq!(broken(MISREADS), "I4 ReadsAreOfTheLastWrites");
}

#[test]
fn i5_money_that_is_taken_and_not_given_is_noticed() {
    assert_eq!(broken(TAKES_AND_DOES_NOT_GIVE), "I5 TransfersKeepTheTotal");
}

#[test]
fn l1_commits_that_come_too_late_are_noticed() {
    assert_eq!(caught_in(Profile::Calm, LATE_COMMITS).1, "L1 DecidedInTime");
}

#[test]
fn l1_acks_that_come_too_late_are_noticed() {
    assert_eq!(caught_in(Profile::Calm, LATE_ACKS).1, "L1 ForgottenInTime");
}

#[test]
fn l1_a_client_that_is_never_answered_is_noticed() {
    assert_eq!(broken(ANSWERS_NOBODY), "L1 EveryClientIsAnswered");
}

#[test]
fn l2_a_peer_that_knows_and_does_not_tell_is_noticed() {
    assert_eq!(broken(TELLS_NOBODY), "L2 BlockingIsJustified");
}

#[test]
fn l3_a_commit_that_is_repeated_for_ever_is_noticed() {
    assert_eq!(broken(NEVER_ACKS), "L3 QuietInTheEnd");
}

#[test]
fn l3_a_probe_that_does_not_commit_is_noticed() {
    assert_eq!(broken(DEAF_TO_THE_PROBE), "L3 NoLockIsLeft");
}

#[test]
fn l3_a_log_that_is_never_compacted_is_noticed() {
    assert_eq!(broken(NEVER_COMPACTS), "L3 LogsAreBounded");
}

#[test]
fn a_wake_that_is_not_heard_is_noticed() {
    assert_eq!(broken(DEAF_TO_WAKES), "WakeMovesTheDeadline");
}

/// A clock of the clients that is wrong by ten seconds, about one request.
#[derive(Clone, Debug)]
struct LateWitness(Ledger);

impl<N> Judge<N> for LateWitness
where
    N: Node<Message = Message, Request = Request, Response = Response>,
{
    fn judge(&mut self, seen: &Seen<'_, N>) -> Result<(), Broken> {
        let late_us = if matches!(seen.fact, Fact::Asked { id: C1_1, .. }) { 10_000_000 } else { 0 };
        self.0.judge(&Seen { at_us: seen.at_us + late_us, ..*seen })
    }
}

/// I4: the other claims catch a wrong lock or a wrong read when it happens, so no bug of a node gets as far as a cycle.
/// A false witness does: a read that was answered before that was asked for which it has read.
#[test]
fn i4_a_read_of_what_was_asked_for_later_is_noticed() {
    let wish = |serial, action| Wish { serial, ..wish(&[op(1, action)]) };
    let claim = |first| {
        let plan = plan(2);
        let clients = Clients::new(2, 1, vec![wish(first, Action::Put(7)), wish(first + 1, Action::Get)]);
        let judge = LateWitness(Ledger::new(&plan));
        let chooser = stormglass_sim::chooser::Scripted::new(&[]);
        let mut world: World<stormglass::commit::CommitNode, _, _, _> =
            World::new(Commit::config(&plan), plan, clients, judge, chooser);
        world.run().broken.map_or("nothing", |broken| broken.claim)
    };
    assert_eq!(claim(1), "I4 StrictlySerialisable");
    assert_eq!(claim(2), "nothing", "nobody lies about c1.2");
}
