//! The event loop: a queue of timed events, a network, disks, clocks and processes around sans-IO
//! nodes.
//!
//! The world is generic over the node, the workload, the checker and the chooser, all statically
//! dispatched. The [`Chooser`] decides each fault, [`Timing`](crate::plan::Timing) the duration of
//! what is not faulty, and the [`Workload`] the requests. The world itself draws no random numbers.
//!
//! A run has three phases:
//! 1. *Faults*: the chooser injects faults, for [`Plan::fault_phase`].
//! 2. *Recovery*: partitions heal, crashed nodes boot, disks have space again, clocks stop jumping,
//!    pending events get new times without faults, and no new fault happens. It ends when no events
//!    are pending, or as the [`RunEnd`] of the protocol says.
//! 3. *Probe*: clients may send requests that show that the system still works. Skipped if the
//!    plan has nodes that never restart.
//!
//! Recovery and probe together last at most [`Plan::recovery_timeout`]: a run in which events
//! are still pending then is over, without a probe if it was still in recovery.
//!
//! A run ends early at the first violation.
//!
//! # The way of a message
//!
//! 1. A node adds an effect to its outbox during `step`; `perform` takes it out, shows it to the
//!    checker, and passes it to the network.
//! 2. `Network::send_message` determines the delay and asks the chooser for a fault. Unless the
//!    message is lost (by a fault, or by a partition of the link), it is put on its link, and an
//!    `Event::Deliver` into the queue.
//! 3. `deliver` handles that event. A clogged link or a paused receiver postpones it. Otherwise
//!    `Network::receive` takes the message off its link, or loses it: the link is partitioned, the
//!    receiver is down, or the message, if the plan says that it travels encoded, does not decode.
//! 4. `step` passes it to the receiver.
//!
//! An append goes from `perform` to `Disk::issue`. A barrier returns as an `Event::Barrier`,
//! which `complete_barrier` passes to `step`.
//!
//! # Who owns what
//!
//! The world owns the workload and dispatches. `Network` owns links and messages in flight, `Host`
//! a process with its clock; both act through `Run`: the plan, the disks, the `Timeline` (time,
//! phase and queue), the `Faults` (the chooser) and the `Monitor` (checker, fingerprint and
//! counters).

mod clock;
mod faults;
mod host;
mod monitor;
mod network;
pub(crate) mod panics;
mod run;
mod timeline;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stormglass_node::{DiskOp, Effect, Input, Micros, Node, NodeId, Outbox};

use crate::chooser::Chooser;
use crate::coverage::Coverage;
use crate::disk::Disk;
use crate::fault::{AtRestFault, Crash, TimedFault};
use crate::limits::RunLimits;
use crate::node_log;
use crate::plan::Plan;
use crate::property::{
    Checker, ClientFact, Fact, FaultFact, JudgedUntil, RunFact, Violation, concerns_any_request,
};
use crate::run_end::{Availability, RecoveryEnd, RunEnd};
use crate::tally::{Rule, Tally};
use crate::workload::{ClientActions, ClientEvent, Workload};
use host::Host;
use network::{Delivery, Network};
use panics::CaughtPanic;
use run::Run;
use timeline::{BarrierOutcome, Event, Next};

/// A simulated cluster of nodes `N`, with its workload `W`, checker `K` and chooser `C`. It is
/// `Clone` if all four and the configuration are.
pub struct World<N: Node, W, K, C> {
    /// One for each node, in order.
    configs: Vec<N::Config>,
    workload: W,
    run: Run<K, C>,
    network: Network<N>,
    /// For each node its process, disk and clock.
    hosts: Vec<Host<N>>,
    /// `None` while a node is stepped. One outbox serves all nodes, so that a step allocates
    /// nothing.
    outbox: Option<Box<Outbox<N>>>,
    client_actions: ClientActions<N>,
    events_max: u64,
    run_end: RunEnd,
    /// When every request must be answered in the end; `None` if that is not required.
    answers_while: Option<Availability>,
    /// The number of events at which the run looks at `events_max` and `stop`.
    next_look: u64,
    /// Set by another thread to end the run.
    stop: Arc<AtomicBool>,
}

/// How many events a run handles between two looks at its limits.
// Some 50 microseconds: soon enough for a person who waits, too seldom to cost anything.
const EVENTS_BETWEEN_LOOKS: u64 = 256;

