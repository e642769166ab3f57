//! Two-phase commit with presumed abort, cooperative termination and safe forgetting.
//!
//! Every node ([`CommitNode`]) coordinates the transactions that its clients submit, and
//! participates in those that touch its keys. A transaction is one-shot: a list of [`Op`]s on keys
//! of one or more nodes, submitted as a whole. It is atomic across nodes and executed at most once;
//! locks, including those of reads, are held until the decision is applied.
//!
//! # Fault-free run
//!
//! 1. The *part* of a participant is those operations of the transaction that are on its keys. The
//!    coordinator locks its own part in memory, or waits for those locks. Meanwhile it sends
//!    `Prepare` to each *subordinate*, that is, each participant other than itself. A `Prepare`
//!    carries the part of its receiver and the list of all participants.
//! 2. A participant locks all keys of its part or none. If it locks them, it forces PREPARED and
//!    then votes Yes, with the results of its reads. If it refuses, it votes No and keeps no state.
//! 3. When all subordinates have voted Yes and its own part is locked, the coordinator forces
//!    COMMIT. That record includes the coordinator's own part, which needs no PREPARED. Once COMMIT
//!    is durable, the coordinator applies its part, sends `Commit` and answers the client.
//! 4. A participant forces COMMITTED, applies its part, releases its locks, and sends `Ack` once
//!    the record is durable.
//! 5. When all subordinates have acknowledged, the coordinator appends END, unforced, and forgets
//!    the transaction.
//!
//! The coordinator retransmits unanswered `Prepare`s until [`vote_timeout`](Config::vote_timeout),
//! and unacknowledged `Commit`s until END, with capped exponential backoff. One No, or a vote that
//! is missing at the timeout, aborts the transaction.
//!
//! A message that must not precede its record contains a [`RecordIsDurable`], which a node makes
//! only from a [`Durable`](stormglass_node::wal::Durable) proof of the record: a Yes vote,
//! `Commit`, `Ack`, and `InquiryReply` with an outcome. The `Ack` for a transaction that has ended
//! is the exception: its record was durable and has been dropped. The first `Committed` answer to
//! the client is sent by a function that requires the proof; a repeated answer comes from the
//! request log (see below), which lists a request as committed only once COMMIT is durable.
//!
//! # Presumed abort
//!
//! After Mohan, Lindsay and Obermarck 1986, "Transaction management in the R* distributed database
//! management system", section 3.
//!
//! - The coordinator writes no record for an abort. It sends `Abort` to the subordinates that have
//!   voted Yes, answers the client, and forgets the transaction at once.
//! - The coordinator answers `Abort` to an `Inquire` or a late Yes for a transaction of which it
//!   has no information. It does not answer an `Inquire` while the transaction is undecided.
//! - A participant that aborts after PREPARED appends ABORTED, unforced. If a crash loses that
//!   record, the participant is in doubt again and sends `Inquire` again.
//!
//! The presumption is for participants. A client is answered by its request id instead, see
//! "Exactly once" below. Unlike in R*, there is no read-only optimisation: a participant that only
//! reads forces PREPARED and COMMITTED like any other.
//!
//! # In doubt: cooperative termination
//!
//! A participant that voted Yes and receives no decision within `vote_timeout` sends `Inquire` to
//! the coordinator; from the second inquiry on, it also asks all other participants. Inquiries
//! repeat with capped exponential backoff. A restarted node sends the first one as soon as its boot
//! snapshot is durable.
//!
//! A peer here is another participant; the coordinator answers as above.
//!
//! | what the peer knows | its answer |
//! |---|---|
//! | the outcome, and its record is durable | the outcome |
//! | the outcome, and its record is not durable yet | none |
//! | that the transaction has ended | none |
//! | PREPARED, durable or not, and no outcome | "uncertain" |
//! | none of these | "aborted" |
//!
//! With "aborted" the peer decides: it drops a `Prepare` that waits for locks, forces ABORTED, and
//! replies once that is durable. It votes No to a `Prepare` that arrives later.
//!
//! A participant in doubt never decides alone: if the coordinator is permanently down and no
//! reachable peer knows the outcome, it stays in doubt.
//!
//! # Forgetting: end marks
//!
//! "No record" does not imply "never voted": a participant that committed, acknowledged and
//! compacted its log has no record either. A participant therefore keeps every outcome, in
//! snapshots too, until it knows that the transaction has *ended* at its coordinator. It learns
//! this from [`EndMark`]s, which `Prepare`, `Commit` and `Abort` carry: a
//! [`Position`] in the sender's sequence of transactions, below which all have ended except those
//! that the mark lists as open.
//!
//! End marks are merged and never replaced. END is not forced, so a restarted coordinator may list
//! a transaction as open that an earlier mark had ended; [`EndedTransactions`] is the union of what
//! all received marks end. For a transaction that has ended, a `Prepare` is ignored and a `Commit`
//! is acknowledged. A `Commit` for a transaction that has not ended and is neither in doubt nor
//! committed here is reported as [damage](Event::Damage).
//!
//! # Exactly once: request ids and floors
//!
//! A request has an id (client, serial, attempt) and is addressed to a [`Position`] of one
//! coordinator: an incarnation, and how many requests it had begun. The COMMIT record contains the
//! id. The request log of a coordinator keeps the status of every request of its incarnation;
//! committed requests are kept beyond END and in snapshots. A decided request leaves the request
//! log when the client states that it has [seen](Request::Transact::seen) the answer, or when the
//! request log has more than [`requests_kept`](Config::requests_kept) requests of that client.
//! Either raises the client's *floor* to or above the dropped request. If all clients together have
//! more than [`requests_kept_in_total`](Config::requests_kept_in_total) requests, the client that
//! has sent nothing for longest is forgotten, with its floor: from then on a request that is
//! addressed to a position below that of its last request may be a copy of a forgotten one. The
//! coordinator executes a request only if its id is not in the request log, is above the floor, and
//! is addressed to the current incarnation, to a position from which on no client was forgotten. A
//! *query* is a client's question for the outcome of an earlier request of its own:
//!
//! | request id | answer |
//! |---|---|
//! | in the request log, decided | its outcome |
//! | in the request log, undecided | to a query [`Outcome::Unknown`]; to a repeated request, none yet |
//! | not in it, at or below the floor | [`Outcome::Unknown`] |
//! | not in it, below a forgotten position | [`Outcome::Unknown`] |
//! | not in it, later incarnation | [`Outcome::Unknown`] |
//! | not in it, [lost](Config::replaces) incarnation | [`Outcome::Unknown`] |
//! | not in it, earlier incarnation | [`Outcome::Aborted`]: a commit would be in it |
//! | not in it, current incarnation | it is executed; to a query [`Outcome::Unknown`] |
//!
//! (In the last row a query cannot be answered "aborted": the request itself may still arrive.)
//!
//! # Locks: wait-die, youngest waiter first
//!
//! Each transaction has an [`Age`]: the time at which the first attempt at its request began, by
//! the clock of the coordinator, which the client carries from one attempt to the next; between
//! equal times the request id decides. A transaction that conflicts with
//! the lock of a *younger* transaction waits; one that conflicts with the lock of an older
//! transaction is refused (Rosenkrantz, Stearns, Lewis 1978; see [`store`](crate::store)). So waits
//! never form a cycle, within a node or across nodes. All attempts at a request share its age, so a
//! refused request is older than newcomers when it is retried.
//!
//! When locks are released, the waiters retry **youngest first**. Oldest first would cause
//! refusals: once the oldest had the lock, the younger waiters would conflict with an older holder,
//! which wait-die refuses. An example with one key:
//!
//! 1. T3 holds the key; T2 and T1 (the oldest) wait for it.
//! 2. T3 ends. T2 gets the key; T1 keeps waiting, as the holder is younger than T1.
//! 3. T4, the youngest, requests the key and is refused. A transaction can only join the queue if
//!    it is older than the holder.
//! 4. T2 ends. T1 gets the key.
//!
//! So, for one key, each new holder is older than the last, and a grant never causes a waiter to be
//! refused. (A transaction that waits for several keys may still be refused: an older one can get
//! another of those keys meanwhile.) Every wait ends at the latest after `vote_timeout`: a
//! participant then drops the `Prepare` without a vote, and a coordinator aborts.
//!
//! # Which incarnations answer
//!
//! An incarnation answers nobody before a majority of its peers remembers it, which they do only if
//! it follows the one that they remembered: see `introduction`. So an older copy of a disk, an
//! emptied one, and a second process under one id take part in nothing.
//!
//! # Recovery
//!
//! An incarnation begins with the newest snapshot and the log records after it. It writes the
//! result, with its own number, as its boot snapshot, and handles no message or request before that
//! is durable and its peers have confirmed it. Then:
//!
//! - PREPARED without an outcome: the locks are held again, and the node sends `Inquire`.
//! - COMMIT without END: the node sends `Commit` again until all subordinates have acknowledged.
//! - All other transactions that it coordinated are presumed aborted.
//!
//! A [`TxId`] contains the incarnation, so transactions are numbered
//! from 1 again.

pub mod config;
mod context;
mod coordinator;
mod dedup;
pub mod end_mark;
pub mod event;
mod introduction;
pub mod message;
mod node;
pub mod op;
pub mod op_text;
pub mod part;
mod participant;
pub mod record;
pub mod request;
#[cfg(feature = "runtime")]
mod served;
pub mod state;
mod timers;
mod tx_id;
mod tx_map;
pub mod view;

pub use config::Config;
pub use end_mark::{EndMark, EndedTransactions, Position};
pub use event::{DropReason, Event};
pub use message::{Body, InquiryReply, Introducing, Message, RecordIsDurable, Refusal, Vote};
pub use node::CommitNode;
pub use op::{Action, Key, KeyTooLong, Op, Reads};
pub use op_text::{KeyAtNode, ParseOpError};
pub use part::{Age, InvalidTransaction, Part, Participants};
pub use record::{Record, RecordHeader, RecordKind, RecordView};
pub use request::{AbortReason, Outcome, Request, RequestNumber, Response};
pub use state::{ClientHistory, Committing, Decision, KnownOutcome, KnownPeer, Prepared, State};
pub use tx_id::TxId;
