//! A client of atomic commitment over TCP, with typed results.
//!
//! # Retries
//!
//! Three kinds, each harmless for its own reason:
//!
//! 1. *No answer, or the connection is lost.* The very same request, name and life included, is asked again, over a new
//!    connection if need be, but only of the same node: a name is addressed to nobody else. There it is executed at most
//!    once and looked up ever after, by whichever life of the node is there then; so this is never a second execution.
//! 2. *Refused for a conflict, timed out, or the coordinator has restarted.* The answer is "aborted", and final for that
//!    name. The wish is uttered again under a new name (the next attempt) with its old age, so that it wins in the end.
//!    This is done at most [`ClientOptions::attempts`] times.
//! 3. *Refused for a bound, an overflow, or not a transaction.* Never tried again: the answer would be the same.
//!
//! When [`ClientOptions::patience`] is over without an answer, the result is [`Settled::Unknown`] with the request's name.
//! [`Client::outcome`] asks for that name later, from any process.

mod name;
mod settled;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, sleep, timeout, timeout_at};

pub use name::{Name, NoName};
pub use settled::{ClientError, Doubt, Settled};

use super::clock::{after, wall_us};
use super::packet::{Caller, ClientEcho, ClientPacket, Hello, TurnedAway, Welcome};
use super::serve::Status;
use super::start::entropy;
use super::stream::{FRAME_BYTES_MAX, Frames, StreamError, say};
use crate::commit::view::View;
use crate::commit::{Age, No, Op, Outcome, Request, Response, Turn, Why};
use crate::id::{Incarnation, NodeId, RequestId};

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The cluster that the node must be of.
    pub cluster: String,
    /// The number under which this client's requests are named; no two clients may share one: the second would be
    /// told what became of the first one's requests. Drawn from 64 bits if `None`.
    pub number: Option<u64>,
    /// How long to wait for an answer, and for a connection, all retries included.
    pub patience: Duration,
    /// After how long without an answer the same request is asked again.
    pub ask_again: Duration,
    /// How often a wish is uttered at most; at least 1.
    pub attempts: u16,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            cluster: "stormglass".to_owned(),
            number: None,
            patience: Duration::from_secs(10),
            ask_again: Duration::from_secs(2),
            attempts: 1_000,
        }
    }
}

/// A connection to one coordinator, for one wish at a time.
#[derive(Debug)]
pub struct Client {
    address: String,
    options: ClientOptions,
    number: u64,
    serial: u32,
    node: NodeId,
    life: Incarnation,
    /// Names whose answer nobody has seen: nothing from the first of them on may be forgotten.
    open: BTreeMap<Turn, Name>,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    frames: Frames<OwnedReadHalf>,
    out: OwnedWriteHalf,
}

const WRITE_PATIENCE: Duration = Duration::from_secs(5);

