//! The loop around a node: inputs in, effects out, in order.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};

use super::clock::Clock;
use super::disk::{self, Batch, Done, Job, Thread};
use super::door::{Arrival, Door};
use super::files::{Directory, DirectoryError, Survived};
use super::link::{self, Link};
use super::packet::{ClientEcho, PeerPacket, TurnedAway};
use super::serve::{DiskStatus, FileStatus, LinkStatus, Serve, Status};
use super::stream::Pipe;
use super::tap::{Tap, Then};
use crate::contract::{Boot, BootError, DiskOp, Effect, HaltReason, Input, Label, Outbox};
use crate::id::{Incarnation, NodeId, RequestId, Time};

/// What an operator sets for one process, beside the node's own configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who this is.
    pub node: NodeId,
    /// The name of the cluster: all its nodes and clients say the same.
    pub cluster: String,
    /// Where to listen.
    pub listen: String,
    /// Where the others listen, as `host:port`.
    pub peers: BTreeMap<NodeId, String>,
    /// The data directory.
    pub data: PathBuf,
    /// How long a clean shutdown waits for what is under way.
    pub patience: Duration,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Nobody can connect.
    #[error("cannot listen on {listen}: {error}; is another process using it? choose another address")]
    Listen {
        /// Where.
        listen: String,
        /// Why not.
        error: io::Error,
    },
    /// What the directory holds cannot be trusted.
    #[error(
        "data directory {data}: {error}; look at it with `stormglass wal verify {data}`, and restore it from a copy"
    )]
    Boot {
        /// Which directory.
        data: String,
        /// What is wrong with it.
        error: BootError,
    },
    /// The disk thread or the event log cannot begin.
    #[error("cannot begin in {data}: {error}")]
    Io {
        /// Which directory.
        data: String,
        /// Why not.
        error: io::Error,
    },
}

/// How a life ended.
#[derive(Debug)]
pub enum Ending {
    /// It was asked to stop. Whether all that was under way was waited for.
    Stopped {
        /// Nothing was left under way.
        idle: bool,
    },
    /// The node halted itself.
    Halted {
        /// Why.
        reason: HaltReason,
        /// What the operating system said.
        detail: String,
    },
    /// The tap ended it.
    Died,
    /// The tap failed.
    Unlogged(io::Error),
}

/// A node that has been started.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    ready: watch::Receiver<Option<Incarnation>>,
    stop: watch::Sender<bool>,
    ended: tokio::task::JoinHandle<Ending>,
}

impl Running {
    /// Waits until the node speaks; `None` if it ended first.
    pub async fn ready(&mut self) -> Option<Incarnation> {
        self.ready.wait_for(Option::is_some).await.ok().and_then(|life| *life)
    }

    /// Asks it to take no more requests, and to end once what is under way is done.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for its end. The files are closed and the directory is free then.
    ///
    /// # Panics
    /// If the node panicked: a bug of ours is passed on.
    pub async fn ended(&mut self) -> Ending {
        match (&mut self.ended).await {
            Ok(ending) => ending,
            Err(failure) => match failure.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(cancelled) => panic!("the node's task was {cancelled}"),
            },
        }
    }
}

/// Inputs that may wait for the node, from all connections together.
const ARRIVALS_MAX: usize = 1024;

/// Requests that may be under way at one node: a bound on what clients can make it hold.
const ASKED_MAX: usize = 8_192;

/// Inputs that are handled before their effects leave: what they write shares a disk batch and a packet.
const TOGETHER_MAX: usize = 64;

/// Starts a node: claims the directory, listens, boots. Returns when the node has booted; it speaks when its boot is
/// durable.
///
/// # Errors
/// [`StartError`], and nothing has been changed but the directory's lock and identity.
pub async fn start<N: Serve>(
    settings: Settings,
    config: &N::Config,
    mut tap: Option<Box<dyn Tap<N>>>,
) -> Result<Running, StartError> {
    let data = settings.data.display().to_string();
    let io = |error| StartError::Io { data: data.clone(), error };
    let directory = Directory::open(&settings.data, &settings.cluster, settings.node)?;
    let listen = settings.listen.clone();
    let listener = TcpListener::bind(&listen).await;
    let listener = listener.map_err(|error| StartError::Listen { listen, error })?;
    let address = listener.local_addr().map_err(io)?;
    let survived = Survived::read(directory.path())?;
    if let Some(tap) = &mut tap {
        tap.boot(settings.node, &survived).map_err(io)?;
    }
    let clock = Clock::start();
    let entropy = entropy();
    let boot = Boot { id: settings.node, now: clock.now(), entropy, disk: &survived };
    let mut outbox = Outbox::default();
    let booted = N::boot(config, boot, &mut outbox);
    let node = booted.map_err(|error| StartError::Boot { data: data.clone(), error })?;
    drop(survived);
    let (jobs, done, thread) = disk::start(directory.path().to_path_buf()).map_err(io)?;
    let (ready, ready_seen) = watch::channel(None);
    let (stop, stop_seen) = watch::channel(false);
    let (arrive, arrivals) = mpsc::channel(ARRIVALS_MAX);
    let driver = Driver {
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
        door: Some(Door { listener, arrive }),
        tasks: JoinSet::new(),
        ready,
        closing: None,
        ended: None,
        settings,
    };
    let ended = tokio::spawn(driver.live(arrivals, done, stop_seen, thread, directory));
    Ok(Running { address, ready: ready_seen, stop, ended })
}

/// Random bits for one life. Correctness never depends on them.
pub(super) fn entropy() -> u64 {
    let mut bytes = [0; 8];
    // It can only fail on kernels without the call; then there is still the process and the time.
    if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).is_err() {
        bytes = (super::clock::wall_us() ^ u64::from(std::process::id()).rotate_left(40)).to_le_bytes();
    }
    u64::from_le_bytes(bytes)
}

