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
use super::disk::{Batch, Done, Thread};
use super::door::{Arrival, Door};
use super::files::Directory;
use super::link::{self, Link};
use super::packet::{ClientEcho, TurnedAway};
use super::serve::{DiskStatus, Serve};
use super::start::{Ending, Settings};
use super::stream::Pipe;
use super::tap::{Tap, Then};
use crate::contract::{Input, Outbox};
use crate::id::{Incarnation, NodeId, RequestId};

/// Requests that may be under way at one node: a bound on what clients can make it hold.
const ASKED_MAX: usize = 8_192;

/// Inputs that are handled before their effects leave: what they write shares a disk batch and a packet.
const TOGETHER_MAX: usize = 64;

/// Everything that one life has.
pub(super) struct Driver<N: Serve> {
    settings: Settings,
    node: N,
    outbox: Outbox<N>,
    clock: Clock,
    tap: Option<Box<dyn Tap<N>>>,
    /// The number of the last letter sent.
    letters: u64,
    jobs: mpsc::Sender<Batch>,
    batch: Batch,
    disk: DiskStatus,
    /// What the operating system said about the failure that the node halts for.
    detail: String,
    links: BTreeMap<NodeId, Link>,
    /// Who waits for which answer.
    asked: BTreeMap<RequestId, Arc<Pipe>>,
    // Until the node is ready.
    door: Option<Door<N>>,
    tasks: JoinSet<()>,
    ready: watch::Sender<Option<Incarnation>>,
    /// Until when a clean shutdown waits.
    closing: Option<Instant>,
    ended: Option<Ending>,
}

/// The life of a node.
impl<N: Serve> Driver<N> {
    #[expect(clippy::too_many_arguments, reason = "what `start` has put together, once")]
    pub(super) fn new(
        settings: Settings,
        node: N,
        outbox: Outbox<N>,
        clock: Clock,
        tap: Option<Box<dyn Tap<N>>>,
        entropy: u64,
        jobs: mpsc::Sender<Batch>,
        door: Door<N>,
        ready: watch::Sender<Option<Incarnation>>,
    ) -> Driver<N> {
        Driver {
            settings,
            node,
            outbox,
            clock,
            tap,
            // Whoever sends a letter of an earlier life again cannot be told apart by numbers that start from 1.
            letters: entropy & !0xFFFF_FFFF,
            jobs,
            batch: Batch::default(),
            disk: DiskStatus::default(),
            detail: String::new(),
            links: BTreeMap::new(),
            asked: BTreeMap::new(),
            door: Some(door),
            tasks: JoinSet::new(),
            ready,
            closing: None,
            ended: None,
        }
    }

    pub(super) async fn live(
        mut self,
        mut arrivals: mpsc::Receiver<Arrival<N>>,
        mut done: mpsc::UnboundedReceiver<Done>,
        mut stop: watch::Receiver<bool>,
        thread: Thread,
        directory: Directory,
    ) -> Ending {
        self.perform(self.clock.now());
        self.open_if_ready();
        let mut batch = Vec::with_capacity(TOGETHER_MAX);
        let mut alarm = Box::pin(tokio::time::sleep(Duration::ZERO));
        while self.ended.is_none() {
            self.flush().await;
            self.set_alarm(&mut alarm);
            tokio::select! {
                biased;
                // What is always ready under load comes last, so that nothing else starves.
                done = done.recv() => match done {
                    Some(done) => self.on_done(done),
                    None => self.end(Ending::Crippled { what: "the disk thread has ended".to_owned() }),
                },
                Some(ended) = self.tasks.join_next() => self.on_task_ended(&ended),
                () = &mut alarm => self.on_alarm(),
                Ok(()) = stop.changed() => self.on_stop(),
                _ = arrivals.recv_many(&mut batch, TOGETHER_MAX) => {}
            }
            for arrival in batch.drain(..) {
                self.on_arrival(arrival);
            }
            if self.closing.is_some() && self.asked.is_empty() && self.node.is_idle() {
                self.end(Ending::Stopped { idle: true });
            }
        }
        self.die(thread).await;
        drop(directory);
        self.ended.unwrap_or(Ending::Died)
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
        self.closing.get_or_insert(after(self.settings.patience));
    }

