//! Clients of atomic commitment: transfers, puts, deletes and reads on hot and cold keys, over all
//! coordinators. A client repeats each request until it learns the outcome or gives up.

use std::sync::Arc;

use stormglass::commit::{
    AbortReason, Action, Key, Op, Outcome, Position, Request, RequestNumber, Response,
};
use stormglass_node::{Incarnation, Micros, Node, NodeId, RequestId, Time};

use super::VOTE_TIMEOUT;
use super::txn::Txn;
use stormglass_sim::plan::{Plan, Timing};
use stormglass_sim::profile::{Rng, Setup};
use stormglass_sim::property::Sometimes;
use stormglass_sim::workload::{ClientActions, ClientEvent, ClientId, Workload};

/// A node that executes transactions for clients: the original or a mutant.
pub trait TransactionNode: Node<Request = Request, Response = Response> {}

impl<N: Node<Request = Request, Response = Response>> TransactionNode for N {}

/// A request of a client, through all its attempts.
#[derive(Clone, Debug)]
pub struct ClientRequest {
    /// The client that sends it.
    pub client: ClientId,
    /// Unique among the client's requests, and ascending.
    pub serial: u32,
    /// The node that the client sends it to.
    pub coordinator: NodeId,
    /// The operations, in the client's order.
    pub ops: Arc<[Op]>,
    /// How long the client waits after the end of its previous request.
    pub think_time: Micros,
    /// How the client retries, in turn: if set, it first sends the same request again and then asks
    /// for the outcome. Otherwise it first asks for the outcome.
    pub stubborn: bool,
}

/// All clients of a run.
#[derive(Clone, Debug)]
pub struct Clients {
    requests: Vec<ClientRequest>,
    clients: Vec<Client>,
    nodes: u16,
    healed: bool,
    /// How many "unknown" outcomes were later resolved.
    resolved: u64,
    /// How many requests clients have given up.
    given_up: u64,
    /// Of how many of these they learnt the outcome afterwards.
    learnt_later: u64,
}

#[derive(Clone, Debug)]
struct Client {
    /// The indices of its requests in `Clients::requests`.
    own_requests: Vec<usize>,
    /// The index in `own_requests` of the request that is pending or next.
    next: usize,
    attempt: u16,
    /// The greatest position of each coordinator in an answer to this client.
    positions: Vec<Position>,
    /// The position that the present attempt is addressed to.
    addressed: Position,
    /// When the first attempt at the present request began, as its coordinator has said: its age in
    /// lock conflicts.
    began_at: Option<Time>,
    /// When the present stage ends. A timer that rings earlier is stale.
    due_at: Micros,
    stage: Stage,
    /// Whether the present request is the probe.
    is_probing: bool,
    /// Retries of the present attempt.
    retries: u32,
    /// How often the present attempt was answered "unknown".
    unknowns: u32,
    /// The attempts that it has given up without an outcome, ascending.
    given_up: Vec<GivenUp>,
}

/// An attempt that its client has given up: the client goes on, and asks for the outcome later.
#[derive(Clone, Copy, Debug)]
struct GivenUp {
    id: RequestId,
    coordinator: NodeId,
    addressed: Position,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Thinking,
    Waiting,
    Done,
}

/// The greatest attempt number of a request: an attempt that was aborted is followed by the next.
// Bounds a run: under constant contention a request would otherwise be repeated until the heal.
const ATTEMPTS_MAX: u16 = 12;
/// Retries of an attempt before a client gives up, once the faults have ended: its coordinator may
/// be permanently down.
const RETRIES_AFTER_HEAL_MAX: u32 = 8;
/// How long a client waits before it retries.
// A coordinator that misses a vote decides at its own timeout, before the client asks again.
const RETRY_AFTER: Micros = Micros(2 * VOTE_TIMEOUT.0);
/// How often a client is answered "unknown" before it gives up: its request may be forgotten.
const UNKNOWNS_MAX: u32 = 3;
/// The bound of the debit of each transfer.
const ACCOUNT_MIN: i64 = -60;
/// One seed in so many has *bulk* requests: their values make snapshots longer than one append
/// (64 KiB), so that crashes fall between two.
const BULK_ONE_IN: u64 = 1_000;
/// Some 650 keys of each make 3,900 values of 33 bytes at the first node.
const BULK_REQUESTS: u32 = 6;
/// Operations of a bulk request, and of one other request in [`MANY_OPS_ONE_IN`].
const MANY_OPS: (u64, u64) = (100, 700);
const MANY_OPS_ONE_IN: u64 = 1_000;