/// A panic of the workload or of the simulator. The run says nothing about the node.
pub const HARNESS_NEVER_PANICS: &str = "HarnessNeverPanics";
/// A panic of a property while it looks at a fact: the node did what the property cannot handle, a
/// sum that overflows for example, or the property is wrong.
pub const PROPERTY_NEVER_PANICS: &str = "PropertyNeverPanics";
pub(crate) const NODE_NEVER_PANICS: &str = "NodeNeverPanics";
/// A node sends only to other nodes of its cluster, and asks the disk for nothing that is
/// impossible.
pub(crate) const NODE_KEEPS_ITS_CONTRACT: &str = "NodeKeepsItsContract";
pub(crate) const WAKE_MOVES_THE_DEADLINE: &str = "WakeMovesTheDeadline";
/// A run handles no more events than its [`RunLimits`] allow.
pub(crate) const RUN_ENDS_WITHIN_LIMITS: &str = "RunEndsWithinLimits";
/// At the end of a run no request is left that a client has sent and no node has answered, where a
/// [protocol claims so](crate::protocol::Protocol::answers_while).
pub const EVERY_REQUEST_IS_ANSWERED: &str = "EveryRequestIsAnswered";

/// The properties that a panic violates.
pub(crate) const PANICS: [&str; 4] =
    [NODE_NEVER_PANICS, NODE_KEEPS_ITS_CONTRACT, PROPERTY_NEVER_PANICS, HARNESS_NEVER_PANICS];

/// The properties that the world itself checks, for every protocol.
pub(crate) const WORLD_PROPERTIES: &[&str] = &[
    NODE_NEVER_PANICS,
    NODE_KEEPS_ITS_CONTRACT,
    WAKE_MOVES_THE_DEADLINE,
    RUN_ENDS_WITHIN_LIMITS,
    EVERY_REQUEST_IS_ANSWERED,
    PROPERTY_NEVER_PANICS,
    HARNESS_NEVER_PANICS,
];

/// How a run ended.
#[derive(Clone, Debug)]
pub struct RunOutcome {
    /// The first violation; `None` if every property held.
    pub violation: Option<Violation>,
    /// A hash of the time, place and kind of every fact and of every byte written. Of the contents
    /// of a message it includes the kind and subject only.
    pub fingerprint: u64,
    /// A hash of the contents of every message, request, response and report, if it was asked for
    /// ([`World::hash_contents`]).
    pub contents: Option<u64>,
    /// From where on the checkers did not judge the run; `None` if they judged all of it.
    pub judged_until: Option<JudgedUntil>,
    /// Whether the run was stopped before its end ([`World::stop_when`]).
    pub interrupted: bool,
    /// How often each fault happened, and how much else.
    pub tally: Tally,
}

impl RunOutcome {
    /// The outcome of a run that did not begin: its configuration, its requests or its clients
    /// could not be made.
    #[cold]
    pub(crate) fn not_begun(panic: &CaughtPanic) -> RunOutcome {
        RunOutcome {
            violation: Some(monitor::harness_violation(panic)),
            fingerprint: 0,
            contents: None,
            judged_until: None,
            interrupted: false,
            tally: Tally::default(),
        }
    }
}

