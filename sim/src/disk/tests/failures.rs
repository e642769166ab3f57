//! D7, D8, D10, D11: failing disks.

use stormglass_node::{DiskOp, Effect, Node, Outbox};

use super::*;
use crate::disk::{Damage, DamageKind, FileRole};
use crate::ratio::Permille;

/// D7. A restart after a failed sync acts as a retry of the sync:
/// 1. a record is appended, its sync fails, the node halts;
/// 2. the process is started again, reads the record back, syncs "successfully";
/// 3. the power fails, and the record is lost.
#[test]
fn d7_a_sync_after_a_failed_sync_succeeds_and_writes_nothing() {
    let mut disk = Disk::with_durable_file(LOG, b"old.");
    disk.write(LOG, "Prepared", b"prepared.");
    disk.fail_sync(LOG);
    // A restart without a power cut, after which the page cache still shows the record.
    disk.kill(usize::MAX);
    assert_eq!(disk.text(LOG).as_deref(), Some("old.prepared."));
    disk.sync(OpId(1), LOG);
    assert_eq!(disk.complete(OpId(1), Ok(())), Ok(()));
    assert!(disk.is_durable(LOG, 4));
    assert!(!disk.is_durable(LOG, 5));
    let report = disk.clone().power_cut(&Survival::All);
    assert_eq!(report.failed_sync_bytes, 9);
    assert_eq!(disk.after_power_cut(&Survival::All).text(LOG).as_deref(), Some("old."));
}

/// D7. Bytes appended after the lost bytes, and synced, are durable at their place, after a hole
/// (D3).
#[test]
fn d7_bytes_synced_after_lost_bytes_follow_a_hole() {
    let mut disk = Disk::with_durable_file(LOG, b"old.");
    disk.write(LOG, "Lost", b"lost.");
    disk.fail_sync(LOG);
    disk.write(LOG, "New", b"new.");
    disk.sync_now(LOG);
    assert_eq!(disk.text(LOG).as_deref(), Some("old.lost.new."));
    assert!(!disk.is_durable(LOG, 13));
    let report = disk.power_cut(&Survival::None);
    assert_eq!(report.holes_with_zeros, 1);
    assert_eq!(disk.text(LOG).as_deref(), Some("old.\0\0\0\0\0new."));
}

/// D7. Bytes that a failed sync did not cover are still dirty, and the next sync writes them.
#[test]
fn d7_a_failed_sync_loses_only_the_operations_it_covers() {
    let mut disk = Disk::with_durable_file(LOG, b"old.");
    disk.write(OTHER, "Other", b"other.");
    disk.fail_sync(LOG);
    disk.sync_now(OTHER);
    disk.sync_dir_now();
    assert!(disk.is_durable(OTHER, 6));
}

/// D7, for truncations: truncated, sync failed, sync succeeded, power cut; the tail exists again.
#[test]
fn d7_a_failed_sync_loses_truncations() {
    let mut disk = Disk::with_durable_file(LOG, b"head and tail");
    disk.truncate(LOG, 4);
    disk.fail_sync(LOG);
    disk.sync_now(LOG);
    assert_eq!(disk.len(LOG), Some(4));
    assert_eq!(disk.after_power_cut(&Survival::All).text(LOG).as_deref(), Some("head and tail"));
}

/// D7, for names: a `SyncDir` fails, the next one reports success, and the rename is still lost.
#[test]
fn d7_a_failed_sync_dir_loses_name_changes() {
    let mut disk = Disk::with_durable_file(SCRATCH, b"state");
    disk.rename(SCRATCH, SNAPSHOT);
    disk.sync_dir(OpId(1));
    assert_eq!(disk.complete(OpId(1), Err(DiskError::Io)), Err(DiskError::Io));
    disk.kill(usize::MAX);
    disk.sync_dir_now();
    assert_eq!(disk.text(SNAPSHOT).as_deref(), Some("state"));
    assert!(!disk.name_is_durable(SNAPSHOT));
    assert_eq!(contents(&disk.after_power_cut(&Survival::All)), [(SCRATCH, b"state".to_vec())]);
}

