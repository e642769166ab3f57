//! The explorer: runs a workload, and recovery on every image that a crash may leave.

// The threads are those of the engine under test: a watchdog must outlive its endless loops. What
// they return depends on the image alone, unless the engine draws on time or randomness.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "an engine that hangs is found by a timeout, which needs a thread and a clock"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::{Debug, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use crate::fs::{CrashFs, Faults, WriteFault, digest};
use crate::images::{Candidates, Survivors};
use crate::models::{Progress, abbreviated};
use crate::op::Op;
use crate::pending::Disk;
use crate::profile::Profile;
use crate::report::{CrashPoint, Finding, Report};
use crate::tree::{ROOT, Tree};

/// Any error, so that a workload may use `?` on what an engine returns.
pub type EngineError = Box<dyn Error + Send + Sync>;

type Workload = Arc<dyn Fn(&CrashFs) -> Result<(), String> + Send + Sync>;
type Recover<S> = Arc<dyn Fn(&CrashFs) -> Result<S, String> + Send + Sync>;
type Expect<S> = Box<dyn Fn(&S, &Progress) -> Result<(), String>>;

/// A crash test of a storage engine. See the [crate](crate) for an example.
pub struct CrashTest<S> {
    workload: Workload,
    recover: Recover<S>,
    expect: Expect<S>,
    hang_after: Duration,
    nested_every: usize,
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
}

/// What recovery has come to on one image.
struct Recovered<S> {
    /// The state, and the states after crashes of the recovery, each with where it crashed.
    states: Vec<(String, Result<S, String>)>,
}

impl<S: Clone + PartialEq + Debug + Send + 'static> CrashTest<S> {
    /// Tries every crash of the workload, and every failure of one sync or one write, on a disk
    /// with these rules.
    pub fn run(&self, profile: Profile) -> Report {
        silence_engine_panics();
        let began = Instant::now();
        let mut run =
            Run { test: self, profile, recovered: BTreeMap::new(), report: Report::new(profile) };
        let fs = CrashFs::default();
        if let Err(reason) = self.run_workload(&fs) {
            run.report.add(run.finding(&format!("the workload fails: {reason}"), &fs.log(), None));
        }
        let log = fs.log();
        run.report.note_workload(&log);
        run.try_crashes(&log);
        let (syncs, writes) = fs.counts();
        for sync in 0..syncs {
            let faults = Faults { sync: Some(sync), write: None };
            run.try_failure(faults, &format!("sync {sync} fails"));
        }
        for write in 0..writes {
            for fault in WriteFault::ALL {
                let faults = Faults { sync: None, write: Some((write, fault)) };
                run.try_failure(faults, &format!("write {write} {fault}"));
            }
        }
        run.try_sabotage(&fs.tree(), &log);
        let mut report = run.report;
        report.distinct_images = run.recovered.len() as u64;
        report.seconds = began.elapsed().as_secs_f64();
        report
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

    fn run_workload(&self, fs: &CrashFs) -> Result<(), String> {
        let workload = Arc::clone(&self.workload);
        run_engine(fs, self.hang_after, move |fs| workload(fs))
    }

    fn run_recovery(&self, fs: &CrashFs) -> Result<S, String> {
        let recover = Arc::clone(&self.recover);
        run_engine(fs, self.hang_after, move |fs| recover(fs))
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

fn candidates(profile: Profile, disk: &Disk, all: bool) -> Candidates {
    match (profile, all) {
        // The page cache survives a process: there is one image.
        (Profile::Kill, _) => Candidates::whole(disk),
        (_, true) => Candidates::of(disk),
        (_, false) => Candidates::few_of(disk),
    }
}

fn image(profile: Profile, disk: &Disk, survivors: &Survivors) -> Tree {
    if profile == Profile::Kill {
        return disk.seen().clone();
    }
    disk.image(&survivors.keep, survivors.torn, survivors.garbage)
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

/// Panics of the engine are findings, of which a report says more than the default hook would.
fn silence_engine_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name() != Some(ENGINE_THREAD) {
                before(info);
            }
        }));
    });
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// One run of a test on one profile.
struct Run<'a, S> {
    test: &'a CrashTest<S>,
    profile: Profile,
    /// By the digest of the image: recovery is dear, and most crashes leave an image that another
    /// one leaves, too.
    recovered: BTreeMap<u64, Recovered<S>>,
    report: Report,
}

