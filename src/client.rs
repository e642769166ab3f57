//! A client of two-phase commit over TCP, with typed results.
//!
//! # Retries
//!
//! There are three kinds, each safe for its own reason:
//!
//! 1. *No answer, or the connection is lost.* The same request, with the same id and incarnation,
//!    is sent again, over a new connection if necessary, but only to the same node: an id is never
//!    addressed to another node. The node executes it at most once and looks it up from then on, in
//!    whichever incarnation it is; so a resend is never a second execution.
//! 2. *Refused for a conflict, timed out, or the coordinator has restarted.* The answer is
//!    "aborted", and final for that id. The transaction is tried again under a new id (the next
//!    attempt) with its old age, so that it wins in the end. At most [`ClientOptions::attempts`]
//!    attempts are made.
//! 3. *Refused for a bound, an overflow, or not a transaction.* Never retried: the answer would be
//!    the same.
//!
//! A request is addressed to a position of the node that is at most a second old: the node executes
//! no request whose address is so old that it may be a copy of one that was forgotten. A client
//! that is new or has been idle asks for the position first, which is one round trip more.
//!
//! If there is no answer within [`ClientOptions::request_timeout`], the result is
//! [`TxResult::Unknown`] with the request's handle. [`Client::outcome`] queries that request later,
//! from any process.

mod handle;
mod result;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, sleep, timeout, timeout_at};

pub use handle::{ParseHandleError, RequestHandle};
pub use result::{ClientError, TxResult, UnknownReason};

use stormglass_node::id::{NodeId, RequestId};
use stormglass_node::runtime::packet::{
    Caller, ClientPacket, ClientReply, Hello, RejectReason, Welcome,
};
use stormglass_node::runtime::stream::{FRAME_BYTES_MAX, Frames, StreamError, write_value};
use stormglass_node::runtime::{Status, after, entropy};

use crate::commit::view::View;
use crate::commit::{
    AbortReason, Op, Outcome, Position, Refusal, Request, RequestNumber, Response,
};

/// Options of a client.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The cluster that the node must belong to.
    pub cluster: String,
    /// The client's number, part of its request ids. Two clients must not share a number: the
    /// second would receive the outcomes of the first one's requests. Drawn at random from 64 bits
    /// if `None`.
    pub number: Option<u64>,
    /// How long to wait for an answer, and for a connection, including all retries.
    pub request_timeout: Duration,
    /// After how long without an answer a request is sent again.
    pub resend_after: Duration,
    /// The greatest number of attempts of a transaction; at least 1.
    pub attempts: u16,
    /// For [`status`](Client::status): the node has a few connections for operators alone, so that
    /// clients cannot keep them out. They are closed after ten idle seconds.
    pub operator: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            cluster: "stormglass".to_owned(),
            number: None,
            // Several times the vote timeout of a coordinator, so that "no answer" is not just a
            // slow transaction.
            request_timeout: Duration::from_secs(10),
            resend_after: Duration::from_secs(2),
            // With pauses of up to 64 ms and more between attempts, the default timeout ends them
            // first.
            attempts: 1_000,
            operator: false,
        }
    }
}

/// A connection to one coordinator, for one transaction at a time.
#[derive(Debug)]
pub struct Client {
    address: String,
    options: ClientOptions,
    number: u64,
    serial: u32,
    node: NodeId,
    /// Of the node, as its last answer has shown it.
    position: Position,
    /// When that answer arrived; `None` if there was none in this incarnation.
    position_at: Option<Instant>,
    /// Questions for the position so far: each has another id.
    refreshes: u16,
    /// Requests without a known outcome: the node must not forget any from the first of them on.
    unanswered: BTreeMap<RequestNumber, RequestHandle>,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    frames: Frames<OwnedReadHalf>,
    out: OwnedWriteHalf,
}

// A node that reads nothing for so long is as good as gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that has had no answer for so long asks for the node's position.
// A node that begins 50,000 transactions a second forgets a client after two seconds.
const POSITION_MAX_AGE: Duration = Duration::from_secs(1);

/// First pause before the next attempt.
// A conflict lasts as long as the other transaction holds its locks, often a few messages.
const RETRY_PAUSE_MS_MIN: u64 = 1;

/// The longest such pause.
const RETRY_PAUSE_MS_MAX: u64 = 64;

impl Client {
    /// Connects to the node that listens at `address`.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] or [`ClientError::Refused`].
    pub async fn connect(address: &str, options: ClientOptions) -> Result<Client, ClientError> {
        let number = options.number.unwrap_or_else(|| entropy().max(1));
        let mut client = Client {
            address: address.to_owned(),
            number,
            serial: 0,
            node: NodeId(0),
            position: Position::default(),
            position_at: None,
            refreshes: 0,
            unanswered: BTreeMap::new(),
            connection: None,
            options,
        };
        let deadline = after(client.options.request_timeout);
        client.ensure_connected(deadline).await?;
        Ok(client)
    }

