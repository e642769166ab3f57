//! How an incarnation begins: nothing that was read is durable until it has been written again.

use super::disk::{KeepLengthsOnly, KeepUnsynced, LoseUnsynced};
use super::rig::{QueuedOp, Rig, files};
use super::{Rng, State};
use crate::contract::{BootError, DiskError, FileId};
use crate::wal::Progress;

fn queued_ops(rig: &Rig) -> Vec<String> {
    let mut described = Vec::new();
    for job in &rig.queue {
        described.push(match job {
            QueuedOp::Append { file, kind, .. } => format!("append {file} {kind}"),
            QueuedOp::Rename { from, to } => format!("rename {from} {to}"),
            QueuedOp::Remove { file } => format!("remove {file}"),
            QueuedOp::Sync { file, .. } => format!("sync {file}"),
            QueuedOp::SyncDir { .. } => "syncdir".to_owned(),
        });
    }
    described
}

/// The first incarnation writes a snapshot, too: otherwise a kill and a power cut could remove
/// every trace of an incarnation that had become ready.
#[test]
fn first_incarnation_writes_a_snapshot() {
    let mut rig = Rig::new();
    rig.boot().expect("an empty disk is fine");
    assert_eq!(queued_ops(&rig), ["append scratch Snapshot", "sync scratch"]);
    rig.perform_all();
    assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Nothing));
    assert_eq!(queued_ops(&rig), ["rename scratch snapshot.1", "syncdir"]);
    rig.perform_all();
    assert!(!rig.wal().ready());
    assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Ready));
    rig.power_cut(&mut LoseUnsynced);
    let recovered = rig.recover().expect("fine");
    assert_eq!(recovered.snapshot, Some(State { incarnation: 1, ids: Vec::new() }));
    assert_eq!(recovered.resume_point.position(), 0);
}

/// A snapshot gets its name after its contents are durable. Before that, a power cut that keeps
/// every name and no data must find the old state.
#[test]
fn snapshot_is_renamed_only_after_its_sync() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    rig.boot().expect("fine");
    rig.perform_all();
    assert_eq!(files(&rig), "wal.1 snapshot.1 scratch");
    rig.power_cut(&mut KeepLengthsOnly);
    assert_eq!(rig.ids(), [1]);
    rig.boot().expect("fine");
    assert_eq!(queued_ops(&rig)[0], "remove scratch");
}

/// Old files are removed after the new name is durable: until then, a power cut that loses every
/// unsynced name must find the old state.
#[test]
fn old_files_are_removed_after_the_directory_is_synced() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    rig.boot().expect("fine");
    rig.perform_all();
    rig.complete(0, Ok(())).expect("fine");
    rig.perform_all();
    assert_eq!(files(&rig), "wal.1 snapshot.1 snapshot.2");
    let mut cut = rig.clone();
    cut.power_cut(&mut LoseUnsynced);
    assert_eq!(files(&cut), "wal.1 snapshot.1");
    assert_eq!(cut.ids(), [1]);
    rig.complete(0, Ok(())).expect("fine");
    assert_eq!(queued_ops(&rig), ["remove wal.1", "remove snapshot.1"]);
}

/// 1. Record 1 is appended and never forced.
/// 2. The process is killed; the page cache keeps the record.
/// 3. The next incarnation reads it; until its boot snapshot is durable, there is no proof of
///    durability.
/// 4. The power cut removes it.
#[test]
fn record_read_back_at_boot_is_not_durable_until_the_boot_barrier() {
    let mut rig = Rig::started();
    rig.append_untracked(20);
    rig.perform_all();
    rig.boot().expect("fine");
    assert_eq!(rig.state.ids, [1]);
    let ticket = rig.boot_tickets[0];
    assert_eq!(rig.wal().redeem(ticket), Err(ticket));
    let mut cut = rig.clone();
    rig.run_until_idle();
    assert_eq!(rig.wal().redeem(ticket).map(|proof| *proof), Ok(1));
    rig.power_cut(&mut LoseUnsynced);
    assert_eq!(rig.ids(), [1]);
    cut.perform_all();
    cut.power_cut(&mut LoseUnsynced);
    assert_eq!(cut.ids(), [0; 0]);
}

/// 1. The sync of record 1 fails; its pages count as clean from now on, and are readable.
/// 2. The node halts and boots without a power cut, reads record 1 back, and becomes ready.
/// 3. The power cut. An incarnation that had only synced the old file again would have lost the
///    record here; that is why it is written again.
#[test]
fn a_restart_does_not_retry_a_failed_sync() {
    let mut rig = Rig::started();
    rig.append_untracked(20);
    rig.force();
    rig.perform_all();
    while rig.barriers() > 0 {
        assert_eq!(rig.complete(0, Err(DiskError::Io)), Err(DiskError::Io));
    }
    rig.start();
    assert_eq!(rig.state.ids, [1]);
    rig.power_cut(&mut LoseUnsynced);
    assert_eq!(rig.ids(), [1]);
}

/// The same for the directory: the boot's rename is visible, its sync has failed, and no later sync
/// repeats it.
#[test]
fn a_restart_does_not_trust_a_name_whose_sync_failed() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    rig.boot().expect("fine");
    rig.perform_all();
    rig.complete(0, Ok(())).expect("the contents are synced");
    rig.perform_all();
    assert_eq!(rig.complete(0, Err(DiskError::Io)), Err(DiskError::Io));
    rig.start();
    assert_eq!(files(&rig), "snapshot.3");
    rig.power_cut(&mut LoseUnsynced);
    assert_eq!(rig.ids(), [1]);
}

