//! A replicated set of counters on [`raft`] 0.7, tikv's implementation of Raft, as a node of
//! Stormglass.
//!
//! - [`machine`]: the counters, and the sessions of clients.
//! - [`store`]: log, vote and machine of a node, and how they become records of a write-ahead log.
//! - [`wire`]: messages, requests, responses and events.
//! - [`node`]: the node, which drives a [`RawNode`](raft::RawNode).
//! - [`properties`]: what each run must satisfy.
//! - [`simulation`]: the simulation, with or without a deliberate [`Bug`].

pub mod machine;
pub mod node;
pub mod properties;
pub mod simulation;
pub mod store;
pub mod wire;

/// A deliberate bug, which the properties must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Messages are sent before the hard state and the entries on which they depend are durable.
    SendsBeforeDurable,
    /// The vote of a term is not written.
    VoteNotPersisted,
    /// Neither the term is written nor the vote.
    TermNotPersisted,
    /// A node that boots takes the start of its log for the applied index.
    AppliedIndexLost,
    /// `Get` is answered from the local machine, without ReadIndex.
    LocalReads,
    /// `Add` is answered when it is proposed, not when it is committed and applied.
    AnswersBeforeCommit,
    /// A request that has been executed is executed again when the client repeats it.
    NoSessions,
    /// A leader never reports that a snapshot is lost, so it waits for it as long as it leads.
    LostSnapshotNotReported,
    /// The library ticks while a snapshot that a node has installed is not durable. Not planted: the
    /// first version of this node did so.
    TicksWhileInstalling,
    /// Election timeouts are those that the library draws from the randomness of the machine: no
    /// bug of the protocol, but two runs of one seed differ.
    UntamedTimeouts,
}

impl Bug {
    /// Every bug with its name on the command line.
    pub const ALL: [(&'static str, Bug); 10] = [
        ("sends-before-durable", Bug::SendsBeforeDurable),
        ("vote-not-persisted", Bug::VoteNotPersisted),
        ("term-not-persisted", Bug::TermNotPersisted),
        ("applied-index-lost", Bug::AppliedIndexLost),
        ("local-reads", Bug::LocalReads),
        ("answers-before-commit", Bug::AnswersBeforeCommit),
        ("no-sessions", Bug::NoSessions),
        ("lost-snapshot-not-reported", Bug::LostSnapshotNotReported),
        ("ticks-while-installing", Bug::TicksWhileInstalling),
        ("untamed-timeouts", Bug::UntamedTimeouts),
    ];
}