/// Draws the requests of a run and sets `plan.recovery_timeout`.
pub(super) fn draw_requests(
    setup: &Setup,
    plan: &mut Plan,
    rng: &mut Rng,
) -> Vec<stormglass_sim::workload::PlannedRequest<Txn>> {
    let mut count = u32::try_from(rng.between(16, 56)).expect("small");
    // A transaction of a large cluster has hundreds of messages.
    if plan.nodes > 8 {
        count = count / 8 + 2;
    }
    let bulk = setup.txns.is_none() && rng.chance(1, BULK_ONE_IN);
    if bulk {
        count = BULK_REQUESTS;
    }
    let count = setup.txns.unwrap_or(count);
    // Well above the bound of L1, and long enough for clients to exhaust their retries.
    plan.recovery_timeout = Micros::from_secs(4);
    // Half of the runs have a key that every client prefers: the other half must find out what
    // happens without conflicts.
    let hot = rng.chance(1, 2);
    // Each client's requests take about half of the fault phase, retries not counted.
    let pause = plan.fault_phase * u64::from(plan.clients) / u64::from(count);
    // Nobody thinks longer than the cluster has to become quiescent.
    let pause = pause.min(Micros::from_secs(3));
    let requests = (0..count).map(|nth| {
        // In turn, so that all clients are busy from the beginning to the end of the fault phase.
        let client = ClientId(nth % plan.clients + 1);
        let serial = nth / plan.clients + 1;
        let node = rng.node();
        let ops = if bulk { draw_bulk_ops(rng) } else { draw_ops(plan, rng, hot) };
        let after = Micros(rng.between(0, pause.0));
        let request = Txn { ops, stubborn: rng.chance(1, 2) };
        stormglass_sim::workload::PlannedRequest {
            id: RequestId { client: client.into(), serial, attempt: 0 },
            node,
            after,
            request,
        }
    });
    requests.collect()
}

impl From<stormglass_sim::workload::PlannedRequest<Txn>> for ClientRequest {
    fn from(planned: stormglass_sim::workload::PlannedRequest<Txn>) -> ClientRequest {
        let stormglass_sim::workload::PlannedRequest {
            id,
            node,
            after,
            request: Txn { ops, stubborn },
        } = planned;
        ClientRequest {
            client: id.client.try_into().expect("a client of the simulation"),
            serial: id.serial,
            coordinator: node,
            ops,
            think_time: after,
            stubborn,
        }
    }
}

/// The first position of a node. A client over a network asks for it when it connects.
pub fn first_position(timing: &Timing, node: NodeId) -> Position {
    Position { incarnation: Incarnation::default().next(timing.entropy(node, 1)), serial: 0 }
}

impl Clients {
    /// The clients of a run of this plan, with these requests; each client sends its own in the
    /// order of the list.
    pub fn new(plan: &Plan, requests: Vec<ClientRequest>) -> Clients {
        let positions: Vec<Position> =
            (0..plan.nodes).map(|node| first_position(&plan.timing, NodeId(node))).collect();
        let clients = ClientId::all(plan.clients)
            .map(|id| Client::new(id, positions.clone(), &requests))
            .collect();
        Clients {
            requests,
            clients,
            nodes: plan.nodes,
            healed: false,
            resolved: 0,
            given_up: 0,
            learnt_later: 0,
        }
    }

    /// How often a client was answered "unknown" and later learnt the outcome.
    pub fn resolved(&self) -> u64 {
        self.resolved
    }
}

