//! The event loop: a queue of timed events, a network, disks, clocks and processes around sans-IO
//! nodes.
//!
//! The world is generic over the node, the workload, the checker and the chooser, all statically
//! dispatched. The [`Chooser`] decides each fault, [`Timing`](crate::plan::Timing) the duration of
//! what is not faulty, and the [`Workload`] the requests. The world itself draws no random numbers.
//!
//! A run has three phases:
//! 1. *Faults*: the chooser injects faults, for [`Plan::fault_phase_us`].
//! 2. *Recovery*: partitions heal, crashed nodes boot, disks have space again, clocks stop jumping,
//!    pending events get new times without faults, and no new fault happens. It ends when no events
//!    are pending.
//! 3. *Probe*: clients may send requests that show that the system still works. Skipped if the
//!    plan has nodes that never restart.
//!
//! Recovery and probe together last at most [`Plan::recovery_timeout_us`]: a run in which events
//! are still pending then is over, without a probe if it was still in recovery.
//!
//! A run ends early at the first violation.
//!
//! # The way of a message
//!
//! 1. A node adds an effect to its outbox during `step`; `perform` takes it out, shows it to the
//!    checker, and calls `send`.
//! 2. `transmit` determines the delay and asks the chooser for a fault. Unless the message is lost
//!    (by a fault, or by a partition of the link), `schedule_delivery` puts it on its link and an
//!    `Event::Deliver` into the queue.
//! 3. `deliver` handles that event: a clogged link or a paused receiver postpones it, a partition
//!    loses the message. `receive` encodes and decodes the message if the plan says so.
//! 4. `dispatch` passes it to `step` of the receiver, or loses it if that is down.
//!
//! An append goes from `perform` to `Disk::issue`. A barrier returns as an `Event::Barrier`,
//! which `complete_barrier` passes to `step`.

mod clock;
mod crash;
mod host;
mod network;
mod perform;
mod wake;

use std::panic::{self, AssertUnwindSafe};

use stormglass_node::{Boot, FileId, Input, Node, NodeId, OpId, Outbox, ReadDisk};

use crate::chooser::{Chooser, FaultClasses};
use crate::disk::Disk;
use crate::fault::TimedFault;
use crate::hash::Fingerprint;
use crate::plan::Plan;
use crate::property::{Checker, Fact, Observation, Violation};
use crate::tally::{Rule, Tally};
use crate::workload::{ClientActions, ClientEvent, Workload};
use clock::Clock;
use host::Host;
use network::Network;

/// A simulated cluster of nodes `N`, with its workload `W`, checker `K` and chooser `C`.
#[derive(Clone, Debug)]
pub struct World<N: Node, W, K, C> {
    config: N::Config,
    /// Everything that is decided before the run, but for requests and faults.
    plan: Plan,
    workload: W,
    checker: K,
    chooser: C,
    now_us: u64,
    queue: crate::event_queue::EventQueue<Event>,
    network: Network<N>,
    /// For each node its process, disk and clock.
    hosts: Vec<Host<N>>,
    timed_faults: Vec<(u64, TimedFault)>,
    /// `None` while a node is stepped. One outbox serves all nodes, so that a step allocates
    /// nothing.
    outbox: Option<Box<Outbox<N>>>,
    client_actions: ClientActions<N>,
    phase: Phase,
    /// The faults that the chooser decides; none after the fault phase.
    fault_classes: FaultClasses,
    /// The node that is being booted or stepped: a panic now is attributed to it.
    stepping: Option<NodeId>,
    fingerprint: Fingerprint,
    tally: Tally,
    violation: Option<Violation>,
}

/// An entry of the queue. Twelve bytes: the queue moves a few of these for each event.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// `slot` is the index in the messages in flight of `Network`.
    Deliver {
        slot: u32,
    },
    Barrier {
        node: u16,
        incarnation: u32,
        op: u32,
        outcome: BarrierOutcome,
    },
    Wake {
        node: u16,
    },
    Boot {
        node: u16,
    },
    Timer {
        client: u32,
    },
    TimedFault {
        index: u32,
    },
    TimedFaultEnds {
        index: u32,
    },
    Heal,
}

