//! What a crash test has found, and what it has not measured.

use std::collections::BTreeSet;
use std::fmt;

use crate::crash_file;
use crate::fs::Faults;
use crate::images::Survivors;
use crate::op::Op;
use crate::pending::Disk;
use crate::profile::Profile;
use crate::tree::Tree;

/// The result of a run on one profile. Its `Display` is a report for the author of the engine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The rules of the disk.
    pub profile: Profile,
    /// What is wrong: findings that differ in numbers only are one.
    pub findings: Vec<Finding>,
    /// Operations of the workload.
    pub operations: u64,
    /// Its syncs.
    pub syncs: u64,
    /// Its acknowledged commits.
    pub acknowledged: u64,
    /// Points of the record at which the workload was crashed.
    pub points: u64,
    /// Images that were judged.
    pub images: u64,
    /// Of these, images with different contents: recovery ran on each.
    pub distinct_images: u64,
    /// Losses of two parts that were not tried, since too many parts were pending.
    pub images_not_tried: u64,
    /// Runs of recovery on an image.
    pub recoveries: u64,
    /// Runs of recovery after a crash of recovery.
    pub nested: u64,
    /// Runs of the workload with a sync or write that fails.
    pub failures: u64,
    /// Whether the expectation notices that an acknowledged file is gone or cut.
    pub notices_sabotage: bool,
    /// Wall time.
    pub seconds: f64,
}

/// Whether a run says something, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything that was acknowledged survived every image.
    Survived,
    /// There are findings.
    Found,
    /// The workload acknowledged nothing, so nothing had to survive.
    NothingAcknowledged,
    /// The workload synced nothing: whatever survives, survives by luck.
    NothingSynced,
    /// The test cannot fail: its expectation holds although acknowledged files are gone.
    CannotFail,
}

/// Where a crash happened, and what survived it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CrashPoint {
    /// The number of operations before it.
    pub point: usize,
    pub survivors: Survivors,
    /// The sync or write that has failed before.
    pub faults: Faults,
    /// The commits that the workload has left out.
    pub left_out: BTreeSet<u64>,
}

/// Something that is wrong.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// The rules of the disk on which it was found.
    pub profile: Profile,
    /// What is wrong, in one sentence.
    pub reason: String,
    /// How many images show it.
    pub images: u64,
    /// The last operations before the crash.
    pub operations: Vec<String>,
    /// What was not durable and is gone.
    pub lost: Vec<String>,
    /// What was not durable and has survived.
    pub survived: Vec<String>,
    /// The files of the image, with their lengths in bytes.
    pub files: Vec<(String, usize)>,
    pub(crate) at: Option<CrashPoint>,
    crash_file: Option<String>,
}

/// Operations that a finding shows.
const OPERATIONS_SHOWN: usize = 20;

impl Report {
    pub(crate) fn new(profile: Profile) -> Report {
        Report {
            profile,
            findings: Vec::new(),
            operations: 0,
            syncs: 0,
            acknowledged: 0,
            points: 0,
            images: 0,
            distinct_images: 0,
            images_not_tried: 0,
            recoveries: 0,
            nested: 0,
            failures: 0,
            notices_sabotage: false,
            seconds: 0.0,
        }
    }

    pub(crate) fn note_workload(&mut self, log: &[Op]) {
        for op in log {
            self.operations += u64::from(op.is_of_file_system());
            self.syncs += u64::from(op.is_sync());
            self.acknowledged += u64::from(matches!(op, Op::Acknowledge(_)));
        }
    }

    /// Whether no earlier finding is the same but for numbers.
    pub(crate) fn is_new(&self, finding: &Finding) -> bool {
        let key = finding.key();
        !self.findings.iter().any(|known| known.key() == key)
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        let key = finding.key();
        match self.findings.iter_mut().find(|known| known.key() == key) {
            Some(known) => known.images += 1,
            None => self.findings.push(finding),
        }
    }

    /// What the run says.
    pub fn verdict(&self) -> Verdict {
        if !self.findings.is_empty() {
            Verdict::Found
        } else if self.acknowledged == 0 {
            Verdict::NothingAcknowledged
        } else if self.syncs == 0 && self.profile != Profile::Kill {
            Verdict::NothingSynced
        } else if !self.notices_sabotage {
            Verdict::CannotFail
        } else {
            Verdict::Survived
        }
    }

    /// Whether everything survived, and the test could have noticed if not.
    pub fn is_clean(&self) -> bool {
        self.verdict() == Verdict::Survived
    }
}

