//! The loop around a node: inputs in, effects out, in order.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, Sleep, timeout_at};

use super::clock::{Clock, after};
use super::disk::{BarrierCompletion, Batch, Completion, DiskThread, Job, Note};
use super::link::{self, Dialler, Link};
use super::listener::{Arrival, Listener};
use super::observer::{Continuation, Observer};
use super::packet::{ClientReply, PeerPacket, RejectReason};
use super::rate_limit::{RateLimit, Suppressed};
use super::serve::{DiskStatus, ServedNode, Status};
use super::session::{self, Session, SessionEvent, Sessions};
use super::start::{Ending, STATUS_REQUESTS_MAX, Settings};
use super::stream::SendQueue;
use crate::contract::{DiskError, DiskOp, Effect, HaltReason, Input, Label, Links, OpId, Outbox};
use crate::id::{Incarnation, Micros, NodeId, RequestId, Time};

/// Pending requests at one node: a bound on the memory that clients can make it use.
// Far above what the clients that may connect have pending with one request each.
const PENDING_REQUESTS_MAX: usize = 8_192;

/// Inputs that are handled before the disk batch is flushed: their writes share one batch, and
/// their messages to one peer one write to its socket.
// Without a bound, the first input of a long burst would wait for the last one before its writes
// reach the disk thread.
const INPUT_BATCH_MAX: usize = 64;

/// The disk has at least so long to finish at the end of an incarnation.
// A disk that works needs milliseconds, also after a shutdown that has used all of its time.
const DISK_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// A start that takes long says so after [`DiskStatus::SILENT_MAX`], and then as often as this.
const START_WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// The state of one incarnation.
pub(super) struct Driver<N: ServedNode> {
    settings: Settings,
    node: N,
    outbox: Outbox<N>,
    clock: Clock,
    observer: Option<Box<dyn Observer<N>>>,
    /// The number of the last message sent. Event logs show it, so that one can see which message
    /// was received.
    last_message_number: u64,
    jobs: mpsc::Sender<Batch>,
    batch: Batch,
    /// But for `silent` and `files`, which each status computes.
    disk: DiskStatus,
    /// The barriers that have not completed, in the order in which they were issued.
    pending_barriers: Vec<(OpId, Time)>,
    /// The operating system's error for the failure that the node halts for; empty if there is
    /// none.
    detail: String,
    /// Of datagrams.
    links: BTreeMap<NodeId, Link>,
    sessions: Sessions,
    /// For each pending request, the queue of the connection that receives its answer.
    pending_requests: BTreeMap<RequestId, Arc<SendQueue>>,
    /// `Some` until the node is open: it may speak to others then.
    listener: Option<Listener<N>>,
    /// Whether [`Note::Serves`] was issued. The node opens when that is durable.
    serves_noted: bool,
    /// Until the node is open: when to log next what it waits for.
    start_warning_at: Instant,
    tasks: JoinSet<()>,
    ready: watch::Sender<Option<Incarnation>>,
    /// The end of the wait of a clean shutdown; `None` while no shutdown was requested.
    closing: Option<Instant>,
    ended: Option<Ending>,
    /// Of the events that the node reports.
    reports: RateLimit,
}

