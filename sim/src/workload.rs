//! Workloads: a list of planned requests with their own ids, and how a client continues without a
//! response. Clients use true time; only their links have faults.

use std::fmt;
use std::num::TryFromIntError;

use serde::{Deserialize, Serialize};
use stormglass_node::{Micros, Node, NodeId, RequestId};

use crate::property::Sometimes;

/// The clients of a run.
pub trait Workload<N: Node>: Clone {
    /// Handles one event; adds requests and timers to `actions`.
    fn on(&mut self, now: Micros, event: ClientEvent<'_, N>, actions: &mut ClientActions<N>);
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
    Healed,
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

/// The simplest workload: each client sends its requests one after another, resends each until it
/// is answered, and stops when the fault phase ends.
#[derive(Clone, Debug)]
pub struct RetryingClients<N: Node> {
    requests: Vec<PlannedRequest<N::Request>>,
    clients: Vec<RetryingClient>,
    retry_after: Micros,
    stopped: bool,
}

/// One client of [`RetryingClients`].
#[derive(Clone, Debug, Default)]
struct RetryingClient {
    /// How many of its requests have been answered.
    answered: usize,
    /// When it sends next.
    due_at: Micros,
}

impl<N: Node> RetryingClients<N> {
    /// These requests, resent every `retry_after` until answered.
    pub fn new(requests: Vec<PlannedRequest<N::Request>>, retry_after: Micros) -> Self {
        let clients = requests.iter().map(|planned| planned.id.client as usize).max().unwrap_or(0);
        RetryingClients {
            requests,
            clients: vec![RetryingClient::default(); clients],
            retry_after,
            stopped: false,
        }
    }

    /// `None` after the last request of a client, and for one without any.
    fn current(&self, client: ClientId) -> Option<&PlannedRequest<N::Request>> {
        let answered = self.clients.get(client.index())?.answered;
        let mut client_requests =
            self.requests.iter().filter(|planned| planned.id.client == u64::from(client));
        client_requests.nth(answered)
    }

    fn plan_next(&mut self, now: Micros, client: ClientId, actions: &mut ClientActions<N>) {
        match self.current(client).map(|planned| planned.after) {
            None => {}
            // At once: a timer of no duration would be an event more.
            Some(Micros::ZERO) => self.send_next(now, client, actions),
            Some(after) => self.set_timer_for(now + after, client, actions),
        }
    }

    fn send_next(&mut self, now: Micros, client: ClientId, actions: &mut ClientActions<N>) {
        let Some(planned) = self.current(client).cloned() else { return };
        actions.send_request(planned.id, planned.node, planned.request);
        self.set_timer_for(now + self.retry_after, client, actions);
    }

    fn set_timer_for(&mut self, until: Micros, client: ClientId, actions: &mut ClientActions<N>) {
        self.clients[client.index()].due_at = until;
        actions.set_timer(until, client);
    }
}

impl<N: Node> Workload<N> for RetryingClients<N> {
    fn on(&mut self, now: Micros, event: ClientEvent<'_, N>, actions: &mut ClientActions<N>) {
        // A client that resends for ever would keep the cluster from becoming quiescent.
        if self.stopped {
            return;
        }
        match event {
            ClientEvent::Start => {
                for client in ClientId::all(self.clients.len() as u32) {
                    self.plan_next(now, client, actions);
                }
            }
            // Answers come twice and late: only one to the current request counts.
            ClientEvent::Answer { id, .. } => {
                let client = ClientId::try_from(id.client).expect("the receiver of the response");
                if self.current(client).is_some_and(|current| current.id == id) {
                    self.clients[client.index()].answered += 1;
                    self.plan_next(now, client, actions);
                }
            }
            ClientEvent::Timer { client } => {
                // Timers cannot be cancelled: one that was set for an answered request rings early.
                if now >= self.clients[client.index()].due_at {
                    self.send_next(now, client, actions);
                }
            }
            ClientEvent::Healed => self.stopped = true,
            // Which request shows that the system still works depends on the protocol.
            ClientEvent::Probe => {}
        }
    }
}