impl<N, W, K, C> World<N, W, K, C>
where
    N: Node,
    W: Workload<N>,
    K: Checker<N>,
    C: Chooser,
{
    /// A world at time 0, before any node has booted. `configs` has one configuration for each
    /// node, in order, as [`configs`](crate::protocol::configs) makes them.
    ///
    /// # Panics
    /// If there are more or fewer of them than the plan has nodes.
    pub fn new(configs: Vec<N::Config>, plan: Plan, workload: W, checker: K, chooser: C) -> Self {
        let mut world = World {
            configs,
            workload,
            run: Run::new(plan, checker, chooser),
            network: Network::default(),
            hosts: Vec::new(),
            outbox: None,
            client_actions: ClientActions::default(),
            events_max: RunLimits::default().events_max,
            run_end: RunEnd::default(),
            answers_while: None,
            next_look: 0,
            stop: Arc::default(),
        };
        world.begin();
        world
    }

    /// Sets the limit of events, for this run and those after a [`reset`](Self::reset).
    #[must_use]
    pub fn with_limits(self, limits: RunLimits) -> Self {
        World { events_max: limits.events_max, ..self }
    }

    /// Sets when this run and those after a [`reset`](Self::reset) end.
    #[must_use]
    pub fn ending(self, run_end: RunEnd) -> Self {
        World { run_end, ..self }
    }

    /// Every request must be answered in the end while so many nodes are up; by default none must.
    #[must_use]
    pub fn requiring_answers(self, answers_while: Option<Availability>) -> Self {
        World { answers_while, ..self }
    }

    /// The run ends soon after `stop` is set, and its outcome is
    /// [`interrupted`](RunOutcome::interrupted); so do those after a [`reset`](Self::reset).
    pub fn stop_when(&mut self, stop: &Arc<AtomicBool>) {
        self.stop = Arc::clone(stop);
    }

    /// The outcome of the next run includes its [`contents`](RunOutcome::contents).
    pub fn hash_contents(&mut self) {
        self.run.monitor.hash_contents();
    }

    /// The facts of the next run are counted by their kinds, and altered ones are offered to the
    /// checker if `alters` says so.
    pub(crate) fn count_facts(&mut self, alters: bool) {
        let nodes = self.run.plan().nodes;
        self.run.monitor.count_facts(nodes, alters);
    }

    /// What was counted; `None` if nothing was asked for.
    pub(crate) fn take_coverage(&mut self) -> Option<Coverage> {
        self.run.monitor.take_coverage()
    }

    /// Prepares another run in the same memory. `reset_checker` prepares the checker for it.
    ///
    /// # Panics
    /// If there is not one configuration for each node of the plan.
    pub fn reset(
        &mut self,
        configs: Vec<N::Config>,
        plan: Plan,
        workload: W,
        chooser: C,
        reset_checker: impl FnOnce(&mut K, &Plan),
    ) {
        // Every field by name; `begin` prepares the network and the hosts.
        let World {
            configs: old_configs,
            workload: old_workload,
            run,
            network: _,
            hosts: _,
            outbox,
            client_actions,
            events_max: _,
            run_end: _,
            answers_while: _,
            next_look: _,
            stop: _,
        } = self;
        *old_configs = configs;
        *old_workload = workload;
        run.reset(plan, chooser, reset_checker);
        outbox.get_or_insert_default().clear();
        client_actions.clear();
        self.begin();
    }

    fn begin(&mut self) {
        self.next_look = 0;
        let plan = self.run.plan();
        assert_eq!(self.configs.len(), usize::from(plan.nodes), "one configuration for each node");
        self.network.reset(usize::from(plan.nodes), plan.clients as usize);
        self.hosts.clear();
        self.hosts.extend((0..plan.nodes).map(NodeId).map(Host::new));
    }

    /// Runs to the end or to the first violation. A panic is a violation, of `NodeNeverPanics` for
    /// example, and prints nothing.
    pub fn run(&mut self) -> RunOutcome {
        let judged_until = panics::catch(|| {
            node_log::in_run(|| self.run_events());
            self.run.monitor.checker().judged_until()
        });
        let judged_until = judged_until.unwrap_or_else(|panic| {
            self.run.monitor.on_panic(&panic);
            None
        });
        self.run.monitor.outcome(self.run.timeline.now(), judged_until)
    }

    /// The checker, after the run.
    pub fn checker(&self) -> &K {
        self.run.monitor.checker()
    }

    /// The chooser, after the run.
    pub fn chooser(&self) -> &C {
        self.run.faults.chooser()
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
        self.run.disk(node)
    }

    /// The state of a node as it describes itself ([`Node::write_state`]). Empty while it is down.
    ///
    /// # Panics
    /// If the cluster has no such node.
    pub fn state(&self, node: NodeId) -> String {
        assert!(usize::from(node.0) < self.hosts.len(), "the cluster has no {node}");
        self.state_of_running(node).unwrap_or_default()
    }

    /// The same; `None` while the node is down.
    pub(crate) fn state_of_running(&self, node: NodeId) -> Option<String> {
        let node = self.hosts.get(usize::from(node.0))?.node()?;
        let mut text = String::new();
        // A node that has panicked may be inconsistent, and panic again.
        let written = panics::catch(|| node.write_state(&mut text));
        if let Ok(Err(_)) | Err(_) = written {
            text += "(the node cannot write the rest)\n";
        }
        Some(text)
    }

    /// Consumes the world; its chooser holds what it has recorded.
    pub fn into_chooser(self) -> C {
        self.run.faults.into_chooser()
    }
}

// By hand, since a derived one asks for events that are `Clone`, which only the outbox holds.
impl<N, W, K, C> Clone for World<N, W, K, C>
where
    N: Node<Config: Clone> + Clone,
    W: Clone,
    K: Clone,
    C: Clone,
{
    fn clone(&self) -> Self {
        World {
            configs: self.configs.clone(),
            workload: self.workload.clone(),
            run: self.run.clone(),
            network: self.network.clone(),
            hosts: self.hosts.clone(),
            // Empty between steps, and made when it is needed.
            outbox: None,
            client_actions: self.client_actions.clone(),
            events_max: self.events_max,
            run_end: self.run_end,
            answers_while: self.answers_while,
            next_look: self.next_look,
            stop: Arc::clone(&self.stop),
        }
    }
}

// By hand, since a derived one asks for a node that is `Debug`.
impl<N: Node, W, K, C> fmt::Debug for World<N, W, K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("now", &self.run.timeline.now())
            .field("nodes", &self.hosts.len())
            .finish_non_exhaustive()
    }
}