/// From the first input to the last.
impl<N: ServedNode> Driver<N> {
    #[expect(clippy::too_many_arguments, reason = "called once, by `start`")]
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
            // A random start per incarnation: with numbers that begin at 1, a message of an earlier
            // incarnation that arrives late would have the number of a message of this one.
            last_message_number: entropy & !0xFFFF_FFFF,
            jobs,
            batch: Batch::default(),
            disk: DiskStatus::default(),
            pending_barriers: Vec::new(),
            detail: String::new(),
            links: BTreeMap::new(),
            sessions: Sessions::default(),
            pending_requests: BTreeMap::new(),
            listener: Some(listener),
            serves_noted: false,
            start_warning_at: after(Duration::from_micros(DiskStatus::SILENT_MAX.0)),
            tasks: JoinSet::new(),
            ready,
            closing: None,
            ended: None,
            reports: RateLimit::new(Instant::now()),
        }
    }

    pub(super) async fn run(
        mut self,
        mut arrivals: mpsc::Receiver<Arrival<N>>,
        mut status: mpsc::Receiver<Arc<SendQueue>>,
        mut stop: watch::Receiver<bool>,
        mut disk: DiskThread,
    ) -> Ending {
        // The effects of the boot are in the outbox already. They come before any input (duty 1 of
        // the driver).
        self.perform(self.clock.now());
        self.go_on_with_start();
        let mut batch = Vec::with_capacity(INPUT_BATCH_MAX);
        let mut status_queues = Vec::with_capacity(STATUS_REQUESTS_MAX);
        // One timer for the whole run, moved at each turn: a new one would allocate each time.
        let mut alarm = Box::pin(tokio::time::sleep(Duration::ZERO));
        while self.ended.is_none() {
            self.flush();
            // Lets the connections go on from time to time, so that their inputs come in larger
            // batches. `cargo tools bench` prints 5 % less without it.
            tokio::task::consume_budget().await;
            self.set_alarm(&mut alarm);
            let disk_is_behind = !self.batch.is_empty();
            tokio::select! {
                biased;
                // Arrivals come late: under load they are always ready and would starve the rest.
                done = disk.completion() => match done {
                    Some(completion) => self.on_completion(completion),
                    None => self.end(Ending::EngineFailed { what: "the disk thread has ended".to_owned() }),
                },
                Some(ended) = self.tasks.join_next() => self.on_task_ended(&ended),
                () = &mut alarm => self.on_alarm(&disk),
                Ok(()) = stop.changed() => self.on_stop(),
                // The next turn flushes.
                () = room(&self.jobs), if disk_is_behind => {}
                _ = arrivals.recv_many(&mut batch, INPUT_BATCH_MAX), if !disk_is_behind => {}
                Some(queue) = status.recv() => status_queues.push(queue),
            }
            for arrival in batch.drain(..) {
                self.on_arrival(arrival);
            }
            // After the arrivals of this turn, of which a client may expect to see the effects.
            // Bounded, so that nobody keeps the node from its work by asking for the status.
            while status_queues.len() < STATUS_REQUESTS_MAX
                && let Ok(queue) = status.try_recv()
            {
                status_queues.push(queue);
            }
            for queue in status_queues.drain(..) {
                self.answer_status(&disk, &queue);
            }
            // Checked after the inputs, as each may have ended the last piece of work.
            if self.closing.is_some() && self.pending_requests.is_empty() && self.node.is_idle() {
                self.end(Ending::Stopped { idle: true });
            }
        }
        self.shut_down(disk).await;
        self.ended.unwrap_or(Ending::Terminated)
    }

    /// Sends the batch to the disk thread, unless the queue of that thread is full: then it stays,
    /// and grows only by what follows from barriers, timers and the end of the node.
    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        // Fails otherwise only if the disk thread has ended, and then the node ends, too.
        if let Ok(slot) = self.jobs.try_reserve() {
            slot.send(std::mem::take(&mut self.batch));
        }
    }

    fn set_alarm(&self, alarm: &mut Pin<Box<Sleep>>) {
        let due = self.node.deadline().map(|deadline| self.clock.instant(deadline));
        let starting = self.listener.is_some().then_some(self.start_warning_at);
        let due = due.into_iter().chain(self.closing).chain(starting).min();
        // Without a deadline the alarm still has to be set to something. An hour is harmless: a
        // wake without a deadline does nothing.
        let far = Instant::now() + Duration::from_secs(3_600);
        alarm.as_mut().reset(due.unwrap_or(far));
    }

    fn on_alarm(&mut self, disk: &DiskThread) {
        // The alarm serves the node's deadline, the end of the shutdown and the log of the start,
        // so it is not clear which one was due.
        if self.closing.is_some_and(|limit| limit <= Instant::now()) {
            return self.end(Ending::Stopped { idle: false });
        }
        if self.listener.is_some() && self.start_warning_at <= Instant::now() {
            self.start_warning_at = after(START_WARNING_INTERVAL);
            // Nobody can ask for the status yet.
            if let Some(operation) = disk.operation() {
                let node = self.settings.node;
                tracing::warn!(%node, "cannot serve yet: the disk has been {operation}");
            }
        }
        if self.node.deadline().is_some() {
            self.step(Input::Wake, 0);
        }
    }

    fn on_stop(&mut self) {
        tracing::info!(node = %self.settings.node, "shutting down: new requests are rejected");
        // A second signal must not extend the wait.
        self.closing.get_or_insert(after(self.settings.shutdown_timeout));
    }

    /// The listener and the links run for as long as the node runs. Without one of them the node
    /// would run on and receive nothing, so the end of any of them ends the node.
    fn on_task_ended(&mut self, ended: &Result<(), JoinError>) {
        let reason = match ended {
            Ok(()) => "it returned".to_owned(),
            Err(failure) => failure.to_string(),
        };
        self.end(Ending::EngineFailed { what: format!("a network task has ended: {reason}") });
    }

    fn on_completion(&mut self, completion: Completion) {
        match completion {
            Completion::Barrier(done) => self.on_barrier_done(done),
            Completion::Serves(Ok(())) => self.open(),
            Completion::Serves(Err(error)) => {
                let reason = HaltReason::DiskFailed(DiskError::Io);
                self.end(Ending::Halted { reason, detail: error.to_string() });
            }
        }
    }

    fn on_barrier_done(&mut self, done: BarrierCompletion) {
        self.pending_barriers.retain(|(op, _)| *op != done.op);
        // A failed barrier made nothing durable, so it does not count.
        self.disk.syncs += u64::from(done.result.is_ok());
        if let Some(detail) = done.detail {
            self.detail = detail;
        }
        self.step(Input::DiskDone { op: done.op, result: done.result }, 0);
    }

    fn on_arrival(&mut self, arrival: Arrival<N>) {
        match arrival {
            // Dropped: the sender repeats it, and the next incarnation handles it.
            Arrival::Message { message, .. }
                if self.closing.is_some() && self.node.starts_new_work(&message) => {}
            // The shares end with the step: what the node keeps, it accounts for itself.
            Arrival::Message { from, number, message, share: _share } => {
                self.step(Input::Message { from, message }, number);
            }
            Arrival::Request { id, request, queue, share: _share } => match self.rejection(id) {
                Some(reason) => {
                    put_or_close(&queue, &ClientReply::<N::Response>::Rejected { id, reason });
                }
                None => {
                    self.pending_requests.insert(id, queue);
                    self.step(Input::Request { id, request }, 0);
                }
            },
            Arrival::Session { peer, session, event } => self.on_session(peer, session, event),
            Arrival::Gone { queue } => {
                // By identity: a client that reconnected has a new queue, and its requests wait for
                // that one.
                self.pending_requests.retain(|_, other| !Arc::ptr_eq(other, &queue))
            }
        }
    }

    /// What the present session of a peer brings. Another one has ended for the node, even if its
    /// connection has read a message of it later than the present one has begun.
    fn on_session(&mut self, peer: NodeId, session: Arc<Session>, event: SessionEvent<N::Message>) {
        let is_present = self.sessions.is_present(peer, &session);
        match event {
            SessionEvent::Connected => {
                // A newer connection may arrive before the end of the older one does.
                self.end_session(peer);
                self.sessions.begin(peer, session);
                self.step(Input::Connected { peer }, 0);
            }
            // Also while the node shuts down: no message of a session may be missing.
            SessionEvent::Message { number, message, share: _share } if is_present => {
                self.step(Input::Message { from: peer, message }, number);
            }
            SessionEvent::Disconnected if is_present => self.end_session(peer),
            SessionEvent::Message { .. } | SessionEvent::Disconnected => {}
        }
    }

    fn end_session(&mut self, peer: NodeId) {
        // Before the step: what the node sends in it is lost.
        if self.sessions.end(peer) {
            self.step(Input::Disconnected { peer }, 0);
        }
    }

    fn answer_status(&self, disk: &DiskThread, queue: &SendQueue) {
        let json = serde_json::to_string(&self.status(disk)).expect("a status is plain data");
        put_or_close(queue, &ClientReply::<N::Response>::Status { json });
    }

    /// `None` if the request is accepted. A repetition of a pending request always is.
    fn rejection(&self, id: RequestId) -> Option<RejectReason> {
        // A repetition replaces the queue of a pending request and takes no memory, so the limit
        // does not apply.
        if self.pending_requests.contains_key(&id) {
            None
        } else if self.closing.is_some() {
            Some(RejectReason::Closing)
        } else {
            (self.pending_requests.len() >= PENDING_REQUESTS_MAX).then_some(RejectReason::Busy)
        }
    }

    fn step(&mut self, input: Input<N>, message_number: u64) {
        if self.ended.is_some() {
            return;
        }
        let now = self.clock.now();
        // The observer comes first: an event log must not lack an input whose effects others have
        // seen.
        let observed =
            self.observer.as_mut().map(|observer| observer.input(now, &input, message_number));
        if self.ends_run(observed) {
            return;
        }
        self.node.step(now, input, &mut self.outbox);
        self.perform(now);
        // The step may have handled the last barrier of the boot.
        self.go_on_with_start();
    }

    /// Ends the node if the observer terminates it or fails; true if the run is over.
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
        // The first reason is the cause; later ones follow from it.
        self.ended.get_or_insert(ending);
    }

    /// Goes on with the start: as soon as the incarnation is durable, it is noted that the node
    /// serves, and then the node opens. Once it answers clients, that is announced.
    fn go_on_with_start(&mut self) {
        // Before the incarnation is durable nobody may learn of it: a crash could undo it, and the
        // next incarnation would have the same number.
        if self.listener.is_some() && self.node.incarnation().is_some() && !self.serves_noted {
            self.serves_noted = true;
            self.batch.set_note(Note::Serves);
        }
        if self.listener.is_none() && self.ready.borrow().is_none() && self.node.is_serving() {
            self.ready.send_replace(self.node.incarnation());
        }
    }

    /// Starts the listener and the links.
    fn open(&mut self) {
        let listener = self.listener.take().expect("the node opens once");
        let incarnation = self.node.incarnation().expect("it was durable before the note");
        let identity = link::NodeIdentity {
            cluster: self.settings.cluster.clone().into(),
            node: self.settings.node,
            incarnation,
        };
        for (peer, address) in
            // A node never sends to itself (duty 7 of the node).
            self.settings.peers.iter().filter(|(peer, _)| **peer != self.settings.node)
        {
            let dialler = Dialler::new(identity.clone(), *peer, address.clone());
            match N::LINKS {
                Links::Datagrams => {
                    let link = self.links.entry(*peer).or_default();
                    self.tasks.spawn(link.clone().run(dialler));
                }
                Links::Sessions => {
                    self.sessions.add_peer(*peer);
                    // A peer with a lower id dials this node.
                    if *peer > self.settings.node {
                        self.tasks.spawn(session::dial(dialler, listener.arrivals_tx()));
                    }
                }
            }
        }
        let peers = self.settings.peers.keys().copied().collect();
        self.tasks.spawn(listener.run(identity, peers));
        self.go_on_with_start();
    }
}