    /// The node that this client is connected to.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The client's number, part of its request ids.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Goes on as a client that has sent nothing so far, over the same connection: for
    /// measurements.
    #[doc(hidden)]
    pub fn become_another(&mut self) {
        self.number = entropy().max(1);
        self.serial = 0;
        self.unanswered.clear();
        self.position_at = None;
    }

    /// Executes all of `ops` or none. See the [module](self) for what is retried.
    ///
    /// # Errors
    /// [`ClientError`] if nothing was executed and nothing will be: no node was reachable, or it
    /// accepted no request. After a request was sent, every failure is [`TxResult::Unknown`].
    pub async fn transact(&mut self, ops: impl Into<Arc<[Op]>>) -> Result<TxResult, ClientError> {
        self.serial += 1;
        let ops = ops.into();
        let serial = self.serial;
        let deadline = after(self.options.request_timeout);
        let first = RequestId { client: self.number, serial, attempt: 0 };
        let mut began_at = None;
        let mut pause_ms = RETRY_PAUSE_MS_MIN;
        let mut attempt = 0;
        loop {
            self.ensure_connected(deadline).await?;
            self.refresh_position(deadline).await?;
            let id = RequestId { attempt, ..first };
            let handle = RequestHandle { node: self.node, addressed: self.position, id };
            // Before it is sent: from that moment on the node may have executed it.
            self.unanswered.insert(RequestNumber::of(id), handle);
            // The node may forget everything below the first request without a known outcome.
            let (&seen, _) = self.unanswered.first_key_value().expect("just inserted");
            let request = Request::Transact {
                addressed: handle.addressed,
                began_at,
                seen,
                ops: Arc::clone(&ops),
            };
            let result = match self.send_until_answered(handle, &request, deadline).await {
                // The only copy was not executed: its address was too old, and this answer has
                // brought the present one.
                Ok(Some(Answered { response, is_only_copy: true }))
                    if response.outcome == Outcome::Unknown
                        && attempt + 1 < self.options.attempts =>
                {
                    self.unanswered.remove(&RequestNumber::of(id));
                    attempt += 1;
                    continue;
                }
                Ok(Some(Answered { response, .. })) => {
                    began_at = response.began_at.or(began_at);
                    self.record_outcome(handle, response.outcome)
                }
                Ok(None) => {
                    return Ok(TxResult::Unknown { handle, reason: UnknownReason::NoAnswer });
                }
                Err(error) => {
                    // It was never sent, so there is no answer to wait for.
                    self.unanswered.remove(&RequestNumber::of(id));
                    return Err(error);
                }
            };
            let TxResult::Aborted { reason, .. } = result else { return Ok(result) };
            // Jitter, so that two clients that conflict do not meet again at the same moment.
            let pause = Duration::from_millis(pause_ms + entropy() % pause_ms);
            attempt += 1;
            if !is_retryable(reason)
                || attempt >= self.options.attempts
                // An attempt that would begin after the deadline cannot be answered in time.
                || Instant::now() + pause >= deadline
            {
                return Ok(result);
            }
            sleep(pause).await;
            pause_ms = (pause_ms * 2).min(RETRY_PAUSE_MS_MAX);
        }
    }

    /// The outcome of a request that some client once sent to this node.
    ///
    /// # Errors
    /// [`ClientError`] if the node cannot be reached, or is not the node in the handle.
    pub async fn outcome(&mut self, handle: RequestHandle) -> Result<TxResult, ClientError> {
        let deadline = after(self.options.request_timeout);
        match self
            .send_until_answered(
                handle,
                &Request::Outcome { addressed: handle.addressed },
                deadline,
            )
            .await?
        {
            None => Ok(TxResult::Unknown { handle, reason: UnknownReason::NoAnswer }),
            Some(Answered { response, .. }) => Ok(self.record_outcome(handle, response.outcome)),
        }
    }

    /// The node's status, as JSON.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if it does not answer in time.
    pub async fn status_json(&mut self) -> Result<String, ClientError> {
        let deadline = after(self.options.request_timeout);
        loop {
            self.ensure_connected(deadline).await?;
            match self.status_once().await {
                Ok(json) => return Ok(json),
                Err(error) => self.drop_connection(&error),
            }
        }
    }

    /// The node's status.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if it does not answer in time, [`ClientError::Malformed`] if it
    /// has another version.
    pub async fn status(&mut self) -> Result<Status<View>, ClientError> {
        let json = self.status_json().await?;
        serde_json::from_str(&json).map_err(|error| ClientError::Malformed {
            address: self.address.clone(),
            reason: error.to_string(),
        })
    }

