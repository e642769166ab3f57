//! The explorer: runs a workload, and recovery on every image that a crash may leave.

// The threads are those of the engine under test: a watchdog must outlive its endless loops. What
// they return depends on the image alone, unless the engine draws on time or randomness.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "an engine that hangs is found by a timeout, which needs a thread and a clock"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::{Debug, Display};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::crash_file::{CrashFile, ReadCrashFileError};
use crate::fs::{CrashFs, Faults, WriteFault, digest};
use crate::models::Progress;
use crate::pending::Disk;
use crate::profile::Profile;
use crate::reduce::reduce_workload;
use crate::report::{Finding, Report};
use crate::run::{Run, candidates, image};

/// Any error, so that a workload may use `?` on what an engine returns.
pub type EngineError = Box<dyn Error + Send + Sync>;

type Workload = Arc<dyn Fn(&CrashFs) -> Result<(), String> + Send + Sync>;
type Recover<S> = Arc<dyn Fn(&CrashFs) -> Result<S, String> + Send + Sync>;
type Expect<S> = Box<dyn Fn(&S, &Progress) -> Result<(), String>>;
type Work<S> = Arc<dyn Fn(&CrashFs, &S) -> Result<S, String> + Send + Sync>;

/// A crash test of a storage engine. See the [crate](crate) for an example.
pub struct CrashTest<S> {
    workload: Workload,
    recover: Recover<S>,
    pub(crate) expect: Expect<S>,
    work: Option<Work<S>>,
    hang_after: Duration,
    pub(crate) nested_every: usize,
}

/// A [`CrashTest`] that lacks recovery and expectation.
pub struct NeedsRecovery(Workload);

/// A [`CrashTest`] that lacks its expectation.
pub struct NeedsExpectation<S>(Workload, Recover<S>);

impl CrashTest<()> {
    /// A test of this workload, which runs once, to its end. It marks its commits by
    /// [`CrashFs::commit`]. A workload that returns an error has failed, which is a finding.
    #[expect(clippy::new_ret_no_self, reason = "a test also needs recovery and expectation")]
    pub fn new(
        workload: impl Fn(&CrashFs) -> Result<(), EngineError> + Send + Sync + 'static,
    ) -> NeedsRecovery {
        NeedsRecovery(Arc::new(move |fs| workload(fs).map_err(|error| error.to_string())))
    }
}

impl NeedsRecovery {
    /// Opens the engine after a crash, and returns what it contains. A panic, an error or no return
    /// is a finding.
    pub fn recover<S, E: Display>(
        self,
        recover: impl Fn(&CrashFs) -> Result<S, E> + Send + Sync + 'static,
    ) -> NeedsExpectation<S> {
        NeedsExpectation(self.0, Arc::new(move |fs| recover(fs).map_err(|error| error.to_string())))
    }
}

impl<S> NeedsExpectation<S> {
    /// What recovery must find, by how far the workload had come: one of [`models`](crate::models),
    /// or a function of your own. It returns in one sentence what is wrong.
    pub fn expect(
        self,
        expect: impl Fn(&S, &Progress) -> Result<(), String> + 'static,
    ) -> CrashTest<S> {
        CrashTest {
            workload: self.0,
            recover: self.1,
            expect: Box::new(expect),
            work: None,
            hang_after: Duration::from_secs(10),
            nested_every: 20,
        }
    }
}

impl<S> CrashTest<S> {
    /// How long workload or recovery may take before it counts as hanging; 10 s by default.
    #[must_use]
    pub fn hang_after(self, hang_after: Duration) -> Self {
        CrashTest { hang_after, ..self }
    }

    /// On every so many images, 1 or more, recovery itself is crashed after each of its operations;
    /// on the others only at its end. 20 by default.
    ///
    /// # Panics
    /// If it is 0.
    #[must_use]
    #[track_caller]
    pub fn crash_recovery_every(self, images: usize) -> Self {
        assert!(images > 0, "every image at most: 1");
        CrashTest { nested_every: images, ..self }
    }

    /// Goes on with the engine after recovery on an image. `work` opens it, given what it contains,
    /// acknowledges something more, and returns what it contains then. A crash after `work` must
    /// leave just that: the remains of the first crash must not harm what comes later.
    #[must_use]
    pub fn work_after_recovery<E: Display>(
        self,
        work: impl Fn(&CrashFs, &S) -> Result<S, E> + Send + Sync + 'static,
    ) -> Self {
        let work: Work<S> =
            Arc::new(move |fs, state| work(fs, state).map_err(|error| error.to_string()));
        CrashTest { work: Some(work), ..self }
    }
}