/// D7 and D5: a rename is lost by a failed `SyncDir`; then another file takes the old name,
/// durably. The first file is not lost between its names.
#[test]
fn d7_a_durable_create_makes_the_rename_that_freed_its_name_durable() {
    let mut disk = Disk::with_durable_file(SCRATCH, b"first");
    disk.rename(SCRATCH, SNAPSHOT);
    disk.sync_dir(OpId(1));
    disk.complete(OpId(1), Err(DiskError::Io)).expect_err("it fails");
    disk.write(SCRATCH, "State", b"second");
    disk.sync_now(SCRATCH);
    disk.sync_dir_now();
    let both = [(SNAPSHOT, b"first".to_vec()), (SCRATCH, b"second".to_vec())];
    assert_eq!(contents(&disk.after_power_cut(&Survival::None)), both);
}

/// D7 and D5: a rename is lost by a failed `SyncDir`, and reverted by a durable one; then the file
/// is replaced. The lost rename has no effect any more: the file is removed.
#[test]
fn d7_a_lost_rename_that_was_reverted_durably_does_not_reappear() {
    let mut disk = Disk::with_durable_file(SNAPSHOT, b"first");
    disk.rename(SNAPSHOT, OTHER);
    disk.sync_dir(OpId(1));
    disk.complete(OpId(1), Err(DiskError::Io)).expect_err("it fails");
    disk.rename(OTHER, SNAPSHOT);
    disk.sync_dir_now();
    disk.write(SCRATCH, "State", b"second");
    disk.sync_now(SCRATCH);
    disk.rename(SCRATCH, SNAPSHOT);
    disk.sync_dir_now();
    assert_eq!(contents(&disk.after_power_cut(&Survival::None)), [(SNAPSHOT, b"second".to_vec())]);
}

/// D8. The third append finds no room: a prefix of it remains, later operations are not performed,
/// barriers fail, pending ones too. The next incarnation finds a disk that works, and everything
/// that had been appended.
#[test]
fn d8_the_first_failed_write_is_final() {
    let mut disk = Disk::with_durable_file(LOG, b"old.");
    disk.write(LOG, "First", b"first.");
    disk.sync(OpId(1), LOG);
    let (op, bytes) = append(LOG, b"second.");
    disk.issue_failing(&op, &bytes, 3, DiskError::NoSpace);
    // A second failure, with another error: barriers report the first.
    disk.issue_failing(&op, &bytes, 3, DiskError::Io);
    assert_eq!(disk.first_failure(), Some(DiskError::NoSpace));
    let (op, bytes) = append(LOG, b"third.");
    disk.issue(&op, &bytes);
    disk.issue(&DiskOp::Rename { from: LOG, to: OTHER }, &[]);
    disk.issue(&DiskOp::Remove { file: LOG }, &[]);
    disk.issue(&DiskOp::Truncate { file: LOG, len: 0 }, &[]);
    disk.issue(&DiskOp::SyncDir { op: OpId(2) }, &[]);
    // This barrier was issued before the failure and fails all the same.
    assert_eq!(disk.complete(OpId(1), Ok(())), Err(DiskError::NoSpace));
    assert_eq!(disk.complete_lying(OpId(2)), Err(DiskError::NoSpace));
    assert_eq!(disk.text(LOG).as_deref(), Some("old.first.sec"));
    assert_eq!(disk.after_power_cut(&Survival::None).text(LOG).as_deref(), Some("old."));
    disk.kill(usize::MAX);
    assert_eq!(disk.first_failure(), None);
    disk.sync_now(LOG);
    assert_eq!(disk.after_power_cut(&Survival::None).text(LOG).as_deref(), Some("old.first.sec"));
}

/// D8. A failed append of which nothing was written does not even create its file.
#[test]
fn d8_a_failed_first_append_leaves_no_file() {
    let mut disk = Disk::default();
    let (op, bytes) = append(LOG, b"new");
    disk.issue_failing(&op, &bytes, 0, DiskError::Io);
    assert_eq!(contents(&disk), []);
}

