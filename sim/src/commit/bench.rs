//! One transaction after another over all nodes, coordinators in turn: what a message costs when log, disk and all
//! claims are on.

use std::sync::Arc;

use stormglass::commit::{Action, Age, CommitNode, Config, Key, Op, Outcome, Request, Turn};
use stormglass::{Incarnation, Micros, NodeId, RequestId};

use super::workload::Asked;
use super::{Commit, Ledger};
use crate::chooser::Seeded;
use crate::mix::{below, mix};
use crate::plan::{Plan, Timing};
use crate::profile::{Draw, Rates};
use crate::protocol::{BenchRun, Benched, Protocol};
use crate::workload::{Calls, ClientEvent, Workload};
use crate::world::World;

/// One client; each transaction begins when the one before is decided.
#[derive(Clone, Debug)]
struct Rotation {
    nodes: u16,
    left: u32,
    serial: u32,
    key: u64,
    /// The one before may still hold its locks elsewhere, and conflicts are not what is measured here: keys in turn.
    puts: [Key; 16],
    empty: [Key; 16],
    due_us: u64,
    /// Whether a timer is set: one is enough, as it never comes after `due_us`.
    armed: bool,
    committed: u64,
    aborted: u64,
    ended_us: u64,
}

/// When the client asks again, in microseconds.
const AGAIN_US: u64 = 400_000;
/// About one vote in twenty is No.
const NO_PERMILLE: u64 = 50;

impl Rotation {
    fn new(nodes: u16, left: u32, key: u64) -> Rotation {
        let keys = |prefix: &str| {
            std::array::from_fn(|turn| Key::new(&format!("{prefix}{turn}")).expect("a short name"))
        };
        let (puts, empty) = (keys("k"), keys("empty"));
        let (serial, due_us, committed, aborted, ended_us) = (0, 0, 0, 0, 0);
        Rotation { nodes, left, serial, key, puts, empty, due_us, armed: false, committed, aborted, ended_us }
    }

    fn next<N: Asked>(&mut self, now_us: u64, calls: &mut Calls<N>) {
        let Some(left) = self.left.checked_sub(1) else {
            self.due_us = u64::MAX;
            return;
        };
        self.left = left;
        self.serial += 1;
        self.ask(now_us, calls);
    }

    fn arm<N: Asked>(&mut self, calls: &mut Calls<N>) {
        if !std::mem::replace(&mut self.armed, true) {
            calls.wake_at(self.due_us, 1);
        }
    }

    /// The client's links lose messages too: what is not answered is asked again.
    fn ask<N: Asked>(&mut self, now_us: u64, calls: &mut Calls<N>) {
        self.due_us = now_us + AGAIN_US;
        self.arm(calls);
        let id = RequestId { client: 1, serial: self.serial, attempt: 0 };
        let coordinator = (self.serial - 1) % u32::from(self.nodes);
        let turn = self.serial as usize % self.puts.len();
        let (puts, empty) = (self.puts[turn], self.empty[turn]);
        let op = |node: u16| {
            let random = mix(self.key, (u64::from(self.serial) << 16) | u64::from(node));
            let refuses = u32::from(node) != coordinator && below(random, 1000) < NO_PERMILLE;
            let action =
                if refuses { Action::Add { by: -1, at_least: 0 } } else { Action::Put(self.serial.into()) };
            Op { node: NodeId(node), key: if refuses { empty } else { puts }, action }
        };
        let ops: Arc<[Op]> = (0..self.nodes).map(op).collect();
        let age = Age { at: self.serial.into(), by: id };
        let seen = Turn { serial: self.serial, attempt: 0 };
        let request = Request::Transact { life: Incarnation(1), age, seen, ops };
        calls.ask(id, NodeId(coordinator as u16), request);
    }
}

impl<N: Asked> Workload<N> for Rotation {
    fn on(&mut self, now_us: u64, event: ClientEvent<'_, N>, calls: &mut Calls<N>) {
        match event {
            // The boots take two barriers; until then nobody answers.
            ClientEvent::Start => calls.wake_at(5_000, 1),
            ClientEvent::Timer { .. } if self.serial == 0 => self.next(now_us, calls),
            ClientEvent::Timer { .. } => {
                self.armed = false;
                match self.due_us {
                    u64::MAX => {}
                    due_us if now_us >= due_us => self.ask(now_us, calls),
                    _ => self.arm(calls),
                }
            }
            ClientEvent::Answer { id, .. } if id.serial != self.serial => {}
            ClientEvent::Answer { response, .. } => {
                match response.outcome {
                    Outcome::Committed { .. } => self.committed += 1,
                    Outcome::Aborted { .. } => self.aborted += 1,
                    Outcome::Unknown => return,
                }
                self.ended_us = now_us;
                self.next(now_us, calls);
            }
            ClientEvent::Cleared | ClientEvent::Probe => {}
        }
    }
}

type Glass = World<CommitNode, Rotation, Ledger, Seeded>;

/// The benchmark: runs one seed after another in the same memory.
pub(super) fn bench(bench: BenchRun) -> impl FnMut(u64) -> Benched {
    let mut glass = None;
    move |seed| run(&bench, seed, &mut glass)
}

fn run(bench: &BenchRun, seed: u64, glass: &mut Option<Glass>) -> Benched {
    let mut draw = Draw::new(seed);
    let timing = Timing {
        key: Some(draw.key()),
        latency_us: (1_000, 10_000),
        tail_us: 0,
        client_us: (0, 0),
        sync_us: (100, 500),
        reboot_us: 1,
    };
    // Long enough for every transaction to time out.
    let storm_us = 5_000_000 * u64::from(bench.txns);
    let plan = Plan {
        nodes: bench.nodes,
        clients: 1,
        timing,
        storm_us,
        patience_us: 0,
        log_bytes: 1 << 20,
        dead: Vec::new(),
        wire: false,
    };
    let rates = Rates { lose: bench.lose, ..Rates::default() };
    let config = Config {
        vote_timeout: Micros::millis(2_000),
        retry_first: Micros::millis(50),
        retry_max: Micros::millis(50),
        ..Commit::config(&plan)
    };
    let key = draw.key();
    let (nodes, left) = (bench.nodes, bench.txns);
    let clients = Rotation::new(nodes, left, key);
    let chooser = Seeded::new(&plan, rates, &mut draw);
    let world = match glass {
        Some(world) => {
            world.reset(config, plan, clients, chooser, Ledger::reset);
            world
        }
        None => {
            let judge = Ledger::new(&plan).without_probe();
            glass.insert(World::new(config, plan, clients, judge, chooser))
        }
    };
    let ending = world.run();
    let clients = world.workload();
    let (committed, aborted, virtual_us) = (clients.committed, clients.aborted, clients.ended_us);
    Benched { ending, committed, aborted, virtual_us }
}
