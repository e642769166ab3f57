//! The loop around a node: inputs in, effects out, in order.

mod perform;

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, Sleep};

use super::clock::{Clock, after};
use super::disk::{BarrierCompletion, Batch, DiskThread};
use super::files::Directory;
use super::link::{self, Link};
use super::listener::{Arrival, Listener};
use super::observer::{Continuation, Observer};
use super::packet::{ClientReply, Rejected};
use super::serve::{DiskStatus, ServedNode};
use super::start::{Ending, Settings};
use super::stream::SendQueue;
use crate::contract::{Input, Outbox};
use crate::id::{Incarnation, NodeId, RequestId};

/// Requests that may be under way at one node: a bound on what clients can make it hold.
const PENDING_REQUESTS_MAX: usize = 8_192;

/// Inputs that are handled before their effects leave: what they write shares a disk batch and a packet.
const INPUT_BATCH_MAX: usize = 64;

/// Everything that one life has.
pub(super) struct Driver<N: ServedNode> {
    settings: Settings,
    node: N,
    outbox: Outbox<N>,
    clock: Clock,
    observer: Option<Box<dyn Observer<N>>>,
    /// The number of the last letter sent.
    last_message_number: u64,
    jobs: mpsc::Sender<Batch>,
    batch: Batch,
    disk: DiskStatus,
    /// What the operating system said about the failure that the node halts for.
    detail: String,
    links: BTreeMap<NodeId, Link>,
    /// Who waits for which answer.
    pending_requests: BTreeMap<RequestId, Arc<SendQueue>>,
    // Until the node is ready.
    listener: Option<Listener<N>>,
    tasks: JoinSet<()>,
    ready: watch::Sender<Option<Incarnation>>,
    /// Until when a clean shutdown waits.
    closing: Option<Instant>,
    ended: Option<Ending>,
}

/// The life of a node.
impl<N: ServedNode> Driver<N> {
    #[expect(clippy::too_many_arguments, reason = "what `start` has put together, once")]
    pub(super) fn new(
        settings: Settings,
        node: N,
        outbox: Outbox<N>,
        clock: Clock,
        observer: Option<Box<dyn Observer<N>>>,
        entropy: u64,
        jobs: mpsc::Sender<Batch>,
        listener: Listener<N>,
        ready: watch::Sender<Option<Incarnation>>,
    ) -> Driver<N> {
        Driver {
            settings,
            node,
            outbox,
            clock,
            observer,
            // Whoever sends a letter of an earlier life again cannot be told apart by numbers that start from 1.
            last_message_number: entropy & !0xFFFF_FFFF,
            jobs,
            batch: Batch::default(),
            disk: DiskStatus::default(),
            detail: String::new(),
            links: BTreeMap::new(),
            pending_requests: BTreeMap::new(),
            listener: Some(listener),
            tasks: JoinSet::new(),
            ready,
            closing: None,
            ended: None,
        }
    }

    pub(super) async fn run(
        mut self,
        mut arrivals: mpsc::Receiver<Arrival<N>>,
        mut done: mpsc::UnboundedReceiver<BarrierCompletion>,
        mut stop: watch::Receiver<bool>,
        thread: DiskThread,
        directory: Directory,
    ) -> Ending {
        self.perform(self.clock.now());
        self.open_if_ready();
        let mut batch = Vec::with_capacity(INPUT_BATCH_MAX);
        let mut alarm = Box::pin(tokio::time::sleep(Duration::ZERO));
        while self.ended.is_none() {
            self.flush().await;
            self.set_alarm(&mut alarm);
            tokio::select! {
                biased;
                // What is always ready under load comes last, so that nothing else starves.
                done = done.recv() => match done {
                    Some(done) => self.on_done(done),
                    None => self.end(Ending::EngineFailed { what: "the disk thread has ended".to_owned() }),
                },
                Some(ended) = self.tasks.join_next() => self.on_task_ended(&ended),
                () = &mut alarm => self.on_alarm(),
                Ok(()) = stop.changed() => self.on_stop(),
                _ = arrivals.recv_many(&mut batch, INPUT_BATCH_MAX) => {}
            }
            for arrival in batch.drain(..) {
                self.on_arrival(arrival);
            }
            if self.closing.is_some() && self.pending_requests.is_empty() && self.node.is_idle() {
                self.end(Ending::Stopped { idle: true });
            }
        }
        self.shut_down(thread).await;
        drop(directory);
        self.ended.unwrap_or(Ending::Terminated)
    }

