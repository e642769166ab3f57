//! Clients for any protocol: each sends its requests one after another, and resends each until it
//! is answered.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use stormglass_node::{Micros, Node, NodeId, RequestId};

use super::{ClientActions, ClientEvent, ClientId, PlannedRequest, Workload};

/// How clients continue without an answer, or with one that is not final.
pub struct ClientBehaviour<N: Node> {
    /// How long a client waits for an answer before it resends its request.
    pub retry_after: Micros,
    /// Whether it resends to the next node instead of the same one.
    pub fails_over: bool,
    /// Whether it resends after the fault phase, too, until it is answered. Otherwise it stops
    /// then, so that a cluster that does not answer becomes quiescent nevertheless.
    pub finishes: bool,
    /// For an answer that refers the client to another node: that node.
    pub redirect: Option<Redirect<N>>,
    /// Changes a planned request before it is sent for the first time.
    pub adapt: Option<Adapt<N>>,
    /// The request with which the first client probes each node after the recovery.
    pub probe: Option<Probe<N>>,
}

/// The serial of the first request of a probe: above every one of a schedule.
const PROBE_SERIAL: u32 = 2_000_000_000;

type Redirect<N> = Box<dyn Fn(&<N as Node>::Response) -> Option<NodeId> + Send + Sync>;
type Adapt<N> = Box<dyn Fn(&mut <N as Node>::Request, &[AnsweredBy<N>]) + Send + Sync>;
type Probe<N> = Box<dyn Fn(NodeId) -> <N as Node>::Request + Send + Sync>;

impl<N: Node> ClientBehaviour<N> {
    /// Clients that resend to the same node until the fault phase ends.
    pub fn resending_after(retry_after: Micros) -> Self {
        ClientBehaviour {
            retry_after,
            fails_over: false,
            finishes: false,
            redirect: None,
            adapt: None,
            probe: None,
        }
    }
}

impl<N: Node> fmt::Debug for ClientBehaviour<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBehaviour")
            .field("retry_after", &self.retry_after)
            .field("fails_over", &self.fails_over)
            .field("finishes", &self.finishes)
            .finish_non_exhaustive()
    }
}

/// A request of a client, with the answer to it.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Answered<Q, A> {
    pub id: RequestId,
    /// As it was sent.
    pub request: Q,
    pub response: A,
}

/// An answered request to nodes of this type.
pub type AnsweredBy<N> = Answered<<N as Node>::Request, <N as Node>::Response>;

/// The simplest workload: each client sends its requests one after another, resends each until it
/// is answered, and begins no new one after the fault phase. [`ClientBehaviour`] says the rest.
pub struct RetryingClients<N: Node> {
    clients: Vec<Client<N::Request, N::Response>>,
    behaviour: Arc<ClientBehaviour<N>>,
    nodes: u16,
    phase: Phase,
}

// By hand, as the next: a derived one asks for a node that is `Clone`.
impl<N: Node> Clone for RetryingClients<N> {
    fn clone(&self) -> Self {
        RetryingClients {
            clients: self.clients.clone(),
            behaviour: Arc::clone(&self.behaviour),
            nodes: self.nodes,
            phase: self.phase,
        }
    }
}

impl<N: Node> fmt::Debug for RetryingClients<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryingClients")
            .field("clients", &self.clients)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Faults,
    /// Open requests are finished, if the behaviour says so; none is begun.
    Recovery,
    Probe,
}

#[derive(Clone, Debug)]
struct Client<Q, A> {
    /// The requests that it has not begun, in order.
    planned: VecDeque<PlannedRequest<Q>>,
    /// The request that waits for an answer, as it was sent.
    open: Option<PlannedRequest<Q>>,
    /// The node that an answer has named last, or that a failover has led to.
    prefers: Option<NodeId>,
    /// Redirects since the last timeout or answer.
    redirects: u16,
    /// Its answers so far, if requests may be adapted to them.
    answers: Vec<Answered<Q, A>>,
    /// When it sends next.
    due_at: Micros,
    /// A request to a node that is permanently down, which is sent to no other.
    abandoned: Option<RequestId>,
}

