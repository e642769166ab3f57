//! The one loop: a queue of timed events, a network, disks, clocks and processes around sans-IO nodes.
//!
//! The world is generic over the node, the clients, the judge and the chooser, all statically dispatched. Whatever
//! could go more than one way is asked of the [`Chooser`]; how long things take when nothing is wrong is
//! [`Timing`](crate::plan::Timing)'s; what clients want is the [`Workload`]'s. The world itself draws nothing.
//!
//! A run has two phases. In the *storm* faults happen. Then the sky *clears*: partitions heal, crashed nodes boot, disks
//! have space again, clocks stop jumping, what is in flight is re-timed, and no new fault happens. Once nothing more
//! happens by itself, clients may probe; then the run is over.

mod clock;
mod crash;
mod host;
mod network;
mod perform;
mod wake;

use std::panic::{self, AssertUnwindSafe};

use stormglass::{Boot, FileId, Input, Node, NodeId, OpId, Outbox, ReadDisk};

use crate::chooser::{Asks, Chooser};
use crate::disk::Disk;
use crate::fault::Weather;
use crate::mix::Fingerprint;
use crate::oracle::{Broken, Fact, Judge, Seen};
use crate::plan::Plan;
use crate::tally::{Rule, Tally};
use crate::workload::{Calls, ClientEvent, Workload};
use clock::Clock;
use host::Host;
use network::Network;

/// A cluster in a glass.
#[derive(Clone, Debug)]
pub struct World<N: Node, W, J, C> {
    config: N::Config,
    plan: Plan,
    workload: W,
    judge: J,
    chooser: C,
    now_us: u64,
    queue: crate::queue::Queue<Event>,
    network: Network<N>,
    hosts: Vec<Host<N>>,
    weather: Vec<(u64, Weather)>,
    /// Not here while a node is stepped.
    outbox: Option<Box<Outbox<N>>>,
    calls: Calls<N>,
    phase: Phase,
    /// What the chooser is asked about: nothing, once the sky is clear.
    asks: Asks,
    /// Who is being stepped: a panic now is this node's.
    stepping: Option<NodeId>,
    print: Fingerprint,
    tally: Tally,
    broken: Option<Broken>,
}

/// What can be in the queue. Twelve bytes: the queue moves a few of these for each event.
#[derive(Clone, Copy, Debug)]
enum Event {
    Deliver { slot: u32 },
    Barrier { node: u16, life: u32, op: u32, fate: BarrierFate },
    Wake { node: u16 },
    Boot { node: u16 },
    Timer { client: u32 },
    Weather { index: u32 },
    WeatherEnds { index: u32 },
    Clear,
}

#[derive(Clone, Copy, Debug)]
enum BarrierFate {
    Done,
    Slow,
    Failed(stormglass::DiskError),
    Lied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Storm,
    Clear,
    Probe,
}

/// Not the node: the run proves nothing, but whoever wrote the claim or the workload wants to know the seed.
pub const NOTHING_ELSE: &str = "NothingElsePanics";

/// The claims that the world itself judges, whatever the protocol.
pub(crate) const OF_THE_WORLD: &[&str] = &["NodeNeverPanics", "WakeMovesTheDeadline", NOTHING_ELSE];

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The claim that broke, if one did.
    pub broken: Option<Broken>,
    /// A number that any difference in what happened when, or in any byte written, would change. What a message says goes
    /// in by its kind only.
    pub fingerprint: u64,
    /// What happened, counted.
    pub tally: Tally,
}