    /// Hands everything that was written to the disk thread. If that is behind, no more inputs are taken meanwhile.
    async fn flush(&mut self) {
        if !self.batch.jobs.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            // It ends only after this sender is dropped.
            let _ = self.jobs.send(batch).await;
        }
    }

    fn set_alarm(&self, alarm: &mut Pin<Box<Sleep>>) {
        let due = self.node.deadline().map(|deadline| self.clock.instant(deadline));
        let due = due.into_iter().chain(self.closing).min();
        let far = Instant::now() + Duration::from_secs(3_600);
        alarm.as_mut().reset(due.unwrap_or(far));
    }

    fn on_alarm(&mut self) {
        if self.closing.is_some_and(|limit| limit <= Instant::now()) {
            return self.end(Ending::Stopped { idle: false });
        }
        if self.node.deadline().is_some() {
            self.step(Input::Wake, 0);
        }
    }

    fn on_stop(&mut self) {
        tracing::info!(node = %self.settings.node, "shutting down: nothing new is begun");
        self.closing.get_or_insert(after(self.settings.shutdown_timeout));
    }

    /// The door and the links go on for as long as the node lives. Without one of them it would live on, and hear nobody.
    fn on_task_ended(&mut self, ended: &Result<(), JoinError>) {
        let reason = match ended {
            Ok(()) => "it returned".to_owned(),
            Err(failure) => failure.to_string(),
        };
        self.end(Ending::EngineFailed {
            what: format!("a task of the network has ended: {reason}"),
        });
    }

    fn on_done(&mut self, done: BarrierCompletion) {
        self.disk.syncs += u64::from(done.result.is_ok());
        if let Some(detail) = done.detail {
            self.detail = detail;
        }
        self.step(Input::DiskDone { op: done.op, result: done.result }, 0);
    }

    fn on_arrival(&mut self, arrival: Arrival<N>) {
        match arrival {
            // Whoever sent it sends it again: to the next life.
            Arrival::Message { message, .. }
                if self.closing.is_some() && self.node.starts_new_work(&message) => {}
            Arrival::Message { from, number, message } => {
                self.step(Input::Message { from, message }, number);
            }
            Arrival::Request { id, request, queue } => match self.rejection(id) {
                Some(reason) => {
                    queue.put(&ClientReply::<N::Response>::Rejected { id, reason });
                }
                None => {
                    self.pending_requests.insert(id, queue);
                    self.step(Input::Request { id, request }, 0);
                }
            },
            Arrival::Status { queue } => {
                let json = serde_json::to_string(&self.status()).expect("a status is plain data");
                queue.put(&ClientReply::<N::Response>::Status { json });
            }
            Arrival::Gone { queue } => {
                self.pending_requests.retain(|_, other| !Arc::ptr_eq(other, &queue))
            }
        }
    }

    /// A request that is under way may always be asked again.
    fn rejection(&self, id: RequestId) -> Option<Rejected> {
        if self.pending_requests.contains_key(&id) {
            None
        } else if self.closing.is_some() {
            Some(Rejected::Closing)
        } else {
            (self.pending_requests.len() >= PENDING_REQUESTS_MAX).then_some(Rejected::Busy)
        }
    }

    fn step(&mut self, input: Input<N>, message_number: u64) {
        if self.ended.is_some() {
            return;
        }
        let now = self.clock.now();
        let observed =
            self.observer.as_mut().map(|observer| observer.input(now, &input, message_number));
        if self.ends_run(observed) {
            return;
        }
        self.node.step(now, input, &mut self.outbox);
        self.perform(now);
        self.open_if_ready();
    }

    /// Ends the life if the tap wants that.
    fn ends_run(&mut self, observed: Option<io::Result<Continuation>>) -> bool {
        match observed {
            None | Some(Ok(Continuation::Proceed)) => false,
            Some(Ok(Continuation::Terminate)) => {
                self.end(Ending::Terminated);
                true
            }
            Some(Err(error)) => {
                self.end(Ending::ObserverFailed(error));
                true
            }
        }
    }

    fn end(&mut self, ending: Ending) {
        self.ended.get_or_insert(ending);
    }

    /// Once the life is durable, it may be spoken of.
    fn open_if_ready(&mut self) {
        if self.listener.is_none() {
            return;
        }
        let Some(incarnation) = self.node.incarnation() else { return };
        let Some(listener) = self.listener.take() else { return };
        let identity = link::NodeIdentity {
            cluster: self.settings.cluster.clone().into(),
            node: self.settings.node,
            incarnation,
        };
        for (peer, address) in
            self.settings.peers.iter().filter(|(peer, _)| **peer != self.settings.node)
        {
            let link = self.links.entry(*peer).or_default();
            self.tasks.spawn(link.clone().run(identity.clone(), *peer, address.clone()));
        }
        let peers = self.settings.peers.keys().copied().collect();
        self.tasks.spawn(listener.run(identity, peers));
        self.ready.send_replace(Some(incarnation));
    }
}

/// The end.
impl<N: ServedNode> Driver<N> {
    /// Ends everything that was started. A clean end lets answers and letters leave first.
    async fn shut_down(&mut self, thread: DiskThread) {
        if let Some(Ending::Stopped { .. }) = self.ended {
            if let (Some(observer), Some(Ending::Stopped { idle: true })) =
                (&mut self.observer, &self.ended)
                && let Err(error) = observer.stopped(self.clock.now())
            {
                tracing::error!(%error, "cannot write the event log");
            }
            self.flush().await;
            // Answers and letters are on their way to the kernel: the tasks that write them run meanwhile.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.tasks.shutdown().await;
        self.links.clear();
        let (dead_end, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.jobs, dead_end));
        // What the thread was given it performs; a disk that hangs keeps the directory locked, and rightly.
        let _ = tokio::task::spawn_blocking(|| thread.join()).await;
    }
}
