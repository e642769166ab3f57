//! D5, D6: names, and files that come back.

use super::*;
use crate::disk::NameLoss;

/// A snapshot before its `SyncDir`: written and synced as scratch, then renamed over the old one.
fn disk_with_pending_replacement() -> Disk {
    let mut disk = Disk::with_durable_file(SNAPSHOT, b"old");
    disk.write(SCRATCH, "State", b"new");
    disk.sync_now(SCRATCH);
    disk.sync_dir_now();
    disk.rename(SCRATCH, SNAPSHOT);
    disk
}

/// D5. The data was synced, the name was not: the file is lost.
#[test]
fn d5_a_synced_file_vanishes_if_its_creation_is_lost() {
    let mut disk = Disk::default();
    disk.write(LOG, "New", b"new");
    disk.sync_now(LOG);
    assert!(!disk.is_durable(LOG, 0));
    let report = disk.power_cut(&Survival::None);
    assert_eq!(report.names, [NameLoss::Create(LOG)]);
    assert_eq!(contents(&disk), []);
}

/// D5. After `SyncDir` the name is durable; the contents may not be.
#[test]
fn d5_a_name_can_survive_without_contents() {
    let mut disk = Disk::default();
    disk.write(LOG, "New", b"new");
    disk.sync_dir_now();
    assert!(disk.name_is_durable(LOG));
    assert!(!disk.is_durable(LOG, 1));
    assert_eq!(contents(&disk.after_power_cut(&Survival::None)), [(LOG, vec![])]);
}

/// D5. Before `SyncDir` a rename survives or not; the name refers to the old file or the new one,
/// never to none.
#[test]
fn d5_a_renamed_file_has_its_old_or_its_new_name() {
    let disk = disk_with_pending_replacement();
    let outcomes: Vec<_> =
        (0..50).map(|key| contents(&disk.after_power_cut(&subset(key)))).collect();
    let old = vec![(SNAPSHOT, b"old".to_vec()), (SCRATCH, b"new".to_vec())];
    let new = vec![(SNAPSHOT, b"new".to_vec())];
    assert!(outcomes.iter().all(|outcome| *outcome == old || *outcome == new), "{outcomes:?}");
    assert!(outcomes.contains(&old));
    assert!(outcomes.contains(&new));
    let report = disk.clone().power_cut(&Survival::None);
    let lost = [NameLoss::Rename { from: SCRATCH, to: SNAPSHOT }, NameLoss::Remove(SNAPSHOT)];
    assert_eq!(report.names, lost);
}

/// D5. After `SyncDir` it refers to the new one, whatever else is lost.
#[test]
fn d5_a_rename_is_durable_after_sync_dir() {
    let mut disk = disk_with_pending_replacement();
    disk.sync_dir_now();
    for survival in all_survivals(50) {
        assert_eq!(contents(&disk.after_power_cut(&survival)), [(SNAPSHOT, b"new".to_vec())]);
    }
}

/// D5. A rename can survive without the contents being synced: the snapshot exists, and is empty.
#[test]
fn d5_a_rename_can_survive_without_the_contents() {
    let mut disk = Disk::with_durable_file(SNAPSHOT, b"old");
    disk.write(SCRATCH, "State", b"new");
    disk.rename(SCRATCH, SNAPSHOT);
    disk.sync_dir_now();
    assert_eq!(contents(&disk.after_power_cut(&Survival::None)), [(SNAPSHOT, vec![])]);
}

/// D5.
/// 1. Scratch is renamed to a snapshot, and a new scratch is begun.
/// 2. `SyncDir` was issued between the two, and completes after both.
/// 3. The snapshot's name refers to the first file, not the second.
#[test]
fn d5_a_rename_follows_the_file_when_its_old_name_is_reused() {
    let mut disk = Disk::default();
    disk.write(SCRATCH, "State", b"first");
    disk.sync_now(SCRATCH);
    disk.rename(SCRATCH, SNAPSHOT);
    disk.sync_dir(OpId(1));
    disk.write(SCRATCH, "State", b"second");
    disk.sync_now(SCRATCH);
    disk.complete(OpId(1), Ok(())).expect("nothing has failed");
    assert_eq!(contents(&disk.after_power_cut(&Survival::None)), [(SNAPSHOT, b"first".to_vec())]);
    let all = [(SNAPSHOT, b"first".to_vec()), (SCRATCH, b"second".to_vec())];
    assert_eq!(contents(&disk.after_power_cut(&Survival::All)), all);
}

/// D5, never neither.
/// 1. Scratch is durable; it is renamed, and a new scratch is created.
/// 2. Whatever survives of the two, the first file exists under one of its names.
#[test]
fn d5_a_file_is_not_lost_between_its_names_when_the_old_one_is_taken() {
    let mut disk = Disk::with_durable_file(SCRATCH, b"first");
    disk.rename(SCRATCH, SNAPSHOT);
    disk.write(SCRATCH, "State", b"second");
    for key in 0..300 {
        let left = contents(&disk.after_power_cut(&subset(key)));
        assert_eq!(left.iter().filter(|(_, bytes)| bytes == b"first").count(), 1, "{left:?}");
    }
}