/// Effects.
impl<N: ServedNode> Driver<N> {
    fn perform(&mut self, now: Time) {
        // Taken out, so that the effects can be performed by methods of the driver; its memory is
        // put back below.
        let mut outbox = std::mem::take(&mut self.outbox);
        let (effects, buffer) = outbox.drain();
        for effect in effects {
            if self.ended.is_some() {
                break;
            }
            if let Some(observer) = &mut self.observer {
                let bytes = match &effect {
                    Effect::Disk(DiskOp::Append { bytes, .. }) => bytes.of(buffer),
                    Effect::Disk(_)
                    | Effect::Send { .. }
                    | Effect::Reply { .. }
                    | Effect::Report(_)
                    | Effect::Halt(_) => &[],
                };
                let continuation =
                    // The number that the message will get: it is assigned only when the message is
                    // sent.
                    observer.effect(now, &effect, bytes, self.last_message_number + 1);
                if self.ends_run(Some(continuation)) {
                    break;
                }
            }
            match effect {
                Effect::Send { to, message } => self.send(to, message),
                Effect::Disk(op) => self.queue_disk_op(op, buffer),
                Effect::Reply { id, response } => self.reply(id, response),
                Effect::Report(event) => self.report(&event),
                Effect::Halt(reason) => {
                    // The barrier that failed has left its message here before the node saw the
                    // failure.
                    let detail = std::mem::take(&mut self.detail);
                    self.end(Ending::Halted { reason, detail });
                }
            }
        }
        outbox.clear();
        self.outbox = outbox;
    }

