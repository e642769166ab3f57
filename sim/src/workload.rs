//! Workloads: a list of planned requests with their own ids, and how a client continues without a
//! response. Clients use true time; only their links have faults.

mod retrying;

use std::fmt;
use std::num::TryFromIntError;

use serde::{Deserialize, Serialize};
use stormglass_node::{Micros, Node, NodeId, RequestId};

pub use retrying::{Answered, AnsweredBy, ClientBehaviour, RetryingClients};

use crate::property::Sometimes;

/// The clients of a run.
pub trait Workload<N: Node> {
    /// Handles one event; adds requests and timers to `actions`.
    fn on(&mut self, now: Micros, event: ClientEvent<'_, N>, actions: &mut ClientActions<N>);
    /// Whether a client waits for an answer that may still come; false by default. A run that ends
    /// once all are answered asks after each event of its recovery.
    fn is_waiting(&self) -> bool {
        false
    }
    /// A request that was sent and is not answered; `None` if there is none, and by default.
    fn first_unanswered(&self) -> Option<RequestId> {
        None
    }
    /// Adds the `sometimes` counters of the clients in this run.
    fn sometimes(&self, _rows: &mut Sometimes) {}
}

/// A client of a simulated cluster, counted from 1. Prints as `c1`.
///
/// In a [`RequestId`] its number has 64 bits, and a message with a flipped bit may carry one that
/// is no client's: that conversion can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientId(pub u32);

impl ClientId {
    /// The clients of a run with this many, in order.
    pub fn all(count: u32) -> impl DoubleEndedIterator<Item = ClientId> {
        (1..=count).map(ClientId)
    }

    /// Whether a run with this many clients has this one.
    #[inline]
    pub fn is_among(self, count: u32) -> bool {
        (1..=count).contains(&self.0)
    }

    /// The position of this client in a list of all, from 0.
    ///
    /// # Panics
    /// If the number is 0, which is no client's.
    #[inline]
    pub fn index(self) -> usize {
        self.0.checked_sub(1).expect("clients are counted from 1") as usize
    }
}

impl TryFrom<u64> for ClientId {
    type Error = TryFromIntError;

    /// The client of this [`RequestId::client`], if it fits.
    #[inline]
    fn try_from(number: u64) -> Result<ClientId, TryFromIntError> {
        u32::try_from(number).map(ClientId)
    }
}

impl From<ClientId> for u64 {
    /// The [`RequestId::client`] of this client.
    #[inline]
    fn from(client: ClientId) -> u64 {
        client.0.into()
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// An event of the clients.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum ClientEvent<'a, N: Node> {
    /// The run begins.
    Start,
    /// A node has responded. Responses may arrive twice, late, or never.
    Answer {
        from: NodeId,
        /// The request of the response.
        id: RequestId,
        response: &'a N::Response,
    },
    /// A timer of this client; timers cannot be cancelled.
    Timer { client: ClientId },
    /// The fault phase is over: finish open requests, start no new ones.
    Healed {
        /// The nodes that will answer nothing from now on.
        permanently_down: &'a [NodeId],
    },
    /// The cluster is quiescent: send requests that show whether it still works. Not called while
    /// nodes are down.
    Probe,
}

/// The actions of the clients.
#[derive(Clone, Debug)]
pub struct ClientActions<N: Node> {
    pub(crate) requests: Vec<(RequestId, NodeId, N::Request)>,
    pub(crate) timers: Vec<(Micros, ClientId)>,
}

impl<N: Node> Default for ClientActions<N> {
    fn default() -> Self {
        ClientActions { requests: Vec::new(), timers: Vec::new() }
    }
}

impl<N: Node> ClientActions<N> {
    pub(crate) fn clear(&mut self) {
        let ClientActions { requests, timers } = self;
        requests.clear();
        timers.clear();
    }

    /// Sends a request to a node, over the link of `id.client`.
    pub fn send_request(&mut self, id: RequestId, node: NodeId, request: N::Request) {
        self.requests.push((id, node, request));
    }

    /// Sets a timer for `client`, in true time.
    pub fn set_timer(&mut self, at: Micros, client: ClientId) {
        self.timers.push((at, client));
    }
}

/// A planned request: a line of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRequest<O> {
    /// Client and serial; the attempt is 0.
    pub id: RequestId,
    /// The receiver.
    pub node: NodeId,
    /// How long the client waits before it sends the request, from the end of its previous one.
    pub after: Micros,
    /// The request itself.
    pub request: O,
}

impl<O> PlannedRequest<O> {
    /// The same plan for another form of the request.
    pub fn map<T>(self, change: impl FnOnce(O) -> T) -> PlannedRequest<T> {
        let PlannedRequest { id, node, after, request } = self;
        PlannedRequest { id, node, after, request: change(request) }
    }
}
