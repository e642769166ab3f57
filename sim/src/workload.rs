//! What clients want: an explicit list of requests with names of their own, and how a client goes on when it is not
//! answered. Clients live in true time; only their links are stormy.

use stormglass::{Node, NodeId, RequestId};

use crate::oracle::Sometimes;

/// The clients of a run.
pub trait Workload<N: Node>: Clone {
    /// Reacts to one event; what is to be done goes into `calls`.
    fn on(&mut self, now_us: u64, event: ClientEvent<'_, N>, calls: &mut Calls<N>);
    /// Adds what the clients saw in this run and should sometimes see.
    fn sometimes(&self, _rows: &mut Sometimes) {}
}

/// What can happen to the clients.
#[derive(Debug)]
pub enum ClientEvent<'a, N: Node> {
    /// The run begins.
    Start,
    /// A node has answered. Answers may come twice, late, or never.
    Answer {
        /// Who answers.
        from: NodeId,
        /// The request that is answered.
        id: RequestId,
        /// What.
        response: &'a N::Response,
    },
    /// A timer of this client that was set earlier; timers are not cancelled.
    Timer {
        /// Whose.
        client: u32,
    },
    /// The storm is over: finish what is open, begin nothing new.
    Cleared,
    /// All is quiet: ask for whatever shows that the system still works. Not called while nodes are dead.
    Probe,
}

/// What the clients want done.
#[derive(Clone, Debug)]
pub struct Calls<N: Node> {
    pub(crate) asks: Vec<(RequestId, NodeId, N::Request)>,
    pub(crate) timers: Vec<(u64, u32)>,
}

impl<N: Node> Default for Calls<N> {
    fn default() -> Self {
        Calls { asks: Vec::new(), timers: Vec::new() }
    }
}

impl<N: Node> Calls<N> {
    /// Sends a request to a node, over the link of `id.client`.
    pub fn ask(&mut self, id: RequestId, node: NodeId, request: N::Request) {
        self.asks.push((id, node, request));
    }

    /// Sets a timer for `client`, in true time.
    pub fn wake_at(&mut self, at_us: u64, client: u32) {
        self.timers.push((at_us, client));
    }
}

/// The simplest workload: each client asks its requests one after another, repeats each until it is answered, and
/// stops when the storm does.
#[derive(Clone, Debug)]
pub struct Repeat<N: Node> {
    wishes: Vec<(RequestId, NodeId, N::Request)>,
    /// For each client, from 1: the index of the wish it is at.
    at: Vec<usize>,
    /// For each client: when it asks again.
    due_us: Vec<u64>,
    every_us: u64,
    stopped: bool,
}

impl<N: Node> Repeat<N> {
    /// These requests, asked again every `every_us` microseconds until answered.
    pub fn new(wishes: Vec<(RequestId, NodeId, N::Request)>, every_us: u64) -> Self {
        let clients = wishes.iter().map(|(id, ..)| id.client as usize).max().unwrap_or(0);
        Repeat { wishes, at: vec![0; clients + 1], due_us: vec![0; clients + 1], every_us, stopped: false }
    }

    fn current(&self, client: u32) -> Option<&(RequestId, NodeId, N::Request)> {
        let of_client = self.wishes.iter().filter(|(id, ..)| id.client == client);
        of_client.clone().nth(self.at[client as usize])
    }

    fn ask(&mut self, now_us: u64, client: u32, calls: &mut Calls<N>) {
        let Some((id, node, request)) = self.current(client).cloned() else { return };
        calls.ask(id, node, request);
        self.due_us[client as usize] = now_us + self.every_us;
        calls.wake_at(now_us + self.every_us, client);
    }
}

impl<N: Node> Workload<N> for Repeat<N> {
    fn on(&mut self, now_us: u64, event: ClientEvent<'_, N>, calls: &mut Calls<N>) {
        if self.stopped {
            return;
        }
        match event {
            ClientEvent::Start => {
                (1..self.at.len()).for_each(|client| self.ask(now_us, client as u32, calls))
            }
            ClientEvent::Answer { id, .. } => {
                if self.current(id.client).is_some_and(|(current, ..)| *current == id) {
                    self.at[id.client as usize] += 1;
                    self.ask(now_us, id.client, calls);
                }
            }
            ClientEvent::Timer { client } => {
                if now_us >= self.due_us[client as usize] {
                    self.ask(now_us, client, calls);
                }
            }
            ClientEvent::Cleared => self.stopped = true,
            ClientEvent::Probe => {}
        }
    }
}