impl<S: Clone + PartialEq + Debug + Send + 'static> CrashTest<S> {
    /// Tries every crash of the workload, and every failure of one sync or one write, on a disk
    /// with these rules.
    pub fn run(&self, profile: Profile) -> Report {
        let began = Instant::now();
        let _quiet = QuietPanics::begin();
        let mut run = Run::new(self, profile, BTreeSet::new());
        let fs = CrashFs::default();
        if let Err(reason) = self.run_workload(&fs) {
            run.report.add(run.finding(&format!("the workload fails: {reason}"), &fs.log(), None));
        }
        let log = fs.log();
        run.report.note_workload(&log);
        run.try_crashes(&log, Faults::default());
        let (syncs, writes) = fs.counts();
        for sync in 0..syncs {
            run.try_failure(Faults { sync: Some(sync), write: None });
        }
        for write in 0..writes {
            for fault in WriteFault::ALL {
                run.try_failure(Faults { sync: None, write: Some((write, fault)) });
            }
        }
        run.try_sabotage(&fs.tree(), &log);
        let mut report = run.into_report();
        reduce_workload(self, &fs.offered(), &mut report);
        report.seconds = began.elapsed().as_secs_f64();
        report
    }

    /// Plays a crash file again ([`Finding::crash_file`]): the workload, a crash at its place, and
    /// recovery. `None` if recovery finds what it must.
    ///
    /// # Errors
    /// If the text is no crash file of this version, or the workload performs other operations than
    /// those of the file: the engine has changed, or it draws on time or randomness.
    pub fn replay(&self, crash_file: &str) -> Result<Option<Finding>, ReadCrashFileError> {
        let CrashFile { profile, at, operations, pending } = CrashFile::read(crash_file)?;
        let _quiet = QuietPanics::begin();
        let mut run = Run::new(self, profile, at.left_out.clone());
        let fs = CrashFs::without_commits(&at.left_out, at.faults);
        // What it returns was judged when the file was written: it may fail, as an operation does.
        let _outcome = self.run_workload(&fs);
        let log = fs.log();
        operations.check(log.get(..at.point).unwrap_or(&log))?;
        run.crash_again(&log, at, pending)
    }

    /// Tries these profiles in the order of [`Profile::ALL`], and returns the report of the first
    /// that has a finding: the weakest, whose rules allow the fewest images. If there is none, the
    /// report of the last.
    ///
    /// # Panics
    /// If there is no profile.
    #[track_caller]
    pub fn run_until_found(&self, profiles: &[Profile]) -> Report {
        let mut profiles = profiles.to_vec();
        profiles.sort_unstable();
        let mut last = None;
        for profile in profiles {
            let report = self.run(profile);
            if !report.findings.is_empty() {
                return report;
            }
            last = Some(report);
        }
        last.expect("a test needs at least one profile")
    }

    pub(crate) fn run_workload(&self, fs: &CrashFs) -> Result<(), String> {
        let workload = Arc::clone(&self.workload);
        run_engine(fs, self.hang_after, move |fs| workload(fs))
    }

    pub(crate) fn run_recovery(&self, fs: &CrashFs) -> Result<S, String> {
        let recover = Arc::clone(&self.recover);
        run_engine(fs, self.hang_after, move |fs| recover(fs))
    }
}

impl<S: Clone + Send + 'static> CrashTest<S> {
    /// Opens the engine on this file system and goes on with it; `None` without such work.
    pub(crate) fn run_more_work(&self, fs: &CrashFs, state: &S) -> Option<Result<S, String>> {
        let (work, state) = (Arc::clone(self.work.as_ref()?), state.clone());
        Some(run_engine(fs, self.hang_after, move |fs| work(fs, &state)))
    }
}

impl CrashFs {
    /// Every image that a crash now may leave on a disk with these rules; of images with
    /// the same contents one. What was there when the file system was made is durable.
    pub fn images_after_crash(&self, profile: Profile) -> Vec<CrashFs> {
        let mut disk = Disk::new(profile, &self.start());
        for (index, op) in self.log().iter().enumerate() {
            disk.perform(index, op);
        }
        let mut images = BTreeMap::new();
        for survivors in candidates(profile, &disk, true).sets {
            let image = image(profile, &disk, &survivors);
            images.insert(digest(&image), image);
        }
        let images = images.into_values();
        images.map(|image| CrashFs::with_tree(image, Faults::default())).collect()
    }
}

/// Runs code of the engine in a thread of its own, since it may never return.
fn run_engine<T: Send + 'static>(
    fs: &CrashFs,
    hang_after: Duration,
    engine: impl FnOnce(&CrashFs) -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let (done, result) = channel();
    let fs = fs.clone();
    let thread = std::thread::Builder::new().name(ENGINE_THREAD.to_string());
    let thread = thread.spawn(move || {
        let caught = catch_unwind(AssertUnwindSafe(|| engine(&fs)));
        // Nobody listens any more if it took too long.
        let _late = done.send(caught);
    });
    if let Err(error) = thread {
        return Err(format!("no thread for the engine: {error}"));
    }
    match result.recv_timeout(hang_after) {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(format!("panic: {}", message_of(&*panic))),
        Err(RecvTimeoutError::Timeout) => {
            Err(format!("hangs: no result after {} s", hang_after.as_secs()))
        }
        Err(RecvTimeoutError::Disconnected) => Err("the thread of the engine has ended".into()),
    }
}

const ENGINE_THREAD: &str = "crash-test engine";

/// During a run, the message of a panic of the engine is not printed: a report says more. The hook
/// that was there before serves all other threads, and everything again once no test runs.
// Held over a whole run: to set a hook again wraps it once more, and one wrapper for each recovery
// overflows the stack when the hook is called or dropped.
struct QuietPanics;

type Hook = Arc<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// The hook that was there, and how many tests run.
static QUIET: Mutex<Option<(Hook, usize)>> = Mutex::new(None);

impl QuietPanics {
    fn begin() -> QuietPanics {
        let mut quiet = QUIET.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, runs)) = &mut *quiet {
            *runs += 1;
            return QuietPanics;
        }
        let before: Hook = Arc::from(std::panic::take_hook());
        *quiet = Some((Arc::clone(&before), 1));
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name() != Some(ENGINE_THREAD) {
                before(info);
            }
        }));
        QuietPanics
    }
}

impl Drop for QuietPanics {
    fn drop(&mut self) {
        let mut quiet = QUIET.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, runs)) = quiet.take() {
            if runs > 1 {
                *quiet = Some((before, runs - 1));
            } else if !std::thread::panicking() {
                // A thread that panics may not change the hook.
                std::panic::set_hook(Box::new(move |info| before(info)));
            }
        }
    }
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