#[derive(Clone, Copy, Debug)]
enum BarrierOutcome {
    Done,
    /// The barrier of a sync that the fault model slows down has completed (D9).
    Slow,
    /// Nothing that the barrier covers may be durable (D7).
    Failed(stormglass_node::DiskError),
    /// The drive reports success, and nothing is durable (D11).
    Lied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Faults,
    Recovery,
    Probe,
}

/// A panic outside any node: a defect of a property, of the workload or of the simulator. The run
/// says nothing about the node.
pub const HARNESS_NEVER_PANICS: &str = "HarnessNeverPanics";

/// The properties that the world itself checks, for every protocol.
pub(crate) const WORLD_PROPERTIES: &[&str] =
    &["NodeNeverPanics", "WakeMovesTheDeadline", HARNESS_NEVER_PANICS];

/// How a run ended.
#[derive(Clone, Debug)]
pub struct RunOutcome {
    /// The first violation; `None` if every property held.
    pub violation: Option<Violation>,
    /// A hash of the time, place and kind of every fact and of every byte written. Of the contents
    /// of a message it includes the kind and subject only.
    pub fingerprint: u64,
    /// How often each fault happened, and how much else.
    pub tally: Tally,
}

impl<N, W, K, C> World<N, W, K, C>
where
    N: Node,
    W: Workload<N>,
    K: Checker<N>,
    C: Chooser,
{
    /// A world at time 0, before any node has booted.
    pub fn new(config: N::Config, plan: Plan, workload: W, checker: K, chooser: C) -> Self {
        let mut world = World {
            config,
            network: Network::default(),
            plan,
            workload,
            checker,
            chooser,
            now_us: 0,
            queue: crate::event_queue::EventQueue::default(),
            hosts: Vec::new(),
            timed_faults: Vec::new(),
            outbox: None,
            client_actions: ClientActions::default(),
            phase: Phase::Faults,
            fault_classes: FaultClasses::ALL,
            stepping: None,
            fingerprint: Fingerprint::default(),
            tally: Tally::default(),
            violation: None,
        };
        world.begin();
        world
    }

    /// Prepares another run in the same memory. `reset_checker` prepares the checker for it.
    pub fn reset(
        &mut self,
        config: N::Config,
        plan: Plan,
        workload: W,
        chooser: C,
        reset_checker: impl FnOnce(&mut K, &Plan),
    ) {
        reset_checker(&mut self.checker, &plan);
        self.config = config;
        self.plan = plan;
        self.workload = workload;
        self.chooser = chooser;
        self.now_us = 0;
        self.queue.reset();
        self.outbox.get_or_insert_default().clear();
        self.client_actions.requests.clear();
        self.client_actions.timers.clear();
        self.phase = Phase::Faults;
        self.stepping = None;
        self.fingerprint = Fingerprint::default();
        self.tally = Tally::default();
        self.violation = None;
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
        self.fault_classes = self.chooser.fault_classes();
        self.timed_faults = self.chooser.timed_faults();
        for index in 0..self.timed_faults.len() {
            self.queue.push(self.timed_faults[index].0, Event::TimedFault { index: index as u32 });
        }
        self.queue.push(self.plan.fault_phase_us, Event::Heal);
    }

    /// Runs to the end or to the first violation. A panic of a node is the violation
    /// `NodeNeverPanics`.
    pub fn run(&mut self) -> RunOutcome {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| self.run_events()));
        if let Err(cause) = outcome {
            let text = cause.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| cause.downcast_ref::<String>().cloned()).unwrap_or_default();
            self.violation = Some(match self.stepping {
                Some(node) => {
                    Violation::safety("NodeNeverPanics", format!("{node} panicked: {text}"))
                }
                None => Violation::safety(
                    HARNESS_NEVER_PANICS,
                    format!("a property, the workload or the simulator panicked: {text}"),
                ),
            });
        }
        self.tally.virtual_us = self.now_us;
        RunOutcome {
            violation: self.violation.clone(),
            fingerprint: self.fingerprint.value(),
            tally: self.tally.clone(),
        }
    }

    /// The checker, after the run.
    pub fn checker(&self) -> &K {
        &self.checker
    }

    /// The chooser, after the run.
    pub fn chooser(&self) -> &C {
        &self.chooser
    }

    /// The workload, after the run.
    pub fn workload(&self) -> &W {
        &self.workload
    }

    /// The disk of a node.
    ///
    /// # Panics
    /// If the cluster has no such node.
    pub fn disk(&self, node: NodeId) -> &Disk {
        &self.hosts[usize::from(node.0)].disk
    }

    /// Consumes the world; its chooser holds what it has recorded.
    pub fn into_chooser(self) -> C {
        self.chooser
    }

    fn run_events(&mut self) {
        for node in 0..self.plan.nodes {
            self.boot(NodeId(node));
        }
        self.notify_clients(ClientEvent::Start);
        while self.violation.is_none() {
            match self.queue.pop() {
                Some((at_us, event)) if at_us <= self.last_event_us() => {
                    self.now_us = at_us;
                    self.tally.events += 1;
                    self.handle_event(event);
                }
                Some(_) => {
                    self.finish_phase(false);
                    return;
                }
                None => {
                    self.finish_phase(true);
                    if self.phase == Phase::Probe || !self.plan.permanently_down.is_empty() {
                        return;
                    }
                    self.phase = Phase::Probe;
                    self.notify_clients(ClientEvent::Probe);
                    if self.queue.is_empty() {
                        self.finish();
                        return;
                    }
                }
            }
        }
    }

    /// The time after which no event is handled.
    fn last_event_us(&self) -> u64 {
        if self.phase == Phase::Faults {
            u64::MAX
        } else {
            self.plan.fault_phase_us + self.plan.recovery_timeout_us
        }
    }

    fn finish_phase(&mut self, quiet: bool) {
        if self.phase != Phase::Probe {
            // A fact about the whole cluster names node 0.
            // The files let a checker see that obsolete ones are removed.
            let files = if quiet { self.files_of_running_nodes() } else { Vec::new() };
            self.observe(NodeId(0), &Fact::Quiesced { quiet, files: &files });
        }
        if self.phase == Phase::Probe || !quiet || !self.plan.permanently_down.is_empty() {
            self.finish();
        }
    }

    fn files_of_running_nodes(&self) -> Vec<(NodeId, FileId, u64)> {
        let alive = (0..).map(NodeId).zip(&self.hosts).filter(|(_, host)| host.node.is_some());
        let kept = alive
            .flat_map(|(id, host)| host.disk.files().into_iter().map(move |file| (id, file, host)));
        kept.map(|(id, file, host)| (id, file, host.disk.len(file).unwrap_or(0))).collect()
    }

    fn finish(&mut self) {
        self.observe(NodeId(0), &Fact::Ended);
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Deliver { slot } => self.deliver(slot),
            Event::Barrier { node, incarnation, op, outcome } => {
                self.complete_barrier(NodeId(node), incarnation, op, outcome)
            }
            Event::Wake { node } => self.wake(NodeId(node)),
            Event::Boot { node } => self.boot(NodeId(node)),
            Event::Timer { client } => {
                self.notify_clients(ClientEvent::Timer { client: client.into() });
            }
            Event::TimedFault { index } => self.begin_timed_fault(index),
            Event::TimedFaultEnds { index } => self.end_timed_fault(index),
            Event::Heal => self.heal(),
        }
    }

    fn boot(&mut self, id: NodeId) {
        let host = &mut self.hosts[usize::from(id.0)];
        if host.node.is_some()
            || host.boot_refused
            || (self.phase != Phase::Faults && self.plan.permanently_down.contains(&id))
        {
            return;
        }
        host.incarnation += 1;
        host.effects_performed = 0;
        host.barriers = 0;
        host.last_appended = None;
        host.boot_complete = false;
        host.wake_at_us = u64::MAX;
        let skew = self.chooser.skew(id, host.incarnation);
        host.clock = Clock::new(skew);
        self.tally.boots += 1;
        if skew.offset_us > 0 {
            self.tally.hit(Rule::ClockOffset);
        }
        if skew.drift_ppm != 0 {
            self.tally.hit(Rule::ClockDrift);
        }
        self.observe(id, &Fact::Boot);
        self.boot_node(id);
    }

    fn boot_node(&mut self, id: NodeId) {
        let mut outbox = self.outbox.take().unwrap_or_default();
        let host = &self.hosts[usize::from(id.0)];
        let entropy = self.plan.timing.entropy(id, host.incarnation);
        let boot = Boot { id, now: host.clock.local_time(self.now_us), entropy, disk: &host.disk };
        self.stepping = Some(id);
        let booted_node = N::boot(&self.config, boot, &mut outbox);
        self.stepping = None;
        match booted_node {
            Ok(node) => {
                self.hosts[usize::from(id.0)].node = Some(node);
                self.perform(id, &mut outbox);
                self.schedule_wake(id);
            }
            Err(error) => {
                self.hosts[usize::from(id.0)].boot_refused = true;
                self.observe(id, &Fact::Refused(&error));
            }
        }
        outbox.clear();
        self.outbox = Some(outbox);
    }

    /// Feeds one input to a running node and performs the effects of the step.
    #[inline(always)]
    fn step(&mut self, id: NodeId, input: Input<N>) {
        self.observe_inline(id, &Fact::Input(&input));
        if self.violation.is_some() {
            return;
        }
        let mut outbox = self.outbox.take().unwrap_or_default();
        let host = &mut self.hosts[usize::from(id.0)];
        let now = host.clock.local_time(self.now_us);
        let node = host.node.as_mut().expect("only running nodes are stepped");
        self.stepping = Some(id);
        node.step(now, input, &mut outbox);
        self.stepping = None;
        self.perform(id, &mut outbox);
        outbox.clear();
        self.outbox = Some(outbox);
        self.schedule_wake(id);
    }

    fn complete_barrier(&mut self, id: NodeId, incarnation: u32, op: u32, outcome: BarrierOutcome) {
        let host = &self.hosts[usize::from(id.0)];
        if host.node.is_none() || host.incarnation != incarnation {
            return;
        }
        if self.postpone_if_paused(id, Event::Barrier { node: id.0, incarnation, op, outcome }) {
            return;
        }
        let op = OpId(op.into());
        let disk = &mut self.hosts[usize::from(id.0)].disk;
        let result = match outcome {
            BarrierOutcome::Done => disk.complete(op, Ok(())),
            BarrierOutcome::Slow => {
                self.tally.hit(Rule::SlowBarrier);
                disk.complete(op, Ok(()))
            }
            BarrierOutcome::Failed(error) => {
                self.tally.hit(Rule::SyncFailed);
                disk.complete(op, Err(error))
            }
            BarrierOutcome::Lied => {
                self.tally.hit(Rule::LyingSync);
                disk.complete_lying(op)
            }
        };
        self.step(id, Input::DiskDone { op, result });
        let host = &mut self.hosts[usize::from(id.0)];
        // A crash from now on is not a crash during a boot (P5).
        host.boot_complete |= !host.disk.barrier_pending();
    }

    /// Lets the workload handle an event; sends its requests and sets its timers.
    fn notify_clients(&mut self, event: ClientEvent<'_, N>) {
        let mut client_actions = std::mem::take(&mut self.client_actions);
        self.workload.on(self.now_us, event, &mut client_actions);
        for (at_us, client) in client_actions.timers.drain(..) {
            self.queue.push(at_us.max(self.now_us + 1), Event::Timer { client });
        }
        for (id, node, request) in client_actions.requests.drain(..) {
            let nodes = self.plan.nodes;
            assert!(
                node.0 < nodes,
                "request {id} is addressed to {node}, but this cluster has {nodes} nodes"
            );
            self.observe(node, &Fact::Asked { id, request: &request });
            self.send_request(id, node, request);
        }
        self.client_actions = client_actions;
    }

    /// Folds a fact into the fingerprint and passes it to the checker.
    fn observe(&mut self, id: NodeId, fact: &Fact<'_, N>) {
        self.observe_inline(id, fact);
    }

    /// [`World::observe`] for callers that know the variant of the fact: inlined, so that the
    /// matches on it in `fold_fact` and in the checker are resolved at compile time.
    #[inline(always)]
    fn observe_inline(&mut self, id: NodeId, fact: &Fact<'_, N>) {
        let host = &self.hosts[usize::from(id.0)];
        crate::fact_hash::fold_fact(&mut self.fingerprint, self.now_us, id, fact);
        if self.violation.is_some() {
            return;
        }
        let observation = Observation {
            at_us: self.now_us,
            node: id,
            incarnation: host.incarnation,
            disk: &host.disk,
            fact,
        };
        if let Err(violation) = self.checker.check(&observation) {
            self.violation = Some(violation);
        }
    }
}
