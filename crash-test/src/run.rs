//! One run of a crash test: every crash of one workload on one profile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use crate::crash_file::ReadCrashFileError;
use crate::explore::CrashTest;
use crate::fs::{CrashFs, Faults, digest};
use crate::images::{Candidates, Survivors};
use crate::models::{Progress, abbreviated};
use crate::op::Op;
use crate::pending::Disk;
use crate::profile::Profile;
use crate::report::{CrashPoint, Finding, Report};
use crate::tree::{ROOT, Tree};

pub(crate) fn candidates(profile: Profile, disk: &Disk, all: bool) -> Candidates {
    match (profile, all) {
        // The page cache survives a process: there is one image.
        (Profile::Kill, _) => Candidates::whole(disk),
        (_, true) => Candidates::of(disk),
        (_, false) => Candidates::few_of(disk),
    }
}

pub(crate) fn image(profile: Profile, disk: &Disk, survivors: &Survivors) -> Tree {
    if profile == Profile::Kill {
        return disk.seen().clone();
    }
    disk.image(&survivors.keep, survivors.torn, survivors.garbage)
}

/// One run of a test on one profile.
pub(crate) struct Run<'a, S> {
    test: &'a CrashTest<S>,
    profile: Profile,
    /// The commits that the workload leaves out.
    left_out: BTreeSet<u64>,
    /// By the digest of the image: recovery is dear, and most crashes leave an image that another
    /// one leaves, too.
    recovered: BTreeMap<u64, Recovered<S>>,
    pub(crate) report: Report,
}

/// What recovery has come to on one image.
struct Recovered<S> {
    /// The state, and the states after crashes of the recovery, each with where it crashed.
    states: Vec<(String, Result<S, String>)>,
}

