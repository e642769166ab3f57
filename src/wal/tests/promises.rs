//! What may be believed, and when: proofs, barriers, and the silence after a failure.

use super::disk::{Everything, Nothing};
use super::rig::{Job, Rig, files};
use crate::contract::{DiskError, FileId};
use crate::wal::Progress;

const FAILED: Result<(), DiskError> = Err(DiskError::Io);

/// A record is appended and forced, and the disk performs all of it. Of the first barrier's halves, data and name,
/// either comes first. Only the second makes the proof.
#[test]
fn only_a_whole_barrier_proves() {
    for first in [0, 1] {
        let mut rig = Rig::started();
        let ticket = rig.append(10);
        assert_eq!(rig.wal().redeem(ticket), Err(ticket));
        rig.force();
        rig.perform_all();
        assert_eq!(rig.barriers(), 2);
        assert_eq!(rig.complete(first, Ok(())), Ok(Progress::Nothing));
        assert_eq!(rig.wal().redeem(ticket), Err(ticket));
        assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Advanced));
        assert!(rig.wal().redeem(ticket).is_ok_and(|proof| *proof == 1));
        rig.power_cut(&mut Nothing);
        assert_eq!(rig.ids(), [1]);
    }
}

/// A barrier promises what was appended before it was issued, not what came while it was under way.
#[test]
fn a_barrier_proves_nothing_that_came_after_it() {
    let mut rig = Rig::started();
    rig.keep(10);
    let covered = rig.append(10);
    rig.force();
    rig.perform_all();
    let late = rig.append(10);
    rig.perform_all();
    assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Advanced));
    assert!(rig.wal().is_durable(&covered));
    assert!(!rig.wal().is_durable(&late));
    rig.power_cut(&mut Nothing);
    assert_eq!(rig.ids(), [1, 2]);
}

/// The slower the disk, the larger the group: a hundred forces during one barrier make one more.
#[test]
fn forces_during_a_barrier_share_the_next() {
    let mut rig = Rig::started();
    rig.keep(10);
    let before = rig.wal().stats().log_barriers;
    for _ in 0..100 {
        let _shared = rig.append(10);
        rig.force();
    }
    rig.settle();
    assert_eq!(rig.wal().stats().log_barriers, before + 2);
    assert_eq!(rig.wal().durable(), 101);
}

/// Only a segment's first barrier syncs the directory: its name is durable from then on.
#[test]
fn a_name_is_synced_once() {
    let mut rig = Rig::started();
    rig.keep(10);
    let _ticket = rig.append(10);
    rig.force();
    let wal = FileId::Wal(1);
    let jobs = std::mem::take(&mut rig.queue);
    assert!(matches!(jobs[0], Job::Append { file, kind: "Record", .. } if file == wal));
    assert!(matches!(jobs[1], Job::Sync { file, .. } if file == wal));
    assert_eq!(jobs.len(), 2);
}

/// What is appended before the boot barrier is held back: the log it would go to has no ground yet.
#[test]
fn nothing_is_logged_before_the_boot_barrier() {
    let mut rig = Rig::new();
    rig.boot().expect("an empty disk is fine");
    let ticket = rig.append(10);
    let read_back = rig.wal().recovered(());
    rig.force();
    while !rig.wal().ready() {
        assert!(!rig.wal().is_durable(&read_back));
        assert!(!files(&rig).contains("wal"));
        if rig.perform().is_none() {
            rig.complete(0, Ok(())).expect("no barrier has failed");
        }
    }
    assert!(rig.wal().is_durable(&read_back));
    assert!(!rig.wal().is_durable(&ticket));
    rig.settle();
    assert!(rig.wal().is_durable(&ticket));
    rig.power_cut(&mut Nothing);
    assert_eq!(rig.ids(), [1]);
}

/// After a failure the log tells the same error for ever, writes nothing and proves nothing, not even what was
/// durable before.
#[test]
fn a_failed_log_is_silent() {
    let mut rig = Rig::started();
    rig.keep(10);
    let ticket = rig.append(10);
    rig.force();
    rig.perform_all();
    assert_eq!(rig.complete(0, FAILED), Err(DiskError::Io));
    let late = rig.append(10);
    rig.force();
    rig.compact();
    assert!(rig.queue.is_empty());
    assert!(!rig.wal().ready());
    assert!(!rig.wal().wants_compaction());
    assert!(rig.wal().redeem(ticket).is_err());
    assert!(rig.wal().redeem(late).is_err());
}

/// Restart is a retry.
/// 1. A record is appended, its sync fails, and the node halts. The page cache still shows the record.
/// 2. The node is started again without a power cut, reads the record back, and is ready.
/// 3. The power fails. A life that had synced the same file again would have lost the record now.
#[test]
fn what_a_life_read_back_is_its_own_to_keep() {
    let mut rig = Rig::started();
    rig.keep(10);
    let _lost = rig.append(10);
    rig.force();
    rig.perform_all();
    assert_eq!(rig.complete(0, FAILED), Err(DiskError::Io));
    rig.start();
    rig.power_cut(&mut Nothing);
    assert_eq!(rig.ids(), [1, 2]);
}

/// A segment is left before all of it is durable. The new segment's records wait for the rest of the old one, whose
/// barrier comes first.
#[test]
fn a_new_segment_does_not_overtake_the_old_one() {
    let mut rig = Rig::started();
    rig.keep(10);
    let old = rig.append(10);
    rig.compact();
    let new = rig.append(10);
    rig.force();
    rig.perform_all();
    while !rig.wal().is_durable(&new) {
        assert!(rig.barriers() > 0, "somebody waits for ever");
        rig.complete(rig.barriers() - 1, Ok(())).expect("no barrier has failed");
        rig.perform_all();
        assert!(rig.wal().is_durable(&old) || !rig.wal().is_durable(&new));
    }
    rig.power_cut(&mut Nothing);
    assert_eq!(rig.ids(), [1, 2, 3]);
}

/// Write, sync, rename, sync the directory, and only then drop the old files.
#[test]
fn a_snapshot_is_durable_before_anything_goes() {
    let mut rig = Rig::started();
    rig.keep(10);
    rig.compact();
    rig.perform_all();
    assert_eq!(files(&rig), "wal.1 snapshot.1 scratch");
    assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Nothing));
    rig.perform_all();
    assert_eq!(files(&rig), "wal.1 snapshot.1 snapshot.2");
    assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Compacted));
    rig.perform_all();
    assert_eq!(files(&rig), "snapshot.2");
    rig.power_cut(&mut Everything);
    assert_eq!(rig.ids(), [1]);
}

/// A snapshot's position is a watermark, so it gets its name only when the log is durable so far.
#[test]
fn a_snapshot_waits_for_the_log() {
    let mut rig = Rig::started();
    rig.keep(10);
    let _ticket = rig.append(10);
    rig.compact();
    rig.perform_all();
    assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Nothing));
    assert!(rig.queue.is_empty(), "the snapshot is synced, the record it covers is not");
    assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Advanced));
    assert!(matches!(rig.queue[0], Job::Rename { to: FileId::Snapshot(2), .. }));
}
