//! What is durable when: group commit, segments, compaction, and a disk that fails.

use super::disk::{Everything, Hollow, Nothing};
use super::rig::{Job, Rig, files};
use crate::contract::{DiskError, FileId};
use crate::wal::Progress;

fn syncs(rig: &Rig) -> usize {
    rig.queue.iter().filter(|job| matches!(job, Job::Sync { .. })).count()
}

/// Three records are forced while the first one's barrier is under way: they share the next, which is issued as
/// soon as the first completes.
#[test]
fn what_is_forced_meanwhile_shares_the_next_barrier() {
    let mut rig = Rig::started();
    rig.keep(20);
    let first = rig.append(20);
    rig.force();
    rig.perform_all();
    let others = [20, 20, 20].map(|len| {
        let ticket = rig.append(len);
        rig.force();
        ticket
    });
    assert_eq!(syncs(&rig), 0);
    assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Advanced));
    assert!(rig.wal().is_durable(&first));
    assert!(others.iter().all(|ticket| !rig.wal().is_durable(ticket)));
    assert_eq!(syncs(&rig), 1);
    rig.settle();
    assert!(others.iter().all(|ticket| rig.wal().is_durable(ticket)));
    assert_eq!(rig.wal().stats().log_barriers, 3);
}

/// A record that nobody forces causes no barrier, neither at once nor when another completes, but any barrier
/// issued after it covers it.
#[test]
fn an_unforced_record_only_rides_along() {
    let mut rig = Rig::started();
    rig.keep(20);
    let forced = rig.append(20);
    rig.force();
    let late = rig.append(20);
    rig.settle();
    assert!(rig.wal().is_durable(&forced));
    assert!(!rig.wal().is_durable(&late));
    assert_eq!(rig.wal().stats().log_barriers, 2);
    rig.keep(20);
    assert!(rig.wal().is_durable(&late));
    rig.force();
    assert_eq!(syncs(&rig), 0, "there is nothing to force");
}

/// A record is forced while a barrier is under way, and an unforced one follows it: the next barrier takes both.
#[test]
fn a_barrier_covers_all_that_was_appended_before_it() {
    let mut rig = Rig::started();
    rig.jot(20);
    rig.force();
    rig.jot(20);
    rig.force();
    let end = rig.append(20);
    rig.settle();
    assert!(rig.wal().is_durable(&end));
    assert_eq!(rig.wal().stats().log_barriers, 2);
}

/// A new segment's data are synced and its name is not: the power cut may take the whole file, so nothing in it is
/// durable yet. In either order.
#[test]
fn a_new_segment_needs_its_name_to_be_durable() {
    for first in [0, 1] {
        let mut rig = Rig::started();
        let ticket = rig.append(20);
        rig.force();
        rig.perform_all();
        assert_eq!(rig.complete(first, Ok(())), Ok(Progress::Nothing));
        assert!(!rig.wal().is_durable(&ticket));
        let mut cut = rig.clone();
        cut.power_cut(&mut Nothing);
        assert_eq!(cut.ids(), [0; 0]);
        assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Advanced));
        assert!(rig.wal().is_durable(&ticket));
        rig.power_cut(&mut Nothing);
        assert_eq!(rig.ids(), [1]);
    }
}

/// The same after a compaction's switch.
#[test]
fn a_compaction_s_segment_needs_its_name_to_be_durable() {
    let mut rig = Rig::started();
    rig.keep(20);
    rig.compact();
    rig.settle();
    rig.jot(20);
    rig.force();
    rig.perform_all();
    assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Nothing));
    assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Advanced));
    rig.power_cut(&mut Nothing);
    assert_eq!(rig.ids(), [1, 2]);
}

/// Record 2 is left unforced in the old segment, record 3 is forced in the new one: the old segment is synced
/// first, and only then the new one.
#[test]
fn the_old_segment_is_synced_before_the_new_one() {
    let mut rig = Rig::started();
    rig.keep(20);
    rig.jot(20);
    rig.compact();
    let ticket = rig.append(20);
    rig.force();
    let is_log_sync = |job: &&Job| matches!(job, Job::Sync { file: FileId::Wal(_), .. });
    let synced = |rig: &Rig| rig.queue.iter().filter(is_log_sync).cloned().collect::<Vec<_>>();
    assert!(matches!(synced(&rig)[..], [Job::Sync { file: FileId::Wal(1), .. }]));
    rig.perform_all();
    assert_eq!(rig.barriers(), 2);
    assert_eq!(rig.complete(1, Ok(())), Ok(Progress::Advanced));
    assert!(!rig.wal().is_durable(&ticket));
    assert!(matches!(synced(&rig)[..], [Job::Sync { file: FileId::Wal(2), .. }]));
    rig.settle();
    assert!(rig.wal().is_durable(&ticket));
    rig.power_cut(&mut Nothing);
    assert_eq!(rig.ids(), [1, 2, 3]);
}