impl<Q, A> Default for Client<Q, A> {
    fn default() -> Self {
        Client {
            planned: VecDeque::new(),
            open: None,
            prefers: None,
            redirects: 0,
            answers: Vec::new(),
            due_at: Micros::ZERO,
            abandoned: None,
        }
    }
}

impl<N: Node> RetryingClients<N> {
    /// These requests, resent every `retry_after` to the same node until answered, or until the
    /// fault phase ends.
    pub fn new(requests: Vec<PlannedRequest<N::Request>>, retry_after: Micros) -> Self {
        let nodes = requests.iter().map(|planned| planned.node.0 + 1).max().unwrap_or(1);
        let behaviour = ClientBehaviour::resending_after(retry_after);
        RetryingClients::with_behaviour(requests, nodes, Arc::new(behaviour))
    }

    /// These requests to a cluster of so many nodes, from clients that behave so.
    pub fn with_behaviour(
        requests: Vec<PlannedRequest<N::Request>>,
        nodes: u16,
        behaviour: Arc<ClientBehaviour<N>>,
    ) -> Self {
        let last = requests.iter().map(|planned| planned.id.client as usize).max();
        // A probe needs a client also where none has requests.
        let count = last.unwrap_or(0).max(usize::from(behaviour.probe.is_some()));
        let mut clients = vec![Client::default(); count];
        for planned in requests {
            let client = ClientId::try_from(planned.id.client).expect("a client of the plan");
            clients[client.index()].planned.push_back(planned);
        }
        RetryingClients { clients, behaviour, nodes, phase: Phase::Faults }
    }

    fn plan_next(&mut self, now: Micros, client: ClientId, actions: &mut ClientActions<N>) {
        if self.phase == Phase::Recovery {
            return;
        }
        let next = self.clients.get(client.index()).and_then(|state| state.planned.front());
        match next.map(|planned| planned.after) {
            None => {}
            // At once: a timer of no duration would be an event more.
            Some(Micros::ZERO) => self.send_next(now, client, actions),
            Some(after) => self.set_timer_for(now + after, client, actions),
        }
    }

    fn send_next(&mut self, now: Micros, client: ClientId, actions: &mut ClientActions<N>) {
        let state = &mut self.clients[client.index()];
        if state.open.is_none() {
            let Some(mut next) = state.planned.pop_front() else { return };
            if let Some(adapt) = &self.behaviour.adapt {
                adapt(&mut next.request, &state.answers);
            }
            state.open = Some(next);
        }
        let Some(planned) = state.open.clone() else { return };
        let node = state.prefers.unwrap_or(planned.node);
        actions.send_request(planned.id, node, planned.request);
        self.set_timer_for(now + self.behaviour.retry_after, client, actions);
    }

    fn set_timer_for(&mut self, until: Micros, client: ClientId, actions: &mut ClientActions<N>) {
        self.clients[client.index()].due_at = until;
        actions.set_timer(until, client);
    }

    fn on_answer(
        &mut self,
        now: Micros,
        id: RequestId,
        response: &N::Response,
        actions: &mut ClientActions<N>,
    ) {
        let client = ClientId::try_from(id.client).expect("the receiver of the response");
        // Answers come twice and late: only one to the open request counts.
        let Some(state) = self.clients.get_mut(client.index()) else { return };
        let Some(open) = state.open.take_if(|open| open.id == id) else { return };
        if let Some(node) = self.behaviour.redirect.as_ref().and_then(|node_of| node_of(response)) {
            state.open = Some(open);
            self.on_redirect(now, client, node, actions);
            return;
        }
        state.redirects = 0;
        if self.behaviour.adapt.is_some() {
            let request = open.request;
            state.answers.push(Answered { id, request, response: response.clone() });
        }
        self.plan_next(now, client, actions);
    }