    async fn status_once(&mut self) -> Result<String, StreamError> {
        let request_timeout = self.options.resend_after;
        let connection = self.connection.as_mut().expect("connected before");
        write_value(&mut connection.out, &ClientPacket::<Request>::Status, WRITE_TIMEOUT).await?;
        loop {
            match connection.frames.next::<ClientReply<Response>>(request_timeout).await? {
                None => return Err(StreamError::UnexpectedEof),
                Some(ClientReply::Status { json }) => return Ok(json),
                Some(
                    ClientReply::Answer { .. }
                    | ClientReply::Rejected { .. }
                    | ClientReply::Pong
                    | ClientReply::Undecodable { .. },
                ) => {}
            }
        }
    }

    /// Records a final outcome: its request is no longer unanswered.
    fn record_outcome(&mut self, handle: RequestHandle, outcome: Outcome) -> TxResult {
        let result = match outcome {
            Outcome::Committed { reads } => TxResult::Committed { handle, reads },
            Outcome::Aborted { reason } => TxResult::Aborted { handle, reason },
            Outcome::Unknown => {
                return TxResult::Unknown { handle, reason: UnknownReason::NotKnown };
            }
        };
        // The outcome may be that of another client's request.
        // Another client's request may have the same number, but not the same handle.
        if self.unanswered.get(&RequestNumber::of(handle.id)) == Some(&handle) {
            self.unanswered.remove(&RequestNumber::of(handle.id));
        }
        result
    }