/// The snapshot is synced long before the log's barrier completes: it waits for its name, and nothing is removed.
#[test]
fn a_snapshot_waits_until_the_log_is_durable_up_to_the_switch() {
    let mut rig = Rig::started();
    rig.keep(20);
    rig.jot(20);
    rig.compact();
    rig.perform_all();
    assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Nothing));
    assert!(rig.queue.is_empty(), "the log is not durable yet");
    assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Advanced));
    assert_eq!(rig.queue[0], Job::Rename { from: FileId::Scratch, to: FileId::Snapshot(2) });
    rig.perform_all();
    assert_eq!(files(&rig), "wal.1 snapshot.1 snapshot.2");
    assert!(!rig.wal().wants_compaction());
    assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Compacted));
    rig.perform_all();
    assert_eq!(files(&rig), "snapshot.2");
}

/// A power cut at every step of a compaction, keeping nothing or all of what was not synced: every record that was
/// durable is there, exactly once, whether from the snapshot, from the log, or from both.
#[test]
fn a_compaction_can_be_cut_short_anywhere() {
    let mut rig = Rig::started();
    rig.keep(20);
    rig.keep(20);
    rig.compact();
    rig.jot(20);
    let mut overlaps = 0;
    loop {
        for fate in 0..3 {
            let mut cut = rig.clone();
            match fate {
                0 => cut.power_cut(&mut Nothing),
                1 => cut.power_cut(&mut Hollow),
                _ => cut.power_cut(&mut Everything),
            }
            overlaps += usize::from(files(&cut).contains("wal.1") && files(&cut).contains("snapshot.2"));
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

/// Once a barrier has failed the log is silent, says the same for ever, and proves nothing more.
#[test]
fn a_failure_is_for_good() {
    let mut rig = Rig::started();
    rig.keep(20);
    let ticket = rig.append(20);
    rig.force();
    rig.perform_all();
    rig.compact();
    rig.perform_all();
    assert_eq!(rig.complete(0, Err(DiskError::NoSpace)), Err(DiskError::NoSpace));
    assert_eq!(rig.complete(0, Ok(())), Err(DiskError::NoSpace));
    let late = rig.append(20);
    rig.force();
    rig.compact();
    assert!(rig.queue.is_empty());
    assert!(!rig.wal().ready());
    assert!(!rig.wal().wants_compaction());
    assert!(rig.wal().redeem(ticket).is_err());
    assert!(rig.wal().redeem(late).is_err());
    assert!(rig.wal().redeem(rig.wal().recovered(0)).is_err());
}

/// An append is cut short for want of space, and all later ones are not performed. The barrier says so; the next
/// life forgets the stump.
#[test]
fn a_short_write_shows_at_the_barrier() {
    let mut rig = Rig::started();
    rig.keep(20);
    rig.jot(20);
    rig.jot(20);
    rig.force();
    rig.latch(30);
    rig.perform_all();
    assert_eq!(rig.complete(0, Ok(())), Err(DiskError::NoSpace));
    rig.start();
    assert_eq!(rig.state.ids, [1]);
}

/// A segment wants compaction when it has grown, and not twice.
#[test]
fn a_long_segment_wants_compaction() {
    let mut rig = Rig::started();
    assert!(!rig.wal().wants_compaction());
    rig.keep(2000);
    assert!(rig.wal().wants_compaction());
    rig.compact();
    rig.jot(2000);
    assert!(!rig.wal().wants_compaction());
    rig.settle();
    assert!(rig.wal().wants_compaction());
    assert_eq!(rig.wal().segment_number(), 2);
}

/// Head and first record are two appends: a crash can fall between them, and coordinates name the record.
#[test]
fn the_head_is_an_append_of_its_own() {
    let mut rig = Rig::started();
    rig.jot(20);
    rig.jot(20);
    let kinds = rig.queue.iter().map(|job| match job {
        Job::Append { kind, .. } => *kind,
        Job::Rename { .. } | Job::Remove { .. } | Job::Sync { .. } | Job::SyncDir { .. } => "other",
    });
    assert_eq!(kinds.collect::<Vec<_>>(), ["Header", "Record", "Record"]);
}
