//! The end of a hunt whose time is over, or in which a run does not end.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a limit of wall time needs the wall clock; no run sees it"
)]

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::{HuntOptions, Progress};
use crate::limits::RunLimits;

/// How often the workers are looked at.
// A hunt ends at most so much later than it should.
const INTERVAL: Duration = Duration::from_millis(20);
/// After this time a run that was stopped and goes on counts as one that never ends.
// A step takes microseconds, and a run looks at the flag every few hundred events.
const PATIENCE: Duration = Duration::from_secs(3);
/// The exit code of a process in which a run does not end: a violated liveness property.
const EXIT_CODE: i32 = 11;

/// Watches the workers of a hunt.
pub(super) struct Watchdog {
    workers: Vec<Arc<Worker>>,
    /// Disconnected once all workers have ended.
    ended: Receiver<()>,
    sender: Option<Sender<()>>,
}

/// What a worker says of itself.
#[derive(Debug, Default)]
struct Worker {
    /// Runs begun; 0 before the first.
    runs: AtomicU64,
    /// The seed of the last.
    seed: AtomicU64,
}

/// The worker's end of a watchdog.
pub(super) struct Watched {
    worker: Arc<Worker>,
    sender: Sender<()>,
}

impl Watched {
    /// The worker begins with this seed.
    pub(super) fn begin(&self, seed: u64) {
        self.worker.seed.store(seed, Ordering::Relaxed);
        // After the seed, which is read when the number of runs has stayed the same.
        self.worker.runs.fetch_add(1, Ordering::Release);
    }

    /// The worker has ended.
    pub(super) fn end(self) {
        drop(self.sender);
    }
}

/// Why the process ends.
enum Stall {
    Wall(Duration),
    Memory { mib: u64 },
    Stopped,
}

impl Watchdog {
    pub(super) fn new(workers: usize) -> Watchdog {
        let (sender, ended) = channel();
        let workers = (0..workers).map(|_| Arc::default()).collect();
        Watchdog { workers, ended, sender: Some(sender) }
    }

    /// The end of each worker.
    pub(super) fn workers(&mut self) -> Vec<Watched> {
        // Taken, so that the channel is disconnected when the last worker ends.
        let sender = self.sender.take().expect("asked for once");
        let mut watched = Vec::new();
        for worker in &self.workers {
            watched.push(Watched { worker: Arc::clone(worker), sender: sender.clone() });
        }
        watched
    }

    /// Watches until all workers have ended.
    pub(super) fn watch(&self, options: &HuntOptions, progress: &Progress) {
        let begun = Instant::now();
        let mut stopped = None;
        let mut seen: Vec<(u64, Instant)> = vec![(0, begun); self.workers.len()];
        loop {
            match self.ended.recv_timeout(INTERVAL) {
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            }
            let now = Instant::now();
            if options.wall_max.is_some_and(|wall_max| now - begun >= wall_max) {
                progress.stop.store(true, Ordering::Relaxed);
            }
            if stopped.is_none() && progress.stop.load(Ordering::Relaxed) {
                stopped = Some(now);
            }
            for (worker, (runs, since)) in self.workers.iter().zip(&mut seen) {
                let runs_now = worker.runs.load(Ordering::Acquire);
                if *runs != runs_now {
                    (*runs, *since) = (runs_now, now);
                }
            }
            // Of several the one that has run for the longest time is the cause.
            let oldest = seen.iter().zip(&self.workers).min_by_key(|((_, since), _)| *since);
            let ((_, since), worker) = oldest.expect("a hunt has a worker");
            if let Some(stall) = stall(&options.limits, now, *since, stopped) {
                let seed = worker.seed.load(Ordering::Relaxed);
                report(&stall, seed, now - *since, &options.seed_command);
                // Nothing else ends a thread that is in an endless loop.
                std::process::exit(EXIT_CODE);
            }
        }
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
    if stopped.is_some_and(|stopped| now - stopped >= PATIENCE) {
        return Some(Stall::Stopped);
    }
    let mib = resident_mib().filter(|mib| *mib > limits.memory_max_mib)?;
    Some(Stall::Memory { mib })
}

fn report(stall: &Stall, seed: u64, after: Duration, seed_command: &str) {
    let ms = after.as_millis();
    let reason = match stall {
        Stall::Wall(wall_max) => {
            format!("has not ended after {} s: a step may loop for ever", wall_max.as_secs_f32())
        }
        Stall::Memory { mib } => {
            format!("runs since {ms} ms, and the process has grown to {mib} MiB of memory")
        }
        Stall::Stopped => {
            format!("runs since {ms} ms, and does not stop although the hunt is over")
        }
    };
    let command = seed_command.replace("SEED", &seed.to_string());
    // Not `eprintln!`, whose text the test harness keeps to itself.
    let _closed = writeln!(
        io::stderr(),
        "\nerror: seed {seed} {reason}; run the seed again with\n  {command}"
    );
}

/// The resident memory of this process; `None` where there is no `/proc`.
fn resident_mib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    // Pages have 4 KiB on the usual machines; where they are larger, the limit is so much higher.
    Some(pages * 4 / 1024)
}
