//! Crashes: the process dies and the page cache stays (P1), or the power fails and the platter
//! stays (P2).

use super::Disk;
use super::directory::ResolvedNameChange;
use super::queue::{Change, Entry};
use super::report::{self, CutReport, KillReport};
use super::survival::{Survival, SurvivalResolver};

impl Disk {
    /// P1: the process dies. Of the operations issued since the issue of the last completed barrier
    /// the first `keep` had reached the page cache; the rest were still in the driver's queue, and
    /// did not happen. Pending barriers are dropped. Unsynced operations stay unsynced: the next
    /// incarnation reads them, and must not treat them as durable. A failed write (D8) is
    /// forgotten; data that a failed sync has lost stays lost (D7).
    pub fn kill(&mut self, keep: usize) -> KillReport {
        let in_driver_queue = self.pending.in_driver_queue();
        let kept = keep.min(in_driver_queue);
        let entries = self.pending.entries();
        let mut appends = report::appends(&entries[entries.len() - in_driver_queue..], |at| {
            // All or nothing; `usize::MAX` is cut to the length of the append below.
            if at < kept { usize::MAX } else { 0 }
        });
        appends.iter_mut().for_each(|outcome| outcome.kept = outcome.kept.min(outcome.bytes));
        // Newest first: each undo restores the state that the operation before it left.
        for entry in self.pending.take_last(in_driver_queue - kept).iter().rev() {
            self.files.undo(entry);
        }
        self.end_incarnation();
        KillReport { in_driver_queue, kept, appends }
    }

    /// P2: the power fails. The durable state stays, and of the unsynced micro-operations those
    /// that `survival` keeps, with or without a pending barrier (D12). The result is the durable
    /// state of the next incarnation: nothing is pending, and a second power cut changes nothing.
    pub fn power_cut(&mut self, survival: &Survival) -> CutReport {
        let queue = self.pending.take_entries();
        let resolver = SurvivalResolver::new(survival, &queue);
        let mut report = CutReport { unmatched: resolver.is_unmatched(), ..CutReport::default() };
        let mut kept = vec![0; queue.len()];
        // Before the bytes are resolved: afterwards every surviving byte counts as durable.
        let synced = self.files.synced();
        for ino in self.files.used() {
            self.files.resolve_bytes(ino, &queue, &resolver, &mut kept, &mut report);
        }
        report.appends = report::appends(&queue, |index| kept[index]);
        self.files.apply_names(&resolve_names(&queue, &resolver));
        (report.names, report.synced_misnamed) = self.files.forget_volatile_names(&synced);
        self.pending.reuse(queue);
        self.end_incarnation();
        report
    }

    fn end_incarnation(&mut self) {
        self.pending.end_incarnation();
        self.first_failure = None;
        self.files.reclaim_unnamed(&self.pending);
    }
}

/// D5, D6: the surviving name changes, independent of the bytes.
fn resolve_names(queue: &[Entry], resolver: &SurvivalResolver<'_>) -> Vec<ResolvedNameChange> {
    let mut changes = Vec::new();
    for (index, entry) in queue.iter().enumerate() {
        if let Change::Name(change) = *entry.change() {
            let kept = !entry.is_abandoned() && resolver.keeps(index);
            changes.push(ResolvedNameChange { ino: entry.ino(), change, kept });
        }
    }
    changes
}