impl Finding {
    pub(crate) fn new(
        profile: Profile,
        reason: &str,
        log: &[Op],
        at: Option<CrashPoint>,
    ) -> Finding {
        let shown = log.len().saturating_sub(OPERATIONS_SHOWN);
        Finding {
            profile,
            reason: reason.to_string(),
            images: 1,
            operations: log[shown..].iter().map(ToString::to_string).collect(),
            lost: Vec::new(),
            survived: Vec::new(),
            files: Vec::new(),
            at,
            crash_file: None,
        }
    }

    /// The text that [`CrashTest::replay`](crate::CrashTest::replay) plays again: to be kept in a
    /// file, as a regression test. `None` if the workload itself has failed.
    pub fn crash_file(&self) -> Option<&str> {
        self.crash_file.as_deref()
    }

    /// Completes the finding, whose crash follows the end of this log.
    pub(crate) fn write_crash_file(&mut self, log: &[Op], disk: Option<&Disk>) {
        if let Some(at) = &self.at {
            self.crash_file = Some(crash_file::write(self, at, log, disk));
        }
    }

    pub(crate) fn describe_image(
        &mut self,
        image: &Tree,
        disk: Option<&Disk>,
        survivors: &Survivors,
    ) {
        self.files = image.files().into_iter().map(|(path, bytes)| (path, bytes.len())).collect();
        let Some(disk) = disk else { return };
        for (part, survives) in disk.pending().iter().zip(&survivors.keep) {
            let list = if *survives { &mut self.survived } else { &mut self.lost };
            list.push(part.to_string());
        }
        if let Some((part, cut)) = survivors.torn
            && let Some(part) = disk.pending().get(part)
        {
            self.lost.push(format!("all but the first {cut} B of {part}"));
        }
    }

    /// Findings with the same key are one.
    pub(crate) fn key(&self) -> String {
        Finding::folded(&self.reason)
    }

    /// A text without its numbers.
    pub(crate) fn folded(text: &str) -> String {
        let mut folded = String::new();
        for c in text.chars() {
            let c = if c.is_ascii_digit() { '#' } else { c };
            // A number of any length is one mark.
            if c != '#' || !folded.ends_with('#') {
                folded.push(c);
            }
        }
        folded
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.reason)?;
        writeln!(f, "  profile {}, {} images", self.profile, self.images)?;
        if let Some(CrashPoint { point, faults, .. }) = &self.at {
            writeln!(f, "  crash after operation {point}, of which the last:")?;
            for operation in &self.operations {
                writeln!(f, "    {operation}")?;
            }
            if *faults != Faults::default() {
                writeln!(f, "  after a failure: {faults}")?;
            }
        }
        for (title, parts) in [("lost", &self.lost), ("survived, not synced", &self.survived)] {
            if !parts.is_empty() {
                writeln!(f, "  {title}:")?;
            }
            for part in parts {
                writeln!(f, "    {part}")?;
            }
        }
        for (path, len) in &self.files {
            writeln!(f, "  file {path}: {len} B")?;
        }
        if let Some(text) = &self.crash_file {
            writeln!(f, "  to replay it, keep this in a file and pass it to `CrashTest::replay`:")?;
            for line in text.lines() {
                writeln!(f, "    {line}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict() {
            Verdict::Survived => "survived",
            Verdict::Found => "FOUND",
            Verdict::NothingAcknowledged => "NOT MEASURED: the workload acknowledged nothing",
            Verdict::NothingSynced => "NOT MEASURED: the workload synced nothing",
            Verdict::CannotFail => {
                "THE TEST CANNOT FAIL: the expectation holds without the acknowledged files"
            }
        };
        writeln!(f, "{}: {verdict}", self.profile)?;
        writeln!(
            f,
            "  {} operations, {} syncs, {} commits acknowledged, {} crash points, {} failures",
            self.operations, self.syncs, self.acknowledged, self.points, self.failures
        )?;
        writeln!(
            f,
            "  {} images, {} distinct; {} recoveries, {} of a crashed recovery; {:.2} s",
            self.images, self.distinct_images, self.recoveries, self.nested, self.seconds
        )?;
        if self.images_not_tried > 0 {
            writeln!(f, "  NOT TRIED: {} losses of two parts", self.images_not_tried)?;
        }
        for finding in &self.findings {
            write!(f, "\n{finding}")?;
        }
        Ok(())
    }
}
