//! Clients of atomic commitment: transfers, puts, deletes and reads on hot and cold keys, over all coordinators, each
//! asked for until its outcome is known.

use std::sync::Arc;

use stormglass::commit::{Action, Age, Key, Op, Outcome, Request, Response, Turn, Why};
use stormglass::{Incarnation, Node, NodeId, RequestId};

use super::VOTE_TIMEOUT_US;
use super::order::Txn;
use crate::oracle::Sometimes;
use crate::plan::Plan;
use crate::profile::{Draw, Setup};
use crate::workload::{Calls, ClientEvent, Workload};

/// A node that can be asked for transactions, be it whole or with a bug planted.
pub trait Asked: Node<Request = Request, Response = Response> {}

impl<N: Node<Request = Request, Response = Response>> Asked for N {}

/// One thing that a client wants: the request `serial`, whatever attempt it takes.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Whose.
    pub client: u64,
    /// The name, with the client's number.
    pub serial: u32,
    /// Whom it asks.
    pub coordinator: NodeId,
    /// What is to be done.
    pub ops: Arc<[Op]>,
    /// How long it waits after the wish before, in microseconds.
    pub think_us: u64,
    /// Whether its first reaction to silence is to send the very same request again, and the second to ask for the
    /// outcome; or the other way round, and so on in turn.
    pub stubborn: bool,
}

/// All clients of a run.
#[derive(Clone, Debug)]
pub struct Clients {
    wishes: Vec<Wish>,
    clients: Vec<Client>,
    nodes: u16,
    cleared: bool,
    /// Answers "unknown" that were later resolved.
    resolved: u64,
}

#[derive(Clone, Debug)]
struct Client {
    /// Its wishes, as indices.
    mine: Vec<usize>,
    at: usize,
    attempt: u16,
    /// The life of each coordinator, as last learnt.
    lives: Vec<Incarnation>,
    /// The life that the present attempt was addressed to.
    addressed: Incarnation,
    first_asked_us: u64,
    /// What the timer means, if it is not stale.
    due_us: u64,
    stage: Stage,
    asked: u32,
    was_unknown: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Thinking,
    Waiting,
    Done,
}

/// Attempts at one wish, at most.
const ATTEMPTS_MAX: u16 = 12;
/// Questions after the clearing before a client gives up: its coordinator may be dead for good.
const QUESTIONS_MAX: u32 = 8;
/// How long a client waits before it asks again.
const PATIENCE_US: u64 = 2 * VOTE_TIMEOUT_US;
/// No account falls below this.
const ACCOUNT_MIN: i64 = -60;

/// Draws the wishes of a run.
pub(super) fn draw_wishes(
    setup: &Setup,
    plan: &mut Plan,
    draw: &mut Draw,
) -> Vec<crate::workload::Wish<Txn>> {
    let count = setup.txns.unwrap_or_else(|| u32::try_from(draw.between(16, 56)).expect("small"));
    plan.patience_us = 4_000_000;
    let hot = draw.chance(1, 2);
    let pause_us = plan.storm_us * u64::from(plan.clients) / u64::from(count);
    let wishes = (0..count).map(|nth| {
        let (client, serial) = (u64::from(nth % plan.clients + 1), nth / plan.clients + 1);
        let node = draw.node();
        let ops = draw_ops(plan, draw, hot);
        let after_us = draw.between(0, pause_us);
        let what = Txn { ops, stubborn: draw.chance(1, 2) };
        crate::workload::Wish { id: RequestId { client, serial, attempt: 0 }, node, after_us, what }
    });
    wishes.collect()
}

impl From<crate::workload::Wish<Txn>> for Wish {
    fn from(wish: crate::workload::Wish<Txn>) -> Wish {
        let crate::workload::Wish { id, node, after_us, what: Txn { ops, stubborn } } = wish;
        Wish { client: id.client, serial: id.serial, coordinator: node, ops, think_us: after_us, stubborn }
    }
}

impl Clients {
    /// Clients with exactly these wishes, each client's in the order of the list.
    pub fn new(nodes: u16, clients: u32, wishes: Vec<Wish>) -> Clients {
        let client = |number: u64| Client {
            mine: (0..wishes.len()).filter(|at| wishes[*at].client == number).collect(),
            at: 0,
            attempt: 0,
            lives: vec![Incarnation(1); nodes.into()],
            addressed: Incarnation(1),
            first_asked_us: 0,
            due_us: 0,
            stage: Stage::Thinking,
            asked: 0,
            was_unknown: false,
        };
        let clients = (1..=u64::from(clients)).map(client).collect();
        Clients { wishes, clients, nodes, cleared: false, resolved: 0 }
    }