impl<S: Clone + PartialEq + Debug + Send + 'static> Run<'_, S> {
    /// Crashes after each operation.
    fn try_crashes(&mut self, log: &[Op]) {
        let mut disk = Disk::new(self.profile, &Tree::default());
        let mut progress = Progress::default();
        for point in 0..=log.len() {
            if let Some(op) = point.checked_sub(1).map(|last| &log[last]) {
                if self.profile == Profile::Kill {
                    self.try_interrupted_write(&disk, op, &progress, log, point);
                }
                advance(&mut disk, &mut progress, point - 1, op);
            }
            let candidates = self.candidates(&disk, true);
            self.report.points += 1;
            self.report.images_not_tried += candidates.not_tried;
            for survivors in candidates.sets {
                let image = self.image(&disk, &survivors);
                let at = CrashPoint { point, survivors, failure: None };
                self.judge(&image, &progress, log, &at, Some(&disk));
            }
        }
    }

    fn candidates(&self, disk: &Disk, all: bool) -> Candidates {
        candidates(self.profile, disk, all)
    }

    fn image(&self, disk: &Disk, survivors: &Survivors) -> Tree {
        image(self.profile, disk, survivors)
    }

    /// A kill in the middle of a write leaves whole pages of it.
    fn try_interrupted_write(
        &mut self,
        disk: &Disk,
        op: &Op,
        progress: &Progress,
        log: &[Op],
        point: usize,
    ) {
        const PAGE_BYTES: usize = 4096;
        let Op::Write { file, at, bytes } = op else { return };
        let first = PAGE_BYTES - (*at % PAGE_BYTES as u64) as usize;
        for len in (first..bytes.len()).step_by(PAGE_BYTES) {
            let mut image = disk.seen().clone();
            image.write(*file, *at, &bytes[..len]);
            let survivors = Survivors { keep: Vec::new(), torn: Some((0, len)), garbage: false };
            let at = CrashPoint { point, survivors, failure: None };
            self.judge(&image, progress, log, &at, None);
        }
    }

    /// One sync or write fails. The workload may return an error then, but not panic or hang, and
    /// what it has acknowledged must survive a crash at any later point.
    fn try_failure(&mut self, faults: Faults, failure: &str) {
        let fs = CrashFs::with_tree(Tree::default(), faults);
        let outcome = self.test.run_workload(&fs);
        let log = fs.log();
        self.report.failures += 1;
        if let Err(reason) = outcome
            && (reason.starts_with("panic") || reason.starts_with("hangs"))
        {
            let text = format!("the workload does not survive a failure: {reason}");
            let finding = self.finding(&format!("{text} ({failure})"), &log, None);
            self.report.add(finding);
        }
        let mut disk = Disk::new(self.profile, &Tree::default());
        let mut progress = Progress::default();
        for (last, op) in log.iter().enumerate() {
            advance(&mut disk, &mut progress, last, op);
            let is_end = last + 1 == log.len();
            // The images between two marks of the workload differ less.
            if !is_end && !matches!(op, Op::Acknowledge(_) | Op::SyncFailed { .. }) {
                continue;
            }
            for survivors in self.candidates(&disk, false).sets {
                let image = self.image(&disk, &survivors);
                let failure = Some(failure.to_string());
                let at = CrashPoint { point: last + 1, survivors, failure };
                self.judge(&image, &progress, &log, &at, Some(&disk));
            }
        }
    }

    /// Recovery on an image, and whether it finds what it must.
    fn judge(
        &mut self,
        image: &Tree,
        progress: &Progress,
        log: &[Op],
        at: &CrashPoint,
        disk: Option<&Disk>,
    ) {
        self.report.images += 1;
        let Some(reason) = self.verdict(image, progress) else { return };
        let mut finding = self.finding(&reason, log, Some(at));
        if self.report.is_new(&finding) {
            let least = disk.and_then(|disk| self.with_least_lost(disk, at, progress, &finding));
            let survivors = least.as_ref().unwrap_or(&at.survivors);
            let image = disk.map_or_else(|| image.clone(), |disk| self.image(disk, survivors));
            finding.describe_image(&image, disk, survivors);
            if let Some(survivors) = least {
                finding.at = Some(CrashPoint { survivors, ..at.clone() });
            }
        }
        self.report.add(finding);
    }

    /// Why recovery does not find on this image what it must.
    fn verdict(&mut self, image: &Tree, progress: &Progress) -> Option<String> {
        let key = digest(image);
        if !self.recovered.contains_key(&key) {
            let nested = self.recovered.len().is_multiple_of(self.test.nested_every);
            let recovered = self.recover(image, nested);
            self.recovered.insert(key, recovered);
        }
        let recovered = &self.recovered[&key];
        recovered.states.iter().find_map(|(where_, state)| match state {
            Err(reason) => Some(format!("recovery fails{where_}: {reason}")),
            Ok(state) => {
                let verdict = (self.test.expect)(state, progress);
                verdict.err().map(|reason| format!("{reason}{where_}"))
            }
        })
    }

