//! When records become durable: group commit, segments, compaction, and a disk that fails.

use super::disk::{KeepLengthsOnly, KeepUnsynced, LoseUnsynced};
use super::rig::{QueuedOp, Rig, files};
use crate::contract::{DiskError, FileId};
use crate::wal::Progress;

fn syncs(rig: &Rig) -> usize {
    rig.queue.iter().filter(|job| matches!(job, QueuedOp::Sync { .. })).count()
}

/// Three records are forced while the first one's barrier is in flight: they share the next, which
/// is issued as soon as the first completes.
#[test]
fn records_forced_during_a_barrier_share_the_next_one() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    let first = rig.append(20);
    rig.force();
    rig.perform_all();
    let others = [20, 20, 20].map(|len| {
        let ticket = rig.append(len);
        rig.force();
        ticket
    });
    // A barrier is in flight, so none is issued for these three.
    assert_eq!(syncs(&rig), 0);
    assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Advanced));
    assert!(rig.wal().is_durable(&first));
    assert!(others.iter().all(|ticket| !rig.wal().is_durable(ticket)));
    assert_eq!(syncs(&rig), 1);
    rig.run_until_idle();
    assert!(others.iter().all(|ticket| rig.wal().is_durable(ticket)));
    // One for the record at the beginning, one for `first`, and one for the three.
    assert_eq!(rig.wal().stats().log_barriers, 3);
}

/// An unforced record causes no barrier, neither at once nor when another completes, but every
/// barrier issued after it covers it.
#[test]
fn unforced_record_causes_no_barrier() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    let forced = rig.append(20);
    rig.force();
    let late = rig.append(20);
    rig.run_until_idle();
    assert!(rig.wal().is_durable(&forced));
    assert!(!rig.wal().is_durable(&late));
    assert_eq!(rig.wal().stats().log_barriers, 2);
    rig.append_durably(20);
    assert!(rig.wal().is_durable(&late));
    rig.force();
    assert_eq!(syncs(&rig), 0, "there is nothing to force");
}

/// A record is forced while a barrier is in flight, and an unforced one follows it: the next
/// barrier covers both.
#[test]
fn barrier_covers_every_record_appended_before_it() {
    let mut rig = Rig::started();
    rig.append_untracked(20);
    rig.force();
    rig.append_untracked(20);
    rig.force();
    let end = rig.append(20);
    rig.run_until_idle();
    assert!(rig.wal().is_durable(&end));
    assert_eq!(rig.wal().stats().log_barriers, 2);
}

/// A new segment's data are synced and its name is not: the power cut may remove the whole file, so
/// nothing in it is durable yet. In either order.
#[test]
fn new_segment_needs_a_durable_name() {
    // The data become durable first, or the name does.
    for first in [0, 1] {
        let mut rig = Rig::started();
        let ticket = rig.append(20);
        rig.force();
        rig.perform_all();
        assert_eq!(rig.complete(first, Ok(())), Ok(Progress::Nothing));
        assert!(!rig.wal().is_durable(&ticket));
        let mut cut = rig.clone();
        cut.power_cut(&mut LoseUnsynced);
        assert_eq!(cut.ids(), [0; 0]);
        assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Advanced));
        assert!(rig.wal().is_durable(&ticket));
        rig.power_cut(&mut LoseUnsynced);
        assert_eq!(rig.ids(), [1]);
    }
}

/// The same after a compaction's switch.
#[test]
fn segment_created_by_compaction_needs_a_durable_name() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    rig.compact();
    rig.run_until_idle();
    rig.append_untracked(20);
    rig.force();
    rig.perform_all();
    assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Nothing));
    assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Advanced));
    rig.power_cut(&mut LoseUnsynced);
    assert_eq!(rig.ids(), [1, 2]);
}

/// Record 2 stays unforced in the old segment, record 3 is forced in the new one: the old segment
/// is synced first, and only then the new one.
#[test]
fn the_old_segment_is_synced_before_the_new_one() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    rig.append_untracked(20);
    rig.compact();
    let ticket = rig.append(20);
    rig.force();
    let is_log_sync = |job: &&QueuedOp| matches!(job, QueuedOp::Sync { file: FileId::Wal(_), .. });
    let synced = |rig: &Rig| rig.queue.iter().filter(is_log_sync).cloned().collect::<Vec<_>>();
    assert!(matches!(synced(&rig)[..], [QueuedOp::Sync { file: FileId::Wal(1), .. }]));
    rig.perform_all();
    assert_eq!(rig.barriers(), 2);
    assert_eq!(rig.complete(1, Ok(())), Ok(Progress::Advanced));
    assert!(!rig.wal().is_durable(&ticket));
    assert!(matches!(synced(&rig)[..], [QueuedOp::Sync { file: FileId::Wal(2), .. }]));
    rig.run_until_idle();
    assert!(rig.wal().is_durable(&ticket));
    rig.power_cut(&mut LoseUnsynced);
    assert_eq!(rig.ids(), [1, 2, 3]);
}