    /// How often a client was answered "unknown" and later learnt the outcome.
    pub fn resolved(&self) -> u64 {
        self.resolved
    }
}

/// A transfer between two accounts, or up to three operations for each node there is, on any of them: puts, deletes, adds
/// and reads.
fn draw_ops(plan: &Plan, draw: &mut Draw, hot: bool) -> Arc<[Op]> {
    if draw.chance(1, 4) {
        let by = i64::try_from(draw.between(1, 30)).expect("small");
        let from = Op {
            node: draw.node(),
            key: account(draw),
            action: Action::Add { by: -by, at_least: ACCOUNT_MIN },
        };
        let to = Op { node: draw.node(), key: account(draw), action: Action::Add { by, at_least: i64::MIN } };
        return Arc::from([from, to]);
    }
    let nodes = u64::from(plan.nodes);
    let least = if draw.chance(1, 3) { 1 } else { nodes };
    let count = draw.between(least, 3 * nodes);
    let reads_only = draw.chance(1, 6);
    let op = |_| {
        let key =
            if hot && draw.chance(1, 2) { "hot".to_string() } else { format!("k{}", draw.between(0, 5)) };
        let key = Key::new(&key).expect("short");
        let action = match if reads_only { 0 } else { draw.between(0, 5) } {
            0 | 1 => Action::Get,
            2 => Action::Delete,
            3 => Action::Add { by: 1, at_least: i64::MIN },
            4 if draw.chance(1, 40) => Action::Put(i64::MAX),
            _ => Action::Put(i64::try_from(draw.between(0, 1_000_000)).expect("small")),
        };
        Op { node: draw.node(), key, action }
    };
    let mut ops: Vec<Op> = (0..count).map(op).collect();
    if draw.chance(1, 200) {
        // Nobody keeps this key: not a transaction.
        ops.push(Op { node: NodeId(plan.nodes), key: account(draw), action: Action::Get });
    }
    ops.into()
}

/// One of the accounts, the sum over all of which stays zero.
fn account(draw: &mut Draw) -> Key {
    Key::new(&format!("a{}", draw.between(0, 2))).expect("short")
}

/// The keys of all accounts; every node has each of them.
pub(super) fn accounts() -> impl Iterator<Item = Key> {
    (0..3).map(|n| Key::new(&format!("a{n}")).expect("short"))
}

/// Every key that a drawn workload may touch.
pub(super) fn all_keys() -> impl Iterator<Item = Key> {
    let names =
        (0..3).map(|n| format!("a{n}")).chain((0..6).map(|n| format!("k{n}"))).chain(["hot".to_string()]);
    names.map(|name| Key::new(&name).expect("short"))
}

/// Every other client does not: of those, a coordinator forgets what is too much.
pub(super) fn says_what_it_has_seen(client: u64) -> bool {
    client % 2 == 1
}

impl Client {
    fn wish<'a>(&self, wishes: &'a [Wish]) -> Option<&'a Wish> {
        self.mine.get(self.at).map(|at| &wishes[*at])
    }

    fn name(&self, wish: &Wish) -> RequestId {
        RequestId { client: wish.client, serial: wish.serial, attempt: self.attempt }
    }

    /// Asks for the wish, under a name that was never used.
    fn ask<N: Asked>(&mut self, now_us: u64, wish: &Wish, calls: &mut Calls<N>) {
        self.addressed = self.lives[usize::from(wish.coordinator.0)];
        self.asked = 0;
        self.was_unknown = false;
        self.send(now_us, wish, calls);
    }

    fn send<N: Asked>(&mut self, now_us: u64, wish: &Wish, calls: &mut Calls<N>) {
        let id = self.name(wish);
        let by = RequestId { attempt: 0, ..id };
        let age = Age { at: self.first_asked_us, by };
        let turn = Turn { serial: wish.serial, attempt: self.attempt };
        let seen = if says_what_it_has_seen(wish.client) { turn } else { Turn::default() };
        let request = Request::Transact { life: self.addressed, age, seen, ops: wish.ops.clone() };
        calls.ask(id, wish.coordinator, request);
        self.wait(now_us, PATIENCE_US, wish.client, Stage::Waiting, calls);
    }

    fn wait<N: Asked>(&mut self, now_us: u64, for_us: u64, client: u64, stage: Stage, calls: &mut Calls<N>) {
        self.stage = stage;
        self.due_us = now_us + for_us;
        calls.wake_at(self.due_us, client);
    }

    fn go_on<N: Asked>(&mut self, now_us: u64, wishes: &[Wish], cleared: bool, calls: &mut Calls<N>) {
        self.at += 1;
        self.attempt = 0;
        self.think(now_us, wishes, cleared, calls);
    }

    fn think<N: Asked>(&mut self, now_us: u64, wishes: &[Wish], cleared: bool, calls: &mut Calls<N>) {
        match self.wish(wishes) {
            Some(wish) if !cleared => {
                self.wait(now_us, wish.think_us + 1, wish.client, Stage::Thinking, calls)
            }
            Some(_) | None => self.stage = Stage::Done,
        }
    }
}