impl<'a, S: Clone + PartialEq + Debug + Send + 'static> Run<'a, S> {
    pub(crate) fn new(
        test: &'a CrashTest<S>,
        profile: Profile,
        left_out: BTreeSet<u64>,
    ) -> Run<'a, S> {
        Run { test, profile, left_out, recovered: BTreeMap::new(), report: Report::new(profile) }
    }

    pub(crate) fn into_report(self) -> Report {
        let mut report = self.report;
        report.distinct_images = self.recovered.len() as u64;
        report
    }

    /// Crashes after each operation of the workload, in which these faults have happened.
    pub(crate) fn try_crashes(&mut self, log: &[Op], faults: Faults) {
        let mut disk = Disk::new(self.profile, &Tree::default());
        let mut progress = Progress::default();
        for point in 0..=log.len() {
            if let Some(op) = point.checked_sub(1).map(|last| &log[last]) {
                if self.profile == Profile::Kill {
                    self.try_interrupted_write(&disk, op, &progress, log, (point, faults));
                }
                advance(&mut disk, &mut progress, point - 1, op);
            }
            let candidates = self.candidates(&disk, true);
            self.report.points += 1;
            self.report.images_not_tried += candidates.not_tried;
            for survivors in candidates.sets {
                let image = self.image(&disk, &survivors);
                let at = self.crash_point(point, survivors, faults);
                self.judge(&image, &progress, log, &at, Some(&disk));
            }
        }
    }

    fn crash_point(&self, point: usize, survivors: Survivors, faults: Faults) -> CrashPoint {
        CrashPoint { point, survivors, faults, left_out: self.left_out.clone() }
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
        (point, faults): (usize, Faults),
    ) {
        const PAGE_BYTES: usize = 4096;
        let Op::Write { file, at, bytes } = op else { return };
        let first = PAGE_BYTES - (*at % PAGE_BYTES as u64) as usize;
        for len in (first..bytes.len()).step_by(PAGE_BYTES) {
            let mut image = disk.seen().clone();
            image.write(*file, *at, &bytes[..len]);
            let survivors = Survivors { keep: Vec::new(), torn: Some((0, len)), garbage: false };
            let at = self.crash_point(point, survivors, faults);
            self.judge(&image, progress, log, &at, None);
        }
    }

    /// One sync or write fails. The workload may return an error then, but not panic or hang, and
    /// what it has acknowledged must survive a crash at any later point.
    pub(crate) fn try_failure(&mut self, faults: Faults) {
        let fs = CrashFs::without_commits(&self.left_out, faults);
        let outcome = self.test.run_workload(&fs);
        let log = fs.log();
        self.report.failures += 1;
        if let Err(reason) = outcome
            && (reason.starts_with("panic") || reason.starts_with("hangs"))
        {
            let text = format!("the workload does not survive a failure: {reason}");
            let finding = self.finding(&format!("{text} ({faults})"), &log, None);
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
                let at = self.crash_point(last + 1, survivors, faults);
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
            finding.write_crash_file(log, disk);
        }
        self.report.add(finding);
    }

    /// Why recovery does not find on this image what it must.
    pub(crate) fn verdict(&mut self, image: &Tree, progress: &Progress) -> Option<String> {
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

    /// Crashes once more at a place that was found before.
    ///
    /// # Errors
    /// If the disk has other pending parts there.
    pub(crate) fn crash_again(
        &mut self,
        log: &[Op],
        at: CrashPoint,
        pending: usize,
    ) -> Result<Option<Finding>, ReadCrashFileError> {
        let mut disk = Disk::new(self.profile, &Tree::default());
        let mut progress = Progress::default();
        for (index, op) in log[..at.point].iter().enumerate() {
            // A write that the kill has interrupted is performed in part, below.
            if at.survivors.interrupts_write() && index + 1 == at.point {
                break;
            }
            advance(&mut disk, &mut progress, index, op);
        }
        if disk.pending().len() != pending {
            return Err(ReadCrashFileError::OtherParts { there: disk.pending().len(), pending });
        }
        let image = match (at.survivors.torn, log[..at.point].last()) {
            (Some((_, len)), Some(Op::Write { file, at: start, bytes }))
                if at.survivors.interrupts_write() =>
            {
                let mut image = disk.seen().clone();
                image.write(*file, *start, &bytes[..len.min(bytes.len())]);
                image
            }
            _ => self.image(&disk, &at.survivors),
        };
        // Recovery is crashed at every operation, whether or not it was when this was found.
        let recovered = self.recover(&image, true);
        self.recovered.insert(digest(&image), recovered);
        let Some(reason) = self.verdict(&image, &progress) else { return Ok(None) };
        let mut finding = self.finding(&reason, log, Some(&at));
        let whole = (!at.survivors.interrupts_write()).then_some(&disk);
        finding.describe_image(&image, whole, &at.survivors);
        finding.write_crash_file(log, whole);
        Ok(Some(finding))
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
        if let Some(reason) = self.work_and_crash(image, &state, nested) {
            states.push((" before more work".into(), Err(reason)));
        }
        Recovered { states }
    }

    /// More work after recovery on an image, and a second crash. Returns what is wrong.
    fn work_and_crash(&mut self, image: &Tree, state: &S, nested: bool) -> Option<String> {
        let fs = CrashFs::with_tree(image.clone(), Faults::default());
        let expected = match self.test.run_more_work(&fs, state)? {
            Ok(expected) => expected,
            Err(reason) => return Some(format!("the work after recovery fails: {reason}")),
        };
        let mut disk = Disk::new(self.profile, image);
        for (index, op) in fs.log().iter().enumerate() {
            disk.perform(index, op);
        }
        for survivors in self.candidates(&disk, nested).sets {
            let crashed = CrashFs::with_tree(self.image(&disk, &survivors), Faults::default());
            self.report.nested += 1;
            let found = self.test.run_recovery(&crashed);
            if found.as_ref() != Ok(&expected) {
                let found = abbreviated(&format!("{found:?}"));
                let expected = abbreviated(&format!("{expected:?}"));
                return Some(format!(
                    "after more work and a second crash it contains {found} and not {expected}"
                ));
            }
        }
        None
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
    pub(crate) fn try_sabotage(&mut self, tree: &Tree, log: &[Op]) {
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

    pub(crate) fn finding(&self, reason: &str, log: &[Op], at: Option<&CrashPoint>) -> Finding {
        let until = at.map_or(log.len(), |at| at.point);
        Finding::new(self.profile, reason, &log[..until], at.cloned())
    }
}

pub(crate) fn advance(disk: &mut Disk, progress: &mut Progress, index: usize, op: &Op) {
    if let Op::Begin(commit) = op {
        progress.begun.insert(*commit);
    } else if let Op::Acknowledge(commit) = op {
        progress.acknowledged.insert(*commit);
    } else {
        disk.perform(index, op);
    }
}
