//! Watches runs from another thread: ends a hunt whose time is over, and names the seed of a run
//! that does not end.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a limit of wall time needs the wall clock; no run sees it"
)]

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::in_progress::{self, SeedInProgress, seed_command_for};
use crate::limits::RunLimits;
use crate::property::Violation;

/// How often the runs are looked at.
// A hunt ends at most so much later than it should.
const INTERVAL: Duration = Duration::from_millis(20);
/// After this time without a sign of progress, a run that was stopped counts as one that never
/// ends.
// A run looks at the flag every few hundred events, and a step takes microseconds: a step of ten
// milliseconds is still waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// A longer interval between two looks means that the whole process did not run.
const SUSPENDED: Duration = Duration::from_secs(1);
/// The exit code of a process in which a run does not end: that of a violated liveness property.
const EXIT_LIVENESS: i32 = 11;
/// The exit code of such a process that has found a violation of safety before.
const EXIT_SAFETY: i32 = 10;

/// What the watchdog watches for, and what it says.
pub(crate) struct Watch<'a> {
    limits: RunLimits,
    /// The command that runs a seed again, with `{seed}` for its number.
    seed_command: &'a str,
    hunt: Option<WatchedHunt<'a>>,
}

/// A hunt that ends before its last seed if its time is over.
struct WatchedHunt<'a> {
    /// After this wall time `stop` is set.
    wall_max: Option<Duration>,
    stop: &'a AtomicBool,
    /// The violations so far, which are lost if the process ends.
    found: &'a (dyn Fn() -> Vec<(u64, Violation)> + Sync),
}

impl<'a> Watch<'a> {
    /// Watches for runs that exceed these limits.
    pub(crate) fn new(limits: RunLimits, seed_command: &'a str) -> Watch<'a> {
        Watch { limits, seed_command, hunt: None }
    }

    /// Watches a hunt as well: sets `stop` after `wall_max`, and reports what was `found` before it
    /// ends the process.
    pub(crate) fn hunt(
        self,
        wall_max: Option<Duration>,
        stop: &'a AtomicBool,
        found: &'a (dyn Fn() -> Vec<(u64, Violation)> + Sync),
    ) -> Watch<'a> {
        Watch { hunt: Some(WatchedHunt { wall_max, stop, found }), ..self }
    }
}

/// Watches the threads that run seeds.
pub(crate) struct Watchdog {
    workers: Vec<Arc<Worker>>,
    /// Disconnected once all of them have ended.
    ended: Receiver<()>,
    handles: Vec<WorkerHandle>,
}

/// The state of a thread that runs seeds.
#[derive(Debug, Default)]
struct Worker {
    is_running: AtomicBool,
    /// Runs begun; 0 before the first.
    runs: AtomicU64,
    /// The seed of the last.
    seed: AtomicU64,
}

/// With this a thread tells the watchdog what it runs.
pub(crate) struct WorkerHandle {
    worker: Arc<Worker>,
    in_progress: SeedInProgress,
    /// Dropped with the handle: so the watchdog learns of the end.
    _sender: Sender<()>,
}

impl WorkerHandle {
    /// A run of this seed begins.
    pub(crate) fn begin(&mut self, seed: u64) {
        self.in_progress.begin(seed);
        self.worker.seed.store(seed, Ordering::Relaxed);
        self.worker.is_running.store(true, Ordering::Relaxed);
        // After the seed, which is read when the number of runs has stayed the same.
        self.worker.runs.fetch_add(1, Ordering::Release);
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.worker.is_running.store(false, Ordering::Relaxed);
    }
}

/// Does `work`, which runs seeds on this thread, while another thread watches it.
pub(crate) fn watched<T>(
    limits: RunLimits,
    seed_command: &str,
    work: impl FnOnce(&mut WorkerHandle) -> T,
) -> T {
    std::thread::scope(|scope| {
        let mut watchdog = Watchdog::new(1, seed_command);
        let mut handle = watchdog.take_handles().pop().expect("one for each worker");
        scope.spawn(move || {
            watchdog.watch(&Watch::new(limits, seed_command));
        });
        work(&mut handle)
    })
}

/// Why the process ends.
enum Stall {
    Wall(Duration),
    Memory { mib: u64 },
    Stopped,
}

/// A run that goes on.
struct RunningSeed {
    seed: u64,
    since: Instant,
}

impl Watchdog {
    pub(crate) fn new(workers: usize, seed_command: &str) -> Watchdog {
        let (sender, ended) = channel();
        let mut watchdog = Watchdog { workers: Vec::new(), ended, handles: Vec::new() };
        for _ in 0..workers {
            let worker = Arc::new(Worker::default());
            watchdog.handles.push(WorkerHandle {
                worker: Arc::clone(&worker),
                in_progress: SeedInProgress::new(seed_command),
                _sender: sender.clone(),
            });
            watchdog.workers.push(worker);
        }
        watchdog
    }