    /// The door and the links go on for as long as the node lives. Without one of them it would live on, and hear nobody.
    fn on_task_ended(&mut self, ended: &Result<(), JoinError>) {
        let why = match ended {
            Ok(()) => "it returned".to_owned(),
            Err(failure) => failure.to_string(),
        };
        self.end(Ending::Crippled { what: format!("a task of the network has ended: {why}") });
    }

    fn on_done(&mut self, done: Done) {
        self.disk.syncs += u64::from(done.result.is_ok());
        if let Some(detail) = done.detail {
            self.detail = detail;
        }
        self.step(Input::DiskDone { op: done.op, result: done.result }, 0);
    }

    fn on_arrival(&mut self, arrival: Arrival<N>) {
        match arrival {
            // Whoever sent it sends it again: to the next life.
            Arrival::Letter { message, .. } if self.closing.is_some() && self.node.begins(&message) => {}
            Arrival::Letter { from, number, message } => {
                self.step(Input::Message { from, message }, number);
            }
            Arrival::Ask { id, request, pipe } => match self.turns_away(id) {
                Some(why) => {
                    pipe.put(&ClientEcho::<N::Response>::TurnedAway { id, why });
                }
                None => {
                    self.asked.insert(id, pipe);
                    self.step(Input::Request { id, request }, 0);
                }
            },
            Arrival::Status { pipe } => {
                let json = serde_json::to_string(&self.status()).expect("a status is plain data");
                pipe.put(&ClientEcho::<N::Response>::Status { json });
            }
            Arrival::Gone { pipe } => self.asked.retain(|_, other| !Arc::ptr_eq(other, &pipe)),
        }
    }

    /// A request that is under way may always be asked again.
    fn turns_away(&self, id: RequestId) -> Option<TurnedAway> {
        if self.asked.contains_key(&id) {
            None
        } else if self.closing.is_some() {
            Some(TurnedAway::Closing)
        } else {
            (self.asked.len() >= ASKED_MAX).then_some(TurnedAway::Busy)
        }
    }

    fn step(&mut self, input: Input<N>, letter: u64) {
        if self.ended.is_some() {
            return;
        }
        let now = self.clock.now();
        let seen = self.tap.as_mut().map(|tap| tap.input(now, &input, letter));
        if self.stops(seen) {
            return;
        }
        self.node.step(now, input, &mut self.outbox);
        self.perform(now);
        self.open_if_ready();
    }

    /// Ends the life if the tap wants that.
    fn stops(&mut self, seen: Option<io::Result<Then>>) -> bool {
        match seen {
            None | Some(Ok(Then::GoOn)) => false,
            Some(Ok(Then::Die)) => {
                self.end(Ending::Died);
                true
            }
            Some(Err(error)) => {
                self.end(Ending::Unlogged(error));
                true
            }
        }
    }

    fn end(&mut self, ending: Ending) {
        self.ended.get_or_insert(ending);
    }

    /// Once the life is durable, it may be spoken of.
    fn open_if_ready(&mut self) {
        if self.door.is_none() {
            return;
        }
        let Some(life) = self.node.life() else { return };
        let Some(door) = self.door.take() else { return };
        let identity =
            link::Identity { cluster: self.settings.cluster.clone().into(), node: self.settings.node, life };
        for (peer, address) in self.settings.peers.iter().filter(|(peer, _)| **peer != self.settings.node) {
            let link = self.links.entry(*peer).or_default();
            self.tasks.spawn(link.clone().keep(identity.clone(), *peer, address.clone()));
        }
        let peers = self.settings.peers.keys().copied().collect();
        self.tasks.spawn(door.keep(identity, peers));
        self.ready.send_replace(Some(life));
    }
}

/// The end.
impl<N: Serve> Driver<N> {
    /// Ends everything that was started. A clean end lets answers and letters leave first.
    async fn die(&mut self, thread: Thread) {
        if let Some(Ending::Stopped { .. }) = self.ended {
            if let (Some(tap), Some(Ending::Stopped { idle: true })) = (&mut self.tap, &self.ended)
                && let Err(error) = tap.stopped(self.clock.now())
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