/// A transfer between two accounts, or up to three operations per node of the cluster, each at any
/// node: puts, deletes, adds and reads.
fn draw_ops(plan: &Plan, rng: &mut Rng, hot: bool) -> Arc<[Op]> {
    // Transfers are the only writers of accounts, so the total over all accounts is an invariant.
    if rng.chance(1, 4) {
        let by = i64::try_from(rng.between(1, 30)).expect("small");
        let from = Op {
            node: rng.node(),
            key: account(rng),
            action: Action::Add { by: -by, at_least: ACCOUNT_MIN },
        };
        let to = Op {
            node: rng.node(),
            key: account(rng),
            action: Action::Add { by, at_least: i64::MIN },
        };
        return Arc::from([from, to]);
    }
    let nodes = u64::from(plan.nodes);
    // Two thirds of them have at least as many operations as there are nodes, so most nodes take
    // part.
    let least = if rng.chance(1, 3) { 1 } else { nodes };
    let mut count = rng.between(least, 3 * nodes);
    if rng.chance(1, MANY_OPS_ONE_IN) {
        count = rng.between(MANY_OPS.0, MANY_OPS.1);
    }
    let reads_only = rng.chance(1, 6);
    let mut ops: Vec<Op> = (0..count).map(|_| draw_op(rng, hot, reads_only)).collect();
    if rng.chance(1, 200) {
        // The cluster has no such node, so the coordinator must answer that this is not a valid
        // transaction.
        ops.push(Op { node: NodeId(plan.nodes), key: account(rng), action: Action::Get });
    }
    ops.into()
}

/// Puts on many keys, nearly all of them at the first node.
fn draw_bulk_ops(rng: &mut Rng) -> Arc<[Op]> {
    let count = rng.between(MANY_OPS.1 - 100, MANY_OPS.1);
    let mut ops: Vec<Op> = (0..count)
        .map(|_| Op {
            node: NodeId(0),
            key: bulk_key(rng.between(0, 999_999)),
            action: Action::Put(i64::MAX / 2 - rng.between(0, 1_000_000) as i64),
        })
        .collect();
    ops.push(Op { node: rng.node(), key: account(rng), action: Action::Get });
    ops.into()
}

fn bulk_key(number: u64) -> Key {
    Key::new(&format!("customer-account-{number:06}")).expect("at most 23 bytes")
}

fn draw_op(rng: &mut Rng, hot: bool, reads_only: bool) -> Op {
    let name = if hot && rng.chance(1, 2) { "hot" } else { *rng.pick(&KEYS) };
    let key = Key::new(name).expect("short");
    let action = match if reads_only { 0 } else { rng.between(0, 5) } {
        0 | 1 => Action::Get,
        2 => Action::Delete,
        3 => Action::Add { by: 1, at_least: i64::MIN },
        // Rare: until the key is written again, every Add to it aborts for an overflow.
        4 if rng.chance(1, 40) => Action::Put(i64::MAX),
        _ => Action::Put(i64::try_from(rng.between(0, 1_000_000)).expect("small")),
    };
    Op { node: rng.node(), key, action }
}

/// Keys that agree in their first 8 or 16 bytes, or are the beginning of another: a node compares
/// keys in pieces of 8 bytes.
const KEYS: [&str; 6] =
    ["k0", "k1", "customer", "customer-account", "customer-account-2", "customer-account-number"];

/// The key of one of the accounts. Transfers preserve the total over all accounts of all nodes, 0.
fn account(rng: &mut Rng) -> Key {
    accounts().nth(rng.between(0, 2) as usize).expect("one of the three")
}

/// The keys of all accounts; every node has each of them.
pub(super) fn accounts() -> impl Iterator<Item = Key> {
    ["a0", "a1", "a2"].into_iter().map(|name| Key::new(name).expect("short"))
}

/// Every key that a drawn workload may touch, apart from those of bulk requests.
fn all_keys() -> impl Iterator<Item = Key> {
    accounts().chain(KEYS.into_iter().chain(["hot"]).map(|name| Key::new(name).expect("short")))
}