    /// Logs an event, unless there are too many of its kind: a peer with another list of nodes may
    /// send messages without end that are dropped.
    fn report(&mut self, event: &N::Event) {
        let node = self.settings.node;
        for Suppressed { kind, count } in self.reports.take_suppressed(Instant::now()) {
            tracing::warn!(%node, event = kind, "{count} more events suppressed");
        }
        if !self.reports.allows(event.kind()) {
            return;
        }
        // Formatted into a string first: the logger's macro takes no writer.
        let mut detail = String::new();
        if event.detail(&mut detail).is_err() {
            return;
        }
        if event.is_warning() {
            tracing::warn!(%node, event = %event.about(), "{detail}");
        } else {
            tracing::info!(%node, event = %event.about(), "{detail}");
        }
    }

    fn send(&mut self, to: NodeId, message: N::Message) {
        self.last_message_number += 1;
        let number = self.last_message_number;
        let packet = PeerPacket::Message { number, message };
        match N::LINKS {
            // A link's queue takes messages before there is a connection, and before the listener
            // runs. A message to a node that this cluster does not list is dropped, as an
            // unreachable one would be.
            Links::Datagrams if self.settings.peers.contains_key(&to) => {
                self.links.entry(to).or_default().put(&packet);
            }
            Links::Datagrams => {}
            Links::Sessions => self.sessions.send(to, &packet),
        }
    }

