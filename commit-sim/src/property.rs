//! The properties of atomic commitment, each with its id in the specification.

use stormglass_sim::property::Violation;

/// Defines [`Property`] from one list, so that no table of names can lack a variant.
macro_rules! properties {
    ($($(#[$doc:meta])* $id:ident $name:ident,)+) => {
        /// A property that [`AtomicCommitChecker`](crate::AtomicCommitChecker) checks.
        ///
        /// Several properties may have the same id: each is one consequence of that statement of
        /// the specification. AC5 is checked as L1, W7 as W6 and I1 as I2.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Property {
            $($(#[$doc])* $name,)+
        }

        impl Property {
            /// Every property, in the order of the specification.
            pub const ALL: &[Property] = &[$(Property::$name),+];

            /// The names of [`Property::ALL`], in the same order.
            pub const NAMES: &[&str] = &[$(Property::$name.name()),+];

            /// The id in the specification: `AC1`.
            pub const fn id(self) -> &'static str {
                match self {
                    $(Property::$name => stringify!($id),)+
                }
            }

            /// Id and name, as violations and schedules have it: `AC1 DecisionsAgree`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Property::$name => concat!(stringify!($id), " ", stringify!($name)),)+
                }
            }
        }
    };
}

properties! {
    /// No two nodes decide differently.
    AC1 DecisionsAgree,
    /// No node reverses its decision.
    AC2 DecisionsAreFinal,
    /// Only the coordinator commits, with a Yes vote of every participant.
    AC3 CommitNeedsEveryYes,
    /// Each participant records the operations that the client asked of it.
    AC3 PartsAreAsAsked,
    /// Without faults a transaction aborts only after a No vote.
    AC4 FaultFreeRunsCommit,
    /// A No vote for a conflict names a transaction that holds a lock.
    AC4 ConflictNamesALockHolder,
    /// A No vote for a bound, an overflow or an earlier abort has that reason.
    AC4 RefusalsAreTrue,
    /// A transaction is refused only because of an older one.
    AC4 OnlyYoungerTransactionsAreRefused,
    /// A transaction waits only for younger ones.
    AC4 OnlyOlderTransactionsWait,
    /// PREPARED is durable before the Yes vote is sent.
    W1 PreparedIsDurableBeforeYes,
    /// COMMIT is durable before anything depends on it.
    W2 CommitIsDurableFirst,
    /// The outcome record is durable before Ack is sent.
    W3 OutcomeIsDurableBeforeAck,
    /// The coordinator forgets a commit only after the Acks of all participants.
    W4 ForgetAfterAllAcks,
    /// No transaction has both a COMMIT record and an Abort message.
    W5 NoAbortAfterCommitRecord,
    /// Only the coordinator sends Abort.
    W5 OnlyTheCoordinatorPresumesAbort,
    /// A node refuses to boot only from a damaged disk.
    W6 OnlyDamagePreventsBoot,
    /// The recovered state is that of a prefix of the log with every durable record.
    W6 RecoveredStateIsALogPrefix,
    /// Only files older than the newest snapshot are removed.
    W8 OnlyFilesBeforeTheSnapshotAreRemoved,
    /// Files are removed only once the newest snapshot is durable.
    W8 SnapshotIsDurableBeforeRemoval,
    /// A repeated recovery gives the same state.
    W9 RecoveryIsIdempotent,
    /// A node has no effect after a failed barrier.
    W10 NoEffectAfterAFailedSync,
    /// The outcome in an inquiry reply has a durable record.
    W10 InquiryRepliesAreDurable,
    /// MET is durable before Remembered is sent.
    W10 MetIsDurableBeforeRemembered,
    /// A new incarnation is durable before its first visible effect.
    W10 NoEffectBeforeTheBootIsDurable,
    /// What is committed stays committed, at every participant and for the client.
    W11 CommittedIsPermanent,
    /// A request commits at most once.
    W11 ExactlyOnce,
    /// A request that was aborted is answered with the same reason again.
    W12 RepeatedAnswersAgree,
    /// What an answer says about the cause of an abort is true.
    W12 AbortReasonsAreTrue,
    /// A decided request is unknown to its coordinator only if it may have been forgotten.
    W12 OnlyForgottenRequestsAreUnknown,
    /// An answer names the present incarnation of the node.
    W12 AnswersNameTheIncarnation,
    /// A node reports damage if a durable record is lost, and only then.
    W13 DamageAlarmIsTrue,
    /// A second process under a node's id says nothing about transactions.
    W14 SecondProcessIsSilent,
    /// No two undecided transactions hold conflicting locks.
    I2 UndecidedTransactionsDoNotConflict,
    /// A decided transaction holds no lock.
    I3 LocksEndWithTheirTransaction,
    /// A read returns the last write to its key.
    I4 ReadsReturnTheLastWrite,
    /// The committed transactions have a serial order that agrees with real time.
    I4 StrictlySerialisable,
    /// Transfers preserve the total of the accounts.
    I5 TransfersPreserveTheTotal,
    /// An Add that is prepared or committed keeps its bound.
    I6 AddsKeepTheirBounds,
    /// Every participant learns the decision within a bound.
    L1 DecidedInTime,
    /// Every client that keeps asking receives an outcome.
    L1 EveryClientIsAnswered,
    /// Every coordinator forgets its transactions within a bound.
    L1 ForgottenInTime,
    /// A node stays in doubt only if every node that knows the outcome is down.
    L2 BlockingIsJustified,
    /// An unanswered Commit is repeated at most once per retry period.
    L2 OneCommitPerRetryPeriod,
    /// An undecided transaction sends Prepare at most once per retry period.
    L2 OnePreparePerRetryPeriod,
    /// A node in doubt inquires at most once per retry period.
    L2 OneInquiryPerRetryPeriod,
    /// A quiescent node keeps one snapshot and one short log.
    L3 LogsAreBounded,
    /// A running node writes a snapshot only if its log is longer than the length at which it is
    /// compacted.
    L3 OnlyLongLogsAreCompacted,
    /// No lock remains once every transaction is decided.
    L3 NoLockRemains,
    /// Without faults and requests, no timer stays set.
    L3 NodesQuiesce,
    /// Before the first fault, a transaction costs the messages and records of the table of costs.
    L4 FaultFreeCostsAreExact,
}

impl Property {
    /// Whether it says that something good happens eventually: the L properties do. The others say
    /// that nothing bad ever happens.
    pub const fn is_liveness(self) -> bool {
        self.id().as_bytes()[0] == b'L'
    }

    /// The violation of this property, with its reason in one sentence.
    // Cold: the formatting of violations must not lie between hot code.
    #[cold]
    pub fn violated(self, reason: impl Into<String>) -> Violation {
        if self.is_liveness() {
            Violation::liveness(self.name(), reason)
        } else {
            Violation::safety(self.name(), reason)
        }
    }
}