/// The phases.
impl<N, W, K, C> World<N, W, K, C>
where
    N: Node,
    W: Workload<N>,
    K: Checker<N>,
    C: Chooser,
{
    fn run_events(&mut self) {
        // A message to a node that is down is lost, so every process exists before the first client
        // acts.
        for id in 0..self.run.plan().nodes {
            self.boot(NodeId(id));
        }
        self.notify_clients(ClientEvent::Start);
        // The model of a checker means nothing after a violation, so no further event is handled.
        while !self.run.monitor.is_violated() {
            match self.run.timeline.pop() {
                Next::Event(event) => {
                    let events = &mut self.run.monitor.tally().events;
                    *events += 1;
                    if *events > self.next_look && self.is_over() {
                        return;
                    }
                    // The common case first: nothing is looked at after its events.
                    let ended = if let Event::RecoveryEnds = event {
                        self.elapsed()
                    } else {
                        self.handle_event(event);
                        if self.run_end == RunEnd::Quiet { None } else { self.settled() }
                    };
                    if ended.is_some_and(|how| self.end_phase(how)) {
                        return;
                    }
                }
                Next::TimeOut => {
                    self.end_phase(RecoveryEnd::TimedOut);
                    return;
                }
                Next::Quiet => {
                    if self.end_phase(RecoveryEnd::Quiet) {
                        return;
                    }
                }
            }
        }
    }

    /// The time of [`RunEnd::After`] is over. A probe that has begun goes on.
    fn elapsed(&self) -> Option<RecoveryEnd> {
        (!self.run.timeline.in_probe()).then_some(RecoveryEnd::Elapsed)
    }

    /// Whether the phase is over for another reason than that the run is quiet.
    fn settled(&self) -> Option<RecoveryEnd> {
        let timeline = &self.run.timeline;
        let may_settle = match self.run_end {
            RunEnd::Quiet => false,
            RunEnd::Settled => !timeline.in_fault_phase(),
            // Its recovery lasts for a fixed time.
            RunEnd::After(_) => timeline.in_probe(),
        };
        let settled = may_settle
            && !self.run.monitor.is_violated()
            && !self.workload.is_waiting()
            && self.hosts.iter().all(|host| host.is_up() || self.is_permanently_down(host))
            && self.run.monitor.checker().has_settled();
        settled.then_some(RecoveryEnd::Settled)
    }

    fn is_permanently_down(&self, host: &Host<N>) -> bool {
        host.has_given_up() || self.run.plan().permanently_down.contains(&host.id())
    }

    /// Whether the run ends early: it was stopped, or exceeds its limit.
    #[cold]
    fn is_over(&mut self) -> bool {
        let monitor = &mut self.run.monitor;
        if self.stop.load(Ordering::Relaxed) {
            monitor.interrupt();
            return true;
        }
        let events = monitor.tally().events;
        if events <= self.events_max {
            self.next_look = self.events_max.min(events + EVENTS_BETWEEN_LOOKS);
            return false;
        }
        let reason = format!("the run goes on after {} events", self.events_max);
        monitor.violate(Violation::liveness(RUN_ENDS_WITHIN_LIMITS, reason));
        true
    }

    /// Whether a node is down for good: by plan, or because it has refused to boot or halted for
    /// good.
    fn has_permanently_down_nodes(&self) -> bool {
        !self.run.plan().permanently_down.is_empty() || self.hosts.iter().any(Host::has_given_up)
    }

    /// Ends the recovery, or the probe and with it the run. False if the run goes on with a probe.
    #[cold]
    fn end_phase(&mut self, how: RecoveryEnd) -> bool {
        if self.run.timeline.in_probe() {
            self.finish();
            return true;
        }
        let timed_out = how == RecoveryEnd::TimedOut;
        // The files let a checker see that obsolete ones are removed.
        let files: Vec<_> = if timed_out {
            Vec::new()
        } else {
            self.hosts.iter().flat_map(|host| host.files_in_use(&self.run)).collect()
        };
        self.observe_cluster(&Fact::Run(RunFact::Recovered { how, files: &files }));
        // Only a cluster with all of its nodes is probed: a node that stays down would block the
        // probe for a good reason, and it would say nothing.
        if timed_out || self.has_permanently_down_nodes() {
            self.finish();
            return true;
        }
        self.run.timeline.begin_probe();
        self.notify_clients(ClientEvent::Probe);
        // Without any request of the probe there is nothing to wait for.
        if self.run.timeline.is_quiet() || self.settled().is_some() {
            self.finish();
            return true;
        }
        false
    }

    fn finish(&mut self) {
        self.check_answers();
        self.observe_cluster(&Fact::Run(RunFact::Ended));
    }

    /// Every request that was sent has been answered, if the protocol claims so and enough nodes
    /// are up.
    fn check_answers(&mut self) {
        let Some(availability) = self.answers_while else { return };
        let up = self.hosts.iter().filter(|host| !self.is_permanently_down(host)).count();
        if !availability.is_given(up, self.hosts.len()) {
            return;
        }
        let Some(id) = self.workload.first_unanswered() else { return };
        let now = self.run.timeline.now();
        let after_faults = now - self.run.plan().fault_phase;
        let reason = format!(
            "{id} is not answered at the end of the run, {after_faults} ms after the fault phase"
        );
        self.run.monitor.violate(Violation::liveness(EVERY_REQUEST_IS_ANSWERED, reason));
    }

    /// A fact about the whole cluster names node 0.
    fn observe_cluster(&mut self, fact: &Fact<'_, N>) {
        self.hosts[0].observe(&mut self.run, fact);
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Deliver { slot } => self.deliver(slot),
            Event::DeliverNext { link } => self.deliver_next(link),
            Event::Connect { lower, upper } => {
                self.network.connect(&mut self.run, &self.hosts, lower, upper);
            }
            Event::Barrier { node, incarnation, op, outcome } => {
                self.complete_barrier(NodeId(node), incarnation, op, outcome)
            }
            Event::Wake { node } => self.wake(NodeId(node)),
            Event::Boot { node } => self.boot(NodeId(node)),
            Event::Timer { client } => self.notify_clients(ClientEvent::Timer { client }),
            Event::TimedFault { index } => self.begin_timed_fault(index),
            Event::TimedFaultEnds { index } => self.end_timed_fault(index),
            Event::Heal => self.heal(),
            // Ends the phase, which `run_events` does.
            Event::RecoveryEnds => {}
        }
    }

    fn begin_timed_fault(&mut self, index: u32) {
        // The end of the fault phase drops the timed faults that are still queued. Should one
        // remain, it does not happen either.
        if !self.run.timeline.in_fault_phase() {
            return;
        }
        let timed_fault = self.run.faults.timed(index).clone();
        self.observe_cluster(&Fact::Fault(FaultFact::Timed(&timed_fault)));
        match timed_fault {
            TimedFault::Cut { from, to, duration } => {
                // Partitions overlap: a link is cut while at least one of them cuts it.
                self.network.update_partitions(&from, &to, |partitions| partitions + 1);
                self.run.timeline.push_after(duration, Event::TimedFaultEnds { index });
            }
            // No event for the end of a clog: a message that finds its link clogged is queued again
            // for the time at which the clog ends.
            TimedFault::Clog { from, to, duration, swizzle } => {
                let until = self.run.timeline.now() + duration;
                self.network.clog(from, to, until, swizzle);
            }
            TimedFault::Pause { node, duration } => {
                self.hosts[usize::from(node.0)].pause(&mut self.run, duration);
            }
            TimedFault::ClockJump { node, by } => {
                self.hosts[usize::from(node.0)].jump_clock(&mut self.run, by);
            }
            TimedFault::SecondProcess { node, disk, duration } => {
                let host = &mut self.hosts[usize::from(node.0)];
                if host.set_aside(&mut self.run, disk, index, duration) {
                    self.run.timeline.push_after(duration, Event::TimedFaultEnds { index });
                    self.boot(node);
                }
            }
            TimedFault::DiskHang { node, duration } => {
                self.hosts[usize::from(node.0)].hang_disk(self.run.timeline.now() + duration);
            }
            TimedFault::Wake { node } => self.wake_early(node),
            TimedFault::Crash { node, crash } => {
                let nodes = self.run.plan().nodes;
                // Counted once, at the first of the nodes that lose power.
                if node == NodeId(0) && self.run.faults.is_cluster_power_cut(index, nodes) {
                    self.run.monitor.hit(Rule::ClusterPowerCut);
                }
                self.crash(node, &crash);
            }
        }
    }

    fn end_timed_fault(&mut self, index: u32) {
        // Healing sets the number of partitions of every link to 0. A partition that ends after
        // that must not be subtracted from it.
        if !self.run.timeline.in_fault_phase() {
            return;
        }
        match self.run.faults.timed(index) {
            TimedFault::Cut { from, to, .. } => {
                self.network.update_partitions(from, to, |partitions| partitions - 1);
                self.network.dial_all(&mut self.run);
            }
            TimedFault::SecondProcess { node, .. } => {
                let node = *node;
                let host = &mut self.hosts[usize::from(node.0)];
                host.end_second_process_of(&mut self.run, index);
                self.network.on_process_change(&mut self.run, &self.hosts, node);
            }
            TimedFault::Clog { .. }
            | TimedFault::Pause { .. }
            | TimedFault::ClockJump { .. }
            | TimedFault::DiskHang { .. }
            | TimedFault::Wake { .. }
            | TimedFault::Crash { .. } => {}
        }
    }

    /// Begins the phase of recovery: links heal, nodes boot and pending events are re-timed. Nodes
    /// that are permanently down lose power and stay down (P6).
    fn heal(&mut self) {
        // The phase changes first: from here on no delay has a tail, and the nodes that stay down
        // do not boot.
        self.run.timeline.begin_recovery(self.run.plan().recovery_timeout);
        self.run.faults.end();
        self.network.heal();
        for host in &mut self.hosts {
            // First: what follows is about the process that remains.
            host.end_second_process(&mut self.run);
            host.end_faults();
        }
        let permanently_down = self.run.plan().permanently_down.clone();
        for id in &permanently_down {
            self.hosts[usize::from(id.0)].shut_down_permanently(&mut self.run);
        }
        for host in &mut self.hosts {
            host.kill_if_disk_failed(&mut self.run);
        }
        for id in (0..self.hosts.len() as u16).map(NodeId) {
            self.network.on_process_change(&mut self.run, &self.hosts, id);
        }
        // Boots come after: `retime` drops those that are queued.
        self.retime();
        for host in &self.hosts {
            host.restart_if_down(&mut self.run);
        }
        // A node that has given up stays down as well: nobody waits for it.
        let mut down_for_good = permanently_down;
        for (id, host) in (0..).map(NodeId).zip(&self.hosts) {
            if host.has_given_up() && !down_for_good.contains(&id) {
                down_for_good.push(id);
            }
        }
        if let RunEnd::After(time) = self.run_end {
            self.run.timeline.push_after(time, Event::RecoveryEnds);
        }
        self.observe_cluster(&Fact::Run(RunFact::Healed { permanently_down: &down_for_good }));
        self.notify_clients(ClientEvent::Healed { permanently_down: &down_for_good });
    }

    /// Re-times every pending event to the bounds of a run without faults, counted from now. Wakes
    /// are scheduled anew.
    fn retime(&mut self) {
        let now = self.run.timeline.now();
        let timing = self.run.plan().timing;
        let network = &self.network;
        self.run.timeline.retime(|at, event| match event {
            Event::Deliver { slot } => {
                // A message that was displaced (N8) has no key. Its event only frees the slot, so
                // any time will do.
                let (link, ordinal, is_client_link) = network.timing_key(slot).unwrap_or_default();
                let delay = timing.delay(link, ordinal, is_client_link, false);
                Some(at.clamp(now, now + delay))
            }
            Event::Barrier { node, incarnation, op, outcome } => {
                // The outcome stays: a failure that was decided in the fault phase is still
                // reported, and the node halts in recovery.
                let succeeds = matches!(outcome, BarrierOutcome::Done | BarrierOutcome::Slow);
                let duration = timing.barrier_time(NodeId(node), incarnation, op);
                Some(if succeeds { at.clamp(now, now + duration) } else { at.min(now + duration) })
            }
            // Clients have true time and no faults, so their timers are not moved.
            Event::Timer { .. } => Some(at.max(now)),
            // Wakes and sessions are queued anew below, and boots by the caller; timed faults end
            // with their phase.
            Event::Wake { .. } | Event::Boot { .. } | Event::TimedFault { .. } => None,
            Event::DeliverNext { .. } | Event::Connect { .. } => None,
            Event::TimedFaultEnds { .. } | Event::Heal | Event::RecoveryEnds => None,
        });
        for host in &mut self.hosts {
            host.forget_wake();
            host.schedule_wake(&mut self.run);
        }
        self.network.retime_sessions(&mut self.run);
        self.network.redial(&mut self.run);
    }
}

