//! The benchmark of two-phase commit: one transaction after another over all nodes, coordinators in
//! turn. It measures the cost of a message with log, disk and all checks.

use std::sync::Arc;

use stormglass::commit::{
    Action, CommitNode, Config, Key, Op, Outcome, Position, Request, RequestNumber,
};
use stormglass_node::{Micros, NodeId, RequestId};

use super::workload::{TransactionNode, first_position};
use super::{AtomicCommitChecker, Commit};
use stormglass_sim::chooser::Seeded;
use stormglass_sim::hash::{below, hash};
use stormglass_sim::plan::{Plan, Timing};
use stormglass_sim::profile::{Rates, Rng};
use stormglass_sim::protocol::{BenchResult, BenchRun, Protocol};
use stormglass_sim::workload::{ClientActions, ClientEvent, ClientId, Workload};
use stormglass_sim::world::World;

/// One client. Each transaction begins when the previous one is decided.
#[derive(Clone, Debug)]
struct RoundRobinClient {
    /// The first positions of the nodes: without faults no request is so old that it is forgotten.
    positions: Vec<Position>,
    /// Transactions that are not begun.
    remaining: u32,
    serial: u32,
    /// The key of the hash that draws the No votes.
    key: u64,
    /// Keys in turn: the previous transaction may still hold its locks at participants, and this
    /// benchmark does not measure conflicts.
    put_keys: [Key; 16],
    /// Keys that never have a value, for the No votes.
    empty_keys: [Key; 16],
    /// When the client sends the present request again; `Micros::MAX` once all are decided.
    due_at: Micros,
    /// Whether a timer is set. One is enough, as it never rings after `due_at`.
    timer_set: bool,
    committed: u64,
    aborted: u64,
    last_answer_at: Micros,
}

/// How long the client waits before it sends a request again.
// More than a round trip with one repetition, so a commit without a loss never causes a second
// request.
const RETRY_AFTER: Micros = Micros::from_millis(400);

/// The only client.
const CLIENT: ClientId = ClientId(1);

/// The share of No votes, in thousandths.
// For each participant: aborts are part of the measured mix.
const NO_VOTE_PERMILLE: u64 = 50;

impl RoundRobinClient {
    fn new(plan: &Plan, remaining: u32, key: u64) -> RoundRobinClient {
        let nodes = (0..plan.nodes).map(NodeId);
        RoundRobinClient {
            positions: nodes.map(|node| first_position(&plan.timing, node)).collect(),
            remaining,
            serial: 0,
            key,
            put_keys: keys("k"),
            empty_keys: keys("empty"),
            due_at: Micros::ZERO,
            timer_set: false,
            committed: 0,
            aborted: 0,
            last_answer_at: Micros::ZERO,
        }
    }

    fn start_next<N: TransactionNode>(&mut self, now: Micros, actions: &mut ClientActions<N>) {
        let Some(remaining) = self.remaining.checked_sub(1) else {
            self.due_at = Micros::MAX;
            return;
        };
        self.remaining = remaining;
        self.serial += 1;
        self.send_request(now, actions);
    }

    fn set_timer<N: TransactionNode>(&mut self, actions: &mut ClientActions<N>) {
        if !std::mem::replace(&mut self.timer_set, true) {
            actions.set_timer(self.due_at, CLIENT);
        }
    }

    /// Sends the present request, perhaps again: the client's links lose messages, too.
    fn send_request<N: TransactionNode>(&mut self, now: Micros, actions: &mut ClientActions<N>) {
        self.due_at = now + RETRY_AFTER;
        self.set_timer(actions);
        let id = RequestId { client: CLIENT.into(), serial: self.serial, attempt: 0 };
        // Serials start at 1, so the first coordinator is n0.
        let at = (self.serial - 1) as usize % self.positions.len();
        let coordinator = NodeId(at as u16);
        let ops: Arc<[Op]> = (0..self.positions.len() as u16)
            .map(|node| self.op_at(NodeId(node), coordinator))
            .collect();
        // There is one request at a time, so all earlier ones are answered.
        let seen = RequestNumber { serial: self.serial, attempt: 0 };
        let addressed = self.positions[at];
        let request = Request::Transact { addressed, began_at: None, seen, ops };
        actions.send_request(id, coordinator, request);
    }