/// D10. Each kind of damage is visible to readers, survives crashes, and is recorded with its place
/// until the file is removed.
#[test]
fn d10_damage_is_readable_and_recorded_until_the_file_is_removed() {
    let kinds = [
        DamageKind::FlippedBit(3),
        DamageKind::ZeroedSector,
        DamageKind::WrongPlace { meant: Permille::ZERO },
        DamageKind::NeverWritten,
    ];
    for kind in kinds {
        // No two sectors are alike and no byte is 0: otherwise a misplaced or zeroed sector would
        // change nothing.
        let sectors: Vec<u8> = (0..1500_u32).map(|at| 1 + (at / 512) as u8).collect();
        let mut disk = Disk::with_durable_file(LOG, &sectors);
        let damage = Damage { role: FileRole::Wal, nth_newest: 0, at: permille(500), kind };
        let record = disk.damage(&damage).expect("there is something to damage");
        for disk in [disk.clone(), disk.after_power_cut(&Survival::None)] {
            let read = disk.bytes(LOG).expect("it exists");
            let changed: Vec<u64> =
                (0..1500).filter(|at| read[*at as usize] != sectors[*at as usize]).collect();
            assert_eq!(changed.first(), Some(&record.bytes.start), "{kind:?}");
            assert_eq!(changed.last().map(|last| last + 1), Some(record.bytes.end), "{kind:?}");
            assert_eq!(disk.damage_records().collect::<Vec<_>>(), std::slice::from_ref(&record));
        }
        disk.remove(LOG);
        disk.sync_dir_now();
        assert_eq!(disk.damage_records().count(), 0);
    }
}

/// D10. Damage is detectable below the highest surviving watermark: only a record that was appended
/// when the damaged bytes were durable distinguishes them from a torn tail.
#[test]
fn d10_damage_in_the_last_synced_group_is_recorded_as_undetectable() {
    let mut disk = Disk::with_durable_file(LOG, b"first");
    let damage = Damage {
        role: FileRole::Wal,
        nth_newest: 0,
        at: Permille::ZERO,
        kind: DamageKind::FlippedBit(0),
    };
    assert!(!disk.clone().damage(&damage).expect("damaged").detectable);
    disk.write(LOG, "New", b"second");
    assert!(!disk.clone().damage(&damage).expect("damaged").detectable);
    disk.sync_now(LOG);
    assert!(disk.clone().damage(&damage).expect("damaged").detectable);
    // In the second record, after which nothing is durable.
    let last = Damage { at: Permille::ALL, ..damage };
    assert!(!disk.damage(&last).expect("damaged").detectable);
}

/// D11. The drive lies: it reports success, and nothing is durable. Checkers see the difference.
#[test]
fn d11_a_lying_drive_reports_success_and_does_nothing() {
    let mut disk = Disk::with_durable_file(LOG, b"old.");
    disk.write(LOG, "New", b"new.");
    disk.sync(OpId(1), LOG);
    assert_eq!(disk.complete_lying(OpId(1)), Ok(()));
    assert!(!disk.is_durable(LOG, 5));
    assert_eq!(disk.after_power_cut(&Survival::None).text(LOG).as_deref(), Some("old."));
    disk.sync_now(LOG);
    assert!(disk.is_durable(LOG, 8), "a later successful sync makes the data durable");
}

fn append(file: FileId, bytes: &[u8]) -> (DiskOp, Vec<u8>) {
    let mut outbox = Outbox::<NoopNode>::default();
    outbox.append(file, about("New"), bytes);
    let Effect::Disk(op) = &outbox.effects()[0] else {
        unreachable!("an append is a disk operation")
    };
    (*op, bytes.to_vec())
}

/// A placeholder for the type of an outbox.
#[derive(Clone, Debug)]
struct NoopNode;

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct NoPayload;

impl stormglass_node::Label for NoPayload {
    fn kind(&self) -> &'static str {
        "Nothing"
    }
    fn subject(&self) -> Option<stormglass_node::Subject> {
        None
    }
}

impl Node for NoopNode {
    type Config = ();
    type Message = NoPayload;
    type Request = NoPayload;
    type Response = NoPayload;
    type Event = NoPayload;

    fn boot(
        _: &(),
        _: stormglass_node::Boot<'_>,
        _: &mut Outbox<Self>,
    ) -> Result<Self, stormglass_node::BootError> {
        Ok(NoopNode)
    }
    fn step(
        &mut self,
        _: stormglass_node::Time,
        _: stormglass_node::Input<Self>,
        _: &mut Outbox<Self>,
    ) {
    }
    fn deadline(&self) -> Option<stormglass_node::Time> {
        None
    }
}