/// The keys of the probe at each node: [`all_keys`] and those of the requests; of very many some.
fn probe_keys(requests: &[ClientRequest]) -> Vec<Key> {
    let mut keys: Vec<Key> =
        requests.iter().flat_map(|planned| planned.ops.iter().map(|op| op.key)).collect();
    keys.sort_unstable();
    keys.dedup();
    let step = keys.len() / PROBE_KEYS_MAX + 1;
    let mut keys: Vec<Key> = keys.into_iter().step_by(step).chain(all_keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The most keys of requests that the probe touches at each node.
const PROBE_KEYS_MAX: usize = 50;

/// Whether this client acknowledges the outcomes that it learnt. Every other client does not, so
/// that coordinators evict its requests by capacity.
pub(super) fn acknowledges_outcomes(client: u64) -> bool {
    // By the number, and not drawn: a schedule does not have to mention it.
    client % 2 == 1
}

/// Whether this client gives up a request that is not answered in time, unless it is stubborn, and
/// asks for its outcome after each later one. Of every four clients two do: one of those that
/// acknowledge outcomes, and one of the others.
fn gives_up(client: u64) -> bool {
    // By the number, as above.
    matches!(client % 4, 0 | 3)
}

impl Client {
    fn new(id: ClientId, positions: Vec<Position>, requests: &[ClientRequest]) -> Client {
        Client {
            own_requests: (0..requests.len()).filter(|at| requests[*at].client == id).collect(),
            next: 0,
            attempt: 0,
            positions,
            addressed: Position::default(),
            began_at: None,
            due_at: Micros::ZERO,
            stage: Stage::Thinking,
            is_probing: false,
            retries: 0,
            unknowns: 0,
            given_up: Vec::new(),
        }
    }

    /// The request that is pending or next.
    fn planned<'a>(&self, requests: &'a [ClientRequest]) -> Option<&'a ClientRequest> {
        self.own_requests.get(self.next).map(|index| &requests[*index])
    }

    /// The id of the present attempt.
    fn request_id(&self, planned: &ClientRequest) -> RequestId {
        RequestId { client: planned.client.into(), serial: planned.serial, attempt: self.attempt }
    }

    /// Sends the present attempt for the first time.
    fn start_attempt<N: TransactionNode>(
        &mut self,
        now: Micros,
        planned: &ClientRequest,
        actions: &mut ClientActions<N>,
    ) {
        self.addressed = self.positions[usize::from(planned.coordinator.0)];
        self.retries = 0;
        self.unknowns = 0;
        self.send(now, planned, actions);
    }

    /// Sends the present attempt, perhaps again.
    fn send<N: TransactionNode>(
        &mut self,
        now: Micros,
        planned: &ClientRequest,
        actions: &mut ClientActions<N>,
    ) {
        let id = self.request_id(planned);
        // The first request without a known outcome: what is before it may be forgotten.
        let unanswered = self.given_up.first().map_or(id, |given_up| given_up.id);
        let turn = RequestNumber { serial: unanswered.serial, attempt: unanswered.attempt };
        let seen = if acknowledges_outcomes(id.client) { turn } else { RequestNumber::default() };
        let request = Request::Transact {
            addressed: self.addressed,
            // All attempts have the same age, so that a request does not stay the youngest.
            began_at: self.began_at,
            seen,
            ops: planned.ops.clone(),
        };
        actions.send_request(id, planned.coordinator, request);
        self.enter_stage(now, RETRY_AFTER, planned.client, Stage::Waiting, actions);
    }

    /// Asks for the outcomes of the attempts that it has given up.
    fn ask_for_given_up<N: TransactionNode>(&self, actions: &mut ClientActions<N>) {
        for GivenUp { id, coordinator, addressed } in &self.given_up {
            let request = Request::Outcome { addressed: *addressed };
            actions.send_request(*id, *coordinator, request);
        }
    }

    fn enter_stage<N: TransactionNode>(
        &mut self,
        now: Micros,
        duration: Micros,
        client: ClientId,
        stage: Stage,
        actions: &mut ClientActions<N>,
    ) {
        self.stage = stage;
        self.due_at = now + duration;
        actions.set_timer(self.due_at, client);
    }

    /// Ends the present request.
    fn next_request<N: TransactionNode>(
        &mut self,
        now: Micros,
        requests: &[ClientRequest],
        healed: bool,
        actions: &mut ClientActions<N>,
    ) {
        self.next += 1;
        self.attempt = 0;
        // After the faults a client asks only for what it will be answered: a request that never
        // arrived, or that its coordinator may forget, is unknown for ever.
        if !healed {
            self.ask_for_given_up(actions);
        }
        self.schedule_next(now, requests, healed, actions);
    }

    fn schedule_next<N: TransactionNode>(
        &mut self,
        now: Micros,
        requests: &[ClientRequest],
        healed: bool,
        actions: &mut ClientActions<N>,
    ) {
        match self.planned(requests) {
            Some(planned) if !healed => self.enter_stage(
                now,
                planned.think_time + Micros(1),
                planned.client,
                Stage::Thinking,
                actions,
            ),
            Some(_) | None => self.stage = Stage::Done,
        }
    }
}