struct Driver<N: Serve> {
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
    async fn live(
        mut self,
        mut arrivals: mpsc::Receiver<Arrival<N>>,
        mut done: mpsc::UnboundedReceiver<Done>,
        mut stop: watch::Receiver<bool>,
        thread: Thread,
        directory: Directory,
    ) -> Ending {
        self.perform(self.clock.now());
        let mut batch = Vec::with_capacity(TOGETHER_MAX);
        let mut alarm = Box::pin(tokio::time::sleep(Duration::ZERO));
        while self.ended.is_none() {
            self.flush().await;
            self.set_alarm(&mut alarm);
            tokio::select! {
                biased;
                Some(done) = done.recv() => self.on_done(done),
                _ = arrivals.recv_many(&mut batch, TOGETHER_MAX) => {}
                () = &mut alarm => self.on_alarm(),
                Ok(()) = stop.changed() => self.on_stop(),
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
        tracing::info!(node = %self.settings.node, "shutting down: no new requests");
        self.closing.get_or_insert(Instant::now() + self.settings.patience);
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
        if self.door.is_some()
            && let Some(life) = self.node.life()
        {
            self.open(life);
        }
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

    /// The life is durable: from now on it may be spoken of.
    fn open(&mut self, life: Incarnation) {
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

/// Effects.
impl<N: Serve> Driver<N> {
    fn perform(&mut self, now: Time) {
        let mut outbox = std::mem::take(&mut self.outbox);
        let (effects, buffer) = outbox.drain();
        for effect in effects {
            if self.ended.is_some() {
                break;
            }
            if let Some(tap) = &mut self.tap {
                let bytes = match &effect {
                    Effect::Disk(DiskOp::Append { bytes, .. }) => bytes.of(buffer),
                    Effect::Disk(_)
                    | Effect::Send { .. }
                    | Effect::Reply { .. }
                    | Effect::Report(_)
                    | Effect::Halt(_) => &[],
                };
                let seen = tap.effect(now, &effect, bytes, self.letters + 1);
                if self.stops(Some(seen)) {
                    break;
                }
            }
            match effect {
                Effect::Send { to, message } => self.send(to, message),
                Effect::Disk(op) => self.touch(op, buffer),
                Effect::Reply { id, response } => self.answer(id, response),
                Effect::Report(event) => report(self.settings.node, &event),
                Effect::Halt(reason) => {
                    let detail = std::mem::take(&mut self.detail);
                    self.end(Ending::Halted { reason, detail });
                }
            }
        }
        outbox.clear();
        self.outbox = outbox;
    }

    fn send(&mut self, to: NodeId, message: N::Message) {
        self.letters += 1;
        let number = self.letters;
        // A link's queue takes letters before there is a connection, and before the door is open.
        if self.settings.peers.contains_key(&to) {
            self.links.entry(to).or_default().put(&PeerPacket::Letter { number, message });
        }
    }

    fn answer(&mut self, id: RequestId, response: N::Response) {
        // Who asked may be gone, and asks again under the same name.
        if let Some(pipe) = self.asked.remove(&id)
            && !pipe.put(&ClientEcho::Answer { id, response })
        {
            pipe.close();
        }
    }

    fn touch(&mut self, op: DiskOp, buffer: &[u8]) {
        let job = match op {
            DiskOp::Append { file, bytes, .. } => {
                self.disk.bytes += bytes.len() as u64;
                return self.batch.append(file, bytes.of(buffer));
            }
            DiskOp::Truncate { file, len } => Job::Truncate { file, len },
            DiskOp::Rename { from, to } => Job::Rename { from, to },
            DiskOp::Remove { file } => Job::Remove { file },
            DiskOp::Sync { op, file } => Job::Sync { op, file },
            DiskOp::SyncDir { op } => {
                self.disk.directory_syncs += 1;
                Job::SyncDir { op }
            }
        };
        self.batch.jobs.push(job);
    }

    fn status(&self) -> Status<N::View> {
        let link = |(peer, link): (&NodeId, &Link)| {
            let (queued_bytes, dropped) = link.load();
            LinkStatus { peer: *peer, connected: link.is_connected(), queued_bytes, dropped }
        };
        let now = self.clock.now();
        Status {
            node: self.settings.node,
            cluster: self.settings.cluster.clone(),
            up: now.since(Time(0)),
            memory_bytes: memory_bytes(),
            closing: self.closing.is_some(),
            asked: self.asked.len() as u64,
            disk: DiskStatus { files: files_in(&self.settings.data), ..self.disk.clone() },
            links: self.links.iter().map(link).collect(),
            view: self.node.view(now),
        }
    }

    /// Ends everything that was started. A clean end lets answers and letters leave first.
    async fn die(&mut self, thread: Thread) {
        if let Some(Ending::Stopped { .. }) = self.ended {
            if let Some(tap) = &mut self.tap
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

fn report<E: Label>(node: NodeId, event: &E) {
    let mut detail = String::new();
    if event.detail(&mut detail).is_ok() {
        tracing::info!(%node, event = %event.about(), "{detail}");
    }
}

/// What Linux says in its own file system about this process.
fn memory_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.as_deref().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    resident.unwrap_or(0) * rustix::param::page_size() as u64
}

fn files_in(data: &std::path::Path) -> Vec<FileStatus> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(data).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if super::files::role_of(&name).is_some()
            && let Ok(metadata) = entry.metadata()
        {
            files.push(FileStatus { name, bytes: metadata.len() });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}