/// D5. Two name changes without a barrier between them: the later one survives alone.
#[test]
fn d5_only_a_barrier_orders_name_changes() {
    let mut disk = Disk::with_durable_file(LOG, b"old");
    disk.write(SCRATCH, "State", b"new");
    disk.sync_now(SCRATCH);
    disk.sync_dir_now();
    disk.rename(SCRATCH, SNAPSHOT);
    disk.remove(LOG);
    // What a compaction must not rely on: the log is removed, and the snapshot that replaces it has
    // no name.
    let both_gone = |disk: &Disk| disk.len(LOG).is_none() && disk.len(SNAPSHOT).is_none();
    assert!(some_subset(&disk, both_gone), "removed because of a snapshot that was only visible");
}

/// D6. A removed file comes back with its old contents, until the barrier.
#[test]
fn d6_a_removed_file_can_come_back_until_the_barrier() {
    let mut disk = Disk::with_durable_file(LOG, b"old");
    disk.remove(LOG);
    assert_eq!(contents(&disk), []);
    let report = disk.clone().power_cut(&Survival::None);
    assert_eq!(report.names, [NameLoss::Remove(LOG)]);
    assert!(some_subset(&disk, |disk| disk.text(LOG).as_deref() == Some("old")));
    assert!(some_subset(&disk, |disk| disk.len(LOG).is_none()));
    disk.sync_dir_now();
    assert!(
        all_survivals(50).iter().all(|survival| disk.after_power_cut(survival).len(LOG).is_none())
    );
}

/// D6. A file is removed and written again under the same name; the old one comes back complete,
/// not mixed with the new.
#[test]
fn d6_a_removed_file_comes_back_without_bytes_of_its_successor() {
    let mut disk = Disk::with_durable_file(LOG, b"an old file");
    disk.remove(LOG);
    disk.write(LOG, "New", b"new");
    disk.sync_now(LOG);
    assert_eq!(disk.after_power_cut(&Survival::None).text(LOG).as_deref(), Some("an old file"));
    assert_eq!(disk.after_power_cut(&Survival::All).text(LOG).as_deref(), Some("new"));
}

/// D6. A truncated tail comes back until the barrier, also below bytes appended since.
#[test]
fn d6_a_truncated_tail_can_come_back_until_the_barrier() {
    let mut disk = Disk::with_durable_file(LOG, b"head and old tail");
    disk.truncate(LOG, 4);
    disk.write(LOG, "New", b"-new");
    let report = disk.clone().power_cut(&Survival::None);
    assert_eq!(report.resurrected_tails, 1);
    assert!(some_subset(&disk, |disk| disk.text(LOG).as_deref() == Some("head and old tail")));
    // The truncation is lost and the append is not: it overwrites the tail from where it was
    // issued.
    assert!(some_subset(&disk, |disk| disk.text(LOG).as_deref() == Some("head-new old tail")));
    assert!(some_subset(&disk, |disk| disk.text(LOG).as_deref() == Some("head\0\0\0\0")));
    assert!(disk.is_durable(LOG, 4));
    assert!(!disk.is_durable(LOG, 5));
    disk.sync_now(LOG);
    assert!(
        all_survivals(50).iter().all(|survival| disk
            .after_power_cut(survival)
            .text(LOG)
            .as_deref()
            == Some("head-new"))
    );
}

/// D6. The size grows again over a truncated tail, without data: the old tail is not visible,
/// garbage is.
#[test]
fn d6_a_cut_tail_does_not_show_in_a_later_hole() {
    let mut disk = Disk::with_durable_file(LOG, b"head and old tail");
    disk.truncate(LOG, 4);
    disk.write(LOG, "New", b"-new");
    assert!((0..300).any(|key| {
        let survival =
            Survival::Subset { key, keep: permille(500), tear: false, holes: Holes::Garbage };
        let bytes = disk.after_power_cut(&survival).bytes(LOG).expect("synced name");
        bytes.len() == 8 && &bytes[4..] != b"-new" && bytes[4..] != [0; 4]
    }));
}

/// D5, D6. A file is renamed over another, and then removed. If the rename is lost and the removal
/// is not, the removal does not affect the other file.
#[test]
fn d6_a_removal_follows_the_file_when_its_name_is_reused() {
    let mut disk = disk_with_pending_replacement();
    disk.remove(SNAPSHOT);
    for key in 0..100 {
        let left = disk.after_power_cut(&subset(key));
        assert!(
            left.len(SCRATCH).is_none() || left.text(SNAPSHOT).as_deref() == Some("old"),
            "{left:?}"
        );
    }
}
