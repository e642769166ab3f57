//! Reduces the workload of a finding: commits that it does without are left out.

use std::collections::BTreeSet;
use std::fmt::Debug;

use crate::explore::CrashTest;
use crate::fs::{CrashFs, Faults};
use crate::report::{Finding, Report};
use crate::run::Run;

/// Workloads that are tried for one finding, each with all of its crashes.
const WORKLOADS_MAX: usize = 32;

/// Replaces each finding by the same one of a workload with fewer commits, as far as the workload
/// asks [`CrashFs::commits`] which ones to perform.
pub(crate) fn reduce_workload<S: Clone + PartialEq + Debug + Send + 'static>(
    test: &CrashTest<S>,
    offered: &BTreeSet<u64>,
    report: &mut Report,
) {
    for finding in &mut report.findings {
        let Some(faults) = finding.at.as_ref().map(|at| at.faults) else { continue };
        let mut left_out = BTreeSet::new();
        // From the last to the first: most of what a crash needs comes before it.
        for commit in offered.iter().rev().take(WORKLOADS_MAX) {
            let mut fewer = left_out.clone();
            fewer.insert(*commit);
            if let Some(mut same) = find_again(test, finding, fewer.clone(), faults) {
                same.images = finding.images;
                *finding = same;
                left_out = fewer;
            }
        }
    }
}

/// The same finding without these commits.
fn find_again<S: Clone + PartialEq + Debug + Send + 'static>(
    test: &CrashTest<S>,
    finding: &Finding,
    left_out: BTreeSet<u64>,
    faults: Faults,
) -> Option<Finding> {
    let fs = CrashFs::without_commits(&left_out, faults);
    let outcome = test.run_workload(&fs);
    if outcome.is_err() && faults == Faults::default() {
        return None;
    }
    let mut run = Run::new(test, finding.profile, left_out);
    run.try_crashes(&fs.log(), faults);
    run.report.findings.into_iter().find(|found| found.key() == finding.key())
}
