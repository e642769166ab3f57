//! Crashes: the process dies and the page cache stays (P1), or the power fails and the platter
//! stays (P2).

use super::Disk;
use super::directory::{self, ResolvedNameChange};
use super::image::Image;
use super::inode::Ino;
use super::queue::{self, Change, Entry};
use super::report::{self, CutReport, KillReport};
use super::survival::{Survival, SurvivalResolver, role};

impl Disk {
    /// P1: the process dies. Of the operations issued since the issue of the last completed barrier
    /// the first `keep` had reached the page cache; the rest were still in the driver's queue, and
    /// did not happen. Pending barriers are dropped. Unsynced operations stay unsynced: the next
    /// incarnation reads them, and must not treat them as durable. A failed write (D8) is
    /// forgotten; data that a failed sync has lost stays lost (D7).
    pub fn kill(&mut self, keep: usize) -> KillReport {
        let in_driver_queue = self.in_driver_queue();
        let first = self.queue.len() - in_driver_queue;
        let kept = keep.min(in_driver_queue);
        let mut appends =
            report::appends(&self.queue[first..], |at| if at < kept { usize::MAX } else { 0 });
        appends.iter_mut().for_each(|outcome| outcome.kept = outcome.kept.min(outcome.bytes));
        // Newest first: each undo restores the state that the operation before it left.
        for entry in self.queue.drain(first + kept..).rev().collect::<Vec<_>>() {
            self.undo(entry);
        }
        self.end_incarnation();
        self.reclaim_unnamed();
        KillReport { in_driver_queue, kept, appends }
    }

    /// P2: the power fails. The durable state stays, and of the unsynced micro-operations those
    /// that `survival` keeps, with or without a pending barrier (D12). The result is the durable
    /// state of the next incarnation: nothing is pending, and a second power cut changes nothing.
    pub fn power_cut(&mut self, survival: &Survival) -> CutReport {
        let queue = std::mem::take(&mut self.queue);
        let resolver = SurvivalResolver::new(survival, &queue);
        let mut report = CutReport { unmatched: resolver.is_unmatched(), ..CutReport::default() };
        let mut kept = vec![0; queue.len()];
        let used: Vec<bool> = self.inodes.iter().map(|inode| inode.used).collect();
        let synced: Vec<bool> = self.inodes.iter().map(|inode| !inode.platter.is_empty()).collect();
        for at in (0..self.inodes.len()).filter(|at| used[*at]) {
            self.resolve_bytes(Ino(at as u32), &queue, &resolver, &mut kept, &mut report);
        }
        report.appends = report::appends(&queue, |index| kept[index]);
        self.resolve_names(&queue, &resolver);
        report.names = report::name_losses(&self.visible, &self.durable);
        let with_wrong_name =
            self.visible.iter().filter(|(file, ino)| self.durable.find(*file) != Some(*ino));
        report.synced_misnamed =
            with_wrong_name.filter(|(_, ino)| synced[ino.0 as usize]).count() as u32;
        self.visible.copy_from(&self.durable);
        self.queue = queue;
        self.queue.clear();
        self.name_changes = 0;
        self.end_incarnation();
        self.reclaim_unnamed();
        report
    }

    /// D1-D4, D6, D7: the surviving bytes of one file, independent of its name.
    fn resolve_bytes(
        &mut self,
        ino: Ino,
        queue: &[Entry],
        resolver: &SurvivalResolver<'_>,
        kept: &mut [usize],
        report: &mut CutReport,
    ) {
        let role = self.visible.name_of(ino).or_else(|| self.durable.name_of(ino)).map_or(0, role);
        let inode = &mut self.inodes[ino.0 as usize];
        let steps = queue::steps(queue, ino, &inode.cache);
        let mut image = Image::of(inode, &steps, resolver, report);
        image.fill_holes(resolver, role, &self.removed_files, report);
        image.kept().for_each(|(index, bytes)| kept[index] += bytes);
        report.failed_sync_bytes += inode.abandoned_bytes;
        inode.reset_to_platter(image.base, &image.bytes);
        let len = inode.platter.len();
        self.damaged_ranges.retain(|damaged| damaged.ino != ino || damaged.range.start < len);
    }

    /// D5, D6: the surviving names, independent of the bytes.
    fn resolve_names(&mut self, queue: &[Entry], resolver: &SurvivalResolver<'_>) {
        let mut changes = Vec::new();
        for (index, entry) in queue.iter().enumerate() {
            if let Change::Name(change) = entry.change {
                let kept = !entry.abandoned && resolver.keeps(index);
                changes.push(ResolvedNameChange { ino: entry.ino, change, kept });
            }
        }
        directory::apply(&mut self.durable, &changes);
    }

    fn undo(&mut self, entry: Entry) {
        let inode = &mut self.inodes[entry.ino.0 as usize];
        match entry.change {
            Change::Append(append) => inode.cache.truncate(append.start),
            Change::Truncate { tail, .. } => {
                inode.cache.extend_from_slice(&tail);
                inode.truncates -= 1;
            }
            Change::Name(change) => {
                change.undo(entry.ino, &mut self.visible);
                self.name_changes -= 1;
            }
        }
    }

    fn end_incarnation(&mut self) {
        self.barriers.clear();
        self.first_failure = None;
        self.performed_below = self.issued;
    }
}