    /// One handle for each worker, once.
    pub(crate) fn take_handles(&mut self) -> Vec<WorkerHandle> {
        std::mem::take(&mut self.handles)
    }

    /// Watches until all workers have ended.
    pub(crate) fn watch(&self, watch: &Watch<'_>) {
        let begun = Instant::now();
        let mut last_look = begun;
        let mut stopped: Option<Instant> = None;
        let mut seen: Vec<(u64, Instant)> = vec![(0, begun); self.workers.len()];
        loop {
            match self.ended.recv_timeout(INTERVAL) {
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            }
            let now = Instant::now();
            if now - last_look > SUSPENDED {
                // The process was suspended: the runs have not had this time either.
                seen.iter_mut().for_each(|(_, since)| *since = now);
            }
            last_look = now;
            if let Some(WatchedHunt { wall_max, stop, .. }) = &watch.hunt {
                if wall_max.is_some_and(|wall_max| now - begun >= wall_max) {
                    stop.store(true, Ordering::Relaxed);
                }
                if stopped.is_none() && stop.load(Ordering::Relaxed) {
                    stopped = Some(now);
                }
            }
            let mut running = self.running(&mut seen, now);
            // Of several the one that has run for the longest time is the likely cause.
            running.sort_by_key(|run| run.since);
            let Some(oldest) = running.first() else { continue };
            if let Some(stall) = stall(&watch.limits, now, oldest.since, stopped) {
                report(&stall, &running, now, watch.seed_command);
                // Nothing else ends a thread that is in an endless loop.
                let found = watch.hunt.as_ref().map(|hunt| (hunt.found)());
                end_process(&found.unwrap_or_default());
            }
        }
    }

    /// The seeds that are being run. `seen` has the number of runs of each worker, and since when
    /// it is this number.
    fn running(&self, seen: &mut [(u64, Instant)], now: Instant) -> Vec<RunningSeed> {
        let mut running = Vec::new();
        for (worker, (runs, since)) in self.workers.iter().zip(seen) {
            let runs_now = worker.runs.load(Ordering::Acquire);
            if *runs != runs_now {
                *runs = runs_now;
                *since = now;
            }
            if worker.is_running.load(Ordering::Relaxed) {
                running
                    .push(RunningSeed { seed: worker.seed.load(Ordering::Relaxed), since: *since });
            }
        }
        running
    }
}

fn stall(
    limits: &RunLimits,
    now: Instant,
    since: Instant,
    stopped: Option<Instant>,
) -> Option<Stall> {
    if now - since >= limits.wall_max {
        return Some(Stall::Wall(limits.wall_max));
    }
    if stopped.is_some_and(|stopped| now - stopped.max(since) >= PATIENCE) {
        return Some(Stall::Stopped);
    }
    let mib = resident_mib().filter(|mib| *mib > limits.memory_max_mib)?;
    Some(Stall::Memory { mib })
}

fn report(stall: &Stall, running: &[RunningSeed], now: Instant, seed_command: &str) {
    let reason = match stall {
        Stall::Wall(wall_max) => {
            format!("has not ended after {} s: a step may loop for ever", wall_max.as_secs_f32())
        }
        Stall::Memory { mib } => {
            format!("is running, and the process has grown to {mib} MiB of memory")
        }
        Stall::Stopped => "does not end although the hunt is over".to_string(),
    };
    let mut text = format!("\nerror: a run {reason}\n");
    for run in running {
        let ms = (now - run.since).as_millis();
        let command = seed_command_for(seed_command, run.seed);
        text +=
            &format!("seed {}, running for {ms} ms; run it again with\n  {command}\n", run.seed);
    }
    // Not `eprintln!`, whose text the test harness keeps to itself.
    let _closed = io::stderr().write_all(text.as_bytes());
}

/// Ends the process, after the violations that nobody else will report.
fn end_process(found: &[(u64, Violation)]) -> ! {
    for (seed, violation) in found {
        let _closed = writeln!(io::stderr(), "found before: seed {seed} violates {violation}");
    }
    in_progress::remove_files_of_this_process();
    let has_safety = found.iter().any(|(_, violation)| !violation.liveness);
    std::process::exit(if has_safety { EXIT_SAFETY } else { EXIT_LIVENESS })
}

/// The resident memory of this process; `None` where there is no `/proc`.
fn resident_mib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    // Pages have 4 KiB on the usual machines; where they are larger, the limit is so much higher.
    Some(pages * 4 / 1024)
}