impl<N: TransactionNode> Workload<N> for Clients {
    fn on(&mut self, now: Micros, event: ClientEvent<'_, N>, actions: &mut ClientActions<N>) {
        match event {
            ClientEvent::Start => {
                for client in &mut self.clients {
                    client.schedule_next(now, &self.requests, false, actions);
                }
            }
            ClientEvent::Answer { from, id, response } => {
                self.on_answer(now, from, id, response, actions)
            }
            ClientEvent::Timer { client } => self.on_timer(now, client, actions),
            ClientEvent::Healed { .. } => {
                self.healed = true;
                // Those of the fault phase say nothing about whether the coordinator is down now.
                self.clients.iter_mut().for_each(|client| client.retries = 0);
            }
            ClientEvent::Probe => self.probe(now, actions),
        }
    }

    fn sometimes(&self, counters: &mut Sometimes) {
        counters.add("unknown outcome, later resolved", self.resolved);
        counters.add("request given up by its client", self.given_up);
        counters.add("outcome of a request given up, learnt later", self.learnt_later);
    }
}

impl Clients {
    fn on_timer<N: TransactionNode>(
        &mut self,
        now: Micros,
        id: ClientId,
        actions: &mut ClientActions<N>,
    ) {
        let client = &mut self.clients[id.index()];
        let Some(planned) = client.planned(&self.requests) else { return };
        // Timers are never cancelled; each stage sets another one.
        if client.due_at > now {
            return;
        }
        match client.stage {
            Stage::Done => {}
            Stage::Thinking if self.healed && client.attempt == 0 => client.stage = Stage::Done,
            Stage::Thinking => {
                if client.attempt == 0 {
                    client.began_at = None;
                }
                client.start_attempt(now, planned, actions);
            }
            Stage::Waiting => {
                client.retries += 1;
                if !self.healed && gives_up(id.into()) && !planned.stubborn {
                    let id = client.request_id(planned);
                    let addressed = client.addressed;
                    let coordinator = planned.coordinator;
                    client.next_request(now, &self.requests, false, actions);
                    client.given_up.push(GivenUp { id, coordinator, addressed });
                    self.given_up += 1;
                } else if self.healed && client.retries > RETRIES_AFTER_HEAL_MAX {
                    client.stage = Stage::Done;
                // Odd retries repeat the request if it is stubborn, even ones if it is not.
                } else if planned.stubborn == (client.retries % 2 == 1) {
                    client.send(now, planned, actions);
                } else {
                    actions.send_request(
                        client.request_id(planned),
                        planned.coordinator,
                        Request::Outcome { addressed: client.addressed },
                    );
                    client.enter_stage(now, RETRY_AFTER, id, Stage::Waiting, actions);
                }
            }
        }
    }