    /// Sends the open request to the node that an answer has named.
    fn on_redirect(
        &mut self,
        now: Micros,
        client: ClientId,
        node: NodeId,
        actions: &mut ClientActions<N>,
    ) {
        let state = &mut self.clients[client.index()];
        // Two nodes that refer to each other would keep a client busy: it waits for its timer. The
        // same if no such node exists.
        if state.redirects >= self.nodes || node.0 >= self.nodes {
            return;
        }
        state.redirects += 1;
        state.prefers = Some(node);
        self.send_next(now, client, actions);
    }

    fn on_timer(&mut self, now: Micros, client: ClientId, actions: &mut ClientActions<N>) {
        let Some(state) = self.clients.get_mut(client.index()) else { return };
        // Timers cannot be cancelled: one that was set for an answered request rings early.
        if now < state.due_at {
            return;
        }
        match &state.open {
            None if self.phase == Phase::Recovery => return,
            None => {}
            Some(open) => {
                state.redirects = 0;
                let silent = state.prefers.unwrap_or(open.node);
                if self.behaviour.fails_over {
                    state.prefers = Some(NodeId((silent.0 + 1) % self.nodes));
                }
            }
        }
        self.send_next(now, client, actions);
    }

    fn on_healed(&mut self, permanently_down: &[NodeId]) {
        self.phase = Phase::Recovery;
        if self.behaviour.fails_over {
            return;
        }
        for client in &mut self.clients {
            let prefers = client.prefers;
            let abandoned = client
                .open
                .take_if(|open| permanently_down.contains(&prefers.unwrap_or(open.node)));
            client.abandoned = abandoned.map(|open| open.id);
        }
    }

    /// The first client sends a request to each node, in order, and nobody else sends any.
    fn begin_probe(&mut self, now: Micros, actions: &mut ClientActions<N>) {
        self.phase = Phase::Probe;
        // What was planned for the fault phase and not begun is too late.
        self.clients.iter_mut().for_each(|client| client.planned.clear());
        let client = ClientId(1);
        let (Some(probe), Some(state)) =
            (&self.behaviour.probe, self.clients.get_mut(client.index()))
        else {
            return;
        };
        for node in (0..self.nodes).map(NodeId) {
            let serial = PROBE_SERIAL + u32::from(node.0);
            let id = RequestId { client: client.into(), serial, attempt: 0 };
            let request = probe(node);
            state.planned.push_back(PlannedRequest { id, node, after: Micros::ZERO, request });
        }
        if state.open.is_none() {
            state.prefers = None;
            self.plan_next(now, client, actions);
        }
    }
}

impl<N: Node> Workload<N> for RetryingClients<N> {
    fn on(&mut self, now: Micros, event: ClientEvent<'_, N>, actions: &mut ClientActions<N>) {
        // A client that resends for ever would keep the cluster from becoming quiescent.
        let stopped = self.phase == Phase::Recovery && !self.behaviour.finishes;
        match event {
            ClientEvent::Start => {
                for client in ClientId::all(self.clients.len() as u32) {
                    self.plan_next(now, client, actions);
                }
            }
            ClientEvent::Answer { id, response, .. } if !stopped => {
                self.on_answer(now, id, response, actions);
            }
            ClientEvent::Timer { client } if !stopped => self.on_timer(now, client, actions),
            ClientEvent::Answer { .. } | ClientEvent::Timer { .. } => {}
            ClientEvent::Healed { permanently_down } => self.on_healed(permanently_down),
            ClientEvent::Probe => self.begin_probe(now, actions),
        }
    }

    fn is_waiting(&self) -> bool {
        self.clients.iter().any(|client| client.open.is_some())
    }

    fn first_unanswered(&self) -> Option<RequestId> {
        self.clients
            .iter()
            .find_map(|client| client.open.as_ref().map(|open| open.id).or(client.abandoned))
    }
}