    fn reply(&mut self, id: RequestId, response: N::Response) {
        // The client may have disconnected; it then repeats the request under the same request id.
        if let Some(queue) = self.pending_requests.remove(&id) {
            put_or_close(&queue, &ClientReply::Answer { id, response });
        }
    }

    fn queue_disk_op(&mut self, op: DiskOp, buffer: &[u8]) {
        match op {
            DiskOp::Append { file, bytes, .. } => {
                self.disk.bytes += bytes.len() as u64;
                return self.batch.append(file, bytes.of(buffer));
            }
            DiskOp::SyncDir { op } => {
                self.disk.directory_syncs += 1;
                self.pending_barriers.push((op, self.clock.now()));
            }
            DiskOp::Sync { op, .. } => self.pending_barriers.push((op, self.clock.now())),
            DiskOp::Truncate { .. } | DiskOp::Rename { .. } | DiskOp::Remove { .. } => {}
        }
        // Only appends have bytes.
        self.batch.push(Job::of(&op, 0..0));
    }

    fn status(&self, disk: &DiskThread) -> Status<N::View> {
        let links = match N::LINKS {
            Links::Datagrams => self.links.iter().map(|(peer, link)| link.status(*peer)).collect(),
            Links::Sessions => self.sessions.status(),
        };
        let now = self.clock.now();
        let silent =
            self.pending_barriers.first().map_or(Micros(0), |(_, issued)| now.since(*issued));
        Status {
            node: self.settings.node,
            cluster: self.settings.cluster.clone(),
            up: now.since(self.clock.origin()),
            memory_bytes: memory_bytes(),
            closing: self.closing.is_some(),
            pending_requests: self.pending_requests.len() as u64,
            disk: DiskStatus { silent, files: disk.files(), ..self.disk.clone() },
            links,
            view: self.node.view(now),
        }
    }
}

/// Shutdown.
impl<N: ServedNode> Driver<N> {
    /// Ends all tasks and the disk thread. A clean shutdown first lets queued answers and messages
    /// leave.
    async fn shut_down(&mut self, disk: DiskThread) {
        let patience = self.closing.unwrap_or_else(|| after(self.settings.shutdown_timeout));
        let limit = patience.max(after(DISK_TIMEOUT_MIN));
        if let Some(Ending::Stopped { .. }) = self.ended {
            let mut batch = std::mem::take(&mut self.batch);
            // After the last write.
            batch.set_note(Note::Stopped);
            // Without an answer in time the disk hangs, which is noticed below.
            let _ = timeout_at(limit, self.jobs.send(batch)).await;
            // 20 ms for the tasks that write queued answers and messages to their sockets.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.tasks.shutdown().await;
        self.links.clear();
        // The disk thread ends when its last sender is dropped, and a field cannot be moved out of
        // the driver.
        let (dead_end, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.jobs, dead_end));
        // The thread performs all queued operations. A disk that hangs keeps the directory locked,
        // as it must: another process may not open it while writes are pending.
        match disk.join(limit).await {
            Ok(()) => self.log_stop(),
            Err(operation) => {
                tracing::warn!(
                    node = %self.settings.node,
                    "the disk has not finished: it has been {operation}; the node ends without it"
                );
                if let Some(Ending::Stopped { .. }) = self.ended {
                    self.ended = Some(Ending::DiskHung { operation });
                }
            }
        }
    }

    /// Writes a clean shutdown to the event log, after the last write.
    fn log_stop(&mut self) {
        // Only an idle node has ended cleanly: with work in progress the checkers must not expect
        // the end-of-run properties to hold.
        if let Some(Ending::Stopped { idle: true }) = self.ended
            && let Some(observer) = &mut self.observer
            && let Err(error) = observer.stopped(self.clock.now())
        {
            tracing::error!(%error, "cannot write the event log");
        }
    }
}

/// Waits until the queue of the disk thread has room.
async fn room(jobs: &mpsc::Sender<Batch>) {
    let _ = jobs.reserve().await;
}

/// Queues an answer. A client to which it cannot be sent loses its connection, and so learns it.
fn put_or_close<R: serde::Serialize>(queue: &SendQueue, reply: &ClientReply<R>) {
    if !queue.put(reply) {
        queue.close();
    }
}

/// Resident memory of this process in bytes, from Linux's `/proc`; 0 where that cannot be read.
fn memory_bytes() -> u64 {
    // The second number is the resident set, in pages.
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.as_deref().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    resident.unwrap_or(0) * rustix::param::page_size() as u64
}