    fn op_at(&self, node: NodeId, coordinator: NodeId) -> Op {
        let turn = self.serial as usize % self.put_keys.len();
        // A function of serial and node: a repeated request carries the same operations.
        let random = hash(self.key, (u64::from(self.serial) << 16) | u64::from(node.0));
        if node != coordinator && below(random, 1000) < NO_VOTE_PERMILLE {
            // Below its bound at a key without a value, so the participant always refuses. The
            // coordinator itself must not: it would answer without any message.
            let action = Action::Add { by: -1, at_least: 0 };
            return Op { node, key: self.empty_keys[turn], action };
        }
        Op { node, key: self.put_keys[turn], action: Action::Put(self.serial.into()) }
    }
}

fn keys(prefix: &str) -> [Key; 16] {
    std::array::from_fn(|turn| Key::new(&format!("{prefix}{turn}")).expect("a short name"))
}

impl<N: TransactionNode> Workload<N> for RoundRobinClient {
    fn on(&mut self, now: Micros, event: ClientEvent<'_, N>, actions: &mut ClientActions<N>) {
        match event {
            // Nodes answer once they have booted, which takes two barriers, and have been welcomed
            // by their peers: two message delays and a barrier.
            ClientEvent::Start => actions.set_timer(Micros::from_millis(50), CLIENT),
            ClientEvent::Timer { .. } if self.serial == 0 => self.start_next(now, actions),
            ClientEvent::Timer { .. } => {
                self.timer_set = false;
                match self.due_at {
                    Micros::MAX => {}
                    due_at if now >= due_at => self.send_request(now, actions),
                    _ => self.set_timer(actions),
                }
            }
            // A late answer to a repetition of an earlier request.
            ClientEvent::Answer { id, .. } if id.serial != self.serial => {}
            ClientEvent::Answer { response, .. } => {
                match response.outcome {
                    Outcome::Committed { .. } => self.committed += 1,
                    Outcome::Aborted { .. } => self.aborted += 1,
                    // Still being decided; the timer asks again.
                    Outcome::Unknown => return,
                }
                self.last_answer_at = now;
                self.start_next(now, actions);
            }
            ClientEvent::Healed { .. } | ClientEvent::Probe => {}
        }
    }
}

type BenchWorld = World<CommitNode, RoundRobinClient, AtomicCommitChecker, Seeded>;

/// The benchmark as a function of the seed. All runs share one world, to reuse its memory.
pub(super) fn bench(bench: BenchRun) -> impl FnMut(u64) -> BenchResult {
    let mut reused_world = None;
    move |seed| run(&bench, seed, &mut reused_world)
}

fn run(bench: &BenchRun, seed: u64, reused_world: &mut Option<BenchWorld>) -> BenchResult {
    let mut rng = Rng::new(seed);
    let timing = Timing {
        key: Some(rng.key()),
        latency: (Micros::from_millis(1), Micros::from_millis(10)),
        // No long tail and no delay of the client: the result measures the protocol, not the links.
        latency_tail: Micros::ZERO,
        client_latency: (Micros::ZERO, Micros::ZERO),
        sync_time: (Micros(100), Micros(500)),
        reboot_time: Micros(1),
    };
    // Long enough for every transaction to time out: 5 s for each.
    let fault_phase = Micros::from_secs(5) * u64::from(bench.txns);
    let plan = Plan {
        nodes: bench.nodes,
        clients: 1,
        timing,
        fault_phase,
        recovery_timeout: Micros::ZERO,
        // Large, so that compactions cost little of the measured time.
        log_bytes: 1 << 20,
        permanently_down: Vec::new(),
        encode_messages: false,
    };
    let rates = Rates { lose: bench.lose, ..Rates::default() };
    let config = Config {
        vote_timeout: Micros::from_secs(2),
        retry_first: Micros::from_millis(50),
        retry_max: Micros::from_millis(50),
        ..Commit.config(&plan, NodeId(0))
    };
    let configs = vec![config; usize::from(bench.nodes)];
    let key = rng.key();
    let clients = RoundRobinClient::new(&plan, bench.txns, key);
    let chooser = Seeded::new(&plan, rates, &mut rng);
    let world = match reused_world {
        Some(world) => {
            world.reset(configs, plan, clients, chooser, AtomicCommitChecker::reset);
            world
        }
        None => {
            // This client does not send the final transaction over every key.
            let checker = AtomicCommitChecker::new(&plan).without_probe();
            reused_world.insert(World::new(configs, plan, clients, checker, chooser))
        }
    };
    let outcome = world.run();
    let clients = world.workload();
    BenchResult {
        outcome,
        committed: clients.committed,
        aborted: clients.aborted,
        virtual_time: clients.last_answer_at,
    }
}