impl<N: Asked> Workload<N> for Clients {
    fn on(&mut self, now_us: u64, event: ClientEvent<'_, N>, calls: &mut Calls<N>) {
        match event {
            ClientEvent::Start => {
                for client in &mut self.clients {
                    client.think(now_us, &self.wishes, false, calls);
                }
            }
            ClientEvent::Answer { from, id, response } => self.on_answer(now_us, from, id, response, calls),
            ClientEvent::Timer { client } => self.on_timer(now_us, client, calls),
            ClientEvent::Cleared => self.cleared = true,
            ClientEvent::Probe => self.probe(now_us, calls),
        }
    }

    fn sometimes(&self, rows: &mut Sometimes) {
        rows.add("unknown answered, and later resolved", self.resolved);
    }
}

impl Clients {
    fn on_timer<N: Asked>(&mut self, now_us: u64, number: u64, calls: &mut Calls<N>) {
        let client = &mut self.clients[number as usize - 1];
        let Some(wish) = client.wish(&self.wishes) else { return };
        if client.due_us > now_us {
            return;
        }
        match client.stage {
            Stage::Done => {}
            Stage::Thinking if self.cleared && client.attempt == 0 => client.stage = Stage::Done,
            Stage::Thinking => {
                if client.attempt == 0 {
                    client.first_asked_us = now_us;
                }
                client.ask(now_us, wish, calls);
            }
            Stage::Waiting => {
                client.asked += 1;
                if self.cleared && client.asked > QUESTIONS_MAX {
                    client.stage = Stage::Done;
                } else if wish.stubborn == (client.asked % 2 == 1) {
                    client.send(now_us, wish, calls);
                } else {
                    calls.ask(
                        client.name(wish),
                        wish.coordinator,
                        Request::Outcome { life: client.addressed },
                    );
                    client.wait(now_us, PATIENCE_US, number, Stage::Waiting, calls);
                }
            }
        }
    }

    fn on_answer<N: Asked>(
        &mut self,
        now_us: u64,
        from: NodeId,
        id: RequestId,
        response: &Response,
        calls: &mut Calls<N>,
    ) {
        let client = &mut self.clients[id.client as usize - 1];
        let known = &mut client.lives[usize::from(from.0)];
        *known = (*known).max(response.life);
        let Some(wish) = client.wish(&self.wishes) else { return };
        if client.stage != Stage::Waiting || client.name(wish) != id {
            return;
        }
        let unknown = response.outcome == Outcome::Unknown;
        self.resolved += u64::from(client.was_unknown && !unknown);
        match &response.outcome {
            Outcome::Unknown => client.was_unknown = true,
            Outcome::Committed { .. } => client.go_on(now_us, &self.wishes, self.cleared, calls),
            Outcome::Aborted { why } => {
                let again = !matches!(why, Why::Invalid(_)) && client.attempt + 1 < ATTEMPTS_MAX;
                if again && !self.cleared || matches!(why, Why::Restarted) && client.attempt < ATTEMPTS_MAX {
                    client.attempt += 1;
                    let pause_us = if matches!(why, Why::Restarted) { 1 } else { 20_000 };
                    client.wait(now_us, pause_us, id.client, Stage::Thinking, calls);
                } else {
                    client.go_on(now_us, &self.wishes, self.cleared, calls);
                }
            }
        }
    }

    /// One transaction over every key of every node: it commits only if no lock is left.
    fn probe<N: Asked>(&mut self, now_us: u64, calls: &mut Calls<N>) {
        let key_ops = |node| all_keys().map(move |key| Op { node, key, action: Action::Get });
        let add = |node| all_keys().map(move |key| Op { node, key, action: Action::Put(0) });
        let ops = (0..self.nodes).map(NodeId).flat_map(|node| key_ops(node).chain(add(node))).collect();
        let serial = self.wishes.iter().map(|wish| wish.serial).max().unwrap_or(0) + 1_000;
        let coordinator = NodeId(0);
        self.wishes.push(Wish { client: 1, serial, coordinator, ops, think_us: 0, stubborn: false });
        let client = &mut self.clients[0];
        client.mine.push(self.wishes.len() - 1);
        client.at = client.mine.len() - 1;
        client.attempt = 0;
        client.first_asked_us = now_us;
        let wish = client.wish(&self.wishes).expect("just added").clone();
        client.ask(now_us, &wish, calls);
    }
}