/// First and longest pause before a wish is uttered again.
const PAUSE_MS: (u64, u64) = (1, 64);

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
            life: Incarnation(0),
            open: BTreeMap::new(),
            connection: None,
            options,
        };
        let deadline = after(client.options.patience);
        client.connected(deadline).await?;
        Ok(client)
    }

    /// The node at the other end.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The number under which this client's requests are named.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Does all of `ops` or nothing. See the [module](self) for what is tried again.
    ///
    /// # Errors
    /// [`ClientError`] if nothing was done and nothing will be: no node was there, or it took no request. Once a request
    /// has left, whatever happens then is [`Settled::Unknown`] at worst.
    pub async fn transact(&mut self, ops: impl Into<Arc<[Op]>>) -> Result<Settled, ClientError> {
        self.serial += 1;
        let ops = ops.into();
        let serial = self.serial;
        let deadline = after(self.options.patience);
        let first = RequestId { client: self.number, serial, attempt: 0 };
        let age = Age { at: wall_us(), by: first };
        let mut pause_ms = PAUSE_MS.0;
        let mut attempt = 0;
        loop {
            self.connected(deadline).await?;
            let id = RequestId { attempt, ..first };
            let name = Name { node: self.node, life: self.life, id };
            self.open.insert(Turn::of(id), name);
            let (&seen, _) = self.open.first_key_value().expect("just inserted");
            let request = Request::Transact { life: name.life, age, seen, ops: Arc::clone(&ops) };
            let settled = match self.ask(name, &request, deadline).await {
                Ok(Some(response)) => self.settle(name, response.outcome),
                Ok(None) => return Ok(Settled::Unknown { name, doubt: Doubt::Silence }),
                Err(error) => {
                    // It never left, so there is no answer to wait for.
                    self.open.remove(&Turn::of(id));
                    return Err(error);
                }
            };
            let Settled::Aborted { why, .. } = settled else { return Ok(settled) };
            let pause = Duration::from_millis(pause_ms + entropy() % pause_ms);
            attempt += 1;
            if !worth_another(why) || attempt >= self.options.attempts || Instant::now() + pause >= deadline {
                return Ok(settled);
            }
            sleep(pause).await;
            pause_ms = (pause_ms * 2).min(PAUSE_MS.1);
        }
    }

    /// What became of a request that some client once made of this node.
    ///
    /// # Errors
    /// [`ClientError`] if the node cannot be asked, or is not the one that the name says.
    pub async fn outcome(&mut self, name: Name) -> Result<Settled, ClientError> {
        let deadline = after(self.options.patience);
        match self.ask(name, &Request::Outcome { life: name.life }, deadline).await? {
            None => Ok(Settled::Unknown { name, doubt: Doubt::Silence }),
            Some(response) => Ok(self.settle(name, response.outcome)),
        }
    }

    /// What the node says of itself, as JSON.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if it does not answer in time.
    pub async fn status_json(&mut self) -> Result<String, ClientError> {
        let deadline = after(self.options.patience);
        loop {
            self.connected(deadline).await?;
            match self.status_once().await {
                Ok(json) => return Ok(json),
                Err(error) => self.lost(&error),
            }
        }
    }

    /// What the node says of itself.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if it does not answer in time, [`ClientError::Malformed`] if it is of another version.
    pub async fn status(&mut self) -> Result<Status<View>, ClientError> {
        let json = self.status_json().await?;
        let malformed = |error: serde_json::Error| ClientError::Malformed {
            address: self.address.clone(),
            why: error.to_string(),
        };
        serde_json::from_str(&json).map_err(malformed)
    }

    async fn status_once(&mut self) -> Result<String, StreamError> {
        let patience = self.options.ask_again;
        let connection = self.connection.as_mut().expect("connected before");
        say(&mut connection.out, &ClientPacket::<Request>::Status, WRITE_PATIENCE).await?;
        loop {
            match connection.frames.next::<ClientEcho<Response>>(patience).await? {
                None => return Err(StreamError::CutShort),
                Some(ClientEcho::Status { json }) => return Ok(json),
                Some(ClientEcho::Answer { .. } | ClientEcho::TurnedAway { .. } | ClientEcho::Pong) => {}
            }
        }
    }

    /// An answer that is final was seen: its name is open no longer.
    fn settle(&mut self, name: Name, outcome: Outcome) -> Settled {
        let settled = match outcome {
            Outcome::Committed { reads } => Settled::Committed { name, reads },
            Outcome::Aborted { why } => Settled::Aborted { name, why },
            Outcome::Unknown => return Settled::Unknown { name, doubt: Doubt::Ignorance },
        };
        // An outcome may be that of any client's request.
        if self.open.get(&Turn::of(name.id)) == Some(&name) {
            self.open.remove(&Turn::of(name.id));
        }
        settled
    }

    /// Asks until there is an answer: the same request under the same name. `None` when the time is over, or when
    /// whoever the name is addressed to is not to be found any more.
    async fn ask(
        &mut self,
        name: Name,
        request: &Request,
        deadline: Instant,
    ) -> Result<Option<Response>, ClientError> {
        let mut asked = false;
        loop {
            match self.reach(name, deadline).await {
                Ok(()) => {}
                // It may have been done, whoever is there or not there now.
                Err(_) if asked => return Ok(None),
                Err(error) => return Err(error),
            }
            let until = deadline.min(after(self.options.ask_again));
            let answered = timeout_at(until, self.ask_once(name.id, request)).await;
            match answered {
                Ok(Ok(Answer::Response(response))) => {
                    self.life = self.life.max(response.life);
                    return Ok(Some(response));
                }
                Ok(Ok(Answer::TurnedAway(why))) if !asked => {
                    let why = match why {
                        TurnedAway::Closing => "shutting down",
                        TurnedAway::Busy => "too busy",
                    };
                    return Err(ClientError::TurnedAway { address: self.address.clone(), why });
                }
                Ok(Ok(Answer::TurnedAway(_))) => sleep(Duration::from_millis(50)).await,
                Ok(Err(error)) => self.lost(&error),
                Err(_) => {}
            }
            asked = true;
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }

    async fn ask_once(&mut self, id: RequestId, request: &Request) -> Result<Answer, StreamError> {
        let patience = self.options.patience;
        let connection = self.connection.as_mut().expect("connected before");
        let packet = ClientPacket::Ask { id, request: request.clone() };
        say(&mut connection.out, &packet, WRITE_PATIENCE).await?;
        loop {
            match connection.frames.next::<ClientEcho<Response>>(patience).await? {
                None => return Err(StreamError::CutShort),
                Some(ClientEcho::Answer { id: other, response }) if other == id => {
                    return Ok(Answer::Response(response));
                }
                Some(ClientEcho::TurnedAway { id: other, why }) if other == id => {
                    return Ok(Answer::TurnedAway(why));
                }
                // To an earlier question, asked more than once.
                Some(
                    ClientEcho::Answer { .. }
                    | ClientEcho::TurnedAway { .. }
                    | ClientEcho::Status { .. }
                    | ClientEcho::Pong,
                ) => {}
            }
        }
    }

    /// Makes sure that the node is there to which the name is addressed. Another one at the same address would not know
    /// the name, and do it all once more if it happens to be in the same life.
    async fn reach(&mut self, name: Name, deadline: Instant) -> Result<(), ClientError> {
        self.connected(deadline).await?;
        if self.node == name.node {
            return Ok(());
        }
        Err(ClientError::WrongNode { name, address: self.address.clone(), node: self.node })
    }

    fn lost(&mut self, error: &StreamError) {
        tracing::info!(address = %self.address, "connection lost: {error}");
        self.connection = None;
    }

    /// Makes sure that there is a connection, trying again until `deadline`.
    async fn connected(&mut self, deadline: Instant) -> Result<(), ClientError> {
        let mut backoff = Duration::from_millis(10);
        let mut last = "no time was left to try".to_owned();
        while self.connection.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::Unreachable { address: self.address.clone(), why: last });
            }
            match timeout(left, self.dial()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(Dial::Refused(why))) => {
                    return Err(ClientError::Refused { address: self.address.clone(), why });
                }
                Ok(Err(Dial::Failed(why))) => last = why.to_string(),
                Err(_) => last = "no answer in time".to_owned(),
            }
            sleep(backoff.min(deadline.saturating_duration_since(Instant::now()))).await;
            backoff = (backoff * 2).min(Duration::from_millis(200));
        }
        Ok(())
    }

    async fn dial(&mut self) -> Result<(), Dial> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let (from, mut out) = stream.into_split();
        let mut frames = Frames::new(from, FRAME_BYTES_MAX);
        let hello = Hello { cluster: self.options.cluster.clone(), caller: Caller::Client };
        say(&mut out, &hello, WRITE_PATIENCE).await?;
        match frames.next::<Welcome>(self.options.patience).await? {
            None => Err(Dial::Failed(StreamError::CutShort)),
            Some(Welcome::Refused { why }) => Err(Dial::Refused(why)),
            Some(Welcome::Welcome { node, life }) => {
                (self.node, self.life) = (node, life);
                self.connection = Some(Connection { frames, out });
                Ok(())
            }
        }
    }
}

enum Answer {
    Response(Response),
    TurnedAway(TurnedAway),
}

enum Dial {
    Failed(StreamError),
    Refused(String),
}

impl From<StreamError> for Dial {
    fn from(error: StreamError) -> Dial {
        Dial::Failed(error)
    }
}

impl From<std::io::Error> for Dial {
    fn from(error: std::io::Error) -> Dial {
        Dial::Failed(StreamError::Io(error))
    }
}

fn worth_another(why: Why) -> bool {
    match why {
        Why::Refused { no: No::Conflict { .. } | No::Aborted, .. }
        | Why::TimedOut { .. }
        | Why::Restarted => true,
        Why::Refused { no: No::Bound { .. } | No::Overflow { .. }, .. } | Why::Invalid(_) => false,
    }
}
