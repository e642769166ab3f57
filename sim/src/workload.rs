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
        client: u64,
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
    pub fn wake_at(&mut self, at_us: u64, client: u64) {
        let client = u32::try_from(client).expect("a client of this world");
        self.timers.push((at_us, client));
    }
}

/// One thing that a client wants, under a name of its own: a line of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish<O> {
    /// Client and serial; the attempt is 0.
    pub id: RequestId,
    /// Whom it asks.
    pub node: NodeId,
    /// How long the client waits before it asks, counted from the end of its last wish, in microseconds.
    pub after_us: u64,
    /// What it wants.
    pub what: O,
}

/// The simplest workload: each client asks its requests one after another, repeats each until it is answered, and
/// stops when the storm does.
#[derive(Clone, Debug)]
pub struct Repeat<N: Node> {
    wishes: Vec<Wish<N::Request>>,
    clients: Vec<Repeater>,
    every_us: u64,
    stopped: bool,
}

/// One client of [`Repeat`].
#[derive(Clone, Debug, Default)]
struct Repeater {
    /// How many of its wishes have been answered.
    at: usize,
    /// When it asks, for the first time or again.
    due_us: u64,
}

impl<N: Node> Repeat<N> {
    /// These requests, asked again every `every_us` microseconds until answered.
    pub fn new(wishes: Vec<Wish<N::Request>>, every_us: u64) -> Self {
        let clients = wishes.iter().map(|wish| wish.id.client as usize).max().unwrap_or(0);
        Repeat { wishes, clients: vec![Repeater::default(); clients + 1], every_us, stopped: false }
    }

    fn current(&self, client: u64) -> Option<&Wish<N::Request>> {
        let mut of_client = self.wishes.iter().filter(|wish| wish.id.client == client);
        of_client.nth(self.clients[client as usize].at)
    }

    fn think(&mut self, now_us: u64, client: u64, calls: &mut Calls<N>) {
        match self.current(client).map(|wish| wish.after_us) {
            None => {}
            Some(0) => self.ask(now_us, client, calls),
            Some(after_us) => self.wait(now_us + after_us, client, calls),
        }
    }

    fn ask(&mut self, now_us: u64, client: u64, calls: &mut Calls<N>) {
        let Some(wish) = self.current(client).cloned() else { return };
        calls.ask(wish.id, wish.node, wish.what);
        self.wait(now_us + self.every_us, client, calls);
    }

    fn wait(&mut self, until_us: u64, client: u64, calls: &mut Calls<N>) {
        self.clients[client as usize].due_us = until_us;
        calls.wake_at(until_us, client);
    }
}

impl<N: Node> Workload<N> for Repeat<N> {
    fn on(&mut self, now_us: u64, event: ClientEvent<'_, N>, calls: &mut Calls<N>) {
        if self.stopped {
            return;
        }
        match event {
            ClientEvent::Start => {
                (1..self.clients.len()).for_each(|client| self.think(now_us, client as u64, calls));
            }
            ClientEvent::Answer { id, .. } => {
                if self.current(id.client).is_some_and(|current| current.id == id) {
                    self.clients[id.client as usize].at += 1;
                    self.think(now_us, id.client, calls);
                }
            }
            ClientEvent::Timer { client } => {
                if now_us >= self.clients[client as usize].due_us {
                    self.ask(now_us, client, calls);
                }
            }
            ClientEvent::Cleared => self.stopped = true,
            ClientEvent::Probe => {}
        }
    }
}
