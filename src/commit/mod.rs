//! Two-phase commit with presumed abort, cooperative termination and safe forgetting.
//!
//! Every node ([`CommitNode`]) is coordinator for the transactions that its clients bring, and participant in those
//! that touch its keys. A transaction is one shot: a list of [`Op`]s on keys of one or more nodes. It is done
//! everywhere or nowhere, once, and locks (of reads, too) are held until the decision is applied.
//!
//! # The usual course
//!
//! 1. The coordinator locks its own part in memory, or waits for its locks, and meanwhile sends each *subordinate*,
//!    that is each other participant, a `Prepare` with that node's operations and the list of participants.
//! 2. A participant locks everything its part touches, or nothing. It forces PREPARED, then votes Yes with what its
//!    reads have found; or it votes No and keeps nothing.
//! 3. With every Yes and its own locks, the coordinator forces COMMIT. The record carries its own part, which needs no
//!    PREPARED. Only then does it apply that part, send `Commit` and answer the client.
//! 4. A participant writes COMMITTED, applies its part, lets its locks go, and acknowledges once the record is durable.
//! 5. When all have acknowledged, the coordinator appends END, unforced, and forgets.
//!
//! What must not be said before its record is durable is said by functions that demand a
//! [`Durable`](crate::wal::Durable): Yes, Commit, Committed, Ack and what is told to a peer. The one exception is
//! the Ack for what is known to have ended: its record was durable, and has been dropped.
//!
//! # Presumed abort
//!
//! After Mohan, Lindsay and Obermarck 1986, "Transaction management in the R* distributed database management
//! system", section 3. An abort leaves no record at its coordinator, is told to the Yes-voters so far, and is forgotten
//! at once; an inquiry, or a late Yes, about a transaction of which its coordinator knows nothing is answered "aborted".
//! While it is undecided, an inquiry gets no answer. A participant that aborts writes ABORTED, unforced: if that is
//! lost, it is in doubt again and asks again. The presumption is for participants only; what clients are told rests on
//! names (below). Unlike R*, read-only participants are not let off: a reader is prepared and forced like any other.
//!
//! # In doubt: cooperative termination
//!
//! Who has voted Yes and hears nothing asks the coordinator, and from the second time on the other participants too,
//! with a capped backoff; a restarted node asks at once. A peer answers
//!
//! - what it knows, once its record of it is durable;
//! - "uncertain" if it has PREPARED in its log, durable or not;
//! - nothing if it knows that the transaction has ended;
//! - "aborted" if it has none of these. It decides then: a Prepare that waits for locks is dropped, ABORTED is forced,
//!   and only then is it told, so that a Prepare that comes later is refused.
//!
//! Nobody in doubt decides alone. If the coordinator is dead and no reachable peer knows, it stays in doubt.
//!
//! # Forgetting: words
//!
//! "No record" is not "never voted": who has committed, acknowledged and compacted has none either. So a participant
//! keeps every outcome, in snapshots too, until it knows that the transaction has *ended*. It knows from its
//! coordinator's [`EndMark`]s, which travel on Prepare, Commit and Abort: a position, and what is still open below it. Words
//! are merged, never replaced, for END is not forced and a restarted coordinator may call open again what it had ended;
//! [`EndedTransactions`] is the union over all words heard. A Prepare of an ended transaction is ignored, a Commit of one is
//! acknowledged. A Commit with neither record nor "ended" is reported as damage.
//!
//! # Exactly once: names and floors
//!
//! A request is named (client, serial, attempt) and addressed to one *life* of one coordinator. The COMMIT record carries
//! the name. A coordinator remembers every name of its life, and committed ones in snapshots, beyond END, until the client
//! says that it has [seen](Request::Transact::seen) the answer or there are more than
//! [`names_kept`](Config::names_kept). Dropping a name raises that client's *floor*. A name that is known, at or below
//! the floor, or addressed to another life is looked up and never executed:
//!
//! | the name is | the answer |
//! |---|---|
//! | known | what became of it; to a query [`Outcome::Unknown`], and to a repeated request nothing, while undecided |
//! | unknown, at or below the floor | [`Outcome::Unknown`] |
//! | unknown, addressed to an earlier life | [`Outcome::Aborted`]: had it committed, its name would be here |
//! | unknown, addressed to a life to come | [`Outcome::Unknown`] |
//! | unknown, addressed to this life | it is executed; a query gets [`Outcome::Unknown`], as its request may be on its way |
//!
//! # Locks: wait-die, and the youngest first
//!
//! Who meets a lock of a *younger* transaction waits; who meets an older one is refused (Rosenkrantz, Stearns, Lewis
//! 1978; see [`store`](crate::store)). So waits never form a cycle, within a node or across nodes. [`Age`] belongs to the
//! client's wish and survives its retries: who is refused comes back older than the newcomers.
//!
//! When locks become free, the waiters try in order of age, the **youngest first**. The other order would kill: if the
//! oldest got the lock, the younger ones would suddenly be waiting for an older one, which wait-die forbids.
//!
//! 1. T3 holds a key, T2 and T1 (the oldest) wait for it.
//! 2. T3 ends. T2 gets the key; T1 goes on waiting, rightly: the holder is younger still.
//! 3. T4 comes, the youngest of all: it is refused. Whoever may join the queue is older than the holder.
//! 4. T2 ends, T1 gets the key.
//!
//! So, as far as one key is concerned, the holder only gets older from grant to grant, and nobody who waits is refused
//! by one. (Who waits for several keys may still be: an older one can get one of them meanwhile.) A wait ends in any case
//! with [`vote_timeout`](Config::vote_timeout): a participant drops the Prepare without a word, a coordinator aborts.
//!
//! # After a crash
//!
//! A life begins with the snapshot and the records behind it, writes that down as its own snapshot, and handles no message
//! or request before that is durable. PREPARED without an outcome: locks are held again, and it asks. COMMIT without
//! END: `Commit` goes out again until all have acknowledged. Anything else that it coordinated is presumed aborted.
//! Transactions carry the life in their names, so serials may start again.

pub mod config;
mod coordinator;
mod dedup;
pub mod end_mark;
pub mod event;
pub mod message;
mod node;
pub mod op;
pub mod part;
mod participant;
pub mod record;
pub mod request;
pub mod state;
#[cfg(test)]
mod tests;
mod timers;
mod tx_map;
pub mod view;

pub use config::Config;
pub use end_mark::{EndMark, EndedTransactions, Position};
pub use event::{DropReason, Event};
pub use message::{InquiryReply, Message, Refusal, Vote};
pub use node::CommitNode;
pub use op::{Action, Key, KeyTooLong, Op, Reads};
pub use part::{Age, InvalidTransaction, Part, Participants};
pub use record::{Record, RecordHead, RecordKind, RecordView};
pub use request::{AbortReason, Outcome, Request, RequestNumber, Response};
pub use state::{ClientHistory, Committing, Decision, KnownOutcome, Prepared, State};