    /// Sends the same request under the same id until there is an answer. `None` after the timeout,
    /// or when the node of the handle is not reachable any more.
    async fn send_until_answered(
        &mut self,
        handle: RequestHandle,
        request: &Request,
        deadline: Instant,
    ) -> Result<Option<Answered>, ClientError> {
        let mut sent = false;
        loop {
            match self.connect_to_node_of(handle, deadline).await {
                Ok(()) => {}
                // The request may have been executed, whether or not the node is reachable now.
                // From the first send on, "nothing was executed" is not known any more.
                Err(_) if sent => return Ok(None),
                Err(error) => return Err(error),
            }
            // The request may be lost in a connection that looks alive, so it is sent again without
            // an error.
            let until = deadline.min(after(self.options.resend_after));
            let answered = timeout_at(until, self.send_once(handle.id, request)).await;
            match answered {
                Ok(Ok(Answer::Response(response))) => {
                    self.learn_position(response.position);
                    return Ok(Some(Answered { response, is_only_copy: !sent }));
                }
                Ok(Ok(Answer::Rejected(reason))) if !sent => {
                    let reason = match reason {
                        RejectReason::Closing => "shutting down",
                        RejectReason::Busy => "too busy",
                    };
                    return Err(ClientError::Rejected { address: self.address.clone(), reason });
                }
                Ok(Ok(Answer::Undecodable(reason))) => {
                    // The answer names no request: on this connection it could be taken for the
                    // answer to the next one.
                    self.connection = None;
                    // The node that received an earlier copy may have been of another version; this
                    // one will never decode it.
                    if sent {
                        return Ok(None);
                    }
                    let address = self.address.clone();
                    return Err(ClientError::Undecodable { address, reason });
                }
                // An earlier copy may have been accepted, so the rejection of this one proves
                // nothing.
                Ok(Ok(Answer::Rejected(_))) => sleep(Duration::from_millis(50)).await,
                Ok(Err(error)) => self.drop_connection(&error),
                Err(_) => {}
            }
            sent = true;
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }

    /// The next request must be addressed to the incarnation that will execute it.
    fn learn_position(&mut self, position: Position) {
        if position.incarnation == self.position.incarnation {
            self.position = position.max(self.position);
        // Of two incarnations of one number, only one answers.
        } else if position.incarnation.number() >= self.position.incarnation.number() {
            self.position = position;
        }
        self.position_at = Some(Instant::now());
    }

    /// Asks the node for its position, if it is not known or [`POSITION_MAX_AGE`] old.
    async fn refresh_position(&mut self, deadline: Instant) -> Result<(), ClientError> {
        if self.position_at.is_some_and(|at| at.elapsed() < POSITION_MAX_AGE) {
            return Ok(());
        }
        // Requests have serials from 1, so this one has no outcome. A late answer to an earlier
        // question is not taken for the answer to this one.
        self.refreshes = self.refreshes.wrapping_add(1);
        let id = RequestId { client: self.number, serial: 0, attempt: self.refreshes };
        let handle = RequestHandle { node: self.node, addressed: self.position, id };
        let query = Request::Outcome { addressed: self.position };
        match self.send_until_answered(handle, &query, deadline).await? {
            Some(_) => Ok(()),
            None => Err(ClientError::Unreachable {
                address: self.address.clone(),
                reason: "no answer in time".to_owned(),
            }),
        }
    }

    async fn send_once(&mut self, id: RequestId, request: &Request) -> Result<Answer, StreamError> {
        let request_timeout = self.options.request_timeout;
        let connection = self.connection.as_mut().expect("connected before");
        let packet = ClientPacket::Request { id, request: request.clone() };
        write_value(&mut connection.out, &packet, WRITE_TIMEOUT).await?;
        loop {
            match connection.frames.next::<ClientReply<Response>>(request_timeout).await? {
                None => return Err(StreamError::UnexpectedEof),
                Some(ClientReply::Answer { id: other, response }) if other == id => {
                    return Ok(Answer::Response(response));
                }
                Some(ClientReply::Rejected { id: other, reason }) if other == id => {
                    return Ok(Answer::Rejected(reason));
                }
                Some(ClientReply::Undecodable { reason }) => {
                    return Ok(Answer::Undecodable(reason));
                }
                // The answer to an earlier request, which was sent more than once.
                Some(
                    ClientReply::Answer { .. }
                    | ClientReply::Rejected { .. }
                    | ClientReply::Status { .. }
                    | ClientReply::Pong,
                ) => {}
            }
        }
    }

    /// Connects to the node in the handle. Another node at the same address would not know the
    /// request, and would execute it again if it is in the same incarnation.
    async fn connect_to_node_of(
        &mut self,
        handle: RequestHandle,
        deadline: Instant,
    ) -> Result<(), ClientError> {
        self.ensure_connected(deadline).await?;
        if self.node == handle.node {
            return Ok(());
        }
        Err(ClientError::WrongNode { handle, address: self.address.clone(), node: self.node })
    }

    fn drop_connection(&mut self, error: &StreamError) {
        tracing::info!(address = %self.address, "connection lost: {error}");
        self.connection = None;
    }

    /// Ensures that there is a connection, retrying until `deadline`.
    async fn ensure_connected(&mut self, deadline: Instant) -> Result<(), ClientError> {
        // A node that restarts is back within milliseconds; the pauses grow for one that is down.
        let mut backoff = Duration::from_millis(10);
        let mut last = "no time was left to try".to_owned();
        while self.connection.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::Unreachable {
                    address: self.address.clone(),
                    reason: last,
                });
            }
            match timeout(left, self.dial()).await {
                Ok(Ok(())) => return Ok(()),
                // A refusal is an answer: the same node would refuse the next attempt, too.
                Ok(Err(DialError::Refused(reason))) => {
                    return Err(ClientError::Refused { address: self.address.clone(), reason });
                }
                Ok(Err(DialError::Failed(reason))) => last = reason.to_string(),
                Err(_) => last = "no answer in time".to_owned(),
            }
            sleep(backoff.min(deadline.saturating_duration_since(Instant::now()))).await;
            backoff = (backoff * 2).min(Duration::from_millis(200));
        }
        Ok(())
    }

    async fn dial(&mut self) -> Result<(), DialError> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let (from, mut out) = stream.into_split();
        let mut frames = Frames::new(from, FRAME_BYTES_MAX);
        let caller = if self.options.operator { Caller::Operator } else { Caller::Client };
        let hello = Hello { cluster: self.options.cluster.clone(), caller };
        write_value(&mut out, &hello, WRITE_TIMEOUT).await?;
        match frames.next::<Welcome>(self.options.request_timeout).await? {
            None => Err(DialError::Failed(StreamError::UnexpectedEof)),
            Some(Welcome::Refused { reason }) => Err(DialError::Refused(reason)),
            Some(Welcome::Welcome { node, incarnation }) => {
                // The address may lead to another node than before; requests are checked against
                // it.
                if self.node != node || self.position.incarnation != incarnation {
                    self.position = Position { incarnation, serial: 0 };
                    self.position_at = None;
                }
                self.node = node;
                self.connection = Some(Connection { frames, out });
                Ok(())
            }
        }
    }
}

/// The answer to a request that may have been sent more than once.
struct Answered {
    response: Response,
    is_only_copy: bool,
}

enum Answer {
    Response(Response),
    Rejected(RejectReason),
    Undecodable(String),
}

enum DialError {
    Failed(StreamError),
    Refused(String),
}

impl From<StreamError> for DialError {
    fn from(error: StreamError) -> DialError {
        DialError::Failed(error)
    }
}

impl From<std::io::Error> for DialError {
    fn from(error: std::io::Error) -> DialError {
        DialError::Failed(StreamError::Io(error))
    }
}

fn is_retryable(reason: AbortReason) -> bool {
    match reason {
        AbortReason::Refused { refusal: Refusal::Conflict { .. } | Refusal::Aborted, .. }
        | AbortReason::TimedOut { .. }
        | AbortReason::Restarted => true,
        AbortReason::Refused {
            refusal: Refusal::Bound { .. } | Refusal::Overflow { .. }, ..
        }
        | AbortReason::Invalid(_) => false,
    }
}