/// Appends of an incarnation that is not ready are deferred: if they were written and the snapshot
/// lost, the log would hold records of an incarnation without a snapshot.
#[test]
fn no_record_is_written_before_the_log_is_ready() {
    let mut rig = Rig::started();
    rig.boot().expect("fine");
    let ticket = rig.append(20);
    rig.force();
    assert!(queued_ops(&rig).iter().all(|kind| !kind.contains("wal")));
    rig.perform_all();
    rig.complete(0, Ok(())).expect("fine");
    rig.perform_all();
    assert_eq!(rig.complete(0, Ok(())), Ok(Progress::Ready));
    assert!(!rig.wal().is_durable(&ticket));
    let expected = [
        "remove snapshot.1",
        "append wal.2 Header",
        "append wal.2 Record",
        "sync wal.2",
        "syncdir",
    ];
    assert_eq!(queued_ops(&rig), expected);
    rig.run_until_idle();
    assert!(rig.wal().is_durable(&ticket));
    rig.power_cut(&mut LoseUnsynced);
    assert_eq!(rig.ids(), [1]);
}

/// An interrupted compaction leaves a segment above its snapshot: the next incarnation uses a
/// number above both, so that no number stands for two files.
#[test]
fn new_incarnation_uses_a_number_above_every_existing_file() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    rig.compact();
    rig.append_untracked(20);
    rig.flush_and_power_cut();
    assert_eq!(files(&rig), "wal.1 wal.2 snapshot.1 scratch");
    rig.start();
    assert_eq!(files(&rig), "snapshot.3");
    assert_eq!(rig.state.ids, [1, 2]);
}

/// A crash after every single operation of a boot, kill or power cut of any kind, and again in the
/// next boot: recovering twice gives what recovering once gives.
#[test]
fn boot_can_be_interrupted_after_any_operation() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    rig.compact();
    rig.append_durably(900);
    rig.append_untracked(20);
    rig.compact();
    rig.perform_all();
    // Three boots, each interrupted after up to 30 actions in one of three ways.
    for seed in 0..2000 {
        let mut rng = Rng(seed);
        let mut rig = rig.clone();
        rig.run_until_idle();
        for _ in 0..3 {
            rig.boot().expect("nothing is damaged");
            for _ in 0..rng.below(30) {
                if rig.perform().is_none() && rig.barriers() > 0 {
                    rig.complete(0, Ok(())).expect("fine");
                }
            }
            match rng.below(3) {
                0 => rig.kill(),
                1 => rig.power_cut(&mut LoseUnsynced),
                _ => rig.power_cut(&mut rng),
            }
            assert_eq!(rig.ids(), [1, 2, 3]);
        }
    }
}

/// A snapshot without a log, and a log with a header and no record: nothing is missing.
#[test]
fn idle_incarnation_leaves_no_records() {
    let mut rig = Rig::started();
    assert_eq!(files(&rig), "snapshot.1");
    rig.append_untracked(20);
    rig.perform();
    rig.power_cut(&mut KeepUnsynced);
    assert_eq!(files(&rig), "wal.1 snapshot.1");
    assert_eq!(rig.ids(), [0; 0]);
    assert_eq!(rig.recover().expect("fine").torn, None);
}

/// The newest snapshot was durable under its name, so damage to it is damage, even with an older
/// one beside it.
#[test]
fn boot_fails_on_a_damaged_snapshot() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    rig.boot().expect("fine");
    rig.perform_all();
    rig.complete(0, Ok(())).expect("fine");
    rig.perform_all();
    assert_eq!(files(&rig), "wal.1 snapshot.1 snapshot.2");
    let length = rig.disk.bytes(FileId::Snapshot(2)).len();
    for bit in 0..length * 8 {
        let mut rig = rig.clone();
        rig.disk.edit(FileId::Snapshot(2), |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let Err(BootError::Damaged { file, .. }) = rig.boot() else {
            panic!("bit {bit} is not covered")
        };
        assert_eq!(file, FileId::Snapshot(2));
    }
    for kept in 0..length {
        let mut rig = rig.clone();
        rig.disk.edit(FileId::Snapshot(2), |bytes| bytes.truncate(kept));
        assert!(matches!(rig.boot(), Err(BootError::Damaged { .. })));
    }
}

/// An incarnation that wrote to its segment had a durable snapshot. If that is missing, the log of
/// the incarnation before looks complete, and continuing from it would lose the newer incarnation.
#[test]
fn boot_fails_on_a_missing_snapshot() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    let mut older = rig.clone();
    older.disk.delete_silently(FileId::Snapshot(1));
    assert!(matches!(older.boot(), Err(BootError::Damaged { file: FileId::Snapshot(1), .. })));
    rig.boot().expect("fine");
    rig.perform_all();
    rig.complete(0, Ok(())).expect("fine");
    rig.perform_all();
    rig.complete(0, Ok(())).expect("ready");
    // The removals do not happen: the old files are there when the new snapshot is lost.
    rig.queue.clear();
    rig.append_untracked(20);
    rig.perform_all();
    assert_eq!(files(&rig), "wal.1 wal.2 snapshot.1 snapshot.2");
    rig.disk.delete_silently(FileId::Snapshot(2));
    assert!(matches!(rig.boot(), Err(BootError::Damaged { file: FileId::Snapshot(2), .. })));
}

/// A state of twenty million small numbers takes a byte for each on the disk, and four when it is
/// read: the next incarnation must be able to read every state that was written.
#[test]
fn a_large_state_can_be_read_back() {
    let mut rig = Rig::new();
    // 20 MB in pieces of 64 bytes would be 300,000 appends.
    rig.options().chunk_bytes_max = 1 << 20;
    rig.boot().expect("fine");
    rig.run_until_idle();
    rig.state.ids = vec![1; 20_000_000];
    rig.compact();
    rig.run_until_idle();
    assert_eq!(rig.ids().len(), 20_000_000);
}