    /// The same finding with as few lost parts as possible: parts are given back one by one.
    fn with_least_lost(
        &mut self,
        disk: &Disk,
        at: &CrashPoint,
        progress: &Progress,
        finding: &Finding,
    ) -> Option<Survivors> {
        let mut least = at.survivors.clone();
        for part in 0..least.keep.len() {
            if least.keep[part] {
                continue;
            }
            let mut more = least.clone();
            more.keep[part] = true;
            if !Candidates::is_legal(disk, &more.keep) {
                continue;
            }
            let image = self.image(disk, &more);
            let same = self
                .verdict(&image, progress)
                .is_some_and(|reason| Finding::folded(&reason) == finding.key());
            if same {
                least = more;
            }
        }
        Some(least)
    }

    fn recover(&mut self, image: &Tree, nested: bool) -> Recovered<S> {
        let fs = CrashFs::with_tree(image.clone(), Faults::default());
        let state = self.test.run_recovery(&fs);
        self.report.recoveries += 1;
        let mut states = vec![(String::new(), state.clone())];
        let Ok(state) = state else { return Recovered { states } };
        let again = CrashFs::with_tree(fs.tree(), Faults::default());
        let second = self.test.run_recovery(&again);
        if second.as_ref() != Ok(&state) {
            let found = abbreviated(&format!("{second:?}"));
            let reason = format!("opened twice, it contains {state:?} and then {found}");
            states.push((" a second time".into(), Err(reason)));
        }
        self.crash_recovery(image, &fs.log(), nested, &mut states);
        Recovered { states }
    }

    /// Recovery of a crash of recovery.
    fn crash_recovery(
        &mut self,
        image: &Tree,
        log: &[Op],
        nested: bool,
        states: &mut Vec<(String, Result<S, String>)>,
    ) {
        let mut disk = Disk::new(self.profile, image);
        for (last, op) in log.iter().enumerate() {
            disk.perform(last, op);
            let is_end = last + 1 == log.len();
            let looks_here = is_end || (nested && op.is_of_file_system());
            if !looks_here {
                continue;
            }
            let parts = disk.pending().len();
            for keep in [vec![false; parts], vec![true; parts]] {
                let survivors = Survivors { keep, torn: None, garbage: false };
                let crashed = CrashFs::with_tree(self.image(&disk, &survivors), Faults::default());
                let state = self.test.run_recovery(&crashed);
                self.report.nested += 1;
                // Most are the same, and one is enough.
                if states.iter().any(|(_, known)| *known == state) {
                    continue;
                }
                let place = format!(" after a crash of recovery behind its operation {last}");
                states.push((place, state));
            }
        }
    }

    /// Removes what was acknowledged on purpose: a test that does not notice cannot fail.
    fn try_sabotage(&mut self, tree: &Tree, log: &[Op]) {
        let mut progress = Progress::default();
        let mut disk = Disk::new(self.profile, &Tree::default());
        for (index, op) in log.iter().enumerate() {
            advance(&mut disk, &mut progress, index, op);
        }
        let paths: Vec<_> = tree.files().into_iter().map(|(path, _)| path).collect();
        let mut images = vec![Tree::default()];
        for path in &paths {
            let Ok(file) = tree.find(path) else { continue };
            for len in [0, tree.file(file).map_or(0, Vec::len) as u64 / 2] {
                let mut image = tree.clone();
                image.set_len(file, len);
                images.push(image);
            }
        }
        self.report.notices_sabotage =
            images.iter().any(|image| self.verdict(image, &progress).is_some());
        debug_assert!(tree.dir(ROOT).is_some());
    }

    fn finding(&self, reason: &str, log: &[Op], at: Option<&CrashPoint>) -> Finding {
        let until = at.map_or(log.len(), |at| at.point);
        Finding::new(self.profile, reason, &log[..until], at.cloned())
    }
}

fn advance(disk: &mut Disk, progress: &mut Progress, index: usize, op: &Op) {
    if let Op::Begin(commit) = op {
        progress.begun.insert(*commit);
    } else if let Op::Acknowledge(commit) = op {
        progress.acknowledged.insert(*commit);
    } else {
        disk.perform(index, op);
    }
}