    fn on_answer<N: TransactionNode>(
        &mut self,
        now: Micros,
        from: NodeId,
        id: RequestId,
        response: &Response,
        actions: &mut ClientActions<N>,
    ) {
        let receiver = ClientId::try_from(id.client).expect("the receiver of the response");
        let client = &mut self.clients[receiver.index()];
        let known = &mut client.positions[usize::from(from.0)];
        // Answers may overtake each other, but numbers only ascend. An incarnation that does not
        // answer is as good as another one of its number that does.
        let named = response.position;
        if named.incarnation == known.incarnation {
            *known = named.max(*known);
        } else if named.incarnation.number() >= known.incarnation.number() {
            *known = named;
        }
        if let Some(at) = client.given_up.iter().position(|given_up| given_up.id == id)
            && response.outcome != Outcome::Unknown
        {
            client.given_up.remove(at);
            self.learnt_later += 1;
            return;
        }
        let Some(planned) = client.planned(&self.requests) else { return };
        // A duplicate, or an answer to an attempt that is over.
        if client.stage != Stage::Waiting || client.request_id(planned) != id {
            return;
        }
        let unknown = response.outcome == Outcome::Unknown;
        self.resolved += u64::from(client.unknowns > 0 && !unknown);
        match &response.outcome {
            // It is forgotten, or its address was too old: this answer has brought the next one.
            Outcome::Unknown if client.is_probing => {
                client.attempt += 1;
                client.start_attempt(now, planned, actions);
            }
            Outcome::Unknown => {
                client.unknowns += 1;
                if client.unknowns == UNKNOWNS_MAX && !self.healed {
                    let coordinator = planned.coordinator;
                    let addressed = client.addressed;
                    client.next_request(now, &self.requests, false, actions);
                    client.given_up.push(GivenUp { id, coordinator, addressed });
                    self.given_up += 1;
                }
            }
            Outcome::Committed { .. } => {
                client.next_request(now, &self.requests, self.healed, actions)
            }
            Outcome::Aborted { reason } => {
                let may_retry =
                    // An invalid transaction is as invalid the next time.
                    !matches!(reason, AbortReason::Invalid(_)) && client.attempt + 1 < ATTEMPTS_MAX;
                if may_retry && !self.healed
                    // A request that a restart aborted was never judged, so even a healed run tries
                    // it again.
                    || matches!(reason, AbortReason::Restarted) && client.attempt < ATTEMPTS_MAX
                {
                    client.began_at = response.began_at.or(client.began_at);
                    client.attempt += 1;
                    // Back off from contention; a restart of the coordinator is none.
                    let pause = if matches!(reason, AbortReason::Restarted) {
                        Micros(1)
                    } else {
                        Micros::from_millis(20)
                    };
                    client.enter_stage(now, pause, planned.client, Stage::Thinking, actions);
                } else {
                    client.next_request(now, &self.requests, self.healed, actions);
                }
            }
        }
    }

    /// Sends one transaction over every key of every node: it commits only if no lock remains.
    fn probe<N: TransactionNode>(&mut self, now: Micros, actions: &mut ClientActions<N>) {
        let keys = probe_keys(&self.requests);
        let mut ops = Vec::new();
        for node in (0..self.nodes).map(NodeId) {
            ops.extend(keys.iter().map(|key| Op { node, key: *key, action: Action::Get }));
            ops.extend(keys.iter().map(|key| Op { node, key: *key, action: Action::Put(0) }));
        }
        // The checker recognises the probe by its serial.
        // Above every serial of a drawn or a written request, for whatever client.
        let serial = self.requests.iter().map(|planned| planned.serial).max().unwrap_or(0) + 1_000;
        let coordinator = NodeId(0);
        self.requests.push(ClientRequest {
            client: ClientId(1),
            serial,
            coordinator,
            ops: ops.into(),
            think_time: Micros::ZERO,
            stubborn: false,
        });
        let client = &mut self.clients[0];
        client.own_requests.push(self.requests.len() - 1);
        client.next = client.own_requests.len() - 1;
        client.attempt = 0;
        client.began_at = None;
        client.is_probing = true;
        let planned = client.planned(&self.requests).expect("just added").clone();
        client.start_attempt(now, &planned, actions);
    }
}