impl<N, W, J, C> World<N, W, J, C>
where
    N: Node,
    W: Workload<N>,
    J: Judge<N>,
    C: Chooser,
{
    /// A world before its first moment.
    pub fn new(config: N::Config, plan: Plan, workload: W, judge: J, chooser: C) -> Self {
        let mut world = World {
            config,
            network: Network::default(),
            plan,
            workload,
            judge,
            chooser,
            now_us: 0,
            queue: crate::queue::Queue::default(),
            hosts: Vec::new(),
            weather: Vec::new(),
            outbox: None,
            calls: Calls::default(),
            phase: Phase::Storm,
            asks: Asks::ALL,
            stepping: None,
            print: Fingerprint::default(),
            tally: Tally::default(),
            broken: None,
        };
        world.begin();
        world
    }

    /// Another run in the same memory. `judge_again` makes the judge ready for it.
    pub fn reset(
        &mut self,
        config: N::Config,
        plan: Plan,
        workload: W,
        chooser: C,
        judge_again: impl FnOnce(&mut J, &Plan),
    ) {
        judge_again(&mut self.judge, &plan);
        (self.config, self.plan, self.workload, self.chooser) = (config, plan, workload, chooser);
        self.now_us = 0;
        self.queue.reset();
        self.outbox.get_or_insert_default().clear();
        self.calls.asks.clear();
        self.calls.timers.clear();
        self.phase = Phase::Storm;
        self.stepping = None;
        self.print = Fingerprint::default();
        self.tally = Tally::default();
        self.broken = None;
        self.begin();
    }

    fn begin(&mut self) {
        let nodes = usize::from(self.plan.nodes);
        self.network.reset(nodes, self.plan.clients as usize);
        self.hosts.truncate(nodes);
        for host in &mut self.hosts {
            let mut disk = std::mem::take(&mut host.disk);
            disk.reset();
            *host = Host { disk, ..Host::default() };
        }
        self.hosts.resize_with(nodes, Host::default);
        self.asks = self.chooser.asks();
        self.weather = self.chooser.weather();
        for index in 0..self.weather.len() {
            self.queue.push(self.weather[index].0, Event::Weather { index: index as u32 });
        }
        self.queue.push(self.plan.storm_us, Event::Clear);
    }

    /// Runs to the end, or to the first broken claim.
    pub fn run(&mut self) -> Ending {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| self.run_through()));
        if let Err(cause) = outcome {
            let text = cause.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| cause.downcast_ref::<String>().cloned()).unwrap_or_default();
            self.broken = Some(match self.stepping {
                Some(node) => Broken::safety("NodeNeverPanics", format!("{node} panicked: {text}")),
                None => Broken::safety(NOTHING_ELSE, format!("a claim, the clients or the world: {text}")),
            });
        }
        self.tally.virtual_us = self.now_us;
        Ending { broken: self.broken.clone(), fingerprint: self.print.value(), tally: self.tally.clone() }
    }

    /// The judge, after the run.
    pub fn judge(&self) -> &J {
        &self.judge
    }

    /// The chooser, after the run.
    pub fn chooser(&self) -> &C {
        &self.chooser
    }

    /// The clients, after the run.
    pub fn workload(&self) -> &W {
        &self.workload
    }

    /// The disk of a node.
    pub fn disk(&self, node: NodeId) -> &Disk {
        &self.hosts[usize::from(node.0)].disk
    }

    /// Takes the world apart, for the sake of the chooser.
    pub fn into_chooser(self) -> C {
        self.chooser
    }

    fn run_through(&mut self) {
        for node in 0..self.plan.nodes {
            self.boot(NodeId(node));
        }
        self.clients(ClientEvent::Start);
        while self.broken.is_none() {
            match self.queue.pop() {
                Some((at_us, event)) if at_us <= self.end_us() => {
                    self.now_us = at_us;
                    self.tally.events += 1;
                    self.on(event);
                }
                Some(_) => {
                    self.settle(false);
                    return;
                }
                None => {
                    self.settle(true);
                    if self.phase == Phase::Probe || !self.plan.dead.is_empty() {
                        return;
                    }
                    self.phase = Phase::Probe;
                    self.clients(ClientEvent::Probe);
                    if self.queue.is_empty() {
                        self.end();
                        return;
                    }
                }
            }
        }
    }

    /// When patience ends.
    fn end_us(&self) -> u64 {
        if self.phase == Phase::Storm { u64::MAX } else { self.plan.storm_us + self.plan.patience_us }
    }

    fn settle(&mut self, quiet: bool) {
        if self.phase != Phase::Probe {
            let files = if quiet { self.files_kept() } else { Vec::new() };
            self.see(NodeId(0), &Fact::Settled { quiet, files: &files });
        }
        if self.phase == Phase::Probe || !quiet || !self.plan.dead.is_empty() {
            self.end();
        }
    }

    fn files_kept(&self) -> Vec<(NodeId, FileId, u64)> {
        let alive = (0..).map(NodeId).zip(&self.hosts).filter(|(_, host)| host.node.is_some());
        let kept =
            alive.flat_map(|(id, host)| host.disk.files().into_iter().map(move |file| (id, file, host)));
        kept.map(|(id, file, host)| (id, file, host.disk.len(file).unwrap_or(0))).collect()
    }

    fn end(&mut self) {
        self.see(NodeId(0), &Fact::Ended);
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::Deliver { slot } => self.deliver(slot),
            Event::Barrier { node, life, op, fate } => self.barrier_done(NodeId(node), life, op, fate),
            Event::Wake { node } => self.wake(NodeId(node)),
            Event::Boot { node } => self.boot(NodeId(node)),
            Event::Timer { client } => self.clients(ClientEvent::Timer { client: client.into() }),
            Event::Weather { index } => self.weather_begins(index),
            Event::WeatherEnds { index } => self.weather_ends(index),
            Event::Clear => self.clear(),
        }
    }

    fn boot(&mut self, id: NodeId) {
        let host = &mut self.hosts[usize::from(id.0)];
        if host.node.is_some() || host.refused || (self.phase != Phase::Storm && self.plan.dead.contains(&id))
        {
            return;
        }
        host.life += 1;
        (host.deeds, host.barriers, host.last_append, host.booted) = (0, 0, None, false);
        host.armed_us = u64::MAX;
        let skew = self.chooser.skew(id, host.life);
        host.clock = Clock::new(skew);
        self.tally.boots += 1;
        if skew.offset_us > 0 {
            self.tally.bite(Rule::C1);
        }
        if skew.drift_ppm != 0 {
            self.tally.bite(Rule::C2);
        }
        self.see(id, &Fact::Boot);
        self.boot_node(id);
    }

    fn boot_node(&mut self, id: NodeId) {
        let mut outbox = self.outbox.take().unwrap_or_default();
        let host = &self.hosts[usize::from(id.0)];
        let entropy = self.plan.timing.entropy(id, host.life);
        let boot = Boot { id, now: host.clock.shows(self.now_us), entropy, disk: &host.disk };
        self.stepping = Some(id);
        let born = N::boot(&self.config, boot, &mut outbox);
        self.stepping = None;
        match born {
            Ok(node) => {
                self.hosts[usize::from(id.0)].node = Some(node);
                self.perform(id, &mut outbox);
                self.arm(id);
            }
            Err(error) => {
                self.hosts[usize::from(id.0)].refused = true;
                self.see(id, &Fact::Refused(&error));
            }
        }
        outbox.clear();
        self.outbox = Some(outbox);
    }

    /// Feeds one input to a running node and performs what it wants done.
    #[inline(always)]
    fn step(&mut self, id: NodeId, input: Input<N>) {
        self.see_hot(id, &Fact::Input(&input));
        if self.broken.is_some() {
            return;
        }
        let mut outbox = self.outbox.take().unwrap_or_default();
        let host = &mut self.hosts[usize::from(id.0)];
        let now = host.clock.shows(self.now_us);
        let node = host.node.as_mut().expect("only running nodes are stepped");
        self.stepping = Some(id);
        node.step(now, input, &mut outbox);
        self.stepping = None;
        self.perform(id, &mut outbox);
        outbox.clear();
        self.outbox = Some(outbox);
        self.arm(id);
    }

    fn barrier_done(&mut self, id: NodeId, life: u32, op: u32, fate: BarrierFate) {
        let host = &self.hosts[usize::from(id.0)];
        if host.node.is_none() || host.life != life {
            return;
        }
        if self.postponed(id, Event::Barrier { node: id.0, life, op, fate }) {
            return;
        }
        let op = OpId(op.into());
        let disk = &mut self.hosts[usize::from(id.0)].disk;
        let result = match fate {
            BarrierFate::Done => disk.complete(op, Ok(())),
            BarrierFate::Slow => {
                self.tally.bite(Rule::D9);
                disk.complete(op, Ok(()))
            }
            BarrierFate::Failed(error) => {
                self.tally.bite(Rule::D7);
                disk.complete(op, Err(error))
            }
            BarrierFate::Lied => {
                self.tally.bite(Rule::D11);
                disk.complete_lying(op)
            }
        };
        self.step(id, Input::DiskDone { op, result });
        let host = &mut self.hosts[usize::from(id.0)];
        host.booted |= !host.disk.barrier_pending();
    }

    /// Lets the clients react, and their requests set off.
    fn clients(&mut self, event: ClientEvent<'_, N>) {
        let mut calls = std::mem::take(&mut self.calls);
        self.workload.on(self.now_us, event, &mut calls);
        for (at_us, client) in calls.timers.drain(..) {
            self.queue.push(at_us.max(self.now_us + 1), Event::Timer { client });
        }
        for (id, node, request) in calls.asks.drain(..) {
            let nodes = self.plan.nodes;
            assert!(node.0 < nodes, "{id} asks {node}, and this cluster has {nodes} nodes");
            self.see(node, &Fact::Asked { id, request: &request });
            self.ask(id, node, request);
        }
        self.calls = calls;
    }

    /// One fact, for the fingerprint and the judge.
    fn see(&mut self, id: NodeId, fact: &Fact<'_, N>) {
        self.see_hot(id, fact);
    }

    /// The same where it is clear what kind of fact it is: there, folding and judging need not ask.
    #[inline(always)]
    fn see_hot(&mut self, id: NodeId, fact: &Fact<'_, N>) {
        let host = &self.hosts[usize::from(id.0)];
        crate::digest::fold(&mut self.print, self.now_us, id, fact);
        if self.broken.is_some() {
            return;
        }
        let seen = Seen { at_us: self.now_us, node: id, life: host.life, disk: &host.disk, fact };
        if let Err(broken) = self.judge.judge(&seen) {
            self.broken = Some(broken);
        }
    }
}