/// Inputs and effects.
impl<N, W, K, C> World<N, W, K, C>
where
    N: Node,
    W: Workload<N>,
    K: Checker<N>,
    C: Chooser,
{
    fn boot(&mut self, id: NodeId) {
        let mut outbox = self.outbox.take().unwrap_or_default();
        let host = &mut self.hosts[usize::from(id.0)];
        if host.boot(&mut self.run, &self.configs[usize::from(id.0)], &mut outbox) {
            self.perform(id, &mut outbox);
            self.hosts[usize::from(id.0)].schedule_wake(&mut self.run);
            self.run.monitor.end_step();
        }
        outbox.clear();
        self.outbox = Some(outbox);
        self.network.on_process_change(&mut self.run, &self.hosts, id);
    }

    fn wake(&mut self, id: NodeId) {
        // The deadline is the node's code as well.
        self.run.monitor.begin_step(id);
        let host = &mut self.hosts[usize::from(id.0)];
        let incarnation = host.incarnation();
        if let Some(now) = host.take_wake(&mut self.run) {
            self.step(id, Input::Wake);
            let host = &mut self.hosts[usize::from(id.0)];
            // A second process that has halted was woken by another clock than that of the first,
            // which is in its place now.
            if host.incarnation() == incarnation {
                self.run.monitor.begin_step(id);
                host.check_deadline_moved(&mut self.run, now);
            }
        }
        self.run.monitor.end_step();
    }

    /// C4: wakes a node before its deadline.
    fn wake_early(&mut self, id: NodeId) {
        let host = &self.hosts[usize::from(id.0)];
        if host.may_wake_early(&mut self.run) {
            self.run.monitor.hit(Rule::EarlyWake);
            self.step(id, Input::Wake);
        }
    }

    fn complete_barrier(&mut self, id: NodeId, incarnation: u32, op: u32, outcome: BarrierOutcome) {
        let host = &mut self.hosts[usize::from(id.0)];
        let completion = host.complete_barrier(&mut self.run, incarnation, op, outcome);
        if let Some(completion) = completion {
            self.step(id, completion);
            self.hosts[usize::from(id.0)].note_boot_complete(&self.run);
        }
    }

    fn deliver(&mut self, slot: u32) {
        let Some(receiver) = self.network.receiver(&mut self.run, slot) else { return };
        // The numbers of clients are those after the nodes: a client has no host, and is never
        // paused.
        if let Some(host) = self.hosts.get_mut(receiver)
            && host.postpone_if_paused(&mut self.run, Event::Deliver { slot })
        {
            return;
        }
        let delivery = self.network.receive(&mut self.run, &self.hosts, slot);
        self.handle_delivery(delivery);
    }

    /// The next message of a session.
    fn deliver_next(&mut self, link: u32) {
        let Some(receiver) = self.network.session_receiver(&mut self.run, link) else { return };
        let host = &mut self.hosts[receiver];
        if host.postpone_if_paused(&mut self.run, Event::DeliverNext { link }) {
            return;
        }
        let delivery = self.network.receive_next(&mut self.run, &self.hosts, link);
        self.handle_delivery(delivery);
    }

    #[inline(always)]
    fn handle_delivery(&mut self, delivery: Option<Delivery<N>>) {
        match delivery {
            None => {}
            Some(Delivery::Message { from, to, message }) => {
                self.step(to, Input::Message { from, message });
            }
            Some(Delivery::Request { to, id, request }) => {
                self.step(to, Input::Request { id, request });
            }
            Some(Delivery::Connected { to, peer }) => self.step(to, Input::Connected { peer }),
            Some(Delivery::Disconnected { to, peer }) => {
                self.step(to, Input::Disconnected { peer });
            }
            Some(Delivery::Response { from, id, response }) => {
                self.run.monitor.tally().answers += 1;
                let host = &self.hosts[usize::from(from.0)];
                host.observe(
                    &mut self.run,
                    &Fact::Client(ClientFact::Answered { id, response: &response }),
                );
                self.notify_clients(ClientEvent::Answer { from, id, response: &response });
            }
        }
    }

    /// Feeds one input to a running node and performs the effects of the step.
    #[inline(always)]
    fn step(&mut self, id: NodeId, input: Input<N>) {
        let host = &mut self.hosts[usize::from(id.0)];
        // The checker sees the input before the node does, as the effects of the step are judged by
        // it.
        host.observe_inline(&mut self.run, &Fact::Input(&input));
        if self.run.monitor.is_violated() {
            return;
        }
        let mut outbox = self.outbox.take().unwrap_or_default();
        host.step(&mut self.run, input, &mut outbox);
        self.perform(id, &mut outbox);
        outbox.clear();
        self.outbox = Some(outbox);
        self.hosts[usize::from(id.0)].schedule_wake(&mut self.run);
        self.run.monitor.end_step();
    }

    /// Performs the effects of a step, in order. A crash may follow any of them; the effects after
    /// it are discarded.
    fn perform(&mut self, id: NodeId, outbox: &mut Outbox<N>) {
        self.run.monitor.begin_effects(id);
        let (mut effects, bytes) = outbox.drain();
        for effect in effects.by_ref() {
            let alive = match effect {
                Effect::Send { .. } | Effect::Reply { .. } => self.perform_send(id, effect),
                Effect::Disk(op) => {
                    let alive = self.perform_disk_op(id, &op, &effect, bytes);
                    // It owns nothing, and the compiler would call the destructor of all effects.
                    std::mem::forget(effect);
                    alive
                }
                // No crash after a report: an added log line must not move the places of crashes.
                Effect::Report(_) => {
                    let host = &self.hosts[usize::from(id.0)];
                    host.observe(&mut self.run, &Fact::Effect(&effect, &[]));
                    true
                }
                Effect::Halt(ref reason) => {
                    let host = &mut self.hosts[usize::from(id.0)];
                    host.observe(&mut self.run, &Fact::Effect(&effect, &[]));
                    host.halt(&mut self.run, reason);
                    self.network.on_process_change(&mut self.run, &self.hosts, id);
                    false
                }
            };
            if !alive || self.run.monitor.is_violated() {
                return;
            }
        }
        // All are taken out, and its destructor looks for others in every step.
        std::mem::forget(effects);
    }

    /// Sends a message or a response; false if no further effect of the step is performed, since
    /// the process ends or a property is violated.
    #[inline(always)]
    fn perform_send(&mut self, id: NodeId, effect: Effect<N>) -> bool {
        let host = &mut self.hosts[usize::from(id.0)];
        let ordinal = host.next_effect_ordinal();
        host.observe_inline(&mut self.run, &Fact::Effect(&effect, &[]));
        if self.run.monitor.is_violated() {
            return false;
        }
        // The crash is decided before the message is gone, and happens after.
        let crash = host.crash_after(&mut self.run, ordinal, &effect);
        match effect {
            Effect::Send { to, message } => {
                if concerns_any_request(&message) {
                    host.note_service();
                }
                self.network.send_message(&mut self.run, &self.hosts, (id, to), message);
            }
            Effect::Reply { id: request, response } => {
                host.note_service();
                self.network.send_response(&mut self.run, &self.hosts, id, request, response);
            }
            Effect::Disk(_) | Effect::Report(_) | Effect::Halt(_) => {}
        }
        let Some(crash) = crash else { return true };
        self.crash(id, &crash);
        false
    }

    /// Issues an operation to the disk; false if no further effect of the step is performed, since
    /// the process ends or a property is violated.
    #[inline(always)]
    fn perform_disk_op(
        &mut self,
        id: NodeId,
        op: &DiskOp,
        effect: &Effect<N>,
        buffer: &[u8],
    ) -> bool {
        let host = &mut self.hosts[usize::from(id.0)];
        let ordinal = host.next_effect_ordinal();
        host.perform_disk_op(&mut self.run, ordinal, op, effect, buffer);
        if self.run.monitor.is_violated() {
            return false;
        }
        let Some(crash) = host.crash_after(&mut self.run, ordinal, effect) else { return true };
        self.crash(id, &crash);
        false
    }

    /// Ends the running process of a node, and perhaps replaces its disk by that of another (D13).
    #[cold]
    fn crash(&mut self, id: NodeId, crash: &Crash) {
        let mut other_disk = None;
        // Copied here, since one host knows nothing of another. A schedule for a larger cluster may
        // name a node that does not exist.
        if let Some(AtRestFault::OfNode(other)) = crash.at_rest
            && usize::from(other.0) < self.hosts.len()
            && other != id
        {
            other_disk = Some(self.run.disk(other).backup());
        }
        self.hosts[usize::from(id.0)].crash(&mut self.run, crash, other_disk.as_ref());
        self.network.on_process_change(&mut self.run, &self.hosts, id);
    }

    /// Lets the workload handle an event; sends its requests and sets its timers.
    fn notify_clients(&mut self, event: ClientEvent<'_, N>) {
        // Taken out while its lists are drained, since the hosts and the network are borrowed then;
        // put back at the end with its memory.
        let mut client_actions = std::mem::take(&mut self.client_actions);
        let now = self.run.timeline.now();
        self.workload.on(now, event, &mut client_actions);
        for (at, client) in client_actions.timers.drain(..) {
            // Not at the same time: a client that sets a timer for now would never let time pass.
            self.run.timeline.push_at(at.max(now + Micros(1)), Event::Timer { client });
        }
        for (id, node, request) in client_actions.requests.drain(..) {
            // Checked here, where the request can be named; below, it would be an index out of
            // bounds.
            let nodes = self.run.plan().nodes;
            assert!(
                node.0 < nodes,
                "request {id} is addressed to {node}, but this cluster has {nodes} nodes"
            );
            self.run.monitor.tally().requests += 1;
            let host = &self.hosts[usize::from(node.0)];
            host.observe(&mut self.run, &Fact::Client(ClientFact::Asked { id, request: &request }));
            self.network.send_request(&mut self.run, &self.hosts, node, id, request);
        }
        self.client_actions = client_actions;
    }
}