/// The snapshot is synced long before the log's barrier completes: it is not renamed, and nothing
/// is removed.
#[test]
fn a_snapshot_waits_until_the_log_is_durable_up_to_the_switch() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    rig.append_untracked(20);
    rig.compact();
    rig.perform_all();
    assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Nothing));
    assert!(rig.queue.is_empty(), "the log is not durable yet");
    assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Advanced));
    assert_eq!(rig.queue[0], QueuedOp::Rename { from: FileId::Scratch, to: FileId::Snapshot(2) });
    rig.perform_all();
    assert_eq!(files(&rig), "wal.1 snapshot.1 snapshot.2");
    assert!(!rig.wal().needs_compaction());
    assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Compacted));
    rig.perform_all();
    assert_eq!(files(&rig), "snapshot.2");
}

/// A power cut at every step of a compaction, keeping nothing or all of what was not synced: every
/// durable record is there, exactly once, whether from the snapshot, from the log, or from both.
#[test]
fn compaction_can_be_interrupted_after_any_operation() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    rig.append_durably(20);
    rig.compact();
    rig.append_untracked(20);
    let mut overlaps = 0;
    loop {
        for policy in 0..3 {
            let mut cut = rig.clone();
            match policy {
                0 => cut.power_cut(&mut LoseUnsynced),
                1 => cut.power_cut(&mut KeepLengthsOnly),
                _ => cut.power_cut(&mut KeepUnsynced),
            }
            // Now records are in the snapshot and in the log; each must count once.
            overlaps +=
                usize::from(files(&cut).contains("wal.1") && files(&cut).contains("snapshot.2"));
            let ids = cut.ids();
            assert!(ids == [1, 2] || ids == [1, 2, 3], "{ids:?}");
            cut.start();
            assert_eq!(cut.state.ids, ids);
        }
        if rig.perform().is_none() {
            if rig.barriers() == 0 {
                break;
            }
            rig.complete(0, Ok(())).expect("fine");
        }
    }
    assert!(overlaps > 0, "no crash fell between the rename and the removals");
}

/// Once a barrier has failed the log emits nothing, returns the same error, and proves nothing
/// more.
#[test]
fn failed_log_stays_failed() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    rig.start();
    let recovered = rig.boot_tickets[0];
    assert_eq!(rig.wal().redeem(recovered).map(|proof| *proof), Ok(1));
    let ticket = rig.append(20);
    rig.force();
    rig.perform_all();
    rig.compact();
    rig.perform_all();
    assert_eq!(rig.complete(0, Err(DiskError::NoSpace)), Err(DiskError::NoSpace));
    // A later barrier that succeeds does not revive the log.
    assert_eq!(rig.complete(0, Ok(())), Err(DiskError::NoSpace));
    let late = rig.append(20);
    rig.force();
    rig.compact();
    assert!(rig.queue.is_empty());
    assert!(!rig.wal().ready());
    assert!(!rig.wal().needs_compaction());
    assert!(rig.wal().redeem(ticket).is_err());
    assert!(rig.wal().redeem(late).is_err());
    assert!(rig.wal().redeem(recovered).is_err());
}

/// An append is cut short for lack of space, and no later one is performed. The barrier reports it;
/// the next incarnation drops the partial record.
#[test]
fn short_write_is_reported_by_the_next_barrier() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    rig.append_untracked(20);
    rig.append_untracked(20);
    rig.force();
    // Less than the 32 bytes of a frame's header: of the record itself nothing is written.
    rig.fail_device(30);
    rig.perform_all();
    assert_eq!(rig.complete(0, Ok(())), Err(DiskError::NoSpace));
    rig.start();
    assert_eq!(rig.state.ids, [1]);
}

/// A segment needs compaction when it has grown, and only once.
#[test]
fn long_segment_needs_compaction() {
    let mut rig = Rig::started();
    assert!(!rig.wal().needs_compaction());
    // Above the 1,000 bytes at which this log is compacted.
    rig.append_durably(2000);
    assert!(rig.wal().needs_compaction());
    rig.compact();
    rig.append_untracked(2000);
    assert!(!rig.wal().needs_compaction());
    rig.run_until_idle();
    assert!(rig.wal().needs_compaction());
    assert_eq!(rig.wal().segment_number(), 2);
}

/// FileHeader and first record are two appends: a crash can happen between them, and coordinates
/// name the record.
#[test]
fn segment_head_is_a_separate_append() {
    let mut rig = Rig::started();
    rig.append_untracked(20);
    rig.append_untracked(20);
    let kinds = rig.queue.iter().map(|job| match job {
        QueuedOp::Append { kind, .. } => *kind,
        QueuedOp::Rename { .. }
        | QueuedOp::Remove { .. }
        | QueuedOp::Sync { .. }
        | QueuedOp::SyncDir { .. } => "other",
    });
    assert_eq!(kinds.collect::<Vec<_>>(), ["Header", "Record", "Record"]);
}
